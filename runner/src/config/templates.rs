//! The built-in jobs: manifests like any user's, with the names that everybody already uses.

use data_platform_crds::batch_job::BatchJobSpec;
use data_platform_crds::check::Manifest;
use data_platform_crds::field_path::FieldPath;
use data_platform_crds::job::Job;
use data_platform_crds::problem::{Problem, did_you_mean};
use data_platform_crds::streaming_job::StreamingJobSpec;
use data_platform_crds::template::{over_batch_template, over_template};
use serde::Serialize;

const EVENT_AGGREGATION: &str = include_str!("../../templates/event-aggregation.yaml");
const CLICKSTREAM_ANALYSIS: &str = include_str!("../../templates/clickstream-analysis.yaml");
const DATA_ENRICHMENT: &str = include_str!("../../templates/data-enrichment.yaml");
const CDC_TRANSFORMATION: &str = include_str!("../../templates/cdc-transformation.yaml");
const HOURLY_AGGREGATES: &str = include_str!("../../templates/hourly-aggregates.yaml");
const DAILY_SUMMARIES: &str = include_str!("../../templates/daily-summaries.yaml");
const USER_SEGMENTATION: &str = include_str!("../../templates/user-segmentation.yaml");

/// Every built-in job: its name, what it does, and its manifest.
pub const TEMPLATES: [(&str, &str, &str); 7] = [
    ("event-aggregation", "one-minute counts per user, event type and application", EVENT_AGGREGATION),
    ("clickstream-analysis", "one row per visit", CLICKSTREAM_ANALYSIS),
    ("data-enrichment", "every event in one shape, joined with user master data", DATA_ENRICHMENT),
    ("cdc-transformation", "standardised changes, and their counts per table and minute", CDC_TRANSFORMATION),
    ("hourly-aggregates", "hourly counts from the one-minute ones", HOURLY_AGGREGATES),
    ("daily-summaries", "daily totals, sessions and bounce rate", DAILY_SUMMARIES),
    ("user-segmentation", "segments of users over the last days", USER_SEGMENTATION),
];

/// The manifest of a built-in job.
///
/// # Errors
/// A sentence, when there is no such job.
pub fn find(name: &str) -> Result<&'static str, String> {
    if let Some((.., manifest)) = TEMPLATES.iter().find(|(known, ..)| *known == name) {
        return Ok(manifest);
    }
    let meant = did_you_mean(name, TEMPLATES.iter().map(|(known, ..)| *known));
    let hint = meant.map(|meant| format!(" did you mean {meant}?")).unwrap_or_default();
    Err(format!(
        "there is no built-in job {name:?};{hint} the built-in jobs are {}; for a file use -f FILE",
        TEMPLATES.map(|(known, ..)| known).join(", ")
    ))
}

/// A job that names a template, laid over it. One that names none stays as it is.
///
/// # Errors
/// Problems, when this version does not have the template, or the job does not fit it.
pub fn expand(spec: &StreamingJobSpec) -> Result<StreamingJobSpec, Vec<Problem>> {
    let Some(template) = &spec.template else { return Ok(spec.clone()) };
    match built_in(template)? {
        Job::Streaming(job) => over_template(spec, &job.spec),
        Job::Batch(_) => Ok(spec.clone()),
    }
}

/// As [`expand`], for a batch job.
///
/// # Errors
/// As of [`expand`].
pub fn expand_batch(spec: &BatchJobSpec) -> Result<BatchJobSpec, Vec<Problem>> {
    let Some(template) = &spec.template else { return Ok(spec.clone()) };
    match built_in(template)? {
        Job::Batch(job) => over_batch_template(spec, &job.spec),
        Job::Streaming(_) => Ok(spec.clone()),
    }
}

fn built_in(template: &impl Serialize) -> Result<Job, Vec<Problem>> {
    let place = FieldPath::root().field("spec").field("template");
    let name =
        serde_json::to_value(template).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default();
    let text = find(&name).map_err(|message| vec![Problem::error(place, message, "write the job without template")])?;
    Ok(Manifest::read(text)?.remove(0).check()?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_a_valid_job_of_its_name() {
        for (name, ..) in TEMPLATES {
            let (job, warnings) = Manifest::read(find(name).unwrap()).unwrap().remove(0).check().unwrap();
            assert_eq!(job.name(), name);
            assert!(warnings.is_empty(), "{warnings:?}");
        }
    }

    #[test]
    fn a_wrong_name_gets_a_hint() {
        assert!(find("event-agregation").unwrap_err().contains("did you mean event-aggregation?"));
    }

    #[test]
    fn what_the_user_writes_wins_over_the_template() {
        let text = "apiVersion: dataplatform.io/v1alpha1\nkind: StreamingJob\nmetadata: {name: mine}\nspec:\n  \
                    template: event-aggregation\n  trigger: {interval: 1s}\n  kafka: {bootstrapServers: 'k:1'}\n  \
                    parameters: {window: 5 seconds}\n";
        let manifest = Manifest::read(text).unwrap().remove(0);
        let Job::Streaming(job) = manifest.check().unwrap().0 else { panic!("a streaming job") };
        let spec = expand(&job.spec).unwrap();
        assert_eq!(spec.template, None);
        assert_eq!(spec.trigger.interval.to_string(), "1s");
        assert_eq!(spec.parameters["window"], "5 seconds");
        assert_eq!(spec.kafka.as_ref().unwrap().max_offsets_per_trigger, 10_000);
        assert_eq!(spec.kafka.unwrap().bootstrap_servers.as_deref(), Some("k:1"));
        assert_eq!(spec.sources.len(), 1);
    }
}
