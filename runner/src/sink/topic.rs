//! Dead letters to a topic: the original bytes, with where they came from and what was wrong in the headers.
//!
//! At least once: after a crash a dead letter may come twice, with the same topic, partition and offset in its headers.

use std::time::Duration;

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};

use crate::sink::SinkError;
use rdkafka::producer::{DeliveryResult, ProducerContext};
use rdkafka::{ClientContext, Message as _};
use std::sync::{Arc, Mutex, PoisonError};

/// How long one flush may take before the broker's silence is told; the batch waits and tries again.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(30);

/// Largest record that is handed to the broker, which has the last word: the largest `maxRecordBytes` and its headers. With
/// the client's own limit of 1 MB a bad record above it would hold the job for ever.
const RECORD_BYTES_MAX: &str = "138412032";

/// What waits for the broker. The client's own limit of 1 GiB is no limit to a pod; smaller than this, a burst of large
/// bad records would wait for each other, and one that is larger alone is never taken.
const QUEUE_KBYTES_MAX: &str = "65536";

#[derive(Clone, Default)]
struct Deliveries {
    failed: Arc<Mutex<Option<String>>>,
}

impl ClientContext for Deliveries {
    fn error(&self, error: rdkafka::error::KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, "{reason}");
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            let problem = format!("{error} (topic {})", message.topic());
            *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(problem);
        }
    }
}

/// A topic for dead letters.
pub struct DeadLetterTopic {
    topic: String,
    deliveries: Deliveries,
    producer: ThreadedProducer<Deliveries>,
}

impl DeadLetterTopic {
    /// A producer that waits for every acknowledgement; `settings` are those of the job's clients.
    ///
    /// # Errors
    /// When the client does not accept the settings.
    pub fn new(topic: &str, mut settings: ClientConfig) -> Result<Self, SinkError> {
        settings.set("enable.idempotence", "true").set("acks", "all").set("linger.ms", "5");
        settings.set("queue.buffering.max.kbytes", QUEUE_KBYTES_MAX);
        if settings.get("message.max.bytes").is_none() {
            settings.set("message.max.bytes", RECORD_BYTES_MAX);
        }
        let deliveries = Deliveries::default();
        let producer = settings
            .create_with_context(deliveries.clone())
            .map_err(|error| SinkError::Topic { topic: topic.to_owned(), problem: error.to_string() })?;
        Ok(Self { topic: topic.to_owned(), deliveries, producer })
    }

    fn error(&self, problem: impl std::fmt::Display) -> SinkError {
        SinkError::Topic { topic: self.topic.clone(), problem: problem.to_string() }
    }

    /// Sends the rows of a batch of dead letters (see `source::dead_letter`), without waiting for their acknowledgement.
    ///
    /// # Errors
    /// When the client does not take them.
    pub fn send(&self, letters: &RecordBatch) -> Result<(), SinkError> {
        let text = |name: &str| letters[name].as_string::<i32>();
        let binary = |name: &str, row: usize| {
            let array = letters[name].as_binary::<i32>();
            if array.is_null(row) { None } else { Some(array.value(row)) }
        };
        for row in 0..letters.num_rows() {
            let partition = letters["partition"].as_primitive::<Int32Type>().value(row).to_string();
            let offset = letters["offset"].as_primitive::<Int64Type>().value(row).to_string();
            let times = letters["timestamp"].as_primitive::<TimestampMicrosecondType>();
            let timestamp = times.is_valid(row).then(|| (times.value(row) / 1_000).to_string());
            let mut headers = OwnedHeaders::new();
            let own = [
                ("dataplatform.topic", Some(text("topic").value(row))),
                ("dataplatform.partition", Some(&partition)),
                ("dataplatform.offset", Some(&offset)),
                // Not the letter's own time: retention would remove old ones at once.
                ("dataplatform.timestamp", timestamp.as_deref()),
                ("dataplatform.reason", Some(text("reason").value(row))),
                ("dataplatform.detail", Some(text("detail").value(row))),
            ];
            for (key, value) in own {
                headers = headers.insert(Header { key, value });
            }
            let original = letters["headers"].as_list::<i32>().value(row);
            let original = original.as_struct();
            let (keys, values) = (original.column(0).as_string::<i32>(), original.column(1).as_binary::<i32>());
            for index in 0..original.len() {
                let value = if values.is_null(index) { None } else { Some(values.value(index)) };
                headers = headers.insert(Header { key: keys.value(index), value });
            }
            let mut record = BaseRecord::<[u8], [u8]>::to(&self.topic).headers(headers);
            record.key = binary("key", row);
            record.payload = binary("value", row);
            self.enqueue(record)?;
        }
        Ok(())
    }

    fn enqueue(&self, mut record: BaseRecord<'_, [u8], [u8]>) -> Result<(), SinkError> {
        use rdkafka::types::RDKafkaErrorCode::QueueFull;
        let mut waited = false;
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                // A queue that is empty and still too small stays so.
                Err((error, back)) if error.rdkafka_error_code() == Some(QueueFull) && !waited => {
                    self.producer.flush(FLUSH_TIMEOUT).map_err(|error| self.error(error))?;
                    record = back;
                    waited = true;
                }
                Err((error, _)) => return Err(self.error(error)),
            }
        }
    }

    /// Waits until everything is acknowledged.
    ///
    /// # Errors
    /// When the broker refuses one or does not answer in time: the micro-batch must not be decided.
    pub fn wait(&self) -> Result<(), SinkError> {
        self.producer.flush(FLUSH_TIMEOUT).map_err(|error| self.error(error))?;
        match self.deliveries.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(problem) => Err(self.error(problem)),
            None => Ok(()),
        }
    }
}
