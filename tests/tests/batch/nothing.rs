//! Runs whose input has nothing for them: what was there before is gone all the same.

use std::fs;

use anyhow::ensure;
use data_platform_tests::{Ended, Runner};
use serde_json::{Value, json};

use crate::batch::numbers::Days;
use crate::batch::{files, refused};
use crate::events::TIMEOUT;

/// What the job `days` writes in this format, as intervals or as a whole table.
fn writes(format: &str, replace: &str) -> Value {
    let sink = json!({"format": format, "path": "out", "partitionBy": ["date"]});
    let query = "SELECT n, upper('a') AS letter, CAST(at AS DATE) AS date FROM numbers";
    json!({"replace": replace, "query": query, "sink": sink})
}

/// The same with an input that may not be there.
fn writes_of_what_may_be_there(format: &str, replace: &str) -> Value {
    let mut writes = writes(format, replace);
    let columns = json!([{"name": "n", "type": "bigint"}, {"name": "at", "type": "timestamp"}]);
    writes["inputs"] = json!([{"name": "numbers", "path": "numbers", "format": "csv", "columns": columns, "timeColumn": "at",
        "completeBy": "clock", "allowEmpty": true}]);
    writes
}

fn remove_input(days: &Days) -> anyhow::Result<()> {
    Ok(fs::remove_dir_all(days.folders.outputs().join("numbers"))?)
}

#[test]
fn what_was_there_is_replaced_also_by_a_run_whose_input_is_gone() -> anyhow::Result<()> {
    for (format, replace) in
        [("parquet", "interval"), ("parquet", "table"), ("delta", "interval"), ("delta", "table"), ("csv", "interval")]
    {
        let days = Days::new(writes_of_what_may_be_there(format, replace), &[(1, 3), (1, 1), (2, 5)])?;
        days.run()?;
        ensure!(days.query("SELECT n FROM out ORDER BY n")? == [1, 3, 5], "{format} {replace}");
        remove_input(&days)?;
        let summary = days.run()?;
        ensure!(summary["rows"] == 0, "{format} {replace}: {summary}");
        let left = days.query("SELECT n FROM out")?;
        ensure!(left.is_empty(), "{format} {replace}: {left:?} of the run before is still there");
        days.verify()?;
        // The columns are those of before, and the next run has rows again.
        ensure!(days.query("SELECT count(letter) AS n FROM out WHERE date > DATE '2020-01-01'")? == [0], "{format}");
        days.input(&[(1, 4), (2, 6)])?;
        days.run()?;
        ensure!(days.query("SELECT n FROM out ORDER BY n")? == [4, 6], "{format} {replace}");
        days.verify()?;
    }
    Ok(())
}

#[test]
fn a_first_run_over_nothing_leaves_nothing_and_keeps_nobody_from_the_rows_that_come() -> anyhow::Result<()> {
    let days = Days::new(writes_of_what_may_be_there("parquet", "interval"), &[])?;
    remove_input(&days)?;
    let summary = days.run()?;
    ensure!(summary["rows"] == 0 && summary["intervals"] == 2, "{summary}");
    days.verify()?;
    days.input(&[(1, 4), (2, 6)])?;
    days.run()?;
    ensure!(days.query("SELECT n FROM out ORDER BY n")? == [4, 6]);
    days.verify()
}

#[test]
fn an_input_that_is_not_there_is_waited_for_and_named_and_what_was_written_stays() -> anyhow::Result<()> {
    let mut writes = writes("parquet", "interval");
    writes["wait"] = json!("0s");
    let days = Days::new(writes.clone(), &[(1, 3), (2, 5)])?;
    days.run()?;
    remove_input(&days)?;
    let last = days.folders.root().join("last");
    let lines = refused(days.run_with("data-platform")?.env("TERMINATION_MESSAGE_PATH", &last), 1)?;
    let folder = days.folders.outputs().join("numbers").display().to_string();
    for word in ["the input numbers is not there", &folder, "allowEmpty: true", "inputs[].path"] {
        ensure!(lines.contains(word), "no {word}: {lines}");
    }
    let told: Value = serde_json::from_slice(&fs::read(&last)?)?;
    ensure!(told["reason"] == "InputIncomplete", "{told}");
    ensure!(days.query("SELECT n FROM out ORDER BY n")? == [3, 5]);
    // It comes while the run waits for it.
    writes["wait"] = json!("60s");
    let mut runner = days.run_that_writes(&writes, "data-platform")?.start()?;
    let is_waiting = |runner: &Runner| runner.stderr().contains("waiting: the input numbers is not").then_some(());
    runner.wait_for("the run to wait", TIMEOUT, is_waiting)?;
    let beside = days.folders.root().join("coming");
    fs::create_dir(&beside)?;
    fs::write(beside.join("a.csv"), "n,at\n7,2026-01-01T12:00:00Z\n")?;
    fs::rename(&beside, days.folders.outputs().join("numbers"))?;
    ensure!(runner.wait(TIMEOUT)? == Ended::Code(0), "{}", runner.last_lines());
    ensure!(days.query("SELECT n FROM out ORDER BY n")? == [7]);
    days.verify()
}

/// A job that waits for what another one tells need not wait for one that may never have been there; one that is there tells.
#[test]
fn an_input_that_may_not_be_there_is_not_waited_for_until_it_is() -> anyhow::Result<()> {
    let mut writes = writes_of_what_may_be_there("parquet", "interval");
    writes["inputs"][0]["completeBy"] = json!("progress");
    writes["wait"] = json!("0s");
    let days = Days::new(writes.clone(), &[(1, 3), (2, 5)])?;
    let lines = refused(days.run_with("data-platform")?, 1)?;
    ensure!(lines.contains("no job has written it"), "{lines}");
    remove_input(&days)?;
    ensure!(days.run()?["intervals"] == 2);
    // A second input that has rows: the first one has none to join them with.
    let other = days.folders.outputs().join("other");
    fs::create_dir(&other)?;
    fs::write(other.join("a.ndjson"), "{\"n\": 4, \"at\": \"2026-01-01T12:00:00Z\"}\n")?;
    let columns = writes["inputs"][0]["columns"].clone();
    let second = json!({"name": "other", "path": "other", "format": "ndjson", "columns": columns, "timeColumn": "at",
        "completeBy": "clock"});
    writes["inputs"].as_array_mut().into_iter().for_each(|inputs| inputs.push(second.clone()));
    writes["inputs"][0]["format"] = json!("ndjson");
    writes["query"] = json!(
        "SELECT o.n, upper('a') AS letter, CAST(o.at AS DATE) AS date FROM other o LEFT JOIN numbers m ON m.n = o.n \
         WHERE m.n IS NULL"
    );
    let (ended, runner) = days.run_that_writes(&writes, "data-platform")?.run(TIMEOUT)?;
    ensure!(ended == Ended::Code(0), "{}", runner.last_lines());
    ensure!(days.query("SELECT n FROM out ORDER BY n")? == [4]);
    days.verify()
}

/// In `local` a job whose input is not there is no failure of a pass over what is there.
#[test]
fn a_pass_over_what_is_there_leaves_a_job_without_its_input_out() -> anyhow::Result<()> {
    let mut writes = writes("parquet", "interval");
    // Few of them until now.
    writes["interval"] = json!("month");
    let days = Days::new(writes, &[])?;
    remove_input(&days)?;
    drop(days.run_with("data-platform")?);
    let pass = || {
        let command = Runner::command(["local", "days.yaml", "--test-mode", "--http", "off"]).folders(&days.folders);
        command.run(TIMEOUT)
    };
    let (ended, runner) = pass()?;
    ensure!(ended == Ended::Code(0), "{ended:?}: {}", runner.last_lines());
    ensure!(runner.stderr().contains("the input numbers is not there"), "{}", runner.stderr());
    ensure!(files(&days.folders.outputs().join("out"))?.is_empty());
    days.input(&[(1, 3)])?;
    let (ended, runner) = pass()?;
    ensure!(ended == Ended::Code(0), "{ended:?}: {}", runner.last_lines());
    ensure!(days.query("SELECT n FROM out")? == [3]);
    Ok(())
}
