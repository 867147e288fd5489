//! Upkeep of a Delta table by its job: killed at every step, watched by a reader, with another writer in between, proved, and
//! not taken apart by a rewind.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::days::{self, BEGIN, DAY, JOB, RECORDS, append};
use super::world::{KillAt, World, delta_rows};
use crate::delta::action::{NewFile, NewVersion};
use crate::delta::replay::ActiveFile;
use crate::delta::tests::active_files;
use crate::delta::{DeltaLog, Head};
use crate::faults::{Faults, Guard, Moment, NoSync, Step};
use crate::storage::SharedStore;
use crate::storage::local::LocalStore;

fn job(maintenance: Option<Value>) -> String {
    days::job("delta", maintenance)
}

fn kept_up() -> String {
    job(Some(json!({"compactAfter": "24h"})))
}

fn world() -> World {
    days::world("delta")
}

fn folder(world: &World) -> PathBuf {
    world.path("outputs/rows")
}

fn numbers(folder: &Path) -> Vec<i64> {
    let rows = delta_rows(folder);
    rows.iter().map(|row| serde_json::from_str::<Value>(row).unwrap()["n"].as_i64().unwrap()).collect()
}

fn active(world: &World) -> Vec<ActiveFile> {
    active_files(&folder(world))
}

/// Data files in the folder, whether the table has them or not.
fn files_there(world: &World) -> usize {
    let days = std::fs::read_dir(folder(world)).unwrap().map(|day| day.unwrap().path());
    let days = days.filter(|day| day.file_name().unwrap().to_string_lossy().starts_with("date="));
    days.map(|day| std::fs::read_dir(day).unwrap().count()).sum()
}

/// Every row is there once.
#[track_caller]
fn check(world: &World, expected: impl IntoIterator<Item = i64>, when: &str) {
    let found = numbers(&folder(world));
    let once: BTreeSet<_> = found.iter().copied().collect();
    assert_eq!(once, expected.into_iter().collect(), "{when}");
    assert_eq!(found.len(), once.len(), "{when}: rows are there twice");
}

/// The lines of the newest version.
fn newest_version(world: &World) -> Vec<Value> {
    let log = folder(world).join("_delta_log");
    let mut names: Vec<_> = std::fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|ending| ending == "json"));
    names.sort();
    let text = std::fs::read_to_string(names.last().unwrap()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn table_log(folder: &Path) -> DeltaLog {
    let store: SharedStore = Rc::new(LocalStore::open_table(folder, Arc::new(NoSync)).unwrap());
    DeltaLog::new(store)
}

#[test]
fn days_that_are_over_become_one_file_and_late_rows_join_it_later() {
    let world = world();
    assert_eq!(active(&world).len(), 4);
    world.run(&kept_up()).good();
    let merged = active(&world);
    assert_eq!(merged.iter().map(|file| file.rows).collect::<Vec<_>>(), [Some(10), Some(10)]);
    let statistics: Value = serde_json::from_str(merged[0].statistics.as_ref().unwrap()).unwrap();
    assert_eq!((&statistics["minValues"]["n"], &statistics["maxValues"]["n"]), (&json!(0), &json!(18)));
    check(&world, 0..RECORDS, "compacted");
    let lines = newest_version(&world);
    let changes: Vec<_> =
        lines.iter().flat_map(|line| [&line["add"], &line["remove"]]).filter(|action| action.is_object()).collect();
    assert_eq!((changes.len(), lines[0]["commitInfo"]["operation"].as_str()), (3, Some("OPTIMIZE")));
    assert!(changes.iter().all(|action| action["dataChange"] == false), "{changes:?}");
    world.is_proved(JOB, None, "compacted");
    // Rows that come late are a small file, until it is merged as well.
    append(&world, RECORDS..RECORDS + 20);
    world.run(&job(None)).good();
    assert_eq!(active(&world).len(), 6);
    world.is_proved(JOB, None, "late rows");
    world.run(&kept_up()).good();
    assert_eq!(active(&world).len(), 2);
    check(&world, 0..RECORDS + 20, "compacted again");
    world.is_proved(JOB, None, "compacted again");
}

#[test]
fn a_kill_at_any_step_of_upkeep_changes_no_row() {
    let (mut steps, mut exchanged) = (0, 0);
    // Each third one, unless all are asked for: the exchange itself is one of those at which the real program is killed.
    let each = if std::env::var_os("DATA_PLATFORM_TEST_SOAK").is_some() { 1 } else { 3 };
    for step in (1..).step_by(each) {
        let world = world();
        let faults = KillAt::step(step);
        let is_over = world.run_with(&kept_up(), Arc::clone(&faults) as Arc<dyn Faults>).is_some();
        if is_over {
            break;
        }
        steps += 1;
        exchanged += u64::from(faults.has_exchanged());
        check(&world, 0..RECORDS, &format!("killed at step {step}"));
        // New rows for the same days come before the next one goes on.
        append(&world, RECORDS..RECORDS + 10);
        world.run(&kept_up()).good();
        check(&world, 0..RECORDS + 10, &format!("killed at step {step}, and gone on"));
        assert_eq!(active(&world).len(), 2, "killed at step {step}");
        if steps % 10 == 0 {
            world.is_proved(JOB, None, &format!("killed at step {step}"));
        }
    }
    assert!(steps > 10 && exchanged > 1, "only {steps} steps, {exchanged} of them behind an exchange");
}

#[test]
fn a_reader_always_sees_every_row_once() {
    let world = world();
    let table = folder(&world);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0;
            while !over.load(Ordering::Relaxed) || reads == 0 {
                let found = numbers(&table);
                let once: BTreeSet<_> = found.iter().copied().collect();
                assert_eq!((found.len() as i64, once.len() as i64), (RECORDS, RECORDS));
                reads += 1;
            }
            reads
        });
        world.run(&kept_up()).good();
        over.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0);
    });
    assert_eq!(active(&world).len(), 2);
}

/// What another writer puts into a version.
type Others = Box<dyn FnOnce(&Head, &mut NewVersion) + Send>;

/// Another writer commits when the job is about to exchange files for the first time.
struct Before {
    table: PathBuf,
    others: Mutex<Option<Others>>,
}

impl Faults for Before {
    fn reached(&self, step: Step, moment: Moment) {
        if (step, moment) != (Step::Exchange, Moment::Before) {
            return;
        }
        let Some(make) = self.others.lock().unwrap().take() else { return };
        let log = table_log(&self.table);
        futures::executor::block_on(async {
            let mut head = log.read().await.unwrap();
            let mut new = NewVersion::of("WRITE", json!({}));
            make(head.as_ref().unwrap(), &mut new);
            log.append(&mut head, new.bytes()).await.unwrap();
        });
    }

    fn guard(&self, guard: Guard) -> bool {
        NoSync.guard(guard)
    }

    fn disk_delay(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }
}

fn run_while(world: &World, others: impl FnOnce(&Head, &mut NewVersion) + Send + 'static) {
    let faults = Before { table: folder(world), others: Mutex::new(Some(Box::new(others))) };
    world.run_with(&kept_up(), Arc::new(faults)).unwrap().good();
}

#[test]
fn what_others_write_while_files_are_merged_stays_and_is_never_written_over() {
    // An append: the version is made again behind it.
    let world = world();
    let place = folder(&world);
    run_while(&world, move |head, new| {
        let file = &head.active_files("t").unwrap()[0];
        let path = "date=2026-01-01/theirs.parquet".to_owned();
        std::fs::copy(place.join(&file.path), place.join(&path)).unwrap();
        let partition_values = file.partition_values.clone();
        new.add(NewFile { path, bytes: file.bytes, partition_values, statistics: "{\"numRecords\":5}".to_owned() });
    });
    let left = active(&world);
    assert_eq!(left.len(), 3, "{left:?}");
    assert_eq!(numbers(&folder(&world)).len() as i64, RECORDS + 5);
    // A delete: what is gone does not come back, and is not taken for merged.
    let world = self::world();
    run_while(&world, |head, new| new.remove(&head.active_files("t").unwrap()[0]));
    assert_eq!(active(&world).len(), 2, "one is left of one day, and the other is merged");
    let left = numbers(&folder(&world));
    assert_eq!((left.len() as i64, left.iter().collect::<BTreeSet<_>>().len()), (RECORDS - 5, left.len()));
    world.is_proved(JOB, None, "others have deleted a file");
    assert_eq!(files_there(&world), 5, "what was written in vain is removed");
    // Others put the files together.
    let world = self::world();
    let place = folder(&world);
    run_while(&world, move |head, new| {
        *new = NewVersion::of("OPTIMIZE", json!({})).that_rearranges();
        for (number, file) in head.active_files("t").unwrap().iter().enumerate() {
            let (directory, _) = file.path.split_once('/').unwrap();
            let path = format!("{directory}/part-{number}.parquet");
            std::fs::copy(place.join(&file.path), place.join(&path)).unwrap();
            new.remove(file);
            let partition_values = file.partition_values.clone();
            new.add(NewFile { path, bytes: file.bytes, partition_values, statistics: "{\"numRecords\":5}".to_owned() });
        }
    });
    check(&world, 0..RECORDS, "others have put the files together");
    world.is_proved(JOB, None, "others have put the files together");
}

#[test]
fn a_file_that_is_gone_is_left_out_and_the_rest_goes_on() {
    let world = world();
    let gone = &active(&world)[0];
    std::fs::remove_file(folder(&world).join(&gone.path)).unwrap();
    world.run(&kept_up()).good();
    let left = active(&world);
    assert_eq!(left.len(), 3, "of one day the other file and the one that is gone, of the other day one: {left:?}");
    assert!(left.iter().any(|file| file.path == gone.path), "the table still says that it has it");
}

#[test]
fn days_are_removed_only_where_that_is_asked_for_and_in_one_version() {
    let world = world();
    world.run(&job(Some(json!({"retain": "219h"})))).good();
    // 2026-01-01 was over for 216 hours, 2026-01-02 for 192.
    check(&world, 0..RECORDS, "younger than that");
    let before = world.block_on(table_log(&folder(&world)).read()).unwrap().unwrap().version;
    world.run(&job(Some(json!({"retain": "190h"})))).good();
    check(&world, [], "both days");
    let after = world.block_on(table_log(&folder(&world)).read()).unwrap().unwrap().version;
    assert_eq!(after, before + 1);
    world.is_proved(JOB, None, "removed");
    assert_eq!(files_there(&world), 4, "as long as somebody may want them");
}

#[test]
fn files_are_deleted_when_the_table_does_not_want_to_keep_them_any_more() {
    let world = world();
    world.run(&kept_up()).good();
    assert_eq!(files_there(&world), 6);
    world.turn_clock(BEGIN + 16 * DAY);
    world.run(&kept_up()).good();
    assert_eq!(files_there(&world), 6, "after six days");
    world.turn_clock(BEGIN + 18 * DAY);
    world.run(&kept_up()).good();
    assert_eq!(files_there(&world), 2, "after eight days");
    check(&world, 0..RECORDS, "cleared");
    world.is_proved(JOB, None, "cleared");
}

#[test]
fn a_rewind_does_not_take_a_merged_file_apart_but_takes_it_as_a_whole() {
    let world = world();
    world.run(&kept_up()).good();
    let Err(error) = world.rewind(JOB, 2) else { panic!("it was taken apart") };
    let said = format!("{error:?}");
    assert!(said.contains("were merged") && said.contains("go back to version"), "{said}");
    check(&world, 0..RECORDS, "refused");
    world.rewind(JOB, 1).unwrap_or_else(|error| panic!("{error:?}"));
    check(&world, [], "gone back");
    world.run(&kept_up()).good();
    check(&world, 0..RECORDS, "read again");
    world.is_proved(JOB, None, "read again");
}
