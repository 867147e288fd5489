//! Windows of every kind behind one trait: what they are ([`WindowSpec`]) and what they hold ([`WindowState`]).
//!
//! ```text
//! tumble   [     )[     )[     )     edges known before any event        fixed: one HeldWindow for each open window
//! hop      [        )                the same, a row in several
//!             [        )
//! session  x xx   x    [gap)         edges made by the events of a key   session
//! ```

mod fixed;
mod hop;
mod read;
mod session;
mod tumble;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use datafusion::arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use datafusion::arrow::compute::{filter, filter_record_batch, take, take_record_batch};
use datafusion::error::Result;

pub(super) use fixed::FixedWindows;
pub use hop::Hop;
pub(super) use read::{spec_of, window_of};
pub use session::Session;
pub use tumble::Tumble;

use super::aggregation::Aggregation;
use super::window::WindowKind;
use crate::engine::refusing::Refused;

/// The windows of a query. All times are in microseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WindowSpec {
    /// `tumble(time, size [, origin])`.
    Tumble(Tumble),
    /// `hop(time, slide, size [, origin])`.
    Hop(Hop),
    /// `session(time, gap [, maximum])`.
    Session(Session),
}

impl WindowSpec {
    /// Length of a window.
    pub fn length(self) -> i64 {
        match self {
            Self::Tumble(window) => window.size(),
            Self::Hop(window) => window.size(),
            Self::Session(session) => session.gap(),
        }
    }

    /// Which kind they are of.
    pub fn kind(self) -> WindowKind {
        match self {
            Self::Tumble(_) => WindowKind::Tumble,
            Self::Hop(_) => WindowKind::Hop,
            Self::Session(_) => WindowKind::Session,
        }
    }

    /// No open window.
    pub(super) fn state(self) -> Box<dyn WindowState> {
        match self {
            Self::Tumble(window) => Box::new(FixedWindows::new(window)),
            Self::Hop(window) => Box::new(FixedWindows::new(window)),
            Self::Session(session) => Box::new(session::SessionWindows::new(session)),
        }
    }

    /// Whether an event is late under a watermark for all that is known of it alone; an open session could still take it up.
    pub fn is_surely_late(self, event_time: i64, watermark: i64) -> bool {
        match self {
            Self::Session(session) => event_time.saturating_add(session.gap()) <= watermark,
            Self::Tumble(_) | Self::Hop(_) => self.late_before(watermark).is_some_and(|before| event_time < before.all),
        }
    }

    /// A time at which windows end, and the time from one such time to the next; `None` if that depends on the events.
    pub fn ends(self) -> Option<(i64, i64)> {
        fn of(window: impl Grid) -> (i64, i64) {
            (window.end_of(window.start_at_or_before(0)), window.slide())
        }
        match self {
            Self::Tumble(window) => Some(of(window)),
            Self::Hop(window) => Some(of(window)),
            Self::Session(_) => None,
        }
    }

    /// Which event times are late under a watermark; `None` if that depends on more than the event time.
    pub(super) fn late_before(self, watermark: i64) -> Option<LateBefore> {
        match self {
            Self::Tumble(window) => Some(LateBefore::of(window, watermark)),
            Self::Hop(window) => Some(LateBefore::of(window, watermark)),
            Self::Session(_) => None,
        }
    }
}

/// For people, as in "60s of timestamp".
impl fmt::Display for WindowSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |micros: i64| Duration::from_micros(micros.unsigned_abs());
        match self {
            Self::Tumble(window) => write!(f, "{:?}", time(window.size())),
            Self::Hop(window) => write!(f, "{:?} every {:?}", time(window.size()), time(window.slide())),
            Self::Session(session) => {
                write!(f, "sessions (gap {:?}, at most {:?})", time(session.gap()), time(session.maximum()))
            }
        }
    }
}

/// Windows whose edges are known before any event.
pub(super) trait Grid: Copy + Send + 'static {
    /// Length of a window.
    fn size(self) -> i64;

    /// Time between the starts of two windows.
    fn slide(self) -> i64;

    /// Start of the last window that begins at or before a time.
    fn start_at_or_before(self, time: i64) -> i64;

    /// End (exclusive) of the window that starts at `start`.
    fn end_of(self, start: i64) -> i64 {
        start.saturating_add(self.size())
    }

    /// Starts of the first and the last window that hold an event time.
    fn span(self, time: i64) -> (i64, i64) {
        let last = self.start_at_or_before(time);
        let before = self.start_at_or_before(time.saturating_sub(self.size()));
        (before.saturating_add(self.slide()).min(last), last)
    }
}

/// Event times below these are late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LateBefore {
    /// All windows of the row are closed.
    pub(super) all: i64,
    /// Some of them are. Never less than `all`.
    pub(super) some: i64,
}

impl LateBefore {
    fn of(grid: impl Grid, watermark: i64) -> Self {
        let closed = grid.start_at_or_before(watermark.saturating_sub(grid.size()));
        Self { all: closed.saturating_add(grid.slide()), some: closed.saturating_add(grid.size()) }
    }
}

/// A part of the state that is kept and restored as one: a window, or the sessions of some keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenPart {
    /// Which one: the start of a window in microseconds since 1970, or the number of a bucket of keys.
    pub part: i64,
    /// Version of the batch that first put a row into it: where a rebuild of its state begins.
    pub first_version: u64,
    /// Number of groups.
    pub groups: usize,
    /// Bytes of memory.
    pub bytes: usize,
    /// Whether rows came or went since it was last snapshotted or restored.
    pub changed_since_snapshot: bool,
}

/// Answers of closed windows, and the edges of each row's window.
pub(super) struct Closed {
    pub(super) starts: ArrayRef,
    pub(super) ends: ArrayRef,
    pub(super) answers: RecordBatch,
    /// Why an aggregate of each of these groups has no answer; such an answer is null.
    pub(super) refused: Option<String>,
}

impl Closed {
    /// Emits the groups that have no answer by themselves, and gives the others.
    fn without_refused(self, refused: &Refused, emit: &mut Emit<'_>) -> Result<Self> {
        if refused.is_empty() {
            return Ok(self);
        }
        let mut by_reason: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        let mut good = vec![true; self.answers.num_rows()];
        for (group, why) in refused {
            // A group that two aggregates refuse is refused once.
            if std::mem::replace(&mut good[*group], false) {
                by_reason.entry(why).or_default().push(*group as u32);
            }
        }
        for (why, groups) in by_reason {
            let groups = UInt32Array::from(groups);
            emit(Self {
                starts: take(&self.starts, &groups, None)?,
                ends: take(&self.ends, &groups, None)?,
                answers: take_record_batch(&self.answers, &groups)?,
                refused: Some(why.to_owned()),
            })?;
        }
        let good = BooleanArray::from(good);
        let (starts, ends) = (filter(&self.starts, &good)?, filter(&self.ends, &good)?);
        Ok(Self { starts, ends, answers: filter_record_batch(&self.answers, &good)?, refused: None })
    }
}

/// Takes the answers of closed windows.
pub(super) type Emit<'a> = dyn FnMut(Closed) -> Result<()> + 'a;

/// The open windows of a query.
pub(super) trait WindowState: Send {
    /// Adds prepared rows. Those whose window the committed watermark has closed are left out; where that depends on
    /// more than the event time ([`WindowSpec::late_before`]) it is told which they were.
    fn add(&mut self, aggregation: &Aggregation, rows: &RecordBatch, batch: BatchTime) -> Result<Option<BooleanArray>>;

    /// Emits the oldest window that ends at or before the watermark and forgets it; `false` if there is none. `whole`:
    /// all its rows at once, in the order of their keys.
    fn close_next(
        &mut self,
        aggregation: &Aggregation,
        watermark: i64,
        whole: bool,
        emit: &mut Emit<'_>,
    ) -> Result<bool>;

    /// Forgets the windows that end at or before the watermark.
    fn discard(&mut self, watermark: i64) -> Result<()>;

    /// The parts that hold rows, in the order of their numbers.
    fn parts(&self) -> Vec<OpenPart>;

    /// The state of a part, one row for each group, and the part goes on as it is; `None` if it holds no rows.
    fn snapshot(&mut self, aggregation: &Aggregation, part: i64) -> Result<Option<Vec<RecordBatch>>>;

    /// Adds rows of state.
    fn restore(&mut self, aggregation: &Aggregation, part: i64, first_version: u64, rows: &[RecordBatch])
    -> Result<()>;

    /// Number of open windows.
    fn open_windows(&self) -> usize;

    /// Start of the oldest open window.
    fn oldest_open(&self) -> Option<i64>;

    /// Greatest end of an open window.
    fn latest_end(&self) -> Option<i64>;

    /// Number of groups in all of them.
    fn groups(&self) -> usize;

    /// Bytes of memory.
    fn bytes(&self) -> usize;
}

/// When the rows of a micro-batch come.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchTime {
    /// The watermark that was committed before it.
    pub(super) watermark: Option<i64>,
    /// The batch's version in the log.
    pub(super) version: u64,
}

#[cfg(test)]
mod tests;
