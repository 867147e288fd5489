//! Parts of the state of sessions: buckets by the hash of the key.
//!
//! A bucket's number says how many there are: with `2^bits` of them they are numbered from `2^bits` on.

use std::collections::BTreeMap;

use super::super::OpenPart;

/// Sessions in a bucket before there are twice as many: its state is then a few megabytes.
const SESSIONS_MAX: usize = 32_768;

/// 256 buckets: more would be more files than a snapshot should have.
const BITS_MAX: u32 = 8;

#[derive(Default)]
struct Bucket {
    /// Number of pieces by the version that a rebuild of theirs begins at.
    versions: BTreeMap<u64, usize>,
    pieces: usize,
    changed: bool,
}

pub(super) struct Buckets {
    bits: u32,
    buckets: Vec<Bucket>,
    pieces: usize,
}

impl Buckets {
    pub(super) fn new() -> Self {
        Self::of(0)
    }

    fn of(bits: u32) -> Self {
        Self { bits, buckets: (0..1_usize << bits).map(|_| Bucket::default()).collect(), pieces: 0 }
    }

    fn index(&self, hash: u32) -> usize {
        (u64::from(hash) << self.bits >> 32) as usize
    }

    /// Number of the part that a key's sessions are in.
    pub(super) fn part(&self, hash: u32) -> i64 {
        (1_i64 << self.bits) + self.index(hash) as i64
    }

    pub(super) fn add(&mut self, hash: u32, version: u64) {
        let index = self.index(hash);
        let bucket = &mut self.buckets[index];
        *bucket.versions.entry(version).or_default() += 1;
        bucket.pieces += 1;
        self.pieces += 1;
    }

    pub(super) fn remove(&mut self, hash: u32, version: u64) {
        let index = self.index(hash);
        let bucket = &mut self.buckets[index];
        if let Some(pieces) = bucket.versions.get_mut(&version) {
            *pieces -= 1;
            if *pieces == 0 {
                bucket.versions.remove(&version);
            }
        }
        bucket.pieces -= 1;
        bucket.changed = true;
        self.pieces -= 1;
    }

    pub(super) fn touch(&mut self, hash: u32) {
        let index = self.index(hash);
        self.buckets[index].changed = true;
    }

    /// Pieces in a part.
    pub(super) fn pieces_in(&self, part: i64) -> usize {
        self.index_of(part).map_or(0, |index| self.buckets[index].pieces)
    }

    /// Whether [`Self::grow`] would make more of them.
    pub(super) fn is_full(&self) -> bool {
        self.pieces > SESSIONS_MAX << self.bits && self.bits < BITS_MAX
    }

    pub(super) fn set_clean(&mut self, part: i64) {
        if let Some(index) = self.index_of(part) {
            self.buckets[index].changed = false;
        }
    }

    /// The bucket of a part's number, if there are as many as the number says.
    fn index_of(&self, part: i64) -> Option<usize> {
        let index = part.checked_sub(1 << self.bits)?;
        usize::try_from(index).ok().filter(|index| *index < self.buckets.len())
    }

    /// As many buckets as a part's number says, while there is nothing in them.
    pub(super) fn fit(&mut self, part: i64) {
        let bits = 63_u32.saturating_sub(part.max(1).leading_zeros());
        if self.pieces == 0 && bits <= BITS_MAX && bits != self.bits {
            *self = Self::of(bits);
        }
    }

    /// More buckets for many sessions: `pieces` gives hash and version of each. All of them are new parts.
    pub(super) fn grow(&mut self, pieces: impl Iterator<Item = (u32, u64)>) {
        let mut bits = self.bits;
        while self.pieces > SESSIONS_MAX << bits && bits < BITS_MAX {
            bits += 1;
        }
        if bits == self.bits {
            return;
        }
        *self = Self::of(bits);
        for (hash, version) in pieces {
            self.add(hash, version);
            self.touch(hash);
        }
    }

    pub(super) fn pieces(&self) -> usize {
        self.pieces
    }

    pub(super) fn open_parts(&self, bytes: usize) -> Vec<OpenPart> {
        let numbers = (1_i64 << self.bits)..;
        let filled = numbers.zip(&self.buckets).filter(|(_, bucket)| bucket.pieces > 0);
        filled
            .map(|(part, bucket)| OpenPart {
                part,
                first_version: bucket.versions.first_key_value().map_or(0, |(version, _)| *version),
                groups: bucket.pieces,
                bytes: (bytes as u128 * bucket.pieces as u128 / self.pieces.max(1) as u128) as usize,
                changed_since_snapshot: bucket.changed,
            })
            .collect()
    }
}
