//! Rewinds of real logs in folders: after each, the job goes on and every offset is in exactly one visible file.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::*;
use crate::checkpoint::decide::Candidate;
use crate::checkpoint::log::rewind::carry_out;
use crate::checkpoint::log::{JobLog, LogAccess, LogError, OpenOutput, read};
use crate::checkpoint::paths;
use crate::checkpoint::record::{
    Commit, FileCommit, OutputCommit, Plan, Range, ReplayFrom, Start, StateObject, encode,
};
use crate::checkpoint::store::local::LocalStore;
use crate::checkpoint::store::{
    Created, ObjectEntry, Published, SharedStore, StagedFile, Store, StoreError, Superseded,
};
use crate::faults::NoSync;

const OUTPUT: &str = "out";
const TOPIC: &str = "t";
const LOG_ID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";
/// Offsets that one commit takes of the only partition.
const STEP: i64 = 5;
/// Commits before the last one that put rows into the open window.
const WINDOW_COMMITS: usize = 4;
const RECORDS_PER_BASE: u64 = 6;
/// Every test ends when the job has read so far.
const END: i64 = 100;

/// A job in a temporary folder.
struct Job {
    folder: tempfile::TempDir,
    /// Operations that still work; then every one fails.
    budget: Rc<Cell<u64>>,
    /// The operation at which the budget ends happens all the same.
    reply_is_lost: bool,
}

impl Job {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), budget: Rc::new(Cell::new(u64::MAX)), reply_is_lost: false }
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    fn open(&self, relative: &str) -> SharedStore {
        let store = LocalStore::open(&self.path(relative), Arc::new(NoSync)).unwrap();
        Rc::new(Limited { store, budget: Rc::clone(&self.budget), reply_is_lost: self.reply_is_lost })
    }

    fn opener(&self) -> OpenOutput {
        let (folder, budget, reply_is_lost) =
            (self.folder.path().to_owned(), Rc::clone(&self.budget), self.reply_is_lost);
        Rc::new(move |root| {
            let relative = Path::new(root.strip_prefix("file://").unwrap()).strip_prefix(&folder).unwrap();
            let store = LocalStore::open(&folder.join(relative), Arc::new(NoSync))?;
            Ok(Rc::new(Limited { store, budget: Rc::clone(&budget), reply_is_lost }))
        })
    }

    fn root(&self) -> String {
        format!("file://{}", self.path(OUTPUT).display())
    }

    fn access(&self, number: u64) -> LogAccess {
        let rank = Rank { generation: 0, started: number as i64 };
        let candidate = Candidate { owner: format!("owner-{number}"), rank, place: format!("process {number}") };
        LogAccess::new(self.open("job"), self.opener(), candidate, Arc::new(NoSync))
    }

    /// Starts from the log, as a runner does.
    async fn start(&self, number: u64) -> Result<JobLog, LogError> {
        let access = self.access(number);
        let mut log = match read::read(&access.store).await? {
            Some(recovered) => JobLog::resume(access, recovered),
            None => JobLog::begin(access, self.start_record()).await?,
        };
        log.take_over(number as i64).await?;
        log.publish_pending().await?;
        log.note_published().await?;
        log.collect_staging().await?;
        log.write_progress().await?;
        Ok(log)
    }

    fn start_record(&self) -> Start {
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
    async fn run(&self, number: u64, end: i64) -> Result<(), LogError> {
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
    async fn stage(&self, log: &mut JobLog) -> Result<Commit, LogError> {
        let start = log.state().partitions[TOPIC][&0].position;
        let attempt = log.begin_attempt();
        let output = log.output(&self.root())?;
        let stage = paths::staged_file(attempt.epoch, attempt.version, attempt.number, 0);
        let mut file = output.stage(&stage).await?;
        let rows: String = (start..start + STEP).map(|offset| format!("{offset}\n")).collect();
        file.write(Bytes::from(rows)).await?;
        let facts = file.finish().await?;
        let path = format!("day={}/{}", start / 20, paths::final_file("job", LOG_ID, attempt.version, 0));
        let file = FileCommit { stage, path, bytes: facts.bytes, xxh3: facts.xxh3, rows: STEP as u64 };
        let known = &log.state().replay;
        let from = known.keys().rev().nth(WINDOW_COMMITS).or(known.keys().next()).copied().unwrap_or(attempt.version);
        let state = if start / STEP % 3 == 0 { Some(vec![state_object(log, attempt.version).await?]) } else { None };
        let range = Range { start, end: start + STEP, records: STEP as u64, ..Range::default() };
        Ok(Commit {
            partitions: one(range),
            watermark: log.state().watermark.max(Some(start)),
            clock: start,
            outputs: BTreeMap::from([(OUTPUT.to_owned(), OutputCommit { root: self.root(), files: vec![file] })]),
            replay_from: Some(ReplayFrom { version: from, offsets: Partitions::new() }),
            state,
            ..Commit::default()
        })
    }

    async fn survey(&self) -> Survey {
        Survey::read(&self.open("job")).await.unwrap()
    }

    async fn plan(&self, request: &RewindRequest) -> Result<RewindPlan, RewindRefused> {
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

    async fn rewind(&self, request: &RewindRequest) -> Result<RewindPlan, LogError> {
        let plan = self.plan(request).await.unwrap();
        carry_out(&self.open("job"), &self.opener(), &plan).await?;
        Ok(plan)
    }

    /// Paths of the files that readers see.
    fn visible(&self) -> Vec<String> {
        let mut found = Vec::new();
        collect(&self.path(OUTPUT), &self.path(OUTPUT), &mut found);
        found.retain(|path| paths::is_visible(path));
        found.sort();
        found
    }

    /// Every offset that readers see, sorted.
    fn rows(&self) -> Vec<i64> {
        let read = |path: &String| std::fs::read_to_string(self.path(OUTPUT).join(path)).unwrap();
        let mut rows: Vec<i64> = self
            .visible()
            .iter()
            .flat_map(|path| read(path).lines().map(|line| line.parse().unwrap()).collect::<Vec<_>>())
            .collect();
        rows.sort_unstable();
        rows
    }

    fn damage(&self, path: &str) {
        let path = self.path("job").join(path);
        let mut content = std::fs::read(&path).unwrap();
        let middle = content.len() / 2;
        content[middle] ^= 1;
        std::fs::write(&path, content).unwrap();
    }

    /// The job goes on to the end, and every offset is there once.
    async fn ends_exact(&self, number: u64) {
        self.run(number, END).await.unwrap();
        assert_eq!(self.rows(), (0..END).collect::<Vec<_>>());
        assert_eq!(self.survey().await.head().damage, None);
    }
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            collect(root, &entry.path(), found);
        } else {
            found.push(entry.path().strip_prefix(root).unwrap().to_string_lossy().into_owned());
        }
    }
}

fn one<T>(value: T) -> Partitions<T> {
    BTreeMap::from([(TOPIC.to_owned(), BTreeMap::from([(0, value)]))])
}

async fn state_object(log: &JobLog, version: u64) -> Result<StateObject, LogError> {
    let path = paths::state_object(version, log.state().epoch(), 1, 0);
    let mut file = log.store().stage(&path).await?;
    file.write(Bytes::from_static(b"state")).await?;
    let facts = file.finish().await?;
    Ok(StateObject { window: 0, first_version: version, path, bytes: facts.bytes, xxh3: facts.xxh3 })
}

/// A store whose operations fail when a budget is used up.
struct Limited {
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
    async fn delete_empty_folder(&self, path: &str) -> Result<(), StoreError> {
        self.store.delete_empty_folder(path).await
    }
    async fn probe(&self) -> Result<(), StoreError> {
        self.store.probe().await
    }
}

fn to(version: u64) -> RewindRequest {
    RewindRequest { to: Some(version), ..RewindRequest::default() }
}

fn recreated(id: &str, ends: &[(i32, i64)], accept_loss: bool) -> RewindRequest {
    let now = TopicNow { id: id.to_owned(), ends: ends.iter().copied().collect() };
    RewindRequest { to: None, topics: BTreeMap::from([(TOPIC.to_owned(), now)]), accept_loss }
}

/// Version of the commit that began at `start`.
async fn version_of(job: &Job, start: i64) -> u64 {
    let survey = job.survey().await;
    let found = survey.readable().find(|(_, record)| match record {
        Record::Commit(commit) => commit.partitions[TOPIC][&0].start == start,
        _ => false,
    });
    found.unwrap().0
}

#[tokio::test]
async fn a_damaged_record_in_the_middle_costs_the_commits_after_it_and_no_row() {
    let job = Job::new();
    job.run(1, 40).await.unwrap();
    let last = job.survey().await.last_version();
    let damaged = last - 2;
    job.damage(&paths::log_record(damaged));
    assert!(matches!(job.run(2, 60).await, Err(LogError::Unreadable { .. })));
    let plan = job.rewind(&RewindRequest::default()).await.unwrap();
    assert_eq!((plan.rewind.to, plan.version), (damaged - 1, last + 1));
    assert_eq!(plan.records, [damaged, last - 1, last]);
    assert!(job.path("job").join(paths::rewound_object(plan.version, &paths::log_record(damaged))).exists());
    job.ends_exact(3).await;
}

#[tokio::test]
async fn a_damaged_record_at_the_end_costs_only_itself() {
    let job = Job::new();
    job.run(1, 40).await.unwrap();
    let last = job.survey().await.last_version();
    job.damage(&paths::log_record(last));
    let plan = job.rewind(&RewindRequest::default()).await.unwrap();
    assert_eq!((plan.rewind.to, plan.version), (last - 1, last + 1));
    job.ends_exact(2).await;
}

#[tokio::test]
async fn a_missing_record_is_as_good_as_a_damaged_one() {
    let job = Job::new();
    job.run(1, 40).await.unwrap();
    let last = job.survey().await.last_version();
    std::fs::remove_file(job.path("job").join(paths::log_record(last - 1))).unwrap();
    assert!(matches!(job.run(2, 60).await, Err(LogError::Gap { .. })));
    assert_eq!(job.rewind(&RewindRequest::default()).await.unwrap().rewind.to, last - 2);
    job.ends_exact(3).await;
}

#[tokio::test]
async fn a_damaged_base_needs_no_rewind_as_long_as_its_records_are_there() {
    let job = Job::new();
    job.run(1, 60).await.unwrap();
    let survey = job.survey().await;
    let newest = *survey.bases.keys().last().unwrap();
    job.damage(&paths::base(newest));
    assert!(matches!(job.plan(&RewindRequest::default()).await, Err(RewindRefused::NothingDamaged { .. })));
    // With a damaged record between the older base and this one, everything from that record on is void.
    job.damage(&paths::log_record(newest - 1));
    assert!(matches!(job.run(2, 70).await, Err(LogError::Unreadable { .. })));
    let plan = job.rewind(&RewindRequest::default()).await.unwrap();
    assert_eq!(plan.rewind.to, newest - 2);
    assert_eq!(plan.bases, [newest]);
    job.ends_exact(3).await;
}

#[tokio::test]
async fn a_log_of_which_nothing_can_be_read_is_refused() {
    let job = Job::new();
    job.run(1, 10).await.unwrap();
    job.damage(&paths::log_record(0));
    let error = job.plan(&RewindRequest::default()).await.unwrap_err();
    assert!(matches!(error, RewindRefused::NothingReadable(Damage { version: 0, .. })), "{error}");
}

#[tokio::test]
async fn the_job_goes_back_to_every_version_that_can_be_reached() {
    let reference = Job::new();
    reference.run(1, 50).await.unwrap();
    let last = reference.survey().await.last_version();
    let oldest = reference.survey().await.oldest().unwrap().version;
    assert!(oldest > 0, "garbage was collected");
    for version in oldest..=last {
        let job = Job::new();
        job.run(1, 50).await.unwrap();
        let before = job.survey().await.state_at(version).unwrap();
        job.rewind(&to(version)).await.unwrap();
        let end = before.partitions[TOPIC][&0].position;
        assert_eq!(job.rows(), (0..end).collect::<Vec<_>>(), "version {version}");
        assert_eq!(job.survey().await.head().state.unwrap().partitions, before.partitions);
        job.ends_exact(2).await;
    }
    let job = Job::new();
    job.run(1, 50).await.unwrap();
    assert!(matches!(job.plan(&to(oldest - 1)).await, Err(RewindRefused::Unreachable { .. })));
    assert!(matches!(job.plan(&to(last + 1)).await, Err(RewindRefused::Unreachable { .. })));
}

#[tokio::test]
async fn a_rewind_can_be_followed_by_another_one_behind_it_or_before_it() {
    for second in [0, 3] {
        let job = Job::new();
        job.run(1, 25).await.unwrap();
        let goal = version_of(&job, 15).await;
        let first = job.rewind(&to(goal)).await.unwrap();
        job.run(2, 30).await.unwrap();
        let goal = if second == 0 { goal } else { first.version + second };
        let plan = job.rewind(&to(goal)).await.unwrap();
        assert!(plan.version > first.version);
        job.ends_exact(3).await;
    }
}

#[tokio::test]
async fn killed_at_any_operation_a_rewind_hides_nothing_and_is_finished_by_the_next_call() {
    for reply_is_lost in [false, true] {
        for request in [None, Some(0)] {
            let mut finished = false;
            for budget in 1.. {
                let mut job = Job::new();
                job.run(1, 45).await.unwrap();
                let last = job.survey().await.last_version();
                // Once after damage, once by choice behind a base.
                let request = match request {
                    None => {
                        job.damage(&paths::log_record(last - 3));
                        RewindRequest::default()
                    }
                    Some(_) => to(*job.survey().await.bases.keys().last().unwrap() - 1),
                };
                job.reply_is_lost = reply_is_lost;
                job.budget.set(budget);
                finished = job.rewind(&request).await.is_ok();
                job.budget.set(u64::MAX);
                if finished {
                    break;
                }
                // A start either knows nothing of the rewind yet, or refuses. If it goes on, the result is exact.
                if job.run(2, END).await.is_err() {
                    let again = if job.survey().await.unfinished_rewind().is_some() {
                        RewindRequest::default()
                    } else {
                        request
                    };
                    job.rewind(&again).await.unwrap();
                    job.run(3, END).await.unwrap();
                }
                assert_eq!(job.rows(), (0..END).collect::<Vec<_>>(), "killed at operation {budget}");
            }
            assert!(finished);
        }
    }
}

#[tokio::test]
async fn a_start_refuses_a_log_whose_rewind_is_not_finished() {
    let job = Job::new();
    job.run(1, 40).await.unwrap();
    let plan = job.plan(&to(version_of(&job, 30).await)).await.unwrap();
    let record = encode(plan.version, &Record::Rewind(Box::new(plan.rewind.clone())));
    job.open("job").create(&paths::log_record(plan.version), record.into()).await.unwrap();
    assert!(matches!(job.run(2, 60).await, Err(LogError::RewindUnfinished { .. })));
    let other = job.plan(&to(1)).await.unwrap_err();
    assert!(matches!(other, RewindRefused::Unfinished { .. }), "{other}");
    let resumed = job.rewind(&RewindRequest::default()).await.unwrap();
    assert!(resumed.is_decided && resumed.rewind == plan.rewind);
    job.ends_exact(3).await;
}

#[tokio::test]
async fn an_owner_who_slept_through_a_rewind_cannot_commit() {
    let job = Job::new();
    job.run(1, 30).await.unwrap();
    let mut sleeper = job.start(2).await.unwrap();
    let staged = job.stage(&mut sleeper).await.unwrap();
    job.rewind(&to(version_of(&job, 20).await)).await.unwrap();
    let error = sleeper.commit(staged).await.unwrap_err();
    assert!(matches!(error, LogError::Fenced { .. }), "{error}");
    job.ends_exact(3).await;
    // He may start again from the log only if nobody newer owns it.
    assert!(matches!(job.start(2).await, Err(LogError::Fenced { .. })));
}

#[tokio::test]
async fn an_owner_who_slept_between_deciding_and_publishing_cannot_publish() {
    let job = Job::new();
    job.run(1, 30).await.unwrap();
    let mut sleeper = job.start(2).await.unwrap();
    let staged = job.stage(&mut sleeper).await.unwrap();
    sleeper.commit(staged).await.unwrap();
    job.rewind(&to(version_of(&job, 20).await)).await.unwrap();
    let error = sleeper.publish_pending().await.unwrap_err();
    assert!(matches!(error, LogError::FileLost { .. }), "{error}");
    assert_eq!(job.rows(), (0..25).collect::<Vec<_>>());
    job.ends_exact(3).await;
}

#[tokio::test]
async fn a_commit_that_is_kept_and_not_yet_published_is_published_by_the_next_start() {
    let job = Job::new();
    job.run(1, 20).await.unwrap();
    let mut owner = job.start(2).await.unwrap();
    let staged = job.stage(&mut owner).await.unwrap();
    let kept = owner.commit(staged).await.unwrap();
    drop(owner);
    let plan = job.rewind(&to(kept)).await.unwrap();
    assert_eq!(plan.after.pending.keys().copied().collect::<Vec<_>>(), [kept]);
    assert_eq!(plan.visible_watermark, Some(15), "the one before the commit that nobody sees");
    job.ends_exact(3).await;
}

#[tokio::test]
async fn progress_is_lowered_before_rows_vanish() {
    let job = Job::new();
    job.run(1, 40).await.unwrap();
    let goal = version_of(&job, 15).await;
    let plan = job.plan(&to(goal)).await.unwrap();
    carry_out(&job.open("job"), &job.opener(), &plan).await.unwrap();
    let told = crate::checkpoint::log::read_progress(&job.open(OUTPUT)).await.unwrap().unwrap();
    // The commit itself is kept, but as of its version nobody had noted that it is published.
    assert_eq!((told.published, told.complete_until), (plan.version, Some(10)));
}

#[tokio::test]
async fn a_log_from_a_backup_takes_back_the_files_that_it_does_not_know() {
    let job = Job::new();
    job.run(1, 20).await.unwrap();
    let backup = tempfile::tempdir().unwrap();
    let copy = |from: &Path, to: &Path| {
        assert!(std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success())
    };
    copy(&job.path("job"), backup.path());
    job.run(2, 40).await.unwrap();
    std::fs::remove_dir_all(job.path("job")).unwrap();
    copy(&backup.path().join("job"), job.folder.path());
    let plan = job.rewind(&RewindRequest::default()).await.unwrap();
    assert!(plan.records.is_empty());
    assert_eq!(job.rows(), (0..20).collect::<Vec<_>>());
    job.ends_exact(3).await;
}

#[tokio::test]
async fn a_record_of_a_newer_program_is_not_taken_for_damage() {
    let job = Job::new();
    job.run(1, 20).await.unwrap();
    let last = job.survey().await.last_version();
    let path = job.path("job").join(paths::log_record(last));
    let text = std::fs::read_to_string(&path).unwrap().replace("{\"format\":1", "{\"format\":2");
    std::fs::write(&path, text).unwrap();
    let error = job.plan(&RewindRequest::default()).await.unwrap_err();
    assert!(matches!(error, RewindRefused::NewerFormat { .. }), "{error}");
}

#[tokio::test]
async fn a_topic_that_was_created_again_goes_on_at_zero_and_keeps_what_the_snapshot_holds() {
    let job = Job::new();
    // The last commit begins at 45, with a snapshot.
    job.run(1, 50).await.unwrap();
    let plan = job.rewind(&recreated("second", &[(0, 7), (1, 0)], false)).await.unwrap();
    assert!(plan.records.is_empty() && plan.rewind.topics[TOPIC].lost.is_empty());
    let head = job.survey().await.head().state.unwrap();
    assert_eq!(head.topics[TOPIC], "second");
    assert_eq!(
        head.partitions[TOPIC].iter().map(|(p, state)| (*p, state.position)).collect::<Vec<_>>(),
        [(0, 0), (1, 0)]
    );
    assert!(head.replay.is_empty() && !head.can_replay_all() && head.usable_snapshot().is_some());
    assert_eq!(job.rows(), (0..50).collect::<Vec<_>>(), "no row vanishes");
    job.run(2, 10).await.unwrap();
    assert_eq!(job.rows().len(), 60);
    // Nothing to do a second time.
    let again = job.plan(&recreated("second", &[(0, 70), (1, 0)], false)).await.unwrap_err();
    assert!(matches!(again, RewindRefused::SameTopic { .. }), "{again}");
}

#[tokio::test]
async fn records_that_only_the_old_topic_had_are_given_up_only_when_told_to() {
    let job = Job::new();
    // Snapshot at 45; the commits from 50 and 55 are in no snapshot.
    job.run(1, 60).await.unwrap();
    let error = job.plan(&recreated("second", &[(0, 0)], false)).await.unwrap_err();
    let RewindRefused::WouldLose { lost, alternative, .. } = &error else { panic!("{error}") };
    assert_eq!(lost, "t partition 0 offsets [50, 60)");
    let snapshot = version_of(&job, 45).await;
    assert!(alternative.contains(&format!("--to {snapshot}")), "{alternative}");
    let plan = job.plan(&recreated("second", &[(0, 0)], true)).await.unwrap();
    assert_eq!(plan.rewind.topics[TOPIC].lost, BTreeMap::from([(0, (50, 60))]));
    assert_eq!(plan.after.rewinds[0].lost, one((50, 60)));
    assert!(plan.after.replay.values().all(|batch| batch.partitions.is_empty()));
    // Going back to the snapshot loses nothing of the state, and takes the later rows back.
    let request = RewindRequest { to: Some(snapshot), ..recreated("second", &[(0, 0)], false) };
    job.rewind(&request).await.unwrap();
    assert_eq!(job.rows(), (0..50).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_truncated_topic_goes_on_at_its_end() {
    let job = Job::new();
    job.run(1, 50).await.unwrap();
    let plan = job.rewind(&recreated("first", &[(0, 47)], false)).await.unwrap();
    assert_eq!(plan.after.partitions[TOPIC][&0].position, 47);
    assert_eq!(plan.after.outputs[OUTPUT].covered[TOPIC][&0], 47);
    assert_eq!(job.rows(), (0..50).collect::<Vec<_>>());
    let longer = job.plan(&recreated("first", &[(0, 48)], false)).await.unwrap_err();
    assert!(matches!(longer, RewindRefused::SameTopic { .. }), "{longer}");
}

#[tokio::test]
async fn what_kafka_must_have_begins_where_the_snapshot_ends() {
    let job = Job::new();
    job.run(1, 60).await.unwrap();
    let state = job.survey().await.head().state.unwrap();
    assert_eq!(needed_offsets(&state, true), one(50));
    assert_eq!(needed_offsets(&state, false), one(state.replay.values().next().unwrap().partitions[TOPIC][&0].start));
}

/// A survey judges a log as a start does, whatever is damaged.
#[tokio::test]
async fn a_survey_and_a_start_come_to_the_same_state() {
    for damaged in 0..40 {
        let job = Job::new();
        job.run(1, 35).await.unwrap();
        job.rewind(&to(version_of(&job, 25).await)).await.unwrap();
        job.run(2, 60).await.unwrap();
        let survey = job.survey().await;
        let objects: Vec<_> = (survey.records.keys().map(|v| paths::log_record(*v)))
            .chain(survey.bases.keys().map(|v| paths::base(*v)))
            .collect();
        let Some(object) = objects.get(damaged) else { break };
        job.damage(object);
        let (head, started) = (job.survey().await.head(), read::read(&job.open("job")).await);
        match started {
            Ok(recovered) => assert_eq!((Some(recovered.unwrap().state), None), (head.state, head.damage), "{object}"),
            Err(error) => assert!(head.damage.is_some(), "{object}: {error}"),
        }
    }
}
