//! Sends messages to one topic and knows which of them arrived.
//!
//! A broker refuses a whole batch of messages where one is too large, or where they are only too large together. So what was
//! refused for its size is sent again, each alone; what is too large even then is cut, if it may be, or fails the attempt.

use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::OAuthToken;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Headers as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, ClientContext, Message as _};

use crate::sink::{SinkError, TopicProblem};
use crate::source::kafka::token::Tokens;

/// How long one flush may take before the broker's silence is told; the batch waits and tries again.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(30);

/// How often a flush looks whether the client has ended.
const FLUSH_STEP: Duration = Duration::from_millis(500);

/// Largest record that is handed to the broker, which has the last word: the largest `maxRecordBytes` and its headers. With
/// the client's own limit of 1 MB a bad record above it would hold the job for ever.
const RECORD_BYTES_MAX: &str = "138412032";

/// What waits for the broker. The client's own limit of 1 GiB is no limit to a pod; smaller than this, a burst of large
/// bad records would wait for each other, and one that is larger alone is never taken.
const QUEUE_KBYTES_MAX: &str = "65536";

/// Header with the number of bytes that the value had before it was cut.
const TRUNCATED: &str = "dataplatform.truncated";

/// A message for a topic.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Option<Vec<u8>>,
    /// Its headers.
    pub headers: OwnedHeaders,
}

/// What sends to one topic.
pub trait Producer {
    /// Checks that the topic is there and can be asked about.
    fn probe(&self) -> Result<(), SinkError>;

    /// Takes a message, without waiting for its acknowledgement.
    fn send(&self, message: Message) -> Result<(), SinkError>;

    /// Waits until everything that was taken is acknowledged. An error: the micro-batch must not be decided, and this
    /// producer is not to be used any more.
    fn wait(&self) -> Result<(), SinkError>;
}

/// What happens to a message that the topic finds too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooLarge {
    /// It is cut until it fits: its origin is what matters.
    Cut,
    /// It holds the batch: nobody wants a part of a row.
    Hold,
}

/// Makes what sends to a topic. Settings are read anew for each, since passwords change.
pub type MakeProducer = dyn Fn(&str, TooLarge) -> Result<Rc<dyn Producer>, SinkError>;

/// A producer of Kafka's protocol that waits for the acknowledgement of every replica, and never changes the order of a
/// partition or doubles a message by its own retries.
pub struct KafkaProducer {
    topic: String,
    too_large: TooLarge,
    deliveries: Deliveries,
    producer: ThreadedProducer<Deliveries>,
}

impl KafkaProducer {
    /// `settings` are those of the job's clients, and `tokens` what they log in with, where that is no password.
    ///
    /// # Errors
    /// When the client does not accept the settings.
    pub fn new(
        topic: &str,
        too_large: TooLarge,
        mut settings: ClientConfig,
        tokens: Option<Tokens>,
    ) -> Result<Self, SinkError> {
        settings.set("enable.idempotence", "true").set("acks", "all").set("linger.ms", "5");
        settings.set("queue.buffering.max.kbytes", QUEUE_KBYTES_MAX);
        if settings.get("message.max.bytes").is_none() {
            settings.set("message.max.bytes", RECORD_BYTES_MAX);
        }
        let deliveries = Deliveries { tokens: tokens.map(Arc::new), ..Deliveries::default() };
        let producer = settings.create_with_context(deliveries.clone());
        let producer = producer.map_err(|error| failed(topic, TopicProblem::Settings, error))?;
        Ok(Self { topic: topic.to_owned(), too_large, deliveries, producer })
    }

    fn error(&self, error: &KafkaError) -> SinkError {
        // What ended the client counts: a user without any right to write is refused before the first message.
        match self.producer.client().fatal_error() {
            Some((code, word)) => failed(&self.topic, of_code(code), word),
            None => failed(&self.topic, problem(error), error),
        }
    }

    fn flush(&self) -> Result<(), SinkError> {
        // In steps: a client that has ended answers nothing more.
        for step in 1.. {
            match self.producer.flush(FLUSH_STEP) {
                Ok(()) => return Ok(()),
                Err(KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut))
                    if FLUSH_STEP * step < FLUSH_TIMEOUT && self.producer.client().fatal_error().is_none() => {}
                Err(error) => return Err(self.error(&error)),
            }
        }
        Ok(())
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
                    let message = Message {
                        key: back.key.map(<[u8]>::to_vec),
                        value: back.payload.map(<[u8]>::to_vec),
                        headers: back.headers.unwrap_or_else(OwnedHeaders::new),
                    };
                    self.deliveries.lock().too_large.push(message);
                    return Ok(());
                }
                Err((error, _)) => return Err(self.error(&error)),
            }
        }
    }

    /// Sends again what was refused as too large. Tells whether there was something.
    fn send_refused(&self) -> Result<bool, SinkError> {
        if self.deliveries.lock().too_large.is_empty() {
            return Ok(false);
        }
        // What is on its way may be refused as well, and must not be taken for an answer to what comes now.
        self.flush()?;
        let refused = std::mem::take(&mut self.deliveries.lock().too_large);
        refused.into_iter().try_for_each(|message| self.send_alone(message))?;
        Ok(true)
    }

    /// Sends a message in a batch of its own: only alone it may fit.
    fn send_alone(&self, mut message: Message) -> Result<(), SinkError> {
        loop {
            self.enqueue(message.record(&self.topic))?;
            self.flush()?;
            let Some(refused) = self.deliveries.lock().too_large.pop() else { return Ok(()) };
            let bytes = refused.value.as_ref().map_or(0, Vec::len);
            message = match self.too_large {
                TooLarge::Cut => refused.cut().ok_or_else(|| {
                    let word = "it takes not even a message without its value";
                    failed(&self.topic, TopicProblem::TooLarge, word)
                })?,
                TooLarge::Hold => {
                    let word = format!("a row of {bytes} bytes is larger than it takes");
                    return Err(failed(&self.topic, TopicProblem::TooLarge, word));
                }
            };
        }
    }
}

impl Producer for KafkaProducer {
    fn probe(&self) -> Result<(), SinkError> {
        let metadata = self.producer.client().fetch_metadata(Some(&self.topic), FLUSH_TIMEOUT);
        let metadata = metadata.map_err(|error| self.error(&error))?;
        let error = metadata.topics().iter().find(|topic| topic.name() == self.topic).and_then(|topic| topic.error());
        match error {
            Some(error) => {
                let code = RDKafkaErrorCode::from(error);
                Err(failed(&self.topic, of_code(code), code))
            }
            None => Ok(()),
        }
    }

    fn send(&self, message: Message) -> Result<(), SinkError> {
        // Those that were refused meanwhile first: they wait in memory.
        self.send_refused()?;
        self.enqueue(message.record(&self.topic))
    }

    fn wait(&self) -> Result<(), SinkError> {
        loop {
            self.flush()?;
            let failure = self.deliveries.lock().failed.take();
            if let Some(error) = failure {
                // The batch is read again, and its messages come again.
                self.deliveries.lock().too_large.clear();
                return Err(self.error(&error));
            }
            if !self.send_refused()? {
                return Ok(());
            }
        }
    }
}

fn failed(topic: &str, problem: TopicProblem, word: impl std::fmt::Display) -> SinkError {
    SinkError::Topic { topic: topic.to_owned(), problem, word: word.to_string() }
}

/// What an error says of the topic.
fn problem(error: &KafkaError) -> TopicProblem {
    error.rdkafka_error_code().map_or(TopicProblem::Silent, of_code)
}

fn of_code(code: RDKafkaErrorCode) -> TopicProblem {
    use RDKafkaErrorCode as Code;
    match code {
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition | Code::InvalidTopic => {
            TopicProblem::Missing
        }
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => TopicProblem::Forbidden,
        Code::Authentication | Code::SaslAuthenticationFailed => TopicProblem::Unauthenticated,
        Code::MessageSizeTooLarge => TopicProblem::TooLarge,
        _ => TopicProblem::Silent,
    }
}

fn is_too_large(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge)
}

#[derive(Clone, Default)]
struct Deliveries {
    state: Arc<Mutex<Delivered>>,
    tokens: Option<Arc<Tokens>>,
}

/// What became of messages, but for those that arrived.
#[derive(Default)]
struct Delivered {
    failed: Option<KafkaError>,
    too_large: Vec<Message>,
}

impl Deliveries {
    fn lock(&self) -> std::sync::MutexGuard<'_, Delivered> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Deliveries {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        let tokens = self.tokens.as_ref().ok_or("no tokens were asked for")?;
        let fetched = tokens.fetch().inspect_err(|error| tracing::warn!("{error}"));
        Ok(fetched?)
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, "{reason}");
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => {}
            Err((error, message)) if is_too_large(error) => self.lock().too_large.push(Message {
                key: message.key().map(<[u8]>::to_vec),
                value: message.payload().map(<[u8]>::to_vec),
                headers: message.headers().map_or_else(OwnedHeaders::new, |headers| headers.detach()),
            }),
            Err((error, _)) => self.lock().failed = Some(error.clone()),
        }
    }
}

impl Message {
    /// The message with a quarter less of its value; without one, without the headers that the record had, then without its
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

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(letter: &Message) -> Vec<(String, Vec<u8>)> {
        let each = |header: Header<'_, &[u8]>| (header.key.to_owned(), header.value.unwrap_or_default().to_vec());
        letter.headers.iter().map(each).collect()
    }

    #[test]
    fn a_letter_is_cut_until_nothing_but_its_origin_is_left() {
        let own = Header { key: "dataplatform.offset", value: Some("7") };
        let theirs = Header { key: "trace", value: Some("x") };
        let mut letter = Message {
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
