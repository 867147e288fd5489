//! Which rows are right where windows have edges of their own: a fold over all records at once, which knows nothing of
//! micro-batches, watermarks or the product's windows.

use std::collections::{BTreeMap, BTreeSet};

use super::scenario::{Outcome, Seen, Sent};
use super::tables::Row;

const SIZE: i64 = 10_000_000;
const SLIDE: i64 = 4_000_000;

/// What a group has of its records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Group {
    count: i64,
    sum: i64,
    values: BTreeSet<i64>,
}

/// By start of the window and key.
pub(super) type Groups = BTreeMap<(i64, String), Group>;

/// The groups of records that lie in the windows that `starts` says.
pub(super) fn groups<'a>(sent: impl Iterator<Item = &'a Sent>, starts: fn(i64) -> Vec<i64>) -> Groups {
    let mut groups = Groups::new();
    for sent in sent {
        for start in starts(sent.time) {
            let group = groups.entry((start, sent.key.to_owned())).or_default();
            group.count += 1;
            group.sum += sent.value;
            group.values.insert(sent.value);
        }
    }
    groups
}

pub(super) fn tumbling(time: i64) -> Vec<i64> {
    vec![time.div_euclid(SIZE) * SIZE]
}

/// Every multiple of the slide that is at or before the time, and not a size or more.
fn hopping(time: i64) -> Vec<i64> {
    (0..=SIZE / SLIDE).map(|back| (time.div_euclid(SLIDE) - back) * SLIDE).filter(|start| time - start < SIZE).collect()
}

pub(super) fn found(rows: &[Row]) -> Result<Groups, String> {
    let mut groups = Groups::new();
    for row in rows {
        let values = row.list("values")?.iter().filter_map(|value| value.parse().ok()).collect();
        let key = (row.number("window_start")?, row.text("k")?.to_owned());
        let group = Group { count: row.number("n")?, sum: row.number("total")?, values };
        if groups.insert(key.clone(), group).is_some() {
            return Err(format!("the group {key:?} is there twice"));
        }
    }
    Ok(groups)
}

/// Every group is there, and no other.
pub(super) fn same(expected: &Groups, found: &Groups) -> Result<(), String> {
    for (key, group) in expected {
        if found.get(key) != Some(group) {
            return Err(format!("{key:?} should be {group:?} and is {:?}", found.get(key)));
        }
    }
    found.keys().find(|key| !expected.contains_key(*key)).map_or(Ok(()), |key| Err(format!("{key:?} is invented")))
}

/// No group has more than the records give it.
fn within(all: &Groups, found: &Groups) -> Result<(), String> {
    for (key, group) in found {
        if all.get(key).is_none_or(|all| all.count < group.count || !all.values.is_superset(&group.values)) {
            return Err(format!("{key:?} has {group:?}, of {:?}", all.get(key)));
        }
    }
    Ok(())
}

fn nothing_late(outcome: &Outcome<'_>, table: &str) -> Result<(), String> {
    let output = outcome.output(table);
    let good = outcome.good().count() as u64;
    if (output.accepted, output.late, output.partly_late) == (good, 0, 0) {
        return Ok(());
    }
    Err(format!("of {good} records, all in time, the output counts {output:?}"))
}

fn count(groups: &Groups) -> i64 {
    groups.values().map(|group| group.count).sum()
}

/// Tumbling windows of records that are all in time.
pub(super) fn windows(outcome: &Outcome<'_>, table: &str) -> Result<Seen, String> {
    nothing_late(outcome, table)?;
    let expected = groups(outcome.good(), tumbling);
    same(&expected, &found(outcome.rows(table))?)?;
    Ok(Seen::from([("windows", expected.len() as u64)]))
}

/// Windows of a query that from some moment on takes only values above three.
pub(super) fn windows_of_a_query_that_changes(outcome: &Outcome<'_>) -> Result<Seen, String> {
    let taken = outcome.good().filter(|sent| !sent.after_change || sent.value > 3);
    same(&groups(taken, tumbling), &found(outcome.rows("table"))?)?;
    let after = outcome.good().filter(|sent| sent.after_change).count();
    Ok(Seen::from([("records after a change", after as u64)]))
}

/// A value that a query divides by the distance from.
const REFUSED: i64 = 3;

/// Whether the query refuses a record.
pub(super) fn is_refused(sent: &Sent) -> bool {
    sent.value == REFUSED
}

/// Windows of a query that divides by the distance of a value from three, and by what a group has beyond one record.
pub(super) fn windows_of_refused_values(outcome: &Outcome<'_>) -> Result<Seen, String> {
    let mut expected = groups(outcome.good().filter(|sent| !is_refused(sent)), tumbling);
    let all = expected.len();
    expected.retain(|_, group| group.count > 1);
    let refused = all - expected.len();
    let letters: BTreeSet<&String> = outcome.row_letters.iter().collect();
    if (letters.len(), outcome.row_letters.len()) != (refused, refused) {
        return Err(format!("{refused} groups are refused: {:?}", outcome.row_letters));
    }
    same(&expected, &found(outcome.rows("table"))?)?;
    let records = outcome.good().filter(|sent| is_refused(sent)).count();
    if outcome.output("table").dead_letters() != records as u64 {
        return Err(format!("{records} records are refused: {:?}", outcome.output("table")));
    }
    Ok(Seen::from([("refused records", records as u64), ("refused groups", refused as u64)]))
}

/// The same of two sources; some groups have records of both.
pub(super) fn windows_of_two_sources(outcome: &Outcome<'_>) -> Result<Seen, String> {
    windows(outcome, "table")?;
    let of = |topic: &str| groups(outcome.good().filter(|sent| sent.topic == topic), tumbling);
    let (first, second) = (of("t"), of("u"));
    let both = first.keys().filter(|key| second.contains_key(*key)).count();
    Ok(Seen::from([("groups of both sources", both as u64)]))
}

/// Which of the late records are kept may depend on how the stream was cut; every record is kept or counted.
pub(super) fn windows_and_late(outcome: &Outcome<'_>) -> Result<Seen, String> {
    let (all, found) = (groups(outcome.good(), tumbling), found(outcome.rows("table"))?);
    within(&all, &found)?;
    let (late, sent, kept) = (outcome.output("table").late, count(&all), count(&found));
    if sent != kept + late as i64 {
        return Err(format!("{sent} records were sent, {kept} are in windows, and {late} count as late"));
    }
    Ok(Seen::from([("late", late)]))
}

/// Hopping windows of records that are all in time: each record in every window that it lies in.
pub(super) fn hops(outcome: &Outcome<'_>) -> Result<Seen, String> {
    nothing_late(outcome, "table")?;
    let expected = groups(outcome.good(), hopping);
    same(&expected, &found(outcome.rows("table"))?)?;
    Ok(Seen::from([("hops", expected.len() as u64)]))
}

/// A record that is late lacks in all its windows, one that is partly late in some, any other in none.
pub(super) fn hops_and_late(outcome: &Outcome<'_>) -> Result<Seen, String> {
    let (all, found) = (groups(outcome.good(), hopping), found(outcome.rows("table"))?);
    within(&all, &found)?;
    let output = outcome.output("table");
    let good = outcome.good().count() as u64;
    if good != output.accepted + output.late || output.partly_late > output.accepted {
        return Err(format!("{good} records were sent, and the output counts {output:?}"));
    }
    // A time lies in two or three windows.
    let (late, partly) = (output.late as i64, output.partly_late as i64);
    let missing = count(&all) - count(&found);
    if missing < 2 * late + partly || missing > 3 * late + 2 * partly {
        return Err(format!("{missing} of {} places in windows are empty, for {output:?}", count(&all)));
    }
    Ok(Seen::from([("late", output.late), ("partly late", output.partly_late)]))
}

/// Rows as they come: one for each record that passes.
pub(super) fn rows(outcome: &Outcome<'_>) -> Result<Seen, String> {
    let passing = outcome.good().filter(|sent| sent.value > 3);
    let mut expected: Vec<_> = passing.map(|sent| (sent.partition, sent.offset)).collect();
    let place = |row: &Row| Ok::<_, String>((row.number("p")? as i32, row.number("o")?));
    let mut found = outcome.rows("table").iter().map(place).collect::<Result<Vec<_>, _>>()?;
    expected.sort_unstable();
    found.sort_unstable();
    if expected == found {
        return Ok(Seen::from([("rows", expected.len() as u64)]));
    }
    Err(format!("rows {found:?} instead of {expected:?}"))
}
