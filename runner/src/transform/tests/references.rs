//! Joins with references.

use proptest::prelude::*;

use super::*;

fn users_schema() -> SchemaRef {
    let field = |name: &str, data_type: DataType| Field::new(name, data_type, true);
    Arc::new(Schema::new(vec![
        field("user_id", DataType::Utf8View),
        field("country", DataType::Utf8View),
        field("level", DataType::Int32),
        field("tags", DataType::List(Arc::new(Field::new_list_field(DataType::Utf8View, true)))),
    ]))
}

fn inputs() -> QueryInputs {
    let weights =
        Schema::new(vec![Field::new("kind", DataType::Utf8View, true), Field::new("weight", DataType::Float64, true)]);
    QueryInputs {
        sources: vec![events()],
        references: vec![
            ReferenceTable { name: "users".into(), schema: users_schema() },
            ReferenceTable { name: "weights".into(), schema: Arc::new(weights) },
        ],
        ..QueryInputs::default()
    }
}

fn planned(sql: &str) -> StreamQuery {
    StreamQuery::plan(sql, &inputs(), BatchClock::new(T0)).unwrap_or_else(|error| panic!("{error}\n{sql}"))
}

fn table(reference: usize, lines: &[serde_json::Value]) -> Arc<[RecordBatch]> {
    let batch = json_batch(&inputs().references[reference].schema, lines.iter().cloned());
    // In two parts, as files give them.
    let half = batch.num_rows() / 2;
    vec![batch.slice(0, half), batch.slice(half, batch.num_rows() - half)].into()
}

fn users() -> Arc<[RecordBatch]> {
    table(
        0,
        &[
            serde_json::json!({"user_id": "a", "country": "DE", "level": 1, "tags": ["x", "y"]}),
            serde_json::json!({"user_id": "b", "country": "FR", "level": 2}),
            serde_json::json!({"user_id": null, "country": "XX", "level": 9}),
            serde_json::json!({"user_id": "a", "country": "AT", "level": 3}),
        ],
    )
}

fn operator(query: &StreamQuery) -> Operator {
    let mut operator = query.operator();
    operator.set_reference(0, users()).unwrap();
    let weights =
        [("click", 2.0), ("view", 1.0)].map(|(kind, weight)| serde_json::json!({"kind": kind, "weight": weight}));
    operator.set_reference(1, table(1, &weights)).unwrap();
    operator
}

fn joined(sql: &str, lines: &str) -> Vec<String> {
    let query = planned(sql);
    let mut operator = operator(&query);
    let rows = operator.ingest(0, &batch(&query, lines), None, 1).unwrap().rows;
    json_rows(&rows)
}

const EVENTS: &str = r#"{"user_id": "a", "event_type": "click"} {"user_id": "z", "event_type": "view"} {"event_type": "view"}
    {"user_id": "b", "event_type": "buy"}"#;

#[test]
fn each_record_finds_its_rows() {
    let left = "SELECT e.user_id AS u, country FROM app_events AS e LEFT JOIN users ON e.user_id = users.user_id";
    assert_eq!(
        joined(left, EVENTS),
        [
            r#"{"u":"a","country":"DE"}"#,
            r#"{"u":"a","country":"AT"}"#,
            r#"{"u":"z"}"#,
            "{}",
            r#"{"u":"b","country":"FR"}"#
        ]
    );
    assert_eq!(joined(&left.replace("LEFT JOIN", "JOIN"), EVENTS).len(), 3);
    let right = "SELECT country, e.user_id AS u FROM users RIGHT JOIN app_events AS e ON e.user_id = users.user_id";
    assert_eq!(joined(right, EVENTS)[2], r#"{"u":"z"}"#);
    let using = "SELECT user_id, country, weight FROM app_events JOIN users USING (user_id)
        LEFT JOIN weights ON kind = event_type WHERE country <> 'AT'";
    assert_eq!(
        joined(using, EVENTS),
        [r#"{"user_id":"a","country":"DE","weight":2.0}"#, r#"{"user_id":"b","country":"FR"}"#]
    );
    // What else stands in ON decides what a record finds, not whether it stays.
    let condition = "SELECT e.user_id AS u, country FROM app_events AS e
        LEFT JOIN users AS s ON e.user_id = s.user_id AND s.level > 1 AND e.event_type <> 'buy'";
    assert_eq!(joined(condition, EVENTS), [r#"{"u":"a","country":"AT"}"#, r#"{"u":"z"}"#, "{}", r#"{"u":"b"}"#]);
    // Keys may be computed, and of other types.
    let computed = "SELECT country FROM app_events AS e JOIN users AS s ON upper(e.user_id) = upper(s.user_id) AND e.quantity = s.level";
    assert_eq!(
        joined(computed, r#"{"user_id": "A", "quantity": 3} {"user_id": "a", "quantity": 2}"#),
        [r#"{"country":"AT"}"#]
    );
    let nulls = "SELECT country FROM app_events AS e JOIN users AS s ON e.user_id IS NOT DISTINCT FROM s.user_id";
    assert_eq!(joined(nulls, "{}"), [r#"{"country":"XX"}"#]);
}

#[test]
fn the_side_of_a_reference_is_sql_too() {
    let newest = "SELECT e.user_id AS u, n, country FROM app_events AS e LEFT JOIN (
        SELECT user_id, count(*) AS n, max(country) AS country FROM users WHERE level < 9 GROUP BY user_id
    ) AS known ON e.user_id = known.user_id";
    assert_eq!(joined(newest, EVENTS)[0], r#"{"u":"a","n":2,"country":"DE"}"#);
    let both = "SELECT e.user_id AS u, s.weight FROM app_events AS e LEFT JOIN (
        SELECT user_id, weight FROM users JOIN weights ON kind = CASE WHEN level = 1 THEN 'view' ELSE 'click' END
    ) AS s ON e.user_id = s.user_id";
    let mut found = joined(both, EVENTS);
    found[..2].sort();
    assert_eq!(found[..2], [r#"{"u":"a","weight":1.0}"#, r#"{"u":"a","weight":2.0}"#], "in any order");
}

#[test]
fn two_references_may_be_joined_by_numbers_of_different_types() {
    let sql = "SELECT e.user_id AS u, s.kind FROM app_events AS e LEFT JOIN (
        SELECT user_id, kind, level FROM users JOIN weights ON level = weight
    ) AS s ON e.user_id = s.user_id";
    assert_eq!(joined(sql, EVENTS)[..1], [r#"{"u":"a","kind":"view"}"#]);
    let cast = sql.replace("level = weight", "CAST(level AS DOUBLE) = weight");
    assert_eq!(joined(&cast, EVENTS), joined(sql, EVENTS));
}

#[test]
fn joins_go_with_everything_below_a_window() {
    let sql = "SELECT window_start, country, tag, count(*) AS n FROM (
            SELECT timestamp, country, unnest(users.tags) AS tag FROM app_events JOIN users ON app_events.user_id = users.user_id
            UNION ALL
            SELECT timestamp, 'none', event_type FROM app_events WHERE user_id IS NULL)
        GROUP BY tumble(timestamp, INTERVAL '1 minute'), country, tag ORDER BY window_start, country, tag";
    let query = planned(sql);
    let mut operator = operator(&query);
    let lines =
        r#"{"timestamp": 1, "user_id": "a"} {"timestamp": 2, "user_id": "a"} {"timestamp": 3, "event_type": "view"}"#;
    let ingested = operator.ingest(0, &batch(&query, lines), None, 1).unwrap();
    assert_eq!((ingested.filtered, ingested.late, ingested.accepted), (0, 0, 3));
    assert_eq!(
        json_rows(&close_all(&mut operator)),
        [
            r#"{"window_start":"2026-02-16T14:00:00Z","country":"DE","tag":"x","n":2}"#,
            r#"{"window_start":"2026-02-16T14:00:00Z","country":"DE","tag":"y","n":2}"#,
            r#"{"window_start":"2026-02-16T14:00:00Z","country":"none","tag":"view","n":1}"#
        ]
    );
    assert!(
        query.explain().to_string().contains("look up where app_events.user_id = users.user_id"),
        "{}",
        query.explain()
    );
}

#[test]
fn records_are_counted_before_they_are_joined() {
    let query = planned(
        "SELECT country FROM app_events AS e JOIN users ON e.user_id = users.user_id WHERE e.event_type <> 'buy'",
    );
    let mut operator = operator(&query);
    let ingested = operator.ingest(0, &batch(&query, EVENTS), None, 1).unwrap();
    // The WHERE stands above the join; what finds nothing is accepted all the same.
    assert_eq!((ingested.filtered, ingested.accepted), (0, 4));
    assert_eq!(json_rows(&ingested.rows).len(), 2);
}

#[test]
fn another_version_of_a_reference_is_another_answer() {
    let query = planned("SELECT country FROM app_events AS e LEFT JOIN users ON e.user_id = users.user_id");
    let mut operator = query.operator();
    let rows = batch(&query, r#"{"user_id": "a"}"#);
    assert!(operator.ingest(0, &rows, None, 1).is_err(), "not loaded yet");
    operator.set_reference(0, users()).unwrap();
    assert_eq!(json_rows(&operator.ingest(0, &rows, None, 1).unwrap().rows).len(), 2);
    operator.set_reference(0, table(0, &[serde_json::json!({"user_id": "a", "country": "IT"})])).unwrap();
    assert_eq!(json_rows(&operator.ingest(0, &rows, None, 1).unwrap().rows), [r#"{"country":"IT"}"#]);
    operator.set_reference(0, table(0, &[])).unwrap();
    assert_eq!(json_rows(&operator.ingest(0, &rows, None, 1).unwrap().rows), ["{}"]);
    assert!(operator.reference_bytes(0) > 0);
}

#[test]
fn joins_that_no_stream_can_have() {
    for (sql, parts) in [
        ("SELECT 1 AS x FROM app_events AS a JOIN app_events AS b ON a.user_id = b.user_id", &["all rows of the stream", "column 41"][..]),
        ("SELECT 1 AS x FROM users LEFT JOIN app_events AS e ON e.user_id = users.user_id", &["keeps rows of the reference", "FROM app_events LEFT JOIN"]),
        ("SELECT 1 AS x FROM app_events AS e FULL JOIN users ON e.user_id = users.user_id", &["keeps rows of the reference"]),
        ("SELECT 1 AS x FROM app_events AS e JOIN users ON e.quantity > users.level", &["compares no column", "equality"]),
        ("SELECT 1 AS x FROM app_events CROSS JOIN users", &["which rows go together"]),
        ("SELECT 1 AS x FROM app_events, users", &["several tables", "JOIN … ON"]),
        ("SELECT 1 AS x FROM app_events NATURAL JOIN users", &["which rows go together"]),
        ("SELECT country FROM users", &["references alone", "FROM app_events LEFT JOIN users"]),
        ("SELECT user_id FROM app_events UNION ALL SELECT user_id FROM users", &["references alone"]),
        ("SELECT user_id FROM app_events JOIN users ON app_events.user_id = users.user_id", &["user_id", "table before it"]),
        ("SELECT 1 AS x FROM app_events AS e JOIN usrs ON e.user_id = usrs.user_id", &["there is no table usrs", "users"]),
        (
            "SELECT 1 AS x FROM app_events AS e JOIN (SELECT user_id, now() AS t FROM users) AS s ON e.user_id = s.user_id",
            &["now() over a reference"],
        ),
        (
            "SELECT a.n FROM (SELECT window_start, user_id, count(*) AS n FROM app_events GROUP BY tumble(timestamp, INTERVAL '1 minute'), user_id) AS a
             JOIN users ON a.user_id = users.user_id",
            &["rows of a window", "below the window"],
        ),
        ("SELECT 1 AS x FROM app_events AS e SEMI JOIN users ON e.user_id = users.user_id", &["not supported"]),
    ] {
        let Err(error) = StreamQuery::plan(sql, &inputs(), BatchClock::new(T0)) else { panic!("this was planned: {sql}") };
        for part in parts {
            assert!(error.to_string().contains(part), "{part:?} is not in {error}\n{sql}");
        }
    }
}

#[test]
fn a_reference_that_multiplies_rows_without_end_is_an_error() {
    let query = planned("SELECT country FROM app_events AS e JOIN users ON e.user_id = users.user_id");
    let mut operator = query.operator();
    operator.set_reference(0, table(0, &vec![serde_json::json!({"user_id": "a"}); 6_000])).unwrap();
    let error = operator.ingest(0, &batch(&query, &r#"{"user_id": "a"}"#.repeat(1_000)), None, 1).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("the join with the reference users makes more than 4194304 rows of a batch of"), "{cause}");
}

/// A key and a number; few values, so that they meet.
fn row() -> impl Strategy<Value = (Option<u8>, i32)> {
    (proptest::option::weighted(0.8, 0_u8..6), 0..4)
}

proptest! {
    #[test]
    fn a_join_is_what_two_loops_give(
        records in proptest::collection::vec(row(), 0..30),
        known in proptest::collection::vec(row(), 0..12),
        cut in 0_usize..30,
        outer: bool,
        condition: bool,
    ) {
        let join = if outer { "LEFT JOIN" } else { "JOIN" };
        let and = if condition { "AND e.quantity >= s.level" } else { "" };
        let sql = format!("SELECT e.quantity AS q, s.level AS l FROM app_events AS e {join} users AS s ON e.user_id = s.user_id {and}");
        let query = planned(&sql);
        let mut operator = query.operator();
        let text = |key: &Option<u8>| key.map(|key| format!("the user with the number {key}"));
        let lines: Vec<_> = known.iter().map(|(key, level)| serde_json::json!({"user_id": text(key), "level": level})).collect();
        operator.set_reference(0, table(0, &lines)).unwrap();
        let mut found = vec![];
        let (first, second) = records.split_at(cut.min(records.len()));
        for part in [first, second] {
            let lines: Vec<_> = part.iter().map(|(key, quantity)| serde_json::json!({"user_id": text(key), "quantity": quantity}).to_string()).collect();
            found.extend(json_rows(&operator.ingest(0, &batch(&query, &lines.join("\n")), None, 1).unwrap().rows));
        }
        let mut wanted = vec![];
        for (key, quantity) in &records {
            let hits = known.iter().filter(|(other, level)| key.is_some() && other == key && (!condition || quantity >= level));
            let before = wanted.len();
            wanted.extend(hits.map(|(_, level)| format!(r#"{{"q":{quantity},"l":{level}}}"#)));
            if outer && wanted.len() == before {
                wanted.push(format!(r#"{{"q":{quantity}}}"#));
            }
        }
        prop_assert_eq!(found, wanted);
    }
}
