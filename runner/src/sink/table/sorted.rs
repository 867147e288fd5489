//! Rows of one file that are held until it ends, and are then given in order: ascending, nulls first, and as they came where
//! the columns say nothing.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use datafusion::arrow::compute::{SortColumn, SortOptions, concat, interleave_record_batch, lexsort_to_indices};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::parquet::file::metadata::SortingColumn;

/// Bytes of rows that one file may hold; a file with more would take too much memory, and ends.
pub(super) const HELD_BYTES_MAX: usize = 48 << 20;
/// Rows that are given at once.
const BATCH_ROWS: usize = 8_192;
const ORDER: SortOptions = SortOptions { descending: false, nulls_first: true };

/// Whether rows of these columns can be sorted so.
///
/// # Errors
/// Why not.
pub(super) fn check(by: &[String], columns: &SchemaRef) -> Result<(), String> {
    for name in by {
        let Ok(field) = columns.field_with_name(name) else {
            let known: Vec<_> = columns.fields().iter().map(|field| field.name().as_str()).collect();
            return Err(format!("files have no column {name:?} to sort by: they have {}", known.join(", ")));
        };
        if field.data_type().is_nested() || matches!(field.data_type(), DataType::Null) {
            return Err(format!("the column {name:?} ({}) has no order to sort by", field.data_type()));
        }
    }
    Ok(())
}

/// What a Parquet file says of its order: columns by their place among its leaves.
pub(super) fn sorting_columns(by: &[String], columns: &SchemaRef) -> Vec<SortingColumn> {
    let place = |name: &String| {
        let before = columns.fields().iter().take_while(|field| field.name() != name);
        i32::try_from(before.map(|field| leaves(field.data_type())).sum::<usize>()).unwrap_or(i32::MAX)
    };
    by.iter().map(|name| SortingColumn { column_idx: place(name), descending: false, nulls_first: true }).collect()
}

fn leaves(data_type: &DataType) -> usize {
    match data_type {
        DataType::Struct(fields) => fields.iter().map(|field| leaves(field.data_type())).sum(),
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => leaves(field.data_type()),
        _ => 1,
    }
}

/// Rows that are held.
pub(super) struct Held {
    /// Places of the columns that say the order.
    by: Vec<usize>,
    batches: Vec<RecordBatch>,
    bytes: usize,
}

impl Held {
    pub(super) fn new(by: &[String], columns: &SchemaRef) -> Result<Self, ArrowError> {
        let by = by.iter().map(|name| columns.index_of(name)).collect::<Result<_, _>>()?;
        Ok(Self { by, batches: Vec::new(), bytes: 0 })
    }

    pub(super) fn push(&mut self, rows: &RecordBatch) {
        let size = |column: &ArrayRef| {
            column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size())
        };
        self.bytes += rows.columns().iter().map(size).sum::<usize>();
        self.batches.push(rows.clone());
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives the rows in order, in batches, and holds none any more.
    pub(super) fn take(&mut self, mut give: impl FnMut(&RecordBatch) -> Result<(), String>) -> Result<(), String> {
        let batches = std::mem::take(&mut self.batches);
        self.bytes = 0;
        let sorted = || -> Result<Vec<(usize, usize)>, ArrowError> {
            let mut keys = Vec::with_capacity(self.by.len() + 1);
            for column in &self.by {
                let parts: Vec<&dyn Array> = batches.iter().map(|rows| rows.column(*column).as_ref()).collect();
                keys.push(SortColumn { values: concat(&parts)?, options: Some(ORDER) });
            }
            let rows = batches.iter().map(RecordBatch::num_rows).sum::<usize>();
            let rows = u32::try_from(rows).map_err(|_| ArrowError::ComputeError("too many rows".to_owned()))?;
            // Rows that are equal stay as they came.
            keys.push(SortColumn { values: Arc::new(UInt32Array::from_iter_values(0..rows)), options: None });
            let places: Vec<_> = batches
                .iter()
                .enumerate()
                .flat_map(|(batch, rows)| (0..rows.num_rows()).map(move |row| (batch, row)))
                .collect();
            let order = lexsort_to_indices(&keys, None)?;
            Ok(order.values().iter().filter_map(|place| places.get(*place as usize).copied()).collect())
        };
        if batches.is_empty() {
            return Ok(());
        }
        let order = sorted().map_err(|error| error.to_string())?;
        let batches: Vec<_> = batches.iter().collect();
        for places in order.chunks(BATCH_ROWS) {
            let rows = interleave_record_batch(&batches, places).map_err(|error| error.to_string())?;
            give(&rows)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{AsArray, Int64Array, ListArray, StringArray};
    use datafusion::arrow::datatypes::{Field, Int32Type, Int64Type, Schema};

    use super::*;

    fn rows(names: &[Option<&str>], first: i64) -> RecordBatch {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(first..first + names.len() as i64));
        let names: ArrayRef = Arc::new(StringArray::from(names.to_vec()));
        RecordBatch::try_from_iter_with_nullable([("n", numbers, true), ("name", names, true)]).unwrap()
    }

    #[test]
    fn rows_come_in_order_nulls_first_and_equal_ones_as_they_came() {
        let first = rows(&[Some("b"), None, Some("a")], 0);
        let mut held = Held::new(&["name".to_owned()], &first.schema()).unwrap();
        held.push(&first);
        held.push(&rows(&[Some("a"), Some("b"), None], 3).slice(0, 2));
        assert!(held.bytes() > 0);
        let mut found = Vec::new();
        held.take(|rows| {
            found.extend(rows.column(0).as_primitive::<Int64Type>().values().to_vec());
            Ok(())
        })
        .unwrap();
        assert_eq!((found, held.bytes()), (vec![1, 2, 3, 0, 4], 0));
        held.take(|_| Err("there are none".to_owned())).unwrap();
    }

    #[test]
    fn columns_are_named_by_their_leaves_and_checked() {
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1)])]);
        let pair = DataType::Struct(
            vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Int64, true)].into(),
        );
        let columns: SchemaRef = Arc::new(Schema::new(vec![
            Field::new("pair", pair, true),
            Field::new("list", list.data_type().clone(), true),
            Field::new("n", DataType::Int64, true),
        ]));
        let places = sorting_columns(&["n".to_owned()], &columns);
        assert_eq!(places, [SortingColumn { column_idx: 3, descending: false, nulls_first: true }]);
        assert_eq!(check(&["n".to_owned()], &columns), Ok(()));
        assert!(check(&["x".to_owned()], &columns).unwrap_err().contains("no column \"x\""));
        assert!(check(&["list".to_owned()], &columns).unwrap_err().contains("has no order"));
    }
}
