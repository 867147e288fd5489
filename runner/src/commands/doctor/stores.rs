//! Each store that the job writes to: an object is created, created again (which must be refused), read and removed. What a table
//! is to be is compared with what lies there: of another kind, with other columns, another job's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::checkpoint::log::{claims, read};
use crate::commands::doctor::check::{Check, Outcome};
use crate::commands::error::CommandError;
use crate::config::batch::PlannedBatch;
use crate::config::job::{PlannedJob, RunOptions};
use crate::delta::columns::Columns;
use crate::faults::Faults;
use crate::pipeline::batch::Request;
use crate::pipeline::batch::log::BatchLog;
use crate::pipeline::batch::replace;
use crate::pipeline::error::{JobError, Reason};
use crate::pipeline::streaming::outputs;
use crate::sink::{self, SinkPlan};
use crate::storage::canonical::canonical;
use crate::storage::location::Location;
use crate::storage::{Created, SharedStore, StoreError, paths};

/// What the probe object says, for a person who finds it after a crash.
const CONTENT: &[u8] = b"data-platform doctor was here; this may be removed\n";

/// A store, and what for.
struct Probed {
    name: String,
    location: Location,
    /// `None`: a checkpoint.
    table: Option<Table>,
}

/// What a table is to be, and whose.
struct Table {
    /// As a log names it: a root of a Delta table says so.
    root: String,
    /// Of a Delta table, as far as they are known before its rows are computed.
    columns: Option<Columns>,
    owner: Owner,
}

/// The job that is to write a table.
#[derive(Clone)]
struct Owner {
    /// `<namespace>/<checkpoint>`.
    job: String,
    checkpoint: Location,
    kind: Kind,
    /// The job begins a new log over what is there.
    takes_over: bool,
}

#[derive(Clone, Copy)]
enum Kind {
    Streaming,
    Batch,
}

/// The stores of a streaming job.
pub(super) fn of_streaming(
    planned: &PlannedJob,
    options: &RunOptions,
    faults: &Arc<dyn Faults>,
) -> Result<Vec<Check>, CommandError> {
    let settings = planned.settings(options)?;
    let log = settings.checkpoint_location.clone();
    let owner = Owner {
        job: format!("{}/{}", settings.namespace, settings.checkpoint),
        checkpoint: log.clone(),
        kind: Kind::Streaming,
        takes_over: settings.new_log,
    };
    let mut probed = vec![];
    for folder in planned.written_folders(&options.outputs)? {
        let name = folder.what.strip_prefix("the ").unwrap_or(&folder.what).to_owned();
        let flow = settings.flows.iter().find(|flow| name.strip_prefix("table ") == Some(flow.output.as_str()));
        let output = flow.map(|flow| &flow.output).or(settings.plan.dead_letters.as_ref());
        let root = output.and_then(|output| settings.plan.outputs.get(output));
        let columns = match flow.map(|flow| &flow.writes) {
            Some(SinkPlan::Table(table)) => table.delta_columns().ok(),
            _ => None,
        };
        let table = root.map(|root| Table { root: root.clone(), columns, owner: owner.clone() });
        probed.push(Probed { name, location: folder.location, table });
    }
    probed.push(checkpoint(log));
    Ok(probed.into_iter().map(|probed| probed.check(planned.name(), faults)).collect())
}

/// The stores of a batch job.
pub(super) fn of_batch(
    planned: &PlannedBatch,
    options: &RunOptions,
    faults: &Arc<dyn Faults>,
) -> Result<Vec<Check>, CommandError> {
    let settings = planned.settings(options, Request::Available, None)?;
    let log = settings.checkpoint_location.clone();
    let owner = Owner {
        job: format!("{}/{}", settings.namespace, settings.checkpoint),
        checkpoint: log.clone(),
        kind: Kind::Batch,
        takes_over: settings.new_log,
    };
    let mut probed = Vec::new();
    for output in &settings.outputs {
        let location = output.location.clone();
        let root = output.root(&location.open_table(faults).map_err(JobError::from)?);
        let table = Some(Table { root, columns: None, owner: owner.clone() });
        probed.push(Probed { name: format!("table {}", output.name), location, table });
    }
    probed.push(checkpoint(log));
    Ok(probed.into_iter().map(|probed| probed.check(planned.name(), faults)).collect())
}

fn checkpoint(location: Location) -> Probed {
    Probed { name: "checkpoint".to_owned(), location, table: None }
}

impl Probed {
    fn check(self, job: &str, faults: &Arc<dyn Faults>) -> Check {
        let faults = Arc::clone(faults);
        Check::one(job, self.name.clone(), Reason::StorageFailed, move || async move {
            Outcome::from(self.examine(&faults).await)
        })
    }

    async fn examine(&self, faults: &Arc<dyn Faults>) -> Result<String, JobError> {
        self.probe(faults).await?;
        if let Some(table) = &self.table {
            table.compare(faults).await?;
        }
        Ok(format!("{}: written, not overwritten, read and removed again", self.location))
    }

    async fn probe(&self, faults: &Arc<dyn Faults>) -> Result<(), StoreError> {
        let is_table = self.table.is_some();
        let new_folders = self.location.folder().map_or_else(Vec::new, |folder| missing_folders(folder, is_table));
        let store = if is_table { self.location.open_table(faults)? } else { self.location.open(faults)? };
        let probed = probe(&store).await;
        // Where nothing was before nothing is left.
        for folder in new_folders {
            let _ = std::fs::remove_dir(folder);
        }
        probed
    }
}

impl Table {
    /// Looks, without writing, whether what lies there is what a start would go on with.
    async fn compare(&self, faults: &Arc<dyn Faults>) -> Result<(), JobError> {
        let output = sink::open_output(&self.root, faults)?;
        output.check_kind().await?;
        if let Some(delta) = output.as_delta() {
            delta.check_writable().await?;
        }
        if let Some(columns) = &self.columns {
            output.check_columns(columns).await?;
        }
        if self.owner.takes_over {
            return Ok(());
        }
        let log_id = self.owner.log_id(faults).await?;
        let free = claims::check_free(&output, log_id.as_deref(), &self.owner.job).await;
        free.map_err(|error| match self.owner.kind {
            Kind::Streaming => outputs::owned(&self.owner.checkpoint, error),
            Kind::Batch => replace::owned(error),
        })
    }
}

impl Owner {
    /// Identity of the job's log; `None`: it has none yet.
    async fn log_id(&self, faults: &Arc<dyn Faults>) -> Result<Option<String>, JobError> {
        let store = self.checkpoint.open(faults)?;
        Ok(match self.kind {
            Kind::Streaming => read::read(&store).await?.map(|found| found.state.start.log_id),
            Kind::Batch => BatchLog::read(store).await?.map(|log| log.state.start.log_id.clone()),
        })
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
