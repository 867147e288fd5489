//! [`Rates`]: how much a job reads and writes per second, over the last minute.
//!
//! Pure: the caller brings the time. A minute, since a status that is looked at every 15 seconds must see every commit, and
//! rows of windows of a minute come once a minute.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What the rates are measured over.
const WINDOW: Duration = Duration::from_secs(60);
/// Commits that are closer to each other are kept as one: at most 60 are kept, however fast the trigger is.
const STEP: Duration = Duration::from_secs(1);

/// What the first micro-batch brings came in at least this time, however fast it is read: the trigger of a job that says
/// nothing else.
const FIRST: Duration = Duration::from_secs(10);

/// Commits of the last minute.
#[derive(Clone, Debug, Default)]
pub struct Rates {
    /// Since when the records of the first micro-batch have come, as far as anybody knows.
    began: Option<Instant>,
    steps: VecDeque<Commits>,
}

#[derive(Clone, Copy, Debug)]
struct Commits {
    at: Instant,
    records: u64,
    rows: u64,
}

impl Rates {
    /// Notes a commit of a micro-batch that took so long.
    pub fn note(&mut self, at: Instant, took: Duration, records: u64, rows: u64) {
        self.began.get_or_insert(at.checked_sub(took.max(FIRST)).unwrap_or(at));
        while self.steps.front().is_some_and(|commits| at.duration_since(commits.at) >= WINDOW) {
            self.steps.pop_front();
        }
        match self.steps.back_mut().filter(|commits| at.duration_since(commits.at) < STEP) {
            Some(commits) => {
                commits.records += records;
                commits.rows += rows;
            }
            None => self.steps.push_back(Commits { at, records, rows }),
        }
    }

    /// Records read and rows written per second, over the last minute or, if the job is younger, since [`FIRST`] before its
    /// first commit. Rounded up: 0 means none.
    pub fn per_second(&self, now: Instant) -> (u64, u64) {
        let Some(began) = self.began else { return (0, 0) };
        let span = now.duration_since(began).clamp(STEP, WINDOW).as_millis();
        let recent = self.steps.iter().filter(|commits| now.duration_since(commits.at) < WINDOW);
        let (records, rows) =
            recent.fold((0, 0), |(records, rows), commits| (records + commits.records, rows + commits.rows));
        let rate = |count: u64| u64::try_from((u128::from(count) * 1_000).div_ceil(span)).unwrap_or(u64::MAX);
        (rate(records), rate(rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_young_job_has_the_rate_that_it_will_have_when_it_is_older() {
        let began = SystemClock.instant();
        let mut rates = Rates::default();
        assert_eq!(rates.per_second(began), (0, 0));
        rates.note(began + 10 * SECOND, 10 * SECOND, 5_000, 20);
        assert_eq!(rates.per_second(began + 10 * SECOND), (500, 2));
        rates.note(began + 20 * SECOND, 10 * SECOND, 5_000, 0);
        assert_eq!(rates.per_second(began + 20 * SECOND), (500, 1));
        // What came in ten seconds is read in a moment.
        let mut rates = Rates::default();
        for commit in 1..=7 {
            rates.note(began + commit * 10 * SECOND, SECOND / 10, 10_000, 0);
            assert_eq!(rates.per_second(began + commit * 10 * SECOND).0, 1_000, "{commit}");
        }
    }

    #[test]
    fn a_steady_job_has_a_steady_rate_however_often_it_commits() {
        for pause in [Duration::from_millis(20), SECOND, 10 * SECOND] {
            let began = SystemClock.instant();
            let mut rates = Rates::default();
            let records = 100 * pause.as_millis() as u64 / 20;
            for number in 1..=(200 * SECOND).as_millis() / pause.as_millis() {
                rates.note(began + pause * number as u32, pause, records, records);
            }
            let (read, written) = rates.per_second(began + 200 * SECOND);
            assert!((4_900..=5_100).contains(&read) && read == written, "{read} with a pause of {pause:?}");
            assert!(rates.steps.len() <= 61, "{}", rates.steps.len());
        }
    }

    #[test]
    fn a_job_that_stands_still_falls_to_nothing_within_a_minute_and_never_shows_little_as_nothing() {
        let began = SystemClock.instant();
        let mut rates = Rates::default();
        rates.note(began, Duration::ZERO, 6_000, 3);
        assert_eq!(rates.per_second(began + 30 * SECOND), (150, 1));
        assert_eq!(rates.per_second(began + 59 * SECOND), (100, 1));
        assert_eq!(rates.per_second(began + 60 * SECOND), (0, 0));
    }
}
