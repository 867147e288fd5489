//! The job log: reading it, taking it over, deciding commits, publishing them, and the upkeep.
//!
//! I/O only: what the facts mean is decided in [`decide`]. One thread uses a log. A start and a restart are the same:
//!
//! ```text
//! read -> (begin | take_over) -> claim -> publish_pending -> commit … commit -> note_published -> base, collect
//! ```

pub mod claims;
pub mod publish;
pub mod read;
pub mod rewind;
pub mod upkeep;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use crate::checkpoint::decide::{self, Candidate, TakeOver};
use crate::checkpoint::job_state::{FoldError, JobState};
use crate::checkpoint::output::SharedOutput;
use crate::checkpoint::owner::Owner;
use crate::checkpoint::record::{Commit, OutputCommit, Own, Plan, Record, RecordError, Start};
use crate::checkpoint::slot_log::{Appended, SlotLog};
use crate::faults::{Faults, Guard, Step, step};
use crate::storage::{SharedStore, StoreError, paths};

/// Opens an output by the root URL that stands in the log.
pub type OpenOutput = Rc<dyn Fn(&str) -> Result<SharedOutput, StoreError>>;

/// What a process brings to a log, and keeps when it has to read the log again.
#[derive(Clone)]
pub struct LogAccess {
    /// Store of the checkpoint.
    pub store: SharedStore,
    /// Opens the outputs.
    pub open_output: OpenOutput,
    /// Who we are.
    pub candidate: Candidate,
    /// Faults of a test.
    pub faults: Arc<dyn Faults>,
    /// Number of the last attempt. It begins at random: no two attempts, whoever makes them, stage files of one name.
    pub attempts: Rc<Cell<u64>>,
}

impl LogAccess {
    /// Access for a process that starts.
    pub fn new(store: SharedStore, open_output: OpenOutput, candidate: Candidate, faults: Arc<dyn Faults>) -> Self {
        Self { store, open_output, candidate, faults, attempts: Rc::new(Cell::new(random_attempt())) }
    }
}

/// How often a process that takes a log over runs after an owner that is faster.
const CATCH_UPS_MAX: u32 = 32;

/// A number from which attempts are counted: random, of 18 digits, and with room above for as many as any process makes.
pub fn random_attempt() -> u64 {
    const FIRST: u64 = 100_000_000_000_000_000;
    let (random, _) = uuid::Uuid::new_v4().as_u64_pair();
    FIRST + random % (8 * FIRST)
}

/// The log of one job, owned by this process.
pub struct JobLog {
    access: LogAccess,
    outputs: BTreeMap<String, SharedOutput>,
    /// Where the outputs are to lie now, by name. The log may still say where they lay before.
    places: BTreeMap<String, String>,
    /// Numbers of our owner files, by root.
    claims: BTreeMap<String, u64>,
    /// Versions that this process has written itself, so that their content is known without reading it.
    staged_here: BTreeSet<u64>,
    state: JobState,
    /// What is published, by version, with its root: it may be released once `published` covers it.
    unreleased: BTreeMap<u64, Vec<(String, OutputCommit)>>,
    /// Every commit up to this version is visible; the log may not say so yet.
    published: u64,
    newest_base: Option<u64>,
}

/// Why the log cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The store did not do what was asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another process owns the job.
    #[error("another runner owns this job: {place} (epoch {epoch})")]
    Fenced {
        /// Where it runs.
        place: String,
        /// Its epoch.
        epoch: u64,
        /// It outranks this one: the number with which this one would take over.
        takeover: Option<i64>,
    },
    /// The log changed behind this process: everything in memory is void, start from the log.
    #[error("the job log changed at version {version}; starting again from it")]
    Reload {
        /// Where.
        version: u64,
    },
    /// A record is damaged.
    #[error("{path}: {source}")]
    Unreadable {
        /// The object.
        path: String,
        /// What is wrong with it.
        source: RecordError,
    },
    /// A record is missing.
    #[error("the job log in {root} has no version {version}, but later ones")]
    Gap {
        /// Root of the checkpoint.
        root: String,
        /// The missing version.
        version: u64,
    },
    /// The records contradict each other.
    #[error("the job log in {root}: {source}")]
    Contradiction {
        /// Root of the checkpoint.
        root: String,
        /// The contradiction.
        source: FoldError,
    },
    /// A rewind was decided and interrupted.
    #[error("the job log in {root} is going back to version {to}, and that was interrupted (version {version})")]
    RewindUnfinished {
        /// Root of the checkpoint.
        root: String,
        /// Version of the `rewind` record.
        version: u64,
        /// Where it goes.
        to: u64,
    },
    /// A final name is taken by something else.
    #[error("{path} is not the file that version {version} of the job log wrote there")]
    Occupied {
        /// The file.
        path: String,
        /// The commit.
        version: u64,
    },
    /// A staged file is not what was written.
    #[error("{path}, staged by version {version} of the job log, is not what was written there")]
    StageChanged {
        /// The file.
        path: String,
        /// The commit.
        version: u64,
    },
    /// A table belongs to another log.
    #[error("the table {root} belongs to {}, and this job's log is another one ({ours})", said(owner))]
    OutputOwned {
        /// Root of the table.
        root: String,
        /// Whose it is.
        owner: Owner,
        /// `<namespace>/<checkpoint>` of this job.
        ours: String,
    },
    /// Another log took a table over while this one wrote it.
    #[error("the table {root} was taken over by {}", said(owner))]
    OutputTaken {
        /// Root of the table.
        root: String,
        /// Whose it is now.
        owner: Owner,
    },
    /// A decided file is nowhere.
    #[error("{path} of version {version} is neither there nor staged: it was removed before it was published")]
    FileLost {
        /// The file.
        path: String,
        /// The commit.
        version: u64,
    },
}

/// An owner for people.
fn said(owner: &Owner) -> String {
    match owner.job.as_str() {
        "" => format!("the job log {}", owner.log_id),
        job => format!("the job {job} (log {})", owner.log_id),
    }
}

/// Identity of one attempt to commit: names of staged files and state objects are made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The version that it tries to get.
    pub version: u64,
    /// Epoch of the owner.
    pub epoch: u64,
    /// Number in the life of the owner.
    pub number: u64,
}

impl JobLog {
    /// Begins a new log with record 0.
    ///
    /// # Errors
    /// [`LogError::Reload`] when another process began it at the same time.
    pub async fn begin(access: LogAccess, start: Start) -> Result<Self, LogError> {
        let first = Record::Start(start.clone());
        let log = Self::over(access, JobState::begin(start), None);
        step(&*log.access.faults, Step::Start, async {
            match log.slots().append(0, &first, &*log.access.faults).await? {
                Appended::Yes => Ok(()),
                // A log that has bases has given its first slots back: whoever slept since before it began finds one free.
                Appended::Withdrawn => log.lost_slot(0).await,
                Appended::Taken | Appended::Behind(_) => Err(LogError::Reload { version: 0 }),
            }
        })
        .await?;
        Ok(log)
    }

    /// Goes on with a log that was read.
    pub fn resume(access: LogAccess, recovered: read::Recovered) -> Self {
        Self::over(access, recovered.state, recovered.newest_base)
    }

    fn over(access: LogAccess, state: JobState, newest_base: Option<u64>) -> Self {
        let (published, places) = (state.published, state.plan.outputs.clone());
        Self {
            access,
            outputs: BTreeMap::new(),
            places,
            claims: BTreeMap::new(),
            staged_here: BTreeSet::new(),
            state,
            unreleased: BTreeMap::new(),
            published,
            newest_base,
        }
    }

    fn faults(&self) -> Arc<dyn Faults> {
        Arc::clone(&self.access.faults)
    }

    /// The job as of the last record.
    pub fn state(&self) -> &JobState {
        &self.state
    }

    /// The store of the checkpoint.
    pub fn store(&self) -> &SharedStore {
        &self.access.store
    }

    /// Every commit up to this version is visible to readers.
    pub fn published(&self) -> u64 {
        self.published
    }

    /// Appends `own`, so that no older owner can commit any more. `clock` is now. `is_same_plan`: the job computes what the log
    /// says; then an owner who commits meanwhile, faster than a start takes, is followed until a slot is ours.
    ///
    /// # Errors
    /// [`LogError::Fenced`] when the present owner ranks higher; [`LogError::Reload`] when a record came between: the log may be
    /// ours then, and is to be read as at start.
    pub async fn take_over(&mut self, clock: i64, is_same_plan: bool) -> Result<(), LogError> {
        let (faults, known) = (self.faults(), self.state.version);
        for _ in 0..CATCH_UPS_MAX {
            let epoch = match decide::take_over(&self.state, &self.access.candidate) {
                TakeOver::GoOn if self.state.version == known => return Ok(()),
                TakeOver::GoOn => return Err(LogError::Reload { version: self.state.version }),
                TakeOver::TakeEpoch(epoch) => epoch,
                TakeOver::StopFenced(owner) => {
                    let is_outranked = self.access.candidate.rank < owner.rank;
                    let takeover = is_outranked.then(|| owner.rank.takeover.saturating_add(1));
                    return Err(LogError::Fenced { place: owner.place, epoch: owner.epoch, takeover });
                }
            };
            let Candidate { owner, rank, pod, place } = self.access.candidate.clone();
            let own = Record::Own(Own { epoch, owner, rank, place, pod: Some(pod), partitions: None, clock });
            let version = self.state.version + 1;
            let appended = step(&*faults, Step::Own, self.slots().append(version, &own, &*faults)).await?;
            let is_lost = matches!(appended, Appended::Taken | Appended::Withdrawn);
            if !(is_lost && is_same_plan && self.catch_up(appended).await?) {
                self.take_up(version, &own, appended).await?;
                // The log is ours. What this process made of it before is out of date.
                return if version == known + 1 { Ok(()) } else { Err(LogError::Reload { version }) };
            }
        }
        self.lost_slot(self.state.version + 1).await
    }

    /// Takes up what others wrote since this process read the log, so that it is one request behind them. False: it is more
    /// than commits, and the log is to be read as at start.
    async fn catch_up(&mut self, lost: Appended) -> Result<bool, LogError> {
        if lost == Appended::Withdrawn {
            // The records behind those that are known were collected.
            let Some(read::Recovered { state, newest_base, .. }) = read::read(&self.access.store).await? else {
                return Ok(false);
            };
            if state.start != self.state.start || state.plan != self.state.plan {
                return Ok(false);
            }
            (self.state, self.newest_base) = (state, newest_base);
        }
        loop {
            let version = self.state.version + 1;
            let found = self.slots().record(version).await;
            let Some(record) = found.map_err(|error| read::of_slots(error, &self.access.store))? else {
                return Ok(true);
            };
            if !matches!(record, Record::Commit(_) | Record::Published(_) | Record::Base(_)) {
                return Ok(false);
            }
            self.apply(version, &record)?;
        }
    }

    /// Notes a compatible change of the job.
    ///
    /// # Errors
    /// As [`JobLog::commit`].
    pub async fn change_plan(&mut self, plan: Plan) -> Result<(), LogError> {
        self.append(&Record::Plan(plan)).await
    }

    /// Begins an attempt to commit the next version.
    pub fn begin_attempt(&mut self) -> Attempt {
        self.access.attempts.set(self.access.attempts.get() + 1);
        let number = self.access.attempts.get();
        Attempt { version: self.state.version + 1, epoch: self.state.epoch(), number }
    }

    /// Opens an output, once.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn output(&mut self, root: &str) -> Result<SharedOutput, StoreError> {
        if let Some(output) = self.outputs.get(root) {
            return Ok(SharedOutput::clone(output));
        }
        let output = (self.access.open_output)(root)?;
        self.outputs.insert(root.to_owned(), SharedOutput::clone(&output));
        Ok(output)
    }

    /// Decides a micro-batch: after this returns it counts, and nothing before it can be undone. What the stages
    /// wrote and the state objects that `commit` names must be finished.
    ///
    /// # Errors
    /// [`LogError::Fenced`] when another process owns the job; [`LogError::Reload`] when the log is not what this process
    /// knows. In both cases nothing of the batch is visible and everything in memory is void.
    pub async fn commit(&mut self, mut commit: Commit) -> Result<u64, LogError> {
        let faults = self.faults();
        commit.epoch = self.state.epoch();
        commit.owner.clone_from(&self.access.candidate.owner);
        commit.attempt = self.access.attempts.get();
        commit.published = self.published;
        step(&*faults, Step::SyncStaged, self.sync_staged(&commit)).await?;
        if !faults.guard(Guard::Staging) {
            self.publish(self.state.version + 1, &commit.outputs).await?;
        }
        let (version, covered) = (self.state.version + 1, commit.published);
        step(&*faults, Step::Decide, self.append(&Record::Commit(Box::new(commit)))).await?;
        self.staged_here.insert(version);
        self.release(covered).await?;
        Ok(version)
    }

    async fn sync_staged(&mut self, commit: &Commit) -> Result<(), LogError> {
        for written in commit.outputs.values() {
            self.output(&written.root)?.settle(written).await?;
        }
        let objects: Vec<_> = commit.state.iter().flatten().map(|object| object.path.clone()).collect();
        self.access.store.sync_entries(&objects).await?;
        Ok(())
    }

    /// Appends a record and takes it up.
    async fn append(&mut self, record: &Record) -> Result<(), LogError> {
        let version = self.state.version + 1;
        let appended = self.slots().append(version, record, &*self.access.faults).await?;
        self.take_up(version, record, appended).await
    }

    /// Takes up what came of a record.
    async fn take_up(&mut self, version: u64, record: &Record, appended: Appended) -> Result<(), LogError> {
        match appended {
            Appended::Yes => self.apply(version, record),
            Appended::Taken | Appended::Withdrawn => self.lost_slot(version).await,
            // Behind the others' records, whatever they say.
            Appended::Behind(version) => {
                self.state.version = version - 1;
                if let Record::Commit(commit) = record {
                    self.publish(version, &commit.outputs).await?;
                }
                self.state.version = version;
                Ok(())
            }
        }
    }

    fn apply(&mut self, version: u64, record: &Record) -> Result<(), LogError> {
        let root = || self.access.store.root().to_owned();
        self.state.apply(version, record).map_err(|source| LogError::Contradiction { root: root(), source })
    }

    fn slots(&self) -> SlotLog<JobState> {
        SlotLog::new(&self.access.store)
    }

    /// Looks whether somebody else took the log over. A commit notices by itself; an owner with nothing to commit has to look.
    ///
    /// # Errors
    /// [`LogError::Fenced`] when another process owns the job; [`LogError::Reload`] when a record came from elsewhere.
    pub async fn check_owner(&self) -> Result<(), LogError> {
        let next = self.state.version + 1;
        match self.access.store.length(&paths::log_record(next)).await? {
            Some(_) => self.lost_slot(next).await,
            None => Ok(()),
        }
    }

    /// Somebody else has the slot: fenced if the log now has another owner, else only out of date.
    async fn lost_slot<T>(&self, version: u64) -> Result<T, LogError> {
        let recovered = read::read(&self.access.store).await?;
        if let Some(owner) = recovered.and_then(|recovered| recovered.state.owner)
            && owner.owner != self.access.candidate.owner
            && owner.epoch > self.state.epoch()
        {
            return Err(LogError::Fenced { place: owner.place, epoch: owner.epoch, takeover: None });
        }
        Err(LogError::Reload { version })
    }
}

impl std::fmt::Debug for JobLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobLog").field("root", &self.access.store.root()).field("version", &self.state.version).finish()
    }
}
