//! Files of text: rows stand behind each other as their format writes them, packed or not, and nothing comes at the end. A file tells
//! nobody who wrote it, so `audit` proves it by the length and the checksum in the job log.

use std::io::{self, Read, Write};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::error::ArrowError;
use flate2::write::GzEncoder;

use crate::sink::table::{Encoder, Footer, csv, ndjson};
use crate::storage::paths;
use crate::tables::{Packing, unpacked};

/// As for Parquet.
const ZSTD_LEVEL: i32 = 1;

/// One file.
pub(super) struct TextEncoder {
    packed: Packed,
    append: fn(&mut Vec<u8>, &RecordBatch) -> Result<(), ArrowError>,
}

/// Bytes that are written, and taken as they are ready.
enum Packed {
    Plain(Vec<u8>),
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl TextEncoder {
    /// A file that begins with the names of the columns.
    pub(super) fn csv(schema: &SchemaRef, packing: Packing) -> io::Result<Self> {
        let mut packed = Packed::new(packing)?;
        packed.write(csv::header(schema))?;
        Ok(Self { packed, append: csv::append })
    }

    /// A file of JSON objects.
    pub(super) fn ndjson(packing: Packing) -> io::Result<Self> {
        Ok(Self { packed: Packed::new(packing)?, append: ndjson::append })
    }
}

impl Packed {
    fn new(packing: Packing) -> io::Result<Self> {
        Ok(match packing {
            Packing::None => Self::Plain(Vec::new()),
            Packing::Gzip => Self::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::default())),
            Packing::Zstd => Self::Zstd(zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?),
        })
    }

    fn write(&mut self, text: Vec<u8>) -> io::Result<()> {
        match self {
            Self::Plain(ready) if ready.is_empty() => {
                *ready = text;
                Ok(())
            }
            Self::Plain(ready) => ready.write_all(&text),
            Self::Gzip(encoder) => encoder.write_all(&text),
            Self::Zstd(encoder) => encoder.write_all(&text),
        }
    }

    fn ready(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Plain(ready) => ready,
            Self::Gzip(encoder) => encoder.get_mut(),
            Self::Zstd(encoder) => encoder.get_mut(),
        }
    }

    /// Ends what is packed; its bytes are ready then.
    fn finish(&mut self) -> io::Result<()> {
        let ended = match std::mem::replace(self, Self::Plain(Vec::new())) {
            Self::Plain(ready) => ready,
            Self::Gzip(encoder) => encoder.finish()?,
            Self::Zstd(encoder) => encoder.finish()?,
        };
        *self = Self::Plain(ended);
        Ok(())
    }
}

impl Encoder for TextEncoder {
    fn write(&mut self, rows: &RecordBatch) -> Result<(), String> {
        let mut text = Vec::new();
        (self.append)(&mut text, rows).map_err(|error| error.to_string())?;
        self.packed.write(text).map_err(|error| error.to_string())
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.packed.ready())
    }

    fn to_come(&self) -> u64 {
        self.memory() as u64
    }

    fn memory(&self) -> usize {
        match &self.packed {
            Packed::Plain(ready) => ready.capacity(),
            Packed::Gzip(encoder) => encoder.get_ref().capacity(),
            Packed::Zstd(encoder) => encoder.get_ref().capacity(),
        }
    }

    fn finish(&mut self, _: &Footer) -> Result<Option<String>, String> {
        self.packed.finish().map_err(|error| error.to_string())?;
        Ok(None)
    }
}

/// Rows of a file of text with this name; `None`: it is none.
pub(crate) fn count_rows(name: &str, content: &[u8]) -> Option<Result<u64, String>> {
    let (kind, packing) = paths::text_of(paths::visible_ending(name)?)?;
    let count = if kind == paths::CSV { csv::count_rows } else { ndjson::count_rows };
    let packing = Packing::of_ending(packing);
    if packing == Packing::None {
        return Some(Ok(count(content)));
    }
    let unpack = || {
        let mut text = Vec::new();
        let bytes = Box::new(io::Cursor::new(content.to_vec()));
        unpacked(name, bytes, packing)?.read_to_end(&mut text).map_err(|error| format!("{name}: {error}"))?;
        Ok(count(&text))
    };
    Some(unpack())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, Int64Array};

    use super::*;

    #[test]
    fn a_packed_file_holds_the_text_and_its_rows_are_counted() {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..20_000));
        let rows = RecordBatch::try_from_iter([("n", numbers.clone()), ("m", numbers)]).unwrap();
        let written = |packing: Packing, is_csv: bool| {
            let encoder = if is_csv { TextEncoder::csv(&rows.schema(), packing) } else { TextEncoder::ndjson(packing) };
            let mut encoder = encoder.unwrap();
            let mut content = encoder.take();
            for at in [0, 10_000] {
                encoder.write(&rows.slice(at, 10_000)).unwrap();
                content.extend(encoder.take());
            }
            encoder.finish(&Footer::default()).unwrap();
            content.extend(encoder.take());
            content
        };
        for (kind, is_csv) in [("csv", true), ("ndjson", false)] {
            let plain = written(Packing::None, is_csv);
            assert_eq!(count_rows(&format!("a/b.{kind}"), &plain), Some(Ok(20_000)));
            for (packing, ending) in [(Packing::Gzip, "gz"), (Packing::Zstd, "zst")] {
                let packed = written(packing, is_csv);
                assert!(packed.len() * 2 < plain.len(), "{ending}: {} of {}", packed.len(), plain.len());
                let mut text = Vec::new();
                let bytes = Box::new(io::Cursor::new(packed.clone()));
                unpacked("x", bytes, packing).unwrap().read_to_end(&mut text).unwrap();
                assert_eq!(text, plain);
                let name = format!("a/b.{kind}.{ending}");
                assert_eq!(count_rows(&name, &packed), Some(Ok(20_000)));
                assert!(count_rows(&name, &packed[..packed.len() - 9]).unwrap().is_err(), "{name} is cut");
            }
        }
        assert_eq!(count_rows("a.parquet", b""), None);
    }
}
