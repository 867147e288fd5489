//! Templates: a job that names a built-in one, laid over it.

use std::collections::BTreeMap;

use crate::batch_job::BatchJobSpec;
use crate::field_path::FieldPath;
use crate::problem::{Problem, did_you_mean};
use crate::sink::OutputSpec;
use crate::streaming_job::StreamingJobSpec;

/// The job that `spec` means when it names `template`, whose spec is given: sources and queries are the template's; sinks,
/// references, deduplicate, kafka and values of parameters are the job's where it has them; all else is the job's. Outputs of
/// the job have no queries: the rows of a template with one query go to each of them; of one with several outputs they are
/// sinks for the outputs of these names. The result names no template.
///
/// # Errors
///
/// Parameters that the template does not have, sinks and outputs that do not fit it.
pub fn over_template(spec: &StreamingJobSpec, template: &StreamingJobSpec) -> Result<StreamingJobSpec, Vec<Problem>> {
    let path = FieldPath::root().field("spec");
    let (parameters, mut problems) = parameters(&spec.parameters, &template.parameters);
    if spec.sink.is_some() && !template.outputs.is_empty() {
        let message = "the template has several outputs, and one sink cannot stand for all";
        let cure = "write the job without template: data-platform explain prints it";
        problems.push(Problem::error(path.field("sink"), message, cure));
    }
    let outputs = outputs(spec, template, &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    let job = spec.clone();
    // A query with its sink, or outputs.
    let is_single = outputs.is_empty();
    Ok(StreamingJobSpec {
        template: None,
        parameters,
        sources: template.sources.clone(),
        query: template.query.clone().filter(|_| is_single),
        sink: job.sink.or_else(|| template.sink.clone()).filter(|_| is_single),
        outputs,
        kafka: job.kafka.or_else(|| template.kafka.clone()),
        references: if job.references.is_empty() { template.references.clone() } else { job.references },
        deduplicate: job.deduplicate.or_else(|| template.deduplicate.clone()),
        ..job
    })
}

/// The outputs of a job over a template; none if the template's query and one sink are all.
fn outputs(job: &StreamingJobSpec, template: &StreamingJobSpec, problems: &mut Vec<Problem>) -> Vec<OutputSpec> {
    let path = FieldPath::root().field("spec");
    if !job.outputs.is_empty() && job.sink.is_some() {
        let message = "sink and outputs exclude each other";
        problems.push(Problem::error(path.field("sink"), message, "make it one of the outputs"));
    }
    if template.outputs.is_empty() {
        let with_query = |output: &OutputSpec| OutputSpec { query: template.query.clone(), ..output.clone() };
        return job.outputs.iter().map(with_query).collect();
    }
    for (i, output) in job.outputs.iter().enumerate() {
        let names = || template.outputs.iter().map(|known| known.name.as_str());
        if names().any(|name| name == output.name) {
            continue;
        }
        let message = format!("{} is not an output of the template", output.name);
        let cure = did_you_mean(&output.name, names()).map_or_else(
            || format!("its outputs are {}", names().collect::<Vec<_>>().join(", ")),
            |meant| format!("did you mean {meant}?"),
        );
        problems.push(Problem::error(path.field("outputs").index(i).field("name"), message, cure));
    }
    let with_sink = |known: &OutputSpec| {
        let sink = job.outputs.iter().find(|output| output.name == known.name).map(|output| output.sink.clone());
        OutputSpec { sink: sink.unwrap_or_else(|| known.sink.clone()), ..known.clone() }
    };
    template.outputs.iter().map(with_sink).collect()
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

    fn sink_of(name: &str, path: &str) -> OutputSpec {
        OutputSpec { name: name.to_owned(), query: None, sink: SinkSpec::parquet(path) }
    }

    #[test]
    fn the_rows_of_a_template_go_to_every_output_of_the_job() {
        let spec = StreamingJobSpec { outputs: vec![sink_of("a", "a"), sink_of("b", "b")], ..naming() };
        let job = over_template(&spec, &template()).unwrap();
        assert_eq!((&job.query, &job.sink), (&None, &None));
        let outputs: Vec<_> =
            job.outputs.iter().map(|output| (output.name.as_str(), output.query.as_deref())).collect();
        assert_eq!(outputs, [("a", Some("SELECT 1")), ("b", Some("SELECT 1"))]);
        let both = StreamingJobSpec { sink: Some(SinkSpec::parquet("c")), ..spec };
        assert!(over_template(&both, &template()).unwrap_err()[0].message.contains("exclude each other"));
    }

    #[test]
    fn outputs_of_a_template_get_the_sinks_of_the_job() {
        let two =
            "{outputs: [{name: a, query: SELECT 1, sink: {path: a}}, {name: b, query: SELECT 2, sink: {path: b}}]}";
        let template: StreamingJobSpec = serde_saphyr::from_str(two).unwrap();
        let spec = StreamingJobSpec { outputs: vec![sink_of("b", "mine")], ..naming() };
        let job = over_template(&spec, &template).unwrap();
        let paths: Vec<_> = job.outputs.iter().map(|output| output.sink.path.as_deref()).collect();
        assert_eq!(paths, [Some("a"), Some("mine")]);
        assert_eq!(job.outputs[1].query.as_deref(), Some("SELECT 2"));
        let spec = StreamingJobSpec { outputs: vec![sink_of("other", "mine")], ..naming() };
        let problems = over_template(&spec, &template).unwrap_err();
        assert!(
            problems[0].to_string().contains("other is not an output of the template: its outputs are a, b"),
            "{problems:?}"
        );
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
