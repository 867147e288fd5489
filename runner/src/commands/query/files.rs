//! Files that a query names by their path or URL: Parquet, CSV with a header, and JSON with one object in a line, packed or
//! not; or a folder of such files. Columns of CSV and JSON are guessed from the first rows.

use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::csv::reader::{Format, ReaderBuilder as CsvBuilder};
use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::{ScalarValue, exec_datafusion_err, exec_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;

use crate::tables::schema::TableSchema;
use crate::tables::{FileAt, NdjsonFile, Packing, Place, Table, TextError, children, is_delta, partition_of};

/// Rows from which the columns of a file are guessed.
const GUESS_ROWS: usize = 10_000;
/// Rows of a batch.
const BATCH_ROWS: usize = 8_192;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Parquet,
    Csv { delimiter: u8 },
    Json,
}

/// Whether the name of a table is rather a path.
pub(super) fn is_path(name: &str) -> bool {
    name.contains('/') || kind_of(name).is_some()
}

/// Opens a file, or a folder of files.
///
/// # Errors
/// It is not there, cannot be read, or is of no kind that is known.
pub(super) fn open(place: &Place) -> Result<Arc<dyn TableProvider>> {
    let is_file = match place {
        Place::Folder(path) => {
            let facts = std::fs::metadata(path);
            !facts.map_err(|error| exec_datafusion_err!("{place} cannot be read: {error}"))?.is_dir()
        }
        Place::Remote(_) => kind_of(&place.name()).is_some(),
    };
    // What a job wrote says of what types it is.
    if !is_file && (!matches!(TableSchema::of_place(place), Ok(None)) || is_delta(place).unwrap_or_default()) {
        return Ok(Arc::new(Table::new(place.clone()).open(None)?));
    }
    let files = if is_file { alone(place)? } else { below(place)? };
    if files.is_empty() && matches!(place, Place::Remote(_)) {
        return exec_err!("{place} cannot be read: there is no object of this name, and none below it");
    }
    let kinds: Vec<_> = files.iter().map(|file| kind_of(&file.at.name()).or_else(|| by_content(&file.at))).collect();
    // What a folder of an outputs folder holds is a table, also as long as it has no file.
    let Some((kind, _)) = kinds.first().copied().unwrap_or(Some((Kind::Parquet, Packing::None))) else {
        return exec_err!(
            "{place} is no file of rows: query reads .parquet, .csv, .tsv, .ndjson, .jsonl and .json, of text also .gz and .zst"
        );
    };
    if let Some(other) = kinds.iter().position(|other| other.is_none_or(|(other, _)| other != kind)) {
        let (first, other) = (&files[0].at, &files[other].at);
        return exec_err!("{place} holds files of several kinds: {first} and {other}; name one of them");
    }
    if kind == Kind::Parquet {
        return Ok(Arc::new(Table::new(place.clone()).open(None)?));
    }
    text_table(place, files, kind)
}

fn text_table(place: &Place, files: Vec<Found>, kind: Kind) -> Result<Arc<dyn TableProvider>> {
    let declared = TableSchema::of_place(place)?.unwrap_or_default();
    let own = columns(&files, kind)?;
    let mut directories: Vec<Field> = Vec::new();
    for (column, _) in files.iter().flat_map(|file| &file.values) {
        if !directories.iter().any(|known| known.name() == column) {
            let data_type = declared.directory_type(column).unwrap_or(DataType::Utf8);
            directories.push(Field::new(column, data_type, true));
        }
    }
    // The folder's value counts where both have one.
    let is_own = |field: &&Arc<Field>| directories.iter().all(|directory| directory.name() != field.name());
    let fields: Vec<_> = own.fields().iter().filter(is_own).map(|field| field.as_ref().clone()).collect();
    let schema = Arc::new(Schema::new(fields.into_iter().chain(directories).collect::<Vec<_>>()));
    let partitions = files
        .into_iter()
        .map(|file| -> Arc<dyn PartitionStream> { Arc::new(TextFile { file, kind, schema: Arc::clone(&schema) }) });
    Ok(Arc::new(StreamingTable::try_new(Arc::clone(&schema), partitions.collect())?))
}

/// A file, with what its Hive directories say.
#[derive(Debug)]
struct Found {
    at: FileAt,
    values: Vec<(String, Option<String>)>,
}

impl Found {
    /// Its bytes, unpacked.
    fn open(&self) -> Result<Box<dyn Read + Send>> {
        let packing = kind_of(&self.at.name()).map_or(Packing::None, |(_, packing)| packing);
        self.at.open(packing).map_err(|error| match DataFusionError::from(error) {
            DataFusionError::External(error) => DataFusionError::External(error),
            other => {
                let text = other.strip_backtrace();
                let text = text.strip_prefix("Execution error: ").unwrap_or(&text);
                exec_datafusion_err!("{} cannot be read: {}", self.at, in_words(&text, &self.at))
            }
        })
    }

    /// Its rows in these columns, if it is JSON.
    fn lines(&self, columns: Fields) -> Result<NdjsonFile> {
        let packing = kind_of(&self.at.name()).map_or(Packing::None, |(_, packing)| packing);
        Ok(NdjsonFile::open(&self.at, packing, columns)?)
    }

    fn failed(&self, error: ArrowError) -> DataFusionError {
        let problem = match &error {
            // It names the file itself.
            ArrowError::ExternalError(inner) if inner.is::<TextError>() => {
                return exec_datafusion_err!("{} cannot be read: {}", self.at, in_words(inner, &self.at));
            }
            ArrowError::ExternalError(inner) => inner.to_string(),
            ArrowError::IoError(_, source) => source.to_string(),
            _ => plain(&error),
        };
        exec_datafusion_err!("{} cannot be read: {problem}", self.at)
    }
}

/// The one file that is named.
fn alone(place: &Place) -> Result<Vec<Found>> {
    let files = Table::new(place.clone()).files()?;
    Ok(files.into_iter().map(|file| Found { at: file.at, values: Vec::new() }).collect())
}

/// The files of a folder, in order.
///
/// # Errors
/// A folder that cannot be listed.
fn below(place: &Place) -> Result<Vec<Found>> {
    let children = children(place)?;
    let mut found: Vec<_> = children.files.into_iter().map(|at| Found { at, values: Vec::new() }).collect();
    for folder in children.folders {
        let value = partition_of(&folder);
        for mut file in below(&folder)? {
            // Of a column that stands twice the inner value counts.
            if let Some((column, value)) =
                value.clone().filter(|(column, _)| file.values.iter().all(|own| own.0 != *column))
            {
                file.values.insert(0, (column, value));
            }
            found.push(file);
        }
    }
    Ok(found)
}

fn kind_of(name: &str) -> Option<(Kind, Packing)> {
    let name = name.to_ascii_lowercase();
    let (rest, packing) = match name.rsplit_once('.')? {
        (rest, "gz") => (rest, Packing::Gzip),
        (rest, "zst") => (rest, Packing::Zstd),
        _ => (name.as_str(), Packing::None),
    };
    let kind = match rest.rsplit_once('.')?.1 {
        "parquet" | "parq" if packing == Packing::None => Kind::Parquet,
        "csv" => Kind::Csv { delimiter: b',' },
        "tsv" => Kind::Csv { delimiter: b'\t' },
        "ndjson" | "jsonl" | "json" => Kind::Json,
        _ => return None,
    };
    Some((kind, packing))
}

/// Parquet files say what they are.
fn by_content(at: &FileAt) -> Option<(Kind, Packing)> {
    let mut magic = [0_u8; 4];
    at.open(Packing::None).ok()?.read_exact(&mut magic).ok()?;
    (&magic == b"PAR1").then_some((Kind::Parquet, Packing::None))
}

/// The columns of all files: one that came later is null in the others.
fn columns(files: &[Found], kind: Kind) -> Result<Schema> {
    let mut schemas = Vec::with_capacity(files.len());
    for file in files {
        let opened = file.open()?;
        let schema = match kind {
            Kind::Csv { delimiter } => {
                csv_format(delimiter).infer_schema(opened, Some(GUESS_ROWS)).map(|(schema, _)| schema)
            }
            _ => {
                let mut reader = BufReader::new(opened);
                let begin = reader.fill_buf().map_err(|error| file.failed(error.into()))?;
                if begin.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
                    return exec_err!("{} is one JSON array: query reads one object in each line", file.at);
                }
                arrow_json::reader::infer_json_schema(reader, Some(GUESS_ROWS)).map(|(schema, _)| schema)
            }
        };
        let schema = schema.map_err(|error| file.failed(error))?;
        schemas.push(if kind == Kind::Json { exact(file, &schema)? } else { schema });
    }
    Schema::try_merge(schemas).map_err(|error| exec_datafusion_err!("the files do not fit together: {}", plain(&error)))
}

/// The guessed columns of JSON, but for whole numbers that 64 bits do not hold: as floating point neighbours would be equal.
/// What is always null is text.
fn exact(file: &Found, guessed: &Schema) -> Result<Schema> {
    let is_float = |field: &&Arc<Field>| *field.data_type() == DataType::Float64;
    let floats: Fields =
        guessed.fields().iter().filter(is_float).map(|field| Field::new(field.name(), DataType::Utf8, true)).collect();
    let mut whole: Vec<bool> = vec![!floats.is_empty(); floats.len()];
    if !floats.is_empty() {
        let rows = file.lines(floats.clone())?.next_rows(GUESS_ROWS)?;
        for (whole, column) in whole.iter_mut().zip(rows.iter().flat_map(RecordBatch::columns)) {
            let is_whole = |text: &str| text.trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit());
            *whole = column.as_string::<i32>().iter().flatten().all(is_whole);
        }
    }
    let is_whole = |name: &str| floats.iter().zip(&whole).any(|(field, whole)| *whole && field.name() == name);
    let field = |field: &Arc<Field>| {
        let data_type =
            if is_whole(field.name()) { DataType::Decimal128(38, 0) } else { without_null(field.data_type()) };
        Field::new(field.name(), data_type, true)
    };
    Ok(Schema::new(guessed.fields().iter().map(field).collect::<Vec<_>>()))
}

fn without_null(data_type: &DataType) -> DataType {
    let field = |field: &Arc<Field>| Arc::new(Field::new(field.name(), without_null(field.data_type()), true));
    match data_type {
        DataType::Null => DataType::Utf8,
        DataType::List(item) => DataType::List(field(item)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect()),
        other => other.clone(),
    }
}

fn csv_format(delimiter: u8) -> Format {
    Format::default().with_header(true).with_delimiter(delimiter)
}

/// What is wrong with a file, without its name.
fn in_words(error: &dyn std::fmt::Display, at: &FileAt) -> String {
    let text = error.to_string();
    text.strip_prefix(&format!("{at}: ")).unwrap_or(&text).to_owned()
}

fn plain(error: &ArrowError) -> String {
    let text = error.to_string();
    text.split_once(" error: ").map_or(text.clone(), |(_, rest)| rest.to_owned())
}

/// A file of text, read as its rows are asked for.
#[derive(Debug)]
struct TextFile {
    file: Found,
    kind: Kind,
    schema: SchemaRef,
}

type Batches = Box<dyn Iterator<Item = std::result::Result<RecordBatch, ArrowError>> + Send>;

impl TextFile {
    fn batches(&self) -> Result<Batches> {
        let file = &self.file;
        let is_directory = |name: &str| file.values.iter().any(|(column, _)| column == name);
        Ok(match self.kind {
            Kind::Csv { delimiter } => {
                // Columns stand where the header of this very file has them.
                let header = csv_format(delimiter).infer_schema(file.open()?, Some(0));
                let header = header.map_err(|error| file.failed(error))?.0;
                let of_table = |field: &Arc<Field>| {
                    // A column that a directory overrules is read as text, and left.
                    let known = self.schema.field_with_name(field.name()).ok();
                    let known = known.filter(|known| !is_directory(known.name()));
                    known.cloned().unwrap_or_else(|| Field::new(field.name(), DataType::Utf8, true))
                };
                let own = Arc::new(Schema::new(header.fields().iter().map(of_table).collect::<Vec<_>>()));
                let reader = CsvBuilder::new(own).with_format(csv_format(delimiter)).with_batch_size(BATCH_ROWS);
                Box::new(reader.build(file.open()?).map_err(|error| file.failed(error))?)
            }
            _ => {
                let own = self.schema.fields().iter().filter(|field| !is_directory(field.name())).cloned();
                let mut lines = file.lines(own.collect())?;
                Box::new(std::iter::from_fn(move || {
                    lines.next_rows(BATCH_ROWS).map_err(|error| ArrowError::ExternalError(Box::new(error))).transpose()
                }))
            }
        })
    }
}

/// Rows with all columns of the table.
fn whole(batch: &RecordBatch, schema: &SchemaRef, values: &[(String, Option<String>)]) -> Result<RecordBatch> {
    let mut columns = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let value = values.iter().find(|(column, _)| column == field.name()).map(|(_, value)| value);
        columns.push(match (value, batch.column_by_name(field.name())) {
            (Some(Some(text)), _) => {
                ScalarValue::try_from_string(text.clone(), field.data_type())?.to_array_of_size(batch.num_rows())?
            }
            (None, Some(column)) => Arc::clone(column),
            _ => datafusion::arrow::array::new_null_array(field.data_type(), batch.num_rows()),
        });
    }
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

impl PartitionStream for TextFile {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (at, schema, values) = (self.file.at.clone(), Arc::clone(&self.schema), self.file.values.clone());
        let failed = move |error| Found { at: at.clone(), values: Vec::new() }.failed(error);
        let batches: Box<dyn Iterator<Item = Result<RecordBatch>> + Send> = match self.batches() {
            Ok(batches) => Box::new(batches.map(move |batch| whole(&batch.map_err(&failed)?, &schema, &values))),
            Err(error) => Box::new(std::iter::once(Err(error))),
        };
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), futures::stream::iter(batches)))
    }
}
