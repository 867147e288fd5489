//! From a resource to a job that can be built, or why not. Pure.

use std::collections::BTreeMap;

use data_platform_crds::batch_job::{BatchInterval, BatchJob, BatchJobSpec, BatchTemplate};
use data_platform_crds::condition::Reason;
use data_platform_crds::parameters::expand_batch_parameters;
use data_platform_crds::schedule::{Schedule, ScheduleError};
use data_platform_crds::validate::validate_batch;

use crate::validated::{Refusal, judge};

/// A batch job that can be built.
pub type ValidatedJob = crate::validated::ValidatedJob<BatchJob>;

/// Checks what neither the schema nor the rules of the CRD can express, and what the operator needs for itself.
///
/// # Errors
///
/// A schedule or a zone that is none by itself, since that has a reason of its own; else every problem, as one message.
pub fn check(job: &BatchJob) -> Result<(), Refusal> {
    let spec = &job.spec;
    schedule(spec)?;
    // A template brings its own parameters: the runner, which has the templates, knows them.
    let problems = match expand_batch_parameters(spec, &spec.parameters, &BTreeMap::new()) {
        _ if spec.template.is_some() => validate_batch(spec),
        Ok(expanded) => validate_batch(&expanded),
        Err(problems) => problems,
    };
    judge(problems)
}

/// When runs are due; `None`: the job runs once.
///
/// # Errors
///
/// A schedule or a zone that is none.
pub fn schedule(spec: &BatchJobSpec) -> Result<Option<Schedule>, Refusal> {
    let Some(fields) = &spec.schedule else { return Ok(None) };
    let refused = |error| match error {
        ScheduleError::Fields(message, cure) => (Reason::InvalidSchedule, format!("spec.schedule: {message}: {cure}")),
        ScheduleError::Zone(message, cure) => (Reason::InvalidTimeZone, format!("spec.timeZone: {message}: {cure}")),
    };
    Schedule::new(fields, &spec.time_zone).map(Some).map_err(refused)
}

/// What one run covers.
pub fn interval(spec: &BatchJobSpec) -> Option<BatchInterval> {
    let of_template = spec.template.map(|template| match template {
        BatchTemplate::HourlyAggregates => BatchInterval::Hour,
        BatchTemplate::DailySummaries | BatchTemplate::UserSegmentation => BatchInterval::Day,
    });
    spec.interval.or(of_template)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::batch_job::tests::job;

    fn refused(field: &str, value: Value) -> Option<Refusal> {
        let mut changed = serde_json::to_value(job()).unwrap();
        changed["spec"][field] = value;
        check(&serde_json::from_value(changed).unwrap()).err()
    }

    #[test]
    fn a_schedule_and_a_zone_that_are_none_have_reasons_of_their_own() {
        assert_eq!(check(&job()), Ok(()));
        for (field, value, reason, says) in [
            ("schedule", json!("61 * * * *"), Reason::InvalidSchedule, "from 0 to 59"),
            ("timeZone", json!("Mars/Olympus"), Reason::InvalidTimeZone, "Mars/Olympus"),
            ("wait", json!("9d"), Reason::InvalidSpec, "spec.wait"),
            ("pod", json!({"env": [{"name": "JOB_UID", "value": "x"}]}), Reason::InvalidSpec, "sets JOB_UID"),
        ] {
            let (found, message) = refused(field, value).unwrap();
            assert_eq!(found, reason, "{message}");
            assert!(message.contains(says), "{message}");
        }
        assert_eq!(refused("schedule", Value::Null), None);
    }
}
