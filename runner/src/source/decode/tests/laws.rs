//! Laws over random records: never a panic, the same judgement as another parser, rows that do not depend on
//! neighbours.

use chrono::{DateTime, Datelike, SecondsFormat, Utc};
use datafusion::arrow::array::AsArray;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{Decimal128Type, Float64Type, Int64Type};
use proptest::prelude::*;
use serde::de::IgnoredAny;

use super::*;

/// A column of each kind, some of them by path, some reading one field together.
fn everything() -> SourceSpec {
    source_with(json!({
        "maxDepth": 12,
        "columns": [
            {"name": "a", "type": "string", "maxLength": 20},
            {"name": "b", "type": "bigint"},
            {"name": "c", "type": "double"},
            {"name": "d", "type": "timestamp"},
            {"name": "e", "type": "array<string>"},
            {"name": "f", "type": "map<string,json>"},
            {"name": "g", "type": "struct<a:string,b:array<struct<c:json>>>"},
            {"name": "h", "type": "json"},
            {"name": "i", "type": "json", "path": "h.a"},
            {"name": "j", "type": "json", "path": "h.a.b"},
            {"name": "k", "type": "boolean"},
            {"name": "l", "type": "decimal(12,3)"},
            {"name": "m", "type": "binary"},
            {"name": "n", "type": "date"},
            {"name": "o", "type": "string", "from": "value"},
        ],
    }))
}

/// JSON values with the names, texts and numbers that the columns above look at.
fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1_000_000.0..1_000_000.0f64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[ -~]{0,20}".prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        prop::sample::select(vec!["2026-01-01T00:00:00Z", "2026-01-01 10:00:00.123", "2026-01-01", "Zm9v", "1.5", ""])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((name(), inner), 0..6).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// A value that the column of that name takes, mostly.
fn value_for(name: &str) -> BoxedStrategy<Value> {
    let text = || "[ -~]{0,14}|.{0,12}".prop_map(Value::from);
    let suited = match name {
        "a" => prop_oneof![text(), any::<i32>().prop_map(Value::from), any::<bool>().prop_map(Value::from)].boxed(),
        "b" => any::<i64>().prop_map(Value::from).boxed(),
        "c" => any::<f64>().prop_map(Value::from).boxed(),
        "d" => prop::sample::select(vec![
            json!("2026-01-01T00:00:00Z"),
            json!("2026-01-01 10:00:00.123"),
            json!(1.5),
            json!(17),
        ])
        .boxed(),
        "e" => prop::collection::vec(text(), 0..4).prop_map(Value::from).boxed(),
        "f" => prop::collection::vec((name_of_any(), json_value()), 0..12)
            .prop_map(|fields| Value::Object(fields.into_iter().collect()))
            .boxed(),
        "g" => (text(), prop::collection::vec(json_value(), 0..3))
            .prop_map(|(a, c)| json!({"a": a, "b": c.into_iter().map(|c| json!({"c": c})).collect::<Vec<_>>(), "x": 1}))
            .boxed(),
        "h" => (json_value(), json_value()).prop_map(|(b, c)| json!({"x": c, "a": {"b": b}})).boxed(),
        "k" => any::<bool>().prop_map(Value::from).boxed(),
        "l" => (any::<i32>(), 0..1000).prop_map(|(whole, rest)| json!(format!("{whole}.{rest:03}"))).boxed(),
        "m" => prop::sample::select(vec!["", "Zm9v", "Zg==", "AAECAwQFBgcICQoLDA0ODw"]).prop_map(Value::from).boxed(),
        "n" => prop::sample::select(vec!["2026-01-01", "1900-02-28"]).prop_map(Value::from).boxed(),
        _ => json_value().boxed(),
    };
    prop_oneof![20 => suited, 2 => Just(Value::Null), 1 => json_value()].boxed()
}

fn name_of_any() -> impl Strategy<Value = String> {
    prop_oneof![".{0,5}", "[a-f]"]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![8 => "[a-z]", 1 => ".{0,5}", 1 => "[a-z_]{20,40}"]
}

/// The text of an object, with fields in any order, twice, with escapes in names, with white space.
fn object_text() -> impl Strategy<Value = String> {
    let field = name().prop_flat_map(|name| {
        let value = value_for(&name);
        (Just(name), value, prop::bool::weighted(0.1))
    });
    (prop::collection::vec(field, 0..10), prop::sample::select(vec!["", " ", "\n  ", "\t"])).prop_map(
        |(fields, space)| {
            let fields: Vec<String> = fields
                .into_iter()
                .map(|(name, value, escape)| {
                    let name = if escape { escaped(&name) } else { serde_json::to_string(&name).unwrap() };
                    let value = if space.is_empty() {
                        value.to_string()
                    } else {
                        serde_json::to_string_pretty(&value).unwrap()
                    };
                    format!("{space}{name}{space}:{space}{value}{space}")
                })
                .collect();
            format!("{space}{{{}{space}}}{space}", fields.join(","))
        },
    )
}

fn escaped(name: &str) -> String {
    let units: String = name.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
    format!("\"{units}\"")
}

/// A record's bytes after an accident.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let accident = prop_oneof![
        3 => prop::sample::select(b"{}[]\",:\\ 0-1.eEtfnu/\n\x00\x1f\x7f\xff\xc3".to_vec()).prop_map(Some),
        1 => any::<u8>().prop_map(Some),
        2 => Just(None),
    ];
    let accidents = prop::collection::vec((any::<prop::sample::Index>(), accident, 0..3), 1..4);
    (object_text(), accidents).prop_map(|(text, accidents)| {
        let mut bytes = text.into_bytes();
        for (place, byte, kind) in accidents {
            if bytes.is_empty() {
                break;
            }
            let place = place.index(bytes.len());
            match (kind, byte) {
                (0, _) => bytes.truncate(place),
                (1, Some(byte)) => bytes.insert(place, byte),
                (_, Some(byte)) => bytes[place] = byte,
                (_, None) => {
                    bytes.remove(place);
                }
            }
        }
        bytes
    })
}

/// Whether serde_json takes the bytes for one JSON object. It refuses numbers beyond f64, which are JSON all the same;
/// then its parts are asked one by one.
fn is_object_by_serde(bytes: &[u8]) -> bool {
    match serde_json::from_slice::<Value>(bytes) {
        Ok(value) => value.is_object(),
        Err(error) if error.to_string().starts_with("number out of range") => {
            let Ok(text) = std::str::from_utf8(bytes) else { return false };
            text.trim_ascii_start().starts_with('{')
                && serde_json::from_str::<IgnoredAny>(text).is_ok()
                && has_sound_strings(text)
        }
        Err(_) => false,
    }
}

/// Whether serde_json can make a text of each string in a text that keeps to the grammar.
fn has_sound_strings(mut json: &str) -> bool {
    while let Some(start) = json.find('"') {
        let mut end = start + 1;
        while json.as_bytes()[end] != b'"' {
            end += if json.as_bytes()[end] == b'\\' { 2 } else { 1 };
        }
        if serde_json::from_str::<String>(&json[start..=end]).is_err() {
            return false;
        }
        json = &json[end + 1..];
    }
    true
}

/// Reasons that a record can be bad for although it is one JSON object in UTF-8.
fn is_about_values(reason: BadReason) -> bool {
    use BadReason::*;
    matches!(reason, DuplicateField | MissingField | WrongType | OutOfRange | Length | Timestamp | Future)
}

/// Both decoders, one that has seen other records before: their judgement is one.
fn judge(bytes: &[u8], others: &[String]) -> Result<(), TestCaseError> {
    let source = everything();
    let mut taught = decoder(&source);
    for other in others {
        let _ = taught.decode(&record(other.as_bytes()), LATEST);
    }
    let rows = taught.rows();
    let judgement = taught.decode(&record(bytes), LATEST);
    prop_assert_eq!(taught.rows(), rows + usize::from(judgement.is_ok()));
    prop_assert_eq!(&decoder(&source).decode(&record(bytes), LATEST), &judgement);
    let mut checker = Decoder::new(DecodePlan::new(&source, &[]).unwrap());
    prop_assert_eq!(&checker.decode(&record(bytes), LATEST), &judgement);
    assert_valid(&taught.finish());
    let reads_as_object = judgement.as_ref().map_or_else(|bad| is_about_values(bad.reason), |_| true);
    prop_assert_eq!(reads_as_object, is_object_by_serde(bytes), "{:?}", judgement);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_bytes_are_judged_as_serde_json_judges_them(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        judge(&bytes, &[])?;
    }

    #[test]
    fn any_text_of_json_characters_is_judged_as_serde_json_judges_it(
        text in r#"[{\[]?([{}\[\]",:\\ 01.eE+\-truefalsnd"]|"a":|\\u[dD][89cC]00){0,24}"#,
    ) {
        judge(text.as_bytes(), &[])?;
    }

    #[test]
    fn a_damaged_record_is_judged_as_serde_json_judges_it(
        bytes in damaged(), others in prop::collection::vec(object_text(), 0..3),
    ) {
        judge(&bytes, &others)?;
    }

    #[test]
    fn a_sound_record_is_judged_as_serde_json_judges_it(
        text in object_text(), others in prop::collection::vec(object_text(), 0..3),
    ) {
        judge(text.as_bytes(), &others)?;
    }

    #[test]
    fn a_batch_is_the_rows_of_its_good_records_each_decoded_alone(
        records in prop::collection::vec(
            prop_oneof![4 => object_text().prop_map(String::into_bytes), 1 => damaged()], 0..12,
        ),
        needed in prop::collection::btree_set(0usize..15, 0..15),
    ) {
        let source = everything();
        let needed: Vec<usize> = needed.into_iter().collect();
        let new = || Decoder::new(DecodePlan::new(&source, &needed).unwrap());
        let mut together = new();
        let mut alone = Vec::new();
        for bytes in &records {
            let mut decoder = new();
            let outcome = decoder.decode(&record(bytes), LATEST);
            prop_assert_eq!(&together.decode(&record(bytes), LATEST), &outcome);
            alone.push(decoder.finish());
        }
        let rows: usize = alone.iter().map(RecordBatch::num_rows).sum();
        let batch = together.finish();
        prop_assert_eq!(batch.num_rows(), rows);
        if !needed.is_empty() {
            prop_assert_eq!(&batch, &concat_batches(&batch.schema(), &alone).unwrap());
        }
    }

    #[test]
    fn what_serde_json_writes_is_read_back(text in ".{0,40}", whole in any::<i64>(), fraction in any::<f64>()) {
        prop_assume!(fraction.is_finite());
        let source = source(json!([
            {"name": "t", "type": "string"}, {"name": "w", "type": "bigint"}, {"name": "f", "type": "double"},
        ]));
        let value = json!({"t": text, "w": whole, "f": fraction}).to_string();
        let mut decoder = decoder(&source);
        decoder.decode(&record(value.as_bytes()), LATEST).unwrap();
        let batch = decoder.finish();
        prop_assert_eq!(batch.column(0).as_string_view().value(0), &text);
        prop_assert_eq!(batch.column(1).as_primitive::<Int64Type>().value(0), whole);
        prop_assert_eq!(batch.column(2).as_primitive::<Float64Type>().value(0), fraction);
    }

    #[test]
    fn a_decimal_comes_back_digit_for_digit(
        digits in 1 - 10_i128.pow(38)..10_i128.pow(38),
        scale in 0u32..=38, zeros in 0usize..3, shift in 0usize..50, quoted in any::<bool>(),
    ) {
        // The same number, its point moved and the exponent with it, and zeros behind.
        let unit = 10_i128.pow(scale);
        let sign = if digits < 0 { "-" } else { "" };
        let plain = if scale == 0 {
            format!("{digits}.0")
        } else {
            format!("{sign}{}.{:0width$}", (digits / unit).abs(), (digits % unit).abs(), width = scale as usize)
        };
        let moved = format!("{digits}e{}", -(scale as i32));
        let behind = ("0".repeat(shift), "0".repeat(zeros + 1));
        let shifted = format!("{digits}{}.{}e{}", behind.0, behind.1, -i64::from(scale) - shift as i64);
        let source = source(json!([{"name": "a", "type": format!("decimal(38,{scale})")}]));
        for number in [format!("{plain}{}", "0".repeat(zeros)), moved, shifted] {
            let value = if quoted { format!("{{\"a\":\"{number}\"}}") } else { format!("{{\"a\":{number}}}") };
            let mut decoder = decoder(&source);
            decoder.decode(&record(value.as_bytes()), LATEST).unwrap_or_else(|bad| panic!("{value}: {bad}"));
            prop_assert_eq!(decoder.finish().column(0).as_primitive::<Decimal128Type>().value(0), digits, "{}", value);
        }
    }

    #[test]
    fn a_timestamp_comes_back_in_every_form(
        micros in -62_135_596_800_000_000..253_402_300_800_000_000_i64, minutes in -1_439..1_439,
    ) {
        let utc = DateTime::<Utc>::from_timestamp_micros(micros).unwrap();
        let zone = chrono::FixedOffset::east_opt(minutes * 60).unwrap();
        let local = utc.with_timezone(&zone);
        let mut texts = vec![
            utc.to_rfc3339_opts(SecondsFormat::Micros, true),
            utc.to_rfc3339_opts(SecondsFormat::Nanos, false),
            utc.format("%Y-%m-%d %H:%M:%S%.6f").to_string(),
        ];
        if (1..=9999).contains(&local.year()) {
            texts.push(local.to_rfc3339_opts(SecondsFormat::Micros, false));
            texts.push(local.format("%Y-%m-%d %H:%M:%S%.6f%z").to_string());
        }
        let mut values: Vec<(String, i64)> = texts.into_iter().map(|text| (format!("\"{text}\""), micros)).collect();
        values.push((utc.format("\"%Y-%m-%dT%H:%M:%S%.3fZ\"").to_string(), micros.div_euclid(1_000) * 1_000));
        values.push((utc.format("\"%Y-%m-%d %H:%M:%S\"").to_string(), micros.div_euclid(1_000_000) * 1_000_000));
        // Every zone that means UTC, and the local one, behind a time with and without seconds.
        let zones = ["", "Z", "z", " Z", "UTC", " utc", "GMT", " Gmt", "+00", " -00", "+0000", " +00:00"];
        for (index, zone) in zones.into_iter().enumerate() {
            let form = ["%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%dt%H:%M:%S", "%Y-%m-%d %H:%M:%S%.9f"][index % 4];
            let unit = [60_000_000, 60_000_000, 1_000_000, 1][index % 4];
            values.push((format!("\"{}{zone}\"", utc.format(form)), micros.div_euclid(unit) * unit));
        }
        let hours = chrono::FixedOffset::east_opt(minutes / 60 * 3_600).unwrap();
        let local = utc.with_timezone(&hours);
        if (1..=9999).contains(&local.year()) {
            let text = local.format("%Y-%m-%d %H:%M:%S%.6f").to_string();
            for space in ["", " "] {
                values.push((format!("\"{text}{space}{:+03}\"", minutes / 60), micros));
            }
        }
        let sign = if micros < 0 { "-" } else { "" };
        if micros.abs() < 100_000_000_000_000_000 {
            let (whole, rest) = (micros.abs() / 1_000_000, micros.abs() % 1_000_000);
            values.push((format!("{sign}{whole}.{rest:06}"), micros));
        }
        if micros.abs() >= 100_000_000_000_000 {
            let (whole, rest) = (micros.abs() / 1_000, micros.abs() % 1_000);
            values.push((format!("{sign}{whole}.{rest:03}"), micros));
        }
        let source = source_with(json!({
            "columns": [{"name": "at", "type": "timestamp"}],
            "eventTime": {"column": "at"},
        }));
        let mut decoder = decoder(&source);
        for (value, expected) in values {
            let text = format!("{{\"at\":{value}}}");
            prop_assert_eq!(decoder.decode(&record(text.as_bytes()), i64::MAX), Ok(Some(expected)), "{}", text);
        }
    }
}
