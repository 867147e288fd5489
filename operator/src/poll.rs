//! Asks runners for their `/status`: every 15 seconds, sooner while they are not ready, and asks for a reconcile when
//! something changed. One that does not answer harms nobody: its job is called `StatusUnknown`, no more.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use data_platform_crds::runner_status::RunnerStatus;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::cache::{JobKey, JobKind};
use crate::clock;
use crate::context::{Scope, Triggers};
use crate::names::HTTP_PORT;
use crate::reports::Reports;

/// A runner answers from memory: one that takes longer has no processor or no network.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// A report of a job with a thousand partitions; what is longer is not one of ours.
const REPORT_BYTES_MAX: usize = 1 << 20;
/// Questions at the same time.
const ASKED_AT_ONCE: usize = 32;

/// Asks the runners of a scope until it is dropped.
pub async fn poll(scope: Arc<Scope>, reports: Arc<Reports>, triggers: Arc<Triggers>) {
    let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
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
            if job.kind != JobKind::Streaming || !pod.running || pod.is_leaving() || !reports.is_due(&life, now) {
                continue;
            }
            asked.push(async { (life, job, ask(&client, ip).await) });
            if asked.len() >= ASKED_AT_ONCE {
                take_up(asked.next().await, &reports, &triggers);
            }
        }
        while let Some(answer) = asked.next().await {
            take_up(Some(answer), &reports, &triggers);
        }
    }
}

fn take_up(answer: Option<(String, JobKey, Option<RunnerStatus>)>, reports: &Reports, triggers: &Triggers) {
    if let Some((life, job, answer)) = answer
        && reports.note(&life, answer, clock::instant())
    {
        triggers.trigger(&job);
    }
}

/// `None`: no answer, or not one that can be read; for the job it is the same.
async fn ask(client: &Client<HttpConnector, Empty<&'static [u8]>>, ip: &str) -> Option<RunnerStatus> {
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    let address = format!("http://{host}:{HTTP_PORT}/status").parse().ok()?;
    let answered = async {
        let answer = client.get(address).await.ok()?;
        let body = Limited::new(answer.into_body(), REPORT_BYTES_MAX).collect().await.ok()?;
        serde_json::from_slice(&body.to_bytes()).ok()
    };
    timeout(ANSWER_TIMEOUT, answered).await.ok().flatten()
}
