//! The memory of one job, shared out: how much may be fetched, held as state, and encoded.
//!
//! The limit is the cgroup's (a pod's `resources.limits.memory`), or the machine's without one.

pub(crate) mod guard;

use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use data_platform_memory::{code, heap};

/// Without a limit a job plans as if it had this much: more gains nothing (own measurement: 60 to 160 MB at full speed).
const UNLIMITED_BYTES: u64 = 1 << 30;
/// The program itself, its libraries and the threads' stacks.
const PROGRAM_BYTES: u64 = 48 << 20;
/// Fetched records: below 4 MiB partitions starve each other, above 32 MiB nothing is gained.
const QUEUE_BYTES: (u64, u64) = (4 << 20, 32 << 20);

/// How the memory is shared out, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryBudget {
    /// The whole.
    pub limit: u64,
    /// Records that the client holds fetched.
    pub queue: u64,
    /// References, as their files give them. Beside them stands what rows are looked up by, and both once more while they are
    /// loaded again.
    pub references: u64,
    /// Groups of open windows. Above it the micro-batches become smaller; the rest is for emitting and encoding.
    pub state: u64,
    /// Groups, sorts and joins of a batch run, as the engine counts them. Not counted are what it reads, the pieces that come
    /// back from the disk, and what the allocator cannot use again: together about as much once more.
    pub run: u64,
}

impl MemoryBudget {
    /// Shares out a limit.
    pub fn of(limit: u64) -> Self {
        let free = limit.saturating_sub(PROGRAM_BYTES);
        let queue = (free / 12).clamp(QUEUE_BYTES.0, QUEUE_BYTES.1);
        Self { limit, queue, references: free / 8, state: free / 2, run: free / 8 * 3 }
    }

    /// Shares out the limit of this process.
    pub fn detect() -> Self {
        Self::of(cgroup_limit().unwrap_or(UNLIMITED_BYTES))
    }

    /// What each of so many jobs in one process has: what streaming jobs hold is shared out among them, and what runs of
    /// batch jobs hold among those. Together they have what one has alone. All look at the same limit.
    #[must_use]
    pub fn share(self, streaming: usize, batch: usize) -> Self {
        let part = |whole: u64, jobs: usize| whole / (jobs.max(1) as u64);
        Self {
            limit: self.limit,
            queue: part(self.queue, streaming),
            references: part(self.references, streaming),
            state: part(self.state, streaming),
            run: part(self.run, batch),
        }
    }

    /// How many records the next micro-batch may have, given what is used now: all that the job wants while there is
    /// room, ever fewer as it becomes scarce, and never none.
    pub fn records(&self, wanted: i64, used: u64) -> i64 {
        let (scarce, full) = (self.limit / 10 * 7, self.limit / 10 * 9);
        if used <= scarce {
            return wanted;
        }
        let left = full.saturating_sub(used);
        let share = i128::from(wanted) * i128::from(left) / i128::from((full - scarce).max(1));
        i64::try_from(share).unwrap_or(wanted).clamp(RECORDS_MIN.min(wanted), wanted)
    }
}

/// A micro-batch under pressure still has this many records: progress frees memory.
const RECORDS_MIN: i64 = 1_000;

/// The limit of the process's cgroup, version 2 or 1; `None` without one.
fn cgroup_limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mut limits = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let folders = match controllers {
            "" => vec![format!("/sys/fs/cgroup{path}/memory.max"), "/sys/fs/cgroup/memory.max".to_owned()],
            "memory" => vec![
                format!("/sys/fs/cgroup/memory{path}/memory.limit_in_bytes"),
                "/sys/fs/cgroup/memory/memory.limit_in_bytes".to_owned(),
            ],
            _ => continue,
        };
        limits.extend(folders.iter().filter_map(|file| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok()));
    }
    // Version 1 writes a number near 2^63 for "no limit".
    limits.into_iter().filter(|limit| *limit < 1 << 50).min()
}

/// Bytes of memory that the process has now (resident set); 0 where the system does not say.
pub fn resident_bytes() -> u64 {
    own_status(&["VmRSS"])
}

/// The sum of these lines of what the system says of this process, in bytes; 0 where it does not say.
fn own_status(names: &[&str]) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let of = |line: &str| {
        let (name, value) = line.split_once(':')?;
        let kibibytes = value.trim().trim_end_matches("kB").trim().parse::<u64>();
        kibibytes.ok().filter(|_| names.contains(&name))
    };
    status.lines().filter_map(of).sum::<u64>() << 10
}

/// Where the resident memory of this process is, in bytes; together it is all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// Code and constants as they are in the program's file: in the page cache once for all processes of the program.
    pub program: u64,
    /// Allocated: state, references, records on their way, what librdkafka holds fetched, plans.
    pub in_use: u64,
    /// The rest: what the allocator keeps free, stacks, and variables of the program.
    pub kept: u64,
}

/// Where the resident memory of this process is now.
pub fn parts() -> Parts {
    Parts::of(own_status(&["RssFile", "RssShmem"]), own_status(&["RssAnon"]), heap::heap().in_use)
}

impl Parts {
    fn of(program: u64, own: u64, allocated: u64) -> Self {
        // What is allocated and was never written to has no memory.
        let in_use = allocated.min(own);
        Self { program, in_use, kept: own - in_use }
    }
}

/// How often it is worth it to give memory back: what a micro-batch runs through is back a millisecond after it began, at
/// 2,000 events a second and a trigger of 10 s 12 to 30 MB of 65.
const INTERVAL: Duration = Duration::from_secs(10);

/// Pauses shorter than this are no time to give free memory back: it would be wanted again at once.
const LEAST_PAUSE: Duration = Duration::from_millis(500);

/// Something that is done now and then, whatever number of jobs ask for it.
struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    const fn new() -> Self {
        Self(Mutex::new(None))
    }

    fn is_time(&self, now: Instant) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = last.is_none_or(|last| now.saturating_duration_since(last) >= INTERVAL);
        if is_time {
            *last = Some(now);
        }
        is_time
    }
}

/// Gives back code and constants that have run and hardly will again: a job was planned.
pub(crate) fn after_planning() {
    code::give_back();
}

/// Gives back code and constants after a large micro-batch of so many records, and otherwise now and then, while there is
/// always something to do.
pub(crate) fn after_commit(now: Instant, records: u64) {
    static CODE: Seldom = Seldom::new();
    if records >= LARGE_BATCH || CODE.is_time(now) {
        code::give_back();
    }
}

/// A micro-batch of so many records takes a fifth of a second of the processor or more; what it gives back comes back in a
/// thousandth of one.
const LARGE_BATCH: u64 = 200_000;

/// Gives back code and constants before the rows of a large micro-batch are written: what reads and what writes are different
/// parts of the program, and together the most that a job has in a backlog.
pub(crate) fn after_reading(records: u64) {
    if records >= LARGE_BATCH {
        code::give_back();
    }
}

/// Gives back what is free now and then, when nothing is to do for a while.
pub(crate) fn before_pause(now: Instant, pause: Duration) {
    static ALL: Seldom = Seldom::new();
    if pause >= LEAST_PAUSE && ALL.is_time(now) {
        code::give_back();
        heap::give_back();
    }
}

/// Bytes of memory that the machine has free, with what it can give back at once; `None` where the system does not say.
pub fn available_bytes() -> Option<u64> {
    let facts = fs::read_to_string("/proc/meminfo").ok()?;
    let line = facts.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kibibytes| kibibytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};

    #[test]
    fn a_small_limit_gives_small_shares() {
        let small = MemoryBudget::of(256 << 20);
        assert_eq!(small.queue, (208 << 20) / 12);
        assert_eq!(small.state, 104 << 20);
        assert_eq!(MemoryBudget::of(8 << 30).queue, 32 << 20);
        assert_eq!(MemoryBudget::of(32 << 20).queue, 4 << 20);
    }

    #[test]
    fn jobs_of_one_process_have_together_what_one_has_alone() {
        let whole = MemoryBudget::of(1 << 30);
        let share = whole.share(4, 3);
        assert_eq!((share.limit, share.queue * 4, share.state * 4), (whole.limit, whole.queue, whole.state));
        assert!(share.run * 3 <= whole.run && share.references * 4 <= whole.references);
        let held = |budget: MemoryBudget| budget.queue + budget.references + budget.state + budget.run;
        assert!(held(whole) <= whole.limit - PROGRAM_BYTES + whole.queue, "{whole:?}");
        assert_eq!(whole.share(1, 0), whole);
    }

    #[test]
    fn micro_batches_shrink_as_memory_becomes_scarce_and_never_vanish() {
        let budget = MemoryBudget::of(1_000 << 20);
        let records = |used_mb: u64| budget.records(100_000, used_mb << 20);
        assert_eq!(records(100), 100_000);
        assert_eq!(records(700), 100_000);
        assert!((49_000..51_000).contains(&records(800)));
        assert_eq!(records(950), RECORDS_MIN);
        assert_eq!(budget.records(10, 950 << 20), 10);
    }

    #[test]
    fn what_is_done_seldom_is_not_done_again_at_once() {
        let (seldom, begin) = (Seldom::new(), SystemClock.instant());
        let after = [0, 1, 9, 10, 11, 20].map(|seconds| seldom.is_time(begin + Duration::from_secs(seconds)));
        assert_eq!(after, [true, false, false, true, false, true]);
    }

    #[test]
    fn parts_are_the_whole() {
        assert_eq!(Parts::of(5, 100, 70), Parts { program: 5, in_use: 70, kept: 30 });
        assert_eq!(Parts::of(5, 100, 170), Parts { program: 5, in_use: 100, kept: 0 });
        let (parts, whole) = (parts(), resident_bytes());
        // Other tests take and give back meanwhile.
        let sum = parts.program + parts.in_use + parts.kept;
        assert!(sum > whole / 2 && sum / 2 < whole, "{parts:?} of {whole}");
        assert!(parts.program > 1 << 20 && parts.in_use > 1 << 10, "{parts:?}");
    }

    #[test]
    fn the_process_knows_its_size() {
        assert!(resident_bytes() > 1 << 20);
        assert!(available_bytes().unwrap() > 1 << 20);
    }
}
