//! Upkeep of a table by its job: killed at every step, watched by a reader, proved, and not taken apart by a rewind.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use super::days::{self, JOB, RECORDS, append};
use super::world::{KillAt, World};
use crate::faults::Faults;

fn job(maintenance: Option<Value>) -> String {
    days::job("parquet", maintenance)
}

fn kept_up() -> String {
    job(Some(json!({"compactAfter": "24h"})))
}

fn world() -> World {
    days::world("parquet")
}

/// The numbers in a table, or why it cannot be read: it is listed, and then its files are opened. As every reader does, it
/// passes over hidden names: the start of a job writes one to see that it may.
fn numbers(table: &Path) -> std::io::Result<Vec<i64>> {
    let mut files = Vec::new();
    for day in std::fs::read_dir(table)? {
        let day = day?;
        if day.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        for file in std::fs::read_dir(day.path())? {
            files.push(file?.path());
        }
    }
    let mut found = Vec::new();
    for file in files {
        let opened = std::fs::File::open(file)?;
        for batch in ParquetRecordBatchReaderBuilder::try_new(opened).unwrap().build().unwrap() {
            let batch = batch.unwrap();
            let column = datafusion::arrow::array::AsArray::as_primitive::<datafusion::arrow::datatypes::Int64Type>(
                batch.column(0),
            );
            found.extend(column.values().iter().copied());
        }
    }
    Ok(found)
}

fn files(world: &World) -> usize {
    let days = std::fs::read_dir(world.path("outputs/rows")).unwrap();
    days.map(|day| std::fs::read_dir(day.unwrap().path()).unwrap().count()).sum()
}

/// Every row is there once.
#[track_caller]
fn check(world: &World, records: i64, when: &str) {
    let found = numbers(&world.path("outputs/rows")).unwrap();
    let once: BTreeSet<_> = found.iter().copied().collect();
    assert_eq!(once, (0..records).collect(), "{when}");
    assert_eq!(found.len(), once.len(), "{when}: rows are there twice");
}

#[test]
fn days_that_are_over_become_one_file_and_late_rows_join_it_later() {
    let world = world();
    assert_eq!(files(&world), 4);
    world.run(&kept_up()).good();
    assert_eq!(files(&world), 2);
    check(&world, RECORDS, "compacted");
    world.is_proved(JOB, None, "compacted");
    // Rows that come late are a small file, until it is merged as well.
    append(&world, RECORDS..RECORDS + 20);
    world.run(&job(None)).good();
    assert_eq!(files(&world), 6);
    check(&world, RECORDS + 20, "late rows");
    world.is_proved(JOB, None, "late rows");
    world.run(&kept_up()).good();
    assert_eq!(files(&world), 2);
    check(&world, RECORDS + 20, "compacted again");
    world.is_proved(JOB, None, "compacted again");
}

#[test]
fn a_kill_at_any_step_of_upkeep_changes_no_row() {
    let (mut steps, mut exchanged) = (0, 0);
    for step in 1.. {
        let world = world();
        let faults = KillAt::step(step);
        let is_over = world.run_with(&kept_up(), Arc::clone(&faults) as Arc<dyn Faults>).is_some();
        if is_over {
            break;
        }
        steps += 1;
        exchanged += u64::from(faults.has_exchanged());
        check(&world, RECORDS, &format!("killed at step {step}"));
        // New rows for the same days come before the next one goes on.
        append(&world, RECORDS..RECORDS + 10);
        world.run(&kept_up()).good();
        check(&world, RECORDS + 10, &format!("killed at step {step}, and gone on"));
        assert_eq!(files(&world), 2, "killed at step {step}");
        if step % 10 == 0 {
            world.is_proved(JOB, None, &format!("killed at step {step}"));
        }
        let left: Vec<_> = std::fs::read_dir(world.path("outputs/_dataplatform/rows/compaction")).unwrap().collect();
        assert_eq!(left.len(), 1, "killed at step {step}: {left:?}");
    }
    assert!(steps > 10 && exchanged > 1, "only {steps} steps, {exchanged} of them behind an exchange");
}

#[test]
fn a_reader_sees_every_row_once_or_is_told_that_a_file_is_gone() {
    let world = world();
    let table = world.path("outputs/rows");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0;
            while !over.load(Ordering::Relaxed) || reads == 0 {
                match numbers(&table) {
                    Ok(found) => {
                        let once: BTreeSet<_> = found.iter().copied().collect();
                        assert_eq!((found.len() as i64, once.len() as i64), (RECORDS, RECORDS));
                        reads += 1;
                    }
                    Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}"),
                }
            }
            reads
        });
        world.run(&kept_up()).good();
        over.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0);
    });
    assert_eq!(files(&world), 2);
}

#[test]
fn days_are_removed_only_where_that_is_asked_for() {
    let world = world();
    world.run(&job(Some(json!({"retain": "219h"})))).good();
    // 2026-01-01 was over for 216 hours, 2026-01-02 for 192.
    check(&world, RECORDS, "younger than that");
    world.run(&job(Some(json!({"retain": "200h"})))).good();
    let left = numbers(&world.path("outputs/rows")).unwrap();
    assert!(left.len() == 10 && left.iter().all(|n| n % 2 == 1), "{left:?}");
    world.is_proved(JOB, Some("2026-01-02"), "retained");
}

#[test]
fn a_rewind_does_not_take_a_merged_file_apart() {
    let world = world();
    world.run(&kept_up()).good();
    let Err(error) = world.rewind(JOB, 2) else { panic!("it was taken apart") };
    let said = format!("{error:?}");
    assert!(said.contains("were merged") && said.contains("go back to version"), "{said}");
    check(&world, RECORDS, "refused");
    world.run(&kept_up()).good();
    check(&world, RECORDS, "gone on");
}

#[test]
fn what_cannot_be_kept_up_is_refused_when_it_is_planned() {
    let problem = |yaml: &str| {
        let manifest = data_platform_crds::check::Manifest::read(yaml).unwrap().remove(0);
        let loaded = crate::config::load_in_pod("job.yaml", manifest, &crate::config::JobSource::default());
        let Ok(crate::config::Loaded::Streaming(loaded)) = loaded else { panic!() };
        let outputs = crate::storage::location::Location::Folder(std::path::PathBuf::new());
        crate::config::job::PlannedJob::new(*loaded, &outputs).err().map(|error| error.to_string())
    };
    let without_date = kept_up().replace("CAST(at AS DATE) AS date", "'x' AS date");
    assert!(problem(&without_date).unwrap().contains("maintenance goes by days"));
    assert_eq!(problem(&kept_up()), None);
}
