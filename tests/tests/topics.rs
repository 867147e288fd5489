//! Rows to a topic, on a real broker: the same rows as a table has, none lost whenever the job is killed, and a topic that
//! does not take them holds the job with a reason.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use data_platform_runner::faults::Step;
use data_platform_tests::{Broker, Ended, Record, needs_broker, unique_topic};
use rdkafka::Message;
use rdkafka::message::Headers;
use serde_json::{Value, json};

use crate::events::TIMEOUT;
use crate::sources::numbers::{NAME, Numbers, record, stop};

const KILLED: Ended = Ended::Signal(9);
const QUERY: &str = "SELECT n, 'row ' || n AS text, CASE WHEN n % 3 > 0 THEN n % 3 END AS third FROM numbers";

/// A job that writes the same rows to a table and to a topic with two partitions.
fn both(broker: Broker, name: &str, settings: &[(&str, &str)]) -> anyhow::Result<(Numbers, String)> {
    let topic = unique_topic(&format!("{name}-rows"));
    broker.create_topic(&topic, 2, settings)?;
    let mut job = Numbers::new(broker, name, 2)?;
    to_both(&mut job, &topic);
    Ok((job, topic))
}

fn to_both(job: &mut Numbers, topic: &str) {
    let output = |name: &str, sink: Value| json!({"name": name, "query": QUERY, "sink": sink});
    let outputs = [
        output(NAME, json!({"path": NAME})),
        output("topic", json!({"format": "kafka", "topic": topic, "keyColumn": "third"})),
    ];
    job.set("/query", Value::Null);
    job.set("/sink", Value::Null);
    job.set("/outputs", json!(outputs));
}

/// What a topic holds of a row.
#[derive(Debug, PartialEq)]
struct Sent {
    row: Value,
    key: Option<String>,
    /// Topic, partition and offset of its record.
    origin: [String; 3],
}

fn sent(job: &Numbers, topic: &str) -> anyhow::Result<Vec<Sent>> {
    let mut all = Vec::new();
    job.broker.for_each_record(topic, |message| {
        let headers = message.headers().context("a message without headers")?;
        let header = |name: &str| -> anyhow::Result<String> {
            let value = headers.iter().find(|header| header.key == name).and_then(|header| header.value);
            Ok(String::from_utf8(value.with_context(|| format!("no header {name}"))?.to_vec())?)
        };
        let origin = ["topic", "partition", "offset"].map(|name| header(&format!("dataplatform.{name}")));
        let [topic, partition, offset] = origin;
        all.push(Sent {
            row: serde_json::from_slice(message.payload().context("a message without a value")?)?,
            key: message.key().map(|key| String::from_utf8_lossy(key).into_owned()),
            origin: [topic?, partition?, offset?],
        });
        Ok(())
    })?;
    Ok(all)
}

/// Every row of the table is in the topic, and nothing else is; how often each is there.
fn compare(job: &Numbers, topic: &str) -> anyhow::Result<BTreeMap<i64, usize>> {
    let rows = job.query(&format!("SELECT n, text, third FROM {NAME} ORDER BY n"))?;
    let table: BTreeMap<i64, Value> = rows.into_iter().filter_map(|row| Some((row["n"].as_i64()?, row))).collect();
    let mut times: BTreeMap<i64, usize> = BTreeMap::new();
    let mut origins: BTreeMap<i64, [String; 3]> = BTreeMap::new();
    for Sent { row, key, origin } in sent(job, topic)? {
        let n = row["n"].as_i64().context("a row without a number")?;
        let expected = table.get(&n).with_context(|| format!("{row} is not in the table"))?;
        for column in ["n", "text", "third"] {
            let value = row.get(column).with_context(|| format!("{row} has no {column}"))?;
            ensure!(*value == *expected.get(column).unwrap_or(&Value::Null), "{row} is not {expected}");
        }
        ensure!(key == row["third"].as_i64().map(|third| third.to_string()), "{row} has the key {key:?}");
        ensure!(origin[0] == job.topic, "{row} came from {origin:?}");
        let first = origins.entry(n).or_insert_with(|| origin.clone());
        ensure!(*first == origin, "{row} came from {first:?} and from {origin:?}");
        *times.entry(n).or_default() += 1;
    }
    ensure!(times.len() == table.len(), "{} of {} rows are in the topic", times.len(), table.len());
    Ok(times)
}

#[test]
fn a_topic_has_the_rows_that_a_table_has() -> anyhow::Result<()> {
    let (job, topic) = both(needs_broker!(), "topic-rows", &[])?;
    job.produce(0, 0..2_000)?;
    job.produce(1, 2_000..3_000)?;
    job.broker.produce(&job.topic, [Record::new("bad")])?;
    let summary = job.drain()?;
    let counted = &summary["outputs"]["topic"];
    ensure!((&counted["rows"], &counted["files"]) == (&json!(3_000), &json!(0)), "{summary}");
    ensure!(counted["output"] == json!(format!("kafka://{topic}")), "{summary}");
    let times = compare(&job, &topic)?;
    ensure!(times.values().all(|times| *times == 1), "nothing was killed");
    let commits = job.commits();
    let sent: u64 = commits.iter().filter_map(|commit| commit["outputs"]["topic"]["sent"]["rows"].as_u64()).sum();
    ensure!(sent == 3_000, "the log says {sent}");
    let proved = job.ask(&["audit", NAME])?;
    ensure!(proved.contains("PROVED: ") && proved.contains(&format!("acknowledged by kafka://{topic}")), "{proved}");
    ensure!(!job.ask(&["checkpoint", "verify", NAME])?.contains(" bad"));
    let explained = job.explain()?;
    ensure!(explained.contains("at least once") && explained.contains("key                third"), "{explained}");
    Ok(())
}

/// A job that is killed at each step on one side of it: kills, and rows that came once more.
fn killed_at_every_step(broker: Broker, moment: &str) -> anyhow::Result<(usize, usize)> {
    let (mut job, topic) = both(broker, &format!("topic-kill-{moment}"), &[])?;
    job.set("/kafka/maxOffsetsPerTrigger", json!(100));
    let (mut kills, mut next) = (0, 0);
    for step in Step::ALL {
        let records = (next..next + 300).map(|n| record(n).partition(i32::from(n % 300 >= 150)));
        job.broker.produce(&job.topic, records)?;
        next += 300;
        let killed = job.job_with_faults()?.env("FAULT_KILL", format!("{}:{moment}:2", step.name()));
        let ended = killed.env("DATA_PLATFORM_RECORDS_PER_BASE", "8").arg("--drain").run(TIMEOUT)?.0;
        ensure!(ended == KILLED || ended == Ended::Code(0), "{step:?} {moment}: {ended:?}");
        kills += usize::from(ended == KILLED);
    }
    job.drain()?;
    let times = compare(&job, &topic)?;
    let again: usize = times.values().map(|times| times - 1).sum();
    println!("{moment}: {kills} kills: {} rows, {again} of them once more", times.len());
    ensure!(times.len() as u64 == next, "{moment}: {} of {next} rows", times.len());
    job.audit()?;
    Ok((kills, again))
}

#[test]
fn a_kill_at_any_step_loses_no_row_of_a_topic() -> anyhow::Result<()> {
    let broker = needs_broker!();
    // Both sides at once: most of a start is waiting.
    let sides = std::thread::scope(|scope| {
        let sides = ["before", "after"].map(|moment| (moment, broker.handle()));
        let sides = sides.map(|(moment, broker)| scope.spawn(move || killed_at_every_step(broker, moment)));
        sides.map(|side| side.join().unwrap_or_else(|_| anyhow::bail!("it panicked")))
    });
    let (mut kills, mut again) = (0, 0);
    for side in sides {
        let (killed, doubled) = side?;
        (kills, again) = (kills + killed, again + doubled);
    }
    ensure!(kills > 25, "{kills} kills");
    ensure!(again > 0, "no kill came between sending and deciding");
    Ok(())
}

#[test]
fn a_topic_that_is_missing_holds_the_job_and_takes_everything_once_it_is_there() -> anyhow::Result<()> {
    let mut job = Numbers::new(needs_broker!(), "topic-missing", 1)?;
    let topic = unique_topic("topic-missing-rows");
    to_both(&mut job, &topic);
    job.produce(0, 0..100)?;
    let says = job.drain_fails(1)?;
    ensure!(says.contains(&topic) && says.contains("create the topic, or correct sink.topic"), "{says}");
    ensure!(job.commits().is_empty(), "nothing is decided");
    let mut running = job.job()?.start()?;
    let reason = |runner: &data_platform_tests::Runner| {
        let status = crate::sources::numbers::status(runner)?;
        (status["reason"] == "TopicNotFound").then_some(())
    };
    running.wait_for("the reason", TIMEOUT, reason)?;
    job.broker.create_topic(&topic, 1, &[])?;
    job.wait_for_committed(&mut running, 100)?;
    stop(running)?;
    ensure!(compare(&job, &topic)?.len() == 100);
    Ok(())
}

#[test]
fn a_row_that_is_too_large_for_its_topic_holds_the_job_and_none_is_lost() -> anyhow::Result<()> {
    let (mut job, topic) = both(needs_broker!(), "topic-large", &[("max.message.bytes", "2000")])?;
    job.produce(0, 0..300)?;
    // Many rows make a batch that is too large, though each would fit.
    job.drain()?;
    ensure!(compare(&job, &topic)?.len() == 300);
    let query = QUERY.replace("'row ' || n", "repeat('x', CASE WHEN n = 350 THEN 5000 ELSE 1 END)");
    for output in ["/outputs/0/query", "/outputs/1/query"] {
        job.set(output, json!(query));
    }
    job.produce(0, 300..400)?;
    let says = job.drain_fails(2)?;
    ensure!(says.contains("is larger than it takes") && says.contains("raise max.message.bytes"), "{says}");
    ensure!(job.committed() == 300, "nothing more is decided");
    job.broker.configure_topic(&topic, &[("max.message.bytes", "100000")])?;
    job.drain()?;
    ensure!(compare(&job, &topic)?.len() == 400);
    Ok(())
}
