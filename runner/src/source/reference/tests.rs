//! Reference tables of files in a temporary folder.

mod delta;

use std::fs::File;
use std::path::Path;

use datafusion::arrow::array::{AsArray, StringArray};
use datafusion::arrow::datatypes::{Int32Type, TimestampMicrosecondType};
use datafusion::parquet::arrow::ArrowWriter;

use super::*;

fn files(path: &Path, format: ReferenceFormat, columns: serde_json::Value) -> ReferenceFiles {
    let columns = serde_json::from_value(columns).unwrap();
    ReferenceFiles { name: "users".into(), format, location: Location::Folder(path.to_owned()), columns }
}

fn csv_of(path: &Path) -> ReferenceFiles {
    let columns = serde_json::json!([{"name": "age", "type": "int"}, {"name": "since", "type": "timestamp"}]);
    files(path, ReferenceFormat::Csv, columns)
}

fn write_parquet(path: &Path, names: &[&str]) {
    let column: ArrayRef = Arc::new(StringArray::from(names.to_vec()));
    let batch = RecordBatch::try_from_iter([("name", column)]).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn csv_has_the_declared_types_and_text_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.csv");
    let text = "\u{feff}user_id,age,since,note\na,7,2026-01-02T03:04:05Z,\"x, \"\"y\"\"\"\nb,,2026-01-02 03:04:05,\n";
    std::fs::write(&path, text).unwrap();
    for place in [path.as_path(), folder.path()] {
        let reference = csv_of(place);
        let schema = reference.schema().unwrap();
        let loaded = reference.load(&schema, 1 << 20).unwrap();
        let rows = &loaded.rows[0];
        assert_eq!(rows["user_id"].as_string_view().value(0), "a");
        assert_eq!(rows["age"].as_primitive::<Int32Type>().value(0), 7);
        assert_eq!((rows["age"].is_null(1), rows["note"].is_null(1)), (true, true), "{rows:?}");
        let since = rows["since"].as_primitive::<TimestampMicrosecondType>();
        assert_eq!((since.value(0), since.value(1)), (1_767_323_045_000_000, 1_767_323_045_000_000));
        assert_eq!(rows["note"].as_string_view().value(0), "x, \"y\"");
    }
}

#[test]
fn an_empty_text_stands_in_quotes_and_is_no_number() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.csv");
    std::fs::write(&path, "user_id,age,since,note\na,,,\nb,\"\",\"\",\"\"\n").unwrap();
    let reference = csv_of(&path);
    let loaded = reference.load(&reference.schema().unwrap(), 1 << 20).unwrap();
    let rows = &loaded.rows[0];
    let notes: Vec<_> = rows["note"].as_string_view().iter().collect();
    assert_eq!(notes, [None, Some("")]);
    assert_eq!((rows["age"].null_count(), rows["since"].null_count()), (2, 2));
}

#[test]
fn a_file_of_the_same_size_and_time_is_seen_to_be_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.csv");
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_767_225_600);
    let write = |path: &Path, text: &str| {
        std::fs::write(path, text).unwrap();
        File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    };
    write(&path, "age,since\n1,\n");
    let reference = csv_of(&path);
    let seen = reference.look().unwrap();
    assert_eq!(reference.look().unwrap(), seen);
    let other = folder.path().join("users.new");
    write(&other, "age,since\n2,\n");
    std::fs::rename(&other, &path).unwrap();
    let replaced = reference.look().unwrap();
    assert_ne!(replaced, seen, "another file was moved there");
    // The kernel's clock has ticks: some writes fall into one.
    let is_seen = (0..10_000).any(|_| {
        write(&path, "age,since\n3,\n");
        reference.look().unwrap() != replaced
    });
    assert!(is_seen, "it was written in place, and its time set back");
}

#[test]
fn parquet_is_a_file_or_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    write_parquet(&folder.path().join("a.parquet"), &["x", "y"]);
    write_parquet(&folder.path().join("b.parquet"), &["z"]);
    write_parquet(&folder.path().join("_c.parquet"), &["not visible"]);
    let rows = |path: &Path| -> usize {
        let reference = files(path, ReferenceFormat::Parquet, serde_json::json!([]));
        let schema = reference.schema().unwrap();
        assert_eq!(*schema.field(0).data_type(), DataType::Utf8View);
        reference.load(&schema, 1 << 20).unwrap().rows.iter().map(RecordBatch::num_rows).sum()
    };
    assert_eq!((rows(folder.path()), rows(&folder.path().join("b.parquet"))), (3, 1));
}

#[test]
fn a_version_is_its_content() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.parquet");
    write_parquet(&path, &["x"]);
    let reference = files(folder.path(), ReferenceFormat::Parquet, serde_json::json!([]));
    let schema = reference.schema().unwrap();
    let first = reference.load(&schema, 1 << 20).unwrap();
    assert_eq!(reference.look().unwrap(), first.seen);
    write_parquet(&path, &["x"]);
    assert_eq!(reference.load(&schema, 1 << 20).unwrap().hash, first.hash, "the same content");
    write_parquet(&path, &["x", "y"]);
    assert_ne!(reference.look().unwrap(), first.seen);
    assert_ne!(reference.load(&schema, 1 << 20).unwrap().hash, first.hash);
}

#[test]
fn what_is_wrong_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.csv");
    let declared = csv_of(&path).schema().unwrap();
    assert_eq!(declared.fields().len(), 2, "what is declared is known before the file is there");
    let error = csv_of(&path).load(&declared, 1 << 20).unwrap_err();
    assert!(error.to_string().contains("users is not there") && error.to_string().contains("users.csv"), "{error}");
    for (text, part) in [
        ("", "no header"),
        ("age,since,age\n", "two columns of one name"),
        ("age,,since\n", "without a name"),
        ("age,user_id\n", "no column since; it has age, user_id"),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = csv_of(&path).schema().unwrap_err().to_string();
        assert!(error.contains(part), "{text:?}: {error}");
    }
    std::fs::write(&path, "age,since\n1,2026-01-01T00:00:00Z\n").unwrap();
    let reference = csv_of(&path);
    let schema = reference.schema().unwrap();
    for (text, part) in [
        ("age,since\nseven,2026-01-01T00:00:00Z\n", "none of its column's type: "),
        ("age,since\nseven,2026-01-01T00:00:00Z\n", "users.csv: the column age: Cast error"),
        ("since\n2026-01-01T00:00:00Z\n", "users.csv: the column age is missing"),
        ("age,since\n1,2,3\n", "line 2: it has 3 cells, and the header has 2"),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = reference.load(&schema, 1 << 20).unwrap_err();
        assert!(error.to_string().contains(part), "{text:?}: {error}");
        assert!(!error.cure().is_empty());
    }
    std::fs::write(&path, format!("age,since\n{}", "1,2026-01-01T00:00:00Z\n".repeat(1_000))).unwrap();
    let error = reference.load(&schema, 2_000).unwrap_err();
    assert!(matches!(error, ReferenceError::TooLarge { bytes_max: 2_000, .. }), "{error}");
    let broken = folder.path().join("b.parquet");
    std::fs::write(&broken, "PAR1").unwrap();
    let error = files(&broken, ReferenceFormat::Parquet, serde_json::json!([])).schema().unwrap_err();
    assert!(error.to_string().contains("not a whole Parquet file"), "{error}");
    let nested = serde_json::json!([{"name": "age", "type": "array<int>"}]);
    std::fs::write(&path, "age\n1\n").unwrap();
    let error = files(&path, ReferenceFormat::Csv, nested).schema().unwrap_err();
    assert!(error.to_string().contains("cell of CSV cannot hold"), "{error}");
}

#[test]
fn ndjson_has_the_declared_columns_or_those_that_its_job_told() {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("users");
    std::fs::create_dir_all(&table).unwrap();
    let text = "{\"user_id\":\"a\",\"n\":9007199254740993,\"tags\":[\"x\",null],\"more\":1}\n{\"user_id\":\"b\"}\n";
    std::fs::write(table.join("users.ndjson"), text).unwrap();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut packed, text.as_bytes()).unwrap();
    std::fs::write(table.join("more.ndjson.gz"), packed.finish().unwrap()).unwrap();
    let columns = serde_json::json!([
        {"name": "user_id", "type": "string"}, {"name": "n", "type": "bigint"}, {"name": "tags", "type": "array<string>"},
    ]);
    let undeclared = files(&table, ReferenceFormat::Ndjson, serde_json::json!([]));
    let error = undeclared.schema().unwrap_err().to_string();
    assert!(error.contains("nobody says which columns its objects have"), "{error}");
    let declared = files(&table, ReferenceFormat::Ndjson, columns);
    let of_job = files(&table, ReferenceFormat::Ndjson, serde_json::json!([]));
    let told = r#"{"columns":[{"name":"user_id","type":"string"},{"name":"n","type":"bigint"},
        {"name":"tags","type":"array<string>"}]}"#;
    for (reference, told) in [(declared, None), (of_job, Some(told))] {
        if let Some(told) = told {
            let beside = folder.path().join("_dataplatform/users");
            std::fs::create_dir_all(&beside).unwrap();
            std::fs::write(beside.join("schema.json"), told).unwrap();
        }
        let schema = reference.schema().unwrap();
        let loaded = reference.load(&schema, 1 << 20).unwrap();
        let rows: usize = loaded.rows.iter().map(RecordBatch::num_rows).sum();
        assert_eq!((rows, schema.fields().len()), (4, 3));
        let numbers = loaded.rows[0]["n"].as_primitive::<datafusion::arrow::datatypes::Int64Type>();
        assert_eq!((numbers.value(0), numbers.is_null(1)), (9_007_199_254_740_993, true));
        assert_eq!(loaded.rows[0]["tags"].as_list::<i32>().value(0).as_string_view().value(0), "x");
    }
    std::fs::write(table.join("users.ndjson"), "{\"user_id\":\"a\"}\n{\"n\":1.5}\n").unwrap();
    let reference = files(&table, ReferenceFormat::Ndjson, serde_json::json!([{"name": "n", "type": "bigint"}]));
    let error = reference.load(&reference.schema().unwrap(), 1 << 20).unwrap_err().to_string();
    assert!(error.contains("users.ndjson: line 2: the column n: "), "{error}");
}

#[test]
fn a_reference_in_a_store_is_read_again_when_it_changes() {
    let Location::Remote(url) = Location::parse("memory://reference/users").unwrap() else { panic!() };
    let (store, _) = crate::storage::location::open_remote(&url).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let put = |text: &str| {
        use object_store::ObjectStoreExt;
        let bytes = object_store::PutPayload::from(text.as_bytes().to_vec());
        runtime.block_on(store.put(&object_store::path::Path::from("users/a.csv"), bytes)).unwrap();
    };
    let columns = serde_json::from_value(serde_json::json!([{"name": "n", "type": "int"}])).unwrap();
    let location = Location::Remote(url);
    let reference = ReferenceFiles { name: "users".into(), format: ReferenceFormat::Csv, location, columns };
    let error = reference.look().unwrap_err().to_string();
    assert!(error.contains("memory://reference/users has no CSV files"), "{error}");
    put("n,s\n1,a\n");
    let schema = reference.schema().unwrap();
    let first = reference.load(&schema, 1 << 20).unwrap();
    assert_eq!(reference.look().unwrap(), first.seen);
    put("n,s\n2,a\n");
    assert_ne!(reference.look().unwrap(), first.seen, "as long as before, and another version");
    let second = reference.load(&schema, 1 << 20).unwrap();
    assert_eq!(second.rows[0]["n"].as_primitive::<Int32Type>().value(0), 2);
    assert_ne!(first.hash, second.hash);
}
