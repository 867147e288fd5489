//! The expressions directly inside an expression, for the kinds of expressions that a job's query may have.
//!
//! The parser can walk its whole tree by itself, every kind of statement included; that code costs a minute to compile
//! in each of our binaries, and would let new kinds of expressions pass unseen.

use datafusion::sql::sqlparser::ast::{
    AccessExpr, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments, OrderByExpr,
    Subscript, WindowFrameBound, WindowType,
};

/// The parts of an expression, in the order of the text; `None` if no query may have this kind.
pub(super) fn parts(expr: &mut Expr) -> Option<Vec<&mut Expr>> {
    Some(match expr {
        Expr::Identifier(_)
        | Expr::CompoundIdentifier(_)
        | Expr::Value(_)
        | Expr::TypedString(_)
        | Expr::Wildcard(_) => vec![],
        Expr::QualifiedWildcard(..) => vec![],
        Expr::IsFalse(part)
        | Expr::IsNotFalse(part)
        | Expr::IsTrue(part)
        | Expr::IsNotTrue(part)
        | Expr::IsNull(part)
        | Expr::IsNotNull(part)
        | Expr::IsUnknown(part)
        | Expr::IsNotUnknown(part)
        | Expr::Nested(part)
        | Expr::UnaryOp { expr: part, .. }
        | Expr::Cast { expr: part, .. }
        | Expr::Extract { expr: part, .. }
        | Expr::Ceil { expr: part, .. }
        | Expr::Floor { expr: part, .. }
        | Expr::Named { expr: part, .. } => boxed(vec![part]),
        Expr::IsDistinctFrom(left, right) | Expr::IsNotDistinctFrom(left, right) => boxed(vec![left, right]),
        Expr::BinaryOp { left, right, .. } | Expr::AnyOp { left, right, .. } | Expr::AllOp { left, right, .. } => {
            boxed(vec![left, right])
        }
        Expr::Like { expr, pattern, .. }
        | Expr::ILike { expr, pattern, .. }
        | Expr::SimilarTo { expr, pattern, .. }
        | Expr::RLike { expr, pattern, .. } => boxed(vec![expr, pattern]),
        Expr::Position { expr, r#in } => boxed(vec![expr, r#in]),
        Expr::AtTimeZone { timestamp, time_zone } => boxed(vec![timestamp, time_zone]),
        Expr::Between { expr, low, high, .. } => boxed(vec![expr, low, high]),
        Expr::InList { expr, list, .. } => std::iter::once(expr.as_mut()).chain(list).collect(),
        Expr::CompoundFieldAccess { root, access_chain } => {
            std::iter::once(root.as_mut()).chain(access_chain.iter_mut().flat_map(access_parts)).collect()
        }
        Expr::Substring { expr, substring_from, substring_for, .. } => {
            std::iter::once(expr).chain(substring_from).chain(substring_for).map(|part| part.as_mut()).collect()
        }
        Expr::Trim { trim_what, expr, trim_characters, .. } => {
            let outer = trim_what.iter_mut().chain(std::iter::once(expr)).map(|part| part.as_mut());
            outer.chain(trim_characters.iter_mut().flatten()).collect()
        }
        Expr::Overlay { expr, overlay_what, overlay_from, overlay_for } => {
            [expr, overlay_what, overlay_from].into_iter().chain(overlay_for).map(|part| part.as_mut()).collect()
        }
        Expr::Case { operand, conditions, else_result, .. } => {
            let whens = conditions.iter_mut().flat_map(|when| [&mut when.condition, &mut when.result]);
            let operand = operand.iter_mut().map(|part| part.as_mut());
            operand.chain(whens).chain(else_result.iter_mut().map(|part| part.as_mut())).collect()
        }
        Expr::Function(function) => function_parts(function)?,
        Expr::GroupingSets(sets) | Expr::Cube(sets) | Expr::Rollup(sets) => sets.iter_mut().flatten().collect(),
        Expr::Tuple(values) | Expr::Struct { values, .. } => values.iter_mut().collect(),
        Expr::Dictionary(fields) => fields.iter_mut().map(|field| field.value.as_mut()).collect(),
        Expr::Map(map) => map.entries.iter_mut().flat_map(|entry| [entry.key.as_mut(), entry.value.as_mut()]).collect(),
        Expr::Array(array) => array.elem.iter_mut().collect(),
        Expr::Interval(interval) => vec![interval.value.as_mut()],
        Expr::Lambda(lambda) => vec![lambda.body.as_mut()],
        // Refused by name before anybody asks for their parts.
        Expr::Subquery(_) | Expr::InSubquery { .. } | Expr::Exists { .. } => vec![],
        _ => return None,
    })
}

fn boxed(parts: Vec<&mut Box<Expr>>) -> Vec<&mut Expr> {
    parts.into_iter().map(|part| part.as_mut()).collect()
}

fn access_parts(access: &mut AccessExpr) -> Vec<&mut Expr> {
    match access {
        // The name of a field, not of a column.
        AccessExpr::Dot(Expr::Identifier(_)) => vec![],
        AccessExpr::Dot(expr) | AccessExpr::Subscript(Subscript::Index { index: expr }) => vec![expr],
        AccessExpr::Subscript(Subscript::Slice { lower_bound, upper_bound, stride }) => {
            lower_bound.iter_mut().chain(upper_bound).chain(stride).collect()
        }
    }
}

fn function_parts(function: &mut Function) -> Option<Vec<&mut Expr>> {
    let mut parts = vec![];
    match &mut function.args {
        FunctionArguments::None => {}
        FunctionArguments::Subquery(_) => return None,
        FunctionArguments::List(list) => {
            for argument in &mut list.args {
                match argument {
                    FunctionArg::Unnamed(argument)
                    | FunctionArg::Named { arg: argument, .. }
                    | FunctionArg::ExprNamed { arg: argument, .. } => {
                        if let FunctionArgExpr::Expr(expr) = argument {
                            parts.push(expr);
                        }
                    }
                }
            }
            for clause in &mut list.clauses {
                match clause {
                    FunctionArgumentClause::OrderBy(keys) => parts.extend(order_parts(keys)),
                    FunctionArgumentClause::IgnoreOrRespectNulls(_) => {}
                    _ => return None,
                }
            }
        }
    }
    parts.extend(function.filter.iter_mut().map(|filter| filter.as_mut()));
    parts.extend(order_parts(&mut function.within_group));
    if let Some(WindowType::WindowSpec(over)) = &mut function.over {
        parts.extend(&mut over.partition_by);
        parts.extend(order_parts(&mut over.order_by));
        if let Some(frame) = &mut over.window_frame {
            let bounds = std::iter::once(&mut frame.start_bound).chain(&mut frame.end_bound);
            parts.extend(bounds.filter_map(|bound| match bound {
                WindowFrameBound::Preceding(Some(rows)) | WindowFrameBound::Following(Some(rows)) => {
                    Some(rows.as_mut())
                }
                _ => None,
            }));
        }
    }
    Some(parts)
}

fn order_parts(keys: &mut [OrderByExpr]) -> impl Iterator<Item = &mut Expr> {
    keys.iter_mut().map(|key| &mut key.expr)
}
