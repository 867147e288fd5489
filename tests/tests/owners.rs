//! Two runners on one checkpoint: one wins, nothing is lost or doubled, and a sleeper that wakes up changes nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use data_platform_runner::generate::EventSettings;
use data_platform_tests::process::RunnerCommand;
use data_platform_tests::{Ended, Runner, Watcher, environment, needs_broker, needs_s3};
use rustix::process::Signal;

use crate::events::{Stream, TIMEOUT, committed_versions};

const FENCED: Ended = Ended::Code(3);

/// A runner whose only protection is the job log.
fn without_lock(command: RunnerCommand) -> RunnerCommand {
    let command = command.env("DATA_PLATFORM_NO_LOCK", "true").env("DATA_PLATFORM_RECORDS_PER_BASE", "6");
    let command = command.arg("--starting-offsets").arg("earliest").arg("--set").arg("spec.trigger.interval=20ms");
    command.arg("--set").arg("spec.kafka.maxOffsetsPerTrigger=300")
}

#[test]
fn a_second_runner_on_a_local_folder_learns_who_is_there() -> anyhow::Result<()> {
    let mut stream = Stream::new(needs_broker!(), "lock", 1, EventSettings::default(), 20.0)?;
    stream.produce(500)?;
    let mut first = stream.job().arg("--starting-offsets").arg("earliest").start()?;
    first.wait_for("a commit", TIMEOUT, |_| (committed_versions(&stream) > 2).then_some(()))?;
    let (ended, second) = stream.job().run(TIMEOUT)?;
    assert_eq!(ended, FENCED);
    let says = second.stderr();
    assert!(says.contains(&format!("process {}", first.id())), "{says}");
    assert!(says.contains("what to do: stop that process first"), "{says}");
    first.signal(Signal::TERM)?;
    assert_eq!(first.wait(TIMEOUT)?, Ended::Code(0));
    Ok(())
}

#[test]
fn the_later_of_two_runners_wins_and_the_other_ends_as_fenced() -> anyhow::Result<()> {
    let stream = Stream::new(needs_broker!(), "fight", 3, EventSettings::default(), 30.0)?;
    fight(stream, 0..20)
}

#[test]
fn the_later_of_two_runners_wins_on_s3_too() -> anyhow::Result<()> {
    let mut stream = Stream::new(needs_broker!(), "fight-s3", 3, EventSettings::default(), 30.0)?;
    stream.folders = needs_s3!().folders()?;
    // Never idle: there an owner looks once a minute.
    fight(stream, 1..environment::rounds(8, 21))
}

fn fight(mut stream: Stream, rounds: std::ops::Range<u32>) -> anyhow::Result<()> {
    stream.produce(2_000)?;
    let watcher = Watcher::start(&stream.output())?;
    let mut present = without_lock(stream.job()).start()?;
    for round in rounds {
        let before = committed_versions_ever(&stream);
        stream.produce(500)?;
        present.wait_for("a commit", TIMEOUT, |_| (committed_versions_ever(&stream) > before).then_some(()))?;
        let later = without_lock(stream.job()).start()?;
        // Once with nothing to commit: an idle owner looks by itself. Else it meets the other in the log.
        let began = Instant::now();
        while round > 0 && present.has_ended()?.is_none() {
            assert!(began.elapsed() < TIMEOUT, "round {round}: the later one never took over");
            stream.produce(100)?;
        }
        let ended = present.wait(Duration::from_secs(30));
        assert_eq!(ended?, FENCED, "round {round}: {}", present.last_lines());
        assert!(present.stderr().contains("another runner owns this job"), "{}", present.last_lines());
        present = later;
    }
    present.signal(Signal::TERM)?;
    assert_eq!(present.wait(TIMEOUT)?, Ended::Code(0), "{}", present.last_lines());
    let summary = stream.drain()?;
    watcher.finish()?.expect_success()?;
    stream.check_exact(&summary)
}

/// The newest version of the log, whatever was collected.
fn committed_versions_ever(stream: &Stream) -> u64 {
    let listing = std::fs::read_dir(stream.checkpoint().join("log"));
    let version = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.ok()?.file_name().to_str()?.strip_suffix(".json")?.parse().ok()
    };
    listing.map(|entries| entries.filter_map(version).max().unwrap_or(0)).unwrap_or(0)
}

/// Every file below a folder that a reader may look at, with its content.
fn visible_files(folder: &Path) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            files.extend(
                visible_files(&entry.path())?.into_iter().map(|(path, bytes)| (format!("{name}/{path}"), bytes)),
            );
        } else if name.ends_with(".parquet") {
            files.insert(name, std::fs::read(entry.path())?);
        }
    }
    Ok(files)
}

/// Stops a runner right before its decision, lets another one take over, write bases and collect the very slot that the
/// sleeper will write, and wakes the sleeper up.
pub(crate) fn wake_a_zombie(stream: &mut Stream, without: &str) -> anyhow::Result<(Ended, bool)> {
    stream.produce(3_000)?;
    let log = stream.folders.root().join("faults.log");
    let sleeper = stream.job_with_faults().env("FAULT_STOP", "decide:before:3").env("FAULT_LOG", &log);
    let mut sleeper = without_lock(sleeper.env("FAULT_WITHOUT", without)).start()?;
    sleeper.wait_for("the sleeper to sleep", TIMEOUT, |_| log.exists().then_some(()))?;
    let slot = committed_versions_ever(stream) + 1;
    let mut other = without_lock(stream.job()).start()?;
    let collected = |_: &Runner| {
        let base = std::fs::read_dir(stream.checkpoint().join("base")).map(|entries| entries.count()).unwrap_or(0);
        let oldest = std::fs::read_dir(stream.checkpoint().join("log")).ok()?;
        let oldest = oldest
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".json")?.parse::<u64>().ok())
            .min()?;
        (base >= 2 && oldest > slot).then_some(())
    };
    other.wait_for("two bases and the sleeper's slot collected", TIMEOUT, collected)?;
    other.signal(Signal::TERM)?;
    assert_eq!(other.wait(TIMEOUT)?, Ended::Code(0), "{}", other.last_lines());
    let before = visible_files(&stream.output())?;
    sleeper.signal(Signal::CONT)?;
    // Without its guards a sleeper that woke up goes on for ever.
    let ended = match sleeper.wait(Duration::from_secs(10)) {
        Ok(ended) => ended,
        Err(_) => {
            sleeper.kill()?;
            Ended::Signal(9)
        }
    };
    Ok((ended, visible_files(&stream.output())? == before))
}

#[test]
fn a_zombie_that_wakes_up_changes_nothing_that_a_reader_sees() -> anyhow::Result<()> {
    harmless_zombie(Stream::new(needs_broker!(), "zombie", 3, EventSettings::default(), 60.0)?)
}

#[test]
fn a_zombie_that_wakes_up_changes_nothing_on_s3_either() -> anyhow::Result<()> {
    let mut stream = Stream::new(needs_broker!(), "zombie-s3", 3, EventSettings::default(), 60.0)?;
    stream.folders = needs_s3!().folders()?;
    harmless_zombie(stream)
}

fn harmless_zombie(mut stream: Stream) -> anyhow::Result<()> {
    stream.produce(6_000)?;
    let (ended, unchanged) = wake_a_zombie(&mut stream, "")?;
    assert_eq!(ended, FENCED);
    assert!(unchanged, "the zombie wrote something that readers see");
    let summary = stream.drain()?;
    stream.check_exact(&summary)
}
