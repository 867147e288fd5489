//! What a reconcile has to know beside the resource itself and its claim: what its pods were made from, how they are.
//! Children and pods come from the caches.

use std::sync::Arc;

use data_platform_crds::condition::Reason;
use data_platform_crds::runner_status::{DRAINED, Phase, RunnerStatus};
use data_platform_crds::streaming_job::StreamingJob;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use serde_json::{Value, json};

use crate::cache::JobKey;
use crate::child::ChildKind;
use crate::context::Context;
use crate::error::Error;
use crate::memory::{DeployedRevision, KeptConfigMap};
use crate::observed::Observed;
use crate::pod::{PodFacts, current};
use crate::reports::ReportState;
use crate::streaming_job::build::{self, Built, deployed_from};
use crate::streaming_job::rollout::Facts;
use crate::streaming_job::validate::ValidatedJob;

/// What the Deployment in the cluster was made from, if that is anything else than what was just built; `None`: it is
/// the same, there is none, or nobody can say any more. A ConfigMap is read once: they never change.
pub(super) async fn deployed(
    live: Option<&Value>,
    job: &ValidatedJob,
    built: &Built,
    key: &JobKey,
    uid: &str,
    context: &Context,
) -> Result<Option<DeployedRevision>, Error> {
    let from = live.and_then(deployed_from);
    let Some((revision, name)) = from.filter(|(_, name)| *name != built.config_map.name) else {
        context.remember(key, uid, |memory| memory.deployed = None);
        return Ok(None);
    };
    let is_known = |known: &Arc<KeptConfigMap>| known.name == name && known.revision == revision;
    let known = context.remember(key, uid, |memory| memory.deployed.clone().filter(is_known));
    // It may have been deleted meanwhile; then there is nothing to keep.
    let is_there = context.scope.children.of(ChildKind::ConfigMap).get(&job.namespace, &name).is_some();
    let kept = match known.filter(|_| is_there) {
        Some(known) => Some(known),
        None => {
            let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), &job.namespace);
            let found = api.get_opt(&name).await.map_err(Error::api(format!("read the ConfigMap {name}")))?;
            let data = found.map(|found| json!(found.data).to_string().into_boxed_str());
            let kept = data.map(|data| Arc::new(KeptConfigMap { revision, name, data }));
            context.remember(key, uid, |memory| memory.deployed.clone_from(&kept));
            kept
        }
    };
    Ok(kept.and_then(|kept| {
        let data = serde_json::from_str(&kept.data).unwrap_or_default();
        build::deployed_revision(kept.revision.clone(), kept.name.clone(), &data)
    }))
}

/// The job's own Deployment.
pub(super) fn live(job: &ValidatedJob, uid: &str, context: &Context) -> Option<Value> {
    let live = context.scope.children.of(ChildKind::Deployment).get(&job.namespace, &job.name)?;
    live.is_owned_by(uid).then(|| live.value())
}

/// The pod that speaks for a job and stays.
fn staying(pods: &[Arc<PodFacts>]) -> Option<&PodFacts> {
    current(pods.iter().map(Arc::as_ref)).filter(|pod| !pod.is_leaving())
}

/// Whether the pod of a job has never run and cannot start.
pub(super) fn cannot_start(pods: &[Arc<PodFacts>]) -> bool {
    staying(pods).is_some_and(|pod| !pod.ever_ran && pod.trouble.is_some())
}

/// What the rollout of a job depends on.
pub(super) fn rollout_facts<'a>(
    live: Option<&Value>,
    deployed: Option<&'a DeployedRevision>,
    job: &ValidatedJob,
    key: &JobKey,
    uid: &str,
    observed: &Observed<StreamingJob>,
    context: &Context,
) -> Facts<'a> {
    let pods = context.scope.pods.of_job(key);
    let pod = staying(&pods);
    let report = pod.map(|pod| context.reports.state(pod)).unwrap_or_default();
    let report = match &report {
        ReportState::Fresh(report) => Some(report),
        _ => None,
    };
    // One that lost Kafka for a moment goes on with its windows when it is back.
    let is_committing = |report: &RunnerStatus| report.ready || report.phase == Phase::Retrying && report.commits > 0;
    let working = report.filter(|report| is_committing(report));
    let is_draining = live.is_some_and(build::is_draining);
    Facts {
        deployed,
        mode: context.settings.rollout,
        has_turn: context.may_roll(key),
        is_working: pod.is_some_and(|pod| pod.ready) || working.is_some(),
        cannot_start: cannot_start(&pods),
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
    let status = observed.field("status");
    status["conditions"].as_array().into_iter().flatten().any(|condition| {
        condition["type"] == "Stalled"
            && condition["status"] == "True"
            && condition["reason"] == Reason::QueryChanged.name()
            && condition["observedGeneration"].as_i64() == observed.metadata.generation
    })
}
