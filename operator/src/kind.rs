//! [`JobResource`]: what a reconcile needs to know of a kind of jobs. Everything else is written once for all kinds.

use std::fmt::Debug;
use std::future::Future;

use data_platform_crds::job::Job;
use data_platform_crds::resources::{PodSpec, StorageSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::Resource;
use kube::core::NamespaceResourceScope;
use kube::runtime::controller::Action;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cache::JobKind;
use crate::context::Context;
use crate::error::Error;
use crate::observed::Observed;

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

    /// Looks at a job, and does what there is to do.
    fn look(observed: &Observed<Self>, context: &Context) -> impl Future<Output = Result<Action, Error>> + Send;
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
