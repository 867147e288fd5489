//! [`Termination`]: the last message of a runner, which Kubernetes keeps when its container has ended. The runner writes it
//! on every exit, the operator reads it.
//!
//! Pure. Either side may be one version ahead of the other: what is missing has its default, what is not known is passed
//! over.

use serde::{Deserialize, Serialize};

use crate::condition::{WHAT_TO_DO, joined, told};

/// Longest last message in bytes: what Kubernetes keeps of a termination message.
pub const BYTES_MAX: usize = 4_096;
/// What of it is for all but the text.
const FRAME_BYTES: usize = 768;

/// Names of stale intervals in a last message: as many as fit into its frame.
pub const STALE_MAX: usize = 16;

/// How a runner ended, and what it did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Termination {
    /// Why it ended, from the closed list; `Ended` if nothing was wrong.
    pub reason: String,
    /// In words, with what to do.
    pub message: String,
    /// What a batch run covers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<TerminationInterval>,
    /// Rows written.
    pub rows: u64,
    /// Files written.
    pub files: u64,
    /// Finished intervals whose input was replaced after they had read it, by their names: at most [`STALE_MAX`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stale: Vec<String>,
    /// How long it ran.
    pub seconds: u64,
}

/// What a batch run covers: `[start, end)`, as RFC 3339.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminationInterval {
    /// Its first moment.
    pub start: String,
    /// The first moment after it.
    pub end: String,
}

impl Termination {
    /// What a container left, if it is the last message of a runner.
    pub fn read(text: &str) -> Option<Self> {
        serde_json::from_str::<Self>(text).ok().filter(|termination| !termination.reason.is_empty())
    }

    /// The text to leave: at most [`BYTES_MAX`] bytes. Too long a message is cut, but not what to do about it.
    pub fn text(&self, hint: &str) -> String {
        // Marked, so that who cuts it further keeps it.
        let hint = if hint.is_empty() { String::new() } else { format!("{WHAT_TO_DO}{hint}") };
        let message = joined(&told(&self.message, BYTES_MAX), &hint, BYTES_MAX - FRAME_BYTES);
        serde_json::to_string(&Self { message, ..self.clone() }).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_to_what_kubernetes_keeps_and_its_hint_stays() {
        let of = |message: &str| Termination {
            reason: "InvalidSpec".to_owned(),
            message: message.to_owned(),
            ..Termination::default()
        };
        for message in ["\"ü\n".repeat(5_000), "\u{1}".repeat(9_000), "short".to_owned(), String::new()] {
            let text = of(&message).text("write it in another way");
            assert!(text.len() <= BYTES_MAX, "{}", text.len());
            let read = Termination::read(&text).unwrap();
            assert_eq!(read.reason, "InvalidSpec");
            assert!(read.message.ends_with("what to do: write it in another way"), "{}", read.message);
            assert!(crate::condition::shortened(&read.message, 600).ends_with("write it in another way"));
        }
        assert_eq!(Termination::read(&of("what").text("")).unwrap().message, "what");
    }

    #[test]
    fn what_is_no_last_message_is_none() {
        for text in ["", "boom", "{}", r#"{"level": "ERROR"}"#] {
            assert_eq!(Termination::read(text), None, "{text}");
        }
        let old = r#"{"reason": "StorageFull", "message": "m", "rows": 1, "new": 7}"#;
        assert_eq!(Termination::read(old).unwrap().rows, 1);
    }
}
