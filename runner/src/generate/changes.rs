//! Records of `topic_cdc_changes`: a small shop whose rows are inserted, changed and deleted, in the flat form and as
//! Debezium writes it, bare and wrapped, with its tombstones, snapshots, heartbeats and transactions.

use std::collections::BTreeMap;

use crate::generate::GeneratedEvent;
use crate::random::Random;

const TABLES: [&str; 3] = ["customers", "orders", "products"];
/// Rows of a table: few, so that changes and deletes find some.
const ROWS: u64 = 500;

/// The rows that there are, and what must come next.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    /// Version of each row, by table and id.
    rows: BTreeMap<(usize, u64), u64>,
    /// Follows a delete.
    pub(super) tombstone: Option<GeneratedEvent>,
}

/// A change before it has a form.
struct Change<'a> {
    op: &'a str,
    table: &'a str,
    before: String,
    after: String,
    snapshot: &'a str,
    time_ms: i64,
    number: u64,
}

impl Changes {
    /// Key and value of the next record.
    pub(super) fn make(&mut self, random: &mut Random, user: u64, number: u64, time_ms: i64) -> (Vec<u8>, Vec<u8>) {
        let (table, id) = (random.below(3) as usize, random.below(ROWS));
        let key = format!("{{\"id\":{id}}}");
        let form = random.below(20);
        if random.one_in(40) {
            return (key.into_bytes(), control(random, number, time_ms, form));
        }
        let row = |version: u64| {
            // Beyond what a double holds, and a decimal with its zeros.
            let big = 9_007_199_254_740_993 + id;
            format!(
                "{{\"id\":{big},\"version\":{version},\"price\":{}.{:02}0,\"note\":\"row {id}\"}}",
                id % 90,
                version % 100
            )
        };
        let known = self.rows.get(&(table, id)).copied();
        let nothing = || "null".to_owned();
        let is_flat = form < 11;
        let (op, before, after, snapshot) = match (known, random.below(100)) {
            (_, 0) => ("t", nothing(), nothing(), "false"),
            (_, 1) => ("m", nothing(), nothing(), "false"),
            (_, 2) => ("x", nothing(), nothing(), "false"),
            (_, 3..8) if !is_flat => {
                ("r", nothing(), row(known.unwrap_or(1)), ["true", "first", "last"][(number % 3) as usize])
            }
            (None, _) => (if is_flat { "i" } else { "c" }, nothing(), row(1), "false"),
            (Some(version), 8..24) => ("d", row(version), nothing(), "false"),
            // A table without a full replica identity tells no old row.
            (Some(version), 24..50) => ("u", nothing(), row(version + 1), "false"),
            (Some(version), _) => ("u", row(version), row(version + 1), "false"),
        };
        match op {
            "d" => drop(self.rows.remove(&(table, id))),
            "t" | "m" | "x" => {}
            _ => drop(self.rows.insert((table, id), known.map_or(1, |version| version + u64::from(op == "u")))),
        }
        let table = if op == "m" { "" } else { TABLES[table] };
        let change = Change { op, table, before, after, snapshot, time_ms, number };
        let value = if is_flat && op != "m" { change.flat(random) } else { change.debezium(random, form >= 17) };
        if op == "d" && !is_flat {
            let (key, value) = (key.clone().into_bytes(), random.one_in(3).then(|| b"null".to_vec()));
            self.tombstone = Some(GeneratedEvent { key, value, user, time_ms });
        }
        (key.into_bytes(), value.into_bytes())
    }
}

impl Change<'_> {
    fn flat(&self, random: &mut Random) -> String {
        let Self { op, table, before, after, time_ms, number, .. } = self;
        let names = if random.one_in(5) { "" } else { ",\"db\":\"shop\",\"schema\":\"public\"" };
        let ids = if random.one_in(5) { String::new() } else { format!(",\"txId\":{number},\"lsn\":\"0/{number:X}\"") };
        format!(
            "{{\"op\":\"{op}\",\"table\":\"{table}\",\"before\":{before},\"after\":{after},\"ts_ms\":{time_ms}{names}{ids}}}"
        )
    }

    fn debezium(&self, random: &mut Random, is_wrapped: bool) -> String {
        let Self { op, table, before, after, snapshot, time_ms, number } = self;
        let schema = if table.is_empty() { "" } else { "public" };
        let ids =
            if random.one_in(9) { "null,\"lsn\":null".to_owned() } else { format!("{number},\"lsn\":{}", number * 24) };
        let body = if *op == "m" {
            format!("\"message\":{{\"prefix\":\"audit\",\"content\":\"{number}\"}}")
        } else {
            format!("\"before\":{before},\"after\":{after}")
        };
        let arrived = time_ms + 250;
        let envelope = format!(
            "{{{body},\"source\":{{\"version\":\"3\",\"connector\":\"postgresql\",\"name\":\"shop\",\"ts_ms\":{time_ms},\
             \"snapshot\":\"{snapshot}\",\"db\":\"shop\",\"schema\":\"{schema}\",\"table\":\"{table}\",\"txId\":{ids}}},\
             \"op\":\"{op}\",\"ts_ms\":{arrived},\"transaction\":null}}"
        );
        if is_wrapped { wrapped(&envelope) } else { envelope }
    }
}

/// A record about the stream: a heartbeat, or the begin or end of a transaction.
fn control(random: &mut Random, number: u64, time_ms: i64, form: u64) -> Vec<u8> {
    let json = match random.below(3) {
        0 => format!("{{\"ts_ms\":{time_ms}}}"),
        1 => format!(
            "{{\"status\":\"BEGIN\",\"id\":\"{number}\",\"event_count\":null,\"data_collections\":null,\"ts_ms\":{time_ms}}}"
        ),
        _ => format!(
            "{{\"status\":\"END\",\"id\":\"{number}\",\"event_count\":1,\"data_collections\":[],\"ts_ms\":{time_ms}}}"
        ),
    };
    if form >= 17 { wrapped(&json).into_bytes() } else { json.into_bytes() }
}

fn wrapped(payload: &str) -> String {
    format!(
        "{{\"schema\":{{\"type\":\"struct\",\"fields\":[{{\"type\":\"string\",\"optional\":false,\"field\":\"op\"}}],\
         \"optional\":false,\"name\":\"shop.Envelope\"}},\"payload\":{payload}}}"
    )
}
