//! Jobs beside others that fail, and files that change while the process runs.

use std::fs;
use std::time::{Duration, Instant};

use data_platform_runner::generate::EventSettings;
use data_platform_tests::process::expect_code;
use data_platform_tests::{Broker, Pages, Runner, environment, needs_broker, unique_topic};
use rustix::process::Signal;
use serde_json::Value;

use super::{DAMAGED, Jobs, TIMEOUT, damage, manifest, nowhere, ready, records_in_log, wait_for_job};
use crate::events::{Stream, finish};
use crate::shipped::{CHANGES, EVENT_AGGREGATION};

pub(super) fn stream(shipped: &'static crate::shipped::Shipped, broker: &Broker) -> anyhow::Result<Stream> {
    let settings = EventSettings { seed: environment::seed(), users: 40, messy: 0.01, ..EventSettings::default() };
    let topic = unique_topic(&format!("beside-{}", shipped.name));
    Stream::on(shipped, broker.handle(), topic, 2, settings, shipped.step_ms)
}

pub(super) fn streaming(stream: &Stream, trigger: &str) -> anyhow::Result<String> {
    let (topic, name) = (stream.shipped.kind.topic(), stream.shipped.name);
    let trigger = format!("    interval: {trigger}");
    let starting = ("startingOffsets: latest", "startingOffsets: earliest");
    manifest(name, &[(topic, stream.topic.as_str()), starting, ("    interval: 10s", trigger.as_str())])
}

fn is_caught_up(job: &Value) -> bool {
    job["status"]["lag"]["totalRecords"] == 0 && ready(job).0 == "True"
}

/// Closes every window with `run`, which goes on where `local` ended, and compares.
fn is_exact(jobs: &Jobs, stream: &Stream) -> anyhow::Result<()> {
    let job = Runner::command(["run", stream.shipped.name, "--drain", "--http", "off", "-f"]);
    let summary = finish(job.arg(jobs.file(stream.shipped.name)).broker(&stream.broker).folders(&jobs.folders))?;
    crate::events::check_counts(&summary, &stream.compare(&jobs.folders.outputs(), None)?)
}

#[test]
fn a_job_that_fails_a_broken_file_and_a_broker_that_goes_touch_no_other_job() -> anyhow::Result<()> {
    let _shared = needs_broker!();
    let broker = Broker::private(&[])?;
    let jobs = Jobs::new()?;
    let (mut events, mut changes) = (stream(&EVENT_AGGREGATION, &broker)?, stream(&CHANGES, &broker)?);
    jobs.write("event-aggregation", &streaming(&events, "300ms")?)?;
    jobs.write("cdc-transformation", &streaming(&changes, "300ms")?)?;
    jobs.write("nowhere", &nowhere()?)?;
    jobs.write("damaged", DAMAGED)?;
    damage(&jobs)?;
    events.produce(2_000)?;
    changes.produce(1_000)?;

    let mut runner = jobs.command(Some(&broker)).env("LOG_LEVEL", "info").start()?;
    let pages = Pages::of(&mut runner)?;
    for job in ["event-aggregation", "cdc-transformation"] {
        wait_for_job(&mut runner, &pages, job, "caught up", is_caught_up)?;
    }
    let failing = wait_for_job(&mut runner, &pages, "nowhere", "in trouble", |job| ready(job).1 == "TopicNotFound")?;
    anyhow::ensure!(ready(&failing).0 == "False", "{failing}");
    let damaged = wait_for_job(&mut runner, &pages, "damaged", "in trouble", |job| ready(job).1 == "QueryFailed")?;
    anyhow::ensure!(damaged["status"]["lastRun"]["result"] == "Failed", "{damaged}");
    let health = pages.get("/health")?;
    anyhow::ensure!(health.code == 503, "{health:?}");
    let told = health.json()?;
    anyhow::ensure!(told["jobs"]["event-aggregation"]["status"] == "healthy", "{told}");
    anyhow::ensure!(told["jobs"]["nowhere"]["status"] == "unhealthy", "{told}");
    let metrics = pages.get("/metrics")?.body;
    for job in ["event-aggregation", "cdc-transformation", "nowhere", "damaged"] {
        anyhow::ensure!(metrics.contains(&format!("dataplatform_job_ready{{job=\"{job}\"")), "{job} in {metrics}");
    }
    anyhow::ensure!(metrics.matches("# TYPE dataplatform_job_ready ").count() == 1, "{metrics}");
    anyhow::ensure!(pages.get("/jobs/local/nowhere/status")?.json()?["reason"] == "TopicNotFound");

    // The broker goes and comes back.
    for _ in 0..environment::rounds(1, 30) {
        broker.kill()?;
        broker.restart()?;
        events.produce(1_000)?;
        changes.produce(500)?;
        for job in ["event-aggregation", "cdc-transformation"] {
            wait_for_job(&mut runner, &pages, job, "caught up again", is_caught_up)?;
        }
    }

    // A broken file keeps the job that runs, and says so.
    jobs.write(
        "event-aggregation",
        "apiVersion: dataplatform.io/v1alpha1\nkind: StreamingJob\nmetadata: {name: x}\nspec: {triggr: 1}\n",
    )?;
    let problem = runner.wait_for("the problem of the file", TIMEOUT, |_| {
        let all = pages.get("/status").ok()?.json().ok()?;
        all["problem"].as_str().filter(|problem| problem.contains("triggr")).map(str::to_owned)
    })?;
    anyhow::ensure!(problem.contains("event-aggregation.yaml"), "{problem}");
    events.produce(500)?;
    wait_for_job(&mut runner, &pages, "event-aggregation", "still caught up", is_caught_up)?;

    // One that is whole is taken up; what has no file any more stops; what is new starts.
    jobs.write("event-aggregation", &streaming(&events, "250ms")?)?;
    fs::remove_file(jobs.file("nowhere"))?;
    fs::remove_file(jobs.file("damaged"))?;
    let more = Stream::on(
        &EVENT_AGGREGATION,
        broker.handle(),
        unique_topic("beside-more"),
        1,
        EventSettings::default(),
        20.0,
    )?;
    let text = streaming(&more, "300ms")?.replace("name: event-aggregation", "name: more");
    jobs.write("more", &text.replace("path: events_aggregated_realtime", "path: more"))?;
    wait_for_job(&mut runner, &pages, "more", "running", |job| ready(job).0 == "True")?;
    let health = runner
        .wait_for("every job to be well", TIMEOUT, |_| pages.get("/health").ok().filter(|answer| answer.code == 200))?;
    let names: Vec<_> =
        health.json()?["jobs"].as_object().map(|jobs| jobs.keys().cloned().collect()).unwrap_or_default();
    anyhow::ensure!(names == ["cdc-transformation", "event-aggregation", "more"], "{names:?}");
    events.produce(500)?;
    changes.produce(500)?;
    for job in ["event-aggregation", "cdc-transformation"] {
        wait_for_job(&mut runner, &pages, job, "caught up at the end", is_caught_up)?;
    }

    runner.signal(Signal::TERM)?;
    let ended = runner.wait(TIMEOUT)?;
    expect_code(ended, 0, &runner)?;
    for job in ["event-aggregation", "nowhere", "damaged", "more"] {
        let log = jobs.log(job)?;
        anyhow::ensure!(
            !log.is_empty() && log.iter().all(|line| line["span"]["job"] == job),
            "the log of {job}: {log:?}"
        );
    }
    is_exact(&jobs, &events)?;
    is_exact(&jobs, &changes)
}

#[test]
fn a_job_that_cannot_stop_in_time_loses_nothing() -> anyhow::Result<()> {
    let broker = needs_broker!();
    let jobs = Jobs::new()?;
    let mut events = stream(&EVENT_AGGREGATION, &broker)?;
    let text = streaming(&events, "100ms")?.replace("maxOffsetsPerTrigger: 10000", "maxOffsetsPerTrigger: 50");
    jobs.write("event-aggregation", &text.replace("  trigger:\n", "  stopTimeout: 1s\n  trigger:\n"))?;
    events.produce(2_000)?;
    // Each write takes longer than that, so it is always in the middle of one.
    let program = environment::program("data-platform-faults");
    let local = Runner::program(&program, ["local", "jobs", "--http", "off"]).env("FAULT_DISK_DELAY_MS", "2000");
    let mut runner = local.broker(&broker).folders(&jobs.folders).start()?;
    runner.wait_for("a commit", TIMEOUT, |_| {
        (records_in_log(&jobs.folders.checkpoints(), "event-aggregation") > 1).then_some(())
    })?;
    let told = Instant::now();
    runner.signal(Signal::TERM)?;
    let ended = runner.wait(TIMEOUT)?;
    expect_code(ended, 1, &runner)?;
    let took = told.elapsed();
    anyhow::ensure!((Duration::from_secs(1)..Duration::from_secs(10)).contains(&took), "{took:?}");
    anyhow::ensure!(runner.stderr().contains("ending at once; the next start finishes what is decided"));
    is_exact(&jobs, &events)
}
