//! The streaming manifests as they are shipped, applied together: each job is exact, with a pod killed in each.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, ensure};
use data_platform_runner::generate::EventSettings;
use data_platform_tests::cluster::repository;
use data_platform_tests::{Broker, JobFolders, needs_broker, needs_cluster};
use serde_json::Value;

use super::platform::{Platform, TIMEOUT, condition};
use crate::enrichment::{self, USERS_FILE};
use crate::events::Stream;
use crate::shipped::{CHANGES, CLICKSTREAM_AS_IT_IS, ENRICHMENT_AS_IT_IS, EVENT_AGGREGATION, Shipped};

/// Every streaming job of manifests/.
const ALL: [&Shipped; 4] = [&EVENT_AGGREGATION, &CLICKSTREAM_AS_IT_IS, &CHANGES, &ENRICHMENT_AS_IT_IS];
/// Records of each topic in one go.
const RECORDS: u64 = 3_000;

/// Copies the streaming manifests, untouched; gives their names.
fn copy_manifests(to: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(repository().join("manifests")).context("list manifests")? {
        let path = entry?.path();
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        if text.lines().any(|line| line == "kind: StreamingJob") {
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
    // If one of its tables has windows, the last one does.
    let (table, _) = stream.shipped.tables.last().context("a table")?;
    platform.stop(name)?;
    let watermark = platform.watermark_of(table)?;
    let outputs = platform.namespace.folder_of_claim("data-platform")?.join("outputs");
    let counts = stream.compare(&outputs, watermark).with_context(|| name.to_owned())?;
    let topics = if name == ENRICHMENT_AS_IT_IS.name { ALL.len() as u64 } else { 1 };
    ensure!(counts["records"] == 3 * RECORDS * topics, "{name}: {counts:#}");
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
    let waits = |name: &str| name == ENRICHMENT_AS_IT_IS.name;
    for name in names.iter().filter(|name| !waits(name)) {
        platform.wait_for_job(name, "to have begun", has_begun)?;
    }
    platform.wait_for_reason(ENRICHMENT_AS_IT_IS.name, "ReferenceMissing")?;
    let users = platform.namespace.folder_of_claim("data-platform")?.join("outputs").join(USERS_FILE);
    std::fs::create_dir_all(users.parent().context("a folder")?)?;
    enrichment::write_users(&users, enrichment::KNOWN)?;
    platform.wait_for_job(ENRICHMENT_AS_IT_IS.name, "to have begun", has_begun)?;

    produce(&mut streams)?;
    let mut killed = BTreeMap::new();
    for name in &names {
        platform.wait_for_job(name, "to have committed", |job| {
            job["status"]["lastCheckpoint"]["version"].as_i64() > Some(0)
        })?;
        let pod = platform.pods(name)?.pop().with_context(|| format!("a pod of {name}"))?;
        if killed.is_empty() {
            // In the middle of things.
            produce(&mut streams)?;
        }
        platform.namespace.kubectl(&["delete", "pod", &pod, "--force", "--grace-period=0"])?;
        killed.insert(name, pod);
    }
    for (name, pod) in killed {
        platform.namespace.wait_for(&format!("another pod of {name}"), TIMEOUT, || {
            let pods = platform.pods(name).ok()?;
            (!pods.is_empty() && !pods.contains(&pod)).then_some(())
        })?;
    }
    produce(&mut streams)?;
    for name in &names {
        platform.wait_for_all_records(name, &broker)?;
    }
    println!("{}", platform.namespace.kubectl(&["get", "sj", "-o", "wide"])?);
    streams.iter().try_for_each(|stream| check(&platform, stream))
}
