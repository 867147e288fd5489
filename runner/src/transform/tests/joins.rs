//! Joins give the same rows whether one side is held or both are sorted.

use datafusion::arrow::array::{ArrayRef, Int64Array, StringViewArray};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;

use super::super::{InputTables, TableQuery};
use super::*;

/// Rows `(k, v)` with keys that are null, come twice, or only on one side.
fn table(rows: i64, step: i64, keys: i64) -> Arc<dyn TableProvider> {
    let keys = (0..rows).map(|n| (n % 4_001 != 0).then_some(n * step % keys));
    let columns: [(&str, ArrayRef, bool); 2] = [
        ("k", Arc::new(keys.collect::<Int64Array>()), true),
        ("v", Arc::new(StringViewArray::from_iter_values((0..rows).map(|n| format!("value {n}")))), true),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]]).unwrap())
}

/// The rows, where so much memory is there for them.
fn ask(sql: &str, memory_bytes: usize) -> Vec<String> {
    let tables: InputTables =
        [("l".to_owned(), table(200_000, 7, 150_000)), ("r".to_owned(), table(200_000, 3, 120_000))].into();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let query = TableQuery::parse(sql).unwrap();
        let (mut rows, _) = query.start(Arc::new(tables), memory_bytes, T0).unwrap();
        let mut batches = vec![];
        while let Some(batch) = futures::StreamExt::next(&mut rows).await {
            batches.push(batch.unwrap_or_else(|error| panic!("{sql}: {error}")));
        }
        let mut found = json_rows(&batches);
        found.sort_unstable();
        found
    })
}

#[test]
fn a_side_that_may_not_fit_is_sorted_and_the_rows_are_the_same() {
    for join in ["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"] {
        let sql = format!(
            "SELECT count(*) AS n, count(l.k) AS a, count(r.k) AS b, sum(l.k) AS c, min(l.v) AS d, max(r.v) AS e
             FROM l {join} r ON l.k = r.k AND l.v <> r.v"
        );
        assert_eq!(ask(&sql, 1 << 30), ask(&sql, 48 << 20), "{join}");
    }
    for sql in [
        "SELECT count(*) AS n FROM l WHERE EXISTS (SELECT 1 FROM r WHERE r.k = l.k)",
        "SELECT count(*) AS n FROM l WHERE NOT EXISTS (SELECT 1 FROM r WHERE r.k = l.k)",
        "SELECT count(*) AS n FROM l WHERE k NOT IN (SELECT k FROM r WHERE k IS NOT NULL)",
        "SELECT count(*) AS n FROM l JOIN r ON l.k IS NOT DISTINCT FROM r.k",
    ] {
        assert_eq!(ask(sql, 1 << 30), ask(sql, 48 << 20), "{sql}");
    }
}
