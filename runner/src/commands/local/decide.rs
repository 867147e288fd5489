//! What is to happen with one job now, by what is known of it. Pure: files, clocks and runs are values.
//!
//! ```text
//! what the files say ┐
//! the run under way  ├── decide ──> wait | start | stop
//! trouble, the past  ┘
//! run's end ── ended ──> the past, trouble
//! ```
//!
//! Batch jobs follow their schedule as a CronJob does, by the same reading of it ([`Schedule`]): a job is known from its first
//! start here on, the times since the last run that ended well are due, and the newest of them is run; the run itself catches
//! up with the intervals before it (`pipeline/batch/interval`). Only before the very first good run the oldest time is run, so that
//! the runs catch up from there.
//!
//! The backfill of a job is done when nothing is due: for a run that is due it ends after the interval that it is at, and goes on
//! behind it.

use std::time::{Duration, Instant};

use data_platform_crds::batch_job::ConcurrencyPolicy;
use data_platform_crds::schedule::Schedule;

use crate::pipeline::error::Retry;

/// Microseconds of a second.
const SECOND: i64 = 1_000_000;
/// First and greatest pause before a job is started again: as a streaming job waits by itself.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// The same of a run of a batch job, as Kubernetes has it.
const BACKOFF_OF_RUNS: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(360));

/// When a job is to run.
#[derive(Clone, Debug)]
pub(crate) enum Timing {
    /// Always.
    Always,
    /// Once, as long as it does not change.
    Once,
    /// By a schedule.
    By(Box<Cron>),
}

/// A schedule with what Kubernetes asks beside it.
#[derive(Clone, Debug)]
pub(crate) struct Cron {
    pub(crate) schedule: Schedule,
    pub(crate) concurrency: ConcurrencyPolicy,
    /// A run that could not start so many seconds after its time is missed.
    pub(crate) starting_deadline: Option<i64>,
}

/// A job as the files have it.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// Hash of what it says: another one is another job.
    pub(crate) version: String,
    pub(crate) timing: Timing,
    pub(crate) suspended: bool,
    /// How often a run is tried again.
    pub(crate) retries: u32,
    /// A run that takes longer is stopped.
    pub(crate) deadline: Option<Duration>,
    /// The backfill that it asks for, by what it computes.
    pub(crate) backfill: Option<String>,
}

/// What a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A streaming job.
    Stream,
    /// A batch job without a schedule.
    Once,
    /// A batch job that was due at this time, in microseconds since 1970 UTC.
    Due(i64),
    /// The backfill of a batch job.
    Backfill,
}

/// A run that is under way.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) version: String,
    pub(crate) purpose: Purpose,
    /// The backfill that the job asked for when it began.
    pub(crate) backfill: Option<String>,
    pub(crate) began: Instant,
    /// Why it was told to stop.
    pub(crate) stopped: Option<Why>,
}

/// Why a run is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Its file says something else now.
    Changed,
    /// Its file has no such job any more.
    Removed,
    /// `suspend: true`.
    Suspended,
    /// `concurrencyPolicy: Replace`, and the next one is due.
    Replaced,
    /// `activeDeadlineSeconds` are over.
    TooLong,
    /// It is the backfill, and a run is due.
    Due,
    /// The whole process stops.
    Shutdown,
}

/// What went wrong last, until something goes well or the job changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) purpose: Purpose,
    /// How often, one time after the other.
    pub(crate) times: u32,
    /// When it is tried again; `None`: not before the job changes, or its next time comes.
    pub(crate) again: Option<Instant>,
}

/// What is remembered of a batch job over restarts. Times are microseconds since 1970 UTC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Past {
    /// When the job was first seen: what was due before is nobody's.
    pub(crate) since: i64,
    /// The newest time for which a run ended well.
    pub(crate) last: Option<i64>,
    /// The version that ran once and ended well.
    pub(crate) once: Option<String>,
    /// The backfill that was done to its end.
    pub(crate) filled: Option<String>,
}

/// Everything that a decision is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    /// `None`: no file has the job any more.
    pub(crate) wanted: Option<&'a Wanted>,
    pub(crate) run: Option<&'a Run>,
    /// Of its runs.
    pub(crate) trouble: Option<&'a Trouble>,
    /// Of its backfill.
    pub(crate) trouble_of_backfill: Option<&'a Trouble>,
    pub(crate) past: &'a Past,
    /// The wall clock, in microseconds since 1970 UTC.
    pub(crate) now: i64,
    /// The clock that only goes forward.
    pub(crate) instant: Instant,
}

/// What is to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Wait,
    Start(Purpose),
    Stop(Why),
}

/// Decides.
pub(crate) fn decide(facts: Facts<'_>) -> Decision {
    match (facts.wanted, facts.run) {
        (_, Some(run)) if run.stopped.is_some() => Decision::Wait,
        (None, Some(_)) => Decision::Stop(Why::Removed),
        (Some(wanted), Some(run)) => stop(wanted, run, facts).map_or(Decision::Wait, Decision::Stop),
        (Some(wanted), None) if !wanted.suspended => start(wanted, facts).map_or(Decision::Wait, Decision::Start),
        (_, None) => Decision::Wait,
    }
}

/// Why a run is not to go on. One of a batch job ends by itself, whatever its file says meanwhile.
fn stop(wanted: &Wanted, run: &Run, facts: Facts<'_>) -> Option<Why> {
    let is_too_long = |deadline| facts.instant.saturating_duration_since(run.began) >= deadline;
    match (&wanted.timing, run.purpose) {
        (Timing::Always, Purpose::Stream) if wanted.suspended => Some(Why::Suspended),
        (Timing::Always, Purpose::Stream) => (run.version != wanted.version).then_some(Why::Changed),
        // A name that was a streaming job and is a batch job now, or the other way round.
        (Timing::Always, _) | (_, Purpose::Stream) => Some(Why::Changed),
        _ if wanted.deadline.is_some_and(is_too_long) => Some(Why::TooLong),
        // It may take days: it does not keep anything waiting, and goes on where it was.
        (_, Purpose::Backfill) if wanted.suspended => Some(Why::Suspended),
        (_, Purpose::Backfill) if run.version != wanted.version => Some(Why::Changed),
        (_, Purpose::Backfill) => start_run(wanted, facts).map(|_| Why::Due),
        (Timing::By(cron), Purpose::Due(time)) if cron.concurrency == ConcurrencyPolicy::Replace => {
            let newer = due(cron, Some(time), time, facts.now).filter(|_| !wanted.suspended);
            newer.map(|_| Why::Replaced)
        }
        (Timing::Once | Timing::By(_), _) => None,
    }
}

fn start(wanted: &Wanted, facts: Facts<'_>) -> Option<Purpose> {
    start_run(wanted, facts).or_else(|| start_backfill(wanted, facts))
}

fn start_backfill(wanted: &Wanted, facts: Facts<'_>) -> Option<Purpose> {
    let may_begin = facts.trouble_of_backfill.is_none_or(|trouble| trouble.may_try(facts.instant));
    (!is_filled(wanted, facts.past) && may_begin).then_some(Purpose::Backfill)
}

fn start_run(wanted: &Wanted, facts: Facts<'_>) -> Option<Purpose> {
    let past = facts.past;
    let purpose = match &wanted.timing {
        Timing::Always => Purpose::Stream,
        // Its one run is the backfill.
        Timing::Once if wanted.backfill.is_some() => return None,
        Timing::Once if past.once.as_ref() == Some(&wanted.version) => return None,
        Timing::Once => Purpose::Once,
        Timing::By(cron) => {
            // What was given up is left to the next time, whose run takes it up again.
            let given_up =
                facts.trouble.filter(|trouble| trouble.again.is_none()).and_then(|trouble| match trouble.purpose {
                    Purpose::Due(time) => Some(time),
                    Purpose::Stream | Purpose::Once | Purpose::Backfill => None,
                });
            Purpose::Due(due(cron, past.last.max(given_up), past.since, facts.now)?)
        }
    };
    match facts.trouble.filter(|trouble| trouble.purpose == purpose) {
        Some(trouble) => trouble.may_try(facts.instant).then_some(purpose),
        None => Some(purpose),
    }
}

impl Trouble {
    fn may_try(&self, instant: Instant) -> bool {
        self.again.is_some_and(|again| again <= instant)
    }
}

impl Why {
    /// Whether a backfill first finishes the interval that it is at.
    pub(crate) fn gives_way(self) -> bool {
        matches!(self, Self::Due | Self::Changed | Self::Suspended)
    }
}

/// The time that is to be run: the newest one after `last`; without a `last` the first one after `since`.
fn due(cron: &Cron, last: Option<i64>, since: i64, now: i64) -> Option<i64> {
    let earliest = cron.starting_deadline.map_or(i64::MIN, |seconds| now - seconds * SECOND);
    let from = last.unwrap_or(since).max(earliest);
    let next = |time: i64| {
        let second = cron.schedule.after_second(time.div_euclid(SECOND))?;
        Some(second * SECOND).filter(|next| *next <= now)
    };
    let first = next(from)?;
    if last.is_none() {
        return Some(first);
    }
    std::iter::successors(Some(first), |time| next(*time)).last()
}

/// When the schedule has its next time, in microseconds since 1970 UTC.
pub(crate) fn next(timing: &Timing, now: i64) -> Option<i64> {
    let Timing::By(cron) = timing else { return None };
    cron.schedule.after_second(now.div_euclid(SECOND)).map(|second| second * SECOND)
}

/// Whether the backfill of a job is done, if it asks for one.
pub(crate) fn is_filled(wanted: &Wanted, past: &Past) -> bool {
    wanted.backfill.is_none() || past.filled == wanted.backfill
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Well.
    Done,
    /// As it was told to.
    Stopped,
    /// With an error.
    Failed(Retry),
}

/// What the end of a run means: the past, and the trouble that is left.
pub(crate) fn ended(
    run: &Run,
    outcome: Outcome,
    past: &Past,
    trouble: Option<&Trouble>,
    retries: u32,
    instant: Instant,
) -> (Past, Option<Trouble>) {
    let mut past = past.clone();
    let times = trouble.filter(|trouble| trouble.purpose == run.purpose).map_or(1, |trouble| trouble.times + 1);
    let is_stream = run.purpose == Purpose::Stream;
    let again = |again| Some(Trouble { purpose: run.purpose, times, again });
    match outcome {
        Outcome::Done if is_stream => (past, None),
        Outcome::Done => {
            match run.purpose {
                Purpose::Due(time) => past.last = past.last.max(Some(time)),
                Purpose::Once => past.once = Some(run.version.clone()),
                Purpose::Backfill => past.filled.clone_from(&run.backfill),
                Purpose::Stream => {}
            }
            (past, None)
        }
        Outcome::Stopped | Outcome::Failed(_) if run.stopped == Some(Why::TooLong) => (past, again(None)),
        Outcome::Stopped => (past, trouble.cloned()),
        // It was told to stop and said so in its own way.
        Outcome::Failed(_) if run.stopped.is_some() => (past, trouble.cloned()),
        Outcome::Failed(Retry::AfterChange | Retry::Fenced) => (past, again(None)),
        Outcome::Failed(Retry::Reload | Retry::Backoff) if !is_stream && times > retries => (past, again(None)),
        Outcome::Failed(Retry::Reload | Retry::Backoff) => {
            let bounds = if is_stream { BACKOFF } else { BACKOFF_OF_RUNS };
            (past, again(Some(instant + pause(bounds, times))))
        }
    }
}

/// Twice as long each time, within these bounds.
fn pause((first, greatest): (Duration, Duration), times: u32) -> Duration {
    first.saturating_mul(1 << times.saturating_sub(1).min(16)).min(greatest)
}

#[cfg(test)]
mod tests;
