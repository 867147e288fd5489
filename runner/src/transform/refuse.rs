//! What a logical plan may not do on a stream, and what would work instead: the rules of the protocol's section
//! "What SQL may do in a stream".
//!
//! An answer must not depend on how the stream was cut into micro-batches. So rows are computed one by one below a
//! window, the window's aggregates do not depend on the order of arrival, and above it only rows of one window meet.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::expr::{AggregateFunction, WindowFunction};
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, LogicalPlan, Volatility, Window, WindowFrameBound, WindowFunctionDefinition,
};

use super::error::QueryError;
use super::event_order::COLLECT_LIST;
use super::inputs::{QueryInputs, only_references};
use super::syntax::{Clause, Places};
use super::window::{WindowKind, edge_sign, window_sign};
use crate::engine;

/// How often a value may be used inside another through nested subqueries: `s || s` thirty times over would make a
/// gigabyte of a byte.
const USES_MAX: u64 = 1_000;

/// Depth of an expression after the subqueries that feed it are put in, as the optimizer does: see the limit in `walk`.
const MERGED_DEPTH_MAX: usize = 512;

/// Lists, structs and maps inside each other. Declared columns have at most 16 levels.
const TYPE_DEPTH_MAX: usize = 64;

type Refusal<T = ()> = Result<T, QueryError>;

/// What refusals need to know of the query.
pub(super) struct Context<'a> {
    pub(super) places: &'a Places,
    pub(super) inputs: &'a QueryInputs,
}

impl Context<'_> {
    fn add_a_window(&self) -> String {
        match self.inputs.sources.iter().find_map(|source| source.event_time.as_ref()) {
            Some(column) => format!("add a window: GROUP BY tumble({column}, INTERVAL '1 minute'), …"),
            None => format!(
                "declare the event time of source {}, and add a window: \
                 GROUP BY tumble(<event time>, INTERVAL '1 minute'), …",
                self.inputs.first_source()
            ),
        }
    }

    /// Everything of a query without a window, or everything below one.
    pub(super) fn check_rows(&self, plan: &LogicalPlan, below_window: bool) -> Refusal {
        self.check_has_source(plan)?;
        self.check_row_node(plan, below_window)?;
        let mut inputs = plan.inputs();
        if matches!(plan, LogicalPlan::Join(_)) {
            inputs.retain(|input| !only_references(input));
        }
        inputs.into_iter().try_for_each(|input| self.check_rows(input, below_window))
    }

    fn check_row_node(&self, plan: &LogicalPlan, below_window: bool) -> Refusal {
        let place = if below_window { "below the window" } else { "without a window" };
        match plan {
            LogicalPlan::Projection(_)
            | LogicalPlan::Filter(_)
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::TableScan(_)
            | LogicalPlan::Unnest(_)
            | LogicalPlan::Union(_) => {}
            LogicalPlan::Join(join) => self.check_join(join)?,
            LogicalPlan::Aggregate(aggregate) => return Err(self.aggregate_of_rows(aggregate, below_window)),
            LogicalPlan::Distinct(_) => {
                let cure = if below_window {
                    "use count(DISTINCT x) or collect_set(x) in the window".to_owned()
                } else {
                    self.add_a_window()
                };
                return Err(QueryError::new(format!(
                    "DISTINCT {place} compares a row with all others of the stream, which has no end"
                ))
                .at(self.places.clause(Clause::Distinct))
                .cure(cure));
            }
            LogicalPlan::Window(window) => {
                let name = window.window_expr.first().map_or_else(String::new, function_name);
                let cure = if below_window {
                    "use it above: select from a subquery that has the window, with OVER (PARTITION BY window_start …)"
                        .to_owned()
                } else {
                    format!("{}, and use it with OVER (PARTITION BY window_start …) on the result", self.add_a_window())
                };
                return Err(QueryError::new(format!(
                    "{name} OVER (…) {place} sees all rows of the stream, which has no end"
                ))
                .at(self.places.clause(Clause::Over).or(self.places.function(&name)))
                .cure(cure));
            }
            LogicalPlan::Sort(_) => {
                return Err(QueryError::new(format!(
                    "ORDER BY {place} sorts all rows of the stream, which has no end"
                ))
                .at(self.places.clause(Clause::OrderBy))
                .cure("leave it out: readers sort"));
            }
            other => return Err(unsupported(other, place)),
        }
        for expr in plan.expressions() {
            self.check_row_expr(&expr, below_window)?;
        }
        Ok(())
    }

    fn aggregate_of_rows(&self, aggregate: &Aggregate, below_window: bool) -> QueryError {
        let name = aggregate.aggr_expr.first().map(function_name);
        let what = match &name {
            Some(name) => format!("{name}()"),
            None => "GROUP BY".to_owned(),
        };
        let position = name.and_then(|name| self.places.function(&name)).or(self.places.clause(Clause::GroupBy));
        if below_window {
            return QueryError::new(format!("{what} below the window would never be complete"))
                .at(position)
                .cure("aggregate in the SELECT that has the window, or above it GROUP BY window_start");
        }
        QueryError::new(format!("{what} without a window would never be complete, since the stream has no end"))
            .at(position)
            .cure(self.add_a_window())
    }

    /// An expression over single rows.
    fn check_row_expr(&self, expr: &Expr, below_window: bool) -> Refusal {
        self.check_any_expr(expr)?;
        if !below_window {
            return Ok(());
        }
        find(expr, &mut |expr| {
            let function = match expr {
                Expr::ScalarFunction(call) if call.func.signature().volatility != Volatility::Immutable => &call.func,
                _ => return Ok(()),
            };
            let mut names = std::iter::once(function.name()).chain(function.aliases().iter().map(String::as_str));
            let changing = names.find(|name| self.places.function(name).is_some()).unwrap_or(function.name());
            Err(QueryError::new(format!(
                "{changing}() below the window would give another answer when a batch is computed again after a crash"
            ))
            .at(self.places.function(changing))
            .cure(format!("use {changing}() in the SELECT list of the window or above it")))
        })
    }

    /// What no expression of a query may have.
    pub(super) fn check_any_expr(&self, expr: &Expr) -> Refusal {
        find(expr, &mut |expr| match expr {
            Expr::ScalarVariable(_, names) => {
                Err(QueryError::new(format!("the variable {} does not exist in a job", names.join(".")))
                    .cure("write the value itself"))
            }
            Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::OuterReferenceColumn(..) => {
                Err(QueryError::new("a subquery inside an expression is not supported in a job")
                    .cure("a subquery may stand in FROM"))
            }
            _ => Ok(()),
        })
    }

    /// The aggregate that has the window, itself.
    pub(super) fn check_window_aggregate(&self, aggregate: &Aggregate, kind: WindowKind) -> Refusal {
        for expr in aggregate.group_expr.iter().chain(&aggregate.aggr_expr) {
            self.check_row_expr(expr, true)?;
            self.check_order(expr)?;
            self.check_edges(expr, kind)?;
        }
        Ok(())
    }

    /// The edges of a window inside a key or an argument: known for each row only if a row has one window from the start.
    fn check_edges(&self, expr: &Expr, kind: WindowKind) -> Refusal {
        let why = match kind {
            WindowKind::Tumble => return Ok(()),
            WindowKind::Hop => "a row lies in several windows",
            WindowKind::Session => "the edges are known when the window closes",
        };
        if edge_sign(&expr.clone().unalias()).is_some() {
            return Ok(());
        }
        find(expr, &mut |expr| match edge_sign(expr) {
            Some(edge) => {
                let name = edge.name();
                Err(QueryError::new(format!("{name} inside an aggregate or a key of {}: {why}", kind.name()))
                    .at(self.places.function(edge.sign_name()))
                    .cure(format!("use {name} beside the aggregates, in the SELECT list or above it")))
            }
            None => Ok(()),
        })
    }

    /// Aggregates whose answer depends on the order in which rows come.
    fn check_order(&self, expr: &Expr) -> Refusal {
        find(expr, &mut |expr| match expr {
            Expr::AggregateFunction(function) => self.check_order_of(function),
            _ => Ok(()),
        })
    }

    fn check_order_of(&self, function: &AggregateFunction) -> Refusal {
        let name = function.func.name();
        let ordered = !function.params.order_by.is_empty();
        if name == "collect_set" && ordered {
            return Err(QueryError::new("collect_set is always sorted")
                .at(self.places.function(name))
                .cure("leave its ORDER BY out"));
        }
        if name == COLLECT_LIST && (ordered || function.params.distinct) {
            let cure = if ordered { "use array_agg(x ORDER BY y)" } else { "use collect_set(x)" };
            return Err(QueryError::new("collect_list has all values, in the order of events")
                .at(self.places.function(name))
                .cure(cure));
        }
        let with_order;
        let cure = match name {
            "array_agg" => "add ORDER BY, array_agg(x ORDER BY y), or use collect_set(x) for the distinct values",
            "string_agg" => "add ORDER BY, string_agg(x, ',' ORDER BY y), or use array_to_string(collect_set(x), ',')",
            "first_value" | "last_value" => {
                with_order = format!("add ORDER BY, {name}(x ORDER BY y), or use min(x) or max(x)");
                &with_order
            }
            "nth_value" => "add ORDER BY: nth_value(x, n ORDER BY y)",
            "any_value" => "use min(x), or first_value(x ORDER BY y)",
            _ => return Ok(()),
        };
        if ordered && name != "any_value" {
            return Ok(());
        }
        Err(QueryError::new(format!("{name} depends on the order in which rows arrive"))
            .at(self.places.function(name))
            .cure(cure))
    }

    /// Everything above the window: `path` leads from the node above the window's aggregate to the top.
    pub(super) fn check_above(&self, path: &[&LogicalPlan], window: &LogicalPlan, kind: WindowKind) -> Refusal {
        // Output columns of the node below that tell windows apart.
        let mut edges: HashSet<usize> = HashSet::new();
        if let LogicalPlan::Aggregate(aggregate) = window {
            edges = positions(&aggregate.group_expr, &|key| window_sign(key).is_some() || edge_sign(key).is_some());
        }
        let mut below = window;
        for node in path {
            let is_edge = |expr: &Expr| is_edge(expr, below, &edges);
            if kind == WindowKind::Session {
                self.check_above_session(node)?;
            }
            self.check_no_list(node)?;
            let next = match node {
                LogicalPlan::Projection(projection) => positions(&projection.expr, &is_edge),
                LogicalPlan::Filter(_) | LogicalPlan::SubqueryAlias(_) => edges.clone(),
                LogicalPlan::Unnest(unnest) => {
                    let kept = unnest.dependency_indices.iter().enumerate().filter(|(_, from)| edges.contains(from));
                    kept.map(|(index, _)| index).collect()
                }
                LogicalPlan::Sort(sort) => {
                    let position = self.places.clause(Clause::OrderBy);
                    if sort.expr.iter().any(|key| has_edge_sign(&key.expr)) {
                        let error =
                            QueryError::new("ORDER BY names an edge of the window that is not selected").at(position);
                        return Err(error.cure("select it too"));
                    }
                    if sort.fetch.is_some() || !sort.expr.first().is_some_and(|first| first.asc && is_edge(&first.expr))
                    {
                        return Err(QueryError::new("ORDER BY sorts all rows of the stream, which has no end")
                            .at(position)
                            .cure(
                                "begin it with the window, ORDER BY window_start, …, or leave it out: readers sort",
                            ));
                    }
                    edges.clone()
                }
                LogicalPlan::Window(functions) => {
                    self.check_window_functions(functions, &is_edge)?;
                    edges.clone()
                }
                LogicalPlan::Aggregate(aggregate) => {
                    self.check_upper_aggregate(aggregate, &is_edge)?;
                    positions(&aggregate.group_expr, &is_edge)
                }
                LogicalPlan::Distinct(Distinct::All(_)) if edges.is_empty() => {
                    return Err(QueryError::new("DISTINCT above the window compares rows of different windows")
                        .at(self.places.clause(Clause::Distinct))
                        .cure("select window_start too"));
                }
                LogicalPlan::Distinct(Distinct::All(_)) => edges.clone(),
                other => return Err(unsupported(other, "above the window")),
            };
            for expr in node.expressions() {
                self.check_any_expr(&expr)?;
                self.check_order(&expr)?;
            }
            (edges, below) = (next, node);
        }
        Ok(())
    }

    /// Sessions close one by one, each when its own time has come.
    fn check_above_session(&self, node: &LogicalPlan) -> Refusal {
        let (what, place) = match node {
            LogicalPlan::Sort(_) => ("ORDER BY", self.places.clause(Clause::OrderBy)),
            LogicalPlan::Window(_) => ("OVER (…)", self.places.clause(Clause::Over)),
            LogicalPlan::Aggregate(aggregate) => {
                let name = aggregate.aggr_expr.first().map(function_name);
                ("an aggregate", name.and_then(|name| self.places.function(&name)))
            }
            LogicalPlan::Distinct(_) => ("DISTINCT", self.places.clause(Clause::Distinct)),
            _ => return Ok(()),
        };
        Err(QueryError::new(format!("{what} above sessions: they close one by one, and never all of them"))
            .at(place)
            .cure("compute it in the SELECT that has the session, or in a batch job over the output"))
    }

    /// The order of events is known below the window only.
    fn check_no_list(&self, node: &LogicalPlan) -> Refusal {
        let lists = |expr: &Expr| function_name(expr) == COLLECT_LIST;
        let found = match node {
            LogicalPlan::Aggregate(aggregate) => aggregate.aggr_expr.iter().any(lists),
            LogicalPlan::Window(window) => window.window_expr.iter().any(lists),
            _ => false,
        };
        if !found {
            return Ok(());
        }
        Err(QueryError::new("collect_list above the window: there the order of events is not known")
            .at(self.places.function(COLLECT_LIST))
            .cure("use array_agg(x ORDER BY y)"))
    }

    fn check_upper_aggregate(&self, aggregate: &Aggregate, is_edge: &dyn Fn(&Expr) -> bool) -> Refusal {
        let name = aggregate.aggr_expr.first().map(function_name);
        let position = name.as_ref().and_then(|name| self.places.function(name));
        if aggregate.group_expr.iter().any(|key| matches!(key, Expr::GroupingSet(_))) {
            return Err(QueryError::new("ROLLUP, CUBE and GROUPING SETS mix windows")
                .at(position)
                .cure("write one job for each grouping"));
        }
        if aggregate.group_expr.iter().any(is_edge) {
            return Ok(());
        }
        let what = name.map_or_else(|| "GROUP BY".to_owned(), |name| format!("{name}()"));
        Err(QueryError::new(format!("{what} above the window would mix windows and never be complete"))
            .at(position)
            .cure("add the window to its GROUP BY: GROUP BY window_start, …"))
    }

    fn check_window_functions(&self, window: &Window, is_edge: &dyn Fn(&Expr) -> bool) -> Refusal {
        for expr in &window.window_expr {
            let plain = expr.clone().unalias();
            let Expr::WindowFunction(function) = &plain else { continue };
            let name = function_name(&plain);
            let position = self.places.clause(Clause::Over).or(self.places.function(&name));
            if !function.params.partition_by.iter().any(is_edge) {
                return Err(QueryError::new(format!(
                    "{name} OVER (…) sees rows of other windows, and never all of them"
                ))
                .at(position)
                .cure("add the window: OVER (PARTITION BY window_start, …)"));
            }
            if function.params.order_by.is_empty() && depends_on_order(function) {
                return Err(QueryError::new(format!(
                    "{name} OVER (…) without ORDER BY depends on the order in which rows arrive"
                ))
                .at(position)
                .cure("add it: OVER (PARTITION BY window_start ORDER BY …)"));
            }
        }
        Ok(())
    }

    /// Constant calls that make far too much are found when the query is planned, others when they run.
    pub(super) fn check_made(&self, plan: &LogicalPlan, evaluate: &dyn Fn(&Expr) -> DataFusionResult<()>) -> Refusal {
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
    pub(super) fn check_types(&self, plan: &LogicalPlan) -> Refusal {
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
    pub(super) fn check_uses(&self, plan: &LogicalPlan, window: Option<&Aggregate>) -> Refusal {
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
fn is_edge(expr: &Expr, below: &LogicalPlan, edges: &HashSet<usize>) -> bool {
    match expr {
        Expr::Alias(alias) => is_edge(&alias.expr, below, edges),
        Expr::Column(column) => {
            below.schema().maybe_index_of_column(column).is_some_and(|index| edges.contains(&index))
        }
        other => edge_sign(other).is_some(),
    }
}

fn positions(exprs: &[Expr], wanted: &dyn Fn(&Expr) -> bool) -> HashSet<usize> {
    exprs.iter().enumerate().filter(|(_, expr)| wanted(expr)).map(|(index, _)| index).collect()
}

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

fn has_edge_sign(expr: &Expr) -> bool {
    find(expr, &mut |expr| if edge_sign(expr).is_some() { Err(QueryError::new("")) } else { Ok(()) }).is_err()
}

fn depends_on_order(function: &WindowFunction) -> bool {
    let frame = &function.params.window_frame;
    let whole = matches!(&frame.start_bound, WindowFrameBound::Preceding(bound) if bound.is_null())
        && matches!(&frame.end_bound, WindowFrameBound::Following(bound) if bound.is_null());
    match &function.fun {
        WindowFunctionDefinition::WindowUDF(_) => true,
        WindowFunctionDefinition::AggregateUDF(function) => {
            let by_order = ["array_agg", "string_agg", "first_value", "last_value", "nth_value", "any_value"];
            !whole || by_order.contains(&function.name())
        }
    }
}

fn function_name(expr: &Expr) -> String {
    match expr {
        Expr::Alias(alias) => function_name(&alias.expr),
        Expr::AggregateFunction(function) => function.func.name().to_owned(),
        Expr::WindowFunction(function) => function.fun.name().to_owned(),
        other => other.human_display().to_string(),
    }
}

fn unsupported(plan: &LogicalPlan, place: &str) -> QueryError {
    let name = match plan {
        LogicalPlan::Join(_) => "a join",
        LogicalPlan::Limit(_) => "LIMIT",
        LogicalPlan::Union(_) => "UNION ALL",
        LogicalPlan::Distinct(_) => "DISTINCT ON",
        LogicalPlan::Values(_) | LogicalPlan::EmptyRelation(_) => "a SELECT without a source",
        LogicalPlan::Subquery(_) => "a subquery that refers to the outer query",
        _ => "this statement",
    };
    QueryError::new(format!("{name} is not supported {place}"))
}

/// Looks at an expression and all its parts.
pub(super) fn find(expr: &Expr, look: &mut dyn FnMut(&Expr) -> Refusal) -> Refusal {
    let mut refused = ControlFlow::Continue(());
    let walked = expr.apply(|expr| {
        Ok(match look(expr) {
            Ok(()) => TreeNodeRecursion::Continue,
            Err(error) => {
                refused = ControlFlow::Break(error);
                TreeNodeRecursion::Stop
            }
        })
    });
    match (refused, walked) {
        (ControlFlow::Break(error), _) => Err(error),
        (ControlFlow::Continue(()), Err(error)) => Err(QueryError::from_datafusion(&error)),
        (ControlFlow::Continue(()), Ok(_)) => Ok(()),
    }
}
