//! How requests go out: on one thread for I/O, whatever the job's own thread computes meanwhile, and counted one by one.

use std::sync::OnceLock;

use async_trait::async_trait;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

use super::requests::{self, Operation, Outcome, Request};
use crate::storage::StoreError;

/// The runtime of connections. They outlive the runtimes of jobs: several jobs of a process share a client.
///
/// # Errors
/// When the system gives no thread.
pub(crate) fn runtime() -> Result<&'static Handle, StoreError> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    let made = RUNTIME.get_or_init(|| {
        let mut builder = Builder::new_multi_thread();
        // Look-ups of names block; few are made.
        let builder = builder.worker_threads(1).max_blocking_threads(4).thread_name("object-store").enable_all();
        builder.build().map_err(|error| error.to_string())
    });
    let failed = |error: &String| StoreError::Failed {
        operation: "start",
        path: "a thread for I/O".into(),
        source: error.as_str().into(),
    };
    made.as_ref().map(Runtime::handle).map_err(failed)
}

/// Makes clients that count.
#[derive(Debug)]
pub(super) struct Wire;

impl HttpConnector for Wire {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Counting { inner: ReqwestConnector::default().connect(options)? }))
    }
}

#[derive(Debug)]
struct Counting {
    inner: HttpClient,
}

#[async_trait]
impl HttpService for Counting {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let operation = operation(&request);
        let runtime = runtime().map_err(|error| HttpError::new(HttpErrorKind::Connect, error))?;
        let inner = self.inner.clone();
        let mut sent = Sent(runtime.spawn(async move { inner.execute(request).await }));
        let answer = match (&mut sent.0).await {
            Ok(answer) => answer,
            Err(error) => Err(HttpError::new(HttpErrorKind::Interrupted, error)),
        };
        requests::count(operation, Outcome::of(answer.as_ref().ok().map(|answer| answer.status().as_u16())));
        answer
    }
}

fn operation(request: &HttpRequest) -> Operation {
    let uri = request.uri();
    Operation::of(Request {
        method: request.method().as_str(),
        host: uri.host().unwrap_or_default(),
        path: uri.path(),
        query: uri.query().unwrap_or_default(),
        is_copy: COPY_SOURCES.iter().any(|name| request.headers().contains_key(*name)),
    })
}

/// Headers that name an object to copy from.
const COPY_SOURCES: [&str; 3] = ["x-amz-copy-source", "x-goog-copy-source", "x-ms-copy-source"];

/// A request that is given up when nobody waits for its answer any more.
struct Sent(JoinHandle<Result<HttpResponse, HttpError>>);

impl Drop for Sent {
    fn drop(&mut self) {
        self.0.abort();
    }
}
