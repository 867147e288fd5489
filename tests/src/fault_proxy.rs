//! A proxy before an HTTP server that counts requests, makes them slow, and spoils chosen ones: what a network and a store
//! under load do.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context;

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is carried out, and the answer is lost.
    LostReply,
    /// The server says 503 SlowDown and does nothing.
    Throttled,
    /// The connection breaks before the server sees it.
    Cut,
    /// Half of its body reaches the server, then the connection breaks.
    HalfRequest,
    /// Half of the answer's body comes, then the connection breaks.
    HalfReply,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 5] = [Self::LostReply, Self::Throttled, Self::Cut, Self::HalfRequest, Self::HalfReply];
}

/// A proxy that listens at an address of its own. It ends with the process of the tests.
#[derive(Clone, Debug)]
pub struct FaultProxy {
    address: String,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    requests: Vec<String>,
    faults: Vec<(usize, Fault)>,
    happened: usize,
    keys: Vec<String>,
    latency: Duration,
    /// Every request gets this instead of the server's answer.
    answer: Option<String>,
}

impl FaultProxy {
    /// Starts one before `server` (`host:port`).
    ///
    /// # Errors
    /// When there is no port.
    pub fn start(server: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("listen")?;
        let address = listener.local_addr()?.to_string();
        let state = Arc::new(Mutex::new(State::default()));
        let (server, shared) = (server.to_owned(), Arc::clone(&state));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (server, state) = (server.clone(), Arc::clone(&shared));
                // A connection that breaks is what this is for.
                thread::spawn(move || drop(serve(&client, &server, &state)));
            }
        });
        Ok(Self { address, state })
    }

    /// `http://host:port`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Spoils the `number`-th request from now on, the first being 1.
    pub fn spoil(&self, number: usize, fault: Fault) {
        let mut state = self.state();
        let number = state.requests.len() + number;
        state.faults.push((number, fault));
    }

    /// Delays every request.
    pub fn delay(&self, latency: Duration) {
        self.state().latency = latency;
    }

    /// Answers every request itself: status and body.
    pub fn answer(&self, status: &str, body: &str) {
        let length = body.len();
        let answer =
            format!("HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\n\r\n{body}");
        self.state().answer = Some(answer);
    }

    /// The requests until now: method and address.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.state().requests.clone()
    }

    /// Access keys with which requests were signed, each once, in order.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        self.state().keys.clone()
    }

    /// How many faults have happened.
    #[must_use]
    pub fn happened(&self) -> usize {
        self.state().happened
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A message of HTTP as it came.
pub(crate) struct Message {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Message {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

fn serve(client: &TcpStream, server: &str, state: &Mutex<State>) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let mut from_client = BufReader::new(client.try_clone()?);
    let mut upstream: Option<(BufReader<TcpStream>, TcpStream)> = None;
    while let Some(request) = read_message(&mut from_client, true)? {
        let line = request.head.lines().next().unwrap_or_default().to_owned();
        let is_head = line.starts_with("HEAD ");
        let (fault, latency, answer) = {
            let mut state = lock(state);
            state.requests.push(line.trim_end_matches(" HTTP/1.1").to_owned());
            let signature = request.header("authorization").unwrap_or_default();
            if let Some((_, rest)) = signature.split_once("Credential=") {
                let key = rest.split('/').next().unwrap_or_default();
                if !state.keys.iter().any(|known| known == key) {
                    state.keys.push(key.to_owned());
                }
            }
            let number = state.requests.len();
            let fault = state.faults.iter().find(|(at, _)| *at == number).map(|(_, fault)| *fault);
            state.happened += usize::from(fault.is_some());
            (fault, state.latency, state.answer.clone())
        };
        thread::sleep(latency);
        let mut to_client = client;
        if let Some(answer) = answer {
            let end = if is_head { answer.find("\r\n\r\n").map_or(answer.len(), |at| at + 4) } else { answer.len() };
            to_client.write_all(&answer.as_bytes()[..end])?;
            continue;
        }
        match fault {
            Some(Fault::Cut) => return client.shutdown(Shutdown::Both),
            Some(Fault::Throttled) => {
                let body = if is_head { "" } else { "<Error><Code>SlowDown</Code></Error>" };
                write!(to_client, "HTTP/1.1 503 Slow Down\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
                continue;
            }
            _ => {}
        }
        if upstream.is_none() {
            let connection = TcpStream::connect(server)?;
            connection.set_nodelay(true)?;
            upstream = Some((BufReader::new(connection.try_clone()?), connection));
        }
        let Some((from_server, to_server)) = &mut upstream else { return Ok(()) };
        to_server.write_all(request.head.as_bytes())?;
        if fault == Some(Fault::HalfRequest) {
            to_server.write_all(&request.body[..request.body.len() / 2])?;
            to_server.shutdown(Shutdown::Both)?;
            return client.shutdown(Shutdown::Both);
        }
        to_server.write_all(&request.body)?;
        let Some(reply) = read_message(from_server, !is_head)? else { return client.shutdown(Shutdown::Both) };
        match fault {
            Some(Fault::LostReply) => return client.shutdown(Shutdown::Both),
            Some(Fault::HalfReply) => {
                to_client.write_all(reply.head.as_bytes())?;
                to_client.write_all(&reply.body[..reply.body.len() / 2])?;
                return client.shutdown(Shutdown::Both);
            }
            _ => {
                to_client.write_all(reply.head.as_bytes())?;
                to_client.write_all(&reply.body)?;
            }
        }
    }
    Ok(())
}

/// Reads a message; `None` at the end of the connection. `has_body`: if its head says so.
pub(crate) fn read_message(from: &mut impl BufRead, has_body: bool) -> std::io::Result<Option<Message>> {
    let mut head = String::new();
    loop {
        let before = head.len();
        if from.read_line(&mut head)? == 0 {
            return Ok(None);
        }
        if &head[before..] == "\r\n" {
            break;
        }
    }
    let mut body = Vec::new();
    if has_body {
        if let Some(length) = header(&head, "content-length").and_then(|length| length.parse().ok()) {
            body.resize(length, 0);
            from.read_exact(&mut body)?;
        } else if header(&head, "transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            read_chunks(from, &mut body)?;
        }
    }
    Ok(Some(Message { head, body }))
}

/// Reads a chunked body as it came.
fn read_chunks(from: &mut impl BufRead, body: &mut Vec<u8>) -> std::io::Result<()> {
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        body.extend_from_slice(line.as_bytes());
        let size = usize::from_str_radix(line.trim().split(';').next().unwrap_or_default(), 16).unwrap_or(0);
        let before = body.len();
        body.resize(before + size + 2, 0);
        from.read_exact(&mut body[before..])?;
        if size == 0 {
            return Ok(());
        }
    }
}
