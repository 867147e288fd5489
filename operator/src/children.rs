//! The children of a job in the cluster: written where they differ, in an order that never leaves a pod without what it
//! mounts, and removed when nothing names them any more.

use std::collections::BTreeSet;

use data_platform_crds::condition::Reason;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};

use crate::apply::{ChildKind, Desired, Step, step};
use crate::build::mounted;
use crate::cache::{Cache, JobKey, JobKind};
use crate::context::Context;
use crate::error::Error;
use crate::names::{FIELD_MANAGER, selector};
use crate::observed::{Observed, controller};
use crate::validated::Refusal;

/// How long a Job may still be made from the template that a CronJob had: far above the lag of any cache. What is then of no
/// use goes at a later reconcile.
const TEMPLATE_SECONDS: i64 = 60;

/// Writes what differs, in the order that is given. `Some`: something is in the way, or the API server does not take it.
///
/// # Errors
///
/// The API server's, where trying again may help.
pub async fn apply_children(children: &[Desired], uid: &str, context: &Context) -> Result<Option<Refusal>, Error> {
    match write_all(children, uid, context).await {
        Err(error) => match error.refusal() {
            Some(refusal) => {
                tracing::warn!(error = %crate::error::chain(&error), "refused");
                Ok(Some(refusal))
            }
            None => Err(error),
        },
        written => written,
    }
}

async fn write_all(children: &[Desired], uid: &str, context: &Context) -> Result<Option<Refusal>, Error> {
    let scope = &context.scope;
    for desired in children {
        let blocked = match desired.kind {
            ChildKind::ConfigMap => write(desired, &scope.config_maps, uid, context).await?,
            ChildKind::Service => write(desired, &scope.services, uid, context).await?,
            ChildKind::Deployment => write(desired, &scope.deployments, uid, context).await?,
            ChildKind::CronJob => write(desired, &scope.cron_jobs, uid, context).await?,
            ChildKind::Job => write(desired, &scope.jobs, uid, context).await?,
        };
        if let Some(refusal) = blocked {
            return Ok(Some(refusal));
        }
    }
    Ok(None)
}

async fn write<K>(
    desired: &Desired,
    cache: &Cache<Observed<K>>,
    owner: &str,
    context: &Context,
) -> Result<Option<Refusal>, Error> {
    let name = || format!("{} {}", desired.kind.name(), desired.name);
    let cached = cache.get(&desired.namespace, &desired.name);
    let seen = cached.as_ref().map(|object| (&object.metadata, live(desired, object)));
    let mut decided = step(desired, seen.as_ref().map(|(metadata, live)| (*metadata, live)), owner);
    if decided == Step::Create {
        // The cache knows only what carries the operator's label: somebody else's object would not be in it.
        let found = context.writer.seen(desired).await.map_err(Error::api(format!("look for the {}", name())))?;
        if let Some(metadata) = found {
            let live = json!({"metadata": metadata});
            decided = step(desired, Some((&metadata, &live)), owner);
        }
    }
    let uid = match decided {
        Step::Nothing => return Ok(None),
        Step::Create => None,
        Step::Change { uid } => Some(uid),
        Step::LeaveTaken { owner } => {
            let message = format!("there is a {} already, and {owner}", name());
            return Ok(Some((Reason::NameTaken, message)));
        }
        Step::WaitForDeletion => {
            let message = format!("the {} of a job of the same name is still being deleted", name());
            return Ok(Some((Reason::Starting, message)));
        }
    };
    let mut applied = context.writer.apply(desired, uid.as_deref()).await;
    if let (Err(kube::Error::Api(answer)), Some((metadata, _)), Some(_)) = (&applied, &seen, &uid)
        && answer.code == 422
        && desired.kind == ChildKind::Service
    {
        // Somebody changed what apply cannot merge back: ports are told apart by their numbers. Nothing but names hangs on
        // a headless Service, so it is made anew.
        context.writer.delete(desired.kind, metadata).await.map_err(Error::api(format!("delete the {}", name())))?;
        applied = context.writer.apply(desired, None).await;
    }
    let written = applied.map_err(Error::api(format!("apply the {}", name())))?;
    tracing::debug!(object = name(), "applied");
    cache.note(kept(desired.kind, written));
    Ok(None)
}

/// What is compared of an object. Of a ConfigMap only the metadata are cached: it is immutable and named by its content.
fn live<K>(desired: &Desired, object: &Observed<K>) -> Value {
    let mut live = object.value();
    if desired.kind == ChildKind::ConfigMap {
        for field in ["data", "immutable"] {
            live[field] = desired.object[field].clone();
        }
    }
    // What a watch brings does not say of what kind it is.
    live["apiVersion"] = desired.object["apiVersion"].clone();
    live["kind"] = desired.object["kind"].clone();
    live
}

/// What is cached of an answer.
fn kept<K>(kind: ChildKind, written: Observed<K>) -> Observed<K> {
    match kind {
        ChildKind::ConfigMap => Observed::new(written.metadata, serde_json::Map::new()),
        _ => written,
    }
}

/// Removes children of the job that it no longer has: those of other names, Jobs once they have ended, and ConfigMaps that
/// no pod and nothing that makes pods names. Whether one does is asked of the API server, not of a cache: a pod that starts
/// without it would hang.
///
/// # Errors
///
/// The API server's.
pub async fn remove_orphans(children: &[Desired], key: &JobKey, uid: &str, context: &Context) -> Result<(), Error> {
    let scope = &context.scope;
    let mounted_here: Vec<String> = children.iter().flat_map(|child| mounted(pod_spec(&child.object))).collect();
    let is_wanted = |kind: ChildKind, name: &str| {
        let is_kept = kind == ChildKind::ConfigMap && mounted_here.iter().any(|mounted| mounted == name);
        is_kept || children.iter().any(|child| child.kind == kind && child.name == name)
    };
    let orphan = |kind: ChildKind, metadata: &ObjectMeta| {
        let is_ours = controller(metadata).is_some_and(|owner| owner.uid == uid);
        is_ours
            && metadata.deletion_timestamp.is_none()
            && !is_wanted(kind, metadata.name.as_deref().unwrap_or_default())
    };
    let mut orphans: Vec<(ChildKind, ObjectMeta)> = Vec::new();
    for found in scope.deployments.of_job(key) {
        if orphan(ChildKind::Deployment, &found.metadata) {
            orphans.push((ChildKind::Deployment, found.metadata.clone()));
        }
    }
    for found in scope.services.of_job(key) {
        if orphan(ChildKind::Service, &found.metadata) {
            orphans.push((ChildKind::Service, found.metadata.clone()));
        }
    }
    for found in scope.cron_jobs.of_job(key) {
        if orphan(ChildKind::CronJob, &found.metadata) {
            orphans.push((ChildKind::CronJob, found.metadata.clone()));
        }
    }
    for found in scope.jobs.of_job(key) {
        if orphan(ChildKind::Job, &found.metadata) && has_ended(&found.value()) {
            orphans.push((ChildKind::Job, found.metadata.clone()));
        }
    }
    let mut config_maps: Vec<ObjectMeta> = Vec::new();
    for found in scope.config_maps.of_job(key) {
        if orphan(ChildKind::ConfigMap, &found.metadata) {
            config_maps.push(found.metadata.clone());
        }
    }
    if !config_maps.is_empty() {
        let named = named(key, context).await?;
        config_maps.retain(|metadata| {
            named.as_ref().is_some_and(|named| !named.contains(metadata.name.as_deref().unwrap_or_default()))
        });
        orphans.extend(config_maps.into_iter().map(|metadata| (ChildKind::ConfigMap, metadata)));
    }
    for (kind, metadata) in orphans {
        let name = metadata.name.clone().unwrap_or_default();
        context
            .writer
            .delete(kind, &metadata)
            .await
            .map_err(Error::api(format!("delete the {} {name}", kind.name())))?;
        tracing::info!(
            namespace = key.namespace,
            job = key.name,
            kind = kind.name(),
            name,
            "removed what the job no longer has"
        );
    }
    Ok(())
}

/// The ConfigMaps that are named at this moment by pods of the job that may still start, and by what makes such pods;
/// `None`: pods may still be made from a template that was there a moment ago.
async fn named(key: &JobKey, context: &Context) -> Result<Option<BTreeSet<String>>, Error> {
    let labels: Vec<String> =
        selector(key.kind.name(), &key.name).iter().map(|(name, value)| format!("{name}={value}")).collect();
    let ours = ListParams::default().labels(&labels.join(","));
    let mut named: BTreeSet<String> = BTreeSet::new();
    let pods: Api<Observed<Pod>> = Api::namespaced(context.client.clone(), &key.namespace);
    for pod in pods.list(&ours).await.map_err(Error::api("list the pods"))? {
        let pod = pod.value();
        if !matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed")) {
            named.extend(mounted(&pod["spec"]));
        }
    }
    match key.kind {
        JobKind::Streaming => {
            let deployments: Api<Observed<Deployment>> = Api::namespaced(context.client.clone(), &key.namespace);
            let deployment = deployments.get_opt(&key.name).await.map_err(Error::api("read the Deployment"))?;
            named.extend(deployment.iter().flat_map(|found| mounted(pod_spec(&found.value()))));
        }
        JobKind::Batch => {
            let cron_jobs: Api<Observed<CronJob>> = Api::namespaced(context.client.clone(), &key.namespace);
            let metadata = cron_jobs.get_metadata_opt(&key.name).await.map_err(Error::api("read the CronJob"))?;
            if metadata.is_some_and(|found| was_just_changed(&found.metadata, Timestamp::now())) {
                return Ok(None);
            }
            let cron_job = cron_jobs.get_opt(&key.name).await.map_err(Error::api("read the CronJob"))?;
            named.extend(cron_job.iter().flat_map(|found| mounted(pod_spec(&found.value()))));
            let jobs: Api<Observed<Job>> = Api::namespaced(context.client.clone(), &key.namespace);
            for job in jobs.list(&ours).await.map_err(Error::api("list the Jobs"))? {
                let job = job.value();
                if !has_ended(&job) {
                    named.extend(mounted(pod_spec(&job)));
                }
            }
        }
    }
    Ok(Some(named))
}

/// Whether the operator changed the object a moment ago. Whoever makes Jobs from a CronJob has read it before: the controller
/// from a cache that lags behind, and `kubectl create job --from` in a call of its own.
fn was_just_changed(metadata: &ObjectMeta, now: Timestamp) -> bool {
    let ours = metadata
        .managed_fields
        .iter()
        .flatten()
        .filter(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER) && entry.subresource.is_none());
    let changed = ours.filter_map(|entry| entry.time.as_ref()).map(|time| time.0).max();
    changed.is_some_and(|changed| now.as_second() - changed.as_second() < TEMPLATE_SECONDS)
}

/// The pods' spec in an object that makes pods.
fn pod_spec(object: &Value) -> &Value {
    let spec = &object["spec"];
    let spec = if spec["jobTemplate"].is_null() { spec } else { &spec["jobTemplate"]["spec"] };
    &spec["template"]["spec"]
}

/// Whether a Job has ended, well or not.
pub fn has_ended(job: &Value) -> bool {
    let conditions = job["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|condition| {
        matches!(condition["type"].as_str(), Some("Complete" | "Failed")) && condition["status"] == "True"
    })
}
