//! `collect_set(x)`: the distinct values of a group that are not null, as a sorted list; and `count(DISTINCT x)` on the
//! same sets, where DataFusion's own keeps a hash set and its allocations for each group.
//!
//! Text is sorted by code point, other types as ORDER BY sorts them. Text in any of arrow's forms gives `List<Utf8>`.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListArray, StringArray};
use datafusion::arrow::buffer::{Buffer, OffsetBuffer};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::common::{ScalarValue, exec_err, internal_err, plan_err, resources_datafusion_err};
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility,
};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;

use super::sets::Sets;

/// The aggregate that users call.
pub(crate) fn collect_set() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::new_from_impl(DistinctValues::new("collect_set", Answer::List)))
}

/// What the split puts in the place of `count(DISTINCT x)`.
pub(crate) fn count_distinct() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::new_from_impl(DistinctValues::new("count_distinct", Answer::Count)))
}

/// Whether sets can hold values of a type.
pub(crate) fn supports(data_type: &DataType) -> bool {
    is_text(data_type) || RowConverter::supports_fields(&[SortField::new(data_type.clone())])
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Answer {
    List,
    Count,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct DistinctValues {
    name: &'static str,
    answer: Answer,
    signature: Signature,
}

impl DistinctValues {
    fn new(name: &'static str, answer: Answer) -> Self {
        Self { name, answer, signature: Signature::any(1, Volatility::Immutable) }
    }

    fn values(&self, args: &AccumulatorArgs<'_>) -> Result<Values> {
        if !args.order_bys.is_empty() {
            return plan_err!("{} is always sorted: leave its ORDER BY out", self.name);
        }
        Values::new(self.answer, args.expr_fields[0].data_type())
    }
}

impl AggregateUDFImpl for DistinctValues {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        if !supports(&arg_types[0]) {
            return plan_err!("{} does not take values of type {}", self.name, arg_types[0]);
        }
        Ok(match self.answer {
            Answer::List => DataType::List(item_field(&arg_types[0])),
            Answer::Count => DataType::Int64,
        })
    }

    fn is_nullable(&self) -> bool {
        false
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(OneSet(self.values(&args)?)))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let list = DataType::List(item_field(args.input_fields[0].data_type()));
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, "values"), list, true))])
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs<'_>) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(self.values(&args)?))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        match self.answer {
            Answer::Count => Ok(ScalarValue::Int64(Some(0))),
            Answer::List => Ok(empty_list(data_type)),
        }
    }
}

fn empty_list(data_type: &DataType) -> ScalarValue {
    match data_type {
        DataType::List(item) => ScalarValue::List(ScalarValue::new_list(&[], item.data_type(), true)),
        _ => ScalarValue::Null,
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn item_field(data_type: &DataType) -> FieldRef {
    let item = if is_text(data_type) { DataType::Utf8 } else { data_type.clone() };
    Arc::new(Field::new_list_field(item, true))
}

/// Sets for all groups, and how their values are encoded.
struct Values {
    answer: Answer,
    sets: Sets,
    item: FieldRef,
    /// `None` for text, which needs no encoding.
    rows: Option<RowConverter>,
}

impl Values {
    fn new(answer: Answer, data_type: &DataType) -> Result<Self> {
        let rows =
            if is_text(data_type) { None } else { Some(RowConverter::new(vec![SortField::new(data_type.clone())])?) };
        Ok(Self { answer, sets: Sets::default(), item: item_field(data_type), rows })
    }

    /// Adds the values of some rows: `groups` has a group for each of them, or `None` for a row to leave out.
    fn add(&mut self, values: &ArrayRef, groups: impl Iterator<Item = Option<usize>>) -> Result<()> {
        let sets = &mut self.sets;
        if let Some(converter) = &self.rows {
            let rows = converter.convert_columns(std::slice::from_ref(values))?;
            return add_all(sets, values, rows.iter(), groups);
        }
        match values.data_type() {
            DataType::Utf8View => add_all(sets, values, values.as_string_view().bytes_iter(), groups),
            DataType::Utf8 => {
                let text = values.as_string::<i32>();
                add_all(sets, values, (0..text.len()).map(|row| text.value(row).as_bytes()), groups)
            }
            DataType::LargeUtf8 => {
                let text = values.as_string::<i64>();
                add_all(sets, values, (0..text.len()).map(|row| text.value(row).as_bytes()), groups)
            }
            other => internal_err!("text was expected, not {other}"),
        }
    }

    /// The sets of some groups as lists. They stay.
    fn lists(&self, groups: impl ExactSizeIterator<Item = usize> + Clone) -> Result<ListArray> {
        let total = groups.clone().map(|group| self.sets.count(group) as usize).sum::<usize>();
        let mut ends: Vec<i32> = Vec::with_capacity(groups.len() + 1);
        let mut values: Vec<&[u8]> = Vec::with_capacity(total);
        ends.push(0);
        for group in groups {
            self.sets.sorted(group, &mut values);
            ends.push(offset(values.len())?);
        }
        let child: ArrayRef = match &self.rows {
            None => Arc::new(text_array(&values)?),
            Some(converter) => {
                let parser = converter.parser();
                let mut columns = converter.convert_rows(values.iter().map(|row| parser.parse(row)))?;
                columns.swap_remove(0)
            }
        };
        Ok(ListArray::try_new(self.item.clone(), OffsetBuffer::new(ends.into()), child, None)?)
    }

    fn answer(&self, groups: impl ExactSizeIterator<Item = usize> + Clone) -> Result<ArrayRef> {
        Ok(match self.answer {
            Answer::List => Arc::new(self.lists(groups)?),
            Answer::Count => {
                Arc::new(Int64Array::from_iter_values(groups.map(|group| i64::from(self.sets.count(group)))))
            }
        })
    }

    fn groups(&self, emit_to: EmitTo) -> usize {
        match emit_to {
            EmitTo::All => self.sets.len(),
            EmitTo::First(groups) => groups,
        }
    }
}

/// The loop over rows, once for each form of text: it is the dearest part of a micro-batch.
fn add_all<V: AsRef<[u8]>>(
    sets: &mut Sets,
    array: &ArrayRef,
    values: impl Iterator<Item = V>,
    groups: impl Iterator<Item = Option<usize>>,
) -> Result<()> {
    let rows = values.zip(groups);
    match array.logical_nulls().filter(|nulls| nulls.null_count() > 0) {
        None => sets.add_all(rows.filter_map(|(value, group)| Some((group?, value)))),
        Some(nulls) => sets.add_all(
            rows.zip(&nulls).filter_map(|((value, group), valid)| if valid { Some((group?, value)) } else { None }),
        ),
    }
}

fn text_array(values: &[&[u8]]) -> Result<StringArray> {
    let bytes = values.iter().map(|value| value.len()).sum::<usize>();
    offset(bytes)?;
    let mut ends: Vec<i32> = Vec::with_capacity(values.len() + 1);
    let mut text: Vec<u8> = Vec::with_capacity(bytes);
    ends.push(0);
    for value in values {
        text.extend_from_slice(value);
        ends.push(text.len() as i32);
    }
    Ok(StringArray::try_new(OffsetBuffer::new(ends.into()), Buffer::from_vec(text), None)?)
}

/// Lists and text count with 32 bits; the operator emits few enough groups at a time, unless one is huge.
fn offset(length: usize) -> Result<i32> {
    i32::try_from(length)
        .map_err(|_| resources_datafusion_err!("the sets of one window have more than 2 GiB of values"))
}

impl GroupsAccumulator for Values {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.sets.grow(total_num_groups);
        match opt_filter {
            None => self.add(&values[0], group_indices.iter().map(|group| Some(*group))),
            Some(filter) => {
                let passed = |row: usize| filter.is_valid(row) && filter.value(row);
                self.add(&values[0], group_indices.iter().enumerate().map(|(row, group)| passed(row).then_some(*group)))
            }
        }
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let groups = self.groups(emit_to);
        let answer = self.answer(0..groups)?;
        self.sets.remove_first(groups);
        Ok(answer)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let groups = self.groups(emit_to);
        let lists: ArrayRef = Arc::new(self.lists(0..groups)?);
        self.sets.remove_first(groups);
        Ok(vec![lists])
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.sets.grow(total_num_groups);
        let Some(lists) = values[0].as_list_opt::<i32>() else {
            return exec_err!("the state of a set is a list, not {}", values[0].data_type());
        };
        // A slice's values are the whole child: only the part that its offsets name belongs to it.
        let offsets = lists.value_offsets();
        let (first, last) = (offsets[0] as usize, offsets[lists.len()] as usize);
        let items = lists.values().slice(first, last - first);
        let groups = (0..lists.len()).flat_map(|row| {
            let group = lists.is_valid(row).then_some(group_indices[row]);
            std::iter::repeat_n(group, (offsets[row + 1] - offsets[row]) as usize)
        });
        self.add(&items, groups)
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let mut each_row = Self::new(self.answer, values[0].data_type())?;
        let rows: Vec<usize> = (0..values[0].len()).collect();
        each_row.update_batch(values, &rows, opt_filter, rows.len())?;
        each_row.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        self.sets.size()
    }
}

/// Sets as the accumulators of sessions; `None` for other aggregates.
pub(crate) fn slots(
    expr: &AggregateFunctionExpr,
    arguments: &[DataType],
) -> Result<Option<Box<dyn crate::engine::slots::SlotAccumulator>>> {
    let Some(function) = expr.fun().inner().downcast_ref::<DistinctValues>() else { return Ok(None) };
    Ok(Some(Box::new(Values::new(function.answer, &arguments[0])?)))
}

impl crate::engine::slots::SlotAccumulator for Values {
    fn grow(&mut self, slots: usize) -> Result<()> {
        self.sets.grow(slots);
        Ok(())
    }

    fn update(&mut self, values: &[ArrayRef], slots: &[usize], filter: Option<&BooleanArray>) -> Result<()> {
        self.update_batch(values, slots, filter, self.sets.len())
    }

    fn merge(&mut self, state: &[ArrayRef], slots: &[usize]) -> Result<()> {
        self.merge_batch(state, slots, self.sets.len())
    }

    fn state(&mut self, slots: &[usize]) -> Result<Vec<ArrayRef>> {
        Ok(vec![Arc::new(self.lists(slots.iter().copied())?)])
    }

    fn answers(&mut self, slots: &[usize]) -> Result<ArrayRef> {
        self.answer(slots.iter().copied())
    }

    fn unite(&mut self, into: usize, from: usize) -> Result<()> {
        self.sets.unite(into, from)
    }

    fn clear(&mut self, slots: &[usize]) -> Result<()> {
        slots.iter().for_each(|slot| self.sets.clear(*slot));
        Ok(())
    }

    fn tidy(&mut self) -> Result<()> {
        self.sets.tidy()
    }

    fn remove_first(&mut self, slots: usize) {
        self.sets.remove_first(slots);
    }

    fn size(&self) -> usize {
        self.sets.size()
    }
}

/// The aggregate over a single group, as window functions and plans without groups use it.
struct OneSet(Values);

impl std::fmt::Debug for OneSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OneSet").finish_non_exhaustive()
    }
}

impl Accumulator for OneSet {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0.sets.grow(1);
        self.0.add(&values[0], std::iter::repeat_n(Some(0), values[0].len()))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.0.sets.grow(1);
        ScalarValue::try_from_array(&self.0.answer(0..1)?, 0)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.0.sets.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.0.sets.grow(1);
        Ok(vec![ScalarValue::List(Arc::new(self.0.lists(0..1)?))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let groups = vec![0; states[0].len()];
        GroupsAccumulator::merge_batch(&mut self.0, states, &groups, 1)
    }
}

#[cfg(test)]
mod tests;
