//! The end of docs/guides/add-a-streaming-job.md: the file that ran on a laptop, applied as it is.

use std::process::Command;

use anyhow::ensure;
use data_platform_tests::{JobFolders, Record, needs_broker, needs_cluster, unique_topic};

use super::keyboard::run_as_a_user;
use super::platform::Platform;
use crate::guide::{block, blocks, check_said};

#[test]
fn the_job_of_the_guide_runs_on_kubernetes_as_it_is() -> anyhow::Result<()> {
    let cluster = needs_cluster!();
    let broker = needs_broker!();
    let topic = unique_topic("guide");
    broker.create_topic(&topic, 1, &[])?;
    broker.produce(&topic, block("1. The records", "json", &topic)?.lines().map(Record::new))?;
    let folders = JobFolders::new()?;
    let file = folders.root().join("orders.yaml");
    std::fs::write(&file, block("2. The job", "yaml", &topic)?)?;

    let servers = format!("kafka.bootstrapServers={}", broker.address_for_pods()?);
    let platform = Platform::install(cluster, "guide", &["--set", &servers])?;
    let commands = blocks("6. On Kubernetes", &topic)?;
    let [commands, shown] = &commands[..] else { anyhow::bail!("commands, and what they say: {commands:?}") };
    ensure!((commands.language.as_str(), shown.language.as_str()) == ("sh", "text"), "{commands:?} {shown:?}");
    // The commands run in the root of the repository.
    let commands = commands.text.replace("orders.yaml", &file.display().to_string());
    let said = run_as_a_user(&platform.namespace, Command::new("bash").args(["-euc", &commands]))?;
    check_said(&shown.text, &said)
}
