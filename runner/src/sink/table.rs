//! A table of files: rows in, staged files out, each named by the commit that will decide it.
//!
//! ```text
//! batch -> hive::Partitioner -> one open file per directory -> encoder -> staged file -> FileCommit
//! ```

mod csv;
pub(crate) mod merge;
mod ndjson;
mod parquet;
mod sorted;
mod text;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use data_platform_crds::sink::{Compression, SinkFormat, SinkSpec};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::parquet::file::metadata::KeyValue;

use crate::checkpoint::log::Attempt;
use crate::checkpoint::output::SharedOutput;
use crate::checkpoint::record::{FileCommit, OutputCommit};
use crate::delta::columns::{ColumnRefused, Columns};
use crate::faults::{Faults, Moment, Step};
use crate::offsets::Partitions;
use crate::sink::{Batch, Sink, SinkError, Stage};
use crate::storage::{Limits, SharedStore, StagedFile, StoreError, paths};
use crate::tables::Packing;
use crate::tables::hive::{PartitionError, Partitioner, RefusedRows};
use crate::tables::schema::TableSchema;

pub(crate) use self::text::count_rows as text_rows;

use self::parquet::{ParquetEncoder, ROW_GROUP_BYTES};
use self::text::TextEncoder;

/// Files that are open at once. One more closes the oldest: a job that partitions by a column of many values writes more
/// and smaller files rather than filling the memory.
const OPEN_FILES_MAX: usize = 32;
/// What a file's name has beside the job's: log, version or interval, number and ending.
const FILE_NAME_BYTES: usize = 64;
/// Bytes that all open files of a table may hold, encoded or not yet sent; above it the largest is closed.
const OPEN_BYTES_MAX: usize = 3 * ROW_GROUP_BYTES;

/// What is written into every file beside its rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Footer {
    /// `<namespace>/<job>`.
    pub job: String,
    /// Identity of the job log.
    pub log_id: String,
    /// Version of the log that decides the file.
    pub version: u64,
    /// Offsets that this file and its siblings of the same commit cover: since the last commit with a file.
    pub offsets: Partitions<(i64, i64)>,
    /// The job's watermark after the commit; `None` without windows, or before the first.
    pub watermark: Option<i64>,
    /// Hash of the job.
    pub fingerprint: String,
    /// The interval that a batch run replaced, in microseconds since 1970; `None` for a stream.
    pub interval: Option<(i64, i64)>,
    /// The first and the last version of the commits whose files were merged into this one; `None`: it was written by one.
    pub merged: Option<(u64, u64)>,
}

impl Footer {
    /// Keys in the file.
    pub const PREFIX: &str = "dataplatform.";

    fn key_values(&self) -> Vec<KeyValue> {
        let offsets = serde_json::to_string(&self.offsets).expect("names and numbers are always JSON");
        let watermark = self.watermark.map_or_else(|| "null".to_owned(), |watermark| watermark.to_string());
        let values = [
            ("job", self.job.clone()),
            ("log_id", self.log_id.clone()),
            ("version", self.version.to_string()),
            ("offsets", offsets),
            ("watermark", watermark),
            ("fingerprint", self.fingerprint.clone()),
            ("program", env!("CARGO_PKG_VERSION").to_owned()),
        ];
        let interval = self.interval.map(|(start, end)| ("interval", format!("[{start},{end}]")));
        let merged = self.merged.map(|(first, last)| ("merged", format!("[{first},{last}]")));
        values
            .into_iter()
            .chain(interval)
            .chain(merged)
            .map(|(key, value)| KeyValue::new(format!("{}{key}", Self::PREFIX), value))
            .collect()
    }
}

/// What the files of a table are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    /// Parquet.
    Parquet(Compression),
    /// Parquet, and the log of a Delta table says which of them it has.
    Delta(Compression),
    /// CSV.
    Csv(Packing),
    /// A JSON object in each line.
    Ndjson(Packing),
}

impl FileFormat {
    /// Of the files of a sink.
    pub fn of(sink: &SinkSpec) -> Self {
        let packing = match sink.compression {
            Some(Compression::Gzip) => Packing::Gzip,
            Some(Compression::Zstd) => Packing::Zstd,
            Some(Compression::Snappy | Compression::None) | None => Packing::None,
        };
        match sink.format {
            SinkFormat::Csv => Self::Csv(packing),
            SinkFormat::Ndjson => Self::Ndjson(packing),
            SinkFormat::Delta => Self::Delta(sink.compression.unwrap_or_default()),
            SinkFormat::Parquet => Self::Parquet(sink.compression.unwrap_or_default()),
            SinkFormat::Kafka | SinkFormat::Stdout => Self::Parquet(Compression::default()),
        }
    }

    /// Of Parquet files beside files of this format.
    #[must_use]
    pub fn as_parquet(self) -> Self {
        match self {
            Self::Parquet(compression) | Self::Delta(compression) => Self::Parquet(compression),
            Self::Csv(_) | Self::Ndjson(_) => Self::Parquet(Compression::default()),
        }
    }

    /// How the names of files end.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Parquet(_) | Self::Delta(_) => paths::PARQUET,
            Self::Csv(packing) => paths::text_ending(paths::CSV, packing.ending()),
            Self::Ndjson(packing) => paths::text_ending(paths::NDJSON, packing.ending()),
        }
    }
}

/// Encodes the rows of one file.
trait Encoder {
    fn write(&mut self, rows: &RecordBatch) -> Result<(), String>;

    /// Takes the bytes that are ready.
    fn take(&mut self) -> Vec<u8>;

    /// About how many bytes are still to come of what it holds.
    fn to_come(&self) -> u64;

    /// Bytes of memory that it holds.
    fn memory(&self) -> usize;

    /// It holds as much as it may, and can only give it up by ending the file.
    fn is_full(&self) -> bool {
        false
    }

    /// Ends the file; its last bytes are ready then. The answer is what can be said of its columns, as the log of a Delta
    /// table has it.
    fn finish(&mut self, footer: &Footer) -> Result<Option<String>, String>;
}

/// In which order the rows of a file are: ascending by these columns, nulls first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileOrder {
    /// Names of the columns; none: as the rows come.
    pub by: Vec<String>,
    /// The rows come in this order already.
    pub is_given: bool,
}

/// What stays the same for all commits of a table.
#[derive(Clone, Debug)]
pub struct TableSettings {
    /// Name of the output.
    pub output: String,
    /// Name of the job, the beginning of every file's name.
    pub job: String,
    /// Columns that become directories.
    pub partition_by: Vec<String>,
    /// In which order the rows of a file are.
    pub order: FileOrder,
    /// A file is closed when it has about this size.
    pub target_file_bytes: u64,
    /// So many files of an attempt lie in one directory at most: the last one takes the rest. `None`: as many as it takes.
    pub max_files: Option<usize>,
    /// What its files are.
    pub format: FileFormat,
    /// Schema of the rows.
    pub schema: SchemaRef,
}

impl TableSettings {
    /// Checks that rows of this schema can be written this way.
    ///
    /// # Errors
    /// When a column does not fit: the field of the sink that is about it, and why.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let of_partitions = |error: PartitionError| ("partitionBy", error.to_string());
        let partitioner = Partitioner::new(&self.schema, &self.partition_by).map_err(of_partitions)?;
        let columns = partitioner.file_schema(&self.schema);
        sorted::check(&self.order.by, &columns).map_err(|problem| ("sortBy", problem))?;
        match (&columns.fields()[..], self.format) {
            ([only], FileFormat::Csv(_)) => {
                Err(of_partitions(PartitionError::OneColumn { column: only.name().clone() }))
            }
            (_, FileFormat::Delta(_)) => {
                self.delta_columns().map(drop).map_err(|refused| ("format", refused.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// Its columns as a Delta table has them.
    ///
    /// # Errors
    /// When a Delta table has no such column.
    pub fn delta_columns(&self) -> Result<Columns, ColumnRefused> {
        Columns::of(&self.schema, &self.partition_by)
    }

    fn is_delta(&self) -> bool {
        matches!(self.format, FileFormat::Delta(_))
    }

    /// Bytes that the name of a file may take behind its directories.
    fn file_name_bytes(&self) -> usize {
        self.job.len() + FILE_NAME_BYTES
    }

    /// The first date among the columns that become directories.
    pub fn date_column(&self) -> Option<&str> {
        let is_date = |column: &&String| {
            self.schema.field_with_name(column).is_ok_and(|field| *field.data_type() == DataType::Date32)
        };
        self.partition_by.iter().find(is_date).map(String::as_str)
    }

    /// What readers are told of its columns.
    pub fn columns(&self) -> TableSchema {
        let columns = TableSchema::new(&self.schema, &self.partition_by);
        if self.is_delta() { columns.of_delta() } else { columns }
    }
}

/// How the files of an attempt are named, staged and at last.
#[derive(Clone, Debug)]
pub enum FileNames {
    /// By the commit that decides them.
    Commit(Attempt),
    /// By the interval whose rows they are: every attempt at it writes the same final names.
    Interval {
        /// Who stages them.
        attempt: Attempt,
        /// `<checkpoint>-<interval>`.
        name: String,
    },
}

impl FileNames {
    fn attempt(&self) -> &Attempt {
        match self {
            Self::Commit(attempt) | Self::Interval { attempt, .. } => attempt,
        }
    }

    /// Of a Delta table: no other attempt has such a name, since a file is written to where it stays.
    fn of_attempt(&self, settings: &TableSettings, footer: &Footer, number: usize) -> String {
        let Attempt { version, number: attempt, .. } = self.attempt();
        let name = match self {
            Self::Commit(_) => settings.job.clone(),
            Self::Interval { name, .. } => name.clone(),
        };
        let name = format!("{name}-{attempt:016x}");
        paths::final_file(&name, &footer.log_id, *version, number, settings.format.ending())
    }

    fn stage(&self, footer: &Footer, number: usize) -> String {
        match self {
            Self::Commit(Attempt { version, epoch, number: attempt })
            | Self::Interval { attempt: Attempt { version, epoch, number: attempt }, .. } => {
                paths::staged_file(&footer.log_id, *epoch, *version, *attempt, number)
            }
        }
    }

    /// `before`: files of this attempt in the same directory.
    fn last(&self, settings: &TableSettings, footer: &Footer, number: usize, before: usize) -> String {
        match (self, before) {
            (Self::Commit(attempt), _) => {
                paths::final_file(&settings.job, &footer.log_id, attempt.version, number, settings.format.ending())
            }
            (Self::Interval { name, .. }, 0) => format!("{name}.{}", settings.format.ending()),
            (Self::Interval { name, .. }, _) => format!("{name}-{before}.{}", settings.format.ending()),
        }
    }
}

/// A table that a job writes.
pub struct TableSink {
    settings: Arc<TableSettings>,
    output: SharedOutput,
    store: SharedStore,
    faults: Arc<dyn Faults>,
}

impl TableSink {
    /// The table at an output that is made of files.
    ///
    /// # Errors
    /// When it is not.
    pub fn new(
        settings: Arc<TableSettings>,
        output: SharedOutput,
        faults: Arc<dyn Faults>,
    ) -> Result<Self, StoreError> {
        let Some(store) = output.files().map(SharedStore::clone) else {
            return Err(StoreError::Unsuitable(format!("{} is no place for the files of a table", output.root())));
        };
        Ok(Self { settings, output, store, faults })
    }

    fn delta_columns(&self) -> Result<Option<Columns>, SinkError> {
        if !self.settings.is_delta() {
            return Ok(None);
        }
        let output = || self.settings.output.clone();
        let columns = self.settings.delta_columns();
        columns.map(Some).map_err(|refused| SinkError::Encode { output: output(), problem: refused.to_string() })
    }
}

#[async_trait(?Send)]
impl Sink for TableSink {
    fn name(&self) -> &str {
        &self.settings.output
    }

    async fn probe(&self) -> Result<(), SinkError> {
        self.output.probe().await?;
        if let Some(columns) = self.delta_columns()? {
            self.output.check_columns(&columns).await?;
        }
        Ok(())
    }

    async fn describe(&self) -> Result<(), SinkError> {
        if let Some(columns) = self.delta_columns()? {
            self.output.describe(&columns).await?;
        }
        Ok(self.settings.columns().tell(&self.store).await?)
    }

    fn begin(&self, batch: Batch) -> Result<Box<dyn Stage>, SinkError> {
        let Batch { attempt, footer } = batch;
        let (settings, store) = (Arc::clone(&self.settings), SharedStore::clone(&self.store));
        let names = FileNames::Commit(attempt);
        let writer = TableWriter::new(settings, store, names, footer, Arc::clone(&self.faults))?;
        Ok(Box::new(writer.to(SharedOutput::clone(&self.output))))
    }
}

/// Writes the rows of one attempt.
pub struct TableWriter {
    settings: Arc<TableSettings>,
    store: SharedStore,
    output: Option<SharedOutput>,
    names: FileNames,
    in_directory: BTreeMap<String, usize>,
    footer: Footer,
    faults: Arc<dyn Faults>,
    partitioner: Partitioner,
    schema: SchemaRef,
    open: BTreeMap<String, OpenFile>,
    opened: u64,
    number: usize,
    files: Vec<FileCommit>,
    refused: Vec<RefusedRows>,
    /// What is known of the columns of the files of a Delta table that is no output's, by path.
    statistics: BTreeMap<String, String>,
}

struct OpenFile {
    encoder: Box<dyn Encoder>,
    staged: Box<dyn StagedFile>,
    stage: String,
    path: String,
    rows: u64,
    written: u64,
    order: u64,
}

impl TableWriter {
    /// A writer for one attempt; `footer` is completed by [`Stage::set_watermark`] and [`Stage::set_offsets`].
    ///
    /// # Errors
    /// When a partition column does not fit.
    pub fn new(
        settings: Arc<TableSettings>,
        store: SharedStore,
        names: FileNames,
        footer: Footer,
        faults: Arc<dyn Faults>,
    ) -> Result<Self, SinkError> {
        let partitioner = Partitioner::new(&settings.schema, &settings.partition_by)
            .map_err(|error| SinkError::Encode { output: settings.output.clone(), problem: error.to_string() })?;
        let Limits { name, path } = store.limits();
        let limits = Limits { name, path: path.saturating_sub(settings.file_name_bytes()) };
        let partitioner = partitioner.with_limits(limits);
        let schema = partitioner.file_schema(&settings.schema);
        Ok(Self {
            settings,
            store,
            output: None,
            names,
            in_directory: BTreeMap::new(),
            footer,
            faults,
            partitioner,
            schema,
            open: BTreeMap::new(),
            opened: 0,
            number: 0,
            files: Vec::new(),
            refused: Vec::new(),
            statistics: BTreeMap::new(),
        })
    }

    /// What it writes is an output's, which wants to know what the files hold.
    #[must_use]
    pub fn to(mut self, output: SharedOutput) -> Self {
        self.output = Some(output);
        self
    }

    fn encode_error(&self, error: impl std::fmt::Display) -> SinkError {
        SinkError::Encode { output: self.settings.output.clone(), problem: error.to_string() }
    }

    async fn write_part(&mut self, directory: String, rows: &RecordBatch) -> Result<(), SinkError> {
        if !self.open.contains_key(&directory) {
            if self.open.len() >= OPEN_FILES_MAX {
                let oldest =
                    self.open.iter().min_by_key(|(_, file)| file.order).map(|(directory, _)| directory.clone());
                self.close(&oldest.expect("the map is full")).await?;
            }
            let file = self.open_file(&directory).await?;
            self.open.insert(directory.clone(), file);
        }
        let file = self.open.get_mut(&directory).expect("it was opened above");
        let encoded = file.encoder.write(rows);
        file.rows += rows.num_rows() as u64;
        let drained = file.drain().await;
        let may_begin_another = self
            .settings
            .max_files
            .is_none_or(|most| self.in_directory.get(&directory).is_none_or(|files| *files < most));
        let size = file.written + file.encoder.to_come();
        let is_full = (may_begin_another && size >= self.settings.target_file_bytes) || file.encoder.is_full();
        encoded.map_err(|error| self.encode_error(error))?;
        drained?;
        if is_full {
            return self.close(&directory).await;
        }
        self.limit_memory().await
    }

    async fn limit_memory(&mut self) -> Result<(), SinkError> {
        let held = |file: &OpenFile| file.encoder.memory() + file.staged.held();
        if self.open.len() < 2 || self.open.values().map(held).sum::<usize>() <= OPEN_BYTES_MAX {
            return Ok(());
        }
        let largest = self.open.iter().max_by_key(|(_, file)| held(file)).map(|(directory, _)| directory.clone());
        self.close(&largest.expect("several files are open")).await
    }

    async fn open_file(&mut self, directory: &str) -> Result<OpenFile, SinkError> {
        let before = self.in_directory.entry(directory.to_owned()).or_default();
        let (stage, path) = if self.settings.is_delta() {
            let path = format!("{directory}{}", self.names.of_attempt(&self.settings, &self.footer, self.number));
            (path.clone(), path)
        } else {
            let name = self.names.last(&self.settings, &self.footer, self.number, *before);
            (self.names.stage(&self.footer, self.number), format!("{directory}{name}"))
        };
        *before += 1;
        self.number += 1;
        self.opened += 1;
        self.faults.reached(Step::StageOpen, Moment::Before);
        let staged = self.store.stage(&stage).await?;
        let encoder: Box<dyn Encoder> = match self.settings.format {
            FileFormat::Parquet(compression) | FileFormat::Delta(compression) => {
                let encoder = ParquetEncoder::new(&self.schema, compression, &self.settings.order);
                Box::new(encoder.map_err(|error| self.encode_error(error))?)
            }
            FileFormat::Csv(packing) => {
                Box::new(TextEncoder::csv(&self.schema, packing).map_err(|error| self.encode_error(error))?)
            }
            FileFormat::Ndjson(packing) => {
                Box::new(TextEncoder::ndjson(packing).map_err(|error| self.encode_error(error))?)
            }
        };
        let mut file = OpenFile { encoder, staged, stage, path, rows: 0, written: 0, order: self.opened };
        file.drain().await?;
        self.faults.reached(Step::StageOpen, Moment::After);
        Ok(file)
    }

    async fn close(&mut self, directory: &str) -> Result<(), SinkError> {
        let Some(mut file) = self.open.remove(directory) else { return Ok(()) };
        let statistics = file.encoder.finish(&self.footer).map_err(|error| self.encode_error(error))?;
        file.drain().await?;
        self.faults.reached(Step::StageFinish, Moment::Before);
        let OpenFile { staged, stage, path, rows, .. } = file;
        let facts = staged.finish().await?;
        self.faults.reached(Step::StageFinish, Moment::After);
        if let Some(statistics) = statistics.filter(|_| self.settings.is_delta()) {
            match &self.output {
                Some(output) => output.note(&path, statistics),
                None => drop(self.statistics.insert(path.clone(), statistics)),
            }
        }
        self.files.push(FileCommit { stage, path, bytes: facts.bytes, xxh3: facts.xxh3, rows });
        Ok(())
    }

    /// Takes what is known of the columns of the files of a Delta table, by path.
    #[must_use]
    pub fn take_statistics(&mut self) -> BTreeMap<String, String> {
        std::mem::take(&mut self.statistics)
    }

    /// Adds a file without rows.
    ///
    /// # Errors
    /// As [`Stage::write`].
    pub async fn write_empty(&mut self, directory: &str) -> Result<(), SinkError> {
        let file = self.open_file(directory).await?;
        self.open.insert(directory.to_owned(), file);
        self.close(directory).await
    }
}

#[async_trait(?Send)]
impl Stage for TableWriter {
    async fn write(&mut self, rows: &RecordBatch) -> Result<(), SinkError> {
        let parts = self.partitioner.split(rows).map_err(|error| self.encode_error(error))?;
        for (directory, rows) in parts.rows {
            self.write_part(directory, &rows).await?;
        }
        self.refused.extend(parts.refused);
        Ok(())
    }

    /// No directory can be made for them.
    fn take_refused(&mut self) -> Vec<RefusedRows> {
        std::mem::take(&mut self.refused)
    }

    /// Too late once a file is finished: its footer names them.
    fn set_offsets(&mut self, offsets: Partitions<(i64, i64)>) -> bool {
        self.footer.offsets = offsets;
        self.files.is_empty()
    }

    fn set_watermark(&mut self, watermark: Option<i64>) {
        self.footer.watermark = watermark;
    }

    /// No rows, no files.
    async fn finish(&mut self) -> Result<OutputCommit, SinkError> {
        let directories: Vec<_> = self.open.keys().cloned().collect();
        for directory in directories {
            self.close(&directory).await?;
        }
        let root = self.output.as_ref().map_or_else(|| self.store.root(), |output| output.root()).to_owned();
        Ok(OutputCommit { root, files: self.files.clone(), ..OutputCommit::default() })
    }

    async fn abandon(self: Box<Self>) {
        let Self { files, open, store, .. } = *self;
        let opened: Vec<_> = open.values().map(|file| file.stage.clone()).collect();
        // What is open is closed first: nothing of it may come behind its removal.
        drop(open);
        let stages: Vec<_> = files.into_iter().map(|file| file.stage).chain(opened).collect();
        let _ = store.delete_all(&stages).await;
    }
}

impl OpenFile {
    async fn drain(&mut self) -> Result<(), StoreError> {
        let bytes = self.encoder.take();
        if bytes.is_empty() {
            return Ok(());
        }
        self.written += bytes.len() as u64;
        self.staged.write(Bytes::from(bytes)).await
    }
}
