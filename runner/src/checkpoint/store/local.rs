//! A folder of a local or mounted file system, with every fsync that the protocol's promises need.
//!
//! The store of a table has two folders: the table's own, and one beside it for its bookkeeping (see [`paths::BESIDE`]).
//!
//! `object_store` 0.13 never syncs local files and links them before they are durable, so this is ours. Calls block: the
//! pipeline has a thread of its own.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use twox_hash::XxHash3_64;

use super::{Created, Limits, ObjectEntry, Published, StagedFacts, StagedFile, Store, StoreError, Superseded};
use crate::checkpoint::paths;
use crate::checkpoint::record::xxh3_hex;
use crate::faults::{Faults, Guard, Moment, Step};

/// Prefix of temporary files, which no listing shows and no reader takes for a table.
const TEMPORARY: &str = ".tmp-";

/// Folders that are remembered as durable. Whoever is forgotten is synced once more.
const DURABLE_MAX: usize = 4_096;

/// Bytes that are read at once to compute a checksum.
const READ_BYTES: usize = 1 << 20;

/// Links that are followed to what is not there yet; one that leads to itself is taken as it is written.
const LINKS_MAX: u32 = 16;

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

    /// Makes the folder in which `path` lies, the table's or the one beside it, and finds out how names are given there.
    fn prepare(&self, path: &str) -> Result<Naming, StoreError> {
        match (&self.beside, paths::beside(path)) {
            (Some(beside), Some(_)) => self.prepare_folder(beside, &self.naming_beside),
            _ => self.prepare_folder(&self.root, &self.naming),
        }
    }

    /// Makes a folder, durably, and finds out how names are given without overwriting.
    fn prepare_folder(&self, folder: &Path, naming: &OnceCell<Naming>) -> Result<Naming, StoreError> {
        if let Some(naming) = naming.get() {
            return Ok(*naming);
        }
        let io = |source| StoreError::io("create folder", &folder.display().to_string(), source);
        let missing: Vec<_> = folder.ancestors().take_while(|folder| !folder.exists()).collect();
        fs::create_dir_all(folder).map_err(io)?;
        for made in &missing {
            if let Some(parent) = made.parent() {
                self.sync_folder(parent).map_err(io)?;
            }
        }
        self.durable.borrow_mut().insert(folder.to_owned());
        let found = self.find_naming(folder)?;
        Ok(*naming.get_or_init(|| found))
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

    /// Writes a temporary file beside `path` and syncs it. Its name is random: in a container every process has the same
    /// number, and what one left that was killed may be a link to a record.
    fn write_temporary(&self, path: &Path, content: &[u8]) -> std::io::Result<PathBuf> {
        let name = format!("{TEMPORARY}{}-{}", std::process::id(), uuid::Uuid::new_v4());
        let temporary = path.with_file_name(name);
        self.make_parent(path)?;
        let written = File::create_new(&temporary).and_then(|mut file| {
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
    fn find_naming(&self, folder: &Path) -> Result<Naming, StoreError> {
        let taken = folder.join(format!("{TEMPORARY}{}-{}-probe", std::process::id(), uuid::Uuid::new_v4()));
        let shown = folder.display().to_string();
        let written =
            || self.write_temporary(&taken, b"probe").map_err(|error| StoreError::io("write to", &shown, error));
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
            "{shown}: this file system can neither link nor rename without overwriting, which exactly-once needs; use another"
        )))
    }

    fn remove_empty(&self, folder: &Path) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.remove_empty(&entry.path());
            }
        }
        self.durable.borrow_mut().remove(folder);
        // Not empty, or gone already: both are fine.
        let _ = fs::remove_dir(folder);
    }

    /// A staged file gets its final name in another folder: both must be on one file system, and of this user.
    fn probe_beside(&self, beside: &Path) -> Result<(), StoreError> {
        let refused = |what: &str, source: &dyn std::fmt::Display| {
            StoreError::Unsuitable(format!(
                "{what} ({source}): the bookkeeping of the table {} lies beside it, and files are moved from there into the \
                 table; give the table a folder below one that this user may write, on one file system, not a mounted one",
                self.root.display()
            ))
        };
        let cannot = |source: StoreError| match source {
            StoreError::Denied { path, source, .. } => refused(&format!("cannot write {path}"), &source),
            other => other,
        };
        let naming = self.prepare_folder(beside, &self.naming_beside).map_err(cannot)?;
        let from = self.write_temporary(&beside.join("probe"), b"probe");
        let from = from.map_err(|source| StoreError::io("write to", &beside.display().to_string(), source))?;
        let to = self.root.join(format!("{TEMPORARY}{}-{}", std::process::id(), uuid::Uuid::new_v4()));
        let named = Self::name_if_free(naming, &from, &to);
        let _ = fs::remove_file(&from);
        let _ = fs::remove_file(&to);
        named.map_err(|source| refused(&format!("cannot move a file from {}", beside.display()), &source))
    }

    fn collect(&self, base: (&Path, &str), folder: &Path, entries: &mut Vec<ObjectEntry>) -> std::io::Result<()> {
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
                self.collect(base, &entry.path(), entries)?;
            } else if kind.is_file() && !entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
                let bytes = match entry.metadata() {
                    Ok(metadata) => metadata.len(),
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                };
                let path = entry.path();
                let relative = path.strip_prefix(base.0).expect("a listed path lies below the folder");
                entries.push(ObjectEntry { path: format!("{}{}", base.1, relative.to_string_lossy()), bytes });
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
        self.prepare(path)?;
        let target = self.path(path)?;
        let error = |source| self.error("replace", path, source);
        let temporary = self.write_temporary(&target, &content).map_err(error)?;
        fs::rename(&temporary, &target).map_err(error)?;
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
        match Self::name_if_free(naming, &from, &to) {
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

    async fn probe(&self) -> Result<(), StoreError> {
        self.prepare_folder(&self.root, &self.naming)?;
        let temporary = self.write_temporary(&self.root.join("probe"), b"probe");
        let removed = temporary.and_then(fs::remove_file);
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

/// A folder without `.`, `..` and symbolic links, so that each place has one name, also before it is there.
///
/// # Errors
/// When the working directory is gone.
pub fn canonical(path: &Path) -> Result<PathBuf, StoreError> {
    let absolute = std::path::absolute(path)
        .map_err(|source| StoreError::io("find the working directory for", "a relative path", source))?;
    Ok(resolved(&absolute, LINKS_MAX))
}

/// An absolute path without links, as far as it is there; what is not there yet is taken as it is written.
fn resolved(absolute: &Path, links: u32) -> PathBuf {
    let mut rest = Vec::new();
    let mut there = absolute;
    loop {
        if let Ok(mut found) = fs::canonicalize(there) {
            for part in rest.iter().rev() {
                if *part == Component::ParentDir {
                    found.pop();
                } else {
                    found.push(part);
                }
            }
            return found;
        }
        let (Some(last), Some(parent)) = (there.components().next_back(), there.parent()) else {
            return absolute.to_owned();
        };
        // A link to what is not there yet.
        if let Some(target) = fs::read_link(there).ok().filter(|_| links > 0) {
            let target = rest.iter().rev().fold(parent.join(target), |path: PathBuf, part| path.join(part));
            return resolved(&target, links - 1);
        }
        rest.push(last);
        there = parent;
    }
}

/// There is no such object: neither it, nor a folder in which it could lie.
fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
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
        let store = LocalStore::open_table(&folder.path().join("a/b"), Arc::new(NoFaults)).unwrap();
        (folder, store)
    }

    async fn staged(store: &LocalStore, path: &str, content: &'static [u8]) -> StagedFacts {
        let mut file = store.stage(path).await.unwrap();
        file.write(Bytes::from_static(content)).await.unwrap();
        file.finish().await.unwrap()
    }

    /// A process that is killed between the link and its removal leaves the temporary name; the next one has its number.
    #[tokio::test]
    async fn what_a_killed_process_left_is_never_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let open = || LocalStore::open(folder.path(), Arc::new(NoFaults)).unwrap();
        open().create("log/0", "first".into()).await.unwrap();
        for number in 0..3 {
            let left = folder.path().join(format!("log/{TEMPORARY}{}-{number}", std::process::id()));
            fs::hard_link(folder.path().join("log/0"), left).unwrap();
        }
        open().create("log/1", "second".into()).await.unwrap();
        assert_eq!(open().get("log/0").await.unwrap().unwrap(), "first");
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
            store.naming_beside.set(naming).unwrap();
            let facts = staged(&store, "_dataplatform/staging/l/1/x.tmp", b"content").await;
            assert_eq!((facts.bytes, facts.xxh3), (7, crate::checkpoint::record::checksum(b"content")));
            assert_eq!(
                store.publish("_dataplatform/staging/l/1/x.tmp", "d=1/x.parquet").await.unwrap(),
                Published::Yes
            );
            staged(&store, "_dataplatform/staging/l/1/y.tmp", b"other").await;
            let again = store.publish("_dataplatform/staging/l/1/y.tmp", "d=1/x.parquet").await.unwrap();
            assert_eq!(again, Published::AlreadyExists);
            assert_eq!(store.get("d=1/x.parquet").await.unwrap().unwrap(), "content");
            let missing = store.publish("_dataplatform/staging/l/1/none.tmp", "d=2/x.parquet").await.unwrap();
            assert_eq!(missing, Published::StageMissing);
            store.sync_entries(&["d=1/x.parquet".to_owned(), "d=2/z".to_owned()]).await.unwrap();
        }
    }

    #[tokio::test]
    async fn the_bookkeeping_lies_beside_the_table_and_the_tables_folder_holds_the_table_alone() {
        let (folder, store) = store();
        store.probe().await.unwrap();
        store.create(paths::PROGRESS, Bytes::from_static(b"p")).await.unwrap();
        staged(&store, "_dataplatform/staging/l/1/x.tmp", b"content").await;
        store.publish("_dataplatform/staging/l/1/x.tmp", "d=1/x.parquet").await.unwrap();
        let listed = |listed: Vec<ObjectEntry>| listed.into_iter().map(|entry| entry.path).collect::<Vec<_>>();
        assert_eq!(listed(store.list("").await.unwrap()), ["d=1/x.parquet"]);
        assert_eq!(listed(store.list(paths::STAGING).await.unwrap()), ["_dataplatform/staging/l/1/x.tmp"]);
        assert_eq!(fs::read(folder.path().join("a/_dataplatform/b/progress.json")).unwrap(), b"p");
        assert_eq!(
            store.file(paths::PROGRESS).unwrap(),
            store.folder().with_file_name("_dataplatform/b/progress.json")
        );
        let names: Vec<_> = fs::read_dir(folder.path().join("a/b")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["d=1"]);
    }

    #[tokio::test]
    async fn a_staged_name_that_is_taken_is_never_written_over() {
        let (_folder, store) = store();
        staged(&store, "_dataplatform/staging/l/1/x.tmp", b"content").await;
        let error = store.stage("_dataplatform/staging/l/1/x.tmp").await.err().unwrap();
        assert!(matches!(error, StoreError::InTheWay { .. }), "{error}");
        assert_eq!(store.get("_dataplatform/staging/l/1/x.tmp").await.unwrap().unwrap(), "content");
    }

    #[tokio::test]
    async fn a_checksum_is_that_of_the_content_however_long_it_is() {
        let (_folder, store) = store();
        for length in [0, 1, READ_BYTES - 1, READ_BYTES, 3 * READ_BYTES + 7] {
            let content = vec![length as u8; length];
            store.replace("x", content.clone().into()).await.unwrap();
            let facts = StagedFacts { bytes: length as u64, xxh3: crate::checkpoint::record::checksum(&content) };
            assert_eq!(store.facts("x").await.unwrap(), Some(facts));
        }
        assert_eq!(store.facts("none").await.unwrap(), None);
    }

    #[test]
    fn a_place_has_one_name_however_it_is_spelled() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().canonicalize().unwrap();
        fs::create_dir_all(base.join("real/t")).unwrap();
        std::os::unix::fs::symlink(base.join("real"), base.join("link")).unwrap();
        std::os::unix::fs::symlink("coming/t", base.join("early")).unwrap();
        std::os::unix::fs::symlink("self", base.join("self")).unwrap();
        for (spelled, expected) in [
            ("real/t", "real/t"),
            ("link/t", "real/t"),
            ("link/../link/t/.", "real/t"),
            ("link/new/deep", "real/new/deep"),
            ("none/../real/t", "real/t"),
            ("early", "coming/t"),
            ("early/x", "coming/t/x"),
            ("self", "self"),
            ("t#1", "t#1"),
            ("u%41", "u%41"),
        ] {
            assert_eq!(canonical(&base.join(spelled)).unwrap(), base.join(expected), "{spelled}");
        }
    }

    #[test]
    fn a_root_in_the_log_leads_back_to_its_folder_whatever_its_name() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["t", "t#1", "u%41", "v?x", "a b", "ü", "x\\y", "a;b&c+d'e:f*g"] {
            let store = LocalStore::open_table(&folder.path().join(name), Arc::new(NoFaults)).unwrap();
            let back = crate::checkpoint::store::open::Location::of_root(store.root()).unwrap();
            assert_eq!(back.folder(), Some(store.folder()), "{name}: {}", store.root());
        }
    }

    #[tokio::test]
    async fn a_table_that_cannot_have_its_bookkeeping_beside_it_is_refused_by_name() {
        let error = LocalStore::open_table(Path::new("/"), Arc::new(NoFaults)).err().unwrap();
        assert!(error.to_string().contains("beside"), "{error}");
        // Another file system: files cannot be moved from there.
        if Path::new("/dev/shm").is_dir() {
            let folder = tempfile::tempdir_in("/dev/shm").unwrap();
            let table = folder.path().join("t");
            let mut store = LocalStore::open_table(&table, Arc::new(NoFaults)).unwrap();
            let elsewhere = tempfile::tempdir().unwrap();
            store.beside = Some(elsewhere.path().join("_dataplatform/t"));
            let error = store.probe().await.unwrap_err().to_string();
            assert!(error.contains("beside it") && error.contains(&table.display().to_string()), "{error}");
        }
    }

    #[test]
    fn names_end_where_the_file_system_says() {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::open_table(&folder.path().join("t"), Arc::new(NoFaults)).unwrap();
        let Limits { name, path } = store.limits();
        assert!((1..=255).contains(&name) && (3_000..4_000).contains(&path), "{name} {path}");
    }

    #[tokio::test]
    async fn nothing_is_written_outside_the_root() {
        let (_folder, store) = store();
        for path in ["../x", "/x", "a/../../x", "", "_dataplatform/../x", "_dataplatform/../../x"] {
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
