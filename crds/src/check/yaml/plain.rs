//! What kubectl makes of a plain word: a scalar without quotes. Pure.
//!
//! Its library keeps to YAML 1.1 for booleans, reads integers with every prefix of Go, and takes underscores out of numbers. The
//! tests compare with a table that the library made (`tests/yaml_words.tsv`).

use serde_json::Number;

use super::number;

/// A plain word, read.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Plain {
    Null,
    Bool(bool),
    Number(Number),
    Text,
    /// Infinite, or not a number: JSON cannot say it.
    Unsaid,
}

/// Reads a word.
pub(super) fn read(word: &str) -> Plain {
    match word {
        "" | "~" | "null" | "Null" | "NULL" => Plain::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "true" | "True" | "TRUE" => Plain::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "false" | "False" | "FALSE" => Plain::Bool(false),
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf"
        | "-.INF" => Plain::Unsaid,
        _ => read_number(word).map_or(Plain::Text, Plain::Number),
    }
}

/// The name of a field that is written as this word, as the API server gets it. `None`: kubectl refuses it, or makes a
/// number with a fraction or an exponent of it.
pub(super) fn as_name(word: &str) -> Option<String> {
    match read(word) {
        Plain::Text => Some(word.to_owned()),
        Plain::Bool(value) => Some(value.to_string()),
        Plain::Number(_) => read_integer(&word.replace('_', ""))?.as_i64().map(|value| value.to_string()),
        // As its library prints them.
        Plain::Unsaid if word.eq_ignore_ascii_case(".nan") => Some(".nan".to_owned()),
        Plain::Unsaid => Some(if word.starts_with('-') { "-.inf" } else { ".inf" }.to_owned()),
        Plain::Null => None,
    }
}

fn read_number(word: &str) -> Option<Number> {
    match word.bytes().next()? {
        // Underscores are taken out only where a digit or a sign comes first.
        b'.' => read_float(word),
        b'0'..=b'9' | b'+' | b'-' => {
            let word = word.replace('_', "");
            read_integer(&word).or_else(|| read_float(&word))
        }
        _ => None,
    }
}

/// Decimal, or with one of the prefixes `0x`, `0b`, `0o` and `0`.
fn read_integer(word: &str) -> Option<Number> {
    let (is_negative, digits) = match word.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, word.strip_prefix('+').unwrap_or(word)),
    };
    let (base, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let value = i128::from(u64::from_str_radix(digits, base).ok()?);
    let value = if is_negative { -value } else { value };
    let is_signed = word.starts_with(['+', '-']);
    match (i64::try_from(value), u64::try_from(value)) {
        (Ok(value), _) => Some(value.into()),
        (_, Ok(value)) if !is_signed => Some(value.into()),
        _ => None,
    }
}

/// Digits with a point and an exponent; not what is beyond all doubles.
fn read_float(word: &str) -> Option<Number> {
    let unsigned = word.strip_prefix(['+', '-']).unwrap_or(word);
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).map_or((unsigned, None), |(m, e)| (m, Some(e)));
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_mantissa = match mantissa.split_once('.') {
        None => is_digits(mantissa),
        Some(("", fraction)) => is_digits(fraction),
        Some((whole, fraction)) => is_digits(whole) && (fraction.is_empty() || is_digits(fraction)),
    };
    let is_exponent = |exponent: &str| is_digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent));
    if !is_mantissa || !exponent.is_none_or(is_exponent) {
        return None;
    }
    number(word.parse().ok()?)
}
