//! Producing test records: partition, time, headers and null values as the test says, transactions, any compression.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use rdkafka::client::ClientContext;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;

use crate::Broker;
use crate::broker::REQUEST_TIMEOUT;

/// How long [`Producer::flush`] waits: longer than a killed broker takes to come back.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(120);

/// A record to produce.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    partition: Option<i32>,
    timestamp_ms: Option<i64>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    /// A record with this value. Without more: any partition, no key, no headers, the time of producing.
    pub fn new(value: impl Into<Vec<u8>>) -> Self {
        Self { value: Some(value.into()), ..Self::default() }
    }

    /// A record whose value is null.
    #[must_use]
    pub fn tombstone() -> Self {
        Self::default()
    }

    /// To this partition.
    #[must_use]
    pub fn partition(self, partition: i32) -> Self {
        Self { partition: Some(partition), ..self }
    }

    /// With this record time (milliseconds since 1970).
    #[must_use]
    pub fn timestamp_ms(self, timestamp_ms: i64) -> Self {
        Self { timestamp_ms: Some(timestamp_ms), ..self }
    }

    /// With this key.
    #[must_use]
    pub fn key(self, key: impl Into<Vec<u8>>) -> Self {
        Self { key: Some(key.into()), ..self }
    }

    /// With one more header; `None` is Kafka's null.
    #[must_use]
    pub fn header(mut self, name: &str, value: Option<&[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.map(<[u8]>::to_vec)));
        self
    }
}

/// A producer that waits where the library would refuse, and forgets no failed record.
pub struct Producer {
    inner: BaseProducer<Deliveries>,
}

impl Producer {
    /// A producer that waits for every replica and keeps the order. `settings` are librdkafka's and win: `compression.type`,
    /// `transactional.id`, `linger.ms`. It is not idempotent, which takes half a second before the first record: flush
    /// before the broker is killed, or ask for it.
    ///
    /// # Errors
    /// When a setting is wrong or, with `transactional.id`, no transaction can begin.
    pub fn new(broker: &Broker, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let mut config = broker.client(&[
            ("acks", "all"),
            ("linger.ms", "5"),
            // As the test broker allows, so that tests may go beyond the limit of a job.
            ("message.max.bytes", "33554432"),
        ]);
        for (key, value) in settings {
            config.set(*key, *value);
        }
        if config.get("transactional.id").is_none() && config.get("enable.idempotence").is_none() {
            config.set("max.in.flight.requests.per.connection", "1");
        }
        let inner: BaseProducer<Deliveries> =
            config.create_with_context(Deliveries::default()).context("make a producer")?;
        if config.get("transactional.id").is_some() {
            inner.init_transactions(REQUEST_TIMEOUT).context("prepare transactions")?;
        }
        Ok(Self { inner })
    }

    /// Hands a record over; waits while the queue is full.
    ///
    /// # Errors
    /// When the library refuses it (too large, no transaction begun).
    pub fn send(&self, topic: &str, record: &Record) -> anyhow::Result<()> {
        let mut next: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic);
        next.partition = record.partition;
        next.timestamp = record.timestamp_ms;
        next.key = record.key.as_deref();
        next.payload = record.value.as_deref();
        if !record.headers.is_empty() {
            next.headers = Some(record.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
                headers.insert(Header { key, value: value.as_deref() })
            }));
        }
        loop {
            match self.inner.send(next) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused)) => {
                    next = refused;
                    self.inner.poll(Duration::from_millis(50));
                }
                Err((error, _)) => return Err(error).with_context(|| format!("produce to {topic}")),
            }
        }
        // Collects acknowledgements as they come.
        self.inner.poll(Duration::ZERO);
        Ok(())
    }

    /// Waits until every record is acknowledged.
    ///
    /// # Errors
    /// The first record that was not; also one of an earlier call.
    pub fn flush(&self) -> anyhow::Result<()> {
        self.inner.flush(FLUSH_TIMEOUT).context("wait for acknowledgements")?;
        let failure = self.inner.context().first_failure.lock().unwrap_or_else(PoisonError::into_inner);
        match &*failure {
            Some(failure) => bail!("a record was not acknowledged: {failure}"),
            None => Ok(()),
        }
    }

    /// Begins a transaction; what is sent from here on belongs to it.
    ///
    /// # Errors
    /// Without `transactional.id`, or when one is open.
    pub fn begin(&self) -> anyhow::Result<()> {
        self.inner.begin_transaction().context("begin a transaction")
    }

    /// Commits the transaction.
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn commit(&self) -> anyhow::Result<()> {
        self.inner.commit_transaction(REQUEST_TIMEOUT).context("commit a transaction")
    }

    /// Aborts the transaction. Its records are first written, so that they take up offsets that nobody may read.
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn abort(&self) -> anyhow::Result<()> {
        self.inner.flush(FLUSH_TIMEOUT).context("write the records to abort")?;
        self.inner.abort_transaction(REQUEST_TIMEOUT).context("abort a transaction")
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").finish_non_exhaustive()
    }
}

/// What became of the records.
#[derive(Default)]
struct Deliveries {
    first_failure: Mutex<Option<String>>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            let mut first = self.first_failure.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert_with(|| format!("{}/{}: {error}", message.topic(), message.partition()));
        }
    }
}
