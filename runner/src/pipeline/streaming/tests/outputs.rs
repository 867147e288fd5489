//! What every kind of output must do, whatever lies behind it: killed at each step, published again, abandoned, rewound and
//! proved. A new sink is one more [`Kind`].

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use futures::TryStreamExt as _;
use serde_json::{Value, json};

use super::world::{KillAt, World, rows};
use crate::checkpoint::output::Decided;
use crate::checkpoint::record::Record;
use crate::checkpoint::survey::Survey;
use crate::faults::{Faults, NoSync};
use crate::pipeline::error::Reason;
use crate::sink::{self, TopicProblem};
use crate::storage::location::{Location, open_remote};

const JOB: &str = "orders";
const TOPIC: &str = "topic_orders";
const OTHER: &str = "topic_other";
const RECORDS: i64 = 60;
/// Of jobs that are killed at each step: three commits, and a base after the second.
const RECORDS_OF_KILLED: i64 = 30;

/// A kind of output.
struct Kind {
    name: &'static str,
    /// What the job says of it.
    spec: fn() -> Value,
    /// What readers find: the numbers of the records.
    read: fn(&World) -> Vec<i64>,
    /// Of which records rows come here.
    is_here: fn(i64) -> bool,
    /// Readers find each row once, whatever happened; else at least once.
    exactly_once: bool,
    /// Outputs lie in an object store.
    in_store: bool,
}

const PARQUET: Kind = Kind {
    name: "parquet",
    spec: || json!({"outputs": [output("rows", json!({"path": "rows", "partitionBy": ["shop"]}))]}),
    read: |world| numbers(world.rows("rows")),
    is_here: is_good,
    exactly_once: true,
    in_store: false,
};

const DELTA: Kind = Kind {
    name: "delta",
    spec: || {
        let sink = json!({"format": "delta", "path": "rows", "partitionBy": ["shop"]});
        json!({"outputs": [output("rows", sink)]})
    },
    read: |world| numbers(world.delta_rows("rows")),
    is_here: is_good,
    exactly_once: true,
    in_store: false,
};

const KINDS: [Kind; 11] = [
    PARQUET,
    Kind { name: "delta in a store", in_store: true, ..DELTA },
    Kind { name: "parquet in a store", read: |world| numbers(world.visible_rows("rows")), in_store: true, ..PARQUET },
    Kind {
        name: "dead letters in a store",
        spec: || json!({"outputs": [output("rows", json!({"path": "rows"}))], "badRecords": {"path": "letters"}}),
        read: |world| letters(world.visible_rows("letters")),
        is_here: |n| !is_good(n),
        exactly_once: true,
        in_store: true,
    },
    DELTA,
    Kind {
        name: "csv",
        spec: || json!({"outputs": [output("rows", json!({"format": "csv", "path": "rows"}))]}),
        read: |world| csv(&world.path("outputs/rows")),
        is_here: is_good,
        exactly_once: true,
        in_store: false,
    },
    Kind {
        name: "packed csv",
        spec: || {
            let sink = json!({"format": "csv", "path": "rows", "compression": "gzip"});
            json!({"outputs": [output("rows", sink)]})
        },
        read: |world| csv(&world.path("outputs/rows")),
        is_here: is_good,
        exactly_once: true,
        in_store: false,
    },
    Kind {
        name: "ndjson",
        spec: || json!({"outputs": [output("rows", json!({"format": "ndjson", "path": "rows"}))]}),
        read: |world| ndjson(&world.path("outputs/rows")),
        is_here: is_good,
        exactly_once: true,
        in_store: false,
    },
    Kind {
        name: "kafka",
        spec: || json!({"outputs": [output("rows", json!({"format": "kafka", "topic": "t", "keyColumn": "shop"}))]}),
        read: |world| numbers(values(world, "t")),
        is_here: is_good,
        exactly_once: false,
        in_store: false,
    },
    Kind {
        name: "dead letters in a table",
        spec: || json!({"outputs": [output("rows", json!({"path": "rows"}))], "badRecords": {"path": "letters"}}),
        read: |world| letters(world.rows("letters")),
        is_here: |n| !is_good(n),
        exactly_once: true,
        in_store: false,
    },
    Kind {
        name: "dead letters in a topic",
        spec: || json!({"outputs": [output("rows", json!({"path": "rows"}))], "badRecords": {"topic": "letters"}}),
        read: |world| {
            let messages = world.topics.messages("letters");
            let offset = |message: &crate::sink::topic::producer::Message| header(message, "dataplatform.offset");
            messages.iter().map(|message| offset(message).parse().unwrap()).collect()
        },
        is_here: |n| !is_good(n),
        exactly_once: false,
        in_store: false,
    },
];

fn output(name: &str, sink: Value) -> Value {
    json!({"name": name, "query": "SELECT n, shop FROM orders", "sink": sink})
}

/// Every fifth record is bad.
fn is_good(n: i64) -> bool {
    n % 5 != 4
}

fn numbers(rows: Vec<String>) -> Vec<i64> {
    rows.iter().map(|row| serde_json::from_str::<Value>(row).unwrap()["n"].as_i64().unwrap()).collect()
}

fn letters(rows: Vec<String>) -> Vec<i64> {
    rows.iter().map(|row| serde_json::from_str::<Value>(row).unwrap()["offset"].as_i64().unwrap()).collect()
}

fn values(world: &World, topic: &str) -> Vec<String> {
    let text = |value: Option<Vec<u8>>| String::from_utf8(value.unwrap()).unwrap();
    world.topics.messages(topic).into_iter().map(|message| text(message.value)).collect()
}

fn header(message: &crate::sink::topic::producer::Message, name: &str) -> String {
    use rdkafka::message::Headers as _;
    let found = message.headers.iter().find(|header| header.key == name).and_then(|header| header.value);
    String::from_utf8(found.unwrap().to_vec()).unwrap()
}

/// The first cells of the lines behind the headers.
fn csv(folder: &Path) -> Vec<i64> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
        let content = std::fs::read(entry.path()).unwrap();
        let mut text = String::new();
        let is_packed = entry.file_name().to_string_lossy().ends_with(".csv.gz");
        let read = match is_packed {
            true => flate2::read::GzDecoder::new(&content[..]).read_to_string(&mut text),
            false => (&content[..]).read_to_string(&mut text),
        };
        read.unwrap();
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("n,shop"));
        found.extend(lines.map(|line| line.split(',').next().unwrap().parse::<i64>().unwrap()));
    }
    found
}

fn ndjson(folder: &Path) -> Vec<i64> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
        assert!(entry.path().extension().is_some_and(|ending| ending == "ndjson"), "{entry:?}");
        found.extend(numbers(std::fs::read_to_string(entry.path()).unwrap().lines().map(str::to_owned).collect()));
    }
    found
}

fn job(spec: &Value) -> String {
    let mut job = json!({
        "apiVersion": "dataplatform.io/v1alpha1",
        "kind": "StreamingJob",
        "metadata": {"name": JOB},
        "spec": {
            "kafka": {"maxOffsetsPerTrigger": 10},
            "sources": [{"name": "orders", "topics": [TOPIC], "columns": [
                {"name": "n", "type": "bigint", "required": true}, {"name": "shop", "type": "string", "required": true},
            ]}],
            "trigger": {"interval": "0s"},
        },
    });
    for (field, value) in spec.as_object().unwrap() {
        job["spec"][field] = value.clone();
    }
    job.to_string()
}

fn world_of(records: i64, records_per_base: u64) -> World {
    let mut world = World::new();
    world.records_per_base = records_per_base;
    world.cluster.create(TOPIC, 1);
    world.turn_clock(1_767_225_600);
    append(&world, 0..records);
    world
}

fn append(world: &World, records: std::ops::Range<i64>) {
    for n in records {
        let good = json!({"n": n, "shop": format!("s{}", n % 3)}).to_string();
        world.append(TOPIC, 0, Some(if is_good(n) { &good } else { "{" }));
    }
}

impl Kind {
    fn world(&self) -> World {
        self.world_of(RECORDS, 7)
    }

    fn world_of(&self, records: i64, records_per_base: u64) -> World {
        let mut world = world_of(records, records_per_base);
        if self.in_store {
            world.put_outputs_in_a_store();
        }
        world
    }

    fn expected(&self, records: i64) -> BTreeSet<i64> {
        (0..records).filter(|n| (self.is_here)(*n)).collect()
    }

    /// No row is missing, and none is there twice that must be there once. How many are there again.
    #[track_caller]
    fn check(&self, world: &World, records: i64, when: &str) -> usize {
        let found = (self.read)(world);
        let once: BTreeSet<_> = found.iter().copied().collect();
        assert_eq!(once, self.expected(records), "{}, {when}", self.name);
        let again = found.len() - once.len();
        assert!(!self.exactly_once || again == 0, "{}, {when}: {again} rows are there twice", self.name);
        again
    }

    #[track_caller]
    fn is_proved(&self, world: &World, when: &str) {
        world.is_proved(JOB, None, &format!("{}, {when}", self.name));
    }
}

#[test]
fn a_kill_at_any_step_loses_no_row_and_doubles_none_that_comes_exactly_once() {
    for kind in KINDS {
        let job = job(&(kind.spec)());
        let (mut steps, mut again) = (0, 0);
        for step in 1.. {
            let world = kind.world_of(RECORDS_OF_KILLED, 4);
            let is_over = world.run_with(&job, KillAt::step(step)).is_some();
            if is_over {
                break;
            }
            steps += 1;
            if step % 3 == 0 {
                // The next one dies as well, at a step of its own.
                world.run_with(&job, KillAt::step(step / 2 + 1));
            }
            world.run(&job).good();
            again += kind.check(&world, RECORDS_OF_KILLED, &format!("killed at step {step}"));
            if step % 5 == 0 {
                kind.is_proved(&world, &format!("killed at step {step}"));
            }
        }
        assert!(steps > 60, "{}: only {steps} steps", kind.name);
        assert!(kind.exactly_once || again > 0, "{}: no kill was between sending and deciding", kind.name);
    }
}

#[test]
fn what_is_published_again_changes_nothing() {
    for kind in KINDS {
        let (world, job) = (kind.world(), job(&(kind.spec)()));
        world.run(&job).good();
        let before = (kind.read)(&world).len();
        world.block_on(async {
            let faults: Arc<dyn Faults> = Arc::new(NoSync);
            let survey = Survey::read(&world.checkpoint(JOB)).await.unwrap();
            let log_id = survey.head().state.unwrap().start.log_id;
            let mut outputs = 0;
            for (version, record) in survey.readable() {
                let Record::Commit(commit) = record else { continue };
                for (name, written) in &commit.outputs {
                    let output = sink::open_output(&written.root, &faults).unwrap();
                    let decided = Decided { log_id: &log_id, output: name, version, written, is_ours: false };
                    output.publish(decided).await.unwrap();
                    assert!(output.holds(written, true).await.unwrap(), "{}", kind.name);
                    output.release(written).await.unwrap();
                    outputs += 1;
                }
            }
            assert!(outputs > 0, "{}", kind.name);
        });
        assert_eq!((kind.read)(&world).len(), before, "{}", kind.name);
        kind.check(&world, RECORDS, "published again");
        kind.is_proved(&world, "published again");
    }
}

#[test]
fn an_attempt_that_is_abandoned_leaves_nothing_behind_that_readers_must_not_see() {
    for kind in KINDS {
        let mut spec = (kind.spec)();
        let other = output("other", json!({"format": "kafka", "topic": OTHER}));
        spec["outputs"].as_array_mut().unwrap().push(other);
        let (world, job) = (kind.world(), job(&spec));
        world.topics.refuse(OTHER, Some(TopicProblem::Missing));
        let error = world.run(&job).error();
        assert_eq!(error.reason, Reason::TopicNotFound, "{}", error.in_full());
        assert!(error.message.contains(OTHER) && error.cure.contains("nothing is lost"), "{}", error.in_full());
        if kind.exactly_once {
            assert_eq!((kind.read)(&world), Vec::<i64>::new(), "{}: nothing was decided", kind.name);
        }
        let staged = everything(&world).into_iter().filter(|path| path.ends_with(".tmp"));
        assert_eq!(staged.collect::<Vec<_>>(), Vec::<String>::new(), "{}", kind.name);
        world.topics.refuse(OTHER, None);
        world.run(&job).good();
        kind.check(&world, RECORDS, "abandoned once");
        kind.is_proved(&world, "abandoned once");
        assert_eq!(
            numbers(values(&world, OTHER)).into_iter().collect::<BTreeSet<_>>(),
            (0..RECORDS).filter(|n| is_good(*n)).collect()
        );
    }
}

#[test]
fn a_rewind_takes_back_what_can_be_taken_back_and_the_rows_come_again() {
    for kind in KINDS {
        let (mut world, job) = (kind.world(), job(&(kind.spec)()));
        world.records_per_base = 500;
        world.run(&job).good();
        let to = world.block_on(async {
            let survey = Survey::read(&world.checkpoint(JOB)).await.unwrap();
            let commits = survey.readable().filter(|(_, record)| matches!(record, Record::Commit(_)));
            commits.map(|(version, _)| version).nth(2).unwrap()
        });
        let rewound = world.rewind(JOB, to).unwrap_or_else(|_| panic!("{}", kind.name));
        assert_eq!(rewound, 0, "{}", kind.name);
        if kind.exactly_once {
            let left: BTreeSet<_> = (kind.read)(&world).into_iter().collect();
            assert_eq!(left, kind.expected(30), "{}: three commits of ten records", kind.name);
            kind.is_proved(&world, "rewound");
        }
        append(&world, RECORDS..RECORDS + 10);
        world.run(&job).good();
        kind.check(&world, RECORDS + 10, "rewound");
        kind.is_proved(&world, "after a rewind");
    }
}

/// Every file where outputs lie, beside tables too.
fn everything(world: &World) -> Vec<String> {
    let Location::Remote(url) = &world.outputs else { return walk(&world.path("outputs")) };
    let (store, _) = open_remote(url).unwrap();
    let listed: Vec<_> = world.block_on(store.list(None).try_collect()).unwrap();
    listed.into_iter().map(|object| object.location.to_string()).collect()
}

/// Every file below a folder.
fn walk(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
        if entry.path().is_dir() {
            found.extend(walk(&entry.path()));
        } else {
            found.push(entry.path().display().to_string());
        }
    }
    found
}

#[test]
fn a_topic_has_the_rows_that_a_table_of_the_same_query_has_with_keys() {
    let outputs = [
        output("table", json!({"path": "rows"})),
        output("topic", json!({"format": "kafka", "topic": "t", "keyColumn": "shop"})),
    ];
    let (world, job) = (world_of(RECORDS, 7), job(&json!({"outputs": outputs})));
    let status = world.run(&job).good();
    let (mut sent, written) = (values(&world, "t"), rows(&world.path("outputs/rows")));
    sent.sort();
    assert_eq!(sent, written);
    let counted = &status.totals.outputs["topic"];
    let bytes: usize = sent.iter().map(String::len).sum();
    assert_eq!((counted.rows, counted.files, counted.bytes), (48, 0, bytes as u64));
    for message in world.topics.messages("t") {
        let origin = |name: &str| header(&message, &format!("dataplatform.{name}"));
        assert_eq!((origin("topic"), origin("partition")), (TOPIC.to_owned(), "0".to_owned()));
        let offset: i64 = origin("offset").parse().unwrap();
        let row: Value = serde_json::from_slice(&message.value.unwrap()).unwrap();
        assert_eq!((row["n"].as_i64(), row.as_object().unwrap().len()), (Some(offset), 2));
        assert_eq!(message.key.unwrap(), row["shop"].as_str().unwrap().as_bytes());
    }
}
