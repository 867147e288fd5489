//! The pages that a running job serves, asked as a probe or a scraper would.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::Runner;

/// Longest time of one answer; the pages have a thread of their own.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the pages of a job are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pages {
    address: String,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub code: u16,
    /// Status line and headers, as they came.
    pub head: String,
    /// Content.
    pub body: String,
}

impl Answer {
    /// The content as JSON.
    ///
    /// # Errors
    /// When it is not.
    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("JSON in {:?}", self.body))
    }
}

impl Pages {
    /// The pages of a job that was started with `--http 127.0.0.1:0`: it logs the address that it got.
    ///
    /// # Errors
    /// When the process ends before it says where.
    pub fn of(runner: &mut Runner) -> anyhow::Result<Self> {
        let address = runner.wait_for("the address of the pages", Duration::from_secs(30), |runner| {
            runner.stderr().lines().find_map(|line| {
                let line: Value = serde_json::from_str(line).ok()?;
                (line["message"] == "health pages").then(|| line["address"].as_str().map(str::to_owned))?
            })
        })?;
        Ok(Self { address })
    }

    /// `host:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The pages at `host:port`.
    #[must_use]
    pub fn at(address: String) -> Self {
        Self { address }
    }

    /// Asks for one page.
    ///
    /// # Errors
    /// When nobody answers, or not in HTTP.
    pub fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.get_with(path, None)
    }

    /// The same with this value of the header `Authorization`.
    ///
    /// # Errors
    /// As [`Pages::get`].
    pub fn get_with(&self, path: &str, authorization: Option<&str>) -> anyhow::Result<Answer> {
        let mut stream = TcpStream::connect(&self.address).with_context(|| format!("connect to {}", self.address))?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        let authorization = authorization.map_or_else(String::new, |value| format!("Authorization: {value}\r\n"));
        let host = &self.address;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\n{authorization}Connection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).with_context(|| format!("read {path}"))?;
        let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("an answer of HTTP in {answer:?}"))?;
        // Bodies have a length: nothing here is chunked.
        ensure!(!head.to_ascii_lowercase().contains("transfer-encoding"), "{path} came in chunks: {head}");
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("a status")?;
        Ok(Answer { code, head: head.to_owned(), body: body.to_owned() })
    }
}
