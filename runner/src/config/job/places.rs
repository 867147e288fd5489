//! Where the log, the outputs and the dead letters of a job lie.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{PlannedJob, RunOptions};
use crate::config::asked::folder_name;
use crate::faults::{Faults, NoFaults};
use crate::pipeline::error::{JobError, Reason};
use crate::pipeline::job_plan::Flow;
use crate::storage::location::Location;

impl PlannedJob {
    /// Where the job's log and state lie.
    pub fn checkpoint_location(&self, options: &RunOptions) -> Location {
        options.checkpoints.join(&options.namespace).join(self.checkpoint())
    }

    /// The root of an output, as it stands in the job log.
    ///
    /// # Errors
    /// When its path cannot be read.
    pub(super) fn root(&self, flow: &Flow, options: &RunOptions) -> Result<String, JobError> {
        match flow.writes.root() {
            Some(root) => Ok(root),
            None => Ok(flow.writes.root_at(root_url(&location(flow, &options.outputs)?)?)),
        }
    }

    /// Where the rows of an output go, for people.
    ///
    /// # Errors
    /// When its path cannot be read.
    pub fn place(&self, flow: &Flow, options: &RunOptions) -> Result<String, JobError> {
        flow.writes.root().map_or_else(|| Ok(location(flow, &options.outputs)?.to_string()), Ok)
    }

    /// The folder of the dead letters.
    ///
    /// # Errors
    /// When the path cannot be read.
    pub(in crate::config) fn dead_letters_location(&self, outputs: &Location) -> Result<Location, JobError> {
        if let Some(path) = &self.loaded.job.spec.bad_records.path {
            return Ok(Location::resolve(path, outputs)?);
        }
        // Beside the first table and called by it; of a job without one, where tables lie and called by the job: several jobs
        // may write to one topic.
        match self.flows.iter().find(|flow| flow.writes.root().is_none()) {
            Some(table) => {
                let name = format!("{}_dead_letters", folder_name(&table.sink));
                Ok(location(table, outputs)?.beside(&name))
            }
            None => Ok(Location::resolve(&format!("{}_dead_letters", self.name()), outputs)?),
        }
    }
}

/// The folder of the table of an output.
pub(in crate::config) fn location(flow: &Flow, outputs: &Location) -> Result<Location, JobError> {
    Ok(Location::resolve(flow.sink.path.as_deref().unwrap_or_default(), outputs)?)
}

/// Two outputs in one folder would be one table.
pub(super) fn two_at_one_place(outputs: &BTreeMap<String, String>) -> Result<(), JobError> {
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, root) in outputs {
        if let Some(other) = names.insert(root, name) {
            let problem = format!("the outputs {other} and {name} lie at one place: {root}");
            return Err(JobError::user(Reason::InvalidSpec, problem, "give each output a folder or topic of its own"));
        }
    }
    Ok(())
}

/// The root as the store writes it into the log.
pub(super) fn root_url(location: &Location) -> Result<String, JobError> {
    let faults: Arc<dyn Faults> = Arc::new(NoFaults);
    Ok(location.open_table(&faults)?.root().to_owned())
}
