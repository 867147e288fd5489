use datafusion::arrow::array::{Decimal128Array, Int64Array};
use proptest::prelude::*;

use super::*;

fn exact_groups<T: SumType>(data_type: &DataType) -> Box<dyn GroupsAccumulator>
where
    T::Native: Eq + Hash,
{
    groups::<T>(data_type)
}

proptest! {
    #[test]
    fn a_sum_is_right_or_an_error_however_its_rows_are_cut(
        rows in prop::collection::vec((0_usize..3, prop_oneof![any::<i64>().prop_map(Some), Just(Some(i64::MAX)), Just(Some(i64::MIN)), Just(None), (-5_i64..5).prop_map(Some)]), 0..40),
        cut in 0_usize..40,
    ) {
        let cut = cut.min(rows.len());
        let mut parts = Vec::new();
        for part in [&rows[..cut], &rows[cut..]] {
            let mut sums = exact_groups::<Int64Type>(&DataType::Int64);
            // A group is there because it had a row; here each begins with one without a value.
            let rows = || [(0, None), (1, None), (2, None)].into_iter().chain(part.iter().copied());
            let values: ArrayRef = Arc::new(rows().map(|row| row.1).collect::<Int64Array>());
            let of: Vec<usize> = rows().map(|row| row.0).collect();
            sums.update_batch(&[values], &of, None, 3).unwrap();
            parts.push(sums);
        }
        let mut whole = exact_groups::<Int64Type>(&DataType::Int64);
        for part in &mut parts {
            let state = part.state(EmitTo::All).unwrap();
            whole.merge_batch(&state, &[0, 1, 2], 3).unwrap();
        }
        let mut expected: Vec<Option<i128>> = vec![None; 3];
        for (group, value) in rows.iter().filter_map(|(group, value)| value.map(|value| (*group, value))) {
            *expected[group].get_or_insert(0) += i128::from(value);
        }
        let unfit: Vec<usize> = (0..3).filter(|group| expected[*group].is_some_and(|sum| i64::try_from(sum).is_err())).collect();
        let mut refused = Refused::new();
        let sums = crate::engine::refusing::evaluate(whole.as_mut(), EmitTo::All, &mut refused).unwrap();
        prop_assert_eq!(refused.into_iter().map(|(group, _)| group).collect::<Vec<_>>(), unfit);
        let expected: Int64Array = expected.iter().map(|sum| sum.and_then(|sum| i64::try_from(sum).ok())).collect();
        prop_assert_eq!(sums.as_primitive::<Int64Type>(), &expected);
    }
}

#[test]
fn a_sum_that_does_not_fit_is_an_error_that_names_its_type() {
    let mut sums = exact_groups::<Int64Type>(&DataType::Int64);
    let values: ArrayRef = Arc::new(Int64Array::from(vec![i64::MAX, 1]));
    sums.update_batch(std::slice::from_ref(&values), &[0, 0], None, 1).unwrap();
    assert!(sums.evaluate(EmitTo::All).unwrap_err().to_string().contains("sum does not fit BIGINT"));
    let mut sum = one::<Int64Type>(&DataType::Int64);
    sum.update_batch(std::slice::from_ref(&values)).unwrap();
    assert!(sum.evaluate().is_err());
    sum.retract_batch(&[values.slice(1, 1)]).unwrap();
    assert_eq!(sum.evaluate().unwrap(), ScalarValue::Int64(Some(i64::MAX)));
}

#[test]
fn a_decimal_of_38_digits_has_an_end_too() {
    let data_type = DataType::Decimal128(38, 0);
    let most = 10_i128.pow(38) - 1;
    for (values, fits) in
        [(vec![most, -most, most], true), (vec![most; 3], false), (vec![most, 1], false), (vec![-most, -1], false)]
    {
        let values: ArrayRef = Arc::new(Decimal128Array::from(values).with_data_type(data_type.clone()));
        let mut sums = exact_groups::<Decimal128Type>(&data_type);
        sums.update_batch(std::slice::from_ref(&values), &vec![0; values.len()], None, 1).unwrap();
        assert_eq!(sums.evaluate(EmitTo::All).is_ok(), fits);
        let mut sum = one::<Decimal128Type>(&data_type);
        sum.update_batch(&[values]).unwrap();
        assert_eq!(sum.evaluate().is_ok(), fits);
    }
}

#[test]
fn distinct_values_are_added_once_and_merge() {
    let mut sum = distinct::<Int64Type>(&DataType::Int64);
    sum.update_batch(&[Arc::new(Int64Array::from(vec![Some(2), Some(2), None, Some(3)]))]).unwrap();
    let mut other = distinct::<Int64Type>(&DataType::Int64);
    other.update_batch(&[Arc::new(Int64Array::from(vec![3, 4]))]).unwrap();
    let state = other.state().unwrap()[0].to_array().unwrap();
    sum.merge_batch(&[state]).unwrap();
    assert_eq!(sum.evaluate().unwrap(), ScalarValue::Int64(Some(9)));
}
