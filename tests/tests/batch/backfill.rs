//! Backfills: killed at each step they do only the rest, and they let runs go first that wait for their turn.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use data_platform_tests::process::RunnerCommand;
use data_platform_tests::{Ended, Runner, environment, needs_broker, wait_for};
use rustix::process::Signal;
use serde_json::Value;

use crate::batch::kills::STEPS;
use crate::batch::{Hours, files, hour_text, refused};
use crate::events::{TIMEOUT, finish};

impl Hours {
    fn backfill(&self, program: &str, to: u64) -> RunnerCommand {
        let program = environment::program(program);
        let command = Runner::program(&program, ["backfill", "hourly-aggregates", "--parallelism", "2"]);
        command.folders(&self.stream.folders).arg("--from").arg(hour_text(0)).arg("--to").arg(hour_text(to))
    }
}

impl Hours {
    /// The folder of the job's checkpoint.
    pub(super) fn checkpoint(&self, namespace: &str) -> PathBuf {
        self.stream.folders.checkpoints().join(namespace).join("hourly-aggregates")
    }
}

/// Waits until a process was stopped by a signal.
pub(super) fn wait_until_it_sleeps(run: &Runner) -> anyhow::Result<()> {
    let stat = format!("/proc/{}/stat", run.id());
    let is_asleep = || {
        let stat = std::fs::read_to_string(&stat).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')).then_some(())
    };
    wait_for("the run to sleep", TIMEOUT, is_asleep)
}

/// The records of the intervals that were replaced, in order, as the log of a checkpoint has them.
pub(crate) fn replaced(checkpoint: &Path) -> anyhow::Result<Vec<Value>> {
    let log = checkpoint.join("batch-log");
    let mut paths =
        std::fs::read_dir(log)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    let mut found = Vec::new();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|ending| ending == "json")) {
        let record: Value = serde_json::from_slice(&std::fs::read(path)?)?;
        if record["body"]["type"] == "replace" {
            found.push(record["body"].clone());
        }
    }
    Ok(found)
}

fn intervals(summary: &Value) -> u64 {
    summary["intervals"].as_u64().unwrap_or(99)
}

#[test]
fn a_backfill_killed_at_any_step_does_only_the_rest() -> anyhow::Result<()> {
    const HOURS: u64 = 3;
    let hours = Hours::new(needs_broker!(), "backfill-kill", HOURS)?;
    let log = hours.stream.folders.root().join("faults.log");
    let mut rest: BTreeMap<String, u64> = BTreeMap::new();
    let mut killed = 0_usize;
    for step in STEPS {
        for moment in ["before", "after"] {
            let point = format!("{}:{moment}:2", step.name());
            let job = hours.backfill("data-platform-faults", HOURS).env("FAULT_KILL", &point).env("FAULT_LOG", &log);
            let (ended, runner) = job.run(TIMEOUT)?;
            anyhow::ensure!(
                matches!(ended, Ended::Signal(9) | Ended::Code(0)),
                "{point}: {ended:?} {}",
                runner.last_lines()
            );
            if ended == Ended::Signal(9) {
                killed += 1;
                let left = intervals(&finish(hours.backfill("data-platform", HOURS))?);
                anyhow::ensure!(left <= HOURS, "{point}: {left}");
                rest.insert(point, left);
            }
            hours.check(0..HOURS)?;
        }
    }
    println!("{killed} kills, and what was left after each: {rest:?}");
    assert!(killed >= 15, "only {killed}: {rest:?}");
    assert_eq!(std::fs::read_to_string(&log)?.lines().count(), killed, "every kill leaves a trace");
    // What was decided when it was killed is not done again.
    assert_eq!(rest.get("published:before:2"), Some(&(HOURS - 2)), "{rest:?}");
    assert!(rest.values().any(|left| *left == HOURS - 1) && !rest.values().any(|left| *left > HOURS), "{rest:?}");
    // A finished one is begun anew, and three times are one right copy.
    for _ in 0..3 {
        assert_eq!(intervals(&finish(hours.backfill("data-platform", HOURS))?), HOURS);
    }
    hours.check(0..HOURS)?;
    assert_eq!(files(&hours.output())?.len(), usize::try_from(HOURS)?);
    let wrong = hours.backfill("data-platform", HOURS).arg("--stale");
    assert!(refused(wrong, 2)?.contains("cannot be used with"));
    Ok(())
}

#[test]
fn a_backfill_lets_a_run_go_first_that_waits_for_its_turn() -> anyhow::Result<()> {
    lets_a_run_go_first("backfill-yields", false)
}

#[test]
fn a_backfill_lets_a_run_go_first_also_where_folders_have_no_locks() -> anyhow::Result<()> {
    // As in pods: whose turn it is is seen from the heartbeat and the log alone.
    lets_a_run_go_first("backfill-yields-no-lock", true)
}

fn lets_a_run_go_first(name: &str, has_no_lock: bool) -> anyhow::Result<()> {
    let hours = Hours::new(needs_broker!(), name, 4)?;
    let in_its_way = |command: RunnerCommand| command.env("DATA_PLATFORM_NO_LOCK", has_no_lock.to_string());
    let log = hours.stream.folders.root().join("faults.log");
    // It sleeps in the middle of its first hour, and has the turn.
    let job = hours.backfill("data-platform-faults", 3).env("FAULT_STOP", "publish:before:1").env("FAULT_LOG", &log);
    let mut backfill = in_its_way(job).start()?;
    wait_until_it_sleeps(&backfill)?;
    let mut run = in_its_way(hours.job().arg("--target-hour").arg(hour_text(3))).start()?;
    let waiting = hours.checkpoint("local").join("waiting.json");
    wait_for("the run to wait", TIMEOUT, || waiting.exists().then_some(()))?;
    backfill.signal(Signal::CONT)?;
    assert_eq!(run.wait(TIMEOUT)?, Ended::Code(0), "{}", run.last_lines());
    assert_eq!(backfill.wait(TIMEOUT)?, Ended::Code(0), "{}", backfill.last_lines());
    let said = backfill.stderr();
    assert!(said.contains("another run waits: the backfill lets it go first"), "{said}");
    hours.check(0..4)?;
    // In the log the run stands between two hours of the backfill.
    let order: Vec<_> =
        replaced(&hours.checkpoint("local"))?.iter().map(|replaced| replaced["backfill"].is_object()).collect();
    assert_eq!(order, [true, false, true, true], "its first hour, the run, and the rest");
    assert!(!waiting.exists());
    Ok(())
}
