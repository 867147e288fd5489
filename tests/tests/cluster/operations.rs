//! What the guides say about a cluster, as they say it: the commands of an upgrade, and those that look at a job; and the rows of
//! the table of disasters that are about a cluster.

use std::process::Command;

use anyhow::{Context, ensure};
use data_platform_runner::generate::EventSettings;
use data_platform_tests::{needs_broker, needs_cluster};

use super::keyboard::run_as_a_user;
use super::platform::{Platform, TIMEOUT, is_caught_up};
use crate::events::Stream;
use crate::guides::{blocks, guides};

const JOB: &str = "event-aggregation";

/// Every command of the guides for a cluster, but those of a page that has a test of its own.
fn commands() -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    let guides = guides()?;
    for (_, text) in guides.iter().filter(|(path, _)| !path.ends_with("add-a-streaming-job.md")) {
        let lines = blocks(text, "sh").into_iter().flat_map(str::lines);
        let of_cluster = lines.filter(|line| line.starts_with("kubectl ") || line.starts_with("helm "));
        found.extend(of_cluster.map(str::to_owned));
    }
    Ok(found)
}

#[test]
fn the_commands_of_the_guides_work_and_a_cluster_that_is_lost_is_made_anew() -> anyhow::Result<()> {
    let cluster = needs_cluster!();
    let mut stream = Stream::new(needs_broker!(), "operations", 2, EventSettings::default(), 20.0)?;
    stream.produce(5_000)?;
    // As a user has it, who keeps the claim when the chart goes.
    let platform = Platform::install(cluster, "operations", &[])?;
    platform.apply(&platform.event_aggregation(JOB, &stream)?)?;
    platform.wait_for_job(JOB, "to be caught up", is_caught_up)?;

    let commands = commands()?;
    for expected in
        ["helm upgrade", "kubectl rollout", "kubectl annotate", "kubectl wait", "kubectl logs", "kubectl get"]
    {
        ensure!(commands.iter().any(|command| command.starts_with(expected)), "no {expected} in {commands:?}");
    }
    let before = platform.pods(JOB)?;
    for command in &commands {
        let said = run_as_a_user(&platform.namespace, Command::new("bash").args(["-euc", command]));
        println!("$ {command}\n{}", said.with_context(|| command.clone())?);
        if command.starts_with("kubectl annotate") {
            platform.namespace.wait_for("the pod that the annotation brings", TIMEOUT, || {
                let after = platform.pods(JOB).ok()?;
                (!after.is_empty() && after.iter().all(|pod| !before.contains(pod))).then_some(())
            })?;
        }
        stream.produce(500)?;
        platform.wait_for_all_records(JOB, &stream.broker)?;
    }
    platform.wait_for_operator()?;

    // "the cluster, not its volumes: the chart, the claims, kubectl apply of the jobs: they go on where they ended".
    let volume = platform.namespace.folder_of_claim("data-platform")?;
    platform.namespace.kubectl(&["delete", "sj", JOB])?;
    platform.namespace.helm(&["uninstall", "data-platform", "--wait"])?;
    let claims = platform.namespace.kubectl(&["get", "persistentvolumeclaims", "-o", "name"])?;
    ensure!(claims.contains("data-platform"), "the claim stays when the chart goes: {claims}");
    stream.produce(1_000)?;
    platform.helm(&["install"], &[])?;
    platform.wait_for_operator()?;
    ensure!(platform.namespace.folder_of_claim("data-platform")? == volume);
    platform.apply(&platform.event_aggregation(JOB, &stream)?)?;
    platform.wait_for_job(JOB, "to be caught up", is_caught_up)?;
    platform.wait_for_all_records(JOB, &stream.broker)?;
    platform.check_closed_windows(JOB, &stream)
}
