//! `session(time, gap [, maximum])`: the events of a key that follow each other without a gap.
//!
//! Two events of a key less than a gap apart are in one session, and so on from event to event: a *chain*. Robots make
//! chains without end, so there is a maximum. Which events a session has must not depend on the order in which they come,
//! so the cut does not either:
//!
//! ```text
//!            multiples of the maximum since 1970 (24 h: midnight UTC)
//!                 |                     |
//!   [piece A ]····|··[piece B ]         |               A and B span less than the maximum: one session
//!                 |                     |
//!    [piece A ]···|·[piece B …      ]···|·[piece C]     A and B span the maximum or more: cut between them
//! ```
//!
//! A chain consists of pieces, one in each cell between two multiples. Two neighbouring pieces belong to different sessions
//! if together they span the maximum or more. So a chain shorter than the maximum is one session, and with a maximum of at
//! least three gaps no session is longer than the maximum and two gaps. Pieces only grow, so that what is cut stays cut.
//!
//! A session's end is its last event and a gap, or the multiple at which it was cut.

mod buckets;
mod keys;
mod pieces;
mod state;
mod wheel;

#[cfg(test)]
mod tests;

pub(in super::super) use state::SessionWindows;

/// Sessions of each key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Session {
    gap: i64,
    maximum: i64,
}

/// A day: the longest visit that anybody needs in one piece, and the time by which a robot holds back who waits for
/// complete input.
const MAXIMUM: i64 = 86_400_000_000;

impl Session {
    /// Gaps in the shortest maximum: a chain of full cells is then cut at each of their edges.
    pub(in super::super) const GAPS: i64 = 3;

    /// `None` unless the gap is positive and the maximum at least three gaps; without one it is a day, or three gaps.
    pub(in super::super) fn new(gap: i64, maximum: Option<i64>) -> Option<Self> {
        let least = gap.checked_mul(Self::GAPS).filter(|least| *least > 0)?;
        let maximum = maximum.unwrap_or(MAXIMUM.max(least));
        (maximum >= least).then_some(Self { gap, maximum })
    }

    /// Microseconds without an event that end a session.
    pub fn gap(self) -> i64 {
        self.gap
    }

    /// Microseconds that a chain of events may span without being cut.
    pub fn maximum(self) -> i64 {
        self.maximum
    }

    /// The multiple of the maximum that comes after a time.
    fn edge_after(self, time: i64) -> i64 {
        time.saturating_sub(time.rem_euclid(self.maximum)).saturating_add(self.maximum)
    }

    /// Whether events between two times, the earlier one first, leave no gap.
    fn near(self, before: i64, after: i64) -> bool {
        after.saturating_sub(before) < self.gap
    }

    fn end_of(self, last: i64) -> i64 {
        last.saturating_add(self.gap)
    }

    /// The sessions of a key of which every event is known, by the times of the events, ascending: number of events, start and
    /// end of each.
    pub(in super::super) fn sessions_of(self, times: &[i64]) -> Vec<(usize, i64, i64)> {
        let mut sessions: Vec<(usize, i64, i64)> = Vec::new();
        // First and last event of the piece at hand.
        let mut piece: Option<(i64, i64)> = None;
        let mut rest = times;
        while let [first, ..] = *rest {
            let edge = self.edge_after(first);
            let in_piece = |pair: &[i64]| self.near(pair[0], pair[1]) && pair[1] < edge;
            let length = 1 + rest.windows(2).take_while(|pair| in_piece(pair)).count();
            let last = rest[length - 1];
            let is_near = |before: i64| self.near(before, first);
            match (piece, sessions.last_mut()) {
                (Some((begin, before)), Some(session))
                    if is_near(before) && last.saturating_sub(begin) < self.maximum =>
                {
                    session.0 += length;
                    session.2 = self.end_of(last);
                }
                (Some((begin, before)), Some(session)) if is_near(before) => {
                    session.2 = self.edge_after(begin);
                    sessions.push((length, first, self.end_of(last)));
                }
                _ => sessions.push((length, first, self.end_of(last))),
            }
            piece = Some((first, last));
            rest = &rest[length..];
        }
        sessions
    }
}
