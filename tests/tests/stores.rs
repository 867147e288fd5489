//! Jobs whose outputs and checkpoints are in an object store: a real S3 server, and a proxy before it that spoils requests.

mod identity;
mod others;
mod refused;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use data_platform_tests::{Broker, Fault, FaultProxy, S3, environment, needs_broker, needs_s3, python_reader};
use serde_json::{Value, json};

use crate::bad_input::case::run_all;
use crate::events::TIMEOUT;
use crate::sources::numbers::{NAME, Numbers, status, stop};

/// Of so many requests one is spoiled in `make test`.
const SAMPLED: usize = 11;

/// A job over a topic, whose folders are in a bucket behind a proxy.
fn behind_proxy(broker: Broker, s3: &S3, name: &str) -> anyhow::Result<(Numbers, FaultProxy)> {
    let mut job = Numbers::new(broker, name, 1)?;
    let proxy = FaultProxy::start(s3.address())?;
    job.folders = s3.folders()?;
    job.folders.reach_at(proxy.endpoint());
    Ok((job, proxy))
}

#[test]
fn every_request_may_fail_once_in_every_way() -> anyhow::Result<()> {
    let (broker, s3) = (needs_broker!(), needs_s3!());
    let ended = Mutex::new(Vec::new());
    every_request_may_fail(Numbers::new(broker, "s3-faults", 1)?, &s3, |job| {
        // The proof takes as long as the run: one of a few, with another fault each time.
        let number = ended.lock().expect("no run panics").len();
        if number % (Fault::ALL.len() + 1) == 0 {
            job.audit()?;
        }
        ended.lock().expect("no run panics").push(job);
        Ok(())
    })?;
    let ended = ended.into_inner()?;
    let tables = ended.iter().map(|job| job.folders.outputs().join(NAME).display().to_string());
    let list = ended.first().context("a run")?.folders.root().join("tables.txt");
    std::fs::write(&list, tables.collect::<Vec<_>>().join("\n"))?;
    python_reader("copied_numbers.py", [list.as_os_str(), "300".as_ref()])?.expect_success().map(drop)
}

/// A request that is spoiled in a run of its own.
struct Spoiled {
    number: usize,
    fault: Fault,
    name: String,
}

/// Runs a job of 300 numbers again and again, several side by side, each time in a new bucket and with another request that
/// fails. `check` says whether the numbers are there once each.
pub(crate) fn every_request_may_fail(
    mut job: Numbers,
    s3: &S3,
    check: impl Fn(Numbers) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<()> {
    let anew = |job: &Numbers| -> anyhow::Result<(Numbers, FaultProxy)> {
        let proxy = FaultProxy::start(s3.address())?;
        let mut folders = s3.folders()?;
        folders.reach_at(proxy.endpoint());
        Ok((job.elsewhere(folders), proxy))
    };
    job.set("/kafka/maxOffsetsPerTrigger", json!(150));
    job.produce(0, 0..300)?;
    let (first, proxy) = anew(&job)?;
    first.drain()?;
    let requests = proxy.requests();
    check(first)?;
    println!("{} requests of a run of two commits, start and end included", requests.len());
    let mut cases = Vec::new();
    for (number, request) in (1..).zip(&requests) {
        // Every request with every fault in `make soak`, and a sample of both here.
        let faults = match environment::is_soak() {
            false if number % SAMPLED != 0 => continue,
            false => vec![Fault::ALL[number / SAMPLED % Fault::ALL.len()]],
            true => Fault::ALL.to_vec(),
        };
        let case = |fault| Spoiled { number, fault, name: format!("{fault:?} of request {number}, {request}") };
        cases.extend(faults.into_iter().map(case));
    }
    let happened = AtomicUsize::new(0);
    let run = |case: &Spoiled| {
        let (job, proxy) = anew(&job)?;
        proxy.spoil(case.number, case.fault);
        job.drain()?;
        happened.fetch_add(proxy.happened(), Ordering::Relaxed);
        check(job)
    };
    let runs = run_all(&cases, |case| &case.name, run)?;
    let happened = happened.into_inner();
    println!("{happened} requests were spoiled in {runs} runs");
    // One request more or less: names of objects are random, and so is who is first of two at once.
    ensure!(happened + 2 + runs / 50 >= runs && runs > 4, "only {happened} faults happened in {runs} runs");
    Ok(())
}

#[test]
fn a_commit_of_a_hundred_directories_is_fast_on_a_slow_network() -> anyhow::Result<()> {
    let (mut job, proxy) = behind_proxy(needs_broker!(), &needs_s3!(), "s3-hundred")?;
    let number = json!({"name": "n", "type": "bigint", "required": true});
    job.set("/sources/0/columns", json!([number]));
    job.set("/query", json!(format!("SELECT n, n % 100 AS part FROM {NAME}")));
    job.set("/sink/partitionBy", json!(["part"]));
    job.produce(0, 0..1_000)?;
    proxy.delay(Duration::from_millis(20));
    let mut runner = job.job()?.start()?;
    job.wait_for_committed(&mut runner, 1_000)?;
    let commit = runner.wait_for("the commit in the status", TIMEOUT, |runner| {
        let status = status(runner)?;
        status["lastCommit"].as_object().cloned()
    })?;
    stop(runner)?;
    println!("{commit:?}, {} requests in all", proxy.requests().len());
    ensure!(commit["files"] == 100, "{commit:?}");
    let millis = commit.get("commitMs").and_then(Value::as_u64).context("a duration")?;
    // One after the other they would take 8 s; on a machine that does nothing else it is below 1 s.
    ensure!(millis < if environment::is_soak() { 1_000 } else { 3_000 }, "the commit took {millis} ms");
    ensure!(job.numbers()? == (0..1_000).collect::<Vec<_>>());
    Ok(())
}

/// Requests by the word that they begin with.
fn counted(requests: &[String]) -> std::collections::BTreeMap<String, usize> {
    let mut counts = std::collections::BTreeMap::new();
    for request in requests {
        let is_list = request.contains("list-type");
        let method = request.split(' ').next().unwrap_or_default();
        *counts.entry(if is_list { "LIST".to_owned() } else { method.to_owned() }).or_default() += 1;
    }
    counts
}

#[test]
fn a_commit_takes_few_requests_and_an_idle_job_hardly_any() -> anyhow::Result<()> {
    let (mut job, proxy) = behind_proxy(needs_broker!(), &needs_s3!(), "s3-requests")?;
    job.set("/trigger/interval", json!("1s"));
    job.produce(0, 0..10)?;
    let mut runner = job.job()?.start()?;
    job.wait_for_committed(&mut runner, 10)?;
    let begin = proxy.requests().len();
    println!("until the first commit: {:?}", counted(&proxy.requests()));
    for batch in 1..=5 {
        job.produce(0, batch * 10..batch * 10 + 10)?;
        job.wait_for_committed(&mut runner, batch * 10 + 10)?;
    }
    let busy = proxy.requests()[begin..].to_vec();
    println!("five commits of a file each: {:?}", counted(&busy));
    ensure!(busy.len() <= 5 * 11 + 6, "{} requests: {busy:#?}", busy.len());
    // Two triggers later everything is said.
    let mut last = (proxy.requests().len(), Instant::now());
    let quiet = runner.wait_for("a quiet second", TIMEOUT, |_| {
        let now = proxy.requests().len();
        if now != last.0 {
            last = (now, Instant::now());
        }
        (last.1.elapsed() >= Duration::from_millis(2_500)).then_some(())
    });
    quiet.context("an idle job goes on asking")?;
    let metrics = crate::sources::numbers::page(&runner, "/metrics").context("metrics")?.1;
    let said = metrics.lines().filter(|line| line.starts_with("dataplatform_object_store_requests_total{"));
    let said: u64 = said.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum();
    ensure!(said == proxy.requests().len() as u64, "{said} are counted, {} came: {metrics}", proxy.requests().len());
    stop(runner)?;
    Ok(())
}

#[test]
fn the_tools_of_a_checkpoint_work_in_a_bucket() -> anyhow::Result<()> {
    let (broker, s3) = (needs_broker!(), needs_s3!());
    let mut job = Numbers::new(broker, "s3-tools", 1)?;
    job.folders = s3.folders()?;
    job.set("/sink/format", json!("csv"));
    for batch in 0..3 {
        job.produce(0, batch * 50..batch * 50 + 50)?;
        job.drain()?;
    }
    ensure!(job.ask(&["audit", NAME])?.contains("PROVED: 150 offsets"));
    let shown = job.ask(&["checkpoint", "show", NAME])?;
    ensure!(shown.contains("s3://"), "{shown}");
    let verified = job.ask(&["checkpoint", "verify", NAME])?;
    ensure!(!verified.contains(" bad"), "{verified}");
    ensure!(job.ask(&["checkpoint", "ls"])?.contains(NAME));
    let preview = job.ask(&["checkpoint", "rewind", NAME, "--to", "2", "--yes"])?;
    ensure!(preview.contains("Done"), "{preview}");
    job.drain()?;
    ensure!(job.ask(&["audit", NAME])?.contains("PROVED: 150 offsets"));
    Ok(())
}

#[test]
fn credentials_that_change_are_taken_up_by_a_running_job() -> anyhow::Result<()> {
    let mut job = Numbers::new(needs_broker!(), "s3-rotate", 1)?;
    job.folders = needs_s3!().folders()?;
    job.produce(0, 0..10)?;
    // Not among the folders of the job: those are a bucket.
    let secret = tempfile::tempdir()?;
    let write = |name: &str, text: &str| std::fs::write(secret.path().join(name), text);
    write("AWS_ACCESS_KEY_ID", data_platform_tests::s3::KEY)?;
    write("AWS_SECRET_ACCESS_KEY", data_platform_tests::s3::SECRET)?;
    let command = job.job()?.env("STORAGE_CREDENTIALS_DIR", secret.path()).env("DATA_PLATFORM_STAY_UP", "true");
    let mut runner = command.env("AWS_SECRET_ACCESS_KEY", "not that").start()?;
    job.wait_for_committed(&mut runner, 10)?;
    write("AWS_SECRET_ACCESS_KEY", "wrong now")?;
    job.produce(0, 10..20)?;
    let says = runner.wait_for("the refusal", TIMEOUT, |runner| {
        let says = runner.stderr();
        says.contains("does not know these credentials").then_some(says)
    })?;
    ensure!(says.contains("took up new credentials"), "{says}");
    write("AWS_SECRET_ACCESS_KEY", data_platform_tests::s3::SECRET)?;
    job.wait_for_committed(&mut runner, 20)?;
    stop(runner)?;
    ensure!(job.numbers()? == (0..20).collect::<Vec<_>>());
    Ok(())
}
