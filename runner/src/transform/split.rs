//! Splits a checked logical plan into the parts that run apart: trunk, fan-out, window, above; and compiles them.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, internal_err};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan};

use super::aggregation::{self, Prepared};
use super::error::QueryError;
use super::inputs::{QueryInputs, Role, SourceTable, reads, role};
use super::lookup::{Side, sides};
use super::operator::{FanOut, Parts, Program, SourceRows, Windowed};
use super::output::Output;
use super::plan::{Plan, leaf, rebuild};
use super::row_program::RowProgram;
use super::session::{Session, project};
use super::steps::{Steps, is_chain};
use super::window::{WindowKind, edge_sign, window_sign};
use super::windows::WindowSpec;
use super::{branches, identity};

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
                    .cure("write one job for each, or join and UNION ALL the rows below the window"));
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
        LogicalPlan::TableScan(scan) => match &scan.projection {
            Some(columns) => columns.get(index).copied(),
            None => Some(index),
        },
        LogicalPlan::Projection(projection) => {
            let Expr::Column(column) = projection.expr[index].clone().unalias() else { return None };
            origin(&projection.input, projection.input.schema().maybe_index_of_column(&column)?)
        }
        LogicalPlan::Filter(_) | LogicalPlan::SubqueryAlias(_) => origin(plan.inputs()[0], index),
        LogicalPlan::Join(join) => {
            let (records, reference, reference_first) = sides(join)?;
            let before = if reference_first { reference.schema().fields().len() } else { 0 };
            let own = index.checked_sub(before).filter(|own| *own < records.schema().fields().len())?;
            origin(records, own)
        }
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
    inputs: &QueryInputs,
    output: Output,
    session: &Session,
) -> DataFusionResult<Parts> {
    let mut sides = vec![];
    let sources = inputs.sources.iter().enumerate();
    let sources = sources.map(|source| compile_source(plan, source, None, session, &mut sides));
    let inputs = sources.collect::<DataFusionResult<_>>()?;
    Ok(Parts { inputs, sides, window: None, output })
}

/// What the trunk keeps beside what comes after it needs, for a query with a window.
#[derive(Clone, Copy)]
struct Kept {
    /// The event time, a column of the source.
    event_time: usize,
    /// The identity of each record, for those that are late.
    identity: bool,
}

/// What rows of one source go through; `None` if the plan does not read it.
fn compile_source(
    plan: &LogicalPlan,
    (index, source): (usize, &SourceTable),
    kept: Option<Kept>,
    session: &Session,
    sides: &mut Vec<Side>,
) -> DataFusionResult<Option<SourceRows>> {
    if !reads(plan, Role::Source(index)) {
        return Ok(None);
    }
    let Trunk { steps, event_time, identity, fan_out } =
        compile_trunk(&branches::only(plan, index)?, kept, session, sides)?;
    let input = Arc::new(source.full_schema().project(&steps.columns)?);
    Ok(Some(SourceRows { input, trunk: steps, event_time, identity, fan_out }))
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
    (inputs, event_times): (&QueryInputs, &[Option<usize>]),
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
    let prepared =
        Prepared::new(window.aggregate, (spec.kind(), &time), inputs.tell_late_records, session, &over_rows)?;
    let tell_late = inputs.tell_late_records;
    let by_time = spec.kind() != WindowKind::Session;
    let mut sides = vec![];
    let sources = inputs.sources.iter().enumerate().zip(event_times);
    let sources = sources.map(|(source, event_time)| {
        let kept = event_time.map(|event_time| Kept { event_time, identity: inputs.tell_late_records && by_time });
        compile_source(&prepared.below, source, kept, session, &mut sides)
    });
    let inputs = sources.collect::<DataFusionResult<Vec<_>>>()?;

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
    let windowed = Windowed { spec, aggregation: prepared.aggregation, tell_late, above };
    let names = Names { keys: prepared.key_names, aggregates: prepared.aggregate_names };
    Ok((Parts { inputs, sides, window: Some(windowed), output }, names))
}

/// A compiled trunk, and where in its rows stands what it keeps.
struct Trunk {
    steps: Steps,
    event_time: Option<usize>,
    /// The first of the columns of the identity, which are the last ones.
    identity: Option<usize>,
    fan_out: Option<FanOut>,
}

/// Cuts a plan over one source at the first node that makes several rows of one, or none.
fn compile_trunk(
    plan: &LogicalPlan,
    kept: Option<Kept>,
    session: &Session,
    sides: &mut Vec<Side>,
) -> DataFusionResult<Trunk> {
    let with_identity = kept.is_some_and(|kept| kept.identity);
    if is_chain(plan) {
        let identity = with_identity.then(|| plan.schema().fields().len());
        let plan = if with_identity { &identity::carry(plan)? } else { plan };
        let event_time = kept.map(|_| aggregation::EVENT_TIME);
        return Ok(Trunk { steps: Steps::compile(plan, session)?, event_time, identity, fan_out: None });
    }
    let trunk = trunk_of(plan);
    let is_trunk = |node: &LogicalPlan| match trunk {
        Some(trunk) => std::ptr::eq(node, trunk),
        None => matches!(role(node), Some(Role::Source(_))),
    };
    let here = |node: &LogicalPlan| if is_trunk(node) { leaf(node.schema()).map(Some) } else { Ok(None) };
    let program = RowProgram::compile(&rebuild(plan, &here, &Ok)?, session, sides)?;
    let fan_out = FanOut { columns: program.columns(), program };

    let Some(trunk) = trunk.or_else(|| first_source(plan)) else { return internal_err!("the plan has no source") };
    let columns = trunk.schema().columns();
    let mut given = fan_out.columns.clone();
    let mut event_time = None;
    if let Some(kept) = kept {
        let Some(column) = (0..columns.len()).find(|index| origin(trunk, *index) == Some(kept.event_time)) else {
            return internal_err!("the event time does not reach the window");
        };
        let position = given.iter().position(|given| *given == column).unwrap_or_else(|| {
            given.push(column);
            given.len() - 1
        });
        event_time = Some(position);
    }
    let trunk = if with_identity { identity::carry(trunk)? } else { trunk.clone() };
    let identity = with_identity.then_some(given.len());
    let exprs = given.iter().map(|column| Expr::Column(columns[*column].clone()));
    let exprs = exprs.chain(with_identity.then(|| identity::identity_of(&trunk)).into_iter().flatten());
    let exprs = exprs.enumerate().map(|(index, column)| column.alias(format!("trunk {index}"))).collect();
    let steps = Steps::compile(&project(trunk, exprs)?, session)?;
    Ok(Trunk { steps, event_time, identity, fan_out: Some(fan_out) })
}

/// The node below the lowest UNNEST or join; `None` if there is a UNION, below which only the source itself is common.
fn trunk_of(plan: &LogicalPlan) -> Option<&LogicalPlan> {
    let mut trunk = plan;
    let mut node = plan;
    loop {
        let input = match node {
            LogicalPlan::Union(_) => return None,
            LogicalPlan::Join(join) => sides(join)?.0,
            _ => match node.inputs()[..] {
                [] => return Some(trunk),
                [input] => input,
                _ => return None,
            },
        };
        if matches!(node, LogicalPlan::Unnest(_) | LogicalPlan::Join(_)) {
            trunk = input;
        }
        node = input;
    }
}

fn first_source(plan: &LogicalPlan) -> Option<&LogicalPlan> {
    match role(plan) {
        Some(Role::Source(_)) => Some(plan),
        _ => plan.inputs().into_iter().find_map(first_source),
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
