//! What rows go through behind the trunk: where one record becomes several rows (UNNEST, UNION ALL, a join with a
//! reference), and everything after it.
//!
//! Projections, filters and lookups run as steps; an UNNEST runs as a plan of its own; the branches of UNION ALL run one
//! after the other over the same rows.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::common::internal_err;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlan};

use super::inputs::only_references;
use super::lookup::{Index, Side};
use super::plan::{Plan, leaf, rebuild};
use super::session::{Session, project};
use super::steps::Steps;

/// A compiled program over one leaf.
#[derive(Clone)]
pub(super) enum RowProgram {
    /// Projections, filters and lookups.
    Steps(Steps),
    /// Steps over the rows of a program.
    StepsOver(Box<RowProgram>, Steps),
    /// UNNEST over the rows of a program.
    Unnest(Box<RowProgram>, Plan),
    /// The rows of each branch.
    Branches(Vec<RowProgram>),
}

/// Where the topmost node is that steps cannot run.
fn topmost(plan: &LogicalPlan) -> Option<&LogicalPlan> {
    match plan {
        LogicalPlan::Unnest(_) | LogicalPlan::Union(_) => Some(plan),
        _ => plan.inputs().into_iter().filter(|input| !only_references(input)).find_map(topmost),
    }
}

impl RowProgram {
    /// Compiles a plan over leaves that stand for the same rows. Sides of joins are added to `sides`.
    pub(super) fn compile(plan: &LogicalPlan, session: &Session, sides: &mut Vec<Side>) -> Result<Self> {
        let all: Vec<usize> = (0..plan.schema().fields().len()).collect();
        Self::some(plan, &all, session, sides)
    }

    /// As [`Self::compile`], only some of the columns.
    fn some(plan: &LogicalPlan, wanted: &[usize], session: &Session, sides: &mut Vec<Side>) -> Result<Self> {
        match topmost(plan) {
            None => Ok(Self::Steps(Steps::with_lookups(&columns_of(plan, wanted)?, session, sides)?)),
            Some(node) if !std::ptr::eq(node, plan) => {
                let here = |other: &LogicalPlan| {
                    if std::ptr::eq(other, node) { leaf(node.schema()).map(Some) } else { Ok(None) }
                };
                let above = columns_of(&rebuild(plan, &here, &Ok)?, wanted)?;
                let above = Steps::with_lookups(&above, session, sides)?;
                let below = Self::some(node, &above.columns, session, sides)?;
                Ok(Self::StepsOver(Box::new(below), above))
            }
            Some(LogicalPlan::Unnest(unnest)) => {
                let input = leaf(unnest.input.schema())?;
                let alone = plan.with_new_exprs(plan.expressions(), vec![input])?;
                let alone = Plan::compile(&columns_of(&alone, wanted)?, session)?;
                let below = Self::some(&unnest.input, &alone.columns, session, sides)?;
                Ok(Self::Unnest(Box::new(below), alone))
            }
            Some(LogicalPlan::Union(union)) => {
                let branches = union.inputs.iter().map(|branch| Self::some(branch, wanted, session, sides));
                Ok(Self::Branches(branches.collect::<Result<Vec<_>>>()?))
            }
            Some(other) => internal_err!("{} makes no rows", other.display()),
        }
    }

    /// Columns of the leaf that it reads, ascending.
    pub(super) fn columns(&self) -> Vec<usize> {
        match self {
            Self::Steps(steps) => steps.columns.clone(),
            Self::StepsOver(below, _) | Self::Unnest(below, _) => below.columns(),
            Self::Branches(branches) => {
                let mut columns: Vec<usize> = branches.iter().flat_map(Self::columns).collect();
                columns.sort_unstable();
                columns.dedup();
                columns
            }
        }
    }

    /// Runs over rows that have the columns `given` of the leaf, ascending, and perhaps others behind them.
    pub(super) fn run(
        &self,
        rows: &RecordBatch,
        given: &[usize],
        indexes: &[Option<Arc<Index>>],
    ) -> Result<Vec<RecordBatch>> {
        match self {
            Self::Steps(steps) => Ok(vec![steps.run(&chosen(rows, given, &steps.columns)?, indexes)?.0]),
            Self::StepsOver(below, steps) => {
                let below = below.run(rows, given, indexes)?;
                below.iter().map(|rows| Ok(steps.run(rows, indexes)?.0)).collect()
            }
            Self::Unnest(below, plan) => plan.run(below.run(rows, given, indexes)?),
            Self::Branches(branches) => {
                let rows = branches.iter().map(|branch| branch.run(rows, given, indexes));
                Ok(rows.collect::<Result<Vec<_>>>()?.concat())
            }
        }
    }
}

/// Some of the columns of a plan, in this order.
fn columns_of(plan: &LogicalPlan, wanted: &[usize]) -> Result<LogicalPlan> {
    let columns = plan.schema().columns();
    if wanted.iter().copied().eq(0..columns.len()) {
        return Ok(plan.clone());
    }
    let exprs = wanted.iter().map(|index| Expr::Column(columns[*index].clone()).alias(format!("row {index}")));
    project(plan.clone(), exprs.collect())
}

/// The columns `wanted` of the leaf, out of rows that have the columns `given`.
fn chosen(rows: &RecordBatch, given: &[usize], wanted: &[usize]) -> Result<RecordBatch> {
    let position = |column: &usize| match given.binary_search(column) {
        Ok(position) => Ok(position),
        Err(_) => internal_err!("column {column} is read but was not given"),
    };
    Ok(rows.project(&wanted.iter().map(position).collect::<Result<Vec<_>>>()?)?)
}
