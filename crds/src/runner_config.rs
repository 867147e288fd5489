//! [`RunnerConfig`]: the contract between operator and runner, one JSON file mounted into the pod.
//!
//! The operator writes the newest version; the runner reads that one and the one before, so that either can be upgraded
//! first. A new version gets a struct of its own for reading and a `From` into the newest.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::check::Manifest;
use crate::job::Job;
use crate::problem::Problem;

/// The version that is written.
pub const CONFIG_VERSION: u32 = 1;
/// The oldest version that is read.
pub const CONFIG_VERSION_OLDEST: u32 = 1;

/// What the runner needs to know to run one job in a pod. Secrets are not in it: they are mounted as files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunnerConfig {
    /// [`CONFIG_VERSION`].
    pub config_version: u32,
    /// Namespace of the job.
    pub namespace: String,
    /// The whole resource; its `metadata.generation` is part of the rank of its owner records.
    pub job: Job,
    /// Folder or URL below which relative output paths lie.
    pub outputs_root: String,
    /// Folder or URL below which checkpoints lie.
    pub checkpoints_root: String,
    /// Folder of the mounted Secrets: the value of a `secretKeyRef` is the file `<folder>/<name>/<key>`.
    pub secrets_root: String,
}

/// Why a configuration cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RunnerConfigError {
    /// Not JSON, or not of this shape.
    #[error("the runner configuration cannot be read")]
    Shape(#[from] serde_json::Error),
    /// The job has problems; at least one of them is an error.
    #[error("the job in the runner configuration is not valid: {}", lines(.0))]
    Job(Vec<Problem>),
    /// Written by an operator that is too new or too old.
    #[error(
        "the runner configuration has version {found}, and this runner reads {CONFIG_VERSION_OLDEST} to \
         {CONFIG_VERSION}: bring operator and runner within one version of each other"
    )]
    Version {
        /// The version in the file.
        found: u64,
    },
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl RunnerConfig {
    /// Reads a configuration of any version that this crate knows.
    ///
    /// # Errors
    ///
    /// Another version, or a shape that is not that version's, unknown fields included.
    pub fn from_json(text: &str) -> Result<Self, RunnerConfigError> {
        let value: Value = serde_json::from_str(text)?;
        // The version is read before anything else: another version may have any other shape.
        match value.get("configVersion").and_then(Value::as_u64) {
            Some(1) => {
                // Serde would pass over unknown fields of the job; the check does not.
                Manifest::from_value(value["job"].clone()).check().map_err(RunnerConfigError::Job)?;
                Ok(serde_json::from_value(value)?)
            }
            Some(found) => Err(RunnerConfigError::Version { found }),
            None => Err(RunnerConfigError::Shape(serde::de::Error::missing_field("configVersion"))),
        }
    }

    /// The text that [`Self::from_json`] reads.
    ///
    /// # Errors
    ///
    /// The serialiser's, which these types do not meet.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::streaming_job::{StreamingJob, StreamingJobSpec, StreamingTemplate};

    fn config() -> RunnerConfig {
        let spec =
            StreamingJobSpec { template: Some(StreamingTemplate::EventAggregation), ..StreamingJobSpec::default() };
        RunnerConfig {
            config_version: CONFIG_VERSION,
            namespace: "default".to_owned(),
            job: Job::Streaming(Box::new(StreamingJob::new("event-aggregation", spec))),
            outputs_root: "/data/outputs".to_owned(),
            checkpoints_root: "s3://bucket/checkpoints".to_owned(),
            secrets_root: "/etc/data-platform/secrets".to_owned(),
        }
    }

    #[test]
    fn a_configuration_is_read_as_it_was_written() {
        let text = config().to_json().unwrap();
        assert!(text.contains("\"kind\": \"StreamingJob\""), "{text}");
        assert_eq!(RunnerConfig::from_json(&text).unwrap(), config());
    }

    #[test]
    fn a_version_that_is_not_known_is_named_before_its_shape() {
        let error = RunnerConfig::from_json(r#"{"configVersion": 3, "anything": 1}"#).unwrap_err();
        assert!(error.to_string().contains("has version 3, and this runner reads 1 to 1"), "{error}");
    }

    #[test]
    fn unknown_fields_and_kinds_are_refused() {
        let value = serde_json::to_value(config()).unwrap();
        for (pointer, name) in [("", "extra"), ("/job/spec", "extra"), ("/job/spec/trigger", "intervall")] {
            let mut changed = value.clone();
            changed.pointer_mut(pointer).unwrap()[name] = 1.into();
            let error = RunnerConfig::from_json(&changed.to_string()).unwrap_err();
            assert!(format!("{error:?}").contains(name), "{error:?}");
        }
        let mut changed = value;
        changed["job"]["kind"] = "CronJob".into();
        assert!(RunnerConfig::from_json(&changed.to_string()).is_err());
    }
}
