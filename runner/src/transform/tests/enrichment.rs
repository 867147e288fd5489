//! The built-in job data-enrichment as its template is written: real records of all four topics, joined with users.

use std::collections::BTreeMap;

use data_platform_crds::parameters::expand_parameters;
use data_platform_crds::streaming_job::StreamingJobSpec;

use super::*;
use crate::source::decode::{DecodePlan, Decoder, arrow_type, declared_schema};
use crate::source::record::{NoHeaders, Record};

const TEMPLATE: &str = include_str!("../../../templates/data-enrichment.yaml");

fn spec() -> StreamingJobSpec {
    let job: serde_json::Value = serde_saphyr::from_str(TEMPLATE).unwrap();
    let spec: StreamingJobSpec = serde_json::from_value(job["spec"].clone()).unwrap();
    expand_parameters(&spec, &spec.parameters, &BTreeMap::new()).unwrap()
}

fn inputs(spec: &StreamingJobSpec) -> QueryInputs {
    let sources = spec.sources.iter().map(|source| SourceTable {
        name: source.name.clone(),
        schema: declared_schema(source),
        event_time: None,
    });
    let references = spec.references.iter().map(|reference| {
        let fields =
            reference.columns.iter().map(|column| Field::new(&column.name, arrow_type(&column.column_type), true));
        ReferenceTable { name: reference.name.clone(), schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())) }
    });
    QueryInputs { sources: sources.collect(), references: references.collect(), ..QueryInputs::default() }
}

struct Enrichment {
    spec: StreamingJobSpec,
    query: StreamQuery,
    operator: Operator,
}

impl Enrichment {
    fn new() -> Self {
        let spec = spec();
        let inputs = inputs(&spec);
        let query = StreamQuery::plan(spec.query.as_deref().unwrap(), &inputs, BatchClock::new(T0));
        let query = query.unwrap_or_else(|error| panic!("{error}"));
        let mut operator = query.operator();
        let users = [
            serde_json::json!({"user_id": "ann", "name": "Ann", "country": "DE", "verified": true, "device_type": "mobile", "signup_date": "2020-01-02"}),
            serde_json::json!({"user_id": "bob", "name": "Bob", "verified": false, "device_type": "desktop"}),
        ];
        let users = json_batch(&inputs.references[0].schema, users.into_iter());
        operator.set_reference(0, vec![users].into()).unwrap();
        Self { spec, query, operator }
    }

    /// The row that a record of a topic becomes, without what the record itself says.
    fn row(&mut self, source: usize, value: &str) -> serde_json::Value {
        let declared = &self.spec.sources[source];
        let mut decoder = Decoder::new(DecodePlan::new(declared, self.query.input_columns(source)).unwrap());
        let topic = declared.topics[0].clone();
        let record = Record {
            topic: &topic,
            partition: 0,
            offset: 7,
            timestamp_ms: None,
            key: None,
            value: Some(value.as_bytes()),
            headers: &NoHeaders,
        };
        decoder.decode(&record, i64::MAX).unwrap_or_else(|error| panic!("{error}: {value}"));
        let ingested = self.operator.ingest(source, &decoder.finish(), None, 1).unwrap();
        assert_eq!((ingested.filtered, ingested.late, ingested.accepted), (0, 0, 1));
        let rows = json_rows(&ingested.rows);
        assert_eq!(rows.len(), 1);
        let row: serde_json::Value = serde_json::from_str(&rows[0]).unwrap();
        assert_eq!(row["topic"], topic.as_str());
        assert_eq!(row["payload"], value, "as it came");
        assert_eq!(row["processing_time"], "2026-02-16T14:00:00Z");
        row
    }
}

#[test]
fn events_of_all_topics_have_one_shape() {
    let mut job = Enrichment::new();
    let row = job.row(0, r#"{"user_id":"ann","session_id":"s","event_type":"purchase","app_type":"web","timestamp":"2026-02-16 13:59:59.5","event_id":"e1","device_type":"mobile","country":"FR"}"#);
    assert_eq!((&row["user_id"], &row["event_id"], &row["session_id"]), (&"ann".into(), &"e1".into(), &"s".into()));
    assert_eq!((&row["event_type"], &row["event_time"]), (&"purchase".into(), &"2026-02-16T13:59:59.500Z".into()));
    assert_eq!(
        (&row["user_name"], &row["user_country"], &row["user_verified"]),
        (&"Ann".into(), &"DE".into(), &true.into())
    );
    assert_eq!((&row["user_signup_date"], &row["date"]), (&"2020-01-02".into(), &"2026-02-16".into()));
    assert_eq!((&row["engagement_score"], &row["is_high_value"]), (&10.0.into(), &true.into()));
    assert_eq!((&row["risk_flags"], &row["risk_score"]), (&serde_json::json!(["country_mismatch"]), &1.into()));

    let row = job.row(1, r#"{"event_id":"c1","user_id":"bob","page_url":"/","timestamp":1771250400,"event_type":"hover","device_type":"tablet"}"#);
    assert_eq!((&row["engagement_score"], &row["is_high_value"]), (&0.5.into(), &false.into()));
    assert_eq!(row["risk_flags"], serde_json::json!(["unverified_account", "device_mismatch"]));
    assert_eq!((&row["risk_score"], row.get("session_id")), (&2.into(), None));

    let change = r#"{"op":"u","before":null,"after":{"id":1},"source":{"db":"d","schema":"public","table":"t","ts_ms":1771250400000},"ts_ms":1}"#;
    let row = job.row(2, change);
    assert_eq!((&row["event_type"], row.get("user_id"), row.get("event_id")), (&"UPDATE".into(), None, None));
    assert_eq!(
        (&row["engagement_score"], &row["risk_flags"], &row["risk_score"]),
        (&0.0.into(), &serde_json::json!([]), &0.into())
    );

    let row =
        job.row(3, r#"{"data_source":"weather","timestamp":"2026-02-15T13:00:00Z","location":"Berlin","value":3}"#);
    assert_eq!((&row["event_type"], &row["is_high_value"]), (&"weather".into(), &false.into()));
    assert_eq!((&row["risk_flags"], &row["date"]), (&serde_json::json!(["stale_event"]), &"2026-02-15".into()));
}

#[test]
fn flags_depend_on_who_is_known_and_on_the_clock() {
    let mut job = Enrichment::new();
    let click = |user: &str, time: &str| {
        format!(r#"{{"event_id":"c","user_id":"{user}","page_url":"/","timestamp":"{time}","event_type":"search"}}"#)
    };
    for (user, time, flags) in [
        ("ann", "2026-02-16 14:05:00", serde_json::json!([])),
        ("ann", "2026-02-16 14:05:00.001", serde_json::json!(["future_timestamp"])),
        ("ann", "2026-02-15 14:00:00", serde_json::json!([])),
        ("ann", "2026-02-15 13:59:59.999", serde_json::json!(["stale_event"])),
        ("eve", "2026-02-16 14:00:00", serde_json::json!(["unknown_user"])),
        ("ANN", "2026-02-16 14:05:01", serde_json::json!(["unknown_user", "future_timestamp"])),
    ] {
        let row = job.row(1, &click(user, time));
        assert_eq!(row["risk_flags"], flags, "{user} {time}");
        assert_eq!(row["risk_score"], flags.as_array().unwrap().len());
        assert_eq!((&row["engagement_score"], &row["is_high_value"]), (&3.0.into(), &false.into()));
    }
}
