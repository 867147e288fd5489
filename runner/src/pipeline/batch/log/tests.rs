use std::rc::Rc;
use std::sync::Arc;

use super::*;
use crate::checkpoint::record::decode;
use crate::faults::NoSync;
use crate::storage::local::LocalStore;
use crate::storage::paths;

const HOUR: i64 = 3_600_000_000;

fn start() -> Start {
    Start {
        log_id: "0f8fad5b-d9cb-469f-a165-70867728950e".to_owned(),
        namespace: "local".to_owned(),
        job: "hourly".to_owned(),
        grid: Grid::Hour,
        clock: 0,
        program: "0.1.0".to_owned(),
    }
}

fn own(place: &str) -> Own {
    Own { epoch: 0, owner: place.to_owned(), place: place.to_owned(), rank: 0, run: None, clock: 0 }
}

fn store(folder: &tempfile::TempDir) -> SharedStore {
    Rc::new(LocalStore::open(folder.path(), Arc::new(NoSync)).unwrap())
}

/// Processes the next hour; two records.
async fn hour(log: &mut BatchLog) {
    let number = log.state.finished.stretches().last().map_or(0, |last| last.end / HOUR);
    let replace = Replace {
        epoch: log.epoch(),
        interval: Interval { start: number * HOUR, end: (number + 1) * HOUR },
        due: true,
        since: None,
        backfill: None,
        reads: [].into(),
        whole: false,
        first: Written { root: "out".to_owned(), ..Written::default() },
        others: Vec::new(),
        fingerprint: "f".to_owned(),
        clock: 0,
    };
    let epoch = log.epoch();
    log.add(Record::Replace(replace), &NoSync).await.unwrap();
    log.add(Record::Replaced { epoch }, &NoSync).await.unwrap();
}

/// A log of these many hours, with a base every eight records.
async fn with_hours(store: &SharedStore, hours: usize) -> BatchLog {
    let mut log = BatchLog::begin(store.clone(), start(), &NoSync).await.unwrap().unwrap();
    assert!(log.own(own("first"), &NoSync).await.unwrap());
    for _ in 0..hours {
        hour(&mut log).await;
        log.compact(8, &NoSync).await.unwrap();
    }
    log
}

async fn versions(store: &SharedStore, folder: &str) -> Vec<u64> {
    let mut versions: Vec<_> =
        store.list(folder).await.unwrap().iter().filter_map(|entry| paths::version_of(&entry.path)).collect();
    versions.sort_unstable();
    versions
}

async fn read(store: &SharedStore) -> BatchLog {
    BatchLog::read(store.clone()).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_base_is_written_when_it_is_time_and_says_what_the_records_say() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let mut log = with_hours(&store, 3).await;
    assert!(versions(&store, BASES).await.is_empty(), "7 records are not 8");
    hour(&mut log).await;
    log.compact(8, &NoSync).await.unwrap();
    assert_eq!(versions(&store, BASES).await, [9]);
    assert_eq!(versions(&store, RECORDS).await, (0..=9).collect::<Vec<_>>(), "one base alone lets nothing go");
    let base: State = decode(9, &store.get(&base_path(9)).await.unwrap().unwrap()).unwrap();
    assert_eq!(base, log.state);
    log.compact(8, &NoSync).await.unwrap();
    assert_eq!(versions(&store, BASES).await, [9], "not twice for the same records");
}

#[tokio::test]
async fn two_bases_and_the_records_since_the_older_one_are_all_that_stays() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    for hours in 0..40 {
        let folder = tempfile::tempdir().unwrap();
        let store = self::store(&folder);
        let log = with_hours(&store, hours).await;
        assert_eq!(read(&store).await.state, log.state, "after {hours} hours");
    }
    let log = with_hours(&store, 40).await;
    let (bases, records) = (versions(&store, BASES).await, versions(&store, RECORDS).await);
    assert_eq!(bases.len(), 2, "{bases:?}");
    assert_eq!((records.first(), records.last()), (Some(&(bases[0] + 1)), Some(&log.state.version)));
    assert_eq!(log.state.finished.until(0), Some(40 * HOUR));
}

#[tokio::test]
async fn a_damaged_base_is_gone_around_and_a_damaged_record_is_a_clear_stop() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let log = with_hours(&store, 40).await;
    let bases = versions(&store, BASES).await;
    std::fs::write(folder.path().join(base_path(bases[1])), "{}").unwrap();
    let mut again = read(&store).await;
    assert_eq!(again.state, log.state);
    // The next base is there before anything goes.
    assert!(again.own(own("second"), &NoSync).await.unwrap());
    for _ in 0..8 {
        hour(&mut again).await;
        again.compact(8, &NoSync).await.unwrap();
    }
    assert_eq!(read(&store).await.state, again.state);
    // Below the newest base nobody reads a record, above it every run does.
    let kept = versions(&store, BASES).await[0];
    std::fs::write(folder.path().join(record_path(kept)), "{}").unwrap();
    assert_eq!(read(&store).await.state, again.state);
    hour(&mut again).await;
    let newest = record_path(again.state.version);
    std::fs::write(folder.path().join(&newest), "{}").unwrap();
    let error = BatchLog::read(store.clone()).await.err().unwrap();
    assert_eq!(error.reason, Reason::CheckpointCorrupt);
    assert!(error.message.contains(&newest), "{error}");
}

#[tokio::test]
async fn a_run_that_slept_until_its_slot_was_removed_decides_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let mut sleeper = with_hours(&store, 1).await;
    let mut other = read(&store).await;
    assert!(other.own(own("other"), &NoSync).await.unwrap());
    for _ in 0..40 {
        hour(&mut other).await;
        other.compact(8, &NoSync).await.unwrap();
    }
    let slot = sleeper.state.version + 1;
    assert!(store.get(&record_path(slot)).await.unwrap().is_none(), "the slot is free again");
    let epoch = sleeper.epoch();
    let error = sleeper.add(Record::Release { epoch }, &NoSync).await.unwrap_err();
    assert_eq!((error.reason, error.message.contains("other")), (Reason::Fenced, true), "{error}");
    assert!(store.get(&record_path(slot)).await.unwrap().is_none(), "and it withdrew what it wrote there");
    assert_eq!(read(&store).await.state, other.state);
}

#[test]
fn only_runs_that_were_due_say_what_is_complete_before_them() {
    let mut state = State::begin(start());
    let mut version = 0;
    let mut process = |state: &mut State, number: i64, due: bool, since: Option<i64>| {
        let replace = Replace {
            epoch: 1,
            interval: Interval { start: number * HOUR, end: (number + 1) * HOUR },
            due,
            since: since.map(|number| number * HOUR),
            backfill: None,
            reads: [].into(),
            whole: false,
            first: Written { root: "out".to_owned(), ..Written::default() },
            others: Vec::new(),
            fingerprint: "f".to_owned(),
            clock: 0,
        };
        version += 2;
        state.apply(version - 1, &Record::Replace(replace));
        state.apply(version, &Record::Replaced { epoch: 1 });
    };
    process(&mut state, 20, false, None);
    assert_eq!((state.complete_until(), state.finished_times()), (None, vec![(20 * HOUR, 21 * HOUR)]));
    process(&mut state, 22, true, Some(22));
    assert_eq!(state.complete_until(), Some(23 * HOUR));
    process(&mut state, 21, false, None);
    assert_eq!(state.complete_until(), Some(23 * HOUR));
    assert_eq!(state.finished_times(), [(20 * HOUR, 23 * HOUR)]);
    // The very first run was that of hour 18, and it failed.
    process(&mut state, 23, true, Some(18));
    assert_eq!(state.complete_until(), None);
    for number in [18, 19] {
        process(&mut state, number, true, Some(18));
    }
    assert_eq!(state.complete_until(), Some(24 * HOUR));
}

#[test]
fn a_whole_table_is_what_was_replaced_last_and_nothing_else() {
    let mut state = State::begin(start());
    let mut version = 0;
    let mut process = |state: &mut State, (from, to): (i64, i64), due: bool| {
        let replace = Replace {
            epoch: 1,
            interval: Interval { start: from * HOUR, end: to * HOUR },
            due,
            since: None,
            backfill: None,
            reads: [].into(),
            whole: true,
            first: Written { root: "out".to_owned(), ..Written::default() },
            others: Vec::new(),
            fingerprint: "f".to_owned(),
            clock: 0,
        };
        version += 2;
        state.apply(version - 1, &Record::Replace(replace));
        state.apply(version, &Record::Replaced { epoch: 1 });
    };
    process(&mut state, (0, 72), true);
    process(&mut state, (24, 96), true);
    assert_eq!((state.complete_until(), state.finished_times()), (Some(96 * HOUR), vec![(24 * HOUR, 96 * HOUR)]));
    // After an outage that is longer than what is looked back at.
    process(&mut state, (240, 312), true);
    assert_eq!((state.complete_until(), state.finished_times()), (Some(312 * HOUR), vec![(240 * HOUR, 312 * HOUR)]));
    process(&mut state, (0, 24), false);
    assert_eq!((state.complete_until(), state.finished_times()), (None, vec![(0, 24 * HOUR)]));
}

#[test]
fn who_did_a_part_of_a_backfill_is_known_until_it_begins_anew() {
    let mut state = State::begin(start());
    let mut version = 0;
    let mut process = |state: &mut State, number: i64, run: &str, fingerprint: &str| {
        let backfill = Backfill {
            id: "b".to_owned(),
            from: 0,
            to: 3 * HOUR,
            run: Some(run.to_owned()).filter(|run| run != "old"),
        };
        let replace = Replace {
            epoch: 1,
            interval: Interval { start: number * HOUR, end: (number + 1) * HOUR },
            due: false,
            since: None,
            backfill: Some(backfill),
            reads: [].into(),
            whole: false,
            first: Written { root: "out".to_owned(), ..Written::default() },
            others: Vec::new(),
            fingerprint: fingerprint.to_owned(),
            clock: 0,
        };
        version += 2;
        state.apply(version - 1, &Record::Replace(replace));
        state.apply(version, &Record::Replaced { epoch: 1 });
        let filled = state.backfills.get("b").unwrap();
        let of = ["a", "b", "c"].into_iter().filter(|run| filled.is_also_of(run)).collect::<String>();
        (filled.done / HOUR, of)
    };
    let mut expect = |number, run, fingerprint, expected: (i64, &str)| {
        assert_eq!(
            process(&mut state, number, run, fingerprint),
            (expected.0, expected.1.to_owned()),
            "{number} by {run}"
        );
    };
    // Two in turns, and one that forgot to say who it is.
    expect(0, "a", "f", (1, "a"));
    expect(1, "b", "f", (2, "ab"));
    expect(2, "a", "f", (3, "ab"));
    // From the beginning.
    expect(0, "c", "f", (1, "c"));
    expect(1, "old", "f", (2, "c"));
    expect(2, "a", "f", (3, "ac"));
    // Another query has nothing to do with what was before.
    expect(0, "b", "g", (1, "b"));
    expect(1, "b", "h", (2, "b"));
    // However many come and go, a bounded number is known.
    for number in 0..100 {
        process(&mut state, number, &number.to_string(), "f");
    }
    let filled = state.backfills.get("b").unwrap();
    assert_eq!((filled.before.len(), filled.is_also_of("98"), filled.is_also_of("80")), (RUNS_MAX, true, false));
}
