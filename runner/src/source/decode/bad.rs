//! Why a record is bad: the closed set of reasons, and what a person needs to find the fault.

use std::fmt;
use std::sync::Arc;

/// Why a record gives no row. The words are metric labels and the `reason` of a dead letter, so they never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BadReason {
    /// The event time lies further ahead of the clock than `maxFutureSkew`; everything else in the record is good.
    Future,
    /// The value says in other words that a key is gone: the JSON text `null` of change data. No fault: counted with the
    /// tombstones, and kept nowhere.
    Tombstone,
    /// The value is about the stream of change data and not of a change: a heartbeat, the begin or end of a transaction. No
    /// fault: counted apart, and kept nowhere.
    Control,
    /// The value has no bytes, or nothing but white space.
    Empty,
    /// The value, a text in it, or a key that is declared as text, is not UTF-8.
    Utf8,
    /// The value is not JSON (Avro, Protobuf), or something stands behind the object.
    Syntax,
    /// The value ends in the middle of the JSON, or of the record.
    Truncated,
    /// The value has more bytes than `maxRecordBytes`.
    TooLarge,
    /// The value nests deeper than `maxDepth`.
    TooDeep,
    /// The value is JSON, but not an object.
    NotObject,
    /// A declared field stands twice at the top level.
    DuplicateField,
    /// A required field is absent or null.
    MissingField,
    /// A value is of another kind than its column's type.
    WrongType,
    /// A number does not fit into its column's type.
    OutOfRange,
    /// A text has fewer or more characters than its column allows.
    Length,
    /// A date or a timestamp is of no known form, or outside the years 1 to 9999.
    Timestamp,
    /// JSON stands behind five bytes that a schema registry's serializer writes.
    SchemaId,
    /// JSON stands behind a UTF-8 byte order mark.
    ByteOrderMark,
    /// The value does not begin with the id of a schema, as its source says it does.
    Framing,
    /// The schema registry knows no schema of the value's id.
    UnknownSchema,
    /// The value's schema is not one of the source's subject.
    ForeignSchema,
    /// The value's schema cannot be read, is of another format, lacks a required column, or has a column with another type.
    IncompatibleSchema,
}

impl BadReason {
    /// Every reason, so that a metric can exist for each from the start.
    pub const ALL: [Self; 22] = [
        Self::Future,
        Self::Tombstone,
        Self::Control,
        Self::Empty,
        Self::Utf8,
        Self::Syntax,
        Self::Truncated,
        Self::TooLarge,
        Self::TooDeep,
        Self::NotObject,
        Self::DuplicateField,
        Self::MissingField,
        Self::WrongType,
        Self::OutOfRange,
        Self::Length,
        Self::Timestamp,
        Self::SchemaId,
        Self::ByteOrderMark,
        Self::Framing,
        Self::UnknownSchema,
        Self::ForeignSchema,
        Self::IncompatibleSchema,
    ];

    /// Whether records of this reason are bad: the others are as they should be, and are counted apart.
    pub const fn is_bad(self) -> bool {
        !matches!(self, Self::Future | Self::Tombstone | Self::Control)
    }

    /// The word for metrics and dead letters.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Future => "future",
            Self::Tombstone => "tombstone",
            Self::Control => "control",
            Self::Empty => "empty",
            Self::Utf8 => "utf8",
            Self::Syntax => "syntax",
            Self::Truncated => "truncated",
            Self::TooLarge => "too_large",
            Self::TooDeep => "too_deep",
            Self::NotObject => "not_object",
            Self::DuplicateField => "duplicate_field",
            Self::MissingField => "missing_field",
            Self::WrongType => "wrong_type",
            Self::OutOfRange => "out_of_range",
            Self::Length => "length",
            Self::Timestamp => "timestamp",
            Self::SchemaId => "schema_id",
            Self::ByteOrderMark => "byte_order_mark",
            Self::Framing => "framing",
            Self::UnknownSchema => "unknown_schema",
            Self::ForeignSchema => "foreign_schema",
            Self::IncompatibleSchema => "incompatible_schema",
        }
    }
}

impl fmt::Display for BadReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A record that gives no row: a dead letter, or a count, or the end of the job, as the job's `badRecords` says.
///
/// Making one allocates nothing, so a topic full of bad records costs no more than a topic of good ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRecord {
    /// The class of the fault.
    pub reason: BadReason,
    /// Where it is and what was found.
    pub detail: BadDetail,
}

/// Where in a record a fault is, and what was found there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadDetail {
    /// The declared column that cannot be read, if the fault is of one.
    pub column: Option<Arc<str>>,
    /// The byte of the value at which the fault was noticed, from 0; `None` if it is nowhere (a field that is absent).
    pub position: Option<u32>,
    /// What was found, in words. Never a part of the record: it may be secret.
    pub what: &'static str,
    /// What is to be said of the record's schema, if that is the fault.
    pub schema: Option<Arc<str>>,
}

impl fmt::Display for BadDetail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(column) = &self.column {
            write!(f, "column {column:?}: ")?;
        }
        f.write_str(self.what)?;
        if let Some(schema) = &self.schema {
            write!(f, ": {schema}")?;
        }
        match self.position {
            Some(position) => write!(f, " (byte {position} of the value)"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for BadRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.detail.fmt(f)
    }
}

impl std::error::Error for BadRecord {}

/// A fault on its way to a [`BadRecord`]: a column by its number, so that the hot path copies no names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) reason: BadReason,
    pub(super) column: Option<u16>,
    pub(super) position: Option<u32>,
    pub(super) what: &'static str,
}

impl Fault {
    /// A fault of the record as a whole.
    pub(super) const fn new(reason: BadReason, what: &'static str) -> Self {
        Self { reason, column: None, position: None, what }
    }

    /// A fault noticed at a byte of the value.
    pub(super) const fn at(reason: BadReason, position: usize, what: &'static str) -> Self {
        // Values are shorter than 4 GiB: see `DecodePlan::max_record_bytes`.
        Self { reason, column: None, position: Some(position as u32), what }
    }

    /// The same fault, noticed at that byte of the value.
    pub(super) const fn at_byte(self, position: usize) -> Self {
        Self { position: Some(position as u32), ..self }
    }

    /// The same fault in a value that begins so many bytes later.
    pub(super) fn moved(self, bytes: usize) -> Self {
        Self { position: self.position.map(|position| position + bytes as u32), ..self }
    }

    /// The same fault, of that column.
    pub(super) const fn of_column(self, column: usize) -> Self {
        Self { column: Some(column as u16), ..self }
    }
}

/// Looks again at a value that is no JSON: producers put things before it, and nobody should have to look for them in a
/// hex dump.
#[cold]
pub(super) fn before_the_json(value: &[u8], fault: Fault) -> Fault {
    let begins = |rest: &[u8]| rest.trim_ascii_start().first().is_some_and(|first| b"{[".contains(first));
    match value {
        [0, _, _, _, _, rest @ ..] if begins(rest) => Fault::at(
            BadReason::SchemaId,
            0,
            "the JSON stands behind five bytes (0x00 and a schema's id), as a schema registry's serializer writes them: set \
             framing: confluent, or let the producer write plain JSON",
        ),
        [0xef, 0xbb, 0xbf, ..] => Fault::at(
            BadReason::ByteOrderMark,
            0,
            "a UTF-8 byte order mark (0xef 0xbb 0xbf) stands before the JSON: let the producer leave it out",
        ),
        _ => fault,
    }
}
