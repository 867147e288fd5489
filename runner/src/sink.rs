//! Sinks: rows become staged files that the commit names, or acknowledged messages before it.
//!
//! A sink decides nothing and publishes nothing. What it staged is invisible until the job log has decided
//! (see `checkpoint`); what a topic acknowledged may come twice after a crash, and says so in its headers.

pub mod footer;
pub mod hive;
pub mod table;
pub mod table_schema;
pub mod topic;

use crate::checkpoint::store::StoreError;

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
    /// A topic does not acknowledge.
    #[error("the topic {topic:?} does not take dead letters: {problem}")]
    Topic {
        /// The topic.
        topic: String,
        /// The broker's word.
        problem: String,
    },
}
