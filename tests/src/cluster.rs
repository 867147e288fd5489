//! A real Kubernetes, as a user has it: through kubectl and helm. `tests/run` starts it once; every test makes
//! [namespaces](Namespace) of its own in it.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use crate::environment::{self, ClusterPlaces, NodePlaces};
use crate::wait::wait_with_pause;

mod namespace;

pub use namespace::{Namespace, PodEnd};

/// The images that `tests/run` gave the node.
pub const RUNNER_IMAGE: &str = "localhost/data-platform-runner:test";
/// See [`RUNNER_IMAGE`].
pub const OPERATOR_IMAGE: &str = "localhost/data-platform-operator:test";

/// How long a request to the API server may take: far above the slowest seen (0.8 s beside a build).
const REQUEST_TIMEOUT: &str = "--request-timeout=60s";
/// Pause between two looks: each is a start of kubectl, about 0.1 s of one core.
const PAUSE: Duration = Duration::from_millis(250);

/// Who may use the cluster: all at once, or one who breaks parts of it. First come, first served.
static TURNS: LazyLock<Arc<RwLock<()>>> = LazyLock::new(Arc::default);

#[derive(Debug)]
enum Turn {
    Shared { _guard: OwnedRwLockReadGuard<()> },
    Alone { _guard: OwnedRwLockWriteGuard<()> },
}

/// The cluster that all tests share.
#[derive(Clone, Debug)]
pub struct Cluster {
    places: ClusterPlaces,
    turn: Arc<Turn>,
}

impl Cluster {
    /// The cluster that `tests/run` started. Waits while a test has it for itself; a test that asks twice may wait for
    /// itself.
    ///
    /// # Errors
    /// Why there is none; see [`needs_cluster!`](crate::needs_cluster!).
    pub fn shared() -> Result<Self, String> {
        environment::cluster().map(Self::with_others)
    }

    fn with_others(places: ClusterPlaces) -> Self {
        Self { places, turn: Arc::new(Turn::Shared { _guard: wait_here(Arc::clone(&TURNS).read_owned()) }) }
    }

    /// The same without any other test beside, for one that kills parts of it: waits until all others are done with it.
    ///
    /// # Errors
    /// As [`Cluster::shared`].
    pub fn alone() -> Result<Self, String> {
        let places = environment::cluster()?;
        Ok(Self { places, turn: Arc::new(Turn::Alone { _guard: wait_here(Arc::clone(&TURNS).write_owned()) }) })
    }

    /// Kills a part of the cluster, such as `kube-apiserver`, with SIGKILL.
    ///
    /// # Errors
    /// When other tests use the cluster, or there is no such part.
    pub fn kill(&self, part: &str) -> anyhow::Result<()> {
        ensure!(matches!(*self.turn, Turn::Alone { .. }), "other tests use this cluster: take Cluster::alone for that");
        self.script("kill", &[part])
    }

    /// Starts again what was killed, and waits until it answers.
    ///
    /// # Errors
    /// When it does not.
    pub fn restart(&self) -> anyhow::Result<()> {
        self.script("up", &[])
    }

    fn script(&self, command: &str, more: &[&str]) -> anyhow::Result<()> {
        let folder = self.places.kubeconfig.parent().context("the folder of the cluster")?;
        let mut script = Command::new(repository().join("tests/env/kube/kube.sh"));
        script.arg(command).arg(folder).args(more);
        run(script, &[&[command], more].concat(), "").map(drop)
    }

    /// An API server for tests whose pods need not run: that of the cluster, or a control plane alone.
    ///
    /// # Errors
    /// Why there is none; see [`needs_control_plane!`](crate::needs_control_plane!).
    pub fn control_plane() -> Result<Self, String> {
        environment::control_plane().map(Self::with_others)
    }

    fn node(&self) -> &NodePlaces {
        self.places.node.as_ref().expect("a test that asks for pods begins with needs_cluster!()")
    }

    /// The address at which pods reach this machine: a broker for them listens there.
    #[must_use]
    pub fn node_address(&self) -> &str {
        &self.node().address
    }

    /// Every request to the API server, one JSON object (`audit.k8s.io/v1` Event, level Metadata) a line.
    #[must_use]
    pub fn audit_log(&self) -> &Path {
        &self.node().audit_log
    }

    /// Who one is when nothing else is said: an administrator. For programs that are tested outside of the cluster.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.places.kubeconfig
    }

    /// Runs kubectl and returns what it printed.
    ///
    /// # Errors
    /// When it does not end with 0; the message has what it wrote.
    pub fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.kubectl_reading(arguments, "")
    }

    /// The same with something on its standard input.
    ///
    /// # Errors
    /// As [`Cluster::kubectl`].
    pub fn kubectl_reading(&self, arguments: &[&str], input: &str) -> anyhow::Result<String> {
        let mut command = self.command(&self.places.kubectl);
        command.arg(REQUEST_TIMEOUT).args(arguments);
        run(command, arguments, input)
    }

    /// Runs helm and returns what it printed. Charts are named from the root of the repository: `helm/data-platform`.
    ///
    /// # Errors
    /// As [`Cluster::kubectl`].
    pub fn helm(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = self.command(&self.places.helm);
        command.args(arguments);
        run(command, arguments, "")
    }

    /// `kubectl apply` of these objects; returns what it printed.
    ///
    /// # Errors
    /// As [`Cluster::kubectl`].
    pub fn apply(&self, yaml: &str) -> anyhow::Result<String> {
        self.kubectl_reading(&["apply", "-f", "-"], yaml)
    }

    /// `kubectl get … -o json`.
    ///
    /// # Errors
    /// As [`Cluster::kubectl`]; an object that is not there is an error too.
    pub fn get_json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let text = self.kubectl(&[&["get", "-o", "json"], arguments].concat())?;
        serde_json::from_str(&text).with_context(|| format!("JSON of kubectl get {}", arguments.join(" ")))
    }

    /// Applies crds/yaml and waits until the API server serves it. Tests may do so side by side: it is always the same, and
    /// one after the other creates it.
    ///
    /// # Errors
    /// When it is refused.
    pub fn apply_crds(&self) -> anyhow::Result<String> {
        static CREATES: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let _one_at_a_time = CREATES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let folder = repository().join("crds/yaml");
        let folder = folder.to_str().context("a path that is text")?;
        let applied = self.kubectl(&["apply", "-f", folder])?;
        self.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "-f", folder])?;
        // A condition of the definition; the paths are served a moment later.
        for name in self.kubectl(&["get", "-o", "name", "-f", folder])?.lines() {
            let name = name.rsplit('/').next().unwrap_or(name);
            self.wait_for(&format!("{name} to be served"), Duration::from_secs(60), || {
                self.kubectl(&["get", name]).ok()
            })?;
        }
        Ok(applied)
    }

    /// Asks `attempt` until it gives something, at most four times a second.
    ///
    /// # Errors
    /// After `timeout`. [`Namespace::wait_for`] also tells what happened there.
    pub fn wait_for<T>(&self, what: &str, timeout: Duration, attempt: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
        wait_with_pause(what, timeout, PAUSE, attempt)
    }

    /// A new namespace in which only pods of the restricted profile may run; its name begins with `prefix`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn namespace(&self, prefix: &str) -> anyhow::Result<Namespace> {
        Namespace::new(self, prefix)
    }

    /// A program that talks to this cluster, whatever the person at the keyboard talks to.
    fn command(&self, program: &Path) -> Command {
        let state = self.places.kubeconfig.with_file_name("clients");
        let mut command = Command::new(program);
        command.current_dir(repository()).env("KUBECONFIG", &self.places.kubeconfig).env("KUBECACHEDIR", &state);
        for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(name, state.join(name));
        }
        for name in ["HELM_NAMESPACE", "HELM_KUBECONTEXT", "HELM_DRIVER", "HELM_DEBUG"] {
            command.env_remove(name);
        }
        command
    }
}

/// Blocks this thread, which is a test's own.
fn wait_here<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
    runtime.block_on(future)
}

/// The root of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    environment::tests_folder().parent().expect("tests lie in the repository").to_owned()
}

fn run(mut command: Command, arguments: &[&str], input: &str) -> anyhow::Result<String> {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {program}"))?;
    // Manifests are smaller than the buffer of a pipe, or kubectl reads all of them before it writes.
    match child.stdin.take().expect("it was piped").write_all(input.as_bytes()) {
        // It did not want to read; why not is in what it wrote.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        written => written.with_context(|| format!("write to {program}"))?,
    }
    let output = child.wait_with_output().with_context(|| format!("wait for {program}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if !output.status.success() {
        bail!("{program} {}: {}\n{}", arguments.join(" "), output.status, text(&output.stderr));
    }
    Ok(text(&output.stdout))
}
