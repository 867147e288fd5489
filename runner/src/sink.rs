//! Sinks: what becomes of the rows of a query, and of dead letters.
//!
//! A sink decides nothing and publishes nothing. For each micro-batch it begins a stage; the stage takes rows and says in the
//! end what it wrote. That is invisible until the job log has decided (see `checkpoint::output`), or it is out already and may
//! come twice after a crash. docs/extending.md says how to add one.
//!
//! ```text
//! begin ── write, write, … ── finish -> what was written ── (the log decides, and publishes)
//!                        └─── abandon
//! ```

pub mod footer;
pub mod json;
pub mod stdout;
pub mod table;
pub mod topic;

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;

use crate::checkpoint::log::Attempt;
use crate::checkpoint::output::SharedOutput;
use crate::checkpoint::output::delta::DeltaTable;
use crate::checkpoint::output::files::Files;
use crate::checkpoint::record::OutputCommit;
use crate::faults::Faults;
use crate::offsets::Partitions;
use crate::sink::stdout::StdoutSink;
use crate::sink::table::{FileFormat, Footer, TableSettings, TableSink};
use crate::sink::topic::letters::DeadLetterTopic;
use crate::sink::topic::producer::{MakeProducer, TooLarge};
use crate::sink::topic::rows::{TopicSettings, TopicSink};
use crate::storage::{StoreError, paths};
use crate::tables::hive::RefusedRows;

/// Where the rows of one output go, in one run of a job.
#[async_trait(?Send)]
pub trait Sink {
    /// Name of the output.
    fn name(&self) -> &str;

    /// Checks that it can be written.
    async fn probe(&self) -> Result<(), SinkError>;

    /// Tells readers what the columns are, where there is a place for that.
    async fn describe(&self) -> Result<(), SinkError> {
        Ok(())
    }

    /// Begins what one attempt at a commit writes.
    fn begin(&self, batch: Batch) -> Result<Box<dyn Stage>, SinkError>;
}

/// The attempt that a stage writes for.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The attempt.
    pub attempt: Attempt,
    /// What files say of themselves.
    pub footer: Footer,
}

/// What one attempt at a commit writes to one output.
#[async_trait(?Send)]
pub trait Stage {
    /// Adds rows. After an error the attempt is to be given up.
    async fn write(&mut self, rows: &RecordBatch) -> Result<(), SinkError>;

    /// Takes the rows that were written since and that this output does not take.
    fn take_refused(&mut self) -> Vec<RefusedRows> {
        Vec::new()
    }

    /// The offsets that this attempt covers, other ones than it began with. `false` if that is too late: then this attempt
    /// is to be given up.
    #[must_use]
    fn set_offsets(&mut self, _offsets: Partitions<(i64, i64)>) -> bool {
        true
    }

    /// The watermark after this attempt.
    fn set_watermark(&mut self, _watermark: Option<i64>) {}

    /// Ends it and says what was written: files are staged and synced, messages are acknowledged.
    async fn finish(&mut self) -> Result<OutputCommit, SinkError>;

    /// Removes what was certainly not decided. What stays is removed by a later owner.
    async fn abandon(self: Box<Self>);
}

/// Where the rows of an output are to go: everything decided, nothing opened. Each kind of sink is one of these.
#[derive(Clone, Debug)]
pub enum SinkPlan {
    /// A table of files, or a Delta table.
    Table(Arc<TableSettings>),
    /// A topic that takes rows.
    Topic(Arc<TopicSettings>),
    /// A topic for dead letters.
    DeadLetterTopic {
        /// Name of the output.
        output: String,
        /// The topic.
        topic: String,
    },
    /// The screen.
    Stdout {
        /// Name of the output.
        output: String,
    },
}

/// What an output promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// Every row is there once, for any reader.
    ExactlyOnce,
    /// Every row is there once, for readers that know the format; a commit is seen whole or not at all.
    ExactlyOnceAtomic,
    /// No row is missing; after a crash some come twice.
    AtLeastOnce,
    /// Rows are shown, and kept nowhere.
    Nothing,
}

impl Promise {
    /// For people.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::ExactlyOnce => "exactly once, for any reader of the files",
            Self::ExactlyOnceAtomic => {
                "exactly once, for readers of Delta tables, who see a commit whole or not at all"
            }
            Self::AtLeastOnce => {
                "at least once: no row is missing; after a crash some come twice, with the same topic, partition and offset in \
                 their headers where a row is of one record"
            }
            Self::Nothing => "none: rows are shown and kept nowhere, and after a crash some are shown again",
        }
    }
}

impl SinkPlan {
    /// Checks that the rows of its query can be written: the field that is wrong, and why.
    ///
    /// # Errors
    /// The field of the sink, and what is wrong with it.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        match self {
            Self::Table(settings) => settings.check(),
            Self::Topic(settings) => settings.check().map_err(|error| (error.field(), error.to_string())),
            Self::DeadLetterTopic { .. } | Self::Stdout { .. } => Ok(()),
        }
    }

    /// What it promises.
    pub fn promise(&self) -> Promise {
        match self {
            Self::Table(settings) if matches!(settings.format, FileFormat::Delta(_)) => Promise::ExactlyOnceAtomic,
            Self::Table(_) => Promise::ExactlyOnce,
            Self::Topic(_) | Self::DeadLetterTopic { .. } => Promise::AtLeastOnce,
            Self::Stdout { .. } => Promise::Nothing,
        }
    }

    /// The root of an output that needs no folder; `None` for one that lies in a folder.
    pub fn root(&self) -> Option<String> {
        match self {
            Self::Table(_) => None,
            Self::Topic(settings) => Some(topic::root_of(&settings.topic)),
            Self::DeadLetterTopic { topic, .. } => Some(topic::root_of(topic)),
            Self::Stdout { .. } => Some(stdout::ROOT.to_owned()),
        }
    }

    /// The root of an output that lies in a folder, by the URL of that.
    pub fn root_at(&self, url: String) -> String {
        match self {
            Self::Table(settings) if matches!(settings.format, FileFormat::Delta(_)) => {
                format!("{}{url}", paths::DELTA_ROOT)
            }
            _ => url,
        }
    }

    /// Begins to use it. `output` is what lies at its root.
    ///
    /// # Errors
    /// When its client does not accept its settings.
    pub fn open(
        &self,
        output: SharedOutput,
        producers: &MakeProducer,
        faults: &Arc<dyn Faults>,
    ) -> Result<Box<dyn Sink>, SinkError> {
        let faults = Arc::clone(faults);
        Ok(match self {
            Self::Table(settings) => Box::new(TableSink::new(Arc::clone(settings), output, faults)?),
            Self::Topic(settings) => {
                let producer = producers(&settings.topic, TooLarge::Hold)?;
                Box::new(TopicSink::new(Arc::clone(settings), producer, faults))
            }
            Self::DeadLetterTopic { output, topic } => {
                Box::new(DeadLetterTopic::new(output, topic, producers(topic, TooLarge::Cut)?, faults))
            }
            Self::Stdout { output } => Box::new(StdoutSink::new(output)),
        })
    }
}

/// Opens an output by the root that stands in a job log: the one place that knows which kind a root means.
///
/// # Errors
/// When the program cannot open such a place.
pub fn open_output(root: &str, faults: &Arc<dyn Faults>) -> Result<SharedOutput, StoreError> {
    if let Some(output) = topic::of_root(root).or_else(|| stdout::of_root(root)) {
        return Ok(output);
    }
    DeltaTable::open(root, faults).unwrap_or_else(|| Files::open(root, faults))
}

/// Why rows could not be written.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The store did not do what was asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The rows cannot be encoded.
    #[error("cannot encode rows for {output}: {problem}")]
    Encode {
        /// Name of the output.
        output: String,
        /// Why.
        problem: String,
    },
    /// Whoever read the standard output has ended.
    #[error("nobody reads the standard output any more")]
    ScreenClosed,
    /// A password or certificate cannot be read.
    #[error("{0}")]
    Secret(String),
    /// A topic does not acknowledge.
    #[error("the topic {topic} does not take what the job writes: {word}")]
    Topic {
        /// The topic.
        topic: String,
        /// What that means.
        problem: TopicProblem,
        /// The broker's or the client's word.
        word: String,
    },
}

/// Why a topic does not acknowledge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicProblem {
    /// There is no such topic.
    Missing,
    /// The job may not write to it.
    Forbidden,
    /// The brokers do not know the user.
    Unauthenticated,
    /// A message is larger than the topic takes.
    TooLarge,
    /// The client does not accept its settings.
    Settings,
    /// The brokers do not answer, or refuse for a reason that may pass.
    Silent,
}
