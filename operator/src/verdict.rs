//! [`Verdict`]: what is to be said of a job, and with it its four conditions. Pure.

use data_platform_crds::condition::{ConditionType, Finding, Reason, Standing};

/// What is to be said of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The one word.
    pub reason: Reason,
    /// What it means for the conditions here; mostly the reason's own.
    pub standing: Standing,
    /// What happened and what to do. Without figures: a status that only counts is written rarely.
    pub message: String,
}

impl Verdict {
    /// What a reason says, with its cure; without a message with what it means.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        let message = message.into();
        let message = if message.trim().is_empty() { reason.meaning().to_owned() } else { message };
        let cure = reason.cure();
        let has_cure = cure.is_empty() || message.contains(cure);
        let message = if has_cure { message } else { format!("{message}; {cure}") };
        Self { reason, standing: reason.standing(), message }
    }

    /// The API server does not take a pod, in its own words.
    pub fn of_pod_refusal(message: &str) -> Self {
        let of_quota = ["exceeded quota", "must specify limits", "failed quota"];
        let is_quota = of_quota.iter().any(|part| message.contains(part));
        Self::new(if is_quota { Reason::QuotaExceeded } else { Reason::PodRefused }, message)
    }

    /// The same with another meaning for the conditions.
    pub fn as_(self, standing: Standing) -> Self {
        Self { standing, ..self }
    }

    /// The four conditions.
    pub fn findings(&self) -> Vec<Finding> {
        ConditionType::ALL
            .into_iter()
            .map(|condition| {
                let holds = self.standing.holds(condition);
                let speaks = holds || condition == ConditionType::Ready;
                let (reason, message) =
                    if speaks { (self.reason, self.message.clone()) } else { (Reason::AsExpected, String::new()) };
                Finding { condition, holds, reason, message }
            })
            .collect()
    }
}
