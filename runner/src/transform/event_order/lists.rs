//! A list of values in the order of events for each slot: values stored once, lists of entries that are sorted when
//! they are asked for.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, ListArray, StringViewArray,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::{exec_err, resources_datafusion_err};
use datafusion::error::Result;

use super::super::values::ValueCodec;
use super::moment::{Moment, Moments, Origins};
use crate::engine::runs::Runs;
use crate::engine::sets::{Dictionary, TIDY_FROM, TOGETHER};
use crate::engine::slots::{SlotAccumulator, passes};

/// A value that is null.
const NULL: u32 = u32::MAX;

/// A value in a list, and its moment, field by field: 24 bytes.
#[derive(Clone, Copy, Default)]
struct Entry {
    time: i64,
    offset: i64,
    origin: u32,
    value: u32,
}

impl Entry {
    fn moment(&self) -> Moment {
        Moment { time: self.time, offset: self.offset, origin: self.origin }
    }
}

pub(super) struct Lists {
    codec: ValueCodec,
    item: DataType,
    ignores_nulls: bool,
    /// Whether an empty list is null.
    null_if_empty: bool,
    dictionary: Dictionary,
    origins: Origins,
    entries: Runs<Entry>,
}

fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item, true)))
}

/// Values, then their moments: five lists of one length.
pub(super) fn state_types(item: &DataType) -> Vec<DataType> {
    [item.clone(), DataType::Int64, DataType::Utf8View, DataType::Int32, DataType::Int64].map(list_of).to_vec()
}

impl Lists {
    pub(super) fn new(item: DataType, ignores_nulls: bool, null_if_empty: bool) -> Result<Self> {
        Ok(Self {
            codec: ValueCodec::new(&item)?,
            item,
            ignores_nulls,
            null_if_empty,
            dictionary: Dictionary::default(),
            origins: Origins::default(),
            entries: Runs::default(),
        })
    }

    /// Adds values with their moments; `slot_of` gives the slot of each, or `None` for a value to leave out.
    fn add_all(
        &mut self,
        values: &ArrayRef,
        moments: &Moments,
        slot_of: impl Fn(usize) -> Option<usize>,
    ) -> Result<()> {
        let encoded = self.codec.encode(values)?;
        let (times, topics, partitions, offsets) = moments.get();
        let (mut rows, mut slots) = (Vec::with_capacity(TOGETHER), Vec::with_capacity(TOGETHER));
        let (mut wanted, mut ids) = (Vec::with_capacity(TOGETHER), Vec::with_capacity(TOGETHER));
        for first in (0..values.len()).step_by(TOGETHER) {
            rows.clear();
            slots.clear();
            wanted.clear();
            for row in first..values.len().min(first + TOGETHER) {
                let Some(slot) = slot_of(row) else { continue };
                let value = encoded.value(row);
                if value.is_none() && self.ignores_nulls {
                    continue;
                }
                rows.push((row, value.is_none()));
                slots.push(slot);
                wanted.extend(value);
            }
            self.dictionary.ids_of(&wanted, &mut ids)?;
            self.entries.fetch(&slots);
            let mut ids = ids.iter().copied();
            for ((row, is_null), slot) in rows.iter().copied().zip(&slots) {
                let value = if is_null { NULL } else { ids.next().unwrap_or(NULL) };
                let origin = self.origins.number(topics.value(row), partitions[row]);
                self.entries.push(*slot, Entry { time: times[row], offset: offsets[row], origin, value })?;
            }
        }
        Ok(())
    }

    /// The entries of some slots one after the other, as they came or by their moments, and where each slot's end.
    fn entries_of(&self, slots: &[usize], sorted: bool) -> Result<(Vec<Entry>, OffsetBuffer<i32>)> {
        let total = slots.iter().map(|slot| self.entries.length(*slot)).sum::<usize>();
        let mut entries: Vec<Entry> = Vec::with_capacity(total);
        let mut ends: Vec<i32> = Vec::with_capacity(slots.len() + 1);
        ends.push(0);
        for slot in slots {
            let first = entries.len();
            entries.extend_from_slice(self.entries.get(*slot));
            if sorted {
                // Stable: of one record the first row is the first.
                entries[first..].sort_by_key(|entry| self.origins.order(entry.moment()));
            }
            ends.push(i32::try_from(entries.len()).map_err(|_| {
                resources_datafusion_err!("the lists of some closed windows have more than 2 billion values")
            })?);
        }
        Ok((entries, OffsetBuffer::new(ends.into())))
    }

    fn values_of(&self, entries: &[Entry]) -> Result<ArrayRef> {
        let value = |entry: &Entry| (entry.value != NULL).then(|| self.dictionary.value(entry.value));
        self.codec.decode(&entries.iter().map(value).collect::<Vec<_>>())
    }
}

impl SlotAccumulator for Lists {
    fn grow(&mut self, slots: usize) -> Result<()> {
        self.entries.grow(slots);
        Ok(())
    }

    fn update(&mut self, values: &[ArrayRef], slots: &[usize], filter: Option<&BooleanArray>) -> Result<()> {
        let moments = Moments::new(&values[1..])?;
        self.add_all(&values[0], &moments, |row| passes(filter, row).then(|| slots[row]))
    }

    fn merge(&mut self, state: &[ArrayRef], slots: &[usize]) -> Result<()> {
        let lists = state.iter().map(|column| column.as_list_opt::<i32>()).collect::<Option<Vec<_>>>();
        let Some([values, moments @ ..]) = lists.as_deref() else { return exec_err!("the state of a list is lists") };
        // A slice's values are the whole child: only the part that its offsets name belongs to it.
        let part = |list: &ListArray| {
            let offsets = list.value_offsets();
            let (first, last) = (offsets[0] as usize, offsets[list.len()] as usize);
            list.values().slice(first, last - first)
        };
        let rows = slots.iter().zip(values.value_offsets().windows(2));
        let slot_of: Vec<usize> =
            rows.flat_map(|(slot, ends)| std::iter::repeat_n(*slot, (ends[1] - ends[0]) as usize)).collect();
        let moments = Moments::new(&moments.iter().map(|list| part(list)).collect::<Vec<_>>())?;
        self.add_all(&part(values), &moments, |row| slot_of.get(row).copied())
    }

    fn state(&mut self, slots: &[usize]) -> Result<Vec<ArrayRef>> {
        let (entries, ends) = self.entries_of(slots, false)?;
        let moments = || entries.iter().map(|entry| entry.moment());
        let columns: [ArrayRef; 5] = [
            self.values_of(&entries)?,
            Arc::new(Int64Array::from_iter_values(moments().map(|moment| moment.time))),
            Arc::new(StringViewArray::from_iter_values(moments().map(|moment| self.origins.topic(moment.origin)))),
            Arc::new(Int32Array::from_iter_values(moments().map(|moment| self.origins.partition(moment.origin)))),
            Arc::new(Int64Array::from_iter_values(moments().map(|moment| moment.offset))),
        ];
        let list = |column: ArrayRef| -> Result<ArrayRef> {
            let field = Arc::new(Field::new_list_field(column.data_type().clone(), true));
            Ok(Arc::new(ListArray::try_new(field, ends.clone(), column, None)?))
        };
        columns.into_iter().map(list).collect()
    }

    fn answers(&mut self, slots: &[usize]) -> Result<ArrayRef> {
        let (entries, ends) = self.entries_of(slots, true)?;
        let is_valid = |slot: &usize| self.entries.length(*slot) > 0;
        let nulls = self.null_if_empty.then(|| slots.iter().map(is_valid).collect::<NullBuffer>());
        let field = Arc::new(Field::new_list_field(self.item.clone(), true));
        Ok(Arc::new(ListArray::try_new(field, ends, self.values_of(&entries)?, nulls)?))
    }

    fn unite(&mut self, into: usize, from: usize) -> Result<()> {
        self.entries.append(into, from)
    }

    fn clear(&mut self, slots: &[usize]) -> Result<()> {
        slots.iter().for_each(|slot| self.entries.clear(*slot));
        Ok(())
    }

    fn tidy(&mut self) -> Result<()> {
        if self.dictionary.len() < 2 * self.entries.used() + TIDY_FROM {
            return Ok(());
        }
        let old = std::mem::take(&mut self.dictionary);
        for slot in 0..self.entries.len() {
            for entry in self.entries.get_mut(slot).iter_mut().filter(|entry| entry.value != NULL) {
                entry.value = self.dictionary.id_of(old.value(entry.value))?;
            }
        }
        Ok(())
    }

    fn remove_first(&mut self, slots: usize) {
        self.entries.remove_first(slots);
        if self.entries.used() == 0 {
            self.dictionary = Dictionary::default();
        }
    }

    fn size(&self) -> usize {
        self.dictionary.size() + self.origins.size() + self.entries.size()
    }
}
