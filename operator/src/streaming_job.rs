//! Reconciles a `StreamingJob`: from what is there to what should be there, and to a status that tells the truth about it.
//!
//! ```text
//! dereference (I/O) -> validate -> build -> rollout (pure) -> apply (I/O) -> status (pure) -> write (I/O)
//! ```
//!
//! Level-triggered: it looks at everything each time, whatever asked for it, and writes only what differs.

use std::sync::Arc;
use std::time::Duration;

use data_platform_crds::condition::{ConditionType, Reason};
use data_platform_crds::job::Job;
use data_platform_crds::resources::{PodSpec, StorageSpec};
use data_platform_crds::streaming_job::{StreamingJob, StreamingJobStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::runtime::controller::Action;

use crate::cache::JobKind;
use crate::child::ChildKind;
use crate::clock;
use crate::context::Context;
use crate::error::Error;
use crate::kind::{JobResource, JobStatus};
use crate::memory::Settled;
use crate::observed::Observed;
use crate::reconcile::{FALLBACK_PERIOD, Reconcile, UNWATCHED_PERIOD, UNWELL_PERIOD, checked, identity, last_status};
use crate::streaming_job::build::Kept;
use crate::streaming_job::rollout::{HeldBack, Plan};
use crate::streaming_job::status::verdict;
use crate::streaming_job::validate::ValidatedJob;
use crate::validated::Refusal;
use crate::verdict::Verdict;
use crate::{children, claim, reconcile, volumes};

pub mod build;
mod dereference;
mod given_up;
mod printed;
pub mod rollout;
pub mod settled;
pub mod status;
#[cfg(test)]
pub(crate) mod tests;
pub mod validate;

impl JobResource for StreamingJob {
    const KIND: JobKind = JobKind::Streaming;
    type Status = StreamingJobStatus;

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
        Job::Streaming(Box::new(self))
    }
}

impl Reconcile for StreamingJob {
    async fn reconcile(observed: &Observed<Self>, context: &Context) -> Result<Action, Error> {
        let (key, uid) = &identity(observed);
        let fingerprint = settled::fingerprint(observed, key, context);
        let settled = context.remember(key, uid, |memory| memory.settled.clone());
        let outcome = match settled.filter(|settled| settled::holds(settled, fingerprint, key, context)) {
            Some(settled) => Outcome { off: settled.off, again: FALLBACK_PERIOD, ..Outcome::default() },
            None => {
                let validated = checked(observed, context, validate::check)
                    .and_then(|job| crate::validated::validate(&job, &context.settings));
                match validated {
                    Ok(job) => reconcile_children(&job, observed, fingerprint, context).await?,
                    Err(refusal) => Outcome::refused(refusal, FALLBACK_PERIOD),
                }
            }
        };
        report_status(observed, &outcome, context).await.map(Action::requeue)
    }
}

impl JobStatus for StreamingJobStatus {
    fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    fn observed_generation(&self) -> Option<i64> {
        self.observed_generation
    }
}

/// What a reconcile came to, before its status is written.
#[derive(Default)]
struct Outcome {
    /// What keeps the spec from being carried out.
    refusal: Option<Refusal>,
    /// Why the old spec goes on.
    held_back: Option<HeldBack>,
    /// The old query closes its windows.
    drains: bool,
    /// Why there are to be no pods.
    off: Option<&'static str>,
    /// When to look again at the latest.
    again: Duration,
}

impl Outcome {
    fn refused(refusal: Refusal, again: Duration) -> Self {
        Self { refusal: Some(refusal), again, ..Self::default() }
    }
}

/// Brings the children to what they should be. `fingerprint`: of what they depended on a moment ago.
async fn reconcile_children(
    job: &ValidatedJob,
    observed: &Observed<StreamingJob>,
    fingerprint: Option<u64>,
    context: &Context,
) -> Result<Outcome, Error> {
    let (key, uid) = &identity(observed);
    context.remember(key, uid, |memory| memory.settled = None);
    if let Some(holder) = context.checkpoints.holder(key) {
        let message = format!(
            "the job {holder} keeps its log in the checkpoint {}",
            data_platform_crds::change::checkpoint(&job.job)
        );
        return Ok(Outcome::refused((Reason::CheckpointOfOtherJob, message), UNWATCHED_PERIOD));
    }
    let Some(claim_is_shared) = claim::is_shared(job, context).await? else {
        return Ok(Outcome::refused(claim::missing(job), UNWATCHED_PERIOD));
    };
    let built = build::build(job, &context.settings, claim_is_shared);
    let live = dereference::live(job, uid, context);
    let deployed = dereference::deployed(live.as_ref(), job, &built, key, uid, context).await?;
    let facts = dereference::rollout_facts(live.as_ref(), deployed.as_ref(), job, key, uid, observed, context);
    let plan = rollout::plan(job, &facts);
    let held_back = match plan {
        Plan::HoldBack(why) => Some(why),
        _ => None,
    };
    let waits_for_turn = plan == Plan::Keep && facts.mode == crate::args::Rollout::Auto;
    context.remember(key, uid, |memory| {
        memory.held_back = held_back.is_some();
        let is_unasked = plan == Plan::Roll && deployed.as_ref().is_some_and(|made| made.revision == job.revision);
        if is_unasked {
            memory.rolled = Some(clock::instant());
        }
    });
    let given_up = given_up::given_up(live.as_ref(), &context.scope.pods.of_job(key), clock::now());
    let kept = Kept { deployed: deployed.as_ref(), cannot_start: facts.cannot_start, given_up };
    let children = build::children(job, &built, &kept, plan);
    if let Some(refusal) = children::apply_children(&children, uid, context).await? {
        return Ok(Outcome::refused(refusal, UNWATCHED_PERIOD));
    }
    let is_tidy = children::remove_orphans(&children, key, uid, context).await?;
    if matches!(plan, Plan::Roll | Plan::Keep) {
        context.checkpoints.settled(key);
    }
    let off = match (job.job.spec.suspend, validate::replicas(&job.job)) {
        (true, _) => Some("spec.suspend is true: nothing is read; what is committed and the open windows are kept"),
        (false, 0) => Some("spec.replicas is 0: nothing is read; what is committed and the open windows are kept"),
        _ => None,
    };
    // With one that holds back or waits for its turn there is more to look at than what the fingerprint is of.
    let is_plain = deployed.is_none() || plan == Plan::Keep && !waits_for_turn;
    if let Some(fingerprint) = fingerprint.filter(|_| is_tidy && is_plain)
        && settled::fingerprint(observed, key, context) == Some(fingerprint)
    {
        let settled = Settled { fingerprint, claim: (job.storage.claim.clone(), claim_is_shared), off };
        context.remember(key, uid, |memory| memory.settled = Some(settled));
    }
    let again = if waits_for_turn { UNWATCHED_PERIOD } else { FALLBACK_PERIOD };
    Ok(Outcome { refusal: None, held_back, drains: plan == Plan::Drain, off, again })
}

/// Says what is to be said. Gives when to look again.
async fn report_status(
    observed: &Observed<StreamingJob>,
    outcome: &Outcome,
    context: &Context,
) -> Result<Duration, Error> {
    let (key, uid) = &identity(observed);
    let deployment = context
        .scope
        .children
        .of(ChildKind::Deployment)
        .get(&key.namespace, &key.name)
        .map(|deployment| deployment.value());
    let mut pods = context.scope.pods.of_job(key);
    for pod in &mut pods {
        *pod = volumes::explained(Arc::clone(pod), &context.client).await;
    }
    let current = crate::pod::current(pods.iter().map(Arc::as_ref));
    let facts = status::Facts {
        refusal: outcome.refusal.clone(),
        held_back: outcome.held_back,
        drains: outcome.drains,
        off: outcome.off,
        deployment: deployment.as_ref(),
        pods: &pods,
        report: current.map(|pod| context.reports.state(pod)).unwrap_or_default(),
        now: clock::now(),
    };
    let printed = |text: &str| printed::for_kubectl(text, &key.namespace, &key.name);
    let verdict = verdict(&facts);
    let verdict = Verdict { message: printed(&verdict.message), hint: printed(&verdict.hint), ..verdict };
    let last = last_status(observed, context);
    let mut after = status::status(&last.status, &verdict, &facts, &key.name, observed.metadata.generation);
    let errors = after.last_error.iter_mut().map(|error| &mut error.message);
    for message in errors.chain(after.last_exit.iter_mut().map(|exit| &mut exit.message)) {
        *message = printed(message);
    }
    // A job that was rolled makes room for the next one when it works again.
    if verdict.health.holds(ConditionType::Ready) {
        context.remember(key, uid, |memory| {
            memory.rolled = memory.rolled.filter(|since| clock::since(*since) <= Duration::from_secs(10));
        });
    }
    let is_well = matches!(verdict.reason, Reason::Running | Reason::Suspended);
    let later = if is_well { FALLBACK_PERIOD } else { UNWELL_PERIOD };
    let again = reconcile::report_status(observed, &last, &after, &verdict, later, context).await?;
    Ok(again.min(outcome.again))
}
