//! From groups of closed windows to output rows: what stands above the window, and the groups that it refuses.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array};
use datafusion::arrow::compute::{filter_record_batch, take_record_batch};
use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::error::Result as DataFusionResult;

use super::error::{Error, Result};
use super::halves::{RefusedRow, by_halves};
use super::operator::{Program, Windowed};
use super::output::Output;
use super::windows::Closed;

/// What became of the groups of a closed window.
#[derive(Debug, Default)]
pub struct ClosedRows {
    /// Output rows.
    pub rows: Vec<RecordBatch>,
    /// Groups that an expression above the window, or an aggregate, refuses.
    pub refused: Vec<RefusedGroups>,
}

/// Groups that are refused for one reason.
#[derive(Debug)]
pub struct RefusedGroups {
    /// The edges of their windows, their keys and the answers of their aggregates; null where there is none.
    pub groups: RecordBatch,
    /// What the expression says. It may have values in it.
    pub why: String,
}

impl Windowed {
    /// Makes output rows of closed windows.
    pub(super) fn emit(&self, closed: Closed, output: &Output, made: &mut ClosedRows) -> Result<()> {
        let groups = self.groups(&closed).map_err(Error::in_part("closed windows"))?;
        if groups.num_rows() == 0 {
            return Ok(());
        }
        if let Some(why) = closed.refused {
            made.refused.push(RefusedGroups { groups, why });
            return Ok(());
        }
        let mut above = |groups: &RecordBatch| self.above(groups, output).map_err(Error::in_part("closed windows"));
        let mut refused = Vec::new();
        let rows = by_halves(&groups, &mut above, &mut refused)?;
        if refused.is_empty() && rows.len() <= 1 {
            made.rows.extend(rows.into_iter().flatten());
            return Ok(());
        }
        made.note(&groups, &refused)?;
        if matches!(self.above, Program::Steps(_)) {
            made.rows.extend(rows.into_iter().flatten());
            return Ok(());
        }
        // The rows of a window are computed together. What fails without the groups that fail alone fails for all of them.
        let left = without(&groups, &refused)?;
        match above(&left) {
            _ if left.num_rows() == 0 => {}
            Ok(rows) => made.rows.extend(rows),
            Err(error) => {
                let Some(why) = error.of_a_value() else { return Err(error) };
                made.refused.push(RefusedGroups { groups: left, why });
            }
        }
        Ok(())
    }

    fn above(&self, groups: &RecordBatch, output: &Output) -> DataFusionResult<Vec<RecordBatch>> {
        let mut rows = Vec::new();
        match &self.above {
            Program::Steps(steps) => {
                let (batch, _) = steps.run(&groups.project(&steps.columns)?, &[])?;
                output.append(&batch, &mut rows)?;
            }
            Program::Plan(plan) => {
                for batch in plan.run(vec![groups.project(&plan.columns)?])? {
                    output.append(&batch, &mut rows)?;
                }
            }
        }
        Ok(rows)
    }

    /// Window start, window end, keys, answers.
    fn groups(&self, closed: &Closed) -> DataFusionResult<RecordBatch> {
        let mut columns = vec![Arc::clone(&closed.starts), Arc::clone(&closed.ends)];
        columns.extend(closed.answers.columns().iter().cloned());
        let fields = self.aggregation.labels.iter().zip(&columns);
        let fields = fields.map(|(name, column)| Field::new(name, column.data_type().clone(), true));
        let options = RecordBatchOptions::new().with_row_count(Some(closed.answers.num_rows()));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
    }
}

impl ClosedRows {
    /// Notes groups that fail alone.
    fn note(&mut self, groups: &RecordBatch, refused: &[RefusedRow]) -> Result<()> {
        let mut by_reason: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        for RefusedRow { row, why } in refused {
            by_reason.entry(why).or_default().push(*row as u32);
        }
        for (why, rows) in by_reason {
            let groups = take_record_batch(groups, &UInt32Array::from(rows));
            let groups = groups.map_err(|error| Error::in_part("closed windows")(error.into()))?;
            self.refused.push(RefusedGroups { groups, why: why.to_owned() });
        }
        Ok(())
    }
}

/// The rows that are not refused.
fn without(rows: &RecordBatch, refused: &[RefusedRow]) -> Result<RecordBatch> {
    let mut left = vec![true; rows.num_rows()];
    refused.iter().for_each(|refused| left[refused.row] = false);
    filter_record_batch(rows, &BooleanArray::from(left)).map_err(|error| Error::in_part("closed windows")(error.into()))
}
