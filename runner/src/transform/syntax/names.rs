//! The functions and tables that a query over tables names, judged without the tables: which columns they have is known when the
//! query runs, but a function that is not there never will be.

use std::collections::HashSet;

use data_platform_crds::problem::did_you_mean;
use datafusion::execution::SessionState;
use datafusion::sql::sqlparser::ast::{
    Distinct, Expr, Function, GroupByExpr, Ident, JoinConstraint, ObjectName, OrderByKind, Query, Select, SelectItem,
    SetExpr, Spanned, TableFactor, TableWithJoins,
};

use super::joins::constraint;
use super::parts::parts;
use super::place;
use crate::transform::error::QueryError;
use crate::transform::planning_error::instead_of;

/// Functions that the planner itself knows.
const OF_THE_PLANNER: [&str; 2] = ["unnest", "unnest_outer"];

/// Refuses functions and tables that are not there. `tables` are those that the query may read.
pub(super) fn check(query: &mut Query, tables: &[&str], state: &SessionState) -> Result<(), QueryError> {
    let mut names = Names { tables, state, with: HashSet::new() };
    names.query(query)
}

struct Names<'a> {
    tables: &'a [&'a str],
    state: &'a SessionState,
    /// Every name of a WITH, wherever it is known: rather too many than a name that is refused by mistake.
    with: HashSet<String>,
}

type Checked = Result<(), QueryError>;

impl Names<'_> {
    fn query(&mut self, query: &mut Query) -> Checked {
        for table in query.with.iter_mut().flat_map(|with| &mut with.cte_tables) {
            self.with.insert(normal(&table.alias.name));
            self.query(&mut table.query)?;
        }
        self.set(&mut query.body)?;
        if let Some(order_by) = &mut query.order_by
            && let OrderByKind::Expressions(keys) = &mut order_by.kind
        {
            keys.iter_mut().try_for_each(|key| self.expr(&mut key.expr))?;
        }
        Ok(())
    }

    fn set(&mut self, body: &mut SetExpr) -> Checked {
        match body {
            SetExpr::Select(select) => self.select(select),
            SetExpr::Query(query) => self.query(query),
            SetExpr::SetOperation { left, right, .. } => {
                self.set(left)?;
                self.set(right)
            }
            SetExpr::Values(values) => {
                let mut rows = values.rows.iter_mut();
                rows.try_for_each(|row| row.content.iter_mut().try_for_each(|expr| self.expr(expr)))
            }
            _ => Ok(()),
        }
    }

    fn select(&mut self, select: &mut Select) -> Checked {
        select.from.iter_mut().try_for_each(|table| self.from(table))?;
        if let Some(Distinct::On(keys)) = &mut select.distinct {
            keys.iter_mut().try_for_each(|key| self.expr(key))?;
        }
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                self.expr(expr)?;
            }
        }
        if let GroupByExpr::Expressions(keys, _) = &mut select.group_by {
            keys.iter_mut().try_for_each(|key| self.expr(key))?;
        }
        let conditions = select.selection.iter_mut().chain(&mut select.having).chain(&mut select.qualify);
        conditions.into_iter().try_for_each(|expr| self.expr(expr))
    }

    fn from(&mut self, table: &mut TableWithJoins) -> Checked {
        self.table(&mut table.relation)?;
        for join in &mut table.joins {
            self.table(&mut join.relation)?;
            if let Some((_, JoinConstraint::On(expr))) = constraint(&mut join.join_operator) {
                self.expr(expr)?;
            }
        }
        Ok(())
    }

    fn table(&mut self, table: &mut TableFactor) -> Checked {
        match table {
            TableFactor::Table { name, args: None, .. } => self.known_table(name),
            TableFactor::Derived { subquery, .. } => self.query(subquery),
            TableFactor::NestedJoin { table_with_joins, .. } => self.from(table_with_joins),
            _ => Ok(()),
        }
    }

    fn known_table(&self, name: &ObjectName) -> Checked {
        let [part] = &name.0[..] else { return Ok(()) };
        let Some(ident) = part.as_ident() else { return Ok(()) };
        let wanted = normal(ident);
        if self.with.contains(&wanted) || self.tables.iter().any(|table| table.eq_ignore_ascii_case(&wanted)) {
            return Ok(());
        }
        let error = QueryError::new(format!("there is no table {wanted}")).at(place(name.span().start));
        Err(match did_you_mean(&wanted, self.tables.iter().copied()) {
            Some(nearest) => error.cure(format!("did you mean {nearest}?")),
            None => error.cure(format!("the query reads the inputs of the job: {}", self.tables.join(", "))),
        })
    }

    fn expr(&mut self, expr: &mut Expr) -> Checked {
        match expr {
            Expr::Function(function) => self.known_function(function)?,
            Expr::Subquery(query) => return self.query(query),
            Expr::Exists { subquery, .. } => return self.query(subquery),
            Expr::InSubquery { expr, subquery, .. } => {
                self.expr(expr)?;
                return self.query(subquery);
            }
            _ => {}
        }
        parts(expr).into_iter().flatten().try_for_each(|part| self.expr(part))
    }

    fn known_function(&self, function: &Function) -> Checked {
        let [part] = &function.name.0[..] else { return Ok(()) };
        let Some(ident) = part.as_ident() else { return Ok(()) };
        let name = normal(ident);
        let known = self.state.scalar_functions().contains_key(&name)
            || self.state.aggregate_functions().contains_key(&name)
            || self.state.window_functions().contains_key(&name)
            || self.state.higher_order_functions().contains_key(&name)
            || OF_THE_PLANNER.contains(&name.as_str());
        if known {
            return Ok(());
        }
        let functions = self.state.scalar_functions().keys().chain(self.state.aggregate_functions().keys());
        let functions = functions.chain(self.state.window_functions().keys()).map(String::as_str);
        let error = QueryError::new(format!("there is no function {name}")).at(place(function.name.span().start));
        Err(error.cure(instead_of(&name, functions)))
    }
}

/// A name as it is looked up.
fn normal(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}
