//! Checks a value against a structural OpenAPI schema, as the API server does, and explains what it finds.
//!
//! The server drops nulls, fills in defaults and then checks; so does this. A misspelt field is taken for the one that
//! was meant, so that one slip is one problem.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{words, yaml};
use crate::crd;
use crate::field_path::FieldPath;
use crate::problem::{Problem, did_you_mean, one_of};

/// What a check found.
pub(super) struct Outcome {
    /// The value with defaults filled in, nulls dropped and misspelt fields renamed.
    pub(super) value: Value,
    pub(super) problems: Vec<Problem>,
    /// Fields whose value says nothing, since it is wrong or missing: rules that look at them would only repeat it.
    pub(super) tainted: BTreeSet<FieldPath>,
}

/// Checks `value`, which stands at `path`.
///
/// `plain_word` gives what is written where YAML saw a number, a boolean or null.
pub(super) fn check<'a>(
    schema: &'a Value,
    value: &Value,
    path: &FieldPath,
    plain_word: &'a dyn Fn(&FieldPath) -> Option<&'a str>,
) -> Outcome {
    let mut checker = Checker { root: schema, plain_word, problems: Vec::new(), tainted: BTreeSet::new() };
    let value = checker.check(schema, value, path);
    Outcome { value, problems: checker.problems, tainted: checker.tainted }
}

struct Checker<'a> {
    root: &'a Value,
    plain_word: &'a dyn Fn(&FieldPath) -> Option<&'a str>,
    problems: Vec<Problem>,
    tainted: BTreeSet<FieldPath>,
}

impl Checker<'_> {
    fn problem(&mut self, path: &FieldPath, message: impl Into<String>, cure: impl Into<String>) {
        self.tainted.insert(path.clone());
        self.problems.push(Problem::error(path.clone(), message, cure));
    }

    fn check(&mut self, schema: &Value, value: &Value, path: &FieldPath) -> Value {
        let expected = schema.get("type").and_then(Value::as_str).unwrap_or("");
        let takes_int_or_string = schema.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true));
        match (expected, value) {
            ("object", Value::Object(fields)) => self.check_object(schema, fields, path),
            ("array", Value::Array(items)) => self.check_list(schema, items, path),
            ("string", Value::String(text)) => {
                self.check_text(schema, text, path);
                value.clone()
            }
            ("integer", Value::Number(number)) if yaml::integer(number).is_some() => {
                let number = yaml::integer(number).unwrap_or_default();
                self.check_number(schema, number, path);
                number.into()
            }
            ("boolean", Value::Bool(_)) => value.clone(),
            ("", Value::String(text)) if takes_int_or_string => {
                self.check_text(schema, text, path);
                value.clone()
            }
            ("", Value::Number(number)) if takes_int_or_string && yaml::integer(number).is_some() => {
                yaml::integer(number).unwrap_or_default().into()
            }
            ("", _) if !takes_int_or_string => value.clone(),
            (expected, found) => {
                let expected = if takes_int_or_string { "quantity" } else { expected };
                let (message, cure) = words::wrong_type(expected, found, (self.plain_word)(path));
                self.problem(path, message, cure);
                value.clone()
            }
        }
    }

    fn check_object(&mut self, schema: &Value, fields: &Map<String, Value>, path: &FieldPath) -> Value {
        let empty = Map::new();
        let schema = crd::schema_behind(path).unwrap_or(schema);
        let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
        let values = schema.get("additionalProperties").filter(|values| values.is_object());
        let keeps_unknown = schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));

        let mut object = Map::new();
        for (name, value) in fields {
            let here = path.field(name);
            let is_dropped = value.is_null() && (properties.contains_key(name) || values.is_some());
            if is_dropped {
                continue;
            }
            if let Some(property) = properties.get(name).or(values) {
                object.insert(name.clone(), self.check(property, value, &here));
            } else if keeps_unknown {
                object.insert(name.clone(), value.clone());
            } else {
                let free = properties.keys().map(String::as_str).filter(|known| !fields.contains_key(*known));
                let meant = did_you_mean(name, free);
                let cure = words::unknown_field(name, meant, properties, self.root);
                self.problems.push(Problem::error(here.clone(), format!("unknown field {name}"), cure));
                if let Some(meant) = meant {
                    let value = self.check(&properties[meant], value, &here);
                    object.insert(meant.to_owned(), value);
                    // Rules see the value under the name that was meant.
                    if self.tainted.iter().any(|field| here.contains(field)) {
                        self.tainted.insert(path.field(meant));
                    }
                }
            }
        }
        self.fill_in_defaults(properties, &mut object, path);
        self.check_required(schema, &object, path);
        self.check_count(schema, "Properties", object.len(), path);
        Value::Object(object)
    }

    fn fill_in_defaults(&mut self, properties: &Map<String, Value>, object: &mut Map<String, Value>, path: &FieldPath) {
        for (name, property) in properties {
            if let Some(default) = property.get("default").filter(|_| !object.contains_key(name)) {
                // A default may itself be an object with defaults.
                let default = self.check(property, default, &path.field(name));
                object.insert(name.clone(), default);
            }
        }
    }

    fn check_required(&mut self, schema: &Value, object: &Map<String, Value>, path: &FieldPath) {
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        for name in required.filter(|name| !object.contains_key(*name)) {
            let described = schema["properties"][name]["description"].as_str().unwrap_or_default();
            let cure = words::first_sentence(described)
                .map_or_else(|| format!("add {name}"), |what| format!("add {name}: {what}"));
            self.problem(&path.field(name), format!("{name} is missing"), cure);
        }
    }

    fn check_list(&mut self, schema: &Value, items: &[Value], path: &FieldPath) -> Value {
        self.check_count(schema, "Items", items.len(), path);
        let item_schema = &schema["items"];
        let checked: Vec<Value> =
            items.iter().enumerate().map(|(i, item)| self.check(item_schema, item, &path.index(i))).collect();
        self.check_duplicates(schema, &checked, path);
        Value::Array(checked)
    }

    /// Lists of kind `set` have no value twice, those of kind `map` no key.
    fn check_duplicates(&mut self, schema: &Value, items: &[Value], path: &FieldPath) {
        let key = match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
            Some("set") => None,
            Some("map") => schema["x-kubernetes-list-map-keys"][0].as_str(),
            _ => return,
        };
        let mut seen: Vec<&Value> = Vec::new();
        for (i, item) in items.iter().enumerate() {
            let Some(identity) = key.map_or(Some(item), |key| item.get(key)) else { continue };
            if seen.contains(&identity) {
                let here = key.map_or_else(|| path.index(i), |key| path.index(i).field(key));
                let cure = if key.is_some() { "give each a name of its own" } else { "name each once" };
                self.problem(&here, format!("{} stands twice", words::shown(identity)), cure);
            }
            seen.push(identity);
        }
    }

    /// `minItems` and `maxItems`, or `minProperties` and `maxProperties`.
    fn check_count(&mut self, schema: &Value, what: &str, count: usize, path: &FieldPath) {
        let limit = |bound: &str| schema.get(format!("{bound}{what}")).and_then(Value::as_u64);
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        if let Some(max) = limit("max").filter(|max| count > *max) {
            self.problem(path, format!("{count} entries are too many"), format!("leave at most {max}"));
        }
        if let Some(min) = limit("min").filter(|min| count < *min) {
            self.problem(path, format!("{count} entries are too few"), format!("write at least {min}"));
        }
    }

    fn check_text(&mut self, schema: &Value, text: &str, path: &FieldPath) {
        // The server counts code points, too.
        let length = u64::try_from(text.chars().count()).unwrap_or(u64::MAX);
        let limit = |bound: &str| schema.get(bound).and_then(Value::as_u64);
        if let Some(min) = limit("minLength").filter(|min| length < *min) {
            let message =
                if length == 0 { "the text is empty".to_owned() } else { format!("{length} characters are too few") };
            self.problem(path, message, format!("write at least {min}, or leave the field out"));
        } else if let Some(max) = limit("maxLength").filter(|max| length > *max) {
            self.problem(path, format!("{length} characters are too many"), format!("shorten it to at most {max}"));
        } else if let Some((message, cure)) =
            schema.get("pattern").and_then(Value::as_str).and_then(|pattern| words::misfit(pattern, text))
        {
            self.problem(path, message, cure);
        } else if let Some(choices) = schema.get("enum").and_then(Value::as_array) {
            let choices: Vec<&str> = choices.iter().filter_map(Value::as_str).collect();
            if !choices.contains(&text) {
                let all = one_of(choices.iter().copied());
                let cure = did_you_mean(text, choices)
                    .map_or_else(|| format!("use {all}"), |meant| format!("did you mean {meant}? Possible are {all}"));
                self.problem(path, format!("{text:?} is not a possible value"), cure);
            }
        }
    }

    fn check_number(&mut self, schema: &Value, number: i64, path: &FieldPath) {
        let limit = |bound: &str| schema.get(bound).and_then(Value::as_f64).map(|limit| limit as i64);
        let (min, max) = (limit("minimum"), limit("maximum"));
        let cure = match (min, max) {
            (Some(min), Some(max)) => format!("write a number from {min} to {max}"),
            (Some(min), None) => format!("write at least {min}"),
            (None, Some(max)) => format!("write at most {max}"),
            (None, None) => String::new(),
        };
        if min.is_some_and(|min| number < min) {
            self.problem(path, format!("{number} is too small"), cure);
        } else if max.is_some_and(|max| number > max) {
            self.problem(path, format!("{number} is too large"), cure);
        }
    }
}
