//! Bytes and footers of Parquet files; of a CSV file its header.
//!
//! What a writer noted beside the Parquet types (`ARROW:schema`) is left out: files of one table come from several writers, and
//! the same Parquet type is the same type.

use std::fs::{File, Metadata};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::datatypes::{Field, Schema, TimeUnit};
use datafusion::common::config::TableParquetOptions;
use datafusion::common::{exec_datafusion_err, exec_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::Int96Coercer;
use datafusion::datasource::physical_plan::{ParquetFileMetrics, ParquetFileReaderFactory};
use datafusion::error::{DataFusionError, Result};
use datafusion::parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::parquet::arrow::parquet_to_arrow_schema;
use datafusion::parquet::errors::{ParquetError, Result as ParquetResult};
use datafusion::parquet::file::metadata::{
    FileMetaData, PageIndexPolicy, ParquetMetaData, ParquetMetaDataBuilder, ParquetMetaDataReader,
};
use datafusion::parquet::schema::types::SchemaDescriptor;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt;
use futures::future::{BoxFuture, ready};

use super::csv::CsvFile;
use super::format::Kind;
use super::listing::ListedFile;
use super::place::FileAt;
use super::remote::{RemoteParquet, changed};
use super::schema::{TableColumn, TableSchema, value_type};

/// Files whose footers one thread reads before another one is worth its start.
const FILES_PER_THREAD: usize = 64;

/// Threads that wait for the footers of objects: so many requests are on their way at once.
const REMOTE_THREADS: usize = 32;

/// What a file says of itself: the footer of Parquet, the header of CSV.
#[derive(Clone, Debug)]
pub(super) struct Footer {
    /// Its columns, in the types of Parquet.
    pub(super) schema: Arc<Schema>,
    /// Length of the file.
    pub(super) bytes: u64,
    /// `None`: a file whose rows nobody has counted.
    pub(super) counted: Option<Counted>,
    /// Which file of this machine it is of, if it was read.
    pub(super) identity: Option<Identity>,
}

/// Which file lies at a path of this machine: what its footer says is true of no other. A file is opened once for its footer, and for
/// its rows by each thread that reads a part of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    inode: u64,
    bytes: u64,
    /// When it was written, in seconds and nanoseconds.
    written: (i64, i64),
}

impl From<&Metadata> for Identity {
    fn from(facts: &Metadata) -> Self {
        Self { inode: facts.ino(), bytes: facts.len(), written: (facts.mtime(), facts.mtime_nsec()) }
    }
}

/// What the footer of a Parquet file counts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counted {
    pub(super) rows: u64,
    /// Its columns before compression, in bytes.
    pub(super) size: u64,
}

/// Reads the footers of files, in their order. Files with the same columns share one schema.
///
/// # Errors
/// The first file that is not whole.
pub(super) fn footers(files: &[ListedFile], declared: &TableSchema) -> Result<Vec<Footer>> {
    let is_remote = files.iter().any(|file| matches!(file.at, FileAt::Remote(_)));
    let threads = match is_remote {
        true => files.len().min(REMOTE_THREADS),
        false => {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            cores.min(files.len().div_ceil(FILES_PER_THREAD))
        }
    };
    let part = files.len().div_ceil(threads.max(1)).max(1);
    let parts = std::thread::scope(|scope| {
        let parts: Vec<_> = files.chunks(part).map(|files| scope.spawn(|| footers_of(files, declared))).collect();
        parts.into_iter().map(|part| part.join().map_err(|_| exec_datafusion_err!("reading footers failed"))).collect()
    });
    let parts: Result<Vec<Result<Vec<Footer>>>> = parts;
    let mut footers: Vec<Footer> = Vec::with_capacity(files.len());
    for part in parts? {
        for footer in part? {
            add(&mut footers, footer);
        }
    }
    Ok(footers)
}

fn add(footers: &mut Vec<Footer>, mut footer: Footer) {
    if let Some(before) = footers.last().filter(|before| before.schema == footer.schema) {
        footer.schema = Arc::clone(&before.schema);
    }
    footers.push(footer);
}

fn footers_of(files: &[ListedFile], declared: &TableSchema) -> Result<Vec<Footer>> {
    let mut footers: Vec<Footer> = Vec::with_capacity(files.len());
    for file in files {
        let footer = match file.format.kind {
            Kind::Parquet => footer(&file.at).map_err(|error| match error {
                ParquetError::External(source) => DataFusionError::External(source),
                other => exec_datafusion_err!("{other}"),
            })?,
            Kind::Csv => header(file, declared)?,
            Kind::Ndjson => keys(file, declared)?,
        };
        add(&mut footers, footer);
    }
    Ok(footers)
}

/// The columns of a CSV file, in the types that its writer told.
fn header(listed: &ListedFile, declared: &TableSchema) -> Result<Footer> {
    let file = CsvFile::open(&listed.at, listed.format.packing)?;
    let fields = file.header().iter().map(|name| Field::new(name, declared.cell_type(name), true));
    let schema = Schema::new(fields.collect::<Vec<_>>());
    Ok(Footer { schema: Arc::new(schema), bytes: length(listed)?, counted: None, identity: None })
}

/// The columns of a file of JSON objects: those that somebody declared, whatever keys it has.
fn keys(listed: &ListedFile, declared: &TableSchema) -> Result<Footer> {
    let own = declared.columns.iter().filter(|column| !column.directory);
    let mut fields = Vec::new();
    for TableColumn { name, data_type, .. } in own {
        let Some(data_type) = value_type(data_type) else {
            return exec_err!(
                "{}: the column {name} is of type {data_type}, of which no value is read from JSON: declare it as string, or \
                 as the struct, list or map that it is",
                listed.at
            );
        };
        fields.push(Field::new(name, data_type, true));
    }
    if fields.is_empty() {
        return exec_err!(
            "{}: nobody says which columns the objects have: declare them (columns: name and type of each)",
            listed.at
        );
    }
    Ok(Footer { schema: Arc::new(Schema::new(fields)), bytes: length(listed)?, counted: None, identity: None })
}

/// The length of a file.
///
/// # Errors
/// It is not there.
pub(super) fn length(listed: &ListedFile) -> Result<u64> {
    listed.length().ok_or_else(|| exec_datafusion_err!("{} is not there any more", listed.at))
}

impl ListedFile {
    /// Its length; `None`: it is not there any more.
    pub(crate) fn length(&self) -> Option<u64> {
        self.bytes.or_else(|| match &self.at {
            FileAt::Local(path) => std::fs::metadata(path).ok().map(|facts| facts.len()),
            FileAt::Remote(file) => Some(file.bytes),
        })
    }
}

fn footer(at: &FileAt) -> ParquetResult<Footer> {
    let (metadata, bytes, identity) = match at {
        FileAt::Local(path) => {
            let file = open(path)?;
            let facts = file.metadata().map_err(|error| unreadable(path, &error))?;
            (metadata(path, &file, PageIndexPolicy::Skip)?, facts.len(), Some(Identity::from(&facts)))
        }
        FileAt::Remote(file) => (file.footer()?, file.bytes, None),
    };
    let descriptor = metadata.file_metadata().schema_descr();
    let schema = parquet_to_arrow_schema(descriptor, None).map_err(|error| damaged(&at.to_string(), &error))?;
    let schema = without_int96(descriptor, &schema).unwrap_or(schema);
    let number = |number: i64| u64::try_from(number).unwrap_or_default();
    let groups = metadata.row_groups().iter();
    let (rows, size) = groups
        .fold((0, 0), |(rows, size), group| (rows + number(group.num_rows()), size + number(group.total_byte_size())));
    Ok(Footer { schema: Arc::new(schema), bytes, counted: Some(Counted { rows, size }), identity })
}

/// INT96 as the reader is told: instants in microseconds, as Spark means them. In nanoseconds, the type of Arrow, a day of 9999 is one
/// of 1816.
pub(super) fn int96_options() -> TableParquetOptions {
    let mut options = TableParquetOptions::default();
    options.global.coerce_int96 = Some("us".to_owned());
    options.global.coerce_int96_tz = Some("UTC".to_owned());
    options
}

/// The columns of a file with INT96 in it, as [`int96_options`] has them.
fn without_int96(descriptor: &SchemaDescriptor, schema: &Schema) -> Option<Schema> {
    Int96Coercer::new(descriptor, schema, &TimeUnit::Microsecond).with_timezone(Some("UTC".into())).coerce()
}

/// A reader of the rows of a whole file, in the types of [`parquet_columns`].
///
/// # Errors
/// It is no whole Parquet file.
pub(crate) fn parquet_rows(content: Bytes) -> ParquetResult<ParquetRecordBatchReader> {
    let metadata = ArrowReaderMetadata::load(&content, ArrowReaderOptions::new())?;
    let metadata = match without_int96(metadata.parquet_schema(), metadata.schema()) {
        None => metadata,
        Some(schema) => {
            let options = ArrowReaderOptions::new().with_schema(Arc::new(schema));
            ArrowReaderMetadata::try_new(Arc::clone(metadata.metadata()), options)?
        }
    };
    ParquetRecordBatchReaderBuilder::new_with_metadata(content, metadata).build()
}

/// The columns of a Parquet file, in the types of Parquet.
///
/// # Errors
/// It cannot be read, or is no whole Parquet file.
pub(crate) fn parquet_columns(at: &FileAt) -> ParquetResult<Arc<Schema>> {
    Ok(footer(at)?.schema)
}

fn open(path: &Path) -> ParquetResult<File> {
    File::open(path).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &std::io::Error) -> ParquetError {
    // It was there when the table was listed: its directory was exchanged, or somebody removed it.
    if error.kind() == std::io::ErrorKind::NotFound {
        return ParquetError::External(Box::new(changed(path.display().to_string())));
    }
    ParquetError::General(format!("{}: {error}", path.display()))
}

pub(super) fn damaged(file: &str, error: &dyn std::fmt::Display) -> ParquetError {
    ParquetError::General(format!("{file} is not a whole Parquet file: {error}"))
}

fn damaged_here(path: &Path, error: &dyn std::fmt::Display) -> ParquetError {
    damaged(&path.display().to_string(), error)
}

/// The footer of a file without what its writer noted.
fn metadata(path: &Path, file: &File, page_index: PageIndexPolicy) -> ParquetResult<ParquetMetaData> {
    let reader = ParquetMetaDataReader::new().with_page_index_policy(page_index);
    let read = reader.parse_and_finish(file).map_err(|error| damaged_here(path, &error))?;
    Ok(without_notes(read))
}

/// A footer without what its writer noted beside the types of Parquet.
pub(super) fn without_notes(read: ParquetMetaData) -> ParquetMetaData {
    let described = read.file_metadata();
    let described = FileMetaData::new(
        described.version(),
        described.num_rows(),
        described.created_by().map(str::to_owned),
        None,
        described.schema_descr_ptr(),
        described.column_orders().cloned(),
    );
    let mut read = read.into_builder();
    let (columns, offsets) = (read.take_column_index(), read.take_offset_index());
    let builder = ParquetMetaDataBuilder::new(described).set_row_groups(read.take_row_groups());
    builder.set_column_index(columns).set_offset_index(offsets).build()
}

/// Opens the files of a plan: each says where it lies itself, as it is and not by a URL, in which some characters mean
/// something else.
#[derive(Debug)]
pub(super) struct TableFilesReader;

impl ParquetFileReaderFactory for TableFilesReader {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        _: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let at = file.extension::<FileAt>().cloned();
        let at = at.ok_or_else(|| exec_datafusion_err!("{} has no place", file.path()))?;
        let metrics = ParquetFileMetrics::new(partition, &at.to_string(), metrics);
        let identity = file.extension::<Identity>().copied();
        Ok(match at {
            FileAt::Local(path) => Box::new(LocalFile { path, identity, file: None, metrics }),
            FileAt::Remote(file) => Box::new(RemoteParquet { file, metrics }),
        })
    }
}

/// A file, opened when it is first read. Reads block: they are short, and the disk is this machine's.
struct LocalFile {
    path: PathBuf,
    /// That of the file that was planned with.
    identity: Option<Identity>,
    file: Option<File>,
    metrics: ParquetFileMetrics,
}

impl LocalFile {
    fn file(&mut self) -> ParquetResult<&File> {
        if self.file.is_none() {
            let file = open(&self.path)?;
            let facts = file.metadata().map_err(|error| unreadable(&self.path, &error))?;
            if self.identity.is_some_and(|planned| planned != Identity::from(&facts)) {
                return Err(ParquetError::External(Box::new(changed(self.path.display().to_string()))));
            }
            self.file = Some(file);
        }
        self.file.as_ref().ok_or_else(|| damaged_here(&self.path, &"it is not open"))
    }

    fn read(&mut self, range: &Range<u64>) -> ParquetResult<Bytes> {
        let length = range.end.saturating_sub(range.start);
        let mut bytes = vec![0; usize::try_from(length).map_err(|error| damaged_here(&self.path, &error))?];
        let read = self.file()?.read_exact_at(&mut bytes, range.start);
        read.map_err(|error| damaged_here(&self.path, &error))?;
        self.metrics.bytes_scanned.add(bytes.len());
        Ok(bytes.into())
    }
}

impl AsyncFileReader for LocalFile {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        ready(self.read(&range)).boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        ready(ranges.iter().map(|range| self.read(range)).collect()).boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        let page_index = options.map_or(PageIndexPolicy::Skip, ArrowReaderOptions::column_index_policy);
        let path = self.path.clone();
        ready(self.file().and_then(|file| metadata(&path, file, page_index)).map(Arc::new)).boxed()
    }
}
