//! Parquet files of a reference, read one after the other.

use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Field, Schema};

use super::Problem;
use crate::tables::{FileAt, parquet_columns, parquet_rows};

/// The columns of all files; a file may lack some.
///
/// # Errors
/// What is wrong with which file.
pub(super) fn columns<'a>(files: impl Iterator<Item = &'a FileAt>) -> Result<Schema, Problem> {
    let mut fields: Vec<Arc<Field>> = Vec::new();
    for at in files {
        for field in parquet_columns(at)?.fields() {
            match fields.iter().find(|known| known.name() == field.name()) {
                None => fields.push(Arc::clone(field)),
                Some(known) if known.data_type() == field.data_type() => {}
                Some(known) => {
                    let (name, found, other) = (field.name(), field.data_type(), known.data_type());
                    return Err(format!("{at}: the column {name} is {found}, in other files {other}").into());
                }
            }
        }
    }
    Ok(Schema::new(fields))
}

/// All rows of a file with this content.
///
/// # Errors
/// What is wrong with it.
pub(super) fn rows(shown: &str, content: Bytes) -> Result<Vec<RecordBatch>, String> {
    let damaged = |error: &dyn std::fmt::Display| format!("{shown} is not a whole Parquet file: {error}");
    let reader = parquet_rows(content).map_err(|error| damaged(&error))?;
    reader.collect::<Result<Vec<_>, _>>().map_err(|error| damaged(&error))
}
