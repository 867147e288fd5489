//! The seven manifests as they are shipped, applied together: every output is exact. Streaming jobs have a pod killed in each, and
//! the CronJobs of the batch jobs are triggered for a day that is over.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use data_platform_runner::clock::show_time;
use data_platform_runner::generate::EventSettings;
use data_platform_tests::cluster::repository;
use data_platform_tests::{Broker, JobFolders, needs_broker, needs_cluster, python_reader};
use serde_json::Value;

use super::batch::{HOURLY, run_by_hand};
use super::platform::{Platform, TIMEOUT, condition};
use crate::enrichment::{self, USERS_FILE};
use crate::events::{START_MS, Stream};
use crate::shipped::{CHANGES, CLICKSTREAM_AS_IT_IS, ENRICHMENT_AS_IT_IS, EVENT_AGGREGATION, Shipped};

/// Every streaming job of manifests/.
const ALL: [&Shipped; 4] = [&EVENT_AGGREGATION, &CLICKSTREAM_AS_IT_IS, &CHANGES, &ENRICHMENT_AS_IT_IS];
/// Every batch job, each after those whose tables it reads.
const BATCH: [&str; 3] = [HOURLY, "daily-summaries", "user-segmentation"];
/// Records of each topic in one go. The three goes are 30 hours, so that a day is complete.
const RECORDS: u64 = 3_000;
const STEP_MS: f64 = 12_000.0;
const HOUR: i64 = 3_600_000_000;

/// Copies the manifests: the streaming jobs untouched, the batch jobs with a schedule that does not come while a test runs. Gives
/// the names of both.
fn copy_manifests(to: &Path) -> anyhow::Result<[Vec<String>; 2]> {
    let mut names = [Vec::new(), Vec::new()];
    for entry in std::fs::read_dir(repository().join("manifests")).context("list manifests")? {
        let path = entry?.path();
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let Some(kind) =
            ["kind: StreamingJob", "kind: BatchJob"].iter().position(|kind| text.lines().any(|line| line == *kind))
        else {
            continue;
        };
        let is_schedule = |line: &&str| line.starts_with("  schedule: ");
        let text = match text.lines().find(is_schedule) {
            Some(line) => text.replace(line, "  schedule: 0 0 29 2 *"),
            None => text,
        };
        std::fs::write(to.join(path.file_name().context("a name")?), &text)?;
        names[kind].push(path.file_stem().unwrap_or_default().to_string_lossy().into_owned());
    }
    names.iter_mut().for_each(|names| names.sort());
    Ok(names)
}

/// The day before yesterday, in microseconds since 1970: records until six hours after its end are not of the future.
fn day() -> anyhow::Result<i64> {
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())?;
    Ok(now - now % (24 * HOUR) - 48 * HOUR)
}

/// A Job of the CronJob of a batch job, as if the CronJob had been due then, run to its end.
fn run_as_due(platform: &Platform, name: &str, due: i64) -> anyhow::Result<()> {
    run_by_hand(platform, name, &format!("{name}-{}", due / 60_000_000)).map(drop)
}

/// Runs the batch jobs over a day, and compares what they write with computations by others over their inputs.
fn run_and_check_batch(platform: &Platform, day: i64) -> anyhow::Result<()> {
    let outputs = platform.namespace.folder_of_claim("data-platform")?.join("outputs");
    // The first hour; then all that were due since.
    run_as_due(platform, HOURLY, day + HOUR)?;
    for name in BATCH {
        run_as_due(platform, name, day + 24 * HOUR)?;
    }
    let time = |time: i64| -> OsString { show_time(time)[..19].replace('T', " ").into() };
    let date = |time: i64| -> OsString { show_time(time)[..10].to_owned().into() };
    let check = |reader: &str, tables: &[&str], times: Vec<OsString>| {
        let tables = tables.iter().map(|table| outputs.join(table).into_os_string());
        python_reader(reader, tables.chain(times))?.expect_success()
    };
    let hours = (0..24).map(|hour| time(day + hour * HOUR)).collect();
    check("hourly_aggregates.py", &["hourly_aggregates", "events_aggregated_realtime"], hours)?;
    let tables = ["daily_summaries", "hourly_aggregates", "clickstream_sessions"];
    check("daily_summaries.py", &tables, vec![date(day)])?;
    let tables = ["user_segments", "events_aggregated_realtime", "clickstream_sessions"];
    let report = check("user_segments.py", &tables, vec![date(day - 29 * 24 * HOUR), date(day + 24 * HOUR)])?;
    ensure!(report["rows"].as_u64() > Some(20), "{report}");
    Ok(())
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
fn the_seven_shipped_jobs_applied_together_are_exact_with_a_pod_killed_in_each() -> anyhow::Result<()> {
    let cluster = needs_cluster!();
    let _shared = needs_broker!();
    // The topics have the names of the manifests.
    let broker = Broker::private(&["--host", cluster.node_address()])?;
    let day = day()?;
    let settings = EventSettings { messy: 0.01, every_timestamp_form: true, ..EventSettings::default() };
    let stream = |shipped: &'static Shipped| {
        let (topic, partitions) = (shipped.kind.topic().to_owned(), shipped.kind.partitions());
        let mut stream = Stream::on(shipped, broker.handle(), topic, partitions, settings, STEP_MS)?;
        // No event is of the day before.
        stream.skip(Duration::from_millis((day / 1_000 - START_MS + 1_800_000).unsigned_abs()));
        Ok(stream)
    };
    let mut streams = ALL.into_iter().map(stream).collect::<anyhow::Result<Vec<_>>>()?;
    let servers = format!("kafka.bootstrapServers={}", broker.address_for_pods()?);
    let platform = Platform::install(cluster, "shipped", &["--set", &servers])?;

    let manifests = JobFolders::new()?;
    let [names, batch] = copy_manifests(manifests.root())?;
    let mut known: Vec<_> = ALL.iter().map(|shipped| shipped.name).collect();
    known.sort_unstable();
    ensure!(names == known, "a streaming manifest is not among those that this test feeds");
    ensure!(batch.iter().all(|name| BATCH.contains(&name.as_str())) && batch.len() == BATCH.len(), "{batch:?}");
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
    for name in BATCH {
        platform.wait_for_status("batchjob", name, "to be scheduled", |job| {
            condition(job, "Ready")["reason"] == "Scheduled"
        })?;
    }
    run_and_check_batch(&platform, day)?;
    println!("{}", platform.namespace.kubectl(&["get", "sj,bj", "-o", "wide"])?);
    streams.iter().try_for_each(|stream| check(&platform, stream))
}
