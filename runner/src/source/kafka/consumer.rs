//! [`KafkaSource`]: Kafka as the pipeline's source. Partitions are assigned by hand and read from queues of their own, so
//! a micro-batch reads exactly the ranges that were planned and nothing waits for a group to form.

mod connection;
mod inspect;
mod pausing;
mod reading;
mod resting;
mod rotation;
mod topics;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use data_platform_crds::kafka::{IsolationLevel, KafkaSpec, StartOffset, StartingOffsets};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::config::{self, Secrets};
use super::context::Context;
use super::native::{self, Messages, OffsetQuestion, PartitionQueue};
use crate::clock::{Clock, SystemClock};
use crate::offsets::{Bounds, Partitions};
use crate::source::record::Record;
use crate::source::routes::TopicRoutes;
use crate::source::schemas::Schemas;
use crate::source::{Identity, PartitionRead, Source, SourceError, Topic, Trouble, WithoutLeader};
use crate::stop::StopSignal;

pub use self::inspect::InspectedTopic;
use self::reading::{Progress, read_of_each};
pub use self::resting::REST_AFTER;
use self::resting::Rest;
use self::rotation::Rotation;

/// How long one request to the brokers may take. The client tries again inside; longer would only delay the message.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait on an empty queue before looking at the other partitions: short against any trigger, long enough to
/// cost nothing while waiting.
const QUEUE_WAIT: Duration = Duration::from_millis(5);

/// How long the first request waits before errors are looked at; twice as long each time, so that a slow broker is no
/// dead one. A refusal takes a connection and a login: 0.3 s on a busy machine.
const FIRST_PATIENCE: Duration = Duration::from_millis(500);

/// Events of the client that are served at once: more than come while a batch is read, and cheap where none waits.
const EVENTS_SERVED: usize = 64;

/// One partition: its queue, and what was taken from it too early.
struct Partition {
    queue: PartitionQueue,
    carry: Messages,
    /// The end of the partition was seen at this offset.
    end_seen: i64,
    /// It is not asked for records; see `pausing`.
    is_paused: bool,
}

/// Kafka.
pub struct KafkaSource {
    // Queues go before the client that they belong to.
    partitions: Partitions<Partition>,
    /// Fetches records.
    client: Option<Arc<BaseConsumer<Context>>>,
    /// Answers questions. A broker answers what comes over one connection in order, so a question would wait for the
    /// fetch before it, which waits for records: 100 ms for each micro-batch (measured), 5 ms over a second connection.
    asking: Option<Arc<BaseConsumer<Context>>>,
    context: Context,
    spec: KafkaSpec,
    routes: TopicRoutes,
    servers: String,
    job: String,
    secrets: Secrets,
    queue_bytes: usize,
    partitions_expected: usize,
    identity: Identity,
    /// Answers questions about topics.
    broker: Option<i32>,
    patient: bool,
    trouble: Trouble,
    schemas: Arc<Schemas>,
    /// Next offset of each partition that is assigned.
    positions: Partitions<i64>,
    /// Where partitions ended when that was asked last.
    ends: Partitions<i64>,
    rest: Rest,
    rotation: Rotation,
}

/// What a Kafka source needs to know.
#[derive(Clone, Debug)]
pub struct KafkaSourceSettings<'a> {
    /// Name of the job.
    pub job: &'a str,
    /// The job's `kafka` section.
    pub kafka: &'a KafkaSpec,
    /// The topics of the job's sources.
    pub routes: TopicRoutes,
    /// Addresses of the brokers.
    pub bootstrap_servers: &'a str,
    /// Where secrets lie.
    pub secrets: Secrets,
    /// Bytes that may be held fetched.
    pub queue_bytes: usize,
    /// Wait for brokers that are gone, for as long as it takes; a bounded run does not.
    pub patient: bool,
    /// How long nothing comes before the connection goes that fetches; `None`: it stays.
    pub rest_after: Option<Duration>,
    /// Where trouble that may pass is noted.
    pub trouble: Trouble,
    /// The schemas of those who write to it.
    pub schemas: Arc<Schemas>,
}

impl KafkaSource {
    /// A source that is not connected yet.
    pub fn new(settings: KafkaSourceSettings<'_>) -> Self {
        Self {
            partitions: Partitions::new(),
            client: None,
            asking: None,
            context: Context::new(config::tokens(settings.kafka, &settings.secrets)),
            rotation: Rotation::new(settings.kafka, &settings.secrets),
            spec: settings.kafka.clone(),
            routes: settings.routes,
            servers: settings.bootstrap_servers.to_owned(),
            job: settings.job.to_owned(),
            secrets: settings.secrets,
            queue_bytes: settings.queue_bytes,
            partitions_expected: 0,
            identity: Identity::default(),
            broker: None,
            patient: settings.patient,
            trouble: settings.trouble,
            schemas: settings.schemas,
            positions: Partitions::new(),
            ends: Partitions::new(),
            rest: Rest::new(settings.rest_after),
        }
    }

    /// The queue's limit counts per partition and is fixed when the client is made: one that was made for fewer partitions
    /// would hold too much. Their queues are gone before.
    fn make_room_for(&mut self, partitions: usize) {
        if partitions > self.partitions_expected.max(1) {
            self.partitions_expected = partitions;
            self.client = None;
        }
    }

    fn every_partition<T: Clone>(&self, value: &T) -> Partitions<T> {
        let of = |topic: &Topic| (0..topic.partitions).map(|partition| (partition, value.clone())).collect();
        self.identity.topics.iter().map(|(name, topic)| (name.clone(), of(topic))).collect()
    }

    /// Asks for offsets; a partition whose leader does not answer is left out and named.
    fn offsets(
        &mut self,
        questions: &Partitions<OffsetQuestion>,
    ) -> Result<(Partitions<i64>, Option<SourceError>), SourceError> {
        if questions.is_empty() {
            return Ok((Partitions::new(), None));
        }
        let client = self.asking()?;
        let committed = self.spec.isolation_level == IsolationLevel::ReadCommitted;
        let answers = native::list_offsets(Self::native(&client), questions, committed, REQUEST_TIMEOUT);
        let answers = answers.map_err(|error| self.no_answer("ask for offsets", &error))?;
        let mut offsets = Partitions::new();
        let mut missing = None;
        for (topic, partition, answer) in answers.iter() {
            match answer {
                Ok(offset) => drop(offsets.insert(topic, partition, *offset)),
                Err(error) => {
                    let detail = format!("{topic} partition {partition}: {}", error.message);
                    missing = Some(SourceError::Failed { operation: "ask for offsets", detail });
                }
            }
        }
        Ok((offsets, missing))
    }

    /// Asks for offsets; every partition must answer.
    fn all_offsets(&mut self, questions: &Partitions<OffsetQuestion>) -> Result<Partitions<i64>, SourceError> {
        match self.offsets(questions)? {
            (offsets, None) => Ok(offsets),
            (_, Some(missing)) => Err(missing),
        }
    }

    fn explicit(
        &self,
        given: &BTreeMap<String, BTreeMap<i32, StartOffset>>,
    ) -> Result<Partitions<StartOffset>, SourceError> {
        let mut starts = self.every_partition(&StartOffset::Earliest);
        for (topic, partitions) in given {
            if !self.identity.topics.contains_key(topic) {
                let problem = format!("the topic {topic:?} is not one of this job's sources");
                return Err(SourceError::StartingOffsets(problem));
            }
            for (partition, start) in partitions {
                let place = starts.get_mut(topic, *partition).ok_or_else(|| {
                    SourceError::StartingOffsets(format!("the topic {topic:?} has no partition {partition}"))
                })?;
                *place = *start;
            }
        }
        Ok(starts)
    }

    /// See [`Source::assign`].
    fn assign_at(&mut self, positions: &Partitions<i64>) -> Result<(), SourceError> {
        self.resume_all();
        self.partitions = Partitions::new();
        self.make_room_for(positions.len());
        let client = self.client()?;
        let failed = |error: KafkaError| SourceError::Failed { operation: "assign", detail: error.to_string() };
        let mut list = TopicPartitionList::new();
        for (topic, partition, position) in positions.iter() {
            list.add_partition_offset(topic, partition, Offset::Offset(*position)).map_err(failed)?;
        }
        // The client must know the partitions before their queues are split off: it makes them anew when it learns of them
        // between two assignments, and then fetches into a queue that nobody reads (seen with librdkafka 2.12).
        for topic in positions.topics() {
            self.metadata(&client, "ask for the partitions", Some(topic))?;
        }
        // Queues are split off before the assignment: whatever it fetches lies in them.
        for (topic, partition, _) in positions.iter() {
            let queue = PartitionQueue::split(Self::native(&client), topic, partition);
            let queue = queue.ok_or_else(|| SourceError::Failed {
                operation: "assign",
                detail: format!("{topic} partition {partition} has no queue"),
            })?;
            let known = Partition { queue, carry: Messages::default(), end_seen: -1, is_paused: false };
            self.partitions.insert(topic, partition, known);
        }
        client.assign(&list).map_err(failed)?;
        self.positions.clone_from(positions);
        self.rest.over();
        tracing::info!("fetching from Kafka");
        Ok(())
    }
}

impl Source for KafkaSource {
    fn connect(&mut self) {
        self.connect_both();
    }

    fn identity(&mut self) -> Result<Identity, SourceError> {
        let topics = self.describe()?;
        let partitions = topics.values().map(|topic| topic.partitions as usize).sum::<usize>();
        if self.partitions.is_empty() {
            self.make_room_for(partitions);
        }
        if self.identity.cluster_id.is_empty() {
            let client = self.asking()?;
            let cluster_id = client.client().fetch_cluster_id(REQUEST_TIMEOUT).ok_or_else(|| {
                let (code, message) = (RDKafkaErrorCode::OperationTimedOut, "no cluster id".to_owned());
                self.no_answer("ask for the cluster id", &native::RequestError { code, message })
            })?;
            self.identity.cluster_id = cluster_id;
        }
        self.identity.topics = topics;
        Ok(self.identity.clone())
    }

    fn resolve(&mut self, starting: &StartingOffsets) -> Result<Partitions<i64>, SourceError> {
        let starts = match starting {
            StartingOffsets::Earliest => self.every_partition(&StartOffset::Earliest),
            StartingOffsets::Latest => self.every_partition(&StartOffset::Latest),
            StartingOffsets::Time(milliseconds) => {
                let questions = self.every_partition(&OffsetQuestion::At((*milliseconds).max(0)));
                let ends = self.every_partition(&OffsetQuestion::End);
                let (found, ends) = (self.all_offsets(&questions)?, self.all_offsets(&ends)?);
                // -1: no record at or after that time.
                return Ok(found.map_at(|topic, partition, offset| match *offset {
                    0.. => *offset,
                    _ => ends.at(topic, partition).unwrap_or(0),
                }));
            }
            StartingOffsets::Explicit(given) => self.explicit(given)?,
        };
        let question = |start: &StartOffset| match start {
            StartOffset::Earliest => OffsetQuestion::Earliest,
            StartOffset::Latest | StartOffset::At(_) => OffsetQuestion::End,
        };
        let mut offsets = self.all_offsets(&starts.map(question))?;
        for (topic, partition, start) in starts.iter() {
            let StartOffset::At(offset) = *start else { continue };
            // Refused here and not when it is read: what record 0 says cannot be corrected.
            match offsets.insert(topic, partition, offset) {
                Some(end) if offset > end => {
                    let problem = format!("{topic} partition {partition} ends at offset {end}, before offset {offset}");
                    return Err(SourceError::StartingOffsets(problem));
                }
                _ => {}
            }
        }
        Ok(offsets)
    }

    fn bounds(&mut self) -> Result<Partitions<Bounds>, SourceError> {
        self.take_up_secrets()?;
        let ends = self.every_partition(&OffsetQuestion::End);
        let earliest = self.every_partition(&OffsetQuestion::Earliest);
        let ((ends, missing), (earliest, _)) = (self.offsets(&ends)?, self.offsets(&earliest)?);
        // A partition without an answer is none of this: the others are read, and the status names it.
        self.trouble.set(missing.filter(|_| ends.is_empty()));
        let both = |(topic, partition, end): (_, _, &i64)| {
            Some((topic, partition, Bounds { earliest: earliest.at(topic, partition)?, end: *end }))
        };
        let bounds = ends.iter().filter_map(both).collect();
        self.rest_if_idle(&bounds);
        self.ends = ends;
        Ok(bounds)
    }

    fn assign(&mut self, positions: &Partitions<i64>) -> Result<(), SourceError> {
        self.assign_at(positions)
    }

    fn read(
        &mut self,
        ranges: &Partitions<(i64, i64)>,
        without_leader: WithoutLeader,
        stop: &StopSignal,
        visit: &mut dyn FnMut(&Record<'_>) -> Result<(), SourceError>,
    ) -> Result<Partitions<PartitionRead>, SourceError> {
        self.wake(ranges, stop)?;
        let client = self.client()?;
        let begin =
            |range: &(i64, i64)| Progress { start: range.0, next: range.0, end: range.1, records: 0, done: false };
        let mut reads = ranges.map(begin);
        for (topic, partition, read) in reads.iter_mut() {
            // Only markers are left up to the end, and they were passed in an earlier read.
            read.done = self.is_past(topic, partition, read.end);
        }
        let mut quiet_since = SystemClock.instant();
        let mut left_before = usize::MAX;
        loop {
            let mut something = false;
            let mut waited = false;
            let left = reads.values().filter(|read| !read.done).count();
            if left == 0 {
                break;
            }
            if left < left_before {
                self.ask_only_for_backlog(&client, &reads);
                left_before = left;
            }
            for (topic, partition, read) in reads.iter_mut().filter(|(.., read)| !read.done) {
                // Only one queue may wait in each round, and only when nothing came in the one before.
                let may_wait = SystemClock.since(quiet_since) > QUEUE_WAIT && !waited;
                let wait = if may_wait { QUEUE_WAIT } else { Duration::ZERO };
                waited |= may_wait;
                something |= match self.read_partition(topic, partition, read, wait, visit) {
                    Err(SourceError::OffsetsGone { position, .. }) => {
                        return Err(self.why_out_of_range(topic, partition, position));
                    }
                    result => result?,
                };
            }
            if stop.is_stopped() {
                return Err(SourceError::Stopped);
            }
            if something {
                quiet_since = SystemClock.instant();
                self.trouble.set(None);
            } else {
                Self::serve(&client);
                if SystemClock.since(quiet_since) > REQUEST_TIMEOUT {
                    let (code, message) = (RDKafkaErrorCode::OperationTimedOut, "no records came".to_owned());
                    let error = self.no_answer("read", &native::RequestError { code, message });
                    if !self.patient || matches!(error, SourceError::Refused { .. }) {
                        return Err(error);
                    }
                    // The client goes on trying; what was read so far stays good.
                    match (self.leaderless(&reads), without_leader) {
                        (Some(lost), WithoutLeader::Leave) => lost.leave(&mut reads),
                        (Some(lost), WithoutLeader::Await) => self.trouble.set(Some(lost.into_error())),
                        (None, _) => self.trouble.set(Some(error)),
                    }
                    quiet_since = SystemClock.instant();
                }
                if !waited {
                    std::thread::yield_now();
                }
            }
        }
        Self::serve(&client);
        for (topic, partition, read) in reads.iter() {
            // Not where the last record was: only markers lie between that and the end.
            self.positions.insert(topic, partition, read.end);
        }
        Ok(read_of_each(&reads))
    }

    fn schemas(&self) -> Arc<Schemas> {
        Arc::clone(&self.schemas)
    }

    fn tell_group(&mut self, positions: &Partitions<i64>) {
        let Some(client) = self.client.as_ref().or(self.asking.as_ref()) else { return };
        let mut list = TopicPartitionList::new();
        for (topic, partition, position) in positions.iter() {
            // A list without duplicates and with valid offsets takes every element.
            let _ = list.add_partition_offset(topic, partition, Offset::Offset(*position));
        }
        if let Err(error) = client.commit(&list, CommitMode::Async) {
            tracing::debug!(%error, "could not tell Kafka's group the offsets; only lag tools need them");
        }
    }
}

#[cfg(test)]
mod tests;
