//! Columns of the types that hold other types: list, struct, map.
//!
//! Their values were checked when the record was read, and lie in it unparsed; here they are walked. Calls nest as deep
//! as the declared type (16 at most), never as deep as a record.

use std::borrow::Cow;
use std::sync::Arc;

use data_platform_crds::column::{ColumnType, TimestampUnit};
use datafusion::arrow::array::{ArrayRef, ListArray, MapArray, NullBufferBuilder, StructArray};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields};
use hashbrown::HashMap;

use super::bad::{BadReason, Fault};
use super::column::{Column, Limits, Scratch, quoted_value};
use super::plan::{list_item, map_entries, struct_fields};
use super::scan::{self, DEPTH_MAX, Kind, Slot, byte_at, skip_space};
use super::text::unescape;
use super::views::{BinaryViews, TextViews, take_with_room};
use crate::source::record::Headers;

/// Where each list begins among the items of all lists of the batch, and where the last one ends.
struct Offsets(Vec<i32>);

impl Offsets {
    fn new() -> Self {
        Self(vec![0])
    }

    /// Ends a list behind the `items`th item.
    fn push(&mut self, items: usize) {
        // An item takes a byte of a batch at least, and a batch is finished long before it has 2 GiB.
        self.0.push(i32::try_from(items).expect("batches are finished before they have 2^31 items"));
    }

    fn push_empty(&mut self) {
        self.0.push(self.0.last().copied().unwrap_or(0));
    }

    /// Keeps the first `length` lists; gives the number of their items.
    fn truncate(&mut self, length: usize) -> usize {
        self.0.truncate(length + 1);
        self.0.last().copied().unwrap_or(0) as usize
    }

    fn bytes(&self) -> usize {
        size_of_val(self.0.as_slice())
    }

    fn finish(&mut self) -> OffsetBuffer<i32> {
        let offsets = take_with_room(&mut self.0);
        self.0.push(0);
        OffsetBuffer::new(ScalarBuffer::from(offsets))
    }
}

/// `array<T>`.
pub(super) struct ListColumn {
    field: FieldRef,
    offsets: Offsets,
    items: Column,
}

impl ListColumn {
    pub(super) fn new(item: &ColumnType, unit: TimestampUnit) -> Self {
        let field = list_item(item);
        Self { field, offsets: Offsets::new(), items: Column::new(item, Limits::NONE, unit) }
    }

    pub(super) fn append(&mut self, text: &str, slot: Slot, scratch: &mut Scratch) -> Result<(), Fault> {
        if slot.kind() != Kind::Array {
            return Err(slot.fault(BadReason::WrongType, "expected an array"));
        }
        let bytes = text.as_bytes();
        let mut at = skip_space(bytes, slot.start() + 1);
        while byte_at(bytes, at) != b']' {
            let (item, end) = scan::value(bytes, at, DEPTH_MAX)?;
            self.items.append(text, item, scratch)?;
            at = next_value(bytes, end);
        }
        self.end();
        Ok(())
    }

    /// The items of all lists; those behind the last list are of the one that [`Self::end`] makes.
    pub(super) fn items(&mut self) -> &mut Column {
        &mut self.items
    }

    /// Ends a list behind the items that there are.
    pub(super) fn end(&mut self) {
        self.offsets.push(self.items.len());
    }

    pub(super) fn push_empty(&mut self) {
        self.offsets.push_empty();
    }

    pub(super) fn truncate(&mut self, length: usize) {
        let items = self.offsets.truncate(length);
        self.items.truncate(items);
    }

    pub(super) fn bytes(&self) -> usize {
        self.offsets.bytes() + self.items.bytes()
    }

    pub(super) fn finish(&mut self, nulls: Option<NullBuffer>) -> ArrayRef {
        let (offsets, items) = (self.offsets.finish(), self.items.finish());
        Arc::new(ListArray::new(Arc::clone(&self.field), offsets, items, nulls))
    }
}

/// `struct<name:T,…>`.
pub(super) struct StructColumn {
    fields: Fields,
    by_name: HashMap<Box<str>, usize>,
    columns: Vec<Column>,
}

impl StructColumn {
    pub(super) fn new(fields: &[(String, ColumnType)], unit: TimestampUnit) -> Self {
        Self {
            fields: struct_fields(fields),
            by_name: fields.iter().enumerate().map(|(index, (name, _))| (name.as_str().into(), index)).collect(),
            columns: fields.iter().map(|(_, column_type)| Column::new(column_type, Limits::NONE, unit)).collect(),
        }
    }

    pub(super) fn append(&mut self, text: &str, slot: Slot, scratch: &mut Scratch) -> Result<(), Fault> {
        if slot.kind() != Kind::Object {
            return Err(slot.fault(BadReason::WrongType, "expected an object"));
        }
        // The fields' slots are pushed on a stack, since values inside are read before these are done with.
        let base = scratch.slots.len();
        scratch.slots.resize(base + self.columns.len(), Slot::ABSENT);
        let done = self.append_fields(text, slot, base, scratch);
        scratch.slots.truncate(base);
        done
    }

    fn append_fields(&mut self, text: &str, slot: Slot, base: usize, scratch: &mut Scratch) -> Result<(), Fault> {
        let mut entries = Entries::of(text, slot);
        while let Some((key, value)) = entries.next()? {
            let name = quoted_value(text, key, &mut scratch.text).unwrap_or_default();
            // The last of several fields of one name wins.
            if let Some(&index) = self.by_name.get(name) {
                scratch.slots[base + index] = value;
            }
        }
        for (index, column) in self.columns.iter_mut().enumerate() {
            column.append(text, scratch.slots[base + index], scratch)?;
        }
        Ok(())
    }

    /// The names of its fields.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|field| field.name().as_str())
    }

    /// The field of this index, of which each struct must be given one value.
    pub(super) fn field(&mut self, index: usize) -> &mut Column {
        &mut self.columns[index]
    }

    pub(super) fn push_null(&mut self) {
        for column in &mut self.columns {
            column.push_null();
        }
    }

    pub(super) fn truncate(&mut self, length: usize) {
        for column in &mut self.columns {
            column.truncate(length);
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.columns.iter().map(Column::bytes).sum()
    }

    pub(super) fn finish(&mut self, nulls: Option<NullBuffer>) -> ArrayRef {
        let columns = self.columns.iter_mut().map(Column::finish).collect();
        Arc::new(StructArray::new(self.fields.clone(), columns, nulls))
    }
}

/// `map<string,T>`.
pub(super) struct MapColumn {
    field: FieldRef,
    offsets: Offsets,
    keys: TextViews,
    values: Column,
}

impl MapColumn {
    pub(super) fn new(value: &ColumnType, unit: TimestampUnit) -> Self {
        Self {
            field: map_entries(value),
            offsets: Offsets::new(),
            keys: TextViews::default(),
            values: Column::new(value, Limits::NONE, unit),
        }
    }

    pub(super) fn append(&mut self, text: &str, slot: Slot, scratch: &mut Scratch) -> Result<(), Fault> {
        if slot.kind() != Kind::Object {
            return Err(slot.fault(BadReason::WrongType, "expected an object"));
        }
        let base = scratch.entries.len();
        let done = self.append_entries(text, slot, base, scratch);
        scratch.entries.truncate(base);
        done
    }

    fn append_entries(&mut self, text: &str, slot: Slot, base: usize, scratch: &mut Scratch) -> Result<(), Fault> {
        let mut entries = Entries::of(text, slot);
        while let Some(entry) = entries.next()? {
            scratch.entries.push(entry);
        }
        keep_last_of_each_key(text, base, scratch);
        for index in base..scratch.entries.len() {
            let (key, value) = scratch.entries[index];
            self.keys.push(quoted_value(text, key, &mut scratch.text).unwrap_or_default());
            self.values.append(text, value, scratch)?;
        }
        self.end();
        Ok(())
    }

    /// Begins an entry, whose value must follow; the caller sees to it that a map has a key once.
    pub(super) fn entry(&mut self, key: &str) -> &mut Column {
        self.keys.push(key);
        &mut self.values
    }

    /// Ends a map behind the entries that there are.
    pub(super) fn end(&mut self) {
        self.offsets.push(self.values.len());
    }

    pub(super) fn push_empty(&mut self) {
        self.offsets.push_empty();
    }

    pub(super) fn truncate(&mut self, length: usize) {
        let entries = self.offsets.truncate(length);
        self.keys.truncate(entries);
        self.values.truncate(entries);
    }

    pub(super) fn bytes(&self) -> usize {
        self.offsets.bytes() + self.keys.bytes() + self.values.bytes()
    }

    pub(super) fn finish(&mut self, nulls: Option<NullBuffer>) -> ArrayRef {
        let DataType::Struct(fields) = self.field.data_type() else {
            unreachable!("`map_entries` makes a struct");
        };
        let entries = StructArray::new(fields.clone(), vec![self.keys.finish(None), self.values.finish()], None);
        Arc::new(MapArray::new(Arc::clone(&self.field), self.offsets.finish(), entries, nulls, false))
    }
}

/// `array<struct<key:string,value:binary>>` of a record's headers, in their order.
pub(super) struct HeadersColumn {
    offsets: Offsets,
    keys: TextViews,
    values: BinaryViews,
    value_nulls: NullBufferBuilder,
}

impl HeadersColumn {
    pub(super) fn new() -> Self {
        Self {
            offsets: Offsets::new(),
            keys: TextViews::default(),
            values: BinaryViews::default(),
            value_nulls: NullBufferBuilder::new(0),
        }
    }

    pub(super) fn append(&mut self, headers: &dyn Headers) {
        headers.visit(&mut |key, value| {
            self.keys.push(key);
            self.values.push(value.unwrap_or_default());
            self.value_nulls.append(value.is_some());
        });
        self.offsets.push(self.value_nulls.len());
    }

    pub(super) fn push_empty(&mut self) {
        self.offsets.push_empty();
    }

    pub(super) fn truncate(&mut self, length: usize) {
        let headers = self.offsets.truncate(length);
        self.keys.truncate(headers);
        self.values.truncate(headers);
        self.value_nulls.truncate(headers);
    }

    pub(super) fn bytes(&self) -> usize {
        self.offsets.bytes() + self.keys.bytes() + self.values.bytes() + self.value_nulls.len() / 8
    }

    pub(super) fn finish(&mut self, nulls: Option<NullBuffer>) -> ArrayRef {
        let values = self.values.finish(self.value_nulls.finish());
        let fields = struct_fields(&[("key".into(), ColumnType::String), ("value".into(), ColumnType::Binary)]);
        let field = Arc::new(Field::new_list_field(DataType::Struct(fields.clone()), true));
        let headers = StructArray::new(fields, vec![self.keys.finish(None), values], None);
        Arc::new(ListArray::new(field, self.offsets.finish(), Arc::new(headers), nulls))
    }
}

/// Of several entries with one key the last one's value stays, at the place of the first.
fn keep_last_of_each_key(text: &str, base: usize, scratch: &mut Scratch) {
    /// Up to here comparing all keys with each other is faster than a hash table.
    const COMPARE_MAX: usize = 8;
    let entries = &scratch.entries[base..];
    let plain = entries.iter().all(|(key, _)| key.kind() == Kind::Text);
    if entries.len() <= COMPARE_MAX && plain {
        let name = |index: usize| &text[entries[index].0.range()];
        if (1..entries.len()).all(|later| (0..later).all(|earlier| name(earlier) != name(later))) {
            return;
        }
    }
    let mut first_places: HashMap<Cow<'_, str>, usize> = HashMap::with_capacity(entries.len());
    let mut kept = base;
    for index in base..scratch.entries.len() {
        let (key, value) = scratch.entries[index];
        let raw_name = &text[key.range()];
        let name = if key.kind() == Kind::EscapedText {
            let mut name = String::with_capacity(raw_name.len());
            unescape(raw_name, &mut name);
            name.into()
        } else {
            raw_name.into()
        };
        let place = *first_places.entry(name).or_insert(kept);
        if place == kept {
            scratch.entries[kept] = (key, value);
            kept += 1;
        } else {
            scratch.entries[place].1 = value;
        }
    }
    scratch.entries.truncate(kept);
}

/// The fields of an object in the order of the text.
struct Entries<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Entries<'a> {
    fn of(text: &'a str, object: Slot) -> Self {
        let bytes = text.as_bytes();
        Self { bytes, at: skip_space(bytes, object.start() + 1) }
    }

    /// The next key and value. The object was checked before, so a fault here would be one of the scanner.
    fn next(&mut self) -> Result<Option<(Slot, Slot)>, Fault> {
        if byte_at(self.bytes, self.at) == b'}' {
            return Ok(None);
        }
        let (kind, key_end, value_at) = scan::key(self.bytes, self.at)?;
        let key = Slot::new(kind, self.at + 1, key_end);
        let (value, end) = scan::value(self.bytes, value_at, DEPTH_MAX)?;
        self.at = next_value(self.bytes, end);
        Ok(Some((key, value)))
    }
}

/// From the end of a value to the next one of the same object or array, or to its closing bracket.
fn next_value(bytes: &[u8], end: usize) -> usize {
    let at = skip_space(bytes, end);
    if byte_at(bytes, at) == b',' { skip_space(bytes, at + 1) } else { at }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::decode::arrow_type;

    #[test]
    fn the_arrays_are_of_the_type_that_the_planner_sees() {
        for text in ["array<string>", "struct<a:int,b:map<string,array<double>>>", "map<string,struct<x:binary>>"] {
            let column_type: ColumnType = text.parse().unwrap();
            let array = Column::new(&column_type, Limits::NONE, TimestampUnit::Auto).finish();
            assert_eq!(*array.data_type(), arrow_type(&column_type), "{text}");
        }
    }
}
