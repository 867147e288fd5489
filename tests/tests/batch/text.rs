//! Batch runs that write files of text, sorted files, or several in one directory.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use data_platform_runner::faults::Step;
use data_platform_tests::{Ended, python_reader};
use serde_json::{Value, json};

use crate::batch::numbers::Days;
use crate::events::TIMEOUT;

const KILLED: Ended = Ended::Signal(9);

/// A job that copies numbers of two days to a sink.
fn days(sink: Value) -> anyhow::Result<Days> {
    let query = "SELECT n, n AS again, CAST(at AS DATE) AS date FROM numbers";
    Days::new(json!({"query": query, "sink": sink}), &[(1, 3), (1, 1), (1, 2), (2, 5), (2, 4)])
}

/// Names of the files of a folder, in their order.
fn names(folder: &Path) -> anyhow::Result<Vec<String>> {
    let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<anyhow::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

#[test]
fn a_batch_run_writes_files_of_text_and_replaces_them() -> anyhow::Result<()> {
    for (format, compression, ending) in [
        ("csv", "none", "csv"),
        ("csv", "zstd", "csv.zst"),
        ("ndjson", "none", "ndjson"),
        ("ndjson", "gzip", "ndjson.gz"),
    ] {
        let days =
            self::days(json!({"format": format, "compression": compression, "path": "out", "partitionBy": ["date"]}))?;
        for step in [Step::StageFinish, Step::Decide, Step::Publish] {
            let fault = format!("{}:after:1", step.name());
            let command = days.run_with("data-platform-faults")?.env("FAULT_KILL", &fault);
            let (ended, runner) = command.run(TIMEOUT)?;
            ensure!(ended == KILLED, "{fault}: {ended:?} {}", runner.last_lines());
        }
        days.run()?;
        let out = days.folders.outputs().join("out");
        ensure!(names(&out.join("date=2026-01-01"))? == [format!("days-20260101.{ending}")], "{format}");
        ensure!(
            days.query("SELECT n FROM out WHERE again = n ORDER BY n")? == [1, 2, 3, 4, 5],
            "{format} {compression}"
        );
        days.verify()?;
        // A day loses its rows: its file stays, with none.
        days.input(&[(1, 9)])?;
        days.run()?;
        ensure!(days.query("SELECT n FROM out")? == [9], "{format} {compression}: replaced");
        ensure!(names(&out.join("date=2026-01-02"))? == [format!("days-20260102.{ending}")], "{format}");
        days.verify()?;
    }
    Ok(())
}

#[test]
fn the_files_of_a_batch_run_are_sorted_by_the_columns_of_the_sink() -> anyhow::Result<()> {
    for format in ["parquet", "delta"] {
        let days = self::days(json!({"format": format, "path": "out", "partitionBy": ["date"], "sortBy": ["n"]}))?;
        days.run()?;
        let folder = days.folders.outputs().join("out/date=2026-01-01");
        let file = folder.join(names(&folder)?.pop().unwrap_or_default());
        ensure!(days.query(&format!("SELECT n FROM '{}'", file.display()))? == [1, 2, 3], "{format}");
    }
    let days = self::days(json!({"format": "parquet", "path": "out", "sortBy": ["nothing"]}))?;
    let (ended, runner) = days.run_with("data-platform")?.run(TIMEOUT)?;
    ensure!(ended == Ended::Code(2) && runner.last_lines().contains("to sort by"), "{ended:?} {}", runner.last_lines());
    Ok(())
}

#[test]
fn a_batch_run_writes_as_many_files_in_a_directory_as_it_may() -> anyhow::Result<()> {
    const ROWS: i64 = 60_000;
    let sum = (ROWS - 1) * ROWS / 2;
    for (format, ending) in [("parquet", "parquet"), ("csv", "csv"), ("delta", "parquet")] {
        let sink =
            json!({"format": format, "path": "out", "partitionBy": ["date"], "targetFileSize": "64Ki", "maxFiles": 3});
        let days = self::days(sink)?;
        let many: Vec<(u8, i64)> = (0..ROWS).map(|n| (1, n)).chain([(2, 1)]).collect();
        days.input(&many)?;
        let log = days.folders.root().join("faults.log");
        // Between the second and the third file of a day, and in the middle of one.
        for (step, at) in [(Step::StageFinish, "after:2"), (Step::Publish, "after:2"), (Step::Publish, "before:1")] {
            let fault = format!("{}:{at}", step.name());
            let command = days.run_with("data-platform-faults")?.env("FAULT_KILL", &fault).env("FAULT_LOG", &log);
            let (ended, runner) = command.run(TIMEOUT)?;
            ensure!(ended == KILLED, "{format} {fault}: {ended:?} {}", runner.last_lines());
        }
        ensure!(fs::read_to_string(&log)?.lines().count() == 3, "every kill leaves a trace");
        days.run()?;
        let all = || days.query("SELECT count(*) AS n FROM out UNION ALL SELECT sum(n) AS n FROM out ORDER BY n");
        ensure!(all()? == [ROWS + 1, sum + 1], "{format}: {:?}", all()?);
        let folder = days.folders.outputs().join("out/date=2026-01-01");
        if format == "delta" {
            // What attempts before wrote lies beside them until somebody vacuums.
            let table = days.folders.outputs().join("out");
            let files = python_reader("delta.py", [OsStr::new("files"), table.as_os_str()])?.expect_success()?;
            ensure!(files["files"] == 4, "{files}");
            continue;
        }
        let files = names(&folder)?;
        ensure!(files == ["-1", "-2", ""].map(|of| format!("days-20260101{of}.{ending}")), "{format}: {files:?}");
        for file in &files {
            let rows = days.query(&format!("SELECT count(*) AS n FROM '{}'", folder.join(file).display()))?;
            ensure!(rows.first() > Some(&1_000), "{format}: {file} has {rows:?} rows");
        }
        // Fewer rows: the files that they do not need stay, with none.
        days.input(&[(1, 7), (2, 1)])?;
        days.run()?;
        ensure!(days.query("SELECT n FROM out ORDER BY n")? == [1, 7], "{format}: fewer");
        ensure!(names(&folder)?.len() == 3, "{format}: fewer");
        days.verify().context("fewer")?;
    }
    Ok(())
}
