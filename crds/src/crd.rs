//! The CustomResourceDefinitions: what kube-derive makes of the types, brought to the shape that we ship.

use std::sync::OnceLock;

use k8s_openapi::api::core::v1::Affinity;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::CustomResourceExt;
use kube::core::schema::{OptionalEnum, OptionalIntOrString, StructuralSchemaRewriter};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use schemars::transform::AddNullable;
use serde_json::{Value, json};

use crate::batch_job::BatchJob;
use crate::field_path::{FieldPath, Segment};
use crate::streaming_job::StreamingJob;

/// The CRD of `StreamingJob`.
pub fn streaming_job() -> CustomResourceDefinition {
    shipped(StreamingJob::crd())
}

/// The CRD of `BatchJob`.
pub fn batch_job() -> CustomResourceDefinition {
    shipped(BatchJob::crd())
}

/// Every CRD of the product, with the name of the file it is kept in.
pub fn all() -> Vec<(&'static str, CustomResourceDefinition)> {
    vec![("streamingjobs.yaml", streaming_job()), ("batchjobs.yaml", batch_job())]
}

/// The OpenAPI schema of a kind, as the API server has it. `None`: not one of our kinds.
pub fn schema(kind: &str) -> Option<&'static Value> {
    static STREAMING_JOB: OnceLock<Value> = OnceLock::new();
    static BATCH_JOB: OnceLock<Value> = OnceLock::new();
    match kind {
        "StreamingJob" => Some(STREAMING_JOB.get_or_init(schema_of_job::<StreamingJob>)),
        "BatchJob" => Some(BATCH_JOB.get_or_init(schema_of_job::<BatchJob>)),
        _ => None,
    }
}

/// What the CRD has as its schema, without making the CRD, whose types are twice turned into JSON and back: each start of a
/// program that reads a manifest would wait for that.
fn schema_of_job<T: JsonSchema>() -> Value {
    let mut schema = schema_for::<T>();
    schema["properties"]["metadata"] = metadata();
    schema
}

/// Kubernetes checks the rest of the metadata itself; the name is here so that a rule may point at it.
fn metadata() -> Value {
    json!({
        "type": "object",
        "properties": {"name": {
            "type": "string",
            "description": "Name of the job, of its pods and of its checkpoint: at most 52 characters.",
            "maxLength": 253,
        }},
    })
}

/// The structural schema of a type, in the shape that a CRD has.
pub(crate) fn schema_for<T: JsonSchema>() -> Value {
    let generator = SchemaSettings::openapi3()
        .with(|settings| {
            settings.inline_subschemas = true;
            settings.meta_schema = None;
        })
        .with_transform(AddNullable::default())
        .with_transform(StructuralSchemaRewriter)
        .with_transform(OptionalEnum)
        .with_transform(OptionalIntOrString)
        .into_generator();
    let mut schema = generator.into_root_schema_for::<T>().to_value();
    simplify(&mut schema);
    schema
}

/// The schema of an object that the CRD keeps as it comes, so that the CRD stays small. Offline it is checked all the
/// same: nobody wants to learn of a misspelt field when the pod is made, or never.
pub(crate) fn schema_behind(path: &FieldPath) -> Option<&'static Value> {
    static AFFINITY: OnceLock<Value> = OnceLock::new();
    match path.segments() {
        [Segment::Field(spec), Segment::Field(pod), Segment::Field(affinity)]
            if spec == "spec" && pod == "pod" && affinity == "affinity" =>
        {
            Some(AFFINITY.get_or_init(schema_for::<Affinity>))
        }
        _ => None,
    }
}

/// Brings a derived CRD to the shape that we ship.
fn shipped(crd: CustomResourceDefinition) -> CustomResourceDefinition {
    let mut crd = serde_json::to_value(crd).expect("a CRD is JSON");
    for version in crd["spec"]["versions"].as_array_mut().expect("a CRD has versions") {
        let schema = &mut version["schema"]["openAPIV3Schema"];
        simplify(schema);
        schema["properties"]["metadata"] = metadata();
    }
    serde_json::from_value(crd).expect("only properties of schemas were changed")
}

/// Removes from a schema and all below it
/// - `nullable`: a null is then dropped by the API server as if the field were absent, and CEL rules need not know it;
/// - line breaks inside the paragraphs of descriptions, which only suit the width of the source code;
/// - formats that Kubernetes does not know (`uint32`): the range says the same.
fn simplify(schema: &mut Value) {
    let Some(node) = schema.as_object_mut() else { return };
    node.remove("nullable");
    if let Some(Value::String(description)) = node.get_mut("description") {
        *description = description.split("\n\n").map(|p| p.replace('\n', " ")).collect::<Vec<_>>().join("\n\n");
    }
    if node.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint")) {
        node.remove("format");
    }
    for keyword in ["items", "additionalProperties"] {
        if let Some(child) = node.get_mut(keyword) {
            simplify(child);
        }
    }
    if let Some(properties) = node.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(simplify);
    }
}

/// A CRD as YAML, in the order and style of the committed files.
///
/// # Errors
///
/// The serialiser's, which no derived CRD should meet.
pub fn to_yaml(crd: &CustomResourceDefinition) -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(crd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_are_checked_against_the_schema_that_the_crd_has() {
        for (kind, crd) in [("StreamingJob", streaming_job()), ("BatchJob", batch_job())] {
            let shipped = crd.spec.versions[0].schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
            let shipped = serde_json::to_value(shipped.unwrap()).unwrap();
            let differ = differences("", schema(kind).unwrap(), &shipped);
            assert!(differ.is_empty(), "{kind}: {}", differ.join("\n"));
        }
    }

    fn differences(path: &str, ours: &Value, shipped: &Value) -> Vec<String> {
        let (Some(a), Some(b)) = (ours.as_object(), shipped.as_object()) else {
            // A bound of the CRD is a double.
            let is_same = ours == shipped || (ours.is_number() && ours.as_f64() == shipped.as_f64());
            return if is_same { vec![] } else { vec![format!("{path}: {ours} is {shipped}")] };
        };
        let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
        let of = |object: &serde_json::Map<String, Value>, name: &String| object.get(name).cloned().unwrap_or_default();
        names.into_iter().flat_map(|name| differences(&format!("{path}.{name}"), &of(a, name), &of(b, name))).collect()
    }
}
