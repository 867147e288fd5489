//! Values that an expression refuses: the records and groups that have them, and no others.

use super::*;
use crate::random::Random;
use crate::transform::ClosedRows;

/// Rows and refused records of one batch, or of several with the same records.
fn taken(sql: &str, batches: &[String]) -> (Vec<String>, Vec<usize>, ClosedRows) {
    let query = planned(sql);
    let mut operator = query.operator();
    let (mut rows, mut refused, mut before) = (vec![], vec![], 0);
    for (version, records) in (1..).zip(batches) {
        let batch = batch(&query, records);
        let ingested = operator.ingest(0, &batch, None, version).unwrap_or_else(|error| panic!("{error:?}: {sql}"));
        rows.extend(json_rows(&ingested.rows));
        refused.extend(ingested.refused.iter().map(|refused| before + refused.row));
        let counted = ingested.accepted + ingested.filtered + ingested.late + ingested.refused.len() as u64;
        assert_eq!(counted, batch.num_rows() as u64, "each record has one fate: {sql}");
        before += batch.num_rows();
    }
    let mut closed = ClosedRows::default();
    while let Some(next) = operator.close_next(i64::MAX).unwrap_or_else(|error| panic!("{error:?}: {sql}")) {
        closed.rows.extend(next.rows);
        closed.refused.extend(next.refused);
    }
    rows.extend(json_rows(&closed.rows));
    (rows, refused, closed)
}

fn refused_groups(closed: &ClosedRows) -> Vec<String> {
    closed.refused.iter().flat_map(|refused| json_rows(std::slice::from_ref(&refused.groups))).collect()
}

fn record(quantity: i64, text: &str) -> String {
    format!(r#"{{"timestamp": 1, "user_id": "u{quantity}", "quantity": {quantity}, "event_type": "{text}"}}"#)
}

#[test]
fn an_expression_refuses_the_records_that_it_does_not_take() {
    let good = || record(4, "7");
    for (expression, bad) in [
        ("100 / (quantity - 3)", record(3, "1")),
        ("CAST(event_type AS BIGINT)", record(1, "seven")),
        ("quantity + 1", record(i64::MAX, "1")),
        ("quantity * quantity", record(i64::MAX, "1")),
        ("- quantity", record(i64::MIN, "1")),
        ("CAST(quantity AS INT)", record(1 << 40, "1")),
        ("to_timestamp(CASE WHEN quantity = 4 THEN '2026-02-16T14:00:00' ELSE event_type END)", record(1, "nonsense")),
        (
            "parse_timestamp(CASE WHEN quantity = 4 THEN '2026-02-16 14:00:00' ELSE event_type END)",
            record(1, "nonsense"),
        ),
        ("chr(quantity)", record(1_234_567_890_123, "1")),
        ("date_trunc('month', to_timestamp_seconds(quantity * 1000000000))", record(1_000, "1")),
        ("date_bin(INTERVAL '1 hour', to_timestamp_seconds(quantity * 1000000000))", record(1_000, "1")),
        ("date_bin(INTERVAL '1 month', from_unixtime(quantity * 1000000000))", record(1_000, "1")),
        ("date_part('second', from_unixtime(quantity * 10000000) - from_unixtime(0))", record(1_000, "1")),
        ("to_timestamp(CAST(quantity AS DOUBLE) * 1000000000)", record(1_000, "1")),
    ] {
        let records = [good(), bad, good(), good()].join("\n");
        for sql in [
            format!("SELECT user_id, {expression} AS x FROM app_events"),
            format!("SELECT user_id FROM app_events WHERE {expression} IS NOT NULL"),
            format!(
                "SELECT user_id, count({expression}) AS n FROM app_events GROUP BY tumble(timestamp, INTERVAL '1 minute'), user_id"
            ),
            format!(
                "SELECT user_id, y FROM (SELECT user_id, unnest(make_array({expression}, NULL)) AS y FROM app_events) AS i"
            ),
        ] {
            let (rows, refused, closed) = taken(&sql, std::slice::from_ref(&records));
            assert_eq!(refused, [1], "{sql}");
            assert!(closed.refused.is_empty() && !rows.is_empty(), "{sql}");
            assert!(rows.iter().all(|row| row.contains(r#""u4""#)), "{sql}: {rows:?}");
        }
    }
}

#[test]
fn a_record_that_its_own_row_would_spare_is_not_refused_for_its_neighbours() {
    // A whole column is divided before CASE and AND choose.
    for condition in [
        "quantity <> 3 AND 100 / (quantity - 3) > 0",
        "CASE WHEN quantity = 3 THEN false ELSE 100 / (quantity - 3) > 0 END",
    ] {
        let sql = format!("SELECT user_id FROM app_events WHERE {condition}");
        let records: Vec<String> = (0..9).map(|quantity| record(quantity, "1")).collect();
        let (rows, refused, _) = taken(&sql, &[records.join("\n")]);
        assert_eq!(refused, Vec::<usize>::new(), "{condition}");
        assert_eq!(rows.len(), 5, "{condition}: {rows:?}");
    }
}

const WINDOWS: [&str; 3] = [
    "tumble(timestamp, INTERVAL '1 minute')",
    "hop(timestamp, INTERVAL '1 minute', INTERVAL '1 minute')",
    "session(timestamp, INTERVAL '1 minute')",
];

#[test]
fn an_aggregate_refuses_the_groups_that_it_has_no_answer_for() {
    let value = |user: &str, quantity: i64, price: &str| {
        format!(
            r#"{{"timestamp": 1, "user_id": "{user}", "quantity": {quantity}, "price": {price}, "event_type": "{user}"}}"#
        )
    };
    let records = [
        value("a", 1, "1.5"),
        value("b", i64::MAX, "99999999.99"),
        value("c", 3, "2.5"),
        value("b", i64::MAX - 1, "99999999.98"),
        value("a", 2, "2.5"),
    ];
    let wide = "CAST(price AS DECIMAL(38, 30))";
    for (aggregate, label) in [
        ("sum(quantity)", "sum"),
        ("sum(DISTINCT quantity)", "sum"),
        ("sum(quantity) + 0", "sum"),
        (&format!("avg({wide})"), "avg"),
        (&format!("avg(DISTINCT {wide})"), "avg"),
        ("100 / (max(quantity) - 9223372036854775807)", "max"),
        ("CAST(max(quantity) AS INT)", "max"),
        ("max(quantity) + 1", "max"),
    ] {
        for window in WINDOWS {
            let sql =
                format!("SELECT user_id, {aggregate} AS x, count(*) AS n FROM app_events GROUP BY {window}, user_id");
            let (mut rows, refused, closed) = taken(&sql, &[records.join("\n")]);
            assert!(refused.is_empty(), "{sql}");
            rows.sort();
            assert_eq!(rows.len(), 2, "{sql}: {rows:?}");
            assert!(rows[0].contains(r#""a""#) && rows[1].contains(r#""c""#), "{sql}: {rows:?}");
            let groups = refused_groups(&closed);
            let [group] = &groups[..] else { panic!("one group of {sql}: {groups:?}") };
            assert!(group.contains(r#""user_id":"b""#) && group.contains("window_start"), "{sql}: {group}");
            assert!(group.contains(r#""count(*)":2"#) || group.contains("count"), "{sql}: {group}");
            let _ = label;
        }
    }
}

#[test]
fn what_is_computed_of_all_rows_of_a_window_leaves_out_those_that_fail_alone_and_else_fails_whole() {
    let records: Vec<String> = (0..6).map(|quantity| record(quantity, "1")).collect();
    let inner = "SELECT window_start, user_id, sum(quantity) AS q FROM app_events \
                 GROUP BY tumble(timestamp, INTERVAL '1 minute'), user_id";
    let ranked = format!(
        "SELECT user_id, row_number() OVER (PARTITION BY window_start ORDER BY q) AS r, 100 / (q - 3) AS x FROM ({inner}) AS w"
    );
    let (rows, _, closed) = taken(&ranked, &[records.join("\n")]);
    assert_eq!(rows.len(), 5, "{rows:?}");
    let ranks: std::collections::BTreeSet<&str> =
        rows.iter().filter_map(|row| row.split(r#""r":"#).nth(1)?.split(',').next()).collect();
    assert_eq!(ranks.len(), 5, "the others are ranked without it: {rows:?}");
    assert_eq!(refused_groups(&closed).len(), 1);
    let huge: Vec<String> =
        ["a", "b"].map(|text| format!(r#"{{"timestamp": 1, "user_id": "{text}", "quantity": {}}}"#, i64::MAX)).to_vec();
    let total = format!("SELECT window_start, sum(q) AS total FROM ({inner}) AS w GROUP BY window_start");
    let (rows, _, closed) = taken(&total, &[huge.join("\n")]);
    assert!(rows.is_empty(), "{rows:?}");
    assert_eq!(refused_groups(&closed).len(), 2, "all rows of the window");
}

#[test]
fn which_records_and_groups_are_refused_does_not_depend_on_the_cuts() {
    let mut random = Random::new(7);
    let records: Vec<String> = (0..400)
        .map(|n| {
            let quantity = if random.below(40) == 0 { i64::MAX - 2 } else { random.below(9) as i64 };
            let text = if random.below(9) == 0 { "no number".to_owned() } else { random.below(90).to_string() };
            format!(
                r#"{{"timestamp": {}, "user_id": "u{}", "quantity": {quantity}, "event_type": "{text}"}}"#,
                n / 10,
                n % 7
            )
        })
        .collect();
    for sql in [
        "SELECT user_id, CAST(event_type AS BIGINT) / (quantity - 3) AS x FROM app_events WHERE quantity <> 5",
        "SELECT window_start, user_id, sum(quantity) AS s, 60 / (count(*) - 4) AS share, max(CAST(event_type AS INT)) AS m \
         FROM app_events GROUP BY tumble(timestamp, INTERVAL '10 seconds'), user_id",
        "SELECT window_start, user_id, sum(quantity) AS s, 60 / (min(quantity) - 1) AS share, max(CAST(event_type AS INT)) AS m \
         FROM app_events GROUP BY session(timestamp, INTERVAL '3 seconds', INTERVAL '9 seconds'), user_id",
    ] {
        let sorted = |(mut rows, refused, closed): (Vec<String>, Vec<usize>, ClosedRows)| {
            let mut groups = refused_groups(&closed);
            rows.sort();
            groups.sort();
            (rows, refused, groups)
        };
        let whole = sorted(taken(sql, &[records.join("\n")]));
        assert!(!whole.1.is_empty() && !whole.0.is_empty(), "{sql}");
        for _ in 0..12 {
            let mut batches = vec![];
            let mut left = &records[..];
            while !left.is_empty() {
                let (now, later) = left.split_at((1 + random.below(120) as usize).min(left.len()));
                batches.push(now.join("\n"));
                left = later;
            }
            assert_eq!(sorted(taken(sql, &batches)), whole, "{sql}");
        }
    }
}
