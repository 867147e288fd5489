//! A run of a batch job: it takes its turn, finishes what an earlier run decided, and replaces one interval after another.
//!
//! ```text
//! turn ── publish what is decided ── for each interval: wait for inputs ── query ── stage ── decide ── publish ── release
//! ```
//!
//! A run that ends at any line loses nothing and doubles nothing: an interval is in the output as it was before or as it
//! is now, and the next run goes on from the log.

mod attempts;
mod available;
mod backfill;
mod compute;
pub(crate) mod delta;
pub(crate) mod depends;
pub(crate) mod inputs;
pub(crate) mod interval;
pub(crate) mod log;
pub(crate) mod replace;
mod runs;
pub(crate) mod survey;
mod turn;
pub(crate) mod versions;

use std::sync::Arc;
use std::time::{Duration, Instant};

use data_platform_crds::sink::SinkSpec;

use crate::checkpoint::decide::Candidate;
use crate::checkpoint::log::random_attempt;
use crate::checkpoint::output::kind;
use crate::clock::{Clock, show_time};
use crate::faults::{Faults, Step, step};
use crate::pipeline::error::{JobError, Reason};
use crate::pipeline::memory::MemoryBudget;
use crate::pipeline::places;
use crate::pipeline::status::{BatchStatus, CommitStatus, Phase, SharedStatus};
use crate::stop::StopSignal;
use crate::storage::location::Location;
use crate::storage::{SharedStore, paths};
use crate::transform::BatchQuery;

pub(crate) use self::backfill::Asked;
pub(crate) use self::compute::memory_exhausted;

use self::attempts::Attempts;
use self::compute::{Ask, Computed, Computer};
use self::inputs::Input;
use self::interval::{Covered, Grid, Interval, Wanted, work};
use self::log::{Backfill, BatchLog, RECORDS_PER_BASE, Record, Replace, Start, Written};
use self::turn::{Heartbeat, Patience};

/// What a run is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// The intervals of a backfill that are not finished, in as many turns as it takes.
    Backfill(Asked),
    /// The finished intervals whose input was replaced later.
    Stale,
    /// These intervals, whether they were processed before or not.
    Exactly(Vec<Interval>),
    /// These times, of which a job that replaces its whole table reads the rows.
    Times(Interval),
    /// The run was due at this time: also what earlier runs left.
    Due(i64),
    /// Every interval of which the inputs have rows, as far as they are complete and no run has finished it.
    Available,
    /// The last interval that is over. All attempts of one Job take that of the first.
    Now {
        /// Identity of the Job.
        job_uid: Option<String>,
    },
}

/// A run, everything decided, nothing opened.
pub(crate) struct BatchSettings {
    pub(crate) namespace: String,
    pub(crate) job: String,
    /// Name of the checkpoint.
    pub(crate) checkpoint: String,
    pub(crate) checkpoint_location: Location,
    pub(crate) grid: Grid,
    /// A run replaces the whole table.
    pub(crate) whole: bool,
    /// It may replace it by what is older than what it holds.
    pub(crate) force: bool,
    /// A run reads so many days before the end of its interval.
    pub(crate) lookback_days: Option<u16>,
    pub(crate) request: Request,
    pub(crate) inputs: Vec<Input>,
    /// What it computes; at least one.
    pub(crate) outputs: Vec<BatchOutput>,
    pub(crate) fingerprint: String,
    pub(crate) catch_up: usize,
    /// A scheduled run also processes intervals that are stale.
    pub(crate) rerun_stale: bool,
    /// Jobs that must have finished an interval first.
    pub(crate) depends_on: Vec<depends::Dependency>,
    pub(crate) wait: Duration,
    pub(crate) candidate: Candidate,
    /// Identity of the Job that this run is an attempt of.
    pub(crate) job_uid: Option<String>,
    pub(crate) memory: MemoryBudget,
    /// Take the lock of a local checkpoint folder.
    pub(crate) lock: bool,
    /// Accept an output that belongs to another log.
    pub(crate) new_log: bool,
}

/// A query of a run, and the table that it replaces an interval of.
pub(crate) struct BatchOutput {
    pub(crate) name: String,
    pub(crate) query: BatchQuery,
    pub(crate) location: Location,
    pub(crate) sink: SinkSpec,
}

/// What a run needs from outside.
pub(crate) struct BatchEnvironment {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) faults: Arc<dyn Faults>,
    pub(crate) status: SharedStatus,
    pub(crate) stop: StopSignal,
    /// A backfill ends after the interval that it is at: something else of this process comes first.
    pub(crate) give_way: StopSignal,
    /// Sees every interval that is finished.
    pub(crate) observe: Box<dyn Fn(&CommitStatus)>,
}

/// Runs until its intervals are finished, in more than one turn if others wait for theirs.
///
/// # Errors
/// The first error; what was finished before it stays.
pub(crate) async fn run(settings: &BatchSettings, environment: &BatchEnvironment) -> Result<(), JobError> {
    environment.status.enter(Phase::Starting, "Starting", "reading the log");
    // An earlier run of this process counted for itself.
    environment.status.update(|status| status.batch = None);
    check_places(settings)?;
    let store = settings.checkpoint_location.open(&environment.faults)?;
    store.probe().await?;
    let mut outputs = Vec::with_capacity(settings.outputs.len());
    for output in &settings.outputs {
        let store = output.location.open_table(&environment.faults)?;
        store.probe().await?;
        match output.is_delta() {
            true => kind::refuse_files(&store).await?,
            false => kind::refuse_delta(&store).await?,
        }
        outputs.push(store);
    }
    while let Turn::Yielded { epoch } = one_turn(settings, environment, &store, &outputs).await? {
        if environment.give_way.is_stopped() {
            return Err(turn::interrupted());
        }
        turn::let_others(&store, epoch, &*environment.clock, &environment.stop).await?;
    }
    environment.status.enter(Phase::Ended, "Ended", "");
    Ok(())
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Nothing is left to do.
    Done,
    /// Somebody waits, and something is left.
    Yielded {
        /// Of this turn.
        epoch: u64,
    },
}

/// Takes a turn, works, and gives it back.
async fn one_turn(
    settings: &BatchSettings,
    environment: &BatchEnvironment,
    store: &SharedStore,
    outputs: &[SharedStore],
) -> Result<Turn, JobError> {
    let BatchEnvironment { clock, faults, stop, .. } = environment;
    let deadline = clock.instant() + settings.wait;
    let mut patience =
        Patience { wait: settings.wait, clock: &**clock, stop, run: settings.job_uid.as_deref(), is_locked: false };
    let lock = match settings.checkpoint_location.folder().filter(|_| settings.lock) {
        Some(folder) => Some(turn::lock(folder, store, &patience).await?),
        None => None,
    };
    patience.is_locked = lock.is_some();
    let log = open_log(settings, store, outputs, clock.now(), &**faults).await?;
    let log = turn::take(store, log, &settings.candidate, clock.now(), &patience, &**faults).await?;
    let heartbeat = Heartbeat::start(&settings.checkpoint_location, faults);
    let mut session = Session { settings, environment, log, outputs, attempts: random_attempt() };
    let result = session.process(deadline).await;
    // Also after an error the next run need not wait. One that cannot be told is found out by the silence.
    let is_fenced = result.as_ref().is_err_and(|error| error.reason == Reason::Fenced);
    if !is_fenced {
        let epoch = session.log.epoch();
        let released = session.log.add(Record::Release { epoch }, &**faults).await;
        if let (Ok(_), Err(error)) = (&result, released) {
            tracing::warn!("cannot give the turn back: {error}");
        }
    }
    drop(heartbeat);
    drop(lock);
    result
}

/// No output lies where another or an input lies, nor the checkpoint.
fn check_places(settings: &BatchSettings) -> Result<(), JobError> {
    let table = |output: &BatchOutput| (format!("the table {}", output.name), output.location.clone());
    let mut written: Vec<_> = settings.outputs.iter().map(table).collect();
    written.push(("the checkpoint".to_owned(), settings.checkpoint_location.clone()));
    places::refuse_overlaps(&written)?;
    for input in &settings.inputs {
        let read = (format!("the input {}", input.name), input.location.clone());
        for output in &settings.outputs {
            places::refuse_overlaps(&[table(output), read.clone()])?;
        }
    }
    Ok(())
}

async fn open_log(
    settings: &BatchSettings,
    store: &SharedStore,
    outputs: &[SharedStore],
    clock: i64,
    faults: &dyn Faults,
) -> Result<BatchLog, JobError> {
    loop {
        if let Some(log) = BatchLog::read(store.clone()).await? {
            let start = &log.state.start;
            if (start.namespace.as_str(), start.job.as_str()) != (&settings.namespace, &settings.checkpoint) {
                return Err(JobError::user(
                    Reason::CheckpointOfOtherJob,
                    format!(
                        "the checkpoint in {} belongs to {}/{}, not to {}/{}",
                        settings.checkpoint_location,
                        start.namespace,
                        start.job,
                        settings.namespace,
                        settings.checkpoint
                    ),
                    "give the job its own CHECKPOINT_DIR; to let a job go on under another name, set checkpoint.name",
                ));
            }
            if start.grid != settings.grid {
                return Err(JobError::user(
                    Reason::QueryChanged,
                    format!(
                        "the job's intervals were one {}, now they are one {}",
                        start.grid.word(),
                        settings.grid.word()
                    ),
                    "give it another name or checkpoint.name, and another sink.path",
                ));
            }
            return Ok(log);
        }
        if !settings.new_log {
            for output in outputs {
                replace::check_free(output, &format!("{}/{}", settings.namespace, settings.checkpoint)).await?;
            }
        }
        let start = Start {
            log_id: uuid::Uuid::new_v4().to_string(),
            namespace: settings.namespace.clone(),
            job: settings.checkpoint.clone(),
            grid: settings.grid,
            clock,
            program: env!("CARGO_PKG_VERSION").to_owned(),
        };
        // Whoever is faster begins it; both read what is there then.
        if let Some(log) = step(faults, Step::Start, BatchLog::begin(store.clone(), start, faults)).await? {
            return Ok(log);
        }
    }
}

struct Session<'a> {
    settings: &'a BatchSettings,
    environment: &'a BatchEnvironment,
    log: BatchLog,
    outputs: &'a [SharedStore],
    /// Number of the last attempt at an interval. It begins at random: no two stage files of one name.
    attempts: u64,
}

impl Session<'_> {
    async fn process(&mut self, deadline: Instant) -> Result<Turn, JobError> {
        let faults = Arc::clone(&self.environment.faults);
        let is_new = self.log.state.finished == Covered::default() && self.log.state.pending.is_none();
        for output in self.outputs {
            replace::claim(&self.log, output, self.settings.new_log && is_new, &*faults).await?;
        }
        replace::publish(&mut self.log, self.outputs, &[], &faults).await?;
        for output in self.outputs {
            replace::collect_staging(&self.log, output, &*faults).await?;
        }
        // Also runs that finish nothing add records.
        self.log.compact(RECORDS_PER_BASE, &*faults).await?;
        let wanted = self.wanted().await?;
        let is_due = matches!(wanted, Wanted::Due(_));
        let store = self.log.store.clone();
        let mut attempts = Attempts::read(&store, &self.log.state.finished).await?;
        let mut intervals = self.work(&wanted, attempts.begun())?;
        // What is stale behind them was not due, and says nothing of what is before it.
        let due = if is_due { intervals.len() } else { 0 };
        if is_due && self.settings.rerun_stale && !self.settings.whole {
            self.add_stale(&mut intervals).await?;
        }
        let last = match &wanted {
            Wanted::Due(time) => self.times(self.settings.grid.last_over(*time)),
            Wanted::Exactly(_) => intervals.last().copied().unwrap_or(Interval { start: 0, end: 0 }),
        };
        // What is left for the next run is none of it.
        let start = intervals.iter().map(|interval| interval.start).min().unwrap_or(last.start);
        let end = intervals.iter().map(|interval| interval.end).max().unwrap_or(last.end);
        let whole = Interval { start, end };
        self.environment.status.update(|status| {
            status.log_id = Some(self.log.state.start.log_id.clone());
            // What earlier turns finished stays told.
            let none = BatchStatus { start: whole.start, end: whole.end, ..Default::default() };
            let before = status.batch.take().unwrap_or(none);
            let end = whole.end.max(before.end);
            status.batch = Some(BatchStatus { end, left: intervals.len() as u64, ..before });
        });
        if let Request::Backfill(asked) = &self.settings.request {
            let turn = self.backfill(asked, intervals).await?;
            self.end().await?;
            return Ok(turn);
        }
        let mut failed = None;
        for (index, interval) in intervals.into_iter().enumerate() {
            let in_turn = index < due;
            if in_turn {
                attempts.begin(&store, interval).await?;
            }
            let since = attempts.begun().iter().map(|begun| begun.start).min().filter(|_| in_turn);
            match self.interval(interval, since, deadline).await {
                Ok(()) => attempts.finish(interval),
                Err(error) if is_due && is_of_interval(&error) => {
                    tracing::error!(interval = self.name(interval), "{}", error.in_full());
                    failed = failed.or(Some(error));
                }
                Err(error) => {
                    if in_turn && let Err(error) = attempts.withdraw(&store, interval).await {
                        tracing::debug!(%error, "the next run takes other intervals first");
                    }
                    return Err(error);
                }
            }
            self.log.compact(RECORDS_PER_BASE, &*faults).await?;
        }
        self.end().await?;
        failed.map_or(Ok(Turn::Done), Err)
    }

    /// Tidies up, and tells which intervals are stale.
    async fn end(&self) -> Result<(), JobError> {
        for output in self.outputs {
            output.delete_empty_folders(paths::STAGING).await?;
        }
        let (finished, now) = (&self.log.state.finished, self.environment.clock.now());
        let ours = self.settings.job_uid.as_deref();
        if let Err(error) = runs::collect(&self.log.store, finished, ours, now).await {
            tracing::warn!(%error, "cannot remove the files of runs that are over; the next run tries again");
        }
        let stale = self.stale().await?;
        for stale in &stale {
            let (interval, replaced) = (self.settings.grid.name(stale.interval), show_time(stale.replaced.start));
            tracing::warn!(
                interval,
                input = stale.input,
                "stale: the input was replaced from {replaced} on, after it was read"
            );
        }
        let names = stale.iter().map(|stale| self.settings.grid.name(stale.interval)).collect();
        self.environment.status.update(|status| {
            if let Some(batch) = &mut status.batch {
                batch.stale = names;
            }
        });
        Ok(())
    }

    async fn stale(&self) -> Result<Vec<versions::Stale>, JobError> {
        versions::stale(&self.log.state, &self.settings.inputs, &self.environment.faults).await
    }

    /// Adds the stale intervals behind those that are missing, as many as one run processes.
    async fn add_stale(&self, intervals: &mut Vec<Interval>) -> Result<(), JobError> {
        let room = self.settings.catch_up.saturating_sub(intervals.len());
        let stale = self.stale().await?.into_iter().map(|stale| stale.interval);
        let more: Vec<_> = stale.filter(|stale| !intervals.contains(stale)).take(room).collect();
        intervals.extend(more);
        Ok(())
    }

    async fn wanted(&self) -> Result<Wanted, JobError> {
        let grid = self.settings.grid;
        match &self.settings.request {
            Request::Exactly(intervals) => {
                Ok(Wanted::Exactly(intervals.iter().map(|interval| self.times(*interval)).collect()))
            }
            Request::Times(times) => Ok(Wanted::Exactly(vec![*times])),
            Request::Backfill(asked) => Ok(Wanted::Exactly(self.left_of(asked))),
            Request::Stale => {
                Ok(Wanted::Exactly(self.stale().await?.into_iter().map(|stale| stale.interval).collect()))
            }
            Request::Due(time) => Ok(Wanted::Due(*time)),
            Request::Available => Ok(Wanted::Exactly(self.available().await?)),
            Request::Now { job_uid } => {
                let interval = grid.last_over(self.environment.clock.now());
                let Some(uid) = job_uid else { return Ok(Wanted::Exactly(vec![self.times(interval)])) };
                Ok(Wanted::Exactly(vec![self.times(runs::fix(&self.log.store, uid, interval).await?)]))
            }
        }
    }

    /// What the run processes, in order. Of a whole table only the newest counts.
    fn work(&self, wanted: &Wanted, begun: &[Interval]) -> Result<Vec<Interval>, JobError> {
        let (settings, state) = (self.settings, &self.log.state);
        if !settings.whole {
            return Ok(work(wanted, settings.grid, &state.finished, state.first_due, settings.catch_up, begun));
        }
        let holds = state.finished.stretches().last().map(|last| last.end);
        let is_older = |times: &Interval| holds.is_some_and(|holds| times.end < holds);
        match wanted {
            Wanted::Due(time) => {
                let newest = self.times(settings.grid.last_over(*time));
                Ok(if holds.is_some_and(|holds| newest.end <= holds) { Vec::new() } else { vec![newest] })
            }
            Wanted::Exactly(times) => match times.iter().max_by_key(|times| times.end) {
                Some(newest) if is_older(newest) && !settings.force => Err(JobError::user(
                    Reason::OutputChanged,
                    format!(
                        "the table {} is that of the time until {}, and the run would replace it by that until {}",
                        settings.names(),
                        show_time(holds.unwrap_or_default()),
                        show_time(newest.end)
                    ),
                    "run a later time, or add --force to go back",
                )),
                newest => Ok(newest.copied().into_iter().collect()),
            },
        }
    }

    /// What an interval is called; of a whole table the last one that it holds.
    fn name(&self, interval: Interval) -> String {
        self.settings.grid.name(self.settings.grid.last_over(interval.end))
    }

    /// The times that a run of an interval is about: of a whole table all that it reads.
    fn times(&self, interval: Interval) -> Interval {
        if self.settings.whole { self.settings.looked_back(interval) } else { interval }
    }

    /// Waits for an interval's inputs, computes it and replaces it. `due`: begin of the oldest that a due run began.
    async fn interval(&mut self, interval: Interval, due: Option<i64>, deadline: Instant) -> Result<(), JobError> {
        let (settings, environment) = (self.settings, self.environment);
        let computer = Computer::new(settings, environment, &self.log, self.outputs, 1);
        let ask = Ask { interval, version: self.log.state.version + 1, number: self.next_attempt(), deadline };
        let computed = computer.compute(ask).await?;
        let name = self.name(interval);
        let commit = self.replace(computed, Why { due, backfill: None }).await?;
        tracing::info!(interval = name, rows = commit.rows, files = commit.files, "replaced");
        Ok(())
    }

    /// A number for each output.
    fn next_attempt(&mut self) -> u64 {
        let first = self.attempts + 1;
        self.attempts += self.outputs.len() as u64;
        first
    }

    /// Decides what the interval is, and makes it visible.
    async fn replace(&mut self, computed: Computed, why: Why) -> Result<CommitStatus, JobError> {
        let Computed { interval, files, noted, reads, began } = computed;
        let faults = Arc::clone(&self.environment.faults);
        let commit_began = self.environment.clock.instant();
        let mut written = Vec::new();
        for ((output, store), files) in self.settings.outputs.iter().zip(self.outputs).zip(files) {
            let stages: Vec<_> = files.iter().map(|file| file.stage.clone()).collect();
            step(&*faults, Step::SyncStaged, store.sync_entries(&stages)).await?;
            let rows = files.iter().map(|file| file.rows).sum();
            written.push(Written { root: output.root(store), files, rows });
        }
        let totals: Vec<_> =
            self.settings.outputs.iter().map(|output| &output.name).zip(&written).map(totals).collect();
        let (rows, count) =
            (totals.iter().map(|(_, rows, ..)| rows).sum(), totals.iter().map(|(.., files)| files).sum());
        let mut written = written.into_iter();
        let (first, others) = (written.next().unwrap_or_default(), written.collect());
        let clock = self.environment.clock.now();
        let record = Record::Replace(Replace {
            epoch: self.log.epoch(),
            interval,
            due: why.due.is_some(),
            since: why.due,
            backfill: why.backfill,
            reads,
            whole: self.settings.whole,
            first,
            others,
            fingerprint: self.settings.fingerprint.clone(),
            clock,
        });
        step(&*faults, Step::Decide, self.log.add(record, &*faults)).await?;
        replace::publish(&mut self.log, self.outputs, &noted, &faults).await?;
        let milliseconds = |began| u64::try_from(self.environment.clock.since(began).as_millis()).unwrap_or(u64::MAX);
        let commit = CommitStatus {
            version: self.log.state.version,
            clock,
            records: 0,
            rows,
            files: count,
            batch_ms: milliseconds(began),
            commit_ms: milliseconds(commit_began),
        };
        self.environment.status.update(|status| {
            for (name, rows, bytes, files) in totals {
                let output = status.totals.outputs.entry(name).or_default();
                output.rows += rows;
                output.bytes += bytes;
                output.files += files;
            }
            status.commits += 1;
            if let Some(batch) = &mut status.batch {
                batch.finished += 1;
                batch.left = batch.left.saturating_sub(1);
                batch.rows += rows;
                batch.files += count;
            }
        });
        self.environment.status.committed(commit.clone());
        (self.environment.observe)(&commit);
        Ok(commit)
    }
}

/// Name of an output, and rows, bytes and files that were written to it.
fn totals((name, written): (&String, &Written)) -> (String, u64, u64, u64) {
    let bytes = written.files.iter().map(|file| file.bytes).sum();
    (name.clone(), written.rows, bytes, written.files.len() as u64)
}

/// What an interval is processed for.
struct Why {
    /// Begin of the oldest interval that a due run began.
    due: Option<i64>,
    backfill: Option<Backfill>,
}

/// Whether it is about the interval, and not about the run: the others are then not to wait for it.
fn is_of_interval(error: &JobError) -> bool {
    use Reason::{InputIncomplete, InternalError, MemoryExhausted, QueryFailed};
    matches!(error.reason, QueryFailed | MemoryExhausted | InputIncomplete | InternalError)
}
