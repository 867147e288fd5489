//! What is simulated: jobs, the records of their topics, and who says which rows are right.

use std::collections::{BTreeMap, BTreeSet};

use super::tables::Row;
use super::{duplicates, folds, sessions};
use crate::counters::{Counters, OutputCounters};
use crate::random::Random;

/// How long an event may be behind in these jobs, in microseconds.
pub(super) const DELAY: i64 = 5_000_000;
const KEYS: [&str; 4] = ["a", "b", "c", "d"];

/// A topic that a source of a job reads.
pub(super) struct Topic {
    pub(super) name: &'static str,
    pub(super) partitions: i32,
    /// What its records call the event time, the key and the value.
    pub(super) fields: [&'static str; 3],
}

const FIRST: Topic = Topic { name: "t", partitions: 3, fields: ["ts", "k", "v"] };
const SECOND: Topic = Topic { name: "u", partitions: 2, fields: ["seen", "who", "amount"] };

/// A record that was appended, as the fold sees it.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) topic: &'static str,
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// Microseconds since 1970.
    pub(super) time: i64,
    pub(super) key: &'static str,
    pub(super) value: i64,
    /// It is no record of the job: a dead letter.
    pub(super) bad: bool,
    /// The job had changed when it came.
    pub(super) after_change: bool,
    /// What it says it is; the same of a record that is sent again.
    pub(super) id: usize,
}

/// What came of a job.
pub(super) struct Outcome<'a> {
    pub(super) sent: &'a [Sent],
    /// Rows of the job's tables.
    pub(super) tables: BTreeMap<&'static str, Vec<Row>>,
    /// What became of the records.
    pub(super) totals: &'a Counters,
    /// Dead letters that are a row of the result.
    pub(super) row_letters: &'a [String],
    /// Dead letters of late records, by partition and offset.
    pub(super) late_letters: &'a BTreeSet<(i64, i64)>,
}

impl Outcome<'_> {
    /// Rows of a table.
    pub(super) fn rows(&self, table: &str) -> &[Row] {
        self.tables.get(table).map_or(&[], Vec::as_slice)
    }

    /// What became of records in the output that writes this table.
    pub(super) fn output(&self, table: &str) -> OutputCounters {
        let outputs = &self.totals.outputs;
        // An output without a name of its own has that of its table.
        outputs.get(table).cloned().unwrap_or_default()
    }

    /// Records that the job could read.
    pub(super) fn good(&self) -> impl Iterator<Item = &Sent> {
        self.sent.iter().filter(|sent| !sent.bad)
    }
}

/// How often what a scenario is there for has happened, by name.
pub(super) type Seen = BTreeMap<&'static str, u64>;

/// A job to simulate.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) yaml: &'static str,
    /// What the job becomes after some time.
    pub(super) becomes: Option<&'static str>,
    pub(super) topics: &'static [Topic],
    /// Tables that the job writes; its dead letters lie beside the first.
    pub(super) tables: &'static [&'static str],
    /// Whether some records come later than the job waits for.
    pub(super) has_late: bool,
    /// Whether the query refuses a good record.
    pub(super) refuses: fn(&Sent) -> bool,
    /// Whether some records are sent again.
    pub(super) has_repeated: bool,
    /// The fold: says what is wrong.
    pub(super) check: fn(&Outcome<'_>) -> Result<Seen, String>,
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

    /// The topic that the next record goes to.
    pub(super) fn topic(&self, random: &mut Random) -> &'static Topic {
        match self.topics {
            [only] => only,
            several => &several[random.below(several.len() as u64) as usize],
        }
    }
}

/// One topic, one table, nothing late.
const PLAIN: Scenario = Scenario {
    name: "",
    yaml: include_str!("windows.yaml"),
    becomes: None,
    topics: &[FIRST],
    tables: &["table"],
    has_late: false,
    refuses: |_| false,
    has_repeated: false,
    check: |outcome| folds::windows(outcome, "table"),
};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "windows in time", ..PLAIN },
    Scenario { name: "windows with late records", has_late: true, check: folds::windows_and_late, ..PLAIN },
    Scenario { name: "rows", yaml: include_str!("rows.yaml"), has_late: true, check: folds::rows, ..PLAIN },
    Scenario { name: "hops in time", yaml: include_str!("hops.yaml"), check: folds::hops, ..PLAIN },
    Scenario {
        name: "hops with late records",
        yaml: include_str!("hops.yaml"),
        has_late: true,
        check: folds::hops_and_late,
        ..PLAIN
    },
    Scenario { name: "sessions in time", yaml: include_str!("sessions.yaml"), check: sessions::in_time, ..PLAIN },
    Scenario {
        name: "sessions with late records",
        yaml: include_str!("sessions.yaml"),
        has_late: true,
        check: sessions::with_late,
        ..PLAIN
    },
    Scenario {
        name: "windows of a query that changes",
        becomes: Some(include_str!("changed.yaml")),
        check: folds::windows_of_a_query_that_changes,
        ..PLAIN
    },
    Scenario {
        name: "windows of values that the query refuses",
        yaml: include_str!("refused.yaml"),
        refuses: folds::is_refused,
        check: folds::windows_of_refused_values,
        ..PLAIN
    },
    Scenario {
        name: "two outputs",
        yaml: include_str!("two_outputs.yaml"),
        tables: &["table", "windows"],
        check: |outcome| {
            let mut seen = folds::rows(outcome)?;
            seen.extend(folds::windows(outcome, "windows")?);
            Ok(seen)
        },
        ..PLAIN
    },
    Scenario {
        name: "two sources",
        yaml: include_str!("two_sources.yaml"),
        topics: &[FIRST, SECOND],
        check: folds::windows_of_two_sources,
        ..PLAIN
    },
    Scenario {
        name: "late records that are kept",
        yaml: include_str!("late_kept.yaml"),
        has_late: true,
        check: duplicates::late_are_letters,
        ..PLAIN
    },
    Scenario {
        name: "records that are sent again",
        yaml: include_str!("sent_again.yaml"),
        has_repeated: true,
        check: duplicates::once_each,
        ..PLAIN
    },
    Scenario {
        name: "keys that come again, in windows",
        yaml: include_str!("keys_again.yaml"),
        has_repeated: true,
        check: duplicates::first_of_each_stretch,
        ..PLAIN
    },
    Scenario {
        name: "keys that come again, as rows",
        yaml: include_str!("keys_again_rows.yaml"),
        check: duplicates::first_of_each_stretch,
        ..PLAIN
    },
];
