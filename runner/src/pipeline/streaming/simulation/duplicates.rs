//! Which rows are right where some records count once, and where late ones are kept.

use std::collections::BTreeSet;

use super::folds::{found, groups, same, tumbling};
use super::scenario::{Outcome, Seen, Sent};

fn duplicates(outcome: &Outcome<'_>) -> u64 {
    outcome.totals.sources.values().map(|source| source.duplicate).sum()
}

/// A record that is sent again counts once.
pub(super) fn once_each(outcome: &Outcome<'_>) -> Result<Seen, String> {
    let mut seen = BTreeSet::new();
    let once: Vec<&Sent> = outcome.good().filter(|sent| seen.insert(sent.id)).collect();
    same(&groups(once.iter().copied(), tumbling), &found(outcome.rows("table"))?)?;
    let again = (outcome.good().count() - once.len()) as u64;
    let (duplicates, late) = (duplicates(outcome), outcome.output("table").late);
    if (duplicates, late) == (again, 0) {
        return Ok(Seen::from([("duplicates", duplicates)]));
    }
    Err(format!("{again} records were sent again, {duplicates} count as duplicates and {late} as late"))
}

/// `within` of these jobs.
const WITHIN: i64 = 3_000_000;

/// Of the records with one key none is kept that is near one that is kept, and each that is not kept is near one that is:
/// whatever the order in which they were read, if it was decided once.
pub(super) fn first_of_each_stretch(outcome: &Outcome<'_>) -> Result<Seen, String> {
    let mut kept: BTreeSet<(i32, i64)> = BTreeSet::new();
    for row in outcome.rows("table") {
        for place in row.text("places")?.trim_matches(['[', ']']).split(", ") {
            let (partition, offset) = place.split_once('/').ok_or_else(|| format!("a place {place:?}"))?;
            let number = |text: &str| text.parse::<i64>().map_err(|error| format!("a place {place:?}: {error}"));
            if !kept.insert((number(partition)? as i32, number(offset)?)) {
                return Err(format!("the record {place} counts twice"));
            }
        }
    }
    let is_kept = |sent: &Sent| kept.contains(&(sent.partition, sent.offset));
    for sent in outcome.good() {
        let near = |other: &&Sent| other.key == sent.key && (other.time - sent.time).abs() <= WITHIN && is_kept(other);
        let kept_near = outcome.good().filter(near).count();
        if kept_near != 1 && is_kept(sent) || kept_near == 0 {
            return Err(format!("{kept_near} records near {sent:?} are kept; is it: {}", is_kept(sent)));
        }
    }
    let (good, kept, duplicates) = (outcome.good().count() as u64, kept.len() as u64, duplicates(outcome));
    if good == kept + duplicates {
        return Ok(Seen::from([("duplicates", duplicates)]));
    }
    Err(format!("{good} records came, {kept} are kept and {duplicates} count as duplicates"))
}

/// A record is in a window, or it is a dead letter.
pub(super) fn late_are_letters(outcome: &Outcome<'_>) -> Result<Seen, String> {
    let is_letter = |sent: &&Sent| outcome.late_letters.contains(&(i64::from(sent.partition), sent.offset));
    let in_time = outcome.good().filter(|sent| !is_letter(sent));
    same(&groups(in_time, tumbling), &found(outcome.rows("table"))?)?;
    let (letters, late) = (outcome.late_letters.len() as u64, outcome.output("table").late);
    if letters == late && outcome.sent.iter().filter(is_letter).all(|sent| !sent.bad) {
        return Ok(Seen::from([("late letters", letters)]));
    }
    Err(format!("{late} records count as late, {letters} are kept"))
}
