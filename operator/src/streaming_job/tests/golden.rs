//! What is built of a job, as files that a person can read. `UPDATE_GOLDEN=1` writes them.

use std::path::Path;

use data_platform_crds::streaming_job::StreamingJob;
use serde_json::{Value, json};

use super::{job, settings};
use crate::args::RunnerSettings;
use crate::names::JOB_FILE;
use crate::streaming_job::build::{build, deployment};
use crate::streaming_job::validate::validate;

/// The children as YAML documents. The configuration is shown as a value: as text nobody could read it.
fn documents(job: &StreamingJob, settings: &RunnerSettings, claim_is_shared: bool) -> String {
    let job = validate(job, settings).unwrap();
    let built = build(&job, settings, claim_is_shared);
    let deployment = deployment(&job, &built.template, &built.config_map.name, &job.revision);
    let mut config_map = built.config_map.object.clone();
    let config: Value = serde_json::from_str(config_map["data"][JOB_FILE].as_str().unwrap()).unwrap();
    config_map["data"] = json!({JOB_FILE: config, "template.json": "(the pod template below)"});
    let documents = [config_map, built.service.object, deployment.object];
    documents.iter().map(|document| format!("---\n{}", yaml(document, 0))).collect()
}

/// Plain YAML, sorted by name: every JSON scalar is YAML as it stands.
fn yaml(value: &Value, indent: usize) -> String {
    let pad = "  ".repeat(indent);
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let mut names: Vec<&String> = fields.keys().collect();
            names.sort();
            names.into_iter().map(|name| format!("{pad}{name}:{}", below(&fields[name], indent))).collect()
        }
        Value::Array(elements) if !elements.is_empty() => elements
            .iter()
            .map(|element| match element {
                Value::Object(fields) if !fields.is_empty() => {
                    let text = yaml(element, indent + 1);
                    format!("{pad}- {}", text.trim_start())
                }
                _ => format!("{pad}- {element}\n"),
            })
            .collect(),
        leaf => format!("{pad}{leaf}\n"),
    }
}

fn below(value: &Value, indent: usize) -> String {
    match value {
        Value::Object(fields) if !fields.is_empty() => format!("\n{}", yaml(value, indent + 1)),
        Value::Array(elements) if !elements.is_empty() => format!("\n{}", yaml(value, indent)),
        leaf => format!(" {leaf}\n"),
    }
}

fn golden(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "{} differs: run with UPDATE_GOLDEN=1 and read the difference", path.display());
}

#[test]
fn a_plain_job() {
    golden("plain.yaml", &documents(&job(), &settings(), true));
}

#[test]
fn a_job_with_every_setting() {
    let mut value = serde_json::to_value(job()).unwrap();
    value["metadata"]["annotations"] = json!({"dataplatform.io/restartedAt": "2026-01-01"});
    value["spec"]["stopTimeout"] = "2m".into();
    let secret = |name: &str, key: &str| json!({"secretKeyRef": {"name": name, "key": key}});
    value["spec"]["kafka"]["sasl"] = json!({"mechanism": "SCRAM-SHA-512", "username": secret("login", "user"), "password": secret("login", "password")});
    value["spec"]["kafka"]["tls"] = json!({"ca": secret("authority", "ca.crt")});
    value["spec"]["pod"] = json!({
        "resources": {"requests": {"cpu": "500m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
        "labels": {"team": "data"},
        "annotations": {"example.org/note": "x"},
        "env": [{"name": "AWS_REGION", "value": "eu"}, {"name": "AWS_SECRET", "secretKeyRef": {"name": "s3", "key": "secret"}}],
        "volumes": [
            {"name": "lookup", "mountPath": "/lookup", "claimName": "lookup", "readOnly": true},
            {"name": "scratch", "mountPath": "/scratch", "emptyDirSize": "1Gi"},
        ],
        "serviceAccountName": "reader",
        "priorityClassName": "high",
    });
    let settings = RunnerSettings {
        image_pull_policy: Some("Never".to_owned()),
        image_pull_secrets: vec!["registry".to_owned()],
        ..settings()
    };
    golden("full.yaml", &documents(&serde_json::from_value(value).unwrap(), &settings, false));
}

#[test]
fn a_suspended_job_on_an_object_store() {
    let mut value = serde_json::to_value(job()).unwrap();
    value["spec"]["suspend"] = true.into();
    value["spec"]["storage"] = json!({"outputs": "s3://bucket/outputs", "checkpoints": "s3://bucket/checkpoints"});
    golden("object-store.yaml", &documents(&serde_json::from_value(value).unwrap(), &settings(), true));
}
