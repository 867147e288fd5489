//! Reference tables: small tables of files, for queries to join with. Read whole, never in part.
//!
//! Does I/O on files and object stores. The configuration asks for their columns before a query is planned, the pipeline
//! for their rows, and from time to time whether they changed.

use std::hash::Hasher;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::SystemTime;

use data_platform_crds::column::ColumnType;
use data_platform_crds::source::{ReferenceColumnSpec, ReferenceFormat};
use datafusion::arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, StringArray, new_null_array};
use datafusion::arrow::compute::kernels::cmp::eq;
use datafusion::arrow::compute::{CastOptions, cast_with_options, nullif};
use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use datafusion::parquet::errors::ParquetError;
use twox_hash::XxHash3_64;

use crate::source::decode::arrow_type;
use crate::storage::checksum::xxh3_hex;
use crate::storage::location::Location;
use crate::storage::{StoreError, StoreTold};
use crate::tables::schema::{TableSchema, UnreadableSchema};
use crate::tables::{
    FileAt, FileFormat, Formats, Kind, ListedFile, Packing, Place, TextError, is_delta, list, store_error,
};

mod csv;
mod delta;
mod ndjson;
mod parquet;

/// A value that does not fit its column is an error, never silently null.
const EXACT: CastOptions<'static> =
    CastOptions { safe: false, format_options: datafusion::arrow::util::display::FormatOptions::new() };

/// A reference, as it is declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferenceFiles {
    /// Name in the query.
    pub name: String,
    /// Format of the files.
    pub format: ReferenceFormat,
    /// File or folder.
    pub location: Location,
    /// Types of columns; needed for CSV, where all others are text.
    pub columns: Vec<ReferenceColumnSpec>,
}

/// What can be seen of files without reading them. Of a Delta table it is the object of its newest version: what the table
/// has changes with that, and its files never do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen(Vec<SeenFile>);

/// A file, by what tells it from another one in its place.
#[derive(Clone, Debug)]
struct SeenFile {
    at: FileAt,
    bytes: u64,
    version: SeenVersion,
}

/// Another file of the same size and time of writing (`cp -p`, `rsync -t`, `touch -r`) is another inode, or the kernel noted
/// when the inode changed, which nobody can set. Another object has another tag.
#[derive(Clone, Debug, PartialEq, Eq)]
enum SeenVersion {
    /// When it was written, its device and inode, and when that changed in seconds and nanoseconds since 1970.
    File(Option<SystemTime>, (u64, u64), (i64, i64)),
    Object(Option<String>),
}

impl PartialEq for SeenFile {
    fn eq(&self, other: &Self) -> bool {
        (self.bytes, &self.version) == (other.bytes, &other.version) && self.at.to_string() == other.at.to_string()
    }
}

impl Eq for SeenFile {}

impl SeenFile {
    fn of(at: FileAt) -> Option<Self> {
        let (bytes, version) = match &at {
            FileAt::Local(path) => {
                let facts = std::fs::metadata(path).ok()?;
                let inode = (facts.dev(), facts.ino());
                let changed = (facts.ctime(), facts.ctime_nsec());
                (facts.len(), SeenVersion::File(facts.modified().ok(), inode, changed))
            }
            FileAt::Remote(file) => (file.length(), SeenVersion::Object(file.tag())),
        };
        Some(Self { at, bytes, version })
    }

    fn packing(&self) -> Packing {
        FileFormat::of(&self.at.name()).unwrap_or_default().packing
    }

    fn listed(&self) -> ListedFile {
        let format = FileFormat::of(&self.at.name()).unwrap_or_default();
        ListedFile { at: self.at.clone(), format, bytes: Some(self.bytes), values: Vec::new(), known: None }
    }
}

/// A version of a reference.
#[derive(Clone, Debug)]
pub struct LoadedReference {
    /// Its rows, in the columns that were asked for.
    pub rows: Arc<[RecordBatch]>,
    /// Hash of the files' content and of the columns: two versions with the same one have the same rows.
    pub hash: String,
    /// The files that it was read from.
    pub seen: Seen,
    /// Bytes of memory that the rows take.
    pub bytes: u64,
}

/// Why a reference cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing is there.
    #[error("the reference {name} is not there: {path} has no {what}")]
    Missing {
        /// Name of the reference.
        name: String,
        /// Where it was looked for.
        path: String,
        /// What it should have.
        what: String,
    },
    /// A file cannot be read, or holds something else.
    #[error("the reference {name} cannot be read: {detail}")]
    Unreadable {
        /// Name of the reference.
        name: String,
        /// What is wrong with which file.
        detail: String,
    },
    /// A Delta table cannot be read, or a folder is one although it is declared as files.
    #[error("the reference {name} cannot be read: {detail}")]
    Delta {
        /// Name of the reference.
        name: String,
        /// What is wrong, and what to do about it.
        detail: String,
    },
    /// The store does not give it.
    #[error("the reference {name} cannot be read: {told}")]
    Store {
        /// Name of the reference.
        name: String,
        /// What the store said, and what to do.
        told: StoreTold,
    },
    /// A column is missing that the query was planned with.
    #[error("the reference {name} lacks a column that the job reads: {detail}")]
    Columns {
        /// Name of the reference.
        name: String,
        /// Which column, and where.
        detail: String,
    },
    /// A value is none of its column's type.
    #[error("the reference {name} has a value that is none of its column's type: {detail}")]
    Value {
        /// Name of the reference.
        name: String,
        /// Which column, where, and what is wrong.
        detail: String,
    },
    /// More than may be held in memory.
    #[error("the reference {name} is too large: it takes {bytes} bytes, and {bytes_max} are left for it")]
    TooLarge {
        /// Name of the reference.
        name: String,
        /// What it takes.
        bytes: u64,
        /// What it may take.
        bytes_max: u64,
    },
    /// Somebody writes at this moment.
    #[error("the reference {name} changes while it is read")]
    Changing {
        /// Name of the reference.
        name: String,
    },
}

impl ReferenceError {
    /// What the user does about it.
    pub fn cure(&self) -> &str {
        match self {
            Self::Missing { .. } => "put the files there, or correct spec.references[].path; it is looked for again",
            Self::Unreadable { .. } => {
                "replace the file by a whole one of this format; it is read again when it changes"
            }
            Self::Delta { .. } => "do what is said; a Delta table is read again when it has a new version",
            Self::Store { told, .. } => &told.cure,
            Self::Columns { .. } => {
                "every file needs the column: add it, or leave it out of the query and of spec.references[].columns"
            }
            Self::Value { .. } => {
                "correct the value, or declare the column with another type in spec.references[].columns (string takes all)"
            }
            Self::TooLarge { .. } => "keep fewer rows and columns in it, or give the job more memory",
            Self::Changing { .. } => "write a file elsewhere and move it there when it is whole",
        }
    }
}

impl ReferenceFiles {
    /// Its files, as they are now.
    ///
    /// # Errors
    /// [`ReferenceError::Missing`] if there is none.
    pub fn look(&self) -> Result<Seen, ReferenceError> {
        let place = self.place()?;
        let found = match self.format {
            ReferenceFormat::Delta => delta::newest(&place).map(|newest| newest.into_iter().collect()),
            _ => list(&place, Formats::only(self.kind())).map(|files| files.into_iter().map(|file| file.at).collect()),
        };
        let found: Vec<_> = found.map_err(|error| self.failed(error))?;
        let seen: Vec<_> = found.into_iter().filter_map(SeenFile::of).collect();
        if seen.is_empty() {
            return Err(self.missing(&place));
        }
        Ok(Seen(seen))
    }

    fn place(&self) -> Result<Place, ReferenceError> {
        Place::of(&self.location).map_err(|error| self.failed(error))
    }

    fn missing(&self, place: &Place) -> ReferenceError {
        let what = match self.format {
            ReferenceFormat::Delta => "version of a Delta table".to_owned(),
            _ => format!("{} files", self.kind().word()),
        };
        ReferenceError::Missing { name: self.name.clone(), path: place.to_string(), what }
    }

    /// The columns and files of a Delta table.
    fn delta_table(&self) -> Result<(SchemaRef, Vec<ListedFile>), ReferenceError> {
        let place = self.place()?;
        let failed = |error: DataFusionError| match Problem::from(error) {
            Problem::File(detail) => ReferenceError::Delta { name: self.name.clone(), detail },
            of_store @ Problem::Store(_) => self.failed(of_store),
        };
        delta::table(&place).map_err(failed)?.ok_or_else(|| self.missing(&place))
    }

    /// Files lie in the folder of a Delta table that it no longer has, or never had.
    fn refuse_delta(&self) -> Result<(), ReferenceError> {
        let place = self.place()?;
        if self.format != ReferenceFormat::Delta && is_delta(&place).map_err(|error| self.failed(error))? {
            let detail = format!(
                "{place} is a Delta table, and files lie there that it no longer has: set format: delta in spec.references[]"
            );
            return Err(ReferenceError::Delta { name: self.name.clone(), detail });
        }
        Ok(())
    }

    /// The columns of NDJSON: those that are declared, or that the job told which wrote it.
    fn keys(&self) -> Result<Schema, Problem> {
        let declared = self.columns.iter().map(|column| (column.name.as_str(), column.column_type.to_string()));
        let declared = TableSchema::declared(declared);
        let told = match self.columns.is_empty() {
            false => declared,
            true => {
                let told = TableSchema::of_place(&Place::of(&self.location)?)?;
                told.ok_or("nobody says which columns its objects have: declare them in spec.references[].columns")?
            }
        };
        Ok(ndjson::columns(&told)?)
    }

    fn kind(&self) -> Kind {
        match self.format {
            ReferenceFormat::Csv => Kind::Csv,
            ReferenceFormat::Ndjson => Kind::Ndjson,
            ReferenceFormat::Parquet | ReferenceFormat::Delta => Kind::Parquet,
        }
    }

    /// Its columns, as queries see them. While no file is there, those that are declared.
    ///
    /// # Errors
    /// See [`ReferenceError`].
    pub fn schema(&self) -> Result<SchemaRef, ReferenceError> {
        let seen = match self.look() {
            Ok(seen) => seen,
            Err(error) if self.columns.is_empty() => return Err(error),
            Err(_) => {
                let field =
                    |column: &ReferenceColumnSpec| Field::new(&column.name, arrow_type(&column.column_type), true);
                return Ok(Arc::new(Schema::new(self.columns.iter().map(field).collect::<Vec<_>>())));
            }
        };
        self.refuse_delta()?;
        let found = match self.kind() {
            Kind::Parquet if self.format == ReferenceFormat::Delta => Ok(self.delta_table()?.0.as_ref().clone()),
            Kind::Parquet => parquet::columns(seen.0.iter().map(|file| &file.at)),
            Kind::Csv => csv::header(&seen.0[0].at, seen.0[0].packing()),
            Kind::Ndjson => self.keys(),
        };
        let found = found.map_err(|problem| self.failed(problem))?;
        let field = |field: &Arc<Field>| {
            let declared = self.columns.iter().find(|column| column.name == *field.name());
            let data_type = match declared {
                Some(column) => arrow_type(&column.column_type),
                None => column_type(field.data_type()),
            };
            Field::new(field.name(), data_type, true)
        };
        let schema = Schema::new(found.fields().iter().map(field).collect::<Vec<_>>());
        for column in &self.columns {
            if schema.field_with_name(&column.name).is_err() {
                let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                return Err(self.unreadable(format!("it has no column {}; it has {}", column.name, names.join(", "))));
            }
            let nested =
                matches!(column.column_type, ColumnType::Array(_) | ColumnType::Struct(_) | ColumnType::Map(_));
            if nested && self.format == ReferenceFormat::Csv {
                return Err(self.unreadable(format!(
                    "the column {} is declared as a list, struct or map, which a cell of CSV cannot hold",
                    column.name
                )));
            }
        }
        Ok(Arc::new(schema))
    }

    /// Reads it, in the columns of `schema`. Columns that it has besides are left out.
    ///
    /// # Errors
    /// See [`ReferenceError`].
    pub fn load(&self, schema: &SchemaRef, bytes_max: u64) -> Result<LoadedReference, ReferenceError> {
        let seen = self.look()?;
        self.refuse_delta()?;
        let too_large = |bytes| ReferenceError::TooLarge { name: self.name.clone(), bytes, bytes_max };
        let (columns, files) = match self.format {
            ReferenceFormat::Delta => self.delta_table()?,
            _ => (Arc::clone(schema), seen.0.iter().map(SeenFile::listed).collect()),
        };
        // Compressed or as text: in memory it is hardly ever smaller.
        let on_disk: u64 = files.iter().filter_map(|file| file.bytes).sum();
        if on_disk > bytes_max {
            return Err(too_large(on_disk));
        }
        let mut hash = XxHash3_64::with_seed(0);
        hash.write(format!("{schema:?}").as_bytes());
        let folder = self.location.to_string();
        let mut rows = Vec::new();
        for file in &files {
            let shown = file.at.to_string();
            let content = file.at.content().map_err(|error| self.gone(&seen, error))?;
            hash.write(shown.strip_prefix(&folder).unwrap_or(&shown).trim_start_matches('/').as_bytes());
            hash.write(&content);
            let packing = file.format.packing;
            let batches = match self.kind() {
                Kind::Parquet if self.format == ReferenceFormat::Delta => delta::rows(file, &shown, content, &columns),
                Kind::Parquet => parquet::rows(&shown, content),
                Kind::Csv => csv::rows(&shown, content, packing),
                Kind::Ndjson => ndjson::rows(&shown, content, packing, schema),
            };
            for batch in batches.map_err(|detail| self.unreadable(detail))? {
                rows.push(self.in_columns(&batch, schema, &shown)?);
            }
        }
        // A version of a Delta table is whole, whatever comes behind it.
        if self.format != ReferenceFormat::Delta && self.look()? != seen {
            return Err(ReferenceError::Changing { name: self.name.clone() });
        }
        let bytes = rows.iter().map(|batch| batch.get_array_memory_size() as u64).sum();
        if bytes > bytes_max {
            return Err(too_large(bytes));
        }
        Ok(LoadedReference { rows: rows.into(), hash: xxh3_hex(hash.finish()), seen, bytes })
    }

    /// A file that cannot be read may be gone because there is a newer version.
    fn gone(&self, seen: &Seen, error: impl Into<Problem>) -> ReferenceError {
        match self.look() {
            Ok(now) if now != *seen => ReferenceError::Changing { name: self.name.clone() },
            _ => self.failed(error),
        }
    }

    /// Rows of an earlier version, in the columns of `schema`: what they lack is null.
    ///
    /// # Errors
    /// [`ReferenceError::Value`] if a value does not fit its column now.
    pub fn of_version(&self, rows: &[RecordBatch], schema: &SchemaRef) -> Result<Arc<[RecordBatch]>, ReferenceError> {
        let with_all = |batch: &RecordBatch| {
            let mut batch = batch.clone();
            let lacks: Vec<_> =
                schema.fields().iter().filter(|field| batch.column_by_name(field.name()).is_none()).cloned().collect();
            for field in lacks {
                let fields = batch.schema_ref().fields().iter().cloned().chain([Arc::clone(&field)]);
                let fields = Schema::new(fields.collect::<Vec<_>>());
                let nulls = new_null_array(field.data_type(), batch.num_rows());
                let columns = batch.columns().iter().cloned().chain([nulls]).collect();
                batch = RecordBatch::try_new(Arc::new(fields), columns).map_err(|error| self.unreadable(error))?;
            }
            self.in_columns(&batch, schema, "the version that was kept")
        };
        rows.iter().map(with_all).collect()
    }

    fn in_columns(&self, batch: &RecordBatch, schema: &SchemaRef, place: &str) -> Result<RecordBatch, ReferenceError> {
        let column = |field: &Arc<Field>| -> Result<ArrayRef, ReferenceError> {
            let name = || self.name.clone();
            let of_value = |error: ArrowError| {
                let detail = format!("{place}: the column {}: {error}", field.name());
                ReferenceError::Value { name: name(), detail }
            };
            let found = batch.column_by_name(field.name()).ok_or_else(|| {
                let detail = format!("{place}: the column {} is missing", field.name());
                ReferenceError::Columns { name: name(), detail }
            })?;
            if found.data_type() == field.data_type() {
                return Ok(Arc::clone(found));
            }
            let found = match self.format == ReferenceFormat::Csv && *field.data_type() != DataType::Utf8View {
                true => &no_value_where_empty(found).map_err(of_value)?,
                false => found,
            };
            cast_with_options(found, field.data_type(), &EXACT).map_err(of_value)
        };
        let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(|error| self.unreadable(error))
    }

    fn failed(&self, problem: impl Into<Problem>) -> ReferenceError {
        match problem.into() {
            Problem::File(detail) => self.unreadable(detail),
            Problem::Store(told) => ReferenceError::Store { name: self.name.clone(), told },
        }
    }

    fn unreadable(&self, detail: impl std::fmt::Display) -> ReferenceError {
        ReferenceError::Unreadable { name: self.name.clone(), detail: detail.to_string() }
    }
}

/// Cells of a column that is no text: some writers put every cell in quotes, and an empty text is no number.
fn no_value_where_empty(cells: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let empty = StringArray::new_scalar("");
    nullif(cells, &eq(cells, &empty)?)
}

/// Why files cannot be read.
enum Problem {
    /// What is wrong with which one.
    File(String),
    /// The store does not give them.
    Store(StoreTold),
}

impl Problem {
    /// What a store said that failed; without one what is said in other words.
    fn of(error: &(dyn std::error::Error + 'static), words: impl FnOnce() -> String) -> Self {
        match store_error(error) {
            Some(error) => error.told().map_or_else(|| Self::File(error.to_string()), Self::Store),
            None => Self::File(words()),
        }
    }
}

impl From<String> for Problem {
    fn from(detail: String) -> Self {
        Self::File(detail)
    }
}

impl From<&str> for Problem {
    fn from(detail: &str) -> Self {
        Self::File(detail.to_owned())
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::of(&error, String::new)
    }
}

impl From<UnreadableSchema> for Problem {
    fn from(error: UnreadableSchema) -> Self {
        match error {
            UnreadableSchema::Store(error) => error.into(),
            damaged => Self::File(damaged.to_string()),
        }
    }
}

impl From<TextError> for Problem {
    fn from(error: TextError) -> Self {
        Self::of(&error, || error.to_string())
    }
}

impl From<ParquetError> for Problem {
    fn from(error: ParquetError) -> Self {
        Self::of(&error, || match &error {
            ParquetError::External(source) => source.to_string(),
            ParquetError::General(problem) => problem.clone(),
            other => other.to_string(),
        })
    }
}

/// What the engine said, without what it calls its errors.
impl From<DataFusionError> for Problem {
    fn from(error: DataFusionError) -> Self {
        Self::of(&error, || {
            let text = error.find_root().strip_backtrace();
            text.strip_prefix("Execution error: ").unwrap_or(&text).to_owned()
        })
    }
}

/// The type that a column of a file has in queries: that of a declared column of the same meaning.
fn column_type(found: &DataType) -> DataType {
    match found {
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_) => DataType::BinaryView,
        DataType::Timestamp(..) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::Dictionary(_, values) => column_type(values),
        DataType::Null => DataType::Utf8View,
        DataType::List(item) | DataType::LargeList(item) => {
            DataType::List(Arc::new(Field::new_list_field(column_type(item.data_type()), true)))
        }
        DataType::Struct(fields) => {
            let fields = fields.iter().map(|field| Field::new(field.name(), column_type(field.data_type()), true));
            DataType::Struct(fields.collect::<Fields>())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests;
