//! `/livez`, `/readyz`, `/metrics`, `/status` and the page that draws it: read only.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use data_platform_page::Authentication;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::controller::Controller;
use crate::kind::JobResource;
use crate::metrics::Metrics;
use crate::observed::Observed;

/// What the pages show.
#[derive(Clone)]
pub struct Pages {
    /// The metrics.
    pub metrics: Metrics,
    /// Whether every cache was read whole once. Also true of an operator that waits for its turn: it is ready to take over.
    pub is_synced: Arc<dyn Fn() -> bool + Send + Sync>,
    /// What `/status` says.
    pub status: Arc<dyn Fn() -> Value + Send + Sync>,
    /// What the runner of a streaming job said last, by namespace and name.
    pub report: Arc<ReportOf>,
    /// Who may see them; `None`: everybody.
    pub authentication: Option<Authentication>,
}

/// What the runner of a streaming job said last, given namespace and name of the job.
pub type ReportOf = dyn Fn(&str, &str) -> Option<Value> + Send + Sync;

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
    let authentication = pages.authentication.clone();
    let router = data_platform_page::router()
        // An operator that can answer lives: everything it waits for has a limit of its own.
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/status", get(|State(pages): State<Pages>| async move { axum::Json((pages.status)()) }))
        .merge(data_platform_page::router_below("/jobs/{namespace}/{name}"))
        .route("/jobs/{namespace}/{name}/status", get(report))
        .with_state(pages);
    match authentication {
        Some(authentication) => authentication.guard(router),
        None => router,
    }
}

/// What the operator heard of a runner, for the page of its job: who looks at it need not reach the pod.
async fn report(State(pages): State<Pages>, Path((namespace, name)): Path<(String, String)>) -> Response {
    match (pages.report)(&namespace, &name) {
        Some(report) => axum::Json(report).into_response(),
        None => (StatusCode::NOT_FOUND, "no runner of this job has said anything\n").into_response(),
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

/// What `/status` says: every job with its status. Of its spec only what says when it runs.
pub fn status(leads: bool, controllers: &[Controller]) -> Value {
    let mut jobs: Vec<Value> = Vec::new();
    for controller in controllers {
        jobs.extend(controller.streaming_jobs().iter().map(|job| shown(job)));
        jobs.extend(controller.batch_jobs().iter().map(|job| shown(job)));
    }
    jobs.sort_by_cached_key(|job| format!("{} {} {}", job["kind"], job["namespace"], job["name"]));
    json!({"program": env!("CARGO_PKG_VERSION"), "leader": leads, "jobs": jobs})
}

fn shown<K: JobResource>(job: &Observed<K>) -> Value {
    let status = job.field("status");
    let mut shown = json!({
        "kind": K::KIND.name(),
        "namespace": job.metadata.namespace,
        "name": job.metadata.name,
        "status": if status.is_null() { json!({}) } else { status },
    });
    let spec = job.field("spec");
    for field in ["schedule", "timeZone"] {
        if let Some(value) = spec.get(field) {
            shown[field] = value.clone();
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use data_platform_crds::batch_job::BatchJob;

    use super::*;

    #[test]
    fn of_a_job_its_status_is_shown_and_of_its_spec_only_when_it_runs() {
        let job = json!({
            "metadata": {"name": "a", "namespace": "n", "annotations": {"secret": "hidden"}},
            "spec": {"schedule": "@daily", "timeZone": "UTC", "parameters": {"password": "hidden"}},
            "status": {"missedRuns": 0},
        });
        let job: Observed<BatchJob> = serde_json::from_value(job).unwrap();
        let expected = json!({
            "kind": "BatchJob", "namespace": "n", "name": "a", "schedule": "@daily", "timeZone": "UTC",
            "status": {"missedRuns": 0},
        });
        assert_eq!(shown(&job), expected);
    }
}
