//! What does not fit into memory is sorted, merged and grouped by way of the disk: queries over ten times as much as they may hold.

use std::fs::File;

use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array, StringArray};
use datafusion::catalog::TableProvider;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::file::properties::WriterProperties;

use super::super::{InputTables, TableQuery};
use super::*;
use crate::tables::Table;

const MEMORY_BYTES: usize = 16 << 20;
const ROWS: i64 = 2_000_000;
/// Rows of a batch that is written.
const BATCH: i64 = 20_000;

/// A table of files with rows `(k, payload)`: each key once, in an order that is far from sorted, and 72 bytes beside it.
fn table(folder: &std::path::Path) -> Arc<dyn TableProvider> {
    let payload = |key: i64| format!("{key:032}{:040}", key.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64) as u64);
    let key = |n: i64| (n * 1_000_003) % ROWS;
    let batch = |from: i64| {
        let keys: ArrayRef = Arc::new((from..from + BATCH).map(key).collect::<Int64Array>());
        let payloads: ArrayRef = Arc::new(StringArray::from_iter_values((from..from + BATCH).map(|n| payload(key(n)))));
        RecordBatch::try_from_iter([("k", keys), ("payload", payloads)]).unwrap()
    };
    let mut rows_bytes = 0;
    for file in 0..4 {
        let path = File::create(folder.join(format!("part-{file}.parquet"))).unwrap();
        let mut writer = ArrowWriter::try_new(path, batch(0).schema(), None).unwrap();
        for from in (file * ROWS / 4..(file + 1) * ROWS / 4).step_by(BATCH as usize) {
            let batch = batch(from);
            rows_bytes += batch.get_array_memory_size();
            writer.write(&batch).unwrap();
        }
        writer.close().unwrap();
    }
    assert!(rows_bytes >= 10 * MEMORY_BYTES, "{rows_bytes} bytes");
    Arc::new(Table::from(folder.to_owned()).open(None).unwrap())
}

/// The only row of a query over the table, as JSON, and what its plan spilled.
fn ask(table: &Arc<dyn TableProvider>, sql: &str) -> (String, usize) {
    let tables: InputTables = [("t".to_owned(), Arc::clone(table))].into();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let query = TableQuery::parse(sql).unwrap();
        let (mut rows, plan) = query.start(Arc::new(tables), MEMORY_BYTES, T0).unwrap();
        let mut batches = vec![];
        while let Some(batch) = futures::StreamExt::next(&mut rows).await {
            batches.push(batch.unwrap_or_else(|error| panic!("{sql}: {error}")));
        }
        (json_rows(&batches).join("\n"), spilled(&plan))
    })
}

fn spilled(plan: &Arc<dyn datafusion::physical_plan::ExecutionPlan>) -> usize {
    let own = plan.metrics().and_then(|metrics| metrics.spilled_bytes()).unwrap_or_default();
    own + plan.children().into_iter().map(spilled).sum::<usize>()
}

/// Text that is far wider than what is taken of text of which nothing is known.
#[test]
fn a_join_of_wide_rows_spills_too() {
    const WIDE: i64 = 120_000;
    let folder = tempfile::tempdir().unwrap();
    let keys: ArrayRef = Arc::new((0..WIDE).map(|n| (n * 1_003) % WIDE).collect::<Int64Array>());
    let payload = |n: i64| format!("{:01000}", (n * 1_003) % WIDE);
    let payloads: ArrayRef = Arc::new(StringArray::from_iter_values((0..WIDE).map(payload)));
    let batch = RecordBatch::try_from_iter([("k", keys), ("payload", payloads)]).unwrap();
    let path = File::create(folder.path().join("part.parquet")).unwrap();
    // As it would be without so many zeros.
    let plain = WriterProperties::builder().set_dictionary_enabled(false).build();
    let mut writer = ArrowWriter::try_new(path, batch.schema(), Some(plain)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    assert!(batch.get_array_memory_size() > 7 * MEMORY_BYTES);
    let table: Arc<dyn TableProvider> = Arc::new(Table::from(folder.path().to_owned()).open(None).unwrap());
    let sum = WIDE * (WIDE - 1) / 2;
    for (sql, expected) in [
        (
            "SELECT count(*) AS n, sum(a.k) AS s, max(octet_length(b.payload)) AS w
             FROM t a JOIN t b ON a.payload = b.payload",
            format!(r#"{{"n":{WIDE},"s":{sum},"w":1000}}"#),
        ),
        (
            "SELECT count(*) AS n, sum(a.k) AS s, max(octet_length(c.payload)) AS w
             FROM t a JOIN t b ON a.payload = b.payload JOIN t c ON c.k = b.k + a.k - a.k",
            format!(r#"{{"n":{WIDE},"s":{sum},"w":1000}}"#),
        ),
    ] {
        let (found, spilled) = ask(&table, sql);
        assert_eq!(found, expected, "{sql}");
        assert!(spilled > 2 * MEMORY_BYTES, "{sql}: {spilled} bytes spilled");
    }
}

#[test]
fn joins_sorts_and_windows_over_ten_times_the_memory_spill_and_are_right() {
    let folder = tempfile::tempdir().unwrap();
    let table = table(folder.path());
    let sum = ROWS * (ROWS - 1) / 2;
    for (sql, expected) in [
        (
            "SELECT count(*) AS n, sum(a.k) AS s FROM t a JOIN t b ON a.payload = b.payload",
            format!(r#"{{"n":{ROWS},"s":{sum}}}"#),
        ),
        (
            "SELECT count(b.payload) AS n, sum(a.k) AS s FROM t a LEFT JOIN t b ON a.k = b.k + 1",
            format!(r#"{{"n":{},"s":{sum}}}"#, ROWS - 1),
        ),
        (
            "SELECT count(*) AS n, min(k - before) AS s, max(k - before) AS m FROM (
                SELECT k, payload, lag(k) OVER (ORDER BY payload) AS before FROM t) WHERE before IS NOT NULL",
            format!(r#"{{"n":{},"s":1,"m":1}}"#, ROWS - 1),
        ),
        (
            "SELECT max(n) AS n, count(*) AS s FROM (
                SELECT row_number() OVER (PARTITION BY k % 1000 ORDER BY payload) AS n FROM t)",
            format!(r#"{{"n":{},"s":{ROWS}}}"#, ROWS / 1000),
        ),
    ] {
        let (found, spilled) = ask(&table, sql);
        assert_eq!(found, expected, "{sql}");
        assert!(spilled > 2 * MEMORY_BYTES, "{sql}: {spilled} bytes spilled");
    }
    // An ORDER BY that is not for something else.
    let sql = "SELECT k, payload FROM t ORDER BY payload DESC";
    let tables: InputTables = [("t".to_owned(), Arc::clone(&table))].into();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let query = TableQuery::parse(sql).unwrap();
        let (mut rows, plan) = query.start(Arc::new(tables), MEMORY_BYTES, T0).unwrap();
        let mut next = ROWS;
        while let Some(batch) = futures::StreamExt::next(&mut rows).await {
            let batch = batch.unwrap_or_else(|error| panic!("{sql}: {error}"));
            for key in batch.column(0).as_primitive::<datafusion::arrow::datatypes::Int64Type>().values() {
                next -= 1;
                assert_eq!(*key, next);
            }
        }
        assert_eq!(next, 0);
        assert!(spilled(&plan) > 2 * MEMORY_BYTES);
    });
}
