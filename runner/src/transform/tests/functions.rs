//! docs/sql.md is made from the registry, and its examples are true in a stream and over tables.

use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};

use super::super::InputTables;
use super::tables::answer_of;
use super::*;
use crate::engine::{self, BatchClock as Clock};

/// The first value of the first column, as people write it.
fn first(batches: &[RecordBatch]) -> String {
    let batch = batches.iter().find(|batch| batch.num_rows() > 0).expect("there is a row");
    let options = FormatOptions::default().with_null("NULL").with_timestamp_tz_format(Some("%Y-%m-%dT%H:%M:%SZ"));
    ArrayFormatter::try_new(batch.column(0).as_ref(), &options).unwrap().value(0).to_string()
}

fn in_stream(sql: &str) -> String {
    let query = planned(sql);
    let mut operator = query.operator();
    let lines = r#"{"timestamp": 0, "quantity": 3, "user_id": "c"} {"timestamp": 1, "quantity": 1, "user_id": "a"}
                   {"timestamp": 2, "quantity": 3, "user_id": "b"}"#;
    let ingested = operator.ingest(0, &batch(&query, lines), None, 1).unwrap();
    if query.window().is_some() { first(&close_all(&mut operator)) } else { first(&ingested.rows) }
}

#[test]
fn the_examples_of_the_page_are_true_everywhere() {
    let pages = engine::described();
    for described in pages.scalar {
        let example = described.example;
        assert_eq!(in_stream(&format!("SELECT {example} AS v FROM app_events")), described.result, "{example}");
        let found = answer_of(InputTables::new(), &format!("SELECT {example} AS v"));
        assert_eq!(first(&found.unwrap_or_else(|error| panic!("{example}: {error}"))), described.result, "{example}");
    }
    let values = "(VALUES (3, 'c'), (1, 'a'), (3, 'b')) v(x, t)";
    for described in &pages.aggregate {
        let example = described.example;
        let sql = format!(
            "SELECT {example} AS v FROM (SELECT timestamp, quantity AS x, user_id AS t FROM app_events) \
             GROUP BY tumble(timestamp, INTERVAL '1 minute')"
        );
        assert_eq!(in_stream(&sql), described.result, "{example}");
    }
    for described in pages.aggregate.iter().chain(&pages.over_tables) {
        let example = described.example;
        let found = answer_of(InputTables::new(), &format!("SELECT {example} AS v FROM {values}"));
        assert_eq!(first(&found.unwrap_or_else(|error| panic!("{example}: {error}"))), described.result, "{example}");
    }
}

const BEGIN: &str = "<!-- Made from the registry of functions: the lines below are written by a test. -->";

/// The part of the page that the registry gives.
fn page() -> String {
    let mut page = format!("{BEGIN}\n");
    let pages = engine::described();
    let mut table = |title: &str, described: &[engine::Described]| {
        page += &format!("\n### {title}\n\n| function | gives | example |\n|---|---|---|\n");
        for d in described {
            let cell = |text: &str| text.replace('|', "\\|");
            page += &format!(
                "| `{}` | {} | `{}` is `{}` |\n",
                cell(d.form),
                cell(d.gives),
                cell(d.example),
                cell(d.result)
            );
        }
    };
    table("Beside the engine's", &pages.scalar);
    table("Aggregates beside the engine's (x is 3, 1, 3; t is c, a, b)", &pages.aggregate);
    table("Over tables", &pages.over_tables);
    let functions = engine::registry(&Clock::default(), true);
    let mut list = |title: &str, mut names: Vec<String>| {
        names.sort_unstable();
        names.dedup();
        page += &format!("\n### {title}\n\n");
        let mut line = String::new();
        for name in names.iter().map(|name| format!("`{name}`")) {
            if line.len() + name.len() > 118 {
                page += &format!("{}\n", line.trim_end());
                line.clear();
            }
            line += &format!("{name} ");
        }
        page += &format!("{}\n", line.trim_end());
    };
    list(
        "All functions of values",
        functions.scalar.iter().map(|function| function.name().to_owned()).filter(|name| !name.contains(' ')).collect(),
    );
    list(
        "Functions over arrays that take a function (`x -> x + 1`)",
        functions.higher_order.iter().map(|function| function.name().to_owned()).collect(),
    );
    list("All aggregates", functions.aggregate.iter().map(|function| function.name().to_owned()).collect());
    list("All window functions", functions.window.iter().map(|function| function.name().to_owned()).collect());
    page += "\n### What stays out\n\n| function | why |\n|---|---|\n";
    for (name, why) in engine::REMOVED {
        page += &format!("| `{name}` | {why} |\n");
    }
    page
}

#[test]
fn the_page_of_functions_is_the_registry() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/sql.md");
    let written = std::fs::read_to_string(path).unwrap();
    let (by_hand, by_registry) = written.split_once(BEGIN).unwrap();
    if std::env::var_os("DATA_PLATFORM_WRITE_DOCS").is_some() {
        std::fs::write(path, format!("{by_hand}{}", page())).unwrap();
        return;
    }
    let made = page();
    assert!(
        format!("{BEGIN}{by_registry}") == made,
        "docs/sql.md is not what the registry says: DATA_PLATFORM_WRITE_DOCS=1 cargo test --release --workspace --lib -- \
         page_of_functions writes it"
    );
}
