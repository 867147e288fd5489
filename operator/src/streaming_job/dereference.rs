//! What a reconcile has to know beside the resource itself and its claim: what its pods were made from, how they are.
//! Children and pods come from the caches.

use std::sync::Arc;

use data_platform_crds::condition::Reason;
use data_platform_crds::streaming_job::StreamingJob;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use serde_json::Value;

use crate::cache::JobKey;
use crate::context::Context;
use crate::error::Error;
use crate::observed::Observed;
use crate::pod::current;
use crate::streaming_job::build::{self, Built, made_from};
use crate::streaming_job::rollout::{Facts, Made};
use crate::streaming_job::status::Heard;
use crate::streaming_job::validate::ValidatedJob;

/// What a ConfigMap of the job says of what was made with it; `None`: it is gone, or cannot be read.
async fn read(job: &ValidatedJob, revision: String, name: String, context: &Context) -> Result<Option<Made>, Error> {
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), &job.namespace);
    let found = api.get_opt(&name).await.map_err(Error::api(format!("read the ConfigMap {name}")))?;
    let Some(data) = found.and_then(|config_map| config_map.data) else { return Ok(None) };
    Ok(build::made(revision, name, &serde_json::to_value(data).unwrap_or(Value::Null)))
}

/// What the Deployment in the cluster was made from, if that is anything else than what was just built; `None`: it is
/// the same, there is none, or nobody can say any more. A ConfigMap is read once: they never change.
pub(super) async fn made(
    job: &ValidatedJob,
    built: &Built,
    key: &JobKey,
    uid: &str,
    context: &Context,
) -> Result<Option<Arc<Made>>, Error> {
    let live = context.scope.deployments.get(&job.namespace, &job.name);
    let live = live.filter(|live| crate::observed::controller(&live.metadata).is_some_and(|owner| owner.uid == uid));
    let from = live.and_then(|live| made_from(&live.value()));
    let Some((revision, name)) = from.filter(|(_, name)| *name != built.config_map.name) else {
        context.remember(key, uid, |memory| memory.made = None);
        return Ok(None);
    };
    let is_known = |made: &Arc<Made>| made.config_map == name && made.revision == revision;
    if let Some(known) = context.remember(key, uid, |memory| memory.made.clone().filter(is_known)) {
        // The ConfigMap may have been deleted meanwhile; then there is nothing to keep.
        if context.scope.config_maps.get(&job.namespace, &name).is_some() {
            return Ok(Some(known));
        }
    }
    let found = read(job, revision, name, context).await?.map(Arc::new);
    context.remember(key, uid, |memory| memory.made.clone_from(&found));
    Ok(found)
}

/// What the rollout of a job depends on.
pub(super) fn rollout_facts<'a>(
    made: Option<&'a Made>,
    job: &ValidatedJob,
    key: &JobKey,
    uid: &str,
    observed: &Observed<StreamingJob>,
    context: &Context,
) -> Facts<'a> {
    let pods = context.scope.pods.of_job(key);
    let pod = current(pods.iter().map(Arc::as_ref)).filter(|pod| !pod.is_leaving());
    let heard = pod.map(|pod| context.reports.heard(pod)).unwrap_or_default();
    let (reported_ready, open_windows) = match &heard {
        Heard::Report(report) => (report.ready, report.ready.then_some(report.open_windows)),
        _ => (false, None),
    };
    Facts {
        made,
        mode: context.settings.rollout,
        has_turn: context.may_roll(key),
        is_working: pod.is_some_and(|pod| pod.ready) || reported_ready,
        was_held_back: context.remember(key, uid, |memory| memory.held_back) || said_held_back(observed, made, job),
        open_windows,
    }
}

/// Whether the status says that this very change was held back: another process did that.
fn said_held_back(observed: &Observed<StreamingJob>, made: Option<&Made>, job: &ValidatedJob) -> bool {
    if made.is_none_or(|made| made.revision == job.revision) {
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
