//! `x NOT IN (SELECT y …)` over distinct values of y: the engine holds the rows of x in a table by their value and goes through all
//! of the same value once for each y, which is a square where both have a value often.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::expr::InSubquery;
use datafusion::logical_expr::logical_plan::Distinct;
use datafusion::logical_expr::{Expr, LogicalPlan};

/// Makes the values distinct where the subquery stands alone.
///
/// # Errors
/// The plan cannot be made anew, which is a fault of this program.
pub(super) fn over_distinct(plan: LogicalPlan) -> Result<LogicalPlan> {
    let done = plan.transform_up_with_subqueries(|node| {
        node.map_expressions(|expr| {
            expr.transform_up(|expr| match expr {
                Expr::InSubquery(within) if is_alone(&within) => Ok(Transformed::yes(distinct(within))),
                other => Ok(Transformed::no(other)),
            })
        })
    });
    done.map(|plan| plan.data)
}

fn is_alone(within: &InSubquery) -> bool {
    let is_distinct = matches!(*within.subquery.subquery, LogicalPlan::Distinct(_) | LogicalPlan::Aggregate(_));
    within.negated && within.subquery.outer_ref_columns.is_empty() && !is_distinct
}

fn distinct(mut within: InSubquery) -> Expr {
    within.subquery.subquery = Arc::new(LogicalPlan::Distinct(Distinct::All(within.subquery.subquery)));
    Expr::InSubquery(within)
}
