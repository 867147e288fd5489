//! Columns that hold what Kafka keeps beside the value, or the value as a whole.

use super::*;
use crate::source::record::Headers;

type OwnedHeaders = Vec<(String, Option<Vec<u8>>)>;

fn with_headers<'a>(headers: &'a OwnedHeaders, value: &'a [u8]) -> Record<'a> {
    Record { headers: headers as &dyn Headers, ..record(value) }
}

#[test]
fn what_kafka_keeps_beside_the_value_is_a_column() {
    let source = source(json!([
        {"name": "topic", "type": "string", "from": "topic"},
        {"name": "partition", "type": "int", "from": "partition"},
        {"name": "offset", "type": "bigint", "from": "offset"},
        {"name": "time", "type": "timestamp", "from": "recordTime"},
        {"name": "key", "type": "string", "from": "key"},
        {"name": "raw_key", "type": "binary", "from": "key"},
        {"name": "headers", "type": "array<struct<key:string,value:binary>>", "from": "headers"},
        {"name": "value", "type": "string", "from": "value"},
        {"name": "payload", "type": "json", "from": "value"},
        {"name": "bytes", "type": "binary", "from": "value"},
        {"name": "a", "type": "int"},
    ]));
    let headers = vec![
        ("trace".to_owned(), Some(b"\x01\xff".to_vec())),
        ("empty".to_owned(), Some(Vec::new())),
        ("trace".to_owned(), None),
    ];
    let (row, event_time) = decode(&source, &with_headers(&headers, br#" {"a": 1} "#)).unwrap();
    assert_eq!(
        row,
        [
            "topic_app_events",
            "3",
            "42",
            "2026-01-01T00:00:00Z",
            "user_000712",
            "757365725f303030373132",
            "[{key: trace, value: 01ff}, {key: empty, value: }, {key: trace, value: NULL}]",
            r#" {"a": 1} "#,
            r#" {"a": 1} "#,
            "207b2261223a20317d20",
            "1",
        ]
    );
    assert_eq!(event_time, None);
}

#[test]
fn columns_that_nobody_needs_keep_one_value_at_most() {
    let source = source(json!([
        {"name": "n", "type": "bigint"},
        {"name": "l", "type": "array<struct<a:string>>"},
        {"name": "escaped", "type": "string"},
        {"name": "key", "type": "string", "from": "key"},
        {"name": "topic", "type": "string", "from": "topic"},
        {"name": "headers", "type": "array<struct<key:string,value:binary>>", "from": "headers"},
    ]));
    let mut decoder = Decoder::new(DecodePlan::new(&source, &[]).unwrap());
    let headers = vec![("trace".to_owned(), Some(b"value".to_vec()))];
    for n in 0..100 {
        let text = format!(r#"{{"n":{n},"l":[{{"a":"a text that is longer"}}],"escaped":"\u0041"}}"#);
        decoder.decode(&with_headers(&headers, text.as_bytes()), LATEST).unwrap();
        assert!(decoder.columns.iter().all(|reader| reader.column.len() <= 1));
    }
    assert_eq!((decoder.rows(), decoder.bytes()), (100, 0));
}

#[test]
fn a_null_key_and_no_time_are_null_or_missing() {
    for required in [false, true] {
        for (from, column_type) in [("key", "string"), ("key", "binary"), ("recordTime", "timestamp")] {
            let source = source(json!([{"name": "a", "type": column_type, "from": from, "required": required}]));
            let record = Record { key: None, timestamp_ms: None, ..record(b"{}") };
            let found = decode(&source, &record).map(|(row, _)| row[0].clone()).map_err(|bad| bad.reason);
            assert_eq!(found, if required { Err(BadReason::MissingField) } else { Ok("NULL".to_owned()) }, "{from}");
        }
    }
}

#[test]
fn no_headers_are_an_empty_list() {
    let source = source(
        json!([{"name": "h", "type": "array<struct<key:string,value:binary>>", "from": "headers", "required": true}]),
    );
    assert_eq!(outcome(&source, b"{}"), "[]");
}

#[test]
fn a_key_that_is_declared_as_text_must_be_text() {
    let text = source(json!([{"name": "k", "type": "string", "from": "key", "minLength": 2, "maxLength": 3}]));
    let binary = source(json!([{"name": "k", "type": "binary", "from": "key"}]));
    for (key, as_text, as_binary) in [
        (&b"ab"[..], "ab", "6162"),
        (b"\xff\xfe", "bad: utf8", "fffe"),
        (b"a", "bad: length", "61"),
        ("ééé".as_bytes(), "ééé", "c3a9c3a9c3a9"),
        (b"abcd", "bad: length", "61626364"),
        (b"", "bad: length", ""),
    ] {
        for (source, expected) in [(&text, as_text), (&binary, as_binary)] {
            let record = Record { key: Some(key), ..record(b"{}") };
            let found =
                decode(source, &record).map_or_else(|bad| format!("bad: {}", bad.reason), |(row, _)| row[0].clone());
            assert_eq!(found, expected, "{key:?}");
        }
    }
}

#[test]
fn the_record_time_can_be_the_event_time() {
    let source = source_with(json!({
        "columns": [{"name": "at", "type": "timestamp", "from": "recordTime"}],
        "eventTime": {"column": "at"},
    }));
    for (millis, expected) in [
        (Some(1_767_225_600_001), Ok(Some(1_767_225_600_001_000))),
        (Some(-1), Err(BadReason::MissingField)),
        (Some(i64::MAX), Err(BadReason::Timestamp)),
        (Some(253_402_300_800_000), Err(BadReason::Timestamp)),
        (Some(4_102_444_800_001), Err(BadReason::Future)),
        (None, Err(BadReason::MissingField)),
    ] {
        let record = Record { timestamp_ms: millis, ..record(b"{}") };
        assert_eq!(decode(&source, &record).map(|(_, at)| at).map_err(|bad| bad.reason), expected, "{millis:?}");
    }
}

#[test]
fn a_bad_record_takes_its_headers_and_lists_back() {
    let source = source(json!([
        {"name": "h", "type": "array<struct<key:string,value:binary>>", "from": "headers"},
        {"name": "l", "type": "array<array<string>>"},
        {"name": "m", "type": "map<string,struct<x:int,t:string>>"},
        {"name": "n", "type": "int", "required": true},
    ]));
    let headers = vec![("a header with a long name".to_owned(), Some(b"and a value that is long".to_vec()))];
    let good = br#"{"l":[["a text that is long enough"],[]],"m":{"k":{"x":1,"t":"another text that is long"}},"n":1}"#;
    let mut decoder = decoder(&source);
    decoder.decode(&with_headers(&headers, good), LATEST).unwrap();
    let bytes = decoder.bytes();
    for bad in [
        r#"{"l":[["a text that is long enough"],[]],"m":{"k":{"x":1,"t":"another text that is long"}}}"#,
        r#"{"l":[["a text that is long enough", {}]],"n":1}"#,
        r#"{"l":[["a text that is long enough"],[]],"m":{"k":{"x":1},"l":{"x":2,"t":[]}},"n":1}"#,
        r#"{"l":[["a text that is long enough"],[]],"m":{"k":{"x":1},"l":{"x":"2"}},"n":1}"#,
        r#"{"m":{"k":null,"l":5},"n":1}"#,
    ] {
        decoder.decode(&with_headers(&headers, bad.as_bytes()), LATEST).expect_err(bad);
        assert_eq!((decoder.rows(), decoder.bytes()), (1, bytes), "{bad}");
    }
    decoder.decode(&with_headers(&headers, good), LATEST).unwrap();
    let batch = decoder.finish();
    assert_valid(&batch);
    assert_eq!(row(&batch, 0), row(&batch, 1));
}

#[test]
fn a_raw_value_is_what_its_columns_are() {
    let cases: [(&[&str], &[u8], &str); 14] = [
        (&["binary"], b"\xff\x00", "ff00"),
        (&["binary"], b"", ""),
        (&["string"], "no JSON é".as_bytes(), "no JSON é"),
        (&["string"], b"", ""),
        (&["string"], b"\xff", "bad: utf8"),
        (&["binary", "string"], b"\xff", "bad: utf8"),
        (&["json"], b" [1, {}] ", " [1, {}] "),
        (&["json"], b"\"text\"", "\"text\""),
        (&["json"], b" null ", "NULL"),
        (&["json", "string"], b"[1", "bad: truncated"),
        (&["json"], b"1 2", "bad: syntax"),
        (&["json"], b" ", "bad: empty"),
        (&["json"], b"\xff", "bad: utf8"),
        (&[], b"\xff", ""),
    ];
    for (types, value, expected) in cases {
        let columns: Vec<Value> = types
            .iter()
            .enumerate()
            .map(|(n, kind)| json!({"name": format!("c{n}"), "type": kind, "from": "value"}))
            .collect();
        let source = source_with(json!({"format": "raw", "columns": columns}));
        assert_eq!(outcome(&source, value), expected, "{types:?} {value:?}");
    }
}

#[test]
fn the_identity_of_a_record_stands_behind_the_declared_columns() {
    let source = source(json!([{"name": "a", "type": "int"}, {"name": "b", "type": "int"}]));
    let mut decoder = Decoder::new(DecodePlan::new(&source, &[1, 2, 3, 4]).unwrap());
    decoder.decode(&record(br#"{"b": 1}"#), LATEST).unwrap();
    assert!(decoder.decode(&record(br#"{"b": "no"}"#), LATEST).is_err());
    let batch = decoder.finish();
    let fields = batch.schema();
    let names: Vec<&str> = fields.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["b", "__topic", "__partition", "__offset"]);
    let row: Vec<String> = batch.columns().iter().map(text_of).collect();
    assert_eq!(row, ["1", "topic_app_events", "3", "42"]);
    assert!(DecodePlan::new(&source, &[5]).is_err());
}

/// The first value of a column.
fn text_of(column: &ArrayRef) -> String {
    datafusion::arrow::util::display::array_value_to_string(column, 0).unwrap()
}
