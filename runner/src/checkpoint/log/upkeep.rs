//! Upkeep of the log: bases, and removing what nothing needs any more.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::checkpoint::decide;
use crate::checkpoint::job_state::JobState;
use crate::checkpoint::log::{JobLog, LogError, read};
use crate::checkpoint::output::Sweep;
use crate::checkpoint::record::{self, BaseReference, Record};
use crate::faults::{Step, step};
use crate::storage::checksum::checksum;
use crate::storage::{Created, paths};

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
        let faults = self.faults();
        let version = self.state.version;
        let bytes = record::encode(version, &self.state);
        let path = paths::base(version);
        let created =
            step(&*faults, Step::Base, async { self.access.store.create(&path, Bytes::from(bytes.clone())).await })
                .await?;
        if created == Created::AlreadyExists && self.access.store.get(&path).await?.as_deref() != Some(&bytes[..]) {
            // Left by another version of the program, or damaged: the next version gets a base.
            return Ok(());
        }
        let reference =
            BaseReference { epoch: self.state.epoch(), version, bytes: bytes.len() as u64, xxh3: checksum(&bytes) };
        step(&*faults, Step::BaseRecord, self.append(&Record::Base(reference))).await?;
        self.newest_base = Some(version);
        Ok(())
    }

    /// Removes bases, records and state objects that no start needs, while keeping two bases.
    async fn collect_garbage(&mut self) -> Result<(), LogError> {
        let faults = self.faults();
        let bases = read::versions(&self.access.store, paths::BASE).await?;
        let log = read::versions(&self.access.store, paths::LOG).await?;
        let [.., older, newer] = bases[..] else { return Ok(()) };
        let Some(kept) = self.kept_objects(older, newer).await? else {
            // One of the two cannot be read: keep everything until two good ones are there.
            return Ok(());
        };
        let (old_bases, old_records) = decide::garbage_versions(&bases, &log);
        step(&*faults, Step::CollectLog, async {
            for version in old_bases {
                self.access.store.delete(&paths::base(version)).await?;
            }
            for version in old_records {
                self.access.store.delete(&paths::log_record(version)).await?;
            }
            Ok::<_, LogError>(())
        })
        .await?;
        let mut listed = self.access.store.list(paths::STATE).await?;
        listed.extend(self.access.store.list(paths::REFERENCE).await?);
        step(&*faults, Step::CollectState, async {
            for path in decide::garbage_state(&listed, &kept, newer) {
                self.access.store.delete(&path).await?;
            }
            Ok(())
        })
        .await
    }

    /// State objects, and those of references, that the older of the two kept bases, or a record after it, names.
    async fn kept_objects(&self, older: u64, newer: u64) -> Result<Option<BTreeSet<String>>, LogError> {
        let mut kept: BTreeSet<String> = self.state.referenced.clone();
        kept.extend(self.state.live_objects().chain(self.state.live_references()).map(str::to_owned));
        for version in [older, newer] {
            let Some(bytes) = self.access.store.get(&paths::base(version)).await? else { return Ok(None) };
            let Ok(base) = record::decode::<JobState>(version, &bytes) else { return Ok(None) };
            kept.extend(base.live_objects().chain(base.live_references()).map(str::to_owned));
            kept.extend(base.referenced);
        }
        Ok(Some(kept))
    }

    /// Removes what owners before left in the outputs, once `published` covers everything it could be needed for.
    ///
    /// # Errors
    /// When an output cannot be looked at.
    pub async fn collect_staging(&mut self) -> Result<(), LogError> {
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
