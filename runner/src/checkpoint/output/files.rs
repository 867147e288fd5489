//! Outputs that are made of files: staged where no reader looks, and linked to their final names.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::{self, StreamExt, TryStreamExt};

use crate::checkpoint::decide::{self, PublishDecision};
use crate::checkpoint::log::LogError;
use crate::checkpoint::output::{Decided, Output, SharedOutput, Sweep, kind};
use crate::checkpoint::owner::{self, Claim, Owned, Owner};
use crate::checkpoint::progress::{Progress, progress_beside, read_progress, write_progress};
use crate::checkpoint::record::{FileCommit, OutputCommit};
use crate::checkpoint::rewind::RewindPlan;
use crate::faults::{Faults, Step, step};
use crate::storage::location::Location;
use crate::storage::paths::{self, format1};
use crate::storage::{Published, SharedStore, StagedFacts, StoreError, move_aside, places};

/// A table, with its bookkeeping beside it.
pub struct Files {
    store: SharedStore,
    faults: Arc<dyn Faults>,
}

/// A file of an output that a rewind takes from the readers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VoidFile {
    /// Version of the commit that wrote it.
    pub version: u64,
    /// Path below the output's root.
    pub path: String,
    /// Length.
    pub bytes: u64,
}

impl Files {
    /// The output that lies in a store.
    pub(super) fn over(store: SharedStore, faults: Arc<dyn Faults>) -> Self {
        Self { store, faults }
    }

    /// The output that lies in a store.
    pub fn shared(store: SharedStore, faults: Arc<dyn Faults>) -> SharedOutput {
        Rc::new(Self { store, faults })
    }

    /// Opens the output at a root.
    ///
    /// # Errors
    /// When the program cannot open such a place.
    pub fn open(root: &str, faults: &Arc<dyn Faults>) -> Result<SharedOutput, StoreError> {
        Ok(Self::shared(Location::of_root(root)?.open_table(faults)?, Arc::clone(faults)))
    }
}

#[async_trait(?Send)]
impl Output for Files {
    fn root(&self) -> &str {
        self.store.root()
    }

    fn files(&self) -> Option<&SharedStore> {
        Some(&self.store)
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.store.probe().await
    }

    async fn check_kind(&self) -> Result<(), StoreError> {
        kind::refuse_delta(&self.store).await
    }

    async fn is_empty(&self) -> Result<bool, StoreError> {
        Ok(self.store.list("").await?.is_empty())
    }

    async fn owner(&self) -> Result<Option<Owned>, StoreError> {
        owner::newest(&self.store).await
    }

    fn check_place(&self) -> Result<(), StoreError> {
        refuse_nested(self.root())
    }

    async fn claim(&self, us: &Owner, take_over: bool) -> Result<Claim, StoreError> {
        let claim = owner::claim(&self.store, us, take_over);
        let claim = step(&*self.faults, Step::Claim, claim).await?;
        if let (Claim::Ours { number, before }, Err(error)) = (&claim, self.check_place()) {
            // Nothing is staged there yet: the claim is given back.
            if before.is_none() && self.is_empty().await? {
                self.store.delete(&paths::owner(*number)).await?;
            }
            return Err(error);
        }
        Ok(claim)
    }

    async fn is_still_ours(&self, claim: u64) -> Result<bool, StoreError> {
        owner::is_still_ours(&self.store, claim).await
    }

    async fn settle(&self, written: &OutputCommit) -> Result<(), StoreError> {
        let stages: Vec<_> = written.files.iter().map(|file| file.stage.clone()).collect();
        self.store.sync_entries(&stages).await
    }

    async fn holds(&self, written: &OutputCommit, is_owned: bool) -> Result<bool, StoreError> {
        for file in &written.files {
            // Format 1 did not claim its tables.
            if !is_owned && !format1::is_stage(&file.stage) {
                return Ok(false);
            }
            let is_there = self.store.length(&file.path).await? == Some(file.bytes)
                || self.store.length(&file.stage).await? == Some(file.bytes);
            if !is_there {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn publish(&self, decided: Decided<'_>) -> Result<(), LogError> {
        let files = &decided.written.files;
        let published = stream::iter(files).map(|file| {
            let published = publish_file(&self.store, decided.version, file, decided.is_ours);
            step(&*self.faults, Step::Publish, published)
        });
        published.buffer_unordered(self.store.side_by_side()).try_collect::<()>().await?;
        let finals: Vec<_> = files.iter().map(|file| file.path.clone()).collect();
        Ok(step(&*self.faults, Step::SyncPublished, self.store.sync_entries(&finals)).await?)
    }

    async fn release(&self, written: &OutputCommit) -> Result<(), StoreError> {
        if self.store.side_by_side() > 1 && !written.files.is_empty() {
            let stages: Vec<_> = written.files.iter().map(|file| file.stage.clone()).collect();
            return step(&*self.faults, Step::Unstage, self.store.delete_all(&stages)).await;
        }
        for file in &written.files {
            step(&*self.faults, Step::Unstage, self.store.delete(&file.stage)).await?;
        }
        Ok(())
    }

    /// Unless a newer owner has told more. A process that slept may still overwrite that with less; the owner repairs it
    /// the next time it tells.
    async fn tell(&self, progress: &Progress) -> Result<(), StoreError> {
        let told = progress_beside(&self.store).await?;
        if told.as_ref() == Some(progress) {
            return Ok(());
        }
        if told.is_some_and(|told| told.log_id == progress.log_id && told.published > progress.published) {
            return Ok(());
        }
        step(&*self.faults, Step::Progress, write_progress(&self.store, progress)).await
    }

    async fn sweep(&self, sweep: Sweep<'_>) -> Result<(), LogError> {
        let listed = self.store.list(paths::STAGING).await?;
        let mut garbage = decide::garbage_staging(&listed, sweep.log_id, sweep.epoch, sweep.pending);
        if sweep.is_owned {
            garbage.extend(decide::garbage_of_others(&listed, sweep.log_id));
        }
        step(&*self.faults, Step::CollectStaging, async {
            self.store.delete_all(&garbage).await?;
            self.store.delete_left_over().await?;
            self.store.delete_empty_folders(paths::STAGING).await
        })
        .await?;
        adopt_format1(&self.store, sweep.pending).await
    }

    async fn set_aside(&self, plan: &RewindPlan) -> Result<(), LogError> {
        // What readers are told goes down before rows vanish, and nobody who slept publishes once the stages are gone.
        lower_progress(&self.store, plan).await?;
        self.store.begin_folders(paths::COMPACTION, None).await?;
        unstage(&self.store, plan).await?;
        let files: Vec<_> = void_files(&self.store, plan).await?.into_iter().map(|file| file.path).collect();
        let aside = |path: &String| paths::rewound_file(&plan.after.start.log_id, plan.version, path);
        Ok(move_aside(&self.store, &files, aside).await?)
    }
}

/// Gives a staged file its final name. `is_known`: this process has just written the staged file, under a name that nobody
/// else has; any other is read before readers see it.
async fn publish_file(store: &SharedStore, version: u64, file: &FileCommit, is_known: bool) -> Result<(), LogError> {
    let shown = |path: &str| format!("{}/{path}", store.root());
    if !is_known
        && let Some(staged) = store.facts(&file.stage).await?
        && !is_as_written(&staged, file)
        && !is_there(store, file).await?
    {
        return Err(LogError::StageChanged { path: shown(&file.path), version });
    }
    let answer = store.publish(&file.stage, &file.path).await?;
    if answer == Published::Yes {
        return Ok(());
    }
    let found = store.facts(&file.path).await?;
    match decide::publish(&file.xxh3, found.as_ref().map(|found| found.xxh3.as_str())) {
        PublishDecision::Done => Ok(()),
        PublishDecision::StopOccupied => Err(LogError::Occupied { path: shown(&file.path), version }),
        PublishDecision::StopLost => Err(LogError::FileLost { path: shown(&file.path), version }),
    }
}

pub(super) fn is_as_written(found: &StagedFacts, file: &FileCommit) -> bool {
    found.bytes == file.bytes && found.xxh3 == file.xxh3
}

/// Whether a file has its final name already, whatever became of the staged one.
async fn is_there(store: &SharedStore, file: &FileCommit) -> Result<bool, StoreError> {
    Ok(store.facts(&file.path).await?.is_some_and(|found| is_as_written(&found, file)))
}

/// Readers of the outer table would read the inner one's rows as well.
fn refuse_nested(root: &str) -> Result<(), StoreError> {
    let Some(folder) = Location::of_root(root)?.folder().map(ToOwned::to_owned) else { return Ok(()) };
    match places::nested(&folder) {
        Some(places::Nested::In(outer)) => Err(StoreError::Unsuitable(format!(
            "the table {} would lie in the table {}: give each table a folder of its own, none inside another",
            folder.display(),
            outer.display()
        ))),
        Some(places::Nested::Around(inner)) => Err(StoreError::Unsuitable(format!(
            "the table {} lies in the folder of the table {}: give each table a folder of its own, none inside another",
            inner.display(),
            folder.display()
        ))),
        None => Ok(()),
    }
}

/// Moves what format 1 kept in a table's folder beside it, and removes what nothing needs any more: once everything that
/// was pending there is published, the folder holds the table and nothing else.
///
/// # Errors
/// When the output cannot be read or written.
pub async fn adopt_format1(store: &SharedStore, pending: &BTreeSet<String>) -> Result<(), LogError> {
    let staged = store.list(format1::STAGING).await?;
    let garbage = decide::garbage_format1(&staged, pending);
    store.delete_all(&garbage).await?;
    if garbage.len() == staged.len() {
        store.delete_empty_folders(format1::STAGING).await?;
    }
    for entry in store.list(format1::REWOUND).await? {
        let aside = format!("{}{}", paths::rewound(), &entry.path[format1::REWOUND.len()..]);
        if store.publish(&entry.path, &aside).await? == Published::AlreadyExists
            && store.facts(&entry.path).await? != store.facts(&aside).await?
        {
            continue;
        }
        store.sync_entries(&[aside]).await?;
        store.delete(&entry.path).await?;
    }
    store.delete_empty_folders(format1::REWOUND).await?;
    // Readers look there as long as nothing stands beside the table.
    if store.length(format1::PROGRESS).await?.is_some() && store.length(paths::PROGRESS).await?.is_some() {
        store.delete(format1::PROGRESS).await?;
    }
    Ok(())
}

/// Files of an output that the void versions wrote, by their names.
///
/// # Errors
/// When the output cannot be listed.
pub async fn void_files(store: &SharedStore, plan: &RewindPlan) -> Result<Vec<VoidFile>, StoreError> {
    let log_id = &plan.after.start.log_id;
    let is_void = |version: &u64| (plan.rewind.to + 1..plan.version).contains(version);
    let listed = store.list("").await?.into_iter();
    let files = listed.filter_map(|entry| {
        let version = paths::final_version(&entry.path, log_id).filter(is_void)?;
        Some(VoidFile { version, path: entry.path, bytes: entry.bytes })
    });
    let mut files: Vec<_> = files.collect();
    files.sort();
    Ok(files)
}

pub(super) async fn lower_progress(store: &SharedStore, plan: &RewindPlan) -> Result<(), LogError> {
    let log_id = &plan.after.start.log_id;
    let told = read_progress(store).await?;
    if told.is_none_or(|told| told.log_id != *log_id || told.published >= plan.version) {
        return Ok(());
    }
    let watermark = plan.visible_watermark;
    let known = plan.after.outputs.values().filter(|known| known.root == store.root());
    let complete_until = known.filter_map(|known| known.complete_until).min().min(watermark);
    let progress =
        Progress { log_id: log_id.clone(), published: plan.version, watermark, complete_until, finished: Vec::new() };
    write_progress(store, &progress).await?;
    // A reader that is older than this program must not read what is void now.
    Ok(store.delete(format1::PROGRESS).await?)
}

/// Staged files of every owner before, except those that the next start has to publish.
async fn unstage(store: &SharedStore, plan: &RewindPlan) -> Result<(), LogError> {
    let pending = plan.after.pending_stages();
    let listed = store.list(paths::STAGING).await?;
    let log_id = &plan.after.start.log_id;
    let mut garbage = decide::garbage_staging(&listed, log_id, plan.rewind.own.epoch, &pending);
    if owner::newest(store).await?.is_none_or(|owned| owned.owner.log_id == *log_id) {
        garbage.extend(decide::garbage_format1(&store.list(format1::STAGING).await?, &pending));
    }
    store.delete_all(&garbage).await?;
    Ok(store.sync_entries(&garbage).await?)
}
