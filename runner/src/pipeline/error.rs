//! Why a job cannot go on, whose fault it is, and whether trying again helps.
//!
//! Every error ends here: it has a reason from the one closed list (the operator's conditions use the same), a message
//! that says what and where, and a cure that says what to do.

use std::error::Error as _;

pub use data_platform_crds::condition::Reason;

use crate::checkpoint::decide::ClusterCheck;
use crate::checkpoint::log::LogError;
use crate::checkpoint::record::Own;
use crate::sink::{SinkError, TopicProblem};
use crate::source::SourceError;
use crate::source::reference::ReferenceError;
use crate::storage::lock::LockError;
use crate::storage::{Refusal, StoreError, StoreTold};

/// Whether trying again helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// At once: only what is in memory is void.
    Reload,
    /// After a while: it can pass.
    Backoff,
    /// Only after somebody changed something.
    AfterChange,
    /// Never, in this process: another one has the job.
    Fenced,
}

/// Why a job cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct JobError {
    /// From the closed list.
    pub reason: Reason,
    /// What happened, and where.
    pub message: String,
    /// What to do.
    pub cure: String,
    /// Whether trying again helps.
    pub retry: Retry,
}

/// Exit code of a process that ends with an error: 1 is worth a retry, 2 needs its user, 3 was fenced.
pub fn exit_code(error: &JobError) -> u8 {
    match error.retry {
        Retry::Reload | Retry::Backoff => 1,
        Retry::AfterChange => 2,
        Retry::Fenced => 3,
    }
}

impl JobError {
    /// An error that needs its user.
    pub fn user(reason: Reason, message: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { reason, message: message.into(), cure: cure.into(), retry: Retry::AfterChange }
    }

    /// An error that may pass.
    pub fn passing(reason: Reason, message: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { reason, message: message.into(), cure: cure.into(), retry: Retry::Backoff }
    }

    /// What an object store refuses.
    fn refused(refusal: Refusal, message: impl Into<String>, cure: impl Into<String>) -> Self {
        match refusal {
            Refusal::Denied => Self::user(Reason::StorageDenied, message, cure),
            Refusal::Expired => Self::passing(Reason::StorageDenied, message, cure),
            Refusal::Unsuitable => Self::user(Reason::StorageUnsuitable, message, cure),
        }
    }

    /// The error with its cure, as a terminal shows it.
    pub fn in_full(&self) -> String {
        format!("{}\n  what to do: {}", self.message, self.cure)
    }

    /// A topic that is not the one that the log knows, or another cluster.
    pub fn cluster(check: &ClusterCheck, job: &str) -> Option<Self> {
        match check {
            ClusterCheck::Same { .. } => None,
            ClusterCheck::StopOtherCluster { expected, found } => Some(Self::user(
                Reason::OtherCluster,
                format!("the checkpoint belongs to the Kafka cluster {expected}, but the brokers belong to {found}"),
                "check kafka.bootstrapServers; for a new beginning on this cluster give the job another checkpoint.name",
            )),
            ClusterCheck::StopTopicRecreated { topic, expected, found } => Some(Self::user(
                Reason::TopicRecreated,
                format!(
                    "the topic {topic} was deleted and created again: the checkpoint knows it as {expected}, now it is \
                     {found}; its offsets mean other records now"
                ),
                format!(
                    "to go on with the new topic from offset 0: data-platform checkpoint rewind {job} --topic-recreated {topic}"
                ),
            )),
        }
    }

    /// Another process has the job.
    pub fn fenced(owner: &Own) -> Self {
        Self::from(LogError::Fenced { place: owner.place.clone(), epoch: owner.epoch, takeover: None })
    }
}

impl From<SourceError> for JobError {
    fn from(error: SourceError) -> Self {
        let message = error.to_string();
        match error {
            SourceError::Unreachable { .. } => Self::passing(
                Reason::KafkaUnreachable,
                message,
                "check kafka.bootstrapServers (or KAFKA_BOOTSTRAP_SERVER), and that the brokers run and can be reached from here",
            ),
            SourceError::Refused { .. } => Self::user(
                Reason::AuthenticationFailed,
                message,
                "check kafka.sasl (mechanism, user name, password) and kafka.tls (ca, certificate, key)",
            ),
            SourceError::TopicMissing { .. } => Self::passing(
                Reason::TopicNotFound,
                message,
                "create the topic, or correct the name under sources[].topics",
            ),
            SourceError::NotAuthorized { topic, .. } => Self::user(
                Reason::NotAuthorized,
                message,
                format!("allow the user of this job to READ and DESCRIBE the topic {topic}"),
            ),
            SourceError::RecordTooLarge { .. } => Self::user(
                Reason::RecordTooLarge,
                message,
                "raise receive.message.max.bytes in kafka.config above the size of the record before it was compressed (and \
                 sources[].maxRecordBytes, or it becomes a dead letter); a damaged batch has to be deleted from the topic",
            ),
            SourceError::OffsetsGone { .. } => Self::user(
                Reason::OffsetsGone,
                message,
                "they expired or were deleted before this job read them: set kafka.failOnDataLoss to false to count them and \
                 go on, and give the topic a longer retention",
            ),
            SourceError::BehindEnd { topic, .. } => Self::user(
                Reason::TopicTruncated,
                message,
                format!(
                    "the topic lost records that were read already (was it truncated, or restored from a backup?); to go on \
                     at its end: data-platform checkpoint rewind JOB --topic-recreated {topic}"
                ),
            ),
            SourceError::StartingOffsets(_) => Self::user(
                Reason::StartingOffsetsInvalid,
                message,
                "correct kafka.startingOffsets (or --starting-offsets)",
            ),
            SourceError::Secret(_) => Self::user(
                Reason::SecretMissing,
                message,
                "create the file or the Secret; a job in a pod takes it up by itself",
            ),
            SourceError::Settings(_) => {
                Self::user(Reason::SettingsRefused, message, "correct kafka.config or kafka.tls")
            }
            SourceError::RegistryUnreachable { .. } => Self::passing(
                Reason::SchemaRegistryUnreachable,
                message,
                "check kafka.schemaRegistry.url, and that the registry runs and can be reached from here",
            ),
            SourceError::RegistryRefused { .. } => Self::user(
                Reason::SchemaRegistryRefused,
                message,
                "check username, password or token, and tls of kafka.schemaRegistry, and that its user may read schemas",
            ),
            SourceError::SchemaFile { .. } => Self::user(
                Reason::SchemaFileUnusable,
                message,
                "correct the file, or sources[].schema and the columns; a job in a pod takes it up by itself",
            ),
            SourceError::BadRecord { .. } => Self::user(
                Reason::BadRecord,
                message,
                "correct the producer; or set badRecords.action to deadLetter to keep such records aside and go on",
            ),
            SourceError::Stopped => {
                Self { reason: Reason::InternalError, message, cure: String::new(), retry: Retry::Reload }
            }
            SourceError::Failed { .. } => {
                Self::passing(Reason::KafkaUnreachable, message, "it is tried again; if it stays, look at the brokers")
            }
        }
    }
}

impl From<ReferenceError> for JobError {
    fn from(error: ReferenceError) -> Self {
        let (message, cure) = (error.to_string(), error.cure());
        match &error {
            ReferenceError::Missing { .. } => Self::user(Reason::ReferenceMissing, message, cure),
            ReferenceError::Unreadable { .. }
            | ReferenceError::Delta { .. }
            | ReferenceError::Columns { .. }
            | ReferenceError::Value { .. } => Self::user(Reason::ReferenceUnusable, message, cure),
            ReferenceError::Store { told, .. } => Self { message, ..Self::from(told) },
            ReferenceError::TooLarge { .. } => Self::user(Reason::ReferenceTooLarge, message, cure),
            ReferenceError::Changing { .. } => Self::passing(Reason::ReferenceUnusable, message, cure),
        }
    }
}

impl From<StoreError> for JobError {
    fn from(error: StoreError) -> Self {
        Self::from(&error)
    }
}

impl From<&StoreError> for JobError {
    fn from(error: &StoreError) -> Self {
        let (message, cure) = (error.to_string(), error.cure());
        match error {
            StoreError::Unknown { .. } | StoreError::Failed { .. } => {
                Self::passing(Reason::StorageFailed, message, cure)
            }
            StoreError::Full { .. } => Self::passing(Reason::StorageFull, message, cure),
            StoreError::Denied { .. } | StoreError::InTheWay { .. } => Self::user(Reason::StorageDenied, message, cure),
            StoreError::Refused { refusal, .. } => Self::refused(*refusal, message, cure),
            StoreError::Unsuitable(_) => Self::user(Reason::StorageUnsuitable, message, cure),
            StoreError::Table { .. } => Self::user(Reason::TableUnusable, message, cure),
        }
    }
}

impl From<&StoreTold> for JobError {
    fn from(told: &StoreTold) -> Self {
        match told.refusal {
            Some(refusal) => Self::refused(refusal, &told.message, &told.cure),
            None => Self::passing(Reason::StorageFailed, &told.message, &told.cure),
        }
    }
}

impl From<LockError> for JobError {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Store(error) => error.into(),
            LockError::Held { .. } => Self {
                reason: Reason::CheckpointInUse,
                message: error.to_string(),
                cure: "stop that process first, or give this job another name or checkpoint.name".to_owned(),
                retry: Retry::Fenced,
            },
        }
    }
}

/// What a runner does about a later one of the same job.
const FENCED: &str = "nothing: the other runner goes on; stop it first if this one should run instead";

/// What to do about a runner whose resource is newer than that of this one: stopping it is not enough.
fn outranked(takeover: i64) -> String {
    format!(
        "nothing, if the other runner is to go on. Its resource is newer than this one, as when a job was moved here: if this one \
         should run instead, stop the other one and let this one take over with --takeover {takeover}, in a cluster with the \
         annotation dataplatform.io/takeover: \"{takeover}\" of the job"
    )
}

impl From<LogError> for JobError {
    fn from(error: LogError) -> Self {
        let message = error.to_string();
        let rewind = "look at it with `data-platform checkpoint verify`; `data-platform checkpoint rewind` goes back to the \
                      last good version and shows what that means before it does it";
        match error {
            LogError::Store(error) => error.into(),
            LogError::Fenced { takeover, .. } => Self {
                reason: Reason::Fenced,
                message,
                cure: takeover.map_or_else(|| FENCED.to_owned(), outranked),
                retry: Retry::Fenced,
            },
            LogError::Reload { .. } => {
                Self { reason: Reason::StorageFailed, message, cure: String::new(), retry: Retry::Reload }
            }
            LogError::Unreadable { .. } | LogError::Gap { .. } | LogError::Contradiction { .. } => {
                Self::user(Reason::CheckpointCorrupt, message, rewind)
            }
            LogError::RewindUnfinished { .. } => Self::user(
                Reason::CheckpointCorrupt,
                message,
                "finish it: `data-platform checkpoint rewind JOB --yes`; it goes on where it stopped",
            ),
            LogError::OutputOwned { .. } => Self::user(
                Reason::OutputOfOtherJob,
                message,
                "give one of the two jobs another sink.path; if the other one is gone for good, --new-log takes the table over",
            ),
            LogError::OutputTaken { .. } => Self {
                reason: Reason::Fenced,
                message,
                cure: "nothing, if that was meant: what this job has decided and not published stays aside; else give one of \
                       the two jobs another sink.path"
                    .to_owned(),
                retry: Retry::Fenced,
            },
            LogError::Occupied { .. } | LogError::FileLost { .. } | LogError::StageChanged { .. } => Self::user(
                Reason::OutputChanged,
                message,
                "somebody changed the output folder: put the file back, or go back with `data-platform checkpoint rewind`",
            ),
        }
    }
}

impl From<SinkError> for JobError {
    fn from(error: SinkError) -> Self {
        let message = error.to_string();
        match error {
            SinkError::Store(error) => error.into(),
            SinkError::Encode { .. } => {
                Self::user(Reason::QueryFailed, message, "correct the query or sink.partitionBy")
            }
            SinkError::ScreenClosed => Self::user(
                Reason::StorageUnsuitable,
                message,
                "let its reader read to the end (head and the like end sooner), or write to a table or a topic",
            ),
            SinkError::Secret(_) => Self::user(
                Reason::SecretMissing,
                message,
                "create the file or the Secret; a job in a pod takes it up by itself",
            ),
            SinkError::Topic { topic, problem, .. } => of_topic(message, &topic, problem),
        }
    }
}

/// A topic that does not take what the job writes: the batch waits, and nothing is lost.
fn of_topic(message: String, topic: &str, problem: TopicProblem) -> JobError {
    match problem {
        TopicProblem::Missing => JobError::passing(
            Reason::TopicNotFound,
            message,
            "create the topic, or correct sink.topic or badRecords.topic; until then the batch waits and nothing is lost",
        ),
        TopicProblem::Forbidden => JobError::user(
            Reason::NotAuthorized,
            message,
            format!("allow the user of this job to WRITE and DESCRIBE the topic {topic}"),
        ),
        TopicProblem::Unauthenticated => JobError::user(
            Reason::AuthenticationFailed,
            message,
            "check kafka.sasl (mechanism, user name, password) and kafka.tls (ca, certificate, key)",
        ),
        TopicProblem::TooLarge => JobError::user(
            Reason::RecordTooLarge,
            message,
            format!(
                "raise max.message.bytes of the topic {topic} (and message.max.bytes in kafka.config, if it is set), or let \
                 the query give less; until then the batch waits and nothing is lost"
            ),
        ),
        TopicProblem::Settings => JobError::user(Reason::SettingsRefused, message, "correct kafka.config or kafka.tls"),
        TopicProblem::Silent => JobError::passing(
            Reason::OutputTopicFailed,
            message,
            "look at the brokers; it is tried again, the batch waits and nothing is lost",
        ),
    }
}

impl From<crate::transform::Error> for JobError {
    fn from(error: crate::transform::Error) -> Self {
        if let Some((message, is_join)) = error.of_resources() {
            let cure = if is_join {
                "keys repeat too often in that reference: keep each once (DISTINCT, or GROUP BY, in a subquery of the join), or \
                 join by more columns"
            } else {
                "let the query make less of a record"
            };
            return Self::user(Reason::QueryFailed, format!("the query makes too much of its input: {message}"), cure);
        }
        let why = error.source().map(|source| format!(": {}", without_values(&source.to_string()))).unwrap_or_default();
        Self::user(
            Reason::QueryFailed,
            format!("the query fails on a record: {error}{why}"),
            "change the query so that it takes every value (a CASE, try_cast, a WHERE), or declare the column differently",
        )
    }
}

/// A message without numbers and without what stands in quotes: those are a record's, and messages go where records must not.
pub(crate) fn without_values(message: &str) -> String {
    without_numbers(&without_quoted(message))
}

/// Numbers that are no part of a name such as `Int64`.
fn without_numbers(message: &str) -> String {
    let mut shown = String::with_capacity(message.len());
    let mut rest = message.chars().peekable();
    let mut before = ' ';
    while let Some(c) = rest.next() {
        let is_sign = matches!(c, '-' | '+') && rest.peek().is_some_and(char::is_ascii_digit);
        if (c.is_ascii_digit() || is_sign) && !before.is_alphanumeric() && before != '_' {
            while rest.next_if(|next| next.is_ascii_alphanumeric() || matches!(next, '.' | ':' | '_')).is_some() {}
            shown.push('…');
            before = '…';
        } else {
            shown.push(c);
            before = c;
        }
    }
    shown
}

fn without_quoted(message: &str) -> String {
    // An apostrophe of English is no quote.
    let message = message.replace("n't ", "n’t ");
    let mut parts = message.split('\'');
    let mut shown = parts.next().unwrap_or_default().to_owned();
    while let (Some(_), after) = (parts.next(), parts.next()) {
        shown.push_str("'…'");
        shown.push_str(after.unwrap_or_default());
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runner_that_is_outranked_is_told_how_it_takes_over_and_another_is_not() {
        let cure = |takeover| JobError::from(LogError::Fenced { place: "p".to_owned(), epoch: 7, takeover }).cure;
        let outranked = cure(Some(3));
        assert!(
            outranked.contains("--takeover 3,") && outranked.contains("dataplatform.io/takeover: \"3\""),
            "{outranked}"
        );
        assert!(cure(None).starts_with("nothing: the other runner goes on"), "{}", cure(None));
    }

    #[test]
    fn a_reader_of_the_screen_that_ends_is_no_matter_of_disks() {
        let error = JobError::from(SinkError::ScreenClosed);
        assert!(error.cure.contains("head and the like") && !error.cure.contains("file system"), "{error:?}");
    }

    #[test]
    fn a_join_that_makes_too_much_is_told_with_its_reference_and_its_number() {
        let source = datafusion::error::DataFusionError::ResourcesExhausted(
            "the join with the reference users makes more than 4194304 rows of a batch of 1000".to_owned(),
        );
        let error = JobError::from(crate::transform::Error::Evaluate { part: "rows", source: Box::new(source) });
        assert!(error.message.contains("users makes more than 4194304 rows"), "{error}");
        assert!(error.cure.contains("keep each once") && !error.cure.contains("try_cast"), "{error:?}");
    }

    #[test]
    fn a_query_that_fails_says_why_but_not_on_which_value() {
        let source = datafusion::error::DataFusionError::Execution("cannot cast 'alice' to Int64".to_owned());
        let error = crate::transform::Error::Evaluate { part: "rows", source: Box::new(source) };
        let message = JobError::from(error).message;
        assert!(message.contains("the query's rows") && message.ends_with("cannot cast '…' to Int64"), "{message}");
        assert_eq!(without_values("'a' and 'b"), "'…' and '…'");
        for (message, shown) in [
            ("invalid Unicode scalar value: 1234567890123", "invalid Unicode scalar value: …"),
            ("Timestamp 253402300799000000 out of range", "Timestamp … out of range"),
            ("Can't cast value 99999999999 to type Int32", "Can’t cast value … to type Int32"),
            ("cannot parse 'I don't say' here", "cannot parse '…' here"),
            ("cannot cast -7.5e3 to Int64 or utf8view", "cannot cast … to Int64 or utf8view"),
            ("2026-02-16T14:00:00 is no time of column_2", "……… is no time of column_2"),
            ("Overflow happened on: 9223372036854775807 + 1", "Overflow happened on: … + …"),
        ] {
            assert_eq!(without_values(message), shown);
        }
    }

    #[test]
    fn every_reason_is_explained_with_its_cure() {
        let page = include_str!("../../../docs/reasons.md");
        // What the operator says beside them stands below.
        let page = page.split("\n## ").next().unwrap();
        for reason in Reason::said_by_runners() {
            let line = page.lines().find(|line| line.starts_with(&format!("| `{}` |", reason.name())));
            let line = line.unwrap_or_else(|| panic!("docs/reasons.md does not explain {}", reason.name()));
            assert_eq!(line.matches('|').count(), 4, "{line}");
        }
        assert_eq!(page.lines().filter(|line| line.starts_with("| `")).count(), Reason::said_by_runners().len());
    }
}
