use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema};
use serde_json::json;

use super::*;
use crate::delta::action::{NewFile, NewVersion};
use crate::delta::columns::Columns;
use crate::faults::NoSync;
use crate::storage::local::LocalStore;

/// The files that the readers of a table see.
pub(crate) fn active_files(folder: &Path) -> Vec<ActiveFile> {
    let store: SharedStore = Rc::new(LocalStore::open_table(folder, Arc::new(NoSync)).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let head = runtime.block_on(DeltaLog::new(store).read()).unwrap();
    head.map(|head| head.active_files("t").unwrap()).unwrap_or_default()
}

fn log(folder: &Path) -> DeltaLog {
    DeltaLog::new(Rc::new(LocalStore::open_table(&folder.join("t"), Arc::new(NoSync)).unwrap()))
}

fn columns() -> Columns {
    let fields = [("n", DataType::Int64), ("shop", DataType::Utf8)];
    let schema = Schema::new(fields.map(|(name, data_type)| Field::new(name, data_type, true)).to_vec());
    Columns::of(&schema, &["shop".to_owned()]).unwrap()
}

fn file(path: &str) -> NewFile {
    let shop = path.split_once('/').map(|(directory, _)| directory["shop=".len()..].to_owned());
    NewFile {
        path: path.to_owned(),
        bytes: 100,
        partition_values: BTreeMap::from([("shop".to_owned(), shop)]),
        statistics: r#"{"numRecords":3,"minValues":{"n":1},"maxValues":{"n":9},"nullCount":{"n":0}}"#.to_owned(),
    }
}

fn new_table() -> NewVersion {
    let mut new = NewVersion::of("WRITE", json!({"mode": "Append"}));
    new.protocol(&Protocol::of_new_table(false));
    new.new_table(columns().schema_string(), columns().partition_by());
    new
}

fn adds(path: &str, version: i64) -> NewVersion {
    let mut new = NewVersion::of("WRITE", json!({"mode": "Append"}));
    new.writer("log/output", version);
    new.add(file(path));
    new
}

async fn append(log: &DeltaLog, head: &mut Option<Head>, new: &NewVersion) -> Appended {
    log.append(head, new.bytes()).await.unwrap()
}

fn paths_of(head: &Head) -> Vec<String> {
    head.active_files("t").unwrap().into_iter().map(|file| file.path).collect()
}

#[tokio::test]
async fn what_is_added_is_there_for_who_reads_and_a_lost_version_is_taken_up() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (log(folder.path()), log(folder.path()));
    assert!(!one.exists().await.unwrap() && one.read().await.unwrap().is_none());
    let mut head = None;
    assert_eq!(append(&one, &mut head, &new_table()).await, Appended::Yes);
    assert_eq!(head.as_mut().unwrap().writer("t", "log/output").unwrap(), None);
    let mut behind = other.read().await.unwrap();
    assert_eq!(append(&one, &mut head, &adds("shop=a/x.parquet", 7)).await, Appended::Yes);
    assert_eq!(append(&other, &mut behind, &adds("shop=b/y.parquet", 3)).await, Appended::Lost);
    let behind = behind.as_mut().unwrap();
    assert_eq!((behind.version, behind.writer("t", "log/output").unwrap()), (1, Some(7)));
    assert_eq!(paths_of(behind), ["shop=a/x.parquet"]);
    let read = one.read().await.unwrap().unwrap();
    let found = &read.active_files("t").unwrap()[0];
    assert_eq!((found.bytes, found.rows), (100, Some(3)));
    assert_eq!(found.partition_values, BTreeMap::from([("shop".to_owned(), Some("a".to_owned()))]));
    let mut read = read;
    assert_eq!(read.writer("t", "log/output").unwrap(), Some(7));
    assert_eq!(read.metadata.partition_columns, ["shop"]);
}

#[tokio::test]
async fn paths_with_any_character_are_added_and_removed_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let log = log(folder.path());
    let mut head = None;
    append(&log, &mut head, &new_table()).await;
    let hostile = ["a b", "a%2Fb", "ü 😀", "a&b+c", "a#?", "~x'"];
    let mut new = NewVersion::of("WRITE", json!({}));
    for shop in hostile {
        new.add(NewFile {
            partition_values: BTreeMap::from([("shop".to_owned(), Some(shop.to_owned()))]),
            ..file(&format!("shop={shop}/x.parquet"))
        });
    }
    append(&log, &mut head, &new).await;
    let mut expected: Vec<_> = hostile.iter().map(|shop| format!("shop={shop}/x.parquet")).collect();
    expected.sort();
    let read = log.read().await.unwrap().unwrap();
    assert_eq!(paths_of(&read), expected);
    let mut removes = NewVersion::of("DELETE", json!({}));
    read.active_files("t").unwrap().iter().for_each(|file| removes.remove(file));
    append(&log, &mut head, &removes).await;
    let read = log.read().await.unwrap().unwrap();
    assert_eq!(paths_of(&read), Vec::<String>::new());
    assert_eq!(read.paths("t").unwrap().1.into_iter().collect::<Vec<_>>(), expected, "they were there");
}

#[tokio::test]
async fn readers_begin_at_a_checkpoint_which_holds_what_came_before() {
    let folder = tempfile::tempdir().unwrap();
    let log = log(folder.path());
    let mut head = None;
    append(&log, &mut head, &new_table()).await;
    for version in 1..=CHECKPOINT_INTERVAL as i64 + 2 {
        append(&log, &mut head, &adds(&format!("shop=a/{version}.parquet"), version)).await;
        log.checkpoint_if_due(head.as_mut().unwrap()).await;
    }
    let there = log.store().list(LOG).await.unwrap();
    let checkpoints = there.iter().filter(|entry| entry.path.ends_with(".checkpoint.parquet")).count();
    assert_eq!((checkpoints, log.store().length(LAST_CHECKPOINT).await.unwrap().is_some()), (1, true));
    // Nothing before it is needed.
    for version in 0..CHECKPOINT_INTERVAL {
        log.store().delete(&version_path(version)).await.unwrap();
    }
    let read = log.read().await.unwrap().unwrap();
    assert_eq!((read.version, paths_of(&read).len()), (CHECKPOINT_INTERVAL + 2, CHECKPOINT_INTERVAL as usize + 2));
    let mut read = read;
    assert_eq!(read.writer("t", "log/output").unwrap(), Some(CHECKPOINT_INTERVAL as i64 + 2));
    assert_eq!(read.active_files("t").unwrap()[0].rows, Some(3));
    // Who wrote it goes on from it, too.
    append(&log, &mut head, &adds("shop=b/x.parquet", 1_000)).await;
    assert_eq!(paths_of(&head.unwrap()).len(), CHECKPOINT_INTERVAL as usize + 3);
}

#[tokio::test]
async fn a_log_that_makes_no_table_is_named_and_nothing_is_written_into_it() {
    let newer = json!({"protocol": {"minReaderVersion": 3, "minWriterVersion": 7,
        "readerFeatures": ["deletionVectors", "someDay"], "writerFeatures": ["deletionVectors", "someDay"]}});
    let row_tracking =
        json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["rowTracking"]}});
    type Break = fn(&Path);
    let broken: [(&str, Break, &str); 4] = [
        (
            "gap",
            |log| std::fs::remove_file(log.join("00000000000000000001.json")).unwrap(),
            "00000000000000000001.json is missing",
        ),
        (
            "torn",
            |log| std::fs::write(log.join("00000000000000000002.json"), b"{\"add\":").unwrap(),
            "a version is no JSON",
        ),
        ("empty", |log| std::fs::write(log.join("00000000000000000002.json"), b"").unwrap(), "a version is empty"),
        (
            "checkpoint",
            |log| std::fs::write(log.join("00000000000000000002.checkpoint.parquet"), b"PAR1").unwrap(),
            "the log of the Delta table",
        ),
    ];
    for (name, damage, said) in broken {
        let folder = tempfile::tempdir().unwrap();
        let log = log(folder.path());
        let mut head = None;
        append(&log, &mut head, &new_table()).await;
        append(&log, &mut head, &adds("shop=a/x.parquet", 1)).await;
        append(&log, &mut head, &adds("shop=a/y.parquet", 2)).await;
        damage(&folder.path().join("t/_delta_log"));
        let error = log.read().await.unwrap_err();
        assert!(error.to_string().contains(said), "{name}: {error}");
        assert!(matches!(error, DeltaError::Damaged { .. }), "{name}: {error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let log = log(folder.path());
    let mut head = None;
    append(&log, &mut head, &new_table()).await;
    let line = |value: &Value| bytes::Bytes::from(format!("{value}\n"));
    log.append(&mut head, line(&row_tracking)).await.unwrap();
    let error = log.check_writable(head.as_ref().unwrap()).unwrap_err().to_string();
    assert!(error.contains("needs rowTracking, which this program does not know"), "{error}");
    log.append(&mut head, line(&newer)).await.unwrap();
    let error = log.read().await.unwrap_err().to_string();
    assert!(error.contains("needs someDay, which"), "{error}");
    std::fs::remove_dir_all(folder.path().join("t/_delta_log")).unwrap();
    let error = log.append(&mut head, adds("shop=a/x.parquet", 1).bytes()).await.unwrap_err();
    assert!(error.to_string().contains("00000000000000000002.json is gone"), "{error}");
    assert!(!log.exists().await.unwrap());
}
