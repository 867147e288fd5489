//! What the next micro-batch reads, when it starts, and when bad records stop the job.
//!
//! Pure: functions of offsets and clocks.

use std::time::Duration;

use crate::checkpoint::record::Breaker;
use crate::offsets::Partitions;

/// Ranges `[start, end)` of the next micro-batch: everything up to the known ends, or `records_max` offsets shared over
/// the partitions in proportion to their backlog, so that they advance through time together. A partition without
/// backlog is not listed; one with backlog gets at least one offset as long as there are enough for all.
pub fn micro_batch(positions: &Partitions<i64>, ends: &Partitions<i64>, records_max: i64) -> Partitions<(i64, i64)> {
    let mut backlog = Vec::new();
    for (topic, partition, end) in ends.iter() {
        let position = positions.at(topic, partition).unwrap_or(0);
        if *end > position {
            backlog.push((topic, partition, position, *end - position));
        }
    }
    let total: i128 = backlog.iter().map(|(.., lag)| i128::from(*lag)).sum();
    let all = total <= i128::from(records_max);
    let mut left = records_max;
    let mut ranges = Partitions::new();
    let waiting = backlog.len() as i64;
    for (number, (topic, partition, position, lag)) in backlog.into_iter().enumerate() {
        let others = (waiting - number as i64 - 1).min((left - 1).max(0));
        let share = (i128::from(lag) * i128::from(records_max) / total.max(1)) as i64;
        // The last one takes what rounding left over.
        let share = if others == 0 { left } else { share.max(1).min(left - others) };
        let take = if all { lag } else { share.min(lag) };
        if take > 0 {
            left -= take;
            ranges.insert(topic, partition, (position, position + take));
        }
    }
    ranges
}

/// How long to wait before the next micro-batch: not at all when the last one left a backlog.
pub fn until_next_trigger(since_last_start: Duration, interval: Duration, backlog_left: bool) -> Duration {
    if backlog_left { Duration::ZERO } else { interval.saturating_sub(since_last_start) }
}

/// Records that the circuit breaker wants to have seen before it judges.
const BREAKER_RECORDS_MIN: u64 = 1_000;
/// Time over which they must have come, in microseconds.
const BREAKER_SPAN_MIN: i64 = 60_000_000;

/// The evidence after one more micro-batch. An open breaker stays open.
pub fn breaker(before: Breaker, clock: i64, records: u64, bad: u64, max_percent: u64) -> Breaker {
    if before.open {
        return before;
    }
    let since = if before.records == 0 { clock } else { before.since };
    let (records, bad) = (before.records + records, before.bad + bad);
    if records < BREAKER_RECORDS_MIN || clock - since < BREAKER_SPAN_MIN {
        return Breaker { since, records, bad, open: false };
    }
    if bad * 100 > records * max_percent {
        return Breaker { since, records, bad, open: true };
    }
    Breaker { since: clock, records: 0, bad: 0, open: false }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use proptest::prelude::*;

    fn offsets(values: &[i64]) -> Partitions<i64> {
        Partitions::of("t", (0..).zip(values.iter().copied()))
    }

    fn lengths(ranges: &Partitions<(i64, i64)>) -> Vec<i64> {
        ranges.values().map(|(start, end)| end - start).collect()
    }

    #[test]
    fn everything_is_read_when_it_fits() {
        let ranges = micro_batch(&offsets(&[5, 7, 9]), &offsets(&[8, 7, 10]), 100);
        assert_eq!(ranges["t"], BTreeMap::from([(0, (5, 8)), (2, (9, 10))]));
    }

    #[test]
    fn the_limit_is_shared_by_backlog() {
        let ranges = micro_batch(&offsets(&[0, 0, 0]), &offsets(&[1_000, 3_000, 0]), 100);
        assert_eq!(lengths(&ranges), [25, 75]);
        let ranges = micro_batch(&offsets(&[0, 0, 0]), &offsets(&[1, 1, 1_000_000]), 100);
        assert_eq!(lengths(&ranges), [1, 1, 98]);
    }

    #[test]
    fn a_partition_that_is_new_begins_at_zero() {
        assert_eq!(lengths(&micro_batch(&Partitions::new(), &offsets(&[4]), 100)), [4]);
    }

    proptest! {
        #[test]
        fn a_plan_keeps_the_limit_and_wastes_nothing(
            lags in prop::collection::vec(0_i64..100_000, 1..20),
            records_max in 1_i64..50_000,
        ) {
            let ranges = micro_batch(&offsets(&vec![10; lags.len()]), &offsets(&lags.iter().map(|l| l + 10).collect::<Vec<_>>()), records_max);
            let planned: i64 = lengths(&ranges).iter().sum();
            let total: i64 = lags.iter().sum();
            prop_assert!(planned <= records_max.max(0));
            prop_assert!(total == 0 || planned > 0);
            prop_assert!(total > records_max || planned == total);
            let waiting = lags.iter().filter(|lag| **lag > 0).count();
            if records_max >= waiting as i64 {
                prop_assert_eq!(lengths(&ranges).len(), waiting);
            }
            for length in lengths(&ranges) {
                prop_assert!(length > 0);
            }
        }
    }

    #[test]
    fn the_trigger_waits_only_when_caught_up() {
        let second = Duration::from_secs(1);
        assert_eq!(until_next_trigger(second * 3, second * 10, false), second * 7);
        assert_eq!(until_next_trigger(second * 30, second * 10, false), Duration::ZERO);
        assert_eq!(until_next_trigger(second * 3, second * 10, true), Duration::ZERO);
    }

    #[test]
    fn the_breaker_needs_a_thousand_records_and_a_minute() {
        let minute = 60_000_000;
        let first = breaker(Breaker::default(), 1_000, 999, 999, 5);
        assert!(!first.open);
        assert!(!breaker(first, 1_000 + minute, 0, 0, 5).open, "too few records");
        assert!(!breaker(first, 2_000, 5_000, 5_000, 5).open, "too short");
        let open = breaker(first, 1_000 + minute, 1, 1, 5);
        assert!(open.open);
        assert!(breaker(open, 10 * minute, 1_000_000, 0, 5).open, "it stays open");
        let good = breaker(Breaker { since: 0, records: 1_000, bad: 50, open: false }, minute, 0, 0, 5);
        assert_eq!(good, Breaker { since: minute, records: 0, bad: 0, open: false }, "5 % is not more than 5 %");
        assert!(!breaker(Breaker { since: 0, records: 1_000, bad: 1_000, open: false }, minute, 0, 0, 100).open);
    }
}
