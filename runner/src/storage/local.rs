//! A folder of a local or mounted file system, with every fsync that the protocol's promises need.
//!
//! The store of a table has two folders: the table's own, and one beside it for its bookkeeping (see [`paths::BESIDE`]).
//!
//! `object_store` 0.13 never syncs local files and links them before they are durable, so this is ours. Calls block: the
//! pipeline has a thread of its own.

mod folders;
mod swap;
mod temporary;
#[cfg(test)]
mod tests;

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use twox_hash::XxHash3_64;

use self::folders::{Naming, delay};
use self::temporary::{Temporary, remove_left_over};
use super::canonical::canonical;
use super::{
    Created, Limits, ObjectEntry, Published, StagedFacts, StagedFile, StagedFolder, Store, StoreError, Superseded,
};
use crate::faults::{Faults, Guard, Moment, Step};
use crate::storage::checksum::xxh3_hex;
use crate::storage::paths;

/// Folders that are remembered as durable. Whoever is forgotten is synced once more.
const DURABLE_MAX: usize = 4_096;

/// Bytes that are read at once to compute a checksum.
const READ_BYTES: usize = 1 << 20;

/// Longest name of Linux, in bytes; some file systems take less.
const NAME_BYTES_MAX: usize = 255;

/// Longest path of Linux, in bytes, without the zero at its end.
const PATH_BYTES_MAX: usize = 4_095;

/// Bytes of a path that are kept for what a name gets in front or behind later: a rewind moves a file to
/// `_dataplatform/…/rewound/…`.
const PATH_BYTES_KEPT: usize = 96;

/// A folder of a file system.
pub struct LocalStore {
    root: PathBuf,
    /// The folder of a table's bookkeeping; `None` for a checkpoint.
    beside: Option<PathBuf>,
    url: String,
    faults: Arc<dyn Faults>,
    /// Found out by the first write into the root, which also makes the folder.
    naming: OnceCell<Naming>,
    /// The same of the folder beside it.
    naming_beside: OnceCell<Naming>,
    /// Folders whose own entry is durable, so that only the folder that changed needs a sync.
    durable: RefCell<BTreeSet<PathBuf>>,
}

impl LocalStore {
    /// A folder, which need not exist: it is made by the first write, or by [`Store::probe`].
    ///
    /// # Errors
    /// When the working directory is gone.
    pub fn open(root: &Path, faults: Arc<dyn Faults>) -> Result<Self, StoreError> {
        Ok(Self::over(canonical(root)?, None, faults))
    }

    /// The folder of a table, with its bookkeeping beside it.
    ///
    /// # Errors
    /// When the working directory is gone, or there is no place beside the folder.
    pub fn open_table(root: &Path, faults: Arc<dyn Faults>) -> Result<Self, StoreError> {
        let root = canonical(root)?;
        let (Some(parent), Some(name)) = (root.parent(), root.file_name()) else {
            return Err(StoreError::Unsuitable(format!(
                "{}: a table cannot lie at the root of a file system, since its bookkeeping lies beside it",
                root.display()
            )));
        };
        let beside = parent.join(paths::BESIDE).join(name);
        Ok(Self::over(root, Some(beside), faults))
    }

    fn over(root: PathBuf, beside: Option<PathBuf>, faults: Arc<dyn Faults>) -> Self {
        let url = url::Url::from_file_path(&root).map_or_else(|()| format!("file://{}", root.display()), String::from);
        let (naming, naming_beside, durable) = (OnceCell::new(), OnceCell::new(), RefCell::default());
        Self { root, beside, url, faults, naming, naming_beside, durable }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.root
    }

    fn path(&self, path: &str) -> Result<PathBuf, StoreError> {
        let relative = Path::new(path);
        let is_below = relative.components().all(|part| matches!(part, Component::Normal(_)));
        if is_below && !path.is_empty() {
            Ok(self.place(path))
        } else {
            Err(StoreError::Unsuitable(format!("the path {path:?} leads out of {}", self.url)))
        }
    }

    /// Where a path of this store lies.
    fn place(&self, path: &str) -> PathBuf {
        match (&self.beside, paths::beside(path)) {
            (Some(beside), Some(below)) => beside.join(below),
            _ => self.root.join(path),
        }
    }

    fn shown(&self, path: &str) -> String {
        self.place(path).display().to_string()
    }

    fn error(&self, operation: &'static str, path: &str, source: std::io::Error) -> StoreError {
        StoreError::io(operation, &self.shown(path), source)
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
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(self.error("read", path, error)),
        }
    }

    async fn facts(&self, path: &str) -> Result<Option<StagedFacts>, StoreError> {
        let read = || -> std::io::Result<StagedFacts> {
            let mut file = File::open(self.path(path).map_err(std::io::Error::other)?)?;
            let (mut hash, mut bytes, mut buffer) = (XxHash3_64::new(), 0, vec![0; READ_BYTES]);
            loop {
                match file.read(&mut buffer)? {
                    0 => break,
                    read => {
                        std::hash::Hasher::write(&mut hash, &buffer[..read]);
                        bytes += read as u64;
                    }
                }
            }
            Ok(StagedFacts { bytes, xxh3: xxh3_hex(std::hash::Hasher::finish(&hash)) })
        };
        match read() {
            Ok(facts) => Ok(Some(facts)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(self.error("read", path, error)),
        }
    }

    async fn length(&self, path: &str) -> Result<Option<u64>, StoreError> {
        match fs::metadata(self.path(path)?) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(self.error("look at", path, error)),
        }
    }

    async fn list(&self, folder: &str) -> Result<Vec<ObjectEntry>, StoreError> {
        let mut entries = Vec::new();
        let path = if folder.is_empty() { self.root.clone() } else { self.path(folder)? };
        let prefix = format!("{}/", paths::BESIDE);
        let base = match (&self.beside, paths::beside(folder)) {
            (Some(beside), Some(_)) => (beside.as_path(), prefix.as_str()),
            _ => (self.root.as_path(), ""),
        };
        self.collect(base, &path, &mut entries).map_err(|error| self.error("list", folder, error))?;
        entries.sort();
        Ok(entries)
    }

    async fn create(&self, path: &str, content: Bytes) -> Result<Created, StoreError> {
        let (naming, target) = (self.prepare(path)?, self.path(path)?);
        let error = |source| self.error("create", path, source);
        let temporary = self.write_temporary(&target, &content).map_err(error)?;
        self.faults.reached(Step::LinkRecord, Moment::Before);
        let named = naming.name_if_free(temporary.path(), &target);
        self.faults.reached(Step::LinkRecord, Moment::After);
        let _ = temporary.remove();
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
        self.prepare(path)?;
        let target = self.path(path)?;
        let error = |source| self.error("replace", path, source);
        let temporary = self.write_temporary(&target, &content).map_err(error)?;
        fs::rename(temporary.path(), &target).map_err(error)?;
        self.sync_entries(&[path.to_owned()]).await
    }

    async fn stage(&self, path: &str) -> Result<Box<dyn StagedFile>, StoreError> {
        self.prepare(path)?;
        let target = self.path(path)?;
        let error = |source| self.error("create", path, source);
        self.make_parent(&target).map_err(error)?;
        let file = OpenOptions::new().write(true).create_new(true).open(&target).map_err(error)?;
        let shown = self.shown(path);
        let faults = Arc::clone(&self.faults);
        Ok(Box::new(LocalFile { file, shown, hash: XxHash3_64::new(), bytes: 0, faults }))
    }

    async fn publish(&self, stage: &str, path: &str) -> Result<Published, StoreError> {
        let (naming, from, to) = (self.prepare(path)?, self.path(stage)?, self.path(path)?);
        let error = |source| self.error("publish", path, source);
        self.make_parent(&to).map_err(error)?;
        match naming.name_if_free(&from, &to) {
            Ok(()) => Ok(Published::Yes),
            Err(source) if source.kind() == ErrorKind::AlreadyExists => Ok(Published::AlreadyExists),
            Err(source) if source.kind() == ErrorKind::NotFound && !from.exists() => Ok(Published::StageMissing),
            Err(source) => Err(error(source)),
        }
    }

    async fn supersede(&self, stage: &str, path: &str) -> Result<Superseded, StoreError> {
        self.prepare(path)?;
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
                if durable.contains(folder) || folder == self.root || self.beside.as_deref() == Some(folder) {
                    break;
                }
            }
        }
        // A reader that never wrote may look at folders that are not there.
        for folder in folders {
            match self.sync_folder(&folder) {
                Ok(()) => {}
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => continue,
                Err(error) => return Err(StoreError::io("sync", &folder.display().to_string(), error)),
            }
            if durable.len() >= DURABLE_MAX {
                durable.clear();
            }
            durable.insert(folder);
        }
        Ok(())
    }

    async fn delete(&self, path: &str) -> Result<(), StoreError> {
        match fs::remove_file(self.path(path)?) {
            Err(error) if !is_absent(&error) => Err(self.error("remove", path, error)),
            _ => Ok(()),
        }
    }

    async fn delete_empty_folders(&self, path: &str) -> Result<(), StoreError> {
        self.remove_empty(&self.path(path)?);
        Ok(())
    }

    /// Of a table only its own folder, that of its own log, and what lies beside it: directories of the table have no such
    /// files.
    async fn delete_left_over(&self) -> Result<(), StoreError> {
        let error = |source| self.error("remove what killed processes left in", "", source);
        remove_left_over(&self.root, self.beside.is_none()).map_err(error)?;
        remove_left_over(&self.root.join(paths::DELTA_LOG), false).map_err(error)?;
        self.beside.as_ref().map_or(Ok(()), |beside| remove_left_over(beside, true)).map_err(error)
    }

    async fn begin_folders(&self, root: &str, own: Option<&str>) -> Result<(), StoreError> {
        self.begin_staging_folders(root, own)
    }

    async fn stage_folder(&self, path: &str) -> Result<Box<dyn StagedFolder>, StoreError> {
        Ok(Box::new(self.stage_whole_folder(path)?))
    }

    async fn remove_folder(&self, stage: &str, folder: &str) -> Result<(), StoreError> {
        self.remove_whole_folder(stage, folder)
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.prepare_folder(&self.root, &self.naming)?;
        let temporary = self.write_temporary(&self.root.join("probe"), b"probe");
        let removed = temporary.and_then(Temporary::remove);
        removed.map_err(|source| StoreError::io("write to", &self.root.display().to_string(), source))?;
        self.beside.as_ref().map_or(Ok(()), |beside| self.probe_beside(beside))
    }

    fn limits(&self) -> Limits {
        let there = self.root.ancestors().find(|folder| folder.exists());
        let known = there.and_then(|folder| rustix::fs::statvfs(folder).ok()).map(|facts| facts.f_namemax);
        let name = known.and_then(|name| usize::try_from(name).ok()).filter(|name| *name > 0).unwrap_or(NAME_BYTES_MAX);
        let root = self.root.as_os_str().len() + 1;
        Limits { name: name.min(NAME_BYTES_MAX), path: PATH_BYTES_MAX.saturating_sub(root + PATH_BYTES_KEPT) }
    }

    fn file(&self, path: &str) -> Option<PathBuf> {
        self.path(path).ok()
    }
}

/// There is no such object: neither it, nor a folder in which it could lie.
fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
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
