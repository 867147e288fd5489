//! Volumes that do not come to a pod's node: a claim that serves one node at a time and is attached to another one, above
//! all. The pod itself says nothing, for as long as it takes, and a schedule that forbids two runs then starts no other.

use std::sync::Arc;

use data_platform_crds::condition::Reason;
use k8s_openapi::api::events::v1::Event;
use kube::Client;
use kube::api::{Api, ListParams};

use crate::clock;
use crate::events::newest;
use crate::pod::PodFacts;

/// What is said of a pod whose volumes do not come to its node.
const NO_VOLUME: [&str; 2] = ["FailedAttachVolume", "FailedMount"];

/// A pod with what its events say, if it has a node, does not start and says nothing itself: the kubelet tells of volumes
/// that do not come by events alone.
pub async fn explained(pod: Arc<PodFacts>, client: &Client) -> Arc<PodFacts> {
    if pod.odd_from().is_none_or(|odd| clock::now() < odd) {
        return pod;
    }
    let (Some(namespace), Some(uid)) = (&pod.metadata.namespace, &pod.metadata.uid) else { return pod };
    let api = Api::<Event>::namespaced(client.clone(), namespace);
    match api.list(&ListParams::default().fields(&format!("regarding.uid={uid}"))).await {
        Ok(events) => match volume_trouble(events.items) {
            Some(trouble) => Arc::new(PodFacts { trouble: Some(trouble), ..pod.as_ref().clone() }),
            None => pod,
        },
        Err(error) => {
            tracing::debug!(%error, "the events of a pod cannot be read");
            pod
        }
    }
}

/// What keeps the volumes of a pod away.
fn volume_trouble(mut events: Vec<Event>) -> Option<(Reason, String)> {
    events.retain(|event| event.reason.as_deref().is_some_and(|reason| NO_VOLUME.contains(&reason)));
    let note = newest(&events)?;
    let cure = if note.contains("Multi-Attach") {
        ": the claim serves one node at a time: make room on the node that has it, or use a claim with ReadWriteMany"
    } else {
        ""
    };
    Some((Reason::ContainerFailed, format!("{note}{cure}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_volume_that_another_node_has_is_told_with_what_to_do() {
        let event = |reason: &str, note: &str| -> Event {
            let time = "2026-02-16T12:00:01.000000Z";
            serde_json::from_value(json!({"metadata": {}, "reason": reason, "note": note, "eventTime": time})).unwrap()
        };
        let attach =
            event("FailedAttachVolume", "Multi-Attach error for volume \"pvc-1\": Volume is already used by pod(s) a");
        let (reason, message) = volume_trouble(vec![event("Scheduled", "to n2"), attach]).unwrap();
        assert_eq!(reason, Reason::ContainerFailed);
        assert!(message.starts_with("Multi-Attach error") && message.contains("ReadWriteMany"), "{message}");
        let (_, message) = volume_trouble(vec![event("FailedMount", "configmap \"x\" not found")]).unwrap();
        assert_eq!(message, "configmap \"x\" not found");
        assert_eq!(volume_trouble(vec![event("Pulling", "image")]), None);
    }
}
