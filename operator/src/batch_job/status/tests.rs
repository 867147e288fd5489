//! Every reason from its facts, and what stays of a run whose Job is gone.

use std::collections::BTreeSet;
use std::sync::Arc;

use data_platform_crds::batch_job::SchedulerKind;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::*;
use crate::batch_job::runs::runs;
use crate::child::{Child, ChildKind};
use crate::observed::Observed;
use crate::pod::PodFacts;

/// A quarter past noon.
const NOW: &str = "2026-02-16T12:15:00Z";

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

/// A Job of the CronJob; `condition`: how it ended.
fn job(name: &str, condition: Option<(&str, &str)>) -> Arc<Child> {
    let mut status = json!({"startTime": "2026-02-16T12:05:01Z"});
    if let Some((condition, reason)) = condition {
        let ended = "2026-02-16T12:06:00Z";
        status["conditions"] = json!([{
            "type": condition, "status": "True", "reason": reason, "message": "what the Job says",
            "lastTransitionTime": ended,
        }]);
    }
    let owner = json!({"apiVersion": "batch/v1", "kind": "CronJob", "name": "a", "uid": "c", "controller": true});
    let job = json!({
        "metadata": {
            "name": name, "namespace": "n", "uid": format!("uid-{name}"), "creationTimestamp": "2026-02-16T12:05:00Z",
            "annotations": {"batch.kubernetes.io/cronjob-scheduled-timestamp": "2026-02-16T12:05:00Z"},
            "ownerReferences": [owner],
        },
        "spec": {"template": {}}, "status": status,
    });
    Arc::new(child(job))
}

fn child(job: Value) -> Child {
    Child::of(ChildKind::Job, serde_json::from_value(job).unwrap())
}

fn pod(job: &str, state: Value) -> Arc<PodFacts> {
    let pod = json!({
        "metadata": {"name": "p", "uid": "p", "labels": {"batch.kubernetes.io/controller-uid": format!("uid-{job}")}},
        "spec": {"containers": [{"name": "runner", "image": "i"}]},
        "status": {"containerStatuses": [{
            "name": "runner", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state,
        }]},
    });
    let pod: Observed<Pod> = serde_json::from_value(pod).unwrap();
    Arc::new(PodFacts::of(&pod))
}

fn exit(code: i32, kubelet: &str, message: Value) -> Value {
    let message = if message.is_null() { String::new() } else { message.to_string() };
    json!({"terminated": {
        "exitCode": code, "reason": kubelet, "message": message, "finishedAt": "2026-02-16T12:05:59Z",
    }})
}

fn said(reason: &str) -> Value {
    json!({
        "reason": reason, "message": "what the runner says", "rows": 7, "files": 1, "seconds": 3,
        "interval": {"start": "2026-02-16T11:00:00Z", "end": "2026-02-16T12:00:00Z"}, "stale": ["20260215T07"],
    })
}

struct Case {
    schedule: Option<Schedule>,
    suspended: bool,
    jobs: Vec<Arc<Child>>,
    pods: Vec<Arc<PodFacts>>,
    pod_refusal: Option<&'static str>,
    /// What the CronJob started last.
    last: &'static str,
    scheduler: Option<SchedulerStatus>,
    before: BatchJobStatus,
    check: Asked,
    now: &'static str,
}

impl Case {
    fn new() -> Self {
        Self {
            schedule: Some(Schedule::new("5 * * * *", "UTC").unwrap()),
            suspended: false,
            jobs: Vec::new(),
            pods: Vec::new(),
            pod_refusal: None,
            last: "2026-02-16T12:05:00Z",
            scheduler: Some(SchedulerStatus { kind: SchedulerKind::CronJob, name: "a".to_owned(), spec_hash: None }),
            before: BatchJobStatus::default(),
            check: Asked::default(),
            now: NOW,
        }
    }

    fn once(mut self) -> Self {
        let hash = Some("h".to_owned());
        self.scheduler = Some(SchedulerStatus { kind: SchedulerKind::Job, name: "a-1".to_owned(), spec_hash: hash });
        self.schedule = None;
        self
    }

    fn run(mut self, condition: Option<(&str, &str)>, state: Option<Value>) -> Self {
        self.jobs.push(job("a-1", condition));
        self.pods.extend(state.map(|state| pod("a-1", state)));
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn status(&self) -> (BatchJobStatus, Verdict) {
        let cron_job = json!({
            "metadata": {"creationTimestamp": "2026-02-16T00:00:00Z"}, "status": {"lastScheduleTime": self.last},
        });
        let facts = Facts {
            refusal: None,
            suspended: self.suspended,
            schedule: self.schedule.as_ref(),
            scheduler: self.scheduler.clone(),
            cron_job: self.schedule.as_ref().map(|_| &cron_job),
            changed: None,
            pod_refusal: self.pod_refusal.map(str::to_owned),
            check: &self.check,
            spec_hash: Some("spec"),
            backfill: None,
            runs: &runs(&self.jobs, &self.pods, &BTreeSet::from(["c"])),
            interval: Some(BatchInterval::Hour),
            now: at(self.now),
        };
        status(&self.before, &facts, Some(1))
    }
}

/// The status after a run that ended so.
fn ended_before(result: RunResult) -> BatchJobStatus {
    let last_run = RunStatus {
        name: "a-0".to_owned(),
        result,
        reason: "Completed".to_owned(),
        message: "why".to_owned(),
        interval: None,
        rows: None,
        files: None,
        stale_intervals: Vec::new(),
        start_time: None,
        completion_time: Some(Time(at("2026-02-16T11:06:00Z"))),
        seconds: None,
    };
    BatchJobStatus { last_run: Some(last_run), ..BatchJobStatus::default() }
}

/// The answer of a check; without a reason it found nothing.
fn checked(reason: &str, time: &str, message: &str) -> CheckStatus {
    CheckStatus {
        spec_hash: "spec".to_owned(),
        time: Time(at(time)),
        reason: (!reason.is_empty()).then(|| reason.to_owned()),
        message: message.to_owned(),
    }
}

#[test]
fn what_a_check_says_counts_until_a_run_has_begun_after_it() {
    let wrong = || checked("InvalidSpec", "2026-02-16T12:00:00Z", "spec.query: there is no column usr_id");
    let pending = || Asked { is_pending: true, ..Asked::default() };
    let no_image =
        || Asked { is_pending: true, trouble: Some((Reason::ImageMissing, "i".to_owned())), ..Asked::default() };
    let answered = |answer| Asked { answer: Some(answer), ..Asked::default() };
    let good = || Case::new().run(Some(("Complete", "")), Some(exit(0, "Completed", said("Ended"))));
    for (what, case, reason, health) in [
        ("it goes on", Case::new().with(|case| case.check = pending()), Reason::Starting, Health::Progressing),
        (
            "its image is not there",
            Case::new().with(|case| case.check = no_image()),
            Reason::ImageMissing,
            Health::Stalled,
        ),
        (
            "nobody waits for it where nothing is to run",
            Case::new().with(|case| (case.check, case.suspended) = (no_image(), true)),
            Reason::Suspended,
            Health::Suspended,
        ),
        (
            "a run that goes on knows more of the image",
            Case::new().run(None, Some(json!({"running": {}}))).with(|case| case.check = no_image()),
            Reason::RunActive,
            Health::Progressing,
        ),
        (
            "it has just refused",
            Case::new().with(|case| case.check = answered(wrong())),
            Reason::InvalidSpec,
            Health::Stalled,
        ),
        (
            "it refused, and its Job is gone",
            Case::new().with(|case| case.before.check = Some(wrong())),
            Reason::InvalidSpec,
            Health::Stalled,
        ),
        (
            "it refused a suspended job",
            Case::new().with(|case| (case.before.check, case.suspended) = (Some(wrong()), true)),
            Reason::InvalidSpec,
            Health::Stalled,
        ),
        (
            "it refused another spec",
            Case::new().with(|case| case.before.check = Some(CheckStatus { spec_hash: "old".to_owned(), ..wrong() })),
            Reason::Scheduled,
            Health::Healthy,
        ),
        (
            "it found nothing",
            Case::new().with(|case| case.before.check = Some(checked("", "2026-02-16T12:00:00Z", ""))),
            Reason::Scheduled,
            Health::Healthy,
        ),
        (
            "a run that began later was good",
            good().with(|case| case.before.check = Some(wrong())),
            Reason::Scheduled,
            Health::Healthy,
        ),
        (
            "a run that began before was good",
            good().with(|case| case.before.check = Some(CheckStatus { time: Time(at(NOW)), ..wrong() })),
            Reason::InvalidSpec,
            Health::Stalled,
        ),
    ] {
        let (status, verdict) = case.status();
        assert_eq!((verdict.reason, verdict.health), (reason, health), "{what}: {verdict:?}");
        let known = case.check.answer.clone().or(case.before.check.clone());
        assert_eq!(status.check, known, "{what}");
    }
}

#[test]
fn every_state_of_the_runs_has_its_reason_and_its_conditions() {
    let failed = Some(("Failed", "BackoffLimitExceeded"));
    let ended = |code, message| Some(exit(code, "Error", message));
    let waits = |reason: &str| Some(json!({"waiting": {"reason": reason, "message": ""}}));
    let running = || Some(json!({"running": {}}));
    for (what, case, reason, health) in [
        ("nothing ran yet", Case::new(), Reason::Scheduled, Health::Healthy),
        ("nothing is made yet", Case::new().with(|case| case.scheduler = None), Reason::Starting, Health::Progressing),
        ("suspended", Case::new().with(|case| case.suspended = true), Reason::Suspended, Health::Suspended),
        (
            "suspended, and a run goes on",
            Case::new().run(None, running()).with(|case| case.suspended = true),
            Reason::RunActive,
            Health::Progressing,
        ),
        ("the first run goes on", Case::new().run(None, running()), Reason::RunActive, Health::Progressing),
        (
            "a run goes on after a good one",
            Case::new().run(None, running()).with(|case| case.before = ended_before(RunResult::Succeeded)),
            Reason::RunActive,
            Health::Healthy,
        ),
        (
            "a run goes on after a failed one",
            Case::new().run(None, running()).with(|case| case.before = ended_before(RunResult::Failed)),
            Reason::RunActive,
            Health::Progressing,
        ),
        ("a run that has no pod", Case::new().run(None, None), Reason::PodRefused, Health::Stalled),
        (
            "a run that has no pod, and the quota is why",
            Case::new().run(None, None).with(|case| case.pod_refusal = Some("exceeded quota: full")),
            Reason::QuotaExceeded,
            Health::Stalled,
        ),
        (
            "a run that has no pod, and a policy is why",
            Case::new().run(None, None).with(|case| case.pod_refusal = Some("violates PodSecurity")),
            Reason::PodRefused,
            Health::Stalled,
        ),
        (
            "a run that has no pod yet",
            Case::new().run(None, None).with(|case| case.now = "2026-02-16T12:05:03Z"),
            Reason::RunActive,
            Health::Progressing,
        ),
        ("no image", Case::new().run(None, waits("ErrImagePull")), Reason::ImageMissing, Health::Stalled),
        (
            "an attempt failed",
            Case::new().run(None, ended(1, said("StorageFailed"))),
            Reason::StorageFailed,
            Health::Retrying,
        ),
        (
            "it waits for input",
            Case::new().run(None, ended(1, said("InputIncomplete"))),
            Reason::InputIncomplete,
            Health::Retrying,
        ),
        (
            "out of memory",
            Case::new().run(None, Some(exit(137, "OOMKilled", Value::Null))),
            Reason::OutOfMemory,
            Health::Retrying,
        ),
        (
            "it ended well",
            Case::new().run(Some(("Complete", "")), Some(exit(0, "Completed", said("Ended")))),
            Reason::Scheduled,
            Health::Healthy,
        ),
        (
            "the runner said why it failed",
            Case::new().run(failed, ended(2, said("QueryFailed"))),
            Reason::QueryFailed,
            Health::Stalled,
        ),
        (
            "the next run tries again",
            Case::new().run(failed, ended(1, said("InputIncomplete"))),
            Reason::InputIncomplete,
            Health::Retrying,
        ),
        (
            "no next run",
            Case::new().once().run(failed, ended(1, said("InputIncomplete"))),
            Reason::InputIncomplete,
            Health::Stalled,
        ),
        ("nobody said why", Case::new().run(failed, ended(1, Value::Null)), Reason::RunFailed, Health::Stalled),
        ("no pod is left", Case::new().run(failed, None), Reason::RunFailed, Health::Stalled),
        ("too long", Case::new().run(Some(("Failed", "DeadlineExceeded")), None), Reason::RunFailed, Health::Stalled),
        (
            "missed",
            Case::new().with(|case| case.last = "2026-02-16T09:05:00Z"),
            Reason::MissedSchedule,
            Health::Degraded,
        ),
        (
            "due a moment ago",
            Case::new().with(|case| (case.last, case.now) = ("2026-02-16T11:05:00Z", "2026-02-16T12:05:10Z")),
            Reason::Scheduled,
            Health::Healthy,
        ),
        ("done", Case::new().once().run(Some(("Complete", "")), None), Reason::Completed, Health::Healthy),
        ("removed before it ended", Case::new().once(), Reason::RunFailed, Health::Stalled),
    ] {
        let (_, verdict) = case.status();
        assert_eq!((verdict.reason, verdict.health), (reason, health), "{what}: {verdict:?}");
        assert!(!verdict.message.is_empty(), "{what}");
    }
}

#[test]
fn the_figures_of_a_run_are_those_of_its_last_message() {
    let case = Case::new().run(Some(("Complete", "")), Some(exit(0, "Completed", said("Ended"))));
    let (status, _) = case.status();
    let run = status.last_run.as_ref().unwrap();
    assert_eq!(
        (run.result, run.reason.as_str(), run.rows, run.files),
        (RunResult::Succeeded, "Completed", Some(7), Some(1))
    );
    assert_eq!((run.seconds, run.interval.as_ref().unwrap().start.0), (Some(59), at("2026-02-16T11:00:00Z")));
    assert_eq!(run.stale_intervals, ["20260215T07"]);
    assert_eq!(status.last_successful_interval, run.interval);
    assert_eq!(status.last_successful_time, run.completion_time);
    assert_eq!(status.next_schedule_time.as_ref().unwrap().0, at("2026-02-16T13:05:00Z"));
    assert_eq!(status.next_interval.as_ref().unwrap().start.0, at("2026-02-16T12:00:00Z"));
    assert_eq!(status.missed_runs, Some(0));
    // The pod goes first, then the Job: what is known of the run stays.
    for jobs in [case.jobs.clone(), Vec::new()] {
        let later = Case::new().with(|later| (later.before, later.jobs) = (status.clone(), jobs));
        assert_eq!(later.status().0, status);
    }
}

#[test]
fn what_is_missed_is_counted_and_a_run_under_way_names_its_interval() {
    let (status, _) = Case::new().with(|case| case.last = "2026-02-16T09:05:00Z").status();
    assert_eq!(status.missed_runs, Some(3));
    let (status, _) = Case::new().run(None, Some(json!({"running": {}}))).status();
    assert_eq!(status.active[0].interval.as_ref().unwrap().end.0, at("2026-02-16T12:00:00Z"));
    let (status, _) = Case::new().with(|case| case.suspended = true).status();
    assert_eq!((status.missed_runs, status.next_schedule_time), (None, None));
}

#[test]
fn a_job_of_somebody_else_is_no_run() {
    let other = Case::new().run(None, None);
    assert!(runs(&other.jobs, &other.pods, &BTreeSet::from(["other"])).is_empty());
}

#[test]
fn the_operator_looks_again_when_the_time_alone_changes_what_is_said() {
    let quiet = |now: &str, last: &str| {
        let cron_job = json!({
            "metadata": {"creationTimestamp": "2026-02-16T00:00:00Z"}, "status": {"lastScheduleTime": last},
        });
        let schedule = Schedule::new("5 * * * *", "UTC").unwrap();
        let facts = Facts {
            refusal: None,
            suspended: false,
            schedule: Some(&schedule),
            scheduler: None,
            cron_job: Some(&cron_job),
            changed: None,
            pod_refusal: None,
            check: &Asked::default(),
            spec_hash: None,
            backfill: None,
            runs: &[],
            interval: None,
            now: at(now),
        };
        facts.quiet().unwrap().as_secs()
    };
    assert_eq!(quiet("2026-02-16T13:04:00Z", "2026-02-16T12:05:00Z"), 61, "the run is due");
    assert_eq!(quiet("2026-02-16T13:05:01Z", "2026-02-16T12:05:00Z"), 20, "it is missed");
    assert_eq!(quiet("2026-02-16T13:06:00Z", "2026-02-16T12:05:00Z"), 3_541, "the next one is due");
}

#[test]
fn a_status_stays_below_16_kb_however_many_runs_there_are() {
    let said = json!({"reason": "StorageFull", "message": "\"".repeat(4_000), "rows": 1, "files": 1});
    let mut jobs: Vec<_> = (0..1_000).map(|i| job(&format!("{}{i:04}", "a".repeat(59)), None)).collect();
    jobs.push(job("failed", Some(("Failed", "BackoffLimitExceeded"))));
    let pods = [pod("failed", exit(1, "Error", said))];
    let runs = runs(&jobs, &pods, &BTreeSet::from(["c"]));
    assert_eq!(runs.len(), 1_001);
    let schedule = Schedule::new("5 * * * *", "UTC").unwrap();
    let facts = Facts {
        refusal: Some((Reason::WriteRefused, "\"".repeat(100_000))),
        suspended: false,
        schedule: Some(&schedule),
        scheduler: None,
        cron_job: None,
        changed: None,
        pod_refusal: None,
        check: &Asked {
            answer: Some(checked("InvalidSpec", "2026-02-16T12:00:00Z", &"\"".repeat(1_000))),
            ..Asked::default()
        },
        spec_hash: Some("spec"),
        backfill: None,
        runs: &runs,
        interval: Some(BatchInterval::Hour),
        now: at(NOW),
    };
    let (status, _) = status(&BatchJobStatus::default(), &facts, Some(1));
    let bytes = serde_json::to_string(&status).unwrap().len();
    assert!((6_000..16_000).contains(&bytes), "{bytes} bytes");
    assert!(status.last_run.unwrap().message.len() > 500);
}

/// A CronJob as the API server gives it, of a job whose run at noon goes on: Kubernetes 1.34 with concurrencyPolicy Forbid.
fn cron_job_of_kubernetes() -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "CronJob",
        "metadata": {
            "name": "a", "namespace": "n", "uid": "c", "generation": 1, "resourceVersion": "713",
            "creationTimestamp": "2026-02-16T11:58:17Z",
        },
        "spec": {
            "schedule": "* * * * *", "timeZone": "UTC", "suspend": false, "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": 10, "successfulJobsHistoryLimit": 3, "failedJobsHistoryLimit": 3,
        },
        "status": {
            "active": [{"kind": "Job", "namespace": "n", "name": "a-29520720", "uid": "uid-a-29520720", "apiVersion": "batch/v1", "resourceVersion": "701"}],
            "lastScheduleTime": "2026-02-16T12:00:00Z", "lastSuccessfulTime": "2026-02-16T11:59:04Z",
        },
    })
}

fn verdict_of(cron_job: &Value, runs: &[Run], now: &str) -> Verdict {
    let schedule = Schedule::new("* * * * *", "UTC").unwrap();
    let facts = Facts {
        refusal: None,
        suspended: false,
        schedule: Some(&schedule),
        scheduler: Some(SchedulerStatus { kind: SchedulerKind::CronJob, name: "a".to_owned(), spec_hash: None }),
        cron_job: Some(cron_job),
        changed: None,
        pod_refusal: None,
        check: &Asked::default(),
        spec_hash: None,
        backfill: None,
        runs,
        interval: Some(BatchInterval::Hour),
        now: at(now),
    };
    status(&BatchJobStatus::default(), &facts, Some(1)).1
}

#[test]
fn a_run_that_goes_on_and_keeps_others_from_starting_is_said_to_miss_them() {
    let cron_job = cron_job_of_kubernetes();
    let job = json!({
        "metadata": {
            "name": "a-29520720", "namespace": "n", "uid": "uid-a-29520720", "creationTimestamp": "2026-02-16T12:00:00Z",
            "annotations": {"batch.kubernetes.io/cronjob-scheduled-timestamp": "2026-02-16T12:00:00Z"},
            "ownerReferences": [{
                "apiVersion": "batch/v1", "kind": "CronJob", "name": "a", "uid": "c", "controller": true,
                "blockOwnerDeletion": true,
            }],
        },
        "spec": {"template": {}},
        "status": {"active": 1, "ready": 1, "startTime": "2026-02-16T12:00:00Z", "terminating": 0, "uncountedTerminatedPods": {}},
    });
    let of = |job: &Value, now: &str| {
        let job = child(job.clone());
        let pods = [pod("a-29520720", json!({"running": {"startedAt": "2026-02-16T12:00:01Z"}}))];
        verdict_of(&cron_job, &runs(&[Arc::new(job)], &pods, &BTreeSet::from(["c"])), now)
    };
    assert_eq!(of(&job, "2026-02-16T12:00:50Z").reason, Reason::RunActive);
    assert_eq!(of(&job, "2026-02-16T12:01:05Z").reason, Reason::RunActive, "it could still start");
    let missed = of(&job, "2026-02-16T12:01:21Z");
    assert_eq!((missed.reason, missed.health), (Reason::MissedSchedule, Health::Progressing), "no run was good yet");
    for says in ["due at 2026-02-16T12:01:00Z did not start", "a-29520720 still goes on"] {
        assert!(missed.message.contains(says), "{}", missed.message);
    }
    assert_eq!(of(&job, "2026-02-16T12:09:59Z"), missed, "said once, whatever the clock says");
    // kubectl create job --from=cronjob/a: Kubernetes does not count it.
    let mut by_hand = job;
    by_hand["metadata"]["annotations"] = json!({"cronjob.kubernetes.io/instantiate": "manual"});
    assert_eq!(of(&by_hand, "2026-02-16T12:01:21Z").reason, Reason::RunActive);
}

#[test]
fn a_run_that_nobody_started_in_time_is_said_to_be_missed_until_the_next_one_starts() {
    // The controller manager was away from 12:00:30 to 12:02:40: what was due then is past startingDeadlineSeconds, and
    // is never started.
    let mut cron_job = cron_job_of_kubernetes();
    cron_job["status"].as_object_mut().unwrap().remove("active");
    assert_eq!(verdict_of(&cron_job, &[], "2026-02-16T12:01:10Z").reason, Reason::Scheduled);
    let missed = verdict_of(&cron_job, &[], "2026-02-16T12:02:45Z");
    assert_eq!(missed.reason, Reason::MissedSchedule);
    assert!(missed.message.contains("due at 2026-02-16T12:01:00Z"), "{}", missed.message);
    cron_job["status"]["lastScheduleTime"] = "2026-02-16T12:03:00Z".into();
    assert_eq!(verdict_of(&cron_job, &[], "2026-02-16T12:03:05Z").reason, Reason::Scheduled);
    // One that never ran is counted from its creation.
    cron_job["status"] = json!({});
    assert_eq!(verdict_of(&cron_job, &[], "2026-02-16T11:59:10Z").reason, Reason::Scheduled);
    assert_eq!(verdict_of(&cron_job, &[], "2026-02-16T11:59:21Z").reason, Reason::MissedSchedule);
}
