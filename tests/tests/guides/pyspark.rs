//! The table of options of the guide for those who come from PySpark: whatever it names on our side is there. A field is in the schema
//! of StreamingJob, a flag and a variable in the help of its command, a function in SQL.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, bail, ensure};
use data_platform_tests::cluster::repository;
use data_platform_tests::{Ended, JobFolders, Runner};
use serde_json::Value;

use crate::events::TIMEOUT;

/// What is none of these, and where it is tried.
const ELSEWHERE: [&str; 9] = [
    // SQL: every query of the examples.
    "UNION ALL",
    // The third argument of `tumble` and the fourth of `hop`: the tests of windows.
    "origin",
    // Columns of `sources[].columns`; their values are looked at below.
    "from: key",
    "from: recordTime",
    // Pages: the tests of pages.
    "/status",
    "/metrics",
    // Commands of a cluster: `cluster/guide.rs`.
    "kubectl get sj -o wide",
    "kubectl apply -f",
    // The same as `run`.
    "data-platform run -f",
];

/// Functions that the table names without arguments, or only in the column of Spark since they have the same name here; an example of
/// each.
const EXAMPLES: [(&str, &str); 13] = [
    ("collect_set", "collect_set(a)"),
    ("collect_list", "collect_list(a)"),
    ("approx_count_distinct", "approx_count_distinct(a)"),
    ("max_by", "max_by(a, b)"),
    ("count_if", "count_if(a > 1)"),
    ("json_get_str", "max(json_get_str('{\"a\":\"x\"}', 'a'))"),
    ("string_to_array", "max(string_to_array('a,b', ',')[1])"),
    ("regexp_match", "max(regexp_match('ab', 'a(b)')[1])"),
    ("to_timestamp", "max(to_timestamp('2026-02-16', '%Y-%m-%d'))"),
    ("to_local_time", "max(to_local_time(TIMESTAMP '2026-01-01T00:00:00Z'))"),
    ("tumble", ""),
    ("hop", ""),
    ("session", ""),
];

/// The schema of a streaming job's spec.
fn schema() -> anyhow::Result<Value> {
    let file = repository().join("manifests/install.yaml");
    let documents: Vec<Value> = serde_saphyr::from_multiple(&fs::read_to_string(&file)?)?;
    let crd = documents.into_iter().find(|document| document["spec"]["names"]["kind"] == "StreamingJob");
    let crd = crd.context("the definition of StreamingJob")?;
    Ok(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone())
}

/// The schema of a field: `a.b`, `a[].b`. Keys of a map have one.
fn field<'a>(schema: &'a Value, path: &str) -> Option<&'a Value> {
    let mut at = schema;
    for step in path.split('.') {
        let name = step.trim_end_matches("[]");
        at = match at["properties"].get(name) {
            Some(field) => field,
            None => at.get("additionalProperties").filter(|of_map| of_map.is_object())?,
        };
        if step.ends_with("[]") {
            at = at.get("items")?;
        }
    }
    Some(at)
}

/// Checks `path`, `path: value` and `path {field, field: value}`. Gives how many fields that are.
fn check_fields(schema: &Value, text: &str) -> anyhow::Result<usize> {
    let (path, inner): (&str, Vec<&str>) = match text.split_once(" {") {
        Some((path, inner)) => (path, inner.trim_end_matches('}').split(", ").collect()),
        None => (text, Vec::new()),
    };
    let with_value = |at: &Value, text: &str| -> anyhow::Result<()> {
        let (path, value) = text.split_once(": ").map_or((text, None), |(path, value)| (path, Some(value)));
        let found = field(at, path).with_context(|| format!("there is no field {path}"))?;
        if let (Some(value), Some(known)) = (value, found.get("enum").and_then(Value::as_array)) {
            ensure!(known.iter().any(|known| *known == value), "{path} is never {value}: {known:?}");
        }
        Ok(())
    };
    with_value(schema, path)?;
    let at = field(schema, path.split(": ").next().unwrap_or(path)).context("a field")?;
    inner.iter().try_for_each(|inner| with_value(at, inner))?;
    Ok(1 + inner.len())
}

/// The help of a command.
fn help(command: &str) -> anyhow::Result<String> {
    let (ended, runner) = Runner::command([command, "--help"]).run(TIMEOUT)?;
    ensure!(ended == Ended::Code(0), "{}", runner.last_lines());
    Ok(runner.stdout())
}

fn spans(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn whatever_the_table_of_options_names_is_there() -> anyhow::Result<()> {
    let guide = fs::read_to_string(repository().join("docs/guides/migrate-from-pyspark.md"))?;
    let part = guide.split("\n## Option by option\n").nth(1).and_then(|rest| rest.split("\n## ").next());
    let rows = part.context("the table")?.lines().filter(|line| line.starts_with("| ")).skip(1);
    let (schema, run) = (schema()?, help("run")?);
    let begins = schema["properties"].as_object().context("fields")?;
    let (mut fields, mut functions, mut others, mut number) = (0, BTreeSet::new(), BTreeMap::new(), 0);
    for row in rows {
        number += 1;
        // A bar within a span would end its cell.
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [_, ours, ..] = cells[..] else { bail!("a row of {} cells: {row}", cells.len()) };
        ensure!(!ours.is_empty() || row.contains("not there"), "what is it here? {row}");
        for span in spans(ours) {
            let first = span.split(['.', '[', ' ', ':']).next().unwrap_or_default();
            let function = span.split_once('(').and_then(|(before, _)| before.rsplit(' ').next());
            if ELSEWHERE.contains(&span) {
                others.insert(span, row);
            } else if begins.contains_key(first) {
                fields += check_fields(&schema, span).with_context(|| format!("`{span}` in {row}"))?;
            } else if let Some(flag) = span.split(' ').find(|word| word.starts_with("--")) {
                ensure!(help(first)?.contains(flag), "`{first}` has no {flag}: {row}");
            } else if let Some(function) = function {
                functions.insert(function.to_owned());
            } else if first.len() > 3 && first.chars().all(|c| c.is_ascii_uppercase() || "_/<>".contains(c)) {
                ensure!(run.contains(first), "no {first} in the help of run: {row}");
            } else if let Some(variable) = span.split('/').next().filter(|word| word.contains("_DIR")) {
                ensure!(run.contains(variable), "no {variable} in the help of run: {row}");
            } else if EXAMPLES.iter().any(|(name, _)| *name == span) {
                functions.insert(span.to_owned());
            } else {
                bail!("nobody says what `{span}` is: {row}");
            }
        }
    }
    ensure!(number > 35 && fields > 35, "{number} rows, {fields} fields");
    let unused: Vec<_> = ELSEWHERE.iter().filter(|span| !others.contains_key(*span)).collect();
    ensure!(unused.is_empty(), "the table no longer names {unused:?}");
    for value in ["key", "headers", "topic", "partition", "offset", "recordTime"] {
        check_fields(&schema, &format!("sources[].columns[].from: {value}"))?;
    }
    check_fields(&schema, "sources[].eventTime.policy: SparkMax")?;

    let known: BTreeMap<_, _> = EXAMPLES.into_iter().collect();
    let unknown: Vec<_> = functions.iter().filter(|name| !known.contains_key(name.as_str())).collect();
    ensure!(unknown.is_empty(), "say in EXAMPLES how {unknown:?} are called");
    let calls: Vec<_> = known.values().copied().filter(|call| !call.is_empty()).collect();
    let folders = JobFolders::new()?;
    let table = "(VALUES (1, 2), (3, 4)) AS t(a, b)";
    let windows = [
        "tumble(at, INTERVAL '1 minute')",
        "hop(at, INTERVAL '1 minute', INTERVAL '2 minutes')",
        "session(at, INTERVAL '1 minute')",
    ];
    let of_windows = windows.map(|window| {
        format!(
            "SELECT window_start, count(*) FROM (SELECT TIMESTAMP '2026-01-01T00:00:00Z' AS at) AS t GROUP BY {window}"
        )
    });
    for sql in [format!("SELECT {} FROM {table}", calls.join(", "))].into_iter().chain(of_windows) {
        let (ended, runner) = Runner::command(["query", "--format", "json", &sql]).folders(&folders).run(TIMEOUT)?;
        ensure!(ended == Ended::Code(0) && !runner.stdout().is_empty(), "{sql}: {}", runner.last_lines());
    }
    Ok(())
}
