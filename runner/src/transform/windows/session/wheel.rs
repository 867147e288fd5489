//! When pieces are to be looked at again: never later than they can close.

use std::collections::BTreeMap;

/// Spans of time in a gap. An entry in the span that the watermark is in is looked at again and again.
const SPANS: i64 = 256;

/// Not in the wheel.
const NOWHERE: i64 = i64::MAX;

pub(super) struct Wheel {
    span: i64,
    spans: BTreeMap<i64, Vec<u32>>,
    /// The span of each piece; an entry elsewhere is an old one.
    place: Vec<i64>,
}

impl Wheel {
    pub(super) fn new(gap: i64) -> Self {
        Self { span: (gap / SPANS).max(1), spans: BTreeMap::new(), place: vec![] }
    }

    fn span_of(&self, time: i64) -> i64 {
        time.div_euclid(self.span).min(NOWHERE - 1)
    }

    /// Looks at a piece at this time, unless it is looked at before.
    pub(super) fn set(&mut self, piece: u32, time: i64) {
        let index = piece as usize;
        if index >= self.place.len() {
            self.place.resize(index + 1, NOWHERE);
        }
        let span = self.span_of(time);
        if span < self.place[index] {
            self.place[index] = span;
            self.spans.entry(span).or_default().push(piece);
        }
    }

    pub(super) fn remove(&mut self, piece: u32) {
        if let Some(place) = self.place.get_mut(piece as usize) {
            *place = NOWHERE;
        }
    }

    /// Takes the pieces that are to be looked at up to a time.
    pub(super) fn take(&mut self, time: i64) -> Vec<u32> {
        let now = self.span_of(time);
        let mut taken = vec![];
        while let Some(entry) = self.spans.first_entry()
            && *entry.key() <= now
        {
            let (span, pieces) = entry.remove_entry();
            for piece in pieces {
                if self.place[piece as usize] == span {
                    self.place[piece as usize] = NOWHERE;
                    taken.push(piece);
                }
            }
        }
        taken
    }

    pub(super) fn size(&self) -> usize {
        self.place.capacity() * 8 + self.spans.values().map(|pieces| pieces.capacity() * 4 + 64).sum::<usize>()
    }
}
