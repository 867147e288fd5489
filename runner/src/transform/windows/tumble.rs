//! `tumble(time, size [, origin])`: windows of one length, one after the other.

use super::Grid;

/// Windows `[start, start + size)` that begin at whole multiples of their size before and after an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tumble {
    size: i64,
    /// From 0 to the size: the same windows as those of the origin that was given.
    origin: i64,
}

impl Tumble {
    /// `None` unless `size` is positive.
    pub(in super::super) fn new(size: i64, origin: i64) -> Option<Self> {
        (size > 0).then(|| Self { size, origin: origin.rem_euclid(size) })
    }

    /// Length of a window in microseconds.
    pub fn size(self) -> i64 {
        self.size
    }

    /// Start of the window that an event time falls into; both in microseconds since 1970, also before it.
    pub fn start_of(self, event_time: i64) -> i64 {
        // Saturates only in the first window after i64::MIN, 290,000 years ago.
        event_time.saturating_sub((event_time.rem_euclid(self.size) - self.origin).rem_euclid(self.size))
    }

    /// End (exclusive) of the window that starts at `start`.
    pub fn end_of(self, start: i64) -> i64 {
        start.saturating_add(self.size)
    }
}

impl Grid for Tumble {
    fn size(self) -> i64 {
        self.size
    }

    fn slide(self) -> i64 {
        self.size
    }

    fn start_at_or_before(self, time: i64) -> i64 {
        self.start_of(time)
    }

    fn span(self, time: i64) -> (i64, i64) {
        let start = self.start_of(time);
        (start, start)
    }
}
