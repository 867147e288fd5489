//! What a job reads: topics, their format, the declared columns, event time; small tables to join with; bad records.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::column::{ColumnSpec, ColumnType};
use crate::pattern;
use crate::quantity::{ByteSize, Period};

/// One table of the query that is read from Kafka: one or more topics with the same kind of records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.topicPattern) != (has(self.topics) && size(self.topics) > 0)")
        .message("topics and topicPattern exclude each other and one is needed: set exactly one of them"),
    validation = Rule::new("self.format != 'raw' || self.columns.all(c, c.from != 'field')")
        .message("a raw value has no fields: give every column a from, or write format: json")
        .field_path(".columns"),
    validation = Rule::new("!has(self.schema) || !has(self.schema.file) || self.format in ['avro', 'protobuf']")
        .message("schema.file is for values of format avro or protobuf: leave it out")
        .field_path(".schema.file"),
    validation = Rule::new("!has(self.schema) || !has(self.schema.message) || self.format == 'protobuf'")
        .message("schema.message is for values of format protobuf: leave it out")
        .field_path(".schema.message"),
    validation = Rule::new(
        "!has(self.schema) || !has(self.schema.file) || self.format != 'protobuf' || has(self.schema.message)"
    )
        .message("a file may hold several messages: name the one that the values are in schema.message")
        .field_path(".schema.file"),
    validation = Rule::new("!has(self.framing) || self.framing == 'none' || self.format in ['json', 'cdc']")
        .message(
            "framing is for json and cdc: avro and protobuf have a schema id in front unless schema.file is set, raw is not parsed"
        )
        .field_path(".framing"),
    validation = Rule::new(
        "!has(self.schema) || !has(self.schema.subject) || \
         (has(self.framing) && self.framing == 'confluent') || \
         (self.format in ['avro', 'protobuf'] && !has(self.schema.file))"
    )
        .message("schema.subject is for values with a schema id in front: leave it out, or set framing: confluent")
        .field_path(".schema.subject"),
    validation = Rule::new(
        "!has(self.eventTime) || \
         self.columns.exists(c, c.type == 'timestamp' && c.name == self.eventTime.column)"
    )
        .message("eventTime.column is not a column of type timestamp: name one, or declare it in columns")
        .field_path(".eventTime.column")
)]
pub struct SourceSpec {
    /// Name of the table in the query.
    #[schemars(length(min = 1, max = 63), pattern(pattern::IDENTIFIER))]
    pub name: String,
    /// Topics to read; they carry the same kind of records. `${name}` stands for a parameter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 249)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub topics: Vec<String>,
    /// Regular expression; every topic whose whole name matches is read, also those that appear later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 249))]
    pub topic_pattern: Option<String>,
    /// Format of the record's value: `json` (one object), `cdc` (flat or Debezium change data), `avro` or `protobuf` (with
    /// a schema registry, or a schema from a file), or `raw` (not parsed: only columns with `from`, so `from: value` of
    /// type string is plain text).
    #[serde(default)]
    pub format: SourceFormat,
    /// What stands in front of a JSON value: `none`, or `confluent`: five bytes, 0 and the id of a schema, which
    /// `kafka.schemaRegistry` must know. With it a value of format `cdc` may be Avro as well: its schema says so. Values of
    /// format `avro` and `protobuf` always have it, unless `schema.file` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub framing: Option<Framing>,
    /// Which schemas the values have. Without it: those that `kafka.schemaRegistry` knows by the id in front of each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<SchemaSpec>,
    /// The columns that the query may use.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub columns: Vec<ColumnSpec>,
    /// Which column tells when an event happened. Needed for windows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_time: Option<EventTimeSpec>,
    /// A longer value is a bad record (`too_large`), 1Ki to 128Mi. Raises memory when raised.
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
    /// `{schema, payload}` wrapper. Both are brought to one object first, whose fields the columns name: `operation`,
    /// `operation_type`, `database`, `schema_name`, `table_name`, `before`, `after`, `event_time`, `transaction_id`,
    /// `log_sequence_number`, `is_snapshot`.
    Cdc,
    /// Avro, by the schema id in front of each value and `kafka.schemaRegistry`, or by `schema.file`.
    Avro,
    /// Protobuf, by the schema id in front of each value and `kafka.schemaRegistry`, or by `schema.file`.
    Protobuf,
    /// Not parsed: only columns with `from`.
    Raw,
}

/// What stands in front of a JSON value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Framing {
    /// Nothing.
    None,
    /// Five bytes: 0 and the id of a schema, as the serializers of schema registries write them.
    Confluent,
}

/// Which schemas the values of a source have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SchemaSpec {
    /// File with the schema of values that have no id in front: of `avro` a schema (JSON), of `protobuf` a `.proto` file
    /// or a descriptor set (`protoc --descriptor_set_out --include_imports`). In a pod it lies in one of `pod.volumes`.
    /// Read when the job starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub file: Option<String>,
    /// Subject under which the schema must be registered; an id that it does not have makes the record bad
    /// (`foreign_schema`). Without it any schema will do that has the columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub subject: Option<String>,
    /// Full name of the message in the file, of format `protobuf`: `shop.v1.Order`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub message: Option<String>,
}

impl SourceSpec {
    /// Whether the id of a schema stands in front of each value.
    pub fn has_schema_ids(&self) -> bool {
        let of_file = self.schema.as_ref().is_some_and(|schema| schema.file.is_some());
        match self.format {
            SourceFormat::Avro | SourceFormat::Protobuf => !of_file,
            SourceFormat::Json | SourceFormat::Cdc => self.framing == Some(Framing::Confluent),
            SourceFormat::Raw => false,
        }
    }
}

/// When an event happened, and how long late ones are waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventTimeSpec {
    /// A column of type timestamp, out of the record (not computed). A record without it is a bad record.
    #[schemars(length(min = 1, max = 128))]
    pub column: String,
    /// How far behind the latest event of its partition an event may be, up to 30d. Longer: fewer late rows, but
    /// results and memory wait as much longer.
    #[serde(default = "default_watermark_delay")]
    pub watermark_delay: Period,
    /// After this time without records (late ones count as none) a partition that has no backlog no longer holds the
    /// watermark back.
    #[serde(default = "default_idle_timeout")]
    pub idle_timeout: Period,
    /// An event further ahead of the clock than this goes to the dead letters and does not move the watermark.
    #[serde(default = "default_max_future_skew")]
    pub max_future_skew: Period,
    /// A partition that has no backlog and whose events lie further behind the greatest than this no longer holds the
    /// watermark back: its producer's clock is wrong, or its data is old.
    #[serde(default = "default_max_hold")]
    pub max_hold: Period,
    /// How the watermarks of the partitions make the job's: `PartitionMin` (the least of the active ones) or `SparkMax`
    /// (the greatest of all).
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

/// A day: longer than any outage that somebody waits for, and short against windows that would stay open for ever.
fn default_max_hold() -> Period {
    Period::from_secs(24 * 3600)
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
    /// Columns that identify an event; every source of the job has them.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 128)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub keys: Vec<String>,
    /// How long after the first one, in event time, a second one is recognised. Longer: more state.
    pub within: Period,
}

/// A small table that the query joins with, held in memory and loaded again when it changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReferenceSpec {
    /// Name of the table in the query.
    #[schemars(length(min = 1, max = 63), pattern(pattern::IDENTIFIER))]
    pub name: String,
    /// Format of the files.
    pub format: ReferenceFormat,
    /// File, folder or URL; a relative path lies below the outputs folder. `${name}` stands for a parameter.
    #[schemars(length(min = 1, max = 1024))]
    pub path: String,
    /// Columns that the files have, with their types. Of a CSV file a column that is not named here is text; of NDJSON only
    /// these are read, unless a job wrote it; other files know their types. A job whose references name their columns can be checked before the files are there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 512))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub columns: Vec<ReferenceColumnSpec>,
    /// How often to look for a change, at least 1s.
    #[serde(default = "default_reload_interval")]
    pub reload_interval: Period,
}

/// A column of a reference table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReferenceColumnSpec {
    /// Name of the column in the file's header and in the query.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// Type in Spark's notation, as for the columns of a source.
    #[serde(rename = "type")]
    pub column_type: ColumnType,
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
    /// CSV files with a header, packed (`.csv.gz`, `.csv.zst`) or not.
    Csv,
    /// Files with a JSON object in each line (`.ndjson`), packed or not.
    Ndjson,
    /// A Delta table.
    Delta,
}

/// What happens to records that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(!has(self.topic) && !has(self.path)) || self.action == 'deadLetter'")
        .message("topic and path are for dead letters: leave them out, or write action: deadLetter"),
    validation = Rule::new("!has(self.topic) || !has(self.path)")
        .message("topic and path exclude each other: set one of them, or none for the default table")
)]
pub struct BadRecordsSpec {
    /// Keep them aside with their original bytes and the reason (`deadLetter`), stop the job at the first one (`fail`),
    /// or only count them (`drop`).
    #[serde(default)]
    pub action: BadRecordAction,
    /// Topic for the dead letters, instead of a table. At least once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 249))]
    pub topic: Option<String>,
    /// Folder of the dead-letter table. Default: `<path of the first table>_dead_letters`; of a job without a table
    /// `<job>_dead_letters`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub path: Option<String>,
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
        Self { action: BadRecordAction::default(), topic: None, path: None, max_percent: default_max_bad_percent() }
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

/// What happens to rows whose window is already closed. They are always counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LateRowsSpec {
    /// Only count them (`drop`), or also keep their records where bad records are kept, with the reason `late`
    /// (`deadLetter`).
    #[serde(default)]
    pub action: LateRowAction,
}

/// What happens to a row whose window is already closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LateRowAction {
    /// Only counted.
    #[default]
    Drop,
    /// Its record is kept like a bad one.
    DeadLetter,
}
