//! The API server serves our types, explains every field of them, and refuses what is wrong.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use data_platform_tests::needs_cluster;
use serde_json::Value;

#[path = "../../../crds/tests/corpus/mod.rs"]
mod corpus;

/// Requests at once: more only wait for the two cores of a small machine.
const THREADS: usize = 3;

/// Where properties of a schema have no description.
fn undescribed(schema: &Value, path: &str, found: &mut Vec<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        // A property that is nothing but a reference says in `allOf` to what, and its description beside it.
        if property["description"].as_str().unwrap_or_default().trim().is_empty() {
            found.push(path.clone());
        }
        undescribed(property, &path, found);
    }
    for inner in ["items", "additionalProperties"] {
        if schema[inner].is_object() {
            undescribed(&schema[inner], &format!("{path}[]"), found);
        }
    }
}

#[test]
fn plain_kubectl_applies_the_definitions_and_explains_every_field() -> anyhow::Result<()> {
    let cluster = needs_cluster!();
    // Without --server-side: the annotation of the last applied configuration has room for 256 KiB.
    let applied = cluster.apply_crds()?;
    ensure!(applied.contains("streamingjobs.dataplatform.io"), "{applied}");
    // The API server publishes the new kinds a moment after it serves them.
    let listing = cluster.wait_for("kubectl explain", Duration::from_secs(60), || {
        cluster.kubectl(&["explain", "streamingjob", "--recursive"]).ok()
    })?;
    for field in ["GROUP:      dataplatform.io", "bootstrapServers", "watermarkDelay", "conditions"] {
        ensure!(listing.contains(field), "no {field:?} in {listing}");
    }
    ensure!(!listing.contains("<no description>"), "{listing}");
    let one = cluster.kubectl(&["explain", "streamingjob.spec.sources.eventTime.watermarkDelay"])?;
    ensure!(one.contains("DESCRIPTION:") && !one.contains("<empty>"), "{one}");

    // The listing has names and types; what each is for is in the document that kubectl reads them from.
    let document = cluster.kubectl(&["get", "--raw", "/openapi/v3/apis/dataplatform.io/v1alpha1"])?;
    let document: Value = serde_json::from_str(&document).context("a document of OpenAPI")?;
    let (mut kinds, mut found) = (0, Vec::new());
    for (name, schema) in document["components"]["schemas"].as_object().context("schemas")? {
        if name.starts_with("io.dataplatform.") {
            kinds += 1;
            undescribed(schema, name, &mut found);
        }
    }
    ensure!(kinds >= 1 && document.to_string().contains("watermarkDelay"), "none of our kinds is there");
    // Lists of a kind and the metadata of objects are described by Kubernetes.
    found.retain(|path| !path.contains("List.") && !path.contains(".metadata."));
    ensure!(found.is_empty(), "{} fields have no description: {found:#?}", found.len());
    Ok(())
}

#[test]
fn the_api_server_judges_every_manifest_of_the_corpus_as_the_corpus_says() -> anyhow::Result<()> {
    let cluster = needs_cluster!();
    cluster.apply_crds()?;
    let cases: Vec<_> = corpus::wrong().into_iter().chain(corpus::right()).collect();
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let arguments = ["apply", "--dry-run=server", "--validate=strict", "-f", "-"];
                    let said = cluster.kubectl_reading(&arguments, &case.text);
                    if said.is_ok() == case.server_accepts {
                        continue;
                    }
                    let expected: Vec<_> =
                        case.problems.iter().map(|problem| (problem.path, problem.message, problem.cure)).collect();
                    let said = said.map_err(|error| format!("{error:#}"));
                    let line = format!("{}: {said:?}; offline: {expected:?}", case.name);
                    failures.lock().expect("nobody panics with the lock").push(line);
                }
            });
        }
    });
    let failures = failures.into_inner()?;
    ensure!(
        failures.is_empty(),
        "{} of {} are judged otherwise:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
    Ok(())
}

#[test]
fn a_pod_that_is_not_restricted_is_refused() -> anyhow::Result<()> {
    let cluster = needs_cluster!();
    let namespace = cluster.namespace("privileged")?;
    let error = namespace.kubectl(&["run", "root", "--image=localhost/pause:test"]).expect_err("it could be root");
    let said = format!("{error:#}");
    ensure!(said.contains("violates PodSecurity") && said.contains("restricted"), "{said}");
    Ok(())
}
