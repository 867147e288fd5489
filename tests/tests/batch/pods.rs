//! Runs as pods have them: a configuration file, the name and identity of a Job, a last message.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use data_platform_runner::faults::Step;
use data_platform_tests::process::RunnerCommand;
use data_platform_tests::{Ended, Pages, Runner, environment, needs_broker, wait_for};
use rustix::process::Signal;
use serde_json::Value;

use crate::batch::backfill::{replaced, wait_until_it_sleeps};
use crate::batch::{Hours, files};
use crate::events::TIMEOUT;

/// A pod of a job, whose events are of 2026-01-01: long over for every clock.
struct Pod<'a> {
    hours: &'a Hours,
    config: PathBuf,
}

impl<'a> Pod<'a> {
    fn new(hours: &'a Hours, change: impl FnOnce(&mut Value)) -> anyhow::Result<Self> {
        let query = "SELECT date_trunc('hour', window_start) AS hour, count(*) AS minutes, \
                     CAST(date_trunc('hour', window_start) AS DATE) AS date FROM events \
                     GROUP BY date_trunc('hour', window_start)";
        let events = serde_json::json!({
            "name": "events", "path": "events_aggregated_realtime", "timeColumn": "window_start",
        });
        let mut config = serde_json::json!({
            "configVersion": 1,
            "namespace": "data",
            "job": {
                "apiVersion": "dataplatform.io/v1alpha1",
                "kind": "BatchJob",
                "metadata": {
                    "name": "hourly-aggregates", "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 1,
                },
                "spec": {
                    "schedule": "5 * * * *", "interval": "hour", "wait": "0s", "inputs": [events], "query": query,
                    "sink": {"format": "parquet", "path": "hourly_aggregates", "partitionBy": ["date"]},
                },
            },
            "outputsRoot": hours.stream.folders.outputs(),
            "checkpointsRoot": hours.stream.folders.checkpoints(),
            "secretsRoot": "/nowhere",
        });
        change(&mut config);
        let path = hours.stream.folders.root().join("job.json");
        std::fs::write(&path, config.to_string())?;
        Ok(Self { hours, config: path })
    }

    fn run(&self) -> RunnerCommand {
        self.run_of("data-platform")
    }

    fn run_of(&self, program: &str) -> RunnerCommand {
        Runner::program(&environment::program(program), ["run", "--config"])
            .arg(&self.config)
            .env("HTTP_ADDRESS", "127.0.0.1:0")
            .env("DATA_PLATFORM_NO_LOCK", "true")
            .env("TERMINATION_MESSAGE_PATH", self.last())
    }

    fn last(&self) -> PathBuf {
        self.hours.stream.folders.root().join("last")
    }

    fn last_message(&self) -> anyhow::Result<Value> {
        Ok(serde_json::from_slice(&std::fs::read(self.last())?)?)
    }
}

/// The beginning of the hour that was over `minutes` ago, and the minute itself, as numbers since 1970.
fn minutes_ago(minutes: u64) -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs() / 60 - minutes
}

#[test]
fn the_name_of_a_job_says_which_hour_and_attempts_of_one_job_share_theirs() -> anyhow::Result<()> {
    let hours = Hours::new(needs_broker!(), "batch-pod", 1)?;
    let pod = Pod::new(&hours, |config| config["job"]["spec"]["inputs"][0]["completeBy"] = "clock".into())?;
    let due = minutes_ago(180);
    let (ended, runner) =
        pod.run().env("JOB_NAME", format!("hourly-aggregates-{due}")).env("JOB_UID", "uid-1").run(TIMEOUT)?;
    assert_eq!(ended, Ended::Code(0), "{}", runner.last_lines());
    let message = pod.last_message()?;
    let end = message["interval"]["end"].as_str().unwrap_or_default().to_owned();
    let expected = data_platform_runner::clock::show_time((due / 60 * 3_600_000_000) as i64).replace(".000Z", "Z");
    assert_eq!((message["reason"].as_str(), end), (Some("Ended"), expected), "{message}");
    assert_eq!((&message["rows"], &message["files"]), (&0.into(), &1.into()), "{message}");
    // Three hours later: two more than its own.
    let (ended, runner) =
        pod.run().env("JOB_NAME", format!("hourly-aggregates-{}", due + 120)).env("JOB_UID", "uid-2").run(TIMEOUT)?;
    assert_eq!(ended, Ended::Code(0), "{}", runner.last_lines());
    assert_eq!(files(&hours.output())?.len(), 3);

    // A run by hand: the first attempt fixes the hour, and a second attempt, after that hour is over, keeps it.
    let manual = || pod.run().env("JOB_NAME", "hourly-aggregates-manual-x7").env("JOB_UID", "uid-3");
    assert_eq!(manual().run(TIMEOUT)?.0, Ended::Code(0));
    let first = pod.last_message()?["interval"].clone();
    let runs = hours.stream.folders.checkpoints().join("data/hourly-aggregates/runs");
    assert_eq!(std::fs::read_dir(&runs)?.count(), 1);
    // What an attempt of long ago wrote.
    std::fs::rename(runs.join("uid-3.json"), runs.join("uid-4.json"))?;
    let second = pod.run().env("JOB_NAME", "hourly-aggregates-manual-x7").env("JOB_UID", "uid-4").run(TIMEOUT)?;
    assert_eq!(second.0, Ended::Code(0));
    assert_eq!(pod.last_message()?["interval"], first);
    Ok(())
}

#[test]
fn the_one_job_of_a_backfill_does_all_of_it_once() -> anyhow::Result<()> {
    let hours = Hours::new(needs_broker!(), "batch-pod-backfill", 1)?;
    let pod = Pod::new(&hours, |config| {
        let spec = &mut config["job"]["spec"];
        spec["inputs"][0]["completeBy"] = "clock".into();
        spec.as_object_mut().expect("a spec").remove("schedule");
        spec["backfill"] =
            serde_json::json!({"from": "2026-01-01T00:00:00Z", "to": "2026-01-01T05:00:00Z", "parallelism": 3});
    })?;
    // The hash of its name looks like a time, and is none.
    let attempt = || pod.run().env("JOB_NAME", "hourly-aggregates-29000000").env("JOB_UID", "uid-1").run(TIMEOUT);
    let (ended, runner) = attempt()?;
    assert_eq!(ended, Ended::Code(0), "{}", runner.last_lines());
    let message = pod.last_message()?;
    assert_eq!(
        (&message["interval"]["end"], &message["files"]),
        (&"2026-01-01T05:00:00Z".into(), &5.into()),
        "{message}"
    );
    // Killed after its last hour and before its end, it is tried again, and finds nothing to do.
    assert_eq!(attempt()?.0, Ended::Code(0));
    assert_eq!(pod.last_message()?["files"], 0);
    assert_eq!(files(&hours.output())?.len(), 5);
    // Another Job for the same times is asked for by an annotation: it does all of them, and the one after it the rest of what it did not.
    let another = |program: &str, uid: &str| {
        let pod = pod.run_of(program).env("JOB_NAME", format!("hourly-aggregates-{uid}")).env("JOB_UID", uid);
        // By the lock it sees at once that the one before is dead.
        pod.env("DATA_PLATFORM_NO_LOCK", "false")
    };
    let log = hours.stream.folders.root().join("faults.log");
    let (ended, runner) = another("data-platform-faults", "uid-2")
        .env("FAULT_KILL", format!("{}:before:3", Step::Publish.name()))
        .env("FAULT_LOG", &log)
        .run(TIMEOUT)?;
    assert_eq!(ended, Ended::Signal(9), "{}", runner.last_lines());
    for (uid, done) in [("uid-3", 2), ("uid-3", 0), ("uid-4", 5)] {
        let (ended, runner) = another("data-platform", uid).run(TIMEOUT)?;
        assert_eq!(ended, Ended::Code(0), "{}", runner.last_lines());
        assert_eq!(pod.last_message()?["files"], done, "{uid}");
    }
    assert_eq!(files(&hours.output())?.len(), 5);
    Ok(())
}

#[test]
fn two_jobs_of_one_backfill_do_it_once_together() -> anyhow::Result<()> {
    const HOURS: usize = 5;
    let hours = Hours::new(needs_broker!(), "batch-pod-two", 1)?;
    let pod = |parallelism: u64| {
        Pod::new(&hours, |config| {
            let spec = &mut config["job"]["spec"];
            spec["inputs"][0]["completeBy"] = "clock".into();
            spec["wait"] = "60s".into();
            spec.as_object_mut().expect("a spec").remove("schedule");
            spec["backfill"] = serde_json::json!({
                "from": "2026-01-01T00:00:00Z", "to": "2026-01-01T05:00:00Z", "parallelism": parallelism,
            });
        })
    };
    let job = |command: RunnerCommand, uid: &str| {
        command.env("JOB_NAME", format!("hourly-aggregates-{uid}")).env("JOB_UID", uid)
    };
    // The first one sleeps in its first hour, and goes on when another one is asked for, which computes more at once.
    let first = pod(1)?;
    let log = hours.stream.folders.root().join("faults.log");
    let sleeps = job(first.run_of("data-platform-faults"), "uid-1").env("FAULT_LOG", &log);
    let mut sleeps = sleeps.env("FAULT_STOP", "publish:before:1").start()?;
    wait_until_it_sleeps(&sleeps)?;
    let second = pod(2)?;
    let mut other = job(second.run(), "uid-2").start()?;
    let waiting = hours.checkpoint("data").join("waiting.json");
    wait_for("the other one to wait", TIMEOUT, || waiting.exists().then_some(()))?;
    sleeps.signal(Signal::CONT)?;
    for run in [&mut sleeps, &mut other] {
        assert_eq!(run.wait(TIMEOUT)?, Ended::Code(0), "{}", run.last_lines());
    }
    let by: Vec<_> = replaced(&hours.checkpoint("data"))?.iter().map(|done| done["backfill"]["run"].clone()).collect();
    assert_eq!(by.len(), HOURS, "each hour once: {by:?}");
    assert!(by.contains(&"uid-1".into()) && by.contains(&"uid-2".into()), "{by:?}");
    // What they did in turns is finished for both, also for later attempts; a third one does all of it again.
    for (uid, done) in [("uid-1", 0), ("uid-2", 0), ("uid-3", HOURS)] {
        let (ended, runner) = job(second.run(), uid).run(TIMEOUT)?;
        assert_eq!(ended, Ended::Code(0), "{}", runner.last_lines());
        assert_eq!(second.last_message()?["files"], done, "{uid}");
    }
    assert_eq!(files(&hours.output())?.len(), HOURS);
    Ok(())
}

#[test]
fn every_end_of_a_pod_leaves_a_last_message() -> anyhow::Result<()> {
    let hours = Hours::new(needs_broker!(), "batch-last", 1)?;
    for (change, code, reason) in [
        (serde_json::json!({"/configVersion": 9}), 2, "InvalidSpec"),
        (serde_json::json!({"/job/spec/interval": "year"}), 2, "InvalidSpec"),
        (serde_json::json!({"/job/spec/query": "DELETE FROM events"}), 2, "InvalidSpec"),
        (
            serde_json::json!({"/job/spec/sink": {
                "path": "t", "partitionBy": ["date"], "maintenance": {"retain": "48h"},
            }}),
            2,
            "NotSupported",
        ),
        (serde_json::json!({"/job/spec/query": "SELECT nothing FROM events"}), 2, "QueryFailed"),
        (serde_json::json!({"/checkpointsRoot": "/etc/passwd/checkpoints"}), 2, "StorageDenied"),
        (serde_json::json!({}), 1, "InputIncomplete"),
    ] {
        let pod = Pod::new(&hours, |config| {
            if change.pointer("/~1job~1spec~1query").is_some() {
                config["job"]["spec"]["inputs"][0]["completeBy"] = "clock".into();
            }
            for (pointer, value) in change.as_object().into_iter().flatten() {
                *config.pointer_mut(pointer).expect("the field is there") = value.clone();
            }
        })?;
        std::fs::remove_file(pod.last()).ok();
        let (ended, runner) = pod.run().run(TIMEOUT)?;
        assert_eq!(ended, Ended::Code(code), "{change}: {}", runner.last_lines());
        let message = pod.last_message()?;
        assert_eq!(message["reason"], reason, "{change}: {message}");
        assert!(message["message"].as_str().is_some_and(|text| text.len() > 20), "{change}: {message}");
    }
    let missing = Runner::command(["run", "--config", "/nowhere/job.json"]);
    let (ended, runner) =
        missing.env("TERMINATION_MESSAGE_PATH", hours.stream.folders.root().join("gone")).run(TIMEOUT)?;
    assert_eq!(ended, Ended::Code(2), "{}", runner.last_lines());
    assert!(
        std::fs::read_to_string(hours.stream.folders.root().join("gone"))?.contains("cannot read the configuration")
    );
    Ok(())
}

#[test]
fn an_older_generation_does_not_take_the_turn_from_a_newer_one() -> anyhow::Result<()> {
    let hours = Hours::new(needs_broker!(), "batch-rank", 1)?;
    let of = |generation: u64| {
        Pod::new(&hours, |config| {
            config["job"]["spec"]["inputs"][0]["completeBy"] = "clock".into();
            config["job"]["metadata"]["generation"] = generation.into();
        })
    };
    assert_eq!(of(2)?.run().run(TIMEOUT)?.0, Ended::Code(0));
    let older = of(1)?;
    assert_eq!(older.run().run(TIMEOUT)?.0, Ended::Code(3));
    assert_eq!(older.last_message()?["reason"], "Fenced");
    assert_eq!(of(2)?.run().run(TIMEOUT)?.0, Ended::Code(0));
    Ok(())
}

#[test]
fn a_pod_whose_job_is_not_valid_stays_up_and_says_why() -> anyhow::Result<()> {
    let folder = data_platform_tests::JobFolders::new()?;
    let config = |query: &str| {
        let job = serde_json::json!({
            "apiVersion": "dataplatform.io/v1alpha1", "kind": "StreamingJob", "metadata": {"name": "broken"},
            "spec": {"query": query, "sink": {"path": "t"}, "sources": [
                {"name": "s", "topics": ["t"], "columns": [{"name": "a", "type": "string"}]}]},
        });
        serde_json::json!({
            "configVersion": 1, "namespace": "data", "job": job, "outputsRoot": "/tmp/o", "checkpointsRoot": "/tmp/c",
            "secretsRoot": "/tmp/s",
        })
    };
    // Valid, and this version cannot do it.
    let mut later = config("SELECT a FROM s");
    later["job"]["kind"] = "BatchJob".into();
    later["job"]["spec"] = serde_json::json!({
        "interval": "hour", "inputs": [{"name": "s", "path": "s", "timeColumn": "at"}], "query": "SELECT a FROM s",
        "sink": {"path": "t", "partitionBy": ["date"], "maintenance": {"retain": "48h"}},
    });
    let path = folder.root().join("job.json");
    let last = folder.root().join("last");
    for (text, reason, part) in [
        (config("SELECT nothing FROM s").to_string(), "InvalidSpec", "nothing"),
        (later.to_string(), "NotSupported", "maintenance"),
        ("{\"configVersion\": 7}".to_owned(), "InvalidSpec", "has version 7"),
    ] {
        std::fs::write(&path, &text)?;
        let job = Runner::command(["run", "--config"]).arg(&path).env("DATA_PLATFORM_STAY_UP", "true");
        let job = job.env("HTTP_ADDRESS", "127.0.0.1:0").env("TERMINATION_MESSAGE_PATH", &last);
        let mut runner = job.start()?;
        let pages = Pages::of(&mut runner)?;
        let status = runner.wait_for("the status", TIMEOUT, |_| pages.get("/status").ok()?.json().ok())?;
        assert_eq!((status["ready"].as_bool(), status["reason"].as_str()), (Some(false), Some(reason)), "{status}");
        assert!(status["message"].as_str().is_some_and(|message| message.contains(part)), "{status}");
        assert_eq!(pages.get("/readyz")?.code, 503);
        assert_eq!(pages.get("/livez")?.code, 200);
        runner.signal(rustix::process::Signal::TERM)?;
        assert_eq!(runner.wait(TIMEOUT)?, Ended::Code(0), "{}", runner.last_lines());
        assert!(last.exists());
    }
    Ok(())
}
