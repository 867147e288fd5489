//! The state at start: from the last snapshot, and the batches after it executed again as they are in the log.
//!
//! A rebuild repeats the log's own cuts, with their committed watermarks, and closes windows without emitting them: rows
//! that were late then are late again, whatever the order in which Kafka gives the records now.

pub(super) mod earlier;

use bytes::Bytes;

use crate::checkpoint::job_state::{ReplayBatch, Snapshot};
use crate::checkpoint::record::StateObject;
use crate::faults::{Guard, Moment, Step};
use crate::offsets::Partitions;
use crate::pipeline::error::{JobError, Reason};
use crate::pipeline::job_plan::Flow;
use crate::pipeline::snapshot;
use crate::pipeline::status::Phase;
use crate::pipeline::streaming::rebuild::earlier::flow_at;
use crate::pipeline::streaming::start::Session;
use crate::source::SourceError;
use crate::source::reader::{Part, ReadRequest, ReadSummary};
use crate::storage::checksum::checksum;
use crate::transform::Deduplication;

impl Session<'_> {
    /// Brings every flow into the state after the last commit.
    pub(super) async fn restore(&mut self) -> Result<(), JobError> {
        let state = self.log.state();
        if state.replay_from.is_none() {
            return Ok(());
        }
        let snapshot = state.usable_snapshot().cloned();
        let faults = &self.environment.faults;
        faults.reached(Step::Restore, Moment::Before);
        let restored = match snapshot {
            Some(snapshot) => self.restore_snapshot(&snapshot).await?,
            None => None,
        };
        faults.reached(Step::Restore, Moment::After);
        let batches: Vec<_> = match restored {
            Some(version) => self.log.state().replay.range(version + 1..).map(|(v, b)| (*v, b.clone())).collect(),
            None if !self.log.state().can_replay_all() => {
                return Err(state_lost("a topic was created again since; its old records are gone".to_owned()));
            }
            None => self.log.state().replay.iter().map(|(v, b)| (*v, b.clone())).collect(),
        };
        self.replay(batches).await?;
        self.compute_as_of(u64::MAX)
    }

    /// Loads the last snapshot; `None` if it cannot be used, which is no error: the state is a cache.
    async fn restore_snapshot(&mut self, last: &Snapshot) -> Result<Option<u64>, JobError> {
        // Its columns are those of the query that made it.
        self.compute_as_of(last.version)?;
        for object in &last.objects {
            if let Err(problem) = self.restore_part(object).await? {
                tracing::warn!(path = object.path, problem, "the state cannot be used; it is rebuilt from Kafka");
                self.forget_state()?;
                return Ok(None);
            }
        }
        Ok(Some(last.version))
    }

    /// Loads one part of the state; the inner error says why its object cannot be used.
    async fn restore_part(&mut self, object: &StateObject) -> Result<Result<(), String>, JobError> {
        let Some(content) = self.log.store().get(&object.path).await? else {
            return Ok(Err("it is not there".to_owned()));
        };
        Ok(self.load(object, content))
    }

    fn load(&mut self, object: &StateObject, content: Bytes) -> Result<(), String> {
        if content.len() as u64 != object.bytes || checksum(&content) != object.xxh3 {
            return Err("it is damaged".to_owned());
        }
        if let Some(source) = &object.source {
            return self.load_duplicates(source, object, content);
        }
        let index = self.settings.flows.iter().position(|flow| flow.output == object.output);
        let found = index.and_then(|index| Some((flow_at(self.settings, self.computes.as_ref(), index)?, index)));
        // Nothing is open of an output that is not there any more.
        let Some((flow, index)) = found else { return Ok(()) };
        let running = &mut self.flows[index];
        let schema = flow.query.state_schema().ok_or("the query has no state")?;
        let rows = snapshot::decode(&schema, content).map_err(|error| error.to_string())?;
        let restored = running.operator.restore(object.part, object.first_version, &rows);
        restored.map_err(|error| error.to_string())?;
        running.objects.insert(object.part, object.clone());
        Ok(())
    }

    fn load_duplicates(&mut self, source: &str, object: &StateObject, content: Bytes) -> Result<(), String> {
        let index = self.settings.sources.iter().position(|known| known.name == source);
        let (Some(index), Some(running)) = (index, &mut self.deduplicator) else { return Ok(()) };
        let rows = snapshot::decode(&Deduplication::state_schema(), content).map_err(|error| error.to_string())?;
        let restored = running.deduplicator.restore(index, object.part, object.first_version, &rows);
        restored.map_err(|error| error.to_string())?;
        running.objects.insert((index, object.part), object.clone());
        Ok(())
    }

    /// Executes logged batches again.
    async fn replay(&mut self, batches: Vec<(u64, ReplayBatch)>) -> Result<(), JobError> {
        let Some((_, first)) = batches.first() else { return Ok(()) };
        let records: u64 = batches.iter().map(|(_, batch)| count(batch)).sum();
        tracing::info!(batches = batches.len(), records, "rebuilding the state from Kafka");
        let status = &self.environment.status;
        status.enter(Phase::Starting, "Rebuilding", format!("rebuilding the state from {records} records"));
        let mut positions = self.positions.clone();
        let starts = batches.iter().fold(first.partitions.map(|range| range.start), first_starts);
        positions.extend(starts.iter().map(|(topic, partition, start)| (topic, partition, *start)));
        let mut assigned = false;
        let batches = if self.environment.faults.guard(Guard::LoggedCuts) { batches } else { vec![merge(batches)] };
        for (version, batch) in batches {
            self.environment.faults.reached(Step::Replay, Moment::Before);
            self.compute_as_of(version)?;
            // Where offsets were gone, the batch jumped; so does its repetition.
            if skip_lost(&mut positions, &batch) || !assigned {
                self.reader.assign(&positions)?;
                assigned = true;
            }
            self.references_of(version, &batch).await?;
            self.replay_batch(version, &batch)?;
            positions.extend(batch.partitions.iter().map(|(topic, partition, range)| (topic, partition, range.end)));
            self.environment.faults.reached(Step::Replay, Moment::After);
            self.records_since_snapshot += count(&batch);
        }
        Ok(())
    }

    fn replay_batch(&mut self, version: u64, batch: &ReplayBatch) -> Result<(), JobError> {
        let ranges = batch.partitions.map(|range| (range.lost_until.unwrap_or(range.start), range.end));
        let latest_event_times = self.repeated_sources().iter().map(|source| latest(batch, &source.name)).collect();
        let request = ReadRequest { ranges, latest_event_times, ..ReadRequest::default() };
        let open = self.log.state().replay_from.as_ref().map(|from| from.outputs.clone()).unwrap_or_default();
        // An output whose open windows are younger than this batch had, perhaps, another query then.
        let is_repeated = |flow: &Flow| open.get(&flow.output).is_some_and(|first| *first <= batch.until.max(version));
        let reading = self.reader.read(request)?;
        let summary = loop {
            match reading.next().map_err(|error| lost(version, error))? {
                Part::Rows { source, rows, places, .. } => {
                    let rows = self.first_rows_again(source, rows, &places, (version, batch))?;
                    let (settings, computes) = (self.settings, self.computes.as_ref());
                    let of = |(index, running)| Some((flow_at(settings, computes, index)?, running));
                    let flows = self.flows.iter_mut().enumerate().filter_map(of);
                    for (flow, running) in flows.filter(|(flow, _)| is_repeated(flow)) {
                        let ingested = running.ingest(flow, source, &rows, batch.watermark_before, version);
                        drop(ingested.transpose()?);
                    }
                }
                Part::DeadLetters(_) => {}
                Part::Done(summary) => break summary,
            }
        };
        check_records(version, batch, &summary)?;
        if let Some(watermark) = batch.watermark {
            for running in &mut self.flows {
                running.operator.discard(watermark)?;
            }
            self.forget_duplicates(watermark);
        }
        Ok(())
    }
}

/// Where the partitions of later batches begin, as far as no earlier one has them.
fn first_starts(mut starts: Partitions<i64>, (_, batch): &(u64, ReplayBatch)) -> Partitions<i64> {
    for (topic, partition, range) in batch.partitions.iter() {
        starts.or_insert(topic, partition, range.start);
    }
    starts
}

/// Moves positions over offsets that were gone when the batch was first read; tells whether there were any.
fn skip_lost(positions: &mut Partitions<i64>, batch: &ReplayBatch) -> bool {
    let mut skipped = false;
    for (topic, partition, range) in batch.partitions.iter() {
        if let Some(lost_until) = range.lost_until {
            positions.insert(topic, partition, lost_until);
            skipped = true;
        }
    }
    skipped
}

/// Events after this time were refused then. A source that is called otherwise now is bounded by what the others were.
fn latest(batch: &ReplayBatch, source: &str) -> i64 {
    let times = &batch.latest_event_times;
    times.get(source).or(times.values().max()).copied().unwrap_or(i64::MAX)
}

fn count(batch: &ReplayBatch) -> u64 {
    batch.partitions.values().map(|range| range.records).sum()
}

/// A negative control: one cut instead of the logged ones.
fn merge(batches: Vec<(u64, ReplayBatch)>) -> (u64, ReplayBatch) {
    let mut batches = batches.into_iter();
    let (version, mut merged) = batches.next().expect("there is a first batch");
    for (_, batch) in batches {
        merged.watermark = batch.watermark;
        for (topic, partition, range) in batch.partitions.iter() {
            let whole = merged.partitions.or_insert(topic, partition, *range);
            whole.records += if whole.end == range.end { 0 } else { range.records };
            whole.end = range.end;
        }
    }
    (version, merged)
}

/// A rebuild that reads other records than the batch did would give another state.
fn check_records(version: u64, batch: &ReplayBatch, summary: &ReadSummary) -> Result<(), JobError> {
    for (topic, partition, range) in batch.partitions.iter() {
        let read = summary.partitions.get(topic, partition).map_or(0, |read| read.records);
        if read != range.records {
            return Err(state_lost(format!(
                "batch {version} read {} records of {topic} partition {partition} offsets [{}, {}); now there are {read}",
                range.records, range.start, range.end
            )));
        }
    }
    Ok(())
}

fn lost(version: u64, error: SourceError) -> JobError {
    match error {
        SourceError::OffsetsGone { .. } => state_lost(format!("batch {version}: {error}")),
        error => error.into(),
    }
}

fn state_lost(detail: String) -> JobError {
    JobError::user(
        Reason::StateLost,
        format!("the state is lost, and Kafka no longer has the records to rebuild it: {detail}"),
        "go back to a version whose state can be rebuilt with `data-platform checkpoint rewind`, or begin anew with another \
         checkpoint.name; give the topic a retention longer than the open windows",
    )
}
