//! The columns of a Delta table: those that a job writes, those that the table has, and what is to be done where they differ.
//!
//! Pure. Types are written as the schema of the format has them: a word, or an object for lists, structs and maps.

use std::fmt::Write as _;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::delta::Metadata;

/// Characters that other writers do not take in the name of a column.
const NOT_IN_NAMES: [char; 9] = [' ', ',', ';', '{', '}', '(', ')', '\t', '='];

/// The columns of the rows that a job writes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Columns {
    /// In the order of the query.
    columns: Vec<Column>,
    /// Those whose values stand in the log, not in the files.
    partition_by: Vec<String>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Column {
    name: String,
    #[serde(rename = "type")]
    data_type: Value,
    /// Whether it may be null.
    nullable: bool,
}

/// A column that a Delta table cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ColumnRefused {
    /// The format has no such type.
    #[error("the column {column:?} is of type {data_type}, which a Delta table does not have: {cure}")]
    Type {
        /// The column.
        column: String,
        /// Its type.
        data_type: String,
        /// What to write instead.
        cure: &'static str,
    },
    /// Other writers do not take such a name.
    #[error(
        "the column {column:?} has a character in its name that a Delta table does not take ({character:?}): name it differently, \
         with AS"
    )]
    Name {
        /// The column.
        column: String,
        /// The character.
        character: char,
    },
    /// Names differ by case alone.
    #[error(
        "the columns {one:?} and {other:?} are one to readers of a Delta table, which do not tell upper from lower case"
    )]
    Twice {
        /// The first.
        one: String,
        /// The second.
        other: String,
    },
}

/// A column of the job that does not fit to the table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// Another type.
    #[error("its column {column} is of type {theirs}, and the job writes {ours}")]
    Type {
        /// The column.
        column: String,
        /// In the table.
        theirs: String,
        /// In the job.
        ours: String,
    },
    /// The table does not take nulls.
    #[error("its column {column} ({theirs}) does not take nulls, and the job {does}")]
    Required {
        /// The column.
        column: String,
        /// Its type.
        theirs: String,
        /// What the job does.
        does: &'static str,
    },
    /// The same name in other letters.
    #[error("its column {theirs} is called {ours} by the job: write it in the same letters")]
    Letters {
        /// In the table.
        theirs: String,
        /// In the job.
        ours: String,
    },
    /// Other partition columns.
    #[error("it is partitioned by {theirs}, and the job partitions by {ours}")]
    Partitions {
        /// In the table.
        theirs: String,
        /// In the job.
        ours: String,
    },
    /// The table does not allow such columns.
    #[error(
        "the job writes times without a time zone, which the table does not allow (its feature timestampNtz is off)"
    )]
    LocalTimes,
    /// The schema of the table is none.
    #[error("its schema cannot be read: {0}")]
    Unreadable(String),
}

impl Columns {
    /// Of rows with this schema.
    ///
    /// # Errors
    /// When a Delta table cannot have such a column.
    pub fn of(schema: &Schema, partition_by: &[String]) -> Result<Self, ColumnRefused> {
        let mut columns: Vec<Column> = Vec::new();
        for field in schema.fields() {
            let name = field.name();
            if let Some(character) = name.chars().find(|c| NOT_IN_NAMES.contains(c) || *c == '\n') {
                return Err(ColumnRefused::Name { column: name.clone(), character });
            }
            if let Some(one) = columns.iter().find(|known| is_same(&known.name, name)) {
                return Err(ColumnRefused::Twice { one: one.name.clone(), other: name.clone() });
            }
            let data_type = type_of(name, field.data_type())?;
            columns.push(Column { name: name.clone(), data_type, nullable: field.is_nullable() });
        }
        Ok(Self { columns, partition_by: partition_by.to_vec() })
    }

    /// Columns whose values stand in the log.
    pub fn partition_by(&self) -> &[String] {
        &self.partition_by
    }

    /// Type of a column, as the schema of the format has it.
    pub fn type_of(&self, column: &str) -> Option<&Value> {
        self.columns.iter().find(|known| known.name == column).map(|known| &known.data_type)
    }

    /// Whether a table with these columns needs the feature of times without a time zone.
    pub fn has_local_times(&self) -> bool {
        self.columns.iter().any(|column| has_local_time(&column.data_type))
    }

    /// The schema of a new table.
    pub fn schema_string(&self) -> String {
        let fields: Vec<_> = self.columns.iter().map(Column::field).collect();
        json!({"type": "struct", "fields": fields}).to_string()
    }

    /// Compares them with those of a table: the schema that the table needs, if columns have to be added.
    ///
    /// # Errors
    /// When a column does not fit.
    pub fn merged_into(&self, table: &Metadata) -> Result<Option<String>, Misfit> {
        let unreadable = |problem: &dyn std::fmt::Display| Misfit::Unreadable(problem.to_string());
        let mut schema: Value = serde_json::from_str(&table.schema_string).map_err(|error| unreadable(&error))?;
        let partitions = |names: &[String]| if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
        if table.partition_columns != self.partition_by {
            let (theirs, ours) = (partitions(&table.partition_columns), partitions(&self.partition_by));
            return Err(Misfit::Partitions { theirs, ours });
        }
        let fields = schema.get_mut("fields").and_then(Value::as_array_mut);
        let fields = fields.ok_or_else(|| unreadable(&"it has no fields"))?;
        let name_of = |field: &Value| field.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut added = Vec::new();
        for column in &self.columns {
            let Some(field) = fields.iter().find(|field| is_same(&name_of(field), &column.name)) else {
                added.push(Column { nullable: true, ..column.clone() }.field());
                continue;
            };
            column.check(field, name_of(field))?;
        }
        for field in fields.iter() {
            let name = name_of(field);
            let is_written = self.columns.iter().any(|column| column.name == name);
            if !is_written && is_required(field) {
                let theirs = type_name(&field["type"]);
                return Err(Misfit::Required { column: name, theirs, does: "does not write it" });
            }
        }
        if added.is_empty() {
            return Ok(None);
        }
        fields.extend(added);
        Ok(Some(schema.to_string()))
    }
}

impl Column {
    fn field(&self) -> Value {
        json!({"name": self.name, "type": self.data_type, "nullable": self.nullable, "metadata": {}})
    }

    fn check(&self, field: &Value, theirs: String) -> Result<(), Misfit> {
        if theirs != self.name {
            return Err(Misfit::Letters { theirs, ours: self.name.clone() });
        }
        if bare(&field["type"]) != bare(&self.data_type) {
            let (theirs, ours) = (type_name(&field["type"]), type_name(&self.data_type));
            return Err(Misfit::Type { column: self.name.clone(), theirs, ours });
        }
        if is_required(field) && self.nullable {
            let theirs = type_name(&field["type"]);
            return Err(Misfit::Required { column: self.name.clone(), theirs, does: "may write some" });
        }
        Ok(())
    }
}

fn is_required(field: &Value) -> bool {
    field.get("nullable").and_then(Value::as_bool) == Some(false)
}

fn is_same(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}

fn has_local_time(data_type: &Value) -> bool {
    match data_type {
        Value::String(word) => word == "timestamp_ntz",
        Value::Object(parts) => parts.values().any(has_local_time),
        Value::Array(fields) => fields.iter().any(has_local_time),
        _ => false,
    }
}

/// A type without what does not change a value: which parts may be null, and notes.
fn bare(data_type: &Value) -> Value {
    match data_type {
        Value::Object(parts) => {
            let kept = parts.iter().filter(|(key, _)| {
                !matches!(key.as_str(), "nullable" | "containsNull" | "valueContainsNull" | "metadata")
            });
            Value::Object(kept.map(|(key, part)| (key.clone(), bare(part))).collect())
        }
        Value::Array(fields) => Value::Array(fields.iter().map(bare).collect()),
        other => other.clone(),
    }
}

/// A type for people, in Spark's notation.
pub(crate) fn type_name(data_type: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let Some(parts) = data_type.as_object() else {
        return match word(data_type).as_str() {
            "long" => "bigint".to_owned(),
            "integer" => "int".to_owned(),
            "short" => "smallint".to_owned(),
            "byte" => "tinyint".to_owned(),
            other => other.to_owned(),
        };
    };
    let part = |name: &str| parts.get(name).map(type_name).unwrap_or_default();
    match parts.get("type").map(word).unwrap_or_default().as_str() {
        "array" => format!("array<{}>", part("elementType")),
        "map" => format!("map<{},{}>", part("keyType"), part("valueType")),
        _ => {
            let mut shown = String::from("struct<");
            for (index, field) in parts.get("fields").and_then(Value::as_array).into_iter().flatten().enumerate() {
                let comma = if index == 0 { "" } else { "," };
                let _ = write!(shown, "{comma}{}:{}", word(&field["name"]), type_name(&field["type"]));
            }
            shown + ">"
        }
    }
}

/// The type of the format that holds every value of an Arrow type.
fn type_of(column: &str, data_type: &DataType) -> Result<Value, ColumnRefused> {
    let refused = |cure| {
        let (column, data_type) = (column.to_owned(), data_type.to_string());
        Err(ColumnRefused::Type { column, data_type, cure })
    };
    let of = |field: &Arc<Field>| type_of(column, field.data_type());
    let word = match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "string",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "binary",
        DataType::Boolean => "boolean",
        DataType::Int8 => "byte",
        DataType::Int16 => "short",
        DataType::Int32 => "integer",
        DataType::Int64 => "long",
        DataType::Float32 => "float",
        DataType::Float64 => "double",
        DataType::Date32 => "date",
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => "timestamp",
        DataType::Timestamp(TimeUnit::Microsecond, None) => "timestamp_ntz",
        DataType::Timestamp(..) => return refused("write microseconds, CAST(… AS TIMESTAMP(6))"),
        DataType::Decimal128(precision, scale) if *scale >= 0 => {
            return Ok(Value::String(format!("decimal({precision},{scale})")));
        }
        DataType::List(item) | DataType::LargeList(item) => {
            return Ok(json!({"type": "array", "elementType": of(item)?, "containsNull": true}));
        }
        DataType::Struct(fields) => return Ok(json!({"type": "struct", "fields": fields_of(column, fields)?})),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 => {
                let (key, value) = (of(&pair[0])?, of(&pair[1])?);
                return Ok(json!({"type": "map", "keyType": key, "valueType": value, "valueContainsNull": true}));
            }
            _ => return refused("write a list or a struct"),
        },
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
            return refused("write a signed number, CAST(… AS BIGINT)");
        }
        DataType::Null => return refused("say which type it has, CAST(NULL AS VARCHAR)"),
        _ => return refused("write it as text, CAST(… AS VARCHAR)"),
    };
    Ok(Value::String(word.to_owned()))
}

fn fields_of(column: &str, fields: &[Arc<Field>]) -> Result<Vec<Value>, ColumnRefused> {
    let one = |field: &Arc<Field>| {
        let data_type = type_of(column, field.data_type())?;
        Ok(json!({"name": field.name(), "type": data_type, "nullable": true, "metadata": {}}))
    };
    fields.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(fields: &[(&str, DataType)], partition_by: &[&str]) -> Columns {
        let by: Vec<_> = partition_by.iter().map(|name| (*name).to_owned()).collect();
        Columns::of(&schema(fields), &by).unwrap()
    }

    fn schema(fields: &[(&str, DataType)]) -> Schema {
        Schema::new(
            fields.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true)).collect::<Vec<_>>(),
        )
    }

    fn table(schema_string: &str, partition_by: &[&str]) -> Metadata {
        let partition_columns = partition_by.iter().map(|name| (*name).to_owned()).collect();
        Metadata { schema_string: schema_string.to_owned(), partition_columns, ..Metadata::default() }
    }

    fn utc() -> DataType {
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
    }

    #[test]
    fn a_table_of_the_same_columns_fits_and_new_ones_are_added_behind_and_may_be_null() {
        let ours = columns(&[("n", DataType::Int64), ("at", utc()), ("day", DataType::Date32)], &["day"]);
        let there = table(&ours.schema_string(), &["day"]);
        assert_eq!(ours.merged_into(&there), Ok(None));
        let fields = [("n", DataType::Int64), ("at", utc()), ("day", DataType::Date32), ("new", DataType::Utf8View)];
        let wider = columns(&fields, &["day"]);
        let merged: Value = serde_json::from_str(&wider.merged_into(&there).unwrap().unwrap()).unwrap();
        assert_eq!(merged["fields"][3], json!({"name": "new", "type": "string", "nullable": true, "metadata": {}}));
        // The other way round the table keeps its column, and the job writes nulls.
        let now = table(&merged.to_string(), &["day"]);
        assert_eq!(ours.merged_into(&now), Ok(None));
    }

    #[test]
    fn what_does_not_fit_is_named_with_both_types() {
        let field = |name: &str, data_type: Value, nullable: bool| json!({"name": name, "type": data_type, "nullable": nullable, "metadata": {}});
        let of = |fields: Vec<Value>| json!({"type": "struct", "fields": fields}).to_string();
        let ours = columns(&[("n", DataType::Int64), ("tags", DataType::new_list(DataType::Utf8View, true))], &[]);
        let strings = json!({"type": "array", "elementType": "string", "containsNull": false});
        let numbers = json!({"type": "array", "elementType": "long", "containsNull": true});
        for (fields, by, said) in [
            (vec![field("n", json!("long"), true), field("tags", strings.clone(), true)], vec![], None),
            (
                vec![field("n", json!("integer"), true)],
                vec![],
                Some("its column n is of type int, and the job writes bigint"),
            ),
            (vec![field("tags", numbers, true)], vec![], Some("type array<bigint>, and the job writes array<string>")),
            (
                vec![field("n", json!("long"), false)],
                vec![],
                Some("its column n (bigint) does not take nulls, and the job may write some"),
            ),
            (
                vec![field("x", json!("date"), false)],
                vec![],
                Some("its column x (date) does not take nulls, and the job does not write it"),
            ),
            (vec![field("N", json!("long"), true)], vec![], Some("its column N is called n by the job")),
            (
                vec![field("n", json!("long"), true)],
                vec!["n"],
                Some("it is partitioned by n, and the job partitions by nothing"),
            ),
        ] {
            let answer = ours.merged_into(&table(&of(fields), &by));
            match said {
                None => assert_eq!(answer, Ok(None)),
                Some(said) => {
                    let error = answer.unwrap_err().to_string();
                    assert!(error.contains(said), "{error}");
                }
            }
        }
        assert!(matches!(ours.merged_into(&table("{", &[])), Err(Misfit::Unreadable(_))));
    }

    #[test]
    fn what_a_delta_table_cannot_have_is_said_before_anything_is_written() {
        for (fields, said) in [
            (vec![("a b", DataType::Int64)], "a character in its name"),
            (vec![("a", DataType::Int64), ("A", DataType::Int64)], "are one to readers"),
            (vec![("a", DataType::UInt64)], "CAST(… AS BIGINT)"),
            (vec![("a", DataType::Null)], "CAST(NULL AS VARCHAR)"),
            (vec![("a", DataType::new_list(DataType::UInt8, true))], "of type UInt8"),
            (vec![("a", DataType::Timestamp(TimeUnit::Nanosecond, None))], "write microseconds"),
        ] {
            let error = Columns::of(&schema(&fields), &[]).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        let local = DataType::Timestamp(TimeUnit::Microsecond, None);
        assert!(columns(&[("a", DataType::new_list(local, true))], &[]).has_local_times());
        assert!(!columns(&[("a", utc())], &[]).has_local_times());
    }
}
