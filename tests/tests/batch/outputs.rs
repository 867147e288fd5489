//! Runs that replace an interval in several tables at once, of several formats, killed between any two of them.

use std::fs;

use anyhow::ensure;
use data_platform_runner::faults::Step;
use data_platform_tests::Ended;
use serde_json::{Value, json};

use crate::batch::numbers::Days;
use crate::events::{TIMEOUT, finish};

const KILLED: Ended = Ended::Signal(9);

/// What is computed of the numbers: each, and by day their sum and the greatest.
fn writes() -> Value {
    let output = |name: &str, query: &str, format: &str| json!({"name": name, "query": query, "sink": {"format": format, "path": name, "partitionBy": ["date"]}});
    json!({"outputs": [
        output("each", "SELECT n, CAST(at AS DATE) AS date FROM numbers", "parquet"),
        output("sums", "SELECT sum(n) AS n, CAST(at AS DATE) AS date FROM numbers GROUP BY date", "delta"),
        output("text", "SELECT max(n) AS n, count(*) AS many, CAST(at AS DATE) AS date FROM numbers GROUP BY date", "csv"),
    ]})
}

/// The numbers of a table.
fn numbers_of(job: &Days, table: &str) -> anyhow::Result<Vec<i64>> {
    job.query(&format!("SELECT n FROM {table} ORDER BY n"))
}

/// Each table has what it is to have of these numbers.
fn check(job: &Days, numbers: &[(u8, i64)]) -> anyhow::Result<()> {
    let of = |day| numbers.iter().filter(move |(of, _)| *of == day).map(|(_, n)| *n);
    let sorted = |mut numbers: Vec<i64>| {
        numbers.sort_unstable();
        numbers
    };
    let days: Vec<_> = [1, 2].into_iter().filter(|day| of(*day).next().is_some()).collect();
    let each = numbers_of(job, "each")?;
    ensure!(each == sorted(numbers.iter().map(|(_, n)| *n).collect()), "{each:?}");
    let sums = numbers_of(job, "sums")?;
    ensure!(sums == sorted(days.iter().map(|day| of(*day).sum()).collect()), "{sums:?}");
    let text = numbers_of(job, "text")?;
    ensure!(text == sorted(days.iter().filter_map(|day| of(*day).max()).collect()), "{text:?}");
    job.verify()
}

#[test]
fn a_run_that_is_killed_between_its_outputs_is_finished_by_the_next_one() -> anyhow::Result<()> {
    let mut numbers = vec![(1, 3), (1, 1), (2, 5)];
    let job = Days::new(writes(), &numbers)?;
    let log = job.folders.root().join("faults.log");
    let mut killed = 0;
    // Two days of three tables: within a table, between two, and between two days.
    for step in [Step::Claim, Step::StageFinish, Step::Decide, Step::Publish, Step::Progress] {
        for at in ["before:1", "after:1", "before:2", "after:3", "before:4"] {
            numbers.push((1 + u8::try_from(killed % 2)?, 10 + killed));
            job.input(&numbers)?;
            let fault = format!("{}:{at}", step.name());
            let command = job.run_with("data-platform-faults")?;
            let (ended, runner) = command.env("FAULT_KILL", &fault).env("FAULT_LOG", &log).run(TIMEOUT)?;
            ensure!(matches!(ended, KILLED | Ended::Code(0)), "{fault}: {ended:?} {}", runner.last_lines());
            killed += i64::from(ended == KILLED);
        }
        job.run()?;
        check(&job, &numbers)?;
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
    let job = Days::new(writes(), &numbers)?;
    let mut fewer = writes();
    fewer["outputs"].as_array_mut().into_iter().for_each(|outputs| outputs.truncate(1));
    finish(job.run_that_writes(&fewer, "data-platform")?)?;
    ensure!(numbers_of(&job, "each")? == [1, 3, 5]);
    let said = job.run()?;
    ensure!(said["rows"] == 7 && said["files"] == 6, "{said}");
    check(&job, &numbers)?;
    // Decided for three tables and published in none; then there is one.
    let command = job.run_with("data-platform-faults")?.env("FAULT_KILL", "publish:before:1");
    let (ended, runner) = command.run(TIMEOUT)?;
    ensure!(ended == KILLED, "{ended:?} {}", runner.last_lines());
    finish(job.run_that_writes(&fewer, "data-platform")?)?;
    check(&job, &numbers)
}

#[test]
fn what_is_wrong_with_one_of_several_outputs_is_told_with_its_place() -> anyhow::Result<()> {
    let job = Days::new(writes(), &[(1, 3)])?;
    for (place, value, said) in [
        ("/outputs/1/query", json!("SELECT m FROM numbers"), "output sums: there is no column m"),
        ("/outputs/1/name", json!("each"), "the same name"),
        ("/outputs/1/sink/path", json!("each"), "at one place"),
        ("/outputs/1/sink/path", json!("numbers"), "at one place"),
        ("/outputs/1/sink", json!({"format": "stdout"}), "only files of a table"),
    ] {
        let mut spec = writes();
        *spec.pointer_mut(place).expect("it is there") = value;
        let (ended, runner) = job.run_that_writes(&spec, "data-platform")?.run(TIMEOUT)?;
        let told = runner.stderr();
        ensure!(ended == Ended::Code(2) && told.contains(said), "{place}: {ended:?} {told}");
        ensure!(told.contains("outputs") || place.ends_with("query"), "{place}: {told}");
    }
    let mut both = writes();
    both["query"] = json!("SELECT n FROM numbers");
    let (ended, runner) = job.run_that_writes(&both, "data-platform")?.run(TIMEOUT)?;
    ensure!(ended == Ended::Code(2) && runner.stderr().contains("exclude each other"), "{ended:?} {}", runner.stderr());
    // Of the first output was staged what the second one made void.
    let seen = fs::read_dir(job.folders.outputs().join("each")).into_iter().flatten().count();
    ensure!(seen == 0, "readers see {seen} entries");
    Ok(())
}
