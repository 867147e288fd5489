//! A folder with the log of a Delta table has the files and the columns that the log says, and no others.

use std::rc::Rc;
use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, SchemaRef};
use datafusion::common::{ScalarValue, exec_datafusion_err};
use datafusion::error::{DataFusionError, Result};
use object_store::path::Path as Key;
use serde_json::Value;

use super::place::{FileAt, Place, Prefix, RemoteFile};
use super::remote::{store_failed, wait};
use super::{FileFormat, Kind, KnownRows, ListedFile, Packing, TableFiles, TimeRange};
use crate::delta::replay::ActiveFile;
use crate::delta::{DeltaError, DeltaLog};
use crate::faults::NoFaults;
use crate::storage::local::LocalStore;
use crate::storage::object::RemoteStore;
use crate::storage::{SharedStore, StoreError, paths};

/// Whether a folder has the log of a Delta table.
///
/// # Errors
/// When a store does not answer.
pub(crate) fn is_delta(place: &Place) -> std::result::Result<bool, StoreError> {
    match place {
        Place::Folder(folder) => Ok(folder.join(paths::DELTA_LOG).is_dir()),
        Place::Remote(prefix) => {
            let (store, log) = (Arc::clone(&prefix.store), key(prefix, paths::DELTA_LOG));
            let shown = place.to_string();
            wait(async move {
                let listed = store.list_with_delimiter(Some(&log)).await;
                let listed = listed.map_err(|error| store_failed("list", shown, error))?;
                Ok(!listed.objects.is_empty())
            })
        }
    }
}

/// The columns and files of a Delta table; `None`: there is no such table.
pub(crate) fn delta_files(place: &Place) -> Result<Option<TableFiles>> {
    files(place, None)
}

/// The files of a Delta table, with a range without those that surely have no row of it; `None`: there is no such table.
pub(super) fn files(place: &Place, range: Option<&TimeRange>) -> Result<Option<TableFiles>> {
    let external = |error: StoreError| DataFusionError::External(Box::new(error));
    if !is_delta(place).map_err(external)? {
        return Ok(None);
    }
    let read = read(place).map_err(|error| match error {
        DeltaError::Store(error) => external(error),
        other => exec_datafusion_err!("{other}: {}", other.cure()),
    })?;
    let Some((schema, active)) = read else { return Ok(None) };
    let field = range.and_then(|range| Some((range, schema.field_with_name(&range.column).ok()?)));
    let active = active.into_iter().filter(|file| field.is_none_or(|(range, field)| may_have(file, range, field)));
    let files = active.map(|file| listed(place, file)).collect::<Result<_>>()?;
    Ok(Some(TableFiles { files, schema: Some(schema) }))
}

/// Its columns and files. The stores of tables are one thread's, so it has one.
fn read(place: &Place) -> std::result::Result<Option<(SchemaRef, Vec<ActiveFile>)>, DeltaError> {
    let failed = |error: std::io::Error| StoreError::io("read", &place.to_string(), error);
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("delta".to_owned()).spawn_scoped(scope, || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
            let store = open(place)?;
            let root = store.root().to_owned();
            let head = runtime.block_on(DeltaLog::new(store).read())?;
            head.map(|head| head.table(&root)).transpose()
        });
        let ended = || StoreError::Unsuitable("reading the log of a Delta table ended without an answer".to_owned());
        thread.map_err(failed)?.join().map_err(|_| ended())?
    })
}

fn open(place: &Place) -> std::result::Result<SharedStore, StoreError> {
    match place {
        Place::Folder(folder) => Ok(Rc::new(LocalStore::open(folder, Arc::new(NoFaults))?)),
        Place::Remote(prefix) => {
            Ok(Rc::new(RemoteStore::new(Arc::clone(&prefix.store), prefix.key.clone(), place.to_string())))
        }
    }
}

fn key(prefix: &Prefix, path: &str) -> Key {
    let above = prefix.key.as_ref();
    let key = if above.is_empty() { path.to_owned() } else { format!("{above}/{path}") };
    Key::parse(&key).unwrap_or_else(|_| Key::from(key))
}

/// Whether a file may have a row of a range, by what its log says of it: bounds, in whole milliseconds, which some writers
/// have cut down.
fn may_have(file: &ActiveFile, range: &TimeRange, field: &Field) -> bool {
    let said: Option<Value> = file.statistics.as_deref().and_then(|text| serde_json::from_str(text).ok());
    let bound = |which: &str| {
        let text = said.as_ref()?.get(which)?.get(field.name())?.as_str()?.to_owned();
        match ScalarValue::try_from_string(text, field.data_type()) {
            Ok(ScalarValue::TimestampMicrosecond(micros, _)) => micros,
            _ => None,
        }
    };
    let is_before = bound("maxValues").is_some_and(|most| most.saturating_add(999) < range.start);
    let is_after = bound("minValues").is_some_and(|least| least >= range.end);
    !is_before && !is_after
}

fn listed(place: &Place, file: ActiveFile) -> Result<ListedFile> {
    let ActiveFile { path, bytes, partition_values, rows, deletion_vector, .. } = file;
    if deletion_vector.is_some() {
        return Err(exec_datafusion_err!(
            "the Delta table {place} has rows that are removed by deletion vectors ({path}), which this program does not read: \
             write them out with REORG TABLE … APPLY (PURGE), or set delta.enableDeletionVectors to false before rows are removed"
        ));
    }
    if path.contains("://") || path.starts_with('/') {
        return Err(exec_datafusion_err!(
            "the Delta table {place} has a file that lies elsewhere ({path}), as in a shallow clone: read the table that it was \
             cloned from, or make a deep clone"
        ));
    }
    let at = match place {
        Place::Folder(folder) => FileAt::Local(folder.join(&path)),
        Place::Remote(prefix) => {
            let key = key(prefix, &path);
            FileAt::Remote(RemoteFile { prefix: Arc::clone(prefix), key, bytes, etag: None })
        }
    };
    // An empty text is null, whoever wrote it: the format cannot tell them apart.
    let values = partition_values.into_iter().map(|(column, value)| (column, value.filter(|value| !value.is_empty())));
    let known = rows.map(|rows| KnownRows { rows, columns: Vec::new() });
    Ok(ListedFile {
        at,
        format: FileFormat { kind: Kind::Parquet, packing: Packing::None },
        bytes: Some(bytes),
        values: values.collect(),
        known,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
    use datafusion::arrow::datatypes::{DataType, Int64Type, Schema, TimeUnit};
    use datafusion::catalog::TableProvider;
    use datafusion::parquet::arrow::ArrowWriter;
    use datafusion::prelude::SessionContext;
    use serde_json::json;

    use super::*;
    use crate::delta::action::{NewFile, NewVersion};
    use crate::delta::columns::Columns;
    use crate::delta::protocol::Protocol;
    use crate::delta::statistics;
    use crate::tables::Table;

    const HOUR: i64 = 3_600_000_000;

    fn at(hour: i64) -> i64 {
        1_767_225_600_000_000 + hour * HOUR
    }

    /// Writes a file with two numbers of an hour, and says what its log is to say of it.
    fn file(folder: &Path, name: &str, numbers: [i64; 2], hour: i64, day: Option<&str>) -> NewFile {
        let n: ArrayRef = Arc::new(Int64Array::from(numbers.to_vec()));
        let times = TimestampMicrosecondArray::from(vec![at(hour), at(hour) + HOUR - 1_000_000]).with_timezone("UTC");
        let rows = RecordBatch::try_from_iter([("n", n), ("at", Arc::new(times) as ArrayRef)]).unwrap();
        let mut content = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut content, rows.schema(), None).unwrap();
        writer.write(&rows).unwrap();
        let statistics = statistics::of(&writer.close().unwrap());
        std::fs::write(folder.join(name), &content).unwrap();
        let partition_values = [("day".to_owned(), day.map(str::to_owned))].into();
        NewFile { path: name.to_owned(), bytes: content.len() as u64, partition_values, statistics }
    }

    /// A table with a file of the hour 0 and one of the hour 1, one that was removed, and one that was never added.
    async fn table(folder: &Path) {
        std::fs::create_dir_all(folder).unwrap();
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let fields = [("n", DataType::Int64), ("at", utc), ("day", DataType::Date32), ("new", DataType::Utf8)];
        let schema = Schema::new(fields.map(|(name, data_type)| Field::new(name, data_type, true)).to_vec());
        let columns = Columns::of(&schema, &["day".to_owned()]).unwrap();
        let mut new = NewVersion::of("WRITE", json!({}));
        new.protocol(&Protocol::of_new_table(false));
        new.new_table(columns.schema_string(), columns.partition_by());
        new.add(file(folder, "a b%.parquet", [1, 2], 0, Some("2026-01-01")));
        new.add(file(folder, "b.parquet", [3, 4], 1, None));
        new.add(file(folder, "gone.parquet", [5, 6], 0, Some("2026-01-02")));
        file(folder, "never.parquet", [7, 8], 0, Some("2026-01-01"));
        let log = DeltaLog::new(Rc::new(LocalStore::open(folder, Arc::new(NoFaults)).unwrap()));
        let mut head = None;
        log.append(&mut head, new.bytes()).await.unwrap();
        let gone = head.as_ref().unwrap().active_files("t").unwrap();
        let mut removes = NewVersion::of("DELETE", json!({}));
        removes.remove(gone.iter().find(|file| file.path == "gone.parquet").unwrap());
        log.append(&mut head, removes.bytes()).await.unwrap();
    }

    async fn numbers(table: Arc<dyn TableProvider>, condition: &str) -> Vec<i64> {
        let session = SessionContext::new();
        session.register_table("t", table).unwrap();
        let rows = session.sql(&format!("SELECT n FROM t WHERE {condition} ORDER BY n")).await.unwrap();
        let batches = rows.collect().await.unwrap();
        batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
    }

    #[tokio::test]
    async fn a_delta_table_has_the_rows_that_its_log_says() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("t");
        table(&folder).await;
        let open = |range: Option<TimeRange>| Arc::new(Table::new(Place::Folder(folder.clone())).open(range).unwrap());
        assert_eq!(numbers(open(None), "true").await, [1, 2, 3, 4]);
        assert_eq!(numbers(open(None), "day = DATE '2026-01-01' AND new IS NULL").await, [1, 2]);
        assert_eq!(numbers(open(None), "day IS NULL").await, [3, 4]);
        let range = |start: i64, end: i64| {
            let column = "at".to_owned();
            Some(TimeRange { column, start: at(start), end: at(end), date_column: None })
        };
        assert_eq!(numbers(open(range(1, 2)), "true").await, [3, 4]);
        let read = |range: Option<TimeRange>| {
            files(&Place::Folder(folder.clone()), range.as_ref()).unwrap().unwrap().files.len()
        };
        assert_eq!([read(None), read(range(0, 1)), read(range(1, 2)), read(range(5, 6))], [2, 1, 1, 0]);
        let empty = open(range(5, 6));
        assert!(empty.is_known(), "its columns are known");
        assert_eq!(numbers(empty, "true").await, Vec::<i64>::new());
    }

    #[test]
    fn a_table_that_is_to_be_one_of_delta_has_no_files_before_its_first_version() {
        let folder = tempfile::tempdir().unwrap();
        file(folder.path(), "undecided.parquet", [1, 2], 0, None);
        let table = Table::new(Place::Folder(folder.path().to_owned()));
        assert_eq!(table.files().unwrap().len(), 1);
        assert!(!table.by_log().open(None).unwrap().is_known());
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let vector = json!({"storageType": "u", "pathOrInlineDv": "x", "sizeInBytes": 1, "cardinality": 1});
        let place = Place::Folder("/t".into());
        for (file, said) in [
            (
                ActiveFile { path: "a".to_owned(), deletion_vector: Some(vector), ..ActiveFile::default() },
                "REORG TABLE",
            ),
            (ActiveFile { path: "s3://b/a".to_owned(), ..ActiveFile::default() }, "lies elsewhere"),
        ] {
            let error = listed(&place, file).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
