//! Rows as a Parquet file.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use data_platform_crds::sink::Compression as SinkCompression;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::arrow::arrow_writer::ArrowWriterOptions;
use datafusion::parquet::basic::{Compression, GzipLevel, ZstdLevel};
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::metadata::SortingColumn;
use datafusion::parquet::file::properties::WriterProperties;

use crate::delta::statistics;
use crate::sink::table::sorted::{self, HELD_BYTES_MAX, Held};
use crate::sink::table::{Encoder, FileOrder, Footer};

/// Rows of a row group: what readers of columns like; more would only cost memory while writing.
const ROW_GROUP_ROWS: usize = 262_144;
/// Encoded bytes that one open file may hold before a row group is closed.
pub(super) const ROW_GROUP_BYTES: usize = 16 << 20;

/// One file.
pub(super) struct ParquetEncoder {
    writer: ArrowWriter<Buffer>,
    buffer: Buffer,
    /// Rows that are to be sorted.
    held: Option<Held>,
}

/// Bytes that the encoder gave up and the staged file has not taken yet.
#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl ParquetEncoder {
    pub(super) fn new(schema: &SchemaRef, compression: SinkCompression, order: &FileOrder) -> Result<Self, String> {
        let buffer = Buffer::default();
        // Without the Arrow schema in the file every reader sees the plain Parquet types, whatever Arrow we use.
        let properties = properties(compression, sorted::sorting_columns(&order.by, schema));
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(buffer.clone(), Arc::clone(schema), options);
        let writer = writer.map_err(in_words)?;
        let is_to_sort = !order.by.is_empty() && !order.is_given;
        let held = is_to_sort.then(|| Held::new(&order.by, schema)).transpose().map_err(|error| error.to_string())?;
        Ok(Self { writer, buffer, held })
    }
}

impl Encoder for ParquetEncoder {
    fn write(&mut self, rows: &RecordBatch) -> Result<(), String> {
        match &mut self.held {
            Some(held) => {
                held.push(rows);
                Ok(())
            }
            None => self.writer.write(rows).map_err(in_words),
        }
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut *self.buffer.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn to_come(&self) -> u64 {
        self.writer.in_progress_size() as u64 + self.held.as_ref().map_or(0, |held| held.bytes() as u64)
    }

    fn memory(&self) -> usize {
        self.writer.memory_size() + self.held.as_ref().map_or(0, Held::bytes)
    }

    fn is_full(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.bytes() >= HELD_BYTES_MAX)
    }

    fn finish(&mut self, footer: &Footer) -> Result<Option<String>, String> {
        if let Some(held) = &mut self.held {
            held.take(|rows| self.writer.write(rows).map_err(in_words))?;
        }
        for pair in footer.key_values() {
            self.writer.append_key_value_metadata(pair);
        }
        let metadata = self.writer.finish().map_err(in_words)?;
        Ok(Some(statistics::of(&metadata)))
    }
}

fn in_words(error: ParquetError) -> String {
    error.to_string()
}

fn properties(compression: SinkCompression, sorting: Vec<SortingColumn>) -> WriterProperties {
    let compression = match compression {
        // Level 1: half the size of snappy at its speed; level 3 was larger and slower (own measurement).
        SinkCompression::Zstd => Compression::ZSTD(ZstdLevel::try_new(1).expect("1 is a level")),
        SinkCompression::Snappy => Compression::SNAPPY,
        SinkCompression::Gzip => Compression::GZIP(GzipLevel::default()),
        SinkCompression::None => Compression::UNCOMPRESSED,
    };
    WriterProperties::builder()
        .set_compression(compression)
        .set_sorting_columns(Some(sorting).filter(|sorting| !sorting.is_empty()))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
        // The format's words for what lies in lists and maps.
        .set_coerce_types(true)
        .set_created_by(concat!("data-platform version ", env!("CARGO_PKG_VERSION")).to_owned())
        .build()
}
