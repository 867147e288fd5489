//! What is JSON and what is not, in the parts of a record that nobody declared and in those that somebody did.

use super::*;

/// The outcome for `{"before": 1, "a": <value>, "after": [2]}`, where `a` is declared as text or not at all.
fn outcomes(value: &str) -> [String; 2] {
    let text = format!(r#"{{"before": 1, "a": {value}, "after": [2]}}"#);
    ["a", "b"].map(|name| {
        let source = source(json!([{"name": name, "type": "json"}]));
        let outcome = outcome(&source, text.as_bytes());
        if outcome.starts_with("bad: ") { outcome } else { "good".to_owned() }
    })
}

#[test]
fn these_values_are_json() {
    for value in [
        "0",
        "-0",
        "1",
        "-1",
        "10",
        "0.5",
        "1.25",
        "-1.5e3",
        "1E5",
        "1e+5",
        "1e-5",
        "0e0",
        "1e400",
        "true",
        "false",
        "null",
        "{}",
        "[]",
        "{ }",
        "[ \t\r\n ]",
        "[1]",
        "[1 , 2]",
        "[[],{},[[]]]",
        r#"{"x":1}"#,
        r#"{"x" : {"y" : [1]} , "z" : null}"#,
        r#"{"":{}}"#,
        r#"{"x":1,"x":2}"#,
        r#""""#,
        r#""\"""#,
        r#""\\""#,
        r#""\/\b\f\n\r\t\u1234""#,
        r#""\ud83d\ude00""#,
        r#""/{}[],:""#,
        "\"\u{7f}é日😀\"",
        r#"["]", "}", "\\", "\"]"]"#,
        r#"{"\u0061":1}"#,
    ] {
        assert_eq!(outcomes(value), ["good", "good"], "{value}");
    }
}

#[test]
fn these_values_are_not_json() {
    for value in [
        "",
        "tru",
        "True",
        "nul",
        "nullx",
        "truefalse",
        "undefined",
        "NaN",
        "-Infinity",
        "-",
        "+1",
        ".5",
        "1.",
        "01",
        "-01",
        "00",
        "1e",
        "1e+",
        "1.e5",
        "0x10",
        "1_000",
        "1,",
        "--1",
        "1-",
        "{",
        "[",
        "}",
        "]",
        "{]",
        "[}",
        "[1",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1,,2]",
        r#"{"x"}"#,
        r#"{"x":}"#,
        r#"{"x":1,}"#,
        r#"{,"x":1}"#,
        r#"{"x" 1}"#,
        r#"{"x":1 "y":2}"#,
        r#"{x:1}"#,
        r#"{1:1}"#,
        r#"{'x':1}"#,
        r#"{"x"::1}"#,
        r#"{"x":1}}"#,
        "[1]]",
        "'a'",
        r#""\a""#,
        r#""\u12""#,
        r#""\u""#,
        r#""\u123g""#,
        r#""\ud800""#,
        r#""\ude00""#,
        r#""\ud83d\u0041""#,
        r#""\ud83dx""#,
        r#""\ud83d\n""#,
        "\"a\nb\"",
        "\"a\tb\"",
        "\"\0\"",
        "\"\u{1f}\"",
        "\u{feff}1",
        "1 // one",
        "/* */ 1",
        "\u{a0}1",
        "\u{b}1",
        r#""a" "b""#,
        "1 2",
    ] {
        assert_eq!(outcomes(value), ["bad: syntax", "bad: syntax"], "{value}");
    }
}

#[test]
fn a_record_that_ends_too_early_is_truncated_wherever_it_ends() {
    let text =
        r#"{"a":"x\u00e9\ud83d\ude00\n","b":[1.5e-3,true,false,null,{"c":{}}],"d":-2,"e":"more than sixteen bytes"}"#;
    for source in [
        source(json!([{"name": "a", "type": "string"}, {"name": "b", "type": "json"}])),
        source(json!([{"name": "z", "type": "json"}])),
    ] {
        for end in 1..text.len() {
            assert_eq!(outcome(&source, &text.as_bytes()[..end]), "bad: truncated", "{}", &text[..end]);
        }
        assert!(!outcome(&source, text.as_bytes()).starts_with("bad: "));
    }
}

#[test]
fn white_space_is_allowed_between_all_tokens_and_only_there() {
    let tokens = [
        "{", "\"a\"", ":", "[", "1", ",", "{", "}", ",", "[", "]", "]", ",", "\"b\"", ":", "\"x\"", ",", "\"c\"", ":",
        "true", "}",
    ];
    let source = source(json!([{"name": "b", "type": "string"}]));
    for space in ["", " ", "\n", "\t", "\r\n", "  \t \n "] {
        let text = format!("{space}{}{space}", tokens.join(space));
        assert_eq!(outcome(&source, text.as_bytes()), "x", "{text:?}");
    }
    for wrong in ["{\"b\":t rue}", "{\"b\":1 .5}", "{\"b\":- 1}", "{\"b\":1. 5}", "{\"b\":1 e5}"] {
        assert_eq!(outcome(&source, wrong.as_bytes()), "bad: syntax", "{wrong}");
    }
}

#[test]
fn nesting_is_counted_from_the_record_itself() {
    for max_depth in [1, 2, 3, 63, 64, 65, 127, 128, 129, 1023, 1024] {
        let source = source_with(json!({
            "maxDepth": max_depth,
            "columns": [
                {"name": "a", "type": "json"},
                {"name": "p", "type": "json", "path": "o.p"},
                {"name": "n", "type": "int"},
            ],
        }));
        for (open, close) in [("[", "]"), ("{\"x\":", "}")] {
            for name in ["a", "other", "o"] {
                let nested = |levels: usize| {
                    format!("{{\"{name}\":{}1{}, \"n\": 2}}", open.repeat(levels), close.repeat(levels))
                };
                let deepest = nested(max_depth - 1);
                let outcome_of = |text: &str| {
                    decode(&source, &record(text.as_bytes())).map(|(row, _)| row[2].clone()).map_err(|bad| bad.reason)
                };
                // A path into an array is of the wrong type, whatever its depth.
                let good = if name == "o" && open == "[" && max_depth > 1 {
                    Err(BadReason::WrongType)
                } else {
                    Ok("2".to_owned())
                };
                let good = if name == "o" && max_depth == 1 { Err(BadReason::WrongType) } else { good };
                assert_eq!(outcome_of(&deepest), good, "{deepest}");
                assert_eq!(outcome_of(&nested(max_depth)), Err(BadReason::TooDeep), "{max_depth} {name} {open}");
            }
        }
    }
}

#[test]
fn a_million_brackets_are_too_deep_and_nothing_more() {
    let source = source_with(json!({
        "maxRecordBytes": "8Mi",
        "maxDepth": 1024,
        "columns": [
            {"name": "a", "type": "json"},
            {"name": "b", "type": "array<array<int>>"},
            {"name": "c", "type": "int", "path": "o.p.q"},
        ],
    }));
    let million = 1_000_000;
    for text in [
        "[".repeat(million),
        "{\"a\":".repeat(million),
        format!("{{\"a\":{}", "[".repeat(million)),
        format!("{{\"b\":{}{}}}", "[".repeat(million), "]".repeat(million)),
        format!("{{\"undeclared\":{}", "{\"x\":".repeat(million)),
        format!("{{\"o\":{{\"p\":{}", "{\"q\":".repeat(million)),
        format!("{{\"o\":{{\"p\":{{\"z\":{}", "[{\"q\":".repeat(million)),
    ] {
        assert_eq!(outcome(&source, text.as_bytes()), "bad: too_deep", "{}…", &text[..30]);
    }
}
