//! Intervals whose input was replaced after they had read it: named, and repaired by one command or by the next scheduled
//! run. Jobs that wait for others, and cycles.

use anyhow::ensure;
use data_platform_tests::process::RunnerCommand;
use data_platform_tests::{Runner, environment, folders::JobFolders, python_reader};
use serde_json::json;

use crate::batch::refused;
use crate::events::finish;

const JOBS: &str = "
apiVersion: dataplatform.io/v1alpha1
kind: BatchJob
metadata: {name: days}
spec:
  interval: day
  wait: 1s
  inputs: [{name: h, path: hours, timeColumn: hour}]
  query: SELECT date_trunc('day', hour) AS day, sum(n) AS n FROM h GROUP BY 1
  sink: {path: days}
---
apiVersion: dataplatform.io/v1alpha1
kind: BatchJob
metadata: {name: hours}
spec:
  interval: hour
  inputs: [{name: e, path: events_aggregated_realtime, timeColumn: window_start, completeBy: clock}]
  query: SELECT date_trunc('hour', window_start) AS hour, sum(event_count) AS n FROM e GROUP BY 1
  sink: {path: hours}
";

struct World {
    folders: JobFolders,
}

impl World {
    fn new() -> anyhow::Result<Self> {
        let folders = JobFolders::new()?;
        let outputs = folders.outputs().to_string_lossy().into_owned();
        python_reader("sample_sessions.py", vec![outputs, "2026-02-01".into(), "3".into(), "4".into()])?
            .expect_success()?;
        let world = Self { folders };
        world.write("jobs.yaml", JOBS)?;
        Ok(world)
    }

    fn write(&self, file: &str, text: &str) -> anyhow::Result<()> {
        Ok(std::fs::write(self.folders.root().join(file), text)?)
    }

    fn command(&self, words: &[&str]) -> RunnerCommand {
        let program = environment::program("data-platform");
        Runner::program(&program, words.iter().copied()).folders(&self.folders)
    }

    fn run(&self, job: &str, more: &[&str]) -> anyhow::Result<serde_json::Value> {
        let words = [&["run", job, "-f", "jobs.yaml", "--http", "off"], more].concat();
        finish(self.command(&words))
    }
}

#[test]
fn a_day_whose_hour_is_replaced_is_named_and_repaired() -> anyhow::Result<()> {
    let world = World::new()?;
    let hours = ["backfill", "hours", "-f", "jobs.yaml", "--from", "2026-02-01", "--to", "2026-02-03"];
    let summary = finish(world.command(&[&hours[..], &["--parallelism", "4"]].concat()))?;
    ensure!(summary["intervals"] == 48 && summary["stale"] == json!([]), "{summary}");
    let days = world.run("days", &["--from", "2026-02-01", "--to", "2026-02-03"])?;
    ensure!(days["intervals"] == 2 && days["stale"] == json!([]), "{days}");
    // An hour of the second day comes again.
    world.run("hours", &["--target-hour", "2026-02-02 12:00:00"])?;
    let days = world.run("days", &["--target-date", "2026-02-01"])?;
    ensure!(days["stale"] == json!(["20260202"]), "{days}");
    // One command for all jobs of the file, those that are read first.
    let (ended, repaired) = world.command(&["backfill", "-f", "jobs.yaml", "--stale"]).run(crate::events::TIMEOUT)?;
    let lines: Vec<serde_json::Value> =
        repaired.stdout().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    ensure!(lines.len() == 2, "{ended:?} {}", repaired.last_lines());
    ensure!(lines[0]["job"] == "hours" && lines[0]["intervals"] == 0, "{}", lines[0]);
    ensure!(lines[1]["job"] == "days" && lines[1]["intervals"] == 1 && lines[1]["stale"] == json!([]), "{}", lines[1]);
    // A scheduled run repairs by itself where the job says so.
    let scheduled = JOBS.replace("  interval: day\n", "  interval: day\n  schedule: 0 3 * * *\n  rerunStale: true\n");
    world.write("jobs.yaml", &scheduled)?;
    world.run("hours", &["--target-hour", "2026-02-01 05:00:00"])?;
    let days = world.run("days", &["--scheduled", "2026-02-03 03:00:00"])?;
    ensure!(days["stale"] == json!([]), "{days}");
    let again = world.run("days", &["--scheduled", "2026-02-03 03:00:00"])?;
    ensure!(again["intervals"] == 0, "{again}");
    Ok(())
}

#[test]
fn a_job_waits_for_those_that_it_depends_on_and_a_cycle_is_refused_with_its_way() -> anyhow::Result<()> {
    let world = World::new()?;
    let waits = JOBS.replace("  wait: 1s\n", "  wait: 1s\n  dependsOn: [{name: hours}]\n");
    // It reads nothing of the job that it waits for.
    let waits = waits.replace(
        "path: hours, timeColumn: hour}",
        "path: other, timeColumn: hour, completeBy: clock, allowEmpty: true}",
    );
    world.write("jobs.yaml", &waits)?;
    let day = ["run", "days", "-f", "jobs.yaml", "--http", "off", "--target-date", "2026-02-01"];
    let lines = refused(world.command(&day), 1)?;
    ensure!(lines.contains("the job hours, which this one depends on, has no log"), "{lines}");
    world.run("hours", &["--target-hour", "2026-02-01 00:00:00"])?;
    let lines = refused(world.command(&day), 1)?;
    ensure!(lines.contains("the job hours, which this one depends on, has not finished"), "{lines}");
    world.run("hours", &["--from", "2026-02-01", "--to", "2026-02-02"])?;
    finish(world.command(&day))?;
    let cycle = waits.replace("  interval: hour\n", "  interval: hour\n  dependsOn: [{name: days}]\n");
    world.write("jobs.yaml", &cycle)?;
    let lines = refused(world.command(&["validate", "-f", "jobs.yaml"]), 2)?;
    ensure!(lines.contains("days -> hours -> days") && lines.contains("dependsOn"), "{lines}");
    Ok(())
}
