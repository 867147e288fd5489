//! What a job says about itself: one value that the pipeline updates after every micro-batch and that `/status`, `/health`,
//! the metrics, the live table and the summary all read.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::checkpoint::counters::Counters;
use crate::pipeline::error::JobError;

/// Errors and commits that are kept for people.
const KEPT: usize = 10;

/// In which part of its life a job is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// Reading its log, waiting for Kafka, rebuilding its state.
    #[default]
    Starting,
    /// Reading and committing.
    Running,
    /// Something is wrong that may pass; it tries again.
    Retrying,
    /// Somebody must change something.
    Stalled,
    /// Ended.
    Ended,
}

/// A partition, for people and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PartitionStatus {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Next offset that is not committed.
    pub position: i64,
    /// End offset when it was last asked for; `None` if the partition did not answer.
    pub end: Option<i64>,
    /// Its watermark, in microseconds.
    pub watermark: Option<i64>,
    /// It holds the job's watermark back.
    pub holds_watermark: bool,
}

/// The last commit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CommitStatus {
    /// Version of the job log.
    pub version: u64,
    /// Its batch clock, in microseconds.
    pub clock: i64,
    /// Records that it read.
    pub records: u64,
    /// Rows that it wrote.
    pub rows: u64,
    /// Files that it wrote.
    pub files: u64,
    /// From planning to publishing, in milliseconds.
    pub batch_ms: u64,
    /// From staging to publishing, in milliseconds.
    pub commit_ms: u64,
}

/// A run of a batch job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchStatus {
    /// Begin of what the run covers, in microseconds.
    pub start: i64,
    /// Its end.
    pub end: i64,
    /// Intervals that are finished.
    pub finished: u64,
    /// Intervals that are left.
    pub left: u64,
    /// Rows that it wrote.
    pub rows: u64,
    /// Files that it wrote.
    pub files: u64,
}

/// An error that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorStatus {
    /// When, in microseconds.
    pub clock: i64,
    /// From the closed list.
    pub reason: String,
    /// What and where.
    pub message: String,
    /// What to do.
    pub cure: String,
}

/// What a job says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobStatus {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub job: String,
    /// Version of the program.
    pub program: String,
    /// In which part of its life it is.
    pub phase: Phase,
    /// It reads and commits.
    pub ready: bool,
    /// Why not, from the closed list; `Running` if it does.
    pub reason: String,
    /// The same in words.
    pub message: String,
    /// Identity of the job log.
    pub log_id: Option<String>,
    /// When the process started, in microseconds.
    pub started: i64,
    /// Every partition.
    pub partitions: Vec<PartitionStatus>,
    /// The job's watermark, in microseconds.
    pub watermark: Option<i64>,
    /// Windows that are open.
    pub open_windows: u64,
    /// Their groups.
    pub state_groups: u64,
    /// Their memory.
    pub state_bytes: u64,
    /// The last commit.
    pub last_commit: Option<CommitStatus>,
    /// The last commits of this process, newest last.
    pub last_commits: VecDeque<CommitStatus>,
    /// Commits since the log began.
    pub commits: u64,
    /// Everything since the log began.
    pub totals: Counters,
    /// Records per second, over the last commits.
    pub records_per_second: u64,
    /// Why there is no output, if records come and no rows go.
    pub no_output: Option<String>,
    /// Snapshots of the state: the last one's version.
    pub snapshot: Option<u64>,
    /// The last errors, newest last.
    pub errors: VecDeque<ErrorStatus>,
    /// Restarts from the log inside this process.
    pub reloads: u64,
    /// The run of a batch job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchStatus>,
    /// The job as it runs, with secrets masked.
    pub configuration: BTreeMap<String, String>,
}

impl JobStatus {
    /// Records that Kafka has and the job has not committed.
    pub fn lag(&self) -> i64 {
        self.partitions.iter().filter_map(|p| Some((p.end? - p.position).max(0))).sum()
    }
}

/// The status of one job, shared by its threads.
#[derive(Clone, Debug, Default)]
pub struct SharedStatus(Arc<Mutex<JobStatus>>);

impl SharedStatus {
    /// A status with this beginning.
    pub fn new(status: JobStatus) -> Self {
        Self(Arc::new(Mutex::new(status)))
    }

    /// A copy as of now.
    pub fn get(&self) -> JobStatus {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes it.
    pub fn update(&self, change: impl FnOnce(&mut JobStatus)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Enters a phase.
    pub fn enter(&self, phase: Phase, reason: &str, message: impl Into<String>) {
        let message = message.into();
        self.update(|status| {
            status.phase = phase;
            status.ready = phase == Phase::Running;
            reason.clone_into(&mut status.reason);
            status.message = message;
        });
    }

    /// The job begins, or begins again: after an error that one stays until it is known to be over, so that a job that tries
    /// for hours has one state and not two that take turns.
    pub fn starting(&self, what: &str) {
        if !matches!(self.get().phase, Phase::Retrying | Phase::Stalled) {
            self.enter(Phase::Starting, "Starting", what);
        }
    }

    /// Notes a commit, and the records per second by now.
    pub fn committed(&self, commit: CommitStatus, records_per_second: u64) {
        self.update(|status| {
            status.records_per_second = records_per_second;
            keep(&mut status.last_commits, commit.clone());
            status.last_commit = Some(commit);
        });
    }

    /// Notes an error.
    pub fn error(&self, phase: Phase, clock: i64, error: &JobError) {
        self.enter(phase, &error.reason.name(), error.to_string());
        self.update(|status| {
            let (reason, message, cure) = (error.reason.name(), error.message.clone(), error.cure.clone());
            keep(&mut status.errors, ErrorStatus { clock, reason, message, cure });
        });
    }
}

fn keep<T>(last: &mut VecDeque<T>, item: T) {
    last.push_back(item);
    while last.len() > KEPT {
        last.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_tries_again_keeps_its_trouble_until_it_is_over() {
        let status = SharedStatus::default();
        status.starting("reading the job log");
        assert_eq!(status.get().phase, Phase::Starting);
        for phase in [Phase::Retrying, Phase::Stalled] {
            status.enter(phase, "TopicNotFound", "no topic");
            status.starting("connecting to Kafka");
            assert_eq!((status.get().phase, status.get().reason.as_str()), (phase, "TopicNotFound"));
        }
        status.enter(Phase::Running, "Running", "");
        status.starting("reading the job log");
        assert_eq!(status.get().phase, Phase::Starting, "what was over does not come back");
    }
}
