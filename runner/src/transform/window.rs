//! Tumbling windows: their arithmetic, and the SQL functions `tumble`, `window_start` and `window_end`.
//!
//! The functions are signs that the split looks for and replaces; none of them is computed, except where an argument of
//! an aggregate names the window: there [`WindowSpec::edge_of`] computes it from the row's event time.

use std::sync::Arc;

use datafusion::arrow::array::{AsArray, TimestampMicrosecondArray};
use datafusion::arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// Time zone of every timestamp in the engine.
pub(super) const UTC: &str = "UTC";

/// Name of the function in GROUP BY.
pub(super) const TUMBLE: &str = "tumble";

/// The windows of a query: `[start, start + size)`, aligned to 1970-01-01 00:00 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WindowSpec {
    size: i64,
}

impl WindowSpec {
    /// `None` unless `size`, in microseconds, is positive.
    pub(super) fn new(size: i64) -> Option<Self> {
        (size > 0).then_some(Self { size })
    }

    /// Length of a window in microseconds.
    pub fn size(self) -> i64 {
        self.size
    }

    /// Start of the window that an event time falls into; both in microseconds since 1970, also before it.
    pub fn start_of(self, event_time: i64) -> i64 {
        // Saturates only in the first window after i64::MIN, 290,000 years ago.
        event_time.saturating_sub(event_time.rem_euclid(self.size))
    }

    /// End (exclusive) of the window that starts at `start`.
    pub fn end_of(self, start: i64) -> i64 {
        start.saturating_add(self.size)
    }

    /// Event times before this one are late under the watermark: their window ends at or before it.
    pub(super) fn late_before(self, watermark: i64) -> i64 {
        self.start_of(watermark)
    }

    /// Function of one argument, an event time, that gives an edge of its window.
    pub(super) fn edge_of(self, edge: Edge) -> Arc<ScalarUDF> {
        let signature = Signature::any(1, Volatility::Immutable);
        Arc::new(ScalarUDF::new_from_impl(EdgeOf { window: self, edge, signature }))
    }
}

/// Type of event times and window edges.
pub(super) fn timestamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into()))
}

/// The two ends of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Edge {
    Start,
    End,
}

impl Edge {
    /// What the user writes, and the name of the output column.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Start => "window_start",
            Self::End => "window_end",
        }
    }

    /// Name of the sign in the rewritten query: no function that a user can call by an ordinary name.
    pub(super) fn sign_name(self) -> &'static str {
        match self {
            Self::Start => "window_start of tumble",
            Self::End => "window_end of tumble",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        [Self::Start, Self::End].into_iter().find(|edge| edge.name() == name)
    }
}

/// The functions to register: `tumble(event time, interval)` and the signs of the window's edges.
pub(super) fn functions() -> Vec<ScalarUDF> {
    let sign = |edge| ScalarUDF::new_from_impl(EdgeSign { edge, signature: Signature::nullary(Volatility::Immutable) });
    let tumble = Tumble { signature: Signature::any(2, Volatility::Immutable) };
    vec![ScalarUDF::new_from_impl(tumble), sign(Edge::Start), sign(Edge::End)]
}

/// The arguments of a call of `tumble`.
pub(super) fn tumble_arguments(expr: &Expr) -> Option<&[Expr]> {
    match expr {
        Expr::ScalarFunction(call) if call.func.inner().is::<Tumble>() => Some(&call.args),
        _ => None,
    }
}

/// The edge that a sign stands for.
pub(super) fn edge_sign(expr: &Expr) -> Option<Edge> {
    match expr {
        Expr::ScalarFunction(call) => call.func.inner().downcast_ref::<EdgeSign>().map(|sign| sign.edge),
        _ => None,
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Tumble {
    signature: Signature,
}

impl ScalarUDFImpl for Tumble {
    fn name(&self) -> &str {
        TUMBLE
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(timestamp_type())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        datafusion::common::internal_err!("tumble() is replaced when the query is split")
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct EdgeSign {
    edge: Edge,
    signature: Signature,
}

impl ScalarUDFImpl for EdgeSign {
    fn name(&self) -> &str {
        self.edge.sign_name()
    }

    /// As a column of that name would be called: an expression over it then keeps the name that the user expects.
    fn schema_name(&self, _: &[Expr]) -> Result<String> {
        Ok(self.edge.name().to_owned())
    }

    fn display_name(&self, _: &[Expr]) -> Result<String> {
        Ok(self.edge.name().to_owned())
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(timestamp_type())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        datafusion::common::internal_err!("{} is replaced when the query is split", self.edge.name())
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct EdgeOf {
    window: WindowSpec,
    edge: Edge,
    signature: Signature,
}

impl ScalarUDFImpl for EdgeOf {
    fn name(&self) -> &str {
        self.edge.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(timestamp_type())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let times = args.args[0].to_array(args.number_rows)?;
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let edges: TimestampMicrosecondArray = times.unary(|time| match self.edge {
            Edge::Start => self.window.start_of(time),
            Edge::End => self.window.end_of(self.window.start_of(time)),
        });
        Ok(ColumnarValue::Array(Arc::new(edges.with_timezone(UTC))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_aligned_to_the_epoch_also_before_it() {
        let minute = WindowSpec::new(60_000_000).unwrap();
        for (time, start) in [
            (0, 0),
            (59_999_999, 0),
            (60_000_000, 60_000_000),
            (-1, -60_000_000),
            (-60_000_000, -60_000_000),
            (-60_000_001, -120_000_000),
        ] {
            assert_eq!(minute.start_of(time), start, "{time}");
            assert!((start..minute.end_of(start)).contains(&time));
        }
        assert_eq!(WindowSpec::new(0), None);
        assert_eq!(WindowSpec::new(-5), None);
    }

    #[test]
    fn a_row_is_late_exactly_when_its_window_ends_at_or_before_the_watermark() {
        let window = WindowSpec::new(10).unwrap();
        for watermark in -35..35 {
            for time in -40..40 {
                let late = window.end_of(window.start_of(time)) <= watermark;
                assert_eq!(time < window.late_before(watermark), late, "time {time}, watermark {watermark}");
            }
        }
    }

    #[test]
    fn the_edges_of_time_do_not_overflow() {
        let window = WindowSpec::new(7).unwrap();
        window.end_of(window.start_of(i64::MAX));
        window.end_of(window.start_of(i64::MIN));
    }
}
