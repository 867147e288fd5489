//! What accumulators of many groups offer of which any may be asked, emptied and used again.

use datafusion::arrow::array::{Array, ArrayRef, BooleanArray};
use datafusion::error::Result;

use crate::engine::refusing::Refused;

/// An aggregate's accumulators, one in each slot.
pub(crate) trait SlotAccumulator: Send + Sync {
    /// Makes room for this many slots; those there are stay. New ones are empty.
    fn grow(&mut self, slots: usize) -> Result<()>;

    /// Adds rows, each to its slot.
    fn update(&mut self, values: &[ArrayRef], slots: &[usize], filter: Option<&BooleanArray>) -> Result<()>;

    /// Adds rows of state, each to its slot.
    fn merge(&mut self, state: &[ArrayRef], slots: &[usize]) -> Result<()>;

    /// The state of some slots, which stay as they are.
    fn state(&mut self, slots: &[usize]) -> Result<Vec<ArrayRef>>;

    /// The answers of some slots, which may be lost by that.
    fn answers(&mut self, slots: &[usize]) -> Result<ArrayRef>;

    /// The same, with null for each slot that has no answer; these are noted by their place among `slots`.
    fn answers_or_refuse(&mut self, slots: &[usize], _: &mut Refused) -> Result<ArrayRef> {
        self.answers(slots)
    }

    /// Adds what one slot has to another, and empties it.
    fn unite(&mut self, into: usize, from: usize) -> Result<()>;

    /// Empties some slots.
    fn clear(&mut self, slots: &[usize]) -> Result<()>;

    /// Gives back the memory of what was cleared, when it is much.
    fn tidy(&mut self) -> Result<()>;

    /// Removes the first slots; the others move to the front.
    fn remove_first(&mut self, slots: usize);

    /// Bytes of memory.
    fn size(&self) -> usize;
}

/// Rows that a filter keeps.
pub(crate) fn passes(filter: Option<&BooleanArray>, row: usize) -> bool {
    filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row))
}
