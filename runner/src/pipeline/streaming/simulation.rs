//! Whole jobs under seeded chaos: the real reader, decoder, operator, snapshots, rebuilds, watermark and tables, on a source
//! in memory, a disk that forgets what was not made durable, and a clock that somebody turns.
//!
//! A scenario is a job's YAML, records made from a seed, and a fold over these records that says which rows are right. A seed
//! decides how records come, when processes and the machine stop, which replies are lost, which snapshots are damaged,
//! which partitions lose their leaders. At the end the job is drained, and its rows are compared with the fold.
//!
//! `DATA_PLATFORM_SIMULATION_SEEDS` sets the number of seeds, `SIMULATION_SEED` runs a single one.

mod duplicates;
mod folds;
mod scenario;
mod sessions;
mod tables;
mod world;

use std::sync::atomic::{AtomicBool, Ordering};

use self::scenario::{SCENARIOS, Scenario};
use self::world::{Story, World};

/// Runs one seed to its end.
fn simulate(scenario: &Scenario, seed: u64) -> Result<Story, String> {
    let mut world = World::new(scenario, seed);
    world
        .live()
        .and_then(|()| world.finish())
        .map_err(|problem| format!("{}, seed {seed}: {problem} (repeat: SIMULATION_SEED={seed})", scenario.name))
}

fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    match number("SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("DATA_PLATFORM_SIMULATION_SEEDS").unwrap_or(1_000),
    }
}

/// Runs seeds on all cores, each with the scenario that is its turn; the first failure ends it.
fn simulate_all(seeds: std::ops::Range<u64>) -> Result<Story, String> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let failed = AtomicBool::new(false);
    let run = |first: usize| {
        let mut total = Story::default();
        for seed in seeds.clone().skip(first).step_by(threads).take_while(|_| !failed.load(Ordering::Relaxed)) {
            let scenario = &SCENARIOS[(seed % SCENARIOS.len() as u64) as usize];
            let story = simulate(scenario, seed).inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
            total.add(&story);
        }
        Ok::<_, String>(total)
    };
    std::thread::scope(|scope| {
        let run = &run;
        let running: Vec<_> = (0..threads).map(|first| scope.spawn(move || run(first))).collect();
        let mut total = Story::default();
        for thread in running {
            match thread.join() {
                Ok(story) => total.add(&story?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(total)
    })
}

#[test]
fn no_schedule_of_crashes_and_faults_changes_the_rows_of_a_job() {
    let seeds = seeds();
    // Each scenario has its share of them.
    let many = seeds.end - seeds.start >= 500;
    let total = simulate_all(seeds).unwrap_or_else(|problem| panic!("{problem}"));
    println!("{total:?}");
    if many {
        // A simulation in which nothing happens proves nothing.
        assert!(total.process_crashes > 100, "{total:?}");
        assert!(total.machine_crashes > 50, "{total:?}");
        assert!(total.lost_replies > 20, "{total:?}");
        assert!(total.damaged_states > 20, "{total:?}");
        assert!(total.leaders_lost > 20, "{total:?}");
        assert!(total.late > 100, "{total:?}");
        // What a scenario is there for came in it.
        for what in [
            "partly late",
            "cuts",
            "joined",
            "late of sessions",
            "groups of both sources",
            "records after a change",
            "refused records",
            "refused groups",
            "duplicates",
            "late letters",
        ] {
            assert!(total.seen.get(what).is_some_and(|times| *times > 20), "{what}: {total:?}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..SCENARIOS.len() as u64 {
        let scenario = &SCENARIOS[(seed % SCENARIOS.len() as u64) as usize];
        let trace = || simulate(scenario, seed).unwrap_or_else(|problem| panic!("{problem}")).trace;
        let (first, second) = (trace(), trace());
        assert!(first.len() > 100, "{first:?}");
        assert_eq!(first, second, "seed {seed}");
    }
}
