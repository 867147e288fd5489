//! Values that are read by their schema: Avro, and JSON behind the id of a schema.

use proptest::prelude::*;

use super::*;
use crate::source::schemas::SchemaKind;

const ID: u32 = 7;

fn schema(id: Option<u32>, kind: SchemaKind, text: &Value) -> WriterSchema {
    let (references, subjects) = (Vec::new(), vec!["topic_app_events-value".to_owned()]);
    WriterSchema { id, kind, text: text.to_string(), descriptors: None, references, subjects }
}

/// A record type of these fields.
fn record_of(fields: Value) -> Value {
    json!({"type": "record", "name": "Event", "namespace": "tests", "fields": fields})
}

/// A value as Avro writes it. A value of a union is of its first branch, or `{"branch": index, "value": …}`.
fn encode(schema: &Value, value: &Value, out: &mut Vec<u8>) {
    let kind = schema.get("type").unwrap_or(schema);
    match (schema, kind.as_str()) {
        (Value::Array(branches), _) => {
            let (index, value) = match value.get("branch") {
                Some(index) => (index.as_u64().unwrap() as usize, &value["value"]),
                None => (usize::from(!value.is_null() && branches[0] == "null"), value),
            };
            long(index as i64, out);
            encode(&branches[index], value, out);
        }
        (_, Some("null")) => {}
        (_, Some("boolean")) => out.push(u8::from(value.as_bool().unwrap())),
        (_, Some("int" | "long")) => long(value.as_i64().unwrap(), out),
        (_, Some("float")) => out.extend((value.as_f64().unwrap() as f32).to_le_bytes()),
        (_, Some("double")) => out.extend(value.as_f64().unwrap().to_le_bytes()),
        (_, Some("bytes" | "string")) => sized(value, out),
        (_, Some("fixed")) => out.extend(bytes_of(value)),
        (_, Some("enum")) => {
            let symbols = schema["symbols"].as_array().unwrap();
            long(symbols.iter().position(|symbol| symbol == value).unwrap() as i64, out);
        }
        (_, Some("array")) => {
            let items = value.as_array().unwrap();
            // In blocks of two, the second with its length in bytes.
            for (number, block) in items.chunks(2).enumerate() {
                let mut encoded = Vec::new();
                block.iter().for_each(|item| encode(&schema["items"], item, &mut encoded));
                if number == 1 {
                    long(-(block.len() as i64), out);
                    long(encoded.len() as i64, out);
                } else {
                    long(block.len() as i64, out);
                }
                out.extend(encoded);
            }
            long(0, out);
        }
        (_, Some("map")) => {
            for (key, value) in value.as_object().unwrap() {
                long(1, out);
                sized(&key.as_str().into(), out);
                encode(&schema["values"], value, out);
            }
            long(0, out);
        }
        (_, Some("record")) => {
            for field in schema["fields"].as_array().unwrap() {
                encode(&field["type"], &value[field["name"].as_str().unwrap()], out);
            }
        }
        (_, None) => encode(kind, value, out),
        other => panic!("{other:?}"),
    }
}

fn long(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn bytes_of(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => text.as_bytes().to_vec(),
        list => serde_json::from_value(list.clone()).unwrap(),
    }
}

fn sized(value: &Value, out: &mut Vec<u8>) {
    let bytes = bytes_of(value);
    long(bytes.len() as i64, out);
    out.extend(bytes);
}

fn framed(id: u32, body: &[u8]) -> Vec<u8> {
    [&[0], id.to_be_bytes().as_slice(), body].concat()
}

fn encoded(schema: &Value, value: &Value) -> Vec<u8> {
    let mut body = Vec::new();
    encode(schema, value, &mut body);
    framed(ID, &body)
}

fn avro(columns: Value) -> SourceSpec {
    source_with(json!({"format": "avro", "columns": columns}))
}

/// The cell that one field becomes, or its fault.
fn cell(avro_type: &Value, value: &Value, column: &str) -> String {
    let writer = record_of(json!([{"name": "before", "type": "string"}, {"name": "a", "type": avro_type}]));
    let source = avro(json!([{"name": "a", "type": column}]));
    let value = encoded(&writer, &json!({"before": "x", "a": value}));
    match become_of(&source, &[schema(Some(ID), SchemaKind::Avro, &writer)], &value) {
        Ok(row) => row[0].clone(),
        Err(bad) => format!("{}: {bad}", bad.reason),
    }
}

fn logical(base: &str, name: &str) -> Value {
    json!({"type": base, "logicalType": name})
}

#[test]
fn a_value_is_what_its_schema_says() {
    let decimal = json!({"type": "bytes", "logicalType": "decimal", "precision": 30, "scale": 2});
    let nested = json!({"type": "record", "name": "Nested", "fields": [
        {"name": "x", "type": "int"}, {"name": "y", "type": ["null", "string"]},
    ]});
    let uuid = json!({"type": "fixed", "name": "U", "size": 16, "logicalType": "uuid"});
    for (avro_type, value, column, expected) in [
        (json!("string"), json!("é"), "string", "é"),
        (json!("string"), json!("12.50"), "decimal(6,2)", "12.50"),
        (json!("string"), json!("2026-01-01T00:00:00Z"), "timestamp", "2026-01-01T00:00:00Z"),
        (json!("string"), json!("2026-01-02"), "date", "2026-01-02"),
        (json!("string"), json!("foo"), "binary", "666f6f"),
        (json!("boolean"), json!(true), "boolean", "true"),
        (json!("boolean"), json!(true), "string", "true"),
        (json!("int"), json!(-1), "int", "-1"),
        (json!("int"), json!(-1), "bigint", "-1"),
        (json!("int"), json!(1), "double", "1.0"),
        (json!("int"), json!(1), "string", "1"),
        (json!("long"), json!(i64::MIN), "bigint", "-9223372036854775808"),
        (json!("long"), json!(5), "int", "5"),
        (json!("long"), json!(5), "decimal(6,2)", "5.00"),
        (json!("long"), json!(1_767_225_600), "timestamp", "2026-01-01T00:00:00Z"),
        (json!("int"), json!(20454), "date", "2026-01-01"),
        (json!("float"), json!(0.5), "double", "0.5"),
        (json!("double"), json!(0.1), "decimal(6,2)", "0.10"),
        (json!("double"), json!(0.1), "string", "0.1"),
        (json!("bytes"), json!([0, 255]), "binary", "00ff"),
        (json!("bytes"), json!("foo"), "json", "\"Zm9v\""),
        (logical("int", "date"), json!(20454), "date", "2026-01-01"),
        (logical("int", "time-millis"), json!(5), "int", "5"),
        (logical("long", "timestamp-millis"), json!(1_767_225_600_123_i64), "timestamp", "2026-01-01T00:00:00.123Z"),
        (logical("long", "timestamp-micros"), json!(1), "timestamp", "1970-01-01T00:00:00.000001Z"),
        (logical("long", "timestamp-nanos"), json!(1_999), "timestamp", "1970-01-01T00:00:00.000001Z"),
        (logical("long", "local-timestamp-millis"), json!(1), "timestamp", "1970-01-01T00:00:00.001Z"),
        (logical("long", "timestamp-millis"), json!(1), "bigint", "1"),
        (logical("long", "timestamp-millis"), json!(1), "json", "\"1970-01-01T00:00:00.001Z\""),
        (logical("string", "uuid"), json!("u"), "string", "u"),
        (uuid.clone(), json!(vec![0x11; 16]), "string", "11111111-1111-1111-1111-111111111111"),
        (decimal.clone(), json!([4, 210]), "decimal(6,2)", "12.34"),
        (decimal.clone(), json!([255]), "decimal(6,3)", "-0.010"),
        (decimal.clone(), json!([4, 210]), "double", "12.34"),
        (decimal.clone(), json!([4, 210]), "string", "12.34"),
        (decimal.clone(), json!([4, 210]), "json", "12.34"),
        (decimal, json!([]), "decimal(6,2)", "0.00"),
        (json!({"type": "enum", "name": "E", "symbols": ["A", "B"]}), json!("B"), "string", "B"),
        (json!({"type": "fixed", "name": "F", "size": 2}), json!("ab"), "binary", "6162"),
        (json!(["null", "string"]), Value::Null, "string", "NULL"),
        (json!(["null", "string"]), json!("a"), "string", "a"),
        (json!(["string", "long"]), json!({"branch": 1, "value": 3}), "string", "3"),
        (json!({"type": "array", "items": "int"}), json!([1, 2, 3, 4, 5]), "array<bigint>", "[1, 2, 3, 4, 5]"),
        (json!({"type": "array", "items": ["null", "int"]}), json!([1, null]), "array<int>", "[1, NULL]"),
        (json!({"type": "array", "items": "int"}), json!([]), "array<int>", "[]"),
        (json!({"type": "array", "items": "int"}), json!([1, 2, 3]), "json", "[1,2,3]"),
        (json!({"type": "map", "values": "int"}), json!({"a": 1, "b": 2}), "map<string,int>", "{a: 1, b: 2}"),
        (nested.clone(), json!({"x": 1, "y": "é"}), "struct<y:string,z:int,x:bigint>", "{y: é, z: NULL, x: 1}"),
        (nested.clone(), json!({"x": 1, "y": "\""}), "json", r#"{"x":1,"y":"\""}"#),
        (json!(["null", nested]), Value::Null, "struct<x:int>", "NULL"),
    ] {
        assert_eq!(cell(&avro_type, &value, column), expected, "{avro_type} {value} as {column}");
    }
}

#[test]
fn a_value_that_its_column_does_not_take_is_a_bad_record() {
    for (avro_type, value, column, expected) in [
        (
            json!("long"),
            json!(1_i64 << 40),
            "int",
            "out_of_range: column \"a\": a whole number beyond the column's type (byte 7 of the value)",
        ),
        (
            json!("string"),
            json!([0xff]),
            "string",
            "utf8: column \"a\": a text that is not UTF-8 (byte 7 of the value)",
        ),
        (json!("string"), json!("x"), "timestamp", "timestamp: "),
        (json!("string"), json!("x"), "decimal(6,2)", "wrong_type: "),
        (json!("double"), json!(0.125), "decimal(6,2)", "out_of_range: "),
        (json!(["null", "string", "boolean"]), json!({"branch": 2, "value": true}), "timestamp", "wrong_type: "),
        (logical("int", "date"), json!(i32::MAX), "date", "timestamp: "),
        (logical("long", "timestamp-millis"), json!(i64::MAX), "timestamp", "timestamp: "),
        (
            json!({"type": "bytes", "logicalType": "decimal", "precision": 60, "scale": 0}),
            json!(vec![1; 30]),
            "decimal(38,0)",
            "out_of_range: ",
        ),
    ] {
        let found = cell(&avro_type, &value, column);
        assert!(found.starts_with(expected), "{avro_type} {value} as {column}: {found}");
    }
}

#[test]
fn bytes_that_are_no_record_have_a_reason() {
    let writer = record_of(json!([
        {"name": "a", "type": ["null", "string"]},
        {"name": "e", "type": {"type": "enum", "name": "E", "symbols": ["A"]}},
        {"name": "b", "type": "boolean"},
        {"name": "n", "type": {"type": "array", "items": "null"}},
    ]));
    let source = avro(json!([{"name": "a", "type": "string"}]));
    let schemas = [schema(Some(ID), SchemaKind::Avro, &writer)];
    let good = encoded(&writer, &json!({"a": "xy", "e": "A", "b": true, "n": []}));
    assert_eq!(become_of(&source, &schemas, &good).unwrap(), ["xy"]);
    let with = |at: usize, bytes: &[u8]| [&good[..at], bytes].concat();
    for (value, reason) in [
        (vec![], "empty"),
        (vec![0, 0, 0, 7], "framing"),
        (b"{\"a\": 1}".to_vec(), "framing"),
        (framed(8, &good[5..]), "unknown_schema"),
        (good[..good.len() - 1].to_vec(), "truncated"),
        (with(good.len(), b"x"), "syntax"),
        (framed(ID, &[4]), "syntax"),
        (framed(ID, &[1]), "syntax"),
        (framed(ID, &[2, 3]), "syntax"),
        (framed(ID, &[2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]), "syntax"),
        (framed(ID, &[2, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]), "truncated"),
        (framed(ID, &[2, 2, 0xff, 0, 1, 0]), "utf8"),
        (framed(ID, &[0, 2, 1, 0]), "syntax"),
        (framed(ID, &[0, 0, 2, 0]), "syntax"),
        // 2^62 items without bytes.
        (framed(ID, &[0, 0, 1, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0]), "syntax"),
        (framed(ID, &[0, 0, 1, 1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0]), "syntax"),
    ] {
        let bad = become_of(&source, &schemas, &value).expect_err(reason);
        assert_eq!(bad.reason.as_str(), reason, "{value:x?}: {bad}");
    }
    let bad = become_of(&source, &schemas, &framed(8, &[])).unwrap_err();
    assert_eq!(bad.to_string(), "the schema registry knows no schema of the value's id: id 8 (byte 1 of the value)");
}

#[test]
fn a_schema_that_never_ends_is_too_deep() {
    let tree = json!({"type": "record", "name": "T", "fields": [{"name": "t", "type": "T"}]});
    let source = avro(json!([{"name": "t", "type": "json"}]));
    let bad = become_of(&source, &[schema(Some(ID), SchemaKind::Avro, &tree)], &framed(ID, &[])).unwrap_err();
    assert_eq!(bad.reason, BadReason::TooDeep);
    let list = json!({"type": "record", "name": "L", "fields": [{"name": "next", "type": ["null", "L"]}]});
    let value = framed(ID, &[vec![2; 50], vec![0]].concat());
    let schemas = [schema(Some(ID), SchemaKind::Avro, &list)];
    let columns = json!([{"name": "x", "type": "json", "path": "next.next"}]);
    let row = become_of(&avro(columns.clone()), &schemas, &value).unwrap();
    assert_eq!(row[0].matches("next").count(), 49);
    let shallow = source_with(json!({"format": "avro", "maxDepth": 20, "columns": columns}));
    assert_eq!(become_of(&shallow, &schemas, &value).unwrap_err().reason, BadReason::TooDeep);
}

#[test]
fn columns_are_found_by_path_by_alias_and_in_maps() {
    let source =
        record_of(json!([{"name": "ts", "type": "long"}, {"name": "old", "type": "int", "aliases": ["older", "ts"]}]));
    let writer = record_of(json!([
        {"name": "unwanted", "type": {"type": "map", "values": {"type": "array", "items": "string"}}},
        {"name": "source", "type": ["null", {"type": "record", "name": "S", "fields": source["fields"]}]},
        {"name": "tags", "type": {"type": "map", "values": "string"}},
    ]));
    let columns = avro(json!([
        {"name": "ts", "type": "bigint", "path": "source.ts"},
        {"name": "old", "type": "int", "path": "source.older"},
        {"name": "all", "type": "json", "path": "source"},
        {"name": "color", "type": "string", "path": "tags.color"},
        {"name": "missing", "type": "string", "path": "source.nothing"},
        {"name": "value", "type": "json", "from": "value"},
        {"name": "key", "type": "string", "from": "key"},
    ]));
    let schemas = [schema(Some(ID), SchemaKind::Avro, &writer)];
    let value = json!({"unwanted": {"x": ["1", "2", "3"]}, "source": {"ts": 5, "old": 6}, "tags": {"size": "L", "color": "red"}});
    let row = become_of(&columns, &schemas, &encoded(&writer, &value)).unwrap();
    assert_eq!(row[..5], ["5", "6", r#"{"ts":5,"old":6}"#, "red", "NULL"]);
    assert_eq!(serde_json::from_str::<Value>(&row[5]).unwrap(), value);
    assert_eq!(row[6], "user_000712");
    let without = json!({"unwanted": {}, "source": null, "tags": {}});
    let row = become_of(&columns, &schemas, &encoded(&writer, &without)).unwrap();
    assert_eq!(row[..5], ["NULL"; 5]);
}

#[test]
fn writers_of_several_schemas_share_a_batch() {
    let first = record_of(json!([{"name": "id", "type": "int"}, {"name": "name", "type": "string"}]));
    let second = record_of(json!([
        {"name": "note", "type": ["null", "string"], "default": null},
        {"name": "full_name", "type": "string", "aliases": ["name"]},
        {"name": "id", "type": "long"},
    ]));
    let source = avro(json!([
        {"name": "id", "type": "bigint", "required": true}, {"name": "name", "type": "string"}, {"name": "note", "type": "string"},
    ]));
    let schemas = [schema(Some(1), SchemaKind::Avro, &first), schema(Some(2), SchemaKind::Avro, &second)];
    let (mut decoder, problems) = knowing(&source, &[0, 1, 2], &schemas);
    assert!(problems.is_empty(), "{problems:?}");
    for (id, writer, value) in [
        (1, &first, json!({"id": 1, "name": "a"})),
        (2, &second, json!({"id": 2, "full_name": "b", "note": "n"})),
        (1, &first, json!({"id": 3, "name": "c"})),
    ] {
        let mut body = Vec::new();
        encode(writer, &value, &mut body);
        decoder.decode(&record(&framed(id, &body)), LATEST).unwrap();
    }
    let batch = decoder.finish();
    let rows: Vec<_> = (0..3).map(|number| row(&batch, number)).collect();
    assert_eq!(rows, [["1", "a", "NULL"], ["2", "b", "n"], ["3", "c", "NULL"]]);
}

#[test]
fn a_schema_that_lost_or_changed_a_column_is_named_with_it() {
    let source = avro(json!([
        {"name": "id", "type": "bigint", "required": true},
        {"name": "name", "type": "string"},
        {"name": "at", "type": "timestamp", "path": "when.at"},
    ]));
    let fields = |fields: Value| record_of(fields);
    for (writer, problem) in [
        (
            fields(json!([{"name": "name", "type": "string"}])),
            "schema 7: it has no field id for the required column \"id\"",
        ),
        (
            fields(
                json!([{"name": "id", "type": "string"}, {"name": "name", "type": {"type": "array", "items": "int"}}]),
            ),
            "schema 7: its field id is string, and the column \"id\" is bigint; its field name is array, and the column \"name\" is string",
        ),
        (
            fields(json!([{"name": "id", "type": "int"}, {"name": "when", "type": "string"}])),
            "schema 7: its field when.at is inside of a string, and the column \"at\" is timestamp",
        ),
        (
            fields(json!([{"name": "id", "type": ["null", "string"]}])),
            "schema 7: its field id is string, and the column \"id\" is bigint",
        ),
        (json!("string"), "schema 7: its field id is inside of a string"),
        (json!({"type": "record"}), "schema 7: it cannot be read: "),
    ] {
        let known = [schema(Some(ID), SchemaKind::Avro, &writer)];
        let (_, problems) = knowing(&source, &[0, 1, 2], &known);
        assert!(problems.len() == 1 && problems[0].starts_with(problem), "{writer}: {problems:?}");
        let bad = become_of(&source, &known, &framed(ID, &[2, 2])).unwrap_err();
        assert_eq!(bad.reason, BadReason::IncompatibleSchema);
        assert_eq!(
            bad.to_string(),
            format!("the record cannot be read by its schema: {} (byte 1 of the value)", problems[0])
        );
    }
    let json_schema = [schema(Some(ID), SchemaKind::Json, &json!({}))];
    let bad = become_of(&source, &json_schema, &framed(ID, b"{}")).unwrap_err();
    assert!(bad.to_string().contains("it is JSON Schema, and the source's format is avro"), "{bad}");
}

#[test]
fn a_schema_of_another_subject_is_refused_where_one_is_named() {
    let writer = record_of(json!([{"name": "a", "type": "int"}]));
    let of = |subject: &str| {
        source_with(
            json!({"format": "avro", "schema": {"subject": subject}, "columns": [{"name": "a", "type": "int"}]}),
        )
    };
    let known = [schema(Some(ID), SchemaKind::Avro, &writer)];
    let value = encoded(&writer, &json!({"a": 1}));
    assert_eq!(become_of(&of("topic_app_events-value"), &known, &value).unwrap(), ["1"]);
    let bad = become_of(&of("orders-value"), &known, &value).unwrap_err();
    assert_eq!(bad.reason, BadReason::ForeignSchema);
    assert!(bad.to_string().contains("it is one of topic_app_events-value, not of orders-value"), "{bad}");
}

#[test]
fn values_without_an_id_are_read_by_the_schema_of_a_file() {
    let writer = record_of(json!([{"name": "a", "type": "int"}]));
    let source = source_with(json!({
        "format": "avro", "schema": {"file": "/schemas/event.avsc"}, "columns": [{"name": "a", "type": "int"}],
    }));
    let (decoder, _) = knowing(&source, &[], &[]);
    assert_eq!(decoder.schema_file_needed(), Some(("/schemas/event.avsc", SchemaKind::Avro)));
    assert_eq!(decoder.schema_needed(&record(&[0, 0, 0, 0, 7, 2])), None);
    let known = [schema(None, SchemaKind::Avro, &writer)];
    assert_eq!(become_of(&source, &known, &[14]).unwrap(), ["7"]);
    assert_eq!(become_of(&source, &known, &[0, 0, 0, 0, 7, 2]).unwrap_err().reason, BadReason::Syntax);
}

#[test]
fn json_stands_behind_the_id_of_its_schema() {
    let source = source_with(json!({
        "framing": "confluent",
        "columns": [{"name": "a", "type": "bigint"}, {"name": "v", "type": "string", "from": "value"}],
    }));
    let known = [schema(Some(ID), SchemaKind::Json, &json!({"type": "object"}))];
    assert_eq!(become_of(&source, &known, &framed(ID, b"{\"a\": 5}")).unwrap(), ["5", "{\"a\": 5}"]);
    let bad = become_of(&source, &known, &framed(ID, b"{\"a\": \"x\"}")).unwrap_err();
    assert_eq!((bad.reason, bad.detail.position), (BadReason::WrongType, Some(12)));
    assert_eq!(become_of(&source, &known, b"{\"a\": 5}").unwrap_err().reason, BadReason::Framing);
    assert_eq!(become_of(&source, &known, &framed(ID, b"{")).unwrap_err().reason, BadReason::Truncated);
    let (decoder, _) = knowing(&source, &[], &known);
    assert_eq!(decoder.schema_needed(&record(&framed(9, b"{}"))), Some(9));
    assert_eq!(decoder.schema_needed(&record(&framed(ID, b"{}"))), None);
}

#[test]
fn change_data_may_be_avro() {
    let row_type = json!({"type": "record", "name": "Value", "fields": [
        {"name": "id", "type": "int"}, {"name": "name", "type": ["null", "string"]},
    ]});
    let envelope = record_of(json!([
        {"name": "before", "type": ["null", row_type]},
        {"name": "after", "type": ["null", {"type": "record", "name": "After", "fields": row_type["fields"]}]},
        {"name": "source", "type": {"type": "record", "name": "Source", "fields": [
            {"name": "db", "type": "string"}, {"name": "table", "type": "string"}, {"name": "ts_ms", "type": "long"},
            {"name": "snapshot", "type": [{"type": "string"}, "null"], "default": "false"},
        ]}},
        {"name": "op", "type": "string"},
        {"name": "ts_ms", "type": ["null", "long"]},
    ]));
    let source = source_with(json!({
        "format": "cdc", "framing": "confluent",
        "columns": [
            {"name": "operation_type", "type": "string"}, {"name": "table_name", "type": "string"},
            {"name": "record_data", "type": "json"}, {"name": "event_time", "type": "timestamp"},
        ],
    }));
    let known = [schema(Some(ID), SchemaKind::Avro, &envelope), schema(Some(8), SchemaKind::Json, &json!({}))];
    let change = json!({
        "before": null, "after": {"id": 5, "name": "é"}, "op": "c", "ts_ms": 2,
        "source": {"db": "shop", "table": "users", "ts_ms": 1_767_225_600_000_i64, "snapshot": {"branch": 0, "value": "false"}},
    });
    let row = become_of(&source, &known, &encoded(&envelope, &change)).unwrap();
    assert_eq!(row, ["INSERT", "users", r#"{"id":5,"name":"é"}"#, "2026-01-01T00:00:00Z"]);
    let flat = br#"{"op": "d", "table": "t", "before": {"id": 1}, "after": null, "ts_ms": 1767225600000}"#;
    assert_eq!(become_of(&source, &known, &framed(8, flat)).unwrap()[..2], ["DELETE", "t"]);
    let mut unreadable = encoded(&envelope, &change);
    unreadable.pop();
    assert_eq!(become_of(&source, &known, &unreadable).unwrap_err().reason, BadReason::Truncated);
}

/// A type of each kind, with columns that read them.
fn everything() -> (Value, SourceSpec) {
    let inner = json!({"type": "record", "name": "Inner", "fields": [
        {"name": "x", "type": ["null", "string"]}, {"name": "list", "type": {"type": "array", "items": "double"}},
    ]});
    let writer = record_of(json!([
        {"name": "a", "type": ["null", "string"]},
        {"name": "unwanted", "type": {"type": "map", "values": {"type": "array", "items": ["null", "bytes"]}}},
        {"name": "b", "type": "long"},
        {"name": "c", "type": ["null", "double"]},
        {"name": "d", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "e", "type": {"type": "array", "items": ["null", "string"]}},
        {"name": "f", "type": {"type": "map", "values": "long"}},
        {"name": "g", "type": ["null", inner]},
        {"name": "k", "type": "boolean"},
    ]));
    let columns = json!([
        {"name": "a", "type": "string", "maxLength": 12},
        {"name": "b", "type": "int"},
        {"name": "c", "type": "double"},
        {"name": "d", "type": "timestamp", "timestampUnit": "milliseconds"},
        {"name": "e", "type": "array<string>"},
        {"name": "f", "type": "map<string,bigint>"},
        {"name": "g", "type": "struct<list:array<double>,x:string>"},
        {"name": "k", "type": "boolean"},
        {"name": "y", "type": "string", "path": "g.x"},
    ]);
    (writer, avro(columns))
}

fn whole_value() -> impl Strategy<Value = Value> {
    let text = || prop_oneof![".{0,14}".prop_map(Value::from), Just(Value::Null)];
    let list = |items| prop::collection::vec(items, 0..6).prop_map(Value::from);
    let inner = (text(), list((-1e6..1e6_f64).prop_map(Value::from).boxed()))
        .prop_map(|(x, list)| json!({"x": x, "list": list}));
    let map = prop::collection::btree_map(".{0,4}", any::<i64>(), 0..6);
    let first = (
        text(),
        prop_oneof![4 => any::<i32>().prop_map(i64::from), 1 => any::<i64>()],
        prop::option::of(-1e9..1e9_f64),
    );
    let second = (-62_135_596_800_000_i64..253_402_300_800_000, list(text().boxed()), map);
    (first, second, prop::option::of(inner), any::<bool>()).prop_map(|((a, b, c), (d, e, f), g, k)| {
        json!({"a": a, "unwanted": {"u": [null, "x"]}, "b": b, "c": c, "d": d, "e": e, "f": f, "g": g, "k": k})
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_record_gives_the_same_row_as_avro_and_as_json(values in prop::collection::vec(whole_value(), 1..12)) {
        let (writer, source) = everything();
        let as_json = SourceSpec { format: data_platform_crds::source::SourceFormat::Json, ..source.clone() };
        let all: Vec<usize> = (0..source.columns.len()).collect();
        let (mut avro, _) = knowing(&source, &all, &[schema(Some(ID), SchemaKind::Avro, &writer)]);
        let mut json = decoder(&as_json);
        for value in &values {
            let by_avro = avro.decode(&record(&encoded(&writer, value)), LATEST);
            let by_json = json.decode(&record(value.to_string().as_bytes()), LATEST);
            prop_assert_eq!(by_avro.map_err(|bad| bad.reason), by_json.map_err(|bad| bad.reason), "{}", value);
        }
        let (avro, json) = (avro.finish(), json.finish());
        assert_valid(&avro);
        let rows = |batch: &RecordBatch| (0..batch.num_rows()).map(|number| row(batch, number)).collect::<Vec<_>>();
        prop_assert_eq!(rows(&avro), rows(&json));
    }

    #[test]
    fn no_bytes_make_it_panic_and_every_record_is_a_row_or_has_a_reason(
        value in whole_value(),
        accidents in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3), 1..5),
    ) {
        let (writer, source) = everything();
        let mut bytes = encoded(&writer, &value);
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
        let known = [schema(Some(ID), SchemaKind::Avro, &writer)];
        // What must hold is asserted inside: the same twice, between others, and without columns.
        let _ = become_of(&source, &known, &bytes);
    }

    #[test]
    fn a_decoder_does_not_depend_on_where_batches_are_cut(
        values in prop::collection::vec(whole_value(), 1..20),
        cuts in prop::collection::vec(any::<bool>(), 20),
    ) {
        let (writer, source) = everything();
        let all: Vec<usize> = (0..source.columns.len()).collect();
        let known = [schema(Some(ID), SchemaKind::Avro, &writer)];
        let (mut one, mut many) = (knowing(&source, &all, &known).0, knowing(&source, &all, &known).0);
        let mut rows = Vec::new();
        for (value, cut) in values.iter().zip(cuts) {
            let value = encoded(&writer, value);
            prop_assert_eq!(one.decode(&record(&value), LATEST), many.decode(&record(&value), LATEST));
            if cut {
                let batch = many.finish();
                rows.extend((0..batch.num_rows()).map(|number| row(&batch, number)));
            }
        }
        let (one, last) = (one.finish(), many.finish());
        rows.extend((0..last.num_rows()).map(|number| row(&last, number)));
        prop_assert_eq!((0..one.num_rows()).map(|number| row(&one, number)).collect::<Vec<_>>(), rows);
    }
}
