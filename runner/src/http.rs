//! `/health`, `/livez`, `/readyz`, `/metrics`, `/status` and the page that draws it: read only, on a thread of their own.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use data_platform_page::Authentication;
use serde_json::json;

use crate::clock::Clock;
use crate::metrics::JobMetrics;
use crate::pipeline::memory::MemoryBudget;
use crate::pipeline::status::{JobStatus, Phase, SharedStatus};
use crate::source::Trouble;

/// What the pages show.
pub struct Pages {
    /// The job.
    pub status: SharedStatus,
    /// Trouble that may pass.
    pub trouble: Trouble,
    /// Its metrics.
    pub metrics: Arc<JobMetrics>,
    /// Its memory.
    pub memory: MemoryBudget,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Who may see them; `None`: everybody.
    pub authentication: Option<Authentication>,
}

/// Begins to listen; returns the address, which matters when the port was 0.
///
/// # Errors
/// When the address cannot be had.
pub fn start(address: &str, pages: Pages) -> std::io::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let local = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("http".to_owned()).spawn(move || {
        runtime.block_on(async move {
            let served = async { axum::serve(tokio::net::TcpListener::from_std(listener)?, router(pages)).await };
            if let Err(error) = served.await {
                tracing::error!(%error, "the health pages ended");
            }
        });
    })?;
    Ok(local)
}

fn router(pages: Pages) -> Router {
    let authentication = pages.authentication.clone();
    let router = data_platform_page::router()
        .route("/health", get(health))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .with_state(Arc::new(pages));
    match authentication {
        Some(authentication) => authentication.guard(router),
        None => router,
    }
}

/// The status with trouble that may pass in it: the pipeline itself waits and does not know.
fn current(pages: &Pages) -> JobStatus {
    let mut status = pages.status.get().as_of(pages.clock.now());
    if let (Some(trouble), Phase::Starting | Phase::Running) = (pages.trouble.get(), status.phase) {
        let error = crate::pipeline::error::JobError::from(trouble);
        status.phase = Phase::Retrying;
        status.ready = false;
        status.reason = error.reason.name().to_owned();
        status.message = error.message;
    }
    status
}

fn code(status: &JobStatus) -> StatusCode {
    if status.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

async fn health(State(pages): State<Arc<Pages>>) -> Response {
    let status = current(&pages);
    let body = json!({
        "status": if status.ready { "healthy" } else { "unhealthy" },
        "job": status.job,
        "phase": status.phase,
        "reason": status.reason,
        "message": status.message,
        "lag": status.lag(),
    });
    (code(&status), axum::Json(body)).into_response()
}

async fn ready(State(pages): State<Arc<Pages>>) -> Response {
    let status = current(&pages);
    let text = if status.ready { "ok\n".to_owned() } else { format!("{}: {}\n", status.reason, status.message) };
    (code(&status), text).into_response()
}

async fn metrics(State(pages): State<Arc<Pages>>) -> Response {
    match pages.metrics.text(&current(&pages), &pages.memory, &*pages.clock) {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn status(State(pages): State<Arc<Pages>>) -> Response {
    axum::Json(current(&pages).report()).into_response()
}
