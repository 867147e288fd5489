//! Functions of times that answer with null, or with the last time that there is, where the numbers end that they count with: a
//! time of 9999 would be lost and nobody would hear of it. Such a call is refused.

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;

/// Nanoseconds of a second.
const SECOND: f64 = 1e9;
/// The first number that an `i64` of nanoseconds does not hold.
const NANOSECONDS: f64 = 9_223_372_036_854_775_808.0;

/// What a function does with a time that it cannot count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loses {
    /// It counts in nanoseconds and gives null. Here is where its times begin among its arguments.
    Nanoseconds(usize),
    /// It gives null for a part that does not fit: seconds of more than 68 years. Parts that are finer are counted here (`durations`).
    Part,
    /// Of a number of seconds it gives the last time before the end.
    Seconds,
}

/// Of the functions that do: DataFusion says so in its code, or nowhere.
pub(super) fn loses(name: &str) -> Option<Loses> {
    Some(match name {
        "date_bin" => Loses::Nanoseconds(1),
        "generate_series" | "range" => Loses::Nanoseconds(0),
        "date_part" => Loses::Part,
        "to_timestamp" => Loses::Seconds,
        _ => return None,
    })
}

/// Refuses what cannot be counted before it is computed.
pub(super) fn check_given(name: &str, loses: Loses, args: &[ColumnarValue]) -> Result<()> {
    let (Loses::Seconds, Some(seconds)) = (loses, args.first()) else { return Ok(()) };
    if !seconds.data_type().is_floating() {
        return Ok(());
    }
    let seconds = seconds.to_array(1)?;
    let as_double = cast(&seconds, &DataType::Float64)?;
    let as_double = as_double.as_primitive::<Float64Type>();
    let is_lost =
        |second: Option<f64>| second.is_some_and(|second| second.is_nan() || (second * SECOND).abs() >= NANOSECONDS);
    match as_double.iter().position(is_lost) {
        Some(row) => refuse(name, loses, &[seconds], row),
        None => Ok(()),
    }
}

/// Refuses a null that is made of values.
pub(super) fn check_made(
    name: &str,
    loses: Loses,
    args: &[ColumnarValue],
    made: &ColumnarValue,
    rows: usize,
) -> Result<()> {
    let first = match loses {
        Loses::Nanoseconds(first) => first,
        Loses::Part => 1,
        Loses::Seconds => return Ok(()),
    };
    // Constants only: one row stands for all.
    let rows = if args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_))) { 1 } else { rows };
    let has_null = match made {
        ColumnarValue::Scalar(value) => value.is_null(),
        ColumnarValue::Array(values) => values.null_count() > 0,
    };
    if !has_null || rows == 0 {
        return Ok(());
    }
    let made = made.to_array(rows)?;
    let args = args.iter().map(|arg| arg.to_array(rows)).collect::<Result<Vec<_>>>()?;
    let is_lost = |row: &usize| made.is_null(*row) && args.iter().all(|arg| arg.is_valid(*row));
    match (0..rows).find(is_lost) {
        Some(row) => refuse(name, loses, args.get(first..).unwrap_or_default(), row),
        None => Ok(()),
    }
}

fn refuse(name: &str, loses: Loses, times: &[ArrayRef], row: usize) -> Result<()> {
    let shown = times.iter().map(|times| Ok(array_value_to_string(times, row)?)).collect::<Result<Vec<_>>>()?;
    let shown = shown.join(", ");
    match loses {
        Loses::Part => exec_err!("{name} does not take {shown}: the part is too large a number for it"),
        Loses::Nanoseconds(_) | Loses::Seconds => {
            exec_err!("{name} does not take {shown}: it counts in nanoseconds, from 1677-09-21 to 2262-04-11")
        }
    }
}
