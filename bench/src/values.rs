//! The same events as Avro behind a schema id: decoding into the same columns as from JSON, beside arrow-avro.

use arrow_avro::reader::ReaderBuilder;
use arrow_avro::schema::{AvroSchema, Fingerprint, FingerprintAlgorithm, SchemaStore};
use data_platform_crds::source::{SourceFormat, SourceSpec};
use data_platform_runner::source::decode::{DecodePlan, Decoder};
use data_platform_runner::source::schemas::{SchemaKind, WriterSchema};
use data_platform_runner::transform::StreamQuery;
use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::TimestampMicrosecondType;

use super::{BATCH_ROWS, median, record, report};

/// As a producer would declare them, with fields that the query does not read.
const SCHEMA: &str = r#"{"type": "record", "name": "Event", "namespace": "bench", "fields": [
    {"name": "event_id", "type": "string"},
    {"name": "user_id", "type": "string"},
    {"name": "session_id", "type": ["null", "string"]},
    {"name": "event_type", "type": {"type": "enum", "name": "Kind", "symbols": ["page_view", "click", "purchase", "scroll", "search"]}},
    {"name": "app_type", "type": "string"},
    {"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    {"name": "properties", "type": {"type": "map", "values": "string"}}
]}"#;
/// What the query reads of it.
const COLUMNS: &str = r#"{"type": "record", "name": "Event", "namespace": "bench", "fields": [
    {"name": "user_id", "type": "string"},
    {"name": "session_id", "type": ["null", "string"]},
    {"name": "event_type", "type": {"type": "enum", "name": "Kind", "symbols": ["page_view", "click", "purchase", "scroll", "search"]}},
    {"name": "app_type", "type": "string"},
    {"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-micros"}}
]}"#;
const KINDS: [&str; 5] = ["page_view", "click", "purchase", "scroll", "search"];
const ID: u32 = 1;

/// `batches`: the columns that the query reads, as they were decoded from JSON.
pub(crate) fn avro(source: &SourceSpec, query: &StreamQuery, batches: &[RecordBatch]) {
    let values: Vec<Vec<u8>> = batches.iter().flat_map(encoded).collect();
    let bytes = values.iter().map(Vec::len).sum();
    let source = SourceSpec { format: SourceFormat::Avro, ..source.clone() };
    let plan = DecodePlan::new(&source, query.input_columns(0)).expect("the columns are declared");
    let (kind, text) = (SchemaKind::Avro, SCHEMA.to_owned());
    let (references, subjects) = (Vec::new(), Vec::new());
    let schema = WriterSchema { id: Some(ID), kind, text, descriptors: None, references, subjects };
    let time = median(|| {
        let mut decoder = Decoder::new(plan.clone());
        assert_eq!(decoder.learn(&schema), None, "the schema has the columns");
        for (offset, value) in values.iter().enumerate() {
            decoder.decode(&record(offset as i64, value), i64::MAX).expect("these events are good");
            if decoder.rows() == BATCH_ROWS {
                std::hint::black_box(decoder.finish());
            }
        }
    });
    let records = values.len() as u64;
    report(&format!("decode Avro, {} bytes", bytes / values.len().max(1)), time, records, bytes);
    report("decode Avro with arrow-avro", median(|| arrow_avro(&values)), records, bytes);
}

/// The same columns by arrow-avro, which passes over the other fields, too.
fn arrow_avro(values: &[Vec<u8>]) {
    let mut schemas = SchemaStore::new_with_type(FingerprintAlgorithm::Id);
    schemas.set(Fingerprint::Id(ID), AvroSchema::new(SCHEMA.to_owned())).expect("the id is new");
    let reader = ReaderBuilder::new().with_batch_size(BATCH_ROWS).with_utf8_view(true);
    let reader = reader.with_reader_schema(AvroSchema::new(COLUMNS.to_owned())).with_writer_schema_store(schemas);
    let mut decoder = reader.build_decoder().expect("the schemas fit");
    for chunk in values.chunks(BATCH_ROWS) {
        for value in chunk {
            decoder.decode(value).expect("these events are good");
        }
        std::hint::black_box(decoder.flush().expect("and have these fields"));
    }
}

fn encoded(batch: &RecordBatch) -> Vec<Vec<u8>> {
    let text = |name: &str| batch[name].as_string_view();
    let times = batch["timestamp"].as_primitive::<TimestampMicrosecondType>();
    let row = |row: usize| {
        let mut out = vec![0];
        out.extend(ID.to_be_bytes());
        put_text("0f8fad5b-d9cb-469f-a165-70867728950e", &mut out);
        put_text(text("user_id").value(row), &mut out);
        put_long(1, &mut out);
        put_text(text("session_id").value(row), &mut out);
        let kind = KINDS.iter().position(|kind| *kind == text("event_type").value(row)).unwrap_or_default();
        put_long(kind as i64, &mut out);
        put_text(text("app_type").value(row), &mut out);
        put_long(times.value(row), &mut out);
        put_long(2, &mut out);
        for (key, value) in [("page", "/products/4711"), ("campaign", "spring")] {
            put_text(key, &mut out);
            put_text(value, &mut out);
        }
        put_long(0, &mut out);
        out
    };
    (0..batch.num_rows()).map(row).collect()
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    put_long(text.len() as i64, out);
    out.extend(text.as_bytes());
}

fn put_long(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
