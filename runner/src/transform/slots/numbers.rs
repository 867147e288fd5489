//! Counts, sums and extremes of numbers: one number for each slot.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, BooleanBufferBuilder, PrimitiveArray,
};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};
use datafusion::error::Result;

use crate::engine::slots::{SlotAccumulator, passes};

/// `count(x)`: rows that are not null.
pub(super) fn count() -> Box<dyn SlotAccumulator> {
    Box::new(Counts(vec![]))
}

/// `sum(x)` of a type that is summed as it is: sums of whole numbers are exact, which is more than a number.
pub(super) fn sum(answer: &DataType) -> Option<Box<dyn SlotAccumulator>> {
    match answer {
        DataType::Float64 => Some(numbers::<Float64Type>(answer, |a, b| a + b)),
        _ => None,
    }
}

/// `min(x)` or `max(x)` of a type with one order.
pub(super) fn extreme(answer: &DataType, greatest: bool) -> Option<Box<dyn SlotAccumulator>> {
    fn of<T: ArrowPrimitiveType>(answer: &DataType, greatest: bool) -> Option<Box<dyn SlotAccumulator>>
    where
        T::Native: Ord,
    {
        Some(if greatest { numbers::<T>(answer, Ord::max) } else { numbers::<T>(answer, Ord::min) })
    }
    match answer {
        DataType::Int8 => of::<Int8Type>(answer, greatest),
        DataType::Int16 => of::<Int16Type>(answer, greatest),
        DataType::Int32 => of::<Int32Type>(answer, greatest),
        DataType::Int64 => of::<Int64Type>(answer, greatest),
        DataType::Date32 => of::<Date32Type>(answer, greatest),
        DataType::Timestamp(TimeUnit::Microsecond, _) => of::<TimestampMicrosecondType>(answer, greatest),
        _ => None,
    }
}

fn numbers<T: ArrowPrimitiveType>(
    answer: &DataType,
    combine: fn(T::Native, T::Native) -> T::Native,
) -> Box<dyn SlotAccumulator> {
    Box::new(Numbers::<T> { values: vec![], present: vec![], combine, data_type: answer.clone() })
}

struct Counts(Vec<i64>);

impl SlotAccumulator for Counts {
    fn grow(&mut self, slots: usize) -> Result<()> {
        if slots > self.0.len() {
            self.0.resize(slots, 0);
        }
        Ok(())
    }

    fn update(&mut self, values: &[ArrayRef], slots: &[usize], filter: Option<&BooleanArray>) -> Result<()> {
        let nulls = values[0].logical_nulls().filter(|nulls| nulls.null_count() > 0);
        if nulls.is_none() && filter.is_none() {
            slots.iter().for_each(|slot| self.0[*slot] += 1);
            return Ok(());
        }
        for (row, slot) in slots.iter().enumerate() {
            let counts = passes(filter, row) && nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
            self.0[*slot] += i64::from(counts);
        }
        Ok(())
    }

    fn merge(&mut self, state: &[ArrayRef], slots: &[usize]) -> Result<()> {
        let counts = state[0].as_primitive::<Int64Type>();
        slots.iter().zip(counts.values()).for_each(|(slot, count)| self.0[*slot] += count);
        Ok(())
    }

    fn state(&mut self, slots: &[usize]) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.answers(slots)?])
    }

    fn answers(&mut self, slots: &[usize]) -> Result<ArrayRef> {
        let counts = slots.iter().map(|slot| self.0[*slot]);
        Ok(Arc::new(PrimitiveArray::<Int64Type>::from_iter_values(counts)))
    }

    fn unite(&mut self, into: usize, from: usize) -> Result<()> {
        self.0[into] += std::mem::take(&mut self.0[from]);
        Ok(())
    }

    fn clear(&mut self, slots: &[usize]) -> Result<()> {
        slots.iter().for_each(|slot| self.0[*slot] = 0);
        Ok(())
    }

    fn tidy(&mut self) -> Result<()> {
        Ok(())
    }

    fn remove_first(&mut self, slots: usize) {
        self.0.drain(..slots);
    }

    fn size(&self) -> usize {
        self.0.capacity() * 8
    }
}

struct Numbers<T: ArrowPrimitiveType> {
    values: Vec<T::Native>,
    present: Vec<bool>,
    combine: fn(T::Native, T::Native) -> T::Native,
    data_type: DataType,
}

impl<T: ArrowPrimitiveType> Numbers<T> {
    fn add(&mut self, slot: usize, value: T::Native) {
        self.values[slot] = if self.present[slot] { (self.combine)(self.values[slot], value) } else { value };
        self.present[slot] = true;
    }
}

impl<T: ArrowPrimitiveType> SlotAccumulator for Numbers<T> {
    fn grow(&mut self, slots: usize) -> Result<()> {
        if slots > self.values.len() {
            self.values.resize(slots, T::Native::default());
            self.present.resize(slots, false);
        }
        Ok(())
    }

    fn update(&mut self, values: &[ArrayRef], slots: &[usize], filter: Option<&BooleanArray>) -> Result<()> {
        let values = values[0].as_primitive::<T>();
        for (row, slot) in slots.iter().enumerate() {
            if values.is_valid(row) && passes(filter, row) {
                self.add(*slot, values.value(row));
            }
        }
        Ok(())
    }

    fn merge(&mut self, state: &[ArrayRef], slots: &[usize]) -> Result<()> {
        self.update(state, slots, None)
    }

    fn state(&mut self, slots: &[usize]) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.answers(slots)?])
    }

    fn answers(&mut self, slots: &[usize]) -> Result<ArrayRef> {
        let mut present = BooleanBufferBuilder::new(slots.len());
        slots.iter().for_each(|slot| present.append(self.present[*slot]));
        let values = slots.iter().map(|slot| self.values[*slot]).collect::<Vec<_>>();
        let array = PrimitiveArray::<T>::try_new(values.into(), Some(NullBuffer::new(present.finish())))?;
        Ok(Arc::new(array.with_data_type(self.data_type.clone())))
    }

    fn unite(&mut self, into: usize, from: usize) -> Result<()> {
        if std::mem::take(&mut self.present[from]) {
            self.add(into, self.values[from]);
        }
        Ok(())
    }

    fn clear(&mut self, slots: &[usize]) -> Result<()> {
        slots.iter().for_each(|slot| self.present[*slot] = false);
        Ok(())
    }

    fn tidy(&mut self) -> Result<()> {
        Ok(())
    }

    fn remove_first(&mut self, slots: usize) {
        self.values.drain(..slots);
        self.present.drain(..slots);
    }

    fn size(&self) -> usize {
        self.values.capacity() * size_of::<T::Native>() + self.present.capacity()
    }
}
