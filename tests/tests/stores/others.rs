//! The same over other people's stores: what they promise, and whether another client reads what we wrote.

use anyhow::ensure;
use data_platform_tests::s3::Interface;
use data_platform_tests::{Ended, OtherStore, environment, needs_broker, skip};
use serde_json::json;

use crate::events::TIMEOUT;
use crate::sources::numbers::{NAME, Numbers};

/// Killed there one after the other; each next run goes on.
const POINTS: [&str; 7] = [
    "claim:after",
    "stage_finish:after",
    "decide:before",
    "decide:after",
    "publish:before",
    "publish:after",
    "unstage:before",
];

fn killed_and_resumed(mut job: Numbers, interface: Interface) -> anyhow::Result<()> {
    const STEP: u64 = 30;
    let store = OtherStore::start(interface)?;
    job.folders = store.folders()?;
    job.set("/kafka/maxOffsetsPerTrigger", json!(STEP / 2));
    if interface == Interface::Google {
        // It does not write as we ask, and the start says so in its words.
        job.folders.reach_at(store.bare());
        let said = job.drain_fails(1)?;
        ensure!(said.contains("create gs://bucket/") && said.contains("invalid uploadType"), "{said}");
        job.folders = store.folders()?;
    }
    let mut records = 0;
    for point in POINTS {
        job.produce(0, records..records + STEP)?;
        records += STEP;
        let command = job.job_with_faults()?.env("FAULT_KILL", format!("{point}:1")).arg("--drain");
        let (ended, runner) = command.run(TIMEOUT)?;
        ensure!(ended == Ended::Signal(9), "{point}: {ended:?}\n{}", runner.last_lines());
    }
    job.drain()?;
    job.audit()?;
    let verified = job.ask(&["checkpoint", "verify", NAME])?;
    ensure!(!verified.contains(" bad"), "{verified}");
    ensure!(store.numbers(&format!("outputs/{NAME}"))? == (0..records).collect::<Vec<_>>());
    let sql = format!("SELECT count(*) AS rows, count(DISTINCT n) AS numbers FROM {NAME}");
    let counted = job.ask(&["query", &sql, "--format", "csv"])?;
    ensure!(counted.contains(&format!("{records},{records}")), "{counted}");
    println!("{} kills, and every one of {records} numbers is there once", POINTS.len());
    Ok(())
}

macro_rules! stores {
    ($($name:ident: $interface:expr;)*) => {$(
        #[test]
        fn $name() -> anyhow::Result<()> {
            if !environment::is_soak() {
                skip!("it is fetched and run by make soak");
            }
            killed_and_resumed(Numbers::new(needs_broker!(), stringify!($name), 1)?, $interface)
        }
    )*};
}

stores! {
    gofakes3_keeps_every_row: Interface::S3;
    a_fake_of_google_keeps_every_row: Interface::Google;
    azurite_keeps_every_row: Interface::Azure;
}
