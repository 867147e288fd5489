//! Declared columns of a source, and [`ColumnType`]: a column's type as one string in Spark's notation.

use std::fmt;
use std::str::FromStr;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A column's type, written as in Spark SQL: `string`, `decimal(10,2)`, `array<string>`,
/// `struct<name:string,tags:array<string>>`, `map<string,bigint>`. One string, because structural schemas cannot recurse.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ColumnType {
    /// UTF-8 text. A number or a boolean there counts as its JSON text.
    String,
    /// `true` or `false`.
    Boolean,
    /// 32-bit signed integer.
    Int,
    /// 64-bit signed integer.
    Bigint,
    /// 64-bit floating point.
    Double,
    /// Exact decimal: total digits (1 to 38), digits after the point.
    Decimal(u8, i8),
    /// Calendar date, `yyyy-MM-dd`.
    Date,
    /// Instant with microseconds, UTC.
    Timestamp,
    /// Bytes, base64 in JSON.
    Binary,
    /// The value's JSON text, unparsed.
    Json,
    /// List of one type.
    Array(Box<ColumnType>),
    /// Named fields.
    Struct(Vec<(String, ColumnType)>),
    /// Map from text to one type.
    Map(Box<ColumnType>),
}

/// Nesting of `array`, `struct` and `map` that a declared type may have: enough for any event, far from a stack's end.
const TYPE_DEPTH_MAX: usize = 16;

/// Why a text is not a [`ColumnType`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a column type: {problem} at character {position}")]
pub struct ColumnTypeError {
    /// The whole text.
    pub text: String,
    /// What is wrong.
    pub problem: String,
    /// Where, from 1.
    pub position: usize,
}

impl FromStr for ColumnType {
    type Err = ColumnTypeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parser = Parser { text, at: 0 };
        let column_type = parser.column_type(0)?;
        if parser.rest().is_empty() { Ok(column_type) } else { Err(parser.error("unexpected text")) }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn rest(&mut self) -> &'a str {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
        &self.text[self.at..]
    }

    fn error(&self, problem: impl Into<String>) -> ColumnTypeError {
        let position = self.text[..self.at].chars().count() + 1;
        ColumnTypeError { text: self.text.to_owned(), problem: problem.into(), position }
    }

    fn word(&mut self) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn field_name(&mut self) -> Result<String, ColumnTypeError> {
        if let Some(quoted) = self.rest().strip_prefix('`') {
            let end = quoted.find('`').ok_or_else(|| self.error("a field name without its closing `"))?;
            self.at += end + 2;
            return Ok(quoted[..end].to_owned());
        }
        let name = self.word();
        if name.is_empty() { Err(self.error("expected a field name")) } else { Ok(name.to_owned()) }
    }

    fn take(&mut self, token: char) -> Result<(), ColumnTypeError> {
        if self.rest().starts_with(token) {
            self.at += token.len_utf8();
            Ok(())
        } else {
            Err(self.error(format!("expected {token:?}")))
        }
    }

    fn number(&mut self) -> Result<u8, ColumnTypeError> {
        let start = self.at;
        let word = self.word();
        word.parse().map_err(|_| {
            self.at = start;
            self.error("expected a number")
        })
    }

    fn column_type(&mut self, depth: usize) -> Result<ColumnType, ColumnTypeError> {
        if depth > TYPE_DEPTH_MAX {
            return Err(self.error(format!("types nest deeper than {TYPE_DEPTH_MAX}")));
        }
        self.rest();
        let start = self.at;
        let word = self.word().to_ascii_lowercase();
        Ok(match word.as_str() {
            "string" => ColumnType::String,
            "boolean" => ColumnType::Boolean,
            "int" | "integer" => ColumnType::Int,
            "bigint" | "long" => ColumnType::Bigint,
            "double" => ColumnType::Double,
            "date" => ColumnType::Date,
            "timestamp" => ColumnType::Timestamp,
            "binary" => ColumnType::Binary,
            "json" => ColumnType::Json,
            "decimal" => self.decimal()?,
            "array" => {
                self.take('<')?;
                let item = self.column_type(depth + 1)?;
                self.take('>')?;
                ColumnType::Array(Box::new(item))
            }
            "map" => {
                self.take('<')?;
                let key_at = self.at;
                if self.column_type(depth + 1)? != ColumnType::String {
                    self.at = key_at;
                    return Err(self.error("the keys of a map are strings"));
                }
                self.take(',')?;
                let value = self.column_type(depth + 1)?;
                self.take('>')?;
                ColumnType::Map(Box::new(value))
            }
            "struct" => self.fields(depth)?,
            _ => {
                self.at = start;
                return Err(self.error(
                    "expected string, boolean, int, bigint, double, decimal(p,s), date, timestamp, binary, json, array<…>, map<string,…> or struct<…>",
                ));
            }
        })
    }

    fn decimal(&mut self) -> Result<ColumnType, ColumnTypeError> {
        let start = self.at;
        self.take('(')?;
        let precision = self.number()?;
        self.take(',')?;
        let scale = self.number()?;
        self.take(')')?;
        if precision == 0 || precision > 38 || scale > precision {
            self.at = start;
            return Err(self.error("a decimal has 1 to 38 digits, and at most as many after the point"));
        }
        Ok(ColumnType::Decimal(precision, scale as i8))
    }

    fn fields(&mut self, depth: usize) -> Result<ColumnType, ColumnTypeError> {
        self.take('<')?;
        let mut fields: Vec<(String, ColumnType)> = Vec::new();
        loop {
            let name_at = self.at;
            let name = self.field_name()?;
            if fields.iter().any(|(other, _)| *other == name) {
                self.at = name_at;
                return Err(self.error(format!("the field {name:?} stands twice")));
            }
            self.take(':')?;
            fields.push((name, self.column_type(depth + 1)?));
            if self.rest().starts_with('>') {
                self.take('>')?;
                return Ok(ColumnType::Struct(fields));
            }
            self.take(',')?;
        }
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::String => f.write_str("string"),
            Self::Boolean => f.write_str("boolean"),
            Self::Int => f.write_str("int"),
            Self::Bigint => f.write_str("bigint"),
            Self::Double => f.write_str("double"),
            Self::Decimal(precision, scale) => write!(f, "decimal({precision},{scale})"),
            Self::Date => f.write_str("date"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Binary => f.write_str("binary"),
            Self::Json => f.write_str("json"),
            Self::Array(item) => write!(f, "array<{item}>"),
            Self::Map(value) => write!(f, "map<string,{value}>"),
            Self::Struct(fields) => {
                f.write_str("struct<")?;
                for (i, (name, column_type)) in fields.iter().enumerate() {
                    let comma = if i == 0 { "" } else { "," };
                    let plain = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
                    if plain {
                        write!(f, "{comma}{name}:{column_type}")?;
                    } else {
                        write!(f, "{comma}`{name}`:{column_type}")?;
                    }
                }
                f.write_str(">")
            }
        }
    }
}

impl Serialize for ColumnType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ColumnType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for ColumnType {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ColumnType".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "minLength": 3, "maxLength": 4096})
    }
}

/// Where a column's value comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ColumnOrigin {
    /// A field of the record's value.
    #[default]
    Field,
    /// The whole value as it came, as text.
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

/// A declared column of a source. Fields of the record that no column names are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ColumnSpec {
    /// Name of the column in the query.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// Type in Spark's notation: string, boolean, int, bigint, double, decimal(p,s), date, timestamp, binary, json,
    /// `array<T>`, `map<string,T>`, `struct<name:T,…>`.
    #[serde(rename = "type")]
    pub column_type: ColumnType,
    /// A record without this field, or with null in it, is a bad record.
    #[serde(default)]
    pub required: bool,
    /// Path of the field inside the record's value, names separated by dots: `source.ts_ms`. A dot that belongs to a
    /// name is written `\.`. Without it, the field at the top level that is called like the column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub path: Option<String>,
    /// What the column holds instead of a field of the value: `value`, `key`, `headers`, `topic`, `partition`,
    /// `offset` or `recordTime`.
    #[serde(default)]
    pub from: ColumnOrigin,
    /// Least number of characters of a text; a shorter one makes the record bad.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_048_576))]
    pub min_length: Option<u32>,
    /// Greatest number of characters of a text; a longer one makes the record bad.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_048_576))]
    pub max_length: Option<u32>,
    /// What the column means, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_prints_as_it_is_read() {
        for text in [
            "string", "boolean", "int", "bigint", "double", "decimal(10,2)", "date", "timestamp", "binary", "json", "array<string>",
            "map<string,array<double>>", "struct<name:string,tags:array<string>,at:struct<lat:double,lon:double>>", "struct<`a b`:int>",
        ] {
            assert_eq!(text.parse::<ColumnType>().unwrap().to_string(), text);
        }
        assert_eq!(" STRUCT < a : Long , b : decimal( 5 , 2 ) > ".parse::<ColumnType>().unwrap().to_string(), "struct<a:bigint,b:decimal(5,2)>");
    }

    #[test]
    fn a_wrong_type_says_what_and_where() {
        for (text, problem, position) in [
            ("strin", "expected string", 1),
            ("array<string", "expected '>'", 13),
            ("map<int,string>", "keys of a map", 5),
            ("struct<a:int,a:int>", "stands twice", 14),
            ("decimal(40,2)", "1 to 38 digits", 8),
            ("string x", "unexpected text", 8),
        ] {
            let error = text.parse::<ColumnType>().unwrap_err();
            assert!(error.problem.contains(problem), "{text}: {error}");
            assert_eq!(error.position, position, "{text}: {error}");
        }
        let deep = "array<".repeat(10_000);
        assert!(deep.parse::<ColumnType>().unwrap_err().problem.contains("deeper"));
    }
}
