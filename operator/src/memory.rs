//! What this process remembers of a job. It only spares work: another process finds out again.

use std::collections::BTreeSet;
use std::sync::Arc;

use data_platform_crds::condition::{Health, Reason};
use data_platform_crds::streaming_job::StreamingJob;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;
use tokio::time::Instant;

use crate::rate::Spent;
use crate::validated::Refusal;

/// What this process remembers of a job. Nothing of it is needed: another process finds out again.
#[derive(Debug, Default)]
pub struct Memory {
    /// Which job of the name is meant.
    pub uid: String,
    /// The answer of the slow checks, for this generation of the spec.
    pub checked: Option<(Option<i64>, Result<(), Refusal>)>,
    /// The status that was written last.
    pub written: Option<Written>,
    /// The ConfigMap that the running Deployment was made from, if that is anything else than what would be made now.
    pub deployed: Option<Arc<KeptConfigMap>>,
    /// The last look at its children found nothing to do.
    pub settled: Option<Settled>,
    /// The last change was held back.
    pub held_back: bool,
    /// When the job was rolled without its user having asked.
    pub rolled: Option<Instant>,
    /// What came of the runs of a batch job.
    pub batch: BatchMemory,
    /// Failures in a row.
    pub failures: u32,
    /// Reason of the condition Ready, and what it means for the conditions.
    pub reason: Option<(Reason, Health)>,
    /// Writes of its status.
    pub status_writes: Spent,
    /// Its events.
    pub events: Spent,
    /// Transitions that had no event since the last one that had.
    pub untold: u32,
}

/// A look at the children of a streaming job that found nothing to do: as long as all that it depended on is the same, another
/// one finds the same.
#[derive(Clone, Debug)]
pub struct Settled {
    /// Of what it depended on.
    pub fingerprint: u64,
    /// The claim, and whether pods on any node may use it.
    pub claim: (Option<String>, bool),
    /// Why there are to be no pods.
    pub off: Option<&'static str>,
}

/// A status that this process wrote.
#[derive(Clone, Debug)]
pub struct Written {
    /// The status, as compact JSON; `None` once the watch has brought it back, or something newer.
    pub status: Option<Box<str>>,
    /// The resource version that the write made.
    pub version: u64,
    /// When.
    pub at: Instant,
}

/// What this process remembers of the runs of a job.
#[derive(Clone, Debug, Default)]
pub struct BatchMemory {
    /// Runs that were counted; `None`: nobody looked yet.
    pub counted: Option<BTreeSet<String>>,
    /// Good ones of them.
    pub succeeded: u64,
    /// Failed ones of them.
    pub failed: u64,
    /// The figures of the last status.
    pub figures: Figures,
    /// When the schedule was changed by this process.
    pub changed: Option<Timestamp>,
}

/// Figures of a status; times in seconds since 1970.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// End of the last good run.
    pub last_success: Option<i64>,
    /// How long the last run took.
    pub last_seconds: Option<i64>,
    /// Rows that it wrote.
    pub last_rows: Option<i64>,
    /// When the next run is due, or was.
    pub next: Option<i64>,
}

/// A ConfigMap that a Deployment was made from: its text, since after an upgrade of the operator every job has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptConfigMap {
    /// Revision of the Deployment.
    pub revision: String,
    /// Its name.
    pub name: String,
    /// Its data, as JSON.
    pub data: Box<str>,
}

/// What the running Deployment was made from.
#[derive(Clone, Debug, PartialEq)]
pub struct DeployedRevision {
    /// Its revision.
    pub revision: String,
    /// Its ConfigMap.
    pub config_map: String,
    /// The pod template as it was applied, without the name of the ConfigMap.
    pub template: Value,
    /// The job that runs.
    pub job: StreamingJob,
}
