//! Offsets and ranges of Kafka partitions: what everybody who reads, commits or shows a job speaks in.
//!
//! Pure. Offsets are Kafka's, and every range is `[start, end)`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A value for each partition of each topic, in the order of both. In JSON: `{"topic": {"0": value}}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Partitions<T>(BTreeMap<String, BTreeMap<i32, T>>);

impl<T> Partitions<T> {
    /// No partition.
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Partitions of one topic.
    pub fn of(topic: &str, values: impl IntoIterator<Item = (i32, T)>) -> Self {
        Self(BTreeMap::from([(topic.to_owned(), values.into_iter().collect())]))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.values().all(BTreeMap::is_empty)
    }

    /// Number of partitions.
    pub fn len(&self) -> usize {
        self.0.values().map(BTreeMap::len).sum()
    }

    /// The value of a partition.
    pub fn get(&self, topic: &str, partition: i32) -> Option<&T> {
        self.0.get(topic)?.get(&partition)
    }

    /// The value of a partition.
    pub fn get_mut(&mut self, topic: &str, partition: i32) -> Option<&mut T> {
        self.0.get_mut(topic)?.get_mut(&partition)
    }

    /// The value of a partition, as a copy.
    pub fn at(&self, topic: &str, partition: i32) -> Option<T>
    where
        T: Copy,
    {
        self.get(topic, partition).copied()
    }

    /// The value of a partition, `fresh` if it had none.
    pub fn or_insert(&mut self, topic: &str, partition: i32, fresh: T) -> &mut T {
        self.topic_mut(topic).entry(partition).or_insert(fresh)
    }

    /// Gives a partition a value, and returns the one before.
    pub fn insert(&mut self, topic: &str, partition: i32, value: T) -> Option<T> {
        self.topic_mut(topic).insert(partition, value)
    }

    /// The partitions of a topic, by number.
    pub fn topic(&self, topic: &str) -> impl Iterator<Item = (i32, &T)> {
        self.0.get(topic).into_iter().flatten().map(|(partition, value)| (*partition, value))
    }

    /// The partitions of a topic, to be changed.
    pub fn topic_mut(&mut self, topic: &str) -> &mut BTreeMap<i32, T> {
        if !self.0.contains_key(topic) {
            self.0.insert(topic.to_owned(), BTreeMap::new());
        }
        self.0.get_mut(topic).expect("it is there, or was just put there")
    }

    /// Names of the topics.
    pub fn topics(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    /// Topic, partition and value of each.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i32, &T)> {
        self.0
            .iter()
            .flat_map(|(topic, of)| of.iter().map(move |(partition, value)| (topic.as_str(), *partition, value)))
    }

    /// Topic, partition and value of each, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&str, i32, &mut T)> {
        let topics = self.0.iter_mut();
        topics.flat_map(|(topic, of)| of.iter_mut().map(move |(partition, value)| (topic.as_str(), *partition, value)))
    }

    /// Topic, partition and value of each.
    pub fn into_all(self) -> impl Iterator<Item = (String, i32, T)> {
        let of = |(topic, of): (String, BTreeMap<i32, T>)| {
            of.into_iter().map(move |(partition, value)| (topic.clone(), partition, value))
        };
        self.0.into_iter().flat_map(of)
    }

    /// The values.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.0.values().flat_map(BTreeMap::values)
    }

    /// Keeps those for which `keep` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, i32, &mut T) -> bool) {
        self.0.retain(|topic, of| {
            of.retain(|partition, value| keep(topic, *partition, value));
            !of.is_empty()
        });
    }

    /// The same partitions with other values.
    pub fn map<U>(&self, mut change: impl FnMut(&T) -> U) -> Partitions<U> {
        self.map_at(|_, _, value| change(value))
    }

    /// The same partitions with other values, which may depend on where they are.
    pub fn map_at<U>(&self, mut change: impl FnMut(&str, i32, &T) -> U) -> Partitions<U> {
        let mut topic = |(topic, of): (&String, &BTreeMap<i32, T>)| {
            let values = of.iter().map(|(partition, value)| (*partition, change(topic, *partition, value)));
            (topic.clone(), values.collect())
        };
        Partitions(self.0.iter().map(&mut topic).collect())
    }
}

impl<T> Default for Partitions<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a, T> Extend<(&'a str, i32, T)> for Partitions<T> {
    fn extend<I: IntoIterator<Item = (&'a str, i32, T)>>(&mut self, values: I) {
        for (topic, partition, value) in values {
            self.insert(topic, partition, value);
        }
    }
}

impl<'a, T> FromIterator<(&'a str, i32, T)> for Partitions<T> {
    fn from_iter<I: IntoIterator<Item = (&'a str, i32, T)>>(values: I) -> Self {
        let mut partitions = Self::new();
        partitions.extend(values);
        partitions
    }
}

impl<T> FromIterator<(String, BTreeMap<i32, T>)> for Partitions<T> {
    fn from_iter<I: IntoIterator<Item = (String, BTreeMap<i32, T>)>>(topics: I) -> Self {
        Self(topics.into_iter().collect())
    }
}

/// The partitions of a topic.
impl<T> std::ops::Index<&str> for Partitions<T> {
    type Output = BTreeMap<i32, T>;

    fn index(&self, topic: &str) -> &BTreeMap<i32, T> {
        &self.0[topic]
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Partitions<i64> {
        [("b", 1, 7), ("a", 0, 3), ("b", 0, 5)].into_iter().collect()
    }

    #[test]
    fn partitions_come_in_the_order_of_topic_and_number() {
        assert_eq!(two().iter().collect::<Vec<_>>(), [("a", 0, &3), ("b", 0, &5), ("b", 1, &7)]);
        assert_eq!(two().map_at(|topic, partition, value| format!("{topic}{partition}:{value}"))["b"][&1], "b1:7");
        assert_eq!((two().len(), two().at("b", 1), two().at("b", 2), two().at("c", 0)), (3, Some(7), None, None));
    }

    #[test]
    fn they_are_written_by_topic_and_a_topic_without_partitions_is_none() {
        let text = serde_json::to_string(&two()).unwrap();
        assert_eq!(text, r#"{"a":{"0":3},"b":{"0":5,"1":7}}"#);
        assert_eq!(serde_json::from_str::<Partitions<i64>>(&text).unwrap(), two());
        let mut left = two();
        left.retain(|topic, _, _| topic == "a");
        assert_eq!(left, Partitions::of("a", [(0, 3)]));
        assert!(serde_json::from_str::<Partitions<i64>>(r#"{"a":{}}"#).unwrap().is_empty());
    }
}
