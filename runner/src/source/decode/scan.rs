//! The grammar of JSON (RFC 8259) over bytes: checks, and says where values lie; it builds nothing and calls itself
//! never.
//!
//! Positions are byte positions in the whole record. The scanner accepts exactly the texts of the grammar, with two
//! restrictions of meaning: a `\u` surrogate must be half of a pair (a lone one is no text), and nesting has a limit.

use super::bad::{BadReason, Fault};
use super::simd::find_string_end;

/// The deepest nesting that the scanner can be told to accept: one bit for each level lies on the stack. The range of
/// `maxDepth` in the source's specification ends here too.
pub(super) const DEPTH_MAX: usize = 1024;

/// The longest record: a value's length and kind share 32 bits of its [`Slot`].
pub(super) const RECORD_BYTES_MAX: usize = (1 << (32 - KIND_BITS)) - 1;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// Nothing was found.
    Absent,
    Null,
    False,
    True,
    Number,
    /// A string that stands for itself.
    Text,
    /// A string with escapes.
    EscapedText,
    Object,
    Array,
}

const KIND_BITS: u32 = 4;

/// A value: what it is and where it lies. A string's quotes lie outside.
///
/// One word, since the processor stalls when parts that were written one by one are read as a whole: start above,
/// length in the middle, kind below. All zeros is absent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot(u64);

impl Slot {
    pub(super) const ABSENT: Self = Self::new(Kind::Absent, 0, 0);

    /// A value at `[start, end)`, positions of at most [`RECORD_BYTES_MAX`].
    #[inline(always)]
    pub(super) const fn new(kind: Kind, start: usize, end: usize) -> Self {
        Self((start as u64) << 32 | ((end - start) as u64) << KIND_BITS | kind as u64)
    }

    #[inline(always)]
    pub(super) const fn kind(self) -> Kind {
        match self.0 as u8 & ((1 << KIND_BITS) - 1) {
            1 => Kind::Null,
            2 => Kind::False,
            3 => Kind::True,
            4 => Kind::Number,
            5 => Kind::Text,
            6 => Kind::EscapedText,
            7 => Kind::Object,
            8 => Kind::Array,
            _ => Kind::Absent,
        }
    }

    /// Absent, or JSON's null: both become SQL's null.
    #[inline(always)]
    pub(super) const fn is_null(self) -> bool {
        matches!(self.kind(), Kind::Absent | Kind::Null)
    }

    #[inline(always)]
    pub(super) const fn start(self) -> usize {
        (self.0 >> 32) as usize
    }

    /// Where the value's characters lie.
    #[inline(always)]
    pub(super) const fn range(self) -> std::ops::Range<usize> {
        let length = self.0 as u32 >> KIND_BITS;
        self.start()..self.start() + length as usize
    }

    /// Where the value lies as it was written, a string with its quotes.
    pub(super) const fn raw_range(self) -> std::ops::Range<usize> {
        let inside = self.range();
        match self.kind() {
            Kind::Text | Kind::EscapedText => inside.start - 1..inside.end + 1,
            _ => inside,
        }
    }

    /// A fault at this value.
    pub(super) const fn fault(self, reason: BadReason, what: &'static str) -> Fault {
        Fault::at(reason, self.start(), what)
    }
}

/// The byte there, or 0 behind the end. A record may hold a 0 itself, so the end is told by [`unexpected`].
#[inline(always)]
pub(super) fn byte_at(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

/// The fault of a byte that the grammar does not allow there, or of the end.
#[cold]
pub(super) fn unexpected(bytes: &[u8], at: usize, what: &'static str) -> Fault {
    if at >= bytes.len() {
        Fault::at(BadReason::Truncated, bytes.len(), "the value ends in the middle of the JSON")
    } else {
        Fault::at(BadReason::Syntax, at, what)
    }
}

/// The first position from `at` on that holds no white space.
#[inline(always)]
pub(super) fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while matches!(byte_at(bytes, at), b' ' | b'\n' | b'\t' | b'\r') {
        at += 1;
    }
    at
}

/// Reads the value that begins at `at` (no white space), which may nest `levels` deep; gives it and the position
/// behind.
#[inline(always)]
pub(super) fn value(bytes: &[u8], at: usize, levels: usize) -> Result<(Slot, usize), Fault> {
    match byte_at(bytes, at) {
        b'{' => nested(bytes, at, levels).map(|end| (Slot::new(Kind::Object, at, end), end)),
        b'[' => nested(bytes, at, levels).map(|end| (Slot::new(Kind::Array, at, end), end)),
        _ => scalar(bytes, at),
    }
}

/// As [`value`], with white space before it. Apart from the strings, which are most of all values.
#[inline(never)]
pub(super) fn spaced_value(bytes: &[u8], at: usize, levels: usize) -> Result<(Slot, usize), Fault> {
    value(bytes, skip_space(bytes, at), levels)
}

/// Reads the string whose opening quote is at `at`; gives it and the position behind.
#[inline(always)]
pub(super) fn string_value(bytes: &[u8], at: usize) -> Result<(Slot, usize), Fault> {
    let (kind, end) = string(bytes, at + 1)?;
    Ok((Slot::new(kind, at + 1, end), end + 1))
}

#[inline(always)]
fn scalar(bytes: &[u8], at: usize) -> Result<(Slot, usize), Fault> {
    match byte_at(bytes, at) {
        b'"' => string_value(bytes, at),
        b'-' | b'0'..=b'9' => number(bytes, at).map(|end| (Slot::new(Kind::Number, at, end), end)),
        b't' => literal(bytes, at, "true").map(|end| (Slot::new(Kind::True, at, end), end)),
        b'f' => literal(bytes, at, "false").map(|end| (Slot::new(Kind::False, at, end), end)),
        b'n' => literal(bytes, at, "null").map(|end| (Slot::new(Kind::Null, at, end), end)),
        _ => Err(unexpected(bytes, at, "expected a value")),
    }
}

/// Reads a string whose first character is at `at`; gives its kind and the position of the closing quote.
#[inline(always)]
pub(super) fn string(bytes: &[u8], at: usize) -> Result<(Kind, usize), Fault> {
    let end = find_string_end(bytes, at);
    if byte_at(bytes, end) == b'"' { Ok((Kind::Text, end)) } else { string_with_escapes(bytes, end) }
}

/// Goes on at the first byte of a string that does not stand for itself.
#[inline(never)]
fn string_with_escapes(bytes: &[u8], mut at: usize) -> Result<(Kind, usize), Fault> {
    loop {
        match byte_at(bytes, at) {
            b'"' => return Ok((Kind::EscapedText, at)),
            b'\\' => at = escape(bytes, at)?,
            _ => return Err(unexpected(bytes, at, "a control character inside a string")),
        }
        at = find_string_end(bytes, at);
    }
}

/// Reads one escape, or a pair of them that make one character; gives the position behind.
fn escape(bytes: &[u8], at: usize) -> Result<usize, Fault> {
    match byte_at(bytes, at + 1) {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(at + 2),
        b'u' => match four_hex_digits(bytes, at + 2)? {
            0xd800..0xdc00 => second_surrogate(bytes, at + 6),
            0xdc00..0xe000 => Err(Fault::at(BadReason::Syntax, at, "half of a surrogate pair")),
            _ => Ok(at + 6),
        },
        _ => Err(unexpected(bytes, at + 1, "an escape that JSON does not know")),
    }
}

fn second_surrogate(bytes: &[u8], at: usize) -> Result<usize, Fault> {
    const LONE: &str = "half of a surrogate pair";
    for (offset, expected) in [b'\\', b'u'].into_iter().enumerate() {
        if byte_at(bytes, at + offset) != expected {
            return Err(unexpected(bytes, at + offset, LONE));
        }
    }
    match four_hex_digits(bytes, at + 2)? {
        0xdc00..0xe000 => Ok(at + 6),
        _ => Err(Fault::at(BadReason::Syntax, at, LONE)),
    }
}

fn four_hex_digits(bytes: &[u8], at: usize) -> Result<u32, Fault> {
    let mut code = 0;
    for position in at..at + 4 {
        match char::from(byte_at(bytes, position)).to_digit(16) {
            Some(digit) => code = code << 4 | digit,
            None => return Err(unexpected(bytes, position, "expected four hexadecimal digits after \\u")),
        }
    }
    Ok(code)
}

#[inline(always)]
fn number(bytes: &[u8], mut at: usize) -> Result<usize, Fault> {
    const DIGIT: &str = "expected a digit";
    if byte_at(bytes, at) == b'-' {
        at += 1;
    }
    at = match byte_at(bytes, at) {
        b'0' => at + 1,
        b'1'..=b'9' => skip_digits(bytes, at + 1),
        _ => return Err(unexpected(bytes, at, DIGIT)),
    };
    if byte_at(bytes, at) == b'.' {
        let first = at + 1;
        at = skip_digits(bytes, first);
        if at == first {
            return Err(unexpected(bytes, at, DIGIT));
        }
    }
    if matches!(byte_at(bytes, at), b'e' | b'E') {
        let signed = matches!(byte_at(bytes, at + 1), b'+' | b'-');
        let first = at + 1 + usize::from(signed);
        at = skip_digits(bytes, first);
        if at == first {
            return Err(unexpected(bytes, at, DIGIT));
        }
    }
    Ok(at)
}

#[inline(always)]
fn skip_digits(bytes: &[u8], mut at: usize) -> usize {
    while byte_at(bytes, at).is_ascii_digit() {
        at += 1;
    }
    at
}

#[inline(always)]
fn literal(bytes: &[u8], at: usize, word: &'static str) -> Result<usize, Fault> {
    if bytes[at..].starts_with(word.as_bytes()) {
        return Ok(at + word.len());
    }
    let same = bytes[at..].iter().zip(word.as_bytes()).take_while(|(found, expected)| found == expected).count();
    Err(unexpected(bytes, at + same, "expected true, false or null"))
}

/// Reads a key and its colon from the opening quote on; gives the key's kind, its end, and where the value begins.
#[inline(always)]
pub(super) fn key(bytes: &[u8], at: usize) -> Result<(Kind, usize, usize), Fault> {
    if byte_at(bytes, at) != b'"' {
        return Err(unexpected(bytes, at, "expected a field's name in quotes"));
    }
    let (kind, end) = string(bytes, at + 1)?;
    let colon = skip_space(bytes, end + 1);
    if byte_at(bytes, colon) != b':' {
        return Err(unexpected(bytes, colon, "expected a colon"));
    }
    Ok((kind, end, skip_space(bytes, colon + 1)))
}

/// The objects and arrays around the innermost open one, as one bit for each: no recursion, so no record can exhaust
/// the stack.
struct Outer {
    is_object: [u64; DEPTH_MAX / 64],
    depth: usize,
}

impl Outer {
    #[inline(always)]
    fn push(&mut self, is_object: bool) {
        let (word, bit) = (self.depth / 64 % (DEPTH_MAX / 64), self.depth % 64);
        self.is_object[word] = self.is_object[word] & !(1 << bit) | u64::from(is_object) << bit;
        self.depth += 1;
    }

    #[inline(always)]
    fn pop(&mut self) -> bool {
        self.depth -= 1;
        self.is_object[self.depth / 64 % (DEPTH_MAX / 64)] >> (self.depth % 64) & 1 == 1
    }
}

/// Reads the object or array that begins at `at`; gives the position behind it.
pub(super) fn nested(bytes: &[u8], mut at: usize, levels: usize) -> Result<usize, Fault> {
    let levels = levels.min(DEPTH_MAX);
    let mut outer = Outer { is_object: [0; DEPTH_MAX / 64], depth: 0 };
    let mut in_object = false;
    'value: loop {
        let first = byte_at(bytes, at);
        if first == b'{' || first == b'[' {
            if outer.depth == levels {
                return Err(Fault::at(BadReason::TooDeep, at, "nests deeper than the source's maxDepth"));
            }
            outer.push(in_object);
            in_object = first == b'{';
            at = skip_space(bytes, at + 1);
            // Both closing brackets lie two behind their opening ones in ASCII.
            if byte_at(bytes, at) != first + 2 {
                if in_object {
                    at = key(bytes, at)?.2;
                }
                continue 'value;
            }
        } else {
            at = scalar(bytes, at)?.1;
        }
        // A value has ended, or an empty object or array is about to.
        loop {
            at = skip_space(bytes, at);
            match (byte_at(bytes, at), in_object) {
                (b',', false) => {
                    at = skip_space(bytes, at + 1);
                    continue 'value;
                }
                (b',', true) => {
                    at = key(bytes, skip_space(bytes, at + 1))?.2;
                    continue 'value;
                }
                (b'}', true) | (b']', false) => {
                    at += 1;
                    in_object = outer.pop();
                    if outer.depth == 0 {
                        return Ok(at);
                    }
                }
                (_, true) => return Err(unexpected(bytes, at, "expected a comma or }")),
                (_, false) => return Err(unexpected(bytes, at, "expected a comma or ]")),
            }
        }
    }
}
