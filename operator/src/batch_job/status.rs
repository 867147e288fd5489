//! From what is known of a batch job to its status. Pure: facts in, conditions and figures out.

use std::time::Duration;

use data_platform_crds::batch_job::{
    ActiveRunStatus, BackfillStatus, BatchInterval, BatchJobStatus, CheckStatus, RunResult, RunStatus, SchedulerStatus,
};
use data_platform_crds::condition::{Health, Reason, conditions, whole_seconds};
use data_platform_crds::schedule::Schedule;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::batch_job::check::{self, Asked};
use crate::batch_job::runs::{Run, interval_at, last_run};
use crate::validated::Refusal;
use crate::verdict::Verdict;

/// Active runs that a status names.
const ACTIVE_MAX: usize = 16;
/// How long after its time a run may start before it is called missed: the CronJob controller takes a second.
const START_SECONDS: i64 = 20;
/// How long a run may be without a pod before it is asked why.
const POD_SECONDS: i64 = 15;
/// Missed runs that are counted: a year of hours.
const MISSED_MAX: usize = 9_000;

/// What is known of a job.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// What keeps the spec from being carried out.
    pub refusal: Option<Refusal>,
    /// No runs are to start.
    pub suspended: bool,
    /// When runs are due; `None`: the job runs once, or nobody can say.
    pub schedule: Option<&'a Schedule>,
    /// What starts the pods, once it is there.
    pub scheduler: Option<SchedulerStatus>,
    /// The CronJob, if there is one.
    pub cron_job: Option<&'a Value>,
    /// When the schedule was changed by this process: what was due before by another one is not missed.
    pub changed: Option<Timestamp>,
    /// The runs whose Jobs are there, oldest first.
    pub runs: &'a [Run],
    /// Why the newest run has no pod, as far as somebody knows.
    pub pod_refusal: Option<String>,
    /// What is known of the check of its SQL.
    pub check: &'a Asked,
    /// Names what the job computes.
    pub spec_hash: Option<&'a str>,
    /// How far its backfill is.
    pub backfill: Option<BackfillStatus>,
    /// What one run covers.
    pub interval: Option<BatchInterval>,
    /// Now.
    pub now: Timestamp,
}

impl Facts<'_> {
    fn newest_active(&self) -> Option<&Run> {
        self.runs.iter().rev().find(|run| run.ended.is_none())
    }

    /// The newest run, if it should have a pod by now and has none.
    pub fn without_pod(&self) -> Option<&Run> {
        let is_late = |run: &&Run| self.now.as_second() - run.created.as_second() >= POD_SECONDS;
        self.newest_active().filter(|run| run.pod.is_none()).filter(is_late)
    }

    /// When the CronJob started a run the last time.
    fn last_schedule_time(&self) -> Option<Timestamp> {
        self.cron_job?["status"]["lastScheduleTime"].as_str()?.parse().ok()
    }

    /// Since when every time of the schedule should have had a run.
    fn since(&self) -> Option<Timestamp> {
        let created = self.cron_job?["metadata"]["creationTimestamp"].as_str()?.parse().ok();
        [self.last_schedule_time(), created, self.changed].into_iter().flatten().max()
    }

    /// The first time at which a run is due that has not started.
    pub fn pending(&self) -> Option<Timestamp> {
        if self.suspended || self.refusal.is_some() {
            return None;
        }
        self.schedule?.after(self.since()?)
    }

    /// Times at which a run was due and none started.
    fn missed(&self) -> usize {
        let (Some(schedule), Some(since), false) = (self.schedule, self.since(), self.suspended) else { return 0 };
        schedule.between(since, self.now - SignedDuration::from_secs(START_SECONDS), MISSED_MAX).len()
    }

    /// The scheduled runs are well, and the backfill beside them is not.
    fn failed_backfill(&self) -> Option<Verdict> {
        let failed = self.backfill.as_ref().filter(|backfill| backfill.result == Some(RunResult::Failed))?;
        let message = format!("the backfill {} failed: {}", failed.name, failed.message);
        let cure = "mend what it says, then set the annotation dataplatform.io/restartedAt: it is made anew";
        Some(Verdict::new(Reason::RunFailed, message).as_(Health::Degraded).with_hint(cure))
    }

    /// The first run that is missed, in words.
    fn first_missed(&self) -> String {
        let due = self.pending().map_or_else(String::new, |due| format!(" at {due}"));
        format!("the run that was due{due} did not start")
    }

    /// What is to be said when runs are due and one that goes on keeps them from starting. Kubernetes tells of it by an event
    /// alone: `lastScheduleTime` stays where it is, and when the run ends only the last of them is started.
    fn kept_from_starting(&self, run: &Run) -> Option<Verdict> {
        // A run that a person started does not count for Kubernetes, nor one that is about to be replaced.
        run.due.filter(|_| self.missed() > 0)?;
        let message =
            format!("{}: {} still goes on, and concurrencyPolicy lets no other start", self.first_missed(), run.name);
        let cure =
            "make runs shorter than the time between them, or stop that one; the runner catches up on what is missed";
        Some(Verdict::new(Reason::MissedSchedule, message).with_hint(cure))
    }

    /// How long nothing of what is said can change by the time alone.
    pub fn quiet(&self) -> Option<Duration> {
        let until = |time: Timestamp| {
            let wait = (time.as_second() - self.now.as_second()).max(0) + 1;
            Duration::from_secs(u64::try_from(wait).unwrap_or(1))
        };
        let start = self.pending().map(|due| {
            let late = due + SignedDuration::from_secs(START_SECONDS);
            // Once it is late, the next look is at the next time.
            if self.now < due {
                until(due)
            } else if self.now < late {
                until(late)
            } else {
                self.schedule.and_then(|schedule| schedule.after(self.now)).map_or(Duration::from_secs(60), until)
            }
        });
        let pod = self.newest_active().filter(|run| run.pod.is_none());
        let pod = pod.map(|run| until(run.created + SignedDuration::from_secs(POD_SECONDS)));
        let odd = self.newest_active().and_then(|run| run.pod.as_ref()?.odd_from()).filter(|odd| *odd > self.now);
        start.into_iter().chain(pod).chain(odd.map(until)).min()
    }
}

/// Says of a job what its facts amount to: what comes first keeps what comes later from mattering. `last`: the run that
/// ended last; `checked`: what the last check of its SQL came to.
pub fn verdict(facts: &Facts<'_>, last: Option<&RunStatus>, checked: Option<&CheckStatus>) -> Verdict {
    let refusal = facts.refusal.clone().or_else(|| check::refusal(checked, last, facts.spec_hash));
    if let Some((reason, message)) = refusal {
        return Verdict::new(reason, message);
    }
    let is_scheduled = facts.schedule.is_some();
    let of_this_spec = |last: &&RunStatus| {
        is_scheduled || facts.scheduler.as_ref().is_some_and(|scheduler| scheduler.name == last.name)
    };
    let last = last.filter(of_this_spec);
    if let Some(run) = facts.newest_active() {
        let verdict = active(run, facts, last);
        if verdict.reason != Reason::RunActive {
            return verdict;
        }
        let is_well = verdict.health == Health::Healthy;
        return match facts.kept_from_starting(run) {
            Some(missed) if is_well => missed,
            // It is not ready anyway.
            Some(missed) => missed.as_(verdict.health),
            None => verdict,
        };
    }
    let Some(scheduler) = facts.scheduler.as_ref().filter(|_| !(is_scheduled && facts.suspended)) else {
        return idle(facts);
    };
    if let Some(verdict) = being_checked(facts.check) {
        return verdict;
    }
    match last {
        Some(last) if last.result == RunResult::Failed => failed(last, is_scheduled),
        Some(_) if !is_scheduled => Verdict::new(Reason::Completed, ""),
        None if !is_scheduled && facts.runs.is_empty() => {
            let message = format!("the Job {} was removed, and nobody saw how it ended", scheduler.name);
            let cure = "set the annotation dataplatform.io/restartedAt to run it again";
            Verdict::new(Reason::RunFailed, message).with_hint(cure)
        }
        None if !is_scheduled => Verdict::new(Reason::Starting, "the run is being made"),
        _ if facts.missed() > 0 => Verdict::new(Reason::MissedSchedule, facts.first_missed()),
        _ if let Some(failed) = facts.failed_backfill() => failed,
        _ => Verdict::new(Reason::Scheduled, ""),
    }
}

/// Nobody has judged the SQL yet, and whoever is to do it is on the way or cannot: a run could not either.
fn being_checked(check: &Asked) -> Option<Verdict> {
    match &check.trouble {
        Some((reason, message)) => Some(Verdict::new(*reason, message.clone())),
        None => {
            check.is_pending.then(|| Verdict::new(Reason::Starting, "the query is being judged before its first run"))
        }
    }
}

/// Nothing is to run, or nothing is there yet.
fn idle(facts: &Facts<'_>) -> Verdict {
    if !facts.suspended {
        return Verdict::new(Reason::Starting, "the objects of the job are being made");
    }
    let message = "spec.suspend is true: no run starts; what is missed meanwhile is caught up later, up to catchUp";
    Verdict::new(Reason::Suspended, message).with_hint("set suspend: false")
}

/// A run is under way. A job whose last run failed, or that has had no good one yet, is not ready for that.
fn active(run: &Run, facts: &Facts<'_>, last: Option<&RunStatus>) -> Verdict {
    let goes_on = || match last {
        Some(last) if last.result == RunResult::Succeeded => Verdict::new(Reason::RunActive, ""),
        Some(last) => {
            let message = format!("a run is going on; the run {} before it failed: {}", last.name, last.message);
            Verdict::new(Reason::RunActive, message).as_(Health::Progressing)
        }
        None => {
            let message = "the first run is going on; no run has ended yet";
            Verdict::new(Reason::RunActive, message).as_(Health::Progressing)
        }
    };
    let Some(pod) = &run.pod else {
        if facts.without_pod().is_none() {
            return goes_on();
        }
        if let Some(refusal) = &facts.pod_refusal {
            return Verdict::of_pod_refusal(&format!("the Job {} gets no pod: {refusal}", run.name));
        }
        let message = format!("the Job {} has no pod, and no event of it says why", run.name);
        let cure = "look at it (kubectl describe job): mostly a ResourceQuota, a ServiceAccount or an admission policy";
        return Verdict::new(Reason::PodRefused, message).with_hint(cure);
    };
    match &pod.trouble {
        // The Job itself decides whether there is another attempt, and ends if there is none.
        Some((reason, message)) if pod.last_exit.is_some() => {
            Verdict::new(*reason, format!("{message}; it is tried again")).as_(Health::Retrying)
        }
        Some((reason, message)) => Verdict::new(*reason, message.clone()),
        None => goes_on(),
    }
}

/// The last run failed. With a schedule there is another one, and what may pass is tried again by it.
fn failed(run: &RunStatus, is_scheduled: bool) -> Verdict {
    let reason = Reason::from_name(&run.reason).unwrap_or(Reason::RunFailed);
    let verdict = Verdict::new(reason, format!("the run {} failed: {}", run.name, run.message));
    match reason.health() {
        Health::Retrying if is_scheduled => verdict,
        _ => verdict.as_(Health::Stalled),
    }
}

/// The status of a job. What nobody knows anew stays as it was: the last run is the last run, also when its Job is gone.
pub fn status(before: &BatchJobStatus, facts: &Facts<'_>, generation: Option<i64>) -> (BatchJobStatus, Verdict) {
    let last = last_run(before.last_run.as_ref(), facts.runs);
    let checked = facts.check.answer.as_ref().or(before.check.as_ref());
    let verdict = verdict(facts, last.as_ref(), checked);
    let time = |time: Timestamp| Time(whole_seconds(time));
    let next = facts.pending().and_then(|_| facts.schedule?.after(facts.now));
    let good = last.as_ref().filter(|run| run.result == RunResult::Succeeded);
    let active = facts.runs.iter().filter(|run| run.ended.is_none());
    let active = active.map(|run| ActiveRunStatus {
        name: run.name.clone(),
        start_time: run.started.map(time),
        interval: facts.interval.zip(run.due).and_then(|(grid, due)| interval_at(grid, due)),
    });
    let status = BatchJobStatus {
        observed_generation: generation,
        conditions: conditions(&before.conditions, &verdict.findings(), generation, facts.now),
        active: active.take(ACTIVE_MAX).collect(),
        last_schedule_time: facts.last_schedule_time().map(time).or_else(|| before.last_schedule_time.clone()),
        last_successful_time: good
            .and_then(|run| run.completion_time.clone())
            .or_else(|| before.last_successful_time.clone()),
        last_successful_interval: good
            .and_then(|run| run.interval.clone())
            .or_else(|| before.last_successful_interval.clone()),
        next_schedule_time: next.map(time),
        next_interval: facts.interval.zip(next).and_then(|(grid, next)| interval_at(grid, next)),
        missed_runs: facts.pending().map(|_| i64::try_from(facts.missed()).unwrap_or(i64::MAX)),
        scheduler: facts.scheduler.clone().or_else(|| before.scheduler.clone()),
        check: checked.cloned(),
        backfill: facts.backfill.clone(),
        last_run: last,
    };
    (status, verdict)
}

#[cfg(test)]
mod tests;
