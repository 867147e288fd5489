//! What queries answer.

use super::*;

/// Six events of two users in two minutes.
const EVENTS: &str = r#"
    {"timestamp": 1, "user_id": "u1", "event_type": "click", "app_type": "web", "session_id": "s2", "amount": 1.5,
     "quantity": 3, "price": "10.25", "tags": ["b", "a"], "deviceType": "tv",
     "properties": {"pageUrl": "/x", "sizes": [1, 2]}}
    {"timestamp": 2, "user_id": "u1", "event_type": "click", "app_type": "web", "session_id": "s1", "amount": 2.5,
     "quantity": 1, "price": "1.00", "tags": [], "flag": true}
    {"timestamp": 59.999999, "user_id": "u1", "event_type": "purchase", "app_type": "web", "session_id": "s1",
     "quantity": 7, "flag": false}
    {"timestamp": 30, "user_id": "u2", "event_type": "click", "app_type": "api", "amount": 4, "quantity": 2}
    {"timestamp": 60, "user_id": "u2", "event_type": "click", "app_type": "api", "session_id": "s9", "amount": 8,
     "quantity": 5, "tags": ["c"]}
    {"timestamp": 61, "user_id": "u2", "event_type": "click", "app_type": "api", "session_id": "s10", "amount": 16}
"#;

#[track_caller]
fn check(sql: &str, expected: &[&str]) {
    let mut rows = answer(sql, EVENTS);
    rows.sort();
    let mut expected: Vec<String> = expected.iter().map(|row| (*row).to_owned()).collect();
    expected.sort();
    assert_eq!(rows, expected, "{sql}");
}

#[test]
fn event_aggregation_gives_the_columns_and_rows_of_its_contract() {
    let sql = "
        SELECT window_start, window_end, user_id, event_type, app_type,
               count(*) AS event_count, collect_set(session_id) AS session_ids, now() AS processing_time,
               CAST(window_start AS DATE) AS date
        FROM app_events
        GROUP BY tumble(timestamp, INTERVAL '1 minute'), user_id, event_type, app_type";
    let (first, second) = (
        r#""window_start":"2026-02-16T14:00:00Z","window_end":"2026-02-16T14:01:00Z""#,
        r#""window_start":"2026-02-16T14:01:00Z","window_end":"2026-02-16T14:02:00Z""#,
    );
    let group =
        |user: &str, kind: &str, app: &str| format!(r#""user_id":"{user}","event_type":"{kind}","app_type":"{app}""#);
    let rest = r#""processing_time":"2026-02-16T14:01:30Z","date":"2026-02-16""#;
    check(
        sql,
        &[
            &format!(r#"{{{first},{},"event_count":2,"session_ids":["s1","s2"],{rest}}}"#, group("u1", "click", "web")),
            &format!(r#"{{{first},{},"event_count":1,"session_ids":["s1"],{rest}}}"#, group("u1", "purchase", "web")),
            &format!(r#"{{{first},{},"event_count":1,"session_ids":[],{rest}}}"#, group("u2", "click", "api")),
            &format!(
                r#"{{{second},{},"event_count":2,"session_ids":["s10","s9"],{rest}}}"#,
                group("u2", "click", "api")
            ),
        ],
    );
    let query = planned(sql);
    let schema = query.output_schema();
    let types: Vec<String> =
        schema.fields().iter().map(|field| super::super::output::type_name(field.data_type())).collect();
    assert_eq!(
        types,
        ["timestamp", "timestamp", "string", "string", "string", "bigint", "array<string>", "timestamp", "date"]
    );
    assert_eq!(query.input_columns(0), [0, 1, 2, 3, 4]);
    assert_eq!(query.window().unwrap().to_string(), "60s");
}

#[test]
fn a_window_may_have_no_other_key() {
    check(
        "SELECT window_end, count(*) AS n, sum(quantity) AS total
         FROM app_events GROUP BY tumble(timestamp, INTERVAL '1 minute')",
        &[
            r#"{"window_end":"2026-02-16T14:01:00Z","n":4,"total":13}"#,
            r#"{"window_end":"2026-02-16T14:02:00Z","n":2,"total":5}"#,
        ],
    );
}

#[test]
fn aggregates_filters_and_expressions_around_the_window() {
    for (select, expected) in [
        ("count(DISTINCT session_id) AS x", ["2", "2"]),
        ("count(DISTINCT quantity) AS x", ["4", "1"]),
        ("count(session_id) AS x", ["3", "2"]),
        ("count(*) FILTER (WHERE event_type = 'click') AS x", ["3", "2"]),
        ("count(DISTINCT session_id) FILTER (WHERE event_type = 'purchase') AS x", ["1", "0"]),
        ("sum(amount) AS x", ["8.0", "24.0"]),
        ("sum(price) AS x", ["11.25", ""]),
        ("avg(amount) + 1 AS x", ["3.6666666666666665", "13.0"]),
        ("min(session_id) || '-' || max(session_id) AS x", ["\"s1-s2\"", "\"s10-s9\""]),
        ("median(quantity) AS x", ["2.5", "5.0"]),
        ("percentile_cont(0.5) WITHIN GROUP (ORDER BY quantity) AS x", ["2.5", "5.0"]),
        ("stddev_pop(amount) AS x", ["1.0274023338281628", "4.0"]),
        ("corr(quantity, amount) AS x", ["-0.3973597071195131", ""]),
        ("bool_or(flag) AS x", ["true", ""]),
        ("array_agg(session_id ORDER BY timestamp DESC) AS x", [r#"["s1",null,"s1","s2"]"#, r#"["s10","s9"]"#]),
        ("array_agg(DISTINCT event_type ORDER BY event_type) AS x", [r#"["click","purchase"]"#, r#"["click"]"#]),
        (
            "string_agg(event_type, '+' ORDER BY timestamp) AS x",
            [r#""click+click+click+purchase""#, r#""click+click""#],
        ),
        ("first_value(session_id ORDER BY timestamp) AS x", ["\"s2\"", "\"s9\""]),
        ("last_value(session_id ORDER BY timestamp) AS x", ["\"s1\"", "\"s10\""]),
        ("first_value(session_id ORDER BY quantity DESC NULLS FIRST) AS x", ["\"s1\"", "\"s10\""]),
        ("last_value(amount IGNORE NULLS ORDER BY timestamp) AS x", ["4.0", "16.0"]),
        ("nth_value(quantity, 2 ORDER BY timestamp) AS x", ["1", ""]),
        ("nth_value(quantity, -2 ORDER BY timestamp) AS x", ["2", "5"]),
        ("nth_value(quantity, 9 ORDER BY timestamp) AS x", ["", ""]),
        ("collect_set(quantity) AS x", ["[1,2,3,7]", "[5]"]),
        ("collect_set(amount > 2) AS x", ["[false,true]", "[true]"]),
        ("collect_set(upper(event_type)) AS x", [r#"["CLICK","PURCHASE"]"#, r#"["CLICK"]"#]),
        ("collect_set(DISTINCT user_id) AS x", [r#"["u1","u2"]"#, r#"["u2"]"#]),
        ("cardinality(collect_set(user_id)) AS x", ["2", "1"]),
        ("approx_distinct(user_id) AS x", ["2", "1"]),
        ("max(timestamp - window_start) < INTERVAL '1 minute' AS x", ["true", "true"]),
        ("max(window_end) = window_end AS x", ["true", "true"]),
        ("date_part('minute', window_end) AS x", ["1", "2"]),
        ("CASE WHEN count(*) > 3 THEN 'busy' ELSE 'calm' END AS x", ["\"busy\"", "\"calm\""]),
        ("to_unixtime(now()) - to_unixtime(window_start) AS x", ["90", "30"]),
        ("current_date AS x", ["\"2026-02-16\"", "\"2026-02-16\""]),
        ("sum(properties['sizes'][1]) AS x", ["1", ""]),
        ("max(properties.pageUrl) AS x", ["\"/x\"", ""]),
        ("max(deviceType) AS x", ["\"tv\"", ""]),
        ("bit_xor(quantity) AS x", ["7", "5"]),
        ("regr_slope(amount, quantity) AS x", ["-0.5", ""]),
    ] {
        let sql =
            format!("SELECT window_start, {select} FROM app_events GROUP BY tumble(timestamp, INTERVAL '1 minute')");
        let rows = answer(&sql, EVENTS);
        let values: Vec<String> = rows
            .iter()
            .map(|row| {
                row.split_once(r#""x":"#).map_or(String::new(), |(_, value)| value.trim_end_matches('}').to_owned())
            })
            .collect();
        assert_eq!(values, expected, "{select}");
    }
}

#[test]
fn having_where_and_subqueries_work_on_both_sides() {
    check(
        "SELECT user_id, n * 10 AS n FROM (
             SELECT user_id, window_start, count(*) AS n
             FROM (SELECT user_id, timestamp AS at, quantity + 1 AS q
                   FROM app_events WHERE event_type = 'click') AS clicks
             WHERE q > 2
             GROUP BY tumble(at, INTERVAL '60' SECOND), user_id
             HAVING window_start >= TIMESTAMP '2026-02-16T14:00:00Z' AND count(*) > 0
         ) WHERE user_id <> 'u1'",
        &[r#"{"user_id":"u2","n":10}"#, r#"{"user_id":"u2","n":10}"#],
    );
    check(
        "WITH windows AS (
             SELECT window_start AS started, app_type, sum(quantity) AS total
             FROM app_events AS e GROUP BY tumble(e.timestamp, INTERVAL '1 minute'), app_type)
         SELECT started, total FROM windows WHERE app_type = 'web'",
        &[r#"{"started":"2026-02-16T14:00:00Z","total":11}"#],
    );
    check(
        "SELECT window_start, upper(user_id) AS who FROM app_events
         GROUP BY tumble(timestamp, INTERVAL '1 hour'), upper(user_id) HAVING sum(quantity) > 7",
        &[r#"{"window_start":"2026-02-16T14:00:00Z","who":"U1"}"#],
    );
}

#[test]
fn groups_may_be_named_by_position_alias_or_expression() {
    let expected = [
        r#"{"window_start":"2026-02-16T14:00:00Z","kind":"CLICK","n":3}"#,
        r#"{"window_start":"2026-02-16T14:00:00Z","kind":"PURCHASE","n":1}"#,
        r#"{"window_start":"2026-02-16T14:01:00Z","kind":"CLICK","n":2}"#,
    ];
    for keys in ["upper(event_type)", "kind", "2", "1, 2", "window_start, kind"] {
        check(
            &format!(
                "SELECT window_start, upper(event_type) AS kind, count(*) AS n FROM app_events
                 GROUP BY tumble(timestamp, INTERVAL '1 minute'), {keys}"
            ),
            &expected,
        );
    }
}

#[test]
fn unaliased_columns_have_the_names_people_expect() {
    let query = planned(
        "SELECT window_start, CAST(window_end AS DATE), user_id, count(*), sum(quantity) FROM app_events
         GROUP BY tumble(timestamp, INTERVAL '1 minute'), user_id",
    );
    let schema = query.output_schema();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["window_start", "window_end", "user_id", "count(*)", "sum(app_events.quantity)"]);
}

#[test]
fn rows_of_one_window_may_be_ranked_sorted_and_aggregated_again() {
    check(
        "SELECT window_start, user_id, n FROM (
             SELECT window_start, user_id, count(*) AS n,
                    row_number() OVER (PARTITION BY window_start ORDER BY count(*) DESC, user_id) AS rank
             FROM app_events GROUP BY tumble(timestamp, INTERVAL '1 minute'), user_id)
         WHERE rank = 1",
        &[
            r#"{"window_start":"2026-02-16T14:00:00Z","user_id":"u1","n":3}"#,
            r#"{"window_start":"2026-02-16T14:01:00Z","user_id":"u2","n":2}"#,
        ],
    );
    check(
        "SELECT window_start, user_id FROM app_events GROUP BY tumble(timestamp, INTERVAL '1 minute'), user_id
         QUALIFY rank() OVER (PARTITION BY window_start ORDER BY sum(quantity)) = 1",
        &[
            r#"{"window_start":"2026-02-16T14:00:00Z","user_id":"u2"}"#,
            r#"{"window_start":"2026-02-16T14:01:00Z","user_id":"u2"}"#,
        ],
    );
    check(
        "SELECT window_end, max(n) AS most, collect_set(user_id) AS users FROM (
             SELECT window_start, window_end, user_id, count(*) AS n FROM app_events
             GROUP BY tumble(timestamp, INTERVAL '1 minute'), user_id) GROUP BY window_end, window_start",
        &[
            r#"{"window_end":"2026-02-16T14:01:00Z","most":3,"users":["u1","u2"]}"#,
            r#"{"window_end":"2026-02-16T14:02:00Z","most":2,"users":["u2"]}"#,
        ],
    );
    check(
        "SELECT DISTINCT window_start, app_type FROM app_events
         GROUP BY tumble(timestamp, INTERVAL '1 minute'), app_type, user_id",
        &[
            r#"{"window_start":"2026-02-16T14:00:00Z","app_type":"web"}"#,
            r#"{"window_start":"2026-02-16T14:00:00Z","app_type":"api"}"#,
            r#"{"window_start":"2026-02-16T14:01:00Z","app_type":"api"}"#,
        ],
    );
    check(
        "SELECT window_start, user_id, n, sum(n) OVER (PARTITION BY window_start) AS total FROM (
            SELECT window_start, user_id, count(*) AS n FROM app_events
            GROUP BY tumble(timestamp, INTERVAL '1 minute'), user_id)",
        &[
            r#"{"window_start":"2026-02-16T14:00:00Z","user_id":"u1","n":3,"total":4}"#,
            r#"{"window_start":"2026-02-16T14:00:00Z","user_id":"u2","n":1,"total":4}"#,
            r#"{"window_start":"2026-02-16T14:01:00Z","user_id":"u2","n":2,"total":2}"#,
        ],
    );
    check(
        "SELECT window_start, unnest(collect_set(user_id)) AS user_id
         FROM app_events GROUP BY tumble(timestamp, INTERVAL '1 minute')",
        &[
            r#"{"window_start":"2026-02-16T14:00:00Z","user_id":"u1"}"#,
            r#"{"window_start":"2026-02-16T14:00:00Z","user_id":"u2"}"#,
            r#"{"window_start":"2026-02-16T14:01:00Z","user_id":"u2"}"#,
        ],
    );
}

#[test]
fn rows_can_be_ordered_within_their_windows() {
    for sql in [
        "SELECT window_start, user_id, count(*) AS n FROM app_events
         GROUP BY tumble(timestamp, INTERVAL '1 minute'), user_id ORDER BY window_start, n, user_id",
        "SELECT window_start, user_id, count(*) AS n FROM app_events
         GROUP BY tumble(timestamp, INTERVAL '1 minute'), user_id ORDER BY 1, count(*)",
    ] {
        let rows = answer(sql, EVENTS);
        let users: Vec<&str> = rows.iter().map(|row| row.split('"').nth(7).unwrap()).collect();
        assert_eq!(users, ["u2", "u1", "u2"], "{sql}");
    }
}

#[test]
fn a_query_without_a_window_answers_at_once() {
    check(
        "SELECT user_id, quantity * 2 AS double, now() AS at FROM app_events WHERE event_type = 'purchase'",
        &[r#"{"user_id":"u1","double":14,"at":"2026-02-16T14:01:30Z"}"#],
    );
    check(
        "SELECT user_id, unnest(tags) AS tag FROM app_events WHERE cardinality(tags) > 0",
        &[r#"{"user_id":"u1","tag":"b"}"#, r#"{"user_id":"u1","tag":"a"}"#, r#"{"user_id":"u2","tag":"c"}"#],
    );
    check(
        "SELECT 'a' AS branch, session_id FROM app_events WHERE quantity = 7
         UNION ALL SELECT 'b', deviceType FROM app_events WHERE deviceType IS NOT NULL",
        &[r#"{"branch":"a","session_id":"s1"}"#, r#"{"branch":"b","session_id":"tv"}"#],
    );
    check("SELECT 1 AS one FROM app_events WHERE false", &[]);
    assert_eq!(answer("SELECT 1 AS one FROM app_events", EVENTS).len(), 6);
    assert_eq!(answer("SELECT * FROM app_events", EVENTS).len(), 6);
    assert_eq!(planned("SELECT 1 AS one FROM app_events").input_columns(0), [0_usize; 0]);
}

#[test]
fn fan_out_below_a_window() {
    check(
        "SELECT window_start, tag, count(*) AS n FROM (SELECT timestamp, unnest(tags) AS tag FROM app_events)
         GROUP BY tumble(timestamp, INTERVAL '1 minute'), tag",
        &[
            r#"{"window_start":"2026-02-16T14:00:00Z","tag":"a","n":1}"#,
            r#"{"window_start":"2026-02-16T14:00:00Z","tag":"b","n":1}"#,
            r#"{"window_start":"2026-02-16T14:01:00Z","tag":"c","n":1}"#,
        ],
    );
    check(
        "SELECT window_start, kind, sum(value) AS total FROM (
             SELECT timestamp, 'amount' AS kind, amount AS value FROM app_events WHERE user_id = 'u2'
             UNION ALL
             SELECT timestamp, 'quantity', CAST(quantity AS DOUBLE) FROM app_events)
         GROUP BY tumble(timestamp, INTERVAL '1 minute'), kind",
        &[
            r#"{"window_start":"2026-02-16T14:00:00Z","kind":"amount","total":4.0}"#,
            r#"{"window_start":"2026-02-16T14:00:00Z","kind":"quantity","total":13.0}"#,
            r#"{"window_start":"2026-02-16T14:01:00Z","kind":"amount","total":24.0}"#,
            r#"{"window_start":"2026-02-16T14:01:00Z","kind":"quantity","total":5.0}"#,
        ],
    );
}

#[test]
fn conditions_may_be_null() {
    check("SELECT user_id FROM app_events WHERE NULL", &[]);
    check("SELECT user_id FROM app_events WHERE NULL AND quantity = 7", &[]);
    check("SELECT user_id FROM app_events WHERE flag", &[r#"{"user_id":"u1"}"#]);
    check(
        "SELECT count(*) FILTER (WHERE NULL) AS none, count(*) FILTER (WHERE flag) AS flagged, count(*) AS n
         FROM app_events GROUP BY tumble(timestamp, INTERVAL '1 hour') HAVING NULL OR count(*) > 1",
        &[r#"{"none":0,"flagged":1,"n":6}"#],
    );
}

#[test]
fn names_with_capitals_need_no_quotes() {
    check(
        "SELECT DeviceType, properties.PAGEURL AS page FROM App_Events AS E WHERE e.deviceTYPE = 'tv'",
        &[r#"{"deviceType":"tv","page":"/x"}"#],
    );
}

#[test]
fn the_normal_form_ignores_blanks_comments_and_case_only() {
    let normal = |sql: &str| planned(sql).normal_form().to_owned();
    let one = normal("SELECT user_id FROM app_events WHERE event_type = 'Click'");
    assert_eq!(one, normal("select USER_ID\n\tfrom /* all */ App_Events -- really\n where event_type='Click';"));
    assert_ne!(one, normal("SELECT user_id FROM app_events WHERE event_type = 'click'"));
    assert_ne!(normal("SELECT 'a'' , ''b' AS x FROM app_events"), normal("SELECT 'a' AS x, 'b' AS y FROM app_events"));
}

#[test]
fn explain_tells_what_runs_where() {
    let query = planned(
        "SELECT window_start, user_id, count(*) AS n FROM (SELECT * FROM app_events WHERE quantity > 1)
         GROUP BY tumble(timestamp, INTERVAL '1 minute'), user_id HAVING count(*) > 2",
    );
    let text = query.explain().to_string();
    for part in [
        "reads   user_id, timestamp, quantity",
        "keep where app_events.quantity > 1",
        "window  60s of timestamp",
        "keys  app_events.user_id",
        "state count(",
        "output  window_start timestamp",
        "n bigint",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}
