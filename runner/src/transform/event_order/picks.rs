//! The first or the last value in the order of events for each slot.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, StringViewArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::error::Result;

use super::super::values::ValueCodec;
use super::moment::{Moment, Moments, Origins};
use crate::engine::sets::{Dictionary, TIDY_FROM, TOGETHER};
use crate::engine::slots::{SlotAccumulator, passes};

/// A value that is null.
const NULL: u32 = u32::MAX;

/// No value yet.
const NONE: u32 = u32::MAX - 1;

pub(super) struct Picks {
    codec: ValueCodec,
    last: bool,
    ignores_nulls: bool,
    dictionary: Dictionary,
    origins: Origins,
    picked: Vec<(Moment, u32)>,
    /// Values since the dictionary was made.
    added: usize,
}

/// The value, then its moment, which is null in a slot without one.
pub(super) fn state_types(value: &DataType) -> Vec<DataType> {
    vec![value.clone(), DataType::Int64, DataType::Utf8View, DataType::Int32, DataType::Int64]
}

impl Picks {
    pub(super) fn new(value: &DataType, last: bool, ignores_nulls: bool) -> Result<Self> {
        Ok(Self {
            codec: ValueCodec::new(value)?,
            last,
            ignores_nulls,
            dictionary: Dictionary::default(),
            origins: Origins::default(),
            picked: vec![],
            added: 0,
        })
    }

    /// Whether a moment wins over the one that a slot has. Of one record the first row is the first.
    fn wins(&self, moment: Moment, slot: usize) -> bool {
        let (held, value) = self.picked[slot];
        if value == NONE {
            return true;
        }
        let (new, old) = (self.origins.order(moment), self.origins.order(held));
        if self.last { new >= old } else { new < old }
    }

    fn add_all(
        &mut self,
        values: &ArrayRef,
        moments: &Moments,
        slot_of: impl Fn(usize) -> Option<usize>,
    ) -> Result<()> {
        let encoded = self.codec.encode(values)?;
        let (times, topics, partitions, offsets) = moments.get();
        let mut fetched = 0;
        for row in 0..values.len() {
            if row == fetched {
                fetched = values.len().min(row + TOGETHER);
                // The processor waits for all of them at once, where each would be waited for in turn.
                (row..fetched).filter_map(&slot_of).for_each(|slot| {
                    std::hint::black_box(self.picked[slot].0.time);
                });
            }
            let Some(slot) = slot_of(row) else { continue };
            let value = encoded.value(row);
            if value.is_none() && self.ignores_nulls {
                continue;
            }
            let (held, held_value) = self.picked[slot];
            // Most rows are neither first nor last by their time alone.
            if held_value != NONE && (if self.last { times[row] < held.time } else { times[row] > held.time }) {
                continue;
            }
            let origin = self.origins.number(topics.value(row), partitions[row]);
            let moment = Moment { time: times[row], offset: offsets[row], origin };
            if self.wins(moment, slot) {
                let value = match value {
                    Some(value) => self.dictionary.id_of(value)?,
                    None => NULL,
                };
                self.added += 1;
                self.picked[slot] = (moment, value);
            }
        }
        Ok(())
    }

    fn value_of(&self, slot: usize) -> Option<&[u8]> {
        let value = self.picked[slot].1;
        (value < NONE).then(|| self.dictionary.value(value))
    }
}

impl SlotAccumulator for Picks {
    fn grow(&mut self, slots: usize) -> Result<()> {
        if slots > self.picked.len() {
            self.picked.resize(slots, (Moment::default(), NONE));
        }
        Ok(())
    }

    fn update(&mut self, values: &[ArrayRef], slots: &[usize], filter: Option<&BooleanArray>) -> Result<()> {
        let moments = Moments::new(&values[1..])?;
        self.add_all(&values[0], &moments, |row| passes(filter, row).then(|| slots[row]))
    }

    fn merge(&mut self, state: &[ArrayRef], slots: &[usize]) -> Result<()> {
        let times = state[1].as_primitive::<datafusion::arrow::datatypes::Int64Type>();
        let moments = Moments::new(&state[1..])?;
        self.add_all(&state[0], &moments, |row| times.is_valid(row).then(|| slots[row]))
    }

    fn state(&mut self, slots: &[usize]) -> Result<Vec<ArrayRef>> {
        let moment = |slot: &usize| {
            let (moment, value) = self.picked[*slot];
            (value != NONE).then_some(moment)
        };
        let moments = || slots.iter().map(moment);
        Ok(vec![
            self.codec.decode(&slots.iter().map(|slot| self.value_of(*slot)).collect::<Vec<_>>())?,
            Arc::new(moments().map(|moment| moment.map(|moment| moment.time)).collect::<Int64Array>()),
            Arc::new(
                moments()
                    .map(|moment| moment.map(|moment| self.origins.topic(moment.origin)))
                    .collect::<StringViewArray>(),
            ),
            Arc::new(
                moments()
                    .map(|moment| moment.map(|moment| self.origins.partition(moment.origin)))
                    .collect::<Int32Array>(),
            ),
            Arc::new(moments().map(|moment| moment.map(|moment| moment.offset)).collect::<Int64Array>()),
        ])
    }

    fn answers(&mut self, slots: &[usize]) -> Result<ArrayRef> {
        self.codec.decode(&slots.iter().map(|slot| self.value_of(*slot)).collect::<Vec<_>>())
    }

    fn unite(&mut self, into: usize, from: usize) -> Result<()> {
        let (moment, value) = std::mem::replace(&mut self.picked[from], (Moment::default(), NONE));
        if value != NONE && self.wins(moment, into) {
            self.picked[into] = (moment, value);
        }
        Ok(())
    }

    fn clear(&mut self, slots: &[usize]) -> Result<()> {
        slots.iter().for_each(|slot| self.picked[*slot].1 = NONE);
        Ok(())
    }

    fn tidy(&mut self) -> Result<()> {
        if self.dictionary.len() < TIDY_FROM || self.added < 4 * self.picked.len() {
            return Ok(());
        }
        self.added = 0;
        let old = std::mem::take(&mut self.dictionary);
        for (_, value) in self.picked.iter_mut().filter(|(_, value)| *value < NONE) {
            *value = self.dictionary.id_of(old.value(*value))?;
        }
        Ok(())
    }

    fn remove_first(&mut self, slots: usize) {
        self.picked.drain(..slots);
        if self.picked.is_empty() {
            self.dictionary = Dictionary::default();
        }
    }

    fn size(&self) -> usize {
        self.dictionary.size() + self.origins.size() + self.picked.capacity() * size_of::<(Moment, u32)>()
    }
}
