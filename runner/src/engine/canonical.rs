//! One form for values that SQL takes for the same: 0.0 and -0.0, all NaNs, maps whose keys stand in another order.
//!
//! Grouping and DISTINCT compare bytes. What they compare is brought into this form first.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float32Array, Float64Array, ListArray, MapArray, StructArray, UInt32Array,
    make_comparator,
};
use datafusion::arrow::compute::{SortOptions, take};
use datafusion::arrow::datatypes::{DataType, FieldRef, Float32Type, Float64Type};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::functions::over_arrays;

/// Whether equal values of a type may differ in their bytes.
pub(super) fn is_ambiguous(data_type: &DataType) -> bool {
    match data_type {
        DataType::Float16 | DataType::Float32 | DataType::Float64 | DataType::Map(..) => true,
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            is_ambiguous(item.data_type())
        }
        DataType::Struct(fields) => fields.iter().any(|field| is_ambiguous(field.data_type())),
        _ => false,
    }
}

/// The expression in its one form. It keeps its name.
pub(super) fn canonical(expr: Expr) -> Expr {
    named(expr, true)
}

/// The same for a key of a join, with a name of its own: it becomes a column beside those of its side, and a cast is called
/// like the column that it casts.
pub(super) fn canonical_beside(expr: Expr) -> Expr {
    named(expr, false)
}

fn named(expr: Expr, keeps_name: bool) -> Expr {
    let args = match expr {
        // A comparison that became the key of a join.
        Expr::ScalarFunction(call) if call.func.inner().is::<Canonical>() && !keeps_name => call.args,
        Expr::ScalarFunction(call) if call.func.inner().is::<Canonical>() => return Expr::ScalarFunction(call),
        expr => vec![expr],
    };
    let signature = Signature::any(1, Volatility::Immutable);
    ScalarUDF::new_from_impl(Canonical { signature, keeps_name }).call(args)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Canonical {
    signature: Signature,
    keeps_name: bool,
}

impl ScalarUDFImpl for Canonical {
    fn name(&self) -> &str {
        "canonical"
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let name = |arg: &Expr| match self.keeps_name {
            true => arg.schema_name().to_string(),
            false => format!("canonical({arg})"),
        };
        Ok(args.first().map(name).unwrap_or_default())
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        Ok(arg_types[0].clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        Ok(Arc::clone(&args.arg_fields[0]))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        over_arrays(&args, |arrays| one_form(&arrays[0]))
    }
}

/// The values of an array in their one form.
///
/// # Errors
/// When Arrow cannot compare the keys of a map.
pub(crate) fn one_form(array: &ArrayRef) -> Result<ArrayRef> {
    Ok(match array.data_type() {
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>();
            let form: Float64Array = values.unary(|value| if value.is_nan() { f64::NAN } else { value + 0.0 });
            Arc::new(form)
        }
        DataType::Float32 => {
            let values = array.as_primitive::<Float32Type>();
            let form: Float32Array = values.unary(|value| if value.is_nan() { f32::NAN } else { value + 0.0 });
            Arc::new(form)
        }
        DataType::List(item) if is_ambiguous(item.data_type()) => {
            let (item, offsets, values, nulls) = array.as_list::<i32>().clone().into_parts();
            Arc::new(ListArray::try_new(item, offsets, one_form(&values)?, nulls)?)
        }
        DataType::Struct(fields) if fields.iter().any(|field| is_ambiguous(field.data_type())) => {
            let (fields, columns, nulls) = array.as_struct().clone().into_parts();
            let columns = columns.iter().map(one_form).collect::<Result<Vec<_>>>()?;
            Arc::new(StructArray::try_new_with_length(fields, columns, nulls, array.len())?)
        }
        DataType::Map(..) => Arc::new(map_by_keys(array.as_map())?),
        _ => Arc::clone(array),
    })
}

/// A map with its keys in order.
fn map_by_keys(map: &MapArray) -> Result<MapArray> {
    let keys = map.keys();
    let compare = make_comparator(keys.as_ref(), keys.as_ref(), SortOptions::default())?;
    let offsets = map.value_offsets();
    let mut order: Vec<u32> = (0..keys.len() as u32).collect();
    for ends in offsets.windows(2) {
        let (start, end) = (ends[0] as usize, ends[1] as usize);
        order[start..end].sort_by(|a, b| compare(*a as usize, *b as usize));
    }
    let order = UInt32Array::from(order);
    let (field, offsets, entries, nulls, sorted) = map.clone().into_parts();
    let fields = entries.fields().clone();
    let columns = entries.columns().iter().map(|column| one_form(&take(column, &order, None)?));
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let entries = StructArray::try_new(fields, columns, None)?;
    Ok(MapArray::try_new(field, offsets, entries, nulls, sorted)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_and_nans_have_one_form_also_inside_lists_and_structs() {
        let negative_nan = f64::from_bits(f64::NAN.to_bits() | 1 << 63);
        let values: ArrayRef = Arc::new(Float64Array::from(vec![Some(-0.0), Some(negative_nan), None, Some(-1.5)]));
        let bits = |array: &ArrayRef| {
            array.as_primitive::<Float64Type>().iter().map(|v| v.map(f64::to_bits)).collect::<Vec<_>>()
        };
        let expected = [Some(0), Some(f64::NAN.to_bits()), None, Some((-1.5_f64).to_bits())];
        assert_eq!(bits(&one_form(&values).unwrap()), expected);
        let list: ArrayRef = Arc::new(
            ListArray::try_new(
                Arc::new(datafusion::arrow::datatypes::Field::new_list_field(DataType::Float64, true)),
                datafusion::arrow::buffer::OffsetBuffer::new(vec![0, 3, 4].into()),
                Arc::clone(&values),
                None,
            )
            .unwrap(),
        );
        assert!(is_ambiguous(list.data_type()));
        assert_eq!(bits(one_form(&list).unwrap().as_list::<i32>().values()), expected);
        let record: ArrayRef = Arc::new(StructArray::from(vec![(
            Arc::new(datafusion::arrow::datatypes::Field::new("x", DataType::Float64, true)),
            values,
        )]));
        assert_eq!(bits(one_form(&record).unwrap().as_struct().column(0)), expected);
        assert!(!is_ambiguous(&DataType::Int64));
    }

    #[test]
    fn the_keys_of_a_map_get_their_order() {
        let mut maps = datafusion::arrow::array::MapBuilder::new(
            None,
            datafusion::arrow::array::StringBuilder::new(),
            datafusion::arrow::array::Int64Builder::new(),
        );
        for entries in [&[("b", 2), ("a", 1)][..], &[("a", 1), ("b", 2)]] {
            for (key, value) in entries {
                maps.keys().append_value(key);
                maps.values().append_value(*value);
            }
            maps.append(true).unwrap();
        }
        let maps: ArrayRef = Arc::new(maps.finish());
        let form = one_form(&maps).unwrap();
        assert_eq!(&form.slice(0, 1), &form.slice(1, 1));
    }
}
