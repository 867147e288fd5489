//! References that are Delta tables: in a folder and in a store.

use std::rc::Rc;

use datafusion::arrow::array::Int64Array;
use serde_json::json;

use super::*;
use crate::delta::DeltaLog;
use crate::delta::action::{NewFile, NewVersion};
use crate::delta::columns::Columns;
use crate::delta::protocol::Protocol;
use crate::delta::statistics;
use crate::faults::NoFaults;
use crate::storage::SharedStore;

/// A table of users by country, which somebody writes.
struct Users {
    location: Location,
    store: SharedStore,
    runtime: tokio::runtime::Runtime,
}

impl Users {
    fn at(location: Location) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let faults: Arc<dyn crate::faults::Faults> = Arc::new(NoFaults);
        let store = location.open_table(&faults).unwrap();
        Self { location, store, runtime }
    }

    fn reference(&self) -> ReferenceFiles {
        let (name, format) = ("users".to_owned(), ReferenceFormat::Delta);
        ReferenceFiles { name, format, location: self.location.clone(), columns: Vec::new() }
    }

    /// A version that adds a file and removes others. `ages`: with the column that came later.
    fn commit(&self, add: Option<(&str, &[&str], Option<&str>)>, ages: bool, remove: &[&str]) {
        self.runtime.block_on(async {
            let log = DeltaLog::new(Rc::clone(&self.store));
            let mut head = log.read().await.unwrap();
            let mut new = NewVersion::of("WRITE", json!({}));
            let fields = [("name", DataType::Utf8), ("age", DataType::Int64), ("country", DataType::Utf8)];
            let fields = fields.map(|(name, data_type)| Field::new(name, data_type, true)).to_vec();
            let columns = Columns::of(&Schema::new(fields), &["country".to_owned()]).unwrap();
            if head.is_none() {
                new.protocol(&Protocol::of_new_table(false));
                new.new_table(columns.schema_string(), columns.partition_by());
            }
            if let Some((path, names, country)) = add {
                let column: ArrayRef = Arc::new(StringArray::from(names.to_vec()));
                let ages_of: ArrayRef = Arc::new(Int64Array::from(vec![7; names.len()]));
                let later = ages.then_some(("age", ages_of));
                let rows = RecordBatch::try_from_iter([("name", column)].into_iter().chain(later)).unwrap();
                let mut content = Vec::new();
                let mut writer = ArrowWriter::try_new(&mut content, rows.schema(), None).unwrap();
                writer.write(&rows).unwrap();
                let statistics = statistics::of(&writer.close().unwrap());
                let bytes = content.len() as u64;
                self.store.create(path, content.into()).await.unwrap();
                let partition_values = [("country".to_owned(), country.map(str::to_owned))].into();
                new.add(NewFile { path: path.to_owned(), bytes, partition_values, statistics });
            }
            for file in head.iter().flat_map(|head| head.active_files("t").unwrap()) {
                if remove.contains(&file.path.as_str()) {
                    new.remove(&file);
                }
            }
            log.append(&mut head, new.bytes()).await.unwrap();
        });
    }
}

fn rows(loaded: &LoadedReference) -> Vec<String> {
    let text = |batch: &RecordBatch, row: usize| {
        let name = batch["name"].as_string_view().value(row);
        let ages = batch["age"].as_primitive::<datafusion::arrow::datatypes::Int64Type>();
        let countries = batch["country"].as_string_view();
        let country = if countries.is_null(row) { "-" } else { countries.value(row) };
        format!("{name} {} {country}", if ages.is_null(row) { "-".to_owned() } else { ages.value(row).to_string() })
    };
    let mut rows: Vec<_> =
        loaded.rows.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| text(batch, row))).collect();
    rows.sort();
    rows
}

#[test]
fn a_delta_table_has_the_rows_of_its_newest_version() {
    let folder = tempfile::tempdir().unwrap();
    let in_folder = Location::Folder(folder.path().join("users"));
    for location in [in_folder, Location::parse("memory://delta-reference/users").unwrap()] {
        let users = Users::at(location);
        let reference = users.reference();
        let error = reference.look().unwrap_err();
        assert!(error.to_string().ends_with("users has no version of a Delta table"), "{error}");
        users.commit(Some(("a b.parquet", &["ann", "bob"], Some("DE"))), false, &[]);
        let schema = reference.schema().unwrap();
        assert_eq!(
            schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(),
            ["name", "age", "country"]
        );
        let first = reference.load(&schema, 1 << 20).unwrap();
        assert_eq!(rows(&first), ["ann - DE", "bob - DE"], "a file without the column of later ones");
        assert_eq!(reference.look().unwrap(), first.seen);
        users.commit(Some(("c.parquet", &["eve"], None)), true, &[]);
        assert_ne!(reference.look().unwrap(), first.seen);
        let second = reference.load(&schema, 1 << 20).unwrap();
        assert_eq!(rows(&second), ["ann - DE", "bob - DE", "eve 7 -"]);
        assert_ne!(second.hash, first.hash);
        users.commit(None, false, &["a b.parquet"]);
        let third = reference.load(&schema, 1 << 20).unwrap();
        assert_eq!(rows(&third), ["eve 7 -"], "a file that lies there and is no part of the table any more");
        // A version that changes no rows.
        users.commit(None, false, &[]);
        let fourth = reference.load(&schema, 1 << 20).unwrap();
        assert_ne!(fourth.seen, third.seen);
        assert_eq!(fourth.hash, third.hash);
        let error = reference.load(&schema, 10).unwrap_err();
        assert!(matches!(error, ReferenceError::TooLarge { bytes_max: 10, .. }), "{error}");
    }
}

#[test]
fn what_cannot_be_read_of_a_delta_table_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let users = Users::at(Location::Folder(folder.path().join("users")));
    users.commit(Some(("a.parquet", &["ann"], Some("DE"))), false, &[]);
    let reference = users.reference();
    let schema = reference.schema().unwrap();
    let files = ReferenceFiles { format: ReferenceFormat::Parquet, ..reference.clone() };
    for error in [files.schema().unwrap_err(), files.load(&schema, 1 << 20).unwrap_err()] {
        assert!(
            error.to_string().contains("is a Delta table") && error.to_string().contains("set format: delta"),
            "{error}"
        );
    }
    let log = folder.path().join("users/_delta_log");
    let newer = r#"{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["variantType"],"writerFeatures":["variantType"]}}"#;
    std::fs::write(log.join("00000000000000000001.json"), newer).unwrap();
    let error = reference.load(&schema, 1 << 20).unwrap_err();
    assert!(error.to_string().contains("needs variantType, which this program does not know"), "{error}");
    assert!(error.to_string().contains("DROP FEATURE"), "{error}");
    std::fs::remove_file(log.join("00000000000000000001.json")).unwrap();
    std::fs::remove_file(folder.path().join("users/a.parquet")).unwrap();
    let error = reference.load(&schema, 1 << 20).unwrap_err();
    assert!(matches!(error, ReferenceError::Unreadable { .. }) && error.to_string().contains("a.parquet"), "{error}");
}
