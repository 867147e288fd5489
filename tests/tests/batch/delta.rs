//! Intervals of a Delta table.

use std::ffi::OsStr;

use anyhow::ensure;
use data_platform_runner::faults::Step;
use data_platform_tests::process::RunnerCommand;
use data_platform_tests::{Ended, needs_broker, python_reader};
use serde_json::Value;

use crate::batch::{Hours, hour_text};
use crate::events::{TIMEOUT, finish};

const KILLED: Ended = Ended::Signal(9);

#[test]
fn a_batch_run_replaces_an_interval_in_one_version_however_it_is_killed() -> anyhow::Result<()> {
    let hours = Hours::new(needs_broker!(), "delta-hours", 3)?;
    finish(hours.job().arg("--from").arg(hour_text(0)).arg("--to").arg(hour_text(3)))?;
    let folder = hours.stream.folders.root().to_owned();
    let file = folder.join("delta-hours.yaml");
    let template = data_platform_runner::config::templates::find("hourly-aggregates").map_err(anyhow::Error::msg)?;
    std::fs::write(&file, template)?;
    let table = hours.stream.folders.outputs().join("hours_delta");
    let set = |job: RunnerCommand| {
        let fields = ["spec.checkpoint.name=hours-delta", "spec.sink.format=delta", "spec.sink.path=hours_delta"];
        fields.iter().fold(job.arg("-f").arg(&file), |job, field| job.arg("--set").arg(*field))
    };
    let of =
        |job: RunnerCommand, from: u64, to: u64| job.arg("--from").arg(hour_text(from)).arg("--to").arg(hour_text(to));
    let log = folder.join("faults.log");
    let mut kills = 0;
    for step in [Step::StageOpen, Step::StageFinish, Step::Decide, Step::LinkRecord, Step::Publish, Step::Published] {
        for moment in ["before", "after"] {
            let fault = format!("{}:{moment}:2", step.name());
            let job = set(hours.job_with_faults()).env("FAULT_KILL", &fault).env("FAULT_LOG", &log);
            let (ended, runner) = of(job, 0, 3).run(TIMEOUT)?;
            ensure!(matches!(ended, KILLED | Ended::Code(0)), "{fault}: {ended:?} {}", runner.last_lines());
            kills += usize::from(ended == KILLED);
        }
    }
    ensure!(kills >= 10, "only {kills} kills");
    let summary = finish(of(set(hours.job()), 0, 3))?;
    ensure!(summary["intervals"] == 3, "{summary}");
    let same = || -> anyhow::Result<Value> {
        let output = hours.output();
        let words = [OsStr::new("same"), table.as_os_str(), output.as_os_str(), OsStr::new("processing_time")];
        python_reader("delta.py", words)?.expect_success()
    };
    ensure!(same()?["rows"].as_u64() > Some(30), "too few rows to tell anything");
    // An hour without rows takes the place of one with rows, and the rows come again.
    let nobody = "spec.query=SELECT date_trunc('hour', window_start) AS hour, event_type, CAST(window_start AS DATE) AS date \
                  FROM events WHERE user_id = 'nobody'";
    let before = same()?["rows"].as_u64();
    finish(of(set(hours.job()).arg("--set").arg(nobody), 1, 2))?;
    let rows = |name: &str| -> anyhow::Result<Option<u64>> {
        let read = python_reader("delta.py", [OsStr::new("read"), table.as_os_str(), OsStr::new(name)])?;
        Ok(read.expect_success()?["rows"].as_array().map(|rows| rows.len() as u64))
    };
    ensure!(rows("event_type")? < before, "the hour is empty");
    finish(of(set(hours.job()), 1, 2))?;
    same()?;
    // Whose rows lie in one file with others cannot be replaced by itself.
    python_reader("delta.py", [OsStr::new("optimize"), table.as_os_str()])?.expect_success()?;
    let (ended, runner) = of(set(hours.job()), 1, 2).run(TIMEOUT)?;
    ensure!(ended == Ended::Code(2), "{ended:?} {}", runner.last_lines());
    ensure!(runner.stderr().contains("of the interval 20260101T01"), "{}", runner.last_lines());
    same().map(drop)
}
