//! The result is exact: row for row what an independent computation in DuckDB SQL makes of the raw records.

use data_platform_runner::generate::EventSettings;
use data_platform_tests::needs_broker;

use crate::events::{Stream, check_counts, finish};

/// 200,000 events in ten minutes of event time.
const STEP_MS: f64 = 3.0;

#[test]
fn the_output_is_what_an_independent_computation_gives() -> anyhow::Result<()> {
    let settings =
        EventSettings { messy: 0.01, every_timestamp_form: true, disorder_ms: 20_000, ..EventSettings::default() };
    let mut stream = Stream::new(needs_broker!(), "result", 6, settings, STEP_MS)?;
    stream.produce(200_000)?;
    let summary = stream.drain()?;
    assert_eq!(summary["late"], 0, "disorder below the delay makes nothing late: {summary}");
    stream.check_exact(&summary)?;
    // A second run finds nothing to do and changes nothing.
    let again = stream.drain()?;
    stream.check_exact(&again)
}

#[test]
fn rows_beyond_the_delay_are_late_and_nothing_is_lost() -> anyhow::Result<()> {
    let settings = EventSettings { late: 0.02, late_ms: 180_000, ..EventSettings::default() };
    let mut stream = Stream::new(needs_broker!(), "late", 6, settings, STEP_MS)?;
    stream.produce(100_000)?;
    let summary = stream.drain()?;
    let late = summary["late"].as_u64().unwrap_or(0);
    assert!(late > 500, "the late events came too early: {summary}");
    stream.check_conserved(&summary)
}

#[test]
fn one_filled_partition_of_six_gives_its_rows_in_test_mode() -> anyhow::Result<()> {
    let mut stream = Stream::new(needs_broker!(), "one-of-six", 6, EventSettings::default(), STEP_MS)?;
    stream.produce_to(60_000, |_| 4)?;
    let summary = finish(stream.job().arg("--test-mode"))?;
    // Three minutes of events and a delay of 30 s: two windows are closed, and their rows are exact.
    assert!(summary["rows"].as_u64() > Some(1_000), "{summary}");
    assert!(summary["open_windows"].as_u64() >= Some(1), "{summary}");
    let expected = stream.expected()?;
    expected.compare(&stream.output(), &["--subset"])?.expect_success()?;
    // The windows that are open stay so, and the next run goes on where this one ended.
    let summary = stream.drain()?;
    stream.check_exact(&summary)
}

#[test]
fn another_cut_gives_the_same_rows() -> anyhow::Result<()> {
    let mut stream = Stream::new(needs_broker!(), "cuts", 3, EventSettings::default(), STEP_MS)?;
    stream.produce(30_000)?;
    for records in ["700", "25000"] {
        let other = stream.folders.root().join(records);
        let job = stream.job().arg("--drain").arg("--starting-offsets").arg("earliest");
        let job = job.arg("--set").arg(format!("spec.kafka.maxOffsetsPerTrigger={records}"));
        let summary = finish(job.env("OUTPUTS_DIR", other.join("o")).env("CHECKPOINT_DIR", other.join("c")))?;
        let expected = stream.expected()?;
        expected.compare(&other.join("o/events_aggregated_realtime"), &[])?.expect_success()?;
        check_counts(&summary, &expected.counts)?;
    }
    Ok(())
}
