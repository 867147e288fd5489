//! JSON records to Arrow columns, one record at a time.
//!
//! Pure: no I/O, no clock. A source's thread calls [`Decoder::decode`] for each record it polled and
//! [`Decoder::finish`] for a batch. A record that is bad for any reason leaves no trace in the batch; the caller counts
//! it and keeps it.
//!
//! ```text
//! Record ── UTF-8 ── fields: one pass, checks all, finds the declared fields ── columns: check, append ── RecordBatch
//!                      steps (guesses), scan (grammar), simd                      text, number, time, nested, views
//! ```
//!
//! What a value becomes, beyond what [`ColumnType`](data_platform_crds::column::ColumnType) says:
//! - Every declared column is checked in every record, also those that the query does not use: a record is bad in all
//!   jobs that declare it alike, or in none. What nobody declared must be JSON, and is otherwise ignored.
//! - A number or boolean in a string column is its JSON text (`1.50e3` stays). In the other direction text is never
//!   taken for a number or a boolean, except for decimals, which producers put into quotes to keep their digits.
//! - A whole number may be written `1.0` or `1e3`; 1.5 in an int column is of the wrong type, not rounded.
//! - On the way along a path, null or nothing gives null; any other value that is not an object is of the wrong type.
//! - A field that is declared, or leads to one, may stand once at the top level; below it the last of several wins.
//! - Half a surrogate pair (`"\ud800"`) is a syntax error everywhere, since no text can hold it.

use std::sync::Arc;

use data_platform_crds::column::{ColumnOrigin, ColumnType};
use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::SchemaRef;

pub use self::bad::{BadDetail, BadReason, BadRecord};
pub use self::plan::{DecodeColumn, DecodePlan, PlanError, SchemaPlan, ValueFormat, arrow_type, declared_schema};
pub(crate) use self::time::timestamp_of_text;

use self::avro::{Located, Program};
use self::bad::{Fault, before_the_json};
use self::cdc::{Change, Changes};
use self::column::{Column, Limits, Scratch};
use self::fields::{Fields, Place};
use self::protobuf::Found;
use self::scan::{Kind, RECORD_BYTES_MAX, Slot};
use self::schemas::{Entry, Known};
use super::record::Record;
use super::schemas::{SchemaKind, WriterSchema};

mod avro;
mod bad;
mod cdc;
mod column;
mod fields;
mod nested;
mod number;
mod plan;
mod protobuf;
mod scan;
mod schemas;
mod simd;
mod steps;
mod text;
mod time;
mod typed;
mod views;

#[cfg(test)]
mod tests;

/// Builds batches from records.
pub struct Decoder {
    fields: Fields,
    columns: Vec<Reader>,
    event_time: Option<usize>,
    max_record_bytes: usize,
    check: ValueCheck,
    /// Tells the forms of change data apart; `None` for other formats.
    changes: Option<Changes>,
    schema: SchemaRef,
    scratch: Scratch,
    rows: usize,
    /// Bytes that came in since the batch was measured last.
    unmeasured: usize,
    /// Headers are counted only when they are built.
    has_headers: bool,
    /// The schemas of values that have one.
    schemas: Option<Known>,
    /// By column: where it lies in a value that is read by its schema.
    located: Vec<Located>,
    /// Some column holds the whole value, which has to be written as JSON for it.
    writes_json: bool,
    /// Reused memory: a value as JSON.
    json: String,
}

/// What a value must be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ValueCheck {
    JsonObject,
    Change,
    Json,
    Text,
    /// Read by its schema.
    Typed,
    Nothing,
}

/// A declared column: where it comes from and where it goes.
struct Reader {
    name: Arc<str>,
    origin: Origin,
    required: bool,
    built: bool,
    column: Column,
}

enum Origin {
    /// A field of the value.
    Field(Place),
    /// A field of a value that is read by its schema.
    Typed,
    /// A part of the change that the value is.
    Change(cdc::Part),
    /// The value as a whole, or what Kafka keeps beside it.
    Record(ColumnOrigin),
}

impl Decoder {
    /// A decoder with an empty batch.
    pub fn new(plan: DecodePlan) -> Self {
        let schema = plan.schema();
        let paths = plan.columns.iter().enumerate().filter(|(_, column)| column.origin == ColumnOrigin::Field);
        let (fields, places, changes);
        let mut places = if plan.format == ValueFormat::Change {
            let mut all = cdc::Paths::new();
            paths.for_each(|(index, column)| all.add_column(index, &column.path));
            (fields, places) = Fields::new(all.iter(), plan.max_depth);
            let mut places = places.into_iter();
            changes = Some(Changes::new(&mut places));
            places
        } else {
            let is_text = !plan.format.is_typed();
            let paths = paths.filter(|_| is_text).map(|(index, column)| (index, column.path.as_slice()));
            (fields, places) = Fields::new(paths, plan.max_depth);
            changes = None;
            places.into_iter()
        };
        let columns = plan.columns.iter().map(|column| Reader::new(column, plan.format, &mut places)).collect();
        let holds_text =
            |column: &DecodeColumn| column.origin == ColumnOrigin::Value && column.column_type != ColumnType::Binary;
        let schemas = plan.schemas.clone();
        let schemas = schemas.map(|schemas| Known::new(schemas, plan.format, &plan.columns, plan.max_depth));
        Self {
            fields,
            columns,
            event_time: plan.event_time,
            // Positions have no room for more, even if somebody made the plan by hand.
            max_record_bytes: plan.max_record_bytes.min(RECORD_BYTES_MAX),
            check: ValueCheck::of(&plan),
            changes,
            schema,
            scratch: Scratch::new(),
            rows: 0,
            unmeasured: 0,
            has_headers: plan.columns.iter().any(|column| column.built && column.origin == ColumnOrigin::Headers),
            schemas,
            located: vec![Located::Absent; plan.columns.len()],
            writes_json: plan.format.is_typed() && plan.columns.iter().any(holds_text),
            json: String::new(),
        }
    }

    /// The id of the schema that must be learned before a record can be decoded, if there is one. Of one that nobody
    /// knows the record is bad.
    #[inline]
    pub fn schema_needed(&self, record: &Record<'_>) -> Option<u32> {
        self.schemas.as_ref()?.id_needed(record.value?)
    }

    /// The file whose schema must be learned before the first record, and its language.
    pub fn schema_file_needed(&self) -> Option<(&str, SchemaKind)> {
        self.schemas.as_ref()?.file_needed()
    }

    /// The declared columns in words, for messages.
    pub fn declared(&self) -> String {
        self.schemas.as_ref().map(Known::declared).unwrap_or_default()
    }

    /// Takes up a schema, for ever. Gives what is wrong with it, if so: then every record of it is bad.
    pub fn learn(&mut self, schema: &WriterSchema) -> Option<Arc<str>> {
        self.schemas.as_mut()?.learn(schema)
    }

    /// Appends a row for a record; gives the event's time, in microseconds since 1970, if the source declares one.
    ///
    /// `latest_event_time`: the latest time, in microseconds since 1970, that is not in the future: the clock plus
    /// `maxFutureSkew`. A tombstone (no value) is the caller's: it gives no row and is no bad record.
    ///
    /// # Errors
    /// The record is bad, and the batch is as it was. If several things are wrong, the first of these is told: size,
    /// emptiness, UTF-8, JSON, a field twice, the columns in declared order, the future.
    pub fn decode(&mut self, record: &Record<'_>, latest_event_time: i64) -> Result<Option<i64>, BadRecord> {
        debug_assert!(record.value.is_some(), "tombstones are handled by the caller");
        match self.append(record, latest_event_time) {
            Ok(event_time) => {
                self.rows += 1;
                self.unmeasured += record.value.map_or(0, <[u8]>::len) + record.key.map_or(0, <[u8]>::len);
                Ok(event_time)
            }
            Err(fault) => Err(self.take_back(fault, record.value.unwrap_or_default())),
        }
    }

    /// Rows in the batch.
    #[inline]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of memory that the batch's values take. Walks the columns: cheap, but not free.
    ///
    /// A batch may hold 2^31 items of one list column at most; callers finish one long before by rows and bytes.
    pub fn bytes(&self) -> usize {
        self.columns.iter().filter(|reader| reader.built).map(|reader| reader.column.bytes()).sum()
    }

    /// Whether the batch's values take at least `limit` bytes. To be asked after each record: measures only when enough
    /// came in that the answer can have changed by more than a sixteenth of the limit.
    #[inline]
    pub fn holds(&mut self, limit: usize) -> bool {
        (self.unmeasured >= limit / 16 || self.has_headers) && self.measure() >= limit
    }

    #[inline(never)]
    fn measure(&mut self) -> usize {
        self.unmeasured = 0;
        self.bytes()
    }

    /// Gives the rows and begins a new batch, with room for as many.
    pub fn finish(&mut self) -> RecordBatch {
        self.unmeasured = 0;
        let built = self.columns.iter_mut().filter(|reader| reader.built);
        let arrays = built.map(|reader| reader.column.finish()).collect();
        // Without a column (`SELECT count(*)`) the number of rows must be told.
        let options = RecordBatchOptions::new().with_row_count(Some(std::mem::take(&mut self.rows)));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)
            .expect("the schema and the columns are made from one plan, and each row appends to every column")
    }

    #[inline(always)]
    fn append(&mut self, record: &Record<'_>, latest_event_time: i64) -> Result<Option<i64>, Fault> {
        let value = record.value.unwrap_or_default();
        if value.len() > self.max_record_bytes {
            return Err(Fault::new(BadReason::TooLarge, "the value is longer than the source's maxRecordBytes"));
        }
        if self.schemas.is_some() {
            return self.append_by_schema(record, value, latest_event_time);
        }
        self.append_text(record, value, latest_event_time).map_err(|fault| match fault.column {
            None => before_the_json(value, fault),
            Some(_) => fault,
        })
    }

    #[inline(always)]
    fn append_text(&mut self, record: &Record<'_>, value: &[u8], latest_event_time: i64) -> Result<Option<i64>, Fault> {
        let (text, change) = self.parse(value)?;
        for (index, reader) in self.columns.iter_mut().enumerate() {
            let read = reader.read(record, text, change, &self.fields, &mut self.scratch);
            read.map_err(|fault| fault.of_column(index))?;
        }
        self.event_time(latest_event_time)
    }

    /// A value that says, or whose source says, by which schema it was written.
    fn append_by_schema(
        &mut self,
        record: &Record<'_>,
        value: &[u8],
        latest_event_time: i64,
    ) -> Result<Option<i64>, Fault> {
        let Some(schemas) = &self.schemas else { return Ok(None) };
        let (entry, body) = schemas.entry(value)?;
        let moved = |fault: Fault| fault.moved(value.len() - body.len());
        match entry {
            Entry::Bad(reason, _) => Err(Fault::at(*reason, 1, "the record cannot be read by its schema")),
            Entry::Text => self.append_text(record, body, latest_event_time).map_err(moved),
            Entry::Avro(program) if self.check == ValueCheck::Change => {
                let mut json = std::mem::take(&mut self.json);
                json.clear();
                let written = program.write_json(body, &mut json).map_err(moved);
                let appended = written.and_then(|()| {
                    // Places in the JSON are none in the value.
                    let without_place = |fault| Fault { position: None, ..fault };
                    self.append_text(record, json.as_bytes(), latest_event_time).map_err(without_place)
                });
                self.json = json;
                appended
            }
            Entry::Protobuf(messages) => {
                let (program, bytes) = messages.program(body)?;
                let message = program.decode(bytes)?;
                if self.writes_json {
                    self.json.clear();
                    protobuf::write_json(&message, &mut self.json);
                }
                for (index, reader) in self.columns.iter_mut().enumerate() {
                    let read = match reader.origin {
                        Origin::Record(origin) => reader.read_origin(origin, record, &self.json),
                        _ => reader.read_found(&program.find(&message, index), &mut self.scratch),
                    };
                    read.map_err(|fault| fault.of_column(index))?;
                }
                self.event_time(latest_event_time)
            }
            Entry::Avro(program) => {
                self.located.fill(Located::Absent);
                program.locate(body, &mut self.located).map_err(moved)?;
                if self.writes_json {
                    self.json.clear();
                    program.write_json(body, &mut self.json).map_err(moved)?;
                }
                for (index, reader) in self.columns.iter_mut().enumerate() {
                    let read = match reader.origin {
                        Origin::Record(origin) => reader.read_origin(origin, record, &self.json),
                        _ => reader.read_located(program, body, self.located[index], &mut self.scratch).map_err(moved),
                    };
                    read.map_err(|fault| fault.of_column(index))?;
                }
                self.event_time(latest_event_time)
            }
        }
    }

    /// The time of the record that was appended last, which must not lie in the future.
    #[inline(always)]
    fn event_time(&self, latest_event_time: i64) -> Result<Option<i64>, Fault> {
        let Some(index) = self.event_time else { return Ok(None) };
        let event_time = self.columns[index].column.last_micros();
        if event_time.is_some_and(|event_time| event_time > latest_event_time) {
            let fault = Fault::new(BadReason::Future, "the event lies further in the future than maxFutureSkew");
            return Err(fault.of_column(index));
        }
        Ok(event_time)
    }

    /// The value as text, its fields found; and the change that it is, where it is one.
    #[inline(always)]
    fn parse<'a>(&mut self, value: &'a [u8]) -> Result<(&'a str, Change), Fault> {
        let text = self.check.text(value)?;
        match self.check {
            ValueCheck::JsonObject => self.fields.read(text)?,
            ValueCheck::Change => return Ok((text, self.read_change(text)?)),
            ValueCheck::Json => self.fields.check_value(text)?,
            ValueCheck::Text | ValueCheck::Typed | ValueCheck::Nothing => {}
        }
        Ok((text, Change::default()))
    }

    fn read_change(&mut self, text: &str) -> Result<Change, Fault> {
        match self.fields.read(text) {
            // What an unwrapped delete leaves.
            Err(fault) if fault.reason == BadReason::NotObject && text.trim_ascii() == "null" => {
                Err(Fault::new(BadReason::Tombstone, "the JSON text null"))
            }
            Err(fault) => Err(fault),
            Ok(()) => self.changes.as_ref().map_or(Ok(Change::default()), |changes| changes.read(text, &self.fields)),
        }
    }

    /// Undoes what a bad record has appended.
    #[cold]
    fn take_back(&mut self, fault: Fault, value: &[u8]) -> BadRecord {
        for reader in self.columns.iter_mut().filter(|reader| reader.built) {
            reader.column.truncate(self.rows);
        }
        let column = fault.column.and_then(|index| self.columns.get(index as usize));
        let column = column.map(|column| Arc::clone(&column.name));
        let is_about_schema =
            matches!(fault.reason, BadReason::UnknownSchema | BadReason::ForeignSchema | BadReason::IncompatibleSchema);
        let schemas = self.schemas.as_ref().filter(|_| is_about_schema);
        let schema = schemas.and_then(|schemas| schemas.about(value));
        let detail = BadDetail { column, position: fault.position, what: fault.what, schema };
        BadRecord { reason: fault.reason, detail }
    }
}

impl ValueCheck {
    fn of(plan: &DecodePlan) -> Self {
        let whole = |column: &&DecodeColumn| column.origin == ColumnOrigin::Value;
        let mut whole_values = plan.columns.iter().filter(whole).map(|column| &column.column_type);
        match plan.format {
            ValueFormat::JsonObject => Self::JsonObject,
            ValueFormat::Change => Self::Change,
            ValueFormat::Avro | ValueFormat::Protobuf => Self::Typed,
            ValueFormat::Raw if whole_values.clone().any(|column_type| *column_type == ColumnType::Json) => Self::Json,
            ValueFormat::Raw if whole_values.any(|column_type| *column_type == ColumnType::String) => Self::Text,
            ValueFormat::Raw => Self::Nothing,
        }
    }

    /// The value as text, if it must be one.
    #[inline(always)]
    fn text(self, value: &[u8]) -> Result<&str, Fault> {
        match self {
            Self::Nothing | Self::Typed => Ok(""),
            Self::JsonObject | Self::Change | Self::Json | Self::Text => {
                simdutf8::basic::from_utf8(value).map_err(|_| Fault::new(BadReason::Utf8, "the value is not UTF-8"))
            }
        }
    }
}

impl Reader {
    fn new(column: &DecodeColumn, format: ValueFormat, places: &mut impl Iterator<Item = Place>) -> Self {
        let limits = Limits { min: column.min_length, max: column.max_length };
        Self {
            name: Arc::clone(&column.name),
            origin: match column.origin {
                ColumnOrigin::Field if format == ValueFormat::Change => {
                    Origin::Change(cdc::Part::new(&column.path, places))
                }
                ColumnOrigin::Field if format.is_typed() => Origin::Typed,
                ColumnOrigin::Field => Origin::Field(places.next().expect("each field column has given a path")),
                origin => Origin::Record(origin),
            },
            required: column.required,
            built: column.built,
            column: match column.origin {
                ColumnOrigin::Headers => Column::of_headers(),
                _ => Column::new(&column.column_type, limits, column.timestamp_unit),
            },
        }
    }

    /// Appends the column's value of a record, or only checks it.
    #[inline(always)]
    fn read(
        &mut self,
        record: &Record<'_>,
        text: &str,
        change: Change,
        fields: &Fields,
        scratch: &mut Scratch,
    ) -> Result<(), Fault> {
        match &self.origin {
            Origin::Field(place) => {
                let slot = fields.slot(place.slot);
                if slot.is_null() {
                    if self.required || !place.around.is_empty() {
                        check_missing(self.required, slot, place, fields)?;
                    }
                    if self.built {
                        self.column.push_null();
                    }
                    Ok(())
                } else if self.built {
                    self.column.append(text, slot, scratch)
                } else {
                    self.column.check(text, slot, scratch)
                }
            }
            Origin::Change(part) => {
                let (value, place) = part.value(change, fields);
                let slot = match value {
                    cdc::Value::Slot(slot) => slot,
                    cdc::Value::Text(text) if self.built => return self.column.push_text(text),
                    cdc::Value::Boolean(value) if self.built => return self.column.push_boolean(value),
                    cdc::Value::Text(_) | cdc::Value::Boolean(_) => return Ok(()),
                };
                if slot.is_null() {
                    match place {
                        Some(place) if self.required || !place.around.is_empty() => {
                            check_missing(self.required, slot, place, fields)?;
                        }
                        None if self.required => return Err(Fault::new(BadReason::MissingField, ABSENT)),
                        Some(_) | None => {}
                    }
                }
                if self.built {
                    self.column.append(text, slot, scratch)
                } else {
                    self.column.check(text, slot, scratch)
                }
            }
            Origin::Record(origin) => {
                let origin = *origin;
                self.read_origin(origin, record, text)
            }
            Origin::Typed => unreachable!("fields of typed values are read where they were located"),
        }
    }

    /// Appends the column's value of a record that was read by its schema, or only checks it.
    fn read_located(
        &mut self,
        program: &Program,
        value: &[u8],
        located: Located,
        scratch: &mut Scratch,
    ) -> Result<(), Fault> {
        match located {
            Located::Absent if self.required => Err(Fault::new(BadReason::MissingField, ABSENT)),
            Located::Null if self.required => Err(Fault::new(BadReason::MissingField, "required, but null")),
            Located::Absent | Located::Null => {
                if self.built {
                    self.column.push_null();
                }
                Ok(())
            }
            Located::Blocked { position } => {
                Err(Fault::at(BadReason::WrongType, position as usize, "expected a record on the way along the path"))
            }
            Located::At { position, read } => {
                if !self.built {
                    self.column.truncate(0);
                }
                program.read(value, position, read, &mut self.column, scratch)
            }
        }
    }

    /// Appends the column's value of a message, or only checks it.
    fn read_found(&mut self, found: &Found<'_>, scratch: &mut Scratch) -> Result<(), Fault> {
        match found {
            Found::Absent if self.required => Err(Fault::new(BadReason::MissingField, ABSENT)),
            Found::Absent => {
                if self.built {
                    self.column.push_null();
                }
                Ok(())
            }
            Found::Value(spot) => {
                if !self.built {
                    self.column.truncate(0);
                }
                spot.append(&mut self.column, scratch)
            }
        }
    }

    #[inline(never)]
    fn read_origin(&mut self, origin: ColumnOrigin, record: &Record<'_>, text: &str) -> Result<(), Fault> {
        if !self.built {
            self.column.truncate(0);
        }
        self.column.append_origin(origin, record, text)?;
        if self.required && self.column.ends_with_null() {
            return Err(Fault::new(BadReason::MissingField, "required, but the record has none"));
        }
        Ok(())
    }
}

const ABSENT: &str = "required, but absent";

/// Whether a field may be absent or null, and may be so in this way.
#[inline(never)]
fn check_missing(required: bool, slot: Slot, place: &Place, fields: &Fields) -> Result<(), Fault> {
    for &around in &place.around {
        let around = fields.slot(around);
        if !around.is_null() && around.kind() != Kind::Object {
            return Err(around.fault(BadReason::WrongType, "expected an object on the way along the path"));
        }
    }
    match slot.kind() {
        _ if !required => Ok(()),
        Kind::Null => Err(slot.fault(BadReason::MissingField, "required, but null")),
        _ => Err(Fault::new(BadReason::MissingField, ABSENT)),
    }
}
