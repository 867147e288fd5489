//! data-enrichment: every event of all four topics is, value for value, what plain Python makes of the raw records and of the
//! table of users, over kills.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use data_platform_runner::generate::{EventGenerator, EventKind, EventSettings};
use data_platform_runner::random::Random;
use data_platform_tests::process::RunnerCommand;
use data_platform_tests::readers::python_reader;
use data_platform_tests::{
    Broker, JobFolders, Producer, Record, Runner, environment, needs_broker, unique_topic, wait_for,
};
use serde_json::Value;

use crate::events::{TIMEOUT, finish};

const PARTITIONS: i32 = 3;
/// Records of each topic in one go.
const RECORDS: u64 = 2_500;
const HOUR_MS: i64 = 3_600_000;
/// Users of the generator; the master data has fewer.
const USERS: u64 = 300;
pub(crate) const KNOWN: &str = "200";
/// Where the manifest has them, below the outputs.
pub(crate) const USERS_FILE: &str = "users/users.parquet";

/// The four topics, with what they are called here and in the parameters of the job.
struct Topics {
    broker: Broker,
    folders: JobFolders,
    generators: Vec<(EventKind, String, EventGenerator)>,
    random: Random,
    produced: u64,
}

impl Topics {
    fn new(broker: Broker) -> anyhow::Result<Self> {
        let mut generators = Vec::new();
        for kind in EventKind::ALL {
            let topic = unique_topic(kind.topic().trim_start_matches("topic_"));
            broker.create_topic(&topic, PARTITIONS, &[])?;
            let settings = EventSettings {
                kind,
                users: USERS,
                messy: 0.02,
                disorder_ms: 600_000,
                every_timestamp_form: true,
                ..EventSettings::default()
            };
            generators.push((kind, topic, EventGenerator::new(settings)));
        }
        let folders = JobFolders::new()?;
        std::fs::create_dir_all(folders.outputs())?;
        make_users(&folders, KNOWN)?;
        Ok(Self { broker, folders, generators, random: Random::new(environment::seed()), produced: 0 })
    }

    /// Events of 30 hours ago to half an hour ahead; some stand twice, some say where they come from.
    fn produce(&mut self) -> anyhow::Result<()> {
        let producer = Producer::new(&self.broker, &[("linger.ms", "20")])?;
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
        for _ in 0..RECORDS {
            self.produced += 1;
            for (kind, topic, generator) in &mut self.generators {
                let event = generator.event(now + HOUR_MS / 2 - self.random.below(30 * HOUR_MS as u64) as i64);
                let Some(value) = event.value else {
                    producer.send(topic, &Record::tombstone().key(event.key))?;
                    continue;
                };
                let value = match (*kind, self.random.below(4)) {
                    (EventKind::AppEvents | EventKind::Clickstream, 0) => from_somewhere(value, &mut self.random),
                    _ => value,
                };
                for _ in 0..1 + u64::from(self.random.one_in(20)) {
                    let partition = self.random.below(PARTITIONS as u64) as i32;
                    let record = Record::new(value.clone()).key(event.key.clone()).partition(partition);
                    producer.send(topic, &record)?;
                }
            }
        }
        producer.flush()
    }

    fn job(&self) -> RunnerCommand {
        let mut job =
            Runner::command(["run", "data-enrichment", "--http", "127.0.0.1:0", "--starting-offsets", "earliest"]);
        let names = ["appEventsTopic", "clickstreamTopic", "changesTopic", "externalDataTopic"];
        for (name, (_, topic, _)) in names.iter().zip(&self.generators) {
            job = job.arg("--param").arg(format!("{name}={topic}"));
        }
        job.arg("--param")
            .arg("users=users.parquet")
            .arg("--set")
            .arg("spec.kafka.maxOffsetsPerTrigger=400")
            .arg("--set")
            .arg("spec.badRecords.maxPercent=100")
            .broker(&self.broker)
            .folders(&self.folders)
    }

    fn check(&self, summary: &Value) -> anyhow::Result<Value> {
        let topics: Vec<_> = self.generators.iter().map(|(kind, topic, _)| (*kind, topic.as_str())).collect();
        let report = compare(&self.broker, &topics, &self.folders)?;
        let counts: BTreeMap<_, _> =
            [("records", "records"), ("tombstones", "tombstones"), ("control", "control"), ("dead_letters", "bad")]
                .into();
        for (ours, theirs) in counts.into_iter().chain([("accepted", "accepted"), ("rows", "accepted")]) {
            anyhow::ensure!(summary[ours] == report[theirs], "{ours}: {summary} for {report:#}");
        }
        Ok(report)
    }
}

/// Compares the output of the job with what plain Python makes of the records of all four topics and of the table of users.
pub(crate) fn compare(broker: &Broker, topics: &[(EventKind, &str)], folders: &JobFolders) -> anyhow::Result<Value> {
    compare_table(broker, folders, topics, &folders.outputs().join("enriched_events"), &users(folders))
}

/// Compares a table with what plain Python makes of its topics and users; gives what became of the records.
pub(crate) fn compare_table(
    broker: &Broker,
    folders: &JobFolders,
    topics: &[(EventKind, &str)],
    table: &Path,
    users: &Path,
) -> anyhow::Result<Value> {
    let folder = folders.root().join("expected");
    std::fs::create_dir_all(&folder)?;
    let mut arguments: Vec<OsString> = vec!["compare".into(), table.into(), users.into()];
    for (kind, topic) in topics {
        let name = match kind {
            EventKind::AppEvents => "--app-events",
            EventKind::Clickstream => "--clickstream",
            EventKind::Changes => "--changes",
            EventKind::ExternalData => "--external-data",
        };
        let dump = folder.join(topic);
        broker.dump_topic(topic, &dump)?;
        arguments.extend([name.into(), dump.into()]);
    }
    python_reader("enriched_events.py", arguments)?.expect_success()
}

/// Writes a table of so many users, where the job looks for it.
pub(crate) fn make_users(folders: &JobFolders, number: &str) -> anyhow::Result<()> {
    write_users(&users(folders), number)
}

/// Writes a table of so many users.
pub(crate) fn write_users(path: &Path, number: &str) -> anyhow::Result<()> {
    let arguments = [OsStr::new("users"), path.as_os_str(), OsStr::new(number)];
    python_reader("enriched_events.py", arguments)?.expect_success().map(drop)
}

fn users(folders: &JobFolders) -> PathBuf {
    folders.outputs().join("users.parquet")
}

/// The same event with a country.
fn from_somewhere(value: Vec<u8>, random: &mut Random) -> Vec<u8> {
    let country = ["DE", "FR", "PL"][random.below(3) as usize];
    match value.strip_prefix(b"{\"") {
        Some(rest) => [format!("{{\"country\":\"{country}\",\"").as_bytes(), rest].concat(),
        None => value,
    }
}

#[test]
fn events_of_all_topics_are_what_plain_python_makes_of_them_over_kills() -> anyhow::Result<()> {
    let mut topics = Topics::new(needs_broker!())?;
    for commits in [2, 5, 9] {
        topics.produce()?;
        let mut runner = topics.job().arg("--set").arg("spec.trigger.interval=50ms").start()?;
        let log = topics.folders.checkpoints().join("local/data-enrichment/log");
        let before = std::fs::read_dir(&log).map_or(0, Iterator::count);
        wait_for("some commits of this run", TIMEOUT, || {
            let records = std::fs::read_dir(&log).map_or(0, Iterator::count);
            (records >= before + commits).then_some(())
        })?;
        runner.kill()?;
    }
    let summary = finish(topics.job().arg("--test-mode"))?;
    let report = topics.check(&summary)?;
    let flags = report["flags"].as_object().context("flags")?;
    for flag in
        ["unknown_user", "unverified_account", "device_mismatch", "country_mismatch", "future_timestamp", "stale_event"]
    {
        anyhow::ensure!(flags.get(flag).and_then(Value::as_u64) > Some(50), "{flag}: {flags:?}");
    }
    anyhow::ensure!(report["bad"].as_u64() > Some(50) && report["high_value"].as_u64() > Some(50), "{report}");
    Ok(())
}
