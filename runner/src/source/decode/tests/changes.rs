//! Change data: what becomes of records as Debezium and the ingestion layer write them.
//!
//! `changes/postgresql_*.jsonl` are records that Debezium 3.6.1 made from a PostgreSQL 15 whose tables hold nothing but
//! made-up values (bare, and inside `{schema, payload}`); `by_hand.jsonl` is written by hand: the flat form, what is like a
//! change and is none, and envelopes of MySQL and MongoDB after their documentation. `*.expected.jsonl` say what they
//! mean, by `tests/readers/changes.py`, which shares no code with the decoder.

use data_platform_crds::column::ColumnType;

use super::*;

const NAMES: [&str; 12] = [
    "operation",
    "operation_type",
    "database",
    "schema_name",
    "table_name",
    "before",
    "after",
    "record_data",
    "event_time",
    "transaction_id",
    "log_sequence_number",
    "is_snapshot",
];

fn column(name: &str) -> Value {
    let column_type = match name {
        "before" | "after" | "record_data" => "json",
        "event_time" => "timestamp",
        "is_snapshot" => "boolean",
        _ => "string",
    };
    json!({"name": name, "type": column_type})
}

fn changes() -> SourceSpec {
    let columns: Vec<_> = NAMES.into_iter().map(column).collect();
    source_with(json!({"format": "cdc", "columns": columns, "eventTime": {"column": "event_time"}}))
}

fn with(columns: Value) -> SourceSpec {
    source_with(json!({"format": "cdc", "columns": columns}))
}

/// The record's row as the independent reading writes it, or its fate.
fn told(source: &SourceSpec, value: &[u8]) -> Value {
    let outcome = decode(source, &record(value));
    match outcome {
        Err(bad) if bad.reason.is_bad() => json!({"fate": "bad"}),
        Err(bad) => json!({"fate": bad.reason.as_str()}),
        Ok((row, event_time)) => {
            let cell = |(name, cell): (&&str, String)| {
                let cell = match *name {
                    "event_time" => json!(event_time),
                    "is_snapshot" => json!(cell == "true"),
                    _ if cell == "NULL" => Value::Null,
                    _ => json!(cell),
                };
                ((*name).to_owned(), cell)
            };
            Value::Object(NAMES.iter().zip(row).map(cell).collect())
        }
    }
}

#[test]
fn every_form_of_a_change_is_read_as_an_independent_reader_reads_it() {
    let mut fates = std::collections::BTreeMap::<String, usize>::new();
    for (name, records, expected) in [
        (
            "one topic",
            include_str!("changes/postgresql_one_topic.jsonl"),
            include_str!("changes/postgresql_one_topic.expected.jsonl"),
        ),
        (
            "wrapped",
            include_str!("changes/postgresql_wrapped.jsonl"),
            include_str!("changes/postgresql_wrapped.expected.jsonl"),
        ),
        ("by hand", include_str!("changes/by_hand.jsonl"), include_str!("changes/by_hand.expected.jsonl")),
    ] {
        assert_eq!(records.lines().count(), expected.lines().count(), "{name}");
        for (line, expected) in records.lines().zip(expected.lines()) {
            let kept: Value = serde_json::from_str(line).unwrap();
            let expected: Value = serde_json::from_str(expected).unwrap();
            let fate = expected.get("fate").or(expected.get("operation_type")).and_then(Value::as_str);
            *fates.entry(fate.unwrap().to_owned()).or_default() += 1;
            // A null value never reaches the decoder.
            let Some(value) = kept["value"].as_str() else { continue };
            assert_eq!(told(&changes(), value.as_bytes()), expected, "{name}: {line}");
        }
    }
    let kinds: Vec<_> = fates.keys().map(String::as_str).collect();
    assert_eq!(kinds, ["DELETE", "INSERT", "TRUNCATE", "UNKNOWN", "UPDATE", "bad", "control", "tombstone"]);
}

#[test]
fn numbers_keep_their_digits_and_objects_their_text() {
    let value = br#"{"op":"u","table":"t","ts_ms":1,"before":{"n":12345678901234567890.123456789},"after":{ "big" : 9007199254740993 }}"#;
    let source = with(json!([column("before"), {"name": "new_record", "type": "json"}, column("record_data")]));
    let (row, _) = decode(&source, &record(value)).unwrap();
    let after = r#"{ "big" : 9007199254740993 }"#;
    assert_eq!(row, [r#"{"n":12345678901234567890.123456789}"#, after, after]);
}

#[test]
fn columns_reach_into_rows_in_both_forms() {
    let source = with(json!([
        {"name": "id", "type": "bigint", "path": "record_data.id", "required": true},
        {"name": "name", "type": "string", "path": "after.name"},
        {"name": "place", "type": "string", "path": "before.address.city"},
        {"name": "lsn", "type": "bigint", "path": "log_sequence_number"},
    ]));
    let update =
        r#"{"op":"u","table":"t","ts_ms":1,"lsn":5,"before":{"address":{"city":"Bern"}},"after":{"id":7,"name":"x"}}"#;
    let wrapped = format!(r#"{{"schema":{{"fields":[{{"field":"op"}}]}},"payload":{update}}}"#);
    for value in [update, &wrapped] {
        assert_eq!(decode(&source, &record(value.as_bytes())).unwrap().0, ["7", "x", "Bern", "5"], "{value}");
    }
    let delete = br#"{"op":"d","table":"t","ts_ms":1,"before":{"id":8},"after":null}"#;
    assert_eq!(decode(&source, &record(delete)).unwrap().0, ["8", "NULL", "NULL", "NULL"]);
    for (value, reason) in [
        (r#"{"op":"t","table":"t","ts_ms":1}"#, BadReason::MissingField),
        (r#"{"op":"d","table":"t","ts_ms":1,"before":{"id":null}}"#, BadReason::MissingField),
        (r#"{"op":"d","table":"t","ts_ms":1,"before":"text"}"#, BadReason::WrongType),
        (r#"{"op":"u","table":"t","ts_ms":1,"after":{"id":"x"}}"#, BadReason::WrongType),
    ] {
        assert_eq!(decode(&source, &record(value.as_bytes())).unwrap_err().reason, reason, "{value}");
    }
}

#[test]
fn what_kafka_holds_beside_a_change_is_there_too() {
    let source = with(json!([
        column("operation"),
        {"name": "kafka_key", "type": "string", "from": "key"},
        {"name": "whole", "type": "json", "from": "value"},
        {"name": "part", "type": "int", "from": "partition"},
    ]));
    let value = br#"{"op":"u","table":"t","ts_ms":1}"#;
    let (row, _) = decode(&source, &record(value)).unwrap();
    assert_eq!(row, ["u", "user_000712", r#"{"op":"u","table":"t","ts_ms":1}"#, "3"]);
}

#[test]
fn columns_of_change_data_name_what_there_is_in_a_type_that_it_has() {
    let error = |column: Value| DecodePlan::new(&with(json!([column])), &[]).unwrap_err().to_string();
    let unknown = error(json!({"name": "user_id", "type": "string"}));
    assert!(unknown.contains("names user_id, which change data does not have"), "{unknown}");
    assert!(
        unknown.contains("operation, operation_type, database, schema_name, table_name, before, after"),
        "{unknown}"
    );
    let below = error(json!({"name": "a", "type": "string", "path": "operation.x"}));
    assert!(below.contains("names operation.x, which change data does not have"), "{below}");
    for (name, wrong) in NAMES.iter().zip([
        "json", "int", "json", "bigint", "boolean", "string", "string", "string", "string", "boolean", "double",
        "string",
    ]) {
        let error = error(json!({"name": name, "type": wrong}));
        assert!(error.contains(&format!("holds {name} of change data, so its type must be")), "{error}");
    }
    let deep = vec!["x"; 16].join(".");
    let error = error(json!({"name": "a", "type": "string", "path": format!("after.{deep}")}));
    assert!(error.contains("17 names, more than 16"), "{error}");
}

/// As many columns as a source may have, all of them deep in a row.
#[test]
fn the_largest_source_of_change_data_can_be_read() {
    let columns: Vec<_> = (0..512)
        .map(|index| {
            let path: Vec<_> = (0..15).map(|level| format!("f{index}_{level}")).collect();
            json!({"name": format!("c{index}"), "type": "string", "path": format!("record_data.{}", path.join("."))})
        })
        .collect();
    let source = with(Value::Array(columns));
    assert_eq!(source.columns[0].column_type, ColumnType::String);
    let value = br#"{"op":"u","table":"t","ts_ms":1,"after":{"f511_0":{}}}"#;
    let row = decode(&source, &record(value)).unwrap().0;
    assert!(row.iter().all(|cell| cell == "NULL"));
}
