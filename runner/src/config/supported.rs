//! What this version of the runner does not do yet: said in one clear problem for each, never silently ignored.

use data_platform_crds::field_path::FieldPath;
use data_platform_crds::problem::Problem;
use data_platform_crds::sink::SinkFormat;
use data_platform_crds::source::{LateRowAction, SourceFormat};
use data_platform_crds::streaming_job::StreamingJobSpec;

fn spec() -> FieldPath {
    FieldPath::root().field("spec")
}

fn not_yet(path: FieldPath, what: &str, instead: &str) -> Problem {
    Problem::error(path, format!("{what} comes in a later version"), instead)
}

/// Problems of a job that is valid but cannot run yet.
pub fn check(job: &StreamingJobSpec) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut refuse = |path, what: &str, instead: &str| problems.push(not_yet(path, what, instead));
    if job.sources.len() > 1 {
        let instead = "write one source with several topics, or one job for each source";
        refuse(spec().field("sources").index(1), "more than one source", instead);
    }
    for (index, source) in job.sources.iter().enumerate() {
        let place = spec().field("sources").index(index).field("format");
        match source.format {
            SourceFormat::Json => {}
            SourceFormat::Cdc => {
                refuse(place, "format cdc", "declare the fields with format: json and paths such as source.table")
            }
            SourceFormat::Avro => refuse(place, "format avro", "use format: json"),
            SourceFormat::Raw => refuse(place, "format raw", "use format: json with a column that has from: value"),
        }
    }
    if !job.references.is_empty() {
        refuse(spec().field("references"), "joining with reference tables", "leave references out");
    }
    if job.deduplicate.is_some() {
        refuse(spec().field("deduplicate"), "deduplicate", "leave it out, or count(DISTINCT event_id) in the window");
    }
    if !job.outputs.is_empty() {
        refuse(
            spec().field("outputs"),
            "several outputs of one job",
            "write query and sink, and one job for each output",
        );
    }
    if let Some(sink) = &job.sink {
        let place = spec().field("sink").field("format");
        match sink.format {
            SinkFormat::Parquet => {}
            SinkFormat::Delta => refuse(place, "format delta", "use format: parquet"),
            SinkFormat::Csv => refuse(place, "format csv", "use format: parquet"),
            SinkFormat::Kafka => refuse(place, "format kafka", "use format: parquet with a path"),
        }
    }
    if job.late_rows.action != LateRowAction::Drop {
        let place = spec().field("lateRows").field("action");
        refuse(place, "keeping late rows", "use action: drop; late rows are counted");
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
        check(&serde_json::from_value(job).unwrap())
            .iter()
            .map(|problem| format!("{}: {}", problem.path, problem.message))
            .collect()
    }

    #[test]
    fn what_cannot_run_yet_is_named_with_its_field() {
        use serde_json::json;
        assert!(problems(json!({})).is_empty());
        let sink = problems(json!({"sink": {"format": "delta", "path": "p"}}));
        assert_eq!(sink, ["spec.sink.format: format delta comes in a later version"]);
        let source = json!({"name": "s", "topics": ["t"], "format": "avro", "columns": [{"name": "a", "type": "int"}]});
        assert_eq!(problems(json!({"sources": [source, source]})).len(), 3);
        let reference = json!([{"name": "r", "format": "csv", "path": "p"}]);
        assert_eq!(
            problems(json!({"references": reference})),
            ["spec.references: joining with reference tables comes in a later version"]
        );
        assert_eq!(problems(json!({"lateRows": {"action": "deadLetter"}})).len(), 1);
        assert_eq!(problems(json!({"deduplicate": {"keys": ["a"], "within": "1m"}})).len(), 1);
    }
}
