//! Runs that replace an interval in several tables at once, of several formats, killed between any two of them.

use std::fs;

use anyhow::ensure;
use data_platform_runner::faults::Step;
use data_platform_tests::process::RunnerCommand;
use data_platform_tests::{Ended, JobFolders, Runner, environment};
use serde_json::{Value, json};

use crate::events::{TIMEOUT, finish};

const KILLED: Ended = Ended::Signal(9);

/// Numbers of days, and what is computed of them: each number, and their sum by day.
struct Job {
    folders: JobFolders,
}

impl Job {
    fn new(numbers: &[(u8, i64)]) -> anyhow::Result<Self> {
        let job = Self { folders: JobFolders::new()? };
        job.input(numbers)?;
        Ok(job)
    }

    fn input(&self, numbers: &[(u8, i64)]) -> anyhow::Result<()> {
        let lines: String = numbers.iter().map(|(day, n)| format!("{n},2026-01-0{day}T12:00:00Z\n")).collect();
        let folder = self.folders.outputs().join("numbers");
        fs::create_dir_all(&folder)?;
        Ok(fs::write(folder.join("a.csv"), format!("n,at\n{lines}"))?)
    }

    fn spec() -> Value {
        let columns = json!([{"name": "n", "type": "bigint"}, {"name": "at", "type": "timestamp"}]);
        let input = json!({"name": "numbers", "path": "numbers", "format": "csv", "columns": columns, "timeColumn": "at",
            "completeBy": "clock"});
        let output = |name: &str, query: &str, format: &str| json!({"name": name, "query": query, "sink": {"format": format, "path": name, "partitionBy": ["date"]}});
        json!({"interval": "day", "inputs": [input], "outputs": [
            output("each", "SELECT n, CAST(at AS DATE) AS date FROM numbers", "parquet"),
            output("sums", "SELECT sum(n) AS n, CAST(at AS DATE) AS date FROM numbers GROUP BY date", "delta"),
            output("text", "SELECT max(n) AS n, count(*) AS many, CAST(at AS DATE) AS date FROM numbers GROUP BY date", "csv"),
        ]})
    }

    fn run_with(&self, program: &str, spec: &Value) -> anyhow::Result<RunnerCommand> {
        let job = json!({"apiVersion": "dataplatform.io/v1alpha1", "kind": "BatchJob", "metadata": {"name": "days"}, "spec": spec});
        let file = self.folders.root().join("days.yaml");
        fs::write(&file, job.to_string())?;
        let command =
            Runner::program(&environment::program(program), ["run", "--http", "127.0.0.1:0", "-f"]).arg(&file);
        let days = ["--from", "2026-01-01 00:00:00", "--to", "2026-01-03 00:00:00"];
        Ok(days.iter().fold(command.folders(&self.folders), |command, word| command.arg(*word)))
    }

    fn run(&self) -> anyhow::Result<Value> {
        finish(self.run_with("data-platform", &Self::spec())?)
    }

    fn ask(&self, words: &[&str]) -> anyhow::Result<String> {
        let (ended, runner) = Runner::command(words).folders(&self.folders).run(TIMEOUT)?;
        ensure!(ended == Ended::Code(0), "{words:?} ended with {ended:?}: {}", runner.last_lines());
        Ok(runner.stdout())
    }

    fn numbers(&self, table: &str) -> anyhow::Result<Vec<i64>> {
        let rows = self.ask(&["query", &format!("SELECT n FROM {table} ORDER BY n"), "--format", "json"])?;
        Ok(rows.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()?["n"].as_i64()).collect())
    }

    /// Each table has what it is to have of these numbers.
    fn check(&self, numbers: &[(u8, i64)]) -> anyhow::Result<()> {
        let of = |day| numbers.iter().filter(move |(of, _)| *of == day).map(|(_, n)| *n);
        let sorted = |mut numbers: Vec<i64>| {
            numbers.sort_unstable();
            numbers
        };
        let days: Vec<_> = [1, 2].into_iter().filter(|day| of(*day).next().is_some()).collect();
        let each = self.numbers("each")?;
        ensure!(each == sorted(numbers.iter().map(|(_, n)| *n).collect()), "{each:?}");
        let sums = self.numbers("sums")?;
        ensure!(sums == sorted(days.iter().map(|day| of(*day).sum()).collect()), "{sums:?}");
        let text = self.numbers("text")?;
        ensure!(text == sorted(days.iter().filter_map(|day| of(*day).max()).collect()), "{text:?}");
        self.ask(&["checkpoint", "verify", "days"]).map(drop)
    }
}

#[test]
fn a_run_that_is_killed_between_its_outputs_is_finished_by_the_next_one() -> anyhow::Result<()> {
    let mut numbers = vec![(1, 3), (1, 1), (2, 5)];
    let job = Job::new(&numbers)?;
    let log = job.folders.root().join("faults.log");
    let mut killed = 0;
    // Two days of three tables: within a table, between two, and between two days.
    for step in [Step::Claim, Step::StageFinish, Step::Decide, Step::Publish, Step::Progress] {
        for at in ["before:1", "after:1", "before:2", "after:3", "before:4"] {
            numbers.push((1 + u8::try_from(killed % 2)?, 10 + killed));
            job.input(&numbers)?;
            let fault = format!("{}:{at}", step.name());
            let command = job.run_with("data-platform-faults", &Job::spec())?;
            let (ended, runner) = command.env("FAULT_KILL", &fault).env("FAULT_LOG", &log).run(TIMEOUT)?;
            ensure!(matches!(ended, KILLED | Ended::Code(0)), "{fault}: {ended:?} {}", runner.last_lines());
            killed += i64::from(ended == KILLED);
        }
        job.run()?;
        job.check(&numbers)?;
    }
    ensure!(killed >= 15, "only {killed} kills");
    ensure!(i64::try_from(fs::read_to_string(&log)?.lines().count())? == killed, "every kill leaves a trace");
    let shown = job.ask(&["checkpoint", "show", "days"])?;
    ensure!(shown.contains("yes") && !shown.contains("MISSING"), "{shown}");
    Ok(())
}

#[test]
fn outputs_come_and_go_and_each_has_what_was_computed_while_it_was_there() -> anyhow::Result<()> {
    let numbers = [(1, 3), (1, 1), (2, 5)];
    let job = Job::new(&numbers)?;
    let mut fewer = Job::spec();
    fewer["outputs"].as_array_mut().into_iter().for_each(|outputs| outputs.truncate(1));
    finish(job.run_with("data-platform", &fewer)?)?;
    ensure!(job.numbers("each")? == [1, 3, 5]);
    let said = job.run()?;
    ensure!(said["rows"] == 7 && said["files"] == 6, "{said}");
    job.check(&numbers)?;
    // Decided for three tables and published in none; then there is one.
    let command = job.run_with("data-platform-faults", &Job::spec())?.env("FAULT_KILL", "publish:before:1");
    let (ended, runner) = command.run(TIMEOUT)?;
    ensure!(ended == KILLED, "{ended:?} {}", runner.last_lines());
    finish(job.run_with("data-platform", &fewer)?)?;
    job.check(&numbers)
}

#[test]
fn what_is_wrong_with_one_of_several_outputs_is_told_with_its_place() -> anyhow::Result<()> {
    let job = Job::new(&[(1, 3)])?;
    for (place, value, said) in [
        ("/outputs/1/query", json!("SELECT m FROM numbers"), "output sums: there is no column m"),
        ("/outputs/1/name", json!("each"), "the same name"),
        ("/outputs/1/sink/path", json!("each"), "at one place"),
        ("/outputs/1/sink/path", json!("numbers"), "at one place"),
        ("/outputs/1/sink", json!({"format": "stdout"}), "only files of a table"),
    ] {
        let mut spec = Job::spec();
        *spec.pointer_mut(place).expect("it is there") = value;
        let (ended, runner) = job.run_with("data-platform", &spec)?.run(TIMEOUT)?;
        let told = runner.stderr();
        ensure!(ended == Ended::Code(2) && told.contains(said), "{place}: {ended:?} {told}");
        ensure!(told.contains("outputs") || place.ends_with("query"), "{place}: {told}");
    }
    let mut both = Job::spec();
    both["query"] = json!("SELECT n FROM numbers");
    let (ended, runner) = job.run_with("data-platform", &both)?.run(TIMEOUT)?;
    ensure!(ended == Ended::Code(2) && runner.stderr().contains("exclude each other"), "{ended:?} {}", runner.stderr());
    // Of the first output was staged what the second one made void.
    let seen = fs::read_dir(job.folders.outputs().join("each")).into_iter().flatten().count();
    ensure!(seen == 0, "readers see {seen} entries");
    Ok(())
}
