//! Sessions and hops through whole queries: rows, late records, state, and what is refused.

use super::super::{Error, Ingested};
use super::cuts::through_ipc;
use super::*;
use crate::random::Random;

const VISITS: &str = "SELECT window_start, window_end, user_id, session_id, count(*) AS n, count(DISTINCT event_type) AS kinds,
                             max(timestamp) AS last, collect_list(app_type) AS path, collect_set(tags) AS tags,
                             array_agg(quantity ORDER BY timestamp) AS quantities,
                             first_value(deviceType ORDER BY timestamp) FILTER (WHERE deviceType IS NOT NULL) AS device,
                             last_value(flag ORDER BY timestamp) AS flag, string_agg(app_type, '' ORDER BY amount) AS text,
                             median(quantity) AS middle, sum(price) AS total, avg(amount) AS mean, min(day) AS day
                      FROM app_events GROUP BY session(timestamp, INTERVAL '10 seconds', INTERVAL '40 seconds'), user_id, session_id
                      HAVING count(*) > 1";

/// Rows of a batch with an identity for each record: partition 0, offsets from `offset` on.
fn take(operator: &mut Operator, batch: &RecordBatch, watermark: Option<i64>, version: u64) -> Ingested {
    operator.ingest(0, batch, watermark, version).unwrap()
}

fn rows_at(query: &StreamQuery, seconds: &[(f64, &str)]) -> RecordBatch {
    let lines: Vec<String> =
        seconds.iter().map(|(seconds, user)| format!(r#"{{"timestamp": {seconds}, "user_id": "{user}"}}"#)).collect();
    batch(query, &lines.join("\n"))
}

const COUNTS: &str = "SELECT window_start, window_end, user_id, count(*) AS n FROM app_events
                      GROUP BY session(timestamp, INTERVAL '10 seconds'), user_id";

#[test]
fn a_session_has_its_edges_and_closes_a_gap_after_its_last_event() {
    let query = planned(COUNTS);
    let mut operator = query.operator();
    let rows = rows_at(&query, &[(0.0, "a"), (9.999999, "a"), (20.0, "a"), (5.0, "b"), (29.0, "a")]);
    let ingested = take(&mut operator, &rows, None, 1);
    assert_eq!((ingested.late, ingested.accepted), (0, 5));
    assert_eq!((operator.open_windows(), operator.groups()), (3, 3));
    assert_eq!((operator.oldest_open(), operator.latest_end()), (Some(T0), Some(T0 + 39 * SECOND)));
    assert!(operator.close(T0 + 15 * SECOND - 1).unwrap().is_empty());
    assert_eq!(
        json_rows(&operator.close(T0 + 15 * SECOND).unwrap()),
        [r#"{"window_start":"2026-02-16T14:00:05Z","window_end":"2026-02-16T14:00:15Z","user_id":"b","n":1}"#]
    );
    assert_eq!(
        json_rows(&operator.close(i64::MAX).unwrap()),
        [
            r#"{"window_start":"2026-02-16T14:00:00Z","window_end":"2026-02-16T14:00:19.999999Z","user_id":"a","n":2}"#,
            r#"{"window_start":"2026-02-16T14:00:20Z","window_end":"2026-02-16T14:00:39Z","user_id":"a","n":2}"#
        ]
    );
    assert_eq!((operator.size_bytes(), operator.parts().len(), operator.oldest_open()), (0, 0, None));
}

#[test]
fn a_late_record_is_one_that_joins_nothing_that_is_open() {
    let query = planned(COUNTS);
    let mut operator = query.operator();
    take(&mut operator, &rows_at(&query, &[(50.0, "a"), (8.0, "b")]), None, 1);
    operator.close(T0 + 45 * SECOND).unwrap();
    // At 45 s: 36 s would still be open by itself, 35 s would not, 41 s of user a is near the open session; 30 s is near 39.
    let rows = rows_at(&query, &[(36.0, "c"), (35.0, "d"), (41.0, "a"), (30.0, "e"), (39.0, "e"), (20.0, "b")]);
    let ingested = take(&mut operator, &rows, Some(T0 + 45 * SECOND), 2);
    assert_eq!((ingested.late, ingested.accepted, ingested.filtered), (2, 4, 0));
    let rows = json_rows(&close_all(&mut operator));
    assert_eq!(rows.len(), 3, "{rows:?}");
    assert!(
        rows.iter().any(|row| row.contains(r#""window_start":"2026-02-16T14:00:41Z""#) && row.contains(r#""n":2"#))
    );
}

#[test]
fn records_are_late_as_a_whole_also_behind_a_fan_out() {
    let sql = "SELECT window_start, tag, count(*) AS n FROM (SELECT timestamp, unnest(tags) AS tag FROM app_events)
               GROUP BY session(timestamp, INTERVAL '10 seconds'), tag";
    let query = planned(sql);
    let mut operator = query.operator();
    take(&mut operator, &batch(&query, r#"{"timestamp": 50, "tags": ["a"]}"#), None, 1);
    let rows = batch(
        &query,
        r#"{"timestamp": 42, "tags": ["a", "b"]}
           {"timestamp": 42, "tags": ["c", "d"]}
           {"timestamp": 42, "tags": ["a"]}
           {"timestamp": 42, "tags": []}"#,
    );
    let ingested = take(&mut operator, &rows, Some(T0 + 55 * SECOND), 2);
    assert_eq!((ingested.late, ingested.accepted), (1, 3));
}

#[test]
fn a_snapshot_holds_the_sessions_and_says_what_changed() {
    let query = planned(COUNTS);
    let mut operator = query.operator();
    take(&mut operator, &rows_at(&query, &[(0.0, "a"), (1.0, "b"), (30.0, "b")]), None, 7);
    take(&mut operator, &rows_at(&query, &[(2.0, "a"), (60.0, "c")]), None, 9);
    let [part] = operator.parts()[..] else { panic!("{:?}", operator.parts()) };
    assert_eq!((part.groups, part.first_version, part.changed_since_snapshot), (4, 7, true));
    let state = operator.snapshot(part.part).unwrap();
    assert_eq!(state[0].schema(), query.state_schema().unwrap());
    assert!(!operator.parts()[0].changed_since_snapshot);

    let mut restored = query.operator();
    restored.restore(part.part, part.first_version, &state).unwrap();
    assert!(!restored.parts()[0].changed_since_snapshot);
    assert_eq!(restored.parts()[0].first_version, 7);
    // The oldest batch is needed as long as one of its sessions is open.
    restored.discard(T0 + 12 * SECOND).unwrap();
    assert_eq!((restored.parts()[0].first_version, restored.parts()[0].changed_since_snapshot), (7, true));
    restored.discard(T0 + 40 * SECOND).unwrap();
    assert_eq!((restored.parts()[0].first_version, restored.open_windows()), (9, 1));
    take(&mut operator, &rows_at(&query, &[(61.0, "c")]), None, 10);
    assert!(operator.parts()[0].changed_since_snapshot);
    assert!(matches!(operator.snapshot(99), Err(Error::NotOpen { part: 99 })));
}

#[test]
fn many_sessions_are_kept_in_several_parts() {
    let query = planned(COUNTS);
    let schema = input_schema(&query);
    let mut operator = query.operator();
    for number in 0..10 {
        let rows = (0..7_000).map(|user| {
            serde_json::json!({"timestamp": T0 + number * SECOND, "user_id": format!("user {}", number * 7_000 + user)})
        });
        take(&mut operator, &json_batch(&schema, rows), None, number as u64 + 1);
    }
    let parts = operator.parts();
    assert!(parts.len() > 1 && parts.iter().all(|part| part.groups > 0 && part.bytes > 0), "{parts:?}");
    assert_eq!(parts.iter().map(|part| part.groups).sum::<usize>(), 70_000);
    let mut restored = query.operator();
    for part in &parts {
        let state = operator.snapshot(part.part).unwrap();
        assert_eq!(state.iter().map(RecordBatch::num_rows).sum::<usize>(), part.groups);
        restored.restore(part.part, part.first_version, &state).unwrap();
    }
    assert!(restored.parts().iter().all(|part| !part.changed_since_snapshot));
    assert_eq!(restored.parts().len(), parts.len());
    let count = |operator: &mut Operator| close_all(operator).iter().map(RecordBatch::num_rows).sum::<usize>();
    assert_eq!((count(&mut operator), count(&mut restored)), (70_000, 70_000));
}

/// Everything that an aggregate keeps for a session comes through unions of sessions, cuts of the stream and restarts.
#[test]
fn rows_of_sessions_do_not_depend_on_cuts_order_and_restored_state() {
    let query = planned(VISITS);
    let schema = input_schema(&query);
    for seed in 1..9 {
        let mut random = Random::new(seed);
        let records = super::cuts::records(&mut random, 400);
        let identified: Vec<(usize, serde_json::Value)> = records.into_iter().enumerate().collect();
        let mut answers = vec![];
        for round in 0..4_u64 {
            let mut arriving = identified.clone();
            if round > 0 {
                // In another order, cut elsewhere; all of it moves to a new operator at times.
                for last in (1..arriving.len()).rev() {
                    arriving.swap(last, random.below(last as u64 + 1) as usize);
                }
            }
            let mut operator = query.operator();
            while !arriving.is_empty() {
                let rest = arriving.split_off((1 + random.below(60) as usize).min(arriving.len()));
                let rows = json_batch(&schema, arriving.iter().map(|(offset, record)| identify(record, *offset)));
                assert_eq!(take(&mut operator, &rows, None, 1).late, 0);
                arriving = rest;
                if random.below(3) == 0 {
                    let mut new = query.operator();
                    for part in operator.parts() {
                        let state = operator.snapshot(part.part).unwrap();
                        let state: Vec<RecordBatch> = state.iter().flat_map(through_ipc).collect();
                        new.restore(part.part, part.first_version, &state).unwrap();
                    }
                    operator = new;
                }
            }
            let mut rows = json_rows(&close_all(&mut operator));
            rows.sort();
            answers.push(rows);
        }
        assert!(answers[0].len() > 10, "{:?}", answers[0]);
        for (round, answer) in answers.iter().enumerate() {
            assert_eq!(answer, &answers[0], "round {round} of seed {seed}");
        }
    }
}

fn identify(record: &serde_json::Value, offset: usize) -> serde_json::Value {
    let mut record = record.clone();
    record["__topic"] = "t".into();
    record["__partition"] = (offset % 3).into();
    record["__offset"] = (offset / 3).into();
    record
}

/// Hop is what a tumbling window of each phase gives.
#[test]
fn hops_are_tumbling_windows_of_each_phase() {
    let aggregates = "window_start, user_id, count(*) AS n, sum(quantity) AS q, collect_set(session_id) AS s";
    let hop = format!(
        "SELECT {aggregates} FROM app_events GROUP BY hop(timestamp, INTERVAL '7 seconds', INTERVAL '21 seconds'), user_id"
    );
    let hop = planned(&hop);
    let mut random = Random::new(5);
    let records = super::cuts::records(&mut random, 500);
    let schema = input_schema;
    let mut rows = super::cuts::cut(&hop, &schema(&hop), &records, &mut random);
    rows.sort();
    let mut expected = vec![];
    for phase in [0, 7, 14] {
        let origin = format!("TIMESTAMP '1970-01-01 00:00:{phase:02}'");
        let sql = format!(
            "SELECT {aggregates} FROM app_events GROUP BY tumble(timestamp, INTERVAL '21 seconds', {origin}), user_id"
        );
        let query = planned(&sql);
        let mut operator = query.operator();
        take(&mut operator, &json_batch(&schema(&query), records.iter().cloned()), None, 1);
        expected.extend(json_rows(&close_all(&mut operator)));
    }
    expected.sort();
    assert_eq!(rows, expected);
}

#[test]
fn a_row_that_some_windows_missed_counts_in_the_others() {
    let query = planned(
        "SELECT window_start, count(*) AS n FROM app_events GROUP BY hop(timestamp, INTERVAL '5 seconds', INTERVAL '10 seconds')",
    );
    let mut operator = query.operator();
    let rows = rows_at(&query, &[(0.0, "a"), (5.0, "a"), (9.0, "a"), (10.0, "a")]);
    let ingested = take(&mut operator, &rows, Some(T0 + 10 * SECOND), 1);
    // 0 s lies in [-5, 5) and [0, 10), which are closed; 5 and 9 s in [0, 10) and [5, 15).
    assert_eq!((ingested.late, ingested.partly_late, ingested.accepted), (1, 2, 3));
    assert_eq!(
        json_rows(&close_all(&mut operator)),
        [r#"{"window_start":"2026-02-16T14:00:05Z","n":3}"#, r#"{"window_start":"2026-02-16T14:00:10Z","n":1}"#]
    );
}

#[test]
fn weeks_begin_on_thursday_or_where_the_origin_says() {
    for (origin, start) in
        [("", "2026-02-12"), (", TIMESTAMP '1970-01-05 00:00:00'", "2026-02-16"), (", DATE '2026-02-15'", "2026-02-15")]
    {
        for week in ["7 days", "1 week"] {
            let sql = format!(
                "SELECT window_start, count(*) AS n FROM app_events GROUP BY tumble(timestamp, INTERVAL '{week}'{origin})"
            );
            let expected = format!(r#"{{"window_start":"{start}T00:00:00Z","n":1}}"#);
            assert_eq!(answer(&sql, r#"{"timestamp": 0}"#), [expected], "{sql}");
        }
    }
}

#[test]
fn lists_follow_the_events_whatever_order_they_come_in() {
    let sql = "SELECT collect_list(user_id) AS users, collect_list(amount) AS amounts, array_agg(amount ORDER BY timestamp) AS all_amounts,
                      first_value(amount ORDER BY timestamp) AS first, last_value(amount IGNORE NULLS ORDER BY timestamp) AS last
               FROM app_events GROUP BY tumble(timestamp, INTERVAL '1 minute')";
    let lines = r#"{"timestamp": 3, "user_id": "c", "amount": 3}
                   {"timestamp": 1, "user_id": "a"}
                   {"timestamp": 2, "user_id": "b", "amount": 2}
                   {"timestamp": 4}"#;
    assert_eq!(
        answer(sql, lines),
        [r#"{"users":["a","b","c"],"amounts":[2.0,3.0],"all_amounts":[null,2.0,3.0,null],"last":3.0}"#]
    );
    let session = sql.replace("tumble(timestamp, INTERVAL '1 minute')", "session(timestamp, INTERVAL '1 minute')");
    assert_eq!(answer(&session, lines), answer(sql, lines));
    let none = "SELECT collect_list(user_id) FILTER (WHERE user_id = 'x') AS a, array_agg(user_id ORDER BY timestamp) FILTER (WHERE user_id = 'x') AS b
                FROM app_events GROUP BY tumble(timestamp, INTERVAL '1 minute')";
    assert_eq!(answer(none, lines), [r#"{"a":[]}"#]);
}
