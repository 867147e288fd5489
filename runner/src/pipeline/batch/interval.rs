//! Intervals of time: hours and days in UTC, sets of them, and which of them a run processes.
//!
//! Pure. Times are microseconds since 1970 UTC; an interval is `[start, end)`.

use data_platform_crds::batch_job::BatchInterval;
use serde::{Deserialize, Serialize};

/// Microseconds of a second.
const SECOND: i64 = 1_000_000;
/// A Job of a CronJob carries the minute it was due in its name; older or younger names mean something else.
const SCHEDULE_AGE_MAX: i64 = 30 * 24 * 3_600 * SECOND;
/// Clocks of nodes differ a little.
const CLOCK_SKEW_MAX: i64 = 300 * SECOND;

/// `[start, end)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Interval {
    pub(crate) start: i64,
    pub(crate) end: i64,
}

/// Where intervals begin and how long they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Grid {
    Hour,
    Day,
}

impl From<BatchInterval> for Grid {
    fn from(interval: BatchInterval) -> Self {
        match interval {
            BatchInterval::Hour => Self::Hour,
            BatchInterval::Day => Self::Day,
        }
    }
}

impl Grid {
    pub(crate) fn length(self) -> i64 {
        match self {
            Self::Hour => 3_600 * SECOND,
            Self::Day => 24 * 3_600 * SECOND,
        }
    }

    /// What one is called.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    /// The interval that begins at `start`. `None`: none begins there.
    pub(crate) fn at(self, start: i64) -> Option<Interval> {
        (start.rem_euclid(self.length()) == 0).then(|| Interval { start, end: start + self.length() })
    }

    /// The last interval that is over at `time`.
    pub(crate) fn last_over(self, time: i64) -> Interval {
        let end = time - time.rem_euclid(self.length());
        Interval { start: end - self.length(), end }
    }

    /// The intervals of `[from, to)`, which begins and ends with one.
    pub(crate) fn between(self, from: i64, to: i64) -> impl Iterator<Item = Interval> {
        let count = (to - from).max(0) / self.length();
        (0..count).map(move |i| Interval { start: from + i * self.length(), end: from + (i + 1) * self.length() })
    }

    /// How an interval is written in the name of a file: `20260216T14`, `20260216`.
    pub(crate) fn name(self, interval: Interval) -> String {
        let time = chrono::DateTime::from_timestamp_micros(interval.start).unwrap_or_default();
        let format = match self {
            Self::Hour => "%Y%m%dT%H",
            Self::Day => "%Y%m%d",
        };
        time.format(format).to_string()
    }
}

/// The minute at which a Job was due, from the name that its CronJob gave it: `<cronjob>-<minutes since 1970>`.
/// `now` is when it runs.
pub(crate) fn scheduled_minute(job_name: &str, cron_job: &str, now: i64) -> Option<i64> {
    let minutes = job_name.strip_prefix(cron_job)?.strip_prefix('-')?;
    if minutes.is_empty() || !minutes.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let due = minutes.parse::<i64>().ok()?.checked_mul(60 * SECOND)?;
    (now - SCHEDULE_AGE_MAX <= due && due <= now + CLOCK_SKEW_MAX).then_some(due)
}

/// Times that are covered: intervals that touch are one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Covered(Vec<Interval>);

impl Covered {
    pub(crate) fn insert(&mut self, new: Interval) {
        let mut joined = new;
        self.0.retain(|old| {
            let touches = old.start <= joined.end && joined.start <= old.end;
            if touches {
                joined = Interval { start: old.start.min(joined.start), end: old.end.max(joined.end) };
            }
            !touches
        });
        self.0.push(joined);
        self.0.sort_unstable();
    }

    pub(crate) fn contains(&self, interval: Interval) -> bool {
        self.0.iter().any(|covered| covered.start <= interval.start && interval.end <= covered.end)
    }

    /// End of what is covered without a gap from `from` on.
    pub(crate) fn until(&self, from: i64) -> Option<i64> {
        self.0.iter().find(|covered| covered.start <= from && from < covered.end).map(|covered| covered.end)
    }

    /// What is covered, from the oldest to the newest; no two of them touch.
    pub(crate) fn stretches(&self) -> &[Interval] {
        &self.0
    }

    pub(crate) fn last(&self) -> Option<Interval> {
        self.0.last().copied()
    }
}

/// What a run is asked to process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Exactly these, whether they were processed before or not.
    Exactly(Vec<Interval>),
    /// The run was due at this time.
    Due(i64),
}

/// The intervals of a run, oldest first. A run that was due processes the last interval that was over then and all
/// before it since `first`, the first that a due run processed, that are not finished: at most `catch_up`; the next runs
/// take what is left.
pub(crate) fn work(
    wanted: &Wanted,
    grid: Grid,
    finished: &Covered,
    first: Option<i64>,
    catch_up: usize,
) -> Vec<Interval> {
    match wanted {
        Wanted::Exactly(intervals) => intervals.clone(),
        Wanted::Due(time) => {
            let last = grid.last_over(*time);
            let from = first.unwrap_or(last.start).min(last.start);
            let open = |interval: &Interval| !finished.contains(*interval);
            grid.between(from, last.end).filter(open).take(catch_up.max(1)).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: i64 = 3_600 * SECOND;

    fn hour(number: i64) -> Interval {
        Interval { start: number * HOUR, end: (number + 1) * HOUR }
    }

    fn covered(hours: &[i64]) -> Covered {
        let mut covered = Covered::default();
        hours.iter().for_each(|number| covered.insert(hour(*number)));
        covered
    }

    fn starts(intervals: &[Interval]) -> Vec<i64> {
        intervals.iter().map(|interval| interval.start / HOUR).collect()
    }

    #[test]
    fn the_last_interval_that_is_over_ends_at_or_before_the_time() {
        for (time, start) in [(5 * HOUR, 4), (5 * HOUR + 1, 4), (6 * HOUR - 1, 4), (-1, -2)] {
            assert_eq!(Grid::Hour.last_over(time), hour(start), "{time}");
        }
        let day = Grid::Day.last_over(25 * HOUR);
        assert_eq!((day.start, day.end), (0, 24 * HOUR));
        assert_eq!(Grid::Hour.name(hour(14)), "19700101T14");
        assert_eq!(Grid::Day.name(day), "19700101");
        assert_eq!(Grid::Hour.at(HOUR + 1), None);
    }

    #[test]
    fn the_name_of_a_job_tells_when_it_was_due() {
        let now = 1_771_250_700 * SECOND;
        let minutes = now / SECOND / 60;
        let of = |name: &str| scheduled_minute(name, "hourly", now);
        assert_eq!(of(&format!("hourly-{minutes}")), Some(minutes * 60 * SECOND));
        assert_eq!(of(&format!("hourly-{}", minutes - 43_200)), Some((minutes - 43_200) * 60 * SECOND));
        for other in [
            format!("hourly-{}", minutes - 43_201),
            format!("hourly-{}", minutes + 6),
            format!("other-{minutes}"),
            "hourly-manual-x7".to_owned(),
            "hourly-".to_owned(),
            "hourly".to_owned(),
            "hourly-+5".to_owned(),
            format!("hourly-{}", u64::MAX),
        ] {
            assert_eq!(of(&other), None, "{other}");
        }
    }

    #[test]
    fn a_due_run_takes_what_earlier_runs_left_oldest_first() {
        let due = Wanted::Due(10 * HOUR + 5);
        let at = |finished: &[i64], first, most| starts(&work(&due, Grid::Hour, &covered(finished), first, most));
        assert_eq!(at(&[], None, 24), [9], "the first run begins nothing before itself");
        assert_eq!(at(&[5], Some(5 * HOUR), 24), [6, 7, 8, 9]);
        assert_eq!(at(&[5, 7], Some(5 * HOUR), 24), [6, 8, 9], "a hole that a manual run left behind it");
        assert_eq!(at(&[5], Some(5 * HOUR), 2), [6, 7], "the next run goes on");
        assert_eq!(at(&[5, 6, 7, 8, 9], Some(5 * HOUR), 24), [] as [i64; 0]);
        assert_eq!(at(&[20], Some(20 * HOUR), 24), [9], "a run that comes late");
        assert_eq!(starts(&work(&Wanted::Exactly(vec![hour(3)]), Grid::Hour, &covered(&[3]), None, 1)), [3]);
    }

    proptest! {
        #[test]
        fn what_is_covered_does_not_depend_on_the_order(hours in prop::collection::vec(0_i64..30, 0..40), split in 0_usize..40) {
            let (left, right) = hours.split_at(split.min(hours.len()));
            prop_assert_eq!(covered(&hours), covered(&[right, left].concat()));
            for number in 0..30 {
                prop_assert_eq!(covered(&hours).contains(hour(number)), hours.contains(&number));
            }
        }

        #[test]
        fn runs_that_are_skipped_and_doubled_process_every_interval_once(
            runs in prop::collection::vec(0_i64..60, 1..40),
            catch_up in 1_usize..10,
        ) {
            let (mut finished, mut first, mut seen) = (Covered::default(), None, Vec::new());
            let last = *runs.iter().max().unwrap();
            let runs: Vec<_> = runs.into_iter().chain(std::iter::repeat_n(last, 60)).collect();
            for run in &runs {
                for interval in work(&Wanted::Due(run * HOUR + 5), Grid::Hour, &finished, first, catch_up) {
                    first = first.or(Some(interval.start));
                    finished.insert(interval);
                    seen.push(interval.start / HOUR);
                }
            }
            let count = seen.len();
            seen.sort_unstable();
            seen.dedup();
            prop_assert_eq!(seen.len(), count, "doubled");
            for number in runs[0]..last {
                prop_assert!(finished.contains(hour(number)), "{} is lost", number);
            }
        }
    }
}
