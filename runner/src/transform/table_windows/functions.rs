//! What computes the windows of rows of a table: the windows of a hop, and the edges of a session.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, ListArray, TimestampMicrosecondArray};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, TimestampMicrosecondType};
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{
    ColumnarValue, PartitionEvaluator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, WindowUDF,
    WindowUDFImpl,
};

use crate::transform::window::{Edge, UTC, timestamp_type};
use crate::transform::windows::{Grid as _, Hop, Session};

/// The starts of all windows that a time lies in, as a list.
pub(super) fn starts_of(window: Hop) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(StartsOf { window, signature: Signature::any(1, Volatility::Immutable) }))
}

/// The end of a window of this length, by its start.
pub(super) fn end_of(size: i64) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(EndOf { size, signature: Signature::any(1, Volatility::Immutable) }))
}

/// An edge of the session of each row of a key, in the order of their times.
pub(super) fn session_edge(session: Session, edge: Edge) -> Arc<WindowUDF> {
    let signature = Signature::any(1, Volatility::Immutable);
    Arc::new(WindowUDF::new_from_impl(SessionEdge { session, edge, signature }))
}

fn item() -> FieldRef {
    Arc::new(Field::new_list_field(timestamp_type(), true))
}

fn timestamps(values: Vec<i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(values).with_timezone(UTC))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct StartsOf {
    window: Hop,
    signature: Signature,
}

impl ScalarUDFImpl for StartsOf {
    fn name(&self) -> &str {
        "starts of the windows"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::List(item()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let times = args.args[0].to_array(args.number_rows)?;
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let (mut starts, mut lengths) = (Vec::new(), Vec::with_capacity(times.len()));
        for time in times {
            let before = starts.len();
            if let Some(time) = time {
                let (first, last) = self.window.span(time);
                let each = std::iter::successors(Some(first), |start| start.checked_add(self.window.slide()));
                starts.extend(each.take_while(|start| *start <= last));
            }
            lengths.push(starts.len() - before);
        }
        let lists = ListArray::try_new(item(), OffsetBuffer::from_lengths(lengths), timestamps(starts), None)?;
        Ok(ColumnarValue::Array(Arc::new(lists)))
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct EndOf {
    size: i64,
    signature: Signature,
}

impl ScalarUDFImpl for EndOf {
    fn name(&self) -> &str {
        "end of the window"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(timestamp_type())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let starts = args.args[0].to_array(args.number_rows)?;
        let starts = starts.as_primitive::<TimestampMicrosecondType>();
        let ends: TimestampMicrosecondArray = starts.unary(|start| start.saturating_add(self.size));
        Ok(ColumnarValue::Array(Arc::new(ends.with_timezone(UTC))))
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct SessionEdge {
    session: Session,
    edge: Edge,
    signature: Signature,
}

impl WindowUDFImpl for SessionEdge {
    fn name(&self) -> &str {
        match self.edge {
            Edge::Start => "start of the session",
            Edge::End => "end of the session",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn partition_evaluator(&self, _: PartitionEvaluatorArgs<'_>) -> Result<Box<dyn PartitionEvaluator>> {
        Ok(Box::new(Sessions { session: self.session, edge: self.edge }))
    }

    fn field(&self, args: WindowUDFFieldArgs<'_>) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(args.name(), timestamp_type(), true)))
    }
}

#[derive(Debug)]
struct Sessions {
    session: Session,
    edge: Edge,
}

impl PartitionEvaluator for Sessions {
    fn evaluate_all(&mut self, values: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        let Some(times) = values.first().filter(|times| times.len() == rows) else {
            return exec_err!("a session has no times");
        };
        let times = times.as_primitive::<TimestampMicrosecondType>().values();
        let mut edges = Vec::with_capacity(rows);
        for (length, start, end) in self.session.sessions_of(times) {
            let edge = if self.edge == Edge::Start { start } else { end };
            edges.resize(edges.len() + length, edge);
        }
        Ok(timestamps(edges))
    }
}
