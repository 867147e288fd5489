//! Wrong places and wrong changes of a job that has run: folders, checkpoints, topics and records that do not fit.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use data_platform_runner::generate::EventSettings;
use data_platform_tests::folders::beside;
use data_platform_tests::process::RunnerCommand;
use data_platform_tests::{JobFolders, Pages, Runner, needs_broker};

use super::case::{CHANGE, FENCED, RETRY, TIMEOUT, expect, run_all};
use super::kept::Kept;
use crate::events::{Stream, finish};

/// A job over the shared topic, in folders of its own.
struct Scene<'a> {
    stream: &'a Stream,
    folders: JobFolders,
}

impl Scene<'_> {
    /// The job, for as long as there is something to read.
    fn job(&self) -> RunnerCommand {
        self.stream.job().folders(&self.folders).arg("--test-mode").arg("--patience").arg("1")
    }

    /// The job with changed fields.
    fn changed(&self, fields: &[&str]) -> RunnerCommand {
        fields.iter().fold(self.job(), |job, field| job.arg("--set").arg(field))
    }

    /// Another command in the same folders.
    fn command(&self, arguments: &[&str]) -> RunnerCommand {
        Runner::command(arguments).folders(&self.folders)
    }

    fn output(&self) -> PathBuf {
        self.folders.outputs().join("events_aggregated_realtime")
    }

    fn checkpoint(&self) -> PathBuf {
        self.folders.checkpoints().join("local/event-aggregation")
    }

    /// Records of the log, oldest first.
    fn records(&self) -> anyhow::Result<Vec<PathBuf>> {
        let mut records = fs::read_dir(self.checkpoint().join("log"))?
            .map(|entry| Ok(entry?.path()))
            .collect::<std::io::Result<Vec<_>>>()?;
        records.sort();
        Ok(records)
    }
}

/// What the case does before the job runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    /// The first start of the job.
    Nothing,
    /// A good run, which leaves rows and open windows.
    GoodRun,
}

/// Spoils the scene, and says what is to be run then.
type Spoil = fn(&Scene<'_>) -> anyhow::Result<RunnerCommand>;

struct Wrong {
    name: &'static str,
    after: After,
    spoil: Spoil,
    code: i32,
    says: &'static [&'static str],
}

fn wrong(name: &'static str, after: After, spoil: Spoil, code: i32, says: &'static [&'static str]) -> Wrong {
    Wrong { name, after, spoil, code, says }
}

fn a_file_at(path: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(path.parent().context("a file lies in a folder")?)?;
    Ok(fs::write(path, "something else")?)
}

fn wrong_folders() -> Vec<Wrong> {
    vec![
        wrong(
            "a file where the table belongs",
            After::Nothing,
            |scene| {
                a_file_at(&scene.output())?;
                Ok(scene.job())
            },
            CHANGE,
            &["outputs/events_aggregated_realtime: a file is where a folder must be", "move it away"],
        ),
        wrong(
            "a file where the outputs belong",
            After::Nothing,
            |scene| {
                let outputs = scene.folders.root().join("file");
                a_file_at(&outputs)?;
                Ok(scene.job().env("OUTPUTS_DIR", outputs))
            },
            CHANGE,
            &["file/events_aggregated_realtime: a file is where a folder must be", "choose another OUTPUTS_DIR"],
        ),
        wrong(
            "a file where the checkpoints belong",
            After::Nothing,
            |scene| {
                a_file_at(&scene.folders.checkpoints().join("local"))?;
                Ok(scene.job())
            },
            CHANGE,
            &["checkpoints/local/event-aggregation: a file is where a folder must be", "CHECKPOINT_DIR"],
        ),
        wrong(
            "a file where the log belongs",
            After::Nothing,
            |scene| {
                a_file_at(&scene.checkpoint().join("log"))?;
                Ok(scene.job())
            },
            CHANGE,
            &["a file is where a folder must be", "event-aggregation/log", "what to do:"],
        ),
        wrong(
            "a folder where the progress belongs",
            After::GoodRun,
            |scene| {
                let progress = beside(&scene.output()).join("progress.json");
                fs::remove_file(&progress)?;
                fs::create_dir(&progress)?;
                Ok(scene.job())
            },
            CHANGE,
            &["progress.json: a file is where a folder must be, or a folder where a file must be", "move it away"],
        ),
    ]
}

/// A run of a batch job that reads nothing before its output is looked at.
fn hourly(scene: &Scene<'_>) -> RunnerCommand {
    scene.command(&["run", "hourly-aggregates", "--from", "2026-02-16T14:00:00Z", "--to", "2026-02-16T15:00:00Z"])
}

fn wrong_tables() -> Vec<Wrong> {
    const VERSION: &str = "_delta_log/00000000000000000000.json";
    const FILE: &str = "part-00000-c000.snappy.parquet";
    vec![
        wrong(
            "files where a Delta table is",
            After::Nothing,
            |scene| {
                a_file_at(&scene.output().join(VERSION))?;
                Ok(scene.job())
            },
            CHANGE,
            &["outputs/events_aggregated_realtime is a Delta table", "set format: delta, or choose another folder"],
        ),
        wrong(
            "dead letters where a Delta table is",
            After::Nothing,
            |scene| {
                a_file_at(&scene.folders.outputs().join("letters").join(VERSION))?;
                Ok(scene.changed(&["spec.badRecords.path=letters"]))
            },
            CHANGE,
            &["outputs/letters is a Delta table", "badRecords.path"],
        ),
        wrong(
            "a Delta table where files are",
            After::Nothing,
            |scene| {
                a_file_at(&scene.output().join("date=2026-01-01").join(FILE))?;
                Ok(scene.changed(&["spec.sink.format=delta"]))
            },
            CHANGE,
            &["has files that are of no Delta table (date=2026-01-01/part-00000", "CONVERT TO DELTA"],
        ),
        wrong(
            "a Delta table where the job itself wrote files",
            After::GoodRun,
            |scene| Ok(scene.changed(&["spec.sink.format=delta"])),
            CHANGE,
            &["events_aggregated_realtime has files that are of no Delta table", "choose another sink.path"],
        ),
        wrong(
            "files of a batch job where a Delta table is",
            After::Nothing,
            |scene| {
                a_file_at(&scene.folders.outputs().join("hourly_aggregates").join(VERSION))?;
                Ok(hourly(scene))
            },
            CHANGE,
            &["outputs/hourly_aggregates is a Delta table", "set format: delta, or choose another folder"],
        ),
        wrong(
            "a Delta table of a batch job where files are",
            After::Nothing,
            |scene| {
                a_file_at(&scene.folders.outputs().join("hourly_aggregates").join(FILE))?;
                Ok(hourly(scene).arg("--set").arg("spec.sink.format=delta"))
            },
            CHANGE,
            &["hourly_aggregates has files that are of no Delta table (part-00000", "CONVERT TO DELTA"],
        ),
    ]
}

fn wrong_checkpoints() -> Vec<Wrong> {
    vec![
        wrong(
            "the checkpoint of another job",
            After::GoodRun,
            |scene| {
                fs::rename(scene.checkpoint(), scene.folders.checkpoints().join("local/other"))?;
                Ok(scene.changed(&["metadata.name=other"]))
            },
            CHANGE,
            &[
                "local/other belongs to local/event-aggregation, not to local/other",
                "set checkpoint.name to the old one",
            ],
        ),
        wrong(
            "the checkpoint of another namespace",
            After::GoodRun,
            |scene| {
                fs::rename(scene.folders.checkpoints().join("local"), scene.folders.checkpoints().join("other"))?;
                Ok(scene.job().env("NAMESPACE", "other"))
            },
            CHANGE,
            &["belongs to local/event-aggregation, not to other/event-aggregation", "its own CHECKPOINT_DIR"],
        ),
        wrong(
            "a checkpoint that is gone",
            After::GoodRun,
            |scene| {
                fs::remove_dir_all(scene.checkpoint())?;
                Ok(scene.job())
            },
            CHANGE,
            &["was written by the job log", "events_aggregated_realtime", "was the checkpoint removed", "--new-log"],
        ),
        wrong(
            "a damaged record",
            After::GoodRun,
            |scene| {
                let records = scene.records()?;
                let damaged = &records[records.len() - 2];
                let mut bytes = fs::read(damaged)?;
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                fs::write(damaged, bytes)?;
                Ok(scene.job())
            },
            CHANGE,
            &["event-aggregation/log/000000", "data-platform checkpoint rewind", "before it does it"],
        ),
        wrong(
            "a record that is gone",
            After::GoodRun,
            |scene| {
                let records = scene.records()?;
                fs::remove_file(&records[records.len() - 2])?;
                Ok(scene.job())
            },
            CHANGE,
            &["event-aggregation has no version", "but later ones", "data-platform checkpoint rewind"],
        ),
        wrong(
            "a record that is empty",
            After::GoodRun,
            |scene| {
                fs::write(scene.records()?.last().context("a record")?, "")?;
                Ok(scene.job())
            },
            CHANGE,
            &["event-aggregation/log/000000", "data-platform checkpoint rewind"],
        ),
        wrong(
            "another query while windows are open",
            After::GoodRun,
            |scene| {
                let query = "spec.query=SELECT window_start, count(*) AS event_count, CAST(window_start AS DATE) AS date \
                         FROM app_events GROUP BY tumble(timestamp, INTERVAL '1 minute')";
                Ok(scene.changed(&[query]))
            },
            CHANGE,
            &["the query changed since the state in", "checkpoints/local/event-aggregation", "--drain"],
        ),
        wrong(
            "another window while windows are open",
            After::GoodRun,
            |scene| Ok(scene.job().arg("--param").arg("window=5 minutes")),
            CHANGE,
            &["the query changed since the state in", "checkpoint.name"],
        ),
        wrong(
            "other columns while windows are open",
            After::GoodRun,
            |scene| Ok(scene.changed(&["spec.sources[0].columns[1].type=bigint"])),
            CHANGE,
            &["the columns of a source changed since the state in", "bring back what it was"],
        ),
        wrong(
            "a log that is not there, but a similar one",
            After::GoodRun,
            |scene| Ok(scene.command(&["checkpoint", "show", "event-agregation"])),
            CHANGE,
            &["there is no job log in", "did you mean event-aggregation?"],
        ),
        wrong(
            "a record that the log does not have",
            After::GoodRun,
            |scene| Ok(scene.command(&["checkpoint", "show", "event-aggregation", "--record", "999"])),
            CHANGE,
            &["there is no such record", "the log has 0 to"],
        ),
        wrong(
            "an audit of another job",
            After::GoodRun,
            |scene| Ok(scene.command(&["audit", "events"])),
            CHANGE,
            &["there is no job log in", "there are local/event-aggregation"],
        ),
        wrong(
            "a table that is not there, but a similar one",
            After::GoodRun,
            |scene| Ok(scene.command(&["query", "SELECT * FROM events_aggregated_realtme"])),
            CHANGE,
            &["the query reads the table events_aggregated_realtme", "did you mean events_aggregated_realtime?"],
        ),
        wrong(
            "a column that the table does not have",
            After::GoodRun,
            |scene| Ok(scene.command(&["query", "SELECT nothing FROM events_aggregated_realtime"])),
            CHANGE,
            &["the query cannot run", "nothing"],
        ),
        wrong(
            "a file of a table that was cut short",
            After::GoodRun,
            |scene| {
                let file = fs::read_dir(scene.output())?.filter_map(|entry| Some(entry.ok()?.path()));
                let folder = file.into_iter().find(|path| path.is_dir() && path.to_string_lossy().contains("date="));
                let folder = folder.context("a folder of rows")?;
                fs::write(folder.join("cut.parquet"), "PAR1")?;
                Ok(scene.command(&["query", "SELECT * FROM events_aggregated_realtime"]))
            },
            CHANGE,
            &["cut.parquet is not a whole Parquet file"],
        ),
    ]
}

fn wrong_topics() -> Vec<Wrong> {
    vec![
        wrong(
            "a topic that is not there",
            After::GoodRun,
            |scene| {
                let topic = format!("spec.sources[0].topics[0]={}x", scene.stream.topic);
                Ok(scene.changed(&[&topic, "metadata.name=missing", "spec.sink.path=missing"]))
            },
            RETRY,
            &["does not exist at", "did you mean", "create the topic, or correct the name"],
        ),
        wrong(
            "a pattern that no topic matches",
            After::Nothing,
            |scene| Ok(scene.changed(&["spec.sources[0].topics=", "spec.sources[0].topicPattern=no_such_.*"])),
            RETRY,
            &["no topic matches the pattern", "no_such_", "correct the name"],
        ),
        wrong(
            "starting offsets of another topic",
            After::Nothing,
            |scene| Ok(scene.job().arg("--starting-offsets").arg(r#"{"other":{"0":1}}"#)),
            CHANGE,
            &["startingOffsets: the topic \"other\" is not one of this job's source", "--starting-offsets"],
        ),
        wrong(
            "starting offsets of a partition too many",
            After::Nothing,
            |scene| {
                let offsets = format!(r#"{{"{}":{{"7":1}}}}"#, scene.stream.topic);
                Ok(scene.job().arg("--starting-offsets").arg(offsets))
            },
            CHANGE,
            &["has no partition 7", "correct kafka.startingOffsets"],
        ),
        wrong(
            "starting offsets behind the end",
            After::Nothing,
            |scene| {
                let offsets = format!(r#"{{"{}":{{"0":1000000}}}}"#, scene.stream.topic);
                Ok(scene.job().arg("--starting-offsets").arg(offsets))
            },
            CHANGE,
            &["before offset 1000000", "partition 0 ends at offset", "what to do:"],
        ),
        wrong(
            "a bad record of a job that takes none",
            After::Nothing,
            |scene| Ok(scene.changed(&["spec.badRecords.action=fail"])),
            CHANGE,
            &["partition", "offset", "set badRecords.action to deadLetter"],
        ),
    ]
}

fn run(stream: &Stream, wrong: &Wrong) -> anyhow::Result<()> {
    let scene = Scene { stream, folders: JobFolders::new()? };
    if wrong.after == After::GoodRun {
        let summary = finish(scene.job()).context("the good run")?;
        anyhow::ensure!(summary["rows"].as_u64() > Some(0), "the good run wrote no rows: {summary}");
        anyhow::ensure!(summary["open_windows"].as_u64() > Some(0), "the good run left no window open: {summary}");
    }
    let command = (wrong.spoil)(&scene)?;
    let kept = Kept::of(scene.folders.root())?;
    expect(command, wrong.code, wrong.says)?;
    kept.check()
}

/// Events in two partitions, some of them bad.
fn events(name: &str) -> anyhow::Result<Stream> {
    let broker = data_platform_tests::Broker::shared().context("a broker")?;
    let mut stream = Stream::new(broker, name, 2, EventSettings { messy: 0.01, ..EventSettings::default() }, 100.0)?;
    stream.produce(3_000)?;
    Ok(stream)
}

#[test]
fn a_wrong_place_or_a_wrong_change_ends_in_one_message() -> anyhow::Result<()> {
    let _broker = needs_broker!();
    let stream = events("wrong-places")?;
    let cases: Vec<_> =
        [wrong_folders(), wrong_tables(), wrong_checkpoints(), wrong_topics()].into_iter().flatten().collect();
    let ran = run_all(&cases, |wrong| wrong.name, |wrong| run(&stream, wrong))?;
    println!("{ran} wrong places and changes were refused");
    assert!(ran >= 31, "only {ran} cases ran");
    Ok(())
}

#[test]
fn a_second_runner_learns_who_holds_the_checkpoint_and_harms_nothing() -> anyhow::Result<()> {
    let _broker = needs_broker!();
    let stream = events("two-runners")?;
    finish(stream.job().arg("--test-mode"))?;
    let mut first = stream.job().start()?;
    let pages = Pages::of(&mut first)?;
    first.wait_for("the job to be ready", TIMEOUT, |_| (pages.get("/readyz").ok()?.code == 200).then_some(()))?;
    let kept = Kept::of(stream.folders.root())?;
    let holder = format!("another runner works on this checkpoint: process {}", first.id());
    expect(stream.job(), FENCED, &[&holder, "what to do: stop that process first"])?;
    kept.check()
}
