//! Dead letters to a topic: the original bytes, with where they came from and what was wrong in the headers.
//!
//! At least once: after a crash a dead letter may come twice, with the same topic, partition and offset in its headers.
//! A letter has more bytes than its record, so a topic may refuse one that another topic has taken: it is cut until it
//! fits, and a header says how many bytes it had. A record must not stop the job, whatever its size.

use std::time::Duration;

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Headers as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;

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

/// Header with the number of bytes that the value had before it was cut.
const TRUNCATED: &str = "dataplatform.truncated";

#[derive(Clone, Default)]
struct Deliveries {
    state: Arc<Mutex<Delivered>>,
}

/// What became of letters, but for those that arrived.
#[derive(Default)]
struct Delivered {
    failed: Option<String>,
    too_large: Vec<Letter>,
}

/// A letter that was too large, with what it is made of.
struct Letter {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: OwnedHeaders,
}

impl Letter {
    /// The letter with a quarter less of its value; without one, without the headers that the record had, then without its
    /// key. `None`: nothing is left to cut.
    fn cut(mut self) -> Option<Self> {
        let own = |key: &str| key.starts_with("dataplatform.");
        if let Some(value) = self.value.as_mut().filter(|value| !value.is_empty()) {
            if !self.headers.iter().any(|header| header.key == TRUNCATED) {
                let bytes = value.len().to_string();
                self.headers = self.headers.insert(Header { key: TRUNCATED, value: Some(&bytes) });
            }
            value.truncate(value.len() - value.len().div_ceil(4));
            return Some(self);
        }
        if self.headers.iter().any(|header| !own(header.key)) {
            let kept = self.headers.iter().filter(|header| own(header.key));
            self.headers = kept.fold(OwnedHeaders::new(), |headers, header| headers.insert(header));
            return Some(self);
        }
        self.key.take().map(|_| self)
    }

    fn record<'a>(&'a self, topic: &'a str) -> BaseRecord<'a, [u8], [u8]> {
        let mut record = BaseRecord::to(topic).headers(self.headers.clone());
        (record.key, record.payload) = (self.key.as_deref(), self.value.as_deref());
        record
    }
}

impl Deliveries {
    fn lock(&self) -> std::sync::MutexGuard<'_, Delivered> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_too_large(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge)
}

impl ClientContext for Deliveries {
    fn error(&self, error: rdkafka::error::KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, "{reason}");
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => {}
            Err((error, message)) if is_too_large(error) => self.lock().too_large.push(Letter {
                key: message.key().map(<[u8]>::to_vec),
                value: message.payload().map(<[u8]>::to_vec),
                headers: message.headers().map_or_else(OwnedHeaders::new, |headers| headers.detach()),
            }),
            Err((error, message)) => {
                self.lock().failed = Some(format!("{error} (topic {})", message.topic()));
            }
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
        // Those that were refused meanwhile first: they wait in memory.
        self.send_refused()?;
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

    /// Sends again what was refused as too large. Tells whether there was something.
    fn send_refused(&self) -> Result<bool, SinkError> {
        if self.deliveries.lock().too_large.is_empty() {
            return Ok(false);
        }
        // What is on its way may be refused as well, and must not be taken for an answer to what comes now.
        self.flush()?;
        let refused = std::mem::take(&mut self.deliveries.lock().too_large);
        refused.into_iter().try_for_each(|letter| self.send_alone(letter))?;
        Ok(true)
    }

    /// Sends a letter in a batch of its own: a broker refuses a whole batch, and only alone it may fit. Cut until it does.
    fn send_alone(&self, mut letter: Letter) -> Result<(), SinkError> {
        loop {
            self.enqueue(letter.record(&self.topic))?;
            self.flush()?;
            let Some(refused) = self.deliveries.lock().too_large.pop() else { return Ok(()) };
            letter = refused.cut().ok_or_else(|| self.error("it takes not even a letter without its value"))?;
        }
    }

    fn flush(&self) -> Result<(), SinkError> {
        self.producer.flush(FLUSH_TIMEOUT).map_err(|error| self.error(error))
    }

    fn enqueue(&self, mut record: BaseRecord<'_, [u8], [u8]>) -> Result<(), SinkError> {
        use RDKafkaErrorCode::QueueFull;
        let mut waited = false;
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                // A queue that is empty and still too small stays so.
                Err((error, back)) if error.rdkafka_error_code() == Some(QueueFull) && !waited => {
                    self.flush()?;
                    record = back;
                    waited = true;
                }
                // The client's own limit, where the user has set one.
                Err((error, back)) if is_too_large(&error) => {
                    let letter = Letter {
                        key: back.key.map(<[u8]>::to_vec),
                        value: back.payload.map(<[u8]>::to_vec),
                        headers: back.headers.unwrap_or_else(OwnedHeaders::new),
                    };
                    self.deliveries.lock().too_large.push(letter);
                    return Ok(());
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
        loop {
            self.flush()?;
            let failed = self.deliveries.lock().failed.take();
            if let Some(problem) = failed {
                // The batch is read again, and its letters come again.
                self.deliveries.lock().too_large.clear();
                return Err(self.error(problem));
            }
            if !self.send_refused()? {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(letter: &Letter) -> Vec<(String, Vec<u8>)> {
        let each = |header: Header<'_, &[u8]>| (header.key.to_owned(), header.value.unwrap_or_default().to_vec());
        letter.headers.iter().map(each).collect()
    }

    #[test]
    fn a_letter_is_cut_until_nothing_but_its_origin_is_left() {
        let own = Header { key: "dataplatform.offset", value: Some("7") };
        let theirs = Header { key: "trace", value: Some("x") };
        let mut letter = Letter {
            key: Some(b"k".to_vec()),
            value: Some(b"0123456789".to_vec()),
            headers: OwnedHeaders::new().insert(own).insert(theirs),
        };
        let mut values = Vec::new();
        loop {
            letter = letter.cut().unwrap();
            let value = letter.value.clone().unwrap();
            assert!(b"0123456789".starts_with(&value));
            values.push(value.len());
            let told = (TRUNCATED.to_owned(), b"10".to_vec());
            assert_eq!(headers(&letter).iter().filter(|header| **header == told).count(), 1);
            if value.is_empty() {
                break;
            }
        }
        assert_eq!(values, [7, 5, 3, 2, 1, 0]);
        assert!(headers(&letter).iter().any(|(key, _)| key == "trace"));
        letter = letter.cut().unwrap();
        let keys: Vec<_> = headers(&letter).into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["dataplatform.offset", TRUNCATED]);
        letter = letter.cut().unwrap();
        assert_eq!(letter.key, None);
        assert!(letter.cut().is_none());
    }
}
