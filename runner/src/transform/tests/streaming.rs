//! Micro-batches, watermarks, counters, state.

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::Int64Type;

use super::super::{Error, Ingested};
use super::*;

const COUNTS: &str = "SELECT window_start, user_id, count(*) AS n FROM app_events WHERE event_type = 'click'
                      GROUP BY tumble(timestamp, INTERVAL '1 minute'), user_id";

fn clicks(query: &StreamQuery, seconds: &[(f64, &str)]) -> RecordBatch {
    let lines: Vec<String> = seconds
        .iter()
        .map(|(seconds, kind)| format!(r#"{{"timestamp": {seconds}, "user_id": "u", "event_type": "{kind}"}}"#))
        .collect();
    batch(query, &lines.join("\n"))
}

fn counts(ingested: &Ingested) -> (u64, u64, u64) {
    (ingested.filtered, ingested.late, ingested.accepted)
}

fn window_starts(operator: &Operator) -> Vec<i64> {
    operator.parts().iter().map(|part| (part.part - T0) / SECOND).collect()
}

#[test]
fn each_record_is_filtered_or_late_or_accepted() {
    let query = planned(COUNTS);
    let mut operator = query.operator();
    let rows = clicks(
        &query,
        &[(0.0, "click"), (1.0, "view"), (59.999999, "click"), (60.0, "click"), (-1.0, "click"), (-1.0, "view")],
    );
    // The window that ends exactly at the watermark is closed, the one that ends later is not.
    assert_eq!(counts(&operator.ingest(0, &rows, Some(T0), 1).unwrap()), (2, 1, 3));
    assert_eq!(counts(&operator.ingest(0, &rows, Some(T0 + 59 * SECOND), 2).unwrap()), (2, 1, 3));
    assert_eq!(counts(&operator.ingest(0, &rows, Some(T0 + 60 * SECOND), 3).unwrap()), (2, 3, 1));
    assert_eq!(counts(&operator.ingest(0, &rows, None, 4).unwrap()), (2, 0, 4));
    assert_eq!(counts(&operator.ingest(0, &clicks(&query, &[]), None, 5).unwrap()), (0, 0, 0));
}

#[test]
fn records_are_counted_before_any_fan_out() {
    let sql = "SELECT window_start, tag, count(*) AS n FROM (
                   SELECT timestamp, unnest(tags) AS tag FROM app_events WHERE event_type = 'click')
               WHERE tag <> 'x' GROUP BY tumble(timestamp, INTERVAL '1 minute'), tag";
    let query = planned(sql);
    let mut operator = query.operator();
    let rows = batch(
        &query,
        r#"{"timestamp": 1, "event_type": "click", "tags": ["a", "b", "x"]}
           {"timestamp": 2, "event_type": "click", "tags": ["x"]}
           {"timestamp": 2, "event_type": "click", "tags": []}
           {"timestamp": 3, "event_type": "view", "tags": ["a"]}
           {"timestamp": -9, "event_type": "click", "tags": ["a", "b"]}"#,
    );
    assert_eq!(counts(&operator.ingest(0, &rows, Some(T0), 1).unwrap()), (1, 1, 3));
    assert_eq!(json_rows(&close_all(&mut operator)).len(), 2);
}

#[test]
fn a_query_without_a_window_counts_too() {
    let query = planned("SELECT user_id FROM app_events WHERE event_type = 'click'");
    let mut operator = query.operator();
    let ingested = operator
        .ingest(0, &batch(&query, "{\"event_type\": \"click\"}\n{\"event_type\": \"view\"}"), Some(T0), 1)
        .unwrap();
    assert_eq!(counts(&ingested), (1, 0, 1));
    assert!(operator.parts().is_empty() && close_all(&mut operator).is_empty());
}

#[test]
fn windows_close_oldest_first_when_the_watermark_reaches_their_end() {
    let query = planned(COUNTS);
    let mut operator = query.operator();
    operator
        .ingest(0, &clicks(&query, &[(130.0, "click"), (10.0, "click"), (70.0, "click"), (-70.0, "click")]), None, 1)
        .unwrap();
    assert_eq!(window_starts(&operator), [-120, 0, 60, 120]);
    assert!(operator.close(T0 - 60 * SECOND - 1).unwrap().is_empty());
    let rows = json_rows(&operator.close(T0 + 120 * SECOND).unwrap());
    let starts: Vec<&str> = rows.iter().map(|row| &row[17..37]).collect();
    assert_eq!(starts, ["2026-02-16T13:58:00Z", "2026-02-16T14:00:00Z", "2026-02-16T14:01:00Z"]);
    assert_eq!(window_starts(&operator), [120]);
    operator.discard(T0 + 179 * SECOND).unwrap();
    assert_eq!(window_starts(&operator), [120]);
    operator.discard(T0 + 180 * SECOND).unwrap();
    assert!(operator.parts().is_empty());
    assert_eq!((operator.groups(), operator.size_bytes()), (0, 0));
}

#[test]
fn a_window_knows_the_first_batch_that_fed_it() {
    let query = planned(COUNTS);
    let mut operator = query.operator();
    let versions = |operator: &Operator| operator.parts().iter().map(|part| part.first_version).collect::<Vec<_>>();
    operator.ingest(0, &clicks(&query, &[(1.0, "click"), (61.0, "view")]), None, 7).unwrap();
    operator.ingest(0, &clicks(&query, &[(2.0, "click"), (61.0, "click")]), None, 8).unwrap();
    operator.ingest(0, &clicks(&query, &[(121.0, "click"), (61.0, "click")]), None, 9).unwrap();
    assert_eq!(versions(&operator), [7, 8, 9]);

    let state = operator.snapshot(T0 + MINUTE).unwrap();
    let mut restored = query.operator();
    restored.restore(T0 + MINUTE, 8, &state).unwrap();
    restored.ingest(0, &clicks(&query, &[(62.0, "click")]), None, 10).unwrap();
    assert_eq!(versions(&restored), [8]);
}

#[test]
fn a_snapshot_leaves_the_window_as_it_is() {
    let query = planned(COUNTS);
    let mut operator = query.operator();
    let changed = |operator: &Operator| operator.parts()[0].changed_since_snapshot;
    operator.ingest(0, &clicks(&query, &[(1.0, "click"), (2.0, "click")]), None, 1).unwrap();
    assert!(changed(&operator));
    let state = operator.snapshot(T0).unwrap();
    assert_eq!(state[0].schema(), query.state_schema().unwrap());
    assert!(!changed(&operator));
    operator.ingest(0, &clicks(&query, &[(70.0, "click")]), None, 2).unwrap();
    assert!(!changed(&operator), "rows of another window do not change this one");
    operator.ingest(0, &clicks(&query, &[(3.0, "click")]), None, 3).unwrap();
    assert!(changed(&operator));
    let answers = operator.close(T0 + MINUTE).unwrap();
    assert_eq!(answers[0].column(2).as_primitive::<Int64Type>().values(), &[3]);
    assert!(matches!(operator.snapshot(T0), Err(Error::NotOpen { .. })));
}

#[test]
fn state_of_another_shape_is_refused() {
    let query = planned(COUNTS);
    let other = planned(
        "SELECT window_start, sum(amount) AS total FROM app_events GROUP BY tumble(timestamp, INTERVAL '1 minute')",
    );
    let mut operator = other.operator();
    operator.ingest(0, &batch(&other, "{\"timestamp\": 1, \"amount\": 2}"), None, 1).unwrap();
    let state = operator.snapshot(T0).unwrap();
    let error = query.operator().restore(T0, 1, &state).unwrap_err();
    assert!(matches!(error, Error::State { .. }), "{error}");
}

#[test]
fn distinct_counts_of_text_are_kept_in_our_sets() {
    let query = planned(
        "SELECT window_start, count(DISTINCT user_id) AS n FROM app_events
                         GROUP BY tumble(timestamp, INTERVAL '1 minute')",
    );
    let state = query.state_schema().unwrap();
    let list = DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)));
    assert_eq!(state.fields().iter().map(|field| field.data_type()).collect::<Vec<_>>(), [&list]);
}

#[test]
fn batches_must_have_the_columns_of_the_query() {
    let query = planned(COUNTS);
    let rows = clicks(&query, &[(1.0, "click")]);
    for wrong in [rows.project(&[0, 1]).unwrap(), rows.project(&[1, 0, 2]).unwrap()] {
        let error = query.operator().ingest(0, &wrong, None, 1).unwrap_err();
        assert!(matches!(error, Error::Input { .. }), "{error}");
    }
}

#[test]
fn a_missing_event_time_is_an_error_not_a_wrong_answer() {
    let mut source = events();
    let fields: Vec<Field> =
        source.schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    source.schema = Arc::new(Schema::new(fields));
    let query = StreamQuery::plan(COUNTS, &source.clone().into(), BatchClock::default()).unwrap();
    let schema = Arc::new(source.schema.project(query.input_columns(0)).unwrap());
    let rows = json_batch(&schema, [serde_json::json!({"event_type": "click"})].into_iter());
    let error = query.operator().ingest(0, &rows, Some(T0), 1).unwrap_err();
    assert!(matches!(error, Error::NullEventTime { row: 0 }), "{error}");
}

#[test]
fn a_failing_expression_names_its_cause() {
    let query = planned("SELECT CAST(user_id AS BIGINT) AS number FROM app_events");
    let ingested = query.operator().ingest(0, &batch(&query, "{\"user_id\": \"abc\"}"), None, 1).unwrap();
    assert!(ingested.refused[0].why.contains("abc"), "{:?}", ingested.refused);
}

#[test]
fn now_follows_the_batch_clock_after_planning() {
    let clock = BatchClock::new(1);
    let sql = "SELECT now() AS a, current_timestamp AS b, current_date AS c, today() AS d FROM app_events";
    let query = StreamQuery::plan(sql, &events().into(), clock.clone()).unwrap();
    let mut operator = query.operator();
    for (now, expected) in [
        (T0, r#"{"a":"2026-02-16T14:00:00Z","b":"2026-02-16T14:00:00Z","c":"2026-02-16","d":"2026-02-16"}"#),
        (
            T0 + 10 * 60 * MINUTE,
            r#"{"a":"2026-02-17T00:00:00Z","b":"2026-02-17T00:00:00Z","c":"2026-02-17","d":"2026-02-17"}"#,
        ),
    ] {
        clock.set(now);
        let rows = operator.ingest(0, &batch(&query, "{}"), None, 1).unwrap().rows;
        assert_eq!(json_rows(&rows), [expected]);
    }
}

#[test]
fn many_groups_come_out_in_batches_of_bounded_size() {
    let query = planned(
        "SELECT window_start, quantity, collect_set(user_id) AS users FROM app_events
                         GROUP BY tumble(timestamp, INTERVAL '1 minute'), quantity",
    );
    let mut operator = query.operator();
    let groups = 150_000;
    let schema = input_schema(&query);
    for start in (0..groups).step_by(50_000) {
        let rows = (start..start + 50_000)
            .map(|n| serde_json::json!({"timestamp": T0, "quantity": n, "user_id": format!("user-{n}")}));
        operator.ingest(0, &json_batch(&schema, rows), None, 1).unwrap();
    }
    assert_eq!(operator.groups(), groups);
    let bytes = operator.size_bytes();
    assert!((groups * 40..groups * 200).contains(&bytes), "{bytes}");
    let state = operator.snapshot(T0).unwrap();
    assert_eq!(state.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [65_536, 65_536, 18_928]);
    let rows = close_all(&mut operator);
    assert_eq!(rows.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [65_536, 65_536, 18_928]);
    for rows in rows {
        let users = rows.column(2).as_list::<i32>();
        for (row, quantity) in rows.column(1).as_primitive::<Int64Type>().iter().enumerate() {
            let user = users.value(row);
            assert_eq!(
                (user.len(), user.as_string::<i32>().value(0)),
                (1, format!("user-{}", quantity.unwrap()).as_str())
            );
        }
    }
}

#[test]
fn operators_of_one_query_share_nothing() {
    let sql = "SELECT user_id, unnest(tags) AS tag FROM app_events";
    let query = planned(sql);
    let threads: Vec<_> = (0..4)
        .map(|number| {
            let query = query.clone();
            std::thread::spawn(move || {
                let mut operator = query.operator();
                for _ in 0..50 {
                    let rows = batch(&query, &format!("{{\"user_id\": \"u{number}\", \"tags\": [\"t{number}\"]}}"));
                    let rows = operator.ingest(0, &rows, None, 1).unwrap().rows;
                    assert_eq!(json_rows(&rows), [format!(r#"{{"user_id":"u{number}","tag":"t{number}"}}"#)]);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn rows_that_a_filter_left_do_not_keep_the_text_of_the_others() {
    let query = planned("SELECT user_id FROM app_events WHERE quantity = 7");
    let records =
        (0..1000).map(|n| format!(r#"{{"quantity": {n}, "user_id": "a user with a long name, number {n}"}}"#));
    let rows = batch(&query, &records.collect::<Vec<_>>().join("\n"));
    let left = query.operator().ingest(0, &rows, None, 1).unwrap().rows;
    assert_eq!(json_rows(&left), [r#"{"user_id":"a user with a long name, number 7"}"#]);
    let (before, after) = (rows.get_array_memory_size(), left[0].get_array_memory_size());
    assert!(before > 40_000 && after < 1_000, "{before} bytes became {after}");
}

#[test]
fn queries_and_operators_move_between_threads() {
    fn is_send<T: Send>() {}
    fn is_sync<T: Sync>() {}
    is_send::<StreamQuery>();
    is_sync::<StreamQuery>();
    is_send::<Operator>();
}

/// A task of tokio has a budget, after which everything that respects it waits for the task to yield.
#[test]
fn plans_run_inside_an_async_task_too() {
    let query = planned("SELECT user_id, unnest(tags) AS tag FROM app_events");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let rows = runtime.block_on(async move {
        let mut operator = query.operator();
        let rows = batch(&query, "{\"user_id\": \"u\", \"tags\": [\"a\", \"b\"]}");
        (0..1000).map(|_| json_rows(&operator.ingest(0, &rows, None, 1).unwrap().rows).len()).sum::<usize>()
    });
    assert_eq!(rows, 2000);
}
