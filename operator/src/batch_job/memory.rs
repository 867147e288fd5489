//! How [`BatchMemory`] is kept: what this process remembers of the runs of a batch job. Pure.
//!
//! A run is counted when it is first seen to have ended. What the status told already when this process first looked at
//! the job was counted by whoever wrote that; so a run that ended while no operator ran is counted by the next one, and
//! none is counted twice after a restart.

use data_platform_crds::batch_job::{BatchJobStatus, RunStatus};
use k8s_openapi::jiff::Timestamp;

use crate::batch_job::runs::Run;
use crate::memory::{BatchMemory, Figures};

impl BatchMemory {
    /// Counts the runs that ended since the last look. `told`: the last run that the status told before.
    pub fn count(&mut self, runs: &[Run], told: Option<&RunStatus>) {
        let ended = || runs.iter().filter_map(|run| Some((run, run.ended.as_ref()?)));
        let told = told.and_then(|told| told.completion_time.as_ref()).map(|time| time.0);
        let counted = self.counted.get_or_insert_with(|| {
            let before = ended().filter(|(_, ended)| told.is_some_and(|told| ended.time <= told));
            before.map(|(run, _)| run.uid.clone()).collect()
        });
        for (run, ended) in ended() {
            if counted.insert(run.uid.clone()) {
                *(if ended.succeeded { &mut self.succeeded } else { &mut self.failed }) += 1;
            }
        }
        counted.retain(|uid| runs.iter().any(|run| run.uid == *uid));
    }

    /// Takes up the figures of a status. `pending`: when the next run is due, or was.
    pub fn note(&mut self, status: &BatchJobStatus, pending: Option<Timestamp>) {
        let last = status.last_run.as_ref();
        self.figures = Figures {
            last_success: status.last_successful_time.as_ref().map(|time| time.0.as_second()),
            last_seconds: last.and_then(|run| run.seconds),
            last_rows: last.and_then(|run| run.rows),
            next: pending.map(Timestamp::as_second),
        };
    }
}

#[cfg(test)]
mod tests {
    use data_platform_crds::batch_job::RunResult;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::batch_job::runs::Ended;

    fn run(uid: &str, ended: i64, succeeded: bool) -> Run {
        let at = |second| Timestamp::from_second(second).unwrap();
        let ended = Ended { time: at(ended), succeeded, reason: String::new(), message: String::new() };
        Run {
            name: uid.to_owned(),
            uid: uid.to_owned(),
            created: at(0),
            started: Some(at(0)),
            due: None,
            ended: Some(ended),
            pod: None,
            exit: None,
            is_backfill: false,
        }
    }

    #[test]
    fn a_run_is_counted_once_also_by_the_next_operator() {
        let runs = [run("a", 10, true), run("b", 20, false), run("c", 30, true)];
        let mut memory = BatchMemory::default();
        memory.count(&runs[..1], None);
        memory.count(&runs[..2], None);
        memory.count(&runs[..2], None);
        assert_eq!((memory.succeeded, memory.failed), (1, 1));
        let told = RunStatus {
            name: "b".to_owned(),
            result: RunResult::Failed,
            reason: String::new(),
            message: String::new(),
            interval: None,
            rows: None,
            files: None,
            stale_intervals: Vec::new(),
            start_time: None,
            completion_time: Some(Time(Timestamp::from_second(20).unwrap())),
            seconds: None,
        };
        let mut next = BatchMemory::default();
        next.count(&runs, Some(&told));
        assert_eq!((next.succeeded, next.failed), (1, 0), "the others were counted by the one before");
    }
}
