//! Conditions of a job's status: their types, and the closed list of reasons, each with what it means and its cure.
//!
//! Pure. The operator writes them, `docs/reasons.md` explains them, the runner says some of them in `/status`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

/// What a condition is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConditionType {
    /// The job does what its spec says: it reads and commits, or its schedule runs.
    Ready,
    /// The operator or the cluster is on its way to that, or tries again.
    Progressing,
    /// Something is wrong that may pass or does not stop the job.
    Degraded,
    /// Somebody must change something.
    Stalled,
}

impl ConditionType {
    /// Every type, in the order of the status.
    pub const ALL: [Self; 4] = [Self::Ready, Self::Progressing, Self::Degraded, Self::Stalled];

    /// The word in the status.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Progressing => "Progressing",
            Self::Degraded => "Degraded",
            Self::Stalled => "Stalled",
        }
    }
}

/// What a reason says of a job, and with it of all four conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It works.
    Works,
    /// It works, but somebody should look: also Degraded.
    WorksBut,
    /// It is coming up or going down: Progressing.
    UnderWay,
    /// It does not work, and is tried again without anybody's help: Progressing and Degraded.
    Retried,
    /// It does not work until somebody changes something: Stalled.
    NeedsItsUser,
    /// It is not meant to work now.
    Off,
}

impl Standing {
    /// Whether nobody has to look: it works, is on its way, or is meant to stand still.
    pub fn is_harmless(self) -> bool {
        matches!(self, Self::Works | Self::UnderWay | Self::Off)
    }

    /// Whether a condition of this type is true.
    pub fn holds(self, condition: ConditionType) -> bool {
        match condition {
            ConditionType::Ready => matches!(self, Self::Works | Self::WorksBut),
            ConditionType::Progressing => matches!(self, Self::UnderWay | Self::Retried),
            ConditionType::Degraded => matches!(self, Self::WorksBut | Self::Retried),
            ConditionType::Stalled => self == Self::NeedsItsUser,
        }
    }
}

/// Declares the reasons: name, standing, what it means, what to do.
macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $name:ident, $standing:ident, $meaning:literal, $cure:literal;)*) => {
        /// Why a condition is as it is: one word from a closed list. Each is explained in `docs/reasons.md`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $(#[doc = $meaning] $name,)*
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The word in conditions, events and metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// The reason of this name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $(stringify!($name) => Some(Self::$name),)* _ => None }
            }

            /// What it says of the job.
            pub const fn standing(self) -> Standing {
                match self { $(Self::$name => Standing::$standing,)* }
            }

            /// What it means, when nothing more exact is known: lower case, no full stop.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)* }
            }

            /// What to do about it; empty where there is nothing to do.
            pub const fn cure(self) -> &'static str {
                match self { $(Self::$name => $cure,)* }
            }
        }
    };
}

reasons! {
    // What the operator sees.
    Running, Works, "the job reads and commits", "";
    AsExpected, Works, "nothing to say", "";
    StatusUnknown, WorksBut, "the pod is ready, but the operator cannot read its /status",
        "allow the operator to reach port 9999 of the pod (NetworkPolicy)";
    AllDeadLettered, WorksBut, "every record that was read is a bad record",
        "look at the dead letters; correct the producer or the columns";
    WatermarkHeld, WorksBut, "a partition that does not answer holds the watermark back, and windows stay open",
        "bring the partition's leader back";
    Starting, UnderWay, "the pod is coming up", "";
    Stopping, UnderWay, "the pod is going down", "";
    Suspended, Off, "the job is suspended; what it has committed and its open windows are kept",
        "set suspend: false and replicas: 1";
    NotReady, Retried, "the pod runs, is not ready, and does not say why", "look at its log";
    CrashLoop, Retried, "the runner ends again and again", "look at the log of the pod that ended (kubectl logs --previous)";
    OutOfMemory, Retried, "the runner was killed: it used more memory than its limit",
        "raise pod.resources.limits.memory, or lower kafka.maxOffsetsPerTrigger";
    Evicted, Retried, "the node removed the pod", "look at the node's disk and memory";
    Unschedulable, Retried, "no node can take the pod",
        "lower pod.resources.requests, correct pod.nodeSelector and pod.tolerations, or add a node";
    ImageMissing, NeedsItsUser, "the runner's image cannot be pulled",
        "check the operator's runner image, its pull policy and its pull secrets";
    QuotaExceeded, NeedsItsUser, "a quota of the namespace does not allow the pod",
        "raise the ResourceQuota, or lower pod.resources";
    PodRefused, NeedsItsUser, "the API server does not take the pod",
        "read the message: a ServiceAccount, a priority class, a LimitRange or an admission policy";
    ContainerFailed, NeedsItsUser, "the container cannot be made",
        "read the message: a Secret or ConfigMap of pod.env or pod.volumes that is not there, or a mount";
    NameTaken, NeedsItsUser, "an object that is not the operator's has the name of one that the job needs",
        "remove or rename that object, or rename the job";
    StorageMissing, NeedsItsUser, "the job has no place for its data",
        "create the PersistentVolumeClaim, set storage in the spec, or give the operator a default storage";
    WriteRefused, NeedsItsUser, "the API server refuses what the operator writes for the job",
        "read the message; it names the field";
    // What the operator sees of batch jobs.
    Scheduled, Works, "the schedule runs, and the last run was good or is still to come", "";
    Completed, Works, "the run is done", "";
    RunActive, Works, "a run is going on", "";
    RunFailed, NeedsItsUser, "the last run failed", "read the message and the log of its pod, then run it again";
    MissedSchedule, WorksBut, "a run that was due did not start",
        "look at startingDeadlineSeconds, concurrencyPolicy and the last run";
    InputIncomplete, Retried, "the input of the interval is not complete yet",
        "look at the job that writes it: the run waits and tries again";
    InvalidTimeZone, NeedsItsUser, "the time zone is not known", "write an IANA name such as Europe/Berlin";
    InvalidSchedule, NeedsItsUser, "the schedule cannot be read", "write five fields, such as 5 * * * *";
    // What the runner says.
    InvalidSpec, NeedsItsUser, "the job is not valid", "correct the fields that are named";
    NotSupported, NeedsItsUser, "this version cannot run the job", "use what the message names instead";
    KafkaUnreachable, Retried, "no broker answers", "check kafka.bootstrapServers and the brokers";
    AuthenticationFailed, NeedsItsUser, "the brokers refuse the login, or their certificate is not trusted",
        "check kafka.sasl and kafka.tls";
    TopicNotFound, Retried, "a topic does not exist", "create it, or correct sources[].topics";
    NotAuthorized, NeedsItsUser, "the job may not read a topic", "allow its user to READ and DESCRIBE it";
    StartingOffsetsInvalid, NeedsItsUser, "startingOffsets names topics or partitions that are not there", "correct it";
    OffsetsGone, NeedsItsUser, "records expired before they were read", "set failOnDataLoss: false; longer retention";
    TopicTruncated, NeedsItsUser, "a topic ends before the job's position",
        "find out what happened to the topic; data-platform checkpoint rewind --topic-recreated";
    TopicRecreated, NeedsItsUser, "a topic was deleted and created again",
        "data-platform checkpoint rewind --topic-recreated goes on with the new one";
    OtherCluster, NeedsItsUser, "the brokers belong to another cluster than the checkpoint",
        "correct the address, or choose another checkpoint.name";
    SecretMissing, NeedsItsUser, "a secret cannot be read", "create the Secret; the job takes it up by itself";
    BadRecord, NeedsItsUser, "a record cannot be read, and the job is to fail on it",
        "correct the producer, or keep such records aside with badRecords.action: deadLetter";
    TooManyBadRecords, NeedsItsUser, "too many records were bad", "look at the dead letters; correct producer or columns";
    CheckpointMissing, NeedsItsUser, "the output was written by a job log that is not there",
        "bring the checkpoint back";
    CheckpointCorrupt, NeedsItsUser, "a record of the job log is damaged or missing",
        "data-platform checkpoint verify, checkpoint rewind";
    CheckpointOfOtherJob, NeedsItsUser, "the checkpoint belongs to another job",
        "set checkpoint.name to the name of a renamed job's checkpoint, or to a new one";
    QueryChanged, NeedsItsUser, "the query changed while windows made by the old one are open",
        "bring the old query back, or begin anew with another checkpoint.name";
    CheckpointInUse, Retried, "another runner works on the checkpoint", "stop it first";
    Fenced, Retried, "another runner took the job over", "nothing: that one goes on";
    StateLost, NeedsItsUser, "open windows cannot be rebuilt: Kafka no longer has their records",
        "data-platform checkpoint rewind, or begin anew; longer retention";
    StorageDenied, NeedsItsUser, "a folder or bucket cannot be written", "let the job's user (65532) write there";
    StorageFull, Retried, "the disk is full", "make room";
    StorageFailed, Retried, "a store does not answer as it should", "look at the disk or the store";
    StorageUnsuitable, NeedsItsUser, "a store lacks what exactly-once needs", "choose another";
    OutputChanged, NeedsItsUser, "somebody touched the output folder", "put the file back, or checkpoint rewind";
    DeadLetterTopicFailed, Retried, "the topic for dead letters does not take them",
        "create it, allow the job to write to it";
    QueryFailed, NeedsItsUser, "the query fails on a value", "make it take every value, or declare the column differently";
    SettingsRefused, NeedsItsUser, "the Kafka client does not accept its settings", "correct kafka.config or kafka.tls";
    MemoryExhausted, NeedsItsUser, "the query needs more memory than it may have",
        "raise pod.resources.limits.memory, or process less at once";
    Interrupted, Retried, "a run was stopped before its end", "nothing: the next attempt goes on";
    InternalError, Retried, "a fault of the runner", "report it, with the log";
}

/// A condition to be: what it says, before anybody knows since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub condition: ConditionType,
    /// Whether it holds; `None` where nobody knows.
    pub holds: bool,
    /// Why.
    pub reason: Reason,
    /// What happened and what to do, for people.
    pub message: String,
}

/// Longest message of a condition, in bytes of JSON. Kubernetes takes 32 KiB, but a status holds it up to three times, is
/// read by everybody who lists jobs, and is written again at every change; 2 KiB are 25 lines.
const MESSAGE_BYTES_MAX: usize = 2048;

/// The conditions of a status after these findings. `lastTransitionTime` moves only where the status flips, so that
/// a job that stays as it is has a status that stays as it is.
pub fn conditions(
    before: &[Condition],
    findings: &[Finding],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let made = findings.iter().map(|finding| {
        let type_ = finding.condition.name();
        let status = if finding.holds { "True" } else { "False" };
        let old = before.iter().find(|condition| condition.type_ == type_);
        let since =
            old.filter(|condition| condition.status == status).map(|condition| condition.last_transition_time.clone());
        Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: finding.reason.name().to_owned(),
            message: told(&finding.message, MESSAGE_BYTES_MAX),
            observed_generation: generation,
            // Whole seconds: what the API server keeps of a time.
            last_transition_time: since.unwrap_or_else(|| Time(whole_seconds(now))),
        }
    });
    made.collect()
}

/// The time without the part of its last second, as Kubernetes writes times.
pub fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// The beginning of a text for people, of at most this many bytes of JSON. Control characters other than line breaks become
/// blanks: whatever a program or a person wrote, it stays one text of a bounded size.
pub fn told(text: &str, json_bytes_max: usize) -> String {
    let in_json = |c: char| if matches!(c, '"' | '\\' | '\n') { 2 } else { c.len_utf8() };
    let clean = |c: char| if c.is_control() && c != '\n' { ' ' } else { c };
    let (mut said, mut bytes, mut end) = (String::new(), 0, 0);
    for c in text.chars().map(clean) {
        bytes += in_json(c);
        if bytes > json_bytes_max {
            said.truncate(end);
            said.push('…');
            return said;
        }
        said.push(c);
        if bytes + '…'.len_utf8() <= json_bytes_max {
            end = said.len();
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(holds: bool, reason: Reason) -> Finding {
        Finding { condition: ConditionType::Ready, holds, reason, message: reason.meaning().to_owned() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn names_are_words_that_kubernetes_takes_and_lead_back() {
        for reason in Reason::ALL {
            let name = reason.name();
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric()) && name.starts_with(char::is_uppercase), "{name}");
            assert_eq!(Reason::from_name(name), Some(*reason));
        }
        assert_eq!(Reason::from_name("Nonsense"), None);
    }

    #[test]
    fn whatever_needs_somebody_says_what_to_do() {
        for reason in Reason::ALL {
            let needs = !matches!(reason.standing(), Standing::Works | Standing::UnderWay);
            assert_eq!(needs, !reason.cure().is_empty(), "{reason:?}");
        }
    }

    #[test]
    fn every_reason_is_explained() {
        let page = include_str!("../../docs/reasons.md");
        for reason in Reason::ALL {
            assert!(
                page.contains(&format!("`{}`", reason.name())),
                "docs/reasons.md does not explain {}",
                reason.name()
            );
        }
    }

    #[test]
    fn a_job_is_never_ready_and_stalled() {
        for reason in Reason::ALL {
            let holds = |condition| reason.standing().holds(condition);
            assert!(!(holds(ConditionType::Ready) && holds(ConditionType::Stalled)), "{reason:?}");
            assert!(!(holds(ConditionType::Ready) && holds(ConditionType::Progressing)), "{reason:?}");
        }
    }

    #[test]
    fn the_time_of_a_condition_moves_only_when_it_flips() {
        let first = conditions(&[], &[finding(false, Reason::Starting)], Some(1), at(10));
        assert_eq!(first[0].last_transition_time.0, at(10));
        let other_reason = conditions(&first, &[finding(false, Reason::Unschedulable)], Some(2), at(20));
        assert_eq!(other_reason[0].last_transition_time.0, at(10));
        assert_eq!(other_reason[0].observed_generation, Some(2));
        let flipped = conditions(&other_reason, &[finding(true, Reason::Running)], Some(2), at(30));
        assert_eq!(flipped[0].last_transition_time.0, at(30));
    }

    #[test]
    fn what_is_told_is_bounded_in_json_and_has_no_control_characters() {
        assert_eq!(told("a\u{0}b\r\nc", 100), "a b \nc");
        assert_eq!(told("äöüß", 8), "äöüß");
        assert_eq!(told("äöüß", 7), "äö…");
        for text in ["\"".repeat(50_000), "\n\\ä".repeat(50_000), "\u{1}\u{1b}[31m".repeat(50_000), "𝄞".repeat(9_000)]
        {
            let told = told(&text, MESSAGE_BYTES_MAX);
            let json = serde_json::to_string(&told).unwrap();
            assert!(json.len() - 2 <= MESSAGE_BYTES_MAX && json.len() > MESSAGE_BYTES_MAX - 10, "{}", json.len());
        }
    }
}
