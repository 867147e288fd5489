//! Templates: a job that names a built-in one, laid over it.

use std::collections::BTreeMap;

use crate::batch_job::BatchJobSpec;
use crate::field_path::FieldPath;
use crate::problem::{Problem, did_you_mean};
use crate::streaming_job::StreamingJobSpec;

/// The job that `spec` means when it names `template`, whose spec is given: sources, query and outputs are the
/// template's; sink, references, deduplicate, kafka and values of parameters are the job's where it has them; all else
/// is the job's. The result names no template.
///
/// # Errors
///
/// Parameters that the template does not have, and a sink over a template with several outputs.
pub fn over_template(spec: &StreamingJobSpec, template: &StreamingJobSpec) -> Result<StreamingJobSpec, Vec<Problem>> {
    let path = FieldPath::root().field("spec");
    let (parameters, mut problems) = parameters(&spec.parameters, &template.parameters);
    if spec.sink.is_some() && !template.outputs.is_empty() {
        let message = "the template has several outputs, and one sink cannot stand for all";
        let cure = "write the job without template: data-platform explain prints it";
        problems.push(Problem::error(path.field("sink"), message, cure));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let job = spec.clone();
    Ok(StreamingJobSpec {
        template: None,
        parameters,
        sources: template.sources.clone(),
        query: template.query.clone(),
        outputs: template.outputs.clone(),
        sink: job.sink.or_else(|| template.sink.clone()),
        kafka: job.kafka.or_else(|| template.kafka.clone()),
        references: if job.references.is_empty() { template.references.clone() } else { job.references },
        deduplicate: job.deduplicate.or_else(|| template.deduplicate.clone()),
        ..job
    })
}

/// As [`over_template`], for a batch job: inputs, query, interval and what is replaced are the template's; the sink, the
/// days to look back and values of parameters are the job's where it has them; all else, the schedule too, is the job's.
///
/// # Errors
///
/// Parameters that the template does not have.
pub fn over_batch_template(spec: &BatchJobSpec, template: &BatchJobSpec) -> Result<BatchJobSpec, Vec<Problem>> {
    let (parameters, problems) = parameters(&spec.parameters, &template.parameters);
    if !problems.is_empty() {
        return Err(problems);
    }
    let job = spec.clone();
    Ok(BatchJobSpec {
        template: None,
        parameters,
        inputs: template.inputs.clone(),
        query: template.query.clone(),
        interval: template.interval,
        replace: template.replace,
        lookback_days: job.lookback_days.or(template.lookback_days),
        sink: job.sink.or_else(|| template.sink.clone()),
        ..job
    })
}

/// The template's parameters with the job's values.
fn parameters(
    job: &BTreeMap<String, String>,
    template: &BTreeMap<String, String>,
) -> (BTreeMap<String, String>, Vec<Problem>) {
    let mut values = template.clone();
    let mut problems = Vec::new();
    for (name, value) in job {
        if values.insert(name.clone(), value.clone()).is_none() {
            let names = || template.keys().map(String::as_str);
            let cure = match did_you_mean(name, names()) {
                Some(meant) => format!("did you mean {meant}?"),
                None if template.is_empty() => "leave it out; the template has none".to_owned(),
                None => format!("leave it out; the template has {}", names().collect::<Vec<_>>().join(", ")),
            };
            let message = format!("{name} is not a parameter of the template");
            let path = FieldPath::root().field("spec").field("parameters").field(name);
            problems.push(Problem::error(path, message, cure));
        }
    }
    (values, problems)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::KafkaSpec;
    use crate::quantity::Period;
    use crate::sink::SinkSpec;
    use crate::streaming_job::{StreamingTemplate, TriggerSpec};

    fn template() -> StreamingJobSpec {
        let yaml = "{parameters: {window: 1 minute}, query: SELECT 1, sink: {path: built_in}, kafka: {},
            sources: [{name: s, topics: [t], columns: [{name: c, type: string}]}]}";
        serde_saphyr::from_str(yaml).unwrap()
    }

    fn naming() -> StreamingJobSpec {
        StreamingJobSpec { template: Some(StreamingTemplate::EventAggregation), ..StreamingJobSpec::default() }
    }

    #[test]
    fn a_job_that_only_names_its_template_is_the_template() {
        assert_eq!(over_template(&naming(), &template()).unwrap(), template());
    }

    #[test]
    fn what_the_job_says_wins() {
        let kafka = KafkaSpec { bootstrap_servers: Some("kafka:9092".to_owned()), ..KafkaSpec::default() };
        let trigger = TriggerSpec { interval: Period::from_secs(60) };
        let spec = StreamingJobSpec {
            kafka: Some(kafka.clone()),
            trigger: trigger.clone(),
            sink: Some(SinkSpec::parquet("mine")),
            parameters: [("window".to_owned(), "5 seconds".to_owned())].into(),
            ..naming()
        };
        let expected = StreamingJobSpec {
            kafka: Some(kafka),
            trigger,
            sink: Some(SinkSpec::parquet("mine")),
            parameters: spec.parameters.clone(),
            ..template()
        };
        assert_eq!(over_template(&spec, &template()).unwrap(), expected);
    }

    #[test]
    fn a_batch_job_keeps_its_schedule_and_takes_the_rest() {
        let template: BatchJobSpec = serde_saphyr::from_str(
            "{schedule: 5 * * * *, interval: hour, inputs: [{name: i, path: i, timeColumn: t}], query: SELECT 1,
            sink: {path: built_in}}",
        )
        .unwrap();
        let spec: BatchJobSpec = serde_saphyr::from_str("{template: hourly-aggregates, catchUp: 3}").unwrap();
        let expected = BatchJobSpec { schedule: None, catch_up: 3, ..template.clone() };
        assert_eq!(over_batch_template(&spec, &template).unwrap(), expected);
        let wrong = BatchJobSpec { parameters: [("x".to_owned(), String::new())].into(), ..spec };
        let problems = over_batch_template(&wrong, &template).unwrap_err();
        assert!(problems[0].to_string().ends_with("leave it out; the template has none"), "{problems:?}");
    }

    #[test]
    fn what_the_template_does_not_have_is_refused() {
        let two_outputs = "{outputs: [{name: a, query: SELECT 1, sink: {path: a}}], parameters: {window: 1 minute}}";
        let template: StreamingJobSpec = serde_saphyr::from_str(two_outputs).unwrap();
        let spec = StreamingJobSpec {
            sink: Some(SinkSpec::parquet("mine")),
            parameters: ["windw", "users"].map(|name| (name.to_owned(), String::new())).into(),
            ..naming()
        };
        let problems = over_template(&spec, &template).unwrap_err();
        let problems: Vec<String> = problems.iter().map(Problem::to_string).collect();
        assert_eq!(
            problems,
            [
                "spec.parameters.users: users is not a parameter of the template: leave it out; the template has window",
                "spec.parameters.windw: windw is not a parameter of the template: did you mean window?",
                "spec.sink: the template has several outputs, and one sink cannot stand for all: \
             write the job without template: data-platform explain prints it",
            ]
        );
    }
}
