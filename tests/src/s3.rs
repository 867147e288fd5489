//! A real S3 server (versitygw over a folder) that all tests share. Its objects are plain files, so that the readers of the
//! tests look at them without S3.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context;

use crate::{JobFolders, environment};

/// Key of the server.
pub const KEY: &str = "tester";
/// Secret of that key.
pub const SECRET: &str = "tester-secret";

/// The S3 server that `tests/run` started.
#[derive(Clone, Debug)]
pub struct S3 {
    address: String,
    buckets: PathBuf,
}

/// Where the folders of a job are on an S3 server.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Address of the server, or of a proxy before it: `http://host:port`.
    pub endpoint: String,
    /// Name of the bucket.
    pub name: String,
}

impl S3 {
    /// The shared server.
    ///
    /// # Errors
    /// Why there is none.
    pub fn shared() -> Result<Self, String> {
        let (address, buckets) = environment::s3().ok_or("no S3 server; `make test` starts one")?;
        Ok(Self { address, buckets })
    }

    /// `host:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Folders of a job in a new bucket: outputs and checkpoints are `s3://` for the job, and folders for the test.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn folders(&self) -> anyhow::Result<JobFolders> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("t-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = tempfile::Builder::new().prefix(&name).rand_bytes(0).tempdir_in(&self.buckets);
        let folder = folder.with_context(|| format!("make a bucket in {}", self.buckets.display()))?;
        JobFolders::in_bucket(folder, Bucket { endpoint: format!("http://{}", self.address), name })
    }
}

impl Bucket {
    /// The URL of a folder in it.
    #[must_use]
    pub fn url(&self, folder: &str) -> String {
        format!("s3://{}/{folder}", self.name)
    }

    /// The variables by which a program reaches it.
    #[must_use]
    pub fn variables(&self) -> [(&'static str, &str); 5] {
        [
            ("AWS_ENDPOINT_URL", &self.endpoint),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
        ]
    }
}

/// The shared [`S3`] server; ends the test as skipped where there is none.
#[macro_export]
macro_rules! needs_s3 {
    () => {
        $crate::or_skip!($crate::S3::shared())
    };
}
