//! What the CronJob controller itself starts: every minute a run, until no hour is missing; and what these runs wrote, row for row.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use data_platform_tests::{needs_broker, needs_cluster};
use serde_json::Value;

use super::batch::{EVENTS_TABLE, HOURLY, LastHours, hourly_aggregates, run_by_hand};
use super::platform::condition;

/// Hours that are over and complete.
const HOURS: i64 = 5;
/// Of those that are missing, so many for each run.
const AT_ONCE: i64 = 2;

/// The Jobs that the controller made, and not somebody by hand: their names, and when they were due.
fn made_by_schedule(hours: &LastHours) -> anyhow::Result<BTreeMap<String, String>> {
    let jobs = hours.platform.namespace.get_json(&["jobs"])?;
    let made = jobs["items"].as_array().context("a list of Jobs")?.iter().filter_map(|job| {
        let (metadata, annotations) = (&job["metadata"], &job["metadata"]["annotations"]);
        let is_by_hand = annotations["cronjob.kubernetes.io/instantiate"] == "manual";
        let is_of_cron_job = metadata["ownerReferences"][0]["kind"] == "CronJob";
        let due = annotations["batch.kubernetes.io/cronjob-scheduled-timestamp"].as_str()?;
        (is_of_cron_job && !is_by_hand).then(|| Some((metadata["name"].as_str()?.to_owned(), due.to_owned())))?
    });
    Ok(made.collect())
}

#[test]
fn runs_that_the_schedule_starts_process_every_hour_once_and_catch_up() -> anyhow::Result<()> {
    let cluster = needs_cluster!();
    let hours = LastHours::new(cluster, needs_broker!(), "on-schedule", HOURS)?;
    let platform = &hours.platform;
    let mut job = hourly_aggregates(EVENTS_TABLE)?;
    job["spec"]["catchUp"] = AT_ONCE.into();
    platform.apply(&job)?;
    platform.wait_for_status("batchjob", HOURLY, "to be scheduled", |job| {
        condition(job, "Ready")["reason"] == "Scheduled"
    })?;
    // A run that was due when the first hour was over; since then nothing ran.
    let first = hours.name_of_run(HOURLY, 0);
    run_by_hand(platform, HOURLY, &first)?;
    ensure!(hours.replaced(HOURLY)?.len() == 1, "the first hour: {:?}", hours.replaced(HOURLY)?);

    job["spec"]["schedule"] = "* * * * *".into();
    platform.apply(&job)?;
    let mut runs: Vec<Value> = Vec::new();
    for number in 0..(HOURS - 1) / AT_ONCE {
        let is_known = |name: &str| name == first || runs.iter().any(|run| run["name"] == name);
        let job =
            platform.wait_for_status("batchjob", HOURLY, &format!("to have run by schedule ({number})"), |job| {
                job["status"]["lastRun"]["name"].as_str().is_some_and(|name| !is_known(name))
            })?;
        let (status, run) = (&job["status"], &job["status"]["lastRun"]);
        let (from, to) = (1 + number * AT_ONCE, 1 + (number + 1) * AT_ONCE);
        ensure!(run["result"] == "Succeeded" && run["reason"] == "Completed", "{status:#}");
        ensure!(run["interval"]["start"] == hours.time_of(from), "{status:#}");
        ensure!(run["interval"]["end"] == hours.time_of(to), "{status:#}");
        ensure!(run["files"] == AT_ONCE && run["completionTime"].is_string(), "{status:#}");
        ensure!(status["lastSuccessfulTime"] == run["completionTime"], "{status:#}");
        ensure!(status["missedRuns"] == 0 && status["nextScheduleTime"].is_string(), "{status:#}");
        ensure!(condition(&job, "Ready")["status"] == "True", "{status:#}");
        let rows = |record: &Value| record["rows"].as_i64();
        let decided = hours.replaced(HOURLY)?;
        let decided = decided.iter().skip(usize::try_from(from)?).take(usize::try_from(AT_ONCE)?);
        let decided: i64 = decided.map(|record| rows(record).unwrap_or_default()).sum();
        ensure!(decided > 0 && run["rows"] == decided, "{decided} rows: {status:#}");
        runs.push(run.clone());
    }
    // The controller made them, each for its minute; its names say which.
    let made = made_by_schedule(&hours)?;
    for run in &runs {
        let name = run["name"].as_str().context("a name")?;
        let due = made.get(name).with_context(|| format!("{name} is none of {made:?}"))?;
        let minute: i64 = name.trim_start_matches(&format!("{HOURLY}-")).parse().context("a minute")?;
        ensure!(due.starts_with(&data_platform_runner::clock::show_time(minute * 60_000_000)[..19]), "{name}: {due}");
    }
    platform.namespace.kubectl(&["patch", "bj", HOURLY, "--type=merge", "-p", r#"{"spec":{"suspend":true}}"#])?;
    let decided = hours.replaced(HOURLY)?;
    let order = decided.iter().map(|record| hours.hour_of(record)).collect::<anyhow::Result<Vec<_>>>()?;
    // A run of the next hour, should that end meanwhile, comes behind them.
    ensure!(order.get(..HOURS as usize) == Some(&[0, 1, 2, 3, 4][..]), "each hour once and in order: {order:?}");
    ensure!(decided.iter().all(|record| record["due"] == true), "{decided:?}");
    hours.check_all()?;
    hours.check_events()
}
