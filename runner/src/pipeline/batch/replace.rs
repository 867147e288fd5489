//! Replacing an interval in the output: files are staged, the log decides, and only then they take their final names.
//!
//! ```text
//! claim ── stage, sync ── Replace (the decision) ── rename each over the old file ── sync ── Replaced ── progress.json
//! ```
//!
//! Each staged file can be moved once. So a run that slept through its own replacement, and wakes up after the next
//! run has replaced the interval again, moves nothing. Files that the new rows no longer need are replaced by files
//! without rows, in the same way; nothing is ever removed.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};

use crate::checkpoint::decide;
use crate::checkpoint::log::LogError;
use crate::checkpoint::log::claims;
use crate::checkpoint::output::SharedOutput;
use crate::checkpoint::output::files::{Files, adopt_format1};
use crate::checkpoint::owner::{self, Claim, Owner};
use crate::checkpoint::progress::{Progress, progress_beside, write_progress as tell};
use crate::checkpoint::record::FileCommit;
use crate::faults::{Faults, Guard, Moment, NoFaults, Step, step};
use crate::pipeline::batch::delta;
use crate::pipeline::batch::log::{BatchLog, Record, Replace, Written};
use crate::pipeline::batch::versions;
use crate::pipeline::error::{JobError, Reason};
use crate::sink::footer;
use crate::storage::location::Location;
use crate::storage::paths::{self, format1};
use crate::storage::{SharedStore, StagedFacts, StoreError, Superseded};

/// What a person does about an output of another log.
const OTHER_PATH: &str = "give one of the two jobs another sink.path; if the other one is gone for good, or its checkpoint is, \
     --new-log takes the table over";

/// Whether the output is free for a job that has no log yet.
pub(super) async fn check_free(output: &SharedStore, ours: &str) -> Result<(), JobError> {
    claims::check_free(&shared(output), None, ours).await.map_err(owned)
}

fn shared(output: &SharedStore) -> SharedOutput {
    Files::shared(SharedStore::clone(output), Arc::new(NoFaults))
}

/// Claims the output, before the first file is staged there.
pub(crate) async fn claim(
    log: &BatchLog,
    output: &SharedStore,
    take_over: bool,
    faults: &dyn Faults,
) -> Result<(), JobError> {
    let us = us(log);
    if !faults.guard(Guard::Claim) {
        return Ok(());
    }
    if !take_over {
        claims::check_free(&shared(output), Some(&us.log_id), &us.job).await.map_err(owned)?;
    }
    match step(faults, Step::Claim, owner::claim(output, &us, take_over)).await? {
        Claim::Ours { .. } => Ok(()),
        Claim::Other(other) => {
            Err(owned(LogError::OutputOwned { root: output.root().to_owned(), owner: other.owner, ours: us.job }))
        }
    }
}

fn us(log: &BatchLog) -> Owner {
    let start = &log.state.start;
    let job = format!("{}/{}", start.namespace, start.job);
    Owner { log_id: start.log_id.clone(), job, checkpoint: log.store.root().to_owned() }
}

/// An output of another log is not continued by accident.
pub(crate) fn owned(error: LogError) -> JobError {
    match &error {
        LogError::OutputOwned { root, owner, ours } if owner.job.is_empty() || owner.job == *ours => JobError::user(
            Reason::CheckpointMissing,
            format!("the output {root} was written by the log {}, which is not in this checkpoint", owner.log_id),
            "bring the checkpoint back; or choose another sink.path; or accept the output as it is: --new-log begins a new log \
             over it",
        ),
        LogError::OutputOwned { .. } => JobError { cure: OTHER_PATH.to_owned(), ..error.into() },
        _ => error.into(),
    }
}

/// Whether the output is this log's.
async fn owns(log: &BatchLog, output: &SharedStore) -> Result<bool, StoreError> {
    Ok(owner::newest(output).await?.is_some_and(|owned| owned.owner.log_id == log.state.start.log_id))
}

/// Files of an interval that readers see, of those that end so: by the name that they begin with, or by what this log wrote into them when the
/// job had another name.
pub(super) async fn files_of(
    output: &SharedStore,
    log_id: &str,
    name: &str,
    interval: String,
    ending: &str,
) -> Result<Vec<String>, JobError> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_named = |rest: &str| rest.is_empty() || rest.strip_prefix('-').is_some_and(is_number);
    let mut files = Vec::new();
    for entry in output.list("").await? {
        if paths::visible_ending(&entry.path) != Some(ending) {
            continue;
        }
        let file = entry.path.rsplit('/').next().unwrap_or_default();
        let Some(stem) = file.strip_suffix(ending).and_then(|stem| stem.strip_suffix('.')) else { continue };
        let is_of_interval = || stem.rfind(&interval).is_some_and(|at| is_named(&stem[at + interval.len()..]));
        let is_ours = stem.strip_prefix(name).is_some_and(is_named)
            || is_of_interval() && written_by(output, &entry.path).await?.as_deref() == Some(log_id);
        if is_ours {
            files.push(entry.path);
        }
    }
    Ok(files)
}

/// The log that wrote a file, as its footer says; text has none.
async fn written_by(output: &SharedStore, path: &str) -> Result<Option<String>, StoreError> {
    if paths::visible_ending(path) != Some(paths::PARQUET) {
        return Ok(None);
    }
    let facts = footer::of_file(output, path).await?;
    Ok(facts.and_then(Result::ok).and_then(|facts| facts.footer).map(|footer| footer.log_id))
}

/// Makes what is decided visible, if anything is, and tells until when the outputs are complete. `noted`: what is known of
/// files that this process has just written to Delta tables, by output.
pub(crate) async fn publish(
    log: &mut BatchLog,
    outputs: &[SharedStore],
    noted: &[delta::Noted],
    faults: &Arc<dyn Faults>,
) -> Result<(), JobError> {
    if let Some(pending) = log.state.pending.clone() {
        let unknown = delta::Noted::new();
        for (index, written) in pending.written().enumerate() {
            let place = place_of(log, written, outputs, faults).await?;
            let noted = noted.get(index).unwrap_or(&unknown);
            match delta::url(&written.root) {
                (_, true) => delta::publish(log, &pending, written, &place, noted, &**faults).await?,
                (_, false) => move_files(log, written, &place, &**faults).await?,
            }
        }
        let epoch = log.epoch();
        step(&**faults, Step::Published, log.add(Record::Replaced { epoch }, &**faults)).await?;
    }
    for output in outputs {
        write_progress(log, output, &**faults).await?;
    }
    Ok(())
}

/// Where a decided interval becomes visible: where the output is to lie now, if its files are there, else where it was
/// decided. Only in a table of ours.
async fn place_of(
    log: &BatchLog,
    written: &Written,
    outputs: &[SharedStore],
    faults: &Arc<dyn Faults>,
) -> Result<SharedStore, JobError> {
    let (root, _) = delta::url(&written.root);
    if let Some(output) = outputs.iter().find(|output| output.root() == root) {
        if faults.guard(Guard::Claim) && !owns(log, output).await? {
            return Err(taken(log, output).await);
        }
        return Ok(SharedStore::clone(output));
    }
    // A table that was moved. No two staged files of a log have one name.
    for output in outputs {
        if holds(log, written, output).await? {
            return Ok(SharedStore::clone(output));
        }
    }
    if let Ok(decided) = Location::of_root(root).and_then(|location| location.open_table(faults))
        && matches!(holds(log, written, &decided).await, Ok(true))
    {
        return Ok(decided);
    }
    let path = written.files.first().map_or("", |file| file.path.as_str());
    Err(lost(log, root, path).await)
}

/// Whether a table is this log's and has every file of a decision, staged or published.
async fn holds(log: &BatchLog, written: &Written, output: &SharedStore) -> Result<bool, StoreError> {
    let is_ours = owns(log, output).await?;
    for file in &written.files {
        // Format 1 did not claim its tables.
        let may_be_here = is_ours || format1::is_stage(&file.stage);
        let is_there =
            may_be_here && (output.length(&file.stage).await? == Some(file.bytes) || is_there(output, file).await?);
        if !is_there {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn is_there(output: &SharedStore, file: &FileCommit) -> Result<bool, StoreError> {
    Ok(output.length(&file.path).await? == Some(file.bytes)
        && output.facts(&file.path).await?.is_some_and(|found| is_as_written(&found, file)))
}

fn is_as_written(found: &StagedFacts, file: &FileCommit) -> bool {
    found.bytes == file.bytes && found.xxh3 == file.xxh3
}

async fn taken(log: &BatchLog, output: &SharedStore) -> JobError {
    match owner::newest(output).await {
        Ok(Some(owned)) => LogError::OutputTaken { root: output.root().to_owned(), owner: owned.owner }.into(),
        Ok(None) => lost(log, output.root(), "").await,
        Err(error) => error.into(),
    }
}

async fn move_files(
    log: &BatchLog,
    written: &Written,
    output: &SharedStore,
    faults: &dyn Faults,
) -> Result<(), JobError> {
    let moved = stream::iter(&written.files).map(|file| move_file(log, file, output, faults));
    moved.buffer_unordered(output.side_by_side()).try_collect::<()>().await?;
    let paths: Vec<_> = written.files.iter().map(|file| file.path.clone()).collect();
    step(faults, Step::SyncPublished, output.sync_entries(&paths)).await?;
    Ok(())
}

async fn move_file(
    log: &BatchLog,
    file: &FileCommit,
    output: &SharedStore,
    faults: &dyn Faults,
) -> Result<(), JobError> {
    // What somebody else wrote there must not replace what readers see.
    if !log.is_decided_here() && output.facts(&file.stage).await?.is_some_and(|found| !is_as_written(&found, file)) {
        return Err(lost(log, output.root(), &file.path).await);
    }
    faults.reached(Step::Publish, Moment::Before);
    let moved = output.supersede(&file.stage, &file.path).await?;
    faults.reached(Step::Publish, Moment::After);
    if moved != Superseded::Yes && !is_there(output, file).await? {
        return Err(lost(log, output.root(), &file.path).await);
    }
    Ok(())
}

/// The staged file is gone and its place holds something else: either somebody else has the job and went on, or somebody
/// touched the output.
async fn lost(log: &BatchLog, root: &str, path: &str) -> JobError {
    match BatchLog::read(log.store.clone()).await {
        Ok(Some(now)) if now.epoch() != log.epoch() => return fenced(&now),
        // Who has the job now is not known: a store that does not answer is no reason to give up for good.
        Err(error) => return error,
        Ok(_) => {}
    }
    JobError::user(
        Reason::OutputChanged,
        format!("{root}/{path} is not the file that was decided, and its staged file is gone or changed"),
        "somebody changed the output folder: put the file back; or move the folders batch-log and batch-base of the checkpoint \
         away, and run the interval again with --new-log",
    )
}

/// Another run has the turn.
pub(crate) fn fenced(now: &BatchLog) -> JobError {
    let place = now.state.owner.as_ref().map_or_else(|| "another run".to_owned(), |own| own.place.clone());
    JobError {
        reason: Reason::Fenced,
        message: format!("another run has taken this job over: {place}"),
        cure: "nothing: the other run goes on".to_owned(),
        retry: crate::pipeline::error::Retry::Fenced,
    }
}

async fn write_progress(log: &BatchLog, output: &SharedStore, faults: &dyn Faults) -> Result<(), JobError> {
    versions::write(output, &log.state).await?;
    let (until, finished) = (log.state.complete_until(), log.state.finished_times());
    let progress = Progress {
        log_id: log.state.start.log_id.clone(),
        published: log.state.version,
        watermark: until,
        complete_until: until,
        finished,
    };
    let told = progress_beside(output).await?;
    let is_told = told.is_some_and(|told| {
        told.log_id == progress.log_id && told.complete_until == until && told.finished == progress.finished
    });
    if progress.finished.is_empty() || is_told {
        return Ok(());
    }
    step(faults, Step::Progress, tell(output, &progress)).await?;
    Ok(())
}

/// Removes what runs staged that no longer have the turn, and what format 1 left in the table's folder.
pub(crate) async fn collect_staging(log: &BatchLog, output: &SharedStore, faults: &dyn Faults) -> Result<(), JobError> {
    let log_id = &log.state.start.log_id;
    let pending: BTreeSet<_> =
        log.state.pending.iter().flat_map(Replace::files).map(|file| file.stage.clone()).collect();
    faults.reached(Step::CollectStaging, Moment::Before);
    let listed = output.list(paths::STAGING).await?;
    let mut garbage = decide::garbage_staging(&listed, log_id, log.epoch(), &pending);
    if owns(log, output).await? {
        garbage.extend(decide::garbage_of_others(&listed, log_id));
    }
    output.delete_all(&garbage).await?;
    output.delete_empty_folders(paths::STAGING).await?;
    output.delete_left_over().await?;
    log.store.delete_left_over().await?;
    adopt_format1(output, &pending).await?;
    faults.reached(Step::CollectStaging, Moment::After);
    Ok(())
}
