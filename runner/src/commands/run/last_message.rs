//! The last message: what a run tells whoever started it, in a file that Kubernetes reads when the container has ended.

use std::path::Path;
use std::time::Instant;

use crate::app::CommandError;

/// Longest last message: what Kubernetes keeps of a termination message.
const BYTES_MAX: usize = 4_096;
/// What of it is for all but the text.
const FRAME_BYTES: usize = 512;

/// What a run did, whether it ended well or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// Begin and end of what a batch run covers, in microseconds since 1970 UTC.
    pub(crate) interval: Option<(i64, i64)>,
    /// Rows that it wrote.
    pub(crate) rows: u64,
    /// Files that it wrote.
    pub(crate) files: u64,
}

/// Writes the last message. A file that cannot be written is told in the log: the run itself is over.
pub(crate) fn write(path: &Path, told: &Told, error: Option<&CommandError>, began: Instant) {
    let body = body(told, error, began.elapsed().as_secs());
    if let Err(error) = std::fs::write(path, body) {
        tracing::warn!(path = %path.display(), %error, "cannot write the last message");
    }
}

fn body(told: &Told, error: Option<&CommandError>, seconds: u64) -> String {
    let mut message = error.map(CommandError::text).unwrap_or_default();
    let mut body = serde_json::json!({
        "reason": error.map_or_else(|| "Ended".to_owned(), CommandError::reason),
        "message": "", "rows": told.rows, "files": told.files, "seconds": seconds,
    });
    if let Some((start, end)) = told.interval {
        body["interval"] = serde_json::json!({"start": rfc3339(start), "end": rfc3339(end)});
    }
    loop {
        body["message"] = message.clone().into();
        let text = body.to_string();
        // Characters that JSON escapes are longer than they look.
        if text.len() <= BYTES_MAX || message.is_empty() {
            return text;
        }
        let excess = (text.len() - BYTES_MAX).clamp(1, FRAME_BYTES);
        for _ in 0..excess {
            message.pop();
        }
    }
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
    fn a_long_message_is_cut_to_what_kubernetes_keeps() {
        let error = CommandError::user("\"ü\n".repeat(5_000));
        let text = body(&Told::default(), Some(&error), 3);
        assert!(text.len() <= BYTES_MAX && text.len() > BYTES_MAX - FRAME_BYTES, "{}", text.len());
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&read["reason"], &read["seconds"]), (&"InvalidSpec".into(), &3.into()));
    }

    #[test]
    fn a_batch_run_tells_its_interval() {
        let told = Told { interval: Some((1_771_250_400_000_000, 1_771_254_000_000_000)), rows: 7, files: 1 };
        let read: serde_json::Value = serde_json::from_str(&body(&told, None, 0)).unwrap();
        assert_eq!(read["interval"]["start"], "2026-02-16T14:00:00Z");
        assert_eq!(read["interval"]["end"], "2026-02-16T15:00:00Z");
        assert_eq!((&read["reason"], &read["rows"], &read["message"]), (&"Ended".into(), &7.into(), &"".into()));
    }
}
