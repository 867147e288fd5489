//! What a Delta log says of a file's columns, taken from the end of the Parquet file: rows, nulls, least and greatest values.
//!
//! Pure, so that the same is said when the file was written a moment ago and when a later process publishes it. Every value is
//! a bound: texts are cut, times are whole milliseconds. Of numbers with a floating point the greatest is left out, since
//! Parquet does not count NaN, which readers of Delta tables take for the greatest of all.

use datafusion::parquet::basic::{LogicalType, TimeUnit, Type};
use datafusion::parquet::file::metadata::ParquetMetaData;
use datafusion::parquet::file::statistics::Statistics;
use datafusion::parquet::schema::types::ColumnDescriptor;

/// Columns of which something is said, unless the table asks for another number.
const COLUMNS_MAX: usize = 32;
/// Characters of a text.
const TEXT_CHARACTERS: usize = 32;
/// The greatest character: a text that was cut and has it behind is above what it was cut from.
const GREATEST: char = '\u{10FFFF}';

/// A value of a column.
#[derive(Clone, Debug, PartialEq, PartialOrd)]
enum Bound {
    Whole(i128),
    Float(f64),
    Text(String),
}

/// Least and greatest value of a column.
type Bounds = (Option<Bound>, Option<Bound>);

/// What is said of a file, as the log has it: an object in a text.
pub fn of(metadata: &ParquetMetaData) -> String {
    let rows = metadata.file_metadata().num_rows();
    let schema = metadata.file_metadata().schema_descr();
    let (mut least, mut greatest, mut nulls) = (Vec::new(), Vec::new(), Vec::new());
    // Of lists, structs and maps nothing is said, but they count.
    let columns = schema.root_schema().get_fields().iter().take(COLUMNS_MAX);
    for root in columns.filter(|root| root.is_primitive()) {
        let Some(index) = (0..schema.num_columns()).find(|index| schema.get_column_root(*index).name() == root.name())
        else {
            continue;
        };
        let column = schema.column(index);
        let statistics: Vec<_> = metadata.row_groups().iter().map(|group| group.column(index).statistics()).collect();
        let key = serde_json::Value::String(root.name().to_owned());
        let counts = statistics.iter().map(|known| known.and_then(Statistics::null_count_opt));
        if let Some(count) = counts.sum::<Option<u64>>() {
            nulls.push(format!("{key}:{count}"));
        }
        let (min, max) = bounds(&column, &statistics);
        least.extend(min.and_then(|min| written(&column, &min, false)).map(|min| format!("{key}:{min}")));
        greatest.extend(max.and_then(|max| written(&column, &max, true)).map(|max| format!("{key}:{max}")));
    }
    format!(
        "{{\"numRecords\":{rows},\"minValues\":{{{}}},\"maxValues\":{{{}}},\"nullCount\":{{{}}}}}",
        least.join(","),
        greatest.join(","),
        nulls.join(",")
    )
}

/// Over all row groups; a group of which nothing is known makes all of them unknown, unless it has only nulls.
fn bounds(column: &ColumnDescriptor, groups: &[Option<&Statistics>]) -> Bounds {
    let (mut least, mut greatest): Bounds = (None, None);
    for group in groups {
        let Some(statistics) = group else { return (None, None) };
        let (Some(min), Some(max)) = (value(column, statistics, false), value(column, statistics, true)) else {
            if statistics.min_bytes_opt().is_none() && statistics.null_count_opt().is_some_and(|nulls| nulls > 0) {
                continue;
            }
            return (None, None);
        };
        if least.as_ref().is_none_or(|least| min < *least) {
            least = Some(min);
        }
        if greatest.as_ref().is_none_or(|greatest| max > *greatest) {
            greatest = Some(max);
        }
    }
    (least, greatest)
}

fn value(column: &ColumnDescriptor, statistics: &Statistics, is_max: bool) -> Option<Bound> {
    let bytes = if is_max { statistics.max_bytes_opt()? } else { statistics.min_bytes_opt()? };
    Some(match column.physical_type() {
        Type::INT32 => Bound::Whole(i32::from_le_bytes(bytes.try_into().ok()?).into()),
        Type::INT64 => Bound::Whole(i64::from_le_bytes(bytes.try_into().ok()?).into()),
        Type::FLOAT => Bound::Float(f32::from_le_bytes(bytes.try_into().ok()?).into()),
        Type::DOUBLE => Bound::Float(f64::from_le_bytes(bytes.try_into().ok()?)),
        Type::BYTE_ARRAY if is_text(column) => Bound::Text(std::str::from_utf8(bytes).ok()?.to_owned()),
        Type::FIXED_LEN_BYTE_ARRAY if matches!(column.logical_type_ref(), Some(LogicalType::Decimal { .. })) => {
            let negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
            let fill = if negative { 0xff } else { 0 };
            let mut wide = [fill; 16];
            wide.get_mut(16_usize.checked_sub(bytes.len())?..)?.copy_from_slice(bytes);
            Bound::Whole(i128::from_be_bytes(wide))
        }
        _ => return None,
    })
}

fn is_text(column: &ColumnDescriptor) -> bool {
    matches!(column.logical_type_ref(), Some(LogicalType::String))
}

/// A bound as JSON; `None` where it cannot be said.
fn written(column: &ColumnDescriptor, bound: &Bound, is_max: bool) -> Option<String> {
    match bound {
        Bound::Float(_) if is_max => None,
        Bound::Float(value) => value.is_finite().then(|| serde_json::Value::from(*value).to_string()),
        Bound::Text(text) => Some(serde_json::Value::String(cut(text, is_max)?).to_string()),
        Bound::Whole(value) => match column.logical_type_ref() {
            Some(LogicalType::Date) => date(i64::try_from(*value).ok()?).map(quoted),
            Some(LogicalType::Timestamp(time)) if time.unit == TimeUnit::MICROS => {
                millisecond(i64::try_from(*value).ok()?, time.is_adjusted_to_u_t_c, is_max).map(quoted)
            }
            Some(LogicalType::Decimal(decimal)) => Some(with_point(*value, u32::try_from(decimal.scale).ok()?)),
            Some(LogicalType::Integer(_)) | None => Some(value.to_string()),
            Some(_) => None,
        },
    }
}

fn quoted(text: String) -> String {
    format!("\"{text}\"")
}

fn cut(text: &str, is_max: bool) -> Option<String> {
    let mut rest = text.char_indices().skip(TEXT_CHARACTERS);
    let Some((end, next)) = rest.next() else { return Some(text.to_owned()) };
    let begin = &text[..end];
    match is_max {
        false => Some(begin.to_owned()),
        // Nothing is above the greatest character.
        true => (next != GREATEST).then(|| format!("{begin}{GREATEST}")),
    }
}

fn date(days: i64) -> Option<String> {
    let date = chrono::DateTime::from_timestamp(days.checked_mul(86_400)?, 0)?.date_naive();
    Some(date.format("%Y-%m-%d").to_string())
}

fn millisecond(micros: i64, is_utc: bool, is_max: bool) -> Option<String> {
    let whole = micros.div_euclid(1_000) + i64::from(is_max && micros.rem_euclid(1_000) != 0);
    let time = chrono::DateTime::from_timestamp_millis(whole)?;
    let zone = if is_utc { "Z" } else { "" };
    Some(format!("{}{zone}", time.format("%Y-%m-%dT%H:%M:%S%.3f")))
}

/// A decimal number, every digit of it.
fn with_point(value: i128, scale: u32) -> String {
    if scale == 0 {
        return value.to_string();
    }
    let Some(one) = 10_u128.checked_pow(scale) else { return value.to_string() };
    let (sign, digits) = (if value < 0 { "-" } else { "" }, value.unsigned_abs());
    format!("{sign}{}.{:0width$}", digits / one, digits % one, width = scale as usize)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{
        ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray,
        TimestampMicrosecondArray,
    };
    use datafusion::parquet::arrow::ArrowWriter;
    use datafusion::parquet::file::properties::WriterProperties;

    use super::*;

    fn said(columns: Vec<(&str, ArrayRef)>, group: usize) -> serde_json::Value {
        let rows = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(group)).build();
        let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), Some(properties)).unwrap();
        writer.write(&rows).unwrap();
        serde_json::from_str(&of(&writer.finish().unwrap())).unwrap()
    }

    #[test]
    fn every_type_has_its_bounds_over_all_row_groups() {
        let long = "x".repeat(40);
        let times =
            TimestampMicrosecondArray::from(vec![Some(1_767_225_600_000_001), None, Some(1_767_225_600_123_456)]);
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("n", Arc::new(Int64Array::from(vec![Some(7), Some(-3), None]))),
            ("text", Arc::new(StringArray::from(vec![Some("b"), Some("ä"), Some(&long)]))),
            ("day", Arc::new(Date32Array::from(vec![20_454, 0, 1]))),
            ("at", Arc::new(times.clone().with_timezone("UTC"))),
            ("local", Arc::new(times)),
            ("ratio", Arc::new(Float64Array::from(vec![0.5, f64::NAN, 2.5]))),
            ("price", Arc::new(Decimal128Array::from(vec![-5, 1_050, 3]).with_precision_and_scale(38, 2).unwrap())),
            ("yes", Arc::new(BooleanArray::from(vec![true, false, true]))),
            ("none", Arc::new(Int64Array::from(vec![None::<i64>, None, None]))),
        ];
        let said = said(columns, 2);
        assert_eq!(said["numRecords"], 3);
        let least = serde_json::json!({
            "n": -3, "text": "b", "day": "1970-01-01", "at": "2026-01-01T00:00:00.000Z", "local": "2026-01-01T00:00:00.000",
            "ratio": 0.5, "price": -0.05,
        });
        assert_eq!(said["minValues"], least);
        let greatest = serde_json::json!({
            "n": 7, "text": "ä", "day": "2026-01-01", "at": "2026-01-01T00:00:00.124Z", "local": "2026-01-01T00:00:00.124",
            "price": 10.50,
        });
        assert_eq!(said["maxValues"], greatest);
        let nulls = serde_json::json!({
            "n": 1, "text": 0, "day": 0, "at": 1, "local": 1, "ratio": 0, "price": 0, "yes": 0, "none": 3,
        });
        assert_eq!(said["nullCount"], nulls);
    }

    #[test]
    fn a_text_that_is_cut_stays_a_bound() {
        let long = "x".repeat(40);
        let text: ArrayRef = Arc::new(StringArray::from(vec![long.as_str()]));
        let said = said(vec![("t", text)], 10);
        let (min, max) = (said["minValues"]["t"].as_str().unwrap(), said["maxValues"]["t"].as_str().unwrap());
        assert_eq!((min.chars().count(), max.chars().count()), (32, 33));
        assert!(min < long.as_str() && max > long.as_str());
        let edge = format!("{}{GREATEST}y", "x".repeat(32));
        assert_eq!((cut(&edge, true), cut("short", true)), (None, Some("short".to_owned())));
    }

    #[test]
    fn a_file_without_rows_has_no_bounds_and_columns_beyond_the_first_are_left_out() {
        let none: ArrayRef = Arc::new(Int64Array::from(Vec::<i64>::new()));
        let empty = said(vec![("n", none)], 10);
        assert_eq!((&empty["numRecords"], &empty["minValues"]), (&0.into(), &serde_json::json!({})));
        let one: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let names: Vec<_> = (0..40).map(|n| format!("c{n}")).collect();
        let many = said(names.iter().map(|name| (name.as_str(), Arc::clone(&one))).collect(), 10);
        assert_eq!(many["nullCount"].as_object().unwrap().len(), COLUMNS_MAX);
    }
}
