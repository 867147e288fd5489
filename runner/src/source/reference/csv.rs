//! CSV files with a header, every cell as text; an empty one is null.

use std::io::Cursor;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Schema};

use super::Problem;
use crate::tables::{CsvFile, FileAt, Packing};

/// Rows of a batch.
const BATCH_ROWS: usize = 8_192;

/// The columns that the header names.
///
/// # Errors
/// What is wrong with the file.
pub(super) fn header(at: &FileAt, packing: Packing) -> Result<Schema, Problem> {
    Ok(columns(&at.to_string(), &CsvFile::open(at, packing)?)?)
}

fn columns(shown: &str, file: &CsvFile) -> Result<Schema, String> {
    let mut fields: Vec<Field> = Vec::with_capacity(file.header().len());
    for name in file.header() {
        let name = name.trim();
        if name.is_empty() || fields.iter().any(|other| other.name() == name) {
            let problem = if name.is_empty() { "a column without a name" } else { "two columns of one name" };
            return Err(format!("{shown}: the header has {problem} ({name:?})"));
        }
        fields.push(Field::new(name, DataType::Utf8, true));
    }
    if fields.is_empty() {
        return Err(format!("{shown}: it has no header"));
    }
    Ok(Schema::new(fields))
}

/// All rows of a file with this content.
///
/// # Errors
/// What is wrong with which line.
pub(super) fn rows(shown: &str, content: Bytes, packing: Packing) -> Result<Vec<RecordBatch>, String> {
    let mut file = CsvFile::over(shown.to_owned(), Box::new(Cursor::new(content)), packing)?;
    let schema = Arc::new(columns(shown, &file)?);
    let mut batches = Vec::new();
    while let Some(columns) = file.next_rows(BATCH_ROWS)? {
        let columns = columns.iter().map(|column| Arc::new(column.clone()) as ArrayRef).collect();
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns);
        batches.push(batch.map_err(|error| format!("{shown}: {error}"))?);
    }
    Ok(batches)
}
