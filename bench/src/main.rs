//! Micro-benchmarks of the two parts of the hot path that are ours: decoding and grouping. One thread, CPU time, several
//! rounds; prints the median of each in microseconds per record, decoding beside arrow-json on the same records.
//!
//! `data-platform-micro [RECORDS]` (default 1,000,000 events of 246 bytes, as `data-platform generate` writes them).

mod sessions;
mod values;

use std::sync::Arc;
use std::time::Duration;

use data_platform_crds::check::Manifest;
use data_platform_crds::job::Job;
use data_platform_crds::source::SourceSpec;
use data_platform_runner::config::templates;
use data_platform_runner::generate::{EventGenerator, EventKind, EventSettings};
use data_platform_runner::source::decode::{DecodePlan, Decoder, declared_schema};
use data_platform_runner::source::record::{NoHeaders, Record};
use data_platform_runner::transform::{BatchClock, SourceTable, StreamQuery};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Field, Schema};

const ROUNDS: usize = 7;
const BATCH_ROWS: usize = 8_192;
const START_MS: i64 = 1_767_225_600_000;
/// Half an hour of event time.
const SPAN_MS: i64 = 1_800_000;

fn main() {
    let records = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1_000_000_u64);
    let mut generator = EventGenerator::new(EventSettings::default());
    let event =
        |number: u64| generator.event(START_MS + (number as i64) * SPAN_MS / records as i64).value.unwrap_or_default();
    let events: Vec<Vec<u8>> = (0..records).map(event).collect();
    let bytes: usize = events.iter().map(Vec::len).sum();
    println!("{records} events of {} bytes, one thread, median of {ROUNDS} rounds", bytes / events.len().max(1));

    let source = source();
    let query = query(&source);
    let mut batches = Vec::new();
    let ours = median(|| batches = decode(&source, &query, &events));
    report("decode", ours, records, bytes);
    values::avro(&source, &query, &batches);
    report("decode with arrow-json", median(|| arrow_json(&events)), records, bytes);
    changes(records);
    let grouping = median(|| group(&query, &batches));
    report("group: count, collect_set in 1-minute windows", grouping, records, bytes);

    let clicks = sessions::Clicks { visits: 20_000, events: 12, step_ms: 5.0, closes: true };
    sessions::run("sessions: clickstream-analysis", records, clicks);
    let clicks = sessions::Clicks { visits: records, events: 3, step_ms: 0.1, closes: false };
    sessions::run("sessions: as many open as RECORDS", 3 * records, clicks);
}

/// Source and query of clickstream-analysis.
fn clickstream() -> (SourceSpec, String) {
    let text = templates::find("clickstream-analysis").expect("the job is built in");
    let text = text.replace("${gap}", "30 minutes");
    let (job, _) = Manifest::read(&text).expect("it is YAML").remove(0).check().expect("it is valid");
    match job {
        Job::Streaming(job) => (job.spec.sources[0].clone(), job.spec.query.expect("it has one query")),
        Job::Batch(_) => unreachable!("clickstream-analysis is a streaming job"),
    }
}

fn declared(source: &SourceSpec) -> datafusion::arrow::datatypes::SchemaRef {
    declared_schema(source)
}

/// Change data in all of its forms into all of its columns.
fn changes(records: u64) {
    let settings = EventSettings { kind: EventKind::Changes, ..EventSettings::default() };
    let mut generator = EventGenerator::new(settings);
    let event = |number: u64| generator.event(START_MS + number as i64).value;
    let values: Vec<Vec<u8>> = (0..records).filter_map(event).collect();
    let source = source_of(CHANGES);
    let all: Vec<usize> = (0..source.columns.len()).collect();
    let bytes = values.iter().map(Vec::len).sum();
    let ours = median(|| {
        let mut decoder = Decoder::new(DecodePlan::new(&source, &all).expect("the columns are declared"));
        for value in &values {
            // Some are no changes.
            let _ = decoder.decode(&record(0, value), i64::MAX);
            if decoder.rows() == BATCH_ROWS {
                std::hint::black_box(decoder.finish());
            }
        }
    });
    report("decode changes, 12 columns", ours, values.len() as u64, bytes);
}

/// Every field of change data.
const CHANGES: &str = "
apiVersion: dataplatform.io/v1alpha1
kind: StreamingJob
metadata: {name: changes}
spec:
  sources:
    - name: changes
      topics: [changes]
      format: cdc
      columns:
        - {name: operation, type: string}
        - {name: operation_type, type: string}
        - {name: database, type: string}
        - {name: schema_name, type: string}
        - {name: table_name, type: string}
        - {name: record_data, type: json}
        - {name: old_record, type: json}
        - {name: new_record, type: json}
        - {name: event_time, type: timestamp}
        - {name: transaction_id, type: string}
        - {name: log_sequence_number, type: string}
        - {name: is_snapshot, type: boolean}
      eventTime: {column: event_time}
  query: SELECT operation FROM changes
  sink: {path: changes}
";

fn record(offset: i64, value: &[u8]) -> Record<'_> {
    let (topic, partition, timestamp_ms, key, headers) = ("t", 0, None, None, &NoHeaders);
    Record { topic, partition, offset, timestamp_ms, key, value: Some(value), headers }
}

fn source() -> SourceSpec {
    source_of(templates::find("event-aggregation").expect("the job is built in"))
}

fn source_of(text: &str) -> SourceSpec {
    let (job, _) = Manifest::read(text).expect("it is YAML").remove(0).check().expect("it is valid");
    match job {
        Job::Streaming(job) => job.spec.sources[0].clone(),
        Job::Batch(_) => unreachable!("these are streaming jobs"),
    }
}

fn query(source: &SourceSpec) -> StreamQuery {
    let sql = "SELECT window_start, user_id, event_type, app_type, count(*) AS n, collect_set(session_id) AS sessions \
               FROM app_events GROUP BY tumble(timestamp, INTERVAL '1 minute'), user_id, event_type, app_type";
    let event_time = source.event_time.as_ref().map(|time| time.column.clone());
    let table = SourceTable { name: source.name.clone(), schema: declared_schema(source), event_time };
    StreamQuery::plan(sql, &table.into(), BatchClock::default()).expect("the query runs as a stream")
}

fn decode(source: &SourceSpec, query: &StreamQuery, events: &[Vec<u8>]) -> Vec<RecordBatch> {
    let plan = DecodePlan::new(source, query.input_columns(0)).expect("the columns are declared");
    let mut decoder = Decoder::new(plan);
    let mut batches = Vec::with_capacity(events.len() / BATCH_ROWS + 1);
    for (offset, value) in events.iter().enumerate() {
        decoder.decode(&record(offset as i64, value), i64::MAX).expect("generated events are good");
        if decoder.rows() == BATCH_ROWS {
            batches.push(decoder.finish());
        }
    }
    batches.push(decoder.finish());
    batches
}

/// The same columns by arrow-json, message by message, times as text.
fn arrow_json(events: &[Vec<u8>]) {
    let names = ["user_id", "session_id", "event_type", "app_type", "timestamp"];
    let fields: Vec<_> = names.iter().map(|name| Field::new(*name, DataType::Utf8View, false)).collect();
    let builder = arrow_json::ReaderBuilder::new(Arc::new(Schema::new(fields))).with_batch_size(BATCH_ROWS);
    let mut decoder = builder.build_decoder().expect("a schema of text");
    for chunk in events.chunks(BATCH_ROWS) {
        for value in chunk {
            decoder.decode(value).expect("generated events are JSON");
        }
        std::hint::black_box(decoder.flush().expect("and have these fields"));
    }
}

fn group(query: &StreamQuery, batches: &[RecordBatch]) {
    let mut operator = query.operator();
    for (number, batch) in batches.iter().enumerate() {
        operator.ingest(0, batch, None, number as u64 + 1).expect("generated events have every field");
    }
    std::hint::black_box(operator.close(i64::MAX).expect("every window closes"));
}

/// CPU time of this thread: the first number of the kernel's schedule statistics, in nanoseconds.
fn thread_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split(' ').next().and_then(|number| number.parse().ok());
    Duration::from_nanos(nanoseconds.expect("Linux tells how long a thread ran"))
}

fn median(mut work: impl FnMut()) -> Duration {
    let mut times: Vec<_> = (0..ROUNDS)
        .map(|_| {
            let began = thread_time();
            work();
            thread_time() - began
        })
        .collect();
    times.sort_unstable();
    times[ROUNDS / 2]
}

fn report(name: &str, time: Duration, records: u64, bytes: usize) {
    let seconds = time.as_secs_f64();
    println!(
        "{name:<48} {:>6.3} µs/record  {:>6.2} M records/CPU-s  {:>5.0} MB/CPU-s",
        seconds * 1e6 / records as f64,
        records as f64 / seconds / 1e6,
        bytes as f64 / seconds / 1e6
    );
}
