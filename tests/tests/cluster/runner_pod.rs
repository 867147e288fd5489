//! The image of the runner works as Kubernetes starts it: another user, a read-only root, no rights at all.

use std::time::Duration;

use anyhow::{Context, ensure};
use data_platform_runner::generate::EventSettings;
use data_platform_tests::cluster::RUNNER_IMAGE;
use data_platform_tests::{needs_broker, needs_cluster};
use serde_json::json;

use crate::events::{Stream, check_counts};

/// Longest time from the request for a pod to its end: a machine that also builds, and a job.
const TIMEOUT: Duration = Duration::from_secs(180);
/// 60,000 events in three minutes of event time.
const STEP_MS: f64 = 3.0;

/// A pod of the runner with the security that the operator gives it, with one claim as /data if there is one.
fn pod(name: &str, arguments: &[&str], environment: &[(&str, &str)], claim: Option<&str>) -> String {
    let environment: Vec<_> = environment.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
    let mut volumes = vec![json!({"name": "tmp", "emptyDir": {}})];
    let mut mounts = vec![json!({"name": "tmp", "mountPath": "/tmp"})];
    if let Some(claim) = claim {
        volumes.push(json!({"name": "data", "persistentVolumeClaim": {"claimName": claim}}));
        mounts.push(json!({"name": "data", "mountPath": "/data"}));
    }
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "fsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "runner",
                "image": RUNNER_IMAGE,
                "args": arguments,
                "env": environment,
                "resources": {"limits": {"memory": "512Mi"}},
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": mounts,
            }],
            "volumes": volumes,
        },
    });
    pod.to_string()
}

#[test]
fn the_image_of_the_runner_says_its_version() -> anyhow::Result<()> {
    let cluster = needs_cluster!();
    let namespace = cluster.namespace("version")?;
    namespace.apply(&pod("version", &["version"], &[], None))?;
    let end = namespace.wait_for_end("version", TIMEOUT)?;
    let logs = namespace.logs("version")?;
    ensure!(end.code == 0 && logs.contains(env!("CARGO_PKG_VERSION")), "{end:?}: {logs}");
    Ok(())
}

#[test]
fn a_pod_aggregates_the_events_of_a_broker_into_a_volume() -> anyhow::Result<()> {
    let cluster = needs_cluster!();
    let mut stream = Stream::new(needs_broker!(), "pod", 3, EventSettings::default(), STEP_MS)?;
    stream.produce(60_000)?;
    let namespace = cluster.namespace("aggregation")?;
    namespace.apply(
        "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: data}, \
         spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}",
    )?;
    let topic = format!("spec.sources[0].topics[0]={}", stream.topic);
    let arguments = ["run", "event-aggregation", "--drain", "--starting-offsets", "earliest", "--set", &topic];
    let brokers = stream.broker.address_for_pods()?;
    let environment = [
        ("KAFKA_BOOTSTRAP_SERVER", brokers.as_str()),
        ("OUTPUTS_DIR", "/data/outputs"),
        ("CHECKPOINT_DIR", "/data/checkpoints"),
        ("DATA_PLATFORM_NO_LOCK", "true"),
        ("TERMINATION_MESSAGE_PATH", "/dev/termination-log"),
    ];
    namespace.apply(&pod("aggregation", &arguments, &environment, Some("data")))?;
    let end = namespace.wait_for_end("aggregation", TIMEOUT)?;
    let logs = namespace.logs("aggregation")?;
    ensure!(end.code == 0, "{end:?}: {logs}");
    // The log of a pod is both outputs in one; a bounded job ends with its summary.
    let summary = logs.lines().last().context("a log")?;
    let summary = serde_json::from_str(summary).with_context(|| format!("a summary in {logs}"))?;

    let output = namespace.folder_of_claim("data")?.join("outputs/events_aggregated_realtime");
    let expected = stream.expected()?;
    expected.compare(&output, &[])?.expect_success()?;
    check_counts(&summary, &expected.counts)
}
