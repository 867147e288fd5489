//! A batch job whose output and log are in an object store: an interval is replaced there as on a disk.

use data_platform_tests::process::RunnerCommand;
use data_platform_tests::{Ended, JobFolders, environment, needs_broker, needs_s3, python_reader};

use crate::batch::{Hours, hour_text};
use crate::events::{TIMEOUT, finish};

/// The job with its input where it is, and everything that it writes in a bucket. Its runs are attempts of one Job: the next
/// one need not wait until the last one is known to be dead.
fn in_bucket(command: RunnerCommand, folders: &JobFolders) -> RunnerCommand {
    let bucket = folders.bucket().expect("these folders are a bucket");
    let command = bucket.variables().into_iter().fold(command, |command, (name, value)| command.env(name, value));
    let table = format!("spec.sink.path={}", bucket.url("outputs/hourly_aggregates"));
    command.arg("--set").arg(table).env("CHECKPOINT_DIR", bucket.url("checkpoints")).env("JOB_UID", "one")
}

#[test]
fn an_hour_is_replaced_in_a_bucket_wherever_a_run_is_killed() -> anyhow::Result<()> {
    let hours = Hours::new(needs_broker!(), "batch-bucket", 2)?;
    let folders = needs_s3!().folders()?;
    let check = || {
        let output = folders.outputs().join("hourly_aggregates").into_os_string();
        let arguments = [output, hours.stream.output().into_os_string(), hour_text(1).into()];
        python_reader("hourly_aggregates.py", arguments)?.expect_success().map(drop)
    };
    let all =
        ["decide:after", "publish:after", "stage_finish:after", "decide:before", "publish:before", "published:before"];
    let points = if environment::is_soak() { &all[..] } else { &all[..2] };
    for point in [""].iter().chain(points) {
        if !point.is_empty() {
            let killed = in_bucket(hours.job_with_faults(), &folders).env("FAULT_KILL", format!("{point}:1"));
            let (ended, runner) = killed.arg("--target-hour").arg(hour_text(1)).run(TIMEOUT)?;
            anyhow::ensure!(ended == Ended::Signal(9), "{point}: {ended:?} {}", runner.last_lines());
        }
        let summary = finish(in_bucket(hours.job(), &folders).arg("--target-hour").arg(hour_text(1)))?;
        anyhow::ensure!(summary["intervals"] == 1, "{point}: {summary}");
        check()?;
    }
    Ok(())
}
