//! Each of the three jobs, killed at each step of a replacement and replaced hundreds of times: somebody who reads all the while
//! sees each interval as it was or as it is, and in the end there is one right copy.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, ensure};
use data_platform_runner::config::templates;
use data_platform_tests::process::RunnerCommand;
use data_platform_tests::{Ended, Runner, environment, skip, wait_for};
use serde_json::Value;

use crate::batch::days::{Days, day, read};
use crate::batch::files;
use crate::batch::kills::STEPS;
use crate::events::{TIMEOUT, finish};

/// Replacements of each job that the reader must live through.
const REPLACEMENTS: u64 = 200;

/// One of the three jobs over sample tables.
struct Replaced {
    name: &'static str,
    days: Days,
    /// Its table, below the outputs.
    table: &'static str,
    /// Its intervals.
    intervals: u64,
    /// Days that a run processes.
    processed: u64,
}

impl Replaced {
    /// Two days of hours. The sample has hours, too, which are another program's: the job gets a table of its own.
    fn hours() -> anyhow::Result<Self> {
        let days = Days::of(5, 2)?;
        Self { name: "hourly-aggregates", days, table: "hours", intervals: 48, processed: 2 }.with_file()
    }

    fn days() -> anyhow::Result<Self> {
        let days = Days::of(6, 25)?;
        Self { name: "daily-summaries", days, table: "daily_summaries", intervals: 25, processed: 25 }.with_file()
    }

    fn segments() -> anyhow::Result<Self> {
        let days = Days::of(7, 3)?;
        Self { name: "user-segmentation", days, table: "user_segments", intervals: 1, processed: 3 }.with_file()
    }

    fn with_file(self) -> anyhow::Result<Self> {
        let template = templates::find(self.name).map_err(anyhow::Error::msg)?;
        let text = template.replace("path: hourly_aggregates  ", &format!("path: {}  ", self.table));
        std::fs::write(self.file(), if self.table == "hours" { text } else { template.to_owned() })?;
        Ok(self)
    }

    fn file(&self) -> PathBuf {
        self.days.folders.root().join("job.yaml")
    }

    /// A run over all intervals.
    fn run(&self, program: &str) -> RunnerCommand {
        let command = Runner::program(&environment::program(program), ["run", "--http", "127.0.0.1:0", "-f"]);
        let command = command.arg(self.file()).folders(&self.days.folders);
        command.arg("--from").arg(day(1)).arg("--to").arg(day(1 + self.processed))
    }

    /// Replaces every interval; gives how many.
    fn replace(&self) -> anyhow::Result<u64> {
        let summary = finish(self.run("data-platform"))?;
        let replaced = summary["intervals"].as_u64().context("intervals")?;
        ensure!(replaced == self.intervals, "{}: {summary}", self.name);
        Ok(replaced)
    }

    /// There is one right copy of everything.
    fn check(&self) -> anyhow::Result<()> {
        let found = files(&self.days.folders.outputs().join(self.table))?;
        ensure!(found.len() as u64 == self.intervals, "{found:?}");
        match self.name {
            "hourly-aggregates" => {
                let tables = [self.table, "events_aggregated_realtime"].map(|name| self.days.table(name));
                let hours = self.hours_with_rows()?;
                ensure!(hours.len() > 10, "{hours:?}");
                read("hourly_aggregates.py", tables.into_iter().chain(hours).collect()).map(drop)
            }
            "daily-summaries" => self.days.check_summaries(&(1..=self.processed).collect::<Vec<_>>()),
            _ => self.days.check_segments(1, 1 + self.processed).map(drop),
        }?;
        let name = self.name;
        let verify = Runner::command(["checkpoint", "verify", name]).folders(&self.days.folders);
        let (ended, runner) = verify.run(TIMEOUT)?;
        ensure!(ended == Ended::Code(0), "{name}: {}", runner.last_lines());
        Ok(())
    }

    /// The hours of the input, as people write them. The first day has none.
    fn hours_with_rows(&self) -> anyhow::Result<Vec<String>> {
        let sql = "SELECT DISTINCT to_char(date_trunc('hour', window_start), '%F %T') AS hour FROM events_aggregated_realtime ORDER BY hour";
        let query = Runner::command(["query", sql, "--format", "csv"]).folders(&self.days.folders);
        let (ended, runner) = query.run(TIMEOUT)?;
        ensure!(ended == Ended::Code(0), "{}", runner.last_lines());
        Ok(runner.stdout().lines().skip(1).map(str::to_owned).collect())
    }
}

/// `replaced.py` over the table of a job.
struct Watcher {
    child: Child,
    folder: PathBuf,
}

impl Watcher {
    fn start(job: &Replaced) -> anyhow::Result<Self> {
        let folder = job.days.folders.root().to_owned();
        let python = environment::python().context("no Python for the readers")?;
        let child = Command::new(python)
            .arg(environment::tests_folder().join("readers/replaced.py"))
            .arg(job.days.table(job.table))
            .args([OsStr::new("--until"), folder.join("until").as_os_str()])
            .args([OsStr::new("--progress"), folder.join("reads").as_os_str()])
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdout(Stdio::piped())
            .spawn()?;
        let watcher = Self { child, folder };
        wait_for("the first read", TIMEOUT, || watcher.reads().map(|_| ()))?;
        Ok(watcher)
    }

    fn reads(&self) -> Option<u64> {
        std::fs::read_to_string(self.folder.join("reads")).ok()?.parse().ok()
    }

    fn finish(self) -> anyhow::Result<Value> {
        std::fs::write(self.folder.join("until"), "")?;
        let output = self.child.wait_with_output()?;
        let report: Value = serde_json::from_slice(&output.stdout)?;
        ensure!(output.status.success(), "{report:#}");
        Ok(report)
    }
}

/// Kills the job at its steps, and runs all of it three times.
fn kill_and_repeat(job: &Replaced) -> anyhow::Result<()> {
    let log = job.days.folders.root().join("faults.log");
    let watcher = Watcher::start(job)?;
    let (mut killed, mut points) = (0, 0);
    // Over an empty output, and in the middle of one. Not every run reads as its first, or ends with a base.
    let numbers: &[u64] = if environment::is_soak() { &[1, 2, 3] } else { &[1] };
    for number in numbers {
        for step in STEPS {
            for moment in ["before", "after"] {
                let point = format!("{}:{moment}:{number}", step.name());
                let run = job.run("data-platform-faults").env("FAULT_KILL", &point).env("FAULT_LOG", &log);
                let (ended, runner) = run.run(TIMEOUT)?;
                let is_known = matches!(ended, Ended::Signal(9) | Ended::Code(0));
                ensure!(is_known, "{} {point}: {ended:?} {}", job.name, runner.last_lines());
                killed += usize::from(ended == Ended::Signal(9));
                points += 1;
            }
        }
    }
    for _ in 0..3 {
        job.replace()?;
        job.check()?;
    }
    let report = watcher.finish()?;
    println!("{}: {killed} kills at {points} points, {report}", job.name);
    ensure!(killed >= 20, "{}: only {killed} kills at {points} points", job.name);
    ensure!(std::fs::read_to_string(&log)?.lines().count() == killed, "every kill leaves a trace");
    Ok(())
}

/// Replaces everything again and again before the eyes of a reader.
fn replace_often(job: &Replaced) -> anyhow::Result<()> {
    job.replace()?;
    let watcher = Watcher::start(job)?;
    let mut replaced = 0;
    while replaced < REPLACEMENTS {
        replaced += job.replace()?;
    }
    let report = watcher.finish()?;
    job.check()?;
    println!("{}: {replaced} replacements, {report}", job.name);
    ensure!(report["reads"].as_u64() > Some(3), "{report}");
    ensure!(report["generations"].as_u64() > Some(2 * job.intervals), "{report}");
    Ok(())
}

#[test]
fn each_of_the_three_jobs_is_killed_at_each_step_and_is_there_once() -> anyhow::Result<()> {
    if environment::python().is_none() {
        skip!("no Python: start with tests/run");
    }
    for job in [Replaced::hours()?, Replaced::days()?, Replaced::segments()?] {
        kill_and_repeat(&job)?;
    }
    Ok(())
}

#[test]
fn a_reader_sees_the_old_rows_or_the_new_ones_in_two_hundred_replacements_of_each_job() -> anyhow::Result<()> {
    if environment::python().is_none() {
        skip!("no Python: start with tests/run");
    }
    for job in [Replaced::hours()?, Replaced::days()?, Replaced::segments()?] {
        replace_often(&job)?;
    }
    Ok(())
}
