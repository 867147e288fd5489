//! `nth_value(x, n ORDER BY y)` as an aggregate, on top of `array_agg(x ORDER BY y)`.
//!
//! DataFusion's own takes for granted that rows reach it in the order asked for, over all batches. Rows of a stream
//! come as they come; `array_agg` sorts what it holds.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{ScalarValue, internal_err, plan_err};
use datafusion::error::Result;
use datafusion::functions_aggregate::array_agg::array_agg_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};
use datafusion::physical_expr::expressions::Literal;

/// The aggregate that replaces DataFusion's.
pub(crate) fn nth_value() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::new_from_impl(NthValue { signature: Signature::any(2, Volatility::Immutable) }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct NthValue {
    signature: Signature,
}

impl AggregateUDFImpl for NthValue {
    fn name(&self) -> &str {
        "nth_value"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        Ok(arg_types[0].clone())
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let n = match args.exprs[1].downcast_ref::<Literal>().map(Literal::value) {
            Some(ScalarValue::Int64(Some(n))) if *n != 0 => *n,
            _ => {
                return plan_err!(
                    "the second argument of nth_value is a whole number, from 1, or from -1 for the last"
                );
            }
        };
        let list =
            Field::new_list(args.name, Field::new_list_field(args.expr_fields[0].data_type().clone(), true), true);
        let values = array_agg_udaf().accumulator(AccumulatorArgs {
            return_field: Arc::new(list),
            exprs: &args.exprs[..1],
            expr_fields: &args.expr_fields[..1],
            ..args
        })?;
        Ok(Box::new(Nth { n, values, data_type: args.expr_fields[0].data_type().clone() }))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        array_agg_udaf().state_fields(StateFieldsArgs { input_fields: &args.input_fields[..1], ..args })
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::SoftRequirement
    }

    /// It sorts by itself, whatever order rows come in.
    fn with_beneficial_ordering(self: Arc<Self>, _: bool) -> Result<Option<Arc<dyn AggregateUDFImpl>>> {
        Ok(Some(self))
    }
}

#[derive(Debug)]
struct Nth {
    /// From 1; from -1 counted from the end.
    n: i64,
    values: Box<dyn Accumulator>,
    data_type: DataType,
}

impl Accumulator for Nth {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        // The argument between value and order is the constant n.
        let mut values = values.to_vec();
        values.remove(1);
        self.values.update_batch(&values)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let ScalarValue::List(list) = self.values.evaluate()? else { return internal_err!("array_agg gave no list") };
        let none = ScalarValue::try_from(&self.data_type);
        if list.is_null(0) {
            return none;
        }
        let items = list.value(0);
        let distance = usize::try_from(self.n.unsigned_abs()).unwrap_or(usize::MAX);
        let index = if self.n > 0 { Some(distance - 1) } else { items.len().checked_sub(distance) };
        match index.filter(|index| *index < items.len()) {
            Some(index) => ScalarValue::try_from_array(&items, index),
            None => none,
        }
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.values.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.values.state()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.values.merge_batch(states)
    }
}
