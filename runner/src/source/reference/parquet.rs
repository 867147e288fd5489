//! Parquet files of a reference, read one after the other.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// The columns of all files; a file may lack some.
///
/// # Errors
/// What is wrong with which file.
pub(super) fn columns(paths: &[PathBuf]) -> Result<Schema, String> {
    let mut fields: Vec<Arc<Field>> = Vec::new();
    for path in paths {
        for field in open(path)?.schema().fields() {
            match fields.iter().find(|known| known.name() == field.name()) {
                None => fields.push(Arc::clone(field)),
                Some(known) if known.data_type() == field.data_type() => {}
                Some(known) => {
                    return Err(format!(
                        "{}: the column {} is {}, in other files {}",
                        path.display(),
                        field.name(),
                        field.data_type(),
                        known.data_type()
                    ));
                }
            }
        }
    }
    Ok(Schema::new(fields))
}

/// All rows of a file.
///
/// # Errors
/// What is wrong with it.
pub(super) fn rows(path: &Path) -> Result<Vec<RecordBatch>, String> {
    let reader = open(path)?.build().map_err(|error| damaged(path, &error))?;
    reader.collect::<Result<Vec<_>, _>>().map_err(|error| damaged(path, &error))
}

fn open(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>, String> {
    let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| damaged(path, &error))
}

fn damaged(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{} is not a whole Parquet file: {error}", path.display())
}
