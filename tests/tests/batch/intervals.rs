//! Which intervals a run processes, and what is in the output afterwards.

use data_platform_tests::{Ended, Runner, needs_broker};
use rustix::process::Signal;

use crate::batch::{Hours, files, hour_text, refused};
use crate::events::{TIMEOUT, finish};

#[test]
fn an_hour_that_is_processed_three_times_is_there_once() -> anyhow::Result<()> {
    let hours = Hours::new(needs_broker!(), "batch-again", 4)?;
    for _ in 0..3 {
        let summary = hours.hour(1)?;
        anyhow::ensure!(summary["intervals"] == 1 && summary["rows"].as_u64() > Some(10), "{summary}");
        hours.check([1])?;
    }
    assert_eq!(files(&hours.output())?, ["date=2026-01-01/hourly-aggregates-20260101T01.parquet"]);
    let summary = finish(hours.job().arg("--from").arg(hour_text(0)).arg("--to").arg(hour_text(4)))?;
    anyhow::ensure!(summary["intervals"] == 4, "{summary}");
    hours.check(0..4)
}

#[test]
fn the_log_of_a_batch_job_can_be_looked_at_and_checked() -> anyhow::Result<()> {
    let hours = Hours::new(needs_broker!(), "batch-look", 3)?;
    finish(hours.job().arg("--from").arg(hour_text(0)).arg("--to").arg(hour_text(3)))?;
    hours.hour(1)?;
    let look = |arguments: &[&str], code: i32| -> anyhow::Result<String> {
        let command = Runner::command([&["checkpoint"][..], arguments].concat()).folders(&hours.stream.folders);
        let (ended, runner) = command.run(TIMEOUT)?;
        anyhow::ensure!(ended == Ended::Code(code), "{arguments:?}: {ended:?} {}", runner.last_lines());
        Ok(runner.stdout() + &runner.stderr())
    };
    let list = look(&["ls"], 0)?;
    for job in ["local/event-aggregation", "local/hourly-aggregates"] {
        assert!(list.contains(job), "{list}");
    }
    let shown = look(&["show", "hourly-aggregates"], 0)?;
    let rows: Vec<_> = shown.lines().filter(|line| line.trim_start().starts_with("2026-01-01 0")).collect();
    assert_eq!(rows.len(), 3, "{shown}");
    assert!(rows.iter().all(|row| row.contains(" yes ")) && rows[1].contains("epoch 2"), "{shown}");
    let verified = look(&["verify", "hourly-aggregates"], 0)?;
    assert!(verified.contains("3 files of 3 intervals") && !verified.contains(" bad"), "{verified}");
    assert!(look(&["show", "hourly"], 2)?.contains("there is no job log"));
    assert!(look(&["rewind", "hourly-aggregates"], 2)?.contains("is a batch job"));

    std::fs::remove_file(hours.output().join("date=2026-01-01/hourly-aggregates-20260101T01.parquet"))?;
    assert!(look(&["show", "hourly-aggregates"], 0)?.contains("1 MISSING"));
    let verified = look(&["verify", "hourly-aggregates"], 1)?;
    assert!(verified.contains("--target-hour \"2026-01-01 01:00:00\""), "{verified}");
    // The cure that it names.
    hours.hour(1)?;
    look(&["verify", "hourly-aggregates"], 0)?;
    hours.check(0..3)
}

#[test]
fn an_hour_without_rows_is_a_file_without_rows_also_where_rows_were() -> anyhow::Result<()> {
    let hours = Hours::new(needs_broker!(), "batch-empty", 2)?;
    hours.complete_until(24)?;
    let summary = hours.hour(20)?;
    anyhow::ensure!(summary["rows"] == 0 && summary["files"] == 1, "{summary}");
    hours.check([])?;
    // The query changes and no longer gives rows: those of before must go.
    hours.hour(0)?;
    hours.check([0])?;
    let nothing = "spec.query=SELECT window_start AS hour, user_id, CAST(window_start AS DATE) AS date FROM events \
                   WHERE user_id = 'nobody'";
    let template = data_platform_runner::config::templates::find("hourly-aggregates").expect("it is built in");
    let file = hours.stream.folders.root().join("job.yaml");
    std::fs::write(&file, template)?;
    let job = hours.job().arg("-f").arg(&file).arg("--set").arg(nothing);
    let summary = finish(job.arg("--target-hour").arg(hour_text(0)))?;
    anyhow::ensure!(summary["rows"] == 0 && summary["files"] == 1, "{summary}");
    assert_eq!(files(&hours.output())?.len(), 2);
    Ok(())
}

#[test]
fn a_due_run_catches_up_what_was_missed() -> anyhow::Result<()> {
    let hours = Hours::new(needs_broker!(), "batch-late", 8)?;
    let due = |time: &str, catch_up: u64| {
        let job = hours.job().arg("--scheduled").arg(time);
        let file = hours.stream.folders.root().join("job.yaml");
        let template = data_platform_runner::config::templates::find("hourly-aggregates").expect("it is built in");
        std::fs::write(&file, template)?;
        finish(job.arg("-f").arg(&file).arg("--set").arg(format!("spec.catchUp={catch_up}")))
    };
    // The first run processes its own hour and nothing before it.
    assert_eq!(due("2026-01-01 03:05:00", 24)?["intervals"], 1);
    hours.check([2])?;
    // Somebody ran an hour ahead by hand, the schedule slept: what is missing comes, what is there stays.
    hours.hour(4)?;
    let summary = due("2026-01-01 07:05:00", 2)?;
    assert_eq!((&summary["intervals"], &summary["start"]), (&2.into(), &"2026-01-01T03:00:00Z".into()));
    // What it covered, and not what it leaves for the next one.
    assert_eq!(summary["end"], "2026-01-01T06:00:00Z", "{summary}");
    hours.check([2, 3, 4, 5])?;
    assert_eq!(due("2026-01-01 08:05:00", 24)?["intervals"], 2);
    hours.check(2..8)?;
    // The same time twice, as when clocks are set back.
    let summary = due("2026-01-01 08:05:00", 24)?;
    assert_eq!((&summary["intervals"], &summary["rows"]), (&0.into(), &0.into()));
    hours.check(2..8)?;
    let progress: serde_json::Value = serde_json::from_slice(&std::fs::read(
        data_platform_tests::folders::beside(&hours.output()).join("progress.json"),
    )?)?;
    assert_eq!(progress["complete_until"], crate::batch::micros(8));
    Ok(())
}

#[test]
fn a_run_waits_for_its_input_and_then_says_what_is_missing() -> anyhow::Result<()> {
    let hours = Hours::new(needs_broker!(), "batch-wait", 2)?;
    let template = data_platform_runner::config::templates::find("hourly-aggregates").expect("it is built in");
    let file = hours.stream.folders.root().join("job.yaml");
    std::fs::write(&file, template)?;
    let job = |wait: &str| {
        let job = hours.job().arg("-f").arg(&file).arg("--set").arg(format!("spec.wait={wait}"));
        job.arg("--target-hour")
            .arg(hour_text(1))
            .env("TERMINATION_MESSAGE_PATH", hours.stream.folders.root().join("last"))
    };
    hours.complete_until(1)?;
    let lines = refused(job("0s"), 1)?;
    assert!(lines.contains("events is complete until 2026-01-01T01:00:00.000Z"), "{lines}");
    let last: serde_json::Value = serde_json::from_slice(&std::fs::read(hours.stream.folders.root().join("last"))?)?;
    assert_eq!(last["reason"], "InputIncomplete", "{last}");
    // It waits, the input becomes complete, and the run ends well.
    let mut runner = job("60s").start()?;
    runner.wait_for("the run to wait", TIMEOUT, |runner| runner.stderr().contains("waiting: events").then_some(()))?;
    hours.complete_until(2)?;
    assert_eq!(runner.wait(TIMEOUT)?, Ended::Code(0), "{}", runner.last_lines());
    hours.check([1])?;
    // One that waits can be stopped, and says that it did not finish.
    hours.complete_until(1)?;
    let mut runner = job("60s").start()?;
    runner.wait_for("the run to wait", TIMEOUT, |runner| runner.stderr().contains("waiting: events").then_some(()))?;
    runner.signal(Signal::TERM)?;
    assert_eq!(runner.wait(TIMEOUT)?, Ended::Code(1), "{}", runner.last_lines());
    let last: serde_json::Value = serde_json::from_slice(&std::fs::read(hours.stream.folders.root().join("last"))?)?;
    assert_eq!(last["reason"], "Interrupted", "{last}");
    hours.check([1])
}

#[test]
fn what_no_run_can_do_is_refused_with_a_cure() -> anyhow::Result<()> {
    let hours = Hours::new(needs_broker!(), "batch-refused", 1)?;
    let template = data_platform_runner::config::templates::find("hourly-aggregates").expect("it is built in");
    let file = hours.stream.folders.root().join("job.yaml");
    std::fs::write(&file, template)?;
    for (set, expected) in [
        ("spec.query=DROP TABLE events", "DROP does not run in a job"),
        ("spec.query=INSERT INTO events VALUES (1)", "INSERT does not run in a job"),
        ("spec.query=SELECT * FROM 'file:///etc/passwd'", "there is no table"),
        ("spec.query=SELECT * FROM read_csv('/etc/passwd')", "read_csv"),
        ("spec.query=SELECT nothing FROM events", "nothing"),
        ("spec.inputs[0].timeColumn=at", "has no column at"),
        ("spec.inputs[0].timeColumn=user_id", "not a timestamp"),
        ("spec.sink.partitionBy=[nothing]", "nothing"),
    ] {
        let job = hours.job().arg("-f").arg(&file).arg("--set").arg(set).arg("--target-hour").arg(hour_text(0));
        let lines = refused(job, 2)?;
        assert!(lines.contains(expected), "{set}: {lines}");
    }
    assert!(!hours.output().join("date=2026-01-01").exists(), "nothing was written");
    Ok(())
}
