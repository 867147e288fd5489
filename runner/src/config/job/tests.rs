use std::path::PathBuf;

use super::*;

/// Another hash would keep every job with open windows from going on after an upgrade.
#[test]
fn the_state_fingerprint_never_changes() {
    let source =
        crate::config::JobSource { name: Some("event-aggregation".to_owned()), ..crate::config::JobSource::default() };
    let crate::config::Loaded::Streaming(loaded) = crate::config::load_one(&source).unwrap() else {
        panic!("it is a streaming job")
    };
    let planned = PlannedJob::new(*loaded, &Location::Folder(PathBuf::new())).unwrap();
    assert_eq!(
        (planned.state_fingerprint(planned.first()).as_str(), planned.state_fingerprint_1(planned.first()).as_str()),
        ("91607ed4903c79df", "ef30200f76390ce2")
    );
}

#[test]
fn a_parameter_of_the_command_line_leads_no_table_out_of_the_outputs_folder() {
    let folder = tempfile::tempdir().unwrap();
    let kinds = [
        ("StreamingJob", "sources: [{name: s, topics: [t], columns: [{name: a, type: int}]}]"),
        ("BatchJob", "interval: hour\n  inputs: [{name: s, path: in, timeColumn: ts, completeBy: clock}]"),
    ];
    for (kind, reads) in kinds {
        let file = folder.path().join(kind);
        let text = format!(
            "apiVersion: dataplatform.io/v1alpha1\nkind: {kind}\nmetadata: {{name: j}}\nspec:\n  parameters: {{to: x}}\n  \
             {reads}\n  query: SELECT a FROM s\n  sink: {{format: parquet, path: \"t/${{to}}\"}}\n"
        );
        std::fs::write(&file, text).unwrap();
        let load = |to: &str| {
            let parameters = [("to".to_owned(), to.to_owned())].into();
            let (files, default) = (vec![file.clone()], crate::config::JobSource::default());
            crate::config::load_one(&crate::config::JobSource { files, parameters, ..default })
        };
        load("y").unwrap();
        for to in ["../../y", "_y", "a//b"] {
            let problem = load(to).unwrap_err().to_string();
            assert!(problem.contains(&format!("spec.sink.path: \"t/{to}\" has")), "{problem}");
        }
    }
}

#[test]
fn a_source_that_no_query_reads_is_told_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("job.yaml");
    let source = |name: &str| format!("    - {{name: {name}, topics: [t], columns: [{{name: a, type: int}}]}}\n");
    let text = format!(
        "apiVersion: dataplatform.io/v1alpha1\nkind: StreamingJob\nmetadata: {{name: j}}\nspec:\n  sources:\n{}{}  query: \
         SELECT a FROM used\n  sink: {{format: parquet, path: t}}\n",
        source("used"),
        source("unused").replace("[t]", "[u]")
    );
    std::fs::write(&file, text).unwrap();
    let source = crate::config::JobSource { files: vec![file], ..crate::config::JobSource::default() };
    let crate::config::Loaded::Streaming(loaded) = crate::config::load_one(&source).unwrap() else {
        panic!("it is a streaming job")
    };
    let found = PlannedJob::new(*loaded, &Location::Folder(PathBuf::new())).unwrap().unread_sources();
    let found: Vec<_> = found.iter().map(|problem| problem.in_file("job.yaml")).collect();
    let expected = "job.yaml:7:7: warning: spec.sources[1]: no query reads the source unused: its records are read, \
                    counted and dropped: leave the source out, or name it in a query";
    assert_eq!(found, [expected]);
}

/// A name that is missing there would let a query keep the state of another aggregate.
#[test]
fn the_list_of_aggregates_has_every_aggregate_of_the_engine() {
    use data_platform_crds::state_relevant::sql::AGGREGATES;

    let functions = crate::engine::registry(&BatchClock::default(), true);
    let names = functions.aggregate.iter().flat_map(|function| {
        function.aliases().iter().cloned().chain([function.name().to_owned()]).collect::<Vec<_>>()
    });
    let missing: Vec<String> = names.filter(|name| !AGGREGATES.contains(&name.to_lowercase().as_str())).collect();
    assert!(missing.is_empty(), "add {missing:?} to AGGREGATES of crds/src/state_relevant/sql.rs");
}
