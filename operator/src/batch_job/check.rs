//! The check of a job's SQL before its first run: a Job of a few seconds in which the runner's own engine judges the job as a
//! run would begin with it (docs/adr/0025). Pure, but for `ask`.
//!
//! ```text
//! spec not looked at yet -> Job with `validate` -> its last message -> status.check -> the Job goes
//! ```
//!
//! It never keeps a run from starting, and what a later run finds counts more.

use data_platform_crds::batch_job::{BatchJobStatus, CheckStatus, RunStatus};
use data_platform_crds::condition::{Reason, shortened, whole_seconds};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::apply::Desired;
use crate::args::RunnerSettings;
use crate::batch_job::build::{Built, spec_hash};
use crate::batch_job::runs::{Run, run};
use crate::batch_job::validate::ValidatedJob;
use crate::build::metadata;
use crate::build::pod::{self, PodLife, with_config_map};
use crate::cache::{JobKey, JobKind};
use crate::child::{Child, ChildKind, is_check};
use crate::children::{apply_children, has_ended};
use crate::clock;
use crate::context::Context;
use crate::error::Error;
use crate::names::{CHECK_LABEL, CONTAINER, JOB_FILE, JOB_FOLDER, canonical, hashed_name};
use crate::validated::Refusal;
use data_platform_crds::amount::billionths;

/// Exit code of a runner that refuses the job.
const EXIT_REFUSED: i32 = 2;
/// How long a job may be called not ready because its check goes on: a node that has to fetch the image takes a minute. A
/// check without an answer after that says nothing more, unless its pod cannot run.
const PATIENCE_SECONDS: i64 = 90;
/// How long one that ended stays, if no operator takes it away.
const KEPT_SECONDS: u64 = 600;
/// Checks of all jobs at a time: an operator that comes to a cluster with hundreds of jobs must not fill it.
const CHECKS_MAX: usize = 5;
/// The most that a check asks for, whatever the job's runs need: it reads a few footers and computes nothing.
const MOST: [(&str, &str); 2] = [("cpu", "250m"), ("memory", "256Mi")];
/// Longest message in a status, in bytes of JSON.
const TEXT_BYTES_MAX: usize = 1024;

/// Whether the spec is still to be looked at: a run of it may be a day away. One that runs at once says itself what is wrong.
fn is_open(job: &ValidatedJob, status: &BatchJobStatus) -> bool {
    let spec = &job.job.spec;
    let waits = spec.schedule.is_some() || spec.suspend;
    waits && status.check.as_ref().is_none_or(|check| check.spec_hash != spec_hash(job))
}

/// The Job, named by what it looks at and how: one whose image cannot be had is another one when the image is right.
pub fn build(job: &ValidatedJob, built: &Built, settings: &RunnerSettings, claim_is_shared: bool) -> Desired {
    let life = PodLife { ends: true, stop_seconds: 1, env: Vec::new() };
    let mut template = with_config_map(&pod::template(job, &life, settings, claim_is_shared), &built.config_map.name);
    let container = &mut template["spec"]["containers"][0];
    container["args"] = json!(["validate", "--config", format!("{JOB_FOLDER}/{JOB_FILE}")]);
    bound(&mut container["resources"]);
    template["metadata"]["labels"][CHECK_LABEL] = "true".into();
    // What a run needs is looked at when it starts.
    if let Some(spec) = template["spec"].as_object_mut() {
        spec.remove("initContainers");
    }
    let name = hashed_name(&job.name, &format!("check {} {}", spec_hash(job), canonical(&template)));
    let mut metadata = metadata(job, &name);
    metadata["labels"][CHECK_LABEL] = "true".into();
    let spec = json!({
        "backoffLimit": 2,
        "ttlSecondsAfterFinished": KEPT_SECONDS,
        "podFailurePolicy": {"rules": [
            {"action": "FailJob", "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": [EXIT_REFUSED]}},
        ]},
        "template": template,
    });
    Desired::new(ChildKind::Job, json!({"metadata": metadata, "spec": spec}))
}

/// Lowers what a container asks for. What is neither CPU nor memory, such as a device, it does not need.
fn bound(resources: &mut Value) {
    for part in ["requests", "limits"] {
        let Some(amounts) = resources[part].as_object_mut() else { continue };
        amounts.retain(|name, _| matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage"));
        for (name, most) in MOST {
            let Some(amount) = amounts.get_mut(name) else { continue };
            if amount.as_str().and_then(billionths) > billionths(most) {
                *amount = most.into();
            }
        }
    }
}

/// What a check came to, once it has ended one way or another. One that could not judge says nothing: the first run will.
fn answer(check: &Run, job: &ValidatedJob, last: Option<&RunStatus>) -> Option<CheckStatus> {
    let answered = |time: Timestamp, refusal: Option<(Reason, &str)>| CheckStatus {
        spec_hash: spec_hash(job),
        time: Time(whole_seconds(time)),
        reason: refusal.map(|(reason, _)| reason.name().to_owned()),
        message: refusal.map(|(_, message)| shortened(message, TEXT_BYTES_MAX)).unwrap_or_default(),
    };
    // The pod is seen to end before its Job is.
    if let Some(exit) = check.exit.as_ref().filter(|exit| exit.code == EXIT_REFUSED) {
        // Without words of the runner it is one that has no such check.
        let refusal = exit.run.is_some().then_some((exit.reason, exit.message.as_str()));
        return Some(answered(exit.time, refusal));
    }
    let ended = check.ended.as_ref();
    // Where the pod refused the job, it has the reason, and is seen by another watch.
    let ended = ended.filter(|ended| ended.succeeded || ended.reason != "PodFailurePolicy").map(|ended| ended.time);
    let overtaken =
        last.and_then(|run| run.start_time.as_ref()).map(|time| time.0).filter(|began| *began > check.created);
    ended.or(overtaken).map(|time| answered(time, None))
}

/// What is known of the check of a job.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asked {
    /// It is under way, and nothing says that it will not come to an answer.
    pub is_pending: bool,
    /// What keeps its pod from running, if something does.
    pub trouble: Option<(Reason, String)>,
    /// The answer, if one has just come.
    pub answer: Option<CheckStatus>,
    /// The objects that are to stay until the answer is written.
    pub objects: Vec<Desired>,
}

/// Sees to it that a spec nobody has looked at is looked at.
///
/// # Errors
///
/// The API server's. A Job that it does not take is no error: the job goes on without the check.
pub async fn ask(
    job: &ValidatedJob,
    built: &Built,
    status: &BatchJobStatus,
    claim_is_shared: bool,
    context: &Context,
) -> Result<Asked, Error> {
    if !context.settings.checks || !is_open(job, status) {
        return Ok(Asked::default());
    }
    let wanted = build(job, built, &context.settings, claim_is_shared);
    let uid = job.owner.uid.as_str();
    let jobs = context.scope.children.of(ChildKind::Job);
    let live = jobs.get(&wanted.namespace, &wanted.name);
    let live = live.filter(|live| live.is_owned_by(uid));
    let objects = vec![built.config_map.clone(), wanted];
    let Some(live) = live else {
        if jobs.all().iter().filter(|job| is_young_check(job)).count() >= CHECKS_MAX {
            return Ok(Asked::default());
        }
        let is_pending = apply_children(&objects, uid, context).await?.is_none();
        return Ok(Asked { is_pending, objects, ..Asked::default() });
    };
    let key = JobKey { kind: JobKind::Batch, namespace: job.namespace.clone(), name: job.name.clone() };
    let Some(check) = run(&live, &context.scope.pods.of_job(&key)) else {
        return Ok(Asked { objects, ..Asked::default() });
    };
    let answer = answer(&check, job, status.last_run.as_ref());
    let trouble = check.pod.as_ref().filter(|pod| !pod.ever_ran).and_then(|pod| pod.trouble.clone());
    Ok(Asked {
        is_pending: answer.is_none() && is_young_check(&live),
        trouble: trouble.filter(|_| answer.is_none()),
        answer,
        objects,
    })
}

/// Whether a Job is a check that goes on and may still come to an answer soon.
fn is_young_check(job: &Child) -> bool {
    let metadata = job.metadata();
    let created = metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second());
    is_check(&metadata)
        && metadata.deletion_timestamp.is_none()
        && clock::now().as_second() - created < PATIENCE_SECONDS
        && !has_ended(&job.value())
}

/// What was found wrong with a spec before a run of it could: a run that began later counts more.
pub fn refusal(check: Option<&CheckStatus>, last: Option<&RunStatus>, spec: Option<&str>) -> Option<Refusal> {
    let check = check.filter(|check| spec == Some(check.spec_hash.as_str()))?;
    let reason = Reason::from_name(check.reason.as_deref()?).unwrap_or(Reason::InvalidSpec);
    let began = last.and_then(|run| run.start_time.as_ref());
    began.is_none_or(|began| began.0 <= check.time.0).then(|| (reason, check.message.clone()))
}
