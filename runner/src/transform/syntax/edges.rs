//! The names of a window's edges in a query over tables, wherever a SELECT in it groups by a window.

use datafusion::sql::sqlparser::ast::{OrderByKind, Query, SetExpr};

use super::visit::{self, Visited, Visitor};
use super::walk::window::{has_window, mark_edges, mark_select};
use crate::transform::error::QueryError;

/// Replaces the names by their signs.
pub(super) fn mark(query: &mut Query) -> Result<(), QueryError> {
    visit::query(&mut Edges, query)
}

struct Edges;

impl Visitor for Edges {
    fn query(&mut self, query: &mut Query) -> Visited {
        set(&mut query.body);
        // ORDER BY belongs to the query, its names to the SELECT inside.
        let is_windowed = matches!(&*query.body, SetExpr::Select(select) if has_window(select));
        if let Some(order_by) = query.order_by.as_mut().filter(|_| is_windowed)
            && let OrderByKind::Expressions(keys) = &mut order_by.kind
        {
            keys.iter_mut().for_each(|key| mark_edges(&mut key.expr));
        }
        Ok(())
    }
}

fn set(body: &mut SetExpr) {
    match body {
        SetExpr::Select(of) if has_window(of) => mark_select(of),
        SetExpr::SetOperation { left, right, .. } => {
            set(left);
            set(right);
        }
        _ => {}
    }
}
