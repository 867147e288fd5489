//! Reads the log: the newest readable base, then every record after it. The only way into a job, also after a crash.

use crate::checkpoint::job_state::JobState;
use crate::checkpoint::log::LogError;
use crate::checkpoint::record::Record;
use crate::checkpoint::slot_log::{SlotError, SlotLog};
use crate::storage::SharedStore;

/// What a log says.
pub type Recovered = crate::checkpoint::slot_log::Recovered<JobState>;

/// Reads the log; `None` when there is none.
///
/// What it returns is durable: a record may have been linked by a process that died before it could sync the folder.
///
/// # Errors
/// [`LogError::Unreadable`], [`LogError::Gap`] or [`LogError::Contradiction`] when the log is damaged and no base closes
/// the gap; [`LogError::RewindUnfinished`]; [`LogError::Store`] when it cannot be reached.
pub async fn read(store: &SharedStore) -> Result<Option<Recovered>, LogError> {
    let log = SlotLog::<JobState>::new(store);
    let recovered = log.read().await;
    // A rewind ends with the base of its own version. Until then files that it made void may be visible.
    let (records, bases) = (log.records().await?, log.bases().await?);
    if let Some(version) = records.last().filter(|last| bases.last() < Some(last))
        && let Ok(Some(Record::Rewind(rewind))) = log.record(*version).await
    {
        let (root, version) = (store.root().to_owned(), *version);
        return Err(LogError::RewindUnfinished { root, version, to: rewind.to });
    }
    recovered.map_err(|error| of_slots(error, store))
}

/// What is wrong with the slots of a job's log.
pub(super) fn of_slots(error: SlotError, store: &SharedStore) -> LogError {
    let root = || store.root().to_owned();
    match error {
        SlotError::Store(error) => error.into(),
        SlotError::Unreadable { path, source } => LogError::Unreadable { path, source },
        SlotError::Gap { version, .. } => LogError::Gap { root: root(), version },
        SlotError::Contradiction(source) => LogError::Contradiction { root: root(), source },
    }
}
