//! Values that are read by their schema, end to end: through a real schema registry and a stub of one, written by other
//! people's encoders.

use std::fs;

use data_platform_tests::registry::{encode, framed};
use data_platform_tests::tls::TlsFront;
use data_platform_tests::{Broker, Record, Registry, Runner, StubRegistry, needs_broker};
use serde_json::{Value, json};

use crate::events::TIMEOUT;
use crate::sources::numbers::{NAME, Numbers, status, stop};

/// Orders as their first producer writes them.
fn orders() -> Value {
    json!({"type": "record", "name": "Order", "namespace": "shop", "fields": [
        {"name": "n", "type": "long"},
        {"name": "customer", "type": ["null", "string"], "default": null},
        {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}},
        {"name": "placed", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "due", "type": {"type": "int", "logicalType": "date"}},
        {"name": "state", "type": {"type": "enum", "name": "State", "symbols": ["OPEN", "PAID"]}},
        {"name": "lines", "type": {"type": "array", "items": {"type": "record", "name": "Line", "fields": [
            {"name": "sku", "type": "string"}, {"name": "count", "type": "int"},
        ]}}},
        {"name": "tags", "type": {"type": "map", "values": "string"}},
        {"name": "ref", "type": {"type": "string", "logicalType": "uuid"}},
    ]})
}

/// The same later on: a field more, another one under a new name, the order of all changed.
fn orders_later() -> Value {
    let mut later = orders();
    let fields = later["fields"].as_array_mut().expect("fields");
    fields.reverse();
    for field in fields.iter_mut().filter(|field| field["name"] == "customer") {
        *field = json!({"name": "buyer", "aliases": ["customer"], "type": ["null", "string"], "default": null});
    }
    fields.push(json!({"name": "note", "type": ["null", "string"], "default": null}));
    later
}

fn order(n: u64, customer: &str, note: Option<&str>) -> Value {
    let customer_field = if note.is_some() { "buyer" } else { "customer" };
    let mut order = json!({
        "n": n,
        "amount": {"decimal": format!("{n}.5")},
        "placed": {"datetime": "2026-01-01T10:00:00.250Z"},
        "due": {"date": "2026-02-01"},
        "state": if n.is_multiple_of(2) { "PAID" } else { "OPEN" },
        "lines": [{"sku": "é", "count": n}, {"sku": "b", "count": 2}],
        "tags": {"color": "red"},
        "ref": {"uuid": "11111111-1111-1111-1111-111111111111"},
    });
    order[customer_field] = if n.is_multiple_of(3) { Value::Null } else { customer.into() };
    if let Some(note) = note {
        order["note"] = note.into();
    }
    order
}

/// The row that an order becomes, as `query` shows it: without what is null.
fn row(n: u64, customer: &str, note: Option<&str>) -> Value {
    let mut row = json!({
        "n": n,
        "customer": if n.is_multiple_of(3) { None } else { Some(customer) },
        "amount": format!("{n}.50"),
        "placed": "2026-01-01T10:00:00.250Z",
        "due": "2026-02-01",
        "state": if n.is_multiple_of(2) { "PAID" } else { "OPEN" },
        "second": "b",
        "first_count": n,
        "color": "red",
        "ref": "11111111-1111-1111-1111-111111111111",
        "note": note,
    });
    row.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
    row
}

/// The job over orders.
fn job_over_orders(job: &mut Numbers, registry: Value) {
    let column = |name: &str, kind: &str| json!({"name": name, "type": kind});
    let columns = json!([
        {"name": "n", "type": "bigint", "required": true},
        column("customer", "string"), column("amount", "decimal(12,2)"), column("placed", "timestamp"), column("due", "date"),
        column("state", "string"), column("lines", "array<struct<sku:string,count:int>>"), column("ref", "string"),
        {"name": "color", "type": "string", "path": "tags.color"}, column("note", "string"),
    ]);
    job.set("/kafka/schemaRegistry", registry);
    job.set("/sources/0/format", json!("avro"));
    job.set("/sources/0/columns", columns);
    let query = format!(
        "SELECT n, customer, CAST(amount AS VARCHAR) AS amount, placed, \
         CAST(due AS VARCHAR) AS due, state, lines[2]['sku'] AS second, lines[1]['count'] AS first_count, color, ref, note FROM {NAME}"
    );
    job.set("/query", json!(query));
}

fn produce(job: &Numbers, id: u32, schema: &Value, records: Vec<Value>) -> anyhow::Result<()> {
    let encoded = encode("avro.py", &json!({"schema": schema, "records": records}))?;
    job.broker.produce(&job.topic, encoded.iter().map(|body| Record::new(framed(id, body)).partition(0)))
}

#[test]
fn avro_evolves_half_way_and_outlives_its_registry() -> anyhow::Result<()> {
    needs_broker!();
    let registry = Registry::start()?;
    let mut job = Numbers::new(Broker::shared().expect("it was asked for"), "avro", 1)?;
    job_over_orders(&mut job, json!({"url": registry.url()}));
    let subject = format!("{}-value", job.topic);
    job.set("/sources/0/schema", json!({"subject": subject}));
    let first = registry.register(&subject, "AVRO", &orders().to_string(), json!([]))?;
    produce(&job, first, &orders(), (0..50).map(|n| order(n, "ann", None)).collect())?;
    let mut runner = job.job()?.start()?;
    job.wait_for_committed(&mut runner, 50)?;

    // Known schemas need no registry.
    let second = registry.register(&subject, "AVRO", &orders_later().to_string(), json!([]))?;
    let foreign = registry.register("another-value", "AVRO", "\"string\"", json!([]))?;
    registry.kill()?;
    produce(&job, first, &orders(), (50..60).map(|n| order(n, "ann", None)).collect())?;
    job.wait_for_committed(&mut runner, 60)?;
    // A new one does: it is waited for, and said so.
    produce(&job, second, &orders_later(), (60..100).map(|n| order(n, "ben", Some("hi"))).collect())?;
    let waits = |runner: &Runner| status(runner).filter(|status| status["reason"] == "SchemaRegistryUnreachable");
    let shown = runner.wait_for("the registry to be missed", TIMEOUT, waits)?;
    assert_eq!((&shown["phase"], &shown["ready"]), (&json!("retrying"), &json!(false)), "{shown}");
    registry.restart()?;
    job.wait_for_committed(&mut runner, 100)?;
    // A schema of another subject, an id of none, and no id: dead letters, and the others go on.
    let bad =
        [framed(foreign, b"\x02a"), framed(4_000_000, b"\x02a"), b"{\"n\": 1}".to_vec(), framed(first, &[0xff; 3])];
    job.broker.produce(&job.topic, bad.map(|value| Record::new(value).partition(0)))?;
    produce(&job, first, &orders(), (100..110).map(|n| order(n, "ann", None)).collect())?;
    job.wait_for_committed(&mut runner, 114)?;
    stop(runner)?;

    let rows = job.query(&format!("SELECT * FROM {NAME} ORDER BY n"))?;
    let late = |n: &u64| (60..100).contains(n);
    let expected: Vec<Value> =
        (0..110).map(|n| if late(&n) { row(n, "ben", Some("hi")) } else { row(n, "ann", None) }).collect();
    assert_eq!(rows, expected);
    let letters =
        job.query(&format!("SELECT reason, count(*) AS n FROM {NAME}_dead_letters GROUP BY reason ORDER BY reason"))?;
    let counted = |reason: &str| json!({"reason": reason, "n": 1});
    assert_eq!(letters, ["foreign_schema", "framing", "truncated", "unknown_schema"].map(counted));
    job.audit()?;
    generated_through(&registry)?;
    json_schema_through(&registry, first)?;
    protobuf_through(&registry)
}

/// JSON behind the id of its schema; `other` is the id of another kind of schema.
fn json_schema_through(registry: &Registry, other: u32) -> anyhow::Result<()> {
    let mut job = Numbers::new(Broker::shared().expect("it was asked for"), "json-schema", 1)?;
    let fields = json!({"n": {"type": "integer"}, "note": {"type": "string"}});
    let schema = json!({"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "properties": fields});
    let id = registry.register(&format!("{}-value", job.topic), "JSON", &schema.to_string(), json!([]))?;
    job.set("/sources/0/framing", json!("confluent"));
    job.set("/kafka/schemaRegistry", json!({"url": registry.url()}));
    let value = |n: u64| json!({"n": n, "note": "é"}).to_string().into_bytes();
    let values = (0..30).map(|n| framed(id, &value(n)));
    let bad = [framed(other, &value(30)), value(31), framed(id, b"{\"n\": \"text\"}"), framed(4_000_000, &value(32))];
    job.broker.produce(&job.topic, values.chain(bad).map(|value| Record::new(value).partition(0)))?;
    job.drain()?;
    assert_eq!(job.numbers()?, (0..30).collect::<Vec<_>>());
    let letters = job.query(&format!("SELECT reason FROM {NAME}_dead_letters ORDER BY reason"))?;
    let reasons = ["framing", "incompatible_schema", "unknown_schema", "wrong_type"];
    assert_eq!(letters, reasons.map(|reason| json!({"reason": reason})));
    job.audit()
}

/// What `generate` writes by the registry is read by it.
fn generated_through(registry: &Registry) -> anyhow::Result<()> {
    let mut job = Numbers::new(Broker::shared().expect("it was asked for"), "app_events-avro", 1)?;
    let arguments =
        ["generate", "--count", "200", "--rate", "0", "--topic", &job.topic, "--schema-registry", registry.url()];
    job.ask(&arguments)?;
    job.set("/sources/0/format", json!("avro"));
    job.set("/kafka/schemaRegistry", json!({"url": registry.url()}));
    let column = |name: &str, kind: &str| json!({"name": name, "type": kind, "required": true});
    let columns = [("event_id", "string"), ("user_id", "string"), ("session_id", "string"), ("timestamp", "timestamp")];
    job.set("/sources/0/columns", json!(columns.map(|(name, kind)| column(name, kind))));
    job.set("/query", json!(format!("SELECT event_id, user_id, timestamp FROM {NAME}")));
    job.drain()?;
    let counted = format!("SELECT count(*) AS rows, count(DISTINCT event_id) AS events FROM {NAME}");
    assert_eq!(job.query(&counted)?, [json!({"rows": 200, "events": 200})]);
    job.audit()
}

const SHOP: &str = r#"
syntax = "proto3";
package shop.v1;
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
import "common/money.proto";
message Unrelated { string x = 1; }
message Order {
  enum State { UNKNOWN = 0; PAID = 1; }
  message Line { string sku = 1; int32 count = 2; }
  uint64 n = 1;
  optional string customer = 2;
  common.Money total = 3;
  google.protobuf.Timestamp placed = 4;
  google.protobuf.StringValue note = 5;
  State state = 6;
  repeated Line lines = 7;
  map<string, int64> counts = 8;
  oneof payment { string card = 9; bytes token = 10; }
}
"#;

const MONEY: &str = r#"
syntax = "proto3";
package common;
message Money { int64 units = 1; string currency = 2; }
"#;

/// What protoc makes of the schemas, and thirty orders as Google's library writes them.
fn shop_orders() -> anyhow::Result<(Vec<u8>, Vec<Vec<u8>>)> {
    let order = |n: u64| {
        let mut order = json!({
            "n": (u64::MAX - n).to_string(), "total": {"units": n.to_string(), "currency": "EUR"}, "placed": "2026-01-01T00:00:00.000250Z",
            "lines": [{"sku": "a", "count": 1}, {"sku": "b"}], "counts": {"x": "1"}, "card": "4711",
        });
        if n.is_multiple_of(2) {
            let more = json!({"customer": "", "note": "é", "state": "PAID"});
            order.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        }
        order
    };
    let records: Vec<Value> = (0..30).map(order).collect();
    let request = json!({"files": {"shop.proto": SHOP, "common/money.proto": MONEY}, "message": "shop.v1.Order", "records": records});
    let mut written = encode("protobuf.py", &request)?;
    let messages = written.split_off(1);
    Ok((written.pop().unwrap_or_default(), messages))
}

fn job_over_shop_orders(job: &mut Numbers) {
    let column = |name: &str, kind: &str| json!({"name": name, "type": kind});
    let columns = json!([
        column("n", "decimal(20,0)"), column("customer", "string"), column("placed", "timestamp"), column("note", "string"),
        column("state", "string"), column("lines", "array<struct<sku:string,count:int>>"), column("card", "string"),
        column("token", "binary"), {"name": "units", "type": "bigint", "path": "total.units"},
        {"name": "x", "type": "bigint", "path": "counts.x"},
    ]);
    job.set("/sources/0/format", json!("protobuf"));
    job.set("/sources/0/columns", columns);
    let query = format!(
        "SELECT CAST(n AS VARCHAR) AS n, customer, placed, note, state, lines[2]['sku'] AS sku, lines[2]['count'] AS count, card, \
         token IS NULL AS other, units, x FROM {NAME}"
    );
    job.set("/query", json!(query));
}

fn shop_rows() -> Vec<Value> {
    let row = |n: u64| {
        let mut row = json!({
            "n": (u64::MAX - n).to_string(), "placed": "2026-01-01T00:00:00.000250Z", "state": "UNKNOWN", "sku": "b", "count": 0,
            "card": "4711", "other": true, "units": n, "x": 1,
        });
        if n.is_multiple_of(2) {
            (row["customer"], row["note"], row["state"]) = (json!(""), json!("é"), json!("PAID"));
        }
        row
    };
    (0..30).map(row).collect()
}

/// The same with Protobuf: the schema imports another one, and the values are its second message.
fn protobuf_through(registry: &Registry) -> anyhow::Result<()> {
    let mut job = Numbers::new(Broker::shared().expect("it was asked for"), "protobuf", 1)?;
    job.set("/kafka/schemaRegistry", json!({"url": registry.url()}));
    job_over_shop_orders(&mut job);
    let subject = format!("{}-value", job.topic);
    registry.register("common/money.proto".replace('/', "-").as_str(), "PROTOBUF", MONEY, json!([]))?;
    let reference = json!([{"name": "common/money.proto", "subject": "common-money.proto", "version": 1}]);
    let id = registry.register(&subject, "PROTOBUF", SHOP, reference)?;
    let (_, messages) = shop_orders()?;
    // One index, and it is 1.
    let values = messages.iter().map(|message| framed(id, &[&[2, 2], message.as_slice()].concat()));
    let bad = [framed(id, &[2, 2, 0xff]), framed(id, &[2, 40])];
    job.broker.produce(&job.topic, values.chain(bad).map(|value| Record::new(value).partition(0)))?;
    job.drain()?;
    assert_eq!(job.query(&format!("SELECT * FROM {NAME} ORDER BY units"))?, shop_rows());
    let letters = job.query(&format!("SELECT reason FROM {NAME}_dead_letters ORDER BY reason"))?;
    assert_eq!(letters, ["framing", "syntax"].map(|reason| json!({"reason": reason})));
    job.audit()
}

#[test]
fn protobuf_is_read_by_the_descriptors_that_protoc_writes() -> anyhow::Result<()> {
    needs_broker!();
    let mut job = Numbers::new(Broker::shared().expect("it was asked for"), "descriptors", 1)?;
    job_over_shop_orders(&mut job);
    let (descriptors, messages) = shop_orders()?;
    let file = job.folders.root().join("shop.desc");
    fs::write(&file, descriptors)?;
    job.set("/sources/0/schema", json!({"file": file, "message": "shop.v1.Nothing"}));
    job.broker.produce(&job.topic, messages.into_iter().map(|message| Record::new(message).partition(0)))?;
    let said = job.drain_fails(2)?;
    assert!(
        said.contains("shop.desc cannot be used: ") && said.contains("it has no message shop.v1.Nothing"),
        "{said}"
    );
    job.set("/sources/0/schema", json!({"file": file, "message": "shop.v1.Order"}));
    job.drain()?;
    assert_eq!(job.query(&format!("SELECT * FROM {NAME} ORDER BY units"))?, shop_rows());
    Ok(())
}

/// A registry that knows one schema by the id 1.
fn knows(schema: &Value) -> (u16, String) {
    (200, json!({"schema": schema.to_string()}).to_string())
}

#[test]
fn what_a_registry_does_wrong_is_said_and_waited_for() -> anyhow::Result<()> {
    needs_broker!();
    let stub = StubRegistry::start(Box::new(|_, _| (500, String::new())))?;
    let mut job = Numbers::new(Broker::shared().expect("it was asked for"), "registry", 1)?;
    job.set("/sources/0/format", json!("avro"));
    job.set("/kafka/schemaRegistry", json!({"url": stub.url()}));
    job.broker.produce(&job.topic, [Record::new(framed(1, &[14])).partition(0)])?;
    for (status, body, says) in [
        (500, "oops", "does not answer as it should: 500 at /schemas/ids/1: oops"),
        (200, "<html>", "gave no schema"),
        (404, "nothing here", "404 at /schemas/ids/1, and not by a registry"),
        (302, "", "302 at /schemas/ids/1"),
        (401, "who are you", "refuses us: 401 at /schemas/ids/1: who are you"),
        (403, "", "refuses us: 403"),
    ] {
        stub.answer(Box::new(move |_, _| (status, body.to_owned())));
        let said = job.drain_fails(if status == 401 || status == 403 { 2 } else { 1 })?;
        assert!(said.contains("the schema registry at http://127.0.0.1:") && said.contains(says), "{status}: {said}");
        assert!(said.contains("what to do: check"), "{said}");
    }
    job.set("/kafka/schemaRegistry", json!({"url": "http://127.0.0.1:1"}));
    let said = job.drain_fails(1)?;
    assert!(said.contains("the schema registry at http://127.0.0.1:1 does not answer as it should"), "{said}");
    Ok(())
}

#[test]
fn a_login_at_the_registry_that_was_rotated_is_taken_up() -> anyhow::Result<()> {
    needs_broker!();
    let schema = json!({"type": "record", "name": "N", "fields": [{"name": "n", "type": "long"}]});
    // ada:new, as HTTP basic authentication has it.
    let answer = move |_: &str, headers: &[String]| {
        let login = headers.iter().find(|header| header.to_ascii_lowercase().starts_with("authorization: "));
        match login.map(|header| &header["authorization: ".len()..]) {
            Some("Basic YWRhOm5ldw==" | "Bearer token-2") => knows(&schema),
            _ => (401, "wrong login".to_owned()),
        }
    };
    let stub = StubRegistry::start(Box::new(answer))?;
    let mut job = Numbers::new(Broker::shared().expect("it was asked for"), "rotated", 1)?;
    let file = |name: &str, text: &str| {
        let path = job.folders.root().join(name);
        fs::write(&path, text).map(|()| json!({"file": path}))
    };
    let (username, password, token) = (file("user", "ada\n")?, file("password", "old")?, file("token", "token-2\n")?);
    let password_file = job.folders.root().join("password");
    job.set("/sources/0/format", json!("avro"));
    job.set("/sources/0/columns", json!([{"name": "n", "type": "bigint"}]));
    job.set("/query", json!(format!("SELECT n FROM {NAME}")));
    job.set("/kafka/schemaRegistry", json!({"url": stub.url(), "username": username, "password": password}));
    job.broker.produce(&job.topic, [Record::new(framed(1, &[14])).partition(0)])?;
    let mut runner = job.job()?.env("DATA_PLATFORM_STAY_UP", "true").start()?;
    let refused = |runner: &Runner| status(runner).filter(|status| status["reason"] == "SchemaRegistryRefused");
    let shown = runner.wait_for("the refusal", TIMEOUT, refused)?;
    assert_eq!(shown["phase"], "stalled", "{shown}");
    assert!(!shown.to_string().contains("YWRh"), "{shown}");
    fs::write(&password_file, "new")?;
    job.wait_for_committed(&mut runner, 1)?;
    stop(runner)?;
    assert_eq!(job.numbers()?, [7]);

    job.set("/kafka/schemaRegistry", json!({"url": stub.url(), "token": token}));
    job.broker.produce(&job.topic, [Record::new(framed(1, &[16])).partition(0)])?;
    job.drain()?;
    assert_eq!(job.numbers()?, [7, 8]);
    Ok(())
}

#[test]
fn values_without_ids_are_read_by_a_schema_from_a_file_and_text_as_it_is() -> anyhow::Result<()> {
    needs_broker!();
    let mut job = Numbers::new(Broker::shared().expect("it was asked for"), "bare", 1)?;
    let file = job.folders.root().join("order.avsc");
    job_over_orders(&mut job, Value::Null);
    job.set("/sources/0/schema", json!({"file": file}));
    let records: Vec<Value> = (0..20).map(|n| order(n, "ann", None)).collect();
    let encoded = encode("avro.py", &json!({"schema": orders(), "records": records}))?;
    job.broker.produce(&job.topic, encoded.into_iter().map(|body| Record::new(body).partition(0)))?;
    let said = job.drain_fails(2)?;
    assert!(said.contains("order.avsc cannot be used: ") && said.contains("what to do: correct the file"), "{said}");
    fs::write(&file, orders().to_string())?;
    job.drain()?;
    let rows = job.query(&format!("SELECT * FROM {NAME} ORDER BY n"))?;
    assert_eq!(rows, (0..20).map(|n| row(n, "ann", None)).collect::<Vec<_>>());

    let mut text = Numbers::new(Broker::shared().expect("it was asked for"), "text", 1)?;
    text.set("/sources/0/format", json!("raw"));
    text.set(
        "/sources/0/columns",
        json!([{"name": "line", "type": "string", "from": "value"}, {"name": "k", "type": "string", "from": "key"}]),
    );
    text.set("/query", json!(format!("SELECT line, k FROM {NAME}")));
    let lines = ["plain text, 'quoted'", "é\t{", ""].map(|line| Record::new(line).key("k").partition(0));
    text.broker.produce(&text.topic, lines.into_iter().chain([Record::new([0xff]).partition(0)]))?;
    text.drain()?;
    let rows = text.query(&format!("SELECT line, k FROM {NAME} ORDER BY line"))?;
    let expected = ["", "plain text, 'quoted'", "é\t{"].map(|line| json!({"line": line, "k": "k"}));
    assert_eq!(rows, expected);
    let letters = text.query(&format!("SELECT reason FROM {NAME}_dead_letters"))?;
    assert_eq!(letters, [json!({"reason": "utf8"})]);
    Ok(())
}

#[test]
fn a_registry_behind_tls_is_trusted_by_its_own_authority_alone() -> anyhow::Result<()> {
    needs_broker!();
    let schema = json!({"type": "record", "name": "N", "fields": [{"name": "n", "type": "long"}]});
    let known = schema.clone();
    let stub = StubRegistry::start(Box::new(move |_, _| knows(&known)))?;
    let front = TlsFront::start(stub.url())?;
    let mut job = Numbers::new(Broker::shared().expect("it was asked for"), "registry-tls", 1)?;
    job.set("/sources/0/format", json!("avro"));
    job.set("/sources/0/columns", json!([{"name": "n", "type": "bigint"}]));
    job.set("/query", json!(format!("SELECT n FROM {NAME}")));
    let trusting = |ca: &str| json!({"url": front.url(), "tls": {"ca": {"file": front.certificate(ca)}}});
    job.broker.produce(&job.topic, [Record::new(framed(1, &[14])).partition(0)])?;
    for registry in [trusting("stranger-ca.pem"), json!({"url": front.url()})] {
        job.set("/kafka/schemaRegistry", registry);
        let said = job.drain_fails(2)?;
        let says = ["refuses us: ", "certificate", "what to do: check"];
        assert!(says.iter().all(|part| said.contains(part)), "{said}");
    }
    job.set("/kafka/schemaRegistry", trusting("ca.pem"));
    let mut runner = job.job()?.env("DATA_PLATFORM_STAY_UP", "true").start()?;
    job.wait_for_committed(&mut runner, 1)?;

    // Later on, at another id: what may pass is waited for, each in its own words, and a login that is refused stalls.
    stub.answer(Box::new(|_, _| (500, "oops".to_owned())));
    job.broker.produce(&job.topic, [Record::new(framed(2, &[16])).partition(0)])?;
    for (code, body, reason, says) in [
        (500, "oops", "SchemaRegistryUnreachable", "500 at /schemas/ids/2: oops"),
        (200, "<html>", "SchemaRegistryUnreachable", "gave no schema"),
        (404, "nothing", "SchemaRegistryUnreachable", "and not by a registry"),
        (401, "who", "SchemaRegistryRefused", "401 at /schemas/ids/2: who"),
    ] {
        stub.answer(Box::new(move |_, _| (code, body.to_owned())));
        let told = |runner: &Runner| {
            let status = status(runner).filter(|status| status["reason"] == reason)?;
            status.to_string().contains(says).then_some(())
        };
        runner.wait_for(says, TIMEOUT, told)?;
    }
    drop(runner);
    stub.answer(Box::new(move |_, _| knows(&schema)));
    job.drain()?;
    assert_eq!(job.numbers()?, [7, 8]);
    Ok(())
}
