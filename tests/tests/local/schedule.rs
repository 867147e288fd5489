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
    wait_for_job(&mut runner, &pages, "hourly-aggregates", "done", |job| {
        job["status"]["lastRun"]["result"] == "Succeeded" && ready(job).1 == "Scheduled" && check(1..5).is_ok()
    })?;
    runner.signal(Signal::TERM)?;
    let ended = runner.wait(TIMEOUT)?;
    expect_code(ended, 0, &runner)?;
    check(1..5)?;

    // Nothing was missed since.
    let mut runner = jobs.command(None).start()?;
    let pages = Pages::of(&mut runner)?;
    let job = wait_for_job(&mut runner, &pages, "hourly-aggregates", "waiting", |job| ready(job).1 == "Scheduled")?;
    anyhow::ensure!(job["status"]["nextScheduleTime"].is_string(), "{job}");
    anyhow::ensure!(job["status"]["lastRun"].is_null(), "{job}");
    runner.signal(Signal::TERM)?;
    expect_code(runner.wait(TIMEOUT)?, 0, &runner)
}
