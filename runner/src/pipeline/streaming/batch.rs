//! One micro-batch: plan, read, compute, stage, decide, publish.

mod committing;
mod partitions;
pub(super) mod planning;
mod refused;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::TimestampMicrosecondType;

use self::refused::RefusedRecords;
use crate::checkpoint::job_state::OutputState;
use crate::checkpoint::log::Attempt;
use crate::clock::show_time;
use crate::counters::OutputCounters;
use crate::faults::{Guard, Moment, Step as FaultStep};
use crate::offsets::Partitions;
use crate::pipeline::error::{JobError, Reason, Retry};
use crate::pipeline::streaming::RunMode;
use crate::pipeline::streaming::deduplicate::FoundDuplicates;
use crate::pipeline::streaming::late::LateRecords;
use crate::pipeline::streaming::start::Session;
use crate::pipeline::watermark;
use crate::sink::table::Footer;
use crate::sink::{Batch, SinkError, Stage};
use crate::source::again::Refusals;
use crate::source::places::Places;
use crate::source::reader::{Part, ReadRequest, ReadSummary};
use crate::source::{SourceError, WithoutLeader};
use crate::transform::RefusedGroups;

/// Known ends of partitions are asked for again after this time even while there is enough to read: a partition counts
/// as caught up only against an end that is not old.
const BOUNDS_AGE_MAX: Duration = Duration::from_secs(1);
/// A job that has nothing to read looks this often whether another runner took it over: soon enough for people who wait for
/// the old one to end.
const OWNER_AGE_MAX: Duration = Duration::from_secs(5);
/// The same where each look is a request that somebody pays for.
const REMOTE_OWNER_AGE_MAX: Duration = Duration::from_secs(60);

/// What became of a trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A micro-batch was committed, or there was nothing to do.
    Done {
        /// There is more to read at once.
        backlog_left: bool,
    },
    /// A bounded run has read everything.
    Finished,
    /// Kafka did not say what there is to read. Nothing happened, so nothing is void; the status tells it.
    Unanswered,
}

/// A planned micro-batch.
pub(super) struct BatchPlan {
    clock: i64,
    ranges: Partitions<(i64, i64)>,
    /// Offsets that are gone: where reading goes on.
    lost: Partitions<i64>,
    backlog_left: bool,
}

impl BatchPlan {
    fn reads_something(&self) -> bool {
        !self.ranges.is_empty() || !self.lost.is_empty()
    }

    fn records(&self) -> i64 {
        self.ranges.values().map(|(start, end)| end - start).sum()
    }
}

/// What one attempt writes.
pub(super) struct Writers {
    pub(super) attempt: Attempt,
    /// In the order of the job's flows.
    flows: Vec<FlowWriter>,
    dead_letters: Option<Box<dyn Stage>>,
    /// Records that a query refuses, to be read again for the dead letters.
    refused: Refusals,
    /// Records that went to no query.
    pub(super) duplicates: FoundDuplicates,
    /// By source: late records that are kept.
    pub(super) late_kept: BTreeMap<usize, u64>,
    /// The log was asked to decide: from then on only the log knows whether what was written counts.
    submitted: bool,
}

/// The stage of a flow, and what became of its records.
struct FlowWriter {
    stage: Box<dyn Stage>,
    counters: OutputCounters,
    /// Groups of closed windows that the query refuses.
    refused: Vec<RefusedGroups>,
}

impl FlowWriter {
    async fn write(&mut self, batches: Vec<RecordBatch>) -> Result<(), SinkError> {
        for rows in batches {
            self.counters.rows += rows.num_rows() as u64;
            self.stage.write(&rows).await?;
        }
        Ok(())
    }
}

impl Session<'_> {
    /// Runs one trigger.
    pub(super) async fn micro_batch(&mut self) -> Result<Step, JobError> {
        let began = self.environment.clock.instant();
        let faults = Arc::clone(&self.environment.faults);
        faults.reached(FaultStep::Plan, Moment::Before);
        self.look_at_references().await?;
        let Some(mut plan) = self.plan()? else { return Ok(Step::Unanswered) };
        faults.reached(FaultStep::Plan, Moment::After);
        if !plan.reads_something() {
            return self.time_alone(&plan, began).await;
        }
        self.settings.batch_clock.set(plan.clock);
        let mut writers = self.writers(&plan)?;
        let result = self.read_and_commit(&mut plan, &mut writers, began).await;
        if result.is_err() {
            self.give_up(writers).await;
        }
        result?;
        self.name_left_behind();
        Ok(Step::Done { backlog_left: plan.backlog_left })
    }

    /// Nothing to read: the watermark may still move, since a partition became idle.
    async fn time_alone(&mut self, plan: &BatchPlan, began: Instant) -> Result<Step, JobError> {
        let done =
            if self.settings.mode == RunMode::Continuous { Step::Done { backlog_left: false } } else { Step::Finished };
        let watermark = self.watermark(plan, &ReadSummary::default()).watermark;
        if watermark == self.log.state().watermark {
            return Ok(done);
        }
        self.settings.batch_clock.set(plan.clock);
        let mut writers = self.writers(plan)?;
        let result = self.commit_batch(plan, &mut writers, ReadSummary::default(), watermark, began, false).await;
        if result.is_err() {
            self.give_up(writers).await;
        }
        result.map(|()| done)
    }

    /// What an error of the reader means for the job. Offsets that vanished after they were planned are found to be gone,
    /// and counted, when the job plans again.
    fn read_error(&self, error: SourceError) -> JobError {
        let plan_again = matches!(error, SourceError::OffsetsGone { .. }) && !self.settings.fail_on_data_loss;
        let error = JobError::from(error);
        if plan_again { JobError { retry: Retry::Reload, ..error } } else { error }
    }

    fn writers(&mut self, plan: &BatchPlan) -> Result<Writers, JobError> {
        let attempt = self.log.begin_attempt();
        let mut flows = Vec::with_capacity(self.sinks.flows.len());
        for sink in &self.sinks.flows {
            let stage = sink.begin(self.batch(sink.name(), attempt, plan))?;
            flows.push(FlowWriter { stage, counters: OutputCounters::default(), refused: Vec::new() });
        }
        let (refused, duplicates) = (Refusals::new(), FoundDuplicates::default());
        let late_kept = BTreeMap::new();
        Ok(Writers { attempt, flows, dead_letters: None, refused, duplicates, late_kept, submitted: false })
    }

    fn batch(&self, output: &str, attempt: Attempt, plan: &BatchPlan) -> Batch {
        Batch { attempt, footer: self.footer(output, attempt, plan) }
    }

    fn footer(&self, output: &str, attempt: Attempt, plan: &BatchPlan) -> Footer {
        let state = self.log.state();
        Footer {
            job: format!("{}/{}", self.settings.namespace, self.settings.job),
            log_id: state.start.log_id.clone(),
            version: attempt.version,
            offsets: self.footer_offsets(output, plan),
            watermark: state.watermark,
            fingerprint: self.settings.plan.fingerprint.clone(),
            interval: None,
            merged: None,
        }
    }

    fn footer_offsets(&self, output: &str, plan: &BatchPlan) -> Partitions<(i64, i64)> {
        covered_ranges(self.log.state().outputs.get(output), &self.positions, &plan.ranges, &plan.lost)
    }

    async fn read_and_commit(
        &mut self,
        plan: &mut BatchPlan,
        writers: &mut Writers,
        began: Instant,
    ) -> Result<(), JobError> {
        let faults = Arc::clone(&self.environment.faults);
        faults.reached(FaultStep::Read, Moment::Before);
        let latest = self.settings.sources.iter().map(|source| source.latest_event_time(plan.clock)).collect();
        let request = ReadRequest {
            ranges: plan.ranges.clone(),
            latest_event_times: latest,
            old_before: self.old_before(),
            bad_records: self.settings.bad_records.action(),
            look_again: true,
            without_leader: WithoutLeader::Leave,
        };
        let reading = self.reader.read(request)?;
        let mut summary = loop {
            match reading.next().map_err(|error| self.read_error(error))? {
                Part::Rows { source, rows, places, old } => {
                    if !std::mem::replace(&mut self.has_read, true) {
                        tracing::info!("the first records are here");
                    }
                    let (rows, places) = self.first_rows(source, rows, places, writers)?;
                    let late = self.ingest(source, &rows, &places, writers).await?;
                    if let Some(old) = old {
                        self.keep_late(plan, source, (&old, &late), writers).await?;
                    }
                    self.take_refused(plan, writers).await?;
                }
                Part::DeadLetters(letters) => self.dead_letters(plan, &letters, writers).await?,
                Part::Done(summary) => break *summary,
            }
        };
        faults.reached(FaultStep::Read, Moment::After);
        (self.environment.after_reading)(summary.read());
        if let Some(identity) = summary.identity.take() {
            // A topic that was created again while it was read has given the wrong records.
            self.take_identity_in_time(identity)?;
        }
        self.check_clock(plan, &summary)?;
        self.shorten(plan, &summary, writers)?;
        self.keep_refused_records(plan, &summary, writers).await?;
        let watermark = self.watermark(plan, &summary).watermark;
        if !plan.reads_something() && watermark == self.log.state().watermark {
            return Ok(());
        }
        self.commit_batch(plan, writers, summary, watermark, began, false).await
    }

    /// Whether the records say that this runner's clock is behind: then none of them is committed away as future.
    fn check_clock(&mut self, plan: &BatchPlan, summary: &ReadSummary) -> Result<(), JobError> {
        let (records, ahead) = (summary.read(), summary.written_ahead);
        if !watermark::clock_is_behind(records, ahead) {
            self.trusts_clock = false;
            return Ok(());
        }
        if self.trusts_clock {
            return Ok(());
        }
        let newest = summary.partitions.values().filter_map(|read| read.written).max();
        Err(JobError::passing(
            Reason::ClockBehind,
            format!(
                "{ahead} of {records} records were written to Kafka after now by this runner's clock: it says {}, the newest \
                 record {}; the clock is probably behind, and nothing is committed",
                show_time(plan.clock),
                show_time(newest.unwrap_or_default())
            ),
            "set the clock of the machine that runs the job (NTP); a job that runs on tries again for 10 minutes, then takes \
             the records that lie further ahead than eventTime.maxFutureSkew for what they say",
        ))
    }

    /// Fits the plan to what was read of it: less, if a partition lost its leader.
    fn shorten(&self, plan: &mut BatchPlan, summary: &ReadSummary, writers: &mut Writers) -> Result<(), SourceError> {
        let read = summary.partitions.map(|read| (read.start, read.end));
        if read == plan.ranges {
            return Ok(());
        }
        plan.ranges = read;
        let flows = self.sinks.flows.iter().zip(writers.flows.iter_mut().map(|flow| &mut flow.stage));
        let letters = self.sinks.dead_letters.iter().zip(writers.dead_letters.iter_mut());
        for (sink, stage) in flows.chain(letters) {
            if !stage.set_offsets(self.footer_offsets(sink.name(), plan)) {
                let detail =
                    "a partition lost its leader in a batch that has finished files; it is read again".to_owned();
                return Err(SourceError::Failed { operation: "read", detail });
            }
        }
        Ok(())
    }

    /// Gives rows of a source to the queries, and tells which records were late.
    async fn ingest(
        &mut self,
        source: usize,
        rows: &RecordBatch,
        places: &Places,
        writers: &mut Writers,
    ) -> Result<LateRecords, JobError> {
        let mut late = LateRecords::default();
        let mut watermark = self.log.state().watermark;
        if !self.environment.faults.guard(Guard::CommittedWatermark) {
            watermark = watermark.max(self.running_watermark(source, rows));
        }
        let (several, action) = (self.settings.flows.len() > 1, self.settings.bad_records.action());
        let flows = self.settings.flows.iter().zip(&mut self.flows).zip(&mut writers.flows);
        for ((flow, running), writer) in flows {
            let Some(ingested) = running.ingest(flow, source, rows, watermark, writers.attempt.version) else {
                continue;
            };
            let ingested = ingested?;
            writer.counters.filtered += ingested.filtered;
            writer.counters.late += ingested.late;
            writer.counters.partly_late += ingested.partly_late;
            writer.counters.accepted += ingested.accepted;
            let refused = RefusedRecords { output: several.then_some(&flow.output), places, rows: ingested.refused };
            refused.note(action, &mut writer.counters, &mut writers.refused)?;
            late.note(ingested.late_records.as_ref())?;
            writer.write(ingested.rows).await?;
        }
        Ok(late)
    }

    /// A negative control: late by what the batch at hand has seen.
    fn running_watermark(&self, source: usize, rows: &RecordBatch) -> Option<i64> {
        let time = self.settings.sources[source].event_time.as_ref()?;
        let times = rows.column_by_name(&time.column)?.as_primitive_opt::<TimestampMicrosecondType>()?;
        times.iter().flatten().max().map(|latest| latest - time.watermark_delay.as_micros())
    }

    pub(super) async fn dead_letters(
        &mut self,
        plan: &BatchPlan,
        letters: &RecordBatch,
        writers: &mut Writers,
    ) -> Result<(), JobError> {
        if let (None, Some(sink)) = (&writers.dead_letters, &self.sinks.dead_letters) {
            writers.dead_letters = Some(sink.begin(self.batch(sink.name(), writers.attempt, plan))?);
        }
        if let Some(stage) = &mut writers.dead_letters {
            stage.write(letters).await?;
        }
        Ok(())
    }

    /// Removes what an attempt wrote that was certainly not decided.
    async fn give_up(&mut self, writers: Writers) {
        if writers.submitted {
            return;
        }
        for stage in writers.flows.into_iter().map(|flow| flow.stage).chain(writers.dead_letters) {
            stage.abandon().await;
        }
    }

    /// Caught up: everything published is noted as such, so that stages can go.
    pub(super) async fn rest(&mut self) -> Result<(), JobError> {
        let is_remote = self.settings.checkpoint_location.is_object_store();
        let version = self.log.state().version;
        if is_remote && self.settings.mode == RunMode::Continuous && self.rested_at != version {
            // The next trigger's commit says the same, for nothing; without one it is said then.
            self.rested_at = version;
            return Ok(());
        }
        self.log.note_published().await?;
        self.rested_at = self.log.state().version;
        let age = if is_remote { REMOTE_OWNER_AGE_MAX } else { OWNER_AGE_MAX };
        let is_time_to_look = self.environment.clock.since(self.owner_seen) > age;
        if !is_remote || is_time_to_look {
            self.log.write_progress().await?;
        }
        if is_time_to_look {
            self.log.check_owner().await?;
            self.owner_seen = self.environment.clock.instant();
        }
        Ok(())
    }

    /// Told to stop between two micro-batches: windows stay open, and their state is kept for a fast start.
    pub(super) async fn stop(&mut self) -> Result<(), JobError> {
        let clock = self.environment.clock.now();
        let plan = BatchPlan { clock, ranges: Partitions::new(), lost: Partitions::new(), backlog_left: false };
        if self.records_since_snapshot > 0 && self.first_version().is_some() {
            self.snapshot_clock = i64::MIN / 2;
            let mut writers = self.writers(&plan)?;
            let watermark = self.log.state().watermark;
            let began = self.environment.clock.instant();
            self.commit_batch(&plan, &mut writers, ReadSummary::default(), watermark, began, false).await?;
        }
        Ok(self.log.note_published().await?)
    }

    /// The end of a bounded run: `--drain` closes every window and moves the watermark behind them.
    pub(super) async fn finish(&mut self) -> Result<(), JobError> {
        let last = self.flows.iter().filter_map(|flow| flow.operator.latest_end()).max();
        if let (RunMode::Drain, Some(last)) = (self.settings.mode, last) {
            let clock = self.environment.clock.now();
            self.settings.batch_clock.set(clock);
            let plan = BatchPlan { clock, ranges: Partitions::new(), lost: Partitions::new(), backlog_left: false };
            let mut writers = self.writers(&plan)?;
            let watermark = self.log.state().watermark.max(Some(last));
            let began = self.environment.clock.instant();
            self.commit_batch(&plan, &mut writers, ReadSummary::default(), watermark, began, true).await?;
            self.log.note_published().await?;
            self.say_running();
            return Ok(());
        }
        self.stop().await?;
        self.say_running();
        Ok(())
    }
}

/// Offsets that the files of a commit cover: since the last commit with a file of this output.
fn covered_ranges(
    covered: Option<&OutputState>,
    positions: &Partitions<i64>,
    ranges: &Partitions<(i64, i64)>,
    lost: &Partitions<i64>,
) -> Partitions<(i64, i64)> {
    let range = |(topic, partition, position): (_, _, &i64)| {
        let start = covered.and_then(|covered| covered.covered.at(topic, partition)).unwrap_or(*position);
        let read = ranges.at(topic, partition).map(|(_, end)| end);
        let end = read.or(lost.at(topic, partition)).unwrap_or(*position);
        (end > start).then_some((topic, partition, (start, end)))
    };
    positions.iter().filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one<T>(value: T) -> Partitions<T> {
        Partitions::of("t", [(0, value)])
    }

    #[test]
    fn a_file_covers_what_was_read_since_the_last_file() {
        let covered = OutputState { covered: one(5), ..OutputState::default() };
        let ranges = covered_ranges(Some(&covered), &one(8), &one((8, 12)), &Partitions::new());
        assert_eq!(ranges, one((5, 12)));
        let idle = covered_ranges(Some(&covered), &one(8), &Partitions::new(), &Partitions::new());
        assert_eq!(idle, one((5, 8)));
        let lost = covered_ranges(Some(&covered), &one(8), &Partitions::new(), &one(20));
        assert_eq!(lost, one((5, 20)));
        let nothing = covered_ranges(Some(&covered), &one(5), &Partitions::new(), &Partitions::new());
        assert!(nothing.is_empty());
    }
}
