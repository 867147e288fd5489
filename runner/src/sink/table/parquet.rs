//! Rows as a Parquet file.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use data_platform_crds::sink::Compression as SinkCompression;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::arrow::arrow_writer::ArrowWriterOptions;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::properties::WriterProperties;

use crate::delta::statistics;
use crate::sink::table::{Encoder, Footer};

/// Rows of a row group: what readers of columns like; more would only cost memory while writing.
const ROW_GROUP_ROWS: usize = 262_144;
/// Encoded bytes that one open file may hold before a row group is closed.
pub(super) const ROW_GROUP_BYTES: usize = 16 << 20;

/// One file.
pub(super) struct ParquetEncoder {
    writer: ArrowWriter<Buffer>,
    buffer: Buffer,
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
    pub(super) fn new(schema: &SchemaRef, compression: SinkCompression) -> Result<Self, String> {
        let buffer = Buffer::default();
        // Without the Arrow schema in the file every reader sees the plain Parquet types, whatever Arrow we use.
        let properties = properties(compression);
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(buffer.clone(), Arc::clone(schema), options);
        Ok(Self { writer: writer.map_err(|error| error.to_string())?, buffer })
    }
}

impl Encoder for ParquetEncoder {
    fn write(&mut self, rows: &RecordBatch) -> Result<(), String> {
        self.writer.write(rows).map_err(in_words)
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut *self.buffer.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn to_come(&self) -> u64 {
        self.writer.in_progress_size() as u64
    }

    fn memory(&self) -> usize {
        self.writer.memory_size()
    }

    fn finish(&mut self, footer: &Footer) -> Result<Option<String>, String> {
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

fn properties(compression: SinkCompression) -> WriterProperties {
    let compression = match compression {
        // Level 1: half the size of snappy at its speed; level 3 was larger and slower (own measurement).
        SinkCompression::Zstd => Compression::ZSTD(ZstdLevel::try_new(1).expect("1 is a level")),
        SinkCompression::Snappy => Compression::SNAPPY,
        SinkCompression::None => Compression::UNCOMPRESSED,
    };
    WriterProperties::builder()
        .set_compression(compression)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
        // The format's words for what lies in lists and maps.
        .set_coerce_types(true)
        .set_created_by(concat!("data-platform version ", env!("CARGO_PKG_VERSION")).to_owned())
        .build()
}
