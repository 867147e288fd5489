//! The log of a batch job: which intervals are finished, what was decided about one and is not visible yet, and whose
//! turn it is. Format: docs/batch.md.
//!
//! As with a streaming job the only primitive is create-if-absent: who creates the next record has decided. What a record
//! means is the pure [`State`]; the rest is I/O.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::checkpoint::decide;
use crate::checkpoint::job_state::FoldError;
use crate::checkpoint::record::{Body, FileCommit};
use crate::checkpoint::slot_log::{self, Appended, Fold, Recovered, SlotError, SlotLog};
use crate::faults::{Faults, Moment, Step, step};
use crate::pipeline::batch::interval::{Covered, Grid, Interval};
use crate::pipeline::batch::versions::{KEPT_MAX, Reads, Version};
use crate::pipeline::error::{JobError, Reason, Retry};
use crate::storage::SharedStore;

/// Records, below the job's checkpoint folder. Not `log`: that is a streaming job's.
pub(crate) const RECORDS: &str = "batch-log";
/// The state as of a version.
pub(crate) const BASES: &str = "batch-base";
/// Records between two bases: a start reads at most twice as many.
pub(crate) const RECORDS_PER_BASE: u64 = 128;

/// Backfills that are remembered: a Job that is tried again is one of the newest.
const BACKFILLS_MAX: usize = 32;
/// Of those who have done a part of a backfill so many are remembered: few work at one at a time.
const RUNS_MAX: usize = 16;

/// A record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Record {
    /// The first one.
    Start(Start),
    /// It is this run's turn.
    Own(Own),
    /// Decided: these files are the interval.
    Replace(Replace),
    /// They are visible.
    Replaced {
        /// Epoch of the owner.
        epoch: u64,
    },
    /// The run has ended; nobody has the turn.
    Release {
        /// Epoch of the owner.
        epoch: u64,
    },
}

/// Whose log it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Start {
    /// Random; in the footers of files.
    pub(crate) log_id: String,
    pub(crate) namespace: String,
    /// Name of the checkpoint.
    pub(crate) job: String,
    pub(crate) grid: Grid,
    pub(crate) clock: i64,
    pub(crate) program: String,
}

/// Whose turn it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Own {
    /// One more with each owner.
    pub(crate) epoch: u64,
    /// Random.
    pub(crate) owner: String,
    /// Where it runs, for people.
    pub(crate) place: String,
    /// Creation and generation of the job's resource: an older one does not take the turn from a newer one.
    pub(crate) rank: i64,
    /// Identity of the Job: its next attempt need not wait for the last one.
    pub(crate) run: Option<String>,
    pub(crate) clock: i64,
}

/// What an interval consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Replace {
    pub(crate) epoch: u64,
    pub(crate) interval: Interval,
    /// The run was due at a time, so that later ones catch up from here on.
    pub(crate) due: bool,
    /// Begin of the oldest interval that a due run has begun, finished or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<i64>,
    /// The backfill that it is a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) backfill: Option<Backfill>,
    /// What it read of tables whose intervals have versions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) reads: Reads,
    /// The files are the whole table: nothing else is finished afterwards.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) whole: bool,
    /// In the first output.
    #[serde(flatten)]
    pub(crate) first: Written,
    /// In the others, in the order of the job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) others: Vec<Written>,
    /// Hash of the query and its places.
    pub(crate) fingerprint: String,
    pub(crate) clock: i64,
}

/// What an interval consists of in one output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Written {
    /// URL of the output.
    pub(crate) root: String,
    pub(crate) files: Vec<FileCommit>,
    pub(crate) rows: u64,
}

impl Replace {
    /// What it consists of in each output, in the order of the job.
    pub(crate) fn written(&self) -> impl Iterator<Item = &Written> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// All its files.
    pub(crate) fn files(&self) -> impl Iterator<Item = &FileCommit> {
        self.written().flat_map(|written| &written.files)
    }

    /// The roots of its outputs.
    pub(crate) fn roots(&self) -> impl Iterator<Item = &String> {
        self.written().map(|written| &written.root)
    }

    /// All its rows.
    pub(crate) fn rows(&self) -> u64 {
        self.written().map(|written| written.rows).sum()
    }
}

/// A request to process many intervals, which may take more than one run and more than one turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Backfill {
    /// Identity of the request.
    pub(crate) id: String,
    /// Begin of its first interval.
    pub(crate) from: i64,
    /// End of its last one.
    pub(crate) to: i64,
    /// The Job that asked for it, or the process of somebody who did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) run: Option<String>,
}

/// How far a backfill is. Its intervals are decided in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Filled {
    pub(crate) from: i64,
    pub(crate) to: i64,
    /// End of the last interval that is finished.
    pub(crate) done: i64,
    /// Hash of the query and its places, by which they were computed.
    pub(crate) fingerprint: String,
    pub(crate) clock: i64,
    /// Who asked for what was finished last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) run: Option<String>,
    /// Who asked for what was finished before, the newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) before: Vec<String>,
}

impl Filled {
    /// Whether who asks has done a part of it.
    pub(crate) fn is_also_of(&self, run: &str) -> bool {
        self.run.iter().chain(&self.before).any(|one| one == run)
    }

    /// Those who have done a part of it, where it goes on with this one.
    fn of_all(&self, next: &Self) -> Vec<String> {
        let is_same = (self.from, self.to, &self.fingerprint) == (next.from, next.to, &next.fingerprint);
        if !is_same || next.done <= self.done {
            return Vec::new();
        }
        let all = self.before.iter().chain(&self.run).filter(|one| next.run.as_ref() != Some(one));
        let all: Vec<_> = all.cloned().collect();
        all[all.len().saturating_sub(RUNS_MAX)..].to_vec()
    }
}

/// What the records say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// Of the last record.
    pub(crate) version: u64,
    pub(crate) start: Start,
    /// The last one to have the turn.
    pub(crate) owner: Option<Own>,
    /// It gave the turn back.
    pub(crate) released: bool,
    /// Decided and perhaps not visible.
    pub(crate) pending: Option<Replace>,
    /// Version of the last decision: that of its interval.
    #[serde(default)]
    pub(crate) decided: u64,
    pub(crate) finished: Covered,
    /// Begin of the first interval that a due run began.
    pub(crate) first_due: Option<i64>,
    /// Backfills, by their identity; the newest ones.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) backfills: BTreeMap<String, Filled>,
    /// Versions of the intervals, by their begin; those that were replaced last.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) versions: BTreeMap<i64, Version>,
}

impl Body for Record {}

impl Body for State {}

impl Fold for State {
    type Record = Record;

    const RECORDS: &'static str = RECORDS;
    const BASES: &'static str = BASES;

    fn begin(first: &Record) -> Option<Self> {
        match first {
            Record::Start(start) => Some(Self::begin(start.clone())),
            _ => None,
        }
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn apply(&mut self, version: u64, record: &Record) -> Result<(), FoldError> {
        Self::apply(self, version, record);
        Ok(())
    }
}

impl State {
    pub(crate) fn begin(start: Start) -> Self {
        Self {
            version: 0,
            start,
            owner: None,
            released: true,
            pending: None,
            decided: 0,
            finished: Covered::default(),
            first_due: None,
            backfills: BTreeMap::new(),
            versions: BTreeMap::new(),
        }
    }

    pub(crate) fn apply(&mut self, version: u64, record: &Record) {
        self.version = version;
        match record {
            Record::Start(_) => {}
            Record::Own(own) => {
                self.owner = Some(own.clone());
                self.released = false;
            }
            Record::Replace(replace) => (self.pending, self.decided) = (Some(replace.clone()), version),
            Record::Replaced { .. } => {
                if let Some(replace) = self.pending.take() {
                    if replace.whole {
                        (self.finished, self.first_due) = (Covered::default(), None);
                        self.versions.clear();
                    }
                    self.note_version(&replace);
                    self.note_backfill(&replace);
                    self.finished.insert(replace.interval);
                    if replace.due {
                        let start = replace.since.unwrap_or(i64::MAX).min(replace.interval.start);
                        self.first_due = Some(self.first_due.map_or(start, |first| first.min(start)));
                    }
                }
            }
            Record::Release { .. } => self.released = true,
        }
    }

    fn note_version(&mut self, replace: &Replace) {
        let Interval { start, end } = replace.interval;
        let version = self.decided;
        self.versions.insert(start, Version { start, end, version, reads: replace.reads.clone() });
        if self.versions.len() > KEPT_MAX
            && let Some(oldest) = self.versions.values().min_by_key(|known| known.version).map(|known| known.start)
        {
            self.versions.remove(&oldest);
        }
    }

    fn note_backfill(&mut self, replace: &Replace) {
        let Some(Backfill { id, from, to, run }) = replace.backfill.clone() else { return };
        let (done, fingerprint, clock) = (replace.interval.end, replace.fingerprint.clone(), replace.clock);
        let mut filled = Filled { from, to, done, fingerprint, clock, run, before: Vec::new() };
        if let Some(before) = self.backfills.get(&id) {
            filled.before = before.of_all(&filled);
        }
        self.backfills.insert(id, filled);
        if self.backfills.len() > BACKFILLS_MAX
            && let Some(oldest) = self.backfills.iter().min_by_key(|(_, filled)| filled.clock).map(|(id, _)| id.clone())
        {
            self.backfills.remove(&oldest);
        }
    }

    /// Until when the output is complete, since the first interval that was due. Runs by hand say nothing of what is before
    /// their intervals.
    pub(crate) fn complete_until(&self) -> Option<i64> {
        self.first_due.and_then(|first| self.finished.until(first))
    }

    /// The times that are finished, whatever lies between them.
    pub(crate) fn finished_times(&self) -> Vec<(i64, i64)> {
        self.finished.stretches().iter().map(|stretch| (stretch.start, stretch.end)).collect()
    }
}

/// A log and its state.
pub(crate) struct BatchLog {
    pub(crate) store: SharedStore,
    pub(crate) state: State,
    epoch: u64,
    newest_base: Option<u64>,
    /// The last decision of this process: it has just written the staged files, under names that nobody else has.
    decided_here: Option<u64>,
}

/// Path of a record.
pub(crate) fn record_path(version: u64) -> String {
    slot_log::record_path::<State>(version)
}

/// Path of a base.
pub(crate) fn base_path(version: u64) -> String {
    slot_log::base_path::<State>(version)
}

/// What to do about a log that cannot be read.
pub(crate) const DAMAGED_CURE: &str = "bring it back from a backup; or move the folders batch-log and batch-base of the \
     checkpoint away and run once with --new-log: every interval can be processed again with --from and --to";

/// What is wrong with the slots of a log.
fn unreadable(store: &SharedStore, error: SlotError) -> JobError {
    let damaged = |path: &str, problem: &str| {
        JobError::user(Reason::CheckpointCorrupt, format!("{path} cannot be read: {problem}"), DAMAGED_CURE)
    };
    let shown = |path: &str| format!("{}/{path}", store.root());
    match error {
        SlotError::Store(error) => error.into(),
        SlotError::Unreadable { path, source } => damaged(&path, &source.to_string()),
        SlotError::Gap { version, damaged_bases } => match damaged_bases.first() {
            Some((path, problem)) => damaged(&shown(path), problem),
            None => damaged(&shown(&record_path(version)), "it is missing"),
        },
        SlotError::Contradiction(error) => damaged(&shown(&record_path(error.version)), &error.problem),
    }
}

impl BatchLog {
    /// Reads the log. `None`: there is none.
    ///
    /// # Errors
    /// The store's, or a record that cannot be read.
    pub(crate) async fn read(store: SharedStore) -> Result<Option<Self>, JobError> {
        let read = SlotLog::<State>::new(&store).read().await.map_err(|error| unreadable(&store, error))?;
        Ok(read.map(|Recovered { state, newest_base, .. }| Self {
            store,
            epoch: state.owner.as_ref().map_or(0, |own| own.epoch),
            state,
            newest_base,
            decided_here: None,
        }))
    }

    /// Begins a log. `None`: somebody else just did.
    pub(crate) async fn begin(store: SharedStore, start: Start, faults: &dyn Faults) -> Result<Option<Self>, JobError> {
        let state = State::begin(start.clone());
        let log = Self { store, state, epoch: 0, newest_base: None, decided_here: None };
        let begun = log.slots().append(0, &Record::Start(start), faults).await?;
        Ok((begun == Appended::Yes).then_some(log))
    }

    fn slots(&self) -> SlotLog<State> {
        SlotLog::new(&self.store)
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether what is pending was decided by this process.
    pub(crate) fn is_decided_here(&self) -> bool {
        self.decided_here == Some(self.state.decided)
    }

    /// Takes the turn. `false`: somebody else was faster.
    pub(crate) async fn own(&mut self, mut own: Own, faults: &dyn Faults) -> Result<bool, JobError> {
        own.epoch = self.state.owner.as_ref().map_or(0, |own| own.epoch) + 1;
        let epoch = own.epoch;
        faults.reached(Step::Own, Moment::Before);
        let taken = self.append(Record::Own(own), faults).await?;
        faults.reached(Step::Own, Moment::After);
        if taken {
            self.epoch = epoch;
        }
        Ok(taken)
    }

    /// Adds a record of the owner.
    ///
    /// # Errors
    /// Another run has taken the turn.
    pub(crate) async fn add(&mut self, record: Record, faults: &dyn Faults) -> Result<(), JobError> {
        if self.append(record, faults).await? {
            return Ok(());
        }
        let now = Self::read(self.store.clone()).await?;
        let owner = now.and_then(|log| log.state.owner);
        let place = owner.map_or_else(|| "another run".to_owned(), |own| own.place);
        Err(JobError {
            reason: Reason::Fenced,
            message: format!("another run has taken this job over: {place}"),
            cure: "nothing: the other run goes on".to_owned(),
            retry: Retry::Fenced,
        })
    }

    /// Creates the next record. `false`: the slot is taken, or was swept away by a base that is newer than we are.
    async fn append(&mut self, record: Record, faults: &dyn Faults) -> Result<bool, JobError> {
        let version = self.state.version + 1;
        let version = match self.slots().append(version, &record, faults).await? {
            Appended::Yes => version,
            // Behind the others' records, whatever they say.
            Appended::Behind(behind) => behind,
            Appended::Taken | Appended::Withdrawn => return Ok(false),
        };
        self.state.apply(version, &record);
        if matches!(record, Record::Replace(_)) {
            self.decided_here = Some(self.state.decided);
        }
        Ok(true)
    }

    /// Writes a base after so many records, and removes what the base before it covers.
    pub(crate) async fn compact(&mut self, records_per_base: u64, faults: &dyn Faults) -> Result<(), JobError> {
        if !decide::base_is_due(self.state.version, self.newest_base, records_per_base) {
            return Ok(());
        }
        let slots = self.slots();
        if step(faults, Step::Base, slots.write_base(&self.state)).await?.is_none() {
            return Ok(());
        }
        self.newest_base = Some(self.state.version);
        if let Some(kept) = slots.kept().await? {
            step(faults, Step::CollectLog, slots.collect(&kept)).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
