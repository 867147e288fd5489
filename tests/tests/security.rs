//! TLS and logins on a real broker: what works, what is refused and how it is told, and that no secret shows anywhere.

mod linking;
mod rotation;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use anyhow::Context;
use data_platform_tests::process::RunnerCommand;
use data_platform_tests::{Broker, Ended, Record, Runner, needs_broker, unique_topic};
use serde_json::{Value, json};

use crate::events::{TIMEOUT, finish};
use crate::sources::numbers::{NAME, Numbers, last_error, page, record, status, stop};

const USER: &str = "ada";
/// Nothing else in a log looks like it.
const PASSWORD: &str = "correct-horse-4711";

/// The broker with every listener, shared by the tests that run at the same time: its start takes seconds.
fn secured() -> anyhow::Result<Arc<Broker>> {
    static SHARED: Mutex<Weak<Broker>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(broker) = shared.upgrade() {
        return Ok(broker);
    }
    let user = format!("{USER}:{PASSWORD}");
    let broker = Broker::private(&["--ssl", "--sasl-ssl", "--sasl-plaintext", "--oauth", "--user", &user])?;
    let broker = Arc::new(broker);
    *shared = Arc::downgrade(&broker);
    Ok(broker)
}

/// A job over ten records of a broker with every listener.
struct Secured {
    broker: Arc<Broker>,
    job: Numbers,
}

impl Secured {
    fn new(name: &str) -> anyhow::Result<Self> {
        let broker = secured()?;
        let job = Numbers::new(broker.handle(), name, 1)?;
        job.produce(0, 0..10)?;
        Ok(Self { broker, job })
    }

    fn certificate(&self, name: &str) -> anyhow::Result<PathBuf> {
        Ok(self.broker.certificates()?.join(name))
    }

    fn secret(&self, name: &str) -> anyhow::Result<Value> {
        Ok(json!({"file": self.certificate(name)?}))
    }

    /// A secret of the job's own.
    fn own_secret(&self, name: &str, content: &str) -> anyhow::Result<Value> {
        let path = self.job.folders.root().join(name);
        fs::write(&path, content).context("write a secret")?;
        Ok(json!({"file": path}))
    }

    fn tls(&self, files: [&str; 3]) -> anyhow::Result<Value> {
        let [ca, certificate, key] = files;
        let mut tls = json!({"ca": self.secret(ca)?});
        if !certificate.is_empty() {
            tls["certificate"] = self.secret(certificate)?;
            tls["key"] = self.secret(key)?;
        }
        Ok(tls)
    }

    fn sasl(&self, mechanism: &str, user: &str, password: &str) -> anyhow::Result<Value> {
        let (username, password) = (self.own_secret("user", user)?, self.own_secret("password", password)?);
        Ok(json!({"mechanism": mechanism, "username": username, "password": password}))
    }

    /// The job with these settings at a listener, in new folders.
    fn over(&mut self, listener: &str, tls: Value, sasl: Value) -> anyhow::Result<RunnerCommand> {
        self.job.set("/kafka/tls", tls);
        self.job.set("/kafka/sasl", sasl);
        let command = self.job.job()?.arg("--bootstrap-servers").arg(self.broker.listener(listener)?);
        let folders = self.job.folders.root().join(unique_topic("run"));
        Ok(command.env("OUTPUTS_DIR", folders.join("o")).env("CHECKPOINT_DIR", folders.join("c")))
    }

    fn reads_all(&mut self, listener: &str, tls: Value, sasl: Value) -> anyhow::Result<()> {
        let what = format!("{listener} with tls {tls} and sasl {sasl}");
        let summary = finish(self.over(listener, tls, sasl)?.arg("--drain")).context(what)?;
        anyhow::ensure!(summary["records"] == 10, "{summary}");
        Ok(())
    }

    /// The job is refused at once, with one message.
    fn is_refused(&mut self, listener: &str, tls: Value, sasl: Value) -> anyhow::Result<String> {
        let what = format!("{listener} with tls {tls} and sasl {sasl}");
        let began = Instant::now();
        let (ended, runner) = self.over(listener, tls, sasl)?.arg("--drain").run(TIMEOUT)?;
        anyhow::ensure!(ended == Ended::Code(2), "{what}: {ended:?}: {}", runner.last_lines());
        let took = began.elapsed();
        anyhow::ensure!(took < SOON, "{what}: it took {took:?}: {}", runner.last_lines());
        let says = last_error(&runner);
        let address = self.broker.listener(listener)?;
        anyhow::ensure!(says.contains(&format!("Kafka at {address} refuses the connection: ")), "{what}: {says}");
        anyhow::ensure!(says.contains("what to do: check kafka.sasl"), "{what}: {says}");
        anyhow::ensure!(says.lines().count() == 2, "what happened, and what to do: {says}");
        Ok(says)
    }
}

/// A refusal comes with the first connection; a job that waits for a time-out instead takes ten seconds.
const SOON: Duration = Duration::from_secs(5);

#[test]
fn every_way_to_log_in_works() -> anyhow::Result<()> {
    needs_broker!();
    let mut secured = Secured::new("secured")?;
    let tls = secured.tls(["ca.pem", "client.pem", "client.key"])?;
    secured.reads_all("SSL", tls.clone(), Value::Null)?;
    let mut encrypted = tls;
    encrypted["key"] = secured.secret("client-encrypted.key")?;
    encrypted["keyPassword"] = secured.secret("client-key.password")?;
    secured.reads_all("SSL", encrypted, Value::Null)?;
    let trusting = secured.tls(["ca.pem", "", ""])?;
    for (listener, mechanism, tls) in [
        ("SASL_PLAINTEXT", "PLAIN", Value::Null),
        ("SASL_PLAINTEXT", "SCRAM-SHA-256", Value::Null),
        ("SASL_SSL", "PLAIN", trusting.clone()),
        ("SASL_SSL", "SCRAM-SHA-256", trusting.clone()),
        ("SASL_SSL", "SCRAM-SHA-512", trusting),
    ] {
        // An editor leaves a line break behind.
        let sasl = secured.sasl(mechanism, USER, &format!("{PASSWORD}\n"))?;
        secured.reads_all(listener, tls, sasl)?;
    }
    Ok(())
}

#[test]
fn what_the_broker_does_not_accept_is_refused_at_once_with_one_message() -> anyhow::Result<()> {
    needs_broker!();
    let mut secured = Secured::new("refused")?;
    let without = secured.tls(["ca.pem", "", ""])?;
    let says = secured.is_refused("SSL", without.clone(), Value::Null)?;
    assert!(says.contains("the broker wants a client certificate"), "{says}");
    let stranger = secured.tls(["ca.pem", "stranger.pem", "stranger.key"])?;
    let says = secured.is_refused("SSL", stranger, Value::Null)?;
    assert!(says.contains("or does not accept ours"), "{says}");
    let wrong_authority = secured.tls(["stranger-ca.pem", "client.pem", "client.key"])?;
    let says = secured.is_refused("SSL", wrong_authority, Value::Null)?;
    assert!(says.contains("certificate verify failed"), "{says}");
    for (listener, mechanism, tls) in [
        ("SASL_PLAINTEXT", "PLAIN", Value::Null),
        ("SASL_SSL", "SCRAM-SHA-256", without.clone()),
        ("SASL_SSL", "SCRAM-SHA-512", without),
    ] {
        for (user, password) in [(USER, "wrong"), ("nobody", PASSWORD)] {
            let sasl = secured.sasl(mechanism, user, password)?;
            let says = secured.is_refused(listener, tls.clone(), sasl)?;
            assert!(says.contains("uthentication failed"), "{mechanism}: {says}");
            assert!(!says.contains(PASSWORD), "{says}");
        }
    }
    Ok(())
}

#[test]
fn a_missing_secret_is_named_and_a_job_in_a_pod_stays_up_with_a_wrong_one() -> anyhow::Result<()> {
    needs_broker!();
    let mut secured = Secured::new("secrets")?;
    let secrets = secured.job.folders.root().join("secrets");
    let reference = |key: &str| json!({"secretKeyRef": {"name": "kafka-login", "key": key}});
    let sasl = json!({"mechanism": "SCRAM-SHA-512", "username": reference("user"), "password": reference("password")});
    let folder = secrets.join("kafka-login");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("user"), USER)?;
    let (ended, runner) =
        secured.over("SASL_PLAINTEXT", Value::Null, sasl.clone())?.env("SECRETS_DIR", &secrets).run(TIMEOUT)?;
    assert_eq!(ended, Ended::Code(2), "{}", runner.last_lines());
    let (says, path) = (last_error(&runner), folder.join("password"));
    assert!(says.contains(&format!("cannot read the password from {}", path.display())), "{says}");
    // In a pod it stays up, not ready, and says why.
    fs::write(&path, "wrong")?;
    let command = secured.over("SASL_PLAINTEXT", Value::Null, sasl)?.env("SECRETS_DIR", &secrets);
    let mut runner = command.env("DATA_PLATFORM_STAY_UP", "true").start()?;
    let stalled = |runner: &Runner| status(runner).filter(|status| status["reason"] == "AuthenticationFailed");
    let shown = runner.wait_for("the refusal in /status", TIMEOUT, stalled)?;
    assert_eq!((&shown["phase"], &shown["ready"]), (&json!("stalled"), &json!(false)), "{shown}");
    stop(runner)
}

/// Every file below a folder that holds these bytes.
fn files_with(folder: &Path, secret: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files_with(&path, secret)?);
        } else if fs::read(&path)?.windows(secret.len()).any(|part| part == secret.as_bytes()) {
            found.push(path);
        }
    }
    Ok(found)
}

#[test]
fn no_secret_shows_in_logs_pages_or_files() -> anyhow::Result<()> {
    needs_broker!();
    let mut secured = Secured::new("silent")?;
    let letters = unique_topic("silent-letters");
    secured.job.broker.create_topic(&letters, 1, &[])?;
    secured.job.set("/badRecords", json!({"topic": letters}));
    secured.job.set("/kafka/config", json!({"debug": "all"}));
    secured.job.broker.produce(&secured.job.topic, [Record::new("bad"), record(10)])?;
    let mut tls = secured.tls(["ca.pem", "client.pem", ""])?;
    tls["key"] = secured.secret("client-encrypted.key")?;
    tls["keyPassword"] = secured.secret("client-key.password")?;
    let sasl = secured.sasl("PLAIN", USER, PASSWORD)?;
    let message = secured.job.folders.root().join("last-message");
    let command = secured.over("SASL_SSL", tls, sasl)?.env("TERMINATION_MESSAGE_PATH", &message);
    let mut runner = command.env("LOG_LEVEL", "trace").start()?;
    let committed = |runner: &Runner| {
        let status = status(runner)?;
        (status["totals"]["sources"][NAME]["read"] == 12).then_some(status)
    };
    let status = runner.wait_for("all records", TIMEOUT, committed)?;
    // The settings are shown, and it is these that hold the secrets.
    assert_eq!(status["configuration"]["kafka.sasl.password"], "***", "{status:#}");
    assert_eq!(secured.job.broker.count_records(&letters)?, 1, "the letter went out over the same login");
    let pages = ["/status", "/health", "/readyz", "/metrics"].map(|path| page(&runner, path).expect("it listens").1);
    runner.signal(rustix::process::Signal::TERM)?;
    assert_eq!(runner.wait(TIMEOUT)?, Ended::Code(0), "{}", runner.last_lines());
    let logs = [runner.stdout(), runner.stderr()];
    assert!(logs[1].contains("librdkafka"), "the client's own lines are among them");
    let key = fs::read_to_string(secured.certificate("client-encrypted.key")?)?;
    let key_line = key.lines().nth(1).context("a key")?;
    let key_password = fs::read_to_string(secured.certificate("client-key.password")?)?;
    for secret in [PASSWORD, key_line, key_password.trim()] {
        for text in pages.iter().chain(&logs) {
            let line = text.lines().find(|line| line.contains(secret));
            assert_eq!(line, None, "{secret} shows");
        }
        // But for the file that the test itself made of it.
        let mut files = files_with(secured.job.folders.root(), secret)?;
        files.retain(|path| !path.ends_with("password"));
        assert!(files.is_empty(), "{secret} lies in {files:?}");
    }
    Ok(())
}
