//! Where a job writes: tables of files, a topic, or the screen.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pattern;
use crate::quantity::{ByteSize, Period};

/// Where rows go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.format != 'kafka' || (has(self.topic) && !has(self.path))")
        .message("a kafka sink writes to a topic: set topic and leave path out"),
    validation = Rule::new("self.format in ['kafka', 'stdout'] || (has(self.path) && !has(self.topic))")
        .message("a table lies in a folder: set path and leave topic out, or write format: kafka"),
    validation = Rule::new("self.format != 'stdout' || (!has(self.path) && !has(self.topic))")
        .message("stdout keeps nothing: leave path and topic out, or write another format"),
    validation = Rule::new(
        "!has(self.partitionBy) || size(self.partitionBy) == 0 || !(self.format in ['kafka', 'stdout'])"
    )
        .message("partitionBy makes directories and only tables have some: leave it out; keyColumn chooses a topic's partition")
        .field_path(".partitionBy"),
    validation = Rule::new("!has(self.keyColumn) || self.format == 'kafka'")
        .message("keyColumn is for topics: leave it out, or write format: kafka")
        .field_path(".keyColumn"),
    validation = Rule::new(
        "!has(self.maintenance) || (self.format in ['parquet', 'delta'] && has(self.partitionBy) && size(self.partitionBy) > 0)"
    )
        .message("maintenance is for tables of days: write format: parquet or delta and partitionBy with a date, or leave it out")
        .field_path(".maintenance"),
    validation = Rule::new("!has(self.compression) || !(self.format in ['csv', 'ndjson']) || self.compression != 'snappy'")
        .message("files of text are packed by gzip or zstd, or not at all: write compression: gzip, zstd or none")
        .field_path(".compression"),
    validation = Rule::new("!has(self.compression) || self.format in ['csv', 'ndjson'] || self.compression != 'gzip'")
        .message("gzip is for files of text: write compression: zstd, snappy or none")
        .field_path(".compression"),
    validation = Rule::new("!has(self.sortBy) || size(self.sortBy) == 0 || self.format in ['parquet', 'delta']")
        .message("sortBy is for Parquet and Delta, whose readers skip by it: leave it out, or write another format")
        .field_path(".sortBy"),
    validation = Rule::new("!has(self.sortBy) || self.sortBy.all(a, self.sortBy.exists_one(b, a == b))")
        .message("sortBy names a column twice: name each once")
        .field_path(".sortBy"),
    validation = Rule::new("!has(self.partitionBy) || self.partitionBy.all(a, self.partitionBy.exists_one(b, a == b))")
        .message("partitionBy names a column twice: name each once")
        .field_path(".partitionBy")
)]
pub struct SinkSpec {
    /// Format of the output.
    #[serde(default)]
    pub format: SinkFormat,
    /// Folder of the table: relative to the outputs folder, or a URL such as `file:///data/t`, `s3://bucket/t`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub path: Option<String>,
    /// Topic, for format kafka: it must exist. At least once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 249))]
    pub topic: Option<String>,
    /// Column whose text becomes the record's key, for format kafka. Without it, and where it is null, records have no key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub key_column: Option<String>,
    /// Columns that become Hive directories (`date=2026-11-22/`), outermost first, and are left out of the files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 128)))]
    pub partition_by: Vec<String>,
    /// Columns by which the rows of each file are sorted, ascending, nulls first, for Parquet and Delta: readers that look for
    /// few values of the first one skip most of what is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 128)))]
    pub sort_by: Vec<String>,
    /// A file is closed when it has reached about this size, 64Ki to 4Gi. Larger files read faster; smaller ones use
    /// less memory.
    #[serde(default = "default_target_file_size")]
    pub target_file_size: ByteSize,
    /// Files that a run of a batch job writes into one directory at most, each of about `targetFileSize` and the last one with the
    /// rest. Without it Parquet and text are one file, which readers see replaced at once; a Delta table has as many as it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_files: Option<i32>,
    /// Compression of the files: zstd, snappy or none of Parquet and Delta (zstd if it is not set); gzip, zstd or none of CSV and
    /// NDJSON (none if it is not set), whose names then end in `.csv.gz` or `.csv.zst`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
    /// Upkeep of the table by the streaming job that writes it: of Delta and Parquet, in directories of days. Nothing is done
    /// that is not set here. Of Parquet in an object store other readers may see the rows of a directory twice for a moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<MaintenanceSpec>,
}

/// Upkeep of a table. Days are those of the first date in `partitionBy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MaintenanceSpec {
    /// Days that ended this long ago get few large files for many small ones, while the job has nothing to read. From 1h to
    /// 10000h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compact_after: Option<Period>,
    /// About how large those files become, 64Ki to 4Gi; without it `targetFileSize` of the sink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_file_size: Option<ByteSize>,
    /// Days that ended this long ago are removed, with their rows. From 24h to 1000000h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retain: Option<Period>,
}

/// Middle of the 64 to 256 MB that readers like; below the 5 GB that an object store copies in one call.
fn default_target_file_size() -> ByteSize {
    ByteSize::from_mebibytes(128)
}

impl SinkSpec {
    /// A Parquet table below this path, everything else as by default.
    pub fn parquet(path: impl Into<String>) -> Self {
        Self {
            format: SinkFormat::Parquet,
            path: Some(path.into()),
            topic: None,
            key_column: None,
            partition_by: Vec::new(),
            sort_by: Vec::new(),
            target_file_size: default_target_file_size(),
            max_files: None,
            compression: None,
            maintenance: None,
        }
    }
}

/// Format of an output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SinkFormat {
    /// Parquet files, exactly once for any reader.
    #[default]
    Parquet,
    /// A Delta table.
    Delta,
    /// CSV files (RFC 4180).
    Csv,
    /// Files with a JSON object in each line.
    Ndjson,
    /// A topic, one JSON object per row, at least once.
    Kafka,
    /// Standard output, to try a query on a laptop: a table on a terminal, else one JSON object per row. Keeps nothing.
    Stdout,
}

/// Compression of files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Compression {
    /// zstd level 1: half the size of snappy at its speed.
    #[default]
    Zstd,
    /// For readers that know nothing newer.
    Snappy,
    /// For text that any program reads.
    Gzip,
    /// Not compressed.
    None,
}

/// One of several outputs of a job; all share the reading and decoding, and one commit decides them all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutputSpec {
    /// Name of the output in metrics and in the job log.
    #[schemars(length(min = 1, max = 63), pattern(pattern::OUTPUT_NAME))]
    pub name: String,
    /// What it computes: one SQL query over the job's sources and references, or the inputs of a batch job. `${name}` stands for
    /// a parameter. Left out only with a template, which brings it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65536))]
    pub query: Option<String>,
    /// Where its rows go.
    pub sink: SinkSpec,
}
