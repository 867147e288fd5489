//! [`Reports`]: what the runners of a scope said last. No I/O: `poll` asks them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use data_platform_crds::runner_status::RunnerStatus;
use tokio::time::Instant;

use crate::names::hash;
use crate::pod::PodFacts;

/// Time between two questions to a runner that works.
const PERIOD: Duration = Duration::from_secs(15);
/// Time between two questions to one that does not: its user waits for the reason.
const PERIOD_UNREADY: Duration = Duration::from_secs(3);
/// Answers of a runner that works and has not committed yet, until it is asked as rarely as the others: its user waits for
/// the first figures, but a topic without records may wait for ever.
const EARLY_ANSWERS: u32 = 20;
/// Questions without an answer before the operator calls a runner silent.
const SILENT_AFTER: u32 = 3;

/// What is known of what the runner of a pod says.
#[derive(Clone, Debug, Default)]
pub enum ReportState {
    /// Nobody asked yet.
    #[default]
    Unknown,
    /// It did not say it several times.
    Silent(Silence),
    /// This, a moment ago.
    Fresh(Arc<RunnerStatus>),
}

/// Why a runner that was asked did not say how it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// It did not answer, or with what nobody can read; for the job it is the same.
    NoAnswer,
    /// It asks for another token than the operator's, or has none to compare with.
    Refused,
}

/// What runners report, by the life of their container: one that was started again has said nothing yet.
#[derive(Debug, Default)]
pub struct Reports {
    by_life: Mutex<HashMap<String, Said>>,
}

#[derive(Clone, Debug)]
struct Said {
    report: Option<Arc<RunnerStatus>>,
    silence: Silence,
    failures: u32,
    answers: u32,
    next: Instant,
}

impl Reports {
    /// What the runner in this pod said last.
    pub fn state(&self, pod: &PodFacts) -> ReportState {
        match self.lock().get(&pod.life()) {
            None => ReportState::Unknown,
            Some(said) if said.failures >= SILENT_AFTER => ReportState::Silent(said.silence),
            Some(said) => said.report.clone().map_or(ReportState::Unknown, ReportState::Fresh),
        }
    }

    /// Takes up an answer, or why there was none. Tells whether that is something new.
    pub fn note(&self, life: &str, answer: Result<RunnerStatus, Silence>, now: Instant) -> bool {
        let mut reports = self.lock();
        let new = Said { report: None, silence: Silence::NoAnswer, failures: 0, answers: 0, next: now };
        let said = reports.entry(life.to_owned()).or_insert(new);
        let was_silent = said.failures >= SILENT_AFTER;
        let is_new = match answer {
            Ok(report) => {
                let is_new = was_silent || said.report.as_deref() != Some(&report);
                (said.report, said.failures) = (Some(Arc::new(report)), 0);
                said.answers = said.answers.saturating_add(1);
                is_new
            }
            Err(silence) => {
                said.failures = said.failures.saturating_add(1);
                let is_other = std::mem::replace(&mut said.silence, silence) != silence;
                said.failures == SILENT_AFTER || was_silent && is_other
            }
        };
        let is_known = |report: &Arc<RunnerStatus>| report.last_commit.is_some() || said.answers > EARLY_ANSWERS;
        let is_settled = said.report.as_ref().is_some_and(|report| report.ready && is_known(report));
        let period = if said.failures == 0 && is_settled { PERIOD } else { PERIOD_UNREADY };
        // A tenth more or less: a thousand pods that started together are not
        // asked together for ever.
        let spread = u32::from_str_radix(&hash(&format!("{life}{now:?}"))[..4], 16).unwrap_or(0);
        said.next = now + period.mul_f64(0.9 + 0.2 * f64::from(spread) / 65_536.0);
        is_new
    }

    /// Whether a runner is to be asked now.
    pub fn is_due(&self, life: &str, now: Instant) -> bool {
        self.lock().get(life).is_none_or(|said| said.next <= now)
    }

    /// Forgets the runners that are gone.
    pub fn forget_all_but(&self, is_there: impl Fn(&str) -> bool) {
        self.lock().retain(|life, _| is_there(life));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Said>> {
        self.by_life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use data_platform_crds::runner_status::CommitStatus;

    use super::*;
    use crate::clock;

    fn pod() -> PodFacts {
        let metadata = serde_json::from_value(serde_json::json!({"uid": "p"})).unwrap();
        PodFacts { metadata, ..PodFacts::default() }
    }

    #[test]
    fn a_runner_is_silent_after_three_questions_without_an_answer_and_fresh_at_the_first() {
        let (reports, now) = (Reports::default(), clock::instant());
        assert!(matches!(reports.state(&pod()), ReportState::Unknown));
        assert!(reports.note("p/0", Ok(RunnerStatus::default()), now));
        assert!(!reports.note("p/0", Ok(RunnerStatus::default()), now), "the same again is nothing new");
        assert!(!reports.note("p/0", Err(Silence::NoAnswer), now));
        assert!(!reports.note("p/0", Err(Silence::NoAnswer), now));
        assert!(matches!(reports.state(&pod()), ReportState::Fresh(_)));
        assert!(reports.note("p/0", Err(Silence::NoAnswer), now));
        assert!(matches!(reports.state(&pod()), ReportState::Silent(Silence::NoAnswer)));
        assert!(reports.note("p/0", Err(Silence::Refused), now), "why is something new");
        assert!(!reports.note("p/0", Err(Silence::Refused), now));
        assert!(matches!(reports.state(&pod()), ReportState::Silent(Silence::Refused)));
        assert!(reports.note("p/0", Ok(RunnerStatus::default()), now));
        assert!(matches!(reports.state(&pod()), ReportState::Fresh(_)));
    }

    #[test]
    fn one_that_is_not_ready_or_has_not_committed_yet_is_asked_sooner() {
        let (reports, now) = (Reports::default(), clock::instant());
        let early = RunnerStatus { ready: true, ..RunnerStatus::default() };
        let ready = RunnerStatus { last_commit: Some(CommitStatus::default()), ..early.clone() };
        reports.note("ready", Ok(ready), now);
        for _ in 0..EARLY_ANSWERS {
            reports.note("waiting", Ok(early.clone()), now);
        }
        assert!(reports.is_due("waiting", now + Duration::from_secs(4)));
        reports.note("waiting", Ok(early), now);
        assert!(
            !reports.is_due("waiting", now + Duration::from_secs(4)),
            "a topic without records is asked like others"
        );
        reports.note("unready", Ok(RunnerStatus::default()), now);
        let later = now + Duration::from_secs(4);
        assert!(reports.is_due("unready", later) && !reports.is_due("ready", later));
        assert!(reports.is_due("ready", now + Duration::from_secs(17)));
        assert!(reports.is_due("new", now));
    }
}
