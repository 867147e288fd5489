//! `StreamingJob`: a query that runs for ever over Kafka topics and appends to tables, exactly once.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kafka::KafkaSpec;
use crate::quantity::Period;
use crate::resources::{PodSpec, StorageSpec};
use crate::sink::{OutputSpec, SinkSpec};
use crate::source::{BadRecordsSpec, DeduplicateSpec, ReferenceSpec, SourceSpec};

/// What a streaming job reads, computes and writes.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
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
    scale(spec_replicas_path = ".spec.replicas", status_replicas_path = ".status.replicas", label_selector_path = ".status.selector"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Lag", type_ = "integer", json_path = ".status.lag.totalRecords"),
    printcolumn(name = "Last Checkpoint", type_ = "date", json_path = ".status.lastCheckpoint.time"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = ("self.metadata.name.size() <= 52 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')", "the job's name is at most 52 characters of a-z, 0-9 and -, since pods and files are named after it")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.template) != (has(self.sources) && size(self.sources) > 0)", "set exactly one of template and sources"),
    validation = ("has(self.template) || has(self.query) != (has(self.outputs) && size(self.outputs) > 0)", "set exactly one of query (with sink) and outputs"),
    validation = ("has(self.template) || has(self.query) == has(self.sink)", "query and sink stand together: set both, or outputs instead"),
    validation = ("!has(self.template) || (!has(self.query) && !has(self.outputs))", "a template brings its own query: leave query and outputs out, or write the job without template")
)]
pub struct StreamingJobSpec {
    /// A built-in job to take sources, query and parameters from; what else stands in this spec wins over it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<StreamingTemplate>,
    /// Values of the names that stand as `${name}` in the query and in paths.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub parameters: BTreeMap<String, String>,
    /// How the job reaches Kafka.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaSpec>,
    /// The tables of the query that are read from Kafka.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub sources: Vec<SourceSpec>,
    /// Small tables that the query joins with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub references: Vec<ReferenceSpec>,
    /// Count events that come twice only once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deduplicate: Option<DeduplicateSpec>,
    /// When a micro-batch starts.
    #[serde(default)]
    pub trigger: TriggerSpec,
    /// What the job computes: one SQL query over its sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65536))]
    pub query: Option<String>,
    /// Where the rows of `query` go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink: Option<SinkSpec>,
    /// Several queries over the same sources, each with its own sink, instead of `query` and `sink`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub outputs: Vec<OutputSpec>,
    /// What happens to records that cannot be read.
    #[serde(default)]
    pub bad_records: BadRecordsSpec,
    /// Where the job keeps its log and state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointSpec>,
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

/// The built-in streaming jobs.
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

/// When a micro-batch starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TriggerSpec {
    /// Time between the starts of two micro-batches while the job is caught up; behind, they follow at once. Shorter:
    /// fresher results; longer: larger files.
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
    #[schemars(length(min = 1, max = 63), pattern(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
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
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Number of pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Label selector of the pods, for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub selector: Option<String>,
    /// How far behind the job is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<LagStatus>,
    /// The last commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_checkpoint: Option<CheckpointStatus>,
}

/// How far behind a job is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LagStatus {
    /// Records that Kafka has and the job has not committed.
    pub total_records: i64,
    /// Age of the oldest of them, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_seconds: Option<i64>,
}

/// The last commit of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointStatus {
    /// Version of the job log.
    pub version: i64,
    /// When it was committed.
    pub time: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time,
}
