//! What the editor tries.

use serde_json::{Value, json};

/// What comes of an attempt.
pub(super) enum Expected {
    /// Refused when it is applied, and offline, with all of these: field, and cure.
    Refused(Vec<&'static str>),
    /// The same, where the schema speaks for itself and only the offline check has a cure.
    RefusedOtherwise { server: &'static str, offline: &'static str },
    /// Refused as a field that does not exist; without strict validation the job comes without it.
    Unknown(&'static str),
    /// Accepted; the operator gives this reason and says this, and makes nothing odd. `offline`: the check without a
    /// cluster refuses it, and says this.
    Harmless { reason: &'static str, says: &'static str, offline: Option<&'static str> },
}

/// One attempt.
pub(super) struct Attempt {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    /// Name of the job.
    pub(super) job: String,
    pub(super) manifest: String,
    pub(super) expected: Expected,
}

/// A streaming job that runs no pod, changed.
pub(super) fn streaming(name: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut job = json!({
        "apiVersion": "dataplatform.io/v1alpha1", "kind": "StreamingJob", "metadata": {"name": name},
        "spec": {
            "kafka": {"bootstrapServers": "127.0.0.1:1"},
            "sources": [{
                "name": "s", "topics": ["t"], "columns": [{"name": "t", "type": "timestamp", "required": true}],
                "eventTime": {"column": "t"},
            }],
            "query": "SELECT window_start, count(*) AS n FROM s GROUP BY tumble(t, INTERVAL '1 minute')",
            "sink": {"path": "counts"}, "suspend": true, "pod": {},
        },
    });
    change(&mut job);
    job.to_string()
}

/// A batch job whose schedule is suspended, changed.
pub(super) fn batch(name: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut job = json!({
        "apiVersion": "dataplatform.io/v1alpha1", "kind": "BatchJob", "metadata": {"name": name},
        "spec": {
            "schedule": "5 * * * *", "suspend": true, "interval": "hour",
            "inputs": [{"name": "i", "path": "counts", "timeColumn": "window_start"}],
            "query": "SELECT count(*) AS n FROM i", "sink": {"path": "totals"}, "pod": {},
        },
    });
    change(&mut job);
    job.to_string()
}

#[derive(Default)]
struct Table(Vec<Attempt>);

impl Table {
    fn add(&mut self, name: &'static str, kind: &'static str, job: &str, manifest: String, expected: Expected) {
        self.0.push(Attempt { name, kind, job: job.to_owned(), manifest, expected });
    }

    /// A streaming job with one thing changed, under a name of its own.
    fn streaming(&mut self, name: &'static str, expected: Expected, change: impl FnOnce(&mut Value)) {
        let job = format!("s{}", self.0.len());
        let manifest = streaming(&job, change);
        self.add(name, "StreamingJob", &job, manifest, expected);
    }

    /// The same with a batch job.
    fn batch(&mut self, name: &'static str, expected: Expected, change: impl FnOnce(&mut Value)) {
        let job = format!("b{}", self.0.len());
        let manifest = batch(&job, change);
        self.add(name, "BatchJob", &job, manifest, expected);
    }

    /// Both kinds, whose pods have the same settings.
    fn pod(&mut self, name: &'static str, expected: fn() -> Expected, pod: Value) {
        self.streaming(name, expected(), |job| job["spec"]["pod"] = pod.clone());
        self.batch(name, expected(), |job| job["spec"]["pod"] = pod);
    }

    fn streaming_field(&mut self, name: &'static str, expected: Expected, pointer: &str, value: Value) {
        let (above, field) = pointer.rsplit_once('/').expect("a pointer has a slash");
        self.streaming(name, expected, |job| job.pointer_mut(above).expect("a field of the job")[field] = value);
    }

    fn batch_field(&mut self, name: &'static str, expected: Expected, pointer: &str, value: Value) {
        let (above, field) = pointer.rsplit_once('/').expect("a pointer has a slash");
        self.batch(name, expected, |job| job.pointer_mut(above).expect("a field of the job")[field] = value);
    }
}

fn refused(parts: &[&'static str]) -> Expected {
    Expected::Refused(parts.to_vec())
}

fn otherwise(server: &'static str, offline: &'static str) -> Expected {
    Expected::RefusedOtherwise { server, offline }
}

/// Accepted and carried out, as a job that is suspended.
fn harmless() -> Expected {
    Expected::Harmless { reason: "Suspended", says: "", offline: None }
}

/// Accepted, and refused by the operator; offline in the same words where it can know.
fn not_carried_out(says: &'static str) -> Expected {
    Expected::Harmless { reason: "InvalidSpec", says, offline: Some(says) }
}

/// Accepted, and refused by the operator, whose administrator did not allow it.
fn not_allowed(says: &'static str) -> Expected {
    Expected::Harmless { reason: "InvalidSpec", says, offline: None }
}

/// Every attempt.
pub(super) fn all() -> Vec<Attempt> {
    let mut table = Table::default();
    fields_of_pods(&mut table);
    environment(&mut table);
    volumes(&mut table);
    labels(&mut table);
    choices(&mut table);
    names(&mut table);
    places(&mut table);
    numbers(&mut table);
    tricks_of_yaml(&mut table);
    forgeries(&mut table);
    table.0
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
        "TERMINATION_MESSAGE_PATH",
        "DATA_PLATFORM_CONFIG",
        "DATA_PLATFORM_NO_LOCK",
        "DATA_PLATFORM_GENERATION",
        "DATA_PLATFORM_STARTED",
        "NAMESPACE",
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

fn names(table: &mut Table) {
    let long = "a".repeat(53);
    let says = &["metadata.name", "at most 52 lower-case letters"];
    for name in [long.as_str(), "a.b", "9lives"] {
        table.add("a name that does not fit everywhere", "StreamingJob", name, streaming(name, |_| {}), refused(says));
        table.add("a name that does not fit everywhere", "BatchJob", name, batch(name, |_| {}), refused(says));
    }
    for name in ["../x", "A", "a-", "a\nb", "a/b", ""] {
        let expected = || otherwise("name", "metadata.name");
        table.add("a name that is a path", "StreamingJob", name, streaming(name, |_| {}), expected());
    }
    // Two names that are the same in their first 51 letters, and names like those of children.
    for last in ["a", "b"] {
        let name = format!("{}{last}", "x".repeat(51));
        table.add(
            "names that differ in their last letter",
            "StreamingJob",
            &name,
            streaming(&name, |_| {}),
            harmless(),
        );
        table.add("names that differ in their last letter", "BatchJob", &name, batch(&name, |_| {}), harmless());
    }
    for name in ["twin", "twin-0123456789", "data-platform-operator", "data-platform-runner"] {
        table.add("a name like a child's", "StreamingJob", name, streaming(name, |_| {}), harmless());
        table.add("a name like a child's", "BatchJob", name, batch(name, |_| {}), harmless());
    }
    for (kind, name, resource) in super::TAKEN {
        let says = if kind == "cronjob" { "CronJob nightly" } else { "already" };
        let expected = Expected::Harmless { reason: "NameTaken", says, offline: None };
        if resource == "batchjobs" {
            table.add("a name that others have", "BatchJob", name, batch(name, |_| {}), expected);
        } else {
            table.add("a name that others have", "StreamingJob", name, streaming(name, |_| {}), expected);
        }
    }
    table.streaming_field(
        "a checkpoint by a path",
        otherwise("spec.checkpoint.name", "spec.checkpoint.name"),
        "/spec/checkpoint",
        json!({"name": "../other/job"}),
    );
}

fn places(table: &mut Table) {
    for path in [
        "../checkpoints/x",
        "a/../../b",
        "/etc",
        "/data/checkpoints",
        "~/x",
        "a\u{0}b",
        "a\nb",
        "a/./b",
        "a//b",
        ".x",
        "file:///data/../etc",
        "file://host/x",
        "http://169.254.169.254/latest",
        "s3://key:secret@bucket/x",
        "a\\..\\b",
    ] {
        let refused = || Expected::Harmless { reason: "InvalidSpec", says: "path", offline: Some("path") };
        table.streaming_field("a sink at a path that leads elsewhere", refused(), "/spec/sink/path", json!(path));
        let input = json!([{"name": "i", "path": path, "timeColumn": "t"}]);
        table.batch_field("an input at a path that leads elsewhere", refused(), "/spec/inputs", input);
    }
    let by_parameter = |job: &mut Value| {
        job["spec"]["parameters"] = json!({"p": "../../etc"});
        job["spec"]["sink"]["path"] = "a/${p}".into();
    };
    table.streaming("a sink by a parameter", not_carried_out("has .. in it"), by_parameter);
    for url in ["file:///data/../../etc", "/data/outputs", "gopher://x/y", "s3://a:b@c/d"] {
        let storage = json!({"outputs": url, "checkpoints": "s3://bucket/c"});
        table.streaming_field("outputs elsewhere", not_carried_out("spec.storage.outputs"), "/spec/storage", storage);
    }
    let dead_letters = json!({"action": "deadLetter", "path": "../x"});
    table.streaming_field(
        "dead letters elsewhere",
        not_carried_out("spec.badRecords.path"),
        "/spec/badRecords",
        dead_letters,
    );
    let settings = json!({"plugin.library.paths": "/mnt/v/evil.so"});
    let says = "loads a program";
    table.streaming("a plug-in of the Kafka client", not_carried_out(says), |job| {
        job["spec"]["kafka"]["config"] = settings
    });
}

fn numbers(table: &mut Table) {
    for replicas in [json!(1_000_000_000), json!(2), json!(-1), json!(9_223_372_036_854_775_807_i64), json!(1.5)] {
        table.streaming_field(
            "pods without number",
            otherwise("spec.replicas", "spec.replicas"),
            "/spec/replicas",
            replicas,
        );
    }
    for memory in [json!("999999999999999999999999Ti"), json!("-1"), json!("1e9999"), json!("NaN"), json!("0x10")] {
        let limits = json!({"resources": {"limits": {"memory": memory}}});
        table.streaming_field(
            "an odd amount of memory",
            otherwise("spec.pod.resources.limits", "spec.pod.resources.limits"),
            "/spec/pod",
            limits,
        );
    }
    for memory in [json!("65Gi"), json!("999999999999Ti"), json!(9_000_000_000_000_000_000_u64)] {
        let resources = json!({"resources": {"limits": {"memory": memory}}});
        let expected = not_allowed("is more than a job may have: write at most 64Gi");
        table.streaming_field("more memory than is allowed", expected, "/spec/pod", resources);
    }
    table.streaming_field(
        "memory without a limit",
        not_allowed("must limit its memory here"),
        "/spec/pod",
        json!({"resources": {"requests": {"cpu": 1}}}),
    );
    for (field, value) in [
        ("backoffLimit", json!(1_000_000_000)),
        ("successfulJobsHistoryLimit", json!(1_000_000_000)),
        ("failedJobsHistoryLimit", json!(-1)),
        ("startingDeadlineSeconds", json!(i64::MAX)),
        ("activeDeadlineSeconds", json!(0)),
        ("catchUp", json!(1_000_000_000)),
    ] {
        let at: &'static str = Box::leak(format!("spec.{field}").into_boxed_str());
        table.batch_field("a number out of bounds", otherwise(at, at), &format!("/spec/{field}"), value);
    }
    for schedule in ["@every 1s", "TZ=UTC * * * * *", "* * * * * *", "*/0 * * * *\n* * * * *", "0\u{0} * * * *"] {
        table.batch_field(
            "a schedule that is none",
            otherwise("spec.schedule", "spec.schedule"),
            "/spec/schedule",
            json!(schedule),
        );
    }
    let stop =
        Expected::Harmless { reason: "InvalidSpec", says: "spec.stopTimeout", offline: Some("spec.stopTimeout") };
    table.streaming_field("a pod that never stops", stop, "/spec/stopTimeout", json!("999999999d"));
}

/// Texts that read one way for a person and another way for a program.
fn tricks_of_yaml(table: &mut Table) {
    let mut yaml = |name: &'static str, job: &'static str, expected: Expected, find: &str, write: &str| {
        let text = format!(
            "apiVersion: dataplatform.io/v1alpha1\nkind: StreamingJob\nmetadata: {{name: {job}}}\nspec:\n  kafka: \
             {{bootstrapServers: \"127.0.0.1:1\"}}\n  sources: [{{name: s, topics: [t], columns: [{{name: t, type: timestamp, \
             required: true}}], eventTime: {{column: t}}}}]\n  query: SELECT window_start, count(*) AS n FROM s GROUP BY \
             tumble(t, INTERVAL '1 minute')\n  sink: {{path: counts}}\n  suspend: true\n  pod: {{}}\n"
        );
        assert!(text.contains(find), "{name}");
        table.add(name, "StreamingJob", job, text.replacen(find, write, 1), expected);
    };
    let twice = Expected::Harmless { reason: "Suspended", says: "", offline: Some("stands twice") };
    yaml("a field twice", "yaml-twice", twice, "  pod: {}\n", "  pod: {labels: {dataplatform.io/job: x}}\n  pod: {}\n");
    let merged = "  pod: {<<: &x {hostNetwork: true, nodeName: node-1}}\n";
    yaml("fields by a merge", "yaml-merge", otherwise("unknown field", "spec.pod"), "  pod: {}\n", merged);
    let anchored = "  pod: {labels: &l {team: a}, annotations: *l}\n";
    yaml("an alias", "yaml-alias", harmless(), "  pod: {}\n", anchored);
    yaml("a tag", "yaml-tag", otherwise("spec.suspend", "spec.suspend"), "suspend: true", "suspend: !!str true");
    yaml("a word for yes", "yaml-yes", otherwise("spec.suspend", "spec.suspend"), "suspend: true", "suspend: \"yes\"");
    yaml(
        "a number in base sixteen",
        "yaml-hex",
        otherwise("spec.replicas", "spec.replicas"),
        "  pod: {}",
        "  replicas: 0x7fffffff\n  pod: {}",
    );
    let second = "  pod: {}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: evil}\nspec: {containers: [{name: c, image: evil}]}\n";
    yaml("a pod in a second document", "yaml-second", otherwise("orbidden", "Pod"), "  pod: {}\n", second);
}

/// What only the API server or the operator may write.
fn forgeries(table: &mut Table) {
    let status = json!({
        "conditions": [{"type": "Ready", "status": "True", "reason": "Running", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        "observedGeneration": 1, "image": "evil", "replicas": 1,
    });
    table.streaming("a status", harmless(), |job| job["status"] = status);
    table.batch("a run that was never made", harmless(), |job| {
        job["status"] = json!({"scheduler": {"kind": "Job", "name": "other", "specHash": "0"}});
    });
    table.streaming("a finalizer", harmless(), |job| job["metadata"]["finalizers"] = json!(["example.org/never"]));
    table.streaming("fields of others", harmless(), |job| {
        job["metadata"]["generation"] = 1_000_000.into();
        job["metadata"]["creationTimestamp"] = "1970-01-01T00:00:00Z".into();
        job["metadata"]["selfLink"] = "/api/v1/namespaces/victim/secrets/treasure".into();
    });
    table.streaming("a restart with a text as long as it may be", harmless(), |job| {
        job["metadata"]["annotations"] = json!({"dataplatform.io/restartedAt": "x\n\u{0}".repeat(10_000)});
    });
    table.streaming("labels of a child on the job itself", harmless(), |job| {
        job["metadata"]["labels"] = json!({
            "app.kubernetes.io/managed-by": "data-platform", "dataplatform.io/job": "other", "dataplatform.io/kind": "StreamingJob",
        });
    });
}
