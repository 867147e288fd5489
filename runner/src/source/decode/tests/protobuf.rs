//! Protobuf: messages by descriptors from the text of a schema, from what it imports, and from a descriptor set.

use proptest::prelude::*;
use prost_reflect::prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::json;

use super::*;
use crate::source::schemas::SchemaKind;

const ID: u32 = 9;

const ORDER: &str = r#"
syntax = "proto3";
package shop.v1;
import "google/protobuf/timestamp.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/wrappers.proto";
import "google/protobuf/struct.proto";
import "common/money.proto";

enum State { UNKNOWN = 0; OPEN = 1; PAID = 2; }

message Order {
  int64 id = 1;
  optional string customer = 2;
  State state = 3;
  google.protobuf.Timestamp placed = 4;
  google.protobuf.Duration took = 5;
  google.protobuf.Int64Value discount = 6;
  common.Money total = 7;
  repeated Line lines = 8;
  map<string, int32> counts = 9;
  map<int32, string> by_number = 10;
  oneof payment { string card = 11; Transfer transfer = 12; }
  uint64 big = 13;
  bytes raw = 14;
  repeated sint32 deltas = 15;
  google.protobuf.Struct free = 16;
  double ratio = 17;
  bool gift = 18;
  Order before = 19;
  message Line { string sku = 1; int32 count = 2; }
  message Transfer { string iban = 1; }
}

message Other { string note = 1; }
"#;

const MONEY: &str = r#"
syntax = "proto3";
package common;
message Money { int64 units = 1; string currency = 2; }
"#;

fn schema(text: &str) -> WriterSchema {
    let references = vec![("common/money.proto".to_owned(), MONEY.to_owned())];
    let text = text.to_owned();
    WriterSchema { id: Some(ID), kind: SchemaKind::Protobuf, text, descriptors: None, references, subjects: Vec::new() }
}

fn pool() -> DescriptorPool {
    super::super::protobuf::pool(&schema(ORDER)).unwrap().0
}

/// A message of this kind from JSON, in Protobuf's own mapping of names.
fn message(name: &str, set: &dyn Fn(&mut DynamicMessage)) -> DynamicMessage {
    let mut message = DynamicMessage::new(pool().get_message_by_name(name).unwrap());
    set(&mut message);
    message
}

fn framed(indices: &[u8], message: &[u8]) -> Vec<u8> {
    [&[0], ID.to_be_bytes().as_slice(), indices, message].concat()
}

fn source_of(columns: Value) -> SourceSpec {
    source_with(json!({"format": "protobuf", "columns": columns}))
}

fn set(message: &mut DynamicMessage, name: &str, value: prost_reflect::Value) {
    message.try_set_field_by_name(name, value).unwrap();
}

/// An order in which everything is set.
fn whole_order() -> DynamicMessage {
    use prost_reflect::{MapKey, Value as V};
    let part = |name: &str, fields: &[(&str, V)]| {
        let mut part = DynamicMessage::new(pool().get_message_by_name(name).unwrap());
        fields.iter().for_each(|(name, value)| set(&mut part, name, value.clone()));
        V::Message(part)
    };
    let line =
        |sku: &str, count| part("shop.v1.Order.Line", &[("sku", V::String(sku.to_owned())), ("count", V::I32(count))]);
    message("shop.v1.Order", &|order| {
        for (name, value) in [
            ("id", V::I64(i64::MAX)),
            ("customer", V::String("é".to_owned())),
            ("state", V::EnumNumber(2)),
            (
                "placed",
                part(
                    "google.protobuf.Timestamp",
                    &[("seconds", V::I64(1_767_225_600)), ("nanos", V::I32(123_456_789))],
                ),
            ),
            ("took", part("google.protobuf.Duration", &[("seconds", V::I64(1)), ("nanos", V::I32(500_000_000))])),
            ("discount", part("google.protobuf.Int64Value", &[("value", V::I64(7))])),
            ("total", part("common.Money", &[("units", V::I64(5)), ("currency", V::String("EUR".to_owned()))])),
            ("lines", V::List(vec![line("a", 1), line("b", 0)])),
            (
                "counts",
                V::Map([("y", 2), ("x", 1)].map(|(key, value)| (MapKey::String(key.to_owned()), V::I32(value))).into()),
            ),
            ("by_number", V::Map([(MapKey::I32(3), V::String("three".to_owned()))].into())),
            ("card", V::String("4711".to_owned())),
            ("big", V::U64(u64::MAX)),
            ("raw", V::Bytes(vec![0, 255].into())),
            ("deltas", V::List(vec![V::I32(-1), V::I32(2)])),
            ("ratio", V::F64(0.5)),
            ("gift", V::Bool(true)),
        ] {
            set(order, name, value);
        }
    })
}

fn cell(order: &DynamicMessage, column: Value) -> String {
    let value = framed(&[0], &order.encode_to_vec());
    match become_of(&source_of(json!([column])), &[schema(ORDER)], &value) {
        Ok(row) => row[0].clone(),
        Err(bad) => format!("{}: {bad}", bad.reason),
    }
}

#[test]
fn a_field_is_what_its_descriptor_says() {
    let (whole, empty) = (whole_order(), message("shop.v1.Order", &|_| {}));
    for (name, column_type, of_whole, of_empty) in [
        ("id", "bigint", "9223372036854775807", "0"),
        ("id", "string", "9223372036854775807", "0"),
        ("customer", "string", "é", "NULL"),
        ("state", "string", "PAID", "UNKNOWN"),
        ("placed", "timestamp", "2026-01-01T00:00:00.123456Z", "NULL"),
        ("placed", "json", "\"2026-01-01T00:00:00.123456Z\"", "NULL"),
        ("took", "double", "1.5", "NULL"),
        ("took", "decimal(12,3)", "1.500", "NULL"),
        ("discount", "bigint", "7", "NULL"),
        ("total", "struct<currency:string,units:bigint,more:int>", "{currency: EUR, units: 5, more: NULL}", "NULL"),
        ("lines", "array<struct<sku:string,count:int>>", "[{sku: a, count: 1}, {sku: b, count: 0}]", "[]"),
        ("lines", "json", r#"[{"sku":"a","count":1},{"sku":"b"}]"#, "[]"),
        ("counts", "map<string,bigint>", "{x: 1, y: 2}", "{}"),
        ("by_number", "map<string,string>", "{3: three}", "{}"),
        ("card", "string", "4711", "NULL"),
        ("transfer", "struct<iban:string>", "NULL", "NULL"),
        ("big", "decimal(20,0)", "18446744073709551615", "0"),
        ("big", "json", "18446744073709551615", "0"),
        ("raw", "binary", "00ff", ""),
        ("deltas", "array<int>", "[-1, 2]", "[]"),
        ("ratio", "double", "0.5", "0.0"),
        ("gift", "boolean", "true", "false"),
        ("before", "json", "NULL", "NULL"),
        ("nothing", "string", "NULL", "NULL"),
    ] {
        let column = json!({"name": name, "type": column_type});
        assert_eq!(cell(&whole, column.clone()), of_whole, "{name} as {column_type}");
        assert_eq!(cell(&empty, column), of_empty, "{name} as {column_type}, not sent");
    }
    for (path, column_type, expected) in [
        ("total.currency", "string", "EUR"),
        ("counts.x", "int", "1"),
        ("counts.z", "int", "NULL"),
        ("transfer.iban", "string", "NULL"),
        ("before.total.units", "bigint", "NULL"),
    ] {
        assert_eq!(cell(&whole, json!({"name": "c", "type": column_type, "path": path})), expected, "{path}");
    }
    let whole_value = cell(&whole, json!({"name": "v", "type": "json", "from": "value"}));
    let json: Value = serde_json::from_str(&whole_value).unwrap();
    assert_eq!((&json["state"], &json["total"]["units"], &json["counts"]["y"]), (&json!("PAID"), &json!(5), &json!(2)));
    assert!(cell(&whole, json!({"name": "big", "type": "bigint"})).starts_with("out_of_range: "));
}

#[test]
fn a_message_is_named_by_its_indices() {
    let order = whole_order().encode_to_vec();
    let source = source_of(json!([{"name": "sku", "type": "string"}, {"name": "note", "type": "string"}]));
    let line = message("shop.v1.Order.Line", &|line| set(line, "sku", prost_reflect::Value::String("a".to_owned())));
    let other = message("shop.v1.Other", &|other| set(other, "note", prost_reflect::Value::String("n".to_owned())));
    // Entries of maps are messages, too: Line is the third one inside of Order.
    let place = pool().get_message_by_name("shop.v1.Order.Line").unwrap();
    let place = place.path().iter().skip(1).step_by(2).map(|index| 2 * *index as u8);
    let nested: Vec<u8> = [4].into_iter().chain(place).collect();
    for (indices, message, expected) in [
        (vec![0], &order, ["NULL", "NULL"]),
        (vec![2, 0], &order, ["NULL", "NULL"]),
        (vec![2, 2], &other.encode_to_vec(), ["NULL", "n"]),
        (nested, &line.encode_to_vec(), ["a", "NULL"]),
    ] {
        assert_eq!(become_of(&source, &[schema(ORDER)], &framed(&indices, message)).unwrap(), expected, "{indices:?}");
    }
    for indices in [vec![], vec![2], vec![2, 8], vec![1], vec![0xff; 12], vec![0x80, 0x80, 0x10]] {
        let bad = become_of(&source, &[schema(ORDER)], &framed(&indices, &[])).unwrap_err();
        assert_eq!(bad.reason, BadReason::Framing, "{indices:?}: {bad}");
    }
}

#[test]
fn bytes_that_are_no_message_and_schemas_that_do_not_fit_have_a_reason() {
    let id = source_of(json!([{"name": "id", "type": "bigint", "required": true}]));
    for (message, reason) in
        [(&[0x08][..], "syntax"), (&[0x12, 5, b'a'], "syntax"), (&[0x12, 1, 0xff], "syntax"), (&[7], "syntax")]
    {
        let bad = become_of(&id, &[schema(ORDER)], &framed(&[0], message)).unwrap_err();
        assert_eq!(bad.reason.as_str(), reason, "{message:?}: {bad}");
    }
    let deep = (0..200).fold(Vec::new(), |inside: Vec<u8>, _| {
        let mut outside = vec![0x9a, 0x01];
        prost_reflect::prost::encoding::encode_varint(inside.len() as u64, &mut outside);
        [outside, inside].concat()
    });
    assert_eq!(become_of(&id, &[schema(ORDER)], &framed(&[0], &deep)).unwrap_err().reason, BadReason::TooDeep);
    // A message that lacks what another one of its file has.
    let bad = become_of(&id, &[schema(ORDER)], &framed(&[2, 2], &[])).unwrap_err();
    assert_eq!(bad.reason, BadReason::IncompatibleSchema, "{bad}");
    for (columns, text, problem) in [
        (json!([{"name": "id", "type": "timestamp"}]), "message A { string id = 1; repeated string id2 = 2; }", ""),
        (
            json!([{"name": "id", "type": "boolean"}]),
            "message A { string id = 1; }",
            "schema 9: its field id is string, and the column \"id\" is boolean",
        ),
        (
            json!([{"name": "id", "type": "string"}]),
            "message A { repeated string id = 1; }",
            "its field id is a list of string",
        ),
        (
            json!([{"name": "id", "type": "string", "required": true}]),
            "message A { }",
            "A has no field id for the required column",
        ),
        (
            json!([{"name": "c", "type": "string", "path": "id.x"}]),
            "message A { string id = 1; }",
            "is inside of what is no message",
        ),
        (json!([{"name": "id", "type": "string"}]), "message A {", "it cannot be read: "),
        (
            json!([{"name": "id", "type": "string"}]),
            "import \"missing.proto\"; message A { string id = 1; }",
            "it cannot be read: ",
        ),
        (json!([{"name": "id", "type": "string"}]), "", "it has no message"),
    ] {
        let schema = schema(&format!("syntax = \"proto3\"; {text}"));
        let (_, found) = knowing(&source_of(columns), &[0], &[schema]);
        let found = found.concat();
        assert!(found.contains(problem) && found.is_empty() == problem.is_empty(), "{text}: {found}");
    }
}

#[test]
fn values_without_an_id_are_read_by_a_message_of_a_file() {
    let of = |message: &str| {
        source_with(json!({
            "format": "protobuf", "schema": {"file": "/schemas/order.desc", "message": message},
            "columns": [{"name": "id", "type": "bigint"}],
        }))
    };
    let set = WriterSchema { id: None, descriptors: Some(pool().encode_to_vec()), ..schema("") };
    let text = WriterSchema { id: None, ..schema(ORDER) };
    let value = whole_order().encode_to_vec();
    for schema in [&set, &text].map(std::slice::from_ref) {
        assert_eq!(become_of(&of("shop.v1.Order"), schema, &value).unwrap(), ["9223372036854775807"]);
        let (_, problems) = knowing(&of("shop.v1.Nothing"), &[0], schema);
        assert_eq!(problems, ["the schema of the file: it has no message shop.v1.Nothing"]);
    }
    let broken = WriterSchema { descriptors: Some(vec![0xff; 9]), ..set };
    assert!(knowing(&of("shop.v1.Order"), &[0], &[broken]).1[0].contains("no descriptor set"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_make_it_panic_and_every_record_is_a_row_or_has_a_reason(
        accidents in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3), 0..5),
        noise in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let source = source_of(json!([
            {"name": "id", "type": "int"}, {"name": "lines", "type": "array<struct<sku:string,count:int>>"},
            {"name": "counts", "type": "map<string,int>"}, {"name": "placed", "type": "timestamp"},
            {"name": "all", "type": "json", "from": "value"}, {"name": "took", "type": "decimal(10,3)"},
        ]));
        let mut bytes = framed(&[0], &whole_order().encode_to_vec());
        for (place, byte, kind) in accidents {
            let place = 5 + place.index(bytes.len() - 5);
            match kind {
                0 => bytes.truncate(place.max(6)),
                1 => bytes.insert(place, byte),
                _ => {
                    let last = bytes.len() - 1;
                    bytes[place.min(last)] = byte;
                }
            }
        }
        let _ = become_of(&source, &[schema(ORDER)], &bytes);
        let _ = become_of(&source, &[schema(ORDER)], &framed(&[0], &noise));
    }
}
