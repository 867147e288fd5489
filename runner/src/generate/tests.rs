//! What is generated: the same for a seed, good unless it is to be bad, and bad in the ways that it says.

use super::*;
use crate::source::decode::{DecodePlan, Decoder};
use crate::source::record::{NoHeaders, Record};
use data_platform_crds::source::SourceSpec;

const START: i64 = 1_767_225_600_000;

fn source() -> SourceSpec {
    let text = crate::config::templates::find("event-aggregation").unwrap();
    let manifest = data_platform_crds::check::Manifest::read(text).unwrap().remove(0);
    let data_platform_crds::job::Job::Streaming(job) = manifest.check().unwrap().0 else { panic!("a streaming job") };
    job.spec.sources[0].clone()
}

fn decode(decoder: &mut Decoder, event: &GeneratedEvent) -> Option<Result<i64, String>> {
    let value = event.value.as_deref()?;
    let record = Record {
        topic: "t",
        partition: 0,
        offset: 0,
        timestamp_ms: None,
        key: Some(&event.key),
        value: Some(value),
        headers: &NoHeaders,
    };
    Some(decoder.decode(&record, i64::MAX).map(|time| time.unwrap()).map_err(|bad| bad.to_string()))
}

#[test]
fn the_same_seed_gives_the_same_events_of_the_usual_size() {
    let events = |seed| -> Vec<_> {
        let mut generator = EventGenerator::new(EventSettings { seed, ..EventSettings::default() });
        (0..1_000).map(|i| generator.event(START + i)).collect()
    };
    assert_eq!(events(1), events(1));
    assert_ne!(events(1), events(2));
    let bytes: usize = events(1).iter().map(|event| event.value.as_ref().unwrap().len()).sum();
    assert!((230..260).contains(&(bytes / 1_000)), "{}", bytes / 1_000);
}

#[test]
fn every_timestamp_form_is_read_back_as_the_time_that_was_meant() {
    let mut generator = EventGenerator::new(EventSettings { every_timestamp_form: true, ..EventSettings::default() });
    let mut decoder = Decoder::new(DecodePlan::new(&source(), &[0, 4]).unwrap());
    for i in 0..2_000 {
        let event = generator.event(START + i * 37);
        assert_eq!(decode(&mut decoder, &event), Some(Ok(event.time_ms * 1_000)), "{event:?}");
    }
}

#[test]
fn about_as_many_records_are_bad_as_asked_for() {
    let mut generator = EventGenerator::new(EventSettings { messy: 0.5, ..EventSettings::default() });
    let mut decoder = Decoder::new(DecodePlan::new(&source(), &[0, 4]).unwrap());
    let (mut bad, mut tombstones) = (0, 0);
    for i in 0..4_000 {
        match decode(&mut decoder, &generator.event(START + i)) {
            None => tombstones += 1,
            Some(Err(_)) => bad += 1,
            Some(Ok(_)) => {}
        }
    }
    assert!((1_800..2_200).contains(&(bad + tombstones)), "{bad} bad, {tombstones} tombstones");
    assert!(tombstones > 50);
}

fn kind(kind: EventKind, messy: f64) -> EventGenerator {
    let every_timestamp_form = true;
    EventGenerator::new(EventSettings { kind, messy, users: 100, every_timestamp_form, ..EventSettings::default() })
}

/// A source with the fields that the topic's contract requires.
fn contract(kind: EventKind) -> SourceSpec {
    let required: &[&str] = match kind {
        EventKind::AppEvents => &["event_type", "user_id", "session_id", "app_type"],
        EventKind::Clickstream => &["event_id", "user_id", "page_url", "event_type"],
        EventKind::Changes => &["operation", "operation_type"],
        EventKind::ExternalData => &["data_source"],
    };
    let time = if kind == EventKind::Changes { "event_time" } else { "timestamp" };
    let column = |name: &&str| serde_json::json!({"name": name, "type": "string", "required": true});
    let mut columns: Vec<_> = required.iter().map(column).collect();
    columns.push(serde_json::json!({"name": time, "type": "timestamp"}));
    let format = if kind == EventKind::Changes { "cdc" } else { "json" };
    let spec = serde_json::json!({
        "name": "s", "topics": ["t"], "format": format, "columns": columns, "eventTime": {"column": time},
    });
    serde_json::from_value(spec).unwrap()
}

#[test]
fn each_topic_has_the_records_of_its_contract() {
    for kind_of in EventKind::ALL {
        let mut generator = kind(kind_of, 0.0);
        let mut again = kind(kind_of, 0.0);
        let mut decoder = Decoder::new(DecodePlan::new(&contract(kind_of), &[0]).unwrap());
        let (mut rows, mut tombstones) = (0, 0);
        for i in 0..3_000 {
            let event = generator.event(START + i * 41);
            assert_eq!(event, again.event(START + i * 41));
            match decode(&mut decoder, &event) {
                None => tombstones += 1,
                Some(Ok(time)) => {
                    rows += 1;
                    assert_eq!(time, event.time_ms * 1_000, "{event:?}");
                }
                Some(Err(what)) => {
                    let is_no_change = ["a heartbeat", "the begin or end of a transaction", "the JSON text null"];
                    let is_change = kind_of == EventKind::Changes && is_no_change.contains(&what.as_str());
                    assert!(
                        is_change,
                        "{what}: {}",
                        String::from_utf8_lossy(event.value.as_deref().unwrap_or_default())
                    );
                }
            }
        }
        assert!(rows > 2_500, "{kind_of:?}: {rows} rows");
        assert_eq!(tombstones > 0, kind_of == EventKind::Changes, "{kind_of:?}");
        assert_eq!(EventKind::of_topic(kind_of.topic()), Some(kind_of));
        assert_eq!(EventKind::of_topic(&format!("x-{}-7", kind_of.topic())), Some(kind_of));
    }
    assert_eq!(EventKind::of_topic("orders"), None);
}

#[test]
fn each_topic_has_bad_records_on_request() {
    for kind_of in EventKind::ALL {
        let mut generator = kind(kind_of, 0.5);
        let mut decoder = Decoder::new(DecodePlan::new(&contract(kind_of), &[]).unwrap());
        let events = (0..2_000).map(|i| generator.event(START + i));
        let bad = events.filter(|event| !matches!(decode(&mut decoder, event), Some(Ok(_)))).count();
        assert!((800..1_300).contains(&bad), "{kind_of:?}: {bad}");
    }
}
