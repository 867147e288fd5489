//! Guesses at the next field of an object: records of one topic look alike.
//!
//! After a field comes the field that came after it last time, with the same bytes between comma and value (`"user_id":`,
//! white space included). A [`Step`] keeps these bytes and the field that they name; each step knows the one that
//! followed it last. A right guess costs one comparison of 32 bytes instead of reading a key and looking it up. A wrong one
//! costs time, never correctness: the bytes were read by the grammar once, behind a comma or the opening brace of the same
//! object, where what they are depends on nothing but themselves.

use std::ops::Range;

use super::fields::{NodeId, Target};

/// Longest bytes of a step: a name of 28 characters in quotes, a colon and a space. Longer ones are read each time. Two
/// comparisons of 16 bytes.
const STEP_BYTES: usize = 32;

/// Steps kept for fields that nobody declared. More than the records of a topic usually have; names that are data
/// (`{"<id>": …}`) stop being learned here instead of filling the memory.
const UNDECLARED_STEPS_MAX: usize = 64;

/// A step: an index in [`Steps`].
pub(super) type StepId = u16;

/// The step that never fits, and that nothing follows.
const NO_STEP: StepId = 0;

/// All steps of a decoder.
pub(super) struct Steps {
    steps: Vec<Step>,
    /// Those to fields that nobody declared.
    undeclared: Vec<StepId>,
}

/// A key that was read by the grammar.
pub(super) struct Key<'a> {
    /// The object it stands in.
    pub(super) object: NodeId,
    /// The bytes of the record.
    pub(super) record: &'a [u8],
    /// From behind the comma or brace before it to the first byte of its value.
    pub(super) range: Range<usize>,
    /// What it names.
    pub(super) target: Target,
    /// The step of that field, if it is declared.
    pub(super) own_step: Option<StepId>,
}

struct Step {
    bytes: [u8; STEP_BYTES],
    /// 0xff for each byte that counts.
    mask: [u8; STEP_BYTES],
    length: u8,
    /// The field that the bytes name.
    target: Target,
    /// The object they were read in.
    object: NodeId,
    /// The step that followed last time.
    next: StepId,
}

impl Steps {
    pub(super) fn new() -> Self {
        Self { steps: vec![Step::unknown(0)], undeclared: Vec::new() }
    }

    /// Adds a step inside of an object: to one of its fields, or to the place before its first field.
    pub(super) fn add(&mut self, object: NodeId) -> StepId {
        self.steps.push(Step::unknown(object));
        StepId::try_from(self.steps.len() - 1).expect("there are two steps for each of at most 16,385 fields")
    }

    /// Looks whether what followed `current` before stands at `at` again; gives the step, its field, and where the value
    /// begins.
    #[inline(always)]
    pub(super) fn guess(&self, current: StepId, bytes: &[u8], at: usize) -> Option<(StepId, Target, usize)> {
        let id = self.steps[current as usize].next;
        let step = &self.steps[id as usize];
        if step.fits(bytes, at) { Some((id, step.target, at + step.length as usize)) } else { None }
    }

    /// As [`Self::guess`], one step further: an optional field may be absent.
    #[inline(always)]
    pub(super) fn guess_without_one(
        &self,
        current: StepId,
        bytes: &[u8],
        at: usize,
    ) -> Option<(StepId, Target, usize)> {
        self.guess(self.steps[current as usize].next, bytes, at)
    }

    /// Keeps that a key followed `current`; gives the step to go on from.
    pub(super) fn learn(&mut self, current: StepId, key: &Key<'_>) -> StepId {
        let Some(id) = key.own_step.or_else(|| self.undeclared(key)) else { return NO_STEP };
        let step = &mut self.steps[id as usize];
        if !step.fits(key.record, key.range.start) {
            if key.range.len() > STEP_BYTES {
                return id;
            }
            step.set(&key.record[key.range.clone()], key.target);
        }
        if current != NO_STEP {
            self.steps[current as usize].next = id;
        }
        id
    }

    /// The step of an undeclared field, if there is one or room for one.
    fn undeclared(&mut self, key: &Key<'_>) -> Option<StepId> {
        let same = |&id: &StepId| {
            let step = &self.steps[id as usize];
            step.object == key.object && step.fits(key.record, key.range.start)
        };
        if let Some(known) = self.undeclared.iter().copied().find(same) {
            return Some(known);
        }
        if self.undeclared.len() == UNDECLARED_STEPS_MAX || key.range.len() > STEP_BYTES {
            return None;
        }
        let id = self.add(key.object);
        self.undeclared.push(id);
        Some(id)
    }
}

impl Step {
    /// A step that fits nowhere: 0xff stands in no UTF-8 text.
    fn unknown(object: NodeId) -> Self {
        let (bytes, mask) = ([0xff; STEP_BYTES], [0xff; STEP_BYTES]);
        Self { bytes, mask, length: STEP_BYTES as u8, target: Target::Undeclared, object, next: NO_STEP }
    }

    fn set(&mut self, bytes: &[u8], target: Target) {
        let length = bytes.len();
        self.bytes[..length].copy_from_slice(bytes);
        self.mask[..length].fill(0xff);
        self.mask[length..].fill(0);
        self.length = length as u8;
        self.target = target;
    }

    /// Whether the step's bytes stand there.
    #[inline(always)]
    fn fits(&self, bytes: &[u8], at: usize) -> bool {
        let rest = &bytes[at..];
        match rest.first_chunk::<STEP_BYTES>() {
            Some(chunk) => self.differs::<0>(chunk) | self.differs::<16>(chunk) == 0,
            None => rest.starts_with(&self.bytes[..self.length as usize]),
        }
    }

    /// Not 0 if the 16 bytes from `FROM` on are not the step's.
    #[inline(always)]
    fn differs<const FROM: usize>(&self, chunk: &[u8; STEP_BYTES]) -> u128 {
        let sixteen = |bytes: &[u8; STEP_BYTES]| {
            let mut part = [0; 16];
            part.copy_from_slice(&bytes[FROM..FROM + 16]);
            u128::from_le_bytes(part)
        };
        (sixteen(chunk) ^ sixteen(&self.bytes)) & sixteen(&self.mask)
    }
}
