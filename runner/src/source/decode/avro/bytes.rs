//! Reads the binary encoding of Avro. Nothing here believes a length: all of it is checked against what is left, and every
//! value read costs a step, so that types without bytes cannot keep a decoder busy.

use super::schema::{AvroSchema, FixedKind, Meaning, Node, NodeId};
use crate::source::decode::bad::{BadReason, Fault};
use crate::source::decode::typed::Scalar;

/// Steps of a record beside those that its bytes pay for: records of types without bytes are possible, and small.
const STEPS_FREE: usize = 1 << 16;
/// Steps that a byte pays for.
const STEPS_PER_BYTE: usize = 4;

/// Where a reader stands in a record.
#[derive(Clone)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    steps: usize,
}

/// Some items of an array or entries of a map.
pub(super) struct Block {
    pub(super) items: u64,
    /// Bytes of all of them together, where the writer tells.
    bytes: Option<usize>,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, steps: bytes.len().saturating_mul(STEPS_PER_BYTE).saturating_add(STEPS_FREE) }
    }

    /// The same record from another place on.
    pub(super) fn at(&self, at: usize) -> Self {
        Self { at, ..self.clone() }
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn fault(&self, reason: BadReason, what: &'static str) -> Fault {
        Fault::at(reason, self.at, what)
    }

    fn truncated(&self) -> Fault {
        self.fault(BadReason::Truncated, "the value ends in the middle of the record")
    }

    /// Every value read costs one.
    #[inline]
    pub(super) fn step(&mut self) -> Result<(), Fault> {
        match self.steps.checked_sub(1) {
            Some(left) => {
                self.steps = left;
                Ok(())
            }
            None => Err(self.fault(BadReason::Syntax, "the record has far more values than bytes")),
        }
    }

    pub(super) fn end(&self) -> Result<(), Fault> {
        if self.at == self.bytes.len() {
            return Ok(());
        }
        Err(self.fault(BadReason::Syntax, "something stands behind the record: it was written with another schema"))
    }

    #[inline]
    pub(super) fn long(&mut self) -> Result<i64, Fault> {
        let mut value = 0_u64;
        let mut shift = 0;
        loop {
            let byte = *self.bytes.get(self.at).ok_or_else(|| self.truncated())?;
            if shift == 63 && byte > 1 {
                return Err(self.fault(BadReason::Syntax, "a number of more than 64 bits"));
            }
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
            shift += 7;
        }
    }

    pub(super) fn int(&mut self) -> Result<i32, Fault> {
        let at = self.at;
        let beyond = |_| Fault::at(BadReason::Syntax, at, "an int of more than 32 bits");
        i32::try_from(self.long()?).map_err(beyond)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Fault> {
        let taken = self.bytes[self.at..].get(..length).ok_or_else(|| self.truncated())?;
        self.at += length;
        Ok(taken)
    }

    /// Bytes with their length in front.
    #[inline]
    pub(super) fn sized(&mut self) -> Result<&'a [u8], Fault> {
        let at = self.at;
        let length = self.long()?;
        let length = usize::try_from(length);
        self.take(length.map_err(|_| Fault::at(BadReason::Syntax, at, "a length below 0"))?)
    }

    #[inline]
    pub(super) fn text(&mut self) -> Result<&'a str, Fault> {
        let at = self.at;
        let bytes = self.sized()?;
        simdutf8::basic::from_utf8(bytes).map_err(|_| Fault::at(BadReason::Utf8, at, "a text that is not UTF-8"))
    }

    fn index(&mut self, length: usize, what: &'static str) -> Result<usize, Fault> {
        let at = self.at;
        let index = usize::try_from(self.long()?).ok();
        index.filter(|index| *index < length).ok_or(Fault::at(BadReason::Syntax, at, what))
    }

    #[inline]
    pub(super) fn branch(&mut self, branches: usize) -> Result<usize, Fault> {
        self.index(branches, "a branch that the union does not have")
    }

    /// The next items of an array or map; `None` behind the last.
    pub(super) fn block(&mut self) -> Result<Option<Block>, Fault> {
        let items = self.long()?;
        if items == 0 {
            return Ok(None);
        }
        let at = self.at;
        let bytes = if items < 0 {
            let bytes = usize::try_from(self.long()?);
            Some(bytes.map_err(|_| Fault::at(BadReason::Syntax, at, "a length below 0"))?)
        } else {
            None
        };
        Ok(Some(Block { items: items.unsigned_abs(), bytes }))
    }
}

pub(super) const TOO_DEEP: &str = "nests deeper than maxDepth";

impl AvroSchema {
    /// Passes over a value; `depth` levels may be below.
    pub(super) fn skip(&self, id: NodeId, cursor: &mut Cursor<'_>, depth: usize) -> Result<(), Fault> {
        cursor.step()?;
        match self.node(id) {
            Node::Null => Ok(()),
            Node::Boolean => boolean(cursor).map(drop),
            Node::Int(_) => cursor.int().map(drop),
            Node::Long(_) => cursor.long().map(drop),
            Node::Float => cursor.take(4).map(drop),
            Node::Double => cursor.take(8).map(drop),
            Node::Bytes(_) | Node::Text => cursor.sized().map(drop),
            Node::Fixed { size, .. } => cursor.take(*size).map(drop),
            Node::Enum(symbols) => cursor.index(symbols.len(), NO_SYMBOL).map(drop),
            Node::Union(branches) => {
                let branch = cursor.branch(branches.len())?;
                self.skip(branches[branch], cursor, depth)
            }
            Node::Array(item) => self.skip_blocks(*item, false, cursor, below(cursor, depth)?),
            Node::Map(value) => self.skip_blocks(*value, true, cursor, below(cursor, depth)?),
            Node::Record(fields) => {
                let depth = below(cursor, depth)?;
                fields.iter().try_for_each(|field| self.skip(field.node, cursor, depth))
            }
        }
    }

    fn skip_blocks(&self, item: NodeId, keys: bool, cursor: &mut Cursor<'_>, depth: usize) -> Result<(), Fault> {
        while let Some(block) = cursor.block()? {
            if let Some(bytes) = block.bytes {
                cursor.take(bytes)?;
                cursor.step()?;
                continue;
            }
            for _ in 0..block.items {
                if keys {
                    cursor.sized()?;
                }
                self.skip(item, cursor, depth)?;
            }
        }
        Ok(())
    }

    /// A value that holds no others.
    pub(super) fn scalar<'a>(&'a self, id: NodeId, cursor: &mut Cursor<'a>) -> Result<Scalar<'a>, Fault> {
        cursor.step()?;
        Ok(match self.node(id) {
            Node::Null => Scalar::Null,
            Node::Boolean => Scalar::Boolean(boolean(cursor)?),
            Node::Int(Meaning::Date) => Scalar::Date(cursor.int()?),
            Node::Int(_) => Scalar::Integer(i64::from(cursor.int()?)),
            Node::Long(Meaning::Instant(unit)) => Scalar::Instant(cursor.long()?, *unit),
            Node::Long(_) => Scalar::Integer(cursor.long()?),
            Node::Float => {
                let bytes = cursor.take(4)?.first_chunk().copied().unwrap_or_default();
                Scalar::Float(f32::from_le_bytes(bytes))
            }
            Node::Double => {
                let bytes = cursor.take(8)?.first_chunk().copied().unwrap_or_default();
                Scalar::Double(f64::from_le_bytes(bytes))
            }
            Node::Text => Scalar::Text(cursor.text()?),
            Node::Bytes(None) => Scalar::Bytes(cursor.sized()?),
            Node::Bytes(Some(scale)) => decimal(cursor.sized()?, *scale),
            Node::Fixed { size, kind } => {
                let bytes = cursor.take(*size)?;
                match kind {
                    FixedKind::Bytes => Scalar::Bytes(bytes),
                    FixedKind::Decimal(scale) => decimal(bytes, *scale),
                    FixedKind::Uuid => Scalar::Uuid(bytes.first_chunk().copied().unwrap_or_default()),
                }
            }
            Node::Enum(symbols) => Scalar::Text(&symbols[cursor.index(symbols.len(), NO_SYMBOL)?]),
            Node::Array(_) | Node::Map(_) | Node::Union(_) | Node::Record(_) => {
                unreachable!("these are read by their parts")
            }
        })
    }
}

const NO_SYMBOL: &str = "a symbol that the enum does not have";

/// One level down.
pub(super) fn below(cursor: &Cursor<'_>, depth: usize) -> Result<usize, Fault> {
    depth.checked_sub(1).ok_or_else(|| cursor.fault(BadReason::TooDeep, TOO_DEEP))
}

fn boolean(cursor: &mut Cursor<'_>) -> Result<bool, Fault> {
    match cursor.take(1)? {
        [0] => Ok(false),
        [1] => Ok(true),
        _ => Err(cursor.fault(BadReason::Syntax, "a boolean that is neither 0 nor 1")),
    }
}

/// A whole number of any length, the greatest byte first, in two's complement.
fn decimal(bytes: &[u8], scale: u8) -> Scalar<'_> {
    let negative = bytes.first().is_some_and(|first| *first >= 0x80);
    let fill = if negative { 0xff } else { 0 };
    let surplus = bytes.len().saturating_sub(size_of::<i128>());
    let (beyond, digits) = bytes.split_at(surplus);
    let fits = beyond.iter().all(|byte| *byte == fill)
        && (surplus == 0 || digits.first().is_some_and(|first| (*first >= 0x80) == negative));
    if !fits {
        return Scalar::GreatDecimal;
    }
    let mut all = [fill; size_of::<i128>()];
    all[size_of::<i128>() - digits.len()..].copy_from_slice(digits);
    Scalar::Decimal { unscaled: i128::from_be_bytes(all), scale }
}
