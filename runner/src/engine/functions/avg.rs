//! `avg(DISTINCT x)` of decimals, which the engine adds up in the digits of the values: a total that leaves them would be another
//! number. Every other average is the engine's.

use std::collections::HashSet;
use std::mem::{size_of, size_of_val};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, ListArray, PrimitiveArray};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, Field, FieldRef, i256};
use datafusion::common::{ScalarValue, internal_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::functions_aggregate::average::avg_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, Signature,
};

use crate::engine::checked::sql_type;

/// The aggregate that replaces DataFusion's.
pub(super) fn avg() -> Arc<AggregateUDF> {
    let inner = avg_udaf();
    Arc::new(AggregateUDF::new_from_impl(Average { signature: inner.signature().clone(), inner }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Average {
    signature: Signature,
    inner: Arc<AggregateUDF>,
}

impl AggregateUDFImpl for Average {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arg_types)
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        match (args.expr_fields.first().map(|field| field.data_type()), args.return_field.data_type()) {
            (Some(DataType::Decimal128(_, scale)), answer @ DataType::Decimal128(..)) if args.is_distinct => {
                Ok(Box::new(DistinctAverage { scale: *scale, answer: answer.clone(), values: HashSet::new() }))
            }
            _ => self.inner.accumulator(args),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        self.inner.state_fields(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        self.inner.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        self.inner.create_groups_accumulator(args)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        self.inner.create_sliding_accumulator(args)
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }
}

/// The average of the distinct values of a single group.
#[derive(Debug)]
struct DistinctAverage {
    /// Digits behind the point of the values.
    scale: i8,
    /// The type of the answer, which has more of them.
    answer: DataType,
    values: HashSet<i128>,
}

impl DistinctAverage {
    fn value_type(&self) -> DataType {
        DataType::Decimal128(DECIMAL128_MAX_PRECISION, self.scale)
    }

    /// The average in the digits of the answer; `None` if it does not fit.
    fn average(&self, precision: u8, scale: i8) -> Option<i128> {
        // Fewer than 2^32 values of 127 bits, and a factor of 14 bits.
        let total = self.values.iter().fold(i256::ZERO, |total, value| total.wrapping_add(i256::from_i128(*value)));
        let more = u32::try_from(scale.checked_sub(self.scale)?).ok()?;
        let total = total.wrapping_mul(i256::from_i128(10_i128.checked_pow(more)?));
        let average = total.wrapping_div(i256::from_i128(self.values.len() as i128)).to_i128()?;
        let limit = 10_i128.checked_pow(u32::from(precision))?;
        (-limit < average && average < limit).then_some(average)
    }
}

impl Accumulator for DistinctAverage {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.values.extend(values[0].as_primitive::<Decimal128Type>().iter().flatten());
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let DataType::Decimal128(precision, scale) = self.answer else {
            return internal_err!("an average of decimals is a decimal");
        };
        if self.values.is_empty() {
            return Ok(ScalarValue::Decimal128(None, precision, scale));
        }
        let Some(average) = self.average(precision, scale) else {
            let data_type = sql_type(&self.answer);
            return Err(DataFusionError::Execution(format!("the result of avg does not fit {data_type}")));
        };
        Ok(ScalarValue::Decimal128(Some(average), precision, scale))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values: PrimitiveArray<Decimal128Type> = self.values.iter().copied().map(Some).collect();
        let values = values.with_data_type(self.value_type());
        let item = Arc::new(Field::new_list_field(self.value_type(), true));
        let ends = OffsetBuffer::from_lengths([values.len()]);
        Ok(vec![ScalarValue::List(Arc::new(ListArray::try_new(item, ends, Arc::new(values), None)?))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let Some(lists) = states[0].as_list_opt::<i32>() else {
            return internal_err!("the state of an average of distinct values is a list");
        };
        lists.iter().flatten().try_for_each(|list| self.update_batch(&[list]))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.values.capacity() * size_of::<i128>()
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::Decimal128Array;

    use super::*;

    fn average(values: &[i128], scale: i8) -> Result<ScalarValue> {
        let answer = DataType::Decimal128(38, scale + 4);
        let accumulator = || DistinctAverage { scale, answer: answer.clone(), values: HashSet::new() };
        let mut whole = accumulator();
        for part in values.chunks(2) {
            let mut of = accumulator();
            let column = Decimal128Array::from(part.to_vec()).with_data_type(of.value_type());
            of.update_batch(&[Arc::new(column)]).unwrap();
            let state = of.state().unwrap()[0].to_array().unwrap();
            whole.merge_batch(&[state]).unwrap();
        }
        whole.evaluate()
    }

    #[test]
    fn an_average_of_distinct_decimals_is_right_or_an_error() {
        let is = |value| ScalarValue::Decimal128(value, 38, 6);
        assert_eq!(average(&[100, 200, 200, 100], 2).unwrap(), is(Some(1_500_000)));
        assert_eq!(average(&[], 2).unwrap(), is(None));
        let most = 10_i128.pow(38) - 1;
        assert_eq!(average(&[most, -most, most - 2, 2 - most], 2).unwrap(), is(Some(0)), "over the end and back");
        assert!(average(&[most, most - 1, most - 2], 2).is_err());
    }
}
