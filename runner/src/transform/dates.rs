//! Dates of UTC times without a calendar: a day is 86,400 seconds, so the date is a division, where the engine's cast goes through
//! years and months and back. Of 10 million rows the cast alone took half of a sum by day (own measurement).
//!
//! Only where rows are computed, not where they are chosen: by a cast the engine rules out files and row groups.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{ArrayRef, AsArray, Date32Array, PrimitiveArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType,
};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::utils::take_function_args;
use datafusion::common::{DFSchema, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Cast, ColumnarValue, Expr, ExprSchemable, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use crate::engine::over_arrays;

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;
/// Days within which every time has a date of the calendar that the engine knows: 200,000 years.
const DAYS_MAX: i64 = 73_000_000;

/// Puts the division in the place of casts in a plan that is optimized.
///
/// # Errors
/// The plan cannot be made anew, which is a fault of this program.
pub(super) fn by_division(plan: LogicalPlan) -> Result<LogicalPlan> {
    let done = plan.transform_up_with_subqueries(|node| {
        let is_computed =
            matches!(node, LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_) | LogicalPlan::Window(_));
        if !is_computed {
            return Ok(Transformed::no(node));
        }
        let schema = merge_schema(&node.inputs());
        let names = NamePreserver::new(&node);
        let node = node.map_expressions(|expr| {
            // What it groups by are columns of its own, whose names no alias around the whole keeps.
            if matches!(expr, Expr::GroupingSet(_)) {
                return Ok(Transformed::no(expr));
            }
            let name = names.save(&expr);
            let expr = expr.transform_up(|expr| Ok(divided(expr, &schema)))?;
            Ok(expr.update_data(|expr| name.restore(expr)))
        })?;
        node.map_data(|node| node.recompute_schema())
    });
    done.map(|plan| plan.data)
}

fn divided(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    static DATE: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(ScalarUDF::new_from_impl(UtcDate::new())));
    match expr {
        Expr::Cast(Cast { expr, field })
            if *field.data_type() == DataType::Date32 && expr.get_type(schema).is_ok_and(|of| is_exact(&of)) =>
        {
            Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(&DATE), vec![*expr])))
        }
        other => Transformed::no(other),
    }
}

/// A time whose date is that of UTC.
fn is_exact(data_type: &DataType) -> bool {
    let is_utc = |zone: &Option<Arc<str>>| zone.as_deref().is_none_or(|zone| matches!(zone, "UTC" | "+00:00"));
    matches!(data_type, DataType::Timestamp(TimeUnit::Microsecond | TimeUnit::Nanosecond, zone) if is_utc(zone))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct UtcDate {
    signature: Signature,
}

impl UtcDate {
    fn new() -> Self {
        Self { signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for UtcDate {
    fn name(&self) -> &'static str {
        "utc_date"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Date32)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        over_arrays(&args, |arrays| {
            let [times] = take_function_args(self.name(), arrays)?;
            match times.data_type() {
                DataType::Timestamp(TimeUnit::Microsecond, _) => dates::<TimestampMicrosecondType>(times, DAY),
                DataType::Timestamp(TimeUnit::Nanosecond, _) => dates::<TimestampNanosecondType>(times, DAY * 1_000),
                other => internal_err!("a date is taken of times, not of {other}"),
            }
        })
    }
}

fn dates<T: ArrowPrimitiveType<Native = i64>>(times: &ArrayRef, day: i64) -> Result<ArrayRef> {
    let known: &PrimitiveArray<T> = times.as_primitive();
    let most = DAYS_MAX.saturating_mul(day);
    if known.values().iter().any(|time| *time < -most || *time > most) {
        // What the calendar does not reach is refused as the cast refuses it.
        return Ok(cast(times, &DataType::Date32)?);
    }
    let dates: Date32Array = known.unary::<_, Date32Type>(|time| time.div_euclid(day) as i32);
    Ok(Arc::new(dates))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Array, TimestampMicrosecondArray, TimestampNanosecondArray};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_division_gives_what_the_cast_gives(
            micros in prop::collection::vec(prop::option::of(-6_000_000_000_000_000_000_i64..6_000_000_000_000_000_000), 0..20),
        ) {
            let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(micros.clone()));
            prop_assert_eq!(
                &dates::<TimestampMicrosecondType>(&times, DAY).unwrap(),
                &cast(&times, &DataType::Date32).unwrap()
            );
            let times: ArrayRef = Arc::new(TimestampNanosecondArray::from(micros).with_timezone("UTC"));
            prop_assert_eq!(
                &dates::<TimestampNanosecondType>(&times, DAY * 1_000).unwrap(),
                &cast(&times, &DataType::Date32).unwrap()
            );
        }
    }

    #[test]
    fn a_time_beyond_the_calendar_ends_as_it_does_in_a_cast() {
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![i64::MAX, 0]));
        let cast = cast(&times, &DataType::Date32).map(|dates| dates.to_data());
        let divided = dates::<TimestampMicrosecondType>(&times, DAY).map(|dates| dates.to_data());
        assert_eq!(cast.ok(), divided.ok());
    }
}
