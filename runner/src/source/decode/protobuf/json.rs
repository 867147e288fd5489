//! A message as JSON text, for columns of type json: fields by their names in the schema, numbers as numbers however long,
//! enums as names, times as text, bytes as base64. Fields that were not sent are left out.

use prost_reflect::{DynamicMessage, Kind, ReflectMessage, Value};

use super::{scalar, sorted, value_kind, well_known};
use crate::source::decode::typed::write_quoted;

/// Appends a value.
pub(super) fn write(value: &Value, kind: &Kind, out: &mut String) {
    match value {
        Value::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(item, kind, out);
            }
            out.push(']');
        }
        Value::Map(entries) => {
            let kind = value_kind(kind);
            out.push('{');
            for (index, (key, value)) in sorted(entries).into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_quoted(&key, out);
                out.push(':');
                write(value, &kind, out);
            }
            out.push('}');
        }
        Value::Message(message) => write_message(message, out),
        value => {
            let mut name = String::new();
            if let Some(scalar) = scalar(value, kind, &mut name) {
                scalar.write_json(out);
            }
        }
    }
}

/// Appends a message. The types of JSON in messages (`google.protobuf.Struct`, `Value`, `ListValue`) are what they hold.
pub(super) fn write_message(message: &DynamicMessage, out: &mut String) {
    if let Some(scalar) = well_known(message) {
        return scalar.write_json(out);
    }
    let descriptor = message.descriptor();
    let inside = match descriptor.full_name() {
        "google.protobuf.Struct" => "fields",
        "google.protobuf.ListValue" => "values",
        "google.protobuf.Value" => {
            // One of several fields is there.
            return match message.fields().next() {
                Some((field, _)) if field.name() == "null_value" => out.push_str("null"),
                Some((field, value)) => write(value, &field.kind(), out),
                None => out.push_str("null"),
            };
        }
        _ => {
            out.push('{');
            for (index, (field, value)) in message.fields().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_quoted(field.name(), out);
                out.push(':');
                write(value, &field.kind(), out);
            }
            return out.push('}');
        }
    };
    if let Some(field) = descriptor.get_field_by_name(inside) {
        write(&message.get_field(&field), &field.kind(), out);
    }
}
