//! Delta tables as outputs, on a real broker: killed at every step, read in a loop, and written by others in between.

mod bucket;
mod peers;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use anyhow::{Context, ensure};
use data_platform_tests::readers::python_reader_in;
use data_platform_tests::{Broker, Ended, Runner, Watcher, environment, needs_broker, python_reader};
use serde_json::{Value, json};

use crate::events::TIMEOUT;
use crate::kill::numbers::{SEAMS, kill_at_random, kill_at_steps};
use crate::sources::numbers::{NAME, Numbers};

fn numbers(broker: Broker, name: &str) -> anyhow::Result<Numbers> {
    let mut job = Numbers::new(broker, name, 1)?;
    job.set("/sink", json!({"format": "delta", "path": NAME, "partitionBy": ["partition"]}));
    job.set("/kafka/maxOffsetsPerTrigger", json!(100));
    Ok(job)
}

/// The table as files.
fn folder(job: &Numbers) -> PathBuf {
    job.folders.outputs().join(NAME)
}

/// The table as other programs name it.
fn table(job: &Numbers) -> OsString {
    match job.folders.bucket() {
        Some(bucket) => bucket.url(&format!("outputs/{NAME}")).into(),
        None => folder(job).into(),
    }
}

/// What another program does with the table, or finds in it.
fn delta(job: &Numbers, what: &str, more: &[&str]) -> anyhow::Result<Value> {
    let table = table(job);
    let arguments = [OsStr::new(what), table.as_os_str()].into_iter().chain(more.iter().map(OsStr::new));
    let found = python_reader_in(job.folders.bucket_of_readers(), "delta.py", arguments)?;
    found.expect_success().with_context(|| format!("{what} {more:?}"))
}

/// The numbers that other readers find, ascending.
fn read(job: &Numbers) -> anyhow::Result<Vec<u64>> {
    let found = delta(job, "read", &["n"])?;
    let rows = found["rows"].as_array().context("rows")?;
    let mut numbers: Vec<_> = rows.iter().filter_map(|row| row["n"].as_u64()).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn watch(job: &Numbers) -> anyhow::Result<Watcher> {
    Watcher::of_delta(job.folders.bucket_of_readers(), &table(job), "n")
}

/// That every number up to this one is there once, whoever reads the table, and that its log says what its files hold.
fn check_exact(job: &Numbers, produced: u64) -> anyhow::Result<()> {
    let expected: Vec<_> = (0..produced).collect();
    ensure!(read(job)? == expected, "as other readers see it");
    ensure!(job.numbers()? == expected, "as query reads it");
    let folder = folder(job);
    python_reader("delta.py", [OsStr::new("check"), folder.as_os_str()])?.expect_success()?;
    job.audit()
}

#[test]
fn a_kill_at_any_step_changes_nothing_and_readers_always_see_a_whole_table() -> anyhow::Result<()> {
    let job = numbers(needs_broker!(), "delta-kill")?;
    kill_at_steps(&job, watch(&job)?, &SEAMS, check_exact)
}

#[test]
fn random_kills_change_nothing() -> anyhow::Result<()> {
    let job = numbers(needs_broker!(), "delta-random")?;
    let watcher = watch(&job)?;
    kill_at_random(job, watcher, environment::rounds(2, 100), check_exact)
}

#[test]
fn another_writer_between_the_commits_does_no_harm() -> anyhow::Result<()> {
    let job = numbers(needs_broker!(), "delta-others")?;
    let mut produced = 300;
    job.produce(0, 0..300)?;
    job.drain()?;
    // A job that runs meanwhile finds each of them when it publishes next.
    let mut runner = job.job()?.start()?;
    let theirs = r#"[{"n": 1000000, "topic": "x", "partition": 0, "offset": 1, "note": "theirs"}]"#;
    for (what, arguments) in
        [("append", vec![theirs]), ("optimize", vec![]), ("vacuum", vec![]), ("delete", vec!["n = 1000000"])]
    {
        delta(&job, what, &arguments)?;
        job.produce(0, produced..produced + 300)?;
        produced += 300;
        job.wait_for_committed(&mut runner, produced)?;
        runner.wait_for("the table", TIMEOUT, |_| (read(&job).ok()?.len() as u64 >= produced).then_some(()))?;
    }
    crate::sources::numbers::stop(runner)?;
    ensure!(read(&job)? == (0..produced).collect::<Vec<_>>(), "after append, optimize, vacuum and delete");
    job.audit()?;
    ensure!(
        job.ask(&["checkpoint", "verify", NAME])?.contains("the table has replaced"),
        "the files were put together"
    );
    // Rows that others have put together are not taken back.
    let (ended, runner) = Runner::command(["checkpoint", "rewind", NAME, "--to", "3", "--yes"])
        .broker(&job.broker)
        .folders(&job.folders)
        .run(TIMEOUT)?;
    ensure!(ended == Ended::Code(2), "{ended:?} {}", runner.last_lines());
    ensure!(runner.stderr().contains("has put the rows of"), "{}", runner.stderr());
    // Another schema holds the job, which says which column and both types, and goes on when the table fits again.
    let other = r#"[{"n": "text", "topic": "x", "partition": 0, "offset": 1}]"#;
    delta(&job, "overwrite", &[other])?;
    job.produce(0, produced..produced + 10)?;
    let said = job.drain_fails(2)?;
    ensure!(said.contains("its column n is of type string, and the job writes bigint"), "{said}");
    Ok(())
}
