//! Changes that the state allows: what was committed before them stays as it was, in a rebuild too.

use super::world::{World, orders_job};
use crate::pipeline::error::Reason;

const TOPIC: &str = "topic_orders";
const NEW_YEAR: i64 = 1_767_225_600;
const COLUMNS: [&str; 4] = [
    "{name: id, type: bigint, required: true}",
    "{name: shop, type: string, required: true}",
    "{name: at, type: timestamp, required: true}",
    "{name: amount, type: bigint}",
];

fn job(columns: &[&str], query: &str) -> String {
    orders_job(columns, &[("by_hour", query)], "")
}

fn query(select: &str, condition: &str) -> String {
    format!("SELECT {select} FROM orders {condition} GROUP BY tumble(at, INTERVAL '1 hour')")
}

fn world() -> World {
    let world = World::new();
    world.cluster.create(TOPIC, 1);
    world
}

/// One record in a second, all of one hour.
fn append(world: &World, records: std::ops::Range<i64>) {
    world.turn_clock(NEW_YEAR + records.end);
    for n in records {
        let at = (NEW_YEAR + n) * 1_000;
        let value = serde_json::json!({"id": n, "shop": format!("shop {n}"), "at": at, "amount": n % 10}).to_string();
        world.append(TOPIC, 0, Some(&value));
    }
}

fn forget_state(world: &World) {
    std::fs::remove_dir_all(world.path("checkpoints/local/orders/state")).unwrap();
}

/// What comes of 200 records by one job and 200 by another, with everything rebuilt, with the state of the first, and with
/// all of the state.
#[track_caller]
fn changes(before: &str, after: &str, row: &str) {
    for forget in [[true, true], [true, false], [false, true], [false, false]] {
        let world = world();
        append(&world, 0..200);
        world.run(before).good();
        if forget[0] {
            forget_state(&world);
        }
        append(&world, 200..400);
        world.run(after).good();
        if forget[1] {
            forget_state(&world);
        }
        world.drain(after).good();
        assert_eq!(world.rows("by_hour"), [row], "{forget:?}");
    }
}

#[test]
fn a_rebuild_repeats_batches_with_the_where_that_they_were_committed_under() {
    let select = "count(*) AS n, min(id) AS first, max(id) AS last";
    let (before, after) = (query(select, "WHERE amount >= 5"), query(select, "WHERE amount < 2"));
    changes(&job(&COLUMNS, &before), &job(&COLUMNS, &after), r#"{"n":140,"first":5,"last":391}"#);
}

#[test]
fn a_column_that_only_the_where_used_may_go_with_it() {
    let select = "count(*) AS n, max(id) AS last";
    let (before, after) = (query(select, "WHERE amount = 0"), query(select, ""));
    changes(&job(&COLUMNS, &before), &job(&COLUMNS[..3], &after), r#"{"n":220,"last":399}"#);
}

#[test]
fn records_stay_what_they_were_when_the_limits_of_a_column_change() {
    let query = query("count(*) AS n, max(id) AS last", "");
    let mut shorter = COLUMNS;
    shorter[1] = "{name: shop, type: string, required: true, maxLength: 7}";
    // shop 0 to shop 99 fit.
    changes(&job(&shorter, &query), &job(&COLUMNS, &query), r#"{"n":300,"last":399}"#);
    changes(&job(&COLUMNS, &query), &job(&shorter, &query), r#"{"n":200,"last":199}"#);
}

#[test]
fn aggregates_and_tables_may_change_their_order_and_their_names() {
    let before = query("sum(id) AS ids, sum(amount) AS amounts, count(*) AS n", "");
    let after = "SELECT count(*) AS how_many, sum(o.amount) AS amounts, sum(o.id) AS ids FROM orders AS o \
                 GROUP BY tumble(o.at, INTERVAL '1 hour')";
    changes(&job(&COLUMNS, &before), &job(&COLUMNS, after), r#"{"how_many":400,"amounts":1800,"ids":79800}"#);
}

#[test]
fn three_queries_each_have_the_batches_of_their_time() {
    let world = world();
    for (round, limit) in [(0, 5), (1, 2), (2, 9)] {
        append(&world, round * 100..(round + 1) * 100);
        world.run(&job(&COLUMNS, &query("count(*) AS n", &format!("WHERE amount >= {limit}")))).good();
    }
    forget_state(&world);
    world.drain(&job(&COLUMNS, &query("count(*) AS n", "WHERE amount >= 9"))).good();
    assert_eq!(world.rows("by_hour"), [r#"{"n":140}"#]);
}

#[test]
fn windows_that_are_computed_anew_have_only_the_new_where() {
    let world = world();
    append(&world, 0..200);
    world.run(&job(&COLUMNS, &query("count(*) AS n", "WHERE amount >= 5"))).good();
    append(&world, 200..400);
    let anew = job(&COLUMNS, &query("count(*) AS n, max(id) AS last", "WHERE amount < 2"));
    assert_eq!(world.run(&anew).error().reason, Reason::QueryChanged);
    world.run(&anew.replace("spec:\n", "spec:\n  onQueryChange: rebuild\n")).good();
    forget_state(&world);
    world.drain(&anew).good();
    assert_eq!(world.rows("by_hour"), [r#"{"n":80,"last":391}"#]);
}

#[test]
fn what_changed_is_named() {
    let count = query("count(*) AS n", "");
    let with = |keys: &str, job: &str| {
        job.replace("spec:\n", &format!("spec:\n  deduplicate: {{keys: [{keys}], within: 1h}}\n"))
    };
    let world = world();
    append(&world, 0..200);
    world.run(&with("id", &job(&COLUMNS, &count))).good();
    let other_query = query("count(*) AS n, max(id) AS last", "");
    for (changed, expected) in [
        (with("shop", &job(&COLUMNS, &count)), "deduplicate changed since"),
        (with("id", &job(&COLUMNS, &other_query)), "the query changed since"),
        (with("shop", &job(&COLUMNS, &other_query)), "the query and deduplicate changed since"),
        (job(&COLUMNS, &count), "deduplicate changed since"),
    ] {
        let error = world.run(&changed).error();
        assert_eq!(error.reason, Reason::QueryChanged);
        assert!(error.message.starts_with(expected), "{expected}: {error}");
    }
}
