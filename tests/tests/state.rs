//! The state is a cache: whatever is deleted or damaged in it, the output is the same.

use std::fs;
use std::path::{Path, PathBuf};

use data_platform_runner::generate::EventSettings;
use data_platform_runner::random::Random;
use data_platform_tests::{Ended, Runner, environment, needs_broker};

use crate::events::{Stream, TIMEOUT};

fn files(folder: &Path) -> Vec<PathBuf> {
    let listing = fs::read_dir(folder);
    let mut files: Vec<_> =
        listing.map(|entries| entries.filter_map(|e| Some(e.ok()?.path())).collect()).unwrap_or_default();
    files.sort();
    files
}

fn flip_a_bit(path: &Path, random: &mut Random) -> anyhow::Result<()> {
    let mut bytes = fs::read(path)?;
    let at = random.below(bytes.len() as u64) as usize;
    bytes[at] ^= 1 << random.below(8);
    Ok(fs::write(path, bytes)?)
}

/// Runs until it is killed in the middle of things.
fn run_and_die(stream: &Stream, records: &str) -> anyhow::Result<()> {
    let log = stream.folders.root().join("faults.log");
    let job = stream.job_with_faults().env("FAULT_KILL", "decide:after:7").env("FAULT_LOG", &log);
    let job = job.env("DATA_PLATFORM_RECORDS_PER_BASE", "12").arg("--drain").arg("--starting-offsets").arg("earliest");
    let (ended, runner) = job.arg("--set").arg(format!("spec.kafka.maxOffsetsPerTrigger={records}")).run(TIMEOUT)?;
    anyhow::ensure!(ended == Ended::Signal(9), "{ended:?}: {}", runner.last_lines());
    Ok(())
}

#[test]
fn state_that_is_gone_or_damaged_is_rebuilt_from_kafka() -> anyhow::Result<()> {
    let mut random = Random::new(environment::seed());
    // Late rows too: which rows are late depends on the cuts, so a rebuild must repeat those of the log.
    // Few users give few groups, whose snapshots are cheap: nearly every batch writes one.
    let settings = EventSettings { users: 4, late: 0.05, late_ms: 90_000, messy: 0.01, ..EventSettings::default() };
    let (mut damaged_states, mut damaged_bases, mut added) = (0, 0, 0);
    let mut stream = Stream::new(needs_broker!(), "state", 3, settings, 20.0)?;
    stream.produce(40_000)?;
    for (round, records) in ["900", "350", "2000", "500", "700", "400"].into_iter().enumerate() {
        run_and_die(&stream, records)?;
        let state = files(&stream.checkpoint().join("state"));
        match round {
            0 | 3 => state.iter().try_for_each(fs::remove_file)?,
            1 | 4 => state.iter().try_for_each(|file| flip_a_bit(file, &mut random))?,
            _ => state.iter().try_for_each(|file| fs::write(file, b"not a state"))?,
        }
        damaged_states += state.len();
        if let Some(base) = files(&stream.checkpoint().join("base")).last() {
            flip_a_bit(base, &mut random)?;
            damaged_bases += 1;
        }
        let staged = data_platform_tests::folders::beside(&stream.output()).join("staging");
        if round % 2 == 0 && staged.exists() {
            // Staged files of an attempt that was not decided.
            fs::write(staged.join("garbage.tmp"), b"?")?;
            added += 1;
        }
    }
    assert!(
        damaged_states >= 6 && damaged_bases >= 3 && added >= 1,
        "{damaged_states} states and {damaged_bases} bases were damaged, {added} files were added"
    );
    let summary = stream.drain()?;
    assert!(summary["late"].as_u64() > Some(100), "the late rows are not late: {summary}");
    stream.check_conserved(&summary)
}

#[test]
fn a_damaged_record_of_the_log_is_a_clear_stop_and_a_rewind_goes_on() -> anyhow::Result<()> {
    let settings = EventSettings { messy: 0.01, ..EventSettings::default() };
    let mut stream = Stream::new(needs_broker!(), "damaged", 1, settings, 20.0)?;
    stream.produce(20_000)?;
    // Far enough for closed windows, so that the rewind takes files from the readers.
    run_and_die(&stream, "2000")?;
    let records = files(&stream.checkpoint().join("log"));
    let damaged = &records[records.len() - 3];
    flip_a_bit(damaged, &mut Random::new(1))?;
    let (ended, runner) = stream.job().run(TIMEOUT)?;
    assert_eq!(ended, Ended::Code(2));
    let says = runner.stderr();
    assert!(says.contains("checkpoint rewind"), "{says}");
    assert!(says.contains(&damaged.display().to_string()), "{says}");

    let checkpoint = |command: &str, arguments: &[&str]| {
        let command = Runner::command(["checkpoint", command, "event-aggregation"]).folders(&stream.folders);
        let command = arguments.iter().fold(command.broker(&stream.broker), |command, argument| command.arg(argument));
        command.run(TIMEOUT)
    };
    assert_eq!(checkpoint("verify", &[])?.0, Ended::Code(1));
    // Without --yes it only tells.
    let (ended, runner) = checkpoint("rewind", &[])?;
    assert!(runner.stdout().contains("--yes"), "{ended:?} {}", runner.last_lines());
    assert_eq!(files(&stream.checkpoint().join("log")), records);
    let (ended, runner) = checkpoint("rewind", &["--yes"])?;
    assert_eq!(ended, Ended::Code(0), "{}", runner.last_lines());
    let summary = stream.drain()?;
    stream.check_exact(&summary)?;
    stream.check_proved()
}

#[test]
fn a_checkpoint_that_is_gone_while_its_output_is_there_is_a_clear_stop() -> anyhow::Result<()> {
    let mut stream = Stream::new(needs_broker!(), "gone", 1, EventSettings::default(), 20.0)?;
    stream.produce(2_000)?;
    stream.drain()?;
    fs::remove_dir_all(stream.checkpoint())?;
    let (ended, runner) = stream.job().arg("--drain").run(TIMEOUT)?;
    assert_eq!(ended, Ended::Code(2));
    let says = runner.stderr();
    assert!(says.contains("was written by the job log") && says.contains("--new-log"), "{says}");
    let (ended, runner) = stream.job().arg("--drain").arg("--new-log").run(TIMEOUT)?;
    assert_eq!(ended, Ended::Code(0), "{}", runner.last_lines());
    // Once accepted, the new log goes on without being told again.
    let (ended, runner) = stream.job().arg("--drain").run(TIMEOUT)?;
    assert_eq!(ended, Ended::Code(0), "{}", runner.last_lines());
    Ok(())
}
