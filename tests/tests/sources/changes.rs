//! Change data and raw values as sources, compared with an independent reading of the same records.

use data_platform_runner::generate::{EventGenerator, EventKind, EventSettings};
use data_platform_tests::{Producer, Record, needs_broker, python_reader};
use serde_json::{Value, json};

use super::numbers::{NAME, Numbers};
use crate::events::START_MS;

const PARTITIONS: i32 = 4;

/// Writes generated changes; gives how many records there are.
fn produce_changes(producer: &Producer, topic: &str, number: u64, messy: f64) -> anyhow::Result<u64> {
    let kind = EventKind::Changes;
    let mut generator = EventGenerator::new(EventSettings { kind, messy, users: 200, ..EventSettings::default() });
    for n in 0..number {
        let event = generator.event(START_MS + n as i64 * 37);
        let record = event.value.map_or_else(Record::tombstone, Record::new);
        let partition = (event.user % u64::from(PARTITIONS.unsigned_abs())) as i32;
        producer.send(topic, &record.key(event.key).partition(partition).timestamp_ms(event.time_ms))?;
    }
    producer.flush()?;
    Ok(number)
}

fn column(name: &str, column_type: &str) -> Value {
    json!({"name": name, "type": column_type})
}

#[test]
fn changes_of_every_form_become_the_rows_that_an_independent_reader_expects() -> anyhow::Result<()> {
    let mut job = Numbers::new(needs_broker!(), "changes", PARTITIONS)?;
    let records = produce_changes(&job.producer(&[("linger.ms", "20")])?, &job.topic, 6_000, 0.05)?;
    let texts = ["operation", "operation_type", "database", "schema_name", "table_name"];
    let ids = ["transaction_id", "log_sequence_number"];
    let mut columns: Vec<_> = texts.iter().chain(&ids).map(|name| column(name, "string")).collect();
    columns.extend(["record_data", "old_record", "new_record"].map(|name| column(name, "json")));
    columns.extend([column("event_time", "timestamp"), column("is_snapshot", "boolean")]);
    job.set("/sources/0/format", json!("cdc"));
    job.set("/sources/0/columns", json!(columns));
    job.set("/sources/0/eventTime", json!({"column": "event_time"}));
    job.set(
        "/query",
        json!(format!("SELECT *, now() AS processing_time, CAST(event_time AS DATE) AS date FROM {NAME}")),
    );
    job.set("/sink", json!({"format": "parquet", "path": "cdc_transformed", "partitionBy": ["date"]}));
    // Some bad records are to be expected.
    job.set("/badRecords", json!({"maxPercent": 100}));
    let summary = job.drain()?;

    let dump = job.folders.root().join("dump.jsonl");
    job.broker.dump_topic(&job.topic, &dump)?;
    let outputs = job.folders.outputs();
    let arguments = [dump.as_os_str(), outputs.as_os_str(), "--only".as_ref(), "cdc_transformed".as_ref()];
    let report = python_reader("compare_changes.py", arguments)?.expect_success()?;
    let counts = &report["counts"];
    assert_eq!(counts["records"], records, "{report}");
    for (ours, theirs) in [
        ("records", "records"),
        ("tombstones", "tombstones"),
        ("control", "control"),
        ("dead_letters", "bad"),
        ("rows", "changes"),
    ] {
        assert_eq!(summary[ours], counts[theirs], "{ours}: {summary} for {counts}");
        assert!(summary[ours].as_u64() > Some(50), "{ours}: {summary}");
    }
    job.audit()?;
    Ok(())
}

#[test]
fn a_stream_of_nothing_but_control_records_is_no_evidence_of_anything() -> anyhow::Result<()> {
    let mut job = Numbers::new(needs_broker!(), "control", 1)?;
    job.set("/sources/0/format", json!("cdc"));
    job.set("/sources/0/columns", json!([column("table_name", "string")]));
    job.set("/query", json!(format!("SELECT table_name FROM {NAME}")));
    let control = [r#"{"ts_ms":1767225600000}"#, r#"{"status":"END","id":"7","ts_ms":1767225600000}"#, "null"];
    job.broker.produce(&job.topic, (0..3_000).map(|n| Record::new(control[n % 3])))?;
    let summary = job.drain()?;
    let counts = ["records", "control", "tombstones", "dead_letters", "rows"].map(|name| summary[name].as_u64());
    assert_eq!(counts, [Some(3_000), Some(2_000), Some(1_000), Some(0), Some(0)], "{summary}");
    let breaker = &job.commits()[0]["breaker"];
    assert_eq!(breaker["records"], 1_000, "{breaker}");
    job.audit()
}

#[test]
fn raw_values_are_passed_on_as_they_are() -> anyhow::Result<()> {
    let mut job = Numbers::new(needs_broker!(), "raw", 1)?;
    job.set("/sources/0/format", json!("raw"));
    let columns = json!([
        {"name": "value", "type": "binary", "from": "value"},
        {"name": "offset", "type": "bigint", "from": "offset"},
    ]);
    job.set("/sources/0/columns", columns);
    job.set(
        "/query",
        json!(format!("SELECT encode(value, 'hex') AS h, \"offset\" AS n FROM {NAME} WHERE \"offset\" <> 2")),
    );
    let values: [&[u8]; 4] = [b"\xff\x00", b"", b"too long", b"{\"a\""];
    job.broker.produce(&job.topic, values.map(Record::new).into_iter().chain([Record::tombstone()]))?;
    let summary = job.drain()?;
    let counts = ["records", "tombstones", "dead_letters", "filtered", "rows"].map(|name| summary[name].as_u64());
    assert_eq!(counts, [Some(5), Some(1), Some(0), Some(1), Some(3)], "{summary}");
    let rows = job.query(&format!("SELECT h, n FROM {NAME} ORDER BY n"))?;
    assert_eq!(rows, [json!({"h": "ff00", "n": 0}), json!({"h": "", "n": 1}), json!({"h": "7b226122", "n": 3})]);
    Ok(())
}
