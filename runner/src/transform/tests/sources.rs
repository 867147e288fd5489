//! Several sources in one query.

use super::*;
use crate::source::record::IDENTITY_COLUMNS;

fn table(name: &str, event_time: &str, columns: &[(&str, DataType)]) -> SourceTable {
    let mut fields = vec![Field::new(event_time, crate::transform::window::timestamp_type(), false)];
    fields.extend(columns.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true)));
    SourceTable { name: name.into(), schema: Arc::new(Schema::new(fields)), event_time: Some(event_time.into()) }
}

/// Events, clicks with another name for the same things, and sensors that nobody has to read.
fn inputs() -> QueryInputs {
    let text = DataType::Utf8View;
    let sources = vec![
        table(
            "events",
            "at",
            &[("user_id", text.clone()), ("event_type", text.clone()), ("amount", DataType::Float64)],
        ),
        table("clicks", "clicked", &[("userId", text.clone()), ("page", text.clone()), ("x", DataType::Int64)]),
        table("sensors", "measured", &[("value", text)]),
    ];
    QueryInputs { sources, ..QueryInputs::default() }
}

fn plan_over(inputs: &QueryInputs, sql: &str) -> Result<StreamQuery, QueryError> {
    StreamQuery::plan(sql, inputs, BatchClock::new(T0))
}

#[track_caller]
fn refused(sql: &str, parts: &[&str]) {
    let Err(error) = plan_over(&inputs(), sql) else { panic!("this was planned: {sql}") };
    for part in parts {
        assert!(error.to_string().contains(part), "{part:?} is not in {error}");
    }
}

/// A batch of one source; times are in seconds after T0.
fn rows_of(query: &StreamQuery, source: usize, lines: &[serde_json::Value]) -> RecordBatch {
    let table = &inputs().sources[source];
    let schema = Arc::new(table.full_schema().project(query.input_columns(source)).unwrap());
    let time = table.event_time.clone().unwrap();
    let values = lines.iter().cloned().map(|mut value| {
        if let Some(seconds) = value[&time].as_f64() {
            value[&time] = (T0 + (seconds * 1e6) as i64).into();
        }
        value
    });
    json_batch(&schema, values)
}

const COUNT_BOTH: &str = "SELECT window_start, who, count(*) AS n, max(what) AS what FROM (
        SELECT at AS time, user_id AS who, event_type AS what FROM events WHERE amount IS NULL OR amount > 0
        UNION ALL SELECT clicked, userId, page FROM clicks)
    GROUP BY tumble(time, INTERVAL '1 minute'), who";

#[test]
fn each_source_runs_through_its_own_branches() {
    let query = plan_over(&inputs(), COUNT_BOTH).unwrap();
    assert!(query.reads(0) && query.reads(1) && !query.reads(2) && !query.reads(9));
    assert_eq!((query.input_columns(0), query.input_columns(1)), (&[0, 1, 2, 3][..], &[0, 1, 2][..]));
    assert!(query.input_columns(2).is_empty());
    assert_eq!(query.explain().window.as_ref().unwrap().event_time, "at, clicked");
    assert!(query.explain().reads.contains(&"clicks.userId".to_owned()), "{:?}", query.explain().reads);

    let mut operator = query.operator();
    let event =
        |at: f64, amount: f64| serde_json::json!({"at": at, "user_id": "a", "event_type": "buy", "amount": amount});
    let ingested = operator.ingest(0, &rows_of(&query, 0, &[event(1.0, 2.0), event(2.0, -1.0)]), None, 1).unwrap();
    assert_eq!((ingested.filtered, ingested.accepted), (1, 1));
    let click = |at: f64| serde_json::json!({"clicked": at, "userId": "a", "page": "/z"});
    let ingested = operator.ingest(1, &rows_of(&query, 1, &[click(3.0), click(61.0)]), Some(T0), 1).unwrap();
    assert_eq!((ingested.filtered, ingested.late, ingested.accepted), (0, 0, 2));
    let late = operator.ingest(1, &rows_of(&query, 1, &[click(-61.0)]), Some(T0), 1).unwrap();
    assert_eq!((late.late, late.accepted), (1, 0));
    // A source that is not read is not counted.
    let other = operator.ingest(2, &inputs_of_sensors(), None, 1).unwrap();
    assert_eq!((other.filtered, other.late, other.accepted), (0, 0, 0));
    let rows = json_rows(&close_all(&mut operator));
    assert_eq!(
        rows,
        [
            r#"{"window_start":"2026-02-16T14:00:00Z","who":"a","n":2,"what":"buy"}"#,
            r#"{"window_start":"2026-02-16T14:01:00Z","who":"a","n":1,"what":"/z"}"#
        ]
    );
}

fn inputs_of_sensors() -> RecordBatch {
    RecordBatch::new_empty(inputs().sources[2].schema.clone())
}

#[test]
fn without_a_window_rows_of_all_sources_have_one_shape() {
    let sql = "SELECT 'event' AS kind, user_id, amount, at FROM events
        UNION ALL SELECT 'click', userId, x, clicked FROM clicks
        UNION ALL SELECT 'page', page, x + 1, clicked FROM clicks WHERE x > 5";
    let query = plan_over(&inputs(), sql).unwrap();
    let mut operator = query.operator();
    let ingested = operator
        .ingest(0, &rows_of(&query, 0, &[serde_json::json!({"at": 1, "user_id": "a", "amount": 1.5})]), None, 1)
        .unwrap();
    assert_eq!(
        json_rows(&ingested.rows),
        [r#"{"kind":"event","user_id":"a","amount":1.5,"at":"2026-02-16T14:00:01Z"}"#]
    );
    let click = serde_json::json!({"clicked": 2, "userId": "b", "page": "/", "x": 7});
    let ingested = operator.ingest(1, &rows_of(&query, 1, &[click]), None, 1).unwrap();
    assert_eq!(
        json_rows(&ingested.rows),
        [
            r#"{"kind":"click","user_id":"b","amount":7.0,"at":"2026-02-16T14:00:02Z"}"#,
            r#"{"kind":"page","user_id":"/","amount":8.0,"at":"2026-02-16T14:00:02Z"}"#
        ]
    );
}

#[test]
fn branches_of_different_types_are_refused() {
    refused(
        "SELECT user_id AS a, at AS t FROM events UNION ALL SELECT userId, page FROM clicks",
        &["column 2 of UNION ALL, t, is timestamp in one branch and string in another", "CAST(t AS string)"],
    );
    refused("SELECT amount AS a FROM events UNION ALL SELECT page FROM clicks", &["a, is double in one branch"]);
    refused("SELECT at, amount FROM events UNION ALL SELECT clicked FROM clicks", &["different number of columns"]);
    // Numbers of different widths, and null, do go together.
    plan_over(
        &inputs(),
        "SELECT amount AS a FROM events UNION ALL SELECT x FROM clicks UNION ALL SELECT NULL FROM sensors",
    )
    .unwrap();
}

#[test]
fn a_window_is_over_the_event_time_of_each_source() {
    let union = |second: &str| {
        format!(
            "SELECT window_start, count(*) AS n FROM (SELECT at AS t FROM events UNION ALL SELECT {second} FROM clicks)
            GROUP BY tumble(t, INTERVAL '1 minute')"
        )
    };
    plan_over(&inputs(), &union("clicked")).unwrap();
    refused(
        &union("clicked + INTERVAL '1 hour'"),
        &["not the event time of clicks as it stands in the record", "tumble(clicked, …)"],
    );
    let mut without = inputs();
    without.sources[1].event_time = None;
    let error = plan_over(&without, &union("clicked")).err().unwrap().to_string();
    assert!(error.contains("event time of each source, and clicks has none"), "{error}");
    // A source that is not read needs none.
    plan_over(&without, "SELECT window_start, count(*) AS n FROM events GROUP BY tumble(at, INTERVAL '1 minute')")
        .unwrap();
}

#[test]
fn names_of_tables_differ() {
    let mut twice = inputs();
    twice.sources[1].name = "EVENTS".into();
    let error = plan_over(&twice, "SELECT at FROM events").err().unwrap().to_string();
    assert!(error.contains("two tables of the job are called EVENTS"), "{error}");
    refused("SELECT at FROM evnts", &["there is no table evnts", "did you mean events?"]);
    refused(
        "WITH clicks AS (SELECT at FROM events) SELECT at FROM clicks",
        &["the name of a table that the job reads"],
    );
    refused("SELECT events.at FROM events JOIN clicks ON events.at = clicks.clicked", &["a join would have to keep"]);
}

#[test]
fn the_identity_of_a_record_is_hidden() {
    let query = plan_over(&inputs(), "SELECT * FROM events").unwrap();
    let schema = query.output_schema();
    let columns: Vec<&String> = schema.fields().iter().map(|field| field.name()).collect();
    assert_eq!(columns, ["at", "user_id", "event_type", "amount"]);
    for name in IDENTITY_COLUMNS {
        for sql in [format!("SELECT {name} FROM events"), format!("SELECT at AS \"{name}\" FROM events")] {
            refused(&sql, &["is reserved", "from: topic"]);
        }
        let mut declared = inputs();
        declared.sources[0] = table("events", "at", &[(name, DataType::Utf8View)]);
        let error = plan_over(&declared, "SELECT at FROM events").err().unwrap().to_string();
        assert!(error.contains(name) && error.contains("reserved"), "{error}");
    }
}

#[test]
fn late_records_are_told_one_by_one() {
    let inputs = QueryInputs { tell_late_records: true, ..inputs() };
    for sql in [
        COUNT_BOTH.to_owned(),
        "SELECT window_start, page, count(*) AS n FROM clicks WHERE x > 0 GROUP BY tumble(clicked, INTERVAL '1 minute'), page".to_owned(),
        // Behind a fan-out too.
        "SELECT window_start, v, count(*) AS n FROM (SELECT clicked, unnest(make_array(page, userId)) AS v FROM clicks WHERE x > 0)
         GROUP BY tumble(clicked, INTERVAL '1 minute'), v".to_owned(),
    ] {
        let query = plan_over(&inputs, &sql).unwrap();
        assert!(query.input_columns(1).ends_with(&[4, 5, 6]), "{:?}", query.input_columns(1));
        let click = |at: i64, offset: i64| {
            serde_json::json!({"clicked": at, "userId": "a", "page": "/", "x": 1,
                "__topic": "topic_clickstream", "__partition": 3, "__offset": offset})
        };
        let rows = rows_of(&query, 1, &[click(10, 7), click(70, 8), click(59, 9), click(60, 10)]);
        let mut operator = query.operator();
        let ingested = operator.ingest(1, &rows, Some(T0 + 60 * SECOND), 1).unwrap();
        assert_eq!((ingested.late, ingested.accepted), (2, 2), "{sql}");
        let late = json_rows(&[ingested.late_records.unwrap()]);
        assert_eq!(late.len(), 2);
        assert!(late[0].contains("topic_clickstream") && late[0].contains(":3,") && late[1].ends_with(":9}"), "{late:?}");
        let none_late = operator.ingest(1, &rows, None, 2).unwrap();
        assert!(none_late.late_records.is_none());
        assert!(!close_all(&mut operator).is_empty());
    }
}

#[test]
fn rows_are_told_with_their_record_if_somebody_asks() {
    let inputs = QueryInputs { tell_origins: true, ..inputs() };
    let click = |offset: i64| {
        serde_json::json!({"clicked": 1, "userId": "a", "page": "/", "x": offset,
            "__topic": "topic_clickstream", "__partition": 3, "__offset": offset})
    };
    for (sql, offsets) in [
        ("SELECT page FROM clicks WHERE x <> 8", vec![7, 9]),
        ("SELECT unnest(make_array(page, userId)) AS v FROM clicks WHERE x > 7", vec![8, 8, 9, 9]),
        ("SELECT upper(page) AS p FROM clicks UNION ALL SELECT user_id FROM events", vec![7, 8, 9]),
    ] {
        let query = plan_over(&inputs, sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        let schema = query.output_schema();
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        assert!(names.len() == 4 && names.ends_with(&IDENTITY_COLUMNS), "{sql}: {names:?}");
        assert_eq!(query.explain().output.len(), 1, "people are told of what they wrote");
        let ingested =
            query.operator().ingest(1, &rows_of(&query, 1, &[click(7), click(8), click(9)]), None, 1).unwrap();
        let mut told: Vec<i64> = Vec::new();
        for row in json_rows(&ingested.rows) {
            let row: serde_json::Value = serde_json::from_str(&row).unwrap();
            assert_eq!((row["__topic"].as_str(), row["__partition"].as_i64()), (Some("topic_clickstream"), Some(3)));
            told.extend(row["__offset"].as_i64());
        }
        told.sort_unstable();
        assert_eq!(told, offsets, "{sql}");
    }
    // A row of a window is of many records.
    let windowed = plan_over(&inputs, COUNT_BOTH).unwrap();
    assert!(!windowed.output_schema().fields().iter().any(|field| IDENTITY_COLUMNS.contains(&field.name().as_str())));
}
