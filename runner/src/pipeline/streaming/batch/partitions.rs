//! What a micro-batch means for each partition: its range, its watermark, and whose watermark holds the job's back.

use crate::offsets::{Partitions, Range};
use crate::pipeline::streaming::RunMode;
use crate::pipeline::streaming::batch::BatchPlan;
use crate::pipeline::streaming::start::Session;
use crate::pipeline::watermark::sources::{SourceTime, over_sources};
use crate::pipeline::watermark::{self, JobWatermark, PartitionTime, WatermarkRule, job_watermark};
use crate::source::reader::ReadSummary;

impl Session<'_> {
    /// The job's watermark after a micro-batch: the least over the sources that windows are made of.
    pub(super) fn watermark(&self, plan: &BatchPlan, summary: &ReadSummary) -> JobWatermark {
        let partitions = self.partition_times(plan, summary);
        self.least(&partitions, plan.clock)
    }

    fn least(&self, partitions: &[(usize, PartitionTime)], clock: i64) -> JobWatermark {
        let mut sources = Vec::new();
        let mut holders = Vec::new();
        for SourcePartitions { rule, places, times } in self.by_source(partitions) {
            let JobWatermark { watermark, held_by } = job_watermark(&times, None, clock, &rule);
            let is_idle = |time: &PartitionTime| {
                time.caught_up && clock.saturating_sub(time.active) >= rule.idle_timeout
                    || rule.ignore_empty && time.watermark.is_none()
            };
            sources.push(SourceTime { watermark, idle: times.iter().all(is_idle) });
            // A source that holds the others as a whole does so by its latest partition.
            let latest = (0..times.len()).max_by_key(|partition| times[*partition].watermark);
            let place = |partition: usize| places[partition];
            holders.push((held_by.map(place), latest.map(place)));
        }
        if sources.is_empty() {
            return JobWatermark { watermark: None, held_by: None };
        }
        let (watermark, held) = over_sources(&sources, self.log.state().watermark);
        let held_by = match held {
            Some(source) => holders[source].0.or(holders[source].1),
            None => {
                let waiting = (0..sources.len()).filter(|source| !sources[*source].idle);
                waiting.min_by_key(|source| sources[*source].watermark).and_then(|source| holders[source].0)
            }
        };
        JobWatermark { watermark, held_by }
    }

    /// The partitions of each source that windows are made of, or whose duplicates are recognised.
    fn by_source(&self, partitions: &[(usize, PartitionTime)]) -> Vec<SourcePartitions> {
        let mut sources = Vec::new();
        for (index, source) in self.settings.sources.iter().enumerate() {
            let counts = self.settings.deduplication.is_some() || self.settings.windowed(index).next().is_some();
            let Some(time) = source.event_time.as_ref().filter(|_| counts) else { continue };
            let rule = WatermarkRule {
                policy: time.policy,
                idle_timeout: time.idle_timeout.as_micros(),
                max_hold: time.max_hold.as_micros(),
                ignore_empty: self.settings.mode != RunMode::Continuous,
            };
            let own = (0..).zip(partitions).filter(|(_, (of, _))| *of == index);
            let (places, times) = own.map(|(place, (_, time))| (place, *time)).unzip();
            sources.push(SourcePartitions { rule, places, times });
        }
        sources
    }

    /// Every partition in the order of [`Session::positions`], with the index of its source.
    fn partition_times(&self, plan: &BatchPlan, summary: &ReadSummary) -> Vec<(usize, PartitionTime)> {
        let state = self.log.state();
        let time = |(topic, partition, position): (&str, i32, &i64)| {
            let source = self.settings.routes.source_of(topic).unwrap_or_default();
            let known = state.partitions.at(topic, partition).unwrap_or_default();
            let range = self.range(topic, partition, plan, summary);
            let end = self.bounds.get(topic, partition).map(|bounds| bounds.end);
            let reached = range.map_or(*position, |range| range.end);
            // A topic that is not read any more has no end to reach; it leaves like one that is idle.
            let is_read = self.identity.topics.contains_key(topic);
            let time = PartitionTime {
                watermark: range.map_or(known.watermark, |range| range.watermark),
                active: range.map_or_else(|| self.active(topic, partition, plan.clock), |range| range.active),
                caught_up: !is_read || end.is_some_and(|end| reached >= end),
            };
            (source, time)
        };
        self.positions.iter().map(time).collect()
    }

    /// When a partition was last active, as far as it is known.
    fn active(&self, topic: &str, partition: i32, clock: i64) -> i64 {
        let known = self.activity.at(topic, partition);
        watermark::last_active(Some(known.unwrap_or(self.log.state().start.clock)), false, clock)
    }

    /// Brings the activity of every partition down to now: what a clock that was ahead has left.
    pub(super) fn limit_activity(&mut self, clock: i64) {
        self.activity = self.positions.map_at(|topic, partition, _| self.active(topic, partition, clock));
    }

    /// Takes note of what a commit says of the partitions that it read.
    pub(super) fn note_activity(&mut self, plan: &BatchPlan) {
        let read = plan.ranges.iter().map(|(topic, partition, _)| (topic, partition));
        let lost = plan.lost.iter().map(|(topic, partition, _)| (topic, partition));
        for (topic, partition) in read.chain(lost) {
            let committed = self.log.state().partitions.get(topic, partition);
            if let Some(active) = committed.and_then(|known| known.active) {
                self.activity.insert(topic, partition, active);
            }
        }
    }

    /// Names the partitions that nobody waits for any more, once.
    pub(super) fn name_left_behind(&mut self) {
        let (_, left_behind) = self.holders();
        let all: Vec<_> = self.positions.iter().map(|(topic, partition, _)| (topic.to_owned(), partition)).collect();
        let left_behind: Vec<_> = left_behind.into_iter().filter_map(|index| all.get(index).cloned()).collect();
        for (topic, partition) in left_behind.iter().filter(|partition| !self.left_behind.contains(partition)) {
            tracing::warn!(
                topic,
                partition,
                "its events are more than eventTime.maxHold behind the others: the watermark no longer waits for it, and its \
                 rows may be late; look at its producer's clock"
            );
        }
        self.left_behind = left_behind;
    }

    /// Indices of the partition that holds the watermark back and of those that nobody waits for, in the order of
    /// [`Session::positions`].
    pub(in crate::pipeline::streaming) fn holders(&self) -> (Option<usize>, Vec<usize>) {
        let clock = self.log.state().clock;
        let plan = BatchPlan { clock, ranges: Partitions::new(), lost: Partitions::new(), backlog_left: false };
        let partitions = self.partition_times(&plan, &ReadSummary::default());
        let behind = |source: SourcePartitions| {
            let left = watermark::left_behind(&source.times, &source.rule);
            left.into_iter().map(move |partition| source.places[partition])
        };
        let left_behind = self.by_source(&partitions).into_iter().flat_map(behind).collect();
        (self.least(&partitions, clock).held_by, left_behind)
    }

    /// What a partition's part of the commit is; `None` if the batch did not touch it.
    fn range(&self, topic: &str, partition: i32, plan: &BatchPlan, summary: &ReadSummary) -> Option<Range> {
        let read = summary.partitions.at(topic, partition);
        let lost_until = plan.lost.at(topic, partition);
        if read.is_none() && lost_until.is_none() {
            return None;
        }
        let known = self.log.state().partitions.at(topic, partition).unwrap_or_default();
        let start = self.positions.at(topic, partition).unwrap_or_default();
        let delay = self.settings.source_of(topic).watermark_delay();
        let greatest = read.and_then(|read| read.greatest_event_time).map(|time| time.saturating_sub(delay));
        let in_time = read.is_some_and(|read| read.has_valid && !self.is_late(topic, read.greatest_event_time));
        let active = self.activity.at(topic, partition).or(known.active);
        Some(Range {
            start,
            end: read.map(|read| read.end).or(lost_until).unwrap_or(start),
            records: read.map_or(0, |read| read.records),
            lost_until,
            watermark: known.watermark.max(greatest),
            active: watermark::last_active(active, in_time, plan.clock),
        })
    }

    /// Whether an event is late under the committed watermark, in all windows that it could be in.
    fn is_late(&self, topic: &str, event_time: Option<i64>) -> bool {
        let (Some(time), Some(watermark)) = (event_time, self.log.state().watermark) else { return false };
        let source = self.settings.routes.source_of(topic).unwrap_or_default();
        let mut windows = self.settings.windowed(source).peekable();
        windows.peek().is_some() && windows.all(|window| window.is_surely_late(time, watermark))
    }

    pub(super) fn ranges(&self, plan: &BatchPlan, summary: &ReadSummary) -> Partitions<Range> {
        let range = |(topic, partition, _)| Some((topic, partition, self.range(topic, partition, plan, summary)?));
        self.positions.iter().filter_map(range).collect()
    }
}

/// The partitions of one source, and how they make its watermark.
struct SourcePartitions {
    rule: WatermarkRule,
    /// Where each stands among all partitions.
    places: Vec<usize>,
    times: Vec<PartitionTime>,
}
