//! clickstream-analysis: each visit is, value for value, what plain Python makes of the raw records.

use std::ffi::OsStr;
use std::fmt::Write as _;

use anyhow::Context;
use data_platform_runner::random::Random;
use data_platform_tests::readers::python_reader;
use data_platform_tests::{
    Broker, JobFolders, Producer, Record, Runner, needs_broker, process::RunnerCommand, unique_topic,
};
use serde_json::{Value, json};

use crate::events::{START_MS, finish};

const PARTITIONS: i32 = 4;
/// Events in 60 hours of event time: three midnights are crossed.
const EVENTS: u64 = 40_000;
const STEP_MS: i64 = 5_400;
/// Below the delay of 30 seconds: nothing is late.
const DISORDER_MS: u64 = 20_000;

struct Clicks {
    broker: Broker,
    topic: String,
    folders: JobFolders,
    random: Random,
    produced: u64,
}

impl Clicks {
    fn new(broker: Broker) -> anyhow::Result<Self> {
        let topic = unique_topic("clickstream");
        broker.create_topic(&topic, PARTITIONS, &[])?;
        Ok(Self { broker, topic, folders: JobFolders::new()?, random: Random::new(7), produced: 0 })
    }

    fn produce(&mut self, number: u64) -> anyhow::Result<()> {
        let producer = Producer::new(&self.broker, &[("linger.ms", "20")])?;
        for _ in 0..number {
            let time_ms = START_MS + self.produced as i64 * STEP_MS - self.random.below(DISORDER_MS) as i64;
            self.produced += 1;
            let (user, value) = self.event(time_ms);
            let record = value.map_or_else(Record::tombstone, |value| Record::new(value.into_bytes()));
            // Most events of a user are in one partition; some are elsewhere, with equal times.
            let partition = if self.random.below(8) == 0 { self.random.below(4) } else { user % 4 };
            producer.send(&self.topic, &record.key(format!("u{user}").into_bytes()).partition(partition as i32))?;
        }
        producer.flush()
    }

    /// Number of the user, and the record's value; `None` is a tombstone.
    fn event(&mut self, time_ms: i64) -> (u64, Option<String>) {
        // A robot has an event every other minute, all day and night.
        let user = if self.random.below(20) == 0 { 1_000 } else { self.random.below(90) };
        let kind = ["click", "scroll", "hover", "focus"][self.random.below(4) as usize];
        let mut event = json!({
            "event_id": format!("e{}", self.produced),
            "user_id": format!("user {user}"),
            "page_url": format!("https://shop.example/page/{}?from=a-long-enough-address", self.random.below(12)),
            "event_type": kind,
            "timestamp": self.timestamp(time_ms),
            "x_pos": self.random.below(1_000),
            "y_pos": 0.5,
        });
        match (user, self.random.below(10)) {
            (1_000, _) => event["session_id"] = json!("robot"),
            (_, 0) => event["session_id"] = Value::Null,
            (_, 1) => {}
            _ => event["session_id"] = json!(format!("s{}", user * 3 + self.random.below(2))),
        }
        if self.random.below(3) > 0 {
            event["element_id"] = json!(format!("button-{}", self.random.below(5)));
        }
        if self.random.below(4) == 0 {
            event["device_type"] = ["desktop", "mobile", "tablet"][self.random.below(3) as usize].into();
        }
        let value = match self.random.below(250) {
            0 => None,
            1 => Some("{\"event_id\": ".to_owned()),
            2 => {
                event["page_url"] = Value::Null;
                Some(event.to_string())
            }
            _ => Some(event.to_string()),
        };
        (user, value)
    }

    /// A time in one of the accepted forms, some of them to the second: then there are ties.
    fn timestamp(&mut self, time_ms: i64) -> Value {
        let seconds = time_ms.div_euclid(1_000);
        let day = seconds.div_euclid(86_400) - 20_454;
        // 20,454 days after 1970 it is 2026-01-01; three days later it is still January.
        let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
        let mut text = String::new();
        let date = if day < 0 { "2025-12-31".to_owned() } else { format!("2026-01-{:02}", day + 1) };
        let clock = format!("{hour:02}:{minute:02}:{second:02}");
        let millis = time_ms.rem_euclid(1_000);
        let _ = match self.random.below(7) {
            0 => return json!(time_ms),
            1 => return json!(seconds),
            2 => write!(text, "{date} {clock}.{millis:03}"),
            3 => write!(text, "{date}T{clock}Z"),
            4 => write!(text, "{date}T{clock}.{millis:03}000000Z"),
            5 => write!(text, "{date}T{clock}.{millis:03}+00:00"),
            _ => write!(text, "{date}T{clock}"),
        };
        json!(text)
    }

    fn job(&self) -> RunnerCommand {
        Runner::command(["run", "clickstream-analysis", "--http", "127.0.0.1:0", "--starting-offsets", "earliest"])
            .arg("--param")
            .arg(format!("topic={}", self.topic))
            .env("LOG_LEVEL", "debug")
            .broker(&self.broker)
            .folders(&self.folders)
    }

    /// Compares with the computation of plain Python, by both plain readers.
    fn check(&self, summary: &Value) -> anyhow::Result<Value> {
        let folder = self.folders.root().join("expected");
        std::fs::create_dir_all(&folder)?;
        let dump = folder.join("dump.jsonl");
        self.broker.dump_topic(&self.topic, &dump)?;
        let output = self.folders.outputs().join("clickstream_sessions");
        let arguments: [&OsStr; 2] = [dump.as_os_str(), output.as_os_str()];
        let report = python_reader("clickstream_sessions.py", arguments)?.expect_success()?;
        for (ours, theirs) in [("records", "records"), ("tombstones", "tombstones"), ("dead_letters", "bad")] {
            anyhow::ensure!(summary[ours] == report[theirs], "{ours}: {summary} for {report:#}");
        }
        Ok(report)
    }
}

#[test]
fn visits_are_what_plain_python_makes_of_the_records() -> anyhow::Result<()> {
    let mut clicks = Clicks::new(needs_broker!())?;
    clicks.produce(EVENTS / 2)?;
    // The first run leaves visits open, in its state; the second goes on with them.
    let first = finish(clicks.job().arg("--test-mode"))?;
    anyhow::ensure!(first["open_windows"].as_u64() > Some(10) && first["late"] == 0, "{first}");
    clicks.produce(EVENTS / 2)?;
    let summary = finish(clicks.job().arg("--drain"))?;
    anyhow::ensure!(summary["late"] == 0, "disorder below the delay makes nothing late: {summary}");
    let report = clicks.check(&summary)?;
    let count = |name: &str| report[name].as_u64().with_context(|| format!("{name} in {report}"));
    // The robot was cut at midnights; events without a session are visits of their user.
    anyhow::ensure!(count("cut")? >= 2 && count("unnamed")? > 100 && count("rows")? > 500, "{report}");
    Ok(())
}
