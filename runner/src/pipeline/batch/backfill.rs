//! A backfill: many intervals of the past, oldest first, in as many turns as it takes. Several are computed at once, and
//! decided in order, so that the log says how far it is: whoever begins it again does only the rest. Between two intervals
//! it gives its turn to a run that waits.

use std::time::Instant;

use futures::StreamExt;

use crate::clock::Clock;
use crate::pipeline::batch::compute::{Ask, Computer};
use crate::pipeline::batch::interval::Interval;
use crate::pipeline::batch::log::{Backfill, Filled, RECORDS_PER_BASE};
use crate::pipeline::batch::{Session, Turn, Why, turn};
use crate::pipeline::error::JobError;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Identity of the request: who asks again with the same goes on.
    pub(crate) id: String,
    /// Begin of its first interval, and end of its last one.
    pub(crate) times: Interval,
    /// How many intervals are computed at once.
    pub(crate) parallelism: usize,
    /// Who asks: the Job, whose attempts are one request, or this process. What it has finished, alone or in turns with others, stays
    /// so. Another one that asks for the same does the rest of what is not finished, and what is finished once more.
    pub(crate) run: String,
}

/// Where a backfill goes on. What was computed by another query does not count.
fn begins(asked: &Asked, filled: Option<&Filled>, fingerprint: &str) -> i64 {
    let Interval { start, end } = asked.times;
    match filled {
        Some(filled) if (filled.from, filled.to) != (start, end) || filled.fingerprint != fingerprint => start,
        Some(filled) if filled.done >= end && !filled.is_also_of(&asked.run) => start,
        Some(filled) => filled.done,
        None => start,
    }
}

impl Session<'_> {
    /// The intervals of a backfill that are not finished.
    pub(super) fn left_of(&self, asked: &Asked) -> Vec<Interval> {
        let filled = self.log.state.backfills.get(&asked.id);
        let from = begins(asked, filled, &self.settings.fingerprint);
        let left: Vec<_> =
            self.settings.grid.between(from, asked.times.end).filter(|left| left.start >= from).collect();
        if from > asked.times.start && !left.is_empty() {
            let name = self.settings.grid.name(left[0]);
            tracing::info!(left = left.len(), "the backfill goes on with {name}: what is before it is finished");
        }
        left
    }

    /// Processes intervals until all are finished, or somebody else waits for the turn.
    pub(super) async fn backfill(&mut self, asked: &Asked, intervals: Vec<Interval>) -> Result<Turn, JobError> {
        let (settings, environment) = (self.settings, self.environment);
        let (store, clock) = (self.log.store.clone(), &environment.clock);
        let computer = Computer::new(settings, environment, &self.log, self.outputs, asked.parallelism);
        let (began, of) = (clock.instant(), intervals.len());
        let (version, number) = (self.log.state.version, self.attempts);
        let outputs = self.outputs.len() as u64;
        self.attempts += of as u64 * outputs;
        let computing = intervals.into_iter().zip(0_u64..).map(|(interval, index)| {
            // The past does not become complete by waiting, and others wait for the turn. Each decision is two records.
            let (version, number) = (version + 1 + 2 * index, number + 1 + index * outputs);
            let deadline = clock.instant();
            computer.compute(Ask { interval, version, number, deadline })
        });
        let mut computed = std::pin::pin!(futures::stream::iter(computing).buffered(asked.parallelism.max(1)));
        let mut done = 0;
        while let Some(computed) = computed.next().await {
            let computed = computed?;
            let name = settings.grid.name(computed.interval);
            let Interval { start: from, end: to } = asked.times;
            let backfill = Backfill { id: asked.id.clone(), from, to, run: Some(asked.run.clone()) };
            let commit = self.replace(computed, Why { due: None, backfill: Some(backfill) }).await?;
            done += 1;
            let seconds = seconds_left(&**clock, began, done, of);
            environment.status.update(|status| {
                if let Some(batch) = &mut status.batch {
                    batch.seconds_left = Some(seconds.round() as u64);
                }
            });
            let left = time_left(seconds);
            tracing::info!(interval = name, rows = commit.rows, files = commit.files, done, of, left, "replaced");
            self.log.compact(RECORDS_PER_BASE, &*environment.faults).await?;
            if done < of && environment.give_way.is_stopped() {
                return Ok(Turn::Yielded { epoch: self.log.epoch() });
            }
            if done < of && turn::is_asked(&store).await? {
                tracing::info!("another run waits: the backfill lets it go first");
                return Ok(Turn::Yielded { epoch: self.log.epoch() });
            }
        }
        Ok(Turn::Done)
    }
}

/// How many seconds the rest takes if it goes on like this.
fn seconds_left(clock: &dyn Clock, began: Instant, done: usize, of: usize) -> f64 {
    clock.since(began).as_secs_f64() / done.max(1) as f64 * of.saturating_sub(done) as f64
}

/// The same for people: `40 s`, `12 min`, `3.5 h`.
fn time_left(seconds: f64) -> String {
    match seconds {
        ..100.0 => format!("{seconds:.0} s"),
        100.0..6_000.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3_600.0),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn a_backfill_goes_on_where_it_ended_and_begins_anew_when_it_is_finished_or_the_query_is_another() {
        let asked = |run: &str| Asked {
            id: "b".to_owned(),
            times: Interval { start: 0, end: 30 },
            parallelism: 1,
            run: run.to_owned(),
        };
        let filled = |to, done, fingerprint: &str, runs: &[&str]| {
            let (run, before) = runs.split_last().map_or((None, &[][..]), |(last, before)| (Some(last), before));
            Filled {
                from: 0,
                to,
                done,
                fingerprint: fingerprint.to_owned(),
                clock: 0,
                run: run.map(|run| (*run).to_owned()),
                before: before.iter().map(|run| (*run).to_owned()).collect(),
            }
        };
        for (filled, expected) in [
            (None, 0),
            (Some(filled(30, 10, "f", &[])), 10),
            (Some(filled(30, 10, "f", &["job"])), 10),
            (Some(filled(30, 30, "f", &["job"])), 30),
            // Another Job is asked for by an annotation, or somebody goes on by hand.
            (Some(filled(30, 10, "f", &["other"])), 10),
            (Some(filled(30, 30, "f", &["other"])), 0),
            (Some(filled(30, 30, "f", &[])), 0),
            // The other one goes on beside it: what they did in turns is finished for both.
            (Some(filled(30, 30, "f", &["job", "other"])), 30),
            (Some(filled(30, 30, "other", &["job"])), 0),
            (Some(filled(30, 10, "other", &["job"])), 0),
            (Some(filled(40, 10, "f", &["job"])), 0),
        ] {
            assert_eq!(begins(&asked("job"), filled.as_ref(), "f"), expected, "{filled:?}");
        }
    }

    #[test]
    fn the_rest_takes_as_long_for_each_interval_as_what_is_done_took() {
        let clock = ManualClock::at(0);
        let began = clock.instant();
        assert_eq!(seconds_left(&clock, began, 0, 24), 0.0, "nothing has been seen yet");
        for (done, expected) in [(1, 230.0), (2, 220.0), (12, 120.0), (23, 10.0), (24, 0.0)] {
            let now = Duration::from_secs(10 * done as u64);
            clock.advance(now - clock.since(began));
            assert_eq!(seconds_left(&clock, began, done, 24), expected, "after {done} of 24");
        }
        // Two that were computed at once are there at once: the mean counts.
        let began = clock.instant();
        clock.advance(Duration::from_secs(12));
        assert_eq!((seconds_left(&clock, began, 1, 6), seconds_left(&clock, began, 2, 6)), (60.0, 24.0));
        // One that takes longer moves it.
        clock.advance(Duration::from_secs(48));
        assert_eq!(seconds_left(&clock, began, 3, 6), 60.0);
        assert_eq!(seconds_left(&clock, began, 7, 6), 0.0);
    }

    #[test]
    fn the_time_that_is_left_is_said_in_seconds_minutes_and_hours() {
        for (seconds, said) in [
            (0.0, "0 s"),
            (0.4, "0 s"),
            (39.6, "40 s"),
            (99.4, "99 s"),
            (100.0, "2 min"),
            (720.0, "12 min"),
            (5_999.0, "100 min"),
            (6_000.0, "1.7 h"),
            (12_600.0, "3.5 h"),
            (360_000.0, "100.0 h"),
        ] {
            assert_eq!(time_left(seconds), said, "{seconds}");
        }
    }
}
