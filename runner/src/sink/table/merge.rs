//! Small files of one directory written anew as few large ones: the same rows, in the same order.
//!
//! Reads a file at a time, and holds a batch and what one encoder holds.

use bytes::Bytes;
use data_platform_crds::sink::Compression;
use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use datafusion::arrow::compute::{CastOptions, can_cast_types, cast_with_options};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};

use crate::checkpoint::log::random_attempt;
use crate::sink::SinkError;
use crate::sink::footer;
use crate::sink::table::parquet::ParquetEncoder;
use crate::sink::table::{Encoder, FileFormat, Footer, TableSettings};
use crate::storage::{SharedStore, StagedFile, StagedFolder, StoreError, paths};
use crate::tables::hive::Partitioner;

/// A value that does not fit its column is an error, never silently null.
const EXACT: CastOptions<'static> =
    CastOptions { safe: false, format_options: datafusion::arrow::util::display::FormatOptions::new() };

/// Rows of a batch.
const BATCH_ROWS: usize = 8_192;

/// What is to be written anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Merge {
    /// The directory, without a slash at its end.
    pub(crate) folder: String,
    /// Names of the files whose rows are merged, in the order of their commits.
    pub(crate) merged: Vec<String>,
    /// Names of the other files, which stay.
    pub(crate) kept: Vec<String>,
}

/// Who merges.
pub(crate) struct Merger<'a> {
    pub(crate) store: &'a SharedStore,
    pub(crate) settings: &'a TableSettings,
    pub(crate) job: &'a str,
    pub(crate) log_id: &'a str,
    pub(crate) epoch: u64,
    pub(crate) fingerprint: &'a str,
}

/// What became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Merged {
    /// Files that were read.
    pub(crate) read: usize,
    /// Files that were written.
    pub(crate) written: usize,
    pub(crate) rows: u64,
}

impl Merger<'_> {
    /// Writes the files anew and puts them in the place of the old ones. `None`: they cannot be merged, since their columns
    /// are no longer those of the job.
    ///
    /// # Errors
    /// When the store does not do what is asked; nothing has changed then.
    pub(crate) async fn merge(&self, merge: &Merge) -> Result<Option<Merged>, SinkError> {
        let FileFormat::Parquet(compression) = self.settings.format else { return Ok(None) };
        let partitioner = Partitioner::new(&self.settings.schema, &self.settings.partition_by)
            .map_err(|error| self.problem(&error))?;
        let schema = partitioner.file_schema(&self.settings.schema);
        let Some((footer, rows)) = self.facts(merge).await? else { return Ok(None) };
        let place = paths::compaction_of(self.log_id, self.epoch);
        let stage = format!("{}/{place}/{:016x}", paths::COMPACTION, random_attempt());
        let staged = self.store.stage_folder(&stage).await?;
        let written = self.write(merge, &schema, compression, &footer, &*staged).await;
        let written = match written {
            // What was read is all there, or nothing changes.
            Ok(Some((files, found))) if found == rows => files,
            Ok(None) => {
                staged.abandon().await;
                return Ok(None);
            }
            Ok(Some((_, found))) => {
                staged.abandon().await;
                let problem = format!("{}: {found} rows were read, and the files say {rows}", merge.folder);
                return Err(self.problem(&problem));
            }
            Err(error) => {
                staged.abandon().await;
                return Err(error);
            }
        };
        staged.replace(&merge.folder, &merge.merged, &merge.kept).await?;
        Ok(Some(Merged { read: merge.merged.len(), written, rows }))
    }

    fn problem(&self, problem: &dyn std::fmt::Display) -> SinkError {
        SinkError::Encode { output: self.settings.output.clone(), problem: problem.to_string() }
    }

    fn path(folder: &str, name: &str) -> String {
        format!("{folder}/{name}")
    }

    /// What the merged file says of itself, and its rows; `None`: a file is not this log's, or its columns do not fit.
    async fn facts(&self, merge: &Merge) -> Result<Option<(Footer, u64)>, SinkError> {
        let (mut first, mut last, mut rows) = (u64::MAX, 0, 0);
        for name in &merge.merged {
            let path = Self::path(&merge.folder, name);
            let found = footer::of_file(self.store, &path).await?;
            let found = found.ok_or_else(|| self.problem(&format!("{path} is gone")))?;
            let found = found.map_err(|error| self.problem(&format!("{path} is not a whole Parquet file: {error}")))?;
            let Some(footer) = found.footer.filter(|footer| footer.log_id == self.log_id) else { return Ok(None) };
            let (from, to) = footer.merged.unwrap_or((footer.version, footer.version));
            (first, last, rows) = (first.min(from), last.max(to), rows + found.rows);
        }
        let footer = Footer {
            job: self.job.to_owned(),
            log_id: self.log_id.to_owned(),
            version: last,
            fingerprint: self.fingerprint.to_owned(),
            merged: Some((first, last)),
            ..Footer::default()
        };
        Ok(Some((footer, rows)))
    }

    async fn open(&self, path: &str) -> Result<ParquetRecordBatchReaderBuilder<Bytes>, SinkError> {
        let content = self.store.get(path).await?.ok_or_else(|| self.problem(&format!("{path} is gone")))?;
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        ParquetRecordBatchReaderBuilder::try_new_with_options(content, options)
            .map_err(|error| self.problem(&format!("{path} is not a whole Parquet file: {error}")))
    }

    /// Writes all rows; gives the number of files, and of rows. `None`: the columns of a file are not those of the job.
    async fn write(
        &self,
        merge: &Merge,
        schema: &SchemaRef,
        compression: Compression,
        footer: &Footer,
        staged: &dyn StagedFolder,
    ) -> Result<Option<(usize, u64)>, SinkError> {
        let mut number = self.first_number(merge, footer.version);
        let (mut files, mut rows, mut open) = (0, 0, None::<Open>);
        for name in &merge.merged {
            let path = Self::path(&merge.folder, name);
            let reader = self.open(&path).await?;
            if !fits(reader.schema(), schema) {
                return Ok(None);
            }
            let reader = reader.with_batch_size(BATCH_ROWS).build();
            for batch in reader.map_err(|error| self.problem(&format!("{path}: {error}")))? {
                let batch = batch.map_err(|error| self.problem(&format!("{path}: {error}")))?;
                let batch = in_columns(&batch, schema).map_err(|error| self.problem(&format!("{path}: {error}")))?;
                rows += batch.num_rows() as u64;
                let file = match &mut open {
                    Some(file) => file,
                    None => {
                        let name = paths::final_file(
                            &self.settings.job,
                            self.log_id,
                            footer.version,
                            number,
                            self.settings.format.ending(),
                        );
                        (number, files) = (number + 1, files + 1);
                        let encoder = ParquetEncoder::new(schema, compression).map_err(|error| self.problem(&error))?;
                        open.insert(Open { encoder, file: staged.stage(&name).await?, written: 0 })
                    }
                };
                file.encoder.write(&batch).map_err(|error| self.problem(&error))?;
                file.drain().await?;
                if file.written + file.encoder.to_come() >= self.settings.target_file_bytes
                    && let Some(full) = open.take()
                {
                    full.finish(footer).await.map_err(|error| self.of_file(error))?;
                }
            }
        }
        if let Some(last) = open.take() {
            last.finish(footer).await.map_err(|error| self.of_file(error))?;
        }
        Ok(Some((files, rows)))
    }

    fn of_file(&self, error: Unwritten) -> SinkError {
        match error {
            Unwritten::Store(error) => error.into(),
            Unwritten::Encode(problem) => self.problem(&problem),
        }
    }

    /// A number that no file of the version has in the directory.
    fn first_number(&self, merge: &Merge, version: u64) -> usize {
        let names = merge.merged.iter().chain(&merge.kept);
        let of_version = names.filter(|name| paths::final_version(name, self.log_id) == Some(version));
        of_version.filter_map(|name| paths::final_number(name)).max().map_or(0, |greatest| greatest + 1)
    }
}

struct Open {
    encoder: ParquetEncoder,
    file: Box<dyn StagedFile>,
    written: u64,
}

enum Unwritten {
    Store(StoreError),
    Encode(String),
}

impl Open {
    async fn drain(&mut self) -> Result<(), StoreError> {
        let bytes = self.encoder.take();
        if bytes.is_empty() {
            return Ok(());
        }
        self.written += bytes.len() as u64;
        self.file.write(bytes.into()).await
    }

    async fn finish(mut self, footer: &Footer) -> Result<(), Unwritten> {
        self.encoder.finish(footer).map_err(Unwritten::Encode)?;
        self.drain().await.map_err(Unwritten::Store)?;
        self.file.finish().await.map(drop).map_err(Unwritten::Store)
    }
}

/// Whether every column of a file is one of the job.
fn fits(found: &SchemaRef, schema: &SchemaRef) -> bool {
    found.fields().iter().all(|field| {
        let known = schema.field_with_name(field.name());
        known.is_ok_and(|known| can_cast_types(field.data_type(), known.data_type()))
    })
}

/// Rows in the columns of the job: one that came later is null.
fn in_columns(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, datafusion::arrow::error::ArrowError> {
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        columns.push(match batch.column_by_name(field.name()) {
            Some(column) => cast_with_options(column, field.data_type(), &EXACT)?,
            None => new_null_array(field.data_type(), batch.num_rows()),
        });
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(std::sync::Arc::clone(schema), columns, &options)
}
