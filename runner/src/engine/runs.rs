//! Many short lists of small values in one piece of memory. Each list is contiguous, with room for a power of two of
//! values, so that going through it costs a cache miss or two, however its values came.
//!
//! ```text
//! values  a a a . | b b | c c c c c . . .      places 0+3 4+2 6+5
//! ```

use datafusion::common::resources_datafusion_err;
use datafusion::error::Result;

/// Room of the smallest list.
const ROOM_MIN: usize = 2;

/// Lists by their number.
#[derive(Default)]
pub(crate) struct Runs<T> {
    values: Vec<T>,
    places: Vec<Place>,
    /// Where room was given back, by the logarithm of its size.
    free: Vec<Vec<u32>>,
    /// Values in all lists.
    used: usize,
}

/// Where a list lies in `values`; the start has no meaning for an empty one.
#[derive(Clone, Copy, Default)]
struct Place {
    start: u32,
    length: u32,
}

impl Place {
    fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.start as usize + self.length as usize
    }
}

/// Values that a list of this length has room for.
fn room(length: usize) -> usize {
    match length {
        0 => 0,
        length => length.next_power_of_two().max(ROOM_MIN),
    }
}

impl<T: Copy + Default> Runs<T> {
    /// Number of lists.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// Values in all lists.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// Makes room for `lists` lists; those there are stay. New ones are empty.
    pub(crate) fn grow(&mut self, lists: usize) {
        if self.places.len() < lists {
            self.places.resize(lists, Place::default());
        }
    }

    /// Reads a little of some lists, so that the processor has them at hand for what is done with each of them next. It
    /// waits for all of them at the same time, where each would be waited for in turn.
    #[inline]
    pub(crate) fn fetch(&self, lists: &[usize]) {
        for list in lists {
            std::hint::black_box(self.places[*list].length);
        }
        for list in lists {
            let Some(last) = self.places[*list].range().last() else { continue };
            std::hint::black_box(self.values[last]);
        }
    }

    /// Length of a list.
    #[inline]
    pub(crate) fn length(&self, list: usize) -> usize {
        self.places[list].length as usize
    }

    /// A list's values, in the order in which they were added.
    #[inline]
    pub(crate) fn get(&self, list: usize) -> &[T] {
        &self.values[self.places[list].range()]
    }

    /// The same, to be changed.
    pub(crate) fn get_mut(&mut self, list: usize) -> &mut [T] {
        &mut self.values[self.places[list].range()]
    }

    /// Adds a value at the end of a list that there is.
    ///
    /// # Errors
    ///
    /// When all lists together would need room for more than four billion values.
    #[inline]
    pub(crate) fn push(&mut self, list: usize, value: T) -> Result<()> {
        let length = self.length(list);
        if length == room(length) {
            self.widen(list, length + 1)?;
        }
        let place = &mut self.places[list];
        self.values[place.start as usize + length] = value;
        place.length += 1;
        self.used += 1;
        Ok(())
    }

    /// Gives a list room for `length` values.
    fn widen(&mut self, list: usize, length: usize) -> Result<()> {
        let start = self.allocate(room(length))?;
        let old = self.places[list];
        self.values.copy_within(old.range(), start as usize);
        self.give_back(old);
        self.places[list].start = start;
        Ok(())
    }

    fn allocate(&mut self, room: usize) -> Result<u32> {
        if let Some(start) = self.free.get_mut(room.ilog2() as usize).and_then(Vec::pop) {
            return Ok(start);
        }
        let start = self.values.len();
        u32::try_from(start + room)
            .map_err(|_| resources_datafusion_err!("the lists of the open windows have more than 4 billion values"))?;
        self.values.resize(start + room, T::default());
        Ok(start as u32)
    }

    fn give_back(&mut self, place: Place) {
        let room = room(place.length as usize);
        if room == 0 {
            return;
        }
        let size = room.ilog2() as usize;
        if self.free.len() <= size {
            self.free.resize_with(size + 1, Vec::new);
        }
        self.free[size].push(place.start);
    }

    /// Empties a list.
    pub(crate) fn clear(&mut self, list: usize) {
        let place = std::mem::take(&mut self.places[list]);
        self.used -= place.length as usize;
        self.give_back(place);
    }

    /// Adds what one list has at the end of another, and empties it.
    ///
    /// # Errors
    ///
    /// As [`Self::push`].
    pub(crate) fn append(&mut self, into: usize, from: usize) -> Result<()> {
        let (held, more) = (self.length(into), self.length(from));
        if more == 0 {
            return Ok(());
        }
        if held + more > room(held) {
            self.widen(into, held + more)?;
        }
        self.values.copy_within(self.places[from].range(), self.places[into].start as usize + held);
        self.places[into].length += more as u32;
        self.used += more;
        self.clear(from);
        Ok(())
    }

    /// Removes the first lists; the others move to the front.
    pub(crate) fn remove_first(&mut self, lists: usize) {
        if lists >= self.places.len() {
            *self = Self::default();
            return;
        }
        (0..lists).for_each(|list| self.clear(list));
        self.places.drain(..lists);
    }

    /// Bytes of memory.
    pub(crate) fn size(&self) -> usize {
        let free = self.free.iter().map(|starts| starts.capacity() * 4).sum::<usize>();
        self.values.capacity() * size_of::<T>() + self.places.capacity() * size_of::<Place>() + free
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Push(usize, u8),
        Clear(usize),
        Append(usize, usize),
        RemoveFirst(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let list = 0_usize..6;
        prop_oneof![
            12 => (list.clone(), any::<u8>()).prop_map(|(list, value)| Step::Push(list, value)),
            2 => list.clone().prop_map(Step::Clear),
            2 => (list.clone(), list).prop_map(|(into, from)| Step::Append(into, from)),
            1 => (0_usize..4).prop_map(Step::RemoveFirst),
        ]
    }

    proptest! {
        #[test]
        fn lists_hold_what_a_vector_of_vectors_holds(steps in prop::collection::vec(step(), 0..300)) {
            let mut runs: Runs<u8> = Runs::default();
            let mut model: Vec<Vec<u8>> = vec![];
            for step in steps {
                runs.grow(6);
                model.resize(model.len().max(6), vec![]);
                match step {
                    Step::Push(list, value) => {
                        runs.push(list, value).unwrap();
                        model[list].push(value);
                    }
                    Step::Clear(list) => {
                        runs.clear(list);
                        model[list].clear();
                    }
                    Step::Append(into, from) if into != from => {
                        runs.append(into, from).unwrap();
                        let more = std::mem::take(&mut model[from]);
                        model[into].extend(more);
                    }
                    Step::Append(..) => {}
                    Step::RemoveFirst(lists) => {
                        runs.remove_first(lists);
                        model.drain(..lists);
                    }
                }
                prop_assert_eq!(runs.len(), model.len());
                runs.fetch(&(0..runs.len()).collect::<Vec<_>>());
                prop_assert_eq!(runs.used(), model.iter().map(Vec::len).sum::<usize>());
                for (list, values) in model.iter().enumerate() {
                    prop_assert_eq!(runs.get(list), values.as_slice());
                    prop_assert_eq!(runs.length(list), values.len());
                }
            }
        }
    }

    #[test]
    fn room_that_was_given_back_is_used_again() {
        let mut runs: Runs<u32> = Runs::default();
        runs.grow(100);
        let fill = |runs: &mut Runs<u32>| {
            for list in 0..100 {
                (0..5).for_each(|value| runs.push(list, value).unwrap());
            }
        };
        fill(&mut runs);
        let size = runs.values.len();
        for _ in 0..10 {
            (0..100).for_each(|list| runs.clear(list));
            fill(&mut runs);
        }
        assert_eq!(runs.values.len(), size);
    }
}
