//! The README's part on Kubernetes, run word by word. Two things stand in for what a user has: images that are on the node
//! instead of in a registry, and a broker outside of the cluster behind the name `kafka`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use data_platform_tests::cluster::repository;
use data_platform_tests::{JobFolders, environment, needs_broker, needs_cluster};

const README: &str = include_str!("../../../README.md");
/// The topic of the sample job.
const TOPIC: &str = "topic_app_events";

/// The commands of the section's first block.
fn commands() -> anyhow::Result<&'static str> {
    let (_, section) = README.split_once("\n## On Kubernetes\n").context("a section on Kubernetes")?;
    let (_, block) = section.split_once("```sh\n").context("a block of commands")?;
    Ok(block.split_once("```").context("the end of the block")?.0)
}

/// A program of this name that does what the real one does, in the namespace of the test.
fn stand_in(folder: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).with_context(|| format!("write {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).context("make it a program")
}

#[test]
fn the_commands_of_the_readme_end_with_jobs_that_are_ready() -> anyhow::Result<()> {
    let cluster = needs_cluster!();
    let broker = needs_broker!();
    let places = environment::cluster().map_err(anyhow::Error::msg)?;
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

    let folders = JobFolders::new()?;
    let (kubectl, helm) = (places.kubectl.display(), places.helm.display());
    stand_in(folders.root(), "kubectl", &format!("exec {kubectl} --namespace {} \"$@\"", namespace.name()))?;
    stand_in(
        folders.root(),
        "helm",
        &format!(
            "exec {helm} --namespace {} \"$@\" --set crds.enabled=false,image.tag=test,runner.image.tag=test \
             --set global.imageRegistry=localhost,storage.create.size=1Gi",
            namespace.name()
        ),
    )?;
    let path = format!("{}:{}", folders.root().display(), std::env::var("PATH").unwrap_or_default());
    let output = Command::new("bash")
        .args(["-euc", commands()?])
        .current_dir(repository())
        .env("PATH", path)
        .env("KUBECONFIG", &places.kubeconfig)
        .output()
        .context("run the commands")?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let events = || namespace.kubectl(&["events"]).unwrap_or_default();
    ensure!(output.status.success(), "{said}\n{}", events());
    let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
    for expected in ["event-aggregation True Running", "hourly-aggregates True Scheduled"] {
        ensure!(words.contains(expected), "no {expected:?} in:\n{said}\n{}", events());
    }
    Ok(())
}
