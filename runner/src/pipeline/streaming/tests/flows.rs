//! Several outputs of one job: one reading and one decode, a query, a table, counters and state for each, one commit.

use std::collections::BTreeMap;

use serde_json::Value;

use super::world::{ORDER_COLUMNS, World, orders_job, planned};
use crate::checkpoint::record::{Record, decode};
use crate::pipeline::error::Reason;

const TOPIC: &str = "topic_orders";
const NEW_YEAR: i64 = 1_767_225_600;

/// Windows of a minute by shop.
const BY_SHOP: &str = "SELECT window_start, shop, count(*) AS orders, sum(amount) AS amount \
                       FROM orders GROUP BY tumble(at, INTERVAL '1 minute'), shop";
/// Windows of an hour of large orders.
const LARGE: &str = "SELECT window_start, count(*) AS orders FROM orders WHERE amount >= 50 \
                     GROUP BY tumble(at, INTERVAL '1 hour')";
/// Rows as they come.
const ROWS: &str = "SELECT id, shop FROM orders WHERE amount < 10";

fn job(outputs: &[(&str, &str)]) -> String {
    let with_note = [&ORDER_COLUMNS[..], &["{name: note, type: string}"]].concat();
    orders_job(&with_note, outputs, "")
}

fn amount(n: i64) -> i64 {
    n * 37 % 100
}

fn shop(n: i64) -> String {
    format!("s{}", n % 3)
}

/// Three seconds later each time, so that no record is late.
fn second(n: i64) -> i64 {
    NEW_YEAR + 3 * n
}

/// Every 40th record is bad.
fn append(world: &World, records: std::ops::Range<i64>) {
    world.turn_clock(second(records.end));
    for n in records {
        let at = chrono::DateTime::from_timestamp(second(n), 0).unwrap().to_rfc3339();
        let good = serde_json::json!({"id": n, "shop": shop(n), "amount": amount(n), "at": at}).to_string();
        let value = if n % 40 == 39 { "{".to_owned() } else { good };
        world.append(TOPIC, i32::try_from(n % 2).unwrap(), Some(&value));
    }
}

fn good(records: i64) -> impl Iterator<Item = i64> {
    (0..records).filter(|n| n % 40 != 39)
}

fn time(second: i64) -> String {
    chrono::DateTime::from_timestamp(second, 0).unwrap().format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn sorted(mut rows: Vec<String>) -> Vec<String> {
    rows.sort();
    rows
}

fn by_shop(records: i64) -> Vec<String> {
    let mut groups: BTreeMap<(i64, String), (i64, i64)> = BTreeMap::new();
    for n in good(records) {
        let group = groups.entry((second(n) / 60 * 60, shop(n))).or_default();
        *group = (group.0 + 1, group.1 + amount(n));
    }
    let row = |((start, shop), (orders, amount)): (&(i64, String), &(i64, i64))| {
        format!(r#"{{"window_start":"{}","shop":"{shop}","orders":{orders},"amount":{amount}}}"#, time(*start))
    };
    sorted(groups.iter().map(row).collect())
}

fn large(records: std::ops::Range<i64>) -> Vec<String> {
    let mut hours: BTreeMap<i64, i64> = BTreeMap::new();
    for n in good(records.end).filter(|n| *n >= records.start && amount(*n) >= 50) {
        *hours.entry(second(n) / 3_600 * 3_600).or_default() += 1;
    }
    let row = |(start, orders): (&i64, &i64)| format!(r#"{{"window_start":"{}","orders":{orders}}}"#, time(*start));
    sorted(hours.iter().map(row).collect())
}

fn rows(records: i64) -> Vec<String> {
    let row = |n: i64| format!(r#"{{"id":{n},"shop":"{}"}}"#, shop(n));
    sorted(good(records).filter(|n| amount(*n) < 10).map(row).collect())
}

fn world() -> World {
    let world = World::new();
    world.cluster.create(TOPIC, 2);
    world
}

fn all() -> String {
    job(&[("by_shop", BY_SHOP), ("large", LARGE), ("rows", ROWS)])
}

#[track_caller]
fn has_all_rows(world: &World, records: i64) {
    assert_eq!(world.rows("by_shop"), by_shop(records));
    assert_eq!(world.rows("large"), large(0..records));
    assert_eq!(world.rows("rows"), rows(records));
    let bad = (0..records).filter(|n| n % 40 == 39).count();
    assert_eq!(world.rows("by_shop_dead_letters").len(), bad);
}

fn state_folder(world: &World) -> std::path::PathBuf {
    world.path("checkpoints/local/orders/state")
}

#[test]
fn every_output_is_exact_over_stops_and_restarts() {
    let world = world();
    append(&world, 0..1_000);
    world.run_for(&all(), 3).good();
    world.run_for(&all(), 5).good();
    append(&world, 1_000..2_000);
    let status = world.drain(&all()).good();
    has_all_rows(&world, 2_000);
    let totals = &status.totals;
    let accepted = |output: &str| totals.outputs[output].accepted;
    let number = |is: fn(&i64) -> bool| good(2_000).filter(is).count() as u64;
    assert_eq!(accepted("by_shop"), number(|_| true));
    assert_eq!(accepted("large"), number(|n| amount(*n) >= 50));
    assert_eq!(accepted("rows"), number(|n| amount(*n) < 10));
    assert_eq!(totals.outputs["large"].filtered, number(|n| amount(*n) < 50));
    assert_eq!(totals.sources["orders"].read, 2_000, "one reading for all");
    assert_eq!(status.outputs.keys().collect::<Vec<_>>(), ["by_shop", "large", "rows"]);
}

#[test]
fn the_state_of_every_output_is_rebuilt_where_it_is_gone() {
    let world = world();
    append(&world, 0..1_000);
    world.run_for(&all(), 20).good();
    std::fs::remove_dir_all(state_folder(&world)).unwrap();
    append(&world, 1_000..1_500);
    world.drain(&all()).good();
    has_all_rows(&world, 1_500);
}

#[test]
fn two_outputs_keep_their_state_apart() {
    let world = world();
    append(&world, 0..600);
    world.run(&all()).good();
    let mut outputs = Vec::new();
    for entry in std::fs::read_dir(world.path("checkpoints/local/orders/log")).unwrap() {
        let path = entry.unwrap().path();
        let version = path.file_stem().unwrap().to_string_lossy().parse().unwrap();
        if let Record::Commit(commit) = decode(version, &std::fs::read(&path).unwrap()).unwrap() {
            outputs.extend(commit.state.into_iter().flatten().map(|object| (object.output, object.path)));
        }
    }
    let paths: BTreeMap<_, _> = outputs.iter().map(|(output, path)| (path, output)).collect();
    assert!(paths.values().any(|output| *output == "large") && paths.values().any(|output| *output == "by_shop"));
    assert!(outputs.iter().all(|(output, path)| paths[path] == output), "no two outputs share an object: {outputs:?}");
}

#[test]
fn an_output_that_comes_later_begins_there_and_the_others_go_on() {
    let world = world();
    append(&world, 0..1_000);
    world.run(&job(&[("by_shop", BY_SHOP), ("large", LARGE)])).good();
    append(&world, 1_000..1_700);
    // Its windows are younger than those of the others: a rebuild repeats batches that it has not seen.
    std::fs::remove_dir_all(state_folder(&world)).unwrap();
    world.run(&all()).good();
    std::fs::remove_dir_all(state_folder(&world)).unwrap();
    let more = job(&[("by_shop", BY_SHOP), ("large", LARGE), ("rows", ROWS), ("again", LARGE)]);
    world.run(&more).good();
    append(&world, 1_700..2_000);
    world.run(&more).good();
    std::fs::remove_dir_all(state_folder(&world)).unwrap();
    world.drain(&more).good();
    assert_eq!(world.rows("by_shop"), by_shop(2_000));
    assert_eq!(world.rows("large"), large(0..2_000));
    assert_eq!(world.rows("again"), large(1_700..2_000), "what came before it was there is not repeated for it");
    let later: Vec<_> = rows(2_000).into_iter().filter(|row| id(row) >= 1_000).collect();
    assert_eq!(world.rows("rows"), later);
}

fn id(row: &str) -> i64 {
    serde_json::from_str::<Value>(row).unwrap()["id"].as_i64().unwrap()
}

#[test]
fn a_changed_query_stops_for_its_own_output_only() {
    let world = world();
    append(&world, 0..1_000);
    world.run(&all()).good();
    let hourly_by_shop = BY_SHOP.replace("1 minute", "1 hour");
    let error = world.run(&job(&[("by_shop", &hourly_by_shop), ("large", LARGE), ("rows", ROWS)])).error();
    assert_eq!(error.reason, Reason::QueryChanged);
    assert!(error.message.contains("the query of the output by_shop "), "{error}");
    let error = world.run(&job(&[("by_shop", BY_SHOP), ("rows", ROWS)])).error();
    assert!(error.message.contains("output large "), "its open windows would be lost: {error}");
    // One without windows changes at any time.
    append(&world, 1_000..1_100);
    world.run(&job(&[("by_shop", BY_SHOP), ("large", LARGE), ("rows", "SELECT id, shop FROM orders")])).good();
    let later = world.rows("rows").into_iter().filter(|row| id(row) >= 1_000).count();
    assert_eq!(later, good(1_100).filter(|n| *n >= 1_000).count());
}

#[test]
fn a_renamed_output_goes_on_with_its_windows() {
    let world = world();
    append(&world, 0..1_000);
    world.run(&job(&[("hourly", LARGE)])).good();
    append(&world, 1_000..1_500);
    world.drain(&job(&[("large", LARGE)])).good();
    let rows = sorted(world.rows("hourly").into_iter().chain(world.rows("large")).collect());
    assert_eq!(rows, large(0..1_500));
}

#[test]
fn what_no_output_needs_is_not_decoded_and_what_one_needs_is_decoded_once() {
    let planned = planned(&all());
    let built = planned.sources[0].decode.columns.iter().filter(|column| column.built);
    assert_eq!(built.map(|column| &*column.name).collect::<Vec<_>>(), ["id", "shop", "amount", "at"]);
}
