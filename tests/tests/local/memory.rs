//! All seven jobs share the limit of one small container.

use data_platform_tests::process::expect_code;
use data_platform_tests::{Pages, environment, needs_broker, skip};
use rustix::process::Signal;

use super::TIMEOUT;
use super::seven::{STREAMING, Seven};
use crate::events::START_MS;
use crate::memory::Cgroup;

/// Another number than in other tests, since cgroups are named by it.
const LIMIT_BYTES: u64 = (256 << 20) + 4096;
/// Records of each topic; data-enrichment reads all four.
const RECORDS: u64 = 8_000;
/// With so much time between them they are 32 hours.
const STEP_MS: f64 = 14_400.0;

#[test]
fn seven_jobs_fit_into_256_mib_while_records_come_and_are_exact() -> anyhow::Result<()> {
    let broker = needs_broker!();
    let Some(cgroup) = Cgroup::new(LIMIT_BYTES) else { skip!("no cgroup with a memory limit can be made here") };
    let mut seven = Seven::new(broker, START_MS * 1_000, STEP_MS, &[])?;
    // Micro-batches of the size that the jobs are shipped with.
    for job in STREAMING {
        let text = std::fs::read_to_string(seven.jobs.file(job))?;
        seven.jobs.write(job, &text.replace("maxOffsetsPerTrigger: 700", "maxOffsetsPerTrigger: 10000"))?;
    }
    let command = cgroup.program(&environment::program("data-platform"), ["local", "jobs", "--http", "127.0.0.1:0"]);
    let mut runner = command.broker(&seven.broker).folders(&seven.jobs.folders).start()?;
    let pages = Pages::of(&mut runner)?;
    for _ in 0..8 {
        seven.produce(RECORDS / 8)?;
    }
    seven.wait_for_all_records(&mut runner, &pages)?;
    let metrics = pages.get("/metrics")?.body;
    let limit = metrics.lines().filter(|line| line.starts_with("dataplatform_memory_bytes") && line.contains("limit"));
    anyhow::ensure!(limit.clone().count() > 0, "{metrics}");
    let of_process = std::fs::read_to_string(format!("/proc/{}/status", runner.id()))?;
    let peak = of_process.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default().to_owned();
    println!("peak {} MB of {} MB, {peak}", cgroup.peak() / 1_000_000, LIMIT_BYTES / 1_000_000);
    runner.signal(Signal::TERM)?;
    let ended = runner.wait(TIMEOUT)?;
    expect_code(ended, 0, &runner)?;

    // The batch jobs have no interval that is due; once over what is there they do theirs, under the same limit.
    let once = ["local", "jobs", "--http", "off", "--test-mode"];
    let once = cgroup.program(&environment::program("data-platform"), once);
    let (ended, runner) = once.broker(&seven.broker).folders(&seven.jobs.folders).run(TIMEOUT)?;
    expect_code(ended, 0, &runner)?;
    anyhow::ensure!(cgroup.peak() > 20 << 20, "the jobs ran in the cgroup: {}", cgroup.peak());
    anyhow::ensure!(cgroup.killed() == 0, "{} processes were killed", cgroup.killed());
    let hours = seven.hours(&seven.jobs)?;
    anyhow::ensure!((30..34).contains(&hours), "{hours} hours");
    seven.check(&seven.jobs, hours, 1)
}
