//! Publishing: what is decided becomes visible, in the order of the log, and is told to those who wait for it.

use std::collections::BTreeMap;

use crate::checkpoint::decide::{self, PublishDecision};
use crate::checkpoint::log::{JobLog, LogError};
use crate::checkpoint::paths;
use crate::checkpoint::progress::{Progress, progress_beside, write_progress};
use crate::checkpoint::record::{self, FileCommit, OutputCommit, Record};
use crate::checkpoint::store::{Published, SharedStore, StagedFacts, StoreError};
use crate::faults::{Guard, Step, step};

impl JobLog {
    /// Makes every decided commit visible, in the order of the log, and tells it beside the tables.
    ///
    /// # Errors
    /// [`LogError::Occupied`], [`LogError::StageChanged`] or [`LogError::FileLost`] when somebody touched the output, and
    /// [`LogError::OutputTaken`] when it is another log's now; what was visible stays so.
    pub async fn publish_pending(&mut self) -> Result<(), LogError> {
        let pending: Vec<_> =
            self.state.pending.range(self.published + 1..).map(|(v, outputs)| (*v, outputs.clone())).collect();
        for (version, outputs) in pending {
            let staged = self.publish_files(version, &outputs).await?;
            self.staged.insert(version, staged);
        }
        self.published = self.state.version;
        self.staged_here.clear();
        self.write_progress().await
    }

    /// Publishes the files of a commit; the answer is what may be unstaged then, with its root.
    pub(super) async fn publish_files(
        &mut self,
        version: u64,
        outputs: &BTreeMap<String, OutputCommit>,
    ) -> Result<Vec<(String, String)>, LogError> {
        let faults = self.faults();
        let is_known = self.staged_here.contains(&version);
        let mut staged = Vec::new();
        for (name, output) in outputs.iter().filter(|(_, output)| !output.files.is_empty()) {
            let root = self.place_of(version, name, output).await?;
            let store = self.output(&root)?;
            for file in &output.files {
                step(&*faults, Step::Publish, publish_file(&store, version, file, is_known)).await?;
            }
            let finals: Vec<_> = output.files.iter().map(|file| file.path.clone()).collect();
            step(&*faults, Step::SyncPublished, async { store.sync_entries(&finals).await }).await?;
            staged.extend(output.files.iter().map(|file| (root.clone(), file.stage.clone())));
        }
        Ok(staged)
    }

    /// Where the files of a decided commit are to become visible: where the output is to lie now, if they are there (a
    /// table that was moved), else where they were decided (a path that was changed in between). Only in a table of ours.
    async fn place_of(&mut self, version: u64, name: &str, output: &OutputCommit) -> Result<String, LogError> {
        let place = self.places.get(name).cloned().unwrap_or_else(|| output.root.clone());
        if place == output.root {
            if self.access.faults.guard(Guard::Claim) && !self.owns(&place).await? {
                return Err(self.taken(&place).await);
            }
            return Ok(place);
        }
        if self.holds(&place, output).await? {
            return Ok(place);
        }
        // Nothing is asked of the old place that it cannot answer.
        if matches!(self.holds(&output.root, output).await, Ok(true)) {
            return Ok(output.root.clone());
        }
        let path = output.files.first().map_or_else(String::new, |file| format!("{place}/{}", file.path));
        Err(LogError::FileLost { path, version })
    }

    /// Whether a table is ours and has every file of a commit, published or staged.
    async fn holds(&mut self, root: &str, output: &OutputCommit) -> Result<bool, LogError> {
        let is_ours = self.owns(root).await?;
        let store = self.output(root)?;
        for file in &output.files {
            // Format 1 did not claim its tables.
            if !is_ours && !paths::format1::is_stage(&file.stage) {
                return Ok(false);
            }
            let is_there = store.length(&file.path).await? == Some(file.bytes)
                || store.length(&file.stage).await? == Some(file.bytes);
            if !is_there {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Outputs with their roots, without a dead letter table that has no dead letter yet.
    fn existing_outputs(&self) -> Vec<(String, String)> {
        let dead_letters = self.state.plan.dead_letters.as_ref();
        let empty = |name: &String| self.state.outputs.get(name).is_none_or(|output| output.last_file == 0);
        let exists = |name: &String| dead_letters != Some(name) || !empty(name);
        self.places.iter().filter(|(name, _)| exists(name)).map(|(name, root)| (name.clone(), root.clone())).collect()
    }

    /// Tells every output what is published, unless a newer owner has told more. A process that slept may still overwrite
    /// that with less; the owner repairs it the next time it calls this, so an idle job does so now and then.
    ///
    /// # Errors
    /// When an output cannot be read or written.
    pub async fn write_progress(&mut self) -> Result<(), LogError> {
        let faults = self.faults();
        for (name, root) in self.existing_outputs() {
            let progress = Progress {
                log_id: self.state.start.log_id.clone(),
                published: self.published,
                watermark: self.state.watermark,
                complete_until: self.state.outputs.get(&name).and_then(|output| output.complete_until),
                finished: Vec::new(),
            };
            let store = self.output(&root)?;
            let told = progress_beside(&store).await?;
            if told.as_ref() == Some(&progress) {
                continue;
            }
            if told.is_some_and(|told| told.log_id == progress.log_id && told.published > progress.published) {
                continue;
            }
            step(&*faults, Step::Progress, async { write_progress(&store, &progress).await }).await?;
        }
        Ok(())
    }

    /// Notes in the log that everything is published, and removes staged files. A busy job does not need it: its next
    /// commit says the same.
    ///
    /// # Errors
    /// As [`JobLog::commit`].
    pub async fn note_published(&mut self) -> Result<(), LogError> {
        if self.state.pending.is_empty() && self.staged.is_empty() {
            return Ok(());
        }
        let upto = self.published;
        let epoch = self.state.epoch();
        let faults = self.faults();
        let record = Record::Published(record::Published { epoch, upto });
        step(&*faults, Step::Published, self.append(&record)).await?;
        self.unstage(upto).await
    }

    pub(super) async fn unstage(&mut self, covered: u64) -> Result<(), LogError> {
        let faults = self.faults();
        let later = self.staged.split_off(&(covered + 1));
        for (root, stage) in std::mem::replace(&mut self.staged, later).into_values().flatten() {
            let store = self.output(&root)?;
            step(&*faults, Step::Unstage, async { store.delete(&stage).await }).await?;
        }
        Ok(())
    }

    /// Removes staged files (root and paths) of an attempt that was certainly not decided.
    pub async fn abandon(&mut self, staged: &[(String, Vec<String>)]) {
        for (root, files) in staged {
            let Ok(store) = self.output(root) else { continue };
            for stage in files {
                // What stays is removed when the epoch is superseded.
                let _ = store.delete(stage).await;
            }
        }
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

fn is_as_written(found: &StagedFacts, file: &FileCommit) -> bool {
    found.bytes == file.bytes && found.xxh3 == file.xxh3
}

/// Whether a file has its final name already, whatever became of the staged one.
async fn is_there(store: &SharedStore, file: &FileCommit) -> Result<bool, StoreError> {
    Ok(store.facts(&file.path).await?.is_some_and(|found| is_as_written(&found, file)))
}
