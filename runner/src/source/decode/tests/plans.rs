//! Plans: what can be declared, and the schemas that follow from it.

use datafusion::arrow::datatypes::{DataType, TimeUnit};

use super::*;

fn error(spec: Value) -> PlanError {
    DecodePlan::new(&source_with(spec), &[]).unwrap_err()
}

#[test]
fn what_no_record_could_satisfy_is_refused() {
    for (spec, expected) in [
        (
            json!({"columns": [{"name": "a", "type": "int"}, {"name": "a", "type": "string"}]}),
            "the column \"a\" is declared twice",
        ),
        (json!({"columns": [{"name": "a", "type": "int", "path": "x..y"}]}), "a name between two dots is empty"),
        (json!({"columns": [{"name": "a", "type": "int", "path": ".x"}]}), "a name between two dots is empty"),
        (json!({"columns": [{"name": "a", "type": "int", "path": "x."}]}), "a name between two dots is empty"),
        (json!({"columns": [{"name": "a", "type": "int", "path": r"x\y"}]}), "\\y means nothing"),
        (json!({"columns": [{"name": "a", "type": "int", "path": r"x\"}]}), "a backslash at the end means nothing"),
        (json!({"columns": [{"name": "a", "type": "int", "path": vec!["x"; 33].join(".")}]}), "33 names, more than 32"),
        (json!({"columns": [{"name": "a", "type": "string", "from": "key", "path": "x"}]}), "has a path although"),
        (
            json!({"columns": [{"name": "a", "type": "int", "from": "key"}]}),
            "its type must be string or binary, not int",
        ),
        (
            json!({"columns": [{"name": "a", "type": "int", "from": "value"}]}),
            "must be string, binary or json, not int",
        ),
        (json!({"columns": [{"name": "a", "type": "int", "from": "topic"}]}), "must be string, not int"),
        (json!({"columns": [{"name": "a", "type": "bigint", "from": "partition"}]}), "must be int, not bigint"),
        (json!({"columns": [{"name": "a", "type": "int", "from": "offset"}]}), "must be bigint, not int"),
        (json!({"columns": [{"name": "a", "type": "bigint", "from": "recordTime"}]}), "must be timestamp, not bigint"),
        (
            json!({"columns": [{"name": "a", "type": "map<string,binary>", "from": "headers"}]}),
            "must be array<struct<key:string,value:binary>>",
        ),
        (
            json!({"columns": [{"name": "a", "type": "array<struct<key:string,value:string>>", "from": "headers"}]}),
            "must be array<struct<",
        ),
        (json!({"columns": [{"name": "a", "type": "int", "minLength": 1}]}), "only columns of type string"),
        (json!({"columns": [{"name": "a", "type": "json", "maxLength": 1}]}), "only columns of type string"),
        (json!({"columns": [{"name": "a", "type": "int"}], "eventTime": {"column": "b"}}), "\"b\" is not declared"),
        (
            json!({"columns": [{"name": "a", "type": "int"}], "eventTime": {"column": "a"}}),
            "has the type int, not timestamp",
        ),
        (json!({"columns": [], "maxRecordBytes": "0"}), "maxRecordBytes is 0, not between 1 and 268435455"),
        (json!({"columns": [], "maxRecordBytes": "256Mi"}), "maxRecordBytes is 268435456"),
        (json!({"columns": [], "maxDepth": 0}), "maxDepth is 0, not between 1 and 1024"),
        (json!({"columns": [], "maxDepth": -1}), "maxDepth is -1"),
        (json!({"columns": [], "maxDepth": 1025}), "maxDepth is 1025"),
        (json!({"columns": [{"name": "a", "type": "string"}], "format": "raw"}), "but the source's format is raw"),
    ] {
        let message = error(spec.clone()).to_string();
        assert!(message.contains(expected), "{spec}: {message}");
    }
}

#[test]
fn a_path_of_the_greatest_depth_is_read() {
    let names: Vec<String> = (0..32).map(|n| format!("level{n}")).collect();
    let source = source(json!([{"name": "a", "type": "int", "path": names.join(".")}]));
    let opening: String = names.iter().map(|name| format!("{{\"{name}\":")).collect();
    assert_eq!(outcome(&source, format!("{opening}7{}", "}".repeat(32)).as_bytes()), "7");
}

#[test]
fn needed_columns_are_ascending_indices_of_declared_ones_and_of_the_identity() {
    let source = app_events();
    assert_eq!(source.columns.len(), 7);
    assert!(DecodePlan::new(&source, &[6, 7, 9]).is_ok());
    for needed in [vec![10], vec![1, 0], vec![1, 1], vec![0, 99]] {
        assert!(matches!(DecodePlan::new(&source, &needed), Err(PlanError::Needed { .. })), "{needed:?}");
    }
}

#[test]
fn the_planner_sees_the_schema_that_the_batches_have() {
    let source = source_with(json!({
        "columns": [
            {"name": "s", "type": "string", "required": true},
            {"name": "b", "type": "boolean"},
            {"name": "i", "type": "int"},
            {"name": "l", "type": "bigint"},
            {"name": "d", "type": "double"},
            {"name": "dec", "type": "decimal(10,2)"},
            {"name": "day", "type": "date"},
            {"name": "at", "type": "timestamp"},
            {"name": "bin", "type": "binary"},
            {"name": "j", "type": "json"},
            {"name": "arr", "type": "array<int>"},
            {"name": "st", "type": "struct<a:int,b:map<string,string>>"},
            {"name": "m", "type": "map<string,double>"},
            {"name": "topic", "type": "string", "from": "topic"},
            {"name": "k", "type": "string", "from": "key"},
        ],
        "eventTime": {"column": "at"},
    }));
    let all: Vec<usize> = (0..source.columns.len()).collect();
    let plan = DecodePlan::new(&source, &all).unwrap();
    assert_eq!(plan.schema(), declared_schema(&source));
    assert_eq!(plan.event_time, Some(7));

    let schema = plan.schema();
    let never_null: Vec<&str> =
        schema.fields().iter().filter(|field| !field.is_nullable()).map(|field| field.name().as_str()).collect();
    assert_eq!(never_null, ["s", "at", "topic"]);
    let type_of = |name: &str| schema.field_with_name(name).unwrap().data_type().clone();
    assert_eq!(type_of("s"), DataType::Utf8View);
    assert_eq!(type_of("at"), DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
    assert_eq!(type_of("dec"), DataType::Decimal128(10, 2));
    assert_eq!(type_of("day"), DataType::Date32);
    assert_eq!(type_of("bin"), DataType::BinaryView);
    assert_eq!(type_of("j"), DataType::Utf8View);

    let mut decoder = Decoder::new(plan);
    assert_eq!(decoder.finish().schema(), declared_schema(&source), "an empty batch");
    let text = br#"{"s":"x","at":0,"arr":[1],"st":{"a":1,"b":{"c":"d"}},"m":{"e":1},"dec":"1.5","bin":"AA=="}"#;
    decoder.decode(&record(text), LATEST).unwrap();
    assert_eq!(decoder.finish().schema(), declared_schema(&source));
}

#[test]
fn a_decoder_can_move_to_another_thread() {
    fn is_send<T: Send>() {}
    is_send::<Decoder>();
    is_send::<BadRecord>();
}
