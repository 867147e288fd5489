//! A batch job over days of numbers in a CSV file, whatever it writes: it needs no broker.

use std::fs;

use anyhow::ensure;
use data_platform_tests::process::RunnerCommand;
use data_platform_tests::{Ended, JobFolders, Runner, environment};
use serde_json::{Value, json};

use crate::events::{TIMEOUT, finish};

/// The job `days` over the table `numbers`.
pub(super) struct Days {
    pub(super) folders: JobFolders,
    /// What it writes: `query` and `sink`, or `outputs`.
    writes: Value,
}

impl Days {
    /// Days of January 2026 with numbers, and what the job writes of them.
    pub(super) fn new(writes: Value, numbers: &[(u8, i64)]) -> anyhow::Result<Self> {
        let days = Self { folders: JobFolders::new()?, writes };
        days.input(numbers)?;
        Ok(days)
    }

    /// Replaces the numbers.
    pub(super) fn input(&self, numbers: &[(u8, i64)]) -> anyhow::Result<()> {
        let lines: String = numbers.iter().map(|(day, n)| format!("{n},2026-01-0{day}T12:00:00Z\n")).collect();
        self.input_lines(&lines)
    }

    /// Replaces the numbers by these, each with its time.
    pub(super) fn input_lines(&self, lines: &str) -> anyhow::Result<()> {
        let folder = self.folders.outputs().join("numbers");
        fs::create_dir_all(&folder)?;
        Ok(fs::write(folder.join("a.csv"), format!("n,at\n{lines}"))?)
    }

    pub(super) fn run_with(&self, program: &str) -> anyhow::Result<RunnerCommand> {
        self.run_that_writes(&self.writes, program)
    }

    /// The same job when it writes something else.
    pub(super) fn run_that_writes(&self, writes: &Value, program: &str) -> anyhow::Result<RunnerCommand> {
        let days = ["--from", "2026-01-01 00:00:00", "--to", "2026-01-03 00:00:00"];
        Ok(days.iter().fold(self.job_that_writes(writes, program)?, |command, word| command.arg(*word)))
    }

    /// The same without the times that it is to process.
    pub(super) fn job_that_writes(&self, writes: &Value, program: &str) -> anyhow::Result<RunnerCommand> {
        let columns = json!([{"name": "n", "type": "bigint"}, {"name": "at", "type": "timestamp"}]);
        let input = json!({"name": "numbers", "path": "numbers", "format": "csv", "columns": columns, "timeColumn": "at",
            "completeBy": "clock"});
        let mut spec = json!({"interval": "day", "inputs": [input]});
        for (field, value) in writes.as_object().into_iter().flatten() {
            spec[field] = value.clone();
        }
        let kind = json!({"apiVersion": "dataplatform.io/v1alpha1", "kind": "BatchJob", "metadata": {"name": "days"}, "spec": spec});
        let file = self.folders.root().join("days.yaml");
        fs::write(&file, kind.to_string())?;
        let command =
            Runner::program(&environment::program(program), ["run", "--http", "127.0.0.1:0", "-f"]).arg(&file);
        Ok(command.folders(&self.folders))
    }

    pub(super) fn run(&self) -> anyhow::Result<Value> {
        finish(self.run_with("data-platform")?)
    }

    /// The column `n` of a query over the outputs.
    pub(super) fn query(&self, sql: &str) -> anyhow::Result<Vec<i64>> {
        let command = Runner::command(["query", sql, "--format", "json"]).folders_on_disk(&self.folders);
        let (ended, runner) = command.run(TIMEOUT)?;
        ensure!(ended == Ended::Code(0), "it ended with {ended:?}: {}", runner.last_lines());
        let rows = runner.stdout();
        Ok(rows.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()?["n"].as_i64()).collect())
    }

    /// Another command over the same folders; gives what it printed.
    pub(super) fn ask(&self, words: &[&str]) -> anyhow::Result<String> {
        let (ended, runner) = Runner::command(words).folders(&self.folders).run(TIMEOUT)?;
        ensure!(ended == Ended::Code(0), "{words:?} ended with {ended:?}: {}", runner.last_lines());
        Ok(runner.stdout())
    }

    pub(super) fn verify(&self) -> anyhow::Result<()> {
        self.ask(&["checkpoint", "verify", "days"]).map(drop)
    }
}
