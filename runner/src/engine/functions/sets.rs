//! One set of values for each group, for many groups with few values: each value stored once, sets as lists of ids.
//!
//! Values are byte strings: text as it is, anything else in arrow's row format, whose byte order is that of the values.
//!
//! ```text
//! bytes  s-1s-2s-17          ends  3 6 10        (id 0 = "s-1", …)
//! ids    group -> 0 2
//! ```
//!
//! Short lists are searched in order: most groups have one or two values, and a hash lookup would cost a cache miss.

use std::hash::BuildHasher;

use datafusion::common::resources_datafusion_err;
use datafusion::error::Result;
use hashbrown::{DefaultHashBuilder, HashSet, HashTable};

use super::super::runs::Runs;

/// Sets longer than this are also found through a hash set. So many ids are compared in some ten instructions.
const SEARCHED_MAX: usize = 64;

/// Values that may lie unused before it is worth looking: a few megabytes.
pub(crate) const TIDY_FROM: usize = 65_536;

/// Values that are looked up together: enough that memory is asked for many at a time, few enough that all stay at hand.
pub(crate) const TOGETHER: usize = 64;

/// No value.
const NO_ID: u32 = u32::MAX;

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
        self.id_of_hashed(wanted, self.hasher.hash_one(wanted) as u32)
    }

    /// The ids of at most [`TOGETHER`] values. In steps, so that no value waits for the memory that another one is in.
    pub(crate) fn ids_of<V: AsRef<[u8]>>(&mut self, wanted: &[V], ids: &mut Vec<u32>) -> Result<()> {
        ids.clear();
        let mut likely = [(0, NO_ID); TOGETHER];
        for (value, (short, _)) in wanted.iter().zip(&mut likely) {
            *short = self.hasher.hash_one(value.as_ref()) as u32;
        }
        for (short, id) in &mut likely[..wanted.len()] {
            if let Some((_, found)) = self.table.find(spread(*short), |(other, _)| other == short) {
                *id = *found;
            }
        }
        for (value, (short, id)) in wanted.iter().zip(likely) {
            let value = value.as_ref();
            let found = id != NO_ID && self.value(id) == value;
            ids.push(if found { id } else { self.id_of_hashed(value, short)? });
        }
        Ok(())
    }

    #[inline]
    fn id_of_hashed(&mut self, wanted: &[u8], short: u32) -> Result<u32> {
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
#[derive(Default)]
pub(crate) struct Sets {
    dictionary: Dictionary,
    ids: Runs<u32>,
    /// (group, id) of the sets that were found longer than [`SEARCHED_MAX`], and the groups.
    index: HashSet<u64>,
    indexed: HashSet<usize>,
}

impl Sets {
    /// Number of groups.
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Makes room for `groups` groups; those there are stay.
    pub(crate) fn grow(&mut self, groups: usize) {
        self.ids.grow(groups);
    }

    /// Adds a value to the set of a group that there is room for.
    #[inline]
    pub(crate) fn add(&mut self, group: usize, value: &[u8]) -> Result<()> {
        let id = self.dictionary.id_of(value)?;
        self.add_id(group, id)
    }

    /// Adds values, each to the set of a group that there is room for.
    pub(crate) fn add_all<V: AsRef<[u8]>>(&mut self, mut rows: impl Iterator<Item = (usize, V)>) -> Result<()> {
        let (mut groups, mut values) = (Vec::with_capacity(TOGETHER), Vec::with_capacity(TOGETHER));
        let mut ids = Vec::with_capacity(TOGETHER);
        loop {
            groups.clear();
            values.clear();
            for (group, value) in rows.by_ref().take(TOGETHER) {
                groups.push(group);
                values.push(value);
            }
            if groups.is_empty() {
                return Ok(());
            }
            self.dictionary.ids_of(&values, &mut ids)?;
            self.ids.fetch(&groups);
            groups.iter().zip(&ids).try_for_each(|(group, id)| self.add_id(*group, *id))?;
        }
    }

    #[inline]
    fn add_id(&mut self, group: usize, id: u32) -> Result<()> {
        if self.ids.length(group) < SEARCHED_MAX {
            if self.ids.get(group).contains(&id) {
                return Ok(());
            }
        } else {
            if self.indexed.insert(group) {
                self.index.extend(self.ids.get(group).iter().map(|id| key(group, *id)));
            }
            if !self.index.insert(key(group, id)) {
                return Ok(());
            }
        }
        self.ids.push(group, id)
    }

    /// Number of values in a group's set.
    pub(crate) fn count(&self, group: usize) -> u32 {
        self.ids.length(group) as u32
    }

    /// The values of a group's set in byte order, appended to `values`.
    pub(crate) fn sorted<'a>(&'a self, group: usize, values: &mut Vec<&'a [u8]>) {
        let first = values.len();
        values.extend(self.ids.get(group).iter().map(|id| self.dictionary.value(*id)));
        values[first..].sort_unstable();
    }

    /// Empties the set of a group.
    pub(crate) fn clear(&mut self, group: usize) {
        if self.ids.length(group) >= SEARCHED_MAX && self.indexed.remove(&group) {
            for id in self.ids.get(group) {
                self.index.remove(&key(group, *id));
            }
        }
        self.ids.clear(group);
    }

    /// Adds the values of one group to another, and empties it.
    pub(crate) fn unite(&mut self, into: usize, from: usize) -> Result<()> {
        let ids = self.ids.get(from).to_vec();
        self.clear(from);
        ids.into_iter().try_for_each(|id| self.add_id(into, id))
    }

    /// Forgets the values that no set has any more, when they are many.
    pub(crate) fn tidy(&mut self) -> Result<()> {
        if self.dictionary.len() < 2 * self.ids.used() + TIDY_FROM {
            return Ok(());
        }
        let old = std::mem::take(self);
        self.grow(old.len());
        for group in 0..old.len() {
            old.ids.get(group).iter().try_for_each(|id| self.add(group, old.dictionary.value(*id)))?;
        }
        Ok(())
    }

    /// Removes the first groups; the others move to the front. Their values stay stored until the last group goes.
    pub(crate) fn remove_first(&mut self, groups: usize) {
        if groups >= self.len() {
            *self = Self::default();
            return;
        }
        self.ids.remove_first(groups);
        // The index knows groups by their old numbers: it is made anew where it is needed again.
        (self.index, self.indexed) = (HashSet::new(), HashSet::new());
    }

    /// Bytes of memory.
    pub(crate) fn size(&self) -> usize {
        self.dictionary.size() + self.ids.size() + (self.index.capacity() + self.indexed.capacity()) * 9
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
