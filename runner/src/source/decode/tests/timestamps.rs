//! The forms of a timestamp as text and as number: which are one, and of which instant.

use super::*;

/// 2026-01-01T00:00:00Z.
const START: i64 = 1_767_225_600_000_000;
const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Microseconds since 1970, or why not.
fn micros(value: &str) -> Result<i64, BadReason> {
    let source = source_with(json!({
        "columns": [{"name": "at", "type": "timestamp"}],
        "eventTime": {"column": "at"},
    }));
    let text = format!(r#"{{"at":{value}}}"#);
    let mut decoder = decoder(&source);
    let event_time = decoder.decode(&record(text.as_bytes()), i64::MAX);
    let checked = Decoder::new(DecodePlan::new(&source, &[]).unwrap()).decode(&record(text.as_bytes()), i64::MAX);
    assert_eq!(event_time, checked, "{value}");
    event_time.map(|event_time| event_time.unwrap()).map_err(|bad| bad.reason)
}

#[test]
fn these_texts_are_timestamps() {
    for (text, expected) in [
        // The ingestion layer's form, UTC.
        ("2026-01-01 00:00:00.000", START),
        ("2026-01-01 00:00:00.250", START + 250_000),
        ("2026-01-01 23:59:59.999", START + DAY - 1_000),
        // ISO 8601 and RFC 3339, with and without zone.
        ("2026-01-01T00:00:00", START),
        ("2026-01-01T00:00:00Z", START),
        ("2026-01-01 00:00:00Z", START),
        ("2026-01-01 00:00:00", START),
        ("2026-01-01T00:00:00.000Z", START),
        ("2026-01-01T00:00:01.001Z", START + SECOND + 1_000),
        ("2026-01-01T12:34:56", START + 12 * HOUR + 34 * MINUTE + 56 * SECOND),
        // 1 to 9 fraction digits; what is beyond the microsecond is cut.
        ("2026-01-01T00:00:00.1Z", START + 100_000),
        ("2026-01-01T00:00:00.12Z", START + 120_000),
        ("2026-01-01T00:00:00.123Z", START + 123_000),
        ("2026-01-01T00:00:00.1234Z", START + 123_400),
        ("2026-01-01T00:00:00.12345Z", START + 123_450),
        ("2026-01-01T00:00:00.123456Z", START + 123_456),
        ("2026-01-01T00:00:00.1234567Z", START + 123_456),
        ("2026-01-01T00:00:00.12345678Z", START + 123_456),
        ("2026-01-01T00:00:00.123456789Z", START + 123_456),
        ("2026-01-01T00:00:00.999999999", START + 999_999),
        ("2026-01-01 00:00:00.000000001", START),
        // Zones.
        ("2026-01-01T00:00:00+00:00", START),
        ("2026-01-01T00:00:00-00:00", START),
        ("2026-01-01T01:00:00+01:00", START),
        ("2026-01-01T01:00:00+0100", START),
        ("2025-12-31T16:30:00-07:30", START),
        ("2025-12-31T16:30:00-0730", START),
        ("2026-01-01 05:45:00.5+05:45", START + 500_000),
        ("2026-01-01T23:59:00+23:59", START),
        ("2026-01-01T01:00:00.123456789+01:00", START + 123_456),
        // Full hours, as PostgreSQL prints them.
        ("2026-01-01 01:00:00+01", START),
        ("2026-01-01T00:00:00-00", START),
        ("2025-12-31 13:00:00.25-11", START + 250_000),
        ("2026-01-01 23:00:00+23", START),
        // Names of UTC, and a space before any zone.
        ("2026-01-01T00:00:00UTC", START),
        ("2026-01-01 00:00:00 UTC", START),
        ("2026-01-01 00:00:00.5 GMT", START + 500_000),
        ("2026-01-01T00:00:00GMT", START),
        ("2026-01-01T00:00:00 Z", START),
        ("2026-01-01T01:00:00 +01:00", START),
        ("2026-01-01T01:00:00 +0100", START),
        ("2026-01-01 01:00:00 +01", START),
        // Either case.
        ("2026-01-01t00:00:00z", START),
        ("2026-01-01T00:00:00.001z", START + 1_000),
        ("2026-01-01 00:00:00 utc", START),
        ("2026-01-01 00:00:00 Gmt", START),
        // Without seconds, as Java prints when they are 0.
        ("2026-01-01T00:00", START),
        ("2026-01-01 12:34", START + 12 * HOUR + 34 * MINUTE),
        ("2026-01-01T00:00Z", START),
        ("2026-01-01T00:00z", START),
        ("2026-01-01T00:00 UTC", START),
        ("2026-01-01T01:00+01:00", START),
        ("2026-01-01T01:00+01", START),
        ("2025-12-31 23:30 -0030", START),
        // Before 1970 fractions count forwards too.
        ("1970-01-01T00:00:00Z", 0),
        ("1969-12-31T23:59:59.250Z", -750_000),
        ("1969-12-31T23:59:59.9999999Z", -1),
        // Leap days, and both ends of the calendar.
        ("2024-02-29T00:00:00Z", START - 672 * DAY),
        ("2000-02-29T12:00:00Z", 951_825_600 * SECOND),
        ("0001-01-01T00:00:00Z", -62_135_596_800 * SECOND),
        ("9999-12-31T23:59:59.999999Z", 253_402_300_800 * SECOND - 1),
        ("9999-12-31T23:59:59.999999999Z", 253_402_300_800 * SECOND - 1),
        ("0001-01-01T01:00:00+01:00", -62_135_596_800 * SECOND),
    ] {
        assert_eq!(micros(&format!("\"{text}\"")), Ok(expected), "{text}");
    }
}

#[test]
fn these_texts_are_no_timestamps() {
    for text in [
        "",
        " ",
        "now",
        "2026-01-01",
        "2026-01-01T",
        "2026-01-01T00:00:0",
        "20260101T000000Z",
        "1767225600",
        "1767225600000",
        "2026-01-01T00:00:60Z",
        "2026-01-01T24:00:00Z",
        "2026-01-01T00:60:00Z",
        "2026-02-29T00:00:00Z",
        "1900-02-29T00:00:00Z",
        "2026-04-31T00:00:00Z",
        "2026-00-01T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-01-00T00:00:00Z",
        "2026-01-32T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "0000-12-31T23:59:59-01:00",
        "10000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "2026-01-01_00:00:00",
        "2026-01-01  00:00:00",
        "2026/01/01T00:00:00Z",
        "2026-01-01T00.00.00Z",
        "2026-01-01T00:00:00.Z",
        "2026-01-01T00:00:00.",
        "2026-01-01T00:00:00.1234567890Z",
        "2026-01-01T00:00:00,123Z",
        "2026-01-01T00:00:00.12a",
        "2026-01-01T00:00:00.12aZ",
        "2026-01-01T00:00:00+1",
        "2026-01-01T00:0",
        "2026-01-01T00:00:",
        "2026-01-01T00:00:Z",
        "2026-01-01T00:00.5Z",
        "2026-01-01T00:00.",
        "2026-01-01T00:00 ",
        "2026-01-01T00:00:00 ",
        "2026-01-01T00:00:00  Z",
        "2026-01-01T00:00:00  UTC",
        "2026-01-01T00:00:00\\tZ",
        "2026-01-01T00:00:00 UT",
        "2026-01-01T00:00:00 CET",
        "2026-01-01T00:00:00 UTC+1",
        "2026-01-01T00:00:00 UTC Z",
        "2026-01-01T00:00:00+24",
        "2026-01-01T00:00:00 +",
        "2026-01-01T00:00:00 001",
        "2026-01-01T00:00:00x01",
        "2026-01-01T00:00:00.001x",
        "2026-01-01T00:00:60.001Z",
        "2026-01-01T00:00:00+01:0",
        "2026-01-01T00:00:00+010",
        "2026-01-01T00:00:00+24:00",
        "2026-01-01T00:00:00+00:60",
        "2026-01-01T00:00:00+01:00:00",
        "2026-01-01T00:00:00[UTC]",
        "2026-01-01T00:00:00ZZ",
        " 2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00Z ",
        "+2026-01-01T00:00:00Z",
        "-2026-01-01T00:00:00Z",
        "2026-+1-01T00:00:00Z",
        "2026-01-01T-1:00:00Z",
        "２026-01-01T00:00:00Z",
        "2026-01-01T00:00:0０Z",
    ] {
        assert_eq!(micros(&format!("\"{text}\"")), Err(BadReason::Timestamp), "{text}");
    }
}

#[test]
fn a_number_is_seconds_or_milliseconds() {
    for (number, expected) in [
        ("0", 0),
        ("-0", 0),
        ("1", SECOND),
        ("1767225600", START),
        ("1767225600000", START),
        ("1767225600001", START + 1_000),
        ("1767225600.5", START + 500_000),
        ("1767225600.0", START),
        ("1767225600000.25", START + 250),
        ("1.7672256e9", START),
        ("1.7672256e12", START),
        ("1767225600.1234567", START + 123_456),
        ("1767225600.123456789012345678901234567890123456789", START + 123_456),
        ("99999999999", 99_999_999_999 * SECOND),
        ("99999999999.999999", 99_999_999_999_999_999),
        ("100000000000", 100_000_000_000 * 1_000),
        ("100000000000.5", 100_000_000_000 * 1_000 + 500),
        ("-1", -SECOND),
        ("-1.5", -1_500_000),
        ("-1.0000019", -1_000_001),
        ("-100000000000", -100_000_000_000_000),
        ("1e-7", 0),
        ("1e-999999999999", 0),
        ("-62135596800", -62_135_596_800 * SECOND),
        ("253402300799999", 253_402_300_799_999_000),
        ("253402300799", 253_402_300_799_000),
    ] {
        assert_eq!(micros(number), Ok(expected), "{number}");
    }
}

#[test]
fn a_number_beyond_the_calendar_is_no_timestamp() {
    for number in [
        "253402300800000",
        "-62135596801",
        "-99999999999",
        "-62135596800.000001",
        "9223372036854775807",
        "-9223372036854775808",
        "99999999999999999999999999",
        "1e40",
        "-1e40",
        "1e400",
        "1e999999999999",
        "1e18446744073709551616",
    ] {
        assert_eq!(micros(number), Err(BadReason::Timestamp), "{number}");
    }
}

#[test]
fn other_kinds_are_of_the_wrong_type() {
    for value in ["true", "false", "{}", "[]", "[1]", r#"{"$date":"2026-01-01T00:00:00Z"}"#] {
        assert_eq!(micros(value), Err(BadReason::WrongType), "{value}");
    }
    assert_eq!(micros("null"), Err(BadReason::MissingField));
}

#[test]
fn the_remembered_minute_is_told_by_all_of_its_characters() {
    let source = source_with(json!({
        "columns": [{"name": "at", "type": "timestamp"}],
        "eventTime": {"column": "at"},
    }));
    let usual = "2026-01-01T00:00:00Z";
    let mut decoder = decoder(&source);
    for place in 0..usual.len() {
        for byte in ["0", "1", "9", "x", " ", "T", ":", "-"] {
            let mut text = usual.to_owned();
            text.replace_range(place..=place, byte);
            // The last one has the minute that a decoder knows from the start.
            for text in [usual, text.as_str(), "1970-01-01T00:00:05Z"] {
                let after_another = decoder.decode(&record(format!("{{\"at\":\"{text}\"}}").as_bytes()), i64::MAX);
                let alone = micros(&format!("\"{text}\""));
                assert_eq!(after_another.map_err(|bad| bad.reason), alone.map(Some), "{text}");
            }
        }
    }
}

#[test]
fn the_minute_that_is_remembered_from_the_start_needs_no_record() {
    // Sixteen zero bytes, where a decoder that began with an empty minute would find it.
    let nothing = format!("\"{}:00Z\"", "\\u0000".repeat(16));
    assert_eq!(micros(&nothing), Err(BadReason::Timestamp));
}

#[test]
fn units_other_than_auto_are_what_they_say() {
    for (unit, number, expected) in [
        ("auto", "1", Some(SECOND)),
        ("seconds", "100000000000", Some(100_000_000_000 * SECOND)),
        ("seconds", "1.0000019", Some(1_000_001)),
        ("milliseconds", "1", Some(1_000)),
        ("milliseconds", "1.5", Some(1_500)),
        ("microseconds", "1767225600000001", Some(START + 1)),
        ("microseconds", "1.9", Some(1)),
        ("nanoseconds", "1767225600000001999", Some(START + 1)),
        ("nanoseconds", "-1999", Some(-1)),
        ("nanoseconds", "\"2026-01-01T00:00:00Z\"", Some(START)),
        ("seconds", "253402300800", None),
        ("microseconds", "253402300800000000", None),
    ] {
        let source = source_with(json!({
            "columns": [
                {"name": "at", "type": "timestamp", "timestampUnit": unit},
                {"name": "all", "type": "array<timestamp>", "timestampUnit": unit},
            ],
            "eventTime": {"column": "at"},
        }));
        let mut decoder = decoder(&source);
        let text = format!(r#"{{"at":{number},"all":[{number}]}}"#);
        let event_time = decoder.decode(&record(text.as_bytes()), i64::MAX);
        assert_eq!(
            event_time.map_err(|bad| bad.reason),
            expected.map(Some).ok_or(BadReason::Timestamp),
            "{unit} {number}"
        );
        if expected.is_some() {
            let row = row(&decoder.finish(), 0);
            assert_eq!(row[1], format!("[{}]", row[0]), "{unit} {number}");
        }
    }
}
