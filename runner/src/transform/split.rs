//! Splits a checked logical plan into the parts that run apart: trunk, fan-out, window, above; and compiles them.

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, internal_err};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan};

use super::aggregation::{self, Prepared};
use super::error::QueryError;
use super::operator::{Parts, Program, Windowed};
use super::output::Output;
use super::plan::{Plan, leaf, rebuild};
use super::session::{Session, project};
use super::steps::{Steps, is_chain};
use super::window::{edge_sign, window_sign};
use super::windows::WindowSpec;

/// The window of a plan, and what stands above it.
pub(super) struct WindowIn<'a> {
    /// The node that groups by the window.
    pub(super) node: &'a LogicalPlan,
    pub(super) aggregate: &'a Aggregate,
    /// The nodes above it, from the one next to it to the top.
    pub(super) above: Vec<&'a LogicalPlan>,
}

/// Finds the aggregate that groups by a window. `Err` names what is wrong with its number or place.
pub(super) fn find_window(plan: &LogicalPlan) -> Result<Option<WindowIn<'_>>, QueryError> {
    match count_windows(plan) {
        0 => return Ok(None),
        1 => {}
        _ => {
            return Err(QueryError::new("the table that has the window is read twice")
                .cure("read it once, and compute everything from there"));
        }
    }
    let mut above = vec![];
    let mut node = plan;
    loop {
        if let LogicalPlan::Aggregate(aggregate) = node
            && is_windowed(aggregate)
        {
            above.reverse();
            return Ok(Some(WindowIn { node, aggregate, above }));
        }
        above.push(node);
        node = match node.inputs()[..] {
            [input] => input,
            _ => {
                return Err(QueryError::new("rows of a window cannot be combined with other rows")
                    .cure("write one job for each, or UNION ALL the rows below the window"));
            }
        };
    }
}

fn count_windows(plan: &LogicalPlan) -> usize {
    let here = matches!(plan, LogicalPlan::Aggregate(aggregate) if is_windowed(aggregate));
    usize::from(here) + plan.inputs().into_iter().map(count_windows).sum::<usize>()
}

fn is_windowed(aggregate: &Aggregate) -> bool {
    aggregate.group_expr.iter().any(|key| window_sign(key).is_some())
}

/// The source's column that an output column of a plan is, if it is one as it stands in the record.
pub(super) fn origin(plan: &LogicalPlan, index: usize) -> Option<usize> {
    match plan {
        LogicalPlan::TableScan(_) => Some(index),
        LogicalPlan::Projection(projection) => {
            let Expr::Column(column) = projection.expr[index].clone().unalias() else { return None };
            origin(&projection.input, projection.input.schema().maybe_index_of_column(&column)?)
        }
        LogicalPlan::Filter(_) | LogicalPlan::SubqueryAlias(_) => origin(plan.inputs()[0], index),
        LogicalPlan::Unnest(unnest) => {
            let from = *unnest.dependency_indices.get(index)?;
            let unnested = unnest.list_type_columns.iter().any(|(column, _)| *column == from)
                || unnest.struct_type_columns.contains(&from);
            if unnested { None } else { origin(&unnest.input, from) }
        }
        LogicalPlan::Union(union) => {
            let mut origins = union.inputs.iter().map(|input| origin(input, index));
            let first = origins.next()??;
            origins.all(|other| other == Some(first)).then_some(first)
        }
        _ => None,
    }
}

/// Compiles a query without a window.
pub(super) fn compile_rows(
    plan: &LogicalPlan,
    schema: &SchemaRef,
    output: Output,
    session: &Session,
) -> DataFusionResult<Parts> {
    let (trunk, _, fan_out) = compile_trunk(plan, None, session)?;
    let input = Arc::new(schema.project(&trunk.columns)?);
    Ok(Parts { input, trunk, fan_out, window: None, output })
}

/// What the parts of a query with a window are called, for people.
pub(super) struct Names {
    pub(super) keys: Vec<String>,
    pub(super) aggregates: Vec<String>,
}

/// Compiles a query with a window.
pub(super) fn compile_window(
    plan: &LogicalPlan,
    window: &WindowIn<'_>,
    (spec, time): (WindowSpec, Expr),
    (schema, event_time): (&SchemaRef, usize),
    output: Output,
    session: &Session,
) -> DataFusionResult<(Parts, Names)> {
    let input_schema = window.aggregate.input.schema();
    let over_rows = |expr: Expr| {
        let expr = match spec {
            WindowSpec::Tumble(window) => replace(expr, &|expr| aggregation::edges_of(window, &time, expr))?,
            // `refuse` found no edge in it.
            _ => expr,
        };
        session.simplify(expr, input_schema)
    };
    let prepared = Prepared::new(window.aggregate, &time, session, &over_rows)?;
    let (trunk, trunk_event_time, fan_out) = compile_trunk(&prepared.below, Some(event_time), session)?;
    let Some(trunk_event_time) = trunk_event_time else { return internal_err!("the trunk lost the event time") };

    let here = |node: &LogicalPlan| {
        if std::ptr::eq(node, window.node) { leaf(&prepared.above).map(Some) } else { Ok(None) }
    };
    let over_window = |expr: Expr| {
        replace(expr, &|expr| match edge_sign(&expr) {
            Some(edge) => Expr::Column(Column::new_unqualified(edge.name())),
            None => expr,
        })
    };
    let above = rebuild(plan, &here, &over_window)?;
    let above = if is_chain(&above) {
        Program::Steps(Steps::compile(&above, session)?)
    } else {
        Program::Plan(Plan::compile(&above, session)?)
    };
    let input = Arc::new(schema.project(&trunk.columns)?);
    let windowed = Windowed { spec, trunk_event_time, aggregation: prepared.aggregation, above };
    let names = Names { keys: prepared.key_names, aggregates: prepared.aggregate_names };
    Ok((Parts { input, trunk, fan_out, window: Some(windowed), output }, names))
}

/// Cuts a plan over the source at the first node that makes several rows of one. Gives the trunk below it, where the
/// event time (a column of the source) stands in what the trunk gives, and the rest.
fn compile_trunk(
    plan: &LogicalPlan,
    event_time: Option<usize>,
    session: &Session,
) -> DataFusionResult<(Steps, Option<usize>, Option<Plan>)> {
    if is_chain(plan) {
        return Ok((Steps::compile(plan, session)?, event_time.map(|_| aggregation::EVENT_TIME), None));
    }
    let trunk = trunk_of(plan);
    let is_trunk = |node: &LogicalPlan| match trunk {
        Some(trunk) => std::ptr::eq(node, trunk),
        None => matches!(node, LogicalPlan::TableScan(_)),
    };
    let here = |node: &LogicalPlan| if is_trunk(node) { leaf(node.schema()).map(Some) } else { Ok(None) };
    let fan_out = Plan::compile(&rebuild(plan, &here, &Ok)?, session)?;

    let Some(trunk) = trunk.or_else(|| first_scan(plan)) else { return internal_err!("the plan has no source") };
    let columns = trunk.schema().columns();
    let mut given = fan_out.columns.clone();
    let mut trunk_event_time = None;
    if let Some(event_time) = event_time {
        let Some(column) = (0..columns.len()).find(|index| origin(trunk, *index) == Some(event_time)) else {
            return internal_err!("the event time does not reach the window");
        };
        let position = given.iter().position(|given| *given == column).unwrap_or_else(|| {
            given.push(column);
            given.len() - 1
        });
        trunk_event_time = Some(position);
    }
    let exprs = given
        .iter()
        .enumerate()
        .map(|(index, column)| Expr::Column(columns[*column].clone()).alias(format!("trunk {index}")));
    let trunk = project(trunk.clone(), exprs.collect())?;
    Ok((Steps::compile(&trunk, session)?, trunk_event_time, Some(fan_out)))
}

/// The node below the lowest UNNEST; `None` if there is a UNION, below which only the source itself is common.
fn trunk_of(plan: &LogicalPlan) -> Option<&LogicalPlan> {
    let mut trunk = plan;
    let mut node = plan;
    loop {
        if let LogicalPlan::Unnest(unnest) = node {
            trunk = &unnest.input;
        }
        match node.inputs()[..] {
            [] => return Some(trunk),
            [input] if !matches!(node, LogicalPlan::Union(_)) => node = input,
            _ => return None,
        }
    }
}

fn first_scan(plan: &LogicalPlan) -> Option<&LogicalPlan> {
    match plan {
        LogicalPlan::TableScan(_) => Some(plan),
        _ => plan.inputs().into_iter().find_map(first_scan),
    }
}

/// Replaces parts of an expression, the inner ones first.
fn replace(expr: Expr, with: &dyn Fn(Expr) -> Expr) -> DataFusionResult<Expr> {
    let replaced = expr.transform_up(|expr| {
        let new = with(expr);
        Ok(Transformed::yes(new))
    })?;
    Ok(replaced.data)
}
