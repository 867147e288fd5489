//! JSON numbers to integers and decimals, exactly: nothing is rounded, and floating point is never a step between.
//!
//! Callers pass texts of the JSON grammar's `number`.

use data_platform_crds::column::TimestampUnit;

use super::bad::BadReason;
use super::scan::{self, Kind};

/// Why a number is not the column's: the reason and the words for it.
pub(super) type NumberFault = (BadReason, &'static str);

/// Digits that a decimal holds at most, and that an [`Exact`] keeps.
const DIGITS_MAX: u32 = 38;

/// Exponents beyond this are the same as this: far outside every type, and far from overflow of `i64` when digits of a
/// record (less than 4 GiB) are counted beside it.
const EXPONENT_LIMIT: i64 = 1 << 40;

/// A number as its first significant digits: `± digits * 10^exponent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Exact {
    negative: bool,
    /// At most 38 digits.
    digits: u128,
    /// The power of ten of the last of these digits.
    exponent: i64,
    /// The power of ten of the last digit that is not 0, kept or not; 0 for zero.
    lowest: i64,
}

impl Exact {
    fn integer(value: i64) -> Self {
        let digits = u128::from(value.unsigned_abs());
        Self { negative: value < 0, digits, exponent: 0, lowest: 0 }
    }

    fn parse(number: &str) -> Self {
        let bytes = number.as_bytes();
        let (negative, bytes) = match bytes {
            [b'-', rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        let exponent_at = bytes.iter().position(|byte| matches!(byte, b'e' | b'E'));
        let (mantissa, written) = match exponent_at {
            Some(at) => (&bytes[..at], parse_exponent(&bytes[at + 1..])),
            None => (bytes, 0),
        };
        let point = mantissa.iter().position(|&byte| byte == b'.').unwrap_or(mantissa.len());
        let mut exact = Self { negative, digits: 0, exponent: 0, lowest: 0 };
        let mut kept = 0;
        for (index, &byte) in mantissa.iter().enumerate() {
            if byte == b'.' {
                continue;
            }
            let digit = byte.wrapping_sub(b'0');
            // The digit before the point has the power 0, the one behind it -1.
            let power = if index < point { point as i64 - index as i64 - 1 } else { point as i64 - index as i64 };
            if digit != 0 {
                exact.lowest = written + power;
            }
            if kept == 0 && digit == 0 {
                continue;
            }
            if kept == DIGITS_MAX {
                continue;
            }
            exact.digits = exact.digits * 10 + u128::from(digit);
            exact.exponent = written + power;
            kept += 1;
        }
        exact
    }

    /// The absolute value times 10^`scale`, without what is then left behind the point; `None` if it has over 38
    /// digits.
    fn scaled(self, scale: i64) -> Option<u128> {
        if self.digits == 0 {
            return Some(0);
        }
        let shift = self.exponent + scale;
        if shift >= 0 {
            let factor = power_of_ten(u32::try_from(shift).ok()?)?;
            self.digits.checked_mul(factor).filter(|&value| value < DECIMAL_END)
        } else {
            let divisor = u32::try_from(-shift).ok().and_then(power_of_ten);
            Some(divisor.map_or(0, |divisor| self.digits / divisor))
        }
    }

    fn signed(self, absolute: u128) -> i128 {
        // At most 38 digits: half of what i128 holds.
        if self.negative { -(absolute as i128) } else { absolute as i128 }
    }
}

/// One more than the greatest number of 38 digits.
const DECIMAL_END: u128 = 10_u128.pow(DIGITS_MAX);

fn power_of_ten(exponent: u32) -> Option<u128> {
    (exponent <= DIGITS_MAX).then(|| 10_u128.pow(exponent))
}

fn parse_exponent(text: &[u8]) -> i64 {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let mut exponent: i64 = 0;
    for digit in digits {
        exponent = (exponent * 10 + i64::from(digit.wrapping_sub(b'0'))).min(EXPONENT_LIMIT);
    }
    if negative { -exponent } else { exponent }
}

/// The whole number that a text of at most 18 digits is, without the general path; `None` for every other text.
#[inline]
fn short_integer(number: &str) -> Option<i64> {
    let bytes = number.as_bytes();
    let (negative, digits) = match bytes {
        [b'-', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    if digits.len() > 18 {
        return None;
    }
    let mut value: i64 = 0;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + i64::from(digit);
    }
    Some(if negative { -value } else { value })
}

/// A whole number, also when it is written `1.0` or `1e3`.
///
/// # Errors
/// `WrongType` if something other than zeros stands behind the point, `OutOfRange` beyond `i64`.
pub(super) fn integer(number: &str) -> Result<i64, NumberFault> {
    if let Some(value) = short_integer(number) {
        return Ok(value);
    }
    let exact = Exact::parse(number);
    if exact.lowest < 0 {
        return Err((BadReason::WrongType, "a number with a fraction where a whole one is expected"));
    }
    let value = exact.scaled(0).map(|absolute| exact.signed(absolute));
    value
        .and_then(|value| i64::try_from(value).ok())
        .ok_or((BadReason::OutOfRange, "a whole number beyond the column's type"))
}

/// The nearest 64-bit floating point number; too small a number is 0.
///
/// # Errors
/// `OutOfRange` where only infinity would be left.
pub(super) fn double(number: &str) -> Result<f64, NumberFault> {
    match number.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err((BadReason::OutOfRange, "a number beyond the range of a double")),
    }
}

/// The number times 10^`scale`, exactly.
///
/// # Errors
/// `OutOfRange` if it has more digits before the point, or more that count behind it, than the type.
pub(super) fn decimal(number: &str, precision: u8, scale: i8) -> Result<i128, NumberFault> {
    let scale = i64::from(scale);
    let exact = Exact::parse(number);
    let end = 10_u128.pow(u32::from(precision));
    // Digits that were not kept are beyond 38, so the number is either too fine or too great.
    match exact.scaled(scale) {
        Some(absolute) if exact.lowest >= -scale && absolute < end => Ok(exact.signed(absolute)),
        _ => Err((BadReason::OutOfRange, "a number with more digits than the decimal holds")),
    }
}

/// Whether a text is a JSON number and nothing else: what a decimal in quotes must be.
pub(super) fn is_number(text: &str) -> bool {
    match scan::value(text.as_bytes(), 0, 0) {
        Ok((value, end)) => value.kind() == Kind::Number && end == text.len(),
        Err(_) => false,
    }
}

/// The power of ten of microseconds in a unit, for a number of so many whole units.
fn micros_scale(unit: TimestampUnit, whole: u128) -> i64 {
    /// 1e11 seconds are the year 5138, 1e11 milliseconds 1973: events of today are far from both.
    const MILLISECONDS_FROM: u128 = 100_000_000_000;
    match unit {
        TimestampUnit::Auto if whole < MILLISECONDS_FROM => 6,
        TimestampUnit::Seconds => 6,
        TimestampUnit::Auto | TimestampUnit::Milliseconds => 3,
        TimestampUnit::Microseconds => 0,
        TimestampUnit::Nanoseconds => -3,
    }
}

/// An epoch number in microseconds; digits beyond them are cut. `None` if it has over 38 digits.
pub(super) fn epoch_micros(number: &str, unit: TimestampUnit) -> Option<i128> {
    let exact = match short_integer(number) {
        Some(value) => Exact::integer(value),
        None => Exact::parse(number),
    };
    let whole = exact.scaled(0)?;
    exact.scaled(micros_scale(unit, whole)).map(|absolute| exact.signed(absolute))
}
