//! What the operator writes about a batch job: its runs, its intervals, its conditions.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator saw of the job and its runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BatchJobStatus {
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Progressing, Degraded and Stalled, each with a reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
    /// Runs that are under way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub active: Vec<ActiveRunStatus>,
    /// The run that ended last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<RunStatus>,
    /// When a run was due the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_schedule_time: Option<Time>,
    /// When a run succeeded the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_successful_time: Option<Time>,
    /// Interval of the run that succeeded last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_successful_interval: Option<IntervalStatus>,
    /// When the next run is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_schedule_time: Option<Time>,
    /// Interval of the next run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_interval: Option<IntervalStatus>,
    /// Times since the last run at which a run was due and none started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub missed_runs: Option<i64>,
    /// The object that starts the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<SchedulerStatus>,
    /// What a look at the query before its first run came to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckStatus>,
    /// How far the backfill of the spec is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backfill: Option<BackfillStatus>,
}

/// How far a backfill is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackfillStatus {
    /// Name of its Job.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Hash of what it computes: it is made once for it.
    #[schemars(length(max = 64))]
    pub spec_hash: String,
    /// How it ended; absent while it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<RunResult>,
    /// Why it failed, and what to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 4096))]
    pub message: String,
    /// Intervals that are finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub finished: Option<i64>,
    /// Intervals that are left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub left: Option<i64>,
    /// How many seconds the rest takes if it goes on like this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub seconds_left: Option<i64>,
    /// When it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
}

/// What a look at the query of a job before its first run came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckStatus {
    /// Hash of the spec that was looked at: it is looked at once.
    #[schemars(length(max = 64))]
    pub spec_hash: String,
    /// When.
    pub time: Time,
    /// One word for why no run of it can be good; absent if nothing was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub reason: Option<String>,
    /// What is wrong and what to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 4096))]
    pub message: String,
}

/// From `start`, to just before `end`, in UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct IntervalStatus {
    /// Belongs to the interval.
    pub start: Time,
    /// The first moment that no longer belongs to it.
    pub end: Time,
}

/// A run that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActiveRunStatus {
    /// Name of its Job.
    #[schemars(length(max = 253))]
    pub name: String,
    /// When it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// What it covers, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<IntervalStatus>,
}

/// A run that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunStatus {
    /// Name of its Job.
    #[schemars(length(max = 253))]
    pub name: String,
    /// How it ended.
    pub result: RunResult,
    /// One word for why, such as `InputIncomplete`.
    #[schemars(length(max = 128))]
    pub reason: String,
    /// What happened and what to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 4096))]
    pub message: String,
    /// What it covered; with intervals that it caught up, from the begin of the first to the end of the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<IntervalStatus>,
    /// Rows that it wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<i64>,
    /// Files that it wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<i64>,
    /// Finished intervals that were stale at its end, by their names, at most 16: their input was replaced after they had
    /// read it. `rerunStale: true`, or `data-platform backfill --stale`, repairs them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 32)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub stale_intervals: Vec<String>,
    /// When it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// How long it took, in whole seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<i64>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RunResult {
    /// Its intervals are in the output.
    Succeeded,
    /// The interval that it failed at is as it was before.
    Failed,
}

/// The object that starts the pods of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SchedulerStatus {
    /// A CronJob for a job with a schedule, a Job for one without.
    pub kind: SchedulerKind,
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Hash of the spec that a Job without schedule was made for: a Job of the same hash is never made again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub spec_hash: Option<String>,
}

/// Kind of the object that starts the pods of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SchedulerKind {
    /// Starts runs by the schedule.
    CronJob,
    /// Runs once.
    Job,
}
