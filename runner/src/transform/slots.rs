//! Accumulators of many groups of which any may be asked, emptied and used again: those of sessions, which close in
//! another order than they begin.
//!
//! DataFusion's accumulators for groups give their answers from the first group on. So the aggregates that sessions
//! mostly have are here in columns of their own; any other aggregate has one ordinary accumulator for each slot.

mod numbers;

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, BooleanArray, UInt32Array};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;

use super::event_order;
use crate::engine::collect_set;
use crate::engine::refusing::{Refused, RefusesGroups, Refusing, describe, is_of_a_value};
use crate::engine::slots::{SlotAccumulator, passes};

/// Empty accumulators of an aggregate. Their state has the columns of the aggregate's own.
pub(super) fn slots_of(expr: &Arc<AggregateFunctionExpr>, arguments: &[DataType]) -> Result<Box<dyn SlotAccumulator>> {
    let answer = expr.field().data_type().clone();
    let plain = !expr.is_distinct() && expr.order_bys().is_empty();
    let same = arguments.first() == Some(&answer);
    let own = match expr.fun().name() {
        "count" if plain && arguments.len() == 1 => Some(numbers::count()),
        "sum" if plain && same => numbers::sum(&answer),
        // A second equal value changes nothing.
        "min" if same => numbers::extreme(&answer, false),
        "max" if same => numbers::extreme(&answer, true),
        _ => match collect_set::slots(expr, arguments)? {
            Some(own) => Some(own),
            None => event_order::slots(expr, arguments)?,
        },
    };
    if let Some(own) = own {
        return Ok(own);
    }
    Ok(Box::new(Boxed::new(expr)?))
}

/// Empty accumulators of an aggregate that the engine accumulates group by group.
pub(super) fn each_group(expr: &Arc<AggregateFunctionExpr>) -> Result<Box<dyn GroupsAccumulator>> {
    Ok(Box::new(Refusing(Box::new(FromFirst::new(Boxed::new(expr)?)))))
}

/// Slots as the groups of a window, which are all asked from the first on.
pub(super) struct FromFirst<S>(pub(super) S, pub(super) usize);

impl<S> FromFirst<S> {
    pub(super) fn new(slots: S) -> Self {
        Self(slots, 0)
    }
}

impl<S: SlotAccumulator> FromFirst<S> {
    fn grow(&mut self, groups: usize) -> Result<()> {
        if groups > self.1 {
            self.1 = groups;
            self.0.grow(groups)?;
        }
        Ok(())
    }

    fn emit<T>(&mut self, emit_to: EmitTo, give: impl FnOnce(&mut S, &[usize]) -> Result<T>) -> Result<T> {
        let groups = match emit_to {
            EmitTo::All => self.1,
            EmitTo::First(groups) => groups.min(self.1),
        };
        let slots: Vec<usize> = (0..groups).collect();
        let given = give(&mut self.0, &slots)?;
        self.0.remove_first(groups);
        self.1 -= groups;
        Ok(given)
    }
}

impl<S: SlotAccumulator + 'static> GroupsAccumulator for FromFirst<S> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.grow(total)?;
        self.0.update(values, groups, filter)
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.grow(total)?;
        self.0.merge(values, groups)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        self.emit(emit_to, |slots, groups| slots.answers(groups))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        self.emit(emit_to, |slots, groups| slots.state(groups))
    }

    fn convert_to_state(&self, _: &[ArrayRef], _: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        datafusion::common::internal_err!("these accumulators are filled row by row")
    }

    fn size(&self) -> usize {
        self.0.size()
    }
}

impl<S: SlotAccumulator + 'static> RefusesGroups for FromFirst<S> {
    fn evaluate_or_refuse(&mut self, emit_to: EmitTo, refused: &mut Refused) -> Result<ArrayRef> {
        self.emit(emit_to, |slots, groups| slots.answers_or_refuse(groups, refused))
    }
}

/// One of DataFusion's accumulators for each slot.
struct Boxed {
    expr: Arc<AggregateFunctionExpr>,
    answer: DataType,
    accumulators: Vec<Option<Box<dyn Accumulator>>>,
    bytes: usize,
}

impl Boxed {
    fn new(expr: &Arc<AggregateFunctionExpr>) -> Result<Self> {
        // Its errors would otherwise come with the first row.
        expr.create_accumulator()?;
        let answer = expr.field().data_type().clone();
        Ok(Self { expr: Arc::clone(expr), answer, accumulators: vec![], bytes: 0 })
    }

    /// Calls `add` for each slot with the rows that are its.
    fn for_each_slot(
        &mut self,
        columns: &[ArrayRef],
        slots: &[usize],
        filter: Option<&BooleanArray>,
        add: impl Fn(&mut dyn Accumulator, &[ArrayRef]) -> Result<()>,
    ) -> Result<()> {
        let mut order: Vec<u32> = (0..slots.len() as u32).filter(|row| passes(filter, *row as usize)).collect();
        // Stable: the rows of a slot stay in their order.
        order.sort_by_key(|row| slots[*row as usize]);
        let order = UInt32Array::from(order);
        let sorted = columns.iter().map(|column| Ok(take(column, &order, None)?)).collect::<Result<Vec<_>>>()?;
        let mut from = 0;
        for same in order.values().chunk_by(|a, b| slots[*a as usize] == slots[*b as usize]) {
            let slot = slots[same[0] as usize];
            let rows: Vec<ArrayRef> = sorted.iter().map(|column| column.slice(from, same.len())).collect();
            from += same.len();
            let accumulator = match &mut self.accumulators[slot] {
                Some(accumulator) => accumulator,
                empty => empty.insert(self.expr.create_accumulator()?),
            };
            let before = accumulator.size();
            add(accumulator.as_mut(), &rows)?;
            self.bytes = (self.bytes + accumulator.size()).saturating_sub(before);
        }
        Ok(())
    }

    fn answer_of(&mut self, slot: usize) -> Result<ScalarValue> {
        match &mut self.accumulators[slot] {
            Some(accumulator) => accumulator.evaluate(),
            None => self.expr.create_accumulator()?.evaluate(),
        }
    }

    fn state_of(&mut self, slot: usize) -> Result<Vec<ScalarValue>> {
        let mut accumulator = match self.accumulators[slot].take() {
            Some(accumulator) => accumulator,
            None => self.expr.create_accumulator()?,
        };
        accumulator.state()
    }
}

impl SlotAccumulator for Boxed {
    fn grow(&mut self, slots: usize) -> Result<()> {
        if slots > self.accumulators.len() {
            self.accumulators.resize_with(slots, || None);
        }
        Ok(())
    }

    fn update(&mut self, values: &[ArrayRef], slots: &[usize], filter: Option<&BooleanArray>) -> Result<()> {
        self.for_each_slot(values, slots, filter, |accumulator, rows| accumulator.update_batch(rows))
    }

    fn merge(&mut self, state: &[ArrayRef], slots: &[usize]) -> Result<()> {
        self.for_each_slot(state, slots, None, |accumulator, rows| accumulator.merge_batch(rows))
    }

    /// Accumulators may give their state away: it is put into new ones.
    fn state(&mut self, slots: &[usize]) -> Result<Vec<ArrayRef>> {
        let mut columns: Vec<Vec<ScalarValue>> = vec![];
        for slot in slots {
            let state = self.state_of(*slot)?;
            columns.resize_with(state.len(), Vec::new);
            columns.iter_mut().zip(state).for_each(|(column, value)| column.push(value));
        }
        if slots.is_empty() {
            let fields = self.expr.state_fields()?;
            let empty = fields.iter().map(|field| datafusion::arrow::array::new_empty_array(field.data_type()));
            return Ok(empty.collect());
        }
        let columns = columns.into_iter().map(ScalarValue::iter_to_array).collect::<Result<Vec<_>>>()?;
        self.merge(&columns, slots)?;
        Ok(columns)
    }

    fn answers(&mut self, slots: &[usize]) -> Result<ArrayRef> {
        if slots.is_empty() {
            return Ok(datafusion::arrow::array::new_empty_array(&self.answer));
        }
        let answers = slots.iter().map(|slot| self.answer_of(*slot));
        ScalarValue::iter_to_array(answers.collect::<Result<Vec<_>>>()?)
    }

    fn answers_or_refuse(&mut self, slots: &[usize], refused: &mut Refused) -> Result<ArrayRef> {
        if slots.is_empty() {
            return self.answers(slots);
        }
        let answers = slots.iter().enumerate().map(|(place, slot)| match self.answer_of(*slot) {
            Err(error) if is_of_a_value(&error) => {
                refused.push((place, describe(&error)));
                ScalarValue::try_from(&self.answer)
            }
            answer => answer,
        });
        ScalarValue::iter_to_array(answers.collect::<Result<Vec<_>>>()?)
    }

    fn unite(&mut self, into: usize, from: usize) -> Result<()> {
        if self.accumulators[from].is_none() {
            return Ok(());
        }
        let state = self.state_of(from)?;
        let state = state.iter().map(|value| value.to_array()).collect::<Result<Vec<_>>>()?;
        self.merge(&state, &[into])
    }

    fn clear(&mut self, slots: &[usize]) -> Result<()> {
        for slot in slots {
            if let Some(accumulator) = self.accumulators[*slot].take() {
                self.bytes = self.bytes.saturating_sub(accumulator.size());
            }
        }
        Ok(())
    }

    fn tidy(&mut self) -> Result<()> {
        Ok(())
    }

    fn remove_first(&mut self, slots: usize) {
        self.accumulators.drain(..slots);
    }

    fn size(&self) -> usize {
        self.bytes + self.accumulators.capacity() * size_of::<Option<Box<dyn Accumulator>>>()
    }
}
