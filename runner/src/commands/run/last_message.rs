//! The last message: what a run tells whoever started it, in a file that Kubernetes reads when the container has ended.

use std::path::Path;
use std::time::Instant;

use data_platform_crds::termination::{STALE_MAX, Termination, TerminationInterval};

use crate::clock::{Clock, SystemClock};
use crate::commands::error::CommandError;

/// What a run did, whether it ended well or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// Begin and end of what a batch run covers, in microseconds since 1970 UTC.
    pub(crate) interval: Option<(i64, i64)>,
    /// Rows that it wrote.
    pub(crate) rows: u64,
    /// Files that it wrote.
    pub(crate) files: u64,
    /// Intervals that are stale.
    pub(crate) stale: Vec<String>,
}

/// Writes the last message. A file that cannot be written is told in the log: the run itself is over.
pub(crate) fn write(path: &Path, told: &Told, error: Option<&CommandError>, began: Instant) {
    let body = body(told, error, SystemClock.since(began).as_secs());
    if let Err(error) = std::fs::write(path, body) {
        tracing::warn!(path = %path.display(), %error, "cannot write the last message");
    }
}

fn body(told: &Told, error: Option<&CommandError>, seconds: u64) -> String {
    let termination = Termination {
        reason: error.map_or("Ended", CommandError::reason).to_owned(),
        message: error.map(CommandError::text).unwrap_or_default(),
        interval: told.interval.map(|(start, end)| TerminationInterval { start: rfc3339(start), end: rfc3339(end) }),
        rows: told.rows,
        files: told.files,
        stale: told.stale.iter().take(STALE_MAX).cloned().collect(),
        seconds,
    };
    termination.text(error.map_or("", CommandError::hint))
}

/// A time as the API server writes it.
pub(crate) fn rfc3339(micros: i64) -> String {
    let time = chrono::DateTime::from_timestamp_micros(micros).unwrap_or_default();
    time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_keeps_what_to_do() {
        let error = CommandError::from(crate::pipeline::error::JobError::user(
            crate::pipeline::error::Reason::StorageDenied,
            "\"ü\n".repeat(5_000),
            "let the user write there",
        ));
        let read = Termination::read(&body(&Told::default(), Some(&error), 3)).unwrap();
        assert_eq!((read.reason.as_str(), read.seconds), ("StorageDenied", 3));
        assert!(read.message.ends_with("let the user write there"), "{}", read.message);
    }

    #[test]
    fn a_batch_run_tells_its_interval() {
        let told = Told {
            interval: Some((1_771_250_400_000_000, 1_771_254_000_000_000)),
            rows: 7,
            files: 1,
            ..Told::default()
        };
        let read: serde_json::Value = serde_json::from_str(&body(&told, None, 0)).unwrap();
        assert_eq!(read["interval"]["start"], "2026-02-16T14:00:00Z");
        assert_eq!(read["interval"]["end"], "2026-02-16T15:00:00Z");
        assert_eq!((&read["reason"], &read["rows"], &read["message"]), (&"Ended".into(), &7.into(), &"".into()));
    }
}
