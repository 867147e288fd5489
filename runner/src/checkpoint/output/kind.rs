//! What lies in a table's folder already. Files among those of a Delta table that its log does not name, and a Delta table among
//! files, are rows that some readers see and others do not.
//!
//! Looks, and writes nothing.

use crate::delta::DeltaLog;
use crate::storage::{SharedStore, StoreError, paths};

/// That no Delta table lies where a table of files is to be written.
///
/// # Errors
/// [`StoreError::Table`] when one does.
pub async fn refuse_delta(store: &SharedStore) -> Result<(), StoreError> {
    let root = store.root();
    let cure = "set format: delta, or choose another folder (sink.path, badRecords.path)";
    if DeltaLog::new(SharedStore::clone(store)).exists().await? {
        return Err(StoreError::Table {
            message: format!(
                "{root} is a Delta table, since it has the log {}: a file that this log does not name is seen by no reader of the \
                 table, and removed by its next VACUUM",
                paths::DELTA_LOG
            ),
            cure: cure.to_owned(),
        });
    }
    if store.length(paths::DELTA_COLUMNS).await?.is_none() {
        return Ok(());
    }
    // A Delta job that has written, and has not committed yet.
    match store.list("").await?.into_iter().find(|entry| paths::is_of_attempt(&entry.path)) {
        Some(entry) => Err(StoreError::Table {
            message: format!(
                "{root} was begun as a Delta table, which has no version yet: {} was written for its first one, and may never have \
                 been decided",
                entry.path
            ),
            cure: format!("{cure}; or remove such files by hand if nobody needs them"),
        }),
        None => Ok(()),
    }
}

/// That a Delta table lies where one is to be written, or nothing that anybody would take for a table.
///
/// # Errors
/// [`StoreError::Table`] when files lie there that are of no Delta table.
pub async fn refuse_files(store: &SharedStore) -> Result<(), StoreError> {
    if DeltaLog::new(SharedStore::clone(store)).exists().await? {
        return Ok(());
    }
    // What was written for the first version of a table, and not committed, is of no table.
    let is_foreign = |path: &str| paths::is_visible(path) && !paths::is_of_attempt(path);
    match store.list("").await?.into_iter().find(|entry| is_foreign(&entry.path)) {
        Some(entry) => Err(StoreError::Table {
            message: format!(
                "{} has files that are of no Delta table ({}): a Delta table made there would not have their rows, and its first \
                 VACUUM would remove them",
                store.root(),
                entry.path
            ),
            cure: "choose another sink.path; or set sink.format to what the files are; or make a Delta table of them first (CONVERT \
                   TO DELTA, deltalake.convert_to_deltalake)"
                .to_owned(),
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::rc::Rc;
    use std::sync::Arc;

    use super::*;
    use crate::faults::NoFaults;
    use crate::storage::local::LocalStore;

    const OURS: &str = "day=2026-01-01/orders-0f8fad5b-17-0.parquet";
    const ATTEMPT: &str = "day=2026-01-01/orders-00000000000000a1-0f8fad5b-17-0.parquet";
    const FOREIGN: &str = "part-00000-c000.snappy.parquet";
    const VERSION: &str = "_delta_log/00000000000000000000.json";

    async fn checked(paths: &[&str]) -> (Option<String>, Option<String>) {
        let folder = tempfile::tempdir().unwrap();
        let table = folder.path().join("orders");
        let beside = folder.path().join("_dataplatform/orders");
        let write = |path: &Path| {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "{}").unwrap();
        };
        std::fs::create_dir_all(&table).unwrap();
        for path in paths {
            match paths::beside(path) {
                Some(path) => write(&beside.join(path)),
                None => write(&table.join(path)),
            }
        }
        let store: SharedStore = Rc::new(LocalStore::open_table(&table, Arc::new(NoFaults)).unwrap());
        let said = |checked: Result<(), StoreError>| checked.err().map(|error| error.to_string());
        (said(refuse_delta(&store).await), said(refuse_files(&store).await))
    }

    #[tokio::test]
    async fn files_and_a_delta_table_are_not_mixed_in_one_folder() {
        for (there, as_files, as_delta) in [
            (&[][..], None, None),
            (&[OURS][..], None, Some(OURS)),
            (&[FOREIGN][..], None, Some(FOREIGN)),
            (&["x.csv"][..], None, Some("x.csv")),
            (&["_hidden/x.parquet", "notes.txt"][..], None, None),
            (&[VERSION][..], Some("is a Delta table"), None),
            (&[VERSION, FOREIGN][..], Some("is a Delta table"), None),
            (&["_delta_log/_last_checkpoint"][..], None, None),
            (&[paths::DELTA_COLUMNS][..], None, None),
            (&[paths::DELTA_COLUMNS, ATTEMPT][..], Some("was begun as a Delta table"), None),
        ] {
            let (files, delta) = checked(there).await;
            for (found, expected) in [(files, as_files), (delta, as_delta)] {
                let fits = match (&found, expected) {
                    (Some(found), Some(expected)) => found.contains(expected),
                    (found, expected) => found.is_none() && expected.is_none(),
                };
                assert!(fits, "{there:?}: {found:?}, expected {expected:?}");
            }
        }
    }
}
