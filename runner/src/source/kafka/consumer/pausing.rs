//! Partitions of which there is nothing to read are not asked for while others have a backlog.
//!
//! A client has one fetch under way to each broker. While the partitions with a backlog have enough in their queues, the next
//! fetch is one of those that are fetched to their end; the broker lets it wait for `fetch.wait.max.ms`, and so long nobody
//! fetches the backlog. A partition that is paused loses what of it is in its queue, which is little, and is fetched again from
//! where it was read to. That there is something to read of it is known from the questions of every trigger.

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::KafkaSource;
use super::reading::Progress;
use crate::offsets::Partitions;
use crate::source::kafka::context::Context;

/// More than this to read of a partition is a backlog: less is in its queue, or comes with a fetch or two.
const BACKLOG: i64 = 5_000;

/// So many records up to the end of a partition are all in its queue. A micro-batch shares its records out by what there is to
/// read, so it takes one or two of a partition that has ten, while others have millions.
const FEW: i64 = 1_000;

impl KafkaSource {
    /// While a partition of a read has a backlog, no records are asked for of those that are read, and nearly to their end.
    pub(super) fn ask_only_for_backlog(&mut self, client: &BaseConsumer<Context>, reads: &Partitions<Progress>) {
        let has_backlog = reads.values().any(|read| !read.done && read.end - read.next > BACKLOG);
        let (mut pause, mut resume) = (TopicPartitionList::new(), TopicPartitionList::new());
        for (topic, partition, known) in self.partitions.iter_mut() {
            let read_to = match reads.get(topic, partition) {
                Some(read) if read.done => Some(read.end),
                Some(_) => None,
                None => self.positions.at(topic, partition),
            };
            let end = self.ends.at(topic, partition);
            let is_fetched = read_to.zip(end).is_some_and(|(read_to, end)| end - read_to <= FEW);
            let is_paused = has_backlog && is_fetched && known.carry.is_empty();
            if is_paused != known.is_paused {
                known.is_paused = is_paused;
                let _ = if is_paused { &mut pause } else { &mut resume }.add_partition(topic, partition);
            }
        }
        // The client refuses only what it does not know, and knows what is assigned.
        if pause.count() > 0 {
            let _ = client.pause(&pause);
        }
        if resume.count() > 0 {
            let _ = client.resume(&resume);
        }
    }

    /// All partitions are asked for: what is assigned anew stays paused otherwise.
    pub(super) fn resume_all(&mut self) {
        let mut resume = TopicPartitionList::new();
        for (topic, partition, known) in self.partitions.iter_mut().filter(|(.., known)| known.is_paused) {
            known.is_paused = false;
            let _ = resume.add_partition(topic, partition);
        }
        if let Some(client) = self.client.as_ref().filter(|_| resume.count() > 0) {
            let _ = client.resume(&resume);
        }
    }
}
