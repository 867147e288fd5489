//! The streaming manifests as they are shipped, applied together: each job is exact, with a pod killed in each.

use std::path::Path;

use anyhow::{Context, ensure};
use data_platform_runner::generate::EventSettings;
use data_platform_tests::cluster::repository;
use data_platform_tests::{Broker, JobFolders, needs_broker, needs_cluster};
use serde_json::Value;

use super::platform::{Platform, TIMEOUT, condition, is_caught_up};
use crate::events::Stream;
use crate::shipped::{CHANGES, CLICKSTREAM_AS_IT_IS, EVENT_AGGREGATION, Shipped};

/// Every streaming job of manifests/ but data-enrichment, which needs a table of users first.
const ALL: [&Shipped; 3] = [&EVENT_AGGREGATION, &CLICKSTREAM_AS_IT_IS, &CHANGES];
const RECORDS: u64 = 8_000;

/// Copies the streaming manifests, untouched; gives their names.
fn copy_manifests(to: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(repository().join("manifests")).context("list manifests")? {
        let path = entry?.path();
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let needs_a_table = text.lines().any(|line| line == "  references:");
        if text.lines().any(|line| line == "kind: StreamingJob") && !needs_a_table {
            let file = path.file_name().context("a name")?;
            std::fs::write(to.join(file), &text)?;
            names.push(path.file_stem().unwrap_or_default().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn produce(streams: &mut [Stream]) -> anyhow::Result<()> {
    streams.iter_mut().try_for_each(|stream| stream.produce(RECORDS))
}

/// Stops a job and compares all its tables, as far as its windows are closed.
fn check(platform: &Platform, stream: &Stream) -> anyhow::Result<()> {
    let name = stream.shipped.name;
    // The last table of each is one of windows.
    let (table, _) = stream.shipped.tables.last().context("a table")?;
    let watermark = platform.watermark_of_stopped(name, table)?;
    let outputs = platform.namespace.folder_of_claim("data-platform")?.join("outputs");
    let counts = stream.compare(&outputs, Some(watermark)).with_context(|| name.to_owned())?;
    ensure!(counts["records"] == 3 * RECORDS, "{name}: {counts:#}");
    Ok(())
}

#[test]
fn the_shipped_streaming_jobs_applied_together_are_exact_with_a_pod_killed_in_each() -> anyhow::Result<()> {
    let cluster = needs_cluster!();
    let _shared = needs_broker!();
    // The topics have the names of the manifests.
    let broker = Broker::private(&["--host", cluster.node_address()])?;
    let settings = EventSettings { messy: 0.01, every_timestamp_form: true, ..EventSettings::default() };
    let stream = |shipped: &'static Shipped| {
        let (topic, partitions) = (shipped.kind.topic().to_owned(), shipped.kind.partitions());
        Stream::on(shipped, broker.handle(), topic, partitions, settings, shipped.step_ms)
    };
    let mut streams = ALL.into_iter().map(stream).collect::<anyhow::Result<Vec<_>>>()?;
    let servers = format!("kafka.bootstrapServers={}", broker.address_for_pods()?);
    let platform = Platform::install(cluster, "shipped", &["--set", &servers])?;

    let manifests = JobFolders::new()?;
    let names = copy_manifests(manifests.root())?;
    let mut known: Vec<_> = ALL.iter().map(|shipped| shipped.name).collect();
    known.sort_unstable();
    ensure!(names == known, "a streaming manifest is not among those that this test feeds");
    let folder = manifests.root().to_str().context("a path that is text")?;
    platform.namespace.kubectl(&["apply", "-f", folder])?;
    // They begin at the end of their topics, which are empty.
    let has_begun = |job: &Value| condition(job, "Ready")["status"] == "True" && job["status"]["lag"].is_object();
    for name in &names {
        platform.wait_for_job(name, "to have begun", has_begun)?;
    }

    produce(&mut streams)?;
    for (index, name) in names.iter().enumerate() {
        platform.wait_for_job(name, "to have committed", |job| {
            job["status"]["lastCheckpoint"]["version"].as_i64() > Some(0)
        })?;
        let pod = platform.pods(name)?.pop().with_context(|| format!("a pod of {name}"))?;
        if index == 0 {
            // In the middle of things.
            produce(&mut streams)?;
        }
        platform.namespace.kubectl(&["delete", "pod", &pod, "--force", "--grace-period=0"])?;
        platform.namespace.wait_for(&format!("another pod of {name}"), TIMEOUT, || {
            let pods = platform.pods(name).ok()?;
            (!pods.is_empty() && !pods.contains(&pod)).then_some(())
        })?;
    }
    produce(&mut streams)?;
    for name in &names {
        platform.wait_for_job(name, "to be caught up", is_caught_up)?;
    }
    println!("{}", platform.namespace.kubectl(&["get", "sj", "-o", "wide"])?);
    streams.iter().try_for_each(|stream| check(&platform, stream))
}
