//! What can go wrong in a reconcile, and when it is tried again.

use std::time::Duration;

use data_platform_crds::condition::Reason;

/// A reconcile that did not end; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server did not do what was asked.
    #[error("the API server did not {what}")]
    Api {
        /// What was asked.
        what: String,
        /// Its answer.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server did not answer in time.
    #[error("the API server did not answer within {0:?}")]
    Timeout(Duration),
}

/// An error with what caused it, as one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        // Many errors repeat what caused them.
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

/// First wait after an error.
const BACKOFF_FIRST: Duration = Duration::from_millis(200);
/// Longest wait: an API server that is back after an outage of any length finds its operator within this time.
const BACKOFF_LAST: Duration = Duration::from_secs(30);

impl Error {
    /// An error of the API server.
    pub fn api(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        move |source| Self::Api { what, source: Box::new(source) }
    }

    /// Every word of [`Self::reason`].
    pub const REASONS: [&'static str; 10] = [
        "timeout",
        "no_answer",
        "forbidden",
        "not_found",
        "conflict",
        "gone",
        "invalid",
        "too_many_requests",
        "server_error",
        "other",
    ];

    /// The word in metrics.
    pub fn reason(&self) -> &'static str {
        let Self::Api { source, .. } = self else { return "timeout" };
        match &**source {
            kube::Error::Api(status) => match status.code {
                403 => "forbidden",
                404 => "not_found",
                409 => "conflict",
                410 => "gone",
                422 => "invalid",
                429 => "too_many_requests",
                500.. => "server_error",
                _ => "other",
            },
            _ => "no_answer",
        }
    }

    /// What the job's status says of it: an answer that trying again does not change. `None`: it may pass.
    pub fn refusal(&self) -> Option<(Reason, String)> {
        let Self::Api { what, source } = self else { return None };
        let kube::Error::Api(status) = &**source else { return None };
        // A namespace that is being deleted refuses everything, and nobody reads the status any more.
        let is_terminating = status.message.contains("because it is being terminated");
        if !matches!(status.code, 400 | 403 | 422) || is_terminating {
            return None;
        }
        let is_quota = status.message.contains("exceeded quota");
        let reason = if is_quota { Reason::QuotaExceeded } else { Reason::WriteRefused };
        Some((reason, format!("the API server did not {what}: {}", status.message)))
    }

    /// How long to wait before the next try, after this many failures in a row. `spread`, 0 to 1, keeps objects that
    /// failed together from coming back together.
    pub fn backoff(&self, failures: u32, spread: f64) -> Duration {
        let doubled = BACKOFF_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(BACKOFF_LAST);
        let answer = match self {
            Self::Api { source, .. } => Some(&**source),
            Self::Timeout(_) => None,
        };
        let asked = match answer {
            Some(kube::Error::Api(status)) => status.details.as_ref().map_or(0, |details| details.retry_after_seconds),
            _ => 0,
        };
        doubled
            .max(Duration::from_secs(u64::from(asked)).min(BACKOFF_LAST))
            .mul_f64(0.75 + spread.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn answer(code: u16, message: &str) -> Error {
        let status = Status { code, message: message.to_owned(), ..Status::default() };
        Error::api("apply the Service a")(kube::Error::Api(Box::new(status)))
    }

    #[test]
    fn waits_grow_and_end_at_a_bound() {
        let waits: Vec<u128> = (1..12).map(|failures| answer(500, "").backoff(failures, 0.5).as_millis()).collect();
        assert_eq!(waits[..4], [200, 400, 800, 1600]);
        assert_eq!(waits[10], 30_000);
        assert!(answer(500, "").backoff(u32::MAX, 1.0) <= Duration::from_secs(38));
    }

    #[test]
    fn what_trying_again_does_not_change_is_told_to_the_user() {
        assert_eq!(answer(403, "exceeded quota: q").refusal().unwrap().0, Reason::QuotaExceeded);
        assert_eq!(answer(422, "spec.x: Invalid value").refusal().unwrap().0, Reason::WriteRefused);
        for passing in [answer(409, ""), answer(429, ""), answer(500, ""), answer(410, "")] {
            assert_eq!(passing.refusal(), None);
        }
        assert_eq!(answer(403, "forbidden: … because it is being terminated").refusal(), None);
    }
}
