//! Several operators: one works, another takes over at once when it stops and within the lease when it is killed, and two
//! that both believe to lead do no harm.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use data_platform_runner::generate::EventSettings;
use data_platform_tests::{needs_broker, needs_cluster};

use super::platform::{Platform, TIMEOUT};
use crate::events::Stream;

/// From the end of a leader that stops to the next one: 2 s, and as much for a machine that does other things beside.
const HANDED_OVER: Duration = Duration::from_secs(4);
/// The lease of this test, and what the API server and a pod's restart take.
const LEASE: &str = "6s";
const LEASE_ENDS: Duration = Duration::from_secs(6 + 10);

fn leader(platform: &Platform) -> Option<String> {
    let lease = platform.namespace.get_json(&["lease", "data-platform-operator"]).ok()?;
    let holder = lease["spec"]["holderIdentity"].as_str()?;
    // The name of the pod, and what tells two lives of one name apart.
    let pod = holder.split('_').next()?;
    (!pod.is_empty()).then(|| pod.to_owned())
}

fn another_leader(platform: &Platform, than: &str) -> anyhow::Result<String> {
    platform.namespace.wait_for("another leader", TIMEOUT, || leader(platform).filter(|leader| leader != than))
}

#[test]
fn a_standby_takes_over_at_once_or_when_the_lease_ends() -> anyhow::Result<()> {
    let cluster = needs_cluster!();
    let stream = Stream::new(needs_broker!(), "leader", 1, EventSettings::default(), 6.0)?;
    let lease = [
        format!("leaderElection.leaseDuration={LEASE}"),
        "leaderElection.renewDeadline=4s".to_owned(),
        "leaderElection.retryPeriod=1s".to_owned(),
        "replicas=2".to_owned(),
    ];
    let values: Vec<&str> = lease.iter().flat_map(|value| ["--set", value]).collect();
    let platform = Platform::install(cluster, "leader", &values)?;
    let namespace = &platform.namespace;
    let first = platform.namespace.wait_for("a leader", TIMEOUT, || leader(&platform))?;

    // Stopped: it hands over.
    namespace.kubectl(&["delete", "pod", &first, "--wait=false"])?;
    let began = Instant::now();
    let second = another_leader(&platform, &first)?;
    let handed_over = began.elapsed();
    ensure!(handed_over < HANDED_OVER, "the standby took over after {handed_over:?}");
    platform.wait_for_operator()?;

    // Killed: nobody hands over, so the lease must end first.
    namespace.kubectl(&["delete", "pod", &second, "--force", "--grace-period=0"])?;
    let began = Instant::now();
    let third = another_leader(&platform, &second)?;
    println!("handed over in {handed_over:.1?}, taken over after {:.1?}", began.elapsed());
    ensure!(began.elapsed() < LEASE_ENDS, "the lease was taken after {:?}", began.elapsed());
    ensure!(third != first, "a pod's name is new each time");
    platform.apply(&platform.event_aggregation("led", &stream)?)?;
    platform.wait_for_reason("led", "Running")?;
    Ok(())
}

#[test]
fn two_leaders_at_once_do_no_harm() -> anyhow::Result<()> {
    let cluster = needs_cluster!();
    let mut stream = Stream::new(needs_broker!(), "leaders", 1, EventSettings::default(), 6.0)?;
    stream.produce(1_000)?;
    // The chart refuses this; here it stands for two leaders of which one does not know yet that it lost.
    let platform = Platform::install(cluster, "leaders", &["--set", "leaderElection.enabled=false"])?;
    let namespace = &platform.namespace;
    namespace.kubectl(&["scale", "deployment", "data-platform-operator", "--replicas=2"])?;
    platform.wait_for_operator()?;
    for number in 0..5 {
        platform.apply(&platform.event_aggregation(&format!("led-{number}"), &stream)?)?;
    }
    let mut versions = Vec::new();
    for number in 0..5 {
        platform.wait_for_job(&format!("led-{number}"), "to be caught up", super::platform::is_caught_up)?;
        let deployment = namespace.get_json(&["deployment", &format!("led-{number}")])?;
        let generation = deployment["metadata"]["generation"].as_i64().context("a generation")?;
        ensure!(generation <= 2, "two operators undo each other's work: generation {generation}");
        versions.push(deployment["spec"].clone());
    }
    // They agree: what one made the other leaves alone.
    for (number, before) in versions.iter().enumerate() {
        let deployment = namespace.get_json(&["deployment", &format!("led-{number}")])?;
        ensure!(deployment["spec"] == *before, "led-{number} changed: {:#}", deployment["spec"]);
    }
    Ok(())
}
