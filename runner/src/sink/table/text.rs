//! Files of text: rows stand behind each other as their format writes them, and nothing comes at the end. A file tells nobody who wrote
//! it, so `audit` proves it by the length and the checksum in the job log.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::error::ArrowError;

use crate::sink::table::{Encoder, Footer, csv, ndjson};

/// One file.
pub(super) struct TextEncoder {
    text: Vec<u8>,
    append: fn(&mut Vec<u8>, &RecordBatch) -> Result<(), ArrowError>,
}

impl TextEncoder {
    /// A file that begins with the names of the columns.
    pub(super) fn csv(schema: &SchemaRef) -> Self {
        Self { text: csv::header(schema), append: csv::append }
    }

    /// A file of JSON objects.
    pub(super) fn ndjson() -> Self {
        Self { text: Vec::new(), append: ndjson::append }
    }
}

impl Encoder for TextEncoder {
    fn write(&mut self, rows: &RecordBatch) -> Result<(), String> {
        (self.append)(&mut self.text, rows).map_err(|error| error.to_string())
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.text)
    }

    fn to_come(&self) -> u64 {
        self.text.len() as u64
    }

    fn memory(&self) -> usize {
        self.text.capacity()
    }

    fn finish(&mut self, _: &Footer) -> Result<Option<String>, String> {
        Ok(None)
    }
}
