//! Releases on a real API server: several of them, upgrades, what uninstalling leaves. No pod has to run for it.
//!
//! Definitions belong to the whole cluster: all of this is one test, and other tests may have made them already. Their
//! content is the same; this test only takes the ownership, and leaves them.

use std::path::{Path, PathBuf};
use std::process::Command;

use data_platform_tests::environment;

use super::{chart, needs, output_of, repository, run};

/// An API server and the programs that talk to it.
struct Server {
    helm: PathBuf,
    kubeconfig: PathBuf,
}

impl Server {
    fn helm(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.helm);
        command.args(arguments).env("KUBECONFIG", &self.kubeconfig);
        command
    }

    /// A release of the chart, with further arguments.
    fn release(&self, verb: &str, name: &str, namespace: &str, more: &[&str]) -> Command {
        let mut command = self.helm(&[verb, name]);
        command.arg(chart()).args(["--namespace", namespace]).args(more);
        command
    }

    fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        output_of(Command::new(environment::kubectl()).args(arguments).env("KUBECONFIG", &self.kubeconfig))
    }

    /// Everything that a job consists of, with the numbers that every write changes.
    fn versions_of_job(&self, namespace: &str) -> anyhow::Result<String> {
        let fields = "custom-columns=:kind,:metadata.name,:metadata.uid,:metadata.resourceVersion";
        self.kubectl(&[
            "-n",
            namespace,
            "get",
            "streamingjobs,configmaps",
            "-l",
            "test=job",
            "--no-headers",
            "-o",
            fields,
        ])
    }
}

fn refused(command: &mut Command, expected: &str) -> anyhow::Result<()> {
    let output = run(command)?;
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && message.contains(expected), "{command:?}: {message}");
    Ok(())
}

/// What is of this test goes at the end, however it ends.
struct Cleanup<'a> {
    server: &'a Server,
    namespaces: [&'a str; 2],
}

impl Drop for Cleanup<'_> {
    fn drop(&mut self) {
        let [one, two] = self.namespaces;
        let ours = "app.kubernetes.io/part-of=data-platform,app.kubernetes.io/instance in (first,second,third)";
        let namespaces = self.server.kubectl(&["delete", "namespace", one, two, "--ignore-not-found", "--wait=false"]);
        let roles = self.server.kubectl(&["delete", "clusterrole", "-l", ours]);
        for left in [namespaces, roles].into_iter().filter_map(Result::err) {
            println!("left behind: {left:#}");
        }
    }
}

#[test]
fn releases_come_and_go_and_jobs_stay() -> anyhow::Result<()> {
    let server = Server { helm: needs!(helm), kubeconfig: needs!(kubeconfig) };
    // Namespaces of an earlier run may still be going.
    let [one, two] = ["one", "two"].map(|name| format!("chart-{name}-{}", std::process::id()));
    let (one, two) = (one.as_str(), two.as_str());
    let _cleanup = Cleanup { server: &server, namespaces: [one, two] };

    // A job runs as soon as there is a first release.
    output_of(&mut server.release("install", "first", one, &["--create-namespace", "--take-ownership"]))?;
    let manifest = repository().join("manifests/event-aggregation.yaml");
    let manifest = manifest.to_str().expect("a path of this repository");
    server.kubectl(&["wait", "--for=condition=Established", "crd/streamingjobs.dataplatform.io", "--timeout=60s"])?;
    server.kubectl(&["-n", one, "apply", "-f", manifest])?;
    server.kubectl(&["-n", one, "label", "streamingjob", "event-aggregation", "test=job"])?;
    server.kubectl(&["-n", one, "create", "configmap", "event-aggregation-1", "--from-literal=job.json={}"])?;
    server.kubectl(&["-n", one, "label", "configmap", "event-aggregation-1", "test=job"])?;
    let before = server.versions_of_job(one)?;
    assert_eq!(before.lines().count(), 2, "{before}");

    // A second release may not have the definitions as well.
    server.kubectl(&["create", "namespace", two])?;
    refused(&mut server.release("install", "second", two, &[]), "cannot be imported into the current release")?;
    output_of(&mut server.release("install", "second", two, &["--set", "crds.enabled=false"]))?;

    // An upgrade touches nothing that is a job's.
    output_of(&mut server.release("upgrade", "first", one, &["--set", "runner.image.tag=v2,image.tag=v2"]))?;
    assert_eq!(server.versions_of_job(one)?, before);

    // Uninstalling leaves definitions, jobs, claim and account.
    output_of(&mut server.helm(&["uninstall", "first", "--namespace", one]))?;
    assert_eq!(server.versions_of_job(one)?, before);
    server.kubectl(&["-n", one, "get", "pvc/data-platform", "serviceaccount/data-platform-runner"])?;
    let left = server.kubectl(&["-n", one, "get", "deployments,roles,services,networkpolicies", "-o", "name"])?;
    assert_eq!(left, "");

    // Another release takes them over, if it is told to; the first name needs no word afterwards.
    refused(&mut server.release("install", "third", one, &[]), "cannot be imported into the current release")?;
    output_of(&mut server.release("install", "third", one, &["--take-ownership"]))?;
    output_of(&mut server.helm(&["uninstall", "third", "--namespace", one]))?;
    output_of(&mut server.release("install", "third", one, &[]))?;
    assert_eq!(server.versions_of_job(one)?, before);

    output_of(&mut server.helm(&["uninstall", "second", "--namespace", two]))?;
    output_of(&mut server.helm(&["uninstall", "third", "--namespace", one]))?;
    assert_eq!(server.versions_of_job(one)?, before);
    Ok(())
}

#[test]
fn install_yaml_is_taken_by_the_api_server() -> anyhow::Result<()> {
    let kubeconfig = needs!(kubeconfig);
    let file: &Path = &repository().join("manifests/install.yaml");
    let mut command = Command::new(environment::kubectl());
    // Its namespace is not there in a dry run, so what lies in it cannot be asked of the server.
    command.args(["apply", "--dry-run=client", "--validate=strict", "-f"]).arg(file).env("KUBECONFIG", kubeconfig);
    let output = output_of(&mut command)?;
    assert!(output.lines().count() > 10, "{output}");
    Ok(())
}
