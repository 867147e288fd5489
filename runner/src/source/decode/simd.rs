//! The search that most of the decoder's time goes into: where does a JSON string end.
//!
//! On x86-64 with SSE2, which every such processor has; elsewhere eight bytes at a time in plain integers.

/// Position, from `from` on, of the first byte that a JSON string does not hold as itself: `"`, `\` or a control
/// character (below 0x20); the length of `bytes` if there is none.
#[inline(always)]
pub(super) fn find_string_end(bytes: &[u8], from: usize) -> usize {
    #[cfg(target_arch = "x86_64")]
    {
        sse2::find_string_end(bytes, from)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        portable::find_string_end(bytes, from)
    }
}

#[cfg(target_arch = "x86_64")]
mod sse2 {
    use std::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8,
    };

    const WIDTH: usize = 16;

    #[inline(always)]
    pub(super) fn find_string_end(bytes: &[u8], from: usize) -> usize {
        let mut at = from;
        while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
            let found = ends(chunk);
            if found != 0 {
                return at + found.trailing_zeros() as usize;
            }
            at += WIDTH;
        }
        // The rest is shorter than a chunk: look at the last whole chunk of the record again, and forget what lies
        // before.
        match bytes.last_chunk() {
            Some(chunk) => {
                let seen = at + WIDTH - bytes.len();
                let found = ends(chunk).checked_shr(seen as u32).unwrap_or(0);
                if found == 0 { bytes.len() } else { at + found.trailing_zeros() as usize }
            }
            None => super::find_slowly(bytes, at),
        }
    }

    /// One bit for each byte of the chunk that ends the plain part of a string.
    #[allow(unsafe_code)]
    #[inline(always)]
    fn ends(chunk: &[u8; WIDTH]) -> u32 {
        // SAFETY: SSE2 is a part of x86-64. The reference is valid for the 16 bytes that are loaded, and this load asks
        // for no alignment.
        unsafe {
            let chunk = _mm_loadu_si128(chunk.as_ptr().cast());
            let quote = _mm_cmpeq_epi8(chunk, _mm_set1_epi8(b'"' as i8));
            let backslash = _mm_cmpeq_epi8(chunk, _mm_set1_epi8(b'\\' as i8));
            let control = _mm_cmpeq_epi8(_mm_min_epu8(chunk, _mm_set1_epi8(0x1f)), chunk);
            _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quote, backslash), control)) as u32
        }
    }
}

#[cfg(any(test, not(target_arch = "x86_64")))]
mod portable {
    const WIDTH: usize = 8;
    const ONES: u64 = u64::MAX / 255;
    const HIGH_BITS: u64 = ONES * 0x80;

    pub(super) fn find_string_end(bytes: &[u8], from: usize) -> usize {
        let mut at = from;
        while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<WIDTH>()) {
            let word = u64::from_le_bytes(*chunk);
            let found =
                zeros(word ^ (ONES * u64::from(b'"'))) | zeros(word ^ (ONES * u64::from(b'\\'))) | controls(word);
            if found != 0 {
                return at + found.trailing_zeros() as usize / 8;
            }
            at += WIDTH;
        }
        super::find_slowly(bytes, at)
    }

    /// The high bit of each zero byte; above the first one there may be false ones, which nobody reads.
    fn zeros(word: u64) -> u64 {
        word.wrapping_sub(ONES) & !word & HIGH_BITS
    }

    /// The high bit of each byte below 0x20; above the first one there may be false ones, which nobody reads.
    fn controls(word: u64) -> u64 {
        word.wrapping_sub(ONES * 0x20) & !word & HIGH_BITS
    }
}

fn find_slowly(bytes: &[u8], from: usize) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    let found = rest.iter().position(|&byte| byte == b'"' || byte == b'\\' || byte < 0x20);
    found.map_or(bytes.len(), |offset| from + offset)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_byte_is_told_apart_at_every_place() {
        for length in 0..70 {
            for place in 0..length {
                for byte in 0..=255 {
                    let mut bytes = vec![b'x'; length];
                    bytes[place] = byte;
                    for from in [0, place / 2, place, place + 1] {
                        let expected = find_slowly(&bytes, from);
                        assert_eq!(
                            find_string_end(&bytes, from),
                            expected,
                            "{byte} at {place} of {length} from {from}"
                        );
                        assert_eq!(
                            portable::find_string_end(&bytes, from),
                            expected,
                            "portable: {byte} at {place} of {length}"
                        );
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn the_fast_searches_find_what_the_slow_one_finds(
            bytes in proptest::collection::vec(any::<u8>(), 0..100),
            from in 0usize..110,
        ) {
            let from = from.min(bytes.len());
            let expected = find_slowly(&bytes, from);
            prop_assert_eq!(find_string_end(&bytes, from), expected);
            prop_assert_eq!(portable::find_string_end(&bytes, from), expected);
        }
    }
}
