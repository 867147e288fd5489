//! [`Job`]: a custom resource of any kind of ours.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::streaming_job::StreamingJob;

/// The kinds of jobs.
pub const KINDS: [&str; 1] = ["StreamingJob"];

/// A custom resource of any kind of ours. Written as the resource itself; its `kind` tells which one it is.
#[derive(Clone, Debug, PartialEq)]
pub enum Job {
    /// A query that runs for ever.
    Streaming(Box<StreamingJob>),
}

impl Job {
    /// Its `kind`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Streaming(_) => "StreamingJob",
        }
    }

    /// Its `metadata.name`. Empty only for an object that was never checked.
    pub fn name(&self) -> &str {
        let metadata = match self {
            Self::Streaming(job) => &job.metadata,
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
            Some(kind) => Err(serde_json::Error::custom(format!("{kind:?} is not one of {}", KINDS.join(", ")))),
            None => Err(serde_json::Error::missing_field("kind")),
        }
    }
}

impl Serialize for Job {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Streaming(job) => job.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Job {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_value(Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
