//! Whose turn it is: runs of one job follow each other. A run waits while another one works, and takes over from one that
//! died.
//!
//! That a run works is seen from its heartbeat, an object that it replaces every few seconds. Observers compare what they
//! see with what they saw, never clocks. Only patience hangs on it: two runs that both think it is their turn are kept
//! apart by the log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::checkpoint::decide::Candidate;
use crate::clock::Clock;
use crate::faults::Faults;
use crate::pipeline::batch::log::{BatchLog, Own};
use crate::pipeline::batch::replace::fenced;
use crate::pipeline::error::{JobError, Reason};
use crate::stop::StopSignal;
use crate::storage::location::Location;
use crate::storage::lock::{FolderLock, LockError};
use crate::storage::{SharedStore, StoreError};

/// The heartbeat, below the job's checkpoint folder.
const HEARTBEAT: &str = "alive.json";
/// Time between two heartbeats.
const BEAT: Duration = Duration::from_secs(3);
/// A run whose heartbeat stands still for so long is dead: several beats on a slow store.
const SILENCE: Duration = Duration::from_secs(15);
/// What a run that waits for its turn leaves, below the job's checkpoint folder.
const WAITING: &str = "waiting.json";
/// A run that gave its turn back for others waits so long for one of them: several looks of theirs on a slow store.
const COURTESY: Duration = Duration::from_secs(5);
/// How often a waiting run looks.
const LOOK: Duration = Duration::from_millis(500);

/// A heartbeat that goes on until it is dropped.
pub(crate) struct Heartbeat {
    stop: StopSignal,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Heartbeat {
    /// Begins to beat.
    pub(crate) fn start(checkpoint: &Location, faults: &Arc<dyn Faults>) -> Self {
        let stop = StopSignal::new();
        let (checkpoint, faults, stopped) = (checkpoint.clone(), Arc::clone(faults), stop.clone());
        let span = tracing::Span::current();
        let beat = move || {
            let _said_by_the_job = span.enter();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let (Ok(runtime), Ok(store)) = (runtime, checkpoint.open(&faults)) else { return };
            let id = uuid::Uuid::new_v4();
            let mut number = 0_u64;
            loop {
                number += 1;
                let text = format!("{{\"run\":\"{id}\",\"beat\":{number}}}\n");
                if let Err(error) = runtime.block_on(store.replace(HEARTBEAT, text.into())) {
                    tracing::warn!(%error, "cannot write the heartbeat");
                }
                if stopped.wait(BEAT) {
                    return;
                }
            }
        };
        // Without the thread the run looks dead, is taken over, and stops as fenced: nothing is lost.
        let thread = std::thread::Builder::new().name("heartbeat".to_owned()).spawn(beat).ok();
        Self { stop, thread }
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.stop.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// How long to wait, and for whom not to.
pub(crate) struct Patience<'a> {
    pub(crate) wait: Duration,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) stop: &'a StopSignal,
    /// Identity of the Job that this run is an attempt of.
    pub(crate) run: Option<&'a str>,
    /// The lock of the folder is held: nobody else on this machine works here.
    pub(crate) is_locked: bool,
}

/// Locks a local checkpoint, waiting for a run that has it.
pub(crate) async fn lock(
    folder: &std::path::Path,
    store: &SharedStore,
    patience: &Patience<'_>,
) -> Result<FolderLock, JobError> {
    let began = patience.clock.instant();
    let mut is_told = false;
    loop {
        match FolderLock::take(folder) {
            Ok(lock) => return Ok(lock),
            Err(LockError::Store(error)) => return Err(error.into()),
            Err(LockError::Held { holder }) => {
                if !is_told {
                    tracing::info!(process = holder, "waiting for another run of this job");
                    is_told = true;
                }
                ask(store).await?;
                wait(patience, began, &format!("process {holder}"))?;
            }
        }
    }
}

fn wait(patience: &Patience<'_>, began: Instant, who: &str) -> Result<(), JobError> {
    if patience.clock.since(began) >= patience.wait {
        return Err(JobError::passing(
            Reason::CheckpointInUse,
            format!("another run of this job is at work: {who}"),
            "wait until it has ended; a run in a cluster is tried again by itself",
        ));
    }
    if patience.stop.wait(LOOK) {
        return Err(interrupted());
    }
    Ok(())
}

/// Somebody said stop.
pub(crate) fn interrupted() -> JobError {
    JobError::passing(
        Reason::Interrupted,
        "the run was stopped before its end",
        "nothing: what it finished stays, the next run goes on",
    )
}

/// Waits until nobody works on the job, and takes the turn.
pub(crate) async fn take(
    store: &SharedStore,
    mut log: BatchLog,
    candidate: &Candidate,
    clock: i64,
    patience: &Patience<'_>,
    faults: &dyn Faults,
) -> Result<BatchLog, JobError> {
    let began = patience.clock.instant();
    let mut heartbeat = beat(store).await?;
    let mut changed = patience.clock.instant();
    loop {
        let owner = log.state.owner.clone().filter(|_| !log.state.released);
        let is_ours = |own: &Own| own.run.is_some() && own.run.as_deref() == patience.run;
        let is_free = match &owner {
            None => true,
            Some(own) => patience.is_locked || is_ours(own) || patience.clock.since(changed) >= SILENCE,
        };
        if log.state.owner.as_ref().is_some_and(|own| own.rank > candidate.rank.of_resource()) {
            return Err(fenced(&log));
        }
        if is_free {
            let own = Own {
                epoch: 0,
                owner: candidate.owner.clone(),
                place: candidate.place.clone(),
                rank: candidate.rank.of_resource(),
                run: patience.run.map(str::to_owned),
                clock,
            };
            if log.own(own, faults).await? {
                store.delete(WAITING).await?;
                return Ok(log);
            }
        } else {
            ask(store).await?;
            let who = owner.map(|own| own.place).unwrap_or_default();
            wait(patience, began, &who)?;
        }
        log = BatchLog::read(store.clone()).await?.ok_or_else(|| gone(store))?;
        let now = beat(store).await?;
        if now != heartbeat {
            heartbeat = now;
            changed = patience.clock.instant();
        }
    }
}

/// Tells a run that could give its turn back that somebody waits.
async fn ask(store: &SharedStore) -> Result<(), StoreError> {
    if !is_asked(store).await? {
        store.replace(WAITING, "{}\n".into()).await?;
    }
    Ok(())
}

/// Whether somebody waits for the turn.
pub(crate) async fn is_asked(store: &SharedStore) -> Result<bool, StoreError> {
    Ok(store.length(WAITING).await?.is_some())
}

/// After a turn was given back: waits until another run takes it, if one is there.
pub(crate) async fn let_others(
    store: &SharedStore,
    epoch: u64,
    clock: &dyn Clock,
    stop: &StopSignal,
) -> Result<(), JobError> {
    let began = clock.instant();
    while is_asked(store).await? && clock.since(began) < COURTESY {
        if BatchLog::read(store.clone()).await?.is_some_and(|log| log.epoch() != epoch) {
            return Ok(());
        }
        if stop.wait(LOOK / 4) {
            return Err(interrupted());
        }
    }
    // Whoever still waits asks again.
    Ok(store.delete(WAITING).await?)
}

async fn beat(store: &SharedStore) -> Result<Option<bytes::Bytes>, StoreError> {
    store.get(HEARTBEAT).await
}

fn gone(store: &SharedStore) -> JobError {
    JobError::passing(
        Reason::StorageFailed,
        format!("the log in {} vanished while it was read", store.root()),
        "try again",
    )
}
