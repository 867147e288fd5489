//! hourly-aggregates over what event-aggregation writes, as its user has it: scheduled, run by hand, run again.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use data_platform_runner::clock::show_time;
use data_platform_runner::generate::EventSettings;
use data_platform_tests::{Broker, Cluster, needs_broker, needs_cluster, python_reader, wait_for};
use serde_json::{Value, json};

use super::platform::{Platform, TIMEOUT, condition, is_caught_up};
use crate::batch::backfill::replaced;
use crate::events::{START_MS, Stream};

pub(super) const HOURLY: &str = "hourly-aggregates";
const HOUR_MS: i64 = 3_600_000;
const EVENTS: u64 = 10_000;
/// A little more than some hours, so that the watermark passes their end.
const MORE_MS: i64 = 60_000;
/// The table that is read.
pub(super) const EVENTS_TABLE: &str = "events-aggregated";

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(0))
}

/// The hour that was over last; not one that a run of this test could see end.
fn last_full_hour() -> anyhow::Result<i64> {
    let early = wait_for("an hour that does not end soon", Duration::from_secs(400), || {
        let now = now_ms();
        (now % HOUR_MS < HOUR_MS - 300_000).then_some(now)
    })?;
    Ok(early - early % HOUR_MS - HOUR_MS)
}

/// A topic with the events of the last full hour and a little more.
pub(super) fn last_hour(broker: Broker, name: &str, settings: EventSettings) -> anyhow::Result<Stream> {
    hours_from(broker, name, settings, last_full_hour()?, 1)
}

/// A topic with the events of so many hours and a little more.
fn hours_from(
    broker: Broker,
    name: &str,
    settings: EventSettings,
    start_ms: i64,
    hours: i64,
) -> anyhow::Result<Stream> {
    let span_ms = hours * HOUR_MS + MORE_MS;
    let mut stream = Stream::new(broker, name, 2, settings, span_ms as f64 / EVENTS as f64)?;
    stream.skip(Duration::from_millis(u64::try_from(start_ms - START_MS)?));
    stream.produce(EVENTS)?;
    Ok(stream)
}

/// The last full hours, in a table that is complete, for a job that reads them.
pub(super) struct LastHours {
    pub(super) platform: Platform,
    stream: Stream,
    /// Begin of the first one, in microseconds since 1970.
    begin: i64,
    number: i64,
}

impl LastHours {
    pub(super) fn new(cluster: Cluster, broker: Broker, name: &str, number: i64) -> anyhow::Result<Self> {
        let now = now_ms();
        let begin_ms = now - now % HOUR_MS - number * HOUR_MS;
        let settings = EventSettings { users: 50, ..EventSettings::default() };
        let stream = hours_from(broker, name, settings, begin_ms, number)?;
        let platform = Platform::install(cluster, name, &[])?;
        platform.apply(&platform.event_aggregation(EVENTS_TABLE, &stream)?)?;
        platform.wait_for_job(EVENTS_TABLE, "to be caught up", is_caught_up)?;
        Ok(Self { platform, stream, begin: begin_ms * 1_000, number })
    }

    /// When an hour begins, in microseconds since 1970; the hour after the last one begins when that ends.
    pub(super) fn begin_of(&self, hour: i64) -> i64 {
        self.begin + hour * HOUR_MS * 1_000
    }

    /// The same as a spec and a status have it.
    pub(super) fn time_of(&self, hour: i64) -> String {
        format!("{}Z", &show_time(self.begin_of(hour))[..19])
    }

    /// The name of a Job that the CronJob of a job makes at the end of an hour.
    pub(super) fn name_of_run(&self, job: &str, hour: i64) -> String {
        format!("{job}-{}", self.begin_of(hour + 1) / 60_000_000)
    }

    /// What the job decided, in order: records of its log.
    pub(super) fn replaced(&self, job: &str) -> anyhow::Result<Vec<Value>> {
        let volume = self.platform.namespace.folder_of_claim("data-platform")?;
        replaced(&volume.join("checkpoints").join(self.platform.namespace.name()).join(job))
    }

    /// The number of the hour that a record of the log is about.
    pub(super) fn hour_of(&self, record: &Value) -> anyhow::Result<i64> {
        let interval = &record["interval"];
        let (Some(start), Some(end)) = (interval["start"].as_i64(), interval["end"].as_i64()) else {
            bail!("an interval in {record}");
        };
        let hour = (start - self.begin).div_euclid(HOUR_MS * 1_000);
        ensure!((self.begin_of(hour), self.begin_of(hour + 1)) == (start, end), "one hour: {interval}");
        Ok(hour)
    }

    /// The table that is read holds what another program makes of the records, as far as its windows are closed. Its job ends.
    pub(super) fn check_events(&self) -> anyhow::Result<()> {
        self.platform.check_closed_windows(EVENTS_TABLE, &self.stream)
    }

    /// The output holds exactly all these hours, each once, row for row what another program makes of the table that is read.
    pub(super) fn check_all(&self) -> anyhow::Result<()> {
        let hours = (0..self.number).map(|hour| self.time_of(hour));
        check_hours(&self.platform, hours)
    }
}

/// hourly-aggregates over the table `input`, on a schedule that does not come while a test runs.
pub(super) fn hourly_aggregates(input: &str) -> anyhow::Result<Value> {
    let mut job = Platform::manifest(HOURLY)?;
    job["spec"]["schedule"] = "0 0 29 2 *".into();
    job["spec"]["inputs"][0]["path"] = input.into();
    job["spec"]["wait"] = "60s".into();
    Ok(job)
}

/// Runs a batch job by hand to its end, by the CronJob that it has; gives the job.
pub(super) fn run_by_hand(platform: &Platform, name: &str, run: &str) -> anyhow::Result<Value> {
    platform.namespace.kubectl(&["create", "job", run, &format!("--from=cronjob/{name}")])?;
    let job = platform.wait_for_status("batchjob", name, &format!("to have finished {run}"), |job| {
        let last = &job["status"]["lastRun"];
        last["name"] == run && last["result"].as_str().is_some_and(|result| result != "Running")
    })?;
    let last = &job["status"]["lastRun"];
    ensure!(last["result"] == "Succeeded" && last["rows"].as_i64() > Some(0), "{:#}", job["status"]);
    Ok(job)
}

#[test]
fn an_hour_is_aggregated_by_hand_again_and_by_a_backfill_and_stays_exact() -> anyhow::Result<()> {
    let cluster = needs_cluster!();
    let settings = EventSettings { users: 50, ..EventSettings::default() };
    let stream = last_hour(needs_broker!(), "hourly", settings)?;
    let platform = Platform::install(cluster, "hourly", &[])?;
    let namespace = &platform.namespace;
    platform.apply(&platform.event_aggregation("events-aggregated", &stream)?)?;
    platform.wait_for_job("events-aggregated", "to be caught up", is_caught_up)?;

    let (name, job) = (HOURLY, hourly_aggregates("events-aggregated")?);
    platform.apply(&job)?;
    let ready = |job: &Value, reason: &str| condition(job, "Ready")["reason"] == reason;
    platform.wait_for_status("batchjob", name, "to be scheduled", |job| ready(job, "Scheduled"))?;
    let table = namespace.kubectl(&["get", "sj,bj"])?;
    ensure!(table.contains("SCHEDULE") && table.contains("0 0 29 2 *"), "{table}");

    let mut interval = Value::Null;
    for number in 0..2 {
        let job = run_by_hand(&platform, name, &format!("by-hand-{number}"))?;
        interval = job["status"]["lastRun"]["interval"].clone();
        check(&platform, &interval)?;
    }
    let start = interval["start"].as_str().context("the start of the interval")?;
    ensure!(start.contains(":00:00"), "{interval}");

    // A backfill beside the schedule, which a doctor lets begin. It says nothing of the scheduled runs.
    let mut filled = job.clone();
    filled["spec"]["backfill"] = json!({"from": interval["start"], "to": interval["end"]});
    filled["spec"]["pod"] = json!({"doctor": true});
    platform.apply(&filled)?;
    let filled = platform.wait_for_status("batchjob", name, "to have done its backfill", |job| {
        job["status"]["backfill"]["result"].is_string()
    })?;
    let backfill = &filled["status"]["backfill"];
    ensure!(backfill["result"] == "Succeeded" && backfill["finished"] == 1 && backfill["left"] == 0, "{backfill:#}");
    ensure!(filled["status"]["lastRun"]["name"] == "by-hand-1", "{:#}", filled["status"]);
    ensure!(ready(&filled, "Scheduled"), "{:#}", filled["status"]);
    check(&platform, &interval)?;
    run_by_hand(&platform, name, "beside-it")?;

    // What the doctor of a pod finds is the reason of the job.
    let mut sick = platform.event_aggregation("sick", &stream)?;
    sick["spec"]["pod"] = json!({"doctor": true});
    sick["spec"]["sources"][0]["topics"] = json!(["there-is-no-such-topic"]);
    sick["spec"]["sink"] = json!({"path": "sick"});
    platform.apply(&sick)?;
    let sick = platform.wait_for_status("streamingjob", "sick", "to be examined", |job| ready(job, "TopicNotFound"))?;
    let said = condition(&sick, "Ready")["message"].as_str().unwrap_or_default().to_owned();
    ensure!(said.contains("topic there-is-no-such-topic") && said.contains("create the topic"), "{said}");

    // The run of this one is a year away, and its table is there: what is wrong is said now.
    let mut typo = job.clone();
    typo["metadata"]["name"] = "typo".into();
    typo["spec"]["query"] = "SELECT event_cuont FROM events".into();
    typo["spec"]["sink"] = json!({"path": "typo_aggregates"});
    platform.apply(&typo)?;
    let said = platform.wait_for_status("batchjob", "typo", "to be judged", |job| ready(job, "InvalidSpec"))?;
    let said = condition(&said, "Ready")["message"].as_str().unwrap_or_default().to_owned();
    ensure!(said.contains("there is no column event_cuont: did you mean event_count?"), "{said}");

    // What cannot be read is a failed run with its reason, and the job says so.
    let mut broken = job.clone();
    broken["metadata"]["name"] = "broken".into();
    broken["spec"].as_object_mut().context("a spec")?.remove("schedule");
    broken["spec"]["query"] = "SELECT nonsense FROM events".into();
    // The table of the other job is not theirs to write.
    broken["spec"]["sink"] = json!({"path": "broken_aggregates"});
    platform.apply(&broken)?;
    let mut zone = job.clone();
    zone["metadata"]["name"] = "zone".into();
    zone["spec"]["timeZone"] = "Mars/Olympus".into();
    platform.apply(&zone)?;
    let mut early = job;
    early["metadata"]["name"] = "early".into();
    early["spec"].as_object_mut().context("a spec")?.remove("schedule");
    early["spec"]["inputs"][0]["path"] = "nothing-there".into();
    early["spec"]["wait"] = "1s".into();
    early["spec"]["sink"] = json!({"path": "early_aggregates"});
    platform.apply(&early)?;
    for (name, reasons) in [
        ("zone", &["InvalidTimeZone"][..]),
        ("broken", &["RunFailed", "InvalidSpec", "QueryFailed"]),
        ("early", &["InputIncomplete", "RunFailed"]),
    ] {
        platform.wait_for_status("batchjob", name, &format!("to be one of {reasons:?}"), |job| {
            reasons.iter().any(|reason| ready(job, reason))
        })?;
    }
    println!("{}", namespace.kubectl(&["get", "sj,bj", "-o", "wide"])?);
    Ok(())
}

/// The output holds exactly the interval's hour, once and right.
fn check(platform: &Platform, interval: &Value) -> anyhow::Result<()> {
    let start = interval["start"].as_str().with_context(|| format!("a start in {interval}"))?;
    check_hours(platform, [start.to_owned()])
}

/// The output holds exactly the hours that begin at these times, each once and right.
fn check_hours(platform: &Platform, starts: impl IntoIterator<Item = String>) -> anyhow::Result<()> {
    let outputs = platform.namespace.folder_of_claim("data-platform")?.join("outputs");
    let tables = [outputs.join("hourly_aggregates"), outputs.join(EVENTS_TABLE)].map(|path| path.into_os_string());
    let hours = starts.into_iter().map(|start| start.trim_end_matches('Z').replace('T', " ").into());
    python_reader("hourly_aggregates.py", tables.into_iter().chain(hours))?.expect_success().map(drop)
}

#[test]
fn a_run_that_the_schedule_could_not_start_is_missed_until_there_is_room() -> anyhow::Result<()> {
    let cluster = needs_cluster!();
    let platform = Platform::install(cluster, "missed", &[])?;
    let namespace = &platform.namespace;
    let mut job = Platform::manifest(HOURLY)?;
    job["spec"]["schedule"] = "* * * * *".into();
    job["spec"]["wait"] = "1s".into();
    let name = HOURLY;
    // The scheduler tries, and the API server refuses each Job.
    namespace.kubectl(&["create", "quota", "full", "--hard=count/jobs.batch=0"])?;
    platform.apply(&job)?;
    let missed = platform.wait_for_status("batchjob", name, "to have missed a run", |job| {
        condition(job, "Ready")["reason"] == "MissedSchedule"
    })?;
    ensure!(missed["status"]["missedRuns"].as_i64() >= Some(1), "{:#}", missed["status"]);
    ensure!(condition(&missed, "Degraded")["status"] == "True", "{:#}", missed["status"]);
    namespace.kubectl(&["delete", "quota", "full"])?;
    platform.wait_for_status("batchjob", name, "to start again", |job| {
        condition(job, "Ready")["reason"] != "MissedSchedule" && job["status"]["missedRuns"] == 0
    })?;
    Ok(())
}

#[test]
fn wrong_sql_is_said_before_the_first_run_and_what_judged_it_goes() -> anyhow::Result<()> {
    let cluster = needs_cluster!();
    let platform = Platform::install(cluster, "judged", &[])?;
    let mut job = hourly_aggregates("nothing-there")?;
    let right = job["spec"]["query"].clone();
    job["spec"]["query"] = "SELECT frob(event_type) AS x FROM events".into();
    platform.apply(&job)?;
    let reason = |reason: &'static str| move |job: &Value| condition(job, "Ready")["reason"] == reason;
    let said = platform.wait_for_status("batchjob", HOURLY, "to be judged", reason("InvalidSpec"))?;
    let said_message = condition(&said, "Ready")["message"].as_str().unwrap_or_default().to_owned();
    ensure!(said_message.contains("there is no function frob"), "{said_message}");
    ensure!(said["status"]["lastRun"].is_null() && said["status"]["active"].is_null(), "{:#}", said["status"]);
    let is_gone = || {
        let jobs = platform.namespace.get_json(&["jobs"]).ok()?;
        (jobs["items"].as_array()?.is_empty() && platform.pods(HOURLY).ok()?.is_empty()).then_some(())
    };
    platform.namespace.wait_for("the check to go", TIMEOUT, is_gone)?;
    job["spec"]["query"] = right;
    platform.apply(&job)?;
    platform.wait_for_status("batchjob", HOURLY, "to be scheduled", reason("Scheduled"))?;
    platform.namespace.wait_for("the second check to go", TIMEOUT, is_gone)?;
    Ok(())
}
