//! Aggregates under the names that people know from elsewhere. Most are another aggregate with a FILTER or an ORDER BY,
//! which `rules` puts in their place; `mode` is our own.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::common::{ScalarValue, internal_err, plan_err};
use datafusion::error::Result;
use datafusion::functions_aggregate::approx_distinct::approx_distinct_udaf;
use datafusion::functions_aggregate::approx_percentile_cont::approx_percentile_cont_udaf;
use datafusion::functions_aggregate::array_agg::array_agg_udaf;
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::first_last::{first_value_udaf, last_value_udaf};
use datafusion::logical_expr::expr::{Cast, Sort};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Expr, Signature, TypeSignature, Volatility, lit,
};

use super::own::Described;

/// The aggregates, and their descriptions. The example is over a table `v` of the numbers 3, 1, 3 in a column `x` and the
/// texts c, a, b in a column `t`.
pub(super) fn functions() -> Vec<(Described, Arc<AggregateUDF>)> {
    let described = |form, gives, example, result| Described { form, gives, example, result };
    let renamed = |name, kind| Arc::new(AggregateUDF::new_from_impl(Renamed::new(name, kind)));
    vec![
        (
            described(
                "approx_count_distinct(x)",
                "As `approx_distinct(x)`: about how many distinct values there are.",
                "approx_count_distinct(x)",
                "2",
            ),
            renamed("approx_count_distinct", Kind::ApproxDistinct),
        ),
        (
            described("count_if(condition)", "How many rows fulfil the condition.", "count_if(x > 2)", "2"),
            renamed("count_if", Kind::CountIf),
        ),
        (
            described("max_by(x, y)", "The x of the row with the greatest y.", "max_by(x, t)", "3"),
            renamed("max_by", Kind::MaxBy),
        ),
        (
            described("min_by(x, y)", "The x of the row with the least y.", "min_by(x, t)", "1"),
            renamed("min_by", Kind::MinBy),
        ),
        (
            described("mode(x)", "The most frequent value; of several the least.", "mode(x)", "3"),
            Arc::new(AggregateUDF::new_from_impl(Mode { signature: Signature::any(1, Volatility::Immutable) })),
        ),
        (
            described(
                "percentile_approx(x, p)",
                "As `approx_percentile_cont(x, p)`: about the value below which a part p of the values lies.",
                "percentile_approx(x, 0.5)",
                "3.0",
            ),
            renamed("percentile_approx", Kind::Percentile),
        ),
    ]
}

/// `collect_list(x)` where rows have an order of their own: over tables.
pub(super) fn collect_list() -> (Described, Arc<AggregateUDF>) {
    let described = Described {
        form: "collect_list(x)",
        gives: "The values that are not null, as a list, in the order in which rows are read; in a stream in the order of \
                event time, partition and offset.",
        example: "array_sort(collect_list(x))",
        result: "[1, 3, 3]",
    };
    (described, Arc::new(AggregateUDF::new_from_impl(Renamed::new("collect_list", Kind::List))))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    ApproxDistinct,
    CountIf,
    List,
    MaxBy,
    MinBy,
    Percentile,
}

/// A name that stands for another aggregate.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Renamed {
    name: &'static str,
    kind: Kind,
    signature: Signature,
}

impl Renamed {
    fn new(name: &'static str, kind: Kind) -> Self {
        let arguments = match kind {
            Kind::CountIf => TypeSignature::Exact(vec![DataType::Boolean]),
            Kind::ApproxDistinct | Kind::List => TypeSignature::Any(1),
            Kind::MaxBy | Kind::MinBy | Kind::Percentile => TypeSignature::Any(2),
        };
        Self { name, kind, signature: Signature::new(arguments, Volatility::Immutable) }
    }
}

/// What an aggregate stands for: the aggregate, its arguments, its order and what its rows are filtered by besides.
pub(crate) struct Stands {
    pub(crate) function: Arc<AggregateUDF>,
    pub(crate) args: Vec<Expr>,
    pub(crate) order_by: Vec<Sort>,
    pub(crate) filter: Option<Expr>,
}

/// What to compute in the place of an aggregate; `None` for one that is computed itself.
///
/// # Errors
/// It has not the arguments that it takes.
pub(crate) fn stands_for(function: &AggregateUDF, args: &[Expr]) -> Result<Option<Stands>> {
    let Some(renamed) = function.inner().downcast_ref::<Renamed>() else { return Ok(None) };
    let plain = |function, args: &[Expr]| Stands { function, args: args.to_vec(), order_by: vec![], filter: None };
    Ok(Some(match (renamed.kind, args) {
        (Kind::ApproxDistinct, [_]) => plain(approx_distinct_udaf(), args),
        (Kind::Percentile, [x, p]) => {
            let number = |expr: &Expr| Expr::Cast(Cast::new(Box::new(expr.clone()), DataType::Float64));
            plain(approx_percentile_cont_udaf(), &[number(x), p.clone()])
        }
        (Kind::CountIf, [condition]) => {
            Stands { filter: Some(condition.clone()), ..plain(count_udaf(), &[lit(1_i64)]) }
        }
        (Kind::List, [x]) => Stands { filter: Some(x.clone().is_not_null()), ..plain(array_agg_udaf(), args) },
        (Kind::MaxBy | Kind::MinBy, [x, y]) => {
            // Ties fall the same way in whatever order rows come.
            let order_by = vec![y.clone().sort(true, false), x.clone().sort(true, false)];
            let function = if renamed.kind == Kind::MaxBy { last_value_udaf() } else { first_value_udaf() };
            let filter = Some(y.clone().is_not_null());
            Stands { function, args: vec![x.clone()], order_by, filter }
        }
        _ => return plan_err!("{} has not the arguments that it takes", renamed.name),
    }))
}

impl AggregateUDFImpl for Renamed {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match self.kind {
            Kind::ApproxDistinct => approx_distinct_udaf().return_type(arg_types),
            Kind::CountIf => Ok(DataType::Int64),
            Kind::List => array_agg_udaf().return_type(arg_types),
            Kind::MaxBy | Kind::MinBy => Ok(arg_types[0].clone()),
            Kind::Percentile => Ok(DataType::Float64),
        }
    }

    fn accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        internal_err!("{} is replaced when the query is planned", self.name)
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Mode {
    signature: Signature,
}

impl AggregateUDFImpl for Mode {
    fn name(&self) -> &str {
        "mode"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        if !RowConverter::supports_fields(&[SortField::new(arg_types[0].clone())]) {
            return plan_err!("mode does not take values of this type");
        }
        Ok(arg_types[0].clone())
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let data_type = args.expr_fields[0].data_type().clone();
        let rows = RowConverter::new(vec![SortField::new(data_type.clone())])?;
        Ok(Box::new(Frequencies { data_type, rows, counts: BTreeMap::new(), bytes: 0 }))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let list = |part, item: DataType| {
            Arc::new(Field::new(format_state_name(args.name, part), DataType::new_list(item, true), true))
        };
        Ok(vec![list("values", args.input_fields[0].data_type().clone()), list("counts", DataType::Int64)])
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// How often each value came.
struct Frequencies {
    data_type: DataType,
    rows: RowConverter,
    counts: BTreeMap<OwnedRow, i64>,
    bytes: usize,
}

impl std::fmt::Debug for Frequencies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} frequencies", self.counts.len())
    }
}

impl Frequencies {
    fn add(&mut self, values: &ArrayRef, counts: impl Fn(usize) -> i64) -> Result<()> {
        let nulls = values.logical_nulls();
        let rows = self.rows.convert_columns(std::slice::from_ref(values))?;
        for row in 0..values.len() {
            if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                continue;
            }
            let value = rows.row(row).owned();
            let bytes = value.as_ref().len() + size_of::<(OwnedRow, i64)>();
            let count = self.counts.entry(value).or_insert_with(|| {
                self.bytes += bytes;
                0
            });
            *count += counts(row);
        }
        Ok(())
    }

    fn values<'a>(&self, rows: impl Iterator<Item = &'a OwnedRow>) -> Result<ArrayRef> {
        let mut columns = self.rows.convert_rows(rows.map(OwnedRow::row))?;
        Ok(columns.swap_remove(0))
    }
}

impl Accumulator for Frequencies {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add(&values[0], |_| 1)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let most = self.counts.values().copied().max();
        // Rows are in the order of their values.
        match self.counts.iter().find(|(_, count)| Some(**count) == most) {
            Some((value, _)) => ScalarValue::try_from_array(&self.values(std::iter::once(value))?, 0),
            None => ScalarValue::try_from(&self.data_type),
        }
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values = self.values(self.counts.keys())?;
        let list = |items: ArrayRef| -> Result<ScalarValue> {
            let item = Arc::new(Field::new_list_field(items.data_type().clone(), true));
            let ends = datafusion::arrow::buffer::OffsetBuffer::from_lengths([items.len()]);
            let list = datafusion::arrow::array::ListArray::try_new(item, ends, items, None)?;
            Ok(ScalarValue::List(Arc::new(list)))
        };
        let counts = Int64Array::from_iter_values(self.counts.values().copied());
        Ok(vec![list(values)?, list(Arc::new(counts))?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let (Some(values), Some(counts)) = (states[0].as_list_opt::<i32>(), states[1].as_list_opt::<i32>()) else {
            return internal_err!("the state of mode is two lists");
        };
        for (values, counts) in values.iter().zip(counts.iter()) {
            let (Some(values), Some(counts)) = (values, counts) else { continue };
            let counts = counts.as_primitive::<Int64Type>().clone();
            self.add(&values, |row| counts.value(row))?;
        }
        Ok(())
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.bytes
    }
}
