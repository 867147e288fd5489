//! Values of formats that know the types of their values (Avro, Protobuf): what they are, and how a column takes them.
//!
//! A column is as strict as with JSON: a number is not rounded, a text is no number. What differs is that a value needs no
//! guess: a timestamp says its unit, bytes are bytes.

use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, NaiveDate, SecondsFormat};
use data_platform_crds::column::{ColumnType, TimestampUnit};

use super::bad::{BadReason, Fault};
use super::column::{Column, Values, push_limited};
use super::number;
use super::time;

/// A value that holds no others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scalar<'a> {
    Null,
    Boolean(bool),
    Integer(i64),
    Unsigned(u64),
    Float(f32),
    Double(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
    Uuid([u8; 16]),
    Decimal {
        unscaled: i128,
        scale: u8,
    },
    /// A decimal of more digits than any column holds.
    GreatDecimal,
    /// Days since 1970.
    Date(i32),
    Instant(i64, TimestampUnit),
}

/// What kind of value it is: whether a column can take it is known before the first record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScalarKind {
    Boolean,
    Integer,
    Fraction,
    Text,
    Bytes,
    Uuid,
    Decimal,
    Date,
    Instant,
}

impl ScalarKind {
    /// Whether a column of that type takes values of this kind, or some of them.
    pub(super) fn fits(self, column: &ColumnType) -> bool {
        match column {
            ColumnType::Json => true,
            ColumnType::String => !matches!(self, Self::Bytes | Self::Date | Self::Instant),
            ColumnType::Binary => matches!(self, Self::Bytes | Self::Text | Self::Uuid),
            ColumnType::Boolean => self == Self::Boolean,
            ColumnType::Int => self == Self::Integer,
            ColumnType::Bigint => matches!(self, Self::Integer | Self::Instant),
            ColumnType::Double => matches!(self, Self::Integer | Self::Fraction | Self::Decimal),
            ColumnType::Decimal(..) => matches!(self, Self::Integer | Self::Fraction | Self::Decimal | Self::Text),
            ColumnType::Date => matches!(self, Self::Date | Self::Integer | Self::Text),
            ColumnType::Timestamp => {
                matches!(self, Self::Instant | Self::Integer | Self::Fraction | Self::Text)
            }
            ColumnType::Array(_) | ColumnType::Struct(_) | ColumnType::Map(_) => false,
        }
    }
}

const TIMESTAMP: &str = "a timestamp outside the years 1 to 9999";
const WHOLE: &str = "a whole number beyond the column's type";

impl Column {
    /// Appends a value; `text` is memory to work with.
    ///
    /// # Errors
    /// A value that the column does not take. Then a part of it may be there: the caller truncates.
    pub(super) fn append_scalar(&mut self, value: Scalar<'_>, text: &mut String) -> Result<(), Fault> {
        use Scalar as S;
        let wrong = Fault::new(BadReason::WrongType, "a value of another type than the column");
        let range = |what| Fault::new(BadReason::OutOfRange, what);
        if value == S::Null {
            self.push_null();
            return Ok(());
        }
        match &mut self.values {
            Values::String { views, limits } => match value {
                S::Text(value) => push_limited(views, *limits, value)?,
                S::Bytes(_) | S::Date(_) | S::Instant(..) => return Err(wrong),
                value => push_limited(views, *limits, plain(value, text)?)?,
            },
            Values::Json(views) => {
                text.clear();
                value.write_json(text);
                views.push(text);
            }
            Values::Binary(views) => match value {
                S::Bytes(bytes) => views.push(bytes),
                S::Text(text) => views.push(text.as_bytes()),
                S::Uuid(bytes) => views.push(&bytes),
                _ => return Err(wrong),
            },
            Values::Boolean(values) => match value {
                S::Boolean(value) => values.append(value),
                _ => return Err(wrong),
            },
            Values::Int(values) => match value {
                S::Integer(value) => values.push(i32::try_from(value).map_err(|_| range(WHOLE))?),
                S::Unsigned(value) => values.push(i32::try_from(value).map_err(|_| range(WHOLE))?),
                _ => return Err(wrong),
            },
            Values::Bigint(values) => match value {
                S::Integer(value) | S::Instant(value, _) => values.push(value),
                S::Unsigned(value) => values.push(i64::try_from(value).map_err(|_| range(WHOLE))?),
                _ => return Err(wrong),
            },
            Values::Double(values) => values.push(match value {
                S::Double(value) => value,
                S::Float(value) => f64::from(value),
                S::Integer(value) => value as f64,
                S::Unsigned(value) => value as f64,
                S::Decimal { .. } => {
                    number::double(plain(value, text)?).map_err(|(reason, what)| Fault::new(reason, what))?
                }
                S::GreatDecimal => return Err(range(GREAT)),
                _ => return Err(wrong),
            }),
            Values::Decimal { values, precision, scale } => {
                values.push(decimal(value, *precision, *scale, text)?);
            }
            Values::Date(values) => {
                let days = match value {
                    S::Date(days) => Some(days),
                    // Debezium writes days as a plain int.
                    S::Integer(days) => i32::try_from(days).ok(),
                    S::Text(text) => time::date(text),
                    _ => return Err(wrong),
                };
                let days = days.filter(|days| time::is_date(*days));
                let fault = Fault::new(BadReason::Timestamp, "a date that is not in the years 1 to 9999");
                values.push(days.ok_or(fault)?);
            }
            Values::Timestamp { values, unit } => {
                let micros = match value {
                    S::Instant(value, unit) => time::epoch_integer(value, unit),
                    S::Integer(value) => time::epoch_integer(value, *unit),
                    S::Float(_) | S::Double(_) | S::Unsigned(_) => time::epoch_number(plain(value, text)?, *unit),
                    S::Text(value) => time::timestamp_of_text(value),
                    _ => return Err(wrong),
                };
                values.push(micros.ok_or(Fault::new(BadReason::Timestamp, TIMESTAMP))?);
            }
            Values::Headers(_) | Values::List(_) | Values::Struct(_) | Values::Map(_) => return Err(wrong),
        }
        self.nulls.append_non_null();
        Ok(())
    }

    /// Appends a value that is JSON text, to a column of type json.
    pub(super) fn append_json_text(&mut self, json: &str) {
        match &mut self.values {
            Values::Json(views) => views.push(json),
            _ => unreachable!("only columns of type json are given JSON"),
        }
        self.nulls.append_non_null();
    }
}

const GREAT: &str = "a number with more digits than the decimal holds";

/// A value as digits or a word.
fn plain<'a>(value: Scalar<'_>, text: &'a mut String) -> Result<&'a str, Fault> {
    text.clear();
    let written = match value {
        Scalar::Boolean(value) => write!(text, "{value}"),
        Scalar::Integer(value) => write!(text, "{value}"),
        Scalar::Unsigned(value) => write!(text, "{value}"),
        Scalar::Float(value) if value.is_finite() => write!(text, "{value:?}"),
        Scalar::Double(value) if value.is_finite() => write!(text, "{value:?}"),
        Scalar::Float(_) | Scalar::Double(_) => {
            return Err(Fault::new(BadReason::OutOfRange, "a number that is not finite"));
        }
        Scalar::Decimal { unscaled, scale } => {
            write_decimal(unscaled, scale, text);
            Ok(())
        }
        Scalar::GreatDecimal => return Err(Fault::new(BadReason::OutOfRange, GREAT)),
        Scalar::Uuid(bytes) => write!(text, "{}", uuid::Uuid::from_bytes(bytes)),
        _ => Ok(()),
    };
    written.expect("a text takes what is written to it");
    Ok(text)
}

fn decimal(value: Scalar<'_>, precision: u8, scale: i8, text: &mut String) -> Result<i128, Fault> {
    let end = 10_u128.pow(u32::from(precision));
    let parsed = match value {
        Scalar::Decimal { unscaled, scale: found } if i16::from(found) == i16::from(scale) => {
            let fits = unscaled.unsigned_abs() < end;
            return fits.then_some(unscaled).ok_or(Fault::new(BadReason::OutOfRange, GREAT));
        }
        Scalar::Text(value) if number::is_number(value) => number::decimal(value, precision, scale),
        Scalar::Text(_) => return Err(Fault::new(BadReason::WrongType, "a text that is no number")),
        Scalar::Integer(_)
        | Scalar::Unsigned(_)
        | Scalar::Float(_)
        | Scalar::Double(_)
        | Scalar::Decimal { .. }
        | Scalar::GreatDecimal => number::decimal(plain(value, text)?, precision, scale),
        _ => return Err(Fault::new(BadReason::WrongType, "a value of another type than the column")),
    };
    parsed.map_err(|(reason, what)| Fault::new(reason, what))
}

fn write_decimal(unscaled: i128, scale: u8, out: &mut String) {
    let (sign, digits) = (if unscaled < 0 { "-" } else { "" }, unscaled.unsigned_abs());
    let scale = usize::from(scale);
    let digits = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    out.push_str(sign);
    out.push_str(whole);
    if scale > 0 {
        out.push('.');
        out.push_str(fraction);
    }
}

impl Scalar<'_> {
    /// The value as JSON, so that a column of the value's own type could read it: times as text, bytes as base64. What JSON
    /// has no word for (NaN, infinity) is null.
    pub(super) fn write_json(self, out: &mut String) {
        let written = match self {
            Self::Null | Self::GreatDecimal => {
                out.push_str("null");
                Ok(())
            }
            Self::Boolean(value) => write!(out, "{value}"),
            Self::Integer(value) => write!(out, "{value}"),
            Self::Unsigned(value) => write!(out, "{value}"),
            Self::Float(value) if value.is_finite() => write!(out, "{value:?}"),
            Self::Double(value) if value.is_finite() => write!(out, "{value:?}"),
            Self::Float(_) | Self::Double(_) => write!(out, "null"),
            Self::Text(value) => {
                write_quoted(value, out);
                Ok(())
            }
            Self::Bytes(value) => {
                out.push('"');
                STANDARD.encode_string(value, out);
                out.push('"');
                Ok(())
            }
            Self::Uuid(bytes) => write!(out, "\"{}\"", uuid::Uuid::from_bytes(bytes)),
            Self::Decimal { unscaled, scale } => {
                write_decimal(unscaled, scale, out);
                Ok(())
            }
            Self::Date(days) => match NaiveDate::from_num_days_from_ce_opt(days.saturating_add(DAYS_TO_1970)) {
                Some(date) if time::is_date(days) => write!(out, "\"{date}\""),
                _ => write!(out, "{days}"),
            },
            Self::Instant(value, unit) => match time::epoch_integer(value, unit) {
                Some(micros) => write_instant(micros, out),
                None => write!(out, "{value}"),
            },
        };
        written.expect("a text takes what is written to it");
    }
}

/// Days from the first day of year 1, which is 1, to 1970-01-01.
const DAYS_TO_1970: i32 = 719_163;

fn write_instant(micros: i64, out: &mut String) -> std::fmt::Result {
    match DateTime::from_timestamp_micros(micros) {
        Some(time) => write!(out, "\"{}\"", time.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
        None => write!(out, "{micros}"),
    }
}

/// A JSON string.
pub(super) fn write_quoted(text: &str, out: &mut String) {
    out.push('"');
    let mut plain_from = 0;
    for (index, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.push_str(&text[plain_from..index]);
        plain_from = index + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            _ => write!(out, "\\u{byte:04x}").expect("a text takes what is written to it"),
        }
    }
    out.push_str(&text[plain_from..]);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(value: Scalar<'_>) -> String {
        let mut out = String::new();
        value.write_json(&mut out);
        out
    }

    #[test]
    fn a_value_is_written_as_json_that_says_the_same() {
        for (value, expected) in [
            (Scalar::Text("a\"\\\n\u{1}é"), "\"a\\\"\\\\\\n\\u0001é\""),
            (Scalar::Double(1.0), "1.0"),
            (Scalar::Double(1e300), "1e300"),
            (Scalar::Double(f64::NAN), "null"),
            (Scalar::Float(0.1), "0.1"),
            (Scalar::Decimal { unscaled: -5, scale: 2 }, "-0.05"),
            (Scalar::Decimal { unscaled: 120, scale: 2 }, "1.20"),
            (Scalar::Decimal { unscaled: i128::MIN, scale: 0 }, "-170141183460469231731687303715884105728"),
            (Scalar::Date(-1), "\"1969-12-31\""),
            (Scalar::Date(i32::MAX), "2147483647"),
            (Scalar::Instant(1_500, TimestampUnit::Milliseconds), "\"1970-01-01T00:00:01.500Z\""),
            (Scalar::Instant(i64::MIN, TimestampUnit::Milliseconds), "-9223372036854775808"),
            (Scalar::Bytes(b"foo"), "\"Zm9v\""),
            (Scalar::Uuid([0x11; 16]), "\"11111111-1111-1111-1111-111111111111\""),
        ] {
            assert_eq!(json(value), expected);
            serde_json::from_str::<serde_json::Value>(expected).unwrap();
        }
    }
}
