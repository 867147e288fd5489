//! Parameters: `${name}` in queries, paths and topics of a job, replaced by its values.

use std::collections::BTreeMap;

use crate::batch_job::BatchJobSpec;
use crate::field_path::FieldPath;
use crate::problem::{Problem, did_you_mean};
use crate::sink::{OutputSpec, SinkSpec};
use crate::streaming_job::StreamingJobSpec;

/// Replaces `${name}` in the query, the queries, paths and topics of the outputs, the topics of the sources, the paths
/// of the references and the place of the dead letters. `$${` becomes `${`; any other `$` stays. What a value holds is
/// taken as it is and not expanded again.
///
/// `declared` are the parameters that the job has, with their values; `overrides` are values from elsewhere, such as
/// `--param`, that win over them. The spec that comes back holds the values that were used.
///
/// # Errors
///
/// Every name that is not declared, in the spec or among the overrides, and every `${` without its `}`.
pub fn expand_parameters(
    spec: &StreamingJobSpec,
    declared: &BTreeMap<String, String>,
    overrides: &BTreeMap<String, String>,
) -> Result<StreamingJobSpec, Vec<Problem>> {
    expand(spec, declared, overrides, |expansion, spec| {
        expansion.spec(spec);
        spec.parameters = expansion.values.clone();
    })
}

/// As [`expand_parameters`], for the query of a batch job, the paths of its inputs and of its sink.
///
/// # Errors
///
/// As of [`expand_parameters`].
pub fn expand_batch_parameters(
    spec: &BatchJobSpec,
    declared: &BTreeMap<String, String>,
    overrides: &BTreeMap<String, String>,
) -> Result<BatchJobSpec, Vec<Problem>> {
    expand(spec, declared, overrides, |expansion, spec| {
        expansion.batch_spec(spec);
        spec.parameters = expansion.values.clone();
    })
}

fn expand<S: Clone>(
    spec: &S,
    declared: &BTreeMap<String, String>,
    overrides: &BTreeMap<String, String>,
    every_place: impl FnOnce(&mut Expansion<'_>, &mut S),
) -> Result<S, Vec<Problem>> {
    let mut values = declared.clone();
    let mut problems = Vec::new();
    for (name, value) in overrides {
        if declared.contains_key(name) {
            values.insert(name.clone(), value.clone());
        } else {
            problems.push(unknown(FieldPath::root().field("spec").field("parameters").field(name), name, declared));
        }
    }
    let mut expansion = Expansion { values: &values, problems };
    let mut expanded = spec.clone();
    every_place(&mut expansion, &mut expanded);
    let problems = expansion.problems;
    if problems.is_empty() { Ok(expanded) } else { Err(problems) }
}

fn unknown(path: FieldPath, name: &str, declared: &BTreeMap<String, String>) -> Problem {
    let names = || declared.keys().map(String::as_str);
    let cure = match did_you_mean(name, names()) {
        Some(meant) => format!("did you mean {meant}?"),
        None if declared.is_empty() => format!("declare {name} in spec.parameters; this job has none"),
        None => format!("declare {name} in spec.parameters; this job has {}", names().collect::<Vec<_>>().join(", ")),
    };
    Problem::error(path, format!("{name} is not a parameter of this job"), cure)
}

struct Expansion<'a> {
    values: &'a BTreeMap<String, String>,
    problems: Vec<Problem>,
}

impl Expansion<'_> {
    fn spec(&mut self, spec: &mut StreamingJobSpec) {
        let root = FieldPath::root().field("spec");
        self.optional(&root.field("query"), &mut spec.query);
        self.tables(&root, &mut spec.sink, &mut spec.outputs);
        for (i, source) in spec.sources.iter_mut().enumerate() {
            let path = root.field("sources").index(i);
            for (j, topic) in source.topics.iter_mut().enumerate() {
                self.text(&path.field("topics").index(j), topic);
            }
            self.optional(&path.field("topicPattern"), &mut source.topic_pattern);
        }
        for (i, reference) in spec.references.iter_mut().enumerate() {
            self.text(&root.field("references").index(i).field("path"), &mut reference.path);
        }
        let bad_records = root.field("badRecords");
        self.optional(&bad_records.field("topic"), &mut spec.bad_records.topic);
        self.optional(&bad_records.field("path"), &mut spec.bad_records.path);
    }

    fn batch_spec(&mut self, spec: &mut BatchJobSpec) {
        let root = FieldPath::root().field("spec");
        self.optional(&root.field("query"), &mut spec.query);
        for (i, input) in spec.inputs.iter_mut().enumerate() {
            self.text(&root.field("inputs").index(i).field("path"), &mut input.path);
        }
        self.tables(&root, &mut spec.sink, &mut spec.outputs);
    }

    /// `sink` and `outputs`.
    fn tables(&mut self, root: &FieldPath, sink: &mut Option<SinkSpec>, outputs: &mut [OutputSpec]) {
        if let Some(sink) = sink {
            self.sink(&root.field("sink"), sink);
        }
        for (i, output) in outputs.iter_mut().enumerate() {
            let path = root.field("outputs").index(i);
            self.optional(&path.field("query"), &mut output.query);
            self.sink(&path.field("sink"), &mut output.sink);
        }
    }

    fn sink(&mut self, path: &FieldPath, sink: &mut SinkSpec) {
        self.optional(&path.field("path"), &mut sink.path);
        self.optional(&path.field("topic"), &mut sink.topic);
    }

    fn optional(&mut self, path: &FieldPath, text: &mut Option<String>) {
        if let Some(text) = text {
            self.text(path, text);
        }
    }

    fn text(&mut self, path: &FieldPath, text: &mut String) {
        if text.contains("${") {
            *text = self.expanded(path, text);
        }
    }

    fn expanded(&mut self, path: &FieldPath, text: &str) -> String {
        let mut expanded = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(dollar) = rest.find('$') {
            let (before, found) = rest.split_at(dollar);
            expanded.push_str(before);
            if let Some(after) = found.strip_prefix("$${") {
                expanded.push_str("${");
                rest = after;
            } else if let Some(after) = found.strip_prefix("${") {
                let Some((name, after)) = after.split_once('}') else {
                    let cure = "write ${name}, or $${ for the characters themselves";
                    self.problems.push(Problem::error(path.clone(), "${ has no closing }", cure));
                    rest = "";
                    break;
                };
                match self.values.get(name) {
                    Some(value) => expanded.push_str(value),
                    None => self.problems.push(unknown(path.clone(), name, self.values)),
                }
                rest = after;
            } else {
                expanded.push('$');
                rest = &found[1..];
            }
        }
        expanded.push_str(rest);
        expanded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn query(text: &str) -> StreamingJobSpec {
        StreamingJobSpec { query: Some(text.to_owned()), ..StreamingJobSpec::default() }
    }

    #[test]
    fn names_are_replaced_and_escapes_kept() {
        let spec = query("SELECT '${gap}', '$${gap}', '$1', '$', ${gap}${users}");
        let declared = values(&[("gap", "30 minutes"), ("users", "${gap}")]);
        let expanded = expand_parameters(&spec, &declared, &values(&[("gap", "5 minutes")])).unwrap();
        assert_eq!(expanded.query.unwrap(), "SELECT '5 minutes', '${gap}', '$1', '$', 5 minutes${gap}");
        assert_eq!(expanded.parameters["gap"], "5 minutes");
    }

    #[test]
    fn every_place_is_expanded() {
        let yaml = "{sources: [{name: s, topics: ['t_${x}'], topicPattern: 'p_${x}', columns: []}],
            references: [{name: r, format: csv, path: '${x}.csv'}],
            outputs: [{name: o, query: 'SELECT ${x}', sink: {path: 'o_${x}', topic: 'q_${x}'}}],
            sink: {path: 's_${x}'}, badRecords: {topic: 'd_${x}', path: 'b_${x}'}}";
        let spec: StreamingJobSpec = serde_saphyr::from_str(yaml).unwrap();
        let expanded = expand_parameters(&spec, &values(&[("x", "1")]), &values(&[])).unwrap();
        let text = serde_json::to_string(&expanded).unwrap();
        assert!(!text.contains("${"), "{text}");
        for place in ["t_1", "p_1", "1.csv", "SELECT 1", "o_1", "q_1", "s_1", "d_1", "b_1"] {
            assert!(text.contains(place), "{place}: {text}");
        }
    }

    #[test]
    fn names_that_nobody_declared_are_all_named() {
        let spec = query("SELECT ${gpa}, ${other}, ${gap");
        let problems = expand_parameters(&spec, &values(&[("gap", "1")]), &values(&[("users", "x")])).unwrap_err();
        let problems: Vec<String> = problems.iter().map(Problem::to_string).collect();
        assert_eq!(
            problems,
            [
                "spec.parameters.users: users is not a parameter of this job: \
             declare users in spec.parameters; this job has gap",
                "spec.query: gpa is not a parameter of this job: did you mean gap?",
                "spec.query: other is not a parameter of this job: declare other in spec.parameters; this job has gap",
                "spec.query: ${ has no closing }: write ${name}, or $${ for the characters themselves",
            ]
        );
    }
}
