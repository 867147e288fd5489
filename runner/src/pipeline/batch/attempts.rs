//! Which intervals runs began and did not finish: they come after those that no run has tried, so that one that fails
//! whatever happens, or even ends the process, keeps no other one waiting.
//!
//! Only the order hangs on it. So it lies beside the log and not in it: if it is lost, or two runs write it at once, an
//! interval is tried sooner than it would be.

use serde::{Deserialize, Serialize};

use crate::checkpoint::record::{Body, decode, encode};
use crate::pipeline::batch::interval::{Covered, Interval};
use crate::storage::{SharedStore, StoreError};

/// The object, below the job's checkpoint folder.
const ATTEMPTS: &str = "attempts.json";
/// More than one run processes; the oldest attempts are forgotten first.
const KEPT_MAX: usize = 10_000;

/// Intervals that were begun, the last one last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Attempts {
    begun: Vec<Interval>,
}

impl Body for Attempts {}

impl Attempts {
    /// Those that runs told of, without what is finished by now. What cannot be read tells of none.
    pub(super) async fn read(store: &SharedStore, finished: &Covered) -> Result<Self, StoreError> {
        let bytes = store.get(ATTEMPTS).await?.unwrap_or_default();
        let mut attempts: Self = decode(0, &bytes).unwrap_or_default();
        attempts.begun.retain(|interval| !finished.contains(*interval));
        Ok(attempts)
    }

    /// The intervals, the one that was tried longest ago first.
    pub(super) fn begun(&self) -> &[Interval] {
        &self.begun
    }

    /// Tells that an interval is begun.
    pub(super) async fn begin(&mut self, store: &SharedStore, interval: Interval) -> Result<(), StoreError> {
        self.begun.retain(|begun| *begun != interval);
        self.begun.push(interval);
        let many = self.begun.len().saturating_sub(KEPT_MAX);
        self.begun.drain(..many);
        self.write(store).await
    }

    /// It is finished. That need not be told: the log does.
    pub(super) fn finish(&mut self, interval: Interval) {
        self.begun.retain(|begun| *begun != interval);
    }

    /// It ended for a reason that is not its own, and is as if never begun.
    pub(super) async fn withdraw(&mut self, store: &SharedStore, interval: Interval) -> Result<(), StoreError> {
        self.finish(interval);
        self.write(store).await
    }

    async fn write(&self, store: &SharedStore) -> Result<(), StoreError> {
        store.replace(ATTEMPTS, encode(0, self).into()).await
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::sync::Arc;

    use super::*;
    use crate::faults::NoSync;
    use crate::storage::local::LocalStore;

    fn hour(number: i64) -> Interval {
        Interval { start: number * 3_600_000_000, end: (number + 1) * 3_600_000_000 }
    }

    #[tokio::test]
    async fn what_was_begun_and_not_finished_is_known_to_the_next_run() {
        let folder = tempfile::tempdir().unwrap();
        let store: SharedStore = Rc::new(LocalStore::open(folder.path(), Arc::new(NoSync)).unwrap());
        let mut finished = Covered::default();
        let mut attempts = Attempts::read(&store, &finished).await.unwrap();
        assert_eq!(attempts.begun(), []);
        for number in [1, 2, 3, 1, 4] {
            attempts.begin(&store, hour(number)).await.unwrap();
        }
        attempts.finish(hour(2));
        attempts.withdraw(&store, hour(4)).await.unwrap();
        assert_eq!(Attempts::read(&store, &finished).await.unwrap().begun(), [hour(3), hour(1)]);
        finished.insert(hour(3));
        assert_eq!(Attempts::read(&store, &finished).await.unwrap().begun(), [hour(1)]);
        std::fs::write(folder.path().join(ATTEMPTS), "{").unwrap();
        assert_eq!(Attempts::read(&store, &finished).await.unwrap(), Attempts::default());
    }
}
