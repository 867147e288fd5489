//! The same records, cut into batches in another way, with state kept and taken up again in between: the same rows.

use super::*;
use crate::random::Random;

/// Queries over [`events`], of every shape. Sums of the doubles are exact: they are multiples of a quarter.
const QUERIES: [&str; 35] = [
    "count(*) AS x",
    "collect_set(session_id) AS x, count(DISTINCT session_id) AS y",
    "count(DISTINCT quantity) AS x, count(DISTINCT amount) AS y, count(DISTINCT price) AS z",
    "sum(amount) AS x, avg(amount) AS y, min(amount) AS z, max(amount) AS w",
    "sum(price) AS x, avg(quantity) AS y, sum(quantity) AS z",
    "min(session_id) AS x, max(session_id) AS y, min(day) AS z, max(price) AS w",
    "array_agg(session_id ORDER BY timestamp, quantity) AS x",
    "array_agg(quantity ORDER BY quantity DESC NULLS LAST) AS x",
    "array_agg(DISTINCT session_id ORDER BY session_id) AS x",
    "string_agg(session_id, ',' ORDER BY timestamp DESC) AS x",
    "string_agg(DISTINCT session_id, '/' ORDER BY session_id) AS x",
    "first_value(session_id ORDER BY timestamp) AS x, last_value(session_id ORDER BY timestamp) AS y",
    "first_value(tags ORDER BY quantity, timestamp) AS x, last_value(price ORDER BY amount) AS y",
    "first_value(quantity IGNORE NULLS ORDER BY timestamp) AS x, last_value(flag ORDER BY timestamp) AS y",
    "nth_value(session_id, 2 ORDER BY timestamp) AS x, nth_value(quantity, -1 ORDER BY timestamp, quantity) AS y",
    "median(quantity) AS x, percentile_cont(0.9) WITHIN GROUP (ORDER BY amount) AS y",
    "count(*) FILTER (WHERE flag) AS x, sum(quantity) FILTER (WHERE quantity > 3) AS y",
    "collect_set(user_id) FILTER (WHERE flag) AS x, count(DISTINCT user_id) FILTER (WHERE flag) AS y",
    "bool_and(flag) AS x, bool_or(flag) AS y, bit_or(quantity) AS z",
    "approx_distinct(session_id) AS x",
    "collect_set(quantity) AS x, collect_set(day) AS y, collect_set(price) AS z, collect_set(flag) AS w",
    "collect_set(tags) AS x, collect_set(properties) AS y",
    "max(timestamp - window_start) > INTERVAL '30 seconds' AS x",
    "median(DISTINCT quantity) AS x, sum(DISTINCT quantity) AS y, avg(DISTINCT amount) AS z",
    "cardinality(collect_set(session_id)) * 100 / count(*) AS x",
    "array_agg(properties ORDER BY timestamp) AS x",
    "array_agg(amount ORDER BY session_id, timestamp) FILTER (WHERE flag) AS x",
    "var_pop(quantity) IS NULL AS x, covar_samp(quantity, amount) IS NULL AS y",
    "regr_count(quantity, amount) AS x",
    "grouping_free AS x FROM (SELECT *, upper(session_id) AS grouping_free FROM app_events)",
    "tag AS x, count(*) AS n FROM (SELECT timestamp, user_id, event_type, unnest(tags) AS tag FROM app_events)",
    "value AS x, count(*) AS n FROM (
        SELECT timestamp, user_id, event_type, session_id AS value FROM app_events WHERE quantity > 2
        UNION ALL SELECT timestamp, user_id, event_type, deviceType FROM app_events)",
    "NONE: count(*) AS x, collect_set(user_id) AS y, string_agg(user_id, '' ORDER BY timestamp) AS z",
    "RANK: count(*) AS x",
    "AGAIN: sum(quantity) AS x",
];

const WINDOWS: [&str; 3] = [
    "tumble(timestamp, INTERVAL '20 seconds')",
    "hop(timestamp, INTERVAL '10 seconds', INTERVAL '25 seconds')",
    "session(timestamp, INTERVAL '3 seconds', INTERVAL '20 seconds')",
];

/// Each query with each kind of window that it can have.
pub(super) fn with_windows() -> impl Iterator<Item = (&'static str, &'static str)> {
    let all = QUERIES.into_iter().flat_map(|query| WINDOWS.map(|window| (query, window)));
    all.filter(|(query, window)| {
        let one_window = query.contains("- window_start");
        let above = query.starts_with("RANK") || query.starts_with("AGAIN");
        window.starts_with("tumble") || !(one_window || (above && window.starts_with("session")))
    })
}

pub(super) fn sql_of(query: &str, window: &str) -> String {
    let by_user = |aggregates: &str| {
        let keys = "user_id, event_type";
        format!("SELECT window_start, {keys}, {aggregates} FROM app_events GROUP BY {window}, {keys}")
    };
    if let Some(aggregates) = query.strip_prefix("NONE: ") {
        return format!(
            "SELECT window_start, {aggregates} FROM app_events WHERE event_type <> 'view' GROUP BY {window}"
        );
    }
    if let Some(aggregates) = query.strip_prefix("RANK: ") {
        let rank = "row_number() OVER (PARTITION BY window_start ORDER BY x) AS place";
        return format!("SELECT * FROM (SELECT *, {rank} FROM ({})) WHERE place <= 3", by_user(aggregates));
    }
    if let Some(aggregates) = query.strip_prefix("AGAIN: ") {
        let upper = "max(x) AS most, array_agg(x ORDER BY x) AS all_of_them";
        let rows = by_user(aggregates);
        return format!("SELECT window_start, event_type, {upper} FROM ({rows}) GROUP BY window_start, event_type");
    }
    match query.split_once(" FROM ") {
        Some((select, from)) if select.contains(" AS x") => {
            let key = select.split(" AS x").next().unwrap();
            format!("SELECT window_start, user_id, {select} FROM {from} GROUP BY {window}, user_id, {key}")
        }
        _ => format!(
            "SELECT window_start, user_id, event_type, {query} FROM app_events WHERE quantity IS NULL OR quantity <> 5
             GROUP BY {window}, user_id, event_type HAVING count(*) > 1"
        ),
    }
}

/// Records of two minutes, disordered by up to five seconds, with nulls, ties and values of all types.
pub(super) fn records(random: &mut Random, count: u64) -> Vec<serde_json::Value> {
    let maybe = |value: serde_json::Value, dice: u64| if dice == 0 { serde_json::Value::Null } else { value };
    (0..count)
        .map(|number| {
            let seconds = (number * 120 / count) as i64 - random.below(5) as i64;
            let session = format!("session-{}{}", random.below(9), "x".repeat(random.below(3) as usize * 7));
            let tags: Vec<String> = (0..random.below(4)).map(|_| format!("tag{}", random.below(3))).collect();
            let event_type = ["click", "view", "purchase with a long name"][random.below(3) as usize];
            let device_type = ["tv", "phone"][random.below(2) as usize];
            serde_json::json!({
                "__offset": number,
                "timestamp": T0 + seconds * SECOND + random.below(3) as i64,
                "user_id": format!("user {}", random.below(4)),
                "event_type": event_type,
                "session_id": maybe(session.into(), random.below(6)),
                "amount": maybe((random.below(40) as f64 / 4.0).into(), random.below(6)),
                "quantity": maybe(random.below(9).into(), random.below(6)),
                "price": maybe(format!("{}.{:02}", random.below(50), random.below(100)).into(), random.below(6)),
                "tags": maybe(tags.into(), random.below(6)),
                "properties": {"pageUrl": maybe(format!("/{}", random.below(3)).into(), random.below(6))},
                "flag": maybe((random.below(2) == 0).into(), random.below(6)),
                "day": format!("2026-02-{:02}", 10 + random.below(9)),
                "deviceType": device_type,
            })
        })
        .collect()
}

#[test]
fn rows_do_not_depend_on_the_cuts_nor_on_restored_state() {
    for (number, (query, window)) in with_windows().enumerate() {
        let sql = sql_of(query, window);
        let query = planned(&sql);
        let schema = input_schema(&query);
        let mut random = Random::new(number as u64 + 1);
        let records = records(&mut random, 400);
        let all = json_batch(&schema, records.iter().cloned());
        let mut operator = query.operator();
        operator.ingest(0, &all, None, 1).unwrap();
        let mut expected = json_rows(&close_all(&mut operator));
        expected.sort();
        assert!(expected.len() > 2, "{sql}: {expected:?}");

        for round in 0..4 {
            let mut rows = cut(&query, &schema, &records, &mut random);
            rows.sort();
            assert_eq!(rows, expected, "round {round} of {sql}");
        }
    }
}

/// Partitions of a topic are read in any order.
#[test]
fn rows_do_not_depend_on_the_order_of_arrival() {
    for (number, (query, window)) in with_windows().enumerate() {
        let sql = sql_of(query, window);
        let query = planned(&sql);
        let schema = input_schema(&query);
        let mut random = Random::new(number as u64 + 1);
        let mut records = records(&mut random, 300);
        let mut answers = vec![];
        for _ in 0..3 {
            let mut operator = query.operator();
            operator.ingest(0, &json_batch(&schema, records.iter().cloned()), None, 1).unwrap();
            let mut rows = json_rows(&close_all(&mut operator));
            rows.sort();
            answers.push(rows);
            for last in (1..records.len()).rev() {
                records.swap(last, random.below(last as u64 + 1) as usize);
            }
        }
        assert_eq!(answers[0], answers[1], "{sql}");
        assert_eq!(answers[0], answers[2], "{sql}");
    }
}

/// Runs the records in random batches under a moving watermark; at times everything open moves to a new operator.
pub(super) fn cut(
    query: &StreamQuery,
    schema: &SchemaRef,
    records: &[serde_json::Value],
    random: &mut Random,
) -> Vec<String> {
    let mut operator = query.operator();
    let mut rows = vec![];
    let mut watermark: Option<i64> = None;
    let mut greatest = i64::MIN;
    let (mut at, mut version) = (0, 1);
    let longest = 1 + random.below(60);
    while at < records.len() {
        let until = (at + 1 + random.below(longest) as usize).min(records.len());
        let batch = json_batch(schema, records[at..until].iter().cloned());
        let ingested = operator.ingest(0, &batch, watermark, version).unwrap();
        assert_eq!(ingested.late, 0);
        assert_eq!(ingested.filtered + ingested.accepted, (until - at) as u64);
        let times = records[at..until].iter().map(|record| record["timestamp"].as_i64().unwrap());
        greatest = times.fold(greatest, i64::max);
        watermark = Some(greatest - 6 * SECOND);
        rows.extend(json_rows(&operator.close(greatest - 6 * SECOND).unwrap()));
        if random.below(4) == 0 {
            operator = moved(query, &mut operator, random.below(2) == 0);
        }
        (at, version) = (until, version + 1);
    }
    rows.extend(json_rows(&close_all(&mut operator)));
    rows
}

/// All open windows in a new operator, or the same one after a snapshot that nobody uses.
fn moved(query: &StreamQuery, operator: &mut Operator, forget: bool) -> Operator {
    let mut new = query.operator();
    for part in operator.parts() {
        let state = operator.snapshot(part.part).unwrap();
        let state: Vec<RecordBatch> = state.iter().flat_map(through_ipc).collect();
        new.restore(part.part, part.first_version, &state).unwrap();
    }
    if forget {
        return new;
    }
    std::mem::replace(operator, query.operator())
}

/// State as it comes back from a file.
pub(super) fn through_ipc(batch: &RecordBatch) -> Vec<RecordBatch> {
    use datafusion::arrow::ipc::{reader::StreamReader, writer::StreamWriter};
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(batch).unwrap();
    let bytes = writer.into_inner().unwrap();
    StreamReader::try_new(bytes.as_slice(), None).unwrap().map(Result::unwrap).collect()
}
