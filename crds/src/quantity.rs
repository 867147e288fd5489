//! Quantities whose unit is in the type: [`Period`] (`90s`, `5m`, `1h30m`) and [`ByteSize`] (`64Ki`, `128Mi`, `1Gi`).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::pattern;

/// Characters of the longest [`Period`]: five parts of nine digits and a unit of two letters.
const PERIOD_LENGTH_MAX: usize = 55;
/// Characters of the longest [`ByteSize`]: twelve digits and a unit of two letters.
const BYTE_SIZE_LENGTH_MAX: usize = 14;

/// A length of time, written as numbers with the units `ms`, `s`, `m`, `h`, `d`: `10s`, `1h30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(Duration);

/// A text that is not a [`Period`] or a [`ByteSize`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not a period.
    #[error("{0:?} is not a period: write numbers with the units ms, s, m, h or d, such as 10s or 1h30m")]
    Period(String),
    /// Not a byte size.
    #[error("{0:?} is not a byte size: write a whole number, alone or with Ki, Mi or Gi, such as 128Mi")]
    ByteSize(String),
}

impl Period {
    /// A period of whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// A period of milliseconds.
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }

    /// As a standard duration.
    pub const fn as_duration(self) -> Duration {
        self.0
    }

    /// In microseconds, the unit of event time. Saturates at `i64::MAX`.
    pub fn as_micros(self) -> i64 {
        i64::try_from(self.0.as_micros()).unwrap_or(i64::MAX)
    }
}

impl From<Duration> for Period {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

impl FromStr for Period {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || QuantityError::Period(text.to_owned());
        let mut rest = text;
        let mut total = Duration::ZERO;
        if rest.is_empty() {
            return Err(invalid());
        }
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let number: u64 = rest[..digits].parse().map_err(|_| invalid())?;
            if digits > 9 {
                return Err(invalid());
            }
            rest = &rest[digits..];
            let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
            let milliseconds_per_unit = match &rest[..letters] {
                "ms" => 1,
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return Err(invalid()),
            };
            rest = &rest[letters..];
            // 9 digits of days are 8.64e16 ms: no overflow in u64.
            total += Duration::from_millis(number * milliseconds_per_unit);
        }
        Ok(Self(total))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_millis();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, milliseconds) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
            let number = rest / milliseconds;
            rest %= milliseconds;
            if number > 0 {
                write!(f, "{number}{unit}")?;
            }
        }
        Ok(())
    }
}

impl JsonSchema for Period {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Period".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "maxLength": PERIOD_LENGTH_MAX, "pattern": pattern::PERIOD})
    }
}

/// A number of bytes, written alone or with `Ki`, `Mi`, `Gi`: `65536`, `128Mi`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

impl ByteSize {
    /// That many bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// That many MiB.
    pub const fn from_mebibytes(mebibytes: u64) -> Self {
        Self(mebibytes << 20)
    }

    /// In bytes.
    pub const fn as_bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || QuantityError::ByteSize(text.to_owned());
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = text[..digits].parse().map_err(|_| invalid())?;
        let shift = match &text[digits..] {
            "" => 0,
            "Ki" => 10,
            "Mi" => 20,
            "Gi" => 30,
            _ => return Err(invalid()),
        };
        if digits > 12 {
            return Err(invalid());
        }
        number.checked_mul(1 << shift).map(Self).ok_or_else(invalid)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, shift) in [("Gi", 30), ("Mi", 20), ("Ki", 10)] {
            if self.0 != 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ByteSize".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "maxLength": BYTE_SIZE_LENGTH_MAX, "pattern": pattern::BYTE_SIZE})
    }
}

macro_rules! serde_as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
serde_as_text!(Period);
serde_as_text!(ByteSize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_read_and_printed() {
        for (text, milliseconds, printed) in [
            ("10s", 10_000, "10s"),
            ("1h30m", 5_400_000, "1h30m"),
            ("90s", 90_000, "1m30s"),
            ("0s", 0, "0s"),
            ("250ms", 250, "250ms"),
        ] {
            let period: Period = text.parse().unwrap();
            assert_eq!(period.as_duration(), Duration::from_millis(milliseconds), "{text}");
            assert_eq!(period.to_string(), printed);
        }
        for wrong in ["", "10", "s", "1.5s", "-1s", "10 s", "1w", "9999999999s"] {
            assert!(wrong.parse::<Period>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_byte_size_is_read_and_printed() {
        for (text, bytes, printed) in
            [("128Mi", 128 << 20, "128Mi"), ("1024", 1024, "1Ki"), ("0", 0, "0"), ("3Gi", 3 << 30, "3Gi")]
        {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!(size.as_bytes(), bytes, "{text}");
            assert_eq!(size.to_string(), printed);
        }
        for wrong in ["", "Mi", "1.5Gi", "-1", "10MB", "1Ti", "999999999999Gi"] {
            assert!(wrong.parse::<ByteSize>().is_err(), "{wrong}");
        }
    }
}
