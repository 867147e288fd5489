//! Which sessions are right: a fold over all records of a key at once, by the words of docs/time.md.

use std::collections::{BTreeMap, BTreeSet};

use super::scenario::{Outcome, Seen, Sent};
use super::tables::Row;

const GAP: i64 = 4_000_000;
const MAXIMUM: i64 = 12_000_000;

/// A row of the job, or what the fold says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Session {
    end: i64,
    count: i64,
    sum: i64,
    /// Partition and offset of each event, in the order of event times.
    events: Vec<String>,
}

/// By start and key.
type Sessions = BTreeMap<(i64, String), Session>;

fn place(sent: &Sent) -> String {
    format!("{}:{}", sent.partition, sent.offset)
}

/// The records of each key in the order of event time, partition, offset.
fn by_key<'a>(sent: impl Iterator<Item = &'a Sent>) -> BTreeMap<&'static str, Vec<&'a Sent>> {
    let mut keys: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for sent in sent {
        keys.entry(sent.key).or_default().push(sent);
    }
    for events in keys.values_mut() {
        events.sort_by_key(|sent| (sent.time, sent.partition, sent.offset));
    }
    keys
}

fn has_gap(one: &Sent, other: &Sent) -> bool {
    (one.time - other.time).abs() >= GAP
}

/// Whether a chain, events without a gap, is cut at a multiple of the maximum that lies in it: what it has in the cell
/// before and in the cell after would together span the maximum.
fn is_cut(chain: &[&Sent], multiple: i64) -> bool {
    let in_cell = |begin: i64| move |sent: &&&Sent| (begin..begin + MAXIMUM).contains(&sent.time);
    let first = chain.iter().find(in_cell(multiple - MAXIMUM));
    let last = chain.iter().rev().find(in_cell(multiple));
    first.zip(last).is_some_and(|(first, last)| last.time - first.time >= MAXIMUM)
}

/// The sessions of one chain, and where each ends.
fn cut<'a>(chain: &[&'a Sent]) -> Vec<(Vec<&'a Sent>, i64)> {
    let mut sessions: Vec<(Vec<&Sent>, i64)> = Vec::new();
    for event in chain {
        let multiple = event.time.div_euclid(MAXIMUM) * MAXIMUM;
        match sessions.last_mut() {
            Some((events, end)) if events[events.len() - 1].time < multiple && is_cut(chain, multiple) => {
                *end = multiple;
            }
            Some((events, end)) => {
                events.push(event);
                *end = event.time + GAP;
                continue;
            }
            None => {}
        }
        sessions.push((vec![event], event.time + GAP));
    }
    sessions
}

/// All sessions, and how many of them were cut off from what follows.
fn expected(outcome: &Outcome<'_>) -> (Sessions, u64) {
    let (mut all, mut cuts) = (Sessions::new(), 0);
    for (key, events) in by_key(outcome.good()) {
        for chain in events.chunk_by(|one, other| !has_gap(one, other)) {
            let sessions = cut(chain);
            cuts += sessions.len() as u64 - 1;
            for (events, end) in sessions {
                let session = Session {
                    end,
                    count: events.len() as i64,
                    sum: events.iter().map(|sent| sent.value).sum(),
                    events: events.iter().map(|sent| place(sent)).collect(),
                };
                all.insert((events[0].time, key.to_owned()), session);
            }
        }
    }
    (all, cuts)
}

/// How many records came between two of their key that had a gap until then.
fn joining(outcome: &Outcome<'_>) -> u64 {
    let mut times: BTreeMap<&str, BTreeSet<i64>> = BTreeMap::new();
    let mut joining = 0;
    for sent in outcome.good() {
        let times = times.entry(sent.key).or_default();
        let before = times.range(..=sent.time).next_back();
        let after = times.range(sent.time..).next();
        joining += u64::from(before.zip(after).is_some_and(|(before, after)| {
            after - before >= GAP && sent.time - before < GAP && after - sent.time < GAP
        }));
        times.insert(sent.time);
    }
    joining
}

fn session(row: &Row) -> Result<((i64, String), Session), String> {
    let session = Session {
        end: row.number("window_end")?,
        count: row.number("n")?,
        sum: row.number("total")?,
        events: row.list("events")?,
    };
    Ok(((row.number("window_start")?, row.text("k")?.to_owned()), session))
}

/// Records that are all in time: the sessions are those of the fold, event for event.
pub(super) fn in_time(outcome: &Outcome<'_>) -> Result<Seen, String> {
    let late = outcome.output("table").late;
    if late > 0 {
        return Err(format!("{late} records count as late, and none was"));
    }
    let mut found = Sessions::new();
    for row in outcome.rows("table") {
        let (key, session) = session(row)?;
        if found.insert(key.clone(), session).is_some() {
            return Err(format!("the session {key:?} is there twice"));
        }
    }
    let (expected, cuts) = expected(outcome);
    for (key, session) in &expected {
        if found.get(key) != Some(session) {
            return Err(format!("{key:?} should be {session:?} and is {:?}", found.get(key)));
        }
    }
    if let Some(key) = found.keys().find(|key| !expected.contains_key(*key)) {
        return Err(format!("{key:?} is invented"));
    }
    Ok(Seen::from([("sessions", found.len() as u64), ("cuts", cuts), ("joined", joining(outcome))]))
}

/// Which of the late records are kept may depend on how the stream was cut. Every record is in one session or counted, and
/// each session is one: in order, without a gap, not longer than it may be, and it says of its events what they say.
pub(super) fn with_late(outcome: &Outcome<'_>) -> Result<Seen, String> {
    let sent: BTreeMap<_, _> = outcome.good().map(|sent| (place(sent), sent)).collect();
    let mut kept = BTreeSet::new();
    for row in outcome.rows("table") {
        let ((start, key), session) = session(row)?;
        let wrong = |what: &str| Err(format!("the session of {key} at {start} {what}: {session:?}"));
        let events = session.events.iter().map(|place| sent.get(place)).collect::<Option<Vec<_>>>();
        let Some(events) = events else { return wrong("has events that nobody sent") };
        if !session.events.iter().all(|place| kept.insert(place.clone())) {
            return wrong("has events of another");
        }
        let (Some(first), Some(last)) = (events.first(), events.last()) else { return wrong("is empty") };
        if first.time != start || events.iter().any(|event| event.key != key) {
            return wrong("is not that of its key and start");
        }
        let order = |event: &&&Sent| (event.time, event.partition, event.offset);
        if !events.is_sorted_by_key(order) || events.windows(2).any(|pair| has_gap(pair[0], pair[1])) {
            return wrong("is out of order or has a gap");
        }
        if last.time - first.time >= MAXIMUM + 2 * GAP {
            return wrong("is too long");
        }
        let is_cut = session.end % MAXIMUM == 0 && (last.time + 1..last.time + GAP).contains(&session.end);
        if session.end != last.time + GAP && !is_cut {
            return wrong("ends elsewhere");
        }
        let sum: i64 = events.iter().map(|event| event.value).sum();
        if (session.count, session.sum) != (events.len() as i64, sum) {
            return wrong("has other figures than its events");
        }
    }
    let late = outcome.output("table").late;
    if sent.len() as u64 != kept.len() as u64 + late {
        return Err(format!("{} records were sent, {} are in sessions, {late} count as late", sent.len(), kept.len()));
    }
    Ok(Seen::from([("late of sessions", late)]))
}
