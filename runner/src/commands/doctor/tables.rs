//! Tables that the job reads: references of a streaming job, inputs of a batch job.

use std::sync::Arc;

use crate::checkpoint::progress::read_progress;
use crate::clock::{Clock, SystemClock, show_time};
use crate::commands::bytes;
use crate::commands::doctor::check::{Check, Outcome};
use crate::commands::error::CommandError;
use crate::config::batch::PlannedBatch;
use crate::config::job::{PlannedJob, RunOptions};
use crate::faults::{Faults, NoFaults};
use crate::pipeline::batch::Request;
use crate::pipeline::batch::inputs::{self, Input, Tables};
use crate::pipeline::batch::interval::Interval;
use crate::pipeline::error::{JobError, Reason};
use crate::pipeline::job_plan::ReferencePlan;

/// Each reference is read as the job would read it.
pub(super) fn references(planned: &PlannedJob, options: &RunOptions) -> Vec<Check> {
    let room = options.memory.references;
    let check = |plan: &ReferencePlan| {
        let (files, schema) = (plan.files.clone(), Arc::clone(&plan.schema));
        Check::one(planned.name(), format!("reference {}", files.name), Reason::ReferenceUnusable, move || async move {
            Outcome::from(files.load(&schema, room).map_err(JobError::from).map(|loaded| {
                let rows: usize = loaded.rows.iter().map(|batch| batch.num_rows()).sum();
                format!("{rows} rows, {} of {} that there are for references", bytes(loaded.bytes), bytes(room))
            }))
        })
    };
    planned.references.iter().map(check).collect()
}

/// Each input is opened as a run would open it.
pub(super) fn inputs(planned: &PlannedBatch, options: &RunOptions) -> Result<Vec<Check>, CommandError> {
    let settings = planned.settings(options, Request::Available, None)?;
    let check = |input: Input| {
        Check::one(planned.name(), format!("input {}", input.name), Reason::QueryFailed, move || async move {
            input_of(&input).await.unwrap_or_else(Outcome::Failed)
        })
    };
    Ok(settings.inputs.into_iter().map(check).collect())
}

async fn input_of(input: &Input) -> Result<Outcome, JobError> {
    let place = &input.location;
    let whole = Interval { start: 0, end: SystemClock.now() };
    let opened = inputs::open(std::slice::from_ref(input), whole)?;
    if !matches!(opened, Tables::Known(_)) && !input.allow_empty {
        return Ok(Outcome::Warning {
            message: format!("{place}: there is no file yet"),
            cure: "nothing, if the job that writes it has not begun; else correct inputs[].path or OUTPUTS_DIR"
                .to_owned(),
        });
    }
    let faults: Arc<dyn Faults> = Arc::new(NoFaults);
    let told = read_progress(&input.location.open_table(&faults)?).await?;
    let complete = match told.and_then(|told| told.complete_until) {
        Some(until) => format!("complete until {}", show_time(until)),
        None if input.time_column.is_none() => "read whole".to_owned(),
        None => "nobody tells how far it is".to_owned(),
    };
    Ok(Outcome::Ok(format!("{place}: {complete}")))
}
