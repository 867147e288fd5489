//! A pod's memory limit: a long backlog and a slow disk under 256 MiB, enforced by a real cgroup.

mod batch;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use data_platform_runner::generate::EventSettings;
use data_platform_tests::process::RunnerCommand;
use data_platform_tests::{Ended, Runner, environment, needs_broker, skip};

use crate::events::{Stream, TIMEOUT, finish};

const LIMIT_BYTES: u64 = 256 << 20;
const RECORDS: u64 = 2_000_000;
/// Enough for a staged file of ten thousand rows to take as long as on a busy network disk.
const DISK_DELAY_MS: &str = "30";

/// A cgroup with a memory limit, of version 1 or 2; removed when dropped.
pub(crate) struct Cgroup {
    folder: PathBuf,
    peak: &'static str,
}

impl Cgroup {
    /// `None` where this process may not make one.
    pub(crate) fn new(limit: u64) -> Option<Self> {
        let versions = [
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.max_usage_in_bytes"),
            ("/sys/fs/cgroup", "memory.max", "memory.peak"),
        ];
        versions.into_iter().find_map(|(root, limit_file, peak)| {
            let folder = Path::new(root).join(format!("data-platform-test-{}-{limit}", std::process::id()));
            fs::create_dir(&folder).ok()?;
            let cgroup = Self { folder, peak };
            fs::write(cgroup.folder.join(limit_file), limit.to_string()).ok()?;
            Some(cgroup)
        })
    }

    /// A program in it, with these arguments.
    pub(crate) fn program<S: AsRef<OsStr>>(
        &self,
        program: &Path,
        arguments: impl IntoIterator<Item = S>,
    ) -> RunnerCommand {
        let enter = r#"echo $$ > "$0/cgroup.procs" && exec "$@""#;
        let command = Runner::program(Path::new("/bin/sh"), ["-c", enter]).arg(&self.folder).arg(program);
        arguments.into_iter().fold(command, |command, argument| command.arg(argument))
    }

    /// The most that was used at once, with what the kernel keeps of files.
    pub(crate) fn peak(&self) -> u64 {
        self.number(self.peak)
    }

    fn number(&self, file: &str) -> u64 {
        let text = fs::read_to_string(self.folder.join(file)).unwrap_or_default();
        text.trim().parse().unwrap_or_default()
    }

    /// Processes that were killed for want of memory.
    pub(crate) fn killed(&self) -> u64 {
        let files = ["memory.oom_control", "memory.events"].map(|file| fs::read_to_string(self.folder.join(file)));
        let text: String = files.into_iter().flatten().collect();
        text.lines().filter_map(|line| line.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok()).sum()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder);
    }
}

#[test]
fn a_long_backlog_and_a_slow_disk_fit_into_256_mib() -> anyhow::Result<()> {
    let broker = needs_broker!();
    let Some(cgroup) = Cgroup::new(LIMIT_BYTES) else { skip!("no cgroup with a memory limit can be made here") };
    // 30 minutes of event time and 2,000 users, as in the benchmark: some 60,000 groups are open at a time.
    let mut stream = Stream::new(broker, "memory", 6, EventSettings::default(), 0.9)?;
    let produced = stream.produce_counted(RECORDS)?;
    let job = cgroup.program(&environment::program("data-platform-faults"), ["run", "event-aggregation"]);
    let job = stream.on_topic(job).env("FAULT_DISK_DELAY_MS", DISK_DELAY_MS).arg("--drain");
    let summary = finish(job.arg("--starting-offsets").arg("earliest"))?;
    let peak = cgroup.peak();
    println!("peak {} MB of {} MB", peak / 1_000_000, LIMIT_BYTES / 1_000_000);
    assert_eq!(cgroup.killed(), 0);
    assert!(peak > 20 << 20, "the job ran in the cgroup: {peak}");
    assert_eq!(summary["records"], RECORDS);
    stream.check_proved()?;
    assert_eq!(counted(&stream)?, produced);
    Ok(())
}

/// Events of each user in each minute, as the output has them. The strict second computation of the other tests would
/// take minutes for as many records.
fn counted(stream: &Stream) -> anyhow::Result<BTreeMap<(i64, String), u64>> {
    let sql = "SELECT CAST(date_part('epoch', window_start) AS BIGINT) / 60, user_id, sum(event_count) \
               FROM events_aggregated_realtime GROUP BY 1, 2";
    let query = Runner::command(["query", "--format", "csv", sql]).folders(&stream.folders);
    let (ended, runner) = query.run(TIMEOUT)?;
    anyhow::ensure!(ended == Ended::Code(0), "{}", runner.last_lines());
    let row = |line: &str| {
        let [minute, user, events] = line.split(',').collect::<Vec<_>>()[..] else { anyhow::bail!("{line}") };
        Ok(((minute.parse()?, user.to_owned()), events.parse()?))
    };
    runner.stdout().lines().skip(1).map(row).collect()
}

#[test]
fn records_of_a_megabyte_fit_into_256_mib() -> anyhow::Result<()> {
    let broker = needs_broker!();
    let Some(cgroup) = Cgroup::new(LIMIT_BYTES + 1) else { skip!("no cgroup with a memory limit can be made here") };
    let topic = data_platform_tests::unique_topic("large-app_events");
    broker.create_topic(&topic, 1, &[])?;
    let producer = data_platform_tests::Producer::new(&broker, &[("compression.type", "lz4")])?;
    const LARGE: u64 = 300;
    for number in 0..LARGE {
        // Not twice the same: a compressed megabyte of one letter would not be a megabyte of what is fetched.
        let filler: String = (0..90_000_u64)
            .map(|n| format!("{:010x}", (n + number).wrapping_mul(0x9e37_79b9_7f4a) & 0xff_ffff_ffff))
            .collect();
        let value = serde_json::json!({
            "user_id": "u", "session_id": &filler[..60_000], "event_type": "e", "app_type": "web", "timestamp": 1_767_225_600 + number,
            "properties": filler,
        });
        producer.send(&topic, &data_platform_tests::Record::new(value.to_string()))?;
    }
    producer.flush()?;
    let folders = data_platform_tests::JobFolders::new()?;
    let job = cgroup.program(&environment::program("data-platform"), ["run", "event-aggregation", "--test-mode"]);
    let job = job.arg("--set").arg(format!("spec.sources[0].topics[0]={topic}")).arg("--http").arg("127.0.0.1:0");
    let query = "spec.query=SELECT user_id, octet_length(properties) AS n, session_id FROM app_events";
    let job = job.arg("--set").arg(query).arg("--set").arg("spec.sink.partitionBy=[]");
    let summary = finish(job.broker(&broker).folders(&folders))?;
    println!("peak {} MB of {} MB", cgroup.peak() / 1_000_000, LIMIT_BYTES / 1_000_000);
    assert_eq!(cgroup.killed(), 0);
    assert_eq!(summary["rows"], LARGE, "{summary}");
    Ok(())
}

#[test]
fn a_process_that_takes_more_than_its_cgroup_has_is_killed() -> anyhow::Result<()> {
    // What the other test relies on: the limit is real here.
    let Some(cgroup) = Cgroup::new(16 << 20) else { skip!("no cgroup with a memory limit can be made here") };
    let take = r#"echo $$ > "$0/cgroup.procs" && exec head -c 200000000 /dev/zero | tail"#;
    let shell = Runner::program(Path::new("/bin/sh"), ["-c", take, &cgroup.folder.to_string_lossy()]);
    let (ended, _) = shell.run(TIMEOUT)?;
    assert!(cgroup.killed() > 0 || ended != Ended::Code(0), "{ended:?}");
    Ok(())
}
