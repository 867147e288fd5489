//! A streaming job: from its log, through micro-batches, to its end. A start, a restart and a recovery are the same path.
//!
//! ```text
//! run ── start (read the log, take it over, publish, restore) ── micro-batch … micro-batch ── stop
//!  ^                                                                     │
//!  └────────────── any error: everything in memory is void ──────────────┘
//! ```

mod batch;
mod deduplicate;
mod flows;
mod late;
pub(crate) mod outputs;
mod rebuild;
mod records;
mod references;
#[cfg(test)]
mod simulation;
mod start;
#[cfg(test)]
pub(crate) mod tests;
mod upkeep;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use data_platform_crds::kafka::StartingOffsets;
use data_platform_crds::source::BadRecordAction;
use data_platform_crds::streaming_job::QueryChangePolicy;

use crate::checkpoint::decide::Candidate;
use crate::checkpoint::log::LogAccess;
use crate::checkpoint::record::Plan;
use crate::clock::Clock;
use crate::faults::Faults;
use crate::pipeline::error::{JobError, Reason, Retry};
use crate::pipeline::job_plan::{CompileEarlier, Flow, ReferencePlan, SourcePlan};
use crate::pipeline::memory::MemoryBudget;
use crate::pipeline::status::{CommitStatus, Phase, SharedStatus};
use crate::sink::SinkPlan;
use crate::sink::topic::producer::MakeProducer;
use crate::source::routes::TopicRoutes;
use crate::source::{Source, SourceError};
use crate::stop::StopSignal;
use crate::storage::location::Location;
use crate::storage::lock::FolderLock;
use crate::transform::{BatchClock, Deduplication, WindowSpec};

use self::batch::Step;
use self::start::Session;

/// First and greatest pause before trying again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// How long a job that runs on waits for its clock to be set: long enough for NTP after a start, and not so long that one
/// producer whose clock is ahead holds everybody's records for hours.
const CLOCK_PATIENCE: Duration = Duration::from_secs(600);

/// How often a missing secret is looked for: a look at a file, and somebody is waiting for the job.
const SECRET_PAUSE: Duration = Duration::from_secs(2);

/// How long a run goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunMode {
    /// For ever.
    Continuous,
    /// Until what is there now is processed; closes the windows that the watermark has passed.
    TestMode,
    /// Until what is there now is processed; closes every window.
    Drain,
}

/// What happens to bad records.
pub enum BadRecords {
    /// They are rows of an output of their own.
    Keep(SinkPlan),
    /// The job stops at the first.
    Fail,
    /// They are only counted.
    Drop,
}

impl BadRecords {
    fn action(&self) -> BadRecordAction {
        match self {
            Self::Keep(_) => BadRecordAction::DeadLetter,
            Self::Fail => BadRecordAction::Fail,
            Self::Drop => BadRecordAction::Drop,
        }
    }
}

/// A job as it is to run: everything decided, nothing opened.
pub struct StreamingSettings {
    /// Namespace; `local` without a cluster.
    pub namespace: String,
    /// Name of the job.
    pub job: String,
    /// Name of the checkpoint.
    pub checkpoint: String,
    /// Folder or URL of the checkpoint.
    pub checkpoint_location: Location,
    /// What is committed to: fingerprints, queries, outputs.
    pub plan: Plan,
    /// What a log of format 1 would say of what the state of each output depends on.
    pub state_fingerprints_1: BTreeMap<String, String>,
    /// The tables that are read from Kafka.
    pub sources: Vec<SourcePlan>,
    /// The tables that queries join with.
    pub references: Vec<ReferencePlan>,
    /// Whose a topic is.
    pub routes: TopicRoutes,
    /// Which records count once.
    pub deduplication: Option<Deduplication>,
    /// The queries, each with its output.
    pub flows: Vec<Flow>,
    /// The clock that the queries read.
    pub batch_clock: BatchClock,
    /// What happens to bad records.
    pub bad_records: BadRecords,
    /// Makes what sends to outputs that are topics.
    pub producers: Box<MakeProducer>,
    /// Late records are kept with the dead letters.
    pub keep_late: bool,
    /// Share of bad records, in percent, that opens the circuit breaker.
    pub max_bad_percent: u64,
    /// Where a job without a log begins.
    pub starting_offsets: StartingOffsets,
    /// Stop when records are gone that were not read.
    pub fail_on_data_loss: bool,
    /// Time between micro-batches.
    pub trigger: Duration,
    /// Greatest number of records of one micro-batch.
    pub records_max: i64,
    /// How long to run.
    pub mode: RunMode,
    /// Accept an output that belongs to another log.
    pub new_log: bool,
    /// What happens to open windows that another query made.
    pub on_query_change: QueryChangePolicy,
    /// Compiles what an earlier plan of the job computed.
    pub compile_earlier: CompileEarlier,
    /// Close a circuit breaker that is open.
    pub reset_breaker: bool,
    /// Who we are among starters.
    pub candidate: Candidate,
    /// Memory.
    pub memory: MemoryBudget,
    /// Stay up with an error that needs its user, and try again: for pods.
    pub stay_up: bool,
    /// How long a bounded run tries what may pass.
    pub patience: Duration,
    /// Take the lock of a local checkpoint folder.
    pub lock: bool,
    /// Log records between two bases.
    pub records_per_base: u64,
}

impl StreamingSettings {
    /// There is something that a snapshot would hold.
    fn has_state(&self) -> bool {
        self.has_windows() || self.deduplication.is_some()
    }

    /// Some query has windows: then there is state, and a watermark.
    fn has_windows(&self) -> bool {
        self.flows.iter().any(|flow| flow.query.window().is_some())
    }

    /// The windows of queries that read a source.
    fn windowed(&self, source: usize) -> impl Iterator<Item = WindowSpec> {
        self.flows.iter().filter(move |flow| flow.reads(source)).filter_map(|flow| flow.query.window())
    }

    /// The plan of the source that reads a topic.
    fn source_of(&self, topic: &str) -> &SourcePlan {
        &self.sources[self.routes.source_of(topic).unwrap_or_default()]
    }

    /// Whether the new queries compute open windows of others anew. One without windows cannot, and one that is gone.
    pub(crate) fn rebuilds_windows(&self, outputs: &[String]) -> bool {
        let has_state =
            |output: &String| self.plan.queries.get(output).is_some_and(|query| !query.state_fingerprint.is_empty());
        self.on_query_change == QueryChangePolicy::Rebuild && outputs.iter().all(has_state)
    }

    /// How long an output of a job that works may have no rows, in microseconds: until a window is full, its rows are waited
    /// for, a partition counts as idle, and two triggers have passed. At least a minute.
    pub(crate) fn usual_silence(&self, flow: &Flow) -> i64 {
        let window = flow.query.window().map_or(0, |window| window.length());
        let read = self.sources.iter().enumerate().filter(|(source, _)| flow.reads(*source));
        let times = read.filter_map(|(_, source)| source.event_time.as_ref());
        let waits = times.map(|time| time.watermark_delay.as_duration() + time.idle_timeout.as_duration());
        let waits = waits.max().unwrap_or_default() + 2 * self.trigger;
        window.saturating_add(i64::try_from(waits.as_micros()).unwrap_or(i64::MAX)).max(60_000_000)
    }
}

/// What a job needs from outside.
pub struct Environment {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Faults of a test.
    pub faults: Arc<dyn Faults>,
    /// Where the job tells what it does.
    pub status: SharedStatus,
    /// Who says stop.
    pub stop: StopSignal,
    /// Makes a source.
    pub make_source: MakeSource,
    /// Sees every commit, and the microseconds from its latest event.
    pub observe: Observe,
    /// Sees how many records a micro-batch has read, before its rows are written.
    pub after_reading: Box<dyn Fn(u64)>,
    /// Sees how long the job is about to wait, with nothing to do.
    pub before_pause: Box<dyn Fn(Duration)>,
    /// Whether a secret is another one than when this was asked last.
    pub secrets_changed: Box<dyn Fn() -> bool>,
}

/// Sees a commit, and the microseconds from its latest event.
pub type Observe = Box<dyn Fn(&CommitStatus, Option<i64>)>;

/// Makes a source.
pub type MakeSource = Box<dyn Fn() -> Result<Box<dyn Source>, SourceError>>;

/// How a run ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Somebody said stop; windows stay open.
    Stopped,
    /// A bounded run has processed what was there.
    Complete,
}

/// A streaming job.
pub struct StreamingJob {
    settings: StreamingSettings,
    environment: Environment,
    lock: Option<FolderLock>,
    access: Option<LogAccess>,
}

impl StreamingJob {
    /// A job that has not begun.
    pub fn new(settings: StreamingSettings, environment: Environment) -> Self {
        Self { settings, environment, lock: None, access: None }
    }

    /// Runs until it ends. Blocks; a job has a thread of its own.
    ///
    /// # Errors
    /// An error that needs its user (unless the job stays up), or one that did not pass in the time of a bounded run.
    pub async fn run(&mut self) -> Result<Ended, JobError> {
        let mut trouble = Trouble::default();
        loop {
            match self.run_from_log(&mut trouble).await {
                Ok(ended) => {
                    self.environment.status.enter(Phase::Ended, "Ended", "");
                    return Ok(ended);
                }
                Err(_) if self.environment.stop.is_stopped() => {}
                Err(error) => self.recover(error, &mut trouble)?,
            }
            // Also while it waited: another start could take as long as a request to a broker that does not answer.
            if self.environment.stop.is_stopped() {
                self.environment.status.enter(Phase::Ended, "Ended", "");
                return Ok(Ended::Stopped);
            }
        }
    }

    /// Decides what an error means, and waits where waiting helps.
    fn recover(&mut self, error: JobError, trouble: &mut Trouble) -> Result<(), JobError> {
        let Environment { clock, status, .. } = &self.environment;
        status.update(|status| status.reloads += 1);
        let bounded = self.settings.mode != RunMode::Continuous;
        match error.retry {
            Retry::Reload => {
                tracing::info!(reason = error.reason.name(), "{error}");
                return Ok(());
            }
            Retry::Fenced => {
                status.error(Phase::Stalled, clock.now(), &error);
                return Err(error);
            }
            Retry::AfterChange if !self.settings.stay_up || bounded => {
                status.error(Phase::Stalled, clock.now(), &error);
                return Err(error);
            }
            Retry::Backoff
                if bounded
                    && (error.reason == Reason::ClockBehind || trouble.lasts(&**clock) >= self.settings.patience) =>
            {
                status.error(Phase::Stalled, clock.now(), &error);
                return Err(error);
            }
            Retry::AfterChange | Retry::Backoff => {}
        }
        if error.reason == Reason::ClockBehind {
            trouble.doubts_clock_since.get_or_insert_with(|| clock.instant());
        }
        let phase = if error.retry == Retry::Backoff { Phase::Retrying } else { Phase::Stalled };
        status.error(phase, clock.now(), &error);
        let pause = match error.reason {
            Reason::SecretMissing | Reason::StorageDenied => SECRET_PAUSE,
            _ if phase == Phase::Stalled => BACKOFF.1,
            _ => trouble.pause(&**clock),
        };
        tracing::warn!(reason = error.reason.name(), retry_in_ms = pause.as_millis() as u64, "{}", error.in_full());
        // Locks and connections are let go while waiting.
        self.access = None;
        self.wait(pause, error.reason);
        Ok(())
    }

    /// Waits; after a refused login until another secret is there, at most.
    fn wait(&self, pause: Duration, reason: Reason) {
        let Environment { stop, secrets_changed, .. } = &self.environment;
        let is_login = matches!(
            reason,
            Reason::AuthenticationFailed
                | Reason::SchemaRegistryRefused
                | Reason::SettingsRefused
                | Reason::SecretMissing
        );
        if !is_login {
            stop.wait(pause);
            return;
        }
        let mut left = pause;
        while !left.is_zero() {
            let step = left.min(SECRET_PAUSE);
            if stop.wait(step) || secrets_changed() {
                return;
            }
            left -= step;
        }
    }

    async fn run_from_log(&mut self, trouble: &mut Trouble) -> Result<Ended, JobError> {
        let mut session = Session::start(self).await?;
        session.trusts_clock =
            trouble.doubts_clock_since.is_some_and(|since| session.environment.clock.since(since) >= CLOCK_PATIENCE);
        session.say_running();
        let mut last_start: Option<Instant> = None;
        loop {
            let Environment { clock, stop, .. } = session.environment;
            if stop.is_stopped() {
                session.stop().await?;
                return Ok(Ended::Stopped);
            }
            let began = *last_start.insert(clock.instant());
            match session.micro_batch().await? {
                Step::Finished => {
                    while session.upkeep().await? {}
                    session.finish().await?;
                    return Ok(Ended::Complete);
                }
                Step::Done { backlog_left } => {
                    trouble.clear();
                    session.say_running();
                    if backlog_left {
                        continue;
                    }
                    session.rest().await?;
                    session.upkeep().await?;
                    if session.settings.mode != RunMode::Continuous {
                        continue;
                    }
                    let pause =
                        super::plan::until_next_trigger(clock.since(began), session.settings.trigger, backlog_left);
                    (session.environment.before_pause)(pause);
                    // A trigger of 0 still leaves the brokers some air.
                    stop.wait(pause.max(Duration::from_millis(5)));
                }
                Step::Unanswered => {
                    session.rest().await?;
                    stop.wait(BACKOFF.0);
                }
            }
        }
    }
}

/// How long something has been wrong, and how long to pause.
#[derive(Default)]
struct Trouble {
    since: Option<Instant>,
    /// Since when records say that the clock is behind. Monotonic time: the clock itself is in doubt.
    doubts_clock_since: Option<Instant>,
    attempts: u32,
}

impl Trouble {
    fn lasts(&mut self, clock: &dyn Clock) -> Duration {
        clock.since(*self.since.get_or_insert_with(|| clock.instant()))
    }

    /// Twice as long each time, within [`BACKOFF`].
    fn pause(&mut self, clock: &dyn Clock) -> Duration {
        self.since.get_or_insert_with(|| clock.instant());
        let pause = BACKOFF.0.saturating_mul(1 << self.attempts.min(10)).min(BACKOFF.1);
        self.attempts += 1;
        pause
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}
