//! Which records of a range were duplicates, as a commit keeps it.
//!
//! Pure. Which of two equal records came first may depend on the order in which Kafka gave the partitions, so it is decided
//! once: a rebuild of the state takes the decision from the log.

use serde::{Deserialize, Serialize};

/// Offsets of a range `[start, end)`, as the lengths of alternating runs from its start on: so many that are none of them,
/// so many that are, and so on. The last run is one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Duplicates(Vec<u64>);

impl Duplicates {
    /// Of ascending offsets at or behind `start`.
    pub fn new(start: i64, offsets: impl IntoIterator<Item = i64>) -> Self {
        let mut runs: Vec<u64> = Vec::new();
        let mut next = start;
        for offset in offsets {
            match runs.last_mut() {
                Some(run) if offset == next => *run += 1,
                _ => runs.extend([offset.abs_diff(next), 1]),
            }
            next = offset + 1;
        }
        Self(runs)
    }

    /// The offsets, ascending.
    pub fn offsets(&self, start: i64) -> impl Iterator<Item = i64> {
        let mut at = start;
        self.0.chunks_exact(2).flat_map(move |runs| {
            let first = at.saturating_add_unsigned(runs[0]);
            at = first.saturating_add_unsigned(runs[1]);
            first..at
        })
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.chunks_exact(2).map(|runs| runs[1]).sum()
    }

    /// These, of a range from `start` on, and those of a range that follows it.
    #[must_use]
    pub fn with(&self, start: i64, following: &Self, following_start: i64) -> Self {
        Self::new(start, self.offsets(start).chain(following.offsets(following_start)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn they_are_written_as_runs() {
        let duplicates = Duplicates::new(10, [10, 11, 15, 16, 20]);
        assert_eq!(serde_json::to_string(&duplicates).unwrap(), "[0,2,3,2,3,1]");
        assert_eq!(duplicates.count(), 5);
        assert_eq!(Duplicates::new(10, []), Duplicates::default());
    }

    proptest! {
        #[test]
        fn offsets_come_back_and_neighbours_join(
            start in -5_i64..5, offsets in prop::collection::btree_set(0_i64..40, 0..20), middle in 0_i64..40,
        ) {
            let offsets: BTreeSet<i64> = offsets.into_iter().map(|offset| start + offset).collect();
            let all = Duplicates::new(start, offsets.iter().copied());
            prop_assert_eq!(all.offsets(start).collect::<BTreeSet<_>>(), offsets.clone());
            prop_assert_eq!(all.count(), offsets.len() as u64);
            let middle = start + middle;
            let before = Duplicates::new(start, offsets.iter().copied().filter(|offset| *offset < middle));
            let behind = Duplicates::new(middle, offsets.iter().copied().filter(|offset| *offset >= middle));
            prop_assert_eq!(before.with(start, &behind, middle), all);
        }
    }
}
