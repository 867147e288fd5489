//! The end of a data file that this process did not write itself: what is said of its columns.

use std::fs::File;

use datafusion::parquet::file::metadata::ParquetMetaDataReader;

use crate::delta::{DeltaError, damaged, statistics};
use crate::storage::SharedStore;

/// What the log is to say of a file's columns; `None` if it is gone.
///
/// # Errors
/// When it cannot be read, or is not a whole Parquet file.
pub async fn statistics_of(store: &SharedStore, path: &str) -> Result<Option<String>, DeltaError> {
    let reader = ParquetMetaDataReader::new();
    let parsed = match store.file(path).and_then(|file| File::open(file).ok()) {
        Some(file) => reader.parse_and_finish(&file),
        None => match store.get(path).await? {
            Some(content) => reader.parse_and_finish(&content),
            None => return Ok(None),
        },
    };
    let metadata =
        parsed.map_err(|error| damaged(store.root(), format!("{path} is no whole Parquet file: {error}")))?;
    Ok(Some(statistics::of(&metadata)))
}
