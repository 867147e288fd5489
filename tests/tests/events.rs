//! Seeded records in a topic of their own, and a shipped job over them, event-aggregation unless another is asked for: what
//! most tests begin with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use data_platform_runner::generate::{EventGenerator, EventSettings, GeneratedEvent};
use data_platform_tests::readers::Expected;
use data_platform_tests::{
    Broker, Ended, JobFolders, Producer, Record, Runner, Watcher, environment, process::RunnerCommand, unique_topic,
};

use crate::shipped::{EVENT_AGGREGATION, Shipped};

/// Longest run of a bounded job in a test.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(120);
/// Event time of the first event: 2026-01-01 00:00 UTC.
pub(crate) const START_MS: i64 = 1_767_225_600_000;
/// Options of the independent computation: what the manifest declares beside the required fields.
const DECLARED: [&str; 4] = ["--also-text", "event_id,source,version", "--also-json", "properties"];

/// A topic with events, and folders for a job over it.
pub(crate) struct Stream {
    pub shipped: &'static Shipped,
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
    /// An empty topic for event-aggregation. `step_ms` is the event time between two events.
    pub(crate) fn new(
        broker: Broker,
        name: &str,
        partitions: i32,
        settings: EventSettings,
        step_ms: f64,
    ) -> anyhow::Result<Self> {
        let topic = unique_topic(&format!("{name}-app_events"));
        Self::on(&EVENT_AGGREGATION, broker, topic, partitions, settings, step_ms)
    }

    /// An empty topic for a shipped job, with the time between two events that suits it.
    pub(crate) fn of(
        shipped: &'static Shipped,
        broker: Broker,
        name: &str,
        partitions: i32,
        settings: EventSettings,
    ) -> anyhow::Result<Self> {
        let topic = unique_topic(&format!("{name}-{}", shipped.kind.topic().trim_start_matches("topic_")));
        Self::on(shipped, broker, topic, partitions, settings, shipped.step_ms)
    }

    /// An empty topic of this name for a shipped job.
    pub(crate) fn on(
        shipped: &'static Shipped,
        broker: Broker,
        topic: String,
        partitions: i32,
        settings: EventSettings,
        step_ms: f64,
    ) -> anyhow::Result<Self> {
        let settings = EventSettings { kind: shipped.kind, ..settings };
        broker.create_topic(&topic, partitions, &[])?;
        let generator = EventGenerator::new(settings);
        let folders = JobFolders::new()?;
        Ok(Self { shipped, broker, topic, partitions, folders, generator, produced: 0, step_ms, skipped_ms: 0 })
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
        let program = environment::program(program);
        let command = match self.shipped.file {
            Some(file) => {
                Runner::program(&program, ["run", "-f"]).arg(environment::tests_folder().join("..").join(file))
            }
            None => Runner::program(&program, ["run", self.shipped.name]),
        };
        let fields = self.shipped.fields.iter();
        let command = fields.fold(command, |command, field| command.arg("--set").arg(field));
        let parameters = self.shipped.parameters.iter();
        self.on_topic(parameters.fold(command, |command, (name, value)| {
            command.arg("--param").arg(format!("{name}={}", value.replace("{topic}", &self.topic)))
        }))
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

    /// Where the job's first table lies.
    pub(crate) fn output(&self) -> PathBuf {
        self.folders.outputs().join(self.shipped.tables[0].0)
    }

    /// Plain readers in a loop over every table of the job.
    pub(crate) fn watch(&self) -> anyhow::Result<Vec<Watcher>> {
        let tables = self.shipped.tables.iter();
        tables.map(|(table, key)| Watcher::start_with_key(&self.folders.outputs().join(table), key)).collect()
    }

    /// Where the job's log lies.
    pub(crate) fn checkpoint(&self) -> PathBuf {
        self.folders.checkpoints().join("local").join(self.shipped.name)
    }

    /// Processes everything and closes every window; gives the summary.
    pub(crate) fn drain(&self) -> anyhow::Result<serde_json::Value> {
        finish(self.job().arg("--drain").arg("--starting-offsets").arg("earliest"))
    }

    /// What the output must be, computed from the raw records by somebody else.
    pub(crate) fn expected(&self) -> anyhow::Result<Expected> {
        self.expected_with(&[])
    }

    /// The same with further options of the independent computation.
    pub(crate) fn expected_with(&self, options: &[&str]) -> anyhow::Result<Expected> {
        Expected::of_topic(&self.broker, &self.topic, &[&DECLARED, options].concat())
    }

    /// Every output is exact for both plain readers, and every record of the topic has one fate.
    pub(crate) fn check_exact(&self, summary: &serde_json::Value) -> anyhow::Result<()> {
        check_counts(summary, &self.compare(&self.folders.outputs(), None)?)
    }

    /// Compares every table of the job below `outputs` with an independent computation over all records of the topic; those
    /// of windows as far as they are closed at a watermark (microseconds since 1970), or all. Gives what became of the
    /// records.
    pub(crate) fn compare(&self, outputs: &Path, watermark: Option<i64>) -> anyhow::Result<serde_json::Value> {
        (self.shipped.compare)(self, outputs, watermark)
    }

    /// Writes the topic down for the independent readers.
    pub(crate) fn dump(&self) -> anyhow::Result<PathBuf> {
        let dump = self.folders.root().join("dump.jsonl");
        self.broker.dump_topic(&self.topic, &dump)?;
        Ok(dump)
    }

    /// The output is exact but for what was late: every event is in a row or was counted as late.
    pub(crate) fn check_conserved(&self, summary: &serde_json::Value) -> anyhow::Result<()> {
        let expected = self.expected()?;
        check_counts(summary, &expected.counts)?;
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
            let job = Runner::command(command.iter().chain(&[self.shipped.name])).folders(&self.folders);
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

/// Every record is in exactly one of the summary's counts, and those are what the independent computation counts.
pub(crate) fn check_counts(summary: &serde_json::Value, expected: &serde_json::Value) -> anyhow::Result<()> {
    let count = |of: &serde_json::Value, name: &str| of[name].as_u64().with_context(|| format!("{name} in {of}"));
    let aside = ["tombstones", "control", "dead_letters", "future", "duplicates"];
    let aside = aside.iter().map(|name| count(summary, name)).sum::<anyhow::Result<u64>>()?;
    // A job of one output has its figures at the top.
    let outputs = summary["outputs"].as_object().map_or_else(|| vec![summary], |outputs| outputs.values().collect());
    for output in outputs {
        let fates = ["filtered", "late", "accepted"].iter().map(|name| count(output, name));
        let total = aside + fates.sum::<anyhow::Result<u64>>()?;
        anyhow::ensure!(total == count(summary, "records")?, "records are not conserved: {summary}");
    }
    let names = [
        ("records", "records"),
        ("tombstones", "tombstones"),
        ("control", "control"),
        ("dead_letters", "bad"),
        ("duplicates", "duplicates"),
    ];
    for (ours, theirs) in names.into_iter().filter(|(_, theirs)| !expected[*theirs].is_null()) {
        let (found, expected_count) = (count(summary, ours)?, count(expected, theirs)?);
        anyhow::ensure!(
            found == expected_count,
            "{ours}: {found} here, {expected_count} by the independent computation ({expected:#})"
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
