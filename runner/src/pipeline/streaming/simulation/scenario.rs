//! What is simulated: jobs, records, and which rows are right.

use std::collections::{BTreeMap, BTreeSet};

use super::tables::Row;
use crate::random::Random;

/// How long an event may be behind in these jobs, in microseconds.
const DELAY: i64 = 5_000_000;
const WINDOW: i64 = 10_000_000;
const KEYS: [&str; 4] = ["a", "b", "c", "d"];

/// A record that was appended, as the fold sees it.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// Microseconds since 1970.
    pub(super) time: i64,
    pub(super) key: &'static str,
    pub(super) value: i64,
    /// It is no record of the job: a dead letter.
    pub(super) bad: bool,
}

/// What came of a job.
pub(super) struct Outcome<'a> {
    pub(super) sent: &'a [Sent],
    /// Rows of the job's table.
    pub(super) rows: &'a [Row],
    /// Records that the job counted as late.
    pub(super) late: u64,
}

/// A job to simulate.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) yaml: &'static str,
    /// Whether some records come later than the job waits for.
    pub(super) has_late: bool,
    /// The fold: says what is wrong.
    pub(super) check: fn(&Outcome<'_>) -> Result<(), String>,
}

impl Scenario {
    /// The event time of a record that is sent at `now`.
    pub(super) fn event_time(&self, random: &mut Random, now: i64) -> i64 {
        let behind = random.below(DELAY as u64) as i64;
        let late = if self.has_late && random.one_in(8) { random.below(12 * DELAY as u64) as i64 } else { 0 };
        // The decoder reads milliseconds.
        (now - behind - late) / 1_000 * 1_000
    }

    pub(super) fn key(random: &mut Random) -> &'static str {
        KEYS[random.below(KEYS.len() as u64) as usize]
    }
}

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "windows in time",
        yaml: include_str!("windows.yaml"),
        has_late: false,
        check: |outcome| {
            if outcome.late > 0 {
                return Err(format!("{} records count as late, and none was", outcome.late));
            }
            same(&counts(outcome.sent), &found(outcome.rows)?)
        },
    },
    Scenario {
        name: "windows with late records",
        yaml: include_str!("windows.yaml"),
        has_late: true,
        check: kept_and_late,
    },
    Scenario { name: "rows", yaml: include_str!("rows.yaml"), has_late: true, check: every_row },
];

/// Count, sum and values by window and key.
type Groups = BTreeMap<(i64, String), (i64, i64, BTreeSet<i64>)>;

fn counts(sent: &[Sent]) -> Groups {
    let mut groups = Groups::new();
    for sent in sent.iter().filter(|sent| !sent.bad) {
        let group = groups.entry((sent.time.div_euclid(WINDOW) * WINDOW, sent.key.to_owned())).or_default();
        group.0 += 1;
        group.1 += sent.value;
        group.2.insert(sent.value);
    }
    groups
}

fn found(rows: &[Row]) -> Result<Groups, String> {
    let mut groups = Groups::new();
    for row in rows {
        let values = row.text("values")?;
        let values = values.trim_matches(['[', ']']).split(", ").filter_map(|value| value.parse().ok()).collect();
        let key = (row.number("window_start")?, row.text("k")?.to_owned());
        if groups.insert(key.clone(), (row.number("n")?, row.number("total")?, values)).is_some() {
            return Err(format!("the group {key:?} is there twice"));
        }
    }
    Ok(groups)
}

fn same(expected: &Groups, found: &Groups) -> Result<(), String> {
    for (key, group) in expected {
        if found.get(key) != Some(group) {
            return Err(format!("{key:?} should be {group:?} and is {:?}", found.get(key)));
        }
    }
    found.keys().find(|key| !expected.contains_key(*key)).map_or(Ok(()), |key| Err(format!("{key:?} is invented")))
}

/// Which of the late records are kept may depend on how the stream was cut; every record is kept or counted.
fn kept_and_late(outcome: &Outcome<'_>) -> Result<(), String> {
    let (all, found) = (counts(outcome.sent), found(outcome.rows)?);
    for (key, group) in &found {
        if all.get(key).is_none_or(|all| all.0 < group.0 || !all.2.is_superset(&group.2)) {
            return Err(format!("{key:?} has {group:?}, of {:?}", all.get(key)));
        }
    }
    let (sent, kept): (i64, i64) = (all.values().map(|group| group.0).sum(), found.values().map(|group| group.0).sum());
    if sent != kept + outcome.late as i64 {
        return Err(format!("{sent} records were sent, {kept} are in windows, and {} count as late", outcome.late));
    }
    Ok(())
}

fn every_row(outcome: &Outcome<'_>) -> Result<(), String> {
    let mut expected: Vec<_> = outcome
        .sent
        .iter()
        .filter(|sent| !sent.bad && sent.value > 3)
        .map(|sent| (sent.partition, sent.offset))
        .collect();
    let place = |row: &Row| Ok::<_, String>((row.number("p")? as i32, row.number("o")?));
    let mut found = outcome.rows.iter().map(place).collect::<Result<Vec<_>, _>>()?;
    expected.sort_unstable();
    found.sort_unstable();
    if expected == found { Ok(()) } else { Err(format!("rows {found:?} instead of {expected:?}")) }
}
