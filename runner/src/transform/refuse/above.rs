//! What may stand above a window: whatever does not mix rows of different windows.

use std::collections::HashSet;

use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, LogicalPlan, Window, WindowFrameBound, WindowFunctionDefinition,
};

use super::{Context, Refusal, find, function_name, unsupported};
use crate::transform::error::QueryError;
use crate::transform::event_order::COLLECT_LIST;
use crate::transform::syntax::Clause;
use crate::transform::window::{WindowKind, edge_sign, window_sign};

impl Context<'_> {
    /// Everything above the window: `path` leads from the node above the window's aggregate to the top.
    pub(in crate::transform) fn check_above(
        &self,
        path: &[&LogicalPlan],
        window: &LogicalPlan,
        kind: WindowKind,
    ) -> Refusal {
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
}

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
