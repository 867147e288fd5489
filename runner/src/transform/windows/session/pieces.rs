//! The open pieces of sessions: where a fragment of events belongs, and which sessions have ended. Pure bookkeeping of
//! times; what is accumulated for a piece lies in the slot of its number.

use std::collections::BTreeMap;

use super::Session;
use super::keys::NONE;

/// Starts are counted by the second.
const SECOND: i64 = 1_000_000;

/// Events of a key that follow each other without a gap, in one cell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) key: u32,
    /// The next piece of the key.
    next: u32,
    /// Version of the batch that first put an event into it.
    pub(super) version: u64,
    /// The same of the piece before, whose session was cut off from this one and may be closed already.
    pub(super) before: Option<u64>,
}

impl Piece {
    /// Where a rebuild begins: the piece before must come again, or nothing would be cut.
    pub(super) fn replay_from(&self) -> u64 {
        self.before.map_or(self.version, |before| before.min(self.version))
    }
}

/// Events of one key without a gap, in one cell, that come together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fragment {
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) version: u64,
    pub(super) before: Option<u64>,
}

/// A session that has ended: its only piece, whose number is not open any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) piece: u32,
    pub(super) end: i64,
}

/// What becomes of accumulators and counts when pieces change.
pub(super) trait Changes {
    /// A piece appeared.
    fn opened(&mut self, piece: u32, what: &Piece);
    /// A piece's version or place changed.
    fn changed(&mut self, piece: u32, from: &Piece, to: &Piece);
    /// A piece is not open any more.
    fn closed(&mut self, piece: u32, what: &Piece);
    /// All that one piece has belongs to another.
    fn united(&mut self, key: u32, into: u32, from: u32);
    /// The piece may close at this time, and not before.
    fn wait(&mut self, piece: u32, time: i64);
}

pub(super) struct Pieces {
    session: Session,
    pieces: Vec<Piece>,
    free: Vec<u32>,
    /// Number of pieces that begin in each second.
    starts: BTreeMap<i64, usize>,
    /// Pieces of the key at hand; kept for its memory.
    chain: Vec<u32>,
}

impl Pieces {
    pub(super) fn new(session: Session) -> Self {
        Self { session, pieces: vec![], free: vec![], starts: BTreeMap::new(), chain: vec![] }
    }

    pub(super) fn get(&self, piece: u32) -> &Piece {
        &self.pieces[piece as usize]
    }

    /// Reads the first pieces of some keys, so that the processor has them at hand: it waits for all of them at once.
    pub(super) fn fetch(&self, heads: impl Iterator<Item = u32>) {
        for head in heads.filter(|head| *head != NONE) {
            std::hint::black_box(self.pieces[head as usize].last);
        }
    }

    /// The next piece of the key.
    pub(super) fn next(&self, piece: u32) -> u32 {
        self.pieces[piece as usize].next
    }

    /// Numbers up to here have been given to pieces.
    pub(super) fn numbers(&self) -> usize {
        self.pieces.len()
    }

    /// Puts a fragment of a key's events where it belongs: into a piece, uniting several if it lies between them, or
    /// into a new one. `None` if the session that it would join has ended at the watermark.
    pub(super) fn put(
        &mut self,
        key: u32,
        head: &mut u32,
        fragment: Fragment,
        watermark: Option<i64>,
        changes: &mut impl Changes,
    ) -> Option<u32> {
        if *head != NONE && self.pieces[*head as usize].next == NONE && self.joins(*head, &fragment) {
            let piece = *head;
            self.extend(piece, &fragment, changes);
            return Some(piece);
        }
        self.collect_chain(*head);
        let chain = std::mem::take(&mut self.chain);
        let mut joined = chain.iter().copied().filter(|piece| self.joins(*piece, &fragment));
        let put = match joined.next() {
            Some(into) => {
                let others: Vec<u32> = joined.collect();
                self.extend(into, &fragment, changes);
                for from in others {
                    self.unlink(head, from, changes);
                    let what = self.pieces[from as usize];
                    let rest =
                        Fragment { first: what.first, last: what.last, version: what.version, before: what.before };
                    self.extend(into, &rest, changes);
                    changes.united(key, into, from);
                    self.free.push(from);
                }
                Some(into)
            }
            None if self.is_late(&chain, &fragment, watermark) => None,
            None => Some(self.open(key, head, &fragment, changes)),
        };
        self.chain = chain;
        if put.is_some() && !self.chain.is_empty() {
            self.wait_for_chain(*head, changes);
        }
        put
    }

    /// Whether a fragment belongs to a piece: the same cell, and no gap between them.
    fn joins(&self, piece: u32, fragment: &Fragment) -> bool {
        let piece = &self.pieces[piece as usize];
        self.session.near(piece.last, fragment.first)
            && self.session.near(fragment.last, piece.first)
            && self.session.edge_after(piece.first) == self.session.edge_after(fragment.first)
    }

    fn extend(&mut self, number: u32, fragment: &Fragment, changes: &mut impl Changes) {
        let from = self.pieces[number as usize];
        let piece = &mut self.pieces[number as usize];
        piece.first = piece.first.min(fragment.first);
        piece.last = piece.last.max(fragment.last);
        piece.version = piece.version.min(fragment.version);
        piece.before = match (piece.before, fragment.before) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let to = *piece;
        if to.first != from.first {
            self.count_start(from.first, false);
            self.count_start(to.first, true);
        }
        changes.changed(number, &from, &to);
    }

    fn open(&mut self, key: u32, head: &mut u32, fragment: &Fragment, changes: &mut impl Changes) -> u32 {
        let Fragment { first, last, version, before } = *fragment;
        let piece = Piece { first, last, key, next: *head, version, before };
        let number = match self.free.pop() {
            Some(number) => {
                self.pieces[number as usize] = piece;
                number
            }
            None => {
                self.pieces.push(piece);
                self.pieces.len() as u32 - 1
            }
        };
        *head = number;
        self.count_start(first, true);
        changes.opened(number, &piece);
        changes.wait(number, self.earliest_end(&piece));
        number
    }

    /// Takes a piece out of its key's.
    fn unlink(&mut self, head: &mut u32, piece: u32, changes: &mut impl Changes) {
        let next = self.pieces[piece as usize].next;
        if *head == piece {
            *head = next;
        } else {
            let mut at = *head;
            while at != NONE && self.pieces[at as usize].next != piece {
                at = self.pieces[at as usize].next;
            }
            if at != NONE {
                self.pieces[at as usize].next = next;
            }
        }
        let what = self.pieces[piece as usize];
        self.count_start(what.first, false);
        changes.closed(piece, &what);
    }

    /// The number may be given to another piece.
    pub(super) fn release(&mut self, piece: u32) {
        self.free.push(piece);
    }

    /// The pieces of a key by time.
    fn collect_chain(&mut self, head: u32) {
        self.chain.clear();
        let mut at = head;
        while at != NONE {
            self.chain.push(at);
            at = self.pieces[at as usize].next;
        }
        let pieces = &self.pieces;
        self.chain.sort_unstable_by_key(|piece| pieces[*piece as usize].first);
    }

    /// Whether two neighbouring pieces follow each other without a gap.
    fn follows(&self, a: &Fragment, b: &Fragment) -> bool {
        self.session.near(a.last, b.first)
    }

    /// Whether neighbouring pieces belong to different sessions.
    fn is_cut(&self, a: &Fragment, b: &Fragment) -> bool {
        b.before.is_some() || b.last.saturating_sub(a.first) >= self.session.maximum
    }

    fn as_fragment(&self, piece: u32) -> Fragment {
        let piece = &self.pieces[piece as usize];
        Fragment { first: piece.first, last: piece.last, version: piece.version, before: piece.before }
    }

    /// Whether the session of a fragment that joins no piece in its cell has ended.
    fn is_late(&self, chain: &[u32], fragment: &Fragment, watermark: Option<i64>) -> bool {
        let Some(watermark) = watermark else { return false };
        let after = chain.iter().map(|piece| self.as_fragment(*piece)).find(|piece| piece.first > fragment.last);
        let end = match after.filter(|after| self.follows(fragment, after)) {
            // Goes on in a session that is open.
            Some(after) if !self.is_cut(fragment, &after) => return false,
            Some(_) => self.session.edge_after(fragment.last),
            None => self.session.end_of(fragment.last),
        };
        end <= watermark
    }

    /// No session that has this piece ends before.
    fn earliest_end(&self, piece: &Piece) -> i64 {
        self.session.end_of(piece.last).min(self.session.edge_after(piece.last))
    }

    /// What was not cut may be cut now: the pieces of a key that has several are looked at in time.
    fn wait_for_chain(&mut self, head: u32, changes: &mut impl Changes) {
        if head == NONE || self.pieces[head as usize].next == NONE {
            return;
        }
        let mut at = head;
        while at != NONE {
            let piece = self.pieces[at as usize];
            changes.wait(at, self.earliest_end(&piece));
            at = piece.next;
        }
    }

    /// Takes the sessions of a key that have ended at the watermark; the others are waited for.
    pub(super) fn end(&mut self, head: &mut u32, watermark: i64, changes: &mut impl Changes, ended: &mut Vec<Ended>) {
        if *head == NONE {
            return;
        }
        if self.pieces[*head as usize].next == NONE {
            let piece = *head;
            let end = self.session.end_of(self.pieces[piece as usize].last);
            if end > watermark {
                changes.wait(piece, end);
                return;
            }
            self.unlink(head, piece, changes);
            ended.push(Ended { piece, end });
            return;
        }
        self.collect_chain(*head);
        let chain = std::mem::take(&mut self.chain);
        let mut from = 0;
        while from < chain.len() {
            let mut to = from;
            let mut end = self.session.end_of(self.pieces[chain[to] as usize].last);
            // The piece that is cut off at the end, if one is.
            let mut cut_off = None;
            while let Some(next) = chain.get(to + 1) {
                let (a, b) = (self.as_fragment(chain[to]), self.as_fragment(*next));
                if !self.follows(&a, &b) {
                    break;
                }
                if self.is_cut(&a, &b) {
                    end = self.session.edge_after(a.last);
                    cut_off = Some((*next, a.version));
                    break;
                }
                to += 1;
                end = self.session.end_of(b.last);
            }
            let whole = &chain[from..=to];
            from = to + 1;
            if end > watermark {
                whole.iter().for_each(|piece| changes.wait(*piece, end));
                continue;
            }
            if let Some((next, version)) = cut_off {
                let mark = Fragment { before: Some(version), ..self.as_fragment(next) };
                self.extend(next, &mark, changes);
            }
            self.close_whole(head, whole, changes);
            ended.push(Ended { piece: whole[0], end });
        }
        self.chain = chain;
    }

    /// Makes one piece of a session's, and takes it out of its key's.
    fn close_whole(&mut self, head: &mut u32, whole: &[u32], changes: &mut impl Changes) {
        for piece in whole {
            self.unlink(head, *piece, changes);
        }
        for from in &whole[1..] {
            let last = self.pieces[*from as usize].last;
            self.pieces[whole[0] as usize].last = last;
            let key = self.pieces[*from as usize].key;
            changes.united(key, whole[0], *from);
            self.free.push(*from);
        }
    }

    fn count_start(&mut self, first: i64, begins: bool) {
        let second = first.div_euclid(SECOND);
        let pieces = self.starts.entry(second).or_default();
        if begins {
            *pieces += 1;
        } else {
            *pieces -= 1;
            if *pieces == 0 {
                self.starts.remove(&second);
            }
        }
    }

    /// Start of the oldest piece, at a whole second at or before it.
    pub(super) fn oldest(&self) -> Option<i64> {
        self.starts.first_key_value().map(|(second, _)| second.saturating_mul(SECOND))
    }

    pub(super) fn size(&self) -> usize {
        self.pieces.capacity() * size_of::<Piece>() + self.free.capacity() * 4 + self.starts.len() * 32
    }
}
