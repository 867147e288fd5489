//! Several sources of one job: each with topics, columns and a clock of its own, one watermark over all.

use super::world::World;

const NEW_YEAR: i64 = 1_767_225_600;
const ORDERS: &str = "topic_orders";
const CLICKS: &str = "topic_clicks";

/// Orders and clicks by user and minute, and the orders as they come. Clicks are called otherwise than orders.
const JOB: &str = "
apiVersion: dataplatform.io/v1alpha1
kind: StreamingJob
metadata: {name: activity}
spec:
  kafka: {maxOffsetsPerTrigger: 25}
  sources:
    - name: orders
      topics: [topic_orders]
      columns:
        - {name: id, type: bigint, required: true}
        - {name: customer, type: string, required: true}
        - {name: at, type: timestamp, required: true}
      eventTime: {column: at, watermarkDelay: 60s, idleTimeout: 30s}
    - name: clicks
      topics: [topic_clicks]
      columns:
        - {name: \"user\", type: string, required: true}
        - {name: page, type: string}
        - {name: seen, type: timestamp, required: true}
      eventTime: {column: seen, watermarkDelay: 5s, idleTimeout: 30s}
  trigger: {interval: 0s}
  outputs:
    - name: activity
      query: |
        SELECT window_start, who, count(*) AS events FROM (
          SELECT at, customer AS who FROM orders UNION ALL SELECT seen AS at, \"user\" AS who FROM clicks
        ) AS both_tables GROUP BY tumble(at, INTERVAL '1 minute'), who
      sink: {path: activity}
    - name: orders_as_they_come
      query: SELECT id, customer FROM orders
      sink: {path: orders_as_they_come}
  badRecords: {maxPercent: 100}
";

fn time(second: i64) -> String {
    chrono::DateTime::from_timestamp(NEW_YEAR + second, 0).unwrap().format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn order(world: &World, id: i64, second: i64) {
    let value = format!(r#"{{"id": {id}, "customer": "c{}", "at": "{}"}}"#, id % 2, time(second));
    world.append(ORDERS, 0, Some(&value));
}

fn click(world: &World, second: i64) {
    let value = format!(r#"{{"user": "c0", "page": "/", "seen": "{}"}}"#, time(second));
    world.append(CLICKS, 0, Some(&value));
}

fn world() -> World {
    let world = World::new();
    world.cluster.create(ORDERS, 1);
    world.cluster.create(CLICKS, 1);
    world
}

fn row(start: i64, who: &str, events: u64) -> String {
    format!(r#"{{"window_start":"{}","who":"{who}","events":{events}}}"#, time(start))
}

#[test]
fn every_record_is_decoded_by_its_own_source_and_counted_there() {
    let world = world();
    world.turn_clock(NEW_YEAR + 600);
    for n in 0..120 {
        order(&world, n, 5 * n);
        click(&world, 5 * n);
    }
    world.append(CLICKS, 0, Some(r#"{"id": 1, "customer": "c", "at": "2026-01-01T00:00:00Z"}"#));
    world.append(ORDERS, 0, None);
    world.run_for(JOB, 3).good();
    let status = world.drain(JOB).good();
    let totals = &status.totals;
    assert_eq!((totals.sources["orders"].read, totals.sources["orders"].tombstone), (121, 1));
    assert_eq!(
        (totals.sources["clicks"].read, totals.sources["clicks"].dead_letters()),
        (121, 1),
        "an order is no click"
    );
    assert_eq!(totals.outputs["activity"].accepted, 240);
    assert_eq!(totals.outputs["orders_as_they_come"].accepted, 120, "it does not read clicks");
    let mut expected: Vec<_> =
        (0..10).flat_map(|minute| [row(60 * minute, "c0", 6 + 12), row(60 * minute, "c1", 6)]).collect();
    expected.sort();
    assert_eq!(world.rows("activity"), expected);
    assert_eq!(world.rows("orders_as_they_come").len(), 120);
}

#[test]
fn the_watermark_is_the_least_over_the_sources_each_with_its_own_delay() {
    let world = world();
    world.turn_clock(NEW_YEAR + 200);
    click(&world, 10);
    click(&world, 200);
    order(&world, 1, 20);
    order(&world, 2, 150);
    let status = world.run_for(JOB, 1).good();
    // Clicks are at 195, orders at 90.
    assert_eq!(status.watermark, Some((NEW_YEAR + 90) * 1_000_000));
    assert_eq!(world.rows("activity"), [row(0, "c0", 1), row(0, "c1", 1)]);
    let holder: Vec<_> = status.partitions.iter().filter(|p| p.holds_watermark).map(|p| p.topic.as_str()).collect();
    assert_eq!(holder, [ORDERS]);
}

#[test]
fn a_source_that_is_quiet_as_a_whole_holds_the_others_only_until_it_is_idle() {
    let world = world();
    world.turn_clock(NEW_YEAR + 200);
    order(&world, 1, 20);
    world.run_for(JOB, 1).good();
    click(&world, 10);
    click(&world, 200);
    assert_eq!(world.run_for(JOB, 1).good().watermark, Some((NEW_YEAR - 40) * 1_000_000));
    world.turn_clock(NEW_YEAR + 231);
    click(&world, 231);
    let status = world.run_for(JOB, 1).good();
    assert_eq!(status.watermark, Some((NEW_YEAR + 226) * 1_000_000), "no order came for half a minute");
    assert_eq!(world.rows("activity"), [row(0, "c0", 1), row(0, "c1", 1)]);
}

#[test]
fn the_state_of_several_sources_is_rebuilt_from_all_of_them() {
    let world = world();
    world.turn_clock(NEW_YEAR + 600);
    for n in 0..60 {
        order(&world, n, 5 * n);
        click(&world, 5 * n);
    }
    world.run_for(JOB, 4).good();
    std::fs::remove_dir_all(world.path("checkpoints/local/activity/state")).unwrap();
    world.drain(JOB).good();
    let mut expected: Vec<_> =
        (0..5).flat_map(|minute| [row(60 * minute, "c0", 6 + 12), row(60 * minute, "c1", 6)]).collect();
    expected.sort();
    assert_eq!(world.rows("activity"), expected);
}
