use super::*;
use crate::checkpoint::record::{Commit, FileCommit, Published, Rank, Record, Rewind, TopicMove};
use crate::offsets::Range;

fn started() -> JobState {
    let mut state = JobState::begin(Start {
        log_id: "l".to_owned(),
        namespace: "local".to_owned(),
        job: "j".to_owned(),
        cluster_id: "c".to_owned(),
        topics: BTreeMap::new(),
        offsets: one_partition(5),
        plan: Plan::default(),
        clock: 0,
        program: String::new(),
    });
    state.apply(1, &own(1)).unwrap();
    state
}

fn one_partition<T>(value: T) -> Partitions<T> {
    Partitions::of("t", [(0, value)])
}

fn own(epoch: u64) -> Record {
    let (owner, place) = (format!("o{epoch}"), String::new());
    Record::Own(Own { epoch, owner, rank: Rank::default(), place, pod: None, partitions: None, clock: 0 })
}

fn commit(epoch: u64, start: i64, end: i64) -> Commit {
    let partitions = one_partition(Range { start, end, ..Range::default() });
    Commit { epoch, partitions, ..Commit::default() }
}

fn apply(state: &mut JobState, commit: Commit) -> Result<(), FoldError> {
    state.apply(state.version + 1, &Record::Commit(Box::new(commit)))
}

#[test]
fn ranges_follow_each_other() {
    let mut state = started();
    apply(&mut state, commit(1, 5, 8)).unwrap();
    assert_eq!(state.partitions["t"][&0].position, 8);
    assert!(apply(&mut state.clone(), commit(1, 9, 10)).unwrap_err().problem.contains("stands at 8"));
    assert!(apply(&mut state.clone(), commit(1, 7, 10)).unwrap_err().problem.contains("stands at 8"));
    assert!(apply(&mut state, commit(1, 8, 7)).is_err());
}

#[test]
fn only_the_owner_commits_and_epochs_do_not_jump() {
    let mut state = started();
    assert!(apply(&mut state.clone(), commit(2, 5, 8)).is_err());
    assert!(state.clone().apply(2, &own(3)).is_err());
    state.apply(2, &own(2)).unwrap();
    assert!(apply(&mut state.clone(), commit(1, 5, 8)).is_err());
    apply(&mut state, commit(2, 5, 8)).unwrap();
}

#[test]
fn the_watermark_never_falls() {
    let mut state = started();
    apply(&mut state, Commit { watermark: Some(10), ..commit(1, 5, 8) }).unwrap();
    assert!(apply(&mut state.clone(), Commit { watermark: Some(9), ..commit(1, 8, 9) }).is_err());
    assert!(apply(&mut state, Commit { watermark: None, ..commit(1, 8, 9) }).is_err());
}

#[test]
fn files_are_pending_until_they_are_published() {
    let mut state = started();
    let file = FileCommit { stage: String::new(), path: String::new(), bytes: 0, xxh3: String::new(), rows: 0 };
    let output = OutputCommit { root: "r".to_owned(), files: vec![file], ..OutputCommit::default() };
    let outputs = BTreeMap::from([("o".to_owned(), output)]);
    apply(&mut state, Commit { outputs: outputs.clone(), ..commit(1, 5, 8) }).unwrap();
    apply(&mut state, Commit { outputs, ..commit(1, 8, 9) }).unwrap();
    assert_eq!(state.pending.keys().copied().collect::<Vec<_>>(), [2, 3]);
    assert_eq!(state.outputs["o"].covered["t"][&0], 9);
    state.apply(4, &Record::Published(Published { epoch: 1, upto: 2 })).unwrap();
    assert_eq!(state.pending.keys().copied().collect::<Vec<_>>(), [3]);
    apply(&mut state, Commit { published: 3, ..commit(1, 9, 9) }).unwrap();
    assert!(state.pending.is_empty());
}

fn rewind(to: u64, epoch: u64, topics: BTreeMap<String, TopicMove>) -> Record {
    let Record::Own(own) = own(epoch) else { unreachable!() };
    Record::Rewind(Box::new(Rewind { to, own, pods: Vec::new(), topics }))
}

#[test]
fn a_rewind_stands_behind_a_gap_and_needs_the_state_that_it_goes_back_to() {
    let mut state = started();
    apply(&mut state, commit(1, 5, 8)).unwrap();
    let before = state.clone();
    apply(&mut state, commit(1, 8, 9)).unwrap();
    let error = state.clone().apply(10, &rewind(2, 4, BTreeMap::new())).unwrap_err();
    assert!(error.problem.contains("not finished"), "{error}");
    let mut back = before.clone();
    back.apply(10, &rewind(2, 4, BTreeMap::new())).unwrap();
    assert_eq!((back.version, back.epoch(), back.partitions["t"][&0].position), (10, 4, 8));
    assert_eq!(back.rewinds, [Rewound { version: 10, to: 2, positions: Partitions::new(), lost: Partitions::new() }]);
    assert!(apply(&mut back.clone(), commit(1, 8, 9)).is_err(), "the owner before is fenced");
    apply(&mut back, commit(4, 8, 9)).unwrap();
    assert_eq!(back.version, 11);
    assert!(before.clone().apply(10, &rewind(2, 1, BTreeMap::new())).is_err(), "the epoch must rise");
}

#[test]
fn a_topic_that_was_created_again_goes_on_at_its_new_offsets_and_its_old_records_are_never_replayed() {
    let mut state = started();
    let from = |version| Some(ReplayFrom { version, ..ReplayFrom::default() });
    let (output, path) = ("o".to_owned(), "state/2".to_owned());
    let object = StateObject {
        output,
        part: 0,
        first_version: 2,
        path,
        bytes: 1,
        xxh3: String::new(),
        ..StateObject::default()
    };
    let with_state = Commit { state: Some(vec![object]), replay_from: from(2), ..commit(1, 5, 8) };
    apply(&mut state, with_state).unwrap();
    apply(&mut state, Commit { replay_from: from(2), ..commit(1, 8, 9) }).unwrap();
    assert!(state.can_replay_all());
    let lost = BTreeMap::from([(0, (8, 9))]);
    let moved = TopicMove { id: "new".to_owned(), positions: BTreeMap::from([(0, 0), (1, 0)]), lost };
    state.apply(9, &rewind(3, 2, BTreeMap::from([("t".to_owned(), moved)]))).unwrap();
    assert_eq!(state.topics["t"], "new");
    let fresh = PartitionState { position: 0, watermark: None, active: Some(0) };
    assert_eq!(state.partitions["t"], BTreeMap::from([(0, fresh), (1, fresh)]));
    assert_eq!(state.replay.keys().copied().collect::<Vec<_>>(), [3]);
    assert!(state.replay[&3].partitions.is_empty(), "the lost range is not read again");
    assert!(!state.can_replay_all(), "without the snapshot the state is lost");
    apply(&mut state, Commit { replay_from: from(2), ..commit(2, 0, 4) }).unwrap();
    assert!(!state.can_replay_all());
}

#[test]
fn a_truncated_topic_goes_on_at_its_end_and_keeps_what_is_known_of_it() {
    let mut state = started();
    let Commit { mut partitions, .. } = commit(1, 5, 8);
    partitions.get_mut("t", 0).unwrap().watermark = Some(3);
    apply(&mut state, Commit { partitions, ..commit(1, 5, 8) }).unwrap();
    state.topics.insert("t".to_owned(), "id".to_owned());
    let moved = TopicMove { id: "id".to_owned(), positions: BTreeMap::from([(0, 6)]), lost: BTreeMap::new() };
    state.apply(9, &rewind(2, 2, BTreeMap::from([("t".to_owned(), moved)]))).unwrap();
    assert_eq!(state.partitions["t"][&0].position, 6);
    assert_eq!(state.partitions["t"][&0].watermark, Some(3));
}

#[test]
fn batches_are_kept_as_long_as_a_rebuild_needs_them() {
    let mut state = started();
    let from = |version| Some(ReplayFrom { version, ..ReplayFrom::default() });
    apply(&mut state, Commit { replay_from: from(2), watermark: Some(1), ..commit(1, 5, 6) }).unwrap();
    apply(&mut state, Commit { replay_from: from(2), watermark: Some(2), ..commit(1, 6, 7) }).unwrap();
    assert_eq!(state.replay.keys().copied().collect::<Vec<_>>(), [2, 3]);
    assert_eq!(state.replay[&3].watermark_before, Some(1));
    apply(&mut state, Commit { replay_from: from(3), watermark: Some(2), ..commit(1, 7, 8) }).unwrap();
    assert_eq!(state.replay.keys().copied().collect::<Vec<_>>(), [3, 4]);
    apply(&mut state, Commit { watermark: Some(2), ..commit(1, 8, 9) }).unwrap();
    assert!(state.replay.is_empty());
}
