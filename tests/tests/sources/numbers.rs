//! A job of a test's own: records that carry a number each, and a table of these numbers without a window, so that what
//! was read, lost or read twice is a matter of counting.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::path::PathBuf;

use anyhow::Context;
use data_platform_tests::process::RunnerCommand;
use data_platform_tests::{Broker, Ended, JobFolders, Producer, Record, Runner, unique_topic};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::events::{TIMEOUT, finish};

/// Name of the job, of its source and of its table.
pub(crate) const NAME: &str = "numbers";

/// A topic with numbers, and a job that copies them into a table.
pub(crate) struct Numbers {
    pub broker: Broker,
    pub topic: String,
    pub folders: JobFolders,
    spec: Value,
}

/// The record with this number.
pub(crate) fn record(number: u64) -> Record {
    Record::new(json!({ "n": number }).to_string())
}

impl Numbers {
    /// An empty topic, and the job over it from the earliest record.
    pub(crate) fn new(broker: Broker, name: &str, partitions: i32) -> anyhow::Result<Self> {
        Self::with_topic(broker, name, partitions, &[])
    }

    /// The same with settings of the topic.
    pub(crate) fn with_topic(
        broker: Broker,
        name: &str,
        partitions: i32,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let topic = unique_topic(name);
        broker.create_topic(&topic, partitions, settings)?;
        let column = |name: &str, kind: &str| json!({"name": name, "type": kind, "from": name});
        let number = json!({"name": "n", "type": "bigint", "required": true});
        let spec = json!({
            "kafka": {"startingOffsets": "earliest"},
            "sources": [{
                "name": NAME,
                "topics": [topic],
                "columns": [number, column("topic", "string"), column("partition", "int"), column("offset", "bigint")],
            }],
            "trigger": {"interval": "50ms"},
            "query": format!("SELECT n, topic, partition, \"offset\" FROM {NAME}"),
            "sink": {"format": "parquet", "path": NAME},
        });
        Ok(Self { broker, topic, folders: JobFolders::new()?, spec })
    }

    /// The same job over the same topic, in other folders.
    pub(crate) fn elsewhere(&self, folders: JobFolders) -> Self {
        Self { broker: self.broker.handle(), topic: self.topic.clone(), folders, spec: self.spec.clone() }
    }

    /// Changes the job: `pointer` is a place below `spec`, whose parents are there.
    pub(crate) fn set(&mut self, pointer: &str, value: Value) {
        let (parent, name) = pointer.rsplit_once('/').expect("a JSON pointer");
        let parent = self.spec.pointer_mut(parent).and_then(Value::as_object_mut).expect("the parent is there");
        match value {
            Value::Null => parent.remove(name),
            value => parent.insert(name.to_owned(), value),
        };
    }

    /// Makes the job count numbers in windows: each is its own time, in seconds since 1970.
    pub(crate) fn count_in_windows(&mut self, length: &str, delay: &str) {
        let columns = json!([
            {"name": "n", "type": "bigint", "required": true},
            {"name": "at", "type": "timestamp", "required": true, "path": "n"},
        ]);
        self.set("/sources/0/columns", columns);
        self.set("/sources/0/eventTime", json!({"column": "at", "watermarkDelay": delay, "idleTimeout": "1s"}));
        let query = format!("SELECT window_end, count(*) AS n FROM {NAME} GROUP BY tumble(at, INTERVAL '{length}')");
        self.set("/query", json!(query));
    }

    /// Produces records with these numbers to one partition of a topic.
    pub(crate) fn produce_to(&self, topic: &str, partition: i32, numbers: Range<u64>) -> anyhow::Result<()> {
        self.broker.produce(topic, numbers.map(|number| record(number).partition(partition)))
    }

    /// Produces records with these numbers to one partition.
    pub(crate) fn produce(&self, partition: i32, numbers: Range<u64>) -> anyhow::Result<()> {
        self.produce_to(&self.topic, partition, numbers)
    }

    /// A producer for this topic's broker.
    pub(crate) fn producer(&self, settings: &[(&str, &str)]) -> anyhow::Result<Producer> {
        Producer::new(&self.broker, settings)
    }

    /// The job's file, written anew.
    fn file(&self) -> anyhow::Result<PathBuf> {
        let job = json!({
            "apiVersion": "dataplatform.io/v1alpha1",
            "kind": "StreamingJob",
            "metadata": {"name": NAME},
            "spec": self.spec,
        });
        let path = self.folders.root().join("job.yaml");
        // JSON is YAML.
        fs::write(&path, job.to_string()).context("write the job")?;
        Ok(path)
    }

    /// The job, to be started.
    pub(crate) fn job(&self) -> anyhow::Result<RunnerCommand> {
        self.job_of("data-platform")
    }

    /// The same with the program that takes orders for faults.
    pub(crate) fn job_with_faults(&self) -> anyhow::Result<RunnerCommand> {
        self.job_of("data-platform-faults")
    }

    fn job_of(&self, program: &str) -> anyhow::Result<RunnerCommand> {
        let program = data_platform_tests::environment::program(program);
        let command = Runner::program(&program, ["run", "--http", "127.0.0.1:0", "-f"]).arg(self.file()?);
        Ok(command.env("LOG_LEVEL", "debug").broker(&self.broker).folders(&self.folders))
    }

    /// What `explain` says of the job.
    pub(crate) fn explain(&self) -> anyhow::Result<String> {
        self.ask(&["explain", "-f", &self.file()?.display().to_string()])
    }

    /// What `doctor` finds with these brokers, by the names of the checks, and its exit code.
    pub(crate) fn doctor(&self, brokers: &str) -> anyhow::Result<(Ended, BTreeMap<String, Value>)> {
        let command = Runner::command(["doctor", "--format", "json", "-f"]).arg(self.file()?).folders(&self.folders);
        let (ended, runner) = command.arg("--bootstrap-servers").arg(brokers).run(TIMEOUT)?;
        let found: Value = serde_json::from_str(&runner.stdout()).with_context(|| runner.last_lines())?;
        let checks = found["checks"].as_array().into_iter().flatten();
        let named = |check: &Value| (check["check"].as_str().unwrap_or_default().to_owned(), check.clone());
        Ok((ended, checks.map(named).collect()))
    }

    /// Processes what is there; gives the summary.
    pub(crate) fn drain(&self) -> anyhow::Result<Value> {
        finish(self.job()?.arg("--drain"))
    }

    /// Runs until what is there is processed, which must end with this exit code; gives what it said.
    pub(crate) fn drain_fails(&self, code: i32) -> anyhow::Result<String> {
        let (ended, runner) = self.job()?.arg("--drain").arg("--patience").arg("0").run(TIMEOUT)?;
        anyhow::ensure!(ended == Ended::Code(code), "it ended with {ended:?}: {}", runner.last_lines());
        Ok(last_error(&runner))
    }

    /// Another command over the same folders and broker; gives what it printed.
    pub(crate) fn ask(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let (ended, runner) = Runner::command(arguments).broker(&self.broker).folders(&self.folders).run(TIMEOUT)?;
        anyhow::ensure!(ended == Ended::Code(0), "it ended with {ended:?}: {}", runner.last_lines());
        Ok(runner.stdout())
    }

    /// Rows of a query over the outputs.
    pub(crate) fn query(&self, sql: &str) -> anyhow::Result<Vec<Value>> {
        let command = Runner::command(["query", sql, "--format", "json"]).folders_on_disk(&self.folders);
        let (ended, runner) = command.run(TIMEOUT)?;
        anyhow::ensure!(ended == Ended::Code(0), "it ended with {ended:?}: {}", runner.last_lines());
        let lines = runner.stdout();
        lines.lines().map(|line| serde_json::from_str(line).context("a row")).collect()
    }

    /// The job's own proof: every file is the log's, and covers what the log says.
    pub(crate) fn audit(&self) -> anyhow::Result<()> {
        self.ask(&["audit", NAME]).map(drop)
    }

    /// All numbers in the table, ascending, with each row's own: one that came twice is there twice.
    pub(crate) fn numbers(&self) -> anyhow::Result<Vec<u64>> {
        let rows = self.query(&format!("SELECT n FROM {NAME} ORDER BY n"))?;
        rows.iter().map(|row| row["n"].as_u64().with_context(|| row.to_string())).collect()
    }

    /// The records of the job log, in order: one object each, with its kind as the only key.
    pub(crate) fn log(&self) -> Vec<Value> {
        let folder = self.folders.checkpoints().join("local").join(NAME).join("log");
        let Ok(listing) = fs::read_dir(folder) else { return Vec::new() };
        let mut paths: Vec<_> = listing.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        paths.sort();
        // A record that is just being written or collected is not there yet or any more.
        let records = paths.iter().filter_map(|path| serde_json::from_slice::<Value>(&fs::read(path).ok()?).ok());
        records.map(|mut record| record["body"].take()).collect()
    }

    /// The commits of the job log, in order.
    pub(crate) fn commits(&self) -> Vec<Value> {
        self.log().iter_mut().filter_map(|record| record.get_mut("commit").map(Value::take)).collect()
    }

    /// Records that were committed until now.
    pub(crate) fn committed(&self) -> u64 {
        let commits = self.commits();
        commits.iter().filter_map(|commit| commit["counters"]["sources"][NAME]["read"].as_u64()).sum()
    }

    /// Waits until `runner` has committed this many records in all.
    pub(crate) fn wait_for_committed(&self, runner: &mut Runner, records: u64) -> anyhow::Result<()> {
        let what = format!("{records} records to be committed");
        runner.wait_for(&what, TIMEOUT, |_| (self.committed() >= records).then_some(()))
    }
}

/// What a process said last: its error with the cure.
pub(crate) fn last_error(runner: &Runner) -> String {
    let says = runner.stderr();
    let lines = says.lines().skip_while(|line| !line.starts_with("error: "));
    lines.collect::<Vec<_>>().join("\n")
}

/// Tells a process to stop, which must end well.
pub(crate) fn stop(mut runner: Runner) -> anyhow::Result<()> {
    runner.signal(Signal::TERM)?;
    let ended = runner.wait(TIMEOUT)?;
    anyhow::ensure!(ended == Ended::Code(0), "it ended with {ended:?}: {}", runner.last_lines());
    Ok(())
}

/// A page of a running job: its status code and its body. `None` before it listens.
pub(crate) fn page(runner: &Runner, path: &str) -> Option<(u16, String)> {
    let says = runner.stderr();
    let address = says.lines().find_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        line["address"].as_str().map(str::to_owned)
    })?;
    let mut connection = TcpStream::connect(address).ok()?;
    write!(connection, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let code = head.split(' ').nth(1)?.parse().ok()?;
    Some((code, body.to_owned()))
}

/// `/status` of a running job.
pub(crate) fn status(runner: &Runner) -> Option<Value> {
    serde_json::from_str(&page(runner, "/status")?.1).ok()
}
