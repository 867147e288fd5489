//! `checkpoint`: look at job logs, check them, and repair them. Only `rewind --yes` writes.

mod batch;
mod files;
#[cfg(test)]
pub(crate) mod fixture;
mod ls;
pub(crate) mod outputs;
pub(crate) mod retention;
mod rewind;
mod show;
#[cfg(test)]
mod tests;
mod verify;

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use data_platform_crds::problem::did_you_mean;

use crate::args::{CheckpointCommand, PlaceArgs};
use crate::checkpoint::log::OpenOutput;
use crate::checkpoint::survey::Survey;
use crate::clock::{Clock, SystemClock};
use crate::commands::error::CommandError;
use crate::commands::print;
use crate::commands::run::{namespace, places};
use crate::faults::{Faults, NoFaults};
use crate::pipeline::batch::log::{BASES, RECORDS};
use crate::storage::location::Location;
use crate::storage::{SharedStore, StoreError, paths};

pub(crate) use files::{FileState, check_listed, read_facts};
pub(crate) use outputs::{files as files_of, listed as listed_of};
pub(crate) use retention::Retention;

/// Runs a subcommand.
pub(crate) fn checkpoint(command: &CheckpointCommand) -> Result<u8, CommandError> {
    match command {
        CheckpointCommand::Ls { place } => {
            let (_, checkpoints) = places(place)?;
            print(&block_on(ls::ls(&checkpoints, SystemClock.now()))??);
            Ok(0)
        }
        CheckpointCommand::Show { job, record, place } => {
            let (place, kind) = JobPlace::find_any(job, place)?;
            let now = SystemClock.now();
            print(&match kind {
                Kind::Streaming => block_on(show::show(&place, *record, now))??,
                Kind::Batch => block_on(batch::show(&place, *record, now))??,
            });
            Ok(0)
        }
        CheckpointCommand::Verify { job, retained_since, place } => {
            let (place, kind) = JobPlace::find_any(job, place)?;
            let retention = Retention { since: *retained_since };
            let (text, is_good) = match kind {
                Kind::Streaming => block_on(verify::verify(&place, retention))??,
                Kind::Batch => block_on(batch::verify(&place, retention))??,
            };
            print(&text);
            Ok(u8::from(!is_good))
        }
        CheckpointCommand::Rewind(args) => rewind::rewind(args),
    }
}

/// Whose log it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Streaming,
    Batch,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Streaming, Self::Batch];

    /// Folders of records and bases.
    fn folders(self) -> [&'static str; 2] {
        match self {
            Self::Streaming => [paths::LOG, paths::BASE],
            Self::Batch => [RECORDS, BASES],
        }
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
    /// Where outputs lie, as far as the command was told.
    pub(crate) outputs: Option<Location>,
}

impl JobPlace {
    /// Finds the log of a streaming job. Nothing is created.
    pub(crate) fn find(job: &str, args: &PlaceArgs) -> Result<Self, CommandError> {
        match Self::find_any(job, args)? {
            (place, Kind::Streaming) => Ok(place),
            (place, Kind::Batch) => Err(CommandError::user(format!(
                "{} is a batch job, and this is for streaming jobs: `data-platform checkpoint verify` checks its log and files, \
                 and `data-platform run {job}` with --from and --to processes intervals again",
                place.name
            ))),
        }
    }

    /// Looks for the log of a job, and says whose it is. Nothing is created. `None`: there is none.
    pub(crate) fn look(job: &str, args: &PlaceArgs) -> Result<Option<(Self, Kind)>, CommandError> {
        if job.is_empty() || job.contains('/') {
            return Err(CommandError::user(format!(
                "{job:?} is no name of a job: give the name alone, and its namespace with --namespace"
            )));
        }
        let (outputs, checkpoints) = places(args)?;
        let namespace = namespace(args);
        let location = checkpoints.join(&namespace).join(job);
        let place = Self { outputs: Some(outputs), ..Self::open(format!("{namespace}/{job}"), location)? };
        for kind in Kind::ALL {
            if block_on(place.has_log(kind))?? {
                return Ok(Some((place, kind)));
            }
        }
        Ok(None)
    }

    /// Finds the log of a job, and says whose it is. Nothing is created.
    fn find_any(job: &str, args: &PlaceArgs) -> Result<(Self, Kind), CommandError> {
        if let Some(found) = Self::look(job, args)? {
            return Ok(found);
        }
        let (_, checkpoints) = places(args)?;
        let namespace = namespace(args);
        let location = checkpoints.join(&namespace).join(job);
        let known = block_on(job_names(&checkpoints))??;
        let in_namespace: Vec<_> =
            known.iter().filter_map(|(name, _)| name.strip_prefix(&format!("{namespace}/"))).collect();
        let hint = match did_you_mean(job, in_namespace.iter().copied()) {
            Some(similar) => format!("did you mean {similar}?"),
            None if known.is_empty() => format!("there is no job log below {checkpoints}: check CHECKPOINT_DIR"),
            None => {
                let names: BTreeSet<_> = known.into_iter().map(|(name, _)| name).collect();
                format!("there are {}", names.into_iter().collect::<Vec<_>>().join(", "))
            }
        };
        Err(CommandError::user(format!("there is no job log in {location}: {hint}")))
    }

    /// Opens a folder as a job's.
    pub(crate) fn open(name: String, location: Location) -> Result<Self, CommandError> {
        let store = location.open(&no_faults()).map_err(store_failed)?;
        Ok(Self { name, location, store, outputs: None })
    }

    async fn has_log(&self, kind: Kind) -> Result<bool, CommandError> {
        for folder in kind.folders() {
            if !self.store.list(folder).await.map_err(store_failed)?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Names `<namespace>/<job>` of every log below a checkpoints folder, and whose they are.
async fn job_names(checkpoints: &Location) -> Result<BTreeSet<(String, Kind)>, CommandError> {
    let store = checkpoints.open(&no_faults()).map_err(store_failed)?;
    let listed = store.list("").await.map_err(store_failed)?;
    let names = listed.iter().filter(|entry| paths::version_of(&entry.path).is_some()).filter_map(|entry| {
        let (folder, _) = entry.path.rsplit_once('/')?;
        let (job, name) = folder.rsplit_once('/')?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.folders().contains(&name))?;
        // What a rewind moved aside has the same shape.
        let is_aside = job.split('/').any(|part| part == paths::REWOUND);
        (!is_aside).then(|| (job.to_owned(), kind))
    });
    Ok(names.collect())
}

/// Nothing is injected into commands that look.
pub(crate) fn no_faults() -> Arc<dyn Faults> {
    Arc::new(NoFaults)
}

/// Opens the outputs of a streaming job's log, wherever they lie now.
pub(crate) async fn output_opener(survey: &Survey, outputs: Option<&Location>) -> OpenOutput {
    let known = survey.outputs();
    let Some(state) = survey.head().state else { return Rc::new(outputs::open) };
    let current: Vec<_> = state.plan.outputs.values().cloned().collect();
    outputs::opener(&state.start.log_id, known.keys().chain(&current), &current, outputs).await
}

/// Refuses to judge the files of a streaming job whose tables are not to be seen from here.
///
/// # Errors
/// That none is; that the log cannot be read.
pub(crate) async fn sees_tables(place: &JobPlace) -> Result<(), CommandError> {
    let survey = Survey::read(&place.store).await.map_err(store_failed)?;
    let Some(state) = survey.head().state else { return Ok(()) };
    let has_files = |name: &String| state.outputs.get(name).is_some_and(|output| output.last_file > 0);
    let roots: Vec<_> =
        state.plan.outputs.iter().filter(|(name, _)| has_files(name)).map(|(_, root)| root.clone()).collect();
    let tables = outputs::Tables { log_id: &state.start.log_id, roots: &roots, outputs: place.outputs.as_ref() };
    tables.are_seen_by(&place.name).await
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
