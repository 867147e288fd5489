//! The reading thread: polls and decodes ahead of the pipeline, at most [`AHEAD`] of batches and bytes.
//!
//! It owns the source and a decoder for each of the job's tables. The pipeline sends requests; a micro-batch comes back as
//! a stream of [`Part`]s that ends with [`Part::Done`]. When the pipeline is slower, the queue fills and this thread waits; when it is gone, this
//! thread ends.

mod decoding;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use data_platform_crds::kafka::StartingOffsets;
use data_platform_crds::source::BadRecordAction;
use datafusion::arrow::array::RecordBatch;

use self::decoding::{hand_on, read};
use crate::counters::SourceCounters;
use crate::offsets::{Bounds, Partitions};
use crate::source::again::{self, Refusals};
use crate::source::ahead;
use crate::source::dead_letter::DeadLetters;
use crate::source::decode::{DecodePlan, Decoder};
use crate::source::places::Places;
use crate::source::routes::TopicRoutes;
use crate::source::{Identity, Source, SourceError, WithoutLeader};
use crate::stop::StopSignal;

/// What may be on its way to the pipeline: enough batches to keep both threads busy, and few enough bytes that the
/// largest records leave the smallest pod (256 MiB) its memory; a batch of the usual records has less than a megabyte.
const AHEAD: ahead::Limits = ahead::Limits { items: 8, bytes: 16 << 20 };
/// Rows of a batch: what the aggregation likes (it fits the cache), and large enough to cost nothing per batch.
const BATCH_ROWS: usize = 8_192;
/// Bytes after which a batch is handed on before it has all its rows: large rows must not fill the memory.
const BATCH_BYTES: usize = 4 << 20;

/// A micro-batch to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadRequest {
    /// Ranges `[start, end)`.
    pub ranges: Partitions<(i64, i64)>,
    /// By source: events after this time are refused as future, in microseconds.
    pub latest_event_times: Vec<i64>,
    /// By source: records with an event time before this may be late, and are handed on with their bytes. Empty: none is.
    pub old_before: Vec<i64>,
    /// Whether bad records are wanted as rows.
    pub bad_records: BadRecordAction,
    /// Look at the topics again afterwards: a topic that was created again meanwhile must be noticed before anything
    /// is decided.
    pub look_again: bool,
    /// What to do with a partition that has no leader.
    pub without_leader: WithoutLeader,
}

/// A part of a micro-batch.
#[derive(Debug)]
pub enum Part {
    /// Decoded rows.
    Rows {
        /// Index of their source.
        source: usize,
        /// The rows.
        rows: RecordBatch,
        /// Which records they are.
        places: Places,
        /// The records of the old ones among them, as dead letters; see [`ReadRequest::old_before`].
        old: Option<RecordBatch>,
    },
    /// Bad records.
    DeadLetters(RecordBatch),
    /// The end.
    Done(Box<ReadSummary>),
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadSummary {
    /// By partition, those of which something was read.
    pub partitions: Partitions<PartitionSummary>,
    /// What happened to the records, by source.
    pub counters: Vec<SourceCounters>,
    /// Records that Kafka says were written after their source's `latest_event_times`.
    pub written_ahead: u64,
    /// The topics after reading, or why nobody told them, if that was asked for.
    pub identity: Option<Result<Identity, SourceError>>,
}

/// What was read of one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionSummary {
    /// First offset.
    pub start: i64,
    /// One past the last offset.
    pub end: i64,
    /// Records, tombstones and bad ones among them.
    pub records: u64,
    /// Greatest event time of a valid record.
    pub greatest_event_time: Option<i64>,
    /// Whether there was a valid record.
    pub has_valid: bool,
    /// Kafka's time of the last record, in microseconds; `None` where the broker has none.
    pub written: Option<i64>,
}

impl ReadSummary {
    /// Records of all sources.
    pub fn read(&self) -> u64 {
        self.counters.iter().map(|counters| counters.read).sum()
    }

    /// The most records that may be among the dead letters.
    pub fn kept_most(&self) -> u64 {
        self.counters.iter().map(|counters| *counters.kept().end()).sum()
    }
}

/// A decoder for each source, and which of them has which topics.
pub struct Decoders {
    /// In the order of the job's sources.
    pub decoders: Vec<Decoder>,
    /// Whose a topic is.
    pub routes: TopicRoutes,
}

impl Decoders {
    /// New decoders of these sources.
    pub fn new<'a>(sources: impl IntoIterator<Item = &'a DecodePlan>, routes: &TopicRoutes) -> Self {
        let decoders = sources.into_iter().map(|decode| Decoder::new(decode.clone())).collect();
        Self { decoders, routes: routes.clone() }
    }
}

enum Request {
    Identity(SyncSender<Result<Identity, SourceError>>),
    Resolve(StartingOffsets, SyncSender<Result<Partitions<i64>, SourceError>>),
    Bounds(SyncSender<Result<Partitions<Bounds>, SourceError>>),
    Assign(Partitions<i64>, SyncSender<Result<(), SourceError>>),
    Read(ReadRequest, PartSender),
    Decode(Decoders),
    Again(Refusals, Partitions<i64>, PartSender),
    TellGroup(Partitions<i64>),
}

type PartSender = ahead::Sender<Result<Part, SourceError>>;

/// The pipeline's end of the reading thread.
pub struct Reader {
    requests: Option<SyncSender<Request>>,
    thread: Option<JoinHandle<()>>,
}

/// A micro-batch that is being read.
pub struct Reading {
    parts: ahead::Receiver<Result<Part, SourceError>>,
}

impl Part {
    fn bytes(&self) -> usize {
        match self {
            Self::Rows { rows, old, .. } => {
                rows.get_array_memory_size() + old.as_ref().map_or(0, RecordBatch::get_array_memory_size)
            }
            Self::DeadLetters(batch) => batch.get_array_memory_size(),
            Self::Done(_) => 0,
        }
    }
}

impl Reading {
    /// The next part.
    ///
    /// # Errors
    /// What the source said; then the micro-batch is void.
    pub fn next(&self) -> Result<Part, SourceError> {
        self.parts.receive().unwrap_or_else(|| Err(thread_is_gone()))
    }
}

fn thread_is_gone() -> SourceError {
    SourceError::Failed { operation: "read", detail: "the reading thread ended".to_owned() }
}

impl Reader {
    /// Starts the thread.
    ///
    /// # Panics
    /// When the system gives no thread.
    pub fn start(source: Box<dyn Source>, decoders: Decoders, stop: StopSignal) -> Self {
        let (requests, inbox) = sync_channel(2);
        // What the thread says is said by the job.
        let span = tracing::Span::current();
        let thread = std::thread::Builder::new()
            .name("reader".to_owned())
            .spawn(move || span.in_scope(|| serve(source, decoders, &stop, &inbox)))
            .expect("the system has a thread for each job");
        Self { requests: Some(requests), thread: Some(thread) }
    }

    fn ask<T>(&self, request: impl FnOnce(SyncSender<Result<T, SourceError>>) -> Request) -> Result<T, SourceError> {
        let (answer, inbox) = sync_channel(1);
        self.send(request(answer))?;
        inbox.recv().unwrap_or_else(|_| Err(thread_is_gone()))
    }

    fn send(&self, request: Request) -> Result<(), SourceError> {
        let requests = self.requests.as_ref().ok_or_else(thread_is_gone)?;
        requests.send(request).map_err(|_| thread_is_gone())
    }

    /// See [`Source::identity`].
    ///
    /// # Errors
    /// What the source said.
    pub fn identity(&self) -> Result<Identity, SourceError> {
        self.ask(Request::Identity)
    }

    /// See [`Source::resolve`].
    ///
    /// # Errors
    /// What the source said.
    pub fn resolve(&self, starting: &StartingOffsets) -> Result<Partitions<i64>, SourceError> {
        self.ask(|answer| Request::Resolve(starting.clone(), answer))
    }

    /// See [`Source::bounds`].
    ///
    /// # Errors
    /// What the source said.
    pub fn bounds(&self) -> Result<Partitions<Bounds>, SourceError> {
        self.ask(Request::Bounds)
    }

    /// See [`Source::assign`].
    ///
    /// # Errors
    /// What the source said.
    pub fn assign(&self, positions: &Partitions<i64>) -> Result<(), SourceError> {
        self.ask(|answer| Request::Assign(positions.clone(), answer))
    }

    /// Begins to read a micro-batch.
    ///
    /// # Errors
    /// When the thread is gone.
    pub fn read(&self, request: ReadRequest) -> Result<Reading, SourceError> {
        let (parts, inbox) = ahead::queue(AHEAD);
        self.send(Request::Read(request, parts))?;
        Ok(Reading { parts: inbox })
    }

    /// Reads records again that a query refuses, and gives them as dead letters. What is read next begins at `then`.
    ///
    /// # Errors
    /// When the thread is gone.
    pub fn read_again(&self, refused: Refusals, then: Partitions<i64>) -> Result<Reading, SourceError> {
        let (parts, inbox) = ahead::queue(AHEAD);
        self.send(Request::Again(refused, then, parts))?;
        Ok(Reading { parts: inbox })
    }

    /// Decodes otherwise from here on.
    ///
    /// # Errors
    /// When the thread is gone.
    pub fn decode_with(&self, decoders: Decoders) -> Result<(), SourceError> {
        self.send(Request::Decode(decoders))
    }

    /// See [`Source::tell_group`].
    pub fn tell_group(&self, positions: &Partitions<i64>) {
        // Nothing depends on it.
        let _ = self.send(Request::TellGroup(positions.clone()));
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // A panic was caught and reported inside.
            let _ = thread.join();
        }
    }
}

fn serve(mut source: Box<dyn Source>, mut decoders: Decoders, stop: &StopSignal, inbox: &Receiver<Request>) {
    source.connect();
    while let Ok(request) = inbox.recv() {
        // Answers that nobody waits for any more are dropped.
        match request {
            Request::Identity(answer) => drop(answer.send(source.identity())),
            Request::Resolve(starting, answer) => drop(answer.send(source.resolve(&starting))),
            Request::Bounds(answer) => drop(answer.send(source.bounds())),
            Request::Assign(positions, answer) => drop(answer.send(source.assign(&positions))),
            Request::TellGroup(positions) => source.tell_group(&positions),
            Request::Decode(others) => decoders = others,
            Request::Again(refused, then, parts) => {
                let mut hand_on = |letters: &mut DeadLetters| match letters.take() {
                    Some(letters) => hand_on(&parts, Part::DeadLetters(letters)),
                    None => Ok(()),
                };
                let read = again::read_again(&mut *source, stop, refused, &then, &mut hand_on);
                let done = read.map(|()| Part::Done(Box::default()));
                let _ = parts.send(done, 0);
            }
            Request::Read(request, parts) => {
                let read = AssertUnwindSafe(|| read(&mut *source, &mut decoders, stop, &request, &parts));
                let result = catch_unwind(read).unwrap_or_else(|_| {
                    Err(SourceError::Failed {
                        operation: "decode",
                        detail: "a bug in the decoder (see the log)".to_owned(),
                    })
                });
                // What an abandoned micro-batch left must not become part of the next.
                decoders.decoders.iter_mut().for_each(|decoder| drop(decoder.finish()));
                let _ = match result {
                    Ok(summary) => parts.send(Ok(Part::Done(Box::new(summary))), 0),
                    Err(error) => parts.send(Err(error), 0),
                };
            }
        }
    }
}

#[cfg(test)]
mod tests;
