//! The chart in a namespace of a test, installed as a user does it, with the images of this repository.

use std::time::Duration;

use anyhow::{Context, ensure};
use data_platform_tests::cluster::{Cluster, Namespace, repository};
use data_platform_tests::{Broker, Pages};
use serde_json::{Value, json};

use crate::events::Stream;

/// Until a pod is there and its job reads, on a machine that does other things beside.
pub(super) const TIMEOUT: Duration = Duration::from_secs(180);

/// Where a runner's pod has its pages.
const PAGES_PORT: u16 = 9999;

/// The operator's pods.
pub(super) const OPERATOR: &str = "app.kubernetes.io/name=data-platform-operator";

/// An operator that watches its own namespace.
pub(super) struct Platform {
    pub(super) cluster: Cluster,
    pub(super) namespace: Namespace,
}

impl Platform {
    /// Installs the chart; `more` are further arguments of `helm install`.
    pub(super) fn install(cluster: Cluster, prefix: &str, more: &[&str]) -> anyhow::Result<Self> {
        cluster.apply_crds()?;
        let namespace = cluster.namespace(prefix)?;
        let platform = Self { cluster, namespace };
        platform.helm(&["install"], more)?;
        platform.wait_for_operator()?;
        Ok(platform)
    }

    /// `helm install` or `helm upgrade` with the values of a test.
    pub(super) fn helm(&self, command: &[&str], more: &[&str]) -> anyhow::Result<String> {
        let values = [
            "crds.enabled=false",
            "image.registry=localhost",
            "image.tag=test",
            "runner.image.registry=localhost",
            "runner.image.tag=test",
            "runner.defaultResources.requests.cpu=10m",
            "runner.defaultResources.requests.memory=32Mi",
            "runner.defaultResources.limits.memory=256Mi",
            "resources.requests.cpu=10m",
            "storage.create.size=1Gi",
        ];
        let values = values.iter().flat_map(|value| ["--set", value]);
        let arguments: Vec<_> = command.iter().copied().chain(["data-platform", "helm/data-platform"]).collect();
        let arguments: Vec<_> = arguments.into_iter().chain(values).chain(more.iter().copied()).collect();
        self.namespace.helm(&arguments)
    }

    /// Waits until the operator is ready, and the pods of the one before it are gone: they may lead until their end.
    pub(super) fn wait_for_operator(&self) -> anyhow::Result<()> {
        self.namespace.wait_for("the operator to be ready", TIMEOUT, || {
            let pods = self.namespace.get_json(&["pods", "--selector", OPERATOR]).ok()?;
            let deployment = self.namespace.get_json(&["deployment", "data-platform-operator"]).ok()?;
            let status = &deployment["status"];
            let all = deployment["spec"]["replicas"].as_i64()?;
            let is_new = status["observedGeneration"] == deployment["metadata"]["generation"];
            let is_alone = i64::try_from(pods["items"].as_array()?.len()).ok()? == all;
            (is_alone && is_new && status["readyReplicas"] == all && status["updatedReplicas"] == all).then_some(())
        })
    }

    /// Applies a job.
    pub(super) fn apply(&self, job: &Value) -> anyhow::Result<String> {
        self.namespace.apply(&job.to_string())
    }

    /// The event-aggregation job of the repository over the topic of a stream, from its earliest record.
    pub(super) fn event_aggregation(&self, name: &str, stream: &Stream) -> anyhow::Result<Value> {
        let mut job = Self::manifest("event-aggregation")?;
        job["metadata"]["name"] = name.into();
        let spec = &mut job["spec"];
        spec["kafka"]["bootstrapServers"] = stream.broker.address_for_pods()?.into();
        spec["kafka"]["startingOffsets"] = "earliest".into();
        spec["kafka"]["maxOffsetsPerTrigger"] = 10_000.into();
        spec["sources"][0]["topics"] = json!([stream.topic]);
        spec["trigger"] = json!({"interval": "1s"});
        spec["sink"]["path"] = name.into();
        Ok(job)
    }

    /// A job of manifests/, as JSON.
    pub(super) fn manifest(name: &str) -> anyhow::Result<Value> {
        let file = repository().join(format!("manifests/{name}.yaml"));
        let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        serde_saphyr::from_str(&text).with_context(|| format!("{} as one object", file.display()))
    }

    /// A job as it is; `kind` as in `kubectl get`.
    pub(super) fn job(&self, kind: &str, name: &str) -> anyhow::Result<Value> {
        self.namespace.get_json(&[kind, name])
    }

    /// Waits until the condition Ready of a streaming job has this reason; gives the job.
    pub(super) fn wait_for_reason(&self, name: &str, reason: &str) -> anyhow::Result<Value> {
        self.wait_for_job(name, &format!("to be {reason}"), |job| condition(job, "Ready")["reason"] == reason)
    }

    /// Waits for something in the status of a streaming job; see [`Self::wait_for_status`].
    pub(super) fn wait_for_job(&self, name: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        self.wait_for_status("streamingjob", name, what, is_so)
    }

    /// Waits for something in the status of a job, for its present generation; gives the job.
    pub(super) fn wait_for_status(
        &self,
        kind: &str,
        name: &str,
        what: &str,
        is_so: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        let mut last = Value::Null;
        let found = self.namespace.wait_for(&format!("{name} {what}"), TIMEOUT, || {
            last = self.job(kind, name).ok()?;
            let is_new = last["status"]["observedGeneration"] == last["metadata"]["generation"];
            (is_new && is_so(&last)).then(|| last.clone())
        });
        found.with_context(|| format!("the last status of {name}: {:#}", last["status"]))
    }

    /// Waits until a job has committed every record that its topics have at this moment. The status of the resource cannot
    /// tell: it is some seconds old, and may still speak of the time before the newest records.
    pub(super) fn wait_for_all_records(&self, name: &str, broker: &Broker) -> anyhow::Result<()> {
        let mut last = Value::Null;
        let found = self.namespace.wait_for(&format!("{name} to have committed all records"), TIMEOUT, || {
            last = self.runner_status(name).ok()?;
            let partitions = last["partitions"].as_array()?;
            let is_at_end = |partition: &Value| -> Option<bool> {
                let ends = broker.offsets(partition["topic"].as_str()?).ok()?;
                let (_, end) = ends.get(usize::try_from(partition["partition"].as_i64()?).ok()?)?;
                Some(partition["position"].as_i64()? == *end)
            };
            let are_at_end = partitions.iter().all(|partition| is_at_end(partition) == Some(true));
            (!partitions.is_empty() && are_at_end).then_some(())
        });
        found.with_context(|| format!("what the runner of {name} said last: {last:#}"))
    }

    /// What the pod of a job answers at `/status`.
    fn runner_status(&self, name: &str) -> anyhow::Result<Value> {
        let pod = self.pods(name)?.pop().with_context(|| format!("a pod of {name}"))?;
        let pod = self.namespace.get_json(&["pod", &pod])?;
        let address = pod["status"]["podIP"].as_str().context("the address of the pod")?;
        Pages::at(format!("{address}:{PAGES_PORT}")).get("/status")?.json()
    }

    /// Names of the pods of a job.
    pub(super) fn pods(&self, job: &str) -> anyhow::Result<Vec<String>> {
        let label = format!("dataplatform.io/job={job}");
        let pods = self.namespace.get_json(&["pods", "--selector", &label])?;
        let pods = pods["items"].as_array().context("a list of pods")?;
        Ok(pods.iter().filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned)).collect())
    }

    /// Stops a job, and compares what it wrote with an independent computation over all records of the topic, as far as
    /// windows are closed.
    pub(super) fn check_closed_windows(&self, name: &str, stream: &Stream) -> anyhow::Result<()> {
        self.stop(name)?;
        let watermark = self.watermark_of(name)?.context("a watermark")?;
        let output = self.namespace.folder_of_claim("data-platform")?.join("outputs").join(name);
        let expected = stream.expected()?;
        expected.compare(&output, &["--watermark", &watermark.to_string()])?.expect_success()?;
        Ok(())
    }

    /// Stops a job, and waits until it is.
    pub(super) fn stop(&self, name: &str) -> anyhow::Result<()> {
        let suspend = r#"{"spec":{"suspend":true}}"#;
        self.namespace.kubectl(&["patch", "streamingjob", name, "--type=merge", "--patch", suspend])?;
        self.wait_for_reason(name, "Suspended")?;
        ensure!(self.pods(name)?.is_empty(), "a suspended job has no pods");
        Ok(())
    }

    /// The watermark up to which a table has the rows of windows, in microseconds since 1970; `None` if it has no windows.
    pub(super) fn watermark_of(&self, table: &str) -> anyhow::Result<Option<i64>> {
        let table = self.namespace.folder_of_claim("data-platform")?.join("outputs").join(table);
        let progress = std::fs::read(data_platform_tests::folders::beside(&table).join("progress.json"))
            .context("the progress of the output")?;
        let progress: Value = serde_json::from_slice(&progress)?;
        Ok(progress["watermark"].as_i64())
    }
}

/// A condition of a job; null without it.
pub(super) fn condition(job: &Value, kind: &str) -> Value {
    let conditions = job["status"]["conditions"].as_array();
    let found = conditions.and_then(|all| all.iter().find(|condition| condition["type"] == kind));
    found.cloned().unwrap_or_default()
}

/// Every record of the topic is committed.
pub(super) fn is_caught_up(job: &Value) -> bool {
    condition(job, "Ready")["status"] == "True"
        && job["status"]["lag"]["totalRecords"] == 0
        && job["status"]["lastCheckpoint"]["version"].as_i64() > Some(0)
}
