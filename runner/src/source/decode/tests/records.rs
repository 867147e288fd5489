//! Whole records: which are bad and why, fields by path, rows, batches.

use super::*;

const GOOD: &str =
    r#""user_id":"u","event_type":"e","app_type":"a","session_id":"s","timestamp":"2026-01-01T00:00:00.000Z""#;

#[test]
fn an_app_event_is_a_row() {
    for (text, user) in [
        (format!("{{{GOOD}}}"), "u"),
        (format!(" {{ {} }}\n", GOOD.replace("\":", "\" : ")), "u"),
        (format!("{{{GOOD},\"x\":{{\"user_id\":\"no\",\"a\":[1,{{}},[],\"}}\\\"\"]}}}}"), "u"),
        (format!("{{\"x\":{{\"user_id\":\"no\"}},{GOOD}}}"), "u"),
        (format!("{{{}}}", GOOD.replace("\"u\"", r#""a\"b\\\u00e9\ud83d\ude00\n""#)), "a\"b\\é😀\n"),
        (format!("{{{}}}", GOOD.replace("user_id", r"us\u0065r_id")), "u"),
        (format!("{{{}}}", GOOD.replace("\"u\"", "17")), "17"),
        (format!("{{{}}}", GOOD.replace("\"u\"", "1.50e3")), "1.50e3"),
        (format!("{{{}}}", GOOD.replace("\"u\"", "true")), "true"),
        (format!("{{{},\"p\":{}{}}}", GOOD, "[".repeat(100), "]".repeat(100)), "u"),
    ] {
        let (row, event_time) =
            decode(&app_events(), &record(text.as_bytes())).unwrap_or_else(|bad| panic!("{text}: {bad}"));
        assert_eq!(row, [user, "e", "s", "a", "2026-01-01T00:00:00Z", "NULL", "NULL"], "{text}");
        assert_eq!(event_time, Some(1_767_225_600_000_000));
    }
}

#[test]
fn a_bad_record_has_the_reason_that_fits_best() {
    use BadReason::*;
    let with = |extra: &str| format!("{{{GOOD},{extra}}}").into_bytes();
    let instead = |from: &str, to: &str| format!("{{{}}}", GOOD.replace(from, to)).into_bytes();
    let raw = |extra: &[u8]| [format!("{{{GOOD},\"p\":\"").as_bytes(), extra, b"\"}"].concat();
    let cases: Vec<(Vec<u8>, BadReason)> = vec![
        (b"".to_vec(), Empty),
        (b" \r\n\t ".to_vec(), Empty),
        (b"[]".to_vec(), NotObject),
        (b" [1, {\"a\":2}] ".to_vec(), NotObject),
        (b"3".to_vec(), NotObject),
        (b"\"text\"".to_vec(), NotObject),
        (b"null".to_vec(), NotObject),
        (b"true".to_vec(), NotObject),
        (b"nonsense".to_vec(), Syntax),
        (b"3 4".to_vec(), Syntax),
        (b"[1,".to_vec(), Truncated),
        (b"tru".to_vec(), Truncated),
        (b"\xef\xbb\xbf{}".to_vec(), ByteOrderMark),
        (b"\0".to_vec(), Syntax),
        (b"{}".to_vec(), MissingField),
        (format!("{{{GOOD}").into_bytes(), Truncated),
        (format!("{{{GOOD}}} x").into_bytes(), Syntax),
        (format!("{{{GOOD}}}}}").into_bytes(), Syntax),
        (format!("{{{GOOD}}}{{}}").into_bytes(), Syntax),
        (format!("{{{GOOD}}}\0").into_bytes(), Syntax),
        (format!("{{{GOOD},}}").into_bytes(), Syntax),
        (format!("{{,{GOOD}}}").into_bytes(), Syntax),
        (format!("{{{}}}", GOOD.replace(',', " ")).into_bytes(), Syntax),
        (with("\"p\":tru"), Syntax),
        (with("\"p\":01"), Syntax),
        (with("\"p\":[1,]"), Syntax),
        (with("\"p\":{\"a\" 1}"), Syntax),
        (with("\"p\":\"\\x\""), Syntax),
        (with("\"p\":\"a\nb\""), Syntax),
        (with("\"p\":[}]"), Syntax),
        (with("\"p\":\"\\ud800\""), Syntax),
        (with("\"\\ud800\":1"), Syntax),
        (with("p:1"), Syntax),
        (with(&format!("\"p\":{}{}", "[".repeat(127), "]".repeat(127))), TooDeep),
        (with(&format!("\"p\":{}", "[".repeat(100_000))), TooDeep),
        (raw(b"\xff\xfe"), Utf8),
        (raw(b"\xc3"), Utf8),
        (raw(b"\xed\xa0\x80"), Utf8),
        (raw(b"\xc0\x80"), Utf8),
        (raw(b"\xf5\x80\x80\x80"), Utf8),
        (b"\xff".to_vec(), Utf8),
        (with("\"user_id\":\"again\""), DuplicateField),
        (with("\"user_id\":null"), DuplicateField),
        (with("\"us\\u0065r_id\":\"again\""), DuplicateField),
        (with("\"event_id\":null,\"event_id\":null"), DuplicateField),
        (with("\"user_id\":\"again\",\"p\":tru"), Syntax),
        (instead("\"u\"", "null"), MissingField),
        (instead("user_id", "userid"), MissingField),
        (instead("user_id", "USER_ID"), MissingField),
        (instead("user_id", "user_id "), MissingField),
        (instead("\"u\"", "{}"), WrongType),
        (instead("\"u\"", "[\"u\"]"), WrongType),
        (instead("\"u\"", "\"\""), Length),
        (instead("\"u\"", &format!("\"{}\"", "é".repeat(256))), Length),
        (instead("\"2026-01-01T00:00:00.000Z\"", "null"), MissingField),
        (instead("timestamp", "time"), MissingField),
        (instead("00.000Z", "60"), Timestamp),
        (instead("2026-01-01", "2026-02-29"), Timestamp),
        (instead("T00:00:00.000Z", ""), Timestamp),
        (instead("\"2026-01-01T00:00:00.000Z\"", "true"), WrongType),
        (instead("\"2026-01-01T00:00:00.000Z\"", "\"2200-01-01T00:00:00.000Z\""), Future),
        (with(&format!("\"p\":\"{}\"", "x".repeat(1 << 20))), TooLarge),
    ];
    for (value, expected) in cases {
        let shown = String::from_utf8_lossy(&value[..value.len().min(200)]).into_owned();
        let bad = decode(&app_events(), &record(&value)).expect_err(&shown);
        assert_eq!(bad.reason, expected, "{shown}: {bad}");
    }
}

#[test]
fn a_record_of_the_greatest_length_is_good() {
    let source = source_with(json!({"maxRecordBytes": "1Ki", "columns": [{"name": "a", "type": "string"}]}));
    let text = |length: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(length - 8));
    assert_eq!(outcome(&source, text(1024).as_bytes()).len(), 1016);
    assert_eq!(outcome(&source, text(1025).as_bytes()), "bad: too_large");
    let not_even_text = vec![0xff; 1025];
    assert_eq!(outcome(&source, &not_even_text), "bad: too_large");
}

#[test]
fn an_event_is_in_the_future_only_if_nothing_else_is_wrong() {
    let source = app_events();
    let at = 1_767_225_600_000_000;
    let good = format!("{{{GOOD}}}");
    let wrong = good.replace("\"a\"", "[]");
    for needed in [vec![], vec![0], vec![4], vec![0, 1, 2, 3, 4, 5, 6]] {
        let mut decoder = Decoder::new(DecodePlan::new(&source, &needed).unwrap());
        assert_eq!(decoder.decode(&record(good.as_bytes()), at), Ok(Some(at)));
        let future = decoder.decode(&record(good.as_bytes()), at - 1).unwrap_err();
        assert_eq!((future.reason, future.detail.column.as_deref()), (BadReason::Future, Some("timestamp")));
        assert_eq!(decoder.decode(&record(wrong.as_bytes()), at - 1).unwrap_err().reason, BadReason::WrongType);
        assert_eq!(decoder.rows(), 1);
        assert_eq!(decoder.finish().num_rows(), 1);
    }
}

#[test]
fn a_bad_record_says_where_and_what_without_showing_its_content() {
    let source = app_events();
    for (text, expected) in [
        ("{".to_owned(), "the value ends in the middle of the JSON (byte 1 of the value)"),
        (r#"{"user_id":secret}"#.to_owned(), "expected a value (byte 11 of the value)"),
        (
            r#"{"user_id":{"secret":1}}"#.to_owned(),
            r#"column "user_id": an object or array where text is expected (byte 11 of the value)"#,
        ),
        (r#"{"user_id":null}"#.to_owned(), r#"column "user_id": required, but null (byte 11 of the value)"#),
        ("{}".to_owned(), r#"column "user_id": required, but absent"#),
        (
            r#"{"user_id":1,"user_id":2}"#.to_owned(),
            r#"column "user_id": a declared field stands twice (byte 23 of the value)"#,
        ),
        (
            format!("{{{}}}", GOOD.replace("2026-01-01T", "secret")),
            r#"column "timestamp": a timestamp of no known form or outside the years 1 to 9999 (byte 77 of the value)"#,
        ),
        (String::new(), "the value is empty"),
    ] {
        let bad = decode(&source, &record(text.as_bytes())).unwrap_err();
        assert_eq!(bad.to_string(), expected, "{text}");
    }
}

#[test]
fn reasons_have_words_of_their_own() {
    let words: std::collections::BTreeSet<&str> = BadReason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(words.len(), BadReason::ALL.len());
    assert!(words.iter().all(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit())));
}

#[test]
fn lengths_are_counted_in_characters() {
    let source = source(json!([{"name": "a", "type": "string", "minLength": 2, "maxLength": 4}]));
    for (value, good) in [
        ("\"\"", false),
        ("\"x\"", false),
        ("\"é\"", false),
        ("\"😀\"", false),
        ("\"😀😀\"", true),
        ("\"xx\"", true),
        ("\"xxxx\"", true),
        ("\"😀😀😀😀\"", true),
        ("\"éééé\"", true),
        ("\"xxxxx\"", false),
        ("\"ééééé\"", false),
        (r#""\u0041""#, false),
        (r#""\u0041\u0042""#, true),
        (r#""\ud83d\ude00\ud83d\ude00\ud83d\ude00\ud83d\ude00""#, true),
        (r#""\ud83d\ude00\ud83d\ude00\ud83d\ude00\ud83d\ude00\n""#, false),
        ("7", false),
        ("77", true),
        ("true", true),
        ("false", false),
        ("null", true),
    ] {
        let text = format!("{{\"a\":{value}}}");
        let outcome = outcome(&source, text.as_bytes());
        assert_eq!(outcome != "bad: length", good, "{value}: {outcome}");
    }
    assert_eq!(outcome(&source, b"{}"), "NULL");
}

#[test]
fn fields_are_found_by_their_path() {
    let source = source(json!([
        {"name": "whole", "type": "json", "path": "source"},
        {"name": "db", "type": "string", "path": "source.db"},
        {"name": "again", "type": "json", "path": "source.db"},
        {"name": "ts", "type": "bigint", "path": "source.at.ts_ms"},
        {"name": "dotted", "type": "int", "path": r"a\.b.c"},
        {"name": "a.b", "type": "json"},
        {"name": "slash", "type": "int", "path": r"x\\y"},
    ]));
    for (text, expected) in [
        (
            r#"{"source":{"db":"d","at":{"ts_ms":5}}}"#,
            [r#"{"db":"d","at":{"ts_ms":5}}"#, "d", "\"d\"", "5", "NULL", "NULL", "NULL"],
        ),
        (
            r#"{ "source" : { "x" : [{"db":1}] , "at" : { "y" : {} , "ts_ms" : 5 } , "db" : 7 } }"#,
            [
                r#"{ "x" : [{"db":1}] , "at" : { "y" : {} , "ts_ms" : 5 } , "db" : 7 }"#,
                "7",
                "7",
                "5",
                "NULL",
                "NULL",
                "NULL",
            ],
        ),
        (r#"{"db":"top","at":{"ts_ms":1}}"#, ["NULL"; 7]),
        (r#"{"source":{}}"#, ["{}", "NULL", "NULL", "NULL", "NULL", "NULL", "NULL"]),
        (r#"{"source":null}"#, ["NULL"; 7]),
        (
            r#"{"source":{"at":null,"db":null}}"#,
            [r#"{"at":null,"db":null}"#, "NULL", "NULL", "NULL", "NULL", "NULL", "NULL"],
        ),
        (r#"{"a.b":{"c":3},"a":{"b":{"c":4}},"x\\y":9}"#, ["NULL", "NULL", "NULL", "NULL", "3", r#"{"c":3}"#, "9"]),
        // Below the top level the last one of several wins, with everything in it.
        (
            r#"{"source":{"db":"first","db":"second"}}"#,
            [r#"{"db":"first","db":"second"}"#, "second", "\"second\"", "NULL", "NULL", "NULL", "NULL"],
        ),
        (
            r#"{"source":{"at":{"ts_ms":1},"at":{}}}"#,
            [r#"{"at":{"ts_ms":1},"at":{}}"#, "NULL", "NULL", "NULL", "NULL", "NULL", "NULL"],
        ),
        (
            r#"{"source":{"at":{"ts_ms":1},"at":null}}"#,
            [r#"{"at":{"ts_ms":1},"at":null}"#, "NULL", "NULL", "NULL", "NULL", "NULL", "NULL"],
        ),
        (
            r#"{"source":{"at":5,"at":{"ts_ms":1}}}"#,
            [r#"{"at":5,"at":{"ts_ms":1}}"#, "NULL", "NULL", "1", "NULL", "NULL", "NULL"],
        ),
    ] {
        let (row, _) = decode(&source, &record(text.as_bytes())).unwrap_or_else(|bad| panic!("{text}: {bad}"));
        assert_eq!(row, expected, "{text}");
    }
    for (text, reason) in [
        (r#"{"source":"text"}"#, BadReason::WrongType),
        (r#"{"source":[]}"#, BadReason::WrongType),
        (r#"{"source":{"at":17}}"#, BadReason::WrongType),
        (r#"{"source":{"at":{"ts_ms":1},"at":5}}"#, BadReason::WrongType),
        (r#"{"source":{"at":{"ts_ms":"1"}}}"#, BadReason::WrongType),
        (r#"{"source":{},"source":{}}"#, BadReason::DuplicateField),
        (r#"{"source":null,"source":null}"#, BadReason::DuplicateField),
        (r#"{"source":{"db":1 "at":2}}"#, BadReason::Syntax),
        (r#"{"source":{"db":1"#, BadReason::Truncated),
        (r#"{"source":{"db":1]}"#, BadReason::Syntax),
    ] {
        let bad = decode(&source, &record(text.as_bytes())).expect_err(text);
        assert_eq!(bad.reason, reason, "{text}: {bad}");
    }
}

#[test]
fn a_second_occurrence_forgets_everything_in_the_first_one() {
    let source = source(json!([
        {"name": "a", "type": "int", "path": "o.p.a"},
        {"name": "c", "type": "int", "path": "o.p.q.c"},
        {"name": "d", "type": "int", "path": "o.p.q.d"},
        {"name": "b", "type": "int", "path": "o.p.b"},
    ]));
    let first = r#""p":{"a":1,"b":2,"q":{"c":3,"d":4}}"#;
    for (second, expected) in [
        (r#""p":{}"#, ["NULL"; 4]),
        (r#""p":null"#, ["NULL"; 4]),
        (r#""p":{"q":{"d":5}}"#, ["NULL", "NULL", "5", "NULL"]),
        (r#""x":{}"#, ["1", "3", "4", "2"]),
    ] {
        let text = format!(r#"{{"o":{{{first},{second}}}}}"#);
        let (row, _) = decode(&source, &record(text.as_bytes())).unwrap_or_else(|bad| panic!("{text}: {bad}"));
        assert_eq!(row, expected, "{text}");
    }
}

#[test]
fn names_may_have_any_length() {
    let name = |length: usize| "n".repeat(length);
    let columns: Vec<Value> = (20..=128).map(|length| json!({"name": name(length), "type": "int"})).collect();
    let source = source(Value::from(columns));
    let fields: Vec<String> = (20..=130).map(|length| format!("\"{}\": {length}", name(length))).collect();
    let (row, _) = decode(&source, &record(format!("{{{}}}", fields.join(",")).as_bytes())).unwrap();
    assert_eq!(row, (20..=128).map(|length| length.to_string()).collect::<Vec<_>>());
}

#[test]
fn a_required_field_inside_another_is_missing_with_it() {
    let source = source(json!([{"name": "a", "type": "int", "path": "o.a", "required": true}]));
    for (text, expected) in [
        (r#"{"o":{"a":1}}"#, "1"),
        (r#"{"o":{"a":null}}"#, "bad: missing_field"),
        (r#"{"o":{}}"#, "bad: missing_field"),
        (r#"{"o":null}"#, "bad: missing_field"),
        ("{}", "bad: missing_field"),
        (r#"{"o":1}"#, "bad: wrong_type"),
    ] {
        assert_eq!(outcome(&source, text.as_bytes()), expected, "{text}");
    }
}

#[test]
fn what_one_record_taught_never_changes_the_next_one() {
    let source = source(json!([
        {"name": "a", "type": "int"},
        {"name": "b", "type": "int"},
        {"name": "deep", "type": "int", "path": "o.a"},
    ]));
    let first_b = r#"{"b":1,"a":2}"#;
    let first_a = r#"{"a":1,"b":2}"#;
    for (taught, then, expected) in [
        // The step to `b` at the start must not be taken for a step behind `a`.
        (vec![first_b, first_a, first_b], r#"{"a":1{"b":2}"#, Err(BadReason::Syntax)),
        (vec![first_a, first_a], r#"{"a":1"b":2}"#, Err(BadReason::Syntax)),
        (vec![first_a, first_a], r#",{"a":1,"b":2}"#, Err(BadReason::Syntax)),
        (vec![first_a, first_a], r#"{,"b":2}"#, Err(BadReason::Syntax)),
        // `x`, then `a`, inside of `o` must not be taken for the top level's, nor the other way round.
        (
            vec![r#"{"o":{"x":1,"a":5}}"#, r#"{"x":1,"a":6}"#],
            r#"{"o":{"x":1,"a":7},"x":1,"a":8}"#,
            Ok(["8", "NULL", "7"]),
        ),
        (
            vec![r#"{"x":1,"a":6}"#, r#"{"o":{"x":1,"a":5}}"#],
            r#"{"o":{"x":1,"b":7},"x":1,"b":8}"#,
            Ok(["NULL", "8", "NULL"]),
        ),
        // A name that begins like a learned one, or ends where it does.
        (vec![first_a, first_a], r#"{"a":1,"bb":2}"#, Ok(["1", "NULL", "NULL"])),
        (vec![first_a, first_a], r#"{"a":1,"b" :2}"#, Ok(["1", "2", "NULL"])),
        (vec![first_a, first_a], r#"{"a":1,"b": 2}"#, Ok(["1", "2", "NULL"])),
        (vec![first_a, first_a], r#"{"a":1 ,"b":2}"#, Ok(["1", "2", "NULL"])),
        (vec![first_a, first_a], r#"{"a":1,"b":2,"b":2}"#, Err(BadReason::DuplicateField)),
        (vec![first_a, first_a], r#"{"a":1,"b"=2}"#, Err(BadReason::Syntax)),
        (vec![first_a, first_a], r#"{"a"=1,"b":2}"#, Err(BadReason::Syntax)),
        (vec![first_a, first_a], r#"{"a":1;"b":2}"#, Err(BadReason::Syntax)),
        (vec![first_a, first_a], r#"{"a":1,'b":2}"#, Err(BadReason::Syntax)),
        (vec![first_a, first_a], r#"{"a":1}"#, Ok(["1", "NULL", "NULL"])),
        (vec![first_a, first_a], r#"{"a":1,"b":}"#, Err(BadReason::Syntax)),
        (vec![first_a, first_a], r#"{"a":1,"b":"#, Err(BadReason::Truncated)),
    ] {
        // At the end of a record the last bytes are compared in another way.
        for then in [then.to_owned(), format!("{then}{}", " ".repeat(40))] {
            let mut decoder = decoder(&source);
            for text in &taught {
                decoder.decode(&record(text.as_bytes()), LATEST).unwrap();
            }
            let rows = decoder.rows();
            let reason = decoder.decode(&record(then.as_bytes()), LATEST).map_err(|bad| bad.reason);
            let batch = decoder.finish();
            match expected {
                Ok(expected) => assert_eq!(row(&batch, rows), expected, "{then}"),
                Err(expected) => assert_eq!(reason, Err(expected), "{then}"),
            }
        }
    }
}

#[test]
fn fields_that_nobody_declared_may_be_without_number() {
    let source = source(json!([{"name": "a", "type": "int"}]));
    let mut decoder = decoder(&source);
    for n in 0..2_000 {
        let text = format!(r#"{{"id{n}":{n},"{}":[],"a":{n},"id{}":0}}"#, "long".repeat(n % 20), n + 1);
        decoder.decode(&record(text.as_bytes()), LATEST).unwrap();
    }
    let batch = decoder.finish();
    assert!((0..2_000).all(|n| row(&batch, n) == [n.to_string()]));
}

#[test]
fn only_the_needed_columns_are_built_in_declared_order() {
    let source = app_events();
    let plan = DecodePlan::new(&source, &[0, 4]).unwrap();
    assert_eq!(
        plan.schema().fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(),
        ["user_id", "timestamp"]
    );
    let mut decoder = Decoder::new(plan);
    decoder.decode(&record(format!("{{{GOOD}}}").as_bytes()), LATEST).unwrap();
    let batch = decoder.finish();
    assert_eq!(row(&batch, 0), ["u", "2026-01-01T00:00:00Z"]);
}

#[test]
fn a_batch_knows_its_rows_and_bytes() {
    let source = source(json!([
        {"name": "t", "type": "string"}, {"name": "n", "type": "bigint"}, {"name": "unneeded", "type": "string"},
    ]));
    let mut decoder = Decoder::new(DecodePlan::new(&source, &[0, 1]).unwrap());
    assert_eq!((decoder.rows(), decoder.bytes()), (0, 0));
    let text = format!(r#"{{"t":"{}","n":1,"unneeded":"{}"}}"#, "x".repeat(1_000), "y".repeat(1_000));
    for row in 1..=8 {
        decoder.decode(&record(text.as_bytes()), LATEST).unwrap();
        assert_eq!(decoder.rows(), row);
    }
    // A view and its text, a number; and a bit for each value's validity.
    assert_eq!(decoder.bytes(), 8 * (16 + 1_000 + 8) + 2);
    let before = decoder.bytes();
    let bad = text.replace(":1,", ":\"1\",");
    for _ in 0..100 {
        decoder.decode(&record(bad.as_bytes()), LATEST).unwrap_err();
    }
    assert_eq!((decoder.rows(), decoder.bytes()), (8, before), "bad records leave nothing behind");
    assert_eq!(decoder.finish().num_rows(), 8);
    assert_eq!((decoder.rows(), decoder.bytes()), (0, 0));
    decoder.decode(&record(text.as_bytes()), LATEST).unwrap();
    assert_eq!(decoder.finish().num_rows(), 1);
    assert_eq!(decoder.finish().num_rows(), 0);
}

#[test]
fn what_a_producer_puts_before_the_json_is_named() {
    let json = format!("{{{GOOD}}}");
    let with = |before: &[u8]| [before, json.as_bytes()].concat();
    let raw = source_with(json!({"format": "raw", "columns": [{"name": "v", "type": "json", "from": "value"}]}));
    let change = source_with(json!({"format": "cdc", "columns": [{"name": "operation", "type": "string"}]}));
    for source in [app_events(), raw, change] {
        for (value, reason, words) in [
            (with(&[0, 0, 0, 0, 12]), BadReason::SchemaId, "five bytes"),
            (with(&[0, 0xff, 0xfe, 0xfd, 0xfc]), BadReason::SchemaId, "schema registry"),
            ([&[0, 0, 0, 1, 0], b" \n[1]".as_slice()].concat(), BadReason::SchemaId, "0x00"),
            (with(b"\xef\xbb\xbf"), BadReason::ByteOrderMark, "byte order mark"),
            (b"\xef\xbb\xbf".to_vec(), BadReason::ByteOrderMark, "byte order mark"),
            // These are something else.
            (vec![0, 0, 0, 0, 12], BadReason::Syntax, "expected"),
            (with(&[0, 0, 0, 0]), BadReason::Syntax, "expected"),
            (vec![0, 0, 0, 0, 12, 2, 3], BadReason::Syntax, "expected"),
            (with(&[0xff, 0xfe]), BadReason::Utf8, "UTF-8"),
        ] {
            let bad = decode(&source, &record(&value)).unwrap_err();
            assert_eq!(bad.reason, reason, "{value:?}");
            assert!(bad.to_string().contains(words), "{bad}");
        }
    }
}
