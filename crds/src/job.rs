//! [`Job`]: a custom resource of any kind of ours.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::batch_job::BatchJob;
use crate::streaming_job::StreamingJob;

/// The kinds of jobs.
pub const KINDS: [&str; 2] = ["StreamingJob", "BatchJob"];

/// A custom resource of any kind of ours. Written as the resource itself; its `kind` tells which one it is.
#[derive(Clone, Debug, PartialEq)]
pub enum Job {
    /// A query that runs for ever.
    Streaming(Box<StreamingJob>),
    /// A query for one interval at a time.
    Batch(Box<BatchJob>),
}

impl Job {
    /// Its `kind`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Streaming(_) => "StreamingJob",
            Self::Batch(_) => "BatchJob",
        }
    }

    /// Its `metadata.name`. Empty only for an object that was never checked.
    pub fn name(&self) -> &str {
        let metadata = match self {
            Self::Streaming(job) => &job.metadata,
            Self::Batch(job) => &job.metadata,
        };
        metadata.name.as_deref().unwrap_or_default()
    }

    /// Reads a resource by its `kind`.
    ///
    /// # Errors
    ///
    /// A kind that is not ours, or a value that is not of that kind.
    pub fn from_value(value: Value) -> Result<Self, serde_json::Error> {
        match value.get("kind").and_then(Value::as_str) {
            Some("StreamingJob") => Ok(Self::Streaming(Box::new(serde_json::from_value(value)?))),
            Some("BatchJob") => Ok(Self::Batch(Box::new(serde_json::from_value(value)?))),
            Some(kind) => Err(serde_json::Error::custom(format!("{kind:?} is not one of {}", KINDS.join(", ")))),
            None => Err(serde_json::Error::missing_field("kind")),
        }
    }
}

impl Serialize for Job {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Streaming(job) => job.serialize(serializer),
            Self::Batch(job) => job.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Job {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_value(Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
