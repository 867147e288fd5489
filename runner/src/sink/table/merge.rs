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
use crate::checkpoint::record::FileCommit;
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
    pub(crate) job: String,
    pub(crate) log_id: String,
    pub(crate) epoch: u64,
    pub(crate) fingerprint: String,
    /// About how large a file is to be.
    pub(crate) target_bytes: u64,
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

/// Why files stay as they are; nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unmerged {
    /// Another job wrote one of them, or the job with columns that it has no more.
    #[error("its files have other columns, or another log wrote them")]
    OtherColumns,
    /// Somebody has removed one.
    #[error("{0} is gone")]
    Gone(String),
    /// They would be as many as they are.
    #[error("its files would not be fewer")]
    NotFewer,
    /// Another writer has touched them meanwhile.
    #[error("another writer has touched its files meanwhile")]
    Overtaken,
}

/// A file that was written anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WrittenFile {
    pub(crate) file: FileCommit,
    /// What is said of its columns, as the log of a Delta table has it.
    pub(crate) statistics: String,
}

/// A file that was written anew, and is to be published in the place of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StagedObject {
    pub(crate) stage: String,
    /// The path that it is to have.
    pub(crate) path: String,
    /// Those whose rows it has.
    pub(crate) merged: Vec<String>,
    pub(crate) rows: u64,
}

/// Where files are written.
enum Place<'a> {
    /// In a folder that takes the place of another.
    Folder(&'a dyn StagedFolder),
    /// Beside the old ones, where the log of the table does not name them yet.
    Table { store: &'a SharedStore, folder: &'a str },
    /// One file, where no reader looks.
    Staged { store: &'a SharedStore, path: &'a str },
}

/// Where a file ends that is large enough.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// Anywhere; the next one goes on.
    Anywhere,
    /// Behind the last row of a version: it is the only one, and what is left stays where it is.
    BehindVersion,
}

/// A file that is to be merged.
struct Source {
    path: String,
    /// The versions that are in it.
    first: u64,
    last: u64,
    rows: u64,
}

impl Place<'_> {
    async fn stage(&self, name: &str) -> Result<Box<dyn StagedFile>, StoreError> {
        match self {
            Self::Folder(staged) => staged.stage(name).await,
            Self::Table { store, folder } => store.stage(&path(folder, name)).await,
            Self::Staged { store, path } => store.stage(path).await,
        }
    }
}

fn path(folder: &str, name: &str) -> String {
    format!("{folder}/{name}")
}

fn rows(sources: &[Source]) -> u64 {
    sources.iter().map(|source| source.rows).sum()
}

/// The first and the last version that are in files.
fn versions(sources: &[Source]) -> (u64, u64) {
    let first = sources.iter().map(|source| source.first).min();
    let last = sources.iter().map(|source| source.last).max();
    (first.unwrap_or_default(), last.unwrap_or_default())
}

/// Why nothing was written: the inner answer is no failure.
enum Stopped {
    Unmerged(Unmerged),
    Failed(SinkError),
}

impl<E: Into<SinkError>> From<E> for Stopped {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

fn told<T>(answer: Result<T, Stopped>) -> Result<Result<T, Unmerged>, SinkError> {
    match answer {
        Ok(done) => Ok(Ok(done)),
        Err(Stopped::Unmerged(why)) => Ok(Err(why)),
        Err(Stopped::Failed(error)) => Err(error),
    }
}

impl Merger<'_> {
    /// Writes the files anew into a folder, and puts that in the place of the old one.
    ///
    /// # Errors
    /// When the store does not do what is asked; nothing has changed then.
    pub(crate) async fn merge(&self, merge: &Merge) -> Result<Result<Merged, Unmerged>, SinkError> {
        let sources = match told(self.sources(merge).await)? {
            Ok(found) => found,
            Err(why) => return Ok(Err(why)),
        };
        let place = paths::compaction_of(&self.log_id, self.epoch);
        let stage = format!("{}/{place}/{:016x}", paths::COMPACTION, random_attempt());
        let staged = self.store.stage_folder(&stage).await?;
        let footer = self.footer(&sources);
        let first = self.first_number(merge, footer.version);
        let name = |number: usize| {
            paths::final_file(&self.settings.job, &self.log_id, footer.version, first + number, paths::PARQUET)
        };
        let mut written = Vec::new();
        let place = Place::Folder(&*staged);
        let done = self.write(&merge.folder, &sources, &place, Cut::Anywhere, &name, &mut written).await;
        match told(done) {
            Ok(Ok(_)) => staged.replace(&merge.folder, &merge.merged, &merge.kept).await?,
            failed => {
                staged.abandon().await;
                return Ok(Err(failed?.err().unwrap_or(Unmerged::NotFewer)));
            }
        }
        Ok(Ok(Merged { read: merge.merged.len(), written: written.len(), rows: rows(&sources) }))
    }

    /// Writes the files anew beside the old ones, with names that say which versions they hold; no log names them yet.
    ///
    /// # Errors
    /// As [`Merger::merge`].
    pub(crate) async fn rewrite(
        &self,
        merge: &Merge,
        versions: (u64, u64),
    ) -> Result<Result<Vec<WrittenFile>, Unmerged>, SinkError> {
        let sources = match told(self.sources(merge).await)? {
            Ok(found) => found,
            Err(why) => return Ok(Err(why)),
        };
        let attempt = random_attempt();
        let name = |number: usize| paths::merged_file(&self.settings.job, &self.log_id, versions, attempt, number);
        let place = Place::Table { store: self.store, folder: &merge.folder };
        let mut written = Vec::new();
        let done = told(self.write(&merge.folder, &sources, &place, Cut::Anywhere, &name, &mut written).await);
        match done {
            Ok(Ok(_)) => Ok(Ok(written)),
            failed => {
                // Nobody knows of them: what cannot be removed is a file that no version names.
                let staged: Vec<_> = written.into_iter().map(|written| written.file.path).collect();
                let _ = self.store.delete_all(&staged).await;
                Ok(Err(failed?.err().unwrap_or(Unmerged::NotFewer)))
            }
        }
    }

    /// Writes as many of the files anew as make a file that is large enough, where no reader looks.
    ///
    /// # Errors
    /// As [`Merger::merge`].
    pub(crate) async fn stage_one(&self, merge: &Merge) -> Result<Result<StagedObject, Unmerged>, SinkError> {
        let sources = match told(self.sources(merge).await)? {
            Ok(found) => found,
            Err(why) => return Ok(Err(why)),
        };
        let begin = self.footer(&sources).version;
        let stage = paths::staged_file(&self.log_id, self.epoch, begin, random_attempt(), 0);
        let place = Place::Staged { store: self.store, path: &stage };
        let mut written = Vec::new();
        let done =
            self.write(&merge.folder, &sources, &place, Cut::BehindVersion, &|_| stage.clone(), &mut written).await;
        let taken = match (told(done), written.len()) {
            (Ok(Ok(taken)), 1) => &sources[..taken],
            (failed, _) => {
                let _ = self.store.delete(&stage).await;
                return Ok(Err(failed?.err().unwrap_or(Unmerged::NotFewer)));
            }
        };
        self.store.sync_entries(std::slice::from_ref(&stage)).await?;
        let name = paths::merged_object(&self.settings.job, &self.log_id, versions(taken));
        let merged = taken.iter().map(|source| source.path.clone()).collect();
        Ok(Ok(StagedObject { stage, path: path(&merge.folder, &name), merged, rows: rows(taken) }))
    }

    fn problem(&self, problem: &dyn std::fmt::Display) -> SinkError {
        SinkError::Encode { output: self.settings.output.clone(), problem: problem.to_string() }
    }

    /// The files, and what they say of themselves.
    async fn sources(&self, merge: &Merge) -> Result<Vec<Source>, Stopped> {
        let mut sources = Vec::with_capacity(merge.merged.len());
        for name in &merge.merged {
            let path = path(&merge.folder, name);
            let found = footer::of_file(self.store, &path).await?;
            let found = found.ok_or_else(|| Stopped::Unmerged(Unmerged::Gone(path.clone())))?;
            let found = found.map_err(|error| self.problem(&format!("{path} is not a whole Parquet file: {error}")))?;
            let ours = found.footer.filter(|footer| footer.log_id == self.log_id);
            let footer = ours.ok_or(Stopped::Unmerged(Unmerged::OtherColumns))?;
            let (first, last) = footer.merged.unwrap_or((footer.version, footer.version));
            sources.push(Source { path, first, last, rows: found.rows });
        }
        Ok(sources)
    }

    /// What a file says of itself into which these are merged.
    fn footer(&self, sources: &[Source]) -> Footer {
        let merged = versions(sources);
        Footer {
            job: self.job.clone(),
            log_id: self.log_id.clone(),
            version: merged.1,
            fingerprint: self.fingerprint.clone(),
            merged: Some(merged),
            ..Footer::default()
        }
    }

    async fn open(&self, path: &str) -> Result<ParquetRecordBatchReaderBuilder<Bytes>, Stopped> {
        let content = self.store.get(path).await?;
        let content = content.ok_or_else(|| Stopped::Unmerged(Unmerged::Gone(path.to_owned())))?;
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let reader = ParquetRecordBatchReaderBuilder::try_new_with_options(content, options);
        Ok(reader.map_err(|error| self.problem(&format!("{path} is not a whole Parquet file: {error}")))?)
    }

    /// Writes all rows, or fails: what was read is all there, in fewer files, or nothing is to change. The answer is how many
    /// files were read.
    async fn write(
        &self,
        folder: &str,
        sources: &[Source],
        place: &Place<'_>,
        cut: Cut,
        name: &dyn Fn(usize) -> String,
        written: &mut Vec<WrittenFile>,
    ) -> Result<usize, Stopped> {
        let (FileFormat::Parquet(compression) | FileFormat::Delta(compression)) = self.settings.format else {
            return Err(Stopped::Unmerged(Unmerged::OtherColumns));
        };
        let partitioner = Partitioner::new(&self.settings.schema, &self.settings.partition_by);
        let schema = partitioner.map_err(|error| self.problem(&error))?.file_schema(&self.settings.schema);
        let (mut found, mut taken, mut open) = (0, 0, None::<Open>);
        for source in sources {
            if cut == Cut::BehindVersion
                && open.as_ref().is_some_and(|file| file.is_large(self.target_bytes))
                && source.first > versions(&sources[..taken]).1
            {
                break;
            }
            let problem = |error: &dyn std::fmt::Display| self.problem(&format!("{}: {error}", source.path));
            let reader = self.open(&source.path).await?;
            if !fits(reader.schema(), &schema) {
                return Err(Stopped::Unmerged(Unmerged::OtherColumns));
            }
            let reader = reader.with_batch_size(BATCH_ROWS).build();
            for batch in reader.map_err(|error| problem(&error))? {
                let batch = batch.map_err(|error| problem(&error))?;
                let batch = in_columns(&batch, &schema).map_err(|error| problem(&error))?;
                found += batch.num_rows() as u64;
                let file = match &mut open {
                    Some(file) => file,
                    None => open.insert(self.begin(&schema, compression, folder, place, &name(written.len())).await?),
                };
                file.encoder.write(&batch).map_err(|error| self.problem(&error))?;
                file.rows += batch.num_rows() as u64;
                file.drain().await?;
                if cut == Cut::Anywhere
                    && file.is_large(self.target_bytes)
                    && let Some(full) = open.take()
                {
                    written.push(full.finish(&self.footer(sources)).await.map_err(|error| self.of_file(error))?);
                }
            }
            taken += 1;
        }
        if let Some(last) = open.take() {
            written.push(last.finish(&self.footer(&sources[..taken])).await.map_err(|error| self.of_file(error))?);
        }
        let rows = rows(&sources[..taken]);
        if found != rows {
            return Err(self.problem(&format!("{folder}: {found} rows were read, and the files say {rows}")).into());
        }
        if written.len() >= taken { Err(Stopped::Unmerged(Unmerged::NotFewer)) } else { Ok(taken) }
    }

    async fn begin(
        &self,
        schema: &SchemaRef,
        compression: Compression,
        folder: &str,
        place: &Place<'_>,
        name: &str,
    ) -> Result<Open, Stopped> {
        let encoder =
            ParquetEncoder::new(schema, compression, &self.settings.order).map_err(|error| self.problem(&error))?;
        let file = place.stage(name).await?;
        Ok(Open { encoder, file, path: path(folder, name), rows: 0, written: 0 })
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
        let of_version = names.filter(|name| paths::final_version(name, &self.log_id) == Some(version));
        of_version.filter_map(|name| paths::final_number(name)).max().map_or(0, |greatest| greatest + 1)
    }
}

struct Open {
    encoder: ParquetEncoder,
    file: Box<dyn StagedFile>,
    path: String,
    rows: u64,
    written: u64,
}

enum Unwritten {
    Store(StoreError),
    Encode(String),
}

impl Open {
    fn is_large(&self, target_bytes: u64) -> bool {
        self.written + self.encoder.to_come() >= target_bytes || self.encoder.is_full()
    }

    async fn drain(&mut self) -> Result<(), StoreError> {
        let bytes = self.encoder.take();
        if bytes.is_empty() {
            return Ok(());
        }
        self.written += bytes.len() as u64;
        self.file.write(bytes.into()).await
    }

    async fn finish(mut self, footer: &Footer) -> Result<WrittenFile, Unwritten> {
        let statistics = self.encoder.finish(footer).map_err(Unwritten::Encode)?.unwrap_or_default();
        self.drain().await.map_err(Unwritten::Store)?;
        let Self { file, path, rows, .. } = self;
        let facts = file.finish().await.map_err(Unwritten::Store)?;
        let file = FileCommit { stage: path.clone(), path, bytes: facts.bytes, xxh3: facts.xxh3, rows };
        Ok(WrittenFile { file, statistics })
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
