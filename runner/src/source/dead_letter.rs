//! Dead letters as rows: the record as it came, and why it could not be read.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BinaryBuilder, Int32Builder, Int64Builder, ListBuilder, RecordBatch, StringBuilder, StructBuilder,
    TimestampMicrosecondBuilder,
};
use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use datafusion::arrow::error::ArrowError;

use arrow_json::LineDelimitedWriter;

use crate::source::decode::BadRecord;
use crate::source::record::Record;

/// Why a record is kept whose windows were closed.
pub const LATE: &str = "late";

/// Rows of one batch of dead letters.
const ROWS_MAX: usize = 1_024;
/// Bytes of values in one batch: a burst of large bad records must not fill the memory.
const BYTES_MAX: usize = 1 << 20;

/// The reason of records and groups that an expression of the query refuses.
pub const QUERY: &str = "query";

/// Collects dead letters into batches.
pub struct DeadLetters {
    topic: StringBuilder,
    partition: Int32Builder,
    offset: Int64Builder,
    timestamp: TimestampMicrosecondBuilder,
    key: BinaryBuilder,
    value: BinaryBuilder,
    headers: ListBuilder<StructBuilder>,
    reason: StringBuilder,
    detail: StringBuilder,
    rows: usize,
    bytes: usize,
}

fn header_fields() -> Fields {
    Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Binary, true)])
}

fn header_item() -> Field {
    Field::new_list_field(DataType::Struct(header_fields()), false)
}

/// Columns of the dead letter table.
pub fn schema() -> SchemaRef {
    let field = |name: &str, data_type: DataType, nullable: bool| Field::new(name, data_type, nullable);
    Arc::new(Schema::new(vec![
        field("topic", DataType::Utf8, false),
        field("partition", DataType::Int32, false),
        field("offset", DataType::Int64, false),
        field("timestamp", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        field("key", DataType::Binary, true),
        field("value", DataType::Binary, true),
        field("headers", DataType::List(Arc::new(header_item())), false),
        field("reason", DataType::Utf8, false),
        field("detail", DataType::Utf8, false),
    ]))
}

impl DeadLetters {
    /// No dead letters yet.
    pub fn new() -> Self {
        let headers = StructBuilder::from_fields(header_fields(), 0);
        Self {
            topic: StringBuilder::new(),
            partition: Int32Builder::new(),
            offset: Int64Builder::new(),
            timestamp: TimestampMicrosecondBuilder::new().with_timezone("UTC"),
            key: BinaryBuilder::new(),
            value: BinaryBuilder::new(),
            headers: ListBuilder::new(headers).with_field(header_item()),
            reason: StringBuilder::new(),
            detail: StringBuilder::new(),
            rows: 0,
            bytes: 0,
        }
    }

    /// Adds a record that cannot be read.
    pub fn push(&mut self, record: &Record<'_>, bad: &BadRecord) {
        self.push_refused(record, bad.reason.as_str(), &bad.to_string());
    }

    /// Adds a record that is refused by something else than the decoder.
    pub fn push_refused(&mut self, record: &Record<'_>, reason: &str, detail: &str) {
        self.topic.append_value(record.topic);
        self.partition.append_value(record.partition);
        self.offset.append_value(record.offset);
        self.timestamp.append_option(record.time_ms().and_then(|milliseconds| milliseconds.checked_mul(1_000)));
        self.key.append_option(record.key);
        self.value.append_option(record.value);
        let (headers, bytes) = (self.headers.values(), &mut self.bytes);
        record.headers.visit(&mut |name, value| {
            headers.field_builder::<StringBuilder>(0).expect("the first field is text").append_value(name);
            headers.field_builder::<BinaryBuilder>(1).expect("the second field is binary").append_option(value);
            headers.append(true);
            *bytes += name.len() + value.map_or(0, <[u8]>::len);
        });
        self.headers.append(true);
        self.reason.append_value(reason);
        self.detail.append_value(detail);
        self.rows += 1;
        self.bytes += record.value.map_or(0, <[u8]>::len) + record.key.map_or(0, <[u8]>::len);
    }

    /// Adds a row of the query that an output does not take, as JSON. It is of no one record: it has no topic, and partition
    /// and offset are -1.
    pub fn push_row(&mut self, json: &[u8], reason: &str, detail: &str) {
        self.topic.append_value("");
        self.partition.append_value(-1);
        self.offset.append_value(-1);
        self.timestamp.append_null();
        self.key.append_null();
        self.value.append_value(json);
        self.headers.append(true);
        self.reason.append_value(reason);
        self.detail.append_value(detail);
        self.rows += 1;
        self.bytes += json.len();
    }

    /// Whether the batch should be taken.
    pub fn is_full(&self) -> bool {
        self.rows >= ROWS_MAX || self.bytes >= BYTES_MAX
    }

    /// Takes the batch; `None` if there is nothing in it.
    pub fn take(&mut self) -> Option<RecordBatch> {
        if self.rows == 0 {
            return None;
        }
        (self.rows, self.bytes) = (0, 0);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.topic.finish()),
            Arc::new(self.partition.finish()),
            Arc::new(self.offset.finish()),
            Arc::new(self.timestamp.finish()),
            Arc::new(self.key.finish()),
            Arc::new(self.value.finish()),
            Arc::new(self.headers.finish()),
            Arc::new(self.reason.finish()),
            Arc::new(self.detail.finish()),
        ];
        Some(RecordBatch::try_new(schema(), columns).expect("each push appends to every column"))
    }
}

/// Dead letters of rows that an output does not take.
///
/// # Errors
/// When a row cannot be written as JSON.
pub fn of_rows(rows: &RecordBatch, reason: &str, detail: &str) -> Result<Vec<RecordBatch>, ArrowError> {
    let (mut letters, mut batches) = (DeadLetters::new(), Vec::new());
    let mut first = 0;
    while first < rows.num_rows() {
        let part = rows.slice(first, ROWS_MAX.min(rows.num_rows() - first));
        first += part.num_rows();
        let mut lines = Vec::new();
        LineDelimitedWriter::new(&mut lines).write(&part)?;
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            letters.push_row(line, reason, detail);
            if letters.is_full() {
                batches.extend(letters.take());
            }
        }
    }
    batches.extend(letters.take());
    Ok(batches)
}

impl Default for DeadLetters {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::decode::{DecodePlan, Decoder};
    use crate::source::record::NoHeaders;
    use datafusion::arrow::array::{AsArray, Int64Array, StringArray};
    use datafusion::arrow::datatypes::{Int64Type, TimestampMicrosecondType};

    fn bad(record: &Record<'_>) -> BadRecord {
        let source = serde_json::json!({"name": "s", "topics": ["t"], "columns": [{"name": "a", "type": "int"}]});
        let plan = DecodePlan::new(&serde_json::from_value(source).unwrap(), &[0]).unwrap();
        Decoder::new(plan).decode(record, 0).unwrap_err()
    }

    #[test]
    fn a_dead_letter_keeps_the_record_as_it_came() {
        let headers = vec![("h".to_owned(), Some(vec![0xff])), ("h".to_owned(), None)];
        let value: &[u8] = b"{\"a\":";
        let mut record = Record {
            topic: "t",
            partition: 3,
            offset: 17,
            timestamp_ms: Some(5),
            key: None,
            value: Some(value),
            headers: &headers,
        };
        let mut letters = DeadLetters::new();
        assert!(letters.take().is_none());
        letters.push(&record, &bad(&record));
        (record.headers, record.offset, record.timestamp_ms) = (&NoHeaders, 18, None);
        letters.push(&record, &bad(&record));
        let batch = letters.take().unwrap();
        assert_eq!(batch.num_rows(), 2);
        assert_eq!(batch["value"].as_binary::<i32>().value(0), value);
        assert!(batch["key"].is_null(0));
        assert_eq!(batch["offset"].as_primitive::<Int64Type>().value(1), 18);
        assert_eq!(batch["timestamp"].as_primitive::<TimestampMicrosecondType>().value(0), 5_000);
        assert_eq!(batch["headers"].as_list::<i32>().value(0).len(), 2);
        assert_eq!(batch["headers"].as_list::<i32>().value(1).len(), 0);
        assert_eq!(batch["reason"].as_string::<i32>().value(0), "truncated");
        assert!(letters.take().is_none());
    }

    #[test]
    fn a_row_that_an_output_does_not_take_is_kept_as_json() {
        let text: ArrayRef = Arc::new(StringArray::from(vec![Some("a\nb"), None, Some("ü")]));
        let number: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        let rows = RecordBatch::try_from_iter_with_nullable([("k", text, true), ("v", number, false)]).unwrap();
        let letters = of_rows(&rows, "path_too_long", "why").unwrap();
        let [batch] = &letters[..] else { panic!("one batch") };
        let value = |row: usize| std::str::from_utf8(batch["value"].as_binary::<i32>().value(row)).unwrap().to_owned();
        assert_eq!([value(0), value(1), value(2)], ["{\"k\":\"a\\nb\",\"v\":1}", "{\"v\":2}", "{\"k\":\"ü\",\"v\":3}"]);
        assert_eq!(batch["offset"].as_primitive::<Int64Type>().value(0), -1);
        assert_eq!(batch["reason"].as_string::<i32>().value(2), "path_too_long");
        assert!(of_rows(&rows.slice(0, 0), "r", "d").unwrap().is_empty());
        let many: ArrayRef = Arc::new(Int64Array::from_iter_values(0..3_000));
        let many = RecordBatch::try_from_iter([("v", many)]).unwrap();
        let batches = of_rows(&many, "r", "d").unwrap();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 3_000);
    }

    #[test]
    fn large_records_fill_a_batch_sooner() {
        let value = vec![b'x'; BYTES_MAX];
        let record = Record {
            topic: "t",
            partition: 0,
            offset: 0,
            timestamp_ms: None,
            key: None,
            value: Some(&value),
            headers: &NoHeaders,
        };
        let mut letters = DeadLetters::new();
        letters.push(&record, &bad(&record));
        assert!(letters.is_full());
    }
}
