//! The operator uses every right that the chart gives it and asks for no other: granted by its Roles, used by the audit
//! log of the API server.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, ensure};
use data_platform_runner::generate::EventSettings;
use data_platform_tests::{needs_broker, needs_cluster};
use serde_json::{Value, json};

use super::platform::{Platform, TIMEOUT, is_caught_up};
use crate::events::Stream;

/// Rights that this life of a few jobs has no occasion for, each with its occasion.
const RARELY_USED: [(&str, &str); 7] = [
    ("/services get", "a Service of somebody else under the name of a job"),
    ("batch/jobs get", "a Job of somebody else under the name of a run"),
    ("/services delete", "a Service that cannot be merged back into what it should be"),
    ("apps/deployments delete", "a Deployment of a job under a name that the job no longer has"),
    ("batch/cronjobs delete", "a scheduled job that loses its schedule"),
    ("batch/jobs delete", "a job that runs once and gets a schedule"),
    ("events.k8s.io/events list", "a run that gets no pod"),
];

fn rights(rules: &Value) -> BTreeSet<String> {
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|one| one.as_str().map(str::to_owned)).collect()
    };
    let mut rights = BTreeSet::new();
    for rule in rules.as_array().into_iter().flatten() {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                for verb in texts(&rule["verbs"]) {
                    rights.insert(format!("{group}/{resource} {verb}"));
                }
            }
        }
    }
    rights
}

/// What an account asked for: each right with the last answer.
fn used(log: &str, account: &str) -> anyhow::Result<BTreeMap<String, i64>> {
    let mut used = BTreeMap::new();
    for line in log.lines().filter(|line| line.contains(account)) {
        let event: Value = serde_json::from_str(line).context("a line of the audit log")?;
        if event["user"]["username"] != account {
            continue;
        }
        let text = |name: &str| event["objectRef"][name].as_str().unwrap_or_default().to_owned();
        if text("resource").is_empty() {
            continue;
        }
        let part = text("subresource");
        let resource = if part.is_empty() { text("resource") } else { format!("{}/{part}", text("resource")) };
        let code = event["responseStatus"]["code"].as_i64().unwrap_or_default();
        let right = |verb: &str| format!("{}/{resource} {verb}", text("apiGroup"));
        // An apply of what is not there yet is a patch that takes the right to create, too.
        if code == 201 {
            used.insert(right("create"), code);
        }
        used.insert(right(event["verb"].as_str().unwrap_or_default()), code);
    }
    Ok(used)
}

#[test]
fn what_the_operator_may_do_is_what_it_does() -> anyhow::Result<()> {
    let cluster = needs_cluster!();
    let mut stream = Stream::new(needs_broker!(), "rights", 1, EventSettings::default(), 6.0)?;
    stream.produce(1_000)?;
    let platform = Platform::install(cluster, "rights", &["--set", "replicas=2"])?;
    let namespace = &platform.namespace;
    let mut job = platform.event_aggregation("rights", &stream)?;
    platform.apply(&job)?;
    platform.wait_for_job("rights", "to be caught up", is_caught_up)?;
    job["spec"]["trigger"] = json!({"interval": "2s"});
    platform.apply(&job)?;
    platform.wait_for_job("rights", "to be caught up again", is_caught_up)?;
    namespace.wait_for("the old configuration to be removed", TIMEOUT, || {
        let found = namespace.get_json(&["configmaps", "--selector", "dataplatform.io/job=rights"]).ok()?;
        (found["items"].as_array()?.len() == 1).then_some(())
    })?;
    for (field, value) in [("schedule", "5 * * * *"), ("", "")] {
        let mut batch = Platform::manifest("hourly-aggregates")?;
        batch["metadata"]["name"] = if field.is_empty() { "once".into() } else { "scheduled".into() };
        batch["spec"]["wait"] = "1s".into();
        let spec = batch["spec"].as_object_mut().context("a spec")?;
        spec.remove("schedule");
        if !field.is_empty() {
            spec.insert(field.to_owned(), value.into());
        }
        platform.apply(&batch)?;
    }
    namespace.wait_for("a CronJob and a Job", TIMEOUT, || {
        namespace.get_json(&["cronjob", "scheduled"]).ok()?;
        let jobs = namespace.get_json(&["jobs", "--selector", "dataplatform.io/job=once"]).ok()?;
        jobs["items"].as_array()?.first().map(|_| ())
    })?;
    namespace.kubectl(&["patch", "bj", "scheduled", "--type=merge", "--patch", r#"{"spec":{"suspend":true}}"#])?;
    namespace.wait_for("the CronJob to be suspended", TIMEOUT, || {
        (namespace.get_json(&["cronjob", "scheduled"]).ok()?["spec"]["suspend"] == true).then_some(())
    })?;

    let mut granted = BTreeSet::new();
    for role in namespace.get_json(&["roles"])?["items"].as_array().context("roles")? {
        granted.extend(rights(&role["rules"]));
    }
    let deployment = namespace.get_json(&["deployment", "data-platform-operator"])?;
    let account = deployment["spec"]["template"]["spec"]["serviceAccountName"].as_str().context("an account")?;
    let account = format!("system:serviceaccount:{}:{account}", namespace.name());
    let used = used(&fs::read_to_string(platform.cluster.audit_log())?, &account)?;
    let refused: Vec<_> = used.iter().filter(|(_, code)| **code == 403).collect();
    ensure!(refused.is_empty(), "the operator asked for what it may not: {refused:?}");
    let not_granted: Vec<_> = used.keys().filter(|right| !granted.contains(*right)).collect();
    ensure!(not_granted.is_empty(), "used, and granted by nobody: {not_granted:?}");
    let rarely: BTreeMap<_, _> = RARELY_USED.into_iter().collect();
    let unused: Vec<_> =
        granted.iter().filter(|right| !used.contains_key(*right) && !rarely.contains_key(right.as_str())).collect();
    ensure!(unused.is_empty(), "granted, and never used: {unused:?}\nused: {used:?}");
    for right in &granted {
        ensure!(!right.contains("secrets") && !right.contains("customresourcedefinitions"), "{right}");
    }

    // The pods of jobs have an account without rights, and not even a token of it.
    let pod = platform.pods("rights")?.pop().context("a pod")?;
    let pod = namespace.get_json(&["pod", &pod])?;
    ensure!(pod["spec"]["automountServiceAccountToken"] == false, "{:#}", pod["spec"]);
    let runner = pod["spec"]["serviceAccountName"].as_str().context("an account")?;
    let runner = format!("--as=system:serviceaccount:{}:{runner}", namespace.name());
    let may = namespace.kubectl(&["auth", "can-i", "--list", "--no-headers", &runner])?;
    // What everybody may: ask what one may do, and read the API's own pages.
    let more = may
        .lines()
        .filter(|line| !line.contains("selfsubject") && !line.contains("[/") && !line.contains("clustertrustbundles"));
    let more: Vec<_> = more.collect();
    ensure!(more.is_empty(), "the account of the runner may: {more:?}");
    Ok(())
}
