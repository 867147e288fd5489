use super::fixture::{Fixture, JOB, LETTERS, NOON, TABLE, write_reference};
use super::*;
use crate::args::RewindArgs;
use crate::checkpoint::record::{Record, ReferenceVersion, encode};
use crate::checkpoint::survey::Survey;
use crate::storage::lock::FolderLock;

async fn verified(fixture: &Fixture) -> (String, bool) {
    verify::verify(&place(fixture), Retention::default()).await.unwrap()
}

fn place(fixture: &Fixture) -> JobPlace {
    let checkpoints = Location::parse(&fixture.place().checkpoints.unwrap()).unwrap();
    JobPlace::open(format!("local/{JOB}"), checkpoints.join("local").join(JOB)).unwrap()
}

fn error_text(error: CommandError) -> String {
    match error {
        CommandError::Config(error) => error.to_string(),
        CommandError::Job(error) => error.in_full(),
        CommandError::Other(message, _) => message,
    }
}

/// Everything below the fixture's folder, with its content.
fn snapshot_of(fixture: &Fixture) -> Vec<(String, Vec<u8>)> {
    let store = crate::storage::local::LocalStore::open(&fixture.path(""), no_faults()).unwrap();
    let listed = futures::executor::block_on(crate::storage::Store::list(&store, "")).unwrap();
    listed.into_iter().map(|entry| (entry.path.clone(), std::fs::read(fixture.path(&entry.path)).unwrap())).collect()
}

#[tokio::test]
async fn a_log_that_is_whole_is_found_whole() {
    for commits in [0, 1, 40] {
        let fixture = Fixture::with_commits(commits).await;
        let before = snapshot_of(&fixture);
        let (text, is_good) = verified(&fixture).await;
        assert!(is_good, "{text}");
        assert!(text.contains("log records") && !text.contains(" bad"), "{text}");
        ls::ls(&Location::parse(&fixture.place().checkpoints.unwrap()).unwrap(), NOON).await.unwrap();
        show::show(&place(&fixture), None, NOON).await.unwrap();
        assert!(before == snapshot_of(&fixture), "looking changes nothing");
    }
}

#[tokio::test]
async fn everything_that_is_damaged_is_named_with_a_cure() {
    /// Damages something and gives the words that must appear.
    type Case = (&'static str, fn(&Fixture, &Survey) -> Vec<&'static str>);
    let cases: [Case; 9] = [
        ("a record", |fixture, survey| {
            Fixture::damage(&fixture.log_path(&paths::log_record(survey.last_version() - 1)));
            vec!["checkpoint rewind JOB", "log records"]
        }),
        ("a missing record", |fixture, survey| {
            std::fs::remove_file(fixture.log_path(&paths::log_record(survey.last_version() - 1))).unwrap();
            vec!["it is missing", "checkpoint rewind JOB"]
        }),
        ("a record below the newest base", |fixture, survey| {
            let base = *survey.bases.keys().last().unwrap();
            Fixture::damage(&fixture.log_path(&paths::log_record(base - 1)));
            vec!["nothing: a start reads from base"]
        }),
        ("a base", |fixture, survey| {
            Fixture::damage(&fixture.log_path(&paths::base(*survey.bases.keys().last().unwrap())));
            vec!["nothing: a start goes around it"]
        }),
        ("a base that says something else", |fixture, survey| {
            let version = *survey.bases.keys().last().unwrap();
            let mut state = survey.bases[&version].content.clone().unwrap();
            state.commits += 1;
            std::fs::write(fixture.log_path(&paths::base(version)), encode(version, &state)).unwrap();
            vec!["it is not what the records before it add up to", "it is not the one that the record after it names"]
        }),
        ("the state", |fixture, survey| {
            let head = survey.head().state.unwrap();
            Fixture::damage(&fixture.log_path(head.live_objects().next().unwrap()));
            vec!["its checksum is", "rebuilds the state"]
        }),
        ("a file of the table", |fixture, _| {
            Fixture::damage(fixture.published(TABLE).last().unwrap());
            vec!["its content is not what was written", "bring it back"]
        }),
        ("a file of the dead letters", |fixture, _| {
            std::fs::remove_file(fixture.published(LETTERS).last().unwrap()).unwrap();
            vec!["it is missing", LETTERS]
        }),
        ("the progress", |fixture, _| {
            std::fs::write(fixture.path("outputs/_dataplatform").join(TABLE).join("progress.json"), "{}").unwrap();
            vec!["it is missing or cannot be read", "next commit"]
        }),
    ];
    for (name, damage) in cases {
        let fixture = Fixture::with_commits(30).await;
        let words = damage(&fixture, &Survey::read(&fixture.store()).await.unwrap());
        let (text, is_good) = verified(&fixture).await;
        assert!(!is_good, "{name}: {text}");
        for word in words {
            assert!(text.contains(word), "{name}: {word:?} is missing in\n{text}");
        }
    }
}

#[tokio::test]
async fn an_object_of_a_reference_that_is_missing_or_damaged_is_named_with_what_to_do() {
    let fixture = Fixture::with_commits(3).await;
    let (text, _) = verified(&fixture).await;
    assert!(!text.contains("references"), "{text}");
    let mut log = fixture.start(2).await;
    let (old, new) = (write_reference(&log, "old").await, write_reference(&log, "new").await);
    fixture.commit_with(&mut log, vec![old.clone()]).await;
    fixture.commit_with(&mut log, vec![new.clone()]).await;
    log.publish_pending().await.unwrap();
    log.note_published().await.unwrap();
    let (text, is_good) = verified(&fixture).await;
    assert!(is_good && text.contains("references"), "{text}");
    let place = |version: &ReferenceVersion| fixture.log_path(&version.object.as_ref().unwrap().path);
    for (version, damage, words) in [
        (&old, "removed", ["it is missing (reference users)", "bring it back from a backup, or give users the files"]),
        (&new, "damaged", ["its checksum is", "nothing, as long as the files of users are not changed"]),
    ] {
        let path = place(version);
        let whole = std::fs::read(&path).unwrap();
        if damage == "removed" {
            std::fs::remove_file(&path).unwrap()
        } else {
            Fixture::damage(&path)
        }
        let (text, is_good) = verified(&fixture).await;
        assert!(!is_good, "{damage}: {text}");
        for word in [&version.object.as_ref().unwrap().path, words[0], words[1]] {
            assert!(text.contains(word), "{damage}: {word:?} is missing in\n{text}");
        }
        std::fs::write(&path, whole).unwrap();
    }
    assert!(verified(&fixture).await.1);
}

#[tokio::test]
async fn a_start_removes_the_temporary_files_of_killed_processes() {
    let fixture = Fixture::with_commits(3).await;
    let record = fixture.log_path(&paths::log_record(2));
    let left = [
        record.with_file_name(".tmp-1-a"),
        fixture.log_path(".tmp-1-b"),
        fixture.path("outputs/_dataplatform").join(TABLE).join(".tmp-1-c"),
    ];
    std::fs::hard_link(&record, &left[0]).unwrap();
    left[1..].iter().for_each(|path| std::fs::write(path, "half").unwrap());
    fixture.run(2, 4, 10).await;
    assert_eq!(left.each_ref().map(|path| path.exists()), [false; 3]);
    assert!(verified(&fixture).await.1);
}

#[tokio::test]
async fn what_is_staged_and_decided_is_no_damage() {
    let fixture = Fixture::with_commits(3).await;
    let mut log = fixture.start(2).await;
    fixture.commit(&mut log).await;
    fixture.commit(&mut log).await;
    let (text, is_good) = verified(&fixture).await;
    assert!(is_good && text.contains("staged, the next start publishes them"), "{text}");
}

#[tokio::test]
async fn a_log_is_listed_and_shown_in_a_few_lines() {
    let fixture = Fixture::with_commits(30).await;
    let list =
        ls::ls(&Location::parse(&fixture.place().checkpoints.unwrap()).unwrap(), NOON + 500_000_000).await.unwrap();
    for word in ["local/clicks", "30", "300", "process 1 on laptop (epoch 1)", "110 s ago"] {
        assert!(list.contains(word), "{word:?} is missing in\n{list}");
    }
    let shown = show::show(&place(&fixture), None, NOON + 500_000_000).await.unwrap();
    for word in
        ["0f8fad5b", "topic_clicks", "400", "tombstone", "dead letter: syntax", "snapshot of version", "accepted"]
    {
        assert!(shown.contains(word), "{word:?} is missing in\n{shown}");
    }
    assert!(shown.lines().count() < 45, "{shown}");
    let record = show::show(&place(&fixture), Some(Survey::read(&fixture.store()).await.unwrap().last_version()), 0)
        .await
        .unwrap();
    assert!(serde_json::from_str::<Record>(&record).is_ok(), "{record}");
    let error = error_text(show::show(&place(&fixture), Some(9_999), 0).await.unwrap_err());
    assert!(error.contains("there is no such record"), "{error}");
}

#[tokio::test]
async fn a_damaged_log_is_shown_as_far_as_it_can_be_read() {
    let fixture = Fixture::with_commits(5).await;
    let last = Survey::read(&fixture.store()).await.unwrap().last_version();
    Fixture::damage(&fixture.log_path(&paths::log_record(last - 1)));
    let shown = show::show(&place(&fixture), None, NOON).await.unwrap();
    assert!(shown.starts_with(&format!("DAMAGED at version {}", last - 1)), "{shown}");
    let list = ls::ls(&Location::parse(&fixture.place().checkpoints.unwrap()).unwrap(), NOON).await.unwrap();
    assert!(list.contains(&format!("local/clicks: version {}", last - 1)), "{list}");
    let error = error_text(show::show(&place(&fixture), Some(last - 1), 0).await.unwrap_err());
    assert!(error.contains(&paths::log_record(last - 1)), "{error}");
}

#[test]
fn an_unknown_job_is_answered_with_the_one_that_was_meant() {
    let fixture = block_on(Fixture::with_commits(1)).unwrap();
    let error = error_text(JobPlace::find("click", &fixture.place()).err().unwrap());
    assert!(error.contains("did you mean clicks?"), "{error}");
    let error = error_text(JobPlace::find("orders", &fixture.place()).err().unwrap());
    assert!(error.contains("there are local/clicks"), "{error}");
    let empty = Fixture::new();
    let error = error_text(JobPlace::find("orders", &empty.place()).err().unwrap());
    assert!(error.contains("check CHECKPOINT_DIR"), "{error}");
    assert!(!empty.path("checkpoints").exists(), "looking creates nothing");
}

fn rewind_args(fixture: &Fixture, to: Option<u64>, yes: bool) -> RewindArgs {
    RewindArgs {
        job: JOB.to_owned(),
        to,
        topic_recreated: Vec::new(),
        accept_loss: false,
        yes,
        files: Vec::new(),
        bootstrap_servers: None,
        place: fixture.place(),
    }
}

#[test]
fn a_rewind_changes_nothing_without_yes_and_what_it_showed_with_yes() {
    let fixture = block_on(Fixture::with_commits(12)).unwrap();
    let last = block_on(Survey::read(&fixture.store())).unwrap().unwrap().last_version();
    let version = last - 2;
    Fixture::damage(&fixture.log_path(&paths::log_record(version)));
    let before = snapshot_of(&fixture);
    assert_eq!(rewind::rewind(&rewind_args(&fixture, None, false)).unwrap(), 0);
    let after: Vec<_> = snapshot_of(&fixture).into_iter().filter(|(path, _)| !path.ends_with("/lock")).collect();
    assert!(before == after, "the preview changes nothing");
    let files = fixture.published(TABLE).len();
    assert_eq!(rewind::rewind(&rewind_args(&fixture, None, true)).unwrap(), 0);
    assert!(fixture.published(TABLE).len() < files);
    let (text, is_good) = block_on(verified(&fixture)).unwrap();
    assert!(is_good, "{text}");
    block_on(fixture.run(3, 15, 10)).unwrap();
    let (text, is_good) = block_on(verified(&fixture)).unwrap();
    assert!(is_good, "{text}");
}

#[test]
fn a_rewind_is_refused_while_a_runner_works_and_when_there_is_nothing_to_do() {
    let fixture = block_on(Fixture::with_commits(5)).unwrap();
    let held = FolderLock::take(&fixture.log_path("")).unwrap();
    let error = error_text(rewind::rewind(&rewind_args(&fixture, Some(3), true)).unwrap_err());
    assert!(error.contains("another runner works on this checkpoint"), "{error}");
    drop(held);
    let error = error_text(rewind::rewind(&rewind_args(&fixture, None, true)).unwrap_err());
    assert!(error.contains("say with --to") && error.contains("whole in a snapshot"), "{error}");
    let error = error_text(rewind::rewind(&rewind_args(&fixture, Some(999), true)).unwrap_err());
    assert!(error.contains("version 999 cannot be reached"), "{error}");
}

/// The place of a command that was told this outputs folder.
fn place_with(fixture: &Fixture, outputs: &str) -> JobPlace {
    JobPlace { outputs: Some(Location::Folder(fixture.path(outputs))), ..place(fixture) }
}

#[tokio::test]
async fn a_command_that_sees_other_folders_says_so_instead_of_calling_every_file_missing() {
    let fixture = Fixture::with_commits(6).await;
    let old = fixture.path("outputs");
    sees_tables(&place_with(&fixture, "nowhere")).await.unwrap();
    std::fs::rename(&old, fixture.path("mounted")).unwrap();
    for outputs in ["outputs", "nowhere"] {
        let place = place_with(&fixture, outputs);
        let error = error_text(verify::verify(&place, Retention::default()).await.unwrap_err());
        for words in
            ["sees other folders than local/clicks", &format!("{}/{TABLE} and 1 more", old.display()), "--outputs"]
        {
            assert!(error.contains(words), "{words}: {error}");
        }
        assert!(!error.contains("it is missing"), "{error}");
    }
    let (text, is_good) = verify::verify(&place_with(&fixture, "mounted"), Retention::default()).await.unwrap();
    assert!(is_good, "{text}");
    // One table that is gone is damage, and each of its files is named.
    std::fs::rename(fixture.path("mounted"), &old).unwrap();
    std::fs::remove_dir_all(old.join(TABLE)).unwrap();
    let (text, is_good) = verify::verify(&place_with(&fixture, "outputs"), Retention::default()).await.unwrap();
    assert!(!is_good && text.contains("it is missing"), "{text}");
}

#[tokio::test]
async fn a_job_without_files_has_nothing_that_could_not_be_seen() {
    let fixture = Fixture::with_commits(0).await;
    std::fs::remove_dir_all(fixture.path("outputs")).unwrap();
    sees_tables(&place_with(&fixture, "nowhere")).await.unwrap();
}
