//! Upkeep of tables by the job that writes them, on a real broker: killed at the exchange, read by others meanwhile, proved.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use data_platform_tests::{Broker, Ended, S3, Watcher, needs_broker, needs_s3, python_reader};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::events::{TIMEOUT, finish};
use crate::sources::numbers::{NAME, Numbers};
use crate::stores::every_request_may_fail;

const KILLED: Ended = Ended::Signal(9);
const FENCED: Ended = Ended::Code(3);

/// A job that writes numbers into directories of two days that are long over.
fn of_days(broker: Broker, name: &str, format: &str) -> anyhow::Result<Numbers> {
    let mut job = Numbers::new(broker, name, 1)?;
    let day = "CASE WHEN n % 2 = 0 THEN DATE '2026-01-01' ELSE DATE '2026-01-02' END";
    job.set("/query", json!(format!("SELECT n, {day} AS date FROM {NAME}")));
    job.set("/sink", json!({"format": format, "path": NAME, "partitionBy": ["date"]}));
    Ok(job)
}

/// Numbers of two days that are long over, in four files a day.
fn small_files(broker: Broker, s3: Option<&S3>, format: &str) -> anyhow::Result<Numbers> {
    let mut job = of_days(broker, &format!("upkeep-{format}"), format)?;
    if let Some(s3) = s3 {
        job.folders = s3.folders()?;
    }
    job.set("/kafka/maxOffsetsPerTrigger", json!(100));
    job.produce(0, 0..400)?;
    job.drain()?;
    job.set("/sink/maintenance", json!({"compactAfter": "1h"}));
    Ok(job)
}

fn table(job: &Numbers) -> PathBuf {
    job.folders.outputs().join(NAME)
}

/// Is killed on both sides of an exchange, with new records before each.
fn killed_at_the_exchange(job: &Numbers) -> anyhow::Result<u64> {
    let mut produced = 400;
    for moment in ["before", "after"] {
        job.produce(0, produced..produced + 100)?;
        produced += 100;
        let killed = job.job_with_faults()?.env("FAULT_KILL", format!("exchange:{moment}:1"));
        let (ended, runner) = killed.arg("--drain").run(TIMEOUT)?;
        ensure!(ended == KILLED, "{moment}: {ended:?} {}", runner.last_lines());
        ensure!(job.numbers()? == (0..produced).collect::<Vec<_>>(), "killed {moment}");
    }
    job.drain()?;
    ensure!(job.numbers()? == (0..produced).collect::<Vec<_>>(), "gone on");
    job.audit()?;
    ensure!(!job.ask(&["checkpoint", "verify", NAME])?.contains(" bad"));
    Ok(produced)
}

fn delta(table: &Path, what: &str, more: &[&str]) -> anyhow::Result<Value> {
    let arguments = [OsStr::new(what), table.as_os_str()].into_iter().chain(more.iter().map(OsStr::new));
    python_reader("delta.py", arguments)?.expect_success().with_context(|| format!("{what} {more:?}"))
}

#[test]
fn days_of_a_delta_table_are_merged_while_other_programs_read_it() -> anyhow::Result<()> {
    let job = small_files(needs_broker!(), None, "delta")?;
    let watcher = Watcher::of_delta(None, table(&job).as_os_str(), "n")?;
    let produced = killed_at_the_exchange(&job)?;
    watcher.finish()?.expect_success()?;
    is_merged(&job, produced)
}

/// Other programs find every number once, in one file a day.
fn is_merged(job: &Numbers, produced: u64) -> anyhow::Result<()> {
    let found = delta(&table(job), "read", &["n"])?;
    let mut numbers: Vec<_> =
        found["rows"].as_array().context("rows")?.iter().filter_map(|row| row["n"].as_u64()).collect();
    numbers.sort_unstable();
    ensure!(numbers == (0..produced).collect::<Vec<_>>(), "as deltalake and polars read it");
    delta(&table(job), "check", &[])?;
    let files = delta(&table(job), "files", &[])?;
    ensure!(files["files"] == 2, "{files}");
    Ok(())
}

#[test]
fn days_of_a_delta_table_in_an_object_store_are_merged() -> anyhow::Result<()> {
    let (broker, s3) = (needs_broker!(), needs_s3!());
    let job = small_files(broker, Some(&s3), "delta")?;
    let produced = killed_at_the_exchange(&job)?;
    is_merged(&job, produced)
}

/// How many files each day has.
fn files_of_days(job: &Numbers) -> anyhow::Result<Vec<usize>> {
    let days = std::fs::read_dir(table(job))?.filter_map(|day| std::fs::read_dir(day.ok()?.path()).ok());
    Ok(days.map(Iterator::count).collect())
}

#[test]
fn days_of_objects_are_merged_while_the_job_is_killed() -> anyhow::Result<()> {
    let (broker, s3) = (needs_broker!(), needs_s3!());
    let job = small_files(broker, Some(&s3), "parquet")?;
    killed_at_the_exchange(&job)?;
    let files = files_of_days(&job)?;
    ensure!(files == [1, 1], "{files:?}");
    Ok(())
}

#[test]
fn every_request_of_a_merge_of_objects_may_fail_once() -> anyhow::Result<()> {
    let (broker, s3) = (needs_broker!(), needs_s3!());
    let mut job = of_days(broker, "upkeep-faults", "parquet")?;
    job.set("/sink/maintenance", json!({"compactAfter": "1h"}));
    every_request_may_fail(job, &s3, |job| {
        let files = files_of_days(&job)?;
        ensure!(files == [1, 1], "{files:?}");
        ensure!(job.numbers()? == (0..300).collect::<Vec<_>>());
        job.audit()
    })
}

/// It sleeps when it has merged objects and is about to publish them; when it wakes up another has done so.
#[test]
fn a_job_that_slept_while_another_merged_its_objects_changes_nothing() -> anyhow::Result<()> {
    let (broker, s3) = (needs_broker!(), needs_s3!());
    let job = small_files(broker, Some(&s3), "parquet")?;
    let log = job.folders.root().join("faults.log");
    let stopped = job.job_with_faults()?.env("FAULT_STOP", "exchange:before:1").env("FAULT_LOG", &log);
    let mut sleeper = stopped.env("DATA_PLATFORM_NO_LOCK", "true").start()?;
    sleeper.wait_for("the sleeper to sleep", TIMEOUT, |_| log.exists().then_some(()))?;
    job.produce(0, 400..500)?;
    finish(job.job()?.env("DATA_PLATFORM_NO_LOCK", "true").arg("--drain"))?;
    let after = files_of_days(&job)?;
    ensure!(after == [1, 1], "the other has merged them: {after:?}");
    sleeper.signal(Signal::CONT)?;
    let ended = sleeper.wait(TIMEOUT).with_context(|| sleeper.last_lines())?;
    ensure!(ended == FENCED, "{ended:?} {}", sleeper.last_lines());
    ensure!(files_of_days(&job)? == after, "the sleeper changed something");
    ensure!(job.numbers()? == (0..500).collect::<Vec<_>>());
    job.audit()
}

#[test]
fn days_of_a_folder_are_merged_while_the_job_is_killed() -> anyhow::Result<()> {
    let job = small_files(needs_broker!(), None, "parquet")?;
    killed_at_the_exchange(&job)?;
    let files = files_of_days(&job)?;
    ensure!(files == [1, 1], "{files:?}");
    Ok(())
}
