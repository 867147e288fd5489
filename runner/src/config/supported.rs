//! What this version of the runner does not do yet: said in one clear problem for each, never silently ignored.

use data_platform_crds::batch_job::BatchJobSpec;
use data_platform_crds::field_path::FieldPath;
use data_platform_crds::problem::Problem;
use data_platform_crds::streaming_job::StreamingJobSpec;

fn spec() -> FieldPath {
    FieldPath::root().field("spec")
}

/// How every message ends.
const LATER: &str = "comes in a later version";

/// Whether a problem is one of these.
pub fn is_about(problem: &Problem) -> bool {
    problem.message.ends_with(LATER)
}

fn not_yet(path: FieldPath, what: &str, instead: &str) -> Problem {
    Problem::error(path, format!("{what} {LATER}"), instead)
}

fn for_the_operator(field: &str, what: &str, instead: &str) -> Problem {
    Problem::error(spec().field(field), format!("{what} is for the operator"), instead)
}

/// What the operator sees to, and the command line has flags for.
pub fn check_beside_others(job: &StreamingJobSpec) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut refuse = |field: &str, what: &str, instead: &str| problems.push(for_the_operator(field, what, instead));
    if job.storage.is_some() {
        refuse("storage", "storage of one job", "leave it out and set OUTPUTS_DIR and CHECKPOINT_DIR");
    }
    if job.log_level.is_some() {
        refuse("logLevel", "logLevel", "leave it out and set LOG_LEVEL, or --log-level");
    }
    problems
}

/// A job that is not to run.
pub fn waits(job: &StreamingJobSpec) -> bool {
    job.suspend || job.replicas == Some(0)
}

/// What only somebody can see to who goes on when the job does not run.
pub fn check_waits(job: &StreamingJobSpec) -> Option<Problem> {
    let field = if job.suspend { "suspend" } else { "replicas" };
    let instead = "leave it out, and start the job when it is to run";
    waits(job).then(|| for_the_operator(field, "a job that waits", instead))
}

/// Problems of a batch job that is valid but cannot run yet.
pub fn check_batch(job: &BatchJobSpec) -> Vec<Problem> {
    let mut problems = Vec::new();
    let several = job.outputs.iter().enumerate();
    let several = several.map(|(index, output)| (spec().field("outputs").index(index).field("sink"), &output.sink));
    for (place, sink) in job.sink.iter().map(|sink| (spec().field("sink"), sink)).chain(several) {
        if sink.maintenance.is_some() {
            let instead = "leave it out: a run writes few files (see maxFiles)";
            problems.push(not_yet(
                place.field("maintenance"),
                "maintenance of a table that a batch job writes",
                instead,
            ));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(change: serde_json::Value) -> Vec<String> {
        let mut job: serde_json::Value = serde_json::json!({
            "sources": [{"name": "s", "topics": ["t"], "columns": [{"name": "a", "type": "int"}]}],
            "query": "SELECT a FROM s",
            "sink": {"path": "p"},
        });
        for (key, value) in change.as_object().unwrap() {
            job[key] = value.clone();
        }
        let job = serde_json::from_value(job).unwrap();
        check_beside_others(&job)
            .iter()
            .chain(&check_waits(&job))
            .map(|problem| format!("{}: {}", problem.path, problem.message))
            .collect()
    }

    #[test]
    fn what_cannot_run_yet_is_named_with_its_field() {
        use serde_json::json;
        assert!(problems(json!({})).is_empty());
        for ignored in [json!({"suspend": true}), json!({"replicas": 0}), json!({"logLevel": "debug"})] {
            assert_eq!(problems(ignored.clone()).len(), 1, "{ignored}");
        }
        assert_eq!(problems(json!({"storage": {"outputs": "file:///data"}})).len(), 1);
    }
}
