//! The kinds of objects that a job is made of, each with all that differs between them, and what was seen of them.

use std::borrow::Cow;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::api::ApiResource;
use kube::core::DynamicResourceScope;

use crate::cache::Cache;
use crate::names::CHECK_LABEL;
use crate::observed::Observed;

/// The kinds of children.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChildKind {
    /// The runner of a streaming job.
    Deployment,
    /// The runner's address.
    Service,
    /// The schedule of a batch job.
    CronJob,
    /// The one run of a batch job without a schedule.
    Job,
    /// The runner's configuration.
    ConfigMap,
}

impl ChildKind {
    /// Every kind, what makes pods before what pods mount: in this order they go.
    pub const ALL: [Self; 5] = [Self::Deployment, Self::Service, Self::CronJob, Self::Job, Self::ConfigMap];

    /// How the API server calls it.
    pub fn resource(self) -> ApiResource {
        match self {
            Self::Deployment => ApiResource::erase::<Deployment>(&()),
            Self::Service => ApiResource::erase::<Service>(&()),
            Self::CronJob => ApiResource::erase::<CronJob>(&()),
            Self::Job => ApiResource::erase::<Job>(&()),
            Self::ConfigMap => ApiResource::erase::<ConfigMap>(&()),
        }
    }

    /// Its `kind`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::Service => "Service",
            Self::CronJob => "CronJob",
            Self::Job => "Job",
            Self::ConfigMap => "ConfigMap",
        }
    }

    /// It is immutable and named by its content: of it the metadata are enough.
    pub fn is_named_by_content(self) -> bool {
        self == Self::ConfigMap
    }

    /// It runs once: what it was made with cannot be changed, and it goes only when it has ended.
    pub fn runs_once(self) -> bool {
        self == Self::Job
    }
}

/// Whether an object belongs to a check of a job's SQL, and to no run.
pub fn is_check(metadata: &ObjectMeta) -> bool {
    metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(CHECK_LABEL))
}

/// Stands for the type of a child whose kind is a value.
pub enum AnyKind {}

/// A child, of any kind.
pub type Child = Observed<AnyKind>;

impl Resource for Child {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }
    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }
    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }
    fn api_version(resource: &ApiResource) -> Cow<'_, str> {
        resource.api_version.as_str().into()
    }
    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// What was seen of the children in a scope.
#[derive(Debug, Default)]
pub struct Children {
    caches: [Cache<Child>; ChildKind::ALL.len()],
}

impl Children {
    /// Those of a kind.
    pub fn of(&self, kind: ChildKind) -> &Cache<Child> {
        &self.caches[kind as usize]
    }

    /// Whether every kind was read whole once.
    pub fn is_synced(&self) -> bool {
        self.caches.iter().all(Cache::is_synced)
    }
}
