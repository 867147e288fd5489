//! A streaming job as its user has it: applied, looked at, stopped, moved, deleted and created again.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use data_platform_runner::generate::EventSettings;
use data_platform_tests::{needs_broker, needs_cluster};

use super::platform::{Platform, condition, is_caught_up};
use crate::events::Stream;

/// 20,000 events in two minutes of event time.
const STEP_MS: f64 = 6.0;
/// From `kubectl apply` to the first rows in the table: 10 s are promised, on a machine that does nothing else beside.
const FIRST_OUTPUT: Duration = Duration::from_secs(30);

/// Whether a folder has a table's file, at any depth.
fn has_rows(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.into_iter().any(|path| path.extension().is_some_and(|end| end == "parquet") || has_rows(&path))
}

#[test]
fn the_first_rows_are_there_soon_after_a_job_is_applied() -> anyhow::Result<()> {
    let cluster = needs_cluster!();
    let mut stream = Stream::new(needs_broker!(), "soon", 3, EventSettings::default(), STEP_MS)?;
    stream.produce(20_000)?;
    let platform = Platform::install(cluster, "soon", &[])?;
    // It binds the volume, which is the cluster's time and not ours.
    platform.apply(&platform.event_aggregation("first", &stream)?)?;
    platform.wait_for_job("first", "to be caught up", is_caught_up)?;
    let output = platform.namespace.folder_of_claim("data-platform")?.join("outputs/second");
    let began = Instant::now();
    platform.apply(&platform.event_aggregation("second", &stream)?)?;
    platform.namespace.wait_for("the first rows", FIRST_OUTPUT, || has_rows(&output).then_some(()))?;
    println!("rows {:.1} s after kubectl apply", began.elapsed().as_secs_f64());
    Ok(())
}

#[test]
fn a_job_is_applied_stopped_deleted_and_created_again_and_its_table_stays_exact() -> anyhow::Result<()> {
    let cluster = needs_cluster!();
    let mut stream = Stream::new(needs_broker!(), "k8s", 3, EventSettings::default(), STEP_MS)?;
    stream.produce(20_000)?;
    let platform = Platform::install(cluster, "streaming", &[])?;
    let name = "event-aggregation";
    let job = platform.event_aggregation(name, &stream)?;
    platform.apply(&job)?;
    platform.namespace.kubectl(&["wait", "--for=condition=Ready", "--timeout=180s", "sj/event-aggregation"])?;
    platform.wait_for_job(name, "to be caught up", is_caught_up)?;

    let table = platform.namespace.kubectl(&["get", "sj"])?;
    let header = "NAME READY STATE LAG FRESHNESS LAST CHECKPOINT AGE";
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    ensure!(words(table.lines().next().unwrap_or_default()) == header, "{table}");
    ensure!(words(&table).contains("event-aggregation True Running 0"), "{table}");
    let both = platform.namespace.kubectl(&["get", "dataplatform"])?;
    ensure!(both.contains("event-aggregation"), "{both}");

    // A pod that dies is made again, and goes on.
    let pod = platform.pods(name)?.pop().context("a pod")?;
    platform.namespace.kubectl(&["delete", "pod", &pod, "--force", "--grace-period=0"])?;
    stream.produce(10_000)?;
    platform.wait_for_job(name, "to go on in another pod", |job| {
        is_caught_up(job) && platform.pods(name).is_ok_and(|pods| !pods.contains(&pod))
    })?;

    // A stop keeps windows open; kubectl scale is the same stop.
    platform.namespace.kubectl(&["scale", "sj/event-aggregation", "--replicas=0"])?;
    platform.wait_for_reason(name, "Suspended")?;
    stream.produce(10_000)?;
    platform.namespace.kubectl(&["scale", "sj/event-aggregation", "--replicas=1"])?;
    platform.wait_for_job(name, "to be caught up after the stop", is_caught_up)?;
    let refused = platform.namespace.kubectl(&["scale", "sj/event-aggregation", "--replicas=2"]);
    ensure!(refused.is_err_and(|error| format!("{error:#}").contains("replicas")), "two pods are not exact yet");

    // Deleted with everything that the operator made; the data stay, and a new job of the name goes on.
    platform.namespace.kubectl(&["delete", "sj", name])?;
    platform.namespace.wait_for("the pod to go with its job", super::platform::TIMEOUT, || {
        platform.pods(name).ok()?.is_empty().then_some(())
    })?;
    stream.produce(10_000)?;
    platform.apply(&job)?;
    let again = platform.wait_for_job(name, "to be caught up again", is_caught_up)?;
    ensure!(again["status"]["lastCheckpoint"]["version"].as_i64() > Some(4), "it went on: {:#}", again["status"]);
    platform.check_closed_windows(name, &stream)?;
    Ok(())
}

#[test]
fn drift_is_repaired_a_restart_is_one_and_an_upgrade_restarts_nothing() -> anyhow::Result<()> {
    let cluster = needs_cluster!();
    let mut stream = Stream::new(needs_broker!(), "drift", 1, EventSettings::default(), STEP_MS)?;
    stream.produce(100)?;
    let platform = Platform::install(cluster, "drift", &[])?;
    let (name, namespace) = ("drift", &platform.namespace);
    platform.apply(&platform.event_aggregation(name, &stream)?)?;
    platform.wait_for_job(name, "to be caught up", is_caught_up)?;
    let pod = platform.pods(name)?.pop().context("a pod")?;

    namespace.kubectl(&["delete", "service", name])?;
    namespace
        .wait_for("the Service to be back", super::platform::TIMEOUT, || namespace.get_json(&["service", name]).ok())?;
    namespace.kubectl(&[
        "patch",
        "service",
        name,
        "--type=json",
        "--patch",
        r#"[{"op":"replace","path":"/spec/ports/0/port","value":1}]"#,
    ])?;
    namespace.wait_for("the Service to be as it was", super::platform::TIMEOUT, || {
        (namespace.get_json(&["service", name]).ok()?["spec"]["ports"][0]["port"] == 9999).then_some(())
    })?;

    // Another release of the chart, with another image of the runner: what runs goes on as it is.
    platform.helm(&["upgrade"], &["--set", "runner.image.tag=other", "--set", "logging.level=debug"])?;
    platform.wait_for_operator()?;
    platform
        .wait_for_job(name, "to be looked at by the new operator", |job| condition(job, "Ready")["status"] == "True")?;
    ensure!(platform.pods(name)? == [pod.clone()], "an upgrade restarts no job");
    platform.helm(&["upgrade"], &[])?;
    platform.wait_for_operator()?;

    namespace.kubectl(&["annotate", "sj", name, "dataplatform.io/restartedAt=now"])?;
    platform.wait_for_job(name, "to run in a new pod", |job| {
        is_caught_up(job) && platform.pods(name).is_ok_and(|pods| pods.len() == 1 && pods[0] != pod)
    })?;

    // The release goes; jobs, their pods and their data stay.
    let pod = platform.pods(name)?.pop().context("a pod")?;
    namespace.helm(&["uninstall", "data-platform", "--wait"])?;
    ensure!(platform.job("sj", name).is_ok() && platform.pods(name)? == [pod], "uninstalling touches no job");
    namespace.get_json(&["persistentvolumeclaim", "data-platform"])?;
    Ok(())
}
