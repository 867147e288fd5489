//! Killed at every step of a commit, and at random: no row lost, none twice, and plain readers never see an error.

pub(crate) mod numbers;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Context;
use data_platform_runner::faults::Step;
use data_platform_runner::generate::EventSettings;
use data_platform_runner::random::Random;
use data_platform_tests::{Broker, Ended, S3, environment, needs_broker, needs_s3, unique_topic, wait_for};
use rdkafka::Message;
use rdkafka::message::Headers;
use rustix::process::Signal;

use crate::events::{Stream, TIMEOUT, committed_versions};
use crate::shipped::{CHANGES, CLICKSTREAM, DEDUPLICATED, EVENT_AGGREGATION, Shipped, TOP_PAGES};

const KILLED: Ended = Ended::Signal(9);
/// After a drain, events of so much later are in no window that it closed: more than the longest of a job here.
const CLOSED: Duration = Duration::from_secs(600);
/// Small micro-batches and few records between two bases, so that every step comes soon.
const SMALL: [(&str, &str); 2] = [("DATA_PLATFORM_RECORDS_PER_BASE", "8"), ("LOG_LEVEL", "info")];

fn small(stream: &Stream, fault: &str, log: &std::path::Path) -> data_platform_tests::process::RunnerCommand {
    let mut command = stream.job_with_faults().env("FAULT_KILL", fault).env("FAULT_LOG", log);
    for (name, value) in SMALL {
        command = command.env(name, value);
    }
    command.arg("--starting-offsets").arg("earliest").arg("--set").arg("spec.kafka.maxOffsetsPerTrigger=500")
}

/// Steps at which every job is killed in `make test`: one for each seam. `make soak` takes all of them.
const SEAMS: [Step; 9] = [
    Step::Claim,
    Step::Restore,
    Step::Replay,
    Step::Close,
    Step::StageFinish,
    Step::State,
    Step::Decide,
    Step::Publish,
    Step::CollectState,
];

/// Kills of a job: a line here is a test at the steps of a commit, and one at random moments.
macro_rules! killed {
    ($($name:ident: $job:expr, $steps:expr;)*) => {$(
        mod $name {
            use super::*;

            #[test]
            fn a_kill_at_any_step_of_a_commit_changes_nothing() -> anyhow::Result<()> {
                kill_at_steps(needs_broker!(), None, &$job, &$steps)
            }

            #[test]
            fn random_kills_while_records_come_change_nothing() -> anyhow::Result<()> {
                kill_at_random(needs_broker!(), None, &$job, environment::rounds(25, 200))
            }
        }
    )*};
}

killed! {
    event_aggregation: EVENT_AGGREGATION, Step::ALL;
    sessions: CLICKSTREAM, SEAMS;
    deduplicate: DEDUPLICATED, SEAMS;
    two_outputs: CHANGES, SEAMS;
    hop: TOP_PAGES, [Step::Restore, Step::Close, Step::State];
}

/// The same over an object store: outputs and checkpoints are `s3://`, and readers see the folders behind it.
mod on_s3 {
    use super::*;

    #[test]
    fn a_kill_at_any_step_of_a_commit_changes_nothing() -> anyhow::Result<()> {
        let steps = [Step::Claim, Step::StageFinish, Step::State, Step::Decide, Step::Publish, Step::CollectLog];
        kill_at_steps(needs_broker!(), Some(needs_s3!()), &EVENT_AGGREGATION, &steps)
    }

    #[test]
    fn random_kills_while_records_come_change_nothing() -> anyhow::Result<()> {
        kill_at_random(needs_broker!(), Some(needs_s3!()), &CHANGES, environment::rounds(6, 100))
    }
}

/// Steps that only a disk has.
const OF_A_DISK: [Step; 2] = [Step::LinkRecord, Step::SyncLog];

fn kill_at_steps(broker: Broker, s3: Option<S3>, shipped: &'static Shipped, steps: &[Step]) -> anyhow::Result<()> {
    let steps = if environment::rounds(0, 1) == 1 { &Step::ALL } else { steps };
    // Groups are a tenth of the records of a few batches, so that some batches write a snapshot and others do not.
    let settings = EventSettings { users: 20, messy: 0.01, ..EventSettings::default() };
    let mut stream = Stream::of(shipped, broker, "kill-steps", 3, settings)?;
    if let Some(s3) = &s3 {
        stream.folders = s3.folders()?;
    }
    let watchers = stream.watch()?;
    let log = stream.folders.root().join("faults.log");
    let mut further = 0;
    let mut points: BTreeMap<String, Ended> = BTreeMap::new();
    let is_here = |step: &Step| s3.is_none() || !OF_A_DISK.contains(step);
    let steps = steps.iter().copied().filter(is_here);
    for step in steps.filter(|step| !matches!(step, Step::DeadLetters | Step::Send | Step::Exchange)) {
        for moment in ["before", "after"] {
            stream.produce(1_500)?;
            let point = format!("{}:{moment}", step.name());
            // The first time, and once in the middle of things.
            let number = if matches!(step, Step::Start | Step::Own | Step::Restore) { 1 } else { 2 };
            let (mut ended, _) = small(&stream, &format!("{point}:{number}"), &log).arg("--drain").run(TIMEOUT)?;
            if ended == Ended::Code(0) {
                // Not reached as often. Now windows are left open, some in a snapshot; the first time will do.
                stream.skip(CLOSED);
                stream.produce(6_000)?;
                let (left_open, runner) = small(&stream, "decide:after:9", &log).run(TIMEOUT)?;
                anyhow::ensure!(left_open == KILLED, "{left_open:?}\n{}", runner.last_lines());
                further += 1;
                if step == Step::Replay {
                    // What was read since the last snapshot is one batch, or none.
                    std::fs::remove_dir_all(stream.checkpoint().join("state"))?;
                }
                ended = small(&stream, &format!("{point}:1"), &log).arg("--drain").run(TIMEOUT)?.0;
            }
            // Killed behind the commit that closed the windows, or not at all.
            if ended == Ended::Code(0) || has_drained(&stream) {
                stream.skip(CLOSED);
            }
            // A log that is there does not start.
            anyhow::ensure!(ended == KILLED || step == Step::Start, "{point}: {ended:?}");
            points.insert(point, ended);
        }
    }
    let summary = stream.drain()?;
    for watcher in watchers {
        watcher.finish()?.expect_success()?;
    }
    stream.check_exact(&summary)?;
    stream.check_proved()?;
    let faults = std::fs::read_to_string(&log)?;
    let killed = points.values().filter(|ended| **ended == KILLED).count() + further;
    println!("{killed} kills at {} points: {faults}", points.len());
    assert!(killed + 4 >= points.len(), "only {killed} of {} points were reached: {points:?}", points.len());
    assert_eq!(faults.lines().count(), killed, "every kill leaves a trace");
    Ok(())
}

/// Whether the newest commit of the log closed every window.
fn has_drained(stream: &Stream) -> bool {
    let Ok(listing) = std::fs::read_dir(stream.checkpoint().join("log")) else { return false };
    let mut records: Vec<_> = listing.filter_map(|entry| Some(entry.ok()?.path())).collect();
    records.sort();
    let read = |path: &std::path::PathBuf| {
        let record: serde_json::Value = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
        record["body"]["commit"].as_object().map(|commit| commit.get("drained") == Some(&true.into()))
    };
    records.iter().rev().find_map(read).unwrap_or(false)
}

fn kill_at_random(broker: Broker, s3: Option<S3>, shipped: &'static Shipped, rounds: u32) -> anyhow::Result<()> {
    let seed = environment::seed();
    let mut random = Random::new(seed);
    let settings = EventSettings { seed, messy: 0.005, ..EventSettings::default() };
    let mut stream = Stream::of(shipped, broker, "kill-random", 4, settings)?;
    if let Some(s3) = s3 {
        stream.folders = s3.folders()?;
    }
    let watchers = stream.watch()?;
    for _ in 0..rounds {
        stream.produce(1_500)?;
        let job = stream.job().arg("--starting-offsets").arg("earliest").env("DATA_PLATFORM_RECORDS_PER_BASE", "10");
        let job =
            job.arg("--set").arg("spec.trigger.interval=50ms").arg("--set").arg("spec.kafka.maxOffsetsPerTrigger=200");
        let mut runner = job.start()?;
        // Not a wait for something: the moment of the kill is what is random.
        let moment = Duration::from_millis(20 + random.below(700));
        assert_eq!(runner.wait(moment).ok(), None, "it ended by itself: {}", runner.last_lines());
        runner.kill()?;
    }
    let summary = stream.drain()?;
    for watcher in watchers {
        println!("{rounds} kills, {}", watcher.finish()?.expect_success()?);
    }
    stream.check_exact(&summary)?;
    stream.check_proved()
}

#[test]
fn a_kill_before_the_first_commit_loses_nothing_that_came_after_the_start() -> anyhow::Result<()> {
    let mut stream = Stream::new(needs_broker!(), "kill-latest", 3, EventSettings::default(), 20.0)?;
    stream.produce(1_000)?;
    let log = stream.folders.root().join("faults.log");
    let latest = |fault: &str| {
        let job = stream.job_with_faults().env("FAULT_KILL", fault).env("FAULT_LOG", &log);
        job.arg("--starting-offsets").arg("latest").run(TIMEOUT)
    };
    // Before record 0 there is nothing to lose: the next start resolves its offsets anew.
    assert_eq!(latest("start:before:1")?.0, KILLED);
    for fault in ["start:after:1", "own:before:1", "own:after:1", "plan:before:1"] {
        assert_eq!(latest(fault)?.0, KILLED, "{fault}");
    }
    // Between record 0 and the first commit.
    stream.produce(5_000)?;
    let job = stream.job_with_faults().env("FAULT_KILL", "decide:before:1").env("FAULT_LOG", &log);
    assert_eq!(job.arg("--starting-offsets").arg("latest").run(TIMEOUT)?.0, KILLED);
    stream.produce(5_000)?;
    let summary = crate::events::finish(stream.job().arg("--drain").arg("--starting-offsets").arg("latest"))?;
    assert_eq!(summary["records"], 10_000, "all that came after the first start, and nothing before: {summary}");
    assert_eq!(std::fs::read_to_string(&log)?.lines().count(), 6);
    Ok(())
}

#[test]
fn a_broker_that_is_killed_delays_the_job_and_changes_nothing() -> anyhow::Result<()> {
    let _shared = needs_broker!();
    let broker = Broker::private(&[])?;
    let mut stream = Stream::new(broker, "kill-broker", 3, EventSettings::default(), 30.0)?;
    stream.produce(10_000)?;
    let job = stream.job().arg("--starting-offsets").arg("earliest").arg("--set").arg("spec.trigger.interval=50ms");
    let mut runner = job.arg("--set").arg("spec.kafka.maxOffsetsPerTrigger=500").start()?;
    let mut before = 0;
    for _ in 0..2 {
        runner.wait_for("commits", TIMEOUT, |_| (committed_versions(&stream) > before + 2).then_some(()))?;
        stream.broker.kill()?;
        stream.broker.restart()?;
        // Before there is more to read: the job may be faster than this test.
        before = committed_versions(&stream);
        stream.produce(2_000)?;
    }
    runner
        .wait_for("commits after the last kill", TIMEOUT, |_| (committed_versions(&stream) > before).then_some(()))?;
    runner.signal(Signal::TERM)?;
    assert_eq!(runner.wait(TIMEOUT)?, Ended::Code(0), "{}", runner.last_lines());
    let summary = stream.drain()?;
    stream.check_exact(&summary)
}

#[test]
fn a_stop_keeps_windows_open_and_the_next_start_goes_on() -> anyhow::Result<()> {
    let mut stream = Stream::new(needs_broker!(), "stop", 3, EventSettings::default(), 20.0)?;
    for _ in 0..4 {
        stream.produce(2_000)?;
        let before = committed_versions(&stream);
        let job = stream.job().arg("--starting-offsets").arg("earliest").arg("--set").arg("spec.trigger.interval=20ms");
        let mut runner = job.start()?;
        runner.wait_for("a commit", TIMEOUT, |_| (committed_versions(&stream) > before + 1).then_some(()))?;
        runner.signal(Signal::TERM)?;
        assert_eq!(runner.wait(Duration::from_secs(20))?, Ended::Code(0), "{}", runner.last_lines());
        wait_for("the last line", Duration::from_secs(5), || {
            runner.stderr().contains("windows stay open").then_some(())
        })?;
    }
    let summary = stream.drain()?;
    stream.check_exact(&summary)
}

#[test]
fn a_kill_around_dead_letters_sends_each_at_least_once() -> anyhow::Result<()> {
    let settings = EventSettings { messy: 0.05, ..EventSettings::default() };
    let mut stream = Stream::new(needs_broker!(), "kill-letters", 3, settings, 20.0)?;
    let letters = unique_topic("kill-letters-bad");
    stream.broker.create_topic(&letters, 1, &[])?;
    let log = stream.folders.root().join("faults.log");
    for (round, fault) in
        ["dead_letters:before:1", "dead_letters:after:1", "decide:before:1", ""].into_iter().enumerate()
    {
        stream.produce(1_000)?;
        let job = stream.job_with_faults().env("FAULT_KILL", fault).env("FAULT_LOG", &log);
        let job = job.arg("--set").arg(format!("spec.badRecords.topic={letters}"));
        let job = job.arg("--starting-offsets").arg("earliest").arg("--drain");
        if round < 3 {
            let (ended, runner) = job.run(TIMEOUT)?;
            anyhow::ensure!(ended == KILLED, "{fault}: {ended:?}\n{}", runner.last_lines());
        } else {
            stream.check_exact(&crate::events::finish(job)?)?;
        }
    }
    assert_eq!(std::fs::read_to_string(&log)?.lines().count(), 3);
    // Where each letter came from, in its headers; a letter may be there twice, none is missing.
    let mut sent = BTreeSet::new();
    let mut number = 0;
    stream.broker.for_each_record(&letters, |record| {
        let headers = record.headers().context("headers")?;
        let place = |name| {
            let header = headers.iter().find(|header| header.key == name).and_then(|header| header.value);
            Ok::<_, anyhow::Error>(std::str::from_utf8(header.context("a place")?)?.parse::<i64>()?)
        };
        sent.insert((place("dataplatform.partition")? as i32, place("dataplatform.offset")?));
        number += 1;
        Ok(())
    })?;
    let expected: BTreeSet<_> = stream.expected()?.bad_records()?.into_iter().collect();
    assert!(expected.len() > 50 && number > expected.len(), "{number} letters of {} bad records", expected.len());
    assert_eq!(sent, expected);
    Ok(())
}
