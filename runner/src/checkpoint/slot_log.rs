//! A log of numbered slots: who creates the next one has decided, and a state is the fold of them all. A streaming job and a
//! batch job have one each; what their records mean is their [`Fold`].
//!
//! ```text
//! read -> append … append -> write_base -> kept -> collect
//! ```
//!
//! I/O only: what the facts mean is decided in [`decide`]. It knows one log, not a job: a job may have several, each with
//! an owner of its own.

use std::marker::PhantomData;

use bytes::Bytes;
use serde::Serialize;

use crate::checkpoint::decide::{self, BaseCheck, NextSlot, SlotDecision};
use crate::checkpoint::job_state::FoldError;
use crate::checkpoint::record::{Body, RecordError, decode, encode};
use crate::faults::{Faults, Guard, Step, step};
use crate::storage::{Created, SharedStore, StoreError, paths};

/// Attempts to create one slot whose outcome stays unknown, before giving up until the next start.
const UNKNOWN_OUTCOMES_MAX: u32 = 10;

/// What a log adds up to.
pub trait Fold: Body + Serialize + Clone + std::fmt::Debug {
    /// What a slot holds.
    type Record: Body + Serialize + Clone + std::fmt::Debug;

    /// Folder of the records, below the checkpoint.
    const RECORDS: &'static str;
    /// Folder of the bases: the state as of a version.
    const BASES: &'static str;

    /// The state after the first record; `None` if no log begins with it.
    fn begin(first: &Self::Record) -> Option<Self>;

    /// Version of the last record.
    fn version(&self) -> u64;

    /// Takes up the next record.
    ///
    /// # Errors
    /// When it contradicts those before it.
    fn apply(&mut self, version: u64, record: &Self::Record) -> Result<(), FoldError>;

    /// Whether a record may stand behind versions that are missing.
    fn closes_gap(_: &Self::Record) -> bool {
        false
    }
}

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// The store did not do what was asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record is damaged.
    #[error("{path}: {source}")]
    Unreadable {
        /// The object.
        path: String,
        /// What is wrong with it.
        source: RecordError,
    },
    /// A record is missing.
    #[error("there is no version {version}, but later ones")]
    Gap {
        /// The missing version.
        version: u64,
        /// Bases that could not be read, each with the reason: one of them might have closed the gap.
        damaged_bases: Vec<(String, String)>,
    },
    /// The records contradict each other.
    #[error(transparent)]
    Contradiction(#[from] FoldError),
}

/// What a log says.
#[derive(Clone, Debug)]
pub struct Recovered<F> {
    /// The state as of the last record.
    pub state: F,
    /// The newest base that could be read.
    pub newest_base: Option<u64>,
    /// Newer bases that could not be read, each with the reason; recovery went around them.
    pub damaged_bases: Vec<(String, String)>,
}

/// What came of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It has its slot: it counts.
    Yes,
    /// The slot has somebody else's record.
    Taken,
    /// The slot had been freed by a garbage collection behind our back, and is free again.
    Withdrawn,
    /// Without the fence: it lies at this version, behind records that we do not know.
    Behind(u64),
}

/// The two newest bases, and what is older.
#[derive(Clone, Debug)]
pub struct Kept<F> {
    /// The older one: every record after it stays.
    pub older: F,
    /// The newest one.
    pub newer: F,
    old_bases: Vec<u64>,
    old_records: Vec<u64>,
}

/// The log of `F` in a store.
pub struct SlotLog<F> {
    store: SharedStore,
    fold: PhantomData<fn() -> F>,
}

/// Path of a record of `F`.
pub fn record_path<F: Fold>(version: u64) -> String {
    paths::slot(F::RECORDS, version)
}

/// Path of a base of `F`.
pub fn base_path<F: Fold>(version: u64) -> String {
    paths::slot(F::BASES, version)
}

impl<F: Fold> SlotLog<F> {
    /// The log in a store.
    pub fn new(store: &SharedStore) -> Self {
        Self { store: SharedStore::clone(store), fold: PhantomData }
    }

    /// Versions of the records, ascending.
    ///
    /// # Errors
    /// When the store cannot be listed.
    pub async fn records(&self) -> Result<Vec<u64>, StoreError> {
        versions(&self.store, F::RECORDS).await
    }

    /// Versions of the bases, ascending.
    ///
    /// # Errors
    /// When the store cannot be listed.
    pub async fn bases(&self) -> Result<Vec<u64>, StoreError> {
        versions(&self.store, F::BASES).await
    }

    /// Reads the log: the newest readable base, then every record after it; `None` when there is none.
    ///
    /// What it returns is durable: a record may have been linked by a process that died before it could sync the folder.
    ///
    /// # Errors
    /// When the log is damaged and no base closes the gap, or it cannot be reached.
    pub async fn read(&self) -> Result<Option<Recovered<F>>, SlotError> {
        loop {
            let bases = self.bases().await?;
            match self.read_once(&bases).await {
                // A garbage collection of the owner may run while we read: then there are newer bases now.
                Err(SlotError::Gap { .. }) if self.bases().await? != bases => {}
                result => return result,
            }
        }
    }

    async fn read_once(&self, bases: &[u64]) -> Result<Option<Recovered<F>>, SlotError> {
        let listed = self.records().await?;
        self.store.sync_entries(&[record_path::<F>(0), base_path::<F>(0)]).await?;
        let (mut damaged_bases, mut newest_base, mut state) = (Vec::new(), None, None);
        for version in bases.iter().rev() {
            let path = base_path::<F>(*version);
            let Some(bytes) = self.store.get(&path).await? else { continue };
            match decode::<F>(*version, &bytes) {
                Ok(base) => {
                    (state, newest_base) = (Some(base), Some(*version));
                    break;
                }
                Err(error) => damaged_bases.push((path, error.to_string())),
            }
        }
        let mut state = match state {
            Some(state) => state,
            None if listed.is_empty() && bases.is_empty() => return Ok(None),
            None => {
                let first = self.record(0).await?;
                let begun = first.as_ref().and_then(F::begin);
                begun.ok_or(SlotError::Gap { version: 0, damaged_bases: damaged_bases.clone() })?
            }
        };
        loop {
            let version = state.version() + 1;
            if let Some(record) = self.record(version).await? {
                state.apply(version, &record)?;
                continue;
            }
            match decide::next_slot(&listed, state.version()) {
                NextSlot::End => return Ok(Some(Recovered { state, newest_base, damaged_bases })),
                NextSlot::BehindGap(next) => match self.record(next).await? {
                    Some(record) if F::closes_gap(&record) => state.apply(next, &record)?,
                    _ => return Err(SlotError::Gap { version, damaged_bases }),
                },
                // It was listed and is gone: a garbage collection.
                NextSlot::Following(_) => return Err(SlotError::Gap { version, damaged_bases }),
            }
        }
    }

    /// Reads one record; `None` when the slot is free.
    ///
    /// # Errors
    /// When it is damaged.
    pub async fn record(&self, version: u64) -> Result<Option<F::Record>, SlotError> {
        let path = record_path::<F>(version);
        let Some(bytes) = self.store.get(&path).await? else { return Ok(None) };
        let shown = || format!("{}/{path}", self.store.root());
        decode(version, &bytes).map(Some).map_err(|source| SlotError::Unreadable { path: shown(), source })
    }

    /// Creates the record of a version if its slot is free, and makes sure that the slot counts: the decision.
    ///
    /// # Errors
    /// When the store does not do it, or nobody can say whether it did.
    pub async fn append(&self, version: u64, record: &F::Record, faults: &dyn Faults) -> Result<Appended, StoreError> {
        let mut free = version;
        while self.take(free, record).await? != SlotDecision::Ours {
            if faults.guard(Guard::Fence) {
                return Ok(Appended::Taken);
            }
            free += 1;
        }
        if free != version {
            return Ok(Appended::Behind(free));
        }
        if !faults.guard(Guard::BaseCheck) {
            return Ok(Appended::Yes);
        }
        match step(faults, Step::CheckBase, self.check_base(version)).await? {
            BaseCheck::Publish => Ok(Appended::Yes),
            BaseCheck::Withdraw => Ok(Appended::Withdrawn),
        }
    }

    /// Creates the record of a version if its slot is free. An answer that is lost is found out.
    async fn take(&self, version: u64, record: &F::Record) -> Result<SlotDecision, StoreError> {
        let (path, bytes) = (record_path::<F>(version), encode(version, record));
        for _ in 0..UNKNOWN_OUTCOMES_MAX {
            let answer = match self.store.create(&path, Bytes::copy_from_slice(&bytes)).await {
                Ok(created) => Some(created),
                Err(StoreError::Unknown { .. }) => None,
                // A local create that failed after its link has happened all the same: the slot tells.
                Err(error) => match self.store.get(&path).await {
                    Ok(Some(found)) if found == bytes => None,
                    _ => return Err(error),
                },
            };
            let found = if answer == Some(Created::Yes) {
                None
            } else {
                let found = self.store.get(&path).await?;
                // What was found may be linked and not yet durable: it must be before anything is built on it.
                self.store.sync_entries(std::slice::from_ref(&path)).await?;
                found
            };
            match decide::slot(&bytes, answer, found.as_deref()) {
                SlotDecision::TryAgain => {}
                decision => return Ok(decision),
            }
        }
        Err(StoreError::Unknown { operation: "create", path: format!("{}/{path}", self.store.root()) })
    }

    /// Whether a slot that was just taken counts. One that a garbage collection had freed behind our back is given back.
    async fn check_base(&self, version: u64) -> Result<BaseCheck, StoreError> {
        let check = decide::base_check(version, &self.bases().await?);
        if check == BaseCheck::Withdraw {
            self.store.delete(&record_path::<F>(version)).await?;
        }
        Ok(check)
    }

    /// Writes a base. `None`: another version of the program left one there, or a damaged one; the next version gets one.
    ///
    /// # Errors
    /// When the store does not do it.
    pub async fn write_base(&self, state: &F) -> Result<Option<Bytes>, StoreError> {
        let version = state.version();
        let (path, bytes) = (base_path::<F>(version), Bytes::from(encode(version, state)));
        let created = self.store.create(&path, bytes.clone()).await?;
        let is_ours = created == Created::Yes || self.store.get(&path).await?.as_ref() == Some(&bytes);
        Ok(is_ours.then_some(bytes))
    }

    /// What stays once two bases are there, if both can be read; else everything stays until two good ones are.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn kept(&self) -> Result<Option<Kept<F>>, StoreError> {
        let (bases, records) = (self.bases().await?, self.records().await?);
        let [.., older, newer] = bases[..] else { return Ok(None) };
        let (Some(older), Some(newer)) = (self.base(older).await?, self.base(newer).await?) else { return Ok(None) };
        let (old_bases, old_records) = decide::garbage_versions(&bases, &records);
        Ok(Some(Kept { older, newer, old_bases, old_records }))
    }

    async fn base(&self, version: u64) -> Result<Option<F>, StoreError> {
        let bytes = self.store.get(&base_path::<F>(version)).await?;
        Ok(bytes.and_then(|bytes| decode(version, &bytes).ok()))
    }

    /// Removes what the two kept bases cover.
    ///
    /// # Errors
    /// When the store does not do it; the next time makes up for it.
    pub async fn collect(&self, kept: &Kept<F>) -> Result<(), StoreError> {
        let bases: Vec<_> = kept.old_bases.iter().map(|version| base_path::<F>(*version)).collect();
        self.store.delete_all(&bases).await?;
        let records: Vec<_> = kept.old_records.iter().map(|version| record_path::<F>(*version)).collect();
        self.store.delete_all(&records).await
    }
}

/// Versions of the objects in a folder, ascending.
async fn versions(store: &SharedStore, folder: &str) -> Result<Vec<u64>, StoreError> {
    let listed = store.list(folder).await?;
    let mut versions: Vec<_> = listed.iter().filter_map(|entry| paths::version_of(&entry.path)).collect();
    versions.sort_unstable();
    Ok(versions)
}
