//! The job's watermark: how the partitions' watermarks make it, and who holds it back.
//!
//! Pure. Rules and their reasons: docs/time.md. Times are microseconds since 1970 UTC.

pub mod sources;

use data_platform_crds::source::WatermarkPolicy;

/// What the watermark needs to know of one partition after a micro-batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionTime {
    /// Greatest event time so far minus the delay; `None` before the first valid record.
    pub watermark: Option<i64>,
    /// Batch clock of the last batch with a record that was not late; of the first batch, if there was none.
    pub active: i64,
    /// The batch reached the end offset that was fetched when it was planned.
    pub caught_up: bool,
}

/// How partitions make the job's watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatermarkRule {
    /// Least or greatest.
    pub policy: WatermarkPolicy,
    /// After this time without a record that was not late a partition that is caught up leaves the minimum.
    pub idle_timeout: i64,
    /// A partition that is caught up and further than this behind the greatest leaves the minimum.
    pub max_hold: i64,
    /// A bounded run: partitions that never had a record do not hold the watermark, unless they have some to read.
    pub ignore_empty: bool,
}

/// The job's watermark, and why it is not later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobWatermark {
    /// Never before the previous one.
    pub watermark: Option<i64>,
    /// Index of the partition that holds it back, if one does.
    pub held_by: Option<usize>,
}

/// Computes the job's watermark after a micro-batch with the batch clock `clock`.
///
/// The partition with the highest watermark never leaves, so that the watermark follows the data and never the wall
/// clock: the newest window stays open until newer data comes.
pub fn job_watermark(
    partitions: &[PartitionTime],
    previous: Option<i64>,
    clock: i64,
    rule: &WatermarkRule,
) -> JobWatermark {
    let latest = partitions.iter().filter_map(|partition| partition.watermark).max();
    let Some(latest) = latest else { return JobWatermark { watermark: previous, held_by: None } };
    if rule.policy == WatermarkPolicy::SparkMax {
        return JobWatermark { watermark: previous.max(Some(latest)), held_by: None };
    }
    let holds = |partition: &PartitionTime| {
        let idle = partition.caught_up && clock.saturating_sub(partition.active) >= rule.idle_timeout;
        match partition.watermark {
            Some(watermark) => watermark == latest || !idle && !is_left_behind(partition, latest, rule),
            None => !(idle || rule.ignore_empty && partition.caught_up),
        }
    };
    let active = partitions.iter().enumerate().filter(|(_, partition)| holds(partition));
    // `None` orders before every time: a partition that holds without a watermark is the one that holds it back.
    let least = active.min_by_key(|(_, partition)| partition.watermark);
    let (holder, watermark) =
        least.map_or((None, Some(latest)), |(index, partition)| (Some(index), partition.watermark));
    let held_by = if watermark == Some(latest) { None } else { holder };
    JobWatermark { watermark: previous.max(watermark), held_by }
}

/// Whether a partition is so far behind the greatest watermark that nobody waits for it. With a backlog it is waited for.
fn is_left_behind(partition: &PartitionTime, latest: i64, rule: &WatermarkRule) -> bool {
    let behind = partition.watermark.map(|watermark| latest.saturating_sub(watermark));
    partition.caught_up && behind.is_some_and(|behind| behind > rule.max_hold)
}

/// Indices of the partitions that nobody waits for, since their events are too old.
pub fn left_behind(partitions: &[PartitionTime], rule: &WatermarkRule) -> Vec<usize> {
    let latest = partitions.iter().filter_map(|partition| partition.watermark).max();
    let Some(latest) = latest.filter(|_| rule.policy == WatermarkPolicy::PartitionMin) else { return Vec::new() };
    (0..partitions.len()).filter(|index| is_left_behind(&partitions[*index], latest, rule)).collect()
}

/// When a partition was last active, after a micro-batch with the batch clock `clock`. Late records are no activity: a
/// producer whose clock stands still must not hold everybody's windows. And no activity lies in the future: a clock that
/// was ahead for a moment must not make a partition active until that moment comes.
pub fn last_active(known: Option<i64>, in_time: bool, clock: i64) -> i64 {
    known.filter(|_| !in_time).map_or(clock, |known| known.min(clock))
}

/// Records that a batch needs before its times say something of the runner's clock: fewer may come from one producer.
const CLOCK_RECORDS_MIN: u64 = 1_000;

/// Whether the runner's clock is behind, as far as a batch can say: of `records` records, `ahead` were written to Kafka
/// further ahead of the clock than is allowed. Then it is not their clocks that are wrong.
pub fn clock_is_behind(records: u64, ahead: u64) -> bool {
    records >= CLOCK_RECORDS_MIN && ahead > records / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULE: WatermarkRule =
        WatermarkRule { policy: WatermarkPolicy::PartitionMin, idle_timeout: 30, max_hold: 1_000, ignore_empty: false };

    fn partition(watermark: impl Into<Option<i64>>, active: i64, caught_up: bool) -> PartitionTime {
        PartitionTime { watermark: watermark.into(), active, caught_up }
    }

    fn at(partitions: &[PartitionTime], clock: i64) -> (Option<i64>, Option<usize>) {
        let result = job_watermark(partitions, None, clock, &RULE);
        (result.watermark, result.held_by)
    }

    #[test]
    fn the_least_active_partition_decides() {
        assert_eq!(at(&[partition(70, 100, true), partition(50, 100, true)], 100), (Some(50), Some(1)));
        assert_eq!(at(&[], 100), (None, None));
    }

    #[test]
    fn an_idle_partition_leaves_only_if_it_is_caught_up() {
        assert_eq!(at(&[partition(70, 100, true), partition(50, 60, true)], 100), (Some(70), None));
        assert_eq!(at(&[partition(70, 100, true), partition(50, 60, false)], 100), (Some(50), Some(1)));
        assert_eq!(at(&[partition(70, 100, true), partition(50, 71, true)], 100), (Some(50), Some(1)));
    }

    #[test]
    fn the_partition_with_the_highest_watermark_never_leaves() {
        assert_eq!(at(&[partition(70, 0, true)], 1_000_000), (Some(70), None));
        assert_eq!(at(&[partition(70, 0, true), partition(60, 0, true)], 1_000_000), (Some(70), None));
    }

    #[test]
    fn a_bounded_run_waits_for_a_partition_that_has_records_and_gave_none_yet() {
        let rule = WatermarkRule { ignore_empty: true, ..RULE };
        let with = |caught_up| [partition(70, 100, true), partition(None, 100, caught_up)];
        assert_eq!(job_watermark(&with(true), None, 100, &rule).watermark, Some(70));
        assert_eq!(job_watermark(&with(false), None, 100, &rule).watermark, None);
    }

    #[test]
    fn a_partition_without_records_holds_until_it_is_idle_and_never_in_a_bounded_run() {
        let partitions = [partition(70, 100, true), partition(None, 90, true)];
        assert_eq!(at(&partitions, 100), (None, Some(1)));
        assert_eq!(at(&partitions, 120), (Some(70), None));
        let bounded = WatermarkRule { ignore_empty: true, ..RULE };
        assert_eq!(job_watermark(&partitions, None, 100, &bounded).watermark, Some(70));
        // With a backlog of records that are all bad it is not idle.
        assert_eq!(at(&[partition(70, 100, true), partition(None, 0, false)], 100), (None, Some(1)));
    }

    #[test]
    fn a_partition_that_is_far_behind_leaves_only_if_it_is_caught_up_and_is_named() {
        let far = [partition(2_000, 100, true), partition(999, 100, true), partition(1_000, 100, true)];
        assert_eq!(at(&far, 100), (Some(1_000), Some(2)));
        assert_eq!(left_behind(&far, &RULE), [1]);
        let backlog = [partition(2_000, 100, true), partition(0, 100, false)];
        assert_eq!(at(&backlog, 100), (Some(0), Some(1)));
        assert!(left_behind(&backlog, &RULE).is_empty());
        let spark = WatermarkRule { policy: WatermarkPolicy::SparkMax, ..RULE };
        assert!(left_behind(&far, &spark).is_empty());
        assert!(left_behind(&[partition(None, 100, true)], &RULE).is_empty());
        // Ages beyond what a difference holds.
        assert_eq!(left_behind(&[partition(i64::MAX, 0, true), partition(i64::MIN, 0, true)], &RULE), [1]);
    }

    #[test]
    fn late_records_are_no_activity_and_none_lies_in_the_future() {
        assert_eq!(last_active(Some(50), true, 100), 100);
        assert_eq!(last_active(Some(50), false, 100), 50);
        assert_eq!(last_active(None, false, 100), 100);
        assert_eq!(last_active(Some(90_000), false, 100), 100);
        assert_eq!(last_active(Some(90_000), true, 100), 100);
    }

    #[test]
    fn the_runners_clock_is_behind_when_most_of_many_records_say_so() {
        assert!(clock_is_behind(1_000, 501));
        assert!(!clock_is_behind(1_000, 500));
        assert!(!clock_is_behind(999, 999));
        assert!(clock_is_behind(u64::MAX, u64::MAX));
        assert!(!clock_is_behind(0, 0));
    }

    #[test]
    fn sparks_policy_takes_the_greatest() {
        let rule = WatermarkRule { policy: WatermarkPolicy::SparkMax, ..RULE };
        let partitions = [partition(70, 100, true), partition(None, 100, true), partition(50, 100, true)];
        assert_eq!(job_watermark(&partitions, Some(60), 100, &rule).watermark, Some(70));
        assert_eq!(job_watermark(&partitions, Some(80), 100, &rule).watermark, Some(80));
    }

    proptest! {
        #[test]
        fn the_watermark_never_falls_and_never_passes_the_latest_data(
            partitions in prop::collection::vec((prop::option::of(-2_000_i64..100), 0_i64..100, any::<bool>()), 0..6),
            previous in prop::option::of(-100_i64..100),
            clock in 0_i64..200,
        ) {
            let partitions: Vec<_> = partitions.into_iter().map(|(w, a, c)| partition(w, a, c)).collect();
            let result = job_watermark(&partitions, previous, clock, &RULE);
            let latest = partitions.iter().filter_map(|p| p.watermark).max();
            prop_assert!(result.watermark >= previous);
            let left = left_behind(&partitions, &RULE);
            prop_assert!(!left.iter().any(|index| partitions[*index].watermark == latest || !partitions[*index].caught_up));
            prop_assert!(result.watermark <= latest.max(previous));
            if let Some(holder) = result.held_by {
                prop_assert!(partitions[holder].watermark < latest);
            }
        }

        #[test]
        fn a_partition_without_activity_leaves_in_time_however_the_clock_jumped(
            jumps in prop::collection::vec(-200_i64..200, 1..20), in_time in any::<bool>(),
        ) {
            // One look that may have seen a record, then only looks that see none; each brings the activity down to now.
            let mut clock = 1_000;
            let mut active = last_active(Some(5_000), in_time, clock);
            for jump in &jumps {
                clock += jump;
                active = last_active(Some(active), false, clock);
                prop_assert!(active <= clock);
            }
            let partitions = [partition(70, clock, true), partition(50, active, true)];
            prop_assert_eq!(job_watermark(&partitions, None, clock + 30, &RULE).watermark, Some(70));
        }
    }
}
