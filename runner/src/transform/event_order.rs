//! Aggregates in the order of events: event time, then topic, partition and offset. Whatever way the stream was cut and
//! in whatever order its partitions were read, the order is the same.
//!
//! `collect_list(x)`, and `array_agg`, `first_value` and `last_value` of `x ORDER BY <event time>`. In the aggregate they
//! take the event time and the identity of the record as further arguments.

mod lists;
mod moment;
mod picks;

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{ScalarValue, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, Signature, Volatility};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;

use super::slots::FromFirst;
use super::values::ValueCodec;
use crate::engine::slots::SlotAccumulator;
use lists::Lists;
use picks::Picks;

/// Name of the aggregate that users call.
pub(super) const COLLECT_LIST: &str = "collect_list";

/// What is made of the values of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum InOrder {
    /// Those that are not null, as a list; an empty list if there is none.
    Collect,
    /// All of them, as a list; null if there is no row.
    List,
    /// The first one.
    First,
    /// The last one.
    Last,
}

/// `collect_list(x)` as users call it. It stands for itself only until the window's aggregate is compiled.
pub(super) fn collect_list() -> Arc<AggregateUDF> {
    let signature = Signature::any(1, Volatility::Immutable);
    Arc::new(AggregateUDF::new_from_impl(EventOrder { answer: InOrder::Collect, ignores_nulls: true, signature }))
}

/// The aggregate over (value, event time, topic, partition, offset).
pub(super) fn in_event_order(answer: InOrder, ignores_nulls: bool) -> Arc<AggregateUDF> {
    let signature = Signature::any(ARGUMENTS, Volatility::Immutable);
    Arc::new(AggregateUDF::new_from_impl(EventOrder { answer, ignores_nulls, signature }))
}

/// What an aggregate of DataFusion over `x ORDER BY <event time>` becomes, by its name.
pub(super) fn by_name(name: &str) -> Option<InOrder> {
    match name {
        "array_agg" => Some(InOrder::List),
        "first_value" => Some(InOrder::First),
        "last_value" => Some(InOrder::Last),
        _ => None,
    }
}

/// Whether values of a type can be kept.
pub(super) fn supports(data_type: &DataType) -> bool {
    ValueCodec::supports(data_type)
}

/// Value, event time, topic, partition, offset.
const ARGUMENTS: usize = 5;

#[derive(Debug, PartialEq, Eq, Hash)]
struct EventOrder {
    answer: InOrder,
    ignores_nulls: bool,
    signature: Signature,
}

impl EventOrder {
    fn slots(&self, value: &DataType) -> Result<Box<dyn SlotAccumulator>> {
        Ok(match self.answer {
            InOrder::Collect | InOrder::List => Box::new(self.lists(value)?),
            InOrder::First | InOrder::Last => Box::new(self.picks(value)?),
        })
    }

    fn lists(&self, value: &DataType) -> Result<Lists> {
        Lists::new(self.item(value), self.ignores_nulls, self.answer == InOrder::List)
    }

    fn picks(&self, value: &DataType) -> Result<Picks> {
        Picks::new(value, self.answer == InOrder::Last, self.ignores_nulls)
    }

    /// Type of the values kept.
    fn item(&self, value: &DataType) -> DataType {
        match value {
            DataType::Utf8View | DataType::LargeUtf8 if self.answer == InOrder::Collect => DataType::Utf8,
            other => other.clone(),
        }
    }
}

impl AggregateUDFImpl for EventOrder {
    fn name(&self) -> &str {
        match self.answer {
            InOrder::Collect => COLLECT_LIST,
            InOrder::List => "list in event order",
            InOrder::First => "first in event order",
            InOrder::Last => "last in event order",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        let value = &arg_types[0];
        if !supports(value) {
            return plan_err!("{} does not take values of type {value}", self.name());
        }
        Ok(match self.answer {
            InOrder::Collect | InOrder::List => DataType::List(Arc::new(Field::new_list_field(self.item(value), true))),
            InOrder::First | InOrder::Last => value.clone(),
        })
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if args.exprs.len() != ARGUMENTS {
            return plan_err!("{COLLECT_LIST} is in the order of events, which is known in a window's aggregate only");
        }
        let slots = self.slots(args.expr_fields[0].data_type())?;
        Ok(Box::new(OneSlot(slots)))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let value = args.input_fields[0].data_type();
        let types = match self.answer {
            InOrder::Collect | InOrder::List => lists::state_types(&self.item(value)),
            InOrder::First | InOrder::Last => picks::state_types(value),
        };
        let fields = types.into_iter().enumerate();
        let name = |part: usize| format_state_name(args.name, &part.to_string());
        Ok(fields.map(|(part, data_type)| Arc::new(Field::new(name(part), data_type, true))).collect())
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        args.exprs.len() == ARGUMENTS
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        let value = args.expr_fields[0].data_type();
        Ok(match self.answer {
            InOrder::Collect | InOrder::List => Box::new(FromFirst::new(self.lists(value)?)),
            InOrder::First | InOrder::Last => Box::new(FromFirst::new(self.picks(value)?)),
        })
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// As accumulators of sessions; `None` for other aggregates.
pub(super) fn slots(expr: &AggregateFunctionExpr, arguments: &[DataType]) -> Result<Option<Box<dyn SlotAccumulator>>> {
    match expr.fun().inner().downcast_ref::<EventOrder>() {
        Some(function) => function.slots(&arguments[0]).map(Some),
        None => Ok(None),
    }
}

/// The aggregate over a single group.
struct OneSlot(Box<dyn SlotAccumulator>);

impl std::fmt::Debug for OneSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OneSlot").finish_non_exhaustive()
    }
}

impl Accumulator for OneSlot {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0.grow(1)?;
        self.0.update(values, &vec![0; values[0].len()], None::<&BooleanArray>)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.0.grow(1)?;
        ScalarValue::try_from_array(&self.0.answers(&[0])?, 0)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.0.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.0.grow(1)?;
        self.0.state(&[0])?.iter().map(|column| ScalarValue::try_from_array(column, 0)).collect()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.0.grow(1)?;
        self.0.merge(states, &vec![0; states[0].len()])
    }
}
