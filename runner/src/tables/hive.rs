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

use crate::storage::Limits;
use crate::storage::paths::NULL_DIRECTORY;

pub(crate) use crate::storage::paths::parse_directory;

/// Splits rows by their partition columns.
#[derive(Debug)]
pub struct Partitioner {
    columns: Vec<usize>,
    names: Vec<String>,
    kept: Vec<usize>,
    converter: Option<RowConverter>,
    limits: Limits,
}

/// Rows of a batch by their directories.
#[derive(Debug, Default)]
pub struct Parts {
    /// The rows of each directory, without the partition columns; the directory ends with `/`, or is empty.
    pub rows: Vec<(String, RecordBatch)>,
    /// Rows that no directory can be made for.
    pub refused: Vec<RefusedRows>,
}

/// Rows whose directory would have a name that is too long.
#[derive(Clone, Debug)]
pub struct RefusedRows {
    /// With all their columns.
    pub rows: RecordBatch,
    /// Which name it is, and how long it may be. Holds no value of a row.
    pub why: String,
}

impl RefusedRows {
    /// The word for metrics and dead letters.
    pub const REASON: &str = "path_too_long";
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
    /// Readers skip such directories.
    #[error(
        "partitionBy: readers skip directories whose names begin with _ or a dot, so nobody would see the rows of {column:?}; name \
         the column differently (SELECT {column} AS {})",
        column.trim_start_matches(['_', '.'])
    )]
    Hidden {
        /// The column.
        column: String,
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
    /// A time of day.
    #[error(
        "the column {column:?} is a time of day (TIME), which many readers of Parquet files cannot open or show as 1970: write it as \
         text, CAST({column} AS VARCHAR), or as a number of seconds"
    )]
    TimeOfDay {
        /// The column.
        column: String,
    },
    /// A row without a value would be an empty line.
    #[error(
        "files would hold only the column {column:?}, and to most readers of CSV a row of one null is no row at all: give the \
         query a second column, or use format: parquet"
    )]
    OneColumn {
        /// The column.
        column: String,
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
            if name.starts_with(['_', '.']) {
                return Err(PartitionError::Hidden { column: name.clone() });
            }
            if !can_name(field.data_type()) {
                let data_type = field.data_type().to_string();
                return Err(PartitionError::Type { column: name.clone(), data_type });
            }
            columns.push(index);
        }
        if let Some(field) = schema.fields().iter().find(|field| has_time_of_day(field.data_type())) {
            return Err(PartitionError::TimeOfDay { column: field.name().clone() });
        }
        let kept: Vec<_> = (0..schema.fields().len()).filter(|index| !columns.contains(index)).collect();
        if kept.is_empty() {
            return Err(PartitionError::NothingLeft);
        }
        let fields = columns.iter().map(|index| SortField::new(schema.field(*index).data_type().clone())).collect();
        let converter = RowConverter::new(fields).ok();
        let limits = Limits { name: usize::MAX, path: usize::MAX };
        Ok(Self { columns, names: partition_by.to_vec(), kept, converter, limits })
    }

    /// With limits to the names of directories and to their paths.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Schema of the files: without the partition columns.
    pub fn file_schema(&self, schema: &SchemaRef) -> SchemaRef {
        Arc::new(schema.project(&self.kept).expect("the kept columns are columns of the schema"))
    }

    /// The rows of each directory, and those that no directory can be made for.
    ///
    /// # Errors
    /// When Arrow cannot compare the values.
    pub fn split(&mut self, batch: &RecordBatch) -> Result<Parts, ArrowError> {
        if batch.num_rows() == 0 {
            return Ok(Parts::default());
        }
        let rest = batch.project(&self.kept)?;
        let Some(converter) = self.converter.as_mut().filter(|_| !self.columns.is_empty()) else {
            return Ok(Parts { rows: vec![(String::new(), rest)], refused: Vec::new() });
        };
        let values: Vec<ArrayRef> = self.columns.iter().map(|index| Arc::clone(batch.column(*index))).collect();
        let rows = converter.convert_columns(&values)?;
        let first = rows.row(0);
        if rows.iter().all(|row| row == first) {
            return Ok(match self.directory(&values, 0) {
                Ok(directory) => Parts { rows: vec![(directory, rest)], refused: Vec::new() },
                Err(why) => Parts { rows: Vec::new(), refused: vec![RefusedRows { rows: batch.clone(), why }] },
            });
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
        let mut parts = Parts::default();
        for rows in indices {
            match self.directory(&values, rows[0] as usize) {
                Ok(directory) => parts.rows.push((directory, take_record_batch(&rest, &UInt32Array::from(rows))?)),
                Err(why) => {
                    let rows = take_record_batch(batch, &UInt32Array::from(rows))?;
                    parts.refused.push(RefusedRows { rows, why });
                }
            }
        }
        Ok(parts)
    }

    /// The directory of a row, or which name in it is too long.
    fn directory(&self, values: &[ArrayRef], row: usize) -> Result<String, String> {
        let mut directory = String::new();
        for (name, array) in self.names.iter().zip(values) {
            let value = value_text(array, row).filter(|value| !value.is_empty());
            let value = value.map_or_else(|| NULL_DIRECTORY.to_owned(), |value| escape(&value));
            let before = directory.len();
            let _ = write!(directory, "{}={value}/", escape(name));
            let (bytes, most) = (directory.len() - before - 1, self.limits.name);
            if bytes > most {
                return Err(format!(
                    "its column {name:?} would give a directory a name of {bytes} bytes, and a name has at most {most}"
                ));
            }
        }
        let (bytes, most) = (directory.len(), self.limits.path);
        if bytes > most {
            return Err(format!(
                "its columns {:?} would give directories a path of {bytes} bytes, and here a path has at most {most}",
                self.names
            ));
        }
        Ok(directory)
    }
}

fn has_time_of_day(data_type: &DataType) -> bool {
    match data_type {
        DataType::Time32(_) | DataType::Time64(_) => true,
        DataType::List(item) | DataType::LargeList(item) | DataType::Map(item, _) => has_time_of_day(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_time_of_day(field.data_type())),
        _ => false,
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
            let text = time.value_as_datetime(row).map(|time| time.format("%Y-%m-%d %H:%M:%S%.6f").to_string());
            // As Spark prints it: no zeros at the end, and no point before nothing.
            let short = |text: String| match text.split_once('.') {
                Some(_) => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
                None => text,
            };
            text.map_or_else(|| time.value(row).to_string(), short)
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
        assert!(parts.refused.is_empty());
        parts.rows.into_iter().map(|(directory, rows)| (directory, rows.num_rows(), rows.num_columns())).collect()
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
        let directory = "n=-7/f=true/t=1970-01-01 00%3A00%3A01.5/".to_owned();
        assert_eq!(split(&rows, &["n", "f", "t"]), [(directory, 1, 1)]);
    }

    #[test]
    fn a_timestamp_in_a_name_has_no_zeros_at_its_end() {
        for (micros, expected) in [
            (0, "1970-01-01 00%3A00%3A00"),
            (10_000_000, "1970-01-01 00%3A00%3A10"),
            (1_500_000, "1970-01-01 00%3A00%3A01.5"),
            (1_000_001, "1970-01-01 00%3A00%3A01.000001"),
            (1_120_000, "1970-01-01 00%3A00%3A01.12"),
            (-1, "1969-12-31 23%3A59%3A59.999999"),
        ] {
            let time: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![micros]).with_timezone("UTC"));
            let value: ArrayRef = Arc::new(Int32Array::from(vec![0]));
            let rows = batch(vec![("v", value), ("t", time)]);
            assert_eq!(split(&rows, &["t"]), [(format!("t={expected}/"), 1, 1)]);
        }
    }

    #[test]
    fn a_name_that_is_too_long_refuses_its_rows_and_no_others() {
        let texts =
            ["a".repeat(253), "b".repeat(254), "/".repeat(90), "ü".repeat(127), "c".to_owned(), "b".repeat(254)];
        let text: ArrayRef = Arc::new(StringViewArray::from_iter_values(&texts));
        let value: ArrayRef = Arc::new(Int32Array::from_iter_values(0..6));
        let rows = batch(vec![("v", value), ("k", text)]);
        let limits = Limits { name: 255, path: 4_000 };
        let mut partitioner = Partitioner::new(&rows.schema(), &["k".to_owned()]).unwrap().with_limits(limits);
        let parts = partitioner.split(&rows).unwrap();
        let kept: Vec<_> = parts.rows.iter().map(|(directory, _)| directory.len() - 1).collect();
        assert_eq!(kept, [255, 3], "as long as it may be, and short");
        let refused: Vec<_> = parts.refused.iter().map(|refused| refused.rows.num_rows()).collect();
        assert_eq!(refused, [2, 1, 1]);
        assert_eq!(parts.refused[0].rows.schema(), rows.schema(), "with all their columns");
        let why = &parts.refused[0].why;
        assert!(why.contains("\"k\"") && why.contains("256 bytes") && !why.contains("bbb"), "{why}");
        let parts = partitioner.split(&rows.slice(1, 1)).unwrap();
        assert_eq!((parts.rows.len(), parts.refused.len()), (0, 1));
        let mut short = Partitioner::new(&rows.schema(), &["k".to_owned()]).unwrap();
        short = short.with_limits(Limits { name: 255, path: 100 });
        let parts = short.split(&rows).unwrap();
        assert_eq!((parts.rows.len(), parts.refused.len()), (1, 4), "the whole path counts as well");
    }

    #[test]
    fn a_wrong_partition_column_is_refused_by_name() {
        let value: ArrayRef = Arc::new(Int32Array::from(vec![1]));
        let list: ArrayRef = Arc::new(datafusion::arrow::array::NullArray::new(1));
        let rows = batch(vec![("v", value), ("l", list)]);
        let refuse = |by: &str| Partitioner::new(&rows.schema(), &[by.to_owned()]).unwrap_err().to_string();
        assert!(refuse("w").contains("gives no column \"w\"; it gives v, l"));
        assert!(refuse("l").contains("is of type Null"));
        for hidden in ["_k", ".k"] {
            let value: ArrayRef = Arc::new(Int32Array::from(vec![1]));
            let rows = batch(vec![("v", Arc::clone(&value)), (hidden, value)]);
            let refused = Partitioner::new(&rows.schema(), &[hidden.to_owned()]).unwrap_err().to_string();
            assert!(refused.contains("readers skip") && refused.contains("AS k"), "{refused}");
        }
        let time: ArrayRef = Arc::new(datafusion::arrow::array::Time64MicrosecondArray::from(vec![1]));
        let value: ArrayRef = Arc::new(Int32Array::from(vec![1]));
        let times = batch(vec![("v", value), ("at", time)]);
        let refused = Partitioner::new(&times.schema(), &[]).unwrap_err().to_string();
        assert!(refused.contains("\"at\" is a time of day") && refused.contains("CAST(at AS VARCHAR)"), "{refused}");
        let all = ["v".to_owned()];
        let only = rows.project(&[0]).unwrap();
        assert_eq!(Partitioner::new(&only.schema(), &all).unwrap_err(), PartitionError::NothingLeft);
    }
}
