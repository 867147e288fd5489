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
    /// What that means, and what to do.
    pub no_output_message: Option<String>,
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
    /// Bad records by reason.
    pub dead_letter: BTreeMap<String, u64>,
}

/// What became of an output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct OutputTotals {
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

    /// Why there is no output: the runner's word, and what it means. `None`: there is some, or nobody knows.
    pub fn why_no_output(&self) -> Option<String> {
        if self.totals.outputs.values().any(|output| output.rows > 0) {
            return None;
        }
        let word = self.no_output.as_ref()?;
        Some(self.no_output_message.as_ref().map_or_else(|| word.clone(), |meaning| format!("{word}: {meaning}")))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_report_of_another_version_is_read_as_far_as_it_goes() {
        let report: RunnerReport = serde_json::from_str(r#"{"phase": "running", "new": {"x": 1}}"#).unwrap();
        assert_eq!(report.phase, "running");
        assert!(!report.ready);
    }

    #[test]
    fn the_runner_says_why_there_is_no_output_until_there_is_some() {
        let why = |told: serde_json::Value| serde_json::from_value::<RunnerReport>(told).unwrap().why_no_output();
        assert_eq!(why(json!({"noOutput": null, "noOutputMessage": null})), None);
        assert_eq!(why(json!({"noOutput": "NoInput"})).as_deref(), Some("NoInput"), "an older runner");
        let told = json!({"noOutput": "NoInput", "noOutputMessage": "no record came; look"});
        assert_eq!(why(told.clone()).as_deref(), Some("NoInput: no record came; look"));
        let rows = json!({"outputs": {"o": {"rows": 1}}});
        assert_eq!(why(json!({"noOutput": "NoInput", "totals": rows})), None);
    }
}
