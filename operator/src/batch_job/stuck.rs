//! Runs that cannot start and never will: their pods were made from a template that has been corrected since, such as one
//! with an image that cannot be had. A Job keeps its template for ever and `Forbid` lets no other start beside it, so it is
//! made anew, under its own name: the runner reads from that which interval is due.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::apply::covers;
use crate::batch_job::build::Built;
use crate::cache::JobKey;
use crate::child::{ChildKind, is_check};
use crate::children::{apply_children, has_ended};
use crate::context::Context;
use crate::error::Error;
use crate::names::CONTROLLER_UID;
use crate::observed::controller;
use crate::pod::PodFacts;
use crate::validated::Refusal;

/// Annotation of a Job with the time at which it was due.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// Makes runs anew whose pods cannot start as they are and could with the template that is right now. `Some`: something is
/// in the way.
///
/// # Errors
///
/// The API server's.
pub(super) async fn replace(
    built: &Built,
    key: &JobKey,
    uid: &str,
    context: &Context,
) -> Result<Option<Refusal>, Error> {
    let scope = &context.scope;
    let cron_job = scope.children.of(ChildKind::CronJob).get(&key.namespace, &key.name);
    let cron_job = cron_job.filter(|live| live.is_owned_by(uid));
    let cron_job = cron_job.and_then(|live| live.metadata().uid);
    let pods = scope.pods.of_job(key);
    for live in scope.children.of(ChildKind::Job).of_job(key) {
        let metadata = live.metadata();
        let owner = controller(&metadata).map(|owner| owner.uid.as_str());
        let is_scheduled = owner.is_some() && owner == cron_job.as_deref();
        let job = live.value();
        let is_over = metadata.deletion_timestamp.is_some() || has_ended(&job) || is_check(&metadata);
        if is_over || !is_scheduled && owner != Some(uid) || !cannot_start(metadata.uid.as_deref(), &pods) {
            continue;
        }
        let wanted = if is_scheduled { scheduled(&job, &built.scheduler.object) } else { once(&job, built) };
        let Some(wanted) = wanted else { continue };
        let name = metadata.name.clone().unwrap_or_default();
        tracing::info!(namespace = key.namespace, job = key.name, run = name, "its pod cannot start: it is made anew");
        let deleted = context.writer.delete(ChildKind::Job, &metadata).await;
        deleted.map_err(Error::api(format!("delete the Job {name}")))?;
        if let Some(wanted) = wanted {
            // A run without a schedule that is there keeps its configuration: the right one may not be there yet.
            if let Some(refusal) = apply_children(std::slice::from_ref(&built.config_map), uid, context).await? {
                return Ok(Some(refusal));
            }
            let created = context.writer.create(ChildKind::Job, &key.namespace, wanted).await;
            created.map_err(Error::api(format!("create the Job {name}")))?;
        }
    }
    Ok(None)
}

/// Whether no pod of a Job ever ran, and the newest cannot.
fn cannot_start(job: Option<&str>, pods: &[Arc<PodFacts>]) -> bool {
    let of_job = |pod: &&Arc<PodFacts>| {
        pod.metadata.labels.as_ref().and_then(|labels| labels.get(CONTROLLER_UID)).map(String::as_str) == job
    };
    let pods: Vec<&PodFacts> = pods.iter().filter(of_job).map(Arc::as_ref).collect();
    let newest = crate::pod::current(pods.iter().copied());
    pods.iter().all(|pod| !pod.ever_ran) && newest.is_some_and(|pod| pod.trouble.is_some())
}

/// The run of a schedule, made of the schedule's present template; `None`: it is of that already.
fn scheduled(job: &Value, cron_job: &Value) -> Option<Option<Value>> {
    let template = &cron_job["spec"]["jobTemplate"];
    if covers(&job["spec"]["template"], &template["spec"]["template"]) {
        return None;
    }
    let old = &job["metadata"];
    let mut owners = old["ownerReferences"].clone();
    for owner in owners.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        owner.remove("blockOwnerDeletion");
    }
    let mut metadata = json!({
        "name": old["name"], "namespace": old["namespace"], "labels": template["metadata"]["labels"],
        "ownerReferences": owners,
    });
    if let Some(due) = old["annotations"][SCHEDULED].as_str() {
        metadata["annotations"] = json!({SCHEDULED: due});
    }
    let (api_version, kind) = ("batch/v1", "Job");
    Some(Some(json!({"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": template["spec"]})))
}

/// The one run of a job without schedule; `Some(None)`: it computes what is no longer wanted, and goes.
fn once(job: &Value, built: &Built) -> Option<Option<Value>> {
    let own = [Some(&built.scheduler), built.backfill.as_ref()].into_iter().flatten();
    let mut own = own.filter(|own| own.kind == ChildKind::Job && job["metadata"]["name"] == own.name.as_str());
    let Some(wanted) = own.next().map(|own| &own.object) else { return Some(None) };
    (!covers(&job["spec"]["template"], &wanted["spec"]["template"])).then(|| Some(wanted.clone()))
}
