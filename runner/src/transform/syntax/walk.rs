//! One walk over the syntax tree: refuses clauses that no stream can have, remembers places, marks the window's names.

mod from;
pub(super) mod window;

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Distinct, ExcludeSelectItem, Expr, Function, FunctionArguments, GroupByExpr, Ident, ObjectName, OrderByKind, Query,
    Select, SelectItem, SetExpr, SetOperator, SetQuantifier, Spanned, Value, WildcardAdditionalOptions,
};

use self::window::{has_window, mark_edges};
use super::super::error::{Position, QueryError};
use super::super::inputs::QueryInputs;
use super::super::window::WindowKind;
use super::parts::parts;
use super::{Clause, Places, place};

/// Operators and calls inside each other. Expressions are computed by recursion on the pipeline's ordinary stack, and
/// planning one takes time with the square of its depth: 0.3 s at this one (measured 2026-11).
const EXPRESSION_DEPTH_MAX: usize = 256;

/// Squares of depths in a whole query: four expressions of the greatest depth, or thousands of ordinary ones.
const PLANNING_COST_MAX: usize = 4 * EXPRESSION_DEPTH_MAX * EXPRESSION_DEPTH_MAX;

/// Branches of UNION ALL: each is computed for every micro-batch.
const UNION_BRANCHES_MAX: usize = 64;

const USE_A_WINDOW: &str = "GROUP BY tumble(<event time>, INTERVAL '1 minute'), …";

type Flow = ControlFlow<Box<QueryError>>;

fn refuse(error: QueryError) -> Flow {
    ControlFlow::Break(Box::new(error))
}

pub(super) struct Walk<'a> {
    inputs: &'a QueryInputs,
    /// Exact names of declared columns by their lower case.
    spelling: HashMap<String, String>,
    /// Names that may stand in FROM, and table aliases; all in lower case.
    tables: HashSet<String>,
    query_depth: usize,
    expression_depth: usize,
    /// Greatest depth in the expression that is being walked.
    depth_reached: usize,
    planning_cost: usize,
    pub(super) places: Places,
}

impl<'a> Walk<'a> {
    pub(super) fn new(inputs: &'a QueryInputs, spelling: HashMap<String, String>) -> Self {
        let tables = inputs.names().map(str::to_lowercase).collect();
        Self {
            inputs,
            spelling,
            tables,
            query_depth: 0,
            expression_depth: 0,
            depth_reached: 0,
            planning_cost: 0,
            places: Places::default(),
        }
    }

    /// Checks a query and everything inside it.
    pub(super) fn walk_query(&mut self, query: &mut Query) -> Flow {
        self.check_query(query)?;
        self.query_depth += 1;
        for cte in query.with.iter_mut().flat_map(|with| &mut with.cte_tables) {
            self.walk_query(&mut cte.query)?;
            // Known from here on, to the tables after it and to the query.
            self.tables.insert(cte.alias.name.value.to_lowercase());
        }
        let has_window = matches!(&*query.body, SetExpr::Select(select) if has_window(select));
        self.walk_set(&mut query.body)?;
        self.query_depth -= 1;
        if let Some(order_by) = &mut query.order_by
            && let OrderByKind::Expressions(keys) = &mut order_by.kind
        {
            for key in keys {
                // ORDER BY belongs to the query, its names to the SELECT inside.
                if has_window {
                    mark_edges(&mut key.expr);
                }
                self.walk_expr(&mut key.expr)?;
            }
        }
        ControlFlow::Continue(())
    }

    fn walk_set(&mut self, body: &mut SetExpr) -> Flow {
        match body {
            SetExpr::Select(select) => self.walk_select(select),
            SetExpr::Query(query) => self.walk_query(query),
            SetExpr::SetOperation { left, right, .. } => {
                self.walk_set(left)?;
                self.walk_set(right)
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn walk_select(&mut self, select: &mut Select) -> Flow {
        self.check_select(select)?;
        for table in &mut select.from {
            self.walk_table(&mut table.relation)?;
            table.joins.iter_mut().try_for_each(|join| self.walk_join(join))?;
        }
        for item in &mut select.projection {
            match item {
                SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAliases { expr, .. } => self.walk_expr(expr)?,
                SelectItem::ExprWithAlias { expr, alias } => {
                    self.spell(alias);
                    self.walk_expr(expr)?;
                }
                SelectItem::Wildcard(options) | SelectItem::QualifiedWildcard(_, options) => {
                    self.walk_wildcard(options)?
                }
            }
        }
        select.selection.iter_mut().try_for_each(|expr| self.walk_expr(expr))?;
        if let GroupByExpr::Expressions(keys, _) = &mut select.group_by {
            keys.iter_mut().try_for_each(|key| self.walk_expr(key))?;
        }
        select.having.iter_mut().chain(&mut select.qualify).try_for_each(|expr| self.walk_expr(expr))
    }

    fn walk_wildcard(&mut self, options: &mut WildcardAdditionalOptions) -> Flow {
        if let Some(except) = &mut options.opt_except {
            std::iter::once(&mut except.first_element)
                .chain(&mut except.additional_elements)
                .for_each(|ident| self.spell(ident));
        }
        let excluded = match &mut options.opt_exclude {
            None => &mut [],
            Some(ExcludeSelectItem::Single(name)) => std::slice::from_mut(name),
            Some(ExcludeSelectItem::Multiple(names)) => names.as_mut_slice(),
        };
        for name in excluded {
            let mut idents: Vec<Ident> = name.0.iter().filter_map(|part| part.as_ident().cloned()).collect();
            idents.iter_mut().for_each(|ident| self.spell(ident));
            *name = ObjectName::from(idents);
        }
        let replaced = options.opt_replace.iter_mut().flat_map(|replace| &mut replace.items);
        for element in replaced {
            self.spell(&mut element.column_name);
            self.walk_expr(&mut element.expr)?;
        }
        ControlFlow::Continue(())
    }

    fn walk_expr(&mut self, expr: &mut Expr) -> Flow {
        self.expression_depth += 1;
        if self.expression_depth > EXPRESSION_DEPTH_MAX {
            let message = format!("an expression nests deeper than {EXPRESSION_DEPTH_MAX}");
            return refuse(QueryError::new(message).cure("split it with a subquery; use IN (…) for long lists of OR"));
        }
        self.depth_reached = self.depth_reached.max(self.expression_depth);
        self.check_expr(expr)?;
        match parts(expr) {
            Some(parts) => parts.into_iter().try_for_each(|part| self.walk_expr(part))?,
            None => {
                let words: String = expr.to_string().chars().take(40).collect();
                return refuse(not_in_jobs(&words).at(place(expr.span().start)));
            }
        }
        self.expression_depth -= 1;
        if self.expression_depth == 0 {
            self.planning_cost += self.depth_reached * self.depth_reached;
            self.depth_reached = 0;
            if self.planning_cost > PLANNING_COST_MAX {
                return refuse(
                    QueryError::new("the query has too many expressions that nest deeply")
                        .cure("use IN (…) for long lists of OR"),
                );
            }
        }
        ControlFlow::Continue(())
    }

    fn note(&mut self, clause: Clause, position: Option<Position>) {
        self.places.clauses.entry(clause).or_default().extend(position);
    }

    /// Gives a declared name its capitals.
    fn spell(&self, ident: &mut Ident) {
        if ident.quote_style.is_none()
            && let Some(exact) = self.spelling.get(&ident.value.to_lowercase())
        {
            ident.value.clone_from(exact);
            ident.quote_style = Some('"');
        }
    }

    fn check_query(&mut self, query: &mut Query) -> Flow {
        if let Some(with) = &query.with {
            if with.recursive {
                return refuse(
                    QueryError::new("WITH RECURSIVE never ends on a stream").at(place(with.with_token.0.span.start)),
                );
            }
            for cte in &with.cte_tables {
                let name = &cte.alias.name;
                if self.inputs.names().any(|input| name.value.eq_ignore_ascii_case(input)) {
                    let message = format!("the WITH table {name} has the name of a table that the job reads");
                    return refuse(QueryError::new(message).at(place(name.span.start)).cure("give it another name"));
                }
            }
        }
        if let Some(limit) = &query.limit_clause {
            let error = QueryError::new("LIMIT and OFFSET count the rows of a whole stream, which has no end");
            return refuse(error.at(place(limit.span().start)).cure(
                "rank the rows of each window, ROW_NUMBER() OVER (PARTITION BY window_start ORDER BY …), \
                 and filter by the rank in an outer SELECT",
            ));
        }
        for (present, clause) in [
            (query.fetch.is_some(), "FETCH"),
            (!query.locks.is_empty(), "FOR UPDATE or FOR SHARE"),
            (query.for_clause.is_some(), "FOR XML or FOR JSON"),
            (query.settings.is_some(), "SETTINGS"),
            (query.format_clause.is_some(), "FORMAT"),
            (!query.pipe_operators.is_empty(), "the pipe operator |>"),
        ] {
            if present {
                return refuse(not_in_jobs(clause).at(place(query.span().start)));
            }
        }
        if let Some(order_by) = &query.order_by {
            let position = place(order_by.span().start);
            if self.query_depth > 0 {
                return refuse(
                    QueryError::new("ORDER BY in a subquery has no effect")
                        .at(position)
                        .cure("leave it out, or order the outermost SELECT"),
                );
            }
            self.note(Clause::OrderBy, position);
        }
        let mut branches = 0;
        self.check_set(&query.body, &mut branches)
    }

    fn check_set(&mut self, body: &SetExpr, branches: &mut usize) -> Flow {
        let position = || place(body.span().start);
        match body {
            SetExpr::Select(_) | SetExpr::Query(_) => {
                *branches += 1;
                if *branches > UNION_BRANCHES_MAX {
                    return refuse(QueryError::new(format!("UNION ALL has more than {UNION_BRANCHES_MAX} branches")));
                }
                ControlFlow::Continue(())
            }
            SetExpr::SetOperation { left, op, set_quantifier, right } => {
                let all = matches!(set_quantifier, SetQuantifier::All | SetQuantifier::AllByName);
                if *op != SetOperator::Union || !all {
                    let what = if *op == SetOperator::Union { "UNION without ALL".to_owned() } else { op.to_string() };
                    return refuse(
                        QueryError::new(format!(
                            "{what} compares rows with all others of the stream, which has no end"
                        ))
                        .at(place(right.span().start))
                        .cure("use UNION ALL"),
                    );
                }
                self.check_set(left, branches)?;
                self.check_set(right, branches)
            }
            SetExpr::Values(_) => {
                refuse(QueryError::new("VALUES reads no source").at(position()).cure("write SELECT … FROM a source"))
            }
            SetExpr::Table(_) => refuse(not_in_jobs("TABLE").at(position()).cure("write SELECT * FROM a source")),
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => refuse(
                QueryError::new("a job's query only reads")
                    .at(position())
                    .cure("the sink in the job's spec says where its rows go"),
            ),
        }
    }

    fn check_select(&mut self, select: &mut Select) -> Flow {
        let start = place(select.select_token.0.span.start);
        match &select.distinct {
            Some(Distinct::On(_)) => {
                return refuse(
                    QueryError::new("DISTINCT ON picks a row by the order of arrival")
                        .at(start)
                        .cure("use first_value(x ORDER BY y), or ROW_NUMBER() OVER (PARTITION BY window_start, …)"),
                );
            }
            Some(Distinct::Distinct) => self.note(Clause::Distinct, start),
            Some(Distinct::All) | None => {}
        }
        for (present, clause) in [
            (select.top.is_some(), "TOP"),
            (select.into.is_some(), "SELECT INTO"),
            (!select.lateral_views.is_empty(), "LATERAL VIEW"),
            (select.prewhere.is_some(), "PREWHERE"),
            (!select.connect_by.is_empty(), "CONNECT BY"),
            (!select.cluster_by.is_empty(), "CLUSTER BY"),
            (!select.distribute_by.is_empty(), "DISTRIBUTE BY"),
            (!select.sort_by.is_empty(), "SORT BY"),
            (select.value_table_mode.is_some(), "SELECT AS STRUCT"),
            (select.select_modifiers.is_some(), "this modifier of SELECT"),
            (!select.named_window.is_empty(), "WINDOW … AS"),
        ] {
            if present {
                return refuse(not_in_jobs(clause).at(start));
            }
        }
        self.check_from(select, start)?;
        self.find_window(select, start)
    }

    fn check_function(&mut self, function: &Function) -> Flow {
        let name = function_name(function);
        let position = place(function.name.span().start);
        if let Some(position) = position {
            self.places.functions.entry(name.clone()).or_insert(position);
        }
        if let Some(kind) = WindowKind::from_name(&name) {
            self.check_window(kind, function, position)?;
        }
        match name.as_str() {
            "hopping" | "slide" | "sliding" | "cumulate" | "session_window" => {
                let kind = if name == "session_window" { WindowKind::Session } else { WindowKind::Hop };
                let error = QueryError::new(format!("there is no function {name}")).at(position);
                return refuse(error.cure(format!("use {}: GROUP BY {}, …", kind.name(), kind.example())));
            }
            "window" | "tumble_start" | "tumble_end" => {
                let error = QueryError::new(format!("there is no function {name}")).at(position);
                return refuse(error.cure(format!("{USE_A_WINDOW}, and select window_start or window_end")));
            }
            _ => {}
        }
        if function.over.is_some() {
            self.note(Clause::Over, position);
        }
        if matches!(function.args, FunctionArguments::Subquery(_)) {
            return refuse(subquery(position));
        }
        ControlFlow::Continue(())
    }

    fn check_expr(&mut self, expr: &mut Expr) -> Flow {
        match expr {
            Expr::Identifier(ident) if ident.value.starts_with('@') && ident.quote_style.is_none() => {
                let error = QueryError::new(format!("the variable {ident} does not exist in a job"))
                    .at(place(ident.span.start));
                return refuse(error.cure("write the value itself"));
            }
            Expr::Identifier(ident) => {
                self.spell(ident);
                if let Some(position) = place(ident.span.start) {
                    self.places.columns.entry(ident.value.to_lowercase()).or_insert(position);
                }
            }
            Expr::CompoundIdentifier(parts) => {
                let is_table = parts.first().is_some_and(|first| self.tables.contains(&first.value.to_lowercase()));
                for part in parts.iter_mut().skip(usize::from(is_table)) {
                    self.spell(part);
                    if let Some(position) = place(part.span.start) {
                        self.places.columns.entry(part.value.to_lowercase()).or_insert(position);
                    }
                }
            }
            Expr::Function(function) => return self.check_function(function),
            Expr::Subquery(_) | Expr::InSubquery { .. } | Expr::Exists { .. } => {
                return refuse(subquery(place(expr.span().start)));
            }
            Expr::Value(value) if matches!(value.value, Value::Placeholder(_)) => {
                let message = format!("the placeholder {} has no value", value.value);
                return refuse(QueryError::new(message).at(place(value.span.start)).cure("write the value itself"));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// As the planner looks it up, only that quotes do not keep capitals apart.
fn function_name(function: &Function) -> String {
    let parts = function.name.0.iter().filter_map(|part| part.as_ident()).map(|ident| ident.value.to_lowercase());
    parts.collect::<Vec<_>>().join(".")
}

fn not_in_jobs(clause: &str) -> QueryError {
    QueryError::new(format!("{clause} is not supported in a job"))
}

fn subquery(position: Option<Position>) -> QueryError {
    QueryError::new("a subquery inside an expression would have to see all rows of the stream, which has no end")
        .at(position)
        .cure("a subquery may stand in FROM; compare with constants, or aggregate in a window")
}
