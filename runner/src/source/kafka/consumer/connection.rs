//! The clients of a Kafka source: connecting, asking with patience, and what is wrong when nobody answers.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::metadata::Metadata;
use rdkafka::types::{RDKafka, RDKafkaErrorCode};

use super::{EVENTS_SERVED, FIRST_PATIENCE, KafkaSource, REQUEST_TIMEOUT};
use crate::clock::{Clock, SystemClock};
use crate::offsets::Partitions;
use crate::source::SourceError;
use crate::source::kafka::config::{ClientPurpose, consumer_settings};
use crate::source::kafka::context::Context;
use crate::source::kafka::native;

impl KafkaSource {
    /// The client that fetches.
    pub(super) fn client(&mut self) -> Result<Arc<BaseConsumer<Context>>, SourceError> {
        if let Some(client) = &self.client {
            return Ok(Arc::clone(client));
        }
        let client = self.connect()?;
        self.client = Some(Arc::clone(&client));
        Ok(client)
    }

    /// The client that asks.
    pub(super) fn asking(&mut self) -> Result<Arc<BaseConsumer<Context>>, SourceError> {
        if let Some(asking) = &self.asking {
            return Ok(Arc::clone(asking));
        }
        let asking = self.connect()?;
        self.asking = Some(Arc::clone(&asking));
        Ok(asking)
    }

    /// See [`Source::connect`](crate::source::Source::connect). The client that fetches is made for the number of partitions.
    pub(super) fn connect_both(&mut self) {
        let named: Vec<_> = self.routes.named().map(str::to_owned).collect();
        let Ok(asking) = self.asking() else { return };
        let mut partitions = 0;
        for topic in &named {
            let Ok(metadata) = asking.fetch_metadata(Some(topic), FIRST_PATIENCE) else { return };
            partitions += metadata.topics().iter().map(|topic| topic.partitions().len()).sum::<usize>();
        }
        self.make_room_for(partitions);
        if let (Ok(client), Some(topic)) = (self.client(), named.first()) {
            let _ = client.fetch_metadata(Some(topic), FIRST_PATIENCE);
        }
    }

    pub(super) fn connect(&self) -> Result<Arc<BaseConsumer<Context>>, SourceError> {
        let purpose = ClientPurpose {
            job: &self.job,
            bootstrap_servers: &self.servers,
            queue_bytes: self.queue_bytes,
            partitions: self.partitions_expected,
        };
        let settings = consumer_settings(&self.spec, &purpose, &self.secrets);
        let settings = settings.map_err(|error| SourceError::Secret(error.to_string()))?;
        let client = settings.create_with_context(self.context.clone());
        let client: BaseConsumer<Context> =
            client.map_err(|error: KafkaError| SourceError::Settings(error.to_string()))?;
        if self.spec.sasl.as_ref().is_some_and(|sasl| sasl.oauth.is_some()) {
            // The client asks for its token at once, and connects when it has one.
            Self::serve(&client);
        }
        Ok(Arc::new(client))
    }

    /// Forgets the connections, so that the next call makes new ones: after an error, and when a secret changed.
    pub(super) fn disconnect(&mut self) {
        self.partitions = Partitions::new();
        self.broker = None;
        self.client = None;
        self.asking = None;
        self.context = self.context.anew();
    }

    pub(super) fn native(client: &BaseConsumer<Context>) -> *mut RDKafka {
        client.client().native_ptr()
    }

    /// Serves callbacks, so that errors of the client reach the context. One poll serves one event, and does not say
    /// whether it did.
    pub(super) fn serve(client: &BaseConsumer<Context>) {
        for _ in 0..EVENTS_SERVED {
            let _ = client.poll(Duration::ZERO);
        }
    }

    /// Asks about one topic or all, and notices a refusal at once: the client itself would go on trying until the end.
    pub(super) fn metadata(
        &mut self,
        client: &BaseConsumer<Context>,
        operation: &'static str,
        topic: Option<&str>,
    ) -> Result<Metadata, SourceError> {
        let began = SystemClock.instant();
        let mut patience = FIRST_PATIENCE;
        loop {
            let left = REQUEST_TIMEOUT.saturating_sub(SystemClock.since(began));
            let error = match client.fetch_metadata(topic, patience.min(left)) {
                Ok(metadata) => return Ok(metadata),
                Err(error) => error,
            };
            Self::serve(client);
            patience *= 2;
            let errors = self.context.errors();
            if errors.refused.is_some() || errors.no_token || left <= patience {
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
                let error = native::RequestError { code, message: error.to_string() };
                return Err(self.no_answer(operation, &error));
            }
        }
    }

    /// What is wrong, when a request got no answer: the client knows more than the request.
    pub(super) fn no_answer(&mut self, operation: &'static str, error: &native::RequestError) -> SourceError {
        self.client.iter().chain(&self.asking).for_each(|client| Self::serve(client));
        let errors = self.context.errors();
        let servers = self.servers.clone();
        match (errors.refused, errors.unreachable, error.code) {
            (Some(detail), ..) => {
                // A rotated secret is read again at the next attempt.
                self.disconnect();
                SourceError::Refused { servers, detail }
            }
            (None, Some(detail), _) => SourceError::Unreachable { servers, detail },
            (None, None, RDKafkaErrorCode::OperationTimedOut | RDKafkaErrorCode::BrokerTransportFailure) => {
                SourceError::Unreachable { servers, detail: error.message.clone() }
            }
            _ => SourceError::Failed { operation, detail: error.message.clone() },
        }
    }
}
