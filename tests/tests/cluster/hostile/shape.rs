//! The shape that everything has that the operator makes: a runner, restricted, of one job. Whatever is not named here is
//! odd, so that a field which a later version sets has to be thought about.

use data_platform_tests::cluster::RUNNER_IMAGE;
use serde_json::{Value, json};

use super::ACCOUNT;

/// Volumes that a pod may have beside its own: kinds, and the one claim.
const VOLUME_KINDS: [&str; 4] = ["configMap", "emptyDir", "persistentVolumeClaim", "secret"];
/// Folders in which nothing of a job may be mounted; the operator's own mounts are told apart by the name of the volume.
const SYSTEM_FOLDERS: [&str; 16] = [
    "", "bin", "boot", "data", "dev", "etc", "lib", "lib32", "lib64", "proc", "root", "run", "sbin", "sys", "usr",
    "var",
];

/// What of an object is not as it should be.
pub(super) fn oddities(object: &Value, namespace: &str) -> Vec<String> {
    let mut odd = Oddities { said: Vec::new(), is_check: false };
    let metadata = &object["metadata"];
    let job = metadata["labels"]["dataplatform.io/job"].as_str().unwrap_or_default();
    let job_kind = metadata["labels"]["dataplatform.io/kind"].as_str().unwrap_or_default();
    odd.same("namespace", &metadata["namespace"], &json!(namespace));
    if metadata["ownerReferences"].as_array().is_none_or(|owners| owners.len() != 1) {
        odd.say(format!("owners: {}", metadata["ownerReferences"]));
    }
    let owner = &metadata["ownerReferences"][0];
    let of_cron_job = object["kind"] == "Job" && owner["kind"] == "CronJob";
    odd.same("owner", &json!([owner["name"], owner["controller"]]), &json!([job, true]));
    if !of_cron_job {
        odd.same("kind of the owner", &owner["kind"], &json!(job_kind));
    }
    let name = metadata["name"].as_str().unwrap_or_default();
    if name != job && !name.starts_with(&format!("{job}-")) {
        odd.say(format!("{name} is not a name of {job}"));
    }
    let selector = json!({"dataplatform.io/job": job, "dataplatform.io/kind": job_kind});
    let spec = &object["spec"];
    match object["kind"].as_str().unwrap_or_default() {
        "Job" if metadata["labels"]["dataplatform.io/check"] == "true" => {
            odd.is_check = true;
            odd.pod(&spec["template"], job, job_kind);
        }
        "Deployment" => {
            odd.same("selector", &spec["selector"], &json!({"matchLabels": selector}));
            if spec["replicas"].as_i64().is_none_or(|replicas| replicas > 1) {
                odd.say(format!("replicas: {}", spec["replicas"]));
            }
            odd.pod(&spec["template"], job, job_kind);
        }
        "CronJob" => odd.pod(&spec["jobTemplate"]["spec"]["template"], job, job_kind),
        "Job" => odd.pod(&spec["template"], job, job_kind),
        "Service" => {
            odd.same("selector", &spec["selector"], &selector);
            odd.same("type", &spec["type"], &json!("ClusterIP"));
            odd.same("clusterIP", &spec["clusterIP"], &json!("None"));
            odd.only(
                spec,
                "spec",
                &[
                    "clusterIP",
                    "clusterIPs",
                    "internalTrafficPolicy",
                    "ipFamilies",
                    "ipFamilyPolicy",
                    "ports",
                    "publishNotReadyAddresses",
                    "selector",
                    "sessionAffinity",
                    "type",
                ],
            );
        }
        "ConfigMap" => odd.same("immutable", &object["immutable"], &json!(true)),
        other => odd.say(format!("nothing of kind {other} is made")),
    }
    odd.said
}

struct Oddities {
    said: Vec<String>,
    /// It judges a query, and runs nothing.
    is_check: bool,
}

impl Oddities {
    fn say(&mut self, text: String) {
        self.said.push(text);
    }

    fn same(&mut self, what: &str, found: &Value, expected: &Value) {
        if found != expected {
            self.say(format!("{what}: {found} instead of {expected}"));
        }
    }

    /// No field beside these.
    fn only(&mut self, value: &Value, what: &str, fields: &[&str]) {
        let names = value.as_object().into_iter().flat_map(|object| object.keys());
        for name in names.filter(|name| !fields.contains(&name.as_str())) {
            self.say(format!("{what} has {name}: {}", value[name.as_str()]));
        }
    }

    fn pod(&mut self, template: &Value, job: &str, job_kind: &str) {
        let labels = &template["metadata"]["labels"];
        for (name, expected) in [
            ("dataplatform.io/job", job),
            ("dataplatform.io/kind", job_kind),
            ("app.kubernetes.io/instance", job),
            ("app.kubernetes.io/managed-by", "data-platform"),
        ] {
            self.same(name, &labels[name], &json!(expected));
        }
        for name in labels.as_object().into_iter().flat_map(|labels| labels.keys()) {
            // Kubernetes' own labels of the pods of a Job stand in it once it is made.
            let is_of_controller = name.contains("kubernetes.io/") && !name.starts_with("app.kubernetes.io/");
            if is_of_controller && !(name.starts_with("batch.kubernetes.io/") && job_kind == "BatchJob") {
                self.say(format!("label {name}"));
            }
        }
        let spec = &template["spec"];
        self.only(
            spec,
            "pod",
            &[
                "affinity",
                "automountServiceAccountToken",
                "containers",
                "dnsPolicy",
                "enableServiceLinks",
                "nodeSelector",
                "priorityClassName",
                "restartPolicy",
                "schedulerName",
                "securityContext",
                "serviceAccount",
                "serviceAccountName",
                "terminationGracePeriodSeconds",
                "tolerations",
                "volumes",
            ],
        );
        self.same("serviceAccountName", &spec["serviceAccountName"], &json!(ACCOUNT));
        self.same("automountServiceAccountToken", &spec["automountServiceAccountToken"], &json!(false));
        self.same("schedulerName", &spec["schedulerName"], &json!("default-scheduler"));
        self.same("dnsPolicy", &spec["dnsPolicy"], &json!("ClusterFirst"));
        let security = json!({
            "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
            "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"},
        });
        self.same("securityContext", &spec["securityContext"], &security);
        match spec["containers"].as_array().map(Vec::as_slice) {
            Some([container]) => self.container(container),
            _ => self.say(format!("containers: {}", spec["containers"])),
        }
        let empty = Vec::new();
        let volumes = spec["volumes"].as_array().unwrap_or(&empty);
        for volume in volumes {
            self.only(volume, "volume", &[&["name"][..], &VOLUME_KINDS].concat());
            let claim = &volume["persistentVolumeClaim"];
            if !claim.is_null() {
                self.same("claim", claim, &json!({"claimName": "data"}));
            }
        }
    }

    fn container(&mut self, container: &Value) {
        self.only(
            container,
            "container",
            &[
                "args",
                "env",
                "image",
                "imagePullPolicy",
                "livenessProbe",
                "name",
                "ports",
                "readinessProbe",
                "resources",
                "securityContext",
                "startupProbe",
                "terminationMessagePath",
                "terminationMessagePolicy",
                "volumeMounts",
            ],
        );
        self.same("image", &container["image"], &json!(RUNNER_IMAGE));
        let command = if self.is_check { "validate" } else { "run" };
        self.same("args", &container["args"], &json!([command, "--config", "/etc/data-platform/job/job.json"]));
        self.same("terminationMessagePath", &container["terminationMessagePath"], &json!("/dev/termination-log"));
        let security = json!({
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsNonRoot": true,
            "capabilities": {"drop": ["ALL"]},
        });
        self.same("securityContext of the container", &container["securityContext"], &security);
        let (mut fixed, mut places) = (0, Vec::new());
        for env in container["env"].as_array().into_iter().flatten() {
            let name = env["name"].as_str().unwrap_or_default();
            let expected = match name {
                "HTTP_ADDRESS" => json!("0.0.0.0:9999"),
                "DATA_PLATFORM_STAY_UP" | "DATA_PLATFORM_NO_LOCK" => json!("true"),
                "TERMINATION_MESSAGE_PATH" => json!("/dev/termination-log"),
                "JOB_NAME" | "JOB_UID" => Value::Null,
                // The text of the restart annotation, which the runner only compares.
                "DATA_PLATFORM_RESTARTED_AT" => {
                    self.same(name, &env["valueFrom"], &Value::Null);
                    continue;
                }
                // The number of the take-over annotation, and nothing but a number.
                "DATA_PLATFORM_TAKEOVER" => {
                    self.same(name, &env["valueFrom"], &Value::Null);
                    if env["value"].as_str().is_none_or(|text| text.parse::<i64>().is_err()) {
                        self.say(format!("env {name}: {}", env["value"]));
                    }
                    continue;
                }
                "DATA_PLATFORM_POD_UID" => {
                    let own = json!({"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.uid"}});
                    self.same(name, &env["valueFrom"], &own);
                    continue;
                }
                // The operator's words for where the data are, for whoever runs a command in the pod.
                "NAMESPACE" | "OUTPUTS_DIR" | "CHECKPOINT_DIR" if !places.contains(&name) => {
                    places.push(name);
                    self.same(name, &env["valueFrom"], &Value::Null);
                    continue;
                }
                _ => {
                    let is_odd =
                        ["LD_", "DATA_PLATFORM_", "OPENSSL_", "GCONV_"].iter().any(|odd| name.starts_with(odd));
                    if is_odd
                        || matches!(
                            name,
                            "NAMESPACE"
                                | "OUTPUTS_DIR"
                                | "CHECKPOINT_DIR"
                                | "SECRETS_DIR"
                                | "LOG_FILE"
                                | "GLIBC_TUNABLES"
                        )
                    {
                        self.say(format!("env {name}"));
                    }
                    self.only(&env["valueFrom"], "env", &["secretKeyRef"]);
                    continue;
                }
            };
            fixed += 1;
            self.same(name, &env["value"], &expected);
        }
        if places.len() != 3 {
            self.say(format!("{places:?} say where the data are"));
        }
        if !(3..=5).contains(&fixed) {
            self.say(format!("{fixed} variables of the operator"));
        }
        for mount in container["volumeMounts"].as_array().into_iter().flatten() {
            self.only(mount, "mount", &["mountPath", "name", "readOnly"]);
            let (name, path) = (mount["name"].as_str().unwrap_or_default(), mount["mountPath"].as_str().unwrap_or("/"));
            let top = path.trim_start_matches('/').split('/').next().unwrap_or_default();
            let leads_elsewhere = path.split('/').skip(1).any(|part| part.is_empty() || part.starts_with('.'));
            let is_ours = name.starts_with("data-platform-");
            if !is_ours && (SYSTEM_FOLDERS.contains(&top) || top == "tmp") || leads_elsewhere {
                self.say(format!("mount of {name} at {path}"));
            }
        }
        for name in ["requests", "limits"] {
            self.only(&container["resources"][name], name, &["cpu", "memory", "ephemeral-storage"]);
        }
        self.only(&container["resources"], "resources", &["requests", "limits"]);
    }
}
