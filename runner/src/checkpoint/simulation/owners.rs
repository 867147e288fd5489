//! Two jobs, each with its own log, that are told to write one output: one has it, and the other never shows a row.

use super::streaming::{PARTITIONS, RECORDS_PER_PARTITION, access, read_output, run_once};
use super::*;
use crate::checkpoint::log::LogError;

/// How a process of one of the two jobs ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Everything is written.
    Finished,
    /// The output is the other job's.
    Refused,
}

/// Runs a job until it has written everything or learns that the output is another one's; after any other error it starts
/// again from its log, as a runner does.
async fn run_job(world: World, job: &'static str, number: u64) -> Result<Outcome, String> {
    let access = access(&world, job, number, format!("pod-{number}"), job.to_owned());
    let mut random = Random::new(world.seed ^ number << 32);
    loop {
        match run_once(&access, &mut random).await {
            Ok(()) => return Ok(Outcome::Finished),
            Err(LogError::OutputOwned { .. } | LogError::OutputTaken { .. } | LogError::Fenced { .. }) => {
                return Ok(Outcome::Refused);
            }
            Err(LogError::Reload { .. } | LogError::Store(_)) => pause().await,
            Err(error) => return Err(format!("{job}, process {number}: {error}")),
        }
    }
}

/// Logs whose files readers see.
fn logs_seen(disk: &Disk) -> BTreeSet<String> {
    let log = |path: &str| path.rsplit('-').nth(2).map(str::to_owned);
    disk.read_folder(OUTPUT).iter().filter_map(|(path, _)| log(path)).collect()
}

fn simulate_two(seed: u64, without: Option<Guard>) -> Result<u64, String> {
    let mut random = Random::new(seed);
    let world = World::new(seed, [0, 30][random.below(2) as usize], without);
    let disk = Rc::clone(&world.disk);
    let mut started = 0;
    let mut begin = |job: &'static str| {
        started += 1;
        let process: Pin<Box<dyn Future<Output = Result<Outcome, String>>>> =
            Box::pin(run_job(world.clone(), job, started));
        (job, process)
    };
    let mut processes = vec![begin("a"), begin("b")];
    let (mut refused, mut disturbances) = (0, random.below(6));
    for _ in 0..STEPS_MAX {
        let chosen = random.below(processes.len() as u64) as usize;
        let burst_max = [1, 10, 200][random.below(3) as usize];
        for _ in 0..=random.below(burst_max) {
            let ended = poll(&mut processes[chosen].1);
            let seen = logs_seen(&disk.borrow());
            if seen.len() > 1 {
                return Err(format!("seed {seed}: readers see rows of {seen:?}"));
            }
            let Some(ended) = ended else { continue };
            let _ended = processes.swap_remove(chosen);
            match ended.map_err(|problem| format!("seed {seed}: {problem}"))? {
                Outcome::Finished => {
                    let rows = read_output(&disk.borrow()).map_err(|problem| format!("seed {seed}: {problem}"))?;
                    let all = PARTITIONS as usize * RECORDS_PER_PARTITION as usize;
                    return if rows.len() == all {
                        Ok(refused)
                    } else {
                        Err(format!("seed {seed}: {} rows", rows.len()))
                    };
                }
                Outcome::Refused => refused += 1,
            }
            break;
        }
        if processes.is_empty() {
            return Err(format!("seed {seed}: both were refused"));
        }
        if disturbances > 0 && random.one_in(4) {
            disturbances -= 1;
            let victim = random.below(processes.len() as u64) as usize;
            let (job, _crashed) = processes.swap_remove(victim);
            processes.push(begin(job));
        }
        if disturbances == 0 {
            disk.borrow_mut().fault_one_in = 0;
        }
    }
    Err(format!("seed {seed}: no end"))
}

#[test]
fn of_two_jobs_on_one_output_only_one_ever_shows_rows() {
    let mut refused = 0;
    for seed in 0..seeds().end.clamp(50, 400) {
        refused += simulate_two(seed, None).unwrap_or_else(|problem| panic!("{problem}"));
    }
    assert!(refused > 10, "the jobs never met: {refused}");
}

#[test]
fn without_claims_readers_see_the_rows_of_both() {
    let seen = (0..200).find_map(|seed| simulate_two(seed, Some(Guard::Claim)).err());
    println!("without claims: {}", seen.expect("nobody noticed that the guard was off"));
}
