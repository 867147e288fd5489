//! Pods of the job, the operator, the API server and the broker are killed at random for a while: the table stays exact,
//! and afterwards the conditions say that all is well.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use data_platform_runner::generate::EventSettings;
use data_platform_runner::random::Random;
use data_platform_tests::{Broker, environment, needs_broker, needs_cluster_alone, wait_for};

use super::platform::{OPERATOR, Platform, TIMEOUT, condition, is_caught_up};
use crate::events::Stream;

const JOB: &str = "event-aggregation";
/// What is killed.
const VICTIMS: [&str; 4] = ["pods of the job", "operators", "API servers", "brokers"];

#[test]
fn random_kills_of_pods_operator_api_server_and_broker_leave_the_table_exact() -> anyhow::Result<()> {
    let cluster = needs_cluster_alone!();
    let _shared = needs_broker!();
    let lasts = Duration::from_secs(environment::rounds(60, 600).into());
    let broker = Broker::private(&["--host", cluster.node_address()])?;
    let mut stream = Stream::new(broker, "chaos", 3, EventSettings::default(), 20.0)?;
    stream.produce(5_000)?;
    let platform = Platform::install(cluster, "chaos", &[])?;
    platform.apply(&platform.event_aggregation(JOB, &stream)?)?;
    platform.wait_for_job(JOB, "to be caught up", is_caught_up)?;
    let volume = platform.namespace.folder_of_claim("data-platform")?;
    let log = volume.join("checkpoints").join(platform.namespace.name()).join(JOB).join("log");

    let mut random = Random::new(environment::seed());
    let (mut kills, began) = ([0_u32; VICTIMS.len()], Instant::now());
    while began.elapsed() < lasts || kills.contains(&0) {
        let victim = random.below(VICTIMS.len() as u64) as usize;
        kills[victim] += 1;
        let delete = |selector: &str| {
            let force = ["delete", "pods", "--selector", selector, "--force", "--grace-period=0"];
            platform.namespace.kubectl(&force)
        };
        match victim {
            0 => drop(delete("dataplatform.io/job=event-aggregation")?),
            1 => drop(delete(OPERATOR)?),
            2 => platform.cluster.kill("kube-apiserver")?,
            _ => {
                stream.broker.kill()?;
                stream.broker.restart()?;
            }
        }
        // The next kill comes in the middle of things, whatever those are by then: at once, or after a commit.
        let goal = committed(&log)? + i64::from(random.one_in(2));
        stream.produce(1_000)?;
        // A job needs no API server: while there is none it goes on, unless its pod has just been killed, too.
        let alone = Duration::from_secs(10);
        let has_committed = || (committed(&log).ok()? >= goal).then_some(());
        if victim == 2 {
            let went_on = wait_for("a commit without an API server", alone, has_committed).is_ok();
            println!("without an API server the job {}", if went_on { "went on" } else { "had no pod" });
            platform.cluster.restart()?;
        }
        platform.namespace.wait_for("a commit after a kill", TIMEOUT, has_committed)?;
    }
    for (victim, kills) in VICTIMS.iter().zip(kills) {
        println!("killed {kills} {victim}");
    }
    platform.wait_for_operator()?;
    let job = platform.wait_for_job(JOB, "to be caught up after all kills", is_caught_up)?;
    for kind in ["Stalled", "Progressing"] {
        ensure!(condition(&job, kind)["status"] == "False", "{kind}: {:#}", job["status"]["conditions"]);
    }
    platform.check_closed_windows(JOB, &stream)
}

/// The newest record of the job's log, whoever wrote it.
fn committed(log: &Path) -> anyhow::Result<i64> {
    let entries = std::fs::read_dir(log).with_context(|| format!("list {}", log.display()))?;
    let names =
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".json")?.parse::<i64>().ok());
    names.max().context("a record in the log")
}
