//! Reading one partition of a micro-batch.

use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::types::RDKafkaErrorCode;

use super::KafkaSource;
use crate::offsets::Partitions;
use crate::source::kafka::native::{BATCH_MESSAGES_MAX, OffsetQuestion};
use crate::source::record::Record;
use crate::source::{PartitionRead, SourceError};

/// How long a broker may take to say who leads the partitions from which nothing comes.
const LEADER_TIMEOUT: Duration = Duration::from_secs(2);

/// How far one partition of a read has come.
pub(super) struct Progress {
    pub(super) start: i64,
    pub(super) next: i64,
    pub(super) end: i64,
    pub(super) records: u64,
    pub(super) done: bool,
}

/// Partitions of a read that have no leader; at least one.
pub(super) struct Leaderless(Vec<(String, i32)>);

impl Leaderless {
    /// Ends their ranges where they were read to.
    pub(super) fn leave(self, reads: &mut Partitions<Progress>) {
        for (topic, partition) in self.0 {
            let Some(read) = reads.get_mut(&topic, partition) else { continue };
            tracing::warn!(topic, partition, offset = read.next, "it has no leader; the others are read without it");
            read.end = read.next;
            read.done = true;
        }
    }

    pub(super) fn into_error(self) -> SourceError {
        let names: Vec<_> = self.0.iter().map(|(topic, partition)| format!("{topic} partition {partition}")).collect();
        let has = if names.len() == 1 { "has" } else { "have" };
        SourceError::Failed { operation: "read", detail: format!("{} {has} no leader", names.join(", ")) }
    }
}

/// What was read of each partition of which something was.
pub(super) fn read_of_each(reads: &Partitions<Progress>) -> Partitions<PartitionRead> {
    let part = |read: &Progress| PartitionRead { start: read.start, end: read.end, records: read.records };
    let read = reads.iter().filter(|(.., read)| read.end > read.start);
    read.map(|(topic, partition, read)| (topic, partition, part(read))).collect()
}

impl KafkaSource {
    /// Partitions from which a read waits for records and that have no leader, as a broker says.
    pub(super) fn leaderless(&mut self, reads: &Partitions<Progress>) -> Option<Leaderless> {
        let client = self.asking().ok()?;
        let mut lost = Vec::new();
        for topic in reads.topics() {
            let metadata = client.fetch_metadata(Some(topic), LEADER_TIMEOUT).ok()?;
            let known = metadata.topics().first().map(|topic| topic.partitions()).unwrap_or_default();
            let is_left = |partition| reads.get(topic, partition).is_some_and(|read| !read.done);
            let here = known.iter().filter(|known| known.leader() < 0 && is_left(known.id()));
            lost.extend(here.map(|known| (topic.clone(), known.id())));
        }
        (!lost.is_empty()).then_some(Leaderless(lost))
    }

    pub(super) fn is_past(&self, topic: &str, partition: i32, offset: i64) -> bool {
        let known = self.partitions.get(topic, partition);
        known.is_some_and(|known| known.end_seen >= offset && known.carry.is_empty())
    }

    /// The broker has no offset `position`: it is gone since the batch was planned, or the partition ends before it.
    pub(super) fn why_out_of_range(&mut self, topic: &str, partition: i32, position: i64) -> SourceError {
        let mut ask = |question| {
            let answers = self.all_offsets(&Partitions::of(topic, [(partition, question)]))?;
            Ok(answers.at(topic, partition).unwrap_or(position))
        };
        let topic = topic.to_owned();
        match (ask(OffsetQuestion::Earliest), ask(OffsetQuestion::End)) {
            (Err(error), _) | (_, Err(error)) => error,
            (Ok(earliest), _) if earliest > position => {
                SourceError::OffsetsGone { topic, partition, position, earliest }
            }
            (_, Ok(end)) if end < position => SourceError::BehindEnd { topic, partition, position, end },
            (Ok(earliest), Ok(end)) => {
                let detail = format!("{topic} partition {partition} has [{earliest}, {end}) but refuses {position}");
                SourceError::Failed { operation: "read", detail }
            }
        }
    }

    pub(super) fn read_partition(
        &mut self,
        topic: &str,
        partition: i32,
        read: &mut Progress,
        wait: Duration,
        visit: &mut dyn FnMut(&Record<'_>) -> Result<(), SourceError>,
    ) -> Result<bool, SourceError> {
        let Some(known) = self.partitions.get_mut(topic, partition) else {
            return Err(SourceError::Failed {
                operation: "read",
                detail: format!("{topic} partition {partition} is not assigned"),
            });
        };
        let mut messages = std::mem::take(&mut known.carry);
        if messages.is_empty() {
            let wanted = usize::try_from(read.end - read.next).unwrap_or(usize::MAX).min(BATCH_MESSAGES_MAX);
            known.queue.consume(wait, wanted, &mut messages);
        }
        if messages.is_empty() {
            return Ok(false);
        }
        // Where offsets are missing, a batch may reach into the next range.
        let end = read.end;
        known.carry = messages.split_off(|message| message.error().is_none() && message.offset() >= end);
        if !known.carry.is_empty() {
            read.next = end;
        }
        for message in messages.iter() {
            if let Some(code) = message.error() {
                if code == RDKafkaErrorCode::PartitionEOF {
                    known.end_seen = known.end_seen.max(message.offset());
                    continue;
                }
                // Fetched at a position that was given up since: offsets were gone, and reading goes on behind them.
                if is_out_of_range(code) && (0..read.start).contains(&message.offset()) {
                    continue;
                }
                return Err(partition_error(topic, partition, code, read.next, message.error_text()));
            }
            read.next = read.next.max(message.offset() + 1);
            read.records += 1;
            visit(&Record {
                topic,
                partition,
                offset: message.offset(),
                timestamp_ms: message.timestamp_ms(),
                key: message.key(),
                value: message.value(),
                headers: &message,
            })?;
        }
        read.done = read.next >= end || known.end_seen >= end;
        Ok(true)
    }
}

fn is_out_of_range(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange)
}

fn partition_error(topic: &str, partition: i32, code: RDKafkaErrorCode, position: i64, text: String) -> SourceError {
    match code {
        // The position lies before the first offset or behind the last one; see `why_out_of_range`.
        code if is_out_of_range(code) => {
            SourceError::OffsetsGone { topic: topic.to_owned(), partition, position, earliest: position }
        }
        RDKafkaErrorCode::TopicAuthorizationFailed => {
            SourceError::NotAuthorized { topic: topic.to_owned(), detail: text }
        }
        RDKafkaErrorCode::BadCompression => {
            SourceError::RecordTooLarge { topic: topic.to_owned(), partition, offset: position, detail: text }
        }
        _ => SourceError::Failed { operation: "read", detail: format!("{topic} partition {partition}: {text}") },
    }
}
