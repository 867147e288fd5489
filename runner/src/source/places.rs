//! Where the rows of a batch come from: runs of records that follow each other in a partition.
//!
//! It costs an addition per record, and tells the record of every row without a column for it.

use std::sync::Arc;

/// The records of a batch's rows, in the order of the rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    runs: Vec<Run>,
    /// Offset that goes on with the last run.
    next: i64,
}

/// Records that follow each other.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Run {
    topic: Arc<str>,
    partition: i32,
    first: i64,
    rows: usize,
}

impl Places {
    /// Adds the record of the next row. The last one was of the same partition, unless [`Self::turn`] was called since.
    #[inline]
    pub fn push(&mut self, topic: &str, partition: i32, offset: i64) {
        match self.runs.last_mut() {
            Some(run) if self.next == offset => run.rows += 1,
            _ => self.begin(topic, partition, offset),
        }
        self.next = offset + 1;
    }

    #[cold]
    fn begin(&mut self, topic: &str, partition: i32, offset: i64) {
        let known = self.runs.last().filter(|run| *run.topic == *topic).map(|run| Arc::clone(&run.topic));
        let topic = known.unwrap_or_else(|| topic.into());
        self.runs.push(Run { topic, partition, first: offset, rows: 1 });
    }

    /// The next row is of another partition.
    pub fn turn(&mut self) {
        self.next = -1;
    }

    /// The records of all rows, in their order: topic, partition and offset.
    pub fn all(&self) -> impl Iterator<Item = (&str, i32, i64)> {
        let of_run = |run: &'_ Run| run.first..run.first + run.rows as i64;
        self.runs.iter().flat_map(move |run| of_run(run).map(|offset| (&*run.topic, run.partition, offset)))
    }

    /// Those of the rows for which something holds.
    #[must_use]
    pub fn only(&self, mut holds: impl FnMut(usize) -> bool) -> Self {
        let mut only = Self::default();
        let mut last = None;
        for (row, (topic, partition, offset)) in self.all().enumerate() {
            if !holds(row) {
                continue;
            }
            if last.replace((topic, partition)) != Some((topic, partition)) {
                only.turn();
            }
            only.push(topic, partition, offset);
        }
        only
    }

    /// The record of a row: topic, partition and offset.
    pub fn of(&self, row: usize) -> Option<(&str, i32, i64)> {
        let mut before = 0;
        for run in &self.runs {
            if row < before + run.rows {
                return Some((&run.topic, run.partition, run.first + (row - before) as i64));
            }
            before += run.rows;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_knows_its_record() {
        let records =
            [("t", 0, 5), ("t", 0, 6), ("t", 0, 8), ("t", 1, 9), ("u", 1, 10), ("t", 0, 9), ("t", 0, 10), ("t", 0, 11)];
        let mut places = Places::default();
        let mut last = ("", -1);
        for (topic, partition, offset) in records {
            if std::mem::replace(&mut last, (topic, partition)) != (topic, partition) {
                places.turn();
            }
            places.push(topic, partition, offset);
        }
        let of: Vec<_> = (0..records.len()).filter_map(|row| places.of(row)).collect();
        assert_eq!(of, records);
        assert_eq!(places.of(records.len()), None);
        assert_eq!(places.runs.len(), 5);
        assert_eq!(places.all().collect::<Vec<_>>(), records);
        let every_second: Vec<_> = places.only(|row| row % 2 == 1).all().map(|(.., offset)| offset).collect();
        assert_eq!(every_second, [6, 9, 9, 11]);
    }
}
