//! [`StartingOffsets`]: where a job without a checkpoint begins.

use std::collections::BTreeMap;
use std::str::FromStr;

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

/// Where a job without a checkpoint begins: `kafka.startingOffsets`, or `--starting-offsets`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartingOffsets {
    /// The first record that Kafka still has.
    Earliest,
    /// The next record that is written.
    Latest,
    /// The first record at or after this time, in milliseconds since 1970 UTC, the unit of Kafka's record time.
    Time(i64),
    /// By topic and partition. A partition that is not named begins at earliest.
    Explicit(BTreeMap<String, BTreeMap<i32, StartOffset>>),
}

/// Where one partition begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartOffset {
    /// The first record that Kafka still has; Spark writes -2.
    Earliest,
    /// The next record that is written; Spark writes -1.
    Latest,
    /// The record with this offset, or the next one that is there.
    At(i64),
}

/// A text that is not a [`StartingOffsets`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartingOffsetsError {
    /// None of the forms.
    #[error(
        "{0:?} is none of earliest, latest, a time such as 2026-02-16T14:00:00Z, or offsets such as \
         {{\"topic\":{{\"0\":23}}}}"
    )]
    Form(String),
    /// A time that is none, or has no zone.
    #[error("{text:?} is not a time with a zone, such as 2026-02-16T14:00:00Z: {problem}")]
    Time {
        /// The whole text.
        text: String,
        /// What is wrong.
        problem: String,
    },
    /// Broken JSON.
    #[error("the offsets are not JSON: {0}")]
    Json(String),
    /// JSON of another shape.
    #[error("{place} is not {expected}")]
    Shape {
        /// Topic and partition.
        place: String,
        /// What stands there in Spark's notation.
        expected: &'static str,
    },
}

impl FromStr for StartingOffsets {
    type Err = StartingOffsetsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let trimmed = text.trim();
        match trimmed {
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            _ if trimmed.starts_with('{') => explicit(trimmed).map(Self::Explicit),
            _ if trimmed.starts_with(|c: char| c.is_ascii_digit()) => time(trimmed).map(Self::Time),
            _ => Err(StartingOffsetsError::Form(text.to_owned())),
        }
    }
}

fn time(text: &str) -> Result<i64, StartingOffsetsError> {
    let error = |problem: String| StartingOffsetsError::Time { text: text.to_owned(), problem };
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(error("it is a bare number".to_owned()));
    }
    let time: Timestamp = text.parse().map_err(|problem: k8s_openapi::jiff::Error| error(problem.to_string()))?;
    Ok(time.as_millisecond())
}

fn explicit(text: &str) -> Result<BTreeMap<String, BTreeMap<i32, StartOffset>>, StartingOffsetsError> {
    let shape = |place: &str, expected| StartingOffsetsError::Shape { place: place.to_owned(), expected };
    let topics: BTreeMap<String, Value> =
        serde_json::from_str(text).map_err(|error| StartingOffsetsError::Json(error.to_string()))?;
    if topics.is_empty() {
        return Err(shape("an empty object", "offsets by topic: name at least one"));
    }
    let mut offsets = BTreeMap::new();
    for (topic, partitions) in topics {
        let Some(partitions) = partitions.as_object().filter(|partitions| !partitions.is_empty()) else {
            return Err(shape(&topic, "an object of offsets by partition, such as {\"0\":23}"));
        };
        let mut by_partition = BTreeMap::new();
        for (partition, offset) in partitions {
            let place = format!("{topic} {partition:?}");
            let partition: Option<i32> = partition.parse().ok().filter(|partition| *partition >= 0);
            let partition = partition.ok_or_else(|| shape(&place, "a partition number"))?;
            let offset = match offset.as_i64() {
                Some(-2) => StartOffset::Earliest,
                Some(-1) => StartOffset::Latest,
                Some(offset) if offset >= 0 => StartOffset::At(offset),
                _ => return Err(shape(&place, "followed by an offset, -2 for earliest or -1 for latest")),
            };
            by_partition.insert(partition, offset);
        }
        offsets.insert(topic, by_partition);
    }
    Ok(offsets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        let read = |text: &str| text.parse::<StartingOffsets>().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(read("earliest"), StartingOffsets::Earliest);
        assert_eq!(read(" latest "), StartingOffsets::Latest);
        for (text, milliseconds) in [
            ("2026-02-16T14:00:00Z", 1_771_250_400_000),
            ("2026-02-16T15:00:00.250+01:00", 1_771_250_400_250),
            ("2026-02-16 14:00:00Z", 1_771_250_400_000),
        ] {
            assert_eq!(read(text), StartingOffsets::Time(milliseconds), "{text}");
        }
        let partitions = [(0, StartOffset::At(23)), (1, StartOffset::Earliest), (12, StartOffset::Latest)].into();
        let expected = StartingOffsets::Explicit([("t".to_owned(), partitions)].into());
        assert_eq!(read(r#"{"t":{"0":23,"1":-2,"12":-1}}"#), expected);
    }

    #[test]
    fn a_wrong_form_says_what_is_wrong() {
        for (text, expected) in [
            ("newest", "is none of earliest"),
            ("", "is none of earliest"),
            ("2026-02-16", "not a time with a zone"),
            ("2026-02-16T14:00:00", "not a time with a zone"),
            ("1771250400000", "it is a bare number"),
            ("{\"t\":", "not JSON"),
            ("{}", "name at least one"),
            ("{\"t\":{}}", "t is not an object of offsets"),
            ("{\"t\":5}", "t is not an object of offsets"),
            ("{\"t\":{\"a\":5}}", "t \"a\" is not a partition number"),
            ("{\"t\":{\"-1\":5}}", "t \"-1\" is not a partition number"),
            ("{\"t\":{\"0\":-3}}", "t \"0\" is not followed by an offset"),
            ("{\"t\":{\"0\":\"5\"}}", "t \"0\" is not followed by an offset"),
        ] {
            let error = text.parse::<StartingOffsets>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
