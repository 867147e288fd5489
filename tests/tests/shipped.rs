//! The streaming jobs of manifests/: how a test feeds each, and who says what it must write. A new one is a constant here and
//! a line where jobs are listed.

use std::ffi::OsStr;
use std::path::Path;

use anyhow::ensure;
use data_platform_runner::generate::{EventKind, EventSettings};
use data_platform_tests::cluster::repository;
use data_platform_tests::{Broker, environment, needs_broker, python_reader};
use serde_json::Value;

use crate::enrichment;
use crate::events::{Stream, finish};

/// A streaming job that the program brings along, or an example.
pub(crate) struct Shipped {
    pub name: &'static str,
    /// Where its manifest lies in the repository, unless it is built in.
    pub file: Option<&'static str>,
    /// The records of its topic.
    pub kind: EventKind,
    /// Its tables, each with the columns by which a row is known; none: equal rows may be there.
    pub tables: &'static [(&'static str, &'static [&'static str])],
    /// Parameters with which something closes soon.
    pub parameters: &'static [(&'static str, &'static str)],
    /// Fields that are other than in its manifest, as `--set` takes them.
    pub fields: &'static [&'static str],
    /// Event time between two records, so that windows get some each.
    pub step_ms: f64,
    /// Compares every table below a folder with what somebody else computes from the records of the topic, as far as windows
    /// are closed at a watermark; gives what became of the records. See [`Stream::compare`].
    pub compare: fn(&Stream, &Path, Option<i64>) -> anyhow::Result<Value>,
}

pub(crate) static EVENT_AGGREGATION: Shipped = Shipped {
    name: "event-aggregation",
    file: None,
    kind: EventKind::AppEvents,
    tables: &[("events_aggregated_realtime", &["window_start", "user_id", "event_type", "app_type"])],
    parameters: &[],
    fields: &[],
    step_ms: 20.0,
    compare: |stream, outputs, watermark| event_counts(stream, outputs, watermark, &[]),
};

/// The same of the first events of each user and type only: those of few users are duplicates for the most part.
pub(crate) static DEDUPLICATED: Shipped = Shipped {
    name: "event-aggregation",
    file: None,
    kind: EventKind::AppEvents,
    tables: &[("events_aggregated_realtime", &["window_start", "user_id", "event_type", "app_type"])],
    parameters: &[],
    fields: &["spec.deduplicate={keys: [user_id, event_type], within: 10s}"],
    step_ms: 20.0,
    compare: |stream, outputs, watermark| {
        let keys = ["--deduplicate", "user_id,event_type", "--within-ms", "10000"];
        let counts = event_counts(stream, outputs, watermark, &keys)?;
        ensure!(counts["duplicates"].as_u64() > Some(100), "{counts:#}");
        Ok(counts)
    },
};

fn event_counts(stream: &Stream, outputs: &Path, watermark: Option<i64>, options: &[&str]) -> anyhow::Result<Value> {
    let expected = stream.expected_with(options)?;
    let options = watermark_option(watermark);
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    expected.compare(&outputs.join("events_aggregated_realtime"), &options)?.expect_success()?;
    Ok(expected.counts.clone())
}

/// Visits of twenty users are some events long.
pub(crate) static CLICKSTREAM: Shipped = Shipped {
    name: "clickstream-analysis",
    file: None,
    kind: EventKind::Clickstream,
    tables: &[("clickstream_sessions", &["session_start", "user_id", "session_id"])],
    parameters: &[("gap", "10 seconds")],
    fields: &[],
    step_ms: 150.0,
    compare: |stream, outputs, watermark| visits(stream, outputs, watermark, "10"),
};

/// With the gap of the manifest: the events of some hours.
pub(crate) static CLICKSTREAM_AS_IT_IS: Shipped = Shipped {
    name: "clickstream-analysis",
    file: None,
    kind: EventKind::Clickstream,
    tables: &[("clickstream_sessions", &["session_start", "user_id", "session_id"])],
    parameters: &[],
    fields: &[],
    step_ms: 5_400.0,
    compare: |stream, outputs, watermark| visits(stream, outputs, watermark, "1800"),
};

fn visits(stream: &Stream, outputs: &Path, watermark: Option<i64>, gap_seconds: &str) -> anyhow::Result<Value> {
    let table = outputs.join("clickstream_sessions");
    read("clickstream_sessions.py", stream, &table, watermark, &["--gap-seconds", gap_seconds])
}

/// Two outputs: rows as they come, and windows.
pub(crate) static CHANGES: Shipped = Shipped {
    name: "cdc-transformation",
    file: None,
    kind: EventKind::Changes,
    tables: &[
        ("cdc_transformed", &[]),
        ("cdc_operation_summaries", &["window_start", "database", "schema_name", "table_name"]),
    ],
    parameters: &[],
    fields: &[],
    step_ms: 37.0,
    compare: |stream, outputs, watermark| {
        Ok(read("compare_changes.py", stream, outputs, watermark, &[])?["counts"].take())
    },
};

/// All four topics, which have the names of the manifest; the table of users lies beside the output.
pub(crate) static ENRICHMENT_AS_IT_IS: Shipped = Shipped {
    name: "data-enrichment",
    file: None,
    kind: EventKind::ExternalData,
    tables: &[("enriched_events", &[])],
    parameters: &[],
    fields: &[],
    step_ms: 50.0,
    compare: |stream, outputs, _| {
        let table = outputs.join("enriched_events");
        let topics = EventKind::ALL.map(|kind| (kind, kind.topic()));
        enrichment::compare_table(
            &stream.broker,
            &stream.folders,
            &topics,
            &table,
            &outputs.join(enrichment::USERS_FILE),
        )
    },
};

/// A hop, ranked.
pub(crate) static TOP_PAGES: Shipped = Shipped {
    name: "top-pages",
    file: Some("manifests/examples/top-pages.yaml"),
    kind: EventKind::Clickstream,
    tables: &[("top_pages", &["window_start", "place"])],
    parameters: &[],
    fields: &[],
    step_ms: 60.0,
    compare: |stream, outputs, _| example(stream, outputs),
};

/// Rows as they come.
pub(crate) static INGEST: Shipped = Shipped {
    name: "ingest",
    file: Some("manifests/examples/ingest.yaml"),
    kind: EventKind::AppEvents,
    tables: &[("app_events_raw", &["partition", "offset"])],
    parameters: &[],
    fields: &[],
    step_ms: 20.0,
    compare: |stream, outputs, _| example(stream, outputs),
};

/// Some events to a topic, the others counted.
pub(crate) static ROUTE_ERRORS: Shipped = Shipped {
    name: "route-errors",
    file: Some("manifests/examples/route-errors.yaml"),
    kind: EventKind::AppEvents,
    tables: &[("other_event_counts", &["window_start", "event_type"])],
    parameters: &[("errorsTopic", "{topic}-errors"), ("errorTypes", "'purchase', 'search'")],
    fields: &[],
    step_ms: 20.0,
    compare: |stream, outputs, _| example(stream, outputs),
};

/// The examples of manifests/examples.
const EXAMPLES: [&Shipped; 3] = [&TOP_PAGES, &INGEST, &ROUTE_ERRORS];

fn example(stream: &Stream, outputs: &Path) -> anyhow::Result<Value> {
    let dump = stream.dump()?;
    let mut arguments = vec![stream.shipped.name.into(), dump.into_os_string(), outputs.as_os_str().to_owned()];
    if stream.shipped.name == ROUTE_ERRORS.name {
        let errors = stream.folders.root().join("errors.jsonl");
        stream.broker.dump_topic(&errors_topic(stream), &errors)?;
        arguments.push(errors.into_os_string());
    }
    python_reader("examples.py", arguments)?.expect_success()
}

fn errors_topic(stream: &Stream) -> String {
    format!("{}-errors", stream.topic)
}

fn watermark_option(watermark: Option<i64>) -> Vec<String> {
    watermark.map_or_else(Vec::new, |watermark| vec!["--watermark".to_owned(), watermark.to_string()])
}

/// What an independent reader says of a table, or of a folder of tables; an error if it finds a difference.
fn read(
    reader: &str,
    stream: &Stream,
    table: &Path,
    watermark: Option<i64>,
    options: &[&str],
) -> anyhow::Result<Value> {
    let dump = stream.dump()?;
    let watermark = watermark_option(watermark);
    let options = options.iter().copied().chain(watermark.iter().map(String::as_str)).map(OsStr::new);
    python_reader(reader, [dump.as_os_str(), table.as_os_str()].into_iter().chain(options))?.expect_success()
}

/// A job over disorder, timestamps of every form, bad records and tombstones, stopped in between: every output, and the dead
/// letters, are what others make of the raw records.
fn is_exact(broker: Broker, shipped: &'static Shipped) -> anyhow::Result<()> {
    let settings = EventSettings {
        seed: environment::seed(),
        users: 60,
        disorder_ms: 20_000,
        messy: 0.04,
        every_timestamp_form: true,
        ..EventSettings::default()
    };
    let mut stream = Stream::of(shipped, broker, "exact", 4, settings)?;
    if shipped.name == ROUTE_ERRORS.name {
        stream.broker.create_topic(&errors_topic(&stream), 2, &[])?;
    }
    let job = |stream: &Stream| {
        let job =
            stream.job().arg("--starting-offsets").arg("earliest").arg("--set").arg("spec.badRecords.maxPercent=100");
        job.arg("--set").arg("spec.kafka.maxOffsetsPerTrigger=1500")
    };
    stream.produce(6_000)?;
    // Windows stay open, in a state that the second run goes on with.
    let first = finish(job(&stream).arg("--test-mode"))?;
    ensure!(first["open_windows"].as_u64() > Some(0) || shipped.name == INGEST.name, "{first}");
    stream.produce(6_000)?;
    let summary = finish(job(&stream).arg("--drain"))?;
    ensure!(summary["dead_letters"].as_u64() > Some(200) && summary["tombstones"].as_u64() > Some(10), "{summary}");
    stream.check_exact(&summary)?;
    stream.check_proved()?;
    // Another run finds nothing, and says the same.
    let again = finish(job(&stream).arg("--drain"))?;
    ensure!(["records", "rows", "files"].iter().all(|name| again[name] == summary[name]), "{again} after {summary}");
    Ok(())
}

#[test]
fn event_aggregation_is_exact() -> anyhow::Result<()> {
    is_exact(needs_broker!(), &EVENT_AGGREGATION)
}

#[test]
fn clickstream_analysis_is_exact() -> anyhow::Result<()> {
    is_exact(needs_broker!(), &CLICKSTREAM)
}

#[test]
fn both_outputs_of_cdc_transformation_are_exact() -> anyhow::Result<()> {
    is_exact(needs_broker!(), &CHANGES)
}

#[test]
fn the_top_pages_of_every_five_minutes_are_exact() -> anyhow::Result<()> {
    is_exact(needs_broker!(), &TOP_PAGES)
}

#[test]
fn every_event_is_a_row_of_the_ingest_job() -> anyhow::Result<()> {
    is_exact(needs_broker!(), &INGEST)
}

#[test]
fn errors_are_in_their_topic_and_the_others_are_counted() -> anyhow::Result<()> {
    is_exact(needs_broker!(), &ROUTE_ERRORS)
}

#[test]
fn every_example_is_a_job_that_a_test_runs() -> anyhow::Result<()> {
    for entry in std::fs::read_dir(repository().join("manifests/examples"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let is_known = EXAMPLES.iter().any(|job| job.file.is_some_and(|file| file.ends_with(&name)));
        ensure!(is_known, "no test runs manifests/examples/{name}");
    }
    Ok(())
}
