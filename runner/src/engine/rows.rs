//! A compiled plan as one stream of rows: every partition is computed, and a panic is an error.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::Result;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::Stream;

use super::panics::caught;

/// Begins to compute a plan. Partitions run beside each other, as tasks of the runtime in which this is called, and
/// wait while nobody takes their rows.
pub(crate) fn execute(plan: Arc<dyn ExecutionPlan>, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
    let rows = execute_stream(plan, context)?;
    Ok(Box::pin(Caught { schema: rows.schema(), rows: Some(rows) }))
}

/// Rows until the first error or panic.
struct Caught {
    schema: SchemaRef,
    rows: Option<SendableRecordBatchStream>,
}

impl Stream for Caught {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(rows) = &mut self.rows else { return Poll::Ready(None) };
        let polled = caught("the query", || Ok(rows.as_mut().poll_next(context)));
        let polled = polled.unwrap_or_else(|panicked| Poll::Ready(Some(Err(panicked))));
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.rows = None;
        }
        polled
    }
}

impl RecordBatchStream for Caught {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}
