//! Runs that are killed, that sleep, and that meet: an interval is there as it was, or as it is now.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};

use anyhow::Context;
use data_platform_runner::faults::Step;
use data_platform_tests::{Ended, environment, needs_broker, wait_for};
use rustix::process::Signal;

use crate::batch::{Hours, files, hour_text};
use crate::events::{TIMEOUT, finish};

/// What a batch run passes.
pub(super) const STEPS: [Step; 15] = [
    Step::Start,
    Step::Own,
    Step::CollectStaging,
    Step::Read,
    Step::StageOpen,
    Step::StageFinish,
    Step::SyncStaged,
    Step::LinkRecord,
    Step::SyncLog,
    Step::Decide,
    Step::Publish,
    Step::SyncPublished,
    Step::Published,
    Step::Progress,
    Step::Base,
];

/// `hourly_aggregates.py` that reads until it is told to stop.
struct HourWatcher {
    child: Child,
    folder: std::path::PathBuf,
}

impl HourWatcher {
    fn start(hours: &Hours, count: u64) -> anyhow::Result<Self> {
        let folder = hours.stream.folders.root().to_owned();
        let python = environment::python().context("no Python for the readers")?;
        let child = Command::new(python)
            .arg(environment::tests_folder().join("readers/hourly_aggregates.py"))
            .args([hours.output(), hours.stream.output()])
            .args((0..count).map(hour_text))
            .args([std::ffi::OsStr::new("--until"), folder.join("until").as_os_str()])
            .args([std::ffi::OsStr::new("--progress"), folder.join("reads").as_os_str()])
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdout(Stdio::piped())
            .spawn()?;
        Ok(Self { child, folder })
    }

    fn reads(&self) -> u64 {
        std::fs::read_to_string(self.folder.join("reads")).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    fn wait_for_reads(&self, more: u64) -> anyhow::Result<()> {
        let goal = self.reads() + more;
        wait_for("reads of the output", TIMEOUT, || (self.reads() >= goal).then_some(()))
    }

    fn finish(self) -> anyhow::Result<serde_json::Value> {
        std::fs::write(self.folder.join("until"), "")?;
        let output = self.child.wait_with_output()?;
        let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        anyhow::ensure!(output.status.success(), "{report:#}");
        Ok(report)
    }
}

#[test]
fn a_run_killed_at_any_step_leaves_the_old_hour_or_the_new_one() -> anyhow::Result<()> {
    let hours = Hours::new(needs_broker!(), "batch-kill", 3)?;
    let log = hours.stream.folders.root().join("faults.log");
    let watcher = HourWatcher::start(&hours, 3)?;
    let mut points: BTreeMap<String, Ended> = BTreeMap::new();
    for step in STEPS {
        for moment in ["before", "after"] {
            // The first record and an empty output, then the middle of things.
            for (number, hour) in [(1, 0), (2, 1)] {
                let point = format!("{}:{moment}:{number}", step.name());
                let job = hours.job_with_faults().env("FAULT_KILL", &point).env("FAULT_LOG", &log);
                let job = job.arg("--from").arg(hour_text(hour)).arg("--to").arg(hour_text(hour + 2));
                let (ended, runner) = job.run(TIMEOUT)?;
                anyhow::ensure!(
                    matches!(ended, Ended::Signal(9) | Ended::Code(0)),
                    "{point}: {ended:?} {}",
                    runner.last_lines()
                );
                points.insert(point, ended);
            }
        }
    }
    let summary = finish(hours.job().arg("--from").arg(hour_text(0)).arg("--to").arg(hour_text(3)))?;
    anyhow::ensure!(summary["intervals"] == 3, "{summary}");
    watcher.wait_for_reads(2)?;
    let report = watcher.finish()?;
    hours.check(0..3)?;
    assert_eq!(files(&hours.output())?.len(), 3);
    let killed = points.values().filter(|ended| **ended == Ended::Signal(9)).count();
    println!("{killed} kills at {} points, {report}", points.len());
    assert!(killed >= 40, "only {killed}: {points:?}");
    assert_eq!(std::fs::read_to_string(&log)?.lines().count(), killed, "every kill leaves a trace");
    Ok(())
}

#[test]
fn two_runs_at_once_follow_each_other() -> anyhow::Result<()> {
    let hours = Hours::new(needs_broker!(), "batch-two", 4)?;
    let all = |command: data_platform_tests::process::RunnerCommand| {
        command.arg("--from").arg(hour_text(0)).arg("--to").arg(hour_text(4))
    };
    let mut runs = (0..4).map(|_| all(hours.job()).start()).collect::<anyhow::Result<Vec<_>>>()?;
    for run in &mut runs {
        assert_eq!(run.wait(TIMEOUT)?, Ended::Code(0), "{}", run.last_lines());
    }
    hours.check(0..4)?;
    // Without the lock of the folder, as in pods: the heartbeat tells that the first one works.
    let pod = |command: data_platform_tests::process::RunnerCommand| command.env("DATA_PLATFORM_NO_LOCK", "true");
    let mut runs = (0..3).map(|_| pod(all(hours.job())).start()).collect::<anyhow::Result<Vec<_>>>()?;
    for run in &mut runs {
        assert_eq!(run.wait(TIMEOUT)?, Ended::Code(0), "{}", run.last_lines());
    }
    hours.check(0..4)?;
    assert_eq!(files(&hours.output())?.len(), 4);
    Ok(())
}

#[test]
fn a_run_that_sleeps_through_its_own_end_changes_nothing_when_it_wakes() -> anyhow::Result<()> {
    let hours = Hours::new(needs_broker!(), "batch-sleep", 2)?;
    let log = hours.stream.folders.root().join("faults.log");
    // Asleep before its decision, between decision and file, and after the file.
    for point in ["decide:before:1", "publish:before:1", "publish:after:1", "published:before:1"] {
        let job = hours.job_with_faults().env("FAULT_STOP", point).env("FAULT_LOG", &log);
        let mut sleeper = job.env("DATA_PLATFORM_NO_LOCK", "true").arg("--target-hour").arg(hour_text(0)).start()?;
        let is_asleep = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", sleeper.id())).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')).then_some(())
        };
        wait_for("the run to sleep", TIMEOUT, is_asleep)?;
        // The next one finds its heartbeat still, takes over, and does the hour twice over.
        let next = || hours.job().env("DATA_PLATFORM_NO_LOCK", "true").arg("--target-hour").arg(hour_text(0));
        finish(next())?;
        let summary = finish(next())?;
        hours.check([0])?;
        let file = hours.output().join("date=2026-01-01/hourly-aggregates-20260101T00.parquet");
        let before = std::fs::read(&file)?;
        sleeper.signal(Signal::CONT)?;
        assert_eq!(sleeper.wait(TIMEOUT)?, Ended::Code(3), "{point}: {}", sleeper.last_lines());
        assert_eq!(std::fs::read(&file)?, before, "{point}: {summary}");
        hours.check([0])?;
    }
    Ok(())
}
