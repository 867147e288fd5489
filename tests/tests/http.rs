//! The pages of a running job agree with its log and with docs/metrics.md, and signals end it as promised.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use data_platform_runner::generate::EventSettings;
use data_platform_tests::process::RunnerCommand;
use data_platform_tests::{Ended, Pages, Runner, needs_broker};
use rustix::process::Signal;
use serde_json::Value;

use crate::events::{START_MS, Stream, TIMEOUT, finish};

/// `stopTimeout` of the jobs here.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// What a request to a broker that does not answer may take, and some room for a busy machine.
const ONE_REQUEST: Duration = Duration::from_secs(15);

/// The job with a short trigger, from the earliest record.
fn job(stream: &Stream) -> RunnerCommand {
    let job = stream.job().arg("--starting-offsets").arg("earliest");
    let job = job.arg("--set").arg(format!("spec.stopTimeout={}s", STOP_TIMEOUT.as_secs()));
    job.arg("--set").arg("spec.trigger.interval=100ms")
}

/// Waits until everything that is in the topic is committed, and gives the status.
fn wait_until_caught_up(job: &mut Runner, pages: &Pages, records: u64) -> anyhow::Result<Value> {
    job.wait_for("everything to be committed", TIMEOUT, |_| {
        let status = pages.get("/status").ok()?.json().ok()?;
        (status["totals"]["sources"]["app_events"]["read"] == records && status["lag"] == 0).then_some(status)
    })
}

/// Values of the metrics by name and labels, and the names with their types.
fn metrics(pages: &Pages) -> anyhow::Result<(BTreeMap<String, f64>, BTreeSet<String>)> {
    let page = pages.get("/metrics")?;
    anyhow::ensure!(page.code == 200, "{page:?}");
    let (mut values, mut names) = (BTreeMap::new(), BTreeSet::new());
    for line in page.body.lines() {
        if let Some(typed) = line.strip_prefix("# TYPE ") {
            names.insert(typed.split(' ').next().unwrap_or_default().to_owned());
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').with_context(|| format!("a value in {line:?}"))?;
            values.insert(name.to_owned(), value.parse()?);
        }
    }
    Ok((values, names))
}

/// The sum over all labels.
fn sum(values: &BTreeMap<String, f64>, name: &str) -> f64 {
    let is_of = |key: &str| key == name || key.strip_prefix(name).is_some_and(|labels| labels.starts_with('{'));
    values.iter().filter(|(key, _)| is_of(key)).map(|(_, value)| value).sum()
}

/// The metrics that docs/metrics.md lists, but for those of references: this job has none.
fn listed_metrics() -> BTreeSet<String> {
    let page = include_str!("../../docs/metrics.md");
    let listed = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    listed.filter(|name| !name.starts_with("dataplatform_reference_")).map(str::to_owned).collect()
}

fn check_status(status: &Value, stream: &Stream) {
    let positions = status["partitions"].as_array().expect("partitions are a list");
    assert_eq!(positions.len(), stream.partitions.unsigned_abs() as usize, "{status:#}");
    for partition in positions {
        assert_eq!(partition["topic"], stream.topic.as_str());
        assert_eq!(partition["position"], partition["end"], "{status:#}");
        assert!(partition["watermark"].is_i64(), "{status:#}");
    }
    let holding = positions.iter().filter(|partition| partition["holdsWatermark"] == true).count();
    assert_eq!(holding, 1, "one partition holds the watermark: {status:#}");
    for (field, expected) in [
        ("namespace", Value::from("local")),
        ("job", "event-aggregation".into()),
        ("phase", "running".into()),
        ("reason", "Running".into()),
        ("ready", true.into()),
        ("reloads", 0.into()),
    ] {
        assert_eq!(status[field], expected, "{field} in {status:#}");
    }
    for field in ["openWindows", "stateGroups", "stateBytes", "commits", "watermark", "started"] {
        assert!(status[field].as_i64() > Some(0), "{field} in {status:#}");
    }
    for field in ["version", "clock", "batchMs", "commitMs"] {
        assert!(status["lastCommit"][field].is_i64(), "lastCommit.{field} in {status:#}");
    }
    assert!(status["logId"].is_string(), "{status:#}");
    assert_eq!(status["configuration"]["trigger"], "100ms", "{status:#}");
    assert_eq!(status["configuration"]["kafka.isolation.level"], "read_committed", "{status:#}");
}

#[test]
fn the_pages_of_a_running_job_agree_with_its_log() -> anyhow::Result<()> {
    let settings = EventSettings { messy: 0.02, ..EventSettings::default() };
    let mut stream = Stream::new(needs_broker!(), "pages", 3, settings, 20.0)?;
    stream.produce(9_000)?;
    let mut running = job(&stream).start()?;
    let pages = Pages::of(&mut running)?;
    running.wait_for("the job to be ready", TIMEOUT, |_| (pages.get("/readyz").ok()?.code == 200).then_some(()))?;
    let status = wait_until_caught_up(&mut running, &pages, 9_000)?;
    check_status(&status, &stream);
    assert_eq!(pages.get("/readyz")?.body, "ok\n");
    assert_eq!(pages.get("/livez")?.body, "ok\n");
    assert_eq!(pages.get("/nothing")?.code, 404);
    let page = pages.get("/")?;
    assert!(page.code == 200 && page.body.contains("page.js"), "{page:?}");
    assert_eq!([pages.get("/page.js")?.code, pages.get("/page.css")?.code], [200, 200]);
    assert_eq!(status["lastCommits"].as_array().and_then(|commits| commits.last()), Some(&status["lastCommit"]));
    let health = pages.get("/health")?;
    assert_eq!((health.code, health.json()?["status"].clone()), (200, "healthy".into()), "{health:?}");
    assert_eq!(health.json()?["lag"], 0, "{health:?}");

    let (values, names) = metrics(&pages)?;
    let ours: BTreeSet<_> = names.iter().filter(|name| !name.starts_with("process_")).cloned().collect();
    assert_eq!(ours, listed_metrics(), "/metrics and docs/metrics.md differ");
    assert!(names.contains("process_resident_memory_bytes"), "{names:?}");
    assert_eq!(sum(&values, "dataplatform_job_ready"), 1.0);
    assert_eq!(sum(&values, "dataplatform_consumer_lag_records_sum"), 0.0);
    let (open, rows) = (&status["openWindows"], &status["totals"]["outputs"]["events_aggregated_realtime"]["rows"]);
    assert_eq!(Some(sum(&values, "dataplatform_open_windows")), open.as_f64());

    // Asked to stop: in time, and windows stay open.
    let asked = Instant::now();
    running.signal(Signal::TERM)?;
    assert_eq!(running.wait(STOP_TIMEOUT)?, Ended::Code(0), "{}", running.last_lines());
    assert!(asked.elapsed() < STOP_TIMEOUT, "it took {:?}", asked.elapsed());
    assert!(running.stderr().contains("windows stay open"), "{}", running.last_lines());
    let summary = finish(stream.job().arg("--test-mode"))?;
    assert_eq!((&summary["open_windows"], &summary["rows"]), (open, rows), "{summary} after {status:#}");

    for (metric, count) in [
        ("dataplatform_records_read_total", "records"),
        ("dataplatform_records_dead_lettered_total", "dead_letters"),
        ("dataplatform_lost_offsets_total", "lost_offsets"),
    ] {
        assert_eq!(Some(sum(&values, metric)), summary[count].as_f64(), "{metric} and {summary}");
    }
    let dropped = ["tombstones", "future", "filtered", "late"].map(|name| summary[name].as_f64().unwrap_or(-1.0));
    assert_eq!(sum(&values, "dataplatform_records_dropped_total"), dropped.iter().sum::<f64>(), "{summary}");
    let of_table = |name: &str| {
        let of_table = |key: &&String| key.starts_with(name) && key.contains("output=\"events_aggregated_realtime\"");
        values.iter().filter(|(key, _)| of_table(key)).map(|(_, value)| *value).sum::<f64>()
    };
    assert_eq!(Some(of_table("dataplatform_rows_written_total")), summary["rows"].as_f64());
    assert_eq!(Some(of_table("dataplatform_files_written_total")), summary["files"].as_f64());
    let drained = stream.drain()?;
    assert_eq!(drained["open_windows"], 0, "{drained}");
    stream.check_exact(&drained)
}

#[test]
fn a_job_that_is_behind_says_how_old_the_first_record_is_that_waits() -> anyhow::Result<()> {
    let mut stream = Stream::new(needs_broker!(), "lag", 2, EventSettings::default(), 20.0)?;
    // Written at the beginning of 2026, as Kafka's time of the records says.
    stream.produce(6_000)?;
    let slow = stream.job_with_faults().env("FAULT_DISK_DELAY_MS", "20");
    let slow = slow.arg("--starting-offsets").arg("earliest").arg("--set").arg("spec.trigger.interval=100ms");
    let mut job = slow.arg("--set").arg("spec.kafka.maxOffsetsPerTrigger=500").start()?;
    let pages = Pages::of(&mut job)?;
    let behind = job.wait_for("a lag in seconds", TIMEOUT, |_| {
        let status = pages.get("/status").ok()?.json().ok()?;
        status["lagSeconds"].as_i64().filter(|seconds| *seconds > 0).map(|_| status)
    })?;
    let year = (SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64 - START_MS) / 1_000;
    let close = |seconds: &Value| seconds.as_i64().is_some_and(|seconds| (year - 600..=year).contains(&seconds));
    assert!(close(&behind["lagSeconds"]), "about {year} s: {behind:#}");
    assert!(behind["lag"].as_i64() > Some(0), "{behind:#}");
    for partition in behind["partitions"].as_array().context("partitions")? {
        assert!(close(&partition["lagSeconds"]) || partition["lagSeconds"] == 0, "{behind:#}");
    }
    let (values, _) = metrics(&pages)?;
    let metric = "dataplatform_consumer_lag_seconds";
    assert!(sum(&values, metric) == 0.0 || sum(&values, metric) > (year - 600) as f64, "{values:?}");

    let status = wait_until_caught_up(&mut job, &pages, 6_000)?;
    assert_eq!(status["lagSeconds"], 0, "{status:#}");
    assert!(
        status["partitions"].as_array().context("partitions")?.iter().all(|partition| partition["lagSeconds"] == 0)
    );
    assert_eq!(sum(&metrics(&pages)?.0, metric), 0.0);
    // All of it came within a minute.
    let rate = |name: &str| status[name].as_u64().with_context(|| format!("{name} in {status:#}"));
    let (records, rows) = (rate("recordsPerSecond")?, rate("rowsPerSecond")?);
    let written = status["totals"]["outputs"]["events_aggregated_realtime"]["rows"].as_u64().context("rows")?;
    assert!((100..=6_000).contains(&records), "{status:#}");
    assert!((written.div_ceil(60)..=written).contains(&rows) && rows > 0, "{status:#}");
    Ok(())
}

#[test]
fn a_job_runs_without_pages_where_its_address_is_taken() -> anyhow::Result<()> {
    let mut stream = Stream::new(needs_broker!(), "taken", 1, EventSettings::default(), 100.0)?;
    stream.produce(300)?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    // The later flag wins.
    let command = Runner::command(["run", "event-aggregation", "--drain", "--starting-offsets", "earliest"]);
    let command =
        command.arg("--http").arg(&address).arg("--set").arg(format!("spec.sources[0].topics[0]={}", stream.topic));
    let (ended, runner) = command.broker(&stream.broker).folders(&stream.folders).run(TIMEOUT)?;
    assert_eq!(ended, Ended::Code(0), "{}", runner.last_lines());
    let warning = runner.stderr().lines().find(|line| line.contains("no health pages")).map(str::to_owned);
    let warning = warning.with_context(|| runner.last_lines())?;
    assert!(warning.contains("WARN") && warning.contains(&address) && warning.contains("another --http"), "{warning}");
    let summary: Value = serde_json::from_str(&runner.stdout())?;
    stream.check_exact(&summary)
}

#[test]
fn pages_with_a_token_are_for_whoever_knows_it_and_it_shows_nowhere() -> anyhow::Result<()> {
    const TOKEN: &str = "f00dcafe-token-of-the-pages";
    let mut stream = Stream::new(needs_broker!(), "token", 1, EventSettings::default(), 20.0)?;
    stream.produce(500)?;
    let file = stream.folders.root().join("token");
    // A wrong path is an error of whoever types it, before anything is read.
    let (ended, refused) = job(&stream).env("HTTP_TOKEN_FILE", &file).run(TIMEOUT)?;
    assert_eq!(ended, Ended::Code(2), "{}", refused.last_lines());
    let says = refused.stderr();
    assert!(says.contains(&file.display().to_string()) && says.contains("openssl rand"), "{says}");

    std::fs::write(&file, format!("{TOKEN}\n"))?;
    let mut running = job(&stream).env("HTTP_TOKEN_FILE", &file).env("LOG_LEVEL", "debug").start()?;
    let pages = Pages::of(&mut running)?;
    let bearer = format!("Bearer {TOKEN}");
    // anybody:f00dcafe-token-of-the-pages
    let basic = "Basic YW55Ym9keTpmMDBkY2FmZS10b2tlbi1vZi10aGUtcGFnZXM=";
    running.wait_for("all records", TIMEOUT, |_| {
        let status = pages.get_with("/status", Some(&bearer)).ok()?.json().ok()?;
        (status["totals"]["sources"]["app_events"]["read"] == 500 && status["ready"] == true).then_some(())
    })?;
    let mut shown = String::new();
    for path in ["/", "/page.js", "/page.css", "/status", "/metrics", "/health"] {
        for authorization in [bearer.as_str(), basic] {
            let answer = pages.get_with(path, Some(authorization))?;
            assert_eq!(answer.code, 200, "{path}: {answer:?}");
            shown.push_str(&answer.body);
        }
        for authorization in [None, Some("Bearer wrong"), Some("Basic YW55Ym9keTp3cm9uZw==")] {
            let answer = pages.get_with(path, authorization)?;
            let head = answer.head.to_ascii_lowercase();
            assert_eq!(answer.code, 401, "{path} {authorization:?}: {answer:?}");
            assert!(
                head.contains("www-authenticate: basic realm=") && head.contains("www-authenticate: bearer"),
                "{head}"
            );
            shown.push_str(&answer.body);
        }
    }
    assert_eq!(pages.get("/nothing")?.code, 401, "who knows no token does not learn what there is");
    for path in ["/livez", "/readyz"] {
        assert_eq!(
            (pages.get(path)?.code, pages.get(path)?.body),
            (200, "ok\n".to_owned()),
            "the kubelet has no token"
        );
    }
    // Another token counts without a restart.
    std::fs::write(&file, "another")?;
    assert_eq!(pages.get_with("/status", Some(&bearer))?.code, 401);
    assert_eq!(pages.get_with("/status", Some("Bearer another"))?.code, 200);
    std::fs::remove_file(&file)?;
    let closed = pages.get_with("/status", Some(&bearer))?;
    assert_eq!(closed.code, 503, "{closed:?}");

    let arguments = std::fs::read_to_string(format!("/proc/{}/cmdline", running.id()))?;
    let environment = std::fs::read_to_string(format!("/proc/{}/environ", running.id()))?;
    running.signal(Signal::TERM)?;
    assert_eq!(running.wait(STOP_TIMEOUT)?, Ended::Code(0), "{}", running.last_lines());
    for text in [&shown, &arguments, &environment, &running.stdout(), &running.stderr()] {
        assert!(!text.contains(TOKEN), "the token shows in {text}");
    }
    Ok(())
}

/// A job whose broker never answers, and its pages.
fn without_broker() -> anyhow::Result<(data_platform_tests::JobFolders, Runner)> {
    let folders = data_platform_tests::JobFolders::new()?;
    let command = Runner::command(["run", "event-aggregation", "--http", "127.0.0.1:0"]);
    let mut job = command.env("KAFKA_BOOTSTRAP_SERVER", "127.0.0.1:1").folders(&folders).start()?;
    Pages::of(&mut job)?;
    job.wait_for("it to listen to signals", TIMEOUT, |job| job.stderr().contains("\"starting\"").then_some(()))?;
    Ok((folders, job))
}

#[test]
fn a_signal_ends_a_job_whose_broker_is_away_and_a_second_one_ends_it_at_once() -> anyhow::Result<()> {
    let (_folders, mut patient) = without_broker()?;
    patient.signal(Signal::TERM)?;
    let asked = Instant::now();
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let (_folders, mut hasty) = without_broker()?;
        hasty.signal(Signal::TERM)?;
        hasty
            .wait_for("the first signal to be heard", TIMEOUT, |job| job.stderr().contains("stopping").then_some(()))?;
        let asked = Instant::now();
        hasty.signal(signal)?;
        assert_eq!(hasty.wait(TIMEOUT)?, Ended::Code(code), "{}", hasty.last_lines());
        assert!(asked.elapsed() < Duration::from_secs(2), "it took {:?}", asked.elapsed());
        assert!(hasty.stderr().contains("ending at once"), "{}", hasty.last_lines());
    }
    assert_eq!(patient.wait(TIMEOUT)?, Ended::Code(0), "{}", patient.last_lines());
    assert!(asked.elapsed() < ONE_REQUEST, "it took {:?}", asked.elapsed());
    Ok(())
}
