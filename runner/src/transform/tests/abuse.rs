//! Queries that try to use up stack, memory or time: an answer or an error within seconds, never the process's end.

use std::time::Duration;

use super::*;
use crate::clock::{Clock, SystemClock};

/// Nobody waits longer for `validate`.
const TIME_MAX: Duration = Duration::from_secs(5);

/// Plans, and if that works also runs the query over a full batch, on a thread with the stack that tokio gives.
fn abuse(name: &str, sql: &str) -> Result<(), String> {
    let started = SystemClock.instant();
    let result = std::thread::scope(|scope| {
        let run = || {
            let query = plan(sql).map_err(|error| error.to_string())?;
            let mut operator = query.operator();
            let lines: Vec<String> = (0..1000)
                .map(|n| {
                    format!(r#"{{"timestamp": 1, "user_id": "{}", "quantity": {n}, "tags": ["a"]}}"#, "a".repeat(50))
                })
                .collect();
            let rows = batch(&query, &lines.join("\n"));
            let ingested = operator.ingest(0, &rows, None, 1).map_err(|error| {
                std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string)
            })?;
            if let Some(refused) = ingested.refused.into_iter().next() {
                return Err(refused.why);
            }
            operator.close(i64::MAX).map_err(|error| {
                std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string)
            })?;
            Ok(())
        };
        std::thread::Builder::new().stack_size(2 << 20).spawn_scoped(scope, run).unwrap().join().unwrap()
    });
    let took = SystemClock.since(started);
    assert!(took < TIME_MAX, "{name} took {took:?}");
    result
}

#[track_caller]
fn stopped(name: &str, sql: &str, part: &str) {
    let error = abuse(name, sql).expect_err(name);
    assert!(error.contains(part), "{name}: {part:?} is not in {error:?}");
}

#[test]
fn deep_nesting_is_an_error() {
    let chain = |operator: &str, terms: usize| vec!["quantity"; terms].join(operator);
    stopped("2,000 +", &format!("SELECT {} AS x FROM app_events", chain(" + ", 2_000)), "nests deeper");
    stopped("5,000 ||", &format!("SELECT {} AS x FROM app_events", chain("||", 5_000)), "nests deeper");
    stopped(
        "3,000 OR",
        &format!("SELECT 1 AS x FROM app_events WHERE {}", vec!["flag"; 3_000].join(" OR ")),
        "nests deeper",
    );
    stopped(
        "parentheses",
        &format!("SELECT {}1{} AS x FROM app_events", "(".repeat(3_000), ")".repeat(3_000)),
        "nests deeper",
    );
    stopped("NOT", &format!("SELECT {} flag AS x FROM app_events", "NOT ".repeat(3_000)), "nests deeper");
    stopped("minus", &format!("SELECT {}1 AS x FROM app_events", "- ".repeat(9_000)), "nests deeper");
    let cases = "CASE WHEN flag THEN 1 ELSE ".repeat(1_000) + "2" + &" END".repeat(1_000);
    stopped("CASE", &format!("SELECT {cases} AS x FROM app_events"), "nests deeper");
    let subqueries = "SELECT * FROM (".repeat(500) + "SELECT user_id FROM app_events" + &")".repeat(500);
    stopped("subqueries", &subqueries, "nests deeper");
    stopped("casts", &format!("SELECT quantity{} AS x FROM app_events", "::BIGINT".repeat(5_000)), "nests deeper");
    stopped(
        "calls",
        &format!("SELECT {}user_id{} AS x FROM app_events", "upper(".repeat(2_000), ")".repeat(2_000)),
        "nests deeper",
    );
    stopped(
        "array types",
        &format!("SELECT CAST(quantity AS {}INT{}) AS x FROM app_events", "ARRAY<".repeat(2_000), ">".repeat(2_000)),
        "nests deeper",
    );
    stopped(
        "array types in brackets",
        &format!("SELECT CAST(tags AS TEXT{}) AS x FROM app_events", "[]".repeat(20_000)),
        "nests deeper",
    );
    stopped(
        "types as text",
        &format!("SELECT arrow_cast(tags, '{}Utf8{}') AS x FROM app_events", "List(".repeat(5_000), ")".repeat(5_000)),
        "no function arrow_cast",
    );
    let mut lists = "SELECT quantity AS x FROM app_events".to_owned();
    for _ in 0..30 {
        lists = format!("SELECT [[[x]]] AS x FROM ({lists})");
    }
    stopped("lists of lists", &lists, "nests deeper");
    stopped("brackets", &format!("SELECT tags{} AS x FROM app_events", "[1]".repeat(9_000)), "array_element");
    for (count, terms, part) in [
        (3, 240, "when its subqueries are put in"),
        (30, 240, "too many expressions that nest deeply"),
        (30, 30, "when its subqueries are put in"),
    ] {
        let mut merged = "SELECT user_id AS x FROM app_events".to_owned();
        for _ in 0..count {
            merged = format!("SELECT x{} AS x FROM ({merged})", " || 'a'".repeat(terms));
        }
        stopped("merged subqueries", &merged, part);
    }
}

#[test]
fn what_is_allowed_to_nest_runs_on_an_ordinary_stack() {
    let sum = vec!["quantity"; 250].join(" + ");
    abuse("250 +", &format!("SELECT {sum} AS x FROM app_events")).unwrap();
    let conditions: Vec<String> = (0..250).map(|n| format!("user_id = 'user {n}'")).collect();
    abuse(
        "250 OR",
        &format!(
            "SELECT count(*) AS x FROM app_events WHERE {} GROUP BY tumble(timestamp, INTERVAL '1 minute')",
            conditions.join(" OR ")
        ),
    )
    .unwrap();
    abuse("250 calls of one value", &format!("SELECT user_id{} AS x FROM app_events", " || 'x'".repeat(250))).unwrap();
    let nested = "(".repeat(40) + "quantity" + &" + 1)".repeat(40);
    abuse("40 parentheses", &format!("SELECT {nested} AS x FROM app_events")).unwrap();
    let subqueries = "SELECT * FROM (".repeat(20) + "SELECT user_id, quantity FROM app_events" + &")".repeat(20);
    abuse("20 subqueries", &subqueries).unwrap();
    let cases = "CASE WHEN quantity > 5 THEN 1 ELSE ".repeat(30) + "2" + &" END".repeat(30);
    abuse("30 CASE", &format!("SELECT {cases} AS x FROM app_events")).unwrap();
}

#[test]
fn long_queries_end_in_time() {
    let numbers: Vec<String> = (0..9_000).map(|n| n.to_string()).collect();
    abuse("IN list", &format!("SELECT user_id FROM app_events WHERE quantity IN ({})", numbers.join(","))).unwrap();
    let texts: Vec<String> = (0..6_000).map(|n| format!("'{n}'")).collect();
    abuse("IN list of text", &format!("SELECT user_id FROM app_events WHERE user_id NOT IN ({})", texts.join(",")))
        .unwrap();
    let columns: Vec<String> = (0..1_000).map(|n| format!("quantity + {n} AS column_{n}")).collect();
    abuse("1,000 columns", &format!("SELECT {} FROM app_events", columns.join(", "))).unwrap();
    let sums: Vec<String> = (0..300).map(|n| format!("sum(quantity + {n}) AS sum_{n}")).collect();
    abuse(
        "300 aggregates",
        &format!("SELECT {} FROM app_events GROUP BY tumble(timestamp, INTERVAL '1 minute')", sums.join(", ")),
    )
    .unwrap();
    stopped(
        "too long",
        &format!("SELECT 1 AS x FROM app_events WHERE user_id = '{}'", "x".repeat(70_000)),
        "at most 65536",
    );
    stopped("long comment", &format!("SELECT 1 AS x /*{}*/ FROM app_events", "x".repeat(70_000)), "at most 65536");
    stopped("branches", &vec!["SELECT user_id FROM app_events"; 1_000].join(" UNION ALL "), "branches");
    abuse("20 branches", &vec!["SELECT user_id FROM app_events"; 20].join(" UNION ALL ")).unwrap();
}

#[test]
fn functions_that_make_much_of_little_are_stopped() {
    stopped("repeat", "SELECT repeat('x', 1000000000) AS x FROM app_events", "repeat would make 1000000000 bytes");
    stopped("repeat of a column", "SELECT repeat(user_id, 100000000) AS x FROM app_events", "repeat would make");
    stopped(
        "repeat by a column",
        "SELECT repeat(user_id, quantity * 1000000) AS x FROM app_events",
        "repeat would make",
    );
    stopped(
        "repeat in a filter",
        "SELECT user_id FROM app_events WHERE length(repeat('x', 2000000000)) > 5",
        "repeat would make",
    );
    stopped(
        "repeat below a window",
        "SELECT max(repeat('x', 1000000000)) AS x FROM app_events GROUP BY tumble(timestamp, INTERVAL '1 minute')",
        "repeat would make",
    );
    stopped(
        "repeat above a window",
        "SELECT repeat('x', 1000000000) AS x FROM app_events GROUP BY tumble(timestamp, INTERVAL '1 minute')",
        "repeat would make",
    );
    stopped(
        "repeat by a hidden constant",
        "SELECT repeat('x', 500000000 + 500000000) AS x FROM app_events",
        "repeat would make",
    );
    stopped("lpad", "SELECT lpad(user_id, 2000000000) AS x FROM app_events", "lpad would make");
    stopped("rpad", "SELECT rpad('a', 2000000000, 'b') AS x FROM app_events", "rpad would make");
    stopped("range", "SELECT range(0, 1000000000000) AS x FROM app_events", "would make");
    stopped("generate_series", "SELECT unnest(generate_series(1, 1000000000000)) AS x FROM app_events", "would make");
    stopped(
        "range of times",
        "SELECT range(TIMESTAMP '1970-01-01', TIMESTAMP '2200-01-01', INTERVAL '1 second') AS x FROM app_events",
        "would make",
    );
    stopped("array_repeat", "SELECT array_repeat(user_id, 1000000000) AS x FROM app_events", "array_repeat would make");
    stopped("array_resize", "SELECT array_resize(tags, 2000000000) AS x FROM app_events", "would make");
    stopped(
        "replace",
        &format!("SELECT replace(user_id, 'a', '{}') AS x FROM app_events", "b".repeat(60_000)),
        "replace would make",
    );
    stopped(
        "replace of nothing",
        &format!("SELECT replace(user_id, '', '{}') AS x FROM app_events", "b".repeat(60_000)),
        "replace would make",
    );
    let mut doubled = "SELECT user_id AS s FROM app_events".to_owned();
    for _ in 0..12 {
        doubled = format!("SELECT s || s AS s FROM ({doubled})");
    }
    stopped("doubling", &doubled, "uses of other values");
    abuse(
        "ordinary repeat",
        "SELECT repeat(user_id, 10) AS x, lpad(user_id, 80, '.') AS y, range(0, quantity) AS z FROM app_events",
    )
    .unwrap();
    abuse(
        "ordinary replace",
        "SELECT replace(user_id, 'a', 'bc') AS x, regexp_replace(user_id, 'a+', 'words', 'g') AS y FROM app_events",
    )
    .unwrap();
}

#[test]
fn patterns_are_limited() {
    stopped("size of a pattern", r"SELECT regexp_like(user_id, '(a{1000}){1000}') AS x FROM app_events", "");
    abuse("a pattern that backtracks elsewhere", r"SELECT regexp_like(user_id || 'b', '^(a+)+$') AS x FROM app_events")
        .unwrap();
    abuse("LIKE with many wildcards", &format!("SELECT user_id LIKE '{}b' AS x FROM app_events", "%a".repeat(200)))
        .unwrap();
}

#[test]
fn odd_text_is_an_error_or_a_query() {
    for sql in [
        "SELECT \u{0} FROM app_events",
        "SELECT 'a\u{0}b' AS x FROM app_events",
        "SELECT \u{202e}user_id FROM app_events",
        "🦀",
        "SELECT 🦀 FROM app_events",
        "SELECT 'x",
        "SELECT \"x",
        "SELECT /* x",
        "SELECT $$x",
        "SELECT E'\\u{110000}' FROM app_events",
        "((((",
        "SELECT user_id FROM app_events WHERE",
        "SELECT 999999999999999999999999999999999999999999999 AS x FROM app_events",
        "SELECT 1e999 AS x FROM app_events",
        "SELECT CAST('9999-99-99' AS DATE) AS x FROM app_events",
        "SELECT 1/0 AS x FROM app_events",
        "SELECT quantity % 0 AS x FROM app_events",
        "SELECT -9223372036854775808 - quantity AS x FROM app_events",
        "SELECT tags[9999999999] AS x FROM app_events",
        "SELECT INTERVAL '99999999999999999999 years' AS x FROM app_events",
        "SELECT count(*) AS n FROM app_events GROUP BY tumble(timestamp, INTERVAL '99999999 days')",
        "SELECT count(*) AS n FROM app_events GROUP BY tumble(timestamp, INTERVAL '1 microsecond')",
        "SELECT date_trunc('fortnight', timestamp) AS x FROM app_events",
        "SELECT to_char(timestamp, '%Q%') AS x FROM app_events",
        "SELECT arrow_cast(quantity, 'Nonsense') AS x FROM app_events",
        "SELECT chr(99999999999) AS x FROM app_events",
        "SELECT substr(user_id, -9223372036854775808, 9223372036854775807) AS x FROM app_events",
        "SELECT round(amount, 2147483647) AS x FROM app_events",
        "SELECT factorial(99999) AS x FROM app_events",
        "SELECT power(quantity, 999999) AS x FROM app_events",
        "SELECT make_date(999999999, 99, 99) AS x FROM app_events",
        "SELECT percentile_cont(7) WITHIN GROUP (ORDER BY quantity) AS x FROM app_events \
         GROUP BY tumble(timestamp, INTERVAL '1 minute')",
    ] {
        // Either is fine; that it comes back is the point.
        let _ = abuse(sql, sql);
    }
}
