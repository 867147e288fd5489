//! The window in GROUP BY: which one it is, and the names of its edges in the same SELECT.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, GroupByExpr, Ident,
    ObjectName, Select, SelectItem, Spanned,
};

use super::super::super::error::{Position, QueryError};
use super::super::super::window::{Edge, WindowCall, WindowKind};
use super::super::parts::parts;
use super::super::{Clause, elsewhere, place};
use super::{Flow, USE_A_WINDOW, Walk, function_name, refuse};

impl Walk<'_> {
    /// Finds the window in GROUP BY, and marks the window's names in that SELECT.
    pub(super) fn find_window(&mut self, select: &mut Select, start: Option<Position>) -> Flow {
        let GroupByExpr::Expressions(keys, modifiers) = &mut select.group_by else {
            let error = QueryError::new("GROUP BY ALL names no window").at(start);
            return refuse(error.cure(format!("write the columns: {USE_A_WINDOW}")));
        };
        if let Some(key) = keys.first() {
            self.note(Clause::GroupBy, place(key.span().start));
        }
        let mut windows = keys.iter().filter_map(window_call);
        let Some(window) = windows.next() else { return ControlFlow::Continue(()) };
        if let Some(second) = windows.next().or(self.places.window.is_some().then_some(window)) {
            let first = self.places.window.unwrap_or(window).kind;
            let (first, name) = (first.name(), second.kind.name());
            let message = if first == name {
                format!("{name} stands twice")
            } else {
                format!("{first} and {name} stand together")
            };
            let error = QueryError::new(message).at(second.place);
            return refuse(error.cure("a query has one window; compute everything in the SELECT that has it"));
        }
        if !modifiers.is_empty() || keys.iter().any(is_grouping_set) {
            let error = QueryError::new("ROLLUP, CUBE and GROUPING SETS do not go with a window").at(window.place);
            return refuse(error.cure("write one job for each grouping"));
        }
        self.places.window = Some(window);

        mark_select(select);
        ControlFlow::Continue(())
    }

    /// A call of a window's function: the one in GROUP BY, as it should be.
    pub(super) fn check_window(&self, kind: WindowKind, function: &Function, position: Option<Position>) -> Flow {
        let call = self.places.window.filter(|window| Some(window.place) == position);
        let Some(call) = call else {
            let error = QueryError::new(format!("{} stands alone in GROUP BY, nowhere else", kind.name())).at(position);
            return refuse(
                error.cure(format!("GROUP BY {}, …, and select window_start or window_end", kind.example())),
            );
        };
        if let Some(table) = self.table_in(function) {
            return refuse(elsewhere::table_first(kind.name(), &table).at(position));
        }
        let plain = function.over.is_none() && function.filter.is_none();
        if !plain || !kind.arguments().contains(&call.arguments) {
            return refuse(QueryError::new(kind.takes()).at(position).cure(kind.example()));
        }
        ControlFlow::Continue(())
    }

    /// The table that a function has as its first argument, where only values may stand.
    fn table_in(&self, function: &Function) -> Option<String> {
        let FunctionArguments::List(list) = &function.args else { return None };
        let FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(ident))) = list.args.first()? else {
            return None;
        };
        let mut columns = self.inputs.schemas().flat_map(|schema| schema.fields());
        let is_column = columns.any(|field| field.name().eq_ignore_ascii_case(&ident.value));
        let mut names = self.inputs.sources.iter().map(|source| &source.name);
        let table = names.find(|name| name.eq_ignore_ascii_case(&ident.value));
        table.filter(|_| !is_column).cloned()
    }
}

/// Replaces the names of the window's edges by their signs in a SELECT that has the window.
pub(in super::super) fn mark_select(select: &mut Select) {
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(Expr::Identifier(ident)) = item
            && let Some(edge) = edge_name(ident)
        {
            let expr = Expr::Identifier(ident.clone());
            *item = SelectItem::ExprWithAlias { expr, alias: Ident::new(edge.name()) };
        }
    }
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
            mark_edges(expr);
        }
    }
    if let GroupByExpr::Expressions(keys, _) = &mut select.group_by {
        keys.iter_mut().for_each(mark_edges);
    }
    select.having.iter_mut().chain(&mut select.qualify).for_each(mark_edges);
}

/// Replaces the names of the window's edges by their signs.
pub(in super::super) fn mark_edges(expr: &mut Expr) {
    let Expr::Identifier(ident) = expr else {
        // Of what may not be in a query nobody needs the parts; too deep nesting is refused afterwards.
        parts(expr).into_iter().flatten().for_each(mark_edges);
        return;
    };
    let Some(edge) = edge_name(ident) else { return };
    let name = Ident { value: edge.sign_name().to_owned(), quote_style: Some('"'), span: ident.span };
    let no_arguments =
        FunctionArgumentList { duplicate_treatment: None, args: Vec::<FunctionArg>::new(), clauses: vec![] };
    *expr = Expr::Function(Function {
        name: ObjectName::from(vec![name]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(no_arguments),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    });
}

pub(in super::super) fn has_window(select: &Select) -> bool {
    matches!(&select.group_by, GroupByExpr::Expressions(keys, _) if keys.iter().any(|key| window_call(key).is_some()))
}

/// The window that a key of GROUP BY is.
fn window_call(key: &Expr) -> Option<WindowCall> {
    let Expr::Function(function) = key else { return None };
    let kind = WindowKind::from_name(&function_name(function))?;
    let arguments = match &function.args {
        FunctionArguments::List(list) => list.args.len(),
        _ => 0,
    };
    let place = place(function.name.span().start).unwrap_or(Position { line: 1, column: 1 });
    Some(WindowCall { kind, arguments, place })
}

fn is_grouping_set(expr: &Expr) -> bool {
    matches!(expr, Expr::Rollup(_) | Expr::Cube(_) | Expr::GroupingSets(_))
}

fn edge_name(ident: &Ident) -> Option<Edge> {
    match ident.quote_style {
        None => Edge::from_name(&ident.value.to_lowercase()),
        Some(_) => Edge::from_name(&ident.value),
    }
}
