//! Files that a query names by their path: Parquet, CSV with a header, and JSON with one object in a line; or a folder of
//! such files. Columns of CSV and JSON are guessed from the first rows.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::csv::reader::{Format, ReaderBuilder as CsvBuilder};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::{ScalarValue, exec_datafusion_err, exec_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;

use crate::tables::schema::TableSchema;
use crate::tables::{Table, children, partition_of};

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
    name.contains('/') || kind_of(Path::new(name)).is_some()
}

/// Opens a file, or a folder of files.
///
/// # Errors
/// It is not there, cannot be read, or is of no kind that is known.
pub(super) fn open(path: &Path) -> Result<Arc<dyn TableProvider>> {
    let shown = path.display();
    let metadata = std::fs::metadata(path).map_err(|error| exec_datafusion_err!("{shown} cannot be read: {error}"))?;
    // What a job wrote says of what types it is.
    if metadata.is_dir() && !matches!(TableSchema::of_folder(path), Ok(None)) {
        return Ok(Arc::new(Table::new(path.to_path_buf()).open(None)?));
    }
    let files = if metadata.is_dir() {
        below(path).map_err(|error| exec_datafusion_err!("{error}"))?
    } else {
        vec![Found { path: path.to_path_buf(), values: Vec::new() }]
    };
    let kinds: Vec<_> = files.iter().map(|file| kind_of(&file.path).or_else(|| by_content(&file.path))).collect();
    // What a folder of an outputs folder holds is a table, also as long as it has no file.
    let Some(kind) = kinds.first().copied().unwrap_or(Some(Kind::Parquet)) else {
        return exec_err!("{shown} is no file of rows: query reads .parquet, .csv, .tsv, .ndjson, .jsonl and .json");
    };
    if let Some(other) = kinds.iter().position(|other| *other != Some(kind)) {
        let (first, other) = (files[0].path.display(), files[other].path.display());
        return exec_err!("{shown} holds files of several kinds: {first} and {other}; name one of them");
    }
    if kind == Kind::Parquet {
        return Ok(Arc::new(Table::new(path.to_path_buf()).open(None)?));
    }
    text_table(path, files, kind)
}

fn text_table(path: &Path, files: Vec<Found>, kind: Kind) -> Result<Arc<dyn TableProvider>> {
    let declared = TableSchema::of_folder(path).map_err(|error| exec_datafusion_err!("{error}"))?.unwrap_or_default();
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
    let partitions = files.into_iter().map(|file| -> Arc<dyn PartitionStream> {
        Arc::new(TextFile { path: file.path, values: file.values, kind, schema: Arc::clone(&schema) })
    });
    Ok(Arc::new(StreamingTable::try_new(Arc::clone(&schema), partitions.collect())?))
}

/// A file, with what its Hive directories say.
#[derive(Debug)]
struct Found {
    path: PathBuf,
    values: Vec<(String, Option<String>)>,
}

/// The files of a folder, in order.
///
/// # Errors
/// A folder that cannot be listed.
fn below(folder: &Path) -> std::io::Result<Vec<Found>> {
    let (folders, files) = children(folder)?;
    let mut found: Vec<_> = files.into_iter().map(|path| Found { path, values: Vec::new() }).collect();
    for folder in folders {
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

fn kind_of(file: &Path) -> Option<Kind> {
    match file.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "parquet" | "parq" => Some(Kind::Parquet),
        "csv" => Some(Kind::Csv { delimiter: b',' }),
        "tsv" => Some(Kind::Csv { delimiter: b'\t' }),
        "ndjson" | "jsonl" | "json" => Some(Kind::Json),
        _ => None,
    }
}

/// Parquet files say what they are.
fn by_content(file: &Path) -> Option<Kind> {
    let mut magic = [0_u8; 4];
    File::open(file).ok()?.read_exact(&mut magic).ok()?;
    (&magic == b"PAR1").then_some(Kind::Parquet)
}

/// The columns of all files: one that came later is null in the others.
fn columns(files: &[Found], kind: Kind) -> Result<Schema> {
    let mut schemas = Vec::with_capacity(files.len());
    for Found { path, .. } in files {
        let failed = |error: ArrowError| exec_datafusion_err!("{} cannot be read: {}", path.display(), plain(&error));
        let opened = File::open(path).map_err(|error| failed(error.into()))?;
        let schema = match kind {
            Kind::Csv { delimiter } => {
                csv_format(delimiter).infer_schema(opened, Some(GUESS_ROWS)).map(|(schema, _)| schema)
            }
            _ => {
                let mut reader = BufReader::new(opened);
                let is_array = first_byte(&mut reader).map_err(|error| failed(error.into()))? == Some(b'[');
                if is_array {
                    return exec_err!("{} is one JSON array: query reads one object in each line", path.display());
                }
                arrow_json::reader::infer_json_schema(reader, Some(GUESS_ROWS)).map(|(schema, _)| schema)
            }
        };
        schemas.push(schema.map_err(failed)?);
    }
    Schema::try_merge(schemas).map_err(|error| exec_datafusion_err!("the files do not fit together: {}", plain(&error)))
}

fn first_byte(reader: &mut BufReader<File>) -> std::io::Result<Option<u8>> {
    let first = reader.fill_buf()?.iter().copied().find(|byte| !byte.is_ascii_whitespace());
    reader.rewind()?;
    Ok(first)
}

fn csv_format(delimiter: u8) -> Format {
    Format::default().with_header(true).with_delimiter(delimiter)
}

fn plain(error: &ArrowError) -> String {
    let text = error.to_string();
    text.split_once(" error: ").map_or(text.clone(), |(_, rest)| rest.to_owned())
}

/// A file of text, read as its rows are asked for.
#[derive(Debug)]
struct TextFile {
    path: PathBuf,
    values: Vec<(String, Option<String>)>,
    kind: Kind,
    schema: SchemaRef,
}

impl TextFile {
    fn batches(&self) -> Result<Box<dyn Iterator<Item = Result<RecordBatch>> + Send>> {
        let path = self.path.display().to_string();
        let failed = move |error: ArrowError| -> DataFusionError {
            exec_datafusion_err!("{path} cannot be read: {}", plain(&error))
        };
        let opened = File::open(&self.path).map_err(|error| failed(error.into()))?;
        Ok(match self.kind {
            Kind::Csv { delimiter } => {
                // Columns stand where the header of this very file has them.
                let header = csv_format(delimiter).infer_schema(&opened, Some(0)).map_err(&failed)?.0;
                let of_table = |field: &Arc<Field>| {
                    // A column that a directory overrules is read as text, and left.
                    let known = self.schema.field_with_name(field.name()).ok();
                    let known = known.filter(|known| self.values.iter().all(|(column, _)| column != known.name()));
                    known.cloned().unwrap_or_else(|| Field::new(field.name(), DataType::Utf8, true))
                };
                let fields: Vec<_> = header.fields().iter().map(of_table).collect();
                (&opened).rewind().map_err(|error| failed(error.into()))?;
                let own = Arc::new(Schema::new(fields));
                let reader =
                    CsvBuilder::new(Arc::clone(&own)).with_format(csv_format(delimiter)).with_batch_size(BATCH_ROWS);
                let (reader, schema) = (reader.build(opened).map_err(&failed)?, Arc::clone(&self.schema));
                let values = self.values.clone();
                Box::new(reader.map(move |batch| whole(&batch.map_err(&failed)?, &schema, &values)))
            }
            _ => {
                let is_own = |field: &&Arc<Field>| self.values.iter().all(|(column, _)| column != field.name());
                let fields: Vec<_> = self.schema.fields().iter().filter(is_own).cloned().collect();
                let reader = arrow_json::ReaderBuilder::new(Arc::new(Schema::new(fields))).with_batch_size(BATCH_ROWS);
                let reader = reader.build(BufReader::new(opened)).map_err(&failed)?;
                let (schema, values) = (Arc::clone(&self.schema), self.values.clone());
                Box::new(reader.map(move |batch| whole(&batch.map_err(&failed)?, &schema, &values)))
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
        let batches: Box<dyn Iterator<Item = Result<RecordBatch>> + Send> = match self.batches() {
            Ok(batches) => batches,
            Err(error) => Box::new(std::iter::once(Err(error))),
        };
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), futures::stream::iter(batches)))
    }
}
