//! What the store does to the folders of a file system: makes them durably, finds out how names are given there, lists them.

use std::cell::OnceCell;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;

use super::LocalStore;
use super::temporary::{PREFIX, random_name};
use crate::faults::{Faults, Guard};
use crate::storage::{ObjectEntry, StoreError, paths};

/// How a file gets a name only if that is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    /// `link(2)`: fails if the name is taken.
    HardLink,
    /// `renameat2(RENAME_NOREPLACE)`, where the file system has no hard links.
    RenameNoReplace,
}

impl Naming {
    /// Gives `from` the name `to` if that is free; `from` may be gone afterwards.
    pub(super) fn name_if_free(self, from: &Path, to: &Path) -> std::io::Result<()> {
        match self {
            Self::HardLink => fs::hard_link(from, to),
            Self::RenameNoReplace => {
                use rustix::fs::{CWD, RenameFlags, renameat_with};
                Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
            }
        }
    }
}

impl LocalStore {
    /// Makes the folder in which `path` lies, the table's or the one beside it, and finds out how names are given there.
    pub(super) fn prepare(&self, path: &str) -> Result<Naming, StoreError> {
        match (&self.beside, paths::beside(path)) {
            (Some(beside), Some(_)) => self.prepare_folder(beside, &self.naming_beside),
            _ => self.prepare_folder(&self.root, &self.naming),
        }
    }

    /// Makes a folder, durably, and finds out how names are given without overwriting.
    pub(super) fn prepare_folder(&self, folder: &Path, naming: &OnceCell<Naming>) -> Result<Naming, StoreError> {
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

    pub(super) fn make_parent(&self, path: &Path) -> std::io::Result<()> {
        let parent = path.parent().expect("a path below the root has a parent");
        if parent.exists() { Ok(()) } else { fs::create_dir_all(parent) }
    }

    pub(super) fn sync(&self, file: &File) -> std::io::Result<()> {
        delay(&*self.faults);
        if self.faults.guard(Guard::DurabilityOrder) { file.sync_all() } else { Ok(()) }
    }

    pub(super) fn sync_folder(&self, folder: &Path) -> std::io::Result<()> {
        self.sync(&File::open(folder)?)
    }

    /// Creates, links and tries to overwrite a file, as the protocol will.
    fn find_naming(&self, folder: &Path) -> Result<Naming, StoreError> {
        let taken = folder.join(random_name());
        let shown = folder.display().to_string();
        let written =
            || self.write_temporary(&taken, b"probe").map_err(|error| StoreError::io("write to", &shown, error));
        let keeps_names = |naming: Naming| -> Result<bool, StoreError> {
            let first = written()?;
            let named = naming.name_if_free(first.path(), &taken);
            let second = written()?;
            let refused = naming.name_if_free(second.path(), &taken);
            // The first one last: its lock is that of the taken name.
            let _ = second.remove();
            let _ = fs::remove_file(&taken);
            let _ = first.remove();
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

    pub(super) fn remove_empty(&self, folder: &Path) {
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
    pub(super) fn probe_beside(&self, beside: &Path) -> Result<(), StoreError> {
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
        let to = self.root.join(random_name());
        let named = naming.name_if_free(from.path(), &to);
        let _ = fs::remove_file(&to);
        let _ = from.remove();
        named.map_err(|source| refused(&format!("cannot move a file from {}", beside.display()), &source))
    }

    pub(super) fn collect(
        &self,
        base: (&Path, &str),
        folder: &Path,
        entries: &mut Vec<ObjectEntry>,
    ) -> std::io::Result<()> {
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
            } else if kind.is_file() && !entry.file_name().to_string_lossy().starts_with(PREFIX) {
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

/// What a test adds to every write: a slow disk.
pub(super) fn delay(faults: &dyn Faults) {
    let delay = faults.disk_delay();
    if !delay.is_zero() {
        std::thread::sleep(delay);
    }
}
