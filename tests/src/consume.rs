//! Reading a topic from its beginning to its end, and writing it to a file for the independent readers.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::json;

use crate::Broker;

/// Without a record or an end for this long, reading has failed.
const SILENCE_MAX: Duration = Duration::from_secs(60);

impl Broker {
    /// Calls `visit` for every record of committed transactions (and outside any) that the topic has now.
    ///
    /// # Errors
    /// When the broker does not answer, or `visit` fails.
    pub fn for_each_record(
        &self,
        topic: &str,
        mut visit: impl FnMut(&BorrowedMessage<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let partitions = i32::try_from(self.offsets(topic)?.len())?;
        let consumer = self.consumer(&[
            ("group.id", "tests"),
            ("enable.auto.commit", "false"),
            ("isolation.level", "read_committed"),
            // The end is what the library says, since transaction markers take up offsets too.
            ("enable.partition.eof", "true"),
            ("fetch.queue.backoff.ms", "10"),
        ])?;
        let mut assignment = TopicPartitionList::new();
        for partition in 0..partitions {
            assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
        consumer.assign(&assignment)?;
        let mut ended = vec![false; usize::try_from(partitions)?];
        let mut heard = Instant::now();
        while ended.contains(&false) {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => visit(&message)?,
                Some(Err(KafkaError::PartitionEOF(partition))) => ended[usize::try_from(partition)?] = true,
                Some(Err(error)) => return Err(error).with_context(|| format!("read {topic}")),
                None if heard.elapsed() < SILENCE_MAX => continue,
                None => bail!("{topic} gave nothing for {} s", SILENCE_MAX.as_secs()),
            }
            heard = Instant::now();
        }
        Ok(())
    }

    /// Number of records that [`Broker::for_each_record`] sees.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub fn count_records(&self, topic: &str) -> anyhow::Result<u64> {
        let mut count = 0;
        self.for_each_record(topic, |_| {
            count += 1;
            Ok(())
        })?;
        Ok(count)
    }

    /// Writes the topic to `path` in the form that the independent readers take (`readers/records.py`). Returns the
    /// number of records.
    ///
    /// # Errors
    /// When the broker does not answer or the file cannot be written.
    pub fn dump_topic(&self, topic: &str, path: &Path) -> anyhow::Result<u64> {
        let mut file = BufWriter::new(File::create(path).with_context(|| format!("create {}", path.display()))?);
        let mut count = 0;
        self.for_each_record(topic, |message| {
            let record = json!({
                "topic": message.topic(),
                "partition": message.partition(),
                "offset": message.offset(),
                "timestamp_ms": message.timestamp().to_millis(),
                "key": message.key().map(base64),
                "value": message.payload().map(base64),
            });
            count += 1;
            writeln!(file, "{record}").context("write the dump")
        })?;
        file.flush().context("write the dump")?;
        Ok(count)
    }
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().chain([0, 0].iter()).take(3).fold(0, |group, byte| group << 8 | usize::from(*byte));
        for digit in 0..4 {
            let shown = digit <= chunk.len();
            text.push(if shown { DIGITS[group >> (18 - 6 * digit) & 63].into() } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        let texts = ["", "f", "fo", "foo", "foob", "fooba", "foobar"];
        let encoded = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        assert_eq!(texts.map(|text| base64(text.as_bytes())), encoded);
        assert_eq!(base64(&[0xff, 0xfb, 0xf0]), "//vw");
    }
}
