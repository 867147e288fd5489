//! `sum(x)` of whole numbers and decimals, exact: a sum that does not fit its type is an error, never another number,
//! and a sum that leaves its type on the way and comes back is right.
//!
//! A total is what DataFusion keeps, in the bytes of the type, and beside it a *carry*: how often it went over the end.
//! Carries take no memory before the first one.

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;
use std::mem::size_of;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray, BooleanArray, Int32Array, ListArray,
    PrimitiveArray,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::nullif;
use datafusion::arrow::datatypes::{
    ArrowNativeType, DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, Field, FieldRef, Int32Type, Int64Type,
    UInt64Type,
};
use datafusion::common::{ScalarValue, internal_err, not_impl_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, Signature,
};
use datafusion::physical_expr::NullState;

use crate::engine::checked::sql_type;
use crate::engine::refusing::{Refused, RefusesGroups, Refusing};

/// The aggregate that replaces DataFusion's; sums of other types than whole numbers and decimals are its sums.
pub(super) fn sum() -> Arc<AggregateUDF> {
    let inner = sum_udaf();
    Arc::new(AggregateUDF::new_from_impl(Sum { signature: inner.signature().clone(), inner }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Sum {
    signature: Signature,
    inner: Arc<AggregateUDF>,
}

/// Calls something generic with the type that sums are kept in; `None` for types that are not ours.
macro_rules! exactly {
    ($data_type:expr, $call:ident) => {
        match $data_type {
            DataType::Int64 => Some($call::<Int64Type>($data_type)),
            DataType::UInt64 => Some($call::<UInt64Type>($data_type)),
            DataType::Decimal128(..) => Some($call::<Decimal128Type>($data_type)),
            _ => None,
        }
    };
}

impl AggregateUDFImpl for Sum {
    fn name(&self) -> &str {
        "sum"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arg_types)
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let data_type = args.return_field.data_type();
        let own = if args.is_distinct { exactly!(data_type, distinct) } else { exactly!(data_type, one) };
        own.map_or_else(|| self.inner.accumulator(args), Ok)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let data_type = args.return_field.data_type();
        if !is_exact(data_type) {
            return self.inner.state_fields(args);
        }
        let field = |part, data_type| Arc::new(Field::new(format_state_name(args.name, part), data_type, true));
        if args.is_distinct {
            return Ok(vec![field("values", DataType::new_list(total_type(data_type), true))]);
        }
        Ok(vec![field("sum", total_type(data_type)), field("carry", DataType::Int32)])
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        !args.is_distinct
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        let own = exactly!(args.return_field.data_type(), groups);
        own.map_or_else(|| self.inner.create_groups_accumulator(args), Ok)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return not_impl_err!("sum(DISTINCT x) OVER a frame that moves is not supported");
        }
        match exactly!(args.return_field.data_type(), one) {
            Some(own) => Ok(own),
            None => self.inner.create_sliding_accumulator(args),
        }
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

fn is_exact(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Int64 | DataType::UInt64 | DataType::Decimal128(..))
}

/// Totals are kept with all digits.
fn total_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Decimal128(_, scale) => DataType::Decimal128(DECIMAL128_MAX_PRECISION, *scale),
        other => other.clone(),
    }
}

fn one<T: SumType>(data_type: &DataType) -> Box<dyn Accumulator>
where
    T::Native: Eq + Hash,
{
    Box::new(OneSum::<T> { data_type: data_type.clone(), total: T::Native::ZERO, carry: 0, values: 0 })
}

fn distinct<T: SumType>(data_type: &DataType) -> Box<dyn Accumulator>
where
    T::Native: Eq + Hash,
{
    Box::new(DistinctSum::<T> { data_type: data_type.clone(), values: HashSet::new() })
}

fn groups<T: SumType>(data_type: &DataType) -> Box<dyn GroupsAccumulator>
where
    T::Native: Eq + Hash,
{
    Box::new(Refusing(Box::new(Sums::<T> {
        data_type: data_type.clone(),
        totals: Vec::new(),
        carries: Vec::new(),
        nulls: NullState::new(),
    })))
}

/// Types in which sums are kept.
trait SumType: ArrowPrimitiveType<Native: ArrowNativeTypeOp + Eq + Hash> + Debug + Send {}

impl SumType for Int64Type {}
impl SumType for UInt64Type {}
impl SumType for Decimal128Type {}

/// Adds, and tells how the total went over the end of its bytes.
#[inline(always)]
fn add<N: ArrowNativeTypeOp>(total: &mut N, value: N) -> i32 {
    let before = *total;
    *total = before.add_wrapping(value);
    if value.is_lt(N::ZERO) {
        if total.is_gt(before) { -1 } else { 0 }
    } else if total.is_lt(before) {
        1
    } else {
        0
    }
}

/// The reverse of [`add`].
fn subtract<N: ArrowNativeTypeOp>(total: &mut N, value: N) -> i32 {
    let before = *total;
    *total = before.sub_wrapping(value);
    if value.is_lt(N::ZERO) {
        if total.is_lt(before) { 1 } else { 0 }
    } else if total.is_gt(before) {
        -1
    } else {
        0
    }
}

/// Whether a total is a value of its type.
fn fits<T: SumType>(total: T::Native, carry: i32, data_type: &DataType) -> bool {
    if carry != 0 {
        return false;
    }
    match data_type {
        DataType::Decimal128(precision, _) => {
            let limit = T::Native::usize_as(10).pow_checked(u32::from(*precision));
            // Ten to the power of the digits itself has one more.
            limit.is_ok_and(|limit| total.is_lt(limit) && T::Native::ZERO.sub_wrapping(limit).is_lt(total))
        }
        _ => true,
    }
}

fn overflow(data_type: &DataType) -> DataFusionError {
    DataFusionError::Execution(unfit_text(data_type))
}

fn unfit_text(data_type: &DataType) -> String {
    format!("the result of sum does not fit {}", sql_type(data_type))
}

struct Sums<T: SumType> {
    data_type: DataType,
    totals: Vec<T::Native>,
    /// As long as it must be: groups beyond its end have none.
    carries: Vec<i32>,
    nulls: NullState,
}

impl<T: SumType> Sums<T> {
    fn carry(&self, group: usize) -> i32 {
        self.carries.get(group).copied().unwrap_or_default()
    }

    fn asked(&self, emit_to: EmitTo) -> usize {
        match emit_to {
            EmitTo::All => self.totals.len(),
            EmitTo::First(groups) => groups,
        }
    }

    fn overflows(&self, groups: usize) -> impl Iterator<Item = usize> {
        let groups = groups.min(self.totals.len());
        (0..groups).filter(|group| !fits::<T>(self.totals[*group], self.carry(*group), &self.data_type))
    }

    fn add_carry(carries: &mut Vec<i32>, group: usize, carry: i32) {
        if carries.len() <= group {
            carries.resize(group + 1, 0);
        }
        carries[group] = carries[group].saturating_add(carry);
    }

    /// Totals, carries and which groups had a value.
    fn take(&mut self, emit_to: EmitTo) -> (Vec<T::Native>, Vec<i32>, Option<NullBuffer>) {
        let totals = emit_to.take_needed(&mut self.totals);
        let rest = self.carries.split_off(totals.len().min(self.carries.len()));
        let mut carries = std::mem::replace(&mut self.carries, rest);
        carries.resize(totals.len(), 0);
        (totals, carries, self.nulls.build(emit_to))
    }
}

impl<T: SumType> RefusesGroups for Sums<T> {
    fn evaluate_or_refuse(&mut self, emit_to: EmitTo, refused: &mut Refused) -> Result<ArrayRef> {
        let overflows: Vec<usize> = self.overflows(self.asked(emit_to)).collect();
        let (mut totals, _, nulls) = self.take(emit_to);
        overflows.iter().for_each(|group| totals[*group] = T::Native::ZERO);
        let sums: PrimitiveArray<T> = PrimitiveArray::new(totals.into(), nulls).with_data_type(self.data_type.clone());
        if overflows.is_empty() {
            return Ok(Arc::new(sums));
        }
        let mut unfit = vec![false; sums.len()];
        overflows.iter().for_each(|group| unfit[*group] = true);
        refused.extend(overflows.iter().map(|group| (*group, unfit_text(&self.data_type))));
        Ok(nullif(&sums, &BooleanArray::from(unfit))?)
    }
}

impl<T: SumType> GroupsAccumulator for Sums<T> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        let values = values[0].as_primitive::<T>();
        self.totals.resize(total_num_groups, T::Native::ZERO);
        let (totals, carries) = (&mut self.totals, &mut self.carries);
        self.nulls.accumulate(group_indices, values, opt_filter, total_num_groups, |group, value| {
            let carry = add(&mut totals[group], value);
            if carry != 0 {
                Self::add_carry(carries, group, carry);
            }
        });
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        if self.overflows(self.asked(emit_to)).next().is_some() {
            return Err(overflow(&self.data_type));
        }
        self.evaluate_or_refuse(emit_to, &mut Refused::new())
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let (totals, carries, nulls) = self.take(emit_to);
        let totals: PrimitiveArray<T> =
            PrimitiveArray::new(totals.into(), nulls).with_data_type(total_type(&self.data_type));
        Ok(vec![Arc::new(totals), Arc::new(Int32Array::from(carries))])
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.update_batch(&values[..1], group_indices, None, total_num_groups)?;
        let carries = values[1].as_primitive::<Int32Type>();
        for (group, carry) in group_indices.iter().zip(carries.iter()) {
            if let Some(carry) = carry.filter(|carry| *carry != 0) {
                Self::add_carry(&mut self.carries, *group, carry);
            }
        }
        Ok(())
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let values = values[0].as_primitive::<T>();
        let passed = opt_filter.map(|filter| match filter.nulls() {
            Some(nulls) => NullBuffer::new(filter.values() & nulls.inner()),
            None => NullBuffer::new(filter.values().clone()),
        });
        let nulls = NullBuffer::union(values.nulls(), passed.as_ref());
        let totals: PrimitiveArray<T> =
            PrimitiveArray::new(values.values().clone(), nulls).with_data_type(total_type(&self.data_type));
        let rows = totals.len();
        Ok(vec![Arc::new(totals), Arc::new(Int32Array::from_value(0, rows))])
    }

    fn size(&self) -> usize {
        self.totals.capacity() * size_of::<T::Native>() + self.carries.capacity() * size_of::<i32>() + self.nulls.size()
    }
}

/// The sum of a single group, as window functions and plans without groups use it.
#[derive(Debug)]
struct OneSum<T: SumType> {
    data_type: DataType,
    total: T::Native,
    carry: i32,
    /// How many values there are.
    values: u64,
}

impl<T: SumType> OneSum<T> {
    fn each(values: &ArrayRef, mut value: impl FnMut(T::Native)) {
        values.as_primitive::<T>().iter().flatten().for_each(&mut value);
    }
}

impl<T: SumType> Accumulator for OneSum<T> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        Self::each(&values[0], |value| {
            self.carry += add(&mut self.total, value);
            self.values += 1;
        });
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        Self::each(&values[0], |value| {
            self.carry += subtract(&mut self.total, value);
            self.values -= 1;
        });
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        if self.values == 0 {
            return ScalarValue::try_from(&self.data_type);
        }
        if !fits::<T>(self.total, self.carry, &self.data_type) {
            return Err(overflow(&self.data_type));
        }
        ScalarValue::new_primitive::<T>(Some(self.total), &self.data_type)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let total = (self.values > 0).then_some(self.total);
        let total = ScalarValue::new_primitive::<T>(total, &total_type(&self.data_type))?;
        Ok(vec![total, ScalarValue::Int32(Some(self.carry))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(&states[..1])?;
        self.carry += states[1].as_primitive::<Int32Type>().iter().flatten().sum::<i32>();
        Ok(())
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

/// The sum of the distinct values of a single group.
#[derive(Debug)]
struct DistinctSum<T: SumType> {
    data_type: DataType,
    values: HashSet<T::Native>,
}

impl<T: SumType> Accumulator for DistinctSum<T> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.values.extend(values[0].as_primitive::<T>().iter().flatten());
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut sum = OneSum::<T> { data_type: self.data_type.clone(), total: T::Native::ZERO, carry: 0, values: 0 };
        for value in &self.values {
            sum.carry += add(&mut sum.total, *value);
            sum.values += 1;
        }
        sum.evaluate()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values: PrimitiveArray<T> =
            PrimitiveArray::from_iter_values(self.values.iter().copied()).with_data_type(total_type(&self.data_type));
        let item = Arc::new(Field::new_list_field(total_type(&self.data_type), true));
        let ends = OffsetBuffer::from_lengths([values.len()]);
        Ok(vec![ScalarValue::List(Arc::new(ListArray::try_new(item, ends, Arc::new(values), None)?))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let Some(lists) = states[0].as_list_opt::<i32>() else {
            return internal_err!("the state of a sum of distinct values is a list");
        };
        for list in lists.iter().flatten() {
            self.update_batch(&[list])?;
        }
        Ok(())
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.values.capacity() * size_of::<T::Native>()
    }
}

#[cfg(test)]
mod tests;
