//! What the operator exports of the runs of batch jobs: their pods are gone before anybody can scrape them.

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, IntCounterVec, Opts};

use crate::cache::{JobKey, JobKind};
use crate::context::Context;
use crate::memory::{BatchMemory, Memory};

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
    use super::*;

    #[test]
    fn the_series_of_a_job_are_there_before_its_first_run() {
        let key = JobKey { kind: JobKind::Batch, namespace: "n".to_owned(), name: "a".to_owned() };
        let families = gather(&[(key, BatchMemory::default())]).unwrap();
        let runs = families.iter().find(|family| family.name() == "dataplatform_batch_runs_total").unwrap();
        assert_eq!(runs.get_metric().len(), 2);
    }
}
