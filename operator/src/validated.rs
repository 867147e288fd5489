//! [`ValidatedJob`]: a job of any kind that can be built, and the checks that all kinds share. Pure.

use std::collections::BTreeSet;

use data_platform_crds::condition::Reason;
use data_platform_crds::problem::Problem;
use data_platform_crds::resources::StorageSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::Value;

use crate::allowed::Given;
use crate::apply::owner_reference;
use crate::args::RunnerSettings;
use crate::kind::JobResource;
use crate::names::{DATA_FOLDER, RESTARTED_AT, TAKEOVER, hash};

/// Why a job is not built: the reason of its conditions, and a message.
pub type Refusal = (Reason, String);

/// A job that can be built.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidatedJob<K> {
    /// The resource as the runner gets it: without status, and without metadata that may change while it runs.
    pub job: K,
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
    /// Names the generation of the spec, the restart and the take-over annotation: what a user changes to get other pods.
    pub revision: String,
    /// The restart annotation.
    pub restarted_at: Option<String>,
    /// The take-over annotation.
    pub takeover: Option<i64>,
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
    /// Variables by which object stores are reached.
    pub variables: Vec<(&'static str, String)>,
    /// The Secret with their credentials.
    pub credentials: Option<String>,
}

/// Names what a user changes to get other pods. The generation, not a hash of the spec: an upgrade that brings a new field
/// with a default changes the text of every spec, and no generation.
fn revision(metadata: &ObjectMeta) -> String {
    let restarted_at = annotation(metadata, RESTARTED_AT).unwrap_or_default();
    let takeover = annotation(metadata, TAKEOVER).map(|number| format!(" take-over {number}")).unwrap_or_default();
    hash(&format!("{:?} {:?} {restarted_at}{takeover}", metadata.uid, metadata.generation))
}

fn annotation(metadata: &ObjectMeta, name: &str) -> Option<String> {
    metadata.annotations.as_ref()?.get(name).cloned()
}

fn takeover(metadata: &ObjectMeta) -> Result<Option<i64>, Refusal> {
    let Some(text) = annotation(metadata, TAKEOVER) else { return Ok(None) };
    let number = text.trim().parse().ok().filter(|number| *number >= 0);
    number.map(Some).ok_or_else(|| {
        let message = format!(
            "the annotation {TAKEOVER} is {text:?}: write the number that the message of the fenced runner names, such as \"1\""
        );
        (Reason::InvalidSpec, message)
    })
}

/// Makes a job that can be built from one that was checked.
///
/// # Errors
///
/// The resource lacks what every resource in a cluster has, asks for what is not allowed here, or has no place for its data.
pub fn validate<K: JobResource>(job: &K, settings: &RunnerSettings) -> Result<ValidatedJob<K>, Refusal> {
    let incomplete = || (Reason::InternalError, "the resource has no name, namespace or uid".to_owned());
    let metadata = job.meta();
    let (Some(name), Some(namespace)) = (metadata.name.clone(), metadata.namespace.clone()) else {
        return Err(incomplete());
    };
    let owner = owner_reference(job).ok_or_else(incomplete)?;
    let given = Given { claim: settings.claim.as_ref(), service_account: settings.service_account.as_ref() };
    judge(settings.allowed.problems(job, given))?;
    let storage = storage(job.storage(), settings)?;
    let mut secrets = secrets(job);
    secrets.extend(storage.credentials.clone());
    Ok(ValidatedJob {
        job: for_the_runner(job),
        storage,
        secrets,
        revision: revision(metadata),
        restarted_at: annotation(metadata, RESTARTED_AT),
        takeover: takeover(metadata)?,
        namespace,
        name,
        owner,
    })
}

/// Labels and annotations of the resource may change without a restart; the rank of the runner needs when the job was
/// created and its generation.
fn for_the_runner<K: JobResource>(job: &K) -> K {
    let metadata = job.meta();
    job.with_metadata(ObjectMeta {
        name: metadata.name.clone(),
        namespace: metadata.namespace.clone(),
        uid: metadata.uid.clone(),
        creation_timestamp: metadata.creation_timestamp.clone(),
        generation: metadata.generation,
        ..ObjectMeta::default()
    })
}

/// Refuses a job with problems.
///
/// # Errors
///
/// Every problem, as one message.
pub fn judge(mut problems: Vec<Problem>) -> Result<(), Refusal> {
    problems.retain(Problem::is_error);
    if problems.is_empty() {
        return Ok(());
    }
    let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
    Err((Reason::InvalidSpec, lines.join("; ")))
}

fn storage(wanted: Option<&StorageSpec>, settings: &RunnerSettings) -> Result<Storage, Refusal> {
    let wanted = wanted.cloned().unwrap_or_default().or_stores_of(&settings.stores);
    let (claim, outputs, checkpoints) = places(&wanted, settings)?;
    let variables = wanted.variables(&outputs, &checkpoints);
    Ok(Storage { claim, outputs, checkpoints, variables, credentials: wanted.credentials_secret })
}

/// The claim, and where outputs and checkpoints lie.
type Places = (Option<String>, String, String);

fn places(wanted: &StorageSpec, settings: &RunnerSettings) -> Result<Places, Refusal> {
    if let Some(claim) = &wanted.claim_name {
        return Ok(on_claim(claim.clone()));
    }
    // A job that names one URL takes the other from the operator, and only what is left lies in the operator's claim.
    let outputs = wanted.outputs.clone().or_else(|| settings.outputs.clone());
    let checkpoints = wanted.checkpoints.clone().or_else(|| settings.checkpoints.clone());
    match (outputs, checkpoints, settings.claim.clone()) {
        (Some(outputs), Some(checkpoints), _) => Ok((None, outputs, checkpoints)),
        (outputs, checkpoints, Some(claim)) => {
            let (claim, in_claim, checkpoints_in_claim) = on_claim(claim);
            Ok((claim, outputs.unwrap_or(in_claim), checkpoints.unwrap_or(checkpoints_in_claim)))
        }
        _ => {
            let cure =
                "set spec.storage.claimName, or both outputs and checkpoints, or give the operator a default storage";
            Err((Reason::StorageMissing, format!("neither the job nor the operator says where its data are: {cure}")))
        }
    }
}

fn on_claim(claim: String) -> Places {
    (Some(claim), format!("{DATA_FOLDER}/outputs"), format!("{DATA_FOLDER}/checkpoints"))
}

/// The Secrets that the job's settings name, other than in the environment.
fn secrets<K: JobResource>(job: &K) -> BTreeSet<String> {
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
    let mut job = serde_json::to_value(job).unwrap_or_default();
    let spec = &mut job["spec"];
    if let Some(fields) = spec.as_object_mut() {
        fields.remove("pod");
    }
    let mut found = BTreeSet::new();
    collect(spec, &mut found);
    found
}
