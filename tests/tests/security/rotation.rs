//! Logins by token, and secrets that are rotated while a job runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use data_platform_tests::registry::Answer;
use data_platform_tests::tls::TlsFront;
use data_platform_tests::{Broker, JobFolders, Runner, StubRegistry, environment, needs_broker};
use serde_json::{Value, json};

use super::Secured;
use crate::events::TIMEOUT;
use crate::sources::numbers::{NAME, Numbers, last_error, status, stop};

/// A token that the test broker takes: a JSON Web Token of `https://tests`, signed with the key of its certificates.
fn token(key: &Path, seconds: u64) -> anyhow::Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let claims = json!({"iss": "https://tests", "sub": "job", "aud": "kafka", "iat": now, "exp": now + seconds, "scope": "read"});
    let signed = format!("{}.{}", base64(br#"{"alg":"RS256","kid":"tests"}"#)?, base64(claims.to_string().as_bytes())?);
    let signature = piped(Command::new("openssl").args(["dgst", "-sha256", "-sign"]).arg(key), signed.as_bytes())?;
    Ok(format!("{signed}.{}", base64(&signature)?))
}

fn base64(bytes: &[u8]) -> anyhow::Result<String> {
    let text = String::from_utf8(piped(Command::new("base64").arg("-w0"), bytes)?)?;
    Ok(text.replace('+', "-").replace('/', "_").replace('=', ""))
}

fn piped(command: &mut Command, input: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    std::io::Write::write_all(&mut child.stdin.take().context("its input")?, input)?;
    let output = child.wait_with_output()?;
    anyhow::ensure!(output.status.success(), "{command:?} failed");
    Ok(output.stdout)
}

/// What was asked of a token endpoint.
#[derive(Clone, Default)]
struct Asked {
    times: Arc<AtomicU32>,
    last: Arc<Mutex<Vec<String>>>,
}

/// Grants a token for the client `job` with the secret `s3:cret`.
fn grants(key: PathBuf, seconds: u64, asked: Asked) -> Answer {
    Box::new(move |_, lines| {
        asked.times.fetch_add(1, Ordering::SeqCst);
        *asked.last.lock().expect("nobody panics with it") = lines.to_vec();
        // job:s3%3Acret
        let knows = lines.iter().any(|line| line.ends_with("Basic am9iOnMzJTNBY3JldA=="));
        match token(&key, seconds) {
            Ok(token) if knows => {
                (200, json!({"access_token": token, "expires_in": seconds, "token_type": "Bearer"}).to_string())
            }
            _ => (401, r#"{"error":"invalid_client"}"#.to_owned()),
        }
    })
}

#[test]
fn a_job_logs_in_with_tokens_that_it_renews() -> anyhow::Result<()> {
    needs_broker!();
    let mut secured = Secured::new("tokens")?;
    let key = secured.certificate("token.key")?;
    let asked = Asked::default();
    let endpoint = StubRegistry::start(grants(key.clone(), 3600, asked.clone()))?;
    let oauth = |secured: &Secured, secret: &str| -> anyhow::Result<Value> {
        Ok(json!({
            "mechanism": "OAUTHBEARER",
            "oauth": {
                "tokenUrl": format!("{}/token", endpoint.url()), "scope": "kafka read",
                "clientId": secured.own_secret("client", "job\n")?, "clientSecret": secured.own_secret("client-secret", secret)?,
            },
        }))
    };
    let trusting = secured.tls(["ca.pem", "", ""])?;
    let sasl = oauth(&secured, "s3:cret")?;
    secured.reads_all("SASL_SSL", trusting.clone(), sasl.clone())?;
    let request = asked.last.lock().expect("nobody panics with it").clone();
    assert!(request[0].starts_with("POST /token "), "{request:?}");
    assert_eq!(request.last().map(String::as_str), Some("body: grant_type=client_credentials&scope=kafka%20read"));

    // A client that the endpoint does not know, an endpoint that says what no token is, and none at all.
    let wrong = oauth(&secured, "wrong")?;
    let says = secured.is_refused("SASL_SSL", trusting.clone(), wrong)?;
    assert!(says.contains("refuses us: 401: {\"error\":\"invalid_client\"}"), "{says}");
    let sasl = oauth(&secured, "s3:cret")?;
    endpoint.answer(Box::new(|_, _| (503, "later".to_owned())));
    let command = secured.over("SASL_SSL", trusting.clone(), sasl.clone())?;
    let (_, runner) = command.arg("--drain").arg("--patience").arg("0").run(TIMEOUT)?;
    let says = last_error(&runner);
    assert!(
        says.contains("no Kafka broker answers at") && says.contains("/token does not answer as it should: 503: later"),
        "{says}"
    );
    // Behind TLS: trusted by its own authority, and by no other.
    endpoint.answer(grants(key.clone(), 3600, Asked::default()));
    let front = TlsFront::start(endpoint.url())?;
    let behind_tls = |ca: &str| {
        let mut sasl = sasl.clone();
        sasl["oauth"]["tokenUrl"] = json!(format!("{}/token", front.url()));
        sasl["oauth"]["tls"] = json!({"ca": {"file": front.certificate(ca)}});
        sasl
    };
    let says = secured.is_refused("SASL_SSL", trusting.clone(), behind_tls("stranger-ca.pem"))?;
    assert!(says.contains("/token refuses us: ") && says.contains("certificate"), "{says}");
    secured.reads_all("SASL_SSL", trusting.clone(), behind_tls("ca.pem"))?;
    // A token of another signer: the broker says no.
    endpoint.answer(grants(secured.certificate("client.key")?, 3600, Asked::default()));
    secured.is_refused("SASL_SSL", trusting, sasl.clone())?;

    // Tokens of five seconds are renewed while the job goes on.
    let renewed = Asked::default();
    endpoint.answer(grants(key, 5, renewed.clone()));
    let mut runner = secured.over("SASL_PLAINTEXT", Value::Null, sasl)?.start()?;
    runner
        .wait_for("three rounds of tokens", TIMEOUT, |_| (renewed.times.load(Ordering::SeqCst) >= 6).then_some(()))?;
    secured.job.produce(0, 10..20)?;
    let read = |runner: &Runner| (status(runner)?["totals"]["sources"][NAME]["read"] == 20).then_some(());
    runner.wait_for("all records", TIMEOUT, read)?;
    let says = runner.stderr();
    assert!(!says.contains("s3:cret"), "{says}");
    stop(runner)
}

/// Replaces the value of a setting in the properties of a broker that is down.
fn set_property(path: &Path, from: &str, to: &str) -> anyhow::Result<()> {
    let text = fs::read_to_string(path)?;
    anyhow::ensure!(text.contains(from), "{from} is not in {text}");
    Ok(fs::write(path, text.replace(from, to))?)
}

#[test]
fn rotated_passwords_and_certificates_are_taken_up_while_the_job_runs() -> anyhow::Result<()> {
    needs_broker!();
    let folders = JobFolders::new()?;
    let certificates = folders.root().join("certificates");
    let script = environment::tests_folder().join("env/kafka/certificates.sh");
    anyhow::ensure!(Command::new(script).arg(&certificates).status()?.success(), "no certificates");
    // For a while the broker trusts both authorities, as in every rotation.
    let [own, strange] = ["ca.pem", "stranger-ca.pem"].map(|name| fs::read_to_string(certificates.join(name)));
    fs::write(certificates.join("ca.pem"), own? + &strange?)?;
    let users = ["--user", "ada:first-word", "--user", "ben:second-word"];
    let place = certificates.to_str().context("a path that is text")?;
    let options = [&["--ssl", "--sasl-plaintext", "--certificates", place], users.as_slice()].concat();
    let broker = Broker::private(&options)?;
    let copy =
        |job: &Numbers, from: &str, to: &str| fs::copy(certificates.join(from), job.folders.root().join(to)).map(drop);
    let secret = |job: &Numbers, name: &str| json!({"file": job.folders.root().join(name)});

    let mut by_password = Numbers::new(broker.handle(), "password", 1)?;
    let login = |job: &Numbers, user: &str, password: &str| -> anyhow::Result<()> {
        fs::write(job.folders.root().join("user"), user)?;
        Ok(fs::write(job.folders.root().join("password"), password)?)
    };
    login(&by_password, "ada", "first-word")?;
    let (user, password) = (secret(&by_password, "user"), secret(&by_password, "password"));
    by_password.set("/kafka/sasl", json!({"mechanism": "PLAIN", "username": user, "password": password}));
    let mut by_certificate = Numbers::new(broker.handle(), "certificate", 1)?;
    copy(&by_certificate, "client.pem", "tls.crt")?;
    copy(&by_certificate, "client.key", "tls.key")?;
    let (certificate, key) = (secret(&by_certificate, "tls.crt"), secret(&by_certificate, "tls.key"));
    copy(&by_certificate, "ca.pem", "ca.crt")?;
    let tls = json!({"ca": secret(&by_certificate, "ca.crt"), "certificate": certificate, "key": key});
    by_certificate.set("/kafka/tls", tls);

    let mut runners = Vec::new();
    for (job, listener) in [(&by_password, "SASL_PLAINTEXT"), (&by_certificate, "SSL")] {
        job.produce(0, 0..10)?;
        let mut runner = job.job()?.arg("--bootstrap-servers").arg(broker.listener(listener)?).start()?;
        job.wait_for_committed(&mut runner, 10)?;
        runners.push(runner);
    }
    // A certificate without its key is not taken up, and nothing stops.
    copy(&by_certificate, "stranger.pem", "tls.crt")?;
    let unusable = |runner: &Runner| runner.stderr().contains("changed, and cannot be used").then_some(());
    runners[1].wait_for("the certificate to be seen", TIMEOUT, unusable)?;
    by_certificate.produce(0, 10..20)?;
    by_certificate.wait_for_committed(&mut runners[1], 20)?;
    copy(&by_certificate, "stranger.key", "tls.key")?;
    login(&by_password, "ben", "second-word")?;
    let told = |runner: &Runner| runner.stderr().contains("was changed: new connections use it").then_some(());
    runners[0].wait_for("the login to be seen", TIMEOUT, told)?;
    let anew = |runner: &Runner| runner.stderr().contains("changed: connected anew").then_some(());
    runners[1].wait_for("the certificate to be taken up", TIMEOUT, anew)?;

    // What was there before is refused from here on.
    broker.kill()?;
    set_property(
        &broker.certificates()?.with_file_name("server.properties"),
        "user_ada=\"first-word\"",
        "user_cid=\"x\"",
    )?;
    fs::copy(certificates.join("stranger-ca.pem"), certificates.join("ca.pem"))?;
    broker.restart()?;
    for (job, runner) in [&by_password, &by_certificate].into_iter().zip(&mut runners) {
        job.produce(0, 20..30)?;
        let all = if job.topic == by_certificate.topic { 30 } else { 20 };
        job.wait_for_committed(runner, all)?;
    }
    for (job, runner) in [&by_password, &by_certificate].into_iter().zip(runners) {
        let says = runner.stderr();
        assert!(!says.contains("AuthenticationFailed"), "{says}");
        for secret in ["first-word", "second-word"] {
            assert!(!says.contains(secret), "{says}");
        }
        stop(runner)?;
        job.audit()?;
    }
    assert_eq!(by_certificate.numbers()?, (0..30).collect::<Vec<_>>());
    assert_eq!(by_password.numbers()?, (0..10).chain(20..30).collect::<Vec<_>>());
    Ok(())
}
