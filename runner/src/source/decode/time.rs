//! Dates and timestamps: the forms that producers send, to days and microseconds since 1970, UTC.
//!
//! Timestamp as text: `yyyy-MM-dd HH:mm` with a space or `T` between; then seconds, which may be left out (Java prints
//! none when they are 0), and behind them 0 to 9 fraction digits with a point; then no zone (UTC), `Z`, `UTC`, `GMT`,
//! `±hh`, `±hhmm` or `±hh:mm`, with one space before it or none. Letters in either case. What leaves no doubt about the
//! instant is read; digits beyond the microsecond are cut. Second 60, hour 24, a date alone, digits alone and years
//! outside 1 to 9999 (after the zone is applied) are refused.

use data_platform_crds::column::TimestampUnit;

use super::number;

const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_MINUTE: i64 = 60 * MICROS_PER_SECOND;

/// 0001-01-01T00:00:00Z.
const FIRST_MICROS: i64 = -62_135_596_800 * MICROS_PER_SECOND;
/// 9999-12-31T23:59:59.999999Z.
const LAST_MICROS: i64 = 253_402_300_800 * MICROS_PER_SECOND - 1;

/// Length of `yyyy-MM-ddTHH:mm`.
const MINUTE_LENGTH: usize = 16;

/// Microseconds since 1970 of a text in one of these forms; `None` for others.
pub(crate) fn timestamp_of_text(text: &str) -> Option<i64> {
    TimestampReader::new().text(text)
}

/// Reads timestamps, and remembers the last minute: most records of a topic repeat it.
pub(super) struct TimestampReader {
    minute: [u8; MINUTE_LENGTH],
    minute_micros: i64,
}

impl TimestampReader {
    pub(super) fn new() -> Self {
        Self { minute: *b"1970-01-01T00:00", minute_micros: 0 }
    }

    /// Microseconds since 1970 of a text; `None` if it is no timestamp.
    #[inline]
    pub(super) fn text(&mut self, text: &str) -> Option<i64> {
        let (minute, rest) = text.as_bytes().split_first_chunk::<MINUTE_LENGTH>()?;
        if *minute != self.minute {
            self.minute_micros = minute_micros(minute)?;
            self.minute = *minute;
        }
        // The common form first: seconds, milliseconds and Z.
        if let [b':', s1, s2, b'.', m1, m2, m3, b'Z'] = *rest {
            let second = second(s1, s2)?;
            let millis = digit(m1)? * 100 + two_digits(m2, m3)?;
            return Some(self.minute_micros + second * MICROS_PER_SECOND + millis * 1_000);
        }
        seconds_and_zone(self.minute_micros, rest)
    }
}

#[inline(always)]
fn second(tens: u8, ones: u8) -> Option<i64> {
    two_digits(tens, ones).filter(|second| *second < 60)
}

#[inline(never)]
fn seconds_and_zone(mut micros: i64, mut rest: &[u8]) -> Option<i64> {
    if let [b':', tens, ones, behind @ ..] = rest {
        micros += second(*tens, *ones)? * MICROS_PER_SECOND;
        rest = behind;
        if let [b'.', fraction @ ..] = behind {
            let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if digits == 0 || digits > 9 {
                return None;
            }
            let mut unit = MICROS_PER_SECOND / 10;
            for byte in &fraction[..digits] {
                micros += digit(*byte)? * unit;
                unit /= 10;
            }
            rest = &fraction[digits..];
        }
    }
    let offset_minutes = match rest {
        [] => 0,
        [b' ', zone @ ..] | zone => offset_minutes(zone)?,
    };
    in_range(micros - offset_minutes * MICROS_PER_MINUTE)
}

/// Minutes east of UTC that a zone stands for.
fn offset_minutes(zone: &[u8]) -> Option<i64> {
    let (sign, hours, minutes) = match *zone {
        [sign, h1, h2] => (sign, two_digits(h1, h2), Some(0)),
        [sign, h1, h2, b':', m1, m2] | [sign, h1, h2, m1, m2] => (sign, two_digits(h1, h2), two_digits(m1, m2)),
        _ => (0, None, None),
    };
    let minutes = match (hours, minutes) {
        (Some(hours @ 0..24), Some(minutes @ 0..60)) => hours * 60 + minutes,
        _ => return [b"Z".as_slice(), b"UTC", b"GMT"].iter().any(|name| zone.eq_ignore_ascii_case(name)).then_some(0),
    };
    match sign {
        b'+' => Some(minutes),
        b'-' => Some(-minutes),
        _ => None,
    }
}

/// Microseconds since 1970 of an epoch number.
pub(super) fn epoch_number(text: &str, unit: TimestampUnit) -> Option<i64> {
    number::epoch_micros(text, unit).and_then(|micros| i64::try_from(micros).ok()).and_then(in_range)
}

/// Microseconds since 1970 of a whole number of that unit; what is less than a microsecond is cut.
pub(super) fn epoch_integer(value: i64, unit: TimestampUnit) -> Option<i64> {
    /// As with numbers in JSON: 1e11 seconds are the year 5138.
    const MILLISECONDS_FROM: u64 = 100_000_000_000;
    let micros = match unit {
        TimestampUnit::Auto if value.unsigned_abs() < MILLISECONDS_FROM => value.checked_mul(MICROS_PER_SECOND),
        TimestampUnit::Seconds => value.checked_mul(MICROS_PER_SECOND),
        TimestampUnit::Auto | TimestampUnit::Milliseconds => value.checked_mul(1_000),
        TimestampUnit::Microseconds => Some(value),
        TimestampUnit::Nanoseconds => Some(value / 1_000),
    };
    micros.and_then(in_range)
}

/// Whether a number of days since 1970 lies in the years 1 to 9999.
pub(super) fn is_date(days: i32) -> bool {
    /// 0001-01-01 and 9999-12-31.
    const DAYS: std::ops::RangeInclusive<i32> = -719_162..=2_932_896;
    DAYS.contains(&days)
}

/// Microseconds since 1970 of Kafka's milliseconds.
pub(super) fn epoch_millis(millis: i64) -> Option<i64> {
    millis.checked_mul(1_000).and_then(in_range)
}

/// Days since 1970 of `yyyy-MM-dd`.
pub(super) fn date(text: &str) -> Option<i32> {
    let days = days(text.as_bytes().try_into().ok()?)?;
    i32::try_from(days).ok()
}

fn in_range(micros: i64) -> Option<i64> {
    (FIRST_MICROS..=LAST_MICROS).contains(&micros).then_some(micros)
}

fn minute_micros(text: &[u8; MINUTE_LENGTH]) -> Option<i64> {
    let [date @ .., b'T' | b't' | b' ', h1, h2, b':', m1, m2] = text else { return None };
    let days = days(date)?;
    let (hour, minute) = (two_digits(*h1, *h2)?, two_digits(*m1, *m2)?);
    if hour > 23 || minute > 59 {
        return None;
    }
    Some(((days * 24 + hour) * 60 + minute) * MICROS_PER_MINUTE)
}

fn days(text: &[u8; 10]) -> Option<i64> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = *text else { return None };
    let year = two_digits(y1, y2)? * 100 + two_digits(y3, y4)?;
    let (month, day) = (two_digits(m1, m2)?, two_digits(d1, d2)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in_month = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    if year == 0 || day == 0 || day > days_in_month {
        return None;
    }
    Some(days_from_civil(year, month, day))
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar, for years from 1 on.
///
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`: years begin in March, so
/// that the leap day is the last one of a year.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    const DAYS_PER_ERA: i64 = 146_097;
    /// Days from 0000-03-01 to 1970-01-01.
    const DAYS_TO_1970: i64 = 719_468;
    let (year, month_from_march) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * DAYS_PER_ERA + day_of_era - DAYS_TO_1970
}

#[inline(always)]
fn digit(byte: u8) -> Option<i64> {
    let value = byte.wrapping_sub(b'0');
    (value < 10).then_some(i64::from(value))
}

#[inline(always)]
fn two_digits(tens: u8, ones: u8) -> Option<i64> {
    Some(digit(tens)? * 10 + digit(ones)?)
}
