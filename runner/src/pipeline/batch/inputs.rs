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
use crate::pipeline::batch::versions::{self, Reads};
use crate::pipeline::error::{JobError, Reason};
use crate::stop::StopSignal;
use crate::storage::StoreError;
use crate::storage::location::Location;
use crate::tables::schema::TableSchema;
use crate::tables::{Kind, Place, Table, TimeRange, store_error};
use crate::transform::InputTables;

/// How often an input that is not complete is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What a person does about an input that stays incomplete.
const INCOMPLETE_CURE: &str = "it is tried again; look at the job that writes the input (is it running, does a partition hold its \
     watermark back?), or set completeBy: clock for a table that no job of this kind writes";

/// What a person does about an input that stays missing.
const MISSING_CURE: &str = "it is tried again; correct inputs[].path (or OUTPUTS_DIR, below which it lies), or start what writes it; \
     with allowEmpty: true a table that is not there yet is one without rows";

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
    /// One that nobody has written yet is one without rows.
    pub(crate) allow_empty: bool,
}

impl Input {
    /// The job that writes it tells how far it is, and a run waits for that.
    pub(crate) fn is_told(&self) -> bool {
        self.time_column.is_some() && self.complete_by == CompleteBy::Progress
    }

    /// Nobody has written it, and that is in order. `told`: what stands beside it.
    pub(crate) fn is_empty(&self, told: Option<&Progress>) -> Result<bool, JobError> {
        if !self.allow_empty || told.is_some() {
            return Ok(false);
        }
        let files = self.table()?.files();
        Ok(files.map_err(|error| cannot_read(&format!("the input {}", self.name), &error))?.is_empty())
    }

    /// Why it cannot be read, in words.
    fn missing(&self) -> String {
        format!("the input {} is not there: {} has no file, and no job tells of it", self.name, self.location)
    }

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
    /// Waits for what is read: `times`, and for the jobs that must have finished the interval. Gives the tables, and which
    /// versions they have.
    pub(crate) async fn wait(&self, interval: Interval, times: Interval) -> Result<(Tables, Reads), JobError> {
        let mut told = String::new();
        loop {
            let mut why = self.incomplete(times).await?.map(|why| (why, INCOMPLETE_CURE));
            for dependency in self.depends_on {
                why = match why {
                    Some(why) => Some(why),
                    None => dependency.unfinished(interval, self.faults).await?.map(|why| (why, INCOMPLETE_CURE)),
                };
            }
            if why.is_none() && self.stop.is_stopped() {
                return Err(interrupted());
            }
            let (why, cure) = match why {
                Some(why) => why,
                None => {
                    // Before the rows: what is replaced while they are read counts as not read.
                    let reads = versions::of_inputs(self.inputs, times, self.faults).await?;
                    match open(self.inputs, times)? {
                        Tables::Missing(why) => (why, MISSING_CURE),
                        tables => return Ok((tables, reads)),
                    }
                }
            };
            if self.clock.instant() >= self.deadline {
                return Err(JobError::passing(Reason::InputIncomplete, why, cure));
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
        for input in self.inputs.iter().filter(|input| input.is_told()) {
            let told = read_progress(&input.location.open_table(self.faults)?).await?;
            if let Some(why) = incomplete(&input.name, told.as_ref(), interval)
                && !input.is_empty(told.as_ref())?
            {
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

/// The tables of a run, opened.
pub(crate) enum Tables {
    Known(InputTables),
    /// Of one of them nobody knows the columns, since it has never had a file. So the query cannot be planned, and there is no
    /// row.
    WithoutColumns,
    /// One of them is not there, in words.
    Missing(String),
}

/// Opens the tables as they are now.
pub(crate) fn open(inputs: &[Input], interval: Interval) -> Result<Tables, JobError> {
    let (mut tables, mut are_known) = (InputTables::new(), true);
    for input in inputs {
        let range = input.time_column.as_ref().map(|column| TimeRange {
            column: column.clone(),
            start: interval.start,
            end: interval.end,
            date_column: input.date_column.clone(),
        });
        let table = input.table()?.open(range);
        let table = table.map_err(|error| cannot_read(&format!("the input {}", input.name), &error))?;
        match table.is_known() {
            // What its job tells of it was waited for.
            false if !input.allow_empty && !input.is_told() => return Ok(Tables::Missing(input.missing())),
            is_known => are_known &= is_known,
        }
        tables.insert(input.name.clone(), Arc::new(table));
    }
    Ok(if are_known { Tables::Known(tables) } else { Tables::WithoutColumns })
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
