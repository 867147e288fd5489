//! From the call in GROUP BY to the windows it means: its arguments, checked.

use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Aggregate, Cast, Expr, LogicalPlan};

use super::super::branches;
use super::super::error::QueryError;
use super::super::inputs::{QueryInputs, Role, SourceTable, reads};
use super::super::session::Session;
use super::super::split::origin;
use super::super::window::{WindowKind, timestamp_type, window_sign};
use super::{Hop, Session as Sessions, Tumble, WindowSpec};

/// The windows that an aggregate groups by, and the event time they are over.
pub(in super::super) fn window_of(
    aggregate: &Aggregate,
    inputs: &QueryInputs,
    event_times: &[Option<usize>],
    session: &Session,
) -> Result<(WindowSpec, Expr), QueryError> {
    let Some((kind, [time, arguments @ ..])) = aggregate.group_expr.iter().find_map(window_sign) else {
        return Err(QueryError::new("a window is over the event time"));
    };
    for (source, event_time) in event_times.iter().enumerate() {
        if reads(&aggregate.input, Role::Source(source)) {
            check_time(kind, time, &aggregate.input, (source, *event_time), inputs)?;
        }
    }
    let constant = |expr: &Expr| {
        session.simplify(expr.clone(), aggregate.input.schema()).map_err(|error| QueryError::from_datafusion(&error))
    };
    Ok((spec_of(kind, arguments, &constant)?, time.clone()))
}

/// The windows that a call means, by its arguments behind the time. `constant` computes what is constant in one of them.
pub(in super::super) fn spec_of(
    kind: WindowKind,
    arguments: &[Expr],
    constant: &dyn Fn(&Expr) -> Result<Expr, QueryError>,
) -> Result<WindowSpec, QueryError> {
    let length = |index: usize, what| match arguments.get(index) {
        Some(length) => micros_of(&constant(length)?, what),
        None => Err(QueryError::new(kind.takes())),
    };
    let origin = |index: usize| match arguments.get(index) {
        Some(origin) => origin_of(kind, &constant(&Expr::Cast(Cast::new(Box::new(origin.clone()), timestamp_type())))),
        None => Ok(0),
    };
    let spec = match kind {
        WindowKind::Tumble => Tumble::new(length(0, "the length of the window")?, origin(1)?).map(WindowSpec::Tumble),
        WindowKind::Hop => {
            let (slide, size) = (length(0, "the slide of the window")?, length(1, "the length of the window")?);
            Some(hop(slide, size, origin(2)?)?)
        }
        WindowKind::Session => {
            let gap = length(0, "the gap of the session")?;
            let maximum = match arguments.get(1) {
                Some(maximum) => Some(micros_of(&constant(maximum)?, "the greatest length of the session")?),
                None => None,
            };
            Some(WindowSpec::Session(Sessions::new(gap, maximum).ok_or_else(|| {
                let gaps = Sessions::GAPS;
                QueryError::new(format!("the greatest length of the session is less than {gaps} of its gaps"))
                    .cure(format!("make it {gaps} times the gap or more, or leave it out: it is 24 hours then"))
            })?))
        }
    };
    spec.ok_or_else(|| QueryError::new(kind.takes()).cure(kind.example()))
}

fn hop(slide: i64, size: i64, origin: i64) -> Result<WindowSpec, QueryError> {
    let Some(window) = Hop::new(slide, size, origin) else {
        return Err(QueryError::new(
            "the slide of the window is longer than its length, so that some rows lie in none",
        )
        .cure("hop takes the slide first: hop(<event time>, INTERVAL '1 minute', INTERVAL '5 minutes')"));
    };
    if window.overlap() > Hop::WINDOWS_MAX {
        let message = format!("each row lies in {} windows, at most {} can be", window.overlap(), Hop::WINDOWS_MAX);
        return Err(QueryError::new(message).cure("take a longer slide or shorter windows"));
    }
    Ok(WindowSpec::Hop(window))
}

/// A window follows the watermark, and the watermark the event time of each source as the record has it.
fn check_time(
    kind: WindowKind,
    time: &Expr,
    input: &LogicalPlan,
    (source, event_time): (usize, Option<usize>),
    inputs: &QueryInputs,
) -> Result<(), QueryError> {
    let SourceTable { name: source_name, schema, .. } = &inputs.sources[source];
    let is_only = inputs.sources.len() == 1;
    let Some(event_time) = event_time else {
        let message = match is_only {
            true => "a window needs the event time of its source".to_owned(),
            false => format!("a window needs the event time of each source, and {source_name} has none"),
        };
        return Err(QueryError::new(message).cure("set eventTime of the source in the job's spec"));
    };
    let column = match time {
        Expr::Column(column) => input.schema().maybe_index_of_column(column),
        _ => None,
    };
    let rows = branches::only(input, source).map_err(|error| QueryError::from_datafusion(&error))?;
    if column.and_then(|index| origin(&rows, index)) == Some(event_time) {
        return Ok(());
    }
    let name = kind.name();
    let what = match time {
        Expr::Column(column) => column.name.as_str(),
        _ => "an expression",
    };
    let of_source = if is_only { String::new() } else { format!(" of {source_name}") };
    let event_time = schema.field(event_time).name();
    let message = format!("{name} is over {what}, which is not the event time{of_source} as it stands in the record");
    Err(QueryError::new(message).cure(format!("write {name}({event_time}, …); the watermark follows that column")))
}

/// Microseconds of a constant, positive interval.
fn micros_of(length: &Expr, what: &str) -> Result<i64, QueryError> {
    let wrong = |problem: &str| {
        QueryError::new(format!("{what} {problem}")).cure("write a constant, such as INTERVAL '1 minute'")
    };
    let Expr::Literal(value, _) = length else { return Err(wrong("is not constant")) };
    let (days, nanoseconds) = match value {
        ScalarValue::IntervalMonthDayNano(Some(interval)) if interval.months != 0 => {
            return Err(wrong("has months or years, which differ in length"));
        }
        ScalarValue::IntervalYearMonth(_) => return Err(wrong("has months or years, which differ in length")),
        ScalarValue::IntervalMonthDayNano(Some(interval)) => (i64::from(interval.days), interval.nanoseconds),
        ScalarValue::IntervalDayTime(Some(interval)) => {
            (i64::from(interval.days), i64::from(interval.milliseconds) * 1_000_000)
        }
        _ => return Err(wrong("is not an interval")),
    };
    if nanoseconds % 1000 != 0 {
        return Err(wrong("has parts of a microsecond"));
    }
    let microseconds = days.checked_mul(86_400_000_000).and_then(|days| days.checked_add(nanoseconds / 1000));
    microseconds.filter(|micros| *micros > 0).ok_or_else(|| wrong("is not positive"))
}

/// A constant point in time.
fn origin_of(kind: WindowKind, origin: &Result<Expr, QueryError>) -> Result<i64, QueryError> {
    match origin {
        Ok(Expr::Literal(ScalarValue::TimestampMicrosecond(Some(origin), _), _)) => Ok(*origin),
        _ => Err(QueryError::new(format!("the last argument of {} is not a constant time", kind.name())).cure(
            "write a time at which a window begins, such as TIMESTAMP '1970-01-05 00:00:00' for weeks from Monday",
        )),
    }
}
