//! A source in memory: partitions as vectors, and what happens to partitions.
//!
//! A [`MemoryCluster`] is what a broker is to the real source: it outlives jobs, and whoever holds it appends, makes gaps,
//! removes old records, takes leaders away and creates topics again, also while a job reads. Simulations and tests of the
//! pipeline run on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use data_platform_crds::kafka::{StartOffset, StartingOffsets};

use super::record::{NoHeaders, Record};
use super::{Identity, PartitionRead, Source, SourceError, Topic, WithoutLeader};
use crate::offsets::{Bounds, Partitions};
use crate::random::Random;
use crate::stop::StopSignal;

/// What errors call the servers.
const SERVERS: &str = "memory";

/// A record to append.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryRecord {
    /// The time that the broker keeps with it, in milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
}

impl MemoryRecord {
    /// A record with a value and nothing else.
    pub fn of(value: impl Into<Vec<u8>>) -> Self {
        Self { value: Some(value.into()), ..Self::default() }
    }
}

#[derive(Debug, Default)]
struct MemoryPartition {
    /// First offset that is still there.
    first: i64,
    /// One past the last offset.
    end: i64,
    /// By offset; what is missing is a gap.
    records: BTreeMap<i64, MemoryRecord>,
    /// Nobody leads it.
    leaderless: bool,
    /// It loses its leader when this offset is to be read.
    leader_leaves_at: Option<i64>,
}

#[derive(Debug, Default)]
struct MemoryTopic {
    id: String,
    partitions: Vec<MemoryPartition>,
}

#[derive(Debug, Default)]
struct Cluster {
    topics: BTreeMap<String, MemoryTopic>,
    created: u64,
    /// Questions and reads that nobody answers from now on.
    unanswered: u64,
    /// What jobs told the group.
    group: Partitions<i64>,
}

/// Topics in memory. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryCluster(Arc<Mutex<Cluster>>);

impl MemoryCluster {
    /// Makes a topic, or makes it again: then it is empty and has another id.
    pub fn create(&self, topic: &str, partitions: i32) {
        let mut cluster = self.lock();
        cluster.created += 1;
        let id = format!("{topic}-{}", cluster.created);
        let partitions = (0..partitions).map(|_| MemoryPartition::default()).collect();
        cluster.topics.insert(topic.to_owned(), MemoryTopic { id, partitions });
    }

    /// Adds a partition to a topic.
    pub fn grow(&self, topic: &str) {
        if let Some(topic) = self.lock().topics.get_mut(topic) {
            topic.partitions.push(MemoryPartition::default());
        }
    }

    /// Appends a record and gives its offset.
    pub fn append(&self, topic: &str, partition: i32, record: MemoryRecord) -> Option<i64> {
        self.with(topic, partition, |partition| {
            let offset = partition.end;
            partition.records.insert(offset, record);
            partition.end += 1;
            offset
        })
    }

    /// Appends offsets without records, as markers of transactions and compaction leave them.
    pub fn append_gap(&self, topic: &str, partition: i32, offsets: i64) {
        self.with(topic, partition, |partition| partition.end += offsets);
    }

    /// Removes what lies before an offset, as retention does.
    pub fn expire(&self, topic: &str, partition: i32, before: i64) {
        self.with(topic, partition, |partition| {
            partition.first = before.clamp(partition.first, partition.end);
            partition.records = partition.records.split_off(&partition.first);
        });
    }

    /// Takes the leader of a partition away, or gives it one again.
    pub fn lead(&self, topic: &str, partition: i32, has_leader: bool) {
        self.with(topic, partition, |partition| {
            partition.leaderless = !has_leader;
            partition.leader_leaves_at = None;
        });
    }

    /// Takes the leader away in the middle of a read, before the record at `offset` is read.
    pub fn lose_leader_at(&self, topic: &str, partition: i32, offset: i64) {
        self.with(topic, partition, |partition| partition.leader_leaves_at = Some(offset));
    }

    /// Gives every partition a leader.
    pub fn heal(&self) {
        for partition in self.lock().topics.values_mut().flat_map(|topic| &mut topic.partitions) {
            partition.leaderless = false;
            partition.leader_leaves_at = None;
        }
    }

    /// Leaves the next questions and reads without an answer.
    pub fn leave_unanswered(&self, questions: u64) {
        self.lock().unanswered = questions;
    }

    /// What jobs told the group last.
    pub fn group(&self) -> Partitions<i64> {
        self.lock().group.clone()
    }

    /// A source that reads these topics. `seed` decides in which runs the records of several partitions come.
    pub fn source(&self, topics: &[&str], seed: u64) -> MemorySource {
        let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
        MemorySource { cluster: self.clone(), topics, positions: Partitions::new(), random: Random::new(seed) }
    }

    fn lock(&self) -> MutexGuard<'_, Cluster> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, topic: &str, partition: i32, work: impl FnOnce(&mut MemoryPartition) -> T) -> Option<T> {
        let mut cluster = self.lock();
        let index = usize::try_from(partition).ok()?;
        Some(work(cluster.topics.get_mut(topic)?.partitions.get_mut(index)?))
    }

    /// Counts a question; an error if nobody answers it.
    fn ask(&self) -> Result<MutexGuard<'_, Cluster>, SourceError> {
        let mut cluster = self.lock();
        if cluster.unanswered == 0 {
            return Ok(cluster);
        }
        cluster.unanswered -= 1;
        Err(SourceError::Unreachable { servers: SERVERS.to_owned(), detail: "no answer".to_owned() })
    }
}

/// Reads topics of a [`MemoryCluster`].
pub struct MemorySource {
    cluster: MemoryCluster,
    topics: BTreeSet<String>,
    /// Next offset of every assigned partition.
    positions: Partitions<i64>,
    random: Random,
}

impl MemorySource {
    /// Something about every partition that somebody leads.
    fn of_partitions<T>(&self, tell: impl Fn(&MemoryPartition) -> T) -> Result<Partitions<T>, SourceError> {
        let cluster = self.cluster.ask()?;
        let mut told = Partitions::new();
        for (name, topic) in cluster.topics.iter().filter(|(name, _)| self.topics.contains(*name)) {
            for (number, partition) in (0..).zip(&topic.partitions).filter(|(_, partition)| !partition.leaderless) {
                told.insert(name, number, tell(partition));
            }
        }
        Ok(told)
    }
}

impl Source for MemorySource {
    fn identity(&mut self) -> Result<Identity, SourceError> {
        let cluster = self.cluster.ask()?;
        let mut topics = BTreeMap::new();
        for name in &self.topics {
            let Some(topic) = cluster.topics.get(name) else {
                let (topic, hint) = (name.clone(), String::new());
                return Err(SourceError::TopicMissing { topic, servers: SERVERS.to_owned(), hint });
            };
            let partitions = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
            topics.insert(name.clone(), Topic { id: topic.id.clone(), partitions });
        }
        Ok(Identity { cluster_id: SERVERS.to_owned(), topics })
    }

    fn resolve(&mut self, starting: &StartingOffsets) -> Result<Partitions<i64>, SourceError> {
        match starting {
            StartingOffsets::Earliest => self.of_partitions(|partition| partition.first),
            StartingOffsets::Latest => self.of_partitions(|partition| partition.end),
            StartingOffsets::Time(milliseconds) => self.of_partitions(|partition| {
                let at_or_after = |record: &&MemoryRecord| record.timestamp_ms >= Some(*milliseconds);
                let found = partition.records.iter().find(|(_, record)| at_or_after(record));
                found.map_or(partition.end, |(offset, _)| *offset)
            }),
            StartingOffsets::Explicit(given) => {
                let offsets = self.of_partitions(|partition| (partition.first, partition.end))?;
                let start = |topic: &str, partition| given.get(topic)?.get(&partition);
                Ok(offsets.map_at(|topic, partition, (first, end)| match start(topic, partition) {
                    Some(StartOffset::Latest) => *end,
                    Some(StartOffset::At(offset)) => *offset,
                    Some(StartOffset::Earliest) | None => *first,
                }))
            }
        }
    }

    fn bounds(&mut self) -> Result<Partitions<Bounds>, SourceError> {
        self.of_partitions(|partition| Bounds { earliest: partition.first, end: partition.end })
    }

    fn assign(&mut self, positions: &Partitions<i64>) -> Result<(), SourceError> {
        drop(self.cluster.ask()?);
        self.positions.clone_from(positions);
        Ok(())
    }

    fn read(
        &mut self,
        ranges: &Partitions<(i64, i64)>,
        without_leader: WithoutLeader,
        stop: &StopSignal,
        visit: &mut dyn FnMut(&Record<'_>) -> Result<(), SourceError>,
    ) -> Result<Partitions<PartitionRead>, SourceError> {
        drop(self.cluster.ask()?);
        let mut reads = ranges.map(|(start, _)| PartitionRead { start: *start, end: *start, records: 0 });
        let mut left = Vec::new();
        for (topic, partition, (start, end)) in ranges.iter() {
            let known = self.positions.at(topic, partition);
            if known != Some(*start) {
                let detail = format!("{topic} partition {partition} is at {known:?}, not at {start}");
                return Err(SourceError::Failed { operation: "read", detail });
            }
            left.push((topic.to_owned(), partition, *end));
        }
        while !left.is_empty() {
            if stop.is_stopped() {
                return Err(SourceError::Stopped);
            }
            let chosen = self.random.below(left.len() as u64) as usize;
            let run = 1 + self.random.below(20) as i64;
            let (topic, partition, end) = left[chosen].clone();
            let read = reads.get_mut(&topic, partition).expect("it is in the ranges");
            let until = end.min(read.end + run);
            let is_led = self.run(&topic, partition, until, read, visit)?;
            self.positions.insert(&topic, partition, read.end);
            match (is_led, without_leader) {
                (true, _) if read.end < end => {}
                (true, _) | (false, WithoutLeader::Leave) => drop(left.swap_remove(chosen)),
                // A broker without a leader for it does not answer; here nobody else could bring one while we wait.
                (false, WithoutLeader::Await) => {
                    let detail = format!("{topic} partition {partition} has no leader");
                    return Err(SourceError::Unreachable { servers: SERVERS.to_owned(), detail });
                }
            }
        }
        Ok(reads)
    }

    fn tell_group(&mut self, positions: &Partitions<i64>) {
        self.cluster.lock().group.clone_from(positions);
    }
}

impl MemorySource {
    /// Reads a partition up to `until`, or up to where it loses its leader: then `false`.
    fn run(
        &self,
        topic: &str,
        partition: i32,
        until: i64,
        read: &mut PartitionRead,
        visit: &mut dyn FnMut(&Record<'_>) -> Result<(), SourceError>,
    ) -> Result<bool, SourceError> {
        while read.end < until {
            let offset = read.end;
            let found = self.cluster.with(topic, partition, |known| {
                if known.leader_leaves_at.is_some_and(|at| offset >= at) {
                    known.leaderless = true;
                }
                if known.leaderless {
                    return Ok(None);
                }
                if offset < known.first {
                    let (topic, earliest) = (topic.to_owned(), known.first);
                    return Err(SourceError::OffsetsGone { topic, partition, position: offset, earliest });
                }
                Ok(Some(known.records.get(&offset).cloned()))
            });
            let missing = || SourceError::Failed { operation: "read", detail: format!("{topic} {partition} is gone") };
            match found.ok_or_else(missing)?? {
                None => return Ok(false),
                Some(None) => {}
                Some(Some(record)) => {
                    visit(&Record {
                        topic,
                        partition,
                        offset,
                        timestamp_ms: record.timestamp_ms,
                        key: record.key.as_deref(),
                        value: record.value.as_deref(),
                        headers: &NoHeaders,
                    })?;
                    read.records += 1;
                }
            }
            read.end += 1;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(partition: i32, start: i64, end: i64) -> Partitions<(i64, i64)> {
        Partitions::of("t", [(partition, (start, end))])
    }

    fn read(
        source: &mut MemorySource,
        ranges: &Partitions<(i64, i64)>,
        without_leader: WithoutLeader,
    ) -> (Vec<i64>, Result<Partitions<PartitionRead>, SourceError>) {
        let mut offsets = Vec::new();
        let read = source.read(ranges, without_leader, &StopSignal::new(), &mut |record| {
            offsets.push(record.offset);
            Ok(())
        });
        (offsets, read)
    }

    fn cluster(records: i64) -> MemoryCluster {
        let cluster = MemoryCluster::default();
        cluster.create("t", 1);
        for number in 0..records {
            assert_eq!(cluster.append("t", 0, MemoryRecord::of(number.to_string())), Some(number));
        }
        cluster
    }

    fn at(source: &mut MemorySource, position: i64) {
        source.assign(&Partitions::of("t", [(0, position)])).unwrap();
    }

    #[test]
    fn ranges_are_read_in_order_and_gaps_have_no_records() {
        let cluster = cluster(3);
        cluster.append_gap("t", 0, 2);
        cluster.append("t", 0, MemoryRecord::of("x"));
        let mut source = cluster.source(&["t"], 1);
        assert_eq!(source.bounds().unwrap()["t"][&0], Bounds { earliest: 0, end: 6 });
        at(&mut source, 0);
        let (offsets, told) = read(&mut source, &range(0, 0, 6), WithoutLeader::Leave);
        assert_eq!(offsets, [0, 1, 2, 5]);
        assert_eq!(told.unwrap()["t"][&0], PartitionRead { start: 0, end: 6, records: 4 });
        let (_, again) = read(&mut source, &range(0, 0, 6), WithoutLeader::Leave);
        assert!(matches!(again, Err(SourceError::Failed { .. })), "a range continues where the last one ended");
    }

    #[test]
    fn what_retention_removed_is_an_error_that_says_where_it_goes_on() {
        let cluster = cluster(10);
        cluster.expire("t", 0, 4);
        let mut source = cluster.source(&["t"], 1);
        at(&mut source, 2);
        let (_, told) = read(&mut source, &range(0, 2, 10), WithoutLeader::Leave);
        assert!(matches!(told, Err(SourceError::OffsetsGone { position: 2, earliest: 4, .. })), "{told:?}");
    }

    #[test]
    fn a_partition_that_loses_its_leader_is_left_where_it_was_read_to() {
        let cluster = cluster(10);
        cluster.lose_leader_at("t", 0, 6);
        let mut source = cluster.source(&["t"], 1);
        at(&mut source, 0);
        let (offsets, told) = read(&mut source, &range(0, 0, 10), WithoutLeader::Leave);
        assert_eq!(offsets, [0, 1, 2, 3, 4, 5]);
        assert_eq!(told.unwrap()["t"][&0].end, 6);
        assert!(source.bounds().unwrap().is_empty(), "nobody tells its end");
        cluster.lead("t", 0, true);
        let (offsets, _) = read(&mut source, &range(0, 6, 10), WithoutLeader::Await);
        assert_eq!(offsets, [6, 7, 8, 9]);
    }

    #[test]
    fn a_topic_that_is_made_again_has_another_id() {
        let cluster = cluster(1);
        let mut source = cluster.source(&["t"], 1);
        let before = source.identity().unwrap();
        cluster.create("t", 2);
        let after = source.identity().unwrap();
        assert_ne!(before.topics["t"].id, after.topics["t"].id);
        cluster.leave_unanswered(1);
        assert!(matches!(source.identity(), Err(SourceError::Unreachable { .. })));
        assert!(source.identity().is_ok());
    }
}
