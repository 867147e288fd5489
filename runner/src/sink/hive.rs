//! Hive directories: rows by the values of their partition columns, and the directory of each.
//!
//! Pure. Names are written as Spark does, so that Spark, DuckDB, pyarrow and Trino read the values back.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use datafusion::arrow::compute::take_record_batch;
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Int8Type, Int16Type, Int32Type, Int64Type, SchemaRef, TimeUnit, TimestampMicrosecondType,
};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::row::{RowConverter, SortField};

/// Directory of rows whose value is null or empty.
const DEFAULT_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";

/// Splits rows by their partition columns.
#[derive(Debug)]
pub struct Partitioner {
    columns: Vec<usize>,
    names: Vec<String>,
    kept: Vec<usize>,
    converter: Option<RowConverter>,
}

/// A partition column that cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartitionError {
    /// The query has no such column.
    #[error("partitionBy: the query gives no column {column:?}; it gives {columns}")]
    Unknown {
        /// The column.
        column: String,
        /// What there is.
        columns: String,
    },
    /// Its type has no directory name.
    #[error(
        "partitionBy: the column {column:?} is of type {data_type}; a directory is named after text, integers, booleans, dates or timestamps"
    )]
    Type {
        /// The column.
        column: String,
        /// Its type.
        data_type: String,
    },
    /// Nothing would be left for the files.
    #[error("partitionBy names every column of the query; at least one must be left for the files")]
    NothingLeft,
}

impl Partitioner {
    /// A partitioner for rows of this schema.
    ///
    /// # Errors
    /// When a column is not there or cannot name a directory.
    pub fn new(schema: &SchemaRef, partition_by: &[String]) -> Result<Self, PartitionError> {
        let mut columns = Vec::new();
        for name in partition_by {
            let Some((index, field)) = schema.column_with_name(name) else {
                let columns = schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ");
                return Err(PartitionError::Unknown { column: name.clone(), columns });
            };
            if !can_name(field.data_type()) {
                let data_type = field.data_type().to_string();
                return Err(PartitionError::Type { column: name.clone(), data_type });
            }
            columns.push(index);
        }
        let kept: Vec<_> = (0..schema.fields().len()).filter(|index| !columns.contains(index)).collect();
        if kept.is_empty() {
            return Err(PartitionError::NothingLeft);
        }
        let fields = columns.iter().map(|index| SortField::new(schema.field(*index).data_type().clone())).collect();
        let converter = RowConverter::new(fields).ok();
        Ok(Self { columns, names: partition_by.to_vec(), kept, converter })
    }

    /// Schema of the files: without the partition columns.
    pub fn file_schema(&self, schema: &SchemaRef) -> SchemaRef {
        Arc::new(schema.project(&self.kept).expect("the kept columns are columns of the schema"))
    }

    /// The rows of each directory, without the partition columns; the directory ends with `/`, or is empty.
    ///
    /// # Errors
    /// When Arrow cannot compare the values.
    pub fn split(&mut self, batch: &RecordBatch) -> Result<Vec<(String, RecordBatch)>, ArrowError> {
        if batch.num_rows() == 0 {
            return Ok(Vec::new());
        }
        let rest = batch.project(&self.kept)?;
        let Some(converter) = self.converter.as_mut().filter(|_| !self.columns.is_empty()) else {
            return Ok(vec![(String::new(), rest)]);
        };
        let values: Vec<ArrayRef> = self.columns.iter().map(|index| Arc::clone(batch.column(*index))).collect();
        let rows = converter.convert_columns(&values)?;
        let first = rows.row(0);
        if rows.iter().all(|row| row == first) {
            return Ok(vec![(self.directory(&values, 0), rest)]);
        }
        let mut groups: HashMap<&[u8], usize> = HashMap::new();
        let mut indices: Vec<Vec<u32>> = Vec::new();
        let encoded: Vec<_> = rows.iter().collect();
        for (row, encoded) in encoded.iter().enumerate() {
            let group = *groups.entry(encoded.data()).or_insert_with(|| {
                indices.push(Vec::new());
                indices.len() - 1
            });
            indices[group].push(u32::try_from(row).expect("a batch has fewer than 2^32 rows"));
        }
        let mut parts = Vec::with_capacity(indices.len());
        for rows in indices {
            let directory = self.directory(&values, rows[0] as usize);
            parts.push((directory, take_record_batch(&rest, &UInt32Array::from(rows))?));
        }
        Ok(parts)
    }

    fn directory(&self, values: &[ArrayRef], row: usize) -> String {
        let mut directory = String::new();
        for (name, array) in self.names.iter().zip(values) {
            let value = value_text(array, row).filter(|value| !value.is_empty());
            let value = value.map_or_else(|| DEFAULT_PARTITION.to_owned(), |value| escape(&value));
            let _ = write!(directory, "{}={value}/", escape(name));
        }
        directory
    }
}

fn can_name(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Utf8
            | DataType::Utf8View
            | DataType::LargeUtf8
            | DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::Boolean
            | DataType::Date32
            | DataType::Timestamp(TimeUnit::Microsecond, _)
    )
}

/// The value as text; `None` for null.
fn value_text(array: &ArrayRef, row: usize) -> Option<String> {
    if array.is_null(row) {
        return None;
    }
    Some(match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row).to_owned(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(row).to_owned(),
        DataType::Utf8View => array.as_string_view().value(row).to_owned(),
        DataType::Int8 => array.as_primitive::<Int8Type>().value(row).to_string(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).to_string(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Date32 => {
            let date = array.as_primitive::<Date32Type>().value_as_date(row);
            date.map_or_else(|| array.as_primitive::<Date32Type>().value(row).to_string(), |date| date.to_string())
        }
        _ => {
            let time = array.as_primitive::<TimestampMicrosecondType>();
            let text = time.value_as_datetime(row).map(|time| time.format("%Y-%m-%d %H:%M:%S%.f").to_string());
            text.unwrap_or_else(|| time.value(row).to_string())
        }
    })
}

/// Percent-encodes what a path or a reader would take for something else: the list is Spark's.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        let special =
            matches!(c, '"' | '#' | '%' | '\'' | '*' | '/' | ':' | '=' | '?' | '\\' | '{' | '[' | ']' | '^' | '\u{7f}');
        if special || c < ' ' {
            let _ = write!(escaped, "%{:02X}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// Column and value in the name of a Hive directory, `column=value`; a value of `None` is null.
pub(crate) fn parse_directory(name: &str) -> Option<(String, Option<String>)> {
    let (column, value) = name.split_once('=')?;
    Some((unescape(column), (value != DEFAULT_PARTITION).then(|| unescape(value))))
}

/// Undoes [`escape`].
fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{BooleanArray, Date32Array, Int32Array, StringViewArray, TimestampMicrosecondArray};

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
    }

    fn split(batch: &RecordBatch, by: &[&str]) -> Vec<(String, usize, usize)> {
        let by: Vec<_> = by.iter().map(|name| (*name).to_owned()).collect();
        let mut partitioner = Partitioner::new(&batch.schema(), &by).unwrap();
        let parts = partitioner.split(batch).unwrap();
        parts.into_iter().map(|(directory, rows)| (directory, rows.num_rows(), rows.num_columns())).collect()
    }

    #[test]
    fn rows_go_to_the_directory_of_their_values() {
        let days: ArrayRef = Arc::new(Date32Array::from(vec![Some(20_454), Some(20_455), Some(20_454), None]));
        let value: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3, 4]));
        let rows = batch(vec![("v", value), ("date", days)]);
        let expected = [
            ("date=2026-01-01/".to_owned(), 2, 1),
            ("date=2026-01-02/".to_owned(), 1, 1),
            ("date=__HIVE_DEFAULT_PARTITION__/".to_owned(), 1, 1),
        ];
        assert_eq!(split(&rows, &["date"]), expected);
        assert_eq!(split(&rows, &[]), [(String::new(), 4, 2)]);
        assert_eq!(split(&rows.slice(0, 1), &["date"]), [("date=2026-01-01/".to_owned(), 1, 1)]);
        assert!(split(&rows.slice(0, 0), &["date"]).is_empty());
    }

    #[test]
    fn a_directory_tells_the_value_that_it_was_made_of() {
        for value in ["../../etc", "a/b", "a=b", "%2F", "100%", "x\ny", "ü 😀", "a:b"] {
            let directory = format!("{}={}", escape("k=k"), escape(value));
            assert_eq!(parse_directory(&directory), Some(("k=k".to_owned(), Some(value.to_owned()))), "{directory}");
        }
        assert_eq!(parse_directory("k=__HIVE_DEFAULT_PARTITION__"), Some(("k".to_owned(), None)));
        assert_eq!(parse_directory("k"), None);
    }

    #[test]
    fn hostile_values_stay_one_directory_below_the_output() {
        let hostile = ["../../etc", "a/b", "a=b", "%2F", "", "..", "x\ny", "ü 😀", "a:b"];
        let text: ArrayRef = Arc::new(StringViewArray::from_iter_values(hostile));
        let value: ArrayRef = Arc::new(Int32Array::from(vec![0; hostile.len()]));
        let rows = batch(vec![("v", value), ("k", text)]);
        let directories: Vec<_> = split(&rows, &["k"]).into_iter().map(|(directory, ..)| directory).collect();
        let expected = [
            "k=..%2F..%2Fetc/",
            "k=a%2Fb/",
            "k=a%3Db/",
            "k=%252F/",
            "k=__HIVE_DEFAULT_PARTITION__/",
            "k=../",
            "k=x%0Ay/",
            "k=ü 😀/",
            "k=a%3Ab/",
        ];
        assert_eq!(directories, expected);
    }

    #[test]
    fn several_columns_nest_and_every_kind_has_a_name() {
        let flag: ArrayRef = Arc::new(BooleanArray::from(vec![true]));
        let time: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![1_500_000]).with_timezone("UTC"));
        let value: ArrayRef = Arc::new(Int32Array::from(vec![-7]));
        let rows = batch(vec![("f", flag), ("t", time), ("n", Arc::clone(&value)), ("v", value)]);
        let directory = "n=-7/f=true/t=1970-01-01 00%3A00%3A01.500/".to_owned();
        assert_eq!(split(&rows, &["n", "f", "t"]), [(directory, 1, 1)]);
    }

    #[test]
    fn a_wrong_partition_column_is_refused_by_name() {
        let value: ArrayRef = Arc::new(Int32Array::from(vec![1]));
        let list: ArrayRef = Arc::new(datafusion::arrow::array::NullArray::new(1));
        let rows = batch(vec![("v", value), ("l", list)]);
        let refuse = |by: &str| Partitioner::new(&rows.schema(), &[by.to_owned()]).unwrap_err().to_string();
        assert!(refuse("w").contains("gives no column \"w\"; it gives v, l"));
        assert!(refuse("l").contains("is of type Null"));
        let all = ["v".to_owned()];
        let only = rows.project(&[0]).unwrap();
        assert_eq!(Partitioner::new(&only.schema(), &all).unwrap_err(), PartitionError::NothingLeft);
    }
}
