//! Rows as a CSV file, as RFC 4180 has it: a header, CRLF, cells in quotes where they need them.
//!
//! Null is an empty cell and an empty text is `""`, so that readers who ask for it can tell them apart. Lists, structs and
//! maps are JSON, times ISO 8601, binary is hexadecimal.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow_json::writer::{EncoderOptions, NullableEncoder, make_encoder};
use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, FieldRef, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};

/// The line with the names of the columns.
pub(super) fn header(schema: &SchemaRef) -> Vec<u8> {
    let mut text = Vec::new();
    for (index, field) in schema.fields().iter().enumerate() {
        separate(&mut text, index);
        quote_if_needed(&mut text, field.name().as_bytes());
    }
    text.extend_from_slice(b"\r\n");
    text
}

/// How the cells of a column are written.
enum Cells<'a> {
    /// As they are.
    Text(Arc<dyn Array>),
    /// As JSON.
    Json(NullableEncoder<'a>),
    /// As Arrow shows them.
    Shown(ArrayFormatter<'a>),
}

/// Appends rows.
///
/// # Errors
/// When a column has a type that has no form here.
pub(super) fn append(text: &mut Vec<u8>, rows: &RecordBatch) -> Result<(), ArrowError> {
    let (json, shown) = (EncoderOptions::default().with_explicit_nulls(true), FormatOptions::default());
    let schema = rows.schema();
    let columns = schema.fields().iter().zip(rows.columns());
    let mut cells =
        columns.map(|(field, column)| cells(field, column.as_ref(), &json, &shown)).collect::<Result<Vec<_>, _>>()?;
    let mut cell = String::new();
    for row in 0..rows.num_rows() {
        for (index, (cells, column)) in cells.iter_mut().zip(rows.columns()).enumerate() {
            separate(text, index);
            if column.is_null(row) {
                continue;
            }
            match cells {
                Cells::Text(texts) => match texts.as_string_view().value(row) {
                    "" => text.extend_from_slice(b"\"\""),
                    value => quote_if_needed(text, value.as_bytes()),
                },
                Cells::Json(encoder) => {
                    let mut value = Vec::new();
                    encoder.encode(row, &mut value);
                    quote_if_needed(text, &value);
                }
                Cells::Shown(formatter) => {
                    cell.clear();
                    write!(cell, "{}", formatter.value(row)).map_err(|error| {
                        ArrowError::CsvError(format!("a value of {} cannot be shown: {error}", column.data_type()))
                    })?;
                    quote_if_needed(text, cell.as_bytes());
                }
            }
        }
        text.extend_from_slice(b"\r\n");
    }
    Ok(())
}

fn cells<'a>(
    field: &'a FieldRef,
    column: &'a dyn Array,
    json: &'a EncoderOptions,
    shown: &'a FormatOptions<'a>,
) -> Result<Cells<'a>, ArrowError> {
    Ok(match column.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Cells::Text(cast(column, &DataType::Utf8View)?),
        nested if nested.is_nested() => Cells::Json(make_encoder(field, column, json)?),
        _ => Cells::Shown(ArrayFormatter::try_new(column, shown)?),
    })
}

fn separate(text: &mut Vec<u8>, index: usize) {
    if index > 0 {
        text.push(b',');
    }
}

fn quote_if_needed(text: &mut Vec<u8>, value: &[u8]) {
    if !value.iter().any(|byte| matches!(byte, b',' | b'"' | b'\r' | b'\n')) {
        return text.extend_from_slice(value);
    }
    text.push(b'"');
    for byte in value {
        if *byte == b'"' {
            text.push(b'"');
        }
        text.push(*byte);
    }
    text.push(b'"');
}

/// Rows of a file behind its header: line ends that do not stand in quotes, less one.
pub(super) fn count_rows(text: &[u8]) -> u64 {
    let mut in_quotes = false;
    let mut ends: u64 = 0;
    for byte in text {
        match byte {
            b'"' => in_quotes = !in_quotes,
            b'\n' if !in_quotes => ends += 1,
            _ => {}
        }
    }
    ends.saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{
        ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, ListArray,
        StringArray, StructArray, TimestampMicrosecondArray,
    };
    use datafusion::arrow::datatypes::{Field, Int32Type};

    use super::*;
    use crate::sink::table::text::TextEncoder;
    use crate::sink::table::{Encoder, Footer};
    use crate::tables::Packing;

    fn encoded(columns: Vec<(&str, ArrayRef)>) -> String {
        let rows = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
        let mut encoder = TextEncoder::csv(&rows.schema(), Packing::None).unwrap();
        encoder.write(&rows).unwrap();
        encoder.finish(&Footer::default()).unwrap();
        let text = encoder.take();
        assert_eq!(count_rows(&text), rows.num_rows() as u64);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn null_and_empty_text_differ_and_quotes_stand_where_they_are_needed() {
        let texts = ["plain", "", "a,b", "say \"no\"", "two\r\nlines", " spaced "].map(Some);
        let texts: ArrayRef = Arc::new(StringArray::from_iter(texts.into_iter().chain([None])));
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..7));
        assert_eq!(
            encoded(vec![("a \"text\"", texts), ("n", numbers)]),
            "\"a \"\"text\"\"\",n\r\nplain,0\r\n\"\",1\r\n\"a,b\",2\r\n\"say \"\"no\"\"\",3\r\n\"two\r\nlines\",4\r\n spaced ,5\r\n,6\r\n"
        );
    }

    #[test]
    fn every_type_has_the_text_that_readers_expect() {
        let utc = TimestampMicrosecondArray::from(vec![Some(1_767_225_600_000_001), None]);
        let pair: ArrayRef = Arc::new(StructArray::from(vec![(
            Arc::new(Field::new("k", DataType::Utf8, true)),
            Arc::new(StringArray::from(vec![Some("v"), None])) as ArrayRef,
        )]));
        let text = encoded(vec![
            ("yes", Arc::new(BooleanArray::from(vec![Some(true), None]))),
            ("ratio", Arc::new(Float64Array::from(vec![1.5, -0.25]))),
            ("price", Arc::new(Decimal128Array::from(vec![1_050, -5]).with_precision_and_scale(10, 2).unwrap())),
            ("day", Arc::new(Date32Array::from(vec![20_454, 0]))),
            ("at", Arc::new(utc.clone().with_timezone("UTC"))),
            ("local", Arc::new(utc)),
            ("list", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None]))),
            ("pair", pair),
            ("bytes", Arc::new(BinaryArray::from(vec![Some(&b"\x00\xff"[..]), None]))),
        ]);
        let lines: Vec<_> = text.split("\r\n").collect();
        assert_eq!(
            lines,
            [
                "yes,ratio,price,day,at,local,list,pair,bytes",
                "true,1.5,10.50,2026-01-01,2026-01-01T00:00:00.000001Z,2026-01-01T00:00:00.000001,\"[1,null]\",\"{\"\"k\"\":\"\"v\"\"}\",00ff",
                ",-0.25,-0.05,1970-01-01,,,,\"{\"\"k\"\":null}\",",
                "",
            ]
        );
    }
}
