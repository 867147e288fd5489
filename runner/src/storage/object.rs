//! An object store behind an `object_store` URL: put-if-absent decides, and publishing copies.
//!
//! An object that the store acknowledged is durable, so syncing does nothing here. A request that was retried by the
//! client may meet its own first attempt: `AlreadyExists` is a reason to read and compare, never proof of another owner.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{Error, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use twox_hash::XxHash3_64;

use super::{Created, Limits, ObjectEntry, Published, StagedFacts, StagedFile, Store, StoreError, Superseded};
use crate::storage::checksum::xxh3_hex;
use crate::storage::paths;

/// Bytes that are collected before a part is uploaded. S3 wants at least 5 MiB for all parts but the last; more than 8
/// would only use memory.
const PART_BYTES: usize = 8 << 20;

/// Longest name of an object of S3, in bytes; the others take as many.
const NAME_BYTES_MAX: usize = 1_024;

/// A prefix of an object store.
pub struct RemoteStore {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// The prefix of a table's bookkeeping; `None` for a checkpoint.
    beside: Option<Path>,
    url: String,
}

impl RemoteStore {
    /// A prefix of a store; `url` is how messages and the log call it.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: Path, url: String) -> Self {
        Self { store, prefix, beside: None, url }
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
        Ok(Self { store, prefix, beside: Some(beside), url })
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
        let path = format!("{}/{path}", self.url);
        match error {
            Error::PermissionDenied { source, .. } | Error::Unauthenticated { source, .. } => StoreError::Denied {
                operation,
                path,
                source: std::io::Error::new(std::io::ErrorKind::PermissionDenied, source),
            },
            Error::NotImplemented { .. } | Error::NotSupported { .. } => {
                StoreError::Unsuitable(format!("{operation} {path}: this store cannot do that ({error})"))
            }
            other => StoreError::Failed { operation, path, source: Box::new(other) },
        }
    }
}

#[async_trait(?Send)]
impl Store for RemoteStore {
    fn root(&self) -> &str {
        &self.url
    }

    async fn get(&self, path: &str) -> Result<Option<Bytes>, StoreError> {
        let location = self.path(path)?;
        match async { self.store.get(&location).await?.bytes().await }.await {
            Ok(content) => Ok(Some(content)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.error("read", path, error)),
        }
    }

    async fn facts(&self, path: &str) -> Result<Option<StagedFacts>, StoreError> {
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
        match read.await {
            Ok(facts) => Ok(Some(facts)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.error("read", path, error)),
        }
    }

    async fn length(&self, path: &str) -> Result<Option<u64>, StoreError> {
        match self.store.head(&self.path(path)?).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.error("look at", path, error)),
        }
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
        match self.store.put_opts(&self.path(path)?, content.into(), PutMode::Create.into()).await {
            Ok(_) => Ok(Created::Yes),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(Created::AlreadyExists),
            Err(
                error @ (Error::PermissionDenied { .. } | Error::Unauthenticated { .. } | Error::NotImplemented { .. }),
            ) => Err(self.error("create", path, error)),
            // A time-out, a reset, a 5xx: the request may have been carried out.
            Err(_) => Err(StoreError::Unknown { operation: "create", path: format!("{}/{path}", self.url) }),
        }
    }

    async fn replace(&self, path: &str, content: Bytes) -> Result<(), StoreError> {
        let put = self.store.put(&self.path(path)?, content.into()).await;
        put.map(drop).map_err(|error| self.error("replace", path, error))
    }

    async fn stage(&self, path: &str) -> Result<Box<dyn StagedFile>, StoreError> {
        if self.length(path).await?.is_some() {
            let source = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
            return Err(StoreError::InTheWay { operation: "create", path: format!("{}/{path}", self.url), source });
        }
        let target = self.path(path)?;
        let upload = self.store.put_multipart(&target).await.map_err(|error| self.error("create", path, error))?;
        let shown = format!("{}/{path}", self.url);
        Ok(Box::new(RemoteFile { upload, shown, part: BytesMut::new(), hash: XxHash3_64::new(), bytes: 0 }))
    }

    async fn publish(&self, stage: &str, path: &str) -> Result<Published, StoreError> {
        // First a look: a copy over an equal object may change its ETag under a reader.
        if self.length(path).await?.is_some() {
            return Ok(Published::AlreadyExists);
        }
        match self.store.copy(&self.path(stage)?, &self.path(path)?).await {
            Ok(()) => Ok(Published::Yes),
            Err(Error::NotFound { .. }) => Ok(Published::StageMissing),
            Err(error) => Err(self.error("publish", path, error)),
        }
    }

    async fn supersede(&self, stage: &str, path: &str) -> Result<Superseded, StoreError> {
        match self.store.copy(&self.path(stage)?, &self.path(path)?).await {
            Ok(()) => {
                self.delete(stage).await?;
                Ok(Superseded::Yes)
            }
            Err(Error::NotFound { .. }) => Ok(Superseded::StageMissing),
            Err(error) => Err(self.error("publish", path, error)),
        }
    }

    async fn sync_entries(&self, _: &[String]) -> Result<(), StoreError> {
        Ok(())
    }

    async fn delete(&self, path: &str) -> Result<(), StoreError> {
        match self.store.delete(&self.path(path)?).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.error("remove", path, error)),
        }
    }

    async fn delete_empty_folders(&self, _: &str) -> Result<(), StoreError> {
        Ok(())
    }

    /// Put-if-absent twice: some stores accept the header and ignore it (lance-format/lance#6595).
    async fn probe(&self) -> Result<(), StoreError> {
        let path = format!("{}/probe-{}", paths::STAGING, uuid::Uuid::new_v4());
        let first = self.create(&path, Bytes::from_static(b"probe")).await?;
        let second = self.create(&path, Bytes::from_static(b"again")).await?;
        self.delete(&path).await?;
        if first == Created::Yes && second == Created::AlreadyExists {
            return Ok(());
        }
        Err(StoreError::Unsuitable(format!(
            "{}: this store overwrites an object although it was told to create it only if absent, which exactly-once \
             needs; use a store with conditional writes",
            self.url
        )))
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

struct RemoteFile {
    upload: Box<dyn MultipartUpload>,
    shown: String,
    part: BytesMut,
    hash: XxHash3_64,
    bytes: u64,
}

impl RemoteFile {
    fn failed(&self, error: Error) -> StoreError {
        StoreError::Failed { operation: "write", path: self.shown.clone(), source: Box::new(error) }
    }

    async fn send(&mut self) -> Result<(), StoreError> {
        let part = self.part.split().freeze();
        self.upload.put_part(PutPayload::from_bytes(part)).await.map_err(|error| self.failed(error))
    }
}

#[async_trait(?Send)]
impl StagedFile for RemoteFile {
    async fn write(&mut self, content: Bytes) -> Result<(), StoreError> {
        std::hash::Hasher::write(&mut self.hash, &content);
        self.bytes += content.len() as u64;
        self.part.extend_from_slice(&content);
        if self.part.len() >= PART_BYTES { self.send().await } else { Ok(()) }
    }

    async fn finish(mut self: Box<Self>) -> Result<StagedFacts, StoreError> {
        if !self.part.is_empty() {
            self.send().await?;
        }
        self.upload.complete().await.map_err(|error| self.failed(error))?;
        Ok(StagedFacts { bytes: self.bytes, xxh3: xxh3_hex(std::hash::Hasher::finish(&self.hash)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

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
            assert!(store.stage("_staging/1/x.tmp").await.is_err(), "a name that is taken is somebody else's");
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
