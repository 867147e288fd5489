//! [`Observed`]: an object as the API server has it: its metadata, and the rest as compact JSON text.
//!
//! A typed Deployment takes 25 kB of memory, its text 3 kB; it is read again when somebody looks. An object that does not
//! fit its type (a poison object) is therefore still listed, and harms only the one who reads it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::Resource;
use kube::core::NamespaceResourceScope;
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

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
    /// The object in its parts: the metadata, and what stands beside them as an object in JSON.
    pub fn into_parts(self) -> (ObjectMeta, Box<str>) {
        (self.metadata, self.body)
    }

    /// What stands beside the metadata: spec, status, data.
    pub fn body(&self) -> Map<String, Value> {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// What stands beside the metadata, as far as a type names it.
    ///
    /// # Errors
    ///
    /// It does not fit the type.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.body)
    }

    /// One of the fields beside the metadata; null if there is none.
    pub fn field(&self, name: &str) -> Value {
        field(&self.body, name)
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
        let metadata = serde_json::to_string(&self.metadata)?;
        as_type(&metadata, &self.body)
    }
}

/// One of the fields of an object in JSON; null if there is none.
pub fn field(body: &str, name: &str) -> Value {
    let fields: BTreeMap<String, &RawValue> = serde_json::from_str(body).unwrap_or_default();
    fields.get(name).and_then(|text| serde_json::from_str(text.get()).ok()).unwrap_or_default()
}

/// The typed object of these metadata, with this body.
///
/// # Errors
///
/// It does not fit its type.
pub fn as_type<T>(metadata: &str, body: &str) -> Result<T, serde_json::Error>
where
    T: Resource<DynamicType = ()> + DeserializeOwned,
{
    let (version, kind) = (T::api_version(&()), T::kind(&()));
    let rest = body.strip_prefix('{').filter(|rest| *rest != "}").map(|rest| format!(",{rest}"));
    let rest = rest.unwrap_or_else(|| "}".to_owned());
    let text = format!(r#"{{"apiVersion":"{version}","kind":"{kind}","metadata":{metadata}{rest}"#);
    // An error of a text names a place in it, which nobody can look at.
    serde_json::from_str(&text).or_else(|_| serde_json::from_value(serde_json::from_str(&text)?))
}

impl<'de, K> Deserialize<'de> for Observed<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Whole(PhantomData))
    }
}

/// Reads an object: everything of it, so that nothing can be wrong, and beside the metadata as the text that it is.
struct Whole<K>(PhantomData<fn() -> K>);

impl<'de, K> Visitor<'de> for Whole<K> {
    type Value = Observed<K>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Observed<K>, A::Error> {
        let (mut metadata, mut body) = (ObjectMeta::default(), String::from("{"));
        while let Some(name) = fields.next_key::<String>()? {
            match name.as_str() {
                "metadata" => metadata = fields.next_value::<Option<Read>>()?.unwrap_or_default().into(),
                "apiVersion" | "kind" => {
                    fields.next_value::<IgnoredAny>()?;
                }
                _ => {
                    let value: Box<RawValue> = fields.next_value()?;
                    let comma = if body.len() > 1 { "," } else { "" };
                    body.push_str(&format!("{comma}{}:{}", json!(name), value.get()));
                }
            }
        }
        body.push('}');
        Ok(Observed { metadata, body: body.into_boxed_str(), kind: PhantomData })
    }
}

/// What is read of metadata. Who manages which field is half of an object, and nothing that we look at.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Read {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<OwnerReference>>,
}

impl From<Read> for ObjectMeta {
    fn from(read: Read) -> Self {
        let Read { name, namespace, uid, resource_version, generation, .. } = read;
        let mut annotations = read.annotations;
        if let Some(annotations) = &mut annotations {
            annotations.remove(LAST_APPLIED);
        }
        Self {
            name,
            namespace,
            uid,
            resource_version,
            generation,
            creation_timestamp: read.creation_timestamp,
            deletion_timestamp: read.deletion_timestamp,
            labels: read.labels,
            annotations,
            owner_references: read.owner_references,
            ..Self::default()
        }
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

    use super::*;

    #[test]
    fn an_object_comes_back_as_it_was() {
        let value = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "a", "annotations": {LAST_APPLIED: "much", "b": "c"}, "managedFields": [{}]},
            "spec": {"replicas": 1, "selector": {}, "template": {}}, "a \"name\"": [1.50],
        });
        // As an answer and as a value.
        let texts = [serde_json::from_str(&value.to_string()).unwrap(), serde_json::from_value(value).unwrap()];
        for observed in texts {
            let observed: Observed<Deployment> = observed;
            let typed = observed.typed().unwrap();
            assert_eq!(typed.spec.unwrap().replicas, Some(1));
            assert_eq!(typed.metadata.annotations.unwrap().len(), 1);
            assert_eq!(typed.metadata.managed_fields, None);
            assert_eq!(observed.field("spec")["replicas"], 1);
            assert_eq!((observed.field("a \"name\""), observed.field("status")), (json!([1.5]), Value::Null));
            assert_eq!(observed.value()["metadata"]["annotations"], json!({"b": "c"}));
        }
        let empty: Observed<Deployment> = serde_json::from_str(r#"{"kind": "x", "metadata": null}"#).unwrap();
        assert!(empty.typed().unwrap().spec.is_none());
    }

    #[test]
    fn an_object_of_a_wrong_shape_is_read_and_says_so_when_it_is_used() {
        let value = json!({"metadata": {"name": "poison"}, "spec": {"sources": 7}});
        let observed: Observed<StreamingJob> = serde_json::from_value(value).unwrap();
        assert_eq!(observed.metadata.name.as_deref(), Some("poison"));
        let error = observed.typed().unwrap_err().to_string();
        assert!(!error.contains("line"), "{error}");
    }
}
