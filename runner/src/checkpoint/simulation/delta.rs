//! A streaming job that writes a Delta table, under chaos, while another writer puts its files together: every record is in
//! the table once, a version is whole or not there, and a checkpoint says what the versions say.

use std::collections::BTreeSet;

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch};
use datafusion::arrow::datatypes::Schema;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::file::reader::{FileReader, SerializedFileReader};
use datafusion::parquet::record::RowAccessor;
use serde_json::{Value, json};

use super::streaming::{PARTITIONS, RECORDS_PER_PARTITION, access_to, run_once_with};
use super::*;
use crate::checkpoint::job_state::JobState;
use crate::checkpoint::log::{Attempt, JobLog, LogError};
use crate::checkpoint::output::SharedOutput;
use crate::checkpoint::output::delta::DeltaTable;
use crate::checkpoint::record::{FileCommit, OutputCommit};
use crate::delta::action::{NewFile, NewVersion};
use crate::delta::columns::Columns;
use crate::delta::protocol::Protocol;
use crate::delta::{DeltaError, DeltaLog, Head, Metadata};
use crate::offsets::Range;

/// Seeds, where nobody asks for another number: each reads logs through delta-rs many times.
const SEEDS: u64 = 20;

/// What readers of the versions have seen so far.
#[derive(Default)]
struct DeltaJob {
    versions: usize,
}

impl Job for DeltaJob {
    type Log = JobState;

    fn run(world: World, number: u64, pod: String) -> Process {
        match number % 7 {
            3 => Box::pin(optimize(world, number)),
            _ => Box::pin(run_process(world, number, pod)),
        }
    }

    fn look(&mut self, disk: &Disk, _: Option<&JobState>) -> Result<(), String> {
        let versions = disk.names(&format!("{OUTPUT}/_delta_log")).count();
        if versions != self.versions {
            self.versions = versions;
            read_table(disk)?;
        }
        Ok(())
    }

    fn finish(&mut self, disk: &Disk) -> Result<(), String> {
        let (rows, _) = read_table(disk)?;
        for partition in 0..PARTITIONS {
            let lost = (0..RECORDS_PER_PARTITION).find(|offset| !rows.contains(&format!("{partition}/{offset}")));
            if let Some(offset) = lost {
                return Err(format!("{partition}/{offset} is lost"));
            }
        }
        Ok(())
    }
}

fn columns() -> Columns {
    Columns::of(&schema(), &[]).expect("numbers are columns of a table")
}

fn schema() -> Schema {
    rows_of(0, 0..1).schema().as_ref().clone()
}

fn rows_of(partition: i32, offsets: std::ops::Range<i64>) -> RecordBatch {
    let partitions: ArrayRef = Arc::new(Int64Array::from_iter_values(offsets.clone().map(|_| i64::from(partition))));
    let offsets: ArrayRef = Arc::new(Int64Array::from_iter_values(offsets));
    RecordBatch::try_from_iter([("partition", partitions), ("offset", offsets)]).expect("two columns")
}

fn table(disk: &Rc<RefCell<Disk>>, faults: Arc<dyn Faults>) -> DeltaTable {
    DeltaTable::over(SimulatedStore::open(disk, OUTPUT), faults)
}

async fn run_process(world: World, number: u64, pod: String) -> Result<End, String> {
    let (disk, faults) = (Rc::clone(&world.disk), world.faults());
    let open = move |_: &str| {
        let output: SharedOutput = Rc::new(table(&disk, Arc::clone(&faults)));
        Ok(output)
    };
    let access = access_to(&world, "job", number, pod, format!("process {number}"), Rc::new(open));
    let mut random = Random::new(world.seed ^ number << 32);
    loop {
        match run_once_with(&access, &mut random, write).await {
            Ok(()) => return Ok(End::Finished),
            Err(LogError::Fenced { .. }) => return Ok(End::Fenced),
            Err(LogError::Store(crate::storage::StoreError::Table { message, .. })) => {
                return Err(format!("process {number}: {message}"));
            }
            Err(LogError::Reload { .. } | LogError::Store(_)) => pause().await,
            Err(error) => return Err(format!("process {number}: {error}")),
        }
    }
}

async fn write(log: &mut JobLog, attempt: Attempt, ranges: &BTreeMap<i32, Range>) -> Result<OutputCommit, LogError> {
    let output = log.output(OUTPUT)?;
    output.describe(&columns()).await?;
    let store = output.files().expect("a table");
    let mut files = Vec::new();
    for (number, (partition, range)) in ranges.iter().enumerate() {
        let (log_id, name) = (&log.state().start.log_id, format!("job-{:016x}", attempt.number));
        let path = paths::final_file(&name, log_id, attempt.version, number, paths::PARQUET);
        let mut writer = ArrowWriter::try_new(Vec::new(), Arc::new(schema()), None).expect("a writer");
        writer.write(&rows_of(*partition, range.start..range.end)).expect("memory takes everything");
        let mut file = store.stage(&path).await?;
        file.write(Bytes::from(writer.into_inner().expect("memory takes everything"))).await?;
        let facts = file.finish().await?;
        files.push(FileCommit { stage: path.clone(), path, bytes: facts.bytes, xxh3: facts.xxh3, rows: range.records });
    }
    Ok(OutputCommit { root: OUTPUT.to_owned(), files, ..OutputCommit::default() })
}

/// Another writer: makes the table with a checkpoint every third version, or puts two of its files into one.
async fn optimize(world: World, number: u64) -> Result<End, String> {
    let log = DeltaLog::new(SimulatedStore::open(&world.disk, OUTPUT));
    loop {
        match optimize_once(&log, number).await {
            Ok(()) => return Ok(End::Fenced),
            Err(DeltaError::Store(_)) => pause().await,
            Err(error) => return Err(format!("another writer: {error}")),
        }
    }
}

async fn optimize_once(log: &DeltaLog, number: u64) -> Result<(), DeltaError> {
    let mut head = log.read().await?;
    let Some(now) = &head else {
        let mut new = NewVersion::of("CREATE TABLE", json!({}));
        new.protocol(&Protocol::of_new_table(false));
        new.metadata(&Metadata {
            id: "table".to_owned(),
            schema_string: columns().schema_string(),
            configuration: BTreeMap::from([("delta.checkpointInterval".to_owned(), Some("3".to_owned()))]),
            others: BTreeMap::from([("format".to_owned(), json!({"provider": "parquet", "options": {}}))]),
            ..Metadata::default()
        });
        log.append(&mut head, new.bytes()).await?;
        return Ok(());
    };
    let active = now.active_files(OUTPUT)?;
    let [first, second, ..] = active.as_slice() else { return Ok(()) };
    let mut writer = ArrowWriter::try_new(Vec::new(), Arc::new(schema()), None).expect("a writer");
    for file in [first, second] {
        let content = log.store().get(&file.path).await?.expect("a file that a table has");
        for (partition, offset) in numbers(&content).expect("a whole file") {
            writer.write(&rows_of(partition, offset..offset + 1)).expect("memory takes everything");
        }
    }
    let content = Bytes::from(writer.into_inner().expect("memory takes everything"));
    let path = format!("part-{number}-{}.parquet", now.version);
    log.store().create(&path, content.clone()).await?;
    let mut new = NewVersion::of("OPTIMIZE", json!({})).that_rearranges();
    new.remove(first);
    new.remove(second);
    let statistics = "{\"numRecords\":1}".to_owned();
    new.add(NewFile { path, bytes: content.len() as u64, statistics, ..NewFile::default() });
    log.append(&mut head, new.bytes()).await?;
    Ok(())
}

/// Partition and offset of the rows of a file.
fn numbers(content: &Bytes) -> Result<Vec<(i32, i64)>, String> {
    let reader = SerializedFileReader::new(content.clone()).map_err(|error| error.to_string())?;
    let rows = reader.get_row_iter(None).map_err(|error| error.to_string())?;
    rows.map(|row| {
        let row = row.map_err(|error| error.to_string())?;
        let number = |column: usize| row.get_long(column).map_err(|error| error.to_string());
        Ok((i32::try_from(number(0)?).map_err(|error| error.to_string())?, number(1)?))
    })
    .collect()
}

/// What a reader finds that follows every version from the first on: rows, and the files that they are in.
fn read_table(disk: &Disk) -> Result<(BTreeSet<String>, BTreeSet<String>), String> {
    let mut active = BTreeSet::new();
    for (path, content) in disk.read_folder(&format!("{OUTPUT}/_delta_log")) {
        if !path.ends_with(".json") {
            continue;
        }
        let text = String::from_utf8_lossy(&content).into_owned();
        if !text.ends_with('\n') {
            return Err(format!("{path} is torn"));
        }
        for line in text.lines() {
            let action: Value = serde_json::from_str(line).map_err(|error| format!("{path}: {error}"))?;
            let path = |action: &Value| action["path"].as_str().map(str::to_owned);
            if let Some(removed) = path(&action["remove"]) {
                active.remove(&removed);
            }
            if let Some(added) = path(&action["add"])
                && !active.insert(added.clone())
            {
                return Err(format!("{added} is added twice"));
            }
        }
    }
    let files: BTreeMap<_, _> = disk.read_folder(OUTPUT).into_iter().collect();
    let mut rows = BTreeSet::new();
    for path in &active {
        let content = files.get(&format!("{OUTPUT}/{path}")).ok_or_else(|| format!("{path} is not there"))?;
        for (partition, offset) in numbers(&Bytes::copy_from_slice(content)).map_err(|e| format!("{path}: {e}"))? {
            if !rows.insert(format!("{partition}/{offset}")) {
                return Err(format!("{partition}/{offset} is there twice, the second time in {path}"));
            }
        }
    }
    Ok((rows, active))
}

fn some_seeds() -> std::ops::Range<u64> {
    let asked =
        ["SIMULATION_SEED", "DATA_PLATFORM_SIMULATION_SEEDS"].into_iter().any(|name| std::env::var(name).is_ok());
    if asked { seeds() } else { 0..SEEDS }
}

#[test]
fn no_schedule_loses_or_doubles_a_record_of_a_delta_table() {
    assert_no_schedule_of::<DeltaJob>(some_seeds());
}

#[test]
fn without_a_guard_some_schedule_shows_it_in_a_delta_table() {
    assert_guards_matter::<DeltaJob>(&[Guard::Fence, Guard::DurabilityOrder]);
}

/// After one process that nothing disturbed, in a table with a checkpoint every third version.
#[test]
fn a_checkpoint_says_what_the_versions_say() {
    let world = World::new(7, 0, None);
    let run = |mut process: Process| while poll(&mut process).is_none() {};
    run(Box::pin(optimize(world.clone(), 3)));
    run(Box::pin(run_process(world.clone(), 1, "pod".to_owned())));
    run(Box::pin(optimize(world.clone(), 10)));
    let names: Vec<_> = world.disk.borrow().names(&format!("{OUTPUT}/_delta_log")).cloned().collect();
    assert!(names.iter().filter(|name| name.ends_with(".checkpoint.parquet")).count() >= 2, "{names:?}");
    let log = DeltaLog::new(SimulatedStore::open(&world.disk, OUTPUT));
    let head: Head = world.undisturbed(async move { log.read().await.unwrap().unwrap() });
    let by_checkpoint: BTreeSet<_> = head.active_files(OUTPUT).unwrap().into_iter().map(|file| file.path).collect();
    let (rows, by_versions) = read_table(&world.disk.borrow()).unwrap();
    assert_eq!(by_checkpoint, by_versions);
    assert_eq!(rows.len() as i64, i64::from(PARTITIONS) * RECORDS_PER_PARTITION);
}
