//! Reconciles a `BatchJob`: with a schedule it becomes a CronJob, without one a Job that runs once.
//!
//! ```text
//! validate -> build (pure) -> apply (I/O) -> check (I/O) -> runs -> status (pure) -> write (I/O)
//! ```
//!
//! Kubernetes starts the runs and tries them again; the runner decides which intervals a run processes (docs/batch.md).
//! The template of a CronJob follows the operator's runner image: the next run has it, and no run is interrupted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use data_platform_crds::batch_job::{BatchJob, BatchJobStatus, SchedulerKind, SchedulerStatus};
use data_platform_crds::condition::{Health, Reason};
use data_platform_crds::dependencies;
use data_platform_crds::job::Job;
use data_platform_crds::resources::{PodSpec, StorageSpec};
use data_platform_crds::schedule::Schedule;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::runtime::controller::Action;
use serde_json::Value;

use crate::apply::Desired;
use crate::batch_job::build::{Built, spec_hash};
use crate::batch_job::check::Asked;
use crate::batch_job::validate::{ValidatedJob, interval};
use crate::build::mounted;
use crate::cache::JobKind;
use crate::child::ChildKind;
use crate::clock;
use crate::context::Context;
use crate::error::Error;
use crate::kind::{JobResource, JobStatus};
use crate::observed::Observed;
use crate::reconcile::{
    FALLBACK_PERIOD, LastStatus, Reconcile, UNWATCHED_PERIOD, UNWELL_PERIOD, checked, identity, last_status,
};
use crate::reports::ReportState;
use crate::validated::Refusal;
use crate::{children, claim, events, reconcile, volumes};

pub mod backfill;
pub mod build;
pub mod check;
pub mod figures;
pub mod memory;
pub mod runs;
pub mod status;
mod stuck;
#[cfg(test)]
pub(crate) mod tests;
pub mod validate;

impl JobResource for BatchJob {
    const KIND: JobKind = JobKind::Batch;
    type Status = BatchJobStatus;

    fn pod(&self) -> Option<&PodSpec> {
        self.spec.pod.as_ref()
    }

    fn storage(&self) -> Option<&StorageSpec> {
        self.spec.storage.as_ref()
    }

    fn with_metadata(&self, metadata: ObjectMeta) -> Self {
        Self { metadata, spec: self.spec.clone(), status: None }
    }

    fn into_job(self) -> Job {
        Job::Batch(Box::new(self))
    }
}

impl Reconcile for BatchJob {
    async fn reconcile(observed: &Observed<Self>, context: &Context) -> Result<Action, Error> {
        let last = last_status(observed, context);
        let validated = checked(observed, context, validate::check).and_then(|job| {
            let schedule = validate::schedule(&job.spec)?;
            Ok((crate::validated::validate(&job, &context.settings)?, schedule))
        });
        let outcome = match validated {
            Ok((job, schedule)) => reconcile_children(&job, schedule, observed, &last, context).await?,
            Err(refusal) => Outcome { refusal: Some(refusal), again: FALLBACK_PERIOD, ..Outcome::default() },
        };
        report_status(observed, &last, &outcome, context).await.map(Action::requeue)
    }
}

impl JobStatus for BatchJobStatus {
    fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    fn observed_generation(&self) -> Option<i64> {
        self.observed_generation
    }
}

/// What a reconcile came to, before its status is written.
#[derive(Debug, Default)]
struct Outcome {
    /// What keeps the spec from being carried out.
    refusal: Option<Refusal>,
    /// The job, as far as it is valid.
    job: Option<BatchJob>,
    /// When its runs are due.
    schedule: Option<Schedule>,
    /// What starts its pods.
    scheduler: Option<SchedulerStatus>,
    /// What is known of the check of its SQL.
    check: Asked,
    /// Names what it computes.
    spec_hash: Option<String>,
    /// The backfill that it asks for.
    backfill: Option<backfill::Wanted>,
    /// When to look again at the latest.
    again: Duration,
}

/// Brings the children to what they should be.
async fn reconcile_children(
    job: &ValidatedJob,
    schedule: Option<Schedule>,
    observed: &Observed<BatchJob>,
    last: &LastStatus<BatchJobStatus>,
    context: &Context,
) -> Result<Outcome, Error> {
    let (key, uid) = &identity(observed);
    let mut outcome = Outcome {
        job: Some(job.job.clone()),
        schedule,
        again: FALLBACK_PERIOD,
        spec_hash: Some(spec_hash(job)),
        backfill: backfill::wanted(job),
        ..Outcome::default()
    };
    if let Some(holder) = context.checkpoints.holder(key) {
        let message = format!("the job {holder} keeps its log in the checkpoint that this one names");
        let refusal = Some((Reason::CheckpointOfOtherJob, message));
        return Ok(Outcome { refusal, again: UNWATCHED_PERIOD, ..outcome });
    }
    if let Some(cycle) = context.dependencies.cycle(key) {
        let (message, cure) = dependencies::told(&cycle);
        let refusal = Some((Reason::InvalidSpec, format!("spec.dependsOn: {message}: {cure}")));
        // It may be another job that is mended.
        return Ok(Outcome { refusal, again: UNWATCHED_PERIOD, ..outcome });
    }
    let Some(claim_is_shared) = claim::is_shared(job, context).await? else {
        return Ok(Outcome { refusal: Some(claim::missing(job)), again: UNWATCHED_PERIOD, ..outcome });
    };
    let built = build::build(job, &context.settings, claim_is_shared);
    let scheduler = scheduler(job, &built);
    let children = children(job, &built, &scheduler, uid, last, context);
    if built.scheduler.kind == ChildKind::CronJob && changes_schedule(&built.scheduler, context) {
        context.remember(key, uid, |memory| memory.batch.changed = Some(clock::now()));
    }
    if let Some(refusal) = children::apply_children(&children, uid, context).await? {
        return Ok(Outcome { refusal: Some(named(refusal)), again: UNWATCHED_PERIOD, ..outcome });
    }
    if let Some(refusal) = stuck::replace(&built, key, uid, context).await? {
        return Ok(Outcome { refusal: Some(refusal), again: UNWATCHED_PERIOD, ..outcome });
    }
    outcome.check = check::ask(job, &built, &last.status, claim_is_shared, context).await?;
    if !outcome.check.objects.is_empty() {
        outcome.again = UNWATCHED_PERIOD;
    }
    let all: Vec<Desired> = children.iter().chain(&outcome.check.objects).cloned().collect();
    children::remove_orphans(&all, key, uid, context).await?;
    context.checkpoints.settled(key);
    let is_there = children.iter().any(|child| child.kind == built.scheduler.kind) || was_made(&scheduler, last);
    outcome.scheduler = is_there.then_some(scheduler);
    Ok(outcome)
}

/// The object that starts the pods, as the status names it.
fn scheduler(job: &ValidatedJob, built: &Built) -> SchedulerStatus {
    let name = built.scheduler.name.clone();
    if build::is_scheduled(&job.job) {
        return SchedulerStatus { kind: SchedulerKind::CronJob, name, spec_hash: None };
    }
    SchedulerStatus { kind: SchedulerKind::Job, name, spec_hash: Some(spec_hash(job)) }
}

/// Whether the status says that this very Job was made. It runs once: one that is gone is done.
fn was_made(scheduler: &SchedulerStatus, last: &LastStatus<BatchJobStatus>) -> bool {
    last.status.scheduler.as_ref() == Some(scheduler)
}

/// The children as they should be, in the order in which they are written.
fn children(
    job: &ValidatedJob,
    built: &Built,
    scheduler: &SchedulerStatus,
    uid: &str,
    last: &LastStatus<BatchJobStatus>,
    context: &Context,
) -> Vec<Desired> {
    let both = vec![built.config_map.clone(), built.scheduler.clone()];
    let live = |name: &str| {
        let live = context.scope.children.of(ChildKind::Job).get(&job.namespace, name);
        live.filter(|live| live.is_owned_by(uid))
    };
    if scheduler.kind == SchedulerKind::CronJob {
        let known = last.status.backfill.as_ref().map(|known| known.name.as_str());
        // It is made once: one that is gone is done.
        let is_open = |wanted: &&Desired| {
            live(&wanted.name).is_some() || known != Some(wanted.name.as_str()) && !job.job.spec.suspend
        };
        return both.into_iter().chain(built.backfill.iter().filter(is_open).cloned()).collect();
    }
    match live(&scheduler.name) {
        // It keeps what it was made with: a ConfigMap of another version would be nobody's.
        Some(live) if !mounted(&live.value()["spec"]["template"]["spec"]).contains(&built.config_map.name) => {
            vec![built.scheduler.clone()]
        }
        Some(_) => both,
        None if was_made(scheduler, last) || job.job.spec.suspend => Vec::new(),
        None => both,
    }
}

/// Whether the CronJob in the cluster has other times than the one that is about to be written.
fn changes_schedule(desired: &Desired, context: &Context) -> bool {
    let live = context.scope.children.of(ChildKind::CronJob).get(&desired.namespace, &desired.name);
    live.is_some_and(|live| {
        let live = live.value();
        ["schedule", "timeZone", "suspend"].iter().any(|field| live["spec"][*field] != desired.object["spec"][*field])
    })
}

/// A refusal of the API server that is about the times has a reason of its own.
fn named((reason, message): Refusal) -> Refusal {
    let is_about = |field: &str| reason == Reason::WriteRefused && message.contains(field);
    let reason = if is_about("spec.timeZone") {
        Reason::InvalidTimeZone
    } else if is_about("spec.schedule") {
        Reason::InvalidSchedule
    } else {
        reason
    };
    (reason, message)
}

/// Says what is to be said. Gives when to look again.
async fn report_status(
    observed: &Observed<BatchJob>,
    last: &LastStatus<BatchJobStatus>,
    outcome: &Outcome,
    context: &Context,
) -> Result<Duration, Error> {
    let (key, uid) = &identity(observed);
    let scope = &context.scope;
    let cron_job = scope.children.of(ChildKind::CronJob).get(&key.namespace, &key.name);
    let cron_job = cron_job.filter(|live| live.is_owned_by(uid));
    let scheduler = cron_job.as_ref().and_then(|live| live.metadata().uid);
    let owners: BTreeSet<&str> = scheduler.iter().chain([uid]).map(String::as_str).collect();
    let mut runs = runs::runs(&scope.children.of(ChildKind::Job).of_job(key), &scope.pods.of_job(key), &owners);
    if let Some(pod) = runs.iter_mut().rev().find(|run| run.ended.is_none()).and_then(|run| run.pod.as_mut()) {
        *pod = volumes::explained(Arc::clone(pod), &context.client).await;
    }
    let backfill = outcome.backfill.as_ref().map(|wanted| {
        let pod = runs.iter().find(|run| run.name == wanted.name).and_then(|run| run.pod.clone());
        let report = pod.map(|pod| context.reports.state(&pod));
        let said = match &report {
            Some(ReportState::Fresh(report)) => report.batch.as_ref(),
            _ => None,
        };
        backfill::progress(wanted, last.status.backfill.as_ref(), &runs, said)
    });
    // What goes on beside the schedule says nothing of the scheduled runs.
    let runs: Vec<_> = runs.into_iter().filter(|run| !run.is_backfill).collect();
    let cron_job: Option<Value> = cron_job.as_ref().map(|live| live.value());
    let spec = outcome.job.as_ref().map(|job| &job.spec);
    let mut facts = status::Facts {
        refusal: outcome.refusal.clone(),
        suspended: spec.is_some_and(|spec| spec.suspend),
        schedule: outcome.schedule.as_ref(),
        scheduler: outcome.scheduler.clone(),
        cron_job: cron_job.as_ref(),
        changed: context.remember(key, uid, |memory| memory.batch.changed),
        runs: &runs,
        pod_refusal: None,
        check: &outcome.check,
        spec_hash: outcome.spec_hash.as_deref(),
        backfill,
        interval: spec.and_then(interval),
        now: clock::now(),
    };
    if let Some(run) = facts.without_pod() {
        facts.pod_refusal = events::pod_refusal(&context.client, &key.namespace, &run.uid).await;
    }
    let (after, verdict) = status::status(&last.status, &facts, observed.metadata.generation);
    context.remember(key, uid, |memory| {
        memory.batch.count(&runs, last.status.last_run.as_ref());
        memory.batch.note(&after, facts.pending());
    });
    let is_well = matches!(verdict.health, Health::Healthy | Health::Suspended);
    let later = if is_well { FALLBACK_PERIOD } else { UNWELL_PERIOD };
    let later = facts.quiet().map_or(later, |quiet| later.min(quiet)).min(outcome.again);
    reconcile::report_status(observed, last, &after, &verdict, later, context).await
}
