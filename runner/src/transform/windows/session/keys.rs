//! The keys of open sessions: numbered, found by their bytes, and forgotten when their last session is.

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::DataType;
use datafusion::error::Result;
use hashbrown::HashTable;
use twox_hash::XxHash3_64;

use super::super::super::values::{Encoded, ValueCodec};
use crate::engine::sets::TOGETHER;

/// No piece, or no key.
pub(super) const NONE: u32 = u32::MAX;

/// Length of a part of a key that is null.
const NULL: u32 = u32::MAX;

/// Bytes of forgotten keys that may lie unused.
const GARBAGE_FROM: usize = 4 << 20;

pub(super) struct Keys {
    codecs: Vec<ValueCodec>,
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    /// Hash and number.
    table: HashTable<(u32, u32)>,
    garbage: usize,
    scratch: Wanted,
}

/// Keys that are looked up together.
#[derive(Default)]
struct Wanted {
    bytes: Vec<u8>,
    /// End of each in `bytes`, its hash, and a number that has this hash.
    keys: Vec<(usize, u32, u32)>,
}

#[derive(Clone, Copy)]
struct Entry {
    start: usize,
    length: u32,
    hash: u32,
    /// First piece of the key that is open.
    head: u32,
    /// Pieces that have the key, the closed ones too while they wait to be emitted.
    users: u32,
}

/// The table takes its tag bits from the top of the hash.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

impl Keys {
    pub(super) fn new(types: &[DataType]) -> Result<Self> {
        Ok(Self {
            codecs: types.iter().map(ValueCodec::new).collect::<Result<_>>()?,
            bytes: vec![],
            entries: vec![],
            free: vec![],
            table: HashTable::new(),
            garbage: 0,
            scratch: Wanted::default(),
        })
    }

    /// Numbers of the keys of some rows. Each number that is new has no user yet: [`Self::forget_unused`].
    pub(super) fn number(&mut self, columns: &[ArrayRef], rows: usize, numbers: &mut Vec<u32>) -> Result<()> {
        numbers.clear();
        let encoded = self.codecs.iter().zip(columns).map(|(codec, column)| codec.encode(column));
        let encoded = encoded.collect::<Result<Vec<_>>>()?;
        let mut wanted = std::mem::take(&mut self.scratch);
        for first in (0..rows).step_by(TOGETHER) {
            wanted.bytes.clear();
            wanted.keys.clear();
            for row in first..rows.min(first + TOGETHER) {
                let start = wanted.bytes.len();
                write_key(&encoded, row, &mut wanted.bytes);
                wanted.keys.push((wanted.bytes.len(), hash_of(&wanted.bytes[start..]), NONE));
            }
            self.number_together(&mut wanted, numbers);
        }
        self.scratch = wanted;
        Ok(())
    }

    /// In steps, so that no key waits for the memory that another one is in.
    fn number_together(&mut self, wanted: &mut Wanted, numbers: &mut Vec<u32>) {
        for (_, hash, likely) in &mut wanted.keys {
            if let Some((_, number)) = self.table.find(spread(*hash), |(other, _)| other == hash) {
                *likely = *number;
            }
        }
        let mut start = 0;
        for &(end, hash, likely) in &wanted.keys {
            let key = &wanted.bytes[start..end];
            start = end;
            let found = likely != NONE && self.key(likely) == key;
            numbers.push(if found { likely } else { self.find_or_add(key, hash) });
        }
    }

    fn key(&self, number: u32) -> &[u8] {
        let entry = &self.entries[number as usize];
        &self.bytes[entry.start..entry.start + entry.length as usize]
    }

    fn find_or_add(&mut self, key: &[u8], hash: u32) -> u32 {
        let same = |&(other, number): &(u32, u32)| other == hash && self.key(number) == key;
        if let Some(&(_, number)) = self.table.find(spread(hash), same) {
            return number;
        }
        let entry = Entry { start: self.bytes.len(), length: key.len() as u32, hash, head: NONE, users: 0 };
        self.bytes.extend_from_slice(key);
        let number = match self.free.pop() {
            Some(number) => {
                self.entries[number as usize] = entry;
                number
            }
            None => {
                self.entries.push(entry);
                self.entries.len() as u32 - 1
            }
        };
        self.table.insert_unique(spread(hash), (hash, number), |&(hash, _)| spread(hash));
        number
    }

    pub(super) fn hash(&self, number: u32) -> u32 {
        self.entries[number as usize].hash
    }

    /// Numbers of all keys.
    pub(super) fn all(&self) -> Vec<u32> {
        self.table.iter().map(|(_, number)| *number).collect()
    }

    pub(super) fn first_piece(&self, number: u32) -> u32 {
        self.entries[number as usize].head
    }

    pub(super) fn head(&mut self, number: u32) -> &mut u32 {
        &mut self.entries[number as usize].head
    }

    pub(super) fn add_user(&mut self, number: u32) {
        self.entries[number as usize].users += 1;
    }

    pub(super) fn remove_user(&mut self, number: u32) {
        self.entries[number as usize].users -= 1;
        self.forget_unused(number);
    }

    /// Forgets a key that no piece has.
    pub(super) fn forget_unused(&mut self, number: u32) {
        let entry = self.entries[number as usize];
        if entry.users > 0 {
            return;
        }
        if let Ok(found) = self.table.find_entry(spread(entry.hash), |&(_, other)| other == number) {
            found.remove();
            self.garbage += entry.length as usize;
            self.free.push(number);
        }
    }

    /// Gives back the bytes of forgotten keys, when they are many.
    pub(super) fn tidy(&mut self) {
        if self.garbage < GARBAGE_FROM || self.garbage < self.bytes.len() / 2 {
            return;
        }
        let mut bytes = Vec::with_capacity(self.bytes.len() - self.garbage);
        for &(_, number) in &self.table {
            let entry = &mut self.entries[number as usize];
            let key = &self.bytes[entry.start..entry.start + entry.length as usize];
            entry.start = bytes.len();
            bytes.extend_from_slice(key);
        }
        (self.bytes, self.garbage) = (bytes, 0);
    }

    /// The columns of some keys.
    pub(super) fn columns(&self, numbers: &[u32]) -> Result<Vec<ArrayRef>> {
        let mut keys: Vec<&[u8]> = numbers.iter().map(|number| self.key(*number)).collect();
        let column = |codec: &ValueCodec| {
            let values = keys.iter_mut().map(read_part).collect::<Vec<_>>();
            codec.decode(&values)
        };
        self.codecs.iter().map(column).collect()
    }

    pub(super) fn size(&self) -> usize {
        self.bytes.capacity()
            + self.entries.capacity() * size_of::<Entry>()
            + self.table.capacity() * 9
            + self.free.capacity() * 4
    }
}

/// The buckets of snapshots follow it: the same in every version of the program.
fn hash_of(key: &[u8]) -> u32 {
    XxHash3_64::oneshot(key) as u32
}

/// Adds the key of a row to others.
fn write_key(columns: &[Encoded<'_>], row: usize, key: &mut Vec<u8>) {
    for column in columns {
        match column.value(row) {
            Some(value) => {
                key.extend_from_slice(&(value.len() as u32).to_le_bytes());
                key.extend_from_slice(value);
            }
            None => key.extend_from_slice(&NULL.to_le_bytes()),
        }
    }
}

/// Takes the first part off a key.
fn read_part<'a>(key: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = key.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length);
    if length == NULL {
        *key = rest;
        return None;
    }
    let (value, rest) = rest.split_at(length as usize);
    *key = rest;
    Some(value)
}
