//! Builders of Arrow's view arrays (Utf8View, BinaryView): a value of up to 12 bytes lies in its view, a longer one in
//! a data buffer beside it.
//!
//! Arrow's own builder checks and copies more than the hot path can pay for; here a short text costs one load and one
//! store. Layout: "Variable-size Binary View Layout" of the Arrow columnar format.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BinaryViewArray, StringViewArray};
use datafusion::arrow::buffer::{Buffer, NullBuffer, ScalarBuffer};

/// Longest value inside its view.
const INLINE_MAX: usize = 12;

/// Bytes copied at once where the record has as many: fewer instructions than an exact copy.
const BLOCK: usize = 16;

/// Where the next data buffer begins: views have offsets of 32 bits, with a sign in Arrow's specification. Batches are
/// usually far smaller. A single value is smaller always, since a record is.
const BUFFER_BYTES_MAX: usize = i32::MAX as usize;

/// Builder of a BinaryView array.
pub(super) struct BinaryViews {
    views: Vec<u128>,
    data: Vec<u8>,
    /// Data buffers that are full.
    full: Vec<Buffer>,
    full_bytes: usize,
    buffer_bytes_max: usize,
}

impl Default for BinaryViews {
    fn default() -> Self {
        let (views, data, full) = (Vec::new(), Vec::new(), Vec::new());
        Self { views, data, full, full_bytes: 0, buffer_bytes_max: BUFFER_BYTES_MAX }
    }
}

impl BinaryViews {
    /// Appends a value.
    pub(super) fn push(&mut self, value: &[u8]) {
        self.push_part(value, 0, value.len());
    }

    /// Appends `bytes[start..end]`. Knowing what lies behind it allows to copy in blocks.
    #[inline(always)]
    fn push_part(&mut self, bytes: &[u8], start: usize, end: usize) {
        let length = end - start;
        let block = bytes[start..].first_chunk::<BLOCK>();
        let view = match block {
            Some(block) if length <= INLINE_MAX => inline_view(u128::from_le_bytes(*block), length),
            None if length <= INLINE_MAX => inline_view(padded(&bytes[start..end]), length),
            _ => {
                if self.data.len() + length > self.buffer_bytes_max {
                    self.start_buffer();
                }
                let offset = self.data.len();
                match block {
                    Some(block) if length <= BLOCK => {
                        self.data.extend_from_slice(block);
                        self.data.truncate(offset + length);
                    }
                    _ => self.data.extend_from_slice(&bytes[start..end]),
                }
                long_view(&bytes[start..end], self.full.len(), offset)
            }
        };
        self.views.push(view);
    }

    /// Appends the view of a null: its content is not defined, so it is empty.
    pub(super) fn push_empty(&mut self) {
        self.views.push(0);
    }

    #[cold]
    fn start_buffer(&mut self) {
        self.full_bytes += self.data.len();
        self.full.push(Buffer::from_vec(std::mem::take(&mut self.data)));
    }

    /// Forgets all values from the `length`th on, with their bytes.
    pub(super) fn truncate(&mut self, length: usize) {
        let dropped = self.views.get(length..).unwrap_or_default();
        // The bytes lie in the order of the views, so the first long one marks where to cut. What a row left in a
        // buffer that is full already stays there until the batch ends: it is less than one record.
        let first = dropped
            .iter()
            .copied()
            .find(|&view| view_length(view) > INLINE_MAX && buffer_index(view) == self.full.len());
        if let Some(view) = first {
            self.data.truncate((view >> 96) as usize);
        }
        self.views.truncate(length);
    }

    /// Bytes of memory in use.
    pub(super) fn bytes(&self) -> usize {
        self.views.len() * size_of::<u128>() + self.data.len() + self.full_bytes
    }

    /// Gives the array and begins anew, with room for as much as there was.
    pub(super) fn finish(&mut self, nulls: Option<NullBuffer>) -> ArrayRef {
        let (views, buffers) = self.take();
        // SAFETY: `push_part` made every view from a value that lies inline or in the named buffer, and nulls have
        // inline views. The caller keeps one bit of `nulls` for each view.
        #[allow(unsafe_code)]
        let array = unsafe { BinaryViewArray::new_unchecked(views, buffers, nulls) };
        Arc::new(array)
    }

    fn take(&mut self) -> (ScalarBuffer<u128>, Vec<Buffer>) {
        let views = take_with_room(&mut self.views);
        let mut buffers = std::mem::take(&mut self.full);
        self.full_bytes = 0;
        if !self.data.is_empty() {
            buffers.push(Buffer::from_vec(take_with_room(&mut self.data)));
        }
        (ScalarBuffer::from(views), buffers)
    }
}

/// Builder of a Utf8View array: takes nothing but `str`.
#[derive(Default)]
pub(super) struct TextViews(BinaryViews);

impl TextViews {
    /// Appends a text.
    pub(super) fn push(&mut self, text: &str) {
        self.0.push(text.as_bytes());
    }

    /// Appends a part of a text. Panics where the range does not lie on characters, as slicing does.
    #[inline(always)]
    pub(super) fn push_part(&mut self, text: &str, part: std::ops::Range<usize>) {
        // The slice checks the range.
        let value = &text[part.clone()];
        self.0.push_part(text.as_bytes(), part.start, part.start + value.len());
    }

    /// As [`BinaryViews::push_empty`].
    pub(super) fn push_empty(&mut self) {
        self.0.push_empty();
    }

    /// As [`BinaryViews::truncate`].
    pub(super) fn truncate(&mut self, length: usize) {
        self.0.truncate(length);
    }

    /// As [`BinaryViews::bytes`].
    pub(super) fn bytes(&self) -> usize {
        self.0.bytes()
    }

    /// As [`BinaryViews::finish`].
    pub(super) fn finish(&mut self, nulls: Option<NullBuffer>) -> ArrayRef {
        let (views, buffers) = self.0.take();
        // SAFETY: as in `BinaryViews::finish`; and every value was a `str`, so each view's bytes are UTF-8.
        #[allow(unsafe_code)]
        let array = unsafe { StringViewArray::new_unchecked(views, buffers, nulls) };
        Arc::new(array)
    }
}

/// Takes a vector and leaves one with room for as many values: batches of one topic are alike.
pub(super) fn take_with_room<T>(values: &mut Vec<T>) -> Vec<T> {
    let room = Vec::with_capacity(values.len());
    std::mem::replace(values, room)
}

/// The view of the first `length` bytes of `block`, at most 12.
#[inline(always)]
fn inline_view(block: u128, length: usize) -> u128 {
    const MASKS: [u128; INLINE_MAX + 1] = {
        let mut masks = [0; INLINE_MAX + 1];
        let mut length = 0;
        while length <= INLINE_MAX {
            masks[length] = (1 << (8 * length)) - 1;
            length += 1;
        }
        masks
    };
    (block & MASKS[length]) << 32 | length as u128
}

/// The view of a value of over 12 bytes in the data buffers: length, first four bytes, number of the buffer, offset in
/// it.
#[inline(always)]
fn long_view(value: &[u8], buffer: usize, offset: usize) -> u128 {
    let prefix = value.first_chunk::<4>().map_or(0, |prefix| u32::from_le_bytes(*prefix));
    value.len() as u128 | u128::from(prefix) << 32 | (buffer as u128) << 64 | (offset as u128) << 96
}

fn view_length(view: u128) -> usize {
    view as u32 as usize
}

fn buffer_index(view: u128) -> usize {
    (view >> 64) as u32 as usize
}

/// Up to 12 bytes, with zeros behind them.
fn padded(value: &[u8]) -> u128 {
    let mut block = [0; BLOCK];
    block[..value.len()].copy_from_slice(value);
    u128::from_le_bytes(block)
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Array, AsArray};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_short_part_of_a_record_takes_nothing_of_its_neighbours() {
        let text = "0123456789abcdefghijklmnopqrstuvwxyz";
        let mut views = TextViews::default();
        let mut expected = Vec::new();
        for start in 0..text.len() {
            for end in start..=text.len() {
                views.push_part(text, start..end);
                expected.push(&text[start..end]);
            }
        }
        let long = expected.iter().map(|part| part.len()).filter(|&length| length > INLINE_MAX).sum::<usize>();
        assert_eq!(views.bytes(), 16 * expected.len() + long);
        let array = views.finish(None);
        array.to_data().validate_full().unwrap();
        let found: Vec<_> = array.as_string_view().iter().flatten().collect();
        assert_eq!(found, expected);
    }

    proptest! {
        #[test]
        fn what_is_pushed_and_not_truncated_is_in_the_array(
            batches in proptest::collection::vec(proptest::collection::vec((".{0,20}", any::<bool>()), 0..20), 1..4),
            buffer_bytes_max in proptest::sample::select(vec![40, 100, BUFFER_BYTES_MAX]),
        ) {
            let mut views = TextViews::default();
            views.0.buffer_bytes_max = buffer_bytes_max;
            for batch in batches {
                let mut kept = Vec::new();
                for (text, keep) in &batch {
                    if *keep {
                        views.push(text);
                        kept.push(text.as_str());
                    } else {
                        views.push(text);
                        views.push(text);
                        views.truncate(kept.len());
                    }
                }
                let bytes: usize = kept.iter().map(|text| if text.len() > 12 { 16 + text.len() } else { 16 }).sum();
                if buffer_bytes_max == BUFFER_BYTES_MAX {
                    prop_assert_eq!(views.bytes(), bytes, "a truncated value leaves no bytes behind");
                }
                let array = views.finish(None);
                let longest = array.to_data().buffers()[1..].iter().map(Buffer::len).max().unwrap_or(0);
                prop_assert!(longest <= buffer_bytes_max.max(80));
                array.to_data().validate_full().unwrap();
                let found: Vec<_> = array.as_string_view().iter().flatten().collect();
                prop_assert_eq!(found, kept);
            }
        }
    }
}
