//! Which date columns of a query are the UTC date of which time of the same row: by these a reader may choose directories.
//!
//! Pure. A column is followed down through what passes it on; two columns that come from the same place, one of them by a
//! cast to a date, belong together.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, DFSchema, ExprSchema};
use datafusion::error::Result;
use datafusion::logical_expr::{Cast, Expr, LogicalPlan};

/// Nodes below each other that are looked through.
const DEPTH_MAX: usize = 64;

/// The date columns of the rows of a plan, each with the times whose UTC date it is.
pub(super) fn utc_dates(plan: &LogicalPlan) -> Vec<(String, Vec<String>)> {
    let columns = plan.schema().columns();
    let origins: Vec<Option<Origin>> =
        columns.iter().map(|column| origin(plan, Expr::Column(column.clone()), DEPTH_MAX).ok()).collect();
    let is_time =
        |column: &Column| plan.schema().field_from_column(column).is_ok_and(|field| is_utc(field.data_type()));
    let mut found = Vec::new();
    for (date, origin) in columns.iter().zip(&origins) {
        let Some(origin) = origin.as_ref() else { continue };
        let Some(expr) = cast_to_date(&origin.expr, plan.schema(), date) else { continue };
        let time = &Origin { expr: expr.clone(), depth: origin.depth };
        let times =
            columns.iter().zip(&origins).filter(|(column, origin)| is_time(column) && origin.as_ref() == Some(time));
        let times: Vec<String> = times.map(|(column, _)| column.name.clone()).collect();
        if !times.is_empty() {
            found.push((date.name.clone(), times));
        }
    }
    found
}

/// What a date column is the cast of.
fn cast_to_date<'a>(origin: &'a Expr, schema: &DFSchema, column: &Column) -> Option<&'a Expr> {
    let is_date = schema.field_from_column(column).is_ok_and(|field| *field.data_type() == DataType::Date32);
    match origin {
        Expr::Cast(Cast { expr, .. }) if is_date => Some(expr),
        _ => None,
    }
}

/// A time whose date, as a cast gives it, is the UTC one.
fn is_utc(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(_, zone) if zone.as_deref().is_none_or(|zone| matches!(zone, "UTC" | "+00:00")))
}

/// An expression over the rows of the node at which it could be followed no deeper.
#[derive(Debug, PartialEq)]
struct Origin {
    expr: Expr,
    depth: usize,
}

/// Follows an expression over the rows of a plan down.
fn origin(plan: &LogicalPlan, expr: Expr, depth: usize) -> Result<Origin> {
    let expr = without_alias(expr)?;
    let Some(depth) = depth.checked_sub(1) else { return Ok(Origin { expr, depth }) };
    match plan {
        LogicalPlan::Projection(projection) => {
            let below = over(&expr, &projection.schema, |index| projection.expr.get(index).cloned())?;
            origin(&projection.input, below, depth)
        }
        LogicalPlan::Aggregate(aggregate) => {
            let is_plain = !aggregate.group_expr.iter().any(|expr| matches!(expr, Expr::GroupingSet(_)));
            let of_group = |column: &Column| {
                let index = aggregate.schema.maybe_index_of_column(column);
                index.filter(|index| is_plain && *index < aggregate.group_expr.len())
            };
            // A value of the group is one of its rows; what is computed of all of them comes from here.
            if expr.column_refs().iter().any(|column| of_group(column).is_none()) {
                return Ok(Origin { expr, depth });
            }
            let below = over(&expr, &aggregate.schema, |index| aggregate.group_expr.get(index).cloned())?;
            origin(&aggregate.input, below, depth)
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let columns = alias.input.schema().columns();
            let below = over(&expr, &alias.schema, |index| columns.get(index).cloned().map(Expr::Column))?;
            origin(&alias.input, below, depth)
        }
        LogicalPlan::Filter(filter) => origin(&filter.input, expr, depth),
        LogicalPlan::Sort(sort) => origin(&sort.input, expr, depth),
        LogicalPlan::Limit(limit) => origin(&limit.input, expr, depth),
        _ => Ok(Origin { expr, depth }),
    }
}

/// The expression with its columns, by their places in a schema, replaced.
fn over(expr: &Expr, schema: &DFSchema, of: impl Fn(usize) -> Option<Expr>) -> Result<Expr> {
    let replaced = expr.clone().transform(|expr| {
        let Expr::Column(column) = &expr else { return Ok(Transformed::no(expr)) };
        Ok(match schema.maybe_index_of_column(column).and_then(&of) {
            Some(below) => Transformed::yes(below),
            None => Transformed::no(expr),
        })
    });
    without_alias(replaced.data()?)
}

fn without_alias(expr: Expr) -> Result<Expr> {
    let unalias = |expr: Expr| {
        Ok(match expr {
            Expr::Alias(alias) => Transformed::yes(*alias.expr),
            other => Transformed::no(other),
        })
    };
    expr.transform_up(unalias).data()
}
