//! Late records among the dead letters (`lateRows: {action: deadLetter}`).
//!
//! Whether a record is late is known behind the query, and there its bytes are gone. So the reader keeps the records that
//! could be late, by their event time, and hands them on with their rows; those that a query found late become dead letters.

use std::collections::BTreeSet;

use datafusion::arrow::array::{AsArray, BooleanArray, RecordBatch};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::{Int32Type, Int64Type};

use crate::pipeline::error::{JobError, Reason};
use crate::pipeline::streaming::batch::{BatchPlan, Writers};
use crate::pipeline::streaming::records::Records;
use crate::pipeline::streaming::start::Session;

/// Records that some query found late, by topic, partition and offset.
#[derive(Debug, Default)]
pub(super) struct LateRecords(BTreeSet<(String, i32, i64)>);

impl LateRecords {
    pub(super) fn note(&mut self, late: Option<&RecordBatch>) -> Result<(), JobError> {
        let Some(late) = late else { return Ok(()) };
        let records = Records::of(late)?;
        for row in 0..late.num_rows() {
            let (topic, partition, offset) = records.at(row);
            self.0.insert((topic.to_owned(), partition, offset));
        }
        Ok(())
    }

    /// Those of the letters that are of such a record.
    fn of(&self, letters: &RecordBatch) -> Result<RecordBatch, JobError> {
        let topics = letters["topic"].as_string::<i32>();
        let partitions = letters["partition"].as_primitive::<Int32Type>().values();
        let offsets = letters["offset"].as_primitive::<Int64Type>().values();
        let is_late = |row: usize| self.0.contains(&(topics.value(row).to_owned(), partitions[row], offsets[row]));
        let late: BooleanArray = (0..letters.num_rows()).map(|row| Some(is_late(row))).collect();
        filter_record_batch(letters, &late).map_err(|error| {
            let problem = format!("cannot keep late records: {error}");
            JobError::passing(Reason::InternalError, problem, "report this")
        })
    }
}

impl Session<'_> {
    /// By source: only records before this event time can be late for some query. Empty if nobody wants them.
    pub(super) fn old_before(&self) -> Vec<i64> {
        let Some(watermark) = self.log.state().watermark.filter(|_| self.settings.keep_late) else { return Vec::new() };
        let of_source = |source: usize| {
            let before = self.reading(source).filter_map(|running| running.operator.may_be_late_before(watermark));
            before.max().unwrap_or(i64::MIN)
        };
        (0..self.settings.sources.len()).map(of_source).collect()
    }

    /// Keeps the records that some query found late, each once.
    pub(super) async fn keep_late(
        &mut self,
        plan: &BatchPlan,
        source: usize,
        (old, late): (&RecordBatch, &LateRecords),
        writers: &mut Writers,
    ) -> Result<(), JobError> {
        let letters = late.of(old)?;
        if letters.num_rows() == 0 {
            return Ok(());
        }
        *writers.late_kept.entry(source).or_default() += letters.num_rows() as u64;
        self.dead_letters(plan, &letters, writers).await
    }
}
