//! The flows of a running job: each query with its state, and the state objects of its last snapshot.

use std::cell::Cell;
use std::collections::BTreeMap;

use datafusion::arrow::array::RecordBatch;

use crate::checkpoint::record::StateObject;
use crate::pipeline::job_plan::Flow;
use crate::pipeline::no_output::SinceOutput;
use crate::transform::{self, Ingested, Operator};

/// A flow that runs.
pub(super) struct RunningFlow {
    pub(super) operator: Operator,
    /// Objects of the last snapshot, by part of the state.
    pub(super) objects: BTreeMap<i64, StateObject>,
    /// What was seen when rows were written last.
    pub(super) since_output: Cell<SinceOutput>,
}

impl RunningFlow {
    /// A flow without state.
    pub(super) fn new(flow: &Flow) -> Self {
        Self { operator: flow.query.operator(), objects: BTreeMap::new(), since_output: Cell::default() }
    }

    /// Takes a batch of a source; `None` if the query does not read that source.
    pub(super) fn ingest(
        &mut self,
        flow: &Flow,
        source: usize,
        rows: &RecordBatch,
        watermark: Option<i64>,
        version: u64,
    ) -> Option<transform::Result<Ingested>> {
        let rows = flow.input(source, rows)?;
        Some(self.operator.ingest(source, &rows, watermark, version))
    }

    /// The batch that first put a row into a window that is open.
    pub(super) fn first_version(&self) -> Option<u64> {
        self.operator.parts().iter().map(|part| part.first_version).min()
    }

    /// No row of windows that begin before this time comes any more, once the watermark is here.
    pub(super) fn complete_until(&self, watermark: Option<i64>) -> Option<i64> {
        let oldest = self.operator.oldest_open();
        watermark.map(|watermark| oldest.map_or(watermark, |oldest| oldest.min(watermark)))
    }
}
