//! Clocks that lie: the runner's, a producer's; and what the group is told.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_platform_tests::{Record, needs_broker, wait_for};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};

use super::numbers::{NAME, Numbers, status, stop};
use crate::events::TIMEOUT;

fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Records that happen and are written at this time, in seconds since 1970.
fn at(seconds: u64, number: usize, partition: i32) -> Vec<Record> {
    let record =
        || Record::new(json!({"n": seconds}).to_string()).timestamp_ms(seconds as i64 * 1_000).partition(partition);
    (0..number).map(|_| record()).collect()
}

#[test]
fn a_runner_whose_clock_is_behind_commits_nothing_away() -> anyhow::Result<()> {
    let mut job = Numbers::new(needs_broker!(), "behind", 1)?;
    job.count_in_windows("1 second", "0s");
    // To a runner whose clock is right these are of the future; to them it is half an hour behind.
    let ahead = now_seconds() + 1_800;
    job.broker.produce(&job.topic, at(ahead, 1_000, 0))?;
    let says = job.drain_fails(1)?;
    assert!(says.contains("1000 of 1000 records were written to Kafka after now by this runner's clock"), "{says}");
    assert!(says.contains("what to do: set the clock of the machine"), "{says}");
    assert_eq!(job.committed(), 0);

    // One that runs on tries again and says why.
    let runner = job.job()?.start()?;
    let told = wait_for("the reason", TIMEOUT, || status(&runner).filter(|told| told["reason"] == "ClockBehind"))?;
    assert_eq!((&told["phase"], &told["ready"]), (&json!("retrying"), &json!(false)), "{told}");
    stop(runner)?;
    assert_eq!(job.committed(), 0);
    Ok(())
}

#[test]
fn few_records_of_the_future_are_kept_with_the_dead_letters() -> anyhow::Result<()> {
    let mut job = Numbers::new(needs_broker!(), "future", 1)?;
    job.count_in_windows("1 second", "0s");
    let now = now_seconds();
    job.broker.produce(&job.topic, at(now + 1_800, 998, 0).into_iter().chain(at(now, 1, 0)))?;
    let summary = job.drain()?;
    let counts = ["records", "future", "dead_letters", "accepted"].map(|name| summary[name].as_u64());
    assert_eq!(counts, [Some(999), Some(998), Some(0), Some(1)], "{summary}");
    let letters = job.query(&format!(
        "SELECT reason, count(*) AS n, min(octet_length(encode(value, 'hex'))) AS least FROM {NAME}_dead_letters GROUP BY reason"
    ))?;
    assert_eq!(letters, [json!({"reason": "future", "n": 998, "least": 32})]);
    assert_eq!(job.commits()[0]["breaker"]["bad"], 0, "a wrong clock is no broken schema");
    job.audit()
}

fn partition(told: &Value, number: usize) -> &Value {
    told["partitions"]
        .as_array()
        .and_then(|all| all.iter().find(|one| one["partition"] == number))
        .unwrap_or(&Value::Null)
}

#[test]
fn a_producer_that_lives_in_1970_does_not_hold_the_windows_of_others() -> anyhow::Result<()> {
    let mut job = Numbers::new(needs_broker!(), "past", 2)?;
    job.count_in_windows("1 second", "0s");
    let now = now_seconds();
    // From the first record on: nothing was closed that these could be late for.
    job.broker.produce(&job.topic, at(now, 1, 0).into_iter().chain(at(5, 1, 1)))?;
    let mut runner = job.job()?.start()?;
    job.wait_for_committed(&mut runner, 2)?;
    let mut second = now;
    let told = wait_for("the window of now to close", TIMEOUT, || {
        // Both go on, each with its own clock.
        second += 1;
        let past = at(second - now + 5, 1, 1);
        job.broker.produce(&job.topic, at(second, 1, 0).into_iter().chain(past)).ok()?;
        status(&runner).filter(|told| told["watermark"].as_i64() > Some(now as i64 * 1_000_000))
    })?;
    assert_eq!(partition(&told, 1)["leftBehind"], true, "{told}");
    assert_eq!(partition(&told, 0)["leftBehind"], false, "{told}");
    assert!(runner.stderr().contains("eventTime.maxHold"), "it is named once in the log");
    stop(runner)
}

#[test]
fn late_records_are_no_activity() -> anyhow::Result<()> {
    let mut job = Numbers::new(needs_broker!(), "late", 2)?;
    job.count_in_windows("1 second", "0s");
    job.set("/sources/0/eventTime/maxHold", json!("30d"));
    let now = now_seconds();
    // Partition 1 comes an hour late, after windows have closed.
    job.broker.produce(&job.topic, at(now - 10, 1, 0).into_iter().chain(at(now, 1, 0)))?;
    let mut runner = job.job()?.start()?;
    job.wait_for_committed(&mut runner, 2)?;
    wait_for("a window to close", TIMEOUT, || status(&runner).filter(|told| told["watermark"].as_i64().is_some()))?;
    let mut second = now;
    wait_for("later windows to close", TIMEOUT, || {
        second += 1;
        let late = at(now - 3_600, 1, 1);
        job.broker.produce(&job.topic, at(second, 1, 0).into_iter().chain(late)).ok()?;
        status(&runner).filter(|told| told["watermark"].as_i64() > Some((now + 1) as i64 * 1_000_000))
    })?;
    stop(runner)
}

/// Offsets of a group, by partition; `None` where it has none.
fn group_offsets(job: &Numbers, partitions: i32) -> anyhow::Result<Vec<Option<i64>>> {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", job.broker.address()).set("group.id", format!("processing-{NAME}"));
    let consumer: BaseConsumer = settings.create()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition(&job.topic, partition);
    }
    let told = consumer.committed_offsets(list, Duration::from_secs(10))?;
    let offset = |partition| match told.find_partition(&job.topic, partition).map(|found| found.offset()) {
        Some(Offset::Offset(offset)) => Some(offset),
        _ => None,
    };
    Ok((0..partitions).map(offset).collect())
}

#[test]
fn the_group_has_an_offset_of_every_partition_from_the_first_assignment_on() -> anyhow::Result<()> {
    let mut job = Numbers::new(needs_broker!(), "group", 3)?;
    job.produce(1, 0..3)?;
    job.set("/kafka/startingOffsets", json!("latest"));
    let runner = job.job()?.start()?;
    let told = |expected: [i64; 3]| {
        let expected = expected.map(Some);
        wait_for("the group's offsets", TIMEOUT, || {
            group_offsets(&job, 3).ok().filter(|told| told.as_slice() == expected)
        })
    };
    // Before any record is read.
    told([0, 3, 0])?;
    job.produce(2, 0..2)?;
    told([0, 3, 2])?;
    stop(runner)
}
