//! Guesses at the next field of an object: records of one topic look alike.
//!
//! After a field comes the field that came after it last time, with the same bytes between comma and value
//! (`"user_id":`, white space included). A [`Step`] keeps these bytes and the field that they name; each step knows the
//! one that followed it last. A right guess costs one comparison of 32 bytes instead of reading a key and looking it
//! up. A wrong one costs time, never correctness: the bytes were read by the grammar once, behind a comma or the
//! opening brace of the same object, where what they are depends on nothing but themselves.

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

    /// Looks whether what followed `current` before stands at `at` again; gives the step, its field, and where the
    /// value begins.
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

#[cfg(test)]
mod tests {
    use super::*;

    const FIELD: Target = Target::Leaf(7);

    fn learn(steps: &mut Steps, current: StepId, text: &str, own_step: Option<StepId>) -> StepId {
        let target = if own_step.is_some() { FIELD } else { Target::Undeclared };
        let range = 0..text.find(':').map_or(text.len(), |colon| colon + 1);
        steps.learn(current, &Key { object: 0, record: text.as_bytes(), range, target, own_step })
    }

    #[test]
    fn what_was_learned_is_guessed_at_the_end_of_a_record_and_before_it() {
        let mut steps = Steps::new();
        let (start, long, short) = (steps.add(0), steps.add(0), steps.add(0));
        learn(&mut steps, start, "\"a name of 28 characters, and\":1", Some(long));
        learn(&mut steps, long, "\"a longer one\":1", Some(short));
        learn(&mut steps, long, "\"a\":1", Some(short));
        for behind in ["1}".to_owned(), " ".repeat(40)] {
            let record = format!("\"a\":{behind}");
            let guess = steps.guess(long, record.as_bytes(), 0).map(|(id, _, value_at)| (id, value_at));
            assert_eq!(guess, Some((short, 4)), "{record}");
            assert!(steps.guess(start, record.as_bytes(), 0).is_none());
            let guess = steps.guess_without_one(start, record.as_bytes(), 0).map(|(id, _, value_at)| (id, value_at));
            assert_eq!(guess, Some((short, 4)), "{record}");
            for wrong in ["\"a\"x", "\"b\":", "'a\":", "\"a :", ""] {
                assert!(steps.guess(long, format!("{wrong}{behind}").as_bytes(), 0).is_none(), "{wrong}{behind}");
            }
        }
    }

    #[test]
    fn names_without_end_take_no_memory_without_end() {
        let mut steps = Steps::new();
        let start = steps.add(0);
        for n in 0..1_000 {
            learn(&mut steps, start, &format!("\"undeclared {n}\":"), None);
            learn(&mut steps, start, &format!("\"undeclared, and too long to be kept {n}\":"), None);
        }
        assert_eq!(steps.steps.len(), 2 + UNDECLARED_STEPS_MAX);
        let known = learn(&mut steps, start, "\"undeclared 5\":", None);
        assert_eq!(steps.steps[start as usize].next, known);
    }

    #[test]
    fn a_name_that_is_too_long_takes_no_room_from_others() {
        let mut steps = Steps::new();
        let start = steps.add(0);
        for n in 0..1_000 {
            assert_eq!(
                learn(&mut steps, start, &format!("\"undeclared, and too long to be kept {n}\":"), None),
                NO_STEP
            );
        }
        assert_ne!(learn(&mut steps, start, "\"undeclared\":", None), NO_STEP);
    }
}
