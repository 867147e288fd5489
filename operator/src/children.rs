//! The children of a job in the cluster: written where they differ, in an order that never leaves a pod without what it
//! mounts, and removed when nothing names them any more.

use std::collections::BTreeSet;

use data_platform_crds::condition::Reason;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};

use crate::apply::{Desired, Step, step};
use crate::build::mounted;
use crate::cache::{JobKey, JobKind};
use crate::child::{Child, ChildKind, ObservedChild, is_check};
use crate::clock;
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
    for desired in children {
        if let Some(refusal) = write(desired, uid, context).await? {
            return Ok(Some(refusal));
        }
    }
    Ok(None)
}

async fn write(desired: &Desired, owner: &str, context: &Context) -> Result<Option<Refusal>, Error> {
    let cache = context.scope.children.of(desired.kind);
    let name = || format!("{} {}", desired.kind.name(), desired.name);
    let cached = cache.get(&desired.namespace, &desired.name);
    let seen = cached.as_ref().map(|object| (object.metadata(), live(desired, object)));
    let mut decided = step(desired, seen.as_ref().map(|(metadata, live)| (metadata, live)), owner);
    if decided == Step::Create {
        match context.writer.apply(desired, None).await {
            // The cache knows only what carries the operator's label: whose is it?
            Err(kube::Error::Api(answer)) if answer.code == 409 => {
                let found =
                    context.writer.seen(desired).await.map_err(Error::api(format!("look for the {}", name())))?;
                let live = json!({"metadata": found});
                decided = step(desired, found.as_ref().map(|metadata| (metadata, &live)), owner);
            }
            created => return note(created, desired, context),
        }
    }
    let uid = match decided {
        Step::Nothing => return Ok(None),
        // It is gone again.
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
    note(applied, desired, context)
}

/// Takes up what the API server made of a write.
fn note(applied: Result<Child, kube::Error>, desired: &Desired, context: &Context) -> Result<Option<Refusal>, Error> {
    let name = || format!("{} {}", desired.kind.name(), desired.name);
    let written = applied.map_err(Error::api(format!("apply the {}", name())))?;
    tracing::debug!(object = name(), "applied");
    context.scope.children.of(desired.kind).note(written);
    Ok(None)
}

/// What is compared of an object. What is named by its content is right by its name: only its metadata are cached.
fn live(desired: &Desired, object: &Child) -> Value {
    let mut live = object.value();
    if desired.kind.is_named_by_content() {
        for field in ["data", "immutable"] {
            live[field] = desired.object[field].clone();
        }
    }
    // What a watch brings does not say of what kind it is.
    live["apiVersion"] = desired.object["apiVersion"].clone();
    live["kind"] = desired.object["kind"].clone();
    live
}

/// Removes children of the job that it no longer has: those of other names, runs once they have ended, and ConfigMaps that
/// no pod and nothing that makes pods names. Whether one does is asked of the API server, not of a cache: a pod that starts
/// without it would hang. Tells whether there was none.
///
/// # Errors
///
/// The API server's.
pub async fn remove_orphans(children: &[Desired], key: &JobKey, uid: &str, context: &Context) -> Result<bool, Error> {
    let scope = &context.scope;
    let mounted_here: Vec<String> = children.iter().flat_map(|child| mounted(pod_spec(&child.object))).collect();
    let is_wanted = |kind: ChildKind, name: &str| {
        let is_kept = kind.is_named_by_content() && mounted_here.iter().any(|mounted| mounted == name);
        is_kept || children.iter().any(|child| child.kind == kind && child.name == name)
    };
    let mut orphans: Vec<(ChildKind, ObjectMeta)> = Vec::new();
    for kind in ChildKind::ALL {
        for found in scope.children.of(kind).of_job(key) {
            let metadata = found.metadata();
            let is_ours = controller(&metadata).is_some_and(|owner| owner.uid == uid);
            let is_left = is_ours
                && metadata.deletion_timestamp.is_none()
                && !is_wanted(kind, metadata.name.as_deref().unwrap_or_default());
            if is_left && (!kind.runs_once() || is_check(&metadata) || has_ended(&found.value())) {
                orphans.push((kind, metadata));
            }
        }
    }
    let is_tidy = orphans.is_empty();
    if orphans.iter().any(|(kind, _)| kind.is_named_by_content()) {
        let named = named(key, context).await?;
        let is_named = |name: &str| named.as_ref().is_none_or(|named| named.contains(name));
        orphans.retain(|(kind, metadata)| {
            !kind.is_named_by_content() || !is_named(metadata.name.as_deref().unwrap_or_default())
        });
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
    Ok(is_tidy)
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
    let api = |kind: ChildKind| {
        Api::<ObservedChild>::namespaced_with(context.client.clone(), &key.namespace, &kind.resource())
    };
    match key.kind {
        JobKind::Streaming => {
            let deployment = api(ChildKind::Deployment).get_opt(&key.name).await;
            let deployment = deployment.map_err(Error::api("read the Deployment"))?;
            named.extend(deployment.iter().flat_map(|found| mounted(pod_spec(&found.value()))));
        }
        JobKind::Batch => {
            let cron_jobs = api(ChildKind::CronJob);
            let metadata = cron_jobs.get_metadata_opt(&key.name).await.map_err(Error::api("read the CronJob"))?;
            if metadata.is_some_and(|found| was_just_changed(&found.metadata, clock::now())) {
                return Ok(None);
            }
            let cron_job = cron_jobs.get_opt(&key.name).await.map_err(Error::api("read the CronJob"))?;
            named.extend(cron_job.iter().flat_map(|found| mounted(pod_spec(&found.value()))));
            for job in api(ChildKind::Job).list(&ours).await.map_err(Error::api("list the Jobs"))? {
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
