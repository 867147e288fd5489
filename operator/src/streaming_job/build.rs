//! From a validated job to its children: ConfigMap, headless Service, Deployment. Pure, and the same for the same input:
//! golden files in `operator/tests/golden` show what comes out.

use data_platform_crds::job::Job;
use serde_json::{Value, json};

use crate::apply::Desired;
use crate::args::RunnerSettings;
use crate::build::pod::{self, PodLife};
use crate::build::{config_map, metadata};
use crate::cache::JobKind;
use crate::child::ChildKind;
use crate::memory::DeployedRevision;
use crate::names::{HTTP_PORT, JOB_FILE, RESTARTED_AT, REVISION, TEMPLATE_FILE, VOLUME_PREFIX, selector};
use crate::streaming_job::given_up;
use crate::streaming_job::rollout::Plan;
use crate::streaming_job::validate::{ValidatedJob, replicas};

/// The kind that the children's labels name.
const KIND: &str = JobKind::Streaming.name();
/// What a pod gets beyond the job's own time to stop: the process ends, and the kubelet notices.
const STOP_MARGIN_SECONDS: u64 = 15;
/// The variable by which a runner learns the brokers, before it looks at its job.
const BOOTSTRAP_SERVERS: &str = "KAFKA_BOOTSTRAP_SERVER";

/// The variable by which a runner takes a job over from one that outranks it.
const TAKEOVER: &str = "DATA_PLATFORM_TAKEOVER";
/// The variable by which a runner closes every window and then waits to be stopped.
const DRAIN: &str = "DATA_PLATFORM_DRAIN";

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
    let template = pod::template(job, &life(job, settings), settings, claim_is_shared);
    Built { config_map: config_map(job, &template), service: service(job), template }
}

/// A pod that never ends by itself. The same job runs on a laptop and in a cluster: brokers that it does not name are the
/// operator's to name.
fn life(job: &ValidatedJob, settings: &RunnerSettings) -> PodLife {
    let spec = &job.job.spec;
    let stop_timeout = spec.stop_timeout.as_duration().as_secs();
    let has_brokers = spec.kafka.as_ref().is_some_and(|kafka| kafka.bootstrap_servers.is_some());
    let own_env = spec.pod.iter().flat_map(|pod| &pod.env);
    let names_brokers = has_brokers || own_env.into_iter().any(|env| env.name == BOOTSTRAP_SERVERS);
    let brokers = settings.bootstrap_servers.as_ref().filter(|_| !names_brokers);
    let brokers = brokers.map(|brokers| json!({"name": BOOTSTRAP_SERVERS, "value": brokers}));
    let takeover = job.takeover.map(|number| json!({"name": TAKEOVER, "value": number.to_string()}));
    PodLife {
        ends: false,
        stop_seconds: stop_timeout.saturating_add(STOP_MARGIN_SECONDS),
        env: brokers.into_iter().chain(takeover).collect(),
    }
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
            "replicas": replicas(&job.job),
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
pub fn deployed_from(deployment: &Value) -> Option<(String, String)> {
    let revision = deployment["metadata"]["annotations"][REVISION].as_str()?;
    let volumes = deployment["spec"]["template"]["spec"]["volumes"].as_array()?;
    let volume = volumes.iter().find(|volume| volume["name"] == format!("{VOLUME_PREFIX}job"))?;
    Some((revision.to_owned(), volume["configMap"]["name"].as_str()?.to_owned()))
}

/// What the data of a ConfigMap of this or an earlier operator say of the job that runs.
pub fn deployed_revision(revision: String, config_map: String, data: &Value) -> Option<DeployedRevision> {
    let config: Value = serde_json::from_str(data[JOB_FILE].as_str()?).ok()?;
    let Job::Streaming(job) = Job::from_value(config["job"].clone()).ok()? else { return None };
    let template = serde_json::from_str(data[TEMPLATE_FILE].as_str()?).ok()?;
    Some(DeployedRevision { revision, config_map, template, job: *job })
}

/// What is there already, and how it is.
#[derive(Clone, Debug, Default)]
pub struct Kept<'a> {
    /// What the running Deployment was made from, if that is anything else than what was built now.
    pub deployed: Option<&'a DeployedRevision>,
    /// The pod cannot start as it is.
    pub cannot_start: bool,
    /// When a pod was given up.
    pub given_up: Option<String>,
}

/// The children of a job as they should be, in the order in which they are written: a pod needs its ConfigMap, and its
/// name should lead somewhere when it starts. The Deployment comes last.
pub fn children(job: &ValidatedJob, built: &Built, kept: &Kept<'_>, plan: Plan) -> Vec<Desired> {
    let marked = |template| given_up::marked(template, kept.given_up.as_deref());
    match kept.deployed.filter(|_| plan != Plan::Roll) {
        // The ConfigMap that is kept is not written: it is there, and never changes.
        Some(deployed) => {
            let template = marked(kept_template(job, built, deployed, plan, kept.cannot_start));
            let deployment = deployment(job, &template, &deployed.config_map, &deployed.revision);
            vec![built.service.clone(), deployment]
        }
        None => {
            let template = marked(built.template.clone());
            let deployment = deployment(job, &template, &built.config_map.name, &job.revision);
            vec![built.config_map.clone(), built.service.clone(), deployment]
        }
    }
}

/// The template that is kept. While a change is held back the restart annotation still restarts the old job, and a pod that
/// cannot start gets the image that is right now.
fn kept_template(
    job: &ValidatedJob,
    built: &Built,
    deployed: &DeployedRevision,
    plan: Plan,
    cannot_start: bool,
) -> Value {
    let mut template = deployed.template.clone();
    if plan == Plan::Keep {
        return template;
    }
    if let Some(time) = &job.restarted_at {
        template["metadata"]["annotations"][RESTARTED_AT] = time.as_str().into();
    }
    if cannot_start {
        for field in ["image", "imagePullPolicy"] {
            template["spec"]["containers"][0][field] = built.template["spec"]["containers"][0][field].clone();
        }
        template["spec"]["imagePullSecrets"] = built.template["spec"]["imagePullSecrets"].clone();
        remove_nulls(&mut template["spec"]);
        remove_nulls(&mut template["spec"]["containers"][0]);
    }
    if plan == Plan::Drain
        && let Some(env) = template["spec"]["containers"][0]["env"].as_array_mut()
    {
        env.insert(0, json!({"name": DRAIN, "value": "true"}));
    }
    template
}

fn remove_nulls(object: &mut Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
}

/// Whether a Deployment closes the windows of its job.
pub fn is_draining(deployment: &Value) -> bool {
    let env = deployment["spec"]["template"]["spec"]["containers"][0]["env"].as_array().into_iter().flatten();
    env.into_iter().any(|variable| variable["name"] == DRAIN)
}
