//! Files whose rows are sorted by the columns that a sink names: as they are written, and as they are merged.

use std::fs::File;
use std::path::{Path, PathBuf};

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::Int64Type;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use super::world::World;
use crate::config::job::PlannedJob;
use crate::config::{JobSource, Loaded, load_in_pod};
use crate::storage::location::Location;

const TOPIC: &str = "t";

fn job(sink: &Value) -> String {
    json!({
        "apiVersion": "dataplatform.io/v1alpha1",
        "kind": "StreamingJob",
        "metadata": {"name": "sorted"},
        "spec": {
            "kafka": {"maxOffsetsPerTrigger": 10},
            "sources": [{"name": "s", "topics": [TOPIC], "columns": [
                {"name": "n", "type": "bigint"}, {"name": "shop", "type": "string"}, {"name": "tags", "type": "array<string>"},
            ]}],
            "trigger": {"interval": "0s"},
            "outputs": [{"name": "rows", "query": "SELECT tags, n, shop, DATE '2026-01-01' AS date FROM s", "sink": sink}],
        },
    })
    .to_string()
}

fn sink(format: &str, by: &[&str], maintenance: Option<Value>) -> Value {
    let mut sink = json!({"format": format, "path": "rows", "partitionBy": ["date"], "sortBy": by});
    if let Some(maintenance) = maintenance {
        sink["maintenance"] = maintenance;
    }
    sink
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder.join("date=2026-01-01")).unwrap();
    files.map(|file| file.unwrap().path()).collect()
}

/// Shops and numbers of a file in its order, and the columns that it says it is sorted by.
fn read(file: &Path) -> (Vec<(Option<String>, i64)>, Vec<i32>) {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(file).unwrap()).unwrap();
    let said = reader.metadata().row_group(0).sorting_columns().cloned().unwrap_or_default();
    assert!(said.iter().all(|column| !column.descending && column.nulls_first));
    let mut rows = Vec::new();
    for batch in reader.build().unwrap() {
        let batch = batch.unwrap();
        let numbers = batch.column_by_name("n").unwrap().as_primitive::<Int64Type>().clone();
        let shops = batch.column_by_name("shop").unwrap().as_string::<i32>().clone();
        rows.extend(shops.iter().map(|shop| shop.map(str::to_owned)).zip(numbers.values().iter().copied()));
    }
    (rows, said.iter().map(|column| column.column_idx).collect())
}

#[test]
fn rows_of_each_file_are_sorted_and_the_file_says_so() {
    for format in ["parquet", "delta"] {
        let world = World::new();
        world.cluster.create(TOPIC, 1);
        world.turn_clock(1_767_225_600);
        for n in 0..20 {
            let shop = (n % 4 != 3).then(|| format!("s{}", 7 * n % 5));
            world.append(TOPIC, 0, Some(&json!({"n": 100 - n, "shop": shop, "tags": ["x"]}).to_string()));
        }
        let is_sorted = |count: usize, rows: usize| {
            let all = files(&world.path("outputs/rows"));
            let mut found = 0;
            let of_rows = all.iter().map(|file| read(file)).filter(|(read, _)| read.len() == rows);
            for (rows, said) in of_rows {
                found += 1;
                assert!(rows.is_sorted(), "{format}: {rows:?}");
                // The list before them is one leaf.
                assert_eq!(said, [2, 1], "{format}");
            }
            assert_eq!(found, count, "{format}: {all:?}");
        };
        world.run(&job(&sink(format, &["shop", "n"], None))).good();
        is_sorted(2, 10);
        world.turn_clock(1_767_225_600 + 10 * 86_400);
        world.run(&job(&sink(format, &["shop", "n"], Some(json!({"compactAfter": "24h"}))))).good();
        is_sorted(1, 20);
        world.is_proved("sorted", None, format);
    }
}

#[test]
fn what_cannot_be_sorted_by_is_named_when_it_is_planned() {
    for (by, said) in [("nothing", "no column \"nothing\""), ("date", "no column \"date\""), ("tags", "has no order")] {
        let manifest =
            data_platform_crds::check::Manifest::read(&job(&sink("parquet", &[by], None))).unwrap().remove(0);
        let Ok(Loaded::Streaming(loaded)) = load_in_pod("job.yaml", manifest, &JobSource::default()) else { panic!() };
        let outputs = Location::Folder(PathBuf::new());
        let error = PlannedJob::new(*loaded, &outputs).err().unwrap().to_string();
        assert!(error.contains(said) && error.contains("sortBy"), "{error}");
    }
}
