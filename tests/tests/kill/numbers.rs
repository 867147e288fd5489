//! A job that copies numbers into a table of any kind, killed while others read the table.

use std::time::Duration;

use anyhow::{Context, ensure};
use data_platform_runner::faults::Step;
use data_platform_runner::random::Random;
use data_platform_tests::{Ended, Watcher, environment};
use serde_json::json;

use super::{KILLED, OF_A_DISK};
use crate::events::TIMEOUT;
use crate::sources::numbers::Numbers;

/// Steps at which a job is killed in `make test`: each that has to do with the table. `make soak` takes all of them.
pub(crate) const SEAMS: [Step; 8] = [
    Step::Claim,
    Step::StageOpen,
    Step::StageFinish,
    Step::Decide,
    Step::LinkRecord,
    Step::Publish,
    Step::Progress,
    Step::CollectStaging,
];
/// Of all steps so many are reached by any kind of table.
const REACHED: usize = 12;

/// Kills the job before and after each of these steps, while another reader reads. `check` is told how many numbers there
/// must be.
pub(crate) fn kill_at_steps(
    job: &Numbers,
    watcher: Watcher,
    steps: &[Step],
    check: impl Fn(&Numbers, u64) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let log = job.folders.root().join("faults.log");
    let is_here = |step: &&Step| job.folders.bucket().is_none() || !OF_A_DISK.contains(step);
    let steps: Vec<_> = if environment::is_soak() { &Step::ALL } else { steps }.iter().filter(is_here).collect();
    let (mut produced, mut kills) = (0_u64, 0);
    for step in &steps {
        for moment in ["before", "after"] {
            job.produce(0, produced..produced + 250)?;
            produced += 250;
            let fault = format!("{}:{moment}:1", step.name());
            let killed = job.job_with_faults()?.env("FAULT_KILL", &fault).env("FAULT_LOG", &log);
            let (ended, runner) = killed.env("DATA_PLATFORM_RECORDS_PER_BASE", "8").arg("--drain").run(TIMEOUT)?;
            let is_over = ended == Ended::Code(0);
            ensure!(ended == KILLED || is_over, "{fault}: {ended:?} {}", runner.last_lines());
            kills += usize::from(ended == KILLED);
        }
    }
    job.drain()?;
    let watched = watcher.finish()?.expect_success()?;
    let expected = if environment::is_soak() { REACHED } else { steps.len() * 2 };
    ensure!(kills >= expected, "only {kills} kills");
    check(job, produced).with_context(|| format!("{kills} kills"))?;
    println!("{kills} kills, {watched}");
    Ok(())
}

/// Kills the job at moments that nobody chose, while records come and another reader reads.
pub(crate) fn kill_at_random(
    mut job: Numbers,
    watcher: Watcher,
    rounds: u32,
    check: impl Fn(&Numbers, u64) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut random = Random::new(environment::seed());
    job.set("/kafka/maxOffsetsPerTrigger", json!(50));
    let mut produced = 0;
    for _ in 0..rounds {
        job.produce(0, produced..produced + 400)?;
        produced += 400;
        let mut runner = job.job()?.env("DATA_PLATFORM_RECORDS_PER_BASE", "10").start()?;
        // Not a wait for something: the moment of the kill is what is random.
        let moment = Duration::from_millis(20 + random.below(900));
        ensure!(runner.wait(moment).is_err(), "it ended by itself: {}", runner.last_lines());
        runner.kill()?;
    }
    // What the killed ones left is more than small micro-batches can do in time.
    job.set("/kafka/maxOffsetsPerTrigger", json!(5_000));
    job.drain()?;
    let watched = watcher.finish()?.expect_success()?;
    check(&job, produced)?;
    println!("{rounds} random kills, {watched}");
    Ok(())
}
