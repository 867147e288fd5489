//! An object store behind an `object_store` URL: put-if-absent decides, and publishing copies.
//!
//! An object that the store acknowledged is durable. Staged files are on their way while the next ones are written, and have
//! arrived, or failed, when `sync_entries` has returned for them. A request that was retried by the client may meet its own
//! first attempt: `AlreadyExists` is a reason to read and compare, never proof of another owner.

mod upload;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use futures::stream::{self, StreamExt};
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode};
use twox_hash::XxHash3_64;

use self::upload::{RemoteFile, Upload, Uploads};
use super::client::explain::{explain, is_missing_bucket, is_unclear};
use super::{Created, Limits, ObjectEntry, Published, StagedFacts, StagedFile, Store, StoreError, Superseded};
use crate::storage::checksum::xxh3_hex;
use crate::storage::paths;

/// Longest name of an object of S3, in bytes; the others take as many.
const NAME_BYTES_MAX: usize = 1_024;
/// Requests at once: 100 files of a commit take twice the store's delay. More would be throttled sooner.
const SIDE_BY_SIDE: usize = 64;

/// A prefix of an object store.
pub struct RemoteStore {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// The prefix of a table's bookkeeping; `None` for a checkpoint.
    beside: Option<Path>,
    url: String,
    uploads: Uploads,
}

impl RemoteStore {
    /// A prefix of a store; `url` is how messages and the log call it.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: Path, url: String) -> Self {
        Self { store, prefix, beside: None, url, uploads: Uploads::default() }
    }

    /// The prefix of a table, with its bookkeeping beside it.
    ///
    /// # Errors
    /// When the table is the whole bucket: then there is no place beside it.
    pub fn table(store: Arc<dyn ObjectStore>, prefix: Path, url: String) -> Result<Self, StoreError> {
        let text = prefix.as_ref();
        let (parent, name) = text.rsplit_once('/').unwrap_or(("", text));
        if name.is_empty() {
            return Err(StoreError::Unsuitable(format!(
                "{url}: a table cannot be a whole bucket, since its bookkeeping lies beside it; write a path below it"
            )));
        }
        let parent = if parent.is_empty() { String::new() } else { format!("{parent}/") };
        let beside = Path::parse(format!("{parent}{}/{name}", paths::BESIDE));
        let beside = beside.map_err(|error| StoreError::Unsuitable(format!("{url}: {error}")))?;
        Ok(Self { beside: Some(beside), ..Self::new(store, prefix, url) })
    }

    fn path(&self, path: &str) -> Result<Path, StoreError> {
        let (prefix, below) = match (&self.beside, paths::beside(path)) {
            (Some(beside), Some(below)) => (beside, below),
            _ => (&self.prefix, path),
        };
        let joined = if prefix.as_ref().is_empty() { below.to_owned() } else { format!("{prefix}/{below}") };
        Path::parse(joined).map_err(|_| StoreError::Unsuitable(format!("{path:?} is not a path below {}", self.url)))
    }

    fn error(&self, operation: &'static str, path: &str, error: Error) -> StoreError {
        explain(operation, self.shown(path), error)
    }

    fn shown(&self, path: &str) -> String {
        format!("{}/{path}", self.url)
    }

    /// What a read gave: nothing is there, but the bucket is.
    fn found<T>(&self, operation: &'static str, path: &str, read: Result<T, Error>) -> Result<Option<T>, StoreError> {
        match read {
            Ok(found) => Ok(Some(found)),
            Err(error @ Error::NotFound { .. }) if !is_missing_bucket(&error) => Ok(None),
            Err(error) => Err(self.error(operation, path, error)),
        }
    }

    /// Waits for what is still on its way to this path.
    async fn arrived(&self, path: &str) -> Result<(), StoreError> {
        let upload = self.uploads.borrow_mut().remove(path);
        let Some(upload) = upload else { return Ok(()) };
        let Upload { task, facts } = upload;
        match task.await {
            Ok(Ok(())) => Ok(()),
            // Perhaps our own first attempt, whose answer was lost.
            Ok(Err(Error::AlreadyExists { .. } | Error::Precondition { .. })) => {
                if self.facts(path).await?.as_ref() == Some(&facts) {
                    return Ok(());
                }
                let source = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
                Err(StoreError::InTheWay { operation: "create", path: self.shown(path), source })
            }
            Ok(Err(error)) => Err(self.error("write", path, error)),
            Err(error) => {
                Err(StoreError::Failed { operation: "write", path: self.shown(path), source: Box::new(error) })
            }
        }
    }

    /// Puts an object if nothing is there. A store that answers "conflict" has not said that something is there.
    async fn put_new(&self, path: &str, content: Bytes) -> Result<Created, StoreError> {
        match self.store.put_opts(&self.path(path)?, content.into(), PutMode::Create.into()).await {
            Ok(_) => Ok(Created::Yes),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                let is_there = self.length(path).await?.is_some();
                let unknown = StoreError::Unknown { operation: "create", path: self.shown(path) };
                if is_there { Ok(Created::AlreadyExists) } else { Err(unknown) }
            }
            // A time-out, a reset, a 5xx: the request may have been carried out.
            Err(error) if is_unclear(&error) => {
                tracing::debug!(%error, path, "no clear answer to a create");
                Err(StoreError::Unknown { operation: "create", path: self.shown(path) })
            }
            Err(error) => Err(self.error("create", path, error)),
        }
    }

    async fn copy(&self, stage: &str, path: &str) -> Result<bool, StoreError> {
        self.arrived(stage).await?;
        let copied = self.store.copy(&self.path(stage)?, &self.path(path)?).await;
        Ok(self.found("publish", path, copied)?.is_some())
    }
}

#[async_trait(?Send)]
impl Store for RemoteStore {
    fn root(&self) -> &str {
        &self.url
    }

    async fn get(&self, path: &str) -> Result<Option<Bytes>, StoreError> {
        self.arrived(path).await?;
        let location = self.path(path)?;
        let read = async { self.store.get(&location).await?.bytes().await };
        self.found("read", path, read.await)
    }

    async fn facts(&self, path: &str) -> Result<Option<StagedFacts>, StoreError> {
        self.arrived(path).await?;
        let location = self.path(path)?;
        let read = async {
            let (mut hash, mut bytes) = (XxHash3_64::new(), 0);
            let mut parts = self.store.get(&location).await?.into_stream();
            while let Some(part) = parts.try_next().await? {
                std::hash::Hasher::write(&mut hash, &part);
                bytes += part.len() as u64;
            }
            Ok(StagedFacts { bytes, xxh3: xxh3_hex(std::hash::Hasher::finish(&hash)) })
        };
        self.found("read", path, read.await)
    }

    async fn length(&self, path: &str) -> Result<Option<u64>, StoreError> {
        self.arrived(path).await?;
        let looked = self.store.head(&self.path(path)?).await;
        Ok(self.found("look at", path, looked)?.map(|meta| meta.size))
    }

    async fn list(&self, folder: &str) -> Result<Vec<ObjectEntry>, StoreError> {
        let prefix = if folder.is_empty() { self.prefix.clone() } else { self.path(folder)? };
        let listed: Vec<_> =
            self.store.list(Some(&prefix)).try_collect().await.map_err(|error| self.error("list", folder, error))?;
        let (base, shown) = match (&self.beside, paths::beside(folder)) {
            (Some(beside), Some(_)) => (beside, format!("{}/", paths::BESIDE)),
            _ => (&self.prefix, String::new()),
        };
        let strip = base.as_ref().len() + usize::from(!base.as_ref().is_empty());
        let entry = |meta: object_store::ObjectMeta| ObjectEntry {
            path: format!("{shown}{}", &meta.location.as_ref()[strip..]),
            bytes: meta.size,
        };
        let mut entries: Vec<_> = listed.into_iter().map(entry).collect();
        entries.sort();
        Ok(entries)
    }

    async fn create(&self, path: &str, content: Bytes) -> Result<Created, StoreError> {
        self.put_new(path, content).await
    }

    async fn replace(&self, path: &str, content: Bytes) -> Result<(), StoreError> {
        let put = self.store.put(&self.path(path)?, content.into()).await;
        put.map(drop).map_err(|error| self.error("replace", path, error))
    }

    async fn stage(&self, path: &str) -> Result<Box<dyn StagedFile>, StoreError> {
        let (store, uploads) = (Arc::clone(&self.store), self.uploads.clone());
        Ok(Box::new(RemoteFile::new(store, self.path(path)?, path.to_owned(), self.shown(path), uploads)?))
    }

    async fn publish(&self, stage: &str, path: &str) -> Result<Published, StoreError> {
        // First a look: a copy over an equal object may change its ETag under a reader.
        if self.length(path).await?.is_some() {
            return Ok(Published::AlreadyExists);
        }
        Ok(if self.copy(stage, path).await? { Published::Yes } else { Published::StageMissing })
    }

    async fn supersede(&self, stage: &str, path: &str) -> Result<Superseded, StoreError> {
        if !self.copy(stage, path).await? {
            return Ok(Superseded::StageMissing);
        }
        self.delete(stage).await?;
        Ok(Superseded::Yes)
    }

    async fn sync_entries(&self, paths: &[String]) -> Result<(), StoreError> {
        for path in paths {
            self.arrived(path).await?;
        }
        Ok(())
    }

    async fn delete(&self, path: &str) -> Result<(), StoreError> {
        self.delete_all(&[path.to_owned()]).await
    }

    /// In bulk, where the store can.
    async fn delete_all(&self, paths: &[String]) -> Result<(), StoreError> {
        let mut locations = Vec::with_capacity(paths.len());
        for path in paths {
            // What is on its way must not arrive behind its removal. Whether it arrives no longer matters.
            let _ = self.arrived(path).await;
            locations.push(Ok(self.path(path)?));
        }
        let mut deleted = self.store.delete_stream(stream::iter(locations).boxed());
        while let Some(answer) = deleted.next().await {
            match answer {
                Ok(_) => {}
                Err(error @ Error::NotFound { .. }) if !is_missing_bucket(&error) => {}
                Err(error) => return Err(self.error("remove", paths.first().map_or("", String::as_str), error)),
            }
        }
        Ok(())
    }

    fn side_by_side(&self) -> usize {
        SIDE_BY_SIDE
    }

    async fn delete_empty_folders(&self, _: &str) -> Result<(), StoreError> {
        Ok(())
    }

    /// Put-if-absent twice: some stores accept the header and ignore it (lance-format/lance#6595). Then everything else that
    /// a job will ask for, so that a missing right is told before the first record is read.
    async fn probe(&self) -> Result<(), StoreError> {
        let path = format!("{}/probe-{}", paths::STAGING, uuid::Uuid::new_v4());
        let copied = format!("{path}-copy");
        let unsuitable = |what: &str| {
            Err(StoreError::Unsuitable(format!(
                "{}: this store {what}, which exactly-once needs; use another store",
                self.url
            )))
        };
        self.begin_probe(&path).await?;
        if self.put_new(&path, Bytes::from_static(b"again")).await? != Created::AlreadyExists {
            let _ = self.delete(&path).await;
            return unsuitable(
                "overwrites an object although it was told to create it only if absent (conditional writes)",
            );
        }
        let listed = self.list(paths::STAGING).await?;
        let was_copied = self.copy(&path, &copied).await?;
        let content = self.get(&copied).await?;
        self.delete_all(&[path.clone(), copied]).await?;
        if !listed.iter().any(|entry| entry.path == path) {
            return unsuitable("does not list an object that was just written");
        }
        if !was_copied || content.as_deref() != Some(b"probe") {
            return unsuitable("does not copy an object as it is");
        }
        if self.length(&path).await?.is_some() {
            return unsuitable("still shows an object that was just removed");
        }
        Ok(())
    }

    fn limits(&self) -> Limits {
        // What a rewind puts in front is kept free.
        let prefix = self.prefix.as_ref().len() + 1;
        Limits { name: NAME_BYTES_MAX, path: NAME_BYTES_MAX.saturating_sub(prefix + 96) }
    }

    fn file(&self, _: &str) -> Option<PathBuf> {
        None
    }
}

impl RemoteStore {
    /// The first object of a probe. A store that does not answer is not asked twice. Nobody cares whether the object came to be:
    /// what the store said is what counts.
    async fn begin_probe(&self, path: &str) -> Result<(), StoreError> {
        let content = Bytes::from_static(b"probe");
        match self.store.put_opts(&self.path(path)?, content.into(), PutMode::Create.into()).await {
            Ok(_) => Ok(()),
            // A lost answer, and the client's second try met the first one.
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. })
                if self.get(path).await?.as_deref() == Some(b"probe") =>
            {
                Ok(())
            }
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                Err(StoreError::Unknown { operation: "create", path: self.shown(path) })
            }
            Err(error) => Err(self.error("create", path, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    use super::upload::PART_BYTES;

    fn store(prefix: &str) -> RemoteStore {
        RemoteStore::new(Arc::new(InMemory::new()), Path::from(prefix), "memory://".to_owned())
    }

    #[tokio::test]
    async fn the_bookkeeping_of_a_table_lies_beside_its_prefix() {
        let memory = Arc::new(InMemory::new());
        for (prefix, beside) in [("t", "_dataplatform/t"), ("a/b/t", "a/b/_dataplatform/t")] {
            let table = RemoteStore::table(memory.clone(), Path::from(prefix), "memory://".to_owned()).unwrap();
            table.probe().await.unwrap();
            table.replace(paths::PROGRESS, Bytes::from_static(b"p")).await.unwrap();
            table.replace("x.parquet", Bytes::from_static(b"x")).await.unwrap();
            let listed = |entries: Vec<ObjectEntry>| entries.into_iter().map(|entry| entry.path).collect::<Vec<_>>();
            assert_eq!(listed(table.list("").await.unwrap()), ["x.parquet"]);
            assert_eq!(listed(table.list(paths::BESIDE).await.unwrap()), Vec::<String>::new());
            assert_eq!(table.facts(paths::PROGRESS).await.unwrap().unwrap().bytes, 1);
            let there = memory.head(&Path::from(format!("{beside}/progress.json"))).await.unwrap();
            assert_eq!(there.size, 1);
        }
        let whole = RemoteStore::table(memory, Path::from(""), "s3://b".to_owned()).err().unwrap();
        assert!(whole.to_string().contains("whole bucket"), "{whole}");
    }

    #[tokio::test]
    async fn staged_files_arrive_before_anybody_looks_and_never_after_they_are_removed() {
        let store = store("t");
        let mut paths = Vec::new();
        for number in 0..100 {
            let path = format!("_staging/{number}.tmp");
            let mut file = store.stage(&path).await.unwrap();
            file.write(Bytes::from(format!("content {number}"))).await.unwrap();
            assert!(file.held() > 0);
            file.finish().await.unwrap();
            paths.push(path);
        }
        assert_eq!(store.length(&paths[7]).await.unwrap(), Some(9), "whoever looks waits for it");
        store.delete_all(&paths[..50]).await.unwrap();
        store.sync_entries(&paths).await.unwrap();
        assert_eq!(store.list("").await.unwrap().len(), 50);
        assert!(store.uploads.borrow().is_empty());
    }

    #[tokio::test]
    async fn an_upload_that_meets_its_own_first_try_is_there_and_another_one_s_is_in_the_way() {
        let store = store("t");
        for (content, is_ours) in [("ours", true), ("theirs", false)] {
            let path = format!("_staging/{content}.tmp");
            store.replace(&path, content.into()).await.unwrap();
            let mut file = store.stage(&path).await.unwrap();
            file.write("ours".into()).await.unwrap();
            file.finish().await.unwrap();
            let arrived = store.sync_entries(&[path]).await;
            assert_eq!(arrived.is_ok(), is_ours, "{arrived:?}");
        }
    }

    #[tokio::test]
    async fn an_object_store_keeps_the_promises_of_the_protocol() {
        for prefix in ["", "a/b"] {
            let store = store(prefix);
            store.probe().await.unwrap();
            assert_eq!(store.create("log/1", Bytes::from_static(b"a")).await.unwrap(), Created::Yes);
            assert_eq!(store.create("log/1", Bytes::from_static(b"b")).await.unwrap(), Created::AlreadyExists);
            let mut file = store.stage("_staging/1/x.tmp").await.unwrap();
            assert!(store.facts("none").await.unwrap().is_none());
            let content = vec![7_u8; 3 * PART_BYTES + 5];
            for piece in content.chunks(1 << 20) {
                file.write(Bytes::copy_from_slice(piece)).await.unwrap();
            }
            let facts = file.finish().await.unwrap();
            assert_eq!(facts.bytes, content.len() as u64);
            assert_eq!(store.facts("_staging/1/x.tmp").await.unwrap(), Some(facts));
            assert_eq!(store.publish("_staging/1/x.tmp", "x.parquet").await.unwrap(), Published::Yes);
            assert_eq!(store.publish("_staging/1/x.tmp", "x.parquet").await.unwrap(), Published::AlreadyExists);
            assert_eq!(store.publish("_staging/1/y.tmp", "y.parquet").await.unwrap(), Published::StageMissing);
            assert_eq!(store.get("x.parquet").await.unwrap().unwrap(), content);
            store.delete("_staging/1/x.tmp").await.unwrap();
            store.delete("_staging/1/x.tmp").await.unwrap();
            let listed: Vec<_> = store.list("").await.unwrap().into_iter().map(|entry| entry.path).collect();
            assert_eq!(listed, ["log/1", "x.parquet"]);
            assert_eq!(store.length("none").await.unwrap(), None);
        }
    }
}
