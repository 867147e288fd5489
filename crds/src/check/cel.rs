//! The CEL rules of a kind, evaluated offline with the messages that the API server gives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use kube::core::cel::{CompiledSchema, ErrorKind, ValidationError, Validator, compile_schema};
use serde_json::Value;

use crate::crd;
use crate::field_path::FieldPath;
use crate::problem::Problem;

/// Evaluates every rule of a kind on a whole object with its defaults filled in.
///
/// A rule that looks at a tainted field is left out: it could only repeat what is known about that field.
pub(super) fn check(kind: &str, object: &Value, tainted: &BTreeSet<FieldPath>) -> Vec<Problem> {
    static IS_FIRST: AtomicBool = AtomicBool::new(true);
    if !crate::job::KINDS.contains(&kind) {
        return Vec::new();
    }
    // A process that runs one job checks one object: it has no use for the rules of other fields. One that checks many
    // compiles all of them, once.
    if IS_FIRST.swap(false, Ordering::Relaxed) {
        Rules::of_fields(kind, object).check(object, tainted)
    } else {
        Rules::of(kind).map_or_else(Vec::new, |rules| rules.check(object, tainted))
    }
}

/// The rules of one kind, ready to be evaluated.
struct Rules {
    schema: CompiledSchema,
    /// The field that a rule blames, relative to the object that it stands at, by the text of the rule.
    blamed: BTreeMap<String, String>,
}

impl Rules {
    fn of(kind: &str) -> Option<&'static Self> {
        static STREAMING_JOB: OnceLock<Rules> = OnceLock::new();
        static BATCH_JOB: OnceLock<Rules> = OnceLock::new();
        match kind {
            "StreamingJob" => Some(STREAMING_JOB.get_or_init(|| Self::compile(crd::schema(kind)))),
            "BatchJob" => Some(BATCH_JOB.get_or_init(|| Self::compile(crd::schema(kind)))),
            _ => None,
        }
    }

    /// The rules that stand at the fields of an object: all that can say something about it.
    fn of_fields(kind: &str, object: &Value) -> Self {
        let schema = crd::schema(kind).map(|schema| schema_of(schema, &[object]));
        Self::compile(schema.as_ref())
    }

    fn check(&self, object: &Value, tainted: &BTreeSet<FieldPath>) -> Vec<Problem> {
        let Err(errors) = Validator::new().validate_compiled(&self.schema, object, None) else { return Vec::new() };
        let errors = errors.into_iter().filter(|error| !looks_at(&error.rule, &node_of(error), tainted));
        errors.map(|error| self.problem(error)).collect()
    }

    fn compile(schema: Option<&Value>) -> Self {
        let mut schema = schema.cloned().unwrap_or_default();
        let mut blamed = BTreeMap::new();
        take_field_paths(&mut schema, &mut blamed);
        Self { schema: compile_schema(&schema), blamed }
    }

    fn problem(&self, error: ValidationError) -> Problem {
        let blamed = self.blamed.get(&error.rule).map_or("", String::as_str);
        let path = format!("{}{blamed}", error.field_path);
        let path = path.strip_prefix('.').unwrap_or(&path).parse().unwrap_or_default();
        match (&error.kind, error.message.split_once(": ")) {
            (ErrorKind::ValidationFailure, Some((message, cure))) => Problem::error(path, message, cure),
            // A rule that cannot be evaluated is a fault of ours, and refuses the object as it does on the server.
            _ => Problem::error(path, error.message, "report this: a rule of this version is at fault"),
        }
    }
}

/// A schema without the properties that none of these values has and that have no default.
fn schema_of(schema: &Value, values: &[&Value]) -> Value {
    let Value::Object(fields) = schema else { return schema.clone() };
    let mut pruned = serde_json::Map::new();
    for (keyword, value) in fields {
        let part = match (keyword.as_str(), value) {
            ("properties", Value::Object(properties)) => {
                let of = |(name, schema): (&String, &Value)| {
                    let values: Vec<_> = values.iter().filter_map(|value| value.get(name)).collect();
                    // What has a default is there where it is left out.
                    let is_there = !values.is_empty() || schema.get("default").is_some();
                    is_there.then(|| (name.clone(), schema_of(schema, &values)))
                };
                Value::Object(properties.iter().filter_map(of).collect())
            }
            ("items", _) => {
                let items: Vec<_> = values.iter().filter_map(|value| value.as_array()).flatten().collect();
                schema_of(value, &items)
            }
            ("additionalProperties", _) => {
                let entries = values.iter().filter_map(|value| value.as_object());
                let entries: Vec<_> = entries.flat_map(serde_json::Map::values).collect();
                schema_of(value, &entries)
            }
            _ => value.clone(),
        };
        pruned.insert(keyword.clone(), part);
    }
    Value::Object(pruned)
}

/// Takes `fieldPath` out of every rule, so that an evaluated rule tells the object that it stands at.
fn take_field_paths(schema: &mut Value, blamed: &mut BTreeMap<String, String>) {
    match schema {
        Value::Object(fields) => {
            if let (Some(rule), Some(path)) = (fields.get("rule").and_then(Value::as_str), fields.get("fieldPath")) {
                blamed.insert(rule.to_owned(), path.as_str().unwrap_or_default().to_owned());
                fields.remove("fieldPath");
            }
            fields.values_mut().for_each(|child| take_field_paths(child, blamed));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| take_field_paths(item, blamed)),
        _ => {}
    }
}

/// The object that the failed rule stands at.
fn node_of(error: &ValidationError) -> FieldPath {
    error.field_path.parse().unwrap_or_default()
}

/// Whether a rule reads one of these fields, or a field above or below one: `self.a.b` in its text reads `a`.
fn looks_at(rule: &str, node: &FieldPath, fields: &BTreeSet<FieldPath>) -> bool {
    let mut read = rule.split("self.").skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        node.field(&rest[..end])
    });
    read.any(|read| fields.iter().any(|field| read.contains(field) || field.contains(&read)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_that_reads_a_tainted_field_is_known() {
        let path = |text: &str| text.parse::<FieldPath>().unwrap();
        let rule = "!has(self.eventTime) || self.columns.exists(c, c.name == self.eventTime.column)";
        for (tainted, reads) in [
            ("spec.sources[0].columns[3].type", true),
            ("spec.sources[0].eventTime", true),
            ("spec.sources[0]", true),
            ("spec.sources[0].topics", false),
            ("spec.sources[1].columns", false),
        ] {
            assert_eq!(looks_at(rule, &path("spec.sources[0]"), &[path(tainted)].into()), reads, "{tainted}");
        }
    }

    #[test]
    fn the_rules_of_an_objects_fields_say_of_it_what_all_rules_say() {
        let objects = [
            serde_json::json!({"spec": {"sources": [{"name": "a", "topics": ["t"], "eventTime": {"column": "none"},
                "columns": [{"name": "n", "type": "bigint"}]}], "query": "SELECT 1", "sink": {"format": "csv", "path": "p"}}}),
            serde_json::json!({"spec": {"sources": [{"name": "a", "topics": [], "topicPattern": "x", "columns": []},
                {"name": "b", "topics": ["t"], "columns": [{"name": "n", "type": "string", "from": "key", "path": "p"}]}],
                "query": "SELECT 1", "outputs": [], "sink": {"path": "p", "sortBy": []}, "template": "t"}}),
            serde_json::json!({"spec": {"inputs": [], "interval": "day", "schedule": "x", "query": "q", "outputs": [],
                "sink": {"path": "p", "maxFiles": 0}, "backfill": {"from": "b", "to": "a"}, "timeZone": "UTC"}}),
            serde_json::json!({"spec": {}}),
        ];
        let mut found = 0;
        for kind in crate::job::KINDS {
            for object in &objects {
                let all = Rules::of(kind).unwrap().check(object, &BTreeSet::new());
                let own = Rules::of_fields(kind, object).check(object, &BTreeSet::new());
                assert_eq!(format!("{own:?}"), format!("{all:?}"), "{kind} {object}");
                found += all.len();
            }
        }
        assert!(found > 10, "{found} problems");
        assert!(!Rules::of_fields("StreamingJob", &objects[1]).schema.has_errors());
    }

    #[test]
    fn every_rule_compiles_and_has_message_and_cure() {
        fn rules<'a>(schema: &'a Value, found: &mut Vec<&'a Value>) {
            match schema {
                Value::Object(fields) if fields.contains_key("rule") => found.push(schema),
                Value::Object(fields) => fields.values().for_each(|child| rules(child, found)),
                Value::Array(items) => items.iter().for_each(|item| rules(item, found)),
                _ => {}
            }
        }
        for kind in crate::job::KINDS {
            assert!(!Rules::of(kind).unwrap().schema.has_errors(), "{kind}");
            let mut found = Vec::new();
            rules(crd::schema(kind).unwrap(), &mut found);
            assert!(found.len() > 20, "{kind}: {}", found.len());
            for rule in found {
                assert!(rule["message"].as_str().is_some_and(|message| message.contains(": ")), "{rule}");
            }
        }
    }
}
