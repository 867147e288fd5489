//! The commit protocol under seeded chaos: several processes on one simulated disk, crashes of processes and of the
//! machine at every pause, lost replies, failures, sleepers that wake up late, damaged state. Readers of the output and of
//! the log look after every step.
//!
//! It runs over the slot log with either fold, through the same schedules: [`streaming`] says what a process of a streaming
//! job does and what must come of it, [`batch`] the same of a batch job; in [`owners`] two jobs meet in one output.
//!
//! `DATA_PLATFORM_SIMULATION_SEEDS` sets the number of seeds (default 1,000), `SIMULATION_SEED` runs a single one.

mod batch;
mod delta;
mod owners;
mod streaming;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use crate::checkpoint::slot_log::{Fold, SlotLog};
use crate::checkpoint::survey::LogSurvey;
use crate::faults::{Faults, Guard, Moment, Step};
use crate::random::Random;
use crate::storage::simulated::{Disk, Injected, SimulatedStore, pause};
use crate::storage::{SharedStore, paths};

const OUTPUT: &str = "out";
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

type Process = Pin<Box<dyn Future<Output = Result<End, String>>>>;

/// Polls a process once.
fn poll<T>(process: &mut Pin<Box<dyn Future<Output = T>>>) -> Option<T> {
    match process.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(end) => Some(end),
        Poll::Pending => None,
    }
}

/// What the processes of a simulation share.
#[derive(Clone)]
struct World {
    seed: u64,
    disk: Rc<RefCell<Disk>>,
    without: Option<Guard>,
    /// Nothing disturbs them any more.
    is_quiet: Rc<Cell<bool>>,
}

impl World {
    fn new(seed: u64, fault_one_in: u64, without: Option<Guard>) -> Self {
        let disk = Disk::new(seed, fault_one_in, without != Some(Guard::DurabilityOrder));
        Self { seed, disk, without, is_quiet: Rc::default() }
    }

    fn faults(&self) -> Arc<dyn Faults> {
        Arc::new(Without(self.without))
    }

    fn quiet(&self) {
        self.is_quiet.set(true);
        self.disk.borrow_mut().fault_one_in = 0;
    }

    /// Does something on the disk while everybody else stands still and nothing fails.
    fn undisturbed<T>(&self, work: impl Future<Output = T> + 'static) -> T
    where
        T: 'static,
    {
        let one_in = std::mem::take(&mut self.disk.borrow_mut().fault_one_in);
        let mut work: Pin<Box<dyn Future<Output = T>>> = Box::pin(work);
        let done = loop {
            if let Some(done) = poll(&mut work) {
                break done;
            }
        };
        self.disk.borrow_mut().fault_one_in = one_in;
        done
    }
}

/// A job whose processes are simulated, and what its readers have seen so far.
trait Job: Default {
    /// What its log adds up to.
    type Log: Fold + PartialEq + 'static;

    /// One process, from its start to its end. Its log lies in `job`.
    fn run(world: World, number: u64, pod: String) -> Process;

    /// Looks at the output and the log between two steps: nothing is torn, nothing goes back.
    fn look(&mut self, disk: &Disk, log: Option<&Self::Log>) -> Result<(), String>;

    /// Everything was done, and nobody runs any more: what was to be removed is gone.
    fn settled(&self, _: &Disk) -> Result<(), String> {
        Ok(())
    }

    /// And now the machine has stopped once more: it must all be there.
    fn finish(&mut self, disk: &Disk) -> Result<(), String>;
}

/// What is seen from outside.
struct Onlooker<J: Job> {
    job: J,
    log: Option<J::Log>,
    /// Names of the log's objects when it was read.
    names: Vec<String>,
}

impl<J: Job> Onlooker<J> {
    fn new() -> Self {
        Self { job: J::default(), log: None, names: Vec::new() }
    }

    fn look(&mut self, world: &World) -> Result<(), String> {
        if !log_names::<J::Log>(&world.disk.borrow()).eq(&self.names) {
            self.names = log_names::<J::Log>(&world.disk.borrow()).cloned().collect();
            self.log = surveyed(world)?;
        }
        self.job.look(&world.disk.borrow(), self.log.as_ref())
    }

    /// What was not made durable may be as it was before.
    fn after_crash(world: &World) -> Result<Self, String> {
        let mut anew = Self::new();
        anew.look(world).map_err(|problem| format!("after a crash: {problem}"))?;
        Ok(anew)
    }
}

fn log_names<F: Fold>(disk: &Disk) -> impl Iterator<Item = &String> {
    [F::RECORDS, F::BASES].into_iter().flat_map(|folder| disk.names(&format!("job/{folder}")))
}

/// The log as those read it who only look.
fn surveyed<F: Fold + 'static>(world: &World) -> Result<Option<F>, String> {
    let store: SharedStore = SimulatedStore::open(&world.disk, "job");
    world.undisturbed(async move {
        let survey = LogSurvey::<F>::read(&store).await.map_err(|error| error.to_string())?;
        let head = survey.head();
        match head.damage {
            Some(damage) => Err(format!("the log cannot be read at version {}: {}", damage.version, damage.problem)),
            None => Ok(head.state),
        }
    })
}

/// A process that starts comes to the same state as those who look.
fn start_agrees<F: Fold + PartialEq + 'static>(world: &World) -> Result<(), String> {
    let looked = surveyed::<F>(world)?;
    let store: SharedStore = SimulatedStore::open(&world.disk, "job");
    let read = world.undisturbed(async move { SlotLog::<F>::new(&store).read().await });
    let read = read.map_err(|error| error.to_string())?.map(|recovered| recovered.state);
    if read == looked { Ok(()) } else { Err(format!("a start reads {read:?}, and those who look {looked:?}")) }
}

/// What happened in one simulation, or in several.
#[derive(Debug, Default)]
struct Story {
    process_crashes: u64,
    machine_crashes: u64,
    fenced: u64,
    bases: u64,
    injected: Injected,
}

impl Story {
    fn add(&mut self, other: &Self) {
        self.process_crashes += other.process_crashes;
        self.machine_crashes += other.machine_crashes;
        self.fenced += other.fenced;
        self.bases += other.bases;
        self.injected.lost_replies += other.injected.lost_replies;
        self.injected.failures += other.injected.failures;
        self.injected.forgotten += other.injected.forgotten;
    }

    fn numbers(&self) -> [u64; 7] {
        let Injected { lost_replies, failures, forgotten } = self.injected;
        [self.process_crashes, self.machine_crashes, self.fenced, self.bases, lost_replies, failures, forgotten]
    }
}

/// Runs one seed to its end.
fn simulate<J: Job>(seed: u64, without: Option<Guard>) -> Result<Story, String> {
    let mut random = Random::new(seed);
    let world = World::new(seed, [0, 40, 15][random.below(3) as usize], without);
    let (mut story, mut onlooker) = (Story::default(), Onlooker::<J>::new());
    let mut processes: Vec<(u64, Process)> = Vec::new();
    let mut started = 0;
    let mut disturbances = 3 + random.below(12);
    for _ in 0..STEPS_MAX {
        let quiet = disturbances == 0;
        if quiet {
            world.quiet();
        }
        let wanted = if quiet { 1 } else { 1 + random.below(3) as usize };
        while processes.len() < wanted {
            started += 1;
            // A container that is started again is in the pod that it was in: sometimes a later pod has superseded that.
            let pod = if !quiet && random.one_in(4) { started / 2 } else { started };
            processes.push((started, J::run(world.clone(), started, format!("pod-{pod}"))));
        }
        let chosen = random.below(processes.len() as u64) as usize;
        // A burst of steps: the others sleep meanwhile, past take-overs, bases and garbage collections.
        let burst_max = [2, 30, 600][random.below(3) as usize];
        for _ in 0..=random.below(burst_max) {
            world.disk.borrow_mut().running = processes[chosen].0;
            let ended = poll(&mut processes[chosen].1);
            onlooker.look(&world)?;
            let Some(ended) = ended else { continue };
            let _ended = processes.swap_remove(chosen);
            match ended? {
                End::Fenced => story.fenced += 1,
                End::Finished if quiet => return finish(&world, onlooker, processes, story),
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
            world.disk.borrow_mut().crash();
            onlooker = Onlooker::after_crash(&world)?;
        } else {
            story.process_crashes += 1;
            let victim = random.below(processes.len() as u64) as usize;
            let _crashed = processes.swap_remove(victim);
        }
    }
    Err(format!("no end after {STEPS_MAX} steps"))
}

/// Everything is done: those who still sleep wake up and change nothing, and it is all there when the machine stops now.
fn finish<J: Job>(
    world: &World,
    mut onlooker: Onlooker<J>,
    sleepers: Vec<(u64, Process)>,
    mut story: Story,
) -> Result<Story, String> {
    for (number, mut sleeper) in sleepers {
        world.disk.borrow_mut().running = number;
        for step in 0.. {
            if step == STEPS_MAX {
                return Err(format!("process {number} does not end"));
            }
            let ended = poll(&mut sleeper);
            onlooker.look(world)?;
            if let Some(ended) = ended {
                story.fenced += u64::from(ended? == End::Fenced);
                break;
            }
        }
    }
    story.bases = world.disk.borrow().names(&format!("job/{}", J::Log::BASES)).count() as u64;
    onlooker.job.settled(&world.disk.borrow())?;
    world.disk.borrow_mut().crash();
    let mut onlooker = Onlooker::<J>::after_crash(world)?;
    start_agrees::<J::Log>(world)?;
    onlooker.job.finish(&world.disk.borrow()).map_err(|problem| format!("at the end: {problem}"))?;
    story.injected = world.disk.borrow().injected.clone();
    Ok(story)
}

fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    match number("SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("DATA_PLATFORM_SIMULATION_SEEDS").unwrap_or(1_000),
    }
}

fn assert_no_schedule_breaks<J: Job>() {
    assert_no_schedule_of::<J>(seeds());
}

fn assert_no_schedule_of<J: Job>(seeds: std::ops::Range<u64>) {
    let mut total = Story::default();
    let many = seeds.end - seeds.start > 100;
    for seed in seeds {
        let story = simulate::<J>(seed, None);
        total.add(&story.unwrap_or_else(|problem| panic!("seed {seed}: {problem} (repeat: SIMULATION_SEED={seed})")));
    }
    println!("{total:?}");
    assert!(!many || total.numbers().iter().all(|number| *number > 100), "the faults did not happen: {total:?}");
}

fn assert_guards_matter<J: Job>(guards: &[Guard]) {
    for guard in guards {
        let seen = (0..2_000).find_map(|seed| Some((seed, simulate::<J>(seed, Some(*guard)).err()?)));
        let (seed, problem) = seen.unwrap_or_else(|| panic!("nobody noticed that the guard {guard:?} was off"));
        println!("without {guard:?}: seed {seed}: {problem}");
    }
}
