//! Offsets without a record: gone before they were read (a loss, refused or counted), or never readable (compaction,
//! transactions), which is none.

use data_platform_tests::{Ended, Producer, needs_broker, wait_for};
use rdkafka::message::{BorrowedMessage, Message};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::numbers::{Numbers, last_error, record};
use crate::events::{TIMEOUT, finish};

#[test]
fn records_that_are_gone_stop_the_job_or_are_counted() -> anyhow::Result<()> {
    let mut job = Numbers::new(needs_broker!(), "gone", 2)?;
    job.set("/kafka/failOnDataLoss", json!(true));
    job.produce(0, 0..100)?;
    job.produce(1, 1_000..1_010)?;
    job.drain()?;
    job.produce(0, 100..200)?;
    job.produce(1, 1_010..1_020)?;
    job.broker.delete_records(&job.topic, 0, 150)?;
    let says = job.drain_fails(2)?;
    assert!(says.contains(&format!("{} partition 0: offsets [100, 150) are gone", job.topic)), "{says}");
    assert!(says.contains("set kafka.failOnDataLoss to false"), "{says}");
    assert_eq!(job.committed(), 110, "what the others have waits too");
    // Counted once, and then behind us.
    job.set("/kafka/failOnDataLoss", json!(false));
    for _ in 0..2 {
        let summary = job.drain()?;
        assert_eq!((&summary["lost_offsets"], &summary["records"]), (&json!(50), &json!(170)), "{summary}");
    }
    let expected: Vec<u64> = (0..100).chain(150..200).chain(1_000..1_020).collect();
    assert_eq!(job.numbers()?, expected);
    // What is gone and was read before is no loss.
    job.set("/kafka/failOnDataLoss", json!(true));
    job.broker.delete_records(&job.topic, 0, 200)?;
    job.produce(0, 200..210)?;
    assert_eq!(job.drain()?["records"], 180);
    Ok(())
}

/// Each fetch brings one batch of the producer, so that the client has read a part when it is stopped.
const SLOW: (&str, &str) = ("max.partition.fetch.bytes", "1000");

#[test]
fn records_that_vanish_while_a_batch_reads_them_are_a_loss_like_any_other() -> anyhow::Result<()> {
    for fail in [true, false] {
        let mut job = Numbers::new(needs_broker!(), "vanish", 1)?;
        let producer = job.producer(&[("batch.num.messages", "1")])?;
        (0..300).try_for_each(|number| producer.send(&job.topic, &record(number)))?;
        producer.flush()?;
        job.set("/kafka/failOnDataLoss", json!(fail));
        job.set("/kafka/config", json!({SLOW.0: SLOW.1}));
        let trace = job.folders.root().join("faults.log");
        // The batch is planned over offsets that are still there, and sleeps before it reads.
        let command = job.job_with_faults()?.env("FAULT_STOP", "read:before:1").env("FAULT_LOG", &trace);
        let mut runner = command.arg("--drain").start()?;
        runner.wait_for("the sleeper to sleep", TIMEOUT, |_| trace.exists().then_some(()))?;
        job.broker.delete_records(&job.topic, 0, 290)?;
        runner.signal(Signal::CONT)?;
        let ended = runner.wait(TIMEOUT)?;
        if fail {
            assert_eq!(ended, Ended::Code(2), "{}", runner.last_lines());
            let says = last_error(&runner);
            assert!(says.contains("partition 0: offsets [") && says.contains(", 290) are gone"), "{says}");
            assert_eq!(job.committed(), 0, "what was fetched before waits too");
        } else {
            assert_eq!(ended, Ended::Code(0), "{}", runner.last_lines());
            let summary: Value = serde_json::from_str(&runner.stdout())?;
            assert_eq!((&summary["lost_offsets"], &summary["records"]), (&json!(290), &json!(10)), "{summary}");
            assert_eq!(job.numbers()?, Vec::from_iter(290..300));
        }
    }
    Ok(())
}

/// Topic settings with which the broker compacts all but the newest segment within a second.
const COMPACTED: [(&str, &str); 5] = [
    ("cleanup.policy", "compact"),
    ("segment.ms", "1"),
    ("min.cleanable.dirty.ratio", "0.001"),
    ("max.compaction.lag.ms", "1"),
    ("min.compaction.lag.ms", "0"),
];

#[test]
fn gaps_of_a_compacted_topic_are_no_loss() -> anyhow::Result<()> {
    let mut job = Numbers::with_topic(needs_broker!(), "compacted", 1, &COMPACTED)?;
    job.set("/kafka/failOnDataLoss", json!(true));
    // Cuts fall into gaps, and some batches have none but gaps.
    job.set("/kafka/maxOffsetsPerTrigger", json!(7));
    let produce = |numbers: std::ops::Range<u64>| {
        // Ten keys: of each only the last record stays.
        let records = numbers.map(|number| record(number).key(format!("{}", number % 10)).partition(0));
        job.broker.produce(&job.topic, records)
    };
    produce(0..200)?;
    // Each produce begins a segment; all but the newest are compacted.
    wait_for("the compaction", TIMEOUT, || {
        produce(1_000..1_001).ok()?;
        let mut first = i64::MAX;
        let visit = |message: &BorrowedMessage<'_>| {
            first = first.min(message.offset());
            Ok(())
        };
        job.broker.for_each_record(&job.topic, visit).ok()?;
        (first >= 190).then_some(())
    })?;
    let end = job.broker.offsets(&job.topic)?[0].1;
    let summary = job.drain()?;
    assert_eq!(summary["lost_offsets"], 0, "{summary}");
    let commits = job.commits();
    let empty = commits.iter().filter(|commit| commit["counters"]["sources"]["numbers"]["read"] == 0).count();
    assert!(empty > 10, "most batches have no record: {empty} of {}", commits.len());
    assert_eq!(commits.last().expect("a commit")["partitions"][&job.topic]["0"]["end"], end);
    let mut numbers = job.numbers()?;
    numbers.retain(|number| (1..1_000).contains(number) && *number != 190);
    assert_eq!(numbers, Vec::from_iter(191..200), "the last of each key; the first of them came again");
    Ok(())
}

/// A producer whose transactions nobody else disturbs.
fn transactional(job: &Numbers) -> anyhow::Result<Producer> {
    job.producer(&[("transactional.id", &job.topic)])
}

fn send(job: &Numbers, producer: &Producer, numbers: std::ops::Range<u64>) -> anyhow::Result<()> {
    numbers.into_iter().try_for_each(|number| producer.send(&job.topic, &record(number).partition(0)))
}

#[test]
fn aborted_records_are_not_seen_and_transaction_markers_are_no_loss() -> anyhow::Result<()> {
    let mut job = Numbers::new(needs_broker!(), "transactions", 1)?;
    job.set("/kafka/failOnDataLoss", json!(true));
    job.set("/kafka/maxOffsetsPerTrigger", json!(4));
    let producer = transactional(&job)?;
    for (numbers, commits) in [(0..10, true), (100..115, false), (10..20, true), (115..130, false)] {
        producer.begin()?;
        send(&job, &producer, numbers)?;
        if commits { producer.commit()? } else { producer.abort()? }
    }
    // 50 records and 4 markers; the last 16 offsets have nothing to read.
    assert_eq!(job.broker.offsets(&job.topic)?, [(0, 54)]);
    for _ in 0..2 {
        let summary = job.drain()?;
        assert_eq!((&summary["records"], &summary["lost_offsets"]), (&json!(20), &json!(0)), "{summary}");
    }
    let commits = job.commits();
    assert_eq!(commits.last().expect("a commit")["partitions"][&job.topic]["0"]["end"], 54, "it read to the end");
    assert_eq!(job.numbers()?, Vec::from_iter(0..20));
    // An open transaction ends what may be read, until it is decided.
    producer.begin()?;
    send(&job, &producer, 20..30)?;
    producer.flush()?;
    job.produce(0, 30..35)?;
    assert_eq!(job.drain()?["records"], 20, "nothing behind the open transaction");
    producer.commit()?;
    assert_eq!(job.drain()?["records"], 35);
    assert_eq!(job.numbers()?, Vec::from_iter(0..35));
    Ok(())
}

#[test]
fn a_job_that_wants_to_sees_uncommitted_records() -> anyhow::Result<()> {
    let mut job = Numbers::new(needs_broker!(), "uncommitted", 1)?;
    job.set("/kafka/isolationLevel", json!("ReadUncommitted"));
    let producer = transactional(&job)?;
    producer.begin()?;
    send(&job, &producer, 0..5)?;
    producer.abort()?;
    producer.begin()?;
    send(&job, &producer, 5..10)?;
    producer.flush()?;
    let summary = finish(job.job()?.arg("--drain"))?;
    assert_eq!(summary["records"], 10, "{summary}");
    producer.abort()?;
    assert_eq!(job.drain()?["records"], 10);
    Ok(())
}
