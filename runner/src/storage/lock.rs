//! A lock on a local checkpoint folder: a second runner learns the process id of the first before it touches anything.
//!
//! Only a convenience: what keeps two runners apart is the log. The lock goes with the process, however it ends.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::storage::StoreError;

/// A held lock.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

/// Why the lock could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("another runner works on this checkpoint: process {holder}")]
    Held {
        /// Its process id, as it wrote it; `unknown` if it did not.
        holder: String,
    },
    /// The lock file cannot be made.
    #[error(transparent)]
    Store(StoreError),
}

impl FolderLock {
    /// Locks a folder, which must exist, without waiting.
    ///
    /// # Errors
    /// [`LockError::Held`] when another process has it.
    pub fn take(folder: &Path) -> Result<Self, LockError> {
        let path = folder.join("lock");
        let shown = path.display().to_string();
        let failed = |source| LockError::Store(StoreError::io("lock", &shown, source));
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                let read = file.read_to_string(&mut holder);
                let known = read.is_ok() && !holder.trim().is_empty();
                return Err(LockError::Held {
                    holder: if known { holder.trim().to_owned() } else { "unknown".to_owned() },
                });
            }
            // A file system without locks: the log alone keeps runners apart.
            Err(rustix::io::Errno::NOTSUP | rustix::io::Errno::NOLCK) => return Ok(Self { _file: file }),
            Err(error) => return Err(failed(error.into())),
        }
        let write = (|| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        })();
        write.map_err(failed)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_runner_learns_who_has_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let first = FolderLock::take(folder.path()).unwrap();
        let error = FolderLock::take(folder.path()).unwrap_err();
        assert!(error.to_string().ends_with(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        FolderLock::take(folder.path()).unwrap();
    }
}
