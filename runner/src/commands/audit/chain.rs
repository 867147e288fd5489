//! Ranges of offsets that must follow each other without a gap and without an overlap.
//!
//! Pure.

use crate::offsets::Partitions;

/// What was covered of one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Covered {
    /// First offset.
    pub(super) first: i64,
    /// One past the last.
    pub(super) next: i64,
}

/// Ranges per partition, as they came.
#[derive(Clone, Debug, Default)]
pub(super) struct Chains {
    partitions: Partitions<Covered>,
    /// Old files were removed on purpose: what they covered is missing.
    gaps_are_fine: bool,
}

impl Chains {
    /// Chains that begin at these offsets. A partition that is not named begins with its first range.
    pub(super) fn from(offsets: &Partitions<i64>) -> Self {
        let mut chains = Self::default();
        chains.restart(offsets);
        chains
    }

    /// Chains in which ranges may be missing.
    pub(super) fn with_gaps(mut self, fine: bool) -> Self {
        self.gaps_are_fine = fine;
        self
    }

    /// Partitions that go on elsewhere: a topic was created again, or lost its end.
    pub(super) fn restart(&mut self, offsets: &Partitions<i64>) {
        let at = |offset: &i64| Covered { first: *offset, next: *offset };
        self.partitions.extend(offsets.iter().map(|(topic, partition, offset)| (topic, partition, at(offset))));
    }

    /// Adds a range `[start, end)`; the answer names what is wrong with it.
    pub(super) fn add(&mut self, topic: &str, partition: i32, start: i64, end: i64) -> Result<(), String> {
        let covered = self.partitions.or_insert(topic, partition, Covered { first: start, next: start });
        let expected = covered.next;
        covered.next = covered.next.max(end);
        let place = format!("{topic} partition {partition}");
        if start > expected && !self.gaps_are_fine {
            return Err(format!("{place}: offsets [{expected}, {start}) are not covered"));
        }
        if start < expected {
            return Err(format!("{place}: offsets [{start}, {}) are covered twice", expected.min(end)));
        }
        Ok(())
    }

    /// Compares the ends with what is known otherwise. A partition of which nothing was added is not judged.
    pub(super) fn ends_at(&self, expected: &Partitions<i64>) -> Vec<String> {
        let mut problems = Vec::new();
        for (topic, partition, expected) in expected.iter() {
            let Some(covered) = self.partitions.get(topic, partition) else { continue };
            let (next, place) = (covered.next, format!("{topic} partition {partition}"));
            if next < *expected && self.gaps_are_fine {
                continue;
            }
            if next < *expected {
                problems.push(format!("{place}: offsets [{next}, {expected}) are not covered"));
            } else if next > *expected {
                problems.push(format!(
                    "{place}: offsets [{expected}, {next}) are covered, and the log has not reached them"
                ));
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(offset: i64) -> Partitions<i64> {
        Partitions::of("t", [(0, offset)])
    }

    #[test]
    fn a_gap_and_an_overlap_are_named_by_their_offsets() {
        let mut chains = Chains::from(&one(5));
        chains.add("t", 0, 5, 8).unwrap();
        assert_eq!(chains.add("t", 0, 10, 12).unwrap_err(), "t partition 0: offsets [8, 10) are not covered");
        assert_eq!(chains.add("t", 0, 11, 14).unwrap_err(), "t partition 0: offsets [11, 12) are covered twice");
        chains.add("t", 0, 14, 15).unwrap();
        chains.add("t", 1, 7, 9).unwrap();
        assert_eq!(chains.partitions["t"][&0], Covered { first: 5, next: 15 });
    }

    #[test]
    fn the_end_is_compared_and_a_restart_begins_anew() {
        let mut chains = Chains::from(&one(5));
        chains.add("t", 0, 5, 8).unwrap();
        assert!(chains.ends_at(&one(8)).is_empty());
        assert_eq!(chains.ends_at(&one(9)), ["t partition 0: offsets [8, 9) are not covered"]);
        assert_eq!(
            chains.ends_at(&one(7)),
            ["t partition 0: offsets [7, 8) are covered, and the log has not reached them"]
        );
        chains.restart(&one(0));
        chains.add("t", 0, 0, 3).unwrap();
        assert_eq!(chains.partitions["t"][&0], Covered { first: 0, next: 3 });
    }
}
