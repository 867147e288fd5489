//! Declared columns of a source: name, type, where the value comes from, and what makes it a bad one.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod column_type;

pub use column_type::{ColumnType, ColumnTypeError};

/// A declared column of a source. Fields of the record that no column names are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.path) || self.from == 'field'")
        .message("path names a field of the value, and from takes something else: leave one of the two out")
        .field_path(".path"),
    validation = Rule::new("(!has(self.minLength) && !has(self.maxLength)) || self.type == 'string'")
        .message("minLength and maxLength are for texts: leave them out, or declare the column as string")
        .field_path(".type"),
    validation = Rule::new("!has(self.minLength) || !has(self.maxLength) || self.minLength <= self.maxLength")
        .message("minLength is greater than maxLength: no text could satisfy both, make minLength the smaller one")
        .field_path(".minLength"),
    validation = Rule::new("!has(self.timestampUnit) || self.type == 'timestamp'")
        .message("timestampUnit is for timestamps: leave it out, or declare the column as timestamp")
        .field_path(".timestampUnit"),
    validation = Rule::new(
        "self.from == 'field' || \
         (self.from == 'value' && self.type in ['string', 'binary', 'json']) || \
         (self.from == 'key' && self.type in ['string', 'binary']) || \
         (self.from == 'headers' && self.type.startsWith('array')) || \
         (self.from == 'topic' && self.type == 'string') || \
         (self.from == 'partition' && self.type in ['int', 'integer']) || \
         (self.from == 'offset' && self.type in ['bigint', 'long']) || \
         (self.from == 'recordTime' && self.type == 'timestamp')"
    )
        .message(
            "what from takes has another type: declare value as string, binary or json, key as string or binary, \
             headers as array<struct<key:string,value:binary>>, topic as string, partition as int, offset as bigint, \
             recordTime as timestamp"
        )
        .field_path(".type")
)]
pub struct ColumnSpec {
    /// Name of the column in the query.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// Type in Spark's notation, in lower case: string, boolean, int, bigint, double, decimal(p,s), date, timestamp,
    /// binary, json, `array<T>`, `map<string,T>`, `struct<name:T,…>`.
    #[serde(rename = "type")]
    pub column_type: ColumnType,
    /// A record without this field, or with null in it, is a bad record.
    #[serde(default)]
    pub required: bool,
    /// Path of the field inside the record's value, names separated by dots: `source.ts_ms`. A dot that belongs to a
    /// name is written `\.`, a backslash `\\`. Without it, the field at the top level that is called like the column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub path: Option<String>,
    /// What the column holds instead of a field of the value: `value` (string, binary or json), `key` (string or
    /// binary), `headers` (`array<struct<key:string,value:binary>>`), `topic` (string), `partition` (int), `offset`
    /// (bigint) or `recordTime` (timestamp).
    #[serde(default)]
    pub from: ColumnOrigin,
    /// Unit of a timestamp that comes as a number. `auto` takes a number below 1e11 (absolute) as seconds, else as
    /// milliseconds. Timestamps that come as text need no unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp_unit: Option<TimestampUnit>,
    /// Least number of characters (code points) of a text; a shorter one makes the record bad.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_048_576))]
    pub min_length: Option<u32>,
    /// Greatest number of characters (code points) of a text; a longer one makes the record bad.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_048_576))]
    pub max_length: Option<u32>,
    /// What the column means, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
}

impl ColumnSpec {
    /// An optional column that holds the field of its own name.
    pub fn new(name: impl Into<String>, column_type: ColumnType) -> Self {
        Self {
            name: name.into(),
            column_type,
            required: false,
            path: None,
            from: ColumnOrigin::Field,
            timestamp_unit: None,
            min_length: None,
            max_length: None,
            description: None,
        }
    }

    /// The names to follow from the top of the record's value: those of `path`, else the column's own name.
    ///
    /// # Errors
    ///
    /// A sentence on what is wrong with `path`.
    pub fn path_names(&self) -> Result<Vec<String>, String> {
        self.path.as_deref().map_or_else(|| Ok(vec![self.name.clone()]), path_names)
    }
}

/// Splits `source.ts_ms` at its dots; `\.` is a dot inside a name, `\\` a backslash.
fn path_names(path: &str) -> Result<Vec<String>, String> {
    let mut names = vec![String::new()];
    let mut characters = path.chars();
    while let Some(character) = characters.next() {
        let name = names.last_mut().expect("names begins with one and only grows");
        match character {
            '.' => names.push(String::new()),
            '\\' => match characters.next() {
                Some(escaped @ ('.' | '\\')) => name.push(escaped),
                Some(other) => {
                    return Err(format!(
                        "\\{other} means nothing: write \\. for a dot in a name, \\\\ for a backslash"
                    ));
                }
                None => return Err("a backslash at the end means nothing: write \\\\ for a backslash".to_owned()),
            },
            other => name.push(other),
        }
    }
    if names.iter().any(String::is_empty) {
        return Err(
            "a name between two dots is empty: write names separated by single dots, such as source.ts_ms".to_owned()
        );
    }
    Ok(names)
}

/// Where a column's value comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ColumnOrigin {
    /// A field of the record's value.
    #[default]
    Field,
    /// The whole value as it came: `string`, `binary` or `json`.
    Value,
    /// The Kafka key: `string` or `binary`.
    Key,
    /// The Kafka headers: `array<struct<key:string,value:binary>>`.
    Headers,
    /// The topic's name: `string`.
    Topic,
    /// The partition: `int`.
    Partition,
    /// The offset: `bigint`.
    Offset,
    /// The time that Kafka keeps with the record: `timestamp`.
    RecordTime,
}

/// Unit of a timestamp that comes as a number. `auto` takes a number below 1e11 (absolute) as seconds, else as
/// milliseconds. Timestamps that come as text need no unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum TimestampUnit {
    /// Seconds below 1e11 (absolute), else milliseconds.
    #[default]
    Auto,
    /// Seconds since 1970, UTC.
    Seconds,
    /// Milliseconds since 1970, UTC.
    Milliseconds,
    /// Microseconds since 1970, UTC.
    Microseconds,
    /// Nanoseconds since 1970, UTC; cut to microseconds.
    Nanoseconds,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_names_between_dots() {
        assert_eq!(path_names("source.ts_ms").unwrap(), ["source", "ts_ms"]);
        assert_eq!(path_names(r"a\.b.c\\d").unwrap(), ["a.b", r"c\d"]);
        assert_eq!(ColumnSpec::new("a.b", ColumnType::Int).path_names().unwrap(), ["a.b"]);
        for wrong in [".", "a..b", "a.", ".a", r"a\n", r"a\"] {
            assert!(path_names(wrong).is_err(), "{wrong}");
        }
    }
}
