//! What each record does to the state of a job, and which records cannot follow.

use std::collections::BTreeMap;

use super::{
    Computed, FoldError, JobState, OutputState, PartitionState, ReplayBatch, Rewound, Snapshot, computed, paths_of,
    replay,
};
use crate::checkpoint::decide;
use crate::checkpoint::record::{Breaker, Commit, OutputCommit, Own, Plan, Record, Rewind, TopicMove};
use crate::checkpoint::slot_log::Fold;
use crate::offsets::Range;
use crate::storage::paths;

/// Pods that are remembered: a pod that comes back after so many others is none that was kept waiting.
const PODS_MAX: usize = 100;

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

impl JobState {
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

    fn apply_published(&mut self, upto: u64) {
        self.published = self.published.max(upto);
        self.pending = self.pending.split_off(&(self.published + 1));
    }
}
