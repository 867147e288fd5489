//! Laws of `collect_set` and of `count(DISTINCT …)`.

use std::collections::BTreeSet;

use datafusion::arrow::array::{Float64Array, Int32Array, LargeStringArray, StringViewArray};
use proptest::prelude::*;

use super::*;

fn text(values: &[Option<String>], form: usize) -> ArrayRef {
    let values = values.iter().map(Option::as_deref);
    match form {
        0 => Arc::new(StringArray::from_iter(values)),
        1 => Arc::new(StringViewArray::from_iter(values)),
        _ => Arc::new(LargeStringArray::from_iter(values)),
    }
}

fn lists_of(array: &ArrayRef) -> Vec<Vec<String>> {
    let lists = array.as_list::<i32>();
    (0..lists.len())
        .map(|row| lists.value(row).as_string::<i32>().iter().map(|item| item.unwrap().to_owned()).collect())
        .collect()
}

type Row = (usize, Option<String>, Option<bool>);

fn model(rows: &[Row], groups: usize) -> Vec<Vec<String>> {
    let mut sets = vec![BTreeSet::new(); groups];
    for (group, value, passed) in rows {
        if let (Some(value), Some(true)) = (value, passed) {
            sets[*group].insert(value.clone());
        }
    }
    sets.into_iter().map(|set| set.into_iter().collect()).collect()
}

fn update(values: &mut Values, rows: &[Row], groups: usize, form: usize) {
    let array = text(&rows.iter().map(|row| row.1.clone()).collect::<Vec<_>>(), form);
    let filter: BooleanArray = rows.iter().map(|row| row.2).collect();
    let indices: Vec<usize> = rows.iter().map(|row| row.0).collect();
    values.update_batch(&[array], &indices, Some(&filter), groups).unwrap();
}

fn any_row() -> impl Strategy<Value = Row> {
    let value = prop::option::weighted(0.9, "[a-cé🦀]{0,2}|[a-b]{13,15}");
    (0_usize..5, value, prop::option::weighted(0.95, prop::bool::weighted(0.9)))
}

proptest! {
    /// Batches, forms of text, state that is merged, and groups that are emitted early: always the sets of the model.
    #[test]
    fn sets_are_sorted_distinct_and_complete(
        first in prop::collection::vec(any_row(), 0..60),
        second in prop::collection::vec(any_row(), 0..60),
        form in 0_usize..3,
        early in 0_usize..6,
    ) {
        let data_type = text(&[], form).data_type().clone();
        let mut values = Values::new(Answer::List, &data_type).unwrap();
        update(&mut values, &first, 5, form);

        let mut part = Values::new(Answer::List, &data_type).unwrap();
        update(&mut part, &second, 5, form);
        let state = part.state(EmitTo::All).unwrap();
        // A slice, as a snapshot of many rows is read back: its child has values of other rows too.
        let (head, tail) = (state[0].slice(0, 2), state[0].slice(2, 3));
        values.merge_batch(&[tail], &[2, 3, 4], 5).unwrap();
        values.merge_batch(&[head], &[0, 1], 5).unwrap();

        let both: Vec<Row> = first.iter().chain(&second).cloned().collect();
        let expected = model(&both, 5);
        let mut found = vec![];
        if early > 0 && early < 5 {
            found.extend(lists_of(&values.evaluate(EmitTo::First(early)).unwrap()));
        }
        let counted = values.sets.len();
        found.extend(lists_of(&values.evaluate(EmitTo::All).unwrap()));
        prop_assert_eq!(&found, &expected);
        prop_assert_eq!(counted, 5 - if early < 5 { early } else { 0 });

        let mut counts = Values::new(Answer::Count, &data_type).unwrap();
        update(&mut counts, &both, 5, form);
        let counts = counts.evaluate(EmitTo::All).unwrap();
        let counts = counts.as_primitive::<datafusion::arrow::datatypes::Int64Type>();
        prop_assert_eq!(counts.values().to_vec(), expected.iter().map(|set| set.len() as i64).collect::<Vec<_>>());
    }
}

#[test]
fn numbers_are_sorted_as_numbers() {
    let mut values = Values::new(Answer::List, &DataType::Int32).unwrap();
    let numbers: ArrayRef =
        Arc::new(Int32Array::from(vec![Some(10), Some(-3), None, Some(9), Some(10), Some(i32::MIN)]));
    values.update_batch(&[numbers], &[0; 6], None, 1).unwrap();
    let lists = values.evaluate(EmitTo::All).unwrap();
    let list = lists.as_list::<i32>().value(0);
    assert_eq!(list.as_primitive::<datafusion::arrow::datatypes::Int32Type>().values(), &[i32::MIN, -3, 9, 10]);
}

#[test]
fn doubles_have_one_not_a_number_at_the_end() {
    let mut values = Values::new(Answer::List, &DataType::Float64).unwrap();
    let numbers: ArrayRef = Arc::new(Float64Array::from(vec![f64::NAN, 2.5, f64::NAN, -1.0, f64::INFINITY]));
    values.update_batch(&[numbers], &[0; 5], None, 1).unwrap();
    let lists = values.evaluate(EmitTo::All).unwrap();
    let list = lists.as_list::<i32>().value(0);
    let list = list.as_primitive::<datafusion::arrow::datatypes::Float64Type>().values();
    assert_eq!((list.len(), &list[..3], list[3].is_nan()), (4, &[-1.0, 2.5, f64::INFINITY][..], true));
}

#[test]
fn a_group_without_values_has_an_empty_list_not_null() {
    let mut values = Values::new(Answer::List, &DataType::Utf8View).unwrap();
    values.update_batch(&[text(&[None, None], 1)], &[0, 1], None, 3).unwrap();
    let lists = values.evaluate(EmitTo::All).unwrap();
    assert_eq!((lists.len(), lists.null_count()), (3, 0));
    assert_eq!(lists_of(&lists), vec![Vec::<String>::new(); 3]);
}

#[test]
fn one_group_alone_can_be_asked_again_and_again() {
    let mut one = OneSet(Values::new(Answer::List, &DataType::Utf8).unwrap());
    assert_eq!(one.evaluate().unwrap().to_string(), "[]");
    one.update_batch(&[text(&[Some("b".into()), None, Some("a".into())], 0)]).unwrap();
    assert_eq!(one.evaluate().unwrap().to_string(), "[a, b]");
    let state: Vec<ArrayRef> = one.state().unwrap().iter().map(|value| value.to_array().unwrap()).collect();
    one.update_batch(&[text(&[Some("c".into())], 0)]).unwrap();
    assert_eq!(one.evaluate().unwrap().to_string(), "[a, b, c]");
    let mut other = OneSet(Values::new(Answer::List, &DataType::Utf8).unwrap());
    other.merge_batch(&state).unwrap();
    assert_eq!(other.evaluate().unwrap().to_string(), "[a, b]");
}

#[test]
fn memory_is_counted_and_given_back() {
    let mut values = Values::new(Answer::List, &DataType::Utf8).unwrap();
    let many: Vec<Option<String>> = (0..10_000).map(|number| Some(format!("value {number:06}"))).collect();
    let groups: Vec<usize> = (0..10_000).collect();
    values.update_batch(&[text(&many, 0)], &groups, None, 10_000).unwrap();
    let full = GroupsAccumulator::size(&values);
    assert!((10_000 * 20..10_000 * 120).contains(&full), "{full}");
    values.evaluate(EmitTo::All).unwrap();
    assert_eq!(GroupsAccumulator::size(&values), 0);
}
