//! Intervals of time: hours, days, weeks and months in UTC, sets of them, and which of them a run processes.
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
    /// From Monday on.
    Week,
    Month,
}

impl From<BatchInterval> for Grid {
    fn from(interval: BatchInterval) -> Self {
        match interval {
            BatchInterval::Hour => Self::Hour,
            BatchInterval::Day => Self::Day,
            BatchInterval::Week => Self::Week,
            BatchInterval::Month => Self::Month,
        }
    }
}

impl From<Grid> for BatchInterval {
    fn from(grid: Grid) -> Self {
        match grid {
            Grid::Hour => Self::Hour,
            Grid::Day => Self::Day,
            Grid::Week => Self::Week,
            Grid::Month => Self::Month,
        }
    }
}

impl Grid {
    /// What one is called.
    pub(crate) fn word(self) -> &'static str {
        BatchInterval::from(self).word()
    }

    /// The interval that holds a time.
    pub(crate) fn around(self, time: i64) -> Interval {
        let (start, end) = BatchInterval::from(self).around(time.div_euclid(SECOND));
        Interval { start: start * SECOND, end: end * SECOND }
    }

    /// The interval that begins at `start`. `None`: none begins there.
    pub(crate) fn at(self, start: i64) -> Option<Interval> {
        Some(self.around(start)).filter(|interval| interval.start == start)
    }

    /// The last interval that is over at `time`.
    pub(crate) fn last_over(self, time: i64) -> Interval {
        self.around(self.around(time).start - 1)
    }

    /// The intervals of `[from, to)`, which begins and ends with one.
    pub(crate) fn between(self, from: i64, to: i64) -> impl Iterator<Item = Interval> {
        let intervals = std::iter::successors(Some(self.around(from)), move |last| Some(self.around(last.end)));
        intervals.take_while(move |interval| interval.end <= to)
    }

    /// How an interval is written in the name of a file: `20260216T14`, `20260216`, `2026W08`, `202602`.
    pub(crate) fn name(self, interval: Interval) -> String {
        let time = chrono::DateTime::from_timestamp_micros(interval.start).unwrap_or_default();
        let format = match self {
            Self::Hour => "%Y%m%dT%H",
            Self::Day => "%Y%m%d",
            Self::Week => "%GW%V",
            Self::Month => "%Y%m",
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
}

/// What a run is asked to process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Exactly these, whether they were processed before or not.
    Exactly(Vec<Interval>),
    /// The run was due at this time.
    Due(i64),
}

/// The intervals of a run. One that was due processes the last interval that was over then and all before it since `first`,
/// the first that a due run processed, that are not finished: at most `catch_up`; the next runs take what is left.
///
/// Oldest first, but `begun`, which earlier runs began and did not finish, come last: the one that was tried longest ago
/// before the others. One of them is tried whatever else there is, so that it is not forgotten either.
pub(crate) fn work(
    wanted: &Wanted,
    grid: Grid,
    finished: &Covered,
    first: Option<i64>,
    catch_up: usize,
    begun: &[Interval],
) -> Vec<Interval> {
    match wanted {
        Wanted::Exactly(intervals) => intervals.clone(),
        Wanted::Due(time) => {
            let last = grid.last_over(*time);
            // The very first run may have finished nothing.
            let oldest = begun.iter().map(|begun| begun.start).chain(first).min();
            let from = oldest.unwrap_or(last.start).min(last.start);
            let due = |interval: &&Interval| !finished.contains(**interval) && interval.end <= last.end;
            let fresh = open(grid, from, last.end, finished).filter(|interval| !begun.contains(interval));
            let mut work: Vec<Interval> = fresh.take(catch_up.max(1)).collect();
            let room = catch_up.saturating_sub(work.len()).max(1);
            work.extend(begun.iter().filter(due).take(room));
            work
        }
    }
}

/// The intervals of `[from, to)` that are not covered; what is covered is leapt over, however long it is.
fn open(grid: Grid, from: i64, to: i64, covered: &Covered) -> impl Iterator<Item = Interval> {
    let next = move |from: i64| {
        let mut interval = grid.around(from);
        while let Some(end) = covered.until(interval.start).filter(|end| *end >= interval.end) {
            interval = grid.around(end);
        }
        interval
    };
    std::iter::successors(Some(next(from)), move |last| Some(next(last.end))).take_while(move |open| open.end <= to)
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
    fn weeks_begin_on_monday_and_months_on_their_first_day() {
        let at = |text: &str| text.parse::<chrono::DateTime<chrono::Utc>>().unwrap().timestamp_micros();
        for (grid, time, start, end, name) in [
            (Grid::Week, "2026-02-16T00:00:00Z", "2026-02-16T00:00:00Z", "2026-02-23T00:00:00Z", "2026W08"),
            (Grid::Week, "2026-02-15T23:59:59Z", "2026-02-09T00:00:00Z", "2026-02-16T00:00:00Z", "2026W07"),
            (Grid::Week, "2027-01-01T12:00:00Z", "2026-12-28T00:00:00Z", "2027-01-04T00:00:00Z", "2026W53"),
            (Grid::Month, "2026-02-16T10:00:00Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z", "202602"),
            (Grid::Month, "2028-02-29T10:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z", "202802"),
            (Grid::Month, "2026-12-31T23:59:59Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z", "202612"),
            (Grid::Month, "1969-12-31T23:59:59Z", "1969-12-01T00:00:00Z", "1970-01-01T00:00:00Z", "196912"),
        ] {
            let expected = Interval { start: at(start), end: at(end) };
            assert_eq!(grid.around(at(time)), expected, "{grid:?} {time}");
            assert_eq!((grid.at(at(start)), grid.at(at(start) + 1)), (Some(expected), None));
            assert_eq!(grid.last_over(expected.end), expected);
            assert_eq!(grid.name(expected), name);
        }
        assert_eq!(Grid::Month.between(at("2024-01-01T00:00:00Z"), at("2026-01-01T00:00:00Z")).count(), 24);
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
        let at = |finished: &[i64], first, most| starts(&work(&due, Grid::Hour, &covered(finished), first, most, &[]));
        assert_eq!(at(&[], None, 24), [9], "the first run begins nothing before itself");
        assert_eq!(at(&[5], Some(5 * HOUR), 24), [6, 7, 8, 9]);
        assert_eq!(at(&[5, 7], Some(5 * HOUR), 24), [6, 8, 9], "a hole that a manual run left behind it");
        assert_eq!(at(&[5], Some(5 * HOUR), 2), [6, 7], "the next run goes on");
        assert_eq!(at(&[5, 6, 7, 8, 9], Some(5 * HOUR), 24), [] as [i64; 0]);
        assert_eq!(at(&[20], Some(20 * HOUR), 24), [9], "a run that comes late");
        assert_eq!(starts(&work(&Wanted::Exactly(vec![hour(3)]), Grid::Hour, &covered(&[3]), None, 1, &[])), [3]);
    }

    #[test]
    fn what_failed_before_comes_last_and_is_not_forgotten() {
        let due = Wanted::Due(10 * HOUR + 5);
        let at = |begun: &[i64], most| {
            let begun: Vec<_> = begun.iter().map(|number| hour(*number)).collect();
            starts(&work(&due, Grid::Hour, &covered(&[5]), Some(5 * HOUR), most, &begun))
        };
        assert_eq!(at(&[6], 24), [7, 8, 9, 6]);
        assert_eq!(at(&[8, 6], 24), [7, 9, 8, 6], "the one that was tried longest ago before the others");
        assert_eq!(at(&[6, 7], 2), [8, 9, 6], "one more than the limit");
        assert_eq!(at(&[6, 7, 8, 9], 2), [6, 7]);
        assert_eq!(at(&[5, 20], 24), [6, 7, 8, 9], "what is finished, or not yet due");
        assert_eq!(at(&[3], 24), [4, 6, 7, 8, 9, 3], "the very first run finished nothing");
    }

    proptest! {
        #[test]
        fn months_are_those_of_the_calendar(day in -200_000_i64..400_000) {
            use chrono::Datelike as _;
            let month = Grid::Month.around(day * 24 * HOUR + 5);
            let date = chrono::DateTime::from_timestamp_micros(day * 24 * HOUR).unwrap().date_naive();
            let first = date.with_day(1).unwrap();
            let next = first.checked_add_months(chrono::Months::new(1)).unwrap();
            let micros = |date: chrono::NaiveDate| date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_micros();
            prop_assert_eq!((month.start, month.end), (micros(first), micros(next)));
        }

        #[test]
        fn an_interval_that_always_fails_keeps_no_other_one_from_its_turn(
            bad in prop::collection::btree_set(1_i64..20, 1..6),
            catch_up in 1_usize..6,
        ) {
            let (mut finished, mut first, mut begun) = (Covered::default(), None, Vec::<Interval>::new());
            let mut tried = [0; 20];
            for run in 1..60 {
                for interval in work(&Wanted::Due(run.min(20) * HOUR), Grid::Hour, &finished, first, catch_up, &begun) {
                    let number = interval.start / HOUR;
                    tried[usize::try_from(number).unwrap()] += 1;
                    begun.retain(|other| *other != interval);
                    if bad.contains(&number) {
                        begun.push(interval);
                    } else {
                        first = first.or(Some(interval.start));
                        finished.insert(interval);
                    }
                }
                // At the latest the second run after an interval is over has finished it.
                for number in 0..(run - 1).min(20) {
                    prop_assert!(bad.contains(&number) || finished.contains(hour(number)), "{} at run {}", number, run);
                }
            }
            // Those that fail are tried again and again, each as often as the others.
            for number in &bad {
                prop_assert!(tried[usize::try_from(*number).unwrap()] > 3);
            }
        }

        #[test]
        fn what_is_covered_is_leapt_over_and_nothing_else(
            hours in prop::collection::vec(0_i64..300, 0..40),
            stretch in 1_i64..60,
            from in 0_i64..300,
            grid in prop::sample::select(vec![Grid::Hour, Grid::Day]),
        ) {
            let mut covered = Covered::default();
            hours.iter().for_each(|start| covered.insert(Interval { start: start * HOUR, end: (start + stretch) * HOUR }));
            let found: Vec<_> = open(grid, from * HOUR, 400 * HOUR, &covered).collect();
            let plain: Vec<_> =
                grid.between(from * HOUR, 400 * HOUR).filter(|interval| !covered.contains(*interval)).collect();
            prop_assert_eq!(found, plain);
        }

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
                for interval in work(&Wanted::Due(run * HOUR + 5), Grid::Hour, &finished, first, catch_up, &[]) {
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
