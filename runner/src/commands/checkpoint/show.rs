//! `checkpoint show`: one job's log on one screen, or one of its records in full.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use crate::checkpoint::job_state::JobState;
use crate::checkpoint::record::{Commit, Record, StateObject};
use crate::checkpoint::survey::{Slot, Survey};
use crate::commands::error::CommandError;
use crate::commands::{ago, align_right, bytes, fit, grouped, list, time};
use crate::storage::paths;

use super::ls::kind;
use super::{JobPlace, store_failed};

/// Records that the screen has room for.
const RECORDS_SHOWN: usize = 10;
/// Open windows that the screen has room for.
const WINDOWS_SHOWN: usize = 4;

/// The text of the command. `now` is in microseconds.
pub(super) async fn show(place: &JobPlace, record: Option<u64>, now: i64) -> Result<String, CommandError> {
    let survey = Survey::read(&place.store).await.map_err(store_failed)?;
    if let Some(version) = record {
        return one_record(place, &survey.records, version, &paths::log_record(version));
    }
    let head = survey.head();
    let mut out = String::new();
    if let Some(damage) = &head.damage {
        let _ = writeln!(
            out,
            "DAMAGED at version {}: {}\nWhat follows is the job as of the version before; `data-platform checkpoint verify` \
             says more, `data-platform checkpoint rewind` is the way out.\n",
            damage.version, damage.problem
        );
    } else if let Some((version, rewind)) = survey.unfinished_rewind() {
        let _ = writeln!(
            out,
            "A rewind to version {} was decided (version {version}) and is not finished: `data-platform checkpoint rewind` \
             goes on with it.\n",
            rewind.to
        );
    }
    let Some(state) = head.state else { return Ok(out) };
    identity(&mut out, place, &survey, &state, now);
    partitions(&mut out, &state);
    open_windows(&mut out, &survey, &state);
    pending(&mut out, &state);
    counters(&mut out, &state);
    records(&mut out, &survey, now);
    Ok(out)
}

/// One record in full, or which ones there are. `path`: where it lies below the place.
pub(super) fn one_record<T: Serialize>(
    place: &JobPlace,
    records: &BTreeMap<u64, Slot<T>>,
    version: u64,
    path: &str,
) -> Result<String, CommandError> {
    let Some(slot) = records.get(&version) else {
        let known = match (records.keys().next(), records.keys().last()) {
            (Some(first), Some(last)) => format!("the log has {first} to {last}"),
            _ => "the log has no records".to_owned(),
        };
        return Err(CommandError::user(format!("{}/{path}: there is no such record; {known}", place.location)));
    };
    match &slot.content {
        Ok(record) => {
            let json = serde_json::to_string_pretty(record).expect("a record that was read is JSON again");
            Ok(format!("{json}\n"))
        }
        Err(error) => Err(CommandError::failed(format!("{}/{path}: {error}", place.location))),
    }
}

/// The line of the versions of a log and its bases.
pub(super) fn versions<R, B>(
    out: &mut String,
    first: u64,
    last: u64,
    records: &BTreeMap<u64, Slot<R>>,
    bases: &BTreeMap<u64, Slot<B>>,
) {
    let bases: Vec<_> = bases.keys().map(u64::to_string).collect();
    let bases = if bases.is_empty() { "none yet".to_owned() } else { bases.join(", ") };
    let size: u64 = records.values().map(|slot| slot.bytes).sum();
    line(out, "versions", format!("{first} … {last} ({}), bases {bases}", bytes(size)));
}

/// One fact with its name.
pub(super) fn line(out: &mut String, name: &str, value: impl AsRef<str>) {
    let _ = writeln!(out, "{name:<12} {}", value.as_ref());
}

fn identity(out: &mut String, place: &JobPlace, survey: &Survey, state: &JobState, now: i64) {
    line(out, "job", &place.name);
    line(out, "log", format!("{} in {}", state.start.log_id, place.location));
    let first = survey.records.keys().next().copied().unwrap_or(state.version);
    versions(out, first, state.version, &survey.records, &survey.bases);
    let began = format!(
        "{}, {} commits, the last {}",
        time(Some(state.start.clock)),
        grouped(state.commits),
        ago(state.clock, now)
    );
    line(out, "began", began);
    if let Some(owner) = &state.owner {
        line(out, "owner", format!("{}, epoch {}, since {}", owner.place, owner.epoch, time(Some(owner.clock))));
    }
    line(out, "watermark", time(state.watermark));
    line(out, "cluster", &state.start.cluster_id);
    for (topic, id) in &state.topics {
        line(out, "topic", format!("{topic} ({id})"));
    }
    for (name, root) in &state.plan.outputs {
        let files = state.totals.outputs.get(name).cloned().unwrap_or_default();
        let what = format!("{name}: {} rows in {} files, {}", grouped(files.rows), grouped(files.files), root);
        line(out, "output", what);
    }
    for rewound in &state.rewinds {
        line(out, "rewind", format!("version {} went back to version {}", rewound.version, rewound.to));
    }
    if state.breaker.open {
        line(
            out,
            "breaker",
            "OPEN: too many bad records; the job does not read until it is changed or --reset-breaker",
        );
    }
}

fn partitions(out: &mut String, state: &JobState) {
    let mut shown = list(&["topic", "partition", "next offset", "watermark", "last record"]);
    for (topic, partition, known) in state.partitions.iter() {
        shown.add_row([
            topic.to_owned(),
            partition.to_string(),
            grouped(known.position.unsigned_abs()),
            time(known.watermark),
            time(known.active),
        ]);
    }
    align_right(&mut shown, &[1, 2]);
    fit(&mut shown, &[4]);
    let _ = writeln!(out, "\n{shown}");
}

fn open_windows(out: &mut String, survey: &Survey, state: &JobState) {
    let state_bytes: u64 = survey.state.iter().map(|entry| entry.bytes).sum();
    let Some(from) = &state.replay_from else {
        line(out, "\nstate", "no window is open");
        return;
    };
    let Some(snapshot) = state.usable_snapshot() else {
        let what = format!("there is some, without a snapshot: a start reads again from version {} on", from.version);
        line(out, "\nstate", what);
        return;
    };
    let several = state.plan.queries.len() > 1;
    let of = |object: &StateObject| if several { format!(" of {}", object.output) } else { String::new() };
    let start = |object: &StateObject| format!("{}{}", time(Some(object.part)), of(object));
    let windows = || snapshot.objects.iter().filter(|object| object.source.is_none());
    let remembered = snapshot.objects.len() - windows().count();
    let remembered = match remembered {
        0 => String::new(),
        number => format!(", {number} stretches of remembered records (deduplicate)"),
    };
    let starts: Vec<_> = windows().take(WINDOWS_SHOWN).map(start).collect();
    let more = windows().count().saturating_sub(WINDOWS_SHOWN);
    let more = if more > 0 { format!(", {more} more") } else { String::new() };
    let replay = state.replay.range(snapshot.version + 1..).count();
    let what = format!(
        "snapshot of version {}, {} windows open{remembered}, {} ({} in the folder); a start reads {replay} batches again\n             \
         windows from {}{more}",
        snapshot.version,
        windows().count(),
        bytes(snapshot.objects.iter().map(|object| object.bytes).sum()),
        bytes(state_bytes),
        starts.join(", "),
    );
    line(out, "\nstate", what);
}

fn pending(out: &mut String, state: &JobState) {
    let files: usize =
        state.pending.values().flat_map(|outputs| outputs.values()).map(|output| output.files.len()).sum();
    let what = match (state.pending.keys().next(), state.pending.keys().last()) {
        (Some(first), Some(last)) => {
            format!(
                "up to version {}; {files} files of versions {first} to {last} are decided and not noted as published",
                state.published
            )
        }
        _ => "everything".to_owned(),
    };
    line(out, "published", what);
}

/// The sums of each source and each output, below its name.
fn counters(out: &mut String, state: &JobState) {
    let mut shown = list(&["since record 0", "records", "rows", "files", "bytes"]);
    for (name, source) in &state.totals.sources {
        shown.add_row([name.clone()]);
        let mut fates = vec![("read".to_owned(), source.read)];
        fates.extend([("tombstone".to_owned(), source.tombstone), ("control".to_owned(), source.control)]);
        fates.extend(source.dead_letter.iter().map(|(reason, number)| (format!("dead letter: {reason}"), *number)));
        fates.extend([("future".to_owned(), source.future), ("duplicate".to_owned(), source.duplicate)]);
        fates.push(("offsets lost".to_owned(), source.lost_offsets));
        for (fate, number) in fates.into_iter().filter(|(fate, number)| *number > 0 || fate == "read") {
            shown.add_row([format!("  {fate}"), grouped(number)]);
        }
    }
    for (name, output) in &state.totals.outputs {
        let written = [grouped(output.rows), grouped(output.files), bytes(output.bytes)];
        shown.add_row([name.clone(), String::new()].into_iter().chain(written));
        let fates = [
            ("filtered", output.filtered),
            ("late", output.late),
            ("accepted", output.accepted),
            ("dead letter", output.dead_letters()),
            ("rows refused", output.refused.values().sum()),
        ];
        for (fate, number) in fates.into_iter().filter(|(_, number)| *number > 0) {
            shown.add_row([format!("  {fate}"), grouped(number)]);
        }
    }
    align_right(&mut shown, &[1, 2, 3, 4]);
    let _ = writeln!(out, "\n{shown}");
}

fn records(out: &mut String, survey: &Survey, now: i64) {
    let mut shown = list(&["version", "record", "when", "what"]);
    let skipped = survey.records.len().saturating_sub(RECORDS_SHOWN);
    for (version, slot) in survey.records.iter().skip(skipped) {
        let (kind, when, what) = match &slot.content {
            Ok(record) => {
                let (when, what) = describe(record);
                (kind(record), when.map(|when| ago(when, now)).unwrap_or_default(), what)
            }
            Err(error) => ("damaged", String::new(), error.to_string()),
        };
        shown.add_row([version.to_string(), kind.to_owned(), when, what]);
    }
    align_right(&mut shown, &[0]);
    let _ = writeln!(out, "\n{shown}");
}

fn describe(record: &Record) -> (Option<i64>, String) {
    match record {
        Record::Start(start) => (Some(start.clock), format!("program {}", start.program)),
        Record::Own(own) => (Some(own.clock), format!("epoch {}, {}", own.epoch, own.place)),
        Record::Commit(commit) => (Some(commit.clock), describe_commit(commit)),
        Record::Published(published) => (None, format!("up to version {}", published.upto)),
        Record::Plan(plan) => (None, format!("the job changed, fingerprint {}", plan.fingerprint)),
        Record::Base(base) => (None, format!("of version {}, {}", base.version, bytes(base.bytes))),
        Record::Rewind(rewind) => {
            let topics: Vec<_> = rewind.topics.keys().map(String::as_str).collect();
            let topics = if topics.is_empty() {
                String::new()
            } else {
                format!(", topics go on elsewhere: {}", topics.join(", "))
            };
            (Some(rewind.own.clock), format!("back to version {}, epoch {}{topics}", rewind.to, rewind.own.epoch))
        }
    }
}

fn describe_commit(commit: &Commit) -> String {
    let read: u64 = commit.counters.sources.values().map(|source| source.read).sum();
    let rows: u64 = commit.counters.outputs.values().map(|output| output.rows).sum();
    let files: usize = commit.outputs.values().map(|output| output.files.len()).sum();
    let mut what = format!("{} records", grouped(read));
    if files > 0 {
        let _ = write!(what, ", {} rows in {files} files", grouped(rows));
    }
    if let Some(state) = &commit.state {
        let _ = write!(what, ", snapshot of {} windows", state.len());
    }
    if commit.drained {
        what.push_str(", drained");
    }
    what
}
