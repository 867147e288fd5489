//! [`Observed`]: an object as the API server has it, kept small: its metadata, and the rest as compact JSON text.
//!
//! A typed Deployment takes 25 kB of memory, its text 3 kB; it is read again when somebody looks. An object that does not
//! fit its type (a poison object) is therefore still listed, and harms only the one who reads it.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use kube::core::NamespaceResourceScope;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// Where kubectl keeps what was applied: as large as the object itself, and nothing that we look at.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// An object of kind `K`, as text.
pub struct Observed<K> {
    /// Its metadata, without what nobody here reads.
    pub metadata: ObjectMeta,
    body: Box<str>,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Observed<K> {
    fn clone(&self) -> Self {
        Self { metadata: self.metadata.clone(), body: self.body.clone(), kind: PhantomData }
    }
}

impl<K> fmt::Debug for Observed<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observed").field("name", &self.metadata.name).field("body", &self.body).finish()
    }
}

impl<K> Observed<K> {
    /// An object from its parts; `body` is what stands beside the metadata.
    pub fn new(mut metadata: ObjectMeta, mut body: Map<String, Value>) -> Self {
        metadata.managed_fields = None;
        if let Some(annotations) = &mut metadata.annotations {
            annotations.remove(LAST_APPLIED);
        }
        body.remove("apiVersion");
        body.remove("kind");
        body.remove("metadata");
        Self { metadata, body: Value::Object(body).to_string().into_boxed_str(), kind: PhantomData }
    }

    /// What stands beside the metadata: spec, status, data.
    pub fn body(&self) -> Map<String, Value> {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// The whole object as a value, without kind and version.
    pub fn value(&self) -> Value {
        let mut body = self.body();
        body.insert("metadata".to_owned(), serde_json::to_value(&self.metadata).unwrap_or_default());
        Value::Object(body)
    }

    /// The typed object.
    ///
    /// # Errors
    ///
    /// It does not fit its type.
    pub fn typed(&self) -> Result<K, serde_json::Error>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned,
    {
        self.as_type()
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
        let mut value = self.value();
        value["apiVersion"] = T::api_version(&()).into();
        value["kind"] = T::kind(&()).into();
        serde_json::from_value(value)
    }
}

/// What is read of an object: everything, so that nothing of it can be wrong.
#[derive(Deserialize)]
struct Whole {
    #[serde(default)]
    metadata: ObjectMeta,
    #[serde(flatten)]
    body: Map<String, Value>,
}

impl<'de, K> Deserialize<'de> for Observed<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let whole = Whole::deserialize(deserializer)?;
        Ok(Self::new(whole.metadata, whole.body))
    }
}

impl<K: Resource<DynamicType = ()>> Resource for Observed<K> {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        K::kind(&())
    }
    fn group((): &()) -> Cow<'_, str> {
        K::group(&())
    }
    fn version((): &()) -> Cow<'_, str> {
        K::version(&())
    }
    fn plural((): &()) -> Cow<'_, str> {
        K::plural(&())
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// The resource version as a number. They are opaque by the letter, but every API server counts, and an object that is
/// older than the one we have is only worth a repeated look.
pub fn resource_version(metadata: &ObjectMeta) -> u64 {
    metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// The controller among an object's owners.
pub fn controller(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    metadata.owner_references.as_deref()?.iter().find(|owner| owner.controller == Some(true))
}

#[cfg(test)]
mod tests {
    use data_platform_crds::streaming_job::StreamingJob;
    use k8s_openapi::api::apps::v1::Deployment;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_comes_back_as_it_was() {
        let value = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "a", "annotations": {LAST_APPLIED: "much", "b": "c"}, "managedFields": [{}]},
            "spec": {"replicas": 1, "selector": {}, "template": {}},
        });
        let observed: Observed<Deployment> = serde_json::from_value(value).unwrap();
        let typed = observed.typed().unwrap();
        assert_eq!(typed.spec.unwrap().replicas, Some(1));
        assert_eq!(typed.metadata.annotations.unwrap().len(), 1);
        assert_eq!(typed.metadata.managed_fields, None);
    }

    #[test]
    fn an_object_of_a_wrong_shape_is_read_and_says_so_when_it_is_used() {
        let value = json!({"metadata": {"name": "poison"}, "spec": {"sources": 7}});
        let observed: Observed<StreamingJob> = serde_json::from_value(value).unwrap();
        assert_eq!(observed.metadata.name.as_deref(), Some("poison"));
        assert!(observed.typed().is_err());
    }
}
