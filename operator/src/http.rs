//! `/livez`, `/readyz` and `/metrics` of the operator: read only.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::metrics::Metrics;

/// What the pages show.
#[derive(Clone)]
pub struct Pages {
    /// The metrics.
    pub metrics: Metrics,
    /// Whether every cache was read whole once. Also true of an operator that waits for its turn: it is ready to take over.
    pub is_synced: Arc<dyn Fn() -> bool + Send + Sync>,
    /// What keeps the operator from working, if something does.
    pub stuck: Arc<dyn Fn() -> Option<String> + Send + Sync>,
}

/// Serves the pages until the process ends.
///
/// # Errors
///
/// The address cannot be had.
pub async fn serve(address: &str, pages: Pages) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router(pages)).await {
            tracing::error!(%error, "the health pages ended");
        }
    });
    Ok(())
}

fn router(pages: Pages) -> Router {
    Router::new()
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(pages)
}

async fn live(State(pages): State<Pages>) -> Response {
    match (pages.stuck)() {
        None => "ok\n".into_response(),
        Some(what) => (StatusCode::SERVICE_UNAVAILABLE, format!("{what}\n")).into_response(),
    }
}

async fn ready(State(pages): State<Pages>) -> Response {
    if (pages.is_synced)() {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, "the first list of a watched kind was not read yet\n").into_response()
}

async fn metrics(State(pages): State<Pages>) -> Response {
    match pages.metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
