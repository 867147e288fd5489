//! Tests of the decoder as its callers see it. What they share is here: a source, one record, what became of it.

use data_platform_crds::source::SourceSpec;
use datafusion::arrow::array::{Array, ArrayRef, RecordBatch};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::{Value, json};

use super::*;
use crate::source::record::NoHeaders;
use crate::source::schemas::WriterSchema;

mod avro;
mod changes;
mod grammar;
mod kafka;
mod laws;
mod plans;
mod protobuf;
mod records;
mod timestamps;
mod values;

/// 2100-01-01: no event of the tests is in the future unless it wants to be.
const LATEST: i64 = 4_102_444_800_000_000;

/// A source with these columns.
fn source(columns: Value) -> SourceSpec {
    source_with(json!({"columns": columns}))
}

/// A source with these fields over the defaults.
fn source_with(fields: Value) -> SourceSpec {
    let mut spec = json!({"name": "events", "topics": ["topic_app_events"]});
    let (Value::Object(spec_fields), Value::Object(fields)) = (&mut spec, fields) else {
        panic!("fields are an object")
    };
    spec_fields.extend(fields);
    serde_json::from_value(spec).unwrap()
}

/// The source of the application's user events.
fn app_events() -> SourceSpec {
    source_with(json!({
        "columns": [
            {"name": "user_id", "type": "string", "required": true, "minLength": 1, "maxLength": 255},
            {"name": "event_type", "type": "string", "required": true},
            {"name": "session_id", "type": "string", "required": true},
            {"name": "app_type", "type": "string", "required": true},
            {"name": "timestamp", "type": "timestamp", "required": true},
            {"name": "event_id", "type": "string"},
            {"name": "properties", "type": "json"},
        ],
        "eventTime": {"column": "timestamp"},
    }))
}

fn record(value: &[u8]) -> Record<'_> {
    Record {
        topic: "topic_app_events",
        partition: 3,
        offset: 42,
        timestamp_ms: Some(1_767_225_600_000),
        key: Some(b"user_000712"),
        value: Some(value),
        headers: &NoHeaders,
    }
}

/// A decoder that builds all columns.
fn decoder(source: &SourceSpec) -> Decoder {
    let all: Vec<usize> = (0..source.columns.len()).collect();
    Decoder::new(DecodePlan::new(source, &all).unwrap())
}

/// What becomes of one record: its row, each cell as text, and the event time.
///
/// Whatever the record, these must hold, so each case of each table tests them too: the second time, when the decoder
/// has learned the record's fields, gives the same; a bad record leaves the rows around it alone; the columns that
/// nobody needs make the same records bad.
fn decode(source: &SourceSpec, record: &Record<'_>) -> Result<(Vec<String>, Option<i64>), BadRecord> {
    let mut decoder = decoder(source);
    let first = decoder.decode(record, LATEST);
    let rows = decoder.rows();
    assert_eq!(rows, usize::from(first.is_ok()));
    assert_eq!(decoder.decode(record, LATEST), first, "a decoder that has learned the record's fields");
    let stacks = (decoder.scratch.slots.len(), decoder.scratch.entries.len());
    assert_eq!(stacks, (0, 0), "the stacks of nested values");
    let batch = decoder.finish();
    assert_eq!((batch.num_rows(), decoder.rows()), (2 * rows, 0));
    assert_valid(&batch);

    let mut checker = Decoder::new(DecodePlan::new(source, &[]).unwrap());
    assert_eq!(checker.decode(record, LATEST), first, "a decoder that builds no column");
    assert_eq!(checker.finish().num_rows(), rows);

    let event_time = first?;
    assert_eq!(row(&batch, 0), row(&batch, 1));
    Ok((row(&batch, 0), event_time))
}

/// What Arrow's own, slower checks say.
fn assert_valid(batch: &RecordBatch) {
    for column in batch.columns() {
        column.to_data().validate_full().unwrap();
    }
}

/// The cells of a row as text.
fn row(batch: &RecordBatch, row: usize) -> Vec<String> {
    let options = FormatOptions::new().with_null("NULL");
    let cell = |column: &ArrayRef| ArrayFormatter::try_new(column, &options).unwrap().value(row).to_string();
    batch.columns().iter().map(cell).collect()
}

/// A decoder that knows these schemas, with what it says of each.
fn knowing(source: &SourceSpec, needed: &[usize], schemas: &[WriterSchema]) -> (Decoder, Vec<String>) {
    let mut decoder = Decoder::new(DecodePlan::new(source, needed).unwrap());
    let problems =
        schemas.iter().filter_map(|schema| decoder.learn(schema)).map(|problem| problem.to_string()).collect();
    (decoder, problems)
}

/// What becomes of a value: its row, or what is wrong with it. The same must come of it the second time, between others,
/// and where no column is built.
fn become_of(source: &SourceSpec, schemas: &[WriterSchema], value: &[u8]) -> Result<Vec<String>, BadRecord> {
    let all: Vec<usize> = (0..source.columns.len()).collect();
    let (mut decoder, _) = knowing(source, &all, schemas);
    let first = decoder.decode(&record(value), LATEST);
    assert_eq!(decoder.decode(&record(value), LATEST), first);
    let batch = decoder.finish();
    assert_valid(&batch);
    assert_eq!(batch.num_rows(), if first.is_ok() { 2 } else { 0 });
    let (mut checker, _) = knowing(source, &[], schemas);
    assert_eq!(checker.decode(&record(value), LATEST), first, "a decoder that builds no column");
    first?;
    assert_eq!(row(&batch, 0), row(&batch, 1));
    Ok(row(&batch, 0))
}

/// The reason why a value is bad, or its first cell.
fn outcome(source: &SourceSpec, value: &[u8]) -> String {
    match decode(source, &record(value)) {
        Ok((row, _)) => row.first().cloned().unwrap_or_default(),
        Err(bad) => format!("bad: {}", bad.reason),
    }
}
