//! What each column type makes of each kind of JSON value.

use super::*;

/// Decodes `{"a": <value>}` with one column `a`.
fn cell(column_type: &str, value: &str) -> String {
    let source = source(json!([{"name": "a", "type": column_type}]));
    outcome(&source, format!(r#"{{"a": {value} }}"#).as_bytes())
}

fn check(cases: &[(&str, &str, &str)]) {
    for (column_type, value, expected) in cases {
        assert_eq!(cell(column_type, value), *expected, "{column_type} {value}");
    }
}

#[test]
fn a_string_is_a_text_or_the_json_text_of_a_number_or_boolean() {
    check(&[
        ("string", r#""""#, ""),
        ("string", r#""a""#, "a"),
        ("string", r#""exactly 12 b""#, "exactly 12 b"),
        ("string", r#""thirteen byte""#, "thirteen byte"),
        ("string", r#""sixteen bytes 16""#, "sixteen bytes 16"),
        ("string", r#""seventeen bytes 17""#, "seventeen bytes 17"),
        ("string", r#""日本語のとても長い名前""#, "日本語のとても長い名前"),
        ("string", r#""é""#, "é"),
        ("string", r#"" padded ""#, " padded "),
        ("string", "17", "17"),
        ("string", "1.50e3", "1.50e3"),
        ("string", "-0.0", "-0.0"),
        ("string", "1E+2", "1E+2"),
        ("string", "123456789012345678901234567890", "123456789012345678901234567890"),
        ("string", "true", "true"),
        ("string", "false", "false"),
        ("string", "null", "NULL"),
        ("string", "{}", "bad: wrong_type"),
        ("string", "[\"a\"]", "bad: wrong_type"),
    ]);
}

#[test]
fn escapes_become_the_characters_that_they_stand_for() {
    check(&[
        ("string", r#""a\"b\\c\/d""#, "a\"b\\c/d"),
        ("string", r#""\b\f\n\r\t""#, "\u{8}\u{c}\n\r\t"),
        ("string", r#""\u0041\u00e9\u20ac""#, "Aé€"),
        ("string", r#""\u00E9""#, "é"),
        ("string", r#""\ud83d\ude00""#, "😀"),
        ("string", r#""\uD83D\uDE00 and a long text behind it""#, "😀 and a long text behind it"),
        ("string", r#""\u0000""#, "\0"),
        ("string", r#""a long text without escapes, then \"one\"""#, "a long text without escapes, then \"one\""),
        ("timestamp", r#""2026-01-01\u002001:02:03""#, "2026-01-01T01:02:03Z"),
        ("date", r#""2026-\u00301-01""#, "2026-01-01"),
        ("decimal(5,2)", r#""1\u002e5""#, "1.50"),
        ("binary", r#""\u005ag\u003d\u003d""#, "66"),
        // Anywhere in a record, not only in a declared field: see the grammar's tests.
        ("string", r#""\ud800""#, "bad: syntax"),
        ("string", r#""\udc00""#, "bad: syntax"),
        ("string", r#""\ud800\ud800""#, "bad: syntax"),
        ("string", r#""\ud800\n""#, "bad: syntax"),
        ("string", r#""\ud800x""#, "bad: syntax"),
        ("string", r#""\u12g4""#, "bad: syntax"),
        ("string", r#""\x""#, "bad: syntax"),
        ("string", r#""\U0041""#, "bad: syntax"),
    ]);
}

#[test]
fn a_boolean_is_true_or_false_and_nothing_that_looks_like_it() {
    check(&[
        ("boolean", "true", "true"),
        ("boolean", "false", "false"),
        ("boolean", "null", "NULL"),
        ("boolean", r#""true""#, "bad: wrong_type"),
        ("boolean", "1", "bad: wrong_type"),
        ("boolean", "{}", "bad: wrong_type"),
    ]);
}

#[test]
fn a_whole_number_is_exact_or_bad() {
    check(&[
        ("int", "0", "0"),
        ("int", "-0", "0"),
        ("int", "2147483647", "2147483647"),
        ("int", "-2147483648", "-2147483648"),
        ("int", "2147483648", "bad: out_of_range"),
        ("int", "-2147483649", "bad: out_of_range"),
        ("int", "1.0", "1"),
        ("int", "-1.000", "-1"),
        ("int", "1e3", "1000"),
        ("int", "1500e-2", "15"),
        ("int", "0.5e1", "5"),
        ("int", "0e99999999999999999999", "0"),
        // Exponents of 2^64 and beside it.
        ("int", "1e18446744073709551616", "bad: out_of_range"),
        ("int", "1e18446744073709551615", "bad: out_of_range"),
        ("int", "1e-18446744073709551616", "bad: wrong_type"),
        ("int", "1.5", "bad: wrong_type"),
        ("int", "1e-1", "bad: wrong_type"),
        ("int", "1e10", "bad: out_of_range"),
        ("int", "1e99999999999999999999", "bad: out_of_range"),
        ("int", "1e-99999999999999999999", "bad: wrong_type"),
        ("int", "null", "NULL"),
        ("int", r#""1""#, "bad: wrong_type"),
        ("int", "true", "bad: wrong_type"),
        ("int", "[1]", "bad: wrong_type"),
        ("bigint", "9223372036854775807", "9223372036854775807"),
        ("bigint", "-9223372036854775808", "-9223372036854775808"),
        ("bigint", "9223372036854775808", "bad: out_of_range"),
        ("bigint", "-9223372036854775809", "bad: out_of_range"),
        ("bigint", "999999999999999999", "999999999999999999"),
        ("bigint", "1000000000000000000", "1000000000000000000"),
        ("bigint", "9007199254740993", "9007199254740993"),
        ("bigint", "9007199254740993.0", "9007199254740993"),
        ("bigint", "0.0000000000000000000000000000000000000000001e43", "1"),
        ("bigint", "1000000000000000000000000000000000000000000e-42", "1"),
        ("bigint", "1.00000000000000000000000000000000000000000000000001", "bad: wrong_type"),
        ("bigint", "123456789012345678901234567890123456789012345", "bad: out_of_range"),
        ("bigint", "1e400", "bad: out_of_range"),
    ]);
}

#[test]
fn a_double_is_the_nearest_one_and_never_infinite() {
    check(&[
        ("double", "0", "0.0"),
        ("double", "1", "1.0"),
        ("double", "-1.5", "-1.5"),
        ("double", "0.1", "0.1"),
        ("double", "1e300", "1e300"),
        ("double", "1.7976931348623157e308", "1.7976931348623157e308"),
        ("double", "1.8e308", "bad: out_of_range"),
        ("double", "1e400", "bad: out_of_range"),
        ("double", "-1e400", "bad: out_of_range"),
        ("double", "1e-400", "0.0"),
        ("double", "9007199254740993", "9007199254740992.0"),
        ("double", "null", "NULL"),
        ("double", r#""1.5""#, "bad: wrong_type"),
        ("double", r#""NaN""#, "bad: wrong_type"),
        ("double", "true", "bad: wrong_type"),
        ("double", "NaN", "bad: syntax"),
        ("double", "Infinity", "bad: syntax"),
    ]);
}

#[test]
fn a_decimal_is_exact_from_a_number_or_a_text() {
    check(&[
        ("decimal(5,2)", "1", "1.00"),
        ("decimal(5,2)", "-1.5", "-1.50"),
        ("decimal(5,2)", "999.99", "999.99"),
        ("decimal(5,2)", "1000", "bad: out_of_range"),
        ("decimal(5,2)", "999.999", "bad: out_of_range"),
        ("decimal(5,2)", "0.001", "bad: out_of_range"),
        ("decimal(5,2)", "1.500", "1.50"),
        ("decimal(5,2)", "1.5e2", "150.00"),
        ("decimal(5,2)", "15e-1", "1.50"),
        ("decimal(5,2)", "0.0e999999999999", "0.00"),
        ("decimal(5,2)", "1e999999999999", "bad: out_of_range"),
        ("decimal(5,2)", "1e18446744073709551616", "bad: out_of_range"),
        ("decimal(5,2)", "1e-18446744073709551616", "bad: out_of_range"),
        ("decimal(5,2)", "123456789012345678901234567890123456789012", "bad: out_of_range"),
        ("decimal(5,2)", r#""1.25""#, "1.25"),
        ("decimal(5,2)", r#""-1.25""#, "-1.25"),
        ("decimal(5,2)", r#""1.250""#, "1.25"),
        ("decimal(5,2)", r#""1.255""#, "bad: out_of_range"),
        ("decimal(5,2)", r#""""#, "bad: wrong_type"),
        ("decimal(5,2)", r#""1.""#, "bad: wrong_type"),
        ("decimal(5,2)", r#"" 1""#, "bad: wrong_type"),
        ("decimal(5,2)", r#""1 ""#, "bad: wrong_type"),
        ("decimal(5,2)", r#""+1""#, "bad: wrong_type"),
        ("decimal(5,2)", r#""1,5""#, "bad: wrong_type"),
        ("decimal(5,2)", r#""true""#, "bad: wrong_type"),
        ("decimal(5,2)", "true", "bad: wrong_type"),
        ("decimal(5,2)", "{}", "bad: wrong_type"),
        ("decimal(5,2)", "null", "NULL"),
        ("decimal(38,0)", "99999999999999999999999999999999999999", "99999999999999999999999999999999999999"),
        ("decimal(38,0)", "-99999999999999999999999999999999999999", "-99999999999999999999999999999999999999"),
        ("decimal(38,0)", "100000000000000000000000000000000000000", "bad: out_of_range"),
        ("decimal(38,38)", "0.00000000000000000000000000000000000001", "0.00000000000000000000000000000000000001"),
        ("decimal(38,38)", "0.000000000000000000000000000000000000001", "bad: out_of_range"),
        ("decimal(38,38)", "1", "bad: out_of_range"),
        ("decimal(20,0)", "9007199254740993", "9007199254740993"),
        ("decimal(3,1)", "12.30000000000000000000000000000000000000000000000000000000", "12.3"),
        ("decimal(3,1)", "12.30000000000000000000000000000000000000000000000000000001", "bad: out_of_range"),
    ]);
}

#[test]
fn a_date_has_one_form() {
    check(&[
        ("date", r#""2026-01-31""#, "2026-01-31"),
        ("date", r#""1970-01-01""#, "1970-01-01"),
        ("date", r#""1969-12-31""#, "1969-12-31"),
        ("date", r#""2024-02-29""#, "2024-02-29"),
        ("date", r#""2000-02-29""#, "2000-02-29"),
        ("date", r#""0001-01-01""#, "0001-01-01"),
        ("date", r#""9999-12-31""#, "9999-12-31"),
        ("date", "null", "NULL"),
        ("date", r#""2026-02-29""#, "bad: timestamp"),
        ("date", r#""1900-02-29""#, "bad: timestamp"),
        ("date", r#""2026-04-31""#, "bad: timestamp"),
        ("date", r#""2026-00-01""#, "bad: timestamp"),
        ("date", r#""2026-13-01""#, "bad: timestamp"),
        ("date", r#""2026-01-00""#, "bad: timestamp"),
        ("date", r#""0000-01-01""#, "bad: timestamp"),
        ("date", r#""2026-1-1""#, "bad: timestamp"),
        ("date", r#""20260101""#, "bad: timestamp"),
        ("date", r#""2026-01-01 ""#, "bad: timestamp"),
        ("date", r#""2026-01-01T00:00:00Z""#, "bad: timestamp"),
        ("date", r#""""#, "bad: timestamp"),
        ("date", "20454", "bad: wrong_type"),
        ("date", "true", "bad: wrong_type"),
    ]);
}

#[test]
fn binary_is_base64() {
    check(&[
        ("binary", r#""""#, ""),
        ("binary", r#""Zm9v""#, "666f6f"),
        ("binary", r#""Zm8=""#, "666f"),
        ("binary", r#""Zm8""#, "666f"),
        ("binary", r#""Zg==""#, "66"),
        ("binary", r#""AAECAwQFBgcICQoLDA0ODw""#, "000102030405060708090a0b0c0d0e0f"),
        ("binary", "null", "NULL"),
        ("binary", r#""Zm9v=""#, "bad: wrong_type"),
        ("binary", r#""Z""#, "bad: wrong_type"),
        ("binary", r#""Zm-v""#, "bad: wrong_type"),
        ("binary", r#""Zm 9v""#, "bad: wrong_type"),
        ("binary", "1234", "bad: wrong_type"),
        ("binary", "[1,2]", "bad: wrong_type"),
    ]);
}

#[test]
fn json_is_the_value_as_it_was_written() {
    check(&[
        ("json", r#"{"b" : [1, 2.50 ,"x"] }"#, r#"{"b" : [1, 2.50 ,"x"] }"#),
        ("json", "[ ]", "[ ]"),
        ("json", r#""text \u00e9""#, r#""text \u00e9""#),
        ("json", r#""""#, r#""""#),
        ("json", "1.50e3", "1.50e3"),
        ("json", "true", "true"),
        ("json", "false", "false"),
        ("json", "null", "NULL"),
    ]);
}

#[test]
fn a_list_holds_values_of_one_type() {
    check(&[
        ("array<int>", "[]", "[]"),
        ("array<int>", "[ 1 , null,-3 ]", "[1, NULL, -3]"),
        (
            "array<string>",
            r#"["a", 1.0, true, "a long text of more than twelve bytes", "\u0041"]"#,
            "[a, 1.0, true, a long text of more than twelve bytes, A]",
        ),
        ("array<array<int>>", "[[1],[],null,[2,3]]", "[[1], [], NULL, [2, 3]]"),
        ("array<json>", r#"[{"x":1}, null, "t"]"#, r#"[{"x":1}, NULL, "t"]"#),
        ("array<int>", "null", "NULL"),
        ("array<int>", "[1.5]", "bad: wrong_type"),
        ("array<int>", "[1, \"2\"]", "bad: wrong_type"),
        ("array<int>", "[1, 3000000000]", "bad: out_of_range"),
        ("array<timestamp>", "[0, \"2026-01-01\"]", "bad: timestamp"),
        ("array<int>", "{}", "bad: wrong_type"),
        ("array<int>", "1", "bad: wrong_type"),
        ("array<int>", "\"[1]\"", "bad: wrong_type"),
    ]);
}

#[test]
fn a_struct_takes_the_fields_that_it_names() {
    let point = "struct<x:double,y:double,tags:array<string>>";
    check(&[
        (point, r#"{"x":1,"y":2.5,"tags":["a"]}"#, "{x: 1.0, y: 2.5, tags: [a]}"),
        (point, r#"{ "tags" : [ ] , "y":2, "x":1 }"#, "{x: 1.0, y: 2.0, tags: []}"),
        (point, r#"{"x":1}"#, "{x: 1.0, y: NULL, tags: NULL}"),
        (point, "{}", "{x: NULL, y: NULL, tags: NULL}"),
        (point, r#"{"x":null,"z":{"x":5}}"#, "{x: NULL, y: NULL, tags: NULL}"),
        (point, r#"{"x":1,"x":2}"#, "{x: 2.0, y: NULL, tags: NULL}"),
        (point, r#"{"x":"wrong but overwritten","x":2}"#, "{x: 2.0, y: NULL, tags: NULL}"),
        (point, r#"{"\u0078":1}"#, "{x: 1.0, y: NULL, tags: NULL}"),
        (point, "null", "NULL"),
        (point, r#"{"x":"1"}"#, "bad: wrong_type"),
        (point, r#"{"tags":[{}]}"#, "bad: wrong_type"),
        (point, "[]", "bad: wrong_type"),
        (point, "1", "bad: wrong_type"),
        ("struct<a:struct<b:struct<c:int>>>", r#"{"a":{"b":{"c":7}}}"#, "{a: {b: {c: 7}}}"),
        ("struct<a:struct<b:struct<c:int>>>", r#"{"a":{"b":null}}"#, "{a: {b: NULL}}"),
        (
            "struct<a:array<struct<b:int>>,c:int>",
            r#"{"a":[{"b":1},{},null,{"b":2}],"c":3}"#,
            "{a: [{b: 1}, {b: NULL}, NULL, {b: 2}], c: 3}",
        ),
    ]);
}

#[test]
fn a_map_has_texts_as_keys_and_the_last_of_equal_ones_wins() {
    check(&[
        ("map<string,int>", "{}", "{}"),
        ("map<string,int>", r#"{"a":1, "b" : null}"#, "{a: 1, b: NULL}"),
        ("map<string,int>", r#"{"a":1,"b":2,"a":3}"#, "{a: 3, b: 2}"),
        ("map<string,int>", r#"{"a":1,"\u0061":2}"#, "{a: 2}"),
        ("map<string,int>", r#"{"a":"wrong but overwritten","a":2}"#, "{a: 2}"),
        ("map<string,int>", r#"{"":1}"#, "{: 1}"),
        (
            "map<string,int>",
            r#"{"k1":1,"k2":2,"k3":3,"k4":4,"k5":5,"k6":6,"k7":7,"k8":8,"k9":9,"k1":10}"#,
            "{k1: 10, k2: 2, k3: 3, k4: 4, k5: 5, k6: 6, k7: 7, k8: 8, k9: 9}",
        ),
        ("map<string,array<double>>", r#"{"a":[1,2],"b":[]}"#, "{a: [1.0, 2.0], b: []}"),
        ("map<string,map<string,string>>", r#"{"a":{"b":"c"},"d":{}}"#, "{a: {b: c}, d: {}}"),
        ("map<string,int>", "null", "NULL"),
        ("map<string,int>", r#"{"a":"1"}"#, "bad: wrong_type"),
        ("map<string,int>", "[]", "bad: wrong_type"),
        ("map<string,int>", "\"{}\"", "bad: wrong_type"),
    ]);
}

#[test]
fn a_map_with_very_many_entries_takes_time_in_proportion() {
    let entries: Vec<String> = (0..60_000).map(|n| format!("\"key {}\":{n}", n % 50_000)).collect();
    let source = source(json!([{"name": "a", "type": "map<string,int>"}]));
    let (row, _) = decode(&source, &record(format!("{{\"a\":{{{}}}}}", entries.join(",")).as_bytes())).unwrap();
    assert_eq!(row[0].matches("key ").count(), 50_000);
    assert!(row[0].starts_with("{key 0: 50000, key 1: 50001, "));
}

#[test]
fn a_type_of_sixteen_levels_is_read() {
    let depth = 16;
    let column_type = format!("{}int{}", "array<".repeat(depth), ">".repeat(depth));
    let value = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(cell(&column_type, &value), value);
}
