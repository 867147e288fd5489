//! Upkeep of a Delta table by its owner: rows in other files, days that go, and files that nobody wants any more.
//!
//! ```text
//! exchange   (files in their final places, which no log names) ── one version: remove, remove, …, add: dataChange false
//! remove     one version: remove, remove, …
//! clear      delete the files whose removal is older than the table wants to keep them
//! ```
//!
//! Nothing of it is decided by the job log: rows stay the same, or go as days that are old. Whoever was superseded and wakes
//! up does no harm: a version that was made behind the back of another is lost, and what it is about is looked at again.

use std::collections::BTreeSet;

use serde_json::json;

use super::{DeltaTable, new_file};
use crate::checkpoint::record::FileCommit;
use crate::delta::action::NewVersion;
use crate::delta::replay::{ActiveFile, TableFiles};
use crate::delta::{ATTEMPTS_MAX, Appended, DeltaError, Head};
use crate::faults::{Step, step};
use crate::storage::{StoreError, paths};

impl DeltaTable {
    /// The files that the table has and had, as this process knows it; `None` if there is no table yet.
    ///
    /// # Errors
    /// When its log cannot be read.
    pub async fn table_files(&self) -> Result<Option<TableFiles>, StoreError> {
        let head = self.head().await?;
        let files = head.as_ref().map(|head| head.files(&self.root)).transpose()?;
        *self.head.borrow_mut() = head;
        Ok(files)
    }

    /// Puts files with the same rows in the place of others, as one version. `false`: another writer has touched one of the
    /// old ones, and nothing has changed. `new`: each with what is said of its columns; `now` in microseconds since 1970.
    ///
    /// # Errors
    /// When the store does not answer, or the table may not be written; nobody knows then whether the new files are in it.
    pub async fn exchange(
        &self,
        old: &[ActiveFile],
        new: &[(&FileCommit, &str)],
        now: i64,
    ) -> Result<bool, StoreError> {
        let paths: Vec<_> = new.iter().map(|(file, _)| file.path.clone()).collect();
        self.store().sync_entries(&paths).await?;
        let columns = self.columns().await?;
        let mut added = Vec::new();
        for (file, statistics) in new {
            added.push(new_file(&self.root, self.store(), file, Some((*statistics).to_owned()), &columns).await?);
        }
        let same_rows = |files: &TableFiles| {
            let is_there = |old: &ActiveFile| files.active.binary_search_by(|file| file.path.cmp(&old.path));
            let is_untouched = |old: &&ActiveFile| is_there(old).is_ok_and(|at| files.active.get(at) == Some(old));
            old.iter().filter(is_untouched).count() == old.len()
        };
        let written = self.append_version(|head| {
            if !same_rows(&head.files(&self.root)?) {
                return Ok(None);
            }
            let mut version = NewVersion::of("OPTIMIZE", json!({"predicate": "[]"})).that_rearranges().at(now);
            old.iter().for_each(|file| version.remove(file));
            added.iter().cloned().for_each(|file| version.add(file));
            Ok(Some(version))
        });
        Ok(written.await?.is_some())
    }

    /// Takes the rows of files from the readers, as one version; how many files. `why` says what is removed and by whom.
    ///
    /// # Errors
    /// As [`DeltaTable::exchange`]; also when rows may only be added to the table.
    pub async fn remove(
        &self,
        is_removed: impl Fn(&ActiveFile) -> bool,
        why: &str,
        now: i64,
    ) -> Result<usize, StoreError> {
        let removed = std::cell::Cell::new(0);
        let written = self.append_version(|head| {
            let mut active = head.active_files(&self.root)?;
            active.retain(&is_removed);
            removed.set(active.len());
            if active.is_empty() {
                return Ok(None);
            }
            if head.metadata.is_append_only() {
                return Err(DeltaError::AppendOnly { root: self.root.clone(), what: why.to_owned() });
            }
            let mut version = NewVersion::of("DELETE", json!({"predicate": "[]", "reason": why})).at(now);
            active.iter().for_each(|file| version.remove(file));
            Ok(Some(version))
        });
        Ok(written.await?.map_or(0, |()| removed.get()))
    }

    /// Adds a version that is made of what the table is, again and again until nobody was faster; `None`: none is wanted.
    async fn append_version(
        &self,
        make: impl Fn(&Head) -> Result<Option<NewVersion>, DeltaError>,
    ) -> Result<Option<()>, StoreError> {
        let mut head = self.head().await?;
        for _ in 0..ATTEMPTS_MAX {
            let Some(known) = &head else { return Ok(None) };
            self.log.check_writable(known)?;
            let Some(version) = make(known)? else {
                *self.head.borrow_mut() = head;
                return Ok(None);
            };
            let appended = self.log.append(&mut head, version.bytes());
            if step(&*self.faults, Step::Exchange, appended).await? == Appended::Yes {
                if let Some(head) = &mut head {
                    self.log.checkpoint_if_due(head).await;
                }
                *self.head.borrow_mut() = head;
                return Ok(Some(()));
            }
        }
        Err(DeltaError::Contended { root: self.root.clone() }.into())
    }

    /// Deletes the files of a log that the table does not have any more, and that nobody may want any more; how many.
    ///
    /// # Errors
    /// When the store does not answer, or the log of the table cannot be read.
    pub async fn clear(&self, log_id: &str, now: i64) -> Result<usize, StoreError> {
        // As it is now: others may have restored some.
        let Some(head) = self.log.read().await? else { return Ok(0) };
        let files = head.files(&self.root)?;
        *self.head.borrow_mut() = Some(head);
        let is_ours = |path: &str| paths::final_version(path, log_id).is_some();
        let due = files.removed.into_iter().filter(|(path, until)| *until <= now / 1_000 && is_ours(path));
        let due: BTreeSet<_> = due.map(|(path, _)| path).collect();
        if due.is_empty() {
            return Ok(0);
        }
        let there = self.store().list("").await?.into_iter().map(|entry| entry.path);
        let there: Vec<_> = there.filter(|path| due.contains(path)).collect();
        self.store().delete_all(&there).await?;
        Ok(there.len())
    }
}
