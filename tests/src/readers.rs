//! The independent readers (Python, in `readers/`), called from a test.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::s3::Bucket;
use crate::{Broker, environment, folders, wait_for};

/// What a reader printed, and whether it was content.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Exit code 0: no difference, no error.
    pub succeeded: bool,
    /// Its report.
    pub report: Value,
}

impl Reading {
    /// The report of a reader that was content.
    ///
    /// # Errors
    /// When it was not; the message is the report.
    pub fn expect_success(self) -> anyhow::Result<Value> {
        if !self.succeeded {
            bail!("the reader found: {:#}", self.report);
        }
        Ok(self.report)
    }
}

/// Runs `readers/<name>` with these arguments.
///
/// # Errors
/// When it does not end with a report (JSON on standard output); the message has what it wrote instead.
pub fn python_reader<S: AsRef<OsStr>>(name: &str, arguments: impl IntoIterator<Item = S>) -> anyhow::Result<Reading> {
    python_reader_in(None, name, arguments)
}

/// The same with what it needs to reach a bucket.
///
/// # Errors
/// As [`python_reader`].
pub fn python_reader_in<S: AsRef<OsStr>>(
    bucket: Option<&Bucket>,
    name: &str,
    arguments: impl IntoIterator<Item = S>,
) -> anyhow::Result<Reading> {
    let child = start(bucket, name, arguments)?;
    finish(name, child)
}

/// What `event-aggregation` must write for the records of a topic, computed by DuckDB.
#[derive(Debug)]
pub struct Expected {
    folder: TempDir,
    /// Counts of the records: records, tombstones, bad, future, accepted, rows.
    pub counts: Value,
}

impl Expected {
    /// Reads the topic and computes. `options` are those of `expect_event_aggregation.py`.
    ///
    /// # Errors
    /// When the topic cannot be read or the reader fails.
    pub fn of_topic(broker: &Broker, topic: &str, options: &[&str]) -> anyhow::Result<Self> {
        let folder = folders::temporary("expected-")?;
        let dump = folder.path().join("dump.jsonl");
        broker.dump_topic(topic, &dump)?;
        let (rows, bad) = (folder.path().join("expected.parquet"), folder.path().join("bad.jsonl"));
        let arguments = [dump.as_os_str(), rows.as_os_str(), OsStr::new("--bad"), bad.as_os_str()];
        let arguments = arguments.into_iter().chain(options.iter().map(OsStr::new));
        let counts = python_reader("expect_event_aggregation.py", arguments)?.expect_success()?;
        Ok(Self { folder, counts })
    }

    /// One of the counts.
    ///
    /// # Panics
    /// When there is no such count.
    #[must_use]
    pub fn count(&self, name: &str) -> u64 {
        self.counts[name].as_u64().expect("a name of a count")
    }

    /// Partition and offset of every bad record, in the order of the dump.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn bad_records(&self) -> anyhow::Result<Vec<(i32, i64)>> {
        let text = fs::read_to_string(self.folder.path().join("bad.jsonl")).context("read the list of bad records")?;
        text.lines()
            .map(|line| {
                let record: Value = serde_json::from_str(line)?;
                let partition = record["partition"].as_i64().context("a partition")?;
                Ok((i32::try_from(partition)?, record["offset"].as_i64().context("an offset")?))
            })
            .collect()
    }

    /// Compares an output with it, row for row, with both plain readers. `options` are those of `compare.py`.
    ///
    /// # Errors
    /// When the reader itself fails. A difference is a [`Reading`] that did not succeed.
    pub fn compare(&self, output: &Path, options: &[&str]) -> anyhow::Result<Reading> {
        let rows = self.folder.path().join("expected.parquet");
        let arguments = [output.as_os_str(), rows.as_os_str()].into_iter().chain(options.iter().map(OsStr::new));
        python_reader("compare.py", arguments)
    }
}

/// A reader that reads an output again and again, beside a job that is being killed (`watch.py`, `delta.py watch`).
#[derive(Debug)]
pub struct Watcher {
    script: &'static str,
    child: Option<Child>,
    folder: TempDir,
}

impl Watcher {
    /// Starts to read a table of event-aggregation.
    ///
    /// # Errors
    /// When the reader cannot be started.
    pub fn start(output: &Path) -> anyhow::Result<Self> {
        Self::start_with(None, "watch.py", &[output.as_os_str()])
    }

    /// Starts to read any table of Parquet, whose rows are known by these columns; without any, equal rows may be there.
    ///
    /// # Errors
    /// As [`Watcher::start`].
    pub fn start_with_key(output: &Path, key: &[&str]) -> anyhow::Result<Self> {
        let key = key.join(",");
        Self::start_with(None, "watch.py", &[output.as_os_str(), "--key".as_ref(), key.as_ref()])
    }

    /// Starts to read a table of `csv` or `ndjson`, whose rows are known by a column.
    ///
    /// # Errors
    /// As [`Watcher::start`].
    pub fn of_text(output: &Path, format: &str, key: &str) -> anyhow::Result<Self> {
        let words = ["--key", key, "--format", format].map(OsStr::new);
        let arguments: Vec<_> = std::iter::once(output.as_os_str()).chain(words).collect();
        Self::start_with(None, "watch.py", &arguments)
    }

    /// Starts to read a Delta table, whose rows are known by a column: a folder, or an URL in a bucket.
    ///
    /// # Errors
    /// As [`Watcher::start`].
    pub fn of_delta(bucket: Option<&Bucket>, table: &OsStr, key: &str) -> anyhow::Result<Self> {
        Self::start_with(bucket, "delta.py", &["watch".as_ref(), table, "--key".as_ref(), key.as_ref()])
    }

    fn start_with(bucket: Option<&Bucket>, script: &'static str, arguments: &[&OsStr]) -> anyhow::Result<Self> {
        let folder = folders::temporary("watch-")?;
        let (until, progress) = (folder.path().join("until"), folder.path().join("progress"));
        let places = [OsStr::new("--until"), until.as_os_str(), OsStr::new("--progress"), progress.as_os_str()];
        let child = Some(start(bucket, script, arguments.iter().copied().chain(places))?);
        Ok(Self { script, child, folder })
    }

    /// How many times the output was read.
    #[must_use]
    pub fn reads(&self) -> u64 {
        let text = fs::read_to_string(self.folder.path().join("progress")).unwrap_or_default();
        text.parse().unwrap_or(0)
    }

    /// Waits until the output was read `more` times from now on.
    ///
    /// # Errors
    /// After `timeout`.
    pub fn wait_for_reads(&self, more: u64, timeout: Duration) -> anyhow::Result<()> {
        let goal = self.reads() + more;
        wait_for(&format!("{more} reads of the output"), timeout, || (self.reads() >= goal).then_some(()))
    }

    /// Ends it after one last read.
    ///
    /// # Errors
    /// When it ends without a report.
    pub fn finish(mut self) -> anyhow::Result<Reading> {
        fs::write(self.folder.path().join("until"), "").context("tell the watcher to end")?;
        finish(self.script, self.child.take().expect("a watcher is finished once"))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself, and nobody reads its report any more.
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// Runs `readers/delta_duckdb.py`.
///
/// # Errors
/// As [`python_reader`].
pub fn duckdb_reader(arguments: &[&OsStr]) -> anyhow::Result<Reading> {
    let python = environment::duckdb().context("no DuckDB that reads Delta tables; `make test` makes one")?;
    let none: [(&str, &OsStr); 0] = [];
    finish("delta_duckdb.py", start_by(&python, none, "delta_duckdb.py", arguments)?)
}

/// Runs `readers/delta_spark.py`.
///
/// # Errors
/// As [`python_reader`].
pub fn spark_reader(arguments: &[&OsStr]) -> anyhow::Result<Reading> {
    let (python, jars) = environment::spark().context("no Spark; `make soak` has it")?;
    let variables = [("DELTA_JARS", jars.as_os_str()), ("SPARK_LOCAL_IP", OsStr::new("127.0.0.1"))];
    finish("delta_spark.py", start_by(&python, variables, "delta_spark.py", arguments)?)
}

fn start<S: AsRef<OsStr>>(
    bucket: Option<&Bucket>,
    name: &str,
    arguments: impl IntoIterator<Item = S>,
) -> anyhow::Result<Child> {
    let python = environment::python().context("no Python for the readers; `make test` makes one")?;
    start_by(&python, bucket.map(Bucket::variables).into_iter().flatten(), name, arguments)
}

fn start_by<S: AsRef<OsStr>>(
    python: &Path,
    variables: impl IntoIterator<Item = (&'static str, impl AsRef<OsStr>)>,
    name: &str,
    arguments: impl IntoIterator<Item = S>,
) -> anyhow::Result<Child> {
    let script: PathBuf = environment::tests_folder().join("readers").join(name);
    Command::new(python)
        .arg(script)
        .args(arguments)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .envs(variables)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {name}"))
}

fn finish(name: &str, child: Child) -> anyhow::Result<Reading> {
    let output = child.wait_with_output().with_context(|| format!("wait for {name}"))?;
    let report = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{name} ({}) wrote: {}", output.status, String::from_utf8_lossy(&output.stderr)))?;
    Ok(Reading { succeeded: output.status.success(), report })
}
