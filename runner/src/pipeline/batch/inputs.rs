//! The inputs of a batch run: whether they are complete for an interval, and the tables that the query reads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use data_platform_crds::batch_job::CompleteBy;
use datafusion::error::DataFusionError;

use crate::checkpoint::progress::{Progress, read_progress};
use crate::clock::{Clock, show_time};
use crate::faults::Faults;
use crate::pipeline::batch::depends::Dependency;
use crate::pipeline::batch::interval::Interval;
use crate::pipeline::batch::turn::interrupted;
use crate::pipeline::error::{JobError, Reason};
use crate::stop::StopSignal;
use crate::storage::StoreError;
use crate::storage::location::Location;
use crate::tables::schema::TableSchema;
use crate::tables::{Kind, Place, Table, TimeRange, store_error};
use crate::transform::InputTables;

/// How often an input that is not complete is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// An input, placed.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub(crate) name: String,
    pub(crate) location: Location,
    /// Text of which nobody tells the types is read too.
    pub(crate) text: Option<Kind>,
    /// It is a Delta table.
    pub(crate) is_delta: bool,
    /// The types of its columns that the job declares.
    pub(crate) columns: TableSchema,
    pub(crate) time_column: Option<String>,
    pub(crate) date_column: Option<String>,
    pub(crate) complete_by: CompleteBy,
}

impl Input {
    /// Its table, not yet opened.
    fn table(&self) -> Result<Table, StoreError> {
        let table = Table::new(Place::of(&self.location)?).with_columns(self.columns.clone());
        let table = if self.is_delta { table.by_log() } else { table };
        Ok(self.text.into_iter().fold(table, Table::with_text))
    }
}

/// Why an input is not complete for an interval, in words, by what stands beside the input. `None`: it is.
fn incomplete(input: &str, told: Option<&Progress>, interval: Interval) -> Option<String> {
    let Some(told) = told else {
        return Some(format!("nothing beside {input} tells how far it is (no progress.json): no job has written it"));
    };
    if told.covers(interval.start, interval.end) {
        return None;
    }
    let (start, end) = (show_time(interval.start), show_time(interval.end));
    Some(match told.complete_until {
        Some(until) => format!("{input} is complete until {}, and the interval ends at {end}", show_time(until)),
        None if told.finished.is_empty() => format!("the job that writes {input} has no watermark yet"),
        None => format!("no run of the job that writes {input} has finished {start} to {end}"),
    })
}

/// Waits until every input is complete, and every job finished that this one depends on, for an interval.
pub(crate) struct Waiting<'a> {
    pub(crate) inputs: &'a [Input],
    pub(crate) depends_on: &'a [Dependency],
    pub(crate) deadline: Instant,
    pub(crate) stop: &'a StopSignal,
    pub(crate) faults: &'a Arc<dyn Faults>,
    pub(crate) clock: &'a dyn Clock,
    /// Is told what it waits for.
    pub(crate) tell: &'a dyn Fn(&str),
}

impl Waiting<'_> {
    /// Waits for what is read: `times`, and for the jobs that must have finished the interval.
    pub(crate) async fn wait(&self, interval: Interval, times: Interval) -> Result<(), JobError> {
        let mut told = String::new();
        loop {
            let mut why = self.incomplete(times).await?;
            for dependency in self.depends_on {
                why = match why {
                    Some(why) => Some(why),
                    None => dependency.unfinished(interval, self.faults).await?,
                };
            }
            let Some(why) = why else { return Ok(()) };
            if self.clock.instant() >= self.deadline {
                return Err(JobError::passing(
                    Reason::InputIncomplete,
                    why,
                    "it is tried again; look at the job that writes the input (is it running, does a partition hold its \
                     watermark back?), or set completeBy: clock for a table that no job of this kind writes",
                ));
            }
            if told != why {
                (self.tell)(&why);
                told = why;
            }
            if self.stop.wait(LOOK.min(self.deadline.saturating_duration_since(self.clock.instant()))) {
                return Err(interrupted());
            }
        }
    }

    async fn incomplete(&self, interval: Interval) -> Result<Option<String>, JobError> {
        if self.clock.now() < interval.end {
            return Ok(Some(format!("the interval ends only at {}", show_time(interval.end))));
        }
        let by_progress = |input: &&Input| input.time_column.is_some() && input.complete_by == CompleteBy::Progress;
        for input in self.inputs.iter().filter(by_progress) {
            let told = read_progress(&input.location.open_table(self.faults)?).await?;
            if let Some(why) = incomplete(&input.name, told.as_ref(), interval) {
                return Ok(Some(why));
            }
        }
        Ok(None)
    }
}

/// A table cannot be read.
pub(super) fn cannot_read(table: &str, error: &DataFusionError) -> JobError {
    if let Some(error) = store_error(error) {
        return JobError::from(error);
    }
    let problem = error.find_root().strip_backtrace();
    let problem = problem.strip_prefix("Execution error: ").unwrap_or(&problem);
    JobError::user(Reason::QueryFailed, format!("{table} cannot be read: {problem}"), "correct inputs, or the table")
}

/// Opens the tables as they are now. `None`: of one of them nobody knows the columns, since it has never had a file. So the query
/// cannot be planned, and there is no row.
pub(crate) fn open(inputs: &[Input], interval: Interval) -> Result<Option<InputTables>, JobError> {
    let mut tables = InputTables::new();
    for input in inputs {
        let range = input.time_column.as_ref().map(|column| TimeRange {
            column: column.clone(),
            start: interval.start,
            end: interval.end,
            date_column: input.date_column.clone(),
        });
        let table = input.table()?.open(range);
        let table = table.map_err(|error| cannot_read(&format!("the input {}", input.name), &error))?;
        if !table.is_known() {
            return Ok(None);
        }
        tables.insert(input.name.clone(), Arc::new(table));
    }
    Ok(Some(tables))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_complete_when_its_job_is_past_the_end_or_has_finished_just_this() {
        let interval = Interval { start: 100, end: 200 };
        let told = |complete_until: Option<i64>, finished: &[(i64, i64)]| Progress {
            log_id: String::new(),
            published: 1,
            watermark: complete_until,
            complete_until,
            finished: finished.to_vec(),
        };
        for (told, expected) in [
            (Some(told(Some(200), &[])), None),
            (
                Some(told(Some(199), &[])),
                Some("t is complete until 1970-01-01T00:00:00.000Z, and the interval ends at"),
            ),
            (Some(told(None, &[])), Some("the job that writes t has no watermark yet")),
            (None, Some("nothing beside t tells how far it is")),
            (Some(told(None, &[(100, 200)])), None),
            (Some(told(Some(50), &[(0, 50), (100, 300)])), None),
            // A run by hand says nothing of the hours before its own.
            (Some(told(None, &[(200, 300)])), Some("no run of the job that writes t has finished 1970")),
            (Some(told(None, &[(100, 150), (160, 200)])), Some("no run of the job that writes t has finished 1970")),
        ] {
            let found = incomplete("t", told.as_ref(), interval);
            assert_eq!(found.is_some(), expected.is_some(), "{told:?}");
            assert!(found.unwrap_or_default().starts_with(expected.unwrap_or_default()), "{told:?}");
        }
    }
}
