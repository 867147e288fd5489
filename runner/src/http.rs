//! `/health`, `/livez`, `/readyz`, `/metrics`, `/status` and the page that draws it: read only, on a thread of their own. Of one
//! job, or of [`several`].

pub mod several;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use data_platform_page::Authentication;
use prometheus::proto::MetricFamily;
use serde_json::json;

use crate::clock::Clock;
use crate::metrics::{self, JobMetrics};
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
    listen(address, router(pages))
}

fn listen(address: &str, router: Router) -> std::io::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let local = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("http".to_owned()).spawn(move || {
        runtime.block_on(async move {
            let served = async { axum::serve(tokio::net::TcpListener::from_std(listener)?, router).await };
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
        .route("/metrics", get(all_metrics))
        .route("/status", get(status))
        .with_state(Arc::new(pages));
    guarded(router, authentication)
}

fn guarded(router: Router, authentication: Option<Authentication>) -> Router {
    match authentication {
        Some(authentication) => authentication.guard(router),
        None => router,
    }
}

/// The status with trouble that may pass in it: the pipeline itself waits and does not know.
fn current(status: &SharedStatus, trouble: &Trouble, clock: &dyn Clock) -> JobStatus {
    let mut status = status.get().as_of(clock.now());
    if let (Some(trouble), Phase::Starting | Phase::Running) = (trouble.get(), status.phase) {
        let error = crate::pipeline::error::JobError::from(trouble);
        status.phase = Phase::Retrying;
        status.ready = false;
        status.reason = error.reason.name().to_owned();
        status.message = error.message;
    }
    status
}

impl Pages {
    fn current(&self) -> JobStatus {
        current(&self.status, &self.trouble, &*self.clock)
    }
}

fn code(is_well: bool) -> StatusCode {
    if is_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn health_word(is_well: bool) -> &'static str {
    if is_well { "healthy" } else { "unhealthy" }
}

async fn health(State(pages): State<Arc<Pages>>) -> Response {
    let status = pages.current();
    let body = json!({
        "status": health_word(status.ready),
        "job": status.job,
        "phase": status.phase,
        "reason": status.reason,
        "message": status.message,
        "lag": status.lag(),
    });
    (code(status.ready), axum::Json(body)).into_response()
}

async fn ready(State(pages): State<Arc<Pages>>) -> Response {
    let status = pages.current();
    let text = if status.ready { "ok\n".to_owned() } else { format!("{}: {}\n", status.reason, status.message) };
    (code(status.ready), text).into_response()
}

async fn all_metrics(State(pages): State<Arc<Pages>>) -> Response {
    let of_job = pages.metrics.as_of(&pages.current(), &pages.memory, &*pages.clock);
    exposition(of_job)
}

fn exposition(of_jobs: Vec<MetricFamily>) -> Response {
    match metrics::text(of_jobs.into_iter().chain(metrics::of_process())) {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn status(State(pages): State<Arc<Pages>>) -> Response {
    axum::Json(pages.current().report()).into_response()
}
