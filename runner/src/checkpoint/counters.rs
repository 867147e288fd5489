//! What happened to records: the counters of one micro-batch, and their sum since the log began.
//!
//! Pure. Every record that was read is in exactly one of tombstone, control, dead letter, future, duplicate, and for each
//! output in exactly one of filtered, late, accepted (docs/job-log.md, "Counting"). A row of the result that an output does not
//! take is a dead letter of its own.

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
    /// Seen before. Reserved for `deduplicate`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub duplicate: u64,
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
    /// Rows of the result that the output does not take, by reason: each is a dead letter.
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
        self.dead_letters()..=self.dead_letters() + self.future
    }

    fn add(&mut self, other: &Self) {
        self.read += other.read;
        self.bytes += other.bytes;
        self.tombstone += other.tombstone;
        self.control += other.control;
        self.future += other.future;
        self.duplicate += other.duplicate;
        self.lost_offsets += other.lost_offsets;
        for (reason, number) in &other.dead_letter {
            *self.dead_letter.entry(reason.clone()).or_default() += number;
        }
    }
}

impl OutputCounters {
    /// Rows that the output does not take, of every reason.
    pub fn refused(&self) -> u64 {
        self.refused.values().sum()
    }

    fn add(&mut self, other: &Self) {
        self.filtered += other.filtered;
        self.late += other.late;
        self.partly_late += other.partly_late;
        self.accepted += other.accepted;
        for (reason, number) in &other.refused {
            *self.refused.entry(reason.clone()).or_default() += number;
        }
        self.rows += other.rows;
        self.files += other.files;
        self.bytes += other.bytes;
    }
}

impl Counters {
    /// Rows of results that outputs do not take: dead letters beside those of the sources.
    pub fn refused(&self) -> u64 {
        self.outputs.values().map(OutputCounters::refused).sum()
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

    /// Whether every record is accounted for in an output: what passed the sources that its query reads is filtered, late or
    /// accepted.
    pub fn is_conserved(&self, output: &str, reads: impl Fn(&str) -> bool) -> bool {
        let read = self.sources.iter().filter(|(name, _)| reads(name));
        let passed: u64 = read.map(|(_, source)| source.passed()).sum();
        self.outputs.get(output).map_or(passed == 0, |o| o.filtered + o.late + o.accepted == passed)
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
