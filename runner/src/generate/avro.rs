//! Events of applications as Avro, as a producer with a schema registry writes them. Pure.

use serde::Deserialize;

/// Their schema. The first field that a query reads is not the first of the record, and one may be null.
pub const SCHEMA: &str = r#"{"type": "record", "name": "AppEvent", "namespace": "dataplatform", "fields": [
    {"name": "event_id", "type": "string"},
    {"name": "event_type", "type": "string"},
    {"name": "user_id", "type": "string"},
    {"name": "session_id", "type": ["null", "string"], "default": null},
    {"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "app_type", "type": "string"},
    {"name": "properties", "type": {"type": "record", "name": "Properties", "fields": [
        {"name": "page", "type": "string"}, {"name": "duration_ms", "type": "long"}, {"name": "ref", "type": "string"}
    ]}}
]}"#;

#[derive(Deserialize)]
struct AppEvent<'a> {
    event_id: &'a str,
    event_type: &'a str,
    user_id: &'a str,
    session_id: Option<&'a str>,
    timestamp: &'a str,
    app_type: &'a str,
    #[serde(borrow)]
    properties: Properties<'a>,
}

#[derive(Deserialize)]
struct Properties<'a> {
    page: &'a str,
    duration_ms: i64,
    #[serde(rename = "ref")]
    reference: &'a str,
}

/// An event behind the id of its schema. `None`: it is no good event, or its time is written in another form than the usual one.
pub fn framed(id: u32, json: &[u8]) -> Option<Vec<u8>> {
    let event: AppEvent<'_> = serde_json::from_slice(json).ok()?;
    let time = chrono::DateTime::parse_from_rfc3339(event.timestamp).ok()?;
    let mut out = vec![0];
    out.extend(id.to_be_bytes());
    for text in [event.event_id, event.event_type, event.user_id] {
        put_text(text, &mut out);
    }
    put_long(i64::from(event.session_id.is_some()), &mut out);
    if let Some(session) = event.session_id {
        put_text(session, &mut out);
    }
    put_long(time.timestamp_millis(), &mut out);
    put_text(event.app_type, &mut out);
    put_text(event.properties.page, &mut out);
    put_long(event.properties.duration_ms, &mut out);
    put_text(event.properties.reference, &mut out);
    Some(out)
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    put_long(i64::try_from(text.len()).unwrap_or(i64::MAX), out);
    out.extend(text.as_bytes());
}

/// Seven bits a byte, the lowest first, small negative numbers short, too.
fn put_long(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::{EventGenerator, EventSettings};

    #[test]
    fn numbers_are_written_as_the_specification_has_them() {
        for (value, bytes) in [(0, &[0][..]), (-1, &[1]), (1, &[2]), (-64, &[0x7f]), (64, &[0x80, 1])] {
            let mut out = Vec::new();
            put_long(value, &mut out);
            assert_eq!(out, bytes, "{value}");
        }
    }

    #[test]
    fn every_good_event_has_its_avro_and_others_have_none() {
        let mut generator = EventGenerator::new(EventSettings::default());
        for number in 0..100 {
            let event = generator.event(1_767_225_600_000 + number);
            let framed = framed(7, &event.value.unwrap()).unwrap();
            assert_eq!(framed[..6], [0, 0, 0, 0, 7, 72], "the id, and 36 letters of another one");
        }
        assert_eq!(framed(7, b"not json"), None);
    }
}
