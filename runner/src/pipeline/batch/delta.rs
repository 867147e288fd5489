//! Replacing an interval of a Delta table: one version of the table removes its old files and adds the new ones, so that a
//! reader sees the old interval or the new one.
//!
//! A file's name says of which interval it is, and no two attempts write one name. So the table itself tells whether a
//! decision is published: it has, or had, the files. An interval without rows has a file without rows.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::checkpoint::output::delta::{begin, new_file};
use crate::delta::action::NewVersion;
use crate::delta::columns::Columns;
use crate::delta::replay::ActiveFile;
use crate::delta::{ATTEMPTS_MAX, Appended, DeltaError, DeltaLog, Head};
use crate::faults::{Faults, Step, step};
use crate::pipeline::batch::log::{BatchLog, Replace, Written};
use crate::pipeline::error::JobError;
use crate::storage::{SharedStore, StoreError, paths};
use crate::tables::schema::TableSchema;

/// What is known of the columns of files that this process has just written, by path.
pub(crate) type Noted = BTreeMap<String, String>;

/// The root of a table, as it stands in the log.
pub(crate) fn root(output: &SharedStore) -> String {
    format!("{}{}", paths::DELTA_ROOT, output.root())
}

/// The URL of a root, and whether it is that of a Delta table.
pub(crate) fn url(root: &str) -> (&str, bool) {
    root.strip_prefix(paths::DELTA_ROOT).map_or((root, false), |url| (url, true))
}

/// Looks whether rows with these columns fit to the table, and tells what they are, beside it.
pub(crate) async fn describe(output: &SharedStore, columns: &Columns, told: &TableSchema) -> Result<(), StoreError> {
    let log = DeltaLog::new(SharedStore::clone(output));
    let head = log.read().await?;
    begin(&root(output), &log, head.as_ref(), columns)?;
    let mut bytes = serde_json::to_vec(columns).expect("names and types are always JSON");
    bytes.push(b'\n');
    if output.get(paths::DELTA_COLUMNS).await?.as_deref() != Some(bytes.as_slice()) {
        output.replace(paths::DELTA_COLUMNS, bytes.into()).await?;
    }
    told.tell(output).await
}

/// Makes a decision visible, unless it is. `name`: what the files of its interval are called, and what they are called by
/// a job of another name; `verify` says what is wrong with a file.
pub(crate) async fn publish(
    log: &BatchLog,
    pending: &Replace,
    written: &Written,
    output: &SharedStore,
    noted: &Noted,
    faults: &dyn Faults,
) -> Result<(), JobError> {
    let table = DeltaLog::new(SharedStore::clone(output));
    let decision = Decision { log, pending, written, noted };
    let published = step(faults, Step::Publish, decision.replace(&table));
    published.await.map_err(|error| StoreError::from(error).into())
}

/// What was decided of an interval and a table.
struct Decision<'a> {
    log: &'a BatchLog,
    pending: &'a Replace,
    written: &'a Written,
    noted: &'a Noted,
}

impl Decision<'_> {
    async fn replace(&self, table: &DeltaLog) -> Result<(), DeltaError> {
        let (output, root) = (table.store(), self.written.root.as_str());
        let contradiction = |problem| DeltaError::Contradiction { root: root.to_owned(), problem };
        let paths: BTreeSet<_> = self.written.files.iter().map(|file| file.path.clone()).collect();
        let mut head = table.read().await?;
        for _ in 0..ATTEMPTS_MAX {
            let known = match &head {
                Some(head) => head.known(root, &paths)?,
                None => BTreeSet::new(),
            };
            if known.len() == paths.len() {
                return Ok(());
            }
            if !known.is_empty() {
                let problem = format!("of the {} files of an interval the table has {}", paths.len(), known.len());
                return Err(contradiction(problem));
            }
            let told = output.get(paths::DELTA_COLUMNS).await?;
            let columns: Columns = told
                .and_then(|told| serde_json::from_slice(&told).ok())
                .ok_or_else(|| contradiction(format!("{} beside it is gone", paths::DELTA_COLUMNS)))?;
            let new = self.new_version(table, head.as_ref(), &columns).await?;
            if table.append(&mut head, new.bytes()).await? == Appended::Yes {
                if let Some(head) = &mut head {
                    table.checkpoint_if_due(head).await;
                }
                return Ok(());
            }
        }
        Err(DeltaError::Contended { root: root.to_owned() })
    }

    async fn new_version(
        &self,
        table: &DeltaLog,
        head: Option<&Head>,
        columns: &Columns,
    ) -> Result<NewVersion, DeltaError> {
        let (output, root) = (table.store(), self.written.root.as_str());
        let contradiction = |problem| DeltaError::Contradiction { root: root.to_owned(), problem };
        let mut new = begin(root, table, head, columns)?;
        if let Some(head) = head {
            let removed = if self.pending.whole { head.active_files(root)? } else { self.of_interval(head)? };
            if head.metadata.is_append_only() && !removed.is_empty() {
                let what = "the run replaces some".to_owned();
                return Err(DeltaError::AppendOnly { root: root.to_owned(), what });
            }
            if !removed.is_empty() {
                new.does("WRITE", json!({"mode": "Overwrite"}));
            }
            removed.iter().for_each(|file| new.remove(file));
        }
        for file in &self.written.files {
            if output.facts(&file.path).await?.is_none_or(|found| found.bytes != file.bytes || found.xxh3 != file.xxh3)
            {
                return Err(contradiction(format!("{} is not the file that was decided", file.path)));
            }
            new.add(new_file(root, output, file, self.noted.get(&file.path).cloned(), columns).await?);
        }
        Ok(new)
    }

    /// The files of an interval that readers see.
    fn of_interval(&self, head: &Head) -> Result<Vec<ActiveFile>, DeltaError> {
        let start = &self.log.state.start;
        let (interval, log_id) = (start.grid.name(self.pending.interval), start.log_id.as_str());
        let name = format!("{}-{interval}", start.job);
        let version = |path: &str| version_of(path, log_id, &name, &interval);
        let root = self.written.root.as_str();
        let mut active = head.active_files(root)?;
        active.retain(|file| version(&file.path).is_some());
        // What was written last is what is there, unless somebody else has touched it.
        let (_, had) = head.paths(root)?;
        let last = active.iter().map(|file| &file.path).chain(&had).filter_map(|path| version(path)).max();
        if let Some(path) = had.iter().find(|path| last.is_some() && version(path) == last) {
            return Err(DeltaError::Contradiction {
                root: root.to_owned(),
                problem: format!(
                    "another writer has removed {path} of the interval {interval}, or has put its rows into files with those of other \
                 intervals (OPTIMIZE, DELETE, MERGE), so it cannot be replaced by itself: RESTORE the table to a version before \
                 that, or let a run replace the whole table"
                ),
            });
        }
        Ok(active)
    }
}

/// The version of the log that decided a file, if it is one of an interval: `<name>-<attempt>-<log>-<version>-<number>`,
/// where the job may have had another name.
fn version_of(path: &str, log_id: &str, name: &str, interval: &str) -> Option<u64> {
    let stem = path.rsplit('/').next()?.strip_suffix(".parquet")?;
    let mut parts = stem.rsplitn(5, '-');
    let (_number, version, _log) = (parts.next()?.parse::<u64>().ok()?, parts.next()?, parts.next()?);
    let (attempt, written) = (parts.next()?, parts.next()?);
    let is_attempt = attempt.len() >= 16 && attempt.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_ours = paths::final_version(path, log_id).is_some()
        && written.strip_suffix(interval).is_some_and(|before| before.ends_with('-'));
    (is_attempt && (written == name || is_ours)).then(|| version.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_of_which_interval_a_file_is() {
        let log = "0f8fad5b-d9cb-469f-a165-70867728950e";
        let of = |path: &str| version_of(path, log, "daily-20260217", "20260217");
        assert_eq!(of("date=2026-02-17/daily-20260217-00000000000000a1-0f8fad5b-17-0.parquet"), Some(17));
        assert_eq!(of("daily-20260217-00000000000000a1-1f8fad5b-3-0.parquet"), Some(3), "of a log before");
        assert_eq!(of("old-name-20260217-00000000000000a1-0f8fad5b-17-1.parquet"), Some(17), "of a job before");
        for other in [
            "daily-20260218-00000000000000a1-0f8fad5b-17-0.parquet",
            "other-20260217-00000000000000a1-1f8fad5b-17-0.parquet",
            "daily-120260217-00000000000000a1-0f8fad5b-17-0.parquet",
            "daily-20260217.parquet",
            "part-00000-0f8fad5b-d9cb-469f-a165-70867728950e-c000.snappy.parquet",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
