//! Rewinds of real logs in folders: after each, the job goes on and every offset is in exactly one visible file.
mod fixture;

use std::path::Path;

use self::fixture::*;
use super::*;
use crate::checkpoint::log::rewind::carry_out;
use crate::checkpoint::log::{JobLog, LogError, read};
use crate::checkpoint::record::encode;
use crate::storage::paths;

#[tokio::test]
async fn a_damaged_record_in_the_middle_costs_the_commits_after_it_and_no_row() {
    let job = Job::new();
    job.run(1, 40).await.unwrap();
    let last = job.survey().await.last_version();
    let damaged = last - 2;
    job.damage(&paths::log_record(damaged));
    assert!(matches!(job.run(2, 60).await, Err(LogError::Unreadable { .. })));
    let plan = job.rewind(&RewindRequest::default()).await.unwrap();
    assert_eq!((plan.rewind.to, plan.version), (damaged - 1, last + 1));
    assert_eq!(plan.records, [damaged, last - 1, last]);
    assert!(job.path("job").join(paths::rewound_object(plan.version, &paths::log_record(damaged))).exists());
    job.ends_exact(3).await;
}

#[tokio::test]
async fn a_damaged_record_at_the_end_costs_only_itself() {
    let job = Job::new();
    job.run(1, 40).await.unwrap();
    let last = job.survey().await.last_version();
    job.damage(&paths::log_record(last));
    let plan = job.rewind(&RewindRequest::default()).await.unwrap();
    assert_eq!((plan.rewind.to, plan.version), (last - 1, last + 1));
    job.ends_exact(2).await;
}

#[tokio::test]
async fn a_missing_record_is_as_good_as_a_damaged_one() {
    let job = Job::new();
    job.run(1, 40).await.unwrap();
    let last = job.survey().await.last_version();
    std::fs::remove_file(job.path("job").join(paths::log_record(last - 1))).unwrap();
    assert!(matches!(job.run(2, 60).await, Err(LogError::Gap { .. })));
    assert_eq!(job.rewind(&RewindRequest::default()).await.unwrap().rewind.to, last - 2);
    job.ends_exact(3).await;
}

#[tokio::test]
async fn a_damaged_base_needs_no_rewind_as_long_as_its_records_are_there() {
    let job = Job::new();
    job.run(1, 60).await.unwrap();
    let survey = job.survey().await;
    let newest = *survey.bases.keys().last().unwrap();
    job.damage(&paths::base(newest));
    assert!(matches!(job.plan(&RewindRequest::default()).await, Err(RewindRefused::NothingDamaged { .. })));
    // With a damaged record between the older base and this one, everything from that record on is void.
    job.damage(&paths::log_record(newest - 1));
    assert!(matches!(job.run(2, 70).await, Err(LogError::Unreadable { .. })));
    let plan = job.rewind(&RewindRequest::default()).await.unwrap();
    assert_eq!(plan.rewind.to, newest - 2);
    assert_eq!(plan.bases, [newest]);
    job.ends_exact(3).await;
}

#[tokio::test]
async fn a_log_of_which_nothing_can_be_read_is_refused() {
    let job = Job::new();
    job.run(1, 10).await.unwrap();
    job.damage(&paths::log_record(0));
    let error = job.plan(&RewindRequest::default()).await.unwrap_err();
    assert!(matches!(error, RewindRefused::NothingReadable(Damage { version: 0, .. })), "{error}");
}

#[tokio::test]
async fn the_job_goes_back_to_every_version_that_can_be_reached() {
    let reference = Job::new();
    reference.run(1, 50).await.unwrap();
    let last = reference.survey().await.last_version();
    let oldest = reference.survey().await.oldest().unwrap().version;
    assert!(oldest > 0, "garbage was collected");
    for version in oldest..=last {
        let job = Job::new();
        job.run(1, 50).await.unwrap();
        let before = job.survey().await.state_at(version).unwrap();
        job.rewind(&to(version)).await.unwrap();
        let end = before.partitions[TOPIC][&0].position;
        assert_eq!(job.rows(), (0..end).collect::<Vec<_>>(), "version {version}");
        assert_eq!(job.survey().await.head().state.unwrap().partitions, before.partitions);
        job.ends_exact(2).await;
    }
    let job = Job::new();
    job.run(1, 50).await.unwrap();
    assert!(matches!(job.plan(&to(oldest - 1)).await, Err(RewindRefused::Unreachable { .. })));
    assert!(matches!(job.plan(&to(last + 1)).await, Err(RewindRefused::Unreachable { .. })));
}

#[tokio::test]
async fn a_rewind_can_be_followed_by_another_one_behind_it_or_before_it() {
    for second in [0, 3] {
        let job = Job::new();
        job.run(1, 25).await.unwrap();
        let goal = version_of(&job, 15).await;
        let first = job.rewind(&to(goal)).await.unwrap();
        job.run(2, 30).await.unwrap();
        let goal = if second == 0 { goal } else { first.version + second };
        let plan = job.rewind(&to(goal)).await.unwrap();
        assert!(plan.version > first.version);
        job.ends_exact(3).await;
    }
}

#[tokio::test]
async fn killed_at_any_operation_a_rewind_hides_nothing_and_is_finished_by_the_next_call() {
    for reply_is_lost in [false, true] {
        for request in [None, Some(0)] {
            let mut finished = false;
            for budget in 1.. {
                let mut job = Job::new();
                job.run(1, 45).await.unwrap();
                let last = job.survey().await.last_version();
                // Once after damage, once by choice behind a base.
                let request = match request {
                    None => {
                        job.damage(&paths::log_record(last - 3));
                        RewindRequest::default()
                    }
                    Some(_) => to(*job.survey().await.bases.keys().last().unwrap() - 1),
                };
                job.reply_is_lost = reply_is_lost;
                job.budget.set(budget);
                finished = job.rewind(&request).await.is_ok();
                job.budget.set(u64::MAX);
                if finished {
                    break;
                }
                // A start either knows nothing of the rewind yet, or refuses. If it goes on, the result is exact.
                if job.run(2, END).await.is_err() {
                    let again = if job.survey().await.unfinished_rewind().is_some() {
                        RewindRequest::default()
                    } else {
                        request
                    };
                    job.rewind(&again).await.unwrap();
                    job.run(3, END).await.unwrap();
                }
                assert_eq!(job.rows(), (0..END).collect::<Vec<_>>(), "killed at operation {budget}");
            }
            assert!(finished);
        }
    }
}

#[tokio::test]
async fn a_start_refuses_a_log_whose_rewind_is_not_finished() {
    let job = Job::new();
    job.run(1, 40).await.unwrap();
    let plan = job.plan(&to(version_of(&job, 30).await)).await.unwrap();
    let record = encode(plan.version, &Record::Rewind(Box::new(plan.rewind.clone())));
    job.open("job").create(&paths::log_record(plan.version), record.into()).await.unwrap();
    assert!(matches!(job.run(2, 60).await, Err(LogError::RewindUnfinished { .. })));
    let other = job.plan(&to(1)).await.unwrap_err();
    assert!(matches!(other, RewindRefused::Unfinished { .. }), "{other}");
    let resumed = job.rewind(&RewindRequest::default()).await.unwrap();
    assert!(resumed.is_decided && resumed.rewind == plan.rewind);
    job.ends_exact(3).await;
}

#[tokio::test]
async fn an_owner_who_slept_through_a_rewind_cannot_commit() {
    let job = Job::new();
    job.run(1, 30).await.unwrap();
    let mut sleeper = job.start(2).await.unwrap();
    let staged = job.stage(&mut sleeper).await.unwrap();
    job.rewind(&to(version_of(&job, 20).await)).await.unwrap();
    let error = sleeper.commit(staged).await.unwrap_err();
    assert!(matches!(error, LogError::Fenced { .. }), "{error}");
    job.ends_exact(3).await;
    // He may start again from the log only if nobody newer owns it.
    assert!(matches!(job.start(2).await, Err(LogError::Fenced { .. })));
}

#[tokio::test]
async fn who_takes_a_log_over_gets_it_from_an_owner_that_is_faster_than_a_start() {
    // Commits of the owner while the other one starts: within the records that stay, and beyond them.
    for meanwhile in [1, 3, 14] {
        let job = Job::new();
        let mut present = job.start(1).await.unwrap();
        commit(&job, &mut present, 2).await.unwrap();
        let access = job.access(2);
        let known = read::read(&access.store).await.unwrap().unwrap();
        commit(&job, &mut present, meanwhile).await.unwrap();
        let mut later = JobLog::resume(access.clone(), known);
        let taken = later.take_over(2, true).await;
        assert!(matches!(taken, Err(LogError::Reload { .. })), "what it knew is out of date: {taken:?}");
        let now = read::read(&access.store).await.unwrap().unwrap();
        assert_eq!(now.state.owner.as_ref().unwrap().owner, "owner-2", "after {meanwhile} commits");
        JobLog::resume(access, now).take_over(2, true).await.unwrap();
        let fenced = commit(&job, &mut present, 1).await;
        assert!(matches!(fenced, Err(LogError::Fenced { .. })), "{fenced:?}");
        job.ends_exact(3).await;
    }
}

#[tokio::test]
async fn who_computes_something_else_does_not_fence_an_owner_whose_newest_commits_it_has_not_seen() {
    let job = Job::new();
    let mut present = job.start(1).await.unwrap();
    let access = job.access(2);
    let known = read::read(&access.store).await.unwrap().unwrap();
    commit(&job, &mut present, 1).await.unwrap();
    let taken = JobLog::resume(access, known).take_over(2, false).await;
    assert!(matches!(taken, Err(LogError::Reload { .. })), "{taken:?}");
    commit(&job, &mut present, 1).await.unwrap();
}

/// Commits so often, as a runner does.
async fn commit(job: &Job, log: &mut JobLog, times: u64) -> Result<(), LogError> {
    for _ in 0..times {
        let staged = job.stage(log).await?;
        log.commit(staged).await?;
        log.publish_pending().await?;
        log.maintain(RECORDS_PER_BASE).await?;
    }
    Ok(())
}

#[tokio::test]
async fn who_is_outranked_learns_the_number_with_which_it_takes_over() {
    let rank = |takeover: i64, created: i64| Rank { takeover, created, generation: 1 };
    let job = Job::new();
    job.run(1, 3).await.unwrap();
    job.take_over(2, rank(0, 50)).await.unwrap();
    for expected in 1..3 {
        let Err(LogError::Fenced { takeover, .. }) = job.take_over(3, rank(expected - 1, 40)).await else {
            panic!("its resource is older")
        };
        assert_eq!(takeover, Some(expected));
        job.take_over(4, rank(expected, 40)).await.unwrap();
        // And back again, where the number is lower now.
        job.take_over(5, rank(expected, 50)).await.unwrap();
    }
    // A pod that a later one superseded is told nothing of the kind: a newer pod has the job.
    assert!(matches!(job.take_over(4, rank(2, 50)).await, Ok(()) | Err(LogError::Fenced { takeover: None, .. })));
}

#[tokio::test]
async fn an_owner_who_slept_between_deciding_and_publishing_cannot_publish() {
    let job = Job::new();
    job.run(1, 30).await.unwrap();
    let mut sleeper = job.start(2).await.unwrap();
    let staged = job.stage(&mut sleeper).await.unwrap();
    sleeper.commit(staged).await.unwrap();
    job.rewind(&to(version_of(&job, 20).await)).await.unwrap();
    let error = sleeper.publish_pending().await.unwrap_err();
    assert!(matches!(error, LogError::FileLost { .. }), "{error}");
    assert_eq!(job.rows(), (0..25).collect::<Vec<_>>());
    job.ends_exact(3).await;
}

#[tokio::test]
async fn a_commit_that_is_kept_and_not_yet_published_is_published_by_the_next_start() {
    let job = Job::new();
    job.run(1, 20).await.unwrap();
    let mut owner = job.start(2).await.unwrap();
    let staged = job.stage(&mut owner).await.unwrap();
    let kept = owner.commit(staged).await.unwrap();
    drop(owner);
    let plan = job.rewind(&to(kept)).await.unwrap();
    assert_eq!(plan.after.pending.keys().copied().collect::<Vec<_>>(), [kept]);
    assert_eq!(plan.visible_watermark, Some(15), "the one before the commit that nobody sees");
    job.ends_exact(3).await;
}

#[tokio::test]
async fn progress_is_lowered_before_rows_vanish() {
    let job = Job::new();
    job.run(1, 40).await.unwrap();
    let goal = version_of(&job, 15).await;
    let plan = job.plan(&to(goal)).await.unwrap();
    carry_out(&job.open("job"), &job.opener(), &plan).await.unwrap();
    let told = crate::checkpoint::progress::read_progress(&job.open(OUTPUT)).await.unwrap().unwrap();
    // The commit itself is kept, but as of its version nobody had noted that it is published.
    assert_eq!((told.published, told.complete_until), (plan.version, Some(10)));
}

#[tokio::test]
async fn a_log_from_a_backup_takes_back_the_files_that_it_does_not_know() {
    let job = Job::new();
    job.run(1, 20).await.unwrap();
    let backup = tempfile::tempdir().unwrap();
    let copy = |from: &Path, to: &Path| {
        assert!(std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success())
    };
    copy(&job.path("job"), backup.path());
    job.run(2, 40).await.unwrap();
    std::fs::remove_dir_all(job.path("job")).unwrap();
    copy(&backup.path().join("job"), job.folder.path());
    let plan = job.rewind(&RewindRequest::default()).await.unwrap();
    assert!(plan.records.is_empty());
    assert_eq!(job.rows(), (0..20).collect::<Vec<_>>());
    job.ends_exact(3).await;
}

#[tokio::test]
async fn a_record_of_a_newer_program_is_not_taken_for_damage() {
    let job = Job::new();
    job.run(1, 20).await.unwrap();
    let last = job.survey().await.last_version();
    let path = job.path("job").join(paths::log_record(last));
    let text = std::fs::read_to_string(&path).unwrap().replace("{\"format\":2", "{\"format\":3");
    std::fs::write(&path, text).unwrap();
    let error = job.plan(&RewindRequest::default()).await.unwrap_err();
    assert!(matches!(error, RewindRefused::NewerFormat { .. }), "{error}");
}

#[tokio::test]
async fn a_topic_that_was_created_again_goes_on_at_zero_and_keeps_what_the_snapshot_holds() {
    let job = Job::new();
    // The last commit begins at 45, with a snapshot.
    job.run(1, 50).await.unwrap();
    let plan = job.rewind(&recreated("second", &[(0, 7), (1, 0)], false)).await.unwrap();
    assert!(plan.records.is_empty() && plan.rewind.topics[TOPIC].lost.is_empty());
    let head = job.survey().await.head().state.unwrap();
    assert_eq!(head.topics[TOPIC], "second");
    assert_eq!(
        head.partitions[TOPIC].iter().map(|(p, state)| (*p, state.position)).collect::<Vec<_>>(),
        [(0, 0), (1, 0)]
    );
    assert!(head.replay.is_empty() && !head.can_replay_all() && head.usable_snapshot().is_some());
    assert_eq!(job.rows(), (0..50).collect::<Vec<_>>(), "no row vanishes");
    job.run(2, 10).await.unwrap();
    assert_eq!(job.rows().len(), 60);
    // Nothing to do a second time.
    let again = job.plan(&recreated("second", &[(0, 70), (1, 0)], false)).await.unwrap_err();
    assert!(matches!(again, RewindRefused::SameTopic { .. }), "{again}");
}

#[tokio::test]
async fn records_that_only_the_old_topic_had_are_given_up_only_when_told_to() {
    let job = Job::new();
    // Snapshot at 45; the commits from 50 and 55 are in no snapshot.
    job.run(1, 60).await.unwrap();
    let error = job.plan(&recreated("second", &[(0, 0)], false)).await.unwrap_err();
    let RewindRefused::WouldLose { lost, alternative, .. } = &error else { panic!("{error}") };
    assert_eq!(lost, "t partition 0 offsets [50, 60)");
    let snapshot = version_of(&job, 45).await;
    assert!(alternative.contains(&format!("--to {snapshot}")), "{alternative}");
    let plan = job.plan(&recreated("second", &[(0, 0)], true)).await.unwrap();
    assert_eq!(plan.rewind.topics[TOPIC].lost, BTreeMap::from([(0, (50, 60))]));
    assert_eq!(plan.after.rewinds[0].lost, one((50, 60)));
    assert!(plan.after.replay.values().all(|batch| batch.partitions.is_empty()));
    // Going back to the snapshot loses nothing of the state, and takes the later rows back.
    let request = RewindRequest { to: Some(snapshot), ..recreated("second", &[(0, 0)], false) };
    job.rewind(&request).await.unwrap();
    assert_eq!(job.rows(), (0..50).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_truncated_topic_goes_on_at_its_end() {
    let job = Job::new();
    job.run(1, 50).await.unwrap();
    let plan = job.rewind(&recreated("first", &[(0, 47)], false)).await.unwrap();
    assert_eq!(plan.after.partitions[TOPIC][&0].position, 47);
    assert_eq!(plan.after.outputs[OUTPUT].covered[TOPIC][&0], 47);
    assert_eq!(job.rows(), (0..50).collect::<Vec<_>>());
    let longer = job.plan(&recreated("first", &[(0, 48)], false)).await.unwrap_err();
    assert!(matches!(longer, RewindRefused::SameTopic { .. }), "{longer}");
}

#[tokio::test]
async fn what_kafka_must_have_begins_where_the_snapshot_ends() {
    let job = Job::new();
    job.run(1, 60).await.unwrap();
    let state = job.survey().await.head().state.unwrap();
    assert_eq!(needed_offsets(&state, true), one(50));
    assert_eq!(needed_offsets(&state, false), one(state.replay.values().next().unwrap().partitions[TOPIC][&0].start));
}

/// A survey judges a log as a start does, whatever is damaged.
#[tokio::test]
async fn a_survey_and_a_start_come_to_the_same_state() {
    for damaged in 0..40 {
        let job = Job::new();
        job.run(1, 35).await.unwrap();
        job.rewind(&to(version_of(&job, 25).await)).await.unwrap();
        job.run(2, 60).await.unwrap();
        let survey = job.survey().await;
        let objects: Vec<_> = (survey.records.keys().map(|v| paths::log_record(*v)))
            .chain(survey.bases.keys().map(|v| paths::base(*v)))
            .collect();
        let Some(object) = objects.get(damaged) else { break };
        job.damage(object);
        let (head, started) = (job.survey().await.head(), read::read(&job.open("job")).await);
        match started {
            Ok(recovered) => assert_eq!((Some(recovered.unwrap().state), None), (head.state, head.damage), "{object}"),
            Err(error) => assert!(head.damage.is_some(), "{object}: {error}"),
        }
    }
}
