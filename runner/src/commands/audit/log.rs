//! What the records say: ranges without gaps, counters that add up, and which files there must be.
//!
//! Pure: over a survey that was read.

use crate::checkpoint::job_state::{JobState, PartitionState};
use crate::checkpoint::record::{Commit, FileCommit, Plan, Record};
use crate::checkpoint::survey::Survey;
use crate::offsets::Partitions;

use super::chain::{Chains, Covered};
use super::counting;

/// A log that was followed to its end.
pub(super) struct AuditedLog {
    /// The job before the first record that was followed: record 0, or the oldest base that leads to the end.
    pub(super) begin: JobState,
    /// The job as of the last record.
    pub(super) end: JobState,
    /// Offsets of each partition since record 0, or since its topic was created again.
    pub(super) covered: Partitions<Covered>,
    /// Files that the followed commits wrote.
    pub(super) files: Vec<ExpectedFile>,
    /// Records that the followed commits read; only of partitions that were followed from their first offset.
    records: Partitions<u64>,
}

/// A file that a commit wrote.
pub(super) struct ExpectedFile {
    /// Name of the output.
    pub(super) output: String,
    /// Batch clock of the commit, as far as it is known.
    pub(super) clock: i64,
    /// Version of the commit.
    pub(super) version: u64,
    /// What the commit says of it.
    pub(super) file: FileCommit,
    /// Offsets that its footer must name; `None` if its record is gone.
    pub(super) offsets: Option<Partitions<(i64, i64)>>,
    /// The commit is not known to be published.
    pub(super) may_be_staged: bool,
}

impl AuditedLog {
    /// Records of a partition since its first offset; `None` if older records of the log are gone.
    pub(super) fn records_of(&self, topic: &str, partition: i32) -> Option<u64> {
        if self.begin.version > 0 {
            return None;
        }
        Some(self.records.at(topic, partition).unwrap_or_default())
    }
}

/// Follows a log, and names everything that does not fit.
pub(super) fn follow(survey: &Survey) -> (Option<AuditedLog>, Vec<String>) {
    let mut problems = Vec::new();
    let head = survey.head();
    if let Some(damage) = &head.damage {
        problems.push(format!(
            "the log cannot be followed to its end: version {}: {}; see `data-platform checkpoint verify`",
            damage.version, damage.problem
        ));
    }
    if let Some((version, rewind)) = survey.unfinished_rewind() {
        problems.push(format!("a rewind to version {} (version {version}) is not finished", rewind.to));
    }
    let Some(end) = head.state else { return (None, problems) };
    let begin = begin(survey, &end);
    let mut chains = Chains::from(&begin.positions());
    let mut files = pending_files(&begin);
    let mut records: Partitions<u64> = Partitions::new();
    let (reached, _) = survey.walk(begin.clone(), end.version, |before, record, after| match record {
        Record::Commit(commit) => {
            for (topic, partition, range) in commit.partitions.iter() {
                let fits = chains.add(topic, partition, range.start, range.end);
                problems.extend(fits.err().map(|problem| format!("version {}: {problem}", after.version)));
                *records.or_insert(topic, partition, 0) += range.records;
            }
            let unsound = counting::of_commit(commit, &before.totals, &after.plan);
            problems.extend(unsound.into_iter().map(|problem| format!("version {}: {problem}", after.version)));
            files.extend(files_of(commit, before, after));
        }
        Record::Rewind(rewind) => {
            let moved = rewind.topics.iter().map(|(topic, moved)| (topic.clone(), moved.positions.clone())).collect();
            chains.restart(&moved);
        }
        _ => {}
    });
    for expected in &mut files {
        expected.may_be_staged = reached.pending.contains_key(&expected.version);
    }
    let always: Vec<_> = counting::query_outputs(&end.plan);
    // An output that came later, or read other sources once, did not see every record.
    let sources = |plan: &Plan, name: &str| plan.queries.get(name).map(|query| query.sources.clone());
    let is_as_at_start = |name: &&str| {
        let begun = sources(&end.start.plan, name);
        begun.as_ref().is_some_and(Vec::is_empty) || begun == sources(&end.plan, name)
    };
    let always: Vec<_> = always.into_iter().filter(is_as_at_start).collect();
    let unsound = counting::conservation(&end.totals, &end.plan, &always);
    problems.extend(unsound.into_iter().map(|problem| format!("in total: {problem}")));
    problems.extend(chains.ends_at(&end.positions()));
    let covered = since_the_beginning(&end);
    (Some(AuditedLog { begin, end, covered, files, records }), problems)
}

/// The oldest state from which the records lead to the end.
fn begin(survey: &Survey, end: &JobState) -> JobState {
    let bases = survey.bases.values().filter_map(|slot| slot.content.as_ref().ok());
    let candidates = survey.oldest().into_iter().chain(bases.cloned());
    let leads = |state: &JobState| survey.walk(state.clone(), end.version, |_, _, _| ()).0.version == end.version;
    candidates.filter(leads).min_by_key(|state| state.version).unwrap_or_else(|| end.clone())
}

/// Where each partition began and stands now.
fn since_the_beginning(end: &JobState) -> Partitions<Covered> {
    end.partitions.map_at(|topic, partition, state| {
        let moved = end.rewinds.iter().rev().find_map(|rewound| rewound.positions.at(topic, partition));
        // A partition that came later begins at its first offset that the log knows of: 0, unless Kafka had less.
        let first = moved.or(end.start.offsets.at(topic, partition)).unwrap_or_default();
        Covered { first, next: state.position }
    })
}

/// Files of commits before the beginning that were decided and not noted as published.
fn pending_files(begin: &JobState) -> Vec<ExpectedFile> {
    let mut files = Vec::new();
    for (version, outputs) in &begin.pending {
        for (name, output) in outputs {
            let of = |file: &FileCommit| ExpectedFile {
                output: name.clone(),
                clock: begin.clock,
                version: *version,
                file: file.clone(),
                offsets: None,
                may_be_staged: false,
            };
            files.extend(output.files.iter().map(of));
        }
    }
    files
}

fn files_of(commit: &Commit, before: &JobState, after: &JobState) -> Vec<ExpectedFile> {
    let mut files = Vec::new();
    for (name, output) in &commit.outputs {
        let offsets = covered_by(name, commit, before, after);
        for file in &output.files {
            let (output, clock, version, file) = (name.clone(), commit.clock, after.version, file.clone());
            let offsets = Some(offsets.clone());
            files.push(ExpectedFile { output, clock, version, file, offsets, may_be_staged: false });
        }
    }
    files
}

/// Offsets since the last file of an output: what the footers of a commit must name.
fn covered_by(name: &str, commit: &Commit, before: &JobState, after: &JobState) -> Partitions<(i64, i64)> {
    let known = before.outputs.get(name).map(|output| &output.covered);
    let range = |(topic, partition, state): (_, _, &PartitionState)| {
        let since = known.and_then(|known| known.at(topic, partition));
        let first = commit.partitions.get(topic, partition).map(|range| range.start);
        let start = since.or(first).unwrap_or(state.position);
        (state.position > start).then_some((topic, partition, (start, state.position)))
    };
    after.partitions.iter().filter_map(range).collect()
}
