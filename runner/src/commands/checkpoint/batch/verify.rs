//! `checkpoint verify` of a batch job: reads its log and every file that the log names.

use std::collections::{BTreeMap, BTreeSet};

use crate::checkpoint::log::OpenOutput;
use crate::checkpoint::progress::read_progress;
use crate::commands::checkpoint::outputs::Tables;
use crate::commands::checkpoint::verify::{Check, shown, text};
use crate::commands::checkpoint::{FileState, JobPlace, Retention, check_listed, outputs, store_failed};
use crate::commands::error::CommandError;
use crate::commands::{bytes, grouped};
use crate::pipeline::batch::interval::{Grid, Interval};
use crate::pipeline::batch::log::{DAMAGED_CURE, Record, Replace, State, base_path, record_path};
use crate::pipeline::batch::survey::{BatchSurvey, Replacement, visible_files};
use crate::storage::{SharedStore, StoreError, paths};

/// How often everything is read again when a run went on meanwhile.
const READS_MAX: u32 = 5;

/// The text of the command, and whether everything is good.
pub(in crate::commands::checkpoint) async fn verify(
    place: &JobPlace,
    retention: Retention,
) -> Result<(String, bool), CommandError> {
    sees_table(place).await?;
    let checks = stable_checks(place, retention).await.map_err(store_failed)?;
    Ok(text(place, &checks))
}

/// Refuses to judge the files of a job whose table is not to be seen from here.
async fn sees_table(place: &JobPlace) -> Result<(), CommandError> {
    let survey = BatchSurvey::read(&place.store).await.map_err(store_failed)?;
    let Some(state) = survey.head().state else { return Ok(()) };
    let replacements = survey.replacements();
    let with_files = replacements.values().filter(|decision| decision.replace.files().next().is_some());
    let newest = with_files.max_by_key(|decision| decision.version);
    let roots: Vec<_> = newest.iter().flat_map(|decision| decision.replace.roots().cloned()).collect();
    let tables = Tables { log_id: &state.start.log_id, roots: &roots, outputs: place.outputs.as_ref() };
    tables.are_seen_by(&place.name).await
}

/// Checks until nothing is bad, or the log stands still.
async fn stable_checks(place: &JobPlace, retention: Retention) -> Result<Vec<Check>, StoreError> {
    let store = &place.store;
    let mut survey = BatchSurvey::read(store).await?;
    for _ in 0..READS_MAX {
        let checks = all_checks(place, &survey, retention).await?;
        let now = BatchSurvey::read(store).await?;
        if now.last_version() == survey.last_version() || checks.iter().all(Check::is_good) {
            return Ok(checks);
        }
        survey = now;
    }
    all_checks(place, &survey, retention).await
}

async fn all_checks(place: &JobPlace, survey: &BatchSurvey, retention: Retention) -> Result<Vec<Check>, StoreError> {
    let store = &place.store;
    let mut checks = vec![records(store, survey), bases(store, survey)];
    let Some(state) = survey.head().state else { return Ok(checks) };
    let replacements = survey.replacements();
    let roots: BTreeSet<_> = replacements.values().flat_map(|decision| decision.replace.roots().cloned()).collect();
    let newest = replacements.values().max_by_key(|decision| decision.version);
    let current: Vec<_> = newest.iter().flat_map(|decision| decision.replace.roots().cloned()).collect();
    let open = outputs::opener(&state.start.log_id, &roots, &current, place.outputs.as_ref()).await;
    checks.push(files(&open, &replacements, &state, retention).await?);
    for root in newest.iter().flat_map(|newest| newest.replace.roots()) {
        checks.push(progress(&outputs::table(&open, root)?, &state).await?);
    }
    checks.push(staging(&open, &roots, &state).await?);
    Ok(checks)
}

/// Every record is readable, none is missing, and decisions are those of who had the turn.
fn records(store: &SharedStore, survey: &BatchSurvey) -> Check {
    let size: u64 = survey.records.values().map(|slot| slot.bytes).sum();
    let found = match (survey.records.keys().next(), survey.records.keys().last()) {
        (Some(first), Some(last)) => {
            format!("{} records, versions {first} to {last}, {}", grouped(survey.records.len() as u64), bytes(size))
        }
        _ => "no records".to_owned(),
    };
    let mut check = Check::new("log records", found);
    let shown = |version: u64| format!("{}/{}", store.root(), record_path(version));
    let base = survey.newest_base().map(|base| base.version);
    for (version, slot) in &survey.records {
        let Err(error) = &slot.content else { continue };
        let cure = match base.filter(|base| version <= base) {
            Some(base) => format!("nothing: a run reads from base {base} on"),
            None => DAMAGED_CURE.to_owned(),
        };
        check.bad(shown(*version), error.to_string(), cure);
    }
    // A record that is there and cannot be read is named above.
    let damage = survey.head().damage.filter(|damage| !survey.records.contains_key(&damage.version));
    if let Some(damage) = damage {
        check.bad(shown(damage.version), damage.problem, DAMAGED_CURE);
    }
    let mut epoch = None;
    for (version, slot) in survey.kept() {
        let theirs = match &slot.content {
            Ok(Record::Own(own)) => {
                epoch = Some(own.epoch);
                continue;
            }
            Ok(Record::Replace(replace)) => replace.epoch,
            Ok(Record::Replaced { epoch } | Record::Release { epoch }) => *epoch,
            Ok(Record::Start(_)) => continue,
            Err(_) => {
                // Who has the turn after it is not known.
                epoch = None;
                continue;
            }
        };
        if let Some(epoch) = epoch.filter(|epoch| *epoch != theirs) {
            let problem = format!("it is of epoch {theirs}, but the run of epoch {epoch} had the turn");
            check.bad(shown(*version), problem, "report this: data-platform let two runs write at once");
        }
    }
    check
}

/// Every base is readable, and is what the records before it add up to.
fn bases(store: &SharedStore, survey: &BatchSurvey) -> Check {
    let mut compared = 0;
    let mut check = Check::new("bases", "");
    for (version, slot) in &survey.bases {
        let path = format!("{}/{}", store.root(), base_path(*version));
        match (&slot.content, survey.folded(*version)) {
            (Err(error), _) => {
                let is_needed = survey.head().damage.is_some();
                let around = "nothing: a run goes around it, and the next two bases replace it";
                check.bad(path, error.to_string(), if is_needed { DAMAGED_CURE } else { around });
            }
            (Ok(base), Some(folded)) => {
                compared += 1;
                if *base != folded {
                    let cure = "report this: data-platform wrote a base that its records contradict";
                    check.bad(path, "it is not what the records before it add up to", cure);
                }
            }
            (Ok(_), None) => {}
        }
    }
    check.found = format!("{} bases, {compared} compared with the records before them", survey.bases.len());
    check
}

/// Every file that the log names lies where readers find it, or is staged if it is not published yet.
async fn files(
    open: &OpenOutput,
    replacements: &BTreeMap<Interval, Replacement>,
    state: &State,
    retention: Retention,
) -> Result<Check, StoreError> {
    let mut check = Check::new("files", "");
    let (mut size, mut staged, mut removed, mut replaced) = (0, 0, 0, 0);
    let mut logs = BTreeMap::new();
    let files = visible_files(replacements);
    for (decision, root, file) in &files {
        let output = outputs::table(open, root)?;
        if !logs.contains_key(root) {
            logs.insert(*root, outputs::listed(open, root).await?);
        }
        let listed = logs.get(root).and_then(Option::as_ref);
        let Some(mut found) = check_listed(&output, listed, file, decision.is_pending).await? else {
            replaced += 1;
            continue;
        };
        if decision.is_pending && !matches!(found, FileState::Good | FileState::Staged) {
            // The file that it replaces lies in its place.
            let is_staged = output.length(&file.stage).await? == Some(file.bytes);
            found = if is_staged { FileState::Staged } else { found };
        }
        if found == FileState::Missing && retention.covers(&file.path, decision.replace.clock) {
            removed += 1;
            continue;
        }
        size += file.bytes;
        staged += usize::from(found == FileState::Staged);
        if let Some(problem) = found.problem(file) {
            let problem = format!("{problem} (version {})", decision.version);
            let hint = if found == FileState::Missing { retention.hint() } else { "" };
            let cure = format!("{}{hint}", again(state, &decision.replace));
            check.bad(format!("{}/{}", output.root(), file.path), problem, cure);
        }
    }
    let all: usize =
        state.finished.stretches().iter().map(|all| state.start.grid.between(all.start, all.end).count()).sum();
    let known = replacements.keys().filter(|interval| state.finished.contains(**interval)).count();
    check.found = format!("{} files of {} intervals, {}", grouped(files.len() as u64), replacements.len(), bytes(size));
    if staged > 0 {
        check.found += &format!("; {staged} staged, the next run publishes them");
    }
    if replaced > 0 {
        check.found += &format!("; the table has replaced {replaced} of them since");
    }
    if removed > 0 {
        check.found += &format!("; {removed} of them were removed on purpose, as was said");
    }
    if all > known {
        check.found += &format!("; {} intervals are older than the records", grouped((all - known) as u64));
    }
    Ok(check)
}

/// How an interval is processed again.
fn again(state: &State, replace: &Replace) -> String {
    let day = |micros: i64| chrono::DateTime::from_timestamp_micros(micros).unwrap_or_default();
    let begin = day(replace.interval.start);
    let which = match state.start.grid {
        Grid::Hour if !replace.whole => begin.format("--target-hour \"%Y-%m-%d %H:00:00\"").to_string(),
        _ if !replace.whole => begin.format("--target-date %Y-%m-%d").to_string(),
        // Exactly the time that the whole table is of.
        _ => {
            let format = "\"%Y-%m-%d %H:%M:%S\"";
            format!("--from {} --to {}", begin.format(format), day(replace.interval.end).format(format))
        }
    };
    format!("process the interval again: `data-platform run JOB {which}`; or bring the file back from a backup")
}

/// The output says of itself what the log says.
async fn progress(output: &SharedStore, state: &State) -> Result<Check, StoreError> {
    let mut check = Check::new("progress", "");
    let path = shown(output, paths::PROGRESS);
    let (until, finished) = (state.complete_until(), state.finished_times());
    let again = "nothing: the next run writes it again";
    match read_progress(output).await? {
        Some(told) if told.log_id != state.start.log_id => check.bad(
            path,
            format!("another log writes this output: {}", told.log_id),
            "give one of the two jobs another sink.path",
        ),
        // Between making an interval visible and telling so.
        Some(told) if (told.complete_until != until || told.finished != finished) && state.released => {
            check.bad(path, "it does not tell what the log says", again);
        }
        None if !finished.is_empty() && state.released => check.bad(path, "it is missing or cannot be read", again),
        _ => check.found = "as the log says".to_owned(),
    }
    Ok(check)
}

/// What was left in the staging folder.
async fn staging(open: &OpenOutput, roots: &BTreeSet<String>, state: &State) -> Result<Check, StoreError> {
    let pending: BTreeSet<_> = state.pending.iter().flat_map(Replace::files).map(|file| &file.stage).collect();
    let mut left = 0;
    for root in roots {
        for folder in [paths::STAGING, paths::format1::STAGING] {
            let entries = outputs::table(open, root)?.list(folder).await?;
            left += entries.iter().filter(|entry| !pending.contains(&entry.path)).count();
        }
    }
    let found = match left {
        0 => "nothing left over".to_owned(),
        left => format!("{left} files left over; the next run removes those of runs before it"),
    };
    Ok(Check::new("staging", found))
}
