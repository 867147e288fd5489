//! Negative controls: without each guard a wrong result must be seen, or the tests could not see the bug.
//!
//! The durability order shows only when a machine stops: its control is in the simulation (`checkpoint::simulation`).

use data_platform_runner::generate::EventSettings;
use data_platform_tests::{Ended, needs_broker};

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
    stream.produce(2_000)?;
    let (ended, runner) = job(&stream, "")?;
    assert_eq!(ended, Ended::Code(0), "{}", runner.last_lines());
    let summary: serde_json::Value = serde_json::from_str(&runner.stdout())?;
    assert_ne!(summary["records"], 2_000, "nobody saw the records that were lost");
    Ok(())
}

#[test]
fn without_the_logged_cuts_a_rebuild_gives_another_state() -> anyhow::Result<()> {
    let settings = EventSettings { late: 0.1, late_ms: 90_000, ..EventSettings::default() };
    let mut stream = Stream::new(needs_broker!(), "no-cuts", 3, settings, 20.0)?;
    stream.produce(30_000)?;
    let run = |kill: &str, without: &str| {
        let job = stream.job_with_faults().env("FAULT_WITHOUT", without).env("FAULT_KILL", kill);
        let job = job.arg("--starting-offsets").arg("earliest").arg("--drain");
        job.arg("--set").arg("spec.kafka.maxOffsetsPerTrigger=500").run(TIMEOUT)
    };
    assert_eq!(run("decide:after:25", "")?.0, Ended::Signal(9));
    for state in std::fs::read_dir(stream.checkpoint().join("state"))? {
        std::fs::remove_file(state?.path())?;
    }
    let (ended, runner) = run("", "logged_cuts")?;
    println!("{ended:?} {}", runner.last_lines());
    assert!(ended != Ended::Code(0) || is_wrong(&stream)?, "nobody saw the other state");
    Ok(())
}
