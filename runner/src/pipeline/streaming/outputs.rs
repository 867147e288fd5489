//! The outputs of a job when it starts: that they are places of their own, nobody else's, and can be written.

use std::sync::Arc;

use crate::checkpoint::log::{JobLog, LogAccess, LogError, claims};
use crate::checkpoint::store::SharedStore;
use crate::checkpoint::store::open::Location;
use crate::pipeline::error::{JobError, Reason};
use crate::pipeline::places;
use crate::pipeline::streaming::{BadRecords, StreamingSettings};
use crate::sink::table::TableSettings;

/// No two outputs at one place, and none where the checkpoint lies.
pub(super) fn check_places(settings: &StreamingSettings) -> Result<(), JobError> {
    let mut all = vec![("the checkpoint".to_owned(), settings.checkpoint_location.clone())];
    for (name, root) in &settings.plan.outputs {
        all.push((format!("the table {name}"), Location::of_root(root)?));
    }
    places::refuse_overlaps(&all)
}

/// Whether every output is free for a job that has no log yet.
pub(super) async fn check_free(settings: &StreamingSettings, access: &LogAccess) -> Result<(), JobError> {
    if settings.new_log {
        return Ok(());
    }
    let ours = format!("{}/{}", settings.namespace, settings.checkpoint);
    for root in settings.plan.outputs.values() {
        let store = (access.open_output)(root)?;
        let checked = claims::check_free(&store, root, None, &ours).await;
        checked.map_err(|error| owned(settings, error))?;
    }
    Ok(())
}

/// Every table that has its files at once, and what lies beside the others, can be written.
pub(super) async fn probe(settings: &StreamingSettings, log: &mut JobLog) -> Result<(), JobError> {
    for (name, root) in &settings.plan.outputs {
        // A dead letter table comes into being with the first dead letter.
        if settings.plan.dead_letters.as_ref() != Some(name) {
            log.output(root)?.probe().await?;
        }
    }
    Ok(())
}

/// Tells the columns of each table beside it.
pub(super) async fn tell_columns(settings: &StreamingSettings, log: &mut JobLog) -> Result<(), JobError> {
    let dead_letters = match &settings.bad_records {
        BadRecords::Table(table) => Some(table),
        _ => None,
    };
    for table in settings.flows.iter().map(|flow| &flow.table).chain(dead_letters) {
        tell(settings, log, table).await?;
    }
    Ok(())
}

async fn tell(settings: &StreamingSettings, log: &mut JobLog, table: &Arc<TableSettings>) -> Result<(), JobError> {
    let Some(root) = settings.plan.outputs.get(&table.output) else { return Ok(()) };
    let store: SharedStore = log.output(root)?;
    Ok(table.columns().tell(&store).await?)
}

/// An output of another log is not continued by accident: its rows would come twice or be missing.
pub(super) fn owned(settings: &StreamingSettings, error: LogError) -> JobError {
    let LogError::OutputOwned { root, owner, ours } = &error else { return error.into() };
    let checkpoint = &settings.checkpoint_location;
    let new_log = "accept that records are read again or left out: --new-log begins a new log over the old output";
    if owner.job.is_empty() || owner.job == *ours {
        return JobError::user(
            Reason::CheckpointMissing,
            format!(
                "the output {root} was written by the job log {}, which is not in {checkpoint}: was the checkpoint removed, or \
                 does another job write there?",
                owner.log_id
            ),
            format!("bring the checkpoint back; or choose another sink.path; or {new_log}"),
        );
    }
    JobError::user(
        Reason::OutputOfOtherJob,
        format!("the output {root} belongs to the job {} (its log is {})", owner.job, owner.log_id),
        format!(
            "give one of the two jobs another sink.path (or badRecords.path); if that job is gone for good, or this is it under \
             another name, {new_log}"
        ),
    )
}
