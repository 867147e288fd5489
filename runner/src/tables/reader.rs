//! Bytes and footers of local Parquet files; of a CSV file its header.
//!
//! What a writer noted beside the Parquet types (`ARROW:schema`) is left out: files of one table come from several writers, and
//! the same Parquet type is the same type.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::common::exec_datafusion_err;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{ParquetFileMetrics, ParquetFileReaderFactory};
use datafusion::error::Result;
use datafusion::parquet::arrow::arrow_reader::ArrowReaderOptions;
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::parquet::arrow::parquet_to_arrow_schema;
use datafusion::parquet::errors::{ParquetError, Result as ParquetResult};
use datafusion::parquet::file::metadata::{
    FileMetaData, PageIndexPolicy, ParquetMetaData, ParquetMetaDataBuilder, ParquetMetaDataReader,
};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt;
use futures::future::{BoxFuture, ready};

use super::csv::CsvFile;
use super::listing::{ListedFile, is_csv};
use super::schema::TableSchema;

/// Files whose footers one thread reads before another one is worth its start.
const FILES_PER_THREAD: usize = 64;

/// What a file says of itself: the footer of Parquet, the header of CSV.
#[derive(Clone, Debug)]
pub(super) struct Footer {
    /// Its columns, in the types of Parquet.
    pub(super) schema: Arc<Schema>,
    /// Length of the file.
    pub(super) bytes: u64,
    /// `None`: a file whose rows nobody has counted.
    pub(super) counted: Option<Counted>,
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
    let threads =
        std::thread::available_parallelism().map_or(1, usize::from).min(files.len().div_ceil(FILES_PER_THREAD));
    let part = files.len().div_ceil(threads.max(1)).max(1);
    let parts = std::thread::scope(|scope| {
        let parts: Vec<_> = files.chunks(part).map(|files| scope.spawn(|| footers_of(files, declared))).collect();
        parts.into_iter().map(|part| part.join().map_err(|_| exec_datafusion_err!("reading footers failed"))).collect()
    });
    let parts: Result<Vec<Result<Vec<Footer>>>> = parts;
    let mut footers: Vec<Footer> = Vec::with_capacity(files.len());
    for part in parts? {
        footers.extend(part?);
    }
    Ok(footers)
}

fn footers_of(files: &[ListedFile], declared: &TableSchema) -> Result<Vec<Footer>> {
    let mut footers: Vec<Footer> = Vec::with_capacity(files.len());
    for file in files {
        let mut footer = if is_csv(&file.path) {
            header(&file.path, declared).map_err(|problem| exec_datafusion_err!("{problem}"))?
        } else {
            footer(&file.path).map_err(|error| exec_datafusion_err!("{error}"))?
        };
        if let Some(before) = footers.last().filter(|before| before.schema == footer.schema) {
            footer.schema = Arc::clone(&before.schema);
        }
        footers.push(footer);
    }
    Ok(footers)
}

/// The columns of a CSV file, in the types that its writer told.
fn header(path: &Path, declared: &TableSchema) -> std::result::Result<Footer, String> {
    let file = CsvFile::open(path)?;
    let fields = file.header().iter().map(|name| Field::new(name, declared.cell_type(name), true));
    let schema = Schema::new(fields.collect::<Vec<_>>());
    let bytes = std::fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?.len();
    Ok(Footer { schema: Arc::new(schema), bytes, counted: None })
}

fn footer(path: &Path) -> ParquetResult<Footer> {
    let file = open(path)?;
    let metadata = metadata(path, &file, PageIndexPolicy::Skip)?;
    let schema = parquet_to_arrow_schema(metadata.file_metadata().schema_descr(), None)
        .map_err(|error| damaged(path, &error))?;
    let number = |number: i64| u64::try_from(number).unwrap_or_default();
    let groups = metadata.row_groups().iter();
    let (rows, size) = groups
        .fold((0, 0), |(rows, size), group| (rows + number(group.num_rows()), size + number(group.total_byte_size())));
    let bytes = file.metadata().map_err(|error| unreadable(path, &error))?.len();
    Ok(Footer { schema: Arc::new(schema), bytes, counted: Some(Counted { rows, size }) })
}

fn open(path: &Path) -> ParquetResult<File> {
    File::open(path).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &std::io::Error) -> ParquetError {
    ParquetError::General(format!("{}: {error}", path.display()))
}

fn damaged(path: &Path, error: &dyn std::fmt::Display) -> ParquetError {
    ParquetError::General(format!("{} is not a whole Parquet file: {error}", path.display()))
}

/// The footer of a file without what its writer noted.
fn metadata(path: &Path, file: &File, page_index: PageIndexPolicy) -> ParquetResult<ParquetMetaData> {
    let reader = ParquetMetaDataReader::new().with_page_index_policy(page_index);
    let read = reader.parse_and_finish(file).map_err(|error| damaged(path, &error))?;
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
    Ok(builder.set_column_index(columns).set_offset_index(offsets).build())
}

/// Where a file of a plan lies, as it is: no URL, in which some characters mean something else.
#[derive(Debug)]
pub(super) struct LocalPath(pub(super) PathBuf);

/// Opens the files of a plan.
#[derive(Debug)]
pub(super) struct LocalFiles;

impl ParquetFileReaderFactory for LocalFiles {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        _: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let path = file.extension::<LocalPath>().map(|path| path.0.clone());
        let path = path.ok_or_else(|| exec_datafusion_err!("{} has no place", file.path()))?;
        let metrics = ParquetFileMetrics::new(partition, &path.to_string_lossy(), metrics);
        Ok(Box::new(LocalFile { path, file: None, metrics }))
    }
}

/// A file, opened when it is first read. Reads block: they are short, and the disk is this machine's.
struct LocalFile {
    path: PathBuf,
    file: Option<File>,
    metrics: ParquetFileMetrics,
}

impl LocalFile {
    fn file(&mut self) -> ParquetResult<&File> {
        if self.file.is_none() {
            self.file = Some(open(&self.path)?);
        }
        self.file.as_ref().ok_or_else(|| damaged(&self.path, &"it is not open"))
    }

    fn read(&mut self, range: &Range<u64>) -> ParquetResult<Bytes> {
        let length = range.end.saturating_sub(range.start);
        let mut bytes = vec![0; usize::try_from(length).map_err(|error| damaged(&self.path, &error))?];
        let read = self.file()?.read_exact_at(&mut bytes, range.start);
        read.map_err(|error| damaged(&self.path, &error))?;
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
