//! A checkpoint that was written in the first format of the job log, with open windows, goes on exactly.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::world::World;
use crate::source::{Identity, Topic};

/// A job with windows, bad records, and a base in its log.
const JOB: &str = "
apiVersion: dataplatform.io/v1alpha1
kind: StreamingJob
metadata: {name: clicks}
spec:
  kafka: {maxOffsetsPerTrigger: 20}
  sources:
    - name: clicks
      topics: [topic_clicks]
      columns:
        - {name: user, type: string, required: true}
        - {name: page, type: string}
        - {name: at, type: timestamp, required: true}
      eventTime: {column: at, watermarkDelay: 20s}
  trigger: {interval: 0s}
  query: |
    SELECT window_start, \"user\", count(*) AS clicks, collect_set(page) AS pages
    FROM clicks GROUP BY tumble(at, INTERVAL '1 minute'), \"user\"
  sink: {path: clicks_per_minute}
  badRecords: {maxPercent: 100}
";

/// 2026-01-01 00:00 UTC in seconds.
const NEW_YEAR: i64 = 1_767_225_600;
/// Records when the checkpoint was written, and when it goes on.
const RECORDS: (i64, i64) = (300, 460);
const TOPIC: &str = "topic_clicks";

/// When the `n`-th record happened, in seconds: two seconds later each time, up to 18 seconds out of order.
fn second(n: i64) -> i64 {
    NEW_YEAR + 2 * n - (n % 7) * 3
}

fn user(n: i64) -> String {
    format!("u{}", n % 5)
}

/// Every 29th value is not JSON, every 31st a tombstone.
fn value(n: i64) -> Option<String> {
    let at = chrono::DateTime::from_timestamp(second(n), 0).unwrap().to_rfc3339();
    match n {
        _ if n % 31 == 30 => None,
        _ if n % 29 == 28 => Some(format!("{{\"user\": {n}")),
        _ => Some(format!("{{\"user\": \"{}\", \"page\": \"/p{}\", \"at\": \"{at}\"}}", user(n), n % 3)),
    }
}

fn is_good(n: i64) -> bool {
    n % 31 != 30 && n % 29 != 28
}

fn world(records: i64) -> World {
    let mut world = World::new();
    world.records_per_base = 8;
    world.cluster.create(TOPIC, 2);
    let topic = Topic { id: "topic-1".to_owned(), partitions: 2 };
    let topics = BTreeMap::from([(TOPIC.to_owned(), topic)]);
    world.called = Some(Identity { cluster_id: "memory-cluster".to_owned(), topics });
    for n in 0..records {
        world.append(TOPIC, i32::try_from(n % 2).unwrap(), value(n).as_deref());
    }
    world.turn_clock(second(records));
    world
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/job_log_format_1")
}

/// What the whole stream gives: clicks and pages by minute and user.
fn expected() -> Vec<String> {
    let mut groups: BTreeMap<(i64, String), (u64, BTreeSet<String>)> = BTreeMap::new();
    for n in (0..RECORDS.1).filter(|n| is_good(*n)) {
        let group = groups.entry((second(n) / 60 * 60, user(n))).or_default();
        group.0 += 1;
        group.1.insert(format!("/p{}", n % 3));
    }
    let row = |((start, user), (clicks, pages)): (&(i64, String), &(u64, BTreeSet<String>))| {
        let start = chrono::DateTime::from_timestamp(*start, 0).unwrap().format("%Y-%m-%dT%H:%M:%SZ").to_string();
        json!({"window_start": start, "user": user, "clicks": clicks, "pages": pages}).to_string()
    };
    let mut rows: Vec<_> = groups.iter().map(row).collect();
    rows.sort();
    rows
}

/// Rows whose pages are in order: a set has none.
fn normal(rows: impl IntoIterator<Item = String>) -> Vec<String> {
    let row = |row: String| {
        let mut row: Value = serde_json::from_str(&row).unwrap();
        row["pages"].as_array_mut().unwrap().sort_by_key(ToString::to_string);
        row.to_string()
    };
    let mut rows: Vec<_> = rows.into_iter().map(row).collect();
    rows.sort();
    rows
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// The rows that were written before.
fn written_before() -> Vec<String> {
    std::fs::read_to_string(fixture().join("rows.ndjson")).unwrap().lines().map(str::to_owned).collect()
}

/// A world in which the job ran with the first format until there were fewer records.
fn world_with_fixture() -> World {
    let world = world(RECORDS.1);
    copy(&fixture().join("checkpoint"), &world.path("checkpoints/local/clicks"));
    world
}

#[track_caller]
fn goes_on_exactly(world: &World) {
    let status = world.drain(JOB).good();
    let rows = normal(written_before().into_iter().chain(world.rows("clicks_per_minute")));
    assert_eq!(rows, expected());
    let records = status.totals.sources["clicks"].read;
    assert_eq!(records, u64::try_from(RECORDS.1).unwrap(), "the totals go on too");
    assert_eq!(status.totals.outputs["clicks_per_minute"].rows, rows.len() as u64);
}

#[test]
fn windows_that_were_open_go_on_with_their_state() {
    goes_on_exactly(&world_with_fixture());
}

#[test]
fn windows_that_were_open_are_rebuilt_where_their_state_is_gone() {
    let world = world_with_fixture();
    std::fs::remove_dir_all(world.path("checkpoints/local/clicks/state")).unwrap();
    goes_on_exactly(&world);
}
