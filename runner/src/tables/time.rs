//! Rows of a time: which directories may hold them, and the condition that chooses them.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Schema, TimeUnit};
use datafusion::common::{ScalarValue, exec_err};
use datafusion::error::Result;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, col, lit};

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;

/// Rows of a time: `start <= column < end`, in microseconds since 1970 UTC. The column is a timestamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TimeRange {
    pub(crate) column: String,
    pub(crate) start: i64,
    pub(crate) end: i64,
    /// The only directory to choose dates by; without one every directory that the table says to be the date of the column.
    pub(crate) date_column: Option<String>,
}

impl TimeRange {
    /// Whether a directory column that holds the UTC date of the time may rule out folders.
    pub(super) fn may_prune_by(&self, date: &str) -> bool {
        self.date_column.as_deref().is_none_or(|only| only == date)
    }

    /// Whether such rows may have this UTC date.
    pub(super) fn may_be_on(&self, date: Option<&str>) -> bool {
        // What is no date is read: it is not for us to say what it means.
        let Some(date) = date.and_then(|value| value.parse::<chrono::NaiveDate>().ok()) else { return true };
        let day = |micros: i64| chrono::DateTime::from_timestamp_micros(micros).map(|time| time.date_naive());
        let (first, last) = (day(self.start), day(self.end - 1));
        first.is_none_or(|first| date >= first) && last.is_none_or(|last| date <= last)
    }

    /// Files and their directories are of whole days, mostly: of such a one it takes few rows.
    pub(super) fn is_part_of_a_day(&self) -> bool {
        self.end.saturating_sub(self.start) < DAY
    }

    /// The condition over rows of a schema; a time without a zone is UTC.
    pub(super) fn condition(&self, schema: &Schema) -> Result<Arc<dyn PhysicalExpr>> {
        let data_type = schema.field_with_name(&self.column)?.data_type().clone();
        let compare = |operator: Operator, micros: i64| -> Result<Arc<dyn PhysicalExpr>> {
            let bound = lit(bound(&data_type, micros));
            Ok(Arc::new(BinaryExpr::new(col(&self.column, schema)?, operator, bound)))
        };
        let (from, to) = (compare(Operator::GtEq, self.start)?, compare(Operator::Lt, self.end)?);
        Ok(Arc::new(BinaryExpr::new(from, Operator::And, to)))
    }
}

/// Checks that a column is there and a time.
///
/// # Errors
/// What the table has instead.
pub(crate) fn check_time_column(place: &dyn std::fmt::Display, schema: &Schema, column: &str) -> Result<()> {
    let Ok(field) = schema.field_with_name(column) else {
        let columns = schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ");
        return exec_err!("{place} has no column {column}; it has {columns}");
    };
    if !matches!(field.data_type(), DataType::Timestamp(..)) {
        return exec_err!("the column {column} is of type {}, not a timestamp", field.data_type());
    }
    Ok(())
}

/// A bound in the unit of the column. Intervals begin with whole seconds; what nanoseconds cannot say is beyond all of them.
fn bound(data_type: &DataType, micros: i64) -> ScalarValue {
    let DataType::Timestamp(unit, zone) = data_type else { return ScalarValue::Null };
    let zone = zone.clone();
    match unit {
        TimeUnit::Second => ScalarValue::TimestampSecond(Some(micros.div_euclid(1_000_000)), zone),
        TimeUnit::Millisecond => ScalarValue::TimestampMillisecond(Some(micros.div_euclid(1_000)), zone),
        TimeUnit::Microsecond => ScalarValue::TimestampMicrosecond(Some(micros), zone),
        TimeUnit::Nanosecond => ScalarValue::TimestampNanosecond(Some(micros.saturating_mul(1_000)), zone),
    }
}
