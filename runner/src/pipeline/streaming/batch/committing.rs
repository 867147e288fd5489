//! The commit of a micro-batch: closes windows, finishes the files, decides, publishes, and tells.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::checkpoint::counters::{Counters, OutputCounters};
use crate::checkpoint::job_state::map_partitions;
use crate::checkpoint::log::Attempt;
use crate::checkpoint::paths;
use crate::checkpoint::record::{Commit, OutputCommit, Partitions, Range, ReplayFrom, StateObject};
use crate::faults::{Moment, Step as FaultStep};
use crate::pipeline::error::{JobError, Reason};
use crate::pipeline::lag;
use crate::pipeline::plan;
use crate::pipeline::snapshot;
use crate::pipeline::status::CommitStatus;
use crate::pipeline::streaming::BadRecords;
use crate::pipeline::streaming::batch::{BatchPlan, Writers};
use crate::pipeline::streaming::start::{Session, too_many_bad};
use crate::source::reader::ReadSummary;

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
        let commit_began = Instant::now();
        writers.table.set_watermark(watermark);
        if let Some(watermark) = watermark {
            faults.reached(FaultStep::Close, Moment::Before);
            while let Some(rows) = self.operator.close_next(watermark)? {
                for rows in rows {
                    writers.counters.rows += rows.num_rows() as u64;
                    writers.table.write(&rows).await?;
                    self.take_refused(plan, writers).await?;
                }
            }
            faults.reached(FaultStep::Close, Moment::After);
        }
        self.take_refused(plan, writers).await?;
        self.wait_for_dead_letters(summary.counters.kept().end() + writers.counters.refused())?;
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

    fn wait_for_dead_letters(&self, letters: u64) -> Result<(), JobError> {
        let Some(topic) = self.dead_letter_topic.as_ref().filter(|_| letters > 0) else {
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
        let (read, bad) = (source.evidence(), source.dead_letters());
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
        let version = self.operator.parts().iter().map(|part| part.first_version).min()?;
        let known = self.log.state();
        let batch = known.replay_batch(version).map_or(ranges, |(_, batch)| &batch.partitions);
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
        for (number, part) in self.operator.parts().into_iter().enumerate() {
            if let Some(object) = self.objects.get(&part.part).filter(|_| !part.changed_since_snapshot) {
                objects.insert(part.part, object.clone());
                continue;
            }
            let rows = self.operator.snapshot(part.part)?;
            let content = snapshot::encode(&schema, &rows).map_err(|error| {
                JobError::passing(Reason::InternalError, format!("cannot encode the state: {error}"), "report this")
            })?;
            let path = paths::state_object(attempt.version, attempt.epoch, attempt.number, number);
            faults.reached(FaultStep::State, Moment::Before);
            let mut file = self.log.store().stage(&path).await?;
            file.write(content).await?;
            let facts = file.finish().await?;
            faults.reached(FaultStep::State, Moment::After);
            let (window, first_version) = (part.part, part.first_version);
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
