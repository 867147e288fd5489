//! A reconcile as a whole, against an API server in memory.

use data_platform_crds::batch_job::BatchJob;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use crate::args::RunnerSettings;
use crate::batch_job::validate::ValidatedJob;
use crate::build::mounted;
use crate::clock;
use crate::fixtures::api_server::ApiServer;
use crate::fixtures::{Random, assert_same, children, server_with, settings, whatever_fails};
use crate::pod::PodFacts;
use crate::validated::validate;

mod check;
mod golden;

type Operator = crate::fixtures::Operator<BatchJob>;

/// A job with a schedule, as the API server has it.
pub(crate) fn job() -> BatchJob {
    let job = json!({
        "apiVersion": "dataplatform.io/v1alpha1",
        "kind": "BatchJob",
        "metadata": {
            "name": "a", "namespace": "n", "uid": "11111111-2222-3333-4444-555555555555", "generation": 1,
            "creationTimestamp": "2026-01-02T03:04:05Z",
        },
        "spec": {
            "schedule": "5 * * * *",
            "interval": "hour",
            "inputs": [{"name": "minutes", "path": "counts", "timeColumn": "window_start"}],
            "query": "SELECT count(*) AS n FROM minutes",
            "sink": {"path": "hours"},
        },
    });
    serde_json::from_value(job).expect("it is a job")
}

/// The same without a schedule.
pub(crate) fn once() -> BatchJob {
    let mut job = job();
    job.spec.schedule = None;
    job
}

/// The job after its checks.
pub(crate) fn validated(job: &BatchJob) -> ValidatedJob {
    validate(job, &settings()).expect("it is valid")
}

/// Lets every Job of the server end.
fn end_jobs(server: &ApiServer, condition: &str) {
    for name in server.names("jobs") {
        server.edit("jobs", &name, |job| {
            job["status"] = json!({
                "startTime": "2026-01-02T03:05:00Z", "completionTime": "2026-01-02T03:06:00Z",
                "conditions": [{"type": condition, "status": "True", "lastTransitionTime": "2026-01-02T03:06:00Z"}],
            });
        });
    }
}

fn change_spec(server: &ApiServer, change: impl FnOnce(&mut Value)) {
    server.edit("batchjobs", "a", |job| {
        change(&mut job["spec"]);
        job["metadata"]["generation"] = (job["metadata"]["generation"].as_i64().unwrap_or(0) + 1).into();
    });
}

fn status(server: &ApiServer) -> Value {
    server.get("batchjobs", "a").unwrap()["status"].clone()
}

#[tokio::test]
async fn a_job_with_a_schedule_becomes_a_cron_job_and_then_nothing_more_is_written() {
    let server = server_with(&job());
    let operator = Operator::new(&server);
    operator.settle().await;
    assert_eq!(server.names("cronjobs"), ["a"]);
    assert_eq!(server.names("configmaps").len(), 1);
    assert!(server.names("jobs").is_empty());
    assert_eq!(operator.ready().0, "Scheduled");
    let status = status(&server);
    assert_eq!(status["scheduler"], json!({"kind": "CronJob", "name": "a"}));
    let minute = status["nextScheduleTime"].as_str().unwrap_or_default();
    assert!(minute.ends_with(":05:00Z"), "{status}");
    let writes = server.writes();
    assert_eq!(writes, 4, "two children, a status, an event: {:#?}", server.log());
    operator.settle().await;
    Operator::new(&server).settle().await;
    assert_eq!(server.writes(), writes, "{:#?}", server.log());
}

#[tokio::test]
async fn a_job_without_a_schedule_runs_once_and_never_again() {
    let server = server_with(&once());
    let operator = Operator::new(&server);
    operator.settle().await;
    let name = server.names("jobs").remove(0);
    assert!(name.starts_with("a-"), "{name}");
    assert!(server.names("cronjobs").is_empty());
    end_jobs(&server, "Complete");
    operator.settle().await;
    assert_eq!(operator.ready().0, "Completed");
    assert_eq!(status(&server)["lastRun"]["result"], "Succeeded");
    // Gone is done, also for an operator that never saw it.
    server.remove("jobs", &name);
    let operator = Operator::new(&server);
    operator.settle().await;
    assert!(server.names("jobs").is_empty(), "{:#?}", server.log());
    assert_eq!(operator.ready().0, "Completed");
    change_spec(&server, |spec| spec["suspend"] = true.into());
    operator.settle().await;
    assert!(server.names("jobs").is_empty());
    assert_eq!(operator.ready().0, "Completed");
    change_spec(&server, |spec| spec["suspend"] = false.into());
    server.edit("batchjobs", "a", |job| job["metadata"]["annotations"] = json!({"dataplatform.io/restartedAt": "now"}));
    operator.settle().await;
    assert_eq!(server.names("jobs").len(), 1);
    assert_ne!(server.names("jobs"), [name]);
}

#[tokio::test]
async fn a_run_that_is_under_way_is_never_cut_short_by_a_change() {
    let server = server_with(&once());
    let operator = Operator::new(&server);
    operator.settle().await;
    let first = server.names("jobs").remove(0);
    let (config_map, made) = (server.names("configmaps").remove(0), server.get("jobs", &first));
    change_spec(&server, |spec| spec["query"] = "SELECT 2 AS n FROM minutes".into());
    operator.settle().await;
    assert_eq!(server.names("jobs").len(), 2);
    assert_eq!(server.get("jobs", &first), made);
    assert!(server.names("configmaps").contains(&config_map), "its pods may still start");
    end_jobs(&server, "Complete");
    operator.settle().await;
    assert_eq!(server.names("jobs").len(), 1);
    assert_eq!(server.names("configmaps").len(), 1);
    assert_ne!(server.names("jobs"), [first]);
}

#[tokio::test]
async fn a_configuration_stays_while_a_run_may_still_be_made_with_it() {
    let server = server_with(&job());
    let operator = Operator::new(&server);
    operator.settle().await;
    let (first, made) = (server.names("configmaps").remove(0), server.get("cronjobs", "a").unwrap());
    let changed_at = |time: Timestamp| {
        server.edit("cronjobs", "a", |cron_job| {
            cron_job["metadata"]["managedFields"] = json!([
                {"manager": "kube-controller-manager", "operation": "Update", "subresource": "status", "time": clock::now().to_string()},
                {"manager": "data-platform-operator", "operation": "Apply", "time": time.to_string()},
            ]);
        });
    };
    let long_ago = clock::now() - SignedDuration::from_secs(90);
    changed_at(long_ago);
    change_spec(&server, |spec| spec["query"] = "SELECT 2 AS n FROM minutes".into());
    operator.settle().await;
    assert_ne!(server.get("cronjobs", "a").unwrap()["spec"], made["spec"]);

    // The controller, whose cache is behind, makes a Job from the template that it knows.
    let mut run = json!({"metadata": {
        "name": "a-1", "namespace": "n", "labels": made["spec"]["jobTemplate"]["metadata"]["labels"],
        "ownerReferences": [{"apiVersion": "batch/v1", "kind": "CronJob", "name": "a", "uid": made["metadata"]["uid"], "controller": true}],
    }});
    run["spec"] = made["spec"]["jobTemplate"]["spec"].clone();
    assert!(mounted(&run["spec"]["template"]["spec"]).contains(&first));
    assert!(server.names("configmaps").contains(&first), "a run may still be made with it");
    server.put("jobs", run);
    changed_at(long_ago);
    operator.settle().await;
    assert!(server.names("configmaps").contains(&first), "a run mounts it");
    end_jobs(&server, "Complete");
    operator.settle().await;
    assert!(!server.names("configmaps").contains(&first), "nothing names it any more");
    assert_eq!(server.names("configmaps").len(), 1);
}

#[tokio::test]
async fn a_schedule_that_comes_or_goes_takes_the_other_object_away() {
    let server = server_with(&job());
    let operator = Operator::new(&server);
    operator.settle().await;
    change_spec(&server, |spec| spec["schedule"] = Value::Null);
    operator.settle().await;
    assert!(server.names("cronjobs").is_empty());
    assert_eq!(server.names("jobs").len(), 1);
    end_jobs(&server, "Complete");
    change_spec(&server, |spec| spec["schedule"] = "@daily".into());
    operator.settle().await;
    assert_eq!((server.names("cronjobs").len(), server.names("jobs").len()), (1, 0));
    assert_eq!(server.names("configmaps").len(), 1);
}

#[tokio::test]
async fn what_belongs_to_others_is_never_touched() {
    for (job, kind, reason) in [
        (job(), "cronjobs", "Scheduled"),
        (job(), "configmaps", "Scheduled"),
        (once(), "jobs", "RunActive"),
        (once(), "configmaps", "RunActive"),
    ] {
        let reference = server_with(&job);
        Operator::new(&reference).settle().await;
        let name = reference.names(kind).remove(0);
        let server = server_with(&job);
        // It looks like ours in all but its owner.
        let labels = reference.get(kind, &name).unwrap()["metadata"]["labels"].clone();
        let foreign = json!({"metadata": {"name": name, "namespace": "n", "labels": labels}, "spec": {"x": 1}});
        server.put(kind, foreign.clone());
        server
            .put(kind, json!({"metadata": {"name": "a-forged", "namespace": "n", "labels": labels}, "spec": {"x": 1}}));
        let before = (server.get(kind, &name), server.get(kind, "a-forged"));
        let operator = Operator::new(&server);
        operator.settle().await;
        assert_eq!((server.get(kind, &name), server.get(kind, "a-forged")), before, "{kind}");
        assert_eq!(operator.ready().0, "NameTaken", "{kind}");
        server.remove(kind, &name);
        operator.settle().await;
        assert_eq!(operator.ready().0, reason, "{kind}");
        assert_eq!(server.get(kind, "a-forged"), before.1, "{kind}");
    }
}

#[tokio::test]
async fn what_is_wrong_is_said_and_heals() {
    for (field, value, reason) in [
        ("schedule", json!("61 * * * *"), "InvalidSchedule"),
        ("timeZone", json!("Mars/Olympus"), "InvalidTimeZone"),
        ("inputs", json!(7), "InvalidSpec"),
        ("storage", json!({"claimName": "gone"}), "StorageMissing"),
        ("suspend", json!(true), "Suspended"),
    ] {
        let server = server_with(&job());
        let operator = Operator::new(&server);
        operator.settle().await;
        let spec = server.get("batchjobs", "a").unwrap()["spec"].clone();
        change_spec(&server, |spec| spec[field] = value);
        operator.settle().await;
        assert_eq!(operator.ready().0, reason);
        assert_eq!(server.names("cronjobs"), ["a"], "what is there goes on");
        change_spec(&server, |changed| *changed = spec);
        operator.settle().await;
        assert_eq!(operator.ready().0, "Scheduled", "after {reason}");
    }
}

#[tokio::test]
async fn whichever_call_fails_and_however_the_same_objects_come_out() {
    whatever_fails(&job()).await;
    whatever_fails(&once()).await;
}

/// A pod of a Job whose image cannot be had.
fn stuck_pod(server: &ApiServer, job: &str) -> PodFacts {
    let uid = server.get("jobs", job).unwrap()["metadata"]["uid"].clone();
    let waits = json!({"waiting": {"reason": "ImagePullBackOff", "message": "not found"}});
    let pod = json!({
        "metadata": {"name": format!("{job}-p"), "namespace": "n", "uid": "p", "labels": {
            "batch.kubernetes.io/controller-uid": uid, "dataplatform.io/job": "a", "dataplatform.io/kind": "BatchJob",
        }},
        "spec": {"containers": [{"name": "runner", "image": "wrong"}]},
        "status": {"containerStatuses": [{
            "name": "runner", "image": "wrong", "imageID": "", "ready": false, "restartCount": 0, "state": waits,
        }]},
    });
    PodFacts::of(&serde_json::from_value(pod).unwrap())
}

#[tokio::test]
async fn a_run_whose_image_cannot_be_had_is_made_anew_when_the_image_is_right() {
    let image = |server: &ApiServer, job: &str| {
        server.get("jobs", job).unwrap()["spec"]["template"]["spec"]["containers"][0]["image"].clone()
    };
    let wrong = || RunnerSettings { image: "wrong".to_owned(), ..settings() };
    // One without a schedule.
    let server = server_with(&once());
    let operator = Operator::with(&server, wrong());
    operator.settle().await;
    let name = server.names("jobs").remove(0);
    operator.context.scope.pods.apply(Event::Apply(stuck_pod(&server, &name)));
    operator.settle().await;
    assert_eq!((operator.ready().0.as_str(), image(&server, &name)), ("ImageMissing", json!("wrong")));
    let operator = Operator::new(&server);
    operator.context.scope.pods.apply(Event::Apply(stuck_pod(&server, &name)));
    operator.settle().await;
    assert_eq!(server.names("jobs"), std::slice::from_ref(&name));
    assert_eq!(image(&server, &name), settings().image);
    let mounts = mounted(&server.get("jobs", &name).unwrap()["spec"]["template"]["spec"]);
    assert_eq!(server.names("configmaps"), mounts, "its pod finds its configuration");
    assert_eq!(operator.ready().0, "RunActive");

    // One of a schedule: the runner reads from the name which interval is due.
    let server = server_with(&job());
    Operator::with(&server, wrong()).settle().await;
    let made = server.get("cronjobs", "a").unwrap();
    let scheduled = "batch.kubernetes.io/cronjob-scheduled-timestamp";
    let owner = json!({"apiVersion": "batch/v1", "kind": "CronJob", "name": "a", "uid": made["metadata"]["uid"], "controller": true});
    let mut run = json!({"metadata": {
        "name": "a-29", "namespace": "n", "labels": made["spec"]["jobTemplate"]["metadata"]["labels"],
        "annotations": {scheduled: "2026-01-01T00:05:00Z"}, "ownerReferences": [owner],
    }});
    run["spec"] = made["spec"]["jobTemplate"]["spec"].clone();
    server.put("jobs", run);
    let operator = Operator::new(&server);
    operator.context.scope.pods.apply(Event::Apply(stuck_pod(&server, "a-29")));
    operator.settle().await;
    assert_eq!(server.names("jobs"), ["a-29"]);
    assert_eq!(image(&server, "a-29"), settings().image);
    let again = server.get("jobs", "a-29").unwrap();
    assert_eq!(again["metadata"]["annotations"][scheduled], "2026-01-01T00:05:00Z");
    assert_eq!(again["metadata"]["ownerReferences"][0]["uid"], made["metadata"]["uid"]);
}

fn change(random: &mut Random, server: &ApiServer) {
    let kinds = ["configmaps", "cronjobs", "jobs"];
    let kind = kinds[random.below(3) as usize];
    let (what, number) = (random.below(9), random.below(5));
    let names = server.names(kind);
    let name = names.get(random.below(names.len().max(1) as u64) as usize);
    match (what, name) {
        (0, Some(name)) => server.remove(kind, name),
        (1, Some(name)) if kind == "cronjobs" => {
            server.edit(kind, name, |object| object["spec"]["schedule"] = format!("{number} * * * *").into());
        }
        (1, Some(_)) => end_jobs(server, "Complete"),
        (2, _) => change_spec(server, |spec| spec["schedule"] = Value::Null),
        (3, _) => change_spec(server, |spec| spec["schedule"] = format!("{number} * * * *").into()),
        (4, _) => change_spec(server, |spec| spec["suspend"] = (number % 2 == 0).into()),
        (5, _) => change_spec(server, |spec| spec["backoffLimit"] = number.into()),
        (6, _) => change_spec(server, |spec| spec["query"] = format!("SELECT {number} AS n FROM minutes").into()),
        (7, _) => change_spec(server, |spec| spec["pod"]["labels"] = json!({"team": format!("t{number}")})),
        _ => server.edit("batchjobs", "a", |job| {
            job["metadata"]["annotations"] = json!({"dataplatform.io/restartedAt": number.to_string()});
        }),
    }
}

/// Whatever happens to a job, once its runs have ended it has what it would have if it had been applied at once. With a
/// schedule: a run without one is made only once, and that is history.
#[tokio::test]
async fn random_sequences_of_changes_end_like_a_fresh_apply() {
    let seed = std::env::var("DATA_PLATFORM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(4);
    for sequence in 0..300_u64 {
        let mut random = Random(seed + sequence * 1_000_003);
        let server = server_with(&job());
        let operator = Operator::new(&server);
        for _ in 0..1 + random.below(12) {
            change(&mut random, &server);
            match random.below(3) {
                0 => operator.settle().await,
                1 => {
                    // A reconcile over stale caches.
                    operator.reconcile().await;
                }
                _ => {}
            }
        }
        change_spec(&server, |spec| spec["schedule"] = "7 * * * *".into());
        end_jobs(&server, "Complete");
        operator.settle().await;
        let fresh = ApiServer::default();
        fresh.put("persistentvolumeclaims", server.get("persistentvolumeclaims", "data").unwrap());
        let mut job = server.get("batchjobs", "a").unwrap();
        job.as_object_mut().unwrap().remove("status");
        fresh.put("batchjobs", job);
        Operator::new(&fresh).settle().await;
        assert_same(&children(&server), &children(&fresh), &format!("seed {seed}, sequence {sequence}"));
    }
}
