//! Sources: where records come from, and how their bytes become Arrow columns.
//!
//! [`Source`] is what the pipeline asks of Kafka; [`memory`] answers from memory. A source decides nothing: it says what is
//! there and reads the ranges that it is told.

pub mod again;
pub mod ahead;
pub mod dead_letter;
pub mod decode;
pub mod kafka;
pub mod memory;
pub mod places;
pub mod reader;
pub mod record;
pub mod reference;
pub mod registry;
pub mod routes;
pub mod schemas;
mod web;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use data_platform_crds::kafka::StartingOffsets;

use crate::offsets::{Bounds, Partitions};
use crate::source::record::Record;
use crate::source::schemas::Schemas;
use crate::stop::StopSignal;

/// Who answers, and which topics there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Kafka's cluster id.
    pub cluster_id: String,
    /// The job's topics, by name.
    pub topics: BTreeMap<String, Topic>,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its id; another one after it was deleted and created again.
    pub id: String,
    /// Number of its partitions.
    pub partitions: i32,
}

/// Trouble that may pass, for `/health`: the source goes on trying. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Trouble(Arc<Mutex<Option<SourceError>>>);

impl Trouble {
    /// Notes trouble, or that there is none any more.
    pub fn set(&self, error: Option<SourceError>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }

    /// The trouble, if there is any.
    pub fn get(&self) -> Option<SourceError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What was read of one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionRead {
    /// First offset.
    pub start: i64,
    /// One past the last offset.
    pub end: i64,
    /// Records in it.
    pub records: u64,
}

/// What a read does with a partition that has no leader: nobody knows when there is one again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WithoutLeader {
    /// Wait for one, in trouble: the ranges are wanted as they are.
    #[default]
    Await,
    /// End its range where it was read to, so that the others do not wait for it.
    Leave,
}

/// What the pipeline asks of a source.
pub trait Source: Send {
    /// Begins to connect, so that the first question finds a connection. What is wrong the first question tells.
    fn connect(&mut self) {}

    /// Connects if necessary, and tells who answers and which topics there are.
    ///
    /// # Errors
    /// See [`SourceError`].
    fn identity(&mut self) -> Result<Identity, SourceError>;

    /// Resolves where every partition begins.
    ///
    /// # Errors
    /// See [`SourceError`]; also when `starting` names other partitions than there are.
    fn resolve(&mut self, starting: &StartingOffsets) -> Result<Partitions<i64>, SourceError>;

    /// First and last offsets of every partition now.
    ///
    /// # Errors
    /// See [`SourceError`].
    fn bounds(&mut self) -> Result<Partitions<Bounds>, SourceError>;

    /// Begins to fetch every partition from its position.
    ///
    /// # Errors
    /// See [`SourceError`].
    fn assign(&mut self, positions: &Partitions<i64>) -> Result<(), SourceError>;

    /// Reads the ranges `[start, end)`, each partition in its order, and shows every record. Ranges continue where the
    /// last ones of the partition ended. A record whose offset is missing (compaction, transaction markers) is no error.
    /// Tells what was read: all of it, but for partitions that were left without a leader.
    ///
    /// # Errors
    /// [`SourceError::Stopped`] when `stop` says so; then what was read is void. See [`SourceError`].
    fn read(
        &mut self,
        ranges: &Partitions<(i64, i64)>,
        without_leader: WithoutLeader,
        stop: &StopSignal,
        visit: &mut dyn FnMut(&Record<'_>) -> Result<(), SourceError>,
    ) -> Result<Partitions<PartitionRead>, SourceError>;

    /// Tells Kafka's group the next offsets, for lag tools. Nothing depends on it.
    fn tell_group(&mut self, positions: &Partitions<i64>);

    /// The schemas of those who write to it; none where nothing says otherwise.
    fn schemas(&self) -> Arc<Schemas> {
        Arc::new(Schemas::none())
    }
}

/// Why a source cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// No broker answers.
    #[error("no Kafka broker answers at {servers}: {detail}")]
    Unreachable {
        /// The addresses.
        servers: String,
        /// The client's last word.
        detail: String,
    },
    /// The broker refuses name and password, or its certificate is not trusted.
    #[error("Kafka at {servers} refuses the connection: {detail}")]
    Refused {
        /// The addresses.
        servers: String,
        /// The client's last word.
        detail: String,
    },
    /// A topic does not exist.
    #[error("the topic {topic:?} does not exist at {servers}{hint}")]
    TopicMissing {
        /// The topic, or the pattern that none matches.
        topic: String,
        /// The addresses.
        servers: String,
        /// A topic with a similar name, as a sentence.
        hint: String,
    },
    /// The job may not read a topic.
    #[error("Kafka does not allow this job to read the topic {topic:?}: {detail}")]
    NotAuthorized {
        /// The topic.
        topic: String,
        /// The broker's word.
        detail: String,
    },
    /// Records that were not read yet are gone.
    #[error("{topic} partition {partition}: offsets [{position}, {earliest}) are gone from Kafka")]
    OffsetsGone {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Next offset to read.
        position: i64,
        /// First offset that is left.
        earliest: i64,
    },
    /// The position lies behind the end: the topic was truncated.
    #[error("{topic} partition {partition} ends at offset {end}, before offset {position} that this job has reached")]
    BehindEnd {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Next offset to read.
        position: i64,
        /// End of the partition.
        end: i64,
    },
    /// `startingOffsets` does not fit the topics.
    #[error("startingOffsets: {0}")]
    StartingOffsets(String),
    /// A secret is missing.
    #[error("{0}")]
    Secret(String),
    /// The client does not accept its settings.
    #[error("the Kafka client does not accept its settings: {0}")]
    Settings(String),
    /// A bad record, and the job is to fail on it.
    #[error("{topic} partition {partition} offset {offset}: {problem}")]
    BadRecord {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset.
        offset: i64,
        /// What is wrong with it.
        problem: String,
    },
    /// A compressed batch of records does not fit into the client's limit, or is damaged.
    #[error(
        "{topic} partition {partition}: the records from offset {offset} on cannot be decompressed: one is larger than \
         receive.message.max.bytes, or the batch is damaged ({detail})"
    )]
    RecordTooLarge {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Next offset to read.
        offset: i64,
        /// The client's word.
        detail: String,
    },
    /// The schema registry does not answer, or not with a schema.
    #[error("the schema registry at {url} does not answer as it should: {detail}")]
    RegistryUnreachable {
        /// Its address.
        url: String,
        /// What happened.
        detail: String,
    },
    /// The schema registry refuses the login, or its certificate is not trusted.
    #[error("the schema registry at {url} refuses us: {detail}")]
    RegistryRefused {
        /// Its address.
        url: String,
        /// What happened.
        detail: String,
    },
    /// The file with the schema of the values cannot be used.
    #[error("the schema in {path} cannot be used: {problem}")]
    SchemaFile {
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Told to stop.
    #[error("stopped")]
    Stopped,
    /// Anything else that may pass.
    #[error("{operation}: {detail}")]
    Failed {
        /// What was tried.
        operation: &'static str,
        /// The client's word.
        detail: String,
    },
}
