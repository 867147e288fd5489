//! The columns of a table and their types, as the job that writes it knows them: `schema.json`, beside the table.
//!
//! A directory `date=2026-02-16` does not say whether its value is a text or a date. The writer does, here, so that no reader
//! guesses from the values that are there today.

use std::borrow::Cow;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use data_platform_crds::column::ColumnType;
use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use object_store::ObjectStoreExt;
use object_store::path::Path as Key;
use serde::{Deserialize, Serialize};

use super::place::{Place, Prefix};
use super::remote::{store_failed, wait};
use crate::storage::canonical::canonical;
use crate::storage::{SharedStore, StoreError, paths};

/// Key in the metadata of a date column: the names of the times whose UTC date it is, as a JSON list.
pub(crate) const UTC_DATE_OF: &str = "utcDateOf";

/// What a table's columns are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSchema {
    /// In the order of the query.
    pub columns: Vec<TableColumn>,
    /// It is a Delta table: it has the files that its log names, and before the first version none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub delta: bool,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableColumn {
    /// Its name.
    pub name: String,
    /// Its type, in Spark's notation.
    #[serde(rename = "type")]
    pub data_type: String,
    /// Its value stands in the name of a directory, not in the files.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub directory: bool,
    /// The times of the same row whose UTC date it is, in every file of the table: a reader may choose directories by it.
    #[serde(default, rename = "utcDateOf", skip_serializing_if = "Vec::is_empty")]
    pub utc_date_of: Vec<String>,
}

impl TableSchema {
    /// Of rows with this schema.
    pub fn new(schema: &Schema, partition_by: &[String]) -> Self {
        let column = |field: &std::sync::Arc<Field>| TableColumn {
            name: field.name().clone(),
            data_type: type_name(field.data_type()),
            directory: partition_by.contains(field.name()),
            utc_date_of: if partition_by.contains(field.name()) { utc_date_of(field) } else { Vec::new() },
        };
        Self { columns: schema.fields().iter().map(column).collect(), delta: false }
    }

    /// The same of a Delta table. Other writers may add rows to it: nothing is said of every file.
    #[must_use]
    pub fn of_delta(mut self) -> Self {
        self.columns.iter_mut().for_each(|column| column.utc_date_of.clear());
        Self { delta: true, ..self }
    }

    /// Type of a directory column; `None` for one that the writer does not know.
    pub fn directory_type(&self, column: &str) -> Option<DataType> {
        let found = self.columns.iter().find(|known| known.directory && known.name == column)?;
        directory_type(&found.data_type)
    }

    /// Type of a column whose cells are text: one value in its own type. Lists, structs and maps, which are JSON, and columns
    /// that the writer does not know stay text.
    pub fn cell_type(&self, column: &str) -> DataType {
        let found = self.columns.iter().find(|known| known.name == column);
        found.and_then(|known| cell_type(&known.data_type)).unwrap_or(DataType::Utf8)
    }

    /// The columns of a table that has no file yet. `None`: it is not told of what type each of them is.
    pub(crate) fn columns(&self) -> Option<SchemaRef> {
        let field = |column: &TableColumn| Some(Field::new(&column.name, value_type(&column.data_type)?, true));
        let fields = self.columns.iter().map(field).collect::<Option<Vec<_>>>()?;
        (!fields.is_empty()).then(|| Arc::new(Schema::new(fields)))
    }

    /// Tells it beside the table, unless that stands there already.
    ///
    /// # Errors
    /// When the output cannot be read or written.
    pub async fn tell(&self, store: &SharedStore) -> Result<(), StoreError> {
        let told = store.get(paths::SCHEMA).await?;
        let before = told.as_deref().and_then(|told| serde_json::from_slice::<Self>(told).ok());
        let mut schema = self.clone();
        // What was not said of the files that are there cannot be said of all.
        match &before {
            Some(before) => schema.say_no_more_than(before),
            None if has_files(store).await? => schema.say_no_more_than(&Self::default()),
            None => {}
        }
        let mut bytes = serde_json::to_vec(&schema).expect("names and types are always JSON");
        bytes.push(b'\n');
        match told {
            Some(told) if told == bytes => Ok(()),
            _ => store.replace(paths::SCHEMA, bytes.into()).await,
        }
    }

    fn say_no_more_than(&mut self, before: &Self) {
        for column in &mut self.columns {
            let known = before.columns.iter().find(|known| known.directory && known.name == column.name);
            column.utc_date_of.retain(|time| known.is_some_and(|known| known.utc_date_of.contains(time)));
        }
    }

    /// The directory columns that hold the UTC date of a time.
    pub fn utc_dates_of(&self, time: &str) -> impl Iterator<Item = &str> {
        let is_date = move |column: &&TableColumn| {
            column.directory && column.data_type == "date" && column.utc_date_of.iter().any(|of| of == time)
        };
        self.columns.iter().filter(is_date).map(|column| column.name.as_str())
    }

    /// Of columns that somebody declared, with their types in Spark's notation.
    pub(crate) fn declared<'a>(columns: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        let column = |(name, data_type): (&str, String)| TableColumn {
            name: name.to_owned(),
            data_type,
            directory: false,
            utc_date_of: Vec::new(),
        };
        Self { columns: columns.into_iter().map(column).collect(), delta: false }
    }

    /// These columns, and of others what this one says.
    #[must_use]
    pub(crate) fn over(self, other: Self) -> Self {
        let mut columns = self.columns;
        for column in other.columns {
            match columns.iter_mut().find(|known| known.name == column.name) {
                Some(known) => (known.directory, known.utc_date_of) = (column.directory, column.utc_date_of),
                None => columns.push(column),
            }
        }
        Self { columns, delta: other.delta }
    }

    /// What stands beside a table; `None` where nobody says anything: the table is of format 1, or no job writes it.
    ///
    /// # Errors
    /// What is there and cannot be read.
    pub(crate) fn of_place(place: &Place) -> Result<Option<Self>, UnreadableSchema> {
        match place {
            Place::Folder(folder) => Self::of_folder(folder),
            Place::Remote(prefix) => Self::of_prefix(prefix),
        }
    }

    /// What stands beside the table in a folder, as [`Self::of_place`].
    ///
    /// # Errors
    /// What is there and cannot be read.
    pub fn of_folder(table: &Path) -> Result<Option<Self>, UnreadableSchema> {
        let Ok(table) = canonical(table) else { return Ok(None) };
        let (Some(parent), Some(name)) = (table.parent(), table.file_name()) else { return Ok(None) };
        let below = paths::beside(paths::SCHEMA).expect("the schema lies beside the table");
        let file = parent.join(paths::BESIDE).join(name).join(below);
        let shown = file.display().to_string();
        match std::fs::read(&file) {
            Ok(bytes) => Self::read(&bytes, shown).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(UnreadableSchema::Damaged { file: shown, problem: error.to_string() }),
        }
    }

    fn of_prefix(table: &Arc<Prefix>) -> Result<Option<Self>, UnreadableSchema> {
        let whole = table.key.as_ref();
        let (parent, name) = whole.rsplit_once('/').unwrap_or(("", whole));
        let Ok(key) = Key::parse(format!("{parent}/{}/{name}/schema.json", paths::BESIDE)) else { return Ok(None) };
        // A whole bucket has nothing beside it.
        if name.is_empty() {
            return Ok(None);
        }
        let beside = table.at(key);
        let shown = Place::Remote(Arc::new(table.at(beside.key.clone()))).to_string();
        let file = shown.clone();
        let read = wait(async move {
            match async { beside.store.get(&beside.key).await?.bytes().await }.await {
                Ok(bytes) => Ok(Some(bytes)),
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(store_failed("read", file, error)),
            }
        })?;
        read.map(|bytes| Self::read(&bytes, shown)).transpose()
    }

    fn read(bytes: &[u8], file: String) -> Result<Self, UnreadableSchema> {
        serde_json::from_slice(bytes).map_err(|error| UnreadableSchema::Damaged { file, problem: error.to_string() })
    }
}

/// The columns of a table of CSV whose rows have this schema, as its readers have them.
pub(crate) fn cells_of(schema: &Schema) -> Schema {
    let told = TableSchema::new(schema, &[]);
    let cell = |field: &std::sync::Arc<Field>| Field::new(field.name(), told.cell_type(field.name()), true);
    Schema::new(schema.fields().iter().map(cell).collect::<Vec<_>>())
}

/// What a writer said of its table is there, and cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableSchema {
    /// It is not what a job wrote, or nobody may read it.
    #[error("{file} cannot be read: {problem}: bring it back, or remove it to read what directories say as text")]
    Damaged {
        /// Where it stands.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<UnreadableSchema> for datafusion::error::DataFusionError {
    fn from(error: UnreadableSchema) -> Self {
        match error {
            UnreadableSchema::Store(error) => Self::External(Box::new(error)),
            damaged => datafusion::common::exec_datafusion_err!("{damaged}"),
        }
    }
}

/// What the query said of a date.
fn utc_date_of(field: &Field) -> Vec<String> {
    field.metadata().get(UTC_DATE_OF).and_then(|times| serde_json::from_str(times).ok()).unwrap_or_default()
}

async fn has_files(store: &SharedStore) -> Result<bool, StoreError> {
    Ok(store.list("").await?.iter().any(|entry| paths::is_visible(&entry.path)))
}

/// A type in Spark's notation; what Spark has no word for is written as Arrow names it.
fn type_name(data_type: &DataType) -> String {
    let field = |field: &Field| type_name(field.data_type());
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "string".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "binary".to_owned(),
        DataType::Boolean => "boolean".to_owned(),
        DataType::Int8 => "tinyint".to_owned(),
        DataType::Int16 => "smallint".to_owned(),
        DataType::Int32 => "int".to_owned(),
        DataType::Int64 => "bigint".to_owned(),
        DataType::Float32 => "float".to_owned(),
        DataType::Float64 => "double".to_owned(),
        DataType::Date32 => "date".to_owned(),
        DataType::Timestamp(_, Some(_)) => "timestamp".to_owned(),
        DataType::Timestamp(_, None) => "timestamp_ntz".to_owned(),
        DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
        DataType::List(item) | DataType::LargeList(item) => format!("array<{}>", field(item)),
        DataType::Struct(fields) => {
            let fields: Vec<_> = fields.iter().map(|each| format!("{}:{}", quoted(each.name()), field(each))).collect();
            format!("struct<{}>", fields.join(","))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 => format!("map<{},{}>", field(&pair[0]), field(&pair[1])),
            other => type_name(other),
        },
        other => other.to_string(),
    }
}

/// The name of a field, in quotes where it would not be read as one.
fn quoted(name: &str) -> Cow<'_, str> {
    let is_plain = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    if is_plain { name.into() } else { format!("`{name}`").into() }
}

/// The types that name directories (see `hive`).
fn directory_type(name: &str) -> Option<DataType> {
    Some(match name {
        "string" => DataType::Utf8,
        "boolean" => DataType::Boolean,
        "tinyint" => DataType::Int8,
        "smallint" => DataType::Int16,
        "int" => DataType::Int32,
        "bigint" => DataType::Int64,
        "date" => DataType::Date32,
        "timestamp" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        "timestamp_ntz" => DataType::Timestamp(TimeUnit::Microsecond, None),
        _ => return None,
    })
}

/// The types of which a cell can hold a value.
fn cell_type(name: &str) -> Option<DataType> {
    let decimal = |digits: &str| {
        let (precision, scale) = digits.strip_suffix(')')?.split_once(',')?;
        Some(DataType::Decimal128(precision.parse().ok()?, scale.parse().ok()?))
    };
    match name {
        "float" => Some(DataType::Float32),
        "double" => Some(DataType::Float64),
        "binary" => Some(DataType::Binary),
        _ => directory_type(name).or_else(|| name.strip_prefix("decimal(").and_then(decimal)),
    }
}

/// The types of which JSON can hold a value; `None`: there is no such type, or one whose values have no form of their own.
pub(crate) fn value_type(name: &str) -> Option<DataType> {
    cell_type(name).or_else(|| nested_type(&name.parse().ok()?))
}

/// The type of the same values as files have them: the engine keeps text and bytes as views.
pub(crate) fn plain_type(data_type: &DataType) -> DataType {
    let field = |field: &Field| Arc::new(Field::new(field.name(), plain_type(field.data_type()), field.is_nullable()));
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::List(item) => DataType::List(field(item)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|inner| field(inner)).collect()),
        DataType::Map(entries, sorted) => DataType::Map(field(entries), *sorted),
        other => other.clone(),
    }
}

fn nested_type(declared: &ColumnType) -> Option<DataType> {
    let field = |name: &str, inner: &ColumnType| Some(Field::new(name, nested_type(inner)?, true));
    Some(match declared {
        ColumnType::Array(item) => DataType::List(Arc::new(field("item", item)?)),
        ColumnType::Struct(fields) => {
            DataType::Struct(fields.iter().map(|(name, inner)| field(name, inner)).collect::<Option<Fields>>()?)
        }
        ColumnType::Map(value) => {
            let entries = Fields::from(vec![Field::new("key", DataType::Utf8, false), field("value", value)?]);
            DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
        }
        // Its text would have to be cut out of the line.
        ColumnType::Json => return None,
        plain => cell_type(&plain.to_string())?,
    })
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::sync::Arc;

    use super::*;
    use crate::faults::NoSync;
    use crate::storage::local::LocalStore;

    #[tokio::test]
    async fn a_reader_of_the_folder_finds_the_types_that_the_writer_told() {
        let folder = tempfile::tempdir().unwrap();
        let table = folder.path().join("t");
        let store: SharedStore = Rc::new(LocalStore::open_table(&table, Arc::new(NoSync)).unwrap());
        assert_eq!(TableSchema::of_folder(&table).unwrap(), None);
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let fields = [
            ("code", DataType::Utf8View),
            ("date", DataType::Date32),
            ("at", utc.clone()),
            ("n", DataType::Int64),
            ("tags", DataType::new_list(DataType::Utf8View, true)),
            ("price", DataType::Decimal128(10, 2)),
        ];
        let schema = Schema::new(fields.map(|(name, data_type)| Field::new(name, data_type, true)).to_vec());
        let by = ["code", "date", "at"].map(str::to_owned);
        let told = TableSchema::new(&schema, &by);
        told.tell(&store).await.unwrap();
        told.tell(&store).await.unwrap();
        let read = TableSchema::of_folder(&table).unwrap().unwrap();
        assert_eq!(read, told);
        let types: Vec<_> = read.columns.iter().map(|column| column.data_type.as_str()).collect();
        assert_eq!(types, ["string", "date", "timestamp", "bigint", "array<string>", "decimal(10,2)"]);
        assert_eq!(read.directory_type("code"), Some(DataType::Utf8));
        assert_eq!(read.directory_type("date"), Some(DataType::Date32));
        assert_eq!(read.directory_type("at"), Some(utc));
        assert_eq!((read.directory_type("n"), read.directory_type("none")), (None, None));
        assert_eq!((read.cell_type("n"), read.cell_type("price")), (DataType::Int64, DataType::Decimal128(10, 2)));
        assert_eq!((read.cell_type("tags"), read.cell_type("none")), (DataType::Utf8, DataType::Utf8));
        assert!(!table.exists(), "it lies beside the table");
    }

    #[tokio::test]
    async fn a_date_is_that_of_a_time_only_as_long_as_every_file_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let date = |times: &[&str]| {
            let said = [(UTC_DATE_OF.to_owned(), serde_json::to_string(times).unwrap())];
            let field = Field::new("date", DataType::Date32, true).with_metadata(said.into());
            TableSchema::new(&Schema::new(vec![field]), &["date".to_owned()])
        };
        let open = |name: &str| -> SharedStore {
            Rc::new(LocalStore::open_table(&folder.path().join(name), Arc::new(NoSync)).unwrap())
        };
        let said = |name: &str| {
            TableSchema::of_folder(&folder.path().join(name)).unwrap().unwrap().columns[0].utc_date_of.join(" ")
        };
        let table = open("t");
        date(&["hour", "at"]).tell(&table).await.unwrap();
        assert_eq!(said("t"), "hour at");
        date(&["hour"]).tell(&table).await.unwrap();
        assert_eq!(said("t"), "hour");
        // Another query, and the old one again: files of both are there.
        date(&[]).tell(&table).await.unwrap();
        date(&["hour"]).tell(&table).await.unwrap();
        assert_eq!(said("t"), "");
        std::fs::create_dir_all(folder.path().join("old/date=2026-01-01")).unwrap();
        std::fs::write(folder.path().join("old/date=2026-01-01/a.parquet"), b"").unwrap();
        date(&["hour"]).tell(&open("old")).await.unwrap();
        assert_eq!(said("old"), "", "files of which nobody said it");
    }

    #[test]
    fn every_type_that_may_name_a_directory_has_a_name_that_leads_back_to_it() {
        for data_type in [
            DataType::Utf8,
            DataType::Boolean,
            DataType::Int8,
            DataType::Int16,
            DataType::Int32,
            DataType::Int64,
            DataType::Date32,
            DataType::Timestamp(TimeUnit::Microsecond, None),
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        ] {
            assert_eq!(directory_type(&type_name(&data_type)), Some(data_type.clone()), "{data_type}");
        }
    }
}
