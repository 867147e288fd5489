//! A real Prometheus scrapes the operator and its jobs as the chart's monitors would: every panel of the dashboards has
//! data, and every metric and label of the alerts is there.

use std::process::Command;
use std::{fs, path::Path};

use anyhow::{Context, bail, ensure};
use data_platform_runner::generate::EventSettings;
use data_platform_tests::cluster::repository;
use data_platform_tests::{JobFolders, environment, needs_broker, needs_cluster, skip};
use serde_json::json;

use super::batch::{HOURLY, hourly_aggregates, last_hour, run_by_hand};
use super::platform::{Platform, TIMEOUT, condition, is_caught_up};

const JOB: &str = "event-aggregation";

/// A Prometheus that ends with its test.
struct Prometheus<'a> {
    folder: &'a Path,
    address: String,
}

fn prometheus(arguments: &[&str]) -> anyhow::Result<String> {
    let script = repository().join("tests/env/prometheus/prometheus.sh");
    let output = Command::new(script).args(arguments).output().context("start prometheus.sh")?;
    let (written, errors) = (String::from_utf8(output.stdout)?, String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "prometheus.sh {arguments:?}: {errors}");
    Ok(written.trim().to_owned())
}

impl<'a> Prometheus<'a> {
    fn start(folder: &'a Path, configuration: &serde_json::Value) -> anyhow::Result<Self> {
        let file = folder.join("prometheus.yaml");
        fs::write(&file, configuration.to_string()).context("write the configuration")?;
        let text = |path: &'a Path| path.to_str().context("a path that is text");
        let address = prometheus(&["up", text(folder)?, file.to_str().context("a path that is text")?])?;
        Ok(Self { folder, address })
    }
}

impl Drop for Prometheus<'_> {
    fn drop(&mut self) {
        if let Some(folder) = self.folder.to_str()
            && let Err(error) = prometheus(&["down", folder])
        {
            eprintln!("{error:#}");
        }
    }
}

#[test]
fn every_panel_and_every_alert_finds_its_metrics_in_a_real_prometheus() -> anyhow::Result<()> {
    let cluster = needs_cluster!();
    let (Some(_), Some(python)) = (environment::promtool(), environment::python()) else {
        skip!("no Prometheus or no Python; `make test` gets them");
    };
    let settings = EventSettings { messy: 0.01, users: 50, ..EventSettings::default() };
    let mut stream = last_hour(needs_broker!(), "monitoring", settings)?;
    let platform = Platform::install(cluster, "monitoring", &[])?;
    let namespace = &platform.namespace;
    platform.apply(&platform.event_aggregation(JOB, &stream)?)?;
    platform.wait_for_job(JOB, "to be caught up", is_caught_up)?;

    platform.apply(&hourly_aggregates(JOB)?)?;
    platform.wait_for_status("batchjob", "hourly-aggregates", "to be scheduled", |job| {
        condition(job, "Ready")["reason"] == "Scheduled"
    })?;
    run_by_hand(&platform, HOURLY, "by-hand")?;

    // Where a pod is found, and the labels that the chart's monitors give it.
    let mut scrapes = Vec::new();
    for (selector, port, job) in [
        ("app.kubernetes.io/name=data-platform-operator", 8080, "data-platform-operator"),
        (&format!("dataplatform.io/job={JOB}"), 9999, JOB),
    ] {
        let pods = namespace.get_json(&["pods", "--selector", selector])?;
        let pod = &pods["items"][0];
        let address = pod["status"]["podIP"].as_str().with_context(|| format!("the pod of {selector}"))?;
        scrapes.push(json!({
            "job_name": job,
            "honor_labels": true,
            "scrape_interval": "1s",
            "static_configs": [{
                "targets": [format!("{address}:{port}")],
                "labels": {"namespace": namespace.name(), "pod": pod["metadata"]["name"]},
            }],
        }));
    }
    let folders = JobFolders::new()?;
    let prometheus = Prometheus::start(folders.root(), &json!({"scrape_configs": scrapes}))?;
    let url = if prometheus.address.starts_with("http") {
        prometheus.address.clone()
    } else {
        format!("http://{}", prometheus.address)
    };
    let mut said = String::new();
    let found = namespace.wait_for("data in every panel", TIMEOUT, || {
        // Rates need something that goes on.
        stream.produce(50).ok()?;
        let check = Command::new(&python)
            .arg(repository().join("tests/dashboards/check.py"))
            .args(["--prometheus", &url, "--namespace", namespace.name(), "--job", JOB, "--operator"])
            .args(["--batch-job", "hourly-aggregates"])
            .output()
            .ok()?;
        said = format!("{}{}", String::from_utf8_lossy(&check.stdout), String::from_utf8_lossy(&check.stderr));
        check.status.success().then_some(())
    });
    if let Err(error) = found {
        bail!("{error:#}\n{said}");
    }
    Ok(())
}
