//! What a logical plan may not do on a stream, and what would work instead: the rules of the protocol's section
//! "What SQL may do in a stream".
//!
//! An answer must not depend on how the stream was cut into micro-batches. So rows are computed one by one below a
//! window, the window's aggregates do not depend on the order of arrival, and above it only rows of one window meet.

mod above;
mod size;

use std::ops::ControlFlow;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, Volatility};

use super::error::QueryError;
use super::event_order::COLLECT_LIST;
use super::inputs::{QueryInputs, only_references};
use super::syntax::{Clause, Places};
use super::window::{WindowKind, edge_sign};

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
