//! What happened to records: the counters of one micro-batch, and their sum since the log began.
//!
//! Pure. Every record that was read is in exactly one of tombstone, control, dead letter, future, duplicate, and for each
//! output in exactly one of filtered, late, accepted, dead letter (docs/job-log.md, "Counting"). A row of the result that the query
//! or the output refuses is a dead letter of its own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Counters by source and by output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// By name of the source.
    pub sources: BTreeMap<String, SourceCounters>,
    /// By name of the output.
    pub outputs: BTreeMap<String, OutputCounters>,
}

/// What happened to the records of a source, in records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceCounters {
    /// Read from Kafka.
    pub read: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// Null values, and what says the same in other words: the JSON text `null` of change data.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tombstone: u64,
    /// About the stream of change data and not of a change: heartbeats, begin and end of transactions.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub control: u64,
    /// Bad records by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dead_letter: BTreeMap<String, u64>,
    /// Too far ahead of the clock. Kept with the dead letters, but no evidence that a schema broke.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub future: u64,
    /// Seen before: what `deduplicate` left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub duplicate: u64,
    /// Late for some output, and kept with the dead letters (`lateRows`). What became of them stands with the outputs.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub late_kept: u64,
    /// Offsets that Kafka no longer had (not records: nobody knows how many those were).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost_offsets: u64,
}

/// What an output did with the records that reached it, in records; and what it wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputCounters {
    /// Refused by the WHERE below the window.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub filtered: u64,
    /// Of a window that was closed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub late: u64,
    /// Of several windows, some of which were closed; counted as accepted too.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub partly_late: u64,
    /// Part of the result.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub accepted: u64,
    /// Records that the query refuses, by reason: each is a dead letter.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dead_letter: BTreeMap<String, u64>,
    /// Rows of the result that the query or the output refuses, by reason: each is a dead letter.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<String, u64>,
    /// Rows written.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rows: u64,
    /// Files written.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub files: u64,
    /// Bytes written.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bytes: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl SourceCounters {
    /// Bad records of every reason.
    pub fn dead_letters(&self) -> u64 {
        self.dead_letter.values().sum()
    }

    /// Records that went on to no output.
    pub fn aside(&self) -> u64 {
        self.tombstone + self.control + self.dead_letters() + self.future + self.duplicate
    }

    /// Records that went on to the outputs.
    pub fn passed(&self) -> u64 {
        self.read - self.aside()
    }

    /// Records that say whether a schema broke: all but those that could not be bad.
    pub fn evidence(&self) -> u64 {
        self.read - self.control
    }

    /// How many records may be among the dead letters. Commits of older versions kept no records of the future.
    pub fn kept(&self) -> std::ops::RangeInclusive<u64> {
        let least = self.dead_letters() + self.late_kept;
        least..=least + self.future
    }

    fn add(&mut self, other: &Self) {
        self.read += other.read;
        self.bytes += other.bytes;
        self.tombstone += other.tombstone;
        self.control += other.control;
        self.future += other.future;
        self.duplicate += other.duplicate;
        self.late_kept += other.late_kept;
        self.lost_offsets += other.lost_offsets;
        for (reason, number) in &other.dead_letter {
            *self.dead_letter.entry(reason.clone()).or_default() += number;
        }
    }
}

impl OutputCounters {
    /// Records that the query refuses, of every reason.
    pub fn dead_letters(&self) -> u64 {
        self.dead_letter.values().sum()
    }

    /// Records that reached the output.
    pub fn reached(&self) -> u64 {
        self.filtered + self.late + self.accepted + self.dead_letters()
    }

    /// Dead letters: records that the query refuses, and rows of the result that it or the output refuses.
    pub fn letters(&self) -> u64 {
        self.dead_letters() + self.refused.values().sum::<u64>()
    }

    fn add(&mut self, other: &Self) {
        self.filtered += other.filtered;
        self.late += other.late;
        self.partly_late += other.partly_late;
        self.accepted += other.accepted;
        for (reason, number) in &other.dead_letter {
            *self.dead_letter.entry(reason.clone()).or_default() += number;
        }
        for (reason, number) in &other.refused {
            *self.refused.entry(reason.clone()).or_default() += number;
        }
        self.rows += other.rows;
        self.files += other.files;
        self.bytes += other.bytes;
    }
}

impl Counters {
    /// Dead letters beside those of the sources.
    pub fn letters(&self) -> u64 {
        self.outputs.values().map(OutputCounters::letters).sum()
    }

    /// Bad records: those that no source could read, and those that a query refuses, each once.
    pub fn bad(&self) -> u64 {
        let of_sources: u64 = self.sources.values().map(SourceCounters::dead_letters).sum();
        of_sources + self.outputs.values().map(OutputCounters::dead_letters).max().unwrap_or_default()
    }

    /// Adds the counters of one micro-batch.
    pub fn add(&mut self, other: &Self) {
        for (name, counters) in &other.sources {
            self.sources.entry(name.clone()).or_default().add(counters);
        }
        for (name, counters) in &other.outputs {
            self.outputs.entry(name.clone()).or_default().add(counters);
        }
    }

    /// Whether every record is accounted for in an output: what passed the sources that its query reads is filtered, late,
    /// accepted or refused.
    pub fn is_conserved(&self, output: &str, reads: impl Fn(&str) -> bool) -> bool {
        let read = self.sources.iter().filter(|(name, _)| reads(name));
        let passed: u64 = read.map(|(_, source)| source.passed()).sum();
        self.outputs.get(output).map_or(passed == 0, |output| output.reached() == passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_conserved_only_if_each_has_one_fate() {
        let source = SourceCounters {
            read: 11,
            tombstone: 1,
            control: 1,
            dead_letter: BTreeMap::from([("syntax".to_owned(), 2)]),
            future: 1,
            ..SourceCounters::default()
        };
        let output = OutputCounters { filtered: 1, late: 2, accepted: 3, ..OutputCounters::default() };
        let mut counters = Counters {
            sources: BTreeMap::from([("s".to_owned(), source)]),
            outputs: BTreeMap::from([("o".to_owned(), output)]),
        };
        assert!(counters.is_conserved("o", |_| true));
        counters.add(&counters.clone());
        assert!(counters.is_conserved("o", |_| true));
        counters.outputs.get_mut("o").unwrap().late += 1;
        assert!(!counters.is_conserved("o", |_| true));
    }
}
