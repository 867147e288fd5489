//! The machine: room on disks, memory beside what the job asks for, the clock, time zones.

use std::path::{Path, PathBuf};

use data_platform_crds::resources::PodSpec;
use data_platform_crds::schedule::{Schedule, ScheduleError};

use crate::clock::{Clock, SystemClock, show_time};
use crate::commands::bytes;
use crate::commands::doctor::check::{Check, Outcome};
use crate::config::Loaded;
use crate::config::job::RunOptions;
use crate::pipeline::error::{JobError, Reason};
use crate::pipeline::memory::available_bytes;

/// Below this a job could not even write its next files.
const ROOM_LEAST: u64 = 64 << 20;
/// Below this somebody should look.
const ROOM_LOW: u64 = 1 << 30;
/// A job that holds a few windows, beside the program.
const MEMORY_LEAST: u64 = 96 << 20;
/// A clock before this is not set: no version of this program is older. 2025-01-01.
const CLOCK_LEAST: i64 = 1_735_689_600_000_000;

/// What all jobs need.
pub(super) fn checks(options: &RunOptions) -> Vec<Check> {
    let mut checks = vec![Check::one("", "clock", Reason::ClockBehind, || async { clock(SystemClock.now()) })];
    let places = [("outputs", &options.outputs), ("checkpoints", &options.checkpoints)];
    let folders = places.into_iter().filter_map(|(name, place)| Some((name, place.folder()?.to_owned())));
    for (name, folder) in folders.chain([("temporary files", std::env::temp_dir())]) {
        let name = format!("room for {name}");
        checks.push(Check::one("", name, Reason::StorageFailed, move || async move { room(&folder) }));
    }
    checks
}

/// What one job asks for.
pub(super) fn checks_of_job(job: &Loaded, options: &RunOptions) -> Vec<Check> {
    let (pod, schedule) = match job {
        Loaded::Streaming(job) => (job.job.spec.pod.clone(), None),
        Loaded::Batch(job) => {
            let spec = &job.job.spec;
            (spec.pod.clone(), spec.schedule.clone().map(|fields| (fields, spec.time_zone.clone())))
        }
    };
    let limit = options.memory.limit;
    let memory = Check::one(job.name(), "memory", Reason::MemoryExhausted, move || async move {
        memory(pod.as_ref(), limit, available_bytes())
    });
    let due = schedule.map(|(fields, zone)| {
        Check::one(job.name(), "time zone", Reason::InvalidTimeZone, move || async move { due(&fields, &zone) })
    });
    [memory].into_iter().chain(due).collect()
}

fn clock(now: i64) -> Outcome {
    if now < CLOCK_LEAST {
        let message = format!("the clock of this machine says {}", show_time(now));
        return Outcome::Failed(JobError::passing(Reason::ClockBehind, message, "set it, best by a time server"));
    }
    Outcome::Ok(show_time(now))
}

/// What a file system has free.
struct Room {
    bytes: u64,
    files: u64,
    is_counting_files: bool,
}

fn room(folder: &Path) -> Outcome {
    // What is not there yet will lie where the nearest folder above it lies.
    let there: Option<PathBuf> = std::path::absolute(folder)
        .ok()
        .and_then(|folder| folder.ancestors().find(|folder| folder.exists()).map(Path::to_owned));
    match there.as_deref().map(rustix::fs::statvfs) {
        Some(Ok(facts)) => {
            let bytes = facts.f_bavail.saturating_mul(facts.f_frsize);
            judged(folder, &Room { bytes, files: facts.f_favail, is_counting_files: facts.f_files > 0 })
        }
        _ => Outcome::Skipped(format!("{}: the system does not tell what is free", folder.display())),
    }
}

fn judged(folder: &Path, room: &Room) -> Outcome {
    let found = format!("{}: {} free", folder.display(), bytes(room.bytes));
    let full = |what: String| {
        let cure = "make room, or choose another OUTPUTS_DIR, CHECKPOINT_DIR or TMPDIR";
        Outcome::Failed(JobError::passing(Reason::StorageFull, what, cure))
    };
    if room.is_counting_files && room.files == 0 {
        return full(format!("{}: the file system takes no more files", folder.display()));
    }
    match room.bytes {
        ..ROOM_LEAST => full(found),
        ROOM_LEAST..ROOM_LOW => Outcome::Warning { message: found, cure: "make room before it is full".to_owned() },
        _ => Outcome::Ok(found),
    }
}

/// `limit`: what the process plans with. `available`: what the machine has free; `None` where the system does not say.
fn memory(pod: Option<&PodSpec>, limit: u64, available: Option<u64>) -> Outcome {
    let asked = pod.and_then(|pod| pod.resources.as_ref()).and_then(|resources| {
        let amount = resources.limits.get("memory").or_else(|| resources.requests.get("memory"));
        amount.and_then(|amount| amount.bytes())
    });
    let free = available.map_or_else(String::new, |free| format!(", {} are free", bytes(free)));
    let found = format!("the job plans with {}{free}", bytes(limit));
    if limit < MEMORY_LEAST {
        let cure = format!("give it at least {}: spec.pod.resources.limits.memory", bytes(MEMORY_LEAST));
        return Outcome::Warning { message: found, cure };
    }
    match asked {
        Some(asked) if available.is_some_and(|free| free < asked) || limit < asked => Outcome::Warning {
            message: format!("{found}, and its file asks for {}", bytes(asked)),
            cure: "run it where that is free, or ask for less: spec.pod.resources".to_owned(),
        },
        _ => Outcome::Ok(found),
    }
}

fn due(fields: &str, zone: &str) -> Outcome {
    match Schedule::new(fields, zone) {
        Ok(schedule) => {
            let next = schedule.after_second(SystemClock.now() / 1_000_000);
            let next = next.map_or_else(|| "never".to_owned(), |second| show_time(second.saturating_mul(1_000_000)));
            Outcome::Ok(format!("{zone} is known; the next run is due at {next}"))
        }
        Err(ScheduleError::Fields(message, cure)) => {
            Outcome::Failed(JobError::user(Reason::InvalidSchedule, message, cure))
        }
        Err(ScheduleError::Zone(message, cure)) => {
            Outcome::Failed(JobError::user(Reason::InvalidTimeZone, message, cure))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `ok`, `warning`, or the reason of what failed.
    fn word(outcome: &Outcome) -> &'static str {
        match outcome {
            Outcome::Ok(_) => "ok",
            Outcome::Warning { .. } => "warning",
            Outcome::Failed(error) => error.reason.name(),
            Outcome::Skipped(_) => "skipped",
        }
    }

    #[test]
    fn each_fault_of_a_machine_is_told() {
        let room =
            |bytes: u64, files: u64| word(&judged(Path::new("/x"), &Room { bytes, files, is_counting_files: true }));
        let asks = |memory: &str| -> PodSpec {
            serde_json::from_value(serde_json::json!({"resources": {"limits": {"memory": memory}}})).unwrap()
        };
        let needs =
            |asked: &str, limit: u64, free: u64| word(&memory(Some(&asks(asked)), limit << 20, Some(free << 20)));
        for (what, found, expected) in [
            ("a clock at the beginning of time", word(&clock(1_000_000)), "ClockBehind"),
            ("a clock of today", word(&clock(SystemClock.now())), "ok"),
            ("a full disk", room(1 << 20, 9), "StorageFull"),
            ("a disk without inodes", room(99 << 30, 0), "StorageFull"),
            ("little room", room(500 << 20, 9), "warning"),
            ("room", room(99 << 30, 9), "ok"),
            ("a limit below the program", needs("64Mi", 64, 9_000), "warning"),
            ("a machine that is too small", needs("2Gi", 1_024, 9_000), "warning"),
            ("others have the memory", needs("1Gi", 1_024, 500), "warning"),
            ("memory", needs("1Gi", 1_024, 2_000), "ok"),
            ("a job that asks for nothing", word(&memory(None, 1 << 30, None)), "ok"),
            ("a zone that is none", word(&due("5 * * * *", "Europe/Atlantis")), "InvalidTimeZone"),
            ("a schedule that is none", word(&due("61 * * * *", "UTC")), "InvalidSchedule"),
            ("a schedule", word(&due("5 * * * *", "Europe/Berlin")), "ok"),
        ] {
            assert_eq!(found, expected, "{what}");
        }
    }
}
