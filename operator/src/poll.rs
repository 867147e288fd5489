//! Asks runners for their `/status`: every 15 seconds, sooner while they are not ready, and asks for a reconcile when
//! something changed. One that does not answer harms nobody: its job is called `StatusUnknown`, no more.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::cache::{JobKey, JobKind};
use crate::context::{Scope, Triggers};
use crate::names::{HTTP_PORT, hash};
use crate::pod::PodFacts;
use crate::report::RunnerReport;
use crate::streaming_job::status::Heard;

/// Time between two questions to a runner that works.
const PERIOD: Duration = Duration::from_secs(15);
/// Time between two questions to one that does not: its user waits for the reason.
const PERIOD_UNREADY: Duration = Duration::from_secs(3);
/// Answers of a runner that works and has not committed yet, until it is asked as rarely as the others: its user waits for
/// the first figures, but a topic without records may wait for ever.
const EARLY_ANSWERS: u32 = 20;
/// A runner answers from memory: one that takes longer has no processor or no network.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// A report of a job with a thousand partitions; what is longer is not one of ours.
const REPORT_BYTES_MAX: usize = 1 << 20;
/// Questions without an answer before the operator calls a runner silent.
const SILENT_AFTER: u32 = 3;
/// Questions at the same time.
const ASKED_AT_ONCE: usize = 32;

/// What runners said, by the life of their container: one that was started again has said nothing yet.
#[derive(Debug, Default)]
pub struct Reports {
    heard: Mutex<HashMap<String, Said>>,
}

#[derive(Clone, Debug)]
struct Said {
    report: Option<Arc<RunnerReport>>,
    failures: u32,
    answers: u32,
    next: Instant,
}

impl Reports {
    /// What the runner in this pod said last.
    pub fn heard(&self, pod: &PodFacts) -> Heard {
        match self.lock().get(&pod.life()) {
            None => Heard::NotYet,
            Some(said) if said.failures >= SILENT_AFTER => Heard::Nothing,
            Some(said) => said.report.clone().map_or(Heard::NotYet, Heard::Report),
        }
    }

    /// Takes up an answer, or that there was none. Tells whether that is something new.
    pub fn note(&self, life: &str, answer: Option<RunnerReport>, now: Instant) -> bool {
        let mut heard = self.lock();
        let said = heard.entry(life.to_owned()).or_insert(Said { report: None, failures: 0, answers: 0, next: now });
        let was_silent = said.failures >= SILENT_AFTER;
        let is_new = match answer {
            Some(report) => {
                let is_new = was_silent || said.report.as_deref() != Some(&report);
                (said.report, said.failures) = (Some(Arc::new(report)), 0);
                said.answers = said.answers.saturating_add(1);
                is_new
            }
            None => {
                said.failures = said.failures.saturating_add(1);
                said.failures == SILENT_AFTER
            }
        };
        let is_known = |report: &Arc<RunnerReport>| report.last_commit.is_some() || said.answers > EARLY_ANSWERS;
        let is_settled = said.report.as_ref().is_some_and(|report| report.ready && is_known(report));
        let period = if said.failures == 0 && is_settled { PERIOD } else { PERIOD_UNREADY };
        // A tenth more or less: a thousand pods that started together are not
        // asked together for ever.
        let spread = u32::from_str_radix(&hash(&format!("{life}{now:?}"))[..4], 16).unwrap_or(0);
        said.next = now + period.mul_f64(0.9 + 0.2 * f64::from(spread) / 65_536.0);
        is_new
    }

    fn is_due(&self, life: &str, now: Instant) -> bool {
        self.lock().get(life).is_none_or(|said| said.next <= now)
    }

    fn forget_all_but(&self, is_there: impl Fn(&str) -> bool) {
        self.lock().retain(|life, _| is_there(life));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Said>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks the runners of a scope until it is dropped.
pub async fn poll(scope: Arc<Scope>, reports: Arc<Reports>, triggers: Arc<Triggers>) {
    let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
    let mut ticks = interval(Duration::from_millis(500));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = Instant::now();
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

fn take_up(answer: Option<(String, JobKey, Option<RunnerReport>)>, reports: &Reports, triggers: &Triggers) {
    if let Some((life, job, answer)) = answer
        && reports.note(&life, answer, Instant::now())
    {
        triggers.trigger(&job);
    }
}

/// `None`: no answer, or not one that can be read; for the job it is the same.
async fn ask(client: &Client<HttpConnector, Empty<&'static [u8]>>, ip: &str) -> Option<RunnerReport> {
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    let address = format!("http://{host}:{HTTP_PORT}/status").parse().ok()?;
    let answered = async {
        let answer = client.get(address).await.ok()?;
        let body = Limited::new(answer.into_body(), REPORT_BYTES_MAX).collect().await.ok()?;
        serde_json::from_slice(&body.to_bytes()).ok()
    };
    timeout(ANSWER_TIMEOUT, answered).await.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::CommitReport;

    fn pod() -> PodFacts {
        let metadata = serde_json::from_value(serde_json::json!({"uid": "p"})).unwrap();
        PodFacts { metadata, ..PodFacts::default() }
    }

    #[test]
    fn a_runner_is_silent_after_three_questions_without_an_answer_and_heard_at_the_first() {
        let (reports, now) = (Reports::default(), Instant::now());
        assert!(matches!(reports.heard(&pod()), Heard::NotYet));
        assert!(reports.note("p/0", Some(RunnerReport::default()), now));
        assert!(!reports.note("p/0", Some(RunnerReport::default()), now), "the same again is nothing new");
        assert!(!reports.note("p/0", None, now));
        assert!(!reports.note("p/0", None, now));
        assert!(matches!(reports.heard(&pod()), Heard::Report(_)));
        assert!(reports.note("p/0", None, now));
        assert!(matches!(reports.heard(&pod()), Heard::Nothing));
        assert!(reports.note("p/0", Some(RunnerReport::default()), now));
        assert!(matches!(reports.heard(&pod()), Heard::Report(_)));
    }

    #[test]
    fn one_that_is_not_ready_or_has_not_committed_yet_is_asked_sooner() {
        let (reports, now) = (Reports::default(), Instant::now());
        let early = RunnerReport { ready: true, ..RunnerReport::default() };
        let ready = RunnerReport { last_commit: Some(CommitReport::default()), ..early.clone() };
        reports.note("ready", Some(ready), now);
        for _ in 0..EARLY_ANSWERS {
            reports.note("waiting", Some(early.clone()), now);
        }
        assert!(reports.is_due("waiting", now + Duration::from_secs(4)));
        reports.note("waiting", Some(early), now);
        assert!(
            !reports.is_due("waiting", now + Duration::from_secs(4)),
            "a topic without records is asked like others"
        );
        reports.note("unready", Some(RunnerReport::default()), now);
        let later = now + Duration::from_secs(4);
        assert!(reports.is_due("unready", later) && !reports.is_due("ready", later));
        assert!(reports.is_due("ready", now + Duration::from_secs(17)));
        assert!(reports.is_due("new", now));
    }
}
