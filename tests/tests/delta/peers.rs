//! Delta tables between programs: what a job writes, as each of the others reads it; and what others write, as we read it, or say
//! why not.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use data_platform_tests::readers::{duckdb_reader, spark_reader};
use data_platform_tests::{Ended, JobFolders, Runner, environment, needs_broker, python_reader, skip};
use serde_json::{Value, json};

use super::{delta, folder, numbers};
use crate::events::TIMEOUT;
use crate::sources::numbers::Numbers;

/// The columns of a table with every kind of type, and nulls and odd values in each.
fn of_every_type(job: &mut Numbers) -> anyhow::Result<()> {
    let column = |name: &str, kind: &str| json!({"name": name, "type": kind});
    job.set(
        "/sources/0/columns",
        json!([
            column("n", "bigint"),
            column("shop", "string"),
            column("amount", "decimal(12,2)"),
            column("at", "timestamp"),
            column("day", "date"),
            column("ratio", "double"),
            column("ok", "boolean"),
            column("small", "int"),
            column("tags", "array<string>"),
            column("place", "struct<city:string,level:int>"),
        ]),
    );
    job.set("/query", json!("SELECT * FROM numbers"));
    job.set("/sink", json!({"format": "delta", "path": "numbers", "partitionBy": ["shop", "day"]}));
    let records = (0..300_u64).map(|n| {
        let mut record = json!({
            "n": n, "shop": format!("s/{}", n % 3), "amount": format!("{}.{:02}", n * 7, n % 100), "at": format!("2026-01-01T00:{:02}:00.000250Z", n % 60),
            "day": format!("2026-01-{:02}", 1 + n % 2), "ratio": 1.0 / (1.0 + n as f64), "ok": n % 2 == 0, "small": -(n as i64),
            "tags": ["ä", null, ""], "place": {"city": "Köln", "level": n},
        });
        let keys: Vec<_> = record.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect();
        // Each column is null once in a while, partition columns too.
        if n > 0 && n % 10 == 0 {
            record[&keys[(n / 10) as usize % keys.len()]] = Value::Null;
        }
        data_platform_tests::Record::new(record.to_string())
    });
    job.broker.produce(&job.topic, records)?;
    job.drain().map(drop)
}

/// Rows in an order of their own.
fn in_order(found: &Value) -> anyhow::Result<BTreeSet<String>> {
    let rows = found["rows"].as_array().context("rows")?;
    // Programs have an order of columns of their own.
    let text = |row: &Value| {
        let cells: BTreeMap<_, _> = row.as_object().into_iter().flatten().collect();
        format!("{cells:?}")
    };
    let texts: BTreeSet<_> = rows.iter().map(text).collect();
    ensure!(texts.len() == rows.len(), "two rows are equal");
    Ok(texts)
}

fn same(name: &str, found: &Value, expected: &BTreeSet<String>) -> anyhow::Result<()> {
    let found = in_order(found)?;
    let (more, fewer) = (found.difference(expected).next(), expected.difference(&found).next());
    ensure!(found == *expected, "{name} has {} rows, for one {more:?}, and not {fewer:?}", found.len());
    Ok(())
}

#[test]
fn duckdb_polars_and_deltalake_read_the_same_rows() -> anyhow::Result<()> {
    let broker = needs_broker!();
    if environment::duckdb().is_none() {
        skip!("no DuckDB that reads Delta tables");
    }
    let mut job = numbers(broker, "delta-peers")?;
    of_every_type(&mut job)?;
    // Polars and deltalake are compared there.
    let expected = in_order(&delta(&job, "read", &[])?)?;
    ensure!(expected.len() == 300, "{} rows", expected.len());
    same("DuckDB", &duckdb_reader(&[folder(&job).as_os_str()])?.expect_success()?, &expected)
}

#[test]
fn spark_reads_the_same_rows() -> anyhow::Result<()> {
    let broker = needs_broker!();
    if environment::spark().is_none() {
        skip!("PySpark takes 530 MB; make soak has it");
    }
    let mut job = numbers(broker, "delta-spark")?;
    of_every_type(&mut job)?;
    let expected = in_order(&delta(&job, "read", &[])?)?;
    same("Spark", &spark_reader(&[OsStr::new("read"), folder(&job).as_os_str()])?.expect_success()?, &expected)
}

/// What each of the tables that Spark wrote says when it is read; empty: it is read, with so many rows.
const BY_SPARK: [(&str, &str, u64); 5] = [
    ("plain", "", 10),
    ("purged", "", 9),
    ("vectors", "has rows that are removed by deletion vectors", 0),
    ("v2", "needs v2Checkpoint, which this program does not know", 0),
    ("mapped", "needs columnMapping, which this program does not know", 0),
];

/// Reads a table with `query`: its rows, or what was said.
fn ask(folders: &JobFolders, table: &Path) -> anyhow::Result<Result<Value, String>> {
    let sql = format!("SELECT count(*) AS rows, sum(n) AS n FROM '{}'", table.display());
    let command = Runner::command(["query", &sql, "--format", "json"]).folders(folders);
    let (ended, runner) = command.run(TIMEOUT)?;
    match ended {
        Ended::Code(0) => Ok(Ok(serde_json::from_str(&runner.stdout())?)),
        _ => Ok(Err(runner.stderr())),
    }
}

fn tables_of_spark_are_read_or_refused_by_name(place: &Path) -> anyhow::Result<()> {
    let folders = JobFolders::new()?;
    for (name, says, rows) in BY_SPARK {
        match ask(&folders, &place.join(name))? {
            Ok(found) => {
                let n = 45 - if rows == 9 { 3 } else { 0 };
                ensure!(says.is_empty() && found == json!({"rows": rows, "n": n}), "{name}: {found}");
            }
            Err(said) => ensure!(!says.is_empty() && said.contains(says), "{name}: {said}"),
        }
    }
    Ok(())
}

#[test]
fn tables_that_spark_wrote_are_read_or_refused_by_name() -> anyhow::Result<()> {
    let _broker = needs_broker!();
    tables_of_spark_are_read_or_refused_by_name(&environment::tests_folder().join("tables/spark"))
}

#[test]
fn tables_that_spark_writes_now_are_read_or_refused_by_name() -> anyhow::Result<()> {
    let _broker = needs_broker!();
    if environment::spark().is_none() {
        skip!("PySpark takes 530 MB; make soak has it");
    }
    let folders = JobFolders::new()?;
    let place: PathBuf = folders.root().join("spark");
    spark_reader(&[OsStr::new("write"), place.as_os_str()])?.expect_success()?;
    tables_of_spark_are_read_or_refused_by_name(&place)
}

#[test]
fn a_reference_takes_up_what_another_program_commits_and_keeps_its_rows_while_the_table_cannot_be_read()
-> anyhow::Result<()> {
    let mut job = numbers(needs_broker!(), "delta-reference")?;
    let users = job.folders.outputs().join("users");
    let write = |what: &str, more: &str| {
        let arguments = [OsStr::new(what), users.as_os_str(), OsStr::new(more)];
        python_reader("delta.py", arguments)?.expect_success()
    };
    write("append", r#"[{"u": 0, "country": "DE"}]"#)?;
    job.set("/references", json!([{"name": "users", "format": "delta", "path": "users", "reloadInterval": "1s"}]));
    job.set("/query", json!("SELECT n, u.country FROM numbers AS s LEFT JOIN users AS u ON s.n % 2 = u.u"));
    job.set("/sink", json!({"path": "numbers"}));
    let mut runner = job.job()?.start()?;
    let mut produced = 0;
    let mut until = |runner: &mut Runner, country: &str| {
        let what = format!("rows of {country}");
        runner.wait_for(&what, TIMEOUT, |_| {
            job.produce(0, produced..produced + 2).ok()?;
            produced += 2;
            let sql = format!("SELECT count(*) AS rows FROM numbers WHERE country = '{country}'");
            (job.query(&sql).ok()?[0]["rows"].as_u64() > Some(0)).then_some(())
        })
    };
    until(&mut runner, "DE")?;
    write("append", r#"[{"u": 1, "country": "FR"}]"#)?;
    until(&mut runner, "FR")?;
    // A version that cannot be read: the last one stays, and the status says why.
    let broken = users.join("_delta_log/00000000000000000002.json");
    let newer =
        r#"{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["x"],"writerFeatures":["x"]}}"#;
    std::fs::write(&broken, newer)?;
    let said = runner.wait_for("the trouble in the status", TIMEOUT, |runner| {
        let status = crate::sources::numbers::status(runner)?;
        status["references"]["users"]["trouble"]["message"].as_str().map(str::to_owned)
    })?;
    ensure!(said.contains("needs x, which this program does not know"), "{said}");
    std::fs::remove_file(&broken)?;
    write("append", r#"[{"u": 0, "country": "IT"}]"#)?;
    until(&mut runner, "IT")?;
    crate::sources::numbers::stop(runner)
}
