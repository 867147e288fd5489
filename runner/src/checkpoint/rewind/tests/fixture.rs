//! A job in a temporary folder whose store may fail at any operation.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::super::*;
use crate::checkpoint::decide::Candidate;
use crate::checkpoint::log::rewind::carry_out;
use crate::checkpoint::log::{JobLog, LogAccess, LogError, OpenOutput, read};
use crate::checkpoint::output::files::Files;
use crate::checkpoint::record::{Commit, FileCommit, OutputCommit, Plan, ReplayFrom, Start, StateObject};
use crate::faults::NoSync;
use crate::offsets::Range;
use crate::storage::local::LocalStore;
use crate::storage::{
    Created, Limits, ObjectEntry, Published, SharedStore, StagedFacts, StagedFile, Store, StoreError, Superseded, paths,
};

pub(super) const OUTPUT: &str = "out";
pub(super) const TOPIC: &str = "t";
pub(super) const LOG_ID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";
/// Offsets that one commit takes of the only partition.
pub(super) const STEP: i64 = 5;
/// Commits before the last one that put rows into the open window.
pub(super) const WINDOW_COMMITS: usize = 4;
pub(super) const RECORDS_PER_BASE: u64 = 6;
/// Every test ends when the job has read so far.
pub(super) const END: i64 = 100;

/// A job in a temporary folder.
pub(super) struct Job {
    pub(super) folder: tempfile::TempDir,
    /// Operations that still work; then every one fails.
    pub(super) budget: Rc<Cell<u64>>,
    /// The operation at which the budget ends happens all the same.
    pub(super) reply_is_lost: bool,
}

impl Job {
    pub(super) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), budget: Rc::new(Cell::new(u64::MAX)), reply_is_lost: false }
    }

    pub(super) fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    pub(super) fn open(&self, relative: &str) -> SharedStore {
        let open = if relative == OUTPUT { LocalStore::open_table } else { LocalStore::open };
        let store = open(&self.path(relative), Arc::new(NoSync)).unwrap();
        Rc::new(Limited { store, budget: Rc::clone(&self.budget), reply_is_lost: self.reply_is_lost })
    }

    pub(super) fn opener(&self) -> OpenOutput {
        let (folder, budget, reply_is_lost) =
            (self.folder.path().to_owned(), Rc::clone(&self.budget), self.reply_is_lost);
        Rc::new(move |root| {
            let relative = Path::new(root.strip_prefix("file://").unwrap()).strip_prefix(&folder).unwrap();
            let store = LocalStore::open_table(&folder.join(relative), Arc::new(NoSync))?;
            let store = Rc::new(Limited { store, budget: Rc::clone(&budget), reply_is_lost });
            Ok(Files::shared(store, Arc::new(NoSync)))
        })
    }

    pub(super) fn root(&self) -> String {
        format!("file://{}", self.path(OUTPUT).display())
    }

    pub(super) fn access(&self, number: u64) -> LogAccess {
        let (owner, place) = (format!("owner-{number}"), format!("process {number}"));
        let candidate = Candidate { owner, rank: Rank::default(), pod: format!("pod-{number}"), place };
        LogAccess::new(self.open("job"), self.opener(), candidate, Arc::new(NoSync))
    }

    /// Takes the log over in this rank.
    pub(super) async fn take_over(&self, number: u64, rank: Rank) -> Result<(), LogError> {
        let mut access = self.access(number);
        access.candidate.rank = rank;
        let recovered = read::read(&access.store).await?.expect("there is a log");
        JobLog::resume(access, recovered).take_over(number as i64, true).await
    }

    /// Starts from the log, as a runner does.
    pub(super) async fn start(&self, number: u64) -> Result<JobLog, LogError> {
        let access = self.access(number);
        let mut log = match read::read(&access.store).await? {
            Some(recovered) => JobLog::resume(access, recovered),
            None => JobLog::begin(access, self.start_record()).await?,
        };
        log.take_over(number as i64, true).await?;
        log.claim_outputs(false).await?;
        log.publish_pending().await?;
        log.note_published().await?;
        log.collect_staging().await?;
        log.write_progress().await?;
        Ok(log)
    }

    pub(super) fn start_record(&self) -> Start {
        Start {
            log_id: LOG_ID.to_owned(),
            namespace: "local".to_owned(),
            job: "job".to_owned(),
            cluster_id: "c".to_owned(),
            topics: BTreeMap::from([(TOPIC.to_owned(), "first".to_owned())]),
            offsets: one(0),
            plan: Plan { outputs: BTreeMap::from([(OUTPUT.to_owned(), self.root())]), ..Plan::default() },
            clock: 0,
            program: String::new(),
        }
    }

    /// Starts and commits up to `end`.
    pub(super) async fn run(&self, number: u64, end: i64) -> Result<(), LogError> {
        let mut log = self.start(number).await?;
        while log.state().partitions[TOPIC][&0].position < end {
            let commit = self.stage(&mut log).await?;
            log.commit(commit).await?;
            log.publish_pending().await?;
            log.maintain(RECORDS_PER_BASE).await?;
        }
        log.note_published().await
    }

    /// A window is open for some commits; every third commit writes a snapshot.
    pub(super) async fn stage(&self, log: &mut JobLog) -> Result<Commit, LogError> {
        let start = log.state().partitions[TOPIC][&0].position;
        let attempt = log.begin_attempt();
        let output = log.output(&self.root())?;
        let output = output.files().expect("a table");
        let stage = paths::staged_file(LOG_ID, attempt.epoch, attempt.version, attempt.number, 0);
        let mut file = output.stage(&stage).await?;
        let rows: String = (start..start + STEP).map(|offset| format!("{offset}\n")).collect();
        file.write(Bytes::from(rows)).await?;
        let facts = file.finish().await?;
        let path =
            format!("day={}/{}", start / 20, paths::final_file("job", LOG_ID, attempt.version, 0, paths::PARQUET));
        let file = FileCommit { stage, path, bytes: facts.bytes, xxh3: facts.xxh3, rows: STEP as u64 };
        let known = &log.state().replay;
        let from = known.keys().rev().nth(WINDOW_COMMITS).or(known.keys().next()).copied().unwrap_or(attempt.version);
        let state = if start / STEP % 3 == 0 { Some(vec![state_object(log, attempt.version).await?]) } else { None };
        let range = Range { start, end: start + STEP, records: STEP as u64, ..Range::default() };
        let watermark = log.state().watermark.max(Some(start));
        let output =
            OutputCommit { root: self.root(), files: vec![file], complete_until: watermark, ..OutputCommit::default() };
        Ok(Commit {
            partitions: one(range),
            watermark,
            clock: start,
            outputs: BTreeMap::from([(OUTPUT.to_owned(), output)]),
            replay_from: Some(ReplayFrom { version: from, ..ReplayFrom::default() }),
            state,
            ..Commit::default()
        })
    }

    pub(super) async fn survey(&self) -> Survey {
        Survey::read(&self.open("job")).await.unwrap()
    }

    pub(super) async fn plan(&self, request: &RewindRequest) -> Result<RewindPlan, RewindRefused> {
        let (survey, log_id) = (self.survey().await, LOG_ID);
        let visible = self.visible();
        let highest_file = visible.iter().filter_map(|path| paths::final_version(path, log_id)).max().unwrap_or(0);
        let goal = target(&survey, request, highest_file)?;
        let facts = RewindFacts {
            owner: "rewinder".to_owned(),
            place: "process 0".to_owned(),
            clock: 1_000,
            damaged_state: None,
            highest_file,
        };
        plan(&survey, goal, request, &facts)
    }

    pub(super) async fn rewind(&self, request: &RewindRequest) -> Result<RewindPlan, LogError> {
        let plan = self.plan(request).await.unwrap();
        carry_out(&self.open("job"), &self.opener(), &plan).await?;
        Ok(plan)
    }

    /// Paths of the files that readers see.
    pub(super) fn visible(&self) -> Vec<String> {
        let mut found = Vec::new();
        collect(&self.path(OUTPUT), &self.path(OUTPUT), &mut found);
        found.retain(|path| paths::is_visible(path));
        found.sort();
        found
    }

    /// Every offset that readers see, sorted.
    pub(super) fn rows(&self) -> Vec<i64> {
        let read = |path: &String| std::fs::read_to_string(self.path(OUTPUT).join(path)).unwrap();
        let mut rows: Vec<i64> = self
            .visible()
            .iter()
            .flat_map(|path| read(path).lines().map(|line| line.parse().unwrap()).collect::<Vec<_>>())
            .collect();
        rows.sort_unstable();
        rows
    }

    pub(super) fn damage(&self, path: &str) {
        let path = self.path("job").join(path);
        let mut content = std::fs::read(&path).unwrap();
        let middle = content.len() / 2;
        content[middle] ^= 1;
        std::fs::write(&path, content).unwrap();
    }

    /// The job goes on to the end, and every offset is there once.
    pub(super) async fn ends_exact(&self, number: u64) {
        self.run(number, END).await.unwrap();
        assert_eq!(self.rows(), (0..END).collect::<Vec<_>>());
        assert_eq!(self.survey().await.head().damage, None);
    }
}

pub(super) fn collect(root: &Path, folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            collect(root, &entry.path(), found);
        } else {
            found.push(entry.path().strip_prefix(root).unwrap().to_string_lossy().into_owned());
        }
    }
}

pub(super) fn one<T>(value: T) -> Partitions<T> {
    Partitions::of(TOPIC, [(0, value)])
}

pub(super) async fn state_object(log: &JobLog, version: u64) -> Result<StateObject, LogError> {
    let path = paths::state_object(version, log.state().epoch(), uuid::Uuid::new_v4().as_u64_pair().0, 0);
    let mut file = log.store().stage(&path).await?;
    file.write(Bytes::from_static(b"state")).await?;
    let facts = file.finish().await?;
    let output = OUTPUT.to_owned();
    Ok(StateObject {
        output,
        part: 0,
        first_version: version,
        path,
        bytes: facts.bytes,
        xxh3: facts.xxh3,
        ..StateObject::default()
    })
}

/// A store whose operations fail when a budget is used up.
pub(super) struct Limited {
    store: LocalStore,
    budget: Rc<Cell<u64>>,
    reply_is_lost: bool,
}

impl Limited {
    /// Whether the operation is done, and whether it says so.
    fn spend(&self) -> (bool, Result<(), StoreError>) {
        let left = self.budget.get();
        let failed = || StoreError::Failed { operation: "die", path: String::new(), source: "killed".into() };
        match left {
            u64::MAX => (true, Ok(())),
            0 => (false, Err(failed())),
            1 => {
                self.budget.set(0);
                (self.reply_is_lost, Err(failed()))
            }
            _ => {
                self.budget.set(left - 1);
                (true, Ok(()))
            }
        }
    }
}

/// Does an operation that changes something, as far as the budget goes.
macro_rules! limited {
    ($self:ident, $operation:expr) => {{
        let (happens, answer) = $self.spend();
        if happens {
            let done = $operation.await;
            answer.and(done)
        } else {
            Err(answer.unwrap_err())
        }
    }};
}

#[async_trait(?Send)]
impl Store for Limited {
    fn root(&self) -> &str {
        self.store.root()
    }
    async fn get(&self, path: &str) -> Result<Option<Bytes>, StoreError> {
        self.store.get(path).await
    }
    async fn facts(&self, path: &str) -> Result<Option<StagedFacts>, StoreError> {
        self.store.facts(path).await
    }
    async fn length(&self, path: &str) -> Result<Option<u64>, StoreError> {
        self.store.length(path).await
    }
    async fn list(&self, folder: &str) -> Result<Vec<ObjectEntry>, StoreError> {
        self.store.list(folder).await
    }
    async fn create(&self, path: &str, content: Bytes) -> Result<Created, StoreError> {
        limited!(self, self.store.create(path, content))
    }
    async fn replace(&self, path: &str, content: Bytes) -> Result<(), StoreError> {
        limited!(self, self.store.replace(path, content))
    }
    async fn stage(&self, path: &str) -> Result<Box<dyn StagedFile>, StoreError> {
        self.store.stage(path).await
    }
    async fn publish(&self, stage: &str, path: &str) -> Result<Published, StoreError> {
        limited!(self, self.store.publish(stage, path))
    }
    async fn supersede(&self, stage: &str, path: &str) -> Result<Superseded, StoreError> {
        limited!(self, self.store.supersede(stage, path))
    }
    async fn sync_entries(&self, paths: &[String]) -> Result<(), StoreError> {
        self.store.sync_entries(paths).await
    }
    async fn delete(&self, path: &str) -> Result<(), StoreError> {
        limited!(self, self.store.delete(path))
    }
    async fn delete_empty_folders(&self, path: &str) -> Result<(), StoreError> {
        self.store.delete_empty_folders(path).await
    }
    fn limits(&self) -> Limits {
        self.store.limits()
    }
    fn file(&self, path: &str) -> Option<PathBuf> {
        self.store.file(path)
    }
    async fn probe(&self) -> Result<(), StoreError> {
        self.store.probe().await
    }
}

pub(super) fn to(version: u64) -> RewindRequest {
    RewindRequest { to: Some(version), ..RewindRequest::default() }
}

pub(super) fn recreated(id: &str, ends: &[(i32, i64)], accept_loss: bool) -> RewindRequest {
    let now = TopicNow { id: id.to_owned(), ends: ends.iter().copied().collect() };
    RewindRequest { to: None, topics: BTreeMap::from([(TOPIC.to_owned(), now)]), accept_loss }
}

/// Version of the commit that began at `start`.
pub(super) async fn version_of(job: &Job, start: i64) -> u64 {
    let survey = job.survey().await;
    let found = survey.readable().find(|(_, record)| match record {
        Record::Commit(commit) => commit.partitions[TOPIC][&0].start == start,
        _ => false,
    });
    found.unwrap().0
}
