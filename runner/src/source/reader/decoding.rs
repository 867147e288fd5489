//! One micro-batch on the reader's thread: each record goes to its decoder, is counted, and is handed on as a row or as a dead
//! letter.

use data_platform_crds::source::BadRecordAction;

use super::{BATCH_BYTES, BATCH_ROWS, Decoders, Part, PartSender, PartitionSummary, ReadRequest, ReadSummary};
use crate::clock::show_time;
use crate::counters::SourceCounters;
use crate::offsets::Partitions;
use crate::source::dead_letter::{self, DeadLetters};
use crate::source::decode::{BadReason, Decoder};
use crate::source::places::Places;
use crate::source::record::Record;
use crate::source::routes::TopicRoutes;
use crate::source::schemas::{self, Schemas};
use crate::source::{PartitionRead, Source, SourceError};
use crate::stop::StopSignal;

/// Reads and decodes a micro-batch.
pub(super) fn read(
    source: &mut dyn Source,
    decoders: &mut Decoders,
    stop: &StopSignal,
    request: &ReadRequest,
    parts: &PartSender,
) -> Result<ReadSummary, SourceError> {
    let schemas = source.schemas();
    learn_files(&mut decoders.decoders)?;
    let mut decoding = Decoding::new(decoders, request, parts);
    decoding.schemas = Some((&schemas, stop));
    let reads = source.read(&request.ranges, request.without_leader, stop, &mut |record| decoding.record(record))?;
    decoding.flush()?;
    let Decoding { counters, times, .. } = decoding;
    let summary = |topic: &str, partition, range: &PartitionRead| {
        let time = times.at(topic, partition).unwrap_or_default();
        PartitionSummary {
            start: range.start,
            end: range.end,
            records: range.records,
            greatest_event_time: time.greatest,
            has_valid: time.valid,
            written: time.written_ms.map(|ms| ms.saturating_mul(1_000)),
        }
    };
    let partitions = reads.map_at(summary);
    let identity = request.look_again.then(|| source.identity());
    let written_ahead = counters.iter().map(|counters| counters.ahead).sum();
    let counters = counters.into_iter().map(DecodeCounters::into_source_counters).collect();
    Ok(ReadSummary { partitions, counters, written_ahead, identity })
}

#[derive(Clone, Copy, Default)]
struct PartitionTimes {
    greatest: Option<i64>,
    valid: bool,
    written_ms: Option<i64>,
}

/// Counters without the allocation of a name per record.
#[derive(Clone, Default)]
struct DecodeCounters {
    read: u64,
    bytes: u64,
    tombstone: u64,
    aside: [u64; BadReason::ALL.len()],
    ahead: u64,
}

impl DecodeCounters {
    fn into_source_counters(self) -> SourceCounters {
        let mut counters = SourceCounters {
            read: self.read,
            bytes: self.bytes,
            tombstone: self.tombstone,
            ..SourceCounters::default()
        };
        for (reason, number) in BadReason::ALL.into_iter().zip(self.aside) {
            match (reason, number) {
                (_, 0) => {}
                (BadReason::Future, number) => counters.future = number,
                (BadReason::Tombstone, number) => counters.tombstone += number,
                (BadReason::Control, number) => counters.control = number,
                (reason, number) => {
                    counters.dead_letter.insert(reason.as_str().to_owned(), number);
                }
            }
        }
        counters
    }
}

/// Reads the schemas that lie in files, once.
fn learn_files(decoders: &mut [Decoder]) -> Result<(), SourceError> {
    for decoder in decoders {
        let Some((path, kind)) = decoder.schema_file_needed() else { continue };
        let path = path.to_owned();
        let schema = schemas::of_file(&path, kind)?;
        if let Some(problem) = decoder.learn(&schema) {
            return Err(SourceError::SchemaFile { path, problem: problem.to_string() });
        }
    }
    Ok(())
}

pub(super) fn hand_on(parts: &PartSender, part: Part) -> Result<(), SourceError> {
    // Nobody takes it: the pipeline gave this micro-batch up.
    let bytes = part.bytes();
    parts.send(Ok(part), bytes).map_err(|_| SourceError::Stopped)
}

struct Decoding<'a> {
    decoders: &'a mut [Decoder],
    routes: &'a TopicRoutes,
    request: &'a ReadRequest,
    /// By source: the latest time, in milliseconds, that is not in the future.
    latest_ms: Vec<i64>,
    parts: &'a PartSender,
    letters: DeadLetters,
    /// By source: the old records among the rows that are not handed on yet.
    old: Vec<DeadLetters>,
    counters: Vec<DecodeCounters>,
    /// By source: the records of the rows that are not handed on yet.
    places: Vec<Places>,
    times: Partitions<PartitionTimes>,
    /// Records come in runs of one partition: its times, until the next one comes.
    current: (String, i32, PartitionTimes),
    /// The source of that partition.
    source: usize,
    /// Where schemas are found, and until when they are waited for.
    schemas: Option<(&'a Schemas, &'a StopSignal)>,
}

impl<'a> Decoding<'a> {
    fn new(decoders: &'a mut Decoders, request: &'a ReadRequest, parts: &'a PartSender) -> Self {
        let current = (String::new(), -1, PartitionTimes::default());
        let Decoders { decoders, routes } = decoders;
        let (letters, counters) = (DeadLetters::new(), vec![DecodeCounters::default(); decoders.len()]);
        let places = vec![Places::default(); decoders.len()];
        let old = request.old_before.iter().map(|_| DeadLetters::new()).collect();
        let latest_ms = request.latest_event_times.iter().map(|time| time.div_euclid(1_000)).collect();
        Self {
            decoders,
            routes,
            request,
            latest_ms,
            parts,
            letters,
            old,
            counters,
            places,
            times: Partitions::new(),
            current,
            source: 0,
            schemas: None,
        }
    }

    #[inline]
    fn record(&mut self, record: &Record<'_>) -> Result<(), SourceError> {
        if self.current.1 != record.partition || self.current.0 != record.topic {
            self.turn_to(record.topic, record.partition);
        }
        let counters = &mut self.counters[self.source];
        counters.read += 1;
        self.current.2.written_ms = record.time_ms();
        counters.ahead += u64::from(self.current.2.written_ms.is_some_and(|time| time > self.latest_ms[self.source]));
        let Some(value) = record.value else {
            counters.tombstone += 1;
            return Ok(());
        };
        counters.bytes += value.len() as u64;
        if let Some(id) = self.decoders[self.source].schema_needed(record) {
            self.learn(id, record)?;
        }
        match self.decoders[self.source].decode(record, self.request.latest_event_times[self.source]) {
            Ok(event_time) => {
                self.current.2.valid = true;
                self.current.2.greatest = self.current.2.greatest.max(event_time);
                self.places[self.source].push(record.topic, record.partition, record.offset);
                let old_before = self.request.old_before.get(self.source).copied();
                if event_time < old_before
                    && let Some(event_time) = event_time
                {
                    self.keep_old(record, event_time);
                }
            }
            Err(bad) => self.aside(record, &bad)?,
        }
        let decoder = &mut self.decoders[self.source];
        let is_full = self.old.get(self.source).is_some_and(DeadLetters::is_full);
        if is_full || decoder.rows() >= BATCH_ROWS || decoder.holds(BATCH_BYTES) {
            self.hand_on_rows(self.source)
        } else {
            Ok(())
        }
    }

    /// Finds a schema that the decoder has not met before. Without it, the record is bad.
    #[cold]
    fn learn(&mut self, id: u32, record: &Record<'_>) -> Result<(), SourceError> {
        let Some((schemas, stop)) = self.schemas else { return Ok(()) };
        let Some(schema) = schemas.find(id, stop)? else { return Ok(()) };
        let decoder = &mut self.decoders[self.source];
        let topic = record.topic;
        match decoder.learn(&schema) {
            None => tracing::info!(topic, id, kind = %schema.kind, "a schema that the job reads from here on"),
            Some(problem) => {
                let columns = decoder.declared();
                let text = &schema.text;
                tracing::error!(topic, id, "{problem}; the schema: {text}; the columns of the job: {columns}");
            }
        }
        Ok(())
    }

    #[cold]
    fn aside(&mut self, record: &Record<'_>, bad: &crate::source::decode::BadRecord) -> Result<(), SourceError> {
        let index = BadReason::ALL.iter().position(|reason| *reason == bad.reason).expect("ALL has every reason");
        self.counters[self.source].aside[index] += 1;
        let is_kept = bad.reason.is_bad() || bad.reason == BadReason::Future;
        match self.request.bad_records {
            _ if !is_kept => Ok(()),
            BadRecordAction::Drop => Ok(()),
            // Nothing is wrong with it but a clock.
            BadRecordAction::Fail if !bad.reason.is_bad() => Ok(()),
            BadRecordAction::Fail => Err(SourceError::BadRecord {
                topic: record.topic.to_owned(),
                partition: record.partition,
                offset: record.offset,
                problem: format!("{bad} ({})", bad.reason),
            }),
            BadRecordAction::DeadLetter => {
                self.letters.push(record, bad);
                if self.letters.is_full() {
                    self.hand_on(|decoding| decoding.letters.take().map(Part::DeadLetters))
                } else {
                    Ok(())
                }
            }
        }
    }

    #[cold]
    fn keep_old(&mut self, record: &Record<'_>, event_time: i64) {
        let time = show_time(event_time);
        let detail = format!("its event time is {time}, and every window that it could be in was closed");
        self.old[self.source].push_refused(record, dead_letter::LATE, &detail);
    }

    #[cold]
    fn turn_to(&mut self, topic: &str, partition: i32) {
        self.keep_times();
        let known = self.times.at(topic, partition).unwrap_or_default();
        self.current = (topic.to_owned(), partition, known);
        // The source reads only topics of the job.
        self.source = self.routes.source_of(topic).unwrap_or_default();
        self.places[self.source].turn();
    }

    fn keep_times(&mut self) {
        let (topic, partition, times) = &self.current;
        if *partition >= 0 {
            self.times.insert(topic, *partition, *times);
        }
    }

    fn hand_on(&mut self, take: impl FnOnce(&mut Self) -> Option<Part>) -> Result<(), SourceError> {
        take(self).map_or(Ok(()), |part| hand_on(self.parts, part))
    }

    fn hand_on_rows(&mut self, source: usize) -> Result<(), SourceError> {
        self.hand_on(|decoding| {
            let places = std::mem::take(&mut decoding.places[source]);
            let old = decoding.old.get_mut(source).and_then(DeadLetters::take);
            Some(Part::Rows { source, rows: decoding.decoders[source].finish(), places, old })
        })
    }

    fn flush(&mut self) -> Result<(), SourceError> {
        self.keep_times();
        for source in 0..self.decoders.len() {
            if self.decoders[source].rows() > 0 {
                self.hand_on_rows(source)?;
            }
        }
        self.hand_on(|decoding| decoding.letters.take().map(Part::DeadLetters))
    }
}
