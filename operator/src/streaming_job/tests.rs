//! A reconcile as a whole, against an API server in memory.

use data_platform_crds::condition::Reason;
use data_platform_crds::streaming_job::StreamingJob;
use serde_json::json;

use crate::args::RunnerSettings;
use crate::cache::{JobKey, JobKind};
use crate::fixtures::api_server::ApiServer;
use crate::fixtures::{Random, assert_same, children, server_with, settings, whatever_fails};
use crate::observed::Observed;
use crate::pod::{Exit, PodFacts};
use crate::streaming_job::validate::ValidatedJob;
use crate::validated::validate;

mod golden;

type Operator = crate::fixtures::Operator<StreamingJob>;

/// A job as the API server has it.
pub(crate) fn job() -> StreamingJob {
    let job = json!({
        "apiVersion": "dataplatform.io/v1alpha1",
        "kind": "StreamingJob",
        "metadata": {
            "name": "a", "namespace": "n", "uid": "11111111-2222-3333-4444-555555555555", "generation": 1,
            "creationTimestamp": "2026-01-02T03:04:05Z",
        },
        "spec": {
            "kafka": {"bootstrapServers": "kafka:9092"},
            "sources": [{
                "name": "s", "topics": ["t"], "columns": [{"name": "t", "type": "timestamp"}], "eventTime": {"column": "t"},
            }],
            "query": "SELECT window_start, count(*) AS n FROM s GROUP BY tumble(t, INTERVAL '1 minute')",
            "sink": {"path": "counts"},
        },
    });
    serde_json::from_value(job).expect("it is a job")
}

/// The job after its checks.
pub(crate) fn validated(job: &StreamingJob) -> ValidatedJob {
    validate(job, &settings()).expect("it is valid")
}

#[tokio::test]
async fn a_job_becomes_its_children_and_then_nothing_more_is_written() {
    let server = server_with(&job());
    let operator = Operator::new(&server);
    operator.settle().await;
    assert_eq!(server.names("deployments"), ["a"]);
    assert_eq!(server.names("services"), ["a"]);
    assert_eq!(server.names("configmaps").len(), 1);
    assert_eq!(operator.ready().0, "Starting");
    let writes = server.writes();
    assert_eq!(writes, 4, "three children and a status: {:#?}", server.log());
    let reads = server.log().iter().filter(|line| line.starts_with("GET")).count();
    assert_eq!(reads, 1, "the claim: {:#?}", server.log());
    for _ in 0..3 {
        operator.settle().await;
    }
    assert_eq!(server.writes(), writes);
    let key = JobKey { kind: JobKind::Streaming, namespace: "n".to_owned(), name: "a".to_owned() };
    let is_settled = |uid: &str| operator.context.remember(&key, uid, |memory| memory.settled.is_some());
    assert!(is_settled(job().metadata.uid.as_deref().unwrap()), "the same is not looked at again");
    // Another process finds everything as it should be.
    Operator::new(&server).settle().await;
    assert_eq!(server.writes(), writes, "{:#?}", server.log());
}

#[tokio::test]
async fn while_many_jobs_wait_for_their_objects_those_go_before_what_is_said() {
    let mut young = job();
    let created = crate::clock::now() - std::time::Duration::from_secs(5);
    young.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(created));
    let server = server_with(&young);
    let operator = Operator::new(&server);
    let key = |name: &str| JobKey { kind: JobKind::Streaming, namespace: "n".to_owned(), name: name.to_owned() };
    for i in 0..20 {
        operator.context.appeared(key(&format!("other-{i}")));
    }
    operator.settle().await;
    assert_eq!((server.writes(), server.names("deployments").len()), (3, 1), "no status: {:#?}", server.log());
    for i in 0..20 {
        operator.context.looked_at(&key(&format!("other-{i}")));
    }
    operator.settle().await;
    assert_eq!(server.writes(), 4, "and now a status: {:#?}", server.log());
    assert_eq!(operator.ready().0, "Starting");
}

#[tokio::test]
async fn drift_is_repaired_and_what_others_added_stays() {
    let server = server_with(&job());
    let operator = Operator::new(&server);
    operator.settle().await;
    let settled = server.get("deployments", "a").unwrap();
    server.edit("deployments", "a", |deployment| {
        deployment["spec"]["replicas"] = 3.into();
        deployment["spec"]["template"]["spec"]["containers"][0]["image"] = "evil".into();
        deployment["metadata"]["labels"]["team"] = "x".into();
    });
    server.remove("services", "a");
    operator.settle().await;
    let repaired = server.get("deployments", "a").unwrap();
    assert_eq!(repaired["spec"], settled["spec"]);
    assert_eq!(repaired["metadata"]["labels"]["team"], "x");
    assert_eq!(server.names("services"), ["a"]);
}

#[tokio::test]
async fn what_belongs_to_others_is_never_touched() {
    let reference = server_with(&job());
    Operator::new(&reference).settle().await;
    for kind in ["services", "deployments", "configmaps"] {
        let name = reference.names(kind).remove(0);
        // A stranger, and one that looks like ours in all but its owner.
        for labels in [json!({"app": "other"}), reference.get(kind, &name).unwrap()["metadata"]["labels"].clone()] {
            let server = server_with(&job());
            let foreign =
                |name: &str| json!({"metadata": {"name": name, "namespace": "n", "labels": labels}, "spec": {"x": 1}});
            server.put(kind, foreign(&name));
            server.put(kind, foreign("a-forged"));
            let before = (server.get(kind, &name), server.get(kind, "a-forged"));
            let operator = Operator::new(&server);
            operator.settle().await;
            assert_eq!((server.get(kind, &name), server.get(kind, "a-forged")), before, "{kind}");
            let (reason, message) = operator.ready();
            assert_eq!(reason, "NameTaken", "{message}");
            server.remove(kind, &name);
            operator.settle().await;
            assert_eq!(operator.ready().0, "Starting");
            assert_eq!(server.get(kind, "a-forged"), before.1, "{kind}");
        }
    }
}

#[tokio::test]
async fn a_missing_claim_and_a_wrong_spec_are_said_and_heal() {
    let server = server_with(&job());
    server.remove("persistentvolumeclaims", "data");
    let operator = Operator::new(&server);
    operator.settle().await;
    assert_eq!(operator.ready().0, "StorageMissing");
    assert!(server.names("deployments").is_empty());

    let server = server_with(&job());
    server.edit("streamingjobs", "a", |job| job["spec"]["sources"] = 7.into());
    let operator = Operator::new(&server);
    operator.settle().await;
    let (reason, message) = operator.ready();
    assert_eq!(reason, "InvalidSpec");
    assert!(message.contains("cannot read"), "{message}");
    server.edit("streamingjobs", "a", |found| {
        found["spec"] = serde_json::to_value(job().spec).unwrap();
        found["metadata"]["generation"] = 2.into();
    });
    operator.settle().await;
    assert_eq!(operator.ready().0, "Starting");
}

#[tokio::test]
async fn a_suspended_job_has_no_pods_and_keeps_everything_else() {
    let server = server_with(&job());
    let operator = Operator::new(&server);
    operator.settle().await;
    server.edit("streamingjobs", "a", |job| {
        job["spec"]["suspend"] = true.into();
        job["metadata"]["generation"] = 2.into();
    });
    operator.settle().await;
    assert_eq!(server.get("deployments", "a").unwrap()["spec"]["replicas"], 0);
    assert_eq!(operator.ready().0, "Suspended");
    assert_eq!(server.names("configmaps").len(), 1, "the old configuration is named by nothing any more");
}

#[tokio::test]
async fn an_upgrade_of_the_operator_keeps_every_pod_and_repairs_with_the_old_template() {
    let server = server_with(&job());
    Operator::new(&server).settle().await;
    let template = || server.get("deployments", "a").unwrap()["spec"]["template"].clone();
    let before = template();
    let newer = RunnerSettings { image: "runner:2".to_owned(), ..settings() };
    let operator = Operator::with(&server, newer.clone());
    operator.settle().await;
    assert_eq!(template(), before);
    server.edit("deployments", "a", |deployment| {
        deployment["spec"]["template"]["spec"]["containers"][0]["image"] = "evil".into();
    });
    operator.settle().await;
    assert_eq!(template(), before, "drift is repaired with what was made, not with what would be made now");
    server.edit("streamingjobs", "a", |job| {
        job["metadata"]["annotations"] = json!({"dataplatform.io/restartedAt": "now"});
    });
    operator.settle().await;
    assert_eq!(template()["spec"]["containers"][0]["image"], "runner:2");
    assert_eq!(server.names("configmaps").len(), 1);

    let server = server_with(&job());
    Operator::new(&server).settle().await;
    let auto = RunnerSettings { rollout: crate::args::Rollout::Auto, ..newer };
    Operator::with(&server, auto).settle().await;
    assert_eq!(
        server.get("deployments", "a").unwrap()["spec"]["template"]["spec"]["containers"][0]["image"],
        "runner:2"
    );
}

#[tokio::test]
async fn a_job_that_is_created_again_waits_for_its_predecessors_children() {
    let server = server_with(&job());
    Operator::new(&server).settle().await;
    let mut again = job();
    again.metadata.uid = Some("99999999-2222-3333-4444-555555555555".to_owned());
    server.remove("streamingjobs", "a");
    server.put("streamingjobs", serde_json::to_value(&again).unwrap());
    let operator = Operator::new(&server);
    operator.settle().await;
    let (reason, message) = operator.ready();
    assert_eq!(reason, "Starting");
    assert!(message.contains("still being deleted"), "{message}");
    for (kind, name) in [("services", "a"), ("deployments", "a")] {
        server.remove(kind, name);
    }
    for name in server.names("configmaps") {
        server.remove("configmaps", &name);
    }
    operator.settle().await;
    let owner = server.get("deployments", "a").unwrap()["metadata"]["ownerReferences"][0]["uid"].clone();
    assert_eq!(owner, "99999999-2222-3333-4444-555555555555");
}

#[tokio::test]
async fn whichever_call_fails_and_however_the_same_objects_come_out() {
    whatever_fails(&job()).await;
}

fn change(random: &mut Random, server: &ApiServer) {
    let kinds = ["configmaps", "services", "deployments"];
    let kind = kinds[random.below(3) as usize];
    let (what, number) = (random.below(9), random.below(5));
    if what >= 7 {
        // Somebody else changes or deletes a child.
        let names = server.names(kind);
        let Some(name) = names.get(random.below(names.len().max(1) as u64) as usize) else { return };
        if what == 7 {
            server.remove(kind, name);
        } else {
            server.edit(kind, name, |object| match kind {
                "deployments" => object["spec"]["replicas"] = number.into(),
                _ => object["metadata"]["annotations"]["dataplatform.io/applied"] = "something".into(),
            });
        }
        return;
    }
    server.edit("streamingjobs", "a", |job| {
        let generation = job["metadata"]["generation"].as_i64().unwrap_or(0) + i64::from(what != 6);
        job["metadata"]["generation"] = generation.into();
        match what {
            0 => job["spec"]["suspend"] = (number % 2 == 0).into(),
            1 => job["spec"]["trigger"]["interval"] = format!("{}s", number + 1).into(),
            2 => job["spec"]["pod"]["labels"] = json!({"team": format!("t{number}")}),
            3 => job["spec"]["pod"]["env"] = json!([{"name": format!("E{number}"), "value": "v"}]),
            4 => job["spec"]["replicas"] = (number % 2).into(),
            5 => job["spec"]["query"] = format!("SELECT {number} AS n FROM s").into(),
            _ => job["metadata"]["annotations"] = json!({"dataplatform.io/restartedAt": number.to_string()}),
        }
    });
}

/// Whatever happens to a job, in the end it has what it would have if it had been applied at once.
#[tokio::test]
async fn random_sequences_of_changes_end_like_a_fresh_apply() {
    let seed = std::env::var("DATA_PLATFORM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(4);
    for sequence in 0..500_u64 {
        let mut random = Random(seed + sequence * 1_000_003);
        let server = server_with(&job());
        let operator = Operator::new(&server);
        let changes = 1 + random.below(12);
        for _ in 0..changes {
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
        operator.settle().await;
        let fresh = ApiServer::default();
        fresh.put("persistentvolumeclaims", server.get("persistentvolumeclaims", "data").unwrap());
        let mut job = server.get("streamingjobs", "a").unwrap();
        job.as_object_mut().unwrap().remove("status");
        fresh.put("streamingjobs", job);
        Operator::new(&fresh).settle().await;
        assert_same(&children(&server), &children(&fresh), &format!("seed {seed}, sequence {sequence}"));
    }
}

#[test]
fn the_key_of_a_job_is_that_of_its_children() {
    let observed: Observed<StreamingJob> = serde_json::from_value(serde_json::to_value(job()).unwrap()).unwrap();
    let key = crate::watch::key(&observed);
    assert_eq!(key, JobKey { kind: JobKind::Streaming, namespace: "n".to_owned(), name: "a".to_owned() });
}

#[tokio::test]
async fn a_job_that_flaps_makes_few_events_and_few_writes_and_its_last_word_is_told() {
    let server = server_with(&job());
    // Neither state has children: this is about what is said.
    let operator = Operator::with(&server, RunnerSettings { claim: None, ..settings() });
    let began = crate::clock::instant();
    for i in 0..10_000_i64 {
        server.edit("streamingjobs", "a", |job| {
            job["spec"]["stopTimeout"] = if i % 2 == 0 { "9d" } else { "30s" }.into();
            job["metadata"]["generation"] = (i + 2).into();
        });
        assert!(operator.reconcile().await);
    }
    let log = server.log();
    let writes = |path: &str| log.iter().filter(|line| line.contains(path)).count();
    let (events, statuses) = (writes("events"), writes("/status"));
    // What the time on the wall allows, which is long on a busy machine: an event in 45 s, four writes in a minute.
    let seconds = usize::try_from(crate::clock::since(began).as_secs()).unwrap();
    assert!((20..=22 + seconds / 45).contains(&events), "{events} events in {seconds} s");
    assert!((60..=62 + seconds / 15).contains(&statuses), "{statuses} writes of the status in {seconds} s");
}

#[tokio::test]
async fn the_take_over_annotation_reaches_the_runner_and_one_that_is_no_number_is_refused() {
    let server = server_with(&job());
    let operator = Operator::new(&server);
    operator.settle().await;
    let env = || {
        let pod = server.get("deployments", "a").unwrap()["spec"]["template"]["spec"]["containers"][0]["env"].clone();
        let variables = pod.as_array().unwrap().clone();
        let found = variables.iter().find(|variable| variable["name"] == "DATA_PLATFORM_TAKEOVER");
        found.map(|variable| variable["value"].clone())
    };
    assert_eq!(env(), None);
    let annotate = |number: &str| {
        server.edit("streamingjobs", "a", |job| {
            job["metadata"]["annotations"]["dataplatform.io/takeover"] = number.into()
        });
    };
    annotate("2");
    operator.settle().await;
    assert_eq!(env(), Some(json!("2")));
    annotate("all");
    operator.settle().await;
    let (reason, message) = operator.ready();
    assert!(reason == "InvalidSpec" && message.contains("dataplatform.io/takeover"), "{reason}: {message}");
    assert_eq!(env(), Some(json!("2")), "what runs goes on");
}

#[tokio::test]
async fn a_fenced_pod_that_is_alone_is_replaced_once() {
    let server = server_with(&job());
    let operator = Operator::new(&server);
    operator.settle().await;
    let mark = || {
        let template = server.get("deployments", "a").unwrap()["spec"]["template"].clone();
        template["metadata"]["annotations"]["dataplatform.io/given-up"].as_str().map(str::to_owned)
    };
    assert_eq!(mark(), None);
    let labels = crate::names::labels("StreamingJob", "a");
    let metadata = json!({"name": "p", "namespace": "n", "uid": "p", "resourceVersion": "9", "labels": labels});
    let exit = Exit { time: crate::clock::now(), code: 3, reason: Reason::Fenced, message: String::new(), run: None };
    operator.context.scope.pods.note(PodFacts {
        metadata: serde_json::from_value(metadata).unwrap(),
        last_exit: Some(exit),
        ever_ran: true,
        ..PodFacts::default()
    });
    operator.settle().await;
    let given_up = mark().unwrap();
    operator.settle().await;
    Operator::new(&server).settle().await;
    assert_eq!(mark(), Some(given_up), "the mark stays, whoever looks");
}
