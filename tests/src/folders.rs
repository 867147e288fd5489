//! Folders of a test: they lie below one place and go away with the test, unless it failed.

use std::path::{Path, PathBuf};
use std::thread;

use anyhow::Context;
use tempfile::TempDir;

use crate::environment;
use crate::s3::Bucket;

/// The folders of one job, as the runner lays them out: outputs, checkpoints, and whatever the test adds.
#[derive(Debug)]
pub struct JobFolders {
    root: Option<TempDir>,
    bucket: Option<Bucket>,
    /// The same, past every proxy.
    direct: Option<Bucket>,
}

impl JobFolders {
    /// New, empty folders.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn new() -> anyhow::Result<Self> {
        Self::below(temporary("job-")?, None)
    }

    /// Folders in a bucket.
    ///
    /// # Errors
    /// When they cannot be made.
    pub(crate) fn in_bucket(root: TempDir, bucket: Bucket) -> anyhow::Result<Self> {
        Self::below(root, Some(bucket))
    }

    fn below(root: TempDir, bucket: Option<Bucket>) -> anyhow::Result<Self> {
        let folders = Self { root: Some(root), direct: bucket.clone(), bucket };
        std::fs::create_dir(folders.outputs()).context("make the outputs folder")?;
        std::fs::create_dir(folders.checkpoints()).context("make the checkpoints folder")?;
        Ok(folders)
    }

    /// The folder that holds all others.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.root.as_ref().expect("the folder is there until it is dropped").path()
    }

    /// The bucket in which they lie, for the job; `None`: they are folders for it, too.
    #[must_use]
    pub fn bucket(&self) -> Option<&Bucket> {
        self.bucket.as_ref()
    }

    /// The bucket as other programs reach it, whatever the job is told.
    #[must_use]
    pub fn bucket_of_readers(&self) -> Option<&Bucket> {
        self.direct.as_ref()
    }

    /// Lets the job reach its bucket at another address: that of a proxy.
    pub fn reach_at(&mut self, endpoint: String) {
        if let Some(bucket) = &mut self.bucket {
            bucket.endpoint = endpoint;
        }
    }

    /// What `OUTPUTS_DIR` names.
    #[must_use]
    pub fn outputs(&self) -> PathBuf {
        self.root().join("outputs")
    }

    /// What `CHECKPOINT_DIR` names.
    #[must_use]
    pub fn checkpoints(&self) -> PathBuf {
        self.root().join("checkpoints")
    }
}

impl Drop for JobFolders {
    fn drop(&mut self) {
        if let Some(root) = self.root.take()
            && (thread::panicking() || environment::keeps_folders())
        {
            println!("the folders of this test stay: {}", root.keep().display());
        }
    }
}

/// The folder of a table's bookkeeping.
#[must_use]
pub fn beside(table: &Path) -> PathBuf {
    let name = table.file_name().unwrap_or_default();
    table.with_file_name("_dataplatform").join(name)
}

/// A folder below the place for all tests.
pub fn temporary(prefix: &str) -> anyhow::Result<TempDir> {
    let parent = environment::temporary_folder();
    std::fs::create_dir_all(&parent).with_context(|| format!("make {}", parent.display()))?;
    TempDir::with_prefix_in(prefix, &parent).with_context(|| format!("make a folder in {}", parent.display()))
}
