//! From a resource to a job that can be built, or why not. Pure.

use std::collections::BTreeMap;

use data_platform_crds::parameters::expand_parameters;
use data_platform_crds::streaming_job::StreamingJob;

use crate::validated::{Refusal, judge};

/// A streaming job that can be built.
pub type ValidatedJob = crate::validated::ValidatedJob<StreamingJob>;

/// Number of pods of a job.
pub fn replicas(job: &StreamingJob) -> i32 {
    if job.spec.suspend { 0 } else { job.spec.replicas.unwrap_or(1).clamp(0, 1) }
}

/// Checks what neither the schema nor the rules of the CRD can express, and what the operator needs for itself. The API
/// server has checked the rest, and the runner checks all of it once more before it begins: doing so here, too, would
/// cost 20 ms of processor for each job.
///
/// # Errors
///
/// Every problem, as one message.
pub fn check(job: &StreamingJob) -> Result<(), Refusal> {
    let spec = &job.spec;
    // A template brings its own parameters: the runner, which has the templates, knows them.
    let problems = match expand_parameters(spec, &spec.parameters, &BTreeMap::new()) {
        _ if spec.template.is_some() => data_platform_crds::validate::validate(spec),
        Ok(expanded) => data_platform_crds::validate::validate(&expanded),
        Err(problems) => problems,
    };
    let for_a_cluster = data_platform_crds::validate::for_a_cluster(spec);
    judge(problems.into_iter().chain(for_a_cluster).collect())
}

#[cfg(test)]
mod tests {
    use data_platform_crds::condition::Reason;
    use serde_json::{Value, json};

    use super::*;
    use crate::args::RunnerSettings;
    use crate::fixtures::settings;
    use crate::streaming_job::tests::job;
    use crate::validated::validate;

    fn refused(pointer: &str, value: Value) -> Option<String> {
        let mut changed = serde_json::to_value(job()).unwrap();
        changed["spec"][pointer] = value;
        check(&serde_json::from_value(changed).unwrap()).err().map(|(_, message)| message)
    }

    #[test]
    fn what_the_operator_needs_for_itself_a_job_may_not_set() {
        assert_eq!(check(&job()), Ok(()));
        let env = |name: &str| json!({"env": [{"name": name, "value": "x"}]});
        let volume =
            |name: &str, path: &str| json!({"volumes": [{"name": name, "mountPath": path, "emptyDirSize": "1Gi"}]});
        for (pod, names) in [
            (env("HTTP_ADDRESS"), "the operator sets HTTP_ADDRESS"),
            (env("LD_PRELOAD"), "replace the runner's code"),
            (json!({"labels": {"dataplatform.io/job": "other"}}), "the label dataplatform.io/job"),
            (json!({"annotations": {"dataplatform.io/applied": "x"}}), "the annotation"),
            (volume("data-platform-x", "/x"), "begin with data-platform-"),
            (volume("x", "/data/outputs"), "hides what the runner needs"),
            (volume("x", "/mnt/../usr/local/bin"), "not a folder by its plain name"),
            (volume("x", "/etc"), "hides"),
        ] {
            let message = refused("pod", pod.clone()).unwrap_or_else(|| panic!("{pod} passed"));
            assert!(message.contains(names), "{message}");
        }
        assert_eq!(refused("pod", volume("x", "/lookup")), None);
        assert!(refused("trigger", json!({"interval": "9d"})).unwrap().contains("spec.trigger.interval"));
        let on_screen = refused("sink", json!({"format": "stdout"})).unwrap();
        assert!(on_screen.contains("spec.sink.format") && on_screen.contains("lost with it"), "{on_screen}");
    }

    #[test]
    fn storage_is_the_jobs_or_the_operators_or_missing() {
        let with = |storage: Value, claim: Option<&str>| {
            let mut changed = serde_json::to_value(job()).unwrap();
            changed["spec"]["storage"] = storage;
            let settings = RunnerSettings { claim: claim.map(str::to_owned), ..settings() };
            validate::<StreamingJob>(&serde_json::from_value(changed).unwrap(), &settings).map(|job| job.storage)
        };
        let (on_own, on_default) = (with(json!({"claimName": "own"}), None), with(json!(null), Some("data")));
        assert_eq!(on_own.unwrap().claim.as_deref(), Some("own"));
        assert_eq!(on_default.unwrap().outputs, "/data/outputs");
        let mixed = with(json!({"outputs": "s3://b/o"}), Some("data")).unwrap();
        assert_eq!((mixed.outputs.as_str(), mixed.checkpoints.as_str()), ("s3://b/o", "/data/checkpoints"));
        assert_eq!(with(json!({"outputs": "s3://b/o"}), None).unwrap_err().0, Reason::StorageMissing);
        let urls = with(json!({"outputs": "s3://b/o", "checkpoints": "s3://b/c"}), Some("data")).unwrap();
        assert_eq!(urls.claim, None);
    }
}
