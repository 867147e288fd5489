//! Aggregates of which single groups have no answer: a sum that does not fit is the fault of its group alone.
//!
//! DataFusion asks for the answers of all groups at once and has an error for all of them. In a stream the others go on.

use std::any::Any;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray, new_null_array};
use datafusion::arrow::compute::concat;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;

/// Groups without an answer, by their number among those that were asked, and why.
pub(crate) type Refused = Vec<(usize, String)>;

/// Accumulators that can tell which of their groups have no answer.
pub(crate) trait RefusesGroups: GroupsAccumulator {
    /// As `evaluate`, with null for each group that has no answer.
    fn evaluate_or_refuse(&mut self, emit_to: EmitTo, refused: &mut Refused) -> Result<ArrayRef>;
}

/// Such accumulators, as others see them.
pub(crate) struct Refusing(pub(crate) Box<dyn RefusesGroups>);

/// The answers of groups; null for those that have none, which are noted.
pub(crate) fn evaluate(
    accumulator: &mut dyn GroupsAccumulator,
    emit_to: EmitTo,
    refused: &mut Refused,
) -> Result<ArrayRef> {
    let any: &mut dyn Any = accumulator;
    match any.downcast_mut::<Refusing>() {
        Some(refusing) => refusing.0.evaluate_or_refuse(emit_to, refused),
        None => accumulator.evaluate(emit_to),
    }
}

impl GroupsAccumulator for Refusing {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.0.update_batch(values, group_indices, opt_filter, total_num_groups)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        self.0.evaluate(emit_to)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        self.0.state(emit_to)
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.0.merge_batch(values, group_indices, total_num_groups)
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        self.0.convert_to_state(values, opt_filter)
    }

    fn size(&self) -> usize {
        self.0.size()
    }
}

/// The engine's own accumulators of an aggregate whose state is a few numbers, and whose answer may be none: the answers are
/// asked of a copy, by halves where it fails.
pub(crate) struct ByState {
    expr: Arc<AggregateFunctionExpr>,
    inner: Box<dyn GroupsAccumulator>,
}

impl ByState {
    pub(crate) fn new(expr: Arc<AggregateFunctionExpr>) -> Result<Self> {
        let inner = expr.create_groups_accumulator()?;
        Ok(Self { expr, inner })
    }

    fn answers(&self, state: &[ArrayRef], first: usize, refused: &mut Refused) -> Result<ArrayRef> {
        let groups = state.first().map_or(0, |column| column.len());
        let mut copy = self.expr.create_groups_accumulator()?;
        copy.merge_batch(state, &(0..groups).collect::<Vec<_>>(), groups)?;
        match copy.evaluate(EmitTo::All) {
            Err(error) if is_of_a_value(&error) && groups == 1 => {
                refused.push((first, describe(&error)));
                Ok(new_null_array(self.expr.field().data_type(), 1))
            }
            Err(error) if is_of_a_value(&error) && groups > 1 => {
                let half = groups / 2;
                let part =
                    |from: usize, rows: usize| state.iter().map(|column| column.slice(from, rows)).collect::<Vec<_>>();
                let one = self.answers(&part(0, half), first, refused)?;
                let other = self.answers(&part(half, groups - half), first + half, refused)?;
                Ok(concat(&[&one, &other])?)
            }
            answers => answers,
        }
    }
}

impl RefusesGroups for ByState {
    fn evaluate_or_refuse(&mut self, emit_to: EmitTo, refused: &mut Refused) -> Result<ArrayRef> {
        let state = self.inner.state(emit_to)?;
        self.answers(&state, 0, refused)
    }
}

impl GroupsAccumulator for ByState {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.inner.update_batch(values, group_indices, opt_filter, total_num_groups)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        self.inner.evaluate(emit_to)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        self.inner.state(emit_to)
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.inner.merge_batch(values, group_indices, total_num_groups)
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        self.inner.convert_to_state(values, opt_filter)
    }

    fn size(&self) -> usize {
        self.inner.size()
    }
}

/// Whether an error is about a value that an expression does not take, and not about the machine or this program.
pub(crate) fn is_of_a_value(error: &DataFusionError) -> bool {
    use datafusion::arrow::error::ArrowError;
    match error.find_root() {
        DataFusionError::Execution(_) | DataFusionError::External(_) | DataFusionError::SchemaError(..) => true,
        DataFusionError::ArrowError(error, _) => {
            !matches!(**error, ArrowError::MemoryError(_) | ArrowError::IoError(..))
        }
        _ => false,
    }
}

/// An error in one line, without the words that tell the engine's modules apart.
pub(crate) fn describe(error: &DataFusionError) -> String {
    let text = error.find_root().strip_backtrace();
    let mut line = text.lines().next().unwrap_or_default();
    for prefix in ["Execution error: ", "External error: ", "Arrow error: ", "Compute error: ", "Cast error: "] {
        line = line.strip_prefix(prefix).unwrap_or(line);
    }
    line.to_owned()
}
