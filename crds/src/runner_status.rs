//! [`RunnerStatus`]: what a runner answers at `/status`. The runner writes it, the operator and the page read it.
//!
//! Pure. Either side may be one version ahead of the other: a field that is missing has its default, one that is not known
//! is passed over, and the words for reasons are texts, since a newer runner may have new ones.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The form that is written. It grows when a field changes its meaning; new fields alone do not.
pub const STATUS_VERSION: u32 = 1;

/// The reason of a runner that closed every window and waits to be stopped (`--drain` in a pod).
pub const DRAINED: &str = "Drained";

/// What a runner says of its job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RunnerStatus {
    /// [`STATUS_VERSION`]; 0 of a runner that does not say it.
    pub status_version: u32,
    /// Namespace; `local` without a cluster.
    pub namespace: String,
    /// Name of the job.
    pub job: String,
    /// Version of the program.
    pub program: String,
    /// In which part of its life the job is.
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
    /// Event time up to which the rows of the output go, in microseconds: with windows the watermark, without them the
    /// newest event.
    pub freshness: Option<i64>,
    /// Windows that are open.
    pub open_windows: u64,
    /// Their groups.
    pub state_groups: u64,
    /// Their memory.
    pub state_bytes: u64,
    /// What is remembered to recognise duplicates, if the job leaves them out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deduplicate: Option<DeduplicateStatus>,
    /// The references that queries join with, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub references: BTreeMap<String, ReferenceStatus>,
    /// The last commit.
    pub last_commit: Option<CommitStatus>,
    /// The last commits of this process, newest last.
    pub last_commits: Vec<CommitStatus>,
    /// Commits since the log began.
    pub commits: u64,
    /// Everything since the log began.
    pub totals: Totals,
    /// The outputs that queries write, by name.
    pub outputs: BTreeMap<String, OutputStatus>,
    /// Records read per second, over the last minute.
    pub records_per_second: u64,
    /// Rows written per second, over the last minute.
    pub rows_per_second: u64,
    /// Records that Kafka has and the job has not committed, of the partitions that answer. `None`: none of them does.
    pub lag: Option<i64>,
    /// The greatest age of the first record that is not committed, of the partitions that answer, in seconds. `None`: one
    /// of them that is behind does not know.
    pub lag_seconds: Option<i64>,
    /// Why there is no output, if the job runs and writes none.
    pub no_output: Option<String>,
    /// What that means, and what to do.
    pub no_output_message: Option<String>,
    /// Version of the last snapshot of the state.
    pub snapshot: Option<u64>,
    /// The last errors, newest last.
    pub errors: Vec<ErrorReport>,
    /// Restarts from the log inside this process.
    pub reloads: u64,
    /// The run of a batch job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchRunStatus>,
    /// The job as it runs, with secrets masked.
    pub configuration: BTreeMap<String, String>,
}

/// In which part of its life a job is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// A word of a newer runner.
    #[serde(other)]
    Unknown,
}

/// An output that a query writes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OutputStatus {
    /// Windows that are open.
    pub open_windows: u64,
    /// Their groups.
    pub state_groups: u64,
    /// Their memory.
    pub state_bytes: u64,
    /// Why it has no rows, if the job runs and writes none there.
    pub no_output: Option<String>,
}

/// What is remembered to recognise duplicates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeduplicateStatus {
    /// Records.
    pub keys: u64,
    /// Their memory.
    pub bytes: u64,
}

/// A reference that queries join with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReferenceStatus {
    /// Hash of its content: the version that is used.
    pub version: String,
    /// Rows.
    pub rows: u64,
    /// Memory, what rows are looked up by included.
    pub bytes: u64,
    /// When this version was loaded, in microseconds.
    pub loaded: i64,
    /// Why a newer version is not used, if there is one that cannot be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<ReferenceTrouble>,
}

/// Why a newer version of a reference is not used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReferenceTrouble {
    /// From the closed list.
    pub reason: String,
    /// What and where.
    pub message: String,
    /// What to do.
    pub cure: String,
}

/// A partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
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
    /// Its events are so old that the watermark no longer waits for it: see `eventTime.maxHold`.
    pub left_behind: bool,
    /// Greatest age of the first record that is not committed, in seconds; 0 if there is none. `None`: nobody knows.
    pub lag_seconds: Option<i64>,
}

/// A commit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BatchRunStatus {
    /// Begin of what the run covers, in microseconds.
    pub start: i64,
    /// Its end.
    pub end: i64,
    /// Intervals that are finished.
    pub finished: u64,
    /// Intervals that are left.
    pub left: u64,
    /// How many seconds a backfill takes for the rest, if it goes on like this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<u64>,
    /// Rows that it wrote.
    pub rows: u64,
    /// Files that it wrote.
    pub files: u64,
    /// Finished intervals whose input was replaced after they had read it, by their names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stale: Vec<String>,
}

/// An error that happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ErrorReport {
    /// When it was seen last, in microseconds.
    pub clock: i64,
    /// How often, one time after the other.
    pub times: u64,
    /// From the closed list.
    pub reason: String,
    /// What and where.
    pub message: String,
    /// What to do.
    pub cure: String,
}

/// Everything since the job's log began. The names of the counters are those of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// By name of the source.
    pub sources: BTreeMap<String, SourceTotals>,
    /// By name of the output.
    pub outputs: BTreeMap<String, OutputTotals>,
}

/// What happened to the records of a source, in records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceTotals {
    /// Read from Kafka.
    pub read: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// Null values.
    #[serde(skip_serializing_if = "is_zero")]
    pub tombstone: u64,
    /// About the stream of change data and not of a change.
    #[serde(skip_serializing_if = "is_zero")]
    pub control: u64,
    /// Bad records by reason.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub dead_letter: BTreeMap<String, u64>,
    /// Too far ahead of the clock.
    #[serde(skip_serializing_if = "is_zero")]
    pub future: u64,
    /// Seen before.
    #[serde(skip_serializing_if = "is_zero")]
    pub duplicate: u64,
    /// Late for some output, and kept with the dead letters.
    #[serde(skip_serializing_if = "is_zero")]
    pub late_kept: u64,
    /// Offsets that Kafka no longer had.
    #[serde(skip_serializing_if = "is_zero")]
    pub lost_offsets: u64,
}

/// What an output did with the records that reached it, in records; and what it wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OutputTotals {
    /// Refused by the WHERE of the query.
    #[serde(skip_serializing_if = "is_zero")]
    pub filtered: u64,
    /// Of a window that was closed.
    #[serde(skip_serializing_if = "is_zero")]
    pub late: u64,
    /// Of several windows, some of which were closed; counted as accepted too.
    #[serde(skip_serializing_if = "is_zero")]
    pub partly_late: u64,
    /// Part of the result.
    #[serde(skip_serializing_if = "is_zero")]
    pub accepted: u64,
    /// Records that the query refuses, by reason: each is a dead letter.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub dead_letter: BTreeMap<String, u64>,
    /// Rows of the result that the query or the output refuses, by reason: each is a dead letter.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<String, u64>,
    /// Rows written.
    #[serde(skip_serializing_if = "is_zero")]
    pub rows: u64,
    /// Files written.
    #[serde(skip_serializing_if = "is_zero")]
    pub files: u64,
    /// Bytes written.
    #[serde(skip_serializing_if = "is_zero")]
    pub bytes: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl RunnerStatus {
    /// Dead letters by reason: bad records, and records and rows that a query or an output refuses.
    pub fn dead_letters(&self) -> BTreeMap<&str, u64> {
        let outputs = self.totals.outputs.values().flat_map(|output| output.dead_letter.iter().chain(&output.refused));
        let sources = self.totals.sources.values().flat_map(|source| &source.dead_letter);
        let mut by_reason = BTreeMap::new();
        for (reason, number) in sources.chain(outputs) {
            let sum: &mut u64 = by_reason.entry(reason.as_str()).or_default();
            *sum = sum.saturating_add(*number);
        }
        by_reason
    }

    /// The partitions that do not answer while others do, those that hold the watermark back first.
    pub fn silent_partitions(&self) -> Vec<&PartitionStatus> {
        // Before they were asked none has an answer.
        let is_asked = self.partitions.iter().any(|partition| partition.end.is_some() || partition.holds_watermark);
        let mut silent: Vec<_> =
            self.partitions.iter().filter(|partition| is_asked && partition.end.is_none()).collect();
        silent.sort_by_key(|partition| !partition.holds_watermark);
        silent
    }

    /// Why there is no output: the runner's word, and what it means. `None`: there is some, or nobody knows.
    pub fn why_no_output(&self) -> Option<String> {
        let word = self.no_output.as_ref()?;
        Some(self.no_output_message.as_ref().map_or_else(|| word.clone(), |meaning| format!("{word}: {meaning}")))
    }
}

impl PartitionStatus {
    /// Records that Kafka has and the job has not committed; `None` if the partition did not answer.
    pub fn lag(&self) -> Option<i64> {
        self.end.map(|end| end.saturating_sub(self.position).max(0))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use kube::CustomResourceExt;
    use regex::Regex;
    use serde_json::{Value, json};

    use super::*;
    use crate::batch_job::BatchJob;
    use crate::streaming_job::StreamingJob;

    const PAGE: &str = include_str!("../../page/src/page.js");

    /// A status with everything in it.
    fn full() -> Value {
        let by_reason = || BTreeMap::from([("syntax".to_owned(), 1)]);
        let source = SourceTotals {
            read: 1,
            bytes: 1,
            tombstone: 1,
            control: 1,
            dead_letter: by_reason(),
            future: 1,
            duplicate: 1,
            late_kept: 1,
            lost_offsets: 1,
        };
        let output = OutputTotals {
            filtered: 1,
            late: 1,
            partly_late: 1,
            accepted: 1,
            dead_letter: by_reason(),
            refused: by_reason(),
            rows: 1,
            files: 1,
            bytes: 1,
        };
        let totals = Totals { sources: [("s".to_owned(), source)].into(), outputs: [("o".to_owned(), output)].into() };
        let status = RunnerStatus {
            partitions: vec![PartitionStatus::default()],
            last_commit: Some(CommitStatus::default()),
            last_commits: vec![CommitStatus::default()],
            errors: vec![ErrorReport::default()],
            outputs: [("o".to_owned(), OutputStatus::default())].into(),
            batch: Some(BatchRunStatus::default()),
            deduplicate: Some(DeduplicateStatus::default()),
            references: [("r".to_owned(), ReferenceStatus::default())].into(),
            totals,
            ..RunnerStatus::default()
        };
        serde_json::to_value(status).unwrap()
    }

    #[test]
    fn a_status_of_another_version_is_read_as_far_as_it_goes() {
        let told =
            r#"{"phase": "dreaming", "reason": "NewWord", "new": {"x": 1}, "partitions": [{"topic": "t", "y": []}]}"#;
        let status: RunnerStatus = serde_json::from_str(told).unwrap();
        assert_eq!((status.phase, status.reason.as_str()), (Phase::Unknown, "NewWord"));
        assert!(!status.ready && status.partitions[0].topic == "t");
        let whole: RunnerStatus = serde_json::from_value(full()).unwrap();
        assert_eq!(serde_json::to_value(whole).unwrap(), full(), "what is written is read");
    }

    /// The names after `object.` in a part of the page.
    fn read_of<'a>(part: &'a str, object: &str) -> BTreeSet<&'a str> {
        let access = Regex::new(&format!(r"\b{object}\??\.(\w+)")).unwrap();
        access.captures_iter(part).map(|found| found.get(1).unwrap().as_str()).collect()
    }

    #[test]
    fn the_page_of_a_job_reads_only_what_a_runner_says() {
        let (_, part) = PAGE.split_once("function jobPage").unwrap();
        let (part, _) = part.split_once("// ---- all jobs").unwrap();
        let full = full();
        let names_of = |pointer: &str| -> BTreeSet<String> {
            full.pointer(pointer).unwrap().as_object().unwrap().keys().cloned().collect()
        };
        let of_rows: BTreeSet<String> =
            ["/partitions/0", "/lastCommits/0", "/errors/0"].into_iter().flat_map(names_of).collect();
        for (object, known) in [
            ("job", names_of("")),
            ("partition", names_of("/partitions/0")),
            ("holder", names_of("/partitions/0")),
            ("source", names_of("/totals/sources/s")),
            ("output", names_of("/totals/outputs/o")),
            ("now", names_of("/outputs/o")),
            ("last", names_of("/lastCommit")),
            ("error", names_of("/errors/0")),
            ("row", of_rows),
        ] {
            let read = read_of(part, object);
            assert!(!read.is_empty(), "the page reads nothing of {object}: has it another name?");
            for name in read {
                assert!(known.contains(name), "the page reads {object}.{name}, which no runner says");
            }
        }
        for phase in [Phase::Starting, Phase::Running, Phase::Retrying, Phase::Stalled, Phase::Ended] {
            let word = serde_json::to_value(phase).unwrap();
            assert!(PAGE.contains(&format!("{}: \"", word.as_str().unwrap())), "the page has no colour for {word}");
        }
    }

    /// Whether a path leads somewhere in one of the statuses that the operator writes.
    fn is_known(path: &[&str], schemas: &[Value]) -> bool {
        schemas.iter().any(|schema| {
            let mut at = schema.clone();
            path.iter().all(|name| {
                let next = at["properties"][*name].clone();
                let next = if next.is_null() { at["items"]["properties"][*name].clone() } else { next };
                at = next;
                !at.is_null()
            })
        })
    }

    #[test]
    fn the_page_of_all_jobs_reads_only_what_the_operator_says() {
        let (_, part) = PAGE.split_once("// ---- all jobs").unwrap();
        let (part, _) = part.split_once("// ---- drawing").unwrap();
        let schema =
            |crd: Value| crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"].clone();
        let schemas = [
            schema(serde_json::to_value(StreamingJob::crd()).unwrap()),
            schema(serde_json::to_value(BatchJob::crd()).unwrap()),
        ];
        let access = Regex::new(r"job\.status\??((?:\??\.\w+)+)").unwrap();
        let mut count = 0;
        for found in access.captures_iter(part) {
            let path: Vec<&str> = found[1].split(['?', '.']).filter(|name| !name.is_empty()).collect();
            assert!(is_known(&path, &schemas), "the page reads status.{}, which no job has", path.join("."));
            count += 1;
        }
        assert!(count > 8, "{count}");
        // The words for which the page has colours are reasons.
        let words = Regex::new(r#"\[((?:"\w+",? ?)+)\]\.includes\(reason\)"#).unwrap();
        let words = words.captures(part).unwrap();
        for word in words[1].split(", ") {
            let word = word.trim_matches('"');
            assert!(crate::condition::Reason::from_name(word).is_some(), "{word} is no reason");
        }
    }

    #[test]
    fn the_runner_says_why_there_is_no_output() {
        let why = |told: Value| serde_json::from_value::<RunnerStatus>(told).unwrap().why_no_output();
        assert_eq!(why(json!({"noOutput": null, "noOutputMessage": null})), None);
        assert_eq!(why(json!({"noOutput": "NoInput"})).as_deref(), Some("NoInput"), "an older runner");
        let told = json!({"noOutput": "NoInput", "noOutputMessage": "no record came; look"});
        assert_eq!(why(told).as_deref(), Some("NoInput: no record came; look"));
    }
}
