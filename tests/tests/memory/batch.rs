//! A batch run over an input that is larger than its memory: what can be computed piece by piece or spilled is computed, and
//! what cannot ends with an error that says so, and so does what finds no room on the disk. Never with a kill.

use std::path::PathBuf;

use anyhow::Context;
use data_platform_tests::process::RunnerCommand;
use data_platform_tests::{Ended, JobFolders, Runner, environment, python_reader, skip};

use super::Cgroup;
use crate::bad_input::passing::Mount;
use crate::events::{TIMEOUT, finish};

const LIMIT_BYTES: u64 = 128 << 20;
/// Of one file; with the payload of 64 bytes and its overhead their groups need three times the run's share for groups.
const ROWS: u64 = 1_000_000;
/// Names of the file: rows that come from the disk again and again.
const NAMES: u64 = 8;

const JOB: &str = "
apiVersion: dataplatform.io/v1alpha1
kind: BatchJob
metadata: {name: large}
spec:
  interval: hour
  inputs: [{name: raw, path: raw, timeColumn: time, dateColumn: date, completeBy: clock}]
  query: SELECT key FROM raw
  sink: {format: parquet, path: large}
";

struct Large {
    folders: JobFolders,
    cgroup: Cgroup,
    file: PathBuf,
}

impl Large {
    fn new(cgroup: Cgroup) -> anyhow::Result<Self> {
        let folders = JobFolders::new()?;
        let raw = folders.outputs().join("raw").to_string_lossy().into_owned();
        let written = python_reader("large_table.py", [raw, ROWS.to_string(), NAMES.to_string()])?.expect_success()?;
        let bytes = written["bytes"].as_u64().context("bytes")?;
        anyhow::ensure!(bytes > 2 * LIMIT_BYTES, "the input has only {bytes} bytes");
        let file = folders.root().join("job.yaml");
        std::fs::write(&file, JOB)?;
        Ok(Self { folders, cgroup, file })
    }

    /// The run of this query in the cgroup.
    fn run(&self, query: &str) -> RunnerCommand {
        let job = self.cgroup.program(&environment::program("data-platform"), ["run", "-f"]);
        job.arg(&self.file)
            .arg("--set")
            .arg(format!("spec.query={query}"))
            .arg("--http")
            .arg("127.0.0.1:0")
            .arg("--target-hour")
            .arg("2026-01-01 00:00:00")
            .env("TERMINATION_MESSAGE_PATH", self.last())
            .folders(&self.folders)
    }

    fn last(&self) -> PathBuf {
        self.folders.root().join("last")
    }

    /// One row of the output.
    fn ask(&self, columns: &str) -> anyhow::Result<String> {
        let query = Runner::command(["query", "--format", "csv", &format!("SELECT {columns} FROM large")]);
        let (ended, runner) = query.folders(&self.folders).run(TIMEOUT)?;
        anyhow::ensure!(ended == Ended::Code(0), "{}", runner.last_lines());
        Ok(runner.stdout().lines().nth(1).unwrap_or_default().to_owned())
    }

    /// There is no room for what is spilled: exit code, message and last message say so, and nothing stays there.
    fn check_full(&self, query: &str) -> anyhow::Result<()> {
        let folder = self.folders.root().join("small");
        std::fs::create_dir_all(&folder)?;
        let Some(_disk) = Mount::tmpfs(&folder, "size=4m") else { return Ok(()) };
        let (ended, runner) = self.run(query).env("TMPDIR", &folder).run(TIMEOUT)?;
        anyhow::ensure!(ended == Ended::Code(1), "{query}: {ended:?}\n{}", runner.last_lines());
        let last: serde_json::Value = serde_json::from_slice(&std::fs::read(self.last())?)?;
        let place = folder.to_string_lossy().into_owned();
        for (field, word) in [("reason", "StorageFull"), ("message", "finds no room in"), ("message", &place)] {
            anyhow::ensure!(last[field].as_str().is_some_and(|text| text.contains(word)), "{query}: {last}");
        }
        let said = runner.stderr();
        anyhow::ensure!(said.matches("finds no room in").count() == 1, "{query}: {said}");
        anyhow::ensure!(said.contains("make room there") && said.contains("TMPDIR"), "{query}: {said}");
        let left = std::fs::read_dir(&folder)?.count();
        anyhow::ensure!(left == 0, "{left} temporary files are left");
        Ok(())
    }

    /// The query does not fit: exit code, message and last message say so.
    fn check_refused(&self, query: &str) -> anyhow::Result<()> {
        let (ended, runner) = self.run(query).run(TIMEOUT)?;
        anyhow::ensure!(ended == Ended::Code(2), "{query}: {ended:?}\n{}", runner.last_lines());
        let last: serde_json::Value = serde_json::from_slice(&std::fs::read(self.last())?)?;
        for (field, word) in [("reason", "MemoryExhausted"), ("message", "more memory than it may have")] {
            anyhow::ensure!(last[field].as_str().is_some_and(|text| text.contains(word)), "{query}: {last}");
        }
        anyhow::ensure!(last["interval"]["start"] == "2026-01-01T00:00:00Z", "{last}");
        let said = runner.stderr();
        anyhow::ensure!(said.contains("raise pod.resources.limits.memory"), "{query}: {}", runner.last_lines());
        Ok(())
    }
}

#[test]
fn a_batch_run_over_more_than_its_memory_is_right_or_says_that_it_cannot() -> anyhow::Result<()> {
    let Some(cgroup) = Cgroup::new(LIMIT_BYTES) else { skip!("no cgroup with a memory limit can be made here") };
    if environment::python().is_none() {
        skip!("no Python: start with tests/run");
    }
    let large = Large::new(cgroup)?;

    let summary = finish(large.run("SELECT key, count(*) AS n, sum(number) AS s FROM raw GROUP BY key"))?;
    anyhow::ensure!(summary["rows"] == 1_000, "{summary}");
    let sum = NAMES * (ROWS * (ROWS - 1) / 2);
    assert_eq!(large.ask("count(*), sum(n), sum(s)")?, format!("1000,{},{sum}", ROWS * NAMES));

    // As many groups as rows: they are spilled.
    let summary = finish(large.run("SELECT payload, count(*) AS n, min(number) AS s FROM raw GROUP BY payload"))?;
    anyhow::ensure!(summary["rows"] == ROWS, "{summary}");
    let sum = ROWS * (ROWS - 1) / 2;
    assert_eq!(large.ask("count(DISTINCT payload), min(n), sum(s)")?, format!("{ROWS},{NAMES},{sum}"));

    // Both sides of a join are sorted on the disk: each row finds those of the same text.
    let join = large.run("SELECT count(*) AS n FROM raw a JOIN raw b ON a.payload = b.payload");
    let (ended, runner) = join.run(3 * TIMEOUT)?;
    anyhow::ensure!(ended == Ended::Code(0), "{ended:?}\n{}", runner.last_lines());
    assert_eq!(large.ask("n")?, (ROWS * NAMES * NAMES).to_string());

    // What is not spilled: the values of one group. What was there before stays.
    large.check_refused("SELECT key % 2 AS k, array_agg(payload) AS n FROM raw GROUP BY key % 2")?;
    large.check_refused("SELECT key % 2 AS k, collect_set(payload) AS n FROM raw GROUP BY key % 2")?;
    large.check_full("SELECT payload, count(*) AS n FROM raw GROUP BY payload")?;
    large.check_full("SELECT payload, number AS n FROM raw ORDER BY payload, number")?;
    assert_eq!(large.ask("count(*)")?, "1");
    println!("peak {} MB of {} MB", large.cgroup.peak() / 1_000_000, LIMIT_BYTES / 1_000_000);
    assert_eq!(large.cgroup.killed(), 0);
    Ok(())
}
