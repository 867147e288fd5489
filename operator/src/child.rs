//! The kinds of objects that a job is made of, each with all that differs between them, and what was seen of them.

use std::borrow::Cow;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::api::ApiResource;
use kube::core::DynamicResourceScope;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::cache::{Cache, Cached};
use crate::names::{CHECK_LABEL, LABEL_PREFIX};
use crate::observed::{Observed, as_type, controller, field, resource_version};
use crate::packed::{Dictionary, Packed};

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

    /// It is immutable and named by its content: of it the metadata are enough, and are all that is kept.
    pub fn is_named_by_content(self) -> bool {
        self == Self::ConfigMap
    }

    /// What of an object beside its metadata is read: of the status of a Deployment, which changes several times while a pod
    /// comes up, only why there is no pod.
    fn kept(self, body: Box<str>) -> Box<str> {
        match self {
            Self::ConfigMap => "{}".into(),
            Self::Service => json!({"spec": field(&body, "spec")}).to_string().into_boxed_str(),
            Self::Deployment => {
                let status = field(&body, "status");
                let conditions = status["conditions"].as_array().into_iter().flatten();
                let failures: Vec<&Value> = conditions.filter(|one| one["type"] == "ReplicaFailure").collect();
                json!({"spec": field(&body, "spec"), "status": {"conditions": failures}}).to_string().into_boxed_str()
            }
            Self::CronJob | Self::Job => body,
        }
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

/// A child of any kind as the API server gives it.
pub type ObservedChild = Observed<AnyKind>;

impl Resource for ObservedChild {
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

/// The first objects of each kind: their metadata, and what else is read of them.
static FIRST: [(Dictionary, Dictionary); ChildKind::ALL.len()] =
    [const { (Dictionary::new(), Dictionary::new()) }; ChildKind::ALL.len()];

/// A child as it is kept: what is read of it, as packed text. The metadata of an object alone take 3 kB in their type.
#[derive(Clone, Debug)]
pub struct Child {
    version: u64,
    kind: ChildKind,
    metadata: Packed,
    body: Packed,
}

impl Child {
    /// What is kept of a child.
    pub fn of(kind: ChildKind, observed: ObservedChild) -> Self {
        let version = resource_version(&observed.metadata);
        let (mut metadata, body) = observed.into_parts();
        // Others count here what they do.
        let is_read = |name: &str| name.starts_with(LABEL_PREFIX) || name.starts_with("batch.kubernetes.io/");
        metadata.annotations.iter_mut().for_each(|annotations| annotations.retain(|name, _| is_read(name)));
        let (first_metadata, first_body) = &FIRST[kind as usize];
        let metadata = first_metadata.pack(&serde_json::to_string(&metadata).unwrap_or_default());
        Self { version, kind, metadata, body: first_body.pack(&kind.kept(body)) }
    }

    /// Its metadata.
    pub fn metadata(&self) -> ObjectMeta {
        serde_json::from_str(&self.metadata_text()).unwrap_or_default()
    }

    fn metadata_text(&self) -> String {
        FIRST[self.kind as usize].0.unpack(&self.metadata)
    }

    fn body_text(&self) -> String {
        FIRST[self.kind as usize].1.unpack(&self.body)
    }

    /// Its version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The whole object as a value, without kind and version.
    pub fn value(&self) -> Value {
        let mut value: Value = serde_json::from_str(&self.body_text()).unwrap_or_default();
        value["metadata"] = serde_json::from_str(&self.metadata_text()).unwrap_or_default();
        value
    }

    /// The object as one of a type.
    ///
    /// # Errors
    ///
    /// It does not fit it.
    pub fn as_type<T>(&self) -> Result<T, serde_json::Error>
    where
        T: Resource<DynamicType = ()> + DeserializeOwned,
    {
        as_type(&self.metadata_text(), &self.body_text())
    }

    /// Whether the job with this uid owns it.
    pub fn is_owned_by(&self, uid: &str) -> bool {
        controller(&self.metadata()).is_some_and(|owner| owner.uid == uid)
    }
}

impl Cached for Child {
    fn metadata(&self) -> Cow<'_, ObjectMeta> {
        Cow::Owned(self.metadata())
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn says_the_same_as(&self, other: &Self) -> bool {
        // Every write changes the version, and the generation only counts.
        let told = |child: &Self| ObjectMeta { resource_version: None, generation: None, ..child.metadata() };
        self.body == other.body && (self.metadata == other.metadata || told(self) == told(other))
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
