//! Wrong manifests are refused with exactly the problems that they have, right ones pass.
//!
//! `CORPUS_OUT=dir` writes every manifest into a folder, its name ending in what a real API server says to it, so that
//! the two verdicts can be compared.

use std::fs;
use std::path::PathBuf;

use data_platform_crds::check::{Manifest, check};
use data_platform_crds::job::KINDS;
use data_platform_crds::problem::{Location, Problem};

mod corpus;

/// `valid.yaml` with one replacement.
fn edited(from: &str, to: &str) -> String {
    assert_eq!(corpus::VALID.matches(from).count(), 1, "{from:?} does not stand there exactly once");
    corpus::VALID.replacen(from, to, 1)
}

#[test]
fn every_wrong_manifest_has_exactly_its_problems() {
    let mut failures = Vec::new();
    for case in corpus::wrong() {
        let found = check(&case.text).err().unwrap_or_default();
        let is_as_expected = found.len() == case.problems.len()
            && found.iter().zip(&case.problems).all(|(found, expected)| {
                found.path.to_string() == expected.path
                    && found.message.contains(expected.message)
                    && found.cure.contains(expected.cure)
            });
        if !is_as_expected {
            let found: Vec<String> = found.iter().map(Problem::to_string).collect();
            failures.push(format!("{}: {found:#?}", case.name));
        }
    }
    assert!(failures.is_empty(), "{} have others:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn the_corpus_is_large_and_no_case_stands_twice() {
    let (wrong, right) = (corpus::wrong(), corpus::right());
    assert!(wrong.len() >= 200 && right.len() >= 25, "{} {}", wrong.len(), right.len());
    for kind in KINDS {
        let of_kind = wrong.iter().filter(|case| case.text.contains(&format!("kind: {kind}\n"))).count();
        assert!(of_kind >= 60, "{kind}: {of_kind}");
    }
    for (i, case) in wrong.iter().chain(&right).enumerate() {
        let is_new = |other: &&corpus::Case| other.name == case.name || other.text == case.text;
        assert_eq!(wrong.iter().chain(&right).take(i).filter(is_new).count(), 0, "{}", case.name);
    }
}

#[test]
fn every_right_manifest_passes_without_a_warning() {
    for case in corpus::right() {
        let checked = check(&case.text).unwrap_or_else(|problems| panic!("{}: {problems:#?}", case.name));
        assert_eq!((checked.jobs.len(), checked.warnings), (1, Vec::new()), "{}", case.name);
    }
}

#[test]
fn every_problem_has_place_and_cure() {
    for case in corpus::wrong() {
        for problem in check(&case.text).unwrap_err() {
            assert!(problem.location.is_some(), "{}: {problem}", case.name);
            assert!(!problem.cure.is_empty(), "{}: {problem}", case.name);
            assert!(!problem.message.ends_with('.') && !problem.cure.ends_with('.'), "{}: {problem}", case.name);
        }
    }
}

#[test]
fn a_problem_is_at_the_line_that_must_change() {
    for (from, to, line, column) in [
        // The name of an unknown field, the value of a known one.
        ("  trigger: {interval: 10s}", "  triger: {interval: 10s}", 37, 3),
        ("interval: 10s", "interval: soon", 37, 23),
        ("type: array<string>", "type: array<strng>", 28, 30),
        // What is missing is missed where its object stands.
        ("{name: at, type: timestamp}", "{name: at}", 26, 11),
        // A rule about several fields is at their object.
        ("      topics: [topic_visits, topic_more]\n", "", 21, 7),
    ] {
        let problems = check(&edited(from, to)).unwrap_err();
        assert_eq!(problems[0].location, Some(Location { line, column }), "{to:?}: {}", problems[0]);
    }
}

#[test]
fn problems_come_in_the_order_of_the_file() {
    for case in corpus::wrong() {
        let Ok(manifests) = Manifest::read(&case.text) else { continue };
        let lines: Vec<_> = manifests[0].check().unwrap_err().iter().map(|problem| problem.location).collect();
        assert!(lines.is_sorted(), "{}: {lines:?}", case.name);
    }
}

#[test]
fn problems_of_every_document_are_found() {
    let text = format!("---\n{}---\n---\n{}", corpus::VALID, edited("maxPercent: 5", "maxPercent: 500"));
    let problems = check(&text).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    let line = corpus::VALID.lines().position(|line| line.contains("maxPercent")).unwrap();
    assert_eq!(problems[0].location.unwrap().line, 3 + corpus::VALID.lines().count() + line + 1);
    assert_eq!(check(&format!("{}---\n{}", corpus::VALID, corpus::VALID)).unwrap().jobs.len(), 2);
    assert!(check("# nothing\n").unwrap_err()[0].message.contains("holds no document"));
}

#[test]
fn odd_but_possible_is_a_warning() {
    let without_tls = edited("    tls:\n      ca: {secretKeyRef: {name: kafka-ca, key: ca.crt}}\n", "");
    let table = "format: parquet\n    path: visits_out\n    partitionBy: [user_id]";
    let algorithm = "ssl.endpoint.identification.algorithm: none";
    for (text, path, message) in [
        (without_tls.replace("SCRAM-SHA-512", "PLAIN"), "spec.kafka.sasl.mechanism", "sends the password unencrypted"),
        (
            edited(table, "format: kafka\n    topic: topic_more"),
            "spec.sink.topic",
            "the job reads topic_more and writes to it",
        ),
        (
            edited("socket.timeout.ms: \"30000\"", algorithm),
            "spec.kafka.config[\"ssl.endpoint.identification.algorithm\"]",
            "is not checked",
        ),
    ] {
        let checked = check(&text).unwrap_or_else(|problems| panic!("{path}: {problems:#?}"));
        let [warning] = checked.warnings.as_slice() else { panic!("{path}: {:?}", checked.warnings) };
        assert!(!warning.is_error());
        assert_eq!(warning.path.to_string(), path);
        assert!(warning.message.contains(message), "{warning}");
    }
}

#[test]
fn the_corpus_can_be_written_for_a_real_api_server() {
    let Some(folder) = std::env::var_os("CORPUS_OUT").map(PathBuf::from) else { return };
    fs::create_dir_all(&folder).unwrap();
    for (number, case) in corpus::wrong().iter().chain(&corpus::right()).enumerate() {
        let name = case.name.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let verdict = if case.server_accepts { "Accepts" } else { "Refuses" };
        fs::write(folder.join(format!("{number:03}-{name}.{verdict}.yaml")), &case.text).unwrap();
    }
}
