//! One simulated world: a disk, topics, a clock, and the processes of one job.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use data_platform_crds::check::Manifest;

use super::scenario::{DELAY, Outcome, Scenario, Seen, Sent};
use super::tables;
use crate::checkpoint::decide::Candidate;
use crate::checkpoint::log::read;
use crate::checkpoint::record::Rank;
use crate::clock::{Clock, ManualClock};
use crate::config::job::{PlannedJob, RunOptions};
use crate::config::{JobSource, Loaded, load_in_pod};
use crate::counters::Counters;
use crate::faults::NoFaults;
use crate::pipeline::error::{JobError, Retry};
use crate::pipeline::memory::MemoryBudget;
use crate::pipeline::status::SharedStatus;
use crate::pipeline::streaming::{Ended, Environment, RunMode, StreamingJob};
use crate::random::Random;
use crate::source::kafka::config::Secrets;
use crate::source::memory::{MemoryCluster, MemoryRecord};
use crate::stop::StopSignal;
use crate::storage::SharedStore;
use crate::storage::location::Location;
use crate::storage::simulated::{Disk, SimulatedStore};

/// Dead letters that are rows of a result, and the partition and offset of those of late records.
type Letters = (Vec<String>, BTreeSet<(i64, i64)>);

/// 2026-02-16 14:00 UTC.
const BEGIN: i64 = 1_771_250_400_000_000;
/// More than any undisturbed run needs.
const STEPS_MAX: usize = 100_000;

const OUTPUTS: &str = "simulated://disk/outputs";
const CHECKPOINTS: &str = "simulated://disk/checkpoints";

/// What happened in simulations.
#[derive(Clone, Debug, Default)]
pub(super) struct Story {
    pub(super) process_crashes: u64,
    pub(super) machine_crashes: u64,
    pub(super) lost_replies: u64,
    pub(super) failures: u64,
    pub(super) damaged_states: u64,
    pub(super) leaders_lost: u64,
    pub(super) fenced: u64,
    pub(super) late: u64,
    pub(super) rows: u64,
    /// What the scenarios are there for.
    pub(super) seen: Seen,
    /// Which operations the processes did, in order.
    pub(super) trace: Vec<String>,
}

impl Story {
    pub(super) fn add(&mut self, other: &Self) {
        self.process_crashes += other.process_crashes;
        self.machine_crashes += other.machine_crashes;
        self.lost_replies += other.lost_replies;
        self.failures += other.failures;
        self.damaged_states += other.damaged_states;
        self.leaders_lost += other.leaders_lost;
        self.fenced += other.fenced;
        self.late += other.late;
        self.rows += other.rows;
        for (what, times) in &other.seen {
            *self.seen.entry(what).or_default() += times;
        }
    }
}

type Process = Pin<Box<dyn Future<Output = Result<Ended, JobError>>>>;

/// Polls a future of this world once; nothing in it waits for anybody else.
fn poll<T>(future: &mut Pin<Box<dyn Future<Output = T> + '_>>) -> Option<T> {
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// A world.
pub(super) struct World<'a> {
    scenario: &'a Scenario,
    random: Random,
    disk: Rc<RefCell<Disk>>,
    cluster: MemoryCluster,
    clock: Arc<ManualClock>,
    planned: Rc<PlannedJob>,
    /// The job is what it becomes.
    changed: bool,
    sent: Vec<Sent>,
    started: i64,
    /// Disturbances that are left.
    disturbances: u64,
    story: Story,
}

thread_local! {
    /// Planning takes longer than a simulation. One for each thread, since a plan holds the clock that its query reads.
    static PLANNED: RefCell<BTreeMap<&'static str, Rc<PlannedJob>>> = const { RefCell::new(BTreeMap::new()) };
}

fn planned(yaml: &'static str) -> Rc<PlannedJob> {
    let plan = || {
        let manifest = Manifest::read(yaml).expect("the YAML of a scenario is right").remove(0);
        let loaded = load_in_pod("scenario", manifest, &JobSource::default()).expect("a scenario is valid");
        let Loaded::Streaming(loaded) = loaded else { panic!("a scenario is a streaming job") };
        Rc::new(
            PlannedJob::new(*loaded, &Location::parse(OUTPUTS).unwrap())
                .expect("the query of a scenario can be planned"),
        )
    };
    PLANNED.with_borrow_mut(|known| Rc::clone(known.entry(yaml).or_insert_with(plan)))
}

impl<'a> World<'a> {
    pub(super) fn new(scenario: &'a Scenario, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let disk = Disk::new(seed, [0, 60, 25][random.below(3) as usize], true);
        disk.borrow_mut().keep_trace();
        Disk::mount(&disk);
        let cluster = MemoryCluster::default();
        for topic in scenario.topics {
            cluster.create(topic.name, topic.partitions);
        }
        Self {
            scenario,
            disturbances: 2 + random.below(8),
            random,
            disk,
            cluster,
            clock: Arc::new(ManualClock::at(BEGIN)),
            planned: planned(scenario.yaml),
            changed: false,
            sent: Vec::new(),
            started: 0,
            story: Story::default(),
        }
    }

    /// Records come and processes run, crash and run again.
    pub(super) fn live(&mut self) -> Result<(), String> {
        for round in 0..3 + self.random.below(4) {
            if let Some(yaml) = self.scenario.becomes.filter(|_| round > 0 && !self.changed && self.random.one_in(2)) {
                (self.planned, self.changed) = (planned(yaml), true);
            }
            self.send();
            self.run_to_end(RunMode::TestMode)?;
            if self.disturbances > 0 && self.random.one_in(4) {
                self.damage_state();
            }
            if self.random.one_in(3) {
                self.clock.advance(Duration::from_secs(self.random.below(60)));
            }
        }
        Ok(())
    }

    /// The job is drained, the machine stops once more, and everything is looked at.
    pub(super) fn finish(mut self) -> Result<Story, String> {
        self.disturbances = 0;
        self.run_to_end(RunMode::Drain)?;
        self.disk.borrow_mut().crash();
        let totals = self.totals()?;
        let mut tables = BTreeMap::new();
        for table in self.scenario.tables {
            tables.insert(*table, tables::read(&self.disk.borrow(), &format!("{OUTPUTS}/{table}"))?);
        }
        self.story.late = totals.outputs.values().map(|output| output.late).sum();
        self.story.rows = tables.values().map(|rows| rows.len() as u64).sum();
        let (row_letters, late_letters) = self.check_dead_letters()?;
        let (row_letters, late_letters) = (&row_letters[..], &late_letters);
        let outcome = Outcome { sent: &self.sent, tables, totals: &totals, row_letters, late_letters };
        self.story.seen = (self.scenario.check)(&outcome)?;
        let injected = self.disk.borrow().injected.clone();
        self.story.lost_replies = injected.lost_replies;
        self.story.failures = injected.failures;
        self.story.trace = self.disk.borrow_mut().take_trace();
        Ok(self.story)
    }

    fn send(&mut self) {
        for _ in 0..10 + self.random.below(60) {
            self.clock.advance(Duration::from_millis(self.random.below(1_500)));
            self.send_one();
        }
        if self.random.one_in(5) {
            let topic = self.scenario.topic(&mut self.random);
            let partition = self.random.below(topic.partitions.unsigned_abs().into()) as i32;
            let there = self.sent.iter().filter(|sent| (sent.topic, sent.partition) == (topic.name, partition));
            let offset = there.map(|sent| sent.offset).max().unwrap_or(0);
            self.cluster.lose_leader_at(topic.name, partition, offset - self.random.below(10) as i64);
            self.story.leaders_lost += 1;
        }
    }

    /// A record, or a tombstone, sometimes behind a gap.
    fn send_one(&mut self) {
        let topic = self.scenario.topic(&mut self.random);
        // A partition that is quiet for long.
        let quiet = (self.started % 4) as i32;
        let partition = self.random.below(topic.partitions.unsigned_abs().into()) as i32;
        let partition = if partition == quiet { (partition + 1) % topic.partitions } else { partition };
        if self.random.one_in(15) {
            self.cluster.append_gap(topic.name, partition, 1 + self.random.below(3) as i64);
        }
        let now = self.clock.now();
        if self.random.one_in(30) {
            let tombstone = MemoryRecord { timestamp_ms: Some(now / 1_000), key: None, value: None };
            self.cluster.append(topic.name, partition, tombstone);
            return;
        }
        let time = self.scenario.event_time(&mut self.random, now);
        let (key, value) = (Scenario::key(&mut self.random), self.random.below(9) as i64);
        let bad = self.random.one_in(20);
        let id = self.sent.len();
        let (topic_name, after_change) = (topic.name, self.changed);
        let mut sent = Sent { topic: topic_name, partition, offset: 0, time, key, value, bad, after_change, id };
        if self.scenario.has_repeated && self.random.one_in(3) {
            self.send_again(&mut sent, now);
        }
        let Sent { time, key, value, id, .. } = sent;
        let [ts, k, v] = topic.fields;
        let ts = if bad { "at" } else { ts };
        let text = format!(r#"{{"{ts}":{},"{k}":"{key}","{v}":{value},"id":{id}}}"#, time / 1_000);
        let record = MemoryRecord { timestamp_ms: Some(now / 1_000), ..MemoryRecord::of(text) };
        let offset = self.cluster.append(topic.name, partition, record).expect("the partition is there");
        self.sent.push(Sent { offset, ..sent });
    }

    /// Makes a record one that was sent before and would still be in time.
    fn send_again(&mut self, record: &mut Sent, now: i64) {
        let is_young = |sent: &&Sent| !sent.bad && sent.time > now - DELAY;
        let young: Vec<&Sent> = self.sent.iter().filter(is_young).collect();
        if young.is_empty() {
            return;
        }
        let again = young[self.random.below(young.len() as u64) as usize].clone();
        *record = Sent { partition: record.partition, bad: record.bad, ..again };
    }

    /// Runs processes until one has done all, through crashes.
    fn run_to_end(&mut self, mode: RunMode) -> Result<(), String> {
        let mut process = self.start(mode);
        let mut zombie: Option<Process> = None;
        for _ in 0..STEPS_MAX {
            if self.disturbances == 0 {
                self.disk.borrow_mut().fault_one_in = 0;
            }
            if self.random.one_in(400) {
                self.cluster.heal();
            }
            self.disk.borrow_mut().running = self.started as u64;
            match poll(&mut process) {
                Some(Ok(_)) => return self.wake(zombie),
                Some(Err(error)) => return Err(error.in_full()),
                None => {}
            }
            if self.disturbances == 0 || !self.random.one_in(150) {
                continue;
            }
            self.disturbances -= 1;
            match self.random.below(3) {
                0 => {
                    self.story.machine_crashes += 1;
                    zombie = None;
                    drop(process);
                    self.disk.borrow_mut().crash();
                }
                // It sleeps, and wakes up when another has taken its place.
                1 if zombie.is_none() => zombie = Some(process),
                _ => {
                    self.story.process_crashes += 1;
                    drop(process);
                }
            }
            process = self.start(mode);
        }
        Err(format!("no end after {STEPS_MAX} steps"))
    }

    /// A process that slept goes on: it must find that it is no longer the owner, or that nothing is left.
    fn wake(&mut self, zombie: Option<Process>) -> Result<(), String> {
        let Some(mut zombie) = zombie else { return Ok(()) };
        for _ in 0..STEPS_MAX {
            match poll(&mut zombie) {
                Some(Ok(_)) => return Ok(()),
                Some(Err(error)) if error.retry == Retry::Fenced => {
                    self.story.fenced += 1;
                    return Ok(());
                }
                Some(Err(error)) => return Err(format!("a process that slept: {}", error.in_full())),
                None => {}
            }
        }
        Err(format!("a process that slept: no end after {STEPS_MAX} steps"))
    }

    fn start(&mut self, mode: RunMode) -> Process {
        self.started += 1;
        let number = self.started;
        let (owner, pod) = (format!("owner-{number}"), format!("pod-{number}"));
        let candidate = Candidate { owner, rank: Rank::default(), pod, place: format!("process {number}") };
        let place = |text: &str| Location::parse(text).expect("a URL");
        let options = RunOptions {
            namespace: "local".to_owned(),
            outputs: place(OUTPUTS),
            checkpoints: place(CHECKPOINTS),
            bootstrap_servers: None,
            starting_offsets: None,
            mode,
            new_log: false,
            reset_breaker: false,
            candidate,
            restart: None,
            // What the process that runs the tests uses does not matter.
            memory: MemoryBudget::of(1 << 50),
            stay_up: false,
            patience: Duration::MAX,
            lock: false,
            records_per_base: 6,
            secrets: Secrets::new(PathBuf::from("none")),
        };
        let mut settings = self.planned.settings(&options).expect("a scenario has settings");
        settings.records_max = 3 + self.random.below(40) as i64;
        let (cluster, clock, seed) = (self.cluster.clone(), Arc::clone(&self.clock), self.random.next());
        let topics: Vec<&str> = self.scenario.topics.iter().map(|topic| topic.name).collect();
        let stop = {
            let (cluster, clock) = (cluster.clone(), Arc::clone(&clock));
            StopSignal::with_wait(move |time| {
                // Whoever waits sees the clock go on and leaders come back.
                clock.advance(time);
                cluster.heal();
            })
        };
        let environment = Environment {
            clock,
            faults: Arc::new(NoFaults),
            status: SharedStatus::default(),
            stop,
            make_source: Box::new(move || Ok(Box::new(cluster.source(&topics, seed)))),
            observe: Box::new(|_, _| ()),
            after_reading: Box::new(|_| ()),
            before_pause: Box::new(|_| ()),
            secrets_changed: Box::new(|| false),
        };
        Box::pin(async move { StreamingJob::new(settings, environment).run().await })
    }

    /// Damages an object of the state, or removes it: state is a cache.
    fn damage_state(&mut self) {
        let mut disk = self.disk.borrow_mut();
        let is_state = |path: &String| path.contains("/state/");
        let states: Vec<String> =
            disk.read_folder(CHECKPOINTS).into_iter().map(|(path, _)| path).filter(is_state).collect();
        if states.is_empty() {
            return;
        }
        let chosen = &states[self.random.below(states.len() as u64) as usize];
        assert!(disk.damage(chosen));
        self.story.damaged_states += 1;
    }

    fn totals(&self) -> Result<Counters, String> {
        let root = format!("{CHECKPOINTS}/local/{}", self.planned.checkpoint());
        let store: SharedStore = SimulatedStore::open(&self.disk, &root);
        let mut reading: Pin<Box<dyn Future<Output = _> + '_>> = Box::pin(read::read(&store));
        loop {
            if let Some(read) = poll(&mut reading) {
                let read = read.map_err(|error| error.to_string())?;
                return read.map(|read| read.state.totals).ok_or_else(|| "the log is gone".to_owned());
            }
        }
    }

    /// Every record that is bad or refused is a dead letter once, and no other but late ones. Gives those that
    /// are rows of the result, and the late ones.
    fn check_dead_letters(&self) -> Result<Letters, String> {
        let table = self.scenario.tables[0];
        let rows = tables::read(&self.disk.borrow(), &format!("{OUTPUTS}/{table}_dead_letters"))?;
        let place = |sent: &Sent| (sent.topic.to_owned(), i64::from(sent.partition), sent.offset);
        let expected: BTreeSet<_> =
            self.sent.iter().filter(|sent| sent.bad || (self.scenario.refuses)(sent)).map(place).collect();
        let (mut found, mut late, mut row_letters) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        for row in &rows {
            if row.number("offset")? < 0 {
                row_letters.push(row.text("value")?.to_owned());
                continue;
            }
            let place = (row.text("topic")?.to_owned(), row.number("partition")?, row.number("offset")?);
            let is_new = match row.text("reason")? {
                "late" => late.insert((place.1, place.2)),
                _ => found.insert(place.clone()),
            };
            if !is_new {
                return Err(format!("the dead letter {place:?} is there twice"));
            }
        }
        if expected == found {
            return Ok((row_letters, late));
        }
        Err(format!("dead letters {found:?} instead of {expected:?}"))
    }
}
