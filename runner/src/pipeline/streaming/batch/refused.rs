//! What the queries and the outputs of a micro-batch refuse becomes dead letters, with its commit.

use std::collections::BTreeMap;

use data_platform_crds::source::BadRecordAction;
use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::TimestampMicrosecondType;
use datafusion::arrow::error::ArrowError;

use crate::clock::show_time;
use crate::pipeline::error::{JobError, Reason, without_values};
use crate::pipeline::streaming::batch::{BatchPlan, FlowWriter, Writers};
use crate::pipeline::streaming::start::Session;
use crate::sink::SinkError;
use crate::source::again::Refusals;
use crate::source::dead_letter::{self, QUERY};
use crate::source::places::Places;
use crate::source::reader::{Part, ReadSummary};
use crate::tables::hive::RefusedRows;
use crate::transform::{RefusedGroups, RefusedRow};

/// Characters of a reason in a dead letter: some functions put long texts into their errors.
const DETAIL_MAX: usize = 300;

/// Records that are refused, of one batch of one flow.
pub(super) struct RefusedRecords<'a> {
    /// The name of the output, where the job has several.
    pub(super) output: Option<&'a str>,
    pub(super) places: &'a Places,
    pub(super) rows: Vec<RefusedRow>,
}

impl RefusedRecords<'_> {
    /// Counts them, and notes those that become dead letters.
    pub(super) fn note(
        self,
        action: BadRecordAction,
        counters: &mut crate::counters::OutputCounters,
        refusals: &mut Refusals,
    ) -> Result<(), JobError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        *counters.dead_letter.entry(QUERY.to_owned()).or_default() += self.rows.len() as u64;
        for RefusedRow { row, why } in self.rows {
            let Some((topic, partition, offset)) = self.places.of(row) else { continue };
            let why = detail(self.output, &why);
            match action {
                BadRecordAction::Drop => {}
                BadRecordAction::Fail => {
                    let place = format!("{topic} partition {partition} offset {offset}");
                    return Err(refused_value(&format!("the record {place}"), &why));
                }
                BadRecordAction::DeadLetter => {
                    let offsets = refusals.or_insert(topic, partition, BTreeMap::new());
                    offsets.entry(offset).or_default().push(why);
                }
            }
        }
        Ok(())
    }
}

impl Session<'_> {
    /// Reads the records that a query refuses once more, and keeps them with the dead letters.
    pub(super) async fn keep_refused_records(
        &mut self,
        plan: &BatchPlan,
        summary: &ReadSummary,
        writers: &mut Writers,
    ) -> Result<(), JobError> {
        let refused = std::mem::take(&mut writers.refused);
        if refused.is_empty() {
            return Ok(());
        }
        let records: usize = refused.values().map(BTreeMap::len).sum();
        tracing::debug!(records, "reading again what the query refuses");
        let mut then = self.positions.clone();
        then.extend(plan.lost.iter().map(|(topic, partition, until)| (topic, partition, *until)));
        then.extend(summary.partitions.iter().map(|(topic, partition, read)| (topic, partition, read.end)));
        let reading = self.reader.read_again(refused, then)?;
        loop {
            match reading.next().map_err(|error| self.read_error(error))? {
                Part::DeadLetters(letters) => self.dead_letters(plan, &letters, writers).await?,
                Part::Rows { .. } => {}
                Part::Done(_) => return Ok(()),
            }
        }
    }

    /// Rows of results that the query or the output does not take become what bad records become.
    pub(super) async fn take_refused(&mut self, plan: &BatchPlan, writers: &mut Writers) -> Result<(), JobError> {
        let mut letters = Vec::new();
        let several = self.settings.flows.len() > 1;
        let action = self.settings.bad_records.action();
        for (sink, flow) in self.sinks.flows.iter().zip(&mut writers.flows) {
            let output = sink.name();
            for RefusedGroups { groups, why } in std::mem::take(&mut flow.refused) {
                let why = detail(several.then_some(output), &why);
                if action == BadRecordAction::Fail {
                    return Err(refused_value(&group(&groups), &why));
                }
                letters.extend(flow.refuse((action, output), &groups, QUERY, &why)?);
            }
            for refused in flow.stage.take_refused() {
                flow.counters.rows -= refused.rows.num_rows() as u64;
                if action == BadRecordAction::Fail {
                    return Err(refused_row(&refused));
                }
                letters.extend(flow.refuse((action, output), &refused.rows, RefusedRows::REASON, &refused.why)?);
            }
        }
        for letters in letters {
            self.dead_letters(plan, &letters, writers).await?;
        }
        Ok(())
    }
}

impl FlowWriter {
    /// Counts rows that are refused, and makes dead letters of them if they are to be kept.
    fn refuse(
        &mut self,
        (action, output): (BadRecordAction, &str),
        rows: &RecordBatch,
        reason: &str,
        why: &str,
    ) -> Result<Vec<RecordBatch>, JobError> {
        *self.counters.refused.entry(reason.to_owned()).or_default() += rows.num_rows() as u64;
        if action == BadRecordAction::Drop {
            return Ok(Vec::new());
        }
        let failed = |error: ArrowError| SinkError::Encode { output: output.to_owned(), problem: error.to_string() };
        Ok(dead_letter::of_rows(rows, reason, why).map_err(failed)?)
    }
}

/// A group of windows in words: its keys are values of records, and are not said.
fn group(groups: &RecordBatch) -> String {
    let edge = |column: usize| {
        let times = groups.columns().get(column)?.as_primitive_opt::<TimestampMicrosecondType>()?;
        (!times.is_empty() && times.is_valid(0)).then(|| show_time(times.value(0)))
    };
    match (edge(0), edge(1)) {
        (Some(start), Some(end)) => format!("a group of the window {start} to {end}"),
        _ => "a group of a window".to_owned(),
    }
}

/// What is said of a value that is refused, without the value.
fn detail(output: Option<&str>, why: &str) -> String {
    let why: String = without_values(why).chars().take(DETAIL_MAX).collect();
    output.map_or_else(|| why.clone(), |output| format!("output {output}: {why}"))
}

fn refused_value(what: &str, why: &str) -> JobError {
    JobError::user(
        Reason::QueryFailed,
        format!("the query refuses a value of {what}: {why}"),
        "set badRecords.action to deadLetter, and such records or groups are kept aside while the job goes on; or change the query so that it \
         takes every value (a CASE, try_cast, a WHERE)",
    )
}

fn refused_row(refused: &RefusedRows) -> JobError {
    JobError::user(
        Reason::BadRecord,
        format!("a row of the result cannot be written: {}", refused.why),
        "shorten the value in the query (left, substr) or partition by another column; or set badRecords.action to deadLetter to \
         keep such rows aside and go on",
    )
}
