//! Tables in an object store: what is read of them is what is read of the same files in a folder.

use std::sync::Arc;

use data_platform_crds::column::ColumnType;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::ColumnStatistics;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};

use super::*;
use crate::storage::location::{Location, open_remote};
use crate::tables::schema::TableSchema;
use crate::tables::{FileAt, FileFormat, KnownRows, ListedFile, TableFiles, store_error};

/// A place in a store of this process, with its store.
fn store(url: &str) -> (Place, Arc<dyn ObjectStore>) {
    let location = Location::parse(url).unwrap();
    let Location::Remote(parsed) = &location else { panic!("{url}") };
    (Place::of(&location).unwrap(), open_remote(parsed).unwrap().0)
}

fn put(store: &Arc<dyn ObjectStore>, key: &str, bytes: Vec<u8>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(store.put(&Key::parse(key).unwrap(), PutPayload::from(bytes))).unwrap();
}

/// Copies what lies in a folder.
fn upload(folder: &Path, below: &str, store: &Arc<dyn ObjectStore>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let key = format!("{below}/{}", entry.file_name().to_string_lossy());
        if entry.file_type().unwrap().is_dir() {
            upload(&entry.path(), &key, store);
        } else {
            put(store, key.trim_start_matches('/'), std::fs::read(entry.path()).unwrap());
        }
    }
}

/// A folder with a table `t` that several writers filled.
fn mixed() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    let late: Vec<i64> = (0..1_000).map(|i| i * HOUR / 100).collect();
    write(&at("t/date=1970-01-02/late.parquet"), vec![("at", times(&late)), ("n", numbers(&late))]);
    write(&at("t/date=1970-01-01/a b.parquet"), vec![("at", times(&[HOUR, 2 * HOUR])), ("n", numbers(&[1, 2]))]);
    write(
        &at("t/old.parquet"),
        vec![("n", numbers(&[5])), ("at", times(&[5 * HOUR])), ("date", texts(&["1969-12-31"]))],
    );
    write(&at("t/date=1970-01-01/_tmp/x.parquet"), vec![("n", numbers(&[100]))]);
    write(&at("t/.hidden.parquet"), vec![("n", numbers(&[100]))]);
    std::fs::write(at("t/date=1970-01-01/c.csv"), "n,at\n7,1970-01-01T01:30:00Z\n").unwrap();
    std::fs::create_dir_all(at("_dataplatform/t")).unwrap();
    let told = r#"{"columns":[{"name":"n","type":"bigint"},{"name":"at","type":"timestamp"},
        {"name":"date","type":"date","directory":true,"utcDateOf":["at"]}]}"#;
    std::fs::write(at("_dataplatform/t/schema.json"), told).unwrap();
    folder
}

#[test]
fn a_table_in_a_store_has_the_rows_of_the_same_folder() {
    let folder = mixed();
    for (url, below) in [("memory://mixed/a/b", "a/b"), ("memory://mixed-whole", "")] {
        let (place, objects) = store(url);
        upload(folder.path(), below, &objects);
        let table = place.join("t");
        for (times, sql) in [
            (None, "SELECT n, at, date FROM t WHERE n < 10"),
            (None, "SELECT count(*), sum(n) FROM t"),
            (None, "SELECT n FROM t WHERE date = '1970-01-01'"),
            (range(HOUR, 2 * HOUR), "SELECT n, at, date FROM t"),
            (range(100 * HOUR, 101 * HOUR), "SELECT count(*), max(n) FROM t"),
        ] {
            for partitions in [1, 4] {
                let here = ask(&folder.path().join("t"), times.clone(), sql, partitions);
                let there = ask_place(&table, times.clone(), sql, partitions);
                assert_eq!(there.map(|asked| asked.0), here.map(|asked| asked.0), "{url} {sql}");
            }
        }
        let (_, plan) = ask_place(&table, range(HOUR, 2 * HOUR), "SELECT n FROM t", 1).unwrap();
        assert!(plan.contains("pruning_predicate=at_null_count"), "{plan}");
    }
}

#[test]
fn a_folder_may_be_empty_a_file_named_and_a_half_file_is_an_error() {
    let (place, objects) = store("memory://single");
    assert!(!Table::new(place.join("none")).open(None).unwrap().is_known());
    let folder = mixed();
    upload(folder.path(), "", &objects);
    let file = place.join("t/date=1970-01-01/a b.parquet");
    assert_eq!(ask_place(&file, None, "SELECT n FROM t", 1).unwrap().0, ["1", "2"]);
    let whole = std::fs::read(folder.path().join("t/old.parquet")).unwrap();
    put(&objects, "half/x.parquet", whole[..whole.len() / 2].to_vec());
    put(&objects, "half2/x.parquet", b"PAR1".to_vec());
    for table in ["half", "half2"] {
        let error = Table::new(place.join(table)).open(None).unwrap_err().to_string();
        assert!(error.contains(&format!("memory://single/{table}/x.parquet is not a whole Parquet file")), "{error}");
    }
}

#[test]
fn rows_of_two_versions_of_a_file_are_never_mixed() {
    let (place, objects) = store("memory://versions/t");
    let folder = tempfile::tempdir().unwrap();
    let new = |values: &[i64]| {
        let file = folder.path().join("x.parquet");
        write(&file, vec![("n", numbers(values))]);
        std::fs::read(file).unwrap()
    };
    put(&objects, "t/x.parquet", new(&[1, 2]));
    let opened = Table::new(place.clone()).open(None).unwrap();
    put(&objects, "t/x.parquet", new(&[3, 4]));
    let context = SessionContext::new();
    context.register_table("t", Arc::new(opened)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let read = runtime.block_on(async { context.sql("SELECT n FROM t").await.unwrap().collect().await });
    let error = read.unwrap_err();
    let said = store_error(&error).unwrap().to_string();
    assert_eq!(said, "read memory://versions/t/x.parquet: it was replaced or removed while it was read");
    assert_eq!(ask_place(&place, None, "SELECT n FROM t", 1).unwrap().0, ["3", "4"]);
}

#[test]
fn text_of_a_store_is_read_in_parts() {
    let (place, objects) = store("memory://text");
    // Longer than several parts.
    let rows = 600_000_i64;
    let lines: String = (0..rows).map(|n| format!("{n},text of the row {n}\n")).collect();
    put(&objects, "csv/a.csv", format!("n,s\n{lines}").into_bytes());
    put(&objects, "zst/a.csv.zst", zstd::encode_all(format!("n,s\n{lines}").as_bytes(), 1).unwrap());
    let json: String = (0..rows).map(|n| format!("{{\"n\":{n},\"s\":\"row\"}}\n")).collect();
    put(&objects, "ndjson/a.ndjson", json.into_bytes());
    let columns = TableSchema::declared([("n", ColumnType::Bigint.to_string())]);
    for (name, kind) in [("csv", Kind::Csv), ("zst", Kind::Csv), ("ndjson", Kind::Ndjson)] {
        let table = Table::new(place.join(name)).with_text(kind).with_columns(columns.clone()).open(None).unwrap();
        let (found, _) = super::ask_open(table, "SELECT count(*), sum(n) FROM t", 2).unwrap();
        assert_eq!(found, [format!("{rows} {}", rows * (rows - 1) / 2)], "{name}");
    }
}

#[test]
fn a_list_of_files_that_says_everything_opens_none_before_its_rows_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.parquet");
    write(&file, vec![("n", numbers(&[1, 2, 3]))]);
    let fields = vec![
        Field::new("n", DataType::Int64, true),
        Field::new("later", DataType::Utf8, true),
        Field::new("day", DataType::Date32, true),
    ];
    let listed = |path: &Path, day: Option<&str>, rows: u64| ListedFile {
        at: FileAt::from(path),
        format: FileFormat::default(),
        bytes: Some(std::fs::metadata(&file).unwrap().len()),
        values: vec![("day".to_owned(), day.map(str::to_owned))],
        known: Some(KnownRows { rows, columns: vec![("n".to_owned(), ColumnStatistics::new_unknown())] }),
    };
    let files = TableFiles {
        files: vec![
            listed(&file, Some("2026-01-01"), 3),
            listed(&folder.path().join("gone.parquet"), Some("2026-01-02"), 4),
            listed(&file, None, 3),
        ],
        schema: Some(Arc::new(Schema::new(fields))),
    };
    let open = || {
        let table = Table::from(folder.path().to_owned());
        table.open_files(&TableSchema::default(), files.clone(), None).unwrap()
    };
    assert_eq!(ask_open(open(), "SELECT count(*) FROM t", 2).unwrap().0, ["10"]);
    let sql = "SELECT n, later, day FROM t WHERE day < DATE '2026-01-02' OR day IS NULL";
    let found = ask_open(open(), sql, 2).unwrap().0;
    assert_eq!(found[..2], ["1 NULL 2026-01-01", "1 NULL NULL"]);
    assert_eq!(found.len(), 6);
    let gone = ask_open(open(), "SELECT n FROM t", 1).unwrap_err();
    assert!(gone.contains("gone.parquet: it was replaced or removed while it was read"), "{gone}");
    // Nothing in it is a table all the same.
    let none = TableFiles { files: Vec::new(), ..files.clone() };
    let opened = Table::from(folder.path().to_owned()).open_files(&TableSchema::default(), none, None).unwrap();
    assert!(opened.is_known());
    assert_eq!(ask_open(opened, "SELECT count(*), max(day) FROM t", 1).unwrap().0, ["0 NULL"]);
}
