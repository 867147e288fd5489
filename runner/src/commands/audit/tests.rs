use super::*;
use crate::args::RewindArgs;
use crate::checkpoint::job_state::JobState;
use crate::checkpoint::record::{Commit, Record, encode};
use crate::commands::checkpoint::fixture::{Fixture, JOB, LETTERS, STEP, TABLE};
use crate::storage::paths;

async fn audited(fixture: &Fixture) -> Audit {
    run(&Survey::read(&fixture.store()).await.unwrap(), None, Retention::default()).await.unwrap()
}

async fn problems(fixture: &Fixture) -> String {
    audited(fixture).await.problems.join("\n")
}

/// The last commit of a log, changed and sealed again.
async fn forge(fixture: &Fixture, change: impl FnOnce(&mut Commit)) -> u64 {
    let survey = Survey::read(&fixture.store()).await.unwrap();
    let (version, record) = survey.readable().filter(|(_, record)| matches!(record, Record::Commit(_))).last().unwrap();
    let Record::Commit(mut commit) = record.clone() else { unreachable!() };
    change(&mut commit);
    std::fs::write(fixture.log_path(&paths::log_record(version)), encode(version, &Record::Commit(commit))).unwrap();
    version
}

#[tokio::test]
async fn a_job_is_proved_from_its_records_and_where_they_are_gone_from_the_footers() {
    for commits in [0, 1, 4, 8, 60] {
        let fixture = Fixture::with_commits(commits).await;
        let audit = audited(&fixture).await;
        assert_eq!(audit.problems, Vec::<String>::new(), "{commits} commits");
        let log = audit.log.as_ref().unwrap();
        assert_eq!(log.begin.version > 0, commits == 60, "garbage was collected");
        let covered = log.covered.values().next().unwrap();
        assert_eq!((covered.first, covered.next), (100, 100 + commits * STEP));
        let rows: u64 = (0..commits).map(|number| if number % 4 == 3 { 0 } else { 6 }).sum();
        assert_eq!(audit.tables[TABLE].rows, rows);
        let location = crate::storage::location::Location::parse("/x").unwrap();
        let text = audit.text(&JobPlace::open("local/clicks".to_owned(), location).unwrap());
        assert!(text.contains("PROVED: ") && !text.contains("NOT PROVED"), "{text}");
    }
}

#[tokio::test]
async fn what_is_decided_and_staged_belongs_to_the_proof() {
    let fixture = Fixture::with_commits(2).await;
    let mut log = fixture.start(2).await;
    fixture.commit(&mut log).await;
    let audit = audited(&fixture).await;
    assert_eq!((audit.problems.join("; ").as_str(), audit.tables[TABLE].staged), ("", 2));
}

#[tokio::test]
async fn a_file_that_is_missing_changed_or_replaced_is_named() {
    let fixture = Fixture::with_commits(6).await;
    let files = fixture.published(TABLE);
    std::fs::remove_file(&files[0]).unwrap();
    Fixture::damage(&files[3]);
    let found = problems(&fixture).await;
    assert!(found.contains("it is missing (version "), "{found}");
    assert!(found.contains("its content is not what was written"), "{found}");
    assert!(found.contains("output clicks_by_day: its files have"), "{found}");
}

#[tokio::test]
async fn an_older_file_that_is_gone_leaves_a_gap_that_is_named_by_its_offsets() {
    let fixture = Fixture::with_commits(60).await;
    // Two directories, so two files of the second commit: offsets [110, 120).
    for file in &fixture.published(TABLE)[2..4] {
        std::fs::remove_file(file).unwrap();
    }
    let found = problems(&fixture).await;
    assert!(found.contains("topic_clicks partition 0: offsets [110, 120) are not covered"), "{found}");
    assert!(found.contains("rows"), "{found}");
}

#[tokio::test]
async fn files_that_readers_see_and_the_log_does_not_know_are_foreign() {
    let fixture = Fixture::with_commits(60).await;
    let files = fixture.published(TABLE);
    let folder = files[0].parent().unwrap();
    std::fs::copy(&files[0], folder.join("copy.parquet")).unwrap();
    std::fs::write(folder.join("text.parquet"), "no Parquet").unwrap();
    std::fs::create_dir(folder.join("_hidden")).unwrap();
    std::fs::copy(&files[0], folder.join("_hidden/copy.parquet")).unwrap();
    let other = Fixture::with_commits(1).await;
    let from_other = other.published(TABLE)[0].clone();
    std::fs::copy(from_other, folder.join("clicks-0f8fad5b-999-0.parquet")).unwrap();
    let audit = audited(&fixture).await;
    let found = audit.problems.join("\n");
    assert_eq!(audit.tables[TABLE].foreign, 3, "{found}");
    assert!(found.contains("copy.parquet: the log has no such file"), "{found}");
    assert!(found.contains("text.parquet: it is not a file of this log, and no whole Parquet file"), "{found}");
    assert!(found.contains("clicks-0f8fad5b-999-0.parquet: the log has no such file (version 2)"), "{found}");
}

#[tokio::test]
async fn a_gap_an_overlap_and_a_wrong_sum_in_the_log_are_named() {
    let gap = Fixture::with_commits(5).await;
    forge(&gap, |commit| commit.partitions.get_mut("topic_clicks", 0).unwrap().start += 2).await;
    let found = problems(&gap).await;
    assert!(found.contains("it covers [142, 150) of topic_clicks partition 0, which stands at 140"), "{found}");

    let sums = Fixture::with_commits(5).await;
    let version = forge(&sums, |commit| commit.counters.sources.get_mut("clicks").unwrap().tombstone = 0).await;
    let found = problems(&sums).await;
    assert!(
        found.contains(&format!("version {version}: output clicks_by_day: 9 records reached it, 8 are accounted")),
        "{found}"
    );
    assert!(found.contains("its totals are not"), "{found}");

    let rows = Fixture::with_commits(5).await;
    forge(&rows, |commit| commit.outputs.get_mut(TABLE).unwrap().files[0].rows += 1).await;
    let found = problems(&rows).await;
    assert!(found.contains("7 rows were written, 6 are counted"), "{found}");
    assert!(found.contains("it has 3 rows, the log says 4"), "{found}");
}

#[tokio::test]
async fn dead_letters_are_as_many_as_were_counted() {
    let fixture = Fixture::with_commits(60).await;
    std::fs::remove_file(&fixture.published(LETTERS)[0]).unwrap();
    let found = problems(&fixture).await;
    assert!(found.contains("output clicks_by_day_dead_letters: its files have 44 rows, 45 were counted"), "{found}");
}

#[test]
fn after_a_rewind_the_proof_goes_on_and_a_file_that_came_back_is_found() {
    let fixture = block_on(Fixture::with_commits(60)).unwrap();
    let survey = block_on(Survey::read(&fixture.store())).unwrap().unwrap();
    let args = RewindArgs {
        job: JOB.to_owned(),
        to: Some(survey.last_version() - 4),
        topic_recreated: Vec::new(),
        accept_loss: false,
        yes: true,
        files: Vec::new(),
        bootstrap_servers: None,
        place: fixture.place(),
    };
    let vanished = fixture.published(TABLE).last().unwrap().clone();
    let kept = std::fs::read(&vanished).unwrap();
    let command = crate::args::CheckpointCommand::Rewind(args);
    assert_eq!(crate::commands::checkpoint::checkpoint(&command).unwrap(), 0);
    assert!(!vanished.exists());
    assert_eq!(block_on(problems(&fixture)).unwrap(), "");
    block_on(fixture.run(3, 90, 10)).unwrap();
    let log = block_on(audited(&fixture)).unwrap();
    assert_eq!(log.problems, Vec::<String>::new());
    let end: &JobState = &log.log.as_ref().unwrap().end;
    assert_eq!(end.rewinds.len(), 1);
    assert!(end.rewinds[0].version < log.log.as_ref().unwrap().begin.version, "its record is gone");
    std::fs::write(&vanished, kept).unwrap();
    let found = block_on(problems(&fixture)).unwrap();
    assert!(found.contains("a rewind made version") && found.contains("void"), "{found}");
}
