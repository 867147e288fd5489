//! `checkpoint ls`: every job log below the checkpoints folder, one line each.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::checkpoint::job_state::JobState;
use crate::checkpoint::record::Record;
use crate::checkpoint::survey::Survey;
use crate::commands::error::CommandError;
use crate::commands::{ago, align_right, bytes, fit, grouped, list, time};
use crate::counters::SourceCounters;
use crate::storage::location::Location;

use super::{JobPlace, Kind, batch, job_names, store_failed};

/// The text of the command. `now` is in microseconds.
pub(super) async fn ls(checkpoints: &Location, now: i64) -> Result<String, CommandError> {
    let names = job_names(checkpoints).await?;
    if names.is_empty() {
        return Ok(format!("there is no job log below {checkpoints}\n"));
    }
    let header = ["job", "log", "commits", "records", "rows", "watermark", "last commit", "state", "owner"];
    let (mut shown, mut batch_jobs) = (list(&header), list(&batch::HEADER));
    let mut damaged = String::new();
    for (name, kind) in names {
        let place = JobPlace::open(name.clone(), checkpoints.join(&name))?;
        if kind == Kind::Batch {
            let (row, damage) = batch::row(&place, now).await?;
            batch_jobs.add_row(row);
            damaged.extend(damage.map(|damage| format!("{damage}\n")));
            continue;
        }
        let survey = Survey::read(&place.store).await.map_err(store_failed)?;
        let head = survey.head();
        if let Some(damage) = &head.damage {
            let _ = writeln!(
                damaged,
                "{name}: version {}: {}; `checkpoint verify` says more",
                damage.version, damage.problem
            );
        } else if let Some((_, rewind)) = survey.unfinished_rewind() {
            let _ = writeln!(
                damaged,
                "{name}: a rewind to version {} is not finished; `checkpoint rewind` goes on",
                rewind.to
            );
        }
        let state_bytes: u64 = survey.state.iter().map(|entry| entry.bytes).sum();
        let Some(state) = head.state else {
            shown.add_row([name, "unreadable".to_owned()]);
            continue;
        };
        shown.add_row(row(name, &survey, &state, state_bytes, now));
    }
    align_right(&mut shown, &[2, 3, 4, 7]);
    align_right(&mut batch_jobs, &[2]);
    fit(&mut shown, &[1, 8, 7, 2, 3]);
    fit(&mut batch_jobs, &[1, 5]);
    let tables: Vec<_> =
        [shown, batch_jobs].iter().filter(|table| !table.is_empty()).map(|table| format!("{table}\n")).collect();
    let separator = if damaged.is_empty() { "" } else { "\n" };
    Ok(format!("{}{separator}{damaged}", tables.join("\n")))
}

/// The oldest version that is kept.
pub(super) fn first_version<R, B>(records: &BTreeMap<u64, R>, bases: &BTreeMap<u64, B>) -> u64 {
    records.keys().next().or(bases.keys().next()).copied().unwrap_or_default()
}

fn row(name: String, survey: &Survey, state: &JobState, state_bytes: u64, now: i64) -> [String; 9] {
    let read: u64 = state.totals.sources.values().map(|source: &SourceCounters| source.read).sum();
    let dead_letters = state.plan.dead_letters.as_ref();
    let tables = state.totals.outputs.iter().filter(|(output, _)| dead_letters != Some(output));
    let rows: u64 = tables.map(|(_, output)| output.rows).sum();
    let last_commit = if state.commits == 0 { "never".to_owned() } else { ago(state.clock, now) };
    let first = first_version(&survey.records, &survey.bases);
    let owner = state.owner.as_ref();
    [
        name,
        format!("{first} … {}", state.version),
        grouped(state.commits),
        grouped(read),
        grouped(rows),
        time(state.watermark),
        last_commit,
        bytes(state_bytes),
        owner.map_or_else(|| "-".to_owned(), |owner| format!("{} (epoch {})", owner.place, owner.epoch)),
    ]
}

/// What a record is, in a word.
pub(super) fn kind(record: &Record) -> &'static str {
    match record {
        Record::Start(_) => "start",
        Record::Own(_) => "own",
        Record::Commit(_) => "commit",
        Record::Published(_) => "published",
        Record::Plan(_) => "plan",
        Record::Base(_) => "base",
        Record::Rewind(_) => "rewind",
    }
}
