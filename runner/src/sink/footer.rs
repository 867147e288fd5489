//! What a published file says of itself, read back: how many rows, and the [`Footer`] that `table` wrote. A CSV file has
//! none.

use std::fs::File;

use datafusion::parquet::file::metadata::ParquetMetaDataReader;
use datafusion::parquet::file::reader::ChunkReader;

use crate::sink::table::Footer;
use crate::storage::{SharedStore, StoreError};

/// Facts of a Parquet file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFacts {
    /// Its rows.
    pub rows: u64,
    /// Who wrote it; `None` for a file that is not ours.
    pub footer: Option<Footer>,
}

/// What a file of an output says; the inner error says why it is not a Parquet file. `None` if it is gone. Of a local
/// file only the end is read.
///
/// # Errors
/// When the output cannot be read.
pub async fn of_file(output: &SharedStore, path: &str) -> Result<Option<Result<FileFacts, String>>, StoreError> {
    match output.file(path).and_then(|file| File::open(file).ok()) {
        Some(file) => Ok(Some(read(&file))),
        None => Ok(output.get(path).await?.map(|content| read(&content))),
    }
}

/// Reads the end of a file.
///
/// # Errors
/// When it is not a whole Parquet file.
fn read(file: &impl ChunkReader) -> Result<FileFacts, String> {
    let metadata = ParquetMetaDataReader::new().parse_and_finish(file).map_err(|error| error.to_string())?;
    let metadata = metadata.file_metadata();
    let value = |name: &str| {
        let pairs = metadata.key_value_metadata()?;
        let pair = pairs.iter().find(|pair| pair.key.strip_prefix(Footer::PREFIX) == Some(name))?;
        pair.value.clone()
    };
    let footer = || {
        Some(Footer {
            job: value("job")?,
            log_id: value("log_id")?,
            version: value("version")?.parse().ok()?,
            offsets: serde_json::from_str(&value("offsets")?).ok()?,
            watermark: value("watermark").and_then(|watermark| watermark.parse().ok()),
            fingerprint: value("fingerprint")?,
            interval: value("interval").and_then(|interval| serde_json::from_str(&interval).ok()),
            merged: value("merged").and_then(|merged| serde_json::from_str(&merged).ok()),
        })
    };
    Ok(FileFacts { rows: u64::try_from(metadata.num_rows()).unwrap_or_default(), footer: footer() })
}
