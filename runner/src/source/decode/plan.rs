//! What is read from a record: made once from the source's specification, before the first record.

use std::sync::Arc;

use data_platform_crds::column::{ColumnOrigin, ColumnSpec, ColumnType, TimestampUnit};
use data_platform_crds::source::{SourceFormat, SourceSpec};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};

use super::cdc;
use super::fields::PATH_LEVELS_MAX;
use super::scan::{DEPTH_MAX, RECORD_BYTES_MAX};
use crate::source::record::IDENTITY_COLUMNS;

/// The time zone of every timestamp column.
pub(super) const UTC: &str = "UTC";

/// What a decoder does with each record. Every declared column is checked; those that somebody needs are built.
#[derive(Clone, Debug)]
pub struct DecodePlan {
    /// All declared columns, in declared order; behind them those of the record's identity that are built.
    pub columns: Vec<DecodeColumn>,
    /// How the value is read.
    pub format: ValueFormat,
    /// Index in [`Self::columns`] of the column that tells when an event happened.
    pub event_time: Option<usize>,
    /// Longest value, in bytes.
    pub max_record_bytes: usize,
    /// Deepest nesting; the record's own object is level 1.
    pub max_depth: usize,
    /// Where the schemas of values come from; `None` where they have none.
    pub schemas: Option<SchemaPlan>,
}

/// Where the schemas of values come from: from a registry by the ids in front of them, unless there is a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaPlan {
    /// File with the schema.
    pub file: Option<Arc<str>>,
    /// Subject under which each must be registered.
    pub subject: Option<Arc<str>>,
    /// The message in the file.
    pub message: Option<Arc<str>>,
}

impl SchemaPlan {
    fn of(source: &SourceSpec) -> Option<Self> {
        let schema = source.schema.clone().unwrap_or_default();
        let text = |text: Option<String>| text.map(Arc::from);
        let plan = Self { file: text(schema.file), subject: text(schema.subject), message: text(schema.message) };
        (source.has_schema_ids() || plan.file.is_some()).then_some(plan)
    }
}

/// How a record's value is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueFormat {
    /// One JSON object.
    JsonObject,
    /// Change data in any of its forms: the columns name fields of the change.
    Change,
    /// Whatever it is, for columns that hold it as a whole. It must be what they are: bytes, text or any JSON.
    Raw,
    /// Avro, by its schema.
    Avro,
    /// Protobuf, by its descriptors.
    Protobuf,
}

impl ValueFormat {
    /// Whether values are read by schemas, and not as text.
    pub(super) const fn is_typed(self) -> bool {
        matches!(self, Self::Avro | Self::Protobuf)
    }

    /// The word for it in a job.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::JsonObject => "json",
            Self::Change => "cdc",
            Self::Raw => "raw",
            Self::Avro => "avro",
            Self::Protobuf => "protobuf",
        }
    }
}

/// A declared column, checked.
#[derive(Clone, Debug)]
pub struct DecodeColumn {
    /// Name in the query.
    pub name: Arc<str>,
    /// Type of the column.
    pub column_type: ColumnType,
    /// What the column holds.
    pub origin: ColumnOrigin,
    /// Names from the top of the value down to the field; empty if the column holds no field of the value.
    pub path: Vec<String>,
    /// Whether a null makes the record bad: declared as required, or the event time.
    pub required: bool,
    /// Least number of code points of a string.
    pub min_length: usize,
    /// Greatest number of code points of a string.
    pub max_length: usize,
    /// Unit of timestamps that come as numbers.
    pub timestamp_unit: TimestampUnit,
    /// Whether the column is in the batches; otherwise it is only checked.
    pub built: bool,
}

/// Why a source cannot be decoded. All but the last one are for the user to correct.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Two columns have one name.
    #[error("the column {0:?} is declared twice")]
    DuplicateColumn(String),
    /// The path cannot be split into names.
    #[error("the path of the column {column:?} is wrong: {problem}")]
    Path {
        /// Name of the column.
        column: String,
        /// What is wrong with it, and how to write it.
        problem: String,
    },
    /// The path has too many names.
    #[error("the path of the column {column:?} has {levels} names, more than {most}")]
    PathLevels {
        /// Name of the column.
        column: String,
        /// Names in its path.
        levels: usize,
        /// Names that it may have.
        most: usize,
    },
    /// Change data has fields of its own.
    #[error("the column {column:?} names {path}, which change data does not have: a path begins with one of {known}")]
    FieldOfChange {
        /// Name of the column.
        column: String,
        /// Its path.
        path: String,
        /// The fields that there are.
        known: String,
    },
    /// A field of change data has one type, and is declared with another.
    #[error("the column {column:?} holds {field} of change data, so its type must be {expected}, not {found}")]
    TypeOfChange {
        /// Name of the column.
        column: String,
        /// What it holds.
        field: String,
        /// The types that it may have.
        expected: &'static str,
        /// The type that it has.
        found: ColumnType,
    },
    /// A path belongs to a field of the value only.
    #[error("the column {0:?} has a path although it holds no field of the value")]
    PathOfOrigin(String),
    /// The column holds something that has one type, and is declared with another.
    #[error("the column {column:?} holds the record's {origin}, so its type must be {expected}, not {found}")]
    OriginType {
        /// Name of the column.
        column: String,
        /// What it holds.
        origin: &'static str,
        /// The types that it may have.
        expected: &'static str,
        /// The type that it has.
        found: ColumnType,
    },
    /// A length limit on something else than a string.
    #[error("the column {0:?} has minLength or maxLength, which only columns of type string can have")]
    LengthOfType(String),
    /// The event time names no column.
    #[error("the event time column {0:?} is not declared")]
    EventTimeUnknown(String),
    /// The event time is not a timestamp.
    #[error("the event time column {column:?} has the type {found}, not timestamp")]
    EventTimeType {
        /// Name of the column.
        column: String,
        /// The type that it has.
        found: ColumnType,
    },
    /// `maxRecordBytes` is 0 or beyond what the decoder can address.
    #[error("maxRecordBytes is {0}, not between 1 and {RECORD_BYTES_MAX}")]
    RecordBytes(u64),
    /// `maxDepth` is out of range.
    #[error("maxDepth is {0}, not between 1 and {DEPTH_MAX}")]
    Depth(i32),
    /// A value that is not parsed has no fields.
    #[error("the column {0:?} holds a field of the value, but the source's format is raw: values are not parsed")]
    FieldOfRaw(String),
    /// The caller needs a column that is not there, or names columns out of order: a bug.
    #[error("the needed columns {needed:?} are not ascending indices below {columns}")]
    Needed {
        /// What the caller asked for.
        needed: Vec<usize>,
        /// Number of declared columns.
        columns: usize,
    },
}

impl DecodePlan {
    /// The plan for a source whose columns `needed` must be built: ascending indices of `source.columns`, and behind the
    /// last of these the record's identity ([`IDENTITY_COLUMNS`]).
    ///
    /// # Errors
    /// The first thing in the declaration that no record could satisfy.
    pub fn new(source: &SourceSpec, needed: &[usize]) -> Result<Self, PlanError> {
        let format = match source.format {
            SourceFormat::Json => ValueFormat::JsonObject,
            SourceFormat::Cdc => ValueFormat::Change,
            SourceFormat::Raw => ValueFormat::Raw,
            SourceFormat::Avro => ValueFormat::Avro,
            SourceFormat::Protobuf => ValueFormat::Protobuf,
        };
        let ascending = needed.is_sorted_by(|a, b| a < b);
        let declared = source.columns.len();
        if !ascending || needed.last().is_some_and(|&last| last >= declared + IDENTITY_COLUMNS.len()) {
            return Err(PlanError::Needed { needed: needed.to_vec(), columns: declared });
        }
        let max_record_bytes = source.max_record_bytes.as_bytes();
        if !(1..=RECORD_BYTES_MAX as u64).contains(&max_record_bytes) {
            return Err(PlanError::RecordBytes(max_record_bytes));
        }
        let max_depth = usize::try_from(source.max_depth).unwrap_or(0);
        if !(1..=DEPTH_MAX).contains(&max_depth) {
            return Err(PlanError::Depth(source.max_depth));
        }
        let event_time = event_time(source)?;
        let mut columns: Vec<DecodeColumn> = Vec::with_capacity(source.columns.len());
        for (index, spec) in source.columns.iter().enumerate() {
            if columns.iter().any(|other| *other.name == spec.name) {
                return Err(PlanError::DuplicateColumn(spec.name.clone()));
            }
            if format == ValueFormat::Raw && spec.from == ColumnOrigin::Field {
                return Err(PlanError::FieldOfRaw(spec.name.clone()));
            }
            let built = needed.binary_search(&index).is_ok();
            let mut column = DecodeColumn::new(spec, event_time == Some(index), built)?;
            if format == ValueFormat::Change && spec.from == ColumnOrigin::Field {
                cdc::check_column(spec, &column.path)?;
                column.timestamp_unit = spec.timestamp_unit.or(cdc::timestamp_unit(&column.path)).unwrap_or_default();
            }
            columns.push(column);
        }
        let identity = needed.iter().filter_map(|index| index.checked_sub(declared));
        columns.extend(identity.map(DecodeColumn::identity));
        let (max_record_bytes, schemas) = (max_record_bytes as usize, SchemaPlan::of(source));
        Ok(Self { columns, format, event_time, max_record_bytes, max_depth, schemas })
    }

    /// Schema of the batches: the columns that are built, in declared order.
    pub fn schema(&self) -> SchemaRef {
        let fields: Vec<Field> = self.columns.iter().filter(|column| column.built).map(DecodeColumn::field).collect();
        Arc::new(Schema::new(fields))
    }
}

impl DecodeColumn {
    fn new(spec: &ColumnSpec, is_event_time: bool, built: bool) -> Result<Self, PlanError> {
        check_origin(spec)?;
        let has_limits = spec.min_length.is_some() || spec.max_length.is_some();
        if has_limits && spec.column_type != ColumnType::String {
            return Err(PlanError::LengthOfType(spec.name.clone()));
        }
        Ok(Self {
            name: spec.name.as_str().into(),
            column_type: spec.column_type.clone(),
            origin: spec.from,
            path: path(spec)?,
            required: spec.required || is_event_time,
            min_length: spec.min_length.map_or(0, |length| length as usize),
            max_length: spec.max_length.map_or(usize::MAX, |length| length as usize),
            timestamp_unit: spec.timestamp_unit.unwrap_or_default(),
            built,
        })
    }

    /// One of [`IDENTITY_COLUMNS`].
    fn identity(index: usize) -> Self {
        let (column_type, origin) = match index {
            0 => (ColumnType::String, ColumnOrigin::Topic),
            1 => (ColumnType::Int, ColumnOrigin::Partition),
            _ => (ColumnType::Bigint, ColumnOrigin::Offset),
        };
        Self {
            name: IDENTITY_COLUMNS[index].into(),
            column_type,
            origin,
            path: Vec::new(),
            required: false,
            min_length: 0,
            max_length: usize::MAX,
            timestamp_unit: TimestampUnit::default(),
            built: true,
        }
    }

    fn field(&self) -> Field {
        field(&self.name, &self.column_type, self.required, self.origin)
    }
}

fn event_time(source: &SourceSpec) -> Result<Option<usize>, PlanError> {
    let Some(event_time) = &source.event_time else { return Ok(None) };
    let column = &event_time.column;
    let Some(index) = source.columns.iter().position(|spec| spec.name == *column) else {
        return Err(PlanError::EventTimeUnknown(column.clone()));
    };
    let found = &source.columns[index].column_type;
    if *found != ColumnType::Timestamp {
        return Err(PlanError::EventTimeType { column: column.clone(), found: found.clone() });
    }
    Ok(Some(index))
}

fn check_origin(spec: &ColumnSpec) -> Result<(), PlanError> {
    let found = &spec.column_type;
    let (origin, expected, fits) = match spec.from {
        ColumnOrigin::Field => return Ok(()),
        ColumnOrigin::Value => {
            let fits = matches!(found, ColumnType::String | ColumnType::Binary | ColumnType::Json);
            ("value", "string, binary or json", fits)
        }
        ColumnOrigin::Key => ("key", "string or binary", matches!(found, ColumnType::String | ColumnType::Binary)),
        ColumnOrigin::Headers => ("headers", "array<struct<key:string,value:binary>>", is_headers_type(found)),
        ColumnOrigin::Topic => ("topic", "string", *found == ColumnType::String),
        ColumnOrigin::Partition => ("partition", "int", *found == ColumnType::Int),
        ColumnOrigin::Offset => ("offset", "bigint", *found == ColumnType::Bigint),
        ColumnOrigin::RecordTime => ("time", "timestamp", *found == ColumnType::Timestamp),
    };
    if fits {
        return Ok(());
    }
    Err(PlanError::OriginType { column: spec.name.clone(), origin, expected, found: found.clone() })
}

fn is_headers_type(column_type: &ColumnType) -> bool {
    let ColumnType::Array(item) = column_type else { return false };
    let ColumnType::Struct(fields) = item.as_ref() else { return false };
    match fields.as_slice() {
        [(key, ColumnType::String), (value, ColumnType::Binary)] => key == "key" && value == "value",
        _ => false,
    }
}

/// The names from the top of the value down to the field.
fn path(spec: &ColumnSpec) -> Result<Vec<String>, PlanError> {
    if spec.from != ColumnOrigin::Field {
        return if spec.path.is_none() { Ok(Vec::new()) } else { Err(PlanError::PathOfOrigin(spec.name.clone())) };
    }
    let names = spec.path_names().map_err(|problem| PlanError::Path { column: spec.name.clone(), problem })?;
    if names.len() > PATH_LEVELS_MAX {
        return Err(PlanError::PathLevels { column: spec.name.clone(), levels: names.len(), most: PATH_LEVELS_MAX });
    }
    Ok(names)
}

/// The Arrow type of a column type.
pub fn arrow_type(column_type: &ColumnType) -> DataType {
    match column_type {
        ColumnType::String | ColumnType::Json => DataType::Utf8View,
        ColumnType::Boolean => DataType::Boolean,
        ColumnType::Int => DataType::Int32,
        ColumnType::Bigint => DataType::Int64,
        ColumnType::Double => DataType::Float64,
        ColumnType::Decimal(precision, scale) => DataType::Decimal128(*precision, *scale),
        ColumnType::Date => DataType::Date32,
        ColumnType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        ColumnType::Binary => DataType::BinaryView,
        ColumnType::Array(item) => DataType::List(list_item(item)),
        ColumnType::Struct(fields) => DataType::Struct(struct_fields(fields)),
        ColumnType::Map(value) => DataType::Map(map_entries(value), false),
    }
}

/// Schema of all declared columns, for planning the query. A column that can never be null is not nullable.
pub fn declared_schema(source: &SourceSpec) -> SchemaRef {
    let event_time = source.event_time.as_ref().map(|event_time| event_time.column.as_str());
    let fields: Vec<Field> = source
        .columns
        .iter()
        .map(|spec| {
            let required = spec.required || event_time == Some(spec.name.as_str());
            field(&spec.name, &spec.column_type, required, spec.from)
        })
        .collect();
    Arc::new(Schema::new(fields))
}

fn field(name: &str, column_type: &ColumnType, required: bool, origin: ColumnOrigin) -> Field {
    let always_there = match origin {
        // A whole value that is JSON's null is null.
        ColumnOrigin::Value => *column_type != ColumnType::Json,
        ColumnOrigin::Headers | ColumnOrigin::Topic | ColumnOrigin::Partition | ColumnOrigin::Offset => true,
        ColumnOrigin::Field | ColumnOrigin::Key | ColumnOrigin::RecordTime => false,
    };
    Field::new(name, arrow_type(column_type), !required && !always_there)
}

pub(super) fn list_item(item: &ColumnType) -> FieldRef {
    Arc::new(Field::new_list_field(arrow_type(item), true))
}

pub(super) fn struct_fields(fields: &[(String, ColumnType)]) -> Fields {
    fields.iter().map(|(name, column_type)| Field::new(name, arrow_type(column_type), true)).collect()
}

/// The entries of a map, with the names that Arrow's own builders give them.
pub(super) fn map_entries(value: &ColumnType) -> FieldRef {
    let key = Field::new("keys", DataType::Utf8View, false);
    let value = Field::new("values", arrow_type(value), true);
    Arc::new(Field::new_struct("entries", vec![key, value], false))
}
