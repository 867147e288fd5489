//! Bytes of objects: for readers that block, and for the engine, which waits for many at once.
//!
//! Requests run in a runtime of their own: the connections of a client belong to the runtime that began them, and whoever
//! plans a query, or reads text, blocks its thread meanwhile. A range is asked for in the version that was listed: of an
//! object that was replaced since nothing is mixed with what was read before.

use std::error::Error;
use std::future::Future;
use std::io::Read;
use std::ops::Range;
use std::sync::LazyLock;
use std::sync::mpsc::{Receiver, sync_channel};

use bytes::Bytes;
use datafusion::datasource::physical_plan::ParquetFileMetrics;
use datafusion::parquet::arrow::arrow_reader::ArrowReaderOptions;
use datafusion::parquet::arrow::async_reader::{AsyncFileReader, MetadataFetch};
use datafusion::parquet::errors::{ParquetError, Result as ParquetResult};
use datafusion::parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::{GetOptions, GetRange, coalesce_ranges};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinSet;

use super::place::RemoteFile;
use super::reader::{damaged, without_notes};
use crate::storage::StoreError;
use crate::storage::client::explain::{explain, is_missing_bucket};

/// Threads on which requests run: they wait most of the time.
const THREADS: usize = 2;

/// Bytes from the end of a Parquet file that are asked for at once: nearly every footer fits, and so it is one request.
const FOOTER_BYTES: usize = 64 << 10;

/// Ranges of a file that lie so near are one request: that takes less than the way of another one there and back.
const GAP_BYTES: u64 = 1 << 20;

/// Bytes of a text that are asked for first: a header, or a small file.
const PART_FIRST: u64 = 64 << 10;

/// And at most. Two of them are held: one is read while the other comes.
const PART_MAX: u64 = 4 << 20;

static RUNTIME: LazyLock<std::io::Result<Runtime>> = LazyLock::new(|| {
    Builder::new_multi_thread().worker_threads(THREADS).thread_name("object-store").enable_all().build()
});

fn handle() -> Result<&'static Handle, StoreError> {
    let runtime = RUNTIME.as_ref();
    let unusable = |error| StoreError::Unsuitable(format!("cannot start the runtime for object stores: {error}"));
    runtime.map(Runtime::handle).map_err(unusable)
}

/// Begins work; what it gives comes through the channel.
fn begin<T: Send + 'static>(
    work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<Receiver<Result<T, StoreError>>, StoreError> {
    let (sender, receiver) = sync_channel(1);
    handle()?.spawn(async move {
        // Who does not want it any more has gone.
        let _ = sender.send(work.await);
    });
    Ok(receiver)
}

/// Does work, and blocks the thread until it is done.
///
/// # Errors
/// Those of the work.
pub(super) fn wait<T: Send + 'static>(
    work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    begin(work)?.recv().map_err(|_| ended())?
}

/// Does work in the runtime of the requests; dropped, it is given up.
async fn there<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T, StoreError> {
    let mut tasks = JoinSet::new();
    tasks.spawn_on(work, handle()?);
    tasks.join_next().await.and_then(Result::ok).ok_or_else(ended)
}

fn ended() -> StoreError {
    StoreError::Unsuitable("a request to an object store ended without an answer: please report this".to_owned())
}

/// The object is another one now, or gone.
#[derive(Debug, thiserror::Error)]
#[error("it was replaced or removed while it was read")]
struct Changed;

/// What is said of a file that is another one now, or gone: to look again helps.
pub(super) fn changed(path: String) -> StoreError {
    StoreError::Failed { operation: "read", path, source: Box::new(Changed) }
}

/// What a store said, in words that fit every read.
pub(super) fn store_failed(operation: &'static str, path: String, error: object_store::Error) -> StoreError {
    match &error {
        object_store::Error::NotFound { .. } if is_missing_bucket(&error) => explain(operation, path, error),
        object_store::Error::NotFound { .. } | object_store::Error::Precondition { .. } => {
            StoreError::Failed { operation, path, source: Box::new(Changed) }
        }
        _ => explain(operation, path, error),
    }
}

/// What a store said, if that is why the engine failed, or a file could not be read.
pub(crate) fn store_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a StoreError> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<StoreError>() {
            return Some(found);
        }
        // An error of I/O tells the source of what is in it, and not that itself.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source());
    }
    None
}

impl RemoteFile {
    /// Bytes of it.
    async fn range(&self, range: Range<u64>) -> Result<Bytes, StoreError> {
        let options =
            GetOptions { range: Some(GetRange::Bounded(range)), if_match: self.etag.clone(), ..GetOptions::default() };
        let read = async { self.prefix.store.get_opts(&self.key, options).await?.bytes().await };
        read.await.map_err(|error| store_failed("read", self.shown(), error))
    }

    async fn ranges(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, StoreError> {
        coalesce_ranges(ranges, |range| self.range(range), GAP_BYTES).await
    }

    fn shown(&self) -> String {
        super::place::FileAt::Remote(self.clone()).to_string()
    }

    async fn metadata(&self, page_index: PageIndexPolicy) -> ParquetResult<ParquetMetaData> {
        let reader = ParquetMetaDataReader::new().with_page_index_policy(page_index);
        let reader = reader.with_prefetch_hint(Some(FOOTER_BYTES));
        let read = reader.load_and_finish(Footer(self), self.bytes).await.map_err(|error| match error {
            ParquetError::External(_) => error,
            other => damaged(&self.shown(), &other),
        })?;
        Ok(without_notes(read))
    }

    /// Its length.
    pub(crate) fn length(&self) -> u64 {
        self.bytes
    }

    /// What tells it from another one in its place, where the store says so.
    pub(crate) fn tag(&self) -> Option<String> {
        self.etag.clone()
    }

    /// All of it. Blocks.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn whole(&self) -> Result<Bytes, StoreError> {
        if self.bytes == 0 {
            return Ok(Bytes::new());
        }
        let file = self.clone();
        wait(async move { file.range(0..file.bytes).await })
    }

    /// Its footer. Blocks.
    ///
    /// # Errors
    /// It cannot be read, or is no whole Parquet file.
    pub(super) fn footer(&self) -> ParquetResult<ParquetMetaData> {
        let file = self.clone();
        wait(async move { Ok(file.metadata(PageIndexPolicy::Skip).await) }).map_err(external)?
    }
}

fn external(error: StoreError) -> ParquetError {
    ParquetError::External(Box::new(error))
}

struct Footer<'a>(&'a RemoteFile);

impl MetadataFetch for Footer<'_> {
    fn fetch(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        async move { self.0.range(range).await.map_err(external) }.boxed()
    }
}

/// A Parquet file of a plan.
pub(super) struct RemoteParquet {
    pub(super) file: RemoteFile,
    pub(super) metrics: ParquetFileMetrics,
}

impl AsyncFileReader for RemoteParquet {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        async move { Ok(self.get_byte_ranges(vec![range]).await?.pop().unwrap_or_default()) }.boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        let file = self.file.clone();
        let metrics = self.metrics.bytes_scanned.clone();
        async move {
            let read = there(async move { file.ranges(&ranges).await }).await;
            let bytes = read.and_then(|read| read).map_err(external)?;
            metrics.add(bytes.iter().map(Bytes::len).sum());
            Ok(bytes)
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<std::sync::Arc<ParquetMetaData>>> {
        let page_index = options.map_or(PageIndexPolicy::Skip, ArrowReaderOptions::column_index_policy);
        let file = self.file.clone();
        async move {
            let read = there(async move { file.metadata(page_index).await }).await.map_err(external)?;
            read.map(std::sync::Arc::new)
        }
        .boxed()
    }
}

/// The bytes of an object from its beginning, the next ones asked for ahead. Blocks.
pub(super) struct RemoteBytes {
    file: RemoteFile,
    /// What was asked for, and where it ends.
    asked: Option<Receiver<Result<Bytes, StoreError>>>,
    end: u64,
    length: u64,
    part: Bytes,
}

impl RemoteBytes {
    pub(super) fn new(file: &RemoteFile) -> Self {
        Self { file: file.clone(), asked: None, end: 0, length: PART_FIRST, part: Bytes::new() }
    }

    /// Asks for the next part, if there is one.
    fn ask(&mut self) -> Result<(), StoreError> {
        let range = self.end..self.file.bytes.min(self.end + self.length);
        self.asked = None;
        if range.is_empty() {
            return Ok(());
        }
        self.end = range.end;
        self.length = (2 * self.length).min(PART_MAX);
        let file = self.file.clone();
        self.asked = Some(begin(async move { file.range(range).await })?);
        Ok(())
    }

    fn next(&mut self) -> Result<Bytes, StoreError> {
        if self.asked.is_none() {
            self.ask()?;
        }
        let Some(asked) = self.asked.take() else { return Ok(Bytes::new()) };
        let part = asked.recv().map_err(|_| ended())??;
        self.ask()?;
        Ok(part)
    }
}

impl Read for RemoteBytes {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if self.part.is_empty() {
            self.part = self.next().map_err(std::io::Error::other)?;
        }
        let read = into.len().min(self.part.len());
        into[..read].copy_from_slice(&self.part.split_to(read));
        Ok(read)
    }
}
