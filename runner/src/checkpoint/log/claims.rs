//! Whose the outputs are: they are claimed before the first file is staged there, and looked at before each publish.

use std::collections::{BTreeMap, BTreeSet};

use crate::checkpoint::decide;
use crate::checkpoint::log::{JobLog, LogAccess, LogError, read};
use crate::checkpoint::owner::{self, Claim, Owned, Owner};
use crate::checkpoint::paths::{self, format1};
use crate::checkpoint::places;
use crate::checkpoint::record::{Own, Record};
use crate::checkpoint::store::open::Location;
use crate::checkpoint::store::{Published, SharedStore, StoreError};
use crate::faults::{Guard, Step, step};

impl JobLog {
    /// Says where the outputs are to lie now, by name and root.
    pub fn place_outputs(&mut self, places: BTreeMap<String, String>) {
        self.places = places;
    }

    fn us(&self) -> Owner {
        let start = &self.state.start;
        let job = format!("{}/{}", start.namespace, start.job);
        Owner { log_id: start.log_id.clone(), job, checkpoint: self.access.store.root().to_owned() }
    }

    /// Looks, without writing, whether the outputs are free or ours.
    ///
    /// # Errors
    /// [`LogError::OutputOwned`] when one is another log's.
    pub async fn check_outputs(&mut self) -> Result<(), LogError> {
        let us = self.us();
        for root in self.places.clone().into_values() {
            let store = self.output(&root)?;
            check_free(&store, &root, Some(&us.log_id), &us.job).await?;
        }
        Ok(())
    }

    /// Claims the outputs. `take_over`: also those of other logs, whose runners cannot write any more then.
    ///
    /// # Errors
    /// [`LogError::OutputOwned`] when one is another log's.
    pub async fn claim_outputs(&mut self, take_over: bool) -> Result<(), LogError> {
        let us = self.us();
        let faults = self.faults();
        if !faults.guard(Guard::Claim) {
            return Ok(());
        }
        for root in self.places.clone().into_values() {
            let store = self.output(&root)?;
            let claim = step(&*faults, Step::Claim, async { owner::claim(&store, &us, take_over).await }).await?;
            match claim {
                Claim::Ours { number, before } => {
                    self.claims.insert(root.clone(), number);
                    if let Err(error) = refuse_nested(&root) {
                        // Nothing is staged there yet: the claim is given back.
                        if before.is_none() && store.list("").await?.is_empty() {
                            store.delete(&paths::owner(number)).await?;
                        }
                        return Err(error.into());
                    }
                    if let Some(before) = before {
                        tracing::info!(table = root, log = before.log_id, job = before.job, "took the table over");
                        close(&before, &us, &root, &self.access).await;
                    }
                }
                Claim::Other(Owned { owner, .. }) => return Err(LogError::OutputOwned { root, owner, ours: us.job }),
            }
        }
        Ok(())
    }

    /// Whether a table is ours.
    pub(super) async fn owns(&mut self, root: &str) -> Result<bool, StoreError> {
        let store = self.output(root)?;
        if let Some(number) = self.claims.get(root) {
            return owner::is_still_ours(&store, *number).await;
        }
        match owner::newest(&store).await? {
            Some(owned) if owned.owner.log_id == self.state.start.log_id => {
                self.claims.insert(root.to_owned(), owned.number);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Says who took a table.
    pub(super) async fn taken(&mut self, root: &str) -> LogError {
        let found = match self.output(root) {
            Ok(store) => owner::newest(&store).await,
            Err(error) => Err(error),
        };
        match found {
            Ok(Some(owned)) => LogError::OutputTaken { root: root.to_owned(), owner: owned.owner },
            Ok(None) => {
                let nobody = Owner { log_id: "nobody".to_owned(), job: String::new(), checkpoint: String::new() };
                LogError::OutputTaken { root: root.to_owned(), owner: nobody }
            }
            Err(error) => error.into(),
        }
    }

    /// Takes over what format 1 kept in the tables' folders, once everything that was pending there is published: the
    /// folder then holds the table and nothing else.
    pub(super) async fn adopt_format1(&mut self, root: &str, pending: &BTreeSet<String>) -> Result<(), LogError> {
        let store = self.output(root)?;
        adopt_format1(&store, pending).await
    }
}

/// Whether a table is free, or the log's.
///
/// # Errors
/// [`LogError::OutputOwned`] when it is another log's; [`StoreError::Unsuitable`] when it lies in another table, or one in it.
pub async fn check_free(store: &SharedStore, root: &str, log_id: Option<&str>, ours: &str) -> Result<(), LogError> {
    let found = owner::newest(store).await?;
    match found.filter(|owned| Some(owned.owner.log_id.as_str()) != log_id) {
        Some(Owned { owner, .. }) => Err(LogError::OutputOwned { root: root.to_owned(), owner, ours: ours.to_owned() }),
        None => Ok(refuse_nested(root)?),
    }
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

/// Appends a closing `own` to the log that a table was taken from, if it can be read: its runner is fenced with its next
/// record. What cannot be reached is fenced by the owner file, before its next publish.
async fn close(before: &Owner, us: &Owner, root: &str, access: &LogAccess) {
    if before.checkpoint.is_empty() || before.checkpoint == us.checkpoint {
        return;
    }
    let closed = async {
        let store = Location::of_root(&before.checkpoint)?.open(&access.faults)?;
        let Some(recovered) = read::read(&store).await? else { return Ok(()) };
        if recovered.state.start.log_id != before.log_id {
            return Ok(());
        }
        let own = Own {
            epoch: recovered.state.epoch() + 1,
            owner: uuid::Uuid::new_v4().to_string(),
            rank: recovered.state.owner.as_ref().map(|owner| owner.rank).unwrap_or_default(),
            place: format!("nobody; the job {} took the table {root} over", us.job),
            pod: None,
            partitions: None,
            clock: recovered.state.clock,
        };
        let mut log = JobLog::resume(LogAccess { store, ..access.clone() }, recovered);
        log.append(&Record::Own(own)).await
    };
    if let Err(error) = closed.await {
        let error: LogError = error;
        tracing::warn!(%error, log = before.log_id, "the log that wrote the table before cannot be closed");
    }
}

/// Moves what format 1 kept in a table's folder beside it, and removes what nothing needs any more.
///
/// # Errors
/// When the output cannot be read or written.
pub async fn adopt_format1(store: &SharedStore, pending: &BTreeSet<String>) -> Result<(), LogError> {
    let staged = store.list(format1::STAGING).await?;
    let garbage = decide::garbage_format1(&staged, pending);
    for path in &garbage {
        store.delete(path).await?;
    }
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
