//! Upkeep of the log: bases, and removing what nothing needs any more.

use std::collections::BTreeSet;

use crate::checkpoint::decide;
use crate::checkpoint::job_state::JobState;
use crate::checkpoint::log::{JobLog, LogError};
use crate::checkpoint::output::Sweep;
use crate::checkpoint::record::{BaseReference, Record};
use crate::checkpoint::slot_log::Kept;
use crate::faults::{Step, step};
use crate::storage::checksum::checksum;
use crate::storage::paths;

impl JobLog {
    /// Writes a base if one is due, and then removes what it makes superfluous.
    ///
    /// # Errors
    /// As [`JobLog::commit`]; a base that could not be written is tried again after the next commit.
    pub async fn maintain(&mut self, records_per_base: u64) -> Result<(), LogError> {
        if !decide::base_is_due(self.state.version, self.newest_base, records_per_base) {
            return Ok(());
        }
        self.note_published().await?;
        self.write_base().await?;
        self.collect_garbage().await
    }

    async fn write_base(&mut self) -> Result<(), LogError> {
        let (faults, slots) = (self.faults(), self.slots());
        let version = self.state.version;
        // Left by another version of the program, or damaged: the next version gets a base.
        let Some(bytes) = step(&*faults, Step::Base, slots.write_base(&self.state)).await? else { return Ok(()) };
        let reference =
            BaseReference { epoch: self.state.epoch(), version, bytes: bytes.len() as u64, xxh3: checksum(&bytes) };
        step(&*faults, Step::BaseRecord, self.append(&Record::Base(reference))).await?;
        self.newest_base = Some(version);
        Ok(())
    }

    /// Removes bases, records and state objects that no start needs, while keeping two bases.
    async fn collect_garbage(&mut self) -> Result<(), LogError> {
        let (faults, slots) = (self.faults(), self.slots());
        let Some(kept) = slots.kept().await? else { return Ok(()) };
        step(&*faults, Step::CollectLog, slots.collect(&kept)).await?;
        let (objects, newer) = (self.kept_objects(&kept), kept.newer.version);
        let mut listed = self.access.store.list(paths::STATE).await?;
        listed.extend(self.access.store.list(paths::REFERENCE).await?);
        let garbage = decide::garbage_state(&listed, &objects, newer);
        Ok(step(&*faults, Step::CollectState, self.access.store.delete_all(&garbage)).await?)
    }

    /// State objects, and those of references, that one of the two kept bases, or a record after the older one, names.
    fn kept_objects(&self, kept: &Kept<JobState>) -> BTreeSet<String> {
        let named = |state: &JobState| -> BTreeSet<String> {
            let live = state.live_objects().chain(state.live_references()).map(str::to_owned);
            live.chain(state.referenced.iter().cloned()).collect()
        };
        [&self.state, &kept.older, &kept.newer].into_iter().flat_map(named).collect()
    }

    /// Removes what owners before left in the outputs, once `published` covers everything it could be needed for, and what
    /// killed processes left in the checkpoint.
    ///
    /// # Errors
    /// When an output cannot be looked at.
    pub async fn collect_staging(&mut self) -> Result<(), LogError> {
        self.access.store.delete_left_over().await?;
        let pending = self.state.pending_stages();
        let (log_id, epoch) = (self.state.start.log_id.clone(), self.state.epoch());
        for root in self.places.clone().into_values() {
            let is_owned = self.owns(&root).await?;
            let sweep = Sweep { log_id: &log_id, epoch, is_owned, pending: &pending };
            self.output(&root)?.sweep(sweep).await?;
        }
        Ok(())
    }
}
