//! Outputs that are Delta tables: a decided commit becomes visible as one version of the table.
//!
//! ```text
//! (stage: files in their final places, which no log names) ── DECIDE ── _delta_log/<version>.json: txn, add, add, …
//! ```
//!
//! What was written and never decided is a file that no version names: VACUUM removes it. Whose table it is, and up to where it
//! is complete, stands beside it, as with every other table.

mod upkeep;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;

use crate::checkpoint::log::LogError;
use crate::checkpoint::output::files::{Files, is_as_written, lower_progress};
use crate::checkpoint::output::{Decided, Listed, Output, SharedOutput, Sweep, kind};
use crate::checkpoint::owner::{Claim, Owned, Owner};
use crate::checkpoint::progress::Progress;
use crate::checkpoint::record::{FileCommit, OutputCommit};
use crate::checkpoint::rewind::RewindPlan;
use crate::delta::action::{NewFile, NewVersion};
use crate::delta::columns::{Columns, Misfit};
use crate::delta::protocol::Protocol;
use crate::delta::{ATTEMPTS_MAX, Appended, DeltaError, DeltaLog, Head, footer, partition};
use crate::faults::{Faults, Step, step};
use crate::storage::location::Location;
use crate::storage::{SharedStore, StoreError, paths};

/// Files of which a stage has told what their columns hold and that are not published yet; of more it is read again.
const NOTED_MAX: usize = 4_096;

/// A Delta table, with its bookkeeping beside it.
pub struct DeltaTable {
    /// Whose it is, and what is told of it.
    beside: Files,
    log: DeltaLog,
    root: String,
    faults: Arc<dyn Faults>,
    /// The table as this process knows it.
    head: RefCell<Option<Head>>,
    /// Of the rows that are written from now on.
    columns: RefCell<Option<Columns>>,
    /// Of the rows that the job would write: used where nothing is told beside the table.
    checked: RefCell<Option<Columns>>,
    noted: RefCell<BTreeMap<String, String>>,
}

impl DeltaTable {
    /// The table in a store.
    pub fn over(store: SharedStore, faults: Arc<dyn Faults>) -> Self {
        let root = format!("{}{}", paths::DELTA_ROOT, store.root());
        let beside = Files::over(SharedStore::clone(&store), Arc::clone(&faults));
        let (head, columns) = (RefCell::default(), RefCell::default());
        let (checked, noted) = (RefCell::default(), RefCell::default());
        Self { beside, log: DeltaLog::new(store), root, faults, head, columns, checked, noted }
    }

    /// Opens the output at a root; `None` if it is of another kind.
    ///
    /// # Errors
    /// When the program cannot open such a place.
    pub fn open(root: &str, faults: &Arc<dyn Faults>) -> Option<Result<SharedOutput, StoreError>> {
        let url = root.strip_prefix(paths::DELTA_ROOT)?;
        let open = || {
            let store = Location::of_root(url)?.open_table(faults)?;
            let output: SharedOutput = Rc::new(Self::over(store, Arc::clone(faults)));
            Ok(output)
        };
        Some(open())
    }

    /// Where its files lie.
    pub fn store(&self) -> &SharedStore {
        self.log.store()
    }

    /// Whether this program knows all that whoever writes the table must see to; there may be no table yet.
    ///
    /// # Errors
    /// What it does not know, by name.
    pub async fn check_writable(&self) -> Result<(), StoreError> {
        match self.log.read().await? {
            Some(head) => Ok(self.log.check_writable(&head)?),
            None => Ok(()),
        }
    }

    /// The table as this process knows it, or as it is now.
    async fn head(&self) -> Result<Option<Head>, DeltaError> {
        let known = self.head.borrow_mut().take();
        match known {
            Some(head) => Ok(Some(head)),
            None => self.log.read().await,
        }
    }

    /// Of the rows that are to be published.
    async fn columns(&self) -> Result<Columns, DeltaError> {
        let known = self.columns.borrow().clone();
        if let Some(columns) = known {
            return Ok(columns);
        }
        let told = self.store().get(paths::DELTA_COLUMNS).await?;
        let told = told.and_then(|told| serde_json::from_slice(&told).ok());
        let unknown = || DeltaError::Contradiction {
            root: self.root.clone(),
            problem: format!("{} beside it, which says what the columns of the job are, is gone", paths::DELTA_COLUMNS),
        };
        told.or_else(|| self.checked.borrow().clone()).ok_or_else(unknown)
    }

    /// Adds what a commit wrote as one version, unless the table has it.
    async fn commit(&self, decided: Decided<'_>) -> Result<(), LogError> {
        let writer = format!("{}/{}", decided.log_id, decided.output);
        let version = i64::try_from(decided.version).unwrap_or(i64::MAX);
        // What this process wrote a moment ago is as it was, until somebody else wrote to the table.
        let mut is_sure = decided.is_ours;
        let mut head = self.head().await.map_err(StoreError::from)?;
        for _ in 0..ATTEMPTS_MAX {
            let written = match &mut head {
                Some(head) => head.writer(&self.root, &writer).map_err(StoreError::from)?,
                None => None,
            };
            let is_written = written.is_some_and(|written| written >= version);
            if (is_written || !is_sure) && self.has(head.as_ref(), &decided, is_written).map_err(StoreError::from)? {
                *self.head.borrow_mut() = head;
                return Ok(());
            }
            if !is_sure {
                self.verify(&decided).await?;
            }
            let content = self.new_version(head.as_ref(), &decided, &writer).await.map_err(StoreError::from)?.bytes();
            if self.log.append(&mut head, content).await.map_err(StoreError::from)? == Appended::Yes {
                if let Some(head) = &mut head {
                    self.log.checkpoint_if_due(head).await;
                }
                self.noted.borrow_mut().clear();
                *self.head.borrow_mut() = head;
                return Ok(());
            }
            is_sure = false;
        }
        Err(StoreError::from(DeltaError::Contended { root: self.root.clone() }).into())
    }

    /// Whether the table has, or had, the files of a commit. `is_written`: it says so itself.
    fn has(&self, head: Option<&Head>, decided: &Decided<'_>, is_written: bool) -> Result<bool, DeltaError> {
        let Some(head) = head else { return Ok(false) };
        let paths: BTreeSet<_> = decided.written.files.iter().map(|file| file.path.clone()).collect();
        let found = head.known(&self.root, &paths)?;
        if found.len() == paths.len() {
            return Ok(true);
        }
        if found.is_empty() && !is_written {
            return Ok(false);
        }
        let (version, all) = (decided.version, paths.len());
        Err(DeltaError::Contradiction {
            root: self.root.clone(),
            problem: format!("of the {all} files of version {version} of the job the table has {}", found.len()),
        })
    }

    /// Whether the files of a commit are there, as they were written.
    async fn verify(&self, decided: &Decided<'_>) -> Result<(), LogError> {
        let version = decided.version;
        for file in &decided.written.files {
            let path = format!("{}/{}", self.store().root(), file.path);
            match self.store().facts(&file.path).await? {
                Some(found) if is_as_written(&found, file) => {}
                Some(_) => return Err(LogError::StageChanged { path, version }),
                None => return Err(LogError::FileLost { path, version }),
            }
        }
        Ok(())
    }

    /// A file into which files of several commits were merged goes or stays as a whole.
    fn check_merged<'a>(&self, active: impl Iterator<Item = &'a str>, plan: &RewindPlan) -> Result<(), StoreError> {
        let to = plan.rewind.to;
        for path in active.filter(|path| void_version(path, plan).is_some()) {
            let merged = paths::merged_versions(path, &plan.after.start.log_id);
            if let Some((first, last)) = merged.filter(|(first, _)| *first <= to) {
                return Err(StoreError::from(DeltaError::Contradiction {
                    root: self.root.clone(),
                    problem: format!(
                        "{path} holds rows of the versions {first} to {last}, which were merged, and cannot be taken apart: go \
                         back to version {last} or a later one, or to one before {first}"
                    ),
                }));
            }
        }
        Ok(())
    }

    async fn new_version(
        &self,
        head: Option<&Head>,
        decided: &Decided<'_>,
        writer: &str,
    ) -> Result<NewVersion, DeltaError> {
        let columns = self.columns().await?;
        let mut new = begin(&self.root, &self.log, head, &columns)?;
        new.writer(writer, i64::try_from(decided.version).unwrap_or(i64::MAX));
        for file in &decided.written.files {
            let noted = self.noted.borrow().get(&file.path).cloned();
            new.add(new_file(&self.root, self.store(), file, noted, &columns).await?);
        }
        Ok(new)
    }
}

/// Begins a version that adds rows with these columns: with what the table needs first.
///
/// # Errors
/// When the columns do not fit, or this program does not know what the table needs.
pub fn begin(root: &str, log: &DeltaLog, head: Option<&Head>, columns: &Columns) -> Result<NewVersion, DeltaError> {
    let partition_by = serde_json::to_string(columns.partition_by()).unwrap_or_default();
    let mut new = NewVersion::of("WRITE", json!({"mode": "Append", "partitionBy": partition_by}));
    let Some(head) = head else {
        new.protocol(&Protocol::of_new_table(columns.has_local_times()));
        new.new_table(columns.schema_string(), columns.partition_by());
        return Ok(new);
    };
    log.check_writable(head)?;
    if let Some(schema_string) = merged(root, head, columns)? {
        new.metadata(&crate::delta::Metadata { schema_string, ..head.metadata.clone() });
    }
    Ok(new)
}

/// The schema that a table needs, if columns have to be added.
fn merged(root: &str, head: &Head, columns: &Columns) -> Result<Option<String>, DeltaError> {
    let misfit = |misfit| DeltaError::Columns { root: root.to_owned(), misfit };
    let merged = columns.merged_into(&head.metadata).map_err(misfit)?;
    if merged.is_some() && columns.has_local_times() && !head.protocol.allows_local_times() {
        return Err(misfit(Misfit::LocalTimes));
    }
    Ok(merged)
}

/// What the log is to say of a file. `noted`: what is known of its columns.
///
/// # Errors
/// When the file is gone or damaged, or lies in other directories than those of the columns.
pub async fn new_file(
    root: &str,
    store: &SharedStore,
    file: &FileCommit,
    noted: Option<String>,
    columns: &Columns,
) -> Result<NewFile, DeltaError> {
    let contradiction = |problem| DeltaError::Contradiction { root: root.to_owned(), problem };
    let statistics = match noted {
        Some(noted) => noted,
        None => {
            let gone = || contradiction(format!("{} is gone: was it removed by a VACUUM?", file.path));
            footer::statistics_of(store, &file.path).await?.ok_or_else(gone)?
        }
    };
    let partition_values = partition::values(&file.path, columns).map_err(contradiction)?;
    Ok(NewFile { path: file.path.clone(), bytes: file.bytes, partition_values, statistics })
}

#[async_trait(?Send)]
impl Output for DeltaTable {
    fn root(&self) -> &str {
        &self.root
    }

    fn files(&self) -> Option<&SharedStore> {
        Some(self.store())
    }

    fn as_delta(&self) -> Option<&DeltaTable> {
        Some(self)
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.beside.probe().await
    }

    async fn check_kind(&self) -> Result<(), StoreError> {
        kind::refuse_files(self.store()).await
    }

    async fn check_columns(&self, columns: &Columns) -> Result<(), StoreError> {
        *self.checked.borrow_mut() = Some(columns.clone());
        let head = self.head().await?;
        if let Some(head) = &head {
            self.log.check_writable(head)?;
            merged(&self.root, head, columns)?;
        }
        *self.head.borrow_mut() = head;
        Ok(())
    }

    async fn describe(&self, columns: &Columns) -> Result<(), StoreError> {
        let mut bytes = serde_json::to_vec(columns).expect("names and types are always JSON");
        bytes.push(b'\n');
        if self.store().get(paths::DELTA_COLUMNS).await?.as_deref() != Some(bytes.as_slice()) {
            self.store().replace(paths::DELTA_COLUMNS, bytes.into()).await?;
        }
        *self.columns.borrow_mut() = Some(columns.clone());
        Ok(())
    }

    fn note(&self, path: &str, statistics: String) {
        let mut noted = self.noted.borrow_mut();
        // Those of attempts that were given up.
        if noted.len() >= NOTED_MAX {
            noted.clear();
        }
        noted.insert(path.to_owned(), statistics);
    }

    async fn listed(&self) -> Result<Option<Listed>, StoreError> {
        let Some(head) = self.log.read().await? else { return Ok(Some(Listed::default())) };
        let (active, replaced) = head.paths(&self.root)?;
        Ok(Some(Listed { active, replaced }))
    }

    async fn is_empty(&self) -> Result<bool, StoreError> {
        self.beside.is_empty().await
    }

    async fn owner(&self) -> Result<Option<Owned>, StoreError> {
        self.beside.owner().await
    }

    fn check_place(&self) -> Result<(), StoreError> {
        self.beside.check_place()
    }

    async fn claim(&self, us: &Owner, take_over: bool) -> Result<Claim, StoreError> {
        self.beside.claim(us, take_over).await
    }

    async fn is_still_ours(&self, claim: u64) -> Result<bool, StoreError> {
        self.beside.is_still_ours(claim).await
    }

    async fn settle(&self, written: &OutputCommit) -> Result<(), StoreError> {
        self.beside.settle(written).await
    }

    async fn holds(&self, written: &OutputCommit, is_owned: bool) -> Result<bool, StoreError> {
        if !is_owned {
            return Ok(false);
        }
        let mut is_there = true;
        for file in &written.files {
            is_there &= self.store().length(&file.path).await? == Some(file.bytes);
        }
        if is_there {
            return Ok(true);
        }
        // Published, and replaced by another writer since.
        let Some(head) = self.log.read().await? else { return Ok(false) };
        let paths: BTreeSet<_> = written.files.iter().map(|file| file.path.clone()).collect();
        Ok(head.known(&self.root, &paths)?.len() == paths.len())
    }

    async fn publish(&self, decided: Decided<'_>) -> Result<(), LogError> {
        step(&*self.faults, Step::Publish, self.commit(decided)).await
    }

    async fn tell(&self, progress: &Progress) -> Result<(), StoreError> {
        self.beside.tell(progress).await
    }

    async fn sweep(&self, sweep: Sweep<'_>) -> Result<(), LogError> {
        self.beside.sweep(sweep).await
    }

    async fn check_rewind(&self, plan: &RewindPlan) -> Result<(), StoreError> {
        let Some(head) = self.log.read().await? else { return Ok(()) };
        let (active, replaced) = head.paths(&self.root)?;
        let was_void =
            |version: &u64| plan.before.rewinds.iter().any(|before| (before.to + 1..before.version).contains(version));
        let is_void = |path: &&String| void_version(path, plan).is_some_and(|version| !was_void(&version));
        self.check_merged(active.iter().map(String::as_str), plan)?;
        let is_taken_back = |path: &&String| {
            void_version(path, plan).is_some() && paths::merged_versions(path, &plan.after.start.log_id).is_some()
        };
        let merged: Vec<_> = active.iter().filter(is_taken_back).collect();
        let is_in_merged = |path: &&String| merged.iter().any(|merged| paths::is_merged_into(path, merged));
        if let Some(path) = replaced.iter().filter(is_void).find(|path| !is_in_merged(path)) {
            return Err(StoreError::from(DeltaError::Contradiction {
                root: self.root.clone(),
                problem: format!(
                    "another writer has put the rows of {path} into other files, so they cannot be taken back by themselves: \
                     RESTORE the table to a version before that, or go back to a version of the job after it"
                ),
            }));
        }
        if head.metadata.is_append_only() && active.iter().any(|path| void_version(path, plan).is_some()) {
            let what = "a rewind takes some back".to_owned();
            return Err(DeltaError::AppendOnly { root: self.root.clone(), what }.into());
        }
        Ok(())
    }

    /// The version that takes void files from the readers is written even if there are none: whoever slept with a void commit
    /// finds that he is late, looks whether his files are there, and does not find them.
    async fn set_aside(&self, plan: &RewindPlan) -> Result<(), LogError> {
        lower_progress(self.store(), plan).await?;
        let mut head = self.log.read().await.map_err(StoreError::from)?;
        let (active, had) = match &head {
            Some(head) => head.paths(&self.root).map_err(StoreError::from)?,
            None => Default::default(),
        };
        for entry in self.store().list("").await? {
            let is_known = active.contains(&entry.path) || had.contains(&entry.path);
            if void_version(&entry.path, plan).is_some() && !is_known {
                self.store().delete(&entry.path).await?;
            }
        }
        *self.head.borrow_mut() = None;
        let log_id = &plan.after.start.log_id;
        for _ in 0..ATTEMPTS_MAX {
            let Some(now) = &head else { return Ok(()) };
            let mut new = NewVersion::of("DELETE", json!({"predicate": "[]", "rewindTo": plan.rewind.to.to_string()}));
            new.writer(&format!("{log_id}/rewind"), i64::try_from(plan.version).unwrap_or(i64::MAX));
            let active = now.active_files(&self.root).map_err(StoreError::from)?;
            // Of an owner that slept while it merged.
            self.check_merged(active.iter().map(|file| file.path.as_str()), plan)?;
            for file in active {
                if void_version(&file.path, plan).is_some() {
                    new.remove(&file);
                }
            }
            if self.log.append(&mut head, new.bytes()).await.map_err(StoreError::from)? == Appended::Yes {
                return Ok(());
            }
        }
        Err(StoreError::from(DeltaError::Contended { root: self.root.clone() }).into())
    }
}

/// The version of the commit that wrote a file, if a rewind makes it void.
fn void_version(path: &str, plan: &RewindPlan) -> Option<u64> {
    let version = paths::final_version(path, &plan.after.start.log_id)?;
    (plan.rewind.to + 1..plan.version).contains(&version).then_some(version)
}
