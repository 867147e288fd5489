//! What is built of a job, as files that a person can read.

use data_platform_crds::batch_job::BatchJob;
use serde_json::{Value, json};

use super::{job, once};
use crate::batch_job::build::build;
use crate::fixtures::golden::{golden, yaml};
use crate::fixtures::settings;
use crate::names::JOB_FILE;
use crate::validated::validate;

/// The children as YAML documents. The configuration is shown as a value: as text nobody could read it.
fn documents(job: &BatchJob) -> String {
    let built = build(&validate(job, &settings()).unwrap(), &settings(), true);
    let mut config_map = built.config_map.object.clone();
    let config: Value = serde_json::from_str(config_map["data"][JOB_FILE].as_str().unwrap()).unwrap();
    config_map["data"] = json!({JOB_FILE: config, "template.json": "(the pod template below)"});
    [config_map, built.scheduler.object].iter().map(|document| format!("---\n{}", yaml(document, 0))).collect()
}

#[test]
fn a_job_with_a_schedule() {
    golden("batch/scheduled.yaml", &documents(&job()));
}

#[test]
fn a_job_that_runs_once() {
    golden("batch/once.yaml", &documents(&once()));
}

#[test]
fn a_job_with_every_setting_of_its_runs() {
    let mut value = serde_json::to_value(job()).unwrap();
    value["metadata"]["annotations"] = json!({"dataplatform.io/restartedAt": "2026-01-01"});
    for (field, setting) in [
        ("timeZone", json!("Europe/Berlin")),
        ("suspend", json!(true)),
        ("concurrencyPolicy", json!("Replace")),
        ("startingDeadlineSeconds", json!(600)),
        ("successfulJobsHistoryLimit", json!(1)),
        ("failedJobsHistoryLimit", json!(0)),
        ("backoffLimit", json!(7)),
        ("activeDeadlineSeconds", json!(3600)),
        ("pod", json!({"labels": {"team": "data"}, "doctor": true, "env": [{"name": "AWS_REGION", "value": "eu"}]})),
    ] {
        value["spec"][field] = setting;
    }
    golden("batch/full.yaml", &documents(&serde_json::from_value(value).unwrap()));
}
