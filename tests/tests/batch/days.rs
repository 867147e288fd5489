//! daily-summaries and user-segmentation over sample tables, compared with a computation of their own.

use data_platform_tests::process::RunnerCommand;
use data_platform_tests::{Runner, environment, folders::JobFolders, python_reader};

use crate::batch::{files, refused};
use crate::events::finish;

/// Days of the samples: from the first one on, which has no events, to the last one, which has no sessions.
const DAYS: u64 = 4;

/// Sample tables of some days from 2026-02-01 on.
pub(super) struct Days {
    pub(super) folders: JobFolders,
}

impl Days {
    fn new(seed: u64) -> anyhow::Result<Self> {
        Self::of(seed, DAYS)
    }

    /// So many days.
    pub(super) fn of(seed: u64, days: u64) -> anyhow::Result<Self> {
        let world = Self { folders: JobFolders::new()? };
        let outputs = world.folders.outputs().to_string_lossy().into_owned();
        let report = read("sample_sessions.py", vec![outputs, day(1), days.to_string(), seed.to_string()])?;
        anyhow::ensure!(report["events"].as_u64() > Some(100) && report["sessions"].as_u64() > Some(100), "{report}");
        Ok(world)
    }

    pub(super) fn table(&self, name: &str) -> String {
        self.folders.outputs().join(name).to_string_lossy().into_owned()
    }

    fn job(&self, name: &str) -> RunnerCommand {
        let program = environment::program("data-platform");
        Runner::program(&program, ["run", name, "--http", "127.0.0.1:0"]).folders(&self.folders)
    }

    pub(super) fn check_summaries(&self, days: &[u64]) -> anyhow::Result<()> {
        let tables = ["daily_summaries", "hourly_aggregates", "clickstream_sessions"].map(|name| self.table(name));
        let arguments = tables.into_iter().chain(days.iter().map(|number| day(*number))).collect();
        read("daily_summaries.py", arguments).map(drop)
    }

    pub(super) fn check_segments(&self, from: u64, to: u64) -> anyhow::Result<serde_json::Value> {
        let tables =
            ["user_segments", "events_aggregated_realtime", "clickstream_sessions"].map(|name| self.table(name));
        read("user_segments.py", tables.into_iter().chain([day(from), day(to)]).collect())
    }
}

/// The report of a reader that is content.
pub(super) fn read(reader: &str, arguments: Vec<String>) -> anyhow::Result<serde_json::Value> {
    python_reader(reader, arguments)?.expect_success()
}

/// `2026-02-01`.
pub(super) fn day(number: u64) -> String {
    format!("2026-02-{number:02}")
}

#[test]
fn days_are_summed_up_also_without_events_or_without_sessions() -> anyhow::Result<()> {
    let days = Days::new(1)?;
    let summary = finish(days.job("daily-summaries").arg("--from").arg(day(1)).arg("--to").arg(day(5)))?;
    anyhow::ensure!(summary["intervals"] == 4, "{summary}");
    days.check_summaries(&[1, 2, 3, 4])?;
    // A day again is there once.
    let summary = finish(days.job("daily-summaries").arg("--target-date").arg(day(2)))?;
    anyhow::ensure!(summary["intervals"] == 1 && summary["rows"].as_u64() > Some(3), "{summary}");
    days.check_summaries(&[1, 2, 3, 4])?;
    assert_eq!(files(&days.folders.outputs().join("daily_summaries"))?.len(), 4);
    let lines = refused(days.job("daily-summaries").arg("--target-date").arg("2999-01-01"), 2)?;
    assert!(lines.contains("the day from 2999-01-01T00:00:00.000Z to 2999-01-02T00:00:00.000Z is not over"), "{lines}");
    Ok(())
}

#[test]
fn segments_are_those_of_the_days_before_and_never_go_back_unasked() -> anyhow::Result<()> {
    let days = Days::new(2)?;
    let target = |date: u64, lookback: u64| {
        let job = days.job("user-segmentation").arg("--target-date").arg(day(date));
        job.arg("--lookback-days").arg(lookback.to_string())
    };
    let summary = finish(target(3, 2))?;
    anyhow::ensure!(
        summary["start"] == "2026-02-02T00:00:00Z" && summary["end"] == "2026-02-04T00:00:00Z",
        "{summary}"
    );
    let report = days.check_segments(2, 4)?;
    anyhow::ensure!(report["segments"].as_object().is_some_and(|segments| segments.len() > 2), "{report}");
    finish(target(4, 4))?;
    days.check_segments(1, 5)?;
    assert_eq!(files(&days.folders.outputs().join("user_segments"))?, ["user-segmentation.parquet"]);
    // What is older does not replace it, unless somebody says so.
    let lines = refused(target(3, 2), 2)?;
    assert!(
        lines.contains("is that of the time until 2026-02-05T00:00:00.000Z") && lines.contains("--force"),
        "{lines}"
    );
    days.check_segments(1, 5)?;
    finish(target(3, 2).arg("--force"))?;
    days.check_segments(2, 4)?;
    finish(days.job("user-segmentation").arg("--from").arg(day(2)).arg("--to").arg(day(5)))?;
    days.check_segments(2, 5)?;
    // The same again, and a scheduled run for a time that the table has.
    finish(days.job("user-segmentation").arg("--from").arg(day(2)).arg("--to").arg(day(5)))?;
    let summary = finish(days.job("user-segmentation").arg("--scheduled").arg("2026-02-05 03:00:00"))?;
    anyhow::ensure!(summary["intervals"] == 0, "{summary}");
    days.check_segments(2, 5)?;
    // Weights and limits are parameters.
    let job = days.job("user-segmentation").arg("--from").arg(day(2)).arg("--to").arg(day(5));
    finish(job.arg("--param").arg("vip_above=-1"))?;
    let wrong = days.check_segments(2, 5);
    anyhow::ensure!(wrong.is_err_and(|error| error.to_string().contains("VIP")), "another limit gives other segments");
    Ok(())
}
