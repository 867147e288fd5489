//! The whole job as of one version of its log: what folding the records gives, and what a base holds.
//!
//! Pure. Everything that the next micro-batch, a recovery, a rebuild or a garbage collection must know stands here, so
//! that a base can replace all records before it.

mod computed;
mod fold;
pub mod replay;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::checkpoint::record::{Breaker, OutputCommit, Own, Plan, ReferenceVersion, ReplayFrom, Start, StateObject};
use crate::counters::Counters;
use crate::offsets::Partitions;

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

    /// Staged files that commits need which are not published yet.
    pub fn pending_stages(&self) -> BTreeSet<String> {
        let written = self.pending.values().flat_map(BTreeMap::values);
        written.flat_map(|written| &written.files).map(|file| file.stage.clone()).collect()
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

#[cfg(test)]
mod tests;
