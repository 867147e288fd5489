//! What the children of all kinds of jobs share: metadata, the runner's configuration, and the pod. Pure, and the same
//! for the same input.

use data_platform_crds::runner_config::{CONFIG_VERSION, RunnerConfig};
use serde_json::{Value, json};

use crate::apply::Desired;
use crate::child::ChildKind;
use crate::kind::JobResource;
use crate::names::{JOB_FILE, REVISION, SECRETS_FOLDER, TEMPLATE_FILE, canonical, hashed_name, labels};
use crate::validated::ValidatedJob;

pub mod pod;

/// The metadata of a child.
pub fn metadata<K: JobResource>(job: &ValidatedJob<K>, name: &str) -> Value {
    json!({
        "name": name,
        "namespace": job.namespace,
        "labels": labels(K::KIND.name(), &job.name),
        "annotations": {REVISION: job.revision},
        "ownerReferences": [job.owner],
    })
}

/// The configuration, and beside it the template that was made with it: an operator of another version, that would build
/// another one, repairs with it what this one made. Named by what it holds, so that it never changes under a pod.
pub fn config_map<K: JobResource>(job: &ValidatedJob<K>, template: &Value) -> Desired {
    let config = RunnerConfig {
        config_version: CONFIG_VERSION,
        namespace: job.namespace.clone(),
        job: job.job.clone().into_job(),
        outputs_root: job.storage.outputs.clone(),
        checkpoints_root: job.storage.checkpoints.clone(),
        secrets_root: SECRETS_FOLDER.to_owned(),
    };
    let config = config.to_json().expect("the types of a configuration are JSON");
    let template = canonical(template);
    let name = hashed_name(&job.name, &format!("{config}{template}"));
    let object = json!({
        "metadata": metadata(job, &name),
        "immutable": true,
        "data": {JOB_FILE: config, TEMPLATE_FILE: template},
    });
    Desired::new(ChildKind::ConfigMap, object)
}

/// Names of the ConfigMaps that a pod mounts.
pub fn mounted(pod_spec: &Value) -> Vec<String> {
    let volumes = pod_spec["volumes"].as_array().into_iter().flatten();
    volumes.filter_map(|volume| volume["configMap"]["name"].as_str().map(str::to_owned)).collect()
}
