//! What the protocol needs of a place where objects live: a few operations, each with its promise about crashes.
//!
//! The checkpoint folder and every output have a [`Store`] of their own, rooted there; paths are relative, with `/`.
//! Implementations: [`local`] (with every fsync that durability needs), [`object`] (an `object_store` URL), and in tests
//! a simulated one that loses what was not made durable.

pub mod canonical;
pub mod checksum;
pub mod client;
pub mod local;
pub mod location;
pub mod lock;
pub mod object;
pub mod paths;
pub mod places;
#[cfg(test)]
pub(crate) mod simulated;

use std::path::PathBuf;
use std::rc::Rc;

use async_trait::async_trait;
use bytes::Bytes;

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectEntry {
    /// Path below the store's root.
    pub path: String,
    /// Length.
    pub bytes: u64,
}

/// Answer of [`Store::create`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// The object is there, durable, with our content.
    Yes,
    /// Something was there before; perhaps our own earlier attempt.
    AlreadyExists,
}

/// Answer of [`Store::publish`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// The final name is there now; make it durable with [`Store::sync_entries`].
    Yes,
    /// Something has the final name already: compare it.
    AlreadyExists,
    /// The staged file is gone.
    StageMissing,
}

/// Answer of [`Store::supersede`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Superseded {
    /// The final name is the staged file's now.
    Yes,
    /// The staged file is gone: it was moved before.
    StageMissing,
}

/// Length and checksum of a finished staged file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagedFacts {
    /// Length.
    pub bytes: u64,
    /// xxh3 of the content, 16 hexadecimal digits.
    pub xxh3: String,
}

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nobody knows whether it happened: read before concluding.
    #[error("{operation} {path}: no answer, it may or may not have happened")]
    Unknown {
        /// What was tried.
        operation: &'static str,
        /// On which object.
        path: String,
    },
    /// No space, or a quota.
    #[error("{operation} {path}: the disk is full ({source})")]
    Full {
        /// What was tried.
        operation: &'static str,
        /// On which object.
        path: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Not allowed, or a read-only file system.
    #[error("{operation} {path}: not allowed ({source})")]
    Denied {
        /// What was tried.
        operation: &'static str,
        /// On which object.
        path: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Something of another kind has the name.
    #[error("{operation} {path}: a file is where a folder must be, or a folder where a file must be ({source})")]
    InTheWay {
        /// What was tried.
        operation: &'static str,
        /// On which object.
        path: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Anything else that may pass.
    #[error("{operation} {path}: {source}")]
    Failed {
        /// What was tried.
        operation: &'static str,
        /// On which object.
        path: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An object store says no, and it is known what that means.
    #[error("{operation} {path}: {problem}")]
    Refused {
        /// What was tried.
        operation: &'static str,
        /// On which object.
        path: String,
        /// What is wrong.
        problem: String,
        /// What to do.
        cure: String,
        /// Whose matter it is.
        refusal: Refusal,
    },
    /// The store lacks a property that exactly-once needs; no retry helps.
    #[error("{0}")]
    Unsuitable(String),
    /// A table with a log of its own cannot be read or written as it is.
    #[error("{message}")]
    Table {
        /// Which, and why.
        message: String,
        /// What to do about it.
        cure: String,
    },
}

impl StoreError {
    /// What to do about it.
    pub fn cure(&self) -> &str {
        match self {
            Self::Unknown { .. } | Self::Failed { .. } => {
                "a job tries again by itself; if it stays, look at the disk or the store"
            }
            Self::Full { .. } => "make room, or raise the quota; the job goes on by itself",
            Self::Denied { .. } => {
                "let the user that runs the job write there, or choose another OUTPUTS_DIR or CHECKPOINT_DIR"
            }
            Self::InTheWay { .. } => "move it away, or choose another OUTPUTS_DIR, CHECKPOINT_DIR or sink.path",
            Self::Refused { cure, .. } | Self::Table { cure, .. } => cure,
            Self::Unsuitable(_) => "choose a file system or a store that can do this",
        }
    }

    /// The same for whoever keeps it or passes it on; `None` for what a disk or a table says.
    pub fn told(&self) -> Option<StoreTold> {
        let refusal = match self {
            Self::Unknown { .. } | Self::Failed { .. } => None,
            Self::Refused { refusal, .. } => Some(*refusal),
            Self::Unsuitable(_) => Some(Refusal::Unsuitable),
            Self::Full { .. } | Self::Denied { .. } | Self::InTheWay { .. } | Self::Table { .. } => return None,
        };
        Some(StoreTold { message: self.to_string(), cure: self.cure().to_owned(), refusal })
    }
}

/// What an object store said, as people are told it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StoreTold {
    /// What was tried on which object, and what is wrong.
    pub message: String,
    /// What to do.
    pub cure: String,
    /// Whose matter it is; `None`: it may pass.
    pub refusal: Option<Refusal>,
}

/// Whose matter a refusal of an object store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Somebody has to change the bucket, the credentials or the rights.
    Denied,
    /// Credentials or a clock: what is renewed is taken up by itself.
    Expired,
    /// The settings ask for what cannot be.
    Unsuitable,
}

/// A place where objects live.
///
/// Used by one thread; a future that is dropped may or may not have had its effect, like a crash.
#[async_trait(?Send)]
pub trait Store {
    /// URL of the root, as it stands in the log and in messages.
    fn root(&self) -> &str;

    /// The object's content; `None` if there is none.
    async fn get(&self, path: &str) -> Result<Option<Bytes>, StoreError>;

    /// Length and checksum of an object, read as a stream: an object may be larger than the memory. `None` if there is none.
    async fn facts(&self, path: &str) -> Result<Option<StagedFacts>, StoreError>;

    /// Length of the object; `None` if there is none.
    async fn length(&self, path: &str) -> Result<Option<u64>, StoreError>;

    /// Every object below `folder`, at any depth, sorted by path; temporary files of the store itself are left out, and
    /// what lies beside a table is no part of its root.
    async fn list(&self, folder: &str) -> Result<Vec<ObjectEntry>, StoreError>;

    /// Creates an object if nothing is there. Atomic, and durable when it answers: the only decision primitive.
    async fn create(&self, path: &str, content: Bytes) -> Result<Created, StoreError>;

    /// Replaces an object, atomically and durably: a reader sees the old or the new one.
    async fn replace(&self, path: &str, content: Bytes) -> Result<(), StoreError>;

    /// Opens a new file that nobody looks at yet. A name that is taken is an error: that file is somebody else's, and is
    /// never touched. Its entry is durable only after [`Store::sync_entries`].
    async fn stage(&self, path: &str) -> Result<Box<dyn StagedFile>, StoreError>;

    /// Gives a staged file its final name, if that is free. Durable only after [`Store::sync_entries`].
    async fn publish(&self, stage: &str, path: &str) -> Result<Published, StoreError>;

    /// Moves a staged file to its final name, over what has that name: a reader sees the old or the new one. The stage
    /// is used up by it, so that whoever comes later with the same stage changes nothing. Durable only after
    /// [`Store::sync_entries`].
    async fn supersede(&self, stage: &str, path: &str) -> Result<Superseded, StoreError>;

    /// Makes the entries of these objects durable: every folder that holds one, and its new parents.
    async fn sync_entries(&self, paths: &[String]) -> Result<(), StoreError>;

    /// Removes an object; one that is not there is removed already.
    async fn delete(&self, path: &str) -> Result<(), StoreError>;

    /// Removes objects, in no order.
    async fn delete_all(&self, paths: &[String]) -> Result<(), StoreError> {
        for path in paths {
            self.delete(path).await?;
        }
        Ok(())
    }

    /// Operations that are worth doing at once: each waits for a network, and not for this process.
    fn side_by_side(&self) -> usize {
        1
    }

    /// Removes the folders below `path`, and itself, that hold nothing.
    async fn delete_empty_folders(&self, path: &str) -> Result<(), StoreError>;

    /// Removes the temporary files of the store itself that a process left when it was killed, as far as nobody can be
    /// writing them. Stores without such files have nothing to do.
    async fn delete_left_over(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Takes away every folder that others staged below `root`, and their places: nobody who did can put one into the table any
    /// more, or stage another. Then makes the place `own` for ours. A store without folders has nothing to do.
    async fn begin_folders(&self, _root: &str, _own: Option<&str>) -> Result<(), StoreError> {
        Ok(())
    }

    /// Opens a new folder that nobody looks at yet, in a place that [`Store::begin_folders`] made.
    async fn stage_folder(&self, path: &str) -> Result<Box<dyn StagedFolder>, StoreError> {
        Err(StoreError::Unsuitable(format!("{}/{path}: this store has no folders", self.root())))
    }

    /// Takes a folder of the table from its readers in one step, by way of `stage`, and removes it.
    async fn remove_folder(&self, _stage: &str, folder: &str) -> Result<(), StoreError> {
        Err(StoreError::Unsuitable(format!("{}/{folder}: this store has no folders", self.root())))
    }

    /// Checks once, at start, that the store keeps its promises.
    async fn probe(&self) -> Result<(), StoreError>;

    /// How long names may be.
    fn limits(&self) -> Limits;

    /// The object as a file of this machine, if it is one.
    fn file(&self, path: &str) -> Option<PathBuf>;
}

/// How long names may be, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of one name between slashes.
    pub name: usize,
    /// Of a path below the root.
    pub path: usize,
}

/// A file that is being written where no reader looks.
#[async_trait(?Send)]
pub trait StagedFile {
    /// Appends.
    async fn write(&mut self, content: Bytes) -> Result<(), StoreError>;

    /// Bytes of memory that it holds.
    fn held(&self) -> usize {
        0
    }

    /// Ends the file and tells its length and checksum. What is still on its way then is there, or has failed, when
    /// [`Store::sync_entries`] has returned for it.
    async fn finish(self: Box<Self>) -> Result<StagedFacts, StoreError>;
}

/// A folder that is being written where no reader looks.
#[async_trait(?Send)]
pub trait StagedFolder {
    /// Opens a new file in it.
    async fn stage(&self, name: &str) -> Result<Box<dyn StagedFile>, StoreError>;

    /// Puts it, durably and in one step, in the place of a folder of the table: who lists that sees all of one or all of the
    /// other. Of what is there `merged` is removed then, `kept` stays, and so does what nobody knows.
    async fn replace(self: Box<Self>, folder: &str, merged: &[String], kept: &[String]) -> Result<(), StoreError>;

    /// Gives it up.
    async fn abandon(self: Box<Self>);
}

/// A store that several parts of one job share.
pub type SharedStore = Rc<dyn Store>;

/// Gives objects another name, durably, and never overwrites or loses one.
///
/// # Errors
/// When the store does not answer, or another object has the name.
pub async fn move_aside(
    store: &SharedStore,
    from: &[String],
    aside: impl Fn(&String) -> String,
) -> Result<(), StoreError> {
    let mut targets = Vec::with_capacity(from.len());
    for path in from {
        let target = aside(path);
        if store.publish(path, &target).await? == Published::AlreadyExists {
            let (here, there) = (store.facts(path).await?, store.facts(&target).await?);
            if here.is_some() && here != there {
                let path = format!("{}/{target}", store.root());
                return Err(StoreError::Unsuitable(format!(
                    "{path} exists already and is another object: move it away"
                )));
            }
        }
        targets.push(target);
    }
    store.sync_entries(&targets).await?;
    store.delete_all(from).await?;
    store.sync_entries(from).await
}

impl StoreError {
    /// Of an I/O error, by what can be done about it.
    pub fn io(operation: &'static str, path: &str, source: std::io::Error) -> Self {
        use std::io::ErrorKind;
        let path = path.to_owned();
        match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::Full { operation, path, source },
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Self::Denied { operation, path, source },
            ErrorKind::NotADirectory | ErrorKind::IsADirectory | ErrorKind::AlreadyExists => {
                Self::InTheWay { operation, path, source }
            }
            _ => Self::Failed { operation, path, source: Box::new(source) },
        }
    }
}
