//! One type for each column of a table, from those that its files have. Pure.
//!
//! Types are those of Parquet: what writers note beside them (a dictionary, a long text, a zone) does not count. A column
//! that comes later is null in older files; a type widens where every value stays what it is; all else contradicts.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};

/// Columns in the order in which they were first seen, each with the file that last changed its type.
#[derive(Debug, Default)]
pub(super) struct Columns(Vec<(Field, String)>);

/// Two files that contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the column {column} is {first} in {first_file} and {second} in {second_file}: write the files of one table with one \
     type, or move one of them away"
)]
pub(super) struct Contradiction {
    column: String,
    first: DataType,
    first_file: String,
    second: DataType,
    second_file: String,
}

impl Columns {
    /// Adds a column of a file.
    ///
    /// # Errors
    /// Another file has it with a type that does not go together with this one.
    pub(super) fn add(&mut self, field: &Field, file: &str) -> Result<(), Contradiction> {
        let found = normal(field.data_type());
        let Some((known, known_file)) = self.0.iter_mut().find(|(known, _)| known.name() == field.name()) else {
            self.0.push((Field::new(field.name(), found, true), file.to_owned()));
            return Ok(());
        };
        if *known.data_type() == found {
            return Ok(());
        }
        let Some(merged) = merged(known.data_type(), &found) else {
            return Err(Contradiction {
                column: field.name().clone(),
                first: known.data_type().clone(),
                first_file: known_file.clone(),
                second: found,
                second_file: file.to_owned(),
            });
        };
        if merged != *known.data_type() {
            *known = Field::new(field.name(), merged, true);
            file.clone_into(known_file);
        }
        Ok(())
    }

    /// All columns; each may be null.
    pub(super) fn into_fields(self) -> Vec<Field> {
        self.0.into_iter().map(|(field, _)| field).collect()
    }
}

/// The type without what differs between writers of the same Parquet type: names of list items, and what may be null.
fn normal(data_type: &DataType) -> DataType {
    match data_type {
        DataType::List(item) => DataType::List(Arc::new(Field::new_list_field(normal(item.data_type()), true))),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(normal_field).collect()),
        DataType::Map(entries, sorted) => {
            let DataType::Struct(fields) = entries.data_type() else { return data_type.clone() };
            let [key, value] = &fields[..] else { return data_type.clone() };
            let key = Field::new("key", normal(key.data_type()), false);
            let value = Field::new("value", normal(value.data_type()), true);
            let entries = DataType::Struct(Fields::from(vec![key, value]));
            DataType::Map(Arc::new(Field::new("entries", entries, false)), *sorted)
        }
        other => other.clone(),
    }
}

fn normal_field(field: &FieldRef) -> FieldRef {
    Arc::new(Field::new(field.name(), normal(field.data_type()), true))
}

/// The type that holds every value of both. `None`: there is none.
fn merged(first: &DataType, second: &DataType) -> Option<DataType> {
    use DataType::{
        Float16, Float32, Float64, Int8, Int16, Int32, Int64, List, Null, Struct, Timestamp, UInt8, UInt16, UInt32,
        UInt64,
    };
    /// Each holds every value of those before it.
    const WIDENING: [&[DataType]; 3] =
        [&[Int8, Int16, Int32, Int64], &[UInt8, UInt16, UInt32, UInt64], &[Float16, Float32, Float64]];
    if first == second {
        return Some(first.clone());
    }
    match (first, second) {
        (Null, other) | (other, Null) => Some(other.clone()),
        (Timestamp(first, first_zone), Timestamp(second, second_zone)) if first_zone == second_zone => {
            // Nanoseconds reach only from 1677 to 2262: what is microseconds elsewhere may not fit.
            let is_coarse = |unit: &TimeUnit| *unit != TimeUnit::Nanosecond;
            (is_coarse(first) && is_coarse(second)).then(|| Timestamp((*first).max(*second), first_zone.clone()))
        }
        (List(first), List(second)) => {
            let item = merged(first.data_type(), second.data_type())?;
            Some(List(Arc::new(Field::new_list_field(item, true))))
        }
        (Struct(first), Struct(second)) => {
            let mut fields: Vec<FieldRef> = first.iter().cloned().collect();
            for field in second {
                match fields.iter_mut().find(|known| known.name() == field.name()) {
                    Some(known) => {
                        let data_type = merged(known.data_type(), field.data_type())?;
                        *known = Arc::new(Field::new(field.name(), data_type, true));
                    }
                    None => fields.push(Arc::clone(field)),
                }
            }
            Some(Struct(fields.into()))
        }
        _ => WIDENING.into_iter().find_map(|types| {
            let place = |data_type: &DataType| types.iter().position(|known| known == data_type);
            Some(types[place(first)?.max(place(second)?)].clone())
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn time(unit: TimeUnit, zone: Option<&str>) -> DataType {
        DataType::Timestamp(unit, zone.map(Into::into))
    }

    fn structure(fields: &[(&str, DataType)]) -> DataType {
        DataType::Struct(fields.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true)).collect())
    }

    fn list(item: &str, data_type: DataType) -> DataType {
        DataType::List(Arc::new(Field::new(item, data_type, false)))
    }

    fn of_two(first: &DataType, second: &DataType) -> Result<DataType, String> {
        let mut columns = Columns::default();
        for (data_type, file) in [(first, "a"), (second, "b")] {
            columns.add(&Field::new("v", data_type.clone(), false), file).map_err(|error| error.to_string())?;
        }
        let fields = columns.into_fields();
        assert!(fields.len() == 1 && fields[0].is_nullable());
        Ok(fields[0].data_type().clone())
    }

    #[test]
    fn a_type_widens_where_every_value_stays_what_it_is() {
        use DataType::{Float32, Float64, Int8, Int32, Int64, Null, UInt16, UInt64, Utf8};
        use TimeUnit::{Microsecond, Millisecond};
        for (first, second, expected) in [
            (Int32, Int64, Int64),
            (Int8, Int32, Int32),
            (UInt16, UInt64, UInt64),
            (Float32, Float64, Float64),
            (Null, Utf8, Utf8),
            (time(Millisecond, Some("UTC")), time(Microsecond, Some("UTC")), time(Microsecond, Some("UTC"))),
            (list("element", Int32), list("item", Int64), DataType::List(Field::new_list_field(Int64, true).into())),
            (
                structure(&[("a", Int32)]),
                structure(&[("b", Utf8), ("a", Int64)]),
                structure(&[("a", Int64), ("b", Utf8)]),
            ),
        ] {
            assert_eq!(of_two(&first, &second), Ok(expected), "{first} {second}");
        }
    }

    #[test]
    fn what_contradicts_names_the_column_and_both_files() {
        use DataType::{Boolean, Date32, Decimal128, Float64, Int32, Int64, UInt32, Utf8};
        use TimeUnit::{Microsecond, Nanosecond};
        for (first, second) in [
            (Int64, Float64),
            (Int64, Utf8),
            (Int32, UInt32),
            (Boolean, Int32),
            (Date32, Utf8),
            (Decimal128(10, 2), Decimal128(12, 2)),
            (time(Microsecond, None), time(Microsecond, Some("UTC"))),
            (time(Microsecond, Some("UTC")), time(Nanosecond, Some("UTC"))),
            (list("item", Int64), Int64),
            (structure(&[("a", Int64)]), structure(&[("a", Utf8)])),
        ] {
            for (first, second) in [(&first, &second), (&second, &first)] {
                let error = of_two(first, second).unwrap_err();
                let expected = format!("the column v is {first} in a and {second} in b: ");
                assert!(
                    error.starts_with(&expected)
                        || matches!(first, DataType::List(_) | DataType::Struct(_))
                        || matches!(second, DataType::List(_) | DataType::Struct(_)),
                    "{error}"
                );
                assert!(error.contains("the column v is ") && error.contains(" in a and "), "{error}");
            }
        }
    }

    fn any_type() -> impl Strategy<Value = DataType> {
        let leaf = prop::sample::select(vec![
            DataType::Null,
            DataType::Int8,
            DataType::Int32,
            DataType::Int64,
            DataType::UInt32,
            DataType::Float32,
            DataType::Float64,
            DataType::Utf8,
            DataType::Date32,
            time(TimeUnit::Millisecond, Some("UTC")),
            time(TimeUnit::Microsecond, Some("UTC")),
            time(TimeUnit::Microsecond, None),
        ]);
        leaf.prop_recursive(3, 12, 3, |inner| {
            let fields = prop::collection::btree_map("[abc]", inner.clone(), 1..3);
            let fields = fields.prop_map(|fields| {
                DataType::Struct(
                    fields.into_iter().map(|(name, data_type)| Field::new(name, data_type, true)).collect(),
                )
            });
            prop_oneof![inner.prop_map(|item| list("element", item)), fields]
        })
    }

    proptest! {
        #[test]
        fn the_order_of_files_decides_only_the_order_of_fields(first in any_type(), second in any_type()) {
            fn sorted(data_type: &DataType) -> DataType {
                match data_type {
                    DataType::List(item) => DataType::List(Field::new_list_field(sorted(item.data_type()), true).into()),
                    DataType::Struct(fields) => {
                        let mut fields: Vec<_> = fields.iter().map(|field| (field.name(), sorted(field.data_type()))).collect();
                        fields.sort_by(|a, b| a.0.cmp(b.0));
                        DataType::Struct(fields.into_iter().map(|(name, data_type)| Field::new(name, data_type, true)).collect())
                    }
                    other => other.clone(),
                }
            }
            let (there, back) = (of_two(&first, &second), of_two(&second, &first));
            prop_assert_eq!(there.is_ok(), back.is_ok());
            if let (Ok(there), Ok(back)) = (there, back) {
                prop_assert_eq!(sorted(&there), sorted(&back));
                // It holds all of either.
                prop_assert_eq!(of_two(&there, &first), Ok(there.clone()));
                prop_assert_eq!(of_two(&there, &second), Ok(there));
            }
        }
    }
}
