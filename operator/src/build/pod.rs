//! The pod of a runner: restricted, read-only, without rights in Kubernetes; one that stays has probes on its pages.

use data_platform_crds::resources::{EnvSpec, PodSpec, VolumeSpec};
use k8s_openapi::api::core::v1::{Affinity, ResourceRequirements, Toleration};
use serde_json::{Value, json};

use crate::args::RunnerSettings;
use crate::kind::JobResource;
use crate::names::{
    CLAIM_LABEL, CONTAINER, DATA_FOLDER, DOCTOR_CONTAINER, HTTP_PORT, JOB_FILE, JOB_FOLDER, PAGES_FOLDER, RESTARTED_AT,
    SECRETS_FOLDER, TOKEN_FILE, VOLUME_PREFIX, label_value, labels,
};
use crate::pod_defaults::PodDefaults;
use crate::validated::ValidatedJob;

/// The file in which the kubelet looks for the last words of a container.
const TERMINATION_MESSAGE_PATH: &str = "/dev/termination-log";

/// In what the pods of the kinds differ.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodLife {
    /// It ends when its work is done, well or not, and is never started again in place. One that does not end is asked
    /// how it is.
    pub ends: bool,
    /// Seconds that it may take to stop.
    pub stop_seconds: u64,
    /// Variables that the operator sets beside those of every pod.
    pub env: Vec<Value>,
}

/// The pod template of a job, without the name of its ConfigMap.
pub fn template<K: JobResource>(
    job: &ValidatedJob<K>,
    life: &PodLife,
    settings: &RunnerSettings,
    claim_is_shared: bool,
) -> Value {
    let pod = job.job.pod().cloned().unwrap_or_default();
    let defaults = &settings.pod;
    let mut pod_labels = defaults.labels.clone();
    pod_labels.extend(pod.labels.clone());
    pod_labels.extend(labels(K::KIND.name(), &job.name));
    if let Some(claim) = &job.storage.claim {
        pod_labels.insert(CLAIM_LABEL.to_owned(), label_value(claim));
    }
    let mut annotations = defaults.annotations.clone();
    annotations.extend(pod.annotations.clone());
    annotations.extend(job.restarted_at.iter().map(|time| (RESTARTED_AT.to_owned(), time.clone())));
    let (volumes, mounts) = volumes(job, &pod, settings);
    let container = container(&pod, life, settings, &given(job, settings), mounts);
    let doctor = pod.doctor.unwrap_or(settings.doctor).then(|| [doctor(&container)]);
    let mut spec = json!({
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": life.stop_seconds,
        "securityContext": security_context(defaults),
        "containers": [container],
        "volumes": volumes,
    });
    let mut set = |name: &str, value: Value| {
        if !matches!(&value, Value::Null) && value != json!({}) && value != json!([]) {
            spec[name] = value;
        }
    };
    set("initContainers", json!(doctor));
    set("restartPolicy", json!(life.ends.then_some("Never")));
    set("serviceAccountName", json!(pod.service_account_name.as_ref().or(settings.service_account.as_ref())));
    set("priorityClassName", json!(pod.priority_class_name));
    let node_selector = if pod.node_selector.is_empty() { &defaults.node_selector } else { &pod.node_selector };
    set("nodeSelector", json!(node_selector));
    let own = pod.tolerations.iter().map(Toleration::from);
    set("tolerations", json!(own.chain(defaults.tolerations.iter().cloned()).collect::<Vec<_>>()));
    set("topologySpreadConstraints", json!(defaults.topology_spread_constraints));
    set("runtimeClassName", json!(defaults.runtime_class_name));
    set("affinity", affinity(job, pod.affinity.as_ref(), claim_is_shared));
    let pull_secrets: Vec<Value> = settings.image_pull_secrets.iter().map(|name| json!({"name": name})).collect();
    set("imagePullSecrets", json!(pull_secrets));
    json!({"metadata": {"labels": pod_labels, "annotations": annotations}, "spec": spec})
}

/// The template with the name of its ConfigMap.
pub fn with_config_map(template: &Value, name: &str) -> Value {
    let mut template = template.clone();
    let volumes = template["spec"]["volumes"].as_array_mut().into_iter().flatten();
    for volume in volumes.filter(|volume| volume["name"] == format!("{VOLUME_PREFIX}job")) {
        volume["configMap"]["name"] = name.into();
    }
    template
}

/// What the runner is told of the job: where its data are, for whoever runs a command in the pod, since a command of a message
/// works there as it is printed; and that a person ordered it to start again.
fn given<K: JobResource>(job: &ValidatedJob<K>, settings: &RunnerSettings) -> Vec<Value> {
    let places = [
        ("NAMESPACE", &job.namespace),
        ("OUTPUTS_DIR", &job.storage.outputs),
        ("CHECKPOINT_DIR", &job.storage.checkpoints),
    ];
    let restarted_at = job.restarted_at.iter().map(|time| ("DATA_PLATFORM_RESTARTED_AT", time));
    let token_file = settings.http_token.as_ref().map(|_| format!("{PAGES_FOLDER}/{TOKEN_FILE}"));
    let token_file = token_file.iter().map(|file| ("HTTP_TOKEN_FILE", file));
    // A job's own variable of the same name wins: two of one name are none.
    let own = job.job.pod().map(|pod| pod.env.as_slice()).unwrap_or_default();
    let stores = job.storage.variables.iter().filter(|(name, _)| own.iter().all(|own| own.name != *name));
    let stores = stores.map(|(name, value)| (*name, value));
    let credentials = job.storage.credentials.as_ref().map(|secret| format!("{SECRETS_FOLDER}/{secret}"));
    let credentials = credentials.iter().map(|folder| ("STORAGE_CREDENTIALS_DIR", folder));
    let given = places.into_iter().chain(token_file).chain(restarted_at).chain(stores).chain(credentials);
    let given = given.map(|(name, value)| json!({"name": name, "value": value}));
    let pod_uid = json!({"name": "DATA_PLATFORM_POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}});
    given.chain([pod_uid]).collect()
}

fn container(pod: &PodSpec, life: &PodLife, settings: &RunnerSettings, places: &[Value], mounts: Vec<Value>) -> Value {
    let resources = pod.resources.as_ref().map_or_else(|| settings.resources.clone(), ResourceRequirements::from);
    let probe = |path: &str, period: u32, failures: u32| {
        json!({
            "httpGet": {"path": path, "port": "http"},
            "periodSeconds": period, "timeoutSeconds": 5, "failureThreshold": failures,
        })
    };
    let mut container = json!({
        "name": CONTAINER,
        "image": settings.image,
        "args": ["run", "--config", format!("{JOB_FOLDER}/{JOB_FILE}")],
        "env": environment(life, places, &settings.pod.env, &pod.env),
        "ports": [{"name": "http", "containerPort": HTTP_PORT, "protocol": "TCP"}],
        "resources": resources,
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "runAsNonRoot": true,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePath": TERMINATION_MESSAGE_PATH,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    });
    if !life.ends {
        // A runner that waits for Kafka is alive: only one that does not answer at all is started again.
        container["startupProbe"] = probe("/livez", 1, 60);
        container["livenessProbe"] = probe("/livez", 10, 6);
        container["readinessProbe"] = probe("/readyz", 5, 2);
    }
    if let Some(policy) = &settings.image_pull_policy {
        container["imagePullPolicy"] = policy.clone().into();
    }
    container
}

/// What looks before the job's container starts: the same container with another command, and without pages.
fn doctor(container: &Value) -> Value {
    let mut doctor = container.clone();
    doctor["name"] = DOCTOR_CONTAINER.into();
    doctor["args"] = json!(["doctor", "--config", format!("{JOB_FOLDER}/{JOB_FILE}"), "--format", "json"]);
    if let Some(fields) = doctor.as_object_mut() {
        fields.retain(|name, _| name != "ports" && !name.ends_with("Probe"));
    }
    doctor
}

/// Restricted; the ids are the administrator's to choose, or the cluster's.
fn security_context(defaults: &PodDefaults) -> Value {
    let mut context = json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
    let Some(ids) = &defaults.security_context else { return context };
    for (field, id) in [("runAsUser", ids.run_as_user), ("runAsGroup", ids.run_as_group), ("fsGroup", ids.fs_group)] {
        if let Some(id) = id {
            context[field] = id.into();
        }
    }
    if ids.fs_group.is_some() {
        context["fsGroupChangePolicy"] = "OnRootMismatch".into();
    }
    context
}

/// The operator's variables, which a job may not set, the job's, and those that every job has.
fn environment(life: &PodLife, places: &[Value], given: &[Value], own: &[EnvSpec]) -> Vec<Value> {
    let fixed = [
        ("HTTP_ADDRESS", format!("0.0.0.0:{HTTP_PORT}")),
        ("DATA_PLATFORM_STAY_UP", "true".to_owned()),
        ("DATA_PLATFORM_NO_LOCK", "true".to_owned()),
        ("TERMINATION_MESSAGE_PATH", TERMINATION_MESSAGE_PATH.to_owned()),
    ];
    let fixed = fixed.into_iter().filter(|(name, _)| !(life.ends && *name == "DATA_PLATFORM_STAY_UP"));
    let fixed = fixed.map(|(name, value)| json!({"name": name, "value": value}));
    let fixed = fixed.chain(places.iter().cloned()).chain(life.env.iter().cloned());
    let own = own.iter().map(|env| match (&env.value, &env.secret_key_ref) {
        (_, Some(secret)) => {
            json!({"name": env.name, "valueFrom": {"secretKeyRef": {"name": secret.name, "key": secret.key}}})
        }
        (value, None) => json!({"name": env.name, "value": value.clone().unwrap_or_default()}),
    });
    let mut variables: Vec<Value> = fixed.chain(own).collect();
    for variable in given {
        if variables.iter().all(|known| known["name"] != variable["name"]) {
            variables.push(variable.clone());
        }
    }
    variables
}

/// Volumes, and where the container sees them.
fn volumes<K: JobResource>(
    job: &ValidatedJob<K>,
    pod: &PodSpec,
    settings: &RunnerSettings,
) -> (Vec<Value>, Vec<Value>) {
    let (mut volumes, mut mounts) = (Vec::new(), Vec::new());
    let mut add = |name: &str, path: &str, read_only: bool, source: (&str, Value)| {
        let (kind, source) = source;
        volumes.push(json!({"name": name, kind: source}));
        mounts.push(json!({"name": name, "mountPath": path, "readOnly": read_only}));
    };
    let own = |name: &str| format!("{VOLUME_PREFIX}{name}");
    let items = json!([{"key": JOB_FILE, "path": JOB_FILE}]);
    add(&own("job"), JOB_FOLDER, true, ("configMap", json!({"name": "", "items": items})));
    add(&own("tmp"), "/tmp", false, ("emptyDir", json!({})));
    if let Some(claim) = &job.storage.claim {
        add(&own("data"), DATA_FOLDER, false, ("persistentVolumeClaim", json!({"claimName": claim})));
    }
    for (i, secret) in job.secrets.iter().enumerate() {
        // Optional: the runner says which file it misses, and takes it up when it appears. A pod without it would hang.
        let source = json!({"secretName": secret, "optional": true});
        add(&own(&format!("secret-{i}")), &format!("{SECRETS_FOLDER}/{secret}"), true, ("secret", source));
    }
    if let Some(token) = &settings.http_token {
        // Optional: without it the pages are closed, and the job runs.
        let items = json!([{"key": token.key, "path": TOKEN_FILE}]);
        let source = json!({"secretName": token.secret, "items": items, "optional": true});
        add(&own("pages"), PAGES_FOLDER, true, ("secret", source));
    }
    for volume in &pod.volumes {
        add(&volume.name, &volume.mount_path, volume.read_only, source(volume));
    }
    (volumes, mounts)
}

fn source(volume: &VolumeSpec) -> (&'static str, Value) {
    if let Some(claim) = &volume.claim_name {
        return ("persistentVolumeClaim", json!({"claimName": claim}));
    }
    if let Some(secret) = &volume.secret_name {
        return ("secret", json!({"secretName": secret}));
    }
    if let Some(config_map) = &volume.config_map_name {
        return ("configMap", json!({"name": config_map}));
    }
    ("emptyDir", volume.empty_dir_size.map_or_else(|| json!({}), |size| json!({"sizeLimit": size.to_string()})))
}

/// The job's own rules, and with a claim that one node at a time can use: near the others that use it. A preference is
/// enough: the scheduler itself knows where a volume can go, and a rule that must hold would keep the first pod, or the
/// last one after the loss of a node, from every node.
fn affinity<K: JobResource>(job: &ValidatedJob<K>, own: Option<&Affinity>, claim_is_shared: bool) -> Value {
    let mut affinity = json!(own.cloned().unwrap_or_default());
    if let Some(claim) = job.storage.claim.as_ref().filter(|_| !claim_is_shared) {
        let term = json!({
            "weight": 100,
            "podAffinityTerm": {
                "topologyKey": "kubernetes.io/hostname",
                "labelSelector": {"matchLabels": {CLAIM_LABEL: label_value(claim)}},
            },
        });
        let preferred = &mut affinity["podAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"];
        match preferred.as_array_mut() {
            Some(terms) => terms.push(term),
            None => *preferred = json!([term]),
        }
    }
    affinity
}
