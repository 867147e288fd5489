//! The commit protocol under seeded chaos: several processes on one simulated disk, crashes of processes and of the
//! machine at every pause, lost replies, failures, sleepers that wake up late, damaged state. Readers look after every step.
//!
//! `DATA_PLATFORM_SIMULATION_SEEDS` sets the number of seeds (default 1,000), `SIMULATION_SEED` runs a single one.

mod owners;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use crate::checkpoint::decide::{self, Candidate};
use crate::checkpoint::log::{JobLog, LogAccess, LogError, read};
use crate::checkpoint::output::files::Files;
use crate::checkpoint::progress::Progress;
use crate::checkpoint::record::{Commit, FileCommit, OutputCommit, Plan, Rank, ReplayFrom, Start, StateObject};
use crate::faults::{Faults, Guard, Moment, Step};
use crate::offsets::{Partitions, Range};
use crate::random::Random;
use crate::storage::checksum::checksum;
use crate::storage::simulated::{Disk, Injected, SimulatedStore, pause};
use crate::storage::{SharedStore, paths};

const OUTPUT: &str = "out";
const TOPIC: &str = "t";
const PARTITIONS: i32 = 2;
const RECORDS_PER_PARTITION: i64 = 30;
const RECORDS_PER_BASE: u64 = 4;
/// More than any undisturbed run needs.
const STEPS_MAX: usize = 400_000;

/// Takes one guard away, or none.
struct Without(Option<Guard>);

impl Faults for Without {
    fn reached(&self, _: Step, _: Moment) {}
    fn guard(&self, guard: Guard) -> bool {
        self.0 != Some(guard)
    }
    fn disk_delay(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Finished,
    Fenced,
}

/// One process: starts from the log, commits until everything is read, and starts again from the log after any error.
async fn run_process(
    disk: Rc<RefCell<Disk>>,
    number: u64,
    pod: String,
    without: Option<Guard>,
    seed: u64,
) -> Result<End, String> {
    let faults: Arc<dyn Faults> = Arc::new(Without(without));
    let outputs = Rc::clone(&disk);
    let of_outputs = Arc::clone(&faults);
    let open = move |root: &str| Ok(Files::shared(SimulatedStore::open(&outputs, root), Arc::clone(&of_outputs)));
    let (owner, place) = (format!("owner-{number}"), format!("process {number}"));
    let candidate = Candidate { owner, rank: Rank::default(), pod, place };
    let store: SharedStore = SimulatedStore::open(&disk, "job");
    let access = LogAccess::new(store, Rc::new(open), candidate, faults);
    // Names decide in which order a crash looks at files: a seed must give the same ones each time.
    access.attempts.set(number << 32);
    let mut random = Random::new(seed ^ number << 32);
    loop {
        match run_once(&access, &mut random).await {
            Ok(()) => return Ok(End::Finished),
            Err(LogError::Fenced { .. }) => return Ok(End::Fenced),
            Err(LogError::Reload { .. } | LogError::Store(_)) => pause().await,
            Err(error) => return Err(format!("process {number}: {error}")),
        }
    }
}

async fn run_once(access: &LogAccess, random: &mut Random) -> Result<(), LogError> {
    let mut log = match read::read(&access.store).await? {
        Some(recovered) => JobLog::resume(access.clone(), recovered),
        None => JobLog::begin(access.clone(), start_record(random)).await?,
    };
    log.take_over(0).await?;
    log.claim_outputs(false).await?;
    log.publish_pending().await?;
    log.note_published().await?;
    log.collect_staging().await?;
    check_snapshot(&log).await?;
    while let Some(ranges) = next_ranges(&log, random) {
        let commit = stage(&mut log, ranges, random).await?;
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
    let offsets = (0..PARTITIONS).map(|partition| (partition, 0)).collect();
    Start {
        log_id: format!("{:08x}-simulated", random.next() as u32),
        namespace: "local".to_owned(),
        job: "job".to_owned(),
        cluster_id: "c".to_owned(),
        topics: BTreeMap::from([(TOPIC.to_owned(), "id".to_owned())]),
        offsets: Partitions::from([(TOPIC.to_owned(), offsets)]),
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

async fn stage(log: &mut JobLog, ranges: BTreeMap<i32, Range>, random: &mut Random) -> Result<Commit, LogError> {
    let attempt = log.begin_attempt();
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
    let state = if random.one_in(2) { Some(vec![write_state(log, attempt).await?]) } else { None };
    Ok(Commit {
        partitions: Partitions::from([(TOPIC.to_owned(), ranges)]),
        outputs: BTreeMap::from([(
            OUTPUT.to_owned(),
            OutputCommit { root: OUTPUT.to_owned(), files, ..OutputCommit::default() },
        )]),
        replay_from: Some(ReplayFrom { version: attempt.version.saturating_sub(3), ..ReplayFrom::default() }),
        state,
        ..Commit::default()
    })
}

async fn write_state(log: &JobLog, attempt: crate::checkpoint::log::Attempt) -> Result<StateObject, LogError> {
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
fn read_output(disk: &Disk) -> Result<BTreeSet<String>, String> {
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

type Process = Pin<Box<dyn Future<Output = Result<End, String>>>>;

/// Polls a process once.
fn poll(process: &mut Process) -> Option<Result<End, String>> {
    match process.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(end) => Some(end),
        Poll::Pending => None,
    }
}

/// What happened in one simulation.
#[derive(Debug, Default)]
struct Story {
    process_crashes: u64,
    machine_crashes: u64,
    fenced: u64,
    injected: Injected,
}

/// Runs one seed to its end.
fn simulate(seed: u64, without: Option<Guard>) -> Result<Story, String> {
    let mut random = Random::new(seed);
    let syncs = without != Some(Guard::DurabilityOrder);
    let fault_one_in = [0, 40, 15][random.below(3) as usize];
    let disk = Disk::new(seed, fault_one_in, syncs);
    let mut story = Story::default();
    let mut processes: Vec<(u64, Process)> = Vec::new();
    let mut started = 0;
    let mut disturbances = 3 + random.below(12);
    for _ in 0..STEPS_MAX {
        let quiet = disturbances == 0;
        if quiet {
            disk.borrow_mut().fault_one_in = 0;
        }
        let wanted = if quiet { 1 } else { 1 + random.below(3) as usize };
        while processes.len() < wanted {
            started += 1;
            // A container that is started again is in the pod that it was in: sometimes a later pod has superseded that.
            let pod = if !quiet && random.one_in(4) { started / 2 } else { started };
            let process = run_process(Rc::clone(&disk), started as u64, format!("pod-{pod}"), without, seed);
            processes.push((started as u64, Box::pin(process)));
        }
        let chosen = random.below(processes.len() as u64) as usize;
        // A burst of steps: the others sleep meanwhile, past take-overs, bases and garbage collections.
        let burst_max = [2, 30, 600][random.below(3) as usize];
        for _ in 0..=random.below(burst_max) {
            disk.borrow_mut().running = processes[chosen].0;
            let ended = poll(&mut processes[chosen].1);
            read_output(&disk.borrow()).map_err(|problem| format!("seed {seed}: {problem}"))?;
            let Some(ended) = ended else { continue };
            let _ended = processes.swap_remove(chosen);
            match ended.map_err(|problem| format!("seed {seed}: {problem}"))? {
                End::Fenced => story.fenced += 1,
                End::Finished if quiet || processes.is_empty() => {
                    return finish(seed, &disk, story);
                }
                End::Finished => {}
            }
            break;
        }
        if quiet || !random.one_in(4) || processes.is_empty() {
            continue;
        }
        disturbances -= 1;
        if random.one_in(3) {
            story.machine_crashes += 1;
            processes.clear();
            disk.borrow_mut().crash();
            read_output(&disk.borrow()).map_err(|problem| format!("seed {seed}, after a crash: {problem}"))?;
        } else {
            story.process_crashes += 1;
            let victim = random.below(processes.len() as u64) as usize;
            let _crashed = processes.swap_remove(victim);
        }
    }
    Err(format!("seed {seed}: no end after {STEPS_MAX} steps"))
}

/// Everything was read: each record must be there exactly once, also after the machine stops now.
fn finish(seed: u64, disk: &Rc<RefCell<Disk>>, mut story: Story) -> Result<Story, String> {
    disk.borrow_mut().crash();
    let rows = read_output(&disk.borrow()).map_err(|problem| format!("seed {seed}, at the end: {problem}"))?;
    for partition in 0..PARTITIONS {
        for offset in 0..RECORDS_PER_PARTITION {
            if !rows.contains(&format!("{partition}/{offset}")) {
                return Err(format!("seed {seed}: {partition}/{offset} is lost"));
            }
        }
    }
    story.injected = disk.borrow().injected.clone();
    Ok(story)
}

fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    match number("SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("DATA_PLATFORM_SIMULATION_SEEDS").unwrap_or(1_000),
    }
}

#[test]
fn no_schedule_of_crashes_and_faults_loses_or_doubles_a_record() {
    let mut total = Story::default();
    let seeds = seeds();
    let many = seeds.end - seeds.start > 100;
    for seed in seeds {
        let story = simulate(seed, None).unwrap_or_else(|problem| panic!("{problem} (repeat: SIMULATION_SEED={seed})"));
        total.process_crashes += story.process_crashes;
        total.machine_crashes += story.machine_crashes;
        total.fenced += story.fenced;
        total.injected.lost_replies += story.injected.lost_replies;
        total.injected.failures += story.injected.failures;
        total.injected.forgotten += story.injected.forgotten;
    }
    println!("{total:?}");
    let Injected { lost_replies, failures, forgotten } = total.injected;
    let all = [total.process_crashes, total.machine_crashes, total.fenced, lost_replies, failures, forgotten];
    assert!(!many || all.iter().all(|number| *number > 100), "the faults did not happen: {total:?}");
}

/// Without each of these guards some seed must show a wrong result: the simulation can see the bug.
#[test]
fn without_a_guard_some_schedule_shows_a_wrong_result() {
    for guard in [Guard::Fence, Guard::BaseCheck, Guard::Staging, Guard::DurabilityOrder] {
        let seen = (0..2_000).find_map(|seed| simulate(seed, Some(guard)).err());
        let problem = seen.unwrap_or_else(|| panic!("nobody noticed that the guard {guard:?} was off"));
        println!("without {guard:?}: {problem}");
    }
}

#[test]
fn a_damaged_base_is_gone_around_and_a_damaged_record_is_a_clear_stop() {
    for seed in 0..50 {
        let disk = Disk::new(seed, 0, true);
        let mut process: Process = Box::pin(run_process(Rc::clone(&disk), 1, "pod".to_owned(), None, seed));
        while poll(&mut process).is_none() {}
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
    let disk = Disk::new(7, 0, true);
    let mut process: Process = Box::pin(run_process(Rc::clone(&disk), 1, "pod".to_owned(), None, 7));
    while poll(&mut process).is_none() {}
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
