//! `local`: all jobs of a folder in one process. Every output is what independent readers make of the records, over restarts, and
//! beside jobs that fail.

mod backfill;
mod beside;
mod memory;
mod schedule;
mod seven;
mod terminal;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use data_platform_runner::config::templates;
use data_platform_tests::process::RunnerCommand;
use data_platform_tests::{Broker, JobFolders, Pages, Runner};
use serde_json::Value;

/// Longest time of anything that is waited for.
const TIMEOUT: Duration = Duration::from_secs(90);

/// A batch job without a schedule over a table that another program wrote, and that is no Parquet.
const DAMAGED: &str = "apiVersion: dataplatform.io/v1alpha1
kind: BatchJob
metadata: {name: damaged}
spec:
  interval: hour
  inputs: [{name: t, path: damaged, timeColumn: at, completeBy: clock}]
  query: SELECT count(*) AS n FROM t
  sink: {path: totals}
";

/// A folder of jobs, below the folders of a test.
struct Jobs {
    folders: JobFolders,
}

impl Jobs {
    fn new() -> anyhow::Result<Self> {
        let jobs = Self { folders: JobFolders::new()? };
        fs::create_dir_all(jobs.folder())?;
        Ok(jobs)
    }

    fn folder(&self) -> PathBuf {
        self.folders.root().join("jobs")
    }

    fn file(&self, job: &str) -> PathBuf {
        self.folder().join(format!("{job}.yaml"))
    }

    /// Writes the file of a job in one piece, as an editor does.
    fn write(&self, job: &str, text: &str) -> anyhow::Result<()> {
        let partial = self.folders.root().join("partial");
        fs::write(&partial, text)?;
        Ok(fs::rename(partial, self.file(job))?)
    }

    /// `local` over the folder, with a page.
    fn command(&self, broker: Option<&Broker>) -> RunnerCommand {
        let command = Runner::command(["local", "jobs", "--http", "127.0.0.1:0"]).folders(&self.folders);
        match broker {
            Some(broker) => command.broker(broker),
            None => command,
        }
    }

    fn output(&self, table: &str) -> PathBuf {
        self.folders.outputs().join(table)
    }

    /// The watermark of the job that writes a table, in microseconds, as it stands beside the table.
    fn watermark(&self, table: &str) -> anyhow::Result<i64> {
        let path = data_platform_tests::folders::beside(&self.output(table)).join("progress.json");
        let progress: Value = serde_json::from_slice(&fs::read(path)?)?;
        progress["watermark"].as_i64().ok_or_else(|| anyhow::anyhow!("a watermark in {progress}"))
    }

    /// The lines of the log file of a job.
    fn log(&self, job: &str) -> anyhow::Result<Vec<Value>> {
        let text = fs::read_to_string(self.folders.root().join("logs").join(format!("{job}.json")))?;
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }
}

/// The manifest of a built-in job with some texts replaced, each of which must be there.
fn manifest(job: &str, replaced: &[(&str, &str)]) -> anyhow::Result<String> {
    let mut text = templates::find(job).map_err(anyhow::Error::msg)?.to_owned();
    for (from, to) in replaced {
        anyhow::ensure!(text.contains(from), "{from} is not in {job}");
        text = text.replace(from, to);
    }
    Ok(text)
}

/// A streaming job of a topic that is not there.
fn nowhere() -> anyhow::Result<String> {
    let replaced = [
        ("name: event-aggregation", "name: nowhere"),
        ("topic_app_events", "no-such-topic"),
        ("path: events_aggregated_realtime", "path: nowhere"),
    ];
    manifest("event-aggregation", &replaced)
}

/// Makes the table of the job [`DAMAGED`].
fn damage(jobs: &Jobs) -> anyhow::Result<()> {
    fs::create_dir_all(jobs.output("damaged"))?;
    Ok(fs::write(jobs.output("damaged").join("a.parquet"), "PAR1 and then nothing")?)
}

/// What the pages say of a job, as soon as it is what somebody waits for.
fn wait_for_job(
    runner: &mut Runner,
    pages: &Pages,
    job: &str,
    what: &str,
    mut is: impl FnMut(&Value) -> bool,
) -> anyhow::Result<Value> {
    runner.wait_for(&format!("{job} to be {what}"), TIMEOUT, |_| {
        let all = pages.get("/status").ok()?.json().ok()?;
        let jobs = all["jobs"].as_array()?;
        jobs.iter().find(|one| one["name"] == job).filter(|job| is(job)).cloned()
    })
}

/// The condition Ready of a job: its status and its reason.
fn ready(job: &Value) -> (String, String) {
    let conditions = job["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let ready = conditions.into_iter().find(|one| one["type"] == "Ready").unwrap_or_default();
    let text = |name: &str| ready[name].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"))
}

/// Number of records in the log of a job.
fn records_in_log(checkpoints: &Path, job: &str) -> usize {
    fs::read_dir(checkpoints.join("local").join(job).join("log")).map_or(0, Iterator::count)
}
