//! Which interval a run without a scheduled time is about: that of the first attempt of its Job, kept in a file that later
//! attempts find, until nobody can ask for it any more.

use serde::{Deserialize, Serialize};

use crate::checkpoint::record::{Body, decode, encode};
use crate::pipeline::batch::interval::{Covered, Interval};
use crate::pipeline::error::{JobError, Reason};
use crate::storage::{Created, SharedStore, StoreError};

/// One file for each Job.
const RUNS: &str = "runs";
/// How long a file stays after its interval has ended, in microseconds: a week. Attempts of a Job follow each other within
/// minutes; what is longer is somebody who lets a suspended Job go on.
const KEPT: i64 = 7 * 24 * 3_600 * 1_000_000;

/// What a run is about.
#[derive(Debug, Serialize, Deserialize)]
struct FixedRun {
    interval: Interval,
}

impl Body for FixedRun {}

fn path(uid: &str) -> String {
    let safe: String = uid.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
    format!("{RUNS}/{safe}.json")
}

/// The interval of a Job: that of its first attempt.
pub(super) async fn fix(store: &SharedStore, uid: &str, interval: Interval) -> Result<Interval, JobError> {
    let path = path(uid);
    if store.create(&path, encode(0, &FixedRun { interval }).into()).await? == Created::Yes {
        return Ok(interval);
    }
    let bytes = store.get(&path).await?.unwrap_or_default();
    let fixed = decode::<FixedRun>(0, &bytes).map_err(|error| {
        let cure = "remove it: the run then takes the last interval that is over";
        JobError::user(Reason::CheckpointCorrupt, format!("{}/{path}: {error}", store.root()), cure)
    })?;
    Ok(fixed.interval)
}

/// Whether the file of a run may go. One whose interval is not finished stays, however old it is: its Job may go on, and
/// must then not take another interval. So does one that is young, whose Job may not have heard yet that it has ended.
fn may_go(interval: Interval, finished: &Covered, now: i64) -> bool {
    finished.contains(interval) && now.saturating_sub(interval.end) > KEPT
}

/// Removes the files of runs that are over, but for that of this run. One that cannot be read stays.
pub(super) async fn collect(
    store: &SharedStore,
    finished: &Covered,
    ours: Option<&str>,
    now: i64,
) -> Result<(), StoreError> {
    let ours = ours.map(path);
    for entry in store.list(RUNS).await? {
        if ours.as_ref() == Some(&entry.path) {
            continue;
        }
        let bytes = store.get(&entry.path).await?.unwrap_or_default();
        if decode::<FixedRun>(0, &bytes).is_ok_and(|run| may_go(run.interval, finished, now)) {
            store.delete(&entry.path).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::sync::Arc;

    use super::*;
    use crate::faults::NoSync;
    use crate::storage::local::LocalStore;

    const HOUR: i64 = 3_600_000_000;

    fn hour(number: i64) -> Interval {
        Interval { start: number * HOUR, end: (number + 1) * HOUR }
    }

    fn store(folder: &std::path::Path) -> SharedStore {
        Rc::new(LocalStore::open(folder, Arc::new(NoSync)).unwrap())
    }

    #[tokio::test]
    async fn later_attempts_of_a_job_take_the_interval_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        assert_eq!(fix(&store, "a-1", hour(3)).await.unwrap(), hour(3));
        assert_eq!(fix(&store, "a-1", hour(9)).await.unwrap(), hour(3));
        assert_eq!(fix(&store, "../a/2", hour(9)).await.unwrap(), hour(9), "a name that is no uid leads nowhere else");
        assert!(folder.path().join("runs/a2.json").is_file());
        std::fs::write(folder.path().join("runs/a-1.json"), "{}").unwrap();
        let error = fix(&store, "a-1", hour(9)).await.unwrap_err();
        assert_eq!(error.reason, Reason::CheckpointCorrupt);
        assert!(error.message.contains("runs/a-1.json"), "{error}");
    }

    #[tokio::test]
    async fn only_files_of_runs_that_are_over_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        for (uid, number) in [("done", 3), ("open", 4), ("ours", 3), ("young", 200), ("damaged", 3)] {
            fix(&store, uid, hour(number)).await.unwrap();
        }
        std::fs::write(folder.path().join("runs/damaged.json"), "{}").unwrap();
        let mut finished = Covered::default();
        finished.insert(hour(3));
        finished.insert(hour(200));
        // The last moment of a week after the end of hour 3, and the first after it.
        let mut left = Vec::new();
        for now in [172 * HOUR, 172 * HOUR + 1] {
            collect(&store, &finished, Some("ours"), now).await.unwrap();
            let listed = store.list(RUNS).await.unwrap();
            left.push(listed.into_iter().map(|entry| entry.path.replace("runs/", "")).collect::<Vec<_>>().join(" "));
        }
        assert_eq!(left[0], "damaged.json done.json open.json ours.json young.json");
        assert_eq!(left[1], "damaged.json open.json ours.json young.json");
    }
}
