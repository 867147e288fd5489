//! The seven built-in jobs, each over records of its own topic, or over the tables of the others: everything once, over a kill in
//! the middle, one by one, and as a server runs them beside jobs that fail.

use std::ffi::OsString;
use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use data_platform_runner::checkpoint::record::encode;
use data_platform_runner::clock::show_time;
use data_platform_runner::generate::{EventKind, EventSettings};
use data_platform_tests::process::{RunnerCommand, expect_code};
use data_platform_tests::{Broker, Pages, Runner, environment, needs_broker, python_reader, unique_topic};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{DAMAGED, Jobs, TIMEOUT, damage, manifest, nowhere, ready, records_in_log, wait_for_job};
use crate::enrichment;
use crate::events::{START_MS, Stream, finish};
use crate::shipped::{CHANGES, CLICKSTREAM_AS_IT_IS, EVENT_AGGREGATION, Shipped};

/// Records of each topic.
const RECORDS: u64 = 3_200;
/// With so much time between them they are 32 hours: a day is complete.
const STEP_MS: f64 = 36_000.0;
const MINUTE: i64 = 60_000_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const BATCH: [&str; 3] = ["hourly-aggregates", "daily-summaries", "user-segmentation"];
pub(super) const STREAMING: [&str; 4] =
    ["event-aggregation", "clickstream-analysis", "cdc-transformation", "data-enrichment"];

static EXTERNAL: Shipped = Shipped {
    name: "data-enrichment",
    file: None,
    kind: EventKind::ExternalData,
    tables: &[("enriched_events", &[])],
    parameters: &[],
    fields: &[],
    step_ms: STEP_MS,
    compare: |_, _, _| Ok(Value::Null),
};

pub(super) struct Seven {
    pub(super) jobs: Jobs,
    pub(super) broker: Broker,
    /// In the order of [`EventKind::ALL`].
    streams: Vec<Stream>,
    /// Midnight before the first record, in microseconds since 1970.
    begin: i64,
}

impl Seven {
    /// Topics without records, which will begin half an hour after a midnight.
    pub(super) fn new(broker: Broker, begin: i64, step_ms: f64, schedules: &[(&str, &str)]) -> anyhow::Result<Self> {
        let jobs = Jobs::new()?;
        let mut streams = Vec::new();
        for shipped in [&EVENT_AGGREGATION, &CLICKSTREAM_AS_IT_IS, &CHANGES, &EXTERNAL] {
            let settings = EventSettings {
                seed: environment::seed(),
                users: 120,
                disorder_ms: 20_000,
                messy: 0.02,
                every_timestamp_form: true,
                ..EventSettings::default()
            };
            let topic = unique_topic(&format!("seven-{}", shipped.kind.topic().trim_start_matches("topic_")));
            let mut stream = Stream::on(shipped, broker.handle(), topic, 2, settings, step_ms)?;
            // No event is of the day before.
            stream.skip(Duration::from_millis((begin / 1_000 - START_MS + 1_800_000).unsigned_abs()));
            streams.push(stream);
        }
        let seven = Self { jobs, broker, streams, begin };
        enrichment::make_users(&seven.jobs.folders, "80")?;
        seven.write_jobs(schedules)?;
        Ok(seven)
    }

    /// With schedules that are other than in the manifests.
    fn write_jobs(&self, schedules: &[(&str, &str)]) -> anyhow::Result<()> {
        let topics: Vec<_> =
            self.streams.iter().map(|stream| (stream.shipped.kind.topic(), stream.topic.as_str())).collect();
        let [events, clicks, changes, external] = topics[..] else { anyhow::bail!("four topics") };
        let small = [
            ("maxOffsetsPerTrigger: 10000", "maxOffsetsPerTrigger: 700"),
            ("startingOffsets: latest", "startingOffsets: earliest"),
            ("    interval: 10s", "    interval: 200ms"),
        ];
        for (job, replaced) in [
            ("event-aggregation", vec![events]),
            ("clickstream-analysis", vec![clicks]),
            ("cdc-transformation", vec![changes]),
            ("data-enrichment", vec![events, clicks, changes, external, ("users: users ", "users: users.parquet ")]),
        ] {
            self.jobs.write(job, &manifest(job, &[&replaced[..], &small].concat())?)?;
        }
        for (number, job) in BATCH.into_iter().enumerate() {
            self.jobs.write(job, &manifest(job, &schedules.get(number).copied().into_iter().collect::<Vec<_>>())?)?;
        }
        Ok(())
    }

    pub(super) fn produce(&mut self, records: u64) -> anyhow::Result<()> {
        self.streams.iter_mut().try_for_each(|stream| stream.produce(records))
    }

    fn once(&self) -> RunnerCommand {
        self.jobs.command(Some(&self.broker)).arg("--test-mode")
    }

    /// Runs each job alone with `run`, into folders of its own; gives them.
    fn one_by_one(&self) -> anyhow::Result<Jobs> {
        let alone = Jobs::new()?;
        enrichment::make_users(&alone.folders, "80")?;
        let run = |job: &str, more: &[&str]| {
            let command = Runner::command(["run", "--http", "off", "-f"]).arg(self.jobs.file(job));
            let command = more.iter().fold(command, |command, argument| command.arg(argument));
            finish(command.broker(&self.broker).folders(&alone.folders))
        };
        for job in STREAMING {
            run(job, &["--test-mode"])?;
        }
        let until = hour(self.begin + self.hours(&alone)? * HOUR);
        run("hourly-aggregates", &["--from", &hour(self.begin), "--to", &until])?;
        run("daily-summaries", &["--target-date", &date(self.begin)])?;
        run("user-segmentation", &["--target-date", &date(self.begin)])?;
        Ok(alone)
    }

    /// How many hours of the records are over.
    pub(super) fn hours(&self, jobs: &Jobs) -> anyhow::Result<i64> {
        Ok((jobs.watermark("events_aggregated_realtime")? - self.begin) / HOUR)
    }

    /// Waits until every record is committed, and every window that they close.
    pub(super) fn wait_for_all_records(&self, runner: &mut Runner, pages: &Pages) -> anyhow::Result<()> {
        for job in STREAMING {
            let page = format!("/jobs/local/{job}/status");
            runner.wait_for(&format!("{job} to have committed all records"), TIMEOUT, |_| {
                let status = pages.get(&page).ok()?.json().ok()?;
                let partitions = status["partitions"].as_array()?;
                let is_at_end = |partition: &Value| -> Option<bool> {
                    let ends = self.broker.offsets(partition["topic"].as_str()?).ok()?;
                    let (_, end) = ends.get(usize::try_from(partition["partition"].as_i64()?).ok()?)?;
                    Some(partition["position"].as_i64()? == *end)
                };
                let are_at_end = partitions.iter().all(|partition| is_at_end(partition) == Some(true));
                (!partitions.is_empty() && are_at_end).then_some(())
            })?;
        }
        Ok(())
    }

    /// Every output is what others make of the records, as far as it is complete: so many hours and days.
    pub(super) fn check(&self, jobs: &Jobs, hours: i64, days: i64) -> anyhow::Result<()> {
        let outputs = jobs.folders.outputs();
        for (stream, table) in
            self.streams.iter().zip(["events_aggregated_realtime", "clickstream_sessions", "cdc_operation_summaries"])
        {
            (stream.shipped.compare)(stream, &outputs, Some(jobs.watermark(table)?))?;
        }
        let topics: Vec<_> = self.streams.iter().map(|stream| (stream.shipped.kind, stream.topic.as_str())).collect();
        enrichment::compare(&self.broker, &topics, &jobs.folders)?;
        let check = |reader: &str, tables: &[&str], times: Vec<String>| {
            let tables = tables.iter().map(|name| jobs.output(name).into_os_string());
            python_reader(reader, tables.chain(times.into_iter().map(OsString::from)))?.expect_success()
        };
        let of_hours = (0..hours).map(|number| hour(self.begin + number * HOUR)).collect();
        check("hourly_aggregates.py", &["hourly_aggregates", "events_aggregated_realtime"], of_hours)?;
        let of_days = (0..days).map(|number| date(self.begin + number * DAY)).collect();
        check("daily_summaries.py", &["daily_summaries", "hourly_aggregates", "clickstream_sessions"], of_days)?;
        let end = self.begin + days * DAY;
        let tables = ["user_segments", "events_aggregated_realtime", "clickstream_sessions"];
        let report = check("user_segments.py", &tables, vec![date(end - 30 * DAY), date(end)])?;
        anyhow::ensure!(report["rows"].as_u64() > Some(20), "{report}");
        Ok(())
    }
}

/// `2026-01-01 14:00:00`.
fn hour(time: i64) -> String {
    show_time(time)[..19].replace('T', " ")
}

/// `2026-01-01`.
fn date(time: i64) -> String {
    show_time(time)[..10].to_owned()
}

/// The line that each job prints, by its name.
fn summaries(runner: &data_platform_tests::Runner) -> anyhow::Result<Vec<Value>> {
    runner.stdout().lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

#[test]
fn seven_jobs_over_what_is_there_are_exact_over_a_restart_in_the_middle() -> anyhow::Result<()> {
    let mut seven = Seven::new(needs_broker!(), START_MS * 1_000, STEP_MS, &[])?;
    seven.produce(RECORDS / 2)?;
    let (ended, runner) = seven.once().run(TIMEOUT)?;
    expect_code(ended, 0, &runner)?;
    let order: Vec<_> =
        summaries(&runner)?.iter().map(|line| line["job"].as_str().unwrap_or_default().to_owned()).collect();
    let place = |job: &str| order.iter().position(|one| one == job);
    anyhow::ensure!(order.len() == 7, "{order:?}");
    for (first, then) in [
        ("event-aggregation", "hourly-aggregates"),
        ("hourly-aggregates", "daily-summaries"),
        ("clickstream-analysis", "daily-summaries"),
        ("clickstream-analysis", "user-segmentation"),
    ] {
        anyhow::ensure!(place(first) < place(then), "{then} before {first}: {order:?}");
    }

    // As a server runs it, until it is killed in the middle.
    seven.produce(RECORDS / 2)?;
    let mut runner = seven.jobs.command(Some(&seven.broker)).start()?;
    let checkpoints = seven.jobs.folders.checkpoints();
    let before = STREAMING.map(|job| records_in_log(&checkpoints, job));
    runner.wait_for("commits of every streaming job", TIMEOUT, |_| {
        let grown = STREAMING.iter().zip(before).all(|(job, before)| records_in_log(&checkpoints, job) > before + 2);
        grown.then_some(())
    })?;
    runner.kill()?;

    let (ended, runner) = seven.once().run(TIMEOUT)?;
    expect_code(ended, 0, &runner)?;
    let hours = seven.hours(&seven.jobs)?;
    anyhow::ensure!((30..34).contains(&hours), "{hours} hours");
    seven.check(&seven.jobs, hours, 1)?;
    // Once more there is nothing to do, and nothing is done.
    let (ended, runner) = seven.once().run(TIMEOUT)?;
    expect_code(ended, 0, &runner)?;
    let batch: Vec<_> = summaries(&runner)?.into_iter().filter(|line| line.get("intervals").is_some()).collect();
    anyhow::ensure!(batch.len() == 3 && batch.iter().all(|line| line["intervals"] == 0), "{batch:?}");
    // And the half of them that is asked for.
    for (streaming, batch, jobs) in [("true", "false", &STREAMING[..]), ("False", "True", &BATCH[..])] {
        let half = seven.once().arg("--streaming").arg(streaming).arg("--batch").arg(batch);
        let (ended, runner) = half.run(TIMEOUT)?;
        expect_code(ended, 0, &runner)?;
        let lines = summaries(&runner)?;
        let mut found: Vec<_> = lines.iter().map(|line| line["job"].as_str().unwrap_or_default()).collect();
        found.sort_unstable();
        let mut jobs = jobs.to_vec();
        jobs.sort_unstable();
        anyhow::ensure!(found == jobs, "--streaming {streaming} --batch {batch}: {found:?}");
    }
    for job in STREAMING {
        let log = seven.jobs.log(job)?;
        anyhow::ensure!(log.iter().all(|line| line["span"]["job"] == job) && !log.is_empty(), "the log of {job}");
    }
    // And the same records through `run`, one job after the other.
    let alone = seven.one_by_one()?;
    seven.check(&alone, seven.hours(&alone)?, 1)
}

#[test]
fn a_minute_of_seven_jobs_is_exact_beside_a_broker_that_goes_a_corrupt_file_and_a_job_that_always_fails()
-> anyhow::Result<()> {
    let _shared = needs_broker!();
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())?;
    // Three days until five minutes ago.
    let begin = now - now % DAY - 2 * DAY;
    let step_ms = (now - 5 * MINUTE - begin - HOUR / 2) as f64 / 1e3 / RECORDS as f64;
    // No time of a schedule comes while the test runs: the next one is half an hour away.
    let minute = (now / MINUTE + 30).rem_euclid(60);
    let (hourly, daily) = (format!("{minute} * * * *"), format!("{minute} 1 * * *"));
    let schedules = [("5 * * * *", hourly.as_str()), ("0 2 * * *", daily.as_str()), ("0 3 * * *", daily.as_str())];
    let mut seven = Seven::new(Broker::private(&[])?, begin, step_ms, &schedules)?;
    let catch_up = manifest("hourly-aggregates", &[schedules[0], ("catchUp: 24 ", "catchUp: 80 ")])?;
    seven.jobs.write("hourly-aggregates", &catch_up)?;
    seven.jobs.write("nowhere", &nowhere()?)?;
    seven.jobs.write("damaged", DAMAGED)?;
    damage(&seven.jobs)?;
    // They are known since the end of their first hour and day, and nothing ran since.
    let since = |time: i64| json!({ "since": time - 1 });
    let known = json!({"jobs": {
        "hourly-aggregates": since(begin + HOUR), "daily-summaries": since(begin + DAY), "user-segmentation": since(begin + DAY),
    }});
    let checkpoints = seven.jobs.folders.checkpoints().join("local");
    fs::create_dir_all(&checkpoints)?;
    fs::write(checkpoints.join("local.json"), encode(0, &known))?;

    let rounds = environment::rounds(30, 300);
    let of_a_round = RECORDS / u64::from(rounds);
    let mut runner = seven.jobs.command(Some(&seven.broker)).env("LOG_LEVEL", "info").start()?;
    let pages = Pages::of(&mut runner)?;
    let began = Instant::now();
    for round in 0..rounds {
        seven.produce(of_a_round)?;
        if round % 30 == 15 {
            seven.broker.kill()?;
            seven.broker.restart()?;
        }
        for job in STREAMING {
            wait_for_job(&mut runner, &pages, job, "caught up", |job| {
                job["status"]["lag"]["totalRecords"] == 0 && ready(job).0 == "True"
            })?;
        }
        let next = Duration::from_secs(2) * (round + 1);
        runner.wait_for("the next round", TIMEOUT, |_| (began.elapsed() >= next).then_some(()))?;
    }
    seven.produce(RECORDS - of_a_round * u64::from(rounds))?;
    seven.wait_for_all_records(&mut runner, &pages)?;
    for job in BATCH {
        wait_for_job(&mut runner, &pages, job, "done with what it missed", |job| {
            job["status"]["lastRun"]["result"] == "Succeeded" && ready(job).1 == "Scheduled"
        })?;
    }
    // The others failed all the time, and say why.
    for (job, reason) in [("nowhere", "TopicNotFound"), ("damaged", "QueryFailed")] {
        wait_for_job(&mut runner, &pages, job, "in trouble", |job| {
            ready(job) == ("False".to_owned(), reason.to_owned())
        })?;
    }
    runner.signal(Signal::TERM)?;
    let ended = runner.wait(TIMEOUT)?;
    expect_code(ended, 0, &runner)?;
    // The newest time that was due is about the hour, or the day, before it.
    let due_of = |period: i64, offset: i64| now - (now - offset).rem_euclid(period);
    let hours = (due_of(HOUR, minute * MINUTE) - begin) / HOUR;
    let days = (due_of(DAY, HOUR + minute * MINUTE) - begin) / DAY;
    seven.check(&seven.jobs, hours, days)
}
