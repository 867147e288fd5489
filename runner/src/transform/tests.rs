//! Whole queries over small tables: what they answer, what is refused, and that cuts of the stream change nothing.

mod abuse;
mod agree;
mod cuts;
mod dates;
mod deduplicate;
mod enrichment;
mod functions;
mod joins;
mod judged;
mod one_text;
mod references;
mod refused;
mod refusing;
mod results;
mod sessions;
mod sources;
mod spills;
mod streaming;
mod tables;

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};

use super::{BatchClock, Operator, QueryError, QueryInputs, ReferenceTable, SourceTable, StreamQuery};

/// 2026-02-16 14:00:00 UTC in microseconds.
const T0: i64 = 1_771_250_400_000_000;
const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;

fn events_schema() -> SchemaRef {
    let text = DataType::Utf8View;
    let field = |name: &str, data_type: DataType| Field::new(name, data_type, true);
    let list = |item: DataType| DataType::List(Arc::new(Field::new_list_field(item, true)));
    let properties = Fields::from(vec![field("pageUrl", text.clone()), field("sizes", list(DataType::Int64))]);
    Arc::new(Schema::new(vec![
        field("user_id", text.clone()),
        field("event_type", text.clone()),
        field("app_type", text.clone()),
        field("session_id", text.clone()),
        Field::new("timestamp", super::window::timestamp_type(), false),
        field("amount", DataType::Float64),
        field("quantity", DataType::Int64),
        field("price", DataType::Decimal128(10, 2)),
        field("tags", list(text.clone())),
        field("properties", DataType::Struct(properties)),
        field("flag", DataType::Boolean),
        field("day", DataType::Date32),
        field("deviceType", text),
        field("seen", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        field("counts", map_of(DataType::Utf8View, DataType::Int64)),
    ]))
}

/// As declared columns have maps.
fn map_of(key: DataType, value: DataType) -> DataType {
    let entries = Fields::from(vec![Field::new("keys", key, false), Field::new("values", value, true)]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
}

fn events() -> SourceTable {
    SourceTable { name: "app_events".into(), schema: events_schema(), event_time: Some("timestamp".into()) }
}

fn plan(sql: &str) -> Result<StreamQuery, QueryError> {
    StreamQuery::plan(sql, &events().into(), BatchClock::new(T0 + 90 * SECOND))
}

#[track_caller]
fn planned(sql: &str) -> StreamQuery {
    match plan(sql) {
        Ok(query) => query,
        Err(error) => panic!("{error}\n{sql}"),
    }
}

/// Records as JSON objects in the columns that a query reads. Their `timestamp` is in seconds after T0.
fn batch(query: &StreamQuery, records: &str) -> RecordBatch {
    let schema = input_schema(query);
    let values = serde_json::Deserializer::from_str(records).into_iter::<serde_json::Value>().map(|value| {
        let mut value = value.unwrap();
        let seconds = value["timestamp"].as_f64().unwrap_or_default();
        value["timestamp"] = serde_json::Value::from(T0 + (seconds * 1e6) as i64);
        value
    });
    json_batch(&schema, values)
}

/// The columns that a query reads, those of the record's identity too.
fn input_schema(query: &StreamQuery) -> SchemaRef {
    Arc::new(events().full_schema().project(query.input_columns(0)).unwrap())
}

/// Records without an identity have offsets from 0 on.
fn json_batch(schema: &SchemaRef, values: impl Iterator<Item = serde_json::Value>) -> RecordBatch {
    let mut decoder = arrow_json::ReaderBuilder::new(schema.clone()).with_batch_size(1 << 20).build_decoder().unwrap();
    let mut rows = 0;
    for mut value in values {
        for (column, default) in [("__topic", "t".into()), ("__partition", 0.into()), ("__offset", rows.into())] {
            if value.get(column).is_none() {
                value[column] = default;
            }
        }
        decoder.decode(value.to_string().as_bytes()).unwrap();
        rows += 1;
    }
    if schema.fields().is_empty() {
        let options = datafusion::arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
        return RecordBatch::try_new_with_options(schema.clone(), vec![], &options).unwrap();
    }
    decoder.flush().unwrap().unwrap_or_else(|| RecordBatch::new_empty(schema.clone()))
}

/// Rows as JSON objects; nulls are left out.
fn json_rows(batches: &[RecordBatch]) -> Vec<String> {
    let mut rows = vec![];
    for batch in batches.iter().filter(|batch| batch.num_rows() > 0) {
        let mut writer = arrow_json::LineDelimitedWriter::new(Vec::new());
        writer.write(batch).unwrap();
        writer.finish().unwrap();
        let text = String::from_utf8(writer.into_inner()).unwrap();
        rows.extend(text.lines().map(str::to_owned));
    }
    rows
}

/// Ingests everything at once and closes every window.
fn answer(sql: &str, lines: &str) -> Vec<String> {
    let query = planned(sql);
    let mut operator = query.operator();
    let ingested = operator.ingest(0, &batch(&query, lines), None, 1).unwrap();
    let mut rows = json_rows(&ingested.rows);
    rows.extend(json_rows(&close_all(&mut operator)));
    rows
}

fn close_all(operator: &mut Operator) -> Vec<RecordBatch> {
    operator.close(i64::MAX).unwrap()
}
