//! The whole job as of one version of its log: what folding the records gives, and what a base holds.
//!
//! Pure. Everything that the next micro-batch, a recovery, a rebuild or a garbage collection must know stands here, so
//! that a base can replace all records before it.

mod computed;
pub mod replay;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::checkpoint::decide;
use crate::checkpoint::record::{
    Breaker, Commit, OutputCommit, Own, Plan, Record, ReferenceVersion, ReplayFrom, Rewind, Start, StateObject,
    TopicMove,
};
use crate::checkpoint::slot_log::Fold;
use crate::counters::Counters;
use crate::offsets::{Partitions, Range};
use crate::storage::paths;

pub use computed::Computed;
pub use replay::ReplayBatch;

/// The job as of [`JobState::version`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobState {
    /// Last version of the log that is part of this.
    pub version: u64,
    /// Record 0.
    pub start: Start,
    /// What the job computes now: of record 0, or of the last `plan`.
    pub plan: Plan,
    /// Topic ids, also of topics that appeared later.
    pub topics: BTreeMap<String, String>,
    /// Who may commit; `None` only before the first `own`.
    pub owner: Option<Own>,
    /// Pods (or processes, where there are none) of the owners of the present rank, in the order in which they first
    /// appeared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<String>,
    /// What is known of each partition.
    pub partitions: Partitions<PartitionState>,
    /// The job's watermark.
    pub watermark: Option<i64>,
    /// Batch clock of the last commit; of the start, before the first.
    pub clock: i64,
    /// Every commit up to this version is published.
    pub published: u64,
    /// Commits that are decided and not known to be published, oldest first.
    pub pending: BTreeMap<u64, BTreeMap<String, OutputCommit>>,
    /// Sum of all counters.
    pub totals: Counters,
    /// Where a rebuild has to begin; `None` when nothing is open.
    pub replay_from: Option<ReplayFrom>,
    /// What a rebuild needs to know of the batches from there on, oldest first. Neighbours that a rebuild may read as one
    /// are one.
    pub replay: BTreeMap<u64, ReplayBatch>,
    /// What computed the batches of a rebuild that are older than the present plan, by the version of the plan that followed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub computed: BTreeMap<u64, Computed>,
    /// The last snapshot of the state.
    pub snapshot: Option<Snapshot>,
    /// What is known of each output.
    pub outputs: BTreeMap<String, OutputState>,
    /// The versions of references that the last commit used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<ReferenceVersion>,
    /// State objects, and those of references, that a record since the last base named.
    pub referenced: BTreeSet<String>,
    /// Evidence of the circuit breaker.
    pub breaker: Breaker,
    /// Number of commits.
    pub commits: u64,
    /// The job's rewinds, oldest first: what files and footers alone would not tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rewinds: Vec<Rewound>,
}

/// Pods that are remembered: a pod that comes back after so many others is none that was kept waiting.
const PODS_MAX: usize = 100;

/// A rewind that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewound {
    /// Version of its record.
    pub version: u64,
    /// The version that it went back to.
    pub to: u64,
    /// Partitions that went on elsewhere, and where.
    #[serde(default, skip_serializing_if = "Partitions::is_empty")]
    pub positions: Partitions<i64>,
    /// Records `[start, end)` that windows which were open then miss.
    #[serde(default, skip_serializing_if = "Partitions::is_empty")]
    pub lost: Partitions<(i64, i64)>,
}

/// What is known of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionState {
    /// Next offset to read.
    pub position: i64,
    /// Greatest event time so far minus the delay.
    pub watermark: Option<i64>,
    /// Batch clock of the last batch with a valid record; of the first one that saw the partition, if there was none.
    pub active: Option<i64>,
}

/// A snapshot of the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// It holds the state after this version.
    pub version: u64,
    /// The objects of all outputs.
    pub objects: Vec<StateObject>,
}

/// What is known of an output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputState {
    /// Root URL as of the last commit that wrote to it.
    pub root: String,
    /// Where each partition stood after the last commit that wrote a file: the next file covers from here.
    pub covered: Partitions<i64>,
    /// Version of the last commit with a file; 0 before the first.
    pub last_file: u64,
    /// No row of windows that begin before this time comes any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete_until: Option<i64>,
}

/// A record that cannot follow the ones before it: the log was edited, or two programs disagree on the rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("version {version} cannot follow the records before it: {problem}")]
pub struct FoldError {
    /// The version.
    pub version: u64,
    /// Why.
    pub problem: String,
}

impl JobState {
    /// The job after record 0.
    pub fn begin(start: Start) -> Self {
        let partition = |position: &i64| PartitionState { position: *position, ..PartitionState::default() };
        let partitions = start.offsets.map(partition);
        let covered = |root: &String| OutputState {
            root: root.clone(),
            covered: start.offsets.clone(),
            ..OutputState::default()
        };
        Self {
            version: 0,
            plan: start.plan.clone(),
            topics: start.topics.clone(),
            owner: None,
            pods: Vec::new(),
            partitions,
            watermark: None,
            clock: start.clock,
            published: 0,
            pending: BTreeMap::new(),
            totals: Counters::default(),
            replay_from: None,
            replay: BTreeMap::new(),
            computed: BTreeMap::new(),
            snapshot: None,
            outputs: start.plan.outputs.iter().map(|(name, root)| (name.clone(), covered(root))).collect(),
            references: Vec::new(),
            referenced: BTreeSet::new(),
            breaker: Breaker::default(),
            commits: 0,
            rewinds: Vec::new(),
            start,
        }
    }

    /// The job after one more record.
    ///
    /// # Errors
    /// [`FoldError`] when the record breaks a rule of the protocol; the state is then not to be used any more.
    pub fn apply(&mut self, version: u64, record: &Record) -> Result<(), FoldError> {
        let refuse = |problem: String| Err(FoldError { version, problem });
        let epoch = self.owner.as_ref().map_or(0, |owner| owner.epoch);
        match record {
            Record::Rewind(rewind) => {
                if let Err(problem) = self.apply_rewind(version, rewind) {
                    return refuse(problem);
                }
            }
            _ if version != self.version + 1 => return refuse(format!("version {} was expected", self.version + 1)),
            Record::Start(_) => return refuse("a start record stands only at version 0".to_owned()),
            Record::Own(own) if own.epoch != epoch + 1 => {
                return refuse(format!("it takes epoch {} after epoch {epoch}", own.epoch));
            }
            Record::Own(own) => self.take(own),
            Record::Commit(commit) if commit.epoch != epoch => {
                return refuse(format!("it was written by epoch {}, the owner is epoch {epoch}", commit.epoch));
            }
            Record::Commit(commit) => {
                if let Err(problem) = self.apply_commit(version, commit) {
                    return refuse(problem);
                }
            }
            Record::Published(published) => self.apply_published(published.upto),
            Record::Plan(plan) => self.apply_plan(version, plan),
            Record::Base(_) => self.referenced.clear(),
        }
        self.version = version;
        Ok(())
    }

    /// Staged files that commits need which are not published yet.
    pub fn pending_stages(&self) -> BTreeSet<String> {
        let written = self.pending.values().flat_map(BTreeMap::values);
        written.flat_map(|written| &written.files).map(|file| file.stage.clone()).collect()
    }

    fn apply_commit(&mut self, version: u64, commit: &Commit) -> Result<(), String> {
        if commit.watermark < self.watermark {
            return Err(format!("its watermark {:?} is before {:?}", commit.watermark, self.watermark));
        }
        for (topic, partition, range) in commit.partitions.iter() {
            self.advance(topic, partition, range)?;
        }
        self.topics.extend(commit.new_topics.clone());
        self.apply_published(commit.published);
        if commit.outputs.values().any(OutputCommit::is_to_publish) {
            self.pending.insert(version, commit.outputs.clone());
        }
        self.replay.insert(version, ReplayBatch::new(version, self.watermark, commit));
        let first_needed = commit.replay_from.as_ref().map_or(version + 1, |from| from.version);
        let keep = self.replay_batch(first_needed).map_or(first_needed, |(first, _)| first);
        self.replay = self.replay.split_off(&keep);
        self.replay_from = commit.replay_from.clone();
        if let Some(objects) = &commit.state {
            self.referenced.extend(objects.iter().map(|object| object.path.clone()));
            self.snapshot = Some(Snapshot { version, objects: objects.clone() });
        }
        computed::forget(self);
        self.referenced.extend(paths_of(&commit.references).map(str::to_owned));
        self.references.clone_from(&commit.references);
        if let Some(ends) = &self.plan.window_ends {
            let snapshot = self.snapshot.as_ref().map(|snapshot| snapshot.version);
            let plan = self.computed.keys().next_back().copied();
            replay::merge_last(&mut self.replay, ends, [snapshot, plan]);
        }
        self.watermark = commit.watermark;
        self.clock = commit.clock;
        self.totals = commit.totals.clone();
        self.breaker = commit.breaker;
        self.commits += 1;
        let positions = self.positions();
        for (name, output) in &commit.outputs {
            let known = self.outputs.entry(name.clone()).or_default();
            known.root.clone_from(&output.root);
            known.complete_until = known.complete_until.max(output.complete_until);
            if output.is_to_publish() {
                known.last_file = version;
                known.covered.clone_from(&positions);
            }
        }
        Ok(())
    }

    fn take(&mut self, own: &Own) {
        if self.owner.as_ref().is_some_and(|before| before.rank != own.rank) {
            self.pods.clear();
        }
        if let Some(pod) = own.pod.as_ref().filter(|pod| !self.pods.contains(pod)) {
            self.pods.push(pod.clone());
            let forgotten = self.pods.len().saturating_sub(PODS_MAX);
            self.pods.drain(..forgotten);
        }
        self.owner = Some(own.clone());
    }

    fn apply_plan(&mut self, version: u64, plan: &Plan) {
        // What opened the circuit breaker was changed, or somebody has looked at it.
        if self.plan.fingerprint != plan.fingerprint || self.plan.restart != plan.restart {
            self.breaker = Breaker::default();
        }
        let before = std::mem::replace(&mut self.plan, plan.clone());
        if self.replay_from.is_some() && !Computed::of(&before).is_same(&Computed::of(plan)) {
            self.computed.insert(version, Computed::of(&before));
        }
        self.rename_state(&before);
        if plan.rebuild {
            self.snapshot = None;
            self.computed.clear();
        }
        if before.deduplicate != plan.deduplicate {
            self.remember_otherwise(plan.deduplicate.is_some());
        }
        let covered = self.positions();
        for (name, root) in &plan.outputs {
            let fresh = || OutputState { root: root.clone(), covered: covered.clone(), ..OutputState::default() };
            self.outputs.entry(name.clone()).or_insert_with(fresh).root.clone_from(root);
        }
    }

    /// State goes on under the name that its output has now.
    fn rename_state(&mut self, before: &Plan) {
        let name = |output: &String| decide::successor(before, &self.plan, output).unwrap_or(output).to_owned();
        if let Some(from) = &mut self.replay_from {
            from.outputs = from.outputs.iter().map(|(output, version)| (name(output), *version)).collect();
        }
        for object in self.snapshot.iter_mut().flat_map(|snapshot| &mut snapshot.objects) {
            object.output = name(&object.output);
        }
        for computed in self.computed.values_mut() {
            *computed = computed.renamed(name);
        }
    }

    /// Duplicates are recognised by other keys from here on, or not at all. What was kept before is remembered by the new
    /// keys, once it was read again.
    fn remember_otherwise(&mut self, goes_on: bool) {
        let Some(from) = self.replay_from.as_mut().filter(|from| from.deduplicate.is_some()) else { return };
        if goes_on {
            self.snapshot = None;
            return;
        }
        from.deduplicate = None;
        if from.outputs.is_empty() {
            self.replay_from = None;
        }
        if let Some(snapshot) = &mut self.snapshot {
            snapshot.objects.retain(|object| object.source.is_none());
        }
    }

    fn advance(&mut self, topic: &str, partition: i32, range: &Range) -> Result<(), String> {
        let fresh = PartitionState { position: range.start, ..PartitionState::default() };
        let state = self.partitions.or_insert(topic, partition, fresh);
        for output in self.outputs.values_mut() {
            output.covered.or_insert(topic, partition, range.start);
        }
        if range.start != state.position || range.end < range.start {
            return Err(format!(
                "it covers [{}, {}) of {topic} partition {partition}, which stands at {}",
                range.start, range.end, state.position
            ));
        }
        *state = PartitionState { position: range.end, watermark: range.watermark, active: Some(range.active) };
        Ok(())
    }

    /// What lies between `to` and the rewind's own version is void: only the state at `to` can take it.
    fn apply_rewind(&mut self, version: u64, rewind: &Rewind) -> Result<(), String> {
        if rewind.to != self.version || version <= self.version {
            return Err(format!(
                "it is a rewind to version {}, which is decided and not finished; `data-platform checkpoint rewind` \
                 finishes it",
                rewind.to
            ));
        }
        if rewind.own.epoch <= self.epoch() {
            return Err(format!("it takes epoch {} after epoch {}", rewind.own.epoch, self.epoch()));
        }
        if !rewind.topics.is_empty() {
            self.forget_unreadable(&rewind.topics);
        }
        for (topic, moved) in &rewind.topics {
            self.move_topic(topic, moved, rewind.own.clock);
        }
        self.take(&rewind.own);
        let later = rewind.pods.iter().filter(|pod| !self.pods.contains(pod)).cloned().collect::<Vec<_>>();
        self.pods.extend(later);
        let positions = rewind.topics.iter().map(|(topic, moved)| (topic.clone(), moved.positions.clone())).collect();
        let with_loss = rewind.topics.iter().filter(|(_, moved)| !moved.lost.is_empty());
        let lost = with_loss.map(|(topic, moved)| (topic.clone(), moved.lost.clone())).collect();
        self.rewinds.push(Rewound { version, to: rewind.to, positions, lost });
        Ok(())
    }

    /// Old records of a topic that goes on elsewhere cannot be read again: what the snapshot holds stays, and no rebuild
    /// goes back behind it (see [`JobState::can_replay_all`]).
    fn forget_unreadable(&mut self, topics: &BTreeMap<String, TopicMove>) {
        if let Some(version) = self.usable_snapshot().map(|snapshot| snapshot.version) {
            self.replay = self.replay.split_off(&(version + 1));
        }
        for (topic, moved) in topics {
            for batch in self.replay.values_mut() {
                batch.partitions.retain(|of, partition, _| of != topic || !moved.lost.contains_key(&partition));
            }
        }
    }

    fn move_topic(&mut self, topic: &str, moved: &TopicMove, clock: i64) {
        let is_new = self.topics.insert(topic.to_owned(), moved.id.clone()).as_ref() != Some(&moved.id);
        let known = self.partitions.topic_mut(topic);
        if is_new {
            known.clear();
        }
        for (partition, position) in &moved.positions {
            // Of a new topic nothing is known; its partitions count as active from now on.
            let fresh = PartitionState { active: Some(clock), ..PartitionState::default() };
            known.entry(*partition).or_insert(fresh).position = *position;
        }
        for output in self.outputs.values_mut() {
            let covered = output.covered.topic_mut(topic);
            if is_new {
                covered.clear();
            }
            covered.extend(&moved.positions);
        }
    }

    /// The batch of a rebuild that a version is part of, with its first version.
    pub fn replay_batch(&self, version: u64) -> Option<(u64, &ReplayBatch)> {
        let (first, batch) = self.replay.range(..=version).next_back()?;
        (batch.until.max(*first) >= version).then_some((*first, batch))
    }

    /// The last snapshot, if it holds every window that is open.
    pub fn usable_snapshot(&self) -> Option<&Snapshot> {
        let from = self.replay_from.as_ref()?;
        self.snapshot.as_ref().filter(|snapshot| snapshot.version >= from.version)
    }

    /// Whether the batches from `replay_from` on are all known, so that the state can be rebuilt without a snapshot. They
    /// are, unless a topic was created again since.
    pub fn can_replay_all(&self) -> bool {
        let Some(from) = &self.replay_from else { return true };
        self.replay.keys().next().is_some_and(|first| *first <= from.version)
    }

    fn apply_published(&mut self, upto: u64) {
        self.published = self.published.max(upto);
        self.pending = self.pending.split_off(&(self.published + 1));
    }

    /// Paths of state objects that the last snapshot names.
    pub fn live_objects(&self) -> impl Iterator<Item = &str> {
        self.snapshot.iter().flat_map(|snapshot| &snapshot.objects).map(|object| object.path.as_str())
    }

    /// Paths of the references' objects that a rebuild needs, or the next commit may name again.
    pub fn live_references(&self) -> impl Iterator<Item = &str> {
        self.replay.values().flat_map(|batch| paths_of(&batch.references)).chain(paths_of(&self.references))
    }

    /// Next offset of each partition.
    pub fn positions(&self) -> Partitions<i64> {
        self.partitions.map(|partition| partition.position)
    }

    /// Epoch of the owner; 0 before the first.
    pub fn epoch(&self) -> u64 {
        self.owner.as_ref().map_or(0, |owner| owner.epoch)
    }
}

fn paths_of(references: &[ReferenceVersion]) -> impl Iterator<Item = &str> {
    references.iter().filter_map(|reference| Some(reference.object.as_ref()?.path.as_str()))
}

impl Fold for JobState {
    type Record = Record;

    const RECORDS: &'static str = paths::LOG;
    const BASES: &'static str = paths::BASE;

    fn begin(first: &Record) -> Option<Self> {
        match first {
            Record::Start(start) => Some(Self::begin(start.clone())),
            _ => None,
        }
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn apply(&mut self, version: u64, record: &Record) -> Result<(), FoldError> {
        Self::apply(self, version, record)
    }

    fn closes_gap(record: &Record) -> bool {
        matches!(record, Record::Rewind(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::record::{FileCommit, Published, Rank};

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
}
