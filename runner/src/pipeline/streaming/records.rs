//! Which records rows came of, where the engine carries it along.
//!
//! Pure.

use datafusion::arrow::array::{AsArray, RecordBatch, StringViewArray};
use datafusion::arrow::datatypes::{Int32Type, Int64Type};

use crate::pipeline::error::{JobError, Reason};
use crate::source::record::IDENTITY_COLUMNS;

/// The records that rows came of.
pub(super) struct Records<'a> {
    topics: &'a StringViewArray,
    partitions: &'a [i32],
    offsets: &'a [i64],
}

impl<'a> Records<'a> {
    /// Of rows that carry it.
    ///
    /// # Errors
    /// When they do not, which is a fault of the program.
    pub(super) fn of(rows: &'a RecordBatch) -> Result<Self, JobError> {
        let [topic, partition, offset] = IDENTITY_COLUMNS.map(|name| rows.column_by_name(name));
        let topics = topic.and_then(|column| column.as_string_view_opt());
        let partitions = partition.and_then(|column| column.as_primitive_opt::<Int32Type>());
        let offsets = offset.and_then(|column| column.as_primitive_opt::<Int64Type>());
        let (Some(topics), Some(partitions), Some(offsets)) = (topics, partitions, offsets) else {
            let problem = "rows do not say which records they came of";
            return Err(JobError::passing(Reason::InternalError, problem, "report this"));
        };
        Ok(Self { topics, partitions: partitions.values(), offsets: offsets.values() })
    }

    /// Topic, partition and offset.
    pub(super) fn at(&self, row: usize) -> (&'a str, i32, i64) {
        (self.topics.value(row), self.partitions[row], self.offsets[row])
    }
}
