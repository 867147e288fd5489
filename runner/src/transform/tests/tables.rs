//! Queries over whole tables: the same rows however many partitions and batches the tables come in.

use std::collections::HashMap;

use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, StringViewArray, TimestampMicrosecondArray};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;

use super::super::{InputTables, TableQuery};
use super::*;

/// What a query over tables gives.
pub(super) fn answer_of(tables: InputTables, sql: &str) -> Result<Vec<RecordBatch>, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let query = TableQuery::parse(sql).map_err(|error| error.to_string())?;
        let (mut rows, _) =
            query.start(Arc::new(tables), 256 << 20, T0 + 90 * SECOND).map_err(|error| error.to_string())?;
        let mut batches = vec![];
        while let Some(batch) = futures::StreamExt::next(&mut rows).await {
            batches.push(batch.map_err(|error| QueryError::from_datafusion(&error).to_string())?);
        }
        Ok(batches)
    })
}

/// As JSON lines, in the order in which they come.
pub(super) fn ask(tables: InputTables, sql: &str) -> Result<Vec<String>, String> {
    answer_of(tables, sql).map(|batches| json_rows(&batches))
}

fn sorted(mut rows: Vec<String>) -> Vec<String> {
    rows.sort_unstable();
    rows
}

/// The rows `(shop, n, x, ts)` in so many partitions.
fn sales(partitions: usize, rows: usize) -> Arc<dyn TableProvider> {
    let names = ["shop", "n", "x", "ts"];
    let row_batch = |numbers: &[i64]| {
        let shops = numbers.iter().map(|n| ["berlin", "paris", "rome"][(n % 3) as usize]);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringViewArray::from_iter_values(shops)),
            Arc::new(Int64Array::from(numbers.to_vec())),
            Arc::new(Float64Array::from_iter_values(numbers.iter().map(|n| *n as f64 / 2.0))),
            Arc::new(
                TimestampMicrosecondArray::from_iter_values(numbers.iter().map(|n| T0 + n * 20 * MINUTE))
                    .with_timezone("UTC"),
            ),
        ];
        RecordBatch::try_from_iter_with_nullable(names.iter().copied().zip(columns).map(|(n, c)| (n, c, true))).unwrap()
    };
    let schema = row_batch(&[]).schema();
    let mut parts = vec![vec![]; partitions.max(1)];
    for n in 0..rows {
        parts[n % partitions.max(1)].push(row_batch(&[n as i64]));
    }
    Arc::new(MemTable::try_new(schema, parts).unwrap())
}

const OPERATORS: &[&str] = &[
    "SELECT shop, n FROM sales",
    "SELECT shop FROM sales UNION ALL SELECT shop FROM sales",
    "SELECT shop FROM sales UNION SELECT 'x' AS shop",
    "SELECT shop FROM (SELECT shop FROM sales UNION ALL SELECT shop FROM other) WHERE shop <> 'rome'",
    "SELECT count(*) AS c FROM (SELECT shop FROM sales UNION ALL SELECT shop FROM other)",
    "SELECT DISTINCT shop FROM (SELECT shop FROM sales UNION ALL SELECT shop FROM other)",
    "SELECT shop, sum(n) AS s, avg(x) AS a, count(DISTINCT n) AS d FROM sales GROUP BY shop",
    "SELECT shop, count(*) AS c FROM sales GROUP BY shop HAVING count(*) > 2 ORDER BY shop",
    "SELECT shop, n FROM sales ORDER BY n DESC LIMIT 3 OFFSET 1",
    "SELECT count(*) AS c FROM (SELECT shop FROM sales LIMIT 4)",
    "SELECT a.shop, count(*) AS c FROM sales a JOIN other b ON a.shop = b.shop GROUP BY a.shop",
    "SELECT a.n FROM sales a LEFT JOIN (SELECT n FROM sales UNION ALL SELECT n FROM other) b ON a.n = b.n + 1",
    "SELECT n FROM sales WHERE n IN (SELECT n + 1 FROM other)",
    "SELECT n FROM sales WHERE NOT EXISTS (SELECT 1 FROM other WHERE other.n = sales.n + 1)",
    "SELECT n, (SELECT max(n) FROM other) AS most FROM sales",
    "SELECT n FROM sales INTERSECT SELECT n FROM other",
    "SELECT n FROM sales EXCEPT SELECT n + 1 FROM other",
    "SELECT shop, row_number() OVER (PARTITION BY shop ORDER BY n) AS r FROM sales",
    "SELECT n, sum(n) OVER (ORDER BY n ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS s FROM sales",
    "SELECT unnest([n, n + 1]) AS item FROM sales",
    "SELECT shop, array_agg(n ORDER BY n) AS all_n, collect_set(n) AS s, nth_value(n, 2 ORDER BY n) AS v FROM sales GROUP BY shop",
    "SELECT shop, date_trunc('hour', ts) AS h, count(*) AS c FROM sales GROUP BY GROUPING SETS ((shop), (date_trunc('hour', ts)), ())",
    "SELECT shop, count(*) AS c FROM sales GROUP BY ROLLUP (shop)",
    "SELECT CAST(ts AS DATE) AS d, shop, count(*) AS c FROM sales GROUP BY ROLLUP (CAST(ts AS DATE), shop)",
    "SELECT n, row_number() OVER (PARTITION BY CAST(ts AS DATE) ORDER BY n) AS r FROM sales",
    "SELECT max(CAST(ts AS DATE)) AS d, count(DISTINCT CAST(ts AS DATE)) AS c FROM sales WHERE CAST(ts AS DATE) >= DATE '2020-01-01'",
    "SELECT n FROM sales WHERE n % 5 NOT IN (SELECT n % 3 FROM other)",
    "SELECT date_trunc('hour', ts) AS h, CAST(date_trunc('hour', ts) AS DATE) AS d, count(*) AS c FROM sales \
     GROUP BY date_trunc('hour', ts), CAST(date_trunc('hour', ts) AS DATE)",
    "SELECT date_trunc('hour', ts), CAST(date_trunc('hour', ts) AS DATE), sum(n) FROM sales GROUP BY 1, 2 ORDER BY 1",
    "SELECT g.value AS v, count(n) AS c FROM generate_series(0, 5) g LEFT JOIN sales ON n = g.value GROUP BY g.value",
    "SELECT * FROM range(1, 4)",
    "WITH RECURSIVE up AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM up WHERE i < 5) SELECT i FROM up",
    "SELECT * FROM (VALUES (1, 'a'), (2, 'b')) v(i, t)",
    "SELECT a.n, b.n AS m FROM sales a CROSS JOIN other b WHERE a.n < 2 AND b.n < 2",
    "SELECT a.n FROM sales a FULL JOIN other b ON a.n = b.n + 3",
];

#[test]
fn every_operator_gives_the_same_rows_from_any_number_of_partitions() {
    for sql in OPERATORS {
        for rows in [0, 1, 20] {
            let answers: Vec<Vec<String>> = [1, 0, 2, 7]
                .into_iter()
                .map(|partitions| {
                    let tables = InputTables::from([
                        ("sales".to_owned(), sales(partitions, rows)),
                        ("other".to_owned(), sales(3.min(partitions), rows / 2)),
                    ]);
                    sorted(ask(tables, sql).unwrap_or_else(|error| panic!("{error}\n{sql}")))
                })
                .collect();
            for answer in &answers[1..] {
                assert_eq!(answer, &answers[0], "{rows} rows: {sql}");
            }
        }
    }
}

#[test]
fn all_branches_of_a_union_are_there() {
    let tables = || InputTables::from([("sales".to_owned(), sales(1, 3)), ("shops".to_owned(), sales(1, 2))]);
    let rows = sorted(ask(tables(), "SELECT n FROM sales UNION ALL SELECT n + 5 FROM shops").unwrap());
    assert_eq!(rows, [r#"{"n":0}"#, r#"{"n":1}"#, r#"{"n":2}"#, r#"{"n":5}"#, r#"{"n":6}"#]);
    let count = ask(tables(), "SELECT count(*) AS c FROM (SELECT n FROM sales UNION ALL SELECT n FROM shops)").unwrap();
    assert_eq!(count, [r#"{"c":5}"#]);
}

#[test]
fn a_name_of_with_hides_a_table() {
    let tables = || InputTables::from([("sales".to_owned(), sales(1, 3)), ("shops".to_owned(), sales(1, 2))]);
    for sql in [
        "SELECT shop FROM (WITH shops AS (SELECT 'x' AS shop) SELECT shop FROM shops)",
        "WITH Shops AS (SELECT 'x' AS shop) SELECT shop FROM SHOPS",
        "WITH a AS (WITH shops AS (SELECT 'x' AS shop) SELECT shop FROM shops) SELECT shop FROM a",
        "WITH shops AS (SELECT 'x' AS shop FROM shops WHERE n = 0) SELECT s.shop FROM shops s",
    ] {
        assert_eq!(ask(tables(), sql).unwrap(), [r#"{"shop":"x"}"#], "{sql}");
    }
    let beside = "SELECT (SELECT count(*) FROM shops) AS c FROM (WITH shops AS (SELECT 1 AS i) SELECT i FROM shops)";
    assert_eq!(ask(tables(), beside).unwrap(), [r#"{"c":2}"#]);
}

#[test]
fn a_table_that_is_not_there_is_named() {
    let tables = HashMap::from([("sales".to_owned(), sales(1, 3))]);
    assert_eq!(ask(tables, "SELECT n FROM sale").unwrap_err(), "there is no table sale");
}

#[test]
fn several_counts_of_distinct_values_are_what_each_of_them_is_alone() {
    let tables = || InputTables::from([("sales".to_owned(), sales(3, 200))]);
    let both = "SELECT shop, count(DISTINCT n % 7) AS a, sum(n) AS s, count(DISTINCT x - x) AS b, count(DISTINCT CAST(n % 5 AS TEXT)) FILTER (WHERE n > 50) AS c
                FROM sales GROUP BY shop HAVING count(DISTINCT n % 7) > 1";
    let alone = |what: &str, name: &str| format!("(SELECT shop, {what} AS {name} FROM sales GROUP BY shop) AS t{name}");
    let joined = format!(
        "SELECT ta.shop, a, s, b, c FROM {} JOIN {} ON ta.shop = tb.shop JOIN {} ON ta.shop = tc.shop JOIN {} ON ta.shop = ts.shop",
        alone("count(DISTINCT n % 7)", "a"),
        alone("count(DISTINCT x - x)", "b"),
        alone("count(DISTINCT CASE WHEN n > 50 THEN CAST(n % 5 AS TEXT) END)", "c"),
        alone("sum(n)", "s"),
    );
    let rows = sorted(ask(tables(), both).unwrap());
    assert_eq!(rows.len(), 3);
    assert_eq!(rows, sorted(ask(tables(), &joined).unwrap()));
}

#[test]
fn not_in_knows_doubled_and_unknown_values() {
    const NUMBERS: &str = "(VALUES (1), (1), (2), (NULL)) t(n)";
    for (subquery, expected) in [
        ("SELECT m FROM (VALUES (2), (2), (3)) u(m)", &["1", "1"][..]),
        ("SELECT m FROM (VALUES (3), (3), (NULL)) u(m)", &[]),
        ("SELECT m FROM (VALUES (2)) u(m) WHERE m > 2", &["1", "1", "2", "null"]),
        ("SELECT m FROM (VALUES (1), (2), (2)) u(m) ORDER BY m DESC LIMIT 2", &["1", "1"]),
    ] {
        let sql = format!("SELECT CAST(n AS VARCHAR) AS n FROM {NUMBERS} WHERE n NOT IN ({subquery})");
        let rows = sorted(ask(InputTables::new(), &sql).unwrap_or_else(|error| panic!("{error}\n{sql}")));
        let text = |n: &&str| if *n == "null" { "{}".to_owned() } else { format!(r#"{{"n":"{n}"}}"#) };
        assert_eq!(rows, sorted(expected.iter().map(text).collect()), "{sql}");
    }
}

#[test]
fn dates_are_divided_where_they_are_computed_and_cast_where_files_are_chosen_by_them() {
    let tables = InputTables::from([("sales".to_owned(), sales(1, 3))]);
    let sql = "SELECT CAST(ts AS DATE) AS d, sum(n) AS s FROM sales WHERE CAST(ts AS DATE) > '2020-01-01' GROUP BY 1";
    let query = TableQuery::parse(sql).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _entered = runtime.enter();
    let (_, plan) = query.start(Arc::new(tables), 256 << 20, T0).unwrap();
    let shown = datafusion::physical_plan::displayable(&*plan).indent(false).to_string();
    let (chosen, computed): (Vec<_>, Vec<_>) = shown.lines().partition(|line| line.contains("FilterExec"));
    assert!(computed.iter().any(|line| line.contains("utc_date(")), "{shown}");
    assert!(chosen.iter().all(|line| !line.contains("utc_date(")), "{shown}");
}

#[test]
fn a_time_that_a_function_would_lose_is_refused_with_its_value() {
    let tables = || -> InputTables { [("sales".to_owned(), sales(1, 3))].into() };
    // 9999-12-31 of n = 1, and x is the half of n.
    let far = "from_unixtime(n * 253402214400)";
    for (expression, function, value) in [
        (format!("date_bin(INTERVAL '1 hour', {far})"), "date_bin", "9999-12-31"),
        (format!("date_bin(INTERVAL '1 month', {far}, TIMESTAMP '2000-01-01')"), "date_bin", "9999-12-31"),
        ("date_bin(INTERVAL '1 hour', from_unixtime(n * -30610220277))".to_owned(), "date_bin", "1000-01-01"),
        (format!("generate_series({far}, {far}, INTERVAL '1 day')"), "generate_series", "9999-12-31"),
        (format!("range({far}, {far} + INTERVAL '1 day', INTERVAL '1 day')"), "range", "9999-12-31"),
        (format!("date_part('second', {far} - from_unixtime(0))"), "date_part", "253402214400"),
        ("date_part('millisecond', from_unixtime(n * 2160000) - from_unixtime(0))".to_owned(), "date_part", ""),
        ("extract(microsecond FROM from_unixtime(n * 3600) - from_unixtime(0))".to_owned(), "date_part", ""),
        ("to_timestamp(x * 506804428800)".to_owned(), "to_timestamp", "253402214400"),
        ("to_timestamp(x / (n - n))".to_owned(), "to_timestamp", "NaN"),
        ("date_bin(INTERVAL '1 hour', from_unixtime(253402214400))".to_owned(), "date_bin", "9999-12-31"),
    ] {
        for sql in
            [format!("SELECT {expression} AS t FROM sales"), format!("SELECT n FROM sales WHERE {expression} IS NULL")]
        {
            let told = ask(tables(), &sql).unwrap_err();
            assert!(told.contains(&format!("{function} does not take")) && told.contains(value), "{sql}: {told}");
        }
    }
    // The fraction stays, however long it is.
    for millis in ["602123", "1000000000123"] {
        let long = format!("to_timestamp_millis(CAST(n * {millis} AS BIGINT)) - to_timestamp_millis(0)");
        let exact =
            format!("SELECT n FROM sales WHERE n = 1 AND abs(date_part('epoch', {long}) * 1000 - {millis}) < 0.1");
        assert_eq!(ask(tables(), &exact).unwrap().len(), 1, "{exact}");
    }
    for expression in [
        "date_bin(INTERVAL '1 hour', CASE WHEN n < 0 THEN from_unixtime(n) END)",
        "date_part('hour', CASE WHEN n < 0 THEN from_unixtime(n) END)",
        "generate_series(CASE WHEN n < 0 THEN from_unixtime(n) END, from_unixtime(n), INTERVAL '1 day')",
        "to_timestamp(CASE WHEN n < 0 THEN x END)",
    ] {
        let rows = ask(tables(), &format!("SELECT n FROM sales WHERE {expression} IS NULL")).unwrap();
        assert_eq!(rows.len(), 3, "{expression}");
    }
}

/// A decimal of 15 digits and more after the point is what the engine compares both with.
#[test]
fn a_decimal_is_equal_to_the_double_of_the_same_number() {
    let tables = || InputTables::from([("sales".to_owned(), sales(2, 7))]);
    // 316665.0 times 10^15 is no double.
    let exact = "CAST(n + 316665 AS DECIMAL(20,0))";
    let double = "(x * 2 + 316665)";
    let both = format!("(SELECT n, {exact} AS e, {double} AS d FROM sales)");
    for (condition, rows) in [
        ("e = d", 7),
        ("NOT (e <> d)", 7),
        ("e >= d AND e <= d", 7),
        ("e < d OR e > d", 0),
        ("e IN (d, 3)", 7),
        ("e BETWEEN d AND d", 7),
        ("CASE e WHEN d THEN true ELSE false END", 7),
        ("e = 316665.0 OR e = 316666e0", 2),
        ("e IS NOT DISTINCT FROM d", 7),
        ("nullif(e, d) IS NULL", 7),
        ("coalesce(CASE WHEN n < 0 THEN e END, d) = e", 7),
        ("greatest(e, d) = least(e, d)", 7),
        ("e IN (SELECT 316665e0 + n FROM sales)", 7),
        ("CAST(d AS DECIMAL(30,15)) = e AND TRY_CAST(d AS DECIMAL(30,15)) = e", 7),
        ("CAST(CAST(d AS FLOAT) AS DECIMAL(38,20)) = e", 7),
        ("TRY_CAST(d * 1e30 AS DECIMAL(30,15)) IS NULL", 7),
    ] {
        let sql = format!("SELECT n FROM {both} WHERE {condition}");
        assert_eq!(ask(tables(), &sql).unwrap_or_else(|told| panic!("{sql}: {told}")).len(), rows, "{sql}");
    }
    for (sql, rows) in [
        (format!("SELECT a.n FROM {both} a JOIN {both} b ON a.e = b.d"), 7),
        (format!("SELECT a.n FROM {both} a JOIN {both} b ON a.e = b.d AND a.n = b.n"), 7),
        (format!("SELECT k FROM (SELECT e AS k FROM {both}) a JOIN (SELECT d AS k FROM {both}) b USING (k)"), 7),
        (format!("SELECT DISTINCT k FROM (SELECT e AS k FROM {both} UNION ALL SELECT d FROM {both})"), 7),
        (format!("SELECT e FROM {both} INTERSECT SELECT d FROM {both}"), 7),
        (
            "SELECT place FROM (SELECT row_number() OVER (ORDER BY n) - 1 + 316665 AS place, n FROM sales) \
             WHERE place = floor(316665.0 + n)"
                .to_owned(),
            7,
        ),
    ] {
        assert_eq!(ask(tables(), &sql).unwrap_or_else(|told| panic!("{sql}: {told}")).len(), rows, "{sql}");
    }
    for (value, shown) in [("1e30", "1e30"), ("0.0 / (x - x)", "NaN")] {
        let told =
            ask(tables(), &format!("SELECT n FROM {} s WHERE e < {value}", both.replace("n, ", "n, x, "))).unwrap_err();
        assert!(told.contains(&format!("DECIMAL(35,15) does not hold {shown}")), "{told}");
    }
}

/// With so many sessions the product of place and share is a whole number that no decimal of the engine was equal to.
#[test]
fn percentiles_of_daily_summaries_are_exact_for_any_number_of_sessions() {
    let manifest = crate::config::templates::find("daily-summaries").unwrap();
    let query = manifest.split("query: |").nth(1).unwrap().split("\n  sink:").next().unwrap();
    let timestamps = |values: Vec<i64>| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from_iter_values(values).with_timezone("UTC"))
    };
    let table = |columns: Vec<(&str, ArrayRef)>| -> Arc<dyn TableProvider> {
        let rows = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
        Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows]]).unwrap())
    };
    let texts = |text: &str| -> ArrayRef { Arc::new(StringViewArray::from_iter_values([text])) };
    for sessions in [1_i64, 2, 21, 333_333, 300_001] {
        let hours = table(vec![
            ("hour", timestamps(vec![T0])),
            ("event_type", texts("click")),
            ("app_type", texts("web")),
            ("event_count", Arc::new(Int64Array::from(vec![1]))),
        ]);
        // Each duration once, in no order: 7919 is a prime that divides none of the numbers.
        let durations = (0..sessions).map(|n| n * 7919 % sessions);
        let ones: ArrayRef = Arc::new(Int64Array::from_iter_values((0..sessions).map(|_| 1)));
        let of_sessions = table(vec![
            ("session_start", timestamps((0..sessions).map(|n| T0 + n).collect())),
            ("session_duration_sec", Arc::new(Int64Array::from_iter_values(durations))),
            ("total_clicks", Arc::clone(&ones)),
            ("unique_pages", ones),
        ]);
        let tables = InputTables::from([("hours".to_owned(), hours), ("sessions".to_owned(), of_sessions)]);
        let row: serde_json::Value = serde_json::from_str(&ask(tables, query).unwrap()[0]).unwrap();
        for (column, share) in
            [("median_session_duration", 0.5), ("p95_session_duration", 0.95), ("p99_session_duration", 0.99)]
        {
            let (found, expected) = (row[column].as_f64(), (sessions - 1) as f64 * share);
            let near = found.is_some_and(|found| (found - expected).abs() < 1e-6);
            assert!(near, "{column} of {sessions}: {found:?}, not {expected}");
        }
    }
}
