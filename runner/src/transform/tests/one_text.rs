//! One SQL text for a live job and for a backfill: over the same records a query with a window gives the rows of a stream and those
//! of a table alike, however the stream was cut and the table is partitioned.

use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use proptest::prelude::*;

use super::cuts::{cut, records, sql_of, with_windows};
use super::tables::ask;
use super::*;
use crate::random::Random;
use crate::transform::InputTables;

/// Of rows that tie in an ORDER BY a stream takes the one of the lower offset first; a table has no offsets.
const TIES: [&str; 2] = ["last_value(price ORDER BY amount)", "RANK: "];

fn queries() -> Vec<String> {
    let all = with_windows().filter(|(query, _)| TIES.iter().all(|ties| !query.contains(ties)));
    let further = [
        "SELECT window_start, window_end, count(*) AS n FROM app_events GROUP BY tumble(timestamp, INTERVAL '7 seconds', TIMESTAMP '1970-01-01 00:00:03')",
        "SELECT user_id, window_end AS until, window_start, sum(quantity) AS q FROM app_events WHERE flag
         GROUP BY user_id, hop(timestamp, INTERVAL '7 seconds', INTERVAL '20 seconds') HAVING window_start >= TIMESTAMP '2026-02-16 14:00:30'",
        "SELECT to_unixtime(window_end) - to_unixtime(window_start) AS length, user_id, collect_list(session_id) AS visited FROM app_events
         GROUP BY session(timestamp, INTERVAL '2 seconds', INTERVAL '8 seconds'), user_id",
        "SELECT DISTINCT window_start, date_trunc('minute', window_start) AS minute FROM app_events GROUP BY tumble(timestamp, INTERVAL '30 seconds'), user_id",
        "SELECT max(timestamp - window_start) > INTERVAL '9 seconds' AS late, min(window_end) AS end FROM app_events GROUP BY tumble(timestamp, INTERVAL '10 seconds'), event_type",
        "SELECT window_start, user_id, count(*) AS n, row_number() OVER (PARTITION BY window_start ORDER BY user_id) AS place FROM app_events
         GROUP BY hop(timestamp, INTERVAL '10 seconds', INTERVAL '30 seconds'), user_id",
        "SELECT window_start, count(DISTINCT user_id) AS users, count(DISTINCT event_type) AS kinds, count(DISTINCT amount) AS amounts FROM app_events
         GROUP BY tumble(timestamp, INTERVAL '20 seconds')",
        "WITH visits AS (SELECT window_start AS began, user_id, count(*) AS n FROM app_events GROUP BY session(timestamp, INTERVAL '3 seconds'), user_id)
         SELECT user_id, began, n * 2 AS twice FROM visits WHERE n > 1",
    ];
    all.map(|(query, window)| sql_of(query, window)).chain(further.map(str::to_owned)).collect()
}

/// Records with a time of their own each.
fn timed(random: &mut Random, count: u64) -> Vec<serde_json::Value> {
    let mut records = records(random, count);
    for (number, record) in (0..).zip(&mut records) {
        let time = record["timestamp"].as_i64().unwrap();
        record["timestamp"] = (time - time.rem_euclid(SECOND) + number).into();
    }
    records
}

fn of_a_stream(sql: &str, records: &[serde_json::Value], random: &mut Random) -> Vec<String> {
    let query = planned(sql);
    let mut rows = cut(&query, &input_schema(&query), records, random);
    rows.sort_unstable();
    rows
}

fn of_a_table(sql: &str, records: &[serde_json::Value], random: &mut Random) -> Vec<String> {
    let schema = events().schema;
    let mut parts = vec![vec![]; 1 + random.below(3) as usize];
    let mut rest = records;
    while !rest.is_empty() {
        let (rows, others) = rest.split_at((1 + random.below(60) as usize).min(rest.len()));
        let part = random.below(parts.len() as u64) as usize;
        parts[part].push(json_batch(&schema, rows.iter().cloned()));
        rest = others;
    }
    let table: Arc<dyn TableProvider> = Arc::new(MemTable::try_new(schema, parts).unwrap());
    let mut rows = ask(InputTables::from([("app_events".to_owned(), table)]), sql)
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    rows.sort_unstable();
    rows
}

fn both(sql: &str, seed: u64, count: u64) -> (Vec<String>, Vec<String>) {
    let mut random = Random::new(seed);
    let records = timed(&mut random, count);
    (of_a_stream(sql, &records, &mut random), of_a_table(sql, &records, &mut random))
}

#[test]
fn every_query_gives_the_same_rows_live_and_as_a_backfill() {
    for (number, sql) in queries().iter().enumerate() {
        let (stream, table) = both(sql, 1 + number as u64, 200);
        assert!(!stream.is_empty(), "{sql}");
        assert_eq!(stream, table, "{sql}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn some_query_gives_the_same_rows_whatever_the_records_are(which in any::<prop::sample::Index>(), seed in 1_u64.., count in 0_u64..300) {
        let queries = queries();
        let sql = which.get(&queries);
        let (stream, table) = both(sql, seed, count);
        prop_assert_eq!(stream, table, "{}", sql);
    }
}

#[test]
fn rows_without_a_time_lie_in_no_window() {
    let lines = [serde_json::json!({"quantity": 1}), serde_json::json!({"timestamp": T0, "quantity": 2})];
    let schema = events().schema;
    let fields: Vec<Field> = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let rows = json_batch(&schema, lines.into_iter());
    let table: Arc<dyn TableProvider> = Arc::new(MemTable::try_new(schema, vec![vec![rows]]).unwrap());
    for window in ["tumble(timestamp, INTERVAL '1 minute')", "session(timestamp, INTERVAL '1 minute')"] {
        let sql = format!("SELECT sum(quantity) AS q FROM app_events GROUP BY {window}");
        assert_eq!(
            ask(InputTables::from([("app_events".to_owned(), Arc::clone(&table))]), &sql).unwrap(),
            [r#"{"q":2}"#]
        );
    }
}

#[test]
fn a_window_over_a_table_is_refused_where_none_can_be() {
    let table = || -> Arc<dyn TableProvider> { Arc::new(MemTable::try_new(events().schema, vec![vec![]]).unwrap()) };
    let tables = || InputTables::from([("app_events".to_owned(), table())]);
    for (sql, part) in [
        ("SELECT tumble(timestamp, INTERVAL '1 minute') FROM app_events", "stands alone in GROUP BY"),
        (
            "SELECT count(*) FROM app_events GROUP BY ROLLUP(tumble(timestamp, INTERVAL '1 minute'), user_id)",
            "stands alone in GROUP BY",
        ),
        ("SELECT count(*) FROM app_events GROUP BY tumble(user_id, INTERVAL '1 minute')", "is no time"),
        ("SELECT count(*) FROM app_events GROUP BY tumble(timestamp, INTERVAL '1 month')", "months"),
        ("SELECT count(*) FROM app_events GROUP BY hop(timestamp, INTERVAL '2 minutes', INTERVAL '1 minute')", "slide"),
        (
            "SELECT count(*) FROM app_events GROUP BY session(timestamp, INTERVAL '1 minute', INTERVAL '2 minutes')",
            "less than 3 of its gaps",
        ),
        (
            "SELECT max(window_start) FROM app_events GROUP BY session(timestamp, INTERVAL '1 minute')",
            "inside an aggregate only of tumble",
        ),
        (
            "SELECT count(*) FROM app_events GROUP BY tumble(timestamp, INTERVAL '1 minute'), tumble(timestamp, INTERVAL '2 minutes')",
            "several windows",
        ),
        (
            "SELECT count(*) FROM (SELECT timestamp, user_id AS window_start FROM app_events) GROUP BY tumble(timestamp, INTERVAL '1 minute')",
            "a column below the window is called window_start",
        ),
    ] {
        let error = ask(tables(), sql).expect_err(sql);
        assert!(error.contains(part), "{sql}: {error}");
    }
}
