//! Every scalar function with values from the edges of its types: an answer or an error, soon, and never the process's
//! end.

use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::{Array, ArrayRef};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::common::config::ConfigOptions;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs};

use super::{BatchClock, guarded, registry};
use crate::clock::{Clock, SystemClock};

/// Nobody waits longer for one call on a handful of values.
const TIME_MAX: Duration = Duration::from_secs(2);

/// Values of a type at its edges, as many for each.
const VALUES: usize = 8;

fn edges(data_type: &DataType) -> Vec<ScalarValue> {
    let long = "é".repeat(300);
    let texts = |texts: [Option<&str>; VALUES]| {
        texts.into_iter().map(|text| ScalarValue::Utf8View(text.map(str::to_owned))).collect::<Vec<_>>()
    };
    let integers = [0, 1, -1, 64, i64::MAX, i64::MIN, 1_000_000];
    let floats = [0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN_POSITIVE];
    match data_type {
        DataType::Utf8View => texts([
            None,
            Some(""),
            Some("a"),
            Some("(😀\u{301}"),
            Some(&long),
            Some("%1$s\u{0}\\"),
            Some("-9999-99-99T99:99:99"),
            Some("9223372036854775808"),
        ]),
        DataType::Int64 => {
            integers.into_iter().map(|n| ScalarValue::Int64(Some(n))).chain([ScalarValue::Int64(None)]).collect()
        }
        DataType::Float64 => {
            floats.into_iter().map(|x| ScalarValue::Float64(Some(x))).chain([ScalarValue::Float64(None)]).collect()
        }
        DataType::Timestamp(..) => integers
            .into_iter()
            .map(|n| ScalarValue::TimestampMicrosecond(Some(n), Some("UTC".into())))
            .chain([ScalarValue::TimestampMicrosecond(None, Some("UTC".into()))])
            .collect(),
        DataType::Date32 => [0, 1, -1, 64, i32::MAX, i32::MIN, 1_000_000]
            .into_iter()
            .map(|n| ScalarValue::Date32(Some(n)))
            .chain([ScalarValue::Date32(None)])
            .collect(),
        DataType::Interval(_) => integers
            .into_iter()
            .map(|n| ScalarValue::new_interval_mdn(n as i32, (n >> 32) as i32, n))
            .chain([ScalarValue::IntervalMonthDayNano(None)])
            .collect(),
        DataType::Decimal128(..) => [0, 1, -1, 64, 10_i128.pow(38) - 1, 1 - 10_i128.pow(38), 7]
            .into_iter()
            .map(|n| ScalarValue::Decimal128(Some(n), 38, 2))
            .chain([ScalarValue::Decimal128(None, 38, 2)])
            .collect(),
        DataType::Boolean => {
            [Some(true), Some(false), None].into_iter().cycle().take(VALUES).map(ScalarValue::Boolean).collect()
        }
        DataType::List(item) => {
            let items = edges(item.data_type());
            (0..VALUES).map(|n| ScalarValue::List(ScalarValue::new_list(&items[..n], item.data_type(), true))).collect()
        }
        other => vec![ScalarValue::try_from(other).unwrap(); VALUES],
    }
}

fn types() -> Vec<DataType> {
    vec![
        DataType::Utf8View,
        DataType::Int64,
        DataType::Float64,
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::Date32,
        DataType::Interval(IntervalUnit::MonthDayNano),
        DataType::Decimal128(38, 2),
        DataType::Boolean,
        DataType::new_list(DataType::Int64, true),
        DataType::new_list(DataType::Utf8View, true),
    ]
}

/// Each type of arguments, at most three.
fn signatures() -> Vec<Vec<DataType>> {
    let types = types();
    let mut all = vec![vec![]];
    for one in &types {
        all.push(vec![one.clone()]);
        for two in &types {
            all.push(vec![one.clone(), two.clone()]);
            // Of third arguments the common kinds.
            for three in [&types[0], &types[1], &types[3]] {
                all.push(vec![one.clone(), two.clone(), three.clone()]);
            }
        }
    }
    all
}

/// Calls a function with each value beside each other one. Gives how often it answered.
fn call(function: &ScalarFunction, fields: &[FieldRef], columns: &[ArrayRef], rows: usize) -> Option<usize> {
    let scalars = vec![None; fields.len()];
    let return_args = ReturnFieldArgs { arg_fields: fields, scalar_arguments: &scalars };
    let return_field = function.func.return_field_from_args(return_args).ok()?;
    let invoke = |args: Vec<ColumnarValue>, number_rows| {
        function.func.invoke_with_args(ScalarFunctionArgs {
            args,
            arg_fields: fields.to_vec(),
            number_rows,
            return_field: Arc::clone(&return_field),
            config_options: Arc::new(ConfigOptions::default()),
        })
    };
    let mut answered = 0;
    let whole = columns.iter().map(|column| ColumnarValue::Array(Arc::clone(column))).collect();
    answered += usize::from(invoke(whole, rows).is_ok());
    for row in 0..rows {
        let one = columns.iter().map(|column| ColumnarValue::Array(column.slice(row, 1))).collect();
        answered += usize::from(invoke(one, 1).is_ok());
    }
    Some(answered)
}

#[test]
fn no_function_ends_the_process_or_takes_long() {
    let signatures = signatures();
    let mut called = 0;
    for function in registry(&BatchClock::new(0), true).scalar {
        let name = function.name().to_owned();
        let function = guarded(ScalarFunction::new_udf(function, vec![]));
        let mut answered = 0;
        let mut tried = 0;
        for signature in &signatures {
            let fields: Vec<FieldRef> =
                signature.iter().map(|data_type| Arc::new(Field::new("x", data_type.clone(), true))).collect();
            let Ok(coerced) = fields_with_udf(&fields, function.func.as_ref()) else { continue };
            // Values of the first argument beside shifted values of the others.
            let columns: Option<Vec<ArrayRef>> = signature
                .iter()
                .zip(&coerced)
                .enumerate()
                .map(|(position, (data_type, field))| {
                    let values = edges(data_type);
                    let rows = (0..VALUES * VALUES).map(|row| {
                        let shifted = if position == 0 { row / VALUES } else { row * position % VALUES };
                        values[shifted].clone()
                    });
                    let column = ScalarValue::iter_to_array(rows).ok()?;
                    let cast = datafusion::arrow::compute::cast(&column, field.data_type());
                    cast.ok().filter(|cast| cast.len() == column.len())
                })
                .collect();
            let Some(columns) = columns else { continue };
            let rows = if columns.is_empty() { 1 } else { VALUES * VALUES };
            let started = SystemClock.instant();
            let done = call(&function, &coerced, &columns, rows);
            assert!(
                SystemClock.since(started) < TIME_MAX * 4,
                "{name} took {:?} for {signature:?}",
                SystemClock.since(started)
            );
            tried += usize::from(done.is_some());
            answered += done.unwrap_or_default();
        }
        called += usize::from(tried > 0);
        if tried > 0 && answered == 0 {
            // Functions whose arguments must be constants, or of other types than these, answer nothing here.
            eprintln!("{name} answered none of {tried}");
        }
    }
    assert!(called > 150, "only {called} functions were called");
}
