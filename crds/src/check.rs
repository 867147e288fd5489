//! The offline check of manifests: what the API server would say, with places and cures, and what it cannot know.
//!
//! ```text
//! text -> yaml (places) -> kind -> schema (defaults, types, bounds) -> cel (rules) -> types -> parameters -> validate
//! ```
//!
//! Up to `cel` the verdict is the API server's, save that this check also refuses what kubectl drops silently (a name
//! that stands twice) and what the server keeps unread (`pod.affinity`). All problems of a document are found at once;
//! only `validate`, which needs the typed job, waits until what comes before it is clean.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use crate::field_path::FieldPath;
use crate::job::{self, Job};
use crate::problem::{Location, Problem, did_you_mean, one_of};
use crate::{GROUP, VERSION, crd, parameters, set_field, validate};

mod cel;
mod schema;
mod words;
pub(crate) mod yaml;

/// What a file holds that passed every check.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Its jobs, in the order of the file, with every default in place. Parameters still stand as `${name}`.
    pub jobs: Vec<Job>,
    /// What is probably not meant.
    pub warnings: Vec<Problem>,
}

/// Checks a YAML file of one or more documents.
///
/// # Errors
///
/// Every problem that was found, in the order of the file; at least one of them is an error.
pub fn check(yaml_text: &str) -> Result<Checked, Vec<Problem>> {
    let manifests = Manifest::read(yaml_text)?;
    if manifests.is_empty() {
        let cure =
            format!("write a job: apiVersion: {GROUP}/{VERSION}, kind: {}, metadata and spec", one_of(job::KINDS));
        return Err(vec![Problem::error(FieldPath::root(), "the file holds no document", cure)]);
    }
    let (mut jobs, mut warnings, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    for manifest in &manifests {
        match manifest.check() {
            Ok((job, found)) => {
                jobs.push(job);
                warnings.extend(found);
            }
            Err(problems) => refused.extend(problems),
        }
    }
    if refused.is_empty() {
        return Ok(Checked { jobs, warnings });
    }
    refused.extend(warnings);
    refused.sort_by_key(|problem| problem.location);
    Err(refused)
}

/// One document of a file: its fields, and where each of them stands.
#[derive(Clone, Debug)]
pub struct Manifest {
    document: yaml::Document,
}

impl Manifest {
    /// Reads the documents of a YAML file; empty ones are left out.
    ///
    /// # Errors
    ///
    /// Text that is not YAML.
    pub fn read(yaml_text: &str) -> Result<Vec<Self>, Vec<Problem>> {
        let documents = yaml::read(yaml_text).map_err(|problem| vec![problem])?;
        Ok(documents.into_iter().map(|document| Self { document }).collect())
    }

    /// A document that does not come from a file.
    pub fn from_value(value: Value) -> Self {
        let places = yaml::Places::default();
        Self { document: yaml::Document { value, places, problems: Vec::new() } }
    }

    /// The fields as they stand in the file, without defaults.
    pub fn value(&self) -> &Value {
        &self.document.value
    }

    /// Where the value of a field stands, or of the nearest object around it. For a block of text, such as a query, it
    /// is the beginning of the first line of the text itself.
    pub fn location(&self, path: &FieldPath) -> Option<Location> {
        self.document.places.value(path)
    }

    /// Changes a field, as `--set spec.sink.format=delta` does.
    ///
    /// # Errors
    ///
    /// As of [`set_field::set_field`].
    pub fn set(&mut self, assignment: &str) -> Result<(), Problem> {
        let path = set_field::set_field(&mut self.document.value, assignment)?;
        self.document.places.forget(&path);
        self.document.problems.retain(|problem| !path.contains(&problem.path));
        Ok(())
    }

    /// Checks the document. Gives the job, and what is probably not meant.
    ///
    /// # Errors
    ///
    /// Every problem that was found, in the order of the file; at least one of them is an error.
    pub fn check(&self) -> Result<(Job, Vec<Problem>), Vec<Problem>> {
        let mut problems = self.document.problems.clone();
        let mut checked = None;
        if let Some((kind, schema)) = self.kind(&mut problems) {
            let value = self.check_schema(kind, schema, &mut problems);
            if problems.iter().all(|problem| !problem.is_error()) {
                checked = typed(value, &mut problems);
            }
        }
        self.locate(&mut problems);
        match checked {
            Some(job) if problems.iter().all(|problem| !problem.is_error()) => Ok((job, problems)),
            _ => Err(problems),
        }
    }

    /// The kind and its schema. A wrong `apiVersion` or a misspelt kind does not keep the rest from being checked.
    fn kind(&self, problems: &mut Vec<Problem>) -> Option<(&'static str, &'static Value)> {
        let root = FieldPath::root();
        let Some(fields) = self.document.value.as_object() else {
            let cure = "write fields: apiVersion, kind, metadata and spec";
            problems.push(Problem::error(root, "the document is not an object", cure));
            return None;
        };
        let text = |name: &str| fields.get(name).and_then(Value::as_str);
        let api_version = format!("{GROUP}/{VERSION}");
        match text("apiVersion") {
            Some(found) if found == api_version => {}
            Some(found) => {
                let message = format!("{found} is not an API of this version");
                problems.push(Problem::error(root.field("apiVersion"), message, format!("write {api_version}")));
            }
            None => {
                let cure = format!("add apiVersion: {api_version}");
                problems.push(Problem::error(root.field("apiVersion"), "apiVersion is missing", cure));
            }
        }
        let kinds = one_of(job::KINDS);
        let kind = match text("kind") {
            Some(found) => {
                let meant = job::KINDS.into_iter().find(|kind| *kind == found);
                if meant.is_none() {
                    let near = did_you_mean(found, job::KINDS);
                    let cure = near.map_or_else(|| format!("use {kinds}"), |near| format!("did you mean {near}?"));
                    problems.push(Problem::error(
                        root.field("kind"),
                        format!("{found} is not a kind of {GROUP}"),
                        cure,
                    ));
                    job::KINDS.into_iter().find(|kind| Some(*kind) == near)
                } else {
                    meant
                }
            }
            None => {
                problems.push(Problem::error(root.field("kind"), "kind is missing", format!("add kind: {kinds}")));
                None
            }
        }?;
        Some((kind, crd::schema(kind)?))
    }

    /// Schema and rules. Gives the object with its defaults.
    fn check_schema(&self, kind: &str, schema: &Value, problems: &mut Vec<Problem>) -> Value {
        let mut schema = schema.clone();
        let properties = schema["properties"].as_object_mut().expect("the schema of a kind has properties");
        properties.insert("apiVersion".to_owned(), serde_json::json!({"type": "string"}));
        properties.insert("kind".to_owned(), serde_json::json!({"type": "string"}));
        properties.insert("metadata".to_owned(), metadata_schema().clone());
        // What the status of a manifest says is dropped when the object is created.
        properties.insert("status".to_owned(), serde_json::json!({"x-kubernetes-preserve-unknown-fields": true}));
        schema["required"] = serde_json::json!(["metadata", "spec"]);

        let plain_word = |path: &FieldPath| self.document.places.word(path);
        let outcome = schema::check(&schema, &self.document.value, &FieldPath::root(), &plain_word);
        problems.extend(outcome.problems);
        problems.extend(cel::check(kind, &outcome.value, &outcome.tainted));
        let mut value = outcome.value;
        if let Some(fields) = value.as_object_mut() {
            fields.remove("status");
        }
        value
    }

    fn locate(&self, problems: &mut [Problem]) {
        let places = &self.document.places;
        for problem in problems.iter_mut().filter(|problem| problem.location.is_none()) {
            let is_about_the_name = problem.message.starts_with("unknown field ");
            let at = if is_about_the_name { places.key(&problem.path) } else { places.value(&problem.path) };
            problem.location = at;
        }
        problems.sort_by_key(|problem| problem.location);
    }
}

/// The typed job, checked for what needs types.
fn typed(value: Value, problems: &mut Vec<Problem>) -> Option<Job> {
    let job = match Job::from_value(value) {
        Ok(job) => job,
        // The schema lets pass what the types do not take: a fault of ours that the corpus of tests is there to find.
        Err(error) => {
            let cure = "report this: schema and types of this version differ";
            problems.push(Problem::error(FieldPath::root(), error.to_string(), cure));
            return None;
        }
    };
    match &job {
        // A template brings its own parameters: whoever expands it knows them.
        Job::Batch(batch) if batch.spec.template.is_some() => problems.extend(validate::validate_batch(&batch.spec)),
        Job::Batch(batch) => {
            match parameters::expand_batch_parameters(&batch.spec, &batch.spec.parameters, &BTreeMap::new()) {
                Ok(spec) => problems.extend(validate::validate_batch(&spec)),
                Err(found) => problems.extend(found),
            }
        }
        Job::Streaming(streaming) if streaming.spec.template.is_some() => {
            // A template brings its own parameters: whoever expands it knows them.
            problems.extend(validate::validate(&streaming.spec));
        }
        Job::Streaming(streaming) => {
            match parameters::expand_parameters(&streaming.spec, &streaming.spec.parameters, &BTreeMap::new()) {
                Ok(spec) => problems.extend(validate::validate(&spec)),
                Err(found) => problems.extend(found),
            }
        }
    }
    Some(job)
}

/// The schema of an object's metadata, which a CRD does not carry.
fn metadata_schema() -> &'static Value {
    static SCHEMA: std::sync::OnceLock<Value> = std::sync::OnceLock::new();
    SCHEMA.get_or_init(|| {
        let mut schema = crd::schema_for::<ObjectMeta>();
        schema["required"] = serde_json::json!(["name"]);
        schema["properties"]["name"]["description"] = "the job's name.".into();
        schema
    })
}
