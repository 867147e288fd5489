//! [`Run`]: what is known of one run of a batch job, from its Job and the pods of that. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use data_platform_crds::batch_job::{BatchInterval, IntervalStatus, RunResult, RunStatus};
use data_platform_crds::condition::{Reason, shortened, whole_seconds};
use data_platform_crds::termination::STALE_MAX;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use crate::child::{Child, is_check};
use crate::names::{BACKFILL_LABEL, CONTROLLER_UID};
use crate::observed::controller;
use crate::pod::{Exit, PodFacts, current};

/// Annotation of a Job with the time at which it was due.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// Longest text of a status other than a condition's message, in bytes of JSON: a status stays below 16 kB.
const TEXT_BYTES_MAX: usize = 1024;

/// One run.
#[derive(Clone, Debug)]
pub struct Run {
    /// Name of its Job.
    pub name: String,
    /// Identity of its Job.
    pub uid: String,
    /// When its Job was created.
    pub created: Timestamp,
    /// When it started.
    pub started: Option<Timestamp>,
    /// When it was due, if a schedule started it.
    pub due: Option<Timestamp>,
    /// How it ended, if it has.
    pub ended: Option<Ended>,
    /// The pod that speaks for it.
    pub pod: Option<Arc<PodFacts>>,
    /// How its last attempt ended.
    pub exit: Option<Exit>,
    /// It is the backfill beside a schedule.
    pub is_backfill: bool,
}

/// How a run ended, as its Job says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// When.
    pub time: Timestamp,
    /// Whether its intervals are in the output.
    pub succeeded: bool,
    /// Kubernetes' word.
    pub reason: String,
    /// In words.
    pub message: String,
}

/// The runs of a job, oldest first. `owners`: the uids of the job and of its CronJob; a Job that only carries the labels is
/// somebody else's.
pub fn runs(jobs: &[Arc<Child>], pods: &[Arc<PodFacts>], owners: &BTreeSet<&str>) -> Vec<Run> {
    let is_ours = |job: &Child| {
        let metadata = job.metadata();
        controller(&metadata).is_some_and(|owner| owners.contains(owner.uid.as_str()))
            && metadata.deletion_timestamp.is_none()
            && !is_check(&metadata)
    };
    let mut runs: Vec<Run> = jobs.iter().filter(|job| is_ours(job)).filter_map(|job| run(job, pods)).collect();
    runs.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
    runs
}

/// A run, or a check, from its Job; `None`: it does not fit its type.
pub fn run(observed: &Child, pods: &[Arc<PodFacts>]) -> Option<Run> {
    // A Job that does not fit its type is as good as one that is not there.
    let job: Job = observed.as_type().ok()?;
    let uid = job.metadata.uid?;
    let status = job.status.unwrap_or_default();
    let of_job = |pod: &&Arc<PodFacts>| {
        let labels = pod.metadata.labels.as_ref();
        labels.and_then(|labels| labels.get(CONTROLLER_UID)) == Some(&uid)
    };
    let pods: Vec<&Arc<PodFacts>> = pods.iter().filter(of_job).collect();
    let speaker = current(pods.iter().map(|pod| &***pod)).map(|pod| pod.metadata.uid.clone());
    let conditions = status.conditions.unwrap_or_default();
    let ended = conditions
        .into_iter()
        .find(|condition| matches!(condition.type_.as_str(), "Complete" | "Failed") && condition.status == "True");
    let ended = ended.map(|condition| Ended {
        time: status.completion_time.clone().or(condition.last_transition_time).map_or(Timestamp::UNIX_EPOCH, |t| t.0),
        succeeded: condition.type_ == "Complete",
        reason: condition.reason.unwrap_or_default(),
        message: condition.message.unwrap_or_default(),
    });
    let is_backfill = job.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(BACKFILL_LABEL));
    let due = job.metadata.annotations.and_then(|annotations| annotations.get(SCHEDULED)?.parse().ok());
    Some(Run {
        name: job.metadata.name?,
        uid,
        created: job.metadata.creation_timestamp.map_or(Timestamp::UNIX_EPOCH, |time| time.0),
        started: status.start_time.map(|time| time.0),
        due,
        ended,
        exit: pods.iter().filter_map(|pod| pod.last_exit.clone()).max_by_key(|exit| exit.time),
        is_backfill,
        pod: pods.iter().find(|pod| Some(&pod.metadata.uid) == speaker.as_ref()).map(|pod| Arc::clone(pod)),
    })
}

/// The run that ended last, with what is known of it. What a status says stays when the Job is gone, and what it knows of a
/// run whose pods are gone stays, too.
pub fn last_run(before: Option<&RunStatus>, runs: &[Run]) -> Option<RunStatus> {
    let ended = runs.iter().filter_map(|run| Some((run.ended.as_ref()?, run)));
    let Some((ended, run)) = ended.max_by_key(|(ended, run)| (ended.time, run.created)) else {
        return before.cloned();
    };
    if let Some(before) = before {
        let is_same =
            before.name == run.name && before.start_time.as_ref().map(|t| t.0) == run.started.map(whole_seconds);
        let is_newer = before.completion_time.as_ref().is_some_and(|time| time.0 > ended.time);
        if is_newer || is_same && run.exit.is_none() {
            return Some(before.clone());
        }
    }
    Some(ended_run(run, ended))
}

/// What is to be said of a run that ended.
fn ended_run(run: &Run, ended: &Ended) -> RunStatus {
    let said = run.exit.as_ref().and_then(|exit| exit.run.as_ref());
    let (reason, message) = why(run, ended);
    let seconds = run.started.map(|started| ended.time.as_second() - started.as_second());
    RunStatus {
        name: run.name.clone(),
        result: if ended.succeeded { RunResult::Succeeded } else { RunResult::Failed },
        reason: reason.name().to_owned(),
        message: shortened(&message, TEXT_BYTES_MAX),
        interval: said.and_then(|said| {
            let time = |text: &str| text.parse::<Timestamp>().ok().map(|time| Time(whole_seconds(time)));
            let interval = said.interval.as_ref()?;
            Some(IntervalStatus { start: time(&interval.start)?, end: time(&interval.end)? })
        }),
        rows: said.map(|said| i64::try_from(said.rows).unwrap_or(i64::MAX)),
        files: said.map(|said| i64::try_from(said.files).unwrap_or(i64::MAX)),
        stale_intervals: said.map(|said| said.stale.iter().take(STALE_MAX).cloned().collect()).unwrap_or_default(),
        start_time: run.started.map(|time| Time(whole_seconds(time))),
        completion_time: Some(Time(whole_seconds(ended.time))),
        seconds: seconds.map(|seconds| seconds.max(0)),
    }
}

/// Why a run ended: the runner's own word if there is one, since it knows more than Kubernetes.
pub(super) fn why(run: &Run, ended: &Ended) -> (Reason, String) {
    if ended.succeeded {
        return (Reason::Completed, String::new());
    }
    if ended.reason == "DeadlineExceeded" {
        return (Reason::RunFailed, format!("it took longer than activeDeadlineSeconds: {}", ended.message));
    }
    match run.exit.as_ref().filter(|exit| exit.code != 0) {
        // Nothing comes again and again any more.
        Some(exit) if exit.reason == Reason::CrashLoop => (Reason::RunFailed, exit.message.clone()),
        Some(exit) => (exit.reason, exit.message.clone()),
        None => (Reason::RunFailed, ended.message.clone()),
    }
}

/// The last interval that is over at a time.
pub fn interval_at(grid: BatchInterval, time: Timestamp) -> Option<IntervalStatus> {
    let (start, end) = grid.last_over(time.as_second());
    let at = |second: i64| Timestamp::from_second(second).ok().map(Time);
    Some(IntervalStatus { start: at(start)?, end: at(end)? })
}
