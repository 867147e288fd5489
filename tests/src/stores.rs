//! Object stores of others (`env/stores`), for a second opinion: each for one test, in memory.

mod google;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;

use crate::s3::{Bucket, Interface};
use crate::{JobFolders, environment, folders, python_reader};

/// The one bucket of such a store.
const BUCKET: &str = "bucket";

/// A running store. It is killed when this is dropped.
#[derive(Debug)]
pub struct OtherStore {
    interface: Interface,
    address: String,
    /// Where jobs reach it.
    endpoint: String,
    folder: TempDir,
}

impl OtherStore {
    /// Starts the one with this interface: gofakes3, fake-gcs-server or Azurite. What it needs is fetched the first time.
    ///
    /// # Errors
    /// When it does not start; the message has what its script said.
    pub fn start(interface: Interface) -> anyhow::Result<Self> {
        let kind = match interface {
            Interface::S3 => "gofakes3",
            Interface::Google => "fake-gcs-server",
            Interface::Azure => "azurite",
        };
        let folder = folders::temporary("store-")?;
        let address = script(&["up", kind], folder.path())?;
        let endpoint = match interface {
            Interface::Google => google::in_xml(&address)?,
            Interface::S3 | Interface::Azure => format!("http://{address}"),
        };
        let store = Self { interface, address, endpoint, folder };
        if interface != Interface::S3 {
            store.reader(&["make"])?;
        }
        Ok(store)
    }

    /// Folders of a job in the bucket: for the job, and for nobody else.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn folders(&self) -> anyhow::Result<JobFolders> {
        let bucket = Bucket { endpoint: self.endpoint.clone(), name: BUCKET.to_owned(), interface: self.interface };
        JobFolders::in_bucket(folders::temporary("job-")?, bucket)
    }

    /// Where it is, without what stands before it: `http://host:port`.
    #[must_use]
    pub fn bare(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The column `n` of a table, ascending, as another client of this store reads it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn numbers(&self, table: &str) -> anyhow::Result<Vec<u64>> {
        let report = self.reader(&["read", table])?;
        let rows = report["rows"].as_array().context("rows")?;
        rows.iter().map(|row| row.as_u64().context("a number")).collect()
    }

    fn reader(&self, arguments: &[&str]) -> anyhow::Result<serde_json::Value> {
        let scheme = match self.interface {
            Interface::S3 => "s3",
            Interface::Google => "gs",
            Interface::Azure => "abfss",
        };
        let place = [scheme, &self.address, BUCKET];
        python_reader("objects.py", place.iter().chain(arguments))?.expect_success()
    }
}

impl Drop for OtherStore {
    fn drop(&mut self) {
        let _ = script(&["kill"], self.folder.path());
    }
}

fn script(arguments: &[&str], folder: &Path) -> anyhow::Result<String> {
    let script = environment::tests_folder().join("env/stores/stores.sh");
    let output = Command::new(script).args(arguments).arg(folder).output().context("start stores.sh")?;
    if !output.status.success() {
        bail!("stores.sh {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let said = String::from_utf8(output.stdout)?.trim().to_owned();
    ensure!(arguments[0] == "kill" || said.contains(':'), "stores.sh said {said:?}");
    Ok(said)
}
