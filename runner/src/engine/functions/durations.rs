//! Parts of a duration that are finer than a second. The engine's `date_part` makes them of seconds and nanoseconds of 32 bits: above
//! 2.147 seconds the fraction is lost, 25 days in milliseconds are less than none, and so is an hour in microseconds.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int32Array, Int64Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::compute::kernels::cast_utils::IntervalUnit;
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit};
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;
use datafusion::scalar::ScalarValue;

const NANOSECONDS_OF_A_SECOND: i64 = 1_000_000_000;

/// What of a duration is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Seconds with their fraction, as a double.
    Epoch,
    /// All of it in units of so many nanoseconds, as an integer of 32 bits.
    Units(i64),
    /// All of it in nanoseconds, as an integer of 64 bits.
    Nanoseconds,
}

/// What `date_part` gives for these arguments; `None`: it is another part, or not of a duration.
pub(super) fn part(name: &str, args: &[ColumnarValue]) -> Result<Option<ColumnarValue>> {
    let [ColumnarValue::Scalar(part), of] = args else { return Ok(None) };
    let DataType::Duration(unit) = of.data_type() else { return Ok(None) };
    let Some(part) = part.try_as_str().flatten().and_then(part_of) else { return Ok(None) };
    let durations = of.to_array(1)?;
    let counted = count(name, part, unit, &durations)?;
    Ok(Some(match of {
        ColumnarValue::Scalar(_) => ColumnarValue::Scalar(ScalarValue::try_from_array(&counted, 0)?),
        ColumnarValue::Array(_) => ColumnarValue::Array(counted),
    }))
}

fn part_of(word: &str) -> Option<Part> {
    let quotes = ['\'', '"'];
    let word = word.strip_prefix(quotes).and_then(|word| word.strip_suffix(quotes)).unwrap_or(word);
    if word.eq_ignore_ascii_case("epoch") {
        return Some(Part::Epoch);
    }
    match word.parse::<IntervalUnit>().ok()? {
        IntervalUnit::Millisecond => Some(Part::Units(1_000_000)),
        IntervalUnit::Microsecond => Some(Part::Units(1_000)),
        IntervalUnit::Nanosecond => Some(Part::Nanoseconds),
        _ => None,
    }
}

fn count(name: &str, part: Part, unit: TimeUnit, durations: &ArrayRef) -> Result<ArrayRef> {
    let of_a_second = match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => NANOSECONDS_OF_A_SECOND,
    };
    let counts = cast(durations, &DataType::Int64)?;
    let counts = counts.as_primitive::<Int64Type>();
    let nanoseconds = |count: i64| i128::from(count) * i128::from(NANOSECONDS_OF_A_SECOND / of_a_second);
    let refused = |row: usize| -> Result<ArrayRef> {
        let shown = array_value_to_string(durations, row)?;
        exec_err!(
            "{name} does not take {shown}: the part is too large a number for it; epoch gives seconds with their fraction"
        )
    };
    let is_lost = |made: &dyn Fn(usize) -> bool| (0..counts.len()).find(|row| !counts.is_null(*row) && made(*row));
    Ok(match part {
        Part::Epoch => {
            let seconds = |count: i64| (count / of_a_second) as f64 + (count % of_a_second) as f64 / of_a_second as f64;
            Arc::new(counts.unary::<_, Float64Type>(seconds)) as ArrayRef
        }
        Part::Units(size) => {
            let units = |count: i64| i32::try_from(nanoseconds(count) / i128::from(size)).ok();
            if let Some(row) = is_lost(&|row| units(counts.value(row)).is_none()) {
                return refused(row);
            }
            Arc::new(counts.iter().map(|count| count.and_then(units)).collect::<Int32Array>())
        }
        Part::Nanoseconds => {
            let units = |count: i64| i64::try_from(nanoseconds(count)).ok();
            if let Some(row) = is_lost(&|row| units(counts.value(row)).is_none()) {
                return refused(row);
            }
            Arc::new(counts.iter().map(|count| count.and_then(units)).collect::<Int64Array>())
        }
    })
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{DurationMicrosecondArray, DurationNanosecondArray, DurationSecondArray};

    use super::*;

    fn asked(word: &str, of: ArrayRef) -> Result<ArrayRef> {
        let word = ColumnarValue::Scalar(ScalarValue::from(word));
        let given = part("date_part", &[word, ColumnarValue::Array(of)])?;
        given.expect("it is one of these parts").to_array(1)
    }

    #[test]
    fn a_duration_is_counted_whole_in_each_unit() {
        const DAY: i64 = 86_400_000_000;
        for micros in
            [0, 1, -1, 999, 2_147_483_648, 602_123_000, 3_600_000_000, 24 * DAY + 123_456, -DAY - 5, i64::MAX / 2_000]
        {
            for (of, exact) in [
                (Arc::new(DurationMicrosecondArray::from(vec![Some(micros), None])) as ArrayRef, micros),
                (Arc::new(DurationNanosecondArray::from(vec![Some(micros * 1_000), None])) as ArrayRef, micros),
                (
                    Arc::new(DurationSecondArray::from(vec![Some(micros / 1_000_000), None])) as ArrayRef,
                    micros / 1_000_000 * 1_000_000,
                ),
            ] {
                let epoch = asked("epoch", Arc::clone(&of)).unwrap();
                let epoch = epoch.as_primitive::<Float64Type>();
                assert!(
                    (epoch.value(0) - exact as f64 / 1e6).abs() <= 1e-9 * (exact as f64 / 1e6).abs().max(1.0),
                    "{micros}"
                );
                let nanos = asked("nanoseconds", Arc::clone(&of)).unwrap();
                assert_eq!(nanos.as_primitive::<Int64Type>().value(0), exact * 1_000);
                for (word, size) in [("ms", 1_000), ("'microsecond'", 1)] {
                    let made = asked(word, Arc::clone(&of)).map(|made| {
                        assert!(made.is_null(1));
                        i64::from(made.as_any().downcast_ref::<Int32Array>().unwrap().value(0))
                    });
                    match i32::try_from(exact / size) {
                        Ok(number) => assert_eq!(made.unwrap(), i64::from(number), "{micros} in {word}"),
                        Err(_) => {
                            assert!(made.unwrap_err().to_string().contains("does not take"), "{micros} in {word}")
                        }
                    }
                }
                assert!(epoch.is_null(1) && nanos.is_null(1));
            }
        }
    }

    #[test]
    fn other_parts_are_the_engines() {
        let of = ColumnarValue::Array(Arc::new(DurationSecondArray::from(vec![1])));
        for word in ["second", "hour", "day", "doy", "nonsense", ""] {
            assert!(
                part("date_part", &[ColumnarValue::Scalar(ScalarValue::from(word)), of.clone()]).unwrap().is_none()
            );
        }
        let time = ColumnarValue::Scalar(ScalarValue::TimestampMicrosecond(Some(1), None));
        assert!(part("date_part", &[ColumnarValue::Scalar(ScalarValue::from("epoch")), time]).unwrap().is_none());
    }
}
