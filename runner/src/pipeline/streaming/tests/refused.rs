//! Values that the query refuses: dead letters with the commit, and the job goes on.

use super::world::{ORDER_COLUMNS, Run, World, orders_job};
use crate::pipeline::error::Reason;
use crate::pipeline::no_output::NoOutput;

const TOPIC: &str = "topic_orders";
const NEW_YEAR: i64 = 1_767_225_600;

fn job(outputs: &[(&str, &str)], more: &str) -> String {
    orders_job(&ORDER_COLUMNS, outputs, more)
}

fn world() -> World {
    let world = World::new();
    world.cluster.create(TOPIC, 2);
    world
}

fn value(n: i64) -> String {
    serde_json::json!({"id": n, "shop": format!("s{}", n % 3), "at": (NEW_YEAR + n) * 1_000, "amount": n % 10, "other": [n]}).to_string()
}

fn append(world: &World, records: std::ops::Range<i64>) {
    world.turn_clock(NEW_YEAR + records.end);
    for n in records {
        world.append(TOPIC, i32::try_from(n % 2).unwrap(), Some(&value(n)));
    }
}

const HOURS: &str = "SELECT window_start, count(*) AS n, sum(100 / (amount - 3)) AS x FROM orders \
                     GROUP BY tumble(at, INTERVAL '1 hour')";
const ROWS: &str = "SELECT id, 100 / (amount - 7) AS x FROM orders";

/// Which records the letters of the first output's table hold, and for which output; each has the record's own bytes.
#[track_caller]
fn letters(world: &World, table: &str) -> Vec<(i64, String)> {
    let mut letters = Vec::new();
    for row in world.rows(table) {
        let row: serde_json::Value = serde_json::from_str(&row).unwrap();
        assert_eq!(row["reason"], "query", "{row}");
        let bytes = row["value"].as_str().unwrap();
        let bytes: Vec<u8> =
            (0..bytes.len()).step_by(2).map(|at| u8::from_str_radix(&bytes[at..at + 2], 16).unwrap()).collect();
        let text = String::from_utf8(bytes).unwrap();
        let record: serde_json::Value = serde_json::from_str(&text).unwrap();
        let n = record["id"].as_i64().unwrap();
        assert_eq!(text, value(n), "as it came");
        assert_eq!((row["partition"].as_i64(), row["offset"].as_i64()), (Some(n % 2), Some(n / 2)));
        letters.push((n, row["detail"].as_str().unwrap().to_owned()));
    }
    letters.sort();
    letters
}

fn numbers(letters: &[(i64, String)], output: &str) -> Vec<i64> {
    letters.iter().filter(|letter| letter.1.contains(output)).map(|letter| letter.0).collect()
}

fn ending_in(digit: i64, records: i64) -> Vec<i64> {
    (0..records).filter(|n| n % 10 == digit).collect()
}

#[test]
fn a_record_that_one_query_refuses_is_its_dead_letter_and_the_other_queries_take_it() {
    let (world, yaml) = (world(), job(&[("hours", HOURS), ("rows", ROWS)], ""));
    append(&world, 0..300);
    world.run(&yaml).good();
    append(&world, 300..600);
    let status = world.drain(&yaml).good();
    let letters = letters(&world, "hours_dead_letters");
    assert_eq!(numbers(&letters, "output hours: "), ending_in(3, 600));
    assert_eq!(numbers(&letters, "output rows: "), ending_in(7, 600));
    assert_eq!(letters.len(), 120);
    assert_eq!(world.rows("rows").len(), 540);
    let per_ten: i64 = (0..10).filter(|amount| *amount != 3).map(|amount| 100 / (amount - 3)).sum();
    assert_eq!(
        world.rows("hours"),
        [format!(r#"{{"window_start":"2026-01-01T00:00:00Z","n":540,"x":{}}}"#, per_ten * 60)]
    );
    let outputs = &status.totals.outputs;
    for output in ["hours", "rows"] {
        assert_eq!(outputs[output].dead_letter["query"], 60);
        assert_eq!(outputs[output].accepted, 540);
    }
    assert_eq!(status.totals.sources["orders"].dead_letters(), 0, "the source could read all");
}

#[test]
fn a_rebuild_refuses_the_same_records_and_writes_no_letter_again() {
    let (world, yaml) = (world(), job(&[("hours", HOURS)], ""));
    append(&world, 0..200);
    world.run_for(&yaml, 4).good();
    for round in 1..4 {
        std::fs::remove_dir_all(world.path("checkpoints/local/orders/state")).unwrap();
        append(&world, round * 200..(round + 1) * 200);
        world.run(&yaml).good();
    }
    std::fs::remove_dir_all(world.path("checkpoints/local/orders/state")).unwrap();
    world.drain(&yaml).good();
    assert_eq!(numbers(&letters(&world, "hours_dead_letters"), ""), ending_in(3, 800));
    assert!(world.rows("hours")[0].contains(r#""n":720"#));
}

#[test]
fn a_group_that_is_refused_above_the_window_is_a_dead_letter_as_json() {
    let query = "SELECT window_start, shop, 100 / (sum(amount) - 5) AS x FROM orders \
                 GROUP BY tumble(at, INTERVAL '1 minute'), shop";
    let world = world();
    world.turn_clock(NEW_YEAR + 60);
    for (shop, amount) in [("a", 2), ("a", 3), ("b", 6), ("c", 7)] {
        let record = serde_json::json!({"id": 1, "shop": shop, "at": NEW_YEAR * 1_000, "amount": amount});
        world.append(TOPIC, 0, Some(&record.to_string()));
    }
    let status = world.drain(&job(&[("minutes", query)], "")).good();
    assert_eq!(world.rows("minutes").len(), 2);
    let letters = world.rows("minutes_dead_letters");
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    let letter: serde_json::Value = serde_json::from_str(letter).unwrap();
    assert_eq!((letter["reason"].as_str(), letter["offset"].as_i64()), (Some("query"), Some(-1)));
    let hex: String = r#""shop":"a""#.bytes().map(|byte| format!("{byte:02x}")).collect();
    assert!(letter["value"].as_str().unwrap().contains(&hex), "{letter}");
    assert!(letter["detail"].as_str().unwrap().to_lowercase().contains("divide by zero"), "{letter}");
    assert_eq!(status.totals.outputs["minutes"].refused["query"], 1);
    assert_eq!(status.totals.outputs["minutes"].accepted, 4);
}

#[test]
fn records_are_only_counted_or_end_the_job_if_the_job_says_so() {
    let dropping = world();
    append(&dropping, 0..100);
    let status = dropping.drain(&job(&[("rows", ROWS)], "badRecords: {action: drop}")).good();
    assert_eq!(status.totals.outputs["rows"].dead_letter["query"], 10);
    assert_eq!((dropping.rows("rows").len(), dropping.rows("rows_dead_letters").len()), (90, 0));
    let failing = world();
    append(&failing, 0..100);
    let error = failing.run(&job(&[("rows", ROWS)], "badRecords: {action: fail}")).error();
    assert_eq!(error.reason, Reason::QueryFailed);
    assert!(error.message.contains("topic_orders partition 1 offset 3"), "{error}");
    assert!(error.cure.contains("deadLetter"), "{error:?}");
}

/// Once there was no way out of: the query fails, it cannot be changed while windows are open, and with the old one they
/// cannot be closed.
#[test]
fn a_job_that_stops_at_a_value_has_ways_out() {
    let failing = |query: &str| job(&[("hours", query)], "badRecords: {action: fail}");
    let ways: [fn(&World) -> Run; 3] = [
        |world| world.drain(&job(&[("hours", HOURS)], "")),
        |world| world.drain(&job(&[("hours", HOURS)], "badRecords: {action: drop}")),
        |world| {
            let taking = HOURS.replace("amount - 3", "nullif(amount - 3, 0)");
            world.drain(&job(&[("hours", &taking)], "badRecords: {action: fail}\n  onQueryChange: rebuild"))
        },
    ];
    for way in ways {
        let world = world();
        append(&world, 0..3);
        world.run(&failing(HOURS)).good();
        append(&world, 3..100);
        assert_eq!(world.run(&failing(HOURS)).error().reason, Reason::QueryFailed);
        way(&world).good();
        assert_eq!(world.rows("hours").len(), 1);
    }
}

#[test]
fn a_group_that_ends_the_job_is_told_with_its_window() {
    let world = world();
    append(&world, 0..3);
    let query = "SELECT window_start, 100 / (count(*) - 3) AS x FROM orders GROUP BY tumble(at, INTERVAL '1 hour')";
    let error = world.drain(&job(&[("hours", query)], "badRecords: {action: fail}")).error();
    assert_eq!(error.reason, Reason::QueryFailed);
    let group = "a group of the window 2026-01-01T00:00:00.000Z to 2026-01-01T01:00:00.000Z: ";
    assert!(error.message.contains(group) && error.cure.contains("or groups"), "{error:?}");
}

#[test]
fn a_job_whose_every_record_is_refused_says_so() {
    let world = world();
    append(&world, 0..10);
    let status = world.run(&job(&[("rows", "SELECT id / (id - id) AS x FROM orders")], "")).good();
    assert_eq!(status.no_output, Some(NoOutput::AllDeadLettered));
}
