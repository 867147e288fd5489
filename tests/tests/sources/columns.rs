//! Records as rows: every compression, what Kafka knows of a record as columns, and queries without a window.

use data_platform_tests::{Record, needs_broker, python_reader};
use serde_json::{Value, json};

use super::numbers::{NAME, Numbers, record};
use crate::events::START_MS;

#[test]
fn every_compression_is_read() -> anyhow::Result<()> {
    let job = Numbers::new(needs_broker!(), "codecs", 1)?;
    for (number, codec) in (0..).zip(["none", "gzip", "snappy", "lz4", "zstd"]) {
        let producer = job.producer(&[("compression.type", codec), ("linger.ms", "50")])?;
        for number in number * 100..(number + 1) * 100 {
            producer.send(&job.topic, &record(number))?;
        }
        producer.flush()?;
    }
    job.drain()?;
    assert_eq!(job.numbers()?, Vec::from_iter(0..500));
    Ok(())
}

/// Rows of the table as both plain readers see them, ordered by a column.
fn rows(job: &Numbers, order_by: &str) -> anyhow::Result<Value> {
    let folder = job.folders.outputs().join(NAME);
    let mut report = python_reader("rows.py", [folder.as_os_str(), order_by.as_ref()])?.expect_success()?;
    Ok(report["rows"].take())
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn what_kafka_knows_of_a_record_is_in_columns() -> anyhow::Result<()> {
    let mut job = Numbers::new(needs_broker!(), "columns", 2)?;
    let columns = json!([
        {"name": "n", "type": "bigint"},
        {"name": "name", "type": "string", "path": "user.name"},
        {"name": "key", "type": "string", "from": "key"},
        {"name": "headers", "type": "array<struct<key:string,value:binary>>", "from": "headers"},
        {"name": "topic", "type": "string", "from": "topic"},
        {"name": "partition", "type": "int", "from": "partition"},
        {"name": "offset", "type": "bigint", "from": "offset"},
        {"name": "at", "type": "timestamp", "from": "recordTime"},
        {"name": "raw", "type": "binary", "from": "value"},
    ]);
    job.set("/sources/0/columns", columns);
    let query = "SELECT n, n * 10 + 1 AS computed, upper(coalesce(name, 'nobody')) AS name, key, headers, topic, \
                 partition, \"offset\", at, date_trunc('day', at) AS day, raw \
                 FROM numbers WHERE n % 2 = 0 AND n < 5";
    job.set("/query", json!(query));
    job.set("/sink/partitionBy", json!(["partition"]));
    let first = r#"{"n": 0, "user": {"name": "Ada"}}"#;
    let records = [
        Record::new(first).partition(1).key("k").header("trace", Some(b"7")).header("trace", None),
        Record::new(r#"{"n": 1}"#).partition(1),
        Record::new(r#"{"n": 2, "user": null}"#).partition(0),
        Record::new(r#"{"n": 4}"#).partition(1).key(""),
        Record::new(r#"{"n": 6}"#).partition(1),
        Record::tombstone().partition(0).key("k"),
    ];
    let times = records.into_iter().zip(0..).map(|(record, n)| record.timestamp_ms(START_MS + n));
    job.broker.produce(&job.topic, times)?;
    let summary = job.drain()?;
    let counts = ["records", "tombstones", "filtered", "accepted", "rows"].map(|name| summary[name].as_u64());
    assert_eq!(counts, [Some(6), Some(1), Some(2), Some(3), Some(3)], "{summary}");
    let micros = |n: i64| (START_MS + n) * 1_000;
    let row = |n: i64, name: &str, key: Value, headers: Value, (partition, offset): (i32, i64), raw: &str| {
        json!({
            "n": n, "computed": n * 10 + 1, "name": name, "key": key, "headers": headers, "topic": job.topic,
            "partition": partition, "offset": offset, "raw": hex(raw), "day": micros(0),
        })
    };
    let headers = json!([{"key": "trace", "value": hex("7")}, {"key": "trace", "value": null}]);
    let mut expected = json!([
        row(0, "ADA", json!("k"), headers, (1, 0), first),
        row(2, "NOBODY", Value::Null, json!([]), (0, 0), r#"{"n": 2, "user": null}"#),
        row(4, "NOBODY", json!(""), json!([]), (1, 2), r#"{"n": 4}"#),
    ]);
    for (row, n) in [0, 2, 3].into_iter().enumerate() {
        expected[row]["at"] = json!(micros(n));
    }
    assert_eq!(rows(&job, "n")?, expected);
    Ok(())
}

#[test]
fn a_list_becomes_a_row_for_each_of_its_items() -> anyhow::Result<()> {
    let mut job = Numbers::new(needs_broker!(), "unnest", 1)?;
    let columns = json!([{"name": "n", "type": "bigint"}, {"name": "tags", "type": "array<string>"}]);
    job.set("/sources/0/columns", columns);
    job.set("/query", json!("SELECT n, tag FROM (SELECT n, unnest(tags) AS tag FROM numbers) t WHERE tag <> 'x'"));
    let values = [r#"{"n":1,"tags":["a","x","b"]}"#, r#"{"n":2,"tags":[]}"#, r#"{"n":3}"#, r#"{"n":4,"tags":["c"]}"#];
    job.broker.produce(&job.topic, values.map(|value| Record::new(value).partition(0)))?;
    let summary = job.drain()?;
    // Counted in records, before the list is taken apart.
    assert_eq!((&summary["records"], &summary["rows"]), (&json!(4), &json!(3)), "{summary}");
    let expected = json!([{"n": 1, "tag": "a"}, {"n": 1, "tag": "b"}, {"n": 4, "tag": "c"}]);
    assert_eq!(rows(&job, "n")?, expected);
    Ok(())
}
