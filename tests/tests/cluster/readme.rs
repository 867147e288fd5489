//! The README's part on Kubernetes, run word by word. Two things stand in for what a user has: images that are on the node
//! instead of in a registry, and a broker outside of the cluster behind the name `kafka`.

use std::process::Command;

use anyhow::{Context, ensure};
use data_platform_tests::{needs_broker, needs_cluster};

use super::keyboard::run_as_a_user;

const README: &str = include_str!("../../../README.md");
/// The topic of the sample job.
const TOPIC: &str = "topic_app_events";

/// The commands of the section's first block.
fn commands() -> anyhow::Result<&'static str> {
    let (_, section) = README.split_once("\n## On Kubernetes\n").context("a section on Kubernetes")?;
    let (_, block) = section.split_once("```sh\n").context("a block of commands")?;
    Ok(block.split_once("```").context("the end of the block")?.0)
}

#[test]
fn the_commands_of_the_readme_end_with_jobs_that_are_ready() -> anyhow::Result<()> {
    let cluster = needs_cluster!();
    let broker = needs_broker!();
    cluster.apply_crds()?;
    // It is there already when another test was first.
    let _exists = broker.create_topic(TOPIC, 6, &[]);
    let namespace = cluster.namespace("readme")?;
    let brokers = broker.address_for_pods()?;
    let (host, port) = brokers.rsplit_once(':').context("host and port")?;
    namespace.apply(&format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: kafka}}, spec: {{ports: [{{name: kafka, port: 9092, targetPort: {port}}}]}}}}"
    ))?;
    namespace.apply(&format!(
        "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: kafka, labels: \
         {{kubernetes.io/service-name: kafka}}}}, addressType: IPv4, ports: [{{name: kafka, port: {port}}}], \
         endpoints: [{{addresses: [{host}]}}]}}"
    ))?;

    let said = run_as_a_user(&namespace, Command::new("bash").args(["-euc", commands()?]))?;
    let events = || namespace.kubectl(&["events"]).unwrap_or_default();
    let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
    for expected in ["event-aggregation True Running", "hourly-aggregates True Scheduled"] {
        ensure!(words.contains(expected), "no {expected:?} in:\n{said}\n{}", events());
    }
    Ok(())
}
