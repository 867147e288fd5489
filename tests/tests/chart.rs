//! The Helm chart: what it renders, what it refuses, what it makes of a cluster; its alerts, dashboards and copies.

mod alerts;
mod copies;
mod health;
mod install;
mod pods;
mod rendered;
mod rights;
mod values;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, bail};
use data_platform_tests::cluster::repository;
use data_platform_tests::environment;
use serde_json::Value;

/// A program that `make test` provides, or the end of the test, as skipped.
macro_rules! needs {
    ($program:ident) => {
        match data_platform_tests::environment::$program() {
            Some(program) => program,
            None => data_platform_tests::skip!("no {}; `make test` gets it", stringify!($program)),
        }
    };
}
pub(crate) use needs;

/// The namespace into which everything is rendered.
const NAMESPACE: &str = "platform";
/// The name of the release.
const RELEASE: &str = "rel";

fn chart() -> PathBuf {
    repository().join("helm/data-platform")
}

/// Runs a program to its end, in the repository.
fn run(command: &mut Command) -> anyhow::Result<Output> {
    command.current_dir(repository()).output().with_context(|| format!("run {command:?}"))
}

/// What a program wrote, if it ended well.
fn output_of(command: &mut Command) -> anyhow::Result<String> {
    let output = run(command)?;
    let (written, errors) = (String::from_utf8(output.stdout)?, String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        bail!("{command:?} ended with {}:\n{written}{errors}", output.status);
    }
    Ok(written)
}

/// `helm template` with further arguments.
fn template(helm: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(helm);
    // A client alone believes that the cluster is an old one.
    command.args(["template", RELEASE]).arg(chart()).args(["--namespace", NAMESPACE, "--kube-version", "1.34.0"]);
    command.args(arguments);
    command
}

/// The objects that one of the files in `charts/values` gives.
fn objects(helm: &Path, values: &str) -> anyhow::Result<Vec<Value>> {
    let file = environment::tests_folder().join("charts/values").join(format!("{values}.yaml"));
    let text = output_of(template(helm, &[]).arg("--values").arg(file))?;
    documents(&text)
}

/// The documents of a YAML text, without the empty ones.
fn documents(text: &str) -> anyhow::Result<Vec<Value>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// The names of the files in `charts/values`, sorted.
fn sets_of_values() -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(environment::tests_folder().join("charts/values"))? {
        let path = entry?.path();
        names.push(path.file_stem().and_then(|name| name.to_str()).context("a name of a file")?.to_owned());
    }
    names.sort();
    assert!(names.len() >= 4, "{names:?}");
    Ok(names)
}

/// Kind and name of an object, for messages.
fn name(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!("{} {}", text(&object["kind"]), text(&object["metadata"]["name"]))
}
