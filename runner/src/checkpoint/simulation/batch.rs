//! A batch job under chaos: several runs that all think it is their turn. Every hour is there in the end, once, and no file
//! ever goes back to an older decision; of a job that replaces its whole table the last hour, alone.

use super::*;
use crate::checkpoint::record::FileCommit;
use crate::pipeline::batch::interval::{Covered, Grid, Interval};
use crate::pipeline::batch::log::{BASES, BatchLog, Own, RECORDS, Record, Replace, Start, State, Written};
use crate::pipeline::batch::replace;
use crate::pipeline::error::{JobError, Retry};

/// The tables of the job: an hour is decided for both at once.
const OUTPUTS: [&str; 2] = [OUTPUT, "second"];
const HOURS: i64 = 12;
/// Hours that runs without disturbances add: enough for two bases, so that they remove what was left over.
const QUIET_HOURS: i64 = 8;
const HOUR: i64 = 3_600_000_000;

/// A job that replaces its hours, or its whole table by each of them, and what was seen of it so far.
#[derive(Default)]
struct BatchJob<const WHOLE: bool> {
    /// By which record each file of each table was decided.
    files: BTreeMap<(&'static str, String), u64>,
    finished: Covered,
}

impl<const WHOLE: bool> Job for BatchJob<WHOLE> {
    type Log = State;

    fn run(world: World, number: u64, _: String) -> Process {
        Box::pin(run_process(Run { world, number, whole: WHOLE }))
    }

    fn look(&mut self, disk: &Disk, log: Option<&State>) -> Result<(), String> {
        if let Some(state) = log {
            let mut known = self.finished.stretches().iter();
            let is_lost = |known: &&Interval| match WHOLE {
                true => state.finished.stretches().last().is_none_or(|last| last.end < known.end),
                false => !state.finished.contains(**known),
            };
            if let Some(lost) = known.find(is_lost) {
                return Err(format!("{lost:?} was finished, and is not any more"));
            }
            self.finished.clone_from(&state.finished);
        }
        let found = |output| disk.read_folder(output).into_iter().map(move |(path, content)| (output, path, content));
        for (output, path, content) in OUTPUTS.into_iter().flat_map(found) {
            if !path.ends_with(".parquet") {
                continue;
            }
            let text = String::from_utf8_lossy(&content).into_owned();
            let whole = text.strip_suffix("end\n").ok_or_else(|| format!("{path} is torn"))?;
            let version: u64 = whole.split(' ').next().and_then(|v| v.parse().ok()).ok_or("a foreign file")?;
            let name = path.rsplit('/').next().unwrap_or_default().to_owned();
            match self.files.insert((output, name), version) {
                Some(before) if before > version => {
                    return Err(format!(
                        "{path} of {output} was that of record {before} and is that of {version} again"
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The log has not grown without end.
    fn settled(&self, disk: &Disk) -> Result<(), String> {
        let versions = |folder: &str| -> Vec<u64> {
            disk.read_folder(&format!("job/{folder}")).iter().filter_map(|(path, _)| paths::version_of(path)).collect()
        };
        let (bases, records) = (versions(BASES), versions(RECORDS));
        let kept = bases.first().copied().unwrap_or_default();
        if bases.len() != 2 || records.iter().any(|version| *version < kept) || records.len() > 12 {
            return Err(format!("old records are not removed: bases {bases:?}, records {records:?}"));
        }
        Ok(())
    }

    /// Every hour is there, or the last one, in both tables by one decision.
    fn finish(&mut self, _: &Disk) -> Result<(), String> {
        let hours = HOURS + QUIET_HOURS;
        let begin = if WHOLE { hours - 1 } else { 0 };
        let expected = Interval { start: begin * HOUR, end: hours * HOUR };
        let of = |output| {
            self.files.iter().filter(move |((table, _), _)| *table == output).map(|((_, path), by)| (path, by))
        };
        if !of(OUTPUTS[0]).eq(of(OUTPUTS[1])) {
            return Err(format!("the two tables are not of one decision each hour: {:?}", self.files));
        }
        if self.files.len() as i64 != 2 * (hours - begin) || self.finished.stretches() != [expected] {
            return Err(format!("{:?} and {:?} are not those of {expected:?}", self.files, self.finished));
        }
        Ok(())
    }
}

/// A process of the job.
struct Run {
    world: World,
    number: u64,
    /// An hour replaces the whole table.
    whole: bool,
}

impl Run {
    /// The hour that is processed next.
    fn next(&self, log: &BatchLog) -> Option<Interval> {
        let hours = if self.world.is_quiet.get() { HOURS + QUIET_HOURS } else { HOURS };
        let finished = &log.state.finished;
        let newest = finished.stretches().last().map_or(0, |last| last.end);
        let from = if self.whole { newest } else { 0 };
        Grid::Hour.between(from, hours * HOUR).find(|hour| !finished.contains(*hour))
    }
}

/// One pod: runs until every hour is finished, and starts again from the log after an error that may pass.
async fn run_process(run: Run) -> Result<End, String> {
    let number = run.number;
    loop {
        match run_once(&run).await {
            Ok(true) => return Ok(End::Finished),
            Err(error) if error.retry == Retry::Fenced => return Ok(End::Fenced),
            Err(error) if error.retry == Retry::AfterChange => {
                return Err(format!("run {number}: {}", error.in_full()));
            }
            Ok(false) | Err(_) => pause().await,
        }
    }
}

/// One run; whether it came to its end.
async fn run_once(run: &Run) -> Result<bool, JobError> {
    let Run { world, number, .. } = run;
    let store: SharedStore = SimulatedStore::open(&world.disk, "job");
    let outputs = OUTPUTS.map(|output| -> SharedStore { SimulatedStore::open(&world.disk, output) });
    let faults = world.faults();
    let log = match BatchLog::read(store.clone()).await? {
        Some(log) => Some(log),
        None => BatchLog::begin(store, start(), &*faults).await?,
    };
    let Some(mut log) = log else { return Ok(false) };
    // It never waits: whoever comes thinks that the one before it is dead.
    let (owner, place) = (format!("owner-{number}"), format!("run {number}"));
    if !log.own(Own { epoch: 0, owner, place, rank: 0, run: None, clock: 0 }, &*faults).await? {
        return Ok(false);
    }
    for output in &outputs {
        replace::claim(&log, output, false, &*faults).await?;
    }
    replace::publish(&mut log, &outputs, &[], &faults).await?;
    for output in &outputs {
        replace::collect_staging(&log, output, &*faults).await?;
    }
    log.compact(RECORDS_PER_BASE, &*faults).await?;
    while let Some(hour) = run.next(&log) {
        process(&mut log, &outputs, run, hour, &*faults).await?;
        replace::publish(&mut log, &outputs, &[], &faults).await?;
        log.compact(RECORDS_PER_BASE, &*faults).await?;
    }
    let epoch = log.epoch();
    log.add(Record::Release { epoch }, &*faults).await?;
    Ok(run.next(&log).is_none())
}

fn start() -> Start {
    Start {
        log_id: "12345678-simulated".to_owned(),
        namespace: "local".to_owned(),
        job: "job".to_owned(),
        grid: Grid::Hour,
        clock: 0,
        program: "simulation".to_owned(),
    }
}

/// Decides one hour: its files say by which record.
async fn process(
    log: &mut BatchLog,
    outputs: &[SharedStore],
    run: &Run,
    interval: Interval,
    faults: &dyn Faults,
) -> Result<(), JobError> {
    let version = log.state.version + 1;
    let mut written = Vec::new();
    for (output, number) in outputs.iter().zip(0..) {
        let stage = paths::staged_file(&log.state.start.log_id, log.epoch(), version, run.number, number);
        let mut file = output.stage(&stage).await?;
        file.write(Bytes::from(format!("{version} of epoch {}\n", log.epoch()))).await?;
        file.write(Bytes::from_static(b"end\n")).await?;
        let facts = file.finish().await?;
        let path = match run.whole {
            true => "job.parquet".to_owned(),
            false => format!("job-{}.parquet", Grid::Hour.name(interval)),
        };
        let file = FileCommit { stage: stage.clone(), path, bytes: facts.bytes, xxh3: facts.xxh3, rows: 1 };
        output.sync_entries(&[stage]).await?;
        written.push(Written { root: output.root().to_owned(), files: vec![file], rows: 1 });
    }
    let others = written.split_off(1);
    let epoch = log.epoch();
    let record = Replace {
        epoch,
        interval,
        due: true,
        since: None,
        backfill: None,
        reads: [].into(),
        whole: run.whole,
        first: written.remove(0),
        others,
        fingerprint: "f".to_owned(),
        clock: 0,
    };
    log.add(Record::Replace(record), faults).await
}

#[test]
fn no_schedule_of_runs_crashes_and_faults_loses_an_hour_or_the_log() {
    assert_no_schedule_breaks::<BatchJob<false>>();
}

#[test]
fn no_schedule_of_runs_crashes_and_faults_tears_a_whole_table_or_brings_an_older_one_back() {
    assert_no_schedule_breaks::<BatchJob<true>>();
}

/// Without each of these guards some seed must show a wrong result: the simulation can see the bug.
#[test]
fn without_a_guard_some_schedule_shows_a_wrong_interval() {
    assert_guards_matter::<BatchJob<false>>(&[Guard::Fence, Guard::BaseCheck, Guard::DurabilityOrder]);
    assert_guards_matter::<BatchJob<true>>(&[Guard::Fence, Guard::BaseCheck, Guard::DurabilityOrder]);
}
