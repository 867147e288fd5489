//! [`Rate`]: how often something may be done for a job. Pure: the time is given.
//!
//! A job that changes its mind ten thousand times an hour must not fill the cluster's store with events, nor keep the API
//! server busy with its status.

use std::time::Duration;

use tokio::time::Instant;

/// So many at once, and after that one in each period. In any hour at most `burst` and as many as an hour has periods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many at once after a long silence.
    pub burst: u32,
    /// Time in which one more becomes possible.
    pub period: Duration,
}

/// Events of one job: at most 20 + 80 = 100 in any hour. The condition tells the last change in any case.
pub const EVENTS: Rate = Rate { burst: 20, period: Duration::from_secs(45) };
/// Writes of the status of one job: a job that comes up changes a few times a second, one that flaps stays below five a
/// minute.
pub const STATUS_WRITES: Rate = Rate { burst: 60, period: Duration::from_secs(15) };

/// What was done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// When all of the burst is there again.
    whole_at: Option<Instant>,
}

impl Rate {
    /// Does it once more.
    ///
    /// # Errors
    ///
    /// It is too soon: after this time it may be done.
    pub fn take(self, spent: &mut Spent, now: Instant) -> Result<(), Duration> {
        let whole_at = spent.whole_at.map_or(now, |whole_at| whole_at.max(now));
        let owed = whole_at.duration_since(now);
        let allowed = self.period * self.burst.saturating_sub(1);
        if owed > allowed {
            return Err(owed - allowed);
        }
        spent.whole_at = Some(whole_at + self.period);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const HOUR: Duration = Duration::from_secs(3600);

    /// When it was done, of ten thousand wishes with this pause between them.
    fn done(rate: Rate, pause: Duration) -> Vec<Duration> {
        let (begin, mut spent) = (clock::instant(), Spent::default());
        let wishes = (0..10_000_u32).map(|i| pause * i);
        wishes.filter(|at| rate.take(&mut spent, begin + *at).is_ok()).collect()
    }

    #[test]
    fn ten_thousand_changes_make_at_most_a_hundred_events_in_any_hour() {
        for pause in [0, 1, 36, 360, 999, 3_600, 44_999, 45_000, 60_000].map(Duration::from_millis) {
            let done = done(EVENTS, pause);
            let most =
                done.iter().map(|from| done.iter().filter(|at| *at >= from && **at < *from + HOUR).count()).max();
            assert!(most <= Some(100), "{most:?} with {pause:?}");
            // None is kept back without need: one in a period there always is, and at a quiet pace all are.
            assert!(done.len() >= 20, "{}", done.len());
            assert!(pause < EVENTS.period || done.len() == 10_000);
        }
    }

    #[test]
    fn after_the_time_that_is_told_it_may_be_done() {
        let (begin, mut spent) = (clock::instant(), Spent::default());
        for _ in 0..EVENTS.burst {
            assert_eq!(EVENTS.take(&mut spent, begin), Ok(()));
        }
        let wait = EVENTS.take(&mut spent, begin).unwrap_err();
        assert_eq!(wait, EVENTS.period);
        assert!(EVENTS.take(&mut spent, begin + wait - Duration::from_millis(1)).is_err());
        assert_eq!(EVENTS.take(&mut spent, begin + wait), Ok(()));
    }
}
