//! The commit of a micro-batch: closes windows, finishes the files, decides, publishes, and tells.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;

use crate::checkpoint::decide;
use crate::checkpoint::log::{Attempt, JobLog};
use crate::checkpoint::record::{Commit, OutputCommit, ReplayFrom, StateObject};
use crate::counters::{Counters, OutputCounters, SourceCounters};
use crate::faults::{Faults, Moment, Step as FaultStep};
use crate::offsets::{Partitions, Range};
use crate::pipeline::error::{JobError, Reason};
use crate::pipeline::job_plan::Flow;
use crate::pipeline::lag::{self, ReadUpTo};
use crate::pipeline::plan;
use crate::pipeline::snapshot;
use crate::pipeline::status::CommitStatus;
use crate::pipeline::streaming::Environment;
use crate::pipeline::streaming::batch::{BatchPlan, FlowWriter, Writers};
use crate::pipeline::streaming::deduplicate::RunningDeduplicator;
use crate::pipeline::streaming::flows::RunningFlow;
use crate::pipeline::streaming::start::{Session, too_many_bad};
use crate::source::reader::ReadSummary;
use crate::storage::{StagedFacts, StoreError, paths};
use crate::transform::Deduplication;

impl Session<'_> {
    /// Closes windows, finishes the files, decides, and publishes.
    pub(super) async fn commit_batch(
        &mut self,
        plan: &BatchPlan,
        writers: &mut Writers,
        summary: ReadSummary,
        watermark: Option<i64>,
        began: Instant,
        drained: bool,
    ) -> Result<(), JobError> {
        let faults = std::sync::Arc::clone(&self.environment.faults);
        let commit_began = self.environment.clock.instant();
        if let Some(watermark) = watermark {
            faults.reached(FaultStep::Close, Moment::Before);
            for (running, writer) in self.flows.iter_mut().zip(&mut writers.flows) {
                writer.stage.set_watermark(Some(watermark));
                while let Some(closed) = running.operator.close_next(watermark)? {
                    writer.refused.extend(closed.refused);
                    writer.write(closed.rows).await?;
                }
            }
            self.forget_duplicates(watermark);
            faults.reached(FaultStep::Close, Moment::After);
        }
        self.take_refused(plan, writers).await?;
        let outputs = self.finish_stages(writers, watermark).await?;
        let ranges = self.ranges(plan, &summary);
        let records = summary.read();
        let latest = summary.partitions.values().filter_map(|read| read.greatest_event_time).max();
        let written = summary.partitions.map(|read| read.written);
        let counters = self.counters(plan, writers, &outputs, summary);
        self.records_since_snapshot += records;
        let state = if self.snapshot_is_due(plan.clock, drained) {
            Some(self.write_state(writers.attempt).await?)
        } else {
            None
        };
        let duplicates = writers.duplicates.by_range(&ranges);
        let commit = self.commit_record(plan, ranges, watermark, state, outputs, counters, drained);
        let commit = Commit { duplicates, ..commit };
        let rows = writers.flows.iter().map(|flow| flow.counters.rows).sum();
        let files = commit.outputs.values().map(|output| output.files.len() as u64).sum();
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
            batch_ms: self.environment.clock.since(began).as_millis() as u64,
            commit_ms: self.environment.clock.since(commit_began).as_millis() as u64,
        };
        let latency = latest.map(|latest| self.environment.clock.now().saturating_sub(latest));
        (self.environment.observe)(&commit_status, latency);
        self.tell(commit_status);
        let breaker = self.log.state().breaker;
        if breaker.open { Err(too_many_bad(breaker)) } else { Ok(()) }
    }

    /// Ends what was written to each output. Dead letters first: without them nothing is decided.
    async fn finish_stages(
        &mut self,
        writers: &mut Writers,
        watermark: Option<i64>,
    ) -> Result<BTreeMap<String, OutputCommit>, JobError> {
        let mut outputs = BTreeMap::new();
        if let (Some(sink), Some(stage)) = (&self.sinks.dead_letters, &mut writers.dead_letters) {
            stage.set_watermark(watermark);
            let written = stage.finish().await?;
            outputs.insert(sink.name().to_owned(), OutputCommit { complete_until: watermark, ..written });
        }
        let flows = self.flows.iter().zip(&self.sinks.flows).zip(&mut writers.flows);
        for ((running, sink), FlowWriter { stage, .. }) in flows {
            let written = stage.finish().await?;
            let complete_until = running.complete_until(watermark);
            outputs.insert(sink.name().to_owned(), OutputCommit { complete_until, ..written });
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
        let mut read = summary.counters.into_iter();
        for (index, source) in self.settings.sources.iter().enumerate() {
            // A micro-batch that reads nothing has no counters at all.
            let read = read.next().unwrap_or_default();
            let duplicate = writers.duplicates.of(index);
            let late_kept = writers.late_kept.get(&index).copied().unwrap_or_default();
            counters.sources.insert(source.name.clone(), SourceCounters { duplicate, late_kept, ..read });
        }
        for (topic, partition, until) in plan.lost.iter() {
            let source = counters.sources.entry(self.settings.source_of(topic).name.clone()).or_default();
            source.lost_offsets += (until - self.positions[topic][&partition]).unsigned_abs();
        }
        for (name, output) in outputs {
            let mut flows = self.sinks.flows.iter().zip(&writers.flows);
            let flow = flows.find(|(sink, _)| sink.name() == name);
            let counted = || OutputCounters { rows: output.rows(), ..OutputCounters::default() };
            let mut output_counters = flow.map_or_else(counted, |(_, flow)| flow.counters.clone());
            output_counters.files = output.files.len() as u64;
            output_counters.bytes = output.bytes();
            counters.outputs.insert(name.clone(), output_counters);
        }
        debug_assert!(
            self.settings.flows.iter().all(|flow| {
                counters.is_conserved(&flow.output, |source| self.settings.plan.reads(&flow.output, source))
            }),
            "{counters:?}"
        );
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
        let sources = || counters.sources.values();
        let before = if self.settings.reset_breaker && known.breaker.open { Default::default() } else { known.breaker };
        let read = sources().map(SourceCounters::evidence).sum();
        let breaker = plan::breaker(before, plan.clock, read, counters.bad(), self.settings.max_bad_percent);
        let latest = self.settings.sources.iter();
        let latest = latest.map(|source| (source.name.clone(), source.latest_event_time(plan.clock)));
        let told = partitions.topics().filter_map(|name| Some((name, &self.identity.topics.get(name)?.id)));
        let new_topics = decide::ids_to_note(&known.topics, told);
        Commit {
            clock: plan.clock,
            latest_event_times: latest.collect(),
            new_topics,
            watermark,
            replay_from: self.replay_from(&partitions),
            references: self.reference_versions(),
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

    /// The batch that first put a row into something that the state holds.
    pub(super) fn first_version(&self) -> Option<u64> {
        let windows = self.flows.iter().filter_map(RunningFlow::first_version);
        windows.chain(self.deduplicator.iter().filter_map(RunningDeduplicator::first_version)).min()
    }

    /// Where a rebuild would have to begin after this batch: at the batch that first put a row into an open window, or into
    /// what duplicates are recognised by.
    fn replay_from(&self, ranges: &Partitions<Range>) -> Option<ReplayFrom> {
        let open = |(flow, running): (&Flow, &RunningFlow)| Some((flow.output.clone(), running.first_version()?));
        let outputs: BTreeMap<_, _> = self.settings.flows.iter().zip(&self.flows).filter_map(open).collect();
        let version = self.first_version()?;
        let deduplicate = self.deduplicator.as_ref().and_then(RunningDeduplicator::first_version);
        let known = self.log.state();
        let batch = known.replay_batch(version).map_or(ranges, |(_, batch)| &batch.partitions);
        Some(ReplayFrom { version, offsets: batch.map(|range| range.start), outputs, deduplicate })
    }

    fn snapshot_is_due(&self, clock: i64, drained: bool) -> bool {
        let operators = || self.flows.iter().map(|flow| &flow.operator);
        let groups = operators().map(|operator| operator.groups() as u64).sum::<u64>();
        let remembered = self.deduplicator.as_ref().map_or(0, |running| running.deduplicator.keys() as u64);
        let bytes = operators().map(|operator| operator.size_bytes() as u64).sum();
        let size = snapshot::Size { groups: groups + remembered, bytes };
        self.settings.has_state()
            && (drained || snapshot::is_due(size, self.records_since_snapshot, clock - self.snapshot_clock))
    }

    /// Writes the whole state; a part that did not change keeps its object.
    async fn write_state(&mut self, attempt: Attempt) -> Result<Vec<StateObject>, JobError> {
        let mut all = Vec::new();
        let mut written = WrittenState { attempt, number: 0 };
        for (flow, running) in self.settings.flows.iter().zip(&mut self.flows) {
            let Some(schema) = flow.query.state_schema() else { continue };
            let mut objects = BTreeMap::new();
            for part in running.operator.parts() {
                if let Some(object) = running.objects.get(&part.part).filter(|_| !part.changed_since_snapshot) {
                    objects.insert(part.part, object.clone());
                    continue;
                }
                let rows = running.operator.snapshot(part.part)?;
                let (first_version, output) = (part.first_version, flow.output.clone());
                let part = part.part;
                let object = StateObject { output, part, first_version, ..StateObject::default() };
                let object = written.write(&self.log, self.environment, (&schema, &rows), object).await?;
                objects.insert(part, object);
            }
            all.extend(objects.values().cloned());
            running.objects = objects;
        }
        let Some(running) = &mut self.deduplicator else { return Ok(all) };
        let mut objects = BTreeMap::new();
        for bucket in running.deduplicator.buckets() {
            let part = (bucket.source, bucket.start);
            if let Some(object) = running.objects.get(&part).filter(|_| !bucket.changed_since_snapshot) {
                objects.insert(part, object.clone());
                continue;
            }
            let Some(rows) = running.deduplicator.snapshot(bucket.source, bucket.start) else { continue };
            let source = Some(self.settings.sources[bucket.source].name.clone());
            let (part, first_version) = (bucket.start, bucket.first_version);
            let object = StateObject { source, part, first_version, ..StateObject::default() };
            let state = (&Deduplication::state_schema(), &[rows][..]);
            let object = written.write(&self.log, self.environment, state, object).await?;
            objects.insert((bucket.source, part), object);
        }
        all.extend(objects.values().cloned());
        running.objects = objects;
        Ok(all)
    }

    fn after_commit(&mut self, plan: &BatchPlan, written: &Partitions<Option<i64>>, has_snapshot: bool) {
        let committed = self.log.state().partitions.iter();
        self.positions.extend(committed.map(|(topic, partition, state)| (topic, partition, state.position)));
        let now = self.environment.clock.now();
        for (topic, partition, written) in written.iter() {
            self.read_up_to.or_insert(topic, partition, ReadUpTo::default()).committed(*written, now);
        }
        self.note_activity(plan);
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
}

/// The objects that one attempt writes.
struct WrittenState {
    attempt: Attempt,
    number: usize,
}

impl WrittenState {
    /// Writes a part of the state, and gives its object as the log names it.
    async fn write(
        &mut self,
        log: &JobLog,
        environment: &Environment,
        (schema, rows): (&SchemaRef, &[RecordBatch]),
        object: StateObject,
    ) -> Result<StateObject, JobError> {
        let content = snapshot::encode(schema, rows).map_err(|error| {
            JobError::passing(Reason::InternalError, format!("cannot encode the state: {error}"), "report this")
        })?;
        let path = paths::state_object(self.attempt.version, self.attempt.epoch, self.attempt.number, self.number);
        self.number += 1;
        let StagedFacts { bytes, xxh3, .. } = write_object(log, &*environment.faults, &path, content).await?;
        Ok(StateObject { path, bytes, xxh3, ..object })
    }
}

async fn write_object(
    log: &JobLog,
    faults: &dyn Faults,
    path: &str,
    content: Bytes,
) -> Result<StagedFacts, StoreError> {
    faults.reached(FaultStep::State, Moment::Before);
    let mut file = log.store().stage(path).await?;
    file.write(content).await?;
    let facts = file.finish().await?;
    faults.reached(FaultStep::State, Moment::After);
    Ok(facts)
}
