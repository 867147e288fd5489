//! `checkpoint verify`: reads everything that a job's log is and names, and says what is not as it was written.
//!
//! Reads only. A job that runs meanwhile may remove what is garbage: then everything is read again.

mod objects;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::checkpoint::decide::{self, NextSlot};
use crate::checkpoint::job_state::JobState;
use crate::checkpoint::log::OpenOutput;
use crate::checkpoint::owner;
use crate::checkpoint::progress::read_progress;
use crate::checkpoint::record::{FileCommit, OutputCommit, Record, RecordError};
use crate::checkpoint::survey::Survey;
use crate::commands::error::CommandError;
use crate::commands::{bytes, grouped, list};
use crate::storage::{SharedStore, StoreError, paths};

pub(super) use self::objects::object_problem;
use super::outputs::{files as files_of, listed as listed_of, table};
use super::{FileState, JobPlace, Retention, check_listed, output_opener, sees_tables, store_failed};

/// How often everything is read again when the job went on meanwhile.
const READS_MAX: u32 = 5;

/// What to do about a damaged log.
const REWIND: &str =
    "`data-platform checkpoint rewind JOB` goes back to the last good version, and shows before what that means";

/// A group of facts that were checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Check {
    name: &'static str,
    /// What was looked at.
    pub(super) found: String,
    problems: Vec<Problem>,
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    path: String,
    problem: String,
    cure: String,
}

impl Check {
    pub(super) fn new(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, found: found.into(), problems: Vec::new() }
    }

    /// Notes something that is not as it was written.
    pub(super) fn bad(&mut self, path: impl Into<String>, problem: impl Into<String>, cure: impl Into<String>) {
        self.problems.push(Problem { path: path.into(), problem: problem.into(), cure: cure.into() });
    }

    pub(super) fn is_good(&self) -> bool {
        self.problems.is_empty()
    }
}

/// The text of the command, and whether everything is good.
pub(super) async fn verify(place: &JobPlace, retention: Retention) -> Result<(String, bool), CommandError> {
    sees_tables(place).await?;
    let checks = stable_checks(place, retention).await.map_err(store_failed)?;
    Ok(text(place, &checks))
}

/// What was found, and whether everything is good.
pub(super) fn text(place: &JobPlace, checks: &[Check]) -> (String, bool) {
    let is_good = checks.iter().all(Check::is_good);
    let mut shown = list(&["check", "found", ""]);
    let mut details = String::new();
    for check in checks {
        let verdict = if check.is_good() { "ok".to_owned() } else { format!("{} bad", check.problems.len()) };
        shown.add_row([check.name.to_owned(), check.found.clone(), verdict]);
        for Problem { path, problem, cure } in &check.problems {
            let _ = writeln!(details, "\n{path}: {problem}\n  what to do: {cure}");
        }
    }
    (format!("{} in {}\n{shown}\n{details}", place.name, place.location), is_good)
}

/// Checks until nothing is bad, or the log stands still.
async fn stable_checks(place: &JobPlace, retention: Retention) -> Result<Vec<Check>, StoreError> {
    let store = &place.store;
    let mut survey = Survey::read(store).await?;
    for _ in 0..READS_MAX {
        let checks = all_checks(place, &survey, retention).await?;
        let now = Survey::read(store).await?;
        let stands_still = now.last_version() == survey.last_version() && now.bases.len() == survey.bases.len();
        if stands_still || checks.iter().all(Check::is_good) {
            return Ok(checks);
        }
        survey = now;
    }
    all_checks(place, &survey, retention).await
}

/// Every check of a job's folder and of its outputs.
pub(super) async fn all_checks(
    place: &JobPlace,
    survey: &Survey,
    retention: Retention,
) -> Result<Vec<Check>, StoreError> {
    let store = &place.store;
    let mut checks = vec![records(store, survey), bases(store, survey), objects::of_state(store, survey).await?];
    checks.extend(objects::of_references(store, survey).await?);
    let Some(state) = survey.head().state else { return Ok(checks) };
    let open = output_opener(survey, place.outputs.as_ref()).await;
    checks.push(files(&open, survey, &state, retention).await?);
    let (progress, staging) = outputs(&open, &state).await?;
    checks.extend([progress, staging]);
    Ok(checks)
}

fn cure(error: &RecordError) -> String {
    match error {
        RecordError::Format { .. } => "use the newer data-platform that wrote it".to_owned(),
        _ => REWIND.to_owned(),
    }
}

/// Every record is readable, and each can follow the one before it.
fn records(store: &SharedStore, survey: &Survey) -> Check {
    let size: u64 = survey.records.values().map(|slot| slot.bytes).sum();
    let versions: Vec<_> = survey.records.keys().copied().collect();
    let range = match (versions.first(), versions.last()) {
        (Some(first), Some(last)) => {
            format!("{} records, versions {first} to {last}, {}", grouped(versions.len() as u64), bytes(size))
        }
        _ => "no records".to_owned(),
    };
    let mut check = Check::new("log records", range);
    let shown = |version: u64| format!("{}/{}", store.root(), paths::log_record(version));
    // A damaged record below a readable base is never read again by a start.
    let newest_base =
        survey.bases.iter().filter(|(_, slot)| slot.content.is_ok()).map(|(version, _)| *version).next_back();
    let harmless = format!(
        "nothing: a start reads from base {} on; the next garbage collection removes it",
        newest_base.unwrap_or_default()
    );
    for (version, slot) in &survey.records {
        if let Err(error) = &slot.content {
            let is_needed = newest_base.is_none_or(|base| *version > base);
            check.bad(shown(*version), error.to_string(), if is_needed { cure(error) } else { harmless.clone() });
        }
    }
    if let Some((version, rewind)) = survey.unfinished_rewind() {
        check.bad(
            shown(version),
            format!("the rewind to version {} is not finished", rewind.to),
            "`data-platform checkpoint rewind JOB --yes` goes on with it",
        );
        return check;
    }
    gaps(&mut check, survey, &shown);
    match survey.head() {
        head if head.state.is_none() => {
            let problem = head.damage.map_or_else(String::new, |damage| damage.problem);
            check.bad(shown(0), problem, "begin anew: move the folder away and run the job with --new-log");
        }
        head => {
            // Damaged and missing records are named above; what is left are contradictions.
            let contradiction = head
                .damage
                .filter(|damage| survey.records.get(&damage.version).is_some_and(|slot| slot.content.is_ok()));
            if let Some(damage) = contradiction {
                check.bad(shown(damage.version), damage.problem, REWIND);
            }
        }
    }
    check
}

/// Versions are missing only where a rewind says so, and below the oldest base.
fn gaps(check: &mut Check, survey: &Survey, shown: &dyn Fn(u64) -> String) {
    let versions: Vec<_> = survey.records.keys().copied().collect();
    let newest_base =
        survey.bases.iter().filter(|(_, slot)| slot.content.is_ok()).map(|(version, _)| *version).next_back();
    for version in &versions {
        let NextSlot::BehindGap(next) = decide::next_slot(&versions, *version) else { continue };
        let is_rewind = matches!(&survey.records[&next].content, Ok(Record::Rewind(rewind)) if rewind.to == *version);
        if is_rewind {
            continue;
        }
        let missing = if next == version + 2 {
            "it is missing".to_owned()
        } else {
            format!("it and all before version {next} are missing")
        };
        let is_needed = newest_base.is_none_or(|base| next > base + 1);
        let cure = if is_needed { REWIND } else { "nothing: a start reads from a later base on" };
        check.bad(shown(version + 1), missing, cure);
    }
    let first = versions.first().copied().unwrap_or_default();
    let begins = first == 0 || survey.bases.keys().any(|base| base + 1 >= first);
    if !begins {
        check.bad(shown(0), format!("the log begins with version {first} and no base leads to it"), REWIND);
    }
}

/// Every base is readable, is the one that the log names, and is what the records before it add up to.
fn bases(store: &SharedStore, survey: &Survey) -> Check {
    let mut compared = 0;
    let mut check = Check::new("bases", "");
    let shown = |version: u64| format!("{}/{}", store.root(), paths::base(version));
    for (version, slot) in &survey.bases {
        let base = match &slot.content {
            Ok(base) => base,
            Err(error) => {
                let others = survey.head().damage.is_none();
                let cure = match error {
                    RecordError::Format { .. } => cure(error),
                    _ if others => "nothing: a start goes around it, and the next two bases replace it".to_owned(),
                    _ => REWIND.to_owned(),
                };
                check.bad(shown(*version), error.to_string(), cure);
                continue;
            }
        };
        if let Some(Record::Base(named)) =
            survey.records.get(&(version + 1)).and_then(|slot| slot.content.as_ref().ok())
            && named.version == *version
            && (named.bytes, &named.xxh3) != (slot.bytes, &slot.xxh3)
        {
            check.bad(shown(*version), "it is not the one that the record after it names", REWIND);
        }
        if let Some(folded) = survey.folded(*version) {
            compared += 1;
            if folded != *base {
                let cure = "report this: data-platform wrote a base that its records contradict";
                check.bad(shown(*version), "it is not what the records before it add up to", cure);
            }
        }
    }
    check.found = format!("{} bases, {compared} compared with the records before them", survey.bases.len());
    check
}

/// Every file that the kept log names lies where readers find it, or is staged if it is not published yet.
async fn files(
    open: &OpenOutput,
    survey: &Survey,
    state: &JobState,
    retention: Retention,
) -> Result<Check, StoreError> {
    let mut check = Check::new("files", "");
    let (mut number, mut size, mut staged, mut removed) = (0_u64, 0_u64, 0_u64, 0_u64);
    let (mut replaced, mut logs) = (0_u64, BTreeMap::new());
    for (version, (clock, outputs)) in reachable_files(survey) {
        let may_be_staged = state.pending.contains_key(&version);
        for output in outputs.values().filter(|output| !output.files.is_empty()) {
            let store = table(open, &output.root)?;
            if !logs.contains_key(&output.root) {
                logs.insert(output.root.clone(), listed_of(open, &output.root).await?);
            }
            let listed = logs.get(&output.root).and_then(Option::as_ref);
            for file in &output.files {
                let found = check_listed(&store, listed, file, may_be_staged).await?;
                number += 1;
                let Some(found) = found else {
                    replaced += 1;
                    continue;
                };
                if found == FileState::Missing && retention.covers(&file.path, clock) {
                    removed += 1;
                    continue;
                }
                size += file.bytes;
                staged += u64::from(found == FileState::Staged);
                if let Some(problem) = found.problem(file) {
                    check.bad(
                        format!("{}/{}", store.root(), file.path),
                        format!("{problem} (version {version})"),
                        file_cure(file, if found == FileState::Missing { retention.hint() } else { "" }),
                    );
                }
            }
        }
    }
    check.found = format!("{} of the log's files, {}", grouped(number), bytes(size));
    if staged > 0 {
        let _ = write!(check.found, "; {staged} staged, the next start publishes them");
    }
    if replaced > 0 {
        let _ = write!(check.found, "; the table has replaced {replaced} of them since");
    }
    if removed > 0 {
        let _ = write!(check.found, "; {removed} of them were removed on purpose, as was said");
    }
    Ok(check)
}

fn file_cure(file: &FileCommit, hint: &str) -> String {
    format!(
        "bring it back from a backup ({} bytes, {} rows){hint}; or go back to the version before it with `data-platform \
         checkpoint rewind JOB --to VERSION`, which reads its records again",
        file.bytes, file.rows
    )
}

/// Files of the commits that are part of the job, as far as records are kept.
fn reachable_files(survey: &Survey) -> BTreeMap<u64, (i64, BTreeMap<String, OutputCommit>)> {
    let mut files = BTreeMap::new();
    let Some(oldest) = survey.oldest() else { return files };
    // Commits that a base still waits to see published are older than any record.
    files.extend(oldest.pending.iter().map(|(version, outputs)| (*version, (oldest.clock, outputs.clone()))));
    let (end, _) = survey.walk(oldest, u64::MAX, |_, record, after| {
        if let Record::Commit(commit) = record {
            files.insert(after.version, (commit.clock, commit.outputs.clone()));
        }
    });
    if let Some(head) = survey.head().state.filter(|head| head.version > end.version) {
        // A damaged record lies between: what follows the newest base is known all the same.
        let newest = survey.bases.iter().rev().find(|(_, slot)| slot.content.is_ok());
        if let Some((_, slot)) = newest
            && let Ok(base) = &slot.content
        {
            survey.walk(base.clone(), head.version, |_, record, after| {
                if let Record::Commit(commit) = record {
                    files.insert(after.version, (commit.clock, commit.outputs.clone()));
                }
            });
        }
    }
    files
}

/// What outputs say of themselves, and what was left in their staging folders.
async fn outputs(open: &OpenOutput, state: &JobState) -> Result<(Check, Check), StoreError> {
    let mut progress = Check::new("progress", "");
    let mut told_by = 0;
    let mut staged = 0;
    for (name, root) in &state.plan.outputs {
        let Some(store) = files_of(open, root)? else { continue };
        let has_files = state.outputs.get(name).is_some_and(|output| output.last_file > 0);
        let path = shown(&store, paths::PROGRESS);
        if let Some(owned) = owner::newest(&store).await?.filter(|owned| owned.owner.log_id != state.start.log_id) {
            progress.bad(
                shown(&store, paths::OWNER),
                format!("the table belongs to another log: {} ({})", owned.owner.log_id, owned.owner.job),
                "give one of the two jobs another sink.path",
            );
            continue;
        }
        let written_again = "nothing: the job writes it again with its next commit";
        match read_progress(&store).await? {
            None if !has_files => {}
            None => progress.bad(path, "it is missing or cannot be read", written_again),
            Some(told) if told.published > state.version => progress.bad(
                path,
                format!(
                    "it tells of version {}, the log ends with {}: was the log restored from a backup?",
                    told.published, state.version
                ),
                REWIND,
            ),
            Some(told) if told.published < state.published => {
                progress.bad(
                    path,
                    format!("it tells of version {}, the log of {}", told.published, state.published),
                    written_again,
                );
            }
            Some(_) => told_by += 1,
        }
        let pending = state.pending_stages();
        for folder in [paths::STAGING, paths::format1::STAGING] {
            let left = store.list(folder).await?;
            staged += left.iter().filter(|entry| !pending.contains(&entry.path)).count();
        }
    }
    progress.found = format!("{told_by} of {} outputs", state.plan.outputs.len());
    let found = match staged {
        0 => "nothing left over".to_owned(),
        staged => format!("{staged} files left over; the next start of the job removes those of owners before it"),
    };
    Ok((progress, Check::new("staging", found)))
}

/// An object of a table for people.
pub(super) fn shown(store: &SharedStore, path: &str) -> String {
    store.file(path).map_or_else(|| format!("{}/{path}", store.root()), |file| file.display().to_string())
}
