//! What a job reads: topics, their format, the declared columns, event time; small tables to join with; bad records.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::column::ColumnSpec;
use crate::quantity::{ByteSize, Period};

/// One table of the query that is read from Kafka: one or more topics with the same kind of records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.topicPattern) != (has(self.topics) && size(self.topics) > 0)", "set exactly one of topics and topicPattern"))]
pub struct SourceSpec {
    /// Name of the table in the query.
    #[schemars(length(min = 1, max = 63), pattern(r"^[a-zA-Z_][a-zA-Z0-9_]*$"))]
    pub name: String,
    /// Topics to read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 249)))]
    pub topics: Vec<String>,
    /// Regular expression; every topic whose whole name matches is read, also those that appear later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 249))]
    pub topic_pattern: Option<String>,
    /// Format of the record's value.
    #[serde(default)]
    pub format: SourceFormat,
    /// The columns that the query may use.
    #[schemars(length(min = 1, max = 512))]
    pub columns: Vec<ColumnSpec>,
    /// Which column tells when an event happened. Needed for windows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_time: Option<EventTimeSpec>,
    /// A longer value is a bad record (`too_large`). Raises memory when raised.
    #[serde(default = "default_max_record_bytes")]
    pub max_record_bytes: ByteSize,
    /// A value that nests deeper is a bad record (`too_deep`).
    #[serde(default = "default_max_depth")]
    #[schemars(range(min = 1, max = 1024))]
    pub max_depth: i32,
}

/// As the broker's own default for a record batch (`message.max.bytes`, 1,048,588).
fn default_max_record_bytes() -> ByteSize {
    ByteSize::from_mebibytes(1)
}

/// As serde_json's and most parsers' limit.
fn default_max_depth() -> i32 {
    127
}

/// Format of a record's value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SourceFormat {
    /// One JSON object.
    #[default]
    Json,
    /// Change data: the flat form `{op, table, before, after, ts_ms}` or the Debezium envelope, with or without its
    /// `{schema, payload}` wrapper.
    Cdc,
    /// Avro with a schema registry.
    Avro,
}

/// When an event happened, and how long late ones are waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventTimeSpec {
    /// A column of type timestamp. A record without it is a bad record.
    #[schemars(length(min = 1, max = 128))]
    pub column: String,
    /// How far behind the latest event of its partition an event may be. Longer: fewer late rows, but results and
    /// memory wait as much longer.
    #[serde(default = "default_watermark_delay")]
    pub watermark_delay: Period,
    /// After this time without records a partition that has no backlog no longer holds the watermark back.
    #[serde(default = "default_idle_timeout")]
    pub idle_timeout: Period,
    /// An event further ahead of the clock than this is not counted and does not move the watermark.
    #[serde(default = "default_max_future_skew")]
    pub max_future_skew: Period,
    /// How the watermarks of the partitions make the job's.
    #[serde(default)]
    pub policy: WatermarkPolicy,
}

fn default_watermark_delay() -> Period {
    Period::from_secs(30)
}

fn default_idle_timeout() -> Period {
    Period::from_secs(30)
}

fn default_max_future_skew() -> Period {
    Period::from_secs(300)
}

/// How the watermarks of the partitions make the job's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WatermarkPolicy {
    /// The least over the active partitions: a partition that lags loses nothing.
    #[default]
    PartitionMin,
    /// The greatest over all partitions, as Spark does: earlier results, but a partition that lags loses its rows.
    SparkMax,
}

/// Rows with the same values in the key columns count once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeduplicateSpec {
    /// Columns that identify an event.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 128)))]
    pub keys: Vec<String>,
    /// How long after the first one, in event time, a second one is recognised.
    pub within: Period,
}

/// A small table that the query joins with, held in memory and loaded again when it changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReferenceSpec {
    /// Name of the table in the query.
    #[schemars(length(min = 1, max = 63), pattern(r"^[a-zA-Z_][a-zA-Z0-9_]*$"))]
    pub name: String,
    /// Format of the files.
    pub format: ReferenceFormat,
    /// File, folder or URL; a relative path lies below the outputs folder.
    #[schemars(length(min = 1, max = 1024))]
    pub path: String,
    /// How often to look for a change.
    #[serde(default = "default_reload_interval")]
    pub reload_interval: Period,
}

fn default_reload_interval() -> Period {
    Period::from_secs(60)
}

/// Format of a reference table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ReferenceFormat {
    /// Parquet files.
    Parquet,
    /// CSV files with a header.
    Csv,
    /// A Delta table.
    Delta,
}

/// What happens to records that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!has(self.topic) || self.action == 'deadLetter'", "topic needs action: deadLetter"))]
pub struct BadRecordsSpec {
    /// Keep them aside (deadLetter), stop the job (fail), or only count them (drop).
    #[serde(default)]
    pub action: BadRecordAction,
    /// Topic for the dead letters, instead of the table `<first output>_dead_letters`. At least once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 249))]
    pub topic: Option<String>,
    /// The job stops reading when more than this share of the records is bad, in percent, over at least 1,000 records
    /// and 60 seconds: then a schema broke. 100 turns it off.
    #[serde(default = "default_max_bad_percent")]
    #[schemars(range(min = 1, max = 100))]
    pub max_percent: i32,
}

fn default_max_bad_percent() -> i32 {
    5
}

impl Default for BadRecordsSpec {
    fn default() -> Self {
        Self { action: BadRecordAction::default(), topic: None, max_percent: default_max_bad_percent() }
    }
}

/// What happens to a record that cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum BadRecordAction {
    /// Kept with its original bytes and the reason.
    #[default]
    DeadLetter,
    /// The job stops at the first one and names it.
    Fail,
    /// Only counted.
    Drop,
}
