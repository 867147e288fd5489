//! What a job says about itself: one value that the pipeline updates after every micro-batch and that `/status`, `/health`,
//! the metrics, the live table and the summary all read.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use data_platform_crds::runner_status::{
    BatchRunStatus as BatchStatus, CommitStatus, DeduplicateStatus, ErrorReport, Phase, ReferenceStatus,
    ReferenceTrouble,
};

use crate::clock::{Clock, SystemClock};
use crate::counters::Counters;
use crate::pipeline::error::JobError;
use crate::pipeline::no_output::NoOutput;
use crate::pipeline::rates::Rates;

mod report;

/// Errors and commits that are kept for people.
const KEPT: usize = 10;

/// A partition, for people and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    /// Its events are so old that nobody waits for it: see `eventTime.maxHold`.
    pub left_behind: bool,
    /// What is not committed was written after this, in microseconds; see [`crate::pipeline::lag`].
    pub unread_since: Option<i64>,
    /// Greatest age of the first record that is not committed, in seconds; 0 if there is none. `None`: nobody knows.
    pub lag_seconds: Option<i64>,
}

impl PartitionStatus {
    /// Records that Kafka has and the job has not committed; `None` if the partition did not answer.
    pub fn lag(&self) -> Option<i64> {
        Some((self.end? - self.position).max(0))
    }

    fn lag_seconds(&self, now: i64) -> Option<i64> {
        match self.lag()? {
            0 => Some(0),
            _ => Some((now.saturating_sub(self.unread_since?) / 1_000_000).max(0)),
        }
    }
}

/// An output with a query of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutputStatus {
    /// Windows that are open.
    pub open_windows: u64,
    /// Their groups.
    pub state_groups: u64,
    /// Their memory.
    pub state_bytes: u64,
    /// Why it has no rows, if records come.
    pub no_output: Option<NoOutput>,
}

/// The files of a table that its readers see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableSizes {
    /// Those that upkeep would merge: number and bytes.
    pub small: (u64, u64),
    /// The others.
    pub large: (u64, u64),
}

/// What a job says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    /// Event time up to which the rows of the output go, in microseconds.
    pub freshness: Option<i64>,
    /// Windows that are open.
    pub open_windows: u64,
    /// Their groups.
    pub state_groups: u64,
    /// Their memory.
    pub state_bytes: u64,
    /// What is remembered to recognise duplicates, if the job leaves them out.
    pub deduplicate: Option<DeduplicateStatus>,
    /// The references that queries join with, by name.
    pub references: BTreeMap<String, ReferenceStatus>,
    /// The last commit.
    pub last_commit: Option<CommitStatus>,
    /// The last commits of this process, newest last.
    pub last_commits: VecDeque<CommitStatus>,
    /// Commits since the log began.
    pub commits: u64,
    /// Everything since the log began.
    pub totals: Counters,
    /// The outputs that queries write.
    pub outputs: BTreeMap<String, OutputStatus>,
    /// The files of tables, by output, as they were last counted.
    pub tables: BTreeMap<String, TableSizes>,
    /// Records read per second, over the last minute.
    pub records_per_second: u64,
    /// Rows written per second, over the last minute.
    pub rows_per_second: u64,
    /// The greatest of the partitions that answer, in seconds. `None`: one of them that is behind does not know.
    pub lag_seconds: Option<i64>,
    /// Why there is no output, if records come and no rows go, to none of the outputs.
    pub no_output: Option<NoOutput>,
    /// Snapshots of the state: the last one's version.
    pub snapshot: Option<u64>,
    /// The last errors, newest last.
    pub errors: VecDeque<ErrorReport>,
    /// Restarts from the log inside this process.
    pub reloads: u64,
    /// The run of a batch job.
    pub batch: Option<BatchStatus>,
    /// The job as it runs, with secrets masked.
    pub configuration: BTreeMap<String, String>,
}

impl JobStatus {
    /// Records that Kafka has and the job has not committed, of the partitions that answer; `None`: none of them does, or the
    /// job does not ask.
    pub fn lag(&self) -> Option<i64> {
        self.partitions.iter().filter(|_| self.ready).filter_map(PartitionStatus::lag).reduce(i64::saturating_add)
    }

    /// The same with ages as of now, in microseconds.
    #[must_use]
    pub fn as_of(mut self, now: i64) -> Self {
        for partition in &mut self.partitions {
            partition.lag_seconds = partition.lag_seconds(now);
        }
        let answering = self.partitions.iter().filter(|partition| partition.end.is_some());
        let seconds = answering.map(|partition| partition.lag_seconds);
        self.lag_seconds = seconds.reduce(|greatest, seconds| Some(greatest?.max(seconds?))).flatten();
        self
    }
}

/// The status of one job, shared by its threads.
#[derive(Clone, Debug, Default)]
pub struct SharedStatus(Arc<Mutex<Shared>>);

#[derive(Debug, Default)]
struct Shared {
    status: JobStatus,
    rates: Rates,
}

impl SharedStatus {
    /// A status with this beginning.
    pub fn new(status: JobStatus) -> Self {
        Self(Arc::new(Mutex::new(Shared { status, rates: Rates::default() })))
    }

    /// A copy as of now.
    pub fn get(&self) -> JobStatus {
        let shared = self.lock();
        let (records_per_second, rows_per_second) = shared.rates.per_second(SystemClock.instant());
        JobStatus { records_per_second, rows_per_second, ..shared.status.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes it.
    pub fn update(&self, change: impl FnOnce(&mut JobStatus)) {
        change(&mut self.lock().status);
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
        let phase = self.lock().status.phase;
        if !matches!(phase, Phase::Retrying | Phase::Stalled) {
            self.enter(Phase::Starting, "Starting", what);
        }
    }

    /// Notes a commit.
    pub fn committed(&self, commit: CommitStatus) {
        let mut shared = self.lock();
        shared.rates.note(SystemClock.instant(), Duration::from_millis(commit.batch_ms), commit.records, commit.rows);
        keep(&mut shared.status.last_commits, commit.clone());
        shared.status.last_commit = Some(commit);
    }

    /// Notes an error.
    pub fn error(&self, phase: Phase, clock: i64, error: &JobError) {
        self.enter(phase, error.reason.name(), error.to_string());
        self.update(|status| {
            status.no_output = NoOutput::of_error(error.reason).or(status.no_output);
            let (reason, message, cure) = (error.reason.name().to_owned(), error.message.clone(), error.cure.clone());
            match status.errors.back_mut() {
                Some(last) if (&last.reason, &last.message) == (&reason, &message) => {
                    (last.clock, last.times) = (clock, last.times + 1);
                }
                _ => keep(&mut status.errors, ErrorReport { clock, times: 1, reason, message, cure }),
            }
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
    use crate::pipeline::error::Reason;

    #[test]
    fn an_error_that_comes_again_and_again_is_one_and_does_not_push_the_others_out() {
        let status = SharedStatus::default();
        let error = |message: &str| JobError::passing(Reason::KafkaUnreachable, message, "look");
        status.error(Phase::Retrying, 1, &error("first"));
        for clock in 2..100 {
            status.error(Phase::Retrying, clock, &error("again"));
        }
        status.error(Phase::Retrying, 100, &error("first"));
        let errors = status.get().errors;
        let told: Vec<_> = errors.iter().map(|error| (error.message.as_str(), error.clock, error.times)).collect();
        assert_eq!(told, [("first", 1, 1), ("again", 99, 98), ("first", 100, 1)]);
    }

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

    fn partition(end: Option<i64>, unread_since: Option<i64>) -> PartitionStatus {
        PartitionStatus { position: 10, end, unread_since, ..PartitionStatus::default() }
    }

    fn lag_seconds(partitions: &[PartitionStatus]) -> Option<i64> {
        JobStatus { partitions: partitions.to_vec(), ..JobStatus::default() }.as_of(100_500_000).lag_seconds
    }

    #[test]
    fn the_lag_in_seconds_is_that_of_the_worst_partition() {
        let (up, behind) = (partition(Some(10), Some(1)), partition(Some(12), Some(60_000_000)));
        assert_eq!(lag_seconds(&[]), None);
        assert_eq!(lag_seconds(std::slice::from_ref(&up)), Some(0));
        assert_eq!(lag_seconds(&[up, behind.clone(), partition(Some(12), Some(90_000_000))]), Some(40));
        assert_eq!(lag_seconds(&[behind.clone(), partition(None, Some(1))]), Some(40), "one that does not answer");
        assert_eq!(lag_seconds(&[behind, partition(Some(12), None)]), None, "nobody knows of one that is behind");
        assert_eq!(lag_seconds(&[partition(None, None)]), None);
        assert_eq!(lag_seconds(&[partition(Some(12), Some(i64::MAX))]), Some(0));
    }

    #[test]
    fn rates_are_of_the_commits_and_fall_by_themselves() {
        let status = SharedStatus::default();
        status.committed(CommitStatus { records: 900, rows: 9, batch_ms: 30_000, ..CommitStatus::default() });
        let now = status.get();
        assert!((29..=30).contains(&now.records_per_second), "{}", now.records_per_second);
        assert_eq!((now.rows_per_second, now.last_commits.len()), (1, 1));
    }
}
