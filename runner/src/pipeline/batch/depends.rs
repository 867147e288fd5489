//! Jobs that must have finished an interval before this one begins it, though it does not read their tables.

use std::sync::Arc;

use data_platform_crds::batch_job::DependencyKind;

use crate::checkpoint::log::read;
use crate::clock::show_time;
use crate::faults::Faults;
use crate::pipeline::batch::interval::Interval;
use crate::pipeline::batch::log::BatchLog;
use crate::pipeline::error::JobError;
use crate::storage::location::Location;

/// A job that this one depends on.
#[derive(Clone, Debug)]
pub(crate) struct Dependency {
    pub(crate) kind: DependencyKind,
    pub(crate) name: String,
    /// Where its log lies.
    pub(crate) checkpoint: Location,
}

impl Dependency {
    /// Why the interval must wait for it, in words. `None`: it need not.
    pub(crate) async fn unfinished(
        &self,
        interval: Interval,
        faults: &Arc<dyn Faults>,
    ) -> Result<Option<String>, JobError> {
        let store = self.checkpoint.open(faults)?;
        let (name, end) = (&self.name, show_time(interval.end));
        let none = || Some(format!("the job {name}, which this one depends on, has no log in {}", self.checkpoint));
        Ok(match self.kind {
            DependencyKind::BatchJob => match BatchLog::read(store).await? {
                None => none(),
                Some(log) if log.state.finished.contains(interval) => None,
                Some(_) => {
                    let start = show_time(interval.start);
                    Some(format!("the job {name}, which this one depends on, has not finished {start} to {end}"))
                }
            },
            DependencyKind::StreamingJob => match read::read(&store).await? {
                None => none(),
                Some(read) => match read.state.watermark {
                    Some(watermark) if watermark >= interval.end => None,
                    Some(watermark) => {
                        let until = show_time(watermark);
                        Some(format!(
                            "the job {name}, which this one depends on, is at {until}, and the interval ends at {end}"
                        ))
                    }
                    None => Some(format!("the job {name}, which this one depends on, has no watermark yet")),
                },
            },
        })
    }
}
