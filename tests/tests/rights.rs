//! A broker on which a user may do only what somebody allowed: a job without a right says which, loses nothing, and goes on
//! when it is given.

use anyhow::{Context as _, ensure};
use data_platform_tests::process::RunnerCommand;
use data_platform_tests::{Broker, Ended, Right, Runner, WITH_RIGHTS, needs_broker, unique_topic};
use serde_json::{Value, json};

use crate::events::TIMEOUT;
use crate::sources::numbers::{NAME, Numbers, last_error, status, stop};

const USER: &str = "ada";
const PASSWORD: &str = "correct-horse-4711";
const READS: [Right; 2] = [Right::Read, Right::Describe];
const WRITES: [Right; 2] = [Right::Write, Right::Describe];

/// A job that writes its rows to a table and to a topic, as a user with a login.
struct Restricted {
    broker: Broker,
    job: Numbers,
    output: String,
}

impl Restricted {
    fn new() -> anyhow::Result<Self> {
        let user = format!("{USER}:{PASSWORD}");
        let options = [&WITH_RIGHTS[..], &["--sasl-plaintext", "--user", &user]].concat();
        let broker = Broker::private(&options)?;
        let mut job = Numbers::new(broker.handle(), "restricted", 1)?;
        let output = unique_topic("restricted-rows");
        broker.create_topic(&output, 1, &[])?;
        broker.allow_groups(USER)?;
        let secret = |name: &str, content: &str| -> anyhow::Result<Value> {
            let path = job.folders.root().join(name);
            std::fs::write(&path, content)?;
            Ok(json!({"file": path}))
        };
        let (username, password) = (secret("user", USER)?, secret("password", PASSWORD)?);
        job.set("/kafka/sasl", json!({"mechanism": "SCRAM-SHA-512", "username": username, "password": password}));
        let query = format!("SELECT n FROM {NAME}");
        let to = |name: &str, sink: Value| json!({"name": name, "query": query, "sink": sink});
        let outputs = [to(NAME, json!({"path": NAME})), to("topic", json!({"format": "kafka", "topic": output}))];
        job.set("/query", Value::Null);
        job.set("/sink", Value::Null);
        job.set("/outputs", json!(outputs));
        Ok(Self { broker, job, output })
    }

    fn command(&self) -> anyhow::Result<RunnerCommand> {
        Ok(self.job.job()?.arg("--bootstrap-servers").arg(self.broker.listener("SASL_PLAINTEXT")?))
    }

    /// The job is refused at once: what it says.
    fn is_refused(&self) -> anyhow::Result<String> {
        let committed = self.job.committed();
        let (ended, runner) = self.command()?.arg("--drain").run(TIMEOUT)?;
        ensure!(ended == Ended::Code(2), "{ended:?}: {}", runner.last_lines());
        ensure!(self.job.committed() == committed, "nothing more is decided");
        Ok(last_error(&runner))
    }

    fn numbers_in_topic(&self) -> anyhow::Result<Vec<Option<u64>>> {
        let mut numbers = Vec::new();
        self.broker.for_each_record(&self.output, |message| {
            let row: Value = serde_json::from_slice(rdkafka::Message::payload(message).unwrap_or_default())?;
            numbers.push(row["n"].as_u64());
            Ok(())
        })?;
        numbers.sort_unstable();
        numbers.dedup();
        Ok(numbers)
    }
}

#[test]
fn a_job_without_a_right_says_which_and_goes_on_when_it_is_given() -> anyhow::Result<()> {
    needs_broker!();
    let scene = Restricted::new()?;
    let (source, output) = (&scene.job.topic, &scene.output);
    scene.job.produce(0, 0..50)?;
    let read = format!("allow the user of this job to READ and DESCRIBE the topic {source}");
    let says = scene.is_refused()?;
    ensure!(says.contains(&read), "{says}");
    // It may see it, and not read it.
    scene.broker.allow(USER, source, &[Right::Describe])?;
    scene.broker.allow(USER, output, &WRITES)?;
    let says = scene.is_refused()?;
    ensure!(says.contains(&read), "{says}");
    scene.broker.revoke(USER, output, &WRITES)?;
    scene.broker.allow(USER, source, &[Right::Read])?;
    let write = format!("allow the user of this job to WRITE and DESCRIBE the topic {output}");
    let says = scene.is_refused()?;
    ensure!(says.contains(&write), "{says}");
    scene.broker.allow(USER, output, &[Right::Describe])?;
    let says = scene.is_refused()?;
    ensure!(says.contains(&write), "{says}");
    ensure!(says.lines().count() == 2, "what happened, and what to do: {says}");
    // In a pod it stays up, and tries again by itself.
    let mut running = scene.command()?.env("DATA_PLATFORM_STAY_UP", "true").start()?;
    let stalled = |runner: &Runner| (status(runner)?["reason"] == "NotAuthorized").then_some(());
    running.wait_for("the reason", TIMEOUT, stalled)?;
    scene.broker.allow(USER, output, &[Right::Write])?;
    scene.job.wait_for_committed(&mut running, 50)?;

    // A right that is taken from a job that runs.
    scene.broker.revoke(USER, output, &[Right::Write])?;
    scene.job.produce(0, 50..80)?;
    running.wait_for("the reason", TIMEOUT, stalled)?;
    ensure!(scene.job.committed() == 50, "nothing more is decided");
    stop(running)?;
    scene.broker.allow(USER, output, &[Right::Write])?;
    scene.broker.revoke(USER, source, &READS)?;
    ensure!(scene.is_refused()?.contains("READ and DESCRIBE"));
    scene.broker.allow(USER, source, &READS)?;
    crate::events::finish(scene.command()?.arg("--drain"))?;
    ensure!(scene.job.numbers()? == (0..80).collect::<Vec<_>>());
    ensure!(scene.numbers_in_topic()? == (0..80).map(Some).collect::<Vec<_>>());
    scene.job.audit()
}

#[test]
fn the_doctor_says_which_rights_a_job_lacks_and_that_it_lacks_none() -> anyhow::Result<()> {
    needs_broker!();
    let scene = Restricted::new()?;
    let (source, output) = (&scene.job.topic, &scene.output);
    let servers = scene.broker.listener("SASL_PLAINTEXT")?;
    let outcome =
        |checks: &std::collections::BTreeMap<String, Value>, check: &str| -> anyhow::Result<(String, String)> {
            let found = checks.get(check).with_context(|| format!("{check}: {checks:?}"))?;
            let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
            Ok((text("outcome"), format!("{} {}", text("message"), text("whatToDo"))))
        };
    let (read, written) = (format!("topic {source}"), format!("topic {output}"));
    let (ended, checks) = scene.job.doctor(&servers)?;
    ensure!(ended == Ended::Code(2), "{ended:?}");
    for (check, right) in [(&read, "READ"), (&written, "WRITE")] {
        let (outcome, text) = outcome(&checks, check)?;
        ensure!(outcome == "failed" && text.contains("allow the user of this job to"), "{right}: {text}");
    }
    ensure!(outcome(&checks, "brokers")?.0 == "ok" && outcome(&checks, "checkpoint")?.0 == "ok", "{checks:?}");
    // It may see both, and neither read the one nor write the other.
    scene.broker.allow(USER, source, &[Right::Describe])?;
    scene.broker.allow(USER, output, &[Right::Describe])?;
    let (ended, checks) = scene.job.doctor(&servers)?;
    ensure!(ended == Ended::Code(2), "{ended:?}");
    ensure!(outcome(&checks, &read)?.1.contains("right to READ"), "{checks:?}");
    ensure!(outcome(&checks, &written)?.1.contains("right to WRITE"), "{checks:?}");
    scene.broker.allow(USER, source, &READS)?;
    scene.broker.allow(USER, output, &WRITES)?;
    scene.job.produce(0, 0..3)?;
    let (ended, checks) = scene.job.doctor(&servers)?;
    ensure!(ended == Ended::Code(0), "{checks:?}");
    for check in [&read, &written, "group", "clock and Kafka", "table numbers", "checkpoint"] {
        ensure!(outcome(&checks, check)?.0 == "ok", "{check}: {checks:?}");
    }
    ensure!(scene.job.committed() == 0, "it reads and writes nothing of the job");
    Ok(())
}

#[test]
fn the_doctor_says_that_no_broker_answers_and_asks_nothing_more() -> anyhow::Result<()> {
    let mut job = Numbers::new(needs_broker!(), "unreachable", 1)?;
    job.set("/kafka/schemaRegistry", json!({"url": "http://127.0.0.1:1"}));
    let (ended, checks) = job.doctor("127.0.0.1:1")?;
    ensure!(ended == Ended::Code(1), "it may pass: {ended:?}");
    ensure!(checks["brokers"]["reason"] == "KafkaUnreachable", "{checks:?}");
    let registry = &checks["schema registry"];
    ensure!(registry["reason"] == "SchemaRegistryUnreachable", "{registry}");
    ensure!(registry["message"].as_str().is_some_and(|said| said.contains("127.0.0.1:1")), "{registry}");
    ensure!(checks["group"]["outcome"] == "skipped" && checks["checkpoint"]["outcome"] == "ok", "{checks:?}");
    Ok(())
}

#[test]
fn the_doctor_compares_each_table_with_what_a_start_would_go_on_with() -> anyhow::Result<()> {
    let mut job = Numbers::new(needs_broker!(), "doctor-tables", 1)?;
    let servers = job.broker.address().to_owned();
    job.produce(0, 0..10)?;
    job.set("/sink/format", json!("delta"));
    job.drain()?;
    let (ended, checks) = job.doctor(&servers)?;
    ensure!(ended == Ended::Code(0) && checks["table numbers"]["outcome"] == "ok", "its own: {checks:?}");
    let says = |job: &Numbers, reason: &str, part: &str| {
        let (ended, checks) = job.doctor(&servers)?;
        let table = &checks["table numbers"];
        let said = table["message"].as_str().unwrap_or_default();
        ensure!(ended == Ended::Code(2) && table["reason"] == reason && said.contains(part), "{reason}: {checks:?}");
        ensure!(table["whatToDo"].as_str().is_some_and(|cure| !cure.is_empty()), "{table}");
        Ok(())
    };
    job.set("/query", json!(format!("SELECT CAST(n AS STRING) AS n, topic, partition, \"offset\" FROM {NAME}")));
    says(&job, "TableUnusable", "column n is of type bigint")?;
    job.set("/sink/format", json!("parquet"));
    says(&job, "TableUnusable", "is a Delta table")?;
    job.set("/sink/format", json!("delta"));
    job.set("/query", json!(format!("SELECT n, topic, partition, \"offset\" FROM {NAME}")));
    job.set("/checkpoint", json!({"name": "another"}));
    says(&job, "OutputOfOtherJob", "local/numbers")
}
