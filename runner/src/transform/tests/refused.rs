//! What is refused, with its reason and what would work.

use super::*;

const WINDOW: &str = "GROUP BY tumble(timestamp, INTERVAL '1 minute')";
const COUNT: &str = "SELECT count(*) AS n FROM app_events";
/// Rows of closed windows, as a table to select from.
const WINDOWS: &str =
    "(SELECT window_start, window_end, user_id, count(*) AS n FROM app_events WINDOW_CLAUSE, user_id)";

#[track_caller]
fn refused(sql: &str, parts: &[&str]) -> QueryError {
    let sql = sql.replace("WINDOWS", WINDOWS).replace("COUNT_ALL", COUNT).replace("WINDOW_CLAUSE", WINDOW);
    let Err(error) = plan(&sql) else { panic!("this was planned: {sql}") };
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}\n{sql}");
    }
    error
}

#[test]
fn statements_other_than_a_query() {
    for (sql, word) in [
        ("CREATE TABLE t AS SELECT * FROM app_events", "CREATE"),
        ("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'", "CREATE"),
        ("CREATE VIEW v AS SELECT 1", "CREATE"),
        ("CREATE FUNCTION f() RETURNS INT AS 'x'", "CREATE"),
        ("DROP TABLE app_events", "DROP"),
        ("ALTER TABLE app_events ADD COLUMN x INT", "ALTER"),
        ("TRUNCATE TABLE app_events", "TRUNCATE"),
        ("INSERT INTO app_events VALUES (1)", "INSERT"),
        ("UPDATE app_events SET user_id = 'x'", "UPDATE"),
        ("DELETE FROM app_events", "DELETE"),
        ("MERGE INTO app_events USING app_events ON true WHEN MATCHED THEN DELETE", "MERGE"),
        ("COPY app_events TO '/tmp/x.csv'", "COPY"),
        ("COPY (SELECT * FROM app_events) TO 's3://bucket/x'", "COPY"),
        ("SET datafusion.execution.batch_size = 1", "SET"),
        ("SHOW TABLES", "SHOW"),
        ("SHOW ALL", "SHOW"),
        ("DESCRIBE app_events", "DESCRIBE"),
        ("EXPLAIN SELECT * FROM app_events", "EXPLAIN"),
        ("EXPLAIN ANALYZE SELECT * FROM app_events", "EXPLAIN"),
        ("PREPARE p AS SELECT 1", "PREPARE"),
        ("EXECUTE p", "EXECUTE"),
        ("BEGIN", "BEGIN"),
        ("COMMIT", "COMMIT"),
        ("USE other", "USE"),
        ("ATTACH DATABASE 'x' AS y", "ATTACH"),
        ("CALL procedure()", "CALL"),
        ("GRANT SELECT ON app_events TO me", "GRANT"),
        ("LOAD DATA INPATH '/x' INTO TABLE t", "LOAD"),
        ("ANALYZE TABLE app_events", "ANALYZE"),
        ("VALUES (1), (2)", "VALUES"),
        ("TABLE app_events", "TABLE"),
        ("FROM app_events", "FROM"),
        ("42", "42"),
    ] {
        let error = refused(sql, &[&format!("{word} does not run in a job"), "SELECT or WITH"]);
        assert_eq!(error.position.map(|position| (position.line, position.column)), Some((1, 1)), "{sql}");
    }
    refused("", &["empty"]);
    refused(" -- nothing\n;", &["empty"]);
    refused("SELECT user_id FROM app_events; SELECT user_id FROM app_events", &["several statements"]);
    refused("SELECT user_id FROM app_events; DROP TABLE app_events", &["several statements", "line 1, column 31"]);
}

#[test]
fn clauses_that_no_stream_can_have() {
    for (sql, parts) in [
        ("SELECT user_id FROM app_events LIMIT 10", &["LIMIT", "no end", "ROW_NUMBER", "line 1, column 38"][..]),
        ("SELECT user_id FROM app_events OFFSET 10", &["LIMIT and OFFSET"]),
        ("SELECT window_start FROM app_events WINDOW_CLAUSE LIMIT 1", &["LIMIT", "PARTITION BY window_start"]),
        ("SELECT user_id FROM app_events FETCH FIRST 3 ROWS ONLY", &["FETCH"]),
        ("SELECT TOP 3 user_id FROM app_events", &["TOP"]),
        ("SELECT user_id INTO t FROM app_events", &["SELECT INTO"]),
        ("SELECT user_id FROM app_events FOR UPDATE", &["FOR UPDATE"]),
        (
            "SELECT user_id FROM app_events ORDER BY user_id",
            &["ORDER BY without a window", "leave it out", "column 41"],
        ),
        ("SELECT user_id FROM (SELECT user_id FROM app_events ORDER BY user_id)", &["ORDER BY in a subquery"]),
        (
            "SELECT DISTINCT user_id FROM app_events",
            &["DISTINCT without a window", "tumble(timestamp", "line 1, column 1"],
        ),
        ("SELECT DISTINCT ON (user_id) user_id FROM app_events", &["DISTINCT ON", "first_value"]),
        (
            "SELECT user_id FROM app_events UNION SELECT app_type FROM app_events",
            &["UNION without ALL", "use UNION ALL"],
        ),
        ("SELECT user_id FROM app_events EXCEPT SELECT app_type FROM app_events", &["EXCEPT", "no end"]),
        ("SELECT user_id FROM app_events INTERSECT SELECT app_type FROM app_events", &["INTERSECT"]),
        ("SELECT user_id FROM app_events MINUS SELECT app_type FROM app_events", &["MINUS"]),
        (
            "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT n FROM r",
            &["RECURSIVE", "never ends"],
        ),
        (
            "SELECT user_id FROM app_events WHERE user_id IN (SELECT user_id FROM app_events)",
            &["a subquery inside an expression", "column 38"],
        ),
        (
            "SELECT user_id FROM app_events WHERE EXISTS (SELECT 1 FROM app_events)",
            &["a subquery inside an expression"],
        ),
        ("SELECT (SELECT max(quantity) FROM app_events) AS m FROM app_events", &["a subquery inside an expression"]),
        (
            "SELECT quantity > ANY (SELECT quantity FROM app_events) AS m FROM app_events",
            &["a subquery inside an expression"],
        ),
        ("SELECT user_id FROM app_events WHERE user_id = $1", &["placeholder"]),
        ("SELECT user_id FROM app_events WHERE user_id = ?", &["placeholder"]),
        ("SELECT @@version FROM app_events", &["@@version"]),
        ("SELECT user_id FROM app_events SORT BY user_id", &["SORT BY"]),
        ("SELECT user_id FROM app_events CLUSTER BY user_id", &["CLUSTER BY"]),
        ("SELECT user_id FROM app_events DISTRIBUTE BY user_id", &["DISTRIBUTE BY"]),
        ("SELECT user_id, rank() OVER w AS r FROM app_events WINDOW w AS (PARTITION BY user_id)", &["WINDOW … AS"]),
    ] {
        refused(sql, parts);
    }
}

#[test]
fn tables_that_are_not_the_source() {
    for (sql, parts) in [
        ("SELECT 1 AS x", &["no FROM", "FROM app_events"][..]),
        ("SELECT * FROM app_event", &["no table app_event", "did you mean app_events?", "line 1, column 15"]),
        ("SELECT * FROM users", &["no table users", "the tables of this job are: app_events"]),
        ("SELECT * FROM public.app_events", &["no table public.app_events"]),
        ("SELECT * FROM information_schema.tables", &["no table information_schema.tables"]),
        ("SELECT * FROM '/etc/passwd'", &["no table '/etc/passwd'"]),
        ("SELECT * FROM \"file:///etc/passwd\"", &["no table"]),
        ("SELECT * FROM \"s3://bucket/x.parquet\"", &["no table"]),
        ("SELECT * FROM generate_series(1, 10)", &["table function"]),
        ("SELECT * FROM read_csv('/etc/passwd')", &["table function"]),
        ("SELECT * FROM TABLE(app_events)", &["not supported"]),
        ("SELECT * FROM (VALUES (1)) AS t", &["VALUES"]),
        ("SELECT a.user_id FROM app_events AS a, app_events AS b", &["a join", "column 40"]),
        ("SELECT a.user_id FROM app_events AS a CROSS JOIN app_events AS b", &["a join"]),
        ("SELECT a.user_id FROM app_events AS a JOIN app_events AS b ON a.user_id = b.user_id", &["a join", "no end"]),
        ("SELECT a.user_id FROM app_events AS a LEFT JOIN users AS u ON a.user_id = u.user_id", &["no table users"]),
        ("SELECT t.tag FROM app_events, UNNEST(tags) AS t(tag)", &["UNNEST does not stand in FROM", "SELECT unnest("]),
        ("SELECT * FROM UNNEST([1, 2])", &["UNNEST does not stand in FROM"]),
        ("SELECT * FROM LATERAL (SELECT 1 FROM app_events) AS t", &["not supported"]),
        ("SELECT * FROM app_events WITH (NOLOCK)", &["not supported"]),
        ("SELECT * FROM app_events TABLESAMPLE BERNOULLI (10)", &["not supported"]),
        (
            "WITH app_events AS (SELECT * FROM app_events) SELECT * FROM app_events",
            &["name of a table that the job reads", "another name"],
        ),
        ("WITH a AS (SELECT * FROM b), b AS (SELECT * FROM app_events) SELECT * FROM a", &["no table b"]),
        ("SELECT input_file_name() AS f FROM app_events", &["no function input_file_name"]),
    ] {
        refused(sql, parts);
    }
}

#[test]
fn what_needs_a_window() {
    for (sql, parts) in [
        (
            "COUNT_ALL",
            &["count() without a window", "GROUP BY tumble(timestamp, INTERVAL '1 minute')", "line 1, column 8"][..],
        ),
        ("SELECT user_id, sum(amount) AS s FROM app_events GROUP BY user_id", &["sum() without a window"]),
        ("SELECT user_id FROM app_events GROUP BY user_id", &["GROUP BY without a window", "column 41"]),
        (
            "SELECT date_trunc('minute', timestamp) AS m, count(*) AS n FROM app_events GROUP BY 1",
            &["count() without a window", "tumble"],
        ),
        (
            "SELECT user_id, row_number() OVER (ORDER BY timestamp) AS r FROM app_events",
            &["row_number OVER", "no end", "PARTITION BY window_start"],
        ),
        (
            "SELECT user_id, lag(user_id) OVER (PARTITION BY user_id ORDER BY timestamp) AS r FROM app_events",
            &["lag OVER"],
        ),
        (
            "SELECT user_id FROM app_events QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY timestamp) = 1",
            &["row_number OVER"],
        ),
        ("SELECT window_start FROM app_events", &["no column window_start", "comes with a window"]),
        ("SELECT * FROM app_events GROUP BY ALL", &["GROUP BY ALL", "tumble"]),
    ] {
        refused(sql, parts);
    }
    let source = SourceTable { event_time: None, ..events() };
    let error = StreamQuery::plan(COUNT, &source.into(), BatchClock::default()).err().unwrap();
    assert!(error.to_string().contains("declare the event time of source app_events"), "{error}");
}

#[test]
fn windows_of_other_kinds_and_in_other_places() {
    for (sql, parts) in [
        (
            "COUNT_ALL GROUP BY hop(timestamp, INTERVAL '1 minute')",
            &["hop takes the event time, how often a window begins", "hop(<event time>", "column 47"][..],
        ),
        (
            "COUNT_ALL GROUP BY hop(timestamp, INTERVAL '2 minutes', INTERVAL '1 minute')",
            &["the slide of the window is longer than its length", "takes the slide first", "column 47"],
        ),
        ("COUNT_ALL GROUP BY hop(timestamp, INTERVAL '1 second', INTERVAL '1 day')", &["86400 windows, at most 1440"]),
        ("COUNT_ALL GROUP BY hop(timestamp, INTERVAL '-1 second', INTERVAL '1 day')", &["slide", "not positive"]),
        ("COUNT_ALL GROUP BY hop(timestamp, INTERVAL '1 second', 5)", &["length", "not an interval"]),
        ("COUNT_ALL GROUP BY hop(seen, INTERVAL '1 minute', INTERVAL '2 minutes')", &["hop is over seen"]),
        (
            "COUNT_ALL GROUP BY hop(timestamp, INTERVAL '1 minute', INTERVAL '2 minutes', user_id)",
            &["the last argument of hop is not a constant time", "1970-01-05"],
        ),
        (
            "SELECT max(timestamp - window_start) AS x FROM app_events \
             GROUP BY hop(timestamp, INTERVAL '1 minute', INTERVAL '2 minutes')",
            &["window_start inside an aggregate or a key of hop", "several windows", "column 24"],
        ),
        (
            "COUNT_ALL GROUP BY hop(timestamp, INTERVAL '1 minute', INTERVAL '2 minutes'), session(timestamp, INTERVAL '1 hour')",
            &["hop and session stand together", "one window"],
        ),
        ("COUNT_ALL GROUP BY session(timestamp)", &["session takes the event time, a gap", "column 47"]),
        ("COUNT_ALL GROUP BY session(timestamp, INTERVAL '0 minutes')", &["the gap of the session is not positive"]),
        ("COUNT_ALL GROUP BY session(timestamp, quantity)", &["the gap of the session is not constant"]),
        (
            "COUNT_ALL GROUP BY session(timestamp, INTERVAL '1 hour', INTERVAL '2 hours')",
            &["the greatest length of the session is less than 3 of its gaps", "24 hours"],
        ),
        (
            "SELECT count(*) FILTER (WHERE timestamp = window_start) AS n FROM app_events \
             GROUP BY session(timestamp, INTERVAL '1 hour')",
            &["window_start inside an aggregate", "when the window closes"],
        ),
        (
            "SELECT *, row_number() OVER (PARTITION BY window_start ORDER BY n) AS r FROM \
             (SELECT window_start, count(*) AS n FROM app_events GROUP BY session(timestamp, INTERVAL '1 hour'))",
            &["OVER (…) above sessions", "one by one", "batch job"],
        ),
        (
            "SELECT window_start, sum(n) AS s FROM (SELECT window_start, user_id, count(*) AS n FROM app_events \
             GROUP BY session(timestamp, INTERVAL '1 hour'), user_id) GROUP BY window_start",
            &["an aggregate above sessions"],
        ),
        (
            "SELECT window_start, count(*) AS n FROM app_events GROUP BY session(timestamp, INTERVAL '1 hour') \
             ORDER BY window_start",
            &["ORDER BY above sessions"],
        ),
        (
            "SELECT collect_list(user_id ORDER BY amount) AS l FROM app_events WINDOW_CLAUSE",
            &["collect_list has all values, in the order of events", "array_agg(x ORDER BY y)", "column 8"],
        ),
        ("SELECT collect_list(DISTINCT user_id) AS l FROM app_events WINDOW_CLAUSE", &["use collect_set(x)"]),
        (
            "SELECT window_start, collect_list(user_id) AS l FROM WINDOWS GROUP BY window_start",
            &["collect_list above the window", "array_agg(x ORDER BY y)"],
        ),
        ("SELECT collect_list(user_id) AS l FROM app_events", &["collect_list() without a window"]),
        ("COUNT_ALL GROUP BY session_window(timestamp, '5 minutes')", &["no function session_window", "use session"]),
        ("COUNT_ALL GROUP BY hopping(timestamp, '5 minutes')", &["no function hopping", "use hop"]),
        ("COUNT_ALL GROUP BY window(timestamp, '1 minute')", &["no function window", "tumble"]),
        (
            "SELECT tumble(timestamp, INTERVAL '1 minute') AS w, count(*) AS n FROM app_events GROUP BY 1",
            &["tumble stands alone in GROUP BY", "select window_start"],
        ),
        (
            "SELECT tumble(timestamp, INTERVAL '1 minute') AS w, count(*) AS n FROM app_events WINDOW_CLAUSE",
            &["tumble stands alone in GROUP BY"],
        ),
        ("COUNT_ALL GROUP BY date_trunc('hour', tumble(timestamp, INTERVAL '1 minute'))", &["tumble stands alone"]),
        ("COUNT_ALL WHERE tumble(timestamp, INTERVAL '1 minute') IS NOT NULL", &["tumble stands alone"]),
        ("COUNT_ALL WINDOW_CLAUSE, tumble(timestamp, INTERVAL '1 hour')", &["tumble stands twice", "column 87"]),
        (
            "SELECT 1 AS n FROM (SELECT timestamp FROM app_events WINDOW_CLAUSE, timestamp) \
             GROUP BY tumble(timestamp, INTERVAL '1 hour')",
            &["tumble stands twice"],
        ),
        ("COUNT_ALL GROUP BY tumble(timestamp)", &["tumble takes the event time, a length"]),
        ("COUNT_ALL GROUP BY tumble(timestamp, INTERVAL '1 minute', INTERVAL '1 second')", &["not a constant time"]),
        (
            "COUNT_ALL GROUP BY tumble(timestamp, INTERVAL '1 minute', DATE '2026-01-05', 3)",
            &["tumble takes the event time, a length"],
        ),
        ("COUNT_ALL GROUP BY tumble(seen, INTERVAL '1 minute')", &["tumble is over seen", "tumble(timestamp"]),
        (
            "COUNT_ALL GROUP BY tumble(timestamp + INTERVAL '1 second', INTERVAL '1 minute')",
            &["which is not the event time"],
        ),
        (
            "SELECT 1 AS n FROM (SELECT date_trunc('hour', timestamp) AS timestamp FROM app_events) WINDOW_CLAUSE",
            &["which is not the event time"],
        ),
        (
            "SELECT 1 AS n FROM (SELECT timestamp FROM app_events UNION ALL SELECT seen FROM app_events) WINDOW_CLAUSE",
            &["which is not the event time"],
        ),
        ("COUNT_ALL GROUP BY tumble(timestamp, INTERVAL '1 month')", &["months or years", "INTERVAL '1 minute'"]),
        ("COUNT_ALL GROUP BY tumble(timestamp, INTERVAL '0 seconds')", &["not positive"]),
        ("COUNT_ALL GROUP BY tumble(timestamp, INTERVAL '-1 minute')", &["not positive"]),
        ("COUNT_ALL GROUP BY tumble(timestamp, INTERVAL '1 nanosecond')", &["parts of a microsecond"]),
        ("COUNT_ALL GROUP BY tumble(timestamp, '1 minute')", &["not an interval"]),
        ("COUNT_ALL GROUP BY tumble(timestamp, 60)", &["not an interval"]),
        ("COUNT_ALL GROUP BY tumble(timestamp, CASE WHEN flag THEN INTERVAL '1 minute' END)", &["not constant"]),
        ("COUNT_ALL GROUP BY ROLLUP (user_id), tumble(timestamp, INTERVAL '1 minute')", &["ROLLUP"]),
        (
            "COUNT_ALL GROUP BY GROUPING SETS ((user_id), ()), tumble(timestamp, INTERVAL '1 minute')",
            &["GROUPING SETS"],
        ),
        (
            "COUNT_ALL WHERE window_start IS NOT NULL WINDOW_CLAUSE",
            &["no column window_start", "is known where the window is grouped"],
        ),
        (
            "SELECT \"tumble\"(timestamp, INTERVAL '1 minute') AS w FROM app_events",
            &["tumble stands alone in GROUP BY"],
        ),
        ("SELECT \"window_start of the window\"() AS w FROM app_events WINDOW_CLAUSE", &["no function"]),
        (
            "SELECT e.window_start FROM app_events AS e WINDOW_CLAUSE",
            &["belongs to no table", "write window_start alone", "column 10"],
        ),
        ("WITH w AS (SELECT window_start FROM app_events WINDOW_CLAUSE) SELECT user_id FROM app_events", &["not read"]),
        (
            "WITH w AS (SELECT window_start FROM app_events WINDOW_CLAUSE) SELECT * FROM w UNION ALL SELECT * FROM w",
            &["read twice"],
        ),
        (
            "SELECT timestamp FROM app_events UNION ALL SELECT window_start FROM app_events WINDOW_CLAUSE",
            &["cannot be combined"],
        ),
        (
            "SELECT window_start FROM (SELECT timestamp, seen AS window_start FROM app_events) WINDOW_CLAUSE",
            &["column below the window is called window_start", "other_name"],
        ),
    ] {
        refused(sql, parts);
    }
    let source = SourceTable { event_time: None, ..events() };
    let error = StreamQuery::plan(&format!("{COUNT} {WINDOW}"), &source.into(), BatchClock::default()).err().unwrap();
    assert!(error.to_string().contains("needs the event time"), "{error}");
}

#[test]
fn functions_that_change_below_a_window() {
    for (sql, parts) in [
        (
            "COUNT_ALL WHERE timestamp > now() - INTERVAL '1 hour' WINDOW_CLAUSE",
            &["now() below the window", "crash", "column 56"][..],
        ),
        ("COUNT_ALL WHERE random() < 0.5 WINDOW_CLAUSE", &["random() below the window"]),
        ("SELECT count(DISTINCT uuid()) AS n FROM app_events WINDOW_CLAUSE", &["uuid() below the window"]),
        ("COUNT_ALL WINDOW_CLAUSE, current_date", &["current_date() below the window"]),
        (
            "SELECT max(current_timestamp - timestamp) AS n FROM app_events WINDOW_CLAUSE",
            &["current_timestamp() below the window", "column 12"],
        ),
        (
            "SELECT count(*) AS n FROM (SELECT timestamp, now() AS seen_at FROM app_events) WINDOW_CLAUSE",
            &["now() below the window"],
        ),
    ] {
        refused(sql, parts);
    }
}

#[test]
fn aggregates_that_depend_on_the_order_of_arrival() {
    for (aggregate, parts) in [
        ("array_agg(user_id)", &["array_agg depends on the order", "collect_set(x)"][..]),
        ("array_agg(DISTINCT user_id)", &["array_agg depends on the order", "collect_set(x)"]),
        ("string_agg(user_id, ',')", &["string_agg depends on the order", "ORDER BY"]),
        ("first_value(user_id)", &["first_value depends on the order", "first_value(x ORDER BY y)"]),
        ("last_value(user_id)", &["last_value depends on the order", "last_value(x ORDER BY y)"]),
        ("nth_value(user_id, 2)", &["nth_value depends on the order"]),
        ("any_value(user_id)", &["any_value depends on the order", "min(x)"]),
        ("collect_set(user_id ORDER BY user_id)", &["collect_set is always sorted"]),
        ("max(array_agg(user_id))", &["nested"]),
        ("nth_value(user_id, quantity ORDER BY user_id)", &["second argument of nth_value"]),
        ("nth_value(user_id, 0 ORDER BY user_id)", &["second argument of nth_value"]),
    ] {
        refused(&format!("SELECT {aggregate} AS x FROM app_events WINDOW_CLAUSE"), parts);
    }
    refused(
        "SELECT window_start, array_agg(n) AS all_n FROM WINDOWS GROUP BY window_start",
        &["array_agg depends on the order"],
    );
}

#[test]
fn what_mixes_windows_above_them() {
    for (sql, parts) in [
        (
            "SELECT user_id, sum(n) AS s FROM WINDOWS GROUP BY user_id",
            &["sum() above the window", "GROUP BY window_start"][..],
        ),
        ("SELECT sum(n) AS s FROM WINDOWS", &["sum() above the window"]),
        ("SELECT CAST(window_start AS DATE) AS day, sum(n) AS s FROM WINDOWS GROUP BY 1", &["sum() above the window"]),
        ("SELECT window_start, sum(n) AS s FROM WINDOWS GROUP BY ROLLUP (window_start)", &["ROLLUP"]),
        ("SELECT DISTINCT user_id FROM WINDOWS", &["DISTINCT above the window", "select window_start"]),
        ("SELECT user_id, n FROM WINDOWS ORDER BY n", &["ORDER BY sorts all rows", "ORDER BY window_start"]),
        ("SELECT window_start, user_id FROM WINDOWS ORDER BY window_start DESC", &["ORDER BY sorts all rows"]),
        ("SELECT window_start, user_id FROM WINDOWS ORDER BY user_id, window_start", &["ORDER BY sorts all rows"]),
        (
            "SELECT user_id, row_number() OVER (ORDER BY n) AS r FROM WINDOWS",
            &["row_number OVER", "PARTITION BY window_start"],
        ),
        ("SELECT user_id, sum(n) OVER (PARTITION BY user_id) AS r FROM WINDOWS", &["sum OVER"]),
        (
            "SELECT user_id, row_number() OVER (PARTITION BY window_start) AS r FROM WINDOWS",
            &["row_number OVER", "without ORDER BY"],
        ),
        (
            "SELECT sum(n) OVER (PARTITION BY window_start ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS r FROM WINDOWS",
            &["sum OVER", "without ORDER BY"],
        ),
        ("SELECT a.n FROM WINDOWS AS a JOIN WINDOWS AS b ON a.n = b.n", &["a join"]),
        (
            "SELECT 1 AS x FROM (SELECT count(*) AS n, timestamp FROM app_events GROUP BY timestamp) WINDOW_CLAUSE",
            &["count() below the window"],
        ),
        (
            "SELECT count(*) AS x FROM (SELECT DISTINCT user_id, timestamp FROM app_events) WINDOW_CLAUSE",
            &["DISTINCT below the window", "count(DISTINCT x)"],
        ),
        (
            "SELECT 1 AS x FROM (SELECT timestamp, rank() OVER (ORDER BY flag) AS r FROM app_events) WINDOW_CLAUSE",
            &["rank OVER (…) below the window"],
        ),
    ] {
        refused(sql, parts);
    }
    refused(
        "SELECT user_id, count(*) AS n FROM app_events WINDOW_CLAUSE, user_id ORDER BY window_end",
        &["an edge of the window that is not selected"],
    );
}

#[test]
fn names_and_types_that_do_not_fit() {
    for (sql, parts) in [
        ("SELECT\n  usr_id\nFROM app_events", &["no column usr_id", "did you mean user_id?", "line 2, column 3"][..]),
        ("SELECT user_id FROM app_events WHERE evnt_type = 'x'", &["no column evnt_type", "event_type", "column 38"]),
        ("SELECT e.usr FROM app_events AS e", &["no column usr", "the columns are: user_id"]),
        (
            "SELECT user_id FROM (SELECT event_type FROM app_events)",
            &["no column user_id", "the columns are: event_type"],
        ),
        (
            "SELECT cuont(user_id) AS n FROM app_events WINDOW_CLAUSE",
            &["no function cuont", "did you mean count?", "line 1, column 8"],
        ),
        ("SELECT frobnicate(user_id) AS n FROM app_events", &["no function frobnicate", "docs/sql.md lists"]),
        (
            "SELECT get_json_object(user_id, '$.a') AS n FROM app_events",
            &["no function get_json_object", "declare the field"],
        ),
        (
            "SELECT user_id, count(*) AS n FROM app_events WINDOW_CLAUSE",
            &["user_id is neither in GROUP BY nor inside an aggregate", "collect_set(user_id)", "column 8"],
        ),
        ("COUNT_ALL WINDOW_CLAUSE HAVING amount > 1", &["amount is neither in GROUP BY"]),
        ("SELECT sum(user_id) AS n FROM app_events WINDOW_CLAUSE", &["sum does not take VARCHAR", "column 8"]),
        ("SELECT upper(user_id, app_type) AS n FROM app_events", &["upper", "column 8"]),
        ("SELECT tags + 1 AS n FROM app_events", &["does not take"]),
        ("SELECT 1 AS n FROM app_events WHERE quantity", &["non-boolean", "quantity", "column 37"]),
        ("SELECT user_id, user_id FROM app_events", &["the output has two columns user_id", "AS name", "column 8"]),
        ("SELECT user_id, app_type AS USER_ID FROM app_events", &["user_id"]),
        ("SELECT user_id AS a, app_type AS \"A\" FROM app_events", &["two columns A, case aside"]),
        ("SELECT timestamp - seen AS gap FROM app_events", &["gap is a difference of times", "date_part('epoch'"]),
        ("SELECT INTERVAL '1 day' AS gap FROM app_events", &["gap is an interval"]),
        ("SELECT NULL AS nothing FROM app_events", &["nothing is always null", "CAST(NULL AS VARCHAR)"]),
        ("SELECT CAST(price AS DECIMAL(60, 2)) AS wide FROM app_events", &["wide has more than 38 digits"]),
        ("SELECT tags FROM app_events WHERE unnest(tags) = 'a'", &["unnest stands in the SELECT list", "column 35"]),
    ] {
        refused(sql, parts);
    }
}

#[test]
fn sources_that_do_not_fit() {
    let plan = |source: &SourceTable| {
        StreamQuery::plan("SELECT user_id FROM app_events", &source.clone().into(), BatchClock::default())
            .err()
            .unwrap()
            .to_string()
    };
    let missing = plan(&SourceTable { event_time: Some("timestmp".into()), ..events() });
    assert!(missing.contains("timestmp is no column") && missing.contains("did you mean timestamp?"), "{missing}");
    let text = plan(&SourceTable { event_time: Some("user_id".into()), ..events() });
    assert!(text.contains("declare it as timestamp"), "{text}");
}

#[test]
fn what_other_engines_write_is_told_what_is_written_here() {
    let tumble = "GROUP BY tumble(";
    for (sql, parts) in [
        (
            "SELECT window_start, count(*) FROM TABLE(TUMBLE(TABLE app_events, DESCRIPTOR(timestamp), INTERVAL '1' MINUTE)) GROUP BY window_start",
            &["tumble(…) makes no table in FROM", tumble, "column 42"][..],
        ),
        ("SELECT * FROM TABLE(HOP(TABLE app_events, DESCRIPTOR(timestamp), 1, 2))", &["GROUP BY hop("]),
        ("SELECT * FROM TUMBLE(TABLE app_events, DESCRIPTOR(timestamp), 1)", &[tumble]),
        ("SELECT * FROM tumble(app_events, timestamp, INTERVAL '1 minute')", &[tumble]),
        ("SELECT * FROM session(app_events, timestamp, INTERVAL '1 minute')", &["GROUP BY session("]),
        (
            "SELECT count(*) AS n FROM app_events GROUP BY tumble(app_events, timestamp, INTERVAL '1 minute')",
            &["app_events is a table", "FROM app_events GROUP BY tumble(<event time>", "column 47"],
        ),
        (
            "SELECT count(*) AS n FROM app_events GROUP BY hop(app_events, timestamp, INTERVAL '1 minute', INTERVAL '5 minutes')",
            &["app_events is a table", "GROUP BY hop(<event time>"],
        ),
        (
            "SELECT user_id FROM app_events FOR SYSTEM_TIME AS OF timestamp",
            &["FOR SYSTEM_TIME", "present rows", tumble],
        ),
        (
            "SELECT a.user_id FROM app_events AS a JOIN app_events FOR SYSTEM_TIME AS OF a.timestamp AS b ON a.user_id = b.user_id",
            &["FOR SYSTEM_TIME", tumble],
        ),
        ("SELECT user_id + 'x' AS y FROM app_events", &["+ does not take VARCHAR and VARCHAR", "||"]),
        ("SELECT 'x' + user_id AS y FROM app_events", &["||"]),
        ("SELECT user_id -> 'p' AS y FROM app_events", &["JSON", "json_get_str(j, 'key')"]),
        ("SELECT properties -> 'pageUrl' AS y FROM app_events", &["not a struct", "column['field']"]),
    ] {
        refused(sql, parts);
    }
}

/// Words of the engine's inside, that say nothing to who wrote a query.
const ENGINE: [&str; 16] = [
    "ExprPlanner",
    "DataFusion",
    "datafusion",
    "feature",
    "Utf8",
    "Int64",
    "Float64",
    "Decimal128",
    "LogicalPlan",
    "PhysicalExpr",
    "TypeSignature",
    "Coercible",
    "Exact(",
    "ScalarValue",
    "Arrow",
    "NativeType",
];

#[test]
fn no_refusal_speaks_of_the_inside_of_the_engine() {
    for expression in [
        "user_id + 'x'",
        "user_id - 1",
        "- user_id",
        "NOT quantity",
        "quantity AND flag",
        "tags + 1",
        "properties + 1",
        "properties -> 'pageUrl'",
        "user_id -> 'a'",
        "tags -> 0",
        "extract(furlongs FROM timestamp)",
        "extract(hour FROM user_id)",
        "date_trunc('hour', quantity)",
        "date_trunc(quantity, timestamp)",
        "date_bin('x', timestamp)",
        "to_char(timestamp)",
        "substring(quantity FROM 1 FOR 2)",
        "position('a' IN quantity)",
        "overlay(user_id PLACING 1 FROM 'x')",
        "trim(quantity)",
        "upper()",
        "upper(user_id, user_id)",
        "round(user_id)",
        "power(user_id, 2)",
        "concat()",
        "coalesce(user_id, quantity, tags)",
        "nullif(user_id)",
        "greatest(user_id, tags)",
        "CASE WHEN flag THEN user_id ELSE tags END",
        "CASE WHEN user_id THEN 1 END",
        "CAST(tags AS INT)",
        "CAST(user_id AS FURLONG)",
        "CAST(user_id AS XML)",
        "user_id BETWEEN 1 AND tags",
        "user_id IN (1, tags)",
        "user_id LIKE 1",
        "quantity LIKE 'a'",
        "user_id SIMILAR TO 'a%'",
        "user_id ~ 1",
        "array_length(user_id)",
        "array_filter(user_id, x -> x)",
        "array_transform(tags, 1)",
        "unnest(user_id)",
        "tags[1:'a']",
        "properties['nothing']",
        "properties.nothing",
        "user_id.nothing",
        "map(user_id)",
        "named_struct(user_id)",
        "struct(1).c9",
        "INTERVAL 'x'",
        "INTERVAL '1 furlong'",
        "timestamp + 1",
        "timestamp + user_id",
        "timestamp AT TIME ZONE 'Nowhere/Town'",
        "DATE 'x'",
        "x'zz'",
        "user_id COLLATE \"de\"",
        "quantity = ANY(tags)",
        "quantity = ALL(tags)",
        "user_id IS JSON",
        "MATCH (user_id) AGAINST ('x')",
        "quantity::REGCLASS",
        "CONVERT(user_id, CHAR)",
        "lambda(x)",
        "x -> x",
        "sum(user_id) OVER (PARTITION BY user_id)",
        "json_get_str(quantity, 1)",
        "regexp_like(quantity, 1)",
        "mask_hmac(user_id, user_id)",
        "parse_timestamp(quantity)",
        "sha2(user_id)",
        "lookup(tags, 1, 2)",
        "1 & user_id",
        "user_id << 2",
        "2 ^ user_id",
        "!flag",
        "|/ user_id",
        "user_id @> 'a'",
        "tags @> quantity",
        "timestamp OVERLAPS seen",
        "GROUPING(user_id)",
        "EXISTS (SELECT 1)",
        "ROW(1, 2)",
        "(1, 2)",
        "ARRAY[1, 'a', tags]",
        "{'a': user_id}",
        "MAP {user_id: 1, 2}",
        "TRY_CONVERT(INT, user_id)",
    ] {
        for sql in [
            format!("SELECT {expression} AS y FROM app_events"),
            format!("SELECT user_id FROM app_events WHERE {expression}"),
            format!("SELECT max({expression}) AS y FROM app_events {WINDOW}"),
            format!("SELECT sum({expression}) AS y FROM app_events {WINDOW}"),
        ] {
            let Err(error) = plan(&sql) else { continue };
            let text = error.to_string();
            let word = ENGINE.iter().find(|word| text.contains(**word) && !expression.contains(**word));
            assert_eq!(word, None, "{sql}: {text}");
            assert!(text.len() < 600 && !text.contains('\n'), "{sql}: {text}");
        }
    }
}
