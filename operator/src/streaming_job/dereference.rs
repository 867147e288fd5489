//! What a reconcile has to know beside the resource itself and its claim: what its pods were made from, how they are.
//! Children and pods come from the caches.

use std::sync::Arc;

use data_platform_crds::condition::Reason;
use data_platform_crds::runner_status::{DRAINED, Phase, RunnerStatus};
use data_platform_crds::streaming_job::StreamingJob;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use serde_json::Value;

use crate::cache::JobKey;
use crate::child::ChildKind;
use crate::context::Context;
use crate::error::Error;
use crate::memory::DeployedRevision;
use crate::observed::Observed;
use crate::pod::current;
use crate::reports::ReportState;
use crate::streaming_job::build::{self, Built, deployed_from};
use crate::streaming_job::rollout::Facts;
use crate::streaming_job::validate::ValidatedJob;

/// What a ConfigMap of the job says of what was made with it; `None`: it is gone, or cannot be read.
async fn read(
    job: &ValidatedJob,
    revision: String,
    name: String,
    context: &Context,
) -> Result<Option<DeployedRevision>, Error> {
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), &job.namespace);
    let found = api.get_opt(&name).await.map_err(Error::api(format!("read the ConfigMap {name}")))?;
    let Some(data) = found.and_then(|config_map| config_map.data) else { return Ok(None) };
    Ok(build::deployed_revision(revision, name, &serde_json::to_value(data).unwrap_or(Value::Null)))
}

/// What the Deployment in the cluster was made from, if that is anything else than what was just built; `None`: it is
/// the same, there is none, or nobody can say any more. A ConfigMap is read once: they never change.
pub(super) async fn deployed(
    job: &ValidatedJob,
    built: &Built,
    key: &JobKey,
    uid: &str,
    context: &Context,
) -> Result<Option<Arc<DeployedRevision>>, Error> {
    let from = live(job, uid, context).and_then(|live| deployed_from(&live));
    let Some((revision, name)) = from.filter(|(_, name)| *name != built.config_map.name) else {
        context.remember(key, uid, |memory| memory.deployed = None);
        return Ok(None);
    };
    let is_known = |known: &Arc<DeployedRevision>| known.config_map == name && known.revision == revision;
    if let Some(known) = context.remember(key, uid, |memory| memory.deployed.clone().filter(is_known)) {
        // The ConfigMap may have been deleted meanwhile; then there is nothing to keep.
        if context.scope.children.of(ChildKind::ConfigMap).get(&job.namespace, &name).is_some() {
            return Ok(Some(known));
        }
    }
    let found = read(job, revision, name, context).await?.map(Arc::new);
    context.remember(key, uid, |memory| memory.deployed.clone_from(&found));
    Ok(found)
}

/// The job's own Deployment.
pub(super) fn live(job: &ValidatedJob, uid: &str, context: &Context) -> Option<Value> {
    let live = context.scope.children.of(ChildKind::Deployment).get(&job.namespace, &job.name)?;
    crate::observed::controller(&live.metadata).is_some_and(|owner| owner.uid == uid).then(|| live.value())
}

/// What the rollout of a job depends on.
pub(super) fn rollout_facts<'a>(
    deployed: Option<&'a DeployedRevision>,
    job: &ValidatedJob,
    key: &JobKey,
    uid: &str,
    observed: &Observed<StreamingJob>,
    context: &Context,
) -> Facts<'a> {
    let pods = context.scope.pods.of_job(key);
    let pod = current(pods.iter().map(Arc::as_ref)).filter(|pod| !pod.is_leaving());
    let report = pod.map(|pod| context.reports.state(pod)).unwrap_or_default();
    let report = match &report {
        ReportState::Fresh(report) => Some(report),
        _ => None,
    };
    // One that lost Kafka for a moment goes on with its windows when it is back.
    let is_committing = |report: &RunnerStatus| report.ready || report.phase == Phase::Retrying && report.commits > 0;
    let working = report.filter(|report| is_committing(report));
    let is_draining = live(job, uid, context).is_some_and(|live| build::is_draining(&live));
    Facts {
        deployed,
        mode: context.settings.rollout,
        has_turn: context.may_roll(key),
        is_working: pod.is_some_and(|pod| pod.ready) || working.is_some(),
        cannot_start: pod.is_some_and(|pod| !pod.ever_ran && pod.trouble.is_some()),
        was_held_back: context.remember(key, uid, |memory| memory.held_back) || said_held_back(observed, deployed, job),
        is_draining,
        is_drained: is_draining && report.is_some_and(|report| report.reason == DRAINED),
        open_windows: working.map(|report| report.open_windows),
    }
}

/// Whether the status says that this very change was held back: another process did that.
fn said_held_back(observed: &Observed<StreamingJob>, deployed: Option<&DeployedRevision>, job: &ValidatedJob) -> bool {
    if deployed.is_none_or(|deployed| deployed.revision == job.revision) {
        return false;
    }
    let body = observed.body();
    let conditions = body.get("status").and_then(|status| status["conditions"].as_array()).into_iter().flatten();
    conditions.into_iter().any(|condition| {
        condition["type"] == "Stalled"
            && condition["status"] == "True"
            && condition["reason"] == Reason::QueryChanged.name()
            && condition["observedGeneration"].as_i64() == observed.metadata.generation
    })
}
