//! The decisions of the commit protocol, as functions of facts that were already read.
//!
//! Pure: no I/O, no clock, no randomness. `log` reads the facts and carries the decisions out; the simulation and the
//! exhaustive model drive the same functions. Each variant reads as what happens next.

use std::collections::{BTreeMap, BTreeSet};

use crate::checkpoint::job_state::JobState;
use crate::checkpoint::record::{Own, Plan, Rank};
use crate::storage::{Created, ObjectEntry, paths};

/// A process that wants to run a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Random identity of the process.
    pub owner: String,
    /// Its rank among starters.
    pub rank: Rank,
    /// Identity of its pod, or of the process where there is none.
    pub pod: String,
    /// Host and process id, for people.
    pub place: String,
}

/// What to do about the log when a process starts on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TakeOver {
    /// We own it already.
    GoOn,
    /// Append `own` with this epoch.
    TakeEpoch(u64),
    /// The present owner ranks higher: stop.
    StopFenced(Own),
}

/// Whether a candidate may take the log over.
pub fn take_over(state: &JobState, candidate: &Candidate) -> TakeOver {
    match &state.owner {
        Some(owner) if owner.owner == candidate.owner => TakeOver::GoOn,
        Some(owner) if candidate.rank < owner.rank => TakeOver::StopFenced(owner.clone()),
        Some(owner) if candidate.rank == owner.rank && is_superseded(state, owner, &candidate.pod) => {
            TakeOver::StopFenced(owner.clone())
        }
        owner => TakeOver::TakeEpoch(owner.as_ref().map_or(0, |owner| owner.epoch) + 1),
    }
}

/// Whether a later pod than the candidate's has the job: a container that is started again in an old pod, or a process that
/// was fenced and reads the log again, does not take it back.
fn is_superseded(state: &JobState, owner: &Own, pod: &str) -> bool {
    let place = |pod: &str| state.pods.iter().position(|known| known == pod);
    match (place(pod), owner.pod.as_deref().and_then(place)) {
        (Some(ours), Some(theirs)) => ours < theirs,
        _ => false,
    }
}

/// What the answer to a create means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotDecision {
    /// The slot holds our record.
    Ours,
    /// The slot is still free: try the same bytes again.
    TryAgain,
    /// Somebody else has it, or had it: read the log as at start, never go on in memory.
    Reload,
}

/// Decides who has a slot of the log. `answer` is `None` when nobody knows whether the create happened; `found` is what
/// a read of the slot gave, and is asked for unless the answer is [`Created::Yes`].
pub fn slot(attempt: &[u8], answer: Option<Created>, found: Option<&[u8]>) -> SlotDecision {
    match (answer, found) {
        (Some(Created::Yes), _) => SlotDecision::Ours,
        (_, Some(bytes)) if bytes == attempt => SlotDecision::Ours,
        (_, Some(_)) => SlotDecision::Reload,
        (None, None) => SlotDecision::TryAgain,
        // It was there and is gone: the garbage collection of a newer owner took it.
        (Some(Created::AlreadyExists), None) => SlotDecision::Reload,
    }
}

/// Which slot of the log follows a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextSlot {
    /// The next version, as always.
    Following(u64),
    /// Versions are missing. Only a `rewind` may stand behind such a gap.
    BehindGap(u64),
    /// The log ends.
    End,
}

/// Decides where to read on after `version`, given the versions of all records, ascending.
pub fn next_slot(listed: &[u64], version: u64) -> NextSlot {
    match listed.get(listed.partition_point(|known| *known <= version)) {
        Some(next) if *next == version + 1 => NextSlot::Following(*next),
        Some(next) => NextSlot::BehindGap(*next),
        None => NextSlot::End,
    }
}

/// What a newer base means for a record that was just created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BaseCheck {
    /// Publish it.
    Publish,
    /// The slot was freed by a garbage collection behind our back: remove the record and stop as fenced.
    Withdraw,
}

/// Decides whether a record that was created at `version` may be published.
pub fn base_check(version: u64, bases: &[u64]) -> BaseCheck {
    if bases.iter().any(|base| *base >= version) { BaseCheck::Withdraw } else { BaseCheck::Publish }
}

/// What a file's final name means for its publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishDecision {
    /// It is there with our content.
    Done,
    /// Something else has the name: stop, and touch nothing.
    StopOccupied,
    /// Neither the staged nor the final file is there: stop, it is lost.
    StopLost,
}

/// Decides what to do when a staged file could not be given its final name. `found` is the checksum of what has the
/// final name, if anything has.
pub fn publish(expected_xxh3: &str, found: Option<&str>) -> PublishDecision {
    match found {
        Some(xxh3) if xxh3 == expected_xxh3 => PublishDecision::Done,
        Some(_) => PublishDecision::StopOccupied,
        None => PublishDecision::StopLost,
    }
}

/// What a different plan means for a job that has a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanChange {
    /// Nothing changed.
    Same,
    /// The state fits: append `plan` and go on.
    Compatible,
    /// The open state of these outputs was made by other queries.
    StopChanged {
        /// Names of the outputs, as the log knows them.
        outputs: Vec<String>,
    },
}

/// Decides whether a plan may go on with the state that the log describes. Only outputs with open windows have any. `earlier`
/// are the state fingerprints of the plan's outputs as an earlier version of the program made them.
pub fn plan_change(state: &JobState, plan: &Plan, earlier: &BTreeMap<String, String>) -> PlanChange {
    let before = &state.plan;
    let made_by = |plan: &Plan, output: &String| plan.queries.get(output).map(|query| query.state_fingerprint.clone());
    // A log of format 1 takes up the new form of the state fingerprint, before the job changes in a way that only that allows.
    let is_same_state = plan.queries.keys().all(|output| made_by(before, output) == made_by(plan, output));
    let is_same_job = before.fingerprint == plan.fingerprint && before.window_ends == plan.window_ends;
    if is_same_state && is_same_job && before.outputs == plan.outputs && before.restart == plan.restart {
        return PlanChange::Same;
    }
    let open = state.replay_from.iter().flat_map(|from| from.outputs.keys());
    let fits = |output: &&String| {
        let earlier = earlier.get(*output).cloned();
        successor(before, plan, output).is_some() || earlier.is_some() && earlier == made_by(before, output)
    };
    let outputs: Vec<_> = open.filter(|output| !fits(output)).cloned().collect();
    if outputs.is_empty() { PlanChange::Compatible } else { PlanChange::StopChanged { outputs } }
}

/// The output of `after` that goes on with the state of an output of `before`: the one of the same name, or one that is new
/// and computes the same, since an output may be renamed (the only table of a job is called like its folder).
pub fn successor<'a>(before: &Plan, after: &'a Plan, output: &str) -> Option<&'a str> {
    let made_by = |plan: &Plan, output: &str| plan.queries.get(output).map(|query| query.state_fingerprint.clone());
    let fingerprint = made_by(before, output)?;
    let goes_on = |name: &String| made_by(after, name).as_ref() == Some(&fingerprint);
    if let Some((name, _)) = after.queries.get_key_value(output) {
        return Some(name.as_str()).filter(|_| goes_on(name));
    }
    let mut new = after.queries.keys().filter(|name| !before.queries.contains_key(*name) && goes_on(name));
    let only = new.next()?;
    new.next().is_none().then_some(only)
}

/// What Kafka's identities mean for a job that has a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterCheck {
    /// Everything is as it was; these topics are new.
    Same {
        /// Topics that the log does not know.
        new_topics: BTreeMap<String, String>,
    },
    /// The brokers belong to another cluster.
    StopOtherCluster {
        /// In record 0.
        expected: String,
        /// Answered now.
        found: String,
    },
    /// A topic was deleted and created again.
    StopTopicRecreated {
        /// Its name.
        topic: String,
        /// In the log.
        expected: String,
        /// Answered now.
        found: String,
    },
}

/// Whether that is the id of a topic. Brokers before Kafka 2.8, and other programs that speak its protocol, tell zeros.
pub fn topic_id_is_known(id: &str) -> bool {
    id.bytes().any(|digit| !matches!(digit, b'A' | b'='))
}

/// Compares Kafka's identities with those in the log.
pub fn cluster_check(state: &JobState, cluster_id: &str, topics: &BTreeMap<String, String>) -> ClusterCheck {
    if state.start.cluster_id != cluster_id {
        let (expected, found) = (state.start.cluster_id.clone(), cluster_id.to_owned());
        return ClusterCheck::StopOtherCluster { expected, found };
    }
    let mut new_topics = BTreeMap::new();
    for (topic, found) in topics {
        match state.topics.get(topic) {
            Some(expected) if expected == found => {}
            // Nobody can say whether it is another one; offsets that do not fit are noticed when they are read.
            Some(expected) if !topic_id_is_known(expected) || !topic_id_is_known(found) => {}
            Some(expected) => {
                let (topic, expected, found) = (topic.clone(), expected.clone(), found.clone());
                return ClusterCheck::StopTopicRecreated { topic, expected, found };
            }
            None => {
                new_topics.insert(topic.clone(), found.clone());
            }
        }
    }
    ClusterCheck::Same { new_topics }
}

/// Ids of topics that the log does not have yet: those of new topics, and of topics that had none until the brokers told it.
pub fn ids_to_note<'a>(
    known: &BTreeMap<String, String>,
    told: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> BTreeMap<String, String> {
    let is_new = |topic: &String, id: &String| match known.get(topic) {
        None => true,
        Some(known) => !topic_id_is_known(known) && topic_id_is_known(id),
    };
    told.into_iter().filter(|(topic, id)| is_new(topic, id)).map(|(topic, id)| (topic.clone(), id.clone())).collect()
}

/// Records between two bases. More would make a start read longer, fewer would write more; a start reads at most twice
/// as many, about a millisecond for each hundred on a local disk.
pub const RECORDS_PER_BASE: u64 = 500;

/// Whether a base is due, given the newest one.
pub fn base_is_due(version: u64, newest_base: Option<u64>, records_per_base: u64) -> bool {
    version >= newest_base.unwrap_or(0).saturating_add(records_per_base)
}

/// What may be removed once `bases` (ascending) are durable. The newest two stay, with every record after the older of
/// them; with fewer than two nothing goes.
pub fn garbage_versions(bases: &[u64], log: &[u64]) -> (Vec<u64>, Vec<u64>) {
    let [.., oldest_kept, _] = bases else { return (Vec::new(), Vec::new()) };
    let below = |versions: &[u64], limit: u64| versions.iter().copied().filter(|v| *v < limit).collect();
    (below(bases, *oldest_kept), below(log, oldest_kept + 1))
}

/// State objects, and those of references, that no kept record names. Only those of versions that the newest base covers: a newer owner, of whom a
/// sleeping process knows nothing, may have written later ones, and never names an older one again.
pub fn garbage_state(listed: &[ObjectEntry], kept: &BTreeSet<String>, newest_base: u64) -> Vec<String> {
    let covered = |path: &str| paths::state_version(path).is_some_and(|version| version <= newest_base);
    let unused = listed.iter().filter(|entry| covered(&entry.path) && !kept.contains(&entry.path));
    unused.map(|entry| entry.path.clone()).collect()
}

/// Staged files of a log's superseded epochs that no unpublished commit names. Never by age.
pub fn garbage_staging(listed: &[ObjectEntry], log_id: &str, epoch: u64, pending: &BTreeSet<String>) -> Vec<String> {
    let superseded = |path: &str| paths::staged_by(path).is_some_and(|(log, staged)| log == log_id && staged < epoch);
    let unused = listed.iter().filter(|entry| superseded(&entry.path) && !pending.contains(&entry.path));
    unused.map(|entry| entry.path.clone()).collect()
}

/// Staged files of the logs from which ours took a table over.
pub fn garbage_of_others(listed: &[ObjectEntry], log_id: &str) -> Vec<String> {
    let of_others = |path: &str| paths::staged_by(path).is_some_and(|(log, _)| log != log_id);
    listed.iter().filter(|entry| of_others(&entry.path)).map(|entry| entry.path.clone()).collect()
}

/// Staged files of format 1 that no unpublished commit names. Who has taken the log over writes none, and nobody else may.
pub fn garbage_format1(listed: &[ObjectEntry], pending: &BTreeSet<String>) -> Vec<String> {
    let unused = |path: &str| paths::format1::is_stage(path) && !pending.contains(path);
    listed.iter().filter(|entry| unused(&entry.path)).map(|entry| entry.path.clone()).collect()
}

#[cfg(test)]
mod tests;
