//! Tables of files, in a folder or below a prefix of an object store: how they lie there, and how they are read, planned by
//! DataFusion's own Parquet source over a list of files, types of directories and a schema of our own. Of text, which says no
//! types, what a job wrote is read, and what is asked for.
//!
//! ```text
//! place     where tables and files lie          schema    what a writer says of its table
//! listing   which files there are               hive      directories of partition columns (pure)
//! format    what a file holds, by its name      text      bytes of a file of text, unpacked
//! delta     the files that the log of a Delta table names
//! reader    bytes and footers of Parquet files  csv, ndjson  rows of a file of text
//! remote    bytes of objects                    text_scan their plan
//! columns   one type for each column (pure)     time      rows of an interval
//! scan      the plan: pruned, parallel, in bounded memory
//! ```
//!
//! Whoever keeps a list of a table's files himself gives it as [`TableFiles`], and nothing is listed.

mod columns;
mod csv;
mod delta;
mod format;
pub mod hive;
mod listing;
mod ndjson;
mod place;
mod reader;
mod remote;
mod scan;
pub mod schema;
#[cfg(test)]
mod tests;
mod text;
mod text_scan;
mod time;

use std::path::PathBuf;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{ScalarValue, exec_datafusion_err, exec_err};
use datafusion::error::Result;

pub(crate) use self::csv::CsvFile;
pub(crate) use self::delta::{delta_files, is_delta};
pub(crate) use self::format::{FileFormat, Formats, Kind, Packing};
pub(crate) use self::listing::{Children, KnownRows, ListedFile, TableFiles, children, is_table, list, partition_of};
pub(crate) use self::ndjson::NdjsonFile;
pub(crate) use self::place::{FileAt, Place};
pub(crate) use self::reader::{parquet_columns, parquet_rows};
pub(crate) use self::remote::store_error;
pub(crate) use self::scan::OpenTable;
pub(crate) use self::text::{TextError, unpacked};
pub(crate) use self::time::{TimeRange, check_time_column};

use self::columns::Columns;
use self::reader::{Counted, Footer, footers};
use self::schema::TableSchema;

/// Files by whose columns a table is known before a run: a day of hours twice over.
const NEWEST_FILES: usize = 48;

/// A table, not yet opened.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    place: Place,
    formats: Formats,
    /// What its reader says of its columns.
    columns: TableSchema,
    /// Its reader says that it is a Delta table.
    by_log: bool,
}

/// A file of a table that is opened.
#[derive(Clone, Debug)]
struct TableFile {
    at: FileAt,
    format: FileFormat,
    /// Columns that its directories name, with their values in the types of the table.
    values: Vec<(String, ScalarValue)>,
    footer: Footer,
    known: Option<KnownRows>,
}

impl Table {
    pub(crate) fn new(place: Place) -> Self {
        Self { place, formats: Formats::PARQUET, columns: TableSchema::default(), by_log: false }
    }

    /// The same as a Delta table: without a log it has no files.
    pub(crate) fn by_log(self) -> Self {
        Self { by_log: true, ..self }
    }

    /// The same with files of text of which nobody told the types: columns that the reader does not declare are text in CSV,
    /// and are not looked at in NDJSON.
    pub(crate) fn with_text(self, kind: Kind) -> Self {
        Self { formats: self.formats.with(kind), ..self }
    }

    /// The same with the types that the reader declares.
    pub(crate) fn with_columns(self, columns: TableSchema) -> Self {
        Self { columns, ..self }
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// Its files, in order.
    ///
    /// # Errors
    /// A folder that cannot be listed: what lies in it must not be left out in silence.
    pub(crate) fn files(&self) -> Result<Vec<ListedFile>> {
        Ok(self.listed(None)?.1.files)
    }

    /// Opens it: the files that are there now. With a range only those that may hold its rows, and of these only its
    /// rows; its columns are known all the same when no file is left.
    ///
    /// # Errors
    /// A folder that cannot be listed, a file that is not whole, or files whose columns contradict each other.
    pub(crate) fn open(&self, range: Option<TimeRange>) -> Result<OpenTable> {
        let (declared, listed) = self.listed(range.as_ref())?;
        self.open_files(&declared, listed, range)
    }

    /// Opens it over files that somebody else listed.
    ///
    /// # Errors
    /// As [`Self::open`].
    fn open_files(&self, declared: &TableSchema, listed: TableFiles, range: Option<TimeRange>) -> Result<OpenTable> {
        let TableFiles { mut files, schema } = listed;
        let newest = files.last().cloned();
        if let Some(range) = &range {
            let dates = declared.utc_dates_of(&range.column);
            let dates: Vec<&str> = dates.filter(|date| range.may_prune_by(date)).collect();
            files.retain(|file| {
                file.values
                    .iter()
                    .all(|(column, value)| !dates.contains(&column.as_str()) || range.may_be_on(value.as_deref()))
            });
        }
        // A table is known by its newest file where none of the time is left, and by its list if that says so.
        let is_known = !files.is_empty() || newest.is_some() || schema.is_some();
        let (read, known_by): (bool, Vec<ListedFile>) = match newest {
            Some(newest) if files.is_empty() => (false, vec![newest]),
            _ => (true, files),
        };
        let Known { schema, directories, footers } = match schema {
            Some(schema) => known_by_list(schema, &known_by)?,
            None => self.columns(&known_by, declared)?,
        };
        if let Some(range) = range.as_ref().filter(|_| is_known) {
            check_time_column(&self.place, &schema, &range.column)?;
        }
        let mut opened = Vec::new();
        for (file, footer) in known_by.into_iter().zip(footers).filter(|_| read) {
            opened.push(TableFile {
                values: directory_values(&self.place, &file, &directories)?,
                at: file.at,
                format: file.format,
                footer,
                known: file.known,
            });
        }
        Ok(OpenTable::new(schema, opened, range, is_known))
    }

    /// Its columns as its newest files have them; `None` for a table that has no file yet, and of which nobody tells. Cheap: the footers of a few files
    /// are read, however many there are.
    ///
    /// # Errors
    /// As [`Self::open`], of what is looked at.
    pub(crate) fn newest_columns(&self) -> Result<Option<SchemaRef>> {
        let (declared, TableFiles { files, schema }) = self.listed(None)?;
        if schema.is_some() {
            return Ok(schema);
        }
        if files.is_empty() {
            return Ok(None);
        }
        let newest = &files[files.len().saturating_sub(NEWEST_FILES)..];
        Ok(Some(self.columns(newest, &declared)?.schema))
    }

    /// What its writer and its reader declared, and its files in order; with a range without those that surely have no row
    /// of it.
    fn listed(&self, range: Option<&TimeRange>) -> Result<(TableSchema, TableFiles)> {
        let declared = TableSchema::of_place(&self.place)?;
        let by_log = self.by_log || declared.as_ref().is_some_and(|declared| declared.delta);
        match delta::files(&self.place, range)? {
            Some(files) => return Ok((self.columns.clone(), files)),
            None if by_log => {
                let schema = declared.and_then(|declared| declared.columns());
                return Ok((self.columns.clone(), TableFiles { files: Vec::new(), schema }));
            }
            None => {}
        }
        // What a job wrote says of what types it is.
        let formats = if declared.is_some() { Formats::ALL } else { self.formats };
        let files = list(&self.place, formats)?;
        // Files know their columns best; before the first one their writer does, or who reads no others than these.
        let before = declared.as_ref().or(self.formats.has_ndjson().then_some(&self.columns));
        let schema = before.filter(|_| files.is_empty()).and_then(TableSchema::columns);
        Ok((self.columns.clone().over(declared.unwrap_or_default()), TableFiles { files, schema }))
    }

    /// The columns of these files, and of these the ones that directories name.
    fn columns(&self, files: &[ListedFile], declared: &TableSchema) -> Result<Known> {
        let footers = footers(files, declared)?;
        let mut directories: Vec<Field> = Vec::new();
        for (column, _) in files.iter().flat_map(|file| &file.values) {
            if !directories.iter().any(|known| known.name() == column) {
                let data_type = declared.directory_type(column).unwrap_or(DataType::Utf8);
                directories.push(Field::new(column, data_type, true));
            }
        }
        let mut columns = Columns::default();
        for (file, footer) in files.iter().zip(&footers) {
            let name = file.at.below(&self.place);
            for field in footer.schema.fields() {
                // The folder's value counts where both have one.
                if !directories.iter().any(|directory| directory.name() == field.name()) {
                    columns.add(field, &name).map_err(|error| exec_datafusion_err!("{error}"))?;
                }
            }
        }
        let fields: Vec<Field> = columns.into_fields().into_iter().chain(directories.iter().cloned()).collect();
        Ok(Known { schema: Arc::new(Schema::new(fields)), directories, footers })
    }
}

impl From<PathBuf> for Table {
    fn from(folder: PathBuf) -> Self {
        Self::new(Place::Folder(folder))
    }
}

/// What is known of a table once its files were looked at.
struct Known {
    schema: SchemaRef,
    /// The columns that directories name.
    directories: Vec<Field>,
    footers: Vec<Footer>,
}

/// The same of a table whose list says everything.
fn known_by_list(schema: SchemaRef, files: &[ListedFile]) -> Result<Known> {
    let mut directories: Vec<Field> = Vec::new();
    for (column, _) in files.iter().flat_map(|file| &file.values) {
        if !directories.iter().any(|known| known.name() == column) {
            directories.push(schema.field_with_name(column)?.clone());
        }
    }
    let footer = |file: &ListedFile| -> Result<Footer> {
        let bytes = reader::length(file)?;
        let counted = file.known.as_ref().map(|known| Counted { rows: known.rows, size: bytes });
        Ok(Footer { schema: Arc::clone(&schema), bytes, counted, identity: None })
    };
    let footers = files.iter().map(footer).collect::<Result<_>>()?;
    Ok(Known { schema, directories, footers })
}

/// What the directories of a file say, in the types of the table.
fn directory_values(place: &Place, file: &ListedFile, directories: &[Field]) -> Result<Vec<(String, ScalarValue)>> {
    let mut values = Vec::with_capacity(file.values.len());
    for (column, text) in &file.values {
        let Some(field) = directories.iter().find(|field| field.name() == column) else { continue };
        let value = match text {
            None => ScalarValue::try_from(field.data_type())?,
            Some(text) => match ScalarValue::try_from_string(text.clone(), field.data_type()) {
                Ok(value) => value,
                Err(_) => {
                    let (column, data_type) = (field.name(), field.data_type());
                    return exec_err!(
                        "{}: the directory {column}={text} is no {data_type}, which the schema of {place} says it is",
                        file.at
                    );
                }
            },
        };
        values.push((column.clone(), value));
    }
    Ok(values)
}
