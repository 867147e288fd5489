use serde_json::json;

use super::*;
use crate::change::fields::between;
use crate::change::tests::{changed, not_covered};
use crate::change::{HeldBack, QueryChange};
use crate::streaming_job::StreamingJob;

const QUERY: &str = "SELECT window_start, k, count(*) AS n, sum(v) AS total FROM s WHERE v > 1 \
                     GROUP BY tumble(at, INTERVAL '${size}'), k";

fn spec() -> Value {
    let spec = json!({
        "parameters": {"size": "1 minute"},
        "kafka": {"bootstrapServers": "a:1"},
        "sources": [{
            "name": "s", "topics": ["t"], "eventTime": {"column": "at"},
            "columns": [
                {"name": "at", "type": "timestamp"}, {"name": "k", "type": "string", "required": true},
                {"name": "v", "type": "bigint", "path": "a.v"}, {"name": "unused", "type": "string"},
            ],
        }],
        "references": [{"name": "r", "path": "users", "format": "csv", "columns": [{"name": "u", "type": "string"}]}],
        "deduplicate": {"keys": ["k"], "within": "1h"},
        "query": QUERY, "sink": {"path": "counts"},
    });
    let spec: StreamingJobSpec = serde_json::from_value(spec).unwrap();
    serde_json::to_value(&spec).unwrap()
}

/// Where a field is, another value, and what that does. A path covers what lies below it.
fn table() -> Vec<(&'static str, Value, &'static str)> {
    const POD: &str = "new pod";
    const FRESH: &str = "fresh state";
    let secret = json!({"file": "/mnt/x"});
    let mut table = vec![
        ("template", json!("event-aggregation"), POD),
        ("parameters/size", json!("2 minutes"), FRESH),
        ("kafka/bootstrapServers", json!("b:1"), POD),
        ("kafka/config", json!({"fetch.min.bytes": "1"}), POD),
        ("kafka/failOnDataLoss", json!(true), POD),
        ("kafka/groupId", json!("g"), POD),
        ("kafka/isolationLevel", json!("readUncommitted"), POD),
        ("kafka/maxOffsetsPerTrigger", json!(9), POD),
        ("kafka/sasl", json!({"mechanism": "plain", "username": secret, "password": secret}), POD),
        ("kafka/schemaRegistry", json!({"url": "http://r:1"}), POD),
        ("kafka/startingOffsets", json!("earliest"), POD),
        ("kafka/tls", json!({"ca": secret}), POD),
        ("sources/0/name", json!("renamed"), FRESH),
        ("sources/0/topics", json!(["t", "u"]), POD),
        ("sources/0/topicPattern", json!("t.*"), POD),
        ("sources/0/format", json!("cdc"), FRESH),
        ("sources/0/framing", json!("confluent"), POD),
        ("sources/0/schema", json!({"subject": "t-value"}), POD),
        ("sources/0/maxDepth", json!(9), POD),
        ("sources/0/maxRecordBytes", json!("2Mi"), POD),
        ("sources/0/eventTime/column", json!("v"), FRESH),
        ("sources/0/eventTime/watermarkDelay", json!("9s"), POD),
        ("sources/0/eventTime/idleTimeout", json!("9s"), POD),
        ("sources/0/eventTime/maxFutureSkew", json!("9s"), POD),
        ("sources/0/eventTime/maxHold", json!("9h"), POD),
        ("sources/0/eventTime/policy", json!("max"), POD),
        ("sources/0/columns/1/name", json!("other"), FRESH),
        ("sources/0/columns/1/description", json!("who"), POD),
        ("sources/0/columns/1/required", json!(false), FRESH),
        ("sources/0/columns/1/minLength", json!(1), POD),
        ("sources/0/columns/1/maxLength", json!(9), POD),
        ("sources/0/columns/2/type", json!("double"), FRESH),
        ("sources/0/columns/2/path", json!("b.v"), FRESH),
        ("sources/0/columns/2/from", json!("key"), FRESH),
        ("sources/0/columns/0/timestampUnit", json!("seconds"), FRESH),
        ("sources/0/columns/3/type", json!("bigint"), POD),
        ("references/0/name", json!("q"), POD),
        ("references/0/path", json!("others"), POD),
        ("references/0/format", json!("parquet"), POD),
        ("references/0/reloadInterval", json!("9m"), POD),
        ("references/0/columns/0/name", json!("w"), POD),
        ("references/0/columns/0/type", json!("bigint"), POD),
        ("deduplicate/keys", json!(["k", "v"]), FRESH),
        ("deduplicate/within", json!("2h"), POD),
        ("trigger/interval", json!("1s"), POD),
        ("query", json!(QUERY.replace("sum(v)", "max(v)")), FRESH),
        ("query", json!(QUERY.replace("v > 1", "v > 2")), POD),
        ("sink/format", json!("csv"), POD),
        ("sink/path", json!("other"), POD),
        ("sink/topic", json!("other"), POD),
        ("sink/keyColumn", json!("k"), POD),
        ("sink/partitionBy", json!(["k"]), POD),
        ("sink/sortBy", json!(["k"]), POD),
        ("sink/targetFileSize", json!("9Mi"), POD),
        ("sink/compression", json!("snappy"), POD),
        ("sink/maxFiles", json!(4), POD),
        ("sink/maintenance", json!({"compactAfter": "24h", "retain": "2400h"}), POD),
        ("badRecords/action", json!("drop"), POD),
        ("badRecords/maxPercent", json!(9), POD),
        ("badRecords/path", json!("bad"), POD),
        ("badRecords/topic", json!("bad"), POD),
        ("lateRows/action", json!("deadLetter"), POD),
        ("checkpoint/name", json!("other"), "new log"),
        ("onQueryChange", json!("drain"), POD),
        ("stopTimeout", json!("9s"), POD),
        ("logLevel", json!("debug"), POD),
        ("suspend", json!(true), "stops"),
        ("replicas", json!(0), "stops"),
        ("storage/claimName", json!("c"), POD),
        ("storage/outputs", json!("s3://b/o"), POD),
        ("storage/checkpoints", json!("s3://b/c"), POD),
        ("storage/endpoint", json!("https://s"), POD),
        ("storage/region", json!("r"), POD),
        ("storage/pathStyle", json!(false), POD),
        ("storage/credentialsSecret", json!("s"), POD),
    ];
    for field in ["affinity", "annotations", "labels", "nodeSelector", "resources"] {
        table.push((format!("pod/{field}").leak(), json!({"requests": {"cpu": "1"}}), POD));
    }
    for field in ["priorityClassName", "serviceAccountName"] {
        table.push((format!("pod/{field}").leak(), json!("x"), POD));
    }
    table.push(("pod/doctor", json!(true), POD));
    table.push(("pod/env", json!([{"name": "A", "value": "b"}]), POD));
    table.push(("pod/tolerations", json!([{"operator": "Exists"}]), POD));
    table.push(("pod/volumes", json!([{"name": "v", "mountPath": "/mnt/v", "emptyDirSize": "1Gi"}]), POD));
    table
}

fn said(effect: &Effect) -> &'static str {
    match effect {
        Effect::NewPod { .. } => "new pod",
        Effect::Stops => "stops",
        Effect::Starts => "starts",
        Effect::FreshState { .. } => "fresh state",
        Effect::NewLog => "new log",
    }
}

/// What all fields that a new value changes do, together.
fn effect_of(pointer: &str, value: &Value) -> &'static str {
    let before = spec();
    let after = changed(&before, pointer, value.clone());
    let changes = between(&before, &after);
    assert!(!changes.is_empty(), "{pointer} {value} is as it was");
    let effects: Vec<_> = changes.iter().map(|change| said(&effect(change, &before))).collect();
    let is_fresh = effects.contains(&"fresh state");
    if is_fresh { "fresh state" } else { effects[0] }
}

#[test]
fn every_field_does_what_the_table_says() {
    for (pointer, value, expected) in table() {
        assert_eq!(effect_of(pointer, &value), expected, "{pointer} {value}");
    }
}

#[test]
fn every_field_of_the_spec_stands_in_the_table() {
    let table = table();
    let mut missing = not_covered("StreamingJob", table.iter().map(|(pointer, ..)| *pointer));
    // Each output is a query and a sink of its own: `outputs_are_queries_and_sinks_of_their_own`.
    missing.retain(|leaf| !leaf.starts_with("outputs."));
    assert!(missing.is_empty(), "say in the table what a change of {missing:?} does to a job that runs");
}

#[test]
fn outputs_are_queries_and_sinks_of_their_own() {
    let mut before = spec();
    let output = |name: &str, path: &str| json!({"name": name, "query": QUERY, "sink": {"path": path}});
    before["outputs"] = json!([output("a", "a"), output("b", "b")]);
    before.as_object_mut().unwrap().retain(|field, _| field != "query" && field != "sink");
    let of = |outputs: Value| {
        let after = changed(&before, "outputs", outputs);
        let changes = between(&before, &after);
        changes.iter().map(|change| (change.name(), said(&effect(change, &before)))).collect::<Vec<_>>()
    };
    let other = |query: String| json!([output("a", "a"), {"name": "b", "query": query, "sink": {"path": "b"}}]);
    let found = |name: &str, effect: &'static str| vec![(name.to_owned(), effect)];
    assert_eq!(of(other(QUERY.replace("sum(v)", "min(v)"))), found("outputs[b].query", "fresh state"));
    assert_eq!(of(other(QUERY.replace("AS n", "AS m"))), found("outputs[b].query", "new pod"));
    assert_eq!(of(json!([output("a", "a")])), found("outputs[b]", "fresh state"));
    assert_eq!(of(json!([output("a", "a"), output("b", "c")])), found("outputs[b].sink.path", "new pod"));
}

#[test]
fn the_part_of_a_query_that_counts_is_named() {
    let before = spec();
    for (from, to, says) in [
        ("sum(v)", "max(v)", "other aggregates"),
        (", k", ", k, v", "other window or keys"),
        ("tumble(at,", "tumble(v,", "other window or keys"),
    ] {
        let query = QUERY.rsplit_once(from).map(|(one, other)| format!("{one}{to}{other}")).unwrap();
        let after = changed(&before, "query", json!(query));
        let Effect::FreshState { why } = effect(&between(&before, &after)[0], &before) else { panic!("{to} is kept") };
        assert!(why.ends_with(says), "{to}: {why}");
    }
}

#[test]
fn a_job_says_what_becomes_of_its_windows() {
    let job = |spec: &Value| {
        let mut job = StreamingJob::new("a", serde_json::from_value(spec.clone()).unwrap());
        job.metadata.namespace = Some("n".to_owned());
        job
    };
    let (before, other) = (spec(), changed(&spec(), "query", json!(QUERY.replace("sum(v)", "max(v)"))));
    let held_back = QueryChange::HeldBack;
    for (policy, open, name, expected) in [
        ("wait", None, None, held_back(HeldBack::QueryChanged)),
        ("wait", Some(0), None, QueryChange::Kept),
        ("rebuild", Some(2), None, QueryChange::Rebuilt),
        ("drain", None, None, QueryChange::Drained),
        ("newLog", None, None, held_back(HeldBack::NewLogWithoutName)),
        ("newLog", None, Some("b"), QueryChange::NewLog),
        ("wait", None, Some("b"), held_back(HeldBack::CheckpointRenamed)),
    ] {
        let mut after = changed(&other, "onQueryChange", json!(policy));
        if let Some(name) = name {
            after = changed(&after, "checkpoint", json!({"name": name}));
        }
        assert_eq!(QueryChange::of(&job(&before), &job(&after), open), expected, "{policy} {open:?} {name:?}");
    }
    assert_eq!(QueryChange::of(&job(&before), &job(&before), None), QueryChange::Kept);
}
