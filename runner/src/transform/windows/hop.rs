//! `hop(time, slide, size [, origin])`: windows of one length that overlap.

use super::{Grid, Tumble};

/// Windows `[start, start + size)`; one begins at each whole multiple of the slide before and after an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hop {
    starts: Tumble,
    size: i64,
}

impl Hop {
    /// Windows that an event may lie in: each costs as much as a tumbling window.
    pub(in super::super) const WINDOWS_MAX: i64 = 1_440;

    /// `None` unless `0 < slide <= size`.
    pub(in super::super) fn new(slide: i64, size: i64, origin: i64) -> Option<Self> {
        (slide <= size).then(|| Tumble::new(slide, origin))?.map(|starts| Self { starts, size })
    }

    /// Length of a window in microseconds.
    pub fn size(self) -> i64 {
        self.size
    }

    /// Microseconds between the starts of two windows.
    pub fn slide(self) -> i64 {
        self.starts.size()
    }

    /// Most windows that an event lies in.
    pub(in super::super) fn overlap(self) -> i64 {
        self.size / self.slide() + i64::from(self.size % self.slide() != 0)
    }
}

impl Grid for Hop {
    fn size(self) -> i64 {
        self.size
    }

    fn slide(self) -> i64 {
        self.starts.size()
    }

    fn start_at_or_before(self, time: i64) -> i64 {
        self.starts.start_of(time)
    }
}
