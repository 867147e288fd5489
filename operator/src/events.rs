//! Events of Kubernetes: one per transition of a job, created and never changed; at most a hundred an hour for a job. One
//! that cannot be written harms nothing.

use data_platform_crds::condition::{Standing, told};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, PostParams};

use crate::names::FIELD_MANAGER;

/// Longest note of an event that Kubernetes takes, in bytes.
const NOTE_BYTES_MAX: usize = 1024;

/// A transition of a job.
#[derive(Clone, Debug)]
pub struct Transition {
    /// The job.
    pub job: ObjectReference,
    /// Its new reason.
    pub reason: &'static str,
    /// What that says of it.
    pub standing: Standing,
    /// What happened and what to do.
    pub message: String,
    /// Transitions before it that had no event, because the job had too many.
    pub untold: u32,
}

/// The event of a transition.
pub fn event(transition: &Transition, instance: &str, now: Timestamp) -> Event {
    let is_normal = transition.standing.is_harmless();
    let name = transition.job.name.clone().unwrap_or_default();
    let note = match transition.untold {
        0 => transition.message.clone(),
        untold => format!("({untold} changes before this one were not told) {}", transition.message),
    };
    Event {
        metadata: ObjectMeta {
            namespace: transition.job.namespace.clone(),
            name: Some(format!("{name}.{:x}", now.as_nanosecond())),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        action: Some("Reconcile".to_owned()),
        type_: Some(if is_normal { "Normal" } else { "Warning" }.to_owned()),
        reason: Some(transition.reason.to_owned()),
        note: Some(told(&note, NOTE_BYTES_MAX)),
        regarding: Some(transition.job.clone()),
        reporting_controller: Some(FIELD_MANAGER.to_owned()),
        reporting_instance: Some(instance.to_owned()),
        ..Event::default()
    }
}

/// Writes the event of a transition.
pub async fn publish(client: &Client, instance: &str, transition: &Transition) {
    let event = event(transition, instance, Timestamp::now());
    let api = Api::<Event>::namespaced(client.clone(), transition.job.namespace.as_deref().unwrap_or_default());
    if let Err(error) = api.create(&PostParams::default(), &event).await {
        tracing::debug!(%error, "an event was not written");
    }
}
