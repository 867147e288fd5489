//! Tables of files below a folder: how they lie there, and how they are read, planned by DataFusion's own Parquet source over a
//! list of files, types of directories and a schema of our own. Of CSV, which says no types, only what a job wrote is read.
//!
//! ```text
//! schema    what a writer says of its table   hive     directories of partition columns (pure)
//! listing   which files there are             reader   bytes and footers of a Parquet file
//! columns   one type for each column (pure)   csv      rows of a CSV file
//! time      rows of an interval               csv_scan its plan
//! scan      the plan: pruned, parallel, in bounded memory
//! ```

mod columns;
mod csv;
mod csv_scan;
pub mod hive;
mod listing;
mod reader;
mod scan;
pub mod schema;
#[cfg(test)]
mod tests;
mod time;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{ScalarValue, exec_datafusion_err, exec_err};
use datafusion::error::Result;

pub(crate) use self::csv::CsvFile;
pub(crate) use self::listing::{children, is_csv, is_table, partition_of};
pub(crate) use self::scan::OpenTable;
pub(crate) use self::time::{TimeRange, check_time_column};

use self::columns::Columns;
use self::listing::{ListedFile, list};
use self::reader::{Footer, footers};
use self::schema::TableSchema;

/// Files by whose columns a table is known before a run: a day of hours twice over.
const NEWEST_FILES: usize = 48;

/// A folder, not yet opened.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    folder: PathBuf,
    with_csv: bool,
}

/// A file of a table that is opened.
#[derive(Clone, Debug)]
struct TableFile {
    path: PathBuf,
    /// Columns that its directories name, with their values in the types of the table.
    values: Vec<(String, ScalarValue)>,
    footer: Footer,
}

impl Table {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, with_csv: false }
    }

    /// The same with CSV of which nobody told the types: its columns are text.
    pub(crate) fn with_csv(self) -> Self {
        Self { with_csv: true, ..self }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its files, in order.
    ///
    /// # Errors
    /// A folder that cannot be listed: what lies in it must not be left out in silence.
    pub(crate) fn files(&self) -> std::io::Result<Vec<PathBuf>> {
        let with_csv = self.with_csv || !matches!(TableSchema::of_folder(&self.folder), Ok(None));
        Ok(list(&self.folder, with_csv)?.into_iter().map(|file| file.path).collect())
    }

    /// Opens it: the files that are there now. With a range only those that may hold its rows, and of these only its
    /// rows; its columns are known all the same when no file is left.
    ///
    /// # Errors
    /// A folder that cannot be listed, a file that is not whole, or files whose columns contradict each other.
    pub(crate) fn open(&self, range: Option<TimeRange>) -> Result<OpenTable> {
        let (declared, listed) = self.listed()?;
        let newest = listed.last().cloned();
        let mut files = listed;
        if let Some(range) = &range {
            let dates = declared.utc_dates_of(&range.column);
            let dates: Vec<&str> = dates.filter(|date| range.may_prune_by(date)).collect();
            files.retain(|file| {
                file.values
                    .iter()
                    .all(|(column, value)| !dates.contains(&column.as_str()) || range.may_be_on(value.as_deref()))
            });
        }
        // A table is known by its newest file where none of the time is left.
        let is_known = !files.is_empty() || newest.is_some();
        let (read, known_by): (bool, Vec<ListedFile>) = match newest {
            Some(newest) if files.is_empty() => (false, vec![newest]),
            _ => (true, files),
        };
        let (schema, directories, footers) = self.columns(&known_by, &declared)?;
        if let Some(range) = range.as_ref().filter(|_| is_known) {
            check_time_column(&self.folder, &schema, &range.column)?;
        }
        let mut opened = Vec::new();
        for (file, footer) in known_by.into_iter().zip(footers).filter(|_| read) {
            opened.push(TableFile {
                values: directory_values(&self.folder, &file, &directories)?,
                path: file.path,
                footer,
            });
        }
        Ok(OpenTable::new(schema, opened, range, is_known))
    }

    /// Its columns as its newest files have them; `None` for a table that has no file yet. Cheap: the footers of a few files
    /// are read, however many there are.
    ///
    /// # Errors
    /// As [`Self::open`], of what is looked at.
    pub(crate) fn newest_columns(&self) -> Result<Option<SchemaRef>> {
        let (declared, listed) = self.listed()?;
        if listed.is_empty() {
            return Ok(None);
        }
        let newest = &listed[listed.len().saturating_sub(NEWEST_FILES)..];
        Ok(Some(self.columns(newest, &declared)?.0))
    }

    /// What its writer declared, and its files in order.
    fn listed(&self) -> Result<(TableSchema, Vec<ListedFile>)> {
        let declared = TableSchema::of_folder(&self.folder).map_err(|error| exec_datafusion_err!("{error}"))?;
        let with_csv = self.with_csv || declared.is_some();
        let listed = list(&self.folder, with_csv).map_err(|error| exec_datafusion_err!("{error}"))?;
        Ok((declared.unwrap_or_default(), listed))
    }

    /// The columns of these files, and of these the ones that directories name.
    fn columns(&self, files: &[ListedFile], declared: &TableSchema) -> Result<(SchemaRef, Vec<Field>, Vec<Footer>)> {
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
            let name = file.path.strip_prefix(&self.folder).unwrap_or(&file.path).to_string_lossy();
            for field in footer.schema.fields() {
                // The folder's value counts where both have one.
                if !directories.iter().any(|directory| directory.name() == field.name()) {
                    columns.add(field, &name).map_err(|error| exec_datafusion_err!("{error}"))?;
                }
            }
        }
        let fields: Vec<Field> = columns.into_fields().into_iter().chain(directories.iter().cloned()).collect();
        Ok((Arc::new(Schema::new(fields)), directories, footers))
    }
}

/// What the directories of a file say, in the types of the table.
fn directory_values(folder: &Path, file: &ListedFile, directories: &[Field]) -> Result<Vec<(String, ScalarValue)>> {
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
                        "{}: the directory {column}={text} is no {data_type}, which the schema of {} says it is",
                        file.path.display(),
                        folder.display()
                    );
                }
            },
        };
        values.push((column.clone(), value));
    }
    Ok(values)
}
