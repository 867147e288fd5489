//! Jobs that write CSV and NDJSON, killed while DuckDB and pyarrow read the files: every row is there once.

use anyhow::ensure;
use data_platform_runner::faults::Step;
use data_platform_tests::{Broker, Watcher, environment, needs_broker};
use serde_json::json;

use super::numbers::{kill_at_random, kill_at_steps};
use crate::sources::numbers::{NAME, Numbers};

/// A job of this format, and who reads its table.
fn text(broker: Broker, format: &str) -> anyhow::Result<(Numbers, Watcher)> {
    let mut job = Numbers::new(broker, &format!("kill-{format}"), 1)?;
    job.set("/sink/format", json!(format));
    job.set("/kafka/maxOffsetsPerTrigger", json!(100));
    let watcher = Watcher::of_text(&job.folders.outputs().join(NAME), format, "n")?;
    Ok((job, watcher))
}

fn check(job: &Numbers, produced: u64) -> anyhow::Result<()> {
    ensure!(job.numbers()? == (0..produced).collect::<Vec<_>>(), "as query reads it");
    job.audit()
}

#[test]
fn a_kill_at_any_step_changes_nothing() -> anyhow::Result<()> {
    let (job, watcher) = text(needs_broker!(), "csv")?;
    kill_at_steps(&job, watcher, &[Step::StageFinish, Step::Decide, Step::Publish], check)
}

#[test]
fn random_kills_change_nothing() -> anyhow::Result<()> {
    let broker = needs_broker!();
    for format in ["csv", "ndjson"] {
        let (job, watcher) = text(broker.handle(), format)?;
        kill_at_random(job, watcher, environment::rounds(2, 100), check)?;
    }
    Ok(())
}
