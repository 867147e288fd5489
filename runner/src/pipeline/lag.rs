//! [`ReadUpTo`]: since when the first record may wait that a partition has and the job has not committed.
//!
//! Pure. That record's own time is not known before it is read. Two things are, and each is a time before which it was not
//! written: the time of the record before it, and when the partition was last seen to have nothing more. A partition that
//! is busy is told by the first, one that is quiet by the second.

use crate::offsets::{Bounds, Partitions};

/// How far a partition is read, in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadUpTo {
    /// Kafka's time of the last record that was committed, in microseconds.
    written: Option<i64>,
    /// Last time that the partition was seen to have nothing more, in microseconds.
    nothing_more: Option<i64>,
}

impl ReadUpTo {
    /// Notes that records were committed, the last one with this time. A producer's clock may be ahead of ours, or wrong:
    /// a record was not written later than now.
    pub fn committed(&mut self, written: Option<i64>, now: i64) {
        self.written = written.map(|written| written.min(now)).or(self.written);
    }

    /// Notes where the partition ended when it was asked.
    pub fn looked(&mut self, position: i64, end: i64, asked: i64) {
        if position >= end {
            self.nothing_more = self.nothing_more.max(Some(asked));
        }
    }

    /// What is not committed was written after this, in microseconds. `None`: this process has neither read from the
    /// partition nor seen it read up.
    pub fn unread_since(&self) -> Option<i64> {
        self.written.max(self.nothing_more)
    }
}

/// Notes where all partitions ended when they were asked.
pub fn looked(
    read_up_to: &mut Partitions<ReadUpTo>,
    positions: &Partitions<i64>,
    bounds: &Partitions<Bounds>,
    asked: i64,
) {
    for (topic, partition, bounds) in bounds.iter() {
        let position = positions.at(topic, partition).unwrap_or(bounds.earliest);
        read_up_to.or_insert(topic, partition, ReadUpTo::default()).looked(position, bounds.end, asked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_younger_than_what_was_read_before_it() {
        let mut partition = ReadUpTo::default();
        assert_eq!(partition.unread_since(), None);
        partition.looked(0, 100, 5);
        assert_eq!(partition.unread_since(), None, "100 records wait, nobody knows for how long");
        partition.committed(Some(70), 90);
        assert_eq!(partition.unread_since(), Some(70));
        partition.committed(None, 95);
        assert_eq!(partition.unread_since(), Some(70), "a broker without times says nothing new");
        partition.committed(Some(60), 96);
        assert_eq!(partition.unread_since(), Some(60), "times of producers may go back");
    }

    #[test]
    fn what_waits_is_younger_than_the_last_look_that_saw_nothing() {
        let mut partition = ReadUpTo::default();
        partition.committed(Some(70), 90);
        partition.looked(100, 100, 500);
        assert_eq!(partition.unread_since(), Some(500));
        partition.looked(100, 101, 600);
        assert_eq!(partition.unread_since(), Some(500));
        partition.committed(Some(550), 700);
        assert_eq!(partition.unread_since(), Some(550));
    }

    #[test]
    fn a_producer_whose_clock_is_ahead_does_not_hide_a_lag() {
        let mut partition = ReadUpTo::default();
        partition.committed(Some(i64::MAX), 90);
        assert_eq!(partition.unread_since(), Some(90));
    }

    #[test]
    fn a_partition_that_is_new_is_looked_at_from_its_beginning() {
        let of = |earliest, end| Partitions::of("t", [(0, Bounds { earliest, end })]);
        let mut known = Partitions::new();
        looked(&mut known, &Partitions::new(), &of(3, 5), 10);
        assert_eq!(known["t"][&0].unread_since(), None);
        looked(&mut known, &Partitions::new(), &of(5, 5), 20);
        assert_eq!(known["t"][&0].unread_since(), Some(20));
    }
}
