//! [`ColumnType`]: a column's type as one string in Spark's notation, and its parser.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::pattern;

/// A column's type, written as in Spark SQL: `string`, `decimal(10,2)`, `array<string>`,
/// `struct<name:string,tags:array<string>>`, `map<string,bigint>`, in lower case. One string, because structural
/// schemas cannot recurse.
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

/// Characters of a declared type: a struct of a hundred fields fits.
const TYPE_LENGTH_MAX: usize = 4096;

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

    fn error_at(&self, at: usize, problem: impl Into<String>) -> ColumnTypeError {
        let position = self.text[..at].chars().count() + 1;
        ColumnTypeError { text: self.text.to_owned(), problem: problem.into(), position }
    }

    fn error(&self, problem: impl Into<String>) -> ColumnTypeError {
        self.error_at(self.at, problem)
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
        self.rest();
        let start = self.at;
        self.word().parse().map_err(|_| self.error_at(start, "expected a number"))
    }

    fn column_type(&mut self, depth: usize) -> Result<ColumnType, ColumnTypeError> {
        if depth > TYPE_DEPTH_MAX {
            return Err(self.error(format!("types nest deeper than {TYPE_DEPTH_MAX}")));
        }
        self.rest();
        let start = self.at;
        let word = self.word();
        Ok(match word {
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
                self.rest();
                let key_at = self.at;
                if self.column_type(depth + 1)? != ColumnType::String {
                    return Err(self.error_at(key_at, "the keys of a map are strings"));
                }
                self.take(',')?;
                let value = self.column_type(depth + 1)?;
                self.take('>')?;
                ColumnType::Map(Box::new(value))
            }
            "struct" => self.fields(depth)?,
            _ => return Err(self.error_at(start, unknown_type(word))),
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
            return Err(self.error_at(start, "a decimal has 1 to 38 digits, and at most as many after the point"));
        }
        Ok(ColumnType::Decimal(precision, scale as i8))
    }

    fn fields(&mut self, depth: usize) -> Result<ColumnType, ColumnTypeError> {
        self.take('<')?;
        let mut fields: Vec<(String, ColumnType)> = Vec::new();
        loop {
            self.rest();
            let name_at = self.at;
            let name = self.field_name()?;
            if fields.iter().any(|(other, _)| *other == name) {
                return Err(self.error_at(name_at, format!("the field {name:?} stands twice")));
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

/// Names that other systems use for a type, and ours.
fn our_name(word: &str) -> Option<&'static str> {
    Some(match word {
        "string" | "text" | "varchar" | "char" | "str" | "utf8" => "string",
        "bool" | "boolean" => "boolean",
        "int" | "integer" | "int32" | "smallint" | "tinyint" | "short" | "byte" => "int",
        "bigint" | "long" | "int64" => "bigint",
        "double" | "float" | "float32" | "float64" | "real" | "number" => "double",
        "decimal" | "numeric" => "decimal(p,s)",
        "date" => "date",
        "timestamp" | "datetime" | "timestamp_ltz" | "timestamp_ntz" | "timestamptz" => "timestamp",
        "binary" | "bytes" | "bytea" | "varbinary" | "blob" => "binary",
        "json" | "jsonb" | "object" | "variant" => "json",
        "array" | "list" => "array<…>",
        "map" => "map<string,…>",
        "struct" | "row" | "record" => "struct<name:…>",
        _ => return None,
    })
}

fn unknown_type(word: &str) -> String {
    match our_name(&word.to_ascii_lowercase()) {
        Some(ours) => format!("{word} is written {ours} here"),
        None => format!("expected {}", pattern::in_words(pattern::COLUMN_TYPE).map_or("a type", |(words, _)| words)),
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
        json_schema!({"type": "string", "maxLength": TYPE_LENGTH_MAX, "pattern": pattern::COLUMN_TYPE})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_prints_as_it_is_read() {
        for text in [
            "string",
            "boolean",
            "int",
            "bigint",
            "double",
            "decimal(10,2)",
            "date",
            "timestamp",
            "binary",
            "json",
            "array<string>",
            "map<string,array<double>>",
            "struct<name:string,tags:array<string>,at:struct<lat:double,lon:double>>",
            "struct<`a b`:int>",
        ] {
            assert_eq!(text.parse::<ColumnType>().unwrap().to_string(), text);
        }
        let spaced = " struct < a : long , b : decimal( 5 , 2 ) > ".parse::<ColumnType>().unwrap();
        assert_eq!(spaced.to_string(), "struct<a:bigint,b:decimal(5,2)>");
    }

    #[test]
    fn a_wrong_type_says_what_and_where() {
        for (text, problem, position) in [
            ("strin", "expected string", 1),
            ("STRING", "STRING is written string here", 1),
            ("array<float>", "float is written double here", 7),
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
