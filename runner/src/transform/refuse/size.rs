//! How large values, types and expressions may become.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan};

use super::{Context, Refusal, find};
use crate::engine;
use crate::transform::error::QueryError;

/// How often a value may be used inside another through nested subqueries: `s || s` thirty times over would make a
/// gigabyte of a byte.
const USES_MAX: u64 = 1_000;

/// Depth of an expression after the subqueries that feed it are put in, as the optimizer does: see the limit in `walk`.
const MERGED_DEPTH_MAX: usize = 512;

/// Lists, structs and maps inside each other. Declared columns have at most 16 levels.
const TYPE_DEPTH_MAX: usize = 64;

impl Context<'_> {
    /// Constant calls that make far too much are found when the query is planned, others when they run.
    pub(in crate::transform) fn check_made(
        &self,
        plan: &LogicalPlan,
        evaluate: &dyn Fn(&Expr) -> DataFusionResult<()>,
    ) -> Refusal {
        for expr in plan.expressions() {
            find(&expr, &mut |expr| match engine::constant_call(expr) {
                Some(name) => {
                    evaluate(expr).map_err(|error| QueryError::from_datafusion(&error).at(self.places.function(name)))
                }
                None => Ok(()),
            })?;
        }
        plan.inputs().into_iter().try_for_each(|input| self.check_made(input, evaluate))
    }

    /// Limits the depth of types, which are compared, printed and dropped by recursion.
    pub(in crate::transform) fn check_types(&self, plan: &LogicalPlan) -> Refusal {
        for field in plan.schema().fields() {
            if type_depth(field.data_type()) > TYPE_DEPTH_MAX {
                return Err(QueryError::new(format!(
                    "the type of {} nests deeper than {TYPE_DEPTH_MAX}",
                    field.name()
                )));
            }
        }
        plan.inputs().into_iter().try_for_each(|input| self.check_types(input))
    }

    /// Limits how often a column of the source (or of the window's result) is used in one value, and how deep the
    /// expressions of nested subqueries become when they are merged.
    pub(in crate::transform) fn check_uses(&self, plan: &LogicalPlan, window: Option<&Aggregate>) -> Refusal {
        uses(plan, window).map(|_| ())
    }
}

/// What a column is made of.
#[derive(Clone, Copy, Default)]
struct Made {
    /// Uses of columns of the source.
    uses: u64,
    /// Operators and calls inside each other.
    depth: usize,
}

/// What each output column of a plan is made of.
fn uses(plan: &LogicalPlan, window: Option<&Aggregate>) -> Refusal<Vec<Made>> {
    let columns = plan.schema().fields().len();
    let as_it_came = Made { uses: 1, depth: 0 };
    if let (LogicalPlan::Aggregate(aggregate), Some(window)) = (plan, window)
        && std::ptr::eq(aggregate, window)
    {
        return Ok(vec![as_it_came; columns]);
    }
    let inputs = plan.inputs().into_iter().map(|input| uses(input, window)).collect::<Refusal<Vec<_>>>()?;
    let LogicalPlan::Projection(projection) = plan else {
        // Other nodes add no expression that feeds another, or (Union) take the worst of their inputs.
        let all = || inputs.iter().flatten();
        let worst = Made {
            uses: all().map(|made| made.uses).max().unwrap_or(1),
            depth: all().map(|made| made.depth).max().unwrap_or(0),
        };
        let same = inputs.len() == 1 && inputs[0].len() == columns;
        return Ok(if same { inputs.into_iter().next().unwrap_or_default() } else { vec![worst; columns] });
    };
    let mut made = Vec::with_capacity(columns);
    for expr in &projection.expr {
        let mut total = Made { uses: 0, depth: 0 };
        for (column, times) in expr.column_refs_counts() {
            let index = projection.input.schema().maybe_index_of_column(column);
            let used = index.and_then(|index| inputs[0].get(index)).copied().unwrap_or(as_it_came);
            total.uses = total.uses.saturating_add(used.uses.saturating_mul(times as u64));
            total.depth = total.depth.max(used.depth);
        }
        total.depth += depth(expr);
        if total.uses > USES_MAX {
            let message =
                format!("a value is made of more than {USES_MAX} uses of other values through nested subqueries");
            return Err(QueryError::new(message).cure("compute it in fewer steps"));
        }
        if total.depth > MERGED_DEPTH_MAX {
            let message = format!("an expression nests deeper than {MERGED_DEPTH_MAX} when its subqueries are put in");
            return Err(QueryError::new(message).cure("compute it in fewer steps"));
        }
        made.push(Made { uses: total.uses.max(1), ..total });
    }
    Ok(made)
}

/// Operators and calls inside each other; a column alone has none.
fn depth(expr: &Expr) -> usize {
    let mut deepest = 0;
    let walked = expr.apply_children(|part| {
        deepest = deepest.max(1 + depth(part));
        Ok(TreeNodeRecursion::Continue)
    });
    if walked.is_err() { usize::MAX / 2 } else { deepest }
}

/// Whether an expression over the output of `below` is an edge of the window, as it is.
fn type_depth(data_type: &DataType) -> usize {
    1 + match data_type {
        DataType::Struct(fields) => fields.iter().map(|field| type_depth(field.data_type())).max().unwrap_or(0),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => type_depth(item.data_type()),
        _ => 0,
    }
}
