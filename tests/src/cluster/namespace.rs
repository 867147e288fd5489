//! A namespace of one test, with what a test asks of its pods.

use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

use super::Cluster;
use crate::environment;

/// How long the namespace may take until pods can be made in it: a moment, or more beside a build.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// Lines of the log of each pod that a time-out shows.
const LINES_SHOWN: &str = "--tail=20";

/// Deleted when it is dropped, with all that is in it; nobody waits for that.
#[derive(Debug)]
pub struct Namespace {
    cluster: Cluster,
    name: String,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodEnd {
    /// Exit code.
    pub code: i64,
    /// `Completed`, `Error`, `OOMKilled`, …
    pub reason: String,
    /// What the process left for Kubernetes; empty if nothing.
    pub message: String,
}

impl Namespace {
    pub(super) fn new(cluster: &Cluster, prefix: &str) -> anyhow::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{prefix}-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let labels = "{pod-security.kubernetes.io/enforce: restricted, dataplatform.io/test: \"true\"}";
        cluster.apply(&format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, labels: {labels}}}}}"))?;
        let namespace = Self { cluster: cluster.clone(), name };
        // A pod without an account is refused, and a controller makes it.
        cluster.wait_for(&format!("the service account of {}", namespace.name), READY_TIMEOUT, || {
            namespace.get_json(&["serviceaccount", "default"]).ok()
        })?;
        Ok(namespace)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// As [`Cluster::kubectl`], in this namespace.
    ///
    /// # Errors
    /// As there.
    pub fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.cluster.kubectl(&[&["--namespace", &self.name], arguments].concat())
    }

    /// As [`Cluster::apply`], in this namespace.
    ///
    /// # Errors
    /// As there.
    pub fn apply(&self, yaml: &str) -> anyhow::Result<String> {
        self.cluster.kubectl_reading(&["--namespace", &self.name, "apply", "-f", "-"], yaml)
    }

    /// As [`Cluster::get_json`], in this namespace.
    ///
    /// # Errors
    /// As there.
    pub fn get_json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        self.cluster.get_json(&[&["--namespace", &self.name], arguments].concat())
    }

    /// As [`Cluster::helm`], in this namespace.
    ///
    /// # Errors
    /// As there.
    pub fn helm(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.cluster.helm(&[&["--namespace", &self.name], arguments].concat())
    }

    /// Asks `attempt` until it gives something, at most four times a second.
    ///
    /// # Errors
    /// After `timeout`; the message has the pods, the events and the last lines of the logs of this namespace.
    pub fn wait_for<T>(&self, what: &str, timeout: Duration, attempt: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
        self.cluster.wait_for(what, timeout, attempt).with_context(|| self.happenings())
    }

    /// Waits until the first container of a pod has ended.
    ///
    /// # Errors
    /// As [`Namespace::wait_for`].
    pub fn wait_for_end(&self, pod: &str, timeout: Duration) -> anyhow::Result<PodEnd> {
        self.wait_for(&format!("the end of pod {pod}"), timeout, || {
            let found = self.get_json(&["pod", pod]).ok()?;
            let ended = found["status"]["containerStatuses"][0]["state"].get("terminated")?;
            let text = |name: &str| ended[name].as_str().unwrap_or_default().to_owned();
            Some(PodEnd { code: ended["exitCode"].as_i64()?, reason: text("reason"), message: text("message") })
        })
    }

    /// What a pod wrote, both outputs together.
    ///
    /// # Errors
    /// When there is no such pod, or it has not started.
    pub fn logs(&self, pod: &str) -> anyhow::Result<String> {
        self.kubectl(&["logs", pod])
    }

    /// The folder of this machine behind a bound claim (of the storage class `local`). It stays when claim and namespace
    /// are gone.
    ///
    /// # Errors
    /// When the claim is not bound: that takes a first pod.
    pub fn folder_of_claim(&self, claim: &str) -> anyhow::Result<PathBuf> {
        let found = self.get_json(&["persistentvolumeclaim", claim])?;
        let volume = found["spec"]["volumeName"].as_str().with_context(|| format!("claim {claim} is not bound"))?;
        let volume = self.cluster.get_json(&["persistentvolume", volume])?;
        volume["spec"]["local"]["path"].as_str().map(PathBuf::from).context("a volume of the class `local`")
    }

    /// Pods, events and logs, for the message of a failure.
    fn happenings(&self) -> String {
        let mut text = format!("in namespace {}:", self.name);
        let mut show = |title: &str, arguments: &[&str]| {
            let shown = self.kubectl(arguments).unwrap_or_else(|error| format!("{error:#}"));
            text.push_str(&format!("\n--- {title}\n{shown}"));
        };
        show("pods", &["get", "pods", "-o", "wide"]);
        show("events", &["events"]);
        let pods = self.kubectl(&["get", "pods", "-o", "jsonpath={.items[*].metadata.name}"]).unwrap_or_default();
        for pod in pods.split_whitespace() {
            show(&format!("log of {pod}"), &["logs", pod, "--all-containers", LINES_SHOWN]);
        }
        text
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if environment::keeps_folders() {
            println!("the namespace of this test stays: {}", self.name);
        } else if let Err(error) = self.cluster.kubectl(&["delete", "namespace", &self.name, "--wait=false"]) {
            eprintln!("{error:#}");
        }
    }
}
