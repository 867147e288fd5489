//! A job with real tables in a temporary folder, for tests of the commands that look at logs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use data_platform_crds::sink::Compression;
use datafusion::arrow::array::{ArrayRef, Date32Array, Int64Array, RecordBatch, StringViewArray};

use crate::args::PlaceArgs;
use crate::checkpoint::decide::Candidate;
use crate::checkpoint::log::{Attempt, JobLog, LogAccess, OpenOutput, read};
use crate::checkpoint::record::{
    Commit, OutputCommit, Plan, QueryPlan, Rank, ReferenceObject, ReferenceVersion, ReplayFrom, Start, StateObject,
    WindowEnds,
};
use crate::counters::{Counters, OutputCounters, SourceCounters};
use crate::faults::{Faults, NoSync};
use crate::offsets::{Partitions, Range};
use crate::pipeline::snapshot;
use crate::sink::table::{FileFormat, FileOrder, Footer, TableSettings, TableSink};
use crate::sink::{self, Batch, Sink};
use crate::storage::checksum::checksum;
use crate::storage::local::LocalStore;
use crate::storage::{SharedStore, Store, paths};

pub(crate) const JOB: &str = "clicks";
pub(crate) const TABLE: &str = "clicks_by_day";
pub(crate) const LETTERS: &str = "clicks_by_day_dead_letters";
pub(crate) const TOPIC: &str = "topic_clicks";
pub(crate) const LOG_ID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";
/// Offsets of one commit: of each ten one is a tombstone, one bad, one filtered, one late and six are rows.
pub(crate) const STEP: i64 = 10;
/// 2026-01-01 12:00 UTC.
pub(crate) const NOON: i64 = 1_767_268_800_000_000;

/// A job in a temporary folder.
pub(crate) struct Fixture {
    folder: tempfile::TempDir,
}

impl Fixture {
    /// A job that never ran.
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// A job that made this many commits, with a base every ten records.
    pub(crate) async fn with_commits(commits: i64) -> Self {
        let fixture = Self::new();
        fixture.run(1, commits, 10).await;
        fixture
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    /// A path below the job's folder.
    pub(crate) fn log_path(&self, relative: &str) -> PathBuf {
        self.path("checkpoints/local").join(JOB).join(relative)
    }

    pub(crate) fn place(&self) -> PlaceArgs {
        let text = |name: &str| self.path(name).display().to_string();
        PlaceArgs { outputs: Some(text("outputs")), checkpoints: Some(text("checkpoints")), namespace: None }
    }

    pub(crate) fn store(&self) -> SharedStore {
        Rc::new(LocalStore::open(&self.log_path(""), Arc::new(NoSync)).unwrap())
    }

    pub(crate) fn root(&self, output: &str) -> String {
        format!("file://{}", self.path("outputs").join(output).display())
    }

    /// Flips a bit in the middle of a file.
    pub(crate) fn damage(path: &std::path::Path) {
        let mut content = std::fs::read(path).unwrap();
        let middle = content.len() / 2;
        content[middle] ^= 1;
        std::fs::write(path, content).unwrap();
    }

    /// Published files of an output, sorted by version.
    pub(crate) fn published(&self, output: &str) -> Vec<PathBuf> {
        let store = LocalStore::open(&self.path("outputs").join(output), Arc::new(NoSync)).unwrap();
        let listed = futures::executor::block_on(store.list("")).unwrap();
        let mut files: Vec<_> = listed
            .into_iter()
            .filter_map(|entry| Some((paths::final_version(&entry.path, LOG_ID)?, entry.path)))
            .collect();
        files.sort();
        files.into_iter().map(|(_, path)| self.path("outputs").join(output).join(path)).collect()
    }

    /// Starts as process `number` and makes commits until the job has made `commits` of them.
    pub(crate) async fn run(&self, number: i64, commits: i64, records_per_base: u64) {
        let mut log = self.start(number).await;
        while (log.state().commits as i64) < commits {
            self.commit(&mut log).await;
            log.publish_pending().await.unwrap();
            log.maintain(records_per_base).await.unwrap();
        }
        log.note_published().await.unwrap();
    }

    pub(crate) async fn start(&self, number: i64) -> JobLog {
        let (owner, pod) = (format!("owner-{number}"), format!("pod-{number}"));
        let candidate = Candidate { owner, rank: Rank::default(), pod, place: format!("process {number} on laptop") };
        let open: OpenOutput = Rc::new(|root| sink::open_output(root, &(Arc::new(NoSync) as Arc<dyn Faults>)));
        let access = LogAccess::new(self.store(), open, candidate, Arc::new(NoSync));
        let mut log = match read::read(&access.store).await.unwrap() {
            Some(recovered) => JobLog::resume(access, recovered),
            None => JobLog::begin(access, self.start_record()).await.unwrap(),
        };
        log.take_over(NOON + number, true).await.unwrap();
        log.place_outputs(self.plan().outputs);
        log.claim_outputs(false).await.unwrap();
        log.publish_pending().await.unwrap();
        log.note_published().await.unwrap();
        log.collect_staging().await.unwrap();
        log
    }

    fn plan(&self) -> Plan {
        let outputs = [TABLE, LETTERS].map(|output| (output.to_owned(), self.root(output)));
        let query = QueryPlan { sql: "SELECT 1".to_owned(), ..QueryPlan::default() };
        Plan {
            fingerprint: "f".to_owned(),
            queries: BTreeMap::from([(TABLE.to_owned(), query)]),
            outputs: outputs.into(),
            dead_letters: Some(LETTERS.to_owned()),
            window_ends: Some(WindowEnds { step: 60_000_000, offset: 0 }),
            ..Plan::default()
        }
    }

    fn start_record(&self) -> Start {
        Start {
            log_id: LOG_ID.to_owned(),
            namespace: "local".to_owned(),
            job: JOB.to_owned(),
            cluster_id: "cluster".to_owned(),
            topics: BTreeMap::from([(TOPIC.to_owned(), "id-1".to_owned())]),
            offsets: one(100),
            plan: self.plan(),
            clock: NOON,
            program: "0.1.0".to_owned(),
        }
    }

    /// Decides the next commit. Every fourth writes no file, every second a snapshot.
    pub(crate) async fn commit(&self, log: &mut JobLog) -> u64 {
        self.commit_with(log, Vec::new()).await
    }

    /// The same, with these versions of references.
    pub(crate) async fn commit_with(&self, log: &mut JobLog, references: Vec<ReferenceVersion>) -> u64 {
        let attempt = log.begin_attempt();
        let number = log.state().commits;
        let start = log.state().partitions[TOPIC][&0].position;
        let range = Range { start, end: start + STEP, records: STEP as u64, active: NOON, ..Range::default() };
        let (rows, letters): (i64, i64) = if number % 4 == 3 { (0, 0) } else { (6, 1) };
        let mut outputs = BTreeMap::new();
        for (output, rows) in [(TABLE, rows), (LETTERS, letters)] {
            outputs.insert(output.to_owned(), self.write(log, attempt, output, start, rows).await);
        }
        let counters = counters(rows as u64, letters as u64, &outputs);
        let mut totals = log.state().totals.clone();
        totals.add(&counters);
        let first = log.state().replay.keys().last().copied().unwrap_or(attempt.version);
        let state = if number.is_multiple_of(2) { Some(vec![write_state(log, attempt).await]) } else { None };
        let clock = NOON + start * 1_000_000;
        let commit = Commit {
            clock,
            partitions: one(range),
            watermark: Some(clock),
            replay_from: Some(ReplayFrom {
                version: first,
                offsets: one(start),
                outputs: BTreeMap::from([(TABLE.to_owned(), first)]),
                ..ReplayFrom::default()
            }),
            state,
            outputs,
            references,
            counters,
            totals,
            ..Commit::default()
        };
        log.commit(commit).await.unwrap()
    }

    async fn write(&self, log: &mut JobLog, attempt: Attempt, output: &str, start: i64, rows: i64) -> OutputCommit {
        let since = log.state().outputs[output].covered[TOPIC][&0];
        let footer = Footer {
            job: format!("local/{JOB}"),
            log_id: LOG_ID.to_owned(),
            version: attempt.version,
            offsets: one((since, start + STEP)),
            watermark: None,
            fingerprint: "f".to_owned(),
            interval: None,
            merged: None,
        };
        let days: ArrayRef = Arc::new(Date32Array::from_iter_values((0..rows).map(|row| 20_454 + (row % 2) as i32)));
        let offsets: ArrayRef = Arc::new(Int64Array::from_iter_values(start..start + rows));
        let batch = RecordBatch::try_from_iter([("offset", offsets), ("day", days)]).unwrap();
        let settings = TableSettings {
            output: output.to_owned(),
            job: JOB.to_owned(),
            partition_by: if output == TABLE { vec!["day".to_owned()] } else { Vec::new() },
            order: FileOrder::default(),
            target_file_bytes: 1 << 20,
            max_files: None,
            format: FileFormat::Parquet(Compression::Zstd),
            schema: batch.schema(),
        };
        let output = log.output(&self.root(output)).unwrap();
        let sink = TableSink::new(Arc::new(settings), output, Arc::new(NoSync)).unwrap();
        let mut stage = sink.begin(Batch { attempt, footer }).unwrap();
        stage.write(&batch).await.unwrap();
        stage.finish().await.unwrap()
    }
}

fn counters(accepted: u64, letters: u64, outputs: &BTreeMap<String, OutputCommit>) -> Counters {
    let dead_letter = if letters > 0 { BTreeMap::from([("syntax".to_owned(), letters)]) } else { BTreeMap::new() };
    let source =
        SourceCounters { read: STEP as u64, bytes: 100, tombstone: 1, dead_letter, ..SourceCounters::default() };
    let late = 1;
    let filtered = STEP as u64 - 1 - letters - late - accepted;
    let written = |output: &str| {
        let files = &outputs[output].files;
        OutputCounters {
            rows: files.iter().map(|file| file.rows).sum(),
            files: files.len() as u64,
            bytes: files.iter().map(|file| file.bytes).sum(),
            ..OutputCounters::default()
        }
    };
    let table = OutputCounters { filtered, late, accepted, ..written(TABLE) };
    Counters {
        sources: BTreeMap::from([("clicks".to_owned(), source)]),
        outputs: BTreeMap::from([(TABLE.to_owned(), table), (LETTERS.to_owned(), written(LETTERS))]),
    }
}

/// A version of the reference `users`, with its object.
pub(crate) async fn write_reference(log: &JobLog, hash: &str) -> ReferenceVersion {
    let rows: ArrayRef = Arc::new(StringViewArray::from(vec![hash]));
    let rows = RecordBatch::try_from_iter([("user", rows)]).unwrap();
    let content = snapshot::encode(&rows.schema(), &[rows]).unwrap();
    let path = paths::reference_object(log.state().version + 1, log.state().epoch(), hash);
    log.store().create(&path, content.clone()).await.unwrap();
    let object = ReferenceObject { path, bytes: content.len() as u64, xxh3: checksum(&content) };
    ReferenceVersion { name: "users".to_owned(), hash: hash.to_owned(), object: Some(object) }
}

async fn write_state(log: &JobLog, attempt: Attempt) -> StateObject {
    let keys: ArrayRef = Arc::new(StringViewArray::from(vec!["a", "b"]));
    let rows = RecordBatch::try_from_iter([("k", keys)]).unwrap();
    let path = paths::state_object(attempt.version, attempt.epoch, attempt.number, 0);
    let mut file = log.store().stage(&path).await.unwrap();
    file.write(snapshot::encode(&rows.schema(), &[rows]).unwrap()).await.unwrap();
    let facts = file.finish().await.unwrap();
    let (output, first_version) = (TABLE.to_owned(), attempt.version);
    StateObject {
        output,
        part: NOON,
        first_version,
        path,
        bytes: facts.bytes,
        xxh3: facts.xxh3,
        ..StateObject::default()
    }
}

pub(crate) fn one<T>(value: T) -> Partitions<T> {
    Partitions::of(TOPIC, [(0, value)])
}
