//! From what is known of a job to its status. Pure: facts in, conditions and figures out.

use std::sync::Arc;

use data_platform_crds::condition::{Health, Reason, conditions, joined, shortened, told, whole_seconds};
use data_platform_crds::runner_status::{PartitionStatus, Phase, ReferenceTrouble, RunnerStatus};
use data_platform_crds::streaming_job::{
    CheckpointStatus, DeadLetterStatus, ErrorStatus, ExitStatus, LagStatus, PartitionLag, StreamingJobStatus,
    ThroughputStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use crate::names::selector;
use crate::pod::{Exit, PodFacts, current};
use crate::reports::{ReportState, Silence};
use crate::streaming_job::rollout::HeldBack;
use crate::verdict::Verdict;

/// Partitions that a status names.
const PARTITIONS_MAX: usize = 8;
/// Reasons of dead letters that a status names: there are fewer.
const REASONS_MAX: usize = 16;
/// Longest text of a status other than a condition's message, in bytes of JSON: a status stays below 16 kB.
const TEXT_BYTES_MAX: usize = 1024;
/// Longest name of a topic that Kafka takes.
const TOPIC_BYTES_MAX: usize = 249;
/// Longest word for a reason.
const REASON_BYTES_MAX: usize = 64;
/// How long a job that was out of memory is called so after it came back: longer than it takes somebody to look.
const OUT_OF_MEMORY_SECONDS: i64 = 600;
/// How long a pod that is not ready may say nothing before that is called odd.
const SILENCE_SECONDS: i64 = 120;

/// What is known of a job.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// What keeps the spec from being carried out.
    pub refusal: Option<(Reason, String)>,
    /// Why the old spec goes on.
    pub held_back: Option<HeldBack>,
    /// The old query closes its windows.
    pub drains: bool,
    /// Why there are to be no pods.
    pub off: Option<&'static str>,
    /// The Deployment, if there is one.
    pub deployment: Option<&'a Value>,
    /// Its pods.
    pub pods: &'a [Arc<PodFacts>],
    /// What the runner says.
    pub report: ReportState,
    /// Now.
    pub now: Timestamp,
}

/// Says of a job what its facts amount to: what comes first keeps what comes later from mattering.
pub fn verdict(facts: &Facts<'_>) -> Verdict {
    if let Some((reason, message)) = &facts.refusal {
        return Verdict::new(*reason, message.clone());
    }
    if let Some(why) = facts.off {
        let is_empty = facts.pods.is_empty();
        return Verdict::new(if is_empty { Reason::Suspended } else { Reason::Stopping }, why);
    }
    if let Some(why) = facts.held_back {
        return Verdict::new(Reason::QueryChanged, why.message()).with_hint(why.hint());
    }
    let Some(deployment) = facts.deployment else {
        return Verdict::new(Reason::Starting, "the objects of the job are being made");
    };
    let Some(pod) = current(facts.pods.iter().map(Arc::as_ref)).filter(|pod| !pod.is_leaving()) else {
        return without_pod(deployment, facts.pods.is_empty());
    };
    if let Some((reason, message)) = &pod.trouble {
        return Verdict::new(*reason, message.clone());
    }
    if facts.drains && pod.running {
        return Verdict::new(Reason::Draining, "");
    }
    match &facts.report {
        ReportState::Fresh(report) if pod.running && report.ready => working(report, pod, facts.now),
        ReportState::Fresh(report) if pod.running => not_working(report, pod),
        _ if pod.ready => match facts.report {
            ReportState::Silent(silence) => unknown(silence),
            _ => Verdict::new(Reason::Running, ""),
        },
        report => silent(pod, matches!(report, ReportState::Silent(_)), facts.now),
    }
}

/// The pod is ready, and the runner does not say more.
fn unknown(silence: Silence) -> Verdict {
    match silence {
        Silence::NoAnswer => Verdict::new(Reason::StatusUnknown, ""),
        Silence::Refused => {
            let message = "the pod is ready, but its pages refuse the operator's token";
            let cure = "put the token of the operator into the Secret of the pages in the job's namespace, too; both take \
                        it up within about a minute";
            Verdict::new(Reason::StatusUnknown, message).with_hint(cure)
        }
    }
}

/// The Deployment has no pod that stays: it is about to make one, or it cannot.
fn without_pod(deployment: &Value, is_empty: bool) -> Verdict {
    let conditions = deployment["status"]["conditions"].as_array().into_iter().flatten();
    let mut failures =
        conditions.filter(|condition| condition["type"] == "ReplicaFailure" && condition["status"] == "True");
    if let Some(failure) = failures.next() {
        return Verdict::of_pod_refusal(failure["message"].as_str().unwrap_or_default());
    }
    let message = if is_empty { "the pod is being made" } else { "the old pod is stopping before the new one starts" };
    Verdict::new(Reason::Starting, message)
}

/// The runner says that it reads and commits.
fn working(report: &RunnerStatus, pod: &PodFacts, now: Timestamp) -> Verdict {
    let is_recent = |exit: &&Exit| now.as_second() - exit.time.as_second() < OUT_OF_MEMORY_SECONDS;
    let silent = report.silent_partitions();
    if let Some(reason) = all_dropped(report) {
        Verdict::new(reason, "")
    } else if let Some(first) = silent.first() {
        let others = if silent.len() > 1 { format!(" and {} more", silent.len() - 1) } else { String::new() };
        let does_not = format!("{}[{}]{others} does not answer", first.topic, first.partition);
        if first.holds_watermark {
            let message = format!("{does_not} and holds the watermark back: windows stay open");
            Verdict::new(Reason::WatermarkHeld, message)
        } else {
            let message = format!("{does_not}; the other partitions are read");
            let hint = "bring the partition's leader back";
            Verdict::new(Reason::KafkaUnreachable, message).as_(Health::Degraded).with_hint(hint)
        }
    } else if let Some((name, trouble)) = reference_in_trouble(report) {
        let reason = Reason::from_name(&trouble.reason).unwrap_or(Reason::ReferenceUnusable);
        let message = format!("the job goes on with the last good version of {name}: {}", trouble.message);
        Verdict::new(reason, message).as_(Health::Degraded).with_hint(trouble.cure.clone())
    } else if let Some(exit) =
        pod.last_exit.as_ref().filter(|exit| exit.reason == Reason::OutOfMemory).filter(is_recent)
    {
        Verdict::new(Reason::OutOfMemory, format!("the job runs again; {}", exit.message)).as_(Health::Degraded)
    } else if report.last_commit.is_none() && report.commits == 0 {
        Verdict::new(Reason::Running, "the job reads; it has committed nothing yet")
    } else {
        Verdict::new(Reason::Running, "")
    }
}

fn reference_in_trouble(report: &RunnerStatus) -> Option<(&String, &ReferenceTrouble)> {
    report.references.iter().find_map(|(name, reference)| Some((name, reference.trouble.as_ref()?)))
}

/// Why nothing of what is read becomes part of a result, if that is so: the job runs, but not for what it is there for.
fn all_dropped(report: &RunnerStatus) -> Option<Reason> {
    let dropped = [Reason::AllDeadLettered, Reason::AllFiltered, Reason::AllLate, Reason::AllFuture];
    Reason::from_name(report.no_output.as_deref()?).filter(|reason| dropped.contains(reason))
}

/// The runner says why it does not.
fn not_working(report: &RunnerStatus, pod: &PodFacts) -> Verdict {
    let is_starting = report.phase == Phase::Starting || report.reason.is_empty();
    if let Some(exit) = pod.last_exit.as_ref().filter(|exit| is_starting && exit.reason == Reason::OutOfMemory) {
        return Verdict::new(Reason::OutOfMemory, exit.message.clone());
    }
    let message = report.message.clone();
    // Its hint is the one that it gave with its last error: it knows more than the list.
    let error = report.errors.last().filter(|error| error.reason == report.reason && !error.cure.is_empty());
    let verdict = |reason: Reason| {
        let verdict = Verdict::new(reason, message.clone());
        error.map_or_else(|| verdict.clone(), |error| verdict.clone().with_hint(error.cure.clone()))
    };
    match (Reason::from_name(&report.reason), report.phase) {
        (Some(Reason::Running | Reason::Starting), _) => Verdict::new(Reason::Starting, message),
        (Some(reason), Phase::Stalled) => verdict(reason).as_(Health::Stalled),
        (Some(reason), Phase::Retrying) => verdict(reason).as_(Health::Retrying),
        (Some(reason), _) => verdict(reason),
        (None, Phase::Starting | Phase::Running | Phase::Ended) => Verdict::new(Reason::Starting, message),
        // A newer runner may have a word that this operator does not know.
        (None, _) => Verdict::new(Reason::InternalError, format!("{}: {message}", report.reason)),
    }
}

/// The pod is not ready, and nobody knows why.
fn silent(pod: &PodFacts, was_asked: bool, now: Timestamp) -> Verdict {
    if let Some(exit) = pod.last_exit.as_ref().filter(|exit| exit.code != 0) {
        return Verdict::new(exit.reason, exit.message.clone());
    }
    let age = pod.created().map_or(0, |created| now.as_second() - created.as_second());
    if pod.running && was_asked && age > SILENCE_SECONDS {
        return Verdict::new(Reason::NotReady, "");
    }
    Verdict::new(Reason::Starting, if pod.running { "the runner is starting" } else { "the container is being made" })
}

/// The status of a job. What was committed stays as it was while nobody knows anew; lag and rates of a job that does not say
/// them are absent.
pub fn status(
    before: &StreamingJobStatus,
    verdict: &Verdict,
    facts: &Facts<'_>,
    name: &str,
    generation: Option<i64>,
) -> StreamingJobStatus {
    let mut status = before.clone();
    status.observed_generation = generation;
    status.conditions = conditions(&before.conditions, &verdict.findings(), generation, facts.now);
    status.replicas = Some(count(facts.pods.iter().filter(|pod| !pod.is_leaving())));
    status.ready_replicas = Some(count(facts.pods.iter().filter(|pod| pod.ready && !pod.is_leaving())));
    let selector: Vec<String> =
        selector("StreamingJob", name).iter().map(|(name, value)| format!("{name}={value}")).collect();
    status.selector = Some(selector.join(","));
    if let Some(image) =
        facts.deployment.and_then(|live| live["spec"]["template"]["spec"]["containers"][0]["image"].as_str())
    {
        status.image = Some(told(image, TEXT_BYTES_MAX));
    }
    let exits = facts.pods.iter().filter_map(|pod| pod.last_exit.as_ref());
    if let Some(exit) = exits.max_by_key(|exit| exit.time) {
        status.last_exit = Some(ExitStatus {
            time: Time(whole_seconds(exit.time)),
            exit_code: exit.code,
            reason: exit.reason.name().to_owned(),
            message: shortened(&exit.message, TEXT_BYTES_MAX),
        });
    }
    // Unknown is absent: what was known of the moment is not known any more.
    (status.lag, status.throughput, status.no_output) = (None, None, None);
    if let ReportState::Fresh(report) = &facts.report {
        figures(&mut status, report);
    }
    status
}

fn count<'a>(pods: impl Iterator<Item = &'a Arc<PodFacts>>) -> i32 {
    i32::try_from(pods.count()).unwrap_or(i32::MAX)
}

/// A time in microseconds, in whole seconds as the API server keeps it.
fn time(micros: i64) -> Option<Time> {
    Timestamp::from_microsecond(micros).ok().map(|time| Time(whole_seconds(time)))
}

fn figures(status: &mut StreamingJobStatus, report: &RunnerStatus) {
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    // Before it has read its log and asked Kafka a runner knows nothing, and without Kafka it knows what was.
    if report.ready && report.partitions.iter().any(|partition| partition.lag().is_some()) {
        let mut worst: Vec<_> = report.partitions.iter().filter(|partition| partition.lag() != Some(0)).collect();
        worst.sort_by_key(|partition| {
            (std::cmp::Reverse(partition.lag().unwrap_or(i64::MAX)), &partition.topic, partition.partition)
        });
        let worst = worst.into_iter().take(PARTITIONS_MAX).map(|partition| PartitionLag {
            topic: told(&partition.topic, TOPIC_BYTES_MAX),
            partition: partition.partition,
            records: partition.lag(),
            seconds: partition.lag_seconds,
        });
        status.lag = Some(LagStatus {
            total_records: report.partitions.iter().filter_map(PartitionStatus::lag).fold(0, i64::saturating_add),
            max_seconds: report.lag_seconds,
            worst_partitions: worst.collect(),
        });
    }
    if report.ready && report.last_commit.is_some() {
        status.throughput = Some(ThroughputStatus {
            records_in_per_second: number(report.records_per_second),
            rows_out_per_second: number(report.rows_per_second),
        });
    }
    status.watermark = report.watermark.and_then(time).or(status.watermark.take());
    status.freshness = report.freshness.and_then(time).or(status.freshness.take());
    let commit = report.last_commit.as_ref();
    let commit =
        commit.and_then(|commit| Some(CheckpointStatus { version: number(commit.version), time: time(commit.clock)? }));
    status.last_checkpoint = commit.or(status.last_checkpoint.take());
    let mut by_reason = std::collections::BTreeMap::new();
    let mut total_records = 0_i64;
    for (reason, records) in report.dead_letters() {
        total_records = total_records.saturating_add(number(records));
        let reason = told(reason, REASON_BYTES_MAX);
        if by_reason.len() < REASONS_MAX || by_reason.contains_key(&reason) {
            let sum = by_reason.entry(reason).or_insert(0_i64);
            *sum = sum.saturating_add(number(records));
        }
    }
    if !by_reason.is_empty() {
        status.dead_letters = Some(DeadLetterStatus { total_records, by_reason });
    }
    status.no_output = report.why_no_output().filter(|_| report.ready).map(|why| told(&why, TEXT_BYTES_MAX));
    let error = report.errors.last().and_then(|error| {
        let message = joined(&error.message, &error.cure, TEXT_BYTES_MAX);
        Some(ErrorStatus { time: time(error.clock)?, reason: told(&error.reason, REASON_BYTES_MAX), message })
    });
    status.last_error = error.or(status.last_error.take());
}

#[cfg(test)]
mod tests;
