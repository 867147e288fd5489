//! `make kind-up` on this cluster: all of it but the images and the cluster, which are there, and a Kafka in the cluster,
//! whose image would come from a registry.

use std::process::Command;

use anyhow::ensure;
use data_platform_tests::{Broker, needs_broker, needs_cluster};

use super::keyboard::run_as_a_user;
use super::platform::{TIMEOUT, condition};

#[test]
fn kind_up_ends_with_events_that_become_tables_and_can_be_repeated() -> anyhow::Result<()> {
    let cluster = needs_cluster!();
    let _shared = needs_broker!();
    let broker = Broker::private(&["--host", cluster.node_address()])?;
    cluster.apply_crds()?;
    let namespace = cluster.namespace("kind-up")?;
    for _ in 0..2 {
        let mut script = Command::new("deploy/kind-up");
        let script = script.env("KIND", "0").env("TAG", "test").env("NAMESPACE", namespace.name());
        let said = run_as_a_user(&namespace, script.env("KAFKA_BOOTSTRAP_SERVER", broker.address_for_pods()?))?;
        ensure!(said.contains("event-aggregation") && said.contains("hourly-aggregates"), "{said}");
    }
    namespace.wait_for("events in the log of the job", TIMEOUT, || {
        let job = namespace.get_json(&["streamingjob", "event-aggregation"]).ok()?;
        let has_read = job["status"]["lastCheckpoint"]["version"].as_i64() > Some(0);
        (has_read && condition(&job, "Ready")["status"] == "True").then_some(())
    })
}
