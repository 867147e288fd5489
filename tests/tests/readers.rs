//! Every reader of docs/readers.md over a table that a job wrote: all types, directories by date and by text.

use std::ffi::OsStr;
use std::fs;

use data_platform_tests::{Record, environment, needs_broker, python_reader};
use serde_json::{Value, json};

use crate::sources::numbers::Numbers;

/// Texts of directories that somebody takes for something else: a path, an escape, a number, nothing.
const SHOPS: [Option<&str>; 12] = [
    Some("north"),
    Some("a/b"),
    Some("50%"),
    Some("x=y"),
    Some("007"),
    Some("+49"),
    Some("0x10"),
    Some("O'Neil"),
    Some("ä ö"),
    Some("#1?"),
    Some("true"),
    None,
];

fn order(n: usize) -> Value {
    let shop = SHOPS[n % SHOPS.len()];
    // Hours on both sides of a midnight.
    let at = format!("2026-02-{}T{:02}:59:59.{:06}Z", 16 + n / 12, (12 + n) % 24, 123_456 + n);
    if n % 7 == 5 {
        return json!({"n": n, "at": at, "shop": shop});
    }
    let tags = if n.is_multiple_of(3) { json!([]) } else { json!(["a", null, format!("t{n}")]) };
    json!({
        "n": n, "small": -3, "price": 0.5, "amount": format!("{}99.05", n + 1), "paid": n.is_multiple_of(2),
        "name": format!("n{n} ü"), "at": at, "day": "1969-12-31", "tags": tags, "place": {"city": "c", "zip": n},
        "attributes": {"k": n.to_string()}, "raw": "AP8=", "shop": shop,
    })
}

#[test]
fn every_reader_sees_the_rows_and_the_types_that_the_page_promises() -> anyhow::Result<()> {
    let mut job = Numbers::new(needs_broker!(), "readers", 1)?;
    let columns: Vec<_> = [
        ("n", "bigint"),
        ("small", "int"),
        ("price", "double"),
        ("amount", "decimal(12,2)"),
        ("paid", "boolean"),
        ("name", "string"),
        ("at", "timestamp"),
        ("day", "date"),
        ("tags", "array<string>"),
        ("place", "struct<city:string,zip:int>"),
        ("attributes", "map<string,string>"),
        ("raw", "binary"),
        ("shop", "string"),
    ]
    .into_iter()
    .map(|(name, kind)| json!({"name": name, "type": kind}))
    .collect();
    job.set("/sources/0/columns", json!(columns));
    job.set("/query", json!("SELECT *, CAST(at AS DATE) AS date FROM numbers"));
    job.set("/sink", json!({"format": "parquet", "path": "orders", "partitionBy": ["date", "shop"]}));
    let values: Vec<_> = (0..24).map(|n| order(n).to_string()).collect();
    fs::write(job.folders.root().join("records.jsonl"), values.join("\n"))?;
    // Two runs: some directories have several files.
    let mut rows = 0;
    for half in values.chunks(16) {
        job.broker.produce(&job.topic, half.iter().map(|value| Record::new(value.as_str()).partition(0)))?;
        let summary = job.drain()?;
        rows += half.len();
        anyhow::ensure!(summary["rows"] == rows, "{summary}");
    }
    let mut arguments = vec![job.folders.root().as_os_str()];
    arguments.extend(["DuckDB", "pyarrow", "pandas", "polars", "DataFusion"].map(OsStr::new));
    if environment::is_soak() {
        arguments.extend(["chdb", "Spark"].map(OsStr::new));
    }
    let report = python_reader("every_reader.py", arguments)?.expect_success()?;
    println!("{report}");
    Ok(())
}
