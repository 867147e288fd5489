//! The backfill that a spec asks for: beside a schedule a Job of its own, which the runner lets take turns with the scheduled runs; and
//! how far it is, as its runner says. Pure.

use data_platform_crds::batch_job::{BackfillStatus, BatchInterval, BatchJobSpec, RunResult};
use data_platform_crds::condition::{shortened, whole_seconds};
use data_platform_crds::runner_status::BatchRunStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use crate::apply::Desired;
use crate::batch_job::build::{is_scheduled, job_spec, one_run_name, spec_hash};
use crate::batch_job::runs::{Run, why};
use crate::batch_job::validate::{ValidatedJob, interval};
use crate::build::metadata;
use crate::child::ChildKind;
use crate::names::{BACKFILL_LABEL, canonical, hash, hashed_name};

/// Longest message in a status, in bytes of JSON.
const TEXT_BYTES_MAX: usize = 1024;

/// A backfill that a spec asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Name of its Job.
    pub name: String,
    /// Names what it computes.
    pub spec_hash: String,
    /// How many intervals it has.
    pub intervals: i64,
}

/// The backfill of a job; `None`: the spec asks for none.
pub fn wanted(job: &ValidatedJob) -> Option<Wanted> {
    let spec = &job.job.spec;
    let intervals = intervals(spec)?;
    if !is_scheduled(&job.job) {
        return Some(Wanted { name: one_run_name(job), spec_hash: spec_hash(job), intervals });
    }
    let spec_hash = hash(&format!("{}{:?}", canonical(&spec.backfilled()), job.restarted_at));
    Some(Wanted { name: hashed_name(&job.name, &format!("backfill {spec_hash}")), spec_hash, intervals })
}

/// Number of intervals that the times of a backfill have.
fn intervals(spec: &BatchJobSpec) -> Option<i64> {
    let backfill = spec.backfill.as_ref()?;
    let (from, to) = (backfill.from.0.as_second(), backfill.to.0.as_second());
    let grid: BatchInterval = interval(spec)?;
    let ends = std::iter::successors(Some(grid.around(from).1), |end| Some(grid.around(*end).1));
    i64::try_from(ends.take_while(|end| *end <= to).count()).ok()
}

/// A pod template whose runner is asked how far it is.
pub fn labelled(mut template: Value) -> Value {
    template["metadata"]["labels"][BACKFILL_LABEL] = "true".into();
    template
}

/// The Job beside a schedule, of the template of its runs.
pub fn build(job: &ValidatedJob, template: &Value) -> Option<Desired> {
    let wanted = wanted(job).filter(|_| is_scheduled(&job.job))?;
    let mut template = labelled(template.clone());
    if let Some(arguments) = template["spec"]["containers"][0]["args"].as_array_mut() {
        arguments.push("--spec-backfill".into());
    }
    let mut metadata = metadata(job, &wanted.name);
    metadata["labels"][BACKFILL_LABEL] = "true".into();
    Some(Desired::new(ChildKind::Job, json!({"metadata": metadata, "spec": job_spec(job, template)})))
}

/// How far it is. What nobody knows anew stays as it was, also when its Job is gone.
pub fn progress(
    wanted: &Wanted,
    before: Option<&BackfillStatus>,
    runs: &[Run],
    said: Option<&BatchRunStatus>,
) -> BackfillStatus {
    let before = before.filter(|before| before.spec_hash == wanted.spec_hash);
    let mut status = before.cloned().unwrap_or_else(|| BackfillStatus {
        name: wanted.name.clone(),
        spec_hash: wanted.spec_hash.clone(),
        result: None,
        message: String::new(),
        finished: None,
        left: None,
        seconds_left: None,
        start_time: None,
        completion_time: None,
    });
    let Some(run) = runs.iter().find(|run| run.name == wanted.name) else { return status };
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let time = |time| Time(whole_seconds(time));
    status.start_time = run.started.map(time).or(status.start_time);
    // A runner that has not read its log yet knows of nothing that is left.
    if let Some(said) = said.filter(|said| said.left + said.finished > 0) {
        status.left = Some(number(said.left));
        status.finished = Some((wanted.intervals - number(said.left)).max(0));
        status.seconds_left = said.seconds_left.map(number);
    }
    if let Some(ended) = &run.ended {
        status.completion_time = Some(time(ended.time));
        status.seconds_left = None;
        status.result = Some(if ended.succeeded { RunResult::Succeeded } else { RunResult::Failed });
        status.message = if ended.succeeded { String::new() } else { shortened(&why(run, ended).1, TEXT_BYTES_MAX) };
        if ended.succeeded {
            (status.finished, status.left) = (Some(wanted.intervals), Some(0));
        }
    }
    status
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;
    use crate::batch_job::runs::Ended;
    use crate::batch_job::tests::{job, once, validated};

    fn with_backfill(mut job: data_platform_crds::batch_job::BatchJob, to: &str) -> ValidatedJob {
        job.spec.backfill =
            serde_json::from_value(json!({"from": "2026-01-01T00:00:00Z", "to": to, "parallelism": 2})).unwrap();
        validated(&job)
    }

    #[test]
    fn beside_a_schedule_it_is_a_job_of_its_own_which_what_it_computes_has_the_name_of() {
        assert_eq!(wanted(&validated(&job())), None);
        let day = with_backfill(job(), "2026-01-02T00:00:00Z");
        let of_day = wanted(&day).unwrap();
        assert_eq!(of_day.intervals, 24);
        let built = build(&day, &json!({"spec": {"containers": [{"args": ["run"]}]}})).unwrap();
        assert_eq!(built.name, of_day.name);
        assert_eq!(
            built.object["spec"]["template"]["spec"]["containers"][0]["args"],
            json!(["run", "--spec-backfill"])
        );
        assert_eq!(built.object["metadata"]["labels"][BACKFILL_LABEL], "true");
        let mut later = job();
        later.spec.schedule = Some("7 * * * *".to_owned());
        assert_eq!(
            wanted(&with_backfill(later, "2026-01-02T00:00:00Z")).unwrap(),
            of_day,
            "when runs are due is no part of it"
        );
        assert_ne!(wanted(&with_backfill(job(), "2026-01-03T00:00:00Z")).unwrap().name, of_day.name);
        // Without a schedule the one Job is it.
        let alone = with_backfill(once(), "2026-01-02T00:00:00Z");
        assert_eq!((wanted(&alone).unwrap().name, build(&alone, &json!({}))), (one_run_name(&alone), None));
    }

    #[test]
    fn it_says_how_far_it_is_and_keeps_what_is_known_when_its_job_is_gone() {
        let wanted = Wanted { name: "b".to_owned(), spec_hash: "h".to_owned(), intervals: 24 };
        let second = |second| Timestamp::from_second(second).unwrap();
        let run = |ended: Option<bool>| Run {
            name: "b".to_owned(),
            uid: "u".to_owned(),
            created: second(1),
            started: Some(second(2)),
            due: None,
            ended: ended.map(|succeeded| Ended {
                time: second(9),
                succeeded,
                reason: "BackoffLimitExceeded".to_owned(),
                message: "too often".to_owned(),
            }),
            pod: None,
            exit: None,
            is_backfill: true,
        };
        let said =
            |finished, left| BatchRunStatus { finished, left, seconds_left: Some(40), ..BatchRunStatus::default() };
        let begun = progress(&wanted, None, &[], None);
        assert_eq!((begun.name.as_str(), begun.left), ("b", None));
        // An attempt that goes on where another one ended has finished less than there is.
        let on = progress(&wanted, Some(&begun), &[run(None)], Some(&said(2, 10)));
        assert_eq!((on.finished, on.left, on.seconds_left, on.result), (Some(14), Some(10), Some(40), None));
        let silent = progress(&wanted, Some(&on), &[run(None)], Some(&BatchRunStatus::default()));
        assert_eq!((silent.finished, silent.left), (Some(14), Some(10)));
        let done = progress(&wanted, Some(&on), &[run(Some(true))], None);
        assert_eq!((done.finished, done.left, done.seconds_left), (Some(24), Some(0), None));
        assert_eq!(done.result, Some(RunResult::Succeeded));
        assert_eq!(progress(&wanted, Some(&done), &[], None), done, "its Job was cleaned up");
        let failed = progress(&wanted, Some(&on), &[run(Some(false))], None);
        assert_eq!(
            (failed.result, failed.message.as_str(), failed.left),
            (Some(RunResult::Failed), "too often", Some(10))
        );
        let other = Wanted { spec_hash: "other".to_owned(), ..wanted };
        assert_eq!(progress(&other, Some(&done), &[], None).result, None, "another one begins anew");
    }
}
