//! Reads the log: the newest readable base, then every record after it. The only way into a job, also after a crash.

use crate::checkpoint::job_state::JobState;
use crate::checkpoint::log::LogError;
use crate::checkpoint::paths;
use crate::checkpoint::record::{self, Record};
use crate::checkpoint::store::{SharedStore, StoreError};

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
    let last_listed = listed.last().copied().unwrap_or_default();
    loop {
        let version = state.version + 1;
        match read_record(store, version).await? {
            Some(record) => apply(store, &mut state, version, &record)?,
            None if version <= last_listed => {
                return Err(LogError::Gap { root: store.root().to_owned(), version });
            }
            None => return Ok(Some(Recovered { state, newest_base, damaged_bases })),
        }
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
