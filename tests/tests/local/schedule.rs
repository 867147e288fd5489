//! Batch jobs follow their schedule, also over a time in which nothing ran.

use std::ffi::OsString;
use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_platform_runner::checkpoint::record::encode;
use data_platform_runner::clock::show_time;
use data_platform_runner::generate::EventSettings;
use data_platform_tests::process::expect_code;
use data_platform_tests::{Pages, needs_broker, python_reader};
use rustix::process::Signal;
use serde_json::json;

use super::{Jobs, TIMEOUT, manifest, ready, wait_for_job};
use crate::batch::backfill::replaced;
use crate::events::{START_MS, Stream};

const HOUR_MS: i64 = 3_600_000;

#[test]
fn what_was_missed_is_caught_up_once_after_a_restart() -> anyhow::Result<()> {
    // Events of the last five hours and a little more, in a table that is complete.
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let full_hour = now - now % HOUR_MS;
    let begin = full_hour - 5 * HOUR_MS;
    let settings = EventSettings { users: 30, ..EventSettings::default() };
    let events = 2_000_u64;
    let step = (now - 60_000 - begin) as f64 / events as f64;
    let mut stream = Stream::new(needs_broker!(), "missed", 2, settings, step)?;
    stream.skip(Duration::from_millis((begin - START_MS).unsigned_abs()));
    stream.produce(events)?;
    stream.drain()?;

    // The job was known four hours ago, and nothing has run since.
    let jobs = Jobs { folders: stream.folders };
    fs::create_dir_all(jobs.folder())?;
    // The hours of the schedule are over: none begins while the test runs.
    let hour_of_day = |before: i64| (full_hour / HOUR_MS - before).rem_euclid(24).to_string();
    let schedule = format!("0 {} * * *", [3, 2, 1, 0].map(hour_of_day).join(","));
    jobs.write("hourly-aggregates", &manifest("hourly-aggregates", &[("5 * * * *", schedule.as_str())])?)?;
    let since = (full_hour - 4 * HOUR_MS + 1_000) * 1_000;
    let past = jobs.folders.checkpoints().join("local/local.json");
    fs::write(&past, encode(0, &json!({"jobs": {"hourly-aggregates": {"since": since}}})))?;

    let check = |hours: std::ops::Range<i64>| -> anyhow::Result<()> {
        let text = |hour: i64| {
            let time = show_time((full_hour - hour * HOUR_MS) * 1_000);
            OsString::from(time[..19].replace('T', " "))
        };
        let tables = ["hourly_aggregates", "events_aggregated_realtime"].map(|name| jobs.output(name).into_os_string());
        let arguments = tables.into_iter().chain(hours.rev().map(text));
        python_reader("hourly_aggregates.py", arguments)?.expect_success().map(drop)
    };
    let mut runner = jobs.command(None).start()?;
    let pages = Pages::of(&mut runner)?;
    // The first time that was missed is that of three hours ago: it is about the hour before.
    let done = wait_for_job(&mut runner, &pages, "hourly-aggregates", "done", |job| {
        job["status"]["lastRun"]["result"] == "Succeeded" && ready(job).1 == "Scheduled" && check(1..5).is_ok()
    })?;
    runner.signal(Signal::TERM)?;
    let ended = runner.wait(TIMEOUT)?;
    expect_code(ended, 0, &runner)?;
    check(1..5)?;
    // The second run says what it did itself.
    let decided = replaced(&jobs.folders.checkpoints().join("local/hourly-aggregates"))?;
    let of_second: i64 = decided[1..].iter().filter_map(|record| record["rows"].as_i64()).sum();
    anyhow::ensure!(decided.len() == 4 && done["status"]["lastRun"]["rows"] == of_second, "{of_second} rows: {done}");

    // Nothing was missed since.
    let mut runner = jobs.command(None).start()?;
    let pages = Pages::of(&mut runner)?;
    let job = wait_for_job(&mut runner, &pages, "hourly-aggregates", "waiting", |job| ready(job).1 == "Scheduled")?;
    anyhow::ensure!(job["status"]["nextScheduleTime"].is_string(), "{job}");
    anyhow::ensure!(job["status"]["lastRun"].is_null(), "{job}");
    runner.signal(Signal::TERM)?;
    expect_code(runner.wait(TIMEOUT)?, 0, &runner)
}

/// A table of two rows, in text.
pub(super) const ROWS: &str = "at,amount\n2026-01-01T00:10:00Z,1\n2026-01-01T00:20:00Z,2\n";

/// A batch job over it.
pub(super) fn over_rows(name: &str, more: &str) -> String {
    format!(
        "apiVersion: dataplatform.io/v1alpha1
kind: BatchJob
metadata: {{name: {name}}}
spec:
  {more}
  interval: day
  replace: table
  lookbackDays: 365
  inputs:
    - name: t
      path: rows
      format: csv
      timeColumn: at
      completeBy: clock
      columns: [{{name: at, type: timestamp}}, {{name: amount, type: bigint}}]
  query: SELECT sum(amount) AS amount FROM t
  sink: {{path: {name}}}
"
    )
}

#[test]
fn a_file_that_is_gone_for_a_moment_is_the_same_job_when_it_is_there_again() -> anyhow::Result<()> {
    let jobs = Jobs::new()?;
    fs::create_dir_all(jobs.output("rows"))?;
    fs::write(jobs.output("rows").join("rows.csv"), ROWS)?;
    // One that runs once, and one whose time has come three hours ago.
    jobs.write("once", &over_rows("once", "backoffLimit: 0"))?;
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let full_hour = now - now % HOUR_MS;
    let hour_of_day = (full_hour / HOUR_MS - 3).rem_euclid(24);
    jobs.write("scheduled", &over_rows("scheduled", &format!("schedule: 0 {hour_of_day} * * *")))?;
    let since = (full_hour - 4 * HOUR_MS) * 1_000;
    let memory = jobs.folders.checkpoints().join("local/local.json");
    fs::create_dir_all(memory.parent().expect("a folder"))?;
    fs::write(&memory, encode(0, &json!({"jobs": {"scheduled": {"since": since}}})))?;

    let mut runner = jobs.command(None).env("LOG_LEVEL", "info").start()?;
    let pages = Pages::of(&mut runner)?;
    for (job, reason) in [("once", "Completed"), ("scheduled", "Scheduled")] {
        let done = wait_for_job(&mut runner, &pages, job, "done", |job| {
            ready(job).1 == reason && job["status"]["lastRun"]["result"] == "Succeeded"
        })?;
        anyhow::ensure!(done["status"]["lastRun"]["rows"] == 1, "{done}");
    }
    let known = || -> anyhow::Result<serde_json::Value> {
        let text: serde_json::Value = serde_json::from_slice(&fs::read(&memory)?)?;
        Ok(text["body"]["jobs"].clone())
    };
    let before = known()?;
    anyhow::ensure!(before["once"]["once"].is_string() && before["scheduled"]["last"].is_i64(), "{before}");
    let decided = |job: &str| replaced(&jobs.folders.checkpoints().join("local").join(job));
    let texts = ["once", "scheduled"].map(|job| (job, jobs.file(job)));
    for _ in 0..2 {
        // As by an editor that removes a file and writes it anew, with a look in between.
        let mut removed = Vec::new();
        for (job, file) in &texts {
            removed.push((*job, fs::read_to_string(file)?));
            fs::remove_file(file)?;
        }
        runner.wait_for("both jobs to be gone", TIMEOUT, |_| {
            let all = pages.get("/status").ok()?.json().ok()?;
            all["jobs"].as_array()?.is_empty().then_some(())
        })?;
        for (job, text) in removed {
            jobs.write(job, &text)?;
        }
        for (job, reason) in [("once", "Completed"), ("scheduled", "Scheduled")] {
            let back = wait_for_job(&mut runner, &pages, job, "back", |job| ready(job).1 == reason)?;
            anyhow::ensure!(back["status"]["lastRun"].is_null(), "it does not run again: {back}");
        }
        anyhow::ensure!(known()? == before, "{:#} and not {before:#}", known()?);
    }
    for job in ["once", "scheduled"] {
        anyhow::ensure!(decided(job)?.len() == 1, "{job}: {:?}", decided(job)?);
    }
    runner.signal(Signal::TERM)?;
    let ended = runner.wait(TIMEOUT)?;
    expect_code(ended, 0, &runner)
}
