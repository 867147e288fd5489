//! Deduplicate against a naive oracle, over any cuts, restarts and forgetting.

use datafusion::arrow::compute::filter_record_batch;
use proptest::prelude::*;

use super::*;
use crate::transform::deduplicate::{Deduplication, Deduplicator};

fn deduplication(within_seconds: i64) -> Deduplication {
    let keys = ["user_id".to_owned(), "quantity".to_owned()];
    Deduplication::plan(&keys, within_seconds * SECOND, &events().into()).unwrap()
}

/// A row: seconds, and a key or none.
type Row = (i64, Option<u8>);

fn rows(rows: &[Row]) -> RecordBatch {
    let schema = Arc::new(events_schema().project(deduplication(1).columns(0)).unwrap());
    let values = rows.iter().map(|(seconds, key)| {
        let user = key.map(|key| format!("user {}", key / 2));
        serde_json::json!({"timestamp": T0 + seconds * SECOND, "user_id": user, "quantity": key.map(|key| key % 2)})
    });
    json_batch(&schema, values)
}

fn kept(deduplicator: &mut Deduplicator, part: &[Row], version: u64) -> Vec<String> {
    let rows = rows(part);
    let first = deduplicator.firsts(0, &rows, version, i64::MIN).unwrap();
    json_rows(&[first.map_or(rows.clone(), |first| filter_record_batch(&rows, &first).unwrap())])
}

/// Each row against all that were kept before.
fn naive(all: &[Row], within: i64) -> Vec<String> {
    let mut first: Vec<Row> = vec![];
    for row in all {
        let same = |other: &Row| row.1.is_some() && other.1 == row.1 && (other.0 - row.0).abs() <= within;
        if !first.iter().any(same) {
            first.push(*row);
        }
    }
    json_rows(&[rows(&first)])
}

/// A copy that went through its state objects.
fn restarted(plan: &Deduplication, mut old: Deduplicator) -> Deduplicator {
    let mut new = plan.deduplicator();
    for bucket in old.buckets() {
        let state = old.snapshot(bucket.source, bucket.start).unwrap();
        assert_eq!(state.num_rows(), bucket.keys);
        new.restore(bucket.source, bucket.start, bucket.first_version, &[state]).unwrap();
    }
    assert_eq!(new.keys(), old.keys());
    new
}

#[test]
fn the_time_is_measured_against_the_first_one() {
    let mut deduplicator = deduplication(10).deduplicator();
    let all =
        [(0, Some(1)), (10, Some(1)), (11, Some(1)), (21, Some(1)), (1, Some(1)), (5, Some(2)), (5, None), (5, None)];
    let first = kept(&mut deduplicator, &all, 1);
    assert_eq!(first.len(), 5, "{first:?}");
    assert_eq!(first, naive(&all, 10));
    assert!(deduplicator.size_bytes() > 0);
    // At 25 s nothing but late rows can meet what lies before 15 s.
    deduplicator.forget(0, T0 + 25 * SECOND);
    assert_eq!(deduplicator.keys(), 1);
    deduplicator.forget(0, i64::MAX);
    assert_eq!((deduplicator.keys(), deduplicator.size_bytes()), (0, 0));
}

#[test]
fn keys_that_are_not_there_are_named() {
    let plan = |keys: &[&str], inputs: &QueryInputs| {
        let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        Deduplication::plan(&keys, SECOND, inputs).unwrap_err().to_string()
    };
    let error = plan(&["usr_id"], &events().into());
    assert!(
        error.contains("the key usr_id is no column of source app_events") && error.contains("user_id?"),
        "{error}"
    );
    assert!(plan(&["tags"], &events().into()).contains("array<string>"));
    let without = SourceTable { event_time: None, ..events() };
    assert!(plan(&["user_id"], &without.into()).contains("needs the event time of source app_events"));
}

#[test]
fn a_bucket_knows_its_first_batch_and_whether_it_changed() {
    let plan = deduplication(10);
    let mut deduplicator = plan.deduplicator();
    kept(&mut deduplicator, &[(1, Some(1))], 3);
    kept(&mut deduplicator, &[(2, Some(1)), (3, Some(2))], 4);
    let bucket = deduplicator.buckets()[0];
    assert_eq!((bucket.first_version, bucket.keys, bucket.changed_since_snapshot), (3, 2, true));
    deduplicator.snapshot(0, bucket.start).unwrap();
    kept(&mut deduplicator, &[(2, Some(1))], 5);
    assert!(!deduplicator.buckets()[0].changed_since_snapshot, "a duplicate changes nothing");
}

#[test]
fn a_row_that_no_query_takes_suppresses_none() {
    let mut deduplicator = deduplication(10).deduplicator();
    let mut firsts = |part: &[Row], late_before| {
        let first = deduplicator.firsts(0, &rows(part), 1, T0 + late_before * SECOND).unwrap();
        first.map_or(part.len(), |first| first.true_count())
    };
    assert_eq!(firsts(&[(9, Some(1)), (9, Some(1))], 10), 2, "both are late, and counted as that");
    assert_eq!(firsts(&[(12, Some(1)), (13, Some(1))], 10), 1, "the first one that counts is kept");
}

#[test]
fn what_was_kept_is_remembered_again() {
    let plan = deduplication(10);
    let all = [(0, Some(1)), (4, Some(2)), (11, Some(1)), (22, Some(1)), (23, None)];
    let (mut first, mut again) = (plan.deduplicator(), plan.deduplicator());
    assert_eq!(kept(&mut first, &all, 7).len(), all.len());
    again.remember(0, &rows(&all), 7, i64::MIN).unwrap();
    assert_eq!(again.buckets(), first.buckets());
    let more = [(1, Some(1)), (14, Some(2)), (15, Some(2)), (12, Some(1)), (33, Some(1))];
    assert_eq!(kept(&mut again, &more, 8), kept(&mut first, &more, 8));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn what_is_kept_depends_on_neither_cuts_nor_restarts(
        steps in proptest::collection::vec((0_i64..4, 0_i64..6, proptest::option::weighted(0.9, 0_u8..4)), 0..60),
        within in 1_i64..12,
        cuts in proptest::collection::vec((1_usize..12, any::<bool>()), 60),
    ) {
        // Times go forward; a row is behind by less than the delay of 6 seconds.
        let mut now = 0;
        let all: Vec<Row> = steps.iter().map(|(step, behind, key)| { now += step; (now - behind, *key) }).collect();
        let plan = deduplication(within);
        let mut deduplicator = plan.deduplicator();
        let (mut found, mut rest, mut greatest) = (vec![], &all[..], i64::MIN / 2);
        for (version, (cut, restart)) in cuts.iter().enumerate() {
            let (part, behind) = rest.split_at((*cut).min(rest.len()));
            rest = behind;
            found.extend(kept(&mut deduplicator, part, version as u64));
            greatest = part.iter().map(|row| row.0).max().unwrap_or(greatest).max(greatest);
            if greatest > i64::MIN / 2 {
                deduplicator.forget(0, T0 + (greatest - 6) * SECOND);
            }
            if *restart {
                deduplicator = restarted(&plan, deduplicator);
            }
        }
        found.extend(kept(&mut deduplicator, rest, 99));
        prop_assert_eq!(found, naive(&all, within));
    }
}
