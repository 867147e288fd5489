//! Which rows of a batch an expression refuses: where a batch fails it is evaluated again by halves, down to single rows.
//!
//! Pure. A batch that does not fail is evaluated once. Whether a row is refused depends on that row alone, and so not on how
//! the stream was cut: an engine that evaluates a whole column may fail on a row that `CASE` or `AND` would have spared.

use datafusion::arrow::array::RecordBatch;

use super::error::Result;

/// A row that an expression refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedRow {
    /// Its place in the batch.
    pub row: usize,
    /// What the expression says. It may have values of the row in it.
    pub why: String,
}

/// What a computation gives for the rows of a batch, in their order, but for those that it refuses.
pub(super) fn by_halves<T>(
    rows: &RecordBatch,
    compute: &mut dyn FnMut(&RecordBatch) -> Result<T>,
    refused: &mut Vec<RefusedRow>,
) -> Result<Vec<T>> {
    let mut given = Vec::new();
    part(rows, 0, compute, (&mut given, refused))?;
    Ok(given)
}

fn part<T>(
    rows: &RecordBatch,
    first: usize,
    compute: &mut dyn FnMut(&RecordBatch) -> Result<T>,
    (given, refused): (&mut Vec<T>, &mut Vec<RefusedRow>),
) -> Result<()> {
    let error = match compute(rows) {
        Ok(computed) => {
            given.push(computed);
            return Ok(());
        }
        Err(error) => error,
    };
    let (half, rest) = (rows.num_rows() / 2, rows.num_rows() - rows.num_rows() / 2);
    match error.of_a_value() {
        Some(why) if rows.num_rows() == 1 => refused.push(RefusedRow { row: first, why }),
        Some(_) if half > 0 => {
            part(&rows.slice(0, half), first, compute, (given, refused))?;
            part(&rows.slice(half, rest), first + half, compute, (given, refused))?;
        }
        _ => return Err(error),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array};
    use datafusion::arrow::datatypes::Int64Type;
    use datafusion::error::DataFusionError;
    use proptest::prelude::*;

    use super::super::error::Error;
    use super::*;

    fn batch(values: &[i64]) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
        RecordBatch::try_from_iter([("v", column)]).unwrap()
    }

    /// Takes every value but negative ones.
    fn values(rows: &RecordBatch) -> Result<Vec<i64>> {
        let values = rows.column(0).as_primitive::<Int64Type>().values().to_vec();
        if values.iter().any(|value| *value < 0) {
            return Err(Error::in_part("rows")(DataFusionError::Execution("negative".to_owned())));
        }
        Ok(values)
    }

    proptest! {
        #[test]
        fn every_row_is_given_or_refused_and_none_depends_on_others(of in prop::collection::vec(-2_i64..20, 0..200)) {
            let mut refused = Vec::new();
            let given = by_halves(&batch(&of), &mut values, &mut refused).unwrap().concat();
            prop_assert_eq!(given, of.iter().copied().filter(|value| *value >= 0).collect::<Vec<_>>());
            let rows: Vec<usize> = refused.iter().map(|refused| refused.row).collect();
            prop_assert_eq!(rows, (0..of.len()).filter(|row| of[*row] < 0).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_batch_that_does_not_fail_is_computed_once_and_an_error_that_is_of_no_value_ends_it() {
        let mut times = 0;
        let mut count = |rows: &RecordBatch| {
            times += 1;
            values(rows)
        };
        by_halves(&batch(&[1, 2, 3]), &mut count, &mut Vec::new()).unwrap();
        assert_eq!(times, 1);
        let mut broken = |_: &RecordBatch| -> Result<()> {
            Err(Error::in_part("rows")(DataFusionError::ResourcesExhausted("memory".to_owned())))
        };
        assert!(by_halves(&batch(&[1, 2]), &mut broken, &mut Vec::new()).is_err());
        let mut empty = |_: &RecordBatch| -> Result<()> {
            Err(Error::in_part("rows")(DataFusionError::Execution("of no row".to_owned())))
        };
        assert!(by_halves(&batch(&[]), &mut empty, &mut Vec::new()).is_err());
    }
}
