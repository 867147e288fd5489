//! CSV files with a header, every cell as text; an empty one is null.

use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Schema};

use crate::tables::CsvFile;

/// Rows of a batch.
const BATCH_ROWS: usize = 8_192;

/// The columns that the header names.
///
/// # Errors
/// What is wrong with the file.
pub(super) fn header(path: &Path) -> Result<Schema, String> {
    columns(path, &CsvFile::open(path)?)
}

fn columns(path: &Path, file: &CsvFile) -> Result<Schema, String> {
    let mut fields: Vec<Field> = Vec::with_capacity(file.header().len());
    for name in file.header() {
        let name = name.trim();
        if name.is_empty() || fields.iter().any(|other| other.name() == name) {
            let problem = if name.is_empty() { "a column without a name" } else { "two columns of one name" };
            return Err(format!("{}: the header has {problem} ({name:?})", path.display()));
        }
        fields.push(Field::new(name, DataType::Utf8, true));
    }
    if fields.is_empty() {
        return Err(format!("{}: it has no header", path.display()));
    }
    Ok(Schema::new(fields))
}

/// All rows.
///
/// # Errors
/// What is wrong with which line.
pub(super) fn rows(path: &Path) -> Result<Vec<RecordBatch>, String> {
    let mut file = CsvFile::open(path)?;
    let schema = Arc::new(columns(path, &file)?);
    let mut batches = Vec::new();
    while let Some(columns) = file.next_rows(BATCH_ROWS)? {
        let columns = columns.into_iter().map(|column| Arc::new(column) as ArrayRef).collect();
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns);
        batches.push(batch.map_err(|error| format!("{}: {error}", path.display()))?);
    }
    Ok(batches)
}
