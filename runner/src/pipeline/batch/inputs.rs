//! The inputs of a batch run: whether they are complete for an interval, and the tables that the query reads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use data_platform_crds::batch_job::CompleteBy;

use crate::checkpoint::log::read_progress;
use crate::checkpoint::store::open::Location;
use crate::clock::show_time;
use crate::faults::Faults;
use crate::pipeline::batch::interval::Interval;
use crate::pipeline::batch::turn::interrupted;
use crate::pipeline::error::{JobError, Reason};
use crate::source::table_files::{Table, TimeRange};
use crate::stop::StopSignal;
use crate::transform::InputTables;

/// How often an input that is not complete is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// An input, placed.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub(crate) name: String,
    pub(crate) location: Location,
    pub(crate) time_column: Option<String>,
    pub(crate) date_column: String,
    pub(crate) complete_by: CompleteBy,
}

/// Why an input is not complete for an interval, in words. `None`: it is.
///
/// `until` is what `_progress.json` of the input says: `None` without one, `Some(None)` before the first watermark.
pub(crate) fn incomplete(input: &str, until: Option<Option<i64>>, interval: Interval, now: i64) -> Option<String> {
    if now < interval.end {
        return Some(format!("the interval ends only at {}", show_time(interval.end)));
    }
    match until {
        Some(Some(until)) if until >= interval.end => None,
        Some(Some(until)) => Some(format!(
            "{input} is complete until {}, and the interval ends at {}",
            show_time(until),
            show_time(interval.end)
        )),
        Some(None) => Some(format!("the job that writes {input} has no watermark yet")),
        None => Some(format!("{input} has no _progress.json: no job has written it")),
    }
}

/// Waits until every input is complete for an interval.
pub(crate) struct Waiting<'a> {
    pub(crate) inputs: &'a [Input],
    pub(crate) deadline: Instant,
    pub(crate) stop: &'a StopSignal,
    pub(crate) faults: &'a Arc<dyn Faults>,
    pub(crate) now: &'a dyn Fn() -> i64,
    /// Is told what it waits for.
    pub(crate) tell: &'a dyn Fn(&str),
}

impl Waiting<'_> {
    pub(crate) async fn wait(&self, interval: Interval) -> Result<(), JobError> {
        let mut told = String::new();
        loop {
            let Some(why) = self.incomplete(interval).await? else { return Ok(()) };
            if Instant::now() >= self.deadline {
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
            if self.stop.wait(LOOK.min(self.deadline.saturating_duration_since(Instant::now()))) {
                return Err(interrupted());
            }
        }
    }

    async fn incomplete(&self, interval: Interval) -> Result<Option<String>, JobError> {
        for input in self.inputs.iter().filter(|input| input.time_column.is_some()) {
            let until = match input.complete_by {
                CompleteBy::Clock => Some(Some(i64::MAX)),
                CompleteBy::Progress => {
                    let store = input.location.open(self.faults)?;
                    read_progress(&store).await?.map(|progress| progress.complete_until)
                }
            };
            if let Some(why) = incomplete(&input.name, until, interval, (self.now)()) {
                return Ok(Some(why));
            }
        }
        Ok(None)
    }
}

/// Opens the tables as they are now. `None`: one of them has never had a file, so nobody knows its columns, and there is
/// no row.
pub(crate) fn open(inputs: &[Input], interval: Interval) -> Result<Option<InputTables>, JobError> {
    let mut tables = InputTables::new();
    for input in inputs {
        let Some(folder) = input.location.folder() else {
            let message = format!("{} does not lie in a folder", input.location);
            return Err(JobError::user(Reason::NotSupported, message, "write a path below the outputs folder"));
        };
        let range = input.time_column.as_ref().map(|column| TimeRange {
            column: column.clone(),
            start: interval.start,
            end: interval.end,
            date_column: input.date_column.clone(),
        });
        let table = Table::new(folder.to_owned()).open(range).map_err(|error| {
            let message = format!("the input {} cannot be read: {}", input.name, error.find_root().strip_backtrace());
            JobError::user(Reason::QueryFailed, message, "correct inputs, or the table")
        })?;
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
    fn an_input_is_complete_when_its_job_is_past_the_end() {
        let interval = Interval { start: 100, end: 200 };
        for (until, now, expected) in [
            (Some(Some(200)), 200, None),
            (Some(Some(199)), 1_000, Some("t is complete until 1970-01-01T00:00:00.000Z, and the interval ends at")),
            (Some(None), 1_000, Some("the job that writes t has no watermark yet")),
            (None, 1_000, Some("t has no _progress.json")),
            (Some(Some(i64::MAX)), 199, Some("the interval ends only at")),
        ] {
            let found = incomplete("t", until, interval, now);
            assert_eq!(found.is_some(), expected.is_some(), "{until:?} {now}");
            assert!(found.unwrap_or_default().starts_with(expected.unwrap_or_default()), "{until:?} {now}");
        }
    }
}
