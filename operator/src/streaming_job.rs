//! Reconciles a `StreamingJob`: from what is there to what should be there, and to a status that tells the truth about it.
//!
//! ```text
//! dereference (I/O) -> validate -> build -> rollout (pure) -> apply (I/O) -> status (pure) -> write (I/O)
//! ```
//!
//! Level-triggered: it looks at everything each time, whatever asked for it, and writes only what differs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use data_platform_crds::condition::Reason;
use data_platform_crds::streaming_job::{StreamingJob, StreamingJobStatus};
use k8s_openapi::jiff::Timestamp;
use kube::Resource;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::controller::Action;
use serde_json::{Value, json};

use crate::cache::{JobKey, JobKind};
use crate::context::{Context, Written};
use crate::error::Error;
use crate::events::{Transition, publish};
use crate::names::{FIELD_MANAGER, hash};
use crate::observed::Observed;
use crate::streaming_job::rollout::Plan;
use crate::streaming_job::status::{Verdict, Write, ready, verdict};
use crate::streaming_job::validate::{Refusal, ValidatedJob};
use crate::watch;

pub mod build;
mod dereference;
mod objects;
pub mod rollout;
pub mod status;
#[cfg(test)]
pub(crate) mod tests;
pub mod validate;

/// Reconciles every job so often even if nothing asks for it: watches can miss something.
const FALLBACK_PERIOD: Duration = Duration::from_secs(300);
/// How soon a job is looked at again whose trouble the operator cannot watch: a claim, an object of somebody else.
const UNWATCHED_PERIOD: Duration = Duration::from_secs(10);
/// How soon a job is looked at again that does not work: some of what is said of it depends on the time alone.
const UNWELL_PERIOD: Duration = Duration::from_secs(30);
/// A reconcile that takes longer waits for an API server that does not answer.
const RECONCILE_TIMEOUT: Duration = Duration::from_secs(30);

/// Reconciles a job.
///
/// # Errors
///
/// What the API server did not do; it is tried again.
pub async fn reconcile(observed: Arc<Observed<StreamingJob>>, context: Arc<Context>) -> Result<Action, Error> {
    let started = Instant::now();
    let result = match tokio::time::timeout(RECONCILE_TIMEOUT, look(&observed, &context)).await {
        Ok(result) => result,
        Err(_) => Err(Error::Timeout(RECONCILE_TIMEOUT)),
    };
    context.metrics.reconciled(JobKind::Streaming, started.elapsed(), result.as_ref().err().map(Error::reason));
    if result.is_ok() {
        let (key, uid) = identity(&observed);
        context.remember(&key, &uid, |memory| memory.failures = 0);
    }
    result
}

/// When a reconcile that failed is tried again.
pub fn after_error(observed: Arc<Observed<StreamingJob>>, error: &Error, context: Arc<Context>) -> Action {
    let (key, uid) = identity(&observed);
    let failures = context.remember(&key, &uid, |memory| {
        memory.failures = memory.failures.saturating_add(1);
        memory.failures
    });
    let spread = f64::from(u32::from_str_radix(&hash(&format!("{uid}{failures}"))[..4], 16).unwrap_or(0)) / 65_536.0;
    let wait = error.backoff(failures, spread);
    tracing::warn!(namespace = key.namespace, job = key.name, error = %crate::error::chain(error), ?wait, "a reconcile failed");
    Action::requeue(wait)
}

fn identity(observed: &Observed<StreamingJob>) -> (JobKey, String) {
    (watch::key(observed), observed.metadata.uid.clone().unwrap_or_default())
}

/// What a reconcile came to, before its status is written.
struct Outcome {
    /// What keeps the spec from being carried out.
    refusal: Option<Refusal>,
    /// Why there are to be no pods.
    off: Option<&'static str>,
    /// When to look again at the latest.
    again: Duration,
}

impl Outcome {
    fn refused(refusal: Refusal, again: Duration) -> Self {
        Self { refusal: Some(refusal), off: None, again }
    }
}

async fn look(observed: &Observed<StreamingJob>, context: &Context) -> Result<Action, Error> {
    if observed.metadata.deletion_timestamp.is_some() {
        // Its children go with it; making them again would keep it from going.
        return Ok(Action::requeue(FALLBACK_PERIOD));
    }
    let (key, uid) = identity(observed);
    let outcome = match validated(observed, &key, &uid, context) {
        Ok(job) => carry_out(&job, &key, &uid, observed, context).await?,
        Err(refusal) => Outcome::refused(refusal, FALLBACK_PERIOD),
    };
    let again = tell(observed, &key, &uid, &outcome, context).await?;
    Ok(Action::requeue(again.min(outcome.again)))
}

/// The job in a form that can be built. The slow checks are done once for a spec.
fn validated(
    observed: &Observed<StreamingJob>,
    key: &JobKey,
    uid: &str,
    context: &Context,
) -> Result<ValidatedJob, Refusal> {
    let unreadable = |error| (Reason::InvalidSpec, format!("this version cannot read the resource: {error}"));
    let job = observed.typed().map_err(unreadable)?;
    let spec = hash(&serde_json::to_string(&job.spec).unwrap_or_default());
    let known = context.remember(key, uid, |memory| {
        memory.checked.as_ref().filter(|(checked, _)| *checked == spec).map(|(_, answer)| answer.clone())
    });
    let answer = known.unwrap_or_else(|| {
        let answer = validate::check(&job);
        context.remember(key, uid, |memory| memory.checked = Some((spec, answer.clone())));
        answer
    });
    answer?;
    validate::validate(&job, &context.settings)
}

/// Brings the children to what they should be.
async fn carry_out(
    job: &ValidatedJob,
    key: &JobKey,
    uid: &str,
    observed: &Observed<StreamingJob>,
    context: &Context,
) -> Result<Outcome, Error> {
    let Some(claim_is_shared) = dereference::claim(job, context).await? else {
        let name = job.storage.claim.as_deref().unwrap_or_default();
        let message = format!("there is no PersistentVolumeClaim {name} in {}", job.namespace);
        return Ok(Outcome::refused((Reason::StorageMissing, message), UNWATCHED_PERIOD));
    };
    let built = build::build(job, &context.settings, claim_is_shared);
    let made = dereference::made(job, &built, key, uid, context).await?;
    let facts = dereference::rollout_facts(made.as_deref(), job, key, uid, observed, context);
    let plan = rollout::plan(job, &facts);
    let waits_for_turn = plan == Plan::Keep && facts.mode == crate::args::Rollout::Auto;
    context.remember(key, uid, |memory| {
        memory.held_back = plan == Plan::HoldBack;
        let is_unasked = plan == Plan::Roll && made.as_ref().is_some_and(|made| made.revision == job.revision);
        if is_unasked {
            memory.rolled = Some(Instant::now());
        }
    });
    let children = objects::children(job, &built, made.as_deref(), plan);
    match objects::bring_about(&children, job, uid, context).await {
        Ok(None) => {}
        Ok(Some(refusal)) => return Ok(Outcome::refused(refusal, UNWATCHED_PERIOD)),
        Err(error) => match error.refusal() {
            Some(refusal) => {
                tracing::warn!(namespace = key.namespace, job = key.name, error = %crate::error::chain(&error), "refused");
                return Ok(Outcome::refused(refusal, UNWATCHED_PERIOD));
            }
            None => return Err(error),
        },
    }
    objects::remove_orphans(&children, key, uid, context).await?;
    if plan == Plan::HoldBack {
        let message = "the new query does not fit the windows that are open, so the old one goes on: bring the old query back, \
                       begin anew with another checkpoint.name, or let the runner decide by setting the annotation \
                       dataplatform.io/restartedAt";
        return Ok(Outcome::refused((Reason::QueryChanged, message.to_owned()), UNWELL_PERIOD));
    }
    let off = match (job.job.spec.suspend, job.replicas) {
        (true, _) => Some("spec.suspend is true: nothing is read; what is committed and the open windows are kept"),
        (false, 0) => Some("spec.replicas is 0: nothing is read; what is committed and the open windows are kept"),
        _ => None,
    };
    Ok(Outcome { refusal: None, off, again: if waits_for_turn { UNWATCHED_PERIOD } else { FALLBACK_PERIOD } })
}

/// Writes the status if it is another one, and the event of a transition. Gives when to look again.
async fn tell(
    observed: &Observed<StreamingJob>,
    key: &JobKey,
    uid: &str,
    outcome: &Outcome,
    context: &Context,
) -> Result<Duration, Error> {
    let deployment = context.scope.deployments.get(&key.namespace, &key.name).map(|deployment| deployment.value());
    let pods = context.scope.pods.of_job(key);
    let current = crate::pod::current(pods.iter().map(Arc::as_ref));
    let facts = status::Facts {
        refusal: outcome.refusal.clone(),
        off: outcome.off,
        deployment: deployment.as_ref(),
        pods: &pods,
        heard: current.map(|pod| context.reports.heard(pod)).unwrap_or_default(),
        now: Timestamp::now(),
    };
    let verdict = verdict(&facts);
    let (before, since) = last_status(observed, key, uid, context);
    let after = status::status(&before, &verdict, &facts, &key.name, observed.metadata.generation);
    context.remember(key, uid, |memory| {
        memory.reason = Some(verdict.reason.name());
        let is_up = verdict.standing.holds(data_platform_crds::condition::ConditionType::Ready);
        // A job that was rolled makes room for the next one when it works again.
        if is_up && memory.rolled.is_some_and(|since| since.elapsed() > Duration::from_secs(10)) {
            memory.rolled = None;
        }
    });
    let is_well = matches!(verdict.reason, Reason::Running | Reason::Suspended);
    let again = if is_well { FALLBACK_PERIOD } else { UNWELL_PERIOD };
    match status::write(&before, &after, since) {
        Write::No => Ok(again),
        Write::Later(wait) => Ok(again.min(wait)),
        Write::Now => {
            write_status(observed, key, uid, &after, context).await?;
            if ready(&before) != ready(&after) {
                announce(observed, &verdict, context).await;
            }
            Ok(again)
        }
    }
}

/// The status as it is now: what this process wrote last, unless the watch brought something newer.
fn last_status(
    observed: &Observed<StreamingJob>,
    key: &JobKey,
    uid: &str,
    context: &Context,
) -> (StreamingJobStatus, Option<Duration>) {
    let version = observed.metadata.resource_version.as_deref().unwrap_or_default();
    let written = context.remember(key, uid, |memory| {
        let written = memory.written.as_mut()?;
        if written.resource_version == version {
            written.was_seen = true;
        }
        Some(written.clone())
    });
    let since = written.as_ref().map(|written| written.at.elapsed());
    match written {
        Some(written) if !written.was_seen || written.resource_version == version => (written.status, since),
        // A status of a wrong shape, such as one of another version, is written anew.
        _ => (serde_json::from_value(observed.body().remove("status").unwrap_or_default()).unwrap_or_default(), since),
    }
}

async fn write_status(
    observed: &Observed<StreamingJob>,
    key: &JobKey,
    uid: &str,
    status: &StreamingJobStatus,
    context: &Context,
) -> Result<(), Error> {
    let api: Api<Observed<StreamingJob>> = Api::namespaced(context.client.clone(), &key.namespace);
    let patch: Value = json!({
        "apiVersion": StreamingJob::api_version(&()),
        "kind": StreamingJob::kind(&()),
        // Another job that took the name meanwhile gets no status of this one.
        "metadata": {"name": key.name, "uid": observed.metadata.uid},
        "status": status,
    });
    context.metrics.write("StreamingJob/status");
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    match api.patch_status(&key.name, &parameters, &Patch::Apply(&patch)).await {
        Ok(answer) => {
            let resource_version = answer.metadata.resource_version.unwrap_or_default();
            let written = Written { status: status.clone(), resource_version, was_seen: false, at: Instant::now() };
            context.remember(key, uid, |memory| memory.written = Some(written));
            Ok(())
        }
        // The job is gone, or another one has its name: the watch will say so.
        Err(kube::Error::Api(answer)) if answer.code == 404 => Ok(()),
        Err(error) => Err(Error::api(format!("write the status of {}", key.name))(error)),
    }
}

async fn announce(observed: &Observed<StreamingJob>, verdict: &Verdict, context: &Context) {
    let transition = Transition {
        job: observed.object_ref(&()),
        reason: verdict.reason.name(),
        standing: verdict.standing,
        message: verdict.message.clone(),
    };
    tracing::info!(
        namespace = transition.job.namespace,
        job = transition.job.name,
        reason = transition.reason,
        message = transition.message,
        "the job changed"
    );
    context.metrics.write("Event");
    publish(&context.client, &context.instance, &transition).await;
}
