//! [`JobResource`]: what is to be known of a kind of jobs, without I/O. Everything else is written once for all kinds;
//! what a kind does is [`crate::reconcile::Reconcile`].

use std::fmt::Debug;

use data_platform_crds::job::Job;
use data_platform_crds::resources::{PodSpec, StorageSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::Resource;
use kube::core::NamespaceResourceScope;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cache::JobKind;

/// A kind of jobs.
pub trait JobResource:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + PartialEq
    + DeserializeOwned
    + Serialize
    + Send
    + Sync
    + 'static
{
    /// Which one.
    const KIND: JobKind;
    /// Its status.
    type Status: JobStatus;

    /// Settings of its pods.
    fn pod(&self) -> Option<&PodSpec>;

    /// Where its data lie.
    fn storage(&self) -> Option<&StorageSpec>;

    /// The same job with other metadata and without status.
    fn with_metadata(&self, metadata: ObjectMeta) -> Self;

    /// The job as one of any kind.
    fn into_job(self) -> Job;
}

/// The status of a kind of jobs.
pub trait JobStatus:
    Clone + Debug + Default + PartialEq + DeserializeOwned + Serialize + Send + Sync + 'static
{
    /// Its conditions.
    fn conditions(&self) -> &[Condition];

    /// The generation that it is about.
    fn observed_generation(&self) -> Option<i64>;

    /// Status and reason of the condition Ready: a change of it is a transition, of which an event tells.
    fn ready(&self) -> Option<(&str, &str)> {
        let ready = self.conditions().iter().find(|condition| condition.type_ == "Ready")?;
        Some((&ready.status, &ready.reason))
    }
}
