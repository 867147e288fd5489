//! Batch jobs over what a streaming job wrote: every interval once, whatever happens to the runs.

pub(crate) mod backfill;
mod bucket;
mod days;
mod delta;
mod grids;
mod intervals;
mod kills;
mod nothing;
mod numbers;
mod outputs;
mod pods;
mod replaced;
mod stale;
mod text;

use std::path::{Path, PathBuf};

use anyhow::Context;
use data_platform_runner::generate::EventSettings;
use data_platform_tests::process::RunnerCommand;
use data_platform_tests::{Broker, Ended, Runner, environment, python_reader};

use crate::events::{Stream, TIMEOUT, finish};

/// Event time between two events: 6,000 of them are five hours.
const STEP_MS: f64 = 3_000.0;

/// One-minute rows of some hours from 2026-01-01 00:00 on, and the job hourly-aggregates over them.
struct Hours {
    stream: Stream,
}

impl Hours {
    /// Rows of at least `hours` hours, each complete.
    fn new(broker: Broker, name: &str, hours: u64) -> anyhow::Result<Self> {
        let settings = EventSettings { users: 50, ..EventSettings::default() };
        let mut stream = Stream::new(broker, name, 2, settings, STEP_MS)?;
        stream.produce(hours * 1_200 + 20)?;
        stream.drain()?;
        Ok(Self { stream })
    }

    fn job(&self) -> RunnerCommand {
        self.job_of("data-platform")
    }

    fn job_with_faults(&self) -> RunnerCommand {
        self.job_of("data-platform-faults")
    }

    fn job_of(&self, program: &str) -> RunnerCommand {
        Runner::program(&environment::program(program), ["run", "hourly-aggregates", "--http", "127.0.0.1:0"])
            .folders(&self.stream.folders)
    }

    /// Processes one hour; gives the summary.
    fn hour(&self, hour: u64) -> anyhow::Result<serde_json::Value> {
        finish(self.job().arg("--target-hour").arg(hour_text(hour)))
    }

    fn output(&self) -> PathBuf {
        self.stream.folders.outputs().join("hourly_aggregates")
    }

    /// The output holds exactly these hours, each once and right.
    fn check(&self, hours: impl IntoIterator<Item = u64>) -> anyhow::Result<()> {
        let (output, input) = (self.output(), self.stream.output());
        let mut arguments = vec![output.into_os_string(), input.into_os_string()];
        arguments.extend(hours.into_iter().map(|hour| hour_text(hour).into()));
        python_reader("hourly_aggregates.py", arguments)?.expect_success().map(drop)
    }

    /// Lowers or raises until when the input says that it is complete.
    fn complete_until(&self, hour: u64) -> anyhow::Result<()> {
        let path = data_platform_tests::folders::beside(&self.stream.output()).join("progress.json");
        let mut progress: serde_json::Value = serde_json::from_slice(&std::fs::read(&path)?)?;
        progress["complete_until"] = micros(hour).into();
        let partial = path.with_extension("partial");
        std::fs::write(&partial, progress.to_string())?;
        std::fs::rename(&partial, &path).context("replace the progress")
    }
}

/// `2026-01-01 03:00:00`.
fn hour_text(hour: u64) -> String {
    format!("2026-01-01 {hour:02}:00:00")
}

/// The beginning of an hour in microseconds.
fn micros(hour: u64) -> i64 {
    crate::events::START_MS * 1_000 + i64::try_from(hour).unwrap_or_default() * 3_600_000_000
}

/// Files of an output that readers see.
fn files(output: &Path) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders = vec![output.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "parquet") {
                found.push(path.strip_prefix(output)?.to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Runs a job that must fail; gives its last lines.
fn refused(command: RunnerCommand, code: i32) -> anyhow::Result<String> {
    let (ended, runner) = command.run(TIMEOUT)?;
    anyhow::ensure!(ended == Ended::Code(code), "{ended:?}: {}", runner.last_lines());
    Ok(runner.last_lines())
}
