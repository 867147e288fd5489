//! What of a table is whole, told to those who wait for complete input.

use serde::{Deserialize, Serialize};

use crate::storage::{SharedStore, StoreError, paths};

/// `progress.json`, beside a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct Progress {
    /// The log that writes this output.
    pub log_id: String,
    /// Every commit up to this version is visible.
    pub published: u64,
    /// The job's watermark as of that version, in microseconds since 1970.
    pub watermark: Option<i64>,
    /// No row before this time will come any more.
    pub complete_until: Option<i64>,
    /// Of a batch job: the times that are finished, `[start, end)`, also behind a gap.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub finished: Vec<(i64, i64)>,
}

impl Progress {
    /// Whether no row of `[start, end)` will come any more.
    pub fn covers(&self, start: i64, end: i64) -> bool {
        self.complete_until.is_some_and(|until| end <= until)
            || self.finished.iter().any(|(from, to)| *from <= start && end <= *to)
    }
}

/// Reads what a table tells; `None` when it tells nothing, or nothing that can be read. A job of format 1 told it in the
/// table's folder; readers may be newer than the job that writes.
///
/// # Errors
/// When the output cannot be read.
pub async fn read_progress(store: &SharedStore) -> Result<Option<Progress>, StoreError> {
    match progress_beside(store).await? {
        Some(progress) => Ok(Some(progress)),
        None => Ok(parsed(store.get(paths::format1::PROGRESS).await?)),
    }
}

/// Reads what stands beside the table.
///
/// # Errors
/// When the output cannot be read.
pub async fn progress_beside(store: &SharedStore) -> Result<Option<Progress>, StoreError> {
    Ok(parsed(store.get(paths::PROGRESS).await?))
}

/// Tells it, in one piece.
///
/// # Errors
/// When the output cannot be written.
pub async fn write_progress(store: &SharedStore, progress: &Progress) -> Result<(), StoreError> {
    let bytes = serde_json::to_vec(progress).expect("plain fields are always JSON");
    store.replace(paths::PROGRESS, bytes.into()).await
}

fn parsed(bytes: Option<bytes::Bytes>) -> Option<Progress> {
    bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok())
}
