//! `--set spec.sink.format=delta`: one field of a manifest changed from the command line.

use serde_json::{Map, Value};

use crate::check::yaml;
use crate::crd;
use crate::field_path::{FieldPath, Segment};
use crate::problem::{Problem, did_you_mean, one_of};

/// Changes one field of a manifest: `path=value`, as in `spec.sources[0].topics[0]=other` or
/// `spec.kafka.config["client.id"]=me`. Gives the path.
///
/// The value is read as YAML (`5`, `true`, `[a, b]`, `{x: 1}`), but stays text where the field is a text. Nothing after
/// the `=` of another field, or `null`, removes it. Objects on the way are made where the schema knows them; list items
/// must be there. Whether the value fits is for the check to say.
///
/// # Errors
///
/// An assignment that cannot be read, or a part of the path that does not exist; `manifest` is then unchanged.
pub fn set_field(manifest: &mut Value, assignment: &str) -> Result<FieldPath, Problem> {
    let Some((path, text)) = assignment.split_once('=') else {
        let cure = "write path=value, such as spec.sink.format=delta";
        return Err(Problem::error(FieldPath::root(), format!("{assignment:?} has no ="), cure));
    };
    let path: FieldPath = path.trim().parse().map_err(|error: crate::field_path::FieldPathError| {
        Problem::error(FieldPath::root(), error.to_string(), "write it like spec.sources[0].topics[0]=other")
    })?;
    let schema = manifest.get("kind").and_then(Value::as_str).and_then(crd::schema);
    let mut changed = manifest.clone();
    let (place, schema) = walk(&mut changed, schema, &path)?;
    *place = read_value(text, schema, &path)?;
    *manifest = changed;
    Ok(path)
}

/// The value at the end of the path, and its schema where there is one.
fn walk<'v, 's>(
    manifest: &'v mut Value,
    mut schema: Option<&'s Value>,
    path: &FieldPath,
) -> Result<(&'v mut Value, Option<&'s Value>), Problem> {
    let mut here = FieldPath::root();
    let mut value = manifest;
    for segment in path.segments() {
        match segment {
            Segment::Field(name) => {
                let below = here.field(name);
                schema = field_schema(schema, name, &below)?;
                if value.is_null() {
                    *value = Value::Object(Map::new());
                }
                let Some(fields) = value.as_object_mut() else {
                    return Err(Problem::error(here.clone(), format!("{here} has no fields"), "name a field that has"));
                };
                value = fields.entry(name).or_insert(Value::Null);
                here = below;
            }
            Segment::Index(index) => {
                let Some(items) = value.as_array_mut() else {
                    return Err(Problem::error(here.clone(), format!("{here} is not a list"), "leave the [] out"));
                };
                let count = items.len();
                let Some(item) = items.get_mut(*index) else {
                    let cure = match count {
                        0 => format!("set the whole list: {here}=[…]"),
                        _ => format!("use [0] to [{}], or set the whole list", count - 1),
                    };
                    return Err(Problem::error(
                        here.clone(),
                        format!("{here} has {count} entries and no [{index}]"),
                        cure,
                    ));
                };
                value = item;
                schema = schema.and_then(|schema| schema.get("items"));
                here = here.index(*index);
            }
        }
    }
    Ok((value, schema))
}

/// The schema of a field. `None` where the schema takes anything.
fn field_schema<'s>(schema: Option<&'s Value>, name: &str, path: &FieldPath) -> Result<Option<&'s Value>, Problem> {
    let Some(schema) = schema else { return Ok(None) };
    // The metadata of an object is not part of its CRD.
    let first = path.segments().first();
    let is_outside =
        ["metadata", "apiVersion", "kind"].iter().any(|name| first == Some(&Segment::Field((*name).to_owned())));
    if is_outside || schema.get("x-kubernetes-preserve-unknown-fields").is_some() {
        return Ok(None);
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    let known = properties.and_then(|properties| properties.get(name)).or_else(|| schema.get("additionalProperties"));
    if known.is_some() {
        return Ok(known);
    }
    let names = || properties.into_iter().flat_map(|properties| properties.keys()).map(String::as_str);
    let cure = match did_you_mean(name, names()) {
        Some(meant) => format!("did you mean {meant}?"),
        None if names().next().is_none() => "leave it out".to_owned(),
        None => format!("the fields there are {}", one_of(names()).replace(" or ", " and ")),
    };
    Err(Problem::error(path.clone(), format!("unknown field {name}"), cure))
}

fn read_value(text: &str, schema: Option<&Value>, path: &FieldPath) -> Result<Value, Problem> {
    let is_text = schema.and_then(|schema| schema.get("type")).and_then(Value::as_str) == Some("string");
    let documents = yaml::read(text).map_err(|problem| Problem { path: path.clone(), location: None, ..problem });
    let read = match documents {
        Ok(documents) => documents.into_iter().next().map_or(Value::Null, |document| document.value),
        // A text needs no quotes here: `a: b` or `[x` are fine as they stand.
        Err(_) if is_text => Value::String(text.to_owned()),
        Err(problem) => return Err(problem),
    };
    let is_quoted = text.trim_start().starts_with(['"', '\'']);
    let keeps_text = is_text && !(read.is_string() && is_quoted) && text.trim() != "null";
    Ok(if keeps_text { Value::String(text.to_owned()) } else { read })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn manifest() -> Value {
        json!({
            "apiVersion": "dataplatform.io/v1alpha1", "kind": "StreamingJob", "metadata": {"name": "j"},
            "spec": {"sources": [{"name": "s", "topics": ["a", "b"]}], "sink": {"path": "out"}, "query": "SELECT 1"},
        })
    }

    #[test]
    fn a_field_is_changed_made_or_removed() {
        for (assignment, pointer, expected) in [
            ("spec.sink.format=delta", "/spec/sink/format", json!("delta")),
            ("spec.sources[0].topics[1]=c=d", "/spec/sources/0/topics/1", json!("c=d")),
            ("spec.sources[0].topics=[p, q]", "/spec/sources/0/topics", json!(["p", "q"])),
            ("spec.kafka.maxOffsetsPerTrigger=500", "/spec/kafka/maxOffsetsPerTrigger", json!(500)),
            ("spec.kafka.failOnDataLoss=true", "/spec/kafka/failOnDataLoss", json!(true)),
            ("spec.kafka.config[\"client.id\"]=7", "/spec/kafka/config/client.id", json!("7")),
            ("spec.parameters.gap=30", "/spec/parameters/gap", json!("30")),
            ("spec.query=SELECT a: b", "/spec/query", json!("SELECT a: b")),
            ("spec.query=\"1\"", "/spec/query", json!("1")),
            ("spec.trigger={interval: 5s}", "/spec/trigger", json!({"interval": "5s"})),
            ("spec.query=null", "/spec/query", json!(null)),
            ("metadata.labels.team=a", "/metadata/labels/team", json!("a")),
        ] {
            let mut manifest = manifest();
            set_field(&mut manifest, assignment).unwrap_or_else(|problem| panic!("{assignment}: {problem}"));
            assert_eq!(manifest.pointer(pointer), Some(&expected), "{assignment}");
        }
    }

    #[test]
    fn the_part_that_does_not_exist_is_named() {
        for (assignment, expected) in [
            ("spec.sink", "\"spec.sink\" has no =: write path=value, such as spec.sink.format=delta"),
            ("spec..sink=1", "\"spec..sink\" is not a field: expected a name at character 6"),
            ("spec.snk.format=csv", "spec.snk: unknown field snk: did you mean sink?"),
            ("spec.sink.fromat=csv", "spec.sink.fromat: unknown field fromat: did you mean format?"),
            ("spec.sources[1].name=x", "spec.sources: spec.sources has 1 entries and no [1]: use [0] to [0]"),
            ("spec.outputs[0].name=x", "spec.outputs: spec.outputs is not a list: leave the [] out"),
            ("spec.sink[0]=x", "spec.sink: spec.sink is not a list"),
            ("spec.sink.path.x=1", "spec.sink.path.x: unknown field x: leave it out"),
            ("spec.trigger={interval", "spec.trigger: this is not YAML"),
        ] {
            let mut changed = manifest();
            let problem = set_field(&mut changed, assignment).unwrap_err();
            assert!(problem.to_string().starts_with(expected), "{assignment}: {problem}");
            assert_eq!(changed, manifest(), "{assignment}");
        }
    }
}
