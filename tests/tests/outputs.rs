//! Whose an output is, where its bookkeeping lies, and what a path means, on a real broker.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use data_platform_tests::process::RunnerCommand;
use data_platform_tests::{Broker, Ended, JobFolders, Runner, needs_broker};
use serde_json::{Value, json};

use crate::events::TIMEOUT;
use crate::sources::numbers::{NAME, Numbers, last_error};

/// Every file below a folder, by its path there.
fn files(folder: &Path) -> anyhow::Result<Vec<String>> {
    fn below(root: &Path, folder: &Path, found: &mut Vec<String>) -> anyhow::Result<()> {
        for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                below(root, &path, found)?;
            } else {
                found.push(path.strip_prefix(root)?.to_string_lossy().into_owned());
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    if folder.exists() {
        below(folder, folder, &mut found)?;
    }
    found.sort();
    Ok(found)
}

fn parquet(folder: &Path) -> anyhow::Result<Vec<String>> {
    Ok(files(folder)?.into_iter().filter(|file| file.ends_with(".parquet")).collect())
}

/// Another job over its own topic and in its own checkpoint.
fn other(records: std::ops::Range<u64>) -> anyhow::Result<Numbers> {
    let job = Numbers::new(Broker::shared().context("the broker that was there before")?, "other", 1)?;
    job.produce(0, records)?;
    Ok(job)
}

fn in_outputs_of(first: &Numbers, job: &Numbers, name: &str) -> anyhow::Result<RunnerCommand> {
    let outputs = first.folders.outputs();
    Ok(job.job()?.arg("--set").arg(format!("metadata.name={name}")).env("OUTPUTS_DIR", outputs))
}

#[test]
fn of_two_jobs_that_are_started_at_once_on_one_output_one_has_it_and_the_other_says_whose_it_is() -> anyhow::Result<()>
{
    needs_broker!();
    for round in 0..4_u64 {
        let first = other(0..500)?;
        let second = other(1_000..1_500)?;
        let small = |job: RunnerCommand| job.arg("--set").arg("spec.kafka.maxOffsetsPerTrigger=50").arg("--drain");
        let mut runners = [small(first.job()?).start()?, small(in_outputs_of(&first, &second, "other")?).start()?];
        let ended = [runners[0].wait(TIMEOUT)?, runners[1].wait(TIMEOUT)?];
        let (winner, loser) = match ended {
            [Ended::Code(0), Ended::Code(2)] => (0..500, &runners[1]),
            [Ended::Code(2), Ended::Code(0)] => (1_000..1_500, &runners[0]),
            _ => anyhow::bail!("round {round}: they ended with {ended:?}: {}", runners[1].last_lines()),
        };
        let says = last_error(loser);
        ensure!(says.contains("belongs to the job local/") && says.contains("another sink.path"), "{says}");
        ensure!(first.numbers()? == winner.collect::<Vec<_>>(), "round {round}: {:?}", first.numbers()?);
    }
    Ok(())
}

#[test]
fn a_new_log_takes_a_table_over_and_who_wrote_it_before_is_fenced() -> anyhow::Result<()> {
    let first = Numbers::new(needs_broker!(), "taken", 1)?;
    first.produce(0, 0..100)?;
    let mut old = first.job()?.start()?;
    first.wait_for_committed(&mut old, 100)?;
    let second = other(1_000..1_100)?;
    let run = |flag: &[&str]| -> anyhow::Result<(Ended, Runner)> {
        let job = in_outputs_of(&first, &second, "other")?.arg("--drain").arg("--patience").arg("0");
        flag.iter().fold(job, |job, flag| job.arg(*flag)).run(TIMEOUT)
    };
    let (ended, runner) = run(&[])?;
    ensure!(ended == Ended::Code(2), "{ended:?}: {}", runner.last_lines());
    ensure!(last_error(&runner).contains("belongs to the job local/numbers"), "{}", last_error(&runner));
    let (ended, runner) = run(&["--new-log"])?;
    ensure!(ended == Ended::Code(0), "{ended:?}: {}", runner.last_lines());
    first.produce(0, 100..200)?;
    ensure!(old.wait(TIMEOUT)? == Ended::Code(3), "{}", old.last_lines());
    let says = first.drain_fails(2)?;
    ensure!(says.contains("belongs to the job local/other"), "{says}");
    ensure!(first.numbers()? == (0..100).chain(1_000..1_100).collect::<Vec<_>>(), "{:?}", first.numbers()?);
    Ok(())
}

#[test]
fn outputs_and_checkpoint_can_be_moved_and_nothing_is_asked_of_the_old_place() -> anyhow::Result<()> {
    let mut job = Numbers::new(needs_broker!(), "moved", 1)?;
    job.set("/badRecords", json!({"action": "deadLetter"}));
    job.produce(0, 0..50)?;
    job.drain()?;
    let old = std::mem::replace(&mut job.folders, JobFolders::new()?);
    for (from, to) in [(old.outputs(), job.folders.outputs()), (old.checkpoints(), job.folders.checkpoints())] {
        fs::remove_dir(&to)?;
        fs::rename(&from, &to)?;
    }
    // Whatever lies in the old place now is not looked at.
    fs::write(old.outputs(), "a file in the way")?;
    ensure!(job.ask(&["audit", NAME])?.contains("PROVED: 50 offsets"), "also before the next start");
    job.produce(0, 50..80)?;
    job.drain()?;
    ensure!(job.numbers()? == (0..80).collect::<Vec<_>>(), "{:?}", job.numbers()?);
    ensure!(job.ask(&["audit", NAME])?.contains("PROVED: 80 offsets"));
    let verified = job.ask(&["checkpoint", "verify", NAME])?;
    ensure!(!verified.contains(" bad"), "{verified}");
    let preview = job.ask(&["checkpoint", "rewind", NAME, "--to", "1", "--yes"])?;
    ensure!(preview.contains("Done"), "{preview}");
    job.drain()?;
    ensure!(job.numbers()? == (0..80).collect::<Vec<_>>(), "{:?}", job.numbers()?);
    ensure!(fs::read_to_string(old.outputs())? == "a file in the way");
    Ok(())
}

#[test]
fn a_decided_batch_is_published_where_the_table_lies_now() -> anyhow::Result<()> {
    let mut job = Numbers::new(needs_broker!(), "pending", 1)?;
    job.produce(0, 0..50)?;
    let kill = |job: &Numbers| -> anyhow::Result<()> {
        let killed = job.job_with_faults()?.env("FAULT_KILL", "decide:after:1").arg("--drain").run(TIMEOUT)?.0;
        ensure!(killed == Ended::Signal(9), "{killed:?}");
        Ok(())
    };
    // Moved between the decision and the publication.
    kill(&job)?;
    let old = std::mem::replace(&mut job.folders, JobFolders::new()?);
    for (from, to) in [(old.outputs(), job.folders.outputs()), (old.checkpoints(), job.folders.checkpoints())] {
        fs::remove_dir(&to)?;
        fs::rename(&from, &to)?;
    }
    job.drain()?;
    ensure!(job.numbers()? == (0..50).collect::<Vec<_>>(), "{:?}", job.numbers()?);
    // Another path in between: what was decided belongs to the old one.
    job.produce(0, 50..80)?;
    kill(&job)?;
    job.set("/sink/path", json!("elsewhere"));
    job.produce(0, 80..90)?;
    job.drain()?;
    ensure!(job.numbers()? == (0..80).collect::<Vec<_>>(), "{:?}", job.numbers()?);
    let rows = job.query("SELECT count(*) AS n FROM elsewhere")?;
    ensure!(rows[0]["n"] == 10, "{rows:?}");
    job.audit()
}

#[test]
fn one_place_under_two_names_is_refused_before_anything_is_written() -> anyhow::Result<()> {
    let mut job = Numbers::new(needs_broker!(), "spelled", 1)?;
    job.produce(0, 0..10)?;
    let outputs = job.folders.outputs();
    std::os::unix::fs::symlink(outputs.join("t"), outputs.join("link"))?;
    let url = |name: &str| format!("file://{}/{name}", outputs.display());
    for (table, letters) in [("t", url("t")), ("t", url("t/inner")), ("w/x", url("w")), ("t", "link".to_owned())] {
        job.set("/sink/path", json!(table));
        job.set("/badRecords", json!({"path": letters}));
        let says = job.drain_fails(2)?;
        ensure!(says.contains("at one place") && says.contains("what to do"), "{table} {letters}: {says}");
        ensure!(parquet(&outputs)?.is_empty(), "{:?}", files(&outputs)?);
    }
    Ok(())
}

#[test]
fn a_path_is_taken_as_it_is_written() -> anyhow::Result<()> {
    let mut job = Numbers::new(needs_broker!(), "literal", 1)?;
    job.produce(0, 0..10)?;
    for name in ["t#1", "t#2", "u%41", "v?x", "a b", "p+q&r;s", "ü"] {
        job.set("/sink/path", json!(name));
        let (ended, runner) = job
            .job()?
            .arg("--drain")
            .arg("--set")
            .arg("spec.checkpoint.name=c")
            .env("CHECKPOINT_DIR", job.folders.root().join(name))
            .run(TIMEOUT)?;
        ensure!(ended == Ended::Code(0), "{name}: {}", runner.last_lines());
        let found = parquet(&job.folders.outputs().join(name))?;
        ensure!(found.len() == 1, "{name}: {:?}", files(&job.folders.outputs())?);
    }
    ensure!(parquet(&job.folders.outputs())?.len() == 7);
    let strange = job.folders.root().join("ws_feature%2Fx #?");
    job.set("/sink/path", json!("t"));
    let (ended, runner) = job.job()?.arg("--drain").env("OUTPUTS_DIR", &strange).run(TIMEOUT)?;
    ensure!(ended == Ended::Code(0), "{}", runner.last_lines());
    ensure!(parquet(&strange.join("t"))?.len() == 1, "{:?}", files(&strange)?);
    Ok(())
}

#[test]
fn a_name_that_is_too_long_is_a_dead_letter_and_the_others_go_on() -> anyhow::Result<()> {
    let mut job = Numbers::new(needs_broker!(), "long", 1)?;
    let columns = json!([
        {"name": "n", "type": "bigint", "required": true},
        {"name": "who", "type": "string", "required": true},
    ]);
    job.set("/sources/0/columns", columns);
    job.set("/query", json!(format!("SELECT n, who FROM {NAME}")));
    job.set("/sink/partitionBy", json!(["who"]));
    let who = |number: u64, who: &str| {
        data_platform_tests::Record::new(json!({"n": number, "who": who}).to_string()).partition(0)
    };
    let (long, escaped) = ("u".repeat(255), "/".repeat(90));
    job.broker.produce(&job.topic, [who(1, "alice"), who(2, &long), who(3, &escaped), who(4, "bob")])?;
    let (ended, runner) = job.job()?.arg("--drain").run(TIMEOUT)?;
    ensure!(ended == Ended::Code(0), "{}", runner.last_lines());
    ensure!(!runner.stderr().contains("uuuu"), "no value of a record in the log: {}", runner.stderr());
    ensure!(job.numbers()? == [1, 4]);
    let letters = job.query(&format!(
        "SELECT CAST(value AS VARCHAR) AS value, reason, detail, \"offset\" FROM {NAME}_dead_letters ORDER BY value"
    ))?;
    let value = |letter: &Value| serde_json::from_str::<Value>(letter["value"].as_str().unwrap_or_default());
    let found: Vec<_> = letters.iter().map(|letter| Ok(value(letter)?["n"].as_u64())).collect::<anyhow::Result<_>>()?;
    ensure!(found.len() == 2 && found.contains(&Some(2)) && found.contains(&Some(3)), "{letters:?}");
    for letter in &letters {
        ensure!(letter["reason"] == "path_too_long" && letter["offset"] == -1, "{letter}");
        ensure!(letter["detail"].as_str().is_some_and(|detail| detail.contains("\"who\"")), "{letter}");
    }
    job.audit()?;
    job.set("/badRecords", json!({"action": "fail"}));
    job.broker.produce(&job.topic, [who(5, &long)])?;
    let says = job.drain_fails(2)?;
    ensure!(says.contains("cannot be written") && !says.contains("uuuu"), "{says}");
    Ok(())
}

#[test]
fn what_an_older_version_kept_in_the_tables_folder_is_taken_over() -> anyhow::Result<()> {
    let job = Numbers::new(needs_broker!(), "format-1", 1)?;
    job.produce(0, 0..50)?;
    job.drain()?;
    let table = job.folders.outputs().join(NAME);
    let beside = job.folders.outputs().join("_dataplatform").join(NAME);
    fs::rename(beside.join("progress.json"), table.join("_progress.json"))?;
    fs::remove_dir_all(job.folders.outputs().join("_dataplatform"))?;
    for (file, content) in [("_staging/1/9-1-0.tmp", "garbage"), ("_rewound/0f8fad5b-20/x.parquet.rewound", "aside")] {
        let path = table.join(file);
        fs::create_dir_all(path.parent().context("a parent")?)?;
        fs::write(path, content)?;
    }
    job.produce(0, 50..80)?;
    job.drain()?;
    let inside = files(&table)?;
    ensure!(inside.iter().all(|file| file.ends_with(".parquet")), "{inside:?}");
    ensure!(!table.join("_staging").exists() && !table.join("_rewound").exists());
    ensure!(beside.join("rewound/0f8fad5b-20/x.parquet.rewound").exists(), "{:?}", files(&beside)?);
    let progress: Value = serde_json::from_slice(&fs::read(beside.join("progress.json"))?)?;
    ensure!(progress["published"].as_u64() > Some(0), "{progress}");
    ensure!(job.numbers()? == (0..80).collect::<Vec<_>>());
    job.audit()
}

#[test]
fn old_directories_that_were_removed_on_purpose_are_no_damage_if_that_is_said() -> anyhow::Result<()> {
    let mut job = Numbers::new(needs_broker!(), "retention", 1)?;
    job.set(
        "/query",
        json!(format!("SELECT n, CAST('2026-01-0' || CAST(n + 1 AS VARCHAR) AS DATE) AS date FROM {NAME}")),
    );
    job.set("/sink/partitionBy", json!(["date"]));
    for day in 0..4 {
        job.produce(0, day..day + 1)?;
        job.drain()?;
    }
    let table: PathBuf = job.folders.outputs().join(NAME);
    fs::remove_dir_all(table.join("date=2026-01-01"))?;
    fs::remove_dir_all(table.join("date=2026-01-02"))?;
    let audit = |arguments: &[&str]| -> anyhow::Result<(Ended, String)> {
        let (ended, runner) = Runner::command(arguments).broker(&job.broker).folders(&job.folders).run(TIMEOUT)?;
        Ok((ended, runner.stdout()))
    };
    let (ended, says) = audit(&["audit", NAME])?;
    ensure!(ended == Ended::Code(1) && says.contains("it is missing") && says.contains("--retained-since"), "{says}");
    let (ended, says) = audit(&["audit", NAME, "--retained-since", "2026-01-03"])?;
    ensure!(ended == Ended::Code(0) && says.contains("PROVED: 4 offsets") && says.contains("on purpose"), "{says}");
    let (ended, says) = audit(&["audit", NAME, "--retained-since", "2026-01-02"])?;
    ensure!(ended == Ended::Code(1) && says.contains("date=2026-01-02"), "{says}");
    let (ended, says) = audit(&["checkpoint", "verify", NAME])?;
    ensure!(ended == Ended::Code(1) && says.contains("--retained-since DATE"), "{says}");
    let (ended, says) = audit(&["checkpoint", "verify", NAME, "--retained-since", "2026-01-03"])?;
    ensure!(ended == Ended::Code(0) && says.contains("on purpose"), "{says}");
    Ok(())
}

#[test]
fn on_the_screen_are_rows_and_nothing_else() -> anyhow::Result<()> {
    let mut job = Numbers::new(needs_broker!(), "screen", 1)?;
    job.set("/sink", json!({"format": "stdout"}));
    job.set("/query", json!(format!("SELECT n FROM {NAME}")));
    job.produce(0, 0..300)?;
    let (ended, runner) = job.job()?.arg("--drain").run(TIMEOUT)?;
    ensure!(ended == Ended::Code(0), "{}", runner.last_lines());
    let rows = runner.stdout().lines().map(|line| Ok(serde_json::from_str::<Value>(line)?["n"].as_u64())).collect();
    let rows: anyhow::Result<Vec<_>> = rows;
    ensure!(rows? == (0..300).map(Some).collect::<Vec<_>>(), "{}", runner.stdout());
    let says = runner.stderr();
    let summary: Value = serde_json::from_str(says.lines().last().context("a line")?)?;
    ensure!(summary["rows"] == 300, "{summary}");
    Ok(())
}
