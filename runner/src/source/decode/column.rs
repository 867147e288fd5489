//! One declared column while a batch is built: takes JSON values of its type, gives an Arrow array.
//!
//! A value may be taken back ([`Column::truncate`]): a row counts only when its whole record is good.

use std::sync::Arc;

use data_platform_crds::column::{ColumnOrigin, ColumnType, TimestampUnit};
use datafusion::arrow::array::{
    ArrayRef, BooleanArray, BooleanBufferBuilder, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array,
    NullBufferBuilder, TimestampMicrosecondArray,
};
use datafusion::arrow::buffer::{BooleanBuffer, ScalarBuffer};

use super::bad::{BadReason, Fault};
use super::nested::{HeadersColumn, ListColumn, MapColumn, StructColumn};
use super::number;
use super::plan::UTC;
use super::scan::{Kind, Slot};
use super::text::{decode_base64, unescape};
use super::time::{self, TimestampReader};
use super::views::{BinaryViews, TextViews, take_with_room};
use crate::source::record::Record;

/// Reused memory for values that need a step between: one for the whole decoder.
pub(super) struct Scratch {
    pub(super) text: String,
    pub(super) bytes: Vec<u8>,
    pub(super) timestamps: TimestampReader,
    /// Values of open structs: a stack.
    pub(super) slots: Vec<Slot>,
    /// Entries of open maps, key and value: a stack.
    pub(super) entries: Vec<(Slot, Slot)>,
}

impl Scratch {
    pub(super) fn new() -> Self {
        Self {
            text: String::new(),
            bytes: Vec::new(),
            timestamps: TimestampReader::new(),
            slots: Vec::new(),
            entries: Vec::new(),
        }
    }
}

/// A column of a batch that is being built.
pub(super) struct Column {
    pub(super) values: Values,
    pub(super) nulls: NullBufferBuilder,
}

pub(super) enum Values {
    String { views: TextViews, limits: Limits },
    Json(TextViews),
    Binary(BinaryViews),
    Boolean(BooleanBufferBuilder),
    Int(Vec<i32>),
    Bigint(Vec<i64>),
    Double(Vec<f64>),
    Decimal { values: Vec<i128>, precision: u8, scale: i8 },
    Date(Vec<i32>),
    Timestamp { values: Vec<i64>, unit: TimestampUnit },
    Headers(Box<HeadersColumn>),
    List(Box<ListColumn>),
    Struct(Box<StructColumn>),
    Map(Box<MapColumn>),
}

/// How many code points a text may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) min: usize,
    pub(super) max: usize,
}

impl Limits {
    /// Any text.
    pub(super) const NONE: Self = Self { min: 0, max: usize::MAX };

    /// Whether a text of so many bytes is within the limits whatever its characters: each has one to four bytes.
    #[inline(always)]
    const fn allow_bytes(self, length: usize) -> bool {
        length.div_ceil(4) >= self.min && length <= self.max
    }

    fn allow(self, text: &str) -> bool {
        self.allow_bytes(text.len()) || (self.min..=self.max).contains(&text.chars().count())
    }
}

const LENGTH: &str = "a text that is shorter than minLength or longer than maxLength";

impl Column {
    /// An empty column of that type. `limits` count for a string, `unit` for timestamps, also those inside.
    pub(super) fn new(column_type: &ColumnType, limits: Limits, unit: TimestampUnit) -> Self {
        let values = match column_type {
            ColumnType::String => Values::String { views: TextViews::default(), limits },
            ColumnType::Boolean => Values::Boolean(BooleanBufferBuilder::new(0)),
            ColumnType::Int => Values::Int(Vec::new()),
            ColumnType::Bigint => Values::Bigint(Vec::new()),
            ColumnType::Double => Values::Double(Vec::new()),
            ColumnType::Decimal(precision, scale) => {
                Values::Decimal { values: Vec::new(), precision: *precision, scale: *scale }
            }
            ColumnType::Date => Values::Date(Vec::new()),
            ColumnType::Timestamp => Values::Timestamp { values: Vec::new(), unit },
            ColumnType::Binary => Values::Binary(BinaryViews::default()),
            ColumnType::Json => Values::Json(TextViews::default()),
            ColumnType::Array(item) => Values::List(Box::new(ListColumn::new(item, unit))),
            ColumnType::Struct(fields) => Values::Struct(Box::new(StructColumn::new(fields, unit))),
            ColumnType::Map(value) => Values::Map(Box::new(MapColumn::new(value, unit))),
        };
        Self { values, nulls: NullBufferBuilder::new(0) }
    }

    /// An empty column for the headers of records.
    pub(super) fn of_headers() -> Self {
        Self { values: Values::Headers(Box::new(HeadersColumn::new())), nulls: NullBufferBuilder::new(0) }
    }

    /// Number of values.
    pub(super) fn len(&self) -> usize {
        self.nulls.len()
    }

    /// Appends a JSON value of the record `text`; JSON's null becomes a null.
    ///
    /// # Errors
    /// A value that is not of the type. Then a part of it may be there: the caller truncates.
    #[inline]
    pub(super) fn append(&mut self, text: &str, slot: Slot, scratch: &mut Scratch) -> Result<(), Fault> {
        if slot.is_null() {
            self.push_null();
            return Ok(());
        }
        match &mut self.values {
            Values::String { views, limits } => match slot.kind() {
                Kind::Text if limits.allow_bytes(slot.range().len()) => views.push_part(text, slot.range()),
                _ => {
                    let value = string_value(text, slot, &mut scratch.text)?;
                    if !limits.allow(value) {
                        return Err(slot.fault(BadReason::Length, LENGTH));
                    }
                    views.push(value);
                }
            },
            Values::Timestamp { values, unit } => values.push(timestamp_value(text, slot, *unit, scratch)?),
            _ => return self.append_other(text, slot, scratch),
        }
        self.nulls.append_non_null();
        Ok(())
    }

    /// The types that are rarer than text and timestamps: apart, so that those stay small enough to be inlined.
    #[inline(never)]
    fn append_other(&mut self, text: &str, slot: Slot, scratch: &mut Scratch) -> Result<(), Fault> {
        match &mut self.values {
            Values::String { .. } | Values::Timestamp { .. } | Values::Headers(_) => {
                unreachable!("others append to these")
            }
            Values::Json(views) => views.push_part(text, slot.raw_range()),
            Values::Binary(views) => {
                let Some(value) = quoted_value(text, slot, &mut scratch.text) else {
                    return Err(slot.fault(BadReason::WrongType, "expected base64 text"));
                };
                scratch.bytes.clear();
                decode_base64(value, &mut scratch.bytes)
                    .ok_or_else(|| slot.fault(BadReason::WrongType, "a text that is not base64"))?;
                views.push(&scratch.bytes);
            }
            Values::Boolean(values) => match slot.kind() {
                Kind::True => values.append(true),
                Kind::False => values.append(false),
                _ => return Err(slot.fault(BadReason::WrongType, "expected true or false")),
            },
            Values::Int(values) => {
                let value = number_value(text, slot, number::integer)?;
                let beyond = || slot.fault(BadReason::OutOfRange, "a whole number beyond the column's type");
                values.push(i32::try_from(value).map_err(|_| beyond())?);
            }
            Values::Bigint(values) => values.push(number_value(text, slot, number::integer)?),
            Values::Double(values) => values.push(number_value(text, slot, number::double)?),
            Values::Decimal { values, precision, scale } => {
                let written = match quoted_value(text, slot, &mut scratch.text) {
                    Some(quoted) if number::is_number(quoted) => quoted,
                    None if slot.kind() == Kind::Number => &text[slot.range()],
                    _ => return Err(slot.fault(BadReason::WrongType, "expected a number, or a number in quotes")),
                };
                let value = number::decimal(written, *precision, *scale);
                values.push(value.map_err(|(reason, what)| slot.fault(reason, what))?);
            }
            Values::Date(values) => {
                let Some(value) = quoted_value(text, slot, &mut scratch.text) else {
                    return Err(slot.fault(BadReason::WrongType, "expected a date as text"));
                };
                let date = time::date(value);
                values.push(date.ok_or_else(|| slot.fault(BadReason::Timestamp, "a date that is not a yyyy-MM-dd"))?);
            }
            Values::List(list) => list.append(text, slot, scratch)?,
            Values::Struct(fields) => fields.append(text, slot, scratch)?,
            Values::Map(map) => map.append(text, slot, scratch)?,
        }
        self.nulls.append_non_null();
        Ok(())
    }

    /// Checks a value as [`Self::append`] does, for a column that nobody needs.
    ///
    /// Afterwards the column holds this value alone, or nothing: [`Self::last_micros`] gives it.
    #[inline(always)]
    pub(super) fn check(&mut self, text: &str, slot: Slot, scratch: &mut Scratch) -> Result<(), Fault> {
        match &self.values {
            Values::Json(_) => Ok(()),
            Values::String { limits, .. } if slot.kind() == Kind::Text && limits.allow_bytes(slot.range().len()) => {
                Ok(())
            }
            _ => self.check_by_append(text, slot, scratch),
        }
    }

    #[inline(never)]
    fn check_by_append(&mut self, text: &str, slot: Slot, scratch: &mut Scratch) -> Result<(), Fault> {
        self.truncate(0);
        self.append(text, slot, scratch)
    }

    /// Appends a null.
    #[inline]
    pub(super) fn push_null(&mut self) {
        match &mut self.values {
            Values::String { views, .. } | Values::Json(views) => views.push_empty(),
            Values::Binary(views) => views.push_empty(),
            Values::Boolean(values) => values.append(false),
            Values::Int(values) | Values::Date(values) => values.push(0),
            Values::Bigint(values) | Values::Timestamp { values, .. } => values.push(0),
            Values::Double(values) => values.push(0.0),
            Values::Decimal { values, .. } => values.push(0),
            Values::Headers(headers) => headers.push_empty(),
            Values::List(list) => list.push_empty(),
            Values::Struct(fields) => fields.push_null(),
            Values::Map(map) => map.push_empty(),
        }
        self.nulls.append_null();
    }

    /// Appends what the record itself, or Kafka beside it, holds; `text` is the record's value.
    ///
    /// # Errors
    /// A key that is no text, a text outside of the column's limits, a record time outside of the years 1 to 9999.
    pub(super) fn append_origin(&mut self, origin: ColumnOrigin, record: &Record<'_>, text: &str) -> Result<(), Fault> {
        match (origin, &mut self.values) {
            (ColumnOrigin::Value, Values::Json(_)) if text.trim_ascii() == "null" => return self.append_missing(),
            (ColumnOrigin::Value, Values::Json(views)) => views.push(text),
            (ColumnOrigin::Value, Values::Binary(views)) => views.push(record.value.unwrap_or_default()),
            (ColumnOrigin::Value, Values::String { views, limits }) => push_limited(views, *limits, text)?,
            (ColumnOrigin::Topic, Values::String { views, limits }) => push_limited(views, *limits, record.topic)?,
            (ColumnOrigin::Key, Values::String { views, limits }) => {
                let Some(key) = record.key else { return self.append_missing() };
                let key = simdutf8::basic::from_utf8(key).map_err(|_| {
                    Fault::new(BadReason::Utf8, "the record's key is not UTF-8, and the column is text")
                })?;
                push_limited(views, *limits, key)?;
            }
            (ColumnOrigin::Key, Values::Binary(views)) => match record.key {
                Some(key) => views.push(key),
                None => return self.append_missing(),
            },
            (ColumnOrigin::Headers, Values::Headers(headers)) => headers.append(record.headers),
            (ColumnOrigin::Partition, Values::Int(values)) => values.push(record.partition),
            (ColumnOrigin::Offset, Values::Bigint(values)) => values.push(record.offset),
            (ColumnOrigin::RecordTime, Values::Timestamp { values, .. }) => {
                let Some(millis) = record.time_ms() else { return self.append_missing() };
                let micros = time::epoch_millis(millis);
                values.push(micros.ok_or_else(|| {
                    Fault::new(BadReason::Timestamp, "the record's time in Kafka lies outside the years 1 to 9999")
                })?);
            }
            _ => unreachable!("the plan has checked the types of columns that hold no field of the value"),
        }
        self.nulls.append_non_null();
        Ok(())
    }

    /// Appends a text that no record holds.
    pub(super) fn push_text(&mut self, text: &str) -> Result<(), Fault> {
        match &mut self.values {
            Values::String { views, limits } => push_limited(views, *limits, text)?,
            _ => unreachable!("the plan has checked the types of columns of change data"),
        }
        self.nulls.append_non_null();
        Ok(())
    }

    /// Appends a boolean that no record holds.
    pub(super) fn push_boolean(&mut self, value: bool) -> Result<(), Fault> {
        match &mut self.values {
            Values::Boolean(values) => values.append(value),
            _ => unreachable!("the plan has checked the types of columns of change data"),
        }
        self.nulls.append_non_null();
        Ok(())
    }

    fn append_missing(&mut self) -> Result<(), Fault> {
        self.push_null();
        Ok(())
    }

    /// Whether the last value is a null.
    pub(super) fn ends_with_null(&self) -> bool {
        self.len().checked_sub(1).is_some_and(|last| !self.nulls.is_valid(last))
    }

    /// The last value of a timestamp column, which must not be null.
    #[inline]
    pub(super) fn last_micros(&self) -> Option<i64> {
        match &self.values {
            Values::Timestamp { values, .. } => values.last().copied(),
            _ => None,
        }
    }

    /// Forgets all values from the `length`th on, and what an [`Self::append`] that failed left.
    pub(super) fn truncate(&mut self, length: usize) {
        match &mut self.values {
            Values::String { views, .. } | Values::Json(views) => views.truncate(length),
            Values::Binary(views) => views.truncate(length),
            Values::Boolean(values) => values.truncate(length),
            Values::Int(values) | Values::Date(values) => values.truncate(length),
            Values::Bigint(values) | Values::Timestamp { values, .. } => values.truncate(length),
            Values::Double(values) => values.truncate(length),
            Values::Decimal { values, .. } => values.truncate(length),
            Values::Headers(headers) => headers.truncate(length),
            Values::List(list) => list.truncate(length),
            Values::Struct(fields) => fields.truncate(length),
            Values::Map(map) => map.truncate(length),
        }
        self.nulls.truncate(length);
    }

    /// Bytes of memory in use, without what is only reserved.
    pub(super) fn bytes(&self) -> usize {
        let values = match &self.values {
            Values::String { views, .. } | Values::Json(views) => views.bytes(),
            Values::Binary(views) => views.bytes(),
            Values::Boolean(values) => values.len() / 8,
            Values::Int(values) | Values::Date(values) => size_of_val(values.as_slice()),
            Values::Bigint(values) | Values::Timestamp { values, .. } => size_of_val(values.as_slice()),
            Values::Double(values) => size_of_val(values.as_slice()),
            Values::Decimal { values, .. } => size_of_val(values.as_slice()),
            Values::Headers(headers) => headers.bytes(),
            Values::List(list) => list.bytes(),
            Values::Struct(fields) => fields.bytes(),
            Values::Map(map) => map.bytes(),
        };
        values + self.nulls.len() / 8
    }

    /// Gives the array and begins anew, with room for as much as there was.
    pub(super) fn finish(&mut self) -> ArrayRef {
        let nulls = self.nulls.finish();
        match &mut self.values {
            Values::String { views, .. } | Values::Json(views) => views.finish(nulls),
            Values::Binary(views) => views.finish(nulls),
            Values::Boolean(values) => {
                let bits: BooleanBuffer = values.finish();
                Arc::new(BooleanArray::new(bits, nulls))
            }
            Values::Int(values) => Arc::new(Int32Array::new(take(values), nulls)),
            Values::Bigint(values) => Arc::new(Int64Array::new(take(values), nulls)),
            Values::Double(values) => Arc::new(Float64Array::new(take(values), nulls)),
            Values::Decimal { values, precision, scale } => {
                let array = Decimal128Array::new(take(values), nulls);
                Arc::new(
                    array
                        .with_precision_and_scale(*precision, *scale)
                        .expect("a column type has a valid precision and scale"),
                )
            }
            Values::Date(values) => Arc::new(Date32Array::new(take(values), nulls)),
            Values::Timestamp { values, .. } => {
                Arc::new(TimestampMicrosecondArray::new(take(values), nulls).with_timezone(UTC))
            }
            Values::Headers(headers) => headers.finish(nulls),
            Values::List(list) => list.finish(nulls),
            Values::Struct(fields) => fields.finish(nulls),
            Values::Map(map) => map.finish(nulls),
        }
    }
}

pub(super) fn push_limited(views: &mut TextViews, limits: Limits, text: &str) -> Result<(), Fault> {
    if !limits.allow(text) {
        return Err(Fault::new(BadReason::Length, LENGTH));
    }
    views.push(text);
    Ok(())
}

fn take<T: datafusion::arrow::datatypes::ArrowNativeType>(values: &mut Vec<T>) -> ScalarBuffer<T> {
    ScalarBuffer::from(take_with_room(values))
}

/// The text that a value is for a string column: a string's text, or a number or boolean as it was written.
fn string_value<'a>(text: &'a str, slot: Slot, scratch: &'a mut String) -> Result<&'a str, Fault> {
    match slot.kind() {
        Kind::Number | Kind::True | Kind::False => Ok(&text[slot.range()]),
        _ => quoted_value(text, slot, scratch)
            .ok_or_else(|| slot.fault(BadReason::WrongType, "an object or array where text is expected")),
    }
}

/// What a JSON string stands for; `None` if the value is none.
pub(super) fn quoted_value<'a>(text: &'a str, slot: Slot, scratch: &'a mut String) -> Option<&'a str> {
    match slot.kind() {
        Kind::Text => Some(&text[slot.range()]),
        Kind::EscapedText => {
            scratch.clear();
            unescape(&text[slot.range()], scratch);
            Some(scratch)
        }
        _ => None,
    }
}

fn number_value<T>(
    text: &str,
    slot: Slot,
    parse: impl FnOnce(&str) -> Result<T, number::NumberFault>,
) -> Result<T, Fault> {
    if slot.kind() != Kind::Number {
        return Err(slot.fault(BadReason::WrongType, "expected a number"));
    }
    parse(&text[slot.range()]).map_err(|(reason, what)| slot.fault(reason, what))
}

#[inline(always)]
fn timestamp_value(text: &str, slot: Slot, unit: TimestampUnit, scratch: &mut Scratch) -> Result<i64, Fault> {
    let micros = match slot.kind() {
        Kind::Text => scratch.timestamps.text(&text[slot.range()]),
        Kind::Number => time::epoch_number(&text[slot.range()], unit),
        Kind::EscapedText => {
            scratch.text.clear();
            unescape(&text[slot.range()], &mut scratch.text);
            scratch.timestamps.text(&scratch.text)
        }
        _ => return Err(slot.fault(BadReason::WrongType, "expected a timestamp as text or number")),
    };
    micros
        .ok_or_else(|| slot.fault(BadReason::Timestamp, "a timestamp of no known form or outside the years 1 to 9999"))
}
