//! Runs whose input has nothing for them: what was there before is gone all the same.

use std::fs;

use anyhow::ensure;
use serde_json::{Value, json};

use crate::batch::numbers::Days;

/// What the job `days` writes in this format, as intervals or as a whole table.
fn writes(format: &str, replace: &str) -> Value {
    let sink = json!({"format": format, "path": "out", "partitionBy": ["date"]});
    let query = "SELECT n, upper('a') AS letter, CAST(at AS DATE) AS date FROM numbers";
    json!({"replace": replace, "query": query, "sink": sink})
}

#[test]
fn what_was_there_is_replaced_also_by_a_run_whose_input_is_gone() -> anyhow::Result<()> {
    for (format, replace) in
        [("parquet", "interval"), ("parquet", "table"), ("delta", "interval"), ("delta", "table"), ("csv", "interval")]
    {
        let days = Days::new(writes(format, replace), &[(1, 3), (1, 1), (2, 5)])?;
        days.run()?;
        ensure!(days.query("SELECT n FROM out ORDER BY n")? == [1, 3, 5], "{format} {replace}");
        fs::remove_dir_all(days.folders.outputs().join("numbers"))?;
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
    let days = Days::new(writes("parquet", "interval"), &[])?;
    fs::remove_dir_all(days.folders.outputs().join("numbers"))?;
    let summary = days.run()?;
    ensure!(summary["rows"] == 0 && summary["intervals"] == 2, "{summary}");
    days.verify()?;
    days.input(&[(1, 4), (2, 6)])?;
    days.run()?;
    ensure!(days.query("SELECT n FROM out ORDER BY n")? == [4, 6]);
    days.verify()
}
