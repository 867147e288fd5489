//! What the chart makes of several sets of values.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::{Value, json};

use super::{NAMESPACE, RELEASE, chart, name, needs, objects, output_of, sets_of_values};

/// Kinds that have no namespace.
const OF_THE_CLUSTER: [&str; 3] = ["ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"];

#[test]
fn lint_finds_nothing() -> anyhow::Result<()> {
    let helm = needs!(helm);
    for values in sets_of_values()? {
        let file = format!("tests/charts/values/{values}.yaml");
        output_of(
            Command::new(&helm).args(["lint", "--strict", "--kube-version", "1.34.0", "--values", &file]).arg(chart()),
        )?;
    }
    Ok(())
}

#[test]
fn every_object_has_its_labels_and_its_namespace_and_comes_once() -> anyhow::Result<()> {
    let helm = needs!(helm);
    for values in sets_of_values()? {
        let mut seen = BTreeSet::new();
        for object in objects(&helm, &values)? {
            let metadata = &object["metadata"];
            let kind = object["kind"].as_str().unwrap_or_default();
            assert!(
                seen.insert((name(&object), metadata["namespace"].to_string())),
                "{values}: twice: {}",
                name(&object)
            );
            // What the user wrote is as the user wrote it.
            if name(&object).starts_with(&format!("ConfigMap {RELEASE}-")) && metadata["labels"].is_null() {
                continue;
            }
            assert_eq!(metadata["labels"]["app.kubernetes.io/instance"], RELEASE, "{values}: {}", name(&object));
            assert_eq!(metadata["labels"]["app.kubernetes.io/part-of"], "data-platform", "{values}: {}", name(&object));
            assert_eq!(metadata["namespace"].is_null(), OF_THE_CLUSTER.contains(&kind), "{values}: {}", name(&object));
            assert!(metadata["name"].as_str().is_some_and(|name| name.len() <= 63), "{values}: {}", name(&object));
        }
    }
    Ok(())
}

fn kinds(objects: &[Value]) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for object in objects {
        *kinds.entry(object["kind"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    kinds
}

#[test]
fn what_is_enabled_is_there_and_nothing_else() -> anyhow::Result<()> {
    let helm = needs!(helm);
    let expect = |values: &str, expected: &[(&str, usize)]| -> anyhow::Result<()> {
        let mut found = kinds(&objects(&helm, values)?);
        // One for each kind of job.
        found.remove("CustomResourceDefinition");
        let expected: BTreeMap<_, _> = expected.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect();
        assert_eq!(found, expected, "{values}");
        Ok(())
    };
    let default = [
        ("ClusterRole", 2),
        ("Deployment", 1),
        ("NetworkPolicy", 2),
        ("PersistentVolumeClaim", 1),
        ("Pod", 1),
        ("Role", 2),
        ("RoleBinding", 2),
        ("Service", 1),
        ("ServiceAccount", 2),
    ];
    expect("default", &default)?;
    let more = [("ConfigMap", 5), ("PodDisruptionBudget", 1), ("PodMonitor", 2), ("PrometheusRule", 1)];
    expect("everything", &[&default[..], &more].concat())?;
    let many = [
        ("Deployment", 1),
        ("NetworkPolicy", 3),
        ("Pod", 1),
        ("Role", 3),
        ("RoleBinding", 3),
        ("Service", 1),
        ("ServiceAccount", 3),
        ("ServiceMonitor", 2),
    ];
    expect("many-namespaces", &many)?;
    expect("cluster-wide", &[("ClusterRole", 3), ("ClusterRoleBinding", 1), ("Deployment", 1), ("ServiceAccount", 1)])
}

#[test]
fn definitions_are_those_of_the_types_and_are_kept() -> anyhow::Result<()> {
    let helm = needs!(helm);
    for (values, keep) in [("default", json!("keep")), ("cluster-wide", Value::Null)] {
        let mut checked = 0;
        for object in objects(&helm, values)? {
            if object["kind"] != "CustomResourceDefinition" {
                continue;
            }
            assert_eq!(object["metadata"]["annotations"]["helm.sh/resource-policy"], keep, "{}", name(&object));
            let plural = object["spec"]["names"]["plural"].as_str().unwrap_or_default();
            let text = std::fs::read_to_string(super::repository().join(format!("crds/yaml/{plural}.yaml")))?;
            let expected: Value = serde_saphyr::from_str(&text)?;
            assert_eq!(object["spec"], expected["spec"], "{}", name(&object));
            assert_eq!(object["metadata"]["name"], expected["metadata"]["name"]);
            checked += 1;
        }
        assert_eq!(checked, std::fs::read_dir(super::repository().join("crds/yaml"))?.count());
    }
    Ok(())
}

#[test]
fn the_operator_is_told_what_the_values_say() -> anyhow::Result<()> {
    let helm = needs!(helm);
    let table = [
        ("default", "WATCH_NAMESPACES", Some("")),
        ("default", "STORAGE_CLAIM", Some("data-platform")),
        ("default", "RUNNER_SERVICE_ACCOUNT", Some("data-platform-runner")),
        ("default", "RUNNER_IMAGE", Some("data-platform-runner:0.1.0")),
        ("default", "RUNNER_IMAGE_PULL_SECRETS", None),
        ("default", "KAFKA_BOOTSTRAP_SERVERS_DEFAULT", None),
        ("default", "LEASE_NAME", Some("rel-data-platform-operator")),
        ("everything", "RUNNER_IMAGE_PULL_SECRETS", Some("registry,mirror")),
        ("everything", "RUNNER_ROLLOUT", Some("auto")),
        ("default", "CHECK_QUERIES", Some("true")),
        ("everything", "CHECK_QUERIES", Some("false")),
        ("default", "RUNNER_DOCTOR", Some("false")),
        ("everything", "RUNNER_DOCTOR", Some("true")),
        ("everything", "RUNNER_SERVICE_ACCOUNT", Some("jobs")),
        ("everything", "RENEW_DEADLINE", Some("20s")),
        ("everything", "HTTP_ADDRESS", Some("0.0.0.0:8081")),
        ("default", "HTTP_TOKEN_FILE", None),
        ("default", "RUNNER_HTTP_TOKEN_SECRET", None),
        ("everything", "HTTP_TOKEN_FILE", Some("/etc/data-platform/pages/token")),
        ("everything", "RUNNER_HTTP_TOKEN_SECRET", Some("pages")),
        ("everything", "RUNNER_HTTP_TOKEN_KEY", Some("page.token")),
        ("many-namespaces", "WATCH_NAMESPACES", Some("orders,payments")),
        ("many-namespaces", "STORAGE_CLAIM", None),
        ("many-namespaces", "STORAGE_OUTPUTS", Some("s3://bucket/outputs")),
        ("many-namespaces", "STORAGE_ENDPOINT", Some("https://minio.example:9000")),
        ("many-namespaces", "STORAGE_REGION", Some("eu-central-1")),
        ("many-namespaces", "STORAGE_PATH_STYLE", None),
        ("many-namespaces", "STORAGE_CREDENTIALS_SECRET", Some("bucket")),
        ("cluster-wide", "WATCH_NAMESPACES", Some("*")),
        ("cluster-wide", "LEADER_ELECTION", Some("false")),
        ("cluster-wide", "RUNNER_SERVICE_ACCOUNT", Some("default")),
        ("cluster-wide", "STORAGE_CLAIM", None),
    ];
    for (values, variable, expected) in table {
        let objects = objects(&helm, values)?;
        let deployment = objects.iter().find(|object| object["kind"] == "Deployment").expect("there is one");
        let env = deployment["spec"]["template"]["spec"]["containers"][0]["env"].as_array().expect("variables");
        let found = env.iter().find(|entry| entry["name"] == variable).map(|entry| entry["value"].clone());
        assert_eq!(found, expected.map(|text| json!(text)), "{values}: {variable}");
        // A number would be refused by the API server.
        assert!(env.iter().all(|entry| entry["value"].is_null() || entry["value"].is_string()), "{values}: {env:#?}");
    }
    Ok(())
}

fn of_kind(kind: &'static str) -> impl Fn(&&Value) -> bool {
    move |object| object["kind"] == kind
}

#[test]
fn a_token_of_the_pages_reaches_the_operator_and_prometheus_as_a_secret_alone() -> anyhow::Result<()> {
    let helm = needs!(helm);
    let of = |values: &str| objects(&helm, values);
    let (without, with) = (of("default")?, of("everything")?);
    let pod = |objects: &[Value]| {
        let deployment = objects.iter().find(of_kind("Deployment")).expect("there is one");
        deployment["spec"]["template"]["spec"].clone()
    };
    assert_eq!(
        (&pod(&without)["volumes"], &pod(&without)["containers"][0]["volumeMounts"]),
        (&Value::Null, &Value::Null)
    );
    let secret = json!({"secretName": "pages", "items": [{"key": "page.token", "path": "token"}], "optional": true});
    assert_eq!(pod(&with)["volumes"][0], json!({"name": "pages", "secret": secret}));
    assert_eq!(pod(&with)["volumes"][1]["name"], "certificates", "and the user's own");
    let mount = json!({"name": "pages", "mountPath": "/etc/data-platform/pages", "readOnly": true});
    assert_eq!(pod(&with)["containers"][0]["volumeMounts"][0], mount);
    let authorization = json!({"type": "Bearer", "credentials": {"name": "pages", "key": "page.token"}});
    let monitors: Vec<_> = with.iter().filter(of_kind("PodMonitor")).collect();
    assert_eq!(monitors.len(), 2);
    for monitor in monitors {
        assert_eq!(monitor["spec"]["podMetricsEndpoints"][0]["authorization"], authorization, "{}", name(monitor));
    }
    let more = ["--set", "pages.authentication.secretName=p,metrics.serviceMonitor.enabled=true"];
    let rendered = super::documents(&output_of(&mut super::template(&helm, &more))?)?;
    let monitors: Vec<_> = rendered.iter().filter(of_kind("ServiceMonitor")).collect();
    assert_eq!(monitors.len(), 2);
    for monitor in monitors {
        let credentials = &monitor["spec"]["endpoints"][0]["authorization"]["credentials"];
        assert_eq!(credentials, &json!({"name": "p", "key": "token"}), "{}", name(monitor));
    }
    for object in of("many-namespaces")?.iter().filter(of_kind("ServiceMonitor")) {
        assert_eq!(object["spec"]["endpoints"][0]["authorization"], Value::Null);
    }
    Ok(())
}

#[test]
fn an_account_and_a_claim_of_jobs_outlive_the_release() -> anyhow::Result<()> {
    let helm = needs!(helm);
    let objects = objects(&helm, "default")?;
    for kept in ["ServiceAccount data-platform-runner", "PersistentVolumeClaim data-platform"] {
        let object = objects.iter().find(|object| name(object) == kept).expect(kept);
        assert_eq!(object["metadata"]["annotations"]["helm.sh/resource-policy"], "keep", "{kept}");
        assert_eq!(object["metadata"]["namespace"], NAMESPACE);
    }
    Ok(())
}
