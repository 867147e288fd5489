//! Delta tables that others touch, or that a job may not write: nothing lost, nothing doubled, and the message says what to do.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::{Value, json};

use super::world::{World, delta_rows};
use crate::checkpoint::survey::Survey;
use crate::delta::action::{NewFile, NewVersion};
use crate::delta::{DeltaLog, Head};
use crate::faults::{Faults, Guard, Moment, NoSync, Step};
use crate::pipeline::error::Reason;
use crate::storage::local::LocalStore;
use crate::storage::{SharedStore, paths};

const TOPIC: &str = "t";

fn job(query: &str) -> String {
    json!({
        "apiVersion": "dataplatform.io/v1alpha1",
        "kind": "StreamingJob",
        "metadata": {"name": "orders"},
        "spec": {
            "kafka": {"maxOffsetsPerTrigger": 10},
            "sources": [{"name": "s", "topics": [TOPIC], "columns": [
                {"name": "n", "type": "bigint"}, {"name": "shop", "type": "string"},
            ]}],
            "query": query,
            "sink": {"format": "delta", "path": "rows", "partitionBy": ["shop"]},
            "trigger": {"interval": "0s"},
        },
    })
    .to_string()
}

const QUERY: &str = "SELECT n, shop FROM s";

fn world(records: i64) -> World {
    let world = World::new();
    world.cluster.create(TOPIC, 1);
    world.turn_clock(1_767_225_600);
    append(&world, 0..records);
    world
}

fn append(world: &World, records: std::ops::Range<i64>) {
    for n in records {
        world.append(TOPIC, 0, Some(&json!({"n": n, "shop": format!("s{}", n % 2)}).to_string()));
    }
}

fn folder(world: &World) -> PathBuf {
    world.path("outputs/rows")
}

fn log(world: &World) -> DeltaLog {
    let store: SharedStore = Rc::new(LocalStore::open_table(&folder(world), Arc::new(NoSync)).unwrap());
    DeltaLog::new(store)
}

fn head(world: &World) -> Head {
    world.block_on(log(world).read()).unwrap().unwrap()
}

/// What another writer commits.
fn others(world: &World, make: impl FnOnce(&Head, &mut NewVersion)) {
    let log = log(world);
    world.block_on(async {
        let mut head = log.read().await.unwrap();
        let mut new = NewVersion::of("WRITE", json!({}));
        make(head.as_ref().unwrap(), &mut new);
        log.append(&mut head, new.bytes()).await.unwrap();
    });
}

/// Puts all files of a shop into one, as OPTIMIZE does.
fn optimize(head: &Head, new: &mut NewVersion, folder: &std::path::Path) {
    let rearranged = std::mem::replace(new, NewVersion::of("OPTIMIZE", json!({}))).that_rearranges();
    *new = rearranged;
    for (number, file) in head.active_files("t").unwrap().iter().enumerate() {
        let directory = file.path.split('/').next().unwrap();
        let path = format!("{directory}/part-{}-{number}.parquet", head.version);
        std::fs::copy(folder.join(&file.path), folder.join(&path)).unwrap();
        new.remove(file);
        let partition_values = file.partition_values.clone();
        new.add(NewFile { path, bytes: file.bytes, partition_values, statistics: "{\"numRecords\":1}".to_owned() });
    }
}

fn numbers(world: &World) -> Vec<i64> {
    let rows = delta_rows(&folder(world));
    let mut numbers: Vec<_> =
        rows.iter().map(|row| serde_json::from_str::<Value>(row).unwrap()["n"].as_i64().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn what_others_write_between_the_commits_stays_and_the_job_goes_on() {
    let world = world(30);
    world.run(&job(QUERY)).good();
    others(&world, |head, new| optimize(head, new, &folder(&world)));
    append(&world, 30..60);
    world.run(&job(QUERY)).good();
    // While it runs, after the first of its commits.
    append(&world, 60..90);
    let place = folder(&world);
    world.run_while(&job(QUERY), move || {
        let store: SharedStore = Rc::new(LocalStore::open_table(&place, Arc::new(NoSync)).unwrap());
        let log = DeltaLog::new(store);
        futures::executor::block_on(async {
            let mut head = log.read().await.unwrap();
            let mut new = NewVersion::of("OPTIMIZE", json!({}));
            optimize(head.as_ref().unwrap(), &mut new, &place);
            log.append(&mut head, new.bytes()).await.unwrap();
        });
    });
    world.run(&job(QUERY)).good();
    assert_eq!(numbers(&world), (0..90).collect::<Vec<_>>());
}

#[test]
fn a_table_that_does_not_fit_holds_the_job_and_says_what_does_not() {
    let text = json!({"type": "struct", "fields": [
        {"name": "n", "type": "string", "nullable": true, "metadata": {}},
        {"name": "shop", "type": "string", "nullable": true, "metadata": {}},
    ]});
    let fits = json!({"type": "struct", "fields": [
        {"name": "n", "type": "long", "nullable": true, "metadata": {}},
        {"name": "shop", "type": "string", "nullable": true, "metadata": {}},
        {"name": "theirs", "type": "date", "nullable": true, "metadata": {}},
    ]});
    let metadata = |schema: &Value, by: &[&str]| {
        json!({"metaData": {"id": "x", "format": {"provider": "parquet", "options": {}}, "schemaString": schema.to_string(),
            "partitionColumns": by, "configuration": {}, "createdTime": 0}})
    };
    let protocol = |text: &str| json!({"protocol": serde_json::from_str::<Value>(text).unwrap()});
    let plain = r#"{"minReaderVersion":1,"minWriterVersion":2}"#;
    let newer = r#"{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["typeWidening"],"writerFeatures":["typeWidening"]}"#;
    let tracked = r#"{"minReaderVersion":1,"minWriterVersion":7,"writerFeatures":["rowTracking","domainMetadata"]}"#;
    for (lines, said) in [
        (
            vec![protocol(plain), metadata(&text, &["shop"])],
            Some("its column n is of type string, and the job writes bigint"),
        ),
        (
            vec![protocol(plain), metadata(&fits, &[])],
            Some("it is partitioned by nothing, and the job partitions by shop"),
        ),
        (
            vec![protocol(newer), metadata(&fits, &["shop"])],
            Some("needs typeWidening, which this program does not know"),
        ),
        (
            vec![protocol(tracked), metadata(&fits, &["shop"])],
            Some("needs rowTracking, which this program does not know"),
        ),
        (vec![protocol(plain)], Some("cannot be read")),
        (vec![protocol(plain), metadata(&fits, &["shop"])], None),
    ] {
        let world = world(20);
        let there = folder(&world).join(paths::DELTA_LOG);
        std::fs::create_dir_all(&there).unwrap();
        let content: String = lines.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(there.join("00000000000000000000.json"), content).unwrap();
        let run = world.run(&job(QUERY));
        let Some(said) = said else {
            run.good();
            assert_eq!(numbers(&world), (0..20).collect::<Vec<_>>());
            continue;
        };
        let error = run.error();
        assert_eq!(error.reason, Reason::TableUnusable, "{}", error.in_full());
        assert!(error.message.contains(said) && !error.cure.is_empty(), "{}", error.in_full());
        // Nothing is lost: the table goes, and everything comes.
        std::fs::remove_dir_all(folder(&world)).unwrap();
        world.run(&job(QUERY)).good();
        assert_eq!(numbers(&world), (0..20).collect::<Vec<_>>());
    }
}

#[test]
fn a_new_column_of_the_query_becomes_one_of_the_table() {
    let world = world(10);
    world.run(&job(QUERY)).good();
    append(&world, 10..20);
    world.run(&job("SELECT n, shop, n * 2 AS twice, DATE '2026-01-01' AS day FROM s")).good();
    let schema: Value = serde_json::from_str(&head(&world).metadata.schema_string).unwrap();
    let names: Vec<_> =
        schema["fields"].as_array().unwrap().iter().map(|field| field["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["n", "shop", "twice", "day"]);
    append(&world, 20..30);
    world.run(&job(QUERY)).good();
    assert_eq!(numbers(&world), (0..30).collect::<Vec<_>>());
    let error = world.run(&job("SELECT CAST(n AS VARCHAR) AS n, shop FROM s")).error();
    assert!(error.message.contains("its column n is of type bigint, and the job writes string"), "{}", error.in_full());
}

/// Ends the process once it has decided so many commits.
fn decided(world: &World, query: &str) {
    struct AfterDecide(std::sync::atomic::AtomicI64);
    impl Faults for AfterDecide {
        fn reached(&self, step: Step, moment: Moment) {
            let is_it = (step, moment) == (Step::Decide, Moment::After);
            if is_it && self.0.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) == 1 {
                std::panic::resume_unwind(Box::new(super::world::Killed));
            }
        }
        fn guard(&self, guard: Guard) -> bool {
            NoSync.guard(guard)
        }
        fn disk_delay(&self) -> std::time::Duration {
            std::time::Duration::ZERO
        }
    }
    assert!(world.run_with(&job(query), Arc::new(AfterDecide(2.into()))).is_none());
}

#[test]
fn what_was_decided_is_published_whatever_others_did_meanwhile_unless_its_files_are_gone() {
    // Published by nobody, while others wrote.
    let world = world(30);
    decided(&world, QUERY);
    others(&world, |head, new| optimize(head, new, &folder(&world)));
    world.run(&job(QUERY)).good();
    assert_eq!(numbers(&world), (0..30).collect::<Vec<_>>());
    // Its files were taken for garbage.
    let world = self::world(30);
    decided(&world, QUERY);
    let active: Vec<_> = head(&world).active_files("t").unwrap().into_iter().map(|file| file.path).collect();
    let store = log(&world);
    world.block_on(async {
        for entry in store.store().list("").await.unwrap() {
            if paths::is_visible(&entry.path) && !active.contains(&entry.path) {
                store.store().delete(&entry.path).await.unwrap();
            }
        }
    });
    let error = world.run(&job(QUERY)).error();
    assert_eq!(error.reason, Reason::OutputChanged, "{}", error.in_full());
    // The table says that it has them, and has not.
    let world = self::world(30);
    decided(&world, QUERY);
    let log_id = world.block_on(Survey::read(&world.checkpoint("orders"))).unwrap().head().state.unwrap().start.log_id;
    others(&world, |_, new| new.writer(&format!("{log_id}/rows"), 1_000));
    let error = world.run(&job(QUERY)).error();
    assert_eq!(error.reason, Reason::TableUnusable, "{}", error.in_full());
    assert!(error.message.contains("contradict each other"), "{}", error.in_full());
}
