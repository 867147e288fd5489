//! What the editor tries.

use serde_json::{Value, json};

mod pods;

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
    pods::add(&mut table);
    names(&mut table);
    places(&mut table);
    numbers(&mut table);
    tricks_of_yaml(&mut table);
    forgeries(&mut table);
    table.0
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
