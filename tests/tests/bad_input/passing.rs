//! What may pass: the job tries again with growing pauses, `/health` says why, and it goes on by itself when it passed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use data_platform_runner::generate::EventSettings;
use data_platform_tests::{Broker, Ended, Pages, Runner, needs_broker, skip};
use rustix::process::Signal;
use serde_json::Value;

use super::case::{CHANGE, TIMEOUT, expect};
use super::kept::Kept;
use crate::events::{Stream, finish};

/// A file system in memory, unmounted at the end.
pub(crate) struct Mount(PathBuf);

impl Mount {
    /// Mounts one over a folder; `None` where that is not allowed.
    pub(crate) fn tmpfs(folder: &Path, options: &str) -> Option<Self> {
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(folder).output();
        mounted.is_ok_and(|mounted| mounted.status.success()).then(|| Self(folder.to_owned()))
    }

    fn is_changed(&self, options: &str) -> bool {
        let changed = Command::new("mount").args(["-o", options]).arg(&self.0).output();
        changed.is_ok_and(|changed| changed.status.success())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: what still has a file open must not keep it.
        if let Err(error) = Command::new("umount").arg("-l").arg(&self.0).output() {
            eprintln!("cannot unmount {}: {error}", self.0.display());
        }
    }
}

/// Waits until `/health` gives this reason, and gives the page.
fn wait_for_reason(runner: &mut Runner, pages: &Pages, reason: &str) -> anyhow::Result<Value> {
    runner.wait_for(&format!("/health to say {reason}"), TIMEOUT, |_| {
        let health = pages.get("/health").ok()?;
        let page = health.json().ok().filter(|page| page["reason"] == reason)?;
        assert_eq!(health.code, if reason == "Running" { 200 } else { 503 }, "{page}");
        Some(page)
    })
}

fn errors(pages: &Pages) -> anyhow::Result<Vec<Value>> {
    let status = pages.get("/status")?.json()?;
    Ok(status["errors"].as_array().cloned().unwrap_or_default())
}

/// Pauses before the attempts, as the log tells them.
fn pauses(runner: &Runner) -> Vec<u64> {
    let lines = runner.stderr();
    let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter_map(|line| line["retry_in_ms"].as_u64()).collect()
}

fn earliest(stream: &Stream) -> data_platform_tests::process::RunnerCommand {
    let job = stream.job().arg("--starting-offsets").arg("earliest");
    job.arg("--set").arg("spec.trigger.interval=100ms").arg("--set").arg("spec.kafka.maxOffsetsPerTrigger=1000")
}

#[test]
fn a_full_disk_is_told_and_the_job_goes_on_when_there_is_room() -> anyhow::Result<()> {
    let settings = EventSettings { messy: 0.01, ..EventSettings::default() };
    let mut stream = Stream::new(needs_broker!(), "full", 2, settings, 20.0)?;
    stream.produce(6_000)?;
    for (folder, what) in [(stream.folders.outputs(), "outputs"), (stream.folders.checkpoints(), "checkpoints")] {
        let Some(_disk) = Mount::tmpfs(&folder, "size=4m") else { skip!("file systems cannot be mounted here") };
        let filler = folder.join("filler");
        let mut job = earliest(&stream).start()?;
        let pages = Pages::of(&mut job)?;
        wait_for_reason(&mut job, &pages, "Running")?;
        // Whatever is free is taken; the system stops at the last byte.
        let filled = fs::write(&filler, vec![0; 8 << 20]);
        assert!(filled.is_err(), "the disk is larger than 4 MiB");
        stream.produce(3_000)?;
        let page = wait_for_reason(&mut job, &pages, "StorageFull")?;
        let message = page["message"].as_str().unwrap_or_default();
        assert!(message.contains("the disk is full") && message.contains(what), "{page}");
        job.wait_for("a second attempt", TIMEOUT, |job| (pauses(job).len() >= 2).then_some(()))?;
        let pauses = pauses(&job);
        assert!(pauses[1] >= 2 * pauses[0], "the pauses do not grow: {pauses:?}");
        let told = errors(&pages)?;
        let cure = told.last().map(|error| error["cure"].clone()).unwrap_or_default();
        assert!(cure.as_str().unwrap_or_default().contains("make room"), "{told:?}");
        let kept = Kept::of(&stream.output())?;
        fs::remove_file(&filler)?;
        wait_for_reason(&mut job, &pages, "Running")?;
        job.signal(Signal::TERM)?;
        assert_eq!(job.wait(TIMEOUT)?, Ended::Code(0), "{}", job.last_lines());
        assert!(!job.stderr().contains("panicked"), "{}", job.last_lines());
        kept.only("parquet").check()?;
        let summary = stream.drain()?;
        stream.check_exact(&summary)?;
        // The next disk begins empty, and so does its job.
        for folder in [stream.folders.outputs(), stream.folders.checkpoints()] {
            for entry in fs::read_dir(folder)? {
                fs::remove_dir_all(entry?.path())?;
            }
        }
    }
    Ok(())
}

#[test]
fn a_read_only_output_is_told_and_nothing_is_harmed() -> anyhow::Result<()> {
    let mut stream = Stream::new(needs_broker!(), "read-only", 1, EventSettings::default(), 100.0)?;
    let Some(disk) = Mount::tmpfs(&stream.folders.outputs(), "size=8m") else {
        skip!("file systems cannot be mounted here")
    };
    stream.produce(2_000)?;
    finish(stream.job().arg("--test-mode"))?;
    stream.produce(1_000)?;
    if !disk.is_changed("remount,ro") {
        skip!("file systems cannot be remounted here");
    }
    let kept = Kept::of(stream.folders.root())?;
    let cure = "let the user that runs the job write there, or choose another OUTPUTS_DIR";
    expect(stream.job().arg("--drain"), CHANGE, &["not allowed (Read-only file system", "outputs", cure])?;
    kept.check()?;
    assert!(disk.is_changed("remount,rw"));
    let summary = stream.drain()?;
    stream.check_exact(&summary)
}

#[test]
fn a_broker_that_is_away_is_told_and_the_job_goes_on_when_it_is_back() -> anyhow::Result<()> {
    let _shared = needs_broker!();
    let mut stream = Stream::new(Broker::private(&[])?, "away", 2, EventSettings::default(), 100.0)?;
    stream.produce(2_000)?;
    stream.broker.kill()?;
    let mut job = earliest(&stream).start()?;
    let pages = Pages::of(&mut job)?;
    // Alive, but of no use yet.
    assert_eq!(pages.get("/livez")?.code, 200);
    assert_eq!(pages.get("/readyz")?.code, 503);
    let page = wait_for_reason(&mut job, &pages, "KafkaUnreachable")?;
    assert_eq!(page["phase"], "retrying", "{page}");
    assert!(page["message"].as_str().is_some_and(|text| text.contains(stream.broker.address())), "{page}");
    assert!(pages.get("/readyz")?.body.starts_with("KafkaUnreachable: no Kafka broker answers"), "{page}");
    assert!(!pauses(&job).is_empty(), "{}", job.last_lines());
    assert_eq!(errors(&pages)?.last().map(|error| error["reason"].clone()), Some("KafkaUnreachable".into()));
    stream.broker.restart()?;
    wait_for_reason(&mut job, &pages, "Running")?;
    job.wait_for("everything to be read", TIMEOUT, |_| {
        let status = pages.get("/status").ok()?.json().ok()?;
        (status["totals"]["sources"]["app_events"]["read"] == 2_000).then_some(())
    })?;
    job.signal(Signal::TERM)?;
    assert_eq!(job.wait(Duration::from_secs(30))?, Ended::Code(0), "{}", job.last_lines());
    let summary = stream.drain()?;
    stream.check_exact(&summary)
}

#[test]
fn a_topic_that_comes_later_is_waited_for() -> anyhow::Result<()> {
    let broker = needs_broker!();
    let mut stream = Stream::new(needs_broker!(), "later", 1, EventSettings::default(), 100.0)?;
    stream.produce(500)?;
    stream.topic = data_platform_tests::unique_topic("comes-later");
    let mut job = earliest(&stream).start()?;
    let pages = Pages::of(&mut job)?;
    let page = wait_for_reason(&mut job, &pages, "TopicNotFound")?;
    assert!(page["message"].as_str().is_some_and(|text| text.contains(&stream.topic)), "{page}");
    broker.create_topic(&stream.topic, 1, &[])?;
    stream.produce(700)?;
    wait_for_reason(&mut job, &pages, "Running")?;
    job.signal(Signal::TERM)?;
    assert_eq!(job.wait(TIMEOUT)?, Ended::Code(0), "{}", job.last_lines());
    let summary = stream.drain()?;
    stream.check_exact(&summary)
}
