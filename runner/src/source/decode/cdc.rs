//! Change data: the flat form and Debezium's envelope, bare or inside `{schema, payload}`, read as one kind of record.
//!
//! One pass over the record finds the parts of all forms ([`super::fields`]); this module says which of them count, and
//! keeps what came as it came: names, rows and numbers are parts of the record's text.
//!
//! ```text
//! flat      {op, table, before, after, ts_ms, db?, schema?, txId?, lsn?}
//! Debezium  {op, before, after, source: {db, schema, table | collection, txId, lsn, ts_ms, snapshot}, ts_ms}
//! wrapped   {schema, payload: one of these}
//! ```

use data_platform_crds::column::{ColumnSpec, ColumnType, TimestampUnit};

use super::bad::{BadReason, Fault};
use super::fields::{Fields, Place};
use super::plan::PlanError;
use super::scan::{self, Kind, Slot, byte_at, skip_space};

/// Levels that a path into `before`, `after` or `record_data` may have: each is looked for in four places.
const PATH_LEVELS_MAX: usize = 16;

/// The column of a node that no column names.
const NO_COLUMN: usize = u16::MAX as usize;

/// A field of a change, which a column's path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChangeField {
    Operation,
    OperationType,
    Database,
    SchemaName,
    TableName,
    Before,
    After,
    RecordData,
    EventTime,
    TransactionId,
    LogSequenceNumber,
    IsSnapshot,
}

const FIELDS: [(&str, ChangeField); 14] = [
    ("operation", ChangeField::Operation),
    ("operation_type", ChangeField::OperationType),
    ("database", ChangeField::Database),
    ("schema_name", ChangeField::SchemaName),
    ("table_name", ChangeField::TableName),
    ("before", ChangeField::Before),
    ("after", ChangeField::After),
    ("record_data", ChangeField::RecordData),
    ("event_time", ChangeField::EventTime),
    ("transaction_id", ChangeField::TransactionId),
    ("log_sequence_number", ChangeField::LogSequenceNumber),
    ("is_snapshot", ChangeField::IsSnapshot),
    ("old_record", ChangeField::Before),
    ("new_record", ChangeField::After),
];

impl ChangeField {
    fn find(name: &str) -> Option<Self> {
        FIELDS.iter().find(|(known, _)| *known == name).map(|(_, field)| *field)
    }

    /// Whether it is an object of the table's own fields.
    fn is_row(self) -> bool {
        matches!(self, Self::Before | Self::After | Self::RecordData)
    }

    /// The types that a column of the field as a whole may have.
    fn types(self) -> (&'static str, fn(&ColumnType) -> bool) {
        match self {
            Self::OperationType | Self::Operation | Self::Database | Self::SchemaName | Self::TableName => {
                ("string", |found| *found == ColumnType::String)
            }
            Self::Before | Self::After | Self::RecordData => ("json, struct or map", |found| {
                matches!(found, ColumnType::Json | ColumnType::Struct(_) | ColumnType::Map(_))
            }),
            Self::EventTime => {
                ("timestamp or bigint", |found| matches!(found, ColumnType::Timestamp | ColumnType::Bigint))
            }
            Self::TransactionId | Self::LogSequenceNumber => {
                ("string or bigint", |found| matches!(found, ColumnType::String | ColumnType::Bigint))
            }
            Self::IsSnapshot => ("boolean", |found| *found == ColumnType::Boolean),
        }
    }

    /// Where it lies in an envelope: the first place that holds something counts.
    fn places(self) -> &'static [&'static [&'static str]] {
        match self {
            Self::Operation => &[&["op"]],
            Self::Database => &[&["source", "db"], &["db"]],
            Self::SchemaName => &[&["source", "schema"], &["schema"]],
            Self::TableName => &[&["source", "table"], &["source", "collection"], &["table"]],
            Self::Before => &[&["before"]],
            Self::After => &[&["after"]],
            Self::EventTime => &[&["source", "ts_ms"], &["ts_ms"]],
            Self::TransactionId => &[&["source", "txId"], &["txId"]],
            Self::LogSequenceNumber => &[&["source", "lsn"], &["lsn"]],
            Self::OperationType | Self::RecordData | Self::IsSnapshot => &[],
        }
    }
}

/// Checks that a column of change data names something that there is, and in a type that it can have.
pub(super) fn check_column(spec: &ColumnSpec, path: &[String]) -> Result<(), PlanError> {
    let column = || spec.name.clone();
    let field = ChangeField::find(&path[0]).filter(|field| path.len() == 1 || field.is_row());
    let Some(field) = field else {
        let known: Vec<_> = FIELDS.iter().map(|(name, _)| *name).collect();
        return Err(PlanError::FieldOfChange { column: column(), path: path.join("."), known: known.join(", ") });
    };
    if path.len() > PATH_LEVELS_MAX {
        return Err(PlanError::PathLevels { column: column(), levels: path.len(), most: PATH_LEVELS_MAX });
    }
    let (expected, fits) = field.types();
    if path.len() == 1 && !fits(&spec.column_type) {
        let (field, found) = (path[0].clone(), spec.column_type.clone());
        return Err(PlanError::TypeOfChange { column: column(), field, expected, found });
    }
    Ok(())
}

/// The unit of a column's numbers: times of changes are milliseconds, also those of 1970.
pub(super) fn timestamp_unit(path: &[String]) -> Option<TimestampUnit> {
    (ChangeField::find(&path[0]) == Some(ChangeField::EventTime)).then_some(TimestampUnit::Milliseconds)
}

/// What kind of change it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Operation {
    Insert,
    Update,
    Delete,
    Truncate,
    #[default]
    Unknown,
}

impl Operation {
    fn of(op: &str) -> Self {
        match op {
            "c" | "i" | "r" => Self::Insert,
            "u" => Self::Update,
            "d" => Self::Delete,
            "t" => Self::Truncate,
            _ => Self::Unknown,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Truncate => "TRUNCATE",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// Index of a form in what is kept for each.
type Form = usize;

/// The change that a record is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Change {
    form: Form,
    operation: Operation,
    is_snapshot: bool,
}

/// The slots of an envelope's parts.
struct Envelope {
    op: usize,
    ts_ms: usize,
    source: usize,
    source_ts_ms: usize,
    snapshot: usize,
    table: usize,
    status: usize,
    id: usize,
}

/// What tells the forms apart.
pub(super) struct Changes {
    /// Bare, and inside a payload.
    envelopes: [Envelope; 2],
    payload: usize,
    schema: usize,
}

/// What a column takes from a change.
pub(super) enum Part {
    /// The first of these places that holds something, by form.
    First([Vec<Place>; 2]),
    /// What `after` holds after an insert or an update, what `before` holds of a deleted row; by form.
    RecordData { before: [Place; 2], after: [Place; 2] },
    /// The kind of change in words.
    OperationType,
    /// Whether the row was read by a snapshot.
    IsSnapshot,
}

/// A column's value.
pub(super) enum Value {
    Slot(Slot),
    Text(&'static str),
    Boolean(bool),
}

/// Collects the paths that the pass over a record must look for.
pub(super) struct Paths {
    paths: Vec<(usize, Vec<String>)>,
}

const PREFIXES: [&[&str]; 2] = [&[], &["payload"]];

impl Paths {
    /// The paths of what tells the forms apart.
    pub(super) fn new() -> Self {
        let mut paths = Self { paths: Vec::new() };
        for prefix in PREFIXES {
            for path in Envelope::PATHS {
                paths.add(NO_COLUMN, prefix, path.iter().copied());
            }
        }
        for path in ["payload", "schema"] {
            paths.add(NO_COLUMN, &[], std::iter::once(path));
        }
        paths
    }

    fn add<'a>(&mut self, column: usize, prefix: &[&str], path: impl Iterator<Item = &'a str>) {
        let path = prefix.iter().copied().map(str::to_owned).chain(path.map(str::to_owned)).collect();
        self.paths.push((column, path));
    }

    /// Adds what the column of that index needs.
    pub(super) fn add_column(&mut self, column: usize, path: &[String]) {
        let below = || path[1..].iter().map(String::as_str);
        match ChangeField::find(&path[0]) {
            Some(ChangeField::RecordData) => {
                for (row, prefix) in [("before", PREFIXES[0]), ("before", PREFIXES[1])]
                    .into_iter()
                    .chain([("after", PREFIXES[0]), ("after", PREFIXES[1])])
                {
                    self.add(column, prefix, std::iter::once(row).chain(below()));
                }
            }
            field => {
                for prefix in PREFIXES {
                    for place in field.map_or(&[] as &[_], ChangeField::places) {
                        self.add(column, prefix, place.iter().copied().chain(below()));
                    }
                }
            }
        }
    }

    /// The paths in the order in which [`Changes::new`] and [`Part::new`] take their places.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &[String])> {
        self.paths.iter().map(|(column, path)| (*column, path.as_slice()))
    }
}

impl Envelope {
    const PATHS: [&[&str]; 8] = [
        &["op"],
        &["ts_ms"],
        &["source"],
        &["source", "ts_ms"],
        &["source", "snapshot"],
        &["table"],
        &["status"],
        &["id"],
    ];

    fn new(slots: [usize; 8]) -> Self {
        let [op, ts_ms, source, source_ts_ms, snapshot, table, status, id] = slots;
        Self { op, ts_ms, source, source_ts_ms, snapshot, table, status, id }
    }
}

fn next_place(places: &mut impl Iterator<Item = Place>) -> Place {
    places.next().expect("each path of a change has given a place")
}

impl Part {
    /// Takes the places of a column's paths.
    pub(super) fn new(path: &[String], places: &mut impl Iterator<Item = Place>) -> Self {
        match ChangeField::find(&path[0]) {
            None | Some(ChangeField::OperationType) => Self::OperationType,
            Some(ChangeField::IsSnapshot) => Self::IsSnapshot,
            Some(ChangeField::RecordData) => Self::RecordData {
                before: std::array::from_fn(|_| next_place(places)),
                after: std::array::from_fn(|_| next_place(places)),
            },
            Some(field) => Self::First(PREFIXES.map(|_| field.places().iter().map(|_| next_place(places)).collect())),
        }
    }

    /// The column's value in a change, and the place that tells why it has none, where the way to it matters.
    pub(super) fn value<'a>(&'a self, change: Change, fields: &Fields) -> (Value, Option<&'a Place>) {
        match self {
            Self::OperationType => (Value::Text(change.operation.name()), None),
            Self::IsSnapshot => (Value::Boolean(change.is_snapshot), None),
            Self::RecordData { before, after } => {
                let place = match change.operation {
                    Operation::Insert | Operation::Update => &after[change.form],
                    Operation::Delete => &before[change.form],
                    Operation::Truncate | Operation::Unknown => return (Value::Slot(Slot::ABSENT), None),
                };
                (Value::Slot(fields.slot(place.slot)), Some(place))
            }
            Self::First(places) => match places[change.form].as_slice() {
                [place] => (Value::Slot(fields.slot(place.slot)), Some(place)),
                several => {
                    // A message event has empty names, which are none.
                    let slots = several.iter().map(|place| fields.slot(place.slot));
                    let slot = slots.into_iter().find(|slot| !is_nothing(*slot));
                    (Value::Slot(slot.unwrap_or(Slot::ABSENT)), None)
                }
            },
        }
    }
}

/// Absent, null or an empty text.
fn is_nothing(slot: Slot) -> bool {
    slot.is_null() || slot.kind() == Kind::Text && slot.range().is_empty()
}

impl Changes {
    /// Takes the places of [`Paths::new`].
    pub(super) fn new(places: &mut impl Iterator<Item = Place>) -> Self {
        let mut slot = || next_place(places).slot;
        let mut envelope = || Envelope::new(std::array::from_fn(|_| slot()));
        let envelopes = [envelope(), envelope()];
        Self { envelopes, payload: slot(), schema: slot() }
    }

    /// What the record that was read last is.
    ///
    /// # Errors
    /// It is no change: a tombstone, about the stream itself, or bad.
    #[inline]
    pub(super) fn read(&self, text: &str, fields: &Fields) -> Result<Change, Fault> {
        let form = Form::from(fields.slot(self.envelopes[0].op).is_null() && self.is_wrapped(fields)?);
        let envelope = &self.envelopes[form];
        let op = fields.slot(envelope.op);
        if op.is_null() {
            return Err(self.without_operation(text, fields, form));
        }
        if matches!(op.kind(), Kind::Object | Kind::Array) {
            return Err(op.fault(BadReason::WrongType, "op is not a text"));
        }
        let source = fields.slot(envelope.source).kind();
        if is_nothing(fields.slot(envelope.source_ts_ms)) && is_nothing(fields.slot(envelope.ts_ms)) {
            return Err(Fault::new(BadReason::MissingField, "a change without ts_ms"));
        }
        if source != Kind::Object && is_nothing(fields.slot(envelope.table)) {
            return Err(Fault::new(BadReason::MissingField, "a flat change (without source) that names no table"));
        }
        let op = &text[op.range()];
        let is_snapshot = op == "r" || says_snapshot(text, fields.slot(envelope.snapshot));
        Ok(Change { form, operation: Operation::of(op), is_snapshot })
    }

    /// Whether the change lies in a payload.
    fn is_wrapped(&self, fields: &Fields) -> Result<bool, Fault> {
        let payload = fields.slot(self.payload);
        if payload.kind() == Kind::Null && fields.slot(self.schema).kind() != Kind::Absent {
            return Err(payload.fault(BadReason::Tombstone, "a payload of null"));
        }
        Ok(payload.kind() == Kind::Object)
    }

    /// Tells what is about the stream of changes from what nobody knows.
    #[cold]
    fn without_operation(&self, text: &str, fields: &Fields, form: Form) -> Fault {
        let envelope = &self.envelopes[form];
        let status = fields.slot(envelope.status);
        let is_transaction = status.kind() == Kind::Text
            && matches!(&text[status.range()], "BEGIN" | "END")
            && !is_nothing(fields.slot(envelope.id));
        if is_transaction {
            return Fault::new(BadReason::Control, "the begin or end of a transaction");
        }
        let object = if form == 0 { skip_space(text.as_bytes(), 0) } else { fields.slot(self.payload).start() };
        if !is_nothing(fields.slot(envelope.ts_ms)) && has_only_times(text, object) {
            return Fault::new(BadReason::Control, "a heartbeat");
        }
        let what = "no op: neither a flat change (op, table, before, after, ts_ms) nor a Debezium envelope";
        Fault::new(BadReason::MissingField, what)
    }
}

fn says_snapshot(text: &str, snapshot: Slot) -> bool {
    match snapshot.kind() {
        Kind::Absent | Kind::Null | Kind::False => false,
        _ => !matches!(&text[snapshot.range()], "" | "false"),
    }
}

/// Whether the object that begins there holds nothing but the times of a heartbeat. It was read, so it is whole.
fn has_only_times(text: &str, object: usize) -> bool {
    let bytes = text.as_bytes();
    let mut at = skip_space(bytes, object + 1);
    while byte_at(bytes, at) == b'"' {
        let Ok((_, end, value_at)) = scan::key(bytes, at) else { return false };
        if !matches!(&text[at + 1..end], "ts_ms" | "ts_us" | "ts_ns") {
            return false;
        }
        let Ok((_, end)) = scan::value(bytes, value_at, scan::DEPTH_MAX) else { return false };
        at = skip_space(bytes, end);
        if byte_at(bytes, at) == b',' {
            at = skip_space(bytes, at + 1);
        }
    }
    true
}
