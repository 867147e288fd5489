//! `local`: every job of some files in one process, without a cluster. Streaming jobs run, batch jobs follow their schedule.
//!
//! ```text
//! files ── folder (check, plan) ──┐
//! clock ──────────────────────────┼── decide ── supervisor ── job: a thread for each run ── tables
//! ended runs ── past (local.json) ┘                  └── pages, log, table on the terminal
//! ```
//!
//! What is to happen is decided by pure functions (`decide`, `order`); the rest carries it out. One process has one of each:
//! signals, the watch over memory, the pages, the runtime of batch queries.

mod decide;
mod folder;
mod job;
mod order;
mod past;
mod supervisor;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::args::LocalArgs;
use crate::commands::bytes;
use crate::commands::error::{CommandError, report};
use crate::commands::run::{authentication, batch, listen_for_signals, options_of_places, say_where};
use crate::config::Loaded;
use crate::config::job::RunOptions;
use crate::faults::Faults;
use crate::http::several;
use crate::pipeline::error::{JobError, Reason};
use crate::pipeline::memory::guard::{self, Excess};
use crate::pipeline::streaming::RunMode;
use crate::stop::StopSignal;
use crate::storage::location::Location;
use crate::storage::lock::{FolderLock, LockError};

use self::folder::{Folder, Jobs};
use self::job::Shared;
use self::past::Memory;

pub(super) use self::folder::Kinds;
pub(super) use self::supervisor::{Figures, Pages, Supervisor};

/// Runs the command.
pub(crate) fn local(args: &LocalArgs, faults: &Arc<dyn Faults>) -> Result<u8, CommandError> {
    let kinds = Kinds { streaming: args.streaming, batch: args.batch };
    let together = Together::new(args.files.clone(), kinds, options(args)?, faults)?;
    warn_of(&together.jobs);
    let pages = Pages::default();
    serve(args, &pages)?;
    let stop = together.listen();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        jobs = together.jobs.known.len(),
        memory = %bytes(together.shared.options.memory.limit),
        "starting"
    );
    let mut supervisor = Supervisor::new(together, pages, stop.clone());
    if args.test_mode { supervisor.run_once(&stop) } else { supervisor.run(Figures::Logged) }
}

/// Jobs that can begin in this process, checked, with what all of them share. `demo` begins with it, too.
pub(super) struct Together {
    shared: Shared,
    folder: Folder,
    jobs: Jobs,
    past: Memory,
    runtime: Runtime,
    /// Held as long as the jobs may run.
    lock: Option<FolderLock>,
}

impl Together {
    /// The jobs of these files, with checkpoints that no other process has.
    pub(super) fn new(
        files: Vec<PathBuf>,
        kinds: Kinds,
        options: RunOptions,
        faults: &Arc<dyn Faults>,
    ) -> Result<Self, CommandError> {
        let mut folder = Folder::new(files, kinds, options.clone());
        let jobs = folder.read()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| CommandError::failed(format!("cannot start the runtime: {error}")))?;
        let place = options.checkpoints.join(&options.namespace);
        let lock = lock(&place, faults, &runtime)?;
        let past = runtime.block_on(async { Memory::read(place.open(faults)?).await }).map_err(JobError::from)?;
        let shared =
            Shared { options, faults: Arc::clone(faults), runtime: Arc::new(batch::runtime()?), is_silent: false };
        Ok(Self { shared, folder, jobs, past, runtime, lock })
    }

    /// What a process has once: who hears its signals, and the watch over its memory. Gives what the signals stop.
    pub(super) fn listen(&self) -> StopSignal {
        let stop = StopSignal::new();
        let longest = self.jobs.known.values().map(|job| job.stop_timeout).max().unwrap_or_default();
        listen_for_signals(&stop, longest);
        guard::watch(end);
        stop
    }
}

fn options(args: &LocalArgs) -> Result<RunOptions, CommandError> {
    Ok(RunOptions {
        bootstrap_servers: args.bootstrap_servers.clone().filter(|servers| !servers.is_empty()),
        mode: if args.test_mode { RunMode::TestMode } else { RunMode::Continuous },
        stay_up: !args.test_mode,
        patience: Duration::from_secs(args.patience),
        ..options_of_places(&args.place)?
    })
}

fn warn_of(jobs: &Jobs) {
    for job in jobs.known.values() {
        for warning in job.loaded.warnings() {
            tracing::warn!("{}", warning.in_file(job.loaded.file()));
        }
        if let Loaded::Batch(batch) = &job.loaded
            && !job.wanted.suspended
            && batch.job.spec.schedule.is_none()
        {
            tracing::info!(job = job.loaded.name(), "it has no schedule and runs once");
        }
    }
}

/// One process has the checkpoints: two would start the same jobs, and stop each other.
fn lock(place: &Location, faults: &Arc<dyn Faults>, runtime: &Runtime) -> Result<Option<FolderLock>, JobError> {
    runtime.block_on(async { place.open(faults)?.probe().await })?;
    let Some(folder) = place.folder() else { return Ok(None) };
    match FolderLock::take(folder) {
        Ok(lock) => Ok(Some(lock)),
        Err(LockError::Held { holder }) => Err(JobError::passing(
            Reason::CheckpointInUse,
            format!("another `data-platform local` works with the checkpoints in {place}: process {holder}"),
            "stop it, or give this one folders of its own with --checkpoints and --outputs",
        )),
        Err(error @ LockError::Store(_)) => Err(error.into()),
    }
}

fn serve(args: &LocalArgs, pages: &Pages) -> Result<(), CommandError> {
    if args.http == "off" {
        return Ok(());
    }
    let all = pages.all(authentication(args.http_token_file.as_deref(), false)?);
    say_where(&args.http, several::start(&args.http, all), false)
}

/// Where memory ends in spite of all that is counted, the process says so and ends, before the kernel kills it without a word.
/// Every start is a recovery: whoever starts it again loses nothing.
fn end(Excess { used, wanted, limit }: Excess) {
    let more = if wanted > 0 { format!(" and want {} at once", bytes(wanted)) } else { String::new() };
    let error = CommandError::failed(format!(
        "the jobs of this process need more memory than it may have: they have {}{more}, of {}: raise its limit, run some of the \
         jobs elsewhere, or make a batch query smaller; started again, each goes on where it was",
        bytes(used),
        bytes(limit)
    ));
    report(&error);
    std::process::exit(error.code().into());
}
