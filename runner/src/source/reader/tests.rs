//! The reader over a source in memory: what it hands on, and how much of it at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::arrow::array::AsArray;

use super::*;
use crate::source::decode::DecodePlan;
use crate::source::record::{NoHeaders, Record};
use crate::source::{PartitionRead, WithoutLeader};

const TOPIC: &str = "t";

/// One partition in memory.
struct InMemory {
    values: Vec<Option<Vec<u8>>>,
    timestamp_ms: Option<i64>,
    /// Bytes of the values that the reader has seen.
    seen: Arc<AtomicUsize>,
}

fn one<T>(value: T) -> Partitions<T> {
    Partitions::of(TOPIC, [(0, value)])
}

impl Source for InMemory {
    fn identity(&mut self) -> Result<Identity, SourceError> {
        Ok(Identity::default())
    }

    fn resolve(&mut self, _: &StartingOffsets) -> Result<Partitions<i64>, SourceError> {
        Ok(one(0))
    }

    fn bounds(&mut self) -> Result<Partitions<Bounds>, SourceError> {
        Ok(one(Bounds { earliest: 0, end: self.values.len() as i64 }))
    }

    fn assign(&mut self, _: &Partitions<i64>) -> Result<(), SourceError> {
        Ok(())
    }

    fn read(
        &mut self,
        ranges: &Partitions<(i64, i64)>,
        _: WithoutLeader,
        _: &StopSignal,
        visit: &mut dyn FnMut(&Record<'_>) -> Result<(), SourceError>,
    ) -> Result<Partitions<PartitionRead>, SourceError> {
        let (start, end) = ranges[TOPIC][&0];
        for offset in start..end {
            let value = self.values[offset as usize].as_deref();
            self.seen.fetch_add(value.map_or(0, <[u8]>::len), Ordering::SeqCst);
            let (timestamp_ms, headers) = (self.timestamp_ms, &NoHeaders);
            visit(&Record { topic: TOPIC, partition: 0, offset, timestamp_ms, key: None, value, headers })?;
        }
        Ok(one(PartitionRead { start, end, records: (end - start).unsigned_abs() }))
    }

    fn tell_group(&mut self, _: &Partitions<i64>) {}
}

fn decoder(source: serde_json::Value) -> Decoder {
    let mut spec = serde_json::json!({"name": "s", "topics": [TOPIC]});
    spec.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
    let spec: data_platform_crds::source::SourceSpec = serde_json::from_value(spec).unwrap();
    let all: Vec<_> = (0..spec.columns.len()).collect();
    Decoder::new(DecodePlan::new(&spec, &all).unwrap())
}

fn reader(source: InMemory, decoder: Decoder) -> Reader {
    let routes = TopicRoutes::of_topics([TOPIC.to_owned()]);
    Reader::start(Box::new(source), Decoders { decoders: vec![decoder], routes }, StopSignal::default())
}

fn everything(values: &[Option<Vec<u8>>]) -> ReadRequest {
    ReadRequest { ranges: one((0, values.len() as i64)), latest_event_times: vec![i64::MAX], ..ReadRequest::default() }
}

#[test]
fn large_records_are_bounded_by_their_bytes_and_not_by_their_number() {
    const RECORD: usize = 1_000_000;
    let good = serde_json::json!({"a": "x".repeat(RECORD)}).to_string().into_bytes();
    let bad = vec![b'x'; RECORD];
    for (name, value) in [("rows", good), ("dead letters", bad)] {
        let values = vec![Some(value.clone()); 96];
        let seen = Arc::new(AtomicUsize::new(0));
        let source = InMemory { values: values.clone(), timestamp_ms: None, seen: Arc::clone(&seen) };
        let reader = reader(source, decoder(serde_json::json!({"columns": [{"name": "a", "type": "string"}]})));
        let reading = reader.read(everything(&values)).unwrap();
        let (mut handed_on, mut rows) = (0, 0);
        loop {
            // What was read and is not done with: the queue, what is being made, and the record at hand.
            let on_the_way = seen.load(Ordering::SeqCst) - handed_on;
            assert!(on_the_way <= AHEAD.bytes + 2 * BATCH_BYTES, "{name}: {on_the_way} bytes are on their way");
            match reading.next().unwrap() {
                Part::Rows { rows: batch, .. } | Part::DeadLetters(batch) => {
                    let bytes = batch.num_rows() * value.len();
                    assert!(bytes <= BATCH_BYTES + value.len(), "{name}: a batch of {} records", batch.num_rows());
                    rows += batch.num_rows();
                    handed_on += bytes;
                }
                Part::Done(_) => break,
            }
        }
        assert_eq!(rows, values.len(), "{name}");
    }
}

#[test]
fn small_records_fill_whole_batches() {
    let values = vec![Some(br#"{"a":"x"}"#.to_vec()); BATCH_ROWS + 1];
    let source = InMemory { values: values.clone(), timestamp_ms: None, seen: Arc::default() };
    let reader = reader(source, decoder(serde_json::json!({"columns": [{"name": "a", "type": "string"}]})));
    let reading = reader.read(everything(&values)).unwrap();
    let Part::Rows { rows: first, .. } = reading.next().unwrap() else { panic!("rows") };
    let Part::Rows { rows: second, .. } = reading.next().unwrap() else { panic!("rows") };
    assert_eq!((first.num_rows(), second.num_rows()), (BATCH_ROWS, 1));
    assert!(matches!(reading.next().unwrap(), Part::Done(_)));
}

/// What became of records, and the reasons in their dead letters.
fn fates(source: serde_json::Value, values: Vec<Option<Vec<u8>>>, request: ReadRequest) -> (ReadSummary, Vec<String>) {
    use datafusion::arrow::array::AsArray;
    let memory = InMemory { values: values.clone(), timestamp_ms: Some(5_000), seen: Arc::default() };
    let reader = reader(memory, decoder(source));
    let reading = reader.read(ReadRequest { ranges: one((0, values.len() as i64)), ..request }).unwrap();
    let mut letters = Vec::new();
    loop {
        match reading.next().unwrap() {
            Part::Rows { .. } => {}
            Part::DeadLetters(batch) => {
                letters.extend(batch["reason"].as_string::<i32>().iter().flatten().map(str::to_owned));
            }
            Part::Done(summary) => return (*summary, letters),
        }
    }
}

#[test]
fn records_of_the_future_are_kept_with_the_dead_letters_and_are_not_bad() {
    let source = serde_json::json!({
        "columns": [{"name": "at", "type": "timestamp"}],
        "eventTime": {"column": "at"},
    });
    let at = |seconds: i64| Some(format!("{{\"at\":{seconds}}}").into_bytes());
    for (bad_records, kept) in
        [(BadRecordAction::DeadLetter, true), (BadRecordAction::Drop, false), (BadRecordAction::Fail, false)]
    {
        let request = ReadRequest { latest_event_times: vec![2_000_000], bad_records, ..ReadRequest::default() };
        let (summary, letters) = fates(source.clone(), vec![at(1), at(3), at(2)], request);
        assert_eq!(letters, if kept { vec!["future"] } else { Vec::new() }, "{bad_records:?}");
        let counters = &summary.counters[0];
        assert_eq!((counters.read, counters.future, counters.dead_letters(), counters.passed()), (3, 1, 0, 2));
        // They were written in second 5, as Kafka says.
        assert_eq!(summary.written_ahead, 3);
        assert_eq!(summary.partitions[TOPIC][&0].greatest_event_time, Some(2_000_000));
    }
}

#[test]
fn tombstones_and_control_records_of_change_data_are_counted_and_kept_nowhere() {
    let source = serde_json::json!({
        "format": "cdc",
        "columns": [{"name": "event_time", "type": "timestamp"}],
        "eventTime": {"column": "event_time"},
    });
    let values =
        ["null", r#"{"ts_ms":7}"#, r#"{"status":"END","id":"7"}"#, r#"{"a":1}"#, r#"{"op":"u","table":"t","ts_ms":7}"#];
    let mut values: Vec<_> = values.into_iter().map(|value| Some(value.as_bytes().to_vec())).collect();
    values.push(None);
    let request = ReadRequest { latest_event_times: vec![i64::MAX], ..ReadRequest::default() };
    let (summary, letters) = fates(source, values, request);
    let counters = &summary.counters[0];
    assert_eq!((counters.tombstone, counters.control, counters.dead_letters()), (2, 2, 1));
    assert_eq!((counters.read, counters.evidence(), counters.passed()), (6, 4, 1));
    assert_eq!(letters, ["missing_field"]);
    assert_eq!(summary.partitions[TOPIC][&0].greatest_event_time, Some(7_000));
}

#[test]
fn old_records_come_with_their_bytes_beside_their_rows() {
    let value = |second: i64| format!(r#"{{"at":{second},"pad":"{}"}}"#, "x".repeat(1_000)).into_bytes();
    let values: Vec<_> = (0..3_000).map(|n| Some(value(if n % 2 == 0 { 100 } else { 200 }))).collect();
    let source = InMemory { values: values.clone(), timestamp_ms: None, seen: Arc::default() };
    let columns = serde_json::json!({"columns": [{"name": "at", "type": "timestamp"}], "eventTime": {"column": "at"}});
    let reader = reader(source, decoder(columns));
    let request = |old_before| ReadRequest { old_before, ..everything(&values) };
    let reading = reader.read(request(vec![200_000_000])).unwrap();
    let (mut rows, mut letters) = (0, Vec::new());
    while let Part::Rows { rows: batch, old, .. } = reading.next().unwrap() {
        rows += batch.num_rows();
        let old = old.expect("every second one is old");
        assert!(old.num_rows() * 2 <= batch.num_rows() + 1, "no record comes before its row");
        let offsets = old["offset"].as_primitive::<datafusion::arrow::datatypes::Int64Type>();
        letters.extend(offsets.values().iter().copied());
        assert_eq!(old["value"].as_binary::<i32>().value(0), value(100));
        assert_eq!(old["reason"].as_string::<i32>().value(0), "late");
    }
    assert_eq!((rows, letters), (3_000, (0..3_000).step_by(2).collect()));
    let reading = reader.read(request(vec![])).unwrap();
    while let Part::Rows { old, .. } = reading.next().unwrap() {
        assert!(old.is_none());
    }
}
