//! From a validated job to its children: ConfigMap, headless Service, Deployment. Pure, and the same for the same input:
//! golden files in `operator/tests/golden` show what comes out.

use data_platform_crds::job::Job;
use data_platform_crds::runner_config::{CONFIG_VERSION, RunnerConfig};
use serde_json::{Value, json};

use crate::apply::{ChildKind, Desired};
use crate::args::RunnerSettings;
use crate::names::{
    HTTP_PORT, JOB_FILE, REVISION, TEMPLATE_FILE, VOLUME_PREFIX, canonical, hashed_name, labels, selector,
};
use crate::streaming_job::rollout::Made;
use crate::streaming_job::validate::{ValidatedJob, secrets_root};

mod pod;

/// The kind that the children's labels name.
const KIND: &str = "StreamingJob";

/// What was built of a job, before anybody decided whether its pods get it.
#[derive(Clone, Debug)]
pub struct Built {
    /// The runner's configuration.
    pub config_map: Desired,
    /// The runner's address.
    pub service: Desired,
    /// The pod template, without the name of the ConfigMap.
    pub template: Value,
}

/// Builds the children of a job. `claim_is_shared`: pods on any node may use its claim at once.
pub fn build(job: &ValidatedJob, settings: &RunnerSettings, claim_is_shared: bool) -> Built {
    let template = pod::template(job, settings, claim_is_shared);
    Built { config_map: config_map(job, &template), service: service(job), template }
}

fn metadata(job: &ValidatedJob, name: &str) -> Value {
    json!({
        "name": name,
        "namespace": job.namespace,
        "labels": labels(KIND, &job.name),
        "annotations": {REVISION: job.revision},
        "ownerReferences": [job.owner],
    })
}

/// The configuration, and beside it the template that was made with it: an operator of another version, that would build
/// another one, repairs with it what this one made. Named by what it holds, so that it never changes under a pod.
fn config_map(job: &ValidatedJob, template: &Value) -> Desired {
    let config = RunnerConfig {
        config_version: CONFIG_VERSION,
        namespace: job.namespace.clone(),
        job: Job::Streaming(Box::new(job.job.clone())),
        outputs_root: job.storage.outputs.clone(),
        checkpoints_root: job.storage.checkpoints.clone(),
        secrets_root: secrets_root(),
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

/// Without an address of its own: names lead to the pod itself, also while it is not ready, since then its pages say why.
fn service(job: &ValidatedJob) -> Desired {
    let mut metadata = metadata(job, &job.name);
    // It depends on the name alone: another spec is no reason to write it.
    metadata["annotations"] = json!({});
    let object = json!({
        "metadata": metadata,
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": true,
            "selector": selector(KIND, &job.name),
            "ports": [{"name": "http", "port": HTTP_PORT, "targetPort": "http", "protocol": "TCP"}],
        },
    });
    Desired::new(ChildKind::Service, object)
}

/// The Deployment with a template: the one that was built, or one that is kept. `Recreate`: two runners of one job would
/// fence each other, and an old one has to publish before the new one reads.
pub fn deployment(job: &ValidatedJob, template: &Value, config_map: &str, revision: &str) -> Desired {
    let mut metadata = metadata(job, &job.name);
    metadata["annotations"][REVISION] = revision.into();
    let object = json!({
        "metadata": metadata,
        "spec": {
            "replicas": job.replicas,
            "revisionHistoryLimit": 2,
            "progressDeadlineSeconds": 600,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": selector(KIND, &job.name)},
            "template": pod::with_config_map(template, config_map),
        },
    });
    Desired::new(ChildKind::Deployment, object)
}

/// What the Deployment in the cluster was made from: revision and ConfigMap.
pub fn made_from(deployment: &Value) -> Option<(String, String)> {
    let revision = deployment["metadata"]["annotations"][REVISION].as_str()?;
    let volumes = deployment["spec"]["template"]["spec"]["volumes"].as_array()?;
    let volume = volumes.iter().find(|volume| volume["name"] == format!("{VOLUME_PREFIX}job"))?;
    Some((revision.to_owned(), volume["configMap"]["name"].as_str()?.to_owned()))
}

/// What the data of a ConfigMap of this or an earlier operator say of the job that runs.
pub fn made(revision: String, config_map: String, data: &Value) -> Option<Made> {
    let config: Value = serde_json::from_str(data[JOB_FILE].as_str()?).ok()?;
    let Job::Streaming(job) = Job::from_value(config["job"].clone()).ok()?;
    let template = serde_json::from_str(data[TEMPLATE_FILE].as_str()?).ok()?;
    Some(Made { revision, config_map, template, job: *job })
}

/// Names of the ConfigMaps that a pod mounts.
pub fn mounted(pod_spec: &Value) -> Vec<String> {
    let volumes = pod_spec["volumes"].as_array().into_iter().flatten();
    volumes.filter_map(|volume| volume["configMap"]["name"].as_str().map(str::to_owned)).collect()
}
