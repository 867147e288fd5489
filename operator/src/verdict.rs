//! [`Verdict`]: what is to be said of a job, and with it its four conditions. Pure.

use data_platform_crds::condition::{ConditionType, Finding, Health, Reason};

/// What is to be said of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The one word.
    pub reason: Reason,
    /// What it means for the conditions here; mostly the reason's own.
    pub health: Health,
    /// What happened. Without figures: a status that only counts is written rarely.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl Verdict {
    /// What a reason says, with its hint; without a message with what it means.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        let message = message.into();
        let message = if message.trim().is_empty() { reason.meaning().to_owned() } else { message };
        Self { reason, health: reason.health(), message, hint: reason.hint().to_owned() }
    }

    /// The API server does not take a pod, in its own words.
    pub fn of_pod_refusal(message: &str) -> Self {
        let of_quota = ["exceeded quota", "must specify limits", "failed quota"];
        let is_quota = of_quota.iter().any(|part| message.contains(part));
        Self::new(if is_quota { Reason::QuotaExceeded } else { Reason::PodRefused }, message)
    }

    /// The same with another meaning for the conditions.
    pub fn as_(self, health: Health) -> Self {
        Self { health, ..self }
    }

    /// The same with something more exact to do.
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: hint.into(), ..self }
    }

    /// What happened and what to do.
    pub fn in_full(&self) -> String {
        data_platform_crds::condition::joined(&self.message, &self.hint, usize::MAX)
    }

    /// The four conditions.
    pub fn findings(&self) -> Vec<Finding> {
        ConditionType::ALL
            .into_iter()
            .map(|condition| {
                let holds = self.health.holds(condition);
                let speaks = holds || condition == ConditionType::Ready;
                let silent = (Reason::AsExpected, String::new(), String::new());
                let (reason, message, hint) =
                    if speaks { (self.reason, self.message.clone(), self.hint.clone()) } else { silent };
                Finding { condition, holds, reason, message, hint }
            })
            .collect()
    }
}
