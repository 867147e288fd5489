//! Functions that make much from little, such as `repeat('x', 1000000000)`, with a limit on what they make.
//!
//! Everything else a scalar function returns is about as large as its arguments, and how often one value can be used
//! inside another is limited when the query is planned (`refuse`). So a micro-batch stays of the size it came in.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type, IntervalMonthDayNanoType, IntervalUnit, TimeUnit};
use datafusion::common::{exec_err, resources_err};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

/// Bytes that one call may make from one micro-batch of 8,192 rows: 8 kB a row. The memory limit of a small job is
/// 256 MiB, of which a column may have a quarter.
const MADE_BYTES_MAX: i64 = 64 << 20;

/// How many bytes a call makes of one row, from its arguments' sizes and numbers.
pub(super) type Estimate = fn(&Row<'_>) -> i64;

/// One row of the arguments.
pub(super) struct Row<'a> {
    arguments: &'a [Argument],
    row: usize,
}

/// An argument: its values, and the same as whole numbers where they are numbers, times or intervals.
struct Argument {
    array: ArrayRef,
    numbers: Option<Int64Array>,
}

impl Argument {
    fn new(array: ArrayRef) -> Result<Self> {
        let numbers = match array.data_type() {
            integer if integer.is_integer() => {
                Some(cast(&array, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
            }
            DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => {
                let nanoseconds = cast(&array, &DataType::Timestamp(TimeUnit::Nanosecond, None))?;
                Some(cast(&nanoseconds, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
            }
            DataType::Interval(IntervalUnit::MonthDayNano) => {
                Some(array.as_primitive::<IntervalMonthDayNanoType>().unary(|interval| {
                    // A month has at least 28 days: rather too many steps than too few.
                    let days = i64::from(interval.months) * 28 + i64::from(interval.days);
                    days.saturating_mul(86_400_000_000_000).saturating_add(interval.nanoseconds)
                }))
            }
            _ => None,
        };
        Ok(Self { array, numbers })
    }
}

impl Row<'_> {
    fn number(&self, argument: usize) -> i64 {
        let numbers = self.arguments.get(argument).and_then(|argument| argument.numbers.as_ref());
        numbers.filter(|numbers| numbers.is_valid(self.row)).map_or(0, |numbers| numbers.value(self.row))
    }

    fn text(&self, argument: usize) -> Option<&str> {
        let array = &self.arguments.get(argument)?.array;
        match array.data_type() {
            _ if array.is_null(self.row) => None,
            DataType::Utf8 => Some(array.as_string::<i32>().value(self.row)),
            DataType::LargeUtf8 => Some(array.as_string::<i64>().value(self.row)),
            DataType::Utf8View => Some(array.as_string_view().value(self.row)),
            _ => None,
        }
    }

    fn bytes(&self, argument: usize) -> i64 {
        self.text(argument).map_or(8, str::len) as i64
    }
}

/// The limit of a function, if it needs one.
pub(super) fn estimate_of(name: &str) -> Option<Estimate> {
    Some(match name {
        "repeat" => |row| row.bytes(0).saturating_mul(row.number(1)),
        "array_repeat" => |row| row.bytes(0).max(1).saturating_mul(row.number(1)),
        // Padding is cut to the length, which is counted in characters of at most four bytes.
        "lpad" | "rpad" => |row| row.number(1).saturating_mul(4),
        "array_resize" => |row| row.number(1).saturating_mul(row.bytes(2).max(8)),
        "range" | "generate_series" => |row| {
            // With one argument it is the end. A step of 0 is an error of the function itself.
            let only_end = row.arguments.len() == 1;
            let (start, end) = if only_end { (0, row.number(0)) } else { (row.number(0), row.number(1)) };
            let step = if row.arguments.len() > 2 { row.number(2).saturating_abs().max(1) } else { 1 };
            (end.saturating_sub(start).saturating_abs() / step).saturating_mul(8)
        },
        "replace" => |row| {
            let (Some(text), Some(sought)) = (row.text(0), row.text(1)) else { return 0 };
            row.bytes(2).saturating_mul(text.matches(sought).count() as i64)
        },
        // Only the flag g replaces more than once. Patterns match words rather than characters, hence the 16.
        "regexp_replace" => |row| match row.text(3) {
            Some(flags) if flags.contains('g') => (row.bytes(0) / 16 + 1).saturating_mul(row.bytes(2)),
            _ => row.bytes(2),
        },
        _ => return None,
    })
}

/// Refuses a call that would make too much.
pub(super) fn check(name: &str, estimate: Estimate, args: &ScalarFunctionArgs) -> Result<()> {
    // Constants only: one row stands for all.
    let rows = if args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_))) { 1 } else { args.number_rows };
    let arguments = args.args.iter().map(|arg| Argument::new(arg.to_array(rows)?)).collect::<Result<Vec<_>>>()?;
    let mut made: i64 = 0;
    for row in 0..rows {
        let of_row = estimate(&Row { arguments: &arguments, row }).max(0);
        if of_row > MADE_BYTES_MAX {
            return exec_err!("{name} would make {of_row} bytes of one value, at most {MADE_BYTES_MAX} are allowed");
        }
        made = made.saturating_add(of_row);
    }
    if made > MADE_BYTES_MAX {
        // Of no one value: half of the batch would be taken, and then the other half.
        return resources_err!("{name} would make {made} bytes from one batch, at most {MADE_BYTES_MAX} are allowed");
    }
    Ok(())
}
