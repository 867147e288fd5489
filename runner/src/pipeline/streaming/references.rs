//! The references of a running job: loaded at start, looked at now and then, taken up whole between two micro-batches.
//!
//! The commit names the version that its micro-batch used. If windows depend on a reference, the rows of that version lie in
//! the checkpoint as long as a rebuild may need them. A version that cannot be used changes nothing: the last good one stays,
//! and the status says why.

use std::io::Cursor;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::ipc::reader::StreamReader;

use crate::checkpoint::job_state::ReplayBatch;
use crate::checkpoint::record::{ReferenceObject, ReferenceVersion};
use crate::pipeline::error::{JobError, Reason};
use crate::pipeline::job_plan::ReferencePlan;
use crate::pipeline::snapshot;
use crate::pipeline::status::{ReferenceStatus, ReferenceTrouble};
use crate::pipeline::streaming::start::Session;
use crate::source::reference::{LoadedReference, ReferenceError, Seen};
use crate::storage::checksum::checksum;
use crate::storage::{Created, paths};

/// A reference as it is used.
pub(super) struct RunningReference {
    version: ReferenceVersion,
    rows: Arc<[RecordBatch]>,
    bytes: u64,
    /// The files that it was read from.
    seen: Seen,
    /// When this version was loaded, and when the files were looked at, in microseconds.
    loaded: i64,
    looked: i64,
    trouble: Option<Trouble>,
}

/// Why the files as they are now are not used.
struct Trouble {
    error: JobError,
    /// The files that could not be used: they are read again when they change. `None`: at the next look.
    seen: Option<Seen>,
}

impl RunningReference {
    fn status(&self, index_bytes: u64) -> ReferenceStatus {
        let trouble = self.trouble.as_ref().map(|Trouble { error, .. }| ReferenceTrouble {
            reason: error.reason.name().to_owned(),
            message: error.message.clone(),
            cure: error.cure.clone(),
        });
        ReferenceStatus {
            version: self.version.hash.clone(),
            rows: self.rows.iter().map(|batch| batch.num_rows() as u64).sum(),
            bytes: self.bytes + index_bytes,
            loaded: self.loaded,
            trouble,
        }
    }
}

impl Session<'_> {
    /// Loads every reference, as it is now.
    pub(super) async fn load_references(&mut self) -> Result<(), JobError> {
        for index in 0..self.settings.references.len() {
            let plan = &self.settings.references[index];
            let loaded = plan.files.load(&plan.schema, self.bytes_left(index))?;
            self.take_up(index, &loaded.rows)?;
            let running = self.running_reference(index, loaded).await?;
            tracing::info!(
                reference = plan.files.name,
                version = running.version.hash,
                bytes = running.bytes,
                "a reference is loaded"
            );
            self.references.push(running);
        }
        Ok(())
    }

    /// Looks at the files of those references whose time it is, and takes up what changed.
    pub(super) async fn look_at_references(&mut self) -> Result<(), JobError> {
        let now = self.environment.clock.now();
        for index in 0..self.references.len() {
            let interval = self.settings.references[index].reload_interval;
            if now.saturating_sub(self.references[index].looked) < interval {
                continue;
            }
            self.references[index].looked = now;
            match self.changed(index) {
                Ok(None) => {}
                Ok(Some(loaded)) => self.replace(index, loaded).await?,
                Err(trouble) => self.note_trouble(index, trouble),
            }
        }
        Ok(())
    }

    /// The versions that a micro-batch uses, for its commit.
    pub(super) fn reference_versions(&self) -> Vec<ReferenceVersion> {
        self.references.iter().map(|running| running.version.clone()).collect()
    }

    /// What the status says of them.
    pub(super) fn reference_statuses(&self) -> impl Iterator<Item = (String, ReferenceStatus)> {
        let index_bytes = |index: usize| -> u64 {
            self.flows.iter().map(|running| running.operator.reference_bytes(index) as u64).sum()
        };
        self.references
            .iter()
            .enumerate()
            .map(move |(index, running)| (running.version.name.clone(), running.status(index_bytes(index))))
    }

    /// Gives the queries the versions that a batch used which is repeated now.
    pub(super) async fn references_of(&mut self, version: u64, batch: &ReplayBatch) -> Result<(), JobError> {
        for index in 0..self.settings.references.len() {
            let plan = &self.settings.references[index];
            let used = batch.references.iter().find(|used| used.name == plan.files.name);
            let hash = used.map(|used| used.hash.as_str()).unwrap_or_default();
            if self.repeated_with.get(index).is_some_and(|known| known == hash) {
                continue;
            }
            let rows = match used {
                Some(used) => self.rows_of(version, plan, used).await?,
                // The job had no such reference then.
                None => plan.files.load(&plan.schema, self.bytes_left(index))?.rows,
            };
            self.take_up(index, &rows)?;
            self.repeated_with.resize(self.repeated_with.len().max(index + 1), String::new());
            hash.clone_into(&mut self.repeated_with[index]);
        }
        Ok(())
    }

    async fn rows_of(
        &self,
        version: u64,
        plan: &ReferencePlan,
        used: &ReferenceVersion,
    ) -> Result<Arc<[RecordBatch]>, JobError> {
        let content = match &used.object {
            Some(object) => self.log.store().get(&object.path).await?.filter(|content| is_whole(content, object)),
            None => None,
        };
        if let Some(content) = content {
            let rows = read(content).map_err(|error| lost(version, used, &error.to_string()))?;
            return plan.files.of_version(&rows, &plan.schema).map_err(|error| lost(version, used, &error.to_string()));
        }
        // No window depends on a version that was not kept: what it gives here is no state, and the files will do as they are.
        let will_do = used.object.is_none() && !plan.kept;
        match plan.files.load(&plan.schema, self.settings.memory.references) {
            Ok(loaded) if will_do || loaded.hash == used.hash => Ok(loaded.rows),
            Err(error) if will_do => Err(error.into()),
            _ => Err(lost(version, used, "it is not in the checkpoint, and its files are others now")),
        }
    }

    /// The reference anew, if its files are others than those that are used, or could not be used.
    fn changed(&self, index: usize) -> Result<Option<LoadedReference>, Trouble> {
        let plan = &self.settings.references[index];
        let running = &self.references[index];
        let seen = plan.files.look().map_err(|error| Trouble { error: error.into(), seen: None })?;
        let tried = running.trouble.as_ref().and_then(|trouble| trouble.seen.as_ref());
        match tried {
            Some(tried) if *tried == seen => return Ok(None),
            None if running.seen == seen && running.trouble.is_none() => return Ok(None),
            _ => {}
        }
        plan.files.load(&plan.schema, self.bytes_left(index)).map(Some).map_err(|error| {
            // The files are not what is wrong: they may be as they are when it has passed.
            let passes = matches!(error, ReferenceError::Changing { .. } | ReferenceError::Store { .. });
            Trouble { error: error.into(), seen: (!passes).then_some(seen) }
        })
    }

    async fn replace(&mut self, index: usize, loaded: LoadedReference) -> Result<(), JobError> {
        let name = &self.settings.references[index].files.name;
        if loaded.hash == self.references[index].version.hash {
            self.references[index].seen = loaded.seen;
            if self.references[index].trouble.take().is_some() {
                tracing::info!(reference = name, "the reference is whole again");
            }
            return Ok(());
        }
        let seen = loaded.seen.clone();
        if let Err(error) = self.take_up(index, &loaded.rows) {
            let error = JobError { reason: Reason::ReferenceUnusable, ..error };
            self.note_trouble(index, Trouble { error, seen: Some(seen) });
            return Ok(());
        }
        let before = self.references[index].version.hash.clone();
        self.references[index] = self.running_reference(index, loaded).await?;
        tracing::info!(
            reference = name,
            version = self.references[index].version.hash,
            before,
            "a reference changed and is loaded again"
        );
        Ok(())
    }

    fn note_trouble(&mut self, index: usize, trouble: Trouble) {
        let running = &mut self.references[index];
        if running.trouble.as_ref().is_none_or(|known| known.error != trouble.error) {
            let error = &trouble.error;
            let name = &running.version.name;
            tracing::warn!(
                reference = name,
                reason = error.reason.name(),
                "{}; its last version is used",
                error.in_full()
            );
        }
        running.trouble = Some(trouble);
    }

    /// Gives all queries the rows of a reference, or none of them.
    fn take_up(&mut self, index: usize, rows: &Arc<[RecordBatch]>) -> Result<(), JobError> {
        let before = self.references.get(index).map(|running| Arc::clone(&running.rows));
        for at in 0..self.flows.len() {
            let Err(error) = self.flows[at].operator.set_reference(index, Arc::clone(rows)) else { continue };
            if let Some(before) = before {
                for running in &mut self.flows[..at] {
                    running.operator.set_reference(index, Arc::clone(&before))?;
                }
            }
            return Err(error.into());
        }
        Ok(())
    }

    /// A version that the queries have, with its object in the checkpoint.
    async fn running_reference(&self, index: usize, loaded: LoadedReference) -> Result<RunningReference, JobError> {
        let plan = &self.settings.references[index];
        let LoadedReference { rows, hash, seen, bytes } = loaded;
        let object = if plan.kept { Some(self.object_of(plan, &hash, &rows).await?) } else { None };
        let version = ReferenceVersion { name: plan.files.name.clone(), hash, object };
        let now = self.environment.clock.now();
        Ok(RunningReference { version, rows, bytes, seen, loaded: now, looked: now, trouble: None })
    }

    async fn object_of(
        &self,
        plan: &ReferencePlan,
        hash: &str,
        rows: &[RecordBatch],
    ) -> Result<ReferenceObject, JobError> {
        let state = self.log.state();
        let known = state.references.iter().find(|known| known.name == plan.files.name && known.hash == hash);
        if let Some(object) = known.and_then(|known| known.object.clone())
            && self.log.store().length(&object.path).await? == Some(object.bytes)
        {
            return Ok(object);
        }
        let content = snapshot::encode(&plan.schema, rows).map_err(|error: ArrowError| {
            JobError::passing(Reason::InternalError, format!("cannot encode a reference: {error}"), "report this")
        })?;
        let path = paths::reference_object(state.version + 1, state.epoch(), hash);
        let (bytes, xxh3) = (content.len() as u64, checksum(&content));
        if self.log.store().create(&path, content.clone()).await? == Created::AlreadyExists
            && self.log.store().get(&path).await?.as_deref() != Some(&content[..])
        {
            // Another build of the program writes the same rows in other bytes.
            self.log.store().replace(&path, content).await?;
        }
        Ok(ReferenceObject { path, bytes, xxh3 })
    }

    /// What a reference may take: all references together have one share.
    fn bytes_left(&self, index: usize) -> u64 {
        let others = self.references.iter().enumerate().filter(|(other, _)| *other != index);
        let others: u64 = others.map(|(_, running)| running.bytes).sum();
        self.settings.memory.references.saturating_sub(others)
    }
}

fn is_whole(content: &Bytes, object: &ReferenceObject) -> bool {
    content.len() as u64 == object.bytes && checksum(content) == object.xxh3
}

fn read(content: Bytes) -> Result<Vec<RecordBatch>, ArrowError> {
    StreamReader::try_new(Cursor::new(content), None)?.collect()
}

fn lost(version: u64, used: &ReferenceVersion, why: &str) -> JobError {
    let ReferenceVersion { name, hash, .. } = used;
    JobError::user(
        Reason::StateLost,
        format!("batch {version} used version {hash} of the reference {name}, which cannot be had again: {why}"),
        "bring the files of that version back; or go back to a version whose state can be rebuilt with `data-platform \
         checkpoint rewind`, or begin anew with another checkpoint.name",
    )
}
