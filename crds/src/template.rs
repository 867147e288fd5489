//! Templates: a job that names a built-in one, laid over it.

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
    let mut problems = Vec::new();
    let mut parameters = template.parameters.clone();
    for (name, value) in &spec.parameters {
        if parameters.insert(name.clone(), value.clone()).is_none() {
            let names = || template.parameters.keys().map(String::as_str);
            let cure = did_you_mean(name, names()).map_or_else(
                || format!("leave it out; the template has {}", names().collect::<Vec<_>>().join(", ")),
                |meant| format!("did you mean {meant}?"),
            );
            let message = format!("{name} is not a parameter of the template");
            problems.push(Problem::error(path.field("parameters").field(name), message, cure));
        }
    }
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
