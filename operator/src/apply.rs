//! Bringing an object to the state that it should have, by server-side apply, and only where it differs.
//!
//! ```text
//! desired + what is seen -> step (pure) -> Nothing | Create | Change | Blocked
//! ```
//!
//! An object of the same name that the job does not own is never touched, and the API server itself sees to that: what is
//! created must not be there yet, since the cache knows only what carries the operator's label; and what is changed is
//! named by its uid, so that an object that took the name meanwhile is refused.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use kube::{Client, Resource};
use serde_json::Value;

use crate::child::{Child, ChildKind, ObservedChild};
use crate::metrics::Metrics;
use crate::names::{APPLIED, FIELD_MANAGER, canonical, hash};
use crate::observed::controller;

mod covers;

pub use covers::covers;

/// A version that no object ever has: an apply that names it creates, and is a conflict where the name is taken.
const NOT_THERE: &str = "1";

/// An object as it should be.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// Its kind.
    pub kind: ChildKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Everything that is applied, with the hash of it as an annotation.
    pub object: Value,
}

impl Desired {
    /// An object with its hash.
    pub fn new(kind: ChildKind, mut object: Value) -> Self {
        let resource = kind.resource();
        object["apiVersion"] = resource.api_version.into();
        object["kind"] = resource.kind.into();
        let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
        let (namespace, name) = (text("namespace"), text("name"));
        let applied = hash(&canonical(&object));
        object["metadata"]["annotations"][APPLIED] = applied.into();
        Self { kind, namespace, name, object }
    }

    fn applied(&self) -> &str {
        self.object["metadata"]["annotations"][APPLIED].as_str().unwrap_or_default()
    }
}

/// What is to be done with one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is as it should be.
    Nothing,
    /// It is not there.
    Create,
    /// It differs.
    Change {
        /// Which object is meant.
        uid: String,
    },
    /// Somebody else's object has the name.
    LeaveTaken {
        /// Whose, for people.
        owner: String,
    },
    /// A predecessor's object is on its way out; afterwards the name is free.
    WaitForDeletion,
}

/// Decides about one object. `seen`: what has the name now, with its body as far as that is compared; `owner_uid`: the
/// job's.
pub fn step(desired: &Desired, seen: Option<(&ObjectMeta, &Value)>, owner_uid: &str) -> Step {
    let Some((metadata, live)) = seen else { return Step::Create };
    match controller(metadata) {
        Some(owner) if owner.uid == owner_uid => {}
        _ if metadata.deletion_timestamp.is_some() => return Step::WaitForDeletion,
        Some(owner) if is_predecessor(owner, desired) => return Step::WaitForDeletion,
        Some(owner) => return Step::LeaveTaken { owner: format!("it belongs to the {} {}", owner.kind, owner.name) },
        None => return Step::LeaveTaken { owner: "it belongs to nobody".to_owned() },
    }
    if metadata.deletion_timestamp.is_some() {
        return Step::WaitForDeletion;
    }
    let applied = metadata.annotations.as_ref().and_then(|annotations| annotations.get(APPLIED));
    if desired.kind.runs_once()
        || applied.map(String::as_str) == Some(desired.applied()) && covers(live, &desired.object)
    {
        return Step::Nothing;
    }
    Step::Change { uid: metadata.uid.clone().unwrap_or_default() }
}

/// Whether the owner is a deleted job of the same name: the garbage collector takes its children away.
fn is_predecessor(owner: &OwnerReference, desired: &Desired) -> bool {
    let own = &desired.object["metadata"]["ownerReferences"][0];
    own["kind"] == owner.kind.as_str()
        && own["name"] == owner.name.as_str()
        && own["apiVersion"] == owner.api_version.as_str()
}

/// Writes to the API server, and counts it.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    metrics: Metrics,
}

impl Writer {
    /// A writer.
    pub fn new(client: Client, metrics: Metrics) -> Self {
        Self { client, metrics }
    }

    fn api(&self, kind: ChildKind, namespace: &str) -> Api<ObservedChild> {
        Api::namespaced_with(self.client.clone(), namespace, &kind.resource())
    }

    /// What has the name of an object, whoever owns it: its metadata.
    ///
    /// # Errors
    ///
    /// The API server's.
    pub async fn seen(&self, desired: &Desired) -> Result<Option<ObjectMeta>, kube::Error> {
        let found = self.api(desired.kind, &desired.namespace).get_metadata_opt(&desired.name).await?;
        Ok(found.map(|object| object.metadata))
    }

    /// Changes the object with this uid, or without one creates what is not there. Gives it as the API server has it now.
    ///
    /// # Errors
    ///
    /// The API server's; 409 if another object has the name.
    pub async fn apply(&self, desired: &Desired, uid: Option<&str>) -> Result<Child, kube::Error> {
        let mut object = desired.object.clone();
        match uid {
            Some(uid) => object["metadata"]["uid"] = uid.into(),
            None => object["metadata"]["resourceVersion"] = NOT_THERE.into(),
        }
        // Ours are ours: who changed them is overruled.
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        self.metrics.write(desired.kind.name());
        let api = self.api(desired.kind, &desired.namespace);
        let answer = api.patch(&desired.name, &parameters, &Patch::Apply(&object)).await?;
        Ok(Child::of(desired.kind, answer))
    }

    /// Creates an object that nobody changes afterwards. One that is there already is no error: the next look decides.
    ///
    /// # Errors
    ///
    /// The API server's.
    pub async fn create(&self, kind: ChildKind, namespace: &str, object: Value) -> Result<(), kube::Error> {
        let object: DynamicObject = serde_json::from_value(object).map_err(kube::Error::SerdeError)?;
        let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        self.metrics.write(kind.name());
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &kind.resource());
        match api.create(&parameters, &object).await {
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            answer => answer.map(|_| ()),
        }
    }

    /// Deletes the object with this uid; one that is gone, or another one of the name, is no error.
    ///
    /// # Errors
    ///
    /// The API server's.
    pub async fn delete(&self, kind: ChildKind, metadata: &ObjectMeta) -> Result<(), kube::Error> {
        let (namespace, name) = (metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref());
        let preconditions = Preconditions { uid: metadata.uid.clone(), resource_version: None };
        let parameters = DeleteParams::background().preconditions(preconditions);
        self.metrics.write(kind.name());
        match self.api(kind, namespace).delete(name.unwrap_or_default(), &parameters).await {
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
            answer => answer.map(|_| ()),
        }
    }
}

/// The reference by which a job owns its children.
pub fn owner_reference<K: Resource<DynamicType = ()>>(job: &K) -> Option<OwnerReference> {
    job.controller_owner_ref(&())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn desired() -> Desired {
        let owner = json!({"apiVersion": "dataplatform.io/v1alpha1", "kind": "StreamingJob", "name": "a", "uid": "u1", "controller": true});
        Desired::new(
            ChildKind::Service,
            json!({"metadata": {"name": "a", "namespace": "n", "ownerReferences": [owner]}, "spec": {"clusterIP": "None"}}),
        )
    }

    /// The object as the API server has it after an apply.
    fn live(desired: &Desired) -> Value {
        let mut live = desired.object.clone();
        live["metadata"]["uid"] = "child".into();
        live["metadata"]["resourceVersion"] = "7".into();
        live["spec"]["sessionAffinity"] = "None".into();
        live
    }

    fn decide(live: &Value, owner_uid: &str) -> Step {
        let metadata: ObjectMeta = serde_json::from_value(live["metadata"].clone()).unwrap();
        step(&desired(), Some((&metadata, live)), owner_uid)
    }

    #[test]
    fn only_what_differs_is_written() {
        let live = live(&desired());
        assert_eq!(decide(&live, "u1"), Step::Nothing);
        assert_eq!(step(&desired(), None, "u1"), Step::Create);
        for (pointer, value) in
            [("/spec/clusterIP", "10.0.0.1"), ("/metadata/annotations/dataplatform.io~1applied", "old")]
        {
            let mut changed = live.clone();
            *changed.pointer_mut(pointer).unwrap() = value.into();
            assert_eq!(decide(&changed, "u1"), Step::Change { uid: "child".to_owned() }, "{pointer}");
        }
    }

    #[test]
    fn what_belongs_to_others_is_left() {
        let mut foreign = live(&desired());
        foreign["metadata"]["ownerReferences"] = json!([]);
        assert!(matches!(decide(&foreign, "u1"), Step::LeaveTaken { .. }));
        foreign["metadata"]["ownerReferences"] =
            json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": "x", "uid": "u9", "controller": true}]);
        let Step::LeaveTaken { owner } = decide(&foreign, "u1") else { panic!("it is somebody else's") };
        assert!(owner.contains("Deployment x"), "{owner}");
    }

    #[test]
    fn what_a_predecessor_left_is_waited_for() {
        assert_eq!(decide(&live(&desired()), "u2"), Step::WaitForDeletion);
        let mut leaving = live(&desired());
        leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        assert_eq!(decide(&leaving, "u1"), Step::WaitForDeletion);
    }
}
