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

/// What a fake of Google wants as a login. (object_store 0.13.2 does not heed `GOOGLE_SKIP_SIGNATURE` when it writes.)
const NO_LOGIN: &str = r#"{"disable_oauth": true, "client_email": "", "private_key": "", "private_key_id": ""}"#;

/// Account of Azurite, and its key: its manual prints them.
const ACCOUNT: &str = "devstoreaccount1";
const ACCOUNT_KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// The S3 server that `tests/run` started.
#[derive(Clone, Debug)]
pub struct S3 {
    address: String,
    buckets: PathBuf,
}

/// Whose interface an object store has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// `s3://`.
    S3,
    /// `gs://`.
    Google,
    /// `abfss://`.
    Azure,
}

/// Where the folders of a job are in an object store.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Address of the server, or of a proxy before it: `http://host:port`.
    pub endpoint: String,
    /// Name of the bucket.
    pub name: String,
    /// Whose interface the server has.
    pub interface: Interface,
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
        let endpoint = format!("http://{}", self.address);
        JobFolders::in_bucket(folder, Bucket { endpoint, name, interface: Interface::S3 })
    }
}

impl Bucket {
    /// The URL of a folder in it.
    #[must_use]
    pub fn url(&self, folder: &str) -> String {
        match self.interface {
            Interface::S3 => format!("s3://{}/{folder}", self.name),
            Interface::Google => format!("gs://{}/{folder}", self.name),
            Interface::Azure => format!("abfss://{}@{ACCOUNT}.dfs.core.windows.net/{folder}", self.name),
        }
    }

    /// The variables by which a program reaches it.
    #[must_use]
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let endpoint = self.endpoint.clone();
        match self.interface {
            Interface::S3 => vec![
                ("AWS_ENDPOINT_URL", endpoint),
                ("AWS_ALLOW_HTTP", "true".to_owned()),
                ("AWS_REGION", "us-east-1".to_owned()),
                ("AWS_ACCESS_KEY_ID", KEY.to_owned()),
                ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
            ],
            Interface::Google => vec![
                ("GOOGLE_BASE_URL", endpoint),
                ("GOOGLE_ALLOW_HTTP", "true".to_owned()),
                ("GOOGLE_SERVICE_ACCOUNT_KEY", NO_LOGIN.to_owned()),
            ],
            Interface::Azure => vec![
                ("AZURE_STORAGE_ENDPOINT", format!("{endpoint}/{ACCOUNT}")),
                ("AZURE_ALLOW_HTTP", "true".to_owned()),
                ("AZURE_STORAGE_ACCOUNT_KEY", ACCOUNT_KEY.to_owned()),
            ],
        }
    }
}

/// The shared [`S3`] server; ends the test as skipped where there is none.
#[macro_export]
macro_rules! needs_s3 {
    () => {
        $crate::or_skip!($crate::S3::shared())
    };
}
