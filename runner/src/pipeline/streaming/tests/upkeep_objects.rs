//! Upkeep of a Parquet table in an object store: killed at every step, with what each reader sees meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::days::{self, JOB, RECORDS, append};
use super::world::{KillAt, World};
use crate::faults::Faults;
use crate::storage::{Published, SharedStore, paths};
use crate::tables::{Place, Table};

fn job(maintenance: Option<Value>) -> String {
    days::job("parquet", maintenance)
}

fn kept_up() -> String {
    job(Some(json!({"compactAfter": "24h"})))
}

fn world() -> World {
    days::world_in_a_store("parquet")
}

fn table(world: &World) -> SharedStore {
    world.table("rows")
}

/// The objects that every reader lists.
fn listed(world: &World) -> Vec<String> {
    let listed = world.block_on(table(world).list("")).unwrap().into_iter().map(|entry| entry.path);
    listed.filter(|path| paths::is_visible(path)).collect()
}

fn staged(world: &World) -> Vec<String> {
    let listed = world.block_on(table(world).list(paths::STAGING)).unwrap();
    listed.into_iter().map(|entry| entry.path).collect()
}

fn numbers(rows: &[String]) -> Vec<i64> {
    rows.iter().map(|row| serde_json::from_str::<Value>(row).unwrap()["n"].as_i64().unwrap()).collect()
}

/// How many rows a reader sees that takes every object. All are among them.
#[track_caller]
fn seen_by_others(world: &World, records: i64, when: &str) -> usize {
    let found = numbers(&world.visible_rows("rows"));
    assert_eq!(found.iter().copied().collect::<BTreeSet<_>>(), (0..records).collect(), "{when}");
    found.len()
}

/// `query`, batch jobs and references see every row once.
#[track_caller]
fn check(world: &World, records: i64, when: &str) {
    let files = Table::new(Place::of(&world.outputs.join("rows")).unwrap()).files().unwrap();
    let names: BTreeSet<_> = files.iter().map(|file| file.at.to_string()).collect();
    let store = table(world);
    let read = listed(world).into_iter().filter(|path| names.iter().any(|name| name.ends_with(path)));
    let mut found = numbers(&world.rows_in(&store, read));
    found.sort_unstable();
    assert_eq!(found, (0..records).collect::<Vec<_>>(), "{when}");
}

#[test]
fn days_that_are_over_become_one_object_and_late_rows_join_it_later() {
    let world = world();
    assert_eq!(listed(&world).len(), 4);
    let status = world.run(&kept_up()).good();
    assert_eq!(listed(&world).len(), 2);
    assert_eq!(status.tables["rows"].small.0 + status.tables["rows"].large.0, 2, "the metric counts them");
    check(&world, RECORDS, "compacted");
    world.is_proved(JOB, None, "compacted");
    append(&world, RECORDS..RECORDS + 20);
    let status = world.run(&job(None)).good();
    assert_eq!(status.tables["rows"].small.0, 6);
    world.is_proved(JOB, None, "late rows");
    world.run(&kept_up()).good();
    assert_eq!((listed(&world).len(), staged(&world)), (2, Vec::new()));
    assert_eq!(seen_by_others(&world, RECORDS + 20, "compacted again"), 40);
    check(&world, RECORDS + 20, "compacted again");
    world.is_proved(JOB, None, "compacted again");
}

#[test]
fn a_kill_at_any_step_of_upkeep_loses_no_row_and_ours_see_each_once() {
    let (mut steps, mut doubled) = (0, 0);
    for step in 1.. {
        let world = world();
        let faults = KillAt::step(step);
        let when = format!("killed at step {step}");
        if world.run_with(&kept_up(), Arc::clone(&faults) as Arc<dyn Faults>).is_some() {
            break;
        }
        steps += 1;
        let is_doubled = seen_by_others(&world, RECORDS, &when) > 20;
        doubled += u64::from(is_doubled);
        check(&world, RECORDS, &when);
        if is_doubled || step % 10 == 0 {
            world.is_proved(JOB, None, &when);
        }
        if is_doubled {
            // Nobody wants the table to be kept up any more: what was begun is finished all the same.
            world.run(&job(None)).good();
            assert_eq!(seen_by_others(&world, RECORDS, &when), 20, "{when}, and gone on without upkeep");
        }
        // New rows for the same days come before the next one goes on.
        append(&world, RECORDS..RECORDS + 10);
        world.run(&kept_up()).good();
        assert_eq!(seen_by_others(&world, RECORDS + 10, &when), 30, "{when}, and gone on");
        assert_eq!((listed(&world).len(), staged(&world)), (2, Vec::new()), "{when}, and gone on");
        world.is_proved(JOB, None, &when);
    }
    assert!(steps > 10 && doubled > 1, "only {steps} steps, {doubled} of them between publication and removal");
}

#[test]
fn what_an_owner_before_was_about_to_publish_cannot_be_published_any_more() {
    let mut slept = 0;
    for step in 1.. {
        let world = world();
        if world.run_with(&kept_up(), KillAt::step(step)).is_some() {
            break;
        }
        let (stages, old) = (staged(&world), listed(&world));
        if stages.is_empty() || old.len() < 4 {
            continue;
        }
        append(&world, RECORDS..RECORDS + 10);
        world.run(&kept_up()).good();
        let now = listed(&world);
        // Then the one that slept goes on: it publishes what it had staged, and removes what is in it.
        for stage in stages {
            let late = format!("date=2026-01-01/{}", paths::merged_object("rows", "0", (1, 1)));
            let published = world.block_on(table(&world).publish(&stage, &late)).unwrap();
            assert_eq!(published, Published::StageMissing, "step {step}");
            slept += 1;
        }
        world.block_on(table(&world).delete_all(&old)).unwrap();
        assert_eq!(listed(&world), now, "names are never given twice");
        check(&world, RECORDS + 10, &format!("step {step}"));
    }
    assert!(slept > 0, "nobody slept");
}

#[test]
fn files_of_a_day_become_several_that_are_large_enough() {
    let world = world();
    let with_text = |job: String| {
        let job = job.replace("\"SELECT n, ", "\"SELECT n, t, ");
        job.replace("\"columns\":[", "\"columns\":[{\"name\":\"t\",\"type\":\"string\"},")
    };
    // Six files of each day with 20 KB and more that no compression takes away.
    let text = |n: i64| {
        let digest = |part: i64| twox_hash::XxHash3_64::oneshot(format!("{n} {part}").as_bytes());
        (0..500).map(|part| format!("{:016x}", digest(part))).collect::<String>()
    };
    for n in RECORDS..RECORDS + 60 {
        let at = format!("2026-01-0{}T12:00:00Z", 1 + n % 2);
        world.append("topic_orders", 0, Some(&json!({"n": n, "t": text(n), "at": at}).to_string()));
    }
    world.run(&with_text(job(None))).good();
    assert_eq!(listed(&world).len(), 16);
    world.run(&with_text(job(Some(json!({"compactAfter": "24h", "targetFileSize": "64Ki"}))))).good();
    let sizes: Vec<_> = world.block_on(table(&world).list("")).unwrap().iter().map(|entry| entry.bytes).collect();
    assert!((4..=8).contains(&sizes.len()) && sizes.iter().all(|bytes| *bytes < 128 << 10), "{sizes:?}");
    check(&world, RECORDS + 60, "in several files");
    assert_eq!(seen_by_others(&world, RECORDS + 60, "in several files"), 80);
    world.is_proved(JOB, None, "in several files");
}

#[test]
fn days_are_removed_only_where_that_is_asked_for() {
    let world = world();
    let foreign = "date=2026-01-01/part-0.csv".to_owned();
    world.block_on(table(&world).create(&foreign, "x".into())).unwrap();
    world.run(&job(Some(json!({"retain": "219h"})))).good();
    assert_eq!(listed(&world).len(), 5, "younger than that");
    world.run(&job(Some(json!({"retain": "200h"})))).good();
    world.block_on(table(&world).delete(&foreign)).unwrap();
    let left = numbers(&world.visible_rows("rows"));
    assert!(left.len() == 10 && left.iter().all(|n| n % 2 == 1), "{left:?}");
    world.is_proved(JOB, Some("2026-01-02"), "retained");
}

#[test]
fn a_rewind_does_not_take_a_merged_object_apart() {
    let world = world();
    world.run(&kept_up()).good();
    let Err(error) = world.rewind(JOB, 2) else { panic!("it was taken apart") };
    let said = format!("{error:?}");
    assert!(said.contains("were merged") && said.contains("go back to version"), "{said}");
    world.run(&kept_up()).good();
    check(&world, RECORDS, "gone on");
}
