//! The check of a job's SQL before its first run, as whole reconciles.

use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use super::{Operator, change_spec, job, once, status};
use crate::args::RunnerSettings;
use crate::batch_job::build::build;
use crate::fixtures::api_server::ApiServer;
use crate::fixtures::golden::{golden, yaml};
use crate::fixtures::{server_with, settings};
use crate::pod::PodFacts;
use crate::validated::validate;

fn with_checks() -> RunnerSettings {
    RunnerSettings { checks: true, ..settings() }
}

/// Lets the pod of a check end, and its Job.
fn end(server: &ApiServer, operator: &Operator, check: &str, code: i32, message: &str) {
    let uid = server.get("jobs", check).unwrap()["metadata"]["uid"].clone();
    let ended = json!({"terminated": {
        "exitCode": code, "reason": "Error", "message": message, "finishedAt": "2026-01-02T03:06:00Z",
    }});
    pod(operator, &uid, ended);
    let (condition, reason) = if code == 0 { ("Complete", "") } else { ("Failed", "PodFailurePolicy") };
    server.edit("jobs", check, |job| {
        job["status"] = json!({"startTime": "2026-01-02T03:05:00Z", "conditions": [
            {"type": condition, "status": "True", "reason": reason, "lastTransitionTime": "2026-01-02T03:06:00Z"},
        ]});
    });
}

fn pod(operator: &Operator, job_uid: &Value, state: Value) {
    let pod = json!({
        "metadata": {"name": "p", "namespace": "n", "uid": "p", "labels": {
            "batch.kubernetes.io/controller-uid": job_uid, "dataplatform.io/job": "a",
            "dataplatform.io/kind": "BatchJob", "dataplatform.io/check": "true",
        }},
        "spec": {"containers": [{"name": "runner", "image": "i"}]},
        "status": {"containerStatuses": [{
            "name": "runner", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state,
        }]},
    });
    operator.context.scope.pods.apply(Event::Apply(PodFacts::of(&serde_json::from_value(pod).unwrap())));
}

const WRONG: &str = r#"{"reason": "InvalidSpec", "message": "spec.query: there is no column usr_id"}"#;

#[tokio::test]
async fn wrong_sql_is_said_before_the_first_run_is_due_and_once_for_a_spec() {
    let server = server_with(&job());
    let operator = Operator::with(&server, with_checks());
    operator.settle().await;
    let check = server.names("jobs").remove(0);
    assert_eq!(operator.ready().0, "Starting");
    assert!(status(&server)["active"].is_null(), "it is no run: {}", status(&server));
    end(&server, &operator, &check, 2, WRONG);
    operator.settle().await;
    let (reason, message) = operator.ready();
    assert_eq!(reason, "InvalidSpec");
    assert!(message.contains("there is no column usr_id"), "{message}");
    assert!(status(&server)["lastRun"].is_null(), "it was no run");
    assert!(server.names("jobs").is_empty(), "its answer is written");
    assert_eq!(server.names("cronjobs"), ["a"], "runs are not kept from starting");
    // Another operator, another time: it is known.
    let operator = Operator::with(&server, with_checks());
    operator.settle().await;
    change_spec(&server, |spec| spec["schedule"] = "7 * * * *".into());
    operator.settle().await;
    assert!(server.names("jobs").is_empty());
    assert_eq!(operator.ready().0, "InvalidSpec");
    // Corrected.
    change_spec(&server, |spec| spec["query"] = "SELECT 2 AS n FROM minutes".into());
    operator.settle().await;
    let check = server.names("jobs").remove(0);
    assert_eq!(operator.ready().0, "Starting");
    end(&server, &operator, &check, 0, "");
    operator.settle().await;
    assert_eq!(operator.ready().0, "Scheduled");
    assert!(server.names("jobs").is_empty());
    assert_eq!(server.names("configmaps").len(), 1, "that of the schedule");
}

#[tokio::test]
async fn a_check_that_cannot_run_says_why_and_is_another_one_when_the_image_is_right() {
    let server = server_with(&job());
    let operator = Operator::with(&server, RunnerSettings { image: "wrong".to_owned(), ..with_checks() });
    operator.settle().await;
    let first = server.names("jobs").remove(0);
    let uid = server.get("jobs", &first).unwrap()["metadata"]["uid"].clone();
    pod(&operator, &uid, json!({"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}));
    operator.settle().await;
    assert_eq!(operator.ready().0, "ImageMissing");
    let operator = Operator::with(&server, with_checks());
    operator.settle().await;
    let second = server.names("jobs");
    assert!(second.len() == 1 && second[0] != first, "{second:?}");
    // A runner of a version that knows no check ends with 2, too, and without a last message.
    end(&server, &operator, &second[0], 2, "error: unexpected argument");
    operator.settle().await;
    assert_eq!(operator.ready().0, "Scheduled");
    assert!(server.names("jobs").is_empty());
}

#[tokio::test]
async fn a_job_that_runs_at_once_is_not_checked_and_a_suspended_one_is() {
    let server = server_with(&once());
    let operator = Operator::with(&server, with_checks());
    operator.settle().await;
    assert_eq!(server.names("jobs").len(), 1);
    assert_eq!(operator.ready().0, "RunActive");

    let mut suspended = once();
    suspended.spec.suspend = true;
    let server = server_with(&suspended);
    let operator = Operator::with(&server, with_checks());
    operator.settle().await;
    let check = server.names("jobs").remove(0);
    assert_eq!(operator.ready().0, "Suspended");
    end(&server, &operator, &check, 2, WRONG);
    operator.settle().await;
    assert_eq!(operator.ready().0, "InvalidSpec");
    assert!(server.names("jobs").is_empty() && server.names("configmaps").is_empty(), "{:#?}", server.log());
}

#[tokio::test]
async fn checks_of_many_jobs_do_not_fill_a_cluster_and_those_of_others_are_left() {
    let server = server_with(&job());
    for i in 0..5 {
        server.put("jobs", json!({
            "metadata": {
                "name": format!("other-{i}"), "namespace": "n", "creationTimestamp": crate::clock::now().to_string(),
                "labels": {
                    "dataplatform.io/check": "true", "dataplatform.io/job": "other",
                    "app.kubernetes.io/managed-by": "data-platform", "dataplatform.io/kind": "BatchJob",
                },
            },
            "spec": {},
        }));
    }
    let operator = Operator::with(&server, with_checks());
    operator.settle().await;
    assert_eq!(server.names("jobs").len(), 5);
    assert_eq!(operator.ready().0, "Scheduled", "it waits for nobody");
    server.remove("jobs", "other-0");
    operator.settle().await;
    assert_eq!(server.names("jobs").len(), 5);
    assert_eq!(operator.ready().0, "Starting");
}

#[test]
fn the_job_of_a_check_asks_for_little_whatever_its_runs_need() {
    let mut value = serde_json::to_value(job()).unwrap();
    value["spec"]["pod"] = json!({"resources": {
        "requests": {"cpu": "8", "memory": "32Gi"}, "limits": {"memory": "64Gi"},
    }});
    let validated = validate(&serde_json::from_value(value).unwrap(), &settings()).unwrap();
    let built = build(&validated, &settings(), true);
    let check = super::super::check::build(&validated, &built, &settings(), true);
    golden("batch/check.yaml", &format!("---\n{}", yaml(&check.object, 0)));
}
