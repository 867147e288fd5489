//! Where a job without a checkpoint begins, and how much one micro-batch reads.

use data_platform_tests::needs_broker;
use serde_json::{Value, json};

use super::numbers::{Numbers, record};
use crate::events::{START_MS, finish};

/// Sum of the numbers in one place of all partitions of `offsets`: `{"topic": {"0": 5}}`.
fn offsets_of(record: &Value, topic: &str) -> Vec<i64> {
    let partitions = record["start"]["offsets"][topic].as_object().expect("the topic is in record 0");
    partitions.values().filter_map(Value::as_i64).collect()
}

#[test]
fn a_job_begins_where_it_is_told() -> anyhow::Result<()> {
    let mut job = Numbers::new(needs_broker!(), "begins", 2)?;
    for partition in [0, 1] {
        let second = |n: u64| START_MS + 1_000 * n as i64;
        let records = (0..100).map(|n| record(n).partition(partition).timestamp_ms(second(n)));
        job.broker.produce(&job.topic, records)?;
    }
    let topic = job.topic.clone();
    let named = |partitions: &str| format!("{{\"{topic}\":{partitions}}}");
    let cases = [
        ("earliest".to_owned(), [0, 0]),
        ("latest".to_owned(), [100, 100]),
        // The sixtieth record has this time, and the next one is half a second behind the other.
        ("2026-01-01T00:01:00Z".to_owned(), [60, 60]),
        ("2026-01-01T01:00:59.5+01:00".to_owned(), [60, 60]),
        // No record is so new: its next one will be.
        ("2026-01-02T00:00:00Z".to_owned(), [100, 100]),
        ("1999-12-31T00:00:00Z".to_owned(), [0, 0]),
        (named(r#"{"0":90,"1":-2}"#), [90, 0]),
        // What is not named begins at earliest.
        (named(r#"{"1":-1}"#), [0, 100]),
        (named(r#"{"0":100,"1":0}"#), [100, 0]),
    ];
    for (case, (begin, expected)) in cases.into_iter().enumerate() {
        // Each in folders of its own: where a log is, it wins.
        job.folders = data_platform_tests::JobFolders::new()?;
        let command = job.job()?.arg("--drain");
        let command = match case % 2 {
            0 => command.arg("--starting-offsets").arg(&begin),
            _ => command.arg("--set").arg(format!("spec.kafka.startingOffsets={begin}")),
        };
        let summary = finish(command)?;
        assert_eq!(offsets_of(&job.log()[0], &topic), expected, "{begin}");
        let records: i64 = expected.iter().map(|offset| 100 - offset).sum();
        assert_eq!(summary["records"], records, "{begin}: {summary}");
        assert_eq!(summary["lost_offsets"], 0, "{begin}: {summary}");
        let again = finish(job.job()?.arg("--drain").arg("--starting-offsets").arg("earliest"))?;
        assert_eq!(again["records"], records, "the log wins, after {begin}: {again}");
    }
    Ok(())
}

#[test]
fn starting_offsets_that_do_not_fit_the_topic_are_refused_and_can_be_corrected() -> anyhow::Result<()> {
    let mut job = Numbers::new(needs_broker!(), "unfit", 1)?;
    job.produce(0, 0..10)?;
    let topic = job.topic.clone();
    for (partitions, problem) in
        [(r#"{"0":11}"#, "partition 0 ends at offset 10, before offset 11"), (r#"{"3":0}"#, "has no partition 3")]
    {
        job.set("/kafka/startingOffsets", json!(format!("{{\"{topic}\":{partitions}}}")));
        let says = job.drain_fails(2)?;
        assert!(says.contains(problem) && says.contains(&topic), "{says}");
        assert!(says.contains("what to do: correct kafka.startingOffsets"), "{says}");
    }
    // Nothing was written down that a correction could not reach.
    job.set("/kafka/startingOffsets", json!(format!("{{\"{topic}\":{{\"0\":7}}}}")));
    let summary = job.drain()?;
    assert_eq!(summary["records"], 3, "{summary}");
    Ok(())
}

/// Offsets of every partition that a commit read.
fn lengths(commit: &Value, topic: &str) -> Vec<i64> {
    let ranges = commit["partitions"][topic].as_object().into_iter().flat_map(|ranges| ranges.values());
    ranges.filter_map(|range| Some(range["end"].as_i64()? - range["start"].as_i64()?)).collect()
}

#[test]
fn the_limit_of_a_batch_is_shared_by_backlog() -> anyhow::Result<()> {
    let mut job = Numbers::new(needs_broker!(), "shared", 3)?;
    job.set("/kafka/maxOffsetsPerTrigger", json!(410));
    let producer = job.producer(&[("compression.type", "lz4")])?;
    let backlogs = [3_000_u64, 1_000, 100];
    for (partition, backlog) in backlogs.into_iter().enumerate() {
        for number in 0..backlog {
            producer.send(&job.topic, &record(number).partition(partition as i32))?;
        }
    }
    producer.flush()?;
    let summary = job.drain()?;
    assert_eq!(summary["records"], 4_100, "{summary}");
    let commits = job.commits();
    let mut left = backlogs.map(|backlog| backlog as i64);
    for (number, commit) in commits.iter().enumerate() {
        let lengths = lengths(commit, &job.topic);
        assert_eq!(lengths.iter().sum::<i64>(), 410, "commit {number} reads what it may, and not more: {lengths:?}");
        let total: i64 = left.iter().sum();
        for (partition, length) in lengths.iter().enumerate() {
            // Within one of its share, so that all advance through time together; the last one takes what is left over.
            let share = 410 * left[partition] / total;
            assert!((length - share).abs() <= 2, "commit {number} of {left:?} reads {lengths:?}");
            left[partition] -= length;
        }
    }
    assert_eq!((commits.len(), left), (10, [0, 0, 0]));
    Ok(())
}
