//! The window in a query: its call in GROUP BY, and the SQL functions `tumble`, `hop`, `session`, `window_start` and
//! `window_end`.
//!
//! The functions are signs that the split looks for and replaces; none of them is computed, except where an argument of
//! an aggregate names a tumbling window: there [`edge_of`] computes it from the row's event time.

use std::sync::Arc;

use datafusion::arrow::array::{AsArray, TimestampMicrosecondArray};
use datafusion::arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};

use super::error::Position;
use super::windows::Tumble;

/// Time zone of every timestamp in the engine.
pub(super) const UTC: &str = "UTC";

/// What a window is, by the function that makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WindowKind {
    /// Windows of one length, one after the other.
    Tumble,
    /// Windows of one length that begin more often than they end.
    Hop,
    /// Events of a key without a gap.
    Session,
}

impl WindowKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Tumble, Self::Hop, Self::Session];

    /// Name of the function in GROUP BY.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tumble => "tumble",
            Self::Hop => "hop",
            Self::Session => "session",
        }
    }

    /// The kind of a function's name, in lower case.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// What the function takes, for people.
    pub(super) fn takes(self) -> &'static str {
        match self {
            Self::Tumble => "tumble takes the event time, a length, and optionally a time at which a window begins",
            Self::Hop => {
                "hop takes the event time, how often a window begins, a length, and optionally a time at which one begins"
            }
            Self::Session => "session takes the event time, a gap, and optionally the greatest length",
        }
    }

    /// How it is written.
    pub(super) fn example(self) -> &'static str {
        match self {
            Self::Tumble => "tumble(<event time>, INTERVAL '1 minute')",
            Self::Hop => "hop(<event time>, INTERVAL '1 minute', INTERVAL '5 minutes')",
            Self::Session => "session(<event time>, INTERVAL '30 minutes')",
        }
    }

    /// Least and greatest number of arguments.
    pub(super) fn arguments(self) -> std::ops::RangeInclusive<usize> {
        match self {
            Self::Tumble | Self::Session => 2..=3,
            Self::Hop => 3..=4,
        }
    }
}

/// The window of a query as its text has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WindowCall {
    pub(super) kind: WindowKind,
    /// Number of arguments.
    pub(super) arguments: usize,
    pub(super) place: Position,
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
            Self::Start => "window_start of the window",
            Self::End => "window_end of the window",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        [Self::Start, Self::End].into_iter().find(|edge| edge.name() == name)
    }
}

/// The functions to register: the windows and the signs of their edges.
pub(super) fn functions() -> Vec<ScalarUDF> {
    let edge = |edge| ScalarUDF::new_from_impl(EdgeSign { edge, signature: Signature::nullary(Volatility::Immutable) });
    let window = |kind: WindowKind| {
        let forms = kind.arguments().map(TypeSignature::Any).collect();
        ScalarUDF::new_from_impl(WindowSign { kind, signature: Signature::one_of(forms, Volatility::Immutable) })
    };
    let windows = WindowKind::ALL.into_iter().map(window);
    windows.chain([edge(Edge::Start), edge(Edge::End)]).collect()
}

/// The window that an expression of a plan is, and its arguments.
pub(super) fn window_sign(expr: &Expr) -> Option<(WindowKind, &[Expr])> {
    match expr {
        Expr::ScalarFunction(call) => {
            call.func.inner().downcast_ref::<WindowSign>().map(|sign| (sign.kind, call.args.as_slice()))
        }
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

/// Function of one argument, an event time, that gives an edge of its window.
pub(super) fn edge_of(window: Tumble, edge: Edge) -> Arc<ScalarUDF> {
    let signature = Signature::any(1, Volatility::Immutable);
    Arc::new(ScalarUDF::new_from_impl(EdgeOf { window, edge, signature }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct WindowSign {
    kind: WindowKind,
    signature: Signature,
}

impl ScalarUDFImpl for WindowSign {
    fn name(&self) -> &str {
        self.kind.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(timestamp_type())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        datafusion::common::internal_err!("{}() is replaced when the query is split", self.kind.name())
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
    window: Tumble,
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
