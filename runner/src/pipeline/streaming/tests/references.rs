//! References of whole jobs: loaded, changed, broken, and used again in a rebuild as they were.

use std::path::Path;

use super::world::World;
use crate::checkpoint::record::{Commit, Record, decode};
use crate::pipeline::error::{Reason, Retry};
use crate::pipeline::status::JobStatus;

const NEW_YEAR: i64 = 1_767_225_600;

/// Windows of ten minutes by country, and rows as they come.
fn job() -> String {
    r#"
apiVersion: dataplatform.io/v1alpha1
kind: StreamingJob
metadata: {name: visits}
spec:
  kafka: {maxOffsetsPerTrigger: 20}
  sources:
    - name: visits
      topics: [visits]
      columns:
        - {name: id, type: bigint, required: true}
        - {name: user, type: string, required: true}
        - {name: at, type: timestamp, required: true}
      eventTime: {column: at, watermarkDelay: 10s}
  references:
    - name: users
      format: csv
      path: users.csv
      reloadInterval: 10s
      columns: [{name: user, type: string}, {name: country, type: string}, {name: level, type: int}]
  trigger: {interval: 0s}
  outputs:
    - name: by_country
      query: |
        SELECT window_start, country, count(*) AS n FROM (
          SELECT v.at, u.country FROM visits AS v LEFT JOIN users AS u ON v.user = u.user
        ) AS known GROUP BY tumble(at, INTERVAL '10 minutes'), country
      sink: {path: by_country}
    - name: rows
      query: SELECT id, country, level FROM visits AS v LEFT JOIN users AS u ON v.user = u.user
      sink: {path: rows}
"#
    .to_owned()
}

fn world() -> World {
    let world = World::new();
    world.cluster.create("visits", 1);
    std::fs::create_dir_all(world.path("outputs")).unwrap();
    world
}

/// A file is there as a whole or not at all.
fn write(world: &World, text: &str) {
    let file = world.path("outputs/users.csv");
    std::fs::write(file.with_extension("new"), text).unwrap();
    std::fs::rename(file.with_extension("new"), file).unwrap();
}

fn append(world: &World, ids: std::ops::Range<i64>, user: &str) {
    for id in ids.clone() {
        let at = chrono::DateTime::from_timestamp(NEW_YEAR + id, 0).unwrap().to_rfc3339();
        let value = serde_json::json!({"id": id, "user": user, "at": at}).to_string();
        world.append("visits", 0, Some(&value));
    }
    world.turn_clock(NEW_YEAR + ids.end);
}

fn row(id: i64, country: &str, level: i64) -> String {
    format!(r#"{{"id":{id},"country":"{country}","level":{level}}}"#)
}

fn commits(world: &World) -> Vec<Commit> {
    let mut commits = Vec::new();
    let mut paths: Vec<_> = std::fs::read_dir(world.path("checkpoints/local/visits/log"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    for path in paths {
        let version = path.file_stem().unwrap().to_string_lossy().parse().unwrap();
        if let Record::Commit(commit) = decode(version, &std::fs::read(&path).unwrap()).unwrap() {
            commits.push(*commit);
        }
    }
    commits
}

fn kept(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

fn trouble(status: &JobStatus) -> (&str, &str) {
    let trouble = status.references["users"].trouble.as_ref().expect("the reference is in trouble");
    (&trouble.reason, &trouble.message)
}

#[test]
fn a_rebuild_uses_the_version_that_each_batch_used() {
    let world = world();
    write(&world, "user,country,level\nann,DE,1\n");
    append(&world, 0..30, "ann");
    let status = world.run(&job()).good();
    assert_eq!((status.references["users"].rows, &status.references["users"].trouble), (1, &None));
    write(&world, "user,country,level\nann,FR,2\nbob,IT,3\n");
    append(&world, 30..50, "ann");
    append(&world, 50..60, "bob");
    world.run(&job()).good();
    let versions: Vec<_> = commits(&world).iter().map(|commit| commit.references[0].hash.clone()).collect();
    assert!(
        versions.first() != versions.last() && versions.is_sorted_by_key(|version| version == versions.last().unwrap())
    );
    // Neither the state nor the old files are there any more.
    std::fs::remove_dir_all(world.path("checkpoints/local/visits/state")).unwrap();
    append(&world, 60..61, "bob");
    world.drain(&job()).good();
    let window =
        |country: &str, n: i64| format!(r#"{{"window_start":"2026-01-01T00:00:00Z","country":"{country}","n":{n}}}"#);
    assert_eq!(world.rows("by_country"), [window("DE", 30), window("FR", 20), window("IT", 11)]);
    let rows = (0..30).map(|id| row(id, "DE", 1)).chain((30..50).map(|id| row(id, "FR", 2)));
    let mut rows: Vec<_> = rows.chain((50..61).map(|id| row(id, "IT", 3))).collect();
    rows.sort();
    assert_eq!(world.rows("rows"), rows);
}

#[test]
fn a_reference_that_no_window_depends_on_may_be_another_when_windows_are_rebuilt() {
    let world = world();
    let from = "SELECT window_start, country, count(*) AS n FROM (\n          SELECT v.at, u.country FROM visits AS v LEFT JOIN \
                users AS u ON v.user = u.user\n        ) AS known GROUP BY tumble(at, INTERVAL '10 minutes'), country";
    let to = "SELECT window_start, count(*) AS n FROM visits GROUP BY tumble(at, INTERVAL '10 minutes')";
    let job = job().replace(from, to);
    assert!(job.contains(to));
    write(&world, "user,country,level\nann,DE,1\n");
    append(&world, 0..30, "ann");
    world.run(&job).good();
    assert_eq!(kept(&world.path("checkpoints/local/visits/reference")), 0);
    std::fs::remove_dir_all(world.path("checkpoints/local/visits/state")).unwrap();
    write(&world, "user,country,level\nann,FR,2\n");
    append(&world, 30..31, "ann");
    world.drain(&job).good();
    assert_eq!(world.rows("by_country"), [r#"{"window_start":"2026-01-01T00:00:00Z","n":31}"#]);
    let mut rows: Vec<_> = (0..30).map(|id| row(id, "DE", 1)).chain([row(30, "FR", 2)]).collect();
    rows.sort();
    assert_eq!(world.rows("rows"), rows);
}

#[test]
fn a_version_that_a_rebuild_needs_and_nobody_has_stops_the_job() {
    let world = world();
    write(&world, "user,country,level\nann,DE,1\n");
    append(&world, 0..30, "ann");
    world.run(&job()).good();
    let checkpoint = world.path("checkpoints/local/visits");
    std::fs::remove_dir_all(checkpoint.join("state")).unwrap();
    std::fs::remove_dir_all(checkpoint.join("reference")).unwrap();
    append(&world, 30..31, "ann");
    world.run(&job()).good();
    std::fs::remove_dir_all(checkpoint.join("state")).unwrap();
    std::fs::remove_dir_all(checkpoint.join("reference")).unwrap();
    write(&world, "user,country,level\nann,FR,2\n");
    let error = world.run(&job()).error();
    assert_eq!((error.reason, error.retry), (Reason::StateLost, Retry::AfterChange));
    assert!(error.message.contains("of the reference users, which cannot be had again"), "{error}");
}

#[test]
fn versions_that_nothing_needs_are_removed() {
    let mut world = world();
    world.records_per_base = 3;
    for version in 0..12 {
        write(&world, &format!("user,country,level\nann,DE,{version}\n"));
        // Each time an hour later: the windows before are closed.
        append(&world, version * 3_600..version * 3_600 + 5, "ann");
        world.run(&job()).good();
    }
    let kept = kept(&world.path("checkpoints/local/visits/reference"));
    assert!((1..8).contains(&kept), "{kept} versions are kept");
    assert_eq!(world.rows("rows").len(), 60);
}

#[test]
fn a_reference_that_breaks_while_the_job_runs_keeps_its_last_version() {
    let world = world();
    write(&world, "user,country,level\nann,DE,1\n");
    let broken = |text: Option<&'static str>| {
        let (file, clock) = (world.path("outputs/users.csv"), std::sync::Arc::clone(&world.clock));
        move || {
            match text {
                Some(text) => std::fs::write(&file, text).unwrap(),
                None => std::fs::remove_file(&file).unwrap(),
            }
            clock.advance(std::time::Duration::from_secs(11));
        }
    };
    let cases = [
        (None, "ReferenceMissing", "has no CSV files"),
        (Some("user,country\nann,IT\n"), "ReferenceUnusable", "the column level is missing"),
        (Some("user,country,level\nann,IT,many\n"), "ReferenceUnusable", "the column level"),
        (Some(""), "ReferenceUnusable", "users"),
    ];
    for (number, (text, reason, says)) in (0..).zip(cases) {
        append(&world, number * 60..number * 60 + 60, "ann");
        write(&world, "user,country,level\nann,DE,1\n");
        let status = world.run_while(&job(), broken(text)).good();
        let (found, message) = trouble(&status);
        assert_eq!(found, reason, "{message}");
        assert!(message.contains(says), "{message}");
        assert_eq!(status.reason, "Ended");
    }
    let countries: std::collections::BTreeSet<_> =
        world.rows("rows").iter().map(|row| row.contains(r#""country":"DE""#)).collect();
    assert_eq!(countries.into_iter().collect::<Vec<_>>(), [true], "the last good version was used throughout");
}

#[test]
fn a_reference_that_cannot_be_used_at_start_stops_the_job_with_one_message() {
    let world = world();
    append(&world, 0..5, "ann");
    let error = world.run(&job()).error();
    assert_eq!((error.reason, error.retry), (Reason::ReferenceMissing, Retry::AfterChange));
    assert!(
        error.message.contains("the reference users is not there") && error.message.contains("users.csv"),
        "{error}"
    );
    write(&world, "user,country,level\nann,DE,many\n");
    let error = world.run(&job()).error();
    assert_eq!((error.reason, error.retry), (Reason::ReferenceUnusable, Retry::AfterChange));
    assert!(error.message.contains("the column level"), "{error}");
    // The World gives the job 1 GiB, an eighth of which is for references.
    let line = format!("ann,{},1\n", "x".repeat(1_000_000));
    write(&world, &format!("user,country,level\n{}", line.repeat(130)));
    let error = world.run(&job()).error();
    assert_eq!((error.reason, error.retry), (Reason::ReferenceTooLarge, Retry::AfterChange));
    assert!(error.message.contains("are left for it"), "{error}");
    write(&world, "user,country,level\nann,DE,1\n");
    world.run(&job()).good();
    assert_eq!(world.rows("rows").len(), 5, "nothing was lost");
}
