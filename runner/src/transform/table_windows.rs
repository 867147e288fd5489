//! Windows in a query over tables: `tumble`, `hop` and `session` in GROUP BY, computed of whole tables. The rows are those that a
//! stream would give for the same records, so that one SQL text serves a live job and a backfill; a law keeps that.
//!
//! ```text
//! GROUP BY tumble   columns, start of the window                    ── group by it
//!          hop      columns, starts of all windows of the row ─ unnest ── group by it
//!          session  columns, edges OVER (PARTITION BY keys ORDER BY time) ── group by them
//! ```
//!
//! The plan of the planner has signs for the window and its edges (see `window`); here each is replaced by what computes it. A row
//! without a time lies in no window.

mod functions;

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::{AggregateFunction, ScalarFunction, Sort, WindowFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{
    Aggregate, Cast, Expr, ExprSchemable, Filter, LogicalPlan, LogicalPlanBuilder, ScalarUDF, Window, WindowFrame,
};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;

use super::error::QueryError;
use super::event_order::{self, COLLECT_LIST, InOrder};
use super::planning_error;
use super::session::project;
use super::window::{Edge, WindowKind, edge_of, edge_sign, timestamp_type, window_sign};
use super::windows::{WindowSpec, spec_of};

/// Replaces every window of a plan, and the signs of its edges.
///
/// # Errors
/// A window has other arguments than it can have, or stands where none can.
pub(super) fn expand(plan: LogicalPlan, state: &SessionState) -> Result<LogicalPlan, QueryError> {
    // What an error of the closure says is kept apart: it is in the words of this crate already.
    let (mut refused, mut is_expanded) = (None, false);
    let of_tables = |error: DataFusionError| planning_error::of_tables(&error, state);
    let expanded = plan.transform_up_with_subqueries(|node| {
        let done = match &node {
            LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.iter().any(|key| window_sign(key).is_some()) => {
                is_expanded = true;
                expand_aggregate(aggregate, state).map(Transformed::yes)
            }
            // Below it columns were added.
            _ if is_expanded => node.recompute_schema().and_then(with_edges).map_err(of_tables),
            _ => Ok(Transformed::no(node)),
        };
        done.map_err(|error| {
            refused = Some(error);
            DataFusionError::Plan("a window is refused".to_owned())
        })
    });
    match (expanded, refused) {
        (_, Some(refused)) => Err(refused),
        (expanded, None) => {
            let plan = expanded.map_err(|error| planning_error::of_tables(&error, state))?.data;
            no_signs(&plan)?;
            Ok(plan)
        }
    }
}

/// What is left of a window stands where none can be.
fn no_signs(plan: &LogicalPlan) -> Result<(), QueryError> {
    let mut left = None;
    let looked = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                left = left.or(window_sign(expr).map(|(kind, _)| kind.name()));
                left = left.or(edge_sign(expr).map(Edge::name));
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    debug_assert!(looked.is_ok(), "{looked:?}");
    match left {
        None => Ok(()),
        Some(name) if WindowKind::from_name(name).is_some() => Err(QueryError::new(format!(
            "{name} stands alone in GROUP BY, nowhere else"
        ))
        .cure("GROUP BY it, and select window_start or window_end; ROLLUP, CUBE and GROUPING SETS do not go with it")),
        Some(name) => Err(QueryError::new(format!("{name} cannot stand here")).cure(
            "it is known beside the aggregates of the SELECT that has the window; inside an aggregate only of tumble",
        )),
    }
}

/// Replaces the signs of edges by the columns of the window below.
fn with_edges(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let mut has_sign = false;
    node.apply_expressions(|expr| {
        expr.apply(|expr| {
            has_sign |= edge_sign(expr).is_some();
            Ok(if has_sign { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
    })?;
    if !has_sign {
        return Ok(Transformed::no(node));
    }
    let known: Vec<Column> = node.inputs().iter().flat_map(|input| input.schema().columns()).collect();
    let column = |edge: Edge| known.iter().find(|column| column.name == edge.name()).cloned();
    let names = NamePreserver::new(&node);
    let replaced = node.map_expressions(|expr| {
        let name = names.save(&expr);
        let replaced = expr.transform(|expr| {
            Ok(match edge_sign(&expr).and_then(column) {
                Some(column) => Transformed::yes(Expr::Column(column)),
                None => Transformed::no(expr),
            })
        })?;
        Ok(replaced.update_data(|expr| name.restore(expr)))
    })?;
    replaced.map_data(LogicalPlan::recompute_schema)
}

/// A window as it is computed.
struct Expanded {
    /// The rows, with the start of their window as a column of its name.
    rows: LogicalPlan,
    /// The column with the end, where it is not known from the start.
    end: Option<Expr>,
    /// The end of the window, for those that group by its start.
    end_of_start: Option<Expr>,
}

fn expand_aggregate(aggregate: &Aggregate, state: &SessionState) -> Result<LogicalPlan, QueryError> {
    let refuse = |error: DataFusionError| planning_error::of_tables(&error, state);
    let windows: Vec<_> =
        aggregate.group_expr.iter().enumerate().filter(|(_, key)| window_sign(key).is_some()).collect();
    let [(place, sign)] = windows[..] else {
        return Err(QueryError::new("several windows stand together").cure("a SELECT has one window"));
    };
    let Some((kind, [time, arguments @ ..])) = window_sign(sign) else {
        return Err(QueryError::new("a window is over a time"));
    };
    let schema = aggregate.input.schema();
    for edge in [Edge::Start, Edge::End] {
        if schema.fields().iter().any(|field| field.name() == edge.name()) {
            let name = edge.name();
            return Err(QueryError::new(format!(
                "a column below the window is called {name}, as the window's edge is"
            ))
            .cure(format!("read it under another name: FROM (SELECT {name} AS other_name, … FROM …) AS renamed")));
        }
    }
    let time = time_of(kind, time, schema).map_err(|error| error.unwrap_or_else(refuse))?;
    let spec = spec_of(kind, arguments, &|expr| constant(expr, schema, state))?;
    let keys = aggregate.group_expr.iter().enumerate().filter(|(index, _)| *index != place).map(|(_, key)| key);
    let keys: Vec<Expr> = keys.cloned().collect();
    let window = rows_of(spec, &aggregate.input, &time, keys).map_err(refuse)?;
    grouped(aggregate, place, window, (spec, &time)).map_err(refuse)
}

/// The time of a row, in the type of the windows. `Err(Ok)`: it is none.
fn time_of(kind: WindowKind, time: &Expr, schema: &DFSchema) -> Result<Expr, Result<QueryError, DataFusionError>> {
    let found = time.get_type(schema).map_err(Err)?;
    if !matches!(found, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64) {
        let name = kind.name();
        let error = QueryError::new(format!("{name} is over {time}, which is no time"));
        return Err(Ok(error.cure(format!("write {}; of text: parse_timestamp(text)", kind.example()))));
    }
    Ok(if found == timestamp_type() {
        time.clone()
    } else {
        Expr::Cast(Cast::new(Box::new(time.clone()), timestamp_type()))
    })
}

fn constant(expr: &Expr, schema: &Arc<DFSchema>, state: &SessionState) -> Result<Expr, QueryError> {
    let config = Arc::clone(state.config_options());
    let context = SimplifyContext::builder().with_schema(Arc::clone(schema)).with_config_options(config).build();
    let simplifier = ExprSimplifier::new(context);
    let simplified = simplifier.coerce(expr.clone(), schema).and_then(|expr| simplifier.simplify(expr));
    simplified.map_err(|error| planning_error::of_tables(&error, state))
}

fn name_of(edge: Edge) -> Column {
    Column::new_unqualified(edge.name())
}

/// All columns of a plan, and another one.
fn with_column(plan: LogicalPlan, expr: Expr, edge: Edge) -> Result<LogicalPlan> {
    let columns = plan.schema().columns().into_iter().map(Expr::Column);
    let columns = columns.chain([expr.alias(edge.name())]).collect();
    project(plan, columns)
}

fn call(function: Arc<ScalarUDF>, argument: Expr) -> Expr {
    Expr::ScalarFunction(ScalarFunction::new_udf(function, vec![argument]))
}

/// The rows with their windows.
fn rows_of(spec: WindowSpec, input: &LogicalPlan, time: &Expr, keys: Vec<Expr>) -> Result<Expanded> {
    let timed = LogicalPlan::Filter(Filter::try_new(time.clone().is_not_null(), Arc::new(input.clone()))?);
    let start = Expr::Column(name_of(Edge::Start));
    match spec {
        WindowSpec::Tumble(window) => Ok(Expanded {
            rows: with_column(timed, call(edge_of(window, Edge::Start), time.clone()), Edge::Start)?,
            end: None,
            end_of_start: Some(call(edge_of(window, Edge::End), start)),
        }),
        WindowSpec::Hop(window) => {
            let with_all = with_column(timed, call(functions::starts_of(window), time.clone()), Edge::Start)?;
            let rows = LogicalPlanBuilder::from(with_all).unnest_column(name_of(Edge::Start))?.build()?;
            let end_of_start = Some(call(functions::end_of(window.size()), start));
            Ok(Expanded { rows, end: None, end_of_start })
        }
        WindowSpec::Session(session) => {
            let order = Sort::new(time.clone(), true, false);
            let over = |edge| {
                let mut window = WindowFunction::new(functions::session_edge(session, edge), vec![time.clone()]);
                window.params.partition_by.clone_from(&keys);
                window.params.order_by = vec![order.clone()];
                window.params.window_frame = WindowFrame::new(Some(true));
                Expr::WindowFunction(Box::new(window)).alias(Edge::name(edge))
            };
            let edges = vec![over(Edge::Start), over(Edge::End)];
            let rows = LogicalPlan::Window(Window::try_new(edges, Arc::new(timed))?);
            Ok(Expanded { rows, end: Some(Expr::Column(name_of(Edge::End))), end_of_start: None })
        }
    }
}

/// The aggregate over the rows with their windows, with the columns that it had, and the edges.
fn grouped(
    aggregate: &Aggregate,
    place: usize,
    window: Expanded,
    (spec, time): (WindowSpec, &Expr),
) -> Result<LogicalPlan> {
    let start = Expr::Column(name_of(Edge::Start));
    let mut keys = aggregate.group_expr.clone();
    keys[place] = start.clone();
    let number = keys.len();
    keys.extend(window.end.clone());
    let in_aggregate = |edge: Edge| match (edge, spec) {
        (Edge::Start, WindowSpec::Tumble(_)) => Some(start.clone()),
        (Edge::End, WindowSpec::Tumble(_)) => window.end_of_start.clone(),
        _ => None,
    };
    let aggregates = aggregate.aggr_expr.iter().map(|expr| {
        let replaced = expr.clone().transform(|expr| {
            Ok(match edge_sign(&expr).and_then(in_aggregate) {
                Some(edge) => Transformed::yes(edge),
                None => Transformed::no(expr),
            })
        })?;
        replaced.data.transform(|expr| in_order_of_events(expr, time)).map(|transformed| transformed.data)
    });
    let aggregates = aggregates.collect::<Result<Vec<_>>>()?;
    let over = Aggregate::try_new(Arc::new(window.rows), keys, aggregates)?;
    let new = over.schema.columns();
    let added = new.len() - aggregate.schema.fields().len();
    let as_before = aggregate.schema.iter().enumerate().map(|(index, (qualifier, field))| {
        let column = &new[if index < number { index } else { index + added }];
        let expr = Expr::Column(column.clone());
        if column.relation.as_ref() == qualifier && column.name == *field.name() {
            expr
        } else {
            expr.alias_qualified(qualifier.cloned(), field.name())
        }
    });
    let end = window.end.or(window.end_of_start).unwrap_or_else(|| start.clone());
    let edges = [start.alias(Edge::Start.name()), end.alias(Edge::End.name())];
    let columns = as_before.chain(edges).collect();
    project(LogicalPlan::Aggregate(over), columns)
}

/// `collect_list` follows the event time. Rows of a table have no offsets: of two with one time either may come first.
fn in_order_of_events(expr: Expr, time: &Expr) -> Result<Transformed<Expr>> {
    let Expr::AggregateFunction(function) = expr else { return Ok(Transformed::no(expr)) };
    if function.func.name() != COLLECT_LIST {
        return Ok(Transformed::no(Expr::AggregateFunction(function)));
    }
    let mut params = function.params;
    let topic = ScalarValue::Utf8View(Some(String::new()));
    let identity = [topic, ScalarValue::Int32(Some(0)), ScalarValue::Int64(Some(0))];
    params.args.push(time.clone());
    params.args.extend(identity.map(|value| Expr::Literal(value, None)));
    let func = event_order::in_event_order(InOrder::Collect, true);
    Ok(Transformed::yes(Expr::AggregateFunction(AggregateFunction { func, params })))
}
