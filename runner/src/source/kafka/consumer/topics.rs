//! Which topics a Kafka source reads, and what is wrong with one that it cannot.

use std::collections::BTreeMap;

use data_platform_crds::problem::did_you_mean;
use rdkafka::consumer::BaseConsumer;
use rdkafka::metadata::MetadataBroker;
use rdkafka::types::RDKafkaErrorCode;

use super::{KafkaSource, REQUEST_TIMEOUT};
use crate::source::kafka::context::Context;
use crate::source::kafka::native;
use crate::source::{SourceError, Topic};

impl KafkaSource {
    pub(super) fn describe(&mut self) -> Result<BTreeMap<String, Topic>, SourceError> {
        let client = self.asking()?;
        let mut names: Vec<_> = self.routes.named().map(str::to_owned).collect();
        if self.routes.patterns().next().is_some() {
            names.extend(self.matching_topics(&client)?);
        }
        let broker = self.broker(&client)?;
        let described =
            native::describe_topics(Self::native(&client), broker, &names, native::Ask::Plain, REQUEST_TIMEOUT);
        let described = described.map_err(|error| {
            self.broker = None;
            self.no_answer("describe topics", &error)
        })?;
        // They answer: what went wrong before says nothing of what goes wrong next.
        self.context.forget();
        let mut topics = BTreeMap::new();
        for (name, description) in described {
            match description {
                Ok(description) => {
                    topics.insert(name, Topic { id: description.id, partitions: description.partitions });
                }
                // It was listed a moment ago: a topic of a pattern may go away.
                Err(error) if !self.is_named(&name) && is_unknown_topic(error.code) => {}
                Err(error) => return Err(self.topic_error(&client, name, &error)),
            }
        }
        Ok(topics)
    }

    /// A broker that is there.
    pub(super) fn broker(&mut self, client: &BaseConsumer<Context>) -> Result<i32, SourceError> {
        if let Some(broker) = self.broker {
            return Ok(broker);
        }
        let topic = self.routes.named().next().map(str::to_owned);
        let metadata = self.metadata(client, "ask for the brokers", topic.as_deref())?;
        // The one that answered; one of the others may be dead, and not known to be for seconds.
        let answered = Some(metadata.orig_broker_id()).filter(|broker| *broker >= 0);
        self.broker = answered.or(metadata.brokers().first().map(MetadataBroker::id));
        self.broker.ok_or_else(|| SourceError::Unreachable {
            servers: self.servers.clone(),
            detail: "no broker is up".to_owned(),
        })
    }

    fn is_named(&self, topic: &str) -> bool {
        self.routes.named().any(|name| name == topic)
    }

    /// Topics that are not named and that a pattern matches; each pattern matches one.
    pub(super) fn matching_topics(&mut self, client: &BaseConsumer<Context>) -> Result<Vec<String>, SourceError> {
        let names = self.all_topics(client)?;
        for pattern in self.routes.patterns() {
            if !names.iter().any(|name| pattern.is_match(name)) {
                let (topic, servers) = (pattern.to_string(), self.servers.clone());
                let hint = "; no topic matches the pattern".to_owned();
                return Err(SourceError::TopicMissing { topic, servers, hint });
            }
        }
        let is_matched = |name: &String| self.routes.patterns().any(|pattern| pattern.is_match(name));
        Ok(names.into_iter().filter(|name| !self.is_named(name) && is_matched(name)).collect())
    }

    fn all_topics(&mut self, client: &BaseConsumer<Context>) -> Result<Vec<String>, SourceError> {
        let metadata = self.metadata(client, "list topics", None)?;
        Ok(metadata.topics().iter().map(|topic| topic.name().to_owned()).collect())
    }

    pub(super) fn topic_error(
        &mut self,
        client: &BaseConsumer<Context>,
        topic: String,
        error: &native::RequestError,
    ) -> SourceError {
        match error.code {
            code if is_unknown_topic(code) => {
                let names = self.all_topics(client).unwrap_or_default();
                let similar = did_you_mean(&topic, names.iter().map(String::as_str));
                let hint = similar.map(|similar| format!("; did you mean {similar:?}?")).unwrap_or_default();
                SourceError::TopicMissing { topic, servers: self.servers.clone(), hint }
            }
            RDKafkaErrorCode::TopicAuthorizationFailed => {
                SourceError::NotAuthorized { topic, detail: error.message.clone() }
            }
            _ => SourceError::Failed { operation: "describe topic", detail: format!("{topic}: {}", error.message) },
        }
    }
}

fn is_unknown_topic(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic)
}
