//! The sentences of the schema check: what was found, what was expected, what to write instead.

use serde_json::{Map, Value};

use crate::column::ColumnType;
use crate::pattern;
use crate::problem::one_of;

/// A value in a message: texts in quotes, long ones cut.
pub(super) fn shown(value: &Value) -> String {
    /// Enough to recognise a value by.
    const LENGTH_MAX: usize = 60;
    let text = match value {
        Value::String(text) => format!("{text:?}"),
        other => other.to_string(),
    };
    if text.chars().count() <= LENGTH_MAX { text } else { text.chars().take(LENGTH_MAX).chain(['…']).collect() }
}

/// Message and cure for a value of the wrong type. `word` is what stands in the file, if it is a plain word.
pub(super) fn wrong_type(expected: &str, found: &Value, word: Option<&str>) -> (String, String) {
    let written = word.map_or_else(|| shown(found), str::to_owned);
    let found_name = match found {
        Value::Null => "nothing".to_owned(),
        Value::Bool(_) => format!("the boolean {written}"),
        Value::Number(_) => format!("the number {written}"),
        Value::String(_) => format!("the text {written}"),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "fields".to_owned(),
    };
    let (expected, cure) = match (expected, found) {
        ("string", Value::Bool(_) | Value::Number(_)) => ("a text", format!("write it in quotes: \"{written}\"")),
        ("string", Value::Object(_) | Value::Array(_)) => {
            ("a text", "write one text, in quotes if it has brackets".to_owned())
        }
        ("string", _) => ("a text", "write a text".to_owned()),
        ("boolean", _) => ("true or false", "write true or false, without quotes".to_owned()),
        ("integer", Value::String(text)) if text.trim().parse::<i64>().is_ok() => {
            ("a whole number", format!("write it without quotes: {}", text.trim()))
        }
        ("integer", _) => ("a whole number", "write digits only".to_owned()),
        ("quantity", _) => ("a quantity", "write a number, or a text such as 500m or 1Gi".to_owned()),
        ("array", Value::String(_) | Value::Number(_) | Value::Bool(_)) => {
            ("a list", format!("write it in brackets: [{}]", shown(found)))
        }
        ("array", _) => ("a list", "write a list: each entry on a line of its own after a dash".to_owned()),
        (_, _) => ("fields", "write its fields below it, each as name: value".to_owned()),
    };
    (format!("expected {expected}, found {found_name}"), cure)
}

/// The cure for a field that no schema knows: the one that was meant, or where it belongs, or what there is.
pub(super) fn unknown_field(name: &str, meant: Option<&str>, siblings: &Map<String, Value>, root: &Value) -> String {
    /// More names than this help nobody.
    const NAMES_MAX: usize = 24;
    if let Some(meant) = meant {
        return format!("did you mean {meant}?");
    }
    if let Some(place) = place_of(name, root) {
        return format!("it belongs to {place}");
    }
    match siblings.len() {
        0 => "leave it out".to_owned(),
        1..=NAMES_MAX => format!(
            "leave it out; the fields here are {}",
            one_of(siblings.keys().map(String::as_str)).replace(" or ", " and ")
        ),
        _ => "leave it out".to_owned(),
    }
}

/// The one object elsewhere in the schema that has a field of this name, such as `spec.kafka` for `startingOffsets`.
/// `None` where there are several: any of them would be a guess.
fn place_of(name: &str, root: &Value) -> Option<String> {
    fn collect(name: &str, schema: &Value, path: &str, places: &mut Vec<String>) {
        if let Some(items) = schema.get("items") {
            return collect(name, items, &format!("{path}[]"), places);
        }
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
        if properties.contains_key(name) && !path.is_empty() {
            places.push(path.to_owned());
        }
        for (child, schema) in properties.iter().filter(|(child, _)| *child != "status" && *child != "metadata") {
            let path = if path.is_empty() { child.clone() } else { format!("{path}.{child}") };
            collect(name, schema, &path, places);
        }
    }
    let mut places = Vec::new();
    collect(name, root, "", &mut places);
    let [place] = <[String; 1]>::try_from(places).ok()?;
    Some(place)
}

/// The first sentence of a description, without its full stop.
pub(super) fn first_sentence(description: &str) -> Option<&str> {
    let end =
        description.find(". ").or_else(|| description.strip_suffix('.').map(str::len)).unwrap_or(description.len());
    Some(&description[..end]).filter(|sentence| !sentence.is_empty())
}

/// Message and cure for a text that does not fit its pattern. `None`: it fits.
pub(super) fn misfit(pattern: &str, text: &str) -> Option<(String, String)> {
    if pattern == pattern::COLUMN_TYPE
        && let Err(error) = text.parse::<ColumnType>()
    {
        let cure = "write a type in Spark's notation, such as array<string> or struct<name:string,at:timestamp>";
        return Some((error.to_string(), cure.to_owned()));
    }
    if pattern::matches(pattern, text) == Some(true) {
        return None;
    }
    let text = shown(&Value::String(text.to_owned()));
    Some(match pattern::in_words(pattern) {
        Some((words, example)) => {
            (format!("{text} does not fit: allowed are {words}"), format!("write it like {example}"))
        }
        None => (format!("{text} does not match {pattern}"), "change it so that it matches".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::crd;

    #[test]
    fn every_pattern_of_a_schema_is_explained_in_words() {
        fn patterns<'a>(schema: &'a Value, found: &mut Vec<&'a str>) {
            match schema {
                Value::Object(fields) => {
                    found.extend(fields.get("pattern").and_then(Value::as_str));
                    fields.values().for_each(|child| patterns(child, found));
                }
                Value::Array(items) => items.iter().for_each(|item| patterns(item, found)),
                _ => {}
            }
        }
        for kind in crate::job::KINDS {
            let mut found = Vec::new();
            patterns(crd::schema(kind).unwrap(), &mut found);
            assert!(!found.is_empty());
            for found in found {
                assert!(pattern::in_words(found).is_some(), "{kind}: {found}");
            }
        }
    }

    #[test]
    fn a_field_is_sent_elsewhere_only_if_there_is_one_place() {
        let root = crd::schema("StreamingJob").unwrap();
        assert_eq!(place_of("startingOffsets", root).as_deref(), Some("spec.kafka"));
        assert_eq!(place_of("watermarkDelay", root).as_deref(), Some("spec.sources[].eventTime"));
        assert_eq!(place_of("name", root), None);
        assert_eq!(place_of("nowhere", root), None);
    }

    #[test]
    fn a_long_value_is_cut() {
        assert_eq!(shown(&json!("short")), "\"short\"");
        let long = shown(&json!("é".repeat(1000)));
        assert_eq!((long.chars().count(), long.ends_with('…')), (61, true));
    }
}
