//! Which date columns say that they are the UTC date of a time of their row.

use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;

use super::super::{BatchQuery, InputTables};
use super::*;
use crate::tables::schema::UTC_DATE_OF;

/// `column: times` of every column that says so.
fn said(schema: &SchemaRef) -> Vec<String> {
    let fields = schema.fields().iter();
    fields.filter_map(|field| Some(format!("{}: {}", field.name(), field.metadata().get(UTC_DATE_OF)?))).collect()
}

fn of_batch(sql: &str) -> Vec<String> {
    let table: Arc<dyn TableProvider> = Arc::new(MemTable::try_new(events_schema(), vec![vec![]]).unwrap());
    let tables: InputTables = ["e", "f"].map(|name| (name.to_owned(), Arc::clone(&table))).into();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let rows = runtime.block_on(async { BatchQuery::parse(sql).unwrap().start(tables, 256 << 20, T0).unwrap() });
    said(&rows.schema())
}

#[test]
fn a_date_says_of_which_time_it_is() {
    let none: [&str; 0] = [];
    for (sql, expected) in [
        (r#"SELECT "timestamp" AS at, CAST("timestamp" AS DATE) AS date FROM e"#, &[r#"date: ["at"]"#][..]),
        (
            r#"SELECT "timestamp", CAST("timestamp" AS DATE) AS d, CAST("timestamp" AS DATE) AS e FROM e"#,
            &[r#"d: ["timestamp"]"#, r#"e: ["timestamp"]"#],
        ),
        (
            r#"WITH h AS (SELECT date_trunc('hour', "timestamp") AS hour, count(*) AS n FROM e GROUP BY 1)
               SELECT h.hour, h.n, CAST(h.hour AS DATE) AS date FROM h WHERE n > 1 ORDER BY hour LIMIT 5"#,
            &[r#"date: ["hour"]"#],
        ),
        (
            r#"WITH h AS (SELECT date_trunc('hour', "timestamp") AS hour, user_id FROM e)
               SELECT t.hour, CAST(t.hour AS DATE) AS date FROM h t JOIN h s ON s.hour = t.hour LEFT JOIN h u ON u.user_id = t.user_id"#,
            &[r#"date: ["hour"]"#],
        ),
        // The date of another time, of another zone, of one that is not in the row, or of another table.
        (r#"SELECT "timestamp" AS at, CAST("timestamp" + INTERVAL '1 hour' AS DATE) AS date FROM e"#, &none),
        (r#"SELECT "timestamp" AS at, CAST("timestamp" AT TIME ZONE 'Europe/Berlin' AS DATE) AS date FROM e"#, &none),
        (
            r#"SELECT "timestamp" AT TIME ZONE 'Europe/Berlin' AS at, CAST("timestamp" AT TIME ZONE 'Europe/Berlin' AS DATE) AS date FROM e"#,
            &none,
        ),
        (r#"SELECT user_id, CAST("timestamp" AS DATE) AS date FROM e"#, &none),
        (
            r#"SELECT e."timestamp" AS at, CAST(f."timestamp" AS DATE) AS date FROM e JOIN f ON e.user_id = f.user_id"#,
            &none,
        ),
        (r#"SELECT max("timestamp") AS at, CAST(min("timestamp") AS DATE) AS date FROM e"#, &none),
        (
            r#"SELECT "timestamp" AS at, CAST("timestamp" AS DATE) AS date FROM e
               UNION ALL SELECT "timestamp", DATE '2026-01-01' FROM e"#,
            &none,
        ),
        (r#"SELECT date_trunc('day', "timestamp") AS at, CAST("timestamp" AS DATE) AS date FROM e"#, &none),
    ] {
        assert_eq!(of_batch(sql), expected, "{sql}");
    }
}

#[test]
fn a_stream_says_so_too() {
    let source =
        SourceTable { name: "e".to_owned(), schema: events_schema(), event_time: Some("timestamp".to_owned()) };
    for (sql, expected) in [
        (
            "SELECT window_start, user_id, count(*) AS n, CAST(window_start AS DATE) AS date FROM e
             GROUP BY tumble(timestamp, INTERVAL '1 minute'), user_id",
            &[r#"date: ["window_start"]"#][..],
        ),
        (
            "SELECT user_id, timestamp AS event_time, CAST(timestamp AS DATE) AS date FROM e",
            &[r#"date: ["event_time"]"#],
        ),
        (
            "SELECT window_start, CAST(window_start AT TIME ZONE 'Europe/Berlin' AS DATE) AS date, count(*) AS n FROM e
             GROUP BY tumble(timestamp, INTERVAL '1 minute')",
            &[],
        ),
    ] {
        let query = StreamQuery::plan(sql, &source.clone().into(), BatchClock::new(T0))
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert_eq!(said(&query.output_schema()), expected, "{sql}");
    }
}
