use std::rc::Rc;
use std::sync::Arc;

use crate::args::{PlaceArgs, RewindArgs};
use crate::checkpoint::record::{FileCommit, encode};
use crate::commands::checkpoint::{Kind, Retention, ls, rewind};
use crate::faults::NoSync;
use crate::pipeline::batch::log::{BatchLog, RECORDS_PER_BASE, Record, Replace, Start, Written, base_path};
use crate::pipeline::batch::versions::{Read, Reads};
use crate::storage::checksum::checksum;
use crate::storage::local::LocalStore;
use crate::storage::location::Location;
use crate::storage::paths;

use super::*;

const JOB: &str = "hourly";
const HOUR: i64 = 3_600_000_000;
/// 2026-02-16 00:00 UTC.
const MIDNIGHT: i64 = 1_771_200_000_000_000;

/// A batch job in a temporary folder whose runs write text instead of Parquet.
struct Fixture {
    folder: tempfile::TempDir,
    /// What the runs to come read.
    reads: Reads,
}

impl Fixture {
    /// A job that processed these hours, one run each.
    async fn with_hours(hours: &[i64]) -> Self {
        let fixture = Self { folder: tempfile::tempdir().unwrap(), reads: Reads::new() };
        for hour in hours {
            fixture.run(*hour, "rows").await;
        }
        fixture
    }

    fn args(&self) -> PlaceArgs {
        let text = |name: &str| self.folder.path().join(name).display().to_string();
        PlaceArgs { outputs: Some(text("outputs")), checkpoints: Some(text("checkpoints")), namespace: None }
    }

    fn checkpoints(&self) -> Location {
        Location::parse(&self.args().checkpoints.unwrap()).unwrap()
    }

    fn place(&self) -> JobPlace {
        JobPlace::open(format!("local/{JOB}"), self.checkpoints().join("local").join(JOB)).unwrap()
    }

    fn log_path(&self, relative: &str) -> std::path::PathBuf {
        self.folder.path().join("checkpoints/local").join(JOB).join(relative)
    }

    fn output_path(&self, relative: &str) -> std::path::PathBuf {
        self.folder.path().join("outputs/hours").join(relative)
    }

    fn output(&self) -> SharedStore {
        Rc::new(LocalStore::open_table(&self.output_path(""), Arc::new(NoSync)).unwrap())
    }

    async fn log(&self) -> BatchLog {
        let store: SharedStore = Rc::new(LocalStore::open(&self.log_path(""), Arc::new(NoSync)).unwrap());
        let start = Start {
            log_id: "0f8fad5b-d9cb-469f-a165-70867728950e".to_owned(),
            namespace: "local".to_owned(),
            job: JOB.to_owned(),
            grid: Grid::Hour,
            clock: MIDNIGHT,
            program: "0.1.0".to_owned(),
        };
        match BatchLog::read(store.clone()).await.unwrap() {
            Some(log) => log,
            None => BatchLog::begin(store, start, &NoSync).await.unwrap().unwrap(),
        }
    }

    /// Takes the turn and decides an hour; gives the log.
    async fn decide(&self, hour: i64, rows: &str) -> BatchLog {
        let mut log = self.log().await;
        let own = Own {
            epoch: 0,
            owner: "random".to_owned(),
            place: format!("process {hour} on laptop"),
            rank: 0,
            run: None,
            clock: MIDNIGHT + hour * HOUR,
        };
        assert!(log.own(own, &NoSync).await.unwrap());
        let content = format!("{rows} of hour {hour}");
        crate::pipeline::batch::replace::claim(&log, &self.output(), false, &NoSync).await.unwrap();
        let stage = paths::staged_file(&log.state.start.log_id, log.epoch(), log.state.version + 1, hour as u64, 0);
        let mut staged = self.output().stage(&stage).await.unwrap();
        staged.write(content.clone().into()).await.unwrap();
        staged.finish().await.unwrap();
        let file = FileCommit {
            stage,
            path: format!("date=2026-02-16/{JOB}-20260216T{hour:02}.parquet"),
            bytes: content.len() as u64,
            xxh3: checksum(content.as_bytes()),
            rows: 7,
        };
        let start = MIDNIGHT + hour * HOUR;
        let replace = Replace {
            epoch: log.epoch(),
            interval: Interval { start, end: start + HOUR },
            due: true,
            since: None,
            backfill: None,
            reads: self.reads.clone(),
            whole: false,
            first: Written { root: self.output().root().to_owned(), files: vec![file], rows: 7 },
            others: Vec::new(),
            fingerprint: "f".to_owned(),
            clock: start + HOUR,
        };
        log.add(Record::Replace(replace), &NoSync).await.unwrap();
        log
    }

    async fn run(&self, hour: i64, rows: &str) {
        let mut log = self.decide(hour, rows).await;
        let faults: Arc<dyn crate::faults::Faults> = Arc::new(NoSync);
        crate::pipeline::batch::replace::publish(&mut log, &[self.output()], &[], &faults).await.unwrap();
        let epoch = log.epoch();
        log.compact(RECORDS_PER_BASE, &NoSync).await.unwrap();
        log.add(Record::Release { epoch }, &NoSync).await.unwrap();
    }

    async fn show(&self) -> String {
        show(&self.place(), None, MIDNIGHT + 24 * HOUR).await.unwrap()
    }

    async fn verify(&self) -> (String, bool) {
        verify(&self.place(), Retention::default()).await.unwrap()
    }

    async fn ls(&self) -> String {
        ls::ls(&self.checkpoints(), MIDNIGHT + 24 * HOUR).await.unwrap()
    }
}

fn error_text(error: CommandError) -> String {
    match error {
        CommandError::Config(error) => error.to_string(),
        CommandError::Job(error) => error.in_full(),
        CommandError::Other(message, _) => message,
    }
}

#[tokio::test]
async fn a_log_that_is_whole_shows_its_intervals_and_who_wrote_them() {
    let fixture = Fixture::with_hours(&[0, 1, 2, 5]).await;
    let (text, is_good) = fixture.verify().await;
    assert!(is_good && !text.contains(" bad"), "{text}");
    assert!(text.contains("4 files of 4 intervals") && text.contains("nothing left over"), "{text}");
    let list = fixture.ls().await;
    let row = list.lines().find(|line| line.contains("local/hourly")).unwrap();
    for word in ["0 … 16", " 4 ", "2026-02-16 03:00:00.000", "18 h ago", "free"] {
        assert!(row.contains(word), "{word:?} is missing in\n{list}");
    }
    let shown = fixture.show().await;
    for words in [
        "one hour at a time",
        "free; the last run began 19 h ago: process 5 on laptop, epoch 4",
        "4 hours: 2026-02-16 00:00 to 2026-02-16 03:00, 2026-02-16 05:00 to 2026-02-16 06:00",
        "until 2026-02-16 03:00",
        "takes what is not finished since 2026-02-16 00:00",
    ] {
        assert!(shown.contains(words), "{words:?} is missing in\n{shown}");
    }
    let row = shown
        .lines()
        .find(|line| line.trim_start().starts_with("2026-02-16 02:00"))
        .unwrap_or_else(|| panic!("{shown}"));
    for word in [" 7 ", " yes ", "process 2 on laptop (epoch 3)", "21 h ago"] {
        assert!(row.contains(word), "{word:?} is missing in\n{shown}");
    }
    assert!(shown.lines().chain(list.lines()).all(|line| line.chars().count() <= 120), "{shown}\n{list}");
}

#[tokio::test]
async fn a_record_is_shown_in_full_and_one_that_is_not_there_is_named() {
    let fixture = Fixture::with_hours(&[3]).await;
    let record = show(&fixture.place(), Some(2), 0).await.unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    assert_eq!((&record["type"], &record["files"][0]["rows"]), (&"replace".into(), &7.into()));
    let error = error_text(show(&fixture.place(), Some(99), 0).await.unwrap_err());
    assert!(error.contains("there is no such record; the log has 0 to 4"), "{error}");
}

#[tokio::test]
async fn what_is_decided_and_staged_is_no_damage() {
    let fixture = Fixture::with_hours(&[0, 1]).await;
    drop(fixture.decide(1, "other rows").await);
    let (text, is_good) = fixture.verify().await;
    assert!(is_good && text.contains("1 staged, the next run publishes them"), "{text}");
    let shown = fixture.show().await;
    assert!(shown.contains("1 staged") && shown.contains("all but 2026-02-16 01:00"), "{shown}");
    assert!(fixture.ls().await.contains("process 1 on laptop (epoch 3)"), "it has the turn");
}

#[tokio::test]
async fn everything_that_is_damaged_is_named_with_a_cure() {
    /// Damages something and gives the words that must appear.
    type Case = (&'static str, fn(&Fixture) -> Vec<&'static str>);
    let flip = |path: std::path::PathBuf| {
        let mut content = std::fs::read(&path).unwrap();
        let middle = content.len() / 2;
        content[middle] ^= 1;
        std::fs::write(path, content).unwrap();
    };
    let cases: [Case; 8] = [
        ("a record", |fixture| {
            std::fs::write(fixture.log_path(&record_path(140)), "{}").unwrap();
            vec!["log records", "1 bad", "batch-log and batch-base"]
        }),
        ("a missing record", |fixture| {
            std::fs::remove_file(fixture.log_path(&record_path(135))).unwrap();
            vec!["it is missing, and there are later ones", "batch-log and batch-base"]
        }),
        ("a record below the base", |fixture| {
            std::fs::write(fixture.log_path(&record_path(7)), "{}").unwrap();
            vec!["nothing: a run reads from base"]
        }),
        ("a base", |fixture| {
            std::fs::write(fixture.log_path(&base_path(131)), "{}").unwrap();
            vec!["nothing: a run goes around it"]
        }),
        ("a base that says something else", |fixture| {
            let path = fixture.log_path(&base_path(131));
            let content = std::fs::read(&path).unwrap();
            let mut state: State = crate::checkpoint::record::decode(131, &content).unwrap();
            state.first_due = None;
            std::fs::write(path, encode(131, &state)).unwrap();
            vec!["it is not what the records before it add up to"]
        }),
        ("a file that is gone", |fixture| {
            std::fs::remove_file(fixture.output_path("date=2026-02-16/hourly-20260216T03.parquet")).unwrap();
            vec!["it is missing", "--target-hour \"2026-02-16 03:00:00\""]
        }),
        ("a file of another length", |fixture| {
            std::fs::write(fixture.output_path("date=2026-02-16/hourly-20260216T03.parquet"), "x").unwrap();
            vec!["it has 1 bytes, 14 were written", "--target-hour"]
        }),
        ("the progress", |fixture| {
            std::fs::remove_file(fixture.output_path("../_dataplatform/hours/progress.json")).unwrap();
            vec!["it is missing or cannot be read", "the next run writes it again"]
        }),
    ];
    for (name, damage) in cases {
        let hours: Vec<i64> = (0..36).map(|run| run % 24).collect();
        let fixture = Fixture::with_hours(&hours).await;
        let (text, is_good) = fixture.verify().await;
        assert!(is_good, "{text}");
        let words = damage(&fixture);
        let (text, is_good) = fixture.verify().await;
        assert!(!is_good, "{name}: {text}");
        for word in words {
            assert!(text.contains(word), "{name}: {word:?} is missing in\n{text}");
        }
        fixture.show().await;
        fixture.ls().await;
    }
    let fixture = Fixture::with_hours(&[3]).await;
    flip(fixture.output_path("date=2026-02-16/hourly-20260216T03.parquet"));
    let (text, is_good) = fixture.verify().await;
    assert!(!is_good && text.contains("its content is not what was written"), "{text}");
    std::fs::remove_file(fixture.output_path("date=2026-02-16/hourly-20260216T03.parquet")).unwrap();
    assert!(fixture.show().await.contains("1 MISSING"));
    std::fs::write(fixture.log_path(&record_path(1)), "{}").unwrap();
    assert!(fixture.show().await.starts_with("DAMAGED at version 1"));
    assert!(fixture.ls().await.contains("local/hourly: version 1"));
}

#[test]
fn commands_for_streaming_jobs_say_so_and_names_are_looked_up_for_both() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let fixture = runtime.block_on(Fixture::with_hours(&[3]));
    let (place, kind) = JobPlace::find_any(JOB, &fixture.args()).unwrap();
    assert_eq!((place.name.as_str(), kind), ("local/hourly", Kind::Batch));
    let args = RewindArgs {
        job: JOB.to_owned(),
        to: None,
        topic_recreated: Vec::new(),
        accept_loss: false,
        yes: true,
        files: Vec::new(),
        bootstrap_servers: None,
        place: fixture.args(),
    };
    let error = error_text(rewind::rewind(&args).unwrap_err());
    assert!(error.contains("local/hourly is a batch job") && error.contains("--from and --to"), "{error}");
    let error = error_text(JobPlace::find_any("hourli", &fixture.args()).err().unwrap());
    assert!(error.contains("did you mean hourly?"), "{error}");
    for name in ["", "local/hourly"] {
        let error = error_text(JobPlace::find_any(name, &fixture.args()).err().unwrap());
        assert!(error.contains("is no name of a job") && error.contains("--namespace"), "{error}");
    }
}

#[tokio::test]
async fn show_names_the_intervals_that_what_they_read_has_overtaken() {
    let mut fixture = Fixture::with_hours(&[]).await;
    let read = |hour: i64| {
        let start = MIDNIGHT + hour * HOUR;
        Reads::from([("minutes".to_owned(), Read { log_id: "m".to_owned(), version: 7, start, end: start + HOUR })])
    };
    for hour in [3, 4] {
        fixture.reads = read(hour);
        fixture.run(hour, "rows").await;
    }
    let beside = fixture.folder.path().join("outputs/_dataplatform/minutes");
    std::fs::create_dir_all(&beside).unwrap();
    let tell = |version: u64| {
        let start = MIDNIGHT + 4 * HOUR;
        let interval = serde_json::json!({"start": start, "end": start + HOUR, "version": version});
        let told = serde_json::json!({"log_id": "m", "intervals": [interval]});
        std::fs::write(beside.join("intervals.json"), told.to_string()).unwrap();
    };
    let shown = async |fixture: &Fixture| {
        let outputs = Some(Location::parse(&fixture.args().outputs.unwrap()).unwrap());
        show(&JobPlace { outputs, ..fixture.place() }, None, MIDNIGHT).await.unwrap()
    };
    tell(7);
    assert!(!shown(&fixture).await.contains("stale"));
    tell(9);
    let text = shown(&fixture).await;
    let line = text.lines().find(|line| line.starts_with("stale")).unwrap();
    assert!(line.contains("2026-02-16 04:00: minutes was replaced from 2026-02-16 04:00:00.000 on"), "{line}");
    assert!(
        !line.contains("03:00") && line.ends_with("`data-platform backfill hourly --stale` repairs them"),
        "{line}"
    );
}
