//! The only reader of time: of the wall clock, and of the one that only goes forward.

#![allow(clippy::disallowed_methods, reason = "the one place")]

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

/// The wall clock: it may be wrong, and may be set back.
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

/// This moment, to measure by how long something takes: never before an earlier one.
pub(crate) fn instant() -> Instant {
    Instant::now()
}

/// How long ago a moment was.
pub(crate) fn since(began: Instant) -> Duration {
    began.elapsed()
}
