//! The seven built-in jobs, each over records of its own topic, or over the tables of the others.

use std::time::Duration;

use data_platform_runner::generate::{EventKind, EventSettings};
use data_platform_tests::process::{RunnerCommand, expect_code};
use data_platform_tests::{Broker, environment, needs_broker, python_reader, unique_topic};
use serde_json::Value;

use super::{Jobs, TIMEOUT, manifest, records_in_log};
use crate::enrichment;
use crate::events::{START_MS, Stream};
use crate::shipped::{CHANGES, CLICKSTREAM_AS_IT_IS, EVENT_AGGREGATION, Shipped};

/// Records of each topic, in two goes. Together they are 32 hours, so that a day is complete.
const RECORDS: u64 = 3_200;
const STEP_MS: f64 = 36_000.0;
const HOUR: i64 = 3_600_000_000;

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

struct Seven {
    jobs: Jobs,
    broker: Broker,
    /// In the order of [`EventKind::ALL`].
    streams: Vec<Stream>,
}

impl Seven {
    fn new(broker: Broker) -> anyhow::Result<Self> {
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
            let mut stream = Stream::on(shipped, broker.handle(), topic, 2, settings, STEP_MS)?;
            // No event is of the day before.
            stream.skip(Duration::from_secs(1_800));
            streams.push(stream);
        }
        let seven = Self { jobs, broker, streams };
        enrichment::make_users(&seven.jobs.folders, "80")?;
        seven.write_jobs()?;
        Ok(seven)
    }

    fn write_jobs(&self) -> anyhow::Result<()> {
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
        for job in ["hourly-aggregates", "daily-summaries", "user-segmentation"] {
            self.jobs.write(job, &manifest(job, &[])?)?;
        }
        Ok(())
    }

    fn produce(&mut self) -> anyhow::Result<()> {
        self.streams.iter_mut().try_for_each(|stream| stream.produce(RECORDS / 2))
    }

    fn once(&self) -> RunnerCommand {
        self.jobs.command(Some(&self.broker)).arg("--test-mode")
    }

    /// Every output is what others make of the records, as far as it is complete.
    fn check(&self) -> anyhow::Result<()> {
        let jobs = &self.jobs;
        let outputs = jobs.folders.outputs();
        for (stream, table) in
            self.streams.iter().zip(["events_aggregated_realtime", "clickstream_sessions", "cdc_operation_summaries"])
        {
            (stream.shipped.compare)(stream, &outputs, Some(jobs.watermark(table)?))?;
        }
        let topics: Vec<_> = self.streams.iter().map(|stream| (stream.shipped.kind, stream.topic.as_str())).collect();
        enrichment::compare(&self.broker, &topics, &jobs.folders)?;
        let table = |name: &str| jobs.output(name).into_os_string();
        let hours = (jobs.watermark("events_aggregated_realtime")? - START_MS * 1_000) / HOUR;
        anyhow::ensure!((30..34).contains(&hours), "{hours} hours");
        let hours = (0..hours).map(|hour| format!("2026-01-{:02} {:02}:00:00", 1 + hour / 24, hour % 24).into());
        let both = [table("hourly_aggregates"), table("events_aggregated_realtime")];
        python_reader("hourly_aggregates.py", both.into_iter().chain(hours))?.expect_success()?;
        let days = ["daily_summaries", "hourly_aggregates", "clickstream_sessions"].map(table);
        python_reader("daily_summaries.py", days.into_iter().chain(["2026-01-01".into()]))?.expect_success()?;
        let segments = ["user_segments", "events_aggregated_realtime", "clickstream_sessions"].map(table);
        let days = ["2025-12-03", "2026-01-02"].map(Into::into);
        let report = python_reader("user_segments.py", segments.into_iter().chain(days))?.expect_success()?;
        anyhow::ensure!(report["rows"].as_u64() > Some(20), "{report}");
        Ok(())
    }
}

/// The line that each job prints, by its name.
fn summaries(runner: &data_platform_tests::Runner) -> anyhow::Result<Vec<Value>> {
    runner.stdout().lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

#[test]
fn seven_jobs_over_what_is_there_are_exact_over_a_restart_in_the_middle() -> anyhow::Result<()> {
    let mut seven = Seven::new(needs_broker!())?;
    seven.produce()?;
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
    seven.produce()?;
    let mut runner = seven.jobs.command(Some(&seven.broker)).start()?;
    let checkpoints = seven.jobs.folders.checkpoints();
    let streaming = ["event-aggregation", "clickstream-analysis", "cdc-transformation", "data-enrichment"];
    let before = streaming.map(|job| records_in_log(&checkpoints, job));
    runner.wait_for("commits of every streaming job", TIMEOUT, |_| {
        let grown = streaming.iter().zip(before).all(|(job, before)| records_in_log(&checkpoints, job) > before + 2);
        grown.then_some(())
    })?;
    runner.kill()?;

    let (ended, runner) = seven.once().run(TIMEOUT)?;
    expect_code(ended, 0, &runner)?;
    seven.check()?;
    // Once more there is nothing to do, and nothing is done.
    let (ended, runner) = seven.once().run(TIMEOUT)?;
    expect_code(ended, 0, &runner)?;
    let batch: Vec<_> = summaries(&runner)?.into_iter().filter(|line| line.get("intervals").is_some()).collect();
    anyhow::ensure!(batch.len() == 3 && batch.iter().all(|line| line["intervals"] == 0), "{batch:?}");
    for job in streaming {
        let log = seven.jobs.log(job)?;
        anyhow::ensure!(log.iter().all(|line| line["span"]["job"] == job) && !log.is_empty(), "the log of {job}");
    }
    Ok(())
}
