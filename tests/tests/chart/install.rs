//! Releases on a real API server: several of them, upgrades, what uninstalling leaves. No pod has to run for it.
//!
//! Definitions belong to the whole cluster: all of this is one test, and other tests may have made them already. Their
//! content is the same; this test only takes the ownership, and leaves them.

use anyhow::bail;
use data_platform_tests::cluster::repository;
use data_platform_tests::{Cluster, needs_control_plane};

/// The chart, from the root of the repository.
const CHART: &str = "helm/data-platform";

/// A release of the chart, with further arguments.
fn release(cluster: &Cluster, verb: &str, name: &str, namespace: &str, more: &[&str]) -> anyhow::Result<String> {
    cluster.helm(&[&[verb, name, CHART, "--namespace", namespace], more].concat())
}

/// The same, which must not work.
fn refused(cluster: &Cluster, name: &str, namespace: &str, expected: &str) -> anyhow::Result<()> {
    match release(cluster, "install", name, namespace, &[]) {
        Err(error) if format!("{error:#}").contains(expected) => Ok(()),
        other => bail!("helm install {name} should say {expected:?}: {other:?}"),
    }
}

/// Everything that a job consists of, with the numbers that every write changes.
fn versions_of_job(cluster: &Cluster, namespace: &str) -> anyhow::Result<String> {
    let fields = "custom-columns=:kind,:metadata.name,:metadata.uid,:metadata.resourceVersion";
    let kinds = "streamingjobs,configmaps";
    cluster.kubectl(&["-n", namespace, "get", kinds, "-l", "test=job", "--no-headers", "-o", fields])
}

/// What is of this test goes at the end, however it ends.
struct Cleanup<'a> {
    cluster: &'a Cluster,
    namespaces: [&'a str; 2],
}

impl Drop for Cleanup<'_> {
    fn drop(&mut self) {
        let [one, two] = self.namespaces;
        let ours = "app.kubernetes.io/part-of=data-platform,app.kubernetes.io/instance in (first,second,third)";
        let namespaces = self.cluster.kubectl(&["delete", "namespace", one, two, "--ignore-not-found", "--wait=false"]);
        let roles = self.cluster.kubectl(&["delete", "clusterrole", "-l", ours]);
        for left in [namespaces, roles].into_iter().filter_map(Result::err) {
            println!("left behind: {left:#}");
        }
    }
}

#[test]
fn releases_come_and_go_and_jobs_stay() -> anyhow::Result<()> {
    let cluster = &needs_control_plane!();
    // Namespaces of an earlier run may still be going.
    let [one, two] = ["one", "two"].map(|name| format!("chart-{name}-{}", std::process::id()));
    let (one, two) = (one.as_str(), two.as_str());
    let _cleanup = Cleanup { cluster, namespaces: [one, two] };

    // A job runs as soon as there is a first release.
    release(cluster, "install", "first", one, &["--create-namespace", "--take-ownership"])?;
    let manifest = repository().join("manifests/event-aggregation.yaml");
    let manifest = manifest.to_str().expect("a path of this repository");
    cluster.kubectl(&["wait", "--for=condition=Established", "crd/streamingjobs.dataplatform.io", "--timeout=60s"])?;
    cluster.kubectl(&["-n", one, "apply", "-f", manifest])?;
    cluster.kubectl(&["-n", one, "label", "streamingjob", "event-aggregation", "test=job"])?;
    cluster.kubectl(&["-n", one, "create", "configmap", "event-aggregation-1", "--from-literal=job.json={}"])?;
    cluster.kubectl(&["-n", one, "label", "configmap", "event-aggregation-1", "test=job"])?;
    let before = versions_of_job(cluster, one)?;
    assert_eq!(before.lines().count(), 2, "{before}");

    // A second release may not have the definitions as well.
    cluster.kubectl(&["create", "namespace", two])?;
    refused(cluster, "second", two, "cannot be imported into the current release")?;
    release(cluster, "install", "second", two, &["--set", "crds.enabled=false"])?;

    // An upgrade touches nothing that is a job's.
    release(cluster, "upgrade", "first", one, &["--set", "runner.image.tag=v2,image.tag=v2"])?;
    assert_eq!(versions_of_job(cluster, one)?, before);

    // Uninstalling leaves definitions, jobs, claim and account.
    cluster.helm(&["uninstall", "first", "--namespace", one])?;
    assert_eq!(versions_of_job(cluster, one)?, before);
    cluster.kubectl(&["-n", one, "get", "pvc/data-platform", "serviceaccount/data-platform-runner"])?;
    let left = cluster.kubectl(&["-n", one, "get", "deployments,roles,services,networkpolicies", "-o", "name"])?;
    // It protects the jobs as long as they run.
    assert_eq!(left.trim(), "networkpolicy.networking.k8s.io/data-platform-runner");

    // Another release takes them over, if it is told to; the first name needs no word afterwards.
    refused(cluster, "third", one, "cannot be imported into the current release")?;
    release(cluster, "install", "third", one, &["--take-ownership"])?;
    cluster.helm(&["uninstall", "third", "--namespace", one])?;
    release(cluster, "install", "third", one, &[])?;
    assert_eq!(versions_of_job(cluster, one)?, before);

    cluster.helm(&["uninstall", "second", "--namespace", two])?;
    cluster.helm(&["uninstall", "third", "--namespace", one])?;
    assert_eq!(versions_of_job(cluster, one)?, before);
    Ok(())
}

#[test]
fn install_yaml_is_taken_by_the_api_server() -> anyhow::Result<()> {
    let file = repository().join("manifests/install.yaml");
    let file = file.to_str().expect("a path of this repository");
    // Its namespace is not there in a dry run, so what lies in it cannot be asked of the server.
    let output = needs_control_plane!().kubectl(&["apply", "--dry-run=client", "--validate=strict", "-f", file])?;
    assert!(output.lines().count() > 10, "{output}");
    Ok(())
}
