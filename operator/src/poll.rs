//! Asks runners for their `/status`: every 15 seconds, sooner while they are not ready, and asks for a reconcile when
//! something changed. One that does not answer harms nobody: its job is called `StatusUnknown`, no more.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use data_platform_crds::runner_status::RunnerStatus;
use data_platform_page::Authentication;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::cache::{JobKey, JobKind};
use crate::clock;
use crate::context::{Scope, Triggers};
use crate::names::{BACKFILL_LABEL, HTTP_PORT};
use crate::reports::{Reports, Silence};

/// A runner answers from memory: one that takes longer has no processor or no network.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// A report of a job with a thousand partitions; what is longer is not one of ours.
const REPORT_BYTES_MAX: usize = 1 << 20;
/// Questions at the same time.
const ASKED_AT_ONCE: usize = 32;

/// Asks the runners of a scope until it is dropped; with `authentication`, by its token.
pub async fn poll(
    scope: Arc<Scope>,
    reports: Arc<Reports>,
    triggers: Arc<Triggers>,
    authentication: Option<Authentication>,
) {
    // A connection that waits for a question every 15 seconds keeps 10 kB, here and in the runner.
    let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(HttpConnector::new());
    let mut ticks = interval(Duration::from_millis(500));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = clock::instant();
        let pods = scope.pods.all();
        let lives: HashSet<String> = pods.iter().map(|pod| pod.life()).collect();
        reports.forget_all_but(|life| lives.contains(life));
        let mut asked = FuturesUnordered::new();
        for pod in &pods {
            let (life, Some(ip), Some(job)) = (pod.life(), &pod.ip, JobKey::of_child(&pod.metadata)) else { continue };
            let is_asked = job.kind == JobKind::Streaming || has_label(&pod.metadata, BACKFILL_LABEL);
            if !is_asked || !pod.running || pod.is_leaving() || !reports.is_due(&life, now) {
                continue;
            }
            let authentication = authentication.as_ref();
            let client = &client;
            asked.push(async move { (life, job, ask(client, ip, authentication).await) });
            if asked.len() >= ASKED_AT_ONCE {
                take_up(asked.next().await, &reports, &triggers);
            }
        }
        while let Some(answer) = asked.next().await {
            take_up(Some(answer), &reports, &triggers);
        }
    }
}

fn has_label(metadata: &ObjectMeta, name: &str) -> bool {
    metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(name))
}

/// What a runner said when it was asked, with the life of its container and its job.
type Answer = (String, JobKey, Result<RunnerStatus, Silence>);

fn take_up(answer: Option<Answer>, reports: &Reports, triggers: &Triggers) {
    if let Some((life, job, answer)) = answer
        && reports.note(&life, answer, clock::instant())
    {
        triggers.trigger(&job);
    }
}

async fn ask(
    client: &Client<HttpConnector, Empty<&'static [u8]>>,
    ip: &str,
    authentication: Option<&Authentication>,
) -> Result<RunnerStatus, Silence> {
    let request = question(ip, authentication).ok_or(Silence::NoAnswer)?;
    let answered = async {
        let answer = client.request(request).await.map_err(|_| Silence::NoAnswer)?;
        // The second: it has no token to compare with.
        if [StatusCode::UNAUTHORIZED, StatusCode::SERVICE_UNAVAILABLE].contains(&answer.status()) {
            return Err(Silence::Refused);
        }
        let body = Limited::new(answer.into_body(), REPORT_BYTES_MAX).collect().await.map_err(|_| Silence::NoAnswer)?;
        serde_json::from_slice(&body.to_bytes()).map_err(|_| Silence::NoAnswer)
    };
    timeout(ANSWER_TIMEOUT, answered).await.unwrap_or(Err(Silence::NoAnswer))
}

/// The request for the status at an address. While the token cannot be read it goes without one, and a runner that wants
/// one says so.
fn question(ip: &str, authentication: Option<&Authentication>) -> Option<Request<Empty<&'static [u8]>>> {
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    let mut request = Request::get(format!("http://{host}:{HTTP_PORT}/status"));
    if let Some(token) = authentication.and_then(|authentication| authentication.token().ok()) {
        let mut bearer = HeaderValue::try_from(token.bearer()).ok()?;
        bearer.set_sensitive(true);
        request = request.header(header::AUTHORIZATION, bearer);
    }
    request.body(Empty::new()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runner_is_asked_with_the_token_that_the_file_has_now() {
        let path = std::env::temp_dir().join(format!("poll-token-{}", std::process::id()));
        let authentication = Authentication::by_token_file(&path);
        let sent = |authentication| {
            let request = question("fd00::1", authentication).unwrap();
            assert_eq!(request.uri(), "http://[fd00::1]:9999/status");
            let header = request.headers().get(header::AUTHORIZATION)?;
            assert!(header.is_sensitive() && !format!("{request:?}").contains("first"));
            header.to_str().ok().map(str::to_owned)
        };
        assert_eq!(sent(Some(&authentication)), None, "there is no file");
        std::fs::write(&path, "first\n").unwrap();
        assert_eq!(sent(Some(&authentication)).as_deref(), Some("Bearer first"));
        std::fs::write(&path, "second").unwrap();
        assert_eq!(sent(Some(&authentication)).as_deref(), Some("Bearer second"));
        assert_eq!(sent(None), None);
        std::fs::remove_file(path).unwrap();
    }
}
