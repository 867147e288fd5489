//! Which tables this program may read and write: a table names the features that whoever touches it must know.
//!
//! Pure. A feature that is only there, and not used, is no hindrance: a table that was made by Spark has several of those.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::delta::Metadata;

/// What a reader or writer of a table must know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Protocol {
    /// Version of the format for readers.
    pub min_reader_version: i32,
    /// The same for writers.
    pub min_writer_version: i32,
    /// From version 3 on: the features that readers must know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reader_features: Option<Vec<String>>,
    /// From version 7 on: the features that writers must know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer_features: Option<Vec<String>>,
}

/// Versions from which on features are named one by one.
const NAMED_FEATURES: (i32, i32) = (3, 7);

/// Features for times without a time zone.
const LOCAL_TIMES: &str = "timestampNtz";

/// What readers must know and this program does. Files with deletion vectors are refused one by one.
const READ: [&str; 4] = [LOCAL_TIMES, "deletionVectors", "columnMapping", "vacuumProtocolCheck"];

/// What writers must know and this program does, as long as [`uses`] finds no use of it that matters here.
const WRITTEN: [&str; 11] = [
    "appendOnly",
    "invariants",
    "checkConstraints",
    "changeDataFeed",
    "generatedColumns",
    "columnMapping",
    "identityColumns",
    LOCAL_TIMES,
    "deletionVectors",
    "domainMetadata",
    "vacuumProtocolCheck",
];

impl Protocol {
    /// Of a new table.
    pub fn of_new_table(has_local_times: bool) -> Self {
        if !has_local_times {
            return Self { min_reader_version: 1, min_writer_version: 2, ..Self::default() };
        }
        let features = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        let (min_reader_version, min_writer_version) = NAMED_FEATURES;
        Self {
            min_reader_version,
            min_writer_version,
            reader_features: features(&[LOCAL_TIMES]),
            writer_features: features(&[LOCAL_TIMES, "appendOnly", "invariants"]),
        }
    }

    /// Whether it may hold times without a time zone.
    pub fn allows_local_times(&self) -> bool {
        let named = |features: &Option<Vec<String>>| features.iter().flatten().any(|name| name == LOCAL_TIMES);
        named(&self.reader_features) && named(&self.writer_features)
    }

    /// What a reader of the table must know and this program does not.
    pub fn unread(&self, metadata: &Metadata) -> Vec<String> {
        let mut unknown = newer("minReaderVersion", self.min_reader_version, NAMED_FEATURES.0);
        unknown.extend(unnamed(self.reader_features.as_ref(), &READ));
        unknown.extend(metadata.maps_columns().then(|| "columnMapping".to_owned()));
        unknown
    }

    /// What a writer of the table must know and this program does not.
    pub fn unwritten(&self, metadata: &Metadata) -> Vec<String> {
        let mut unknown = self.unread(metadata);
        unknown.extend(newer("minWriterVersion", self.min_writer_version, NAMED_FEATURES.1));
        unknown.extend(unnamed(self.writer_features.as_ref(), &WRITTEN));
        unknown.extend(uses(metadata));
        unknown.sort();
        unknown.dedup();
        unknown
    }
}

fn newer(what: &str, version: i32, known: i32) -> Vec<String> {
    if version > known { vec![format!("{what} {version}")] } else { Vec::new() }
}

fn unnamed(features: Option<&Vec<String>>, known: &[&str]) -> Vec<String> {
    features.into_iter().flatten().filter(|name| !known.contains(&name.as_str())).cloned().collect()
}

/// Uses of features that a writer would have to see to with every row.
fn uses(metadata: &Metadata) -> Vec<String> {
    let mut used = Vec::new();
    used.extend(metadata.configuration_keys("delta.constraints.").map(|name| format!("checkConstraints ({name})")));
    let schema: Value = serde_json::from_str(&metadata.schema_string).unwrap_or_default();
    for field in schema.get("fields").and_then(Value::as_array).into_iter().flatten() {
        let name = field.get("name").and_then(Value::as_str).unwrap_or_default();
        for (key, feature) in [
            ("delta.invariants", "invariants"),
            ("delta.generationExpression", "generatedColumns"),
            ("delta.identity.start", "identityColumns"),
        ] {
            if field.get("metadata").and_then(|metadata| metadata.get(key)).is_some() {
                used.push(format!("{feature} (column {name})"));
            }
        }
    }
    used
}

#[cfg(test)]
mod tests {
    use super::*;

    fn protocol(text: &str) -> Protocol {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn features_that_are_not_known_or_not_seen_to_are_named() {
        let plain = Metadata::default();
        let with = |text: &str| Metadata { configuration: serde_json::from_str(text).unwrap(), ..Metadata::default() };
        let generated = Metadata {
            schema_string: r#"{"fields":[{"name":"d","metadata":{"delta.generationExpression":"x"}}]}"#.to_owned(),
            ..Metadata::default()
        };
        let newest = r#"{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["deletionVectors","v2Checkpoint"],
            "writerFeatures":["deletionVectors","v2Checkpoint","rowTracking","appendOnly"]}"#;
        for (text, metadata, unread, unwritten) in [
            (r#"{"minReaderVersion":1,"minWriterVersion":2}"#, plain.clone(), vec![], vec![]),
            (r#"{"minReaderVersion":2,"minWriterVersion":6}"#, plain.clone(), vec![], vec![]),
            (newest, plain.clone(), vec!["v2Checkpoint"], vec!["rowTracking", "v2Checkpoint"]),
            (
                r#"{"minReaderVersion":4,"minWriterVersion":8}"#,
                plain,
                vec!["minReaderVersion 4"],
                vec!["minReaderVersion 4", "minWriterVersion 8"],
            ),
            (
                r#"{"minReaderVersion":1,"minWriterVersion":3}"#,
                with(r#"{"delta.constraints.positive":"n > 0"}"#),
                vec![],
                vec!["checkConstraints (positive)"],
            ),
            (
                r#"{"minReaderVersion":2,"minWriterVersion":5}"#,
                with(r#"{"delta.columnMapping.mode":"name"}"#),
                vec!["columnMapping"],
                vec!["columnMapping"],
            ),
            (r#"{"minReaderVersion":1,"minWriterVersion":4}"#, generated, vec![], vec!["generatedColumns (column d)"]),
        ] {
            let protocol = protocol(text);
            assert_eq!(protocol.unread(&metadata), unread, "{text}");
            assert_eq!(protocol.unwritten(&metadata), unwritten, "{text}");
        }
        assert!(Protocol::of_new_table(true).allows_local_times());
        assert!(!Protocol::of_new_table(false).allows_local_times());
    }
}
