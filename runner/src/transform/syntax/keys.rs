//! Keys of GROUP BY that the planner would call the same: `x` and `CAST(x AS DATE)`, since a CAST has the name of what it
//! casts. Such a CAST is put into a function that gives back what it gets, under a name of its own.

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, GroupByExpr, Ident,
    ObjectName, OrderByKind, Query, Select, SelectItem, SetExpr, TableFactor, Value,
};

use super::parts::parts;
use crate::engine::SAME;

/// Tells the keys apart in a query and everything in its WITH and FROM.
pub(super) fn tell_apart(query: &mut Query) {
    for table in query.with.iter_mut().flat_map(|with| &mut with.cte_tables) {
        tell_apart(&mut table.query);
    }
    let casts = in_set(&mut query.body);
    if let Some(order_by) = &mut query.order_by
        && let OrderByKind::Expressions(keys) = &mut order_by.kind
    {
        keys.iter_mut().for_each(|key| name_casts(&mut key.expr, &casts));
    }
}

/// The casts that were named in a SELECT, for the ORDER BY of its query.
fn in_set(body: &mut SetExpr) -> Vec<Expr> {
    match body {
        SetExpr::Select(select) => in_select(select),
        SetExpr::Query(query) => {
            tell_apart(query);
            vec![]
        }
        SetExpr::SetOperation { left, right, .. } => {
            in_set(left);
            in_set(right);
            vec![]
        }
        _ => vec![],
    }
}

fn in_select(select: &mut Select) -> Vec<Expr> {
    for table in &mut select.from {
        let joined = table.joins.iter_mut().map(|join| &mut join.relation);
        for relation in std::iter::once(&mut table.relation).chain(joined) {
            if let TableFactor::Derived { subquery, .. } = relation {
                tell_apart(subquery);
            }
        }
    }
    let GroupByExpr::Expressions(keys, _) = &mut select.group_by else { return vec![] };
    let meant: Vec<&Expr> = keys.iter().map(|key| meant(key, &select.projection)).collect();
    let names: Vec<String> = meant.iter().map(|key| without_casts(key)).collect();
    let alike = |index: usize| names.iter().filter(|name| **name == names[index]).count() > 1;
    let casts = meant.iter().enumerate().filter(|(index, key)| matches!(key, Expr::Cast { .. }) && alike(*index));
    let casts: Vec<Expr> = casts.map(|(_, key)| (*key).clone()).collect();
    if casts.is_empty() {
        return casts;
    }
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
            name_casts(expr, &casts);
        }
    }
    keys.iter_mut().chain(&mut select.having).chain(&mut select.qualify).for_each(|expr| name_casts(expr, &casts));
    casts
}

/// What a key stands for: a position or an alias is an expression of the SELECT list.
fn meant<'a>(key: &'a Expr, list: &'a [SelectItem]) -> &'a Expr {
    let found = match key {
        Expr::Value(value) => match &value.value {
            Value::Number(position, _) => {
                position.parse::<usize>().ok().and_then(|position| list.get(position.checked_sub(1)?))
            }
            _ => None,
        },
        Expr::Identifier(ident) => list.iter().find(|item| match item {
            SelectItem::ExprWithAlias { alias, .. } => alias.value.eq_ignore_ascii_case(&ident.value),
            _ => false,
        }),
        _ => None,
    };
    match found {
        Some(SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) => expr,
        _ => key,
    }
}

/// What the planner would call an expression, as far as it matters here.
fn without_casts(expr: &Expr) -> String {
    match expr {
        Expr::Cast { expr, .. } | Expr::Nested(expr) => without_casts(expr),
        other => other.to_string().to_lowercase(),
    }
}

fn name_casts(expr: &mut Expr, casts: &[Expr]) {
    if casts.iter().any(|cast| cast.to_string() == expr.to_string()) {
        let arg = FunctionArg::Unnamed(FunctionArgExpr::Expr(expr.clone()));
        let args = FunctionArgumentList { duplicate_treatment: None, args: vec![arg], clauses: vec![] };
        *expr = Expr::Function(Function {
            name: ObjectName::from(vec![Ident::with_quote('"', SAME)]),
            uses_odbc_syntax: false,
            parameters: FunctionArguments::None,
            args: FunctionArguments::List(args),
            filter: None,
            null_treatment: None,
            over: None,
            within_group: vec![],
        });
        return;
    }
    parts(expr).into_iter().flatten().for_each(|part| name_casts(part, casts));
}
