//! The files that are made from the types, or must fit them: CRDs, manifests and templates.
//!
//! `UPDATE_GOLDEN=1` writes what can be made; a person reads the difference.

use std::fs;
use std::path::{Path, PathBuf};

use data_platform_crds::batch_job::BatchJobSpec;
use data_platform_crds::check::check;
use data_platform_crds::condition::{ConditionType, Health};
use data_platform_crds::crd;
use data_platform_crds::job::Job;
use data_platform_crds::parameters::expand_parameters;
use serde_json::Value;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the repository").to_owned()
}

/// Compares a file with what it should hold, or writes it.
fn golden(path: &Path, expected: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(path, expected).expect("the file can be written");
    }
    let found = fs::read_to_string(path).unwrap_or_default();
    assert!(found == expected, "{} is out of date: run with UPDATE_GOLDEN=1 and read the difference", path.display());
}

#[test]
fn the_committed_crds_are_those_of_the_types() {
    for (file, crd) in crd::all() {
        golden(&repository().join("crds/yaml").join(file), &crd::to_yaml(&crd).unwrap());
    }
}

#[test]
fn the_committed_schemas_are_those_of_the_types() {
    for (_, crd) in crd::all() {
        let (kind, schema) = (&crd.spec.names.kind, crd::schema_of(&crd));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
            fs::write(repository().join(format!("crds/schemas/{kind}.json")), text).expect("the file can be written");
        } else {
            assert!(
                crd::schema(kind) == Some(&schema),
                "crds/schemas/{kind}.json is out of date: run with UPDATE_GOLDEN=1"
            );
        }
    }
}

#[test]
fn every_crd_fits_into_the_annotation_of_kubectl_apply() {
    for (file, crd) in crd::all() {
        // kubectl keeps the applied object, as JSON, in an annotation of at most 262,144 bytes; ours leave room for other tools.
        let bytes = serde_json::to_string(&crd).unwrap().len();
        assert!(bytes < 100_000, "{file} has {bytes} bytes");
    }
}

#[test]
fn a_column_has_few_rules() {
    // The API server evaluates each of them for each column whenever the job or its status is written.
    let (_, crd) = crd::all().into_iter().find(|(file, _)| *file == "streamingjobs.yaml").unwrap();
    let schema = serde_json::to_value(crd).unwrap();
    let spec = &schema["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let column = &spec["properties"]["sources"]["items"]["properties"]["columns"]["items"];
    let rules = column["x-kubernetes-validations"].as_array().unwrap().len();
    assert!((1..=5).contains(&rules), "{rules} rules");
}

#[test]
fn every_property_has_a_description() {
    fn undescribed(schema: &Value, path: &str, found: &mut Vec<String>) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            // Kubernetes allows no description there.
            let is_metadata = path == ".metadata";
            if property["description"].as_str().is_none_or(|description| description.len() < 5) && !is_metadata {
                found.push(path.clone());
            }
            undescribed(property, &path, found);
        }
        for below in ["items", "additionalProperties"] {
            if schema[below].is_object() {
                undescribed(&schema[below], &format!("{path}[]"), found);
            }
        }
    }
    for (file, crd) in crd::all() {
        let mut found = Vec::new();
        undescribed(crd::schema(&crd.spec.names.kind).unwrap(), "", &mut found);
        assert!(found.is_empty(), "{file}: {found:?}");
    }
}

#[test]
fn every_list_and_every_text_of_a_spec_is_bounded() {
    fn unbounded(schema: &Value, path: &str, found: &mut Vec<String>) {
        let bound = match schema["type"].as_str() {
            Some("array") => "maxItems",
            // A choice is bounded by itself, and so is a time.
            Some("string") if schema["enum"].is_array() || schema["format"].is_string() => "type",
            Some("string") => "maxLength",
            Some("object") if schema["additionalProperties"].is_object() => "maxProperties",
            Some("integer") => "minimum",
            _ => "",
        };
        if !bound.is_empty() && schema[bound].is_null() {
            found.push(format!("{path} has no {bound}"));
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            unbounded(property, &format!("{path}.{name}"), found);
        }
        for below in ["items", "additionalProperties"] {
            if schema[below].is_object() {
                unbounded(&schema[below], &format!("{path}[]"), found);
            }
        }
    }
    for (file, crd) in crd::all() {
        let mut found = Vec::new();
        let schema = crd::schema(&crd.spec.names.kind).unwrap();
        unbounded(&schema["properties"]["spec"], "spec", &mut found);
        assert!(found.is_empty(), "{file}: {found:#?}");
    }
}

#[test]
fn every_manifest_passes_the_check_without_a_warning() {
    let mut checked = 0;
    let folders = ["manifests", "manifests/examples"].map(|folder| fs::read_dir(repository().join(folder)).unwrap());
    let paths = folders.into_iter().flatten().map(|entry| entry.unwrap().path());
    for path in paths.filter(|path| path.is_file()) {
        let text = fs::read_to_string(&path).unwrap();
        // Others have what the jobs need, such as a broker.
        if text.contains("\napiVersion: dataplatform.io/") {
            let file = check(&text).unwrap_or_else(|problems| panic!("{path:?}: {problems:#?}"));
            assert_eq!(file.warnings, [], "{path:?}");
            checked += file.jobs.len();
        }
    }
    assert!(checked > 0);
}

#[test]
fn the_built_in_templates_are_the_manifests() {
    for entry in fs::read_dir(repository().join("runner/templates")).unwrap() {
        let template = entry.unwrap().path();
        let manifest = repository().join("manifests").join(template.file_name().unwrap());
        golden(&template, &fs::read_to_string(&manifest).unwrap());
    }
}

/// What a template sets beside sources, query and sink could not be told from a default that the API server fills in
/// for the job that names the template, and which wins.
#[test]
fn a_template_sets_only_defaults_beside_what_it_computes() {
    for entry in fs::read_dir(repository().join("runner/templates")).unwrap() {
        let path = entry.unwrap().path();
        for job in check(&fs::read_to_string(&path).unwrap()).unwrap().jobs {
            let job = match job {
                Job::Streaming(job) => job,
                Job::Batch(job) => {
                    let defaults = BatchJobSpec::default();
                    let named = BatchJobSpec {
                        schedule: job.spec.schedule.clone(),
                        interval: job.spec.interval,
                        replace: job.spec.replace,
                        lookback_days: job.spec.lookback_days,
                        inputs: job.spec.inputs.clone(),
                        query: job.spec.query.clone(),
                        sink: job.spec.sink.clone(),
                        parameters: job.spec.parameters.clone(),
                        ..defaults
                    };
                    assert_eq!(job.spec, named, "{path:?}");
                    continue;
                }
            };
            let defaults = data_platform_crds::streaming_job::StreamingJobSpec::default();
            assert_eq!(job.spec.kafka, Some(Default::default()), "{path:?}");
            assert_eq!(job.spec.trigger, defaults.trigger, "{path:?}");
            assert_eq!(job.spec.bad_records, defaults.bad_records, "{path:?}");
            assert_eq!(job.spec.late_rows, defaults.late_rows, "{path:?}");
            assert_eq!(job.spec.stop_timeout, defaults.stop_timeout, "{path:?}");
            assert!(expand_parameters(&job.spec, &job.spec.parameters, &Default::default()).is_ok(), "{path:?}");
        }
    }
}

/// The API server fills in the schema's defaults, the runner those of the types: for a spec of one field they agree.
#[test]
fn schema_and_types_have_the_same_defaults() {
    let yaml = "apiVersion: dataplatform.io/v1alpha1\nkind: StreamingJob\nmetadata: {name: a}\nspec:\n  kafka: {}\n  \
                sources: [{name: s, topics: [t], columns: [{name: c, type: timestamp}], eventTime: {column: c}}]\n  \
                references: [{name: r, format: csv, path: r}]\n  query: SELECT 1\n  sink: {path: p}\n  \
                pod: {volumes: [{name: v, mountPath: /v, claimName: c}]}\n";
    let batch = "apiVersion: dataplatform.io/v1alpha1\nkind: BatchJob\nmetadata: {name: a}\nspec:\n  interval: day\n  \
                 inputs: [{name: i, path: i, timeColumn: c}]\n  query: SELECT 1\n  sink: {path: p}\n";
    for yaml in [yaml, batch] {
        let by_schema = check(yaml).unwrap().jobs.remove(0);
        let by_types = Job::from_value(serde_saphyr::from_str(yaml).unwrap()).unwrap();
        assert_eq!(by_schema, by_types);
    }
}

/// The words of the health after `health=~` in a text.
fn asked_health(text: &str) -> Vec<&str> {
    let (_, after) = text.split_once("health=~").expect("it asks for the health");
    after.split('"').nth(1).expect("words in quotes").split('|').collect()
}

#[test]
fn the_alert_is_never_about_a_job_that_is_ready_and_the_dashboard_knows_the_same_words() {
    let read = |path: &str| fs::read_to_string(repository().join(path)).expect("a file of the repository");
    let of = |is: &dyn Fn(Health) -> bool| -> Vec<&str> {
        Health::ALL.into_iter().filter(|health| is(*health)).map(Health::name).collect()
    };
    let not_working = of(&|health| !health.is_harmless() && !health.holds(ConditionType::Ready));
    let mut asked = asked_health_of(&read("helm/data-platform/rules/jobs.yaml"));
    asked.sort_unstable();
    assert_eq!(asked, sorted(&not_working));
    let mut asked = asked_health_of(&read("helm/dashboards/all_jobs.py"));
    asked.sort_unstable();
    assert_eq!(asked, sorted(&of(&|health| !health.is_harmless())));
}

fn asked_health_of(text: &str) -> Vec<String> {
    asked_health(text).into_iter().map(str::to_owned).collect()
}

fn sorted(words: &[&str]) -> Vec<String> {
    let mut words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    words.sort_unstable();
    words
}
