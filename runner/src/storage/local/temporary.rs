//! Files that a store writes under a name of their own before they get the one that counts, and what becomes of those that a
//! killed process left.
//!
//! A temporary file is locked (`flock`) as long as the process that writes it lives. Whoever can lock one knows that nobody
//! is writing it, also on another machine where the file system carries locks over (NFS does). Where a file system has no
//! locks nothing is removed. Where each machine has its own, a file may go that another machine is writing: its writer then
//! fails to give it its name, changes nothing, and tries again. So a wrong guess costs an attempt and never a record.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Result, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::LocalStore;

/// Prefix of temporary files, which no listing shows and no reader takes for a table.
pub(super) const PREFIX: &str = ".tmp-";

/// A name that no other file has. In a container every process has the same number, and what one left that was killed may
/// be a link to a record.
pub(super) fn random_name() -> String {
    format!("{PREFIX}{}-{}", std::process::id(), uuid::Uuid::new_v4())
}

/// A temporary file that this process holds.
pub(super) struct Temporary {
    path: PathBuf,
    /// The lock goes with the process, however that ends.
    _locked: File,
}

impl Temporary {
    /// Where it lies.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes its name away, and only then the lock.
    pub(super) fn remove(self) -> Result<()> {
        fs::remove_file(&self.path)
    }
}

impl LocalStore {
    /// Writes a temporary file beside `path` and syncs it.
    pub(super) fn write_temporary(&self, path: &Path, content: &[u8]) -> Result<Temporary> {
        self.make_parent(path)?;
        let (temporary, mut file) = create(path)?;
        let written = file.write_all(content).and_then(|()| self.sync(&file));
        let temporary = Temporary { path: temporary, _locked: file };
        match written {
            Ok(()) => Ok(temporary),
            Err(error) => {
                let _ = temporary.remove();
                Err(error)
            }
        }
    }
}

/// Makes a file and locks it. Whoever tidies up at this moment may have been faster: then its name is gone, or about to go.
fn create(path: &Path) -> Result<(PathBuf, File)> {
    loop {
        let temporary = path.with_file_name(random_name());
        let file = File::create_new(&temporary)?;
        let is_taken = flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK);
        if !is_taken && file.metadata()?.nlink() > 0 {
            return Ok((temporary, file));
        }
        let _ = fs::remove_file(&temporary);
    }
}

/// Removes the temporary files of a folder that nobody holds; also of those below it, if they are `deep`.
pub(super) fn remove_left_over(folder: &Path, deep: bool) -> Result<()> {
    let listing = match fs::read_dir(folder) {
        Ok(listing) => listing,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in listing {
        let entry = entry?;
        let path = entry.path();
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder && deep {
            remove_left_over(&path, deep)?;
        }
        if !is_folder && entry.file_name().to_string_lossy().starts_with(PREFIX) {
            remove_if_nobodys(&path);
        }
    }
    Ok(())
}

/// One that is gone meanwhile, that is another user's or that cannot be locked stays: it harms nobody.
fn remove_if_nobodys(path: &Path) {
    // NFS gives an exclusive lock only on a file that is open for writing. Nothing is written.
    let Ok(file) = OpenOptions::new().read(true).write(true).open(path) else { return };
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
        let _ = fs::remove_file(path);
    }
}
