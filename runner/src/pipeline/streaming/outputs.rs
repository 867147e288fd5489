//! The outputs of a job when it starts: that they are places of their own, nobody else's, and can be written.

use crate::checkpoint::log::{JobLog, LogAccess, LogError, claims};
use crate::pipeline::error::{JobError, Reason};
use crate::pipeline::places;
use crate::pipeline::streaming::{BadRecords, Environment, StreamingSettings};
use crate::sink::{Sink, SinkPlan};
use crate::storage::location::Location;

/// No two outputs in one folder, and none where the checkpoint lies.
pub(super) fn check_places(settings: &StreamingSettings, access: &LogAccess) -> Result<(), JobError> {
    let mut all = vec![("the checkpoint".to_owned(), settings.checkpoint_location.clone())];
    for (name, root) in &settings.plan.outputs {
        if (access.open_output)(root)?.files().is_some() {
            all.push((format!("the table {name}"), Location::of_root(root)?));
        }
    }
    places::refuse_overlaps(&all)
}

/// No output lies where a table of another kind does.
pub(super) async fn check_kinds(settings: &StreamingSettings, access: &LogAccess) -> Result<(), JobError> {
    for root in settings.plan.outputs.values() {
        (access.open_output)(root)?.check_kind().await?;
    }
    Ok(())
}

/// Whether every output is free for a job that has no log yet.
pub(super) async fn check_free(settings: &StreamingSettings, access: &LogAccess) -> Result<(), JobError> {
    if settings.new_log {
        return Ok(());
    }
    let ours = format!("{}/{}", settings.namespace, settings.checkpoint);
    for root in settings.plan.outputs.values() {
        let output = (access.open_output)(root)?;
        let checked = claims::check_free(&output, None, &ours).await;
        checked.map_err(|error| owned(&settings.checkpoint_location, error))?;
    }
    Ok(())
}

/// What becomes of the rows of a job that runs.
pub(super) struct Sinks {
    /// In the order of the job's flows.
    pub(super) flows: Vec<Box<dyn Sink>>,
    /// Where dead letters go, if they are kept.
    pub(super) dead_letters: Option<Box<dyn Sink>>,
}

impl Sinks {
    /// Begins to use them.
    pub(super) fn open(
        settings: &StreamingSettings,
        environment: &Environment,
        log: &mut JobLog,
    ) -> Result<Self, JobError> {
        let mut open = |name: &str, plan: &SinkPlan| -> Result<Box<dyn Sink>, JobError> {
            let output = log.output(&settings.plan.outputs[name])?;
            Ok(plan.open(output, &*settings.producers, &environment.faults)?)
        };
        let flows = settings.flows.iter().map(|flow| open(&flow.output, &flow.writes)).collect::<Result<_, _>>()?;
        let dead_letters = match (&settings.bad_records, &settings.plan.dead_letters) {
            (BadRecords::Keep(plan), Some(name)) => Some(open(name, plan)?),
            _ => None,
        };
        Ok(Self { flows, dead_letters })
    }

    /// Every output that has its rows at once can be written. One for dead letters comes into being with the first letter.
    pub(super) async fn probe(&self) -> Result<(), JobError> {
        for sink in &self.flows {
            sink.probe().await?;
        }
        Ok(())
    }

    /// Tells the readers of each output what its columns are.
    pub(super) async fn describe(&self) -> Result<(), JobError> {
        for sink in self.flows.iter().chain(&self.dead_letters) {
            sink.describe().await?;
        }
        Ok(())
    }
}

/// An output of another log is not continued by accident: its rows would come twice or be missing.
pub(crate) fn owned(checkpoint: &Location, error: LogError) -> JobError {
    let LogError::OutputOwned { root, owner, ours } = &error else { return error.into() };
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
