//! A disk in memory that forgets, at a crash of the machine, what was not made durable; and the faults around it.
//!
//! Several simulated processes share one [`Disk`]. Every operation pauses before and after its effect, so a scheduler can
//! let another process run, crash the process or crash the machine in between.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Created, Limits, ObjectEntry, Published, StagedFacts, StagedFile, Store, StoreError, Superseded};
use crate::random::Random;
use crate::storage::checksum::checksum;
use crate::storage::paths;

#[derive(Clone, Debug)]
struct Inode {
    content: Vec<u8>,
    durable: bool,
}

/// Faults that the disk injects, and how many it has injected.
#[derive(Clone, Debug, Default)]
pub(crate) struct Injected {
    pub(crate) lost_replies: u64,
    pub(crate) failures: u64,
    pub(crate) forgotten: u64,
}

/// The disk that all processes of a simulation share.
pub(crate) struct Disk {
    inodes: Vec<Inode>,
    /// What processes see.
    entries: BTreeMap<String, usize>,
    /// What a crash leaves.
    durable: BTreeMap<String, usize>,
    durable_folders: BTreeSet<String>,
    /// Renames since the last crash, from and to: a journaling file system keeps both sides of one, or neither.
    renames: Vec<(String, String)>,
    pub(crate) random: Random,
    /// Once in how many operations a reply is lost or an operation fails; 0 is never.
    pub(crate) fault_one_in: u64,
    pub(crate) injected: Injected,
    /// Off: syncs do nothing (a negative control).
    pub(crate) syncs: bool,
    /// Prints every effect, and which process has it: for a single seed.
    pub(crate) trace: bool,
    /// What every process did, if somebody wants to know.
    told: Option<Vec<String>>,
    pub(crate) running: u64,
}

thread_local! {
    /// The disk on which `simulated://` URLs lie.
    static MOUNTED: RefCell<Option<Rc<RefCell<Disk>>>> = const { RefCell::new(None) };
}

impl Disk {
    pub(crate) fn new(seed: u64, fault_one_in: u64, syncs: bool) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            inodes: Vec::new(),
            entries: BTreeMap::new(),
            durable: BTreeMap::new(),
            durable_folders: BTreeSet::new(),
            renames: Vec::new(),
            random: Random::new(seed),
            fault_one_in,
            injected: Injected::default(),
            syncs,
            trace: std::env::var_os("SIMULATION_SEED").is_some(),
            told: None,
            running: 0,
        }))
    }

    /// From now on `simulated://` URLs lie on this disk, for this thread.
    pub(crate) fn mount(disk: &Rc<RefCell<Self>>) {
        MOUNTED.set(Some(Rc::clone(disk)));
    }

    /// Keeps what every process does from now on.
    pub(crate) fn keep_trace(&mut self) {
        self.told = Some(Vec::new());
    }

    /// What processes did, without the random part of names.
    pub(crate) fn take_trace(&mut self) -> Vec<String> {
        self.told.take().unwrap_or_default()
    }

    /// The machine stops: entries and content that were not synced may be gone, each for itself.
    pub(crate) fn crash(&mut self) {
        let mut together = BTreeMap::new();
        for (from, to) in std::mem::take(&mut self.renames) {
            let is_durable = [&from, &to].into_iter().any(|path| self.entries.get(path) == self.durable.get(path));
            let keep = is_durable || self.random.one_in(2);
            together.extend([(from, keep), (to, keep)]);
        }
        let paths: BTreeSet<_> = self.entries.keys().chain(self.durable.keys()).cloned().collect();
        let mut left = BTreeMap::new();
        for path in paths {
            let (seen, durable) = (self.entries.get(&path).copied(), self.durable.get(&path).copied());
            let keep_change = seen == durable || together.get(&path).copied().unwrap_or_else(|| self.random.one_in(2));
            let inode = if keep_change { seen } else { durable };
            if seen != durable && !keep_change {
                self.injected.forgotten += 1;
            }
            let Some(inode) = inode else { continue };
            let folders_survive = folders(&path).all(|f| self.durable_folders.contains(f) || self.random.one_in(2));
            if folders_survive {
                left.insert(path, inode);
            } else {
                self.injected.forgotten += 1;
            }
        }
        for inode in &mut self.inodes {
            if !inode.durable && self.random.one_in(2) {
                let length = self.random.below(inode.content.len() as u64 + 1) as usize;
                inode.content.truncate(length);
                self.injected.forgotten += 1;
            }
            inode.durable = true;
        }
        self.durable_folders = left.keys().flat_map(|path| folders(path)).map(str::to_owned).collect();
        self.durable.clone_from(&left);
        self.entries = left;
    }

    fn create_inode(&mut self, content: Vec<u8>) -> usize {
        self.inodes.push(Inode { content, durable: false });
        self.inodes.len() - 1
    }

    fn sync_content(&mut self, inode: usize) {
        if self.syncs {
            self.inodes[inode].durable = true;
        }
    }

    /// Syncs the folder of `path` and the new ones above it.
    fn sync_entry(&mut self, path: &str) {
        if !self.syncs {
            return;
        }
        let Some((folder, _)) = path.rsplit_once('/') else { return };
        let inside = |other: &String| other.rsplit_once('/').is_some_and(|(f, _)| f == folder);
        self.durable.retain(|other, _| !inside(other));
        let seen: Vec<_> = self.entries.iter().filter(|(p, _)| inside(p)).map(|(p, i)| (p.clone(), *i)).collect();
        self.durable.extend(seen);
        self.durable_folders.extend(folders(path).map(str::to_owned));
    }

    /// What readers see below a folder: path and content.
    pub(crate) fn read_folder(&self, folder: &str) -> Vec<(String, Vec<u8>)> {
        self.names(folder).map(|path| (path.clone(), self.inodes[self.entries[path]].content.clone())).collect()
    }

    /// Paths of what lies below a folder.
    pub(crate) fn names<'a>(&'a self, folder: &str) -> impl Iterator<Item = &'a String> + use<'a> {
        let prefix = format!("{folder}/");
        let from = self.entries.range(prefix.clone()..).map(|(path, _)| path);
        from.take_while(move |path| path.starts_with(&prefix))
    }

    /// Damages an object; false if it is not there.
    pub(crate) fn damage(&mut self, path: &str) -> bool {
        let Some(inode) = self.entries.get(path).copied() else { return false };
        let inode = &mut self.inodes[inode];
        let at = self.random.below(inode.content.len().max(1) as u64) as usize;
        match inode.content.get_mut(at) {
            Some(byte) => *byte ^= 1,
            None => inode.content.push(0),
        }
        true
    }
}

fn folders(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

/// A root on the disk, for one process.
pub(crate) struct SimulatedStore {
    disk: Rc<RefCell<Disk>>,
    root: String,
}

/// What an injected fault does to one operation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    FailBefore,
    LoseReply,
}

impl SimulatedStore {
    pub(crate) fn open(disk: &Rc<RefCell<Disk>>, root: &str) -> Rc<Self> {
        Rc::new(Self { disk: Rc::clone(disk), root: root.to_owned() })
    }

    /// The store at a `simulated://` URL on the mounted disk.
    pub(crate) fn mounted(url: &str) -> Option<Rc<Self>> {
        MOUNTED.with_borrow(|disk| disk.as_ref().map(|disk| Self::open(disk, url)))
    }

    fn path(&self, path: &str) -> String {
        match paths::beside(path) {
            Some(below) => format!("{}/{}/{below}", paths::BESIDE, self.root),
            None => format!("{}/{path}", self.root),
        }
    }

    fn fault(&self) -> Fault {
        let mut disk = self.disk.borrow_mut();
        let one_in = disk.fault_one_in;
        if one_in == 0 || !disk.random.one_in(one_in) {
            Fault::None
        } else if disk.random.one_in(2) {
            disk.injected.failures += 1;
            Fault::FailBefore
        } else {
            disk.injected.lost_replies += 1;
            Fault::LoseReply
        }
    }

    /// Pauses, has the effect, pauses, and loses the reply if a fault says so.
    async fn run<T>(
        &self,
        operation: &'static str,
        path: &str,
        effect: impl FnOnce(&mut Disk) -> T,
    ) -> Result<T, StoreError> {
        let path = self.path(path);
        let fault = self.fault();
        pause().await;
        if fault == Fault::FailBefore {
            let source = Box::new(std::io::Error::other("injected failure"));
            return Err(StoreError::Failed { operation, path, source });
        }
        let answer = {
            let mut disk = self.disk.borrow_mut();
            let running = disk.running;
            if let Some(told) = &mut disk.told {
                // Names carry the log's random id, and so does the folder in which it stages.
                let place = path.rsplit_once('/').map_or("", |(folder, _)| folder);
                let place = place.split_once("/staging/").map_or(place, |(folder, _)| folder);
                told.push(format!("{running} {operation} {place}"));
            }
            if disk.trace && !matches!(operation, "read" | "list") {
                println!("process {}: {operation} {path}", disk.running);
            }
            effect(&mut disk)
        };
        pause().await;
        if fault == Fault::LoseReply { Err(StoreError::Unknown { operation, path }) } else { Ok(answer) }
    }
}

/// Lets the scheduler choose who runs next.
pub(crate) async fn pause() {
    struct Pause(bool);
    impl Future for Pause {
        type Output = ();
        fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
            if std::mem::replace(&mut self.0, true) {
                return Poll::Ready(());
            }
            // What runs several futures at once polls only those that were woken.
            context.waker().wake_by_ref();
            Poll::Pending
        }
    }
    Pause(false).await;
}

#[async_trait(?Send)]
impl Store for SimulatedStore {
    fn root(&self) -> &str {
        &self.root
    }

    async fn get(&self, path: &str) -> Result<Option<Bytes>, StoreError> {
        let full = self.path(path);
        let read = |disk: &mut Disk| disk.entries.get(&full).map(|inode| disk.inodes[*inode].content.clone().into());
        self.run("read", path, read).await
    }

    async fn facts(&self, path: &str) -> Result<Option<StagedFacts>, StoreError> {
        let facts = |content: Bytes| StagedFacts { bytes: content.len() as u64, xxh3: checksum(&content) };
        Ok(self.get(path).await?.map(facts))
    }

    async fn length(&self, path: &str) -> Result<Option<u64>, StoreError> {
        Ok(self.get(path).await?.map(|content| content.len() as u64))
    }

    async fn list(&self, folder: &str) -> Result<Vec<ObjectEntry>, StoreError> {
        let full = if folder.is_empty() { self.root.clone() } else { self.path(folder) };
        let base = format!("{}/{}/", paths::BESIDE, self.root);
        let strip = if paths::beside(folder).is_some() { base.len() } else { self.root.len() + 1 };
        let shown = if paths::beside(folder).is_some() { format!("{}/", paths::BESIDE) } else { String::new() };
        let list = |disk: &mut Disk| {
            let entry = |(path, content): (String, Vec<u8>)| ObjectEntry {
                path: format!("{shown}{}", &path[strip..]),
                bytes: content.len() as u64,
            };
            disk.read_folder(&full).into_iter().map(entry).collect()
        };
        self.run("list", folder, list).await
    }

    async fn create(&self, path: &str, content: Bytes) -> Result<Created, StoreError> {
        let full = self.path(path);
        let link = |disk: &mut Disk| {
            if disk.entries.contains_key(&full) {
                return Created::AlreadyExists;
            }
            let inode = disk.create_inode(content.to_vec());
            disk.sync_content(inode);
            disk.entries.insert(full.clone(), inode);
            Created::Yes
        };
        let created = self.run("create", path, link).await?;
        // Linked and seen by others, but not durable yet: a crash here is a crash in the middle of a create.
        self.run("create", path, |disk| disk.sync_entry(&full)).await?;
        Ok(created)
    }

    async fn replace(&self, path: &str, content: Bytes) -> Result<(), StoreError> {
        let full = self.path(path);
        let replace = |disk: &mut Disk| {
            let inode = disk.create_inode(content.to_vec());
            disk.sync_content(inode);
            disk.entries.insert(full.clone(), inode);
        };
        self.run("replace", path, replace).await?;
        self.run("replace", path, |disk| disk.sync_entry(&full)).await
    }

    async fn stage(&self, path: &str) -> Result<Box<dyn StagedFile>, StoreError> {
        let full = self.path(path);
        let open = |disk: &mut Disk| {
            if disk.entries.contains_key(&full) {
                return None;
            }
            let inode = disk.create_inode(Vec::new());
            disk.entries.insert(full, inode);
            Some(inode)
        };
        let Some(inode) = self.run("create", path, open).await? else {
            let source = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
            return Err(StoreError::InTheWay { operation: "create", path: self.path(path), source });
        };
        let store = Self { disk: Rc::clone(&self.disk), root: self.root.clone() };
        Ok(Box::new(SimulatedFile { store, path: path.to_owned(), inode }))
    }

    async fn publish(&self, stage: &str, path: &str) -> Result<Published, StoreError> {
        let (from, to) = (self.path(stage), self.path(path));
        let link = |disk: &mut Disk| {
            let Some(inode) = disk.entries.get(&from).copied() else {
                let occupied = disk.entries.contains_key(&to);
                return if occupied { Published::AlreadyExists } else { Published::StageMissing };
            };
            if disk.entries.contains_key(&to) {
                return Published::AlreadyExists;
            }
            disk.entries.insert(to, inode);
            Published::Yes
        };
        self.run("publish", path, link).await
    }

    async fn supersede(&self, stage: &str, path: &str) -> Result<Superseded, StoreError> {
        let (from, to) = (self.path(stage), self.path(path));
        let rename = |disk: &mut Disk| match disk.entries.remove(&from) {
            Some(inode) => {
                // A store makes its root, durably, before it writes the first time.
                disk.durable_folders.insert(self.root.clone());
                disk.entries.insert(to.clone(), inode);
                disk.renames.push((from.clone(), to.clone()));
                Superseded::Yes
            }
            None => Superseded::StageMissing,
        };
        self.run("publish", path, rename).await
    }

    async fn sync_entries(&self, paths: &[String]) -> Result<(), StoreError> {
        for path in paths {
            let full = self.path(path);
            self.run("sync", path, |disk| disk.sync_entry(&full)).await?;
        }
        Ok(())
    }

    async fn delete(&self, path: &str) -> Result<(), StoreError> {
        let full = self.path(path);
        self.run("remove", path, |disk| {
            disk.entries.remove(&full);
        })
        .await
    }

    async fn delete_empty_folders(&self, _: &str) -> Result<(), StoreError> {
        Ok(())
    }

    async fn probe(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn limits(&self) -> Limits {
        Limits { name: 255, path: 4_000 }
    }

    fn file(&self, _: &str) -> Option<PathBuf> {
        None
    }
}

struct SimulatedFile {
    store: SimulatedStore,
    path: String,
    inode: usize,
}

#[async_trait(?Send)]
impl StagedFile for SimulatedFile {
    async fn write(&mut self, content: Bytes) -> Result<(), StoreError> {
        let inode = self.inode;
        let append = |disk: &mut Disk| disk.inodes[inode].content.extend_from_slice(&content);
        self.store.run("write", &self.path, append).await
    }

    async fn finish(self: Box<Self>) -> Result<StagedFacts, StoreError> {
        let inode = self.inode;
        let finish = |disk: &mut Disk| {
            disk.sync_content(inode);
            let content = &disk.inodes[inode].content;
            StagedFacts { bytes: content.len() as u64, xxh3: checksum(content) }
        };
        self.store.run("sync", &self.path, finish).await
    }
}
