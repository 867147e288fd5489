//! Publishing: what is decided becomes visible, in the order of the log, and is told to those who wait for it.

use std::collections::BTreeMap;

use crate::checkpoint::decide::{self, BaseCheck};
use crate::checkpoint::log::{JobLog, LogError};
use crate::checkpoint::output::Decided;
use crate::checkpoint::progress::Progress;
use crate::checkpoint::record::{self, OutputCommit, Record};
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
            let published = self.publish(version, &outputs).await?;
            self.unreleased.insert(version, published);
        }
        self.published = self.state.version;
        self.staged_here.clear();
        self.write_progress().await
    }

    /// Publishes what a commit wrote; the answer is what may be released then, with its root.
    pub(super) async fn publish(
        &mut self,
        version: u64,
        outputs: &BTreeMap<String, OutputCommit>,
    ) -> Result<Vec<(String, OutputCommit)>, LogError> {
        let is_ours = self.staged_here.contains(&version);
        let mut published = Vec::new();
        for (name, written) in outputs.iter().filter(|(_, written)| written.is_to_publish()) {
            let root = self.place_of(version, name, written).await?;
            let (output, log_id) = (self.output(&root)?, self.state.start.log_id.as_str());
            output.publish(Decided { log_id, output: name, version, written, is_ours }).await?;
            published.push((root, written.clone()));
        }
        Ok(published)
    }

    /// Where a decided commit is to become visible: where the output is to lie now, if what it wrote is there (a table that
    /// was moved), else where it was decided (a path that was changed in between). Only in an output of ours.
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

    /// Looks whether what this process has staged beside a table may still become visible: nobody has taken over the log, even
    /// one whose records were removed meanwhile, or the table.
    ///
    /// # Errors
    /// As [`JobLog::check_owner`]; [`LogError::OutputTaken`] when the table is another log's now.
    pub async fn check_may_publish(&mut self, root: &str) -> Result<(), LogError> {
        self.check_owner().await?;
        let next = self.state.version + 1;
        if decide::base_check(next, &self.slots().bases().await?) == BaseCheck::Withdraw {
            return self.lost_slot(next).await;
        }
        if self.owns(root).await? { Ok(()) } else { Err(self.taken(root).await) }
    }

    /// Whether an output is ours and has everything that a commit wrote, published or not.
    async fn holds(&mut self, root: &str, written: &OutputCommit) -> Result<bool, LogError> {
        let is_owned = self.owns(root).await?;
        Ok(self.output(root)?.holds(written, is_owned).await?)
    }

    /// Outputs with their roots, without a dead letter table that has no dead letter yet.
    fn existing_outputs(&self) -> Vec<(String, String)> {
        let dead_letters = self.state.plan.dead_letters.as_ref();
        let empty = |name: &String| self.state.outputs.get(name).is_none_or(|output| output.last_file == 0);
        let exists = |name: &String| dead_letters != Some(name) || !empty(name);
        self.places.iter().filter(|(name, _)| exists(name)).map(|(name, root)| (name.clone(), root.clone())).collect()
    }

    /// Tells every output what is published. What a process that slept has told since is repaired by it, so an idle job
    /// does so now and then.
    ///
    /// # Errors
    /// When an output cannot be read or written.
    pub async fn write_progress(&mut self) -> Result<(), LogError> {
        for (name, root) in self.existing_outputs() {
            let progress = Progress {
                log_id: self.state.start.log_id.clone(),
                published: self.published,
                watermark: self.state.watermark,
                complete_until: self.state.outputs.get(&name).and_then(|output| output.complete_until),
                finished: Vec::new(),
            };
            self.output(&root)?.tell(&progress).await?;
        }
        Ok(())
    }

    /// Notes in the log that everything is published, and releases what that needed. A busy job does not need it: its next
    /// commit says the same.
    ///
    /// # Errors
    /// As [`JobLog::commit`].
    pub async fn note_published(&mut self) -> Result<(), LogError> {
        if self.state.pending.is_empty() && self.unreleased.is_empty() {
            return Ok(());
        }
        let upto = self.published;
        let epoch = self.state.epoch();
        let faults = self.faults();
        let record = Record::Published(record::Published { epoch, upto });
        step(&*faults, Step::Published, self.append(&record)).await?;
        self.release(upto).await
    }

    pub(super) async fn release(&mut self, covered: u64) -> Result<(), LogError> {
        let later = self.unreleased.split_off(&(covered + 1));
        for (root, written) in std::mem::replace(&mut self.unreleased, later).into_values().flatten() {
            self.output(&root)?.release(&written).await?;
        }
        Ok(())
    }
}
