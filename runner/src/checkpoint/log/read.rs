//! Reads the log: the newest readable base, then every record after it. The only way into a job, also after a crash.

use crate::checkpoint::decide::{self, NextSlot};
use crate::checkpoint::job_state::JobState;
use crate::checkpoint::log::LogError;
use crate::checkpoint::record::{self, Record};
use crate::storage::{SharedStore, StoreError, paths};

/// What a log says.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// The job as of the last record.
    pub state: JobState,
    /// The newest base that could be read.
    pub newest_base: Option<u64>,
    /// Newer bases that could not be read, each with the reason; recovery went around them.
    pub damaged_bases: Vec<(String, String)>,
}

/// Versions of the objects in `folder` ([`paths::LOG`] or [`paths::BASE`]), ascending.
///
/// # Errors
/// When the store cannot be listed.
pub async fn versions(store: &SharedStore, folder: &str) -> Result<Vec<u64>, StoreError> {
    let listed = store.list(folder).await?;
    let mut versions: Vec<_> = listed.iter().filter_map(|entry| paths::version_of(&entry.path)).collect();
    versions.sort_unstable();
    Ok(versions)
}

/// Reads the log; `None` when there is none.
///
/// What it returns is durable: a record may have been linked by a process that died before it could sync the folder.
///
/// # Errors
/// [`LogError::Unreadable`], [`LogError::Gap`] or [`LogError::Contradiction`] when the log is damaged and no base closes
/// the gap; [`LogError::Store`] when it cannot be reached.
pub async fn read(store: &SharedStore) -> Result<Option<Recovered>, LogError> {
    loop {
        let bases = versions(store, paths::BASE).await?;
        match read_once(store, &bases).await {
            // A garbage collection of the owner may run while we read: then there are newer bases now.
            Err(LogError::Gap { .. }) if versions(store, paths::BASE).await? != bases => {}
            result => return result,
        }
    }
}

async fn read_once(store: &SharedStore, bases: &[u64]) -> Result<Option<Recovered>, LogError> {
    let listed = versions(store, paths::LOG).await?;
    store.sync_entries(&[paths::log_record(0), paths::base(0)]).await?;
    if let Some(last) = listed.last().filter(|last| bases.last() < Some(last)) {
        refuse_unfinished_rewind(store, *last).await?;
    }
    let mut damaged_bases = Vec::new();
    let mut newest_base = None;
    let mut state = None;
    for version in bases.iter().rev() {
        let path = paths::base(*version);
        let Some(bytes) = store.get(&path).await? else { continue };
        match record::decode::<JobState>(*version, &bytes) {
            Ok(base) => {
                state = Some(base);
                newest_base = Some(*version);
                break;
            }
            Err(error) => damaged_bases.push((path, error.to_string())),
        }
    }
    let mut state = match state {
        Some(state) => state,
        None if listed.is_empty() && bases.is_empty() => return Ok(None),
        None => match read_record(store, 0).await? {
            Some(Record::Start(start)) => JobState::begin(start),
            _ => return Err(LogError::Gap { root: store.root().to_owned(), version: 0 }),
        },
    };
    loop {
        let version = state.version + 1;
        if let Some(record) = read_record(store, version).await? {
            apply(store, &mut state, version, &record)?;
            continue;
        }
        match decide::next_slot(&listed, state.version) {
            NextSlot::End => return Ok(Some(Recovered { state, newest_base, damaged_bases })),
            NextSlot::BehindGap(next) => match read_record(store, next).await? {
                Some(record @ Record::Rewind(_)) => apply(store, &mut state, next, &record)?,
                _ => return Err(LogError::Gap { root: store.root().to_owned(), version }),
            },
            // It was listed and is gone: a garbage collection.
            NextSlot::Following(_) => return Err(LogError::Gap { root: store.root().to_owned(), version }),
        }
    }
}

/// A rewind ends with the base of its own version. Until then files that it made void may be visible.
async fn refuse_unfinished_rewind(store: &SharedStore, version: u64) -> Result<(), LogError> {
    let Some(bytes) = store.get(&paths::log_record(version)).await? else { return Ok(()) };
    match record::decode(version, &bytes) {
        Ok(Record::Rewind(rewind)) => {
            Err(LogError::RewindUnfinished { root: store.root().to_owned(), version, to: rewind.to })
        }
        // A damaged record is met again where it matters.
        _ => Ok(()),
    }
}

/// Reads one record; `None` when the slot is free.
///
/// # Errors
/// [`LogError::Unreadable`] when it is damaged.
pub async fn read_record(store: &SharedStore, version: u64) -> Result<Option<Record>, LogError> {
    let path = paths::log_record(version);
    let Some(bytes) = store.get(&path).await? else { return Ok(None) };
    let shown = || format!("{}/{path}", store.root());
    record::decode(version, &bytes).map(Some).map_err(|source| LogError::Unreadable { path: shown(), source })
}

fn apply(store: &SharedStore, state: &mut JobState, version: u64, record: &Record) -> Result<(), LogError> {
    let root = || store.root().to_owned();
    state.apply(version, record).map_err(|source| LogError::Contradiction { root: root(), source })
}
