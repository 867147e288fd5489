//! What the editor tries to get for the pods: fields that a job does not have, and settings that it has.

use serde_json::{Value, json};

use super::{Expected, Table, harmless, not_allowed, not_carried_out, otherwise, refused};

/// Every attempt of this kind.
pub(super) fn add(table: &mut Table) {
    fields_of_pods(table);
    environment(table);
    volumes(table);
    labels(table);
    choices(table);
}

/// Fields of a Pod that a job does not have.
fn fields_of_pods(table: &mut Table) {
    let container = json!({"name": "x", "image": "evil", "securityContext": {"privileged": true}});
    for (name, field, value) in [
        ("the node's network", "hostNetwork", json!(true)),
        ("the node's processes", "hostPID", json!(true)),
        ("the node's memory", "hostIPC", json!(true)),
        ("users of the node", "hostUsers", json!(true)),
        ("a node by its name", "nodeName", json!("node-1")),
        ("another image", "image", json!("evil")),
        ("another command", "command", json!(["/bin/sh"])),
        ("other arguments", "args", json!(["query", "SELECT 1"])),
        ("a privileged container", "securityContext", json!({"privileged": true})),
        ("a token", "automountServiceAccountToken", json!(true)),
        ("another container", "containers", json!([container])),
        ("a container before", "initContainers", json!([container])),
        ("a container for debugging", "ephemeralContainers", json!([container])),
        ("variables of a Secret", "envFrom", json!([{"secretRef": {"name": "treasure"}}])),
        ("mounts", "volumeMounts", json!([{"name": "data-platform-data", "mountPath": "/x", "subPath": "../.."}])),
        ("a hook", "lifecycle", json!({"postStart": {"exec": {"command": ["sh"]}}})),
        ("another scheduler", "schedulerName", json!("evil")),
        ("another runtime", "runtimeClassName", json!("evil")),
        ("other names of hosts", "hostAliases", json!([{"ip": "1.1.1.1", "hostnames": ["kafka"]}])),
        ("other servers of names", "dnsConfig", json!({"nameservers": ["1.1.1.1"]})),
        ("shared processes", "shareProcessNamespace", json!(true)),
        ("secrets of a registry", "imagePullSecrets", json!([{"name": "treasure"}])),
        ("a pod template", "template", json!({"spec": {"hostPID": true}})),
    ] {
        table.streaming(name, Expected::Unknown("spec.pod."), |job| job["spec"]["pod"][field] = value);
    }
    let template = json!({"spec": {"hostNetwork": true, "containers": [container]}});
    for field in ["podTemplate", "podSpec", "jobTemplate", "image", "serviceAccount", "namespace", "runner"] {
        table.batch("a field of other operators", Expected::Unknown("spec."), |job| {
            job["spec"][field] = template.clone()
        });
    }
    table.pod(
        "device plug-ins by claims",
        || Expected::Unknown("spec.pod.resources"),
        json!({"resources": {"claims": [{"name": "gpu"}]}}),
    );
}

fn environment(table: &mut Table) {
    let variable = |name: &str| json!({"env": [{"name": name, "value": "x"}]});
    let code =
        || refused(&["spec.pod.env[0].name", "could replace the runner's code", "leave LD_, GCONV_ and OPENSSL_"]);
    for name in
        ["LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "OPENSSL_CONF", "OPENSSL_MODULES", "GCONV_PATH", "GLIBC_TUNABLES"]
    {
        table.pod("a variable that loads code", code, variable(name));
    }
    let own = || refused(&["spec.pod.env[0].name", "the operator sets this variable", "leave it out"]);
    for name in [
        "HTTP_ADDRESS",
        "HTTP_TOKEN_FILE",
        "TERMINATION_MESSAGE_PATH",
        "DATA_PLATFORM_CONFIG",
        "DATA_PLATFORM_NO_LOCK",
        "DATA_PLATFORM_GENERATION",
        "DATA_PLATFORM_STARTED",
        "NAMESPACE",
        "OUTPUTS_DIR",
        "CHECKPOINT_DIR",
        "SECRETS_DIR",
        "LOG_FILE",
        "JOB_UID",
    ] {
        table.pod("a variable of the operator", own, variable(name));
    }
    let odd = || otherwise("spec.pod.env[0].name", "spec.pod.env[0].name");
    for name in ["A=B", "A\nLD_PRELOAD", "A\u{0}", "", "a-b", "../x"] {
        table.pod("a variable with an odd name", odd, variable(name));
    }
    let twice = json!({"env": [{"name": "A", "value": "x"}, {"name": "A", "value": "y"}]});
    table.pod("a variable twice", || otherwise("Duplicate value", "stands twice"), twice);
    let text = json!({"env": [{"name": "A", "value": "$(HTTP_ADDRESS)\n\u{0}$(LD_PRELOAD)"}]});
    table.pod("a value with line breaks and zeros", harmless, text);
    for (name, source) in [
        ("a field of the pod", json!({"fieldRef": {"fieldPath": "spec.nodeName"}})),
        (
            "a file of another namespace",
            json!({"configMapKeyRef": {"name": "x", "key": "y", "namespace": "kube-system"}}),
        ),
    ] {
        table.pod(name, || otherwise("valueFrom", "valueFrom"), json!({"env": [{"name": "A", "valueFrom": source}]}));
    }
    let elsewhere =
        json!({"env": [{"name": "A", "secretKeyRef": {"name": "treasure", "key": "password", "namespace": "victim"}}]});
    table.pod("a Secret of another namespace", || Expected::Unknown("secretKeyRef.namespace"), elsewhere);
    for name in ["victim/treasure", "../victim", "Treasure", "a\nb"] {
        let source = json!({"env": [{"name": "A", "secretKeyRef": {"name": name, "key": "password"}}]});
        table.pod("a Secret by a path", || otherwise("secretKeyRef.name", "secretKeyRef.name"), source);
    }
    for key in ["..", "../../etc/passwd", "/etc/passwd", "a\u{0}b", "a\nb", "."] {
        let expected = || otherwise("secretKeyRef.key", "two dots");
        let source = json!({"env": [{"name": "A", "secretKeyRef": {"name": "treasure", "key": key}}]});
        table.pod("a key by a path", expected, source);
        let login = json!({"mechanism": "PLAIN", "username": {"secretKeyRef": {"name": "treasure", "key": key}},
            "password": {"file": "/run/x"}});
        table.streaming_field("a login by a path", expected(), "/spec/kafka/sasl", login);
    }
}

fn volumes(table: &mut Table) {
    let volume = |kind: &str, source: Value| json!({"volumes": [{"name": "v", "mountPath": "/mnt/v", kind: source}]});
    for (kind, source) in [
        ("hostPath", json!({"path": "/"})),
        ("projected", json!({"sources": [{"serviceAccountToken": {"path": "token"}}]})),
        ("csi", json!({"driver": "evil"})),
        ("nfs", json!({"server": "evil", "path": "/"})),
        ("ephemeral", json!({"volumeClaimTemplate": {}})),
        ("downwardAPI", json!({"items": []})),
        ("image", json!({"reference": "evil"})),
    ] {
        // Of no kind without its unknown field, so that it is refused however little is checked.
        table.pod(
            "a volume of another kind",
            || otherwise("spec.pod.volumes[0]", "spec.pod.volumes[0]"),
            volume(kind, source),
        );
    }
    let both = json!({"volumes": [{"name": "v", "mountPath": "/mnt/v", "emptyDirSize": "1Gi", "subPath": "../../.."}]});
    table.pod("a path in a volume", || Expected::Unknown("subPath"), both);
    let at = |path: &str| json!({"volumes": [{"name": "v", "mountPath": path, "configMapName": "x"}]});
    let taken = || refused(&["spec.pod.volumes[0].mountPath", "what the runner needs", "/mnt/reference"]);
    for path in [
        "/usr/local/bin",
        "/usr",
        "/lib",
        "/lib64",
        "/bin",
        "/etc",
        "/etc/ssl/certs",
        "/etc/data-platform/job",
        "/data",
        "/data/checkpoints",
        "/tmp",
        "/proc",
        "/proc/self",
        "/sys",
        "/dev",
        "/run/x",
        "/var/run/secrets/kubernetes.io/serviceaccount",
        "/root",
    ] {
        table.streaming_field("a volume over what the runner needs", taken(), "/spec/pod", at(path));
    }
    for path in [
        "/mnt/../usr/local/bin",
        "/./usr",
        "//usr",
        "/mnt/..",
        "/",
        "/mnt/a:b",
        "usr",
        "/mnt/a\nb",
        "/mnt/a\u{0}",
        "/mnt//x",
        "/mnt/.hidden",
    ] {
        let expected = otherwise("spec.pod.volumes[0].mountPath", "spec.pod.volumes[0].mountPath");
        table.batch_field("a volume by a path that leads elsewhere", expected, "/spec/pod", at(path));
    }
    let own = json!({"volumes": [{"name": "data-platform-job", "mountPath": "/mnt/v", "configMapName": "x"}]});
    table.pod(
        "a volume of the operator",
        || refused(&["spec.pod.volumes[0].name", "are the operator's", "another name"]),
        own,
    );
    let twice = json!({"volumes": [
        {"name": "a", "mountPath": "/mnt/v", "configMapName": "x"}, {"name": "b", "mountPath": "/mnt/v/", "configMapName": "y"},
    ]});
    table.pod("two volumes at one place", || not_carried_out("is mounted twice"), twice);
    let huge = json!({"volumes": [{"name": "a", "mountPath": "/mnt/v", "emptyDirSize": "900000000Gi"}]});
    table.pod("an empty volume of an exabyte", || not_carried_out("too large for the disk"), huge);
    let overflowing = json!({"volumes": [{"name": "a", "mountPath": "/mnt/v", "emptyDirSize": "999999999999Gi"}]});
    let unreadable =
        || Expected::Harmless { reason: "InvalidSpec", says: "999999999999Gi", offline: Some("999999999999Gi") };
    table.pod("an empty volume of more bytes than can be counted", unreadable, overflowing);
}

fn labels(table: &mut Table) {
    let labels = |name: &str, value: &str| json!({"labels": {name: value}});
    let own = || refused(&["spec.pod.labels", "labels of the operator", "choose other names"]);
    for name in [
        "dataplatform.io/job",
        "dataplatform.io/kind",
        "dataplatform.io/claim",
        "app.kubernetes.io/name",
        "app.kubernetes.io/instance",
        "app.kubernetes.io/managed-by",
        "job-name",
        "controller-uid",
        "pod-template-hash",
    ] {
        table.pod("a label that selects", own, labels(name, "other"));
    }
    for (name, value, says) in [
        ("batch.kubernetes.io/controller-uid", "other", "is the operator's"),
        ("x.dataplatform.io/job", "other", "is the operator's"),
        ("statefulset.kubernetes.io/pod-name", "other", "is the operator's"),
        ("../x", "y", "is not the name of a label"),
        ("a b", "y", "is not the name of a label"),
        ("team", "a b", "is not the value of a label"),
        ("team", "a\nb", "is not the value of a label"),
    ] {
        table.streaming_field("a label that is not for jobs", not_carried_out(says), "/spec/pod", labels(name, value));
    }
    let annotations = |name: &str| json!({"annotations": {name: "unconfined\n"}});
    let own = || refused(&["spec.pod.annotations", "annotations of the operator", "leave dataplatform.io/ out"]);
    for name in ["dataplatform.io/applied", "dataplatform.io/revision", "dataplatform.io/restartedAt"] {
        table.pod("an annotation of the operator", own, annotations(name));
    }
    for name in [
        "container.apparmor.security.beta.kubernetes.io/runner",
        "seccomp.security.alpha.kubernetes.io/pod",
        "kubernetes.io/config.mirror",
        "scheduler.alpha.kubernetes.io/critical-pod",
    ] {
        table.pod("an annotation that Kubernetes obeys", || not_carried_out("is the operator's"), annotations(name));
    }
    let free = json!({"annotations": {"note": "any \u{0} text\n- x: y"}, "labels": {"team": "a"}});
    table.pod("an annotation of any text", harmless, free);
}

/// What an administrator could allow, and here did not.
fn choices(table: &mut Table) {
    table.pod(
        "another account",
        || not_allowed("spec.pod.serviceAccountName: jobs may not use the ServiceAccount default"),
        json!({"serviceAccountName": "default"}),
    );
    table.pod(
        "the operator's account",
        || not_allowed("runner.allowed.serviceAccounts"),
        json!({"serviceAccountName": "data-platform-operator"}),
    );
    for class in ["system-node-critical", "system-cluster-critical"] {
        table.pod(
            "priority over everybody",
            || not_allowed("jobs may not use the priority class"),
            json!({"priorityClassName": class}),
        );
    }
    let claim = json!({"volumes": [{"name": "v", "mountPath": "/mnt/v", "claimName": "database"}]});
    table.pod("the claim of others as a volume", || not_allowed("jobs may not use the claim database"), claim);
    table.streaming_field(
        "the claim of others",
        not_allowed("spec.storage.claimName"),
        "/spec/storage",
        json!({"claimName": "database"}),
    );
    table.batch_field(
        "the claim of others",
        not_allowed("runner.allowed.claims"),
        "/spec/storage",
        json!({"claimName": "database"}),
    );
    table.batch_field(
        "a claim by a path",
        otherwise("spec.storage.claimName", "spec.storage.claimName"),
        "/spec/storage",
        json!({"claimName": "../victim/data"}),
    );
    table.batch_field(
        "a claim of another namespace",
        Expected::Unknown("spec.storage.namespace"),
        "/spec/storage",
        json!({"namespace": "victim"}),
    );
    let apart = |field: &str, value: Value| {
        json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "kubernetes.io/hostname", "labelSelector": {}, field: value},
        ]}}})
    };
    table.pod(
        "everybody off the node",
        || not_carried_out("pods of other namespaces"),
        apart("namespaceSelector", json!({})),
    );
    table.pod(
        "others off the node",
        || not_carried_out("pods of other namespaces"),
        apart("namespaces", json!(["kube-system"])),
    );
    let hidden = json!({"affinity": {"hostNetwork": true, "nodeName": "node-1"}});
    // The API server keeps unread what is below; of it only rules of placement come into a pod.
    table.pod(
        "fields hidden among rules of placement",
        || Expected::Harmless { reason: "Suspended", says: "", offline: Some("unknown field") },
        hidden,
    );
    let gpus = json!({"resources": {"limits": {"example.org/gpu": 8}}});
    table.pod(
        "devices",
        || refused(&["spec.pod.resources.limits", "no use for other resources", "use cpu, memory"]),
        gpus,
    );
}
