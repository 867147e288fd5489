//! What is remembered of batch jobs over restarts, in one file beside their checkpoints: since when each is known, and the newest time
//! that was run. What a Kubernetes keeps in its CronJobs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::decide::Past;
use crate::checkpoint::record::{Body, decode, encode};
use crate::storage::{SharedStore, StoreError};

/// The object, below the folder of the namespace.
const FILE: &str = "local.json";
/// How long a job is remembered that no file has any more, in microseconds: ten minutes. An editor that removes a file and writes it
/// anew takes a moment, and a copy of a whole folder some minutes; who puts a file back later means a new job.
const KEPT: i64 = 600_000_000;

/// The jobs, by name.
pub(super) struct Memory {
    store: SharedStore,
    jobs: BTreeMap<String, Past>,
    /// Since when no file has a job, in microseconds since 1970 UTC. The next process does not know it.
    gone: BTreeMap<String, i64>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Written {
    jobs: BTreeMap<String, WrittenPast>,
}

/// Times are microseconds since 1970 UTC.
#[derive(Debug, Serialize, Deserialize)]
struct WrittenPast {
    since: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    once: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    filled: Option<String>,
}

impl Body for Written {}

impl Memory {
    /// What an earlier process wrote. What cannot be read is forgotten: then runs begin with the next time, and catch up from the
    /// intervals that the log of each job knows.
    pub(super) async fn read(store: SharedStore) -> Result<Self, StoreError> {
        let written = match store.get(FILE).await? {
            None => Written::default(),
            Some(bytes) => decode(0, &bytes).unwrap_or_else(|error| {
                tracing::warn!("{}/{FILE}: {error}: schedules begin anew", store.root());
                Written::default()
            }),
        };
        let past = |WrittenPast { since, last, once, filled }| Past { since, last, once, filled };
        let jobs = written.jobs.into_iter().map(|(name, written)| (name, past(written))).collect();
        Ok(Self { store, jobs, gone: BTreeMap::new() })
    }

    /// The past of a job; of one that is new it begins now.
    pub(super) fn of(&mut self, job: &str, now: i64) -> Past {
        self.jobs.entry(job.to_owned()).or_insert_with(|| Past { since: now, ..Past::default() }).clone()
    }

    /// Changes what is known of a job.
    pub(super) fn set(&mut self, job: &str, past: Past) {
        self.jobs.insert(job.to_owned(), past);
    }

    /// Forgets every job that has not been one of these for a while: if it comes back then, it is new.
    pub(super) fn keep(&mut self, is_there: impl Fn(&str) -> bool, now: i64) {
        self.jobs.retain(|job, _| self.gone.get(job).is_none_or(|since| now - since <= KEPT));
        self.gone.retain(|job, _| !is_there(job) && self.jobs.contains_key(job));
        for job in self.jobs.keys().filter(|job| !is_there(job)) {
            self.gone.entry(job.clone()).or_insert(now);
        }
    }

    /// Writes it down.
    pub(super) async fn write(&self) -> Result<(), StoreError> {
        let written = |Past { since, last, once, filled }: Past| WrittenPast { since, last, once, filled };
        let jobs = self.jobs.iter().map(|(name, past)| (name.clone(), written(past.clone()))).collect();
        self.store.replace(FILE, encode(0, &Written { jobs }).into()).await
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::sync::Arc;

    use super::*;
    use crate::faults::NoSync;
    use crate::storage::local::LocalStore;

    #[tokio::test]
    async fn the_next_process_knows_when_a_job_was_seen_first_and_ran_last() {
        let folder = tempfile::tempdir().unwrap();
        let store: SharedStore = Rc::new(LocalStore::open(folder.path(), Arc::new(NoSync)).unwrap());
        let mut memory = Memory::read(Rc::clone(&store)).await.unwrap();
        let first = memory.of("a", 5);
        assert_eq!((first.since, first.last), (5, None));
        memory.set("a", Past { last: Some(9), ..first });
        memory.of("b", 7);
        memory.write().await.unwrap();
        let mut again = Memory::read(Rc::clone(&store)).await.unwrap();
        assert_eq!(again.of("a", 100), Past { since: 5, last: Some(9), ..Past::default() });
        std::fs::write(folder.path().join(FILE), "{").unwrap();
        assert_eq!(Memory::read(store).await.unwrap().of("b", 200).since, 200);
    }
    #[tokio::test]
    async fn a_job_without_a_file_is_remembered_for_a_while_and_one_that_comes_back_later_is_new() {
        let folder = tempfile::tempdir().unwrap();
        let store: SharedStore = Rc::new(LocalStore::open(folder.path(), Arc::new(NoSync)).unwrap());
        let mut memory = Memory::read(Rc::clone(&store)).await.unwrap();
        let a = Past { since: 5, last: Some(9), once: Some("v".to_owned()), filled: Some("f".to_owned()) };
        memory.set("a", a.clone());
        memory.of("b", 7);
        // One look finds no file; the next process finds one again.
        memory.keep(|job| job == "b", 100);
        memory.write().await.unwrap();
        assert_eq!(Memory::read(store).await.unwrap().of("a", 200), a);
        // So does this one, if it takes not too long, and then it is as if nothing had been.
        memory.keep(|job| job == "b", KEPT);
        memory.keep(|_| true, 100 + KEPT);
        assert_eq!(memory.of("a", 200), a);
        memory.keep(|_| true, 10 * KEPT);
        assert_eq!(memory.of("a", 200), a);
        // Each time without a file counts for itself.
        memory.keep(|job| job == "b", 10 * KEPT);
        memory.keep(|job| job == "b", 11 * KEPT);
        assert_eq!(memory.of("a", 200), a);
        memory.keep(|_| true, 11 * KEPT + 1);
        assert_eq!((memory.of("a", 200).since, memory.of("b", 200).since), (200, 7));
        memory.keep(|_| true, 20 * KEPT);
        assert_eq!(memory.of("a", 300).since, 200);
    }
}
