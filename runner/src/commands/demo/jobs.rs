//! The jobs of the demo: which, with what, as files.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::args::PlaceArgs;
use crate::commands::error::CommandError;
use crate::commands::run::options_of_places;
use crate::config::job::RunOptions;
use crate::config::{JobSource, load_streaming};
use crate::generate::EventKind;
use crate::pipeline::status::JobStatus;

/// A built-in job in the demo.
pub(super) struct DemoJob {
    pub(super) name: &'static str,
    /// In a few words.
    pub(super) does: &'static str,
    /// The topic that is filled for it.
    pub(super) kind: EventKind,
    /// Topics that are filled for others, and that it reads too.
    others: &'static [EventKind],
    /// Few: the broker keeps up to 5 MiB for each.
    pub(super) partitions: i32,
    /// Its topic gets this part of what the topic of the first job gets.
    part: u64,
    pub(super) users: u64,
    /// With which something closes every few seconds.
    parameters: &'static [(&'static str, &'static str)],
    /// What is set beside the short trigger.
    set: &'static [&'static str],
    /// A look at its rows that fits 80 columns.
    pub(super) look: &'static str,
}

/// Of a job with windows.
const SOON: &[&str] = &["spec.sources[0].eventTime.watermarkDelay=2s", "spec.sources[0].eventTime.idleTimeout=5s"];

/// All of them, the busiest first.
pub(super) static JOBS: &[DemoJob] = &[
    DemoJob {
        name: "event-aggregation",
        does: "counts per user, event type and application, 5 second windows",
        kind: EventKind::AppEvents,
        others: &[],
        partitions: 6,
        part: 1,
        users: 200,
        parameters: &[("window", "5 seconds")],
        set: SOON,
        look: "SELECT window_start, user_id, event_type, app_type, event_count FROM events_aggregated_realtime \
               ORDER BY window_start, event_count DESC, user_id, event_type, app_type LIMIT 6",
    },
    DemoJob {
        name: "clickstream-analysis",
        does: "one row per visit, which ends 5 seconds after its last click",
        kind: EventKind::Clickstream,
        others: &[],
        partitions: 2,
        part: 4,
        users: 1_000,
        parameters: &[("gap", "5 seconds")],
        set: SOON,
        look: "SELECT user_id, total_clicks AS clicks, unique_pages AS pages, session_start, session_duration_sec AS seconds \
               FROM clickstream_sessions ORDER BY total_clicks DESC, session_start, user_id LIMIT 6",
    },
    DemoJob {
        name: "cdc-transformation",
        does: "changes of a database in one shape, and their counts in 5 second windows",
        kind: EventKind::Changes,
        others: &[],
        partitions: 2,
        part: 8,
        users: 200,
        parameters: &[("window", "5 seconds")],
        set: SOON,
        look: "SELECT window_start, table_name, insert_count AS inserts, update_count AS updates, delete_count AS deletes \
               FROM cdc_operation_summaries ORDER BY window_start, total_operations DESC, table_name LIMIT 6",
    },
    DemoJob {
        name: "data-enrichment",
        does: "every event of all topics in one shape, joined with a table of users",
        kind: EventKind::ExternalData,
        others: &[EventKind::AppEvents, EventKind::Clickstream, EventKind::Changes],
        partitions: 1,
        part: 8,
        users: 200,
        parameters: &[("users", USERS)],
        set: &["spec.references[0].format=csv"],
        look: "SELECT event_type, count(*) AS events, count(user_name) AS known, sum(risk_score) AS risks, \
               count(*) FILTER (WHERE is_high_value) AS high_value \
               FROM enriched_events GROUP BY event_type ORDER BY events DESC, event_type LIMIT 6",
    },
];

impl DemoJob {
    /// Every topic that it reads.
    pub(super) fn reads(&self) -> impl Iterator<Item = EventKind> + use<> {
        std::iter::once(self.kind).chain(self.others.iter().copied())
    }

    /// Records a second of its topic.
    pub(super) fn rate(&self, rate: u64) -> u64 {
        (rate / self.part).max(1)
    }

    /// The file of the job as the demo runs it: with short triggers and windows, from the first record.
    fn file(&self) -> Result<String, CommandError> {
        let short = [
            "spec.trigger.interval=1s",
            "spec.kafka.failOnDataLoss=true",
            "spec.kafka.startingOffsets=earliest",
            "spec.kafka.maxOffsetsPerTrigger=100000",
        ];
        let parameter = |(name, value): &(&str, &str)| format!("spec.parameters.{name}={value}");
        let set = short.iter().chain(self.set).map(|set| (*set).to_owned());
        let source = JobSource {
            name: Some(self.name.to_owned()),
            set: set.chain(self.parameters.iter().map(parameter)).collect(),
            ..JobSource::default()
        };
        let loaded = load_streaming(&source)?;
        serde_saphyr::to_string(loaded.manifest.value())
            .map_err(|error| CommandError::failed(format!("the job {} is no YAML: {error}", self.name)))
    }
}

/// The table of users, below the outputs.
const USERS: &str = "users.csv";

/// Writes the table of users: two of three are in it.
pub(super) fn write_users(folder: &Path) -> Result<(), CommandError> {
    let mut table = "user_id,name,country,verified,device_type,signup_date\n".to_owned();
    for number in (0..1_000).filter(|number| number % 3 > 0) {
        let (country, device) = (["CH", "FR", "PT"][number % 3], ["desktop", "mobile", "tablet"][number % 3]);
        let _ = writeln!(table, "user_{number:06},User {number},{country},{},{device},2025-03-01", number % 7 > 0);
    }
    let path = folder.join("outputs").join(USERS);
    let written = std::fs::create_dir_all(folder.join("outputs")).and_then(|()| std::fs::write(&path, table));
    written.map_err(|error| CommandError::failed(format!("cannot write {}: {error}", path.display())))
}

/// Writes the files of the jobs; gives their folder.
pub(super) fn write_jobs(folder: &Path) -> Result<PathBuf, CommandError> {
    let jobs = folder.join("jobs");
    let failed = |path: &Path, error| CommandError::failed(format!("cannot write {}: {error}", path.display()));
    std::fs::create_dir_all(&jobs).map_err(|error| failed(&jobs, error))?;
    for job in JOBS {
        let path = jobs.join(format!("{}.yaml", job.name));
        std::fs::write(&path, job.file()?).map_err(|error| failed(&path, error))?;
    }
    Ok(jobs)
}

/// A job that has processed everything.
pub(super) struct Done {
    pub(super) job: &'static DemoJob,
    pub(super) status: JobStatus,
    /// Records that were written to its topics.
    pub(super) produced: u64,
}

impl Done {
    /// A job at its end, by what all of them say and how many records each topic got.
    pub(super) fn of(job: &'static DemoJob, statuses: &[(String, JobStatus)], produced: &[u64]) -> Option<Self> {
        let (_, status) = statuses.iter().find(|(name, _)| name == job.name)?;
        let of = |kind: EventKind| JOBS.iter().zip(produced).filter(move |(job, _)| job.kind == kind);
        let produced = job.reads().flat_map(of).map(|(_, number)| number).sum();
        Some(Self { job, status: status.clone(), produced })
    }
}

/// Options of all jobs of the demo.
pub(super) fn options(servers: &str, folder: &Path) -> Result<RunOptions, CommandError> {
    let place = |name: &str| Some(folder.join(name).display().to_string());
    let places = PlaceArgs { outputs: place("outputs"), checkpoints: place("checkpoints"), namespace: None };
    let bootstrap_servers = Some(servers.to_owned());
    Ok(RunOptions { bootstrap_servers, stay_up: true, ..options_of_places(&places)? })
}
