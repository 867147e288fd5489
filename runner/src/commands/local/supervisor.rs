//! Carries out what is decided: starts and stops runs, hears of their ends, looks at the files, shows it all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use data_platform_page::Authentication;
use tokio::runtime::Runtime;

use super::Together;
use super::decide::{Decision, Facts, Outcome, Past, Purpose, Timing, Trouble, Why, decide, ended, is_filled, next};
use super::folder::{Folder, Jobs, Known};
use super::job::{Active, Shared, Shown};
use super::order::ready;
use super::past::Memory;
use crate::clock::{Clock, SystemClock};
use crate::commands::error::{CommandError, EXIT_USER};
use crate::commands::live::{self, Live, PICTURE};
use crate::config::{ConfigError, Loaded};
use crate::http::several::{AllPages, ListedJob};
use crate::pipeline::error::Retry;
use crate::pipeline::memory::MemoryBudget;
use crate::pipeline::status::JobStatus;
use crate::pipeline::streaming::RunMode;
use crate::stop::StopSignal;
use crate::storage::lock::FolderLock;
use crate::terminal;

/// How often ends of runs are heard of, and times of schedules looked at.
const TICK: Duration = Duration::from_millis(100);
/// How often the files are read: somebody waits for a change to be taken up, and reading some small files takes no time.
const LOOK: Duration = Duration::from_secs(1);
/// Time between two lines of figures of a job in the log.
const FIGURES: Duration = Duration::from_secs(60);

/// Where figures of the jobs are seen, beside the pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::commands) enum Figures {
    /// In a picture on a terminal; elsewhere in lines of the log, once a minute.
    Logged,
    /// In a picture on a terminal; elsewhere in lines for somebody who looks on.
    Printed,
}

/// What the pages are made of.
#[derive(Clone, Default)]
pub(in crate::commands) struct Pages {
    jobs: Arc<Mutex<Vec<ListedJob>>>,
    problem: Arc<Mutex<Option<String>>>,
}

impl Pages {
    /// The pages, which show what becomes of the jobs.
    pub(in crate::commands) fn all(&self, authentication: Option<Authentication>) -> AllPages {
        AllPages {
            jobs: Arc::clone(&self.jobs),
            problem: Arc::clone(&self.problem),
            clock: Arc::new(SystemClock),
            authentication,
        }
    }
}

/// A job, from when its file says what it says to when that is over.
struct Job {
    /// What its file says: see [`super::decide::Wanted`].
    version: String,
    shown: Shown,
    active: Option<Active>,
    trouble: Option<Trouble>,
    /// That of its backfill.
    backfill: BackfillTrouble,
    /// What it was last said to wait for.
    waits: Option<Waits>,
}

/// What is wrong with a backfill, and what is said of it while its job waits.
#[derive(Default)]
struct BackfillTrouble {
    trouble: Option<Trouble>,
    reason: String,
    message: String,
}

/// Why nothing runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    Suspended,
    ForTime(Option<i64>),
    Done,
    Filled,
    /// The backfill failed, and is tried again or not.
    BackfillFailed(bool),
}

/// All jobs of the process.
pub(in crate::commands) struct Supervisor {
    shared: Shared,
    folder: Folder,
    /// As the files have them.
    jobs: Jobs,
    running: BTreeMap<String, Job>,
    past: Memory,
    pages: Pages,
    stop: StopSignal,
    runtime: Runtime,
    _lock: Option<FolderLock>,
}

impl Supervisor {
    pub(in crate::commands) fn new(together: Together, pages: Pages, stop: StopSignal) -> Self {
        let Together { shared, folder, jobs, past, runtime, lock } = together;
        let running = BTreeMap::new();
        let mut supervisor = Self { shared, folder, jobs, running, past, pages, stop, runtime, _lock: lock };
        supervisor.take_up();
        supervisor
    }

    /// Runs the jobs until somebody says stop.
    pub(in crate::commands) fn run(&mut self, figures: Figures) -> Result<u8, CommandError> {
        let clock = SystemClock;
        let (mut looked, mut told, mut drawn) = (clock.instant(), clock.instant(), None);
        let mut live = (figures == Figures::Printed || live::is_on_a_terminal()).then(Live::begin);
        self.remember();
        while !self.stop.is_stopped() {
            self.hear();
            if clock.since(looked) >= LOOK {
                looked = clock.instant();
                self.look_at_files();
            }
            self.act()?;
            match &mut live {
                Some(live) if drawn.is_none_or(|drawn| clock.since(drawn) >= PICTURE) => {
                    drawn = Some(clock.instant());
                    live.show(&self.statuses());
                }
                None if clock.since(told) >= FIGURES => {
                    told = clock.instant();
                    self.tell_figures();
                }
                _ => {}
            }
            self.stop.wait(TICK);
        }
        match &mut live {
            // The last figures stay to be read.
            Some(live) if figures == Figures::Logged => {
                self.stop_all();
                live.show(&self.statuses());
                terminal::leave();
            }
            _ => {
                terminal::leave();
                self.stop_all();
            }
        }
        Ok(0)
    }

    /// Lets streaming jobs that were stopped process what is left, and close every window. What they did is for the caller to say.
    pub(in crate::commands) fn drain(&mut self) -> Result<(), CommandError> {
        self.shared.options.mode = RunMode::Drain;
        self.shared.options.stay_up = false;
        self.shared.is_silent = true;
        self.run_once(&StopSignal::new()).map(drop)
    }

    /// Runs every job once over what is there, each after those whose output it reads.
    pub(in crate::commands) fn run_once(&mut self, stop: &StopSignal) -> Result<u8, CommandError> {
        let before = self.jobs.before.clone();
        let still: Vec<_> =
            self.jobs.known.iter().filter(|(_, job)| job.wanted.suspended).map(|(name, _)| name.clone()).collect();
        let mut begun: BTreeSet<String> = still.iter().cloned().collect();
        let mut ended: BTreeMap<String, bool> = still.into_iter().map(|name| (name, true)).collect();
        let mut failed: Vec<(String, Retry)> = Vec::new();
        while ended.len() < before.len() {
            let (can, never) = ready(&before, &begun, &ended);
            for (name, first) in never {
                tracing::error!(job = name, "not run: it reads what {first} writes, which failed");
                begun.insert(name.clone());
                ended.insert(name, false);
            }
            for name in can {
                self.start(&name, Purpose::Stream)?;
                begun.insert(name);
            }
            if stop.wait(TICK) {
                self.stop_all();
                return Ok(0);
            }
            for (name, outcome) in self.ended() {
                if let Outcome::Failed(retry) = outcome {
                    failed.push((name.clone(), retry));
                }
                ended.insert(name, outcome == Outcome::Done);
            }
        }
        self.judge(&ended, &failed)
    }

    /// What came of jobs that ran once.
    fn judge(&self, ended: &BTreeMap<String, bool>, failed: &[(String, Retry)]) -> Result<u8, CommandError> {
        let Some((_, first)) = failed.first() else { return Ok(0) };
        let code = if failed.iter().all(|(_, retry)| *retry == Retry::AfterChange) { EXIT_USER } else { 1 };
        let code = if *first == Retry::Fenced { 3 } else { code };
        let reasons: Vec<_> = failed.iter().map(|(name, _)| format!("\n  {name}: {}", self.why(name))).collect();
        let left: Vec<_> =
            ended.iter().filter(|(name, good)| !**good && !failed.iter().any(|(failed, _)| failed == *name)).collect();
        let left: Vec<_> = left.into_iter().map(|(name, _)| format!("\n  {name}: not run")).collect();
        Err(CommandError::Other(
            format!(
                "{} of {} jobs did not do their work{}{}",
                failed.len() + left.len(),
                ended.len(),
                reasons.concat(),
                left.concat()
            ),
            code,
        ))
    }

    /// What went wrong last.
    fn why(&self, name: &str) -> String {
        let errors = self.running.get(name).map(|job| job.shown.status().errors).unwrap_or_default();
        errors.back().map(|error| format!("{}\n    what to do: {}", error.message, error.cure)).unwrap_or_default()
    }

    /// Hears of runs that ended.
    fn hear(&mut self) {
        let heard = self.ended();
        if !heard.is_empty() {
            self.remember();
            // What changed while a run went on is taken up now.
            self.take_up();
        }
    }

    /// The runs that ended since, and what that means.
    fn ended(&mut self) -> Vec<(String, Outcome)> {
        let (mut heard, instant) = (Vec::new(), SystemClock.instant());
        let is_bounded = self.shared.options.mode != RunMode::Continuous;
        for (name, job) in &mut self.running {
            let Some(active) = job.active.take_if(|active| active.has_ended()) else { continue };
            let (run, outcome) = active.outcome();
            let is_batch = run.purpose != Purpose::Stream;
            let past = if is_batch { self.past.of(name, SystemClock.now()) } else { Past::default() };
            let retries = self.jobs.known.get(name).map_or(0, |job| job.wanted.retries);
            let is_backfill = run.purpose == Purpose::Backfill;
            let before = if is_backfill { job.backfill.trouble.as_ref() } else { job.trouble.as_ref() };
            let (past, trouble) = ended(&run, outcome, &past, before, retries, instant);
            if is_batch {
                self.past.set(name, past);
                let wanted = self.jobs.known.get(name).map(|job| &job.wanted);
                let is_scheduled = wanted.is_some_and(|wanted| matches!(wanted.timing, Timing::By(_)));
                job.shown.say_ended(&run, outcome, is_scheduled);
            }
            if let Outcome::Failed(_) = outcome {
                let again = trouble.as_ref().and_then(|trouble| trouble.again);
                job.shown.say_failed(again.is_some());
                if !is_bounded {
                    say_again(name, again.map(|again| again.saturating_duration_since(instant)), run.purpose);
                }
            }
            match is_backfill {
                true => {
                    let JobStatus { reason, message, .. } = job.shown.status();
                    job.backfill = BackfillTrouble { trouble, reason, message };
                }
                false => job.trouble = trouble,
            }
            heard.push((name.clone(), outcome));
        }
        heard
    }

    fn look_at_files(&mut self) {
        let Some((jobs, broken)) = self.folder.read_again(&self.jobs) else { return };
        if let Some(error) = &broken {
            tracing::error!("not taken up, what ran before goes on: {error}");
        }
        *self.pages.problem.lock().unwrap_or_else(PoisonError::into_inner) =
            broken.as_ref().map(ConfigError::to_string);
        for (name, job) in &jobs.known {
            match self.jobs.known.get(name) {
                None => tracing::info!(job = name, file = job.loaded.file(), "a new job"),
                Some(before) if before.wanted.version != job.wanted.version => {
                    tracing::info!(job = name, file = job.loaded.file(), "the job changed");
                }
                Some(before) if before.wanted.suspended != job.wanted.suspended => {
                    tracing::info!(job = name, suspended = job.wanted.suspended, "the job changed");
                }
                Some(_) => {}
            }
        }
        for name in self.jobs.known.keys().filter(|name| !jobs.known.contains_key(*name)) {
            tracing::info!(
                job = name,
                "no file has the job any more: it is stopped, and its tables and its log are kept"
            );
        }
        self.jobs = jobs;
        let known = &self.jobs.known;
        self.past.keep(|name| known.contains_key(name), SystemClock.now());
        self.take_up();
        self.remember();
    }

    /// Gives each job that is new, or says something else, a place; takes it from those that are gone.
    fn take_up(&mut self) {
        let (known, namespace) = (&self.jobs.known, &self.shared.options.namespace);
        let memory = self.shared.options.memory;
        self.running.retain(|name, job| job.active.is_some() || known.contains_key(name));
        for (name, now) in known {
            if self.running.get(name).is_some_and(|job| job.active.is_some() || job.version == now.wanted.version) {
                continue;
            }
            let shown = Shown::new(namespace, name, share(known, memory));
            if let Some(intervals) = now.backfill {
                let is_done = is_filled(&now.wanted, &self.past.of(name, SystemClock.now()));
                shown.say_backfill(intervals, is_done);
            }
            let (version, backfill) = (now.wanted.version.clone(), BackfillTrouble::default());
            self.running
                .insert(name.clone(), Job { version, shown, active: None, trouble: None, backfill, waits: None });
        }
        let listed = self.running.iter().filter_map(|(name, job)| Some(job.shown.listed(known.get(name)?)));
        *self.pages.jobs.lock().unwrap_or_else(PoisonError::into_inner) = listed.collect();
    }

    /// Decides for each job, and does it.
    fn act(&mut self) -> Result<(), CommandError> {
        let names: Vec<_> = self.running.keys().cloned().collect();
        for name in names {
            let now = SystemClock.now();
            let wanted = self.jobs.known.get(&name).map(|known| &known.wanted);
            let is_batch = wanted.is_some_and(|wanted| !matches!(wanted.timing, Timing::Always));
            let past = if is_batch { self.past.of(&name, now) } else { Past::default() };
            let Some(job) = self.running.get_mut(&name) else { continue };
            let facts = Facts {
                wanted,
                run: job.active.as_ref().map(|active| &active.run),
                trouble: job.trouble.as_ref(),
                trouble_of_backfill: job.backfill.trouble.as_ref(),
                past: &past,
                now,
                instant: SystemClock.instant(),
            };
            match decide(facts) {
                Decision::Start(purpose) => self.start(&name, purpose)?,
                Decision::Stop(why) => {
                    let is_backfill = job.active.as_ref().is_some_and(|active| active.run.purpose == Purpose::Backfill);
                    tracing::info!(job = name, "{}", if is_backfill { giving_way(why) } else { stopping(why) });
                    job.active.iter_mut().for_each(|active| active.stop(why));
                }
                Decision::Wait => {
                    let Some(wanted) = wanted else { continue };
                    let due = next(&wanted.timing, now);
                    job.shown.say_next(due);
                    let failed_backfill = job.backfill.trouble.as_ref();
                    let failed_backfill = failed_backfill.map(|trouble| Waits::BackfillFailed(trouble.again.is_some()));
                    let waits = match wanted.timing {
                        _ if job.active.is_some() || job.trouble.is_some() => None,
                        _ if wanted.suspended => Some(Waits::Suspended),
                        _ if failed_backfill.is_some() => failed_backfill,
                        Timing::By(_) => Some(Waits::ForTime(due)),
                        Timing::Once if wanted.backfill.is_some() => Some(Waits::Filled),
                        Timing::Once => Some(Waits::Done),
                        Timing::Always => None,
                    };
                    job.say_waits(waits);
                }
            }
        }
        Ok(())
    }

    fn start(&mut self, name: &str, purpose: Purpose) -> Result<(), CommandError> {
        let known = &self.jobs.known;
        let (Some(now), Some(job)) = (known.get(name), self.running.get_mut(name)) else { return Ok(()) };
        let memory = share(known, self.shared.options.memory);
        job.waits = None;
        let active = Active::start(&self.shared, now, &job.shown, purpose, memory);
        let active = active.map_err(|error| {
            CommandError::failed(format!("no thread for the job {name}: {error}: raise the limit of threads"))
        })?;
        job.active = Some(active);
        Ok(())
    }

    /// Writes down what is known of batch jobs, if there are some.
    fn remember(&mut self) {
        let is_batch = |job: &&Known| matches!(job.loaded, Loaded::Batch(_));
        if !self.jobs.known.values().any(|job| is_batch(&job)) {
            return;
        }
        for (name, _) in self.jobs.known.iter().filter(|(_, job)| is_batch(job)) {
            self.past.of(name, SystemClock.now());
        }
        if let Err(error) = self.runtime.block_on(self.past.write()) {
            tracing::warn!(%error, "cannot note which runs are done: after a restart the last ones run again, which changes nothing");
        }
    }

    fn stop_all(&mut self) {
        for active in self.running.values_mut().filter_map(|job| job.active.as_mut()) {
            active.stop(Why::Shutdown);
        }
        let never = StopSignal::new();
        while self.running.values().any(|job| job.active.is_some()) {
            self.ended();
            never.wait(TICK);
        }
        self.remember();
    }

    /// What each job says, by name.
    pub(in crate::commands) fn statuses(&self) -> Vec<(String, JobStatus)> {
        self.running.iter().map(|(name, job)| (name.clone(), job.shown.status())).collect()
    }

    /// Where nobody looks on, figures are lines of the log.
    fn tell_figures(&self) {
        for (name, status) in self.statuses() {
            let read: u64 = status.totals.sources.values().map(|source| source.read).sum();
            let rows: u64 = status.totals.outputs.values().map(|output| output.rows).sum();
            let per_second = status.records_per_second;
            tracing::info!(
                job = name,
                reason = status.reason,
                records = read,
                per_second,
                lag = status.lag(),
                rows,
                "figures"
            );
        }
    }
}

impl Job {
    /// Says why nothing runs, once.
    fn say_waits(&mut self, waits: Option<Waits>) {
        if self.waits == waits {
            return;
        }
        self.waits = waits;
        match waits {
            Some(Waits::Suspended) => {
                self.shown.say_still("Suspended", "spec.suspend is true: set it to false to go on")
            }
            Some(Waits::ForTime(next)) => self.shown.say_scheduled(next),
            Some(Waits::Filled) => self
                .shown
                .say_still("Completed", "its backfill is done; it is done again when it computes something else"),
            Some(Waits::BackfillFailed(is_tried_again)) => {
                let message = format!("the backfill failed: {}", self.backfill.message);
                self.shown.say_trouble(&self.backfill.reason, message, is_tried_again);
            }
            Some(Waits::Done) => self.shown.say_still("Completed", "it ran once; it runs again when it changes"),
            None => {}
        }
    }
}

/// What each job may have.
fn share(known: &BTreeMap<String, Known>, memory: MemoryBudget) -> MemoryBudget {
    let working = known.values().filter(|job| !job.wanted.suspended);
    let streaming = working.clone().filter(|job| matches!(job.loaded, Loaded::Streaming(_))).count();
    memory.share(streaming, working.count() - streaming)
}

/// When a job that failed is started again.
fn say_again(job: &str, pause: Option<Duration>, purpose: Purpose) {
    match pause.map(|pause| pause.as_secs_f32()) {
        Some(pause) => tracing::warn!(job, "it starts again in {pause:.1} s"),
        None if matches!(purpose, Purpose::Due(_) | Purpose::Once) => {
            tracing::warn!(job, "it is not tried again before its next time, or a change")
        }
        None => tracing::warn!(job, "it is not tried again before it changes"),
    }
}

fn stopping(why: Why) -> &'static str {
    match why {
        Why::Changed => "stopping, to start again with what its file says now",
        Why::Removed => "stopping: no file has the job any more",
        Why::Suspended => "stopping: the job is suspended",
        Why::Replaced => "stopping: the next run is due, and concurrencyPolicy is Replace",
        Why::TooLong => "stopping: the run takes longer than activeDeadlineSeconds",
        Why::Due => "stopping: a run is due",
        Why::Shutdown => "stopping",
    }
}

/// The same of a backfill, which finishes the interval that it is at.
fn giving_way(why: Why) -> &'static str {
    match why {
        Why::Due => "a run is due: the backfill lets it go first, and goes on behind it",
        Why::Changed => {
            "the job changed: the backfill ends after the interval that it is at, and goes on with what the file says now"
        }
        Why::Suspended => "the job is suspended: the backfill ends after the interval that it is at",
        other => stopping(other),
    }
}
