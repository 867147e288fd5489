//! `checkpoint ls` and `checkpoint show` of batch jobs: which intervals are in the output, and whose they are.

#[cfg(test)]
mod tests;
mod verify;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::checkpoint::log::OpenOutput;
use crate::commands::error::CommandError;
use crate::commands::{ago, align_right, bytes, fit, grouped, list, time};
use crate::pipeline::batch::interval::{Grid, Interval};
use crate::pipeline::batch::log::{Own, State, record_path};
use crate::pipeline::batch::survey::{BatchSurvey, Replacement};
use crate::pipeline::batch::versions::{Versions, stale_by_logs};
use crate::storage::{SharedStore, StoreError, paths};

use super::ls::first_version;
use super::show::{line, one_record, versions};
use super::{JobPlace, no_faults, outputs, store_failed};

pub(super) use verify::verify;

/// Intervals that the screen has room for: a day of hours.
const INTERVALS_SHOWN: usize = 24;
/// Stretches of finished intervals that the screen has room for.
const STRETCHES_SHOWN: usize = 4;

/// Stale intervals that are named.
const STALE_SHOWN: usize = 16;

/// Columns of [`row`].
pub(super) const HEADER: [&str; 6] = ["batch job", "log", "intervals", "complete until", "last replaced", "turn"];

/// A job's line of `checkpoint ls`, and what is wrong with its log.
pub(super) async fn row(place: &JobPlace, now: i64) -> Result<(Vec<String>, Option<String>), CommandError> {
    let survey = BatchSurvey::read(&place.store).await.map_err(store_failed)?;
    let head = survey.head();
    let damaged = head.damage.map(|damage| {
        format!("{}: version {}: {}; `checkpoint verify` says more", place.name, damage.version, damage.problem)
    });
    let Some(state) = head.state else { return Ok((vec![place.name.clone(), "unreadable".to_owned()], damaged)) };
    let last = survey.replacements().into_values().map(|replacement| replacement.replace.clock).max();
    let row = vec![
        place.name.clone(),
        format!("{} … {}", first_version(&survey.records, &survey.bases), state.version),
        grouped(count(&state)),
        time(state.complete_until()),
        last.map_or_else(|| "never".to_owned(), |last| ago(last, now)),
        match state.owner.as_ref().filter(|_| !state.released) {
            Some(own) => format!("{} (epoch {})", own.place, own.epoch),
            None => "free".to_owned(),
        },
    ];
    Ok((row, damaged))
}

/// The text of `checkpoint show`. `now` is in microseconds.
pub(super) async fn show(place: &JobPlace, record: Option<u64>, now: i64) -> Result<String, CommandError> {
    let survey = BatchSurvey::read(&place.store).await.map_err(store_failed)?;
    if let Some(version) = record {
        return one_record(place, &survey.records, version, &record_path(version));
    }
    let head = survey.head();
    let mut out = String::new();
    if let Some(damage) = &head.damage {
        let _ = writeln!(
            out,
            "DAMAGED at version {}: {}\nWhat follows is the job as of the version before; `data-platform checkpoint verify` \
             says more and what to do.\n",
            damage.version, damage.problem
        );
    }
    let Some(state) = head.state else { return Ok(out) };
    identity(&mut out, place, &survey, &state, now);
    stale(&mut out, place, &state).await.map_err(store_failed)?;
    intervals(&mut out, place, &survey, &state, now).await.map_err(store_failed)?;
    Ok(out)
}

/// Number of finished intervals.
fn count(state: &State) -> u64 {
    let grid = state.start.grid;
    state.finished.stretches().iter().map(|stretch| grid.between(stretch.start, stretch.end).count() as u64).sum()
}

/// The beginning of an interval for people: `2026-02-16 14:00`, `2026-02-16`.
fn begin(grid: Grid, micros: i64) -> String {
    let format = match grid {
        Grid::Hour => "%Y-%m-%d %H:%M",
        Grid::Day | Grid::Week | Grid::Month => "%Y-%m-%d",
    };
    let time = chrono::DateTime::from_timestamp_micros(micros);
    time.map_or_else(|| format!("{micros} µs"), |time| time.format(format).to_string())
}

fn identity(out: &mut String, place: &JobPlace, survey: &BatchSurvey, state: &State, now: i64) {
    let grid = state.start.grid;
    line(out, "batch job", format!("{}, one {} at a time", place.name, grid.word()));
    line(out, "log", format!("{} in {}", state.start.log_id, place.location));
    let first = first_version(&survey.records, &survey.bases);
    versions(out, first, state.version, &survey.records, &survey.bases);
    line(out, "began", format!("{}, program {}", time(Some(state.start.clock)), state.start.program));
    line(out, "turn", turn(state, now));
    line(out, "finished", stretches(state));
    let complete = state.complete_until().map_or_else(|| "nothing yet".to_owned(), |until| begin(grid, until));
    line(out, "complete", format!("until {complete}"));
    if let Some(first) = state.first_due {
        line(out, "schedule", format!("takes what is not finished since {}", begin(grid, first)));
    }
    let published = match &state.pending {
        Some(replace) => {
            let interval = begin(grid, replace.interval.start);
            format!("all but {interval}: it is decided, and the next run makes it visible")
        }
        None => "everything".to_owned(),
    };
    line(out, "published", published);
}

/// The intervals that were overtaken by what they read, as far as it lies directly below the outputs. Of tables further inside
/// runs tell it: to look for them here would list every file.
async fn stale(out: &mut String, place: &JobPlace, state: &State) -> Result<(), StoreError> {
    let mut tables = BTreeMap::new();
    if let Some(outputs) = &place.outputs {
        let store = outputs.open(&no_faults())?;
        for entry in store.list(paths::BESIDE).await?.iter().filter(|entry| is_intervals(&entry.path)) {
            let read = store.get(&entry.path).await?;
            let read: Option<Versions> = read.and_then(|bytes| serde_json::from_slice(&bytes).ok());
            tables.extend(read.map(|versions| (versions.log_id.clone(), versions)));
        }
    }
    let stale = stale_by_logs(state, &tables);
    let Some(first) = stale.first() else { return Ok(()) };
    let grid = state.start.grid;
    let names: Vec<_> = stale.iter().take(STALE_SHOWN).map(|stale| begin(grid, stale.interval.start)).collect();
    let more = stale.len() - names.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let job = place.name.rsplit('/').next().unwrap_or_default();
    let why = format!("{} was replaced from {} on after it was read", first.input, time(Some(first.replaced.start)));
    line(
        out,
        "stale",
        format!("{}{more}: {why}; `data-platform backfill {job} --stale` repairs them", names.join(", ")),
    );
    Ok(())
}

/// Whether an object tells the versions of a table's intervals.
fn is_intervals(path: &str) -> bool {
    let name = paths::INTERVALS.strip_prefix(paths::BESIDE).unwrap_or_default();
    path.ends_with(name)
}

fn turn(state: &State, now: i64) -> String {
    match &state.owner {
        None => "free, nobody had it yet".to_owned(),
        Some(own) if state.released => format!("free; the last run began {}: {}", ago(own.clock, now), run(own)),
        Some(own) => format!("{}, since {}", run(own), time(Some(own.clock))),
    }
}

fn run(own: &Own) -> String {
    let of_job = own.run.as_ref().map_or_else(String::new, |uid| format!(", Job {uid}"));
    format!("{}, epoch {}{of_job}", own.place, own.epoch)
}

fn stretches(state: &State) -> String {
    let grid = state.start.grid;
    let all = state.finished.stretches();
    let show = |stretch: &Interval| format!("{} to {}", begin(grid, stretch.start), begin(grid, stretch.end));
    let shown: Vec<_> = all.iter().rev().take(STRETCHES_SHOWN).rev().map(show).collect();
    let older = all.len() - shown.len();
    let older = if older > 0 { format!("{older} older stretches, ") } else { String::new() };
    let plural = if count(state) == 1 { "" } else { "s" };
    match shown.is_empty() {
        true => "nothing yet".to_owned(),
        false => format!("{} {}{plural}: {older}{}", grouped(count(state)), grid.word(), shown.join(", ")),
    }
}

async fn intervals(
    out: &mut String,
    place: &JobPlace,
    survey: &BatchSurvey,
    state: &State,
    now: i64,
) -> Result<(), StoreError> {
    let replacements = survey.replacements();
    let roots: Vec<_> = replacements.values().flat_map(|decision| decision.replace.roots().cloned()).collect();
    let newest = replacements.values().max_by_key(|decision| decision.version);
    let current: Vec<_> = newest.iter().flat_map(|decision| decision.replace.roots().cloned()).collect();
    let open = outputs::opener(&state.start.log_id, &roots, &current, place.outputs.as_ref()).await;
    if replacements.is_empty() {
        out.push_str("\nno record of an interval is kept\n");
        return Ok(());
    }
    let mut shown = list(&["interval", "rows", "files", "bytes", "are they there?", "replaced", "by", "record"]);
    let older = replacements.len().saturating_sub(INTERVALS_SHOWN);
    let mut stores = BTreeMap::new();
    for (interval, decision) in replacements.iter().skip(older) {
        let by = match &decision.run {
            Some(own) => format!("{} (epoch {})", own.place, own.epoch),
            None => format!("epoch {}", decision.replace.epoch),
        };
        shown.add_row([
            begin(state.start.grid, interval.start),
            grouped(decision.replace.rows()),
            decision.replace.files().count().to_string(),
            bytes(decision.replace.files().map(|file| file.bytes).sum()),
            presence(&open, &mut stores, decision).await?,
            ago(decision.replace.clock, now),
            by,
            decision.version.to_string(),
        ]);
    }
    align_right(&mut shown, &[1, 2, 3, 7]);
    fit(&mut shown, &[6, 2, 3]);
    let _ = writeln!(out, "\n{shown}");
    if older > 0 {
        let _ = writeln!(out, "and {older} older ones; `checkpoint verify` checks them all");
    }
    out.push_str("`checkpoint show JOB --record VERSION` names the files of an interval\n");
    Ok(())
}

/// Whether the files of an interval lie where readers find them, by name and length.
async fn presence(
    open: &OpenOutput,
    stores: &mut BTreeMap<String, SharedStore>,
    decision: &Replacement,
) -> Result<String, StoreError> {
    let (mut missing, mut other, mut staged) = (0, 0, 0);
    for (root, file) in
        decision.replace.written().flat_map(|written| written.files.iter().map(|file| (&written.root, file)))
    {
        if !stores.contains_key(root) {
            stores.insert(root.clone(), outputs::table(open, root)?);
        }
        let store = &stores[root];
        match store.length(&file.path).await? {
            Some(length) if length == file.bytes => {}
            // Until it is published, the one that it replaces lies there.
            _ if decision.is_pending && store.length(&file.stage).await? == Some(file.bytes) => staged += 1,
            Some(_) => other += 1,
            None => missing += 1,
        }
    }
    let words: Vec<_> = [(missing, "MISSING"), (other, "OF ANOTHER SIZE"), (staged, "staged")]
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, word)| format!("{number} {word}"))
        .collect();
    Ok(if words.is_empty() { "yes".to_owned() } else { words.join(", ") })
}
