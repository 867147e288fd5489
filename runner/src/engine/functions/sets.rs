//! One set of values for each group, for many groups with few values: each value stored once, sets as chains of ids.
//!
//! Values are byte strings: text as it is, anything else in arrow's row format, whose byte order is that of the values.
//!
//! ```text
//! bytes  s-1s-2s-17          ends  3 6 10        (id 0 = "s-1", …)
//! heads  group -> node       nodes (id, next), newest first
//! ```
//!
//! Short chains are searched in order: most groups have one or two values, and a hash lookup would cost a cache miss.

use std::hash::BuildHasher;

use datafusion::common::resources_datafusion_err;
use datafusion::error::Result;
use hashbrown::{DefaultHashBuilder, HashSet, HashTable};

/// Ends a chain.
const END: u32 = u32::MAX;

/// Chains longer than this are also found through a hash set. 12 nodes fit two cache lines.
const CHAIN_LENGTH_MAX: u32 = 12;

/// Values that may lie unused before it is worth looking: a few megabytes.
pub(crate) const TIDY_FROM: usize = 65_536;

/// Flag in a count: the group's chain is in the hash set.
const INDEXED: u32 = 1 << 31;

/// Byte strings, each stored once.
#[derive(Default)]
pub(crate) struct Dictionary {
    hasher: DefaultHashBuilder,
    bytes: Vec<u8>,
    /// End of each value in `bytes`; it begins where the one before ends.
    ends: Vec<u32>,
    /// The low 32 bits of the hash beside the id: growing the table then touches no values.
    table: HashTable<(u32, u32)>,
}

impl Dictionary {
    pub(crate) fn value(&self, id: u32) -> &[u8] {
        value(&self.bytes, &self.ends, id)
    }

    #[inline]
    pub(crate) fn id_of(&mut self, wanted: &[u8]) -> Result<u32> {
        let hash = self.hasher.hash_one(wanted);
        let short = hash as u32;
        let (bytes, ends) = (&self.bytes, &self.ends);
        if let Some(&(_, id)) =
            self.table.find(spread(short), |&(other, id)| other == short && value(bytes, ends, id) == wanted)
        {
            return Ok(id);
        }
        let end = u32::try_from(self.bytes.len() + wanted.len())
            .map_err(|_| resources_datafusion_err!("the distinct values of one window exceed 4 GiB"))?;
        let id = self.ends.len() as u32;
        self.bytes.extend_from_slice(wanted);
        self.ends.push(end);
        self.table.insert_unique(spread(short), (short, id), |&(short, _)| spread(short));
        Ok(id)
    }

    /// Number of values.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn size(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * 4 + self.table.capacity() * 9
    }
}

fn value<'a>(bytes: &'a [u8], ends: &[u32], id: u32) -> &'a [u8] {
    let id = id as usize;
    let start = if id == 0 { 0 } else { ends[id - 1] as usize };
    &bytes[start..ends[id] as usize]
}

/// The table takes its seven tag bits from the top of the hash: give them something of the 32 bits that are kept.
#[inline]
fn spread(short: u32) -> u64 {
    u64::from(short) << 32 | u64::from(short)
}

/// A set of byte strings for each group.
pub(crate) struct Sets {
    dictionary: Dictionary,
    heads: Vec<u32>,
    /// Values in the set, and [`INDEXED`].
    counts: Vec<u32>,
    nodes: Vec<(u32, u32)>,
    /// Chain of the nodes that were taken back.
    free: u32,
    /// Nodes in chains of groups.
    used: usize,
    /// (group, id) of the sets that are longer than [`CHAIN_LENGTH_MAX`].
    index: HashSet<u64>,
}

impl Default for Sets {
    fn default() -> Self {
        Self {
            dictionary: Dictionary::default(),
            heads: vec![],
            counts: vec![],
            nodes: vec![],
            free: END,
            used: 0,
            index: HashSet::new(),
        }
    }
}

impl Sets {
    /// Number of groups.
    pub(crate) fn len(&self) -> usize {
        self.heads.len()
    }

    /// Makes room for `groups` groups; those there are stay.
    pub(crate) fn grow(&mut self, groups: usize) {
        if self.heads.len() < groups {
            self.heads.resize(groups, END);
            self.counts.resize(groups, 0);
        }
    }

    /// Adds a value to the set of a group that there is room for.
    #[inline]
    pub(crate) fn add(&mut self, group: usize, value: &[u8]) -> Result<()> {
        let id = self.dictionary.id_of(value)?;
        self.add_id(group, id)
    }

    #[inline]
    fn add_id(&mut self, group: usize, id: u32) -> Result<()> {
        let count = self.counts[group];
        if count < CHAIN_LENGTH_MAX {
            let mut at = self.heads[group];
            while at != END {
                let (other, next) = self.nodes[at as usize];
                if other == id {
                    return Ok(());
                }
                at = next;
            }
        } else {
            if count & INDEXED == 0 {
                self.build_index(group);
            }
            if !self.index.insert(key(group, id)) {
                return Ok(());
            }
        }
        let entry = (id, self.heads[group]);
        self.heads[group] = match self.free {
            END => {
                let node = u32::try_from(self.nodes.len()).ok().filter(|node| *node != END).ok_or_else(|| {
                    resources_datafusion_err!("the sets of one window have more than 4 billion values")
                })?;
                self.nodes.push(entry);
                node
            }
            free => {
                self.free = self.nodes[free as usize].1;
                self.nodes[free as usize] = entry;
                free
            }
        };
        self.used += 1;
        self.counts[group] += 1;
        Ok(())
    }

    #[cold]
    fn build_index(&mut self, group: usize) {
        let mut at = self.heads[group];
        while at != END {
            let (id, next) = self.nodes[at as usize];
            self.index.insert(key(group, id));
            at = next;
        }
        self.counts[group] |= INDEXED;
    }

    /// Number of values in a group's set.
    pub(crate) fn count(&self, group: usize) -> u32 {
        self.counts[group] & !INDEXED
    }

    /// The values of a group's set in byte order, appended to `values`.
    pub(crate) fn sorted<'a>(&'a self, group: usize, values: &mut Vec<&'a [u8]>) {
        let first = values.len();
        let mut at = self.heads[group];
        while at != END {
            let (id, next) = self.nodes[at as usize];
            values.push(self.dictionary.value(id));
            at = next;
        }
        values[first..].sort_unstable();
    }

    /// Empties the set of a group.
    pub(crate) fn clear(&mut self, group: usize) {
        let indexed = self.counts[group] & INDEXED != 0;
        let mut at = std::mem::replace(&mut self.heads[group], END);
        while at != END {
            let (id, next) = self.nodes[at as usize];
            if indexed {
                self.index.remove(&key(group, id));
            }
            self.nodes[at as usize].1 = self.free;
            (self.free, at) = (at, next);
        }
        self.used -= self.count(group) as usize;
        self.counts[group] = 0;
    }

    /// Adds the values of one group to another, and empties it.
    pub(crate) fn unite(&mut self, into: usize, from: usize) -> Result<()> {
        let mut ids = Vec::with_capacity(self.count(from) as usize);
        let mut at = self.heads[from];
        while at != END {
            let (id, next) = self.nodes[at as usize];
            ids.push(id);
            at = next;
        }
        self.clear(from);
        ids.into_iter().try_for_each(|id| self.add_id(into, id))
    }

    /// Forgets the values that no set has any more, when they are many.
    pub(crate) fn tidy(&mut self) -> Result<()> {
        if self.dictionary.len() < 2 * self.used + TIDY_FROM {
            return Ok(());
        }
        let old = std::mem::take(self);
        self.grow(old.heads.len());
        for (group, head) in old.heads.iter().enumerate() {
            let mut at = *head;
            while at != END {
                let (id, next) = old.nodes[at as usize];
                self.add(group, old.dictionary.value(id))?;
                at = next;
            }
        }
        Ok(())
    }

    /// Removes the first groups; the others move to the front. Their values stay stored until the last group goes.
    pub(crate) fn remove_first(&mut self, groups: usize) {
        if groups >= self.heads.len() {
            *self = Self::default();
            return;
        }
        self.used -= (0..groups).map(|group| self.count(group) as usize).sum::<usize>();
        self.heads.drain(..groups);
        self.counts.drain(..groups);
        // The index knows groups by their old numbers: it is made anew where it is needed again.
        self.index = HashSet::new();
        self.counts.iter_mut().for_each(|count| *count &= !INDEXED);
    }

    /// Bytes of memory.
    pub(crate) fn size(&self) -> usize {
        self.dictionary.size() + self.heads.capacity() * 8 + self.nodes.capacity() * 8 + self.index.capacity() * 9
    }
}

fn key(group: usize, id: u32) -> u64 {
    (group as u64) << 32 | u64::from(id)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn contents(sets: &Sets) -> Vec<Vec<Vec<u8>>> {
        (0..sets.len())
            .map(|group| {
                let mut values = vec![];
                sets.sorted(group, &mut values);
                assert_eq!(values.len(), sets.count(group) as usize);
                values.into_iter().map(<[u8]>::to_vec).collect()
            })
            .collect()
    }

    fn expected(model: &[BTreeSet<Vec<u8>>]) -> Vec<Vec<Vec<u8>>> {
        model.iter().map(|set| set.iter().cloned().collect()).collect()
    }

    proptest! {
        #[test]
        fn sets_hold_what_was_added_also_after_the_first_groups_went(
            adds in prop::collection::vec((0_usize..7, 0_u8..40, 0_usize..3), 0..400),
            removed in 0_usize..8,
            more in prop::collection::vec((0_usize..7, 0_u8..40, 0_usize..3), 0..100),
        ) {
            let value = |byte: u8, length: usize| vec![byte; length * 9];
            let mut sets = Sets::default();
            let mut model: Vec<BTreeSet<Vec<u8>>> = vec![];
            let add = |sets: &mut Sets, model: &mut Vec<BTreeSet<Vec<u8>>>, (group, byte, length): (usize, u8, usize)| {
                sets.grow(group + 1);
                if model.len() <= group {
                    model.resize(group + 1, BTreeSet::new());
                }
                sets.add(group, &value(byte, length)).unwrap();
                model[group].insert(value(byte, length));
            };
            adds.into_iter().for_each(|row| add(&mut sets, &mut model, row));
            prop_assert_eq!(contents(&sets), expected(&model));
            sets.remove_first(removed);
            model.drain(..removed.min(model.len()));
            more.into_iter().for_each(|row| add(&mut sets, &mut model, row));
            prop_assert_eq!(contents(&sets), expected(&model));
        }
    }

    #[test]
    fn long_sets_keep_each_value_once() {
        let mut sets = Sets::default();
        sets.grow(2);
        for round in 0..3 {
            for value in 0..1000_u32 {
                sets.add(1, &value.to_be_bytes()).unwrap();
                if value % 100 == round {
                    sets.add(0, &value.to_be_bytes()).unwrap();
                }
            }
        }
        assert_eq!((sets.count(0), sets.count(1)), (30, 1000));
    }
}
