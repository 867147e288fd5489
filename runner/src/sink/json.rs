//! Rows as JSON texts: what goes into topics and onto the screen.
//!
//! Pure. Every column is there in each row, null where it is null, so that all rows have one shape. Times are ISO 8601 with
//! their zone, binary is hexadecimal, NaN and infinities are null (JSON has no word for them).

use arrow_json::writer::{LineDelimited, WriterBuilder};
use datafusion::arrow::array::{RecordBatch, new_null_array};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::error::ArrowError;

/// A text for each row, each on a line of its own.
///
/// # Errors
/// When a column has a type that JSON has no form for.
pub fn lines(rows: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let mut lines = Vec::new();
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut lines);
    writer.write(rows)?;
    writer.finish()?;
    drop(writer);
    Ok(lines)
}

/// Checks that rows of this schema can be written.
///
/// # Errors
/// Says which type it is that cannot.
pub fn check(schema: &SchemaRef) -> Result<(), ArrowError> {
    let fields: Vec<_> = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    let columns = fields.iter().map(|field| new_null_array(field.data_type(), 1)).collect();
    let schema = std::sync::Arc::new(datafusion::arrow::datatypes::Schema::new(fields));
    lines(&RecordBatch::try_new(schema, columns)?).map(drop)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{
        ArrayRef, BinaryArray, Decimal128Array, Float64Array, Int64Array, ListArray, StringArray,
        TimestampMicrosecondArray,
    };
    use datafusion::arrow::datatypes::Int32Type;

    use super::*;

    #[test]
    fn every_row_is_one_line_with_every_column() {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("text", Arc::new(StringArray::from(vec![Some("a\n\"b\""), None]))),
            ("number", Arc::new(Int64Array::from(vec![Some(i64::MAX), None]))),
            ("ratio", Arc::new(Float64Array::from(vec![0.5, f64::NAN]))),
            ("price", Arc::new(Decimal128Array::from(vec![1_050, -5]).with_precision_and_scale(10, 2).unwrap())),
            (
                "at",
                Arc::new(TimestampMicrosecondArray::from(vec![Some(1_767_225_600_000_001), None]).with_timezone("UTC")),
            ),
            ("bytes", Arc::new(BinaryArray::from(vec![Some(&b"\x00\xff"[..]), None]))),
            ("list", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None]))),
        ];
        let rows = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
        check(&rows.schema()).unwrap();
        let text = String::from_utf8(lines(&rows).unwrap()).unwrap();
        let expected = [
            r#"{"text":"a\n\"b\"","number":9223372036854775807,"ratio":0.5,"price":10.50,"at":"2026-01-01T00:00:00.000001Z","bytes":"00ff","list":[1,null]}"#,
            r#"{"text":null,"number":null,"ratio":null,"price":-0.05,"at":null,"bytes":null,"list":null}"#,
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
        assert!(lines(&rows.slice(0, 0)).unwrap().is_empty());
    }
}
