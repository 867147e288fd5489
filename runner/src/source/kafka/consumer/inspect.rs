//! What the brokers say of a job's topics and of its group, without reading a record: for `doctor`.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::metadata::MetadataBroker;
use rdkafka::types::RDKafkaErrorCode;

use super::{KafkaSource, REQUEST_TIMEOUT};
use crate::clock::{Clock, SystemClock};
use crate::offsets::Partitions;
use crate::source::SourceError;
use crate::source::kafka::config::group_of;
use crate::source::kafka::native::{self, Ask, OffsetQuestion, RequestError};
use crate::stop::StopSignal;

/// How soon a group is asked for again.
const AGAIN: Duration = Duration::from_millis(200);

fn is_moving(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(code, Code::NotCoordinator | Code::CoordinatorNotAvailable | Code::CoordinatorLoadInProgress)
}

/// A topic as a job sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectedTopic {
    /// Number of partitions.
    pub partitions: i32,
    /// Whether the job may read it; `None`: the brokers do not tell.
    pub may_read: Option<bool>,
    /// Whether the job may write to it; `None`: the brokers do not tell.
    pub may_write: Option<bool>,
}

impl KafkaSource {
    /// The brokers that are known, and the id of their cluster.
    ///
    /// # Errors
    /// When none answers, or it refuses the connection.
    pub fn brokers(&mut self) -> Result<(Vec<String>, String), SourceError> {
        let client = self.asking()?;
        let topic = self.routes.named().next().map(str::to_owned);
        let metadata = self.metadata(&client, "ask for the brokers", topic.as_deref())?;
        let address = |broker: &MetadataBroker| format!("{}:{}", broker.host(), broker.port());
        let brokers = metadata.brokers().iter().map(address).collect();
        let cluster = client.client().fetch_cluster_id(REQUEST_TIMEOUT).unwrap_or_default();
        Ok((brokers, cluster))
    }

    /// The topics that the sources read, by name: those that are named, and those that patterns match.
    ///
    /// # Errors
    /// When a pattern matches none, or no broker answers.
    pub fn source_topics(&mut self) -> Result<Vec<String>, SourceError> {
        let client = self.asking()?;
        let mut names: Vec<_> = self.routes.named().map(str::to_owned).collect();
        if self.routes.patterns().next().is_some() {
            names.extend(self.matching_topics(&client)?);
        }
        Ok(names)
    }

    /// What the brokers say of topics, each for itself.
    ///
    /// # Errors
    /// When no broker answers.
    pub fn inspect_topics(
        &mut self,
        names: &[String],
    ) -> Result<BTreeMap<String, Result<InspectedTopic, SourceError>>, SourceError> {
        let client = self.asking()?;
        let broker = self.broker(&client)?;
        let told = native::describe_topics(Self::native(&client), broker, names, Ask::WithRights, REQUEST_TIMEOUT);
        let told = told.map_err(|error| self.no_answer("describe topics", &error))?;
        let mut inspected = BTreeMap::new();
        for (name, told) in told {
            let topic = match told {
                Ok(told) => Ok(InspectedTopic {
                    partitions: told.partitions,
                    may_read: told.rights.map(|rights| rights.read),
                    may_write: told.rights.map(|rights| rights.write),
                }),
                Err(error) => Err(self.topic_error(&client, name.clone(), &error)),
            };
            inspected.insert(name, topic);
        }
        Ok(inspected)
    }

    /// Name of the group that lag tools look at, and whether the job may tell it its offsets; `None`: the brokers do not tell.
    ///
    /// # Errors
    /// When no broker answers. A group that may not even be described is one that may not be told anything.
    pub fn inspect_group(&mut self) -> Result<(String, Option<bool>), SourceError> {
        let client = self.asking()?;
        let group = group_of(&self.spec, &self.job);
        let began = SystemClock.instant();
        loop {
            match native::rights_in_group(Self::native(&client), &group, REQUEST_TIMEOUT) {
                Ok(rights) => return Ok((group, rights.map(|rights| rights.read))),
                Err(RequestError { code: RDKafkaErrorCode::GroupAuthorizationFailed, .. }) => {
                    return Ok((group, Some(false)));
                }
                // A broker that is new, or whose group moved, finds out in a moment who looks after it.
                Err(error) if is_moving(error.code) && SystemClock.since(began) < REQUEST_TIMEOUT / 2 => {
                    StopSignal::new().wait(AGAIN);
                }
                Err(error) => return Err(self.no_answer("describe the group", &error)),
            }
        }
    }

    /// The newest time of a record in any partition of these topics, in microseconds since 1970; `None`: there is none, or
    /// the brokers are too old to know.
    ///
    /// # Errors
    /// When no broker answers.
    pub fn newest_time(&mut self, topics: &BTreeMap<String, i32>) -> Result<Option<i64>, SourceError> {
        let client = self.asking()?;
        let mut questions = Partitions::new();
        for (topic, partitions) in topics {
            for partition in 0..*partitions {
                questions.insert(topic, partition, OffsetQuestion::NewestTime);
            }
        }
        let answers = native::list_offsets(Self::native(&client), &questions, false, REQUEST_TIMEOUT);
        let answers = match answers {
            Err(error) if error.code == RDKafkaErrorCode::UnsupportedFeature => return Ok(None),
            answers => answers.map_err(|error| self.no_answer("ask for the newest record", &error))?,
        };
        let times = answers.iter().filter_map(|(.., answer)| answer.as_ref().ok().copied());
        Ok(times.filter(|time| *time >= 0).max().map(|time| time.saturating_mul(1_000)))
    }
}
