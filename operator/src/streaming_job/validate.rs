//! From a resource to a job that can be built, or why not. Pure.

use std::collections::{BTreeMap, BTreeSet};

use data_platform_crds::condition::Reason;
use data_platform_crds::field_path::FieldPath;
use data_platform_crds::parameters::expand_parameters;
use data_platform_crds::problem::Problem;
use data_platform_crds::resources::{PodSpec, StorageSpec};
use data_platform_crds::streaming_job::StreamingJob;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::ResourceExt;
use serde_json::Value;

use crate::apply::owner_reference;
use crate::args::RunnerSettings;
use crate::names::{DATA_FOLDER, RESTARTED_AT, SECRETS_FOLDER, VOLUME_PREFIX, hash, is_reserved};

/// Environment variables that the operator sets, because its probes and the runner's life in a pod depend on them.
pub const RESERVED_ENV: [&str; 4] =
    ["HTTP_ADDRESS", "DATA_PLATFORM_STAY_UP", "DATA_PLATFORM_NO_LOCK", "TERMINATION_MESSAGE_PATH"];

/// Why a job is not built: the reason of its conditions, and a message.
pub type Refusal = (Reason, String);

/// A job that can be built.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidatedJob {
    /// The resource as the runner gets it: without status, and without metadata that may change while it runs.
    pub job: StreamingJob,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Who owns the children.
    pub owner: OwnerReference,
    /// Where its data are.
    pub storage: Storage,
    /// The Secrets that are mounted.
    pub secrets: BTreeSet<String>,
    /// Names the generation of the spec and the restart annotation: what a user changes to get other pods.
    pub revision: String,
    /// The restart annotation.
    pub restarted_at: Option<String>,
    /// Number of pods.
    pub replicas: i32,
}

/// Where outputs and checkpoints are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// A claim that is mounted.
    pub claim: Option<String>,
    /// Folder or URL.
    pub outputs: String,
    /// Folder or URL.
    pub checkpoints: String,
}

/// Names what a user changes to get other pods. The generation, not a hash of the spec: an upgrade that brings a new field
/// with a default changes the text of every spec, and no generation.
pub fn revision(job: &StreamingJob) -> String {
    let restarted_at = job.annotations().get(RESTARTED_AT).map_or("", String::as_str);
    hash(&format!("{:?} {:?} {restarted_at}", job.metadata.uid, job.metadata.generation))
}

/// Checks what neither the schema nor the rules of the CRD can express, and what the operator needs for itself. The API
/// server has checked the rest, and the runner checks all of it once more before it begins: doing so here, too, would
/// cost 20 ms of processor for each job.
///
/// # Errors
///
/// Every problem, as one message.
pub fn check(job: &StreamingJob) -> Result<(), Refusal> {
    let spec = &job.spec;
    // A template brings its own parameters: the runner, which has the templates, knows them.
    let mut problems = match expand_parameters(spec, &spec.parameters, &BTreeMap::new()) {
        _ if spec.template.is_some() => data_platform_crds::validate::validate(spec),
        Ok(expanded) => data_platform_crds::validate::validate(&expanded),
        Err(problems) => problems,
    };
    if let Some(pod) = &job.spec.pod {
        problems.extend(pod_problems(&FieldPath::root().field("spec").field("pod"), pod));
    }
    problems.retain(Problem::is_error);
    if problems.is_empty() { Ok(()) } else { Err((Reason::InvalidSpec, lines(&problems))) }
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// What the operator needs for itself, a job may not set.
fn pod_problems(path: &FieldPath, pod: &PodSpec) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut refuse = |path: FieldPath, message: String| {
        problems.push(Problem::error(path, message, "leave it out, or choose another"));
    };
    for name in pod.labels.keys().filter(|name| is_reserved(name)) {
        refuse(path.field("labels").field(name), format!("the label {name} is the operator's"));
    }
    for name in pod.annotations.keys().filter(|name| is_reserved(name)) {
        refuse(path.field("annotations").field(name), format!("the annotation {name} is the operator's"));
    }
    for (i, env) in pod.env.iter().enumerate().filter(|(_, env)| RESERVED_ENV.contains(&env.name.as_str())) {
        refuse(path.field("env").index(i).field("name"), format!("the operator sets {}", env.name));
    }
    // A rule of the CRD says the same; a CRD without its rules must not be a way to run other code.
    for (i, env) in pod.env.iter().enumerate().filter(|(_, env)| env.name.starts_with("LD_")) {
        refuse(path.field("env").index(i).field("name"), format!("{} could replace the runner's code", env.name));
    }
    for (i, volume) in pod.volumes.iter().enumerate() {
        let path = path.field("volumes").index(i);
        if volume.name.starts_with(VOLUME_PREFIX) {
            refuse(path.field("name"), format!("volumes whose names begin with {VOLUME_PREFIX} are the operator's"));
        }
        let folder = format!("{}/", volume.mount_path.trim_end_matches('/'));
        let taken =
            [DATA_FOLDER, "/tmp", "/etc/data-platform", "/usr", "/proc", "/sys", "/dev", "/etc/ssl", "/etc/passwd"];
        if let Some(taken) = taken.iter().find(|taken| {
            let taken = format!("{taken}/");
            folder.starts_with(&taken) || taken.starts_with(&folder)
        }) {
            refuse(path.field("mountPath"), format!("{} hides {taken}, which the runner needs", volume.mount_path));
        }
    }
    problems
}

/// Makes a job that can be built from one that passed [`check`].
///
/// # Errors
///
/// The resource lacks what every resource in a cluster has, or the job has no place for its data.
pub fn validate(job: &StreamingJob, settings: &RunnerSettings) -> Result<ValidatedJob, Refusal> {
    let incomplete = || (Reason::InternalError, "the resource has no name, namespace or uid".to_owned());
    let (Some(name), Some(namespace)) = (job.metadata.name.clone(), job.metadata.namespace.clone()) else {
        return Err(incomplete());
    };
    let owner = owner_reference(job).ok_or_else(incomplete)?;
    let replicas = if job.spec.suspend { 0 } else { job.spec.replicas.unwrap_or(1).clamp(0, 1) };
    Ok(ValidatedJob {
        job: for_the_runner(job),
        storage: storage(job.spec.storage.as_ref(), settings)?,
        secrets: secrets(job),
        revision: revision(job),
        restarted_at: job.annotations().get(RESTARTED_AT).cloned(),
        namespace,
        name,
        owner,
        replicas,
    })
}

/// Labels and annotations of the resource may change without a restart; the rank of the runner needs when the job was
/// created and its generation.
fn for_the_runner(job: &StreamingJob) -> StreamingJob {
    let metadata = ObjectMeta {
        name: job.metadata.name.clone(),
        namespace: job.metadata.namespace.clone(),
        uid: job.metadata.uid.clone(),
        creation_timestamp: job.metadata.creation_timestamp.clone(),
        generation: job.metadata.generation,
        ..ObjectMeta::default()
    };
    StreamingJob { metadata, spec: job.spec.clone(), status: None }
}

fn storage(wanted: Option<&StorageSpec>, settings: &RunnerSettings) -> Result<Storage, Refusal> {
    let wanted = wanted.cloned().unwrap_or_default();
    if let Some(claim) = wanted.claim_name {
        return Ok(on_claim(claim));
    }
    // A job that names one URL takes the other from the operator, and only what is left lies in the operator's claim.
    let outputs = wanted.outputs.or_else(|| settings.outputs.clone());
    let checkpoints = wanted.checkpoints.or_else(|| settings.checkpoints.clone());
    match (outputs, checkpoints, settings.claim.clone()) {
        (Some(outputs), Some(checkpoints), _) => Ok(Storage { claim: None, outputs, checkpoints }),
        (outputs, checkpoints, Some(claim)) => {
            let folders = on_claim(claim);
            Ok(Storage {
                outputs: outputs.unwrap_or(folders.outputs),
                checkpoints: checkpoints.unwrap_or(folders.checkpoints),
                claim: folders.claim,
            })
        }
        _ => {
            let cure =
                "set spec.storage.claimName, or both outputs and checkpoints, or give the operator a default storage";
            Err((Reason::StorageMissing, format!("neither the job nor the operator says where its data are: {cure}")))
        }
    }
}

fn on_claim(claim: String) -> Storage {
    Storage {
        claim: Some(claim),
        outputs: format!("{DATA_FOLDER}/outputs"),
        checkpoints: format!("{DATA_FOLDER}/checkpoints"),
    }
}

/// The Secrets that the job's settings name, other than in the environment.
fn secrets(job: &StreamingJob) -> BTreeSet<String> {
    fn collect(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                if let Some(name) = fields.get("secretKeyRef").and_then(|reference| reference["name"].as_str()) {
                    found.insert(name.to_owned());
                }
                fields.values().for_each(|value| collect(value, found));
            }
            Value::Array(elements) => elements.iter().for_each(|value| collect(value, found)),
            _ => {}
        }
    }
    let mut spec = serde_json::to_value(&job.spec).unwrap_or_default();
    if let Some(fields) = spec.as_object_mut() {
        fields.remove("pod");
    }
    let mut found = BTreeSet::new();
    collect(&spec, &mut found);
    found
}

/// Where the runner finds the Secrets.
pub fn secrets_root() -> String {
    SECRETS_FOLDER.to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::streaming_job::tests::{job, settings};

    fn refused(pointer: &str, value: Value) -> Option<String> {
        let mut changed = serde_json::to_value(job()).unwrap();
        changed["spec"][pointer] = value;
        check(&serde_json::from_value(changed).unwrap()).err().map(|(_, message)| message)
    }

    #[test]
    fn what_the_operator_needs_for_itself_a_job_may_not_set() {
        assert_eq!(check(&job()), Ok(()));
        let env = |name: &str| json!({"env": [{"name": name, "value": "x"}]});
        let volume =
            |name: &str, path: &str| json!({"volumes": [{"name": name, "mountPath": path, "emptyDirSize": "1Gi"}]});
        for (pod, names) in [
            (env("HTTP_ADDRESS"), "the operator sets HTTP_ADDRESS"),
            (env("LD_PRELOAD"), "replace the runner's code"),
            (json!({"labels": {"dataplatform.io/job": "other"}}), "the label dataplatform.io/job"),
            (json!({"annotations": {"dataplatform.io/applied": "x"}}), "the annotation"),
            (volume("data-platform-x", "/x"), "begin with data-platform-"),
            (volume("x", "/data/outputs"), "hides /data"),
            (volume("x", "/usr"), "hides /usr"),
            (volume("x", "/etc"), "hides"),
        ] {
            let message = refused("pod", pod.clone()).unwrap_or_else(|| panic!("{pod} passed"));
            assert!(message.contains(names), "{message}");
        }
        assert_eq!(refused("pod", volume("x", "/lookup")), None);
        assert!(refused("trigger", json!({"interval": "9d"})).unwrap().contains("spec.trigger.interval"));
    }

    #[test]
    fn storage_is_the_jobs_or_the_operators_or_missing() {
        let with = |storage: Value, claim: Option<&str>| {
            let mut changed = serde_json::to_value(job()).unwrap();
            changed["spec"]["storage"] = storage;
            let settings = RunnerSettings { claim: claim.map(str::to_owned), ..settings() };
            validate(&serde_json::from_value(changed).unwrap(), &settings).map(|job| job.storage)
        };
        let (on_own, on_default) = (with(json!({"claimName": "own"}), None), with(json!(null), Some("data")));
        assert_eq!(on_own.unwrap().claim.as_deref(), Some("own"));
        assert_eq!(on_default.unwrap().outputs, "/data/outputs");
        let mixed = with(json!({"outputs": "s3://b/o"}), Some("data")).unwrap();
        assert_eq!((mixed.outputs.as_str(), mixed.checkpoints.as_str()), ("s3://b/o", "/data/checkpoints"));
        assert_eq!(with(json!({"outputs": "s3://b/o"}), None).unwrap_err().0, Reason::StorageMissing);
        let urls = with(json!({"outputs": "s3://b/o", "checkpoints": "s3://b/c"}), Some("data")).unwrap();
        assert_eq!(urls.claim, None);
    }
}
