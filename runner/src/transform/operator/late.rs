//! Rows that came after their windows were closed, and the records that they were made of.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, RecordBatch, StringViewArray,
};
use datafusion::arrow::compute::{concat_batches, filter_record_batch, not};
use datafusion::arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, TimestampMicrosecondType};
use datafusion::error::Result as DataFusionResult;

use super::Windowed;
use crate::source::record::IDENTITY_COLUMNS;
use crate::transform::error::{Error, Result};

/// Which rows of a batch are late.
#[derive(Clone, Debug, Default)]
pub(super) struct Late {
    /// Rows of which all windows are closed.
    pub(super) all: u64,
    /// Rows of which some are.
    pub(super) some: u64,
    /// Which rows the former are; `None` if there is none.
    pub(super) rows: Option<BooleanArray>,
}

/// Records of which every row came too late for its session.
#[derive(Default)]
pub(super) struct LateRecords {
    /// Records that are one row each.
    pub(super) records: u64,
    /// Of the others, by topic, partition and offset: whether all rows so far were late.
    by_record: BTreeMap<(String, i32, i64), bool>,
}

impl LateRecords {
    pub(super) fn note_rows(&mut self, rows: &RecordBatch, identity: &[usize], late: Option<&BooleanArray>) {
        let [topic, partition, offset] = identity else { return };
        let topics = rows.column(*topic).as_string_view();
        let partitions = rows.column(*partition).as_primitive::<Int32Type>();
        let offsets = rows.column(*offset).as_primitive::<Int64Type>();
        for row in 0..rows.num_rows() {
            let record = (topics.value(row).to_owned(), partitions.value(row), offsets.value(row));
            let is_late = late.is_some_and(|late| late.value(row));
            *self.by_record.entry(record).or_insert(true) &= is_late;
        }
    }

    /// Topic, partition and offset of those that are known.
    pub(super) fn batch(&self) -> DataFusionResult<RecordBatch> {
        let late = || self.by_record.iter().filter(|(_, all_late)| **all_late).map(|(record, _)| record);
        let columns: [ArrayRef; 3] = [
            Arc::new(StringViewArray::from_iter_values(late().map(|(topic, ..)| topic))),
            Arc::new(Int32Array::from_iter_values(late().map(|(_, partition, _)| *partition))),
            Arc::new(Int64Array::from_iter_values(late().map(|(.., offset)| *offset))),
        ];
        let types = [DataType::Utf8View, DataType::Int32, DataType::Int64];
        let fields = IDENTITY_COLUMNS.into_iter().zip(types).map(|(name, kind)| Field::new(name, kind, false));
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), columns.to_vec())?)
    }

    pub(super) fn count(&self) -> u64 {
        self.records + self.by_record.values().filter(|all_late| **all_late).count() as u64
    }
}

impl Windowed {
    /// Tells which rows are late.
    pub(super) fn late(&self, rows: &RecordBatch, event_time: usize, watermark: Option<i64>) -> Result<Late> {
        let times = rows.column(event_time).as_primitive::<TimestampMicrosecondType>();
        if let Some(nulls) = times.nulls().filter(|nulls| nulls.null_count() > 0) {
            let row = (0..times.len()).find(|row| nulls.is_null(*row)).unwrap_or_default();
            return Err(Error::NullEventTime { row });
        }
        let Some(before) = watermark.and_then(|watermark| self.spec.late_before(watermark)) else {
            return Ok(Late::default());
        };
        let least = times.values().iter().min();
        if least.is_none_or(|least| *least >= before.some) {
            return Ok(Late::default());
        }
        let count = |before: i64| times.values().iter().filter(|time| **time < before).count() as u64;
        let (all, some) = (count(before.all), count(before.some) - count(before.all));
        let late = || times.values().iter().map(|time| Some(*time < before.all)).collect();
        Ok(Late { all, some, rows: (all > 0).then(late) })
    }
}

/// The rows of both.
pub(super) fn both(one: Option<RecordBatch>, other: Option<RecordBatch>) -> DataFusionResult<Option<RecordBatch>> {
    Ok(match (one, other) {
        (Some(one), Some(other)) => Some(concat_batches(&one.schema(), [&one, &other])?),
        (one, other) => one.or(other),
    })
}

/// Rows without the late ones and without the identity of their records; and that of the late ones, if it is there.
pub(super) fn without_late(
    rows: RecordBatch,
    late: Option<&BooleanArray>,
    identity: Option<usize>,
) -> DataFusionResult<(RecordBatch, Option<RecordBatch>)> {
    let late_records = match (identity, late) {
        (Some(identity), Some(late)) => {
            let columns: Vec<usize> = (identity..rows.num_columns()).collect();
            Some(filter_record_batch(&rows.project(&columns)?, late)?)
        }
        _ => None,
    };
    let rows = match identity {
        Some(identity) => rows.project(&(0..identity).collect::<Vec<_>>())?,
        None => rows,
    };
    let rows = match late {
        Some(late) => filter_record_batch(&rows, &not(late)?)?,
        None => rows,
    };
    Ok((rows, late_records))
}
