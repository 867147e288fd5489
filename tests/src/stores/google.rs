//! fake-gcs-server writes by Google's JSON interface alone, and clients of object_store write by the XML one. This stands
//! between them and puts the one into the words of the other: NOT a store, and no condition is judged here.

use std::io::{BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use anyhow::Context;

use crate::fault_proxy::{Message, read_message};

/// Starts one before `server` (`host:port`); gives its address. It ends with the process of the tests.
pub(super) fn in_xml(server: &str) -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").context("listen")?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let server = server.to_owned();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = server.clone();
            thread::spawn(move || drop(serve(&client, &server)));
        }
    });
    Ok(endpoint)
}

fn serve(mut client: &TcpStream, server: &str) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let mut from_client = BufReader::new(client.try_clone()?);
    let mut to_server = TcpStream::connect(server)?;
    to_server.set_nodelay(true)?;
    let mut from_server = BufReader::new(to_server.try_clone()?);
    while let Some(request) = read_message(&mut from_client, true)? {
        let line = request.head.lines().next().unwrap_or_default().to_owned();
        let target = line.split(' ').nth(1).unwrap_or_default();
        let written = line.starts_with("PUT ").then(|| in_json(target, &request)).flatten();
        match &written {
            None => {
                // It tells interfaces apart by the host.
                let others =
                    request.head.lines().skip(1).filter(|line| !line.to_ascii_lowercase().starts_with("host:"));
                let others: String = others.map(|line| format!("{line}\r\n")).collect();
                write!(to_server, "{line}\r\nHost: {server}\r\n{others}")?;
            }
            Some(target) => {
                let length = request.body.len();
                write!(to_server, "POST {target} HTTP/1.1\r\nHost: {server}\r\nContent-Length: {length}\r\n\r\n")?;
            }
        }
        to_server.write_all(&request.body)?;
        let Some(reply) = read_message(&mut from_server, !line.starts_with("HEAD "))? else { return Ok(()) };
        if written.is_some() {
            client.write_all(in_words_of_xml(&reply).as_bytes())?;
        } else {
            client.write_all(reply.head.as_bytes())?;
            client.write_all(&reply.body)?;
        }
    }
    Ok(())
}

/// Where the JSON interface takes what a PUT asks for.
fn in_json(target: &str, request: &Message) -> Option<String> {
    let (bucket, object) = target.trim_start_matches('/').split_once('/')?;
    let whole = |object: &str| object.replace('/', "%2F");
    Some(match request.header("x-goog-copy-source") {
        Some(source) => {
            let (from, source) = source.split_once('/')?;
            format!("/storage/v1/b/{from}/o/{}/rewriteTo/b/{bucket}/o/{}", whole(source), whole(object))
        }
        None => {
            let condition = request.header("x-goog-if-generation-match").unwrap_or_default();
            let condition =
                if condition.is_empty() { String::new() } else { format!("&ifGenerationMatch={condition}") };
            format!("/upload/storage/v1/b/{bucket}/o?uploadType=media&name={}{condition}", whole(object))
        }
    })
}

fn in_words_of_xml(reply: &Message) -> String {
    let status = reply.head.split(' ').nth(1).unwrap_or("500");
    let body = match status {
        "200" => String::new(),
        "404" => "<Error><Code>NoSuchKey</Code></Error>".to_owned(),
        "412" => "<Error><Code>PreconditionFailed</Code></Error>".to_owned(),
        _ => format!("<Error><Code>{}</Code></Error>", String::from_utf8_lossy(&reply.body)),
    };
    let json: serde_json::Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let generation = json["generation"].as_str().unwrap_or("1");
    let length = body.len();
    format!(
        "HTTP/1.1 {status} X\r\nETag: \"{generation}\"\r\nx-goog-generation: {generation}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}
