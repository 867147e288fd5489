//! A job to which nothing comes: it lets go the connection that fetches, and misses nothing of what comes then.

use std::fs;

use anyhow::Context;
use data_platform_tests::{Broker, Runner, needs_broker};
use serde_json::json;

use super::numbers::{Numbers, record, status, stop};
use crate::events::TIMEOUT;

/// A job that rests half a second after the last record.
fn start(job: &Numbers) -> anyhow::Result<Runner> {
    job.job_with_faults()?.env("FAULT_REST_AFTER_MS", "500").start()
}

/// How often it began to rest.
fn rests(runner: &Runner) -> usize {
    runner.stderr().matches("no longer fetching").count()
}

fn wait_for_rest(runner: &mut Runner, times: usize) -> anyhow::Result<()> {
    runner.wait_for("it to rest", TIMEOUT, |runner| (rests(runner) >= times).then_some(()))
}

fn threads(runner: &Runner) -> anyhow::Result<usize> {
    Ok(fs::read_dir(format!("/proc/{}/task", runner.id())).context("the threads of the job")?.count())
}

#[test]
fn what_comes_after_a_rest_is_read_from_where_it_ended() -> anyhow::Result<()> {
    let mut job = Numbers::new(needs_broker!(), "rests", 3)?;
    // Transactions end in markers: behind the last record of a partition its end is not reached yet.
    job.set("/kafka/isolationLevel", json!("ReadCommitted"));
    let mut runner = start(&job)?;
    let mut expected = Vec::new();
    let (mut awake, mut resting) = (0, usize::MAX);
    for round in 0..5 {
        let first = round * 100;
        // Other partitions each time, so that some of them were not read for several rounds.
        let partition = i32::try_from(round % 3)?;
        if round % 2 == 0 {
            job.produce(partition, first..first + 20)?;
        } else {
            let producer = job.producer(&[("transactional.id", &format!("rests-{round}"))])?;
            producer.begin()?;
            (first..first + 20)
                .try_for_each(|number| producer.send(&job.topic, &record(number).partition(partition)))?;
            producer.commit()?;
        }
        expected.extend(first..first + 20);
        job.wait_for_committed(&mut runner, expected.len() as u64)?;
        awake = awake.max(threads(&runner)?);
        wait_for_rest(&mut runner, usize::try_from(round)? + 1)?;
        // Its client ends in the background of that line.
        runner.wait_for("threads to end", TIMEOUT, |runner| (threads(runner).ok()? < awake).then_some(()))?;
        resting = resting.min(threads(&runner)?);
    }
    println!("{} rests, {awake} threads awake, {resting} at rest", rests(&runner));
    assert_eq!(status(&runner).context("it listens")?["reloads"], 0);
    stop(runner)?;
    assert_eq!(job.numbers()?, expected);
    job.audit()
}

#[test]
fn a_rest_outlives_brokers_that_go_and_partitions_that_come() -> anyhow::Result<()> {
    let _shared = needs_broker!();
    let broker = Broker::private(&[])?;
    let job = Numbers::new(broker, "rests", 1)?;
    let mut runner = start(&job)?;
    job.produce(0, 0..10)?;
    job.wait_for_committed(&mut runner, 10)?;
    wait_for_rest(&mut runner, 1)?;
    job.broker.kill()?;
    let is_troubled = |runner: &Runner| status(runner).filter(|status| status["phase"] == "retrying").map(drop);
    runner.wait_for("it to miss the broker", TIMEOUT, is_troubled)?;
    job.broker.restart()?;
    job.broker.add_partitions(&job.topic, 3)?;
    job.produce(2, 100..110)?;
    job.produce(0, 10..20)?;
    job.wait_for_committed(&mut runner, 30)?;
    wait_for_rest(&mut runner, 2)?;
    job.produce(1, 200..210)?;
    job.wait_for_committed(&mut runner, 40)?;
    assert_eq!(status(&runner).context("it listens")?["reloads"], 0, "{}", runner.last_lines());
    stop(runner)?;
    assert_eq!(job.numbers()?, Vec::from_iter((0..20).chain(100..110).chain(200..210)));
    job.audit()
}
