//! Seeded events in a topic of their own, and the event-aggregation job over them: what most tests begin with.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use data_platform_runner::generate::{EventGenerator, EventSettings, GeneratedEvent};
use data_platform_tests::readers::Expected;
use data_platform_tests::{
    Broker, Ended, JobFolders, Producer, Record, Runner, environment, process::RunnerCommand, unique_topic,
};

/// Longest run of a bounded job in a test.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(120);
/// Event time of the first event: 2026-01-01 00:00 UTC.
pub(crate) const START_MS: i64 = 1_767_225_600_000;
/// Options of the independent computation: what the manifest declares beside the required fields.
const DECLARED: [&str; 4] = ["--also-text", "event_id,source,version", "--also-json", "properties"];

/// A topic with events, and folders for a job over it.
pub(crate) struct Stream {
    pub broker: Broker,
    pub topic: String,
    pub partitions: i32,
    pub folders: JobFolders,
    generator: EventGenerator,
    produced: u64,
    step_ms: f64,
    skipped_ms: i64,
}

impl Stream {
    /// An empty topic. `step_ms` is the event time between two events.
    pub(crate) fn new(
        broker: Broker,
        name: &str,
        partitions: i32,
        settings: EventSettings,
        step_ms: f64,
    ) -> anyhow::Result<Self> {
        let topic = unique_topic(&format!("{name}-app_events"));
        broker.create_topic(&topic, partitions, &[])?;
        let generator = EventGenerator::new(settings);
        let folders = JobFolders::new()?;
        Ok(Self { broker, topic, partitions, folders, generator, produced: 0, step_ms, skipped_ms: 0 })
    }

    /// Produces the next events.
    pub(crate) fn produce(&mut self, number: u64) -> anyhow::Result<()> {
        self.produce_to(number, by_user(self.partitions))
    }

    /// Produces the next events to partitions of one's choice.
    pub(crate) fn produce_to(&mut self, number: u64, partition: impl Fn(u64) -> i32) -> anyhow::Result<()> {
        self.produce_seen(number, partition, |_| {})
    }

    /// Produces the next events; tells how many each user has in each minute, as `(minute, user)`.
    pub(crate) fn produce_counted(&mut self, number: u64) -> anyhow::Result<BTreeMap<(i64, String), u64>> {
        let mut counts = BTreeMap::new();
        self.produce_seen(number, by_user(self.partitions), |event| {
            let user = String::from_utf8_lossy(&event.key).into_owned();
            *counts.entry((event.time_ms.div_euclid(60_000), user)).or_default() += 1;
        })?;
        Ok(counts)
    }

    /// Lets event time pass without events: after a drain, which closed every window, the next begin in new ones.
    pub(crate) fn skip(&mut self, time: Duration) {
        self.skipped_ms += time.as_millis() as i64;
    }

    fn produce_seen(
        &mut self,
        number: u64,
        partition: impl Fn(u64) -> i32,
        mut see: impl FnMut(&GeneratedEvent),
    ) -> anyhow::Result<()> {
        let producer = Producer::new(&self.broker, &[("compression.type", "lz4"), ("linger.ms", "20")])?;
        for _ in 0..number {
            let time_ms = START_MS + self.skipped_ms + (self.produced as f64 * self.step_ms) as i64;
            let event = self.generator.event(time_ms);
            self.produced += 1;
            see(&event);
            let record = match event.value {
                Some(value) => Record::new(value),
                None => Record::tombstone(),
            };
            let record = record.key(event.key).partition(partition(event.user)).timestamp_ms(event.time_ms);
            producer.send(&self.topic, &record)?;
        }
        producer.flush()
    }

    /// Produces events that happen now.
    pub(crate) fn produce_now(&mut self, number: u64) -> anyhow::Result<()> {
        let producer = Producer::new(&self.broker, &[])?;
        for _ in 0..number {
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
            let event = self.generator.event(i64::try_from(now)?);
            let value = event.value.context("these events are not messy")?;
            let partition = by_user(self.partitions)(event.user);
            producer.send(&self.topic, &Record::new(value).key(event.key).partition(partition))?;
        }
        producer.flush()
    }

    /// The job over this topic, from the earliest record.
    pub(crate) fn job(&self) -> RunnerCommand {
        self.job_of("data-platform")
    }

    /// The same with the program that takes orders for faults.
    pub(crate) fn job_with_faults(&self) -> RunnerCommand {
        self.job_of("data-platform-faults")
    }

    fn job_of(&self, program: &str) -> RunnerCommand {
        self.on_topic(Runner::program(&environment::program(program), ["run", "event-aggregation"]))
    }

    /// A command of the runner that reads this topic and writes to these folders.
    pub(crate) fn on_topic(&self, command: RunnerCommand) -> RunnerCommand {
        command
            .arg("--set")
            .arg(format!("spec.sources[0].topics[0]={}", self.topic))
            .arg("--http")
            .arg("127.0.0.1:0")
            .env("LOG_LEVEL", "debug")
            .broker(&self.broker)
            .folders(&self.folders)
    }

    /// Where the job's table lies.
    pub(crate) fn output(&self) -> PathBuf {
        self.folders.outputs().join("events_aggregated_realtime")
    }

    /// Where the job's log lies.
    pub(crate) fn checkpoint(&self) -> PathBuf {
        self.folders.checkpoints().join("local/event-aggregation")
    }

    /// Processes everything and closes every window; gives the summary.
    pub(crate) fn drain(&self) -> anyhow::Result<serde_json::Value> {
        finish(self.job().arg("--drain").arg("--starting-offsets").arg("earliest"))
    }

    /// What the output must be, computed from the raw records by somebody else.
    pub(crate) fn expected(&self) -> anyhow::Result<Expected> {
        Expected::of_topic(&self.broker, &self.topic, &DECLARED)
    }

    /// The output is exact for both plain readers, and every record of the topic has one fate.
    pub(crate) fn check_exact(&self, summary: &serde_json::Value) -> anyhow::Result<()> {
        let expected = self.expected()?;
        expected.compare(&self.output(), &[])?.expect_success()?;
        check_counts(summary, &expected)
    }

    /// The output is exact but for what was late: every event is in a row or was counted as late.
    pub(crate) fn check_conserved(&self, summary: &serde_json::Value) -> anyhow::Result<()> {
        let expected = self.expected()?;
        check_counts(summary, &expected)?;
        let report = expected.compare(&self.output(), &["--late"])?.expect_success()?;
        for reader in ["duckdb", "pyarrow"] {
            anyhow::ensure!(report[reader]["events"] == summary["accepted"], "{reader}: {report:#} for {summary}");
        }
        let (late, accepted) = (summary["late"].as_u64(), summary["accepted"].as_u64());
        let all = late.context("late")? + accepted.context("accepted")?;
        anyhow::ensure!(all == expected.count("accepted"), "{summary} for {:#}", expected.counts);
        Ok(())
    }

    /// The job's own proof: `audit` and `checkpoint verify` find nothing wrong.
    pub(crate) fn check_proved(&self) -> anyhow::Result<()> {
        for command in [&["audit"][..], &["checkpoint", "verify"]] {
            let job = Runner::command(command.iter().chain(&["event-aggregation"])).folders(&self.folders);
            let (ended, runner) = job.run(TIMEOUT)?;
            anyhow::ensure!(ended == Ended::Code(0), "{command:?}: {}\n{}", runner.stdout(), runner.last_lines());
        }
        Ok(())
    }
}

/// All events of a user are in one partition.
fn by_user(partitions: i32) -> impl Fn(u64) -> i32 {
    move |user| (user % u64::from(partitions.unsigned_abs())) as i32
}

/// Every record is in exactly one of the summary's counts, and those are what the records say.
pub(crate) fn check_counts(summary: &serde_json::Value, expected: &Expected) -> anyhow::Result<()> {
    let count = |name: &str| summary[name].as_u64().with_context(|| format!("{name} in {summary}"));
    let fates = ["tombstones", "control", "dead_letters", "future", "filtered", "late", "accepted"];
    let total = fates.iter().map(|name| count(name)).sum::<anyhow::Result<u64>>()?;
    anyhow::ensure!(total == count("records")?, "records are not conserved: {summary}");
    for (ours, theirs) in [("records", "records"), ("tombstones", "tombstones"), ("dead_letters", "bad")] {
        anyhow::ensure!(
            count(ours)? == expected.count(theirs),
            "{ours}: {} here, {} by the independent computation ({:#})",
            count(ours)?,
            expected.count(theirs),
            expected.counts
        );
    }
    Ok(())
}

/// Runs a bounded job to its good end; gives the summary that it prints.
pub(crate) fn finish(command: RunnerCommand) -> anyhow::Result<serde_json::Value> {
    let (ended, runner) = command.run(TIMEOUT)?;
    anyhow::ensure!(ended == Ended::Code(0), "it ended with {ended:?}: {}", runner.last_lines());
    serde_json::from_str(&runner.stdout()).with_context(|| runner.last_lines())
}

/// Number of commits in a job's log, as its newest records say.
pub(crate) fn committed_versions(stream: &Stream) -> usize {
    let listing = std::fs::read_dir(stream.checkpoint().join("log"));
    listing.map(|entries| entries.count()).unwrap_or(0)
}
