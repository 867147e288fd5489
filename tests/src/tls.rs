//! TLS before a server of the tests that speaks none, with certificates of an authority of its own.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, ensure};
use tempfile::TempDir;

use crate::{environment, folders};

/// A running one. It ends when this is dropped.
#[derive(Debug)]
pub struct TlsFront {
    child: Child,
    folder: TempDir,
    url: String,
}

impl TlsFront {
    /// Starts one before the server at `http://host:port`.
    ///
    /// # Errors
    /// When openssl or Python is missing.
    pub fn start(server: &str) -> anyhow::Result<Self> {
        let folder = folders::temporary("tls-")?;
        let made =
            Command::new(environment::tests_folder().join("env/kafka/certificates.sh")).arg(folder.path()).status();
        ensure!(made.context("start certificates.sh")?.success(), "no certificates");
        let python = environment::python().unwrap_or_else(|| "python3".into());
        let mut child = Command::new(python)
            .arg(environment::tests_folder().join("env/python/tls_front.py"))
            .args([folder.path().join("server.pem"), folder.path().join("server.key")])
            .arg(server.trim_start_matches("http://"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start tls_front.py")?;
        let mut port = String::new();
        BufReader::new(child.stdout.take().context("its output")?).read_line(&mut port)?;
        let url = format!("https://127.0.0.1:{}", port.trim());
        Ok(Self { child, folder, url })
    }

    /// Its address: `https://host:port`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A file of `certificates.sh`, such as `ca.pem`.
    #[must_use]
    pub fn certificate(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
