//! Events of Kubernetes: one per transition of a job, created and never changed; at most a hundred an hour for a job. One
//! that cannot be written harms nothing. And what the events of Kubernetes say of a Job that gets no pod: nothing else does.

use data_platform_crds::condition::{Health, joined, shortened};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, ListParams, PostParams};

use crate::clock;
use crate::names::FIELD_MANAGER;

/// Longest note of an event that Kubernetes takes, in bytes.
const NOTE_BYTES_MAX: usize = 1024;
/// What of it is for what happened; the rest is for what to do.
const WHAT_BYTES_MAX: usize = 640;

/// What the Job controller says of a pod that it could not make.
const NO_POD: &str = "FailedCreate";

/// A transition of a job.
#[derive(Clone, Debug)]
pub struct Transition {
    /// The job.
    pub job: ObjectReference,
    /// Its new reason.
    pub reason: &'static str,
    /// What that says of it.
    pub health: Health,
    /// What happened.
    pub message: String,
    /// What to do.
    pub hint: String,
    /// Transitions before it that had no event, because the job had too many.
    pub untold: u32,
}

/// The event of a transition.
pub fn event(transition: &Transition, instance: &str, now: Timestamp) -> Event {
    let is_normal = transition.health.is_harmless();
    let name = transition.job.name.clone().unwrap_or_default();
    let what = match transition.untold {
        0 => transition.message.clone(),
        untold => format!("({untold} changes before this one were not told) {}", transition.message),
    };
    let is_short = joined(&what, &transition.hint, NOTE_BYTES_MAX + 1).len() <= NOTE_BYTES_MAX;
    let what = if is_short { what } else { shortened(&what, WHAT_BYTES_MAX) };
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
        note: Some(joined(&what, &transition.hint, NOTE_BYTES_MAX)),
        regarding: Some(transition.job.clone()),
        reporting_controller: Some(FIELD_MANAGER.to_owned()),
        reporting_instance: Some(instance.to_owned()),
        ..Event::default()
    }
}

/// Writes the event of a transition.
pub async fn publish(client: &Client, instance: &str, transition: &Transition) {
    let event = event(transition, instance, clock::now());
    let api = Api::<Event>::namespaced(client.clone(), transition.job.namespace.as_deref().unwrap_or_default());
    if let Err(error) = api.create(&PostParams::default(), &event).await {
        tracing::debug!(%error, "an event was not written");
    }
}

/// Why Kubernetes makes no pod for the Job with this uid; `None` if no event says so, or none can be read.
pub async fn pod_refusal(client: &Client, namespace: &str, uid: &str) -> Option<String> {
    let api = Api::<Event>::namespaced(client.clone(), namespace);
    let of_job = ListParams::default().fields(&format!("regarding.uid={uid},reason={NO_POD}"));
    match api.list(&of_job).await {
        Ok(events) => newest(&events.items).map(without_pod_name),
        Err(error) => {
            tracing::debug!(%error, "the events of a Job cannot be read");
            None
        }
    }
}

/// The note of the newest event; `None` without one. Kubernetes' own controllers still write the older form, and count where one repeats.
pub fn newest(events: &[Event]) -> Option<&str> {
    let time = |event: &Event| {
        let counted = event.deprecated_last_timestamp.as_ref().map(|time| time.0);
        let series = event.series.as_ref().map(|series| series.last_observed_time.0);
        series.or(counted).or(event.event_time.as_ref().map(|time| time.0))
    };
    events.iter().max_by_key(|event| time(event))?.note.as_deref()
}

/// A refusal without the name of the pod that was not made: each attempt has another one, and the trouble is the same.
fn without_pod_name(note: &str) -> String {
    let refusal = note.split_once("\" is forbidden: ").map_or(note, |(_, refusal)| refusal);
    refusal.trim_start_matches("Error creating: ").to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_note_that_is_too_long_is_cut_in_what_happened_and_never_in_what_to_do() {
        let note = |message: &str, untold: u32| {
            let (message, hint) = (message.to_owned(), "give the operator a default storage".to_owned());
            let (job, health) = (ObjectReference::default(), Health::Stalled);
            let transition = Transition { job, reason: "StorageMissing", health, message, hint, untold };
            event(&transition, "operator-1", Timestamp::UNIX_EPOCH).note.unwrap()
        };
        assert_eq!(note("there is none", 0), "there is none; give the operator a default storage");
        for message in ["\"ü\n".repeat(900), format!("{}\n  what to do: raise the limit", "x".repeat(900))] {
            for untold in [0, 7] {
                let note = note(&message, untold);
                assert!(note.len() <= 1024 && note.ends_with("; give the operator a default storage"), "{note}");
                assert_eq!(note.contains("not told"), untold > 0, "{note}");
                assert_eq!(note.contains("what to do: raise the limit"), message.starts_with('x'), "{note}");
            }
        }
    }

    #[test]
    fn the_newest_event_says_why_there_is_no_pod_whatever_its_form() {
        let event = |note: &str, times: serde_json::Value| -> Event {
            let mut event = json!({"metadata": {}, "note": note});
            event.as_object_mut().unwrap().extend(times.as_object().unwrap().clone());
            serde_json::from_value(event).unwrap()
        };
        let old = event("old", json!({"deprecatedLastTimestamp": "2026-02-16T12:00:00Z"}));
        let counted = event("counted", json!({"deprecatedLastTimestamp": "2026-02-16T12:00:02Z"}));
        let new = event("new", json!({"eventTime": "2026-02-16T12:00:01.000000Z"}));
        let last = "2026-02-16T12:00:03.000000Z";
        let series =
            json!({"eventTime": "2026-02-16T11:00:00.000000Z", "series": {"count": 2, "lastObservedTime": last}});
        assert_eq!(newest(&[old.clone(), counted.clone(), new.clone()]), Some("counted"));
        assert_eq!(newest(&[old.clone(), new.clone()]), Some("new"));
        assert_eq!(newest(&[counted, event("series", series), old]), Some("series"));
        assert_eq!(newest(&[]), None);
    }

    #[test]
    fn every_attempt_gives_the_same_words() {
        let quota = "exceeded quota: full, requested: pods=1, used: pods=2, limited: pods=2";
        let note = |pod: &str| format!("Error creating: pods \"a-1-{pod}\" is forbidden: {quota}");
        assert_eq!(without_pod_name(&note("x7k2p")), quota);
        assert_eq!(
            without_pod_name("Error creating: no PriorityClass with name x was found"),
            "no PriorityClass with name x was found"
        );
    }
}
