//! Duplicates of a running job: left out between decoder and queries, counted, and written into the commit.
//!
//! ```text
//! reader -> rows of a source -> first ones -> every query that reads the source
//!                                   \ remembered in buckets, which are parts of the state as windows are
//! ```
//!
//! Which of two records came first may depend on the order in which Kafka gave the partitions. So the commit says which
//! records were duplicates, and a rebuild leaves out the same.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::arrow::array::{BooleanArray, RecordBatch};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::error::ArrowError;

use crate::checkpoint::duplicates::Duplicates;
use crate::checkpoint::job_state::ReplayBatch;
use crate::checkpoint::record::StateObject;
use crate::offsets::{Partitions, Range};
use crate::pipeline::error::{JobError, Reason};
use crate::pipeline::status::DeduplicateStatus;
use crate::pipeline::streaming::StreamingSettings;
use crate::pipeline::streaming::batch::Writers;
use crate::pipeline::streaming::flows::RunningFlow;
use crate::pipeline::streaming::start::Session;
use crate::source::places::Places;
use crate::transform::{self, Deduplicator};

/// What a job remembers to recognise duplicates.
pub(super) struct RunningDeduplicator {
    pub(super) deduplicator: Deduplicator,
    /// Objects of the last snapshot, by source and start of their bucket.
    pub(super) objects: BTreeMap<(usize, i64), StateObject>,
}

impl RunningDeduplicator {
    /// One that has seen nothing, if the job wants one.
    pub(super) fn new(settings: &StreamingSettings) -> Option<Self> {
        let deduplicator = settings.deduplication.as_ref()?.deduplicator();
        Some(Self { deduplicator, objects: BTreeMap::new() })
    }

    /// The batch that first put a record into what is remembered.
    pub(super) fn first_version(&self) -> Option<u64> {
        self.deduplicator.buckets().iter().map(|bucket| bucket.first_version).min()
    }

    pub(super) fn status(&self) -> DeduplicateStatus {
        let Self { deduplicator, .. } = self;
        DeduplicateStatus { keys: deduplicator.keys() as u64, bytes: deduplicator.size_bytes() as u64 }
    }
}

/// The duplicates of a micro-batch.
#[derive(Default)]
pub(super) struct FoundDuplicates {
    /// By source.
    counts: BTreeMap<usize, u64>,
    offsets: Partitions<BTreeSet<i64>>,
}

impl FoundDuplicates {
    /// Those of a source.
    pub(super) fn of(&self, source: usize) -> u64 {
        self.counts.get(&source).copied().unwrap_or_default()
    }

    /// As the commit keeps them.
    pub(super) fn by_range(&self, ranges: &Partitions<Range>) -> Partitions<Duplicates> {
        let of_range = |(topic, partition, offsets): (_, _, &BTreeSet<i64>)| {
            let start = ranges.get(topic, partition)?.start;
            Some((topic, partition, Duplicates::new(start, offsets.iter().copied())))
        };
        self.offsets.iter().filter_map(of_range).collect()
    }

    fn note(&mut self, source: usize, places: &Places, is_first: &BooleanArray) {
        for (row, (topic, partition, offset)) in places.all().enumerate() {
            if is_first.value(row) {
                continue;
            }
            self.offsets.or_insert(topic, partition, BTreeSet::new()).insert(offset);
            *self.counts.entry(source).or_default() += 1;
        }
    }
}

impl Session<'_> {
    /// The rows of a micro-batch that are no duplicates, and their records.
    pub(super) fn first_rows(
        &mut self,
        source: usize,
        rows: RecordBatch,
        places: Places,
        writers: &mut Writers,
    ) -> Result<(RecordBatch, Places), JobError> {
        let late_before = self.late_before(source, self.log.state().watermark);
        let Some(running) = &mut self.deduplicator else { return Ok((rows, places)) };
        let version = writers.attempt.version;
        let Some(is_first) = running.deduplicator.firsts(source, &rows, version, late_before)? else {
            return Ok((rows, places));
        };
        writers.duplicates.note(source, &places, &is_first);
        Ok((only(&rows, &is_first)?, places.only(|row| is_first.value(row))))
    }

    /// The rows of a batch that is repeated which were no duplicates then. The source is one of those of the batch's time.
    pub(super) fn first_rows_again(
        &mut self,
        source: usize,
        rows: RecordBatch,
        places: &Places,
        (version, batch): (u64, &ReplayBatch),
    ) -> Result<RecordBatch, JobError> {
        let first = self.log.state().replay_from.as_ref().and_then(|from| from.deduplicate);
        let name = &self.repeated_sources()[source].name;
        let now = self.settings.sources.iter().position(|known| known.name == *name);
        let late_before = now.map_or(i64::MIN, |now| self.late_before(now, batch.watermark_before));
        let Some(running) = &mut self.deduplicator else { return Ok(rows) };
        let rows = if batch.duplicates.is_empty() { rows } else { only(&rows, &were_first(places, batch))? };
        let is_remembered = first.is_some_and(|first| first <= batch.until.max(version));
        if let Some(now) = now.filter(|_| is_remembered) {
            match running.deduplicator.remember(now, &rows, version, late_before) {
                // An earlier job had not all the keys.
                Ok(()) | Err(transform::Error::Input { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(rows)
    }

    /// Forgets what only late rows could meet.
    pub(super) fn forget_duplicates(&mut self, watermark: i64) {
        for source in 0..self.settings.sources.len() {
            // A query without windows takes rows of any age; those behind the watermark are not worth to be waited for.
            let horizon = self.reading(source).map(|running| running.operator.late_before(watermark));
            let horizon = horizon.map(|before| before.unwrap_or(watermark)).min().unwrap_or(watermark);
            if let Some(running) = &mut self.deduplicator {
                running.deduplicator.forget(source, horizon);
            }
        }
    }

    /// No query takes rows of a source that are older than this.
    fn late_before(&self, source: usize, watermark: Option<i64>) -> i64 {
        let Some(watermark) = watermark else { return i64::MIN };
        let all = self.reading(source).map(|running| running.operator.late_before(watermark));
        all.min().flatten().unwrap_or(i64::MIN)
    }

    /// The queries that read a source.
    pub(super) fn reading(&self, source: usize) -> impl Iterator<Item = &RunningFlow> {
        let flows = self.settings.flows.iter().zip(&self.flows);
        flows.filter(move |(flow, _)| flow.reads(source)).map(|(_, running)| running)
    }
}

/// Which rows of a batch that is repeated were no duplicates.
fn were_first(places: &Places, batch: &ReplayBatch) -> BooleanArray {
    let offsets = |(topic, partition, of_range): (_, _, &Duplicates)| {
        let start = batch.partitions.get(topic, partition)?.start;
        Some((topic, partition, of_range.offsets(start).collect()))
    };
    let duplicates: Partitions<BTreeSet<i64>> = batch.duplicates.iter().filter_map(offsets).collect();
    let is_first = |(topic, partition, offset): (&str, i32, i64)| {
        Some(!duplicates.get(topic, partition).is_some_and(|known| known.contains(&offset)))
    };
    places.all().map(is_first).collect()
}

fn only(rows: &RecordBatch, is_first: &BooleanArray) -> Result<RecordBatch, JobError> {
    filter_record_batch(rows, is_first).map_err(|error: ArrowError| fault(error.to_string()))
}

fn fault(problem: String) -> JobError {
    JobError::passing(Reason::InternalError, format!("cannot leave duplicates out: {problem}"), "report this")
}
