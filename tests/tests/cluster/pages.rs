//! The token before the pages of operator and jobs, as the chart sets it up.

use anyhow::{Context, ensure};
use data_platform_runner::generate::EventSettings;
use data_platform_tests::{Pages, needs_broker, needs_cluster};

use super::platform::{OPERATOR, Platform, TIMEOUT, is_caught_up};
use crate::events::Stream;

const TOKEN: &str = "a-token-of-this-test-0123456789";

#[test]
fn pages_are_for_who_knows_the_token_and_the_operator_does() -> anyhow::Result<()> {
    let cluster = needs_cluster!();
    let mut stream = Stream::new(needs_broker!(), "pages", 1, EventSettings::default(), 6.0)?;
    stream.produce(1_000)?;
    let platform = Platform::install(cluster, "pages", &["--set", "pages.authentication.secretName=pages"])?;
    let name = "pages";
    platform.apply(&platform.event_aggregation(name, &stream)?)?;
    // Without the Secret the job runs, and nobody sees its pages, the operator neither.
    platform.wait_for_job(name, "to run unseen", |job| {
        super::platform::condition(job, "Ready")["reason"] == "StatusUnknown"
    })?;
    let pages = |selector: &str, port: u16| -> anyhow::Result<Pages> {
        let pods = platform.namespace.get_json(&["pods", "--selector", selector])?;
        let address = pods["items"][0]["status"]["podIP"].as_str().with_context(|| format!("the pod of {selector}"))?;
        Ok(Pages::at(format!("{address}:{port}")))
    };
    let runner = pages(&format!("dataplatform.io/job={name}"), 9999)?;
    for path in ["/", "/status", "/metrics"] {
        ensure!(runner.get(path)?.code == 503, "{path} without a Secret");
    }
    ensure!(runner.get("/livez")?.code == 200, "/livez is for the kubelet");

    // The kubelet brings it to the pods that run.
    platform.namespace.kubectl(&["create", "secret", "generic", "pages", &format!("--from-literal=token={TOKEN}")])?;
    let bearer = format!("Bearer {TOKEN}");
    platform.wait_for_job(name, "to be seen", is_caught_up)?;
    for (what, pages) in [("the job", &runner), ("the operator", &pages(OPERATOR, 8080)?)] {
        platform.namespace.wait_for(&format!("the pages of {what} to open"), TIMEOUT, || {
            (pages.get_with("/status", Some(&bearer)).ok()?.code == 200).then_some(())
        })?;
        for (authorization, code) in [(None, 401), (Some("Bearer another"), 401), (Some(bearer.as_str()), 200)] {
            for path in ["/", "/status", "/metrics"] {
                let found = pages.get_with(path, authorization)?.code;
                ensure!(found == code, "{what}, {path} with {authorization:?}: {found}");
            }
        }
        for path in ["/livez", "/readyz"] {
            ensure!(pages.get(path)?.code == 200, "{what}, {path}");
        }
    }
    Ok(())
}
