//! docs/benchmarks.md and its plots are what `bench/results` and the text in `bench/report.md.in` give.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, ensure};
use data_platform_tests::cluster::repository;
use data_platform_tests::{environment, skip};
use serde_json::{Value, json};

fn report(arguments: &[&str], results: &Path, docs: &Path) -> anyhow::Result<Output> {
    let python = environment::python().context("no Python")?;
    let mut command = Command::new(python);
    command.arg(repository().join("bench/report")).args(arguments);
    command.env("BENCH_RESULTS", results).env("BENCH_DOCS", docs).output().context("run bench/report")
}

#[test]
fn the_page_of_benchmarks_is_what_the_results_give() -> anyhow::Result<()> {
    if environment::python().is_none() {
        skip!("no Python");
    }
    let (results, docs) = (repository().join("bench/results"), repository().join("docs"));
    let output = report(&["--check"], &results, &docs)?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// A result of a benchmark that the text does not know, with a ratio that is for its peer.
#[test]
fn a_new_result_is_on_the_page_and_so_is_who_is_better() -> anyhow::Result<()> {
    if environment::python().is_none() {
        skip!("no Python");
    }
    let folder = tempfile::tempdir()?;
    let (results, docs) = (folder.path().join("results"), folder.path().join("docs"));
    fs::create_dir_all(&results)?;
    let row = |system: &str, values: Value, median: f64| json!({"case": "new", "system": system, "figure": "CPU-seconds", "unit": "s", "values": values, "median": median});
    let rows = [row("data-platform", json!([4.0, 3.0, 6.0]), 4.0), row("Peer", json!([2.0, 2.0, 2.0]), 2.0)];
    let result =
        json!({"name": "new", "title": "Something new", "command": "bench/new", "date": "2026-01-01", "rows": rows});
    fs::write(results.join("new.json"), result.to_string())?;

    ensure!(report(&["--from-results"], &results, &docs)?.status.success());
    let page = fs::read_to_string(docs.join("benchmarks.md"))?;
    ensure!(page.contains("## Something new\n") && page.contains("```sh\nbench/new\n```"), "{page}");
    ensure!(page.contains("- Less processor time: new (Peer: 2.00)."), "{page}");
    ensure!(page.contains("- event-aggregation: there is no result."), "{page}");

    ensure!(report(&["--check"], &results, &docs)?.status.success());
    fs::write(results.join("new.json"), result.to_string().replace("3.0", "7.0"))?;
    let output = report(&["--check"], &results, &docs)?;
    ensure!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("benchmarks.md"));
    Ok(())
}
