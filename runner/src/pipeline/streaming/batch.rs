//! One micro-batch: plan, read, compute, stage, decide, publish.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::TimestampMicrosecondType;

use crate::checkpoint::counters::{Counters, OutputCounters};
use crate::checkpoint::job_state::{OutputState, map_partitions};
use crate::checkpoint::log::Attempt;
use crate::checkpoint::paths;
use crate::checkpoint::record::{Commit, OutputCommit, Partitions, Range, ReplayFrom, StateObject};
use crate::faults::{Guard, Moment, Step as FaultStep};
use crate::pipeline::error::{JobError, Reason, Retry};
use crate::pipeline::lag;
use crate::pipeline::memory::resident_bytes;
use crate::pipeline::plan;
use crate::pipeline::snapshot;
use crate::pipeline::status::CommitStatus;
use crate::pipeline::streaming::start::{Session, too_many_bad};
use crate::pipeline::streaming::{BadRecords, RunMode};
use crate::pipeline::watermark::{JobWatermark, PartitionTime, WatermarkRule, job_watermark};
use crate::sink::table::{FileNames, Footer, TableWriter};
use crate::source::reader::{Part, ReadRequest, ReadSummary};
use crate::source::{Identity, SourceError};

/// Known ends of partitions are asked for again after this time even while there is enough to read: a partition counts
/// as caught up only against an end that is not old.
const BOUNDS_AGE_MAX: Duration = Duration::from_secs(1);
/// A job that has nothing to read looks this often whether another runner took it over: soon enough for people who wait for
/// the old one to end, and one small request on an object store.
const OWNER_AGE_MAX: Duration = Duration::from_secs(5);

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
}

/// A planned micro-batch.
struct BatchPlan {
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
        self.ranges.values().flat_map(|ranges| ranges.values()).map(|(start, end)| end - start).sum()
    }
}

/// Files that one attempt writes.
struct Writers {
    attempt: Attempt,
    table: TableWriter,
    dead_letters: Option<TableWriter>,
    counters: OutputCounters,
    /// The log was asked to decide: from then on only the log knows whether these files count.
    submitted: bool,
}

impl Session<'_> {
    /// Runs one trigger.
    pub(super) async fn micro_batch(&mut self) -> Result<Step, JobError> {
        let began = Instant::now();
        let faults = std::sync::Arc::clone(&self.environment.faults);
        faults.reached(FaultStep::Plan, Moment::Before);
        let plan = self.plan()?;
        faults.reached(FaultStep::Plan, Moment::After);
        if !plan.reads_something() {
            return self.time_alone(&plan, began).await;
        }
        self.settings.batch_clock.set(plan.clock);
        let mut writers = self.writers(&plan)?;
        let result = self.read_and_commit(&plan, &mut writers, began).await;
        if result.is_err() {
            self.give_up(writers).await;
        }
        result?;
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

    /// What the next micro-batch reads.
    fn plan(&mut self) -> Result<BatchPlan, JobError> {
        let clock = self.environment.clock.now();
        self.look_at_bounds()?;
        let mut lost: Partitions<i64> = BTreeMap::new();
        let mut starts = self.positions.clone();
        let mut assign_again = false;
        for (topic, partitions) in &self.bounds {
            for (partition, bounds) in partitions {
                let known = starts.entry(topic.clone()).or_default();
                let new = !known.contains_key(partition);
                // A partition that the log does not know begins at earliest: it is new, nothing of it was read.
                let position = known.entry(*partition).or_insert(bounds.earliest);
                assign_again |= new;
                if new {
                    tracing::info!(topic, partition, position = *position, "a new partition");
                    self.positions.entry(topic.clone()).or_default().insert(*partition, *position);
                }
                if *position > bounds.end {
                    let (topic, partition, position, end) = (topic.clone(), *partition, *position, bounds.end);
                    return Err(SourceError::BehindEnd { topic, partition, position, end }.into());
                }
                if *position < bounds.earliest {
                    self.may_lose(topic, *partition, *position, bounds.earliest)?;
                    lost.entry(topic.clone()).or_default().insert(*partition, bounds.earliest);
                    *position = bounds.earliest;
                    assign_again = true;
                }
            }
        }
        if assign_again {
            self.reader.assign(&starts)?;
        }
        let mut ends = map_partitions(&self.bounds, |bounds| bounds.end);
        if let Some(target) = &self.target {
            limit(&mut ends, target);
        }
        let records_max = self.settings.memory.records(self.settings.records_max, self.memory_used());
        let ranges = plan::micro_batch(&starts, &ends, records_max);
        let mut batch = BatchPlan { clock, ranges, lost, backlog_left: false };
        let backlog: i64 = total_backlog(&starts, &ends);
        batch.backlog_left = backlog > batch.records();
        Ok(batch)
    }

    /// Asks for the ends of the partitions, and for new ones, unless what is known is fresh and enough to read.
    fn look_at_bounds(&mut self) -> Result<(), JobError> {
        let fresh = self.bounds_age.is_some_and(|age| age.elapsed() < BOUNDS_AGE_MAX);
        let ends = map_partitions(&self.bounds, |bounds| bounds.end);
        if fresh && total_backlog(&self.positions, &ends) >= self.settings.records_max {
            return Ok(());
        }
        if self.target.is_some() {
            // A bounded run: its ends are fixed.
            return Ok(());
        }
        if self.bounds_age.is_some() {
            let identity = self.reader.identity()?;
            self.take_identity(identity)?;
        }
        self.bounds_clock = self.environment.clock.now();
        self.bounds = self.reader.bounds()?;
        self.bounds_age = Some(Instant::now());
        lag::looked(&mut self.read_up_to, &self.positions, &self.bounds, self.bounds_clock);
        self.say_ends();
        if self.settings.mode != RunMode::Continuous {
            self.check_complete()?;
            self.target = Some(map_partitions(&self.bounds, |bounds| bounds.end));
        }
        Ok(())
    }

    /// A bounded run promises all that is there: every partition must have told its end.
    fn check_complete(&self) -> Result<(), JobError> {
        for (topic, known) in &self.identity.topics {
            let told = self.bounds.get(topic).map_or(0, BTreeMap::len);
            if told < known.partitions as usize {
                let detail = format!("{topic}: {told} of {} partitions answered", known.partitions);
                return Err(SourceError::Failed { operation: "ask for offsets", detail }.into());
            }
        }
        Ok(())
    }

    /// Takes note of who answers now.
    fn take_identity(&mut self, identity: Identity) -> Result<(), JobError> {
        say_topics_gone(self.identity.topics.keys(), &identity);
        self.identity = identity;
        self.check_identity()
    }

    fn check_identity(&self) -> Result<(), JobError> {
        let topics = self.identity.topics.iter().map(|(name, topic)| (name.clone(), topic.id.clone())).collect();
        let check = crate::checkpoint::decide::cluster_check(self.log.state(), &self.identity.cluster_id, &topics);
        JobError::cluster(&check, &self.settings.job).map_or(Ok(()), Err)
    }

    fn may_lose(&self, topic: &str, partition: i32, position: i64, earliest: i64) -> Result<(), JobError> {
        if self.settings.fail_on_data_loss {
            let topic = topic.to_owned();
            return Err(SourceError::OffsetsGone { topic, partition, position, earliest }.into());
        }
        tracing::warn!(
            topic,
            partition,
            from = position,
            to = earliest,
            "offsets are gone from Kafka; going on behind them"
        );
        Ok(())
    }

    /// What an error of the reader means for the job. Offsets that vanished after they were planned are found to be gone,
    /// and counted, when the job plans again.
    fn read_error(&self, error: SourceError) -> JobError {
        let plan_again = matches!(error, SourceError::OffsetsGone { .. }) && !self.settings.fail_on_data_loss;
        let error = JobError::from(error);
        if plan_again { JobError { retry: Retry::Reload, ..error } } else { error }
    }

    /// What the process uses, or what its state uses relative to its share, whichever is scarcer.
    fn memory_used(&self) -> u64 {
        let memory = &self.settings.memory;
        let state = self.operator.size_bytes() as u64;
        let by_state =
            u64::try_from(u128::from(memory.limit) * 7 / 10 * u128::from(state) / u128::from(memory.state.max(1)));
        resident_bytes().max(by_state.unwrap_or(u64::MAX))
    }

    fn writers(&mut self, plan: &BatchPlan) -> Result<Writers, JobError> {
        let attempt = self.log.begin_attempt();
        let table = self.settings.table.clone();
        let footer = self.footer(&table.output, attempt, plan);
        let root = self.settings.plan.outputs[&table.output].clone();
        let store = self.log.output(&root)?;
        let faults = std::sync::Arc::clone(&self.environment.faults);
        let table = TableWriter::new(table, store, FileNames::Commit(attempt), footer, faults)?;
        Ok(Writers { attempt, table, dead_letters: None, counters: OutputCounters::default(), submitted: false })
    }

    fn dead_letter_writer(&mut self, plan: &BatchPlan, attempt: Attempt) -> Result<Option<TableWriter>, JobError> {
        let BadRecords::Table(table, _) = &self.settings.bad_records else { return Ok(None) };
        let footer = self.footer(&table.output, attempt, plan);
        let store = self.log.output(&self.settings.plan.outputs[&table.output])?;
        let faults = std::sync::Arc::clone(&self.environment.faults);
        Ok(Some(TableWriter::new(std::sync::Arc::clone(table), store, FileNames::Commit(attempt), footer, faults)?))
    }

    fn footer(&self, output: &str, attempt: Attempt, plan: &BatchPlan) -> Footer {
        let state = self.log.state();
        let covered = state.outputs.get(output);
        let offsets = covered_ranges(covered, &self.positions, &plan.ranges, &plan.lost);
        Footer {
            job: format!("{}/{}", self.settings.namespace, self.settings.job),
            log_id: state.start.log_id.clone(),
            version: attempt.version,
            offsets,
            watermark: state.watermark,
            fingerprint: self.settings.plan.fingerprint.clone(),
            interval: None,
        }
    }

    async fn read_and_commit(
        &mut self,
        plan: &BatchPlan,
        writers: &mut Writers,
        began: Instant,
    ) -> Result<(), JobError> {
        let faults = std::sync::Arc::clone(&self.environment.faults);
        faults.reached(FaultStep::Read, Moment::Before);
        let skew = self.settings.event_time.as_ref().map_or(i64::MAX, |time| time.max_future_skew.as_micros());
        let request = ReadRequest {
            ranges: plan.ranges.clone(),
            latest_event_time: plan.clock.saturating_add(skew),
            bad_records: self.settings.bad_records.action(),
            look_again: true,
        };
        let reading = self.reader.read(request)?;
        let mut summary = loop {
            match reading.next().map_err(|error| self.read_error(error))? {
                Part::Rows(rows) => {
                    if !std::mem::replace(&mut self.has_read, true) {
                        tracing::info!("the first records are here");
                    }
                    self.ingest(&rows, writers).await?;
                }
                Part::DeadLetters(letters) => self.dead_letters(plan, &letters, writers).await?,
                Part::Done(summary) => break *summary,
            }
        };
        faults.reached(FaultStep::Read, Moment::After);
        if let Some(identity) = summary.identity.take() {
            // A topic that was created again while it was read has given the wrong records.
            self.take_identity(identity)?;
        }
        let watermark = self.watermark(plan, &summary).watermark;
        self.commit_batch(plan, writers, summary, watermark, began, false).await
    }

    async fn ingest(&mut self, rows: &RecordBatch, writers: &mut Writers) -> Result<(), JobError> {
        let mut watermark = self.log.state().watermark;
        if !self.environment.faults.guard(Guard::CommittedWatermark) {
            watermark = watermark.max(self.running_watermark(rows));
        }
        let ingested = self.operator.ingest(rows, watermark, writers.attempt.version)?;
        writers.counters.filtered += ingested.filtered;
        writers.counters.late += ingested.late;
        writers.counters.accepted += ingested.accepted;
        for rows in ingested.rows {
            writers.counters.rows += rows.num_rows() as u64;
            writers.table.write(&rows).await?;
        }
        Ok(())
    }

    /// A negative control: late by what the batch at hand has seen.
    fn running_watermark(&self, rows: &RecordBatch) -> Option<i64> {
        let time = self.settings.event_time.as_ref()?;
        let times = rows.column_by_name(&time.column)?.as_primitive_opt::<TimestampMicrosecondType>()?;
        times.iter().flatten().max().map(|latest| latest - time.watermark_delay.as_micros())
    }

    async fn dead_letters(
        &mut self,
        plan: &BatchPlan,
        letters: &RecordBatch,
        writers: &mut Writers,
    ) -> Result<(), JobError> {
        if let Some(topic) = &self.dead_letter_topic {
            return Ok(topic.send(letters)?);
        }
        if writers.dead_letters.is_none() {
            writers.dead_letters = self.dead_letter_writer(plan, writers.attempt)?;
        }
        if let Some(writer) = &mut writers.dead_letters {
            writer.write(letters).await?;
        }
        Ok(())
    }

    /// The job's watermark after a micro-batch.
    fn watermark(&self, plan: &BatchPlan, summary: &ReadSummary) -> JobWatermark {
        let state = self.log.state();
        let Some(time) = &self.settings.event_time else { return JobWatermark { watermark: None, held_by: None } };
        if self.settings.query.window().is_none() {
            return JobWatermark { watermark: None, held_by: None };
        }
        let partitions = self.partition_times(plan, summary);
        let rule = WatermarkRule {
            policy: time.policy,
            idle_timeout: time.idle_timeout.as_micros(),
            ignore_empty: self.settings.mode != RunMode::Continuous,
        };
        job_watermark(&partitions, state.watermark, plan.clock, &rule)
    }

    fn partition_times(&self, plan: &BatchPlan, summary: &ReadSummary) -> Vec<PartitionTime> {
        let state = self.log.state();
        let mut times = Vec::new();
        for (topic, partitions) in &self.positions {
            for (partition, position) in partitions {
                let known =
                    state.partitions.get(topic).and_then(|known| known.get(partition)).copied().unwrap_or_default();
                let range = self.range(topic, *partition, plan, summary);
                let end = self.bounds.get(topic).and_then(|known| known.get(partition)).map(|bounds| bounds.end);
                let reached = range.map_or(*position, |range| range.end);
                // A topic that is not read any more has no end to reach; it leaves like one that is idle.
                let is_read = self.identity.topics.contains_key(topic);
                times.push(PartitionTime {
                    watermark: range.map_or(known.watermark, |range| range.watermark),
                    active: range.map_or(known.active.unwrap_or(state.start.clock), |range| range.active),
                    caught_up: !is_read || end.is_some_and(|end| reached >= end),
                });
            }
        }
        times
    }

    /// Index of the partition that holds the watermark back, in the order of [`Session::positions`].
    pub(super) fn held_by(&self) -> Option<usize> {
        let clock = self.log.state().clock;
        let plan = BatchPlan { clock, ranges: BTreeMap::new(), lost: BTreeMap::new(), backlog_left: false };
        self.watermark(&plan, &ReadSummary::default()).held_by
    }

    /// What a partition's part of the commit is; `None` if the batch did not touch it.
    fn range(&self, topic: &str, partition: i32, plan: &BatchPlan, summary: &ReadSummary) -> Option<Range> {
        let at = |partitions: &Partitions<i64>| partitions.get(topic).and_then(|known| known.get(&partition)).copied();
        let read = summary.partitions.get(topic).and_then(|known| known.get(&partition)).copied();
        let lost_until = at(&plan.lost);
        if read.is_none() && lost_until.is_none() {
            return None;
        }
        let known = self.log.state().partitions.get(topic).and_then(|known| known.get(&partition)).copied();
        let known = known.unwrap_or_default();
        let start = at(&self.positions).unwrap_or_default();
        let delay = self.settings.event_time.as_ref().map_or(0, |time| time.watermark_delay.as_micros());
        let greatest = read.and_then(|read| read.greatest_event_time).map(|time| time.saturating_sub(delay));
        let is_valid = read.is_some_and(|read| read.has_valid);
        Some(Range {
            start,
            end: read.map(|read| read.end).or(lost_until).unwrap_or(start),
            records: read.map_or(0, |read| read.records),
            lost_until,
            watermark: known.watermark.max(greatest),
            active: known.active.filter(|_| !is_valid).unwrap_or(plan.clock),
        })
    }

    fn ranges(&self, plan: &BatchPlan, summary: &ReadSummary) -> Partitions<Range> {
        let mut ranges: Partitions<Range> = BTreeMap::new();
        for (topic, partitions) in &self.positions {
            for partition in partitions.keys() {
                if let Some(range) = self.range(topic, *partition, plan, summary) {
                    ranges.entry(topic.clone()).or_default().insert(*partition, range);
                }
            }
        }
        ranges
    }

    /// Closes windows, finishes the files, decides, and publishes.
    async fn commit_batch(
        &mut self,
        plan: &BatchPlan,
        writers: &mut Writers,
        summary: ReadSummary,
        watermark: Option<i64>,
        began: Instant,
        drained: bool,
    ) -> Result<(), JobError> {
        let faults = std::sync::Arc::clone(&self.environment.faults);
        let commit_began = Instant::now();
        writers.table.set_watermark(watermark);
        if let Some(watermark) = watermark {
            faults.reached(FaultStep::Close, Moment::Before);
            while let Some(rows) = self.operator.close_next(watermark)? {
                for rows in rows {
                    writers.counters.rows += rows.num_rows() as u64;
                    writers.table.write(&rows).await?;
                }
            }
            faults.reached(FaultStep::Close, Moment::After);
        }
        self.wait_for_dead_letters(&summary)?;
        let outputs = self.finish_files(writers, watermark).await?;
        let ranges = self.ranges(plan, &summary);
        let records = summary.counters.read;
        let latest =
            summary.partitions.values().flat_map(|known| known.values()).filter_map(|p| p.greatest_event_time).max();
        let written = map_partitions(&summary.partitions, |read| read.written);
        let counters = self.counters(plan, writers, &outputs, summary);
        self.records_since_snapshot += records;
        let state = if self.snapshot_is_due(plan.clock, drained) {
            Some(self.write_state(writers.attempt).await?)
        } else {
            None
        };
        let commit = self.commit_record(plan, ranges, watermark, state, outputs, counters, drained);
        let (rows, files) =
            (writers.counters.rows, commit.outputs.values().map(|output| output.files.len() as u64).sum());
        let has_snapshot = commit.state.is_some();
        writers.submitted = true;
        let version = self.log.commit(commit).await?;
        self.after_commit(plan, &written, has_snapshot);
        self.log.publish_pending().await?;
        self.environment.faults.reached(FaultStep::GroupOffsets, Moment::Before);
        self.reader.tell_group(&self.positions);
        self.environment.faults.reached(FaultStep::GroupOffsets, Moment::After);
        self.log.maintain(self.settings.records_per_base).await?;
        let commit_status = CommitStatus {
            version,
            clock: plan.clock,
            records,
            rows,
            files,
            batch_ms: began.elapsed().as_millis() as u64,
            commit_ms: commit_began.elapsed().as_millis() as u64,
        };
        let latency = latest.map(|latest| self.environment.clock.now().saturating_sub(latest));
        (self.environment.observe)(&commit_status, latency);
        self.tell(commit_status);
        let breaker = self.log.state().breaker;
        if breaker.open { Err(too_many_bad(breaker)) } else { Ok(()) }
    }

    fn wait_for_dead_letters(&self, summary: &ReadSummary) -> Result<(), JobError> {
        let Some(topic) = self.dead_letter_topic.as_ref().filter(|_| summary.counters.dead_letters() > 0) else {
            return Ok(());
        };
        self.environment.faults.reached(FaultStep::DeadLetters, Moment::Before);
        topic.wait()?;
        self.environment.faults.reached(FaultStep::DeadLetters, Moment::After);
        Ok(())
    }

    async fn finish_files(
        &mut self,
        writers: &mut Writers,
        watermark: Option<i64>,
    ) -> Result<BTreeMap<String, OutputCommit>, JobError> {
        let mut outputs = BTreeMap::new();
        let table = writers.table.finish().await?;
        outputs.insert(self.settings.table.output.clone(), table);
        if let (Some(mut letters), BadRecords::Table(table, _)) =
            (writers.dead_letters.take(), &self.settings.bad_records)
        {
            letters.set_watermark(watermark);
            let written = letters.finish().await;
            writers.dead_letters = Some(letters);
            outputs.insert(table.output.clone(), written?);
        }
        Ok(outputs)
    }

    fn counters(
        &self,
        plan: &BatchPlan,
        writers: &Writers,
        outputs: &BTreeMap<String, OutputCommit>,
        summary: ReadSummary,
    ) -> Counters {
        let mut counters = Counters::default();
        let mut source = summary.counters;
        for (topic, partitions) in &plan.lost {
            for (partition, until) in partitions {
                source.lost_offsets += (until - self.positions[topic][partition]).unsigned_abs();
            }
        }
        counters.sources.insert(self.settings.source.clone(), source);
        for (name, output) in outputs {
            let is_table = *name == self.settings.table.output;
            let mut output_counters = if is_table { writers.counters.clone() } else { OutputCounters::default() };
            if !is_table {
                output_counters.rows = output.files.iter().map(|file| file.rows).sum();
            }
            output_counters.files = output.files.len() as u64;
            output_counters.bytes = output.files.iter().map(|file| file.bytes).sum();
            counters.outputs.insert(name.clone(), output_counters);
        }
        debug_assert!(counters.is_conserved(&[&self.settings.table.output]), "{counters:?}");
        counters
    }

    #[allow(clippy::too_many_arguments)]
    fn commit_record(
        &self,
        plan: &BatchPlan,
        partitions: Partitions<Range>,
        watermark: Option<i64>,
        state: Option<Vec<StateObject>>,
        outputs: BTreeMap<String, OutputCommit>,
        counters: Counters,
        drained: bool,
    ) -> Commit {
        let known = self.log.state();
        let mut totals = known.totals.clone();
        totals.add(&counters);
        let source = &counters.sources[&self.settings.source];
        let before = if self.settings.reset_breaker && known.breaker.open { Default::default() } else { known.breaker };
        let (read, bad) = (source.read, source.dead_letters());
        let breaker = plan::breaker(before, plan.clock, read, bad, self.settings.max_bad_percent);
        let skew = self.settings.event_time.as_ref().map_or(i64::MAX, |time| time.max_future_skew.as_micros());
        let is_new = |name: &&String| !known.topics.contains_key(*name);
        let new_topics = partitions.keys().filter(is_new);
        let new_topics = new_topics.filter_map(|name| Some((name.clone(), self.identity.topics.get(name)?.id.clone())));
        Commit {
            clock: plan.clock,
            latest_event_time: plan.clock.saturating_add(skew),
            new_topics: new_topics.collect(),
            watermark,
            replay_from: self.replay_from(&partitions),
            partitions,
            state,
            outputs,
            counters,
            totals,
            breaker,
            drained,
            ..Commit::default()
        }
    }

    /// Where a rebuild would have to begin after this batch: at the batch that first put a row into an open window.
    fn replay_from(&self, ranges: &Partitions<Range>) -> Option<ReplayFrom> {
        let version = self.operator.windows().iter().map(|window| window.first_version).min()?;
        let known = self.log.state();
        let batch = known.replay.get(&version).map_or(ranges, |batch| &batch.partitions);
        Some(ReplayFrom { version, offsets: map_partitions(batch, |range| range.start) })
    }

    fn snapshot_is_due(&self, clock: i64, drained: bool) -> bool {
        let groups = self.operator.groups() as u64;
        self.settings.query.window().is_some()
            && (drained || snapshot::is_due(groups, self.records_since_snapshot, clock - self.snapshot_clock))
    }

    /// Writes the state of every open window; one that did not change keeps its object.
    async fn write_state(&mut self, attempt: Attempt) -> Result<Vec<StateObject>, JobError> {
        let Some(schema) = self.settings.query.state_schema() else { return Ok(Vec::new()) };
        let faults = std::sync::Arc::clone(&self.environment.faults);
        let mut objects = BTreeMap::new();
        for (number, window) in self.operator.windows().into_iter().enumerate() {
            if let Some(object) = self.objects.get(&window.start).filter(|_| !window.changed_since_snapshot) {
                objects.insert(window.start, object.clone());
                continue;
            }
            let rows = self.operator.snapshot(window.start)?;
            let content = snapshot::encode(&schema, &rows).map_err(|error| {
                JobError::passing(Reason::InternalError, format!("cannot encode the state: {error}"), "report this")
            })?;
            let path = paths::state_object(attempt.version, attempt.epoch, attempt.number, number);
            faults.reached(FaultStep::State, Moment::Before);
            let mut file = self.log.store().stage(&path).await?;
            file.write(content).await?;
            let facts = file.finish().await?;
            faults.reached(FaultStep::State, Moment::After);
            let (window, first_version) = (window.start, window.first_version);
            objects.insert(window, StateObject { window, first_version, path, bytes: facts.bytes, xxh3: facts.xxh3 });
        }
        self.objects = objects;
        Ok(self.objects.values().cloned().collect())
    }

    fn after_commit(&mut self, plan: &BatchPlan, written: &Partitions<Option<i64>>, has_snapshot: bool) {
        self.positions =
            self.log.state().partitions.iter().fold(std::mem::take(&mut self.positions), |mut positions, known| {
                let partitions = positions.entry(known.0.clone()).or_default();
                partitions.extend(known.1.iter().map(|(partition, state)| (*partition, state.position)));
                positions
            });
        let now = self.environment.clock.now();
        for (topic, partitions) in written {
            let known = self.read_up_to.entry(topic.clone()).or_default();
            for (partition, written) in partitions {
                known.entry(*partition).or_default().committed(*written, now);
            }
        }
        lag::looked(&mut self.read_up_to, &self.positions, &self.bounds, self.bounds_clock);
        if has_snapshot {
            self.records_since_snapshot = 0;
            self.snapshot_clock = plan.clock;
        }
    }

    fn tell(&self, commit: CommitStatus) {
        tracing::debug!(
            version = commit.version,
            records = commit.records,
            rows = commit.rows,
            files = commit.files,
            batch_ms = commit.batch_ms,
            "committed"
        );
        self.environment.status.committed(commit);
    }

    /// Removes what an attempt staged that was certainly not decided.
    async fn give_up(&mut self, writers: Writers) {
        if writers.submitted {
            return;
        }
        let letters = writers.dead_letters.iter().map(|writer| (&self.settings.bad_records, writer.staged()));
        let mut staged =
            vec![(self.settings.plan.outputs[&self.settings.table.output].clone(), writers.table.staged())];
        for (bad_records, files) in letters {
            if let BadRecords::Table(table, _) = bad_records {
                staged.push((self.settings.plan.outputs[&table.output].clone(), files));
            }
        }
        self.log.abandon(&staged).await;
    }

    /// Caught up: everything published is noted as such, so that stages can go.
    pub(super) async fn rest(&mut self) -> Result<(), JobError> {
        self.log.note_published().await?;
        self.log.write_progress().await?;
        if self.owner_seen.elapsed() > OWNER_AGE_MAX {
            self.log.check_owner().await?;
            self.owner_seen = Instant::now();
        }
        Ok(())
    }

    /// Told to stop between two micro-batches: windows stay open, and their state is kept for a fast start.
    pub(super) async fn stop(&mut self) -> Result<(), JobError> {
        let clock = self.environment.clock.now();
        let plan = BatchPlan { clock, ranges: BTreeMap::new(), lost: BTreeMap::new(), backlog_left: false };
        if self.records_since_snapshot > 0 && !self.operator.windows().is_empty() {
            self.snapshot_clock = i64::MIN / 2;
            let mut writers = self.writers(&plan)?;
            let watermark = self.log.state().watermark;
            self.commit_batch(&plan, &mut writers, ReadSummary::default(), watermark, Instant::now(), false).await?;
        }
        Ok(self.log.note_published().await?)
    }

    /// The end of a bounded run: `--drain` closes every window and moves the watermark behind them.
    pub(super) async fn finish(&mut self) -> Result<(), JobError> {
        let last = self.operator.windows().iter().map(|window| window.end).max();
        if let (RunMode::Drain, Some(last)) = (self.settings.mode, last) {
            let clock = self.environment.clock.now();
            self.settings.batch_clock.set(clock);
            let plan = BatchPlan { clock, ranges: BTreeMap::new(), lost: BTreeMap::new(), backlog_left: false };
            let mut writers = self.writers(&plan)?;
            let watermark = self.log.state().watermark.max(Some(last));
            self.commit_batch(&plan, &mut writers, ReadSummary::default(), watermark, Instant::now(), true).await?;
            self.log.note_published().await?;
            self.say_running();
            return Ok(());
        }
        self.stop().await?;
        self.say_running();
        Ok(())
    }
}

/// Names the topics that were read and are not there now. A topic of a pattern may go away; one that is named is an error
/// of the source.
pub(super) fn say_topics_gone<'a>(known: impl Iterator<Item = &'a String>, now: &Identity) {
    for topic in known.filter(|topic| !now.topics.contains_key(*topic)) {
        tracing::warn!(topic, "a topic that the job read is gone; what it had that was not read is lost");
    }
}

/// Offsets that the files of a commit cover: since the last commit with a file of this output.
fn covered_ranges(
    covered: Option<&OutputState>,
    positions: &Partitions<i64>,
    ranges: &Partitions<(i64, i64)>,
    lost: &Partitions<i64>,
) -> Partitions<(i64, i64)> {
    let mut offsets: Partitions<(i64, i64)> = BTreeMap::new();
    for (topic, partitions) in positions {
        for (partition, position) in partitions {
            let at = |known: &Partitions<i64>| known.get(topic).and_then(|known| known.get(partition)).copied();
            let start = covered.and_then(|covered| at(&covered.covered)).unwrap_or(*position);
            let read = ranges.get(topic).and_then(|known| known.get(partition)).map(|(_, end)| *end);
            let end = read.or(at(lost)).unwrap_or(*position);
            if end > start {
                offsets.entry(topic.clone()).or_default().insert(*partition, (start, end));
            }
        }
    }
    offsets
}

/// Cuts ends down to where a bounded run ends.
fn limit(ends: &mut Partitions<i64>, target: &Partitions<i64>) {
    for (topic, partitions) in ends {
        for (partition, end) in partitions {
            let target = target.get(topic).and_then(|known| known.get(partition)).copied().unwrap_or(0);
            *end = (*end).min(target);
        }
    }
}

fn total_backlog(positions: &Partitions<i64>, ends: &Partitions<i64>) -> i64 {
    let of = |topic: &String, partition: &i32| {
        positions.get(topic).and_then(|known| known.get(partition)).copied().unwrap_or_default()
    };
    let each = |(topic, partitions): (&String, &BTreeMap<i32, i64>)| -> i64 {
        partitions.iter().map(|(partition, end)| (end - of(topic, partition)).max(0)).sum()
    };
    ends.iter().map(each).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one<T>(value: T) -> Partitions<T> {
        BTreeMap::from([("t".to_owned(), BTreeMap::from([(0, value)]))])
    }

    #[test]
    fn a_file_covers_what_was_read_since_the_last_file() {
        let covered = OutputState { covered: one(5), ..OutputState::default() };
        let ranges = covered_ranges(Some(&covered), &one(8), &one((8, 12)), &BTreeMap::new());
        assert_eq!(ranges, one((5, 12)));
        let idle = covered_ranges(Some(&covered), &one(8), &BTreeMap::new(), &BTreeMap::new());
        assert_eq!(idle, one((5, 8)));
        let lost = covered_ranges(Some(&covered), &one(8), &BTreeMap::new(), &one(20));
        assert_eq!(lost, one((5, 20)));
        let nothing = covered_ranges(Some(&covered), &one(5), &BTreeMap::new(), &BTreeMap::new());
        assert!(nothing.is_empty());
    }

    #[test]
    fn the_backlog_counts_only_what_is_left() {
        assert_eq!(total_backlog(&one(5), &one(8)), 3);
        assert_eq!(total_backlog(&one(9), &one(8)), 0);
        assert_eq!(total_backlog(&BTreeMap::new(), &one(8)), 8);
    }

    #[test]
    fn a_bounded_run_ends_where_it_was_told() {
        let mut ends = one(100);
        limit(&mut ends, &one(50));
        assert_eq!(ends, one(50));
    }
}
