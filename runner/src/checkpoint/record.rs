//! The records of the job log, and how each is written: one line of JSON with its own checksum.
//!
//! Pure. docs/job-log.md describes the format with an example; a change here is a change of format and needs a new
//! [`FORMAT`], with the one before still read ([`format_1`]). Times are microseconds since 1970 UTC, offsets are Kafka's, and every
//! range is `[start, end)`.

mod format_1;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::checkpoint::duplicates::Duplicates;
use crate::counters::Counters;
use crate::offsets::{Partitions, Range};
use crate::storage::checksum::xxh3_hex;

/// Version of the format that this program writes. It reads this one and the one before.
pub const FORMAT: u32 = 2;

/// One record of the job log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// Version 0: what the job is and where it begins.
    Start(Start),
    /// Who may commit from here on.
    Own(Own),
    /// A micro-batch: what it covers and what it wrote.
    Commit(Box<Commit>),
    /// All files up to a version are visible.
    Published(Published),
    /// The job's query or output changed in a way that its state allows.
    Plan(Plan),
    /// The whole job as of the version before this one lies in `base/`.
    Base(BaseReference),
    /// The job goes on as it was at an earlier version.
    Rewind(Box<Rewind>),
}

/// Version 0 of a log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// Random identity of this log. File names and table transactions carry it, so that a new log over old output is
    /// never mistaken for the old one.
    pub log_id: String,
    /// Namespace of the job; `local` without a cluster.
    pub namespace: String,
    /// Name of the checkpoint (the job's, unless the job says otherwise).
    pub job: String,
    /// Kafka's cluster id.
    pub cluster_id: String,
    /// Topic ids by name: a topic that was deleted and created again has another one.
    pub topics: BTreeMap<String, String>,
    /// Where every partition begins, resolved before the first read.
    pub offsets: Partitions<i64>,
    /// What the job computes.
    pub plan: Plan,
    /// When the log began.
    pub clock: i64,
    /// Version of the program that wrote it.
    pub program: String,
}

/// What a job computes, as far as its log must know.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Hash of the whole normalised job: sources, queries, sinks.
    pub fingerprint: String,
    /// The query of each output that has one; dead letters have none.
    pub queries: BTreeMap<String, QueryPlan>,
    /// The sources as the job declares them, in the words of the API: what a rebuild needs beside the queries to repeat
    /// batches of this plan when the job declares them otherwise. Null in logs that do not have it.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub sources: serde_json::Value,
    /// Root URL of each output.
    pub outputs: BTreeMap<String, String>,
    /// The output that holds the dead letters. It comes into being with the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letters: Option<String>,
    /// The order to start the job again that it was started with: who gave it has looked at what had stopped the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<String>,
    /// Where windows end, if two watermarks without such a time between them close the same windows and make the same rows
    /// late: ends lie at `offset` and every `step` before and after it, in microseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_ends: Option<WindowEnds>,
    /// Hash of what makes two records one, for a job that counts such records once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deduplicate: Option<String>,
    /// The windows that are open here are computed anew, from Kafka: another query made the snapshots before it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rebuild: bool,
}

/// Times at which windows end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowEnds {
    /// Microseconds between two of them.
    pub step: i64,
    /// One of them.
    pub offset: i64,
}

impl WindowEnds {
    /// Whether no window ends after one time and at or before the other.
    pub fn none_between(&self, one: i64, other: i64) -> bool {
        let number = |time: i64| (i128::from(time) - i128::from(self.offset)).div_euclid(i128::from(self.step.max(1)));
        number(one) == number(other)
    }
}

impl Plan {
    /// Whether the query of an output reads a source.
    pub fn reads(&self, output: &str, source: &str) -> bool {
        let Some(query) = self.queries.get(output) else { return false };
        query.sources.is_empty() || query.sources.iter().any(|name| name == source)
    }
}

/// The query of one output, as far as its log must know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryPlan {
    /// The query, as the user wrote it.
    pub sql: String,
    /// Hash of the part that the state depends on: sources, the query below the window, window, keys, aggregates.
    /// Empty for a query without a window, which has no state.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub state_fingerprint: String,
    /// The sources that it reads; empty: all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
}

/// Takes over the right to commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Own {
    /// One more than the owner before.
    pub epoch: u64,
    /// Random identity of the process.
    pub owner: String,
    /// Only a starter of no lower rank may take over.
    pub rank: Rank,
    /// Host and process id, for people.
    pub place: String,
    /// Identity of the pod; of the process, where there is none. Among starters of one rank a pod that a later one has
    /// superseded does not take the job back: what counts is the order in which they first appeared in this log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The partitions that it covers; `None` is all of them (one pod).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<Partitions<()>>,
    /// When.
    pub clock: i64,
}

/// Order of starters, highest first by the first field that differs. Nothing of it is a runner's clock: one that was ahead
/// would fence everybody after it. Among equals the pod decides (see [`Own::pod`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "WrittenRank")]
pub struct Rank {
    /// What a person raises when a job is moved to where its resource is older (`--takeover`, `dataplatform.io/takeover`).
    pub takeover: i64,
    /// Creation of the job's resource, in seconds since 1970 by the API server; 0 without a cluster.
    pub created: i64,
    /// Generation of the resource; 0 without a cluster.
    pub generation: i64,
}

impl Rank {
    /// Creation and generation of the resource as one number: a resource that is created again outranks every generation
    /// of its predecessor, and a million changes of one resource fit below a second.
    pub fn of_resource(&self) -> i64 {
        self.created.saturating_mul(1 << 20).saturating_add(self.generation)
    }
}

/// A rank as it stands in a log. One of format 1 holds a runner's clock, and ranks lowest.
#[derive(Deserialize)]
struct WrittenRank {
    #[serde(default)]
    takeover: i64,
    #[serde(default)]
    created: i64,
    #[serde(default)]
    generation: i64,
    started: Option<i64>,
}

impl From<WrittenRank> for Rank {
    fn from(written: WrittenRank) -> Self {
        let WrittenRank { takeover, created, generation, started } = written;
        if started.is_some() { Self::default() } else { Self { takeover, created, generation } }
    }
}

/// One micro-batch, decided.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Commit {
    /// Epoch of the owner.
    pub epoch: u64,
    /// Identity of the owner.
    pub owner: String,
    /// Number of this attempt in the life of the owner: two attempts are never equal byte by byte.
    pub attempt: u64,
    /// The batch clock: what `now()` was.
    pub clock: i64,
    /// By source: events after this time were refused as future.
    pub latest_event_times: BTreeMap<String, i64>,
    /// Every commit up to this version was published when this one was written.
    pub published: u64,
    /// What was read. A partition that had nothing is not listed.
    pub partitions: Partitions<Range>,
    /// Ids of topics that this batch was the first to read, or whose id the brokers told for the first time.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub new_topics: BTreeMap<String, String>,
    /// The job's watermark after this batch; late is what it has passed. Never falls.
    pub watermark: Option<i64>,
    /// Where a rebuild of the state after this batch has to begin; `None` when nothing is open.
    pub replay_from: Option<ReplayFrom>,
    /// The whole state after this batch, if this batch wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Vec<StateObject>>,
    /// Which of the records were duplicates, by partition.
    #[serde(default, skip_serializing_if = "Partitions::is_empty")]
    pub duplicates: Partitions<Duplicates>,
    /// Versions of the reference tables that this batch used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<ReferenceVersion>,
    /// What was written, per output.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, OutputCommit>,
    /// What happened to the records of this batch.
    pub counters: Counters,
    /// The same since record 0.
    pub totals: Counters,
    /// Evidence of the circuit breaker.
    #[serde(default)]
    pub breaker: Breaker,
    /// `--drain` closed every window with this commit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drained: bool,
}

/// Where a rebuild has to begin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayFrom {
    /// The batch that first put a row into a window that is still open, or into what duplicates are recognised by.
    pub version: u64,
    /// Where each of its partitions began.
    pub offsets: Partitions<i64>,
    /// By output with open windows: the batch that first put a row into one of them. The output takes no part in the
    /// repetition of earlier batches, which may be older than its query.
    pub outputs: BTreeMap<String, u64>,
    /// The batch that first put a record into what is remembered to recognise duplicates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deduplicate: Option<u64>,
}

/// An immutable object that holds a part of the state: of one output, or of what duplicates of one source are recognised by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateObject {
    /// Name of the output; empty if it is of a source.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
    /// Name of the source whose duplicates it recognises.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Which part: the start of an open window or of a stretch of remembered records, in microseconds.
    pub part: i64,
    /// The batch that first put a row into it.
    pub first_version: u64,
    /// Path below the job's folder.
    pub path: String,
    /// Length.
    pub bytes: u64,
    /// xxh3 of the content, 16 hexadecimal digits.
    pub xxh3: String,
}

/// Version of a reference table that a batch used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReferenceVersion {
    /// Name of the table.
    pub name: String,
    /// Hash of its content.
    pub hash: String,
    /// Its rows, kept for rebuilds; `None` if no state depends on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<ReferenceObject>,
}

/// An immutable object with the rows of a reference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReferenceObject {
    /// Path below the job's folder.
    pub path: String,
    /// Length.
    pub bytes: u64,
    /// xxh3 of the content, 16 hexadecimal digits.
    pub xxh3: String,
}

/// What a commit wrote to one output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputCommit {
    /// Root URL of the output when the commit was made.
    pub root: String,
    /// Its files, which become visible when they are published.
    #[serde(default)]
    pub files: Vec<FileCommit>,
    /// What a topic has acknowledged before the decision: it is out, and may come again after a crash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<Sent>,
    /// No row of windows that begin before this time comes any more; `None` without windows, or before the first watermark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete_until: Option<i64>,
}

/// Rows that are out before the commit is decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Their number.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl OutputCommit {
    /// Whether something becomes visible only after the decision.
    pub fn is_to_publish(&self) -> bool {
        !self.files.is_empty()
    }

    /// Rows written.
    pub fn rows(&self) -> u64 {
        self.files.iter().map(|file| file.rows).sum::<u64>() + self.sent.map_or(0, |sent| sent.rows)
    }

    /// Bytes written.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum::<u64>() + self.sent.map_or(0, |sent| sent.bytes)
    }
}

/// A staged file and the name under which readers will see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileCommit {
    /// Path of the staged file below the output's root.
    pub stage: String,
    /// Final path below the output's root.
    pub path: String,
    /// Length.
    pub bytes: u64,
    /// xxh3 of the content, 16 hexadecimal digits.
    pub xxh3: String,
    /// Rows.
    pub rows: u64,
}

/// All commits up to this version are visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Epoch of the owner.
    pub epoch: u64,
    /// The version.
    pub upto: u64,
}

/// Points to an object in `base/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseReference {
    /// Epoch of the owner.
    pub epoch: u64,
    /// The base holds the job as of this version.
    pub version: u64,
    /// Length of the object.
    pub bytes: u64,
    /// xxh3 of the object, 16 hexadecimal digits.
    pub xxh3: String,
}

/// The job goes on as it was after version `to`; every record between that one and this one is void and moved aside. This
/// record's own version is higher than any before it, so that no version is ever used twice: neither by a process that
/// slept, nor in a file's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewind {
    /// The version before this one in the life of the job.
    pub to: u64,
    /// Who may commit from here on. Its epoch is higher than any before: whoever still runs is fenced.
    pub own: Own,
    /// Pods that had the job before, also in what is void now: none of them takes it back from a later one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<String>,
    /// Topics that go on elsewhere than where `to` left them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub topics: BTreeMap<String, TopicMove>,
}

/// Where a topic goes on that was created again, or that lost records which were read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicMove {
    /// Its id from here on.
    pub id: String,
    /// Next offsets; of a topic with a new id those of all its partitions.
    pub positions: BTreeMap<i32, i64>,
    /// Records `[start, end)` that were read after the last snapshot of the state and that nobody can read again: windows
    /// that are still open miss them. Empty unless somebody accepted that.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lost: BTreeMap<i32, (i64, i64)>,
}

/// Evidence of the circuit breaker: bad records since a clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breaker {
    /// Batch clock at which counting began; 0 before the first record.
    pub since: i64,
    /// Records since then.
    pub records: u64,
    /// Bad ones among them.
    pub bad: u64,
    /// The share was too high: the job does not read until its spec changes or it is told to.
    pub open: bool,
}

/// Why bytes are not a record of the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Not JSON of the expected shape.
    #[error("it is not a log record: {0}")]
    Malformed(String),
    /// The checksum does not fit.
    #[error("its checksum is {found}, but {expected} is written in it")]
    Checksum {
        /// Written in the object.
        expected: String,
        /// Computed from it.
        found: String,
    },
    /// It says that it is another version.
    #[error("it says that it is version {found} and lies in the slot of version {expected}")]
    Version {
        /// The slot.
        expected: u64,
        /// What it says.
        found: u64,
    },
    /// Written by a newer or much older program.
    #[error("it has format {found}; this program reads formats {} to {FORMAT}", FORMAT.saturating_sub(1).max(1))]
    Format {
        /// What it says.
        found: u32,
    },
}

#[derive(Serialize, Deserialize)]
struct Envelope<'a> {
    format: u32,
    version: u64,
    xxh3: String,
    #[serde(borrow)]
    body: &'a RawValue,
}

/// The version is part of the hash: a record that was copied into another slot is not valid there.
fn seal(version: u64, body: &str) -> String {
    xxh3_hex(twox_hash::XxHash3_64::oneshot_with_seed(version, body.as_bytes()))
}

/// An object as it is written: one line of JSON around `body`.
pub fn encode<T: Serialize>(version: u64, body: &T) -> Vec<u8> {
    let body = serde_json::value::to_raw_value(body).expect("plain structs with text keys are always JSON");
    let envelope = Envelope { format: FORMAT, version, xxh3: seal(version, body.get()), body: &body };
    let mut bytes = serde_json::to_vec(&envelope).expect("an envelope is always JSON");
    bytes.push(b'\n');
    bytes
}

/// What an object in the log or beside it may hold.
pub trait Body: for<'de> Deserialize<'de> {
    /// Brings a body of format 1 into the present one, where they differ.
    fn upgrade(_: &mut serde_json::Value) {}
}

impl Body for Record {
    fn upgrade(body: &mut serde_json::Value) {
        format_1::upgrade_record(body);
    }
}

impl Body for crate::checkpoint::job_state::JobState {
    fn upgrade(body: &mut serde_json::Value) {
        format_1::upgrade_state(body);
    }
}

/// Reads what [`encode`] wrote into the slot of `version`.
///
/// # Errors
/// [`RecordError`] when a single bit differs from what was written.
pub fn decode<T: Body>(version: u64, bytes: &[u8]) -> Result<T, RecordError> {
    let malformed = |error: serde_json::Error| RecordError::Malformed(error.to_string());
    let line = bytes.strip_suffix(b"\n").ok_or_else(|| RecordError::Malformed("it ends too early".to_owned()))?;
    let envelope: Envelope<'_> = serde_json::from_slice(line).map_err(malformed)?;
    if envelope.format == 0 || envelope.format > FORMAT {
        return Err(RecordError::Format { found: envelope.format });
    }
    if envelope.version != version {
        return Err(RecordError::Version { expected: version, found: envelope.version });
    }
    let found = seal(version, envelope.body.get());
    if found != envelope.xxh3 {
        return Err(RecordError::Checksum { expected: envelope.xxh3, found });
    }
    if envelope.format == FORMAT {
        return serde_json::from_str(envelope.body.get()).map_err(malformed);
    }
    let mut body = serde_json::from_str(envelope.body.get()).map_err(malformed)?;
    T::upgrade(&mut body);
    serde_json::from_value(body).map_err(malformed)
}

#[cfg(test)]
mod tests;
