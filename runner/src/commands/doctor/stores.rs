//! Each store that the job writes to: an object is created, created again (which must be refused), read and removed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::commands::doctor::check::{Check, Outcome};
use crate::commands::error::CommandError;
use crate::config::batch::PlannedBatch;
use crate::config::job::{PlannedJob, RunOptions};
use crate::faults::Faults;
use crate::pipeline::error::{JobError, Reason};
use crate::storage::canonical::canonical;
use crate::storage::location::Location;
use crate::storage::{Created, SharedStore, StoreError, paths};

/// What the probe object says, for a person who finds it after a crash.
const CONTENT: &[u8] = b"data-platform doctor was here; this may be removed\n";

/// A store, and what for.
struct Probed {
    name: String,
    location: Location,
    is_table: bool,
}

/// The stores of a streaming job.
pub(super) fn of_streaming(
    planned: &PlannedJob,
    options: &RunOptions,
    faults: &Arc<dyn Faults>,
) -> Result<Vec<Check>, CommandError> {
    let tables = planned.written_folders(&options.outputs)?;
    let tables = tables.into_iter().map(|folder| Probed {
        name: folder.what.strip_prefix("the ").unwrap_or(&folder.what).to_owned(),
        location: folder.location,
        is_table: true,
    });
    let checkpoint = checkpoint(planned.checkpoint_location(options));
    Ok(tables.chain([checkpoint]).map(|probed| probed.check(planned.name(), faults)).collect())
}

/// The stores of a batch job.
pub(super) fn of_batch(
    planned: &PlannedBatch,
    options: &RunOptions,
    faults: &Arc<dyn Faults>,
) -> Result<Vec<Check>, CommandError> {
    let table = Probed {
        name: format!("table {}", planned.output()),
        location: planned.table_location(options)?,
        is_table: true,
    };
    let log = options.checkpoints.join(&options.namespace).join(planned.checkpoint());
    Ok([table, checkpoint(log)].map(|probed| probed.check(planned.name(), faults)).into())
}

fn checkpoint(location: Location) -> Probed {
    Probed { name: "checkpoint".to_owned(), location, is_table: false }
}

impl Probed {
    fn check(self, job: &str, faults: &Arc<dyn Faults>) -> Check {
        let faults = Arc::clone(faults);
        Check::one(job, self.name.clone(), Reason::StorageFailed, move || async move {
            Outcome::from(self.probe(&faults).await.map_err(JobError::from))
        })
    }

    async fn probe(&self, faults: &Arc<dyn Faults>) -> Result<String, StoreError> {
        let new_folders = self.location.folder().map_or_else(Vec::new, |folder| missing_folders(folder, self.is_table));
        let store = if self.is_table { self.location.open_table(faults)? } else { self.location.open(faults)? };
        let probed = probe(&store).await;
        // Where nothing was before nothing is left.
        for folder in new_folders {
            let _ = std::fs::remove_dir(folder);
        }
        probed.map(|()| format!("{}: written, not overwritten, read and removed again", self.location))
    }
}

/// The steps. What was created is removed whatever came of the others.
async fn probe(store: &SharedStore) -> Result<(), StoreError> {
    store.probe().await?;
    let folder = format!("{}/doctor-{}", paths::STAGING, uuid::Uuid::new_v4());
    let path = format!("{folder}/probe");
    let looked = look(store, &path).await;
    let removed = store.delete(&path).await;
    store.delete_empty_folders(&folder).await?;
    looked?;
    removed?;
    match store.get(&path).await? {
        None => Ok(()),
        Some(_) => Err(unsuitable(store, &path, "is still there after it was removed")),
    }
}

async fn look(store: &SharedStore, path: &str) -> Result<(), StoreError> {
    let content = Bytes::from_static(CONTENT);
    if store.create(path, content.clone()).await? == Created::AlreadyExists {
        return Err(unsuitable(store, path, "is said to be there before it was made"));
    }
    if store.create(path, Bytes::from_static(b"overwritten")).await? == Created::Yes {
        let what = "was overwritten although it was to be created only if absent, which exactly-once needs";
        return Err(unsuitable(store, path, what));
    }
    match store.get(path).await? {
        Some(found) if found == content => Ok(()),
        Some(_) => Err(unsuitable(store, path, "has another content than was written")),
        None => Err(unsuitable(store, path, "cannot be found after it was written")),
    }
}

fn unsuitable(store: &SharedStore, path: &str, what: &str) -> StoreError {
    StoreError::Unsuitable(format!("{}: the object {path} {what}", store.root()))
}

/// Folders that a probe makes because they are not there, the innermost first.
fn missing_folders(folder: &Path, is_table: bool) -> Vec<PathBuf> {
    let Ok(folder) = canonical(folder) else { return Vec::new() };
    let mut roots = vec![folder.clone()];
    if let (true, Some(parent), Some(name)) = (is_table, folder.parent(), folder.file_name()) {
        roots.push(parent.join(paths::BESIDE).join(name));
    }
    let below = |root: &PathBuf| root.join("staging");
    let inner: Vec<_> = roots.iter().map(below).chain(roots.iter().map(|root| root.join(paths::STAGING))).collect();
    let mut missing: Vec<PathBuf> = inner
        .iter()
        .flat_map(|inner| inner.ancestors().take_while(|folder| !folder.exists()).map(Path::to_owned))
        .collect();
    missing.sort_unstable_by_key(|folder| std::cmp::Reverse(folder.components().count()));
    missing.dedup();
    missing
}
