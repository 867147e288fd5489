//! What a rebuild of the state needs to know of the batches since the oldest open window.
//!
//! Pure. A window may stay open for a week, and a week has 60,000 batches. What counts of the cuts between them are the
//! decisions that hang on them: which rows were late, which were too far in the future, and which windows were closed.
//! Neighbours between which none of these changed are kept as one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::checkpoint::duplicates::Duplicates;
use crate::checkpoint::record::{Commit, ReferenceVersion, WindowEnds};
use crate::offsets::{Partitions, Range};

/// A batch, or several that may be read as one, as a rebuild repeats it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayBatch {
    /// Its last version; its first one is its key. 0 in a base of format 1: both are one.
    #[serde(default)]
    pub until: u64,
    /// By source: events after this time were refused as future.
    pub latest_event_times: BTreeMap<String, i64>,
    /// No event was, so that a later time would have refused none either. `false` where nobody knows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refused_none: bool,
    /// The job's watermark before it: what was late.
    pub watermark_before: Option<i64>,
    /// The job's watermark after it: what it closed.
    pub watermark: Option<i64>,
    /// The ranges it read.
    pub partitions: Partitions<Range>,
    /// Which of these records were duplicates.
    #[serde(default, skip_serializing_if = "Partitions::is_empty")]
    pub duplicates: Partitions<Duplicates>,
    /// The versions of references that it used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<ReferenceVersion>,
}

impl ReplayBatch {
    /// What a commit read.
    pub fn new(version: u64, watermark_before: Option<i64>, commit: &Commit) -> Self {
        let mut sources = commit.counters.sources.values();
        let refused_none = sources.all(|source| source.future == 0 && !source.dead_letter.contains_key("future"));
        Self {
            until: version,
            latest_event_times: commit.latest_event_times.clone(),
            refused_none,
            watermark_before,
            watermark: commit.watermark,
            partitions: commit.partitions.clone(),
            duplicates: commit.duplicates.clone(),
            references: commit.references.clone(),
        }
    }

    /// This batch and the one that follows it as one; `None` if a rebuild could then decide differently.
    fn with(&self, next: &Self, ends: &WindowEnds) -> Option<Self> {
        let is_same_window = match (self.watermark_before, next.watermark_before) {
            (None, None) => true,
            (Some(one), Some(other)) => ends.none_between(one, other),
            _ => false,
        };
        let mut latest_event_times = self.latest_event_times.clone();
        for (source, time) in &next.latest_event_times {
            let latest = latest_event_times.entry(source.clone()).or_insert(*time);
            *latest = (*latest).max(*time);
        }
        let decides_the_same = |batch: &Self| batch.refused_none || batch.latest_event_times == latest_event_times;
        if !is_same_window || self.references != next.references || !decides_the_same(self) || !decides_the_same(next) {
            return None;
        }
        let mut partitions = self.partitions.clone();
        for (topic, partition, range) in next.partitions.iter() {
            let joined = match self.partitions.get(topic, partition) {
                Some(before) if before.end != range.start || range.lost_until.is_some() => return None,
                Some(before) => Range {
                    start: before.start,
                    records: before.records + range.records,
                    lost_until: before.lost_until,
                    ..*range
                },
                None => *range,
            };
            partitions.insert(topic, partition, joined);
        }
        Some(Self {
            until: next.until,
            latest_event_times,
            refused_none: self.refused_none && next.refused_none,
            watermark_before: self.watermark_before,
            watermark: next.watermark,
            duplicates: self.duplicates_with(next, &partitions),
            partitions,
            references: self.references.clone(),
        })
    }

    /// The duplicates of both, by ranges that begin where those of both together do.
    fn duplicates_with(&self, next: &Self, together: &Partitions<Range>) -> Partitions<Duplicates> {
        let mut all = self.duplicates.clone();
        for (topic, partition, following) in next.duplicates.iter() {
            let start = |ranges: &Partitions<Range>| ranges[topic][&partition].start;
            let (start, following_start) = (start(together), start(&next.partitions));
            let before = self.duplicates.get(topic, partition).cloned().unwrap_or_default();
            all.insert(topic, partition, before.with(start, following, following_start));
        }
        all
    }
}

/// Makes the last batches one as far as they may be. `borders` are versions after which none is joined with what came before:
/// a rebuild begins after the last snapshot, and another plan has other queries.
pub(super) fn merge_last(replay: &mut BTreeMap<u64, ReplayBatch>, ends: &WindowEnds, borders: [Option<u64>; 2]) {
    loop {
        let mut newest = replay.iter().rev();
        let (Some((last, next)), Some((first, batch))) = (newest.next(), newest.next()) else { return };
        let (last, first) = (*last, *first);
        if borders.into_iter().flatten().any(|border| (batch.until.max(first)..last).contains(&border)) {
            return;
        }
        let Some(joined) = batch.with(next, ends) else { return };
        replay.remove(&last);
        replay.insert(first, joined);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::counters::SourceCounters;

    /// A record: its event time, by offset, of two partitions.
    type Topic = [Vec<i64>; 2];

    /// One batch of a run: records of each partition, how far the watermark rises, the greatest event time it takes.
    type Cut = ([usize; 2], i64, i64, bool);

    const SIZE: i64 = 10;

    fn only(time: i64) -> BTreeMap<String, i64> {
        BTreeMap::from([("s".to_owned(), time)])
    }

    /// The state: which records are in which open window.
    type State = BTreeMap<i64, BTreeSet<(i32, i64)>>;

    /// Executes a batch on a state, as a start does: rows that are late or in the future are left out.
    fn execute(state: &mut State, topic: &Topic, batch: &ReplayBatch) -> u64 {
        let mut refused = 0;
        for (partition, range) in batch.partitions.topic("t") {
            for offset in range.start..range.end {
                let time = topic[partition as usize][offset as usize];
                let window = time.div_euclid(SIZE) * SIZE;
                if time > batch.latest_event_times["s"] {
                    refused += 1;
                } else if batch.watermark_before.is_none_or(|watermark| window + SIZE > watermark) {
                    state.entry(window).or_default().insert((partition, offset));
                }
            }
        }
        state.retain(|window, _| batch.watermark.is_none_or(|watermark| window + SIZE > watermark));
        refused
    }

    proptest! {
        #[test]
        fn a_rebuild_of_merged_batches_gives_the_state_that_the_batches_gave(
            times in prop::collection::vec(0..60_i64, 40),
            cuts in prop::collection::vec(
                ([0..3_usize, 0..3_usize], prop_oneof![3 => Just(0_i64), 2 => 1..4_i64, 1 => 5..15_i64], 20..70_i64, any::<bool>()),
                1..20,
            ),
        ) {
            let topic: Topic = [times[..20].to_vec(), times[20..].to_vec()];
            let ends = WindowEnds { step: SIZE, offset: 0 };
            let (mut state, mut positions, mut watermark) = (State::new(), [0_usize; 2], None);
            let (mut merged, mut snapshot, mut at_snapshot) = (BTreeMap::new(), None, State::new());
            let mut all = BTreeMap::new();
            let cuts: Vec<Cut> = cuts;
            for (number, (take, rise, latest, is_snapshot)) in cuts.into_iter().enumerate() {
                let version = number as u64 + 5;
                let mut partitions = Partitions::new();
                for partition in 0..2 {
                    let start = positions[partition];
                    let end = (start + take[partition]).min(20);
                    positions[partition] = end;
                    if end > start {
                        let range = Range { start: start as i64, end: end as i64, records: (end - start) as u64, ..Range::default() };
                        partitions.insert("t", partition as i32, range);
                    }
                }
                let after = if rise == 0 { watermark } else { Some(watermark.unwrap_or(0) + rise) };
                let mut commit = Commit { latest_event_times: only(latest), watermark: after, partitions, ..Commit::default() };
                let mut batch = ReplayBatch::new(version, watermark, &commit);
                let future = execute(&mut state, &topic, &batch);
                commit.counters.sources.insert("s".to_owned(), SourceCounters { future, ..SourceCounters::default() });
                batch = ReplayBatch::new(version, watermark, &commit);
                watermark = after;
                all.insert(version, batch.clone());
                merged.insert(version, batch);
                if is_snapshot {
                    (snapshot, at_snapshot) = (Some(version), state.clone());
                }
                merge_last(&mut merged, &ends, [snapshot, None]);

                let mut whole = State::new();
                for batch in merged.values() {
                    execute(&mut whole, &topic, batch);
                }
                prop_assert_eq!(&whole, &state, "from the beginning: {:?}", merged);
                if let Some(snapshot) = snapshot {
                    let mut since = at_snapshot.clone();
                    for (_, batch) in merged.range(snapshot + 1..) {
                        execute(&mut since, &topic, batch);
                    }
                    prop_assert_eq!(&since, &state, "from the snapshot: {:?}", merged);
                }
            }
            let records = |batches: &BTreeMap<u64, ReplayBatch>| -> u64 {
                batches.values().flat_map(|batch| batch.partitions.values()).map(|range| range.records).sum()
            };
            prop_assert_eq!(records(&merged), records(&all));
        }
    }

    #[test]
    fn batches_of_one_window_are_one_however_many_they_are() {
        let ends = WindowEnds { step: 1_000_000, offset: 0 };
        let mut replay = BTreeMap::new();
        for number in 0..10_000_i64 {
            let range = Range { start: number, end: number + 1, records: 1, ..Range::default() };
            let commit = Commit {
                latest_event_times: only(number),
                watermark: Some(number),
                partitions: Partitions::of("t", [(0, range)]),
                ..Commit::default()
            };
            replay
                .insert(number as u64, ReplayBatch::new(number as u64, Some(number - 1).filter(|w| *w >= 0), &commit));
            // A snapshot now and then, as a job writes them.
            let snapshot = (number as u64 / 6).checked_mul(6).filter(|snapshot| *snapshot > 0);
            merge_last(&mut replay, &ends, [snapshot, None]);
            assert!(replay.len() <= 4, "{number}: {} batches", replay.len());
        }
        let records: u64 = replay.values().map(|batch| batch.partitions["t"][&0].records).sum();
        assert_eq!(records, 10_000);
    }
}
