//! Replacing an interval in the output: files are staged, the log decides, and only then they take their final names.
//!
//! ```text
//! stage, sync ── Replace (the decision) ── rename each over the old file ── sync ── Replaced ── _progress.json
//! ```
//!
//! Each staged file can be moved once. So a run that slept through its own replacement, and wakes up after the next
//! run has replaced the interval again, moves nothing. Files that the new rows no longer need are replaced by files
//! without rows, in the same way; nothing is ever removed.

use crate::checkpoint::log::{Progress, read_progress};
use crate::checkpoint::paths;
use crate::checkpoint::record::checksum;
use crate::checkpoint::store::{SharedStore, Superseded};
use crate::faults::{Faults, Moment, Step, step};
use crate::pipeline::batch::log::{BatchLog, Record, Replace};
use crate::pipeline::error::{JobError, Reason};

/// Folder of the staged files of an attempt, below the output.
pub(crate) fn staging(log_id: &str, epoch: u64, version: u64) -> String {
    format!("{}/{}-{epoch}/{version}", paths::STAGING, short(log_id))
}

fn short(log_id: &str) -> &str {
    log_id.get(..8).unwrap_or(log_id)
}

/// Files of an interval that readers see, by the name that they begin with.
pub(crate) async fn files_of(output: &SharedStore, name: &str) -> Result<Vec<String>, JobError> {
    let is_of_interval = |path: &str| {
        let file = path.rsplit('/').next().unwrap_or_default();
        let rest = file.strip_prefix(name).and_then(|rest| rest.strip_suffix(".parquet"));
        paths::is_visible(path)
            && rest.is_some_and(|rest| {
                rest.is_empty() || rest.strip_prefix('-').is_some_and(|number| number.parse::<usize>().is_ok())
            })
    };
    let entries = output.list("").await?;
    Ok(entries.into_iter().map(|entry| entry.path).filter(|path| is_of_interval(path)).collect())
}

/// Makes what is decided visible, if anything is, and tells until when the output is complete.
pub(crate) async fn publish(log: &mut BatchLog, output: &SharedStore, faults: &dyn Faults) -> Result<(), JobError> {
    if let Some(pending) = log.state.pending.clone() {
        move_files(log, &pending, output, faults).await?;
        let epoch = log.epoch();
        step(faults, Step::Published, log.add(Record::Replaced { epoch })).await?;
    }
    write_progress(log, output, faults).await
}

async fn move_files(
    log: &BatchLog,
    pending: &Replace,
    output: &SharedStore,
    faults: &dyn Faults,
) -> Result<(), JobError> {
    for file in &pending.files {
        faults.reached(Step::Publish, Moment::Before);
        let moved = output.supersede(&file.stage, &file.path).await?;
        faults.reached(Step::Publish, Moment::After);
        let is_there = moved == Superseded::Yes
            || output.get(&file.path).await?.is_some_and(|content| checksum(&content) == file.xxh3);
        if !is_there {
            return Err(lost(log, output, &file.path).await);
        }
    }
    let paths: Vec<_> = pending.files.iter().map(|file| file.path.clone()).collect();
    step(faults, Step::SyncPublished, output.sync_entries(&paths)).await?;
    Ok(())
}

/// The staged file is gone and its place holds something else: either somebody else has the job and went on, or somebody
/// touched the output.
async fn lost(log: &BatchLog, output: &SharedStore, path: &str) -> JobError {
    let now = BatchLog::read(log.store.clone()).await;
    if let Ok(Some(now)) = now
        && now.epoch() != log.epoch()
    {
        return fenced(&now);
    }
    JobError::user(
        Reason::OutputChanged,
        format!("{}/{path} is not the file that was decided, and its staged file is gone", output.root()),
        "somebody changed the output folder: put the file back, or run the interval again after moving the folders \
         batch-log and batch-base of the checkpoint away",
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
    let (until, finished) = (log.state.complete_until(), log.state.finished_times());
    let progress = Progress {
        log_id: log.state.start.log_id.clone(),
        published: log.state.version,
        watermark: until,
        complete_until: until,
        finished,
    };
    let told = read_progress(output).await?;
    let is_told = told.is_some_and(|told| {
        told.log_id == progress.log_id && told.complete_until == until && told.finished == progress.finished
    });
    if progress.finished.is_empty() || is_told {
        return Ok(());
    }
    let bytes = serde_json::to_vec(&progress).expect("plain fields are always JSON");
    step(faults, Step::Progress, output.replace(paths::PROGRESS, bytes.into())).await?;
    Ok(())
}

/// Removes what runs staged that no longer have the turn.
pub(crate) async fn collect_staging(log: &BatchLog, output: &SharedStore, faults: &dyn Faults) -> Result<(), JobError> {
    let ours = format!("{}/{}-", paths::STAGING, short(&log.state.start.log_id));
    faults.reached(Step::CollectStaging, Moment::Before);
    for entry in output.list(paths::STAGING).await? {
        let epoch = entry.path.strip_prefix(&ours).and_then(|rest| rest.split('/').next()?.parse::<u64>().ok());
        if epoch.is_some_and(|epoch| epoch < log.epoch()) {
            output.delete(&entry.path).await?;
            let mut folder = entry.path.as_str();
            while let Some((parent, _)) = folder.rsplit_once('/') {
                output.delete_empty_folder(parent).await?;
                folder = parent;
            }
        }
    }
    faults.reached(Step::CollectStaging, Moment::After);
    Ok(())
}
