//! A job whose world is broken in one place: which check says so, and how.

use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::{Int64Array, RecordBatch, TimestampMicrosecondArray};
use datafusion::parquet::arrow::ArrowWriter;

use super::*;
use crate::args::{JobArgs, PlaceArgs};
use crate::commands::doctor::check::Finding;
use crate::faults::NoFaults;
use crate::pipeline::error::Reason;

/// A batch job over the table `visits`, with a reference to nothing else.
const JOB: &str = "
apiVersion: dataplatform.io/v1alpha1
kind: BatchJob
metadata: {name: counts}
spec:
  interval: hour
  schedule: '5 * * * *'
  timeZone: Europe/Berlin
  inputs: [{name: visits, path: visits, timeColumn: at}]
  query: SELECT count(*) AS visits FROM visits
  sink: {path: counts}
";

/// Folders of a job, in which all is well.
struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let world = Self { folder };
        std::fs::create_dir_all(world.path("outputs/visits")).unwrap();
        std::fs::write(world.path("job.yaml"), JOB).unwrap();
        let at: datafusion::arrow::array::ArrayRef =
            Arc::new(TimestampMicrosecondArray::from(vec![1_771_250_400_000_000]).with_timezone("UTC"));
        let columns = [("at", at), ("n", Arc::new(Int64Array::from(vec![1])) as _)];
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        let file = std::fs::File::create(world.path("outputs/visits/a.parquet")).unwrap();
        let mut writer = ArrowWriter::try_new(file, rows.schema(), None).unwrap();
        writer.write(&rows).unwrap();
        writer.close().unwrap();
        world
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// The job, changed as by `--set`.
    fn examine(&self, set: &[&str]) -> Result<Vec<Row>, CommandError> {
        let text = |name: &str| Some(self.path(name).display().to_string());
        let args = DoctorArgs {
            job: JobArgs {
                files: vec![self.path("job.yaml")],
                set: set.iter().map(|set| (*set).to_owned()).collect(),
                ..JobArgs::default()
            },
            place: PlaceArgs { outputs: text("outputs"), checkpoints: text("checkpoints"), namespace: None },
            bootstrap_servers: None,
            format: DoctorFormat::Table,
            config: None,
            termination_message: None,
        };
        let faults: Arc<dyn Faults> = Arc::new(NoFaults);
        examine(&args, &faults)
    }
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Ok(_) => "ok",
        Outcome::Warning { .. } => "warning",
        Outcome::Skipped(_) => "skipped",
        Outcome::Failed(error) => error.reason.name(),
    }
}

fn everything(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        found.push(entry.path().display().to_string());
        everything(&entry.path(), found);
    }
}

#[test]
fn of_a_world_in_order_every_check_is_good_and_nothing_is_left_in_it() {
    let world = World::new();
    let mut before = Vec::new();
    everything(world.folder.path(), &mut before);
    let rows = world.examine(&[]).unwrap();
    let found: Vec<_> = rows.iter().map(|row| (row.name.as_str(), word(&row.outcome))).collect();
    let mine: Vec<_> = found.iter().filter(|(name, _)| !name.starts_with("room") && *name != "memory").collect();
    let names = ["clock", "time zone", "table counts", "checkpoint", "input visits"];
    assert_eq!(mine, names.map(|name| (name, "ok")).iter().collect::<Vec<_>>(), "{rows:#?}");
    let mut after = Vec::new();
    everything(world.folder.path(), &mut after);
    before.sort();
    after.sort();
    assert_eq!(before, after);
    // What is there stays, and so do folders that were empty.
    std::fs::create_dir_all(world.path("outputs/counts")).unwrap();
    world.examine(&[]).unwrap();
    assert!(world.path("outputs/counts").is_dir());
}

/// What is broken, how, what is set, the check that finds it, its outcome, and a part of what it says.
type Case = (&'static str, fn(&World), &'static [&'static str], &'static str, &'static str, &'static str);

#[test]
fn each_fault_is_found_by_its_check_and_says_what_to_do() {
    let cases: [Case; 7] = [
        (
            "a file where the table's folder should be",
            |world| std::fs::write(world.path("outputs/counts"), "x").unwrap(),
            &[],
            "table counts",
            "StorageDenied",
            "a file is where a folder must be",
        ),
        (
            "a file where checkpoints should be",
            |world| std::fs::write(world.path("checkpoints"), "x").unwrap(),
            &[],
            "checkpoint",
            "StorageDenied",
            "a file is where a folder must be",
        ),
        (
            "a file system that takes no folders",
            |_| {},
            &["spec.sink.path=file:///proc/none/counts"],
            "table counts",
            "StorageFailed",
            "/proc/none",
        ),
        (
            "an input that is not there yet",
            |world| std::fs::remove_dir_all(world.path("outputs/visits")).unwrap(),
            &[],
            "input visits",
            "warning",
            "there is no file yet",
        ),
        (
            "an input that is damaged",
            |world| std::fs::write(world.path("outputs/visits/a.parquet"), "PAR1").unwrap(),
            &[],
            "input visits",
            "QueryFailed",
            "a.parquet",
        ),
        (
            "an input without the time",
            |_| {},
            &["spec.inputs[0].timeColumn=wann"],
            "input visits",
            "QueryFailed",
            "wann",
        ),
        (
            "a job that asks for more memory than there is",
            |_| {},
            &["spec.pod.resources.limits.memory=4000Ti"],
            "memory",
            "warning",
            "its file asks for",
        ),
    ];
    finds(&cases);
}

const AS_DELTA: &[&str] = &["spec.sink.format=delta"];

#[test]
fn a_table_that_is_not_what_the_job_would_go_on_with_is_found() {
    let cases: [Case; 6] = [
        (
            "a Delta table under a job that writes Parquet",
            |world| world.write("outputs/counts/_delta_log/00000000000000000000.json", &version_0(2)),
            &[],
            "table counts",
            "TableUnusable",
            "is a Delta table",
        ),
        (
            "Parquet under a job that writes Delta",
            |world| world.write("outputs/counts/theirs.parquet", "PAR1"),
            AS_DELTA,
            "table counts",
            "TableUnusable",
            "has files that are of no Delta table (theirs.parquet)",
        ),
        (
            "a Delta table of a newer protocol",
            |world| world.write("outputs/counts/_delta_log/00000000000000000000.json", &version_0(7)),
            AS_DELTA,
            "table counts",
            "TableUnusable",
            "tomorrow",
        ),
        (
            "the table of another job",
            |world| world.write(OWNER, r#"{"log_id":"theirs","job":"local/other"}"#),
            &[],
            "table counts",
            "OutputOfOtherJob",
            "local/other",
        ),
        (
            "a Delta table of another job",
            |world| {
                world.write(OWNER, r#"{"log_id":"theirs","job":"local/other"}"#);
                world.write("outputs/counts/_delta_log/00000000000000000000.json", &version_0(2));
            },
            AS_DELTA,
            "table counts",
            "OutputOfOtherJob",
            "local/other",
        ),
        (
            "a table whose log is gone",
            |world| world.write(OWNER, r#"{"log_id":"before","job":"local/counts"}"#),
            &[],
            "table counts",
            "CheckpointMissing",
            "written by the log before",
        ),
    ];
    finds(&cases);
    // What it may go on with.
    let world = World::new();
    world.write("outputs/counts/_delta_log/00000000000000000000.json", &version_0(2));
    world.write("outputs/counts/notes.txt", "of a person");
    let rows = world.examine(AS_DELTA).unwrap_or_else(|error| panic!("{}", error.text()));
    let table = rows.iter().find(|row| row.name == "table counts").unwrap();
    assert_eq!(word(&table.outcome), "ok", "{table:?}");
}

/// Whose the table of the job is.
const OWNER: &str = "outputs/_dataplatform/counts/owner/00000000000000000001.json";

/// The first version of a Delta table for writers of a version; 7 needs a feature that nobody knows.
fn version_0(writer: u8) -> String {
    let protocol = match writer {
        7 => serde_json::json!({"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["tomorrow"]}),
        _ => serde_json::json!({"minReaderVersion": 1, "minWriterVersion": writer}),
    };
    let field = serde_json::json!({"name": "visits", "type": "long", "nullable": true, "metadata": {}});
    let schema = serde_json::json!({"type": "struct", "fields": [field]}).to_string();
    let metadata = serde_json::json!({"id": "x", "format": {"provider": "parquet", "options": {}}, "schemaString": schema,
        "partitionColumns": [], "configuration": {}, "createdTime": 0});
    let actions = [serde_json::json!({"protocol": protocol}), serde_json::json!({"metaData": metadata})];
    actions.map(|action| format!("{action}\n")).concat()
}

#[track_caller]
fn finds(cases: &[Case]) {
    for &(what, breaks, set, check, expected, part) in cases {
        let world = World::new();
        breaks(&world);
        let rows = world.examine(set).unwrap_or_else(|error| panic!("{what}: {}", error.text()));
        let row = rows.iter().find(|row| row.name == check).unwrap_or_else(|| panic!("{what}: {rows:#?}"));
        assert_eq!(word(&row.outcome), expected, "{what}: {row:?}");
        let json: serde_json::Value = serde_json::from_str(&show::json(std::slice::from_ref(row))).unwrap();
        let told = &json["checks"][0];
        assert!(told["message"].as_str().unwrap().contains(part), "{what}: {told}");
        assert!(!told["whatToDo"].as_str().unwrap().is_empty(), "{what}: {told}");
        let others = rows.iter().filter(|other| other.name != check && !other.name.starts_with("room"));
        for other in others {
            assert!(matches!(word(&other.outcome), "ok" | "warning"), "{what}: {other:?}");
        }
    }
}

#[test]
fn what_its_user_must_change_is_said_before_what_may_pass_and_the_others_with_it() {
    let row = |name: &str, outcome: Outcome| {
        let Finding { name, outcome } = Finding { name: name.to_owned(), outcome };
        Row { job: "j".to_owned(), name, outcome, took: std::time::Duration::ZERO }
    };
    let passing = || Outcome::Failed(JobError::passing(Reason::KafkaUnreachable, "no broker", "start one"));
    let user = || Outcome::Failed(JobError::user(Reason::StorageDenied, "not allowed", "allow it"));
    assert_eq!(verdict(&[row("a", Outcome::Ok(String::new()))]), None);
    let warning = Outcome::Warning { message: String::new(), cure: String::new() };
    assert_eq!(verdict(&[row("a", warning), row("b", Outcome::Skipped(String::new()))]), None);
    assert_eq!(exit_code(&verdict(&[row("a", passing())]).unwrap()), 1);
    let both = verdict(&[row("brokers", passing()), row("table t", user())]).unwrap();
    assert_eq!((both.reason, exit_code(&both)), (Reason::StorageDenied, 2));
    assert_eq!(both.message, "table t: not allowed; also: brokers: no broker");
    assert_eq!(both.cure, "allow it");
}
