use serde_json::json;

use super::*;
use crate::batch_job::{BatchJobSpec, OF_A_BACKFILL};
use crate::change::fields::between;
use crate::change::tests::{changed, not_covered};

fn spec() -> Value {
    let spec = json!({
        "schedule": "5 * * * *", "interval": "hour", "query": "SELECT at, k FROM t", "sink": {"path": "hours"},
        "inputs": [{"name": "t", "path": "in", "timeColumn": "at"}],
    });
    let spec: BatchJobSpec = serde_json::from_value(spec).unwrap();
    serde_json::to_value(&spec).unwrap()
}

/// Where a field is, another value, and what that does to a job with a schedule and to one without. A path covers what lies
/// below it.
fn table() -> Vec<(&'static str, Value, &'static str, &'static str)> {
    const NEXT: &str = "next run";
    const AGAIN: &str = "runs again";
    const NOTHING: &str = "nothing";
    let both = |path, value, effect| (path, value, effect, effect);
    let computes = |path, value| (path, value, NEXT, AGAIN);
    let of_runs = |path, value| (path, value, NEXT, NOTHING);
    let mut table = vec![
        computes("template", json!("hourly-aggregates")),
        computes("parameters/p", json!("1")),
        of_runs("schedule", json!("6 * * * *")),
        of_runs("timeZone", json!("Europe/Berlin")),
        both("suspend", json!(true), "stops"),
        of_runs("concurrencyPolicy", json!("Allow")),
        of_runs("startingDeadlineSeconds", json!(99)),
        of_runs("successfulJobsHistoryLimit", json!(9)),
        of_runs("failedJobsHistoryLimit", json!(9)),
        of_runs("catchUp", json!(9)),
        of_runs("rerunStale", json!(true)),
        computes("backoffLimit", json!(9)),
        computes("activeDeadlineSeconds", json!(9)),
        both("interval", json!("day"), "refused"),
        both("replace", json!("table"), "refused"),
        both("checkpoint/name", json!("other"), "refused"),
        computes("lookbackDays", json!(9)),
        computes("inputs/0/name", json!("u")),
        computes("inputs/0/path", json!("other")),
        computes("inputs/0/format", json!("csv")),
        computes("inputs/0/columns", json!([{"name": "k", "type": "int"}])),
        computes("inputs/0/timeColumn", json!("k")),
        computes("inputs/0/dateColumn", json!("k")),
        computes("inputs/0/completeBy", json!("clock")),
        computes("inputs/0/allowEmpty", json!(true)),
        computes("query", json!("SELECT at FROM t")),
        computes("outputs", json!([{"name": "o", "query": "SELECT at FROM t", "sink": {"path": "o"}}])),
        computes("wait", json!("9m")),
        computes("logLevel", json!("debug")),
        computes("backfill", json!({"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"})),
        computes("dependsOn", json!([{"name": "other"}])),
        computes("storage/claimName", json!("c")),
        computes("storage/outputs", json!("s3://b/o")),
        computes("storage/checkpoints", json!("s3://b/c")),
        computes("storage/endpoint", json!("https://s")),
        computes("storage/region", json!("r")),
        computes("storage/pathStyle", json!(false)),
        computes("storage/credentialsSecret", json!("s")),
        computes("pod/env", json!([{"name": "A", "value": "b"}])),
        computes("pod/tolerations", json!([{"operator": "Exists"}])),
        computes("pod/volumes", json!([{"name": "v", "mountPath": "/mnt/v", "emptyDirSize": "1Gi"}])),
    ];
    for field in ["format", "path", "topic", "keyColumn", "targetFileSize", "compression"] {
        table.push(computes(format!("sink/{field}").leak(), json!("x")));
    }
    table.push(computes("sink/partitionBy", json!(["k"])));
    table.push(computes("sink/sortBy", json!(["k"])));
    table.push(computes("sink/maxFiles", json!(4)));
    table.push(computes("sink/maintenance", json!({"compactAfter": "24h", "retain": "2400h"})));
    for field in ["affinity", "annotations", "labels", "nodeSelector", "resources"] {
        table.push(computes(format!("pod/{field}").leak(), json!({"requests": {"cpu": "1"}})));
    }
    for field in ["priorityClassName", "serviceAccountName"] {
        table.push(computes(format!("pod/{field}").leak(), json!("x")));
    }
    table.push(computes("pod/doctor", json!(true)));
    table
}

fn effect_of(before: &Value, pointer: &str, value: &Value) -> &'static str {
    let after = changed(before, pointer, value.clone());
    let changes = between(before, &after);
    assert!(!changes.is_empty(), "{pointer} is as it was");
    match effect(&changes[0], &after) {
        Effect::Nothing => "nothing",
        Effect::NextRun { .. } => "next run",
        Effect::Stops => "stops",
        Effect::Starts => "starts",
        Effect::RunsAgain { .. } => "runs again",
        Effect::Refused { .. } => "refused",
    }
}

#[test]
fn every_field_does_what_the_table_says() {
    let mut once = spec();
    once.as_object_mut().unwrap().remove("schedule");
    for (pointer, value, with_schedule, without) in table() {
        assert_eq!(effect_of(&spec(), pointer, &value), with_schedule, "{pointer} {value}");
        if pointer != "schedule" {
            assert_eq!(effect_of(&once, pointer, &value), without, "{pointer} {value}, once");
        }
    }
    assert_eq!(effect_of(&changed(&spec(), "suspend", json!(true)), "suspend", &json!(false)), "starts");
}

#[test]
fn every_field_of_the_spec_stands_in_the_table() {
    let table = table();
    let missing = not_covered("BatchJob", table.iter().map(|(pointer, ..)| *pointer));
    assert!(missing.is_empty(), "say in the table what a change of {missing:?} does to a job");
}

#[test]
fn of_every_field_it_is_said_whether_a_backfill_that_was_done_is_done_again() {
    const OF_EACH_RUN: [&str; 5] = ["backoffLimit", "activeDeadlineSeconds", "wait", "logLevel", "pod"];
    let never = FIELDS_OF_RUNS.into_iter().chain(OF_EACH_RUN);
    let missing = not_covered("BatchJob", OF_A_BACKFILL.into_iter().chain(never));
    assert!(missing.is_empty(), "a backfill that was done is done again when {missing:?} changes, or never");
    let with = |query: &str| {
        let outputs = json!([{"name": "a", "query": query, "sink": {"path": "a"}}]);
        let spec: BatchJobSpec = serde_json::from_value(json!({"outputs": outputs})).unwrap();
        spec.backfilled()
    };
    assert_ne!(with("SELECT 1"), with("SELECT 2"));
}
