//! Delta tables in an object store: a real S3 server, readers of others that read there in a loop, a proxy that spoils requests,
//! two writers at once, and writers that wake up late.

use std::time::Instant;

use anyhow::{Context, ensure};
use data_platform_runner::faults::Step;
use data_platform_tests::process::RunnerCommand;
use data_platform_tests::{Broker, Ended, S3, environment, needs_broker, needs_s3};
use rustix::process::Signal;
use serde_json::Value;

use super::{check_exact, delta, numbers, read, watch};
use crate::events::TIMEOUT;
use crate::kill::numbers::{kill_at_random, kill_at_steps};
use crate::sources::numbers::{Numbers, stop};
use crate::stores::every_request_may_fail;

const FENCED: Ended = Ended::Code(3);

fn in_bucket(broker: Broker, s3: &S3, name: &str) -> anyhow::Result<Numbers> {
    let mut job = numbers(broker, name)?;
    job.folders = s3.folders()?;
    Ok(job)
}

#[test]
fn a_kill_at_any_step_changes_nothing_and_readers_always_see_a_whole_table() -> anyhow::Result<()> {
    let steps = [Step::Claim, Step::StageFinish, Step::Decide, Step::Publish];
    let job = in_bucket(needs_broker!(), &needs_s3!(), "delta-s3-kill")?;
    kill_at_steps(&job, watch(&job)?, &steps, check_exact)
}

#[test]
fn random_kills_change_nothing() -> anyhow::Result<()> {
    let job = in_bucket(needs_broker!(), &needs_s3!(), "delta-s3-random")?;
    let watcher = watch(&job)?;
    kill_at_random(job, watcher, environment::rounds(3, 100), check_exact)
}

#[test]
fn every_request_may_fail_once_in_every_way_and_readers_see_nothing_of_it() -> anyhow::Result<()> {
    let (broker, s3) = (needs_broker!(), needs_s3!());
    let job = numbers(broker, "delta-s3-faults")?;
    every_request_may_fail(job, &s3, |job| {
        ensure!(read(&job)? == (0..300).collect::<Vec<_>>(), "as other readers see it");
        ensure!(job.numbers()? == (0..300).collect::<Vec<_>>(), "as query reads it");
        job.audit()
    })
}

/// A runner whose only protection is the job log.
fn without_lock(command: RunnerCommand) -> RunnerCommand {
    command.env("DATA_PLATFORM_NO_LOCK", "true").env("DATA_PLATFORM_RECORDS_PER_BASE", "6")
}

#[test]
fn the_later_of_two_writers_wins_and_the_other_ends_as_fenced() -> anyhow::Result<()> {
    let job = in_bucket(needs_broker!(), &needs_s3!(), "delta-s3-fight")?;
    let watcher = watch(&job)?;
    let mut produced = 0;
    let mut produce = |records: u64| {
        job.produce(0, produced..produced + records)?;
        produced += records;
        Ok::<_, anyhow::Error>(produced)
    };
    let mut present = without_lock(job.job()?).start()?;
    for round in 0..environment::rounds(3, 20) {
        produce(300)?;
        let before = newest_version(&job);
        present.wait_for("a commit", TIMEOUT, |_| (newest_version(&job) > before).then_some(()))?;
        let later = without_lock(job.job()?).start()?;
        let began = Instant::now();
        while present.has_ended()?.is_none() {
            ensure!(began.elapsed() < TIMEOUT, "round {round}: the later one never took over");
            produce(50)?;
        }
        let ended = present.wait(TIMEOUT)?;
        ensure!(ended == FENCED, "round {round}: {ended:?} {}", present.last_lines());
        ensure!(present.stderr().contains("another runner owns this job"), "{}", present.last_lines());
        present = later;
    }
    stop(present)?;
    let produced = produce(10)?;
    job.drain()?;
    println!("{}", watcher.finish()?.expect_success()?);
    check_exact(&job, produced)
}

/// The newest record of the job log.
fn newest_version(job: &Numbers) -> u64 {
    let folder = job.folders.checkpoints().join("local").join(crate::sources::numbers::NAME).join("log");
    let listing = std::fs::read_dir(folder).into_iter().flatten();
    let version = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.ok()?.file_name().to_str()?.strip_suffix(".json")?.parse().ok()
    };
    listing.filter_map(version).max().unwrap_or(0)
}

#[test]
fn a_zombie_that_wakes_after_its_successor_has_published_changes_nothing() -> anyhow::Result<()> {
    let (_shared, s3) = (needs_broker!(), needs_s3!());
    // Once with its decision made and not published, and once with all written and nothing decided.
    for step in [Step::Publish, Step::Decide] {
        let job = in_bucket(Broker::shared().context("a broker")?, &s3, "delta-s3-zombie")?;
        let log = job.folders.root().join("faults.log");
        job.produce(0, 0..1_000)?;
        let stopped = job.job_with_faults()?.env("FAULT_STOP", format!("{}:before:3", step.name()));
        let mut sleeper = without_lock(stopped.env("FAULT_LOG", &log)).start()?;
        sleeper.wait_for("the sleeper to sleep", TIMEOUT, |_| log.exists().then_some(()))?;
        let before: Value = delta(&job, "read", &["n"])?;
        let mut other = without_lock(job.job()?).start()?;
        other.wait_for("all rows", TIMEOUT, |_| (read(&job).ok()?.len() == 1_000).then_some(()))?;
        stop(other)?;
        let after = delta(&job, "read", &["n"])?;
        ensure!(after["version"].as_u64() > before["version"].as_u64(), "{step:?}: the other has published");
        sleeper.signal(Signal::CONT)?;
        let ended = sleeper.wait(TIMEOUT).with_context(|| sleeper.last_lines())?;
        ensure!(ended == FENCED, "{step:?}: {ended:?} {}", sleeper.last_lines());
        ensure!(delta(&job, "read", &["n"])? == after, "{step:?}: the zombie changed something");
        check_exact(&job, 1_000)?;
    }
    Ok(())
}
