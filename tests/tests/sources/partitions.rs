//! Which topics and partitions a job reads: several, by a pattern, and those that appear while it runs.

use std::time::{Duration, Instant};

use data_platform_tests::{Broker, Runner, needs_broker, unique_topic};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::numbers::{Numbers, page, status, stop};
use crate::events::TIMEOUT;

#[test]
fn partitions_that_are_added_while_it_runs_are_read_from_their_first_record() -> anyhow::Result<()> {
    let mut job = Numbers::new(needs_broker!(), "grows", 1)?;
    // `latest` is for the partitions that there are: of one that comes later nothing was read.
    job.set("/kafka/startingOffsets", json!("latest"));
    job.produce(0, 0..100)?;
    let mut runner = job.job()?.start()?;
    runner.wait_for("record 0", TIMEOUT, |_| (!job.log().is_empty()).then_some(()))?;
    job.produce(0, 100..150)?;
    job.wait_for_committed(&mut runner, 50)?;
    // It sleeps, so that they have records before it can notice them.
    runner.signal(Signal::STOP)?;
    job.broker.add_partitions(&job.topic, 3)?;
    for partition in 0..3 {
        let first = 150 + 50 * partition as u64;
        job.produce(partition, first..first + 50)?;
    }
    runner.signal(Signal::CONT)?;
    job.wait_for_committed(&mut runner, 200)?;
    // They stay: what is read later goes on where this ended.
    job.produce(2, 300..400)?;
    job.wait_for_committed(&mut runner, 300)?;
    stop(runner)?;
    assert_eq!(job.numbers()?, Vec::from_iter(100..400));
    // A restart knows them from its log.
    job.produce(1, 400..410)?;
    let summary = job.drain()?;
    assert_eq!((&summary["records"], &summary["lost_offsets"]), (&json!(310), &json!(0)), "{summary}");
    assert_eq!(job.numbers()?, Vec::from_iter(100..410));
    Ok(())
}

#[test]
fn the_others_are_read_while_a_partition_has_no_leader_and_it_goes_on_with_a_leader() -> anyhow::Result<()> {
    let _shared = needs_broker!();
    let broker = Broker::private(&[])?;
    let other = broker.join(&[])?;
    let job = Numbers::new(broker, "leaderless", 2)?;
    let lost = job.broker.led_by(&other, &job.topic)?;
    assert_eq!(lost.len(), 1, "one partition on each broker");
    let stays = 1 - lost[0];
    job.produce(lost[0], 0..50)?;
    job.produce(stays, 50..100)?;
    let mut runner = job.job()?.start()?;
    job.wait_for_committed(&mut runner, 100)?;
    // It sleeps, so that it finds these records and their leader gone together.
    runner.signal(Signal::STOP)?;
    job.produce(lost[0], 1000..1050)?;
    other.kill()?;
    runner.signal(Signal::CONT)?;
    let mut took = Vec::new();
    for round in 0..5 {
        let began = Instant::now();
        let first = 100 + 10 * round;
        job.produce(stays, first..first + 10)?;
        job.wait_for_committed(&mut runner, first + 10)?;
        took.push(began.elapsed());
    }
    println!("commits while a partition has no leader: {took:.1?}");
    // Once it is known; the first one finds out.
    assert!(took[1..].iter().all(|took| *took < Duration::from_secs(8)), "{took:.1?}");
    other.restart()?;
    job.wait_for_committed(&mut runner, 200)?;
    stop(runner)?;
    assert_eq!(job.numbers()?, Vec::from_iter((0..150).chain(1000..1050)));
    Ok(())
}

#[test]
fn a_batch_in_which_a_leader_goes_ends_there_and_the_others_are_read() -> anyhow::Result<()> {
    const MANY: u64 = 600_000;
    let _shared = needs_broker!();
    let broker = Broker::private(&[])?;
    let other = broker.join(&[])?;
    let mut job = Numbers::new(broker, "leader-goes", 2)?;
    job.set("/kafka/maxOffsetsPerTrigger", json!(2 * MANY));
    let lost = job.broker.led_by(&other, &job.topic)?;
    assert_eq!(lost.len(), 1, "one partition on each broker");
    job.produce(lost[0], 0..MANY)?;
    job.produce(1 - lost[0], MANY..MANY + 100)?;
    let mut runner = job.job()?.start()?;
    let reads = |runner: &Runner| runner.stderr().contains("the first records are here").then_some(());
    runner.wait_for("the first records", TIMEOUT, reads)?;
    runner.signal(Signal::STOP)?;
    other.kill()?;
    runner.signal(Signal::CONT)?;
    job.wait_for_committed(&mut runner, 100)?;
    assert!(job.committed() < MANY, "it died in the middle of a read");
    assert!(runner.stderr().contains("it has no leader"), "{}", runner.last_lines());
    other.restart()?;
    job.wait_for_committed(&mut runner, MANY + 100)?;
    assert_eq!(reloads(&runner), 0, "{}", runner.last_lines());
    stop(runner)?;
    assert_eq!(job.numbers()?, Vec::from_iter(0..MANY + 100));
    job.audit()
}

/// How often the job began again from its log.
fn reloads(runner: &Runner) -> u64 {
    status(runner).expect("it listens")["reloads"].as_u64().expect("a number")
}

/// A job with a partition on each of two brokers and 50 windows of 2 numbers, which no batch closes before the number 100:
/// its state is in memory, and too large for so few records to be in a snapshot. Gives the other broker, and the partition that it leads.
fn windows_on_two_brokers(name: &str) -> anyhow::Result<(Numbers, Broker, i32)> {
    let broker = Broker::private(&[])?;
    let other = broker.join(&[])?;
    let mut job = Numbers::new(broker, name, 2)?;
    job.count_in_windows("2 seconds", "100s");
    let lost = job.broker.led_by(&other, &job.topic)?;
    assert_eq!(lost.len(), 1, "one partition on each broker");
    for partition in 0..2 {
        job.produce(partition, 0..100)?;
    }
    Ok((job, other, lost[0]))
}

/// Every window up to `end` is there once, and counts two numbers of each partition.
fn check_windows(job: &Numbers, end: usize) -> anyhow::Result<()> {
    let rows = job.query("SELECT n FROM numbers ORDER BY window_end")?;
    assert_eq!(rows.iter().filter_map(|row| row["n"].as_u64()).collect::<Vec<_>>(), vec![4; end / 2]);
    job.audit()
}

#[test]
fn the_state_stays_in_memory_while_a_partition_has_no_leader() -> anyhow::Result<()> {
    let _shared = needs_broker!();
    let (job, other, lost) = windows_on_two_brokers("keeps-state")?;
    let mut runner = job.job()?.start()?;
    job.wait_for_committed(&mut runner, 200)?;
    // Some of it is planned to be read when the leader is gone.
    runner.signal(Signal::STOP)?;
    job.produce(lost, 100..150)?;
    other.kill()?;
    runner.signal(Signal::CONT)?;
    for first in [100, 120, 140, 160, 180] {
        job.produce(1 - lost, first..first + 20)?;
        job.wait_for_committed(&mut runner, first + 120)?;
    }
    assert!(job.committed() < 350, "nobody leads partition {lost}");
    other.restart()?;
    job.produce(lost, 150..200)?;
    job.wait_for_committed(&mut runner, 400)?;
    assert_eq!(reloads(&runner), 0, "{}", runner.last_lines());
    stop(runner)?;
    job.drain()?;
    check_windows(&job, 200)
}

#[test]
fn a_job_that_starts_without_the_leader_of_its_state_waits_and_says_for_which_partition() -> anyhow::Result<()> {
    let _shared = needs_broker!();
    let (job, other, lost) = windows_on_two_brokers("waits-for-state")?;
    let mut runner = job.job()?.start()?;
    job.wait_for_committed(&mut runner, 200)?;
    runner.kill()?;
    other.kill()?;
    let mut runner = job.job()?.start()?;
    let named = format!("{} partition {lost} has no leader", job.topic);
    let says = |runner: &Runner| {
        status(runner).filter(|status| status["message"].as_str().unwrap_or_default().contains(&named))
    };
    let told = runner.wait_for("the partition to be named", TIMEOUT, says)?;
    assert_eq!((&told["reason"], &told["ready"]), (&json!("KafkaUnreachable"), &json!(false)), "{told}");
    job.produce(1 - lost, 100..150)?;
    other.restart()?;
    job.produce(lost, 100..150)?;
    job.wait_for_committed(&mut runner, 300)?;
    assert_eq!(told["reloads"], reloads(&runner), "it waited where it was: {}", runner.last_lines());
    stop(runner)?;
    job.drain()?;
    check_windows(&job, 150)
}

/// Rows of each topic.
fn rows_by_topic(job: &Numbers) -> anyhow::Result<Vec<(String, u64)>> {
    let rows = job.query("SELECT topic, count(DISTINCT n) AS rows FROM numbers GROUP BY topic ORDER BY topic")?;
    let pair = |row: &Value| Some((row["topic"].as_str()?.to_owned(), row["rows"].as_u64()?));
    Ok(rows.iter().filter_map(pair).collect())
}

#[test]
fn several_topics_are_one_source() -> anyhow::Result<()> {
    let mut job = Numbers::new(needs_broker!(), "several-a", 2)?;
    let other = unique_topic("several-b");
    job.broker.create_topic(&other, 3, &[])?;
    job.set("/sources/0/topics", json!([job.topic, other]));
    job.produce(1, 0..70)?;
    job.produce_to(&other, 2, 70..100)?;
    let summary = job.drain()?;
    assert_eq!(summary["records"], 100, "{summary}");
    assert_eq!(rows_by_topic(&job)?, [(job.topic.clone(), 70), (other, 30)]);
    assert_eq!(job.numbers()?, Vec::from_iter(0..100));
    Ok(())
}

/// Makes the job read every topic that begins with this.
fn read_by_pattern(job: &mut Numbers, prefix: &str) {
    job.set("/sources/0/topics", Value::Null);
    job.set("/sources/0/topicPattern", json!(format!("{prefix}-[a-z]+")));
}

#[test]
fn a_topic_that_appears_later_and_matches_the_pattern_is_read_from_its_first_record() -> anyhow::Result<()> {
    let prefix = unique_topic("pattern");
    let mut job = Numbers::new(needs_broker!(), "pattern-unused", 1)?;
    let [early, later, foreign] = ["early", "later", "x1"].map(|end| format!("{prefix}-{end}"));
    read_by_pattern(&mut job, &prefix);
    job.set("/kafka/startingOffsets", json!("latest"));
    job.broker.create_topic(&early, 1, &[])?;
    job.produce_to(&early, 0, 0..10)?;
    let mut runner = job.job()?.start()?;
    runner.wait_for("record 0", TIMEOUT, |_| (!job.log().is_empty()).then_some(()))?;
    runner.signal(Signal::STOP)?;
    for topic in [&later, &foreign] {
        job.broker.create_topic(topic, 2, &[])?;
        job.produce_to(topic, 1, 10..40)?;
    }
    job.produce_to(&early, 0, 40..50)?;
    runner.signal(Signal::CONT)?;
    job.wait_for_committed(&mut runner, 40)?;
    stop(runner)?;
    assert_eq!(rows_by_topic(&job)?, [(early, 10), (later, 30)]);
    Ok(())
}

#[test]
fn a_topic_of_the_pattern_that_is_deleted_does_not_hold_the_others_back() -> anyhow::Result<()> {
    let prefix = unique_topic("shrinks");
    let mut job = Numbers::new(needs_broker!(), "shrinks-unused", 1)?;
    let [stays, goes] = ["stays", "goes"].map(|end| format!("{prefix}-{end}"));
    read_by_pattern(&mut job, &prefix);
    job.count_in_windows("10 seconds", "0s");
    for topic in [&stays, &goes] {
        job.broker.create_topic(topic, 1, &[])?;
        job.produce_to(topic, 0, 0..5)?;
    }
    let mut runner = job.job()?.start()?;
    job.wait_for_committed(&mut runner, 10)?;
    job.broker.delete_topic(&goes)?;
    // The watermark of the topic that is gone is 4 s, for ever.
    job.produce_to(&stays, 0, 5..35)?;
    let closed = |_: &_| job.commits().last()?["watermark"].as_i64().filter(|watermark| *watermark == 34_000_000);
    runner.wait_for("the watermark to follow the topic that stays", TIMEOUT, closed)?;
    let (code, health) = page(&runner, "/health").expect("it listens");
    assert_eq!(code, 200, "{health}");
    let says = runner.stderr();
    stop(runner)?;
    assert!(says.contains(&goes) && says.contains("is gone"), "it says which topic is gone: {says}");
    let rows = job.query("SELECT sum(n) AS n FROM numbers")?;
    assert_eq!(rows[0]["n"], 35, "two topics of five, and the windows up to 30 s: {rows:?}");
    Ok(())
}
