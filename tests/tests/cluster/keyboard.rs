//! Commands as a user types them, in the namespace of a test. Two things stand in for what a user has: images that are on
//! the node instead of in a registry, and the types, which all tests share.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use data_platform_tests::cluster::{Namespace, repository};
use data_platform_tests::{JobFolders, environment};

/// A program of this name that does what the real one does.
fn stand_in(folder: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).with_context(|| format!("write {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).context("make it a program")
}

/// Runs a command in the root of the repository, with a kubectl and a helm for this namespace; gives what it said.
pub(super) fn run_as_a_user(namespace: &Namespace, command: &mut Command) -> anyhow::Result<String> {
    let places = environment::cluster().map_err(anyhow::Error::msg)?;
    let folders = JobFolders::new()?;
    let (kubectl, helm, name) = (places.kubectl.display(), places.helm.display(), namespace.name());
    stand_in(folders.root(), "kubectl", &format!("exec {kubectl} --namespace {name} \"$@\""))?;
    let values = "crds.enabled=false,image.tag=test,runner.image.tag=test,global.imageRegistry=localhost,storage.create.size=1Gi";
    stand_in(folders.root(), "helm", &format!("exec {helm} --namespace {name} \"$@\" --set {values}"))?;
    let path = format!("{}:{}", folders.root().display(), std::env::var("PATH").unwrap_or_default());
    let command = command.current_dir(repository()).env("PATH", path).env("KUBECONFIG", &places.kubeconfig);
    let output = command.output().context("run the command")?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let events = || namespace.kubectl(&["events"]).unwrap_or_default();
    ensure!(output.status.success(), "{said}\n{}", events());
    Ok(said)
}
