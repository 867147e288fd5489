//! What every plan gets after its types are known, wherever it runs: arithmetic that does not wrap, one zero and one NaN
//! where values are compared for being the same, no panics; and what is refused because it has no one meaning.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, ScalarValue, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{AggregateFunction, ScalarFunction, WindowFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::logical_plan::{Distinct, Projection};
use datafusion::logical_expr::type_coercion::binary::BinaryTypeCoercer;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, WindowFunctionDefinition};
use datafusion::optimizer::AnalyzerRule;

use super::canonical::{canonical, canonical_beside, is_ambiguous};
use super::checked::{self, sql_type};
use super::functions::{guarded, stands_for, with_key};
use super::{decimals, like, maps};

/// The rule. Applied twice it changes nothing more.
#[derive(Debug)]
pub(super) struct ExactRules;

impl AnalyzerRule for ExactRules {
    fn name(&self) -> &str {
        "exact"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        exact(plan)
    }
}

fn exact(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = plan.map_children(|input| exact(input).map(Transformed::yes))?.data;
    let schema = match plan.inputs()[..] {
        [] => plan.schema().as_ref().clone(),
        ref inputs => merge_schema(inputs),
    };
    let names = NamePreserver::new(&plan);
    let keys = is_grouping(&plan);
    let is_join = matches!(plan, LogicalPlan::Join(_));
    let group_keys = match &plan {
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.len(),
        _ => 0,
    };
    let mut number = 0;
    let plan = plan.map_expressions(|expr| {
        let name = names.save(&expr);
        let mut expr = exact_expr(expr, &schema)?;
        if is_join && is_ambiguous(&type_of(&expr, &schema)?) {
            expr = canonical_beside(expr);
        } else if keys && number < group_keys {
            expr = canonical_key(expr, &schema)?;
        }
        number += 1;
        Ok(Transformed::yes(name.restore(expr)))
    })?;
    canonical_rows(plan.data.recompute_schema()?)
}

fn is_grouping(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::Aggregate(_))
}

/// A key of GROUP BY.
fn canonical_key(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    match expr {
        Expr::GroupingSet(sets) => {
            let expr = Expr::GroupingSet(sets);
            expr.map_children(|key| canonical_key(key, schema).map(Transformed::yes)).map(|keys| keys.data)
        }
        Expr::Alias(mut alias) => {
            *alias.expr = canonical_key(*alias.expr, schema)?;
            Ok(Expr::Alias(alias))
        }
        expr if is_ambiguous(&type_of(&expr, schema)?) => Ok(canonical(expr)),
        expr => Ok(expr),
    }
}

/// DISTINCT compares whole rows.
fn canonical_rows(plan: LogicalPlan) -> Result<LogicalPlan> {
    let LogicalPlan::Distinct(Distinct::All(input)) = &plan else { return Ok(plan) };
    let schema = input.schema();
    if !schema.fields().iter().any(|field| is_ambiguous(field.data_type())) {
        return Ok(plan);
    }
    let columns = schema.iter().map(|(qualifier, field)| {
        let column = Expr::Column(Column::new(qualifier.cloned(), field.name()));
        if is_ambiguous(field.data_type()) {
            canonical(column).alias_qualified(qualifier.cloned(), field.name())
        } else {
            column
        }
    });
    let input = Projection::try_new(columns.collect(), Arc::clone(input))?;
    Ok(LogicalPlan::Distinct(Distinct::All(Arc::new(LogicalPlan::Projection(input)))))
}

fn exact_expr(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    let exact = expr.transform_up(|expr| {
        Ok(Transformed::yes(match expr {
            Expr::BinaryExpr(binary) => exact_binary(binary, schema)?,
            Expr::Negative(value) => match type_of(&value, schema) {
                Ok(data_type) if checked::negation_wraps(&data_type) => checked::negated(*value, data_type),
                _ => Expr::Negative(value),
            },
            Expr::ScalarFunction(call) => {
                check_call(&call)?;
                let mut call = maps::exact(call, &|expr| type_of(expr, schema))?;
                call.args = call.args.into_iter().map(constant).collect();
                Expr::ScalarFunction(guarded(with_key(call)?))
            }
            Expr::AggregateFunction(call) => Expr::AggregateFunction(exact_aggregate(call, schema)?),
            Expr::WindowFunction(mut call) => {
                exact_window(&mut call, schema)?;
                Expr::WindowFunction(call)
            }
            Expr::Cast(cast) => {
                exact_cast(&cast.expr, cast.field.data_type(), false, schema)?.unwrap_or(Expr::Cast(cast))
            }
            Expr::TryCast(cast) => {
                exact_cast(&cast.expr, cast.field.data_type(), true, schema)?.unwrap_or(Expr::TryCast(cast))
            }
            Expr::ScalarSubquery(mut subquery) => {
                subquery.subquery = exact_subquery(&subquery.subquery)?;
                Expr::ScalarSubquery(subquery)
            }
            Expr::Exists(mut exists) => {
                exists.subquery.subquery = exact_subquery(&exists.subquery.subquery)?;
                Expr::Exists(exists)
            }
            Expr::InSubquery(mut within) => {
                within.subquery.subquery = exact_subquery(&within.subquery.subquery)?;
                Expr::InSubquery(within)
            }
            Expr::SetComparison(mut comparison) => {
                comparison.subquery.subquery = exact_subquery(&comparison.subquery.subquery)?;
                Expr::SetComparison(comparison)
            }
            Expr::Like(like) => like::exact(like)?,
            Expr::SimilarTo(_) => {
                return plan_err!(
                    "SIMILAR TO is not supported: use LIKE, or a regular expression, regexp_like(text, pattern)"
                );
            }
            other => other,
        }))
    })?;
    Ok(exact.data)
}

/// A number that is cast is a number: some types depend on a constant argument, as that of `round(price, 1)`.
fn constant(arg: Expr) -> Expr {
    if let Expr::Cast(cast) = &arg
        && let Expr::Literal(value, _) = cast.expr.as_ref()
        && value.data_type().is_integer()
        && let Ok(value) = value.cast_to(cast.field.data_type())
    {
        return Expr::Literal(value, None);
    }
    arg
}

/// A constant without the cast around it.
fn literal(arg: &Expr) -> &Expr {
    match arg {
        Expr::Cast(cast) => literal(&cast.expr),
        arg => arg,
    }
}

fn exact_subquery(plan: &Arc<LogicalPlan>) -> Result<Arc<LogicalPlan>> {
    exact(plan.as_ref().clone()).map(Arc::new)
}

fn exact_binary(binary: BinaryExpr, schema: &DFSchema) -> Result<Expr> {
    // A type that is not known yet (a variable of a lambda) stays as it is.
    let (Ok(left), Ok(right)) = (type_of(&binary.left, schema), type_of(&binary.right, schema)) else {
        return Ok(Expr::BinaryExpr(binary));
    };
    if checked::wraps(binary.op, &left, &right) {
        let data_type = BinaryTypeCoercer::new(&left, &binary.op, &right).get_result_type()?;
        return Ok(checked::binary(binary.op, *binary.left, *binary.right, data_type));
    }
    let same =
        matches!(binary.op, Operator::Eq | Operator::NotEq | Operator::IsDistinctFrom | Operator::IsNotDistinctFrom);
    if same && left.is_floating() && right.is_floating() && may_differ(&binary.left) && may_differ(&binary.right) {
        let (left, right) = (canonical(*binary.left), canonical(*binary.right));
        return Ok(Expr::BinaryExpr(BinaryExpr::new(Box::new(left), binary.op, Box::new(right))));
    }
    Ok(Expr::BinaryExpr(binary))
}

/// The type of an expression. DataFusion asks all its parts, and each for its name: a chain costs the square of its length.
fn type_of(expr: &Expr, schema: &DFSchema) -> Result<DataType> {
    match expr {
        Expr::Alias(alias) => type_of(&alias.expr, schema),
        Expr::Cast(cast) => Ok(cast.field.data_type().clone()),
        Expr::Literal(value, _) => Ok(value.data_type()),
        other => checked::known_type(other).map_or_else(|| other.get_type(schema), Ok),
    }
}

/// Whether a number may be equal to another one of other bytes: a constant that is no zero and no NaN is not.
fn may_differ(number: &Expr) -> bool {
    match number {
        Expr::Literal(ScalarValue::Float64(Some(value)), _) => *value == 0.0 || value.is_nan(),
        Expr::Literal(ScalarValue::Float32(Some(value)), _) => *value == 0.0 || value.is_nan(),
        _ => true,
    }
}

/// What distinguishes values gets them in their one form.
fn exact_aggregate(mut call: AggregateFunction, schema: &DFSchema) -> Result<AggregateFunction> {
    if let Some(stands) = stands_for(&call.func, &call.params.args)? {
        (call.func, call.params.args) = (stands.function, stands.args);
        if !stands.order_by.is_empty() {
            call.params.order_by = stands.order_by;
        }
        let filter = call.params.filter.take().map(|filter| *filter);
        call.params.filter = both(filter, stands.filter).map(Box::new);
    }
    let compares = call.params.distinct
        || matches!(call.func.name(), "collect_set" | "count_distinct" | "approx_distinct" | "mode");
    if compares && let Some(first) = call.params.args.first_mut() {
        *first = canonical_key(std::mem::take(first), schema)?;
    }
    Ok(call)
}

fn exact_window(call: &mut WindowFunction, schema: &DFSchema) -> Result<()> {
    if let WindowFunctionDefinition::AggregateUDF(function) = &call.fun
        && let Some(stands) = stands_for(function, &call.params.args)?
    {
        if !stands.order_by.is_empty() {
            return plan_err!(
                "{} OVER (…) is not supported: use first_value(x) OVER (… ORDER BY y), or aggregate in a subquery",
                function.name()
            );
        }
        (call.fun, call.params.args) = (WindowFunctionDefinition::AggregateUDF(stands.function), stands.args);
        let filter = call.params.filter.take().map(|filter| *filter);
        call.params.filter = both(filter, stands.filter).map(Box::new);
    }
    for key in &mut call.params.partition_by {
        *key = canonical_key(std::mem::take(key), schema)?;
    }
    Ok(())
}

fn both(one: Option<Expr>, other: Option<Expr>) -> Option<Expr> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.and(other)),
        (one, other) => one.or(other),
    }
}

/// What a cast is computed by, if not by the engine's own. A number says nothing of the unit that it counts: it is no time.
fn exact_cast(value: &Expr, to: &DataType, or_null: bool, schema: &DFSchema) -> Result<Option<Expr>> {
    match type_of(value, schema) {
        Ok(from) if from.is_numeric() && matches!(to, DataType::Timestamp(..)) => plan_err!(
            "CAST of {} to TIMESTAMP does not tell the number's unit: \
             use to_timestamp_seconds(x), to_timestamp_millis(x), to_timestamp_micros(x) or to_timestamp_nanos(x)",
            sql_type(&from)
        ),
        Ok(from) if decimals::casts(&from, to) => Ok(Some(decimals::decimal(value.clone(), to.clone(), or_null))),
        _ => Ok(None),
    }
}

/// What `date_trunc` cuts to.
const UNITS: [&str; 10] =
    ["microsecond", "millisecond", "second", "minute", "hour", "day", "week", "month", "quarter", "year"];

/// A struct has each of its fields once, and a time is cut to a unit that there is.
fn check_call(call: &ScalarFunction) -> Result<()> {
    if call.func.name() == "date_trunc"
        && let Some(Expr::Literal(unit, _)) = call.args.first().map(literal)
        && let Some(Some(unit)) = unit.try_as_str()
        && !UNITS.contains(&unit.to_lowercase().as_str())
    {
        return plan_err!("date_trunc cuts to no {unit}: write one of {}", UNITS.join(", "));
    }
    if call.func.name() != "named_struct" {
        return Ok(());
    }
    let mut names = HashSet::new();
    for name in call.args.iter().step_by(2) {
        if let Expr::Literal(value, _) = name
            && let Some(Some(name)) = value.try_as_str()
            && !names.insert(name.to_lowercase())
        {
            return plan_err!("named_struct has two fields {name}: give one of them another name");
        }
    }
    Ok(())
}
