//! A job of the process: what it shows, and the thread of its run.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use data_platform_crds::runner_status::Phase;
use tokio::runtime::Runtime;

use super::decide::{Outcome, Purpose, Run, Why};
use super::folder::Known;
use crate::checkpoint::record::Rank;
use crate::clock::{Clock, SystemClock, show_time};
use crate::commands::error::CommandError;
use crate::commands::run::batch::{backfill_of_spec, process, say};
use crate::commands::run::{Running, candidate, say_goodbye};
use crate::config::Loaded;
use crate::config::batch::{KnownTables, PlannedBatch};
use crate::config::job::{PlannedJob, RunOptions};
use crate::faults::Faults;
use crate::http::several::{Filling, ListedJob, Runs};
use crate::pipeline::batch::Request;
use crate::pipeline::error::{JobError, Reason, Retry};
use crate::pipeline::memory::MemoryBudget;
use crate::pipeline::status::JobStatus;
use crate::pipeline::streaming::{Ended, RunMode};
use crate::stop::StopSignal;

/// What a job says, as long as its file says the same.
pub(super) struct Shown {
    running: Running,
    runs: Arc<Mutex<Runs>>,
}

impl Shown {
    pub(super) fn new(namespace: &str, job: &str, memory: MemoryBudget) -> Self {
        Self { running: Running::unplanned(namespace, job, memory), runs: Arc::default() }
    }

    /// For the pages.
    pub(super) fn listed(&self, known: &Known) -> ListedJob {
        ListedJob {
            kind: known.loaded.kind(),
            schedule: known.schedule.clone(),
            status: self.running.status.clone(),
            trouble: self.running.trouble.clone(),
            metrics: Arc::clone(&self.running.metrics),
            memory: self.running.memory,
            runs: Arc::clone(&self.runs),
        }
    }

    /// What it says now.
    pub(super) fn status(&self) -> JobStatus {
        self.running.status.get()
    }

    fn runs(&self) -> MutexGuard<'_, Runs> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the job is due the next time.
    pub(super) fn say_next(&self, next: Option<i64>) {
        self.runs().next = next;
    }

    /// It waits for its time.
    pub(super) fn say_scheduled(&self, next: Option<i64>) {
        let message = next.map(|next| format!("the next run is due at {}", show_time(next))).unwrap_or_default();
        self.running.status.enter(Phase::Running, "Scheduled", message);
    }

    /// It stands still, and is meant to.
    pub(super) fn say_still(&self, reason: &str, message: &str) {
        self.running.status.enter(Phase::Ended, reason, message);
    }

    /// How many intervals the backfill of the job has, and whether it was done before.
    pub(super) fn say_backfill(&self, intervals: u64, is_done: bool) {
        let left = is_done.then_some(0);
        let is_good = is_done.then_some(true);
        self.runs().backfill = Some(Filling { intervals, left, is_active: false, is_good });
    }

    /// A run begins.
    fn say_begun(&self, purpose: Purpose) {
        if let Some(backfill) = &mut self.runs().backfill {
            backfill.is_active = purpose == Purpose::Backfill;
        }
    }

    /// What an ended run of a batch job comes to. A backfill beside a schedule says nothing of the runs.
    pub(super) fn say_ended(&self, run: &Run, outcome: Outcome, is_scheduled: bool) {
        let batch = self.running.status.get().batch.unwrap_or_default();
        let mut runs = self.runs();
        let is_backfill = run.purpose == Purpose::Backfill;
        if let Some(backfill) = runs.backfill.as_mut().filter(|_| is_backfill) {
            backfill.is_active = false;
            if batch.left + batch.finished > 0 {
                backfill.left = Some(batch.left);
            }
            match outcome {
                Outcome::Done => (backfill.left, backfill.is_good) = (Some(0), Some(true)),
                Outcome::Failed(_) => backfill.is_good = Some(false),
                Outcome::Stopped => backfill.is_good = None,
            }
        }
        if !(is_backfill && (is_scheduled || outcome == Outcome::Stopped)) {
            runs.ended = Some(SystemClock.now());
            (runs.is_good, runs.rows) = (outcome == Outcome::Done, batch.rows);
        }
    }

    /// A run failed, and is tried again by itself, or not.
    pub(super) fn say_failed(&self, is_tried_again: bool) {
        let status = self.running.status.get();
        self.say_trouble(&status.reason, status.message, is_tried_again);
    }

    /// Something failed, and is tried again by itself, or not.
    pub(super) fn say_trouble(&self, reason: &str, message: String, is_tried_again: bool) {
        let phase = if is_tried_again { Phase::Retrying } else { Phase::Stalled };
        self.running.status.enter(phase, reason, message);
    }
}

/// A run on a thread of its own.
pub(super) struct Active {
    pub(super) run: Run,
    stop: StopSignal,
    /// Tells a backfill to end after the interval that it is at.
    give_way: StopSignal,
    thread: JoinHandle<Outcome>,
}

/// What every run of the process shares.
pub(super) struct Shared {
    pub(super) options: RunOptions,
    pub(super) faults: Arc<dyn Faults>,
    /// What batch queries compute in.
    pub(super) runtime: Arc<Runtime>,
    /// Somebody else says what a bounded run did.
    pub(super) is_silent: bool,
}

impl Active {
    /// Starts a run.
    pub(super) fn start(
        shared: &Shared,
        known: &Known,
        shown: &Shown,
        purpose: Purpose,
        memory: MemoryBudget,
    ) -> std::io::Result<Self> {
        let (stop, give_way) = (StopSignal::new(), StopSignal::new());
        shown.say_begun(purpose);
        let running = Running {
            status: shown.running.status.clone(),
            trouble: shown.running.trouble.clone(),
            metrics: Arc::clone(&shown.running.metrics),
            stop: stop.clone(),
            give_way: give_way.clone(),
            memory,
            clock: Arc::clone(&shown.running.clock),
        };
        // One process is one starter for others, and each of its runs one for the log.
        let options = RunOptions { memory, candidate: candidate(Rank::default(), None), ..shared.options.clone() };
        let work = Work {
            loaded: known.loaded.clone(),
            version: known.wanted.version.clone(),
            backfill: known.wanted.backfill.clone().unwrap_or_default(),
            running,
            options,
            faults: Arc::clone(&shared.faults),
            runtime: Arc::clone(&shared.runtime),
            is_silent: shared.is_silent,
            purpose,
        };
        let name = known.loaded.name();
        let span = tracing::error_span!("job", namespace = shared.options.namespace, job = name);
        let thread = std::thread::Builder::new().name("job".to_owned()).spawn(move || span.in_scope(|| work.run()))?;
        let (version, backfill) = (known.wanted.version.clone(), known.wanted.backfill.clone());
        let run = Run { version, purpose, backfill, began: SystemClock.instant(), stopped: None };
        Ok(Self { run, stop, give_way, thread })
    }

    /// Tells the run to stop.
    pub(super) fn stop(&mut self, why: Why) {
        self.run.stopped.get_or_insert(why);
        if self.run.purpose == Purpose::Backfill && why.gives_way() { self.give_way.stop() } else { self.stop.stop() }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// How it ended. One that panicked is tried again.
    pub(super) fn outcome(self) -> (Run, Outcome) {
        (self.run, self.thread.join().unwrap_or(Outcome::Failed(Retry::Backoff)))
    }
}

/// What a thread takes with it.
struct Work {
    loaded: Loaded,
    version: String,
    /// What its backfill computes.
    backfill: String,
    running: Running,
    options: RunOptions,
    faults: Arc<dyn Faults>,
    runtime: Arc<Runtime>,
    is_silent: bool,
    purpose: Purpose,
}

impl Work {
    fn run(self) -> Outcome {
        let result = match self.loaded.clone() {
            Loaded::Streaming(job) => PlannedJob::new(*job, &self.options.outputs)
                .map_err(CommandError::from)
                .and_then(|planned| Ok(self.stream(&planned)?)),
            Loaded::Batch(job) => PlannedBatch::over(*job, &KnownTables::new())
                .map_err(CommandError::from)
                .and_then(|planned| self.batch(&planned)),
        };
        let error = match result {
            Ok(Ended::Complete) => return Outcome::Done,
            Ok(Ended::Stopped) => return Outcome::Stopped,
            Err(error) => error,
        };
        let gave_way = self.running.give_way.is_stopped() && error.reason() == Reason::Interrupted.name();
        if self.running.stop.is_stopped() || gave_way {
            tracing::info!(reason = error.reason(), "stopped");
            return Outcome::Stopped;
        }
        tracing::error!(reason = error.reason(), "{}", error.text());
        let error = match error {
            CommandError::Job(error) => error,
            other => {
                let passing = || JobError::passing(Reason::InternalError, other.text(), "it is tried again");
                other.for_user().unwrap_or_else(passing)
            }
        };
        self.running.status.error(Phase::Stalled, self.running.clock.now(), &error);
        Outcome::Failed(error.retry)
    }

    fn stream(&self, planned: &PlannedJob) -> Result<Ended, JobError> {
        let began = self.running.clock.instant();
        self.running.describe(planned, &self.options);
        tracing::info!("starting");
        let ended = self.running.run(planned, &self.options, &self.faults)?;
        if !self.is_silent {
            say_goodbye(planned, &self.options, &self.running.status.get(), ended, began);
        }
        Ok(ended)
    }

    fn batch(&self, planned: &PlannedBatch) -> Result<Ended, CommandError> {
        let began = self.running.clock.instant();
        let is_bounded = self.options.mode != RunMode::Continuous;
        let (request, uid) = match self.purpose {
            _ if is_bounded => (Request::Available, None),
            Purpose::Due(time) => (Request::Due(time), None),
            // All attempts of one are the same request: what is finished stays so.
            Purpose::Backfill => {
                let uid = format!("local-{}", self.backfill);
                (backfill_of_spec(planned, uid.clone(), self.running.clock.now())?, Some(uid))
            }
            // All attempts of one version are about one interval.
            Purpose::Once | Purpose::Stream => {
                let uid = format!("local-{}", self.version);
                (Request::Now { job_uid: Some(uid.clone()) }, Some(uid))
            }
        };
        let settings = planned.settings(&self.options, request, uid)?;
        process(&self.running, planned, &settings, &self.faults, &self.runtime)?;
        if is_bounded {
            let status = self.running.status.get().batch.unwrap_or_default();
            say(planned, &settings.places(), &status, began);
        }
        Ok(Ended::Complete)
    }
}
