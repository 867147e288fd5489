//! What is built of a job, as files that a person can read. `UPDATE_GOLDEN=1` writes them.

use data_platform_crds::resources::StorageSpec;
use data_platform_crds::streaming_job::StreamingJob;
use serde_json::{Value, json};

use super::job;
use crate::args::{HttpToken, RunnerSettings};
use crate::fixtures::golden::{golden, yaml};
use crate::fixtures::settings;
use crate::names::JOB_FILE;
use crate::streaming_job::build::{build, deployment};
use crate::validated::validate;

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
        http_token: Some(HttpToken { secret: "pages".to_owned(), key: "page.token".to_owned() }),
        ..settings()
    };
    golden("full.yaml", &documents(&serde_json::from_value(value).unwrap(), &settings, false));
}

#[test]
fn a_suspended_job_on_an_object_store() {
    let mut value = serde_json::to_value(job()).unwrap();
    value["spec"]["suspend"] = true.into();
    value["spec"]["storage"] = json!({
        "outputs": "s3://bucket/outputs",
        "checkpoints": "s3://bucket/checkpoints",
        "endpoint": "http://minio:9000",
        "pathStyle": false,
        "credentialsSecret": "bucket",
    });
    golden("object-store.yaml", &documents(&serde_json::from_value(value).unwrap(), &settings(), true));
}

#[test]
fn what_a_job_does_not_say_of_its_stores_is_the_operators_to_say_and_credentials_go_to_no_other_endpoint() {
    let stores = StorageSpec {
        endpoint: Some("https://minio:9000".to_owned()),
        region: Some("eu".to_owned()),
        credentials_secret: Some("all".to_owned()),
        ..StorageSpec::default()
    };
    let settings = RunnerSettings { stores, ..settings() };
    let with = |storage: Value, env: Value, text: &str| {
        let mut value = serde_json::to_value(job()).unwrap();
        value["spec"]["storage"] = storage;
        value["spec"]["pod"] = json!({"env": env});
        documents(&serde_json::from_value(value).unwrap(), &settings, true).contains(text)
    };
    let folder = "value: \"/etc/data-platform/secrets/all\"";
    assert!(with(json!({}), json!([]), folder));
    assert!(with(json!({}), json!([]), "value: \"https://minio:9000\""));
    assert!(with(json!({"credentialsSecret": "own"}), json!([]), "value: \"/etc/data-platform/secrets/own\""));
    assert!(!with(json!({"endpoint": "https://elsewhere"}), json!([]), folder));
    // The endpoint is that of the stores in which the data lie.
    for (place, variable) in
        [("gs://b", "GOOGLE_BASE_URL"), ("abfss://b@a.dfs.core.windows.net", "AZURE_STORAGE_ENDPOINT")]
    {
        let storage = json!({"outputs": format!("{place}/o"), "checkpoints": format!("{place}/c")});
        let is_set = |name: &str| with(storage.clone(), json!([]), &format!("- name: \"{name}\""));
        assert!(is_set(variable) && !is_set("AWS_ENDPOINT_URL"), "{place}");
    }
    let own = json!([{"name": "AWS_REGION", "value": "us"}]);
    assert!(with(json!({}), own.clone(), "value: \"us\"") && !with(json!({}), own, "value: \"eu\""));
}

#[test]
fn brokers_that_a_job_does_not_name_are_the_operators_to_name() {
    let settings = RunnerSettings { bootstrap_servers: Some("kafka:9092".to_owned()), ..settings() };
    let name = "\"KAFKA_BOOTSTRAP_SERVER\"";
    let with = |kafka: Value, env: Value| {
        let mut value = serde_json::to_value(job()).unwrap();
        value["spec"]["kafka"] = kafka;
        value["spec"]["pod"] = json!({"env": env});
        documents(&serde_json::from_value(value).unwrap(), &settings, true).matches(name).count()
    };
    assert_eq!(with(json!({}), json!([])), 1);
    assert_eq!(with(json!(null), json!([])), 1);
    assert_eq!(with(json!({"bootstrapServers": "own:9092"}), json!([])), 0);
    // Once in the configuration, once in the pod: the job's own.
    assert_eq!(with(json!({}), json!([{"name": "KAFKA_BOOTSTRAP_SERVER", "value": "own:9092"}])), 2);
}
