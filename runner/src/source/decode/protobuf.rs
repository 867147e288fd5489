//! Protobuf: from the bytes of a message, by its descriptors, to the builders of columns.
//!
//! Descriptors come from a registry's `.proto` text with what it imports, from such a file, or from a descriptor set. A message is decoded
//! whole ([`prost_reflect`]: merging, packed lists and unknown fields are its matter), then the columns are read from it
//! in declared order. A field without presence (proto3's plain scalars, lists, maps) is never null: not sent and
//! sent as 0 are the same bytes.

mod json;
mod schema;

use std::sync::Arc;

use data_platform_crds::column::{ColumnType, TimestampUnit};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage, Value};

pub(super) use self::schema::pool;
use super::avro::Wanted;
use super::bad::{BadReason, Fault};
use super::column::{Column, Scratch, Values};
use super::typed::{Scalar, ScalarKind};

/// Messages of one file: a bound on what a schema may cost.
const MESSAGES_MAX: usize = 4_096;

/// How messages of one schema are read: each of its messages, by its place in the file.
pub(super) struct Messages {
    /// By the indices from the file down to the message.
    by_index: Vec<(Vec<i64>, OfMessage)>,
    /// The only one, where it is known beforehand.
    only: Option<Program>,
}

/// How a message is read, or why it cannot be.
type OfMessage = Result<Program, Arc<str>>;

/// How messages of one kind are read.
pub(super) struct Program {
    message: MessageDescriptor,
    /// By column: the fields on the way to it. `None`: the message does not have it.
    ways: Vec<Option<Vec<Step>>>,
}

/// A step on the way to a column's value.
enum Step {
    Field(FieldDescriptor),
    /// An entry of a map.
    Key(MapKey),
}

/// What is found of a column in a message.
pub(super) enum Found<'a> {
    Absent,
    Value(Spot<'a>),
}

/// A value with what its descriptors say of it.
pub(super) struct Spot<'a> {
    value: std::borrow::Cow<'a, Value>,
    kind: Kind,
}

impl Messages {
    /// Every message of a file, into these columns; `columns` is the number of all.
    pub(super) fn of_file(
        file: &prost_reflect::FileDescriptor,
        wanted: &[Wanted<'_>],
        columns: usize,
    ) -> Result<Self, String> {
        let mut by_index = Vec::new();
        let mut open: Vec<(Vec<i64>, MessageDescriptor)> =
            (0..).map(|index| vec![index]).zip(file.messages()).collect();
        while let Some((index, message)) = open.pop() {
            // Indices count the entries of maps, too.
            let children = (0..).zip(message.child_messages()).filter(|(_, child)| !child.is_map_entry());
            open.extend(children.map(|(number, child)| ([index.as_slice(), &[number]].concat(), child)));
            by_index.push((index, Program::new(message, wanted, columns).map_err(Arc::from)));
            if by_index.len() > MESSAGES_MAX {
                return Err(format!("it has more than {MESSAGES_MAX} messages"));
            }
        }
        by_index.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(Self { by_index, only: None })
    }

    /// One message.
    pub(super) fn of_message(
        message: MessageDescriptor,
        wanted: &[Wanted<'_>],
        columns: usize,
    ) -> Result<Self, String> {
        Ok(Self { by_index: Vec::new(), only: Some(Program::new(message, wanted, columns)?) })
    }

    /// Whether no message fits, and then why the first one does not.
    pub(super) fn problem(&self) -> Option<Arc<str>> {
        if self.only.is_some() || self.by_index.iter().any(|(_, program)| program.is_ok()) {
            return None;
        }
        let first = self.by_index.iter().find_map(|(_, program)| program.as_ref().err());
        Some(first.map_or_else(|| "it has no message".into(), Arc::clone))
    }

    /// How a value is read, and the value without the indices before it.
    pub(super) fn program<'a>(&self, body: &'a [u8]) -> Result<(&Program, &'a [u8]), Fault> {
        if let Some(program) = &self.only {
            return Ok((program, body));
        }
        let (index, message) = indices(body)?;
        let found = self.by_index.binary_search_by(|(known, _)| known.as_slice().cmp(&index));
        match found.map(|found| &self.by_index[found].1) {
            Ok(Ok(program)) => Ok((program, message)),
            Ok(Err(_)) => Err(Fault::new(
                BadReason::IncompatibleSchema,
                "the message of the value lacks a column, or has it with another type",
            )),
            Err(_) => Err(Fault::new(BadReason::Framing, "the value names a message that its schema does not have")),
        }
    }
}

/// The indices of a message, and what stands behind them: their number and they, as signed varints; 0 alone is the first message.
fn indices(body: &[u8]) -> Result<(Vec<i64>, &[u8]), Fault> {
    /// Deeper than messages nest.
    const LEVELS_MAX: i64 = 64;
    let truncated = Fault::new(BadReason::Framing, "the value ends before the message that it holds is named");
    let mut rest = body;
    let mut next = || -> Option<i64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, behind) = rest.split_first()?;
            rest = behind;
            value |= u64::from(byte & 0x7f) << shift;
            if *byte < 0x80 {
                return Some((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        None
    };
    let number = next().ok_or(truncated)?;
    if number == 0 {
        return Ok((vec![0], rest));
    }
    if !(1..=LEVELS_MAX).contains(&number) {
        return Err(Fault::new(BadReason::Framing, "the value does not name the message that it holds"));
    }
    let index = (0..number).map(|_| next().ok_or(truncated)).collect::<Result<_, _>>()?;
    Ok((index, rest))
}

impl Program {
    fn new(message: MessageDescriptor, wanted: &[Wanted<'_>], columns: usize) -> Result<Self, String> {
        let mut ways: Vec<Option<Vec<Step>>> = Vec::new();
        ways.resize_with(columns, || None);
        let mut problems = Vec::new();
        for column in wanted {
            match way(&message, column) {
                Ok(way) if way.is_none() && column.required => problems.push(format!(
                    "{} has no field {} for the required column {:?}",
                    message.full_name(),
                    column.path.join("."),
                    column.name
                )),
                Ok(way) => ways[column.index] = way,
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() { Ok(Self { message, ways }) } else { Err(problems.join("; ")) }
    }

    /// Decodes a message.
    ///
    /// # Errors
    /// Bytes that are none.
    pub(super) fn decode(&self, bytes: &[u8]) -> Result<DynamicMessage, Fault> {
        DynamicMessage::decode(self.message.clone(), bytes).map_err(|error| {
            if error.to_string().contains("recursion limit") {
                Fault::new(BadReason::TooDeep, "the message nests deeper than 100 levels")
            } else {
                Fault::new(BadReason::Syntax, "the value is no message of its schema")
            }
        })
    }

    /// The value of a column.
    pub(super) fn find<'a>(&self, message: &'a DynamicMessage, column: usize) -> Found<'a> {
        let Some(Some(way)) = self.ways.get(column) else { return Found::Absent };
        let (mut at, mut kind) = (None::<&'a Value>, Kind::Message(self.message.clone()));
        for (number, step) in way.iter().enumerate() {
            match step {
                Step::Field(field) => {
                    let inside = match at {
                        None => message,
                        Some(Value::Message(inside)) => inside,
                        Some(_) => return Found::Absent,
                    };
                    kind = field.kind();
                    if !inside.has_field(field) {
                        // Without presence it has its default, which nobody sends.
                        let is_last = number + 1 == way.len();
                        if field.supports_presence() || !is_last {
                            return Found::Absent;
                        }
                        let value = std::borrow::Cow::Owned(Value::default_value_for_field(field));
                        return Found::Value(Spot { value, kind });
                    }
                    match inside.get_field(field) {
                        std::borrow::Cow::Borrowed(value) => at = Some(value),
                        std::borrow::Cow::Owned(_) => return Found::Absent,
                    }
                }
                Step::Key(key) => {
                    let Some(Value::Map(entries)) = at else { return Found::Absent };
                    let Some(value) = entries.get(key) else { return Found::Absent };
                    kind = value_kind(&kind);
                    at = Some(value);
                }
            }
        }
        at.map_or(Found::Absent, |value| Found::Value(Spot { value: std::borrow::Cow::Borrowed(value), kind }))
    }
}

/// The kind of a map's values, given that of its entries.
fn value_kind(entry: &Kind) -> Kind {
    match entry {
        Kind::Message(entry) if entry.is_map_entry() => entry.map_entry_value_field().kind(),
        other => other.clone(),
    }
}

/// The fields on the way to a column; `None` if the message does not have it.
fn way(message: &MessageDescriptor, column: &Wanted<'_>) -> Result<Option<Vec<Step>>, String> {
    let path = column.path.join(".");
    let mut steps = Vec::new();
    let mut kind = Kind::Message(message.clone());
    let mut field: Option<FieldDescriptor> = None;
    for name in column.path {
        if field.as_ref().is_some_and(FieldDescriptor::is_map) {
            let Kind::Message(entry) = &kind else { return Ok(None) };
            if !matches!(entry.map_entry_key_field().kind(), Kind::String) {
                return Err(format!("the keys of the map on the way to {path} are no texts"));
            }
            kind = value_kind(&kind);
            steps.push(Step::Key(MapKey::String(name.clone())));
            field = None;
            continue;
        }
        let is_list = field.as_ref().is_some_and(FieldDescriptor::is_list);
        let inside = match &kind {
            Kind::Message(inside) if !is_list => inside.clone(),
            _ => return Err(format!("its field {path} is inside of what is no message")),
        };
        let Some(found) = inside.get_field_by_name(name) else { return Ok(None) };
        kind = found.kind();
        steps.push(Step::Field(found.clone()));
        field = Some(found);
    }
    let fits = match &field {
        Some(field) => field_fits(field, column.column_type),
        None => kind_fits(&kind, column.column_type),
    };
    if fits {
        return Ok(Some(steps));
    }
    let word = field.as_ref().map_or_else(|| word(&kind), field_word);
    Err(format!("its field {path} is {word}, and the column {:?} is {}", column.name, column.column_type))
}

fn field_word(field: &FieldDescriptor) -> String {
    match () {
        () if field.is_map() => "a map".to_owned(),
        () if field.is_list() => format!("a list of {}", word(&field.kind())),
        () => word(&field.kind()),
    }
}

fn word(kind: &Kind) -> String {
    match kind {
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(symbols) => symbols.full_name().to_owned(),
        other => format!("{other:?}").to_lowercase(),
    }
}

fn field_fits(field: &FieldDescriptor, column: &ColumnType) -> bool {
    match column {
        ColumnType::Json => true,
        ColumnType::Map(value) if field.is_map() => kind_fits(&value_kind(&field.kind()), value),
        ColumnType::Array(item) if field.is_list() => kind_fits(&field.kind(), item),
        _ => !field.is_map() && !field.is_list() && kind_fits(&field.kind(), column),
    }
}

fn kind_fits(kind: &Kind, column: &ColumnType) -> bool {
    match (kind, column) {
        (_, ColumnType::Json) => true,
        (Kind::Message(message), column) => match scalar_message(message) {
            Some(kind) => kind.fits(column),
            None => match column {
                ColumnType::Struct(fields) => fields.iter().all(|(name, column)| {
                    message.get_field_by_name(name).is_none_or(|field| field_fits(&field, column))
                }),
                _ => false,
            },
        },
        (kind, column) => scalar_kind(kind).fits(column),
    }
}

fn scalar_kind(kind: &Kind) -> ScalarKind {
    match kind {
        Kind::Bool => ScalarKind::Boolean,
        Kind::Float | Kind::Double => ScalarKind::Fraction,
        Kind::String | Kind::Enum(_) => ScalarKind::Text,
        Kind::Bytes | Kind::Message(_) => ScalarKind::Bytes,
        _ => ScalarKind::Integer,
    }
}

/// What a well-known message stands for, if it stands for one value.
fn scalar_message(message: &MessageDescriptor) -> Option<ScalarKind> {
    Some(match message.full_name().strip_prefix("google.protobuf.")? {
        "Timestamp" => ScalarKind::Instant,
        "Duration" => ScalarKind::Decimal,
        "BoolValue" => ScalarKind::Boolean,
        "DoubleValue" | "FloatValue" => ScalarKind::Fraction,
        "StringValue" => ScalarKind::Text,
        "BytesValue" => ScalarKind::Bytes,
        "Int32Value" | "Int64Value" | "UInt32Value" | "UInt64Value" => ScalarKind::Integer,
        _ => return None,
    })
}

/// A value that holds no others; `None` for one that does. Names of enums and texts are borrowed, or written to `text`.
fn scalar<'a>(value: &'a Value, kind: &Kind, text: &'a mut String) -> Option<Scalar<'a>> {
    match value {
        Value::EnumNumber(number) => {
            text.clear();
            let symbol = kind.as_enum().and_then(|symbols| symbols.get_value(*number));
            match symbol {
                Some(symbol) => text.push_str(symbol.name()),
                // A symbol that is newer than the schema.
                None => text.push_str(&number.to_string()),
            }
            Some(Scalar::Text(text))
        }
        Value::Message(message) => well_known(message),
        plain => of_primitive(plain),
    }
}

/// The value that a well-known message stands for.
fn well_known(message: &DynamicMessage) -> Option<Scalar<'_>> {
    let descriptor = message.descriptor();
    scalar_message(&descriptor)?;
    let number = |name: &str| {
        let field = descriptor.get_field_by_name(name)?;
        match &*message.get_field(&field) {
            Value::I64(value) => Some(*value),
            Value::I32(value) => Some(i64::from(*value)),
            _ => None,
        }
    };
    match descriptor.name() {
        "Timestamp" => {
            let (seconds, nanos) = (number("seconds")?, number("nanos")?);
            let micros = seconds.checked_mul(1_000_000).and_then(|micros| micros.checked_add(nanos / 1_000));
            // Beyond every timestamp.
            Some(Scalar::Instant(micros.unwrap_or(i64::MAX), TimestampUnit::Microseconds))
        }
        "Duration" => {
            let unscaled = i128::from(number("seconds")?) * 1_000_000_000 + i128::from(number("nanos")?);
            Some(Scalar::Decimal { unscaled, scale: 9 })
        }
        _ => {
            // A wrapper. Without its field it holds the default.
            let field = descriptor.get_field_by_name("value")?;
            match message.get_field(&field) {
                std::borrow::Cow::Borrowed(value) => of_primitive(value),
                std::borrow::Cow::Owned(_) => Some(match field.kind() {
                    Kind::Bool => Scalar::Boolean(false),
                    Kind::Double | Kind::Float => Scalar::Double(0.0),
                    Kind::String => Scalar::Text(""),
                    Kind::Bytes => Scalar::Bytes(&[]),
                    _ => Scalar::Integer(0),
                }),
            }
        }
    }
}

/// A value of a primitive type, as a field has it or a wrapper.
fn of_primitive(value: &Value) -> Option<Scalar<'_>> {
    Some(match value {
        Value::Bool(value) => Scalar::Boolean(*value),
        Value::I32(value) => Scalar::Integer(i64::from(*value)),
        Value::I64(value) => Scalar::Integer(*value),
        Value::U32(value) => Scalar::Integer(i64::from(*value)),
        Value::U64(value) => Scalar::Unsigned(*value),
        Value::F32(value) => Scalar::Float(*value),
        Value::F64(value) => Scalar::Double(*value),
        Value::String(value) => Scalar::Text(value),
        Value::Bytes(value) => Scalar::Bytes(value),
        _ => return None,
    })
}

/// The entries of a map in the order of their keys' texts: what a message keeps them in has no order.
fn sorted(entries: &std::collections::HashMap<MapKey, Value>) -> Vec<(String, &Value)> {
    let text = |key: &MapKey| match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    };
    let mut sorted: Vec<(String, &Value)> = entries.iter().map(|(key, value)| (text(key), value)).collect();
    sorted.sort_by(|(one, _), (other, _)| one.cmp(other));
    sorted
}

impl Spot<'_> {
    /// Appends the value to its column.
    ///
    /// # Errors
    /// A value that the column does not take.
    pub(super) fn append(&self, column: &mut Column, scratch: &mut Scratch) -> Result<(), Fault> {
        append(&self.value, &self.kind, column, scratch)
    }
}

fn append(value: &Value, kind: &Kind, column: &mut Column, scratch: &mut Scratch) -> Result<(), Fault> {
    if let Values::Json(_) = column.values {
        scratch.text.clear();
        json::write(value, kind, &mut scratch.text);
        column.append_json_text(&scratch.text);
        return Ok(());
    }
    let mut name = String::new();
    if let Some(scalar) = scalar(value, kind, &mut name) {
        return column.append_scalar(scalar, &mut scratch.text);
    }
    match (value, &mut column.values) {
        (Value::List(items), Values::List(list)) => {
            for item in items {
                append(item, kind, list.items(), scratch)?;
            }
            list.end();
        }
        (Value::Map(entries), Values::Map(map)) => {
            let kind = value_kind(kind);
            for (key, value) in sorted(entries) {
                append(value, &kind, map.entry(&key), scratch)?;
            }
            map.end();
        }
        (Value::Message(message), Values::Struct(fields)) => {
            let descriptor = message.descriptor();
            let found: Vec<_> = fields.names().map(|name| descriptor.get_field_by_name(name)).collect();
            for (index, field) in found.into_iter().enumerate() {
                match field.filter(|field| message.has_field(field) || !field.supports_presence()) {
                    Some(field) => append(&message.get_field(&field), &field.kind(), fields.field(index), scratch)?,
                    None => fields.field(index).push_null(),
                }
            }
        }
        _ => return Err(Fault::new(BadReason::WrongType, "a value of another type than the column")),
    }
    column.nulls.append_non_null();
    Ok(())
}

/// A whole message as JSON.
pub(super) fn write_json(message: &DynamicMessage, out: &mut String) {
    json::write_message(message, out);
}
