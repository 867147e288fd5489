//! Rows to a topic: one JSON object for each, keyed by a column, with where its record came from in the headers.
//!
//! At least once: what was sent and not decided is sent again. Rows of one record carry its topic, partition and offset, so
//! that readers can tell.

use std::rc::Rc;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int32Type, Int64Type, SchemaRef};
use datafusion::arrow::error::ArrowError;
use rdkafka::message::{Header, OwnedHeaders};

use crate::checkpoint::record::{OutputCommit, Sent};
use crate::faults::{Faults, Step, step};
use crate::sink::topic::producer::{Message, Producer};
use crate::sink::topic::root_of;
use crate::sink::{Batch, Sink, SinkError, Stage, json};
use crate::source::record::IDENTITY_COLUMNS;

/// What stays the same for all commits to a topic.
#[derive(Clone, Debug)]
pub struct TopicSettings {
    /// Name of the output.
    pub output: String,
    /// The topic.
    pub topic: String,
    /// Column whose text becomes the key.
    pub key_column: Option<String>,
    /// Schema of the rows.
    pub schema: SchemaRef,
}

/// Why rows cannot be written to a topic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// There is no such column.
    #[error("keyColumn: the query gives no column {column:?}; it gives {columns}")]
    NoKey {
        /// The column.
        column: String,
        /// What there is.
        columns: String,
    },
    /// It has no text.
    #[error("keyColumn: the column {column:?} is of type {data_type}, which has no text: CAST it to VARCHAR")]
    KeyType {
        /// The column.
        column: String,
        /// Its type.
        data_type: String,
    },
    /// A column cannot be written as JSON.
    #[error("a topic takes rows as JSON: {0}")]
    Json(String),
}

impl TopicError {
    /// The field of the sink that is to be corrected.
    pub fn field(&self) -> &'static str {
        match self {
            Self::NoKey { .. } | Self::KeyType { .. } => "keyColumn",
            Self::Json(_) => "format",
        }
    }
}

impl TopicSettings {
    /// Checks that rows of this schema can be written.
    ///
    /// # Errors
    /// Says which column cannot.
    pub fn check(&self) -> Result<(), TopicError> {
        if let Some(column) = &self.key_column {
            let given = self.schema.fields().iter().filter(|field| !IDENTITY_COLUMNS.contains(&field.name().as_str()));
            let Some(field) = given.clone().find(|field| field.name() == column) else {
                let columns = given.map(|field| field.name().as_str()).collect::<Vec<_>>();
                return Err(TopicError::NoKey { column: column.clone(), columns: columns.join(", ") });
            };
            let data_type = field.data_type();
            if data_type.is_nested() || is_binary(data_type) {
                return Err(TopicError::KeyType { column: column.clone(), data_type: data_type.to_string() });
            }
        }
        json::check(&self.schema).map_err(|error| TopicError::Json(error.to_string()))
    }
}

fn is_binary(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_))
}

/// A topic that takes the rows of a query.
pub struct TopicSink {
    settings: Arc<TopicSettings>,
    producer: Rc<dyn Producer>,
    faults: Arc<dyn Faults>,
}

impl TopicSink {
    /// The topic of these settings.
    pub fn new(settings: Arc<TopicSettings>, producer: Rc<dyn Producer>, faults: Arc<dyn Faults>) -> Self {
        Self { settings, producer, faults }
    }
}

#[async_trait(?Send)]
impl Sink for TopicSink {
    fn name(&self) -> &str {
        &self.settings.output
    }

    async fn probe(&self) -> Result<(), SinkError> {
        self.producer.probe()
    }

    fn begin(&self, _: Batch) -> Result<Box<dyn Stage>, SinkError> {
        let settings = Arc::clone(&self.settings);
        let (producer, faults) = (Rc::clone(&self.producer), Arc::clone(&self.faults));
        Ok(Box::new(Rows { settings, producer, faults, sent: Sent::default() }))
    }
}

/// The rows of one attempt.
struct Rows {
    settings: Arc<TopicSettings>,
    producer: Rc<dyn Producer>,
    faults: Arc<dyn Faults>,
    sent: Sent,
}

#[async_trait(?Send)]
impl Stage for Rows {
    async fn write(&mut self, rows: &RecordBatch) -> Result<(), SinkError> {
        let messages = messages(rows, self.settings.key_column.as_deref());
        let failed =
            |error: ArrowError| SinkError::Encode { output: self.settings.output.clone(), problem: error.to_string() };
        for message in messages.map_err(failed)? {
            self.sent.rows += 1;
            self.sent.bytes += message.value.as_ref().map_or(0, |value| value.len() as u64);
            self.producer.send(message)?;
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<OutputCommit, SinkError> {
        if self.sent.rows > 0 {
            step(&*self.faults, Step::Send, async { self.producer.wait() }).await?;
        }
        Ok(OutputCommit { root: root_of(&self.settings.topic), sent: Some(self.sent), ..OutputCommit::default() })
    }

    /// What was sent stays there, and comes again.
    async fn abandon(self: Box<Self>) {}
}

/// A message for each row.
fn messages(rows: &RecordBatch, key_column: Option<&str>) -> Result<Vec<Message>, ArrowError> {
    let (rows, origins) = split_origins(rows)?;
    let keys = key_column.and_then(|column| rows.column_by_name(column)).map(|keys| cast(keys, &DataType::Utf8));
    let keys: Option<ArrayRef> = keys.transpose()?;
    let lines = json::lines(&rows)?;
    let values = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let message = |(row, value): (usize, &[u8])| {
        let key = keys.as_ref().map(|keys| keys.as_string::<i32>());
        let key = key.filter(|keys| keys.is_valid(row)).map(|keys| keys.value(row).as_bytes().to_vec());
        let headers = origins.as_ref().map_or_else(OwnedHeaders::new, |origins| headers(origins, row));
        Message { key, value: Some(value.to_vec()), headers }
    };
    Ok(values.enumerate().map(message).collect())
}

/// The rows of the query, and where their records came from, if that stands behind them.
fn split_origins(rows: &RecordBatch) -> Result<(RecordBatch, Option<RecordBatch>), ArrowError> {
    let schema = rows.schema();
    let fields = schema.fields();
    let Some(first) = fields.len().checked_sub(IDENTITY_COLUMNS.len()) else { return Ok((rows.clone(), None)) };
    if !fields[first..].iter().zip(IDENTITY_COLUMNS).all(|(field, name)| field.name() == name) {
        return Ok((rows.clone(), None));
    }
    let columns: Vec<usize> = (0..fields.len()).collect();
    Ok((rows.project(&columns[..first])?, Some(rows.project(&columns[first..])?)))
}

fn headers(origins: &RecordBatch, row: usize) -> OwnedHeaders {
    let topics = origins.column(0).as_string_view();
    let partition = origins.column(1).as_primitive::<Int32Type>().value(row).to_string();
    let offset = origins.column(2).as_primitive::<Int64Type>().value(row).to_string();
    let own = [
        ("dataplatform.topic", topics.value(row)),
        ("dataplatform.partition", &partition),
        ("dataplatform.offset", &offset),
    ];
    own.into_iter()
        .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(value) }))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Int32Array, Int64Array, StringArray, StringViewArray};
    use datafusion::arrow::datatypes::{Field, Schema};
    use rdkafka::message::Headers as _;

    use super::*;

    fn rows() -> RecordBatch {
        let columns: [(&str, ArrayRef); 5] = [
            ("user", Arc::new(StringArray::from(vec![Some("ü"), None]))),
            ("n", Arc::new(Int64Array::from(vec![1, -2]))),
            ("__topic", Arc::new(StringViewArray::from(vec!["clicks", "clicks"]))),
            ("__partition", Arc::new(Int32Array::from(vec![0, 7]))),
            ("__offset", Arc::new(Int64Array::from(vec![10, 11]))),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
    }

    fn texts(message: &Message) -> (Option<String>, String, Vec<String>) {
        let text = |bytes: &Vec<u8>| String::from_utf8(bytes.clone()).unwrap();
        let header = |header: Header<'_, &[u8]>| {
            format!("{}={}", header.key, std::str::from_utf8(header.value.unwrap()).unwrap())
        };
        let value = text(message.value.as_ref().unwrap());
        (message.key.as_ref().map(text), value, message.headers.iter().map(header).collect())
    }

    #[test]
    fn a_row_has_its_key_its_columns_and_its_origin() {
        let messages = messages(&rows(), Some("user")).unwrap();
        let [first, second] = &messages[..] else { panic!("two rows") };
        let origin = |partition: i32, offset: i64| {
            vec![
                "dataplatform.topic=clicks".to_owned(),
                format!("dataplatform.partition={partition}"),
                format!("dataplatform.offset={offset}"),
            ]
        };
        assert_eq!(texts(first), (Some("ü".to_owned()), r#"{"user":"ü","n":1}"#.to_owned(), origin(0, 10)));
        assert_eq!(texts(second), (None, r#"{"user":null,"n":-2}"#.to_owned(), origin(7, 11)));
    }

    #[test]
    fn a_number_is_a_key_by_its_text_and_without_a_key_column_there_is_none() {
        let by_number = messages(&rows(), Some("n")).unwrap();
        assert_eq!(by_number[1].key.as_deref(), Some(&b"-2"[..]));
        let plain = messages(&rows().project(&[0, 1]).unwrap(), None).unwrap();
        assert!(plain.iter().all(|message| message.key.is_none() && message.headers.count() == 0));
    }

    #[test]
    fn a_key_that_is_not_there_or_has_no_text_is_refused() {
        let list = DataType::new_list(DataType::Int64, true);
        let fields = vec![Field::new("user", DataType::Utf8, true), Field::new("tags", list, true)];
        let check = |key: &str| {
            let settings = TopicSettings {
                output: "o".to_owned(),
                topic: "t".to_owned(),
                key_column: Some(key.to_owned()),
                schema: Arc::new(Schema::new(fields.clone())),
            };
            settings.check().err().map(|error| error.to_string())
        };
        assert_eq!(check("user"), None);
        assert!(check("id").unwrap().contains("gives no column \"id\"; it gives user, tags"));
        assert!(check("tags").unwrap().contains("CAST it to VARCHAR"));
    }
}
