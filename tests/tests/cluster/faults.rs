//! Each fault shows under its own reason in `kubectl get`, soon, and says what to do. All faults at once, in one cluster.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use data_platform_runner::generate::EventSettings;
use data_platform_tests::{Broker, Record, needs_broker, needs_cluster};
use serde_json::{Value, json};

use super::platform::{Platform, TIMEOUT, condition, is_caught_up};
use crate::events::Stream;

/// From the moment at which a fault can be seen to its reason: 15 s between two looks at a runner, and its own start. On a
/// machine that also builds, twice that.
const SOON: Duration = Duration::from_secs(60);

/// A fault that is in the job's own YAML.
struct Fault {
    name: &'static str,
    /// What the condition Ready says of it.
    reason: &'static str,
    /// The condition that holds beside it.
    holds: &'static str,
    /// A merge patch of the job.
    change: Value,
}

fn faults(cluster: &str) -> Vec<Fault> {
    let fault = |name, reason, holds, change| Fault { name, reason, holds, change };
    let many: Vec<_> = (0..6_000).map(|user| format!("'{user}'")).collect();
    vec![
        fault("unschedulable", "Unschedulable", "Degraded", json!({"pod": {"nodeSelector": {"no-node": "has-this"}}})),
        fault(
            "crash-loop",
            "CrashLoop",
            "Degraded",
            json!({"pod": {"env": [{"name": "PATIENCE_SECONDS", "value": "nonsense"}]}}),
        ),
        fault(
            "out-of-memory",
            "OutOfMemory",
            "Degraded",
            // The least limit that container runtimes take is enough for a small job: planning this query takes more.
            json!({
                "pod": {"resources": {"limits": {"memory": "7Mi"}, "requests": {"memory": "7Mi"}}},
                "query": format!(
                    "SELECT window_start, count(*) AS events, CAST(window_start AS DATE) AS date FROM app_events \
                     WHERE user_id NOT IN ({}) GROUP BY tumble(timestamp, INTERVAL '1 minute')",
                    many.join(", ")
                ),
            }),
        ),
        fault(
            "secret-missing",
            "SecretMissing",
            "Stalled",
            json!({"kafka": {"sasl": {
                "mechanism": "SCRAM-SHA-256",
                "username": {"secretKeyRef": {"name": "nowhere", "key": "user"}},
                "password": {"secretKeyRef": {"name": "nowhere", "key": "password"}},
            }}}),
        ),
        fault(
            "kafka-unreachable",
            "KafkaUnreachable",
            "Degraded",
            json!({"kafka": {"bootstrapServers": format!("{cluster}:1")}}),
        ),
        // A file is where their folder belongs, see below.
        fault("checkpoint-denied", "StorageDenied", "Stalled", json!({})),
        fault("sink-denied", "StorageDenied", "Stalled", json!({})),
        fault("sql-error", "InvalidSpec", "Stalled", json!({"query": "SELECT nonsense FROM app_events"})),
        fault("suspended", "Suspended", "", json!({"suspend": true})),
        fault("storage-missing", "StorageMissing", "Stalled", json!({"storage": {"claimName": "nowhere"}})),
        fault(
            "reference-missing",
            "ReferenceMissing",
            "Stalled",
            json!({"references": [{
                "name": "users", "path": "users", "format": "delta", "columns": [{"name": "user_id", "type": "string"}],
            }]}),
        ),
    ]
}

/// A merge patch (RFC 7386).
fn merge(target: &mut Value, patch: &Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (name, value) in patch {
                merge(target.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (target, patch) => *target = patch.clone(),
    }
}

#[test]
fn every_fault_has_its_reason_soon_and_says_what_to_do() -> anyhow::Result<()> {
    let cluster = needs_cluster!();
    let mut stream = Stream::new(needs_broker!(), "faults", 1, EventSettings::default(), 6.0)?;
    stream.produce(1_000)?;
    let node = cluster.node_address().to_owned();
    let platform = Platform::install(cluster, "faults", &["--set", "runner.allowed.claims={nowhere}"])?;
    let namespace = &platform.namespace;

    // Bound by a pod that works, so that no fault is about the volume.
    let healthy = platform.event_aggregation("healthy", &stream)?;
    platform.apply(&healthy)?;
    platform.wait_for_job("healthy", "to be caught up", is_caught_up)?;
    let mut topic_missing = platform.event_aggregation("topic-missing", &stream)?;
    topic_missing["spec"]["sources"][0]["topics"] = json!(["nowhere"]);

    let volume = namespace.folder_of_claim("data-platform")?;
    for file in [format!("checkpoints/{}/checkpoint-denied", namespace.name()), "outputs/sink-denied".to_owned()] {
        std::fs::write(volume.join(&file), "")
            .with_context(|| format!("put a file where the folder {file} belongs"))?;
    }

    let garbage = format!("{}-garbage", stream.topic);
    stream.broker.create_topic(&garbage, 1, &[])?;
    stream.broker.produce(&garbage, (0..300).map(|number| Record::new(format!("no JSON {number}")).partition(0)))?;
    let mut dead_lettered = platform.event_aggregation("dead-lettered", &stream)?;
    dead_lettered["spec"]["sources"][0]["topics"] = json!([garbage]);

    let secured = Broker::private(&["--host", &node, "--sasl-plaintext", "--user", "alice:right"])?;
    let secret =
        r#"{apiVersion: v1, kind: Secret, metadata: {name: login}, stringData: {user: alice, password: wrong}}"#;
    namespace.apply(secret)?;
    let mut wrong_login = platform.event_aggregation("wrong-login", &stream)?;
    let login = |key: &str| json!({"secretKeyRef": {"name": "login", "key": key}});
    wrong_login["spec"]["kafka"]["bootstrapServers"] = secured.listener("SASL_PLAINTEXT")?.into();
    wrong_login["spec"]["kafka"]["sasl"] =
        json!({"mechanism": "SCRAM-SHA-256", "username": login("user"), "password": login("password")});

    namespace.kubectl(&["create", "service", "clusterip", "name-taken", "--tcp=80"])?;
    let name_taken = platform.event_aggregation("name-taken", &stream)?;

    let mut jobs = vec![
        (topic_missing, "TopicNotFound", "Degraded"),
        (dead_lettered, "AllDeadLettered", "Degraded"),
        (wrong_login, "AuthenticationFailed", "Stalled"),
        (name_taken, "NameTaken", "Stalled"),
    ];
    for fault in faults(&node) {
        let mut job = platform.event_aggregation(fault.name, &stream)?;
        merge(&mut job["spec"], &fault.change);
        jobs.push((job, fault.reason, fault.holds));
    }
    let mut wrong = Vec::new();
    for (job, ..) in &jobs {
        platform.apply(job)?;
    }
    let began = Instant::now();
    for (job, reason, holds) in &jobs {
        let name = job["metadata"]["name"].as_str().context("a name")?;
        let left = SOON.saturating_sub(began.elapsed()).max(Duration::from_secs(1));
        let found = namespace.wait_for(&format!("{name} to be {reason}"), left, || {
            let job = platform.job("sj", name).ok()?;
            let ready = condition(&job, "Ready");
            let as_told =
                ready["reason"] == *reason && (holds.is_empty() || condition(&job, holds)["status"] == "True");
            (as_told && !ready["message"].as_str().unwrap_or_default().is_empty()).then_some(ready)
        });
        match found {
            Ok(ready) => println!("{name}: {reason} after {:.1?}: {}", began.elapsed(), ready["message"]),
            Err(_) => {
                wrong.push(format!("{name} is not {reason}: {:#}", platform.job("sj", name)?["status"]["conditions"]))
            }
        }
    }
    let shown = namespace.kubectl(&["get", "sj", "-o", "wide"])?;
    println!("{shown}");
    ensure!(wrong.is_empty(), "{}\n{}\n{shown}", wrong.join("\n"), namespace.kubectl(&["get", "pods"])?);

    // Mended by the Secret alone: nobody restarts anything.
    let secret = secret.replace("wrong", "right");
    namespace.apply(&secret)?;
    platform.wait_for_job("wrong-login", "to log in with the right password", |job| {
        condition(job, "Ready")["reason"] != "AuthenticationFailed"
    })?;
    namespace.kubectl(&["delete", "service", "name-taken"])?;
    platform.wait_for_job("name-taken", "to run once the name is free", is_caught_up)?;

    for name in ["sql-error", "kafka-unreachable", "topic-missing"] {
        let selector = format!("involvedObject.name={name},involvedObject.kind=StreamingJob");
        let events = namespace.kubectl(&["get", "events", "--field-selector", &selector])?;
        ensure!(events.lines().count() <= 4, "an event for a transition, not for a look or an attempt:\n{events}");
    }
    Ok(())
}

#[test]
fn a_checkpoint_that_is_gone_and_a_query_that_does_not_fit_it_are_told() -> anyhow::Result<()> {
    let cluster = needs_cluster!();
    let mut stream = Stream::new(needs_broker!(), "checkpoints", 1, EventSettings::default(), 6.0)?;
    stream.produce(20_000)?;
    let platform = Platform::install(cluster, "checkpoints", &[])?;
    let (lost, changed) =
        (platform.event_aggregation("lost", &stream)?, platform.event_aggregation("changed", &stream)?);
    for job in [&lost, &changed] {
        platform.apply(job)?;
    }
    for name in ["lost", "changed"] {
        platform.wait_for_job(name, "to be caught up", is_caught_up)?;
    }

    let mut other = changed.clone();
    let query = other["spec"]["query"].as_str().context("a query")?.replace("count(*)", "count(event_id)");
    other["spec"]["query"] = query.into();
    let pods = platform.pods("changed")?;
    platform.apply(&other)?;
    let held = platform.wait_for_reason("changed", "QueryChanged")?;
    ensure!(condition(&held, "Stalled")["status"] == "True", "{:#}", held["status"]);
    ensure!(platform.pods("changed")? == pods, "the old pod goes on");
    platform.apply(&changed)?;
    platform.wait_for_job("changed", "to go on with the old query", is_caught_up)?;

    platform.namespace.kubectl(&["patch", "sj", "lost", "--type=merge", "--patch", r#"{"spec":{"suspend":true}}"#])?;
    platform.wait_for_reason("lost", "Suspended")?;
    let volume = platform.namespace.folder_of_claim("data-platform")?;
    let checkpoint = volume.join("checkpoints").join(platform.namespace.name()).join("lost");
    std::fs::remove_dir_all(&checkpoint).with_context(|| format!("remove {}", checkpoint.display()))?;
    platform.namespace.kubectl(&["patch", "sj", "lost", "--type=merge", "--patch", r#"{"spec":{"suspend":false}}"#])?;
    platform.wait_for_reason("lost", "CheckpointMissing")?;
    Ok(())
}

#[test]
fn an_image_that_is_missing_and_a_quota_are_told() -> anyhow::Result<()> {
    let cluster = needs_cluster!();
    let stream = Stream::new(needs_broker!(), "images", 1, EventSettings::default(), 6.0)?;
    let platform = Platform::install(cluster, "images", &["--set", "runner.image.tag=nowhere"])?;
    platform.apply(&platform.event_aggregation("image-missing", &stream)?)?;
    platform.wait_for_reason("image-missing", "ImageMissing")?;
    // The operator and the first job have a pod each.
    platform.namespace.kubectl(&["create", "quota", "full", "--hard=pods=2"])?;
    platform.apply(&platform.event_aggregation("quota", &stream)?)?;
    let mut batch = Platform::manifest("hourly-aggregates")?;
    batch["metadata"]["name"] = "quota-run".into();
    batch["spec"].as_object_mut().context("a spec")?.remove("schedule");
    platform.apply(&batch)?;
    let job = platform.wait_for_reason("quota", "QuotaExceeded")?;
    ensure!(condition(&job, "Ready")["message"].as_str().unwrap_or_default().contains("quota"), "{:#}", job["status"]);
    let run = platform.wait_for_status("batchjob", "quota-run", "to be QuotaExceeded", |job| {
        condition(job, "Ready")["reason"] == "QuotaExceeded"
    })?;
    let message = condition(&run, "Ready")["message"].as_str().unwrap_or_default().to_owned();
    ensure!(message.contains("exceeded quota: full"), "{message}");
    platform.namespace.kubectl(&["delete", "quota", "full"])?;
    platform.namespace.wait_for("the pod to be made when there is room", TIMEOUT, || {
        (platform.pods("quota").ok()?.len() == 1).then_some(())
    })?;
    Ok(())
}

#[test]
fn a_partition_without_a_leader_that_holds_the_watermark_back_is_named() -> anyhow::Result<()> {
    let cluster = needs_cluster!();
    let _shared = needs_broker!();
    let at_node = ["--host", cluster.node_address()];
    let broker = Broker::private(&at_node)?;
    let other = broker.join(&at_node)?;
    let mut stream = Stream::new(broker, "leaderless", 2, EventSettings::default(), 6.0)?;
    let lost = stream.broker.led_by(&other, &stream.topic)?;
    ensure!(lost.len() == 1, "the partitions are on both brokers: {lost:?} are on the other one");
    stream.produce(10_000)?;
    let platform = Platform::install(cluster, "leaderless", &[])?;
    platform.apply(&platform.event_aggregation("leaderless", &stream)?)?;
    platform.wait_for_job("leaderless", "to be caught up", is_caught_up)?;

    other.kill()?;
    // Event time goes on where there is a leader, and stands still where there is none.
    stream.produce_to(5_000, |_| 1 - lost[0])?;
    let job = platform.wait_for_reason("leaderless", "WatermarkHeld")?;
    let message = condition(&job, "Ready")["message"].as_str().unwrap_or_default().to_owned();
    ensure!(message.contains(&format!("{}[{}]", stream.topic, lost[0])), "{message}");
    ensure!(condition(&job, "Ready")["status"] == "True", "the other partition is read: {:#}", job["status"]);

    other.restart()?;
    platform.wait_for_job("leaderless", "to run again", |job| {
        is_caught_up(job) && condition(job, "Ready")["reason"] == "Running"
    })?;
    platform.check_closed_windows("leaderless", &stream)
}
