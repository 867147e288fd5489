//! Batch jobs whose intervals are weeks or months: which rows belong to one, what it is called, and what a run replaces.

use anyhow::ensure;
use data_platform_tests::process::RunnerCommand;
use serde_json::{Value, json};

use crate::batch::numbers::Days;
use crate::batch::{files, refused};
use crate::events::finish;

/// A job over intervals of this length that copies numbers.
struct Grid {
    days: Days,
    writes: Value,
}

impl Grid {
    fn new(interval: &str, lines: &str) -> anyhow::Result<Self> {
        let writes = json!({"interval": interval, "query": "SELECT n FROM numbers", "sink": {"path": "out"}});
        let days = Days::new(writes.clone(), &[])?;
        days.input_lines(lines)?;
        Ok(Self { days, writes })
    }

    fn run(&self, words: &[&str]) -> anyhow::Result<RunnerCommand> {
        let job = self.days.job_that_writes(&self.writes, "data-platform")?;
        Ok(words.iter().fold(job, |job, word| job.arg(word)))
    }

    fn files(&self) -> anyhow::Result<Vec<String>> {
        files(&self.days.folders.outputs().join("out"))
    }

    /// The numbers of an interval.
    fn of(&self, interval: &str) -> anyhow::Result<Vec<i64>> {
        let file = self.days.folders.outputs().join(format!("out/days-{interval}.parquet"));
        self.days.query(&format!("SELECT n FROM '{}' ORDER BY n", file.display()))
    }
}

#[test]
fn weeks_begin_on_monday_also_over_the_turn_of_a_year() -> anyhow::Result<()> {
    let weeks = Grid::new(
        "week",
        "1,2025-12-28T23:59:59.999999Z\n2,2025-12-29T00:00:00Z\n3,2026-01-01T12:00:00Z\n4,2026-01-04T23:59:59.999999Z\n\
         5,2026-01-05T00:00:00Z\n6,2026-01-11T12:00:00Z\n7,2026-01-12T00:00:00Z\n",
    )?;
    let lines = refused(weeks.run(&["--from", "2026-01-01", "--to", "2026-01-12"])?, 2)?;
    ensure!(lines.contains("week"), "{lines}");
    let summary = finish(weeks.run(&["--from", "2025-12-29", "--to", "2026-01-12"])?)?;
    ensure!(summary["intervals"] == 2 && summary["rows"] == 5, "{summary}");
    ensure!(weeks.files()? == ["days-2026W01.parquet", "days-2026W02.parquet"], "{:?}", weeks.files()?);
    ensure!(weeks.of("2026W01")? == [2, 3, 4] && weeks.of("2026W02")? == [5, 6]);
    // The last one that was over at the scheduled time, and one again.
    let summary = finish(weeks.run(&["--scheduled", "2026-01-20 00:05:00"])?)?;
    ensure!((&summary["intervals"], &summary["start"]) == (&json!(1), &json!("2026-01-12T00:00:00Z")), "{summary}");
    weeks.days.input_lines("8,2026-01-04T00:00:00Z\n9,2026-01-05T00:00:00Z\n")?;
    let summary = finish(weeks.run(&["--target-date", "2025-12-29"])?)?;
    ensure!(summary["intervals"] == 1 && summary["end"] == "2026-01-05T00:00:00Z", "{summary}");
    ensure!(weeks.days.query("SELECT n FROM out ORDER BY n")? == [5, 6, 7, 8]);
    weeks.days.verify()
}

#[test]
fn months_have_their_own_lengths() -> anyhow::Result<()> {
    let months = Grid::new(
        "month",
        "1,2025-12-31T23:59:59.999999Z\n2,2026-01-01T00:00:00Z\n3,2026-01-31T23:59:59Z\n4,2026-02-01T00:00:00Z\n\
         5,2026-02-28T23:59:59.999999Z\n6,2026-03-01T00:00:00Z\n",
    )?;
    let lines = refused(months.run(&["--from", "2026-01-01", "--to", "2026-01-31"])?, 2)?;
    ensure!(lines.contains("month"), "{lines}");
    let summary = finish(months.run(&["--from", "2025-12-01", "--to", "2026-03-01"])?)?;
    ensure!(summary["intervals"] == 3 && summary["rows"] == 5, "{summary}");
    let names = ["202512", "202601", "202602"];
    ensure!(months.files()? == names.map(|name| format!("days-{name}.parquet")), "{:?}", months.files()?);
    let of = [months.of("202512")?, months.of("202601")?, months.of("202602")?];
    ensure!(of == [vec![1], vec![2, 3], vec![4, 5]], "{of:?}");
    let summary = finish(months.run(&["--scheduled", "2026-04-01 00:05:00"])?)?;
    ensure!((&summary["intervals"], &summary["start"]) == (&json!(1), &json!("2026-03-01T00:00:00Z")), "{summary}");
    months.days.input_lines("7,2026-01-15T00:00:00Z\n8,2026-02-01T00:00:00Z\n")?;
    finish(months.run(&["--from", "2026-01-01", "--to", "2026-02-01"])?)?;
    ensure!(months.days.query("SELECT n FROM out ORDER BY n")? == [1, 4, 5, 6, 7]);
    months.days.verify()
}
