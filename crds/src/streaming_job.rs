//! `StreamingJob`: a query that runs for ever over Kafka topics and appends to tables, exactly once.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kafka::KafkaSpec;
use crate::pattern;
use crate::quantity::Period;
use crate::resources::{PodSpec, StorageSpec};
use crate::sink::{OutputSpec, SinkSpec};
use crate::source::{BadRecordsSpec, DeduplicateSpec, LateRowsSpec, ReferenceSpec, SourceSpec};

/// What a streaming job reads, computes and writes.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "dataplatform.io",
    version = "v1alpha1",
    kind = "StreamingJob",
    namespaced,
    doc = "A query that runs for ever over Kafka topics and appends to tables, exactly once.",
    status = "StreamingJobStatus",
    derive = "PartialEq",
    shortname = "sj",
    category = "dataplatform",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Pods", type_ = "integer", json_path = ".status.replicas", priority = 1),
    printcolumn(name = "Lag", type_ = "integer", json_path = ".status.lag.totalRecords"),
    printcolumn(name = "Freshness", type_ = "date", json_path = ".status.freshness"),
    printcolumn(name = "Last Checkpoint", type_ = "date", json_path = ".status.lastCheckpoint.time"),
    printcolumn(
        name = "Records/s",
        type_ = "integer",
        json_path = ".status.throughput.recordsInPerSecond",
        priority = 1
    ),
    printcolumn(name = "Watermark", type_ = "date", json_path = ".status.watermark", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new(pattern::JOB_NAME_RULE).message(pattern::JOB_NAME_MESSAGE).field_path(".metadata.name")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.template) != (has(self.sources) && size(self.sources) > 0)")
        .message("template and sources exclude each other and one is needed: set exactly one of them"),
    validation = Rule::new("has(self.template) || has(self.query) != (has(self.outputs) && size(self.outputs) > 0)")
        .message("query and outputs exclude each other and one is needed: set query and sink, or outputs"),
    validation = Rule::new("has(self.template) || has(self.query) == has(self.sink)")
        .message("query and sink stand together: set both, or outputs instead"),
    validation = Rule::new(
        "!has(self.template) || \
         (!has(self.query) && (!has(self.outputs) || self.outputs.all(o, !has(o.query))))"
    )
        .message("a template brings its own query: leave every query out, or write the job without template"),
    validation = Rule::new("has(self.template) || !has(self.outputs) || self.outputs.all(o, has(o.query))")
        .message("an output has no query: write one; only a template brings its own")
        .field_path(".outputs"),
    validation = Rule::new("!has(self.sources) || self.sources.all(a, self.sources.exists_one(b, a.name == b.name))")
        .message("two sources have the same name: give each its own, it is its table in the query")
        .field_path(".sources"),
    validation = Rule::new("!has(self.outputs) || self.outputs.all(a, self.outputs.exists_one(b, a.name == b.name))")
        .message("two outputs have the same name: give each its own")
        .field_path(".outputs"),
    validation = Rule::new(
        "!has(self.sources) || (has(self.kafka) && has(self.kafka.schemaRegistry)) || \
         self.sources.all(s, (!has(s.framing) || s.framing == 'none') && \
         (!(s.format in ['avro', 'protobuf']) || (has(s.schema) && has(s.schema.file))))"
    )
        .message("values with schema ids need their schemas: set kafka.schemaRegistry, or schema.file of the source")
        .field_path(".kafka")
)]
pub struct StreamingJobSpec {
    /// A built-in job to take sources, query, sink and parameters from: `event-aggregation`, `clickstream-analysis`,
    /// `data-enrichment` or `cdc-transformation`. What else stands in this spec wins over it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<StreamingTemplate>,
    /// Values of the names that stand as `${name}` in queries, paths and topics; `$${` is a plain `${`. A template says
    /// which ones it has (`data-platform explain`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64, "additionalProperties" = {"type": "string", "maxLength": 4096}))]
    pub parameters: BTreeMap<String, String>,
    /// How the job reaches Kafka.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaSpec>,
    /// The tables of the query that are read from Kafka, each with a name of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub sources: Vec<SourceSpec>,
    /// Small tables that the query joins with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub references: Vec<ReferenceSpec>,
    /// Count events that come twice only once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deduplicate: Option<DeduplicateSpec>,
    /// When a micro-batch starts.
    #[serde(default)]
    pub trigger: TriggerSpec,
    /// What the job computes: one SQL query over its sources and references. `${name}` stands for a parameter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65536))]
    pub query: Option<String>,
    /// Where the rows of `query` go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink: Option<SinkSpec>,
    /// Several queries over the same sources, each with its own sink, instead of `query` and `sink`. With a template: where
    /// the rows of its query go, to each of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub outputs: Vec<OutputSpec>,
    /// What happens to records that cannot be read.
    #[serde(default)]
    pub bad_records: BadRecordsSpec,
    /// What happens to rows whose window is already closed.
    #[serde(default)]
    pub late_rows: LateRowsSpec,
    /// Where the job keeps its log and state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointSpec>,
    /// What becomes of windows that are open when the query changes in a way that their state does not allow: `wait`
    /// (the old query goes on and the change waits), `rebuild` (the new query computes them anew from Kafka), `drain`
    /// (the old query closes them as they are) or `newLog` (a new beginning: with another `checkpoint.name`).
    #[serde(default)]
    pub on_query_change: QueryChangePolicy,
    /// How long a stopping job may take to finish or abandon its micro-batch and to publish what is decided, 1s to 1h.
    /// Pods get a little more before they are killed.
    #[serde(default = "default_stop_timeout")]
    pub stop_timeout: Period,
    /// How much the job logs: `error`, `warn`, `info`, `debug` or `trace`. The environment variable `LOG_LEVEL` wins
    /// over it; without both: `info`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_level: Option<LogLevel>,
    /// Stop reading and keep everything; windows stay open, and the job goes on where it stopped.
    #[serde(default)]
    pub suspend: bool,
    /// Number of pods that share the work. More than one is not supported yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    pub replicas: Option<i32>,
    /// Where outputs and checkpoints lie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageSpec>,
    /// Settings of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodSpec>,
}

/// Time for one commit to a slow object store, and what Kubernetes itself allows by default.
fn default_stop_timeout() -> Period {
    Period::from_secs(30)
}

impl Default for StreamingJobSpec {
    /// An empty spec with every default in place. Not valid by itself: sources and queries are missing.
    fn default() -> Self {
        Self {
            template: None,
            parameters: BTreeMap::new(),
            kafka: None,
            sources: Vec::new(),
            references: Vec::new(),
            deduplicate: None,
            trigger: TriggerSpec::default(),
            query: None,
            sink: None,
            outputs: Vec::new(),
            bad_records: BadRecordsSpec::default(),
            late_rows: LateRowsSpec::default(),
            checkpoint: None,
            on_query_change: QueryChangePolicy::default(),
            stop_timeout: default_stop_timeout(),
            log_level: None,
            suspend: false,
            replicas: None,
            storage: None,
            pod: None,
        }
    }
}

/// A built-in job to take sources, query, sink and parameters from: `event-aggregation`, `clickstream-analysis`,
/// `data-enrichment` or `cdc-transformation`. What else stands in the job's spec wins over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StreamingTemplate {
    /// One-minute counts per user, event type and application.
    EventAggregation,
    /// One row per visit.
    ClickstreamAnalysis,
    /// Every event in one common shape, joined with user master data.
    DataEnrichment,
    /// Standardised changes, and their counts per table and minute.
    CdcTransformation,
}

/// What becomes of windows that are open when the query changes in a way that their state does not allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum QueryChangePolicy {
    /// In a cluster the old query goes on, and the change waits for its user; elsewhere the job does not begin.
    #[default]
    Wait,
    /// The new query computes them anew from the records in Kafka. Nothing is lost or counted twice; a window that began
    /// before the oldest open one has only the records since then.
    Rebuild,
    /// The old query closes them with what they have; rows that come later for them are late. Then the new query begins.
    Drain,
    /// The old log and its windows are left, and a new log begins over the same output, where `startingOffsets` says: with
    /// another `checkpoint.name`.
    NewLog,
}

/// How much the job logs: `error`, `warn`, `info`, `debug` or `trace`. The environment variable `LOG_LEVEL` wins over
/// it; without both: `info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LogLevel {
    /// What a person must look at.
    Error,
    /// Also what is odd but did not stop the job.
    Warn,
    /// Also changes of state.
    Info,
    /// Also each micro-batch in detail.
    Debug,
    /// Also what the libraries do.
    Trace,
}

/// When a micro-batch starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TriggerSpec {
    /// Time between the starts of two micro-batches while the job is caught up, up to 1d; behind, they follow at once.
    /// Shorter: fresher results; longer: larger files.
    #[serde(default = "default_trigger_interval")]
    pub interval: Period,
}

fn default_trigger_interval() -> Period {
    Period::from_secs(10)
}

impl Default for TriggerSpec {
    fn default() -> Self {
        Self { interval: default_trigger_interval() }
    }
}

/// Where the job keeps its log and state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointSpec {
    /// Name of the checkpoint, instead of the job's: it survives a rename of the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), pattern(pattern::DNS_LABEL))]
    pub name: Option<String>,
}

/// What the operator saw of the job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StreamingJobStatus {
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Progressing, Degraded and Stalled, each with a reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
    /// Number of pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Number of pods that read and commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// Label selector of the pods, for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub selector: Option<String>,
    /// How far behind the job is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<LagStatus>,
    /// How much the job reads and writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throughput: Option<ThroughputStatus>,
    /// Windows that end at or before this time are closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<Time>,
    /// Event time up to which the rows of the output go: with windows the watermark, without them the newest event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freshness: Option<Time>,
    /// The last commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_checkpoint: Option<CheckpointStatus>,
    /// Records that could not be read, since the job's log began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letters: Option<DeadLetterStatus>,
    /// Why there is no output although the job runs. Absent: there is some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub no_output: Option<String>,
    /// The last error that the running runner met, also when it went on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<ErrorStatus>,
    /// How the runner ended the last time that it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<ExitStatus>,
    /// Image that the job runs: an upgrade of the operator alone does not change it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub image: Option<String>,
}

/// Records that could not be read, since the job's log began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterStatus {
    /// All of them.
    pub total_records: i64,
    /// By what is wrong with them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub by_reason: BTreeMap<String, i64>,
}

/// An error that a runner met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErrorStatus {
    /// When.
    pub time: Time,
    /// One word for what, such as `KafkaUnreachable`.
    #[schemars(length(max = 128))]
    pub reason: String,
    /// What happened and what to do.
    #[schemars(length(max = 4096))]
    pub message: String,
}

/// How much a job reads and writes, over about the last minute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ThroughputStatus {
    /// Records read from Kafka per second, rounded up.
    pub records_in_per_second: i64,
    /// Rows written per second, rounded up.
    pub rows_out_per_second: i64,
}

/// How a runner ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExitStatus {
    /// When it ended.
    pub time: Time,
    /// Its exit code: 0 done, 1 failed, 2 the user must change something, 3 fenced.
    pub exit_code: i32,
    /// One word for why, such as `KafkaUnreachable`.
    #[schemars(length(max = 128))]
    pub reason: String,
    /// What happened and what to do.
    #[schemars(length(max = 4096))]
    pub message: String,
}

/// How far behind a job is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LagStatus {
    /// Records that Kafka has and the job has not committed.
    pub total_records: i64,
    /// Greatest age of the first of them, over the partitions, in seconds: it was written after the record before it,
    /// and after the partition was last seen to have nothing more. Absent: not known yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_seconds: Option<i64>,
    /// The partitions that are behind most, worst first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub worst_partitions: Vec<PartitionLag>,
}

/// How far behind a job is in one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PartitionLag {
    /// Topic.
    #[schemars(length(max = 249))]
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Records that Kafka has and the job has not committed. Absent: the partition does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<i64>,
    /// Greatest age of the first of them, in seconds. Absent: not known yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<i64>,
}

/// The last commit of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointStatus {
    /// Version of the job log.
    pub version: i64,
    /// When it was committed.
    pub time: Time,
}
