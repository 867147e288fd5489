//! Conditions of a job's status: their types, and the one closed list of reasons, each with what it means and what to do.
//!
//! Pure. The operator writes them, `docs/reasons.md` explains them and has the truth table of the conditions, the runner says
//! some of them in `/status` and when it ends.

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

/// How a job is: with it all four conditions are decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Health {
    /// It works.
    Healthy,
    /// It works, but somebody should look: also Degraded.
    Degraded,
    /// It is coming up or going down: Progressing.
    Progressing,
    /// It does not work, and is tried again without anybody's help: Progressing and Degraded.
    Retrying,
    /// It does not work until somebody changes something: Stalled.
    Stalled,
    /// It is not meant to work now.
    Suspended,
}

impl Health {
    /// Every one, the best first.
    pub const ALL: [Self; 6] =
        [Self::Healthy, Self::Degraded, Self::Progressing, Self::Suspended, Self::Retrying, Self::Stalled];

    /// The word in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Healthy => "Healthy",
            Self::Degraded => "Degraded",
            Self::Progressing => "Progressing",
            Self::Retrying => "Retrying",
            Self::Stalled => "Stalled",
            Self::Suspended => "Suspended",
        }
    }

    /// Whether nobody has to look: it works, is on its way, or is meant to stand still.
    pub fn is_harmless(self) -> bool {
        matches!(self, Self::Healthy | Self::Progressing | Self::Suspended)
    }

    /// Whether a condition of this type is true.
    pub fn holds(self, condition: ConditionType) -> bool {
        match condition {
            ConditionType::Ready => matches!(self, Self::Healthy | Self::Degraded),
            ConditionType::Progressing => matches!(self, Self::Progressing | Self::Retrying),
            ConditionType::Degraded => matches!(self, Self::Degraded | Self::Retrying),
            ConditionType::Stalled => self == Self::Stalled,
        }
    }
}

/// Declares the reasons: name, health, what it means, what to do.
macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $name:ident, $health:ident, $meaning:literal, $hint:literal;)*) => {
        /// Why a condition is as it is: one word from a closed list. Each is explained in `docs/reasons.md`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $(#[doc = $meaning] $name,)*
        }

        impl Reason {
            /// Every reason, those of the operator first.
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
            pub const fn health(self) -> Health {
                match self { $(Self::$name => Health::$health,)* }
            }

            /// What it means, when nothing more exact is known: lower case, no full stop.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)* }
            }

            /// What to do about it; empty where there is nothing to do.
            pub const fn hint(self) -> &'static str {
                match self { $(Self::$name => $hint,)* }
            }
        }
    };
}

reasons! {
    // What the operator sees.
    Running, Healthy, "the job reads and commits", "";
    AsExpected, Healthy, "nothing to say", "";
    StatusUnknown, Degraded, "the pod is ready, but the operator cannot read its /status",
        "allow the operator to reach port 9999 of the pod (NetworkPolicy)";
    AllDeadLettered, Degraded, "every record that was read is a bad record",
        "look at the dead letters; correct the producer or the columns";
    AllFiltered, Degraded, "the WHERE of the query refuses every row", "look at the query and at the values";
    AllLate, Degraded, "every row belongs to a window that is closed",
        "give the source a longer eventTime.watermarkDelay";
    AllFuture, Degraded, "every record is further ahead of the clock than eventTime.maxFutureSkew",
        "look at the clocks of the producers and of the node";
    WatermarkHeld, Degraded, "a partition that does not answer holds the watermark back, and windows stay open",
        "bring the partition's leader back";
    Starting, Progressing, "the pod is coming up", "";
    Stopping, Progressing, "the pod is going down", "";
    Draining, Progressing, "the old query closes its windows before the new one begins", "";
    Suspended, Suspended, "the job is suspended; what it has committed and its open windows are kept",
        "set suspend: false and replicas: 1";
    NotReady, Retrying, "the pod runs, is not ready, and does not say why", "look at its log";
    CrashLoop, Retrying, "the runner ends again and again", "look at the log of the pod that ended (kubectl logs --previous)";
    OutOfMemory, Retrying, "the runner was killed: it used more memory than its limit",
        "raise pod.resources.limits.memory, or lower kafka.maxOffsetsPerTrigger";
    Evicted, Retrying, "the node removed the pod", "look at the node's disk and memory";
    Unschedulable, Retrying, "no node can take the pod",
        "lower pod.resources.requests, correct pod.nodeSelector and pod.tolerations, or add a node";
    ImageMissing, Stalled, "the runner's image cannot be pulled",
        "check the operator's runner image, its pull policy and its pull secrets";
    QuotaExceeded, Stalled, "a quota of the namespace does not allow the pod",
        "raise the ResourceQuota, or lower pod.resources";
    PodRefused, Stalled, "the API server does not take the pod",
        "read the message: a ServiceAccount, a priority class, a LimitRange or an admission policy";
    ContainerFailed, Stalled, "the container cannot be made",
        "read the message: a Secret or ConfigMap of pod.env or pod.volumes that is not there, or a mount";
    NameTaken, Stalled, "an object that is not the operator's has the name of one that the job needs",
        "remove or rename that object, or rename the job";
    StorageMissing, Stalled, "the job has no place for its data",
        "create the PersistentVolumeClaim, set storage in the spec, or give the operator a default storage";
    WriteRefused, Stalled, "the API server refuses what the operator writes for the job",
        "read the message; it names the field";
    // What the operator sees of batch jobs.
    Scheduled, Healthy, "the schedule runs, and the last run was good or is still to come", "";
    Completed, Healthy, "the run is done", "";
    RunActive, Healthy, "a run is going on", "";
    RunFailed, Stalled, "the last run failed", "read the message and the log of its pod, then run it again";
    MissedSchedule, Degraded, "a run that was due did not start",
        "look at startingDeadlineSeconds, concurrencyPolicy and the last run";
    InvalidTimeZone, Stalled, "the time zone is not known", "write an IANA name such as Europe/Berlin";
    InvalidSchedule, Stalled, "the schedule cannot be read", "write five fields, such as 5 * * * *";
    // What the runner says: see [`Reason::said_by_runners`].
    InvalidSpec, Stalled, "the job is not valid", "correct the fields that are named";
    NotSupported, Stalled, "this version cannot run the job", "use what the message names instead";
    KafkaUnreachable, Retrying, "no broker answers", "check kafka.bootstrapServers and the brokers";
    ClockBehind, Retrying, "most records were written later than the runner's clock says it is",
        "set the clock of the node that runs the job; it tries again for 10 minutes, then goes on";
    RecordTooLarge, Stalled, "a record is larger than the client, or the topic of a sink, takes",
        "raise receive.message.max.bytes in kafka.config";
    AuthenticationFailed, Stalled, "the brokers refuse the login, or their certificate is not trusted",
        "check kafka.sasl and kafka.tls";
    TopicNotFound, Retrying, "a topic does not exist", "create it, or correct sources[].topics or sink.topic";
    NotAuthorized, Stalled, "the job may not read or write a topic",
        "allow its user to READ (to WRITE, where the job writes) and DESCRIBE it";
    StartingOffsetsInvalid, Stalled, "startingOffsets names topics or partitions that are not there", "correct it";
    OffsetsGone, Stalled, "records expired before they were read", "set failOnDataLoss: false; longer retention";
    TopicTruncated, Stalled, "a topic ends before the job's position",
        "find out what happened to the topic; data-platform checkpoint rewind JOB --topic-recreated TOPIC goes on at its end";
    TopicRecreated, Stalled, "a topic was deleted and created again",
        "data-platform checkpoint rewind JOB --topic-recreated TOPIC goes on with the new one";
    OtherCluster, Stalled, "the brokers belong to another cluster than the checkpoint",
        "correct the address, or choose another checkpoint.name";
    SecretMissing, Stalled, "a secret cannot be read", "create the Secret; the job takes it up by itself";
    SchemaRegistryUnreachable, Retrying, "the schema registry does not answer as it should",
        "check kafka.schemaRegistry.url and the registry";
    SchemaRegistryRefused, Stalled, "the schema registry refuses the job, or its certificate is not trusted",
        "check username, password or token, and tls of kafka.schemaRegistry";
    SchemaFileUnusable, Stalled, "the file with the schema of the values cannot be read",
        "correct sources[].schema; the job takes it up by itself";
    BadRecord, Stalled, "a record cannot be read, and the job is to fail on it",
        "correct the producer, or keep such records aside with badRecords.action: deadLetter";
    TooManyBadRecords, Stalled, "too many records were bad", "look at the dead letters; correct producer or columns";
    CheckpointMissing, Stalled, "the output was written by a job log that is not there",
        "bring the checkpoint back";
    OutputOfOtherJob, Stalled, "the output belongs to another job", "give one of the two jobs another sink.path";
    CheckpointCorrupt, Stalled, "a record of the job log is damaged or missing",
        "data-platform checkpoint verify JOB says what; data-platform checkpoint rewind JOB goes back";
    CheckpointOfOtherJob, Stalled, "the checkpoint belongs to another job",
        "set checkpoint.name to the name of a renamed job's checkpoint, or to a new one";
    QueryChanged, Stalled, "the query changed while windows made by the old one are open",
        "bring the old query back, or say with spec.onQueryChange (rebuild, drain or newLog) what becomes of them";
    CheckpointInUse, Retrying, "another runner works on the checkpoint", "stop it first";
    Fenced, Retrying, "another runner took the job over",
        "nothing, if that one is to go on; else read the message: it names how this one takes over";
    StateLost, Stalled, "open windows cannot be rebuilt: Kafka no longer has their records",
        "data-platform checkpoint rewind JOB, or begin anew; longer retention";
    StorageDenied, Stalled, "a folder or bucket cannot be written", "let the job's user (65532) write there";
    StorageFull, Retrying, "the disk is full", "make room";
    StorageFailed, Retrying, "a store does not answer as it should", "look at the disk or the store";
    StorageUnsuitable, Stalled, "a store lacks what exactly-once needs", "choose another";
    OutputChanged, Stalled, "somebody touched the output folder", "put the file back, or data-platform checkpoint rewind JOB";
    TableUnusable, Stalled, "a Delta table cannot be read or written as the job needs it",
        "read the message: it names the column, the feature or the file; what is decided is published when the table fits";
    OutputTopicFailed, Retrying, "a topic does not take what the job writes",
        "look at the brokers: the batch waits, nothing is lost";
    QueryFailed, Stalled, "the query fails on a value", "make it take every value, or declare the column differently";
    ReferenceMissing, Stalled, "the files of a reference are not there",
        "put them there, or correct references[].path; the job takes them up by itself";
    ReferenceUnusable, Stalled, "a reference cannot be read, or has other columns than the query needs",
        "replace its files; they are read again when they change";
    ReferenceTooLarge, Stalled, "a reference takes more memory than there is for it",
        "keep fewer rows and columns in it, or raise pod.resources.limits.memory";
    SettingsRefused, Stalled, "the Kafka client does not accept its settings", "correct kafka.config or kafka.tls";
    InputIncomplete, Retrying, "the input of the interval is not complete yet",
        "look at the job that writes it: the run waits and tries again";
    MemoryExhausted, Stalled, "the query needs more memory than it may have",
        "raise pod.resources.limits.memory, or process less at once";
    Interrupted, Retrying, "a run was stopped before its end", "nothing: the next attempt goes on";
    InternalError, Retrying, "a fault of the runner", "report it, with the log";
}

impl Reason {
    /// The reasons for which a runner does not run, or ended. The operator says them, too.
    pub fn said_by_runners() -> &'static [Self] {
        let first = Self::ALL.iter().position(|reason| *reason == Self::InvalidSpec).unwrap_or_default();
        &Self::ALL[first..]
    }
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
    /// What happened, for people.
    pub message: String,
    /// What to do: it stays when the message is too long.
    pub hint: String,
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
            message: joined(&finding.message, &finding.hint, MESSAGE_BYTES_MAX),
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

/// A message with what to do about it, of at most this many bytes of JSON together: a long message is cut, its hint stays.
pub fn joined(message: &str, hint: &str, json_bytes_max: usize) -> String {
    let message = message.trim_end();
    if hint.is_empty() || message.contains(hint) && json_bytes(message) <= json_bytes_max {
        return told(message, json_bytes_max);
    }
    let hint = told(hint, json_bytes_max / 2);
    let message = message.strip_suffix(hint.as_str()).map_or(message, |rest| rest.trim_end().trim_end_matches(';'));
    match message {
        "" => hint,
        message => format!("{}; {hint}", told(message, json_bytes_max.saturating_sub(json_bytes(&hint) + 2))),
    }
}

/// What stands before the hint in a text of a runner.
pub const WHAT_TO_DO: &str = "what to do: ";

/// A text of a runner, of at most this many bytes of JSON: a long one is cut, what to do stays.
pub fn shortened(text: &str, json_bytes_max: usize) -> String {
    match text.rfind(WHAT_TO_DO) {
        Some(at) if json_bytes(text) > json_bytes_max => joined(text[..at].trim_end(), &text[at..], json_bytes_max),
        _ => told(text, json_bytes_max),
    }
}

/// Bytes of a text in JSON, without its quotes.
fn json_bytes(text: &str) -> usize {
    serde_json::to_string(text).map_or(0, |json| json.len() - 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(holds: bool, reason: Reason) -> Finding {
        Finding {
            condition: ConditionType::Ready,
            holds,
            reason,
            message: reason.meaning().to_owned(),
            hint: String::new(),
        }
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
            let needs = !matches!(reason.health(), Health::Healthy | Health::Progressing);
            assert_eq!(needs, !reason.hint().is_empty(), "{reason:?}");
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
            let holds = |condition| reason.health().holds(condition);
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
    fn a_message_that_is_too_long_keeps_its_hint() {
        assert_eq!(joined("what", "do this", 100), "what; do this");
        assert_eq!(joined("what; do this", "do this", 100), "what; do this", "it is said once");
        assert_eq!((joined("what", "", 100).as_str(), joined("", "do this", 100).as_str()), ("what", "do this"));
        for long in ["x\n\"ä".repeat(10_000), format!("{}; do this", "x".repeat(10_000))] {
            let joined = joined(&long, "do this", 500);
            assert!(json_bytes(&joined) <= 500 && json_bytes(&joined) > 480, "{}", json_bytes(&joined));
            assert!(joined.ends_with("…; do this"), "{joined}");
        }
        let exit = format!("{}\n  what to do: sleep", "x".repeat(10_000));
        assert!(shortened(&exit, 100).ends_with("…; what to do: sleep"), "{}", shortened(&exit, 100));
        assert_eq!(shortened("a\n  what to do: b", 100), "a\n  what to do: b");
        assert!(json_bytes(&joined("x", &"y".repeat(1_000), 100)) <= 100);
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
