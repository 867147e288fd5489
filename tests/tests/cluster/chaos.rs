//! Pods of the job, the operator and the broker are killed at random for a while: the table stays exact, and afterwards the
//! conditions say that all is well.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use data_platform_runner::generate::EventSettings;
use data_platform_runner::random::Random;
use data_platform_tests::{Broker, environment, needs_broker, needs_cluster};

use super::platform::{Platform, condition, is_caught_up};
use crate::events::Stream;

const JOB: &str = "event-aggregation";

#[test]
fn random_kills_of_pods_operator_and_broker_leave_the_table_exact() -> anyhow::Result<()> {
    let cluster = needs_cluster!();
    let _shared = needs_broker!();
    let lasts = Duration::from_secs(environment::rounds(60, 600).into());
    let broker = Broker::private(&["--host", cluster.node_address()])?;
    let mut stream = Stream::new(broker, "chaos", 3, EventSettings::default(), 20.0)?;
    stream.produce(5_000)?;
    let platform = Platform::install(cluster, "chaos", &[])?;
    platform.apply(&platform.event_aggregation(JOB, &stream)?)?;
    platform.wait_for_job(JOB, "to be caught up", is_caught_up)?;

    let seed = environment::seed();
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let (mut kills, began) = ([0_u32; 3], Instant::now());
    while began.elapsed() < lasts || kills.contains(&0) {
        let what = random.below(3) as usize;
        kills[what] += 1;
        if what == 2 {
            stream.broker.kill()?;
            stream.broker.restart()?;
        } else {
            let selector =
                ["dataplatform.io/job=event-aggregation", "app.kubernetes.io/name=data-platform-operator"][what];
            let force = ["delete", "pods", "--selector", selector, "--force", "--grace-period=0"];
            platform.namespace.kubectl(&force)?;
        }
        // The next kill comes in the middle of things, whatever those are by then: at once, or after a commit.
        let goal = committed(&platform)? + i64::from(random.one_in(2));
        stream.produce(1_000)?;
        platform.namespace.wait_for("a commit after a kill", super::platform::TIMEOUT, || {
            (committed(&platform).ok()? >= goal).then_some(())
        })?;
    }
    println!("killed {} pods of the job, {} operators, {} brokers", kills[0], kills[1], kills[2]);
    platform.wait_for_operator()?;
    let job = platform.wait_for_job(JOB, "to be caught up after all kills", is_caught_up)?;
    for kind in ["Stalled", "Progressing"] {
        ensure!(condition(&job, kind)["status"] == "False", "{kind}: {:#}", job["status"]["conditions"]);
    }
    platform.check_closed_windows(JOB, &stream)
}

/// Records in the job's log, whoever wrote them.
fn committed(platform: &Platform) -> anyhow::Result<i64> {
    let volume = platform.namespace.folder_of_claim("data-platform")?;
    let log = volume.join("checkpoints").join(platform.namespace.name()).join(JOB).join("log");
    let newest = std::fs::read_dir(&log).with_context(|| format!("list {}", log.display()))?;
    let names = newest.filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".json")?.parse::<i64>().ok());
    names.max().context("a record in the log")
}
