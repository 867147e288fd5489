//! What the operator exports of the runs of batch jobs: their pods are gone before anybody can scrape them.
//!
//! A run is counted when it is first seen to have ended. What the status told already when this process first looked at
//! the job was counted by whoever wrote that; so a run that ended while no operator ran is counted by the next one, and
//! none is counted twice after a restart.

use std::collections::BTreeSet;

use data_platform_crds::batch_job::{BatchJobStatus, RunStatus};
use k8s_openapi::jiff::Timestamp;
use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, IntCounterVec, Opts};

use crate::batch_job::runs::Run;
use crate::cache::{JobKey, JobKind};
use crate::context::{Context, Memory};

/// What this process remembers of the runs of a job.
#[derive(Clone, Debug, Default)]
pub struct BatchMemory {
    /// Runs that were counted; `None`: nobody looked yet.
    counted: Option<BTreeSet<String>>,
    succeeded: u64,
    failed: u64,
    figures: Figures,
    /// When the schedule was changed by this process.
    pub changed: Option<Timestamp>,
}

#[derive(Clone, Debug, Default)]
struct Figures {
    last_success: Option<i64>,
    last_seconds: Option<i64>,
    last_rows: Option<i64>,
    next: Option<i64>,
}

impl BatchMemory {
    /// Counts the runs that ended since the last look. `told`: the last run that the status told before.
    pub fn count(&mut self, runs: &[Run], told: Option<&RunStatus>) {
        let ended = || runs.iter().filter_map(|run| Some((run, run.ended.as_ref()?)));
        let told = told.and_then(|told| told.completion_time.as_ref()).map(|time| time.0);
        let counted = self.counted.get_or_insert_with(|| {
            let before = ended().filter(|(_, ended)| told.is_some_and(|told| ended.time <= told));
            before.map(|(run, _)| run.uid.clone()).collect()
        });
        for (run, ended) in ended() {
            if counted.insert(run.uid.clone()) {
                *(if ended.succeeded { &mut self.succeeded } else { &mut self.failed }) += 1;
            }
        }
        counted.retain(|uid| runs.iter().any(|run| run.uid == *uid));
    }

    /// Takes up the figures of a status. `pending`: when the next run is due, or was.
    pub fn note(&mut self, status: &BatchJobStatus, pending: Option<Timestamp>) {
        let last = status.last_run.as_ref();
        self.figures = Figures {
            last_success: status.last_successful_time.as_ref().map(|time| time.0.as_second()),
            last_seconds: last.and_then(|run| run.seconds),
            last_rows: last.and_then(|run| run.rows),
            next: pending.map(Timestamp::as_second),
        };
    }
}

/// The metrics of all batch jobs, made when somebody asks: those of a job that is gone are gone with it.
pub fn families(contexts: &[std::sync::Arc<Context>]) -> Vec<MetricFamily> {
    let of_batch = |key: &JobKey, memory: &Memory| {
        (key.kind == JobKind::Batch && memory.batch.counted.is_some()).then(|| (key.clone(), memory.batch.clone()))
    };
    let jobs: Vec<_> = contexts.iter().flat_map(|context| context.remembered(of_batch)).collect();
    gather(&jobs).unwrap_or_default()
}

fn gather(jobs: &[(JobKey, BatchMemory)]) -> Result<Vec<MetricFamily>, prometheus::Error> {
    let runs = IntCounterVec::new(
        Opts::new("dataplatform_batch_runs_total", "Runs that ended, by result."),
        &["namespace", "job", "result"],
    )?;
    let gauge = |name: &str, help: &str| GaugeVec::new(Opts::new(name, help), &["namespace", "job"]);
    let last_success = gauge("dataplatform_batch_last_success_timestamp_seconds", "End of the last good run.")?;
    let last_seconds = gauge("dataplatform_batch_last_run_duration_seconds", "How long the last run took.")?;
    let last_rows = gauge("dataplatform_batch_last_run_rows", "Rows that the last run wrote.")?;
    let next = gauge("dataplatform_batch_next_run_timestamp_seconds", "When the next run is due, or was.")?;
    for (key, memory) in jobs {
        let labels = [key.namespace.as_str(), key.name.as_str()];
        for (result, count) in [("succeeded", memory.succeeded), ("failed", memory.failed)] {
            runs.with_label_values(&[labels[0], labels[1], result]).inc_by(count);
        }
        for (gauge, value) in [
            (&last_success, memory.figures.last_success),
            (&last_seconds, memory.figures.last_seconds),
            (&last_rows, memory.figures.last_rows),
            (&next, memory.figures.next),
        ] {
            if let Some(value) = value {
                gauge.with_label_values(&labels).set(value as f64);
            }
        }
    }
    let gauges = [last_success, last_seconds, last_rows, next];
    Ok(runs.collect().into_iter().chain(gauges.iter().flat_map(Collector::collect)).collect())
}

#[cfg(test)]
mod tests {
    use data_platform_crds::batch_job::RunResult;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::batch_job::runs::Ended;

    fn run(uid: &str, ended: i64, succeeded: bool) -> Run {
        let at = |second| Timestamp::from_second(second).unwrap();
        let ended = Ended { time: at(ended), succeeded, reason: String::new(), message: String::new() };
        Run {
            name: uid.to_owned(),
            uid: uid.to_owned(),
            created: at(0),
            started: Some(at(0)),
            due: None,
            ended: Some(ended),
            pod: None,
            exit: None,
        }
    }

    #[test]
    fn a_run_is_counted_once_also_by_the_next_operator() {
        let runs = [run("a", 10, true), run("b", 20, false), run("c", 30, true)];
        let mut memory = BatchMemory::default();
        memory.count(&runs[..1], None);
        memory.count(&runs[..2], None);
        memory.count(&runs[..2], None);
        assert_eq!((memory.succeeded, memory.failed), (1, 1));
        let told = RunStatus {
            name: "b".to_owned(),
            result: RunResult::Failed,
            reason: String::new(),
            message: String::new(),
            interval: None,
            rows: None,
            files: None,
            start_time: None,
            completion_time: Some(Time(Timestamp::from_second(20).unwrap())),
            seconds: None,
        };
        let mut next = BatchMemory::default();
        next.count(&runs, Some(&told));
        assert_eq!((next.succeeded, next.failed), (1, 0), "the others were counted by the one before");
    }

    #[test]
    fn the_series_of_a_job_are_there_before_its_first_run() {
        let key = JobKey { kind: JobKind::Batch, namespace: "n".to_owned(), name: "a".to_owned() };
        let families = gather(&[(key, BatchMemory::default())]).unwrap();
        let runs = families.iter().find(|family| family.name() == "dataplatform_batch_runs_total").unwrap();
        assert_eq!(runs.get_metric().len(), 2);
    }
}
