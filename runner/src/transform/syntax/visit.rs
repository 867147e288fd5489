//! One way through every SELECT, name and call of a query over tables, however they lie inside each other.

use datafusion::sql::sqlparser::ast::{
    Distinct, Expr, Function, GroupByExpr, Ident, JoinConstraint, ObjectName, OrderByKind, Query, Select, SelectItem,
    SetExpr, TableFactor, TableWithJoins,
};

use super::joins::constraint;
use super::parts::parts;
use crate::transform::error::QueryError;

/// What a look came to.
pub(super) type Visited = Result<(), QueryError>;

/// Whoever goes through a query. Each method is called before what lies inside is looked at.
pub(super) trait Visitor {
    /// A name of WITH, from here on.
    fn with(&mut self, _: &Ident) {}

    /// A query, with its ORDER BY.
    fn query(&mut self, _: &mut Query) -> Visited {
        Ok(())
    }

    /// A table in FROM.
    fn table(&mut self, _: &ObjectName) -> Visited {
        Ok(())
    }

    /// The parts of the name of a column, or a name that is given to one.
    fn column(&mut self, _: &mut [Ident]) {}

    /// A call.
    fn function(&mut self, _: &Function) -> Visited {
        Ok(())
    }
}

/// Goes through a query.
pub(super) fn query(visitor: &mut dyn Visitor, of: &mut Query) -> Visited {
    visitor.query(of)?;
    for table in of.with.iter_mut().flat_map(|with| &mut with.cte_tables) {
        visitor.with(&table.alias.name);
        query(visitor, &mut table.query)?;
    }
    set(visitor, &mut of.body)?;
    if let Some(order_by) = &mut of.order_by
        && let OrderByKind::Expressions(keys) = &mut order_by.kind
    {
        keys.iter_mut().try_for_each(|key| expr(visitor, &mut key.expr))?;
    }
    Ok(())
}

fn set(visitor: &mut dyn Visitor, body: &mut SetExpr) -> Visited {
    match body {
        SetExpr::Select(of) => select(visitor, of),
        SetExpr::Query(of) => query(visitor, of),
        SetExpr::SetOperation { left, right, .. } => {
            set(visitor, left)?;
            set(visitor, right)
        }
        SetExpr::Values(values) => {
            let mut rows = values.rows.iter_mut();
            rows.try_for_each(|row| row.content.iter_mut().try_for_each(|of| expr(visitor, of)))
        }
        _ => Ok(()),
    }
}

fn select(visitor: &mut dyn Visitor, of: &mut Select) -> Visited {
    of.from.iter_mut().try_for_each(|table| from(visitor, table))?;
    if let Some(Distinct::On(keys)) = &mut of.distinct {
        keys.iter_mut().try_for_each(|key| expr(visitor, key))?;
    }
    for item in &mut of.projection {
        if let SelectItem::ExprWithAlias { alias, .. } = item {
            visitor.column(std::slice::from_mut(alias));
        }
        if let SelectItem::UnnamedExpr(of) | SelectItem::ExprWithAlias { expr: of, .. } = item {
            expr(visitor, of)?;
        }
    }
    if let GroupByExpr::Expressions(keys, _) = &mut of.group_by {
        keys.iter_mut().try_for_each(|key| expr(visitor, key))?;
    }
    let conditions = of.selection.iter_mut().chain(&mut of.having).chain(&mut of.qualify);
    conditions.into_iter().try_for_each(|of| expr(visitor, of))
}

fn from(visitor: &mut dyn Visitor, of: &mut TableWithJoins) -> Visited {
    table(visitor, &mut of.relation)?;
    for join in &mut of.joins {
        table(visitor, &mut join.relation)?;
        if let Some((_, JoinConstraint::On(of))) = constraint(&mut join.join_operator) {
            expr(visitor, of)?;
        }
    }
    Ok(())
}

fn table(visitor: &mut dyn Visitor, of: &mut TableFactor) -> Visited {
    match of {
        TableFactor::Table { name, args: None, .. } => visitor.table(name),
        TableFactor::Derived { subquery, .. } => query(visitor, subquery),
        TableFactor::NestedJoin { table_with_joins, .. } => from(visitor, table_with_joins),
        _ => Ok(()),
    }
}

fn expr(visitor: &mut dyn Visitor, of: &mut Expr) -> Visited {
    match of {
        Expr::Identifier(name) => visitor.column(std::slice::from_mut(name)),
        Expr::CompoundIdentifier(names) => visitor.column(names),
        Expr::Function(function) => visitor.function(function)?,
        Expr::Subquery(of) => return query(visitor, of),
        Expr::Exists { subquery, .. } => return query(visitor, subquery),
        Expr::InSubquery { expr: left, subquery, .. } => {
            expr(visitor, left)?;
            return query(visitor, subquery);
        }
        _ => {}
    }
    parts(of).into_iter().flatten().try_for_each(|part| expr(visitor, part))
}
