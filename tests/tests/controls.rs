//! Negative controls: without each guard a wrong result must be seen, or the tests could not see the bug.
//!
//! The durability order shows only when a machine stops: its control is in the simulation (`checkpoint::simulation`).

use data_platform_runner::generate::EventSettings;
use data_platform_tests::{Ended, JobFolders, Runner, needs_broker};

use crate::events::{Stream, TIMEOUT};
use crate::owners::wake_a_zombie;

/// The output is not exact, or the job itself noticed that something is wrong.
fn is_wrong(stream: &Stream) -> anyhow::Result<bool> {
    let (ended, runner) = stream.job().arg("--drain").arg("--starting-offsets").arg("earliest").run(TIMEOUT)?;
    if ended != Ended::Code(0) {
        println!("noticed by the job itself: {}", runner.stderr());
        return Ok(true);
    }
    let summary: serde_json::Value = serde_json::from_str(&runner.stdout())?;
    let conserved = stream.check_conserved(&summary);
    println!("{summary}\n{conserved:?}");
    Ok(conserved.is_err())
}

#[test]
fn without_the_base_check_a_zombie_is_seen() -> anyhow::Result<()> {
    let mut stream = Stream::new(needs_broker!(), "no-base-check", 3, EventSettings::default(), 60.0)?;
    stream.produce(6_000)?;
    let (_, unchanged) = wake_a_zombie(&mut stream, "base_check,fence")?;
    assert!(!unchanged || is_wrong(&stream)?, "nobody saw the zombie");
    Ok(())
}

#[test]
fn without_staging_a_kill_before_the_decision_is_seen() -> anyhow::Result<()> {
    let mut stream = Stream::new(needs_broker!(), "no-staging", 3, EventSettings::default(), 60.0)?;
    stream.produce(6_000)?;
    for times in 2..6 {
        let job = stream
            .job_with_faults()
            .env("FAULT_WITHOUT", "staging")
            .env("FAULT_KILL", format!("decide:before:{times}"));
        let job = job.arg("--starting-offsets").arg("earliest").arg("--drain");
        let (ended, runner) = job.arg("--set").arg("spec.kafka.maxOffsetsPerTrigger=1000").run(TIMEOUT)?;
        if ended == Ended::Code(2) {
            println!("noticed by the job itself: {}", runner.stderr());
            return Ok(());
        }
    }
    assert!(is_wrong(&stream)?, "nobody saw files that were not decided");
    Ok(())
}

#[test]
fn without_the_committed_watermark_rows_are_lost() -> anyhow::Result<()> {
    // Partitions that run apart: what one has seen must not make rows of another late.
    let mut stream = Stream::new(needs_broker!(), "no-watermark", 3, EventSettings::default(), 60.0)?;
    stream.produce(10_000)?;
    let job = stream.job_with_faults().env("FAULT_WITHOUT", "committed_watermark");
    let (ended, runner) = job.arg("--starting-offsets").arg("earliest").arg("--drain").run(TIMEOUT)?;
    assert_eq!(ended, Ended::Code(0), "{}", runner.last_lines());
    let summary: serde_json::Value = serde_json::from_str(&runner.stdout())?;
    let expected = stream.expected()?;
    let reading = expected.compare(&stream.output(), &[])?;
    assert!(!reading.succeeded, "nobody saw the rows that were dropped: {summary}");
    Ok(())
}

#[test]
fn without_record_0_a_kill_before_the_first_commit_loses_records() -> anyhow::Result<()> {
    let mut stream = Stream::new(needs_broker!(), "no-record-0", 3, EventSettings::default(), 60.0)?;
    stream.produce(1_000)?;
    let job = |stream: &Stream, kill: &str| {
        let job = stream.job_with_faults().env("FAULT_WITHOUT", "record_zero").env("FAULT_KILL", kill);
        job.arg("--starting-offsets").arg("latest").arg("--drain").run(TIMEOUT)
    };
    assert_eq!(job(&stream, "plan:before:1")?.0, Ended::Signal(9));
    // Another guard would see that a log is gone which the output knows.
    std::fs::remove_dir_all(stream.folders.outputs().join("_dataplatform"))?;
    stream.produce(2_000)?;
    let (ended, runner) = job(&stream, "")?;
    assert_eq!(ended, Ended::Code(0), "{}", runner.last_lines());
    let summary: serde_json::Value = serde_json::from_str(&runner.stdout())?;
    assert_ne!(summary["records"], 2_000, "nobody saw the records that were lost");
    Ok(())
}

#[test]
fn without_the_logged_cuts_a_rebuild_gives_another_state() -> anyhow::Result<()> {
    // Which records are too far in the future depends on when their batch ran.
    let settings = EventSettings { disorder_ms: 0, ..EventSettings::default() };
    let mut stream = Stream::new(needs_broker!(), "no-cuts", 3, settings, 20.0)?;
    for without in ["", "logged_cuts"] {
        let folders = JobFolders::new()?;
        let job = |stream: &Stream, without: &str| {
            let job = stream.job_with_faults().folders(&folders).env("FAULT_WITHOUT", without);
            let job = job.arg("--starting-offsets").arg("earliest").arg("--set").arg("spec.trigger.interval=50ms");
            job.arg("--set").arg("spec.sources[0].eventTime.maxFutureSkew=0s")
        };
        let mut runner = job(&stream, "").env("FAULT_KILL", "decide:after:8").start()?;
        let ended = loop {
            if let Some(ended) = runner.has_ended()? {
                break ended;
            }
            stream.produce_now(100)?;
        };
        assert_eq!(ended, Ended::Signal(9), "{}", runner.last_lines());
        // A snapshot would save the rebuild.
        let state = folders.checkpoints().join("local/event-aggregation/state");
        if state.exists() {
            std::fs::remove_dir_all(state)?;
        }
        let (ended, runner) = job(&stream, without).arg("--drain").run(TIMEOUT)?;
        assert_eq!(ended, Ended::Code(0), "{}", runner.last_lines());
        assert!(runner.stderr().contains("rebuilding the state"), "{}", runner.stderr());
        let summary: serde_json::Value = serde_json::from_str(&runner.stdout())?;
        let sql = "SELECT sum(event_count) AS events FROM events_aggregated_realtime";
        let (_, counted) = Runner::command(["query", "--format", "csv", sql]).folders(&folders).run(TIMEOUT)?;
        let events: u64 = counted.stdout().lines().nth(1).unwrap_or_default().parse()?;
        let is_right = summary["accepted"] == events;
        assert_eq!(is_right, without.is_empty(), "{events} in the table without {without:?}: {summary}");
    }
    Ok(())
}
