//! A person who may edit the jobs of one namespace and nothing else gets no pod that they should not have.
//!
//! Every attempt is made with the rights that the chart gives to editors, against a real API server, and the operator's
//! process runs beside the test: with a node or without one, no pod has to run. An attempt is refused when it is applied,
//! with a message that names field and cure, and offline in the same way; or it is accepted, and what the operator makes
//! of it is compared with the shape of a runner.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use data_platform_tests::cluster::RUNNER_IMAGE;
use data_platform_tests::process::expect_code;
use data_platform_tests::{Cluster, Namespace, Runner, environment, needs_control_plane};
use serde_json::{Value, json};

mod attempts;
mod shape;

use attempts::{Attempt, Expected};

/// Requests at once: more only wait for the two cores of a small machine.
const THREADS: usize = 3;
/// Until the operator has looked at a job, on a machine that does other things beside.
const TIMEOUT: Duration = Duration::from_secs(90);
/// The text of a Secret that nobody here may read.
const CANARY: &str = "canary-d4c1b7e2";
/// Who is not to be trusted.
const EDITOR: [&str; 2] = ["--as=mallory", "--as-group=system:authenticated"];
/// The account that the operator gives to pods.
const ACCOUNT: &str = "data-platform-runner";
/// Names that other people's objects have already: what stands there, and which kind of job wants the name.
const TAKEN: [(&str, &str, &str); 3] = [
    ("deployment", "payments", "streamingjobs"),
    ("service", "broker", "streamingjobs"),
    ("cronjob", "nightly", "batchjobs"),
];

/// A namespace with an operator, an editor of jobs, and objects of other people.
struct Scene {
    cluster: Cluster,
    namespace: Namespace,
    victim: Namespace,
    _operator: Runner,
}

impl Scene {
    fn new(cluster: Cluster) -> anyhow::Result<Self> {
        cluster.apply_crds()?;
        let namespace = cluster.namespace("hostile")?;
        let victim = cluster.namespace("victim")?;
        for namespace in [&namespace, &victim] {
            let secret = format!("--from-literal=password={CANARY}");
            namespace.kubectl(&["create", "secret", "generic", "treasure", &secret])?;
            let claim = "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: data}, spec: {accessModes: \
                         [ReadWriteMany], resources: {requests: {storage: 1Gi}}}}";
            namespace.apply(claim)?;
        }
        namespace.kubectl(&["create", "deployment", "payments", "--image=localhost/pause:test", "--replicas=0"])?;
        namespace.kubectl(&["create", "service", "clusterip", "broker", "--tcp=9092"])?;
        let command = ["create", "cronjob", "nightly", "--image=localhost/pause:test", "--schedule=0 0 1 1 *"];
        namespace.kubectl(&command)?;
        namespace.apply(&rights_of_editors(&cluster)?.to_string())?;
        let role = ["create", "rolebinding", "mallory", "--role=editors", "--user=mallory"];
        namespace.kubectl(&role)?;
        let operator = Runner::program(&environment::program("data-platform-operator"), ["--leader-election=false"])
            .env("KUBECONFIG", cluster.kubeconfig())
            .env("POD_NAMESPACE", namespace.name())
            .env("HTTP_ADDRESS", "127.0.0.1:0")
            .env("STORAGE_CLAIM", "data")
            .env("RUNNER_IMAGE", RUNNER_IMAGE)
            .env("RUNNER_SERVICE_ACCOUNT", ACCOUNT)
            .env("ALLOWED_RESOURCES", r#"{"memory": "64Gi"}"#)
            .start()?;
        Ok(Self { cluster, namespace, victim, _operator: operator })
    }

    /// kubectl as the editor.
    fn as_editor(&self, arguments: &[&str], input: &str) -> anyhow::Result<String> {
        let namespace = ["--namespace", self.namespace.name()];
        self.cluster.kubectl_reading(&[&EDITOR[..], &namespace, arguments].concat(), input)
    }

    /// What other people have in the namespace, with the number that every write changes.
    fn foreign(&self) -> anyhow::Result<Vec<String>> {
        let version = "jsonpath={.metadata.uid} {.metadata.resourceVersion}";
        TAKEN.iter().map(|(kind, name, _)| self.namespace.kubectl(&["get", kind, name, "-o", version])).collect()
    }
}

/// The rights of the chart's aggregated roles, as a Role.
fn rights_of_editors(cluster: &Cluster) -> anyhow::Result<Value> {
    let roles = cluster.helm(&[
        "template",
        "x",
        "helm/data-platform",
        "--kube-version",
        "1.34.0",
        "--show-only",
        "templates/userroles.yaml",
    ])?;
    let roles: Vec<Value> = serde_saphyr::from_multiple(&roles).context("the roles of the chart")?;
    let rules: Vec<Value> =
        roles.iter().flat_map(|role| role["rules"].as_array().cloned().unwrap_or_default()).collect();
    ensure!(rules.len() >= 3, "{rules:?}");
    Ok(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "editors"}, "rules": rules,
    }))
}

/// What `data-platform validate` says.
fn offline(attempt: &Attempt) -> anyhow::Result<Result<(), String>> {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    std::fs::write(file.path(), &attempt.manifest)?;
    let file = file.path().to_str().context("a path that is text")?;
    let (ended, runner) = Runner::command(["validate", "-f", file]).run(TIMEOUT)?;
    if expect_code(ended, 0, &runner).is_ok() {
        return Ok(Ok(()));
    }
    expect_code(ended, 2, &runner)?;
    Ok(Err(runner.stderr()))
}

/// Makes an attempt, and compares both verdicts with what is expected.
fn make(scene: &Scene, attempt: &Attempt) -> anyhow::Result<()> {
    let applied = scene.as_editor(&["apply", "-f", "-"], &attempt.manifest).map_err(|error| format!("{error:#}"));
    let checked = offline(attempt)?;
    let says = |verdict: &Result<(), String>, parts: &[&str]| match verdict {
        Ok(()) => false,
        Err(said) => parts.iter().all(|part| said.contains(part)),
    };
    let applied_alone = applied.clone().map(drop);
    match &attempt.expected {
        Expected::Refused(parts) => {
            ensure!(says(&applied_alone, parts), "the API server: {applied:?}");
            ensure!(says(&checked, parts), "offline: {checked:?}");
        }
        Expected::RefusedOtherwise { server, offline } => {
            ensure!(says(&applied_alone, &[*server]), "the API server: {applied:?}");
            ensure!(says(&checked, &[*offline]), "offline: {checked:?}");
        }
        Expected::Unknown(field) => {
            ensure!(says(&applied_alone, &["unknown field", field]), "the API server: {applied:?}");
            ensure!(says(&checked, &["unknown field", field]), "offline: {checked:?}");
            // Who asks for less checking gets the job without the field.
            scene.as_editor(&["apply", "--validate=false", "-f", "-"], &attempt.manifest)?;
        }
        Expected::Harmless { offline, .. } => {
            if let Err(error) = applied {
                bail!("the API server: {error}");
            }
            match offline {
                None => ensure!(checked.is_ok(), "offline: {checked:?}"),
                Some(part) => ensure!(says(&checked, &[*part]), "offline: {checked:?}"),
            }
        }
    }
    Ok(())
}

/// Calls `work` for each of them, several side by side. Gives every failure.
fn side_by_side<T: Sync>(
    all: &[T],
    work: impl Fn(&T) -> anyhow::Result<()> + Sync,
    name: fn(&T) -> &str,
) -> Vec<String> {
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = work(one) {
                        failures.lock().expect("nobody panics with it").push(format!("{}: {error:#}", name(one)));
                    }
                }
            });
        }
    });
    failures.into_inner().expect("nobody panics with it")
}

/// Waits until the operator has said something of every job; gives reason and message of the condition Ready, by kind and
/// name.
fn verdicts(scene: &Scene) -> anyhow::Result<BTreeMap<(String, String), (String, String)>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    scene.namespace.wait_for("a word on every job", TIMEOUT, || {
        let mut found = BTreeMap::new();
        for job in scene.namespace.get_json(&["streamingjobs,batchjobs"]).ok()?["items"].as_array()? {
            let ready = super::platform::condition(job, "Ready");
            if ready.is_null() || job["status"]["observedGeneration"] != job["metadata"]["generation"] {
                return None;
            }
            let key = (text(&job["kind"]), text(&job["metadata"]["name"]));
            found.insert(key, (text(&ready["reason"]), text(&ready["message"])));
        }
        Some(found)
    })
}

#[test]
fn an_editor_of_jobs_gets_no_pod_that_they_should_not_have() -> anyhow::Result<()> {
    let scene = Scene::new(needs_control_plane!())?;
    let foreign = scene.foreign()?;
    let attempts = attempts::all();
    ensure!(attempts.len() >= 100, "only {} attempts", attempts.len());
    let mut failures = side_by_side(&attempts, |attempt| make(&scene, attempt), |attempt| attempt.name);

    // A job that runs once, and at once: a Job instead of a CronJob.
    let once = attempts::batch("once", |job| {
        job["spec"].as_object_mut().expect("a spec").remove("schedule");
        job["spec"]["suspend"] = false.into();
    });
    scene.as_editor(&["apply", "-f", "-"], &once)?;
    let verdicts = verdicts(&scene)?;
    for attempt in &attempts {
        let Expected::Harmless { reason, says, .. } = &attempt.expected else { continue };
        let key = (attempt.kind.to_owned(), attempt.job.clone());
        match verdicts.get(&key) {
            Some((found, message)) if found == reason && message.contains(says) => {}
            found => failures.push(format!("{}: expected {reason} with {says:?}, found {found:?}", attempt.name)),
        }
    }
    let made = scene.namespace.get_json(&["deployments,cronjobs,jobs,services,configmaps"])?;
    let objects = made["items"].as_array().context("a list of objects")?;
    let mut compared = 0;
    for object in
        objects.iter().filter(|object| object["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "data-platform")
    {
        let odd = shape::oddities(object, scene.namespace.name());
        compared += 1;
        if !odd.is_empty() {
            failures.push(format!("{} {}: {odd:#?}", object["kind"], object["metadata"]["name"]));
        }
    }
    ensure!(compared > 60, "only {compared} objects were made");
    for kind in ["Deployment", "Service", "ConfigMap", "CronJob", "Job"] {
        ensure!(objects.iter().any(|object| object["kind"] == kind), "no {kind} was compared");
    }
    ensure!(!made.to_string().contains(CANARY), "a secret stands in an object");
    ensure!(!scene.namespace.get_json(&["events"])?.to_string().contains(CANARY), "a secret stands in an event");
    let kept = scene.foreign()?;
    ensure!(kept == foreign, "objects of others were touched: {foreign:?} {kept:?}");
    let strayed = scene.victim.get_json(&["streamingjobs,batchjobs,deployments,cronjobs,jobs,pods"])?;
    ensure!(strayed["items"].as_array().is_some_and(Vec::is_empty), "{strayed:#}");
    ensure!(failures.is_empty(), "{} of {}:\n\n{}", failures.len(), attempts.len(), failures.join("\n\n"));
    println!("{} attempts, {compared} objects compared", attempts.len());
    Ok(())
}

#[test]
fn an_editor_of_jobs_reaches_nothing_else_directly() -> anyhow::Result<()> {
    let scene = Scene::new(needs_control_plane!())?;
    let victim = scene.victim.name();
    let job = attempts::streaming("plain", |_| {});
    scene.as_editor(&["apply", "-f", "-"], &job)?;
    let job_of_victim = job.replace(r#""metadata":{"#, &format!(r#""metadata":{{"namespace":"{victim}","#));
    ensure!(job_of_victim != job);
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c, image: i}]}}";
    let forged = r#"{"status":{"conditions":[{"type":"Ready","status":"True","reason":"Running","message":"",
        "lastTransitionTime":"2026-01-01T00:00:00Z"}]}}"#;
    let scheduled = attempts::batch("scheduled", |_| {});
    scene.as_editor(&["apply", "-f", "-"], &scheduled)?;
    scene.namespace.wait_for("the CronJob", TIMEOUT, || scene.namespace.get_json(&["cronjob", "scheduled"]).ok())?;
    let attempts: &[(&[&str], &str, &str)] = &[
        (&["get", "secret", "treasure"], "", "orbidden"),
        (&["--namespace", victim, "get", "secret", "treasure"], "", "orbidden"),
        (&["--namespace", victim, "get", "streamingjobs"], "", "orbidden"),
        (&["--namespace", victim, "apply", "-f", "-"], &job_of_victim, "orbidden"),
        (&["apply", "-f", "-"], pod, "orbidden"),
        (&["patch", "deployment", "plain", "--type=merge", "-p", r#"{"spec":{"replicas":9}}"#], "", "orbidden"),
        (&["create", "job", "x", "--from=cronjob/scheduled"], "", "orbidden"),
        (&["get", "configmaps"], "", "orbidden"),
        (&["patch", "sj", "plain", "--subresource=status", "--type=merge", "-p", forged], "", "orbidden"),
        (&["scale", "sj/plain", "--replicas=1000000000"], "", "should be less than or equal to 1"),
        (&["scale", "sj/plain", "--replicas=2"], "", "should be less than or equal to 1"),
        (
            &["patch", "sj", "plain", "--type=json", "-p", r#"[{"op":"replace","path":"/spec/replicas","value":-1}]"#],
            "",
            "spec.replicas",
        ),
    ];
    for (arguments, input, says) in attempts {
        let Err(error) = scene.as_editor(arguments, input) else { bail!("kubectl {arguments:?} went through") };
        ensure!(format!("{error:#}").contains(says), "kubectl {arguments:?}: {error:#}");
    }
    Ok(())
}
