//! A streaming job under chaos: every record is in the output once, in whole files, whoever else runs.

use super::*;
use crate::checkpoint::decide::{self, Candidate};
use crate::checkpoint::job_state::JobState;
use crate::checkpoint::log::{Attempt, JobLog, LogAccess, LogError, OpenOutput, read};
use crate::checkpoint::output::files::Files;
use crate::checkpoint::progress::Progress;
use crate::checkpoint::record::{Commit, FileCommit, OutputCommit, Plan, Rank, ReplayFrom, Start, StateObject};
use crate::offsets::{Partitions, Range};
use crate::storage::checksum::checksum;

pub(super) const TOPIC: &str = "t";
pub(super) const PARTITIONS: i32 = 2;
pub(super) const RECORDS_PER_PARTITION: i64 = 30;

/// Starts from the log, commits until everything is read, and starts again from the log after any error.
#[derive(Default)]
struct StreamingJob;

impl Job for StreamingJob {
    type Log = JobState;

    fn run(world: World, number: u64, pod: String) -> Process {
        Box::pin(run_process(world, number, pod))
    }

    fn look(&mut self, disk: &Disk, _: Option<&JobState>) -> Result<(), String> {
        read_output(disk).map(drop)
    }

    fn finish(&mut self, disk: &Disk) -> Result<(), String> {
        let rows = read_output(disk)?;
        for partition in 0..PARTITIONS {
            let lost = (0..RECORDS_PER_PARTITION).find(|offset| !rows.contains(&format!("{partition}/{offset}")));
            if let Some(offset) = lost {
                return Err(format!("{partition}/{offset} is lost"));
            }
        }
        Ok(())
    }
}

async fn run_process(world: World, number: u64, pod: String) -> Result<End, String> {
    let access = access(&world, "job", number, pod, format!("process {number}"));
    let mut random = Random::new(world.seed ^ number << 32);
    loop {
        match run_once(&access, &mut random).await {
            Ok(()) => return Ok(End::Finished),
            Err(LogError::Fenced { .. }) => return Ok(End::Fenced),
            Err(LogError::Reload { .. } | LogError::Store(_)) => pause().await,
            Err(error) => return Err(format!("process {number}: {error}")),
        }
    }
}

/// What a process brings to the log in `root`.
pub(super) fn access(world: &World, root: &str, number: u64, pod: String, place: String) -> LogAccess {
    let (outputs, faults) = (Rc::clone(&world.disk), world.faults());
    let of_outputs = Arc::clone(&faults);
    let open = move |root: &str| Ok(Files::shared(SimulatedStore::open(&outputs, root), Arc::clone(&of_outputs)));
    access_to(world, root, number, pod, place, Rc::new(open))
}

/// The same, with outputs of another kind.
pub(super) fn access_to(
    world: &World,
    root: &str,
    number: u64,
    pod: String,
    place: String,
    open: OpenOutput,
) -> LogAccess {
    let faults = world.faults();
    let candidate = Candidate { owner: format!("owner-{number}"), rank: Rank::default(), pod, place };
    let store: SharedStore = SimulatedStore::open(&world.disk, root);
    let access = LogAccess::new(store, open, candidate, faults);
    // Names decide in which order a crash looks at files: a seed must give the same ones each time.
    access.attempts.set(number << 32);
    access
}

pub(super) async fn run_once(access: &LogAccess, random: &mut Random) -> Result<(), LogError> {
    run_once_with(access, random, write_lines).await
}

/// One start and its batches; `write` stages the files of a batch.
pub(super) async fn run_once_with(
    access: &LogAccess,
    random: &mut Random,
    write: impl AsyncFn(&mut JobLog, Attempt, &BTreeMap<i32, Range>) -> Result<OutputCommit, LogError>,
) -> Result<(), LogError> {
    let mut log = match read::read(&access.store).await? {
        Some(recovered) => JobLog::resume(access.clone(), recovered),
        None => JobLog::begin(access.clone(), start_record(random)).await?,
    };
    log.take_over(0, true).await?;
    log.claim_outputs(false).await?;
    log.publish_pending().await?;
    log.note_published().await?;
    log.collect_staging().await?;
    check_snapshot(&log).await?;
    while let Some(ranges) = next_ranges(&log, random) {
        let attempt = log.begin_attempt();
        let written = write(&mut log, attempt, &ranges).await?;
        let commit = commit(&log, attempt, ranges, written, random).await?;
        log.commit(commit).await?;
        log.publish_pending().await?;
        if random.one_in(2) {
            log.note_published().await?;
        }
        log.maintain(RECORDS_PER_BASE).await?;
    }
    log.note_published().await
}

fn start_record(random: &mut Random) -> Start {
    Start {
        log_id: format!("{:08x}-simulated", random.next() as u32),
        namespace: "local".to_owned(),
        job: "job".to_owned(),
        cluster_id: "c".to_owned(),
        topics: BTreeMap::from([(TOPIC.to_owned(), "id".to_owned())]),
        offsets: Partitions::of(TOPIC, (0..PARTITIONS).map(|partition| (partition, 0))),
        plan: Plan { outputs: BTreeMap::from([(OUTPUT.to_owned(), OUTPUT.to_owned())]), ..Plan::default() },
        clock: 0,
        program: "simulation".to_owned(),
    }
}

/// A cut of its own choice, so that a batch that is done again is cut differently.
fn next_ranges(log: &JobLog, random: &mut Random) -> Option<BTreeMap<i32, Range>> {
    let known = &log.state().partitions[TOPIC];
    let left = known.iter().filter(|(_, state)| state.position < RECORDS_PER_PARTITION);
    let mut ranges = BTreeMap::new();
    for (partition, state) in left {
        let start = state.position;
        let records = 1 + random.below(9).min((RECORDS_PER_PARTITION - start) as u64 - 1);
        ranges.insert(*partition, Range { start, end: start + records as i64, records, ..Range::default() });
    }
    if ranges.is_empty() { None } else { Some(ranges) }
}

async fn write_lines(
    log: &mut JobLog,
    attempt: Attempt,
    ranges: &BTreeMap<i32, Range>,
) -> Result<OutputCommit, LogError> {
    let output = log.output(OUTPUT)?;
    let output = output.files().expect("a table");
    let mut files = Vec::new();
    for (number, (partition, range)) in ranges.iter().enumerate() {
        let stage =
            paths::staged_file(&log.state().start.log_id, attempt.epoch, attempt.version, attempt.number, number);
        let mut file = output.stage(&stage).await?;
        for offset in range.start..range.end {
            file.write(Bytes::from(format!("{partition}/{offset}\n"))).await?;
        }
        file.write(Bytes::from_static(b"end\n")).await?;
        let facts = file.finish().await?;
        let path = paths::final_file("job", &log.state().start.log_id, attempt.version, number, paths::PARQUET);
        files.push(FileCommit { stage, path, bytes: facts.bytes, xxh3: facts.xxh3, rows: range.records });
    }
    Ok(OutputCommit { root: OUTPUT.to_owned(), files, ..OutputCommit::default() })
}

async fn commit(
    log: &JobLog,
    attempt: Attempt,
    ranges: BTreeMap<i32, Range>,
    written: OutputCommit,
    random: &mut Random,
) -> Result<Commit, LogError> {
    let state = if random.one_in(2) { Some(vec![write_state(log, attempt).await?]) } else { None };
    Ok(Commit {
        partitions: Partitions::of(TOPIC, ranges),
        outputs: BTreeMap::from([(OUTPUT.to_owned(), written)]),
        replay_from: Some(ReplayFrom { version: attempt.version.saturating_sub(3), ..ReplayFrom::default() }),
        state,
        ..Commit::default()
    })
}

async fn write_state(log: &JobLog, attempt: Attempt) -> Result<StateObject, LogError> {
    let path = paths::state_object(attempt.version, attempt.epoch, attempt.number, 0);
    let mut file = log.store().stage(&path).await?;
    file.write(Bytes::from(format!("state of {}", attempt.version))).await?;
    let facts = file.finish().await?;
    Ok(StateObject {
        output: OUTPUT.to_owned(),
        part: 0,
        first_version: 0,
        path,
        bytes: facts.bytes,
        xxh3: facts.xxh3,
        ..StateObject::default()
    })
}

/// The state that the log names must be there, whatever was collected; unless the log has gone on without us.
async fn check_snapshot(log: &JobLog) -> Result<(), LogError> {
    for object in log.state().snapshot.iter().flat_map(|snapshot| &snapshot.objects) {
        let content = log.store().get(&object.path).await?;
        let found = content.map(|content| checksum(&content));
        if found.as_deref() != Some(object.xxh3.as_str()) {
            let now = read::read(log.store()).await?.map(|recovered| recovered.state.version);
            if now > Some(log.state().version) {
                return Err(LogError::Reload { version: log.state().version + 1 });
            }
            return Err(LogError::FileLost { path: object.path.clone(), version: log.state().version });
        }
    }
    Ok(())
}

/// What a plain reader finds: every record at most once, in whole files; and what `_progress.json` promises is there.
pub(super) fn read_output(disk: &Disk) -> Result<BTreeSet<String>, String> {
    let mut rows = BTreeSet::new();
    let mut versions = BTreeSet::new();
    let mut progress = None;
    for (path, content) in disk.read_folder(OUTPUT) {
        let text = String::from_utf8_lossy(&content).into_owned();
        if path.ends_with(".parquet") {
            let whole = text.strip_suffix("end\n").ok_or_else(|| format!("{path} is torn"))?;
            for row in whole.lines() {
                if !rows.insert(row.to_owned()) {
                    return Err(format!("{row} is there twice, the second time in {path}"));
                }
            }
            versions.insert(path.rsplit('-').nth(1).and_then(|v| v.parse::<u64>().ok()).ok_or("a foreign file")?);
        } else {
            return Err(format!("{path} lies in the table's folder and is no part of the table"));
        }
    }
    for (path, content) in disk.read_folder(&format!("{}/{OUTPUT}", paths::BESIDE)) {
        if path.ends_with("/progress.json") {
            progress = serde_json::from_slice::<Progress>(&content).ok();
        }
    }
    // Every commit of this simulation has files: a published version without one is a lost commit. Below a base lie only
    // records that nobody reads: a zombie's, for the moment until it withdraws it.
    let newest_base = disk.read_folder("job/base").iter().filter_map(|(path, _)| paths::version_of(path)).max();
    if let Some(progress) = progress {
        let committed = disk.read_folder("job/log");
        for (path, content) in committed {
            let version = paths::version_of(&path).ok_or("a foreign record")?;
            let is_commit = String::from_utf8_lossy(&content).contains("\"commit\"");
            let is_read = newest_base.is_none_or(|base| version > base);
            if is_commit && is_read && version <= progress.published && !versions.contains(&version) {
                return Err(format!("version {version} is missing although {} is published", progress.published));
            }
        }
    }
    Ok(rows)
}

#[test]
fn no_schedule_of_crashes_and_faults_loses_or_doubles_a_record() {
    assert_no_schedule_breaks::<StreamingJob>();
}

/// Without each of these guards some seed must show a wrong result: the simulation can see the bug.
#[test]
fn without_a_guard_some_schedule_shows_a_wrong_result() {
    assert_guards_matter::<StreamingJob>(&[Guard::Fence, Guard::BaseCheck, Guard::Staging, Guard::DurabilityOrder]);
}

/// The disk after one process that nothing disturbed.
fn undisturbed(seed: u64) -> Rc<RefCell<Disk>> {
    let world = World::new(seed, 0, None);
    let mut process = StreamingJob::run(world.clone(), 1, "pod".to_owned());
    while poll(&mut process).is_none() {}
    world.disk
}

#[test]
fn a_damaged_base_is_gone_around_and_a_damaged_record_is_a_clear_stop() {
    for seed in 0..50 {
        let disk = undisturbed(seed);
        let versions = |folder: &str| -> Vec<String> {
            disk.borrow().read_folder(folder).into_iter().map(|(path, _)| path).collect()
        };
        let bases = versions("job/base");
        assert!(disk.borrow_mut().damage(bases.last().unwrap()));
        let store: SharedStore = SimulatedStore::open(&disk, "job");
        let mut again: Process = Box::pin(async move {
            let recovered = read::read(&store).await.map_err(|e| e.to_string())?.expect("there is a log");
            assert_eq!(recovered.damaged_bases.len(), 1);
            Ok(End::Finished)
        });
        while poll(&mut again).is_none() {}
        let records = versions("job/log");
        assert!(disk.borrow_mut().damage(records.last().unwrap()));
        let store: SharedStore = SimulatedStore::open(&disk, "job");
        let mut stopped: Process = Box::pin(async move {
            let error = read::read(&store).await.expect_err("a damaged record must stop");
            assert!(matches!(error, LogError::Unreadable { .. }), "{error}");
            Ok(End::Finished)
        });
        while poll(&mut stopped).is_none() {}
    }
}

#[test]
fn two_bases_and_the_records_after_the_older_one_are_all_that_stays() {
    let disk = undisturbed(7);
    let disk = disk.borrow();
    let versions = |folder: &str| -> Vec<u64> {
        disk.read_folder(folder).iter().filter_map(|(path, _)| paths::version_of(path)).collect()
    };
    let (bases, records) = (versions("job/base"), versions("job/log"));
    assert_eq!(bases.len(), 2);
    assert_eq!(records.first(), Some(&(bases[0] + 1)));
    assert!(decide::garbage_versions(&bases, &records).1.is_empty());
    let staged = disk.read_folder("_dataplatform/out/staging");
    assert!(staged.is_empty(), "{staged:?}");
}
