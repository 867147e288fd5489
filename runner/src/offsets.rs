//! Offsets and ranges of Kafka partitions: what everybody who reads, commits or shows a job speaks in.
//!
//! Pure. Offsets are Kafka's, and every range is `[start, end)`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A value per topic and partition.
pub type Partitions<T> = BTreeMap<String, BTreeMap<i32, T>>;

/// What one micro-batch read of a partition, and what is known of it afterwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// First offset; equal to the end before, or the partition's first.
    pub start: i64,
    /// One past the last offset.
    pub end: i64,
    /// Records in it; fewer than offsets where the topic is compacted or has transactions.
    pub records: u64,
    /// Offsets `[start, lost_until)` were gone from Kafka (`failOnDataLoss: false`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_until: Option<i64>,
    /// Greatest event time so far minus the delay.
    pub watermark: Option<i64>,
    /// Batch clock of the last batch with a valid record; of the first batch, if there was none.
    pub active: i64,
}

/// Known ends of a partition in Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// First offset that is still there.
    pub earliest: i64,
    /// One past the last offset that may be read (the last stable one under `read_committed`).
    pub end: i64,
}

/// Applies a function to every value.
pub fn map_partitions<T, U>(partitions: &Partitions<T>, change: impl Fn(&T) -> U) -> Partitions<U> {
    let topic =
        |values: &BTreeMap<i32, T>| values.iter().map(|(partition, value)| (*partition, change(value))).collect();
    partitions.iter().map(|(name, values)| (name.clone(), topic(values))).collect()
}
