//! A folder of a local or mounted file system, with every fsync that the protocol's promises need.
//!
//! `object_store` 0.13 never syncs local files and links them before they are durable, so this is ours. Calls block: the
//! pipeline has a thread of its own.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use twox_hash::XxHash3_64;

use super::{Created, ObjectEntry, Published, StagedFacts, StagedFile, Store, StoreError, Superseded};
use crate::checkpoint::record::xxh3_hex;
use crate::faults::{Faults, Guard, Moment, Step};

/// Prefix of temporary files, which no listing shows and no reader takes for a table.
const TEMPORARY: &str = ".tmp-";

/// A folder of a file system.
pub struct LocalStore {
    root: PathBuf,
    url: String,
    faults: Arc<dyn Faults>,
    /// Found out by the first write, which also makes the folder.
    naming: OnceCell<Naming>,
    /// Folders whose own entry is durable, so that only the folder that changed needs a sync.
    durable: RefCell<BTreeSet<PathBuf>>,
    temporary: AtomicU64,
}

/// How a file gets a name only if that is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Naming {
    /// `link(2)`: fails if the name is taken.
    HardLink,
    /// `renameat2(RENAME_NOREPLACE)`, where the file system has no hard links.
    RenameNoReplace,
}

impl LocalStore {
    /// A folder, which need not exist: it is made by the first write, or by [`Store::probe`].
    ///
    /// # Errors
    /// When the working directory is gone.
    pub fn open(root: &Path, faults: Arc<dyn Faults>) -> Result<Self, StoreError> {
        let root = std::path::absolute(root);
        let root =
            root.map_err(|source| StoreError::io("find the working directory for", "a relative path", source))?;
        let url = format!("file://{}", root.display());
        let (naming, durable) = (OnceCell::new(), RefCell::default());
        Ok(Self { root, url, faults, naming, durable, temporary: AtomicU64::new(0) })
    }

    /// Makes the folder, durably, and finds out how names are given without overwriting.
    fn prepare(&self) -> Result<Naming, StoreError> {
        if let Some(naming) = self.naming.get() {
            return Ok(*naming);
        }
        let io = |source| StoreError::io("create folder", &self.root.display().to_string(), source);
        let missing: Vec<_> = self.root.ancestors().take_while(|folder| !folder.exists()).collect();
        fs::create_dir_all(&self.root).map_err(io)?;
        for folder in missing.iter().filter_map(|folder| folder.parent()) {
            self.sync_folder(folder).map_err(io)?;
        }
        self.durable.borrow_mut().insert(self.root.clone());
        let naming = self.find_naming()?;
        Ok(*self.naming.get_or_init(|| naming))
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.root
    }

    fn path(&self, path: &str) -> Result<PathBuf, StoreError> {
        let relative = Path::new(path);
        let is_below = relative.components().all(|part| matches!(part, Component::Normal(_)));
        if is_below && !path.is_empty() {
            Ok(self.root.join(relative))
        } else {
            Err(StoreError::Unsuitable(format!("the path {path:?} leads out of {}", self.url)))
        }
    }

    fn shown(&self, path: &str) -> String {
        self.root.join(path).display().to_string()
    }

    fn error(&self, operation: &'static str, path: &str, source: std::io::Error) -> StoreError {
        StoreError::io(operation, &self.shown(path), source)
    }

    fn make_parent(&self, path: &Path) -> std::io::Result<()> {
        let parent = path.parent().expect("a path below the root has a parent");
        if parent.exists() { Ok(()) } else { fs::create_dir_all(parent) }
    }

    fn sync(&self, file: &File) -> std::io::Result<()> {
        delay(&*self.faults);
        if self.faults.guard(Guard::DurabilityOrder) { file.sync_all() } else { Ok(()) }
    }

    fn sync_folder(&self, folder: &Path) -> std::io::Result<()> {
        self.sync(&File::open(folder)?)
    }

    /// Writes a temporary file beside `path` and syncs it.
    fn write_temporary(&self, path: &Path, content: &[u8]) -> std::io::Result<PathBuf> {
        let number = self.temporary.fetch_add(1, Ordering::Relaxed);
        let name = format!("{TEMPORARY}{}-{number}", std::process::id());
        let temporary = path.with_file_name(name);
        self.make_parent(path)?;
        let written = File::create(&temporary).and_then(|mut file| {
            file.write_all(content)?;
            self.sync(&file)
        });
        if let Err(error) = written {
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        Ok(temporary)
    }

    /// Gives `from` the name `to` if that is free; `from` may be gone afterwards.
    fn name_if_free(naming: Naming, from: &Path, to: &Path) -> std::io::Result<()> {
        match naming {
            Naming::HardLink => fs::hard_link(from, to),
            Naming::RenameNoReplace => {
                use rustix::fs::{CWD, RenameFlags, renameat_with};
                Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
            }
        }
    }

    /// Creates, links and tries to overwrite a file, as the protocol will.
    fn find_naming(&self) -> Result<Naming, StoreError> {
        let taken = self.root.join(format!("{TEMPORARY}{}-probe", std::process::id()));
        let written = || self.write_temporary(&taken, b"probe").map_err(|error| self.error("write", "", error));
        let keeps_names = |naming| {
            let first = written()?;
            let named = Self::name_if_free(naming, &first, &taken);
            let _ = fs::remove_file(&first);
            let second = written()?;
            let refused = Self::name_if_free(naming, &second, &taken);
            let _ = fs::remove_file(&second);
            let _ = fs::remove_file(&taken);
            Ok(named.is_ok() && refused.is_err_and(|error| error.kind() == ErrorKind::AlreadyExists))
        };
        for naming in [Naming::HardLink, Naming::RenameNoReplace] {
            if keeps_names(naming)? {
                return Ok(naming);
            }
        }
        Err(StoreError::Unsuitable(format!(
            "{}: this file system can neither link nor rename without overwriting, which exactly-once needs; use another",
            self.url
        )))
    }

    fn collect(&self, folder: &Path, entries: &mut Vec<ObjectEntry>) -> std::io::Result<()> {
        let listing = match fs::read_dir(folder) {
            Ok(listing) => listing,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in listing {
            let entry = entry?;
            let kind = match entry.file_type() {
                Ok(kind) => kind,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if kind.is_dir() {
                self.collect(&entry.path(), entries)?;
            } else if kind.is_file() && !entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
                let bytes = match entry.metadata() {
                    Ok(metadata) => metadata.len(),
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                };
                let path = entry.path();
                let relative = path.strip_prefix(&self.root).expect("a listed path lies below the root");
                entries.push(ObjectEntry { path: relative.to_string_lossy().into_owned(), bytes });
            }
        }
        Ok(())
    }
}

#[async_trait(?Send)]
impl Store for LocalStore {
    fn root(&self) -> &str {
        &self.url
    }

    async fn get(&self, path: &str) -> Result<Option<Bytes>, StoreError> {
        match fs::read(self.path(path)?) {
            Ok(content) => Ok(Some(content.into())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.error("read", path, error)),
        }
    }

    async fn length(&self, path: &str) -> Result<Option<u64>, StoreError> {
        match fs::metadata(self.path(path)?) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.error("look at", path, error)),
        }
    }

    async fn list(&self, folder: &str) -> Result<Vec<ObjectEntry>, StoreError> {
        let mut entries = Vec::new();
        let path = if folder.is_empty() { self.root.clone() } else { self.path(folder)? };
        self.collect(&path, &mut entries).map_err(|error| self.error("list", folder, error))?;
        entries.sort();
        Ok(entries)
    }

    async fn create(&self, path: &str, content: Bytes) -> Result<Created, StoreError> {
        let (naming, target) = (self.prepare()?, self.path(path)?);
        let error = |source| self.error("create", path, source);
        let temporary = self.write_temporary(&target, &content).map_err(error)?;
        self.faults.reached(Step::LinkRecord, Moment::Before);
        let named = Self::name_if_free(naming, &temporary, &target);
        self.faults.reached(Step::LinkRecord, Moment::After);
        let _ = fs::remove_file(&temporary);
        match named {
            Ok(()) => {
                self.faults.reached(Step::SyncLog, Moment::Before);
                self.sync_entries(&[path.to_owned()]).await?;
                self.faults.reached(Step::SyncLog, Moment::After);
                Ok(Created::Yes)
            }
            Err(source) if source.kind() == ErrorKind::AlreadyExists => Ok(Created::AlreadyExists),
            Err(source) => Err(error(source)),
        }
    }

    async fn replace(&self, path: &str, content: Bytes) -> Result<(), StoreError> {
        self.prepare()?;
        let target = self.path(path)?;
        let error = |source| self.error("replace", path, source);
        let temporary = self.write_temporary(&target, &content).map_err(error)?;
        fs::rename(&temporary, &target).map_err(error)?;
        self.sync_entries(&[path.to_owned()]).await
    }

    async fn stage(&self, path: &str) -> Result<Box<dyn StagedFile>, StoreError> {
        self.prepare()?;
        let target = self.path(path)?;
        let error = |source| self.error("create", path, source);
        self.make_parent(&target).map_err(error)?;
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&target).map_err(error)?;
        let shown = self.shown(path);
        let faults = Arc::clone(&self.faults);
        Ok(Box::new(LocalFile { file, shown, hash: XxHash3_64::new(), bytes: 0, faults }))
    }

    async fn publish(&self, stage: &str, path: &str) -> Result<Published, StoreError> {
        let (naming, from, to) = (self.prepare()?, self.path(stage)?, self.path(path)?);
        let error = |source| self.error("publish", path, source);
        self.make_parent(&to).map_err(error)?;
        match Self::name_if_free(naming, &from, &to) {
            Ok(()) => Ok(Published::Yes),
            Err(source) if source.kind() == ErrorKind::AlreadyExists => Ok(Published::AlreadyExists),
            Err(source) if source.kind() == ErrorKind::NotFound && !from.exists() => Ok(Published::StageMissing),
            Err(source) => Err(error(source)),
        }
    }

    async fn supersede(&self, stage: &str, path: &str) -> Result<Superseded, StoreError> {
        self.prepare()?;
        let (from, to) = (self.path(stage)?, self.path(path)?);
        let error = |source| self.error("publish", path, source);
        self.make_parent(&to).map_err(error)?;
        match fs::rename(&from, &to) {
            Ok(()) => Ok(Superseded::Yes),
            Err(source) if source.kind() == ErrorKind::NotFound && !from.exists() => Ok(Superseded::StageMissing),
            Err(source) => Err(error(source)),
        }
    }

    async fn sync_entries(&self, paths: &[String]) -> Result<(), StoreError> {
        let mut folders = BTreeSet::new();
        let mut durable = self.durable.borrow_mut();
        for path in paths {
            let target = self.path(path)?;
            for folder in target.ancestors().skip(1) {
                folders.insert(folder.to_owned());
                if durable.contains(folder) || folder == self.root {
                    break;
                }
            }
        }
        // A reader that never wrote may look at folders that are not there.
        for folder in folders.into_iter().filter(|folder| folder.exists()) {
            self.sync_folder(&folder).map_err(|e| StoreError::io("sync", &folder.display().to_string(), e))?;
            durable.insert(folder);
        }
        Ok(())
    }

    async fn delete(&self, path: &str) -> Result<(), StoreError> {
        match fs::remove_file(self.path(path)?) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(self.error("remove", path, error)),
            _ => Ok(()),
        }
    }

    async fn delete_empty_folder(&self, path: &str) -> Result<(), StoreError> {
        let folder = self.path(path)?;
        self.durable.borrow_mut().remove(&folder);
        // Not empty, or gone already: both are fine.
        let _ = fs::remove_dir(folder);
        Ok(())
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.prepare()?;
        let temporary = self.write_temporary(&self.root.join("probe"), b"probe");
        let removed = temporary.and_then(fs::remove_file);
        removed.map_err(|source| StoreError::io("write to", &self.root.display().to_string(), source))
    }
}

/// What a test adds to every write: a slow disk.
fn delay(faults: &dyn Faults) {
    let delay = faults.disk_delay();
    if !delay.is_zero() {
        std::thread::sleep(delay);
    }
}

struct LocalFile {
    file: File,
    shown: String,
    hash: XxHash3_64,
    bytes: u64,
    faults: Arc<dyn Faults>,
}

#[async_trait(?Send)]
impl StagedFile for LocalFile {
    async fn write(&mut self, content: Bytes) -> Result<(), StoreError> {
        delay(&*self.faults);
        self.file.write_all(&content).map_err(|e| StoreError::io("write", &self.shown, e))?;
        std::hash::Hasher::write(&mut self.hash, &content);
        self.bytes += content.len() as u64;
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<StagedFacts, StoreError> {
        delay(&*self.faults);
        if self.faults.guard(Guard::DurabilityOrder) {
            self.file.sync_all().map_err(|e| StoreError::io("sync", &self.shown, e))?;
        }
        Ok(StagedFacts { bytes: self.bytes, xxh3: xxh3_hex(std::hash::Hasher::finish(&self.hash)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::NoFaults;

    fn store() -> (tempfile::TempDir, LocalStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::open(&folder.path().join("a/b"), Arc::new(NoFaults)).unwrap();
        (folder, store)
    }

    async fn staged(store: &LocalStore, path: &str, content: &'static [u8]) -> StagedFacts {
        let mut file = store.stage(path).await.unwrap();
        file.write(Bytes::from_static(content)).await.unwrap();
        file.finish().await.unwrap()
    }

    #[tokio::test]
    async fn an_object_is_created_once() {
        let (_folder, store) = store();
        assert_eq!(store.create("log/1", Bytes::from_static(b"a")).await.unwrap(), Created::Yes);
        assert_eq!(store.create("log/1", Bytes::from_static(b"b")).await.unwrap(), Created::AlreadyExists);
        assert_eq!(store.get("log/1").await.unwrap().unwrap(), "a");
        assert_eq!(store.get("log/2").await.unwrap(), None);
        assert_eq!(store.list("").await.unwrap(), [ObjectEntry { path: "log/1".to_owned(), bytes: 1 }]);
    }

    #[tokio::test]
    async fn a_staged_file_is_published_once_and_never_overwrites() {
        for naming in [Naming::HardLink, Naming::RenameNoReplace] {
            let (_folder, store) = store();
            store.naming.set(naming).unwrap();
            let facts = staged(&store, "_staging/1/x.tmp", b"content").await;
            assert_eq!((facts.bytes, facts.xxh3), (7, crate::checkpoint::record::checksum(b"content")));
            assert_eq!(store.publish("_staging/1/x.tmp", "d=1/x.parquet").await.unwrap(), Published::Yes);
            staged(&store, "_staging/1/y.tmp", b"other").await;
            let again = store.publish("_staging/1/y.tmp", "d=1/x.parquet").await.unwrap();
            assert_eq!(again, Published::AlreadyExists);
            assert_eq!(store.get("d=1/x.parquet").await.unwrap().unwrap(), "content");
            let missing = store.publish("_staging/1/none.tmp", "d=2/x.parquet").await.unwrap();
            assert_eq!(missing, Published::StageMissing);
            store.sync_entries(&["d=1/x.parquet".to_owned(), "d=2/z".to_owned()]).await.unwrap();
        }
    }

    #[tokio::test]
    async fn nothing_is_written_outside_the_root() {
        let (_folder, store) = store();
        for path in ["../x", "/x", "a/../../x", ""] {
            let refused = store.create(path, Bytes::new()).await;
            assert!(
                matches!(refused, Err(StoreError::Unsuitable(_) | StoreError::Failed { .. })),
                "{path}: {refused:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let store = LocalStore::open(&file.join("x"), Arc::new(NoFaults)).unwrap();
        let error = store.probe().await.unwrap_err();
        assert!(error.to_string().contains("file/x"), "{error}");
    }

    #[tokio::test]
    async fn looking_at_a_folder_does_not_make_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::open(&folder.path().join("x"), Arc::new(NoFaults)).unwrap();
        assert!(store.list("").await.unwrap().is_empty());
        assert_eq!(store.get("log/1").await.unwrap(), None);
        store.sync_entries(&["log/1".to_owned()]).await.unwrap();
        assert!(!folder.path().join("x").exists());
    }
}
