//! [`RunnerReport`]: what a runner says of itself in `/status`, as far as the operator reads it.
//!
//! Pure. A field that a runner of another version lacks has its default; one that it has more is passed over.

use std::collections::BTreeMap;

use serde::Deserialize;

/// What a runner says of itself.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RunnerReport {
    /// `starting`, `running`, `retrying`, `stalled` or `ended`.
    pub phase: String,
    /// It reads and commits.
    pub ready: bool,
    /// Why not, from the closed list.
    pub reason: String,
    /// The same in words.
    pub message: String,
    /// Every partition.
    pub partitions: Vec<PartitionReport>,
    /// The job's watermark, in microseconds.
    pub watermark: Option<i64>,
    /// Windows that are open.
    pub open_windows: u64,
    /// The last commit.
    pub last_commit: Option<CommitReport>,
    /// Everything since the job's log began.
    pub totals: Totals,
    /// Records read per second, over the last minute.
    pub records_per_second: u64,
    /// Rows written per second, over the last minute.
    pub rows_per_second: u64,
    /// Greatest age of the first record that is not committed, in seconds.
    pub lag_seconds: Option<i64>,
    /// Why there is no output, if records come and no rows go.
    pub no_output: Option<String>,
    /// The last errors, newest last.
    pub errors: Vec<ErrorReport>,
}

/// A partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PartitionReport {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Next offset that is not committed.
    pub position: i64,
    /// End offset; `None` if the partition did not answer.
    pub end: Option<i64>,
    /// It holds the job's watermark back.
    pub holds_watermark: bool,
    /// Greatest age of the first record that is not committed, in seconds; 0 if there is none.
    pub lag_seconds: Option<i64>,
}

impl PartitionReport {
    /// Records that Kafka has and the job has not committed.
    pub fn lag(&self) -> Option<i64> {
        self.end.map(|end| end.saturating_sub(self.position).max(0))
    }
}

/// The last commit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CommitReport {
    /// Version of the job log.
    pub version: u64,
    /// Its batch clock, in microseconds.
    pub clock: i64,
}

/// An error that happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ErrorReport {
    /// When, in microseconds.
    pub clock: i64,
    /// From the closed list.
    pub reason: String,
    /// What and where.
    pub message: String,
    /// What to do.
    pub cure: String,
}

/// Everything since the job's log began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// By name of the source.
    pub sources: BTreeMap<String, SourceTotals>,
    /// By name of the output.
    pub outputs: BTreeMap<String, OutputTotals>,
}

/// What happened to the records of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SourceTotals {
    /// Read from Kafka.
    pub read: u64,
    /// Null values.
    pub tombstone: u64,
    /// Bad records by reason.
    pub dead_letter: BTreeMap<String, u64>,
    /// Too far ahead of the clock.
    pub future: u64,
}

/// What an output did with the records that reached it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct OutputTotals {
    /// Refused by the query's WHERE.
    pub filtered: u64,
    /// Of a window that was closed.
    pub late: u64,
    /// Part of the result.
    pub accepted: u64,
    /// Rows written.
    pub rows: u64,
}

impl RunnerReport {
    /// Records read.
    pub fn read(&self) -> u64 {
        self.totals.sources.values().map(|source| source.read).sum()
    }

    /// Bad records.
    pub fn dead_letters(&self) -> u64 {
        self.totals.sources.values().flat_map(|source| source.dead_letter.values()).sum()
    }

    /// Whether every record that was read is a bad one.
    pub fn is_all_dead(&self) -> bool {
        self.read() > 0 && self.dead_letters() >= self.read()
    }

    /// The partitions that do not answer while others do, those that hold the watermark back first.
    pub fn silent(&self) -> Vec<&PartitionReport> {
        // Before they were asked none has an answer.
        let is_asked = self.partitions.iter().any(|partition| partition.end.is_some() || partition.holds_watermark);
        let mut silent: Vec<_> =
            self.partitions.iter().filter(|partition| is_asked && partition.end.is_none()).collect();
        silent.sort_by_key(|partition| !partition.holds_watermark);
        silent
    }

    /// Why there is no output. `None`: there is some, or nobody knows.
    pub fn why_no_output(&self) -> Option<String> {
        let sum = |of: fn(&OutputTotals) -> u64| self.totals.outputs.values().map(of).sum::<u64>();
        if sum(|output| output.rows) > 0 {
            return None;
        }
        if self.no_output.is_some() {
            return self.no_output.clone();
        }
        let (read, accepted) = (self.read(), sum(|output| output.accepted));
        let held = self.partitions.iter().find(|partition| partition.holds_watermark);
        Some(if !self.ready {
            return None;
        } else if read == 0 {
            "no record has come yet: the topics are empty from the job's position on".to_owned()
        } else if self.is_all_dead() {
            format!("all {read} records that were read are bad: look at the dead letters")
        } else if accepted == 0 && sum(|output| output.filtered) > 0 {
            format!("of {read} records none passes the query's WHERE")
        } else if accepted == 0 && sum(|output| output.late) > 0 {
            format!("of {read} records all came after their windows had closed")
        } else if accepted == 0 {
            format!("of {read} records none reached the query: tombstones, bad ones, or too far ahead of the clock")
        } else {
            let by =
                held.map_or_else(String::new, |held| format!(", which {}[{}] holds back", held.topic, held.partition));
            format!("{} windows are open and wait for the watermark{by}", self.open_windows)
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(totals: serde_json::Value) -> RunnerReport {
        serde_json::from_value(json!({"ready": true, "openWindows": 2, "totals": totals})).unwrap()
    }

    #[test]
    fn a_report_of_another_version_is_read_as_far_as_it_goes() {
        let report: RunnerReport = serde_json::from_str(r#"{"phase": "running", "new": {"x": 1}}"#).unwrap();
        assert_eq!(report.phase, "running");
        assert!(!report.ready);
    }

    #[test]
    fn no_output_explains_itself() {
        for (totals, expected) in [
            (json!({}), Some("no record")),
            (json!({"sources": {"s": {"read": 3, "dead_letter": {"parse": 3}}}}), Some("all 3 records")),
            (json!({"sources": {"s": {"read": 3}}, "outputs": {"o": {"filtered": 3}}}), Some("WHERE")),
            (json!({"sources": {"s": {"read": 3}}, "outputs": {"o": {"late": 3}}}), Some("closed")),
            (json!({"sources": {"s": {"read": 3, "future": 3}}}), Some("ahead of the clock")),
            (json!({"sources": {"s": {"read": 3}}, "outputs": {"o": {"accepted": 3}}}), Some("2 windows are open")),
            (json!({"sources": {"s": {"read": 3}}, "outputs": {"o": {"accepted": 3, "rows": 1}}}), None),
        ] {
            let why = report(totals.clone()).why_no_output();
            match expected {
                Some(text) => assert!(why.as_deref().is_some_and(|why| why.contains(text)), "{totals}: {why:?}"),
                None => assert_eq!(why, None, "{totals}"),
            }
        }
    }
}
