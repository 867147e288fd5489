//! One pass over a record that finds the declared fields and checks everything else.
//!
//! The declared paths make a tree: the record, the fields at its top level, the fields inside those. The pass follows
//! the tree, notes where each declared field lies ([`Slot`]), and only checks what lies outside of the tree. It calls
//! itself once for each level of the *tree*, never for a level of the record, so records cannot exhaust the stack.

use hashbrown::HashMap;

use super::bad::{BadReason, Fault};
use super::scan::{self, Kind, Slot, byte_at, skip_space, unexpected};
use super::steps::{Key, StepId, Steps};
use super::text::unescape;

/// Levels that a declared path may have. The pass calls itself once per level.
pub(super) const PATH_LEVELS_MAX: usize = 32;

/// The record, or a field that is declared or leads to one: its index in [`Fields`], and that of its slot.
pub(super) type NodeId = u16;

/// The record itself.
const RECORD: NodeId = 0;

/// The declared fields, and where those of the last record lie.
pub(super) struct Fields {
    nodes: Vec<Node>,
    /// One for each node.
    slots: Vec<Slot>,
    steps: Steps,
    duplicate: Option<Fault>,
    max_depth: usize,
    /// Reused memory for names with escapes.
    name: String,
}

/// Where to look for a declared field after a record was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Slot of the field.
    pub(super) slot: usize,
    /// Slots of the objects around it, from the outside.
    pub(super) around: Vec<usize>,
}

/// What a key names.
#[derive(Clone, Copy)]
pub(super) enum Target {
    /// A field that nobody declared.
    Undeclared,
    /// A field that a column reads.
    Leaf(NodeId),
    /// A field inside of which columns read fields; perhaps another one reads the whole.
    Inner(NodeId),
}

#[derive(Default)]
struct Node {
    children: HashMap<Box<[u8]>, NodeId>,
    /// All nodes below: what a second occurrence of this field forgets.
    below: Vec<NodeId>,
    /// The first column, in declared order, that reads this field or one below.
    column: u16,
    /// The step to this field.
    step: StepId,
    /// The place before the first field of this object.
    start: StepId,
}

impl Fields {
    /// Fields for columns, each with its path (names from the top of the record on, 1 to [`PATH_LEVELS_MAX`] of them),
    /// in declared order; and the place of each one's field.
    pub(super) fn new<'a>(paths: impl Iterator<Item = (usize, &'a [String])>, max_depth: usize) -> (Self, Vec<Place>) {
        let mut nodes = vec![Node::default()];
        let mut places = Vec::new();
        for (column, path) in paths {
            let mut above = vec![RECORD];
            for name in path {
                let parent = above[above.len() - 1];
                let id = NodeId::try_from(nodes.len())
                    .expect("a source has at most 512 columns of 32 levels, or of 16 in four places");
                let id = *nodes[parent as usize].children.entry(name.as_bytes().into()).or_insert(id);
                if id as usize == nodes.len() {
                    nodes.push(Node { column: column as u16, ..Node::default() });
                    for &ancestor in &above {
                        nodes[ancestor as usize].below.push(id);
                    }
                }
                above.push(id);
            }
            let slots: Vec<usize> = above.iter().map(|&node| node as usize).collect();
            places.push(Place { slot: slots[path.len()], around: slots[1..path.len()].to_vec() });
        }
        let mut steps = Steps::new();
        for id in 0..nodes.len() {
            nodes[id].start = steps.add(id as NodeId);
            for child in nodes[id].children.values().copied().collect::<Vec<_>>() {
                nodes[child as usize].step = steps.add(id as NodeId);
            }
        }
        let slots = vec![Slot::ABSENT; nodes.len()];
        let fields = Self { nodes, slots, steps, duplicate: None, max_depth, name: String::new() };
        (fields, places)
    }

    /// Where the field of that slot lies in the record that was read last.
    #[inline(always)]
    pub(super) fn slot(&self, slot: usize) -> Slot {
        self.slots[slot]
    }

    /// Reads a record: checks all of it, and notes where the declared fields lie.
    #[inline]
    pub(super) fn read(&mut self, text: &str) -> Result<(), Fault> {
        let bytes = text.as_bytes();
        self.slots.fill(Slot::ABSENT);
        self.duplicate = None;
        let start = skip_space(bytes, 0);
        if byte_at(bytes, start) != b'{' {
            return Err(self.no_object(text));
        }
        let end = self.object(text, start, RECORD, 1)?;
        let rest = skip_space(bytes, end);
        if rest != bytes.len() {
            return Err(Fault::at(BadReason::Syntax, rest, "something stands behind the object"));
        }
        match self.duplicate {
            None => Ok(()),
            Some(fault) => Err(fault),
        }
    }

    /// Checks that a text is one JSON value of any kind.
    pub(super) fn check_value(&self, text: &str) -> Result<(), Fault> {
        let bytes = text.as_bytes();
        let start = skip_space(bytes, 0);
        if start == bytes.len() {
            return Err(Fault::new(BadReason::Empty, "the value is empty"));
        }
        let (_, end) = scan::value(bytes, start, self.max_depth)?;
        let rest = skip_space(bytes, end);
        if rest == bytes.len() {
            Ok(())
        } else {
            Err(Fault::at(BadReason::Syntax, rest, "something stands behind the JSON value"))
        }
    }

    /// Tells a value of another kind from a broken one and from none.
    #[cold]
    fn no_object(&self, text: &str) -> Fault {
        match self.check_value(text) {
            Err(fault) => fault,
            Ok(()) => {
                Fault::at(BadReason::NotObject, skip_space(text.as_bytes(), 0), "the value is JSON, but not an object")
            }
        }
    }

    /// Reads the object of that node, whose brace is at `brace`; gives the position behind it.
    fn object(&mut self, text: &str, brace: usize, node: NodeId, depth: usize) -> Result<usize, Fault> {
        let bytes = text.as_bytes();
        if depth > self.max_depth {
            return Err(Fault::at(BadReason::TooDeep, brace, "nests deeper than the source's maxDepth"));
        }
        let mut at = brace + 1;
        let end = skip_space(bytes, at);
        if byte_at(bytes, end) == b'}' {
            return Ok(end + 1);
        }
        let mut step = self.nodes[node as usize].start;
        loop {
            let target;
            (step, target, at) = match self.steps.guess(step, bytes, at) {
                Some(guessed) => guessed,
                None => self.next_key(text, at, node, step)?,
            };
            let value;
            (value, at) = match target {
                Target::Inner(field) => self.read_inner(text, at, field, depth)?,
                _ if byte_at(bytes, at) == b'"' => scan::string_value(bytes, at)?,
                _ => scan::spaced_value(bytes, at, self.max_depth - depth)?,
            };
            if let Target::Leaf(field) | Target::Inner(field) = target {
                self.found(field, node, value);
            }
            let mut separator = byte_at(bytes, at);
            if separator <= b' ' {
                at = skip_space(bytes, at);
                separator = byte_at(bytes, at);
            }
            at += 1;
            match separator {
                b',' => {}
                b'}' => return Ok(at),
                _ => return Err(unexpected(bytes, at - 1, "expected a comma or }")),
            }
        }
    }

    #[inline(always)]
    fn found(&mut self, field: NodeId, parent: NodeId, value: Slot) {
        let slot = &mut self.slots[field as usize];
        let again = *slot != Slot::ABSENT;
        *slot = value;
        if again && parent == RECORD {
            self.note_duplicate(field, value);
        }
    }

    #[inline(never)]
    fn read_inner(&mut self, text: &str, at: usize, field: NodeId, depth: usize) -> Result<(Slot, usize), Fault> {
        self.forget_below(field);
        let at = skip_space(text.as_bytes(), at);
        if byte_at(text.as_bytes(), at) != b'{' {
            return scan::value(text.as_bytes(), at, self.max_depth - depth);
        }
        let end = self.object(text, at, field, depth + 1)?;
        Ok((Slot::new(Kind::Object, at, end), end))
    }

    /// The last occurrence of a field below the top level wins with everything in it.
    fn forget_below(&mut self, field: NodeId) {
        for &node in &self.nodes[field as usize].below {
            self.slots[node as usize] = Slot::ABSENT;
        }
    }

    /// Kept until the whole record is read: a record that is also broken JSON is bad for that.
    #[cold]
    fn note_duplicate(&mut self, field: NodeId, value: Slot) {
        let fault = value.fault(BadReason::DuplicateField, "a declared field stands twice");
        self.duplicate.get_or_insert(fault.of_column(self.nodes[field as usize].column as usize));
    }

    /// Reads the key behind a comma or brace when it is not the expected one; gives as [`Steps::guess`].
    #[inline(never)]
    fn next_key(
        &mut self,
        text: &str,
        from: usize,
        node: NodeId,
        step: StepId,
    ) -> Result<(StepId, Target, usize), Fault> {
        let bytes = text.as_bytes();
        if let Some(guessed) = self.steps.guess_without_one(step, bytes, from) {
            return Ok(guessed);
        }
        let quote = skip_space(bytes, from);
        let (kind, end, value_at) = scan::key(bytes, quote)?;
        let mut name = &text[quote + 1..end];
        if kind == Kind::EscapedText {
            self.name.clear();
            unescape(name, &mut self.name);
            name = &self.name;
        }
        let field = self.nodes[node as usize].children.get(name.as_bytes()).copied();
        let target = match field {
            None => Target::Undeclared,
            Some(field) if self.nodes[field as usize].below.is_empty() => Target::Leaf(field),
            Some(field) => Target::Inner(field),
        };
        let own_step = field.map(|field| self.nodes[field as usize].step);
        let key = Key { object: node, record: bytes, range: from..value_at, target, own_step };
        let step = self.steps.learn(step, &key);
        Ok((step, target, value_at))
    }
}
