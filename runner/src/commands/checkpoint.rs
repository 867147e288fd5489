//! `checkpoint`: look at job logs, check them, and repair them. Only `rewind --yes` writes.

mod files;
#[cfg(test)]
pub(crate) mod fixture;
mod ls;
mod rewind;
mod show;
#[cfg(test)]
mod tests;
mod verify;

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use data_platform_crds::problem::did_you_mean;

use crate::app::{CommandError, print};
use crate::args::{CheckpointCommand, PlaceArgs};
use crate::checkpoint::log::OpenOutput;
use crate::checkpoint::paths;
use crate::checkpoint::store::open::Location;
use crate::checkpoint::store::{SharedStore, StoreError};
use crate::clock::{Clock, SystemClock};
use crate::commands::run::{namespace, places};
use crate::faults::{Faults, NoFaults};

pub(crate) use files::{FileState, check_file, read_facts};

/// Runs a subcommand.
pub(crate) fn checkpoint(command: &CheckpointCommand) -> Result<u8, CommandError> {
    match command {
        CheckpointCommand::Ls { place } => {
            let (_, checkpoints) = places(place)?;
            print(&block_on(ls::ls(&checkpoints, SystemClock.now()))??);
            Ok(0)
        }
        CheckpointCommand::Show { job, record, place } => {
            let place = JobPlace::find(job, place)?;
            print(&block_on(show::show(&place, *record, SystemClock.now()))??);
            Ok(0)
        }
        CheckpointCommand::Verify { job, place } => {
            let place = JobPlace::find(job, place)?;
            let (text, is_good) = block_on(verify::verify(&place))??;
            print(&text);
            Ok(u8::from(!is_good))
        }
        CheckpointCommand::Rewind(args) => rewind::rewind(args),
    }
}

/// Where a job's log lies.
pub(crate) struct JobPlace {
    /// `<namespace>/<job>`.
    pub(crate) name: String,
    /// The folder or URL.
    pub(crate) location: Location,
    /// The store there.
    pub(crate) store: SharedStore,
}

impl JobPlace {
    /// Finds the log of a job. Nothing is created.
    pub(crate) fn find(job: &str, args: &PlaceArgs) -> Result<Self, CommandError> {
        let (_, checkpoints) = places(args)?;
        let namespace = namespace(args);
        let location = checkpoints.join(&namespace).join(job);
        let place = Self::open(format!("{namespace}/{job}"), location)?;
        if block_on(place.has_log())?? {
            return Ok(place);
        }
        let known = block_on(job_names(&checkpoints))??;
        let in_namespace: Vec<_> =
            known.iter().filter_map(|name| name.strip_prefix(&format!("{namespace}/"))).collect();
        let hint = match did_you_mean(job, in_namespace.iter().copied()) {
            Some(similar) => format!("did you mean {similar}?"),
            None if known.is_empty() => format!("there is no job log below {checkpoints}: check CHECKPOINT_DIR"),
            None => format!("there are {}", known.into_iter().collect::<Vec<_>>().join(", ")),
        };
        Err(CommandError::user(format!("there is no job log in {}: {hint}", place.location)))
    }

    /// Opens a folder as a job's.
    pub(crate) fn open(name: String, location: Location) -> Result<Self, CommandError> {
        let store = location.open(&no_faults()).map_err(store_failed)?;
        Ok(Self { name, location, store })
    }

    async fn has_log(&self) -> Result<bool, CommandError> {
        for folder in [paths::LOG, paths::BASE] {
            if !self.store.list(folder).await.map_err(store_failed)?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Names `<namespace>/<job>` of every log below a checkpoints folder.
async fn job_names(checkpoints: &Location) -> Result<BTreeSet<String>, CommandError> {
    let store = checkpoints.open(&no_faults()).map_err(store_failed)?;
    let listed = store.list("").await.map_err(store_failed)?;
    let names = listed.iter().filter(|entry| paths::version_of(&entry.path).is_some()).filter_map(|entry| {
        let (folder, _) = entry.path.rsplit_once('/')?;
        let job = folder.strip_suffix(&format!("/{}", paths::LOG));
        let job = job.or_else(|| folder.strip_suffix(&format!("/{}", paths::BASE)))?;
        // What a rewind moved aside has the same shape.
        let is_aside = job.split('/').any(|part| part == paths::REWOUND);
        (!is_aside).then(|| job.to_owned())
    });
    Ok(names.collect())
}

/// Nothing is injected into commands that look.
pub(crate) fn no_faults() -> Arc<dyn Faults> {
    Arc::new(NoFaults)
}

/// Opens outputs by the root in the log.
pub(crate) fn output_opener() -> OpenOutput {
    Rc::new(|root: &str| Location::parse(root)?.open(&no_faults()))
}

/// Runs a future of the stores, which block.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> Result<T, CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CommandError::failed(format!("cannot start the runtime: {error}")))?;
    Ok(runtime.block_on(future))
}

/// A store that did not do what was asked, with what to do about it.
pub(crate) fn store_failed(error: StoreError) -> CommandError {
    CommandError::Job(error.into())
}
