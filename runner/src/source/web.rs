//! One request to an HTTP server that belongs to Kafka: a schema registry, a token endpoint.
//!
//! These are rare, so each has a client of its own, made of the secrets as they are then: what was rotated is taken up by
//! the next request. A request runs on a thread of its own, since callers may or may not be inside of a runtime.

use std::error::Error as _;
use std::time::Duration;

use data_platform_crds::kafka::TlsSpec;
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, ClientBuilder, Identity, RequestBuilder};

use super::kafka::config::{SecretError, Secrets};

/// How long a connection may take: a name, a handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest answer: registries take schemas of a megabyte.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Status of HTTP.
    pub(super) status: u16,
    /// The body.
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// The beginning of the body as one line, for messages.
    pub(super) fn shown(&self) -> String {
        /// What a person reads of an error page.
        const SHOWN: usize = 200;
        let text = String::from_utf8_lossy(&self.body);
        let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
        match line.char_indices().nth(SHOWN) {
            Some((end, _)) => format!("{}…", &line[..end]),
            None => line,
        }
    }
}

/// Why a server did not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum WebError {
    /// A secret cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Certificates: ours cannot be used, or theirs is not trusted.
    #[error("{0}")]
    Tls(String),
    /// Anything that may pass.
    #[error("{0}")]
    NoAnswer(String),
}

/// Sends a request that `build` makes.
pub(super) fn send(
    tls: Option<&TlsSpec>,
    secrets: &Secrets,
    build: impl FnOnce(&Client) -> RequestBuilder + Send,
) -> Result<Answer, WebError> {
    let client = client(tls, secrets)?;
    let request = build(&client);
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| WebError::NoAnswer(format!("cannot start a runtime: {error}")))?;
        runtime.block_on(answer(request))
    };
    let failed = |_| Err(WebError::NoAnswer("a bug in the client (see the log)".to_owned()));
    std::thread::scope(|scope| scope.spawn(run).join().unwrap_or_else(failed))
}

async fn answer(request: RequestBuilder) -> Result<Answer, WebError> {
    let mut response = request.send().await.map_err(told)?;
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(told)? {
        if body.len() + part.len() > ANSWER_BYTES_MAX {
            return Err(WebError::NoAnswer(format!("an answer of more than {ANSWER_BYTES_MAX} bytes")));
        }
        body.extend_from_slice(&part);
    }
    Ok(Answer { status, body })
}

fn client(tls: Option<&TlsSpec>, secrets: &Secrets) -> Result<Client, WebError> {
    // A redirect would take the login to where nobody said that it may go.
    let builder = ClientBuilder::new().connect_timeout(CONNECT_TIMEOUT).timeout(TIMEOUT).redirect(Policy::none());
    let mut builder = builder.user_agent(concat!("data-platform/", env!("CARGO_PKG_VERSION"))).no_proxy();
    if let Some(tls) = tls {
        if let Some(ca) = &tls.ca {
            let pem = secrets.read("certificate authority", ca)?;
            let authorities = Certificate::from_pem_bundle(pem.as_bytes()).ok().filter(|found| !found.is_empty());
            let authorities =
                authorities.ok_or_else(|| WebError::Tls("tls.ca holds no certificate (PEM)".to_owned()))?;
            builder = builder.tls_built_in_root_certs(false);
            builder = authorities.into_iter().fold(builder, ClientBuilder::add_root_certificate);
        }
        if let (Some(certificate), Some(key)) = (&tls.certificate, &tls.key) {
            if tls.key_password.is_some() {
                let problem = "tls.keyPassword: a key with a password is for brokers only; give a key without one";
                return Err(WebError::Tls(problem.to_owned()));
            }
            let certificate = secrets.read("client certificate", certificate)?;
            let pem = format!("{}\n{}", secrets.read("client key", key)?, certificate);
            let identity = Identity::from_pem(pem.as_bytes());
            let problem = |_| WebError::Tls("tls.certificate and tls.key are no certificate and key (PEM)".to_owned());
            builder = builder.identity(identity.map_err(problem)?);
        }
    }
    builder.build().map_err(|error| WebError::Tls(chain(&error)))
}

fn told(error: reqwest::Error) -> WebError {
    let text = chain(&error.without_url());
    let is_refused = ["certificate", "alert", "UnknownIssuer"].iter().any(|word| text.contains(word));
    if is_refused { WebError::Tls(text) } else { WebError::NoAnswer(text) }
}

/// An error with its causes, without repetitions.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let word = error.to_string();
        if !text.contains(&word) {
            text = format!("{text}: {word}");
        }
        cause = error.source();
    }
    text
}
