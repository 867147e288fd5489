//! Changes of a job that runs: what is harmless is taken up, what is not is held back, and every way out that a message
//! prints works as it is printed. And what is corrected reaches the pods that never ran.

use anyhow::{Context, ensure};
use data_platform_runner::generate::EventSettings;
use data_platform_tests::{needs_broker, needs_cluster};
use serde_json::{Value, json};

use super::platform::{Platform, TIMEOUT, condition, is_caught_up};
use crate::events::Stream;

/// The same result by other aggregates: the state of the old query does not fit it.
fn with_other_aggregate(job: &Value) -> anyhow::Result<Value> {
    let mut changed = job.clone();
    let query = changed["spec"]["query"].as_str().context("a query")?;
    ensure!(query.contains("count(*)"), "{query}");
    changed["spec"]["query"] = query.replace("count(*)", "count(event_id)").into();
    Ok(changed)
}

fn message(job: &Value) -> String {
    condition(job, "Ready")["message"].as_str().unwrap_or_default().to_owned()
}

fn patch(platform: &Platform, name: &str, patch: &str) -> anyhow::Result<()> {
    platform.namespace.kubectl(&["patch", "sj", name, "--type", "merge", "-p", patch])?;
    Ok(())
}

#[test]
fn a_change_that_no_state_minds_is_taken_up_with_windows_open() -> anyhow::Result<()> {
    let cluster = needs_cluster!();
    let mut stream = Stream::new(needs_broker!(), "harmless", 1, EventSettings::default(), 6.0)?;
    stream.produce(10_000)?;
    let platform = Platform::install(cluster, "harmless", &[])?;
    let name = "harmless";
    let mut job = platform.event_aggregation(name, &stream)?;
    platform.apply(&job)?;
    platform.wait_for_job(name, "to be caught up", is_caught_up)?;
    let spec = &mut job["spec"];
    spec["sources"][0]["columns"][0]["description"] = "who".into();
    spec["sources"][0]["columns"].as_array_mut().context("columns")?.push(json!({"name": "unused", "type": "string"}));
    let query = spec["query"].as_str().context("a query")?;
    let query = query.replace("AS event_count", "AS number_of_events").replace("GROUP BY", "WHERE 1 = 1 GROUP BY");
    spec["query"] = query.into();
    let before = platform.pods(name)?;
    platform.apply(&job)?;
    let after = platform.wait_for_job(name, "to run the changed query", |job| {
        is_caught_up(job) && platform.pods(name).is_ok_and(|pods| pods.len() == 1 && pods != before)
    })?;
    ensure!(condition(&after, "Stalled")["status"] == "False", "{:#}", after["status"]);
    Ok(())
}

#[test]
fn every_way_out_of_a_changed_query_works_as_it_is_printed() -> anyhow::Result<()> {
    let cluster = needs_cluster!();
    let mut stream = Stream::new(needs_broker!(), "ways-out", 1, EventSettings::default(), 6.0)?;
    stream.produce(20_000)?;
    let platform = Platform::install(cluster, "ways-out", &[])?;
    let names = ["back", "rebuild", "drain", "anew"];
    let mut jobs = Vec::new();
    for name in names {
        let job = platform.event_aggregation(name, &stream)?;
        platform.apply(&job)?;
        jobs.push(job);
    }
    for name in names {
        platform.wait_for_job(name, "to be caught up", is_caught_up)?;
    }
    for job in &jobs {
        platform.apply(&with_other_aggregate(job)?)?;
    }
    for name in names {
        let held = platform.wait_for_reason(name, "QueryChanged")?;
        for way in ["bring the old query back", "spec.onQueryChange: rebuild", "drain"] {
            ensure!(message(&held).contains(way), "no {way:?} in {}", message(&held));
        }
    }
    // The restart annotation restarts the old query: it never stops a job that works.
    let pods = platform.pods("rebuild")?;
    platform.namespace.kubectl(&["annotate", "sj", "rebuild", "dataplatform.io/restartedAt=now"])?;
    platform.wait_for_job("rebuild", "to run the old query in a new pod", |job| {
        condition(job, "Ready")["reason"] == "QueryChanged"
            && job["status"]["lag"]["totalRecords"] == 0
            && platform.pods("rebuild").is_ok_and(|now| now.len() == 1 && now != pods)
    })?;

    platform.apply(&jobs[0])?;
    patch(&platform, "rebuild", r#"{"spec": {"onQueryChange": "rebuild"}}"#)?;
    patch(&platform, "drain", r#"{"spec": {"onQueryChange": "drain"}}"#)?;
    patch(&platform, "anew", r#"{"spec": {"onQueryChange": "newLog", "checkpoint": {"name": "anew-2"}}}"#)?;
    stream.produce(5_000)?;
    for name in names {
        let job = platform.wait_for_job(name, "to go on", is_caught_up)?;
        ensure!(condition(&job, "Stalled")["status"] == "False", "{name}: {:#}", job["status"]);
    }
    // Every window of these two is whole, and is there once.
    platform.check_closed_windows("back", &stream)?;
    platform.check_closed_windows("rebuild", &stream)?;
    Ok(())
}

#[test]
fn another_checkpoint_name_alone_stops_nothing_and_a_second_job_on_a_checkpoint_is_refused() -> anyhow::Result<()> {
    let cluster = needs_cluster!();
    let mut stream = Stream::new(needs_broker!(), "checkpoint-names", 1, EventSettings::default(), 6.0)?;
    stream.produce(1_000)?;
    let platform = Platform::install(cluster, "checkpoint-names", &[])?;
    let first = platform.event_aggregation("first", &stream)?;
    platform.apply(&first)?;
    platform.wait_for_job("first", "to be caught up", is_caught_up)?;
    let pods = platform.pods("first")?;

    let mut second = platform.event_aggregation("second", &stream)?;
    second["spec"]["checkpoint"] = json!({"name": "first"});
    platform.apply(&second)?;
    let refused = platform.wait_for_reason("second", "CheckpointOfOtherJob")?;
    ensure!(message(&refused).contains("the job first keeps its log in the checkpoint first"), "{}", message(&refused));
    ensure!(platform.pods("second")?.is_empty(), "it has no pod");

    patch(&platform, "first", r#"{"spec": {"checkpoint": {"name": "renamed"}}}"#)?;
    let held = platform.wait_for_reason("first", "QueryChanged")?;
    ensure!(message(&held).contains("spec.onQueryChange: newLog"), "{}", message(&held));
    ensure!(platform.pods("first")? == pods, "the old pod goes on");
    // What is held back frees nothing.
    let refused = platform.wait_for_reason("second", "CheckpointOfOtherJob")?;
    ensure!(platform.pods("second")?.is_empty(), "{:#}", refused["status"]);
    patch(&platform, "first", r#"{"spec": {"checkpoint": null}}"#)?;
    platform.wait_for_job("first", "to go on under its old name", is_caught_up)?;
    Ok(())
}

#[test]
fn what_never_ran_gets_the_image_that_is_right_whatever_the_rollout_says() -> anyhow::Result<()> {
    let cluster = needs_cluster!();
    let mut stream = Stream::new(needs_broker!(), "right-image", 1, EventSettings::default(), 6.0)?;
    stream.produce(100)?;
    let platform = Platform::install(cluster, "right-image", &["--set", "runner.image.tag=nowhere"])?;
    platform.apply(&platform.event_aggregation("stream", &stream)?)?;
    let mut batch = Platform::manifest("hourly-aggregates")?;
    batch["metadata"]["name"] = "scheduled".into();
    batch["spec"]["schedule"] = "* * * * *".into();
    batch["spec"]["concurrencyPolicy"] = "Forbid".into();
    platform.apply(&batch)?;
    let mut once = batch.clone();
    once["metadata"]["name"] = "once".into();
    once["spec"].as_object_mut().context("a spec")?.remove("schedule");
    platform.apply(&once)?;
    platform.wait_for_reason("stream", "ImageMissing")?;
    for name in ["once", "scheduled"] {
        platform.wait_for_status("batchjob", name, "to miss its image", |job| {
            condition(job, "Ready")["reason"] == "ImageMissing"
        })?;
    }
    platform.helm(&["upgrade"], &[])?;
    platform.wait_for_operator()?;
    platform.wait_for_job("stream", "to run with the right image", is_caught_up)?;
    for name in ["once", "scheduled"] {
        platform.namespace.wait_for(&format!("a pod of {name} to run"), TIMEOUT, || {
            let label = format!("dataplatform.io/job={name}");
            let pods = platform.namespace.get_json(&["pods", "--selector", &label]).ok()?;
            let pods = pods["items"].as_array()?;
            let image = |pod: &Value| pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default().to_owned();
            let ran = |pod: &Value| matches!(pod["status"]["phase"].as_str(), Some("Running" | "Succeeded" | "Failed"));
            let is_right = pods.iter().all(|pod| image(pod).ends_with(":test"));
            (is_right && pods.iter().any(ran)).then_some(())
        })?;
    }
    Ok(())
}

#[test]
fn a_command_of_a_message_works_in_the_pod_as_it_is_printed() -> anyhow::Result<()> {
    let cluster = needs_cluster!();
    let mut stream = Stream::new(needs_broker!(), "in-the-pod", 1, EventSettings::default(), 6.0)?;
    stream.produce(1_000)?;
    let platform = Platform::install(cluster, "in-the-pod", &[])?;
    let name = "in-the-pod";
    platform.apply(&platform.event_aggregation(name, &stream)?)?;
    platform.wait_for_job(name, "to be caught up", is_caught_up)?;
    for command in ["verify", "ls", "show"] {
        let words = ["exec", "deploy/in-the-pod", "--", "data-platform", "checkpoint", command];
        let arguments: Vec<&str> = words.into_iter().chain((command != "ls").then_some(name)).collect();
        let said = platform.namespace.kubectl(&arguments)?;
        ensure!(said.contains(name), "{command}: {said}");
    }
    Ok(())
}

#[test]
fn a_job_that_is_outranked_takes_its_log_over_with_the_annotation_as_it_is_printed() -> anyhow::Result<()> {
    let cluster = needs_cluster!();
    let mut stream = Stream::new(needs_broker!(), "take-over", 1, EventSettings::default(), 6.0)?;
    stream.produce(5_000)?;
    let platform = Platform::install(cluster, "take-over", &[])?;
    let name = "take-over";
    platform.apply(&platform.event_aggregation(name, &stream)?)?;
    let annotate = |annotation: &str| platform.namespace.kubectl(&["annotate", "--overwrite", "sj", name, annotation]);
    platform.wait_for_job(name, "to be caught up", is_caught_up)?;
    // What another cluster left, from which the job was moved here: a log whose owner ranks higher.
    let pods = platform.pods(name)?;
    annotate("dataplatform.io/takeover=5")?;
    stream.produce(1_000)?;
    platform.wait_for_job(name, "to run in a pod that ranks higher", |job| {
        is_caught_up(job) && platform.pods(name).is_ok_and(|now| now.len() == 1 && now != pods)
    })?;
    annotate("dataplatform.io/takeover-")?;
    let fenced = message(&platform.wait_for_reason(name, "Fenced")?);
    let (_, printed) = fenced.split_once("the annotation ").with_context(|| format!("an annotation in {fenced}"))?;
    let (printed, _) = printed.split_once(" of the job").with_context(|| format!("an annotation in {fenced}"))?;
    ensure!(printed == r#"dataplatform.io/takeover: "6""#, "{printed}");
    annotate(&printed.replace(": ", "=").replace('"', ""))?;
    stream.produce(5_000)?;
    platform.wait_for_job(name, "to go on", is_caught_up)?;
    // What is no number is refused, and stops nothing.
    annotate("dataplatform.io/takeover=seven")?;
    let refused = message(&platform.wait_for_reason(name, "InvalidSpec")?);
    ensure!(refused.contains(r#"the annotation dataplatform.io/takeover is "seven""#), "{refused}");
    ensure!(platform.pods(name)?.len() == 1, "its pod goes on");
    annotate("dataplatform.io/takeover=6")?;
    platform.wait_for_job(name, "to go on", is_caught_up)?;
    platform.check_closed_windows(name, &stream)
}
