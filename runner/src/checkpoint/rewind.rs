//! Going back to an earlier version of a log: what that means, decided from facts that were already read.
//!
//! Pure. A rewind never writes into the past: its record stands behind everything that was ever written, so no version, no
//! slot and no file name is used twice, and whoever slept through it finds his slot taken. What lies between is moved
//! aside by [`crate::checkpoint::log::rewind`], which can be interrupted and repeated at any point.
//!
//! ```text
//! before   … 56  57x 58  … 100              57 is damaged
//! decided  … 56  57x 58  … 100  101         101 = rewind {to: 56}; a start refuses the log until it is finished
//! finished … 56                 101 102 …   57 to 100, their bases and the files they wrote are aside
//! ```

use std::collections::{BTreeMap, BTreeSet};

use crate::checkpoint::job_state::{FoldError, JobState};
use crate::checkpoint::record::{FORMAT, Own, Rank, Record, Rewind, TopicMove};
use crate::checkpoint::survey::{Damage, Survey};
use crate::offsets::Partitions;

/// What somebody asks for.
#[derive(Clone, Debug, Default)]
pub struct RewindRequest {
    /// The version to go back to; `None` is the last one before the damage, or simply the last one.
    pub to: Option<u64>,
    /// Topics that go on elsewhere, as Kafka describes them now.
    pub topics: BTreeMap<String, TopicNow>,
    /// Records that nobody can read again may be missing in windows that are open.
    pub accept_loss: bool,
}

/// A topic as Kafka describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicNow {
    /// Its id.
    pub id: String,
    /// End offset of each partition.
    pub ends: BTreeMap<i32, i64>,
}

/// Who goes back, and what the store says of the state.
#[derive(Clone, Debug)]
pub struct RewindFacts {
    /// Random identity of the process.
    pub owner: String,
    /// Host and process id.
    pub place: String,
    /// Now.
    pub clock: i64,
    /// The first object of the snapshot that cannot be used, and why.
    pub damaged_state: Option<String>,
    /// Highest version of a visible file that this log wrote; 0 if there is none. Higher than the log's own last version
    /// when the log was restored from a backup.
    pub highest_file: u64,
}

/// What a rewind does.
#[derive(Clone, Debug)]
pub struct RewindPlan {
    /// Version of its record.
    pub version: u64,
    /// Its record is in the log already: an interrupted rewind goes on.
    pub is_decided: bool,
    /// Its record.
    pub rewind: Rewind,
    /// The job as far as the log can be read now.
    pub before: JobState,
    /// Why it cannot be read on.
    pub damage: Option<Damage>,
    /// The job as it goes on.
    pub after: JobState,
    /// The watermark that `_progress.json` may tell: of what is certainly visible.
    pub visible_watermark: Option<i64>,
    /// Records that are void.
    pub records: Vec<u64>,
    /// Bases that are void or damaged.
    pub bases: Vec<u64>,
    /// Roots of every output that the job ever had, as far as that can be read.
    pub outputs: BTreeSet<String>,
}

/// Why there is no rewind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RewindRefused {
    /// Neither a base nor record 0 can be read.
    #[error(
        "nothing of this log can be read: version {}: {}; begin anew: move the folder away and run the job with --new-log \
         (and --starting-offsets)",
        .0.version, .0.problem
    )]
    NothingReadable(Damage),
    /// The log is whole and nothing else was asked for.
    #[error("the log is whole up to version {version}: say with --to which version to go back to")]
    NothingDamaged {
        /// Its last version.
        version: u64,
    },
    /// No base leads there.
    #[error("version {to} cannot be reached: {reachable}")]
    Unreachable {
        /// The version.
        to: u64,
        /// Which can.
        reachable: String,
    },
    /// Written by a newer program: not damaged.
    #[error(
        "{path} has format {format}, which a newer data-platform wrote: use that one; this one reads formats up to {known}"
    )]
    NewerFormat {
        /// The object.
        path: String,
        /// Its format.
        format: u32,
        /// The newest that this program reads.
        known: u32,
    },
    /// The records contradict each other.
    #[error("the log contradicts itself: {0}")]
    Contradiction(#[from] FoldError),
    /// An interrupted rewind comes first.
    #[error("a rewind to version {to} was interrupted: finish it first, with `checkpoint rewind` and no --to")]
    Unfinished {
        /// Where it goes.
        to: u64,
    },
    /// Not a topic of this job.
    #[error("the job does not read a topic {topic:?}; it reads {known}")]
    UnknownTopic {
        /// The topic.
        topic: String,
        /// Those that it reads.
        known: String,
    },
    /// Neither the id changed nor does a partition end too early.
    #[error(
        "the topic {topic} is the one that the log knows (id {id}), and no partition ends before the job's position: there is \
         nothing to do"
    )]
    SameTopic {
        /// The topic.
        topic: String,
        /// Its id.
        id: String,
    },
    /// Open windows need old records, and no snapshot holds them.
    #[error(
        "windows are open, and their state cannot be used ({problem}), while the old records of the topic cannot be read \
         again: go back with --to to a version whose state is whole ({versions})"
    )]
    StateDamaged {
        /// What is wrong with it.
        problem: String,
        /// Versions with a snapshot.
        versions: String,
    },
    /// Some records were read after the last snapshot.
    #[error(
        "windows are open, and the last snapshot of their state {snapshot}; since then the job read {lost}, which nobody can \
         read again. Either accept that windows which are still open miss these records: --accept-loss (rows that were \
         written stay){alternative}"
    )]
    WouldLose {
        /// Which one it is.
        snapshot: String,
        /// The records.
        lost: String,
        /// The other way out.
        alternative: String,
    },
}

/// The state that a request goes back to.
///
/// # Errors
/// When there is no such state, or no reason to go back.
pub fn target(survey: &Survey, request: &RewindRequest, highest_file: u64) -> Result<JobState, RewindRefused> {
    if let Some((path, format)) = survey.newer_format() {
        return Err(RewindRefused::NewerFormat { path, format, known: FORMAT });
    }
    let head = survey.head();
    let Some(last) = head.state else {
        let nothing = Damage { version: 0, problem: "there is no log".to_owned() };
        return Err(RewindRefused::NothingReadable(head.damage.unwrap_or(nothing)));
    };
    if let Some((_, rewind)) = survey.unfinished_rewind() {
        let other = request.to.is_some_and(|to| to != rewind.to) || !request.topics.is_empty();
        let state = survey.state_at(rewind.to).filter(|_| !other);
        return state.ok_or(RewindRefused::Unfinished { to: rewind.to });
    }
    let is_damaged = head.damage.is_some() || highest_file > survey.last_version();
    match request.to {
        Some(to) if to == last.version => Ok(last),
        Some(to) => survey
            .state_at(to)
            .ok_or_else(|| RewindRefused::Unreachable { to, reachable: reachable(survey, last.version) }),
        None if is_damaged || !request.topics.is_empty() => Ok(last),
        None => Err(RewindRefused::NothingDamaged { version: last.version }),
    }
}

fn reachable(survey: &Survey, last: u64) -> String {
    let oldest = survey.oldest().map_or(last, |state| state.version);
    format!("the log can be followed from version {oldest}, its oldest base, to version {last}, as far as it is whole")
}

/// Decides a rewind to `target`.
///
/// # Errors
/// When state that is needed cannot be had, or a topic is not as the request says.
pub fn plan(
    survey: &Survey,
    target: JobState,
    request: &RewindRequest,
    facts: &RewindFacts,
) -> Result<RewindPlan, RewindRefused> {
    let head = survey.head();
    let before = head.state.unwrap_or_else(|| target.clone());
    let (version, rewind, is_decided) = match survey.unfinished_rewind() {
        Some((version, rewind)) => (version, rewind.clone(), true),
        None => {
            let version = survey.last_version().max(facts.highest_file) + 1;
            let own = Own {
                // An epoch is never higher than the version that took it, so this one is higher than any before.
                epoch: version,
                owner: facts.owner.clone(),
                rank: highest_rank(survey),
                place: facts.place.clone(),
                pod: None,
                partitions: None,
                clock: facts.clock,
            };
            let topics = topic_moves(survey, &target, request, facts)?;
            let pods = before.pods.clone();
            (version, Rewind { to: target.version, own, pods, topics }, false)
        }
    };
    let mut after = target.clone();
    after.apply(version, &Record::Rewind(Box::new(rewind.clone())))?;
    let void = rewind.to + 1..version;
    let bases = survey.bases.iter().filter(|(base, slot)| void.contains(base) || slot.content.is_err());
    Ok(RewindPlan {
        version,
        is_decided,
        visible_watermark: visible_watermark(survey, &after),
        records: survey.records.range(void.clone()).map(|(version, _)| *version).collect(),
        bases: bases.map(|(version, _)| *version).filter(|base| *base < version).collect(),
        outputs: survey.outputs().into_keys().collect(),
        rewind,
        before,
        damage: head.damage,
        after,
    })
}

/// The owner of the newest deployment may go on after the rewind; so may any process that starts later.
fn highest_rank(survey: &Survey) -> Rank {
    let owners = survey.readable().filter_map(|(_, record)| match record {
        Record::Own(own) => Some(own.rank),
        Record::Rewind(rewind) => Some(rewind.own.rank),
        _ => None,
    });
    let of_bases = survey.bases.values().filter_map(|slot| slot.content.as_ref().ok()?.owner.as_ref());
    owners.chain(of_bases.map(|own| own.rank)).max().unwrap_or_default()
}

/// Everything up to the first commit that may not be visible yet.
fn visible_watermark(survey: &Survey, after: &JobState) -> Option<i64> {
    match after.pending.keys().next() {
        None => after.watermark,
        Some(pending) => survey.state_at(pending.saturating_sub(1)).and_then(|state| state.watermark),
    }
}

fn topic_moves(
    survey: &Survey,
    target: &JobState,
    request: &RewindRequest,
    facts: &RewindFacts,
) -> Result<BTreeMap<String, TopicMove>, RewindRefused> {
    let mut moves = BTreeMap::new();
    for (topic, now) in &request.topics {
        let mut moved = topic_move(target, topic, now)?;
        moved.lost = unreadable(target, topic, &moved, target.topics.get(topic) != Some(&now.id));
        moves.insert(topic.clone(), moved);
    }
    let windows_are_open = target.replay_from.is_some();
    if moves.is_empty() || !windows_are_open {
        moves.values_mut().for_each(|moved| moved.lost.clear());
        return Ok(moves);
    }
    if let (Some(_), Some(problem)) = (target.usable_snapshot(), &facts.damaged_state) {
        let versions = snapshot_versions(survey, target.version);
        return Err(RewindRefused::StateDamaged { problem: problem.clone(), versions });
    }
    if moves.values().any(|moved| !moved.lost.is_empty()) && !request.accept_loss {
        return Err(would_lose(target, &moves));
    }
    Ok(moves)
}

/// A topic with a new id goes on at 0 of each partition, a truncated one at the end of those that are too short.
fn topic_move(target: &JobState, topic: &str, now: &TopicNow) -> Result<TopicMove, RewindRefused> {
    let Some(id) = target.topics.get(topic) else {
        let known = target.topics.keys().cloned().collect::<Vec<_>>().join(", ");
        return Err(RewindRefused::UnknownTopic { topic: topic.to_owned(), known });
    };
    let positions: BTreeMap<i32, i64> = if *id == now.id {
        let known = |partition| target.partitions.get(topic, partition);
        let is_short = |(partition, end): &(&i32, &i64)| known(**partition).is_some_and(|state| state.position > **end);
        now.ends.iter().filter(is_short).map(|(partition, end)| (*partition, *end)).collect()
    } else {
        now.ends.keys().map(|partition| (*partition, 0)).collect()
    };
    if positions.is_empty() {
        return Err(RewindRefused::SameTopic { topic: topic.to_owned(), id: id.clone() });
    }
    Ok(TopicMove { id: now.id.clone(), positions, lost: BTreeMap::new() })
}

/// Records that a rebuild of the open windows would have to read and cannot: those since the last snapshot.
fn unreadable(target: &JobState, topic: &str, moved: &TopicMove, is_new: bool) -> BTreeMap<i32, (i64, i64)> {
    let first = target.usable_snapshot().map_or(0, |snapshot| snapshot.version + 1);
    let mut lost: BTreeMap<i32, (i64, i64)> = BTreeMap::new();
    for batch in target.replay.range(first..).map(|(_, batch)| batch) {
        for (partition, range) in batch.partitions.topic(topic) {
            let is_gone = is_new || moved.positions.get(&partition).is_some_and(|end| range.end > *end);
            if range.records > 0 && is_gone {
                let known = lost.entry(partition).or_insert((range.start, range.end));
                *known = (known.0.min(range.start), known.1.max(range.end));
            }
        }
    }
    lost
}

fn would_lose(target: &JobState, moves: &BTreeMap<String, TopicMove>) -> RewindRefused {
    let of = |(topic, moved): (&String, &TopicMove)| ranges_text(topic, &moved.lost);
    let lost = moves.iter().map(of).filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" and ");
    let snapshot = target.usable_snapshot();
    let alternative = snapshot.map(|snapshot| {
        let version = snapshot.version;
        format!(
            "; or go back to version {version} with --to {version}, which also takes back the rows that were written since \
             (the preview shows them)"
        )
    });
    RewindRefused::WouldLose {
        snapshot: snapshot
            .map_or("does not exist".to_owned(), |snapshot| format!("is of version {}", snapshot.version)),
        lost,
        alternative: alternative.unwrap_or_default(),
    }
}

/// Offsets of a topic for people: `topic partition 0 offsets [3, 9)`.
pub fn ranges_text(topic: &str, ranges: &BTreeMap<i32, (i64, i64)>) -> String {
    let of = |(partition, (start, end)): (&i32, &(i64, i64))| format!("partition {partition} offsets [{start}, {end})");
    if ranges.is_empty() {
        String::new()
    } else {
        format!("{topic} {}", ranges.iter().map(of).collect::<Vec<_>>().join(", "))
    }
}

/// Versions up to `last` that hold a snapshot, newest first.
pub fn snapshot_versions(survey: &Survey, last: u64) -> String {
    let snapshots =
        survey.readable().filter(|(version, _)| *version <= last).filter_map(|(version, record)| match record {
            Record::Commit(commit) if commit.state.is_some() => Some(version.to_string()),
            _ => None,
        });
    let mut versions: Vec<_> = snapshots.collect();
    versions.reverse();
    versions.truncate(5);
    if versions.is_empty() { "there is none in the log".to_owned() } else { versions.join(", ") }
}

/// What must still be in Kafka for the job to go on: first offset of each partition that is read again or on.
pub fn needed_offsets(after: &JobState, state_is_whole: bool) -> Partitions<i64> {
    let mut needed = after.positions();
    let first = after.usable_snapshot().filter(|_| state_is_whole).map_or(0, |snapshot| snapshot.version + 1);
    for batch in after.replay.range(first..).map(|(_, batch)| batch) {
        for (topic, partition, range) in batch.partitions.iter().filter(|(.., range)| range.records > 0) {
            let start = range.lost_until.unwrap_or(range.start);
            let known = needed.or_insert(topic, partition, start);
            *known = (*known).min(start);
        }
    }
    needed
}

#[cfg(test)]
mod tests;
