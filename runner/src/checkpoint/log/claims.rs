//! Whose the outputs are: they are claimed before the first file is staged there, and looked at before each publish.

use std::collections::BTreeMap;

use crate::checkpoint::log::{JobLog, LogAccess, LogError, read};
use crate::checkpoint::output::SharedOutput;
use crate::checkpoint::owner::{Claim, Owned, Owner};
use crate::checkpoint::record::{Own, Record};
use crate::faults::Guard;
use crate::storage::StoreError;
use crate::storage::location::Location;

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
            let output = self.output(&root)?;
            check_free(&output, Some(&us.log_id), &us.job).await?;
        }
        Ok(())
    }

    /// Claims the outputs. `take_over`: also those of other logs, whose runners cannot write any more then.
    ///
    /// # Errors
    /// [`LogError::OutputOwned`] when one is another log's.
    pub async fn claim_outputs(&mut self, take_over: bool) -> Result<(), LogError> {
        let us = self.us();
        if !self.access.faults.guard(Guard::Claim) {
            return Ok(());
        }
        for root in self.places.clone().into_values() {
            match self.output(&root)?.claim(&us, take_over).await? {
                Claim::Ours { number, before } => {
                    self.claims.insert(root.clone(), number);
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

    /// Whether an output is ours.
    pub(super) async fn owns(&mut self, root: &str) -> Result<bool, StoreError> {
        let output = self.output(root)?;
        if let Some(number) = self.claims.get(root) {
            return output.is_still_ours(*number).await;
        }
        match output.owner().await? {
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
            Ok(output) => output.owner().await,
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
}

/// Whether an output is free, or the log's.
///
/// # Errors
/// [`LogError::OutputOwned`] when it is another log's; [`StoreError::Unsuitable`] when it lies in another table, or one in it.
pub async fn check_free(output: &SharedOutput, log_id: Option<&str>, ours: &str) -> Result<(), LogError> {
    let found = output.owner().await?;
    match found.filter(|owned| Some(owned.owner.log_id.as_str()) != log_id) {
        Some(Owned { owner, .. }) => {
            let root = output.root().to_owned();
            Err(LogError::OutputOwned { root, owner, ours: ours.to_owned() })
        }
        None => Ok(output.check_place()?),
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
