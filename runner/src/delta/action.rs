//! The lines of a version: what it adds and removes, and what it says of itself.
//!
//! Pure. Paths are encoded by delta-rs, so that whoever removes a file with it names the file as we do.

use std::collections::{BTreeMap, HashMap};

use deltalake_core::kernel::{Action, Add};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::clock::{Clock, SystemClock};
use crate::delta::Metadata;
use crate::delta::protocol::Protocol;
use crate::delta::replay::ActiveFile;

/// A line, as far as writers look into those of others.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Line {
    pub(super) protocol: Option<Protocol>,
    pub(super) meta_data: Option<Metadata>,
    pub(super) txn: Option<Txn>,
    pub(super) add: Option<Named>,
}

/// A file by its path, encoded.
#[derive(Debug, Deserialize)]
pub(super) struct Named {
    pub(super) path: String,
}

/// What a writer has written, by its own count.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Txn {
    pub(super) app_id: String,
    pub(super) version: i64,
}

impl Line {
    /// The lines of a version.
    pub(super) fn read_all(content: &[u8]) -> Result<Vec<Self>, String> {
        let lines = serde_json::Deserializer::from_slice(content).into_iter::<Self>();
        let lines: Vec<_> =
            lines.collect::<Result<_, _>>().map_err(|error| format!("a version is no JSON: {error}"))?;
        if lines.is_empty() { Err("a version is empty".to_owned()) } else { Ok(lines) }
    }
}

/// A file that a version adds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewFile {
    /// Its path below the table's folder.
    pub path: String,
    /// Length.
    pub bytes: u64,
    /// Values of the partition columns; `None` is null.
    pub partition_values: BTreeMap<String, Option<String>>,
    /// What is said of its columns.
    pub statistics: String,
}

/// A version that is being made.
#[derive(Debug)]
pub struct NewVersion {
    operation: &'static str,
    parameters: Value,
    /// The same rows in other files.
    rearranges: bool,
    lines: Vec<Value>,
    files: Vec<Action>,
    removed: Vec<Value>,
    now: i64,
}

impl NewVersion {
    /// A version by what it does, in the words of the format's writers (`WRITE`, `DELETE`).
    pub fn of(operation: &'static str, parameters: Value) -> Self {
        let now = SystemClock.now() / 1_000;
        let (lines, files, removed) = (Vec::new(), Vec::new(), Vec::new());
        Self { operation, parameters, rearranges: false, lines, files, removed, now }
    }

    /// What it does, if that is something else than it began with.
    pub fn does(&mut self, operation: &'static str, parameters: Value) {
        (self.operation, self.parameters) = (operation, parameters);
    }

    /// The rows stay what they are.
    #[must_use]
    pub fn that_rearranges(mut self) -> Self {
        self.rearranges = true;
        self
    }

    /// When it is made, in microseconds since 1970.
    #[must_use]
    pub fn at(mut self, now: i64) -> Self {
        self.now = now / 1_000;
        self
    }

    /// Says who may read and write the table.
    pub fn protocol(&mut self, protocol: &Protocol) {
        self.lines.push(json!({"protocol": protocol}));
    }

    /// Says what the table is.
    pub fn metadata(&mut self, metadata: &Metadata) {
        self.lines.push(json!({"metaData": metadata}));
    }

    /// Says what a new table is.
    pub fn new_table(&mut self, schema_string: String, partition_by: &[String]) {
        let metadata = Metadata {
            id: uuid::Uuid::new_v4().to_string(),
            schema_string,
            partition_columns: partition_by.to_vec(),
            configuration: BTreeMap::new(),
            others: BTreeMap::from([
                ("format".to_owned(), json!({"provider": "parquet", "options": {}})),
                ("createdTime".to_owned(), json!(self.now)),
            ]),
        };
        self.metadata(&metadata);
    }

    /// Says up to where a writer has written, by its own count.
    pub fn writer(&mut self, id: &str, version: i64) {
        self.lines.push(json!({"txn": {"appId": id, "version": version, "lastUpdated": self.now}}));
    }

    /// Adds a file.
    pub fn add(&mut self, file: NewFile) {
        let NewFile { path, bytes, partition_values, statistics } = file;
        self.files.push(Action::Add(Add {
            path,
            partition_values: partition_values.into_iter().collect::<HashMap<_, _>>(),
            size: i64::try_from(bytes).unwrap_or(i64::MAX),
            modification_time: self.now,
            data_change: !self.rearranges,
            stats: Some(statistics),
            ..Add::default()
        }));
    }

    /// Removes a file.
    pub fn remove(&mut self, file: &ActiveFile) {
        let mut remove = json!({
            "path": file.logged,
            "deletionTimestamp": self.now,
            "dataChange": !self.rearranges,
            "extendedFileMetadata": true,
            "partitionValues": file.partition_values,
            "size": file.bytes,
        });
        if let Some(vector) = &file.deletion_vector {
            remove["deletionVector"] = vector.clone();
        }
        self.removed.push(json!({ "remove": remove }));
    }

    /// Its bytes. No two are the same: what is found in the log is ours or is not.
    pub fn bytes(&self) -> bytes::Bytes {
        let is_append = self.removed.is_empty() && !self.files.is_empty();
        let info = json!({"commitInfo": {
            "timestamp": self.now,
            "operation": self.operation,
            "operationParameters": self.parameters,
            "isBlindAppend": is_append,
            "engineInfo": concat!("data-platform/", env!("CARGO_PKG_VERSION")),
            "txnId": uuid::Uuid::new_v4().to_string(),
        }});
        let mut lines = vec![written(&info)];
        lines.extend(self.lines.iter().chain(&self.removed).map(written));
        lines.extend(self.files.iter().map(written));
        (lines.join("\n") + "\n").into()
    }
}

fn written(action: &impl Serialize) -> String {
    serde_json::to_string(action).expect("texts and numbers are always JSON")
}
