//! The pages of several jobs in one process: `/health`, `/readyz`, `/metrics` and `/status` speak of all of them, `/status` in the
//! form of the operator, and `/jobs/<namespace>/<name>/` is the page of one.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use data_platform_crds::condition::{ConditionType, Health, Reason};
use data_platform_page::Authentication;
use serde_json::{Map, Value, json};

use super::{code, current, exposition, guarded, health_word, listen};
use crate::clock::{Clock, show_time};
use crate::metrics::JobMetrics;
use crate::pipeline::memory::MemoryBudget;
use crate::pipeline::no_output::NoOutput;
use crate::pipeline::status::{JobStatus, Phase, SharedStatus};
use crate::source::Trouble;

/// A job among others.
#[derive(Clone)]
pub struct ListedJob {
    /// `StreamingJob` or `BatchJob`.
    pub kind: &'static str,
    /// Fields of its schedule and the zone of their clock, if it has one.
    pub schedule: Option<(String, String)>,
    /// What it says.
    pub status: SharedStatus,
    /// Trouble that may pass.
    pub trouble: Trouble,
    /// Its metrics.
    pub metrics: Arc<JobMetrics>,
    /// Its share of the memory.
    pub memory: MemoryBudget,
    /// When it ran and when it will, of a batch job.
    pub runs: Arc<Mutex<Runs>>,
}

/// When a batch job ran, and when it will. Times are microseconds since 1970 UTC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// When it is due the next time.
    pub next: Option<i64>,
    /// When the last run ended.
    pub ended: Option<i64>,
    /// That one was good.
    pub is_good: bool,
    /// Rows that it wrote.
    pub rows: u64,
    /// How far the backfill of its spec is, if it asks for one.
    pub backfill: Option<Filling>,
}

/// How far a backfill is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filling {
    /// Intervals that it has.
    pub intervals: u64,
    /// Those that are not finished, as far as that is known.
    pub left: Option<u64>,
    /// It is at work: what the job says is about it.
    pub is_active: bool,
    /// How it ended.
    pub is_good: Option<bool>,
}

impl Filling {
    /// As the operator tells it.
    fn told(self, status: &JobStatus) -> Value {
        // A run that has not read its log yet knows of nothing that is left.
        let said = status.batch.as_ref().filter(|said| self.is_active && said.left + said.finished > 0);
        let left = said.map_or(self.left, |said| Some(said.left));
        let mut told = json!({});
        if let Some(left) = left {
            told["left"] = left.into();
            told["finished"] = self.intervals.saturating_sub(left).into();
        }
        if let Some(seconds) = said.and_then(|said| said.seconds_left) {
            told["secondsLeft"] = seconds.into();
        }
        if let Some(is_good) = self.is_good {
            told["result"] = result(is_good).into();
        }
        told
    }
}

fn result(is_good: bool) -> &'static str {
    if is_good { "Succeeded" } else { "Failed" }
}

/// What the pages show.
pub struct AllPages {
    /// The jobs, which may change.
    pub jobs: Arc<Mutex<Vec<ListedJob>>>,
    /// What is wrong with files that are not taken up, if something is.
    pub problem: Arc<Mutex<Option<String>>>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Who may see them; `None`: everybody.
    pub authentication: Option<Authentication>,
}

/// Begins to listen; returns the address, which matters when the port was 0.
///
/// # Errors
/// When the address cannot be had.
pub fn start(address: &str, pages: AllPages) -> std::io::Result<SocketAddr> {
    let authentication = pages.authentication.clone();
    let router = data_platform_page::router()
        .route("/health", get(health))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .merge(data_platform_page::router_below("/jobs/{namespace}/{name}"))
        .route("/jobs/{namespace}/{name}/status", get(status_of_one))
        .with_state(Arc::new(pages));
    listen(address, guarded(router, authentication))
}

impl AllPages {
    /// Every job with its status as of now.
    fn current(&self) -> Vec<(ListedJob, JobStatus)> {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let with_status = |job: ListedJob| {
            let status = current(&job.status, &job.trouble, &*self.clock);
            (job, status)
        };
        jobs.into_iter().map(with_status).collect()
    }

    fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// It works, or is meant to stand still.
pub(crate) fn is_well(status: &JobStatus) -> bool {
    let harmless = |reason: Reason| matches!(reason.health(), Health::Healthy | Health::Suspended);
    status.ready || (status.phase == Phase::Ended && Reason::from_name(&status.reason).is_some_and(harmless))
}

async fn health(State(pages): State<Arc<AllPages>>) -> Response {
    let jobs = pages.current();
    let all_well = jobs.iter().all(|(_, status)| is_well(status));
    let of = |(_, status): &(ListedJob, JobStatus)| {
        let told = json!({
            "status": health_word(is_well(status)),
            "phase": status.phase,
            "reason": status.reason,
            "message": status.message,
            "lag": status.lag(),
        });
        (status.job.clone(), told)
    };
    let told: Map<String, Value> = jobs.iter().map(of).collect();
    let body = json!({"status": health_word(all_well), "jobs": told, "problem": pages.problem()});
    (code(all_well), axum::Json(body)).into_response()
}

async fn ready(State(pages): State<Arc<AllPages>>) -> Response {
    let jobs = pages.current();
    let unwell = jobs.iter().filter(|(_, status)| !is_well(status));
    let lines: Vec<_> =
        unwell.map(|(_, status)| format!("{}: {}: {}\n", status.job, status.reason, status.message)).collect();
    let text = if lines.is_empty() { "ok\n".to_owned() } else { lines.concat() };
    (code(lines.is_empty()), text).into_response()
}

async fn metrics(State(pages): State<Arc<AllPages>>) -> Response {
    let of = |(job, status): &(ListedJob, JobStatus)| job.metrics.as_of(status, &job.memory, &*pages.clock);
    exposition(pages.current().iter().flat_map(of).collect())
}

async fn status(State(pages): State<Arc<AllPages>>) -> Response {
    let jobs: Vec<_> = pages.current().iter().map(|(job, status)| listed(job, status)).collect();
    let body = json!({"program": env!("CARGO_PKG_VERSION"), "jobs": jobs, "problem": pages.problem()});
    axum::Json(body).into_response()
}

async fn status_of_one(
    State(pages): State<Arc<AllPages>>,
    Path((namespace, name)): Path<(String, String)>,
) -> Response {
    let jobs = pages.current();
    match jobs.iter().find(|(_, status)| (&status.namespace, &status.job) == (&namespace, &name)) {
        Some((_, status)) => axum::Json(status.clone().report()).into_response(),
        None => (StatusCode::NOT_FOUND, "there is no such job here\n").into_response(),
    }
}

/// A job as the operator lists it.
fn listed(job: &ListedJob, status: &JobStatus) -> Value {
    let holds = |condition| match condition {
        ConditionType::Ready => status.ready || status.reason == "Completed",
        ConditionType::Progressing => matches!(status.phase, Phase::Starting | Phase::Retrying),
        ConditionType::Degraded => status.phase == Phase::Retrying,
        ConditionType::Stalled => status.phase == Phase::Stalled,
    };
    let condition = |condition: ConditionType| {
        let holds = if holds(condition) { "True" } else { "False" };
        json!({"type": condition.name(), "status": holds, "reason": status.reason, "message": status.message})
    };
    let mut told = json!({
        "conditions": ConditionType::ALL.map(condition),
        "lag": {"totalRecords": status.lag()},
        "throughput": {"recordsInPerSecond": status.records_per_second},
        "watermark": status.watermark,
        "lastCheckpoint": status.last_commit.as_ref().map(|commit| json!({"time": commit.clock})),
        "noOutput": status.no_output.map(NoOutput::name),
    });
    let runs = job.runs.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some(ended) = runs.ended {
        let result = result(runs.is_good);
        told["lastRun"] = json!({"completionTime": show_time(ended), "result": result, "rows": runs.rows});
    }
    if let Some(backfill) = runs.backfill {
        told["backfill"] = backfill.told(status);
    }
    if let Some(next) = runs.next {
        told["nextScheduleTime"] = show_time(next).into();
    }
    let mut shown = json!({"kind": job.kind, "namespace": status.namespace, "name": status.job, "status": told});
    if let Some((schedule, zone)) = &job.schedule {
        shown["schedule"] = schedule.as_str().into();
        shown["timeZone"] = zone.as_str().into();
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::status::BatchStatus;

    fn status(phase: Phase, ready: bool, reason: &str) -> JobStatus {
        JobStatus { phase, ready, reason: reason.to_owned(), ..JobStatus::default() }
    }

    #[test]
    fn a_job_that_is_meant_to_stand_still_is_well() {
        for (phase, ready, reason, expected) in [
            (Phase::Running, true, "Running", true),
            (Phase::Running, true, "Scheduled", true),
            (Phase::Ended, false, "Suspended", true),
            (Phase::Ended, false, "Completed", true),
            (Phase::Ended, false, "Ended", false),
            (Phase::Starting, false, "Starting", false),
            (Phase::Retrying, false, "KafkaUnreachable", false),
            (Phase::Stalled, false, "InvalidSpec", false),
        ] {
            assert_eq!(is_well(&status(phase, ready, reason)), expected, "{reason}");
        }
    }

    #[test]
    fn a_job_is_listed_as_the_operator_does() {
        let job = ListedJob {
            kind: "BatchJob",
            schedule: Some(("5 * * * *".to_owned(), "UTC".to_owned())),
            status: SharedStatus::default(),
            trouble: Trouble::default(),
            metrics: Arc::new(JobMetrics::new("local", "a")),
            memory: MemoryBudget::of(1 << 30),
            runs: Arc::new(Mutex::new(Runs {
                next: Some(3_600_000_000),
                ended: Some(0),
                is_good: true,
                rows: 7,
                backfill: Some(Filling { intervals: 24, left: Some(20), is_active: true, is_good: None }),
            })),
        };
        let told = listed(&job, &status(Phase::Retrying, false, "KafkaUnreachable"));
        let holds: Vec<_> = told["status"]["conditions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["status"].as_str().unwrap())
            .collect();
        assert_eq!(holds, ["False", "True", "True", "False"]);
        assert_eq!(told["status"]["nextScheduleTime"], "1970-01-01T01:00:00.000Z");
        assert_eq!((&told["schedule"], &told["status"]["lastRun"]["rows"]), (&"5 * * * *".into(), &7.into()));
        assert_eq!(told["status"]["backfill"], json!({"left": 20, "finished": 4}));
        // While it goes on its own status says more.
        let said = BatchStatus { left: 12, finished: 8, seconds_left: Some(30), ..BatchStatus::default() };
        let going_on = JobStatus { batch: Some(said), ..JobStatus::default() };
        let told = listed(&job, &going_on);
        assert_eq!(told["status"]["backfill"], json!({"left": 12, "finished": 12, "secondsLeft": 30}));
        let filling = Filling { intervals: 24, left: Some(0), is_active: false, is_good: Some(true) };
        job.runs.lock().unwrap().backfill = Some(filling);
        let told = listed(&job, &going_on);
        assert_eq!(told["status"]["backfill"], json!({"left": 0, "finished": 24, "result": "Succeeded"}));
    }
}
