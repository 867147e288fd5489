//! What a micro-batch means for each partition: its range, its watermark, and whose watermark holds the job's back.

use std::collections::BTreeMap;

use crate::checkpoint::record::{Partitions, Range};
use crate::pipeline::streaming::RunMode;
use crate::pipeline::streaming::batch::BatchPlan;
use crate::pipeline::streaming::start::Session;
use crate::pipeline::watermark::{JobWatermark, PartitionTime, WatermarkRule, job_watermark};
use crate::source::reader::ReadSummary;

impl Session<'_> {
    /// The job's watermark after a micro-batch.
    pub(super) fn watermark(&self, plan: &BatchPlan, summary: &ReadSummary) -> JobWatermark {
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
    pub(in crate::pipeline::streaming) fn held_by(&self) -> Option<usize> {
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

    pub(super) fn ranges(&self, plan: &BatchPlan, summary: &ReadSummary) -> Partitions<Range> {
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
}
