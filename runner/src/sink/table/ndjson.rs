//! Rows as a file with a JSON object in each line, every column in each: the text that goes into topics, too (`sink/json`).
//!
//! Whole numbers and decimals have all their digits; whoever reads numbers as floating point loses some above 2^53. Times are
//! ISO 8601, binary is hexadecimal, NaN and infinities are null.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::error::ArrowError;

use crate::sink::json;

/// Appends rows.
///
/// # Errors
/// When a column has a type that JSON has no form for.
pub(super) fn append(text: &mut Vec<u8>, rows: &RecordBatch) -> Result<(), ArrowError> {
    text.extend_from_slice(&json::lines(rows)?);
    Ok(())
}

/// Rows of a file: no value of JSON has a line end in it.
pub(super) fn count_rows(text: &[u8]) -> u64 {
    text.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{
        ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, ListArray,
        StringArray, StructArray, TimestampMicrosecondArray,
    };
    use datafusion::arrow::datatypes::{DataType, Field, Int32Type, Schema};

    use super::*;
    use crate::sink::table::text::TextEncoder;
    use crate::sink::table::{Encoder, Footer};
    use crate::tables::schema::{TableSchema, value_type};
    use crate::tables::{FileAt, NdjsonFile, Packing};

    #[test]
    fn what_is_written_is_read_back_as_it_was() {
        let pair: ArrayRef = Arc::new(StructArray::from(vec![(
            Arc::new(Field::new("a key", DataType::Utf8, true)),
            Arc::new(StringArray::from(vec![Some("\u{0}\n\"é"), None])) as ArrayRef,
        )]));
        let utc = TimestampMicrosecondArray::from(vec![Some(1_767_225_600_000_001), None]);
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("yes", Arc::new(BooleanArray::from(vec![Some(true), None]))),
            ("n", Arc::new(Int64Array::from(vec![i64::MAX, i64::MIN]))),
            ("ratio", Arc::new(Float64Array::from(vec![0.1, -1e300]))),
            (
                "price",
                Arc::new(
                    Decimal128Array::from(vec![12_345_678_901_234_567_890_123_456_789_012_345_678, -5])
                        .with_precision_and_scale(38, 2)
                        .unwrap(),
                ),
            ),
            ("day", Arc::new(Date32Array::from(vec![20_454, 0]))),
            ("at", Arc::new(utc.clone().with_timezone("UTC"))),
            ("local", Arc::new(utc)),
            ("list", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None]))),
            ("pair", pair),
            ("bytes", Arc::new(BinaryArray::from(vec![Some(&b"\x00\xff"[..]), None]))),
            ("text", Arc::new(StringArray::from(vec![Some(""), None]))),
        ];
        let rows = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
        let mut encoder = TextEncoder::ndjson(Packing::None).unwrap();
        encoder.write(&rows).unwrap();
        encoder.finish(&Footer::default()).unwrap();
        let text = encoder.take();
        assert_eq!(count_rows(&text), 2);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &text).unwrap();
        let told = TableSchema::new(&rows.schema(), &[]);
        let field = |told: &crate::tables::schema::TableColumn| {
            Field::new(&told.name, value_type(&told.data_type).unwrap_or_else(|| panic!("{told:?}")), true)
        };
        let fields = told.columns.iter().map(field).collect();
        let mut read = NdjsonFile::open(&FileAt::from(file.path()), Packing::None, fields).unwrap();
        let read = read.next_rows(10).unwrap().unwrap();
        for (field, (read, written)) in rows.schema().fields().iter().zip(read.columns().iter().zip(rows.columns())) {
            let same = datafusion::arrow::compute::cast(read, field.data_type()).unwrap();
            assert_eq!(&same, written, "{}", field.name());
        }
        assert!(Schema::new(told.columns.iter().map(field).collect::<Vec<_>>()).fields().len() == 11);
    }
}
