//! Schema registries: a real one (Apicurio), and a stub of ours that answers what a test tells it, for what a real one does
//! not do on demand. And other people's encoders of values.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{environment, folders};

/// A real registry, for one test. It is killed when this is dropped.
#[derive(Debug)]
pub struct Registry {
    url: String,
    folder: TempDir,
}

impl Registry {
    /// Starts one: about 10 s on a busy machine, 4 s of CPU.
    ///
    /// # Errors
    /// When it does not start; the message has what its script said.
    pub fn start() -> anyhow::Result<Self> {
        let mut registry = Self { url: String::new(), folder: folders::temporary("registry-")? };
        registry.url = registry.script("up")?;
        Ok(registry)
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Kills it. Its schemas stay.
    ///
    /// # Errors
    /// When it does not end.
    pub fn kill(&self) -> anyhow::Result<()> {
        self.script("kill").map(drop)
    }

    /// Starts it again, at the same address, with its schemas.
    ///
    /// # Errors
    /// When it does not start.
    pub fn restart(&self) -> anyhow::Result<()> {
        self.script("up").map(drop)
    }

    fn script(&self, command: &str) -> anyhow::Result<String> {
        let script = environment::tests_folder().join("env/registry/registry.sh");
        let output = Command::new(script).arg(command).arg(self.folder.path()).output().context("start registry.sh")?;
        if !output.status.success() {
            bail!("registry.sh {command}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// Registers a schema (`AVRO`, `JSON`, `PROTOBUF`) under a subject; gives its id.
    ///
    /// # Errors
    /// When the registry refuses it.
    pub fn register(&self, subject: &str, kind: &str, schema: &str, references: Value) -> anyhow::Result<u32> {
        let body = json!({"schemaType": kind, "schema": schema, "references": references});
        let path = format!("/subjects/{subject}/versions");
        let (status, answer) = request(&format!("{}{path}", self.url), "POST", &body.to_string())?;
        let id = serde_json::from_str::<Value>(&answer).ok().and_then(|answer| answer["id"].as_u64());
        id.and_then(|id| u32::try_from(id).ok()).with_context(|| format!("register {subject}: {status}: {answer}"))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

fn request(url: &str, method: &str, body: &str) -> anyhow::Result<(String, String)> {
    let (host, path) = url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).context("a URL")?;
    let mut connection = TcpStream::connect(host)?;
    write!(
        connection,
        "{method} /{path} HTTP/1.0\r\nHost: {host}\r\nContent-Type: application/vnd.schemaregistry.v1+json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    Ok((head.lines().next().unwrap_or_default().to_owned(), body.to_owned()))
}

/// What a stub answers to a request line and its headers: status and body.
pub type Answer = Box<dyn FnMut(&str, &[String]) -> (u16, String) + Send>;

/// NOT a registry: an HTTP server of the tests that answers what it is told.
pub struct StubRegistry {
    url: String,
    answer: Arc<Mutex<Answer>>,
}

impl StubRegistry {
    /// Begins to answer.
    ///
    /// # Errors
    /// When there is no port.
    pub fn start(answer: Answer) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}", listener.local_addr()?);
        let answer = Arc::new(Mutex::new(answer));
        let stub = Self { url, answer: Arc::clone(&answer) };
        // Ends with the process of the tests.
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let _ = serve(connection, &answer);
            }
        });
        Ok(stub)
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Answers otherwise from here on.
    pub fn answer(&self, answer: Answer) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }
}

fn serve(mut connection: TcpStream, answer: &Mutex<Answer>) -> std::io::Result<()> {
    let mut reader = BufReader::new(connection.try_clone()?);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let length = lines.iter().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    if !body.is_empty() {
        lines.push(format!("body: {}", String::from_utf8_lossy(&body)));
    }
    let first = lines.first().cloned().unwrap_or_default();
    let (status, body) = (answer.lock().unwrap_or_else(PoisonError::into_inner))(&first, &lines);
    write!(connection, "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

/// Values as another library writes them: `encoder` is a script in `writers/`, `request` what it is asked.
///
/// # Errors
/// When there is no Python for it, or it fails.
pub fn encode(encoder: &str, request: &Value) -> anyhow::Result<Vec<Vec<u8>>> {
    let tests = environment::tests_folder();
    let venv = Command::new(tests.join("env/python/venv.sh"))
        .arg(tests.join("env/python/requirements-values.txt"))
        .output()?;
    if !venv.status.success() {
        bail!("no Python for the encoders: {}", String::from_utf8_lossy(&venv.stderr));
    }
    let python = PathBuf::from(String::from_utf8(venv.stdout)?.trim());
    let mut child = Command::new(python)
        .arg(tests.join("writers").join(encoder))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start the encoder")?;
    child.stdin.take().context("its input")?.write_all(request.to_string().as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("{encoder}: {}", String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8(output.stdout)?.lines().map(from_hex).collect()
}

fn from_hex(text: &str) -> anyhow::Result<Vec<u8>> {
    let pairs = (0..text.len()).step_by(2).map(|at| text.get(at..at + 2).context("half a byte"));
    pairs.map(|pair| Ok(u8::from_str_radix(pair?, 16)?)).collect()
}

/// A value behind the id of its schema.
#[must_use]
pub fn framed(id: u32, body: &[u8]) -> Vec<u8> {
    [&[0], id.to_be_bytes().as_slice(), body].concat()
}
