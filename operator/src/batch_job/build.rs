//! From a validated job to its children: ConfigMap, and CronJob or Job. Pure, and the same for the same input: golden
//! files in `operator/tests/golden/batch` show what comes out.

use data_platform_crds::batch_job::{BatchJob, BatchJobSpec};
use data_platform_crds::change::batch::FIELDS_OF_RUNS;
use serde_json::{Value, json};

use crate::apply::Desired;
use crate::args::RunnerSettings;
use crate::batch_job::backfill;
use crate::batch_job::validate::ValidatedJob;
use crate::build::pod::{self, PodLife, with_config_map};
use crate::build::{config_map, metadata};
use crate::cache::JobKind;
use crate::child::ChildKind;
use crate::names::{CONTAINER, canonical, hashed_name, labels};

/// What a runner takes to give up the interval that it is at, and a margin in which the kubelet notices.
const STOP_SECONDS: u64 = 35;
/// Exit codes of the runner that trying again does not change: its user must do something, or another run has the job.
const FINAL_EXIT_CODES: [i32; 2] = [2, 3];
/// What was built of a job.
#[derive(Clone, Debug)]
pub struct Built {
    /// The runner's configuration.
    pub config_map: Desired,
    /// The CronJob of a job with a schedule, the Job of one without.
    pub scheduler: Desired,
    /// The Job of a backfill beside a schedule.
    pub backfill: Option<Desired>,
}

/// Builds the children of a job. `claim_is_shared`: pods on any node may use its claim at once.
pub fn build(job: &ValidatedJob, settings: &RunnerSettings, claim_is_shared: bool) -> Built {
    let template = pod::template(job, &life(), settings, claim_is_shared);
    let is_backfill = job.job.spec.backfill.is_some() && !is_scheduled(&job.job);
    let template = if is_backfill { backfill::labelled(template) } else { template };
    let config_map = config_map(job, &template);
    let template = with_config_map(&template, &config_map.name);
    let backfill = backfill::build(job, &template);
    let spec = job_spec(job, template);
    let scheduler = match &job.job.spec.schedule {
        Some(schedule) => cron_job(job, schedule, spec),
        None => {
            let metadata = metadata(job, &one_run_name(job));
            Desired::new(ChildKind::Job, json!({"metadata": metadata, "spec": spec}))
        }
    };
    Built { config_map, scheduler, backfill }
}

/// The runner learns which run it is from the labels that Kubernetes gives to the pods of a Job.
fn life() -> PodLife {
    let from_label = |name: &str, label: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": format!("metadata.labels['{label}']")}}});
    let env = vec![
        from_label("JOB_NAME", "batch.kubernetes.io/job-name"),
        from_label("JOB_UID", "batch.kubernetes.io/controller-uid"),
    ];
    PodLife { ends: true, stop_seconds: STOP_SECONDS, env }
}

/// A run: tried again by Kubernetes as long as that may help.
pub(super) fn job_spec(job: &ValidatedJob, template: Value) -> Value {
    let spec = &job.job.spec;
    // The doctor ends with the same codes.
    let first = template["spec"]["initContainers"].as_array().into_iter().flatten();
    let names = [json!(CONTAINER)].into_iter().chain(first.map(|container| container["name"].clone()));
    let finals = names.map(|name| {
        json!({"action": "FailJob", "onExitCodes": {"containerName": name, "operator": "In", "values": FINAL_EXIT_CODES}})
    });
    let disrupted = json!({"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]});
    let rules: Vec<Value> = finals.chain([disrupted]).collect();
    let mut made = json!({
        "backoffLimit": spec.backoff_limit,
        // Two attempts at a time would only wait for each other.
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {"rules": rules},
        "template": template,
    });
    if let Some(seconds) = spec.active_deadline_seconds {
        made["activeDeadlineSeconds"] = seconds.into();
    }
    made
}

fn cron_job(job: &ValidatedJob, schedule: &str, job_spec: Value) -> Desired {
    let spec = &job.job.spec;
    let mut made = json!({
        "schedule": schedule,
        "timeZone": spec.time_zone,
        "suspend": spec.suspend,
        "concurrencyPolicy": spec.concurrency_policy,
        "successfulJobsHistoryLimit": spec.successful_jobs_history_limit,
        "failedJobsHistoryLimit": spec.failed_jobs_history_limit,
        "jobTemplate": {"metadata": {"labels": labels(JobKind::Batch.name(), &job.name)}, "spec": job_spec},
    });
    if let Some(seconds) = spec.starting_deadline_seconds {
        made["startingDeadlineSeconds"] = seconds.into();
    }
    Desired::new(ChildKind::CronJob, json!({"metadata": metadata(job, &job.name), "spec": made}))
}

/// Names what a job without schedule computes, and the order to run it again. Fields that have their defaults do not count:
/// a later version of the CRD that brings a new one must not run every job again.
pub fn spec_hash(job: &ValidatedJob) -> String {
    let value = |spec: &BatchJobSpec| serde_json::to_value(spec).unwrap_or_default();
    let (mut spec, default) = (value(&job.job.spec), value(&BatchJobSpec::default()));
    if let Some(fields) = spec.as_object_mut() {
        fields.retain(|name, value| default[name] != *value && !FIELDS_OF_RUNS.contains(&name.as_str()));
    }
    crate::names::hash(&format!("{}{:?}", canonical(&spec), job.restarted_at))
}

/// Name of the Job of a job without schedule.
pub fn one_run_name(job: &ValidatedJob) -> String {
    hashed_name(&job.name, &spec_hash(job))
}

/// Whether a job runs by a schedule.
pub fn is_scheduled(job: &BatchJob) -> bool {
    job.spec.schedule.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch_job::tests::{once, validated};

    #[test]
    fn a_job_runs_again_only_for_what_it_computes_or_on_demand() {
        let name = |change: &dyn Fn(&mut BatchJob)| {
            let mut changed = once();
            change(&mut changed);
            one_run_name(&validated(&changed))
        };
        let plain = name(&|_| {});
        assert_eq!(name(&|job| job.spec.suspend = true), plain);
        assert_eq!(name(&|job| job.spec.failed_jobs_history_limit = 9), plain);
        assert_eq!(name(&|job| job.metadata.generation = Some(7)), plain);
        assert_ne!(name(&|job| job.spec.query = Some("SELECT 2".to_owned())), plain);
        let restarted = [(crate::names::RESTARTED_AT.to_owned(), "now".to_owned())];
        assert_ne!(name(&|job| job.metadata.annotations = Some(restarted.clone().into())), plain);
    }
}
