//! What the pods of a job may not ask for: whatever would make of them more than a runner that reads, computes and writes.
//!
//! The rules of the CRD refuse most of it when a job is applied. All of it stands here once more, because a CRD that
//! somebody applied without its rules must not be a way to run other code, and because rules cannot look at every name.

use k8s_openapi::api::core::v1::{Affinity, PodAffinityTerm, WeightedPodAffinityTerm};

use crate::GROUP;
use crate::field_path::FieldPath;
use crate::pattern;
use crate::problem::Problem;
use crate::quantity::ByteSize;
use crate::resources::{PodSpec, ResourcesSpec, VolumeSpec};

/// Labels that the operator sets on every pod.
const OWN_LABELS: [&str; 4] = [
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/part-of",
];
/// Labels by which Kubernetes' controllers find their pods, from the time before labels had prefixes.
const LABELS_OF_CONTROLLERS: [&str; 3] = ["controller-uid", "job-name", "pod-template-hash"];
/// Prefixes of Kubernetes under which a job may set labels and annotations: they say something to people and tools, and
/// grant nothing. Others choose security profiles, or belong to a controller.
const FREE_PREFIXES: [&str; 3] = ["app.kubernetes.io", "cluster-autoscaler.kubernetes.io", "kubectl.kubernetes.io"];
/// Variables that the operator sets, or by which a runner would leave the place that the operator gave it.
const OWN_VARIABLES: [&str; 10] = [
    "HTTP_ADDRESS",
    "HTTP_TOKEN_FILE",
    "TERMINATION_MESSAGE_PATH",
    "JOB_NAME",
    "JOB_UID",
    "NAMESPACE",
    "SECRETS_DIR",
    "LOG_FILE",
    "OUTPUTS_DIR",
    "CHECKPOINT_DIR",
];
/// Beginnings of such variables.
const OWN_VARIABLES_BEGIN: &str = "DATA_PLATFORM_";
/// Beginnings of variables by which libraries load code.
const CODE_VARIABLES_BEGIN: [&str; 3] = ["LD_", "GCONV_", "OPENSSL_"];
/// Beginning of the names of the operator's own volumes.
pub const VOLUME_PREFIX: &str = "data-platform-";
/// Top folders of a container that are not for volumes of a job: the programs and libraries, what describes them, and
/// what the operator mounts. A runner whose libraries are replaced is another program.
const TAKEN_FOLDERS: &str =
    r"^/(bin|boot|data|dev|etc|lib|lib32|lib64|libx32|proc|root|run|sbin|sys|tmp|usr|var)(/.*)?$";
/// The largest empty volume: it lies on the node's own disk.
const EMPTY_DIR_MAX: ByteSize = ByteSize::from_mebibytes(1 << 20);
/// What a container may ask of a node. The runner has no use for devices or huge pages.
const RESOURCES: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
/// Value of a label.
const LABEL_VALUE: &str = "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$";
/// Name of a label or annotation, after its prefix.
const LABEL_NAME: &str = "^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$";
/// How long the name after the prefix may be.
const LABEL_NAME_MAX: usize = 63;

/// Every problem of the settings of pods; `path`: where they stand.
pub(super) fn problems(path: &FieldPath, pod: &PodSpec) -> Vec<Problem> {
    let mut refusals = Refusals(Vec::new());
    refusals.labels(path, pod);
    refusals.environment(&path.field("env"), pod);
    refusals.volumes(&path.field("volumes"), &pod.volumes);
    if let Some(resources) = &pod.resources {
        refusals.resources(&path.field("resources"), resources);
    }
    refusals.affinity(&path.field("affinity"), pod);
    refusals.0
}

struct Refusals(Vec<Problem>);

impl Refusals {
    fn refuse(&mut self, path: FieldPath, message: impl Into<String>, cure: impl Into<String>) {
        self.0.push(Problem::error(path, message, cure));
    }

    fn labels(&mut self, path: &FieldPath, pod: &PodSpec) {
        for (name, value) in &pod.labels {
            let here = path.field("labels").field(name);
            self.name(&here, "label", name);
            if value.len() > LABEL_NAME_MAX || pattern::matches(LABEL_VALUE, value) != Some(true) {
                let cure = "use at most 63 letters, digits, -, _ and ., beginning and ending with a letter or digit";
                self.refuse(here, format!("{value:?} is not the value of a label"), cure);
            }
        }
        for name in pod.annotations.keys() {
            self.name(&path.field("annotations").field(name), "annotation", name);
        }
    }

    /// The name of a label or annotation.
    fn name(&mut self, path: &FieldPath, what: &str, name: &str) {
        let (prefix, short) = name.split_once('/').unwrap_or(("", name));
        let is_name = short.len() <= LABEL_NAME_MAX && pattern::matches(LABEL_NAME, short) == Some(true);
        let has_prefix = !name.contains('/') || pattern::matches(pattern::DNS_SUBDOMAIN, prefix) == Some(true);
        if !is_name || !has_prefix {
            let cure = "use letters, digits, -, _ and ., such as team or example.org/team";
            self.refuse(path.clone(), format!("{name:?} is not the name of {} {what}", article(what)), cure);
        } else if is_reserved(name) {
            self.refuse(
                path.clone(),
                format!("the {what} {name} is the operator's"),
                "leave it out, or choose another",
            );
        }
    }

    fn environment(&mut self, path: &FieldPath, pod: &PodSpec) {
        for (i, env) in pod.env.iter().enumerate() {
            let path = path.index(i).field("name");
            if is_own_variable(&env.name) {
                self.refuse(path, format!("the operator sets {}", env.name), "leave it out, or choose another");
            } else if loads_code(&env.name) {
                self.refuse(path, format!("{} could replace the runner's code", env.name), "leave it out");
            }
        }
    }

    fn volumes(&mut self, path: &FieldPath, volumes: &[VolumeSpec]) {
        for (i, volume) in volumes.iter().enumerate() {
            let path = path.index(i);
            if volume.name.starts_with(VOLUME_PREFIX) {
                let message = format!("volumes whose names begin with {VOLUME_PREFIX} are the operator's");
                self.refuse(path.field("name"), message, "choose another name");
            }
            let folder = volume.mount_path.trim_end_matches('/');
            if volumes[..i].iter().any(|other| other.mount_path.trim_end_matches('/') == folder) {
                let message = format!("{folder} is mounted twice");
                self.refuse(path.field("mountPath"), message, "give each volume its own folder");
            }
            if pattern::matches(pattern::MOUNT_PATH, &volume.mount_path) != Some(true) {
                let message = format!("{:?} is not a folder by its plain name", volume.mount_path);
                self.refuse(path.field("mountPath"), message, "write one such as /mnt/reference");
            } else if pattern::matches(TAKEN_FOLDERS, &volume.mount_path) == Some(true) {
                let message = format!("{folder} hides what the runner needs");
                self.refuse(path.field("mountPath"), message, "choose a folder below /mnt, such as /mnt/reference");
            }
            if let Some(size) = volume.empty_dir_size.filter(|size| *size > EMPTY_DIR_MAX) {
                let cure = format!("write at most {EMPTY_DIR_MAX}, or use a claim");
                self.refuse(path.field("emptyDirSize"), format!("{size} is too large for the disk of a node"), cure);
            }
        }
    }

    fn resources(&mut self, path: &FieldPath, resources: &ResourcesSpec) {
        for (field, amounts) in [("requests", &resources.requests), ("limits", &resources.limits)] {
            for name in amounts.keys().filter(|name| !RESOURCES.contains(&name.as_str())) {
                let message = format!("the runner has no use for {name}");
                self.refuse(path.field(field).field(name), message, format!("use {}", RESOURCES.join(", ")));
            }
        }
    }

    /// A job may keep its pods away from its own neighbours, not those of other people away from a node.
    fn affinity(&mut self, path: &FieldPath, pod: &PodSpec) {
        for (path, term) in pod.affinity.iter().flat_map(|affinity| terms(path, affinity)) {
            let names = term.namespaces.as_ref().is_some_and(|names| !names.is_empty());
            for (field, is_set) in [("namespaces", names), ("namespaceSelector", term.namespace_selector.is_some())] {
                if is_set {
                    let message = "a rule about the pods of other namespaces";
                    self.refuse(path.field(field), message, "leave it out: the job's own namespace is meant");
                }
            }
        }
    }
}

fn article(noun: &str) -> &'static str {
    if noun.starts_with('a') { "an" } else { "a" }
}

/// Whether a label or annotation is the operator's or a controller's to set.
pub fn is_reserved(name: &str) -> bool {
    let is_below = |prefix: &str, domain: &str| {
        prefix == domain || prefix.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
    };
    match name.split_once('/') {
        None => LABELS_OF_CONTROLLERS.contains(&name),
        Some(_) if OWN_LABELS.contains(&name) => true,
        Some((prefix, _)) => {
            let of_kubernetes = is_below(prefix, "kubernetes.io") || is_below(prefix, "k8s.io");
            is_below(prefix, GROUP) || of_kubernetes && !FREE_PREFIXES.contains(&prefix)
        }
    }
}

fn is_own_variable(name: &str) -> bool {
    OWN_VARIABLES.contains(&name) || name.starts_with(OWN_VARIABLES_BEGIN)
}

fn loads_code(name: &str) -> bool {
    name == "GLIBC_TUNABLES" || CODE_VARIABLES_BEGIN.iter().any(|beginning| name.starts_with(beginning))
}

/// Every rule about other pods, with its path.
fn terms<'a>(path: &FieldPath, affinity: &'a Affinity) -> Vec<(FieldPath, &'a PodAffinityTerm)> {
    type Required = Option<Vec<PodAffinityTerm>>;
    type Preferred = Option<Vec<WeightedPodAffinityTerm>>;
    let near = affinity.pod_affinity.as_ref().map(|rules| {
        let (required, preferred) = (
            &rules.required_during_scheduling_ignored_during_execution,
            &rules.preferred_during_scheduling_ignored_during_execution,
        );
        ("podAffinity", required, preferred)
    });
    let apart = affinity.pod_anti_affinity.as_ref().map(|rules| {
        let (required, preferred) = (
            &rules.required_during_scheduling_ignored_during_execution,
            &rules.preferred_during_scheduling_ignored_during_execution,
        );
        ("podAntiAffinity", required, preferred)
    });
    let mut found = Vec::new();
    for (name, required, preferred) in near.into_iter().chain(apart) {
        let (required, preferred): (&Required, &Preferred) = (required, preferred);
        let path = path.field(name);
        let here = path.field("requiredDuringSchedulingIgnoredDuringExecution");
        found.extend(required.iter().flatten().enumerate().map(|(i, term)| (here.index(i), term)));
        let here = path.field("preferredDuringSchedulingIgnoredDuringExecution");
        let weighted = preferred.iter().flatten().enumerate();
        found.extend(weighted.map(|(i, term)| (here.index(i).field("podAffinityTerm"), &term.pod_affinity_term)));
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn refused(pod: Value) -> Vec<String> {
        let pod = serde_json::from_value(pod).unwrap();
        problems(&FieldPath::root().field("pod"), &pod).iter().map(Problem::to_string).collect()
    }

    #[test]
    fn names_of_kubernetes_and_of_the_operator_are_reserved() {
        for name in [
            "dataplatform.io/job",
            "x.dataplatform.io/y",
            "app.kubernetes.io/managed-by",
            "app.kubernetes.io/name",
            "batch.kubernetes.io/controller-uid",
            "pod-template-hash",
            "container.apparmor.security.beta.kubernetes.io/runner",
            "kubernetes.io/config.mirror",
            "pod-security.kubernetes.io/enforce",
            "node.k8s.io/x",
        ] {
            assert!(is_reserved(name), "{name}");
        }
        for name in ["team", "example.org/job", "app.kubernetes.io/version", "notdataplatform.io/job", "a.x-k8s.io/b"] {
            assert!(!is_reserved(name), "{name}");
        }
    }

    #[test]
    fn what_would_make_a_pod_more_than_a_runner_is_refused() {
        let volume = |name: &str, path: &str| json!({"volumes": [{"name": name, "mountPath": path, "claimName": "c"}]});
        let env = |name: &str| json!({"env": [{"name": name, "value": "x"}]});
        for (pod, says) in [
            (env("DATA_PLATFORM_GENERATION"), "the operator sets DATA_PLATFORM_GENERATION"),
            (env("NAMESPACE"), "the operator sets NAMESPACE"),
            (env("LD_PRELOAD"), "could replace the runner's code"),
            (env("OPENSSL_CONF"), "could replace the runner's code"),
            (volume("data-platform-job", "/x"), "are the operator's"),
            (volume("v", "/data/outputs"), "hides what the runner needs"),
            (volume("v", "/usr/local/bin"), "hides what the runner needs"),
            (volume("v", "/lib64"), "hides what the runner needs"),
            (volume("v", "/etc"), "hides what the runner needs"),
            (volume("v", "/mnt/../usr/local/bin"), "not a folder by its plain name"),
            (volume("v", "/./usr"), "not a folder by its plain name"),
            (volume("v", "//usr"), "not a folder by its plain name"),
            (volume("v", "/mnt/a\nb"), "not a folder by its plain name"),
            (
                json!({"volumes": [{"name": "v", "mountPath": "/x", "emptyDirSize": "2048Gi"}]}),
                "too large for the disk",
            ),
            (json!({"labels": {"a b": "x"}}), "not the name of a label"),
            (json!({"labels": {"a": "x y"}}), "not the value of a label"),
            (json!({"labels": {"pod-template-hash": "x"}}), "the label pod-template-hash"),
            (json!({"annotations": {"../x": "y"}}), "not the name of an annotation"),
            (json!({"resources": {"limits": {"example.org/gpu": 8}}}), "has no use for example.org/gpu"),
            (
                json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                    {"topologyKey": "kubernetes.io/hostname", "labelSelector": {}, "namespaceSelector": {}},
                ]}}}),
                "pod.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].namespaceSelector",
            ),
        ] {
            let found = refused(pod.clone());
            assert!(found.len() == 1 && found[0].contains(says), "{pod}: {found:?}");
        }
        for pod in [
            env("AWS_REGION"),
            volume("v", "/lookup"),
            volume("v", "/opt/a.b/c_d/"),
            volume("v", "/library"),
            json!({"annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "a": "any text\n"}}),
            json!({"labels": {"app.kubernetes.io/version": "1.2"}, "resources": {"limits": {"memory": "1Gi"}}}),
            json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"a": "b"}}},
            ]}}}),
        ] {
            assert_eq!(refused(pod.clone()), Vec::<String>::new(), "{pod}");
        }
    }
}
